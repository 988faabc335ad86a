"""Mistakes raise on every rank, and a rank that is gone stops the others."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from process_groups import ProcessGroup, ProcessGroups
from torch import Tensor

import hardneg
from hardneg.distributed import AcrossRanks


def test_without_a_process_group() -> None:
    loss = AcrossRanks(hardneg.ContrastiveLoss())
    with pytest.raises(RuntimeError, match=r"torchrun.*init_process_group"):
        loss(torch.randn(3, 2), torch.randn(3, 2))


def test_something_that_is_no_loss() -> None:
    with pytest.raises(TypeError, match="expected a loss module of hardneg"):
        AcrossRanks(torch.nn.CrossEntropyLoss())
    with pytest.raises(TypeError, match="expected a loss module of hardneg"):
        AcrossRanks(hardneg.ContrastiveLoss)


def test_a_similarity_that_is_trained() -> None:
    class Bilinear(torch.nn.Linear):
        def forward(self, queries: Tensor, candidates: Tensor) -> Tensor:
            return super().forward(queries) @ candidates.T

    loss = hardneg.ContrastiveLoss(similarity=Bilinear(2, 2), backend="dense")
    with pytest.raises(ValueError, match="trainable parameters"):
        AcrossRanks(loss)


def test_the_loss_itself_still_works_alone() -> None:
    loss = hardneg.InfoNCELoss(hardneg.Learned(0.07))
    across = AcrossRanks(loss)
    assert loss(torch.randn(3, 2), torch.randn(3, 2)).isfinite()
    assert next(across.parameters()) is next(loss.parameters())


X, LABELS = torch.ones(3, 2), torch.arange(3)


def other_options(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss(margin=0.1 * (rank + 1)))(X, X)


def other_strategy(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X, negatives=["all", "hardest"][rank % 2])


def other_loss(rank: int) -> Any:
    return AcrossRanks([hardneg.ContrastiveLoss, hardneg.InfoNCELoss][rank % 2]())(X, X)


def other_mode(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss(), ring=rank == 1)(X, X)


def other_arguments(rank: int) -> Any:
    ids = {"query_ids": LABELS, "candidate_ids": LABELS} if rank else {}
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X, **ids)


def other_masks(rank: int) -> Any:
    """Of the same shape, but one leaves pairs out and the other makes positives of them."""
    mask = {["ignore_mask", "positive_mask"][rank]: torch.ones(3, 6, dtype=torch.bool)}
    return AcrossRanks(hardneg.InfoNCELoss(positives="all"))(X, X, **mask)


def nested_rows(rank: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that nested tensors are a prototype
        x = X if rank else torch.nested.nested_tensor([X, X])
    return AcrossRanks(hardneg.ContrastiveLoss())(x, X)


def sparse_rows(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss())(X if rank else X.to_sparse(), X)


def ids_of_other_pairs(rank: int) -> Any:
    """Right on rank 0; on rank 1 the candidates are in another order than the queries."""
    ids = LABELS + 10 * rank
    return AcrossRanks(hardneg.ContrastiveLoss())(
        X, X, query_ids=ids, candidate_ids=ids.flip(0) if rank else ids
    )


def ids_of_other_pairs_in_a_ring(rank: int) -> Any:
    """With further candidates behind, more of them on rank 0."""
    ids = LABELS + 10 * rank
    further = torch.arange(2 - rank) + 100
    own = ids.flip(0) if rank else ids
    candidates = torch.cat([X, X[: 2 - rank]])
    return AcrossRanks(hardneg.InfoNCELoss(), ring=True)(
        X, candidates, query_ids=ids, candidate_ids=torch.cat([own, further])
    )


def twice_the_candidates(rank: int) -> Any:
    """A multiple of the queries over all ranks, though on neither of them."""
    return AcrossRanks(hardneg.ContrastiveLoss())(X, torch.ones(5 + 2 * rank, 2))


def other_type(rank: int) -> Any:
    x = X.double() if rank else X
    return AcrossRanks(hardneg.ContrastiveLoss())(x, x)


def other_width(rank: int) -> Any:
    x = torch.ones(3, 2 + rank)
    return AcrossRanks(hardneg.ContrastiveLoss())(x, x)


def other_gradients(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss())(X.clone().requires_grad_(rank == 0), X)


def other_parameters(rank: int) -> Any:
    """A temperature that is frozen on one rank, which the others' backward would wait for."""
    loss = hardneg.InfoNCELoss(hardneg.Learned(0.07))
    return AcrossRanks(loss.requires_grad_(rank == 0))(X, X)


def no_embeddings(rank: int) -> Any:
    mask = torch.zeros(3, 6, dtype=torch.bool)
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X if rank else None, ignore_mask=mask)


def labels_of_nothing(rank: int) -> Any:
    return AcrossRanks(hardneg.TripletLoss())(X, LABELS, reference_labels=LABELS)


def wrong_input(rank: int) -> Any:
    return AcrossRanks(hardneg.ContrastiveLoss())(X if rank else X[0], X)


