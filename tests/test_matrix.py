"""One matrix: loss x negatives x positives x similarity x reduction x direction x option x layout x form x backend x
dtype.

Values and gradients against ``oracle.py`` in float64. The normal run takes, for each loss, a covering
array: every pair of choices that the loss accepts occurs in some row. ``--full`` runs the product, in
which the options (penalty, margin, ...) and the forms of the call take turns.

Inputs are rounded to bfloat16, so that one float64 oracle serves every dtype. Random negatives
are asked for more than there are, which leaves one right answer (``reductions/`` has the draws).
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import oracle
import pytest
import torch
from every_loss import squashed
from matrix_forms import LABEL_FORMS, OF_QUERIES, PAIR_FORMS, Form, form_of
from torch import Tensor

import hardneg
from hardneg import (
    All,
    Ceiling,
    Cosine,
    Debiased,
    Decoupled,
    Dense,
    DistanceWeighted,
    Dot,
    Euclidean,
    Hardest,
    HardnessWeighted,
    LabelSmoothing,
    Order,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    SquaredEuclidean,
    Tiled,
    TopK,
    functional,
)
from hardneg.functional import function_name
from hardneg.losses import base

Row = dict[str, object]


NEGATIVES = {
    "all": All(),
    "all below": All(Ceiling(0.95, 0.1)),
    "hardest": Hardest(),
    "hardest below": Hardest(Ceiling(0.9), "none"),
    "semihard easiest": SemiHard(),
    "semihard hardest": SemiHard("hardest"),
    "semihard none": SemiHard("none"),
    "top 3": TopK(3),
    "top 2 below": TopK(2, Ceiling(1.0, 0.05), "hardest"),
    "top of everything": TopK(50),
    "ranks 1 to 4": RankWindow(1, 4),
    "ranks 0 to 2 below": RankWindow(0, 2, Ceiling(), "easiest"),
    "random everything": RandomK(50),
    "random below": RandomK(50, Ceiling(1.0, 0.1), "easiest"),
    "distance weighted": DistanceWeighted(k=50, nonzero_loss_cutoff=1.2),
    "all in a range": All(Ceiling(1.0, 0.2), min_score=-0.9, max_score=0.6),
    "top 2 in a range": TopK(2, fallback="easiest", min_score=-2.0, max_score=0.3),
    "selective": SelectiveHardest(0.4),
}
SIMILARITIES = {
    "cosine": Cosine(),
    "dot": Dot(),
    "euclidean": Euclidean(),
    "squared": SquaredEuclidean(),
    "order": Order(),
    "callable": squashed,
}
BACKENDS = {"auto": "auto", "dense": Dense(), "tiled": Tiled(), "ragged": Tiled((5, 7))}
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
REDUCTIONS = ["mean", "sum", "mean_active", "none"]
OF_TRIPLETS = [*REDUCTIONS, "mean_triplets"]
DIRECTIONS = ["both", "queries", "candidates"]
PAIR_LAYOUTS = ["plain", "ids", "mask", "wide", "wide ids ignore", "wide mask ignore"]
LABEL_LAYOUTS = [
    "one set",
    "one set ignore",
    "one set mask",
    "two sets",
    "two sets ignore",
    "same set",
]
ANY = [name for name in NEGATIVES if name != "selective"]
PENALTIES = [{"penalty": p} for p in ("hinge", "squared_hinge", "logistic")]
MARGINS = [{"margin": 0.0}, {"margin": 0.3}]
SOFTMAXES = [
    {"margin": margin, "softmax": form}
    for margin, form in (
        (0.0, Decoupled()),
        (0.3, HardnessWeighted(2.0)),
        (0.1, LabelSmoothing(0.2)),
        (0.2, Debiased(0.1)),
    )
]
PAIRWISE = [
    {**penalty, "positive_margin": a, "negative_margin": b}
    for penalty, (a, b) in itertools.product(PENALTIES, [(0.1, 1.0), (0.9, -0.1)])
]
HALF = torch.tensor(0.5)


@dataclass(frozen=True)
class Loss:
    """What a loss takes, as its documentation says, and how both it and the oracle are called.

    Attributes:
        options: settings of which a row takes one; ``numbers``: those of every row. Both are told to both sides.
        equal_numbers: whether candidates are anchors only where there are as many of them as queries.
    """

    module: type[base.Loss]
    oracle: Callable[..., oracle.Value]
    layouts: list[str]
    options: list[dict[str, object]]
    numbers: dict[str, object] = field(default_factory=dict)
    negatives: tuple[str, ...] = tuple(ANY)
    positives: tuple[str, ...] = ("",)
    similarities: tuple[str, ...] = tuple(SIMILARITIES)
    equal_numbers: bool = False
    reductions: list[str] = field(default_factory=lambda: REDUCTIONS)

    @property
    def forms(self) -> list[str]:
        return PAIR_FORMS if self.layouts is PAIR_LAYOUTS else LABEL_FORMS

    @property
    def function(self) -> Callable[..., oracle.Value]:
        return getattr(functional, function_name(self.module))


LOSSES = {
    "contrastive": Loss(
        hardneg.ContrastiveLoss,
        oracle.hinges,
        PAIR_LAYOUTS,
        PENALTIES,
        {"margin": 0.2},
        tuple(NEGATIVES),
        reductions=OF_TRIPLETS,
    ),
    "triplet": Loss(
        hardneg.TripletLoss,
        oracle.hinges,
        LABEL_LAYOUTS,
        PENALTIES,
        {"margin": 0.2},
        positives=("all", "hardest", "easiest"),
        reductions=OF_TRIPLETS,
    ),
    "info_nce": Loss(
        hardneg.InfoNCELoss,
        oracle.info_nce,
        PAIR_LAYOUTS,
        MARGINS + SOFTMAXES,
        {"temperature": HALF},
        positives=("paired", "all"),
    ),
    "nt_xent": Loss(
        hardneg.NTXentLoss,
        functools.partial(oracle.info_nce, positives="all"),
        LABEL_LAYOUTS,
        MARGINS,
        {"temperature": HALF},
    ),
    "sup_con": Loss(hardneg.SupConLoss, oracle.sup_con, LABEL_LAYOUTS, [{}], {"temperature": HALF}),
    "sigmoid": Loss(
        hardneg.SigmoidLoss,
        oracle.sigmoid,
        PAIR_LAYOUTS,
        [{"bias": -1.0}, {"bias": HALF}],
        {"temperature": HALF},
        positives=("paired", "all"),
        equal_numbers=True,
    ),
    "pairwise": Loss(hardneg.PairwiseContrastiveLoss, oracle.pairwise, LABEL_LAYOUTS, PAIRWISE),
    "margin": Loss(
        hardneg.MarginLoss,
        oracle.margin_loss,
        LABEL_LAYOUTS,
        [{"beta": 1.0}, {"beta": torch.tensor(0.8)}, {"beta": "one an anchor"}],
        {"margin": 0.2},
        similarities=("euclidean", "squared"),
    ),
    "multi_similarity": Loss(
        hardneg.MultiSimilarityLoss,
        oracle.multi_similarity,
        LABEL_LAYOUTS,
        [{"epsilon": e} for e in (None, 0.1, 0.5)],
        {"alpha": 2.0, "beta": 10.0, "base": 0.5},
    ),
    "circle": Loss(
        hardneg.CircleLoss,
        oracle.circle,
        LABEL_LAYOUTS,
        [{"margin": 0.25, "gamma": 8.0}, {"margin": 0.4, "gamma": 2.0}],
    ),
    "polynomial": Loss(
        hardneg.PolynomialLoss,
        oracle.polynomial,
        PAIR_LAYOUTS,
        [{"margin": 0.2, "positive": (0.5, -0.7, 0.2), "negative": (0.03, -0.4, 0.9)}],
        negatives=tuple(name for name in ANY if not NEGATIVES[name].complete),
    ),
    "unified": Loss(
        hardneg.UnifiedPairLoss, oracle.unified, PAIR_LAYOUTS, [{"margin": 0.2, "gamma": 3.0}]
    ),
}


def factors(name: str) -> dict[str, list[object]]:
    """The choices of a loss."""
    loss = LOSSES[name]
    return {
        "negatives": list(loss.negatives),
        "positives": list(loss.positives),
        "similarity": list(loss.similarities),
        "reduction": list(loss.reductions),
        "directions": list(DIRECTIONS),
        "option": list(range(len(loss.options))),
        "layout": list(loss.layouts),
        "form": list(loss.forms),
        "backend": list(BACKENDS),
        "dtype": list(DTYPES),
    }


def clash(loss: str, row: Row) -> bool:
    """Whether two of the choices exclude each other (the tests of refusals hold that they raise)."""
    get, what = row.get, LOSSES[loss]
    negatives, layout, positives = get("negatives"), str(get("layout")), get("positives")
    candidates = get("directions") in ("both", "candidates")
    option = what.options[get("option", 0)]
    paired, form = positives == "paired", get("form")
    return any(
        (
            negatives == "selective" and get("reduction") == "mean_triplets",
            negatives == "distance weighted" and form == "scores",
            candidates and form in OF_QUERIES,
            negatives == "distance weighted" and get("similarity") in ("dot", "order", "callable"),
            candidates and layout.startswith("one set"),
            candidates and option.get("beta") == "one an anchor",
            # Several positives need ids, pairs may need equal numbers.
            positives == "all" and layout in ("plain", "wide"),
            what.equal_numbers and candidates and paired and layout.startswith("wide"),
            what.equal_numbers and candidates and layout == "wide",
            "softmax" in option and positives == "all",
            isinstance(option.get("softmax"), Debiased)
            and get("similarity") not in (None, "cosine"),
        )
    )


def covering_array(loss: str, seed: int = 0) -> list[Row]:
    """Few rows in which every pair of compatible choices occurs: greedy, the same on every run."""
    choices = factors(loss)
    rng = random.Random(f"{loss} {seed}")
    names = list(choices)
    missing = {
        ((a, x), (b, y)): None
        for a, b in itertools.combinations(names, 2)
        for x in choices[a]
        for y in choices[b]
        if not clash(loss, {a: x, b: y})
    }
    rows = []
    while missing:
        (a, x), (b, y) = next(iter(missing))
        best, best_gain = None, -1
        for attempt in range(400):
            row = {name: rng.choice(choices[name]) for name in names} | {a: x, b: y}
            if clash(loss, row):
                continue
            gain = sum(pair in missing for pair in itertools.combinations(row.items(), 2))
            if gain > best_gain:
                best, best_gain = row, gain
            if best_gain > 0 and attempt > 25:
                break
        assert best is not None, f"{loss}: {a}={x} and {b}={y} fit no row"
        rows.append(best)
        for pair in itertools.combinations(best.items(), 2):
            missing.pop(pair, None)
    return rows


@dataclass(frozen=True, eq=False)
class Inputs:
    """One layout's embeddings (float64, exact in bfloat16), who is related, and how the loss is told."""

    queries: Tensor
    candidates: Tensor | None
    related: oracle.Related
    told: dict[str, object]

    @property
    def other(self) -> Tensor:
        return self.queries if self.candidates is None else self.candidates


