"""Devices without float64 (Apple's MPS, some Intel GPUs): nothing makes such a tensor from inputs of another type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from every_loss import BACKEND_IDS, BACKENDS, EVERY, Case, arguments, run, squashed
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hardneg import GradCache, InfoNCELoss, MemoryQueue, TripletLoss
from hardneg.encoders import TextEncoder
from hardneg.metrics import (
    RetrievalAccumulator,
    coco_folds,
    list_recall_at_k,
    map_at_k,
    map_at_r,
    mean_rank,
    mean_reciprocal_rank,
    ndcg,
    precision_at_k,
    r_precision,
    ranking,
    ranks,
    recall_at_k,
    relevance,
    top_candidates,
)
from hardneg.ops import precision
from hardneg.ops.tiled import batch_all


class Refusing(TorchDispatchMode):
    """Raises where an operation returns float64, as MPS does."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = operator(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            if isinstance(x, Tensor) and x.dtype == torch.float64:
                raise TypeError(f"{operator} made a float64 tensor, which the device does not have")
        return found


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    """The mode, inside the project's operators too, each of which is one operation to it.

    They leave autocast before they run, and enter the mode again there.
    """
    autocast = torch.autocast

    class Watched(autocast):  # type: ignore[valid-type, misc]
        def __enter__(self) -> Any:
            self.watching = Refusing()
            self.watching.__enter__()
            return super().__enter__()

        def __exit__(self, *error: Any) -> Any:
            left = super().__exit__(*error)
            self.watching.__exit__(*error)
            return left

    monkeypatch.setattr(torch, "autocast", Watched)
    monkeypatch.setattr(batch_all, "has_float64", lambda device: False)
    with Refusing() as mode:
        yield mode


CASES = {
    str(which): {t: arguments(which, dtype=t) for t in (torch.float32, torch.float16)}
    for which in EVERY
}


