"""From the words of a command line to a strategy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    TopK,
)
from hardneg.negatives import Negatives
from vsepp.errors import InputError
from vsepp.settings import Loss

STRATEGIES: dict[str, Callable[..., Negatives]] = {
    "all": All,
    "hardest": Hardest,
    "semihard": SemiHard,
    "selective": SelectiveHardest,
    "topk": TopK,
    "random": RandomK,
    "window": RankWindow,
    "distance": lambda k=1, **bounds: DistanceWeighted(k=k, **bounds),
}


def strategy_of(settings: Loss) -> Negatives:
    """The strategy that the settings write."""
    name, numbers = settings.written
    whole = [number if name == "selective" else as_count(settings, number) for number in numbers]
    bounds = {"ceiling": Ceiling(settings.ceiling)} if settings.ceiling else {}
    try:
        return STRATEGIES[name](*whole, **bounds)
    except TypeError as error:
        raise InputError(f"--ceiling does not go with --negatives {settings.negatives}") from error
    except ValueError as error:
        raise InputError(f"--negatives is {settings.negatives}: {error}") from error


def as_count(settings: Loss, number: float) -> int:
    """A whole number."""
    if not number.is_integer():
        raise InputError(f"--negatives is {settings.negatives}: expected whole numbers")
    return int(number)


def counted(settings: Loss, others: int) -> int:
    """How many negatives of an anchor count, among so many."""
    name, numbers = settings.written
    if name == "all":
        return others
    if name == "window":
        start, stop = numbers
        return max(0, min(int(stop), others) - int(start))
    return min(int(numbers[0]), others) if name in ("topk", "random", "distance") and numbers else 1


def outside_sets(pairs: int, others: int, device: torch.device) -> Tensor:
    """``Bool[Tensor, "n n"]``: the pairs that are not in each other's negative set, drawn at random.

    Each of ``n`` pairs has exactly so many others in its set, in either direction; all of them where the
    batch holds no more. The pairs stand in a random circle and see those on both sides, and of an odd
    number the one across.
    """
    place = torch.randperm(pairs, device=device)
    ahead = (place[None] - place[:, None]) % pairs
    beside = torch.minimum(ahead, pairs - ahead) <= others // 2
    if others % 2:
        beside |= ahead == pairs // 2
    return ~beside
