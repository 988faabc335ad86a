"""A run's folder: nobody takes it by mistake, nobody shares it, nothing is deleted too early."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import vsepp.train
from test_vsepp_resume import assert_same, environment, only_run, outcome
from tiny_data import write_flickr, write_precomp
from vsepp.commands import main
from vsepp.data.workers import decoding_workers, usable_cores
from vsepp.run.folder import set_aside
from vsepp.run.lock import lock_file, run_lock
from vsepp.settings import Data

RUN = """
    --recipe flickr8k-256-vse++ --threshold 1 --embed-dim 16 --word-dim 8 --batch-size 40
    --learning-rate 0.002 --checkpoint-every 2 --cpu --no-tensorboard --quiet
"""
RAW = RUN.replace("256-vse++", "small-vse0 --image-size 32")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("folder")
    write_precomp(base / "f8k_precomp")
    return base


def options(root: Path, out: Path, *more: str, kind: str = RUN) -> list[str]:
    return ["--data", str(root), "--out", str(out), *kind.split(), *more]


def refusal(capsys, *given: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main("flickr8k", [*given])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def finished(data: Path, tmp_path: Path) -> Path:
    main("flickr8k", options(data, tmp_path / "runs", "--epochs", "1"))
    return only_run(tmp_path / "runs")


@pytest.mark.parametrize("script", ["coco", "flickr8k"])
def test_the_same_command_twice_deletes_nothing(
    data: Path, tmp_path: Path, capsys, script: str
) -> None:
    """Scenes, which nobody had to fetch, included."""
    scenes = "--recipe scenes-vse0 --train-images 8 --image-size 32 --embed-dim 8 --word-dim 8"
    scenes += " --batch-size 8 --epochs 1 --cpu --no-tensorboard --quiet --out"
    given = [*scenes.split(), str(tmp_path / "runs")]
    if script == "flickr8k":
        given = options(data, tmp_path / "runs", "--epochs", "1")
    main(script, given)
    before = content(tmp_path / "runs")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(script, given)
    assert stopped.value.code == 2
    assert "holds a run: pass --resume to go on with it, --overwrite" in capsys.readouterr().err
    assert content(tmp_path / "runs") == before


def test_a_later_recipes_folder_is_looked_at_first(data: Path, tmp_path: Path, capsys) -> None:
    main("flickr8k", options(data, tmp_path, "--epochs", "1"))
    both = ["--recipe", "flickr8k-256-vse0", "flickr8k-256-vse++"]
    said = refusal(capsys, *options(data, tmp_path, *both, "--epochs", "1"))
    assert "vse++-seed0 holds a run" in said
    assert only_run(tmp_path).name == "flickr8k-256-vse++-seed0"


@pytest.mark.parametrize("when", ["before the first checkpoint", "while it is written"])
def test_a_failed_overwrite_leaves_the_old_run(
    data: Path, finished: Path, monkeypatch, when: str
) -> None:
    before = content(finished)

    def fail(*_) -> None:
        raise OSError("the disk is gone")

    name = "step" if when == "before the first checkpoint" else "save"
    monkeypatch.setattr(vsepp.train.Trainer, name, fail)
    with pytest.raises(SystemExit):
        main("flickr8k", options(data, finished.parent, "--epochs", "1", "--overwrite"))
    assert content(finished) == before
    assert [path.name for path in finished.parent.iterdir() if path.is_dir()] == [finished.name]


KILLED_EARLY = """
import os, signal, sys
import vsepp.train as train
train.Trainer.epoch = lambda self: os.kill(os.getpid(), signal.SIGKILL)
from vsepp.commands import main
main("flickr8k", sys.argv[1:])
"""


def test_an_overwrite_that_is_killed_early_gives_the_old_run_back(
    data: Path, finished: Path, capsys
) -> None:
    before = content(finished)
    given = options(data, finished.parent, "--epochs", "1")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_EARLY, *given, "--overwrite"],
        env=environment(),
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert content(set_aside(finished)) == before
    main("flickr8k", [*given, "--resume"])
    assert {**before, "result.json": b""} == {**content(finished), "result.json": b""}
    assert not set_aside(finished).exists()


def test_an_overwrite_removes_the_old_run_with_its_first_checkpoint(
    data: Path, finished: Path, monkeypatch
) -> None:
    seen, save = [], vsepp.train.save_state

    def watched(parts, folder, progress) -> None:
        seen.append((set_aside(folder).is_dir(), bool([*folder.glob("state-*")])))
        save(parts, folder, progress)

    monkeypatch.setattr(vsepp.train, "save_state", watched)
    (finished / "old").write_text("from the run before")
    first = outcome(finished.parent)
    main("flickr8k", options(data, finished.parent, "--epochs", "1", "--overwrite"))
    assert seen == [(True, False), (False, True), (False, True)]
    assert not (finished / "old").exists()
    assert outcome(finished.parent)[0] == first[0]


HOLDER = """
import os, sys, time
from pathlib import Path
from vsepp.run.lock import run_lock
with run_lock(Path(sys.argv[1])):
    if sys.argv[2] == "with a worker" and os.fork() == 0:
        time.sleep(120)
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize("kind", ["alone", "with a worker"])
def test_a_folder_in_use_is_told_and_a_kill_frees_it(
    data: Path, tmp_path: Path, capsys, kind: str
) -> None:
    folder = tmp_path / "runs" / "flickr8k-256-vse++-seed0"
    words = [sys.executable, "-c", HOLDER, str(folder), kind]
    pipe = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, env=environment(), **pipe) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            given = options(data, tmp_path / "runs", "--epochs", "1")
            said = refusal(capsys, *given)
            assert f"{folder} is in use by process {holder.pid} on" in said
            assert refusal(capsys, *given, "--resume") == said
            holder.kill()
            holder.wait()
            main("flickr8k", given)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(holder.pid, signal.SIGKILL)
    assert (folder / "result.json").is_file()
    assert not lock_file(folder).exists()