@functools.cache
def inputs(layout: str, several: bool) -> Inputs:
    """Random, asymmetric, ragged; some anchors lack a positive or a negative; some negatives nearly tie."""
    g = torch.Generator().manual_seed(sum(map(ord, layout)))
    pairs = layout in PAIR_LAYOUTS
    one = layout.startswith("one set")
    n, m = (8, 8) if layout in ("plain", "ids", "mask", "same set") else (6, 11)
    n, m = (11, 11) if one else (n, m)
    q = 0.7 * torch.randn(n, 4, generator=g)
    c = q if one else 0.7 * torch.randn(m, 4, generator=g)
    if pairs:
        c[:n] = 0.6 * q + 0.6 * c[:n]
        c[-1] = c[1] * 1.0078125
    q, c = q.bfloat16().double(), c.bfloat16().double()
    ids = (torch.randint(0, 4, (n,), generator=g), torch.randint(0, 4, (m,), generator=g))
    ids = (ids[0], ids[0]) if one else ids
    if pairs and "ids" in layout:
        ids[1][:n] = ids[0]
    if not pairs:
        ids[0][0] = 9  # a class of one
    mask = ignore = None
    if "mask" in layout or layout == "same set":
        mask = torch.rand(n, m, generator=g) < 0.25
        mask[1] = True  # no negative
        mask[2] = False  # no positive
    if "ignore" in layout or layout == "same set":
        ignore = torch.rand(n, m, generator=g) < 0.2
        if pairs:
            ignore.fill_diagonal_(False)
    told: dict[str, object] = {}
    with_ids = mask is None and (not pairs or "ids" in layout)
    same = one or layout == "same set"
    if with_ids:
        names = ("query_ids", "candidate_ids") if pairs else ("labels", "reference_labels")
        told = dict(zip(names, ids, strict=True))
        if one:
            del told["reference_labels"]
    if mask is not None:
        told["positive_mask"] = mask
    if ignore is not None:
        told["ignore_mask"] = ignore
    if layout == "same set":
        told["same_set"] = True
    rel = oracle.related(
        n, m, ids if with_ids else None, mask, ignore, paired=pairs and not several, same=same
    )
    return Inputs(q, None if one else c, rel, told)


