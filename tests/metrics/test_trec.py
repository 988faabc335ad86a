"""Runs and judgements as trec_eval reads them: sorted by score in float32, then by name, both falling."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hardneg import RandomK, TopK, mine
from hardneg.metrics import (
    Retrieved,
    from_scores,
    list_recall_at_k,
    map_at_k,
    ndcg,
    precision_at_k,
    ranks,
    top_candidates,
    write_trec_qrels,
    write_trec_run,
)
from hardneg.mining import CorpusMiner


def as_trec_eval_reads(text: str) -> dict[str, list[str]]:
    """Each query's candidates in the order of trec_eval 9: ``sim`` is a float, ties fall by docno."""
    lists: dict[str, list[tuple[np.float32, bytes]]] = {}
    for line in text.splitlines():
        query, q0, name, _, score, tag = line.split()
        assert (q0, tag) == ("Q0", "hardneg")
        lists.setdefault(query, []).append((np.float32(score), name.encode()))
    return {
        q: [name.decode() for _, name in sorted(found, reverse=True)] for q, found in lists.items()
    }


def judgements(text: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        query, zero, name, grade = line.split()
        assert zero == "0"
        found.setdefault(query, {})[name] = int(grade)
    return found


def written(write: Any, *arguments: Any, **options: Any) -> str:
    file = io.StringIO()
    write(file, *arguments, **options)
    return file.getvalue()


SCORES = {
    "equal": torch.full((3, 40), 0.25),
    "equal in float32": 0.5 + 1e-12 * torch.randn(3, 40, dtype=torch.float64),
    "around 0": torch.linspace(1e-45, -1e-45, 40).repeat(3, 1),
    "ties and steps": torch.tensor([1.0, 1 - 2**-24, 1 - 2**-24, 1 - 2**-23, 0.5]).repeat(3, 8),
    "huge": torch.tensor([1e300, 1e299, -1e300, -1e300], dtype=torch.float64).repeat(3, 10),
    "far apart": torch.randn(3, 40, dtype=torch.float64) * 10.0 ** torch.arange(-20, 20),
}


@pytest.mark.parametrize("kind", SCORES)
def test_the_order_of_the_lists_is_read(kind: str) -> None:
    """Names fall against rows, so that every tie would be seen."""
    scores = SCORES[kind]
    names = [f"doc{row:03}" for row in torch.randperm(40).tolist()]
    found = from_scores(top_candidates, scores, 40)
    exact = scores.double().numpy()
    expected = [sorted(range(40), key=lambda j, row=row: (-row[j], j)) for row in exact]
    assert found.indices.tolist() == expected
    text = written(write_trec_run, found, query_names=["a", "b", "c"], candidate_names=names)
    read = as_trec_eval_reads(text)
    assert [*read] == ["a", "b", "c"]
    for query, columns in zip(read.values(), expected, strict=True):
        assert query == [names[j] for j in columns]
    assert [line.split()[3] for line in text.splitlines()[:40]] == [str(r) for r in range(1, 41)]


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    q, c = (torch.randn(n, 6, generator=g).to(dtype) for n in (12, 30))
    gains = torch.randint(-4, 4, (12, 30), generator=g).clamp(min=0)
    return q, c, gains


def test_pytrec_eval_finds_the_values_of_the_metrics() -> None:
    trec = pytest.importorskip("pytrec_eval", reason="pytrec_eval is in the bench extra")
    q, c, gains = batch()
    run = written(write_trec_run, top_candidates(q, c, 30), tag="hardneg")
    truth = judgements(written(write_trec_qrels, gains))
    held: dict[str, dict[str, float]] = {}
    for line in run.splitlines():
        query, _, name, _, score, _ = line.split()
        held.setdefault(query, {})[name] = float(score)
    measures = {"ndcg", "ndcg_cut.5", "P.5", "recall.5", "recip_rank", "map"}
    read = trec.RelevanceEvaluator(truth, measures).evaluate(held)
    told: dict[str, Any] = {"relevance": gains, "per_query": True}
    expected = {
        "ndcg": ndcg(q, c, **told),
        "ndcg_cut_5": ndcg(q, c, k=5, **told),
        "P_5": precision_at_k(q, c, k=5, **told),
        "recall_5": list_recall_at_k(q, c, k=5, **told),
        "map": map_at_k(q, c, k=30, **told),
        "recip_rank": 1 / (ranks(q, c, relevance=gains).double() + 1),
    }
    for name, values in expected.items():
        for query, value in enumerate(values.tolist()):
            assert read[str(query)][name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "order"])
