"""Accumulator."""

from __future__ import annotations

import pytest
import torch

from hardneg.metrics import (
    RetrievalAccumulator,
    retrieval_metrics,
)


@pytest.mark.parametrize("device", ["cpu", None])
def test_accumulator_equals_everything_at_once(device):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(30, 8, generator=generator)
    captions = images.repeat_interleave(5, 0) + torch.randn(150, 8, generator=generator)
    accumulator = RetrievalAccumulator("cosine", device=device)
    order = torch.randperm(150, generator=generator)
    for batch in order.split(37):  # as a caption data set yields them: images again and again
        numbers = batch // 5
        held, texts = images[numbers].requires_grad_(), captions[batch].requires_grad_()
        accumulator.update(held, texts, numbers)
        with torch.no_grad():  # the caller may use its buffers again
            held.zero_()
            texts.zero_()
            numbers.zero_()
    assert accumulator.compute() == retrieval_metrics(images, captions)
    accumulator.reset()
    with pytest.raises(ValueError, match="no images were collected"):
        accumulator.compute()
    accumulator.update(images, captions, torch.arange(30), torch.arange(150) // 5)
    assert accumulator.compute() == retrieval_metrics(images, captions)


def test_accumulator_takes_each_side_alone():
    images, captions = torch.eye(6), torch.eye(6).repeat_interleave(3, 0)
    accumulator = RetrievalAccumulator()
    accumulator.add_images(images, torch.arange(6))
    with pytest.raises(ValueError, match="no captions were collected"):
        accumulator.compute()
    accumulator.add_captions(captions[:5], torch.arange(5) // 3)
    accumulator.add_captions(captions[5:], torch.arange(5, 18) // 3)
    assert accumulator.compute() == retrieval_metrics(images, captions)
    views = RetrievalAccumulator(repeated_images="keep")
    views.update(images.repeat(2, 1), captions, torch.arange(6).repeat(2), torch.arange(18) // 3)
    assert len(views.images[0][0]) == 12
    assert views.compute().rsum == 600
