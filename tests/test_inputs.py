"""Numbers, labels and tensors as users have them: taken where their meaning is plain, else refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from every_loss import EVERY, ONE_OF_EACH, Case, arguments, numbers, run, value_and_gradients
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

import hardneg
from hardneg import (
    Ceiling,
    CircleLoss,
    ContrastiveLoss,
    DistanceWeighted,
    InfoNCELoss,
    MarginLoss,
    MemoryQueue,
    MultiSimilarityLoss,
    PairwiseContrastiveLoss,
    PolynomialLoss,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SigmoidLoss,
    Steps,
    Tiled,
    TopK,
    TripletLoss,
    UnifiedPairLoss,
    Warmup,
)
from hardneg.metrics import recall_at_k

one_of_each = pytest.mark.parametrize("which", ONE_OF_EACH, ids=lambda which: which.name)
X, Y, LABELS = numbers(8, 4, 0), numbers(8, 4, 1), torch.arange(8) // 2


# Numbers

MAY_BE_TENSORS = ("temperature", "bias", "beta")
NUMPY = (np.float32, np.float64, np.float16)
REAL: list[tuple[Callable[[Any], Any], str, float]] = [
    (lambda v: ContrastiveLoss(margin=v), "margin", 0.5),
    (lambda v: UnifiedPairLoss(gamma=v), "gamma", 0.5),
    (lambda v: PolynomialLoss(positive=(v, 0.25)), "positive", 0.5),
    (lambda v: InfoNCELoss(v), "temperature", 0.5),
    (lambda v: SigmoidLoss(bias=v), "bias", -2.0),
    (lambda v: MarginLoss(beta=v), "beta", 0.5),
    (lambda v: CircleLoss(gamma=v), "gamma", 8.0),
    (lambda v: MultiSimilarityLoss(epsilon=v), "epsilon", 0.125),
    (lambda v: PairwiseContrastiveLoss(negative_margin=v), "negative_margin", 0.5),
    (lambda v: Ceiling(offset=v), "offset", 0.5),
    (lambda v: DistanceWeighted(cutoff=v), "cutoff", 0.5),
    (lambda v: SelectiveHardest(v), "threshold", 0.5),
]
WHOLE: list[tuple[Callable[[Any], Any], str, int]] = [
    (lambda k: TopK(k), "k", 3),
    (lambda k: RandomK(k), "k", 3),
    (lambda k: DistanceWeighted(k=k), "k", 3),
    (lambda k: RankWindow(k, k + 2), "start", 3),
    (lambda k: Warmup(TopK(1), TopK(2), k), "steps", 3),
    (lambda k: Tiled((k, 5)), "tile", 3),
    (lambda k: MemoryQueue(size=k, width=4), "size", 3),
]


@pytest.mark.parametrize("kind", NUMPY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("make", "name", "value"), REAL)
def test_real_numbers_of_numpy(make: Any, name: str, value: float, kind: type) -> None:
    assert repr(make(kind(value))) == repr(make(value))
    if name not in MAY_BE_TENSORS:
        with pytest.raises(TypeError, match=f"{name} is a tensor: expected a number; call .item"):
            make(torch.tensor(value))
    with pytest.raises(TypeError, match="expected a number"):
        make(np.bool_(True))
    with pytest.raises(ValueError, match="finite"):
        make(kind(np.nan))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize(("make", "name", "value"), WHOLE)
def test_whole_numbers_of_numpy(make: Any, name: str, value: int, kind: type) -> None:
    made = make(kind(value))
    assert repr(made) == repr(make(value))
    assert not isinstance(getattr(made, name), np.generic)
    with pytest.raises((TypeError, ValueError), match=f"{name} is"):
        make(np.float32(2.5))


def test_numbers_of_numpy_in_calls() -> None:
    value = hardneg.functional.contrastive_loss(
        X, Y, margin=np.float32(0.5), negatives=TopK(np.int64(2))
    )
    assert torch.equal(
        value, hardneg.functional.contrastive_loss(X, Y, margin=0.5, negatives=TopK(2))
    )
    tiled = ContrastiveLoss(np.float32(0.5), "all", backend=Tiled((np.int64(3), np.int64(3))))
    assert torch.equal(tiled(X, Y), ContrastiveLoss(0.5, "all", backend=Tiled((3, 3)))(X, Y))
    assert Steps((np.int64(0), TopK(1)), (np.int64(5), TopK(2)))(np.int64(6)) == TopK(2)
    assert recall_at_k(torch.tensor([0, 3, 1]), np.int64(2)) == pytest.approx(2 / 3)


# Labels and masks

INTEGERS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def layouts_of(x: Tensor) -> Iterator[Tensor]:
    """The same numbers: every second of a longer vector, a column of a matrix, from a broadcast row."""
    yield torch.stack([x, x + 1], 1).flatten()[::2]
    yield torch.stack([x, x - 1, x], 1)[:, 2]
    yield x.expand(3, -1)[1]


@one_of_each
@pytest.mark.parametrize("backend", ["auto", "dense", "tiled", Tiled((3, 5))], ids=str)
def test_labels_in_any_layout(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    groups = groups or [torch.arange(7) // 2, torch.arange(9) // 2]
    expected = value_and_gradients(which, embeddings, groups, backend=backend)
    for layouts in zip(*map(layouts_of, groups), strict=True):
        found = value_and_gradients(which, embeddings, list(layouts), backend=backend)
        assert torch.equal(found[0], expected[0])


@one_of_each
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_labels_of_any_integer_type(which: Case, dtype: torch.dtype) -> None:
    embeddings, groups = arguments(which)
    groups = groups or [torch.arange(7) // 2, torch.arange(9) // 2]
    expected = run(which, embeddings, groups)
    assert torch.equal(run(which, embeddings, [g.to(dtype) for g in groups]), expected)


# Tensors that are none of these


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


SPECIAL = [
    (lambda x, _: x.to_sparse(), "to_dense"),
    (lambda x, _: x.to_sparse_csr(), "to_dense"),
    (lambda x, _: torch.nested.nested_tensor(list(x.split(2))), "nested"),
    (lambda x, _: torch.nested.nested_tensor(list(x.split(2)), layout=torch.jagged), "nested"),
    (lambda x, m: distribute_tensor(x, m), "full_tensor"),
    (lambda x, _: x.to_mkldnn(), "to_dense"),
]


@pytest.mark.filterwarnings("ignore:.*(Sparse|sparse|nested).*:UserWarning")
@pytest.mark.parametrize(("make", "advice"), SPECIAL)
@one_of_each
def test_tensors_of_another_kind(which: Case, make: Any, advice: str, mesh: Any) -> None:
    first, second = (
        ("queries", "candidates") if which.kind == "paired" else ("embeddings", "reference")
    )
    groups = () if which.kind == "paired" else (LABELS, LABELS)
    with pytest.raises(TypeError, match=f"{first} .*{advice}"):
        which(make(X, mesh), Y, *groups)
    with pytest.raises(TypeError, match=f"{second} .*{advice}"):
        which(X, make(Y, mesh), *groups)


@pytest.mark.parametrize(("make", "advice"), [SPECIAL[0], SPECIAL[4]])
def test_ids_and_masks_of_another_kind(make: Any, advice: str, mesh: Any) -> None:
    special = make(LABELS, mesh)
    with pytest.raises(TypeError, match=f"labels .*{advice}"):
        TripletLoss()(X, special)
    with pytest.raises(TypeError, match=f"query_ids .*{advice}"):
        ContrastiveLoss()(X, Y, query_ids=special, candidate_ids=LABELS)
    mask = make(torch.eye(8, dtype=torch.bool), mesh)
    with pytest.raises(TypeError, match=f"ignore_mask .*{advice}"):
        ContrastiveLoss()(X, Y, ignore_mask=mask)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.cfloat]
)
def test_types_that_a_queue_cannot_store(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"dtype is {dtype}: expected .*torch.bfloat16"):
        MemoryQueue(size=4, width=2, dtype=dtype)
    with pytest.raises(TypeError, match="floating-point"):
        ContrastiveLoss()(X.to(dtype), Y.to(dtype))


# A default device that is not the tensors'


@pytest.fixture
def elsewhere() -> Iterator[Callable[[], None]]:
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


@pytest.mark.parametrize("which", EVERY, ids=str)
@pytest.mark.parametrize("backend", ["auto", "dense", "tiled", Tiled((3, 5))], ids=str)
def test_the_default_device_does_not_matter(which: Case, backend: object, elsewhere: Any) -> None:
    embeddings, groups = arguments(which)
    expected = value_and_gradients(which, embeddings, groups, backend=backend)
    elsewhere()
    found = value_and_gradients(which, embeddings, groups, backend=backend)
    value, stats = run(which, embeddings, groups, backend=backend, return_stats=True)
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(a, b) for a, b in zip(found[1], expected[1], strict=True))
    assert {value.device.type, stats.gap.device.type} == {"cpu"}


@pytest.mark.parametrize("width", [8, 96])
def test_nor_for_large_batches(width: int, elsewhere: Any) -> None:
    x, y, ids = numbers(700, width, 0), numbers(701, width, 1), torch.arange(701) // 3
    far = ContrastiveLoss(negatives="all", similarity="euclidean")
    losses = [far, ContrastiveLoss(), InfoNCELoss(), SigmoidLoss()]
    told = {"query_ids": ids[:700], "candidate_ids": ids}
    expected = [loss(x, y, **told) for loss in losses]
    triplet = TripletLoss(similarity=lambda a, b: a @ b.T)
    of_labels = triplet(x, ids[:700])
    elsewhere()
    for loss, value in zip(losses, expected, strict=True):
        assert torch.equal(loss(x, y, **told), value)
    assert torch.equal(triplet(x, ids[:700]), of_labels)
    fresh = TripletLoss(similarity=lambda a, b: a @ b.T + 0)
    assert torch.equal(fresh(x, ids[:700]), of_labels)
