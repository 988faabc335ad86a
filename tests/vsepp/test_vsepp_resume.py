"""Kill a run at any moment, resume it, and get the very numbers of a run that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import forked_runs
from forked_runs import ForkedRun
from tiny_data import write_flickr, write_precomp
from tiny_text_network import write_text_network
from vsepp.commands import main

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "examples" / "vsepp_flickr8k.py"
PRECOMP = [
    "--recipe",
    "flickr8k-256-vse++",
    "--threshold",
    "1",
    "--embed-dim",
    "16",
    "--word-dim",
    "8",
]
RAW = [
    *[
        "--recipe",
        "flickr8k-small-vse0",
        "--threshold",
        "1",
        "--embed-dim",
        "16",
        "--word-dim",
        "8",
    ],
    *["--image-size", "32", "--word-drop", "0.2", "--workers", "1", "--negatives-from", "3"],
]
MODERN = [
    *PRECOMP,
    *["--loss", "infonce", "--temperature", "0.2", "--learn-temperature", "--negatives", "topk:4"],
    *[
        "--ceiling",
        "0.99",
        "--warmup-epochs",
        "0.5",
        "--optimizer",
        "adamw",
        "--weight-decay",
        "0.1",
    ],
    *[
        "--decay",
        "cosine",
        "--rise",
        "2",
        "--ema",
        "0.9",
        "--captions-each",
        "2",
        "--text",
        "bow+gru",
    ],
    *["--blocks", "1", "--hidden-dim", "8", "--drop", "0.1", "--feature-drop", "0.1", "--mirror"],
    *["--scale-features", "sqrt", "--word-drop", "0.1", "--no-strict-parity", "--pooling", "gpo"],
    *["--word-vectors", "captions", "--soft-targets", "0.5", "--soft-after", "0.5"],
    *["--members", "2"],
]
COMMON = [
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--checkpoint-every",
    "3",
    "--learning-rate",
    "0.002",
    "--quiet",
]

OWN = [*PRECOMP, "--no-strict-parity", "--own-negatives", "2", "--text", "bow"]
KINDS = {"precomp": PRECOMP, "raw": RAW, "modern": MODERN, "own": OWN}


def command(root: Path, out: Path, kind: list[str], *more: str) -> list[str]:
    return [
        *[sys.executable, str(SCRIPT), "--data", str(root), "--out", str(out), "--cpu"],
        *["--no-tensorboard", *kind, *COMMON, *more],
    ]


def environment() -> dict[str, str]:
    paths = [str(CHECKOUT), str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def finish(arguments: list[str]) -> None:
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def forked(arguments: list[str], **options) -> ForkedRun:
    """The same command in a forked process."""
    return ForkedRun(arguments[2:], **options)


def kill_when(arguments: list[str], reached) -> None:
    """Start a run and kill it, by SIGKILL, as soon as ``reached()``."""
    run = forked(arguments)
    try:
        deadline = time.monotonic() + 90
        while not reached():
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run never got there"
            time.sleep(0.002)
    finally:
        run.kill()
        run.wait()


def only_run(out: Path) -> Path:
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    return folder


def outcome(out: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """What must agree: every number but times and memory, and the best model's weights."""
    folder = only_run(out)
    result = json.loads((folder / "result.json").read_text())
    for row in result["history"]:
        del row["seconds"]
    del result["seconds_per_epoch"], result["peak_memory_mib"]
    return result, torch.load(folder / result["best_file"], weights_only=True)["model"]


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = outcome(one), outcome(other)
    assert ours[0] == theirs[0]
    shown = [(only_run(out) / "gallery.json").read_bytes() for out in (one, other)]
    assert shown[0] == shown[1]
    assert b'"mined": [{"epoch": 1,' in shown[0]
    assert ours[1].keys() == theirs[1].keys()
    for name, value in ours[1].items():
        assert torch.equal(value, theirs[1][name]), name


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Data, and a run of each kind that was left alone, one in a Python of its own."""
    base = tmp_path_factory.mktemp("resume")
    write_precomp(base / "data" / "f8k_precomp")
    write_flickr(base / "data")
    finish(command(base / "data", base / "precomp", PRECOMP))
    for name in ("raw", "modern", "own"):
        forked_runs.finish(forked(command(base / "data", base / name, KINDS[name])))
    return {"data": base / "data", **{name: base / name for name in KINDS}}


@pytest.mark.parametrize("name", KINDS)
def test_killed_within_an_epoch_then_resumed(folders, tmp_path: Path, name: str) -> None:
    """Killed twice, both times between two checkpoints inside an epoch (25 steps, a checkpoint
    every 3).
    """
    kind, out = KINDS[name], tmp_path / "out"
    run = command(folders["data"], out, kind, "--resume")
    for step in (6, 36):
        kill_when(run, lambda step=step: any(out.glob(f"*/state-{step:09d}")))
        assert not (only_run(out) / "result.json").exists()
    forked_runs.finish(forked(run))
    assert_same(out, folders[name])


NETWORKS = {
    "transformers": [*PRECOMP, "--finetune-text", "--backbone-rate", "0.1", "--drop", "0.1"],
    "timm": [*RAW, "--finetune", "--backbone", "timm:test_resnet", "--weights", "none"],
}


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_libraries_too(folders, tmp_path: Path, name: str) -> None:
    """Each process imports the library, which takes long."""
    pytest.importorskip(name, reason=f"whose network it is: hardneg[{name}]")
    kind = NETWORKS[name]
    if name == "transformers":
        kind = [*kind, "--text", f"hf:{write_text_network(tmp_path / 'network')}"]
    left_alone, out = tmp_path / "left alone", tmp_path / "out"
    forked_runs.finish(forked(command(folders["data"], left_alone, kind)))
    run = command(folders["data"], out, kind, "--resume")
    kill_when(run, lambda: any(out.glob("*/state-000000006")))
    assert not (only_run(out) / "result.json").exists()
    forked_runs.finish(forked(run))
    assert_same(out, left_alone)


def killed_at(count: int) -> None:
    """From now on, a process ends itself at the n-th time that it puts a file on disk or names one."""
    left = count

    def counted(call):
        def wrapper(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return wrapper

    os.replace, os.fsync = counted(os.replace), counted(os.fsync)


def test_killed_inside_a_checkpoint(folders, tmp_path: Path) -> None:
    """Killed at the n-th time that a file is put on disk or given its name, each time in one run.

    3 of these are the settings file, at the first start; then each checkpoint has 8: its files, its
    folder, its name and the run's folder. The third removes the first. A validation puts the best model before it.
    """
    out = tmp_path / "out"
    run = command(folders["data"], out, PRECOMP, "--resume", "--checkpoint-every", "1")
    for count in (2, 6, 8, 10, 29, 60):
        killed = forked(run, prepare=partial(killed_at, count))
        _, told = killed.communicate(timeout=90)
        assert killed.returncode == -signal.SIGKILL, told
    forked_runs.finish(forked(run))
    assert_same(out, folders["precomp"])


def test_a_finished_run_that_is_resumed_stays_as_it_is(folders) -> None:
    before = outcome(folders["precomp"])
    forked_runs.finish(forked(command(folders["data"], folders["precomp"], PRECOMP, "--resume")))
    after = outcome(folders["precomp"])
    assert before[0] == after[0]
    assert all(torch.equal(value, after[1][name]) for name, value in before[1].items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "holds a run: pass --resume to go on with it, --overwrite to replace it"),
        (("--resume", "--margin", "0.3"), "begun with other settings (loss.margin: 0.2, 0.3"),
    ],
)
def test_a_folder_is_not_taken_by_mistake(folders, capsys, more, message) -> None:
    given = command(folders["data"], folders["precomp"], PRECOMP, *more)[2:]
    with pytest.raises(SystemExit) as stopped:
        main("flickr8k", given)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(folders, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "flickr8k-256-vse++-seed0"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit):
        main("flickr8k", command(folders["data"], tmp_path, PRECOMP, "--overwrite")[2:])
    assert "holds other files: choose another --out" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_overwriting_begins_anew(folders, tmp_path: Path) -> None:
    run = command(folders["data"], tmp_path, PRECOMP, "--epochs", "1")[2:]
    main("flickr8k", run)
    first = outcome(tmp_path)
    main("flickr8k", [*run, "--overwrite"])
    assert outcome(tmp_path)[0] == first[0]
