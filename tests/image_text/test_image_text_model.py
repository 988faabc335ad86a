"""Models that travel: saved, loaded elsewhere, and the same to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tiny_models import TEXTS, WIDTH, WORDS, features, tiny

import hardneg
from hardneg.image_text import ImageTextModel, PictureView, TextNetwork, TowerConfig, Vocabulary
from hardneg.image_text.vocabulary import END, START

SCALED = {"scale_features": "sqrt", "blocks": 2, "text": "bow+gru"}
KINDS = [
    {},
    {"text": "bigru", "text_layers": 2, "pooling": "gpo"},
    {**SCALED},
    {"measure": "order", "absolute": True, "image_norm": False},
]


def pictures(count: int = 4) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (20 + row, 26, 3), dtype=np.uint8))
        for row in range(count)
    ]


def assert_same(one: ImageTextModel, other: ImageTextModel) -> None:
    assert torch.equal(one.embed(TEXTS), other.embed(TEXTS))
    assert torch.equal(one.embed_images(features()), other.embed_images(features()))


@pytest.mark.parametrize("kind", [*KINDS, {"text": "bow"}])
def test_a_text_without_words_is_its_marks(kind: dict) -> None:
    """Alone or beside others: unit length, and the start and end marks through the tower."""
    model = tiny(**kind)
    with torch.no_grad():
        marks = model.text(torch.tensor([[START, END]]), torch.tensor([2]))
    assert torch.equal(model.embed([""]), marks)
    torch.testing.assert_close(marks.norm(dim=1), torch.ones(1))
    found = model.embed(["", "a dog runs", " \n", "?!"])
    torch.testing.assert_close(found[[0, 2, 3]], marks.expand(3, -1))
    assert not torch.allclose(found[1], marks[0], atol=1e-3)


def test_a_text_network_without_marks_reads_its_unknown_token() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    for unknown, ids in ((1, [1]), (None, [0])):
        assert TextNetwork(words.to_str(), "{}", "a test", unknown).encode("") == ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_the_same_to_the_last_bit(tmp_path: Path, kind: dict) -> None:
    model = tiny(**kind)
    if "scale_features" in kind:
        model.image.scaler.fit([features(50) * 3])
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    loaded = ImageTextModel.from_pretrained(tmp_path)
    assert_same(model, loaded)
    assert loaded.record() == model.record()
    assert not loaded.training
    assert {name for name, one in loaded.named_parameters() if one.requires_grad} == {
        name for name, one in model.named_parameters() if one.requires_grad
    }
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (
        tmp_path / "config.json"
    ).read_bytes()


ELSEWHERE = """
import sys
import torch
from safetensors.torch import save_file
from hardneg.image_text import ImageTextModel

