"""A model's file that a stranger wrote, or that a disk damaged: one line, whatever it holds."""

import random
from pathlib import Path

import pytest
import torch

from test_vsepp_checkpoints import TINY, ninety_words
from vsepp.checkpoints import load_model, load_weights, save_model
from vsepp.errors import InputError
from vsepp.model import build_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    save_model(path, TINY, ninety_words(), build_model(TINY.model, 90, 12), {"rsum": 1.0})
    return path


ODD = {
    "nothing": None,
    "a number": 5,
    "a list": [1],
    "a text": "x",
    "a tensor": torch.ones(2),
    "another object": {"a": 1},
    "numbered": {1: torch.ones(2)},
    "left out": ...,
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("part", ["format", "settings", "vocabulary", "model"])
def test_a_strangers_file_is_refused_in_a_line(saved: Path, part: str, value: object) -> None:
    content = {**torch.load(saved, weights_only=True), part: value}
    if value is ...:
        del content[part]
    torch.save(content, saved)
    with pytest.raises(InputError, match=r"best\.pt") as caught:
        load_weights(build_model(TINY.model, 90, 12), load_model(saved))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [one for one in ODD.values() if one is not ...])
def test_another_content_is_no_model(saved: Path, content: object) -> None:
    torch.save(content, saved)
    with pytest.raises(InputError, match=r"best\.pt is not a model of ours"):
        load_model(saved)


# once a process, by torch 2.12 and earlier
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly:UserWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to("meta"),
    ],
    ids=["complex", "sparse", "meta"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_weights_are_plain_real_tensors(saved: Path, change) -> None:
    content = torch.load(saved, weights_only=True)
    content["model"]["image.fc.bias"] = change(content["model"]["image.fc.bias"])
    torch.save(content, saved)
    with pytest.raises(InputError, match=r"best\.pt: image\.fc\.bias is .*expected a plain tensor"):
        load_model(saved)


def test_flipped_bits_are_noticed_or_harmless(saved: Path) -> None:
    """By the checksums of the archive's parts, whether torch reads the rest or not."""
    whole, good = saved.read_bytes(), load_model(saved)
    draws = random.Random(0)
    refused = 0
    for _ in range(150):
        place = draws.randrange(len(whole))
        flipped = whole[place] ^ 1 << draws.randrange(8)
        saved.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        try:
            found = load_model(saved)
        except InputError:
            refused += 1
            continue
        assert found.settings == good.settings
        assert all(torch.equal(weight, found.state[name]) for name, weight in good.state.items())
    assert refused > 75
