"""Every bad input raises an error that names the argument, what was expected, what came, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import ONE_OF_EACH, Case, numbers

import hardneg
from hardneg import (
    All,
    AllPositives,
    Ceiling,
    Cosine,
    DistanceWeighted,
    Hardest,
    Hinge,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    Steps,
    Tiled,
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

X, Y = numbers(4, 3, 0), numbers(4, 3, 1)
IDS = torch.tensor([0, 0, 1, 1])
EYE = torch.eye(4, dtype=torch.bool)
BACKENDS = ("dense", "tiled")
one_of_each = pytest.mark.parametrize("which", ONE_OF_EACH, ids=lambda which: which.name)
of_pairs = pytest.mark.parametrize(
    "which", [w for w in ONE_OF_EACH if w.kind == "paired"], ids=lambda which: which.name
)
of_labels = pytest.mark.parametrize(
    "which", [w for w in ONE_OF_EACH if w.kind == "labelled"], ids=lambda which: which.name
)


def raised(error: type[Exception], call: Callable[[], Any]) -> str:
    """The message; inputs that the whole file shares are left as they were."""
    before = [t.clone() for t in (X, Y, IDS, EYE)]
    versions = [t._version for t in (X, Y, IDS, EYE)]
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for now, then in zip((X, Y, IDS, EYE), before, strict=True):
        assert torch.equal(now, then)
    assert [t._version for t in (X, Y, IDS, EYE)] == versions
    return str(caught.value)


def says(message: str, *parts: str) -> None:
    """All of these stand in the message."""
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


# Embeddings


def names(which: Case) -> tuple[str, str]:
    return ("queries", "candidates") if which.kind == "paired" else ("embeddings", "reference")


def both(which: Case, first: Any, second: Any) -> Callable[[], Any]:
    if which.kind == "paired":
        return lambda: which(first, second)
    return lambda: which(first, second, IDS, IDS)


BAD_EMBEDDINGS = [
    ("no rows", X[:0], ValueError, ("is empty", "(0, 3)", "skip empty batches")),
    ("no width", X[:, :0], ValueError, ("is empty", "(4, 0)")),
    ("1-D", X[0], ValueError, ("(3,)", "expected (rows, width)", "flatten or pool")),
    ("3-D", X[None], ValueError, ("(1, 4, 3)", "expected (rows, width)", "flatten or pool")),
    ("integers", X.long(), TypeError, ("torch.int64", "floating-point", "call .float()")),
    ("booleans", X > 0, TypeError, ("torch.bool", "floating-point")),
    ("complex", X.cfloat(), TypeError, ("torch.complex64", "floating-point")),
    ("a list", X.tolist(), TypeError, ("is a list", "expected a tensor of shape (rows, width)")),
    ("an array", X.numpy(), TypeError, ("is a ndarray", "expected a tensor")),
    ("None", None, TypeError, ("is a NoneType", "expected a tensor")),
]


@pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_EMBEDDINGS], ids=[b[0] for b in BAD_EMBEDDINGS]
)
@one_of_each
def test_bad_embeddings(
    which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    first, second = names(which)
    says(raised(error, both(which, bad, Y)), first, *parts)
    if which.kind == "labelled" and bad is None:
        return  # No reference: the embeddings are compared with one another.
    says(raised(error, both(which, X, bad)), second, *parts)


@one_of_each
def test_embeddings_that_do_not_fit_each_other(which: Case) -> None:
    first, second = names(which)
    message = raised(ValueError, both(which, X, Y[:, :2]))
    says(message, first, second, "(4, 3)", "(4, 2)", "project both to one width")
    message = raised(TypeError, both(which, X, Y.double()))
    says(message, first, second, "torch.float32", "torch.float64", "convert one of them")
    message = raised(ValueError, both(which, X, Y.to("meta")))
    says(message, first, second, "cpu", "meta", "move one of them")


@of_pairs
def test_fewer_candidates_than_queries(which: Case) -> None:
    message = raised(ValueError, lambda: which(X, Y[:3]))
    says(message, "4 queries", "3 candidates", "at least as many", "swap")


def test_sigmoid_loss_of_a_rectangle_from_the_candidates() -> None:
    message = raised(ValueError, lambda: sigmoid_loss(X[:3], Y, directions="both"))
    says(message, "directions", "3 queries", "4 candidates", "equal numbers")


# Ids, labels and masks

BAD_IDS = [
    ("too few", IDS[:3], ValueError, ("(3,)", "expected (4,)")),
    ("a matrix", IDS[:, None], ValueError, ("(4, 1)", "expected (4,)")),
    ("floats", IDS.float(), TypeError, ("torch.float32", "integers", "call .long()")),
    ("booleans", IDS > 0, TypeError, ("torch.bool", "integers")),
    ("a list", [0, 0, 1, 1], TypeError, ("is a list", "integer tensor of shape (4,)")),
    ("elsewhere", IDS.to("meta"), ValueError, ("meta", "cpu", "where the embeddings are")),
]
bad_ids = pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_IDS], ids=[b[0] for b in BAD_IDS]
)


@bad_ids
@of_pairs
def test_bad_ids(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    says(raised(error, lambda: which(X, Y, bad, IDS)), "query_ids", *parts)
    says(raised(error, lambda: which(X, Y, IDS, bad)), "candidate_ids", *parts)


@bad_ids
@of_labels
def test_bad_labels(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    says(raised(error, lambda: which(X, None, bad)), "labels", *parts)
    says(raised(error, lambda: which(X, Y, IDS, bad)), "reference_labels", *parts)


@of_pairs
def test_one_of_two_ids(which: Case) -> None:
    message = raised(ValueError, lambda: which(X, Y, query_ids=IDS))
    says(message, "query_ids is given without candidate_ids", "both, or neither")
    message = raised(ValueError, lambda: which(X, Y, candidate_ids=IDS))
    says(message, "candidate_ids is given without query_ids", "both, or neither")


@of_labels
def test_missing_labels(which: Case) -> None:
    says(raised(ValueError, lambda: which(X)), "labels", "positives mask", "which rows belong")
    message = raised(ValueError, lambda: which.function(X, IDS, Y))
    says(message, "reference is given without reference_labels", "both, or neither")
    message = raised(ValueError, lambda: which.function(X, IDS, None, IDS))
    says(message, "reference_labels are given without reference", "both, or neither")
    message = raised(ValueError, lambda: which.function(X, IDS, positive_mask=EYE))
    says(message, "labels or a positives mask", "one of the two")


@of_labels
def test_choices_that_need_two_sets(which: Case) -> None:
    for directions in ("both", "candidates"):
        message = raised(ValueError, lambda d=directions: which(X, None, IDS, directions=d))
        says(message, f"directions='{directions}'", "one set", '"queries"', "reference")
    message = raised(ValueError, lambda: which(X, Y[:3], IDS, IDS[:3], same_set=True))
    says(message, "same_set", "4 embeddings", "3 reference rows")


BAD_MASKS = [
    ("floats", EYE.float(), TypeError, ("torch.float32", "bool tensor of shape (4, 4)")),
    ("integers", EYE.long(), TypeError, ("torch.int64", "bool tensor")),
    ("a list", EYE.tolist(), TypeError, ("list", "bool tensor of shape (4, 4)")),
    ("narrow", EYE[:, :3], ValueError, ("(4, 3)", "expected (4, 4)", "queries by candidates")),
    ("a vector", EYE[0], ValueError, ("(4,)", "expected (4, 4)")),
    ("elsewhere", EYE.to("meta"), ValueError, ("meta", "cpu", "where the embeddings are")),
]


@pytest.mark.parametrize(
    ("bad", "error", "parts"), [b[1:] for b in BAD_MASKS], ids=[b[0] for b in BAD_MASKS]
)
@one_of_each
def test_bad_masks(which: Case, bad: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    others = (Y,) if which.kind == "paired" else ()
    groups = {} if which.kind == "paired" else {"labels": IDS}
    call = which.function
    options = dict(which.options)
    says(
        raised(error, lambda: call(X, *others, ignore_mask=bad, **groups, **options)),
        "ignore",
        *parts,
    )
    takes_mask_as_positives = which.name in ("contrastive", "polynomial", "unified_pair")
    name = "positives" if takes_mask_as_positives else "positive_mask"
    message = raised(error, lambda: call(X, *others, **{name: bad}, **options))
    says(message, "positives", *parts)


def test_ids_and_a_mask_together() -> None:
    told = {"query_ids": IDS, "candidate_ids": IDS}
    message = raised(ValueError, lambda: contrastive_loss(X, Y, positives=EYE, **told))
    says(message, "positives and ids are both given")


def test_several_positives_need_ids() -> None:
    message = raised(ValueError, lambda: info_nce_loss(X, Y, positives="all"))
    says(message, 'positives="all" without ids', "query_ids", "candidate_ids", "positive_mask")


# Numbers

BAD_NUMBERS = [
    (-1.0, ValueError, "-1.0"),
    (math.nan, ValueError, "expected a finite number"),
    (math.inf, ValueError, "expected a finite number"),
    ("a", TypeError, "expected a number"),
    (None, TypeError, "expected a number"),
    (True, TypeError, "expected a number"),
]
MARGINS = [
    (contrastive_loss, hardneg.ContrastiveLoss, (X, Y)),
    (polynomial_loss, hardneg.PolynomialLoss, (X, Y)),
    (unified_pair_loss, hardneg.UnifiedPairLoss, (X, Y)),
    (triplet_loss, hardneg.TripletLoss, (X, IDS)),
    (margin_loss, hardneg.MarginLoss, (X, IDS)),
    (circle_loss, hardneg.CircleLoss, (X, IDS)),
]
TEMPERATURES = [
    (info_nce_loss, hardneg.InfoNCELoss, (X, Y)),
    (sigmoid_loss, hardneg.SigmoidLoss, (X, Y)),
    (nt_xent_loss, hardneg.NTXentLoss, (X, IDS)),
    (sup_con_loss, hardneg.SupConLoss, (X, IDS)),
]


@pytest.mark.parametrize(("bad", "error", "part"), BAD_NUMBERS)
@pytest.mark.parametrize(("function", "module", "given"), MARGINS)
def test_bad_margins(
    function: Any, module: Any, given: Any, bad: Any, error: type[Exception], part: str
) -> None:
    says(raised(error, lambda: function(*given, margin=bad)), "margin is", part)
    says(raised(error, lambda: module(margin=bad)), "margin is", part)


@pytest.mark.parametrize(("bad", "error", "part"), [*BAD_NUMBERS, (0, ValueError, "above 0")])
@pytest.mark.parametrize(("function", "module", "given"), TEMPERATURES)
def test_bad_temperatures(
    function: Any, module: Any, given: Any, bad: Any, error: type[Exception], part: str
) -> None:
    says(raised(error, lambda: function(*given, temperature=bad)), "temperature is", part)
    says(raised(error, lambda: module(temperature=bad)), "temperature is", part)


def test_a_temperature_for_every_row() -> None:
    message = raised(ValueError, lambda: info_nce_loss(X, Y, temperature=torch.ones(4)))
    says(message, "temperature", "(4,)", "a number or a scalar tensor")


def test_vectors_of_another_length() -> None:
    message = raised(ValueError, lambda: sigmoid_loss(X, Y, bias=torch.ones(3)))
    says(message, "bias", "(3,)")
    message = raised(ValueError, lambda: margin_loss(X, IDS, beta=torch.ones(3)))
    says(message, "beta", "(3,)")


OTHER_NUMBERS = [
    (lambda v: circle_loss(X, IDS, gamma=v), "gamma", 0),
    (lambda v: hardneg.CircleLoss(gamma=v), "gamma", 0),
    (lambda v: unified_pair_loss(X, Y, gamma=v), "gamma", 0),
    (lambda v: hardneg.UnifiedPairLoss(gamma=v), "gamma", -1),
    (lambda v: multi_similarity_loss(X, IDS, alpha=v), "alpha", 0),
    (lambda v: multi_similarity_loss(X, IDS, beta=v), "beta", 0),
    (lambda v: multi_similarity_loss(X, IDS, base=v), "base", math.nan),
    (lambda v: multi_similarity_loss(X, IDS, epsilon=v), "epsilon", math.nan),
    (lambda v: margin_loss(X, IDS, beta=v), "beta", math.nan),
    (lambda v: hardneg.MarginLoss(beta=v), "beta", math.inf),
    (lambda v: sigmoid_loss(X, Y, bias=v), "bias", math.nan),
    (lambda v: hardneg.SigmoidLoss(bias=v), "bias", math.nan),
    (lambda v: info_nce_loss(X, Y, margin=v), "margin", math.nan),
    (lambda v: pairwise_contrastive_loss(X, IDS, positive_margin=v), "positive_margin", math.nan),
    (lambda v: pairwise_contrastive_loss(X, IDS, negative_margin=v), "negative_margin", math.inf),
    (lambda v: hardneg.InfoNCELoss(max_scale=v), "max_scale", 0),
    (lambda v: SelectiveHardest(v), "threshold", -1),
    (lambda v: Ceiling(v), "relative", math.nan),
    (lambda v: Ceiling(offset=v), "offset", math.inf),
    (lambda v: DistanceWeighted(cutoff=v), "cutoff", 0),
    (lambda v: DistanceWeighted(cutoff=v), "cutoff", 3),
    (lambda v: DistanceWeighted(nonzero_loss_cutoff=v), "nonzero_loss_cutoff", 0),
]


@pytest.mark.parametrize(("call", "name", "bad"), OTHER_NUMBERS)
def test_other_numbers(call: Any, name: str, bad: float) -> None:
    says(raised(ValueError, lambda: call(bad)), f"{name} is {bad}", "expected")
    says(raised(TypeError, lambda: call("much")), f"{name} is 'much'", "expected a number")


COUNTS = [
    (TopK, "k", 0, "at least 1"),
    (RandomK, "k", -3, "at least 1"),
    (lambda k: DistanceWeighted(k=k), "k", 0, "at least 1"),
    (lambda s: RankWindow(s, 3), "start", -1, "at least 0"),
    (lambda s: RankWindow(2, s), "stop", 2, "at least 3"),
    (lambda s: Warmup(All(), Hardest(), s), "steps", -1, "at least 0"),
]


@pytest.mark.parametrize(("call", "name", "bad", "bound"), COUNTS)
def test_counts(call: Any, name: str, bad: int, bound: str) -> None:
    says(raised(ValueError, lambda: call(bad)), f"{name} is {bad}", bound)
    for other in (1.5, "2", True):
        says(raised(TypeError, lambda v=other: call(v)), f"{name} is {other!r}", "whole number")


@pytest.mark.parametrize("coefficients", [(), [1.0], 1.0])
@pytest.mark.parametrize("name", ["positive", "negative"])
def test_coefficients(name: str, coefficients: Any) -> None:
    message = raised(TypeError, lambda: polynomial_loss(X, Y, **{name: coefficients}))
    says(message, f"{name} is {coefficients!r}", "tuple of numbers")


def test_stages() -> None:
    for stages in ((), ((1, All()),), ((0, All()), (0, Hardest())), ((0, All()), (-1, All()))):
        message = raised(ValueError, lambda s=stages: Steps(*s))
        says(message, "stages", str([start for start, _ in stages]), "rising steps from 0")


# Names and objects

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
    titles = {"nt_xent": "NTXentLoss", "info_nce": "InfoNCELoss"}
    title = "".join(part.title() for part in which.name.split("_")) + "Loss"
    module = getattr(hardneg, titles.get(which.name, title))
    message = raised(ValueError, lambda: module(**{argument: "hardset"}))
    says(message, f"unknown {argument} 'hardset'", "choose one of", *valid)


def test_unknown_names_of_some_losses() -> None:
    penalties = "hinge", "squared_hinge", "logistic"
    for function, given in (
        (contrastive_loss, (X, Y)),
        (triplet_loss, (X, IDS)),
        (pairwise_contrastive_loss, (X, IDS)),
    ):
        message = raised(ValueError, lambda f=function, g=given: f(*g, penalty="hinges"))
        says(message, "unknown penalty 'hinges'", *penalties)
    for function, given in (
        (triplet_loss, (X, IDS)),
        (info_nce_loss, (X, Y)),
        (sigmoid_loss, (X, Y)),
    ):
        message = raised(ValueError, lambda f=function, g=given: f(*g, positives="hard"))
        says(message, "unknown positives 'hard'", "all", "hardest", "easiest", "paired")
    message = raised(ValueError, lambda: hardneg.Order("captions"))
    says(message, "unknown general 'captions'", "candidates, queries")
    for strategy in (SemiHard, lambda f: Hardest(fallback=f), lambda f: TopK(2, fallback=f)):
        says(raised(ValueError, lambda s=strategy: s("easy")), "unknown fallback 'easy'", "easiest")


TAKES = [
    (contrastive_loss, (X, Y), ()),
    (info_nce_loss, (X, Y), (SelectiveHardest(),)),
    (polynomial_loss, (X, Y), (All(), DistanceWeighted(), SelectiveHardest())),
    (
        sigmoid_loss,
        (X, Y),
        (SemiHard(), RankWindow(0, 2), DistanceWeighted(), SelectiveHardest()),
    ),
    (triplet_loss, (X, IDS), (SelectiveHardest(),)),
    (nt_xent_loss, (X, IDS), (SelectiveHardest(),)),
    (
        sup_con_loss,
        (X, IDS),
        (Hardest(), SemiHard(), RankWindow(0, 2), DistanceWeighted(), SelectiveHardest()),
    ),
    (
        pairwise_contrastive_loss,
        (X, IDS),
        (SemiHard(), RankWindow(0, 2), DistanceWeighted(), SelectiveHardest()),
    ),
    (
        margin_loss,
        (X, IDS),
        (Hardest(), SemiHard(), TopK(2), RankWindow(0, 2), SelectiveHardest()),
    ),
    (
        multi_similarity_loss,
        (X, IDS),
        (
            Hardest(),
            SemiHard(),
            RandomK(2),
            RankWindow(0, 2),
            DistanceWeighted(),
            SelectiveHardest(),
        ),
    ),
    (
        circle_loss,
        (X, IDS),
        (
            Hardest(),
            SemiHard(),
            RandomK(2),
            RankWindow(0, 2),
            DistanceWeighted(),
            SelectiveHardest(),
        ),
    ),
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


@pytest.mark.parametrize(("function", "given", "refused"), TAKES)
def test_strategies_that_a_loss_does_not_take(function: Any, given: Any, refused: Any) -> None:
    taken = [type(s) for s in ALL_STRATEGIES if type(s) not in [type(r) for r in refused]]
    for strategy in refused:
        message = raised(ValueError, lambda s=strategy: function(*given, negatives=s))
        says(message, function.__name__, "does not take negatives", repr(strategy), "it takes")
        listed = message.split("it takes ")[1].split(", ")
        for kind in listed:
            assert getattr(hardneg, kind) in taken
    for strategy in ALL_STRATEGIES:
        if type(strategy) in taken:
            assert function(*given, negatives=strategy).isfinite()


def test_positives_that_a_loss_does_not_take() -> None:
    message = raised(ValueError, lambda: triplet_loss(X, IDS, positives="paired"))
    says(message, "triplet_loss", "Paired()", "it takes", "AllPositives", "HardestPositive")
    for function in (info_nce_loss, sigmoid_loss):
        message = raised(ValueError, lambda f=function: f(X, Y, positives="hardest"))
        says(message, function.__name__, "HardestPositive()", "it takes", "Paired, AllPositives")
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


# Combinations


def test_distances_that_a_loss_or_a_strategy_needs() -> None:
    for similarity in ("dot", "order"):
        options = {"negatives": "distance_weighted", "similarity": similarity}
        message = raised(ValueError, lambda o=options: contrastive_loss(X, Y, **o))
        says(message, "DistanceWeighted", "similarity", "unit vectors", "cosine")
    message = raised(ValueError, lambda: margin_loss(X, IDS, similarity="cosine"))
    says(message, "margin_loss", "Cosine()", "needs a distance", "euclidean")
    beta = torch.ones(4)
    message = raised(ValueError, lambda: margin_loss(X, IDS, Y, IDS, beta=beta, directions="both"))
    says(message, "beta", "directions", '"queries"')


@pytest.mark.parametrize(
    ("function", "given", "advice"),
    [
        (sup_con_loss, (X, IDS), "without a ceiling"),
        (multi_similarity_loss, (X, IDS), "use epsilon"),
        (circle_loss, (X, IDS), "no ceiling"),
        (pairwise_contrastive_loss, (X, IDS), "ceiling"),
        (margin_loss, (X, IDS), "ceiling"),
        (sigmoid_loss, (X, Y), "ceiling"),
    ],
)
def test_losses_without_a_positive_that_a_ceiling_could_relate_to(
    function: Any, given: Any, advice: str
) -> None:
    message = raised(ValueError, lambda: function(*given, negatives=All(Ceiling())))
    says(message, advice)


def test_all_negatives_under_a_ceiling_with_several_positives() -> None:
    message = raised(ValueError, lambda: nt_xent_loss(X, IDS, negatives=All(Ceiling())))
    says(message, "several positives", "use TopK(k, ceiling=...)")


class Bilinear(torch.nn.Module):
    """A similarity with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def forward(self, queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        return queries @ self.weight @ candidates.T


@pytest.mark.parametrize("backend", ["auto", "tiled"])
def test_a_trainable_similarity_in_tiles(backend: str) -> None:
    similarity = Bilinear()
    options = {"similarity": similarity, "backend": backend}
    message = raised(ValueError, lambda: contrastive_loss(X, Y, **options))
    says(message, "Bilinear", "trainable parameters", 'backend="dense"')
    message = raised(ValueError, lambda: hardneg.ContrastiveLoss(**options))
    says(message, "Bilinear", "trainable parameters")
    contrastive_loss(X, Y, similarity=similarity, backend="dense").backward()
    assert similarity.weight.grad.abs().sum() > 0
    assert contrastive_loss(X, Y, similarity=similarity.requires_grad_(False)).isfinite()


# What is not yet refused, or not yet in words that help


def wrong_shape(*parts: str) -> tuple[str, ...]:
    return "similarity", *parts


MISTAKES = [
    ("no backend", lambda: contrastive_loss(X, Y, backend=None), ("backend", "None")),
    ("a number as backend", lambda: hardneg.ContrastiveLoss(backend=3), ("backend", "3")),
    (
        "a class as backend",
        lambda: contrastive_loss(X, Y, backend=Tiled),
        ("backend", "Tiled", "Tiled()"),
    ),
    ("an empty tile", lambda: Tiled((0, 3)), ("tile", "(0, 3)")),
    ("half a tile", lambda: Tiled(3), ("tile", "3")),
    ("a number as ceiling", lambda: TopK(2, ceiling=0.5), ("ceiling", "0.5", "Ceiling")),
    ("semi-hard without a bound", lambda: SemiHard(ceiling=None), ("ceiling", "None")),
    (
        "a trainable similarity in given tiles",
        lambda: contrastive_loss(X, Y, similarity=Bilinear(), backend=Tiled((3, 3))),
        ("trainable parameters",),
    ),
    (
        "sigmoid loss: several positives without ids",
        lambda: sigmoid_loss(X, Y, positives="all"),
        ("positives", "query_ids"),
    ),
    ("stages without steps", lambda: Steps(All(), Hardest()), ("stages",)),
    ("numbers in place of strategies", lambda: Warmup(1, 2, 3), ("before", "1")),
    ("a negative step", lambda: Warmup(All(), Hardest(), 3)(-1), ("step", "-1")),
    (
        "cosine for the margin loss's module",
        lambda: hardneg.MarginLoss(similarity="cosine"),
        ("similarity", "needs a distance"),
    ),
    (
        "labels of the reference beside a mask",
        lambda: triplet_loss(X, None, Y, IDS, positive_mask=EYE),
        ("reference_labels", "positive"),
    ),
    (
        "a mask under its own name",
        lambda: triplet_loss(X, positive_mask=EYE[:, :3]),
        ("positive_mask",),
    ),
    (
        "the loss that was called",
        lambda: unified_pair_loss(X, Y, negatives=SelectiveHardest()),
        ("unified_pair_loss",),
    ),
    (
        "what selection's fallback needs",
        lambda: multi_similarity_loss(X, IDS, negatives=TopK(2, fallback="easiest")),
        ("fallback",),
    ),
]
for how in BACKENDS:
    MISTAKES += [
        (
            f"a similarity of one score a row, {how}",
            lambda h=how: contrastive_loss(X, Y, similarity=lambda q, c: q.sum(1), backend=h),
            wrong_shape("(4,)"),
        ),
        (
            f"a similarity of one column, {how}",
            lambda h=how: contrastive_loss(
                X, Y, similarity=lambda q, c: (q @ c.T)[:, :1], backend=h
            ),
            wrong_shape("1)"),
        ),
        (
            f"a similarity the wrong way round, {how}",
            lambda h=how: contrastive_loss(
                X[:2], Y[:3], similarity=lambda q, c: c @ q.T, backend=h, negatives="all"
            ),
            wrong_shape("(3, 2)"),
        ),
        (
            f"a similarity of integers, {how}",
            lambda h=how: contrastive_loss(
                X, Y, similarity=lambda q, c: (q @ c.T).long(), backend=h
            ),
            wrong_shape("int64"),
        ),
        (
            f"a similarity that returns nothing, {how}",
            lambda h=how: contrastive_loss(X, Y, similarity=lambda q, c: None, backend=h),
            wrong_shape("NoneType"),
        ),
    ]


@pytest.mark.parametrize(("call", "parts"), [n[1:] for n in MISTAKES], ids=[n[0] for n in MISTAKES])
def test_further_mistakes(call: Callable[[], Any], parts: tuple[str, ...]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    says(str(caught.value), *parts)


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_a_temperature_in_a_tensor_that_is_not_above_0_gives_nan(value: float) -> None:
    assert info_nce_loss(X, Y, temperature=torch.tensor(value)).isnan()
