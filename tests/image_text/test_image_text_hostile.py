"""Folders of a stranger: refused with a message, nothing in them is run, no memory is asked for."""

import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny

from hardneg.image_text import ImageTextModel, PictureView

Change = Callable[[dict], object]


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError, match=folder.name) as refused:
        ImageTextModel.from_pretrained(folder)
    return str(refused.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def towers(**values) -> Change:
    return lambda config: config["towers"].update(values)


def words(**values) -> Change:
    return lambda config: config["vocabulary"].update(values)


CONFIGS: list[tuple[Change, str]] = [
    (towers(embed_dim=10**12), "embed_dim is 1000000000000: expected a number from 1 to"),
    (towers(embed_dim=-1), "embed_dim is -1"),
    (towers(embed_dim=8.0), "embed_dim is 8.0"),
    (towers(embed_dim=True), "embed_dim is True"),
    (towers(embed_dim=65_536, word_dim=65_536, hidden_dim=65_536), "does not fit its config.json"),
    (towers(text_layers=10**6), "text_layers is 1000000"),
    (towers(text="__import__"), "text is '__import__': expected one of gru, bigru, bow"),
    (towers(text=["gru"]), "text is "),
    (towers(image_norm=1), "image_norm is 1"),
    (towers(weights="IMAGENET1K_V1"), "towers has 'weights', which this version does not know"),
    (lambda config: config.update(towers=None), "towers is None: expected an object"),
    (lambda config: config.pop("towers"), "no config.json of an image-text model"),
    (lambda config: config.update(feature_dim=10**9), "feature_dim is 1000000000"),
    (lambda config: config.update(feature_dim="7"), "feature_dim is '7'"),
    (lambda config: config.update(version=99), "version is 99"),
    (lambda config: config.update(measure="../../etc"), "measure is '../../etc'"),
    (lambda config: config.update(vocabulary=[1]), "vocabulary is not a vocabulary of ours"),
    (words(words=["a"]), "a vocabulary starts with <pad>"),
    (words(words="<pad>"), "words is no list"),
    (words(tokenizer="os.system"), "made by the tokenizer 'os.system'"),
    (lambda config: config["vocabulary"]["words"].append(7), "a word is no text"),
    (lambda config: config["vocabulary"]["words"].append("extra"), "does not fit its config.json"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CONFIGS)
def test_configurations(model: Path, change: Change, message: str) -> None:
    config = json.loads((model / "config.json").read_text())
    change(config)
    (model / "config.json").write_text(json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in refusal(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB: 256 MiB


PICTURES: list[tuple[dict, str]] = [
    ({"size": 10**6}, "size is 1000000"),
    ({"crop": "../x"}, "crop is '../x'"),
    ({"std": [0.0, 1.0, 1.0]}, "std is 0.0"),
    ({"mean": [float("nan"), 1.0, 1.0]}, "mean is nan"),
    ({"mean": [1.0]}, "expected a number for each colour"),
]


@pytest.mark.parametrize(("values", "message"), PICTURES)
def test_views_of_pictures(tmp_path: Path, values: dict, message: str) -> None:
    tiny(PictureView(16)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pictures"].update(values)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("backbone", ["../../evil", "os.system", "/elsewhere/x.pt", ""])
def test_networks_that_torchvision_does_not_know(tmp_path: Path, backbone: str) -> None:
    tiny(PictureView(16)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["towers"]["backbone"] = backbone
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "torchvision knows no network" in refusal(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "[" * 100_000, '{"towers": {}}', "\x00", '{"towers": NaN}']
)
def test_configurations_that_are_none(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    refusal(model)


def test_a_configuration_that_is_missing_or_no_text(model: Path) -> None:
    (model / "config.json").write_bytes(b"\xff\xfe\x00")
    refusal(model)
    (model / "config.json").unlink()
    assert "no config.json" in refusal(model)


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pt"])
def test_pickles_are_not_opened(model: Path, tmp_path: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    for content in (pickle.dumps(Harmful(tmp_path / "harm")), None):
        if content is None:
            torch.save({"model": Harmful(tmp_path / "harm")}, model / name)
        else:
            (model / name).write_bytes(content)
        said = refusal(model)
        assert "cannot be read as safetensors" in said or "no model.safetensors: only" in said
    assert not (tmp_path / "harm").exists()


WEIGHTS: list[tuple[Callable[[dict], object], str]] = [
    (lambda w: w.pop("image.fc.bias"), "image.fc.bias is not there"),
    (lambda w: w.update(extra=torch.zeros(3)), "'extra' has no place"),
    (lambda w: w.update({"image.fc.bias": torch.zeros(9)}), "image.fc.bias: (9,) there, (8,) here"),
    (lambda w: w.update({"image.fc.bias": torch.zeros(8, dtype=torch.int64)}), "image.fc.bias is I64"),
    (lambda w: w.update({"image.fc.bias": torch.zeros(8, dtype=torch.int32)}), "image.fc.bias is"),
    (lambda w: w.update({"image.fc.bias": torch.zeros(8).half()}), "numbers are float16 and float32"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WEIGHTS)
def test_weights(model: Path, change: Callable[[dict], object], message: str) -> None:
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors")
    assert message in refusal(model)


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_weights(model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "cannot be read as safetensors" in refusal(model)


def test_a_header_that_promises_too_much(model: Path) -> None:
    header = json.dumps(
        {"image.fc.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    content = len(header).to_bytes(8, "little") + header
    (model / "model.safetensors").write_bytes(content)
    assert "cannot be read as safetensors" in refusal(model)
    (model / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + header)
    assert "cannot be read as safetensors" in refusal(model)


@pytest.mark.parametrize(
    "name",
    ["/no/such/folder", "./nothing", "../nothing", "~/nothing", "runs/of/mine", Path("nothing")],
)
def test_a_folder_that_is_not_there(name: str | Path) -> None:
    with pytest.raises(ValueError, match="expected a folder, and there is none") as refused:
        ImageTextModel.from_pretrained(name)
    assert str(refused.value).startswith(str(name))
    assert ("expanduser" in str(refused.value)) == str(name).startswith("~")


def test_a_file_in_place_of_a_folder(model: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder, and it is a file"):
        ImageTextModel.from_pretrained(model / "model.safetensors")
