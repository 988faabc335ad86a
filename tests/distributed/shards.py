"""One global batch, cut into the rows of every rank, and what one process makes of the whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from every_loss import ABOUT
from torch import Tensor, nn

from hardneg.distributed import AcrossRanks

MODULES = {name: about.module for name, about in ABOUT.items()}

SIZES = {1: (6,), 2: (4, 3), 3: (3, 0, 4), 4: (2, 4, 1, 3)}
"""Rows of each rank: uneven, and for three ranks one that has none."""


@dataclass(frozen=True)
class Batch:
    """The arguments of every rank, by rank; ``first`` and ``second`` are the embeddings' names."""

    shards: list[dict[str, Tensor]]
    options: dict[str, Any] = field(default_factory=dict)

    def with_options(self, **options: Any) -> Batch:
        return replace(self, options={**self.options, **options})

    @property
    def with_partners(self) -> tuple[str, ...]:
        """Arguments whose first rows on each rank belong to those of the other side."""
        if self.options.get("same_set"):
            return "reference", "reference_labels"
        return "candidates", "candidate_ids"

    def heads(self) -> list[int]:
        """How many candidates of every rank have a partner."""
        return [len(next(iter(s.values()))) for s in self.shards]

    def whole(self, name: str, tail_last: bool) -> Tensor:
        """The global argument: one rank after the other; candidates' further ones behind all paired ones."""
        parts = [s[name] for s in self.shards]
        if not tail_last or name not in self.with_partners:
            return torch.cat(parts)
        heads = self.heads()
        ahead = [p[:h] for p, h in zip(parts, heads, strict=True)]
        return torch.cat(ahead + [p[h:] for p, h in zip(parts, heads, strict=True)])


def in_one_process(
    loss: nn.Module, batch: Batch, tail_last: bool = True
) -> tuple[Any, dict[str, Tensor]]:
    """The loss of the global batch, and the gradients of its embeddings."""
    whole = {name: batch.whole(name, tail_last) for name in batch.shards[0]}
    leaves = {n: x.clone().requires_grad_() for n, x in whole.items() if x.is_floating_point()}
    value = loss(**{**whole, **leaves}, **batch.options)
    gradients = torch.autograd.grad(total(value), list(leaves.values()))
    return value, dict(zip(leaves, gradients, strict=True))


def on_this_rank(
    loss: nn.Module, batch: Batch, rank: int, ring: bool = False
) -> tuple[Any, dict[str, Tensor]]:
    """The loss across ranks, and the gradients of this rank's embeddings."""
    mine = batch.shards[rank]
    leaves = {n: x.clone().requires_grad_() for n, x in mine.items() if x.is_floating_point()}
    value = AcrossRanks(loss, ring=ring)(**{**mine, **leaves}, **batch.options)
    gradients = torch.autograd.grad(total(value), list(leaves.values()))
    return value, dict(zip(leaves, gradients, strict=True))


def total(value: Any) -> Tensor:
    """Something to differentiate: of terms a sum that tells them apart."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value[1], Tensor):
        return total(value[0])
    weights = [torch.arange(1.0, len(part) + 1, dtype=part.dtype) for part in value]
    return sum((part * w).sum() for part, w in zip(value, weights, strict=True))


def own_rows(batch: Batch, name: str, whole: Tensor, rank: int, tail_last: bool = True) -> Tensor:
    """This rank's rows of a global tensor."""
    lengths = [len(s[name]) for s in batch.shards]
    if not tail_last or name not in batch.with_partners:
        return whole.split(lengths)[rank]
    heads = batch.heads()
    ahead, behind = whole[: sum(heads)], whole[sum(heads) :]
    tails = [n - h for n, h in zip(lengths, heads, strict=True)]
    return torch.cat([ahead.split(heads)[rank], behind.split(tails)[rank]])


def assert_global(
    rank: int, size: int, loss: nn.Module, batch: Batch, ring: bool = False, tail_last: bool = True
) -> None:
    """Across ranks as in one process: the value on every rank, the gradients of this rank's rows."""
    torch.manual_seed(3)
    expected, gradients = in_one_process(loss, batch, tail_last)
    torch.manual_seed(3 + rank)
    found, mine = on_this_rank(loss, batch, rank, ring)
    close = {"rtol": 1e-9, "atol": 1e-9}
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a, b, **close)
    assert gradients.keys() == mine.keys()
    for name, whole in gradients.items():
        share = own_rows(batch, name, whole, rank, tail_last)
        torch.testing.assert_close(mine[name] / size, share, **close)


def flat(value: Any) -> list[Tensor]:
    """The tensors of a loss's output, statistics included."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [x for part in value for x in flat(part)]
    return [torch.as_tensor(x) for x in value.as_dict().values()]


def numbers(rows: int, width: int, seed: int) -> Tensor:
    """Random embeddings, each row of another length, without touching torch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return x * torch.rand(rows, 1, generator=generator, dtype=torch.float64).add(0.5)


def paired_batch(size: int, extra: bool = False, ids: bool = False, seed: int = 0) -> Batch:
    """Queries with their candidates (and further ones), some ids met on several ranks."""
    shards = []
    for rank, n in enumerate(SIZES[size]):
        m = n + (rank % 2 + 1 if extra else 0)
        shard = {
            "queries": numbers(n, 4, seed + 10 * rank),
            "candidates": numbers(m, 4, seed + 10 * rank + 1),
        }
        if ids:
            shard["query_ids"] = (torch.arange(n) + rank) % 5
            shard["candidate_ids"] = (torch.arange(m) + rank) % 5
        shards.append(shard)
    return Batch(shards)


def labelled_batch(size: int, reference: bool = False, seed: int = 0) -> Batch:
    """One labelled set, or two; every label is met on several ranks."""
    shards = []
    for rank, n in enumerate(SIZES[size]):
        shard = {
            "embeddings": numbers(n, 4, seed + 10 * rank),
            "labels": (torch.arange(n) + rank) % 3,
        }
        if reference:
            m = 5 - rank
            shard["reference"] = numbers(m, 4, seed + 10 * rank + 1)
            shard["reference_labels"] = (torch.arange(m) * 2 + rank) % 3
        shards.append(shard)
    return Batch(shards)
