"""What every loss should be: plain dense formulas from the papers, one score matrix at a time.

Nothing of ``hardneg`` is computed with here; only its value objects are read, for their fields. Which
negatives an anchor takes is decided in plain Python on lists of floats, so that no masking or sorting
trick is shared with the library. Any floating type goes: float64 is the oracle, float32 the plain
eager formula whose rounding error is the yardstick of the library's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Value = Tensor | tuple[Tensor, Tensor]


def scores(similarity: object, q: Tensor, c: Tensor) -> Tensor:
    """The n x m matrix, rising with closeness."""
    name = type(similarity).__name__
    if name == "Cosine":
        return (q / q.norm(dim=1, keepdim=True)) @ (c / c.norm(dim=1, keepdim=True)).T
    if name == "Dot":
        return q @ c.T
    if name in ("Euclidean", "SquaredEuclidean"):
        # In float32 the plain formula of a distance is the expanded square, as in torch.cdist.
        if q.dtype == torch.float64:
            squared = (q[:, None] - c[None]).square().sum(-1)
        else:
            squared = (q * q).sum(1)[:, None] + (c * c).sum(1)[None] - 2 * q @ c.T
        return -squared if name == "SquaredEuclidean" else -root(squared)
    if name == "Order":
        excess = (
            c[None] - q[:, None] if similarity.general == "candidates" else q[:, None] - c[None]
        )
        return -root(excess.clamp(min=0).square().sum(-1))
    return similarity(q, c)


def root(x: Tensor) -> Tensor:
    """Square root; what is clamped passes no gradient, so that of 0 is 0."""
    return x.clamp(min=torch.finfo(x.dtype).tiny).sqrt()


@dataclass(frozen=True)
class Related:
    """Which pairs are positives and which are negatives, seen from the rows."""

    positive: Tensor
    negative: Tensor
    paired: bool

    @property
    def swapped(self) -> Related:
        return Related(self.positive.T, self.negative.T, self.paired)


def related(
    n: int,
    m: int,
    ids: tuple[Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
    ignore: Tensor | None = None,
    *,
    paired: bool = False,
    same: bool = False,
) -> Related:
    """Kin by ids or mask (and row i with candidate i where ``paired``); negatives are all the others.

    ``same``: row i and candidate i are one sample, neither positive nor negative.
    """
    positive = torch.zeros(n, m, dtype=torch.bool)
    negative = torch.zeros(n, m, dtype=torch.bool)
    for i in range(n):
        for j in range(m):
            kin = (paired or (ids is None and mask is None)) and i == j
            kin = kin or (ids is not None and int(ids[0][i]) == int(ids[1][j]))
            kin = kin or (mask is not None and bool(mask[i, j]))
            left_out = (same and i == j) or (ignore is not None and bool(ignore[i, j]))
            positive[i, j] = kin and not left_out
            negative[i, j] = not kin and not left_out
    return Related(positive, negative, paired)


def choose(
    strategy: object, row: list[float], negatives: list[int], p: float | None, name: str
) -> tuple[list[int], float]:
    """The negatives that an anchor takes, and the weight of each."""
    kind = type(strategy).__name__
    if kind == "SelectiveHardest":
        negatives = below(strategy, row, negatives, None)
        hardest = sorted(negatives, key=lambda j: -row[j])[:1]
        if hardest and abs(p - row[hardest[0]]) < strategy.threshold:
            return negatives, 1 / len(negatives)
        return hardest, 1.0
    admitted = below(strategy, row, negatives, p)
    ranked = sorted(admitted, key=lambda j: -row[j])
    if kind == "All":
        return ranked, 1.0
    if kind in ("Hardest", "SemiHard"):
        chosen = ranked[:1]
    elif kind == "TopK":
        chosen = ranked[: strategy.k]
    elif kind == "RankWindow":
        chosen = ranked[strategy.start : strategy.stop]
    elif kind == "RandomK":
        assert strategy.k >= len(row), "random: only the draw of everything has one right answer"
        chosen = ranked
    else:
        assert kind == "DistanceWeighted"
        assert strategy.k >= len(row), "random: only the draw of everything has one right answer"
        chosen = [j for j in ranked if distance(name, row[j]) < strategy.nonzero_loss_cutoff]
    if not chosen and negatives and strategy.fallback != "none":
        best = sorted(negatives, key=lambda j: -row[j])
        chosen = best[:1] if strategy.fallback == "hardest" else best[-1:]
    return chosen, 1.0


def below(strategy: object, row: list[float], negatives: list[int], p: float | None) -> list[int]:
    """The negatives in the strategy's range, and under the ceiling that a positive's score sets where there is one."""
    low, high = strategy.min_score, strategy.max_score
    negatives = [
        j for j in negatives if (low is None or row[j] > low) and (high is None or row[j] < high)
    ]
    if strategy.ceiling is None or p is None:
        return negatives
    ceiling = strategy.ceiling
    bound = p - (1 - ceiling.relative) * abs(p) + ceiling.offset
    return [j for j in negatives if row[j] < bound]


def distance(name: str, score: float) -> float:
    if name == "Cosine":
        return max(0.0, 2 - 2 * score) ** 0.5
    return -score if name == "Euclidean" else (-score) ** 0.5


def weights_of(
    strategy: object, s: Tensor, rel: Related, pairs: list[tuple[int, int]], name: str
) -> Tensor:
    """One row of weights over the candidates for each (anchor, positive) pair."""
    rows = s.detach().tolist()
    weights = torch.zeros(len(pairs), s.shape[1], dtype=s.dtype)
    for t, (i, j) in enumerate(pairs):
        if j < 0 and strategy.ceiling is not None:
            continue  # no positive to which a ceiling could relate
        negatives = rel.negative[i].nonzero()[:, 0].tolist()
        p = None if j < 0 else rows[i][j]
        chosen, weight = choose(strategy, rows[i], negatives, p, name)
        weights[t, chosen] = weight
    return weights


def anchors_bound(row: list[float], i: int, rel: Related) -> float | None:
    """The score that a ceiling relates to where negatives belong to the anchor as a whole.

    That of its paired candidate, or else of its highest-scoring positive; None without a positive.
    """
    if rel.paired:
        return row[i]
    return max((row[j] for j in rel.positive[i].nonzero()[:, 0].tolist()), default=None)


def chosen_by_anchor(strategy: object, s: Tensor, rel: Related, name: str) -> Tensor:
    """The chosen negatives of every anchor, whichever its positives, as a mask."""
    chosen = torch.zeros(s.shape, dtype=torch.bool)
    for i, row in enumerate(s.detach().tolist()):
        negatives = rel.negative[i].nonzero()[:, 0].tolist()
        chosen[i, choose(strategy, row, negatives, anchors_bound(row, i, rel), name)[0]] = True
    return chosen


def pairs_of(s: Tensor, rel: Related, positives: str) -> list[tuple[int, int]]:
    """(anchor, positive) pairs, positive -1 for an anchor without one."""
    n = s.shape[0]
    if positives == "paired":
        return [(i, i) for i in range(min(s.shape))]
    if positives == "all":
        return [(i, int(j)) for i in range(n) for j in rel.positive[i].nonzero()[:, 0]]
    rows = s.detach().tolist()
    pick = min if positives == "hardest" else max
    found = []
    for i in range(n):
        own = rel.positive[i].nonzero()[:, 0].tolist()
        found.append((i, pick(own, key=lambda j: rows[i][j]) if own else -1))
    return found


def phi(penalty: str, x: Tensor) -> Tensor:
    if penalty == "hinge":
        return x.clamp(min=0)
    if penalty == "squared_hinge":
        return x.clamp(min=0) ** 2
    return torch.logaddexp(x, torch.zeros_like(x))  # F.softplus has slope 1 from 20 on


def reduce(
    terms: Tensor, valid: Tensor, active: Tensor, reduction: str, triplets: Tensor | None = None
) -> Tensor:
    terms = torch.where(valid, terms, 0)
    if reduction == "none":
        return terms
    divisor = {"sum": 1, "mean": int(valid.sum()), "mean_active": int(active[valid].sum())}
    if triplets is not None:
        divisor["mean_triplets"] = int(triplets[valid].sum())
    return terms.sum() / max(1, divisor[reduction])


def directed(
    one_direction, s: Tensor, rel: Related, directions: str, reduction: str, average: bool
):
    """Both directions added, or averaged; with "none" the terms of both."""
    of_queries = None if directions == "candidates" else one_direction(s, rel)
    of_candidates = None if directions == "queries" else one_direction(s.T, rel.swapped)
    if reduction == "none":
        empty = s.new_zeros(0)
        return (
            empty if of_queries is None else of_queries,
            empty if of_candidates is None else of_candidates,
        )
    parts = [x for x in (of_queries, of_candidates) if x is not None]
    return sum(parts) / (len(parts) if average else 1)


def anchor_positive(s: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair's row of scores, its positive's score, and whether it has a positive."""
    anchors = torch.tensor([i for i, _ in pairs], dtype=torch.long)
    positives = torch.tensor([j for _, j in pairs], dtype=torch.long)
    return s[anchors], s[anchors, positives.clamp(min=0)], positives >= 0


