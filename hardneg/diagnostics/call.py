"""``LossCall``: a call of a loss that is looked at again, without gradients."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from hardneg.diagnostics.observation import Scored
from hardneg.distributed.all_gather import AllGather
from hardneg.distributed.ring import Ring
from hardneg.distributed.sharded_rows import ShardedRows
from hardneg.losses.base import LabelLoss, PairLoss
from hardneg.losses.inputs import compare_labelled
from hardneg.losses.mined import MinedByLoss, MinedTerms, PairArguments, relation_in
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.negatives import Negatives, Selection
from hardneg.ops.backends import bind
from hardneg.ops.comparison import Comparison
from hardneg.ops.requests import Search
from hardneg.ops.scores import Scores

__all__ = ["LossCall", "loss_within"]

POSITIVES = 8
"""How many positives of an anchor with many are looked at, drawn by a fixed seed."""


def loss_within(module: nn.Module) -> PairLoss | LabelLoss:
    """The loss of this library that a module is, or wraps: ``AcrossRanks``, ``Matryoshka``, a compiled one.

    Of a loss across ranks it compares the rows of this rank alone, so that no rank waits for another.

    Raises:
        TypeError: where there is none.
    """
    found: Any = module
    while not isinstance(found, PairLoss | LabelLoss):
        found = getattr(found, "_orig_mod", None) or getattr(found, "loss", None)
        if found is None:
            raise TypeError(
                f"loss is {module!r}: expected a loss of this library with mined(...), or a wrapper of one"
            )
    if isinstance(found.backend, AllGather | Ring):
        found = copy.copy(found)
        found.backend = found.backend.backend
    loss: PairLoss | LabelLoss = found
    return loss


@dataclass(frozen=True, eq=False, repr=False)
class LossCall:
    """A loss and the arguments of a call, by name.

    Attributes:
        loss: without wrappers.
        given: its arguments, detached, without ``return_stats``.
    """

    loss: PairLoss | LabelLoss
    given: dict[str, Any]

    @classmethod
    def of(cls, module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> LossCall:
        """The call ``module(*arguments, **options)``."""
        loss = loss_within(module)
        bound = inspect.signature(loss.forward).bind(*arguments, **options).arguments
        given = {**bound, **bound.pop("renamed", {})}
        given.pop("return_stats", None)
        if any(isinstance(x, ShardedRows) for x in given.values()):
            raise TypeError(
                "diagnostics are attached to the loss inside AcrossRanks: attach them to the AcrossRanks module, "
                "diagnostics.attach(AcrossRanks(loss))"
            )
        return cls(loss, {name: detached(x) for name, x in given.items() if x is not None})

    @property
    def sides(self) -> tuple[Tensor, Tensor | None]:
        """Queries and candidates; None for one set."""
        if "queries" in self.given:
            return self.given["queries"], self.given["candidates"]
        return self.given["embeddings"], self.given.get("reference")

    @property
    def strategy(self) -> Negatives:
        """The negatives of this call."""
        return self.loss.check_negatives(self.given.get("negatives", self.loss.negatives))

    def value_and_statistics(self) -> tuple[Any, MiningStatistics]:
        """What the loss returns with ``return_stats=True``."""
        found = self.loss.forward(**self.given, return_stats=True)
        return cast("tuple[Any, MiningStatistics]", found)

    def at_means(self) -> Any:
        """What the loss returns where every row is the mean of its side."""
        names = ("queries", "candidates", "embeddings", "reference", "own_negatives")
        means = {name: mean_rows(self.given[name]) for name in names if name in self.given}
        return self.loss.forward(**{**self.given, **means})

    def mined(self, negatives: Negatives) -> MinedByLoss:
        """The negatives that the loss chooses by a strategy; those of the queries where directions are joint."""
        loss = self.loss
        if loss.directions == "joint":
            loss = copy.copy(loss)
            loss.directions = "queries"
        given = {name: x for name, x in self.given.items() if name != "weights"}
        return loss.mined(**{**given, "negatives": negatives})

    def comparison(self) -> Comparison:
        """The scores' sides and relation, without own negatives and guide."""
        given = self.given
        if isinstance(self.loss, PairLoss):
            relation = relation_in(cast("PairArguments", given))
            return self.loss.compared(given["queries"], given["candidates"], relation)
        names = ("labels", "reference", "reference_labels")
        labels, reference, others = (given.get(name) for name in names)
        masks = given.get("positive_mask"), given.get("ignore_mask"), given.get("same_set", False)
        sides = given["embeddings"], labels, reference, others
        return compare_labelled(*sides, self.loss.similarity, *masks)

    def scored(self, mined: MinedByLoss) -> list[Scored]:
        """Scores of positives and negatives, by direction."""
        scores = bind(self.loss.backend, self.comparison())
        found = []
        if mined.queries is not None:
            found.append(Scored(positive_scores(scores, mined.queries), mined.queries.scores))
        if mined.candidates is not None:
            swapped = scores.swapped()
            own = positive_scores(swapped, mined.candidates)
            found.append(Scored(own, mined.candidates.scores))
        return found


def positives_of(scores: Scores, mined: MinedTerms, order: str = "random") -> Tensor:
    """Positives of each row, t x p; -1 where there is none: the one it is compared with, or some of the anchor's."""
    if mined.positives is not None:
        return mined.positives[:, None]
    k = POSITIVES if order == "random" else 1
    seed = torch.zeros((), dtype=torch.long, device=scores.device)
    search = Search(Selection(order, k), "positives", seed=seed, columns=False)
    return scores.select(search).rows.index_select(0, mined.anchors)


def positive_scores(scores: Scores, mined: MinedTerms) -> Tensor:
    """Their scores; -inf where there is none."""
    index = positives_of(scores, mined)
    found = scores.pairs(mined.anchors[:, None].expand_as(index), index)
    return torch.where(index >= 0, found, -torch.inf)


def detached(x: Any) -> Any:
    """A tensor, or a tuple of some, without its graph."""
    if isinstance(x, tuple):
        return tuple(detached(one) for one in x)
    return x.detach() if isinstance(x, Tensor) else x


def mean_rows(x: Tensor) -> Tensor:
    """The mean row in place of every row."""
    mean = x.flatten(0, -2).mean(0)
    return mean.expand(x.shape).contiguous()