@pytest.mark.parametrize("k", [1, 7, 29, 30, 100])
def test_the_first_are_those_of_a_sort(similarity: str, k: int) -> None:
    """Of whole numbers, so that many tie."""
    q, c, _ = batch()
    q, c = q.mul(1.5).round(), c.mul(1.5).round()
    if similarity == "cosine":
        q, c = (x + 10 * torch.randn(x.shape) for x in (q, c))
    scores = {
        "cosine": lambda: torch.nn.functional.cosine_similarity(q[:, None], c, dim=2),
        "dot": lambda: q @ c.T,
        "euclidean": lambda: -(q[:, None] - c).square().sum(2),
        "order": lambda: -(c - q[:, None]).clamp(min=0).square().sum(2),
    }[similarity]()
    expected = scores.double().sort(dim=1, descending=True, stable=True).indices[:, :k]
    found = top_candidates(q, c, k, similarity=similarity)
    assert found.indices.equal(expected)
    assert found.scores.shape == (12, min(k, 30))
    one = top_candidates(c, c, k, similarity=similarity, same_set=True)
    assert one.indices.shape == (30, min(k, 29))
    assert not (one.indices == torch.arange(30)[:, None]).any()


def test_mined_lists(tmp_path: Path) -> None:
    q, c, _ = batch()
    names = [f"d{row}" for row in range(30)]
    found = mine(q, c, TopK(4), exclude=torch.arange(12))
    blocks = CorpusMiner(TopK(4), memory=10_240)(q, c, tmp_path / "run", exclude=torch.arange(12))
    texts = [written(write_trec_run, x, candidate_names=names) for x in (found, blocks)]
    for text in texts:
        read = as_trec_eval_reads(text)
        assert [[*map(names.index, x)] for x in read.values()] == found.indices.tolist()
    drawn = mine(q, c, RandomK(5))
    rising = as_trec_eval_reads(written(write_trec_run, drawn))
    for row, listed in enumerate(rising.values()):
        order = drawn.scores[row].argsort(descending=True)
        assert [*map(int, listed)] == drawn.indices[row][order].tolist()
    short = Retrieved(
        torch.tensor([[2, -1], [-1, -1], [-1, 0]]), torch.tensor([[0.5, -torch.inf]] * 3)
    )
    short.scores[2] = torch.tensor([-torch.inf, 0.25])
    assert written(write_trec_run, short) == "0 Q0 2 1 0.5 hardneg\n2 Q0 0 1 0.25 hardneg\n"


def test_a_file_is_whole_or_left_alone(tmp_path: Path) -> None:
    q, c, gains = batch()
    path = tmp_path / "run.txt"
    found = top_candidates(q, c, 5)
    write_trec_run(path, found)
    assert path.read_text() == written(write_trec_run, found)
    broken = Retrieved(found.indices, found.scores.clone())
    broken.scores[11, 2] = torch.nan
    with pytest.raises(ValueError, match=r"score of query 11 and candidate \d+ is nan"):
        write_trec_run(str(path), broken)
    assert path.read_text() == written(write_trec_run, found)
    write_trec_qrels(tmp_path / "qrels.txt", gains)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["qrels.txt", "run.txt"]


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_judgements() -> None:
    _, _, gains = batch()
    expected = {
        str(i): {str(j): int(g) for j, g in enumerate(row) if g} for i, row in enumerate(gains)
    }
    expected = {query: found for query, found in expected.items() if found}
    for matrix in (gains, gains.float(), gains.to_sparse_coo(), gains.float().to_sparse_csr()):
        assert judgements(written(write_trec_qrels, matrix)) == expected
    q_ids, c_ids = torch.arange(12) % 5, torch.arange(30) % 7
    by_ids = written(write_trec_qrels, query_ids=q_ids, candidate_ids=c_ids)
    assert by_ids == written(write_trec_qrels, q_ids[:, None] == c_ids)
    one = written(write_trec_qrels, query_ids=q_ids, same_set=True)
    same = (q_ids[:, None] == q_ids) & ~torch.eye(12, dtype=torch.bool)
    assert one == written(write_trec_qrels, same)
    assert one == written(write_trec_qrels, same | (torch.eye(12) > 0), same_set=True)


