"""Forms of the softmax in ``InfoNCELoss``: peers, own negatives, refusals; ``test_matrix.py`` has plain formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import BACKEND_IDS, BACKENDS, numbers
from torch import Tensor

from hardneg import (
    Ceiling,
    Debiased,
    Decoupled,
    Hardest,
    HardnessWeighted,
    InfoNCELoss,
    LabelSmoothing,
    Learned,
    TopK,
)
from hardneg.softmaxes import Against, Softmax

FORMS = (Decoupled(), HardnessWeighted(2.0), LabelSmoothing(0.2), Debiased(0.1))
backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
forms = pytest.mark.parametrize("form", FORMS, ids=str)


def rows(n: int, m: int, k: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries, candidates, and own negatives where k > 0."""
    found = [numbers(n, 6, 0, dtype), numbers(m, 6, 1, dtype)]
    return [*found, numbers(n * k, 6, 2, dtype).view(n, k, 6)] if k else found


def assert_same(ours: Any, theirs: Any, inputs: list[Tensor], tolerance: float = 1e-9) -> None:
    first, second = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    value, expected = ours(*first), theirs(*second)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    pairs = [torch.autograd.grad(v, xs) for v, xs in ((value, first), (expected, second))]
    for a, b in zip(*pairs, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# Peers


@backends
def test_decoupled_is_lightlys(backend: Any) -> None:
    """Its negatives are the other rows of both views: the own view's as further candidates, of the same ids."""
    module = pytest.importorskip("lightly.loss.dcl_loss", reason="lightly is not installed")
    ids = torch.arange(9)
    told = {"query_ids": ids, "candidate_ids": torch.cat([ids, ids])}
    loss = InfoNCELoss(0.3, softmax="decoupled", directions="queries", backend=backend)

    def ours(a: Tensor, b: Tensor) -> Tensor:
        both = loss(a, torch.cat([b, a]), **told), loss(b, torch.cat([a, b]), **told)
        return (both[0] + both[1]) / 2

    assert_same(ours, module.DCLLoss(temperature=0.3), rows(9, 9))


MODES = {"all": "all_negatives", "batch": "in_batch_negatives", "own": "hard_negatives"}


@backends
@pytest.mark.parametrize("of", list(MODES))
def test_hardness_weights_are_those_of_sentence_transformers(of: Any, backend: Any) -> None:
    """There every query meets the mined negatives of all others too: further candidates here, its own left out."""
    module = pytest.importorskip(
        "sentence_transformers.sentence_transformer.losses.multiple_negatives_ranking",
        reason="sentence-transformers is not installed",
    )
    n, k, told = 7, 2, {"hardness_mode": MODES[of], "hardness_strength": 3.0}
    peer = module.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0, **told)
    form = HardnessWeighted(3.0, of=of)
    loss = InfoNCELoss(1 / 20, softmax=form, directions="queries", backend=backend)
    own = torch.eye(n, dtype=torch.bool).repeat(1, k)
    ignore = torch.cat([torch.zeros(n, n, dtype=torch.bool), own], 1)
    ids = {"query_ids": torch.arange(n), "candidate_ids": torch.arange(n * (1 + k))}

    def ours(q: Tensor, c: Tensor, mined: Tensor) -> Tensor:
        every = torch.cat([c, mined.transpose(0, 1).flatten(0, 1)])
        return loss(q, every, ignore_mask=ignore, own_negatives=mined, **ids)

    def theirs(q: Tensor, c: Tensor, mined: Tensor) -> Tensor:
        return peer.compute_loss_from_embeddings([q, c, *mined.unbind(1)], torch.empty(0))

    assert_same(ours, theirs, rows(n, n, k))


@backends
@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0])
def test_label_smoothing_is_that_of_cross_entropy(amount: float, backend: Any) -> None:
    loss = InfoNCELoss(0.2, softmax=LabelSmoothing(amount), backend=backend)

    def theirs(q: Tensor, c: Tensor) -> Tensor:
        z = F.normalize(q) @ F.normalize(c).T / 0.2
        told = {"label_smoothing": amount}
        of_candidates = F.cross_entropy(z.T[: len(q)], torch.arange(len(q)), **told)
        return (F.cross_entropy(z, torch.arange(len(q)), **told) + of_candidates) / 2

    assert_same(loss, theirs, rows(8, 11))


