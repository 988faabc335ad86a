"""The released layout of precomputed features, both variants, and everything that can be wrong
with it.
"""

from pathlib import Path

import numpy as np
import pytest

from tiny_data import SPLITS, write_precomp
from vsepp.data.picture_folder import PictureFolder
from vsepp.data.precomp import read_captions, read_features, read_precomp


@pytest.mark.parametrize("repeated", [False, True])
def test_both_variants_read_the_same(tmp_path: Path, repeated: bool) -> None:
    splits = read_precomp(write_precomp(tmp_path / "x_precomp", repeated=repeated))
    for name, count in SPLITS.items():
        split = getattr(splits, name)
        assert (len(split.images), len(split.captions)) == (count, 5 * count)
        assert split.image_of.tolist() == [image for image in range(count) for _ in range(5)]
    features, kept = splits.test.images.batch([3, 7], None)
    assert features.shape == (2, 12)
    assert kept == [0, 1]
    assert features[0, 3] > 0.8
    assert features[1, 2] > 0.8


def test_a_row_for_each_caption_that_does_not_repeat_is_an_image_each(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "x_precomp", repeated=True)
    rows = np.load(folder / "train_ims.npy")
    rows[1] += 1
    np.save(folder / "train_ims.npy", rows)
    train = read_precomp(folder).train
    assert len(train.images) == len(train.captions) == 5 * SPLITS["train"]


def test_the_folder_itself_as_data(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "f8k_precomp")
    with pytest.raises(FileNotFoundError, match=rf"give --data {tmp_path} --precomp f8k_precomp"):
        read_precomp(folder / "f8k_precomp")


def test_dev_is_cut_to_5000_captions(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "x_precomp")
    np.save(
        folder / "dev_ims.npy", np.ones((1_014, 12), dtype=np.float16) * np.arange(1_014)[:, None]
    )
    (folder / "dev_caps.txt").write_text("a dog\n" * 5_070)
    dev = read_precomp(folder).dev
    assert (len(dev.images), len(dev.captions)) == (1_000, 5_000)


def spoil_line(folder: Path, content: bytes) -> None:
    lines = (folder / "train_caps.txt").read_bytes().split(b"\n")
    lines[6] = content
    (folder / "train_caps.txt").write_bytes(b"\n".join(lines))


def test_bad_captions_name_the_line(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "x_precomp")
    spoil_line(folder, b"a caf\xe9 dog")
    with pytest.raises(ValueError, match=r"train_caps\.txt, line 7: byte 6 is not UTF-8.*iconv"):
        read_precomp(folder)
    spoil_line(folder, b"   ")
    with pytest.raises(ValueError, match=r"train_caps\.txt, line 7: the caption is empty"):
        read_precomp(folder)


def test_wrong_counts_are_told(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "x_precomp")
    np.save(folder / "test_ims.npy", np.load(folder / "test_ims.npy")[:-1])
    with pytest.raises(
        ValueError, match=r"test_ims\.npy has 11 rows and .*test_caps\.txt 60 captions"
    ):
        read_precomp(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_with_nan_name_the_row(tmp_path: Path, value: float) -> None:
    folder = write_precomp(tmp_path / "x_precomp")
    rows = np.load(folder / "train_ims.npy")
    rows[17, 2:4] = value
    np.save(folder / "train_ims.npy", rows)
    with pytest.raises(ValueError, match=r"train_ims\.npy, row 17 holds NaN or infinity \(2 of 12"):
        read_precomp(folder)


def test_missing_truncated_and_misshapen_arrays(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*x_precomp: --data is .* Put .*features"
    ):
        read_precomp(tmp_path / "x_precomp")
    folder = write_precomp(tmp_path / "y_precomp")
    path = folder / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"train_ims\.npy cannot be read .*truncated"):
        read_features(path)
    np.save(path, np.arange(6).reshape(3, 2))
    with pytest.raises(ValueError, match=r"train_ims\.npy is int64 \(3, 2\): expected floats"):
        read_features(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no features at .*train_ims\.npy"):
        read_features(path)
    with pytest.raises(FileNotFoundError, match=r"no captions at .*absent\.txt"):
        read_captions(folder / "absent.txt")


def test_names_that_do_not_match_the_rows_are_told(tmp_path: Path) -> None:
    folder = write_precomp(tmp_path / "x_precomp")
    (folder / "test_names.txt").write_text("a b.jpg\n" * 12)
    assert (
        read_precomp(folder, PictureFolder(tmp_path)).test.images.pictures
        == (tmp_path / "a b.jpg",) * 12
    )
    (folder / "test_names.txt").write_text("a b.jpg\n" * 11)
    with pytest.raises(ValueError, match=r"test_names\.txt has 11 lines for 12 images"):
        read_precomp(folder, PictureFolder(tmp_path))


def test_real_flickr8k_is_complete(real_data: Path) -> None:
    splits = read_precomp(real_data / "f8k_precomp", PictureFolder(real_data / "f8k" / "images"))
    counts = [
        (len(one.images), len(one.captions)) for one in (splits.train, splits.dev, splits.test)
    ]
    assert counts == [(6_000, 30_000), (1_000, 5_000), (1_000, 5_000)]
    assert splits.test.images.thumbnail(0).startswith(b"\xff\xd8")
