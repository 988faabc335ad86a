"""``ClipLoss`` and ``SigLipLoss`` of open_clip, with any negatives and without the matrix of logits.

open_clip itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from hardneg.checks import check_choice
from hardneg.distributed.across_ranks import AcrossRanks
from hardneg.integrations.scaled import check_scaled, with_scale
from hardneg.losses.base import PairLoss
from hardneg.losses.info_nce import InfoNCELoss
from hardneg.losses.sigmoid import SigmoidLoss

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["ClipLoss", "SigLipLoss"]


class ScaledLoss(nn.Module):
    """A loss on pairs called as open_clip calls its own.

    Attributes:
        loss: the choices; its temperature and bias are replaced by what a call is given.
        world_size: beyond 1, the loss is that of all ranks' rows.
    """

    def __init__(self, loss: PairLoss, world_size: int) -> None:
        super().__init__()
        self.loss, self.world_size = check_scaled(loss), world_size

    def forward(
        self,
        image_features: Float[Tensor, "n d"],
        text_features: Float[Tensor, "n d"],
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
        *,
        ids: Int[Tensor, "n"] | None = None,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            image_features, text_features: n x d, row i of both belong together.
            logit_scale: by which scores are multiplied: the exponential of the model's parameter.
            logit_bias: added to them.
            output_dict: return ``{"contrastive_loss": value}``.
            ids: n integers; pairs of equal ids, such as captions of one image, are no negatives of each other.

        Returns:
            The loss of the rows of all ranks, the same on every rank; the average of the ranks' gradients, which
            DistributedDataParallel takes, is its gradient.
        """
        scaled = with_scale(self.loss, logit_scale, logit_bias)
        loss = AcrossRanks(scaled) if self.world_size > 1 else scaled
        value = loss(image_features, text_features, query_ids=ids, candidate_ids=ids)
        if isinstance(logit_bias, Tensor) and not hasattr(scaled, "bias"):
            # a parameter without any gradient stops DistributedDataParallel
            value = value + 0 * logit_bias.sum()
        return {"contrastive_loss": value} if output_dict else value


class ClipLoss(ScaledLoss):
    """open_clip's ``ClipLoss``, by default with its values and gradients.

    Over several ranks it is the loss of the global batch, as open_clip's with ``gather_with_grad=True``.

    Args:
        local_loss, gather_with_grad, cache_labels, rank: as there, and without effect: the gradients are exact in any
            case, and no rank computes more than the scores of its own rows.
        world_size: number of ranks, whose process group must have been started.
        use_horovod: False.
        loss: a loss on pairs with a temperature, which a call's ``logit_scale`` replaces. None:
            ``InfoNCELoss(similarity="dot")``; negatives are chosen here: ``InfoNCELoss(negatives=TopK(64))``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Radford et al. (CLIP), ICML 2021.

    Example:
        >>> import torch
        >>> images, texts = (torch.nn.functional.normalize(torch.randn(8, 4)) for _ in "ab")
        >>> value = ClipLoss()(images, texts, logit_scale=torch.tensor(14.3))
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        *,
        loss: PairLoss | None = None,
    ) -> None:
        if use_horovod:
            raise ValueError(
                "use_horovod=True: ranks are those of torch.distributed, as under torchrun"
            )
        super().__init__(InfoNCELoss(similarity="dot") if loss is None else loss, world_size)


class SigLipLoss(ScaledLoss):
    """open_clip's ``SigLipLoss``, by default with its gradients, and its value in one process.

    Over several ranks the value is that of the global batch on every rank; open_clip's are each rank's share, of
    which it is the mean.

    Args:
        cache_labels, rank, dist_impl: as there, and without effect.
        world_size: number of ranks, whose process group must have been started.
        loss: a loss on pairs with a temperature, which a call's ``logit_scale`` replaces, as ``logit_bias`` does its
            bias. None: ``SigmoidLoss(similarity="dot")``.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.

    Example:
        >>> import torch
        >>> images, texts = (torch.nn.functional.normalize(torch.randn(8, 4)) for _ in "ab")
        >>> value = SigLipLoss()(images, texts, logit_scale=10.0, logit_bias=-10.0)
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: Literal["bidir", "shift", "reduce", "gather"] | None = None,
        *,
        loss: PairLoss | None = None,
    ) -> None:
        if dist_impl is not None:
            check_choice("dist_impl", dist_impl, ("bidir", "shift", "reduce", "gather"))
        super().__init__(SigmoidLoss(similarity="dot") if loss is None else loss, world_size)
