"""Fused ``select``: rows and columns in one pass for k = 1, a pass each for more."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from hardneg.ops.description import Among, Comparison, Window
from hardneg.ops.triton.admission import admission_arguments
from hardneg.ops.triton.best import best_kernel
from hardneg.ops.triton.keys import no_keys
from hardneg.ops.triton.launch import architecture, launch
from hardneg.ops.triton.operands import Operands, operands
from hardneg.ops.triton.settle import settled
from hardneg.ops.triton.tuning import configuration
from hardneg.selection import COLUMN_SALT, ROW_SALT, Selection

__all__ = ["select"]

Selected = tuple[Tensor, Tensor, Tensor, Tensor]


def select(
    comparison: Comparison,
    selection: Selection,
    among: Among,
    window: Window,
    seed: Tensor | None,
    rows: bool,
    columns: bool,
    hardest: bool,
) -> Selected:
    """See ``reference.select``."""
    ready = operands(comparison)
    told = {
        **admission_arguments(comparison.relation, among),
        **ranking_arguments(comparison, selection, window, seed),
    }
    assert selection.k == 1
    return one_pass(ready, told, selection, window, rows, columns, hardest)


def ranking_arguments(
    comparison: Comparison, selection: Selection, window: Window, seed: Tensor | None
) -> dict[str, Any]:
    """What ``ranked`` and ``within`` are told, by the names that kernels give it."""
    density, cutoff, farthest = selection.parameters or (0.0, 0.0, 0.0)
    return {
        "row_floor": single(window.row_floor),
        "row_ceiling": single(window.row_ceiling),
        "column_floor": single(window.column_floor),
        "column_ceiling": single(window.column_ceiling),
        "seed": seed,
        "ORDER": selection.order,
        "DISTANCE": comparison.similarity.code,
        "DENSITY": density,
        "CUTOFF": cutoff,
        "FARTHEST": farthest,
        "ROW_SALT": ROW_SALT,
        "COLUMN_SALT": COLUMN_SALT,
    }


def single(bound: Tensor | None) -> Tensor | None:
    """A bound as contiguous float32."""
    return None if bound is None else bound.float().contiguous()


def one_pass(
    ready: Operands,
    told: dict[str, Any],
    selection: Selection,
    window: Window,
    rows: bool,
    columns: bool,
    hardest: bool,
) -> Selected:
    """k = 1: the selection, its fallback and the hardest of all, of both sides, from the same tiles."""
    n, m, _ = ready.shape
    device = ready.queries.device
    # one allocation and one fill: the selection's keys, the easiest's and the hardest's of each side
    keys = no_keys(3 * (n * rows + m * columns), device=device)
    of_rows = keys[: 3 * n].view(3, n) if rows else None
    of_columns = keys[3 * n * rows :].view(3, m) if columns else None
    plain = selection.order == "highest" and window.open
    wanted = {
        "row_keys": of_rows,
        "row_count": n,
        "column_keys": of_columns,
        "column_count": m,
        "EASIEST": selection.fallback == "easiest",
        "HARDEST": (hardest or selection.fallback == "hardest") and not plain,
    }
    chosen = configuration("best", ready.source, architecture(device))
    for panel in ready.panels():
        height, width = panel.shape
        grid = (triton.cdiv(height, chosen.rows) * triton.cdiv(width, chosen.columns),)
        launch(best_kernel, grid, {**ready.arguments(panel), **told, **wanted}, chosen)
    first = [of_side(side, selection, hardest, plain, device) for side in (of_rows, of_columns)]
    return first[0][0], first[1][0], first[0][1], first[1][1]


def of_side(
    keys: Tensor | None, selection: Selection, hardest: bool, plain: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The selected of one side, and its hardest (empty unless asked for)."""
    none = torch.empty(0, 1, dtype=torch.int64, device=device)
    if keys is None:
        return none, none
    top = keys[0] if plain else keys[2]
    rescue = {"none": None, "easiest": keys[1], "hardest": top}[selection.fallback]
    chosen = settled(keys[0, :, None], rescue)
    return chosen, settled(top[:, None]) if hardest else none
