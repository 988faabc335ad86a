"""What is measured on a GPU: the cases of the issue, who runs in each, and what each must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from benchmarks import formulas, peers
from benchmarks.case import OURS, PLAIN, PRODUCT, Case, Contender, Target
from benchmarks.cases import METRIC_LEARNING, MM_OUT
from benchmarks.gpu.losses import LOSSES, drawn
from benchmarks.gpu.place import Place

DENSE = "dense backend"
WIDTH = 1024
MANY = 65_536


@dataclass(frozen=True)
class DeviceCase(Case):
    """A case with its number format.

    Args:
        dtype: of the embeddings.
        products: how float32 products are formed.
        loss: whose inputs are drawn, a name of ``LOSSES``.
        longest: seconds that one step may take; None: no target.
        less_memory: so many times less than the plain formula; None: no target.
    """

    dtype: torch.dtype = torch.bfloat16
    products: str = "highest"
    loss: str = "hardest"
    longest: float | None = None
    less_memory: float | None = None

    def on(self, device: str) -> tuple[Tensor, ...]:
        """The inputs."""
        n, _, d = self.shape
        return drawn(self.loss, (n, d), self.dtype, device)


MM = replace(MM_OUT, name=PRODUCT)
"""Into memory that is there already, as on a GPU torch's cache of freed memory has it anyway."""


def fused(place: Place, name: str) -> Contender:
    """Ours."""
    return Contender(OURS, lambda: LOSSES[name](place.backend))


def plain(formula: Callable[..., Tensor]) -> tuple[Contender, Contender]:
    """The formula as written, and compiled."""

    def compiled() -> Callable[..., Tensor]:
        torch._dynamo.reset()
        return torch.compile(formula)

    return (
        Contender(PLAIN, lambda: formula),
        Contender(f"{PLAIN}, torch.compile", compiled),
    )


def order_in_blocks(queries: Tensor, candidates: Tensor) -> Tensor:
    """The hardest under the order score, 16 rows of the n x m x d differences at a time, recomputed in backward."""
    parts = [
        checkpoint(formulas.order, block, candidates, use_reentrant=False)
        for block in queries.split(16)
    ]
    of_queries, of_candidates = formulas.costs(torch.cat(parts))
    return of_queries.max(1)[0].mean() + of_candidates.max(0)[0].mean()


def big_cases(place: Place) -> list[DeviceCase]:
    """Where the matrix is what costs."""
    square, tiny = (MANY, MANY, WIDTH), (40, 40, 16)
    metric_learning = Contender(METRIC_LEARNING, peers.metric_learning_hardest)
    softmax = (
        Contender("open_clip ClipLoss", peers.open_clip),
        Contender("F.linear_cross_entropy, chunked", peers.linear_cross_entropy),
        Contender("Inf-CL", peers.inf_cl, same_value=False),
    )
    line_up = partial(fused, place)
    hardest = (line_up("hardest"), MM, *plain(formulas.hardest), metric_learning)
    every = (line_up("all (hinge)"), MM, *plain(formulas.every))
    info_nce = (line_up("InfoNCE"), MM, *plain(formulas.info_nce), *softmax)
    return [
        DeviceCase("hardest", square, tiny, hardest, (Target(PRODUCT, 1.6),), 256.0),
        DeviceCase("all (hinge)", square, tiny, every, (Target(PRODUCT, 1.5, times=3),), None),
        DeviceCase(
            "InfoNCE",
            square,
            tiny,
            info_nce,
            (Target(PRODUCT, 1.5, times=4), Target("Inf-CL", 1.0)),
            None,
            loss="InfoNCE",
        ),
        DeviceCase(
            "hardest, a million",
            (2**20, 2**20, 256),
            tiny,
            (line_up("hardest"),),
            (),
            None,
            total_mib=4096.0,
            longest=3.0,
            once=True,
        ),
        *(
            DeviceCase(
                f"hardest, float32 {products}",
                (16_384, 16_384, WIDTH),
                tiny,
                (line_up("hardest"), MM, *plain(formulas.hardest)),
                (Target(PLAIN, 1 / 3),),
                None,
                dtype=torch.float32,
                products=products,
            )
            for products in ("highest", "high")
        ),
    ]


def order_cases(place: Place) -> list[DeviceCase]:
    """Order embeddings: the whole n x m x d fits at 1,024; at 16,384 it is 1 TiB, so rows go in blocks."""
    ours = fused(place, "order, hardest")
    told = {"dtype": torch.float32, "loss": "order, hardest"}
    in_blocks = Contender(f"{PLAIN}, in blocks", lambda: order_in_blocks)
    return [
        DeviceCase(
            "order, 1,024",
            (1024, 1024, WIDTH),
            (40, 40, 16),
            (ours, *plain(formulas.order_hardest)),
            (Target(PLAIN, 1 / 3),),
            None,
            less_memory=20.0,
            **told,
        ),
        DeviceCase(
            "order, 16,384",
            (16_384, 16_384, WIDTH),
            (40, 40, 16),
            (ours, in_blocks),
            (Target(f"{PLAIN}, in blocks", 1 / 3),),
            None,
            **told,
        ),
    ]


FORMULAS = {
    "hardest": formulas.hardest,
    "8 hardest": formulas.nearest,
    "semi-hard": formulas.semi_hard,
    "all (hinge)": formulas.every,
    "InfoNCE": formulas.info_nce,
    "order, hardest": formulas.order_hardest,
    "order, all": formulas.order_every,
}


def small_cases(place: Place) -> list[DeviceCase]:
    """Launch-bound: every loss at 1,024 x 512, beside its plain formula or, without one, the dense definition."""
    found = []
    for name in LOSSES:
        rivals = (Contender(DENSE, partial(LOSSES[name], "dense")),)
        if name in FORMULAS:
            rivals = plain(FORMULAS[name])
        found.append(
            DeviceCase(
                f"1,024 x 512, {name}",
                (1024, 1024, 512),
                (40, 40, 16),
                (fused(place, name), *rivals),
                (Target(rivals[0].name, 1.0),),
                None,
                dtype=torch.float32,
                loss=name,
            )
        )
    return found


def growing_cases(place: Place) -> list[DeviceCase]:
    """Time and memory against n, for the plot."""
    return [
        DeviceCase(
            f"n = {n:,}",
            (n, n, WIDTH),
            (40, 40, 16),
            (fused(place, "hardest"), MM, plain(formulas.hardest)[0]),
            (),
            None,
        )
        for n in (1024, 4096, 16_384, 32_768, 131_072)
    ]


def cases(place: Place) -> list[DeviceCase]:
    """All, the issue's table first."""
    return [*big_cases(place), *order_cases(place), *small_cases(place), *growing_cases(place)]
