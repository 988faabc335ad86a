"""What surrounds a loss in training: memory queues, gradient caching, batch samplers."""

from hardneg.training.batch_sampler import EpochBatches
from hardneg.training.grad_cache import GradCache
from hardneg.training.memory_queue import MemoryQueue
from hardneg.training.samplers import ClassBatches, NeighbourBatches, UniqueIdBatches

__all__ = [
    "ClassBatches",
    "EpochBatches",
    "GradCache",
    "MemoryQueue",
    "NeighbourBatches",
    "UniqueIdBatches",
]
