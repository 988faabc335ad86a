"""What can stand in a scene, and five ways of saying what does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLOURS = {
    "red": (206, 44, 44),
    "green": (44, 150, 64),
    "blue": (44, 84, 206),
    "yellow": (226, 196, 40),
    "purple": (134, 56, 168),
    "orange": (232, 128, 32),
    "grey": (120, 120, 124),
    "pink": (236, 130, 176),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
SHAPE_WORDS = {"circle": ("circle", "disc"), "square": ("square", "box"), "ring": ("ring", "hoop")}
RELATION = {
    "row": ("to the left of", "to the right of", "on the left", "on the right"),
    "column": ("above", "below", "at the top", "at the bottom"),
}


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    shape: str
    colour: str
    size: str
    texture: str


@dataclass(frozen=True)
class Scene:
    """Things from left to right (row) or from top to bottom (column)."""

    things: tuple[Thing, ...]
    layout: str
    background: int
    shifts: tuple[int, ...]


def describe(scene: Scene, random: np.random.Generator) -> list[str]:
    """Five captions: both directions of the relation, an inventory, a place, and one that is
    less exact.
    """
    before, after, start, end = RELATION[scene.layout]
    first, second, *rest = scene.things
    last = scene.things[-1]
    further = f" and {named(rest[0], random)}" if rest else ""
    everything = " and ".join(named(thing, random) for thing in scene.things)
    return [
        f"{named(first, random)} {before} {named(second, random)}{further}",
        f"there is {named(last, random)} {after} {named(scene.things[-2], random)}",
        f"a picture of {everything}, with the {word(first.shape, random)} {start}",
        f"{named(last, random)} {end} and {named(first, random)} {start}",
        f"the {last.colour} {word(last.shape, random)} is {after} the {first.colour} "
        f"{word(first.shape, random)}",
    ]


def named(thing: Thing, random: np.random.Generator) -> str:
    """A thing with all that can be said of it, in one of several wordings."""
    size = str(random.choice(SIZE_WORDS[thing.size]))
    shape = word(thing.shape, random)
    adjectives = {
        "plain": f"a {size} {thing.colour} {shape}",
        "striped": f"a {size} striped {thing.colour} {shape}",
        "dotted": f"a {size} dotted {thing.colour} {shape}",
    }
    endings = {
        "plain": f"a {size} plain {thing.colour} {shape}",
        "striped": f"a {size} {thing.colour} {shape} with stripes",
        "dotted": f"a {size} {thing.colour} {shape} with dots",
    }
    return (adjectives if random.random() < 0.6 else endings)[thing.texture]


def word(shape: str, random: np.random.Generator) -> str:
    """A noun for a shape."""
    return str(random.choice(SHAPE_WORDS.get(shape, (shape,))))