def settings(loss: str, row: Row, rows: int) -> dict[str, object]:
    """The numbers of a loss, one an anchor where it is so told."""
    option = LOSSES[loss].numbers | LOSSES[loss].options[row["option"]]
    if option.get("beta") == "one an anchor":
        option["beta"] = torch.linspace(0.5, 1.2, rows)
    return option


def as_leaves(option: dict[str, object], dtype: torch.dtype) -> dict[str, object]:
    """Tensors among the settings as leaves that want a gradient."""
    return {
        k: v.to(dtype).clone().requires_grad_() if isinstance(v, Tensor) else v
        for k, v in option.items()
    }


@dataclass(frozen=True, eq=False)
class Answer:
    """A loss, or its terms, and gradients by input."""

    value: Tensor
    gradients: list[Tensor]


def differentiate(value: oracle.Value, leaves: list[Tensor]) -> Answer:
    """Terms are weighted by 1, 2, 3 ... before they are differentiated."""
    flat = torch.cat(value) if isinstance(value, tuple) else value.reshape(1)
    weights = torch.arange(1, len(flat) + 1, dtype=flat.dtype) / max(1, len(flat))
    if not flat.requires_grad:
        return Answer(flat, [torch.zeros_like(x) for x in leaves])
    found = torch.autograd.grad((flat * weights).sum(), leaves, allow_unused=True)
    given = zip(found, leaves, strict=True)
    return Answer(flat.detach(), [torch.zeros_like(x) if g is None else g for g, x in given])