def wrong_ids(rank: int) -> Any:
    ids = LABELS if rank == 0 else LABELS[:1]
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X, query_ids=ids, candidate_ids=LABELS)


def wrong_mask(rank: int) -> Any:
    ignore = torch.zeros(3, 6 if rank == 0 else 3, dtype=torch.bool)
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X, ignore_mask=ignore)


def mask_of_numbers(rank: int) -> Any:
    ignore = torch.zeros(3, 6, dtype=torch.bool if rank else torch.float32)
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X, ignore_mask=ignore)


def no_partner(rank: int) -> Any:
    """Together there are enough candidates, but not on rank 1."""
    return AcrossRanks(hardneg.ContrastiveLoss())(X, X[: 3 - rank] if rank else X.repeat(2, 1))


def not_in_a_ring(rank: int) -> Any:
    return AcrossRanks(hardneg.TripletLoss(negatives="all"), ring=True)(X, LABELS)


def pair_ceilings_not_in_a_ring(rank: int) -> Any:
    return AcrossRanks(hardneg.TripletLoss(), ring=True)(X, LABELS % 2)


def what_the_loss_raises(rank: int) -> Any:
    return AcrossRanks(hardneg.TripletLoss(directions="both"))(X, LABELS)


def anchors_apart(rank: int) -> Any:
    """A reference that begins with the embeddings, its further rows being anchors too."""
    loss = AcrossRanks(hardneg.TripletLoss(directions="both"))
    return loss(X, LABELS, X.repeat(2, 1), LABELS.repeat(2), same_set=True)


MISTAKES: list[tuple[Callable[[int], Any], str]] = [
    (other_options, "calls another loss"),
    (other_strategy, "calls another loss"),
    (other_loss, "calls another loss"),
    (other_mode, "calls another loss"),
    (other_arguments, "calls another loss"),
    (other_masks, "calls another loss"),
    (nested_rows, "nested|rank 0 was given wrong input"),
    (sparse_rows, "layout|rank 0 was given wrong input"),
    (ids_of_other_pairs, "contradict the pairing"),
    (ids_of_other_pairs_in_a_ring, "contradict the pairing"),
    (twice_the_candidates, "12 = 2 x 6 candidates without ids"),
    (other_type, "type torch.float32 on rank 0 but torch.float64 on rank 1"),
    (other_width, "width 2 on rank 0 but 3 on rank 1"),
    (other_gradients, "requires_grad True on rank 0 but False on rank 1"),
    (other_parameters, "parameters have requires_grad True on rank 0 but False on rank 1"),
    (no_embeddings, "candidates is a NoneType|rank 0 was given wrong input"),
    (labels_of_nothing, "reference_labels are given without reference"),
    (wrong_input, "shape|rank 0 was given wrong input"),
    (wrong_ids, "one id a row|rank 1 was given wrong input"),
    (wrong_mask, r"ignore_mask has shape \(3, 3\) on rank 1: expected \(3, 6\), that rank's rows"),
    (mask_of_numbers, "expected a bool tensor|rank 0 was given wrong input"),
    (no_partner, "rank 1 has 3 queries but 2 candidates"),
    (not_in_a_ring, "ring=True. has no batch-all"),
    (pair_ceilings_not_in_a_ring, "ring=True. has no ceiling for each"),
    (anchors_apart, "candidates as anchors"),
    (what_the_loss_raises, "its anchors are all rows already"),
]


def attempt(rank: int, size: int, mistake: Callable[[int], Any]) -> str:
    try:
        mistake(rank)
    except (ValueError, TypeError, NotImplementedError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=lambda x: getattr(x, "__name__", ""))
def test_mistakes_raise_on_every_rank(
    groups: ProcessGroups, mistake: Callable[[int], Any], message: str
) -> None:
    """And leave the ranks in step: the next call works."""
    for text in groups(2)(attempt, mistake):
        assert re.search(message, text), text
    groups(2)(in_order)


def in_order(rank: int, size: int) -> float:
    return float(AcrossRanks(hardneg.ContrastiveLoss())(X, X))


def gone(rank: int, size: int, how: str) -> float:
    """The last rank leaves between forward and backward."""
    x = torch.randn(3, 2, requires_grad=True)
    value = AcrossRanks(hardneg.InfoNCELoss())(x, x)
    if rank == size - 1:
        if how == "dies":
            os._exit(1)
        raise KeyError("on the last rank")
    start = time.monotonic()
    try:
        value.backward()
    except RuntimeError:
        return time.monotonic() - start
    return -1.0


@pytest.mark.parametrize("how", ["dies", "raises"])
def test_a_rank_that_is_gone_stops_the_others(how: str) -> None:
    """With an error, within the group's timeout (here five seconds)."""
    group = ProcessGroup(3, timeout=5)
    answers = group.tell(gone, how)
    group.close()
    assert not answers[2][0]
    for fine, seconds in answers[:2]:
        assert fine, seconds
        assert 0 <= seconds < 20
