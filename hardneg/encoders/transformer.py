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
        finetune: train the backbone too; otherwise its parameters are frozen, and it stays in evaluation mode.
        word_drop: the chance that a training step replaces a token by ``unknown_id``.
        unknown_id: the id that stands for a hidden token.
        absolute: take the absolute value at the end (order embeddings).
        head: a module behind the pooling, such as ``ResidualMLP(embed_dim)``.
        drop: the chance that a training step drops a number of the backbone's states.

    The word ids come from the backbone's own tokenizer, padded at the end.
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        embed_dim: int = 1024,
        *,
        pooling: str | nn.Module = "mean",
        finetune: bool = True,
        word_drop: float = 0.0,
        unknown_id: int = 0,
        absolute: bool = False,
        head: nn.Module | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        network: Any = load_pretrained(backbone) if isinstance(backbone, str) else backbone
        self.backbone = network
        self.embed_dim, self.absolute = embed_dim, absolute
        self.fc = projection(network.config.hidden_size, embed_dim)
        self.pool = pooling_named(pooling)
        self.head, self.drop = nn.Identity() if head is None else head, nn.Dropout(drop)
        self.finetune, self.word_drop, self.unknown_id = finetune, word_drop, unknown_id
        if not finetune:
            network.requires_grad_(False)
        self.train()

    def forward(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Embed captions of ``lengths`` tokens each, padded at the end to ``t``."""
        steps = torch.arange(words.shape[1], device=words.device)
        valid = (steps < lengths.to(words.device).unsqueeze(1)).long()
        words = self.drop_words(words)
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            states = self.backbone(input_ids=words, attention_mask=valid).last_hidden_state
        pooled = self.head(self.pool(self.fc(self.drop(states)), lengths))
        return finish(pooled, True, self.absolute)

    def drop_words(self, words: Int[Tensor, "n t"]) -> Int[Tensor, "n t"]:
        """Hide each token with chance ``word_drop``, while training."""
        if not self.training or self.word_drop == 0.0:
            return words
        hidden = torch.rand(words.shape, device=words.device) < self.word_drop
        return words.masked_fill(hidden, self.unknown_id)

    def train(self, mode: bool = True) -> TransformerTextEncoder:
        """Switch to training; a frozen backbone does not follow."""
        super().train(mode)
        self.backbone.train(mode and self.finetune)
        return self


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
