"""Mining without a loss: which candidates a strategy would take as negatives.

``mine`` for embeddings in memory.
"""

from hardneg.mining.in_memory import Mined, mine

__all__ = ["Mined", "mine"]
