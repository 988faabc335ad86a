"""The command line as a newcomer meets it: help, lists, refusals, a run with its report,
features.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import vsepp.evaluate
import vsepp.features
from vsepp.arguments import COMMANDS
from vsepp.commands import main
from vsepp.recipes import PUBLISHED, RECIPES, UNVERIFIED, recipe_named
from vsepp.release.options import RENAMED
from vsepp.report.page import expected_of

QUICK = [
    *[
        "--epochs",
        "1",
        "--embed-dim",
        "16",
        "--word-dim",
        "8",
        "--threshold",
        "1",
        "--batch-size",
        "32",
    ],
    *["--quiet", "--cpu", "--no-tensorboard"],
]


def test_help_explains_every_command(capsys) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main("coco", [command, "--help"])
        assert stopped.value.code == 0
        assert "usage:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main("coco", ["--help"])
    shown = capsys.readouterr().out
    for command, kind in COMMANDS.items():
        (said,) = re.findall(rf"^  {command} +(.*)$", shown, re.MULTILINE)
        assert said.endswith("."), f"the help of {kind.__name__} is cut off"
    assert "--recipe" in shown


RESNET = ("coco-resnet152-rc-rv-vse++", "coco-resnet152-ft-rc-rv-vse++")


def test_recipes_show_numbers_with_their_confidence(capsys) -> None:
    main("coco", ["recipes"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in RECIPES)
    assert "64.6/90.0/95.7 | 52.0/84.3/92.0 (published)" in shown
    assert "unverified" not in shown
    main("coco", ["recipes", "--all"])
    shown = capsys.readouterr().out
    assert "64.6/90.0/95.7 | 52.0/84.3/92.0 (published)" in shown
    assert "58.3/86.1/93.3 | 43.6/77.6/87.8 (unverified)" in shown
    runs = [SimpleNamespace(recipe=name, settings=RECIPES[name].settings) for name in RESNET]
    assert [expected_of(run, "1k") != "" for run in runs] == [False, True]
    main("coco", ["recipes", "--only", "order++"])
    assert "vse0" not in capsys.readouterr().out


def test_every_row_of_the_papers_tables_is_a_recipe() -> None:
    rows = {name.rpartition("-")[0] for name in RECIPES}
    coco = {
        "vgg19-1c",
        "vgg19-rc",
        "vgg19-rc-rv",
        "vgg19-ft-rc-rv",
        "resnet152-rc-rv",
        "resnet152-ft-rc-rv",
    }
    flickr = {"vgg19-1c", "vgg19-rc", "vgg19-ft-rc", "resnet152-rc", "resnet152-ft-rc"}
    assert {f"coco-{row}" for row in coco} | {f"flickr30k-{row}" for row in flickr} <= rows
    for recipe in RECIPES.values():
        if recipe.name.startswith(("coco", "flickr30k")):
            protocol = "1k" if recipe.name.startswith("coco") else "test"
            assert recipe.expected[protocol].confidence in (PUBLISHED, UNVERIFIED)
        if recipe.start_from:
            assert recipe.settings.model.finetune
            assert recipe.settings.schedule.learning_rate == 2e-5
            assert recipe.settings.schedule.epochs == 15
            assert not RECIPES[recipe.start_from].settings.model.finetune


def test_the_official_settings() -> None:
    order0 = recipe_named("flickr8k-256-order0").settings
    assert (order0.loss.negatives, order0.loss.margin, order0.loss.measure) == (
        "all",
        0.05,
        "order",
    )
    assert (order0.model.absolute, order0.schedule.learning_rate) == (True, 1e-3)
    best = recipe_named("flickr8k-1024-vse++").settings
    assert (best.loss.negatives, best.model.image_norm, best.model.embed_dim) == (
        "hardest",
        True,
        1024,
    )
    assert not recipe_named("flickr8k-1024-vse0").settings.model.image_norm
    assert (best.schedule.epochs, best.schedule.batch_size, best.schedule.clip) == (30, 128, 2.0)


MIGRATING = Path(__file__).parents[2] / "docs" / "migrating.md"


def test_options_of_the_authors_are_told_their_names_here(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("coco", ["--num_epochs", "3", "--max-violation", "--embed_size=64", "--margin", "0.1"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "--num_epochs is --epochs; --max-violation is --negatives hardest" in said
    assert "--embed_size is --embed-dim" in said
    assert "--margin" not in said


def test_the_table_of_the_authors_options_is_right(capsys) -> None:
    """docs/migrating.md: what is there is what the trainer says, and what it has."""
    text = MIGRATING.read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `--")]
    here = {name: right for left, right in rows for name in re.findall(r"--([a-z_]+)", left)}
    with pytest.raises(SystemExit):
        main("coco", ["train", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for name, said in RENAMED.items():
        options = re.findall(r"--[a-z-]+", said)
        assert set(options) <= known
        assert all(one in here[name] for one in options) if options else "needless" in here[name]
    for name, right in here.items():
        assert set(re.findall(r"--[a-z-]+", right)) <= known
        if right == "the same":
            assert name not in RENAMED
            assert f"--{name.replace('_', '-')}" in known
    assert RENAMED.keys() <= here.keys()
    assert len(here) == len(RENAMED) + 8


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        (
            "coco",
            ["--recipe", "coco-resnet125-vse++"],
            "unknown recipe .* did you mean coco-resnet152",
        ),
        ("flickr8k", [], "flickr8k needs --data DIR"),
        ("flickr30k", ["--data", "nowhere"], "no folder nowhere"),
        (
            "coco",
            ["--recipe", "coco-vgg19-ft-rc-rv-vse++"],
            "second stage: train coco-vgg19-rc-rv-vse.. first",
        ),
        ("coco", ["evaluate", "absent.pt"], "no checkpoint at absent.pt: name a run's folder"),
        ("coco", ["report", "absent"], "no absent/result.json: name a run's folder"),
        ("coco", ["report"], "no run is named: pass the folders of finished runs"),
        ("coco", ["report", "--out", "/"], "no run is named"),
        ("coco", ["trian"], "unknown command 'trian': choose one of train, evaluate"),
        ("coco", ["--epochs", "0"], "--epochs is 0: expected at least 1"),
        ("coco", ["--batch-size", "0"], "--batch-size is 0: expected at least 1"),
        ("coco", ["--decay-after", "0"], "--decay-after is 0: expected at least 1"),
        ("coco", ["--checkpoint-every", "0"], "--checkpoint-every is 0: expected at least 1"),
        ("coco", ["--queue", "-3"], "--queue is -3: expected at least 0"),
        (
            "coco",
            ["vocabulary", "--from-pickle", "a.pkl", "--out", "b.json"],
            "no vocabulary pickle at a.pkl",
        ),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(dataset, arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(dataset, arguments)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert "Traceback" not in shown


def test_two_recipes_a_report_and_an_evaluation(precomp_root: Path, tmp_path: Path, capsys) -> None:
    recipes = ["flickr8k-256-vse0", "flickr8k-256-vse++"]
    out = tmp_path / "runs"
    main("flickr8k", ["--data", str(precomp_root), "--out", str(out), "--recipe", *recipes, *QUICK])
    table = capsys.readouterr().out
    assert all(f"{recipe}-seed0" in table for recipe in recipes)
    assert "19.9/48.5/62.3 | 13.2/36.0/49.6 (reference run)" in table
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "19.9/48.5/62.3 | 13.2/36.0/49.6 (reference run)" in page
    assert "changed (recipe, run): data.threshold: 4, 1; model.embed_dim: 256, 16;" in page
    assert page.count("<svg") == 8  # two pictures of losses, six charts
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count('class="query"') == 12
    stored = json.loads((out / f"{recipes[1]}-seed0" / "result.json").read_text())
    main("flickr8k", [
        *["evaluate", str(out / f"{recipes[1]}-seed0"), "--data", str(precomp_root)],
        *["--json", str(tmp_path / "found.json")],
    ])  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.startswith("test: i2t ")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["test"] == stored["results"]["test"]
    main(
        "flickr8k",
        [
            "report",
            *(str(out / f"{one}-seed0") for one in recipes),
            "--out",
            str(tmp_path / "again.html"),
        ],
    )
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_features_are_extracted_and_train_a_frozen_recipe(
    flickr_root: Path, tmp_path: Path
) -> None:
    broken = flickr_root / "f8k" / "images" / "0002.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    out = flickr_root / "f8k_precomp"
    main("flickr8k", [
        *["features", "--data", str(flickr_root), "--dataset", "flickr8k", "--out", str(out)],
        *["--backbone", "resnet18", "--weights", "none", "--image-size", "32"],
        *["--skip-corrupt", "--cpu"],
    ])  # fmt: skip
    rows = np.load(out / "train_ims.npy")
    assert rows.shape == (39, 512)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert len((out / "train_caps.txt").read_text().splitlines()) == 5 * 39
    assert "0002.jpg" not in (out / "train_names.txt").read_text()
    main(
        "flickr8k",
        [
            "--data",
            str(flickr_root),
            "--out",
            str(tmp_path / "runs"),
            "--recipe",
            "flickr8k-256-vse0",
            *QUICK,
        ],
    )
    page = (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page


def test_an_evaluation_looks_at_all_pictures_of_its_split_first(
    flickr_root: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    """And at none of the others; and at the place of its result."""
    kind = ["--recipe", "flickr8k-small-vse0", "--image-size", "32", *QUICK]
    main("flickr8k", ["--data", str(flickr_root), "--out", str(tmp_path / "runs"), *kind])
    run = tmp_path / "runs" / "flickr8k-small-vse0-seed0"
    images = flickr_root / "f8k" / "images"
    monkeypatch.setattr(vsepp.evaluate, "embed", lambda *_: pytest.fail("it began to embed"))
    given = ["evaluate", str(run), "--data", str(flickr_root), "--cpu"]
    for name in ("0000.jpg", max(images.iterdir()).name):  # of train, the last of test
        (images / name).write_bytes(b"")
    message = refusal(capsys, given)
    assert f"{max(images.iterdir()).name} cannot be decoded" in message
    assert "1 of 12 pictures" in message
    monkeypatch.undo()
    main("flickr8k", [*given, "--skip-corrupt"])
    assert "1 images were left out" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert "is a folder" in refusal(capsys, [*given, "--json", str(tmp_path)])
    place = str(tmp_path / "file" / "found.json")
    assert "its folder cannot be made" in refusal(capsys, [*given, "--json", place])


def refusal(capsys, given: list[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main("flickr8k", given)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "test"])
def test_features_are_refused_before_any_is_computed(
    flickr_root: Path, tmp_path: Path, capsys, monkeypatch, part: str
) -> None:
    """Where any split has an image without five captions, or the files cannot be written."""
    monkeypatch.setattr(vsepp.features, "encode_images", lambda *_, **__: pytest.fail("it began"))
    given = ["features", "--data", str(flickr_root), "--dataset", "flickr8k", "--cpu"]
    given += ["--backbone", "resnet18", "--weights", "none", "--image-size", "32"]
    (tmp_path / "file").write_text("")
    said = refusal(capsys, [*given, "--out", str(tmp_path / "file")])
    assert "its folder cannot be made" in said
    path = flickr_root / "f8k" / "dataset_flickr8k.json"
    content = json.loads(path.read_text())
    image = [one for one in content["images"] if one["split"] == part][-1]
    image["sentences"].pop()
    path.write_text(json.dumps(content))
    said = refusal(capsys, [*given, "--out", str(tmp_path / "out")])
    assert "has 4 captions: the precomputed layout needs 5 of each image" in said
    assert not list(tmp_path.glob("out/*"))