def hinges(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    margin: float,
    negatives: object,
    positives: str = "paired",
    penalty: str = "hinge",
    directions: str,
    reduction: str,
) -> Value:
    """Contrastive (one positive, paired) and triplet losses: phi(margin - s_ap + s_an)."""

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        pairs = pairs_of(s, rel, positives)
        weights = weights_of(negatives, s, rel, pairs, name)
        rows, p, has = anchor_positive(s, pairs)
        chosen = weights > 0
        values = torch.where(chosen, phi(penalty, margin - p[:, None] + rows), 0)
        active = (values > 0).sum(1)
        valid, terms = chosen.any(1) & has, (values * weights).sum(1)
        return reduce(terms, valid, active, reduction, chosen.sum(1))

    return directed(one_direction, s, rel, directions, reduction, average=False)


def info_nce(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    temperature: float | Tensor,
    margin: float = 0.0,
    negatives: object,
    positives: str,
    softmax: object = None,
    directions: str,
    reduction: str,
) -> Value:
    """-log of the positive's share among itself and the chosen negatives (NT-Xent: all positives)."""

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        pairs = pairs_of(s, rel, positives)
        chosen = weights_of(negatives, s, rel, pairs, name) > 0
        rows, p, _ = anchor_positive(s, pairs)
        if softmax is not None:
            terms = softmax_form(softmax, rows, p, chosen, temperature, margin)
            return reduce(terms, chosen.any(1), chosen.any(1), reduction)
        z = ((rows - p[:, None] + margin) / temperature).masked_fill(~chosen, -torch.inf)
        terms = torch.cat([torch.zeros_like(p)[:, None], z], dim=1).logsumexp(1)
        return reduce(terms, chosen.any(1), chosen.any(1), reduction)

    return directed(one_direction, s, rel, directions, reduction, average=True)


