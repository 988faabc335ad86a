"""Listed rows of a corpus for each query: their check, and leaving them out of a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hardneg.checks import check_layout

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["check_lists", "first_kept"]

COMPARED = 1 << 22
"""How many comparisons with listed rows are held at a time."""


def check_lists(
    argument: str, lists: Any, n: int, m: int, device: torch.device
) -> Int[Tensor, "n e"]:
    """n x e rows of a corpus of m, -1 for none; n of them are n x 1, None is n x 0."""
    if lists is None:
        return torch.empty(n, 0, dtype=torch.long, device=device)
    expected = f"expected ({n},) or ({n}, e) rows of the corpus, -1 for none"
    if not isinstance(lists, Tensor):
        raise TypeError(
            f"{argument} is a {type(lists).__name__}: {expected}; torch.as_tensor({argument})"
        )
    check_layout(argument, lists)
    if lists.dim() not in (1, 2) or lists.shape[0] != n:
        raise ValueError(f"{argument} has shape {tuple(lists.shape)}: {expected}")
    if lists.dtype.is_floating_point or lists.dtype.is_complex or lists.dtype == torch.bool:
        raise TypeError(f"{argument} is {lists.dtype}: {expected}")
    if lists.device != device:
        raise ValueError(
            f"{argument} is on {lists.device}: expected {device}, where the embeddings are"
        )
    found: Tensor = lists.long().reshape(n, -1)
    if found.numel():
        least, most = (int(x) for x in torch.aminmax(found))
        if least < -1 or most >= m:
            wrong = most if most >= m else least
            raise ValueError(f"{argument} names row {wrong} of a corpus of {m}: {expected}")
    return found


def first_kept(
    ranked: Int[Tensor, "n r"], listed: Int[Tensor, "n e"], k: int
) -> Int[Tensor, "n k"]:
    """The first k of each ranking that are not listed; -1 for none."""
    n, width = ranked.shape
    kept = ranked >= 0
    if listed.shape[1]:
        size = max(1, COMPARED // (width * listed.shape[1]))
        for start in range(0, n, size):
            rows = slice(start, start + size)
            found = (ranked[rows, :, None] == listed[rows, None]).any(2)
            kept[rows] &= ~found
    order = (~kept).sort(dim=1, stable=True).indices[:, :k]
    return torch.where(kept.gather(1, order), ranked.gather(1, order), -1)
