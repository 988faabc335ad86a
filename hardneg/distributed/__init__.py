"""Losses over the rows of all ranks of a process group."""

from hardneg.distributed.across_ranks import AcrossRanks
from hardneg.distributed.lost_ranks import LostRankError, lost_ranks, naming_lost_ranks

__all__ = ["AcrossRanks", "LostRankError", "lost_ranks", "naming_lost_ranks"]
