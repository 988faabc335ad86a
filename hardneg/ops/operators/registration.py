"""How a reduction becomes an operator: its arguments are a class, from which the schema follows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from hardneg import similarities
from hardneg.ops.description import Comparison, Relation, Window
from hardneg.ops.executor import NO_SECOND_DERIVATIVE
from hardneg.similarities import working_type

__all__ = [
    "Compared",
    "Embedded",
    "Windowed",
    "differentiable",
    "gradient_of",
    "operator",
]

LIBRARIES: dict[str, torch.library.Library] = vars(torch.ops.hardneg).setdefault("_libraries", {})
"""The library of each operator, kept where a second import of this package finds it."""

SCHEMA_TYPES = {
    "Tensor": "Tensor",
    "Tensor | None": "Tensor?",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "str",
    "list[bool]": "bool[]",
    "list[int]": "int[]",
    "list[float]": "float[]",
}


class Arguments:
    """Arguments of an operator, in order: the annotated names, those of the bases first.

    A dataclass would say the same; seventeen of them would take a tenth of the package's import.
    """

    types: ClassVar[dict[str, str]] = {}
    """The annotation of every argument."""

    differentiable_results: ClassVar[int] = 1
    """How many of the operator's results have a gradient; they come first."""

    def __init_subclass__(cls) -> None:
        own = inspect.get_annotations(cls)
        arguments = {n: t for n, t in own.items() if not t.startswith("ClassVar")}
        cls.types = {**cls.types, **arguments}

    def __init__(self, *values: Any) -> None:
        for name, value in zip(self.types, values, strict=True):
            setattr(self, name, value)

    @classmethod
    def schema(cls) -> str:
        """The operator's parameters in PyTorch's schema language."""
        return ", ".join(f"{SCHEMA_TYPES[kind]} {name}" for name, kind in cls.types.items())

    def values(self) -> tuple[Any, ...]:
        """The arguments themselves."""
        return tuple(getattr(self, name) for name in self.types)

    @classmethod
    def setup_context(cls, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the arguments and the results for the backward."""
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*outputs[cls.differentiable_results :])
        # no zeros the size of the embeddings for what has no gradient
        ctx.set_materialize_grads(False)
        is_tensor = ["Tensor" in kind for kind in cls.types.values()]
        tensors = [x for x, yes in zip(inputs, is_tensor, strict=True) if yes]
        ctx.save_for_backward(*tensors, *outputs)
        ctx.plain = [None if yes else x for x, yes in zip(inputs, is_tensor, strict=True)]
        ctx.outputs = len(outputs)

    @classmethod
    def restore(cls, ctx: Any) -> tuple[Self, tuple[Tensor, ...]]:
        """The kept arguments and results."""
        saved = ctx.saved_tensors
        tensors, outputs = iter(saved[: -ctx.outputs]), saved[-ctx.outputs :]
        arguments = [
            next(tensors) if "Tensor" in kind else x
            for kind, x in zip(cls.types.values(), ctx.plain, strict=True)
        ]
        return cls(*arguments), outputs

    @classmethod
    def gradients(cls, **given: Tensor | None) -> tuple[Tensor | None, ...]:
        """One gradient for each argument, None for those not named."""
        return tuple(given.get(name) for name in cls.types)


class Embedded(Arguments):
    """Embeddings, and where their gradients go if not to themselves (``Comparison.wide``)."""

    queries: Tensor
    candidates: Tensor
    wide_queries: Tensor | None
    wide_candidates: Tensor | None

    @classmethod
    def wanted(cls, ctx: Any) -> list[bool]:
        """Which of queries, candidates and scale a gradient is asked for, as a backward operator is told."""
        asked = dict(zip(cls.types, ctx.needs_input_grad, strict=True))
        return [
            asked["queries"] or asked["wide_queries"],
            asked["candidates"] or asked["wide_candidates"],
            asked.get("scale", False),
        ]

    def returned(
        self, dq: Tensor, dc: Tensor, **others: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """One gradient for each argument; those of frozen embeddings came as an empty place."""
        queries = "queries" if self.wide_queries is None else "wide_queries"
        candidates = "candidates" if self.wide_candidates is None else "wide_candidates"
        sides = {queries: dq, candidates: dc}
        learnt = {name: x for name, x in sides.items() if x.dim() > 1}
        return type(self).gradients(**learnt, **others)


class Compared(Embedded):
    """A comparison, the size of its tiles and who carries it out, taken apart.

    ``engine`` is ``"tiled"`` or ``"triton"``; operators without a kernel disregard it.
    """

    row_ids: Tensor | None
    column_ids: Tensor | None
    positives: Tensor | None
    ignore: Tensor | None
    paired: bool
    same_set: bool
    row_offset: int
    column_offset: int
    similarity: str
    tile: list[int]
    engine: str

    @property
    def fused(self) -> bool:
        """Whether a kernel is asked for."""
        return self.engine == "triton"

    @property
    def comparison(self) -> Comparison:
        """The comparison put together again."""
        relation = Relation(
            self.row_ids,
            self.column_ids,
            self.positives,
            self.ignore,
            self.paired,
            self.same_set,
            self.row_offset,
            self.column_offset,
        )
        similarity = similarities.BY_CODE[self.similarity]
        return Comparison(self.queries, self.candidates, similarity, relation)

    @property
    def tile_size(self) -> tuple[int, int] | None:
        """Rows and columns of a tile, None for the default."""
        return (self.tile[0], self.tile[1]) if self.tile else None


def gradient_of(x: Tensor, wanted: bool) -> Tensor:
    """The gradient of embeddings, float32 for half precision too; empty where they are frozen."""
    return x.new_empty(x.shape if wanted else 0, dtype=working_type(x))


class Windowed(Compared):
    """A comparison with bounds on its scores."""

    row_floor: Tensor | None
    row_ceiling: Tensor | None
    column_floor: Tensor | None
    column_ceiling: Tensor | None

    @property
    def window(self) -> Window:
        """The bounds."""
        return Window(self.row_floor, self.row_ceiling, self.column_floor, self.column_ceiling)


def operator(
    name: str, arguments: type[Arguments], results: int, fake: Callable[[Any], Any]
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register the decorated function as ``torch.ops.hardneg.<name>`` for every device, outside autocast.

    Both the function and ``fake``, which gives shapes only, take the arguments' class.
    """

    def register(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def kernel(*values: Any) -> Any:
            given = arguments(*values)
            with torch.no_grad(), torch.autocast(values[0].device.type, enabled=False):
                return unshared(run(given))

        def shapes(*values: Any) -> Any:
            return fake(arguments(*values))

        returned = "Tensor" if results == 1 else "(" + ", ".join(["Tensor"] * results) + ")"
        tags = (torch.Tag.pt2_compliant_tag,)
        library = fresh_library(name)
        library.define(f"{name}({arguments.schema()}) -> {returned}", tags=tags)
        library.impl(name, kernel, "CompositeExplicitAutograd")
        torch.library.register_fake(f"hardneg::{name}", shapes, lib=library)
        return run

    return register


def fresh_library(name: str) -> torch.library.Library:
    """A library for one operator, in place of that of an earlier import (a reloaded notebook) of this module.

    As ``torch.library.custom_op`` does: a process takes one definition of an operator at a time.
    """
    if name in LIBRARIES:
        LIBRARIES.pop(name)._destroy()
    LIBRARIES[name] = torch.library.Library("hardneg", "FRAGMENT")
    return LIBRARIES[name]


def unshared(results: Any) -> Any:
    """Results of which no two share memory, as operators must have them; only the empty ones ever do."""
    if isinstance(results, Tensor):
        return results
    return tuple(x.clone() if x.numel() == 0 else x for x in results)


def no_second_derivative(ctx: Any, *gradients: Tensor) -> Any:
    """Raise rather than be silently wrong."""
    raise RuntimeError(NO_SECOND_DERIVATIVE)


def differentiable(
    name: str, arguments: type[Arguments], backward: Callable[..., Any], by: str | None = None
) -> None:
    """Register the backward of operator ``name``, and forbid that of the operator ``by`` that computes it."""
    setup, library = arguments.setup_context, LIBRARIES[name]
    torch.library.register_autograd(f"hardneg::{name}", backward, setup_context=setup, lib=library)
    if by is not None:
        forbid_second_derivative(by)


def forbid_second_derivative(name: str) -> None:
    """Give an operator that computes gradients a backward that raises."""
    library = LIBRARIES[name]
    torch.library.register_autograd(f"hardneg::{name}", no_second_derivative, lib=library)


class Scaled(Arguments):
    """A gradient that the forward pass computed, and the upstream number that scales it."""

    upstream: Tensor
    gradient: Tensor


@operator("scaled", Scaled, 1, lambda a: torch.empty_like(a.gradient))
def scaled(a: Scaled) -> Tensor:
    """The product, rounded once: the upstream number of a loss scaler is beyond float16."""
    upstream = a.upstream.reshape((1,) * a.gradient.dim())
    return torch.mul(a.gradient, upstream, out=torch.empty_like(a.gradient))


forbid_second_derivative("scaled")
