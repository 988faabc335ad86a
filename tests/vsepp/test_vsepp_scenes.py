"""Scenes: deterministic, varied, and hard to tell apart."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

import vsepp.data.scenes
from vsepp.data.scene_captions import COLOURS, SHAPES, Scene, Thing, describe
from vsepp.data.scenes import (
    arrangement,
    draw,
    draw_scenes,
    near_miss,
    scene_at_random,
    some_scenes,
)


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(0, train_images=60)


def test_a_seed_fixes_pictures_and_captions(scenes) -> None:
    again, other = draw_scenes(0, train_images=60), draw_scenes(1, train_images=60)
    for name in ("train", "dev", "test"):
        one, same, else_ = (getattr(splits, name) for splits in (scenes, again, other))
        assert torch.equal(one.images.pictures, same.images.pictures)
        assert one.captions == same.captions
        assert one.captions != else_.captions
    assert scenes.dev.captions[:50] != scenes.test.captions[:50]


def test_five_different_captions_an_image(scenes) -> None:
    train = scenes.train
    assert np.bincount(train.image_of).tolist() == [5] * 60
    for image in range(60):
        assert len(set(train.captions[5 * image : 5 * image + 5])) == 5


def test_captions_are_true_of_a_known_scene() -> None:
    things = (Thing("star", "red", "large", "plain"), Thing("cross", "blue", "small", "striped"))
    row = Scene(things, "row", 0, (0, 0, 0, 0))
    random = np.random.default_rng(0)
    for _ in range(20):
        first, second, *_, last = describe(row, random)
        left, right = first.split(" to the left of ")
        assert "red star" in left
        assert "blue cross" in right
        assert "strip" in right
        assert second.index("blue") < second.index(" to the right of ") < second.index("red")
        assert last == "the blue cross is to the right of the red star"
    column = Scene(things, "column", 0, (0, 0, 0, 0))
    assert " above " in describe(column, random)[0]
    assert describe(column, random)[4] == "the blue cross is below the red star"


def test_the_picture_shows_what_the_scene_says() -> None:
    things = (Thing("circle", "red", "large", "plain"), Thing("square", "blue", "small", "plain"))
    picture = draw(Scene(things, "row", 0, (0, 0, 0, 0)), 64).astype(int)
    red = (picture[..., 0] - picture[..., 2]) > 80
    blue = (picture[..., 2] - picture[..., 0]) > 80
    assert red[:, :32].sum() > red[:, 32:].sum() == 0
    assert blue[:, 32:].sum() > blue[:, :32].sum() == 0
    assert red.sum() > 2 * blue.sum()


def test_every_shape_colour_and_texture_draws_differently() -> None:
    pictures = {
        draw(Scene((Thing(shape, colour, "large", texture),) * 2, "row", 0, (0,) * 4), 64).tobytes()
        for shape in SHAPES
        for colour in COLOURS
        for texture in ("plain", "striped", "dotted")
    }
    assert len(pictures) == len(SHAPES) * len(COLOURS) * 3


def test_a_near_miss_changes_one_thing_or_the_order() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        scene = scene_at_random(random)
        other = near_miss(scene, random)
        pairs = list(zip(scene.things, other.things, strict=True))
        changed = [one for one in pairs if one[0] != one[1]]
        assert len(changed) == 1 or other.things == scene.things[::-1]
        assert draw(scene, 64).tobytes() != draw(other, 64).tobytes()
        assert len({(thing.shape, thing.colour) for thing in other.things}) == len(other.things)


def test_no_arrangement_comes_twice_and_most_have_a_near_miss() -> None:
    """Not within a split, nor in dev or test what is trained on."""
    held_out: set = set()
    for count in (60, 200):
        scenes = some_scenes(count, np.random.default_rng(count), held_out)
        told = {arrangement(scene) for scene in scenes}
        assert len(told) == count
        assert not told & held_out
        assert (
            sum(any(one_apart(*pair) for pair in product([one], told)) for one in told) > count / 2
        )
        held_out |= told


def one_apart(one: tuple, other: tuple) -> bool:
    """Whether one word of a caption makes it true of the other scene."""
    (ours, layout), (theirs, there) = one, other
    words = [
        getattr(a, name) != getattr(b, name)
        for a, b in zip(ours, theirs, strict=True)
        for name in ("shape", "colour")
    ]
    turned = ours == theirs[::-1] and ours != theirs
    return layout == there and (sum(words) == 1 or turned)


def test_dev_and_test_do_not_follow_the_training_images() -> None:
    few, many = (draw_scenes(3, train_images=count, side=8) for count in (20, 40))
    assert few.test.captions == many.test.captions
    assert torch.equal(few.dev.images.pictures, many.dev.images.pictures)


def test_more_scenes_than_there_are_arrangements(monkeypatch) -> None:
    monkeypatch.setitem(vsepp.data.scenes.COUNTS, "test", 5)
    monkeypatch.setitem(vsepp.data.scenes.COUNTS, "dev", 5)
    assert len(draw_scenes(0, train_images=5_000, side=8).train.images) == 5_000


def test_pictures_are_scaled_and_shown(scenes) -> None:
    images, kept = scenes.train.images.batch([0, 5], seeds=[1, 2])
    assert images.shape == (2, 3, 64, 64)
    assert kept == [0, 1]
    assert -1 <= images.min() < images.max() <= 1
    shown = Image.open(io.BytesIO(scenes.train.images.thumbnail(5)))
    assert np.array_equal(
        np.asarray(shown), scenes.train.images.pictures[5].permute(1, 2, 0).numpy()
    )
