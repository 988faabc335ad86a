"""What the ranks tell each other before a loss: how many rows each holds, and that they mean the same loss.

One all-gather of a few integers, so that a disagreement raises on every rank instead of hanging.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hardneg.checks import FLOATING, check_embeddings, check_ids, check_mask, check_type
from hardneg.distributed.collectives import Ranks
from hardneg.losses.own_negatives import check_own_embeddings, check_per_query
from hardneg.losses.weights import check_weights

__all__ = ["IDS", "MASKS", "OWN", "WEIGHTS", "Given", "agree"]

IDS = {
    "queries": "query_ids",
    "candidates": "candidate_ids",
    "embeddings": "labels",
    "reference": "reference_labels",
}
"""Arguments of the losses that are embeddings, and the argument with their ids."""

REQUIRED = ("queries", "candidates", "embeddings")
MASKS = ("positive_mask", "ignore_mask")
OWN = "own_negatives"
OWN_LISTS = ("own_negative_ids", "own_ignore_mask")
"""Arguments of a query's own negatives; its rows are those of the queries."""
WEIGHTS = "weights"
"""The argument with a number for each anchor."""

MUST_AGREE = {
    "width": "width",
    "number": "number a query",
    "dtype": "type",
    "gradient": "requires_grad",
}
"""Facts that must be the same on every rank, and what they are called in a message."""


@dataclass(frozen=True, eq=False, repr=False)
class Given:
    """The arguments of a call by kind.

    Attributes:
        embeddings, ids, masks: those that were given, by name.
        own: those about own negatives.
        guide: another model's embeddings of both sides; none or two.
        options: everything else.
    """

    embeddings: dict[str, Tensor]
    ids: dict[str, Tensor]
    masks: dict[str, Tensor]
    own: dict[str, Tensor]
    guide: tuple[Tensor, ...]
    options: dict[str, Any]

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> Given:
        """Sorted by name."""
        given = {name: x for name, x in arguments.items() if x is not None or name in REQUIRED}
        embeddings, ids, masks, own = (
            {n: given.pop(n) for n in names if n in given}
            for names in (IDS, IDS.values(), MASKS, (OWN, *OWN_LISTS, WEIGHTS))
        )
        guide = given.pop("guide", ())
        return cls(embeddings, ids, masks, own, guide, given)

    def check(self) -> None:
        """What can be told without the other ranks. An empty shard is not an error."""
        for name, x in self.embeddings.items():
            empty = isinstance(x, Tensor) and x.dim() == 2 and len(x) == 0
            check_embeddings(name, x.new_zeros(1, x.shape[1]) if empty else x)
            if IDS[name] in self.ids:
                check_ids(IDS[name], self.ids[IDS[name]], len(x), x.device)
        for name, mask in self.masks.items():
            check_type(name, mask, Tensor)
            if mask.dim() != 2:
                raise ValueError(
                    f"{name} has shape {tuple(mask.shape)}: expected this rank's rows by the candidates of "
                    "all ranks"
                )
            device = next(iter(self.embeddings.values())).device
            check_mask(name, mask, (mask.shape[0], mask.shape[1]), device)
        for x, own in zip(self.guide, self.embeddings.values(), strict=bool(self.guide)):
            if x.dim() != 2 or len(x) != len(own):
                raise ValueError(f"guide has shape {tuple(x.shape)}: expected ({len(own)}, g)")
        queries = self.embeddings.get("queries")
        if OWN in self.own and queries is not None:
            check_own_embeddings(self.own[OWN], queries)
        if WEIGHTS in self.own:
            check_weights(self.own[WEIGHTS], next(iter(self.embeddings.values())), "an anchor")
        for name in OWN_LISTS:
            if name in self.own and OWN in self.own and queries is not None:
                shape = self.own[OWN].shape[0], self.own[OWN].shape[1]
                check_per_query(name, self.own[name], shape, queries, mask=name == OWN_LISTS[1])

    def facts(self) -> dict[str, int]:
        """What the others need to know, the same names on every rank that calls the same loss."""
        facts = {}
        for name, x in self.embeddings.items():
            facts[f"rows of {name}"] = x.shape[0]
            facts[f"width of {name}"] = x.shape[1]
            facts[f"dtype of {name}"] = FLOATING.index(x.dtype)
            facts[f"gradient of {name}"] = learns(x)
        for name, mask in self.masks.items():
            facts[f"rows of {name}"], facts[f"columns of {name}"] = mask.shape
        if self.guide:
            facts["width of guide"] = self.guide[0].shape[1]
        if OWN in self.own:
            facts[f"number of {OWN}"] = self.own[OWN].shape[1]
            facts[f"gradient of {OWN}"] = learns(self.own[OWN])
        return facts


