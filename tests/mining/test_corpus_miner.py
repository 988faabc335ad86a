"""``CorpusMiner`` against ``mine``, whatever the blocks and wherever the rows are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import SMALL, STRATEGIES, Problem, files, in_memory, problem, run

from hardneg import Ceiling, Hardest, RankWindow, SemiHard, TopK, mine
from hardneg.mining import (
    Block,
    CorpusMiner,
    MinedRows,
    Parquet,
    Request,
    TopLists,
    corpus,
    merge,
    rows_of,
    search_block,
)
from hardneg.similarities import Cosine, resolve_similarity

SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")


def in_blocks(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]) -> None:
    monkeypatch.setattr(corpus, "block_sizes", lambda *_: sizes)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("negatives", STRATEGIES, ids=str)
def test_equals_mine_whatever_the_blocks(
    negatives: Any, similarity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = problem()
    expected = in_memory(given, negatives, similarity, max_score=0.9)
    scores = []
    for sizes in ((37, 211), (11, 29), (36, 210)):
        in_blocks(monkeypatch, sizes)
        miner = CorpusMiner(negatives, similarity, max_score=0.9)
        found = miner(given.queries, given.corpus, tmp_path / str(sizes), **given.known)
        assert found.indices.equal(expected.indices)
        assert found.counts.equal(expected.counts)
        torch.testing.assert_close(found.scores, expected.scores)
        scores.append(found.scores)
    assert all(one.equal(scores[0]) for one in scores)


@pytest.mark.parametrize("sizes", [(37, 1), (1, 211), (5, 7), (2, 33)])
def test_blocks_of_every_odd_size(
    sizes: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = problem(12)
    expected = in_memory(given, TopK(3, Ceiling(0.95)))
    in_blocks(monkeypatch, sizes)
    miner = CorpusMiner(TopK(3, Ceiling(0.95)))
    found = miner(given.queries, given.corpus, tmp_path, **given.known)
    assert found.indices.equal(expected.indices)


@pytest.mark.parametrize("negatives", [Hardest(), SemiHard(fallback="none"), TopK(500)], ids=str)
def test_further_strategies(negatives: Any, tmp_path: Path) -> None:
    given = problem(3)
    found = CorpusMiner(negatives, memory=SMALL)(
        given.queries, given.corpus, tmp_path, **given.known
    )
    expected = in_memory(given, negatives)
    assert found.indices.equal(expected.indices)
    assert found.short == int((expected.counts < found.k).sum())
    assert len(found) == 37


def test_every_row_alike_takes_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More ties than there are places beside those wanted."""
    queries, rows = torch.randn(5, 16), torch.randn(1, 16).expand(400, 16) * 3
    in_blocks(monkeypatch, (2, 90))
    found = CorpusMiner(TopK(6))(queries, rows, tmp_path, exclude=[[0, 1], [2], [], [399], [5]])
    assert found.indices[:3].tolist() == [
        [2, 3, 4, 5, 6, 7],
        [0, 1, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 5],
    ]