assert not any("examples" in place or "tests" in place for place in sys.path), sys.path
try:
    import vsepp
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the trainer is on the path")
model = ImageTextModel.from_pretrained(sys.argv[1])
found = {"texts": model.embed(eval(sys.argv[2])), "images": model.embed_images(torch.load(sys.argv[3]))}
found["scores"] = model.similarity(found["images"], found["texts"])
save_file(found, sys.argv[4])
"""


def test_in_a_process_that_has_only_the_package(tmp_path: Path) -> None:
    model = tiny(text="gru", **{key: SCALED[key] for key in ("scale_features", "blocks")})
    model.save_pretrained(tmp_path / "model")
    torch.save(features(), tmp_path / "features.pt")
    root = Path(hardneg.__file__).parents[1]
    given = [tmp_path / "model", repr(TEXTS), tmp_path / "features.pt", tmp_path / "found"]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, given)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "found")
    assert torch.equal(found["texts"], model.embed(TEXTS))
    assert torch.equal(found["images"], model.embed_images(features()))
    # the bits of a product depend on where its factors lie in memory, here as below
    torch.testing.assert_close(found["scores"], found["images"] @ found["texts"].T)


def test_texts_keep_their_order_and_batches_change_nothing() -> None:
    model = tiny().double()
    whole = model.embed(TEXTS)
    assert whole.shape == (len(TEXTS), 8)
    assert not whole.requires_grad
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(TEXTS)).double())
    for size in (1, 2, 4):
        torch.testing.assert_close(model.embed(TEXTS, size), whole, rtol=0, atol=1e-14)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([WORDS.encode(text)])
        expected = model.text(ids, torch.tensor([ids.shape[1]]))[0]
        torch.testing.assert_close(whole[row], expected, rtol=0, atol=1e-14)
    assert model.embed([]).shape == (0, 8)
    with pytest.raises(TypeError, match="a single text: expected a list"):
        model.embed("a dog")
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.embed(TEXTS, 0)


def test_embedding_leaves_the_mode_as_it_is_and_drops_nothing() -> None:
    model = tiny()
    model.image.drop.p = model.text.drop.p = 0.5
    expected = model.embed(TEXTS), model.embed_images(features())
    model.train()
    assert torch.equal(model.embed(TEXTS), expected[0])
    assert torch.equal(model.embed_images(features()), expected[1])
    assert model.training
    assert model.text.training


def test_images_that_a_tower_does_not_normalise() -> None:
    model = tiny(image_norm=False)
    raw = model.embed_images(features(), normalize=False)
    assert torch.equal(raw, model.image(features()))
    assert torch.equal(model.embed_images(features()), F.normalize(raw, dim=1))
    assert torch.equal(model.embed_images(features().numpy()), model.embed_images(features()))
    assert model.embed_images(torch.empty(0, WIDTH)).shape == (0, 8)


@pytest.mark.parametrize("crop", ["centre", "ten", "whole"])
def test_pictures(tmp_path: Path, crop: str) -> None:
    model = tiny(PictureView(16, crop))
    model.save_pretrained(tmp_path)
    loaded = ImageTextModel.from_pretrained(tmp_path)
    found = loaded.embed_images(pictures(), 3)
    torch.testing.assert_close(found, model.embed_images(model.preprocess(pictures()), 3))
    shape = (4, 10, 3, 16, 16) if crop == "ten" else (4, 3, 16, 16)
    assert loaded.preprocess(pictures()).shape == shape
    grey = [picture.convert("L") for picture in pictures()]
    assert loaded.embed_images(grey).shape == (4, 8)
    with pytest.raises(ValueError, match="sees features, not pictures"):
        tiny().preprocess(pictures())


def test_half_precision_and_the_meta_device(tmp_path: Path) -> None:
    model = tiny().bfloat16()
    model.save_pretrained(tmp_path)
    loaded = ImageTextModel.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.embed(TEXTS), model.embed(TEXTS))


def test_it_can_be_trained_on(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    model = ImageTextModel.from_pretrained(tmp_path).train()
    ids = torch.tensor([WORDS.encode("a dog runs")])
    images, texts = model(features(1), ids, torch.tensor([ids.shape[1]]))
    (images * texts).sum().backward()
    assert all(one.grad is not None for one in model.parameters())


@pytest.mark.parametrize(("given", "message"), [
    ({"feature_dim": None}, "expected either feature_dim or pictures"),
    ({"pictures": PictureView()}, "expected either feature_dim or pictures"),
    ({"feature_dim": 0}, "feature_dim is 0"),
    ({"measure": "l2"}, "measure is 'l2': expected one of cosine, order"),
    ({"version": 2}, "version is 2"),
    ({"towers": {"embed_dim": 9, "members": 2}}, "embed_dim is 9: expected a multiple of members, 2"),
    ({"towers": {"members": 2}, "feature_dim": None, "pictures": PictureView()}, "members is above 1"),
])  # fmt: skip
def test_values_that_no_model_has(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageTextModel(**{"towers": TowerConfig(), "vocabulary": WORDS, "feature_dim": 3, **given})


def test_the_configuration_is_all_of_the_model(tmp_path: Path) -> None:
    model = tiny(PictureView(16, "whole", (0.5,) * 3, (0.25,) * 3), text="bigru")
    config = json.loads(json.dumps(model.record()))
    again = ImageTextModel(**config)
    assert again.record() == model.record()
    assert isinstance(again.vocabulary, Vocabulary)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.embed(TEXTS), model.embed(TEXTS))


def test_what_is_no_list_of_pictures_is_refused() -> None:
    model = tiny(PictureView(16, "whole"))
    for given, said in (
        ("a.jpg", "a single str"),
        (pictures()[0], "a single Image"),
        (["a.jpg", Path("b.jpg")], "a list of PosixPath, str"),
    ):
        for call in (model.embed_images, model.preprocess):
            with pytest.raises(TypeError, match=rf"pictures are {said}.*PIL\.Image\.open"):
                call(given)
