"""Ties, duplicates, rows without anybody, numbers that are not finite, and what goes over the wire."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from shards import Batch, assert_global, flat, numbers, on_this_rank, paired_batch
from torch import Tensor

import hardneg
from hardneg import Hardest, RandomK, SemiHard, TopK
from hardneg.distributed import AcrossRanks
from hardneg.distributed.collectives import Ranks

RING = pytest.mark.parametrize("ring", [False, True], ids=("gathered", "ring"))


def cut(lengths: tuple[int, ...], **whole: Tensor) -> Batch:
    """Global tensors cut into the rows of every rank."""
    parts = {name: x.split(lengths) for name, x in whole.items()}
    return Batch([{n: p[rank] for n, p in parts.items()} for rank in range(len(lengths))])


def tied(rows: int, width: int, seed: int) -> Tensor:
    """Small whole numbers: scores are exact, and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, (rows, width), generator=generator).double()


def ties(rank: int, size: int, ring: bool) -> None:
    batch = cut((3, 1, 4), queries=tied(8, 2, 0), candidates=tied(8, 2, 1))
    for negatives in (Hardest(), TopK(2), TopK(5), SemiHard(), SemiHard("hardest")):
        for similarity in ("dot", "squared_euclidean"):
            loss = hardneg.ContrastiveLoss(3.0, negatives, similarity)
            assert_global(rank, size, loss, batch, ring)


@RING
def test_ties_across_ranks_go_to_the_lowest_index(groups: ProcessGroups, ring: bool) -> None:
    """Equal rows on different ranks: only the first of them has a gradient, as in one process."""
    groups(3)(ties, ring)


def duplicates(rank: int, size: int, ring: bool) -> None:
    ids = torch.tensor([4, 4, 4, 9, 9, 4, 9, 4])
    x, y = numbers(8, 3, 0), numbers(8, 3, 1)
    batch = cut((2, 3, 3), queries=x, candidates=y, query_ids=ids, candidate_ids=ids)
    for negatives in ("all", "hardest", "semihard"):
        assert_global(rank, size, hardneg.ContrastiveLoss(negatives=negatives), batch, ring)
    assert_global(rank, size, hardneg.InfoNCELoss(positives="all"), batch, ring)