def learns(*tensors: Tensor) -> int:
    """Whether the backward reaches any of them: if so it sends, so it must on all ranks."""
    return int(torch.is_grad_enabled() and any(x.requires_grad for x in tensors))


def agree(loss: nn.Module, given: Given, ranks: Ranks) -> dict[str, list[int]]:
    """The facts of all ranks, each a list by rank.

    Raises:
        ValueError, TypeError: on every rank, where any rank's input is unsound or they disagree.
    """
    error: Exception | None = None
    try:
        given.check()
        facts = {**given.facts(), "gradient of the loss's parameters": learns(*loss.parameters())}
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as found:  # nested tensors refuse what they are asked
        error, facts = found, {}
    told = [int(error is None), digest(loss, given), *facts.values()]
    told += [0] * (MOST_FACTS - len(told))
    table = ranks.all_gather(torch.tensor(told, dtype=torch.long, device=ranks.device)).T.tolist()
    if error is not None:
        raise error
    check_sound(table[0])
    check_same_call(loss, table[1], ranks.rank)
    everyone = dict(zip(facts, table[2:], strict=False))
    check_same_kind(everyone)
    return everyone


MOST_FACTS = 20


def digest(loss: nn.Module, given: Given) -> int:
    """A number for the loss, its options and which arguments are given, alike in every process."""
    told = [repr(loss), *(f"{n}={v!r}" for n, v in sorted(vars(loss).items()) if plain(n))]
    told += [f"{n}={v!r}" for n, v in sorted(given.options.items())]
    told += [*given.embeddings, *given.ids, *given.masks, *given.own, f"guides {len(given.guide)}"]
    text = re.sub(r" at 0x[0-9a-f]+", "", "\n".join(told))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def plain(name: str) -> bool:
    """Whether an attribute of a module is one of the loss's own choices."""
    return not name.startswith("_") and name != "training"


def check_sound(sound: list[int]) -> None:
    """No rank has found its own input wrong."""
    bad = [rank for rank, ok in enumerate(sound) if not ok]
    if bad:
        raise ValueError(
            f"AcrossRanks: rank {bad[0]} was given wrong input; its own message says what"
        )


def check_same_call(loss: nn.Module, digests: list[int], rank: int) -> None:
    """One loss, one set of options, the same arguments."""
    other = next((r for r, number in enumerate(digests) if number != digests[rank]), None)
    if other is not None:
        raise ValueError(
            f"AcrossRanks: rank {other} calls another loss than rank {rank}, or the same with other options "
            f"or arguments: all ranks must make the same call; here it is {loss}"
        )


def check_same_kind(everyone: dict[str, list[int]]) -> None:
    """Embeddings of one width and type, with gradients on all ranks or on none."""
    for fact, values in everyone.items():
        kind, _, name = fact.partition(" of ")
        other = next((r for r, value in enumerate(values) if value != values[0]), None)
        if kind not in MUST_AGREE or other is None:
            continue
        first, second = (
            FLOATING[v] if kind == "dtype" else bool(v) if kind == "gradient" else v
            for v in (values[0], values[other])
        )
        raise ValueError(
            f"AcrossRanks: {name} have {MUST_AGREE[kind]} {first} on rank 0 but {second} on rank {other}: expected "
            "the same on every rank"
        )
