"""Corrupt images: refused with a name, or skipped and counted when that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from vsepp.data.batches import ShuffledBatches
from vsepp.data.pairs import Pairs, read_splits, view_seed
from vsepp.data.vocabulary import Vocabulary, build_vocabulary
from vsepp.evaluate import embed
from vsepp.model import build_model
from vsepp.settings import Data, Model, Schedule

SMALL = Model("small", "none", embed_dim=8, word_dim=6)


def truncate(root: Path, number: int) -> None:
    path = root / "f8k" / "images" / f"{number:04d}.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def words_of(split) -> Vocabulary:
    return build_vocabulary(split.captions, "regex", 1, "test")


def test_a_truncated_image_stops_the_run_with_its_name(flickr_root: Path) -> None:
    truncate(flickr_root, 3)
    train = read_splits(Data("flickr8k", "raw", image_size=32), flickr_root).train
    with pytest.raises(ValueError, match=r"0003\.jpg cannot be decoded .*--skip-corrupt"):
        train.images.batch([2, 3], None)


def test_a_text_file_under_a_pictures_name_is_refused_too(flickr_root: Path) -> None:
    (flickr_root / "f8k" / "images" / "0005.jpg").write_text("no picture")
    train = read_splits(Data("flickr8k", "raw", image_size=32), flickr_root).train
    with pytest.raises(ValueError, match=r"0005\.jpg cannot be decoded"):
        train.images.batch([5], None)


def test_skipped_images_leave_training_and_evaluation_and_are_counted(flickr_root: Path) -> None:
    truncate(flickr_root, 3)
    truncate(flickr_root, 53)  # the second test image
    truncate(flickr_root, 63)  # the last one
    splits = read_splits(Data("flickr8k", "raw", image_size=32, skip_corrupt=True), flickr_root)
    vocabulary = words_of(splits.train)
    batch = Pairs(splits.train, vocabulary, seed=0).__getitems__([14, 15, 16, 20])
    assert (len(batch.images), len(batch.words), batch.skipped) == (2, 2, 2)
    assert batch.image_ids.tolist() == [2, 4]
    assert batch.words[0, : batch.lengths[0]].tolist() == vocabulary.encode(
        splits.train.captions[14]
    )
    embedded = embed(build_model(SMALL, len(vocabulary), None), splits.test, vocabulary)
    assert embedded.skipped == 2
    assert embedded.images_kept.tolist() == [0, *range(2, 11)]
    assert len(embedded.captions) == 50
    assert embedded.image_of[5:10].tolist() == [1] * 5
    assert embedded.captions_kept[5] == 10


def test_only_corrupt_images_is_an_error(flickr_root: Path) -> None:
    for number in range(52, 64):
        truncate(flickr_root, number)
    splits = read_splits(Data("flickr8k", "raw", image_size=32, skip_corrupt=True), flickr_root)
    vocabulary = words_of(splits.train)
    with pytest.raises(ValueError, match="not one image could be read"):
        embed(build_model(SMALL, len(vocabulary), None), splits.test, vocabulary)


def test_batches_are_a_permutation_that_seed_and_epoch_fix(precomp_root: Path) -> None:
    train = read_splits(Data("flickr8k"), precomp_root).train
    pairs = Pairs(train, words_of(train), seed=0)
    batches = ShuffledBatches(pairs, Schedule(batch_size=64))
    orders = []
    for epoch in (0, 1, 0):
        batches.start(epoch)
        drawn = list(batches)
        assert [len(one) for one in drawn] == [64, 64, 64, 8]
        assert len(batches) == 4
        orders.append(np.concatenate(drawn).tolist())
        assert sorted(orders[-1]) == list(range(200))
    assert orders[0] == orders[2] != orders[1]
    batches.start(1, done=2)
    assert np.concatenate(list(batches)).tolist() == orders[1][128:]
    assert view_seed(0, 1, 2) != view_seed(0, 2, 1) != view_seed(1, 0, 2)
