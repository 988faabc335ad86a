"""Mining without a loss: which candidates a strategy would take as negatives.

``mine`` for embeddings in memory, ``CorpusMiner`` for a corpus on disk.
"""

from hardneg.mining.belonging import rows_of
from hardneg.mining.corpus import CorpusMiner
from hardneg.mining.formats import Written, training_rows, write_training_rows
from hardneg.mining.in_memory import Mined, mine
from hardneg.mining.mined_rows import MinedBlock, MinedRows
from hardneg.mining.ray_data import RayData
from hardneg.mining.rows import Parquet
from hardneg.mining.search import Block, Request, TopLists, merge, search_block
from hardneg.mining.searchers import AcrossProcesses, ApproximateIndex, InProcess, Searcher
from hardneg.mining.unlabelled import FalseNegatives, LikelyPositive, false_negatives

__all__ = [
    "AcrossProcesses",
    "ApproximateIndex",
    "Block",
    "CorpusMiner",
    "FalseNegatives",
    "InProcess",
    "LikelyPositive",
    "Mined",
    "MinedBlock",
    "MinedRows",
    "Parquet",
    "RayData",
    "Request",
    "Searcher",
    "TopLists",
    "Written",
    "false_negatives",
    "merge",
    "mine",
    "rows_of",
    "search_block",
    "training_rows",
    "write_training_rows",
]
