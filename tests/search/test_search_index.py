"""The index finds what the dense matrix in float64 says, and marks what belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hardneg.image_text import ImageTextModel
from hardneg.image_text.towers import TowerConfig
from hardneg.image_text.vocabulary import Vocabulary
from vsepp.checkpoints import load_model, model_file
from vsepp.data.images import Features
from vsepp.data.splits import Split
from vsepp.evaluate import Embedded, embed, rebuild
from vsepp_search.arguments import Search
from vsepp_search.index import Index
from vsepp_search.opened import indexes

IMAGES, EACH, WIDTH = 60, 3, 8
WORDS = ("<pad>", "<start>", "<end>", "<unk>", *(f"w{number}" for number in range(20)))


def an_index(measure: str = "cosine", left_out: tuple[int, ...] = (5, 17)) -> Index:
    """Random embeddings, of which whole groups are equal; two images could not be read."""
    random = torch.Generator().manual_seed(0)
    kept = np.array([row for row in range(IMAGES) if row not in left_out])
    images = torch.randn(len(kept), WIDTH, generator=random)
    images[10:20] = images[10]
    image_of = np.repeat(np.arange(IMAGES), EACH)
    captions_kept = np.flatnonzero(np.isin(image_of, kept))
    at = torch.from_numpy(np.searchsorted(kept, image_of[captions_kept]))
    captions = images[at] + torch.randn(len(at), WIDTH, generator=random)
    captions[40:50] = captions[40]
    if measure == "order":
        images, captions = images.abs(), captions.abs()
    embedded = Embedded(
        F.normalize(images, dim=1), F.normalize(captions, dim=1), at, kept, captions_kept, 2
    )
    model = ImageTextModel(
        TowerConfig(embed_dim=WIDTH, word_dim=4),
        Vocabulary(WORDS, "regex", "a test"),
        feature_dim=6,
        measure=measure,
    )
    said = tuple(f"w{row % 20} number {row // EACH}" for row in range(IMAGES * EACH))
    split = Split(Features(np.zeros((IMAGES, 6), np.float32)), said, image_of, "a test")
    return Index("a test", model, split, embedded, 256)


def dense(index: Index, images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """The scores of images with captions in float64, by the formulas."""
    images, captions = images.double(), captions.double()
    if index.model.measure == "order":
        return -(captions[None] - images[:, None]).clamp(min=0).square().sum(2).sqrt()
    return images @ captions.T


def best(scores: torch.Tensor, left_out: set[int], count: int) -> list[int]:
    """The best columns of a row of scores that are not left out; the first of equal ones first."""
    order = scores.float().argsort(descending=True, stable=True).tolist()
    return [column for column in order if column not in left_out][:count]


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_a_sentence(measure: str) -> None:
    index = an_index(measure)
    images, kept = index.embedded.images, index.embedded.images_kept
    for text in ("w3 number 1", "w7 w8", "nothing that it knows"):
        scores = dense(index, images, index.model.embed([text]))[:, 0]
        expected = best(scores, set(), 30)
        found = index.search(text, 30)
        assert [one.row for one in found] == kept[expected].tolist()
        values = torch.tensor([one.score for one in found], dtype=torch.float64)
        torch.testing.assert_close(values, scores[expected], rtol=1e-6, atol=1e-6)
        assert {one.row for one in index.search(text.upper(), 60) if one.belongs} == (
            {1} if text == "w3 number 1" else set()
        )


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_negatives_and_standings(measure: str) -> None:
    index = an_index(measure)
    found = index.embedded
    scores = dense(index, found.images, found.captions)
    for at, caption in enumerate(found.captions_kept.tolist()):
        own = int(found.image_of[at])
        expected = best(scores[:, at], {own}, 12)
        negatives = index.negative_images(caption, 12)
        assert [one.row for one in negatives] == found.images_kept[expected].tolist()
        assert not any(one.belongs for one in negatives)
        standing = index.standing(caption)
        # ties count against the image
        ahead = (scores[:, at] >= scores[own, at] - 1e-12).sum()
        assert (standing.rank, standing.count) == (int(ahead), len(found.images))
        assert standing.own.belongs
        assert standing.own.row == found.images_kept[own]
        assert standing.own.score == pytest.approx(float(scores[own, at]), abs=1e-6)


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_an_image(measure: str) -> None:
    index = an_index(measure)
    found = index.embedded
    scores = dense(index, found.images, found.captions)
    near = found.images.double() @ found.images.double().T
    for at, image in enumerate(found.images_kept.tolist()):
        own = torch.nonzero(found.image_of == at).flatten().tolist()
        said = index.captions_of(image)
        assert [one.row for one in said] == found.captions_kept[own].tolist()
        assert all(one.belongs for one in said)
        values = torch.tensor([one.score for one in said], dtype=torch.float64)
        torch.testing.assert_close(values, scores[at, own], rtol=1e-6, atol=1e-6)
        negatives = index.negative_captions(image, 9)
        expected = found.captions_kept[best(scores[at], set(own), 9)].tolist()
        assert [one.row for one in negatives] == expected
        assert not any(one.belongs for one in negatives)
        nearest = [one.row for one in index.nearest_images(image, 7)]
        assert nearest == found.images_kept[best(near[at], {at}, 7)].tolist()


def test_fewer_than_asked_for() -> None:
    index = an_index()
    assert len(index.search("w1", 48)) == 48
    assert len(index.nearest_images(0, 100)) == IMAGES - 3
    assert len(index.negative_images(0, 100)) == IMAGES - 3
    assert len(index.negative_captions(0, 1_000)) == EACH * (IMAGES - 3)


def test_rows_that_are_not_there_are_told() -> None:
    index = an_index()
    for row in (5, IMAGES, 10**8):
        with pytest.raises(ValueError, match=f"image {row + 1} is not in the index"):
            index.nearest_images(row, 3)
    with pytest.raises(ValueError, match="caption 16 is not in the index"):
        index.standing(15)


def test_words_that_the_model_does_not_know() -> None:
    assert an_index().unknown("W3 dog w4, dog cat") == ["dog", "cat"]


def test_it_embeds_as_the_trainer_does(trained: Path) -> None:
    run = trained / "f8k" / "flickr8k-256-vse++-seed0"
    (index,) = indexes(Search((run,), data=trained / "data", cpu=True))
    model = load_model(model_file(run))
    expected = embed(rebuild(model, index.split), index.split, model.vocabulary)
    assert torch.equal(index.embedded.images, expected.images)
    assert torch.equal(index.embedded.captions, expected.captions)
