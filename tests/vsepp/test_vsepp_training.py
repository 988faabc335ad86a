"""Training: losses fall, recalls rise, masks and modes act, and real data trains."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny_data import SPLITS, write_precomp
from vsepp.checkpoints import load_model, model_file
from vsepp.data.pairs import Batch, Pairs, read_splits
from vsepp.data.vocabulary import build_vocabulary
from vsepp.model import build_model
from vsepp.objective import build_loss
from vsepp.recipes import recipe_named
from vsepp.settings import Data, Loss, Model, Options, Schedule, Settings
from vsepp.train import Trainer, train

ALONE = Options(quiet=True, tensorboard=False, cpu=True)
TINY = Settings(
    Data("flickr8k", threshold=1, tokenizer="regex"),
    Model(embed_dim=16, word_dim=8),
    Loss("hardest"),
    Schedule(epochs=6, batch_size=16, learning_rate=5e-3, decay_after=5),
)


def tiny_trainer(
    root: Path, folder: Path, settings: Settings = TINY, options: Options = ALONE
) -> Trainer:
    return Trainer("tiny", settings, read_splits(settings.data, root), folder, options)


@pytest.mark.parametrize(
    "loss", [Loss("all"), Loss("hardest", "order"), Loss("selective"), Loss("top8")]
)
def test_every_loss_trains(precomp_root: Path, tmp_path: Path, loss: Loss) -> None:
    result = train("tiny", replace(TINY, loss=loss), precomp_root, tmp_path / "run", ALONE)
    losses = [row["loss"] for row in result["history"]]
    assert losses[-1] < 0.8 * losses[0]
    assert result["dev_rsum"] == max(row["rsum"] for row in result["history"])
    rates = [row["learning_rate"] for row in result["history"]]
    assert rates == pytest.approx([5e-3] * 5 + [5e-4])
    assert json.loads((tmp_path / "run" / "result.json").read_text())["results"]["test"]["rsum"] > 0


def test_bigru_and_gpo_train(precomp_root: Path, tmp_path: Path) -> None:
    model = replace(TINY.model, text="bigru", pooling="gpo", word_drop=0.2)
    result = train("tiny", replace(TINY, model=model), precomp_root, tmp_path / "run", ALONE)
    assert result["history"][-1]["loss"] < result["history"][0]["loss"]


@pytest.mark.parametrize("strict", [False, True])
def test_captions_of_one_image_are_negatives_only_under_strict_parity(
    precomp_root: Path, tmp_path: Path, strict: bool
) -> None:
    settings = replace(TINY, loss=Loss("all", strict_parity=strict))
    trainer = tiny_trainer(precomp_root, tmp_path / "run", settings)
    batch = Pairs(trainer.splits.train, trainer.vocabulary, 0).__getitems__([0, 1, 2, 3, 4])
    trainer.step(batch)
    (seen,) = trainer.losses.waiting
    assert (seen.pairs, seen.queued) == (5, 0)
    assert (seen.loss.item() > 0) is strict


def test_gradient_is_clipped_at_norm_two(precomp_root: Path, tmp_path: Path) -> None:
    trainer = tiny_trainer(precomp_root, tmp_path / "run", replace(TINY, loss=Loss("all")))
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            grads = [one.grad.norm() for group in self.param_groups for one in group["params"]]
            seen.append(torch.stack(grads).norm().item())

    trainer.optimiser = Watched(trainer.plain.parameters(), lr=0.1)
    batch = Pairs(trainer.splits.train, trainer.vocabulary, 0).__getitems__(range(0, 160, 5))
    trainer.step(batch)
    assert seen == [pytest.approx(2.0, rel=1e-4)]


def test_the_best_model_is_kept_when_later_ones_are_worse(
    precomp_root: Path, tmp_path: Path
) -> None:
    trainer = tiny_trainer(precomp_root, tmp_path / "run")
    trainer.epoch()
    best = (trainer.progress.best_rsum, trainer.progress.best_file)
    kept = {name: value.clone() for name, value in trainer.plain.state_dict().items()}
    with torch.no_grad():
        for parameter in trainer.plain.parameters():
            parameter.zero_()
    trainer.epoch()
    assert trainer.progress.history[-1]["rsum"] < best[0]
    assert (trainer.progress.best_rsum, trainer.progress.best_file) == best
    trainer.result()
    for name, value in trainer.plain.state_dict().items():
        assert torch.equal(value, kept[name])


def test_an_all_corrupt_batch_is_passed_over(precomp_root: Path, tmp_path: Path) -> None:
    trainer = tiny_trainer(precomp_root, tmp_path / "run")
    nothing = torch.empty(0, dtype=torch.int64)
    trainer.step(Batch(torch.empty(0), nothing.reshape(0, 0), nothing, nothing, skipped=4))
    assert trainer.progress.skipped == 4
    assert trainer.losses.waiting == []


def test_collapse_is_noted_where_it_happens(precomp_root: Path, tmp_path: Path, capsys) -> None:
    """A learning rate of zero and equal weights keep every score equal: the plateau itself."""
    schedule = Schedule(epochs=8, batch_size=8, learning_rate=1e-12)
    trainer = tiny_trainer(precomp_root, tmp_path / "run", replace(TINY, schedule=schedule))
    for parameter in trainer.plain.parameters():
        torch.nn.init.zeros_(parameter)
    result = trainer.run()
    assert result["collapse_steps"] == [199]
    assert "2 x batch x margin" in capsys.readouterr().err
    assert result["results"]["test"]["rsum"] == 0.0


def test_validation_within_an_epoch_and_the_legacy_mode(flickr_root: Path, tmp_path: Path) -> None:
    settings = Settings(
        Data("flickr8k", "raw", image_size=32, threshold=1),
        Model("resnet18", "none", finetune=True, cnn_mode="legacy", embed_dim=8, word_dim=6),
        Loss("all"),
        Schedule(epochs=1, batch_size=50, validate_every=2),
    )
    trainer = tiny_trainer(flickr_root, tmp_path / "run", settings)
    modes, plain_step = [], trainer.step
    trainer.step = lambda batch: (modes.append(trainer.plain.image.cnn.training), plain_step(batch))
    result = trainer.run()
    assert modes == [True, True, False, False]
    assert [row["step"] for row in result["history"]] == [2, 4]
    assert result["seconds_per_epoch"] == result["history"][-1]["seconds"]


def test_the_legacy_mode_outlives_an_interruption(flickr_root: Path, tmp_path: Path) -> None:
    settings = Settings(
        Data("flickr8k", "raw", image_size=32, threshold=1),
        Model("small", "none", finetune=True, cnn_mode="legacy", embed_dim=8, word_dim=6),
        Loss("all"),
        Schedule(epochs=1, batch_size=50, validate_every=2),
    )
    first = tiny_trainer(flickr_root, tmp_path / "run", settings)
    first.step = lambda batch: stop() if first.progress.step == 3 else Trainer.step(first, batch)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run()
    options = replace(ALONE, resume=True)
    second, modes = tiny_trainer(flickr_root, tmp_path / "run", settings, options), []
    second.step = lambda batch: (
        modes.append(second.plain.image.cnn.training),
        Trainer.step(second, batch),
    )
    second.run()
    assert modes == [False, False]


def test_a_loss_that_is_not_finite_stops_the_run(precomp_root: Path, tmp_path: Path) -> None:
    trainer = tiny_trainer(precomp_root, tmp_path / "run")
    torch.nn.init.constant_(trainer.plain.image.fc.weight, float("nan"))
    with pytest.raises(ValueError, match=r"the loss is nan at step 0: lower --learning-rate"):
        trainer.run()


def test_fine_tuning_starts_from_the_best_model_with_a_fresh_optimiser(
    precomp_root: Path, tmp_path: Path
) -> None:
    train("tiny", TINY, precomp_root, tmp_path / "first", ALONE)
    options = replace(ALONE, start_from=tmp_path / "first")
    second = tiny_trainer(precomp_root, tmp_path / "second", TINY, options)
    result = json.loads((tmp_path / "first" / "result.json").read_text())
    stored = torch.load(tmp_path / "first" / result["best_file"], weights_only=True)["model"]
    for name, value in second.plain.state_dict().items():
        assert torch.equal(value, stored[name])
    assert not second.optimiser.state
    assert second.progress.step == 0


def test_a_second_stage_keeps_the_words_of_the_first(precomp_root: Path, tmp_path: Path) -> None:
    """Other captions in another order would number as many words differently."""
    short = replace(TINY, schedule=replace(TINY.schedule, epochs=1))
    train("tiny", short, precomp_root, tmp_path / "first", ALONE)
    lines = (precomp_root / "f8k_precomp" / "train_caps.txt").read_text().splitlines()
    (precomp_root / "f8k_precomp" / "train_caps.txt").write_text("\n".join(reversed(lines)))
    options = replace(ALONE, start_from=tmp_path / "first")
    second = tiny_trainer(precomp_root, tmp_path / "second", TINY, options)
    words = second.vocabulary.words
    assert words == load_model(model_file(tmp_path / "first")).vocabulary.words
    assert words != tiny_trainer(precomp_root, tmp_path / "third").vocabulary.words


def test_a_mistake_before_the_first_step_leaves_no_run_behind(
    precomp_root: Path, tmp_path: Path
) -> None:
    options = replace(ALONE, start_from=tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent: name a run's folder"):
        tiny_trainer(precomp_root, tmp_path / "run", TINY, options)
    short = replace(TINY, schedule=replace(TINY.schedule, epochs=1))
    train("tiny", short, precomp_root, tmp_path / "run", ALONE)


def test_a_missing_picture_leaves_a_gap_in_the_gallery_only(
    flickr_root: Path, tmp_path: Path
) -> None:
    folder = write_precomp(flickr_root / "f8k_precomp")
    first = {"train": 0, "dev": 40, "test": 52}
    for name, count in SPLITS.items():
        files = [f"{first[name] + row:04d}.jpg\n" for row in range(count)]
        (folder / f"{name}_names.txt").write_text("".join(files))
    (flickr_root / "f8k" / "images" / "0053.jpg").unlink()
    (flickr_root / "f8k" / "images" / "0055.jpg").write_text("no picture")
    short = replace(TINY, schedule=replace(TINY.schedule, epochs=1))
    train("tiny", short, flickr_root, tmp_path / "run", ALONE)
    asked = json.loads((tmp_path / "run" / "gallery.json").read_text())["image"]
    assert [bool(one["picture"]) for one in asked] == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("backbone", "finetune"),
    [
        ("resnet152", True),
        ("vgg19", False),
        pytest.param("resnet152", False, marks=pytest.mark.full),
        pytest.param("vgg19", True, marks=pytest.mark.full),
    ],
)
def test_the_papers_networks_take_a_step_on_real_photographs(
    real_data: Path, backbone: str, finetune: bool
) -> None:
    torch.manual_seed(0)
    data = Data("flickr8k", "raw", image_size=64, train_images=2)
    train_split = read_splits(data, real_data).train
    vocabulary = build_vocabulary(train_split.captions, "regex", 1, "two images")
    batch = Pairs(train_split, vocabulary, 0).__getitems__([0, 5])
    model = build_model(
        Model(backbone, "none", finetune, embed_dim=16, word_dim=8), len(vocabulary), None
    )
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1.0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = build_loss(Loss("all"))(*model(batch.images, batch.words, batch.lengths))
    loss.backward()
    optimiser.step()
    moved = {
        name for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }
    assert torch.isfinite(loss)
    assert {"image.fc.weight", "text.embed.weight", "text.rnn.weight_ih_l0"} <= moved
    assert any(name.startswith("image.cnn.") for name in moved) is finetune


def test_real_features_train(real_data: Path, tmp_path: Path) -> None:
    """The Flickr8K recipe, shortened: a sixth of the images, three epochs."""
    settings = recipe_named("flickr8k-256-vse0").settings
    settings = replace(
        settings,
        data=replace(settings.data, train_images=1_000),
        model=replace(settings.model, embed_dim=64, word_dim=64),
        schedule=replace(settings.schedule, epochs=3, learning_rate=1e-3),
    )
    result = train("short", settings, real_data, tmp_path / "run", ALONE)
    losses = [row["loss"] for row in result["history"]]
    assert losses == sorted(losses, reverse=True)
    assert result["results"]["test"]["rsum"] > 30  # chance is 3.2


def test_real_photographs_train(real_data: Path, tmp_path: Path) -> None:
    """The raw recipe, shortened: the loss of a small network from scratch falls."""
    settings = recipe_named("flickr8k-small-vse0").settings
    settings = replace(
        settings,
        data=replace(settings.data, train_images=30, image_size=32, threshold=2),
        model=replace(settings.model, embed_dim=32, word_dim=32),
        schedule=replace(settings.schedule, epochs=8, learning_rate=2e-3, batch_size=30),
    )
    splits = read_splits(settings.data, real_data)
    splits = replace(splits, dev=splits.dev.first(10), test=splits.test.first(10))
    result = Trainer("short", settings, splits, tmp_path / "run", ALONE).run()
    losses = [row["loss"] for row in result["history"]]
    assert losses[-1] < 0.9 * losses[0]
