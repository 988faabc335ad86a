"""The state of a run: damage to any of its files is told, and there is a way out; pickles run nothing."""

import hashlib
import json
import random
import resource
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vsepp.train
from forked_runs import ForkedRun
from stranger import harmful_files
from test_vsepp_resume import assert_same, only_run
from tiny_data import write_precomp
from vsepp.checkpoints import model_file
from vsepp.commands import main
from vsepp.run.random_states import random_states, restore_random_states
from vsepp.run.state_folder import MANIFEST, states_of, whole_state

RUN = """
    --recipe flickr8k-256-vse++ --no-strict-parity --queue 16 --word-drop 0.3 --threshold 1
    --embed-dim 16 --word-dim 8 --batch-size 8 --epochs 2 --learning-rate 0.002
    --checkpoint-every 5 --cpu --no-tensorboard --quiet
"""
FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "queues.safetensors",
    "random_states_0.safetensors",
    "progress.json",
    MANIFEST,
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Data, a run that was left alone, and one that ended between two checkpoints of its second
    epoch (25 steps each).
    """
    base = tmp_path_factory.mktemp("state")
    write_precomp(base / "data" / "f8k_precomp")
    found = {"data": base / "data", "whole": base / "whole", "half": base / "half"}
    main("flickr8k", options(found, base / "whole"))
    save = vsepp.train.save_state

    def save_then_end(parts, folder, progress) -> None:
        save(parts, folder, progress)
        if progress.step == 40:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vsepp.train, "save_state", save_then_end)
        with pytest.raises(SystemExit) as stopped:
            main("flickr8k", options(found, base / "half"))
    assert stopped.value.code == 130
    return found


def options(folders: dict[str, Path], out: Path, *more: str) -> list[str]:
    return ["--data", str(folders["data"]), "--out", str(out), *RUN.split(), *more]


@pytest.fixture
def run(folders, tmp_path: Path) -> Path:
    """A copy of the run that ended halfway."""
    shutil.copytree(folders["half"], tmp_path / "out")
    return only_run(tmp_path / "out")


def refusal(capsys, *given: str) -> str:
    """What a command that is refused says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main("flickr8k", [*given])
    said = capsys.readouterr().err
    assert stopped.value.code == 2, said
    assert "Traceback" not in said
    return said


def test_a_run_keeps_its_two_newest_states_and_their_best_model(run: Path) -> None:
    assert [path.name for path in states_of(run)] == ["state-000000035", "state-000000040"]
    for state in states_of(run):
        assert sorted(path.name for path in state.iterdir()) == sorted(FILES)
    assert [path.name for path in run.glob("best-*")] == ["best-000000025.pt"]
    assert not list(run.parent.glob(".*"))


