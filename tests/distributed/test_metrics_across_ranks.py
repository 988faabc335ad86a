"""Metrics over ranks: each passes its own queries, and its share of the candidates or all, and all get one result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from process_groups import ProcessGroups
from torch import Tensor

from hardneg.metrics import (
    RetrievalAccumulator,
    across_ranks,
    both_directions,
    coco_folds,
    from_scores,
    list_recall_at_k,
    map_at_k,
    map_at_r,
    ndcg,
    precision_at_k,
    r_precision,
    ranks,
    recall_at_k,
    retrieval_metrics,
    top_candidates,
)

CUTS = {1: ((11,), (17,)), 2: ((3, 8), (17, 0)), 3: ((6, 0, 5), (1, 9, 7))}
"""Queries and candidates that each rank holds, by the number of ranks."""


def two_sets(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """With equal rows, a NaN, a query without a relevant candidate; gains from many to many."""
    g = torch.Generator().manual_seed(0)
    q, c = (torch.randint(-2, 3, (n, 4), generator=g).to(dtype) for n in (11, 17))
    c[5] = torch.nan
    q_ids, c_ids = (torch.randint(0, 6, (n,), generator=g) for n in (11, 17))
    q_ids[4] = 99
    gains = torch.randint(-3, 4, (11, 17), generator=g).clamp(min=0).float()
    gains[7] = 0
    return q, c, q_ids, c_ids, gains


def recall_at_3(*sides: Tensor, **options: Any) -> float:
    """A function of the user's that is made of ours."""
    return recall_at_k(ranks(*sides, **options), 3)


METRICS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "ranks": (ranks, {}),
    "map_at_r": (map_at_r, {"per_query": True}),
    "map_at_k": (map_at_k, {"k": 4}),
    "precision": (precision_at_k, {"k": 50, "per_query": True}),
    "recall": (list_recall_at_k, {"k": 3}),
    "r_precision": (r_precision, {}),
    "ndcg": (ndcg, {"k": 7}),
    "of the user": (recall_at_3, {}),
    "directions": (partial(both_directions, map_at_k), {"k": 4}),
}