@backends
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("prior", [0.1, 0.6])
def test_debiased_is_the_authors(prior: float, temperature: float, backend: Any) -> None:
    """Chuang et al.'s released code: both views in one set, two rows of every image."""

    def theirs(a: Tensor, b: Tensor) -> Tensor:
        a, b, n = F.normalize(a), F.normalize(b), len(a)
        out = torch.cat([a, b])
        neg = torch.exp(out @ out.T / temperature)
        ids = torch.arange(n).repeat(2)
        neg = neg.masked_select(ids[:, None] != ids).view(2 * n, -1)
        pos = torch.exp((a * b).sum(-1) / temperature)
        pos, count = torch.cat([pos, pos]), 2 * n - 2
        ng = (-prior * count * pos + neg.sum(-1)) / (1 - prior)
        ng = ng.clamp(min=count * torch.tensor(-1 / temperature).double().exp())
        return (-torch.log(pos / (pos + ng))).mean()

    ids = torch.arange(8)
    told = {"query_ids": ids, "candidate_ids": torch.cat([ids, ids])}
    chosen = {"softmax": Debiased(prior), "directions": "queries", "backend": backend}
    loss = InfoNCELoss(temperature, **chosen)

    def ours(a: Tensor, b: Tensor) -> Tensor:
        both = loss(a, torch.cat([b, a]), **told), loss(b, torch.cat([a, b]), **told)
        return (both[0] + both[1]) / 2

    assert_same(ours, theirs, rows(8, 8))


# Own negatives


@backends
@forms
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("negatives", ["all", TopK(3), Hardest(Ceiling(0.8))], ids=str)
def test_own_negatives_count_as_candidates_that_others_ignore(
    form: Softmax, share: bool, negatives: Any, backend: Any
) -> None:
    n, k, m = 5, 3, 8
    chosen = {"softmax": form, "negatives": negatives, "directions": "queries"}
    loss = InfoNCELoss(0.4, **chosen, backend=backend)
    dense = InfoNCELoss(0.4, **chosen, backend="dense")
    batch = torch.full((n, m), not share)
    batch[torch.arange(n), torch.arange(n)] = False
    others = ~torch.eye(n, dtype=torch.bool).repeat_interleave(k, dim=1)
    ignore = torch.cat([batch, others], 1)
    ids = {"query_ids": torch.arange(n), "candidate_ids": torch.arange(m + n * k)}
    assert_same(
        lambda q, c, o: loss(q, c, own_negatives=o, share_negatives=share) + 0 * c.sum(),
        lambda q, c, o: dense(q, torch.cat([c, o.flatten(0, 1)]), ignore_mask=ignore, **ids),
        rows(n, m, k),
    )


@backends
@forms
def test_a_guide_leaves_out_what_it_scores_above_the_positive(form: Softmax, backend: Any) -> None:
    guide = tuple(numbers(n, 3, seed, torch.float64) for n, seed in ((6, 7), (9, 8)))
    s = F.normalize(guide[0]) @ F.normalize(guide[1]).T
    ignore = (s >= s.diagonal()[:, None]).fill_diagonal_(False)
    assert 0 < int(ignore.sum()) < ignore.numel()
    loss = InfoNCELoss(0.3, softmax=form, directions="queries", backend=backend)
    dense = InfoNCELoss(0.3, softmax=form, directions="queries", backend="dense")
    ours, theirs = (
        lambda q, c: loss(q, c, guide=guide),
        lambda q, c: dense(q, c, ignore_mask=ignore),
    )
    assert_same(ours, theirs, rows(6, 9))


@backends
def test_weights_of_a_part_are_nothing_without_that_part(backend: Any) -> None:
    plain = InfoNCELoss(0.3, backend=backend)
    for of, same in (("own", plain), ("batch", InfoNCELoss(0.3, softmax=HardnessWeighted(2.0)))):
        loss = InfoNCELoss(0.3, softmax=HardnessWeighted(2.0, of), backend=backend)
        assert_same(loss, same, rows(6, 9))


# Both directions with own negatives: those of candidates know the batch alone


@backends
@pytest.mark.parametrize("of", ["all", "batch", "own"])
def test_directions_are_averaged(of: Any, backend: Any) -> None:
    form = HardnessWeighted(2.0, of)
    losses = [
        InfoNCELoss(0.3, softmax=form, directions=d, backend=backend)
        for d in ("both", "queries", "candidates")
    ]
    q, c, own = rows(6, 9, 2)
    both, first, second = (loss(q, c, own_negatives=own) for loss in losses)
    torch.testing.assert_close(both, (first + second) / 2, rtol=1e-12, atol=0)