def test_a_lock_is_free_after_use_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), run_lock(tmp_path / "run"):
        raise KeyError
    with run_lock(tmp_path / "run"), run_lock(tmp_path / "other"):
        with pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()}"):
            run_lock(tmp_path / "run").__enter__()
        lock_file(tmp_path / "run").write_bytes(b"\xffno JSON")
        with pytest.raises(BlockingIOError, match="in use by another process"):
            run_lock(tmp_path / "run").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_more_epochs_are_those_of_a_longer_run(data: Path, tmp_path: Path, capsys) -> None:
    main("flickr8k", options(data, tmp_path / "long", "--epochs", "4"))
    main("flickr8k", options(data, tmp_path / "out", "--epochs", "2"))
    capsys.readouterr()
    main("flickr8k", options(data, tmp_path / "out", "--epochs", "4", "--resume"))
    note = "with other settings from here on (before, now): schedule.epochs: 2, 4"
    assert note in capsys.readouterr().err
    long, out = outcome(tmp_path / "long"), outcome(tmp_path / "out")
    assert out[0].pop("changes") == ["after step 10: schedule.epochs: 2, 4"]
    assert long[0].pop("changes") == []
    assert out[0] == long[0]
    assert all(torch.equal(value, out[1][name]) for name, value in long[1].items())
    assert [row["epoch"] for row in out[0]["history"]] == [1, 2, 3, 4]
    assert 1 <= out[0]["best_epoch"] <= 4
    main("flickr8k", options(data, tmp_path / "out", "--epochs", "4", "--resume"))
    assert "with other settings" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--epochs", "1"), "has trained 2 epochs already: --epochs 1 would be fewer"),
        (("--batch-size", "20"), "begun with other settings (schedule.batch_size: 40, 20"),
        (("--epochs", "3", "--seed", "0", "--margin", "0.1"), "(loss.margin: 0.2, 0.1"),
    ],
)
def test_what_cannot_change_on_the_way_is_refused(
    data: Path, tmp_path: Path, capsys, more, message
) -> None:
    main("flickr8k", options(data, tmp_path, "--epochs", "2"))
    noted = (only_run(tmp_path) / "settings.json").read_bytes()
    assert message in refusal(capsys, *options(data, tmp_path, "--epochs", "2", "--resume", *more))
    if more[0] != "--epochs":
        assert (only_run(tmp_path) / "settings.json").read_bytes() == noted


def test_skip_corrupt_may_come_with_resume(tmp_path: Path, capsys) -> None:
    """A picture breaks while the run is under way."""
    root = write_flickr(tmp_path / "data")
    given = options(root, tmp_path / "out", "--epochs", "2", kind=RAW)
    main("flickr8k", [*given, "--epochs", "1"])
    (root / "f8k" / "images" / "0003.jpg").write_bytes(b"")
    assert "0003.jpg" in refusal(capsys, *given, "--resume")
    main("flickr8k", [*given, "--resume", "--skip-corrupt"])
    result = json.loads((only_run(tmp_path / "out") / "result.json").read_text())
    assert result["skipped_pairs"] == 5
    changes = [one.partition(": ")[2] for one in result["changes"]]
    assert set(changes) >= {"data.skip_corrupt: False, True"}


def test_no_readable_training_picture_is_an_error(tmp_path: Path, capsys) -> None:
    root = write_flickr(tmp_path / "data")
    for number in range(40):
        (root / "f8k" / "images" / f"{number:04d}.jpg").write_bytes(b"")
    said = refusal(
        capsys,
        *options(root, tmp_path / "out", "--epochs", "1", "--skip-corrupt", kind=RAW),
    )
    assert "(train) cannot be decoded: expected some that can" in said


@pytest.mark.parametrize("wanted", [0, 3])
def test_workers_are_what_is_asked_for(wanted: int) -> None:
    assert decoding_workers(wanted, Data("flickr8k", "raw")) == wanted


def test_workers_follow_the_cores(monkeypatch) -> None:
    assert decoding_workers(None, Data("flickr8k", "precomp")) == 0
    assert decoding_workers(None, Data("scenes", "raw")) == 0
    for cores, expected in ((1, 0), (2, 0), (8, 2), (40, 10), (128, 16)):
        monkeypatch.setattr("vsepp.data.workers.usable_cores", lambda cores=cores: cores)
        assert decoding_workers(None, Data("flickr8k", "raw")) == expected
    assert usable_cores() >= 1


def test_a_run_that_was_copied_away_is_the_same(data: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path / "copy")
    main("flickr8k", options(data, tmp_path / "copy", "--epochs", "1", "--resume"))
    assert_same(tmp_path / "copy", finished.parent)
