"""Captions as bags of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.encoders.joint_space import finish, projection
from hardneg.encoders.pooling import valid_steps
from hardneg.encoders.text import check_captions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["BagEncoder"]


class BagEncoder(nn.Module):
    """The sum of word vectors, normalised and projected: the order of words is not read.

    ``normalize(head(fc(drop(norm(sum of embed(words)) / sqrt(count)))))`` over the words of a caption. Far
    faster than a recurrent network, and on few captions as good.

    Args:
        vocabulary_size: the number of word ids; 0 is padding.
        embed_dim: the width of the joint space.
        word_dim: the width of the word vectors.
        head: a module behind the projection, such as ``ResidualMLP(embed_dim)``.
        drop: the chance that a training step drops a number of the pooled word vector.
        word_drop: the chance that a training step leaves out a word; at least one stays.
        normalize: L2-normalise the result; not as a part of ``SumEncoder``.
        absolute: take the absolute value at the end.

    Example:
        >>> encoder = BagEncoder(vocabulary_size=100, embed_dim=16, word_dim=8)
        >>> encoder(torch.randint(1, 100, (4, 7)), torch.tensor([7, 3, 5, 1])).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        vocabulary_size: int,
        embed_dim: int = 1024,
        word_dim: int = 300,
        *,
        head: nn.Module | None = None,
        drop: float = 0.0,
        word_drop: float = 0.0,
        normalize: bool = True,
        absolute: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dim, self.word_drop = embed_dim, word_drop
        self.normalize, self.absolute = normalize, absolute
        self.embed = nn.Embedding(vocabulary_size, word_dim)
        nn.init.normal_(self.embed.weight, std=word_dim**-0.5)
        self.norm, self.drop = nn.LayerNorm(word_dim), nn.Dropout(drop)
        self.fc = projection(word_dim, embed_dim)
        self.head = nn.Identity() if head is None else head

    def forward(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Embed captions: ``words`` padded at the end; ``lengths`` at least 1."""
        check_captions(words, lengths, self.embed.num_embeddings)
        kept = self.kept(words, lengths).to(self.embed.weight.dtype).unsqueeze(2)
        total = (self.embed(words) * kept).sum(1) / kept.sum(1).sqrt()
        embedded = self.head(self.fc(self.drop(self.norm(total))))
        return finish(embedded, self.normalize, self.absolute)

    def kept(self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]) -> Tensor:
        """Which words count: those of the caption, while training but for the dropped ones."""
        valid = valid_steps(words.unsqueeze(2), lengths)
        if not self.training or self.word_drop == 0.0:
            return valid
        kept = valid & (torch.rand(words.shape, device=words.device) >= self.word_drop)
        kept[:, 0] |= ~kept.any(1)
        return kept
