"""What mining finds while a run is under way, and what the page tells of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

import vsepp.report.page
from stranger import leaves, replaced
from test_vsepp_report import HOSTILE, check_page, png, report, report_or_refusal, write_run
from vsepp.commands import main
from vsepp.data.scenes import draw_scenes
from vsepp.evaluate import Embedded
from vsepp.report.explanations import chance_rsum
from vsepp.report.mined_gallery import mined_gallery
from vsepp.run.mined import mining_row
from vsepp.settings import Loss


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two recipes on a few scenes, six epochs."""
    out = tmp_path_factory.mktemp("scenes")
    sizes = "--train-images 60 --epochs 6 --warmup-epochs 2 --embed-dim 8 --word-dim 8 --cpu "
    sizes += "--image-size 16 --quiet --no-tensorboard --recipe scenes-vse0 scenes-vse++"
    main("coco", [*sizes.split(), "--out", str(out)])
    return out


def random_split(images: int, seed: int) -> Embedded:
    """Embeddings of a split; the captions of an image lie apart, some images have none."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    image_of = torch.from_numpy(random.integers(0, images, 3 * images))
    parts = [torch.randn(n, 6, generator=generator) for n in (images, len(image_of))]
    kept = np.sort(random.choice(4 * images, len(image_of), replace=False))
    unit = [torch.nn.functional.normalize(one, dim=1) for one in parts]
    return Embedded(*unit, image_of, np.arange(images), kept)


@pytest.mark.parametrize(("images", "margin"), [(9, 0.2), (200, 0.5), (3, 0.9)])
def test_statistics_are_those_of_a_plain_loop(images: int, margin: float) -> None:
    embedded = random_split(images, images)
    found = mining_row(embedded, Loss("all", margin=margin, loss="infonce"), keep=True)
    firsts = [np.flatnonzero(embedded.image_of == image)[:1] for image in range(images)]
    told = [(image, int(first[0])) for image, first in enumerate(firsts) if len(first)]
    if len(told) > 128:
        told = [told[len(told) * (2 * n + 1) // 256] for n in range(128)]
    rows, columns = (torch.tensor(one) for one in zip(*told, strict=True))
    scores = embedded.images[rows] @ embedded.captions[columns].T
    hardest, positive = scores.clone().fill_diagonal_(-2), scores.diagonal()
    ways = torch.cat([hardest.amax(1), hardest.amax(0)])
    active = (ways > positive.repeat(2) - margin).double().mean()
    values = found["mining"]
    assert values["active_anchors"] == pytest.approx(float(active), abs=1e-6)
    assert values["positive"] == pytest.approx(float(positive.mean()), abs=1e-6)
    assert values["negative"] == pytest.approx(float(ways.mean()), abs=1e-6)
    place = {int(embedded.captions_kept[column]): n for n, (_, column) in enumerate(told)}
    assert len(found["mined"]) == min(6, len(told))
    for (own, score), *others in found["mined"]:
        row = place[own]
        assert score == pytest.approx(float(positive[row]), abs=1e-6)
        best = hardest[row].sort(descending=True).values[: min(3, len(told) - 1)]
        assert [one[1] for one in others] == pytest.approx(best.tolist(), abs=1e-6)
        assert all(
            float(scores[row, place[pair]]) == pytest.approx(s, abs=1e-6) for pair, s in others
        )


def test_one_pair_has_no_negatives() -> None:
    assert mining_row(random_split(1, 0), Loss(), keep=True) == {}


def test_three_negatives_of_six_anchors_at_three_epochs(trained: Path) -> None:
    for recipe in ("scenes-vse0", "scenes-vse++"):
        run = trained / f"{recipe}-seed0"
        history = json.loads((run / "result.json").read_text())["history"]
        assert all(0 <= row["mining"]["active_anchors"] <= 1 for row in history)
        assert not any("mined" in row for row in history)
        mined = json.loads((run / "gallery.json").read_text())["mined"]
        assert [one["epoch"] for one in mined] == [1, 5, 6]
        captions = [[anchor["caption"] for anchor in one["anchors"]] for one in mined]
        assert captions[0] == captions[1] == captions[2]
        for anchor in (anchor for one in mined for anchor in one["anchors"]):
            assert len(anchor["negatives"]) == 3
            assert len({one["picture"] for one in (anchor, *anchor["negatives"])}) == 4
    page = (trained / "report.html").read_text(encoding="utf-8")
    check_page(page)
    assert page.count('<div class="anchor">') == 2 * 3 * 6
    assert page.count("<svg") == 8


def test_the_page_explains(trained: Path) -> None:
    page = " ".join((trained / "report.html").read_text(encoding="utf-8").split())
    assert "it is at most 600; guessing would reach 6.4 (test)" in page
    assert "the loss drops after epoch 2 because it then adds up fewer terms" in page
    assert "sum over all 127 other pairs" in page
    assert "higher is better" in page
    assert "the sum of hinges, VSE0" in page
    assert "the max of hinges, VSE++, after 2 epochs of all negatives" in page
    assert re.search(r"loss.negatives</td><td[^>]*>all</td><td[^>]*>hardest</td>", page)
    assert "Within one seed the two are equal" in page
    assert "anchors have a negative within the margin" in page


@pytest.mark.parametrize(("images", "captions"), [(500, 2500), (1000, 5000), (4, 8), (7, 7)])
def test_chance_is_that_of_a_draw(images: int, captions: int) -> None:
    right = captions // images
    levels = [1, 5, 10]
    found = [1 - hypergeom.pmf(0, captions, right, min(k, captions)) for k in levels]
    expected = 100 * sum([*found, *(min(k, images) / images for k in levels)])
    assert chance_rsum(images, captions) == pytest.approx(expected)


NEWER = {"result.json": ("history", "sizes"), "gallery.json": ("mined",)}


def with_mining(run: Path) -> Path:
    """The parts that training writes since, put into a finished run."""
    pair = {"caption": "a cat & a dog", "picture": png(), "score": 0.25}
    parts = {"mined": [{"epoch": 1, "anchors": [{**pair, "negatives": [pair]}]}]}
    gallery = {**json.loads((run / "gallery.json").read_text()), **parts}
    (run / "gallery.json").write_text(json.dumps(gallery))
    result = json.loads((run / "result.json").read_text())
    for row in result["history"]:
        row["mining"] = {"active_anchors": 0.5, "positive": 0.4, "negative": 0.3}
    result["sizes"] = {"dev": [50, 250], "test": [100, 500]}
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.mark.parametrize("hostile", [*HOSTILE, 1e300, 10**400], ids=lambda one: repr(one)[:20])
def test_html_in_the_newer_parts_stays_text_or_is_refused(
    tmp_path: Path, monkeypatch, hostile
) -> None:
    run, found = with_mining(write_run(tmp_path / "run")), {True: 0, False: 0}
    for chart in ("curves", "recall_bars"):
        monkeypatch.setattr(vsepp.report.page, chart, lambda runs: [])
    for name, parts in NEWER.items():
        good = (run / name).read_text()
        for path, is_key in leaves(json.loads(good)):
            if path[0] not in parts or (is_key and not isinstance(hostile, str)):
                continue
            (run / name).write_text(json.dumps(replaced(json.loads(good), path, is_key, hostile)))
            page = report_or_refusal(run, tmp_path / "r.html")
            found[page is None] += 1
            if page is not None:
                check_page(page)
                assert "<script" not in page
                assert "7 * 7" not in page or "{{ 7 * 7 }}" in page
        (run / name).write_text(good)
    assert found[True] > 5
    assert sum(found.values()) > 15


def test_a_run_of_an_earlier_version_has_a_page(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "run"), out=tmp_path / "r.html")
    assert "What mining finds" not in page
    assert "guessing" not in page


@pytest.mark.parametrize("row", [10**9, -1, "1", None, 0.5, True])
def test_pairs_that_a_state_names_and_the_data_lack(row) -> None:
    """A state from elsewhere is refused by a line, not by a traceback."""
    dev = draw_scenes(0, 8, 8).dev
    with pytest.raises(ValueError, match="mined negatives"):
        mined_gallery([{"epoch": 1, "mined": [[[row, 0.5]]]}], dev)
