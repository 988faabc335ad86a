"""Numbers of 64 bits that tell texts apart: equal for equal tokens, whatever the padding, made where the tokens are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["fingerprints"]

# of SplitMix64, as signed numbers
GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
OF_TOKENS = {
    "attention_mask",
    "cu_seq_lens_k",
    "cu_seq_lens_q",
    "input_ids",
    "max_length_k",
    "max_length_q",
    "offsets",
    "position_ids",
    "seq_idx",
    "token_type_ids",
}
"""What says which tokens a text has, or follows from them."""


def fingerprints(features: Mapping[str, Any]) -> Int[Tensor, "n"]:
    """One number a sample, of its tokens and of what else there is of it (pixels). Nothing is read from the device.

    Args:
        features: what a model of sentence-transformers takes: padded ``input_ids`` and ``attention_mask``, or a
            flat ``input_ids`` with ``offsets`` or ``cu_seq_lens_q``; other tensors with a row a sample.

    Raises:
        ValueError: for tensors of which nothing says what belongs to a sample.
    """
    found = [tokens_of(features)] if "input_ids" in features else []
    others = (n for n, x in features.items() if isinstance(x, Tensor) and n not in OF_TOKENS)
    for name in sorted(others):
        x = features[name]
        if x.dim() == 0:
            continue
        if found and len(x) != len(found[0]):
            raise ValueError(
                f"{name} has {len(x)} rows for {len(found[0])} samples, so equal samples cannot be told: pass "
                "skip_repeated=False"
            )
        found.append(summed(integers(x.flatten(1) if x.dim() > 1 else x[:, None])))
    if not found:
        raise ValueError(f"no tensor among {sorted(features)}: pass skip_repeated=False")
    return mixed(torch.stack([mixed(x + place) for place, x in enumerate(found)]).sum(0))


def tokens_of(features: Mapping[str, Any]) -> Int[Tensor, "n"]:
    """Of the tokens of every text and their order."""
    tokens = features["input_ids"]
    starts = features.get("offsets")
    if "cu_seq_lens_q" in features:
        starts = features["cu_seq_lens_q"][:-1]
    if starts is not None:
        return flat(tokens.flatten().long(), starts.long())
    mask = features.get("attention_mask")
    return summed(tokens.long(), None if mask is None else mask.long())


def summed(values: Int[Tensor, "n t"], mask: Int[Tensor, "n t"] | None = None) -> Int[Tensor, "n"]:
    """Of values and their places, counted from the first that the mask admits."""
    held = torch.ones_like(values) if mask is None else mask
    return (mixed(mixed(values) + held.cumsum(1) * GOLDEN) * held).sum(1)


def flat(tokens: Int[Tensor, "t"], starts: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The same of texts that follow one another without padding; text i begins at ``starts[i]``."""
    place = torch.arange(len(tokens), device=tokens.device)
    text = torch.searchsorted(starts, place, right=True) - 1
    numbers = mixed(mixed(tokens) + (place - starts[text] + 1) * GOLDEN)
    return tokens.new_zeros(len(starts)).index_add(0, text, numbers)


def integers(x: Tensor) -> Int[Tensor, "n t"]:
    """The values as whole numbers; equal for equal floats."""
    return x.float().contiguous().view(torch.int32).long() if x.is_floating_point() else x.long()


def mixed(x: Tensor) -> Tensor:
    """SplitMix64's permutation of 64 bits; products wrap around."""
    x = x + GOLDEN
    x = (x ^ shifted(x, 30)) * FIRST
    x = (x ^ shifted(x, 27)) * SECOND
    return x ^ shifted(x, 31)


def shifted(x: Tensor, bits: int) -> Tensor:
    """The bits moved right, with zeros from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