def test_products_that_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a product in float32 is noise, by which rows would be ranked and bounds missed."""
    g = torch.Generator().manual_seed(1)
    large = 1000 * torch.randn(1, 16, generator=g)
    q, c = large.repeat(9, 2), torch.cat([large, -large], 1).repeat(150, 1)
    q[:, 3] += torch.rand(9, generator=g) / 1000
    c[:, :2] += torch.randn(150, 2, generator=g) / 10_000
    scores = (q.double() @ c.double().T).float()
    assert ((q @ c.T).argsort() != scores.argsort()).float().mean() > 0.9
    limit = scores.median().item()
    for sizes in ((9, 150), (4, 31)):
        in_blocks(monkeypatch, sizes)
        for most in (None, limit):
            miner = CorpusMiner(TopK(5), "dot", max_score=most)
            found = miner(q, c, tmp_path / f"{sizes}{most}")
            inside = scores if most is None else scores.masked_fill(scores >= limit, -torch.inf)
            expected = inside.sort(dim=1, descending=True, stable=True)
            assert found.scores.equal(expected.values[:, :5])
            there = expected.values[:, :5] > -torch.inf
            assert found.indices.equal(expected.indices[:, :5].where(there, -1))


def test_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 8)
    in_blocks(monkeypatch, (7, 9))
    found = CorpusMiner(TopK(49))(x, x, tmp_path, same_set=True)
    assert found.indices.equal(mine(x, x, TopK(49), same_set=True).indices)


def as_parquet(x: np.ndarray, path: Path, *, fixed: bool) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    from pyarrow import parquet

    values = arrow.array(x.reshape(-1))
    column = arrow.FixedSizeListArray.from_arrays(values, x.shape[1])
    if not fixed:
        column = column.cast(arrow.list_(values.type))
    table = arrow.table({"id": list(range(len(x))), "embedding": column})
    parquet.write_table(table, path, row_group_size=13)
    return path


def sources(x: torch.Tensor, folder: Path) -> Iterator[tuple[str, Any]]:
    """One set of rows in every form."""
    array, path = x.numpy(), folder / "rows.npy"
    np.save(path, array)
    yield "array", array
    yield "path", path
    yield "mapped", np.load(path, mmap_mode="r")
    yield "part of a mapped file", np.load(path, mmap_mode="r")[:]
    yield "iterator", iter([x[:10], array[10:11], x[11:]])
    yield "parquet", as_parquet(array, folder / "fixed.parquet", fixed=True)
    yield "lists", Parquet(as_parquet(array, folder / "lists.parquet", fixed=False), "embedding")


def test_rows_in_every_form(tmp_path: Path) -> None:
    given = problem(1)
    expected = run(given, tmp_path / "tensor")
    for name, source in sources(given.corpus, tmp_path):
        found = run(given._replace(corpus=source), tmp_path / name)
        assert files(found.folder) == files(expected.folder), name
        assert not list(found.folder.glob("*.rows")), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_types(dtype: torch.dtype, tmp_path: Path) -> None:
    given = problem(2)
    given = given._replace(queries=given.queries.to(dtype), corpus=given.corpus.to(dtype))
    found, expected = run(given, tmp_path), in_memory(given, TopK(4, Ceiling(0.95)))
    assert found.indices.equal(expected.indices)
    assert found.scores.dtype == expected.scores.dtype


def test_ids_that_are_a_part_of_an_array(tmp_path: Path) -> None:
    given = problem(13)
    ids = {
        name: given.known[name].numpy().repeat(2)[::2] for name in ("query_ids", "candidate_ids")
    }
    found = run(given._replace(known=given.known | ids), tmp_path)
    assert found.indices.equal(in_memory(given, TopK(4, Ceiling(0.95))).indices)


def test_repeated_texts(tmp_path: Path) -> None:
    """Of one text only the first row can be a negative, and none where a positive or an exclusion has it."""
    scores = torch.tensor([[9.0, 8, 8, 7, 9, 6, 5, 7]])
    texts = ["a", "b", "b", "c", "a", "d", "e", "c"]
    queries, rows = torch.ones(1, 1), scores.T.contiguous()

    def found(name: str, **known: Any) -> list[int]:
        miner = CorpusMiner(TopK(3), "dot")
        return miner(queries, rows, tmp_path / name, texts=texts, **known).indices[0].tolist()

    assert found("none") == [0, 1, 3]
    assert found("positive", positives=[4]) == [1, 3, 5]
    assert found(
        "excluded",
        exclude=[
            [7],
        ],
    ) == [0, 1, 5]
    ids = {"query_ids": torch.tensor([1]), "candidate_ids": torch.tensor([0, 0, 1, 0, 0, 0, 0, 0])}
    assert found("by id", **ids) == [0, 3, 5]


def test_rows_of_names() -> None:
    assert rows_of(["x", "y", "z"], [["z"], [], ["x", "y"]]).tolist() == [[2, -1], [-1, -1], [0, 1]]
    with pytest.raises(ValueError, match="no row named 'w'"):
        rows_of(["x"], [["w"]])
    with pytest.raises(ValueError, match="1 names of the corpus are not unique"):
        rows_of(["x", "x"], [])


def test_merge_is_associative_and_ignores_order() -> None:
    given = problem(5, n=9, m=120)
    request = Request(6, Cosine(), given.known["exclude"])
    parts = [
        search_block(
            given.queries, Block(given.corpus[at : at + 30], torch.arange(at, at + 30)), request
        )
        for at in range(0, 120, 30)
    ]
    a, b, c, d = parts
    whole = search_block(given.queries, Block(given.corpus, torch.arange(120)), request)
    for found in (
        merge(merge(a, b), merge(c, d)),
        merge(d, merge(c, merge(b, a))),
        merge(merge(merge(b, d), a), c),
    ):
        assert all(x.equal(y) for x, y in zip(found, whole, strict=True))
    nothing = TopLists(torch.full_like(a.indices, -1), torch.full_like(a.scores, -torch.inf))
    assert all(x.equal(y) for x, y in zip(merge(nothing, a), a, strict=True))


class FlatIndex:
    """An exact index, as faiss's."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.ntotal = rows, len(rows)

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = (torch.from_numpy(x) @ self.rows.T).topk(min(k, self.ntotal))
        pad = (0, k - found.values.shape[1])
        rows = torch.nn.functional.pad(found.indices, pad, value=-1)
        return torch.nn.functional.pad(found.values, pad).numpy(), rows.numpy()


