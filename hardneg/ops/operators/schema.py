"""Requests as arguments of PyTorch's operators, which take flat lists of tensors, numbers and strings.

A request is a dataclass or named tuple whose fields are such values, other requests, or value objects that have a
code (a similarity, a penalty ...). Its fields, walked in order, are the operator's parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hardneg import penalties, similarities
from hardneg.negatives import Ceiling, Selection
from hardneg.ops import energies
from hardneg.ops.comparison import Relation, Window
from hardneg.ops.guide import Guide

__all__ = [
    "flatten",
    "is_named",
    "parameters_of",
    "schema_of",
    "tensor_names",
    "tensors_of",
    "unflatten",
    "value_names",
    "with_tensors",
]

NESTED: dict[str, type] = {
    "Guide": Guide,
    "Relation": Relation,
    "Window": Window,
    "Selection": Selection,
}
"""Fields that are requests themselves."""

PLAIN = {
    "Among": "str",
    "bool": "bool",
    "float": "float",
    "int": "int",
    "str": "str",
    "tuple[float, ...]": "float[]",
    "tuple[int, ...]": "int[]",
}
"""Schema types of plain fields."""


@dataclass(frozen=True)
class Code:
    """How a value object is passed: its code, and its numbers where it has any.

    Attributes:
        types: of the values that stand for it.
        encode: the values.
        decode: the object.
        is_named: whether it is one that ``decode`` can give back.
    """

    types: tuple[str, ...]
    encode: Callable[[Any], tuple[Any, ...]]
    decode: Callable[..., Any]
    is_named: Callable[[Any], bool]


CODES: dict[str, Code] = {
    "Order": Code(
        ("str",),
        lambda order: (order,),
        lambda name: name,
        lambda order: isinstance(order, str),
    ),
    "Any": Code(
        ("str",),
        lambda similarity: (similarity.code,),
        similarities.BY_CODE.__getitem__,
        similarities.is_builtin,
    ),
    "Penalty": Code(
        ("str",),
        lambda penalty: (penalty.code,),
        penalties.BY_NAME.__getitem__,
        penalties.is_builtin,
    ),
    "Energy": Code(
        ("str", "float[]"),
        lambda energy: (energy.code, energies.parameters(energy)),
        lambda code, numbers: energies.BY_CODE[code](*numbers),
        energies.is_builtin,
    ),
    "Penalty | None": Code(
        ("str",),
        lambda penalty: ("" if penalty is None else penalty.code,),
        lambda code: penalties.BY_NAME[code] if code else None,
        lambda penalty: penalty is None or penalties.is_builtin(penalty),
    ),
    "Ceiling | None": Code(
        ("float[]",),
        lambda ceiling: ([] if ceiling is None else [ceiling.relative, ceiling.offset],),
        lambda numbers: Ceiling(*numbers) if numbers else None,
        lambda ceiling: ceiling is None or type(ceiling) is Ceiling,
    ),
}


@dataclass(frozen=True)
class Field:
    """A field of a request: a request itself, a value object with a code, or plain values (both None)."""

    name: str
    schema: str
    nested: type | None = None
    code: Code | None = None

    @property
    def tensor(self) -> bool:
        """Whether it holds a tensor, or None in place of one."""
        return self.schema.startswith("Tensor")


KNOWN: dict[type, tuple[Field, ...]] = {}
"""Fields of the requests seen so far; the compiler can read a dictionary, but not a cached function."""


def fields_of(kind: type) -> tuple[Field, ...]:
    """The fields of a request, in order."""
    if kind in KNOWN:
        return KNOWN[kind]
    found = []
    for name, given in inspect.get_annotations(kind).items():
        annotation = str(getattr(given, "__forward_arg__", given))  # of a named tuple
        if annotation.startswith("ClassVar"):
            continue
        if "Tensor" in annotation:
            found.append(Field(name, "Tensor?" if "None" in annotation else "Tensor"))
        elif annotation in NESTED:
            found.append(Field(name, "", nested=NESTED[annotation]))
        elif annotation in CODES:
            found.append(Field(name, "", code=CODES[annotation]))
        else:
            found.append(Field(name, PLAIN[annotation]))
    KNOWN[kind] = tuple(found)
    return KNOWN[kind]


def schema_of(kind: type, prefix: str = "") -> Iterator[str]:
    """The parameters of a request in PyTorch's schema language."""
    for field in fields_of(kind):
        name = f"{prefix}{field.name}"
        if field.nested is not None:
            yield from schema_of(field.nested, f"{name}_")
        elif field.code is not None:
            yield from (f"{each} {name}_{i}" for i, each in enumerate(field.code.types))
        else:
            yield f"{field.schema} {name}"


def parameters_of(kinds: tuple[type, ...]) -> list[str]:
    """The parameters of several requests, a name that an earlier one has behind the name of its class."""
    parameters: dict[str, str] = {}
    for kind in kinds:
        for text in schema_of(kind):
            schema, name = text.split()
            name = f"{kind.__name__.lower()}_{name}" if name in parameters else name
            parameters[name] = f"{schema} {name}"
    return list(parameters.values())


def value_names(kind: type) -> tuple[str, ...]:
    """The name of the tensor at each place of a request's flat values; empty for what is no tensor."""
    texts = (text.split() for text in schema_of(kind))
    return tuple(name if kind.startswith("Tensor") else "" for kind, name in texts)


def tensor_names(kind: type) -> tuple[str, ...]:
    """The names of a request's tensors."""
    return tuple(text.split()[1] for text in schema_of(kind) if text.startswith("Tensor"))


def flatten(request: Any) -> list[Any]:
    """The values of a request in the order of its schema."""
    values: list[Any] = []
    for field in fields_of(type(request)):
        value = getattr(request, field.name)
        if field.nested is not None:
            values += flatten(value)
        elif field.code is not None:
            values += field.code.encode(value)
        else:
            values.append(list(value) if isinstance(value, tuple) else value)
    return values


def unflatten(kind: type, values: Iterator[Any]) -> Any:
    """The request of these values; takes as many as it has."""
    arguments = []
    for field in fields_of(kind):
        if field.nested is not None:
            arguments.append(unflatten(field.nested, values))
        elif field.code is not None:
            arguments.append(field.code.decode(*(next(values) for _ in field.code.types)))
        else:
            value = next(values)
            arguments.append(tuple(value) if field.schema.endswith("[]") else value)
    return kind(*arguments)


def is_named(request: Any) -> bool:
    """Whether all value objects of a request have a code, so that an operator can be told of them."""
    for field in fields_of(type(request)):
        value = getattr(request, field.name)
        if field.nested is not None and not is_named(value):
            return False
        if field.code is not None and not field.code.is_named(value):
            return False
    return True


def tensors_of(request: Any) -> list[Tensor | None]:
    """The tensors of a request, in order; None for those not given."""
    found: list[Tensor | None] = []
    for field in fields_of(type(request)):
        value = getattr(request, field.name)
        if field.nested is not None:
            found += tensors_of(value)
        elif field.tensor:
            found.append(value)
    return found


def with_tensors(request: Any, tensors: Iterator[Tensor | None]) -> Any:
    """The request with other tensors in place of its own."""
    arguments = []
    for field in fields_of(type(request)):
        value = getattr(request, field.name)
        if field.nested is not None:
            value = with_tensors(value, tensors)
        elif field.tensor:
            value = next(tensors)
        arguments.append(value)
    return type(request)(*arguments)
