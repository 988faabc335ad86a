"""AcrossRanks equals one process on the concatenated batch: every loss, values and gradients in float64 to 1e-9."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from every_loss import EVERY, Case, case
from process_groups import ProcessGroups
from shards import MODULES, Batch, assert_global, labelled_batch, paired_batch
from torch import Tensor

from hardneg import Ceiling, RandomK, RankWindow, SemiHard, Tiled, TopK

WORLDS = (1, 2, 3, 4)
FULL = pytest.mark.full
TWO_AND_THREE = (pytest.param(2, marks=FULL), 3)
"""Where the number of ranks is not the point; of three, one has no rows."""
RING = (False, True)


def module(case: Case, **options: Any) -> torch.nn.Module:
    return MODULES[case.name](**{**dict(case.options), **options})


def batch_of(case: Case, size: int, extra: bool = True) -> Batch:
    if case.kind == "paired":
        return paired_batch(size, extra=extra, ids=True)
    return labelled_batch(size)


def check_all(rank: int, size: int, ring: bool, which: Iterable[tuple[Any, Batch]]) -> None:
    """Every loss on its batch; the note says which one failed."""
    for loss, batch in which:
        try:
            assert_global(rank, size, loss, batch, ring, tail_last=not unpaired(loss))
        except Exception as error:
            error.add_note(f"{loss} {batch.options} {list(batch.shards[0])}")
            raise


def every_other(ring: bool, which: Iterator[tuple[Any, Batch]]) -> Iterator[tuple[Any, Batch]]:
    """In a ring, which is slow, half of the combinations: they do not differ in how rows travel."""
    return itertools.islice(which, 0, None, 2 if ring else 1)


def unpaired(loss: Any) -> bool:
    """Whether candidates follow one another by rank, having no partners."""
    return type(getattr(loss, "positives", None)).__name__ == "AllPositives"


def needs_whole_rows(case: Case) -> bool:
    options = dict(case.options)
    return options.get("positives") == "all" and options["negatives"] in ("all", "semihard")


def every_loss(rank: int, size: int, ring: bool) -> None:
    cases = [c for c in EVERY if not (ring and needs_whole_rows(c))]
    if size > 3:  # more ranks only pass more on
        cases = first_of_every_loss(cases)
    check_all(rank, size, ring, ((module(c), batch_of(c, size)) for c in cases))


def first_of_every_loss(cases: list[Case]) -> list[Case]:
    return list({c.name: c for c in reversed(cases)}.values())


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
@pytest.mark.parametrize("size", WORLDS)
def test_every_loss(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_loss, ring)


def negated_taxicab(queries: Tensor, candidates: Tensor) -> Tensor:
    return -(queries[:, None] - candidates[None]).abs().sum(-1)


SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order", negated_taxicab)
BY_SIMILARITY = (
    case("contrastive", "paired", negatives="hardest"),
    case("contrastive", "paired", negatives="all"),
    case("contrastive", "paired", negatives=SemiHard()),
    case("info_nce", "paired", negatives="all"),
    case("triplet", "labelled", positives="all", negatives="all"),
    case("triplet", "labelled", positives="hardest", negatives=TopK(2)),
    case("sup_con", "labelled", negatives="all"),
)


def every_similarity(rank: int, size: int, ring: bool) -> None:
    cases = [c for c in BY_SIMILARITY if not (ring and needs_whole_rows(c))]
    losses = ((module(c, similarity=s), batch_of(c, size)) for c in cases for s in SIMILARITIES)
    check_all(rank, size, ring, losses)


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
def test_every_similarity(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(every_similarity, ring)


def every_backend(rank: int, size: int, ring: bool) -> None:
    cases = [c for c in EVERY if not c.random and not (ring and needs_whole_rows(c))]
    first = first_of_every_loss(cases)
    backends = ("dense", Tiled((2, 3)))
    losses = (
        (module(c, backend=b), batch_of(c, size))
        for i, c in enumerate(cases)
        for j, b in enumerate(backends)
        if c in first or i % 2 == j
    )
    check_all(rank, size, ring, every_other(ring, losses))


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
def test_every_backend(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(every_backend, ring)


STRATEGIES = (
    TopK(20),
    RankWindow(1, 3, fallback="easiest"),
    RankWindow(2, 4, ceiling=Ceiling(), fallback="hardest"),
    TopK(2, ceiling=Ceiling(0.95), fallback="easiest"),
    SemiHard("hardest"),
    RandomK(3, ceiling=Ceiling(), fallback="easiest"),
)
BY_ANCHOR = ("sup_con", "pairwise_contrastive", "margin", "multi_similarity", "circle")
"""Here negatives, and their ceiling, belong to the anchor rather than to one of its positives."""


def every_strategy(rank: int, size: int, ring: bool) -> None:
    def losses() -> Iterator[tuple[Any, Batch]]:
        for place, strategy in enumerate(STRATEGIES):
            for directions in ("both", "candidates"):
                options = {"negatives": strategy, "directions": directions}
                yield MODULES["contrastive"](**options), paired_batch(size, extra=True, ids=True)
            if not ring:
                yield MODULES["triplet"](negatives=strategy), labelled_batch(size)
            yield MODULES["sigmoid"](negatives=strategy, bias=-1.0), paired_batch(size, extra=True)
            for name in BY_ANCHOR[place % 2 :: 2]:
                yield MODULES[name](negatives=strategy), labelled_batch(size)
        epsilon = MODULES["multi_similarity"](epsilon=0.2, negatives=STRATEGIES[3])
        yield epsilon, labelled_batch(size)

    check_all(rank, size, ring, every_other(ring, losses()))


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
def test_every_strategy_with_its_fallback(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(every_strategy, ring)


def every_reduction(rank: int, size: int, ring: bool) -> None:
    def losses() -> Iterator[tuple[Any, Batch]]:
        cases = [c for c in EVERY if not (c.random or (ring and needs_whole_rows(c)))]
        first, reductions = first_of_every_loss(cases), ("sum", "mean_active", "none")
        for i, c in enumerate(cases):
            for reduction in reductions if c in first else reductions[i % 3 : i % 3 + 1]:
                batch = batch_of(c, size)
                if reduction != "none" or c.name in ("contrastive", "triplet"):
                    batch = batch.with_options(return_stats=True)
                yield module(c, reduction=reduction), batch

    check_all(rank, size, ring, every_other(ring, losses()))


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
def test_reductions_and_statistics(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(every_reduction, ring)


def every_direction(rank: int, size: int, ring: bool) -> None:
    def losses() -> Iterator[tuple[Any, Batch]]:
        for directions in ("both", "queries", "candidates"):
            for name, options in (
                ("triplet", {"positives": "hardest", "negatives": "hardest"}),
                ("nt_xent", {}),
                ("sup_con", {}),
                ("pairwise_contrastive", {}),
                ("multi_similarity", {"epsilon": 0.1}),
                *((("triplet", {"negatives": "all"}),) if not ring else ()),
            ):
                loss = MODULES[name](directions=directions, **options)
                yield loss, labelled_batch(size, reference=True)
            for options in ({"negatives": "all"}, {"negatives": TopK(2)}):
                loss = MODULES["info_nce"](directions=directions, positives="all", **options)
                yield loss, paired_batch(size, extra=True, ids=True)
                yield MODULES["contrastive"](directions=directions, **options), paired_batch(size)
                loss = MODULES["sigmoid"](directions=directions, **options)
                yield loss, paired_batch(size, ids=True)

    check_all(rank, size, ring, losses())


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
@pytest.mark.parametrize("size", TWO_AND_THREE)
def test_directions_and_references(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_direction, ring)


def same_sets(rank: int, size: int, ring: bool) -> None:
    """References that begin with the embeddings; further rows stand behind those of all ranks."""

    def losses() -> Iterator[tuple[Any, Batch]]:
        for extra in (False, True):
            shards = []
            for r, shard in enumerate(labelled_batch(size).shards):
                kept = slice(None, r + 1 if extra else 0)
                more, labels = labelled_batch(size, seed=5).shards[0].values()
                shard["reference"] = torch.cat([shard["embeddings"] * 0.9, more[kept]])
                shard["reference_labels"] = torch.cat([shard["labels"], labels[kept]])
                shards.append(shard)
            for directions in ("queries",) if extra else ("queries", "both"):
                batch = Batch(shards, {"same_set": True, "return_stats": True})
                yield MODULES["sup_con"](directions=directions), batch
                hardest = {"positives": "hardest", "negatives": "hardest"}
                yield MODULES["triplet"](directions=directions, **hardest), batch

    check_all(rank, size, ring, losses())


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
def test_references_that_begin_with_the_embeddings(groups: ProcessGroups, ring: bool) -> None:
    groups(3)(same_sets, ring)


def masked(batch: Batch, names: tuple[str, ...], columns: int, paired: bool) -> Batch:
    """The same with random masks of each rank's rows by the global columns."""
    shards, generator, start = [], torch.Generator().manual_seed(7), 0
    for shard in batch.shards:
        shard = {n: x for n, x in shard.items() if not ("positive_mask" in names and "abel" in n)}
        rows = len(next(iter(shard.values())))
        for name in names:
            shard[name] = torch.rand(rows, columns, generator=generator) < 0.3
        if paired and "ignore_mask" in names and rows > 1:
            shard["ignore_mask"][1, start + 1] = True  # a pair that is left out itself
        shards.append(shard)
        start += rows
    return Batch(shards, batch.options)


