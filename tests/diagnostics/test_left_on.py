"""Diagnostics left on in a training: they change nothing, compute nothing between looks, and write what they saw."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.diagnostics import LOSSES, ROWS, SIZES
from hardneg import AcrossRanks, ContrastiveLoss, InfoNCELoss, Matryoshka, RandomK, TripletLoss
from hardneg.diagnostics import Diagnostics


class Counted(TorchDispatchMode):
    """How many operators ran, and the largest tensor that one returned."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.calls += 1
        sizes = [x.numel() for x in tree_leaves(found) if isinstance(x, Tensor)]
        self.largest = max([self.largest, *sizes])
        return found


def trained(diagnostics: Diagnostics | None, loss: nn.Module, steps: int = 6) -> Tensor:
    """The weights after some steps."""
    torch.manual_seed(0)
    tower = nn.Linear(12, 8)
    optimiser = torch.optim.SGD(tower.parameters(), lr=0.5)
    handle = None if diagnostics is None else diagnostics.attach(loss)
    for _ in range(steps):
        rows = torch.randn(32, 12)
        loss(tower(rows), tower(rows + torch.randn(32, 12))).backward()
        optimiser.step()
        optimiser.zero_grad()
    if handle is not None:
        handle.remove()
    return tower.weight.detach()


def test_it_changes_no_training() -> None:
    """A random strategy draws what it would without looks."""
    loss, diagnostics = ContrastiveLoss(negatives=RandomK(3)), Diagnostics(every=2)
    expected = trained(None, loss)
    assert torch.equal(trained(diagnostics, loss), expected)
    assert [seen.step for seen in diagnostics.history] == [0, 2, 4]
    trained(None, loss)
    assert diagnostics.step == 6, "removed"


def test_nothing_is_computed_between_looks() -> None:
    rows = torch.randn(16, 8)

    def calls(loss: nn.Module) -> int:
        with Counted() as found:
            loss(rows.clone().requires_grad_(), rows)
        return found.calls

    loss, diagnostics = ContrastiveLoss(), Diagnostics(every=3)
    alone = calls(loss)
    diagnostics.attach(loss)
    counts = [calls(loss) for _ in range(7)]
    assert [count == alone for count in counts] == [False, True, True, False, True, True, False]


def test_a_look_builds_no_matrix() -> None:
    n = 3000
    rows, diagnostics = torch.randn(n, 4), Diagnostics(every=1)
    with Counted() as found:
        diagnostics.observe(InfoNCELoss(), rows, rows + torch.randn(n, 4))
    assert 0 < found.largest < n * n / 3


def test_calls_without_gradients_and_wrapped_losses() -> None:
    rows = torch.randn(16, 8, requires_grad=True)
    loss, diagnostics = ContrastiveLoss(), Diagnostics(every=1)
    diagnostics.attach(loss)
    with torch.no_grad():
        loss(rows, rows + 1)
    assert diagnostics.step == 0
    value, statistics = loss(rows, rows + 1, return_stats=True)
    seen = diagnostics.history[0]
    assert (seen.loss, seen.positive_mean) == (value.item(), statistics.positive_mean.item())
    expected = seen.as_dict()
    for wrapped in (Matryoshka(ContrastiveLoss(), dims=(8,)), AcrossRanks(ContrastiveLoss())):
        found = Diagnostics(every=1).observe(wrapped, rows, rows + 1)
        assert found is not None
        assert found.as_dict() == expected


def test_a_compiled_loss_is_observed_beside_it() -> None:
    rows = torch.randn(16, 8, requires_grad=True)
    loss, diagnostics = ContrastiveLoss(), Diagnostics(every=1)
    diagnostics.attach(loss)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    other = torch.randn(16, 8)
    value = compiled(rows, other)
    assert diagnostics.step == 0
    seen = diagnostics.observe(compiled, rows, other)
    assert seen is not None
    assert seen.loss == pytest.approx(value.item())


