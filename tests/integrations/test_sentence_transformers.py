"""The loss for the trainer of sentence-transformers, against its own losses, with a model of two layers made here."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sentences import COLUMNS, make_model
from torch import Tensor

from hardneg import (
    AcrossRanks,
    ContrastiveLoss,
    InfoNCELoss,
    KoLeo,
    Learned,
    Matryoshka,
    TripletLoss,
)
from hardneg.losses.base import PairLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# imported by the tests themselves, since it takes long
pytestmark = pytest.mark.skipif(
    find_spec("sentence_transformers") is None,
    reason="the adapter is for those who have it: hardneg[sentence-transformers]",
)
QUERIES = InfoNCELoss(0.05, directions="queries")


def adapted(*arguments: Any, **options: Any) -> Any:
    from hardneg.integrations.sentence_transformers import HardNegLoss

    return HardNegLoss(*arguments, **options)


def their_losses() -> Any:
    try:
        from sentence_transformers.sentence_transformer import losses
    except ImportError:  # before 5.4
        from sentence_transformers import losses
    return losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_model(path)
    return path


@pytest.fixture
def model(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").double().eval()


def features(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    make = getattr(model, "preprocess", None) or model.tokenize
    return [dict(make(column)) for column in columns]


def step(
    model: SentenceTransformer,
    loss: Any,
    columns: list[list[str]],
    labels: Tensor | None = None,
) -> list[Tensor]:
    """The value, and the gradients of every parameter."""
    model.zero_grad()
    value = loss(features(model, columns), labels)
    value.backward()
    return [
        value.detach(),
        *(p.grad.clone() for p in model.parameters() if p.grad is not None),
    ]


def assert_alike(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs) > 20
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, check_dtype=False)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("rows", [None, 4])
def test_equals_its_ranking_loss(model: SentenceTransformer, count: int, rows: int | None) -> None:
    theirs = their_losses().MultipleNegativesRankingLoss(model)
    ours = adapted(model, QUERIES, negative_columns="shared", mini_batch_size=rows)
    columns = COLUMNS[:count]
    assert_alike(step(model, ours, columns), step(model, theirs, columns))


def test_equals_its_symmetric_loss(model: SentenceTransformer) -> None:
    both = {
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
    }
    try:
        theirs = their_losses().MultipleNegativesRankingLoss(model, **both)
    except TypeError:  # before it took directions
        theirs = their_losses().MultipleNegativesSymmetricRankingLoss(model)
    ours = adapted(model, InfoNCELoss(0.05))
    assert_alike(step(model, ours, COLUMNS[:2]), step(model, theirs, COLUMNS[:2]))


def test_equals_its_triplet_loss_on_labels(model: SentenceTransformer) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    theirs = their_losses().BatchHardTripletLoss(model, margin=5)
    ours = adapted(model, TripletLoss(5.0, "hardest", "hardest", "euclidean"), mini_batch_size=4)
    assert_alike(step(model, ours, COLUMNS[:1], labels), step(model, theirs, COLUMNS[:1], labels))


def embedded(model: SentenceTransformer, columns: list[list[str]]) -> list[Tensor]:
    return [model(one)["sentence_embedding"] for one in features(model, columns)]


@pytest.mark.parametrize(
    "loss",
    [InfoNCELoss(0.05), ContrastiveLoss(0.1, "hardest"), Matryoshka(QUERIES, (16, 4))],
    ids=str,
)
def test_negatives_of_columns_are_those_of_their_anchor(
    model: SentenceTransformer, loss: Any
) -> None:
    q, p, a, b = embedded(model, COLUMNS)
    expected = loss(q, p, own_negatives=torch.stack([a, b], 1))
    for rows in (None, 5):
        found = adapted(model, loss, mini_batch_size=rows)(features(model, COLUMNS))
        torch.testing.assert_close(found, expected)


def repeated() -> list[list[str]]:
    """Anchors 0 and 1 are one text; positives 1 and 2; anchor 3 is positive 4; two negatives are of related rows."""
    anchors, positives, negatives, others = (list(column) for column in COLUMNS)
    anchors[1], positives[2], anchors[3] = anchors[0], positives[1], positives[4]
    negatives[0], others[4] = positives[2], positives[4]
    return [anchors, positives, negatives, others]


@pytest.mark.parametrize("columns", ["own", "shared"])
def test_repeated_texts_are_no_negatives(model: SentenceTransformer, columns: Any) -> None:
    texts = repeated()
    q, p, a, b = embedded(model, texts)
    ids = torch.tensor([0, 0, 0, 3, 3, 5])
    ids_a, ids_b = torch.tensor([0, 9, 9, 9, 9, 9]), torch.tensor([9, 9, 9, 9, 3, 9])
    if columns == "own":
        own = {
            "own_negatives": torch.stack([a, b], 1),
            "own_negative_ids": torch.stack([ids_a, ids_b], 1),
        }
        expected = QUERIES(q, p, query_ids=ids, candidate_ids=ids, **own)
    else:
        candidates = torch.cat([ids, ids_a, ids_b])
        expected = QUERIES(q, torch.cat([p, a, b]), query_ids=ids, candidate_ids=candidates)
    found = adapted(model, QUERIES, negative_columns=columns)(features(model, texts))
    torch.testing.assert_close(found, expected)
    plain = adapted(model, QUERIES, negative_columns=columns, skip_repeated=False)
    other = plain(features(model, texts))
    assert other > found + 1e-3
    if columns == "shared":
        theirs = their_losses().MultipleNegativesRankingLoss(model)(features(model, texts), None)
        torch.testing.assert_close(other, theirs, check_dtype=False)


def test_dropout_is_the_same_in_both_passes(model: SentenceTransformer) -> None:
    found = []
    for rows in (None, 6):
        torch.manual_seed(1)
        found.append(step(model.train(), adapted(model, QUERIES, mini_batch_size=rows), COLUMNS))
    assert_alike(*found)


def test_nothing_to_learn_in_evaluation(model: SentenceTransformer) -> None:
    with torch.no_grad():
        found = [
            adapted(model, QUERIES, mini_batch_size=rows)(features(model, COLUMNS))
            for rows in (None, 2)
        ]
    assert not found[0].requires_grad
    torch.testing.assert_close(*found)


def test_what_it_does_not_take(model: SentenceTransformer) -> None:
    for loss in (torch.nn.CosineEmbeddingLoss(), KoLeo(), InfoNCELoss):
        with pytest.raises(TypeError, match="expected a loss of hardneg on pairs or labels"):
            adapted(model, loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gather_across_devices=True"):
        adapted(model, Matryoshka(AcrossRanks(QUERIES), (4,)))
    with pytest.raises(ValueError, match="negative_columns 'each'"):
        adapted(model, QUERIES, negative_columns="each")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mini_batch_size"):
        adapted(model, QUERIES, mini_batch_size=0)
    with pytest.raises(ValueError, match="1 column: a loss on pairs takes an anchor, a positive"):
        adapted(model, QUERIES)(features(model, COLUMNS[:1]))
    for columns, labels in ((COLUMNS[:1], None), (COLUMNS[:2], torch.arange(6))):
        with pytest.raises(ValueError, match="one column of texts and a column label"):
            adapted(model, TripletLoss())(features(model, columns), labels)


def trained(folder: Path, out: Path, loss: PairLoss, rows: int | None) -> tuple[Any, Any]:
    """Two epochs of the real trainer."""
    datasets = pytest.importorskip("datasets", reason="its trainer needs it")
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )

    model = SentenceTransformer(str(folder), device="cpu")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    names = ["anchor", "positive", "negative_1", "negative_2"]
    data = datasets.Dataset.from_dict(dict(zip(names, COLUMNS, strict=True)))
    options = SentenceTransformerTrainingArguments(
        str(out), num_train_epochs=2, per_device_train_batch_size=3, learning_rate=0.01, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1, seed=0,
        eval_strategy="epoch", dataloader_pin_memory=False,
    )  # fmt: skip
    held = adapted(model, loss, mini_batch_size=rows, gather_across_devices=True)
    trainer = SentenceTransformerTrainer(
        model, options, loss=held, train_dataset=data, eval_dataset=data
    )
    trainer.train()
    return held, trainer


def test_its_trainer_trains_model_and_temperature(folder: Path, tmp_path: Path) -> None:
    ends = []
    for rows in (None, 2):
        held, trainer = trained(folder, tmp_path, InfoNCELoss(Learned(0.05)), rows)
        logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert len(logged) == 4
        assert all(entry > 0 for entry in logged)
        assert any("eval_loss" in entry for entry in trainer.state.log_history)
        assert held.loss.temperature().item() != pytest.approx(0.05, rel=1e-3)
        ends.append([*logged, held.loss.temperature().item()])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_the_message_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "hardneg.integrations.sentence_transformers", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hardneg\[sentence-transformers\]'"):
        import hardneg.integrations.sentence_transformers  # noqa: F401
