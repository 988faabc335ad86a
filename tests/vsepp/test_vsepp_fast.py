"""What a GPU is given beyond a CPU, as far as a CPU can tell: the same numbers, asked for where it helps."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import vsepp.data.batches
from hardneg.encoders import ImageEncoder
from vsepp.data.batches import ShuffledBatches, training_loader
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.model import make_fast
from vsepp.settings import Data, Schedule

DATA = Data("flickr8k", "raw", image_size=32, threshold=1, tokenizer="regex")


def network() -> nn.Module:
    """A CNN of three layers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def test_channels_last_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(network(), 6, feature_dim=4, finetune=True).double()
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        make_fast(encoder, torch.device(device), False)
        encoder.zero_grad()
        embedded = encoder(images)
        embedded[:, 0].sum().backward()
        weight = encoder.cnn[0].weight
        found.append((embedded.detach(), weight.grad.clone(), weight.stride()))
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1])
    assert found[0][2] != found[1][2]
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_compiled_network_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights keep their names, so that checkpoints of both fit each other."""
    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda one: plain(one, backend="aot_eager"))
    torch.manual_seed(0)
    encoder = ImageEncoder(network(), 6, feature_dim=4, finetune=True)
    images, names = torch.rand(5, 3, 9, 9), [*encoder.state_dict()]
    found = []
    for compiled in (False, True):
        make_fast(encoder, torch.device("cpu"), compiled)
        encoder.zero_grad()
        embedded = encoder(images)
        embedded[:, 0].sum().backward()
        found.append((embedded.detach(), encoder.cnn[0].weight.grad.clone()))
    torch.testing.assert_close(found[1], found[0])
    assert [*encoder.state_dict()] == names
    assert encoder.cnn._compiled_call_impl is not None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_for_a_gpu_alone(
    flickr_root: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The machine may well have one that the run leaves alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    given: dict = {}
    monkeypatch.setattr(vsepp.data.batches, "DataLoader", lambda _, **told: given.update(told))
    monkeypatch.setattr(
        vsepp.data.batches, "prepare_data_loader", lambda *_, **told: given.update(told)
    )
    splits = read_splits(DATA, flickr_root)
    pairs = Pairs(splits.train, vocabulary_of(DATA, splits), 0)
    batches = ShuffledBatches(pairs, Schedule(batch_size=8))
    training_loader(batches, 0, SimpleNamespace(device=torch.device(device)))
    assert given["pin_memory"] is given["non_blocking"] is (device == "cuda")
