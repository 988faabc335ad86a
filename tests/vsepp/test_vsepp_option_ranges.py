"""Every numeric option has a range, and a value outside is refused before anything is read."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from vsepp.commands import main, train_arguments
from vsepp.errors import InputError
from vsepp.model import build_image_encoder, check_image_size
from vsepp.settings import Data, Loss, Model, Options, Schedule, Settings
from vsepp.settings.ranges import Range, check_options, hints

KINDS = (Data, Model, Loss, Schedule, Options)
NUMBERS = {
    name: (kind, get_args(hint))
    for kind in KINDS
    for name, hint in hints(kind).items()
    if (get_args(hint) or (hint,))[0] in (int, float)
}
SCENES = ("scenes-vse0",)
# A run that is not refused, although it should be, soon ends.
SHORT = ["--recipe", *SCENES, "--train-images", "4", "--epochs", "1", "--cpu", "--no-tensorboard"]


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def outside(bounds: Range, plain: type) -> list[float]:
    """Values just outside a range, far outside, and no numbers at all."""
    step = 1 if plain is int else 1e-3
    low = bounds.least if bounds.above else bounds.least - step
    high = bounds.most if bounds.below else bounds.most + max(step, bounds.most * 1e-6)
    far = [-(10**30), 10**30] if plain is int else [-1e30, 1e30, math.nan, math.inf, -math.inf]
    return [plain(low), plain(high), *far]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_and_outside_it_is_refused(
    name: str, tmp_path: Path, capsys: Any
) -> None:
    kind, (plain, *ranges) = NUMBERS[name]
    (bounds,) = [one for one in ranges if isinstance(one, Range)]
    default = next(one.default for one in fields(kind) if one.name == name)
    assert default in bounds
    for value in outside(bounds, plain):
        with pytest.raises(SystemExit) as stopped:
            main("coco", [*SHORT, "--out", str(tmp_path), f"{option(name)}={value}"])
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert stopped.value.code == 2
        assert f"{option(name)} is {value}: expected {bounds} " in said
        assert "Traceback" not in said


@pytest.mark.parametrize("name", NUMBERS)
def test_the_bounds_themselves_are_taken(name: str) -> None:
    kind, (plain, *ranges) = NUMBERS[name]
    (bounds,) = [one for one in ranges if isinstance(one, Range)]
    for bound, left_out in ((bounds.least, bounds.above), (bounds.most, bounds.below)):
        if not left_out:
            # a batch of one pair needs a queue, members share a width, some options are of features
            more = {
                "batch_size": ["--queue", "4"],
                "members": ["--layout", "precomp", "--embed-dim", "64"],
                "own_negatives": ["--layout", "precomp", "--no-strict-parity"],
            }.get(name, [])
            given = ["--recipe", *SCENES, *more, option(name), str(plain(bound))]
            settings = train_arguments(SCENES[0], SCENES, given)
            parts = (*vars(settings.settings).values(), settings.run)
            (part,) = [one for one in parts if isinstance(one, kind)]
            assert getattr(part, name) == bound


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--word-drop", "1.5"], "--word-drop is 1.5: expected at least 0 and less than 1"),
        (["--clip", "0"], "--clip is 0.0: expected more than 0 and at most 1000000000"),
        (["--learning-rate", "0"], "--learning-rate is 0.0: expected more than 0 and at most 1"),
        (["--learning-rate", "1e30"], "--learning-rate is 1e+30: expected more than 0 and at most"),
        (["--margin", "nan"], "--margin is nan: expected at least 0 and at most 10"),
        (
            ["--train-images", "1000000"],
            "--train-images is 1,000,000: scenes of side 32 would fill",
        ),
        (
            ["--train-images", "20", "--batch-size", "101"],
            "--batch-size is 101: expected at most 100, the number of training captions",
        ),
        (["--train-images", "20", "--batch-size", "1"], "--batch-size is 1: expected at least 2"),
    ],
)
def test_options_that_cannot_be_are_named(
    tmp_path: Path, capsys: Any, given: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("coco", ["--recipe", *SCENES, *given, "--out", str(tmp_path), "--cpu", "--quiet"])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(("backbone", "least"), [("alexnet", 63), ("vgg11", 32)])
def test_a_picture_size_that_the_network_cannot_take_is_named(backbone: str, least: int) -> None:
    encoder = build_image_encoder(Model(backbone, "none", embed_dim=4), None)
    check_image_size(encoder, least)
    assert encoder.training
    with pytest.raises(InputError, match=f"--image-size is {least - 1}: expected a size that the"):
        check_image_size(encoder, least - 1)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("model", "embed_dim", "x", "--embed-dim is x: expected a whole number"),
        ("model", "embed_dim", 2.5, "--embed-dim is 2.5: expected a whole number"),
        ("model", "embed_dim", True, "--embed-dim is True: expected a whole number"),
        ("model", "embed_dim", None, "--embed-dim is None: expected a whole number"),
        ("model", "backbone", 5, "--backbone is 5: expected a text"),
        ("model", "finetune", "no", "--finetune is no: expected true or false"),
        ("loss", "negatives", "most", "--negatives is most: expected one of all, hardest"),
        ("loss", "negatives", [1], r"--negatives is \[1\]: expected a text"),
        ("loss", "margin", "wide", "--margin is wide: expected a number"),
        ("data", "precomp", 3, "--precomp is 3: expected a text"),
        ("schedule", "unheard_of", 1, "settings that this version does not know: schedule.unheard"),
    ],
)
def test_settings_from_a_file_are_checked_alike(
    part: str, name: str, value: object, message: str
) -> None:
    record = Settings().record()
    record[part][name] = value
    with pytest.raises(InputError, match=message):
        Settings.from_record(record)


@pytest.mark.parametrize("record", [None, [], {}, {"data": None}, {"data": {}, "model": 1}])
def test_a_record_that_lacks_settings_is_refused(record: Any) -> None:
    with pytest.raises(InputError, match="the record lacks settings: expected data, model, loss"):
        Settings.from_record(record)


def test_whole_numbers_are_numbers() -> None:
    check_options(Loss(margin=1))
