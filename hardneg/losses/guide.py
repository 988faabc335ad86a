"""A guide as a user passes it: embeddings of another model, checked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from hardneg.checks import check_embeddings, check_type
from hardneg.negatives import Ceiling

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["GuideChoice", "check_guide"]


class GuideChoice(NamedTuple):
    """Embeddings of another model, and the bound that their scores set over each positive's."""

    embeddings: tuple[Float[Tensor, "n g"], Float[Tensor, "m g"]]
    ceiling: Ceiling


def check_guide(
    guide: Any, ceiling: Any, queries: Tensor, candidates: Tensor
) -> GuideChoice | None:
    """The other model's embeddings of both sides; None where there are none.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.
    """
    check_type("guide_ceiling", ceiling, Ceiling, type(None))
    if guide is None:
        if ceiling is not None:
            raise ValueError("guide_ceiling is given without guide: pass both, or neither")
        return None
    expected = (
        "expected (guide_queries, guide_candidates), another model's embeddings of both sides"
    )
    if not isinstance(guide, tuple | list) or len(guide) != 2:
        raise TypeError(f"guide is a {type(guide).__name__}: {expected}")
    sides = ("guide_queries", guide[0], queries), ("guide_candidates", guide[1], candidates)
    for name, x, own in sides:
        check_embeddings(name, x)
        if x.shape[0] != own.shape[0]:
            raise ValueError(
                f"{name} has {x.shape[0]} rows: expected {own.shape[0]}, one an embedding"
            )
        if x.device != own.device:
            raise ValueError(
                f"{name} is on {x.device}: expected {own.device}, where the embeddings are"
            )
    if guide[0].shape[1] != guide[1].shape[1]:
        raise ValueError(
            f"guide_queries are {tuple(guide[0].shape)} but guide_candidates {tuple(guide[1].shape)}: {expected}"
        )
    return GuideChoice((guide[0], guide[1]), Ceiling() if ceiling is None else ceiling)
