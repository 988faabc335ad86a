"""Whole losses of small batches against the definitions: every choice that takes one step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from hardneg import (
    All,
    AllPositives,
    Ceiling,
    CircleLoss,
    ContrastiveLoss,
    Hardest,
    InfoNCELoss,
    Learned,
    MarginLoss,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    RankWindow,
    SemiHard,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
    UnifiedPairLoss,
)
from hardneg.losses.base import LabelLoss, Loss
from hardneg.ops.loss_requests import LossRequest
from hardneg.ops.small.backend import SmallScores
from hardneg.penalties import Identity

STRATEGIES = (
    Hardest(),
    All(),
    SemiHard(),
    SemiHard(fallback="none"),
    SemiHard(fallback="hardest"),
    TopK(3),
    TopK(30),
    TopK(3, ceiling=Ceiling(relative=0.9, offset=0.1)),
    RankWindow(1, 5),
    Hardest(ceiling=Ceiling(offset=-0.1)),
)
RELATIONS = ("none", "ids", "positive_mask", "ignore_mask", "all ignored", "own ignored")


def relation(kind: str, n: int, m: int) -> dict[str, torch.Tensor]:
    """Arguments that say who is related."""
    if kind == "ids":
        ids = torch.arange(m) // 2
        return {"query_ids": ids[:n], "candidate_ids": ids}
    own = torch.eye(n, m, dtype=torch.bool)
    if kind == "positive_mask":
        return {"positive_mask": own | (torch.rand(n, m) < 0.3)}
    if kind == "ignore_mask":
        return {"ignore_mask": ~own & (torch.rand(n, m) < 0.3)}
    if kind == "all ignored":
        return {"ignore_mask": ~own & (torch.arange(n) < 3)[:, None].expand(n, m)}
    if kind == "own ignored":
        return {"ignore_mask": torch.rand(n, m) < 0.4}
    return {}


def batch(
    n: int, m: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs close enough that every strategy finds something."""
    made = torch.Generator().manual_seed(seed)
    q = torch.randn(n, 6, generator=made, dtype=torch.float64)
    c = torch.randn(m, 6, generator=made, dtype=torch.float64)
    c[:n] += q
    return q.to(dtype).requires_grad_(), c.to(dtype).requires_grad_()


def value_and_gradients(
    loss: Loss, q: torch.Tensor, c: torch.Tensor | None, **given: Any
) -> list[torch.Tensor]:
    """The loss, and its gradients by the embeddings and by what is learned."""
    sides = [q] if c is None else [q, c]
    if isinstance(loss, LabelLoss) and c is not None:
        value = loss(q, given.pop("labels"), c, **given)
    else:
        value = loss(*sides, **given)
    return [value.detach(), *torch.autograd.grad(value, [*sides, *loss.parameters()])]


def compare(
    loss: Loss, definition: Loss, q: torch.Tensor, c: torch.Tensor | None, **given: Any
) -> None:
    """Equal values and gradients, to the rounding of float64; learned numbers are float32, rounded a few times."""
    found = value_and_gradients(loss, q, c, **given)
    expected = value_and_gradients(definition, q, c, **given)
    for one, other in zip(found, expected, strict=True):
        rtol = 4 * 2.0**-23 if one.dtype == torch.float32 else 1e-9
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-12)


