"""Devices without float64: the forms of calls beside the plain one, mining, training and every metric."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from every_loss import numbers
from test_without_float64 import (
    Elsewhere,
    Factories,
    Refusing,
    lacking,  # noqa: F401
    refusing,  # noqa: F401
)
from torch import Tensor, nn

import hardneg
from hardneg import (
    All,
    Ceiling,
    CircleLoss,
    ContrastiveLoss,
    Debiased,
    GradCache,
    HardnessWeighted,
    InfoNCELoss,
    KLDistillation,
    KoLeo,
    LabelSmoothing,
    MarginLoss,
    MarginMSE,
    Matryoshka,
    MemoryQueue,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    PolynomialLoss,
    RandomK,
    RankWindow,
    SemiHard,
    SigmoidLoss,
    SpreadOut,
    SupConLoss,
    TopK,
    TripletLoss,
    UnifiedPairLoss,
)
from hardneg.metrics import (
    from_scores,
    list_recall_at_k,
    map_at_k,
    map_at_r,
    median_rank,
    ndcg,
    precision_at_k,
    r_precision,
    ranks,
    retrieval_metrics,
    success_at_k,
    top_candidates,
)

PAIRED: tuple[Any, ...] = (
    *(ContrastiveLoss(negatives=x) for x in ("hardest", "all", SemiHard(), TopK(2), RandomK(2))),
    ContrastiveLoss(negatives="selective_hardest"),
    ContrastiveLoss(negatives="distance_weighted"),
    ContrastiveLoss(negatives=All(Ceiling(0.9), max_score=0.5), reduction="mean_triplets"),
    ContrastiveLoss(similarity="euclidean", penalty="logistic"),
    *(InfoNCELoss(0.3, negatives=x) for x in ("all", "hardest", All(Ceiling(), min_score=-0.5))),
    *(
        InfoNCELoss(0.3, softmax=x)
        for x in (
            "decoupled",
            HardnessWeighted(2.0),
            HardnessWeighted(2.0, "own"),
            LabelSmoothing(0.1),
            Debiased(0.1),
        )
    ),
    InfoNCELoss(0.3, positives="all"),
    UnifiedPairLoss(),
    PolynomialLoss(),
    SigmoidLoss(),
    SigmoidLoss(positives="all"),
)
JOINT = InfoNCELoss(0.3, All(Ceiling(0.95), max_score=0.9), directions="joint")
LABELLED: tuple[Any, ...] = (
    *(TripletLoss(negatives=x) for x in ("all", "semihard", TopK(2, min_score=-0.5))),
    TripletLoss(negatives=All(Ceiling(0.9), max_score=0.6), reduction="mean_triplets"),
    NTXentLoss(0.3),
    SupConLoss(0.3),
    PairwiseContrastiveLoss(),
    MarginLoss(),
    MultiSimilarityLoss(epsilon=0.1),
    CircleLoss(gamma=8.0),
)
N, M, LABELS = 9, 9, torch.arange(9) // 2
IDS = {"query_ids": LABELS, "candidate_ids": LABELS}


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random embeddings to learn."""
    return torch.randn(*shape).to(dtype).requires_grad_()


def backward(value: Any) -> None:
    """Of a loss, or of its terms."""
    parts = value if isinstance(value, tuple) else (value,)
    sum(part.float().sum() for part in parts).backward()


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("auto", torch.float32), ("tiled", torch.float32), ("auto", torch.float16)],
    ids=str,
)
@pytest.mark.parametrize("kind", [*PAIRED, JOINT], ids=repr)
def test_forms_of_losses_on_pairs(
    kind: Any,
    backend: Any,
    dtype: torch.dtype,
    refusing: Refusing,  # noqa: F811
) -> None:
    own = {"own_negatives": torch.randn(N, 3, 4).to(dtype).requires_grad_()}
    guide = {"guide": (torch.randn(N, 3), torch.randn(N, 3))}
    alone = {**own, "share_negatives": False, "exempt_own_negatives": True}
    forms = (
        {},
        own,
        alone,
        guide,
        {**guide, **own, "guide_ceiling": Ceiling(0.9)},
        {"weights": torch.rand(N)},
    )
    kind.backend = backend
    of_queries = copy.copy(kind)
    of_queries.directions = "queries"
    every = isinstance(kind.positives, hardneg.AllPositives)
    for told in forms:
        one_sided = told is alone or (every and "weights" in told)
        loss = of_queries if one_sided else kind
        backward(loss(leaf(N, 4, dtype=dtype), leaf(M, 4, dtype=dtype), **IDS, **told))
    if kind is not JOINT and not isinstance(kind.negatives, hardneg.DistanceWeighted):
        scores = torch.randn(N, M).to(dtype).requires_grad_()
        backward(kind.from_scores(scores, **IDS))


