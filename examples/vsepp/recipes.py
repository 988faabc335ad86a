"""Named settings: one for each row and loss of the paper's tables, with the numbers to expect.

Confidence of a number: ``published`` was read in a source that quotes the row; ``unverified`` is a
target recalled from the paper and is no fact; ``reference run`` was measured with the authors'
released code on the same features.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace

from vsepp.settings import Data, Loss, Model, Schedule, Settings

PUBLISHED, UNVERIFIED, REFERENCE = "published", "unverified", "reference run"


@dataclass(frozen=True)
class Numbers:
    """R@1, R@5, R@10 of both directions, in percent, and how sure they are."""

    i2t: tuple[float, ...]
    t2i: tuple[float, ...]
    confidence: str

    def __str__(self) -> str:
        both = " | ".join("/".join(f"{one:.1f}" for one in way) for way in (self.i2t, self.t2i))
        return f"{both} ({self.confidence})"


@dataclass(frozen=True)
class Recipe:
    """A run by name. ``expected`` is by protocol: 1k and 5k for COCO, test elsewhere."""

    name: str
    settings: Settings
    expected: dict[str, Numbers] = field(default_factory=dict)
    start_from: str = ""
    """The recipe whose best model a fine-tuning stage starts from."""


LOSSES = {
    "vse0": (Loss("all"), {"image_norm": False}, {}),
    "vse++": (Loss("hardest"), {}, {}),
    "order0": (Loss("all", "order", 0.05), {"absolute": True}, {"learning_rate": 1e-3}),
    "order++": (Loss("hardest", "order"), {}, {}),
}


def numbers(text: str, confidence: str) -> Numbers:
    """``43.2/73.9/85.0|33.0/67.4/80.7`` as numbers."""
    i2t, t2i = (tuple(float(one) for one in way.split("/")) for way in text.split("|"))
    return Numbers(i2t, t2i, confidence)


def under(loss: str, data: Data, model: Model, schedule: Schedule) -> Settings:
    """Settings with one of the four official losses put in."""
    chosen, of_model, of_schedule = LOSSES[loss]
    return Settings(data, replace(model, **of_model), chosen, replace(schedule, **of_schedule))


def paper_row(
    dataset: str, row: str, backbone: str, targets: dict[str, dict[str, Numbers]]
) -> list[Recipe]:
    """The recipes of one row: the words of ``row`` (1C, RC, rV, FT) say how images are treated."""
    words = row.lower().split("-")
    fine = "ft" in words
    stem = "-".join([dataset, backbone])
    data = Data(dataset, "raw", crop="1c" if "1c" in words else "rc", restval="rv" in words)
    schedule = Schedule(epochs=15, learning_rate=2e-5) if fine else Schedule()
    first_stage = "-".join([stem, *[word for word in words if word != "ft"]])
    return [
        Recipe(
            name="-".join([stem, *words, loss]),
            settings=under(
                loss, data, Model(backbone, finetune=fine), replace(schedule, validate_every=500)
            ),
            expected=expected,
            start_from=f"{first_stage}-{loss}" if fine else "",
        )
        for loss, expected in targets.items()
    ]


def one_k(
    vse0: tuple[str, str], best: tuple[str, str], five_k: str = ""
) -> dict[str, dict[str, Numbers]]:
    """Targets of a COCO row for the two losses; 5K numbers exist for fine-tuned VSE++ only."""
    at_5k = {"5k": numbers(five_k, PUBLISHED)} if five_k else {}
    return {"vse0": {"1k": numbers(*vse0)}, "vse++": {"1k": numbers(*best), **at_5k}}


def whole(vse0: tuple[str, str], best: tuple[str, str]) -> dict[str, dict[str, Numbers]]:
    """Targets of a Flickr30K row for the two losses."""
    return {"vse0": {"test": numbers(*vse0)}, "vse++": {"test": numbers(*best)}}


M, S = UNVERIFIED, PUBLISHED
COCO = [
    *paper_row("coco", "1C", "vgg19", one_k(
        ("43.2/73.9/85.0|33.0/67.4/80.7", M), ("43.6/74.8/84.6|33.7/68.8/81.0", M))),
    *paper_row("coco", "RC", "vgg19", one_k(
        ("43.1/77.0/87.1|32.5/68.3/82.1", M), ("49.0/79.8/88.4|37.1/72.2/83.8", M))),
    *paper_row("coco", "RC-rV", "vgg19", one_k(
        ("46.8/78.8/89.0|34.2/70.4/83.6", M), ("51.9/81.5/90.4|39.5/74.1/85.6", M))),
    *paper_row("coco", "FT-RC-rV", "vgg19", one_k(
        ("50.1/81.5/90.5|39.7/75.4/87.2", M), ("57.2/86.0/93.3|45.9/79.4/89.1", S),
        "32.9/61.7/74.7|24.1/52.8/66.2")),
    *paper_row("coco", "RC-rV", "resnet152", one_k(
        ("52.7/83.0/91.8|36.0/72.6/85.5", M), ("58.3/86.1/93.3|43.6/77.6/87.8", M))),
    *paper_row("coco", "FT-RC-rV", "resnet152", one_k(
        ("56.0/85.8/93.5|43.7/79.4/89.7", S), ("64.6/90.0/95.7|52.0/84.3/92.0", S),
        "41.3/71.1/81.2|30.3/59.4/72.4")),
]  # fmt: skip
FLICKR30K = [
    *paper_row("flickr30k", "1C", "vgg19", whole(
        ("29.8/59.8/71.9|23.0/48.8/61.0", M), ("31.9/58.4/68.0|23.1/49.2/60.7", M))),
    *paper_row("flickr30k", "RC", "vgg19", whole(
        ("31.6/59.3/71.7|21.6/50.7/63.8", M), ("38.6/64.6/74.6|26.8/54.9/66.8", M))),
    *paper_row("flickr30k", "FT-RC", "vgg19", whole(
        ("37.4/65.4/77.2|26.8/57.6/69.5", M), ("41.3/69.1/77.9|31.4/60.0/71.2", S))),
    *paper_row("flickr30k", "RC", "resnet152", whole(
        ("36.6/67.3/78.4|23.3/52.6/66.0", M), ("43.7/71.9/82.1|32.3/60.9/72.1", M))),
    *paper_row("flickr30k", "FT-RC", "resnet152", whole(
        ("42.1/73.2/84.0|31.8/62.6/74.1", S), ("52.9/80.5/87.2|39.6/70.1/79.5", S))),
]  # fmt: skip
ORDER = [
    Recipe(
        f"coco-10crop-{loss}",
        under(loss, Data("coco", precomp="10crop_precomp"), Model(), Schedule()),
        {"1k": numbers(target, UNVERIFIED)},
    )
    for loss, target in {
        "vse0": "49.5/81.8/90.0|38.1/73.3/85.1",
        "order0": "48.5/80.9/90.3|39.6/75.3/86.7",
        "vse++": "51.3/82.0/91.0|40.1/75.3/86.1",
        "order++": "53.0/83.4/91.9|42.3/77.4/88.1",
    }.items()
]
EIGHT_K = {
    "vse0": "19.9/48.5/62.3|13.2/36.0/49.6",
    "vse++": "20.7/49.0/60.9|15.7/37.6/51.0",
    "order0": "21.8/49.2/61.8|15.3/39.9/53.6",
    "order++": "20.9/47.6/60.6|14.7/37.7/50.1",
}


def strict(settings: Settings) -> Settings:
    """The released behaviour exactly: no image ids, the tokens of the reference runs."""
    return replace(
        settings,
        loss=replace(settings.loss, strict_parity=True),
        data=replace(settings.data, tokenizer="regex"),
    )


FLICKR8K = [
    Recipe(
        f"flickr8k-{width}-{loss}",
        strict(under(loss, Data("flickr8k"), Model(embed_dim=width), Schedule())),
        {"test": numbers(EIGHT_K[loss], REFERENCE)} if width == 256 else {},
    )
    for width in (256, 1024)
    for loss in LOSSES
]
RAW_8K = [
    Recipe(
        f"flickr8k-small-{loss}",
        under(
            loss,
            Data("flickr8k", "raw", image_size=64),
            Model("small", "none", finetune=True, embed_dim=256),
            Schedule(),
        ),
    )
    for loss in ("vse0", "vse++")
]
STRONG_SETTINGS = Settings(
    Data("flickr8k", tokenizer="regex", threshold=2, mirror=True),
    Model(
        embed_dim=1536,
        members=3,
        text="bow",
        blocks=1,
        drop=0.2,
        feature_drop=0.4,
        word_drop=0.1,
        scale_features="sqrt",
        word_vectors="captions",
    ),
    Loss("all", loss="infonce", temperature=0.05, soft_targets=0.5),
    Schedule(
        epochs=10,
        batch_size=512,
        learning_rate=2e-3,
        optimizer="adamw",
        weight_decay=0.05,
        decay="cosine",
        rise=100,
        ema=0.99,
        captions_each=1,
    ),
)
"""Beyond the paper: everything but the negatives that helps on few captions of frozen features."""
STRONG = Recipe("flickr8k-strong", STRONG_SETTINGS)
SCENES = [
    Recipe(
        f"scenes-{loss}",
        Settings(
            Data("scenes", "raw", image_size=32, tokenizer="regex"),
            Model("small", "none", finetune=True, embed_dim=12, word_dim=64),
            Loss(negatives, warmup_epochs=warmup),
            Schedule(epochs=6, learning_rate=2e-3, decay="cosine", rise=20, ema=0.95),
        ),
    )
    # Hard negatives keep towers that start from nothing on a plateau: hence the warm-up.
    for loss, negatives, warmup in (
        ("vse0", "all", 0),
        ("vse++", "hardest", 2),
        ("top8", "topk:8", 2),
    )
]
OWN = [
    Recipe(
        f"own{loss}",
        Settings(
            Data("own", threshold=2),
            Model(
                "resnet50",
                embed_dim=512,
                text="bow",
                word_drop=0.2,
                scale_features="sqrt",
                feature_drop=0.3,
            ),
            chosen,
            Schedule(
                optimizer="adamw",
                weight_decay=0.1,
                decay="cosine",
                learning_rate=1e-3,
                captions_each=1,
            ),
        ),
    )
    for loss, chosen in {
        "": Loss("topk:8"),
        "-vse0": Loss("all"),
        "-vse++": Loss("hardest"),
    }.items()
]
RECIPES = {
    recipe.name: recipe
    for recipe in [*SCENES, *COCO, *ORDER, *FLICKR30K, *FLICKR8K, *RAW_8K, *OWN, STRONG]
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name, or a message with the nearest ones."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3)
    raise ValueError(
        f"unknown recipe {name!r}: did you mean {' or '.join(near) or 'one of the list'}? "
        "`recipes` lists all of them"
    )
