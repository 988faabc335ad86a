"""Losses on pairs refuse several candidates a query, and ids that contradict the pairs; extra negatives are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import ONE_OF_EACH, Case, numbers
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hardneg import ContrastiveLoss, InfoNCELoss, MemoryQueue, SigmoidLoss
from hardneg.functional import info_nce_loss

of_pairs = pytest.mark.parametrize(
    "which", [w for w in ONE_OF_EACH if w.kind == "paired"], ids=lambda which: which.name
)
WAYS = ("repeat the queries' rows", 'positives="all"', "one candidate a query for each batch")


def sets(n: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return numbers(n, 5, seed), numbers(m, 5, seed + 1)


def refused(call: Any, *parts: str) -> None:
    with pytest.raises(ValueError, match="paired with candidate i") as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(("n", "k"), [(8, 5), (3, 2), (6, 10), (2, 3)])
@of_pairs
def test_several_candidates_a_query(which: Case, n: int, k: int) -> None:
    queries, candidates = sets(n, k * n)
    refused(lambda: which(queries, candidates), f"{k} x {n}", *WAYS, "extra negatives")
    ids = torch.arange(n)
    told = (ids, ids.repeat_interleave(k))
    refused(lambda: which(queries, candidates, *told), "contradict the pairing", *WAYS)
    mask = told[0][:, None] == told[1][None]
    refused(
        lambda: which.function(queries, candidates, positive_mask=mask),
        "positive_mask[i, i]",
        *WAYS,
    )


@pytest.mark.parametrize("backend", ["auto", "dense", "tiled"])
@of_pairs
def test_each_way_out(which: Case, backend: str) -> None:
    n, k = 4, 3
    queries, candidates = sets(n, k * n)
    ids = torch.arange(n).repeat_interleave(k)
    repeated = queries.repeat_interleave(k, 0)
    assert which(repeated, candidates, ids, ids, backend=backend).isfinite()
    assert which(queries, candidates[::k], backend=backend).isfinite()
    extra = (torch.arange(n), torch.arange(k * n))
    found = which(queries, candidates, *extra, backend=backend)
    # one candidate less is no multiple, and is taken as extra negatives as it is
    fewer = which(queries, candidates[:-1], *extra[:1], extra[1][:-1], backend=backend)
    expected = which(queries, candidates[:-1], backend=backend)
    torch.testing.assert_close(fewer, expected)
    assert found >= 0


@pytest.mark.parametrize("loss", [InfoNCELoss(positives="all"), SigmoidLoss(positives="all")])
def test_every_candidate_of_an_id_as_a_positive(loss: Any) -> None:
    queries, candidates = sets(4, 20)
    ids = torch.arange(4)
    value = loss(queries, candidates, query_ids=ids, candidate_ids=ids.repeat_interleave(5))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    told = {"query_ids": ids, "candidate_ids": ids.repeat_interleave(5)[order]}
    torch.testing.assert_close(loss(queries, candidates[order], **told), value)


@pytest.mark.parametrize("m", [6, 7, 9, 13])
@of_pairs
def test_ids_that_contradict_the_pairs(which: Case, m: int) -> None:
    queries, candidates = sets(6, m)
    ids = torch.tensor([7, -2, 7, 40, 0, 3])
    further = torch.arange(100, 100 + m - 6)
    assert which(queries, candidates, ids, torch.cat([ids, further])).isfinite()
    for order in ([1, 0, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4], [5, 4, 3, 2, 1, 0]):
        wrong = torch.cat([ids[order], further])
        refused(lambda w=wrong: which(queries, candidates, ids, w), "contradict", "candidate i")
    assert which(queries, candidates, ids, torch.cat([ids[[2, 1, 0, 3, 4, 5]], further])).isfinite()


def test_ids_of_a_pair_that_is_ignored() -> None:
    queries, candidates = sets(4, 6)
    ids, others = torch.arange(4), torch.tensor([0, 9, 2, 3, 10, 11])
    ignore = torch.zeros(4, 6, dtype=torch.bool)
    told = {"query_ids": ids, "candidate_ids": others, "ignore_mask": ignore}
    refused(lambda: ContrastiveLoss()(queries, candidates, **told), "contradict")
    ignore[1, 1] = True
    assert ContrastiveLoss()(queries, candidates, **told).isfinite()


@of_pairs
def test_fewer_candidates_do_not_lead_into_it(which: Case) -> None:
    queries, candidates = sets(10, 2)
    refused(
        lambda: which(queries, candidates),
        "10 queries but 2 candidates",
        "candidates.repeat_interleave(5, 0)",
        "swap the two inputs only if",
    )


def test_one_query_tells_nothing() -> None:
    queries, candidates = sets(1, 6)
    assert info_nce_loss(queries, candidates).isfinite()


def test_a_queue_goes_on_working() -> None:
    loss, queue = InfoNCELoss(), MemoryQueue(size=8, width=5)
    for step in range(4):
        queries, candidates = sets(4, 4, seed=step)
        ids = 4 * step + torch.arange(4)
        more, more_ids = queue.extend(candidates, ids)
        assert loss(queries, more, query_ids=ids, candidate_ids=more_ids).isfinite()
        queue.update(candidates, ids)


# Without reading


@pytest.mark.parametrize("m", [6, 12, 7])
@of_pairs
def test_compiled_it_is_an_assertion(which: Case, m: int) -> None:
    torch._dynamo.reset()
    queries, candidates = sets(6, m)
    ids = torch.arange(6)
    right = torch.arange(m)
    wrong = right.clone()
    wrong[:2] = torch.tensor([1, 0])
    compiled = torch.compile(which, fullgraph=True, backend="aot_eager")
    found = compiled(queries, candidates, ids, right)
    torch.testing.assert_close(found, which(queries, candidates, ids, right))
    with pytest.raises(RuntimeError, match="contradict the pairing"):
        compiled(queries, candidates, ids, wrong)


@pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="fake GPU tensors want torch built for one"
)
def test_on_another_device_nothing_is_read() -> None:
    """Fake tensors of a GPU raise where a number is read."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        queries, candidates = (torch.empty(4, 5, device="cuda") for _ in range(2))
        ids = torch.zeros(4, dtype=torch.long, device="cuda")
        told = {"query_ids": ids, "candidate_ids": ids + 1}
        assert ContrastiveLoss()(queries, candidates, **told).device.type == "cuda"


def test_a_queue_is_no_list_of_several_candidates_a_query() -> None:
    """MoCo's sizes are multiples of the batch: from 101 times on nobody has that many captions."""
    x, queue = numbers(4, 6, 0), numbers(4 * 100, 6, 1)
    with pytest.raises(ValueError, match="repeat the queries' rows"):
        ContrastiveLoss()(x, queue)
    assert ContrastiveLoss()(x, torch.cat([x, queue])).isfinite()
