"""Recalls against the released evaluation, COCO's protocols, and records of results."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vsepp.evaluate import Embedded, protocols
from vsepp.retrieval import (
    brief,
    from_record,
    line,
    nearest,
    recalls,
    record,
    retrieve,
    similarity_of,
)

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
    image_of = torch.arange(len(captions)) // 5
    found = retrieve(images, captions, image_of, case.split("|")[0])
    for ours, theirs in ((found.image_to_text, i2t), (found.text_to_image, t2i)):
        values = [*recalls(ours), ours.median_rank, ours.mean_rank]
        np.testing.assert_allclose(values, theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_a_collapsed_model_finds_nothing(measure: str) -> None:
    images, captions = torch.full((30, 4), 0.5), torch.full((150, 4), 0.5)
    assert retrieve(images, captions, torch.arange(150) // 5, measure).rsum == 0.0


def embedded_coco() -> Embedded:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5_000, 8, generator=generator)
    captions = torch.randn(25_000, 8, generator=generator) + images.repeat_interleave(5, 0)
    rows = np.arange(25_000)
    return Embedded(images, captions, torch.from_numpy(rows // 5), rows[:5_000], rows)


def test_coco_counts_in_folds_of_a_thousand_and_whole() -> None:
    embedded = embedded_coco()
    found = protocols(embedded, "cosine", "coco")
    parts = [
        retrieve(
            embedded.images[start : start + 1_000],
            embedded.captions[5 * start : 5 * start + 5_000],
            embedded.image_of[:5_000],
            "cosine",
        )
        for start in range(0, 5_000, 1_000)
    ]
    assert found["1k"].rsum == pytest.approx(np.mean([part.rsum for part in parts]))
    assert found["1k"].rsum > found["5k"].rsum
    assert set(protocols(embedded, "cosine", "flickr30k")) == {"test"}


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_nearest_in_blocks_is_nearest_at_once(measure: str, monkeypatch) -> None:
    similarity, sizes = similarity_of(measure), []
    queries, candidates = torch.randn(7, 4), torch.randn(9, 4)
    expected = similarity(queries, candidates).topk(3, dim=1).indices
    monkeypatch.setattr("vsepp.retrieval.BLOCK", 80)  # two rows of the order score, eight of cosine
    plain = type(similarity).__call__

    def watched(self, q, c):
        sizes.append(len(q))
        return plain(self, q, c)

    monkeypatch.setattr(type(similarity), "__call__", watched)
    assert torch.equal(nearest(similarity, queries, candidates, 3), expected)
    assert sizes == {"cosine": [7], "order": [2, 2, 2, 1]}[measure]


def test_a_part_is_named_in_its_result() -> None:
    rows = np.arange(50)
    embedded = Embedded(
        torch.randn(10, 4), torch.randn(50, 4), torch.from_numpy(rows // 5), rows, rows
    )
    assert set(protocols(embedded, "cosine", "coco", "dev")) == {"dev"}


def test_records_and_lines_keep_the_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(10, 4, generator=generator)
    captions = torch.randn(50, 4, generator=generator)
    found = retrieve(images, captions, torch.arange(50) // 5, "cosine")
    assert from_record(record(found)) == found
    assert record(found)["rsum"] == found.rsum
    assert brief(found.image_to_text) in line(found)
    assert f"{found.text_to_image.recall_at_5:.1f}" in line(found)
