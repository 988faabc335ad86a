"""``--members``: an ensemble in one model, each member with a loss of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from hardneg.encoders import StandardScaler
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.errors import InputError
from vsepp.gradients import Gradients, Teacher
from vsepp.model import MatchingModel, build_model, know_training_set
from vsepp.objective import build_objective
from vsepp.settings import Data, Loss, Model, Schedule, Settings

SETTINGS = Settings(
    Data("flickr8k", threshold=1, tokenizer="regex"),
    Model(
        embed_dim=12,
        word_dim=8,
        members=2,
        text="bow",
        scale_features="sqrt",
        word_vectors="captions",
    ),
    Loss("hardest", strict_parity=False, loss="infonce", temperature=0.5),
    Schedule(epochs=1, batch_size=8),
)


@pytest.fixture
def made(precomp_root: Path) -> tuple[MatchingModel, Pairs]:
    """A model of two members, and what it trains on."""
    torch.manual_seed(0)
    splits = read_splits(SETTINGS.data, precomp_root)
    train, vocabulary = splits.train, vocabulary_of(SETTINGS.data, splits)
    model = build_model(SETTINGS.model, len(vocabulary), train.images.array.shape[-1])
    know_training_set(model, SETTINGS, train, vocabulary)
    return model, Pairs(train, vocabulary, seed=0)


def test_every_member_knows_the_training_set(made) -> None:
    model, _ = made
    one, other = (encoder.scaler for encoder in model.image.encoders)
    assert isinstance(one, StandardScaler)
    assert torch.equal(one.mean, other.mean)
    assert one.mean.abs().sum() > 0
    first, second = (encoder.embed.weight for encoder in model.text.encoders)
    alike = torch.nn.functional.cosine_similarity(first[4:], second[4:]) > 0.999
    assert alike.float().mean() > 0.5  # words of all images, or of none, have no vector


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
def test_each_member_hears_its_own_loss(made, taught: bool) -> None:
    """The gradient of a member is half of what it is for a model of that member alone."""
    model, pairs = made
    batch = pairs.__getitems__(list(range(8)))
    objective = build_objective(SETTINGS.loss, 12, 1)
    teacher = Teacher(model, 0.5, 0.5) if taught else None
    value = Gradients(Accelerator(cpu=True), model, objective, 0, members=2)(batch, None, teacher)
    values = []
    for number in range(2):
        expected = [one.grad.clone() for one in member(model, number).parameters()]
        alone = member(model, number)
        alone.zero_grad()
        values.append(Gradients(Accelerator(cpu=True), alone, objective, 0)(batch, None, teacher))
        found = [one.grad / 2 for one in alone.parameters()]
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(value, torch.stack(values).mean())


def member(model: MatchingModel, number: int) -> MatchingModel:
    """A member alone, of the same weights."""
    return MatchingModel(model.image.encoders[number], model.text.encoders[number])


def test_refusals() -> None:
    with pytest.raises(InputError, match="--embed-dim is 10: expected a multiple of --members, 3"):
        Model(embed_dim=10, members=3)
    message = "--members is 2: expected precomputed features and no --queue"
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, loss=replace(SETTINGS.loss, queue=64))
    with pytest.raises(InputError, match=message):
        replace(SETTINGS, data=replace(SETTINGS.data, layout="raw"))