def every_mask(rank: int, size: int, ring: bool) -> None:
    def losses() -> Iterator[tuple[Any, Batch]]:
        pairs, labels = paired_batch(size, extra=True), labelled_batch(size)
        two = labelled_batch(size, reference=True)
        m = sum(len(s["candidates"]) for s in pairs.shards)
        n, k = (sum(len(s[x]) for s in two.shards) for x in ("embeddings", "reference"))
        for names in (("ignore_mask",), ("positive_mask",), ("positive_mask", "ignore_mask")):
            for negatives in ("all", "hardest"):
                batch = masked(pairs, names, m, paired=True).with_options(return_stats=True)
                yield MODULES["contrastive"](negatives=negatives), batch
                yield MODULES["info_nce"](negatives=negatives), batch
                batch = masked(labels, names, n, paired=False).with_options(return_stats=True)
                yield MODULES["triplet"](positives="hardest", negatives=negatives), batch
                batch = masked(two, names, k, paired=False)
                both = {"positives": "hardest", "negatives": negatives, "directions": "both"}
                yield MODULES["triplet"](**both), batch

    check_all(rank, size, ring, losses())


@pytest.mark.parametrize("ring", RING, ids=("gathered", "ring"))
@pytest.mark.parametrize("size", TWO_AND_THREE)
def test_masks(groups: ProcessGroups, size: int, ring: bool) -> None:
    groups(size)(every_mask, ring)
