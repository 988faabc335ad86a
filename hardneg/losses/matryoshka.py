"""``Matryoshka``: a loss of embeddings whose first coordinates are embeddings themselves."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hardneg.checks import check_count, check_number, check_type

__all__ = ["Matryoshka"]

SIDES = ("queries", "candidates", "own_negatives", "embeddings", "reference")
"""Arguments of the losses that are cut."""


class Matryoshka(nn.Module):
    """Weighted sum of a loss over prefixes of the embeddings, so that an index may keep the first coordinates alone.

    Dense equivalent for a loss on pairs::

        value = sum(w * loss(queries[:, :d], candidates[:, :d]) for d, w in zip(dims, weights))

    Cosine normalises every prefix by itself. Queries, candidates, own negatives, embeddings and references are cut;
    all other arguments (ids, masks, strategies) go to every width. A random strategy draws for each width.

    Args:
        loss: any loss of this library, or ``AcrossRanks`` around one. Its parameters (a temperature) are shared by
            all widths.
        dims: the widths; name the full one too where it is to be trained.
        weights: one number a width, at least 0; None: 1 each.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022, equation 1.

    Example:
        >>> loss = Matryoshka(InfoNCELoss(0.05), dims=(64, 16, 4), weights=(1.0, 0.5, 0.25))
        >>> value = loss(torch.randn(8, 64), torch.randn(8, 64))
    """

    def __init__(
        self, loss: nn.Module, dims: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        check_type("loss", loss, nn.Module)
        names = inspect.signature(getattr(loss, "loss", loss).forward).parameters
        if not set(names) & set(SIDES):
            raise TypeError(f"loss is {loss!r}: expected a loss of this library")
        self.loss = loss
        self.dims = tuple(check_count("a width among dims", dim) for dim in dims)
        if not self.dims or len(set(self.dims)) != len(self.dims):
            raise ValueError(f"dims are {self.dims}: expected one width or more, each once")
        given = [1.0] * len(self.dims) if weights is None else weights
        self.weights = tuple(check_number("a weight", weight, at_least=0) for weight in given)
        if len(self.weights) != len(self.dims):
            raise ValueError(
                f"dims are {self.dims} but weights {self.weights}: expected one weight a width"
            )

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Compute the loss; the arguments are those of the loss itself.

        Returns:
            What the loss returns, summed over the widths; with ``return_stats`` beside the statistics of the
            largest one.
        """
        largest, total, stats = max(self.dims), None, None
        for dim, weight in zip(self.dims, self.weights, strict=True):
            cut = [first_coordinates("embeddings", x, dim) for x in arguments]
            named = {
                name: first_coordinates(name, x, dim) if name in SIDES else x
                for name, x in options.items()
            }
            found = self.loss(*cut, **named)
            if options.get("return_stats"):
                found, of_dim = found
                stats = of_dim if dim == largest else stats
            total = weighted_sum(total, found, weight)
        return total if stats is None else (total, stats)

    def extra_repr(self) -> str:
        """The choices."""
        return f"dims={self.dims}, weights={self.weights}"


def first_coordinates(argument: str, x: Any, dim: int) -> Any:
    """The first coordinates of embeddings; anything else as it is.

    Raises:
        ValueError: for embeddings that are narrower.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        return x
    if x.shape[-1] < dim:
        raise ValueError(
            f"{argument} have shape {tuple(x.shape)}: expected at least {dim} coordinates, the largest of dims"
        )
    return x[..., :dim]


def weighted_sum(total: Any, found: Any, weight: float) -> Any:
    """What was found for one width, weighted, added to the total: a loss, or the terms of both directions."""
    if isinstance(found, tuple):
        before = (None, None) if total is None else total
        return tuple(weighted_sum(a, b, weight) for a, b in zip(before, found, strict=True))
    weighted = found * weight
    return weighted if total is None else total + weighted
