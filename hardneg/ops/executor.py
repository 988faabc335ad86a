"""Who carries a reduction out: the dense definitions or the tiled operators, behind one face.

A third executor, of fused GPU kernels, takes its place here; so does one that runs another on every
rank and combines the column results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardneg import energies
from hardneg.ceilings import Ceiling
from hardneg.checks import check_choice
from hardneg.energies import Energy
from hardneg.ops import operators, reference
from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.tiled import logsumexp as tiled_logsumexp
from hardneg.ops.tiled import pair_scores as tiled_pairs
from hardneg.ops.tiled import penalty_sum as tiled_penalty
from hardneg.ops.tiled import positives_penalty as tiled_positives
from hardneg.ops.tiled import select as tiled_select
from hardneg.ops.tiled import select_per_pair as tiled_per_pair
from hardneg.penalties import Penalty
from hardneg.selection import Selection
from hardneg.similarities import is_closed

__all__ = ["Dense", "Executor", "Sums", "Tiled", "resolve_backend"]

OPERATORS = torch.ops.hardneg
BACKENDS = ("auto", "dense", "tiled", "triton")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of a penalty and counts of its terms above 0, by queries and by candidates.

    A side that was not asked for is empty.
    """

    rows: Float[Tensor, "n"]
    columns: Float[Tensor, "m"]
    row_counts: Int[Tensor, "n"]
    column_counts: Int[Tensor, "m"]


class Executor(Protocol):
    """The reductions and the gather. ``reference`` says what each returns."""

    def select(
        self,
        comparison: Comparison,
        selection: Selection,
        among: Among = "negatives",
        window: Window = Window(),
        seed: Tensor | None = None,
        rows: bool = True,
        columns: bool = True,
    ) -> tuple[Int[Tensor, "n k"], Int[Tensor, "m k"]]:
        """Indices of the k first admitted candidates of every query, and queries of every candidate."""

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Int[Tensor, "t"],
        ceilings: Float[Tensor, "t"],
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Int[Tensor, "t k"]:
        """The same of the queries ``anchors`` (rising), each under its own ceiling."""

    def pair_scores(
        self, comparison: Comparison, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """Scores of listed pairs, differentiable; 0 where an index is -1."""

    def penalty_sum(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
        window: Window = Window(),
    ) -> Sums:
        """Sums of phi(sign * (scale * score - threshold)) over each anchor's admitted candidates."""

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
    ) -> tuple[Float[Tensor, ""], Int[Tensor, "n"], Int[Tensor, "m"]]:
        """``row_weights @ rows + column_weights @ columns`` of ``penalty_sum``, and the counts."""

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> tuple[Float[Tensor, "..."], Int[Tensor, "n"]]:
        """Batch-all: sums over all negatives under every positive as threshold, and counts.

        The sum over all anchors with ``total``, one sum a pair with ``per_pair``, else one an anchor.
        """

    def logsumexp(
        self,
        comparison: Comparison,
        energy: Energy,
        *,
        among: Among = "negatives",
        scale: Tensor | None = None,
        window: Window = Window(),
        rows: bool = True,
        columns: bool = True,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
        """Log of the sum over each anchor's admitted candidates of exp(scale * energy(score))."""


class Dense:
    """The definitions, by plain autograd over the whole matrix: for small inputs, tests and second derivatives."""

    select = staticmethod(reference.select)
    select_per_pair = staticmethod(reference.select_per_pair)
    pair_scores = staticmethod(reference.pair_scores)
    logsumexp = staticmethod(reference.logsumexp)

    def penalty_sum(self, *args: Any, **options: Any) -> Sums:
        """See ``Executor``."""
        return Sums(*reference.penalty_sum(*args, **options))

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        **options: Any,
    ) -> tuple[Float[Tensor, ""], Int[Tensor, "n"], Int[Tensor, "m"]]:
        """See ``Executor``."""
        sums = self.penalty_sum(
            comparison, penalty, row_thresholds, column_thresholds, **options
        )
        return weighted_total(sums, row_weights, column_weights)

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> tuple[Float[Tensor, "..."], Int[Tensor, "n"]]:
        """See ``Executor``."""
        sums, counts = reference.positives_penalty(
            comparison, penalty, margin, ceiling, per_pair
        )
        return sums.sum() if total else sums, counts


def weighted_total(
    sums: Sums, row_weights: Tensor | None, column_weights: Tensor | None
) -> tuple[Float[Tensor, ""], Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The total of sums with their weights."""
    parts = [
        (of_side * weights).sum()
        for of_side, weights in ((sums.rows, row_weights), (sums.columns, column_weights))
        if weights is not None
    ]
    return torch.stack(parts).sum(), sums.row_counts, sums.column_counts


class Recomputed(torch.autograd.Function):
    """A tiled reduction over a similarity that no operator knows: the same code outside the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., tuple[Tensor, ...]],
        differentiate: Callable[..., tuple[Tensor | None, ...]],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """``run(*tensors)``."""
        outputs = run(*tensors)
        ctx.mark_non_differentiable(*(x for x in outputs if not x.is_floating_point()))
        ctx.save_for_backward(*tensors, *outputs)
        ctx.differentiate, ctx.inputs = differentiate, len(tensors)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """``differentiate(tensors, outputs, upstream)``, one gradient for each tensor."""
        saved = ctx.saved_tensors
        tensors, outputs = saved[: ctx.inputs], saved[ctx.inputs :]
        return None, None, *ctx.differentiate(tensors, outputs, upstream)


