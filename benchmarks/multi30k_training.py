"""How the towers of ``benchmarks.multi30k`` are trained: pairs of captions, negatives of a query's own, the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.multi30k_captions import BUCKETS, Bags, Split
from hardneg import InfoNCELoss, PositiveAware, TopK, mine

BATCH, RANDOM, MINED = "the batch alone", "4 random beside it", "4 mined beside it"


@dataclass(frozen=True)
class Budget:
    """What every run has; an epoch is a number of pairs."""

    epoch: int = 1 << 16
    first: int = 4
    then: int = 2
    later_rate: float = 0.3
    width: int = 64
    temperature: float = 0.05
    own: int = 4
    share: float = 0.95


class Tower(nn.Module):
    """A sum of vectors of words and their parts, normalised, one hidden layer beside a projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, width, mode="sum")
        # small, so that few steps with large batches move them
        nn.init.normal_(self.bag.weight, std=0.02)
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, buckets: Tensor, offsets: Tensor) -> Tensor:
        x = self.norm(self.bag(buckets, offsets))
        return F.normalize(self.fc(x) + self.hidden(x))


@torch.no_grad()
def embedded(tower: nn.Module, bags: Bags, rows: Tensor | None = None) -> Tensor:
    rows = torch.arange(len(bags)) if rows is None else rows
    return torch.cat([tower(*bags[some]) for some in rows.split(4096)])


def towers(width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"en": Tower(width), "de": Tower(width)})


@dataclass(frozen=True)
class Pairs:
    """Pairs of an epoch: rows of English and of German captions, and of each query's own German negatives."""

    english: Tensor
    german: Tensor
    own: Tensor | None = None

    def batches(self, size: int) -> Iterator[Pairs]:
        for at in range(0, len(self.english) // size * size, size):
            here = slice(at, at + size)
            own = None if self.own is None else self.own[here]
            yield Pairs(self.english[here], self.german[here], own)


def drawn(data: Split, number: int) -> Pairs:
    """Random English captions, each once, with a random German one of the same picture."""
    english = torch.randperm(len(data["en"].bags))[:number]
    return Pairs(english, data["de"].one_of(data["en"].images[english]))


def with_own(pairs: Pairs, model: nn.ModuleDict, data: Split, way: str, budget: Budget) -> Pairs:
    """The pairs with negatives of each query, from one caption of every picture: row i is of picture i."""
    if way == BATCH:
        return pairs
    english, german = data["en"], data["de"]
    corpus = german.one_of(german.images.unique())
    if way == RANDOM:
        own = torch.randint(len(corpus), (len(pairs.english), budget.own))
        return Pairs(pairs.english, pairs.german, corpus[own])
    found = mine(
        embedded(model["en"], english.bags, pairs.english),
        embedded(model["de"], german.bags, corpus),
        TopK(budget.own, PositiveAware(budget.share)),
        positives=english.images[pairs.english],
    )
    # where fewer are found the positive stands in, which its id leaves out
    own = torch.where(found.indices >= 0, corpus[found.indices], pairs.german[:, None])
    return Pairs(pairs.english, pairs.german, own)


def loss_of(model: nn.ModuleDict, data: Split, batch: Pairs, loss: InfoNCELoss) -> Tensor:
    """The loss of a batch; a caption that is a negative of several queries is embedded once."""
    english, german = data["en"], data["de"]
    ids = english.images[batch.english]
    given = {"query_ids": ids, "candidate_ids": ids}
    sides = model["en"](*english.bags[batch.english]), model["de"](*german.bags[batch.german])
    if batch.own is not None:
        captions, place = batch.own.unique(return_inverse=True)
        given["own_negatives"] = model["de"](*german.bags[captions])[place]
        given["own_negative_ids"] = german.images[batch.own]
    return loss(*sides, **given)


def train(
    model: nn.ModuleDict, data: Split, plan: tuple[str, int, int, float], budget: Budget
) -> None:
    """So many epochs in one way: (way, epochs, batch size, learning rate)."""
    way, epochs, size, rate = plan
    loss = InfoNCELoss(budget.temperature)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-4, fused=True)
    steps = epochs * (budget.epoch // size)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        pairs = with_own(drawn(data, budget.epoch), model, data, way, budget)
        for batch in pairs.batches(size):
            value = loss_of(model, data, batch, loss)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            pace.step()
