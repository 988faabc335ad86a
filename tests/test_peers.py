"""Equality with other libraries where the definitions agree, and the differences where they do not.

Values and gradients in float64. pytorch-metric-learning (PML) is run; the losses of open_clip, SigLIP,
sentence-transformers and FaceNet are a few lines of plain PyTorch each.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hardneg import All, Ceiling, Dense, MemoryQueue, SemiHard, Tiled
from hardneg.functional import (
    circle_loss,
    info_nce_loss,
    margin_loss,
    multi_similarity_loss,
    nt_xent_loss,
    pairwise_contrastive_loss,
    sigmoid_loss,
    sup_con_loss,
    triplet_loss,
)

pytest.importorskip("pytorch_metric_learning", reason="the peer is not installed")
from pytorch_metric_learning import distances, losses, miners, reducers

BACKENDS = ["auto", Dense(), Tiled(), Tiled((5, 7))]
backends = pytest.mark.parametrize("backend", BACKENDS, ids=str)
L2 = {"normalize_embeddings": False}


def embeddings(n: int = 20, d: int = 6, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)


def sphere(n: int = 20, d: int = 6, seed: int = 0) -> Tensor:
    return F.normalize(embeddings(n, d, seed))


LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 1, 1, 2, 4, 4, 3])
REFERENCE_LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 0, 1])


def assert_equal(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor, tol: float = 1e-10
) -> None:
    """Same value and same gradients of all inputs, and both worth comparing."""
    first = [x.clone().requires_grad_() for x in inputs]
    second = [x.clone().requires_grad_() for x in inputs]
    value, reference = ours(*first), theirs(*second)
    assert reference.item() > 0
    assert value.item() == pytest.approx(reference.item(), rel=tol, abs=tol)
    gradients = torch.autograd.grad(value, first)
    others = torch.autograd.grad(reference, second)
    for x, y in zip(gradients, others, strict=True):
        assert y.abs().max() > 0
        torch.testing.assert_close(x, y, rtol=tol, atol=tol)


# --- pytorch-metric-learning: triplets


@backends
@pytest.mark.parametrize(
    ("similarity", "distance"),
    [
        ("euclidean", distances.LpDistance(**L2)),
        ("squared_euclidean", distances.LpDistance(**L2, power=2)),
        ("cosine", distances.CosineSimilarity()),
        ("dot", distances.DotProductSimilarity(**L2)),
    ],
)
@pytest.mark.parametrize("reference", [False, True])
def test_all_triplets(similarity: str, distance: object, reference: bool, backend: object) -> None:
    told = {"similarity": similarity, "margin": 0.3, "positives": "all", "negatives": "all"}
    peer = losses.TripletMarginLoss(margin=0.3, distance=distance)  # AvgNonZeroReducer

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        labels = (REFERENCE_LABELS,) if r else ()
        return triplet_loss(
            x, LABELS, *r, *labels, **told, reduction="mean_active", backend=backend
        )

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        if not r:
            return peer(x, LABELS)
        return peer(x, LABELS, ref_emb=r[0], ref_labels=REFERENCE_LABELS)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


@backends
@pytest.mark.parametrize("smooth", [False, True])
def test_the_sum_over_all_triplets(smooth: bool, backend: object) -> None:
    peer = losses.TripletMarginLoss(
        margin=0.1,
        smooth_loss=smooth,
        distance=distances.LpDistance(**L2),
        reducer=reducers.SumReducer(),
    )
    penalty = "logistic" if smooth else "hinge"
    told = {"margin": 0.1, "negatives": "all", "penalty": penalty, "similarity": "euclidean"}
    assert_equal(
        lambda x: triplet_loss(x, LABELS, **told, reduction="sum", backend=backend),
        lambda x: peer(x, LABELS),
        embeddings(),
    )


@backends
@pytest.mark.parametrize(
    ("similarity", "distance"),
    [("euclidean", distances.LpDistance(**L2)), ("cosine", distances.CosineSimilarity())],
)
@pytest.mark.parametrize("reduction", ["mean", "mean_active"])
@pytest.mark.parametrize("reference", [False, True])
def test_batch_hard(
    similarity: str, distance: object, reduction: str, reference: bool, backend: object
) -> None:
    reducer = {"mean": reducers.MeanReducer(), "mean_active": reducers.AvgNonZeroReducer()}
    peer = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducer[reduction])
    miner = miners.BatchHardMiner(distance=distance)
    told = {"similarity": similarity, "positives": "hardest", "negatives": "hardest"}
    told |= {"reduction": reduction, "backend": backend}

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        return triplet_loss(x, LABELS, *r, *((REFERENCE_LABELS,) if r else ()), **told)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, miner(x, LABELS, *others.values()), **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


@backends
def test_easiest_positives(backend: object) -> None:
    distance = distances.LpDistance(**L2)
    kind = miners.BatchEasyHardMiner
    miner = kind(pos_strategy=kind.EASY, neg_strategy=kind.HARD, distance=distance)
    reducer = reducers.MeanReducer()
    peer = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducer)
    told = {"similarity": "euclidean", "positives": "easiest", "negatives": "hardest"}

    def theirs(x: Tensor) -> Tensor:
        a1, p, a2, n = miner(x, LABELS)
        assert torch.equal(a1, a2)
        return peer(x, LABELS, (a1, p, n))

    assert_equal(lambda x: triplet_loss(x, LABELS, **told, backend=backend), theirs, embeddings())


@backends
@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_semi_hard_of_pml_is_a_band(similarity: str, backend: object) -> None:
    """PML takes every negative between the positive and the margin, FaceNet the hardest of them.

    The upper end is our ceiling, the lower one the hinge itself.
    """
    distance = {"euclidean": distances.LpDistance(**L2), "cosine": distances.CosineSimilarity()}
    miner = miners.TripletMarginMiner(
        margin=0.4, type_of_triplets="semihard", distance=distance[similarity]
    )
    peer = losses.TripletMarginLoss(margin=0.4, distance=distance[similarity])
    told = {"margin": 0.4, "similarity": similarity, "negatives": All(Ceiling())}
    told |= {"reduction": "mean_active", "backend": backend}
    assert_equal(
        lambda x: triplet_loss(x, LABELS, **told),
        lambda x: peer(x, LABELS, miner(x, LABELS)),
        embeddings(),
    )
    ours = triplet_loss(embeddings(), LABELS, **(told | {"negatives": "semihard"}))
    theirs = peer(embeddings(), LABELS, miner(embeddings(), LABELS))
    assert abs(ours - theirs) > 1e-3, "the difference that this test documents is gone"


def facenet(x: Tensor, labels: Tensor, margin: float, fallback: str) -> Tensor:
    """Schroff et al., section 3.2, pair by pair: the nearest negative that is farther than the positive."""
    n, total, pairs = len(x), x.new_zeros(()), 0
    d = [[(x[i] - x[j]).norm() for j in range(n)] for i in range(n)]
    for a in range(n):
        others = [d[a][k] for k in range(n) if labels[k] != labels[a]]
        for p in range(n):
            if p == a or labels[p] != labels[a]:
                continue
            farther = [other for other in others if other > d[a][p]]
            if farther:
                negative = min(farther, key=Tensor.item)
            elif fallback == "easiest":
                negative = max(others, key=Tensor.item)
            elif fallback == "hardest":
                negative = min(others, key=Tensor.item)
            else:
                continue
            pairs += 1
            total = total + (d[a][p] - negative + margin).clamp(min=0)
    return total / pairs


@backends
@pytest.mark.parametrize("fallback", ["easiest", "hardest", "none"])
def test_semi_hard_is_facenets(fallback: str, backend: object) -> None:
    x = embeddings(d=2)
    x[0] *= 8  # far from its class: farther than every negative
    told = {"similarity": "euclidean", "margin": 0.5, "negatives": SemiHard(fallback)}
    assert_equal(
        lambda x: triplet_loss(x, LABELS, **told, backend=backend),
        lambda x: facenet(x, LABELS, 0.5, fallback),
        x,
    )


def test_the_three_fallbacks_differ() -> None:
    x = embeddings(d=2)
    x[0] *= 8
    values = {facenet(x, LABELS, 0.5, f).item() for f in ("easiest", "hardest", "none")}
    assert len(values) == 3


# --- pytorch-metric-learning: softmax losses


@backends
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("reference", [False, True])
def test_nt_xent(temperature: float, reference: bool, backend: object) -> None:
    # PML takes log(share + tiny); at these temperatures the shares are far above tiny.
    peer = losses.NTXentLoss(temperature=temperature)

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        labels = (REFERENCE_LABELS,) if r else ()
        return nt_xent_loss(x, LABELS, *r, *labels, temperature=temperature, backend=backend)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


def test_nt_xent_of_pml_loses_the_hardest_gradients() -> None:
    """``log(share + tiny)`` saturates: a positive far below its negatives moves nothing there."""
    anchor, r = torch.tensor([[0.9, 0.2]]), torch.tensor([[-0.9, 0.3], [0.9, 0.3]])
    labels, others = torch.tensor([0]), torch.tensor([0, 1])
    first, second = anchor.clone().requires_grad_(), anchor.clone().requires_grad_()
    value = nt_xent_loss(first, labels, r, others, temperature=0.01)
    peer = losses.NTXentLoss(temperature=0.01)(second, labels, ref_emb=r, ref_labels=others)
    value.backward()
    peer.backward()
    assert value > 150
    assert peer < 90
    assert first.grad.norm() > 1
    assert second.grad.norm() < 1e-6


@backends
@pytest.mark.parametrize("reference", [False, True])
def test_sup_con(reference: bool, backend: object) -> None:
    peer = losses.SupConLoss(temperature=0.2)

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        labels = (REFERENCE_LABELS,) if r else ()
        return sup_con_loss(x, LABELS, *r, *labels, temperature=0.2, backend=backend)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    # PML divides by the number of positives plus a tiny constant.
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


@backends
@pytest.mark.parametrize("reference", [False, True])
def test_multi_similarity(reference: bool, backend: object) -> None:
    peer = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        labels = (REFERENCE_LABELS,) if r else ()
        return multi_similarity_loss(x, LABELS, *r, *labels, backend=backend)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


@backends
@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_multi_similarity_mining(epsilon: float, backend: object) -> None:
    peer, miner = losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(epsilon=epsilon)
    x = embeddings()
    centres = embeddings(5, seed=3)
    x = x + 2 * centres[LABELS]  # some pairs are easy enough to be dropped
    kept = miner(x, LABELS)
    everything = (LABELS[:, None] == LABELS).sum() - len(LABELS), (LABELS[:, None] != LABELS).sum()
    assert len(kept[0]) < everything[0]
    assert len(kept[2]) < everything[1]
    assert_equal(
        lambda x: multi_similarity_loss(x, LABELS, epsilon=epsilon, backend=backend),
        lambda x: peer(x, LABELS, miner(x, LABELS)),
        x,
    )


def test_multi_similarity_counts_only_anchors_with_both_sides() -> None:
    """PML averages over all rows, also those of a class of one, whose positive side is empty."""
    labels = torch.tensor([0, 0, 1, 1, 2])
    x = embeddings(5)
    ours = multi_similarity_loss(x, labels, reduction="sum")
    theirs = losses.MultiSimilarityLoss(reducer=reducers.SumReducer())(x, labels)
    one = (50 * (F.normalize(x)[4] @ F.normalize(x)[:4].T - 0.5)).logsumexp(0)
    assert (theirs - ours).item() == pytest.approx(F.softplus(one).item() / 50, rel=1e-9)


@backends
@pytest.mark.parametrize(("margin", "gamma"), [(0.4, 80.0), (0.25, 256.0)])
@pytest.mark.parametrize("reference", [False, True])
def test_circle(margin: float, gamma: float, reference: bool, backend: object) -> None:
    peer = losses.CircleLoss(m=margin, gamma=gamma, reducer=reducers.SumReducer())
    told = {"margin": margin, "gamma": gamma, "reduction": "sum", "backend": backend}

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        return circle_loss(x, LABELS, *r, *((REFERENCE_LABELS,) if r else ()), **told)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


# --- pytorch-metric-learning: pair losses


@backends
@pytest.mark.parametrize(
    ("similarity", "distance", "margins"),
    [
        ("euclidean", distances.LpDistance(**L2), (0.0, 3.0)),
        ("euclidean", distances.LpDistance(**L2), (1.5, 4.0)),
        ("squared_euclidean", distances.LpDistance(**L2, power=2), (0.5, 9.0)),
        ("cosine", distances.CosineSimilarity(), (1.0, 0.0)),
        ("cosine", distances.CosineSimilarity(), (0.5, 0.3)),
    ],
)
@pytest.mark.parametrize("reference", [False, True])
def test_pairwise_contrastive(
    similarity: str,
    distance: object,
    margins: tuple[float, float],
    reference: bool,
    backend: object,
) -> None:
    peer = losses.ContrastiveLoss(*margins, distance=distance)
    told = {"positive_margin": margins[0], "negative_margin": margins[1], "penalty": "hinge"}
    told |= {"similarity": similarity, "reduction": "mean_active", "backend": backend}

    def ours(x: Tensor, *r: Tensor) -> Tensor:
        labels = (REFERENCE_LABELS,) if r else ()
        return pairwise_contrastive_loss(x, LABELS, *r, *labels, **told)

    def theirs(x: Tensor, *r: Tensor) -> Tensor:
        others = {"ref_emb": r[0], "ref_labels": REFERENCE_LABELS} if r else {}
        return peer(x, LABELS, **others)

    inputs = (embeddings(), embeddings(len(REFERENCE_LABELS), seed=1))
    assert_equal(ours, theirs, *inputs[: 2 if reference else 1])


def test_pairwise_contrastive_is_squared_by_default() -> None:
    """Hadsell squares both terms; PML's default does not."""
    x = embeddings()
    told = {"negative_margin": 3.0, "reduction": "mean_active"}
    peer = losses.ContrastiveLoss(0, 3, distance=distances.LpDistance(**L2))(x, LABELS)
    assert abs(pairwise_contrastive_loss(x, LABELS, **told) - peer) > 0.1
    linear = pairwise_contrastive_loss(x, LABELS, **told, penalty="hinge")
    assert linear.item() == pytest.approx(peer.item(), rel=1e-10)