def test_half_precision_and_autocast() -> None:
    rows = torch.randn(16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        seen = Diagnostics(every=1).observe(TripletLoss(), rows.bfloat16(), torch.arange(16) // 2)
    assert seen is not None
    assert seen.positives.counts.sum() == 16


def test_copies_and_pickles_of_a_loss_are_not_watched() -> None:
    loss, diagnostics = ContrastiveLoss(), Diagnostics(every=1)
    diagnostics.attach(loss)
    rows = torch.randn(4, 8)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        other(rows, rows + 1)
    assert diagnostics.step == 0
    loss(rows, rows + 1)
    assert diagnostics.step == 1


def test_across_ranks(tmp_path: Path) -> None:
    rows = torch.randn(16, 8)
    start = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=start, rank=0, world_size=1)
    try:
        inside, diagnostics = ContrastiveLoss(), Diagnostics(every=1)
        loss = AcrossRanks(inside)
        handle = diagnostics.attach(loss)
        value = loss(rows, rows + torch.randn(16, 8))
        assert diagnostics.history[0].loss == pytest.approx(float(value))
        handle.remove()
        diagnostics.attach(inside)
        with pytest.raises(TypeError, match="attach them to the AcrossRanks module"):
            loss(rows, rows + 1)
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_is_read_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_initialized", "is_current_stream_capturing"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    loss, diagnostics = ContrastiveLoss(), Diagnostics(every=1)
    diagnostics.attach(loss)
    loss(torch.randn(4, 8), torch.randn(4, 8))
    assert diagnostics.step == 0


def test_the_cost_of_leaving_it_on_was_measured() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    last = {(row["case"], *row["shape"]): row["ratio"] for row in rows}
    assert len(last) == len(LOSSES) * len(SIZES)
    assert all(ratio <= 1.02 for ratio in last.values())


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="every"):
        Diagnostics(every=0)
    with pytest.raises(TypeError, match="SummaryWriter"):
        Diagnostics(writer="runs")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loss of this library"):
        Diagnostics().attach(nn.CrossEntropyLoss())
    for early in (Diagnostics().false_negatives, Diagnostics().figure):
        with pytest.raises(RuntimeError, match="looked at yet"):
            early()
    with pytest.raises(RuntimeError, match="writer"):
        Diagnostics().write_figure()


def watched(**options: Any) -> Diagnostics:
    diagnostics = Diagnostics(every=2, **options)
    trained(diagnostics, ContrastiveLoss())
    return diagnostics


def histograms(path: Path) -> Iterator[Any]:
    """As they were written: readers put them in other bins."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    for record in RawEventFileLoader(str(path)).Load():
        values = Event.FromString(record).summary.value
        yield from (x.histo for x in values if x.HasField("histo"))


def test_tensorboard_has_numbers_histograms_and_the_figure(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        diagnostics = watched(writer=writer, tag="mining")
        diagnostics.write_figure()
    read = events.EventAccumulator(str(tmp_path))
    read.Reload()
    for name in diagnostics.history[0].as_dict():
        found = read.Scalars(f"mining/{name}")
        expected = [seen.as_dict()[name] for seen in diagnostics.history]
        assert [one.step for one in found] == [0, 2, 4]
        assert [one.value for one in found] == pytest.approx(expected, nan_ok=True)
    written = [*histograms(next(tmp_path.glob("events*")))]
    expected = [x for seen in diagnostics.history for x in (seen.positives, seen.negatives)]
    for one, counted in zip(written, expected, strict=True):
        assert [x for x in one.bucket if x] == [x for x in counted.counts.tolist() if x]
    assert read.Images("mining/overview")[0].step == 4


def test_the_figure_shows_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    diagnostics = watched()
    axes = diagnostics.figure().axes
    assert [x.get_title() for x in axes[:4]] == [
        "scores at step 4", "hardness", "active terms and hubs", "collapse and plateau: at 1"
    ]  # fmt: skip
    lines = {x.get_label(): [*x.get_ydata()] for one in axes for x in one.get_lines()}
    assert lines["active terms"] == [seen.active_share for seen in diagnostics.history]
    assert lines["chosen negatives"] == [seen.negative_mean for seen in diagnostics.history]
    assert sum(p.get_data().values.sum() for p in axes[0].patches) == pytest.approx(2)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"hardneg\[diagnostics\]"):
        diagnostics.figure()
