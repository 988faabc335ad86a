"""The tutorials run, show what they say, and their pages are of their code."""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from warning_filters import ROOT

from docs.tutorials import __main__ as rendering

EXAMPLES = ROOT / "examples"
LARGEST = 600_000


@pytest.fixture
def _as_a_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One seed, no window, the folder of the script among those of modules; torch's generator as before."""
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("SEEDS", "1")
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
    plt.close("all")


def run(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"tutorial_{name}.py"), run_name="__main__")


@pytest.mark.parametrize("script", rendering.scripts(), ids=lambda path: path.stem)
def test_its_page_has_its_code_and_its_text(script: Path) -> None:
    page = rendering.page_of(script).read_text(encoding="utf-8")
    found = rendering.cells(script.read_text(encoding="utf-8"))
    assert found[0].markdown
    code = [cell.text for cell in found if not cell.markdown]
    assert re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) == code
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for cell in found:
        if cell.markdown:
            assert cell.text.split("\n", 1)[-1] in prose


def test_every_page_has_a_script() -> None:
    pages = {rendering.page_of(script) for script in rendering.scripts()}
    assert set(rendering.FOLDER.glob("*.md")) == pages


def test_figures_are_small_and_shown() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in rendering.FOLDER.glob("*.md"))
    files = [*rendering.FOLDER.glob("*.png")]
    assert {path.name for path in files} == set(re.findall(r"\]\(([\w-]+\.png)\)", text))
    assert sum(path.stat().st_size for path in files) < LARGEST


def test_cells_of_a_script() -> None:
    source = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\n# %%\nprint(x)\n"
    found = [tuple(cell) for cell in rendering.cells(source)]
    assert found == [(True, "# Title\n\ntext", 1), (False, "x = 1", 6), (False, "print(x)", 9)]


@pytest.mark.usefixtures("_as_a_script")
def test_digits_collapse_and_are_cured() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    names = run("digits")
    mean = {name: found[0][0] for name, found in names["results"].items()}
    assert names["diagnostics"].history[-1].collapsed
    assert names["hardest_losses"][-1] == pytest.approx(names["MARGIN"], abs=0.01)
    assert any("collapsed" in line for line in names["diagnostics"].findings)
    for cured in ("semi-hard", "all", "32 hardest, after all", "SupCon"):
        assert mean[cured] > mean["hardest, after all"] > mean["untrained"] > mean["hardest"]
        assert mean[cured] > 2 * mean["pixels"]
    assert mean["8 hardest"] < mean["untrained"]


@pytest.mark.usefixtures("_as_a_script")
def test_ids_keep_captions_from_being_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="pillow is not installed")
    monkeypatch.setenv("STEPS", "160")
    names = run("image_text")
    recall = {name: found[0] for name, found in names["results"].items()}
    assert (recall["hardest (VSE++)"] > recall["hardest, no ids"]).all()
    assert names["own"][:, 0].float().mean() > 0.1
    mined, image_of = names["with_ids"].queries.indices, names["test"].image_of
    assert not (image_of[mined] == image_of[:, None]).any()


@pytest.mark.usefixtures("_as_a_script")
def test_mined_negatives_help_the_retriever(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("MULTI30K", str(ROOT.parent / "shared/data/multi30k/task2/raw"))
    if not (Path(folder) / "train.1.en.gz").exists():
        pytest.skip("the captions of Multi30k are not here: MULTI30K names their folder")
    monkeypatch.setenv("MULTI30K", folder)
    monkeypatch.setenv("STEPS", "250")
    found = {name: values[0] for name, values in run("text")["results"].items()}
    assert found["6 below 0.95"][2] > max(found["batch alone"][2], found["before"][2])
    assert found["6 hardest"][2] < found["before"][2]


@pytest.mark.usefixtures("_as_a_script")
def test_without_the_captions_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MULTI30K", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no train\.1\.en\.gz in .*: set MULTI30K"):
        run("text")
