"""Everything that shapes a run. A checkpoint carries these settings; a command line is made
from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from vsepp.errors import InputError
from vsepp.ranges import Range, check_options

MANY = 1_000_000
LARGEST_SEED = 2**32 - 1
COUNT, POSITIVE = Range(0, MANY), Range(1, MANY)
SEED = Range(0, LARGEST_SEED)
FRACTION = Range(0, 1, below=True)
STEP_SIZE = Range(0, 1, above=True)
NORM = Range(0, 1e9, above=True)


@dataclass(frozen=True)
class Data:
    """What is read, and how images become tensors."""

    dataset: Literal["scenes", "coco", "flickr30k", "flickr8k"] = "scenes"
    """The data set, which also names its folder: coco, f30k or f8k."""
    layout: Literal["precomp", "raw"] = "precomp"
    """Precomputed features (*_ims.npy and *_caps.txt), or images and an annotation file."""
    precomp: str = ""
    """The folder of precomputed features, when it is not the data set's own (10crop_precomp,
    say).
    """
    restval: bool = False
    """COCO: train on restval too (the paper's rV)."""
    crop: Literal["rc", "1c", "10c"] = "rc"
    """Training crop: random resized crop and mirroring, centre crop, or the mean of ten crops."""
    image_size: Annotated[int, Range(8, 2_048)] = 224
    """Side of the square that the network sees; images are first scaled to 8/7 of it."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them, instead of stopping."""
    tokenizer: Literal["auto", "nltk", "regex"] = "auto"
    """How captions become words; auto is nltk where it is installed, else the regular
    expression.
    """
    threshold: Annotated[int, POSITIVE] = 4
    """A word enters the vocabulary if the training captions hold it this often."""
    max_words: Annotated[int, Range(1, 10_000)] = 256
    """Captions longer than this are cut there, and counted."""
    vocabulary: str = ""
    """A vocabulary file (JSON) to use instead of one built from the training captions."""
    train_images: Annotated[int, COUNT] = 0
    """Scenes: how many training images to draw. Others: use only the first so many (0: all)."""
    scene_seed: Annotated[int, SEED] = 0
    """Scenes: the seed of the drawings, apart from the seed of the training."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Model:
    """The two encoders."""

    backbone: str = "resnet152"
    """Image network for raw images: any torchvision classifier, or "small" (four layers, from
    scratch).
    """
    weights: str = "IMAGENET1K_V1"
    """Its pretrained weights in torchvision's naming; "none" starts from random ones."""
    finetune: bool = False
    """Train the image network too."""
    cnn_mode: Literal["eval", "train", "legacy"] = "eval"
    """Mode of the image network while training; legacy is train up to an epoch's first
    validation.
    """
    embed_dim: Annotated[int, Range(1, 65_536)] = 1024
    """Width of the joint space."""
    word_dim: Annotated[int, Range(1, 65_536)] = 300
    """Width of the word vectors."""
    text: Literal["gru", "bigru"] = "gru"
    """Caption encoder."""
    text_layers: Annotated[int, Range(1, 32)] = 1
    """Layers of the caption encoder."""
    pooling: Literal["last", "mean", "max", "gpo"] = "last"
    """How the states of the caption encoder become one vector."""
    word_drop: Annotated[float, FRACTION] = 0.0
    """Chance that a training step hides a word (VSE-infinity: 0.2)."""
    image_norm: bool = True
    """L2-normalise image embeddings; the released VSE0 does not."""
    absolute: bool = False
    """Absolute values of both embeddings (Order0)."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Loss:
    """The loss, and which negatives it hears."""

    negatives: Literal["all", "hardest", "selective", "top8"] = "hardest"
    """all: VSE0. hardest: VSE++. selective: the SelHN guard against collapse. top8: the 8
    hardest.
    """
    measure: Literal["cosine", "order"] = "cosine"
    """Inner product of the (normalised) embeddings, or the order score."""
    margin: Annotated[float, Range(0, 10)] = 0.2
    """The margin of the hinge."""
    warmup_epochs: Annotated[float, COUNT] = 0.0
    """Epochs of all negatives before the chosen ones take over."""
    strict_parity: bool = False
    """Exactly the released behaviour: other captions of the same image count as negatives."""
    across_ranks: bool = False
    """With several processes (torchrun, accelerate launch): find negatives in the whole batch, of
    which each process holds a part. Without it each process looks in its own part only. In one
    process both are the same.
    """
    queue: Annotated[int, Range(0, 10_000_000)] = 0
    """Also look for negatives among this many earlier pairs, whose embeddings are remembered
    (65536, say; they age while the model learns). 0: in the batch only.
    """

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Schedule:
    """The optimisation."""

    epochs: Annotated[int, POSITIVE] = 30
    """Passes over the training captions."""
    batch_size: Annotated[int, POSITIVE] = 128
    """Pairs in a step, over all processes together; each process takes an equal part of them."""
    chunk: Annotated[int, COUNT] = 0
    """Encode a process's pairs this many at a time (64, say) and keep no more in memory: the same
    gradients with a large --batch-size on a small GPU, for one more forward pass. 0: all at once.
    """
    learning_rate: Annotated[float, STEP_SIZE] = 2e-4
    """Adam's step size."""
    decay_after: Annotated[int, POSITIVE] = 15
    """Divide the learning rate by ten after every so many epochs."""
    clip: Annotated[float, NORM] = 2.0
    """Largest global norm of the gradient of the summed loss."""
    validate_every: Annotated[int, COUNT] = 0
    """Validate every so many steps within an epoch too (the released code: 500). 0: after each
    epoch.
    """
    seed: Annotated[int, SEED] = 0
    """Seed of the weights, the order of the captions and the random crops."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Settings:
    """One training run."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.schedule.batch_size < 2 and not self.loss.queue:
            raise InputError(
                f"--batch-size is {self.schedule.batch_size}: expected at least 2, because the "
                "negatives of a pair are the others of its batch"
            )

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for a checkpoint or a log."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Settings:
        """Back from plain values; names that this version does not know are refused."""
        parts = {"data": Data, "model": Model, "loss": Loss, "schedule": Schedule}
        if not isinstance(record, dict) or not all(
            isinstance(record.get(part), dict) for part in parts
        ):
            raise InputError(f"the record lacks settings: expected {', '.join(parts)}")
        unknown = [
            f"{part}.{name}"
            for part, kind in parts.items()
            for name in set(record[part]) - {one.name for one in fields(kind)}
        ]
        if unknown:
            raise InputError(
                "the record has settings that this version does not know: "
                f"{', '.join(sorted(unknown))}"
            )
        return cls(**{part: kind(**record[part]) for part, kind in parts.items()})

    def differences(self, other: Settings) -> list[str]:
        """The settings in which two runs differ, as ``part.name: ours, theirs``."""
        ours, theirs = self.record(), other.record()
        return [
            f"{part}.{name}: {ours[part][name]!r}, {theirs[part][name]!r}"
            for part in ours
            for name in ours[part]
            if ours[part][name] != theirs[part][name]
        ]


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: but for --start-from, none of these changes the result."""

    resume: bool = False
    """Go on from the newest checkpoint in the run's folder; start afresh if there is none."""
    overwrite: bool = False
    """Replace a run that is already in the folder, once the new one has a checkpoint."""
    start_from: Path | None = None
    """Start from this model's weights with a fresh optimiser (the paper's second stage)."""
    checkpoint_every: Annotated[int, POSITIVE] = 500
    """Steps between checkpoints; there is one after every validation as well."""
    workers: Annotated[int, Range(0, 256)] | None = None
    """Processes that decode images; None chooses from the cores (features need none)."""
    tensorboard: bool = True
    """Write TensorBoard logs into the run's folder, if tensorboard is installed."""
    cpu: bool = False
    """Stay on the CPU even if there is a GPU."""
    quiet: bool = False
    """No progress bar; there is none either where the output is no terminal."""

    def __post_init__(self) -> None:
        check_options(self)