def spoilt(content: bytes) -> dict[str, bytes | None]:
    """A file's content, damaged in many ways; None is no file."""
    places = [*range(0, len(content), max(1, len(content) // 40)), len(content) - 1]
    found: dict[str, bytes | None] = {
        f"bit {bit} of byte {place}": content[:place]
        + bytes([content[place] ^ 1 << bit])
        + content[place + 1 :]
        for place in places
        for bit in (0, 6)
    }
    cut = {"empty": b"", "half": content[: len(content) // 2], "short": content[:-1]}
    return {**found, **cut, "long": content + b"\0", "missing": None}


@pytest.mark.parametrize("name", [*FILES, "../best-000000025.pt"])
def test_any_damage_to_any_file_is_told(run: Path, name: str) -> None:
    path = run / "state-000000040" / name
    content = path.read_bytes()
    # damage to the list of checksums may also read as damage to a file in the list
    told_of = "state-000000040" if name == MANIFEST else path.name.replace(".", r"\.")
    for how, damaged in spoilt(content).items():
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(ValueError, match=told_of) as told:
            whole_state(run)
        if "best" in name:
            assert "No other state" in str(told.value), how
        else:
            assert f"`rm -r {run / 'state-000000040'}`" in str(told.value), how
        path.write_bytes(content)
    assert whole_state(run) == run / "state-000000040"


@pytest.mark.parametrize("name", FILES)
def test_the_way_out_of_damage_leads_to_the_same_end(folders, run: Path, capsys, name: str) -> None:
    path = run / "state-000000040" / name
    path.write_bytes(path.read_bytes()[:-2])
    given = options(folders, run.parent, "--resume")
    said = refusal(capsys, *given)
    assert str(path) in said
    doomed = said.partition("`rm -r ")[2].partition("`")[0]
    shutil.rmtree(doomed)
    main("flickr8k", given)
    assert_same(run.parent, folders["whole"])


def test_damage_to_every_state_is_told(folders, run: Path, capsys) -> None:
    for state in states_of(run):
        (state / "optimizer.safetensors").unlink()
    said = refusal(capsys, *options(folders, run.parent, "--resume"))
    assert "state-000000040/optimizer.safetensors is missing" in said
    assert "No other state" in said
    assert "--overwrite" in said


def test_a_damaged_model_is_not_evaluated(folders, run: Path, capsys) -> None:
    best = model_file(run)
    content = best.read_bytes()
    best.write_bytes(content[:2000] + bytes([content[2000] ^ 8]) + content[2001:])
    given = ("evaluate", str(run), "--data", str(folders["data"]), "--cpu")
    assert f"{best} is damaged" in refusal(capsys, *given)


def with_checksums(run: Path) -> None:
    """Make the checksums right again, as somebody who prepares a folder would."""
    for state in states_of(run):
        manifest = state / MANIFEST
        try:
            content = json.loads(manifest.read_bytes())
            for name in content["sha256"]:
                digest = hashlib.sha256((state / name).read_bytes()).hexdigest()
                content["sha256"][name] = digest
            manifest.write_text(json.dumps(content))
        except ValueError:
            continue


@pytest.mark.parametrize("number", [0, 1], ids=["pickle", "torch"])
@pytest.mark.parametrize(
    "name", [*(f"state-000000040/{one}" for one in FILES), "settings.json", "best-000000025.pt"]
)
def test_no_file_of_a_run_is_unpickled(folders, run: Path, capsys, name: str, number: int) -> None:
    """Each file replaced by a harmful one, with checksums that fit, under every command."""
    target = run.parent / "harm"
    (run / name).write_bytes([*harmful_files(target, run.parent)][number])
    progress = run / "state-000000040" / "progress.json"
    if name.startswith("best"):
        content = json.loads(progress.read_text())
        content["best_sha256"] = hashlib.sha256((run / name).read_bytes()).hexdigest()
        progress.write_text(json.dumps(content))
    with_checksums(run)
    resume = options(folders, run.parent, "--resume")
    evaluate = ["evaluate", str(run), "--data", str(folders["data"]), "--cpu"]
    reads_it = evaluate if name.startswith("best") else resume
    assert Path(name).name in refusal(capsys, *reads_it)
    for command in (evaluate, resume, ["report", str(run), "--out", str(run.parent / "r.html")]):
        ends_by_itself(command)
    assert not target.exists()
    assert "Traceback" not in capsys.readouterr().err


def ends_by_itself(command: list[str]) -> None:
    """A command that works, or is refused with exit status 2."""
    try:
        main("flickr8k", command)
    except SystemExit as stopped:
        if stopped.code != 2:
            raise


@pytest.mark.parametrize("name", FILES[:4])
def test_tensors_of_another_run_do_not_fit(folders, run: Path, capsys, name: str) -> None:
    """A file whose checksum is right but whose tensors are not those that this run needs."""
    path = run / "state-000000040" / name
    tensors = load_file(path)
    last = max(tensors, key=lambda one: tensors[one].numel())
    tensors[last] = torch.zeros(*tensors[last].shape, 2, dtype=tensors[last].dtype)
    save_file(tensors, path)
    with_checksums(run)
    said = refusal(capsys, *options(folders, run.parent, "--resume"))
    assert f"{path} does not fit this run" in said


@pytest.mark.parametrize(
    "strange", ["../../../etc/passwd", "/etc/passwd", "best.pt", "best-1.pt/../x", 5]
)
def test_a_state_names_a_model_inside_its_run_only(folders, run: Path, capsys, strange) -> None:
    progress = run / "state-000000040" / "progress.json"
    progress.write_text(json.dumps({**json.loads(progress.read_text()), "best_file": strange}))
    with_checksums(run)
    given = ("evaluate", str(run), "--data", str(folders["data"]), "--cpu")
    for command in (given, options(folders, run.parent, "--resume")):
        assert "progress.json" in refusal(capsys, *command)


def test_generators_go_on_where_they_stood() -> None:
    def draw() -> tuple:
        return random.gauss(0, 1), np.random.randn(), torch.rand(3).tolist()

    random.seed(3)
    np.random.seed(4)
    draw()
    kept = random_states(torch.device("cpu"))
    expected = [draw() for _ in range(3)]
    random.seed(5)
    np.random.seed(6)
    restore_random_states(kept, torch.device("cpu"))
    assert [draw() for _ in range(3)] == expected


def no_file_above(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_leaves_the_state_before(folders, run: Path) -> None:
    """The system refuses a file above the limit on its size, as it does on a full disk."""
    size = (run / "state-000000040" / "optimizer.safetensors").stat().st_size
    prepare = partial(no_file_above, size // 1024 * 1024)
    full = ForkedRun(options(folders, run.parent, "--resume"), prepare=prepare)
    _, said = full.communicate(timeout=120)
    assert full.returncode == 2, said
    told = [line for line in said.splitlines() if not line.startswith("[")]
    assert len(told) == 2, said
    assert "no space left while writing" in told[0]
    assert "state-000000040 is unharmed" in told[0]
    assert whole_state(run) == run / "state-000000040"
    assert not list(run.glob(".*"))
    main("flickr8k", options(folders, run.parent, "--resume"))
    assert_same(run.parent, folders["whole"])
