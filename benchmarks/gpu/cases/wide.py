"""What is measured where time is left: order embeddings, exact float32, growing batches for the plot, other losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmarks import formulas
from benchmarks.case import PLAIN, Contender, Target
from benchmarks.gpu.cases.device_case import FORMULAS, MM, TINY, DeviceCase, fused, plain
from benchmarks.gpu.losses import LOSSES
from benchmarks.gpu.place import Place

WIDTH = 1024
DENSE = "dense backend"


def order_in_blocks(queries: Tensor, candidates: Tensor) -> Tensor:
    """The hardest under the order score, 16 rows of the n x m x d differences at a time, recomputed in backward."""
    parts = [
        checkpoint(formulas.order, block, candidates, use_reentrant=False)
        for block in queries.split(16)
    ]
    of_queries, of_candidates = formulas.costs(torch.cat(parts))
    return of_queries.max(1)[0].mean() + of_candidates.max(0)[0].mean()


def single(place: Place) -> list[DeviceCase]:
    """float32 as torch multiplies it by default, and in three passes of tf32."""
    shape, formula = (16_384, 16_384, WIDTH), plain(place, "hardest")[0]
    contenders, target = (fused(place, "hardest"), MM, formula), Target(PLAIN, 1 / 3)
    return [
        DeviceCase(
            f"hardest, float32 {products}",
            shape,
            TINY,
            contenders,
            (target,),
            None,
            dtype=torch.float32,
            products=products,
        )
        for products in ("highest", "high")
    ]


def order(place: Place) -> list[DeviceCase]:
    """Order embeddings: the whole n x m x d fits at 1,024; at 16,384 it is 1 TiB, so rows go in blocks."""
    ours = fused(place, "order, hardest")
    told: dict[str, Any] = {"dtype": torch.float32, "loss": "order, hardest"}
    blocks = Contender(f"{PLAIN}, in blocks", lambda: order_in_blocks)
    third = Target(PLAIN, 1 / 3)
    whole = (ours, plain(place, "order, hardest")[0])
    large = (16_384, 16_384, WIDTH)
    return [
        DeviceCase(
            "order, 1,024",
            (1024, 1024, WIDTH),
            TINY,
            whole,
            (third,),
            None,
            less_memory=20.0,
            **told,
        ),
        DeviceCase("order, 16,384", large, TINY, (ours, blocks), (), None, once=True, **told),
    ]


def growing(place: Place) -> list[DeviceCase]:
    """Time and memory against n, for the plot."""
    contenders = fused(place, "hardest"), MM, plain(place, "hardest")[0]
    sizes = (1024, 4096, 16_384, 32_768, 131_072)
    return [
        DeviceCase(f"n = {n:,}", (n, n, WIDTH), TINY, contenders, (), None, seconds=0.3)
        for n in sizes
    ]


def others(place: Place) -> list[DeviceCase]:
    """Losses without a formula here, at 1,024 x 512, beside the dense definition."""
    told: dict[str, Any] = {"dtype": torch.float32, "seconds": 0.3}
    return [
        DeviceCase(
            f"1,024 x 512, {name}",
            (1024, 1024, 512),
            TINY,
            (fused(place, name), Contender(DENSE, partial(LOSSES[name], "dense"))),
            (Target(DENSE, 1.0),),
            None,
            loss=name,
            **told,
        )
        for name in LOSSES
        if name not in FORMULAS
    ]


def cases(place: Place) -> list[DeviceCase]:
    """All."""
    return [*growing(place), *single(place), *order(place), *others(place)]