@dataclass(frozen=True)
class Tiled:
    """Recomputed tiles on any device: memory O((n + m) d + tile).

    Attributes:
        tile: rows and columns of a tile; None for the device's default.
    """

    tile: tuple[int, int] | None = None

    def described(self, comparison: Comparison) -> tuple[Any, ...]:
        """A comparison as the operators take it."""
        relation, similarity = comparison.relation, comparison.similarity
        return (
            comparison.queries,
            comparison.candidates,
            relation.row_ids,
            relation.column_ids,
            relation.positives,
            relation.ignore,
            relation.paired,
            relation.same_set,
            relation.row_offset,
            relation.column_offset,
            similarity.code,
            list(self.tile or ()),
        )

    def select(
        self,
        comparison: Comparison,
        selection: Selection,
        among: Among = "negatives",
        window: Window = Window(),
        seed: Tensor | None = None,
        rows: bool = True,
        columns: bool = True,
    ) -> tuple[Int[Tensor, "n k"], Int[Tensor, "m k"]]:
        """See ``Executor``."""
        if not is_closed(comparison.similarity):
            options = (window, seed, rows, columns, self.tile)
            with torch.no_grad():
                return tiled_select.select(comparison, selection, among, *options)
        return OPERATORS.select(
            *self.described(comparison),
            *bounds(window),
            seed,
            among,
            *spelled(selection),
            rows,
            columns,
        )

    def select_per_pair(
        self,
        comparison: Comparison,
        anchors: Int[Tensor, "t"],
        ceilings: Float[Tensor, "t"],
        selection: Selection,
        seed: Tensor | None = None,
    ) -> Int[Tensor, "t k"]:
        """See ``Executor``."""
        ceilings = ceilings.detach()
        if not is_closed(comparison.similarity):
            with torch.no_grad():
                return tiled_per_pair.select_per_pair(
                    comparison, anchors, ceilings, selection, seed
                )
        described = self.described(comparison)
        return OPERATORS.select_per_pair(
            *described, anchors, ceilings, seed, *spelled(selection)
        )

    def pair_scores(
        self, comparison: Comparison, rows: Int[Tensor, "..."], columns: Int[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """See ``Executor``."""
        similarity, shape = comparison.similarity, rows.shape
        pairs = rows.reshape(-1), columns.reshape(-1)
        inputs = comparison.queries, comparison.candidates
        if is_closed(similarity):
            return OPERATORS.pair_scores(*inputs, *pairs, similarity.code).view(shape)

        def run(q: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            return (tiled_pairs.pair_scores(similarity, q, c, *pairs),)

        def differentiate(tensors: Any, outputs: Any, upstream: Any) -> Any:
            return tiled_pairs.pair_scores_backward(similarity, *tensors, *pairs, upstream[0])

        return Recomputed.apply(run, differentiate, *inputs)[0].view(shape)

    def penalty_sum(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
        window: Window = Window(),
    ) -> Sums:
        """See ``Executor``."""
        tensors = (row_thresholds, column_thresholds, scale)
        if is_closed(comparison.similarity):
            found = OPERATORS.penalty_sum(
                *self.described(comparison),
                *bounds(window),
                *tensors,
                among,
                penalty.code,
                sign,
            )
            return Sums(*found)

        def sums(q: Tensor, c: Tensor, *rest: Any, **weights: Any) -> Any:
            rows, columns, factor = rest
            compared = Comparison(q, c, comparison.similarity, comparison.relation)
            return tiled_penalty.penalty_pass(
                compared,
                penalty,
                rows,
                columns,
                among,
                sign,
                factor,
                window,
                tile=self.tile,
                **weights,
            )

        def run(*given: Any) -> tuple[Tensor, ...]:
            found, _ = sums(*given)
            return found.rows, found.columns, found.row_counts, found.column_counts

        def differentiate(given: Any, outputs: Any, upstream: Any) -> Any:
            rows, columns, factor = given[2:]
            weights = {
                "row_weights": None if rows is None else upstream[0],
                "column_weights": None if columns is None else upstream[1],
            }
            _, found = sums(*given, **weights)
            return (
                found.queries,
                found.candidates,
                None if rows is None else found.row_thresholds,
                None if columns is None else found.column_thresholds,
                None if factor is None else found.scale,
            )

        inputs = (comparison.queries, comparison.candidates, *tensors)
        return Sums(*Recomputed.apply(run, differentiate, *inputs))

    def penalty_total(
        self,
        comparison: Comparison,
        penalty: Penalty,
        row_thresholds: Tensor | None,
        column_thresholds: Tensor | None,
        row_weights: Tensor | None,
        column_weights: Tensor | None,
        *,
        among: Among = "negatives",
        sign: float = 1.0,
        scale: Tensor | None = None,
    ) -> tuple[Float[Tensor, ""], Int[Tensor, "n"], Int[Tensor, "m"]]:
        """See ``Executor``."""
        thresholds = row_thresholds, column_thresholds
        if not is_closed(comparison.similarity) or not torch.is_grad_enabled():
            sums = self.penalty_sum(
                comparison, penalty, *thresholds, among=among, sign=sign, scale=scale
            )
            return weighted_total(sums, row_weights, column_weights)
        found = OPERATORS.penalty_total(
            *self.described(comparison),
            *bounds(Window()),
            *thresholds,
            scale,
            among,
            penalty.code,
            sign,
            row_weights,
            column_weights,
        )
        return found[0], found[1], found[2]

    def positives_penalty(
        self,
        comparison: Comparison,
        penalty: Penalty,
        margin: float,
        ceiling: Ceiling | None = None,
        *,
        total: bool = False,
        per_pair: bool = False,
    ) -> tuple[Float[Tensor, "..."], Int[Tensor, "n"]]:
        """See ``Executor``."""
        if is_closed(comparison.similarity):
            bound = [] if ceiling is None else [ceiling.relative, ceiling.offset]
            described = self.described(comparison)
            plain = (penalty.code, margin, bound, per_pair)
            if total and torch.is_grad_enabled():
                return OPERATORS.positives_penalty_total(*described, *plain)[:2]
            sums, counts = OPERATORS.positives_penalty(*described, *plain)
            return sums.sum() if total else sums, counts

        def terms(q: Tensor, c: Tensor, weights: Tensor | None) -> Any:
            compared = Comparison(q, c, comparison.similarity, comparison.relation)
            options = (penalty, margin, ceiling, per_pair, weights, self.tile)
            return tiled_positives.positives_penalty(compared, *options)

        def run(q: Tensor, c: Tensor) -> tuple[Tensor, ...]:
            found, _ = terms(q, c, None)
            return found.sums, found.counts

        def differentiate(tensors: Any, outputs: Any, upstream: Any) -> Any:
            return terms(*tensors, upstream[0])[1]

        sums, counts = Recomputed.apply(
            run, differentiate, comparison.queries, comparison.candidates
        )
        return sums.sum() if total else sums, counts

    def logsumexp(
        self,
        comparison: Comparison,
        energy: Energy,
        *,
        among: Among = "negatives",
        scale: Tensor | None = None,
        window: Window = Window(),
        rows: bool = True,
        columns: bool = True,
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
        """See ``Executor``."""
        if is_closed(comparison.similarity):
            return OPERATORS.logsumexp(
                *self.described(comparison),
                *bounds(window),
                scale,
                among,
                energy.code,
                energies.parameters(energy),
                rows,
                columns,
            )
        wanted = rows, columns

        def run(q: Tensor, c: Tensor, factor: Tensor | None) -> tuple[Tensor, ...]:
            compared = Comparison(q, c, comparison.similarity, comparison.relation)
            options = (energy, among, factor, window, *wanted, self.tile)
            return tiled_logsumexp.logsumexp(compared, *options)

        def differentiate(given: Any, outputs: Any, upstream: Any) -> Any:
            q, c, factor = given
            compared = Comparison(q, c, comparison.similarity, comparison.relation)
            gradients = tuple(
                g if on else None for g, on in zip(upstream, wanted, strict=True)
            )
            found = tiled_logsumexp.logsumexp_backward(
                compared, energy, among, factor, window, outputs, gradients, self.tile
            )
            return found[0], found[1], None if factor is None else found[2]

        inputs = (comparison.queries, comparison.candidates, scale)
        return Recomputed.apply(run, differentiate, *inputs)


def bounds(window: Window) -> tuple[Tensor | None, ...]:
    """The bounds in the operators' order, detached: a window is not differentiated."""
    four = (window.row_floor, window.row_ceiling, window.column_floor, window.column_ceiling)
    return tuple(None if bound is None else bound.detach() for bound in four)


def spelled(selection: Selection) -> tuple[Any, ...]:
    """A selection in the operators' order."""
    parameters = list(selection.parameters)
    return selection.order, selection.k, selection.skip, parameters, selection.fallback


def resolve_backend(backend: str | Executor) -> Executor:
    """The executor of that name.

    ``"auto"`` is tiled, everywhere: it needs the least memory and, even at a batch of 128, no more
    time than the dense formula.

    Raises:
        ValueError: for an unknown name, or ``"triton"``, whose kernels this version does not have.
    """
    if not isinstance(backend, str):
        return backend
    check_choice("backend", backend, BACKENDS)
    if backend == "triton":
        raise ValueError(
            'backend "triton" is not available: this version of hardneg has no fused kernels yet; use '
            '"auto" or "tiled"'
        )
    return Dense() if backend == "dense" else Tiled()


assert operators
