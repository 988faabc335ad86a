"""``from_scores`` across ranks: each rank has its rows of the matrix, and the loss is that of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import EVERY, ONE_OF_EACH, Case, case
from process_groups import ProcessGroups
from shards import MODULES, total
from torch import Tensor

from hardneg import (
    AcrossRanks,
    ContrastiveLoss,
    HardnessWeighted,
    InfoNCELoss,
    MarginLoss,
    RandomK,
    SigmoidLoss,
    SupConLoss,
    Tiled,
    TopK,
    TripletLoss,
)

ROWS = {1: (5,), 2: (4, 3), 3: (3, 0, 4)}
EXTRA = {1: (2,), 2: (0, 3), 3: (1, 2, 0)}
"""Rows, and candidates without a partner, of every rank."""
CASES = [c for c in EVERY if c.negatives != "distance_weighted"]
FURTHER = [
    case("info_nce", "paired", positives="all"),
    case("info_nce", "paired", positives="all", negatives="semihard", directions="both"),
    case("sigmoid", "paired", positives="all", bias=-1.0, directions="both"),
    case("contrastive", "paired", negatives=RandomK(2), directions="candidates"),
    case("contrastive", "paired", negatives=TopK(3, min_score=-0.5, max_score=0.9)),
    case("info_nce", "paired", softmax=HardnessWeighted(2.0), directions="candidates"),
]


def module(which: Case, **options: Any) -> Any:
    return MODULES[which.name](**{**dict(which.options), **options})


def own(rank: int, parts: tuple[int, ...]) -> slice:
    return slice(sum(parts[:rank]), sum(parts[: rank + 1]))


def drawn(*shape: int) -> Tensor:
    g = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=g, dtype=torch.float64).clamp(-2, 2) / 2


def mask(n: int, m: int) -> Tensor:
    return torch.rand(n, m, generator=torch.Generator().manual_seed(n + m)) < 0.1


def held_ids(ids: Tensor, rank: int, size: int, heads: bool) -> Tensor:
    """The ids of a rank's candidates; with ``heads`` the paired ones of all ranks stand first."""
    rows, extra = ROWS[size], EXTRA[size]
    if not heads:
        lengths = tuple(r + e for r, e in zip(rows, extra, strict=True))
        return ids[own(rank, lengths)]
    return torch.cat([ids[: sum(rows)][own(rank, rows)], ids[sum(rows) :][own(rank, extra)]])