def test_the_mode_sees_into_operators(refusing: Refusing) -> None:
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64)
    x = torch.randn(8, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_all, "has_float64", lambda device: True)
        patch.setattr(batch_all, "FEWEST_TO_SORT", 1)
        with pytest.raises(TypeError, match="float64"):
            TripletLoss(negatives="all", backend="tiled")(x, torch.arange(8) // 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize("which", EVERY, ids=str)
def test_every_loss(which: Case, backend: object, dtype: torch.dtype, refusing: Refusing) -> None:
    embeddings, groups = CASES[str(which)][dtype]
    for reduction in ("mean", "sum", "mean_active"):
        leaves = [x.clone().requires_grad_() for x in embeddings]
        value = run(which, leaves, groups, backend=backend, reduction=reduction)
        value.backward()
        assert all(x.grad is not None for x in leaves)
    run(which, embeddings, groups, backend=backend)  # plain sums, where nothing is learnt
    run(which, embeddings, groups, backend=backend, return_stats=True)


@pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
@pytest.mark.parametrize(
    "similarity",
    ["euclidean", "squared_euclidean", "dot", "order", squashed],
    ids=lambda s: getattr(s, "__name__", s),
)
def test_similarities_and_ids(similarity: Any, backend: object, refusing: Refusing) -> None:
    x, y, ids = torch.randn(70, 5), torch.randn(90, 5), torch.arange(90) // 3
    for reduction in ("mean", "none"):
        loss = TripletLoss(
            negatives="hardest", similarity=similarity, backend=backend, reduction=reduction
        )
        found = loss(x.requires_grad_(), ids[:70], y, ids)
        (found if reduction == "mean" else found[0].sum()).backward()


def test_batch_all_with_many_positives_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """One positive after the other, where the sums of all scores would need float64."""
    x, labels = torch.randn(60, 5), torch.arange(60) % 2
    for ceiling in ("all", "semihard"):
        loss = TripletLoss(positives="all", negatives=ceiling, backend="tiled")
        expected = loss(x, labels)
        monkeypatch.setattr(batch_all, "has_float64", lambda device: False)
        torch.testing.assert_close(loss(x, labels), expected)


def test_queues_chunks_and_encoders(refusing: Refusing) -> None:
    queue = MemoryQueue(13, 5)
    loss = InfoNCELoss()
    for step in range(3):
        x, y, ids = (
            torch.randn(6, 5, requires_grad=True),
            torch.randn(6, 5),
            torch.arange(6) + 6 * step,
        )
        candidates, candidate_ids = queue.extend(y, ids)
        loss(x, candidates, query_ids=ids, candidate_ids=candidate_ids).backward()
        queue.update(y, ids)
    first, second = nn.Linear(4, 5), nn.Linear(3, 5)
    cache = GradCache(first, second, chunk_size=3)
    cache.backward(loss, torch.randn(8, 4), torch.randn(8, 3))
    words, lengths = torch.randint(1, 20, (4, 6)), torch.tensor([6, 5, 3, 1])
    for pooling in ("last", "mean", "max", "gpo"):
        encoder = TextEncoder(20, 8, 5, pooling=pooling, word_drop=0.2)
        encoder(words, lengths).sum().backward()


# metrics


class Elsewhere(Tensor):
    """Numbers that say they are on another device, which has no float64; operations on them run on the CPU.

    It is called "meta", for which PyTorch needs no driver.
    """

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Any:
        layout = {"strides": numbers.stride(), "dtype": numbers.dtype, "device": "meta"}
        made = Tensor._make_wrapper_subclass(cls, numbers.shape, **layout)
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return elsewhere(operator, args, kwargs or {})


def elsewhere(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run on the CPU; results stay on the device, but for copies to the CPU."""
    leaves = tree_leaves((args, kwargs))
    target = kwargs.get("device")
    there = any(isinstance(x, Elsewhere) for x in leaves)
    if target is not None:
        there = torch.device(target).type == "meta"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain = tree_map(lambda x: x.numbers if isinstance(x, Elsewhere) else x, (args, kwargs))
    found = operator(*plain[0], **plain[1])
    if not there:
        return found
    for x in tree_leaves(found):
        if isinstance(x, Tensor) and x.dtype == torch.float64:
            raise TypeError(f"{operator} made a float64 tensor elsewhere")
    return tree_map(lambda x: Elsewhere(x) if isinstance(x, Tensor) else x, found)


class Factories(TorchDispatchMode):
    """Sends there what is made from nothing, too."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return elsewhere(operator, args, kwargs or {})


def test_who_has_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision.has_float64(torch.device("cpu"))
    assert precision.has_float64(torch.device("cuda", 1))
    assert not precision.has_float64(torch.device("mps"))
    for answer in (True, False):
        properties = SimpleNamespace(has_fp64=answer)
        monkeypatch.setattr(
            torch.xpu, "get_device_properties", lambda device, found=properties: found
        )
        assert precision.has_float64(torch.device("xpu", 0)) == answer


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ranking, relevance):
        monkeypatch.setattr(module, "has_float64", lambda device: device.type != "meta")


def products(q: Tensor, c: Tensor) -> Tensor:
    return q @ c.T


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "order", products])
def test_metrics_rank_on_the_cpu(similarity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But by a callable, which may hold parameters elsewhere; its values are averaged on the CPU."""
    if similarity is products:  # autocast knows no device of the name that stands for the other
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    x, y, ids = torch.randn(20, 6), torch.randn(40, 6), torch.arange(40) // 2
    told = {"similarity": similarity}
    grades = torch.rand(20, 40)
    expected = ranks(x, y, ids[:20], ids, **told)
    with Factories():
        q, c, q_ids, c_ids, gains = (Elsewhere(z) for z in (x, y, ids[:20], ids, grades))
        with pytest.raises(TypeError, match="elsewhere"):
            q.to(torch.float64)
        found = ranks(q, c, q_ids, c_ids, **told)
        assert found.device.type == "meta"
        assert torch.equal(found.cpu(), expected)
        for average in (lambda r: recall_at_k(r, 3), mean_rank, mean_reciprocal_rank):
            assert average(found) == average(expected)
        cut = [partial(one, k=3) for one in (map_at_k, precision_at_k, list_recall_at_k)]
        for metric in (map_at_r, r_precision, ndcg, *cut):
            assert metric(q, c, q_ids, c_ids, **told) == metric(x, y, ids[:20], ids, **told)
            values = metric(q, c, q_ids, c_ids, per_query=True, **told)
            assert torch.equal(values, metric(x, y, ids[:20], ids, per_query=True, **told))
        found_gain = ndcg(q, c, relevance=gains, **told)
        first = top_candidates(q, c, 5, **told)
    assert found_gain == pytest.approx(ndcg(x, y, relevance=grades, **told))
    assert first.indices.cpu().equal(top_candidates(x, y, 5, **told).indices)


@pytest.mark.usefixtures("lacking")
def test_reports_rank_on_the_cpu() -> None:
    images, captions = torch.randn(10, 6), torch.randn(50, 6)
    expected = coco_folds(images, captions)
    accumulator = RetrievalAccumulator(device=None, repeated_images="keep")
    with Factories():
        assert coco_folds(Elsewhere(images), Elsewhere(captions)) == expected
        ids = torch.arange(10)
        accumulator.update(
            Elsewhere(images),
            Elsewhere(captions),
            Elsewhere(ids),
            Elsewhere(ids.repeat_interleave(5)),
        )
        assert accumulator.compute().rsum >= 0