# What holds for every form


@pytest.mark.parametrize("form", [form for form in FORMS if form.hardness == 0], ids=str)
def test_gradients_by_differences(form: Softmax) -> None:
    """But those of weights that are held constant."""
    inputs = [x.requires_grad_() for x in rows(5, 7)]
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda q, c, t: InfoNCELoss(t, softmax=form)(q, c), (*inputs, t))


@forms
def test_a_learned_temperature_of_every_form(form: Softmax) -> None:
    found = []
    for backend in BACKENDS:
        loss = InfoNCELoss(Learned(0.3), softmax=form, backend=backend).double()
        loss(*rows(6, 8)).backward()
        found.append(loss.temperature.logit_scale.grad)
    for gradient in found:
        assert gradient.abs() > 1e-3
        torch.testing.assert_close(gradient, found[1], rtol=1e-9, atol=1e-12)


@forms
@pytest.mark.parametrize("negatives", ["all", TopK(2)], ids=str)
def test_one_graph(form: Softmax, negatives: Any) -> None:
    loss = InfoNCELoss(0.3, softmax=form, negatives=negatives)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_same(compiled, loss, rows(6, 8, dtype=torch.float32), 1e-5)
    torch.compiler.reset()


@forms
@backends
def test_no_negative_gives_nothing_and_extremes_stay_finite(form: Softmax, backend: Any) -> None:
    loss = InfoNCELoss(0.01, softmax=form, backend=backend)
    alone = numbers(1, 4, 0).requires_grad_()
    value = loss(alone, alone.detach().clone())
    value.backward()
    assert value == 0
    assert torch.equal(alone.grad, torch.zeros_like(alone))
    same = torch.ones(6, 4, requires_grad=True)
    value = loss(same, torch.ones(6, 4))
    value.backward()
    assert value.isfinite()
    assert same.grad.isfinite().all()


@forms
def test_scores_that_are_given(form: Softmax) -> None:
    loss = InfoNCELoss(0.3, softmax=form)
    q, c = (F.normalize(x) for x in rows(6, 8))
    torch.testing.assert_close(loss.from_scores(q @ c.T), loss(q, c))


def test_statistics_are_those_of_the_plain_form() -> None:
    q, c = rows(6, 8)
    for negatives in ("all", TopK(2)):
        _, plain = InfoNCELoss(negatives=negatives)(q, c, return_stats=True)
        for form in FORMS:
            _, stats = InfoNCELoss(softmax=form, negatives=negatives)(q, c, return_stats=True)
            for name, x in plain.as_dict().items():
                torch.testing.assert_close(stats.as_dict()[name], x, msg=f"{form}: {name}")


@dataclass(frozen=True)
class Halved(Softmax):
    """A form of one's own."""

    def term(self, x: Against) -> Tensor:
        return super().term(x) / 2


def test_a_form_of_ones_own() -> None:
    q, c = rows(6, 8)
    torch.testing.assert_close(InfoNCELoss(softmax=Halved())(q, c), InfoNCELoss()(q, c) / 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: InfoNCELoss(softmax="decouple"), ValueError, "unknown softmax 'decouple'"),
        (lambda: InfoNCELoss(softmax=5.0), TypeError, "softmax is 5.0: expected a name"),
        (lambda: HardnessWeighted(-1.0), ValueError, "strength is -1.0: expected at least 0"),
        (lambda: HardnessWeighted(of="mine"), ValueError, "unknown of 'mine'"),
        (lambda: LabelSmoothing(1.5), ValueError, "amount is 1.5: expected at least 0 and at most 1"),
        (lambda: Debiased(1.0), ValueError, "prior is 1.0: expected above 0"),
        (
            lambda: InfoNCELoss(softmax="decoupled", positives="all"),
            ValueError,
            r'takes positives="paired", not AllPositives',
        ),
        (
            lambda: InfoNCELoss(softmax="decoupled", directions="joint"),
            ValueError,
            'takes directions "queries", "candidates" or "both"',
        ),
        (
            lambda: InfoNCELoss(softmax=Debiased(), similarity="dot"),
            ValueError,
            r'takes similarity="cosine", not Dot',
        ),
        (
            lambda: InfoNCELoss(softmax=HardnessWeighted(of="own"), negatives="hardest")(*rows(3, 3)),
            ValueError,
            r'takes negatives="all", not Hardest',
        ),
    ],
)  # fmt: skip
def test_messages(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