def form(loss: str, row: Row, given: Inputs) -> Form:
    """What the form of the call changes."""
    ids = given.told.get("query_ids")
    return form_of(row["form"], given.queries, given.related, ids)


def expected(loss: str, row: Row, dtype: torch.dtype, turn: int = 0) -> Answer:
    """The dense formula in a type; ``turn`` rolls the coordinates, which changes only the rounding."""
    given = inputs(row["layout"], row["positives"] == "all")
    q = given.queries.to(dtype).requires_grad_()
    c = q if given.candidates is None else given.candidates.to(dtype).requires_grad_()
    option = as_leaves(settings(loss, row, len(q)), dtype)
    similarity = SIMILARITIES[row["similarity"]]
    options = {k: row[k] for k in ("directions", "reduction")} | option
    if row["positives"]:
        options["positives"] = row["positives"]
    s = oracle.scores(similarity, q.roll(turn, 1), c.roll(turn, 1))
    called, sets = form(loss, row, given), [q] if c is q else [q, c]
    if called.own is not None:
        own = called.own.to(dtype).requires_grad_()
        s = torch.cat(
            [s, oracle.scores(similarity, q.roll(turn, 1), own.flatten(0, 1).roll(turn, 1))], 1
        )
        sets.append(own)
    strategy = NEGATIVES[row["negatives"]]
    name = type(similarity).__name__
    value = LOSSES[loss].oracle(s, called.related, name=name, negatives=strategy, **options)
    tensors = [v for v in option.values() if isinstance(v, Tensor)]
    return differentiate(value, sets + tensors)