def alike(found: Any, expected: Any) -> None:
    """To the last bit; NaN equals NaN."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert found == expected


def by_ids_and_gains(rank: int, size: int, cuts: Any) -> dict[Any, Any]:
    """Every metric by ids and by gains, with shares of the candidates and with all of them."""
    q, c, q_ids, c_ids, gains = two_sets()
    own, own_ids, mine = (x.split(cuts[0])[rank] for x in (q, q_ids, gains))
    share, share_ids = (x.split(cuts[1])[rank] for x in (c, c_ids))
    found: dict[Any, Any] = {}
    for name, (metric, options) in METRICS.items():
        for similarity in ("dot", "euclidean"):
            told = {"similarity": similarity, **options}
            shared = across_ranks(metric)
            whole = across_ranks(metric, replicated_candidates=True)
            sparse = mine.to_sparse_coo()
            found[name, similarity, "ids"] = [
                shared(own, share, own_ids, share_ids, **told),
                whole(own, c, own_ids, c_ids, **told),
            ]
            found[name, similarity, "gains"] = [
                shared(own, share, relevance=mine, **told),
                whole(own, c, relevance=sparse, **told),
            ]
    return found


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("size", CUTS)
def test_every_metric(size: int, groups: ProcessGroups) -> None:
    q, c, q_ids, c_ids, gains = two_sets()
    answers = groups(size)(by_ids_and_gains, CUTS[size])
    assert len(answers) == size
    for (name, similarity, by), _ in answers[0].items():
        metric, options = METRICS[name]
        ids = (q_ids, c_ids) if by == "ids" else ()
        told = {"relevance": gains} if by == "gains" else {}
        expected = metric(q, c, *ids, similarity=similarity, **told, **options)
        for answer in answers:
            for found in answer[name, similarity, by]:
                alike(found, expected)


def one_set_pairs_and_collapse(rank: int, size: int, dtype: torch.dtype) -> dict[str, Any]:
    q, c, q_ids, _, gains = two_sets(dtype)
    cut = CUTS[size][0]
    x, labels = q.split(cut)[rank], q_ids.split(cut)[rank]
    own = c[:11].split(cut)[rank]
    noise = torch.ones(11, 4, dtype=dtype) + torch.finfo(dtype).eps * q
    square = gains[:, :11].split(cut)[rank]
    return {
        "same_set": across_ranks(map_at_r)(x, x, labels, same_set=True, similarity="dot"),
        "gains": across_ranks(ndcg)(x, x, relevance=square, same_set=True, similarity="dot"),
        "pairs": across_ranks(ranks)(x, own, similarity="dot"),
        "collapsed": across_ranks(ranks)(noise.split(cut)[rank], own),
        "callable": across_ranks(ranks)(x, own, similarity=product),
    }


def product(q: Tensor, c: Tensor) -> Tensor:
    return q @ c.T


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_one_set_pairs_and_collapse(size: int, dtype: torch.dtype, groups: ProcessGroups) -> None:
    """A collapse of the queries of all ranks; pairs by place."""
    q, c, labels, _, gains = two_sets(dtype)
    noise = torch.ones(11, 4, dtype=dtype) + torch.finfo(dtype).eps * q
    expected = {
        "same_set": map_at_r(q, q, labels, same_set=True, similarity="dot"),
        "gains": ndcg(q, q, relevance=gains[:, :11], same_set=True, similarity="dot"),
        "pairs": ranks(q, c[:11], similarity="dot"),
        "collapsed": ranks(noise, c[:11]),
        "callable": ranks(q, c[:11], similarity=product),
    }
    for answer in groups(size)(one_set_pairs_and_collapse, dtype):
        for name, value in expected.items():
            alike(answer[name], value)


def given_scores(rank: int, size: int) -> list[Any]:
    q, c, q_ids, c_ids, gains = two_sets()
    cut = CUTS[size][0]
    rows, mine = (q @ c.T).split(cut)[rank], gains.split(cut)[rank]
    one = (q @ q.T).split(cut)[rank]
    ids = q_ids.split(cut)[rank]
    return [
        from_scores(across_ranks(ndcg), rows, relevance=mine, k=5, per_query=True),
        from_scores(across_ranks(ranks), rows, ids, c_ids),
        from_scores(across_ranks(ranks), rows),
        from_scores(across_ranks(map_at_r), one, ids, q_ids, same_set=True),
    ]


@pytest.mark.parametrize("size", CUTS)
def test_given_scores(size: int, groups: ProcessGroups) -> None:
    q, c, q_ids, c_ids, gains = two_sets()
    expected = [
        from_scores(ndcg, q @ c.T, relevance=gains, k=5, per_query=True),
        from_scores(ranks, q @ c.T, q_ids, c_ids),
        from_scores(ranks, q @ c.T),
        from_scores(map_at_r, q @ q.T, q_ids, same_set=True),
    ]
    for answer in groups(size)(given_scores):
        for found, value in zip(answer, expected, strict=True):
            alike(found, value)


def pictures() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(10, 6, generator=g)
    return images, images.repeat_interleave(3, 0) + torch.randn(30, 6, generator=g)


def reports(rank: int, size: int) -> list[Any]:
    """Images in shards of whole images; then batches of captions in any order, and one rank that has none."""
    images, captions = pictures()
    cut = {1: (10,), 2: (4, 6), 3: (7, 0, 3)}[size]
    own, told = images.split(cut)[rank], captions.split([3 * n for n in cut])[rank]
    accumulator = RetrievalAccumulator()
    order = torch.arange(30).flip(0).split({1: (30,), 2: (30, 0), 3: (13, 0, 17)}[size])[rank]
    for batch in order.split(5):
        if len(batch):
            accumulator.update(images[batch // 3], captions[batch], batch // 3)
    return [
        across_ranks(retrieval_metrics)(own, told),
        across_ranks(partial(coco_folds, folds=2))(own, told),
        across_ranks(retrieval_metrics, replicated_candidates=True)(own, captions),
        accumulator.compute(across_ranks=True),
        across_ranks(top_candidates)(own, told, k=4).indices.tolist(),
        from_scores(across_ranks(top_candidates), own @ captions.T, k=50).indices.tolist(),
    ]


@pytest.mark.parametrize("size", CUTS)
def test_reports(size: int, groups: ProcessGroups) -> None:
    sides = pictures()
    whole = retrieval_metrics(*sides)
    expected = [whole, coco_folds(*sides, folds=2), whole, whole]
    expected += [
        top_candidates(*sides, 4).indices.tolist(),
        from_scores(top_candidates, sides[0] @ sides[1].T, 50).indices.tolist(),
    ]
    assert groups(size)(reports) == [expected] * size


X, IDS = torch.eye(4), torch.arange(4)


class FailsOnOne:
    """A similarity that one rank cannot compute."""

    def __init__(self, rank: int) -> None:
        self.fails = rank == 1

    def __repr__(self) -> str:
        return "FailsOnOne()"

    def __call__(self, q: Tensor, c: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("out of memory")
        return q @ c.T


def mistakes(rank: int, size: int) -> list[str]:
    """What each wrong call says; none may hang."""
    y, odd = X.clone(), rank == 1
    shared, whole = across_ranks(ranks), across_ranks(ranks, replicated_candidates=True)
    calls: list[Callable[[], Any]] = [
        lambda: shared([1.0] if odd else X, y),
        lambda: shared(X, y, IDS[:3] if odd else IDS, IDS),
        lambda: shared(X[:, :2] if odd else X, y[:, :2] if odd else y),
        lambda: shared(X.double() if odd else X, y.double() if odd else y),
        lambda: shared(X, y, similarity="dot" if odd else "cosine"),
        lambda: (across_ranks(map_at_r) if odd else shared)(X, y),
        lambda: shared(X, y, *([IDS, IDS] if odd else [])),
        lambda: shared(X, y[:3] if odd else y),
        lambda: shared(X, y, relevance=torch.ones(4, 4 if odd else 8)),
        lambda: shared(X, y, relevance=(-X if odd else X).repeat(1, 2)),
        lambda: shared(X, X, IDS, IDS),
        lambda: shared(X, y, IDS + 100, IDS),
        lambda: whole(X, y + rank, IDS, IDS),
        lambda: whole(X, y, IDS, IDS.flip(0) if odd else IDS),
        lambda: whole(X, X if odd else y, IDS, IDS),
        lambda: shared(X[:0], y[:0]),
        lambda: shared(X, y, similarity=FailsOnOne(rank)),
        lambda: from_scores(across_ranks(retrieval_metrics), X),
        lambda: from_scores(across_ranks(partial(both_directions, ranks)), X),
        lambda: from_scores(shared, X[:, :3] if odd else X),
        lambda: across_ranks(retrieval_metrics)(X, y.repeat(1 + rank, 1)),
        lambda: shared(X, y, weights=X if odd else None),
        lambda: RetrievalAccumulator().compute(across_ranks=True),
    ]
    said = []
    for call in calls:
        try:
            found = call()
            said.append(f"returned {found}")
        except (ValueError, TypeError, RuntimeError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


SAID = [
    ("rank 1 was given wrong input", "TypeError: queries is a list"),
    ("rank 1 was given wrong input", "ValueError: query_ids has shape"),
    ("rank 1 has queries of another width than rank 0",) * 2,
    ("rank 1 has queries of another type than rank 0",) * 2,
    ("rank 1 calls another metric, or with other options",) * 2,
    ("rank 1 calls another metric, or with other options",) * 2,
    ("rank 1 calls another metric, or with other options",) * 2,
    ("rank 1 has 4 queries and 3 candidates",) * 2,
    ("relevance has 4 columns on rank 1: expected 8",) * 2,
    ("negative or non-finite",) * 2,
    ("the same tensor",) * 2,
    ("returned tensor([-1, -1, -1, -1, -1, -1, -1, -1])",) * 2,
    ("rank 1 has other candidates, though replicated_candidates=True",) * 2,
    ("rank 1 has other ids of candidates",) * 2,
    ("rank 1 passes one tensor as its own queries and as the candidates of all",) * 2,
    ("queries is empty",) * 2,
    ("RuntimeError: across_ranks: rank 1 failed", "RuntimeError: out of memory"),
    ("ranks columns too", "ranks columns too"),
    ("no rank holds whole columns",) * 2,
    ("rank 1 has queries of another width",) * 2,
    ("without ids a rank has equally many captions",) * 2,
    ("calls another|wrong input", "weights is a tensor"),
    ("images is empty",) * 2,
]


def test_mistakes_on_one_rank_raise_on_all(groups: ProcessGroups) -> None:
    answers = groups(2)(mistakes)
    assert len(answers[0]) == len(SAID)
    for number, expected in enumerate(SAID):
        for rank in range(2):
            said = answers[rank][number]
            assert any(part in said for part in expected[rank].split("|")), said


def rows_scored(rank: int, size: int) -> int:
    seen = []

    def counting(q: Tensor, c: Tensor) -> Tensor:
        seen.append(len(q))
        return q @ c.T

    across_ranks(ranks)(X.repeat(3 - rank, 1), X.repeat(3 - rank, 1), similarity=counting)
    return sum(seen)


def test_ranks_share_the_work(groups: ProcessGroups) -> None:
    """Equally, whoever holds the rows."""
    assert groups(3)(rows_scored) == [8, 8, 8]


def test_without_a_process_group() -> None:
    with pytest.raises(RuntimeError, match="torchrun"):
        across_ranks(ranks)(X, X.clone())
    with pytest.raises(TypeError, match="expected a metric"):
        across_ranks("ndcg")  # type: ignore[arg-type]
