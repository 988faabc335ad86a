"""``CorpusMiner``: the negatives of every query among rows on disk, exactly, in bounded memory, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hardneg.checks import check_count, check_type
from hardneg.mining.belonging import Belonging, belonging_of
from hardneg.mining.folder import RunFolder
from hardneg.mining.in_memory import check_strategy, limits_of
from hardneg.mining.memory import block_sizes, bytes_of
from hardneg.mining.mined_rows import MinedRows
from hardneg.mining.other_miners import NamesKeywords, names_keywords
from hardneg.mining.rows import Rows, copy_rows, fingerprint, is_copied, open_rows
from hardneg.mining.run import Options, Rescore, Run
from hardneg.mining.searchers import Corpus, InProcess, Searcher
from hardneg.negatives import Negatives, NegativesName, resolve_negatives
from hardneg.similarities import Similarity, SimilarityName, is_builtin, resolve_similarity

__all__ = ["CorpusMiner"]


@dataclass(frozen=True)
class CorpusMiner(NamesKeywords):
    """Finds negatives of every query among the rows of a corpus on disk: exactly, and as ``mine`` does in memory.

    Args:
        negatives: a selection by highest score, by name or object: ``TopK(k, Ceiling(0.95))``,
            ``RankWindow(start, stop)``, ``Hardest()``; without a fallback.
        similarity: by name or object.
        min_score, max_score: only negatives with a score strictly between.
        memory: a bound on what is held beside the mapped files, as ``"2GiB"`` or in bytes.
        rescore: a function of a list of (query row, corpus row) pairs that returns their scores, in place of the
            similarity, for the positives and for the first ``rescored`` candidates of every query. Ceilings and
            bounds are then of these scores.
        rescored: how many candidates of every query are rescored.
        searcher: who searches: ``InProcess()``, ``AcrossProcesses()`` under torchrun, ``RayData()``,
            ``ApproximateIndex(index)``.
        progress: show a bar of tqdm.
        device: where scores are computed.

    A ceiling is that of the query's highest-scoring positive; a query without a positive has none.

    Source: positive-aware ceilings: Moreira et al., NV-Retriever, 2024.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from hardneg import Ceiling, TopK
        >>> queries, corpus = torch.randn(10, 16), torch.randn(1000, 16)
        >>> miner = CorpusMiner(TopK(4, Ceiling(0.95)))
        >>> with TemporaryDirectory() as folder:
        ...     found = miner(queries, corpus, folder, positives=torch.arange(10))
        ...     print(found.indices.shape)
        torch.Size([10, 4])
    """

    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName = "cosine"
    min_score: float | None = None
    max_score: float | None = None
    memory: str | int = "2GiB"
    rescore: Rescore | None = None
    rescored: int = 100
    searcher: Searcher = field(default_factory=InProcess)
    progress: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        similarity = resolve_similarity(self.similarity)
        if not is_builtin(similarity):
            raise TypeError(
                f"similarity is {self.similarity!r}: expected a name or a similarity object; mine takes callables"
            )
        strategy = check_strategy(resolve_negatives(self.negatives), similarity)
        selection = strategy.selection(1)
        assert selection is not None
        if selection.order != "highest" or selection.fallback != "none":
            raise ValueError(
                f"CorpusMiner does not take negatives {strategy!r}: it needs the highest-scoring ones, without a "
                'fallback, such as TopK(8) or SemiHard(fallback="none")'
            )
        limits_of(strategy, self.min_score, self.max_score)
        bytes_of(self.memory)
        check_count("rescored", self.rescored, 1 if self.rescore is None else selection.k)
        check_type("progress", self.progress, bool)
        for name, value in (("negatives", strategy), ("similarity", similarity)):
            object.__setattr__(self, name, value)

    @property
    def options(self) -> Options:
        """What a run is told."""
        strategy = resolve_negatives(self.negatives)
        selection = strategy.selection(1)
        assert selection is not None
        limits = limits_of(strategy, self.min_score, self.max_score)
        rescore = None if self.rescore is None else (self.rescore, self.rescored)
        return Options(
            selection,
            strategy.ceiling,
            self.similarity,
            limits,
            rescore,
            self.searcher,
            self.progress,
        )

    @names_keywords
    @torch.no_grad()
    def __call__(
        self,
        queries: Any,
        corpus: Any,
        folder: str | Path,
        *,
        positives: Any = None,
        exclude: Any = None,
        query_ids: Any = None,
        candidate_ids: Any = None,
        texts: Sequence[str] | None = None,
        same_set: bool = False,
    ) -> MinedRows:
        """Mine, or go on with the run of the same inputs and options that stopped in the folder.

        Args:
            queries, corpus: a path to ``.npy`` or ``.parquet`` (column ``embedding``), ``Parquet(path, column)``, an
                array, mapped or not, a tensor, or an iterator of blocks of rows. Parquet and iterators are copied
                to the folder for the time of the run.
            folder: for the finished blocks of queries, which are the result.
            positives: rows of the corpus that are positives of each query: n, n x p with -1 for none, or n lists;
                ``rows_of`` makes them of document names.
            exclude: rows of the corpus to leave out for each query, in the same forms.
            query_ids, candidate_ids: n and m integers; rows of the query's id are positives of it.
            texts: of the corpus: of rows with one text only the first can be a negative, and none that has the text
                of a positive or of an excluded row.
            same_set: row i of both is one sample, which is no negative of itself.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came; for a folder that holds a
                run with other inputs or options; for NaN.
            OSError: for a full disk. What was finished stays.
        """
        place = RunFolder(folder)
        self.searcher.told(place.hold)
        try:
            sources = {"queries": queries, "corpus": corpus}
            sides = {name: self.rows(name, source, place) for name, source in sources.items()}
            shape = check_sides(sides["queries"], sides["corpus"])
            ids = query_ids, candidate_ids
            belonging = belonging_of(shape, positives, exclude, ids, texts, same_set)
            self.mine(place, sides, belonging)
        finally:
            place.release()
        return MinedRows(place.path)

    def mine(self, place: RunFolder, sides: dict[str, Rows], belonging: Belonging) -> None:
        """Start a run, or go on with it."""
        self.check_ceiling(belonging)
        self.searcher.told(lambda: self.start(place, self.manifest(sides, belonging), belonging))
        self.run(place, sides, belonging).finish()
        self.searcher.told(place.remove_copies)

    def start(self, place: RunFolder, manifest: dict[str, Any], belonging: Belonging) -> None:
        """Check what can be told from the whole only, then start or go on."""
        if manifest["queries"] == manifest["corpus"] and belonging.knows_nothing:
            raise ValueError(
                "queries and corpus are the same rows, so every row would find itself: pass same_set=True, or ids"
            )
        place.start(manifest)

    def rows(self, name: str, source: Any, place: RunFolder) -> Rows:
        """The rows of one side."""
        if not is_copied(source):
            return open_rows(name, source)
        return self.searcher.told(lambda: copy_rows(name, source, place.copy_of(name)))

    def run(self, place: RunFolder, sides: dict[str, Rows], belonging: Belonging) -> Run:
        """The run in a folder that was started, or that goes on."""
        block_rows = place.open()["block_rows"]
        sizes = block_sizes(bytes_of(self.memory), sides["corpus"], self.options.places)
        ids, first = belonging.candidate_ids, belonging.first
        corpus = Corpus(sides["corpus"], sizes[1], ids, first, self.device)
        return Run(place, sides["queries"], corpus, belonging, self.options, block_rows)

    def check_ceiling(self, belonging: Belonging) -> None:
        """A ceiling needs positives."""
        if self.options.ceiling is not None and not belonging.knows_positives:
            raise ValueError(
                f"negatives {self.negatives!r} have a ceiling relative to the positive: pass positives, or query_ids "
                "and candidate_ids"
            )

    def manifest(self, sides: dict[str, Rows], belonging: Belonging) -> dict[str, Any]:
        """What a run is told by: its inputs and options."""
        corpus, options = sides["corpus"], self.options
        rescore = None if self.rescore is None else [name_of(self.rescore), self.rescored]
        return {
            "version": 1,
            "block_rows": block_sizes(bytes_of(self.memory), corpus, options.places)[0],
            "shape": [len(sides["queries"]), len(corpus), corpus.width],
            **{name: fingerprint(name, one) for name, one in sides.items()},
            "belonging": belonging.fingerprint(),
            "negatives": repr(self.negatives),
            "similarity": repr(self.similarity),
            "bounds": [self.min_score, self.max_score],
            "places": options.selection.k - options.selection.skip,
            "ceiling": options.ceiling is not None,
            "rescore": rescore,
            "search": self.searcher.name,
        }


def check_sides(queries: Rows, corpus: Rows) -> tuple[int, int]:
    """Rows of both, which are of one width."""
    if queries.width != corpus.width:
        raise ValueError(
            f"queries are {tuple(queries.array.shape)} but the corpus is {tuple(corpus.array.shape)}: project both to "
            "one width"
        )
    double = [rows.array.dtype == "float64" for rows in (queries, corpus)]
    if double[0] != double[1]:
        raise TypeError(
            f"queries are {queries.array.dtype} but the corpus is {corpus.array.dtype}: convert one of them"
        )
    return len(queries), len(corpus)


def name_of(function: Any) -> str:
    """By what a manifest knows a function."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
