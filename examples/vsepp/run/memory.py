"""How much memory a run needed."""

import resource
import sys

UNITS_IN_A_MIB = 2**20 if sys.platform == "darwin" else 2**10


def peak_memory_mib() -> float:
    """The most memory that this process has held (the system counts KiB; macOS counts bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNITS_IN_A_MIB