def found(loss: str, row: Row) -> Answer:
    """What the library says; inputs stay as they were."""
    dtype = DTYPES[row["dtype"]]
    score_type = torch.float64 if dtype == torch.float64 else torch.float32
    given = inputs(row["layout"], row["positives"] == "all")
    q = given.queries.to(dtype).requires_grad_()
    sets = [q] if given.candidates is None else [q, given.candidates.to(dtype).requires_grad_()]
    option = as_leaves(settings(loss, row, len(q)), score_type)
    told = dict(given.told)
    if len(sets) == 2 and LOSSES[loss].layouts is LABEL_LAYOUTS:
        told["reference"] = sets[1]
    arguments = list(sets) if LOSSES[loss].layouts is PAIR_LAYOUTS else sets[:1]
    chosen = option | {
        "negatives": NEGATIVES[row["negatives"]],
        "similarity": SIMILARITIES[row["similarity"]],
        "backend": BACKENDS[row["backend"]],
        "directions": row["directions"],
        "reduction": row["reduction"],
    }
    if row["positives"]:
        chosen["positives"] = row["positives"]
    called = form(loss, row, given)
    if row["form"] == "scores":
        told.pop("reference", None)
        value = of_scores(loss, chosen, told, sets)
    else:
        told |= called.told
        if called.own is not None:
            sets.append(called.own.to(dtype).requires_grad_())
            told["own_negatives"] = sets[-1]
        value = LOSSES[loss].function(*arguments, **told, **chosen)
    answer = differentiate(value, sets + [v for v in option.values() if isinstance(v, Tensor)])
    assert answer.value.dtype == score_type
    for x, gradient in zip(sets, answer.gradients, strict=False):
        assert gradient.dtype == x.dtype
    assert torch.equal(q.detach().double(), given.queries)
    assert torch.equal(sets[min(1, len(sets) - 1)].detach().double(), given.other)
    return answer


def of_scores(
    loss: str, chosen: dict[str, object], told: dict[str, object], sets: list[Tensor]
) -> oracle.Value:
    """The loss of given scores, computed as the plain formula computes them."""
    q, c = (x if x.dtype == torch.float64 else x.float() for x in (sets[0], sets[-1]))
    scores = oracle.scores(chosen["similarity"], q, c)
    if "positive_mask" in told and LOSSES[loss].layouts is LABEL_LAYOUTS:
        told = {"same_set": len(sets) == 1, **told}
    return LOSSES[loss].module(**chosen).from_scores(scores, **told)


def worst(answer: Answer, exact: Answer) -> list[float]:
    """The largest error of the value and of each gradient."""
    pairs = zip([answer.value, *answer.gradients], [exact.value, *exact.gradients], strict=True)
    errors = []
    for x, y in pairs:
        assert x.shape == y.shape
        assert x.isfinite().all()
        errors.append((x.double() - y).abs().max().item() if x.numel() else 0.0)
    return errors


def size(answer: Answer) -> list[float]:
    """The largest entry of the value and of each gradient."""
    every = [answer.value, *answer.gradients]
    return [x.abs().max().item() if x.numel() else 0.0 for x in every]


