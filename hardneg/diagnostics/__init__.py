"""Seeing what mining does during training: scores, hardness, hubs, collapse, likely false negatives.

``Diagnostics`` watches a loss in a training loop; ``hubness`` and ``spread`` measure any embeddings.
"""

from hardneg.diagnostics.histogram import Histogram, histogram
from hardneg.diagnostics.hubs import Hubness, hubness
from hardneg.diagnostics.observation import Observation
from hardneg.diagnostics.recorder import Diagnostics
from hardneg.diagnostics.spreading import Spread, spread

__all__ = [
    "Diagnostics",
    "Histogram",
    "Hubness",
    "Observation",
    "Spread",
    "histogram",
    "hubness",
    "spread",
]
