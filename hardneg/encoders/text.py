"""Captions as word ids, read by a recurrent network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.encoders.joint_space import finish
from hardneg.encoders.packed_gru import gru_over_packed, pays
from hardneg.encoders.padded_gru import gru_over_padded
from hardneg.encoders.pooling import LastPool, pooling_named

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["TextEncoder"]


class TextEncoder(nn.Module):
    """Word embeddings, a GRU, a pooling, an L2 norm: the caption tower of VSE++ (section 3.1).

    The dense expression, for one caption of t words: ``normalize(pool(rnn(embed(words[:t]))))``,
    and its absolute value for order embeddings. Word vectors start uniform in [-0.1, 0.1].

    Args:
        vocabulary_size: the number of word ids; 0 is padding.
        embed_dim: the width of the joint space and of the GRU.
        word_dim: the width of the word vectors (300 in the paper).
        layers: stacked GRU layers.
        bidirectional: a BiGRU; the two directions are averaged, so the width stays ``embed_dim``.
        pooling: ``"last"`` (the paper), ``"mean"``, ``"max"``, ``"gpo"`` or a module.
        word_drop: the chance that a training step replaces a word by ``unknown_id`` (VSE-infinity
            drops 20 %).
        unknown_id: the id that stands for a word unknown to the vocabulary.
        normalize: L2-normalise the result; not as a part of ``SumEncoder``.
        absolute: take the absolute value at the end (Order0).
        head: a module behind the pooling, such as ``ResidualMLP(embed_dim)``.
        drop: the chance that a training step drops a number of the word vectors.

    Example:
        >>> encoder = TextEncoder(vocabulary_size=100, embed_dim=16, word_dim=8)
        >>> encoder(torch.randint(1, 100, (4, 7)), torch.tensor([7, 3, 5, 1])).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        vocabulary_size: int,
        embed_dim: int = 1024,
        word_dim: int = 300,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        pooling: str | nn.Module = "last",
        word_drop: float = 0.0,
        unknown_id: int = 3,
        normalize: bool = True,
        absolute: bool = False,
        head: nn.Module | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_dim, self.normalize, self.absolute = embed_dim, normalize, absolute
        self.head, self.drop = nn.Identity() if head is None else head, nn.Dropout(drop)
        self.word_drop, self.unknown_id = word_drop, unknown_id
        self.embed = nn.Embedding(vocabulary_size, word_dim)
        self.rnn = nn.GRU(
            word_dim, embed_dim, layers, batch_first=True, bidirectional=bidirectional
        )
        self.pool = pooling_named(pooling)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Embed captions: ``words`` padded at the end, in any order of length; ``lengths`` at
        least 1.
        """
        check_captions(words, lengths, self.embed.num_embeddings)
        inputs = self.drop(self.embed(self.drop_words(words)))
        states: Tensor | nn.utils.rnn.PackedSequence
        if torch.compiler.is_exporting():
            # Packing asks for the lengths' values, which an exported program does not have.
            states, final = gru_over_padded(self.rnn, inputs, lengths)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                inputs, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            if pays(self.rnn, inputs):
                states, final = gru_over_packed(self.rnn, packed)
            else:
                states, final = self.rnn(packed)
        pooled = self.head(self.pooled(states, final, lengths))
        return finish(pooled, self.normalize, self.absolute)

    def pooled(
        self,
        states: Tensor | nn.utils.rnn.PackedSequence,
        final: Float[Tensor, "directions n d"],
        lengths: Int[Tensor, " n"],
    ) -> Float[Tensor, "n d"]:
        """One vector a caption; the GRU's own final state is already the last valid one."""
        directions = 2 if self.rnn.bidirectional else 1
        if isinstance(self.pool, LastPool):
            return final[-directions:].mean(0)
        if not isinstance(states, Tensor):
            states = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0]
        n, steps, _ = states.shape
        found: Tensor = self.pool(states.reshape(n, steps, directions, -1).mean(2), lengths)
        return found

    def drop_words(self, words: Int[Tensor, "n t"]) -> Int[Tensor, "n t"]:
        """Replace each word by the unknown word with chance ``word_drop``, while training."""
        if not self.training or self.word_drop == 0.0:
            return words
        dropped = torch.rand(words.shape, device=words.device) < self.word_drop
        return words.masked_fill(dropped, self.unknown_id)


def check_captions(words: Tensor, lengths: Tensor, vocabulary_size: int) -> None:
    """Refuse shapes that the GRU would misread; contents are left to the reader of the data."""
    if words.ndim != 2 or lengths.shape != words.shape[:1]:
        raise ValueError(
            f"words are {tuple(words.shape)} and lengths {tuple(lengths.shape)}: "
            "expected (n, t) word ids, zero-padded at the end, and n lengths"
        )
    if words.dtype not in (torch.int32, torch.int64):
        raise TypeError(
            f"words are {words.dtype}: expected int64 ids below {vocabulary_size}, "
            "as a vocabulary gives them"
        )