@backends
def test_margin_before_its_reduction(backend: object) -> None:
    """PML repeats each pair in every triplet that it is part of; ours has each pair once."""
    peer = losses.MarginLoss(
        margin=0.2,
        beta=1.2,
        distance=distances.LpDistance(**L2),
        reducer=reducers.DoNothingReducer(),
    )
    x = sphere()
    result = peer(x, LABELS)["margin_loss"]
    a, p, n = result["indices"]
    d = torch.cdist(x, x)
    positive = (d - 1.2 + 0.2).clamp(min=0)
    negative = (1.2 - d + 0.2).clamp(min=0)
    torch.testing.assert_close(result["losses"], positive[a, p] + negative[a, n])
    once = [torch.unique(torch.stack([a, other], 1), dim=0) for other in (p, n)]
    sums = x.new_zeros(len(x))
    for pairs, terms in zip(once, (positive, negative), strict=True):
        sums.index_add_(0, pairs[:, 0], terms[pairs[:, 0], pairs[:, 1]])
    told = {"margin": 0.2, "beta": 1.2, "negatives": "all", "backend": backend}
    ours, _ = margin_loss(x, LABELS, **told, reduction="none")
    torch.testing.assert_close(ours, sums, rtol=1e-10, atol=1e-10)


@backends
def test_margin_gradient_of_one_triplet_for_each_pair(backend: object) -> None:
    """With two classes of two, every triplet of PML shares its pairs twice: its sum is twice ours."""
    labels = torch.tensor([0, 0, 1, 1])
    peer = losses.MarginLoss(
        margin=0.2, beta=1.0, distance=distances.LpDistance(**L2), reducer=reducers.SumReducer()
    )
    told = {"margin": 0.2, "beta": 1.0, "negatives": "all", "reduction": "sum", "backend": backend}

    def ours(x: Tensor) -> Tensor:
        d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        positive = (d[[0, 1, 2, 3], [1, 0, 3, 2]] - 1.0 + 0.2).clamp(min=0).sum()
        return margin_loss(x, labels, **told) + positive

    assert_equal(ours, lambda x: peer(x, labels), sphere(4, 3, seed=5))


