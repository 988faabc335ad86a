"""What a command line chooses beyond the paper: negatives, losses, schedules, batches, towers."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from hardneg import (
    All,
    Ceiling,
    DistanceWeighted,
    Hardest,
    RandomK,
    RankWindow,
    SelectiveHardest,
    SemiHard,
    TopK,
)
from hardneg.encoders import BagEncoder, ResidualMLP, StandardScaler
from tiny_data import write_precomp
from vsepp.data.batches import ShuffledBatches, check_sizes, distinct_rounds
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.data.vocabulary import build_vocabulary
from vsepp.data.word_vectors import read_more_text, start_vectors, word_vectors
from vsepp.errors import InputError
from vsepp.gradients import Teacher, teacher_at
from vsepp.negatives import counted, strategy_of
from vsepp.optimisation import build_optimiser, learning_rate
from vsepp.run.watch import CollapseWatch
from vsepp.settings import Data, Loss, Model, Options, Schedule, Settings
from vsepp.train import train

ALONE = Options(quiet=True, tensorboard=False, cpu=True)
DATA = Data("flickr8k", threshold=1, tokenizer="regex")
TINY = Settings(
    DATA,
    Model(embed_dim=16, word_dim=8),
    Loss("hardest"),
    Schedule(epochs=5, batch_size=16, learning_rate=5e-3),
)


@pytest.mark.parametrize(
    ("written", "strategy"),
    [
        ("all", All()),
        ("hardest", Hardest()),
        ("semihard", SemiHard()),
        ("selective", SelectiveHardest()),
        ("selective:0.2", SelectiveHardest(0.2)),
        ("topk:5", TopK(5)),
        ("top8", TopK(8)),
        ("random:3", RandomK(3)),
        ("window:2:32", RankWindow(2, 32)),
        ("distance", DistanceWeighted()),
        ("distance:4", DistanceWeighted(k=4)),
    ],
)
def test_negatives_as_they_are_written(written, strategy) -> None:
    assert strategy_of(Loss(written)) == strategy


def test_a_ceiling_goes_with_every_strategy_that_takes_one() -> None:
    assert strategy_of(Loss("topk:5", ceiling=0.95)) == TopK(5, Ceiling(0.95))
    assert strategy_of(Loss("all", ceiling=0.95)) == All(Ceiling(0.95))
    with pytest.raises(InputError, match="--ceiling does not go with --negatives selective"):
        strategy_of(Loss("selective", ceiling=0.95))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("topk", "expected topk:K"),
        ("topk:many", "expected numbers behind the colons"),
        ("topk:2.5", "expected whole numbers"),
        ("topk:inf", "expected whole numbers"),
        ("topk:0", "--negatives is topk:0: "),
        ("window:5", "expected window:START:STOP"),
        ("window:5:2", "--negatives is window:5:2: "),
        ("hardest:1", "expected hardest"),
        ("", "expected one of all, hardest"),
        ("Hardest", "expected one of all, hardest"),
    ],
)
def test_negatives_that_nobody_can_mean(written, message) -> None:
    with pytest.raises(InputError, match=message):
        strategy_of(Loss(written))


@pytest.mark.parametrize(
    ("written", "others", "count"),
    [("all", 9, 9), ("topk:4", 9, 4), ("topk:4", 3, 3), ("window:2:6", 9, 4), ("window:2:6", 4, 2),
     ("window:2:6", 1, 0), ("semihard", 9, 1), ("distance", 9, 1), ("random:3", 9, 3)],
)  # fmt: skip
def test_how_many_negatives_count(written, others, count) -> None:
    assert counted(Loss(written), others) == count


@pytest.mark.parametrize(
    "loss",
    [
        Loss("all", loss="infonce", temperature=0.2),
        Loss("topk:4", loss="infonce", temperature=0.2, learn_temperature=True),
        Loss("all", loss="sigmoid", temperature=0.2, bias=-2, learn_temperature=True),
        Loss("all", loss="unified"),
        Loss("semihard"),
        Loss("window:1:4", ceiling=0.99),
        Loss("hardest", loss="infonce", queue=32),
    ],
    ids=lambda loss: f"{loss.loss}, {loss.negatives}",
)
def test_every_loss_trains(loss: Loss, precomp_root: Path, tmp_path: Path) -> None:
    result = train("tiny", replace(TINY, loss=loss), precomp_root, tmp_path / "run", ALONE)
    losses = [row["loss"] for row in result["history"]]
    assert losses[-1] < 0.9 * losses[0]
    assert result["history"][-1]["rsum"] > 150


def test_the_plateau_of_a_cross_entropy() -> None:
    watch = CollapseWatch(Loss("topk:4", loss="infonce"), window=1)
    assert watch.see(float(np.log(5)), 32, False)
    assert CollapseWatch(Loss("topk:4", loss="infonce"), window=1).see(float(np.log(32)), 32, True)
    assert not watch.see(1.0, 32, False)
    assert not CollapseWatch(Loss("all", loss="sigmoid"), window=1).see(1.0, 32, False)
    assert "log of their number" in watch.advice(3)


def test_learning_rates() -> None:
    step = Schedule(epochs=4, decay_after=2, learning_rate=0.1, rise=4)
    found = [learning_rate(step, one, 10) for one in (0, 3, 19, 20, 39)]
    assert found == pytest.approx([0.025, 0.1, 0.1, 0.01, 0.01])
    cosine = Schedule(epochs=4, learning_rate=0.1, decay="cosine")
    found = [learning_rate(cosine, one, 10) for one in (0, 10, 20, 40, 50)]
    assert found == pytest.approx([0.1, 0.0853553, 0.05, 0.0, 0.0])


def test_what_decays() -> None:
    model = torch.nn.Sequential(
        torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3), torch.nn.LayerNorm(3)
    )
    optimiser = build_optimiser([model], Schedule(optimizer="adamw", weight_decay=0.1))
    decayed, others = optimiser.param_groups
    assert isinstance(optimiser, torch.optim.AdamW)
    assert [id(one) for one in decayed["params"]] == [id(model[1].weight)]
    assert (decayed["weight_decay"], others["weight_decay"], len(others["params"])) == (0.1, 0, 4)
    (everything,) = build_optimiser([model], Schedule()).param_groups
    assert len(everything["params"]) == 5


def test_every_caption_once_in_rounds_of_distinct_images() -> None:
    image_of = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3])
    for each in (1, 2, 5):
        generator = torch.Generator().manual_seed(0)
        rounds = [*distinct_rounds(image_of, each, generator)]
        assert sorted(chain(*rounds)) == list(range(len(image_of)))
        for order in rounds:
            images = image_of[order]
            ends = np.flatnonzero(np.diff(images)) + 1
            runs = np.split(images, ends)
            assert len({run[0] for run in runs}) == len(runs)
            assert max(len(run) for run in runs) <= each
        assert len(rounds) == -(-5 // each)


def test_batches_of_distinct_images(precomp_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = read_splits(DATA, precomp_root)
    pairs = Pairs(splits.train, vocabulary_of(DATA, splits), 0)
    batches = ShuffledBatches(pairs, Schedule(batch_size=16, captions_each=2))
    seen = []
    for epoch in (0, 1):
        batches.start(epoch)
        found = list(batches)
        assert len(found) == len(batches)
        for batch in found:
            _, counts = np.unique(splits.train.image_of[batch], return_counts=True)
            assert counts.max() <= 2
        seen.append(found)
        assert sorted(chain(*found)) == list(range(len(pairs)))
    assert seen[0] != seen[1]
    batches.start(1, done=3)
    assert list(batches) == seen[1][3:]
    drawn = []
    monkeypatch.setattr(torch, "randperm", lambda *given, **told: drawn.append(given))
    assert len(batches) == len(seen[0])
    assert not drawn  # asked at every step
    monkeypatch.undo()
    with pytest.raises(InputError, match="--captions-each is 20: expected at most --batch-size"):
        check_sizes(len(pairs), Schedule(batch_size=16, captions_each=20))


def test_the_average_is_what_is_judged_and_kept(precomp_root: Path, tmp_path: Path) -> None:
    """With a share so near 1 the average stays where the first step put it."""
    schedule = replace(TINY.schedule, ema=0.999999, epochs=2)
    settings = replace(TINY, schedule=schedule)
    result = train("tiny", settings, precomp_root, tmp_path / "run", ALONE)
    first, last = (row["rsum"] for row in result["history"])
    assert abs(first - last) < 25
    moved = train("tiny", TINY, precomp_root, tmp_path / "other", ALONE)["history"]
    assert moved[-1]["rsum"] > last + 100


def test_mirrored_features(precomp_root: Path, tmp_path: Path) -> None:
    images = read_splits(replace(DATA, mirror=True), precomp_root).train.images
    plain, _ = images.batch([0, 1, 2, 3], None)
    seen, _ = images.batch([0, 1, 2, 3], [4, 5, 6, 7])
    assert torch.equal(seen[[0, 2]], plain[[0, 2]])
    assert torch.equal(seen[[1, 3]], plain[[1, 3]].flip(1))
    write_precomp(tmp_path / "f8k_precomp")
    mirrored = tmp_path / "f8k_precomp" / "train_ims_flip.npy"
    np.save(mirrored, np.load(mirrored)[:-1])
    with pytest.raises(InputError, match="expected the mirrored image of every row"):
        read_splits(replace(DATA, mirror=True), tmp_path)
    mirrored.unlink()
    with pytest.raises(InputError, match=r"train_ims_flip\.npy"):
        read_splits(replace(DATA, mirror=True), tmp_path)


def test_modern_towers_train(precomp_root: Path, tmp_path: Path) -> None:
    model = Model(
        embed_dim=16,
        word_dim=8,
        text="bow",
        blocks=1,
        hidden_dim=16,
        drop=0.1,
        feature_drop=0.1,
        word_drop=0.1,
        scale_features="sqrt",
    )
    for text in ("bow", "bow+bigru"):
        settings = replace(TINY, model=replace(model, text=text))
        result = train("tiny", settings, precomp_root, tmp_path / text, ALONE)
        assert result["history"][-1]["rsum"] > 150


def test_features_are_scaled_by_the_training_set() -> None:
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(6)
    scaler = StandardScaler(6).fit(x.split(7))
    torch.testing.assert_close(scaler.mean, x.mean(0))
    torch.testing.assert_close(scaler.deviation[1:], x.std(0, correction=0)[1:])
    assert scaler(x).isfinite().all()
    rooted = StandardScaler(6, root=True).fit([-x])
    torch.testing.assert_close(rooted.mean, -x.sqrt().mean(0))
    assert StandardScaler(2).fit([torch.ones(3, 2)])(torch.ones(1, 2)).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="no rows"):
        StandardScaler(2).fit([])


def test_a_bag_reads_no_padding_and_no_order() -> None:
    torch.manual_seed(0)
    bag = BagEncoder(20, 8, 6, head=ResidualMLP(8, 12, blocks=2), word_drop=0.9).eval()
    words, lengths = torch.tensor([[3, 4, 5, 7], [5, 4, 3, 9]]), torch.tensor([3, 3])
    one, other = bag(words, lengths)
    torch.testing.assert_close(one, other)
    bag.train()
    for _ in range(20):
        assert bag(words, lengths).isfinite().all()


def test_words_of_the_same_images_lie_close(tmp_path: Path) -> None:
    groups = [["a red dog", "the red dog runs"], ["a blue cat", "blue cat sleeps"]] * 3
    groups += [["red dog barks", "a dog"], ["blue cat purrs"]]
    vocabulary = build_vocabulary([one for group in groups for one in group], "regex", 1, "a test")
    torch.manual_seed(0)
    found = word_vectors(groups, vocabulary, 8)
    assert found.shape == (len(vocabulary), 8)
    of = {word: found[number] for word, number in vocabulary.ids.items()}
    assert torch.cosine_similarity(of["red"], of["dog"], 0) > 0.9
    assert torch.cosine_similarity(of["red"], of["cat"], 0).abs() < 0.1
    assert of["barks"].norm() > of["dog"].norm()
    assert found[:4].count_nonzero() == 0
    weight = torch.randn(len(vocabulary), 8)
    before = weight.clone()
    start_vectors(weight, found)
    assert torch.equal(weight[:4], before[:4])
    torch.testing.assert_close(
        torch.nn.functional.normalize(weight[4:]), torch.nn.functional.normalize(found[4:])
    )
    path = tmp_path / "more.txt"
    path.write_text("a horse\nthe horse\n\n\na cow\n")
    assert read_more_text(str(path)) == [["a horse", "the horse"], ["a cow"]]
    path.write_text("\n\n")
    with pytest.raises(InputError, match="is empty: expected captions"):
        read_more_text(str(path))


def test_more_text_enters_the_vocabulary(precomp_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.txt"
    path.write_text("an unheard zebra\na zebra\n")
    data = replace(DATA, more_text=str(path))
    splits = read_splits(data, precomp_root)
    assert "zebra" in vocabulary_of(data, splits).words
    assert "zebra" not in vocabulary_of(DATA, splits).words
    model = replace(TINY.model, word_vectors="captions")
    settings = replace(TINY, data=data, model=model)
    result = train("tiny", settings, precomp_root, tmp_path / "run", ALONE)
    assert result["history"][-1]["rsum"] > 150


def test_soft_targets_of_the_average(precomp_root: Path, tmp_path: Path) -> None:
    """With a share of 0 nothing changes; with one, the loss is between the two losses."""
    teacher = Teacher(Two(), 0.25, 0.5)
    x, y = torch.randn(2, 4, 3).unbind()
    hard = torch.tensor(2.0)
    found = teacher.beside(lambda a, b: hard, (x, y))(x, y)
    logits = x @ y.T / 0.5
    soft = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    soft = soft - (logits.softmax(0) * logits.log_softmax(0)).sum(0).mean()
    torch.testing.assert_close(found, 0.75 * hard + 0.25 * soft / 2)
    nothing = torch.empty(0, 3)
    assert teacher.beside(lambda a, b: hard, (nothing, nothing))(nothing, nothing) == hard
    loss = Loss("all", loss="infonce", temperature=0.2, soft_targets=0.5)
    assert teacher_at(9, 10, loss, Two()) is None
    assert teacher_at(10, 10, loss, Two()) is not None
    assert teacher_at(99, 10, Loss(), Two()) is None
    settings = replace(TINY, loss=loss, schedule=replace(TINY.schedule, ema=0.9))
    result = train("tiny", settings, precomp_root, tmp_path / "run", ALONE)
    assert result["history"][-1]["rsum"] > 150
    with pytest.raises(InputError, match="pass --ema too"):
        replace(TINY, loss=loss)


class Two(torch.nn.Module):
    """Embeddings as they come."""

    def forward(self, images, captions):
        return images, captions
