"""Tiny data sets as fixtures, and the real ones where they are."""

import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT / "examples"))

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


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: HARDNEG_DATA, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("HARDNEG_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "f8k_precomp").is_dir():
        pytest.skip(f"no real Flickr8K in {folder} (set HARDNEG_DATA)")
    return folder
