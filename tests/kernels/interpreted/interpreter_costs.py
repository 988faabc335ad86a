"""What Triton's interpreter does again at every step, done once: its results and its errors stay the same.

It rebinds all of ``triton.language`` with every call of a function inside a kernel, builds a table of all types to look
one up, makes the type of a block anew for every operand, and compares every sum of integers with its limits by a dozen
interpreted operations, for an assertion that is off. That is two thirds of its time.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

__all__ = ["save_costs"]


def save_costs() -> None:
    """Replace what does it; where a release of Triton has something else, that stays as it is."""
    if hasattr(interpreter, "_LangPatchScope"):
        interpreter._patch_lang = rebound_once_a_launch(interpreter._patch_lang)
    interpreter._get_np_dtype = looked_up_once(interpreter._get_np_dtype)
    block = tl.core.block_type
    block.with_element_ty = made_once(block.with_element_ty)
    options = interpreter.interpreter_builder.options
    if not options.debug:
        unchecked = dataclasses.replace(options, sanitize_overflow=False)
        interpreter.interpreter_builder.options = unchecked


def rebound_once_a_launch(rebind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A launch restores what it has rebound; functions that it calls rebind what is not yet."""
    modules = (tl, tl.core)
    rebound: set[str] = set()

    def restoring(scope: Any) -> Any:
        restore = scope.restore

        def restored() -> None:
            rebound.clear()
            restore()

        scope.restore = restored
        return scope

    def rebind_once(function: Any) -> Any:
        if len(rebound) == len(modules):
            return None
        found = [x for x in function.__globals__.values() if inspect.ismodule(x) and x in modules]
        names = {module.__name__ for module in found}
        if rebound and names <= rebound:
            return None
        inner = bool(rebound)
        rebound.update(names)
        scope = rebind(function)
        return scope if inner else restoring(scope)

    return rebind_once


def looked_up_once(look_up: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """NumPy's type for one of Triton's, whose name says all of it."""
    known: dict[str, Any] = {}

    def remembered(kind: Any) -> Any:
        found = known.get(kind.name)
        if found is None:
            found = known[kind.name] = look_up(kind)
        return found

    return remembered


def made_once(make: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The type of a block like another, of other elements: types are values."""
    known: dict[tuple[str, str], Any] = {}

    def remembered(kind: Any, element: Any) -> Any:
        name = kind.name, element.name
        found = known.get(name)
        if found is None:
            found = known[name] = make(kind, element)
        return found

    return remembered
