"""What must hold whatever the numbers: permutations, special cases, tiles, masks against ids, invariances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from every_loss import FIXED, LABELLED, PAIRED, Case, assert_same, case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hardneg import (
    All,
    Hardest,
    Order,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    Tiled,
    TopK,
    Warmup,
)
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    nt_xent_loss,
    sigmoid_loss,
    triplet_loss,
    unified_pair_loss,
)

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=4, database=None)
settings.load_profile("fixed")
fixed = pytest.mark.parametrize("which", FIXED, ids=str)
paired = pytest.mark.parametrize("which", PAIRED, ids=str)
labelled = pytest.mark.parametrize("which", LABELLED, ids=str)
BACKENDS = st.sampled_from(["dense", "tiled", Tiled((2, 3))])
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
SYMMETRIC = ("cosine", "dot", "euclidean", "squared_euclidean")


@dataclass(frozen=True)
class Batch:
    """Two sets of embeddings with planted near-ties, and groups of unequal sizes."""

    queries: Tensor
    candidates: Tensor
    query_groups: Tensor
    candidate_groups: Tensor
    generator: torch.Generator


@st.composite
def batches(draw: Any, least: int = 3) -> Batch:
    n = draw(st.integers(least, 8))
    m = n + draw(st.integers(0, 4))
    m += m == 2 * n  # without ids that may be two candidates a query, which is refused
    d = draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    options = {"generator": generator, "dtype": torch.float64}
    queries, candidates = torch.randn(n, d, **options), torch.randn(m, d, **options)
    if draw(st.booleans()):
        candidates[1] = candidates[0] + 1e-6 * torch.randn(d, **options)
        queries[n - 1] = queries[0] * (1 + 1e-7) + 1e-6 * torch.randn(d, **options)
    if draw(st.booleans()):
        candidates = candidates.sub(1.5)
    groups = torch.randint(0, draw(st.integers(2, 4)), (m,), generator=generator)
    return Batch(queries, candidates, groups[:n].clone(), groups, generator)


def evaluate(
    which: Case, first: Tensor, second: Tensor | None, *groups: Tensor, **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """The loss (or its terms, one after the other) and the gradients of a fixed combination of them."""
    given_ = [x for x in (first, second) if x is not None]
    leaves = [x.clone().requires_grad_() for x in given_]
    found = which(leaves[0], leaves[1] if second is not None else None, *groups, **options)
    value = torch.cat(found) if isinstance(found, tuple) else found
    return value.detach(), list(torch.autograd.grad(value.sum(), leaves))


def shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def assert_permuted(
    found: tuple[Tensor, list[Tensor]],
    expected: tuple[Tensor, list[Tensor]],
    permutations: list[Tensor],
) -> None:
    """The same loss; the gradients permuted as the inputs were."""
    moved = [g[p] for g, p in zip(expected[1], permutations, strict=True)]
    assert_same(found, (expected[0], moved), **TIGHT)


# Permutations


@paired
@given(batch=batches(), backend=BACKENDS, grouped=st.booleans())
def test_pairs_may_come_in_any_order(
    which: Case, batch: Batch, backend: object, grouped: bool
) -> None:
    n, m = len(batch.queries), len(batch.candidates)
    p = shuffled(n, batch.generator)
    q = torch.cat([p, n + shuffled(m - n, batch.generator)])
    groups = (batch.query_groups, batch.candidate_groups) if grouped else ()
    moved = (groups[0][p], groups[1][q]) if grouped else ()
    expected = evaluate(which, batch.queries, batch.candidates, *groups, backend=backend)
    found = evaluate(which, batch.queries[p], batch.candidates[q], *moved, backend=backend)
    assert_permuted(found, expected, [p, q])


@labelled
@given(batch=batches(), backend=BACKENDS)
def test_a_labelled_set_may_come_in_any_order(which: Case, batch: Batch, backend: object) -> None:
    p = shuffled(len(batch.candidates), batch.generator)
    x, labels = batch.candidates, batch.candidate_groups
    expected = evaluate(which, x, None, labels, backend=backend)
    found = evaluate(which, x[p], None, labels[p], backend=backend)
    assert_permuted(found, expected, [p])


@labelled
@given(batch=batches(), backend=BACKENDS)
def test_a_reference_may_come_in_any_order(which: Case, batch: Batch, backend: object) -> None:
    p = shuffled(len(batch.candidates), batch.generator)
    x, labels = batch.queries, batch.query_groups
    reference, theirs = batch.candidates, batch.candidate_groups
    rest = {"backend": backend}
    own = torch.arange(len(x))
    expected = evaluate(which, x, reference, labels, theirs, **rest)
    found = evaluate(which, x, reference[p], labels, theirs[p], **rest)
    assert_permuted(found, expected, [own, p])


# Strategies that are special cases of others


def assert_strategies_agree(
    which: Case, first: object, second: object, batch: Batch, **options: Any
) -> None:
    if which.kind == "paired":
        told = (batch.queries, batch.candidates, batch.query_groups, batch.candidate_groups)
    else:
        told = (batch.candidates, None, batch.candidate_groups)
    a = evaluate(which, *told, **{**options, "negatives": first})
    b = evaluate(which, *told, **{**options, "negatives": second})
    # Softplus is linear from 20 on, in value and slope 2e-9 away from the logarithm.
    assert_same(a, b, rtol=1e-8, atol=1e-8)


ONE_EACH = list({(w.name, w.positives): w for w in FIXED}.values())
TAKE_ALL = [w for w in FIXED if isinstance(w.negatives, TopK) or w in ONE_EACH]
TAKE_ALL = [w for w in TAKE_ALL if w.about.takes_all]


@pytest.mark.parametrize("which", ONE_EACH, ids=str)
@given(batch=batches(), backend=BACKENDS)
def test_the_first_is_the_hardest(which: Case, batch: Batch, backend: object) -> None:
    assert_strategies_agree(which, TopK(1), Hardest(), batch, backend=backend)
    assert_strategies_agree(which, RankWindow(0, 1), Hardest(), batch, backend=backend)


@pytest.mark.parametrize("which", ONE_EACH, ids=str)
@given(batch=batches(), backend=BACKENDS, k=st.integers(1, 4))
def test_a_window_from_rank_0_is_the_top(
    which: Case, batch: Batch, backend: object, k: int
) -> None:
    assert_strategies_agree(which, RankWindow(0, k), TopK(k), batch, backend=backend)


@pytest.mark.parametrize("which", TAKE_ALL, ids=str)
@given(batch=batches(), backend=BACKENDS)
def test_the_top_of_everything_is_all(which: Case, batch: Batch, backend: object) -> None:
    more = TopK(len(batch.candidates) + 2)
    for reduction in ("mean", "sum", "mean_active"):
        options = {"backend": backend, "reduction": reduction}
        assert_strategies_agree(which, more, All(), batch, **options)


@given(batch=batches(), backend=BACKENDS)
def test_selective_hardest_between_its_ends(batch: Batch, backend: object) -> None:
    never = case("contrastive", "paired")
    assert_strategies_agree(never, SelectiveHardest(0.0), Hardest(), batch, backend=backend)
    told = {"backend": backend, "negatives": SelectiveHardest(1e9), "reduction": "none"}
    rows, _ = contrastive_loss(batch.queries, batch.candidates, **told)
    every = {**told, "negatives": All()}
    sums, _ = contrastive_loss(batch.queries, batch.candidates, **every)
    torch.testing.assert_close(rows, sums / (len(batch.candidates) - 1), **TIGHT)


@given(step=st.integers(0, 20), steps=st.integers(0, 20))
def test_warm_up(step: int, steps: int) -> None:
    before, after = All(), TopK(3)
    assert Warmup(before, after, steps)(step) == (before if step < steps else after)


# Tiles


@fixed
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 7),
    columns=st.integers(1, 9),
    similarity=st.sampled_from(["dot", "squared_euclidean", "euclidean", "order"]),
)
def test_the_tile_does_not_matter(
    which: Case, seed: int, rows: int, columns: int, similarity: str
) -> None:
    if not which.takes(similarity):
        similarity = "squared_euclidean"
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator}
    x = torch.randint(-2, 3, (9, 3), **draw).float()
    y = torch.randint(-2, 3, (11, 3), **draw).float()
    groups = torch.randint(0, 4, (11,), **draw)
    told = (x, y, groups[:9], groups)
    expected = evaluate(which, *told, backend=Tiled((64, 64)), similarity=similarity)
    found = evaluate(which, *told, backend=Tiled((rows, columns)), similarity=similarity)
    assert_same(found, expected, rtol=2e-5, atol=2e-5)


# Further negatives


@paired
@given(batch=batches(), backend=BACKENDS)
def test_far_away_candidates_change_nothing(which: Case, batch: Batch, backend: object) -> None:
    n = len(batch.queries)
    candidates = batch.candidates[:n]
    far = torch.cat([candidates, candidates.new_full((n + 1, candidates.shape[1]), 1e4)])
    options = {"backend": backend, "similarity": "euclidean"}
    picked = dict(which.options)["negatives"]
    if picked == "selective_hardest":
        options["negatives"] = Hardest()  # Its mean is over all negatives, far ones too.
    if picked == "semihard" or isinstance(picked, SemiHard):
        options["negatives"] = Hardest()  # Far ones are the semi-hard ones where there was none.
    expected = evaluate(which, batch.queries, candidates, **options)
    found = evaluate(which, batch.queries, far, **options)
    torch.testing.assert_close(found[0], expected[0], **TIGHT)
    torch.testing.assert_close(found[1][0], expected[1][0], **TIGHT)
    torch.testing.assert_close(found[1][1][:n], expected[1][1], **TIGHT)
    assert (found[1][1][n:] == 0).all()


# Directions


@paired
@pytest.mark.parametrize("similarity", [*SYMMETRIC, "order"])
@given(batch=batches(), backend=BACKENDS)
def test_the_directions_swap_with_the_inputs(
    which: Case, similarity: str, batch: Batch, backend: object
) -> None:
    n = len(batch.queries)
    x, y = batch.queries, batch.candidates[:n]
    a, b = batch.query_groups, batch.candidate_groups[:n]
    other = Order("queries") if similarity == "order" else similarity
    for first, second in (("queries", "candidates"), ("both", "both")):
        options = {"backend": backend, "reduction": "mean"}
        one = evaluate(which, x, y, a, b, directions=first, similarity=similarity, **options)
        two = evaluate(which, y, x, b, a, directions=second, similarity=other, **options)
        assert_same(two, (one[0], one[1][::-1]), rtol=1e-8, atol=1e-9)


@labelled
@given(batch=batches(), backend=BACKENDS)
def test_the_directions_of_a_reference(which: Case, batch: Batch, backend: object) -> None:
    x, y, a, b = batch.queries, batch.candidates, batch.query_groups, batch.candidate_groups
    options = {"backend": backend}
    one = evaluate(which, x, y, a, b, directions="candidates", **options)
    two = evaluate(which, y, x, b, a, directions="queries", **options)
    assert_same(one, (two[0], two[1][::-1]), **TIGHT)


@given(batch=batches(), backend=BACKENDS)
def test_both_directions_are_added_or_averaged(batch: Batch, backend: object) -> None:
    told = (batch.queries, batch.candidates)
    for loss, share in ((contrastive_loss, 1), (unified_pair_loss, 1), (info_nce_loss, 2)):
        parts = [
            loss(*told, directions=direction, backend=backend)
            for direction in ("queries", "candidates")
        ]
        both = loss(*told, directions="both", backend=backend)
        torch.testing.assert_close(both, (parts[0] + parts[1]) / share, **TIGHT)


# Invariances of the similarities


@fixed
@given(batch=batches(), backend=BACKENDS, power=st.integers(-8, 8))
def test_cosine_does_not_see_lengths(
    which: Case, batch: Batch, backend: object, power: int
) -> None:
    if not which.takes("cosine"):
        return
    lengths = torch.rand(len(batch.queries), 1, generator=batch.generator).double() + 0.5
    options = {"similarity": "cosine", "backend": backend}
    told = (batch.candidates, batch.query_groups, batch.candidate_groups)
    expected = evaluate(which, batch.queries, *told, **options)
    longer = lengths * 2.0**power
    found = evaluate(which, batch.queries * longer, *told, **options)
    moved = [expected[1][0] / longer, expected[1][1]]
    assert_same(found, (expected[0], moved), rtol=1e-7, atol=1e-8)


@fixed
@pytest.mark.parametrize("similarity", ["euclidean", "squared_euclidean", "order"])
@given(batch=batches(), backend=BACKENDS)
def test_distances_do_not_see_shifts(
    which: Case, similarity: str, batch: Batch, backend: object
) -> None:
    if not which.takes(similarity):
        return
    shift = torch.randn(batch.queries.shape[1], generator=batch.generator, dtype=torch.float64)
    options = {"similarity": similarity, "backend": backend}
    groups = (batch.query_groups, batch.candidate_groups)
    expected = evaluate(which, batch.queries, batch.candidates, *groups, **options)
    moved = (batch.queries + shift, batch.candidates + shift)
    assert_same(evaluate(which, *moved, *groups, **options), expected, rtol=1e-6, atol=1e-6)


@given(batch=batches(), backend=BACKENDS)
def test_a_distance_scales_with_its_margin(batch: Batch, backend: object) -> None:
    told = (batch.queries, batch.candidates)
    options = {"negatives": "all", "similarity": "euclidean", "backend": backend}
    one = contrastive_loss(*told, margin=0.5, **options)
    three = contrastive_loss(*(3 * x for x in told), margin=1.5, **options)
    torch.testing.assert_close(three, 3 * one, **TIGHT)


# Ids, masks and the diagonal


@fixed
@given(batch=batches(), backend=BACKENDS)
def test_the_values_of_ids_do_not_matter(which: Case, batch: Batch, backend: object) -> None:
    a, b = batch.query_groups, batch.candidate_groups
    told = (batch.queries, batch.candidates)
    expected = evaluate(which, *told, a, b, backend=backend)
    names = torch.tensor([-1, 0, 2**62, -(2**63)])[shuffled(4, batch.generator)]
    assert_same(evaluate(which, *told, names[a], names[b], backend=backend), expected, **TIGHT)
    small = (a.to(torch.int32), b.to(torch.int32))
    assert_same(evaluate(which, *told, *small, backend=backend), expected, **TIGHT)


@fixed
@given(batch=batches(), backend=BACKENDS)
def test_ids_are_the_mask_of_equal_ids(which: Case, batch: Batch, backend: object) -> None:
    a, b = batch.query_groups, batch.candidate_groups
    equal = a[:, None] == b[None]
    told = (batch.queries, batch.candidates)
    expected = evaluate(which, *told, a, b, backend=backend)
    found = evaluate(which, *told, positive_mask=equal, backend=backend)
    assert_same(found, expected, **TIGHT)


@pytest.mark.parametrize("loss", [info_nce_loss, sigmoid_loss])
@given(batch=batches(), backend=BACKENDS)
def test_the_mask_of_all_positives(loss: Any, batch: Batch, backend: object) -> None:
    a, b = batch.query_groups, batch.candidate_groups
    told = (batch.queries, batch.candidates)
    options = {"positives": "all", "backend": backend}
    expected = loss(*told, query_ids=a, candidate_ids=b, **options)
    found = loss(*told, positive_mask=a[:, None] == b[None], **options)
    torch.testing.assert_close(found, expected, **TIGHT)


@labelled
@given(batch=batches(), backend=BACKENDS)
def test_one_set_is_two_sets_without_the_diagonal(
    which: Case, batch: Batch, backend: object
) -> None:
    x, labels = batch.candidates, batch.candidate_groups
    expected = evaluate(which, x, None, labels, backend=backend)
    together = (expected[0], expected[1])
    told = (x, x.clone(), labels, labels.clone())
    diagonal = torch.eye(len(x), dtype=torch.bool)
    for options in ({"same_set": True}, {"ignore_mask": diagonal}):
        value, (first, second) = evaluate(which, *told, backend=backend, **options)
        assert_same((value, [first + second]), together, **TIGHT)


# Reductions


@fixed
@given(batch=batches(), backend=BACKENDS, alone=st.booleans())
def test_the_mean_is_the_sum_over_the_valid(
    which: Case, batch: Batch, backend: object, alone: bool
) -> None:
    if which.means_by_kind:
        return
    a, b = batch.query_groups.clone(), batch.candidate_groups.clone()
    if alone:
        a[0], b[0] = 99, 99
    told = (batch.queries, batch.candidates, a, b)
    options = {"directions": "queries", "backend": backend}
    mean, total = (which(*told, reduction=r, **options) for r in ("mean", "sum"))
    terms, none = which(*told, reduction="none", **options)
    assert none.numel() == 0
    torch.testing.assert_close(terms.sum(), total, **TIGHT)
    equal = a[:, None] == b[None]
    negatives, positives = (~equal).sum(1), equal.sum(1)
    if which.kind == "paired":
        own = torch.eye(*equal.shape, dtype=torch.bool)
        negatives, positives = (~(equal | own)).sum(1), torch.ones_like(negatives)
    picked = dict(which.options).get("negatives")
    if "SemiHard" in str(picked):
        return  # Its valid anchors depend on the scores.
    if isinstance(picked, RankWindow):
        negatives = negatives - picked.start
    valid = (negatives > 0) & (positives > 0)
    every_pair = which.name == "nt_xent" or dict(which.options).get("positives") == "all"
    count = positives[valid].sum() if every_pair else valid.sum()
    if which.own_pair_is_a_term:
        count = torch.tensor(len(a))
    torch.testing.assert_close(mean, total / count.clamp(min=1), **TIGHT)


@given(batch=batches(), backend=BACKENDS, data=st.data())
def test_ignoring_a_pair_takes_out_its_contribution(
    batch: Batch, backend: object, data: Any
) -> None:
    n, m = len(batch.queries), len(batch.candidates)
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, m - 1))
    if i == j:
        j = (j + 1) % m
    ignore = torch.zeros(n, m, dtype=torch.bool)
    ignore[i, j] = True
    q = torch.nn.functional.normalize(batch.queries)
    c = torch.nn.functional.normalize(batch.candidates)
    s = q @ c.T
    told = (batch.queries, batch.candidates)
    options = {"negatives": "all", "reduction": "sum", "backend": backend}
    whole = contrastive_loss(*told, margin=0.4, **options)
    found = contrastive_loss(*told, margin=0.4, ignore_mask=ignore, **options)
    share = (0.4 - s[i, i] + s[i, j]).relu()
    if j < n:
        share = share + (0.4 - s[j, j] + s[i, j]).relu()
    torch.testing.assert_close(whole - found, share, rtol=1e-7, atol=1e-9)
    whole = sigmoid_loss(*told, bias=-1.0, **options)
    found = sigmoid_loss(*told, bias=-1.0, ignore_mask=ignore, **options)
    share = torch.nn.functional.softplus(10 * s[i, j] - 1)
    torch.testing.assert_close(whole - found, share, rtol=1e-7, atol=1e-9)
    a, b = batch.query_groups, batch.candidate_groups
    labels = (batch.queries, a, batch.candidates, b)
    options = {"positives": "all", "margin": 0.4, **options}
    gone = triplet_loss(*labels, **options) - triplet_loss(*labels, ignore_mask=ignore, **options)
    kin, others = (a[i] == b).nonzero()[:, 0], (a[i] != b).nonzero()[:, 0]
    x = 0.4 - s[i, kin][:, None] + s[i, others][None]
    here = kin == j if a[i] == b[j] else others == j
    expected = x[here] if a[i] == b[j] else x[:, here]
    torch.testing.assert_close(gone, expected.relu().sum(), rtol=1e-7, atol=1e-9)


@given(batch=batches(), backend=BACKENDS)
def test_further_candidates_are_negatives_of_the_queries_only(
    batch: Batch, backend: object
) -> None:
    n, m = len(batch.queries), len(batch.candidates)
    q = torch.nn.functional.normalize(batch.queries)
    c = torch.nn.functional.normalize(batch.candidates)
    s, p = q @ c.T, (q * c[:n]).sum(1)
    away = ~torch.eye(n, m, dtype=torch.bool)
    options = {"negatives": "all", "reduction": "none", "margin": 0.4, "backend": backend}
    rows, columns = contrastive_loss(batch.queries, batch.candidates, **options)
    assert rows.shape == columns.shape == (n,)
    torch.testing.assert_close(rows, ((0.4 - p[:, None] + s).relu() * away).sum(1), **TIGHT)
    x = (0.4 - p[None] + s[:, :n]).relu() * away[:, :n]
    torch.testing.assert_close(columns, x.sum(0), **TIGHT)


@given(batch=batches(), backend=BACKENDS)
def test_nt_xent_is_info_nce_over_all_positives(batch: Batch, backend: object) -> None:
    a, b = batch.query_groups, batch.candidate_groups
    expected = nt_xent_loss(batch.queries, a, batch.candidates, b, backend=backend)
    options = {"positives": "all", "directions": "queries", "backend": backend}
    found = info_nce_loss(batch.queries, batch.candidates, query_ids=a, candidate_ids=b, **options)
    torch.testing.assert_close(found, expected, **TIGHT)
