"""The studies on Omniglot and Multi30k, tried on made-up data: what they compare, choose, skip and repeat."""

from __future__ import annotations

import gzip
import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import multi30k, multi30k_captions, omniglot, omniglot_selections, studies
from benchmarks.multi30k_training import BATCH, MINED, RANDOM, drawn, embedded, towers, with_own
from benchmarks.omniglot_selections import EXACT, LIBRARIES, OURS, PEER, SELECTIONS
from benchmarks.study_rows import mean_and_spread, read, within_spread
from hardneg import All, Hardest, TripletLoss

TINY = omniglot.Budget(steps=2, classes=4, rows=2, width=4, embedding=8)
SMALL = multi30k.Budget(epoch=512, first=4, then=1, width=16)


def gathered(classes: int = 12, rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    centres = torch.randn(classes, 8).repeat_interleave(rows, 0)
    return centres + 0.8 * torch.randn(classes * rows, 8), torch.arange(classes * rows) // rows


@pytest.mark.parametrize("selection", EXACT)
@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_what_the_peer_calls_otherwise_is_the_same_loss(selection: str, margin: float) -> None:
    pytest.importorskip("pytorch_metric_learning", reason="the peer is not installed")
    x, labels = gathered()
    found = []
    for library in (OURS, PEER):
        leaf = x.clone().requires_grad_()
        loss = LIBRARIES[library][selection](margin)(F.normalize(leaf), labels)
        found.append((loss, *torch.autograd.grad(loss, leaf)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("positives", ["all", "hardest"])
def test_the_hardest_take_over_after_the_warm_up(
    positives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(omniglot_selections, "WARM_UP", 2)
    x, labels = gathered()
    step = omniglot_selections.after_all(positives)(0.2)
    every, hardest = (
        TripletLoss(0.2, positives, which, "euclidean", reduction="mean_active")(x, labels)
        for which in (All(), Hardest())
    )
    assert [step(x, labels) for _ in range(4)] == [every, every, hardest, hardest]
    assert every != hardest


def drawings(folder: Path) -> None:
    """Eight alphabets, one of them for the test, with two classes of four drawings each."""
    parts = ["background"] * 7 + ["evaluation"]
    names = [(i, part, f"alphabet{i // 2}") for i, part in enumerate(np.repeat(parts, 2))]
    lines = ["label\tset\talphabet\tcharacter", *(f"{i}\t{p}\t{a}\tx" for i, p, a in names)]
    (folder / "classes.tsv").write_text("\n".join(lines), encoding="utf-8")
    made = np.random.default_rng(0)
    labels = np.repeat(np.arange(16), 4).astype(np.int16)
    pictures = made.random((16, 105 * 105))[labels] + made.random((64, 105 * 105)) > 1.4
    images = np.packbits(pictures, axis=1)
    np.savez(folder / "omniglot.npz", images=images, label=labels)


def test_no_alphabet_is_in_two_splits(tmp_path: Path) -> None:
    drawings(tmp_path)
    data = omniglot.splits(tmp_path)
    assert {name: sorted(set(x.labels.tolist())) for name, x in data.items()} == {
        "training": [0, 1, 2, 3],
        "validation": list(range(4, 14)),
        "test": [14, 15],
    }
    assert data["test"].images.shape == (8, 1, 28, 28)


def test_a_study_chooses_on_validation_and_a_row_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pytorch_metric_learning", reason="the peer is not installed")
    drawings(tmp_path)
    names, out = ["all", "8 at random", omniglot.SOFT], tmp_path / "rows.jsonl"
    monkeypatch.setattr(omniglot, "NAMES", names)
    monkeypatch.setattr(omniglot, "SEEDS", (0, 1))
    monkeypatch.setattr(omniglot, "Budget", lambda: TINY)
    data = omniglot.splits(tmp_path)
    omniglot.study(data, TINY, out)
    rows = read(out)
    assert [row["split"] for row in rows] == ["validation"] * (4 + 4 + 2) + ["test"] * 2 * 5
    best = max(rows[:4], key=lambda row: row["map_at_r"])
    tested = [row for row in rows if row["split"] == "test" and row["selection"] == "all"]
    chosen = [best["margin"], best["learning_rate"]]
    assert [[row["margin"], row["learning_rate"]] for row in tested] == [chosen] * 4
    omniglot.study(data, TINY, out)
    assert len(read(out)) == len(rows)
    again = repeated(omniglot, rows[4], tmp_path, monkeypatch, capsys)
    same = ("selection", "margin", "learning_rate", "seed", "map_at_r", "last_loss", "mean_cosine")
    assert {key: again[key] for key in same} == {key: rows[4][key] for key in same}


def repeated(
    study: object,
    row: dict,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> dict:
    """What the command in a row prints."""
    python, module, name, *words = shlex.split(row["command"].replace("DIR", str(folder)))
    assert (python, module, name) == ("python", "-m", study.__name__)
    monkeypatch.setattr("sys.argv", [name, "--threads", str(torch.get_num_threads()), *words])
    capsys.readouterr()
    study.main()
    return json.loads(capsys.readouterr().out)


def sentences(folder: Path) -> None:
    """Pictures of two things, named in every caption; training knows all things, not all pairs of them."""
    things = torch.randperm(225, generator=torch.Generator().manual_seed(0)).tolist()
    for split, first, number in (("train", 0, 150), ("val", 150, 20), ("test_2016", 170, 20)):
        for language in multi30k_captions.LANGUAGES:
            for place in range(5):

                def caption(i: int, told: str = f"{place}{language}", own: str = language) -> str:
                    return f"{own}{things[i] // 15}a, {own}{things[i] % 15}b {told}"

                lines = [caption(i) for i in range(first, first + number)]
                if split == "train":
                    lines[0] = caption(170)  # of the test split
                    lines[2] = lines[1].upper()  # of the picture before
                path = folder / f"{split}.{place + 1}.{language}.gz"
                path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def test_captions_that_repeat_are_left_out(tmp_path: Path) -> None:
    sentences(tmp_path)
    data = multi30k_captions.splits(tmp_path)
    kept = {split: len(sides["en"].images.unique()) for split, sides in data.items()}
    assert kept == {"training": 148, "validation": 20, "test": 20}
    captions = data["training"]["de"]
    assert captions.images.bincount().tolist() == [5] * 148
    drawn = captions.one_of(torch.arange(148))
    assert torch.equal(captions.images[drawn], torch.arange(148))


def test_bags_are_what_an_embedding_bag_takes() -> None:
    texts = [("a", "house"), ("ox",), ("horses", "a", "ox")]
    bags = multi30k_captions.Bags(texts)
    buckets, offsets = bags[torch.tensor([2, 0])]
    expected = [
        [bucket for word in texts[i] for bucket in multi30k_captions.buckets_of(word)]
        for i in (2, 0)
    ]
    assert buckets.tolist() == [*expected[0], *expected[1]]
    assert offsets.tolist() == [0, len(expected[0])]


@pytest.mark.parametrize("way", [RANDOM, MINED])
def test_own_negatives_are_of_other_pictures(tmp_path: Path, way: str) -> None:
    sentences(tmp_path)
    data = multi30k_captions.splits(tmp_path)["training"]
    torch.manual_seed(0)
    model = towers(SMALL.width)
    budget = replace(SMALL, share=9.0)  # a ceiling that leaves out none
    pairs = with_own(drawn(data, 128), model, data, way, budget)
    images = data["en"].images[pairs.english]
    assert torch.equal(data["de"].images[pairs.german], images)
    assert pairs.own.shape == (128, 4)
    other = data["de"].images[pairs.own] != images[:, None]
    if way == RANDOM:  # ids leave out the few that are not
        assert other.float().mean() > 0.9
        return
    x = embedded(model["en"], data["en"].bags, pairs.english)
    y = embedded(model["de"], data["de"].bags)
    assert other.all()
    everything = x @ y.T
    assert (x[:, None] * y[pairs.own]).sum(2).mean() > everything.mean() + everything.std()


def test_a_study_of_captions_learns_and_a_row_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences(tmp_path)
    out = tmp_path / "rows.jsonl"
    for name, value in (
        ("BATCHES", (32,)),
        ("SEEDS", (0,)),
        ("LEARNING_RATES", {32: (3e-2, 1e-6)}),
    ):
        monkeypatch.setattr(multi30k, name, value)
    monkeypatch.setattr(multi30k, "WAYS", {32: (BATCH, MINED)})
    monkeypatch.setattr(multi30k, "Budget", lambda: SMALL)
    monkeypatch.setattr(multi30k, "forget_peak", lambda: None)  # which takes seconds in all
    data = multi30k_captions.splits(tmp_path)
    multi30k.study(data, SMALL, (32,), out)
    rows, spent = read(out), {"process_seconds": 0, "peak_mib": 0}
    assert [row["way"] for row in rows] == [None, None, BATCH, MINED]
    assert {row["learning_rate"] for row in rows[2:]} == {3e-2}
    assert rows[2]["before"] == rows[3]["before"]
    assert rows[2]["before"]["map"] > 2 * rows[1]["before"]["map"]  # the rate of the latter is 1e-6
    assert {**rows[2]["after"], **spent} != {**rows[3]["after"], **spent}
    multi30k.study(data, SMALL, (32,), out)
    assert len(read(out)) == 4
    again = repeated(multi30k, rows[3], tmp_path, monkeypatch, capsys)
    for stage in ("before", "after"):
        assert again[stage]["map"] == rows[3][stage]["map"]


def test_libraries_agree_where_the_difference_by_seed_may_be_none() -> None:
    assert within_spread([1.0, 2.0, 3.0], [1.1, 1.9, 3.0])
    assert not within_spread([1.0, 2.0, 3.0], [2.0, 3.1, 4.0])  # as far apart as seeds are
    assert mean_and_spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert mean_and_spread([1.25]) == "1.2"
    assert mean_and_spread([]) == "-"


def test_every_run_of_a_table_has_its_command() -> None:
    """And no test run has another margin or rate than validation chose."""
    rows = read(omniglot.ROWS)
    chosen = omniglot.chosen(rows)
    for row in rows:
        run = omniglot.Run(**{key: row[key] for key in asdict(omniglot.choices()[0])})
        assert row["command"] == run.command()
        assert row["split"] != "test" or chosen[row["selection"]] == (
            row["margin"],
            row["learning_rate"],
        )
    for row in read(multi30k.ROWS):
        run = multi30k.Run(**{key: row[key] for key in asdict(multi30k.choices((256,))[0])})
        assert row["command"] == run.command()


def test_tables_have_a_line_for_each_selection() -> None:
    table = studies.selections().splitlines()
    assert {line.split(" | ")[0][2:] for line in table[2:]} <= set(omniglot_selections.NAMES)
    assert set(SELECTIONS) <= set(omniglot_selections.NAMES)
