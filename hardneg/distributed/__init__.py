"""Losses over the rows of all ranks of a process group."""

from hardneg.distributed.across_ranks import AcrossRanks

__all__ = ["AcrossRanks"]
