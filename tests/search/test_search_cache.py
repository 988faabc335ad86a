"""Embeddings are kept whole or not at all, and are read again for the very same model and data alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vsepp import checkpoints
from vsepp_search import cache
from vsepp_search.arguments import Search
from vsepp_search.index import Index
from vsepp_search.opened import indexes

CHECKOUT = Path(__file__).parents[2]


def opened(run: str | Path, **more) -> Index:
    return indexes(Search((Path(run),), cpu=True, **more))[0]


def kept(run: str | Path, split: str = "test") -> Path:
    return Path(run) / f"embeddings-{split}.safetensors"


def embeds(capsys) -> bool:
    """Whether something was embedded since the last look."""
    return "embedding" in capsys.readouterr().err


def test_they_are_computed_once(scenes: list[str], capsys) -> None:
    before = os.umask(0o022)
    first = opened(scenes[0])
    os.umask(before)
    assert embeds(capsys)
    assert kept(scenes[0]).stat().st_mode & 0o777 == 0o644  # the page's server may be another user
    content = kept(scenes[0]).read_bytes()
    again = opened(scenes[0])
    assert not embeds(capsys)
    assert torch.equal(first.embedded.images, again.embedded.images)
    assert torch.equal(first.embedded.captions, again.embedded.captions)
    assert kept(scenes[0]).read_bytes() == content
    opened(scenes[0], split="dev")
    assert embeds(capsys)
    assert kept(scenes[0], "dev").is_file()


def test_another_checkpoint_or_other_data_are_embedded_anew(scenes: list[str], capsys) -> None:
    first = opened(scenes[0])
    kept(scenes[1]).write_bytes(kept(scenes[0]).read_bytes())
    embeds(capsys)
    other = opened(scenes[1])  # another model's
    assert embeds(capsys)
    assert not torch.equal(first.embedded.images, other.embedded.images)
    split, path, identity = first.split, kept(scenes[0]), {"model": "a", "data": "b"}
    cache.write(path, first.embedded, identity)
    assert cache.read(path, identity, split) is not None
    for changed in ({**identity, "model": "c"}, {**identity, "data": "c"}):
        assert cache.read(path, changed, split) is None
    fewer = split.first(len(split.images) - 1)
    assert cache.read(path, identity, fewer) is None


def test_a_checkpoint_that_changes(scenes: list[str], tmp_path: Path, capsys) -> None:
    model = checkpoints.model_file(Path(scenes[0]))
    copy = tmp_path / "model.pt"
    copy.write_bytes(model.read_bytes())
    first = opened(copy)
    trained = checkpoints.load_model(copy)
    state = {name: value * 1.5 for name, value in trained.state.items()}
    content = torch.load(copy, weights_only=True)
    torch.save({**content, "model": state}, copy)
    embeds(capsys)
    second = opened(copy)
    assert embeds(capsys)
    assert not torch.equal(first.embedded.captions, second.embedded.captions)


def spoilt(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[-9] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        torch.save({"images": torch.zeros(3)}, path)


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "pickle"])
def test_a_spoilt_file_is_replaced(scenes: list[str], capsys, how: str) -> None:
    right = opened(scenes[0]).embedded
    spoilt(kept(scenes[0]), how)
    embeds(capsys)
    assert torch.equal(opened(scenes[0]).embedded.images, right.images)
    assert embeds(capsys)
    opened(scenes[0])
    assert not embeds(capsys)


@pytest.mark.parametrize(("name", "value"), [
    ("images", torch.full((500, 8), float("nan"))), ("image_of", torch.full((2500,), 500)),
    ("images_kept", torch.arange(500).flip(0)), ("captions_kept", torch.zeros(2500, dtype=torch.int64)),
    ("images", torch.zeros(500, 8, dtype=torch.float64)), ("captions", torch.zeros(2500, 9)),
])  # fmt: skip
def test_numbers_that_no_embedding_has(scenes: list[str], name: str, value: torch.Tensor) -> None:
    """A stranger's file may be whole and name the right model."""
    index, path = opened(scenes[0]), kept(scenes[0])
    tensors = {**load_file(path), name: value}
    told = {"format": cache.FORMAT, "model": "a", "data": "b", "content": cache.content(tensors)}
    save_file(tensors, path, told)
    assert cache.read(path, {"model": "a", "data": "b"}, index.split) is None


def test_a_kill_while_it_is_written_leaves_nothing_broken(scenes: list[str], capsys) -> None:
    """The process dies in the middle of the file; the next one embeds again and reads right numbers."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(CHECKOUT / "examples")!r})
from vsepp_search import cache
whole = cache.save_file
def half(tensors, path, told):
    whole(tensors, path, told)
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
cache.save_file = half
from vsepp_search.arguments import Search
from vsepp_search.opened import indexes
from pathlib import Path
indexes(Search((Path({scenes[0]!r}),), cpu=True))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not kept(scenes[0]).exists()
    assert len([*Path(scenes[0]).glob(".embeddings*.unfinished")]) == 1
    opened(scenes[0])
    assert embeds(capsys)
    opened(scenes[0])
    assert not embeds(capsys)


def test_old_leftovers_are_removed(scenes: list[str], monkeypatch) -> None:
    left = kept(scenes[0]).with_name(f".{kept(scenes[0]).name}.12345.unfinished")
    left.write_bytes(b"half")
    monkeypatch.setattr(cache, "HOUR", -1)
    opened(scenes[0])
    assert not left.exists()


def test_a_folder_that_cannot_be_written(scenes: list[str], monkeypatch, capsys) -> None:
    def refuse(*given) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "write_file", refuse)
    assert len(opened(scenes[0]).embedded.images) == 500
    assert "they are not kept: [Errno 13] Permission denied" in capsys.readouterr().err


def test_images_that_were_left_out(scenes: list[str], tmp_path: Path) -> None:
    index = opened(scenes[0])
    found = index.embedded
    without = found.image_of != 0
    part = replace(
        found,
        images=found.images[1:],
        captions=found.captions[without],
        image_of=found.image_of[without] - 1,
        images_kept=found.images_kept[1:],
        captions_kept=found.captions_kept[without.numpy()],
        skipped=1,
    )
    identity = {"model": "a", "data": "b"}
    cache.write(tmp_path / "part.safetensors", part, identity)
    again = cache.read(tmp_path / "part.safetensors", identity, index.split)
    assert again is not None
    assert again.skipped == 1
    assert again.images_kept.tolist() == [*range(1, 500)]
