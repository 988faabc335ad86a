"""The memory queue: order, ids, warm-up, state and fixed shapes."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from every_loss import LABELLED, PAIRED, Case, numbers
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from hardneg import ContrastiveLoss, InfoNCELoss, MemoryQueue, SupConLoss

WIDTH = 4


def batch(rows: int, start: int) -> tuple[Tensor, Tensor]:
    """Embeddings that no other batch has, and their ids."""
    return numbers(rows, WIDTH, seed=start), torch.arange(start, start + rows)


def filled(*sizes: int, size: int = 8, **options: object) -> MemoryQueue:
    """A queue after updates of these sizes."""
    queue, start = MemoryQueue(size, WIDTH, **options), 100
    for rows in sizes:
        queue.update(*batch(rows, start))
        start += rows
    return queue


def test_first_in_first_out_across_the_wrap_and_in_batches_beyond_the_size() -> None:
    queue, expected, start = MemoryQueue(7, WIDTH), deque(maxlen=7), 0
    for rows in (3, 3, 0, 3, 1, 7, 5, 16, 2, 8, 6):
        embeddings, ids = batch(rows, start)
        queue.update(embeddings, ids)
        expected.extend(zip(embeddings, ids.tolist(), strict=True))
        start += rows
        found, numbers_found = queue.entries()
        assert numbers_found.tolist() == [number for _, number in expected]
        assert torch.equal(found, torch.stack([row for row, _ in expected]))
        assert queue.count == len(expected)


@pytest.mark.parametrize("which", PAIRED, ids=str)
def test_entries_are_further_candidates_without_a_gradient(which: Case) -> None:
    """Against the loss on candidates joined by hand, and in float64."""
    queue = filled(5, 6, dtype=torch.float64)
    entries, entry_ids = queue.entries()
    queries, candidates = (numbers(5, WIDTH, seed, torch.float64) for seed in (1, 2))
    ids = torch.tensor([0, 1, 2, 2, 104])
    found, expected = [x.requires_grad_() for x in (candidates, candidates.detach().clone())]
    joined = torch.cat([expected, entries]), torch.cat([ids, entry_ids])
    extended, extended_ids = queue.extend(found, ids)
    options = {"query_groups": ids, "backend": "dense"}
    ours = which(queries, extended, candidate_groups=extended_ids, **options)
    theirs = which(queries, joined[0], candidate_groups=joined[1], **options)
    ours.backward()
    theirs.backward()
    assert torch.equal(ours, theirs)
    assert torch.equal(found.grad, expected.grad)
    assert not queue.embeddings.requires_grad
    assert found.grad.abs().sum() > 0


@pytest.mark.parametrize("which", LABELLED, ids=str)
def test_labels_meet_the_queue_as_their_reference(which: Case) -> None:
    """``same_set`` leaves out the row itself alone, as an explicit mask would."""
    queue = MemoryQueue(6, WIDTH, dtype=torch.float64)
    queue.update(numbers(6, WIDTH, 3, torch.float64), torch.arange(6) % 3)
    x, labels = numbers(7, WIDTH, 4, torch.float64), torch.arange(7) % 4
    reference, groups = queue.extend(x, labels)
    itself = torch.eye(7, 13, dtype=torch.bool)
    expected = which(x, reference, labels, groups, ignore_mask=itself, backend="dense")
    alone = which(x, None, labels)
    assert not torch.equal(expected, alone)
    for backend in ("dense", "tiled"):
        found = which(x, reference, labels, groups, same_set=True, backend=backend)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_sample_is_not_its_own_negative() -> None:
    """An older embedding of the very caption is queued: only under another id is it a negative."""
    images, captions = numbers(4, WIDTH, 0), numbers(4, WIDTH, 1)
    ids, loss = torch.tensor([5, -1, 2**62, 0]), ContrastiveLoss(negatives="all")
    plain = loss(images, captions, query_ids=ids, candidate_ids=ids)
    for numbers_queued, changes in ((ids, False), (ids + 1, True)):
        queue = MemoryQueue(4, WIDTH)
        queue.update(captions, numbers_queued)
        rows, row_ids = queue.extend(captions[:4], ids)
        own = torch.eye(4, dtype=torch.bool)
        others = torch.cat([torch.zeros_like(own), ~own], dim=1)
        found = loss(images, rows, query_ids=ids, candidate_ids=row_ids)
        only_own = loss(images, rows, positive_mask=torch.cat([own, own], 1), ignore_mask=others)
        assert torch.equal(only_own, plain)
        assert (found > plain) or not changes


def test_warm_up_counts_the_rows_put_in() -> None:
    queue = MemoryQueue(4, WIDTH, warmup=9)
    for start in (0, 3, 6):
        assert queue.entries()[1].tolist() == []
        assert len(queue.extend(*batch(2, 50))[0]) == 2
        assert queue.extend_fixed(*batch(2, 50), queries=3).ignore_mask.sum() == 3 * 4
        queue.update(*batch(3, start))
    assert queue.entries()[1].tolist() == [5, 6, 7, 8]
    assert not queue.extend_fixed(*batch(2, 50), queries=3).ignore_mask.any()


def test_only_update_changes_it() -> None:
    """A loss that is computed twice a step, as by gradient caching or LBFGS, adds the batch once."""
    queue, loss = filled(5), InfoNCELoss()
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    for _ in range(2):
        candidates, ids = queue.extend(*batch(3, 0))
        loss(numbers(3, WIDTH, 9), candidates, query_ids=ids[:3], candidate_ids=ids)
        queue.extend_fixed(*batch(3, 0), queries=3)
    for name, value in queue.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_all_of_the_state_is_in_the_state_dict() -> None:
    """Pointer and fill included: from there on both queues do the same."""
    for rows in (5, 8, 11):
        queue, resumed = filled(rows), MemoryQueue(8, WIDTH)
        resumed.load_state_dict(queue.state_dict())
        for start in (0, 3, 6):
            for one in (queue, resumed):
                one.update(*batch(3, start))
            for ours, theirs in zip(resumed.entries(), queue.entries(), strict=True):
                assert torch.equal(ours, theirs)
    with pytest.raises(RuntimeError, match="size mismatch"):
        MemoryQueue(9, WIDTH).load_state_dict(queue.state_dict())


def test_an_update_does_not_reach_into_a_loss_before_its_backward() -> None:
    queue, x = filled(8), numbers(3, WIDTH, 7).requires_grad_()
    y = x.detach().clone().requires_grad_()
    labels = torch.arange(3) + 100
    value = SupConLoss()(x, labels, *queue.entries())
    queue.update(*batch(3, 0))
    value.backward()
    SupConLoss()(y, labels, *filled(8).entries()).backward()
    assert torch.equal(x.grad, y.grad)


def test_stored_in_half_the_bytes() -> None:
    queue = filled(8, dtype=torch.bfloat16)
    rows, _ = queue.extend(*batch(2, 0))
    assert queue.embeddings.dtype == torch.bfloat16
    assert rows.dtype == torch.float32
    assert torch.equal(rows[2:], batch(8, 100)[0].bfloat16().float())


STEPS = pytest.mark.parametrize("warmup", [0, 7])


@STEPS
@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_fixed_shapes_give_the_same_losses(warmup: int, backend: str) -> None:
    """Slots without an entry count nowhere; neither does the order of the slots."""
    queue = MemoryQueue(8, WIDTH, warmup=warmup, dtype=torch.float64)
    for step, which in enumerate(PAIRED):
        queries, candidates = (
            numbers(3, WIDTH, 50 + 2 * step + side, torch.float64) for side in (0, 1)
        )
        ids = torch.arange(3 * step, 3 * step + 3)
        rows, row_ids = queue.extend(candidates, ids)
        fixed = queue.extend_fixed(candidates, ids, queries=3)
        assert fixed.candidates.shape == (11, WIDTH)
        options = {"query_groups": ids, "backend": backend}
        expected = which(queries, rows, candidate_groups=row_ids, **options)
        groups = {"candidate_groups": fixed.ids, "ignore_mask": fixed.ignore_mask}
        found = which(queries, fixed.candidates, **groups, **options)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        queue.update(candidates, ids)


def test_fixed_shapes_compile_once_and_whole() -> None:
    loss, counter = ContrastiveLoss(), CompileCounterWithBackend("aot_eager")
    compiled_queue, plain_queue = MemoryQueue(8, WIDTH), MemoryQueue(8, WIDTH)

    def step(queue: MemoryQueue, queries: Tensor, candidates: Tensor, ids: Tensor) -> Tensor:
        rows, row_ids, ignore = queue.extend_fixed(candidates, ids, queries=len(queries))
        value = loss(queries, rows, query_ids=ids, candidate_ids=row_ids, ignore_mask=ignore)
        queue.update(candidates, ids)
        return value

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for start in range(0, 30, 5):
        candidates, ids = batch(5, start)
        found = compiled(compiled_queue, numbers(5, WIDTH, 200 + start), candidates, ids)
        expected = step(plain_queue, numbers(5, WIDTH, 200 + start), candidates, ids)
        torch.testing.assert_close(found, expected)
    torch._dynamo.reset()
    assert counter.frame_count == 1
    assert torch.equal(compiled_queue.entries()[0], plain_queue.entries()[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MemoryQueue(0, 4), ValueError, "size is 0: expected at least 1"),
        (lambda: MemoryQueue(4, 4, warmup=-1), ValueError, "warmup is -1: expected at least 0"),
        (lambda: MemoryQueue(4, 4, dtype=torch.int8), TypeError, "dtype is torch.int8: expected"),
        (
            lambda: filled(3).update(torch.randn(2, 5), torch.arange(2)),
            ValueError,
            r"embeddings have shape \(2, 5\): expected \(rows, 4\)",
        ),
        (
            lambda: filled(3).extend(torch.randn(2, 4), torch.arange(3)),
            ValueError,
            r"ids has shape \(3,\): expected \(2,\), one id a row",
        ),
        (
            lambda: filled(3).update([[0.0]], torch.arange(1)),
            TypeError,
            "embeddings is .*: expected a Tensor",
        ),
        (
            lambda: filled(3).extend_share(*batch(2, 0)),
            ValueError,
            "extend_share needs a queue that ranks share: .*group=",
        ),
    ],
)
def test_messages(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
