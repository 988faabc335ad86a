"""The loss and its negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vsepp.errors import InputError
from vsepp.settings.limits import COUNT, FRACTION
from vsepp.settings.ranges import Range, check_options

FORMS = {
    "all": ("all",),
    "hardest": ("hardest",),
    "semihard": ("semihard",),
    "selective": ("selective", "selective:CLOSER"),
    "topk": ("topk:K",),
    "random": ("random:K",),
    "window": ("window:START:STOP",),
    "distance": ("distance", "distance:K"),
}
"""How the negatives may be written: a name, and numbers behind colons."""
OLDER = {"top8": "topk:8"}
"""Forms of earlier versions, which their checkpoints hold."""


@dataclass(frozen=True)
class Loss:
    """The loss, and which negatives it hears."""

    negatives: str = "hardest"
    """all: VSE0. hardest: VSE++. semihard: the hardest below the positive. selective[:CLOSER]: the
    SelHN guard against collapse. topk:K: the K hardest. random:K. window:START:STOP: ranks, 0 the
    hardest. distance[:K]: drawn by distance.
    """
    measure: Literal["cosine", "order"] = "cosine"
    """Inner product of the (normalised) embeddings, or the order score."""
    margin: Annotated[float, Range(0, 10)] = 0.2
    """The margin of contrastive, unified and polynomial."""
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
    loss: Literal["contrastive", "infonce", "sigmoid", "unified"] = "contrastive"
    """contrastive: hinges (the paper's). infonce: cross-entropy over the negatives (CLIP). sigmoid:
    every pair by itself (SigLIP). unified: a smooth maximum of hinges.
    """
    temperature: Annotated[float, Range(0, 100, above=True)] = 0.05
    """What infonce and sigmoid divide scores by."""
    learn_temperature: bool = False
    """Train the temperature (and the bias of sigmoid), beginning with this one."""
    bias: Annotated[float, Range(-100, 100)] = -10.0
    """What sigmoid adds to the divided scores."""
    soft_targets: Annotated[float, FRACTION] = 0.0
    """The share of a second loss: cross-entropy with what the averaged model (--ema) makes of the
    batch, at this --temperature. It softens wrong negatives.
    """
    soft_after: Annotated[float, COUNT] = 1.0
    """Epochs before --soft-targets count."""
    ceiling: Annotated[float, Range(0, 2)] = 0.0
    """Only negatives that score below this share of the positive's score (0.95, say): likely
    unlabelled positives are left out. 0: no bound.
    """

    negatives_from: Annotated[int, COUNT] = 0
    """The paper's negative set: the negatives of a pair come from only this many others of the batch,
    drawn afresh at every step. 0: from the whole batch.
    """

    own_negatives: Annotated[int, Range(0, 1_000)] = 0
    """So many hardest negatives of every pair, from all training images and captions, beside the
    batch's: mined before every epoch but the first, below the --ceiling where there is one. Of
    precomputed features.
    """

    def __post_init__(self) -> None:
        check_options(self)
        self.check_negative_set()
        self.check_queue()
        self.check_own_negatives()
        object.__setattr__(self, "negatives", OLDER.get(self.negatives, self.negatives))
        name, numbers = self.written
        forms = FORMS.get(name, ())
        if not any(form.count(":") == len(numbers) for form in forms):
            known = ", ".join(form for one in FORMS.values() for form in one)
            expected = " or ".join(forms) or f"one of {known}"
            raise InputError(f"--negatives is {self.negatives}: expected {expected}")

    @property
    def written(self) -> tuple[str, tuple[float, ...]]:
        """The name of the negatives, and its numbers."""
        name, *numbers = self.negatives.split(":")
        try:
            return name, tuple(float(one) for one in numbers)
        except ValueError as error:
            raise InputError(
                f"--negatives is {self.negatives}: expected numbers behind the colons"
            ) from error

    def check_queue(self) -> None:
        """Refuse a queue whose captions of the same image are not told from others."""
        if self.queue and self.strict_parity:
            raise InputError(
                "--queue tells earlier captions of an image from others by the image's number, which "
                "--strict-parity ignores: choose one of the two"
            )

    def check_own_negatives(self) -> None:
        """Refuse own negatives beside options that know the pairs of the batch alone."""
        others = {
            "--strict-parity": self.strict_parity,
            "--queue": self.queue,
            "--across-ranks": self.across_ranks,
            "--negatives-from": self.negatives_from,
            "--soft-targets": self.soft_targets,
            "--loss sigmoid": self.loss == "sigmoid",
        }
        given = [written for written, value in others.items() if value]
        if self.own_negatives and given:
            raise InputError(
                f"--own-negatives {self.own_negatives} does not go with {' or '.join(given)}"
            )

    def check_negative_set(self) -> None:
        """Refuse a negative set beside options that hear pairs outside of it."""
        others = [
            written
            for written, given in (
                ("--queue", self.queue),
                ("--across-ranks", self.across_ranks),
                ("--soft-targets", self.soft_targets),
            )
            if given
        ]
        if self.negatives_from and others:
            raise InputError(
                f"--negatives-from {self.negatives_from} does not go with {' or '.join(others)}: the "
                "loss would hear other pairs too"
            )