@pytest.mark.parametrize("backend", ["auto", "tiled"])
@pytest.mark.parametrize("kind", LABELLED, ids=repr)
def test_forms_of_losses_on_labels(kind: Any, backend: Any, refusing: Refusing) -> None:  # noqa: F811
    kind.backend = backend
    backward(kind(leaf(N, 4), LABELS))
    backward(kind(leaf(N, 4), LABELS, leaf(M, 4), LABELS))
    backward(kind(leaf(N, 4), LABELS, weights=torch.rand(N)))
    if not isinstance(kind, MarginLoss):  # its default weights need the embeddings
        backward(kind.from_scores(leaf(N, N), LABELS))
    index = torch.arange(5)
    backward(kind.from_triplets(leaf(N, 4), index, index + 1, index + 4))


def test_modules_around_losses(refusing: Refusing) -> None:  # noqa: F811
    for loss in (InfoNCELoss(), ContrastiveLoss()):
        backward(Matryoshka(loss, (4, 2), (1.0, 0.5))(leaf(N, 4), leaf(N, 4)))
    backward(KoLeo()(leaf(N, 4)))
    backward(SpreadOut()(leaf(N, 4)))
    for distillation in (MarginMSE(), KLDistillation(2.0)):
        teacher = torch.randn(N, 4)
        backward(distillation(leaf(N, 4), leaf(N, 4), leaf(N, 3, 4), teacher))
    queue = MemoryQueue(13, 4)
    for step in range(2):
        x, labels = leaf(N, 4), LABELS + step
        reference, reference_labels = queue.extend(x.detach(), labels)
        backward(TripletLoss()(x, labels, reference, reference_labels, same_set=True))
        queue.update(x.detach(), labels)
    cache = GradCache(nn.Linear(3, 4), nn.Linear(5, 4), chunk_size=4)
    cache(InfoNCELoss(), torch.randn(N, 3), torch.randn(N, 5)).backward()


def test_what_a_loss_tells(refusing: Refusing) -> None:  # noqa: F811
    x, y = torch.randn(N, 4), torch.randn(N, 4)
    ContrastiveLoss(negatives=TopK(2)).mined(x, y)
    TripletLoss().mined(x, LABELS)
    NTXentLoss().term_pairs(x, LABELS)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean", "order"])
def test_mining_in_memory(similarity: str, refusing: Refusing) -> None:  # noqa: F811
    q, corpus = torch.randn(7, 4), torch.randn(50, 4)
    positives, ids = torch.arange(7)[:, None], (torch.arange(7), torch.arange(50) % 9)
    for strategy in (
        TopK(3),
        TopK(3, Ceiling(0.95)),
        RankWindow(1, 4),
        RandomK(2),
        SemiHard(max_score=0.9),
    ):
        hardneg.mine(q, corpus, strategy, similarity=similarity, positives=positives)
        named = dict(zip(("query_ids", "candidate_ids"), ids, strict=True))
        hardneg.mine(q, corpus, strategy, similarity=similarity, **named, min_score=-9.0)


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize("given", [False, True], ids=["embeddings", "scores"])
def test_every_metric_ranks_on_the_cpu(given: bool) -> None:
    x, y, ids = numbers(20, 6, 1), numbers(40, 6, 2), torch.arange(40) // 2
    sides = (torch.randn(20, 40),) if given else (x, y)

    def all_of(sides: tuple[Tensor, ...], named: dict[str, Tensor]) -> list[Any]:
        def called(metric: Any, **told: Any) -> Any:
            return (
                from_scores(metric, *sides, **named, **told)
                if given
                else metric(*sides, **named, **told)
            )

        found = [called(metric) for metric in (map_at_r, r_precision, ndcg)]
        found += [
            called(metric, k=3) for metric in (ndcg, map_at_k, precision_at_k, list_recall_at_k)
        ]
        of_queries = called(ranks)
        return [*found, success_at_k(of_queries, 3), median_rank(of_queries)]

    named = {"query_ids": ids[:20], "candidate_ids": ids}
    expected = all_of(sides, named)
    with Factories():
        away = tuple(Elsewhere(side) for side in sides)
        assert all_of(away, {name: Elsewhere(some) for name, some in named.items()}) == expected


@pytest.mark.usefixtures("lacking")
def test_lists_and_reports_rank_on_the_cpu() -> None:
    images, captions = numbers(10, 6, 1), numbers(20, 6, 2)
    expected = top_candidates(images, captions, k=3)
    report = retrieval_metrics(images, captions)
    with Factories():
        found = top_candidates(Elsewhere(images), Elsewhere(captions), k=3)
        assert torch.equal(found.indices.cpu(), expected.indices)
        assert retrieval_metrics(Elsewhere(images), Elsewhere(captions)) == report