@RING
def test_ids_met_on_every_rank(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(duplicates, ring)


def nobody(rank: int, size: int, ring: bool) -> None:
    ids = torch.zeros(6, dtype=torch.long)
    x, y = numbers(6, 3, 0), numbers(6, 3, 1)
    batch = cut((2, 3, 1), queries=x, candidates=y, query_ids=ids, candidate_ids=ids)
    batch = batch.with_options(return_stats=True)
    for loss in (hardneg.ContrastiveLoss(), hardneg.InfoNCELoss(), hardneg.SigmoidLoss()):
        assert_global(rank, size, loss, batch, ring)


@RING
def test_anchors_without_negatives(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(nobody, ring)


def empty_shards(rank: int, size: int, ring: bool) -> None:
    for lengths in ((0, 0, 5), (5, 0, 0), (0, 5, 0), (1, 1, 1)):
        n = sum(lengths)
        batch = cut(lengths, queries=numbers(n, 3, 0), candidates=numbers(n, 3, 1))
        for negatives in ("all", "hardest", "semihard", RandomK(2)):
            assert_global(rank, size, hardneg.ContrastiveLoss(negatives=negatives), batch, ring)
        labels = torch.arange(n) % 2
        batch = cut(lengths, embeddings=numbers(n, 3, 2), labels=labels)
        if n > 3:
            assert_global(rank, size, hardneg.SupConLoss(), batch, ring)
            assert_global(rank, size, hardneg.MultiSimilarityLoss(), batch, ring)
        if n > 3 and not ring:
            loss = hardneg.TripletLoss(negatives="all", reduction="none")
            assert_global(rank, size, loss, batch, ring)
            assert_global(rank, size, hardneg.TripletLoss(), batch, ring)


@RING
def test_ranks_without_rows(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(empty_shards, ring)


def no_rows_at_all(rank: int, size: int) -> str:
    try:
        AcrossRanks(hardneg.ContrastiveLoss())(torch.zeros(0, 3), torch.zeros(0, 3))
    except ValueError as error:
        return str(error)
    return ""


def test_a_batch_without_rows_raises_everywhere(groups: ProcessGroups) -> None:
    assert all("empty" in text for text in groups(2)(no_rows_at_all))


def last_batch(rank: int, size: int) -> None:
    """An offset of rank x own batch would take row 6 of the last rank for row 2 x 2 = 4."""
    batch = cut((4, 2), queries=numbers(6, 3, 0), candidates=numbers(6, 3, 1))
    assert_global(rank, size, hardneg.InfoNCELoss(), batch)
    assert_global(rank, size, hardneg.ContrastiveLoss(negatives=RandomK(2)), batch)


def test_an_uneven_last_batch(groups: ProcessGroups) -> None:
    groups(2)(last_batch)


def not_finite(rank: int, size: int, ring: bool) -> Iterator[bool]:
    found = []
    for bad in (math.nan, math.inf, -math.inf):
        for name in ("queries", "candidates"):
            batch = paired_batch(size)
            batch.shards[1][name][0, 1] = bad
            value, gradients = on_this_rank(hardneg.ContrastiveLoss(), batch, rank, ring)
            whole = [g for g in gradients.values() if len(g)]
            found.append(bool(value.isnan()) and all(g.isnan().any() for g in whole))
    return found


@RING
def test_a_number_that_is_not_finite_on_one_rank_reaches_all(
    groups: ProcessGroups, ring: bool
) -> None:
    assert all(all(found) for found in groups(2)(not_finite, ring))


def collapsed(rank: int, size: int) -> list[float]:
    x = torch.ones(3, 4, dtype=torch.float64)
    _, same = AcrossRanks(hardneg.ContrastiveLoss())(x, x, return_stats=True)
    _, other = AcrossRanks(hardneg.ContrastiveLoss())(x + rank, x - rank, return_stats=True)
    return [float(same.collapsed), float(other.collapsed)]


def test_collapse_is_that_of_the_global_batch(groups: ProcessGroups) -> None:
    """Points that coincide on each rank but not across ranks have not collapsed."""
    assert groups(2)(collapsed) == [[1.0, 0.0]] * 2


def replicas(rank: int, size: int) -> list[list[float]]:
    """Everything that a loss may return, on this rank."""
    batch = paired_batch(size, extra=True, ids=True).with_options(return_stats=True)
    results = []
    for negatives in ("all", "hardest", RandomK(2)):
        torch.manual_seed(rank)
        value, _ = on_this_rank(hardneg.ContrastiveLoss(negatives=negatives), batch, rank)
        results.append([float(x.detach()) for x in flat(value)])
    return results


def test_every_rank_returns_the_same(groups: ProcessGroups) -> None:
    """Bit by bit, random negatives included: ranks that differ would drift apart."""
    first, *others = groups(4)(replicas)
    assert all(other == first for other in others)


class Counted:
    """How many numbers each collective of this rank was given."""

    NAMES = ("sum", "max", "all_gather", "all_to_all", "reduce_scatter", "broadcast")

    def __enter__(self) -> dict[str, list[int]]:
        self.sent: dict[str, list[int]] = {name: [] for name in (*self.NAMES, "send_to_next")}
        self.plain = {name: getattr(Ranks, name) for name in self.sent}
        for name, method in self.plain.items():
            setattr(Ranks, name, self.counting(name, method))
        return self.sent

    def counting(self, name: str, method: Any) -> Any:
        def counted(ranks: Ranks, x: Tensor, *rest: Any) -> Any:
            self.sent[name].append(x.numel())
            return method(ranks, x, *rest)

        return counted

    def __exit__(self, *_: object) -> None:
        for name, method in self.plain.items():
            setattr(Ranks, name, method)


def traffic(rank: int, size: int, ring: bool) -> list[dict[str, list[int]]]:
    """What a step of three losses sends: 60 rows a rank, 2 coordinates."""
    x, y = numbers(60, 2, rank).requires_grad_(), numbers(60, 2, 10 + rank).requires_grad_()
    found = []
    for loss in (
        hardneg.ContrastiveLoss(),
        hardneg.InfoNCELoss(),
        hardneg.ContrastiveLoss(negatives="all"),
    ):
        with Counted() as sent:
            AcrossRanks(loss, ring=ring)(x, y).backward()
        found.append(sent)
    return found


@RING
def test_no_collective_carries_scores(groups: ProcessGroups, ring: bool) -> None:
    """Nothing sent comes near the 60 x 180 scores of a rank: embeddings and vectors over rows only."""
    for sent in groups(3)(traffic, ring)[0]:
        embeddings, vectors = 60 * 2, 3 * 180
        assert max(sent["all_gather"]) <= embeddings
        assert max(sent["reduce_scatter"], default=0) <= 3 * embeddings
        assert max(sent["send_to_next"], default=0) <= embeddings
        assert max(sent["sum"] + sent["max"]) <= vectors
        assert max(sent["all_to_all"], default=0) <= vectors
        gathers = [n for n in sent["all_gather"] if n == embeddings]
        assert len(gathers) == (0 if ring else 1), "the candidates are gathered once"


def sends(rank: int, size: int) -> list[int]:
    """How often a rank sends a shard in a step of a ring, with frozen candidates and without."""
    x, y = numbers(6, 2, rank).requires_grad_(), numbers(6, 2, 10 + rank)
    found = []
    for candidates in (y, y.clone().requires_grad_()):
        for loss in (hardneg.InfoNCELoss(), hardneg.ContrastiveLoss()):
            with Counted() as sent:
                AcrossRanks(loss, ring=True)(x, candidates).backward()
            found.append(len(sent["send_to_next"]))
    return found


def test_a_ring_sends_no_more_than_it_must(groups: ProcessGroups) -> None:
    """There and back with the gradient; once more to search; nothing for the positives of paired rows."""
    size = 4
    around, with_gradient = size - 1, size - 1 + size
    frozen = [2 * around, 3 * around]
    learnt = [around + with_gradient, 2 * around + with_gradient]
    assert groups(size)(sends)[0] == frozen + learnt
