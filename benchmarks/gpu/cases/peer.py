"""32,768 rows, the size that everybody's code can hold: ours, the formula, the compiled formula, other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from benchmarks import peers
from benchmarks.case import Contender, Target
from benchmarks.cases import METRIC_LEARNING
from benchmarks.gpu.cases.device_case import MM, MOST_MIB, TINY, DeviceCase, fused, plain
from benchmarks.gpu.place import Place

SHAPE = (32_768, 32_768, 1024)

MEMEFF, INF_CL, SIGLIP_KERNEL = "memeff", "Inf-CL", "siglip-kernel"


def moved(place: Place, make: Callable[[], Callable[..., Tensor]]) -> Callable[[], object]:
    """A loss that is a module, with its parameters where the embeddings are."""

    def ready() -> object:
        loss = make()
        return loss.to(place.device) if hasattr(loss, "to") else loss

    return ready


def cases(place: Place) -> list[DeviceCase]:
    """Softmax, sigmoid, mined."""

    def peer(name: str, make: Callable[[], Callable[..., Tensor]]) -> Contender:
        return Contender(name, moved(place, make), same_value=False)

    softmax = (
        peer(MEMEFF, peers.memeff),
        peer(INF_CL, peers.inf_cl),
        peer("open_clip ClipLoss", peers.open_clip),
        peer("F.linear_cross_entropy, chunked", peers.linear_cross_entropy),
    )
    sigmoid = (
        peer(SIGLIP_KERNEL, peers.siglip_kernel),
        peer("open_clip SigLipLoss", peers.open_clip_sigmoid),
    )
    mined = (peer(METRIC_LEARNING, peers.metric_learning_hardest),)

    def case(loss: str, others: tuple[Contender, ...], *ahead: str) -> DeviceCase:
        formula, fast = plain(place, loss)
        contenders = (fused(place, loss), MM, *others, formula, fast)
        targets = tuple(Target(name, 1.0) for name in ahead)
        name = f"{loss}, n = 32,768"
        return DeviceCase(name, SHAPE, TINY, contenders, targets, MOST_MIB, loss=loss)

    found = [
        case("InfoNCE", softmax, MEMEFF, INF_CL),
        case("sigmoid", sigmoid, SIGLIP_KERNEL),
        case("hardest", mined),
    ]
    return [replace(each, seconds=0.6) for each in found]
