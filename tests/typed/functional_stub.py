"""Writes hardneg/functional.pyi from the loss classes: ``python tests/typed/functional_stub.py``.

``functional`` builds its functions from the classes, which a type checker cannot follow; the stub says what it builds.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from hardneg import functional
from hardneg.losses.base import Loss

STUB = Path(functional.__file__).with_suffix(".pyi")

HEAD = '''"""Generated from the loss classes by ``python tests/typed/functional_stub.py``; a test holds it to them."""

from typing import Literal, TypedDict, overload

from torch import Tensor
from typing_extensions import Unpack

from hardneg.losses.base import BackendName, Directions
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.scalars import Learned
from hardneg.negatives import Ceiling, Negatives, NegativesName
from hardneg.ops.scores import Backend
from hardneg.penalties import Penalty, PenaltyName
from hardneg.positives import Positives, PositivesName
from hardneg.similarities import Similarity, SimilarityName
from hardneg.softmaxes import Softmax, SoftmaxName

Coefficients = tuple[float, ...]
'''

RESULTS = (
    ('Literal["mean", "sum", "mean_active"] = ...', "Literal[False] = ...", "Tensor"),
    (
        'Literal["mean", "sum", "mean_active"] = ...',
        "Literal[True]",
        "tuple[Tensor, MiningStatistics]",
    ),
    ('Literal["none"]', "Literal[False] = ...", "tuple[Tensor, Tensor]"),
    ('Literal["none"]', "Literal[True]", "tuple[tuple[Tensor, Tensor], MiningStatistics]"),
)
"""``reduction`` and ``return_stats`` of each overload, and what it returns."""


def plain(annotation: str) -> str:
    """An annotation without the shape: ``Float[Tensor, "n d"] | None`` is ``Tensor | None``."""
    return re.sub(r"\w+\[Tensor, (['\"]).*?\1\]", "Tensor", annotation)


def stub_of(name: str, loss: type[Loss]) -> str:
    """The options and the overloads of one function."""
    choices = {
        n: plain(p.annotation)
        for n, p in inspect.signature(loss).parameters.items()
        if n != "reduction"
    }
    parameters = list(inspect.signature(loss.forward).parameters.values())[1:]
    call = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    for p in keywords:
        if p.name not in choices and p.name != "return_stats":
            choices[p.name] = plain(p.annotation)
    options = f"{loss.__name__}Options"
    lines = [f"class {options}(TypedDict, total=False):"]
    lines += [f"    {n}: {annotation}" for n, annotation in choices.items()]
    for reduction, return_stats, result in RESULTS:
        lines += ["", "@overload", f"def {name}("]
        for p in call:
            default = "" if p.default is p.empty else " = ..."
            lines.append(f"    {p.name}: {plain(p.annotation)}{default},")
        lines += [
            "    *,",
            f"    reduction: {reduction},",
            f"    return_stats: {return_stats},",
            f"    **options: Unpack[{options}],",
            f") -> {result}: ...",
        ]
    return "\n".join(lines)


def stub() -> str:
    """The whole file."""
    parts = [HEAD.rstrip()]
    parts += [stub_of(name, getattr(functional, name).loss) for name in functional.__all__]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    STUB.write_text(stub())