def softmax_form(
    form: object,
    rows: Tensor,
    p: Tensor,
    chosen: Tensor,
    temperature: float | Tensor,
    margin: float,
) -> Tensor:
    """The term of every anchor under a form of the softmax, from the exponents of its classes."""
    kind = type(form).__name__
    terms = []
    for i in range(len(rows)):
        negative, positive = rows[i][chosen[i]], (p[i] - margin) / temperature
        z, count = negative / temperature, int(chosen[i].sum())
        if count == 0:
            terms.append(p.new_zeros(()))
            continue
        if kind == "HardnessWeighted":
            z = z + form.strength * negative.detach()
        if kind == "Debiased":
            lowest = (-1 / torch.as_tensor(temperature)).to(p).exp()
            total = z.exp().sum() - count * form.prior * (p[i] / temperature).exp()
            total = torch.maximum(total / (1 - form.prior), count * lowest)
            terms.append((positive.exp() + total).log() - positive)
            continue
        classes = torch.cat([positive[None], z])
        log_share = classes - classes.logsumexp(0)
        if kind == "Decoupled":
            terms.append(z.logsumexp(0) - positive)
        elif kind == "LabelSmoothing":
            smooth = log_share.mean() * form.amount
            terms.append(-(1 - form.amount) * log_share[0] - smooth)
        else:
            terms.append(-log_share[0])
    return torch.stack(terms)


