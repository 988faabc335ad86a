"""Losses on pairs for the ``Trainer`` of transformers and models of images and texts, such as CLIP and SigLIP.

Imported on demand: ``pip install 'hardneg[transformers]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hardneg.checks import check_type
from hardneg.extras import require
from hardneg.integrations.over_ranks import over_ranks
from hardneg.integrations.scaled import check_scaled, has_temperature, with_scale
from hardneg.losses.base import PairLoss

if TYPE_CHECKING:
    from jaxtyping import Int

require("transformers", "transformers", "hardneg.integrations.transformers")
require("accelerate", "transformers", "the Trainer of transformers")

from transformers import Trainer  # noqa: E402, behind the message for those who lack it

__all__ = ["ContrastiveTrainer", "loss_of_outputs"]


class ContrastiveTrainer(Trainer):
    """A ``Trainer`` of models that return ``image_embeds`` and ``text_embeds``, with a loss of this package.

    Over several ranks the loss is that of all ranks' rows (``AcrossRanks``), whose gradients are exact; the models' own
    losses compare the rows of each rank alone. A model's ``logit_scale`` and ``logit_bias`` take the place of the
    loss's temperature and bias and are trained on.

    Args:
        arguments, options: of ``Trainer``.
        loss: on pairs: ``InfoNCELoss()`` for CLIP's loss, ``SigmoidLoss()`` for SigLIP's, or with other negatives.
        ids: the name of a column of integers, such as image ids; pairs of equal ids are no negatives of each other.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> from hardneg import InfoNCELoss, TopK
        >>> loss = InfoNCELoss(negatives=TopK(64))
        >>> trainer = ContrastiveTrainer(model, args, loss=loss, train_dataset=pairs)  # doctest: +SKIP
    """

    def __init__(
        self, *arguments: Any, loss: PairLoss, ids: str | None = None, **options: Any
    ) -> None:
        check_type("loss", loss, PairLoss)
        check_type("ids", ids, str, type(None))
        super().__init__(*arguments, **options)
        self.contrastive_loss, self.ids = loss, ids
        if has_scale(self.model) and has_temperature(loss):
            check_scaled(loss)
        loss.to(self.args.device)
        # evaluation reports the loss of inputs without labels; it is a mean, divided by the steps of accumulation
        self.can_return_loss, self.model_accepts_loss_kwargs = True, False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of a batch; see ``Trainer``."""
        given = {name: x for name, x in inputs.items() if name not in (self.ids, "return_loss")}
        ids = None if self.ids is None else inputs[self.ids]
        outputs = model(**given)
        plain = self.accelerator.unwrap_model(model)
        value = loss_of_outputs(self.contrastive_loss, outputs, plain, ids)
        return (value, outputs) if return_outputs else value

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the column of ids, which the model does not take."""
        super()._set_signature_columns_if_needed()
        known: Any = self._signature_columns
        if self.ids is not None and self.ids not in known:
            known.append(self.ids)

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """See ``Trainer``; the loss's own parameters are trained too."""
        optimizer = super().create_optimizer(*arguments, **options)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = [
            p for p in self.contrastive_loss.parameters() if p.requires_grad and id(p) not in held
        ]
        if own:
            optimizer.add_param_group({"params": own, "weight_decay": 0.0})
        return optimizer


def loss_of_outputs(
    loss: PairLoss, outputs: Any, model: Any, ids: Int[Tensor, "n"] | None = None
) -> Tensor:
    """Compute the loss of a model's outputs over all ranks, for a ``compute_loss`` of your own.

    Args:
        loss: on pairs.
        outputs: with ``image_embeds`` and ``text_embeds``, n x d.
        model: unwrapped; its ``logit_scale`` and ``logit_bias``, if any, replace the loss's temperature and bias.
        ids: n integers; pairs of equal ids are no negatives of each other.
    """
    images, texts = outputs["image_embeds"], outputs["text_embeds"]
    scale = model.logit_scale.exp() if has_scale(model) else None
    bias = getattr(model, "logit_bias", None)
    scaled = scale is not None and has_temperature(loss)
    used = with_scale(loss, scale, bias) if scale is not None and scaled else loss
    value: Tensor = over_ranks(used)(images, texts, query_ids=ids, candidate_ids=ids)
    unused = [] if scaled or scale is None else [scale]
    if bias is not None and not (scaled and hasattr(used, "bias")):
        unused.append(bias)
    # a parameter without any gradient stops DistributedDataParallel
    return value + 0 * torch.stack([x.sum() for x in unused]).sum() if unused else value


def has_scale(model: Any) -> bool:
    """Whether a model learns a scale of the scores."""
    return isinstance(getattr(model, "logit_scale", None), Tensor)