@pytest.fixture(autouse=True)
def only_whole(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note which losses were known as a whole."""
    answers: list[bool] = []
    loss = SmallScores.loss

    def noted(self: SmallScores, request: LossRequest) -> torch.Tensor | None:
        found = loss(self, request)
        answers.append(found is not None)
        return found

    monkeypatch.setattr(SmallScores, "loss", noted)
    return answers


def every_pair(third: tuple[Any, ...], start: int) -> Iterator[tuple[Any, ...]]:
    """Directions and reductions with one of a third choice, all of whose pairs are met; all triples by other starts."""
    reductions = "mean", "sum", "mean_active"
    for i, directions in enumerate(("both", "queries", "candidates")):
        for j, reduction in enumerate(reductions):
            yield directions, reduction, third[(i + j + start) % len(third)]


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("shape", [(7, 7), (6, 11), (2, 2), (2, 3)], ids=str)
def test_hinges(strategy, kind, shape, only_whole):
    penalties = "hinge", "squared_hinge", "logistic"
    for directions, reduction, penalty in every_pair(penalties, RELATIONS.index(kind)):
        choices = {"directions": directions, "reduction": reduction, "penalty": penalty}
        loss = ContrastiveLoss(0.3, strategy, **choices)
        definition = ContrastiveLoss(0.3, strategy, backend="dense", **choices)
        only_whole.clear()
        compare(loss, definition, *batch(*shape), **relation(kind, *shape))
        assert only_whole == [reduction != "mean_active" or strategy != All()]


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("shape", [(7, 7), (6, 11), (2, 2)], ids=str)
@pytest.mark.parametrize(
    "temperature", [0.07, 1e-3, Learned(0.2), Learned(0.001, max_scale=1e4)], ids=repr
)
def test_softmax(strategy, kind, shape, temperature, only_whole):
    for directions, reduction, margin in every_pair((0.0, 0.2), RELATIONS.index(kind)):
        choices = {"directions": directions, "reduction": reduction, "margin": margin}
        loss = InfoNCELoss(temperature, strategy, **choices)
        definition = InfoNCELoss(temperature, strategy, backend="dense", **choices)
        compare(loss, definition, *batch(*shape), **relation(kind, *shape))
    assert all(only_whole)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean", "order"])
@pytest.mark.parametrize("loss", [ContrastiveLoss, InfoNCELoss])
def test_every_similarity(similarity, loss, only_whole):
    for seed in range(5):
        q, c = batch(9, 13, seed=seed)
        compare(loss(similarity=similarity), loss(similarity=similarity, backend="dense"), q, c)
    assert all(only_whole)


LABELLED = (
    Hardest(),
    SemiHard(),
    SemiHard(fallback="none"),
    SemiHard(fallback="hardest"),
    TopK(3),
    TopK(40),
    RankWindow(1, 4),
    TopK(2, ceiling=Ceiling(0.9, 0.1)),
)


def labelled(kind: str, n: int) -> dict[str, torch.Tensor]:
    """Arguments that say who belongs together in one set."""
    labels = torch.arange(n) // 3 % 4
    if kind == "labels":
        return {"labels": labels}
    if kind == "one label":
        return {"labels": torch.zeros_like(labels)}
    if kind == "positive_mask":
        return {"positive_mask": labels[:, None] == labels}
    return {"labels": labels, "ignore_mask": torch.rand(n, n) < 0.3}


@pytest.mark.parametrize("kind", ["labels", "one label", "positive_mask", "ignore_mask"])
@pytest.mark.parametrize("strategy", LABELLED, ids=repr)
def test_triplets(strategy, kind, only_whole, monkeypatch):
    for n, direct in ((13, 1 << 20), (13, 0), (2, 1 << 20)):
        monkeypatch.setattr("hardneg.ops.small.chosen_of_pairs.DIRECT", direct)
        for reduction, penalty in itertools.product(
            ("mean", "sum", "mean_active"), ("hinge", "squared_hinge", "logistic")
        ):
            choices = {"reduction": reduction, "penalty": penalty}
            loss = TripletLoss(0.3, negatives=strategy, **choices)
            definition = TripletLoss(0.3, negatives=strategy, backend="dense", **choices)
            compare(loss, definition, batch(n, n)[0], None, **labelled(kind, n))
    assert all(only_whole)


@pytest.mark.parametrize("kind", ["labels", "one label", "positive_mask", "ignore_mask"])
@pytest.mark.parametrize("temperature", [0.1, 1e-3, Learned(0.2)], ids=repr)
def test_supervised(kind, temperature, only_whole):
    for n, reduction in itertools.product((13, 2), ("mean", "sum", "mean_active")):
        loss = SupConLoss(temperature, reduction=reduction)
        definition = SupConLoss(temperature, reduction=reduction, backend="dense")
        compare(loss, definition, batch(n, n)[0], None, **labelled(kind, n))
    assert all(only_whole)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "squared_euclidean", "order"])
@pytest.mark.parametrize("loss", [TripletLoss, SupConLoss])
def test_every_similarity_of_one_set(similarity, loss, only_whole):
    for seed in range(5):
        q, _ = batch(12, 12, seed=seed)
        compare(
            loss(similarity=similarity),
            loss(similarity=similarity, backend="dense"),
            q,
            None,
            labels=torch.arange(12) // 3,
        )
    assert all(only_whole)


OF_EVERY_PAIR = (
    PairwiseContrastiveLoss,
    functools.partial(PairwiseContrastiveLoss, 0.8, 0.1, similarity="cosine", penalty="logistic"),
    functools.partial(MarginLoss, negatives="all"),
    functools.partial(
        MarginLoss, beta=Learned(0.8), negatives="all", similarity="squared_euclidean"
    ),
    NTXentLoss,
    functools.partial(NTXentLoss, Learned(0.3), margin=0.1),
    functools.partial(NTXentLoss, 1e-3),
    functools.partial(NTXentLoss, 0.2, TopK(3)),
    MultiSimilarityLoss,
    functools.partial(MultiSimilarityLoss, 1.0, 3.0, -0.2, similarity="dot"),
    CircleLoss,
    functools.partial(TripletLoss, 0.3, negatives="all"),
    functools.partial(TripletLoss, 0.3, negatives="all", penalty="logistic"),
    functools.partial(TripletLoss, 0.3, "hardest", "hardest"),
    functools.partial(TripletLoss, 0.3, "hardest", "semihard", penalty="squared_hinge"),
    functools.partial(TripletLoss, 0.3, "easiest", TopK(3), similarity="euclidean"),
    functools.partial(TripletLoss, 0.3, "easiest", "all"),
)


@pytest.mark.parametrize("kind", ["labels", "one label", "positive_mask", "ignore_mask"])
@pytest.mark.parametrize("loss", OF_EVERY_PAIR, ids=repr)
def test_losses_on_labels(loss, kind, only_whole):
    for n, reduction in itertools.product((13, 2), ("mean", "sum", "mean_active")):
        whole, definition = loss(reduction=reduction), loss(reduction=reduction, backend="dense")
        compare(whole, definition, batch(n, n)[0], None, **labelled(kind, n))
    # of one label there are too many pairs to put each beside all negatives
    many = kind == "one label" and isinstance(whole, TripletLoss) and whole.negatives == All()
    assert all(only_whole) or (many and isinstance(whole.positives, AllPositives))


@pytest.mark.parametrize("loss", OF_EVERY_PAIR, ids=repr)
def test_losses_against_a_reference(loss, only_whole):
    q, c = batch(9, 14)
    given = {"labels": torch.arange(9) // 2, "reference_labels": torch.arange(14) // 2}
    for same_set in (False, True):
        compare(loss(), loss(backend="dense"), q, c, same_set=same_set, **given)
    assert all(only_whole)


@pytest.mark.parametrize("directions", ["both", "candidates"])
def test_directions_of_labels(directions, only_whole):
    q, c = batch(9, 14)
    given = {"labels": torch.arange(9) // 2, "reference_labels": torch.arange(14) // 2}
    for loss in OF_EVERY_PAIR:
        one = loss(directions=directions)
        compare(one, loss(directions=directions, backend="dense"), q, c, **given)


OF_PAIRS = (
    SigmoidLoss,
    functools.partial(SigmoidLoss, Learned(0.2), Learned(-3.0)),
    functools.partial(SigmoidLoss, 0.2, torch.tensor([1.0], dtype=torch.float64)),
    UnifiedPairLoss,
    functools.partial(UnifiedPairLoss, negatives="semihard"),
)


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("shape", [(7, 7), (6, 11), (1, 1), (1, 3)], ids=str)
@pytest.mark.parametrize("loss", OF_PAIRS, ids=repr)
def test_losses_on_pairs(loss, shape, kind, only_whole):
    for reduction in ("mean", "sum", "mean_active"):
        whole, definition = loss(reduction=reduction), loss(reduction=reduction, backend="dense")
        compare(whole, definition, *batch(*shape), **relation(kind, *shape))
    assert all(only_whole) or shape[0] == 1


@pytest.mark.parametrize("loss", [SigmoidLoss, InfoNCELoss])
@pytest.mark.parametrize("directions", ["queries", "candidates", "both"])
def test_every_positive_of_pairs(loss, directions, only_whole):
    for kind, reduction in itertools.product(RELATIONS[1:3], ("mean", "sum", "mean_active")):
        choices = {"positives": "all", "directions": directions, "reduction": reduction}
        one, definition = loss(**choices), loss(backend="dense", **choices)
        compare(one, definition, *batch(7, 11), **relation(kind, 7, 11))
    assert all(only_whole) or (loss is SigmoidLoss and directions != "queries")


def test_what_a_bias_of_many_numbers_gives():
    bias = torch.linspace(-3, 3, 8, dtype=torch.float64, requires_grad=True)
    q, c = batch(8, 8)
    found = torch.autograd.grad(SigmoidLoss(bias=bias)(q, c), [q, bias])
    expected = torch.autograd.grad(SigmoidLoss(bias=bias, backend="dense")(q, c), [q, bias])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_set_against_a_reference(only_whole):
    q, c = batch(9, 14)
    given = {"labels": torch.arange(9) // 2, "reference_labels": torch.arange(14) // 2}
    for loss in (TripletLoss, SupConLoss):
        for same_set in (False, True):
            compare(loss(), loss(backend="dense"), q, c, same_set=same_set, **given)
    assert all(only_whole)


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize(
    "loss", [ContrastiveLoss(), InfoNCELoss(), ContrastiveLoss(negatives="all")], ids=repr
)
def test_a_frozen_side_gets_no_gradient(loss, frozen):
    sides = list(batch(8, 8))
    loss(*sides).backward()
    expected = sides[1 - frozen].grad
    again = list(batch(8, 8))
    again[frozen].requires_grad_(False)
    loss(*again).backward()
    assert again[frozen].grad is None
    torch.testing.assert_close(again[1 - frozen].grad, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n", [16, 300])
def test_half_precision_is_rounded_once(dtype, n):
    for loss in (ContrastiveLoss(), InfoNCELoss(), ContrastiveLoss(negatives="all")):
        q, c = batch(n, n, dtype)
        loss(q, c).backward()
        single = [x.detach().float().requires_grad_() for x in (q, c)]
        loss(*single).backward()
        for half, whole in zip((q, c), single, strict=True):
            assert half.grad.dtype == dtype
            torch.testing.assert_close(half.grad, whole.grad.to(dtype), rtol=0, atol=1e-6)


def test_autocast_changes_nothing():
    q, c = batch(16, 16, torch.float32)
    loss = InfoNCELoss()
    expected = value_and_gradients(loss, q, c)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradients(loss, q, c)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_subclass_with_terms_of_its_own_is_no_whole(only_whole):
    class Doubled(ContrastiveLoss):
        def terms(self, call):
            both = super().terms(call)
            return tuple(replace(side, values=2 * side.values) for side in both)

    q, c = batch(8, 8)
    torch.testing.assert_close(Doubled()(q, c), 2 * ContrastiveLoss()(q, c))
    assert only_whole == [True]


def test_a_subclass_with_a_part_of_its_own_is_no_whole(only_whole):
    class Halved(MultiSimilarityLoss):
        def combine(self, positive, negative):
            return super().combine(positive, negative) / 2

    class Longer(Halved):
        """One whose base class has another equation."""

    q, labels = batch(8, 8)[0], torch.arange(8) // 2
    for kind in (Halved, Longer):
        torch.testing.assert_close(2 * kind()(q, labels), MultiSimilarityLoss()(q, labels))
    assert only_whole == [True, True]


def test_a_subclass_with_other_choices_is_whole(only_whole):
    class Sharper(InfoNCELoss):
        def __init__(self):
            super().__init__(temperature=0.01)

    Sharper()(*batch(8, 8))
    assert only_whole == [True]


@pytest.mark.parametrize("similarity", ["euclidean", "squared_euclidean", "order"])
def test_equal_rows_pull_nothing(similarity, only_whole):
    for loss in (PairwiseContrastiveLoss, TripletLoss):
        q, _ = batch(8, 8)
        q = q.detach()[[0, 0, 1, 2, 2, 3, 4, 5]].requires_grad_()
        given = {"similarity": similarity}
        labels = torch.arange(8) // 2
        compare(loss(**given), loss(backend="dense", **given), q, None, labels=labels)
        pair = q.detach()[:2].requires_grad_()
        loss(**given)(pair, torch.zeros(2, dtype=torch.long)).backward()
        assert torch.equal(pair.grad, torch.zeros_like(pair))
    assert all(only_whole)


def test_rows_too_short_to_be_squared():
    q = torch.full((4, 3), 1e-30)
    q[1:] *= 2
    q.requires_grad_()
    loss = PairwiseContrastiveLoss()
    loss(q, torch.arange(4) // 2).backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_slope_by_a_frozen_scale_is_not_computed(learned, margin):
    temperature = torch.tensor(0.1, dtype=torch.float64, requires_grad=learned)
    value = InfoNCELoss(temperature, margin=margin)(*batch(8, 8))
    by_scale = value.grad_fn.saved_tensors[2]
    assert (by_scale is not None) == learned


def test_a_learned_temperature_in_double_precision():
    q, c = batch(8, 8)
    for bound in (100.0, 3.0):
        choices = {"temperature": Learned(0.07, max_scale=bound)}
        one, other = (InfoNCELoss(**choices, backend=b).double() for b in ("auto", "dense"))
        torch.testing.assert_close(one(q, c), other(q, c), rtol=1e-13, atol=0)


@pytest.mark.parametrize("negatives", [All(), Hardest(), TopK(3)], ids=repr)
def test_a_penalty_that_never_vanishes(negatives):
    choices = {"penalty": Identity(), "negatives": negatives}
    q, labels = batch(8, 8)[0], torch.arange(8) // 2
    compare(TripletLoss(**choices), TripletLoss(backend="dense", **choices), q, None, labels=labels)


def test_a_second_derivative_is_refused():
    q, c = batch(8, 8)
    with pytest.raises(RuntimeError, match='backend="dense"'):
        torch.autograd.grad(InfoNCELoss()(q, c), q, create_graph=True)


def test_the_backward_can_run_twice():
    q, c = batch(8, 8)
    for loss in (ContrastiveLoss(), ContrastiveLoss(negatives="all"), InfoNCELoss()):
        value = loss(q, c)
        first = torch.autograd.grad(value, [q, c], retain_graph=True)
        for one, other in zip(first, torch.autograd.grad(value, [q, c]), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_told(bad):
    for loss in (ContrastiveLoss(), ContrastiveLoss(negatives="semihard"), InfoNCELoss()):
        for similarity in ("cosine", "order"):
            q, c = batch(8, 8)
            with torch.no_grad():
                c[3, 2] = bad
            value = type(loss)(similarity=similarity)(q, c)
            value.backward()
            assert value.isnan()
            assert q.grad.isnan().any()
            assert c.grad.isnan().any()
