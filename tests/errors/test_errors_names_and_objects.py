"""Names and objects."""

from __future__ import annotations

from typing import Any

import pytest
from error_calls import IDS, X, Y, one_of_each, raised, says
from every_loss import Case

import hardneg
from hardneg import (
    All,
    AllPositives,
    Cosine,
    DistanceWeighted,
    Hardest,
    Hinge,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    TopK,
    Warmup,
)
from hardneg.functional import (
    circle_loss,
    contrastive_loss,
    info_nce_loss,
    margin_loss,
    multi_similarity_loss,
    nt_xent_loss,
    pairwise_contrastive_loss,
    polynomial_loss,
    sigmoid_loss,
    sup_con_loss,
    triplet_loss,
    unified_pair_loss,
)

STRATEGIES = ("all", "hardest", "semihard", "distance_weighted", "selective_hardest")


UNKNOWN = [
    ("negatives", STRATEGIES),
    ("similarity", ("cosine", "dot", "euclidean", "squared_euclidean", "order")),
    ("reduction", ("mean", "sum", "mean_active", "none")),
    ("directions", ("both", "queries", "candidates")),
    ("backend", ("auto", "dense", "tiled", "triton")),
]


@pytest.mark.parametrize(("argument", "valid"), UNKNOWN)
@one_of_each
def test_unknown_names(which: Case, argument: str, valid: tuple[str, ...]) -> None:
    given = (X, Y) if which.kind == "paired" else (X, None, IDS)
    message = raised(ValueError, lambda: which(*given, **{argument: "hardset"}))
    says(message, f"unknown {argument} 'hardset'", "choose one of", *valid)
    message = raised(ValueError, lambda: which.about.module(**{argument: "hardset"}))
    says(message, f"unknown {argument} 'hardset'", "choose one of", *valid)


def test_unknown_names_of_some_losses() -> None:
    penalties = "hinge", "squared_hinge", "logistic"
    for function, given in (
        (contrastive_loss, (X, Y)),
        (triplet_loss, (X, IDS)),
        (pairwise_contrastive_loss, (X, IDS)),
    ):
        message = raised(ValueError, lambda f=function, g=given: f(*g, penalty="hinges"))
        says(message, "unknown penalty 'hinges' (did you mean 'hinge'?)", *penalties)
    for function, given, taken in (
        (triplet_loss, (X, IDS), "all, easiest, hardest"),
        (info_nce_loss, (X, Y), "all, paired"),
        (sigmoid_loss, (X, Y), "all, paired"),
    ):
        message = raised(ValueError, lambda f=function, g=given: f(*g, positives="hard"))
        near = " (did you mean 'hardest'?)" if "hardest" in taken else ""
        assert message == f"unknown positives 'hard'{near}: choose one of {taken}"
    message = raised(ValueError, lambda: hardneg.Order("captions"))
    says(message, "unknown general 'captions'", "candidates, queries")
    for strategy in (SemiHard, lambda f: Hardest(fallback=f), lambda f: TopK(2, fallback=f)):
        says(raised(ValueError, lambda s=strategy: s("easy")), "unknown fallback 'easy'", "easiest")


ONE_POSITIVE = "only hinge losses with one positive an anchor"


NEEDS_SELECTION = "needs a selection of negatives, such as TopK(k)"


REFUSES: list[tuple[Any, Any, dict[Any, str]]] = [
    (contrastive_loss, (X, Y), {}),
    (info_nce_loss, (X, Y), {SelectiveHardest(): ONE_POSITIVE}),
    (polynomial_loss, (X, Y), {All(): NEEDS_SELECTION, SelectiveHardest(): ONE_POSITIVE}),
    (sigmoid_loss, (X, Y), {SelectiveHardest(): ONE_POSITIVE}),
    (triplet_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (nt_xent_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (sup_con_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (pairwise_contrastive_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (margin_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (multi_similarity_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (circle_loss, (X, IDS), {SelectiveHardest(): ONE_POSITIVE}),
    (unified_pair_loss, (X, Y), {SelectiveHardest(): ONE_POSITIVE}),
]


ALL_STRATEGIES = (
    All(),
    Hardest(),
    SemiHard(),
    TopK(2),
    RandomK(2),
    RankWindow(0, 2),
    DistanceWeighted(),
    SelectiveHardest(),
)


@pytest.mark.parametrize(("function", "given", "refused"), REFUSES)
def test_strategies_that_a_loss_does_not_take(
    function: Any, given: Any, refused: dict[Any, str]
) -> None:
    for strategy in ALL_STRATEGIES:
        if strategy not in refused:
            assert function(*given, negatives=strategy).isfinite()
            continue
        message = raised(ValueError, lambda s=strategy: function(*given, negatives=s))
        name = function.loss.__name__
        says(message, name, f"does not take negatives {strategy!r}: ", refused[strategy])
        loss = function.loss()
        with pytest.raises(ValueError, match=f"{name} does not take negatives"):
            loss(*given, negatives=strategy)


def test_positives_that_a_loss_does_not_take() -> None:
    message = raised(ValueError, lambda: triplet_loss(X, IDS, positives="paired"))
    says(message, "TripletLoss", "Paired()", "it takes", "AllPositives", "HardestPositive")
    for function in (info_nce_loss, sigmoid_loss):
        message = raised(ValueError, lambda f=function: f(X, Y, positives="hardest"))
        says(
            message, function.loss.__name__, "HardestPositive()", "it takes", "Paired, AllPositives"
        )
    message = raised(ValueError, lambda: hardneg.InfoNCELoss(positives="easiest"))
    says(message, "InfoNCELoss", "EasiestPositive()")


@pytest.mark.parametrize(
    ("name", "object_"),
    [("topk", "TopK(k)"), ("randomk", "RandomK(k)"), ("rank_window", "RankWindow(start, stop)")],
)
@one_of_each
def test_a_name_that_needs_arguments(which: Case, name: str, object_: str) -> None:
    given = (X, Y) if which.kind == "paired" else (X, None, IDS)
    message = raised(ValueError, lambda: which(*given, negatives=name))
    says(message, f"negatives {name!r} needs arguments", f"pass the object {object_}")


@pytest.mark.parametrize("bad", [TopK, Hardest, 3, None, ["hardest"], Warmup(All(), Hardest(), 1)])
@one_of_each
def test_negatives_of_another_type(which: Case, bad: Any) -> None:
    given = (X, Y) if which.kind == "paired" else (X, None, IDS)
    message = raised(TypeError, lambda: which(*given, negatives=bad))
    says(message, "negatives is", repr(bad), "expected a name", *STRATEGIES)


def test_classes_in_place_of_objects() -> None:
    message = raised(TypeError, lambda: triplet_loss(X, IDS, positives=AllPositives))
    says(message, "positives is", "AllPositives", "expected a name")
    message = raised(TypeError, lambda: contrastive_loss(X, Y, similarity=Cosine))
    says(message, "similarity is", "Cosine", "such as Cosine()")
    message = raised(TypeError, lambda: contrastive_loss(X, Y, penalty=Hinge))
    says(message, "penalty is", "Hinge", "expected a name", "squared_hinge")
    for bad in (None, 3, ["cosine"]):
        message = raised(TypeError, lambda b=bad: contrastive_loss(X, Y, similarity=b))
        says(message, "similarity is", repr(bad), "callable", "squared_euclidean")
