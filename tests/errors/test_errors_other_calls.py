"""Calls of the cache, the queue, the miners and what ``mined`` returns that suit another library."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from error_calls import IDS, X, Y, raised, says
from torch import nn

from hardneg import AcrossRanks, GradCache, InfoNCELoss, MemoryQueue, TopK, mine
from hardneg.mining import CorpusMiner
from hardneg.mining.other_miners import ELSEWHERE

TOWER = nn.Linear(3, 3).double()
CACHE = GradCache(TOWER, TOWER, chunk_size=2)
LOSS = InfoNCELoss()
FOR_BACKWARD = ("expected the loss", "cache.backward(loss, images, captions)")
FOR_CALL = ("expected the loss", "cache(loss, images, captions)")
QUEUE = MemoryQueue(8, 3)
FOUND = LOSS.mined(X, Y, negatives=TopK(2))
MISTAKES: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "no loss": (lambda: CACHE.backward(X, Y), ("is a Tensor", *FOR_BACKWARD)),
    "no loss to the call": (lambda: CACHE(X, Y), ("is a Tensor", *FOR_CALL)),
    "no loss to features": (lambda: CACHE.backward({"x": X}, {"x": Y}), ("is a dict",)),
    "a value": (lambda: CACHE.backward(LOSS(X, Y), X, Y), ("is a Tensor", *FOR_BACKWARD)),
    "a value to the call": (lambda: CACHE(LOSS(X, Y), X, Y), ("is a Tensor", *FOR_CALL)),
    "a class of losses": (
        lambda: CACHE.backward(InfoNCELoss, X, Y),
        ("the class InfoNCELoss", "InfoNCELoss()", *FOR_BACKWARD),
    ),
    "a class of losses to the call": (lambda: CACHE(InfoNCELoss, X, Y), ("InfoNCELoss()",)),
    "a class to AcrossRanks": (lambda: AcrossRanks(InfoNCELoss), ("a class", "InfoNCELoss()")),
    "embedding_size": (
        lambda: MemoryQueue(embedding_size=3, memory_size=8),
        ("'embedding_size'", "width="),
    ),
    "memory_size": (lambda: MemoryQueue(width=3, memory_size=8), ("'memory_size'", "size=")),
    "a loss by name": (lambda: MemoryQueue(loss=LOSS, size=8), ("wraps no loss",)),
    "a call of the queue": (lambda: QUEUE(X, IDS), ("queue.extend(", "queue.update(")),
    "k": (lambda: mine(X, Y, k=8), ("mine got", "'k'", "TopK(8)")),
    "num_negatives": (lambda: mine(X, Y, num_negatives=8), ("TopK(8)",)),
    "num_negatives of a corpus": (
        lambda: CorpusMiner(num_negatives=8),
        ("CorpusMiner got", "'num_negatives'", "TopK(8)"),
    ),
    "num_negatives to a miner's call": (
        lambda: CorpusMiner(TopK(2))(X, Y, "nowhere", num_negatives=8),
        ("CorpusMiner.__call__ got", "TopK(8)"),
    ),
    "a window": (lambda: mine(X, Y, TopK(2), range_min=2), ("RankWindow(start, stop)",)),
    "the other end of a window": (lambda: mine(X, Y, TopK(2), range_max=2), ("RankWindow(",)),
    "positive_ids": (lambda: mine(X, Y, TopK(2), positive_ids=IDS), ("positives=", "rows_of")),
    "a margin": (lambda: mine(X, Y, TopK(2), margin=0.1), ("Ceiling(offset=-0.1)",)),
    "an absolute margin": (lambda: mine(X, Y, TopK(2), absolute_margin=0.1), ("Ceiling(offset",)),
    "a relative margin": (
        lambda: mine(X, Y, TopK(2), relative_margin=0.05),
        ("PositiveAware(0.95)",),
    ),
    "positives to the constructor": (
        lambda: CorpusMiner(TopK(2), positives=IDS),
        ("belongs to the call",),
    ),
    "a bound on memory": (lambda: mine(X, Y, TopK(2), memory="2GiB"), ("CorpusMiner(",)),
    "no strategy": (lambda: mine(X, Y), ("'negatives'",)),
    "nothing known": (lambda: mine(X, Y, TopK(2), sunshine=1), ("unexpected", "'sunshine'")),
    "nothing known of the queue": (lambda: MemoryQueue(8, 3, sunshine=1), ("'sunshine'",)),
    "an array": (lambda: LOSS(X.numpy(), Y), ("a ndarray", "torch.from_numpy(queries)")),
    "a list": (lambda: LOSS(X.tolist(), Y), ("a list", "torch.tensor(queries)")),
    "an array to mine": (lambda: mine(X, Y.numpy(), TopK(2)), ("torch.from_numpy(corpus)",)),
    "a list of positives": (
        lambda: mine(X, Y, TopK(2), positives=[[0], [1], [2], [3]]),
        ("positives", "torch.as_tensor(positives)"),
    ),
}


@pytest.mark.parametrize(("call", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_it_says_what_to_write(call: Callable[[], Any], parts: tuple[str, ...]) -> None:
    says(raised(TypeError, call), *parts)


@pytest.mark.parametrize("name", ["indices", "scores", "counts", "anchors", "positives"])
def test_an_attribute_of_one_side(name: str) -> None:
    message = raised(AttributeError, lambda: getattr(FOUND, name))
    says(message, f"no attribute {name!r}", f".queries.{name}", f".candidates.{name}")


def test_what_mined_returns_is_a_tuple_as_before() -> None:
    assert raised(AttributeError, lambda: FOUND.nothing).endswith("no attribute 'nothing'")
    assert not hasattr(FOUND, "indices")
    queries, _ = FOUND
    for found in (copy.copy(FOUND), pickle.loads(pickle.dumps(FOUND)), copy.deepcopy(FOUND)):
        assert found.queries.indices.equal(queries.indices)


def test_signatures_are_those_of_the_source() -> None:
    assert [*inspect.signature(mine).parameters][:3] == ["queries", "corpus", "negatives"]
    assert [*inspect.signature(CorpusMiner).parameters][:2] == ["negatives", "similarity"]
    assert [*inspect.signature(MemoryQueue).parameters][:2] == ["size", "width"]
    for function in (mine, CorpusMiner, MemoryQueue, CorpusMiner.__call__):
        kinds = [one.kind for one in inspect.signature(function).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_a_keyword_of_both_is_taken(tmp_path: Path) -> None:
    """What the table names for one miner, the other has."""
    for function in (mine, CorpusMiner.__call__, CorpusMiner):
        assert set(inspect.signature(function).parameters) & set(ELSEWHERE)
    found = mine(X, Y, TopK(2), positives=IDS, max_score=0.9)
    options = {"memory": "20KiB", "max_score": 0.9}
    on_disk = CorpusMiner(TopK(2), **options)(X, Y, tmp_path, positives=IDS)
    assert on_disk.indices.equal(found.indices)
    assert pickle.loads(pickle.dumps(mine)) is mine
    assert copy.copy(CorpusMiner(TopK(2), **options)).memory == "20KiB"
