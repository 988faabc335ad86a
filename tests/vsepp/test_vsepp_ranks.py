"""Training in two processes under torchrun: the losses of one process, and a kill that changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from forked_runs import finish, two_ranks
from hardneg import All
from test_vsepp_resume import assert_same, environment, only_run
from tiny_data import write_precomp
from vsepp.commands import main
from vsepp.data.batches import ShuffledBatches
from vsepp.data.pairs import Pairs, read_splits
from vsepp.data.vocabulary import build_vocabulary
from vsepp.model import build_model
from vsepp.objective import build_objective
from vsepp.run.state_folder import newest_state
from vsepp.settings import Data, Loss, Model, Schedule

SCRIPT = Path(__file__).parents[2] / "examples" / "vsepp_flickr8k.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# 185 captions in batches of 23: the last batch has 1 pair, and one of the two parts of it none.
RUN = """
    --recipe flickr8k-256-vse++ --no-strict-parity --threshold 1 --embed-dim 16 --word-dim 8
    --train-images 37 --batch-size 23 --epochs 3 --learning-rate 0.002 --warmup-epochs 0.5
    --checkpoint-every 2 --cpu --no-tensorboard --quiet
"""
ALL_THREE = ["--across-ranks", "--queue", "40", "--chunk", "5"]
APART = ["--epochs", "1"]


def options(root: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(root), "--out", str(out), *RUN.split(), *more]


def start(*given: str) -> subprocess.Popen:
    words = [sys.executable, *TORCHRUN, str(SCRIPT), *given]
    pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment(), **pipe)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Data, and a run in two processes that was left alone."""
    base = tmp_path_factory.mktemp("ranks")
    write_precomp(base / "data" / "f8k_precomp")
    finish(start(*options(base / "data", base / "two", *ALL_THREE)))
    return {"data": base / "data", "two": base / "two"}


def history(out: Path) -> list[dict]:
    return json.loads((only_run(out) / "result.json").read_text())["history"]


def test_two_processes_have_the_losses_of_one(folders, tmp_path: Path) -> None:
    """The global batch, all negatives and both queues: the same up to the rounding of float32."""
    main("flickr8k", options(folders["data"], tmp_path, *ALL_THREE))
    one, two = history(tmp_path), history(folders["two"])
    assert len(one) == len(two) == 3
    for ours, theirs in zip(two, one, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert ours["rsum"] == theirs["rsum"]
    assert two[-1]["loss"] < two[0]["loss"]


def test_a_killed_run_resumes_as_if_left_alone(folders, tmp_path: Path) -> None:
    """One process is killed within an epoch; the other stops with it; then both go on."""
    given = options(folders["data"], tmp_path, *ALL_THREE, "--resume")
    killed = start(*given)
    workers = psutil.Process(killed.pid)
    deadline = time.monotonic() + 100
    while not any(tmp_path.glob("*/state-000000004")):
        assert killed.poll() is None, killed.stderr.read()
        assert time.monotonic() < deadline, "the run never got there"
        time.sleep(0.002)
    os.kill(max(child.pid for child in workers.children()), signal.SIGKILL)
    killed.communicate(timeout=100)
    assert killed.returncode != 0
    folder = only_run(tmp_path)
    assert not (folder / "result.json").exists()
    state = newest_state(folder)
    queue = load_file(state / "queues.safetensors")
    assert queue["captions.seen"] == 23 * json.loads((state / "progress.json").read_text())["step"]
    finish(*two_ranks(given))
    assert_same(tmp_path, folders["two"])


LEARNED = [
    *["--loss", "infonce", "--temperature", "0.2", "--learn-temperature", "--ema", "0.9"],
    *["--soft-targets", "0.5", "--soft-after", "0"],
]


@pytest.mark.parametrize("further", [[], LEARNED], ids=["paper", "learned"])
def test_each_process_on_its_own_part(folders, tmp_path: Path, further: list[str]) -> None:
    """Without --across-ranks; a process whose part is empty keeps up with the other."""
    finish(*two_ranks(options(folders["data"], tmp_path, *APART, *further)))
    assert history(tmp_path)[0]["loss"] > 0


def test_the_parts_of_a_batch_make_up_the_batch(folders) -> None:
    splits = read_splits(Data("flickr8k", threshold=1, train_images=37), folders["data"])
    vocabulary = build_vocabulary(splits.train.captions, "regex", 1, "a test")
    pairs = Pairs(splits.train, vocabulary, 0)
    whole = list(ShuffledBatches(pairs, Schedule(batch_size=23)))
    for ranks in (1, 2, 3):
        parts = [
            list(ShuffledBatches(pairs, Schedule(batch_size=23), rank, ranks))
            for rank in range(ranks)
        ]
        assert [[*chain(*some)] for some in zip(*parts, strict=True)] == whole
    assert [len(part) for part in (parts[0][-1], parts[2][-1])] == [0, 1]


def test_a_part_without_pairs_has_gradients_of_0(folders) -> None:
    model = build_model(Model(embed_dim=8, word_dim=6), 30, 12)
    nothing = torch.empty(0, dtype=torch.int64)
    for settings in (Loss(), Loss(queue=4)):
        images, captions = model(torch.empty(0), nothing.reshape(0, 0), nothing)
        assert images.shape == captions.shape == (0, 8)
        build_objective(settings, 8, 1)(images, captions, nothing, None).backward()
    for parameter in model.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@pytest.mark.parametrize("measure", ["cosine", "order"])
def test_an_empty_queue_changes_nothing_and_a_full_one_adds_both_sides(measure: str) -> None:
    settings = Loss(measure=measure, margin=0.5)
    plain = build_objective(settings, 4, 1)
    queued = build_objective(replace(settings, queue=6), 4, 1)
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(4, 3, 4), dim=2)
    ids = torch.tensor([0, 1, 2])
    expected = plain(rows[0], rows[1], ids, All())
    torch.testing.assert_close(queued(rows[0], rows[1], ids, All()), expected)
    queued.remember(rows[2], rows[3], torch.tensor([7, 8, 2]))
    found = queued(rows[0], rows[1], ids, All())
    scores = similarity(measure)
    kept = torch.tensor([[True, True, False] if i == 2 else [True] * 3 for i in range(3)])
    own = scores(rows[0], rows[1]).diag()[:, None]
    captions = (0.5 - own + scores(rows[0], rows[3])).clamp(min=0)[kept].sum()
    images = (0.5 - own + scores(rows[2], rows[1]).T).clamp(min=0)[kept].sum()
    torch.testing.assert_close(found, expected + captions + images)
    assert queued.queued == 3


def similarity(measure: str):
    """Images by captions, written out."""
    if measure == "cosine":
        return lambda images, captions: images @ captions.T
    return lambda images, captions: -(captions[None] - images[:, None]).clamp(min=0).norm(dim=2)