def sup_con(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    temperature: float | Tensor,
    negatives: object,
    directions: str,
    reduction: str,
) -> Value:
    """L_out of Khosla et al.: - mean over positives of log(exp(z_p) / sum over the others of exp(z))."""

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        chosen = chosen_by_anchor(negatives, s, rel, name)
        valid = rel.positive.any(1)
        z = s / temperature
        terms = []
        for i in range(len(s)):
            if not valid[i]:
                terms.append(s.new_zeros(()))
                continue
            denominator = z[i][rel.positive[i] | chosen[i]].logsumexp(0)
            terms.append((denominator - z[i][rel.positive[i]]).mean())
        return reduce(torch.stack(terms), valid, valid, reduction)

    return directed(one_direction, s, rel, directions, reduction, average=True)


def sigmoid(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    temperature: float | Tensor,
    bias: float | Tensor,
    negatives: object,
    positives: str,
    directions: str,
    reduction: str,
) -> Value:
    """-logsigmoid(z) of positive pairs and -logsigmoid(-z) of negative ones."""

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        own = torch.eye(*s.shape, dtype=torch.bool) if positives == "paired" else rel.positive
        chosen = chosen_by_anchor(negatives, s, rel, name)
        z = s / temperature + bias
        values = torch.where(own, -F.logsigmoid(z), 0) + torch.where(chosen, -F.logsigmoid(-z), 0)
        valid = own.any(1) | chosen.any(1)
        return reduce(values.sum(1), valid, (own | chosen).sum(1), reduction)

    return directed(one_direction, s, rel, directions, reduction, average=True)


def pair_terms(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    positive_threshold: float | Tensor,
    negative_threshold: float | Tensor,
    penalty: str,
    negatives: object,
    directions: str,
    reduction: str,
) -> Value:
    """phi(positive_threshold - s) over positive pairs and phi(s - negative_threshold) over chosen negatives.

    Each kind is averaged over its own pairs. Thresholds are scores, one for all or one an anchor.
    """

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        chosen = chosen_by_anchor(negatives, s, rel, name)
        t = [
            x[:, None] if isinstance(x, Tensor) and x.dim() else x
            for x in (positive_threshold, negative_threshold)
        ]
        total = s.new_zeros(len(s) if reduction == "none" else ())
        for mask, x in ((rel.positive, t[0] - s), (chosen, s - t[1])):
            values = torch.where(mask, phi(penalty, x), 0)
            divisor = {"mean": int(mask.sum()), "mean_active": int((values > 0).sum())}
            sums = values.sum(1) if reduction == "none" else values.sum()
            total = total + sums / max(1, divisor.get(reduction, 1))
        return total

    return directed(one_direction, s, rel, directions, reduction, average=False)


def pairwise(
    s: Tensor, rel: Related, *, name: str, positive_margin: float, negative_margin: float, **options
) -> Value:
    """Hadsell: margins are distances where the score is a negated distance."""
    sign = -1 if name in ("Euclidean", "SquaredEuclidean", "Order") else 1
    thresholds = {
        "positive_threshold": sign * positive_margin,
        "negative_threshold": sign * negative_margin,
    }
    return pair_terms(s, rel, name=name, **thresholds, **options)


def margin_loss(
    s: Tensor, rel: Related, *, name: str, margin: float, beta: float | Tensor, **options
) -> Value:
    """Wu et al.: positives nearer than beta - margin, negatives farther than beta + margin."""
    thresholds = {"positive_threshold": margin - beta, "negative_threshold": -(beta + margin)}
    return pair_terms(s, rel, name=name, penalty="hinge", **thresholds, **options)


