"""Weights of anchors as a user passes them, checked once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hardneg.checks import FLOATING, check_layout

__all__ = ["check_label_weights", "check_pair_weights", "check_weights"]


def check_weights(weights: Any, anchors: Tensor, name: str) -> None:
    """A floating-point number for each row of the anchors, or none; ``name``: what a row is called.

    Raises:
        ValueError, TypeError: naming what was expected, and what came.
    """
    if weights is None:
        return
    n = anchors.shape[0]
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights is a {type(weights).__name__}: expected a tensor of shape ({n},)")
    check_layout("weights", weights)
    if tuple(weights.shape) != (n,):
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}: expected ({n},), one number {name}"
        )
    if weights.dtype not in FLOATING:
        raise TypeError(f"weights is {weights.dtype}: expected a floating-point type")
    if weights.device != anchors.device:
        raise ValueError(f"weights is on {weights.device}: expected {anchors.device}")


def check_pair_weights(weights: Any, queries: Tensor, one_to_one: bool, directions: str) -> None:
    """One for each query, which is that of its candidate too where they are paired."""
    check_weights(weights, queries, "a query")
    if weights is not None and not one_to_one and directions != "queries":
        raise ValueError(
            f'weights with positives="all" and directions={directions!r}: they belong to queries, so use '
            'directions="queries"'
        )


def check_label_weights(weights: Any, embeddings: Tensor, directions: str) -> None:
    """One for each embedding; a reference has none."""
    check_weights(weights, embeddings, "an anchor")
    if weights is not None and directions != "queries":
        raise ValueError(
            f"weights with directions={directions!r}: they belong to embeddings, not to the reference, so use "
            'directions="queries"'
        )
