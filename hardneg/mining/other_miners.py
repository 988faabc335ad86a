"""Keywords of miners of other libraries: what to write instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, Self, TypeVar

__all__ = ["NamesKeywords", "names_keywords"]

P = ParamSpec("P")
R = TypeVar("R")

TOP_K = "write TopK(8) as negatives, for the 8 hardest"
WINDOW = "write RankWindow(start, stop) as negatives"
MARGIN = (
    "write TopK(8, Ceiling(offset=-0.1)) as negatives, for those that score 0.1 below the positive"
)
CALLED = (
    "it belongs to the call of a CorpusMiner, as in miner(queries, corpus, folder, positives=...)"
)
ON_DISK = "it belongs to CorpusMiner(negatives, memory='2GiB'), which mines rows on disk"
POSITIVES = (
    "write positives=, row numbers of the corpus; hardneg.mining.rows_of makes them of names"
)
FAISS = (
    "mine searches exactly; CorpusMiner(searcher=ApproximateIndex(index)) asks an index of faiss"
)
BLOCKS = "blocks are sized by themselves; CorpusMiner(memory='2GiB') bounds what is held"
ELSEWHERE = {
    **dict.fromkeys(("k", "top_k", "topk", "num_negatives", "n_negatives"), TOP_K),
    **dict.fromkeys(("range_min", "range_max"), WINDOW),
    **dict.fromkeys(("margin", "absolute_margin"), MARGIN),
    "relative_margin": "write TopK(8, PositiveAware(0.95)) as negatives, for a relative margin of 0.05",
    "ceiling": "it belongs to the strategy, as in TopK(8, Ceiling(0.95))",
    "sampling_strategy": "write RandomK(8) or TopK(8) as negatives",
    **dict.fromkeys(("max_similarity", "score_threshold"), "write max_score="),
    "min_similarity": "write min_score=",
    **dict.fromkeys(("positive_ids", "positive_indices"), POSITIVES),
    **dict.fromkeys(("exclude_ids", "exclude_indices"), "write exclude=, as row numbers"),
    **dict.fromkeys(("labels", "ids"), "write query_ids= and candidate_ids="),
    **dict.fromkeys(("corpus_ids", "document_ids"), "write candidate_ids="),
    **dict.fromkeys(("candidates", "documents", "passages"), "write corpus"),
    **dict.fromkeys(("distance", "metric", "similarity_fct"), "write similarity="),
    "cross_encoder": "write CorpusMiner(rescore=function)",
    **dict.fromkeys(("use_faiss", "faiss_batch_size", "index"), FAISS),
    "output_format": "write hardneg.mining.write_training_rows(found, path, 'triplet')",
    **dict.fromkeys(("batch_size", "chunk_size", "mini_batch_size"), BLOCKS),
    **dict.fromkeys(("memory", "rescore", "rescored", "searcher", "progress", "device"), ON_DISK),
    **dict.fromkeys(("queries", "corpus", "folder", "positives", "exclude", "texts"), CALLED),
    **dict.fromkeys(("query_ids", "candidate_ids", "same_set"), CALLED),
}
"""Keywords of other libraries, such as those of sentence-transformers' ``mine_hard_negatives``."""


def refuse_unknown(owner: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise for a keyword of another library.

    Raises:
        TypeError: as Python does for unexpected keywords, with what to write instead.
    """
    for name in given:
        if name not in known and name in ELSEWHERE:
            raise TypeError(
                f"{owner} got an unexpected keyword argument {name!r}: {ELSEWHERE[name]}"
            )


def names_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The function, where keywords of other libraries are told what to write instead."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **named: P.kwargs) -> R:
        refuse_unknown(function.__qualname__, named, known)
        return function(*args, **named)

    return checked


class NamesKeywords:
    """A class whose constructor does so."""

    def __new__(cls, *choices: Any, **named: Any) -> Self:
        """Refuse keywords of other libraries."""
        refuse_unknown(cls.__name__, named, inspect.signature(cls).parameters)
        return super().__new__(cls)
