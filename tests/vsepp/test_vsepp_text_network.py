"""Captions read by a HuggingFace network: trained, killed and resumed, exported, refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardneg.image_text import ImageTextModel, TextNetwork
from own_data import write_feature_table
from tiny_text_network import write_text_network
from vsepp.checkpoints import load_model, model_file
from vsepp.commands import main
from vsepp.data.pairs import read_splits
from vsepp.errors import InputError
from vsepp.evaluate import embed, rebuild
from vsepp.model import build_model
from vsepp.optimisation import build_optimiser, set_learning_rate
from vsepp.settings import Model, Schedule
from vsepp.train import Trainer

pytest.importorskip("transformers")

SMALL = ["--cpu", "--no-tensorboard", "--quiet", "--epochs", "2", "--checkpoint-every", "3"]
SMALL += ["--embed-dim", "8", "--batch-size", "8", "--blocks", "1", "--hidden-dim", "8"]
SAID = ["a red dog", "one cat in the grass"]
TRAINED = ["--finetune-text", "--backbone-rate", "0.1", "--drop", "0.1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A table, a network, and a run that trains both parts."""
    base = tmp_path_factory.mktemp("text")
    write_feature_table(base, 12)
    write_text_network(base / "network")
    main("own", given(base, base / "runs", *TRAINED))
    return base


def given(base: Path, out: Path, *more: str) -> list[str]:
    data = ["--data", str(base / "captions.csv"), "--out", str(out)]
    return [*data, "--text", f"hf:{base / 'network'}", *SMALL, *more]


def result(out: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    folder = out / "own-seed0"
    found = json.loads((folder / "result.json").read_text())
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in found["history"]]
    return rows, torch.load(folder / found["best_file"], weights_only=True)["model"]


def test_a_stopped_run_goes_on_to_the_very_numbers(base: Path, tmp_path: Path, monkeypatch) -> None:
    plain, steps = Trainer.step, []

    def ended(self, batch) -> None:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        plain(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", ended)
        with pytest.raises(SystemExit):
            main("own", given(base, tmp_path, *TRAINED))
    main("own", given(base, tmp_path, *TRAINED, "--resume"))
    ours, theirs = result(tmp_path), result(base / "runs")
    assert ours[0] == theirs[0]
    assert all(torch.equal(value, theirs[1][name]) for name, value in ours[1].items())


def test_it_embeds_as_the_trainer_does_without_the_folder(base: Path, tmp_path: Path) -> None:
    run = base / "runs" / "own-seed0"
    main("own", ["export", str(run), str(tmp_path / "model")])
    trained = load_model(model_file(run))
    assert trained.settings.model.text.startswith("hf:")
    model = ImageTextModel.from_pretrained(tmp_path / "model")
    (base / "network").rename(base / "elsewhere")
    try:
        split = read_splits(trained.settings.data, base / "captions.csv").test
        expected = embed(rebuild(trained, split), split, trained.vocabulary)
        again = ImageTextModel.from_pretrained(tmp_path / "model")
    finally:
        (base / "elsewhere").rename(base / "network")
    for one in (model, again):
        assert torch.equal(one.embed(split.captions), expected.captions)
    assert not [name for name, one in again.named_buffers() if one.is_meta]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["vocabulary"]["config"]["model_type"] == "bert"
    long = model.embed(["a red dog " * 40, "a red dog"])
    assert long.isfinite().all()
    program = model.export_text(words=12).module()
    ids = torch.tensor(
        [words + [0] * (12 - len(words)) for words in map(model.vocabulary.encode, SAID)]
    )
    lengths = torch.tensor([len(model.vocabulary.encode(one)) for one in SAID])
    torch.testing.assert_close(program(ids, lengths), model.embed(SAID))


def test_frozen_or_trained_at_a_rate_of_its_own(base: Path, tmp_path: Path) -> None:
    main("own", given(base, tmp_path, "--epochs", "1"))
    frozen, trained = result(tmp_path)[1], result(base / "runs")[1]
    start = TextNetwork.named(str(base / "network")).pretrained().state_dict()
    for name, value in start.items():
        assert torch.equal(frozen[f"text.backbone.{name}"], value)
    moved = {
        name
        for name, one in start.items()
        if not torch.equal(trained[f"text.backbone.{name}"], one)
    }
    assert "encoder.layer.0.output.dense.weight" in moved
    words = TextNetwork.named(str(base / "network"))
    settings = Model(text=f"hf:{base / 'network'}", embed_dim=8, finetune_text=True)
    model = build_model(settings, len(words), 6, words)
    schedule = Schedule(learning_rate=0.01, backbone_rate=0.1, optimizer="adamw", weight_decay=0.1)
    optimiser = build_optimiser([model], schedule)
    set_learning_rate(optimiser, schedule, 0, 10)
    rates = {id(one): group["lr"] for group in optimiser.param_groups for one in group["params"]}
    assert {rates[id(one)] for one in model.text.backbone.parameters()} == {0.001}
    assert rates[id(model.text.fc.weight)] == rates[id(model.image.fc.weight)] == 0.01
    assert optimiser.param_groups[0]["lr"] == 0.01
    plain = build_optimiser([model], replace(schedule, backbone_rate=1.0)).param_groups
    assert [group["share"] for group in plain] == [1.0, 1.0]


def test_what_is_refused(base: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"text": "lstm"}, r"--text is lstm: expected one of gru, .*hf:NAME_OR_PATH"),
        ({"text": "hf:"}, "--text is hf:: expected one of"),
        ({"text": "hf:x", "word_vectors": "captions"}, "--word-vectors captions does not go with"),
    ):
        with pytest.raises(InputError, match=message):
            Model(**settings)
    with pytest.raises(ValueError, match="cannot be had"):
        TextNetwork.named(str(tmp_path))


def hostile(record: dict) -> dict[str, dict]:
    config = record["config"]
    return {
        "layers": {**record, "config": {**config, "num_hidden_layers": 10**9}},
        "width": {**record, "config": {**config, "hidden_size": 10**12}},
        "no model": {**record, "config": {**config, "model_type": "__import__"}},
        "no kind": {**record, "config": {}},
        "config": {**record, "config": "x"},
        "tokens": {**record, "definition": "{}"},
        "no tokens": {**record, "definition": 3},
        "unknown": {**record, "unknown": 10**6},
        "lacks": {name: one for name, one in record.items() if name != "definition"},
    }


def test_a_strangers_configuration_runs_nothing(base: Path) -> None:
    words = TextNetwork.named(str(base / "network"))
    towers = {"embed_dim": 4, "text": "transformer"}
    said = "no text network|so large|cannot be read|of a wrong kind|expected the id"
    for record in hostile(words.record()).values():
        with pytest.raises(ValueError, match=said), torch.device("meta"):
            ImageTextModel(towers, record, 6)
    code = {**words.record()["config"], "auto_map": {"AutoModel": "x--evil.Model"}}
    with torch.device("meta"):
        found = ImageTextModel(towers, {**words.record(), "config": code}, 6)
    assert "auto_map" not in found.record()["vocabulary"]["config"]
    for text, vocabulary in (("gru", words), ("transformer", TINY_WORDS)):
        with pytest.raises(ValueError, match="a transformer goes with the tokens"):
            ImageTextModel({"embed_dim": 4, "text": text}, vocabulary, 6)


TINY_WORDS = {
    "format": "hardneg vocabulary 1",
    "words": ["<pad>", "<start>", "<end>", "<unk>", "a"],
    "tokenizer": "regex",
    "made_from": "a test",
    "threshold": 1,
}