def assert_matches(loss: str, row: Row, exact: Answer, eager: list[Answer]) -> None:
    """Within 1e-9 in float64; else within twice the plain formula's own error, plus rounding.

    The plain formula runs in float32 for every narrower type, since that is what scores are promised
    to be computed in; the rounding is that of the results: a few units of float32 at the size of the
    largest, and for gradients a unit of the input's type for each of the parts that autograd adds up.
    """
    answer = found(loss, row)
    dtype = DTYPES[row["dtype"]]
    errors, sizes = worst(answer, exact), size(exact)
    for place, (error, magnitude) in enumerate(zip(errors, sizes, strict=True)):
        if dtype == torch.float64:
            allowed = 1e-9 * (1 + magnitude)
        else:
            plain = max(worst(other, exact)[place] for other in eager)
            single, own = torch.finfo(torch.float32).eps, torch.finfo(dtype).eps
            is_gradient_of_set = 0 < place <= 3
            rounding = 64 * single * (1 + max(sizes)) + 4 * own * magnitude * is_gradient_of_set
            allowed = 2 * plain + rounding + 2.0**-23 * (dtype == torch.float16)
        what = "the value" if place == 0 else f"gradient {place}"
        assert error <= allowed, f"{loss} {row}: {what} is off by {error:.3g} > {allowed:.3g}"


def check(loss: str, row: Row) -> None:
    """One row of the matrix."""
    exact = expected(loss, row, torch.float64)
    eager = []
    if row["dtype"] != "float64":
        eager = [expected(loss, row, torch.float32, turn) for turn in (0, 1)]
    assert_matches(loss, row, exact, eager)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_pair_of_choices(loss: str, seed: int) -> None:
    for row in covering_array(loss, seed):
        check(loss, row)


def test_the_array_covers_every_pair() -> None:
    for loss in LOSSES:
        rows, choices = covering_array(loss), factors(loss)
        assert not any(clash(loss, row) for row in rows)
        seen = {pair for row in rows for pair in itertools.combinations(row.items(), 2)}
        for a, b in itertools.combinations(choices, 2):
            for x, y in itertools.product(choices[a], choices[b]):
                assert ((a, x), (b, y)) in seen or clash(loss, {a: x, b: y})


FULL = [(loss, n) for loss, what in LOSSES.items() for n in what.negatives]


@pytest.mark.full
@pytest.mark.parametrize(("loss", "negatives"), FULL, ids=[f"{a}-{b}" for a, b in FULL])
def test_the_full_product(loss: str, negatives: str) -> None:
    choices = factors(loss) | {"negatives": [negatives]}
    options, forms = (itertools.cycle(choices[name]) for name in ("option", "form"))
    turns = ("backend", "dtype", "option", "form")
    outer = [name for name in choices if name not in turns]
    for values in itertools.product(*(choices[name] for name in outer)):
        row: Row = dict(zip(outer, values, strict=True))
        row |= {"option": next(options), "form": next(forms)}
        if clash(loss, row):
            row["form"] = "call"
        if clash(loss, row):
            row["option"] = 0
        if clash(loss, row):
            continue
        exact = expected(loss, row, torch.float64)
        eager = [expected(loss, row, torch.float32)]
        for backend, dtype in itertools.product(BACKENDS, DTYPES):
            assert_matches(loss, row | {"backend": backend, "dtype": dtype}, exact, eager)


EVERYTHING: Row = {
    "positives": "",
    "similarity": "euclidean",
    "reduction": "mean",
    "directions": "queries",
    "option": 0,
    "form": "call",
    "backend": "ragged",
    "dtype": "float64",
}


def plain(loss: str) -> Row:
    """A row that the loss accepts, but for its negatives."""
    what = LOSSES[loss]
    layout = "ids" if what.layouts is PAIR_LAYOUTS else "two sets"
    return EVERYTHING | {"positives": what.positives[0], "layout": layout}


REFUSED = [(a, b) for a, what in LOSSES.items() for b in NEGATIVES if b not in what.negatives]


