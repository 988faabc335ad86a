"""Forms of a call in the test matrix: given scores, own negatives, a guide. What each changes, by its definition.

Own negatives are further columns of the score matrix that are negatives of one row alone; what a guide leaves out
are negatives no more. Both are of the queries as anchors here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import oracle
import torch
from torch import Tensor

from hardneg import Ceiling, Cosine

PAIR_FORMS = ["call", "scores", "own", "own alone", "guide"]
LABEL_FORMS = ["call", "scores"]
OF_QUERIES = ("own", "own alone", "guide")
K = 3
GUIDE_CEILING = Ceiling(0.95, 0.05)


@dataclass(frozen=True, eq=False)
class Form:
    """One form of a call.

    Attributes:
        own: n x k x d own negatives, float64, exact in bfloat16; None without.
        told: what else the call is told.
        related: who is related under it, from the relation of the plain call.
    """

    told: dict[str, object]
    related: oracle.Related
    own: Tensor | None = field(default=None)


def form_of(name: str, queries: Tensor, related: oracle.Related, ids: object) -> Form:
    """The form of this name; ``ids`` of the queries, where there are any."""
    n, m = related.negative.shape
    g = torch.Generator().manual_seed(n + 100 * m)
    if name == "guide":
        sides = torch.randn(n, 3, generator=g), torch.randn(m, 3, generator=g)
        out = too_close(Cosine()(*sides).double(), related)
        told = {"guide": sides, "guide_ceiling": GUIDE_CEILING}
        return Form(told, replace(related, negative=related.negative & ~out))
    if not name.startswith("own"):
        return Form({}, related)
    own = (0.7 * torch.randn(n, K, queries.shape[1], generator=g)).bfloat16().double()
    own_ids = torch.randint(0, 4, (n, K), generator=g)
    ignore = torch.rand(n, K, generator=g) < 0.2
    ignore[0] = True  # a query without
    kept = ~ignore
    told = {"own_ignore_mask": ignore, "share_negatives": name == "own"}
    if isinstance(ids, Tensor):
        told["own_negative_ids"] = own_ids
        kept = kept & (own_ids != ids[:, None])
    shared = related.negative if name == "own" else torch.zeros_like(related.negative)
    none = torch.zeros(n, n * K, dtype=torch.bool)
    block = none.clone().view(n, n, K)
    block[torch.arange(n), torch.arange(n)] = kept
    negative = torch.cat([shared, block.flatten(1)], dim=1)
    positive = torch.cat([related.positive, none], dim=1)
    return Form(told, oracle.Related(positive, negative, related.paired), own)


def too_close(guide: Tensor, related: oracle.Related) -> Tensor:
    """Which pairs score, by the guide, at or above the bound over the row's positive."""
    n, m = guide.shape
    if related.paired:
        positive = torch.full((n,), torch.inf, dtype=guide.dtype)
        positive[: min(n, m)] = guide.diagonal()
    else:
        positive = torch.where(related.positive, guide, -torch.inf).amax(1)
    bound = torch.where(positive.isfinite(), GUIDE_CEILING(positive), torch.inf)
    out: Tensor = guide >= bound[:, None]
    return out
