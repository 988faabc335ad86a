"""Captions read by a HuggingFace text network."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hardneg.encoders.joint_space import finish, projection
from hardneg.encoders.pooling import pooling_named

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["TransformerTextEncoder"]


class TransformerTextEncoder(nn.Module):
    """A transformer, a projection, a pooling, an L2 norm (VSE-infinity's text tower with BERT).

    Args:
        backbone: a model name or folder that ``transformers.AutoModel`` knows, or a module that
            returns an object with ``last_hidden_state`` and has ``config.hidden_size``.
        embed_dim: the width of the joint space.
        pooling: ``"mean"``, ``"max"``, ``"last"``, ``"gpo"`` or a module.
        absolute: take the absolute value at the end (order embeddings).

    The word ids come from the backbone's own tokenizer, padded at the end.
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        embed_dim: int = 1024,
        *,
        pooling: str | nn.Module = "mean",
        absolute: bool = False,
    ) -> None:
        super().__init__()
        network: Any = load_pretrained(backbone) if isinstance(backbone, str) else backbone
        self.backbone = network
        self.embed_dim, self.absolute = embed_dim, absolute
        self.fc = projection(network.config.hidden_size, embed_dim)
        self.pool = pooling_named(pooling)

    def forward(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Embed captions of ``lengths`` tokens each, padded at the end to ``t``."""
        steps = torch.arange(words.shape[1], device=words.device)
        valid = (steps < lengths.to(words.device).unsqueeze(1)).long()
        states = self.backbone(input_ids=words, attention_mask=valid).last_hidden_state
        return finish(self.pool(self.fc(states), lengths), True, self.absolute)


def load_pretrained(name: str) -> nn.Module:
    """The named transformer, or an error that says what to install."""
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a named text backbone needs transformers: pip install 'hardneg[transformers]', "
            "or pass a module of your own"
        ) from error
    network: nn.Module = transformers.AutoModel.from_pretrained(name)
    return network
