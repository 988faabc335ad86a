"""Losses in other libraries' forms over the rows of two ranks: as theirs, and as in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pair_models import Features, batch, clip, inputs, siglip
from process_groups import ProcessGroups
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hardneg import InfoNCELoss, Learned, Matryoshka, SigmoidLoss
from hardneg.integrations.open_clip import ClipLoss, SigLipLoss

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
PAIRS: list[tuple[Callable[[], Any], Any]] = [
    (clip, InfoNCELoss()),
    (siglip, SigmoidLoss()),
]


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def of_features(loss: Any, rows: slice = slice(None), wrap: Any = nn.Identity) -> list[Tensor]:
    model = Features()
    wrapped = DistributedDataParallel(model) if wrap is DistributedDataParallel else model
    value = loss(**wrapped(*(x[rows] for x in inputs())))
    value.backward()
    return [value.detach(), *gradients(model)]


def open_clip_on_rank(rank: int, size: int, beside_theirs: bool) -> list[list[list[Tensor]]]:
    rows, told = slice(6 * rank, 6 * rank + 6), {"rank": rank, "world_size": size}
    losses: list[list[Any]] = [[ClipLoss(**told)], [SigLipLoss(**told)]]
    if beside_theirs:
        from open_clip import loss as theirs

        losses[0].append(theirs.ClipLoss(gather_with_grad=True, **told))
        losses[1].append(theirs.SigLipLoss(dist_impl="gather", **told))
    return [[of_features(x, rows, DistributedDataParallel) for x in both] for both in losses]


def test_open_clips_form_has_the_loss_of_all_rows(groups: ProcessGroups) -> None:
    ranks = groups(2)(open_clip_on_rank, False)
    for which, loss in enumerate([ClipLoss(), SigLipLoss()]):
        for rank in ranks:
            torch.testing.assert_close(rank[which][0], of_features(loss), **CLOSE)


@pytest.mark.full
def test_equals_open_clip(groups: ProcessGroups) -> None:
    """Importing it on every rank takes long."""
    pytest.importorskip("open_clip.loss", reason="what it is compared with: open_clip_torch")
    ranks = groups(2)(open_clip_on_rank, True)
    for which in range(2):
        mean = (ranks[0][which][1][0] + ranks[1][which][1][0]) / 2
        for rank in ranks:
            ours, theirs = rank[which]
            torch.testing.assert_close(ours, [mean, *theirs[1:]], **CLOSE)


def transformers_on_rank(rank: int, size: int) -> list[list[Tensor]]:
    from hardneg.integrations.transformers import loss_of_outputs

    found = []
    for make, loss in PAIRS:
        model = make()
        wrapped = DistributedDataParallel(model)
        half = {name: x[4 * rank : 4 * rank + 4] for name, x in batch().items()}
        value = loss_of_outputs(loss, wrapped(**half), model)
        value.backward()
        found.append([value.detach(), *gradients(model)])
    return found


def test_models_of_transformers_have_the_loss_of_all_rows(
    groups: ProcessGroups,
) -> None:
    pytest.importorskip("transformers", reason="whose models they are: hardneg[transformers]")
    expected = []
    for make, _ in PAIRS:
        model = make()
        try:
            value = model(**batch(), return_loss=True)["loss"]
        except RuntimeError as error:  # of 4.48
            pytest.skip(f"this release of transformers makes no mask in float64: {error}")
        value.backward()
        expected.append([value.detach(), *gradients(model)])
    for found in groups(2)(transformers_on_rank):
        torch.testing.assert_close(found, expected, **CLOSE)


class Step(nn.Module):
    """What Lightning's strategies wrap."""

    def __init__(self, chunk_size: int | None) -> None:
        from hardneg.integrations.lightning import ContrastiveModule

        super().__init__()
        features = Features()
        loss, towers = (
            InfoNCELoss(Learned(0.1), "hardest").double(),
            (features.images, features.texts),
        )
        self.module = ContrastiveModule(*towers, loss, chunk_size=chunk_size)

    def forward(self, *given: Tensor) -> Tensor:
        value: Tensor = self.module.loss_of(given, False)[0]
        return value


def lightning_on_rank(rank: int, size: int) -> list[list[Tensor]]:
    rows, found = slice(0, 5) if rank == 0 else slice(5, 12), []
    for chunk_size in (None, 2):
        step = Step(chunk_size)
        given = (*inputs(), torch.arange(12) // 2)
        wrapped = DistributedDataParallel(step)
        value = wrapped(*(x[rows] for x in given))
        value.backward()
        found.append([value.detach(), *gradients(step)])
    return found


def test_a_module_of_lightning_has_the_loss_of_all_rows(groups: ProcessGroups) -> None:
    pytest.importorskip("lightning", reason="hardneg[lightning]")
    ranks, step = groups(2)(lightning_on_rank), Step(None)
    value = step(*inputs(), torch.arange(12) // 2)
    value.backward()
    for rank in ranks:
        for found in rank:
            torch.testing.assert_close(found, [value.detach(), *gradients(step)], **CLOSE)


class Bag(nn.Module):
    """The mean of the tokens' embeddings, in the form of sentence-transformers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(30, 6).double()

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"][..., None]
        found = (self.words(features["input_ids"]) * mask).sum(1) / mask.sum(1)
        return {**features, "sentence_embedding": found}


def columns(rows: slice) -> list[dict[str, Tensor]]:
    """Anchor, positive and two negatives of eight rows, of which texts come twice, also on different ranks."""
    tokens = torch.randint(0, 30, (4, 8, 3), generator=torch.Generator().manual_seed(2))
    tokens[0, 6], tokens[1, 2], tokens[0, 4] = tokens[0, 1], tokens[1, 7], tokens[1, 5]
    tokens[2, 0], tokens[3, 7] = tokens[1, 6], tokens[0, 2]
    mask = torch.ones_like(tokens)
    return [
        {"input_ids": t[rows], "attention_mask": m[rows]} for t, m in zip(tokens, mask, strict=True)
    ]


FORMS: list[dict[str, Any]] = [
    {"negative_columns": "own"},
    {"negative_columns": "own", "mini_batch_size": 2},
    {"negative_columns": "shared"},
    {"negative_columns": "shared", "skip_repeated": False},
]


def of_sentences(form: dict[str, Any], rows: slice, wrap: bool, matryoshka: bool) -> list[Tensor]:
    from hardneg.integrations.sentence_transformers import HardNegLoss

    loss: nn.Module = InfoNCELoss(Learned(0.1), directions="queries").double()
    if matryoshka:
        loss = Matryoshka(loss, (6, 2))
    model = Bag()
    used = DistributedDataParallel(model) if wrap else model
    value = HardNegLoss(used, loss, gather_across_devices=True, **form)(columns(rows))
    value.backward()
    return [value.detach(), *gradients(model), *gradients(loss)]


def sentences_on_rank(rank: int, size: int) -> list[list[Tensor]]:
    rows = slice(0, 5) if rank == 0 else slice(5, 8)
    return [of_sentences(form, rows, True, place == 0) for place, form in enumerate(FORMS)]


def test_sentences_have_the_loss_of_all_rows(groups: ProcessGroups) -> None:
    pytest.importorskip("sentence_transformers", reason="hardneg[sentence-transformers]")
    ranks = groups(2)(sentences_on_rank)
    for place, form in enumerate(FORMS):
        expected = of_sentences(form, slice(None), False, place == 0)
        for rank in ranks:
            torch.testing.assert_close(rank[place], expected, **CLOSE)
    values = [float(found[0]) for found in ranks[0]]
    assert values[3] > values[2] + 1e-3