@pytest.mark.parametrize("flat", ["faiss", "our own"])
def test_an_index_with_the_same_filters(flat: str, tmp_path: Path) -> None:
    from hardneg.mining import ApproximateIndex

    given = problem(6)
    units = torch.nn.functional.normalize(given.corpus)
    if flat == "faiss":
        faiss = pytest.importorskip("faiss", reason="the index is faiss's")
        index = faiss.IndexFlatIP(units.shape[1])
        index.add(units.numpy())
    else:
        index = FlatIndex(units)
    known = given.known | {"texts": [str(row.tolist()) for row in given.corpus]}
    given = Problem(given.queries, given.corpus, known)
    expected = run(given, tmp_path / "exact")
    assert not expected.indices.equal(run(problem(6), tmp_path / "without texts").indices)
    found = run(given, tmp_path / "index", searcher=ApproximateIndex(index, 400))
    assert found.indices.equal(expected.indices)
    assert found.scores.equal(expected.scores)
    few = run(given, tmp_path / "few", searcher=ApproximateIndex(index, 5))
    assert few.short > expected.short


def test_rescored_by_a_function(tmp_path: Path) -> None:
    given = problem(7)
    other = torch.randn(37, 211, generator=torch.Generator().manual_seed(8)) - 3
    ceiling = Ceiling(0.9)
    asked = []

    def rescore(pairs: list[tuple[int, int]]) -> list[float]:
        asked.extend(pairs)
        return [other[pair].item() for pair in pairs]

    miner = CorpusMiner(
        RankWindow(1, 4, ceiling), memory=SMALL, rescore=rescore, rescored=10, min_score=-5.0
    )
    found = miner(given.queries, given.corpus, tmp_path, **given.known)
    first = in_memory(given, TopK(10)).indices
    for block in found.blocks():
        for i in range(len(block.counts)):
            query = block.start + i
            positives = block.positives_of(i)
            assert all(score == other[query, row].item() for row, score in positives)
            bound = ceiling(other[query, [row for row, _ in positives]].max()) if positives else 9
            rows = [row for row in first[query].tolist() if -5 < other[query, row] < bound]
            rows.sort(key=lambda row: -other[query, row].item())
            assert block.negatives_of(i) == [(row, other[query, row].item()) for row in rows[1:4]]
    assert len(asked) == len(set(asked))
    bad = CorpusMiner(TopK(4), rescore=lambda pairs: [0.0], rescored=10)
    with pytest.raises(ValueError, match="one finite number a pair"):
        bad(given.queries, given.corpus, tmp_path / "bad", **given.known)


def test_a_result_is_opened_again(tmp_path: Path) -> None:
    found = run(problem(), tmp_path)
    again = MinedRows(tmp_path)
    assert again.indices.equal(found.indices)
    assert "4 negatives of 37 queries" in repr(again)
    with pytest.raises(ValueError, match="no mining run"):
        MinedRows(tmp_path / "nowhere")


def test_a_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    run(problem(), tmp_path, progress=True)
    assert "90/90" in capfd.readouterr().err


def test_scores_are_those_of_float64(tmp_path: Path) -> None:
    given = problem(9)
    for similarity in SIMILARITIES:
        found = CorpusMiner(TopK(4), similarity)(given.queries, given.corpus, tmp_path / similarity)
        exact = resolve_similarity(similarity)(given.queries.double(), given.corpus.double())
        torch.testing.assert_close(
            found.scores, exact.gather(1, found.indices).float(), rtol=2e-7, atol=1e-9
        )
