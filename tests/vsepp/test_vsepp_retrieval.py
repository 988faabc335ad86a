"""Recalls against the released evaluation, folds, and collapsed models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vsepp.retrieval import Retrieval, direction, retrieve, retrieve_folds

GOLDEN = Path(__file__).parents[1] / "golden" / "vsepp_ranks.npz"


def stored_cases() -> list[str]:
    with np.load(GOLDEN) as stored:
        return sorted({key.rpartition("|")[0] for key in stored.files})


@pytest.mark.parametrize("case", stored_cases())
def test_recalls_are_the_authors(case: str) -> None:
    with np.load(GOLDEN) as stored:
        images, captions, i2t, t2i = (
            torch.from_numpy(stored[f"{case}|{name}"])
            for name in ("images", "captions", "i2t", "t2i")
        )
    found = retrieve(images, captions, torch.arange(len(captions)) // 5, case.split("|")[0])
    for ours, theirs in ((found.i2t, i2t), (found.t2i, t2i)):
        np.testing.assert_allclose(
            [*ours.recalls, ours.median, ours.mean], theirs.numpy(), rtol=1e-6
        )


def test_median_and_mean_count_from_one() -> None:
    found = direction(torch.tensor([0, 1, 2, 5]))
    assert (found.r1, found.r5, found.r10) == (25.0, 75.0, 100.0)
    assert (found.median, found.mean) == (2.0, 3.0)


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_a_collapsed_model_finds_nothing(measure: str) -> None:
    images, captions = torch.full((30, 4), 0.5), torch.full((150, 4), 0.5)
    found = retrieve(images, captions, torch.arange(150) // 5, measure)
    assert found.rsum == 0.0


def test_folds_are_the_mean_over_consecutive_parts() -> None:
    torch.manual_seed(0)
    images, captions = torch.randn(60, 8), torch.randn(300, 8)
    captions += 0.5 * images.repeat_interleave(5, 0)
    image_of = torch.arange(300) // 5
    parts = [
        retrieve(images[s : s + 20], captions[5 * s : 5 * s + 100], image_of[:100], "cosine")
        for s in (0, 20, 40)
    ]
    found = retrieve_folds(images, captions, image_of, "cosine", fold=20)
    assert found.rsum == pytest.approx(np.mean([part.rsum for part in parts]))
    assert found.i2t.median == np.mean([part.i2t.median for part in parts])
    assert found.rsum > retrieve(images, captions, image_of, "cosine").rsum


def test_a_record_keeps_everything() -> None:
    found = retrieve(torch.randn(10, 4), torch.randn(50, 4), torch.arange(50) // 5, "cosine")
    record = found.record()
    assert record["rsum"] == found.rsum
    assert Retrieval.from_record({way: record[way] for way in ("i2t", "t2i")}) == found
