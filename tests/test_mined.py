"""``mined`` of every loss: the loss computed by hand from the indices is the loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from every_loss import Case, case, numbers
from torch import Tensor
from torch.nn import functional as F

from hardneg import (
    All,
    Ceiling,
    ContrastiveLoss,
    DistanceWeighted,
    Hardest,
    InfoNCELoss,
    Mined,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    SigmoidLoss,
    SupConLoss,
    Tiled,
    TopK,
    TripletLoss,
    UnifiedPairLoss,
    Warmup,
    mine,
)

STRATEGIES = [
    Hardest(),
    TopK(3),
    TopK(2, Ceiling(0.9), "hardest"),
    RankWindow(1, 3),
    SemiHard(),
    SemiHard("none"),
    RandomK(2),
    RandomK(2, Ceiling()),
    DistanceWeighted(k=2),
    TopK(3, min_score=-0.6, max_score=0.5),
    SemiHard(min_score=-0.3),
]
PAIRS = [
    case("contrastive", "paired"),
    case("info_nce", "paired", temperature=0.3),
    case("info_nce", "paired", temperature=0.3, positives="all"),
    case("unified_pair", "paired", gamma=5.0),
    case("polynomial", "paired"),
    case("sigmoid", "paired", bias=-1.0),
]
LABELS = [
    case("triplet", "labelled", positives="all", margin=0.5),
    case("triplet", "labelled", positives="hardest", margin=0.5),
    case("triplet", "labelled", positives="easiest", margin=0.5),
    case("nt_xent", "labelled", temperature=0.3),
    case("sup_con", "labelled", temperature=0.3),
    case("pairwise_contrastive", "labelled", similarity="cosine"),
    case("margin", "labelled"),
    case("multi_similarity", "labelled", beta=5.0),
    case("multi_similarity", "labelled", beta=5.0, epsilon=0.1),
    case("circle", "labelled", gamma=4.0),
]
IDS = torch.tensor([0, 0, 1, 2, 3, 3, 4])
FURTHER = torch.tensor([0, 1, 7, 8])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 9])


def loss_of(which: Case, negatives: Any, **options: Any) -> Any:
    return which.about.module(**{**dict(which.options), "negatives": negatives, **options})


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    return sum(c * x**power for power, c in enumerate(coefficients))  # type: ignore[return-value]


def one_term(loss: Any, name: str, p: Tensor, negatives: Tensor) -> Tensor:
    """The term of one positive against these negatives."""
    if name in ("contrastive", "triplet"):
        return (loss.margin - p + negatives).relu().sum()
    if name in ("info_nce", "nt_xent"):
        return ((negatives - p) / 0.3).exp().sum().log1p()
    if name == "unified_pair":
        return (loss.gamma * (negatives - p + loss.margin)).exp().sum().log1p() / loss.gamma
    violating = negatives[negatives > p - loss.margin]
    parts = [
        polynomial(c, x).relu().sum() for c, x in ((loss.positive, p), (loss.negative, violating))
    ]
    return parts[0] + parts[1] if len(violating) else p * 0


def of_positives(loss: Any, name: str, s: Tensor, positive: Tensor, chosen: Any) -> Tensor:
    """The mean over (anchor, positive) pairs with a negative."""
    terms = []
    for row, anchor in enumerate(chosen.anchors.tolist()):
        index = chosen.indices[row][chosen.indices[row] >= 0]
        one = None if chosen.positives is None else int(chosen.positives[row])
        partners = positive[anchor].nonzero()[:, 0].tolist() if one is None else [one]
        for partner in partners if len(index) else []:
            terms.append(one_term(loss, name, s[anchor, partner], s[anchor, index]))
    return torch.stack(terms).mean()


def of_kinds(loss: Any, name: str, s: Tensor, positive: Tensor, chosen: Any) -> Tensor:
    """Every pair a term."""
    rows = chosen.anchors[:, None].expand_as(chosen.indices)[chosen.indices >= 0]
    p, n = s[positive], s[rows, chosen.indices[chosen.indices >= 0]]
    if name == "sigmoid":
        some = positive.any(1) | (chosen.counts > 0)
        total = F.softplus(-(p / 0.1 - 1)).sum() + F.softplus(n / 0.1 - 1).sum()
        return total / some.sum()
    if name == "pairwise_contrastive":
        return (0 - p).relu().square().mean() + (n - 1).relu().square().mean()
    margin, beta = 0.2, 1.2
    return (margin - beta - p).relu().mean() + (margin + beta + n).relu().sum() / max(1, len(n))


def in_window(negatives: Any, p: Tensor, every: Tensor) -> Tensor:
    """The scores of an anchor's negatives in the range and below the highest positive's ceiling, or of the fallback."""
    bounds = [x for x in (negatives.max_score,) if x is not None]
    if negatives.ceiling is not None:
        bounds.append(negatives.ceiling(p.max()) - 1e-9)
    inside = every[every < min(bounds)] if bounds else every
    if negatives.min_score is not None:
        inside = inside[inside > negatives.min_score]
    order = {"easiest": every.min(), "hardest": every.max()}.get(negatives.fallback)
    return inside if len(inside) or order is None else order[None]


def of_anchors(loss: Any, name: str, s: Tensor, positive: Tensor, chosen: Any) -> Tensor:
    """One term an anchor, over its positives and its chosen negatives."""
    terms = []
    own = torch.eye(*s.shape, dtype=torch.bool) if s.shape[0] == s.shape[1] else positive
    for i, index in enumerate(chosen.indices):
        p, n = s[i, positive[i]], s[i, index[index >= 0]]
        if not len(p):
            continue
        every = in_window(loss.negatives, p, s[i, ~positive[i] & ~own[i]])
        if name == "sup_con":
            terms.append((torch.cat([p, n]) / 0.3).logsumexp(0) - (p / 0.3).mean())
        elif len(every) and name == "circle":
            up = loss.gamma * (1 + 0.25 - p).relu() * (p - 0.75)
            down = loss.gamma * (n + 0.25).relu() * (n - 0.25)
            terms.append(F.softplus((-up).logsumexp(0) + down.logsumexp(0)))
        elif len(every):
            if loss.epsilon is not None:
                p = p[p < every.max() + loss.epsilon]
            up = (-loss.alpha * (p - loss.base)).exp().sum().log1p() / loss.alpha
            down = (loss.beta * (n - loss.base)).exp().sum().log1p() / loss.beta
            terms.append(up + down)
    return torch.stack(terms).mean()


BY_HAND = {
    **dict.fromkeys(("sigmoid", "pairwise_contrastive", "margin"), of_kinds),
    **dict.fromkeys(("sup_con", "circle", "multi_similarity"), of_anchors),
}


def check_values(chosen: Any, s: Tensor) -> None:
    """Scores and counts are those of the indices, places that hold nothing come last."""
    assert isinstance(chosen, Mined)
    there = chosen.indices >= 0
    assert torch.equal(there.sum(1), chosen.counts)
    assert bool((there[:, 1:] <= there[:, :-1]).all())
    found = s[chosen.anchors[:, None], chosen.indices.clamp(min=0)]
    expected = torch.where(there, found, -torch.inf)
    torch.testing.assert_close(chosen.scores, expected)
    assert not chosen.scores.requires_grad


def compare(loss: Any, which: Case, s: Tensor, positive: Tensor, call: Any, mined: Any) -> None:
    """The loss against the one by hand, averaged or added over directions."""
    torch.manual_seed(7)
    value = call()
    torch.manual_seed(7)
    found = mined()
    by_hand = BY_HAND.get(which.name, of_positives)
    sides = [(found.queries, s, positive), (found.candidates, s.T, positive.T)]
    parts = []
    for chosen, scores, related in sides:
        if chosen is not None:
            check_values(chosen, scores)
            parts.append(by_hand(loss, which.name, scores, related, chosen))
    expected = torch.stack(parts).sum() / (len(parts) if loss.average else 1)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("negatives", STRATEGIES, ids=str)
@pytest.mark.parametrize("which", PAIRS, ids=str)
def test_losses_on_pairs(which: Case, negatives: Any) -> None:
    all_positives = dict(which.options).get("positives") == "all"
    for directions in ("queries", "both", "candidates"):
        m = 7 if which.name == "sigmoid" else 11
        ids = {"query_ids": IDS, "candidate_ids": torch.cat([IDS, FURTHER])[:m]}
        q, c = numbers(7, 5, 0, torch.float64), numbers(m, 5, 1, torch.float64)
        ignore = torch.rand(7, m, generator=torch.Generator().manual_seed(3)) < 0.15
        ignore[4, 4] = True
        ids["ignore_mask"] = ignore
        for backend in ("auto", Tiled((3, 5))):
            loss = loss_of(which, negatives, directions=directions, backend=backend)
            s = loss.similarity(q, c)
            same = ids["query_ids"][:, None] == ids["candidate_ids"]
            positive = (same if all_positives else torch.eye(7, m, dtype=torch.bool)) & ~ignore
            call, mined = (partial(f, q, c, **ids) for f in (loss, loss.mined))
            compare(loss, which, s, positive, call, mined)


@pytest.mark.parametrize("negatives", STRATEGIES, ids=str)
@pytest.mark.parametrize("which", LABELS, ids=str)
def test_losses_on_labels(which: Case, negatives: Any) -> None:
    if which.name == "margin":
        negatives = negatives if negatives != DistanceWeighted(k=2) else "distance_weighted"
    x = F.normalize(numbers(8, 5, 2, torch.float64))
    r, labels = F.normalize(numbers(9, 5, 3, torch.float64)), torch.arange(9) % 3
    for backend in ("auto", Tiled((3, 5))):
        loss = loss_of(which, negatives, backend=backend)
        positive = (GROUPS[:, None] == GROUPS).fill_diagonal_(False)
        call, mined = (partial(f, x, GROUPS) for f in (loss, loss.mined))
        compare(loss, which, loss.similarity(x, x), positive, call, mined)
        loss = loss_of(which, negatives, backend=backend, directions="both")
        positive = GROUPS[:, None] == labels
        call, mined = (partial(f, x, GROUPS, r, labels) for f in (loss, loss.mined))
        compare(loss, which, loss.similarity(x, r), positive, call, mined)


def test_what_the_rows_are() -> None:
    x = numbers(8, 5, 2)
    pairs = (GROUPS[:, None] == GROUPS).fill_diagonal_(False).nonzero()
    chosen = TripletLoss(negatives="semihard").mined(x, GROUPS).queries
    assert chosen is not None
    assert torch.equal(torch.stack([chosen.anchors, chosen.positives], 1), pairs)
    chosen = TripletLoss(negatives=TopK(2)).mined(x, GROUPS).queries
    assert chosen is not None
    assert torch.equal(chosen.anchors, torch.arange(8))
    assert chosen.positives is None
    assert chosen.counts[-1] == 0, "an anchor without a positive has no term"
    of_pairs = ContrastiveLoss(negatives=TopK(2)).mined(x, numbers(10, 5, 3))
    for side in of_pairs:
        assert side is not None
        assert torch.equal(side.positives, torch.arange(8))
    assert InfoNCELoss(negatives=TopK(2), directions="queries").mined(x, x).candidates is None


def test_is_what_mine_finds() -> None:
    """Where the positive of the strategy is the pair."""
    q, c = numbers(40, 5, 0), numbers(90, 5, 1)
    strategy = TopK(4, Ceiling(0.95))
    ours = InfoNCELoss(negatives=strategy).mined(q, c).queries
    theirs = mine(q, c, strategy, positives=torch.arange(40))
    assert ours is not None
    assert torch.equal(ours.indices, theirs.indices)
    torch.testing.assert_close(ours.scores, theirs.scores)


def test_own_negatives_a_guide_and_a_schedule() -> None:
    q, c = numbers(6, 5, 0, torch.float64), numbers(6, 5, 1, torch.float64)
    own = numbers(18, 5, 2, torch.float64).view(6, 3, 5)
    loss = UnifiedPairLoss(gamma=5.0)
    schedule = Warmup(All(), TopK(2), steps=3)
    found = loss.mined(q, c, own_negatives=own, negatives=schedule(3)).queries
    s = torch.cat(
        [
            F.normalize(q) @ F.normalize(c).T,
            loss.similarity(q, own.flatten(0, 1)).view(6, 6, 3)[range(6), range(6)],
        ],
        1,
    )
    expected = s.clone()
    expected[range(6), range(6)] = -9
    assert found is not None
    assert torch.equal(found.indices, expected.topk(2).indices)
    assert bool((found.indices >= 6).any())
    guided = loss.mined(q, c, negatives=TopK(6), guide=(c[:, :2], q[:, :2])).queries
    by_guide = F.normalize(c[:, :2]) @ F.normalize(q[:, :2]).T
    assert guided is not None
    assert torch.equal(guided.counts, (by_guide < by_guide.diag()[:, None] - 1e-9).sum(1))
    alone = InfoNCELoss(directions="queries", negatives=TopK(2))
    found = alone.mined(q, c, own_negatives=own, share_negatives=False).queries
    assert found is not None
    assert bool((found.indices >= 6).all())


@pytest.mark.parametrize("negatives", [All(), SelectiveHardest()], ids=str)
def test_nothing_to_choose(negatives: Any) -> None:
    q, c = numbers(4, 5, 0), numbers(4, 5, 1)
    with pytest.raises(ValueError, match=r"mined does not take negatives .*negatives=TopK\(8\)"):
        ContrastiveLoss(negatives=negatives).mined(q, c)
    with pytest.raises(ValueError, match="mined does not take negatives All"):
        SupConLoss().mined(q, torch.arange(4) // 2)
    with pytest.raises(ValueError, match=r"TopK\(8\)"):
        InfoNCELoss(directions="joint").mined(q, c)


def test_mistakes() -> None:
    q, c = numbers(4, 5, 0), numbers(4, 5, 1)
    loss = SigmoidLoss(negatives=TopK(1), directions="both")
    with pytest.raises(
        TypeError, match=r"SigmoidLoss\.mined got an unexpected keyword argument 'weights'"
    ):
        loss.mined(q, c, weights=torch.ones(4))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="share_negatives=False is given without own_negatives"):
        loss.mined(q, c, share_negatives=False)
    with pytest.raises(ValueError, match="only equal numbers pair"):
        loss.mined(q, numbers(5, 5, 1))
