"""The forms of training data: by definition, in files, and as sentence-transformers mines them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from corpora import SMALL, files

from hardneg import Ceiling, RankWindow, TopK
from hardneg.mining import CorpusMiner, MinedRows, training_rows, write_training_rows
from hardneg.mining.formats import FORMS


def small(folder: Path, k: int = 2) -> MinedRows:
    """Two queries: the first has two positives and three rows left, the second one positive and a bound."""
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    rows = torch.tensor([[9.0, 1.0], [8.0, 2.0], [7.0, 3.0], [6.0, 9.0], [5.0, 8.0]])
    miner = CorpusMiner(TopK(k, Ceiling(1.0, -5.0)), "dot")
    return miner(queries, rows, folder, positives=[[0, 1], [3]], exclude=[[2], []])


def test_forms(tmp_path: Path) -> None:
    found = small(tmp_path)
    # below 4 for the first query: none; below 4 for the second: rows 2 and 1
    texts = {"queries": ["a", "b"], "corpus": list("vwxyz")}
    b = {"anchor": "b", "positive": "y"}
    assert list(training_rows(found, **texts)) == [b | {"negative": "x"}, b | {"negative": "w"}]
    assert next(training_rows(found, scores=True)) == {
        "anchor": 1, "positive": 3, "negative": 2, "scores": [9.0, 3.0],
    }  # fmt: skip
    assert list(training_rows(found, "n-tuple", **texts, scores=True)) == [
        b | {"negative_1": "x", "negative_2": "w", "scores": [9.0, 3.0, 2.0]}
    ]
    assert list(training_rows(found, "labeled-pair", **texts)) == [
        {"anchor": anchor, "document": document, "label": label}
        for anchor, document, label in (
            ("a", "v", 1), ("a", "w", 1), ("b", "y", 1), ("b", "x", 0), ("b", "w", 0),
        )
    ]  # fmt: skip
    assert list(training_rows(found, "labeled-list", **texts)) == [
        {"anchor": "b", "documents": ["y", "x", "w"], "labels": [1, 0, 0]}
    ]
    assert list(training_rows(found, "labeled-list", scores=True)) == [
        {"anchor": 1, "documents": [3, 2, 1], "scores": [9.0, 3.0, 2.0]}
    ]


def test_tuples_are_of_queries_with_all(tmp_path: Path) -> None:
    found = small(tmp_path, 4)
    assert list(training_rows(found, "n-tuple")) == []
    assert len(list(training_rows(found, "triplet"))) == 3
    assert found.short == 2


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_files_hold_the_rows(form: str, scores: bool, tmp_path: Path) -> None:
    found = small(tmp_path / "run")
    texts = {"queries": ["ä\n", "b"], "corpus": ["v", '"', "ü", "y", "z"]}
    expected = list(training_rows(found, form, scores=scores, **texts))
    lines = write_training_rows(found, tmp_path / "a.jsonl", form, scores=scores, **texts)
    assert (lines.rows, lines.short) == (len(expected), 1)
    text = lines.path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == expected
    parquet = pytest.importorskip("pyarrow.parquet", reason="parquet needs pyarrow")
    table = write_training_rows(found, tmp_path / "a.parquet", form, scores=scores, **texts)
    assert parquet.read_table(table.path).to_pylist() == expected


def test_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="parquet needs pyarrow")
    monkeypatch.setattr("hardneg.mining.formats.BUFFERED", 2)
    found = small(tmp_path / "run")
    written = write_training_rows(found, tmp_path / "a.parquet", "labeled-pair")
    assert parquet.read_table(written.path).to_pylist() == list(
        training_rows(found, "labeled-pair")
    )
    none = small(tmp_path / "none", 4)
    written = write_training_rows(none, tmp_path / "none.parquet", "n-tuple")
    assert (written.rows, parquet.read_table(written.path).num_rows) == (0, 0)


def test_mistakes(tmp_path: Path) -> None:
    found = small(tmp_path / "run")
    with pytest.raises(ValueError, match="choose one of triplet"):
        list(training_rows(found, "pairs"))
    with pytest.raises(ValueError, match="corpus are 1: expected 5"):
        write_training_rows(found, tmp_path / "a.jsonl", corpus=["a"])
    with pytest.raises(ValueError, match=r"choose one of .jsonl, .parquet"):
        write_training_rows(found, tmp_path / "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


class Table:
    """What sentence-transformers asks of ``datasets.Dataset``."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = columns

    from_dict = classmethod(lambda cls, columns: cls(columns))

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def to_pandas(self) -> Any:
        import pandas

        return pandas.DataFrame(self.columns)


class Model:
    """Precomputed embeddings of texts."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="")

    def __init__(self, embeddings: dict[str, torch.Tensor]) -> None:
        self.embeddings = embeddings

    def encode_document(self, texts: list[str], **_: Any) -> Any:
        return torch.stack([self.embeddings[text] for text in texts]).numpy()

    encode_query = encode_document

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(1)


PEERS: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (TopK(4), {}, {"num_negatives": 4}),
    (TopK(4), {"positives": 3}, {"num_negatives": 4}),
    (TopK(3, Ceiling(0.8)), {}, {"num_negatives": 3, "relative_margin": 0.2}),
    (TopK(3, Ceiling(1.0, -0.3)), {}, {"num_negatives": 3, "absolute_margin": 0.3}),
    (RankWindow(2, 6), {"max_score": 0.5, "min_score": 0.1},
     {"num_negatives": 4, "range_min": 2, "max_score": 0.5, "min_score": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("negatives", "ours", "theirs"), PEERS, ids=["top", "several", "relative", "absolute", "window"]
)
def test_equals_sentence_transformers(
    negatives: Any, ours: dict[str, Any], theirs: dict[str, Any], form: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A margin with one positive a query: of several it takes the lowest, and this the highest."""
    module = pytest.importorskip(
        "sentence_transformers.util.hard_negatives", reason="what it is compared with"
    )
    datasets = ModuleType("datasets")
    datasets.Dataset = Table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setattr(module, "is_datasets_available", lambda: True)
    g = torch.Generator().manual_seed(4)
    rows = torch.nn.functional.normalize(torch.randn(90, 6, generator=g), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(20, 6, generator=g) + 2 * rows[:20], dim=1)
    names, texts = [f"q{i}" for i in range(20)], [f"c{i}" for i in range(90)]
    model = Model(dict(zip(names + texts, torch.cat([queries, rows]), strict=True)))
    several = ours.get("positives", 1)
    positives = [list(range(i, 90, 20))[:several] for i in range(20)]
    pairs = [(names[i], texts[j]) for i, own in enumerate(positives) for j in own]
    table = Table(
        dict(zip(("anchor", "positive"), map(list, zip(*pairs, strict=True)), strict=True))
    )
    theirs = theirs | {"range_max": 80}
    mined = module.mine_hard_negatives(
        table, model, corpus=texts, output_format=form, output_scores=True, verbose=False, **theirs
    )
    limits = {name: value for name, value in ours.items() if name != "positives"}
    miner = CorpusMiner(negatives, memory=SMALL, **limits)
    found = miner(queries, rows, tmp_path, positives=positives)
    assert len(files(tmp_path)) > 1
    wanted = list(training_rows(found, form, queries=names, corpus=texts, scores=True))
    assert len(wanted) == len(mined)
    for name, column in zip(wanted[0], mined.columns.values(), strict=True):
        given = [row[name] for row in wanted]
        if "score" in name:
            for a, b in zip(given, column, strict=True):
                assert a == pytest.approx(b, abs=1e-6)
        else:
            assert given == column