@pytest.mark.parametrize(("loss", "name"), REFUSED, ids=[f"{a}-{b}" for a, b in REFUSED])
def test_negatives_that_a_loss_does_not_take(loss: str, name: str) -> None:
    """The message names the loss, the strategy, and what it is about it."""
    reason = "only hinge losses" if name == "selective" else "it needs a selection"
    with pytest.raises(ValueError, match=f": {reason}") as caught:
        found(loss, plain(loss) | {"negatives": name})
    start = f"{LOSSES[loss].module.__name__} does not take negatives {NEGATIVES[name]!r}"
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize("loss", [x for x in LOSSES if LOSSES[x].positives != ("",)])
@pytest.mark.parametrize("positives", ["paired", "all", "hardest", "easiest"])
def test_positives_that_a_loss_does_not_take(loss: str, positives: str) -> None:
    row = plain(loss) | {"positives": positives, "negatives": "all"}
    if positives in LOSSES[loss].positives:
        assert found(loss, row).value.isfinite()
        return
    with pytest.raises(ValueError, match=f"{LOSSES[loss].module.__name__} does not take positives"):
        found(loss, row)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_window_of_ranks_falls_back_too(backend: str) -> None:
    """Every negative of a zero margin above its positive: nothing is below the ceiling."""
    q, c = torch.eye(4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.float64)
    c = c - 2 * torch.eye(4, dtype=torch.float64) - torch.arange(4)[:, None] / 10
    options = {"similarity": "dot", "directions": "queries", "reduction": "none"}
    below, backend_object = Ceiling(0.0, -9.0), BACKENDS[backend]
    windowed = RankWindow(1, 3, below, "hardest")
    terms = functional.contrastive_loss(q, c, negatives=windowed, backend=backend_object, **options)
    expected_terms = functional.contrastive_loss(
        q, c, negatives="hardest", backend="dense", **options
    )
    assert torch.equal(terms[0], expected_terms[0])


@pytest.mark.parametrize("similarity", ["dot", "order", "callable"])
@pytest.mark.parametrize("loss", [x for x in LOSSES if "distance weighted" in LOSSES[x].negatives])
def test_distance_weighting_wants_distances_on_the_sphere(loss: str, similarity: str) -> None:
    with pytest.raises(ValueError, match="does not take negatives DistanceWeighted"):
        found(loss, plain(loss) | {"negatives": "distance weighted", "similarity": similarity})


@pytest.mark.parametrize("similarity", ["cosine", "dot", "order", "callable"])
def test_margin_loss_wants_a_distance(similarity: str) -> None:
    with pytest.raises(ValueError, match="it needs a distance"):
        found("margin", plain("margin") | {"negatives": "all", "similarity": similarity})


@pytest.mark.parametrize("loss", [x for x in LOSSES if LOSSES[x].layouts is LABEL_LAYOUTS])
@pytest.mark.parametrize("directions", ["both", "candidates"])
def test_one_set_has_one_direction(loss: str, directions: str) -> None:
    row = plain(loss) | {"layout": "one set", "directions": directions, "negatives": "all"}
    with pytest.raises(ValueError, match=f"directions='{directions}' with one set"):
        found(loss, row)


@pytest.mark.parametrize("directions", ["both", "candidates"])
def test_pairs_of_unequal_numbers_have_no_candidate_direction_in_the_sigmoid_loss(
    directions: str,
) -> None:
    row = plain("sigmoid") | {"layout": "wide", "directions": directions, "negatives": "all"}
    with pytest.raises(ValueError, match="only equal numbers pair"):
        found("sigmoid", row)


@pytest.mark.parametrize("directions", ["both", "candidates"])
def test_a_boundary_for_each_anchor_has_one_direction(directions: str) -> None:
    row = plain("margin") | {"option": 2, "directions": directions, "negatives": "all"}
    with pytest.raises(ValueError, match="beta has one value an anchor"):
        found("margin", row)


def test_several_positives_without_ids() -> None:
    row = plain("info_nce") | {"layout": "plain", "positives": "all", "negatives": "all"}
    with pytest.raises(ValueError, match="without ids"):
        found("info_nce", row)
