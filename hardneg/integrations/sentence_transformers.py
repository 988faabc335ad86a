"""Losses on pairs, and on labels, for the trainer of sentence-transformers.

Imported on demand: ``pip install 'hardneg[sentence-transformers]'``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hardneg.checks import check_choice, check_count, check_type
from hardneg.distributed.across_ranks import AcrossRanks
from hardneg.distributed.collectives import Ranks, resolve_ranks
from hardneg.extras import require
from hardneg.integrations.fingerprints import fingerprints
from hardneg.integrations.over_ranks import in_process_group, over_ranks
from hardneg.integrations.related_rows import RelatedRows
from hardneg.losses.base import LabelLoss, PairLoss
from hardneg.training.grad_cache import GradCache

require(
    "sentence_transformers", "sentence-transformers", "hardneg.integrations.sentence_transformers"
)

__all__ = ["HardNegLoss"]

Features = Mapping[str, Any]
"""What the model takes for one column."""


class HardNegLoss(nn.Module):
    """A loss of this package as a loss of sentence-transformers.

    For a loss on pairs the columns are ``anchor``, ``positive``, ``negative_1``, ..., in this order, whatever their
    names. The negatives are those of their anchor alone (``own_negatives``). Rows that share a text, as anchor or
    positive, directly or through other rows, are related: neither is a negative of the other, and no text of theirs in
    a column of negatives is one of either. A ``NO_DUPLICATES`` sampler is not needed.
    ``InfoNCELoss(0.05, directions="queries")`` on pairs without repeated texts is MultipleNegativesRankingLoss.
    For a loss on labels there is one column of texts, and ``label``.

    Args:
        model: a ``SentenceTransformer``.
        loss: any loss of this package on pairs or on labels, or ``Matryoshka`` around one. Its parameters (a
            temperature) are trained with the model's.
        negative_columns: whose negatives those of columns are: ``"own"``: of their anchor; ``"shared"``: of
            every anchor of the batch, as in MultipleNegativesRankingLoss.
        skip_repeated: whether rows that share a text are left out; texts are compared by their tokens, with the prompt.
        gather_across_devices: compute the loss of the rows of all ranks (``AcrossRanks``), exactly; in one process
            it makes no difference.
        mini_batch_size: rows that are encoded at a time by gradient caching (``GradCache``); None: all at once.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> from hardneg import InfoNCELoss, TopK
        >>> loss = HardNegLoss(model, InfoNCELoss(0.05, TopK(8)), mini_batch_size=32)  # doctest: +SKIP
        >>> trainer = SentenceTransformerTrainer(model, loss=loss, train_dataset=pairs)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        *,
        negative_columns: Literal["own", "shared"] = "own",
        skip_repeated: bool = True,
        gather_across_devices: bool = False,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_type("model", model, nn.Module)
        check_choice("negative_columns", negative_columns, ("own", "shared"))
        for name, x in (
            ("skip_repeated", skip_repeated),
            ("gather_across_devices", gather_across_devices),
        ):
            check_type(name, x, bool)
        if mini_batch_size is not None:
            check_count("mini_batch_size", mini_batch_size)
        self.model, self.loss, self.on_labels = model, loss, is_on_labels(loss)
        self.negative_columns, self.skip_repeated = negative_columns, skip_repeated
        self.gather_across_devices = gather_across_devices
        self.mini_batch_size = mini_batch_size
        # by which sentence-transformers knows losses whose backward pass encodes again
        self.uses_gradient_cache = mini_batch_size is not None

    def forward(
        self, sentence_features: Iterable[Features], labels: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of a batch.

        Args:
            sentence_features: the model's input of each column.
            labels: of a loss on labels; other losses ignore them.
        """
        columns = list(sentence_features)
        # before the model, whose modules add to the features
        given = self.given(columns, labels)
        loss = over_ranks(self.loss) if self.gather_across_devices else self.loss
        bound = partial(self.value, loss, given)
        encoder = SentenceEmbedding(self.model)
        if self.mini_batch_size is None:
            return bound(*(encoder(**column) for column in columns))
        cache = GradCache(*[encoder] * len(columns), chunk_size=self.mini_batch_size)
        return cache(bound, *columns)

    def given(self, columns: list[Features], labels: Tensor | None) -> dict[str, Tensor]:
        """What the loss is told beside the embeddings: labels, or ids of anchors, positives and negatives."""
        if self.on_labels:
            if len(columns) != 1 or labels is None:
                raise ValueError(
                    f"{len(columns)} columns {'with' if labels is not None else 'without'} labels: a loss on labels "
                    "takes one column of texts and a column label"
                )
            return {"labels": labels.flatten()}
        if len(columns) < 2:
            raise ValueError(
                f"{len(columns)} column: a loss on pairs takes an anchor, a positive and any number of negatives"
            )
        return self.ids(columns)

    @torch.no_grad()
    def ids(self, columns: list[Features]) -> dict[str, Tensor]:
        """Ids by text, of the batch of all ranks."""
        ranks = self.ranks()
        if self.skip_repeated:
            texts = [fingerprints(column) for column in columns]
            related = RelatedRows.of_texts(texts[0], texts[1], ranks)
        else:
            rows = rows_of(columns[0])
            related = RelatedRows.of_places(len(rows), rows.device, ranks)
            texts = [related.rows] * len(columns)
        found = {"query_ids": related.rows, "candidate_ids": related.rows}
        if len(columns) == 2:
            return found
        negatives = related.of(torch.stack(texts[2:]))
        if self.negative_columns == "own":
            return {**found, "own_negative_ids": negatives.T.contiguous()}
        return {**found, "candidate_ids": torch.cat([related.rows, negatives.flatten()])}

    def ranks(self) -> Ranks | None:
        """The processes whose rows the loss is of; None for this one alone."""
        return resolve_ranks(None) if self.gather_across_devices and in_process_group() else None

    def value(self, loss: nn.Module, given: dict[str, Tensor], *embeddings: Tensor) -> Tensor:
        """The loss of the embeddings of all columns."""
        first, *others = embeddings
        sides = [first] if self.on_labels else [first, others[0]]
        more: dict[str, Tensor] = {}
        if "own_negative_ids" in given:
            more = {"own_negatives": torch.stack(others[1:], 1)}
        elif len(others) > 1:
            sides = [first, torch.cat(others)]
        found: Tensor = loss(*sides, **more, **given)
        return found

    def get_config_dict(self) -> dict[str, Any]:
        """The choices, for the model card."""
        names = "negative_columns", "skip_repeated", "gather_across_devices", "mini_batch_size"
        return {"loss": repr(self.loss), **{name: getattr(self, name) for name in names}}


class SentenceEmbedding(nn.Module):
    """The model with its input by name and its embeddings as a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **features: Any) -> Tensor:
        """One embedding a sample."""
        found: Tensor = self.model(features)["sentence_embedding"]
        return found


def is_on_labels(loss: nn.Module) -> bool:
    """Whether it takes labels rather than pairs.

    Raises:
        TypeError, ValueError: for anything that is no loss of this package, or one that gathers by itself.
    """
    inner: Any = loss
    while not isinstance(inner, PairLoss | LabelLoss):
        if isinstance(inner, AcrossRanks):
            raise ValueError(
                "loss is AcrossRanks: pass the loss itself and gather_across_devices=True, so that repeated texts "
                "are known on all ranks too"
            )
        inner = getattr(inner, "loss", None)
        if inner is None:
            raise TypeError(
                f"loss is {loss!r}: expected a loss of hardneg on pairs or labels, such as InfoNCELoss(0.05)"
            )
    return isinstance(inner, LabelLoss)


def rows_of(features: Features) -> Tensor:
    """A tensor with an entry a sample."""
    if "cu_seq_lens_q" in features:
        ends: Tensor = features["cu_seq_lens_q"]
        return ends[1:]
    some = ("offsets", "attention_mask", "input_ids")
    named = (features[name] for name in some if name in features)
    others = (x for x in features.values() if isinstance(x, Tensor) and x.dim())
    found: Tensor = next(chain(named, others))
    return found