# --- pytorch-metric-learning: a memory of past batches


@backends
def test_a_queue_of_one_labelled_set_is_cross_batch_memory(backend: object) -> None:
    """XBM: columns have no gradient, those of the batch neither; values and gradients of every step."""
    peer = losses.CrossBatchMemory(
        losses.ContrastiveLoss(0, 3, distance=distances.LpDistance(**L2)), 6, memory_size=80
    )
    queue = MemoryQueue(60, 6, dtype=torch.float64)
    told = {"negative_margin": 3.0, "penalty": "hinge", "reduction": "mean_active"}
    for step in range(3):
        x, labels = embeddings(seed=step), LABELS.roll(step)

        def ours(x: Tensor, labels: Tensor = labels) -> Tensor:
            reference = queue.extend(x.detach(), labels)
            return pairwise_contrastive_loss(
                x, labels, *reference, same_set=True, **told, backend=backend
            )

        assert_equal(ours, lambda x, labels=labels: peer(x, labels), x)
        queue.update(x, labels)


def test_a_queue_with_gradients_of_the_columns_pulls_twice() -> None:
    """At the first step: every pair stands there twice, and moves both rows each time."""
    queue, found = MemoryQueue(60, 6, dtype=torch.float64), []
    for detached in (True, False):
        leaf = embeddings().requires_grad_()
        reference = queue.extend(leaf.detach() if detached else leaf, LABELS)
        told = {"negatives": "all", "reduction": "sum"}
        pairwise_contrastive_loss(leaf, LABELS, *reference, same_set=True, **told).backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[1], 2 * found[0])


