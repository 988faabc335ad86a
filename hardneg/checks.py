"""Validation at the public boundary. A message names the argument, what was expected, what came, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def resolve_name(argument: str, value: Any, known: Mapping[str, T]) -> T:
    """The object of that name, or the value itself where it already is one of these objects."""
    if isinstance(value, str):
        if value in known:
            return known[value]
        raise ValueError(f"unknown {argument} {value!r}: choose one of {', '.join(sorted(known))}")
    if any(type(value) is type(choice) for choice in known.values()):
        return value
    raise TypeError(
        f"{argument} is {value!r} of type {type(value).__name__}: expected a name "
        f"({', '.join(sorted(known))}) or the object it stands for"
    )


def check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """A string out of a fixed few."""
    if value not in choices:
        raise ValueError(f"unknown {argument} {value!r}: choose one of {', '.join(choices)}")


def check_number(
    argument: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> None:
    """A finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument} is {value!r}: expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{argument} is {value}: expected a finite number")
    if value < at_least or value <= above or value > at_most:
        bounds = [
            f"at least {at_least}" if at_least > -math.inf else "",
            f"above {above}" if above > -math.inf else "",
            f"at most {at_most}" if at_most < math.inf else "",
        ]
        raise ValueError(f"{argument} is {value}: expected {' and '.join(b for b in bounds if b)}")


def check_count(argument: str, value: Any, at_least: int = 1) -> None:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} is {value!r}: expected a whole number")
    if value < at_least:
        raise ValueError(f"{argument} is {value}: expected at least {at_least}")


def check_embeddings(argument: str, x: Any) -> None:
    """A non-empty matrix of floats, one embedding a row."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{argument} is a {type(x).__name__}: expected a tensor of shape (rows, width)"
        )
    if x.dim() != 2:
        raise ValueError(
            f"{argument} has shape {tuple(x.shape)}: expected (rows, width); flatten or pool it first"
        )
    if x.dtype not in FLOATING:
        raise TypeError(
            f"{argument} is {x.dtype}: expected a floating-point type; call .float() on it"
        )
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"{argument} is empty, shape {tuple(x.shape)}: skip empty batches")


def check_alike(first: str, a: Tensor, second: str, b: Tensor) -> None:
    """Two sets of embeddings of one width, type and device."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{first} are {tuple(a.shape)} but {second} are {tuple(b.shape)}: project both to one width"
        )
    if a.dtype != b.dtype:
        raise TypeError(f"{first} are {a.dtype} but {second} are {b.dtype}: convert one of them")
    if a.device != b.device:
        raise ValueError(f"{first} are on {a.device} but {second} on {b.device}: move one of them")


def check_paired(queries: Tensor, candidates: Tensor) -> None:
    """Row i of the queries belongs to row i of the candidates."""
    if candidates.shape[0] < queries.shape[0]:
        raise ValueError(
            f"{queries.shape[0]} queries but {candidates.shape[0]} candidates: query i is paired with "
            "candidate i, so there must be at least as many candidates; swap the two inputs, or use "
            "TripletLoss with labels"
        )


def check_ids(argument: str, ids: Any, rows: int, device: torch.device) -> None:
    """One whole number a row."""
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"{argument} is a {type(ids).__name__}: expected an integer tensor of shape ({rows},)"
        )
    if ids.shape != (rows,):
        raise ValueError(
            f"{argument} has shape {tuple(ids.shape)}: expected ({rows},), one id a row"
        )
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise TypeError(f"{argument} is {ids.dtype}: expected integers; call .long() on it")
    if ids.device != device:
        raise ValueError(
            f"{argument} is on {ids.device}: expected {device}, where the embeddings are"
        )


def check_mask(argument: str, mask: Any, shape: tuple[int, int], device: torch.device) -> None:
    """A boolean for each query and candidate."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{argument} is {kind}: expected a bool tensor of shape {shape}")
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{argument} has shape {tuple(mask.shape)}: expected {shape}, queries by candidates"
        )
    if mask.device != device:
        raise ValueError(
            f"{argument} is on {mask.device}: expected {device}, where the embeddings are"
        )
