"""Networks of timm: trained, resumed, exported, and what is refused. Weights are random ones."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from hardneg.encoders import ImageEncoder
from hardneg.encoders.networks import named_network, timm_view
from hardneg.image_text import ImageTextModel, TowerConfig
from own_data import write_picture_table
from vsepp.checkpoints import load_model, model_file
from vsepp.commands import main, train_arguments
from vsepp.data.pairs import read_splits
from vsepp.errors import InputError
from vsepp.evaluate import embed, rebuild
from vsepp.settings import Data

pytest.importorskip("timm")

SMALL = ["--cpu", "--no-tensorboard", "--quiet", "--threshold", "1", "--epochs", "1"]
SMALL += ["--embed-dim", "8", "--word-dim", "6", "--batch-size", "8", "--text", "bow"]
NETWORK = ["--backbone", "timm:test_resnet", "--weights", "none", "--image-size", "32"]


def test_a_network_ends_in_its_features() -> None:
    for name, width in (("test_vit", 64), ("test_mambaout", 256)):
        network, found = named_network(f"timm:{name}", None)
        assert found == width
        assert network.eval()(torch.zeros(1, 3, 160, 160)).shape == (1, width)
    encoder = ImageEncoder("timm:test_resnet", 5, weights=None)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    assert not any(one.requires_grad for one in encoder.cnn.parameters())


def test_its_own_view_of_pictures(tmp_path: Path) -> None:
    table = write_picture_table(tmp_path, 6)
    assert timm_view("test_resnet") == (160, (0.5,) * 3, (0.5,) * 3)

    def data(*more: str) -> Data:
        given = ["--data", str(table), "--backbone", "timm:test_resnet", *more]
        return train_arguments("own", ("own",), given, "own").settings.data

    assert (data().image_size, data().colours) == (160, "0.5 0.5 0.5 0.5 0.5 0.5")
    assert data("--image-size", "224").image_size == 224
    assert data("--image-size=40").image_size == 40
    view, plain = (
        read_splits(Data("own", image_size=8, threshold=1, colours=colours), table).dev.images
        for colours in ("0.5 0.4 0.3 0.1 0.2 0.5", "0 0 0 1 1 1")
    )
    (found, _), (colour, _) = (one.batch([0], None) for one in (view, plain))
    mean, std = torch.tensor([[0.5, 0.4, 0.3], [0.1, 0.2, 0.5]])[:, None, :, None, None]
    torch.testing.assert_close(found, (colour - mean) / std)
    for colours in ("1 2", "a", "0 0 0 0 1 1", "nan 0 0 1 1 1"):
        with pytest.raises(InputError, match="--colours"):
            Data(colours=colours)


def test_a_run_its_resumption_and_its_export(tmp_path: Path) -> None:
    table = write_picture_table(tmp_path / "p")
    given = ["--data", str(table), "--out", str(tmp_path / "runs"), *SMALL, *NETWORK]
    main("own", [*given, "--finetune"])
    main("own", [*given, "--finetune", "--resume", "--epochs", "2"])
    run = tmp_path / "runs" / "own-seed0"
    main("own", ["export", str(run), str(tmp_path / "model")])
    trained = load_model(model_file(run))
    split = read_splits(trained.settings.data, table).test
    expected = embed(rebuild(trained, split), split, trained.vocabulary)
    model = ImageTextModel.from_pretrained(tmp_path / "model")
    assert model.pictures.mean == (0.5,) * 3
    found = model.embed_images([Image.open(path) for path in split.images.paths])
    # weights lie elsewhere in memory, of which the bits of a convolution depend
    torch.testing.assert_close(found, expected.images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:tset_resnet", "timm knows no network 'tset_resnet': choose test_resnet"),
        ("timm:hf-hub:someone/model", "timm knows no network 'hf-hub:someone/model'"),
        ("timm:local-dir:/elsewhere", "timm knows no network"),
        ("timm:", "timm knows no network ''"),
        ("timm:test_resnet.absent_tag", "cannot be had"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    """No repository and no folder is asked, whoever wrote the configuration."""
    with pytest.raises(ValueError, match=message):
        ImageEncoder(name, 4, weights=None)
    vocabulary = {
        "format": "hardneg vocabulary 1",
        "words": ["<pad>", "<start>", "<end>", "<unk>", "a"],
        "tokenizer": "regex",
        "made_from": "a test",
        "threshold": 1,
    }
    with pytest.raises(ValueError, match=message):
        ImageTextModel(TowerConfig(name, 4, 4), vocabulary, pictures={"size": 32})


def test_weights_are_part_of_the_name() -> None:
    with pytest.raises(ValueError, match="expected pretrained or none"):
        named_network("timm:test_resnet", "IMAGENET1K_V2")


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'hardneg\[timm\]'"):
        ImageEncoder("timm:test_resnet", 4, weights=None)
