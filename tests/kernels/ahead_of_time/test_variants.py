"""How many variants of a kernel there are: a ragged last batch, or a shard, is not compiled anew."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from covering import covering

from benchmarks.launches import OPERATORS, compared
from hardneg.negatives.selection import Selection
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import Search
from hardneg.ops.triton import launch as launches
from hardneg.ops.triton.ahead_of_time import compiling_for
from hardneg.ops.triton.best import best_kernel
from hardneg.similarities import Cosine

RAGGED = [(512, 384), (511, 383), (100, 37), (17, 1), (1, 9), (4096, 16)]


def digests(run: Callable[[], None]) -> set[str]:
    """What one run compiles."""
    with compiling_for(90) as recorder:
        run()
    return {made.digest for made in recorder.compiled}


CASES = [
    ("select, hardest", "cosine"),
    ("select, semi-hard", "euclidean"),
    ("select, 8 hardest", "cosine"),
    ("pair_scores", "cosine"),
    ("penalty_total, hinge", "cosine"),
    ("logsumexp, linear", "cosine"),
    ("penalty_total, hinge", "order"),
    ("whole, hardest", "cosine"),
    ("whole, hinge", "dot"),
    ("whole, InfoNCE", "cosine"),
]


@covering(2, case=CASES, dtype=[torch.bfloat16, torch.float32])
def test_ragged_batches_take_what_was_compiled(case: tuple[str, str], dtype: torch.dtype) -> None:
    operator, similarity = case

    def run(n: int, m: int) -> set[str]:
        return digests(
            lambda: OPERATORS[operator](Fused(), compared(dtype, similarity, (n, m, 64)))
        )

    first = run(*RAGGED[0])
    for shape in RAGGED[1:]:
        assert run(*shape) <= first, shape


def test_shards_take_what_was_compiled() -> None:
    def run(offset: int) -> set[str]:
        x = torch.rand(64, 32).bfloat16()
        comparison = Comparison(x, x, Cosine(), Relation(row_offset=offset, column_offset=1))
        search = Search(Selection("highest", 1))
        return digests(lambda: Fused().scores(comparison).select(search))

    assert run(0) == run(1) == run(64) == run(77)


def keys_of(**changed: object) -> tuple[object, ...]:
    """The key of one launch of a kernel with two parameters of each kind."""
    x = torch.zeros(64)
    given = {"x": x, "stride": 16, "WIDTH": 64, **changed}
    return tuple(launches.specialization(FakeKernel, list(given.values())))


class FakeKernel:
    """The parameters of a kernel as Triton tells them."""

    class Tensors:
        is_constexpr = do_not_specialize = False

    class Count:
        is_constexpr, do_not_specialize = False, True

    class Width:
        is_constexpr, do_not_specialize = True, False

    params = (Tensors, Tensors, Width)


def test_a_launch_is_found_by_what_triton_compiles_for() -> None:
    """Constants by value; strides by alignment; tensors by type and alignment."""
    assert keys_of() == keys_of(stride=32)
    different = [
        keys_of(),
        keys_of(stride=1),
        keys_of(stride=5),
        keys_of(stride=1 << 32),
        keys_of(WIDTH=48),
        keys_of(x=torch.zeros(64).half()),
        keys_of(x=torch.zeros(65)[1:]),
        keys_of(x=None),
    ]
    assert len(set(different)) == len(different)
    assert any(parameter.do_not_specialize for parameter in best_kernel.params)
