"""Tiny data sets as fixtures, and the real ones where they are."""

import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT / "examples"))

from odd_inputs import COUNTS, write_folder
from tiny_data import write_flickr, write_precomp


@pytest.fixture
def precomp_root(tmp_path: Path) -> Path:
    """A data folder with ``f8k_precomp`` in it."""
    write_precomp(tmp_path / "data" / "f8k_precomp")
    return tmp_path / "data"


@pytest.fixture
def flickr_root(tmp_path: Path) -> Path:
    """A data folder with raw Flickr8K in it."""
    return write_flickr(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny ``f8k_precomp`` in a data folder of its own, to be spoilt."""
    return write_folder(tmp_path / "data" / "f8k_precomp")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with a few raw pictures, to be spoilt."""
    return write_flickr(tmp_path / "data", counts=COUNTS)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: HARDNEG_DATA, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("HARDNEG_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "f8k_precomp").is_dir():
        pytest.skip(f"no real Flickr8K in {folder} (set HARDNEG_DATA)")
    return folder
