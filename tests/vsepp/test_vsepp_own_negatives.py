"""``--own-negatives``: negatives of every pair, mined among all training pairs before an epoch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardneg import InfoNCELoss
from own_data import write_picture_table
from vsepp.commands import main
from vsepp.data.pairs import Pairs, read_splits, vocabulary_of
from vsepp.errors import InputError
from vsepp.evaluate import embed
from vsepp.model import build_model
from vsepp.objective import build_objective
from vsepp.run.own_negatives import own_negatives_of
from vsepp.settings import Data, Loss, Model, Options, Schedule, Settings
from vsepp.train import train

SETTINGS = Settings(
    Data("flickr8k", threshold=1, tokenizer="regex"),
    Model(embed_dim=8, word_dim=8, text="bow"),
    Loss("all", strict_parity=False, loss="infonce", temperature=0.2, own_negatives=3),
    Schedule(epochs=3, batch_size=8, learning_rate=5e-3, captions_each=1),
)


@pytest.fixture
def mined(precomp_root: Path):
    """Pairs with their own negatives, the embeddings these are from, and a model."""
    torch.manual_seed(0)
    splits = read_splits(SETTINGS.data, precomp_root)
    vocabulary = vocabulary_of(SETTINGS.data, splits)
    model = build_model(SETTINGS.model, len(vocabulary), splits.train.images.array.shape[-1])
    pairs = Pairs(splits.train, vocabulary, seed=0)
    own = own_negatives_of(pairs, SETTINGS.loss)
    assert pairs.__getitems__([0, 1]).own_ids is None
    embedded = embed(model, splits.train, vocabulary)
    own.mine(embedded)
    return pairs, own, embedded, model


def test_they_are_the_hardest_of_all_other_images(mined) -> None:
    _, own, embedded, _ = mined
    scores = embedded.images @ embedded.captions.T
    same = embedded.image_of == torch.arange(len(embedded.images)).unsqueeze(1)
    scores.masked_fill_(same, -2)
    for pair, image in enumerate(embedded.image_of.tolist()):
        captions, images = own.captions[pair], own.images[pair]
        torch.testing.assert_close(scores[image, captions], scores[image].topk(3).values)
        torch.testing.assert_close(scores[images, pair], scores[:, pair].topk(3).values)


def test_a_batch_meets_them(mined) -> None:
    """The loss is the mean over each image's captions of the batch and its own, and the other way."""
    pairs, own, _, model = mined
    picks = [4, 9, 17, 30]
    batch = pairs.__getitems__(picks)
    n, count = len(picks), 3
    assert len(batch.image_ids) == n
    assert len(batch.images) == len(batch.lengths) == n * (1 + count)
    images, captions = model(batch.images, batch.words, batch.lengths)
    found = build_objective(SETTINGS.loss, 8, 1)(
        images, captions, batch.image_ids, None, batch.own_ids
    )
    everything = embed(model, pairs.split, vocabulary_like(pairs))
    expected = 0
    for queries, candidates, table in (
        (everything.images[everything.image_of[picks]], everything.captions, own.captions),
        (everything.captions[picks], everything.images, own.images),
    ):
        rows = candidates[table[picks]]
        paired = (
            candidates[picks]
            if candidates is everything.captions
            else candidates[everything.image_of[picks]]
        )
        for i in range(n):
            others = [j for j in range(n) if batch.image_ids[j] != batch.image_ids[i] or j == i]
            logits = torch.cat([paired[others], rows[i]]) @ queries[i] / 0.2
            expected += torch.logsumexp(logits, 0) - paired[i] @ queries[i] / 0.2
    torch.testing.assert_close(found, expected / n)


def vocabulary_like(pairs: Pairs):
    """The vocabulary that the pairs were encoded with."""

    class Encoded:
        def encode(self, caption: str) -> list[int]:
            return pairs.words[pairs.split.captions.index(caption)].tolist()

    return Encoded()


def test_places_without_a_negative_change_nothing(mined) -> None:
    pairs, own, embedded, model = mined
    image_of = embedded.image_of
    own.captions.copy_(torch.arange(len(image_of)).unsqueeze(1))
    own.images.copy_(image_of.unsqueeze(1))
    batch = pairs.__getitems__([4, 9, 17, 30])
    images, captions = model(batch.images, batch.words, batch.lengths)
    objective = build_objective(SETTINGS.loss, 8, 1)
    given = batch.image_ids, None
    padded = objective(images, captions, *given, batch.own_ids)
    torch.testing.assert_close(padded, objective(images[:4], captions[:4], *given))
    torch.testing.assert_close(padded / 2, InfoNCELoss(0.2, similarity="dot")(
        images[:4], captions[:4], query_ids=batch.image_ids, candidate_ids=batch.image_ids))  # fmt: skip


def test_it_trains_and_they_are_mined_before_every_epoch_but_the_first(
    precomp_root: Path, tmp_path: Path, monkeypatch
) -> None:
    calls = []
    from vsepp.run import own_negatives

    real = own_negatives.OwnNegatives.mine
    monkeypatch.setattr(
        own_negatives.OwnNegatives, "mine", lambda self, found: (calls.append(1), real(self, found))
    )
    options = Options(quiet=True, tensorboard=False, cpu=True)
    result = train("tiny", SETTINGS, precomp_root, tmp_path / "run", options)
    assert len(calls) == SETTINGS.schedule.epochs - 1
    assert result["history"][-1]["rsum"] > result["history"][0]["rsum"]


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"strict_parity": True}, "--strict-parity"),
        ({"queue": 64}, "--queue"),
        ({"soft_targets": 0.5}, "--soft-targets"),
        ({"loss": "sigmoid"}, "--loss sigmoid"),
        ({"negatives_from": 2}, "--negatives-from"),
    ],
)
def test_what_they_do_not_go_with(beside: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"--own-negatives 3 does not go with {message}"):
        replace(SETTINGS.loss, **beside)


def test_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="--own-negatives are of precomputed features"):
        replace(SETTINGS, data=replace(SETTINGS.data, layout="raw"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--own-negatives", "2"], "--own-negatives are of precomputed features"),
        (["--members", "2"], "--members is 2: expected precomputed features, not pictures"),
    ],
    ids=["own negatives", "members"],
)
def test_pictures_of_a_user_are_refused_too(
    more: list[str], message: str, tmp_path: Path, capsys
) -> None:
    """Their layout is not raw: only what was read says whether they are pictures."""
    table = write_picture_table(tmp_path / "p")
    given = ["--data", str(table), "--out", str(tmp_path / "out"), "--backbone", "small"]
    tiny = ["--weights", "none", "--image-size", "32", "--epochs", "1", "--batch-size", "8"]
    with pytest.raises(SystemExit):
        main("own", [*given, *tiny, "--embed-dim", "8", "--cpu", "--quiet", *more])
    assert message in " ".join(capsys.readouterr().err.split())
