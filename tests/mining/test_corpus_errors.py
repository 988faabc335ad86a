"""Bad input of ``CorpusMiner``: a clear error, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import Problem, problem, run

from hardneg import Ceiling, RandomK, SemiHard, TopK, extras
from hardneg.mining import CorpusMiner, Parquet

Q, C = torch.randn(5, 8), torch.randn(30, 8)


def with_nan(row: int, value: float = float("nan")) -> torch.Tensor:
    found = C.clone()
    found[row, 3] = value
    return found


MISTAKES: list[tuple[Any, Any, dict[str, Any], str]] = [
    (Q, with_nan(17), {}, "corpus: row 17 holds NaN"),
    (Q, with_nan(4, float("inf")), {}, "corpus: row 4 holds NaN or inf"),
    (with_nan(2), C, {}, "queries: row 2"),
    (Q, iter([C[:10], with_nan(12)[10:]]), {}, "corpus: row 12"),
    (Q, C[:, :7], {}, "project both to one width"),
    (Q, C.double(), {}, "queries are float32 but the corpus is float64"),
    (C, C.clone(), {}, "pass same_set=True"),
    (Q, C.long(), {}, "int64.*expected .rows, width. of floats"),
    (Q, C[:0], {}, "corpus is empty"),
    (Q, iter([]), {}, "corpus has no rows"),
    (Q, iter([C, C[:, :3]]), {}, "expected one"),
    (Q, 7, {}, "corpus is a int"),
    (Q, C, {"query_ids": torch.arange(5)}, "ids are given for one side"),
    (
        Q,
        C,
        {"query_ids": torch.arange(4), "candidate_ids": torch.arange(30)},
        r"query_ids are \(4,\)",
    ),
    (Q, C, {"query_ids": torch.arange(5), "candidate_ids": torch.rand(30)}, "candidate_ids are"),
    (Q, C, {"positives": [[1], [2]]}, r"positives has shape \(2, 1\)"),
    (Q, C, {"positives": [0, 1, 2, 3, 30]}, "row 30 of a corpus of 30"),
    (Q, C, {"exclude": [["a"], [], [], [], []]}, "exclude holds what is no list"),
    (Q, C, {"texts": ["a"]}, "texts are 1: expected 30"),
    (C, Q, {"same_set": True}, "same_set=True but there are 30"),
]


@pytest.mark.parametrize(("queries", "corpus", "known", "message"), MISTAKES)
def test_mistakes(
    queries: Any, corpus: Any, known: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        CorpusMiner(TopK(3))(queries, corpus, tmp_path, **known)
    assert not list(tmp_path.glob("*.npz"))


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"negatives": RandomK(3)}, "needs the highest-scoring ones"),
    ({"negatives": SemiHard()}, "without a fallback"),
    ({"negatives": "all"}, "needs a selection"),
    ({"negatives": TopK(3), "similarity": lambda q, c: q @ c.T}, "mine takes callables"),
    ({"negatives": TopK(3), "memory": "much"}, "expected a size such as '2GiB'"),
    ({"negatives": TopK(3), "memory": 2}, "memory is 2, so many bytes: .*'2GiB'"),
    ({"negatives": TopK(3), "memory": "512"}, "memory is '512', so many bytes"),
    ({"negatives": TopK(3), "memory": "0GiB"}, "memory is '0GiB'"),
    ({"negatives": TopK(3), "min_score": 1.0, "max_score": 0.0}, "nothing lies between"),
    ({"negatives": TopK(3), "rescored": 2, "rescore": print}, "rescored is 2"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        CorpusMiner(**options)


def test_a_ceiling_needs_positives(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass positives"):
        CorpusMiner(TopK(3, Ceiling()))(Q, C, tmp_path)


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    from pyarrow import parquet

    path, miner = tmp_path / "rows.parquet", CorpusMiner(TopK(3))
    columns = {
        "text": ["a", "b"],
        "ragged": [[1.0, 2.0], [1.0]],
        "holes": [[1.0, None], [1.0, 2.0]],
        "missing": [[1.0, 2.0], None],
        "words": [["a"], ["b"]],
    }
    parquet.write_table(arrow.table(columns), path)
    for column, message in (
        ("embedding", "no column 'embedding': its columns are text, ragged"),
        ("text", "expected lists"),
        ("ragged", "expected one length"),
        ("holes", "1 nulls: expected numbers"),
        ("missing", "1 nulls: expected lists"),
        ("words", "expected numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            miner(Q[:, :2], Parquet(path, column), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


def test_other_inputs_or_options_in_the_folder(tmp_path: Path) -> None:
    given = problem()
    run(given, tmp_path)

    def refused(problem: Problem, **options: Any) -> str:
        with pytest.raises(ValueError, match="holds a run that was started with ") as error:
            run(problem, tmp_path, **options)
        return str(error.value).partition("started with ")[2].partition(": pass the same")[0]

    assert refused(given, max_score=0.5) == "max_score=None, now max_score=0.5"
    changed = given.corpus.clone()
    changed[200, 0] += 1
    other_rows = refused(given._replace(corpus=changed), min_score=0.25)
    assert other_rows == "a corpus of other rows; with min_score=None, now min_score=0.25"
    for exclude in (None, given.known["exclude"].flip(0)):
        known = given.known | {"exclude": exclude}
        said = "other positives, exclude, query_ids, candidate_ids, texts or same_set"
        assert refused(given._replace(known=known)) == said
    known = {
        name: value if name == "candidate_ids" else value[:-1]
        for name, value in given.known.items()
    }
    fewer = refused(given._replace(queries=given.queries[:-1], known=known))
    assert fewer.startswith("queries of other rows; with other positives")
    assert "shape" not in fewer


def test_another_strategy_in_the_folder_is_told_by_its_argument(tmp_path: Path) -> None:
    """And not by what follows from it: no places, no ``ceiling was True``."""
    positives = torch.arange(5)
    CorpusMiner(TopK(4, Ceiling(0.95)))(Q, C, tmp_path, positives=positives)
    others = {
        "TopK(k=4, ceiling=None, fallback='none')": TopK(4),
        "TopK(k=3, ceiling=Ceiling(relative=0.95, offset=0.0), fallback='none')": TopK(
            3, Ceiling(0.95)
        ),
    }
    was = "TopK(k=4, ceiling=Ceiling(relative=0.95, offset=0.0), fallback='none')"
    for now, strategy in others.items():
        with pytest.raises(ValueError, match="holds a run") as error:
            CorpusMiner(strategy)(Q, C, tmp_path, positives=positives)
        assert str(error.value) == (
            f"{tmp_path} holds a run that was started with negatives={was}, now negatives={now}: "
            "pass the same again, choose another folder, or remove this one"
        )


def test_a_strategy_that_does_not_show_its_k(tmp_path: Path) -> None:
    class Silent(TopK):
        def __repr__(self) -> str:
            return "Silent()"

    CorpusMiner(Silent(4))(Q, C, tmp_path)
    with pytest.raises(ValueError, match="started with places=4, now places=3: pass"):
        CorpusMiner(Silent(3))(Q, C, tmp_path)


def test_another_process_in_the_folder(tmp_path: Path) -> None:
    asked = []

    def rescore(pairs: list[tuple[int, int]]) -> list[float]:
        if not asked:
            asked.append(1)
            with pytest.raises(ValueError, match="another process mines in"):
                run(problem(), tmp_path)
        return [0.0] * len(pairs)

    given = problem()
    options: dict[str, Any] = {"rescore": rescore, "rescored": 5}
    found = run(given, tmp_path, **options)
    assert asked
    assert run(given, tmp_path, **options).indices.equal(found.indices)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'hardneg\[mining\]'"):
        CorpusMiner(TopK(3))(Q, "rows.parquet", tmp_path)
    np.save(tmp_path / "rows.npy", C.numpy())
    CorpusMiner(TopK(3))(Q, tmp_path / "rows.npy", tmp_path / "run")
