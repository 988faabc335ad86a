"""Scenes: pictures that the program draws itself, with captions; nothing on disk is needed.

Two objects side by side or one above the other, each with a shape and a colour. There are only 4,512
such arrangements, so nearly every caption becomes true of another picture by one word changed: a
colour, a shape, left for right. Half of the scenes are drawn as such near-misses of the one before.
Everything follows from one seed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vsepp.data.scene_captions import COLOURS, SHAPES, Scene, Thing, describe
from vsepp.data.splits import THUMBNAIL_SIDE, Split, Splits
from vsepp.errors import InputError

COUNTS = {"train": 1_500, "dev": 250, "test": 500}
DISTINCT = 2_500
"""Up to so many training scenes are all different arrangements; of more, some recur."""
CANVAS = 128
LARGEST = 2 * 2**30
RADIUS = {"small": 16, "large": 29}
BACKGROUNDS = ((236, 236, 228), (214, 228, 238), (238, 224, 214), (222, 236, 218))
NEAR_MISS = 0.5


@dataclass(frozen=True)
class Drawings:
    """Pictures in memory: ``n x 3 x side x side``, bytes."""

    pictures: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, rows: Sequence[int], seeds: Iterable[int] | None) -> tuple[Tensor, list[int]]:
        """These pictures, scaled to [-1, 1]; training sees them as they are."""
        chosen = self.pictures[torch.as_tensor(np.asarray(rows))]
        return chosen.float() / 127.5 - 1.0, [*range(len(rows))]

    def first(self, count: int) -> Drawings:
        """The first ``count`` pictures."""
        return Drawings(self.pictures[:count])

    def thumbnail(self, row: int, side: int = THUMBNAIL_SIDE) -> bytes:
        """One picture as PNG, as it was drawn."""
        content = io.BytesIO()
        Image.fromarray(self.pictures[row].permute(1, 2, 0).numpy()).save(content, format="PNG")
        return content.getvalue()


def draw_scenes(seed: int, train_images: int = 0, side: int = 64) -> Splits:
    """The three splits of a seed; ``train_images`` overrides how many training pictures there
    are.
    """
    counts = {**COUNTS, "train": train_images or COUNTS["train"]}
    size = 3 * side * side * sum(counts.values())
    if size > LARGEST:
        raise InputError(
            f"--train-images is {counts['train']:,}: scenes of side {side} would fill "
            f"{size / 2**30:,.0f} GiB, expected at most {LARGEST / 2**30:.0f}; lower it or "
            "--image-size"
        )
    held_out: set[Arrangement] = set()
    parts = {}
    for number, name in reversed([*enumerate(counts)]):  # no scene of dev or test is trained on
        random = np.random.default_rng([seed, number])
        scenes = some_scenes(counts[name], random, held_out)
        held_out |= {arrangement(scene) for scene in scenes}
        parts[name] = scene_split(name, scenes, random, side)
    return Splits(**parts)


Arrangement = tuple[tuple[Thing, ...], str]


def arrangement(scene: Scene) -> Arrangement:
    """What captions tell of a scene."""
    return scene.things, scene.layout


def some_scenes(count: int, random: np.random.Generator, held_out: set[Arrangement]) -> list[Scene]:
    """So many scenes, none of them held out, half of them near-misses of the one before."""
    scenes: list[Scene] = []
    seen = set(held_out)
    while len(scenes) < count:
        near = bool(scenes) and random.random() < NEAR_MISS
        scene = near_miss(scenes[-1], random) if near else scene_at_random(random)
        if arrangement(scene) not in seen:
            scenes.append(scene)
            seen |= {arrangement(scene)} if count <= DISTINCT else set()
    return scenes


def scene_split(
    name: str, scenes: Sequence[Scene], random: np.random.Generator, side: int
) -> Split:
    """The scenes with five captions each."""
    count = len(scenes)
    pictures = np.stack([draw(scene, side) for scene in scenes])
    captions = [caption for scene in scenes for caption in describe(scene, random)]
    return Split(
        Drawings(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()),
        tuple(captions),
        np.repeat(np.arange(count), len(captions) // count),
        f"scenes ({name})",
    )


def scene_at_random(random: np.random.Generator) -> Scene:
    """Two different things in a row or a column, on a plain ground."""
    things: list[Thing] = []
    while len(things) < 2:
        thing = Thing(pick(random, SHAPES), pick(random, tuple(COLOURS)), "large", "plain")
        if all((thing.shape, thing.colour) != (one.shape, one.colour) for one in things):
            things.append(thing)
    return Scene(
        tuple(things),
        pick(random, ("row", "column")),
        int(random.integers(len(BACKGROUNDS))),
        tuple(int(shift) for shift in random.integers(-7, 8, size=2 * len(things))),
    )


def near_miss(scene: Scene, random: np.random.Generator) -> Scene:
    """The same scene with one thing changed, or its order turned round."""
    change = pick(random, ("order", "colour", "shape"))
    if change == "order":
        return replace(scene, things=scene.things[::-1])
    choices = {"colour": tuple(COLOURS), "shape": SHAPES}[change]
    which = int(random.integers(len(scene.things)))
    old = scene.things[which]
    new = replace(
        old, **{change: pick(random, [one for one in choices if one != getattr(old, change)])}
    )
    things = (*scene.things[:which], new, *scene.things[which + 1 :])
    confusable = len({(one.shape, one.colour) for one in things}) < len(things)
    return near_miss(scene, random) if confusable else replace(scene, things=things)


def pick(random: np.random.Generator, choices: Sequence[str]) -> str:
    """One of the choices."""
    return choices[int(random.integers(len(choices)))]


def draw(scene: Scene, side: int) -> np.ndarray:
    """The picture, ``side x side x 3`` bytes."""
    picture = Image.new("RGB", (CANVAS, CANVAS), BACKGROUNDS[scene.background])
    for number, thing in enumerate(scene.things):
        along = CANVAS * (2 * number + 1) // (2 * len(scene.things))
        place = (along, CANVAS // 2) if scene.layout == "row" else (CANVAS // 2, along)
        shift = scene.shifts[2 * number : 2 * number + 2]
        radius = RADIUS[thing.size] * 2 // len(scene.things)
        draw_thing(picture, thing, (place[0] + shift[0], place[1] + shift[1]), radius)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def draw_thing(picture: Image.Image, thing: Thing, centre: tuple[int, int], radius: int) -> None:
    """One thing: its outline filled with its texture."""
    mask = Image.new("L", picture.size, 0)
    outline(ImageDraw.Draw(mask), thing.shape, centre, radius)
    fill = Image.new("RGB", picture.size, COLOURS[thing.colour])
    pen = ImageDraw.Draw(fill)
    if thing.texture == "striped":
        for offset in range(0, CANVAS, 8):
            pen.line((offset, 0, offset, CANVAS), fill=(250, 250, 250), width=3)
    elif thing.texture == "dotted":
        for x in range(0, CANVAS, 8):
            for y in range(0, CANVAS, 8):
                pen.ellipse((x, y, x + 4, y + 4), fill=(20, 20, 20))
    picture.paste(fill, mask=mask)


def outline(pen: ImageDraw.ImageDraw, shape: str, centre: tuple[int, int], radius: int) -> None:
    """The silhouette of a shape."""
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=255)
    elif shape == "ring":
        pen.ellipse(box, outline=255, width=max(3, radius // 3))
    elif shape == "square":
        pen.rectangle(box, fill=255)
    elif shape == "cross":
        arm = max(2, radius // 3)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=255)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=255)
    else:
        points = {"triangle": 3, "star": 5}[shape]
        pen.polygon(corners(points, centre, radius, spiked=shape == "star"), fill=255)


def corners(
    points: int, centre: tuple[int, int], radius: int, spiked: bool
) -> list[tuple[float, float]]:
    """The corners of a regular polygon, or of a star, one of them on top."""
    steps = 2 * points if spiked else points
    return [
        (
            centre[0] + reach * np.sin(2 * np.pi * step / steps),
            centre[1] - reach * np.cos(2 * np.pi * step / steps),
        )
        for step in range(steps)
        for reach in [radius * (0.45 if spiked and step % 2 else 1.0)]
    ]
