"""Several text towers as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hardneg.encoders.joint_space import finish

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["SumEncoder"]


class SumEncoder(nn.Module):
    """The sum of what several towers make of the same words, normalised: ``normalize(a(words) + b(words))``.

    A bag of words beside a recurrent network, for example: what words there are is learnt soon, their order
    on top of it.

    Args:
        towers: encoders that do not normalise themselves (``normalize=False``), all of one ``embed_dim``.
        absolute: take the absolute value at the end (order embeddings).

    Example:
        >>> bag = BagEncoder(100, embed_dim=16, word_dim=8, normalize=False)
        >>> gru = TextEncoder(100, embed_dim=16, word_dim=8, normalize=False)
        >>> SumEncoder([bag, gru])(torch.randint(1, 100, (4, 7)), torch.tensor([7, 3, 5, 1])).shape
        torch.Size([4, 16])
    """

    def __init__(self, towers: list[nn.Module], *, absolute: bool = False) -> None:
        super().__init__()
        widths = [getattr(one, "embed_dim", None) for one in towers]
        if not towers or None in widths or len(set(widths)) > 1:
            raise ValueError(
                f"the towers' embed_dim are {widths}: expected one width, at least once"
            )
        self.towers, self.absolute = nn.ModuleList(towers), absolute
        self.embed_dim = int(widths[0] or 0)

    def forward(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Embed captions: ``words`` padded at the end; ``lengths`` at least 1."""
        total = torch.stack([tower(words, lengths) for tower in self.towers]).sum(0)
        return finish(total, True, self.absolute)
