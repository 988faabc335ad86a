"""ECCV Caption and CxC through the package, on embeddings whose answers are known."""

from dataclasses import replace

import pytest
import torch

from vsepp.data.splits import Split
from vsepp.evaluate import Embedded

eccv = pytest.importorskip("vsepp.release.eccv", reason="eccv_caption is not installed")


@pytest.fixture(scope="module")
def perfect() -> tuple[Embedded, Split]:
    """The 5K test as a precomputed split; captions embedded exactly as their images."""
    images = torch.nn.functional.normalize(
        torch.randn(5_000, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    image_of = torch.arange(25_000) // 5
    split = Split(images, ("a",) * 25_000, image_of.numpy(), "coco test")
    rows = torch.arange(25_000).numpy()
    return Embedded(images, images[image_of], image_of, rows[:5_000], rows), split


def test_a_model_that_finds_every_pair_has_full_recall(perfect) -> None:
    found = eccv.extended_metrics(*perfect, "cosine")
    assert min(found["cxc_r1"].values()) > 99.9  # CxC withdrew a few of the original pairs
    assert found["eccv_r1"] == {"i2t": 100.0, "t2i": 100.0}
    assert 0 < found["eccv_map_at_r"]["t2i"] <= found["eccv_rprecision"]["t2i"] < 100


def test_a_model_that_knows_half_of_the_captions(perfect) -> None:
    embedded, split = perfect
    captions = embedded.captions.clone()
    captions[12_500:] = captions[12_500:].roll(5, 0)
    half = replace(embedded, captions=captions)
    found = eccv.extended_metrics(half, split, "cosine")["cxc_r1"]
    assert all(49 < value < 51 for value in found.values())


def test_a_part_of_the_test_split_gives_nothing(perfect) -> None:
    embedded, split = perfect
    part = Embedded(
        embedded.images[:1_000],
        embedded.captions[:5_000],
        embedded.image_of[:5_000],
        embedded.images_kept[:1_000],
        embedded.captions_kept[:5_000],
    )
    assert eccv.extended_metrics(part, split, "cosine") == {}