def two_sided(
    s: Tensor,
    rel: Related,
    term,
    *,
    name: str,
    negatives: object,
    epsilon: float | None = None,
    directions: str,
    reduction: str,
) -> Value:
    """``term(positive scores, negative scores)`` of every anchor that has both.

    Under a ceiling an anchor has the negatives below it, or else the fallback. ``epsilon`` leaves out those
    too easy beside the hardest of the other kind; of the others the strategy chooses.
    """

    def sides(row: list[float], i: int, rel: Related) -> tuple[list[int], list[int]] | None:
        positive = rel.positive[i].nonzero()[:, 0].tolist()
        every, bound = rel.negative[i].nonzero()[:, 0].tolist(), anchors_bound(row, i, rel)
        under = below(negatives, row, every, bound)
        negative = under or choose(negatives, row, every, bound, name)[0]
        if not positive or not negative:
            return None
        if epsilon is not None:
            hardest = max(row[j] for j in negative), min(row[j] for j in positive)
            positive = [j for j in positive if row[j] - epsilon < hardest[0]]
            negative = [j for j in negative if row[j] + epsilon > hardest[1]]
        return positive, choose(negatives, row, negative, bound, name)[0]

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        found = [sides(row, i, rel) for i, row in enumerate(s.detach().tolist())]
        terms = [
            s.new_zeros(()) if own is None else term(s[i][own[0]], s[i][own[1]])
            for i, own in enumerate(found)
        ]
        valid = torch.tensor([own is not None for own in found])
        return reduce(torch.stack(terms), valid, valid, reduction)

    return directed(one_direction, s, rel, directions, reduction, average=False)


def multi_similarity(
    s: Tensor, rel: Related, *, alpha: float, beta: float, base: float, **options
) -> Value:
    """Wang et al., eq. 15; an empty side gives log 1."""

    def term(p: Tensor, n: Tensor) -> Tensor:
        of_positives = torch.log1p(torch.exp(-alpha * (p - base)).sum()) / alpha
        return of_positives + torch.log1p(torch.exp(beta * (n - base)).sum()) / beta

    return two_sided(s, rel, term, **options)


def circle(s: Tensor, rel: Related, *, margin: float, gamma: float, **options) -> Value:
    """Sun et al., eq. 6, the weights held constant."""

    def term(p: Tensor, n: Tensor) -> Tensor:
        a_p = (1 + margin - p.detach()).clamp(min=0)
        a_n = (n.detach() + margin).clamp(min=0)
        of_positives = torch.logsumexp(-gamma * a_p * (p - (1 - margin)), 0)
        of_negatives = torch.logsumexp(gamma * a_n * (n - margin), 0)
        return phi("softplus", of_positives + of_negatives)

    return two_sided(s, rel, term, **options)


def polynomial(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    margin: float,
    positive: tuple[float, ...],
    negative: tuple[float, ...],
    negatives: object,
    directions: str,
    reduction: str,
) -> Value:
    """Wei et al.: P(p) plus N(h) over the chosen negatives that violate the margin, both cut at 0."""

    def at(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
        return sum(a * x**degree for degree, a in enumerate(coefficients)).clamp(min=0)

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        pairs = pairs_of(s, rel, "paired")
        chosen = weights_of(negatives, s, rel, pairs, name) > 0
        rows, p, _ = anchor_positive(s, pairs)
        violating = chosen & (rows + margin > p[:, None]).detach()
        terms = torch.where(violating.any(1), at(positive, p), 0)
        terms = terms + torch.where(violating, at(negative, rows), 0).sum(1)
        return reduce(terms, chosen.any(1), violating.sum(1), reduction)

    return directed(one_direction, s, rel, directions, reduction, average=False)


def unified(
    s: Tensor,
    rel: Related,
    *,
    name: str,
    margin: float,
    gamma: float,
    negatives: object,
    directions: str,
    reduction: str,
) -> Value:
    """log(1 + sum of exp(gamma (s_n - s_p + margin))) / gamma, both directions added."""

    def one_direction(s: Tensor, rel: Related) -> Tensor:
        pairs = pairs_of(s, rel, "paired")
        chosen = weights_of(negatives, s, rel, pairs, name) > 0
        rows, p, _ = anchor_positive(s, pairs)
        z = (gamma * (rows - p[:, None] + margin)).masked_fill(~chosen, -torch.inf)
        terms = torch.cat([torch.zeros_like(p)[:, None], z], dim=1).logsumexp(1) / gamma
        return reduce(terms, chosen.any(1), chosen.any(1), reduction)

    return directed(one_direction, s, rel, directions, reduction, average=False)