def compare(loss: Any, rank: int, size: int, whole: dict[str, Any], here: dict[str, Any]) -> None:
    """Values, gradients and statistics of this rank against those of one process."""
    rows, found = own(rank, ROWS[size]), []
    for one, given, part in ((loss, whole, slice(None)), (AcrossRanks(loss), here, rows)):
        scores = given["scores"][part].clone().requires_grad_()
        torch.manual_seed(5)
        value, stats = one.from_scores(**{**given, "scores": scores}, return_stats=True)
        gradient = torch.autograd.grad(total(value), scores)[0]
        found.append((value, gradient, stats.as_dict()))
    (value, gradient, stats), (ours, here_gradient, here_stats) = found
    torch.testing.assert_close(ours, value, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(here_gradient / size, gradient[rows], rtol=1e-9, atol=1e-11)
    assert here_stats == pytest.approx(stats, rel=1e-9, abs=1e-12)


def named(loss: Any, rank: int, size: int, **more: Any) -> None:
    """With a note that says which one failed."""
    try:
        on_pairs(loss, rank, size, **more) if hasattr(loss, "positives") and not isinstance(
            loss, TripletLoss
        ) else on_labels(loss, rank, size, **more)
    except Exception as error:
        error.add_note(f"{loss} {more}")
        raise


def on_pairs(loss: Any, rank: int, size: int, *, plain: bool = False) -> None:
    rows, n = ROWS[size], sum(ROWS[size])
    square = isinstance(loss, SigmoidLoss) and loss.directions != "queries"
    m = n if square else n + sum(EXTRA[size])
    whole: dict[str, Any] = {"scores": drawn(n, m)}
    here = dict(whole)
    if not plain:
        paired = type(loss.positives).__name__ == "Paired"
        ids = torch.cat([torch.arange(n) // 2, torch.arange(m - n) % 4])
        whole |= {"query_ids": ids[:n], "candidate_ids": ids, "ignore_mask": mask(n, m)}
        whole["weights"] = torch.linspace(0.1, 2, n) if loss.directions == "queries" else None
        here = {k: None if x is None else x[own(rank, rows)] for k, x in whole.items()}
        here["candidate_ids"] = (
            ids[own(rank, rows)] if square else held_ids(ids, rank, size, heads=paired)
        )
        here["scores"] = whole["scores"]
    compare(loss, rank, size, whole, here)


def on_labels(loss: Any, rank: int, size: int, *, reference: bool = False) -> None:
    rows, n = own(rank, ROWS[size]), sum(ROWS[size])
    m = n + sum(EXTRA[size]) if reference else n
    scores = -drawn(n, m).abs() if isinstance(loss, MarginLoss) else drawn(n, m)
    whole = {"scores": scores, "labels": torch.arange(n) % 3, "ignore_mask": mask(n, m)}
    here = {k: x[rows] for k, x in whole.items()} | {"scores": scores}
    if reference:
        whole["reference_labels"] = torch.arange(m) % 4
        here["reference_labels"] = held_ids(whole["reference_labels"], rank, size, heads=False)
    else:
        whole["weights"] = torch.linspace(0.1, 2, n)
        here["weights"] = whole["weights"][rows]
    compare(loss, rank, size, whole, here)


def every_loss(rank: int, size: int) -> None:
    for which in CASES if size == 2 else (*ONE_OF_EACH, *FURTHER):
        options = {} if which.kind == "paired" else {"backend": Tiled((3, 4))}
        named(module(which, **options), rank, size)


def further(rank: int, size: int) -> None:
    """Without ids, terms one by one, and candidates and references as anchors."""
    for loss in (ContrastiveLoss(), InfoNCELoss(negatives=TopK(2)), SigmoidLoss(reduction="none")):
        named(loss, rank, size, plain=True)
    for which in ONE_OF_EACH if size == 3 else CASES:
        if which.kind == "paired" and which.name == "sigmoid":
            named(module(which, directions="both"), rank, size)
        if which.kind == "labelled" and dict(which.options).get("positives") != "easiest":
            for directions in ("both", "candidates"):
                reduction = "none" if directions == "candidates" else "mean"
                options = {"directions": directions, "reduction": reduction}
                named(module(which, **options), rank, size, reference=True)


@pytest.mark.parametrize("size", list(ROWS))
def test_every_loss_equals_one_process(groups: ProcessGroups, size: int) -> None:
    groups(size)(every_loss)


@pytest.mark.parametrize("size", [2, 3])
def test_anchors_on_the_other_side(groups: ProcessGroups, size: int) -> None:
    groups(size)(further)


def masks_and_same_set(rank: int, size: int) -> None:
    """Positives by a mask; a reference that begins with the embeddings."""
    n, m = sum(ROWS[size]), sum(ROWS[size]) + sum(EXTRA[size])
    rows, scores = own(rank, ROWS[size]), drawn(n, m)
    positives = torch.arange(n)[:, None] % 3 == torch.arange(m) % 3
    for loss in (SupConLoss(0.3), TripletLoss(negatives="semihard")):
        for same_set in (True, False):
            whole = {"scores": scores, "positive_mask": positives, "same_set": same_set}
            compare(loss, rank, size, whole, whole | {"positive_mask": positives[rows]})
        labels = {"labels": torch.arange(n) % 3, "reference_labels": torch.arange(m) % 3}
        here = {
            "labels": labels["labels"][rows],
            "reference_labels": held_ids(labels["reference_labels"], rank, size, heads=True),
        }
        both = {"scores": scores, "same_set": True}
        compare(loss, rank, size, both | labels, both | here)
    swapped = SupConLoss(0.3, directions="both")
    whole = {"scores": scores, "positive_mask": positives, "same_set": False}
    compare(swapped, rank, size, whole, whole | {"positive_mask": positives[rows]})


@pytest.mark.parametrize("size", [2, 3])
def test_masks_and_one_set(groups: ProcessGroups, size: int) -> None:
    groups(size)(masks_and_same_set)


def message(call: Any) -> str:
    try:
        call()
    except (ValueError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def mistakes(rank: int, size: int) -> list[str]:
    loss, s, n = AcrossRanks(InfoNCELoss()), drawn(4, 8), 4
    labels = AcrossRanks(SupConLoss())
    return [
        message(lambda: loss.from_scores(s[:, : 8 - rank])),
        message(lambda: loss.from_scores(s[0] if rank else s)),
        message(lambda: loss.from_scores(s.float() if rank else s)),
        message(lambda: loss.from_scores(s, weights=torch.ones(n - rank))),
        message(lambda: loss.from_scores(s, ignore_mask=mask(n, 8 - rank))),
        message(lambda: labels.from_scores(s, torch.arange(n - rank))),
        message(
            lambda: loss.from_scores(s, query_ids=torch.arange(4), candidate_ids=torch.arange(5))
        ),
        message(
            lambda: loss.from_scores(
                s, query_ids=torch.arange(4), candidate_ids=torch.arange(3 + 2 * rank)
            )
        ),
        message(lambda: labels.from_scores(s[:, :7], torch.arange(4))),
        message(lambda: loss.from_scores(s, negatives=TopK(1 + rank))),
        message(lambda: AcrossRanks(InfoNCELoss(), ring=True).from_scores(s)),
    ]


def test_a_mistake_on_one_rank_raises_on_all(groups: ProcessGroups) -> None:
    first, second = groups(2)(mistakes)
    assert all(first), first
    assert all(second), second
    expected = [
        "scores have width 8 on rank 0 but 7 on rank 1",
        "scores has shape (8,): expected (queries, candidates)",
        "scores have type torch.float64 on rank 0 but torch.float32 on rank 1",
        "weights has shape (3,): expected (4,), one number an anchor",
        "ignore_mask has shape (4, 7)",
        "labels has shape (3,)",
        "candidate_ids has 10 entries on all ranks together, [5, 5] by rank, but scores have 8 columns",
        "rank 0 has 4 queries but 3 candidates",
        "scores have shape (8, 7) without reference_labels",
        "with other options",
        "a ring sends candidates, of which there are none here",
    ]
    for told, part in zip(second, expected, strict=True):
        assert part in told
    for told in (first[1], first[3], first[4], first[5]):
        assert "rank 1 was given wrong input" in told


def half_precision(rank: int, size: int) -> None:
    for directions in ("queries", "both"):
        loss = SupConLoss(0.5, directions=directions)
        labels, rows = torch.arange(7) % 2, own(rank, ROWS[size])
        s = drawn(7, 7).bfloat16()
        found = []
        for one, given, ids in ((loss, s, labels), (AcrossRanks(loss), s[rows], labels[rows])):
            leaf = given.clone().requires_grad_()
            value = one.from_scores(leaf, ids, ids, same_set=False)
            found.append((value, torch.autograd.grad(value, leaf)[0]))
        (value, gradient), (ours, here) = found
        assert (ours.dtype, here.dtype) == (torch.float32, torch.bfloat16)
        torch.testing.assert_close(ours, value)
        torch.testing.assert_close(here / size, gradient[rows], rtol=0.02, atol=1e-4)
    frozen = AcrossRanks(loss).from_scores(s[rows], labels[rows], labels[rows], same_set=False)
    assert not frozen.requires_grad


def test_half_precision_and_frozen_scores(groups: ProcessGroups) -> None:
    groups(2)(half_precision)
