"""Several seeds of several recipes: a folder each, one table, and what the seeds decide."""

import json
import shutil
from pathlib import Path

import pytest
from scipy import stats

from test_vsepp_commands import QUICK, refusal
from test_vsepp_report import report, write_run
from vsepp.commands import main
from vsepp.report.verdict import difference, paired

RECIPES = ["flickr8k-256-vse0", "flickr8k-256-vse++"]


def test_every_recipe_with_every_seed(precomp_root: Path, tmp_path: Path, capsys) -> None:
    """Seed by seed, and again by the same command with --resume."""
    out = tmp_path / "runs"
    given = ["--data", str(precomp_root), "--out", str(out), *QUICK, "--resume", "--no-image-norm"]
    main("flickr8k", [*given, "--recipe", RECIPES[0], "--seed", "5"])
    capsys.readouterr()
    given += ["--recipe", *RECIPES, "--seed", "0", "1", "0"]
    main("flickr8k", given)
    told = capsys.readouterr()
    folders = {f"{recipe}-seed{seed}" for seed in (0, 1) for recipe in RECIPES}
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        *folders,
        f"{RECIPES[0]}-seed5",
    }
    seeds = [json.loads((out / one / "settings.json").read_text())["schedule"] for one in folders]
    assert [one["seed"] for one in seeds] == [int(name[-1]) for name in folders]
    begun = [line.split("]")[0][1:] for line in told.err.splitlines() if "parameters on" in line]
    assert begun == [f"{recipe}-seed{seed}" for seed in (0, 1) for recipe in RECIPES]
    lines = told.out.splitlines()
    assert sum(line.startswith(tuple(folders)) for line in lines) == 4
    (mean,) = [line for line in lines if line.startswith(f"{RECIPES[0]}, 3 seeds")]
    assert mean.count("±") == 7
    assert any("95 % interval" in line and "seeds)" in line for line in lines)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<td>3</td>" in page
    assert "95 % interval" in page
    shutil.rmtree(out / f"{RECIPES[1]}-seed1")
    (out / f"{RECIPES[0]}-seed1" / "result.json").unlink()
    main("flickr8k", given)
    assert capsys.readouterr().out == told.out


def test_a_folder_of_any_seed_is_refused_before_training(
    precomp_root: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "runs"
    (out / f"{RECIPES[1]}-seed2").mkdir(parents=True)
    (out / f"{RECIPES[1]}-seed2" / "notes.txt").write_text("mine")
    given = ["--data", str(precomp_root), "--out", str(out), "--seed", "1", "2", *QUICK]
    assert "seed2 holds other files" in refusal(capsys, given)
    assert [path.name for path in out.iterdir()] == [f"{RECIPES[1]}-seed2"]


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_a_seed_that_is_none_is_refused(seed: str, capsys) -> None:
    assert "seed" in refusal(capsys, ["--data", ".", "--seed", "0", seed])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([439.3, 425.5, 446.5], [428.8, 393.2, 431.8]),
        ([1.0, 2.0], [4.0, 4.0, 4.5, 9.0]),
        ([*range(60)], [*range(5, 25)]),
    ],
)
def test_the_interval_is_welchs(ours: list[float], theirs: list[float]) -> None:
    apart, half = difference(ours, theirs)
    found = stats.ttest_ind(ours, theirs, equal_var=False)
    exact = found.confidence_interval(0.95)
    assert apart == pytest.approx((exact.low + exact.high) / 2)
    error = apart / found.statistic
    freedom = min(max(1, int(found.df + 1e-9)), 30)
    assert half == pytest.approx(error * stats.t.ppf(0.975, freedom), rel=2e-4)
    assert half >= 0.999 * (exact.high - exact.low) / 2


def test_the_same_seeds_are_compared_seed_by_seed() -> None:
    ours = {0: 406.2, 1: 414.8, 2: 429.7, 7: 401.0}
    theirs = {1: 389.6, 0: 390.5, 7: 404.0, 2: 411.1}
    apart, half = paired(ours, theirs)
    found = stats.ttest_rel([*ours.values()], [theirs[seed] for seed in ours])
    exact = found.confidence_interval(0.95)
    assert (apart - half, apart + half) == pytest.approx((exact.low, exact.high), abs=0.01)


RSUM = {"close": (180, 188, 184, 182, 183, 190), "apart": (180, 181, 182, 240, 241, 242)}


@pytest.mark.parametrize(
    ("case", "said"), [("close", "cannot be told apart"), ("apart", "is ahead of")]
)
def test_what_three_seeds_decide(tmp_path: Path, capsys, case: str, said: str) -> None:
    for number, rsum in enumerate(RSUM[case]):
        recipe, seed = ("scenes-vse0", "scenes-vse++")[number // 3], number % 3
        measured(write_run(tmp_path / "runs" / f"{recipe}-{seed}", recipe, seed), rsum)
    page = report(tmp_path / "runs", out=tmp_path / "r.html")
    assert said in page
    assert f"{sum(RSUM[case][3:]) / 3 - sum(RSUM[case][:3]) / 3:.1f} rsum" in page
    assert said in capsys.readouterr().out


def measured(run: Path, rsum: float) -> None:
    """Put a total into a finished run, as its R@10 of both directions."""
    result = json.loads((run / "result.json").read_text())
    for way in ("image_to_text", "text_to_image"):
        old = result["results"]["test"][way]
        old["recall_at_10"] = rsum / 2 - old["recall_at_1"] - old["recall_at_5"]
    (run / "result.json").write_text(json.dumps(result))


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    for recipe, rsum in (("scenes-vse0", 150), ("scenes-vse++", 240)):
        measured(write_run(tmp_path / "runs" / recipe, recipe), rsum)
    page = report(tmp_path / "runs", out=tmp_path / "r.html")
    assert "Within one seed the two are equal" in page
    assert "is ahead of" not in page


def test_runs_with_other_settings_are_no_seeds_of_each_other(tmp_path: Path, capsys) -> None:
    for seed, width in enumerate((128, 128, 64)):
        run = write_run(tmp_path / "runs" / f"seed{seed}", seed=seed)
        result = json.loads((run / "result.json").read_text())
        result["settings"]["model"]["embed_dim"] = width
        (run / "result.json").write_text(json.dumps(result))
    page = report(tmp_path / "runs", out=tmp_path / "r.html")
    assert "scenes-vse++ (embed_dim 128), 2 seeds" in capsys.readouterr().out
    assert "scenes-vse++ (embed_dim 64)" in page
