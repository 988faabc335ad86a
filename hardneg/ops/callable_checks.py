"""What a callable similarity does with its rows, found out once by trying it on a few made-up ones."""

from __future__ import annotations

import types
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hardneg.similarities import scores_of

__all__ = ["check_callable"]

ROWS = 8
BLOCK = slice(1, 4), slice(4, 8)
"""Rows and columns that are scored once more alone: no row meets itself there, and neither starts at 0."""
TOLERANCE = 1e-2
"""Of the largest score: far above the rounding of any product, far below what other rows change."""


class Findings(NamedTuple):
    """What a trial showed.

    Attributes:
        inverted: every row scores lowest with itself, as by a distance.
        local: a score depends on its own two rows alone.
        trains: scores require a gradient where the embeddings do not.
    """

    inverted: bool
    local: bool
    trains: bool


KNOWN: MutableMapping[Any, dict[Any, Findings]] = WeakKeyDictionary()
"""Findings by similarity, as long as it lives."""


def check_callable(
    similarity: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, in_tiles: bool
) -> None:
    """A callable that scores as the losses take it, on blocks of rows where ``in_tiles``.

    The trial leaves random numbers and buffers as they were, and concludes nothing where the callable fails
    on made-up rows or draws random numbers.

    Raises:
        ValueError: for a distance; in tiles, for scores that depend on other rows, or on a tensor of the
            callable's that requires a gradient.
    """
    found = findings(similarity, embeddings)
    if found is None:
        return
    name = getattr(similarity, "__name__", type(similarity).__name__)
    if found.inverted:
        raise ValueError(
            f"similarity {name} scores every row lowest with itself, as a distance does: scores must rise with "
            'closeness; negate it, lambda a, b: -torch.cdist(a, b), or use "euclidean"'
        )
    if not in_tiles:
        return
    if not found.local:
        raise ValueError(
            f"similarity {name} gives a pair of rows another score when other rows are scored beside it (a "
            "softmax or a mean over the batch, batch normalisation), but the scores are computed in pieces: use "
            'backend="dense", or apply what looks at the whole batch to the embeddings beforehand'
        )
    if found.trains and torch.is_grad_enabled():
        raise ValueError(
            f"similarity {name} computes with a tensor that requires a gradient, which recomputed tiles "
            'cannot train: use backend="dense", or apply it to the embeddings beforehand'
        )


def findings(similarity: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor) -> Findings | None:
    """What is known of the callable, tried once for every width and mode; None where it cannot be tried."""
    if torch.compiler.is_compiling():
        return None
    owner, part = identity(similarity)
    case = part, embeddings.shape[1], getattr(similarity, "training", None)
    try:
        known = KNOWN.setdefault(owner, {})
    except TypeError:  # neither hashable nor weakly referenced: tried every time
        known = {}
    if case not in known:
        if embeddings.is_cuda and torch.cuda.is_current_stream_capturing():
            return None
        found = try_on_rows(similarity, embeddings)
        if found is None or found.trains:  # a tensor may be frozen later: not remembered
            return found
        known[case] = found
    return known[case]


def identity(similarity: Any) -> tuple[Any, Any]:
    """What outlives a call: the object of a method, the code of a lambda that is written anew every time."""
    if isinstance(similarity, types.MethodType):
        return similarity.__self__, similarity.__func__
    if isinstance(similarity, types.FunctionType):
        depends = similarity.__closure__, similarity.__defaults__, similarity.__kwdefaults__
        if not any(depends):
            return similarity.__code__, id(similarity.__globals__)
    return similarity, None


def try_on_rows(
    similarity: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor
) -> Findings | None:
    """The findings of a trial, or None where the callable fails."""
    device = embeddings.device
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            return trial(similarity, made_up_rows(embeddings))
        except (
            Exception
        ):  # whatever a stranger's code raises, the loss itself will show where it matters
            return None


def made_up_rows(like: Tensor) -> Tensor:
    """Positive rows inside the unit ball, which most domains take, in the precision of scores."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, like.shape[1], generator=generator, device="cpu") / like.shape[1] ** 0.5
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    found: Tensor = x.to(like.device, dtype)
    return found


def trial(similarity: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Findings:
    """All rows against themselves, then a block of it alone."""
    run = without_memory(similarity)
    whole = scores_of(run, x, x.clone())
    rows, columns = BLOCK
    alone = scores_of(run, x[rows], x[columns])
    trains, whole, alone = whole.requires_grad, whole.detach(), alone.detach()
    local = same(whole[rows, columns], alone, TOLERANCE)
    if not local and not same(scores_of(run, x, x.clone()).detach(), whole, 1e-5):
        return Findings(inverted=False, local=True, trains=trains)  # random: nothing can be told
    return Findings(is_inverted(whole), local, trains)


def without_memory(
    similarity: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor], Tensor]:
    """A module that writes to copies of its buffers; any other callable as it is."""
    if not isinstance(similarity, nn.Module):
        return similarity
    module = similarity

    def run(queries: Tensor, candidates: Tensor) -> Tensor:
        copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
        found: Tensor = torch.func.functional_call(module, copies, (queries, candidates))
        return found

    return run


def same(first: Tensor, second: Tensor, tolerance: float) -> bool:
    """Equal within a share of the largest score."""
    bound = tolerance * float(second.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(first, second, rtol=0.0, atol=bound, equal_nan=True)


def is_inverted(scores: Tensor) -> bool:
    """Whether the diagonal is the strict minimum of every row and column."""
    own = scores.diagonal()
    others = scores.masked_fill(torch.eye(len(own), dtype=torch.bool, device=own.device), torch.inf)
    return bool(((own < others.amin(0)) & (own < others.amin(1))).all())
