"""Validation at the public boundary. A message names the argument, what was expected, what came, and what to do."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from hardneg.near_names import meant

T = TypeVar("T")
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def resolve_name(argument: str, value: Any, known: Mapping[str, T]) -> T:
    """The object of that name, or the value itself where it already is one of these objects."""
    if isinstance(value, str):
        if value not in known:
            check_choice(argument, value, tuple(sorted(known)))
        return known[value]
    if any(type(value) is type(choice) for choice in known.values()):
        found: T = value
        return found
    raise TypeError(
        f"{argument} is {value!r} of type {type(value).__name__}: expected a name "
        f"({', '.join(sorted(known))}) or the object it stands for"
    )


def check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """A string out of a fixed few."""
    if value not in choices:
        near = meant(value, choices)
        raise ValueError(f"unknown {argument} {value!r}{near}: choose one of {', '.join(choices)}")


def check_number(
    argument: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    """A finite number within bounds, as Python's own: NumPy's numbers are taken too.

    Comparisons only, no ``math.isfinite``: the compiler hands numbers that change in as symbols.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = as_real(argument, value)
    elif type(value) is not int and type(value) is not float:
        value = float(value)
    if not -math.inf < value < math.inf:
        raise ValueError(f"{argument} is {value}: expected a finite number")
    if value < at_least or value <= above or value > at_most:
        bounds = [
            f"at least {at_least}" if at_least > -math.inf else "",
            f"above {above}" if above > -math.inf else "",
            f"at most {at_most}" if at_most < math.inf else "",
        ]
        raise ValueError(f"{argument} is {value}: expected {' and '.join(b for b in bounds if b)}")
    found: float = value
    return found


def as_real(argument: str, value: Any) -> float:
    """A number of another type than Python's, such as ``numpy.float32``."""
    if isinstance(value, Tensor):
        raise TypeError(f"{argument} is a tensor: expected a number; call .item() on it")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} is {value!r}: expected a number")
    return float(value)


def check_count(argument: str, value: Any, at_least: int = 1) -> int:
    """A whole number, as Python's own: NumPy's integers are taken too."""
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        hint = "; call .item() on it" if isinstance(value, Tensor) else ""
        raise TypeError(f"{argument} is {value!r}: expected a whole number{hint}")
    if value < at_least:
        raise ValueError(f"{argument} is {value}: expected at least {at_least}")
    return value if type(value) is int else int(value)


def number_field(instance: Any, name: str, **bounds: float) -> None:
    """Check a number of a frozen value object, and keep it as Python's own."""
    object.__setattr__(instance, name, check_number(name, getattr(instance, name), **bounds))


def count_field(instance: Any, name: str, at_least: int = 1) -> None:
    """Check a whole number of a frozen value object, and keep it as Python's own."""
    object.__setattr__(instance, name, check_count(name, getattr(instance, name), at_least))


def check_layout(argument: str, x: Tensor) -> None:
    """An ordinary tensor: neither nested, sparse, nor spread over devices."""
    if x.is_nested:
        raise TypeError(
            f"{argument} is a nested tensor: expected an ordinary one; pool every sequence to one row first"
        )
    if hasattr(x, "device_mesh"):
        raise TypeError(
            f"{argument} is a DTensor: expected an ordinary tensor; pass {argument}.full_tensor(), or "
            f"{argument}.to_local() of every rank to AcrossRanks"
        )
    if x.layout != torch.strided:
        raise TypeError(
            f"{argument} has layout {x.layout}: expected an ordinary tensor; call .to_dense() on it"
        )


def check_embeddings(argument: str, x: Any) -> None:
    """A non-empty matrix of floats, one embedding a row."""
    if not isinstance(x, Tensor):
        kind, how = type(x).__name__, {"ndarray": "from_numpy", "list": "tensor"}
        cure = f"; torch.{how[kind]}({argument})" if kind in how else ""
        raise TypeError(f"{argument} is a {kind}: expected a tensor of shape (rows, width){cure}")
    check_layout(argument, x)
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


def check_ids(argument: str, ids: Any, rows: int, device: torch.device) -> None:
    """One whole number a row."""
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"{argument} is a {type(ids).__name__}: expected an integer tensor of shape ({rows},): "
            f"torch.tensor({argument})"
        )
    check_layout(argument, ids)
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
        tensor = isinstance(mask, Tensor)
        kind, cure = (mask.dtype, "; call .bool() on it") if tensor else (type(mask).__name__, "")
        raise TypeError(f"{argument} is {kind}: expected a bool tensor of shape {shape}{cure}")
    check_layout(argument, mask)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{argument} has shape {tuple(mask.shape)}: expected {shape}, queries by candidates"
        )
    if mask.device != device:
        raise ValueError(
            f"{argument} is on {mask.device}: expected {device}, where the embeddings are"
        )


def check_tile(tile: Any) -> tuple[int, int] | None:
    """Rows and columns of a tile, or None."""
    if tile is None:
        return None
    if not isinstance(tile, tuple) or len(tile) != 2:
        raise TypeError(f"tile is {tile!r}: expected (rows, columns), or None for the default")
    if any(
        isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1
        for size in tile
    ):
        raise ValueError(f"tile is {tile!r}: expected two whole numbers of at least 1")
    return int(tile[0]), int(tile[1])


def check_type(argument: str, value: Any, *kinds: type) -> None:
    """An instance of one of these types."""
    if not isinstance(value, kinds):
        expected = " or ".join("None" if k is type(None) else f"a {k.__name__}" for k in kinds)
        raise TypeError(f"{argument} is {value!r}: expected {expected}")


def check_scores(found: Any, n: int, m: int) -> Tensor:
    """What a callable similarity returned."""
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"similarity returned {kind}: expected a floating-point tensor of scores")
    if found.shape != (n, m):
        raise ValueError(
            f"similarity returned shape {tuple(found.shape)}: expected ({n}, {m}), queries by candidates"
        )
    return found


def check_two_sets(first: str, a: Tensor, second: str, b: Tensor, instead: str) -> None:
    """Two sets of rows, not one tensor passed twice, whose rows would find themselves.

    Args:
        instead: what to pass where one set is meant.
    """
    if is_one_tensor(a, b):
        raise ValueError(
            f"{first} and {second} are the same tensor, so every row would find itself: {instead}; or a "
            ".clone() if that is meant"
        )


def is_one_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether both are one tensor, or views of the same numbers."""
    if a is b:
        return True
    if torch.compiler.is_compiling() or a.layout != torch.strided or b.layout != torch.strided:
        return False
    if a.numel() == 0 or (a.shape, a.stride()) != (b.shape, b.stride()):
        return False
    try:
        return a.device == b.device and a.data_ptr() == b.data_ptr() != 0
    except RuntimeError:  # tensors without memory, as a tracer makes them
        return False