LISTS = Retrieved(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.25]]))
TWICE = Retrieved(torch.tensor([[0, 0]]), torch.tensor([[0.5, 0.25]]))
INFINITE = Retrieved(torch.tensor([[0, 1]]), torch.tensor([[torch.inf, 0.25]]))
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda f: write_trec_run(f, LISTS, candidate_names=["a b", "c"]), ValueError, "white space"),
    (lambda f: write_trec_run(f, LISTS, candidate_names=["a\u00a0b", "c"]), ValueError, "white"),
    (
        lambda f: write_trec_run(f, LISTS, candidate_names=["", "c"]),
        ValueError,
        r"names\[0\] is ''",
    ),
    (lambda f: write_trec_run(f, LISTS, candidate_names=["c", "c"]), ValueError, "both 'c'"),
    (lambda f: write_trec_run(f, LISTS, candidate_names=["1", 1]), ValueError, "both '1'"),
    (lambda f: write_trec_run(f, LISTS, candidate_names=["c"]), ValueError, "row 1 is listed"),
    (lambda f: write_trec_run(f, LISTS, candidate_names=[0.5, 1]), TypeError, "0.5"),
    (lambda f: write_trec_run(f, LISTS, candidate_names="ab"), TypeError, "is a string"),
    (lambda f: write_trec_run(f, LISTS, query_names=["a", "b"]), ValueError, "are 2: expected 1"),
    (lambda f: write_trec_run(f, LISTS, tag="my run"), ValueError, "tag is 'my run'"),
    (lambda f: write_trec_run(f, TWICE), ValueError, "query 0 lists candidate 0 twice"),
    (lambda f: write_trec_run(f, INFINITE), ValueError, "candidate 0 is inf"),
    (lambda f: write_trec_run(f, [[0, 1]]), TypeError, "found is a list"),
    (lambda f: write_trec_run(f, Retrieved(X[0].long(), X[0])), ValueError, "indices have shape"),
    (lambda f: write_trec_run(f, Retrieved(X.long(), X[0])), ValueError, "indices have shape"),
    (lambda f: write_trec_qrels(f), ValueError, "query_ids is missing"),
    (lambda f: write_trec_qrels(f, torch.ones(2, 2) / 2), ValueError, "no whole numbers"),
    (lambda f: write_trec_qrels(f, -torch.ones(2, 2)), ValueError, "no whole numbers"),
    (lambda f: write_trec_qrels(f, torch.ones(2)), TypeError, "relevance is"),
    (lambda f: write_trec_qrels(f, torch.ones(2, 2), query_names=["a"]), ValueError, "expected 2"),
    (
        lambda f: write_trec_qrels(f, torch.eye(2), query_ids=torch.arange(2)),
        ValueError,
        "both given",
    ),
    (lambda f: top_candidates(torch.eye(2), torch.eye(2), 0), ValueError, "k is 0"),
    (lambda f: top_candidates(X, X, 1), ValueError, "same tensor"),
]
X = torch.eye(2)


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        call(tmp_path / "file")
    assert [*tmp_path.iterdir()] == []


def test_numbers_as_names() -> None:
    names = SimpleNamespace(indices=LISTS.indices, scores=LISTS.scores)
    text = written(write_trec_run, names, candidate_names=torch.tensor([10, 20]))
    assert text == "0 Q0 10 1 0.5 hardneg\n0 Q0 20 2 0.25 hardneg\n"
    assert text == written(write_trec_run, names, candidate_names=np.array([10, 20]))
    arrays = SimpleNamespace(indices=LISTS.indices.numpy(), scores=LISTS.scores.numpy())
    assert text == written(write_trec_run, arrays, candidate_names=[10, 20])