# --- open_clip, SigLIP, sentence-transformers


@backends
def test_open_clips_clip_loss(backend: object) -> None:
    def theirs(a: Tensor, b: Tensor) -> Tensor:
        a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
        logit_scale, labels = 1 / 0.07, torch.arange(len(a))
        per_image, per_text = logit_scale * a @ b.T, logit_scale * b @ a.T
        return (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2

    assert_equal(
        lambda a, b: info_nce_loss(a, b, temperature=0.07, backend=backend),
        theirs,
        embeddings(),
        embeddings(seed=1),
    )


def test_open_clip_itself() -> None:
    open_clip = pytest.importorskip("open_clip.loss", reason="open_clip is not installed")
    a, b = sphere(), sphere(seed=1)
    theirs = open_clip.ClipLoss()(a, b, logit_scale=torch.tensor(10.0, dtype=torch.float64))
    assert info_nce_loss(a, b, temperature=0.1).item() == pytest.approx(theirs.item(), rel=1e-10)


@backends
def test_siglip(backend: object) -> None:
    def theirs(a: Tensor, b: Tensor, t: Tensor, bias: Tensor) -> Tensor:
        logits = F.normalize(a) @ F.normalize(b).T * t.exp() + bias
        signs = 2 * torch.eye(len(a), dtype=a.dtype) - 1
        return -F.logsigmoid(signs * logits).sum() / len(a)

    def ours(a: Tensor, b: Tensor, t: Tensor, bias: Tensor) -> Tensor:
        return sigmoid_loss(a, b, temperature=(-t).exp(), bias=bias, backend=backend)

    scale, bias = torch.tensor(10.0).log().double(), torch.tensor(-10.0).double()
    assert_equal(ours, theirs, embeddings(), embeddings(seed=1), scale, bias)


@backends
def test_multiple_negatives_ranking(backend: object) -> None:
    """sentence-transformers: positives of all rows and the mined negatives behind them, one direction."""

    def theirs(a: Tensor, b: Tensor) -> Tensor:
        scores = 20.0 * F.normalize(a) @ F.normalize(b).T
        return F.cross_entropy(scores, torch.arange(len(a)))

    told = {"temperature": 1 / 20, "directions": "queries", "backend": backend}
    assert_equal(
        lambda a, b: info_nce_loss(a, b, **told),
        theirs,
        embeddings(),
        embeddings(33, seed=1),
        tol=5e-9,  # torch's softplus is linear beyond 20, where it leaves out exp(-20) = 2e-9
    )
