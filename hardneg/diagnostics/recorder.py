"""``Diagnostics``: looks at a loss every so many steps of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hardneg.checks import check_count
from hardneg.diagnostics.call import LossCall, loss_within
from hardneg.diagnostics.figures import overview
from hardneg.diagnostics.findings import findings_of
from hardneg.diagnostics.looking import look
from hardneg.diagnostics.observation import Observation
from hardneg.diagnostics.tensorboard import Writer, check_writer, write_observation
from hardneg.diagnostics.unlabelled import HardestOfCall
from hardneg.losses.base import Loss
from hardneg.mining import FalseNegatives, false_negatives

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnostics"]


class AfterCall:
    """The hook of a loss. Copies and pickles of the loss have one that does nothing."""

    def __init__(self, diagnostics: Diagnostics | None) -> None:
        self.diagnostics = diagnostics

    def __call__(
        self, loss: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Any
    ) -> None:
        if torch.compiler.is_compiling() or self.diagnostics is None or not torch.is_grad_enabled():
            return
        # a look reads numbers, which would break the capture of a CUDA graph
        if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            self.diagnostics.look_in_turn(loss, arguments, options, output)

    def __reduce__(self) -> tuple[type[AfterCall], tuple[None]]:
        return AfterCall, (None,)


class Diagnostics:
    """What a loss does with its negatives, looked at every so many steps of a training.

    Attach it to the loss and leave it on. A step that is not looked at counts and returns: nothing is computed, the
    host waits for no device. A look computes the loss again without gradients, keeps numbers and histograms
    (``history``) and the embeddings of that step, and leaves torch's random generators as they were.

    Args:
        every: steps from one look to the next; the first step is looked at.
        writer: a ``torch.utils.tensorboard.SummaryWriter``, or any object with its ``add_scalar`` and
            ``add_histogram``; None: nothing is written.
        tag: what its names begin with.
        neighbours: k of the k-occurrences (``hubness``).
        hardest: how many of an anchor's hardest negatives stand for the chosen ones where a loss takes all of them, and
            among how many ``false_negatives`` looks.

    Attributes:
        history: an ``Observation`` for every look, in order.
        step: number of the next step; set it when a training resumes.

    Raises:
        ValueError, TypeError: naming the argument, what was expected, and what came.

    Example:
        >>> from hardneg.diagnostics import Diagnostics
        >>> loss, diagnostics = ContrastiveLoss(), Diagnostics(every=50)
        >>> handle = diagnostics.attach(loss)
        >>> for _ in range(101):
        ...     value = loss(torch.randn(16, 8, requires_grad=True), torch.randn(16, 8))
        >>> [seen.step for seen in diagnostics.history]
        [0, 50, 100]
        >>> handle.remove()
    """

    def __init__(
        self,
        every: int = 50,
        *,
        writer: Writer | None = None,
        tag: str = "hardneg",
        neighbours: int = 10,
        hardest: int = 8,
    ) -> None:
        self.every = check_count("every", every)
        self.neighbours = check_count("neighbours", neighbours)
        self.hardest = check_count("hardest", hardest)
        self.writer, self.tag = check_writer(writer), tag
        self.history: list[Observation] = []
        self.step = 0
        self.last: LossCall | None = None

    def __repr__(self) -> str:
        return f"Diagnostics(every={self.every}, step={self.step}, looks={len(self.history)})"

    def attach(self, loss: nn.Module) -> RemovableHandle:
        """Look at the calls of a loss from now on, as a forward hook of it.

        Copies of the loss, and what is loaded from its pickle, are not watched. Calls without gradients, such as those
        of a validation, do not count, nor do those inside ``torch.compile`` and while a CUDA graph is captured: call
        ``observe`` beside a compiled loss.

        Args:
            loss: of this library, or ``AcrossRanks``, ``Matryoshka`` around one; across ranks the rows of this rank are
                looked at.

        Returns:
            A handle; ``handle.remove()`` ends it.

        Raises:
            TypeError: for what is no loss of this library.
        """
        loss_within(loss)
        return loss.register_forward_hook(AfterCall(self), with_kwargs=True)

    def observe(self, loss: nn.Module, *arguments: Any, **options: Any) -> Observation | None:
        """Count a step and look at it in its turn, without a hook.

        Args:
            loss: as of ``attach``.
            arguments, options: those of the loss's call.

        Returns:
            What was found; None for a step that is not looked at.

        Raises:
            ValueError, TypeError: as the call itself.

        Example:
            >>> from hardneg.diagnostics import Diagnostics
            >>> queries, ids = torch.eye(12, 8), torch.arange(12)
            >>> seen = Diagnostics().observe(
            ...     ContrastiveLoss(), queries, torch.randn(12, 8), query_ids=ids, candidate_ids=ids
            ... )
            >>> seen.positives
            Histogram(24 scores from -1 to 1)
        """
        return self.look_in_turn(loss, arguments, options, None)

    def look_in_turn(
        self, loss: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: Any
    ) -> Observation | None:
        """Count, and look where it is time."""
        step = self.step
        self.step += 1
        if step % self.every:
            return None
        self.last = LossCall.of(loss, arguments, options)
        # what a wrapper returns is of all ranks, or of all widths
        known = output if isinstance(loss, Loss) else None
        seen = look(self.last, step, known, self.hardest, self.neighbours)
        self.history.append(seen)
        if self.writer is not None:
            write_observation(self.writer, seen, self.tag)
        return seen

    @property
    def findings(self) -> list[str]:
        """What is wrong, in words, by the last looks: collapse, plateau, hubs; empty where nothing is."""
        return findings_of(self.history)

    def false_negatives(
        self,
        limit: int = 100,
        margin: float = 0.05,
        by: str = "score",
        *,
        queries: Sequence[Any] | None = None,
        corpus: Sequence[Any] | None = None,
    ) -> FalseNegatives:
        """Rank likely unlabelled positives of the last step looked at, by ``hardneg.mining.false_negatives``.

        They are looked for among the hardest negatives of every anchor in the batch, whatever a ceiling leaves out.

        Args:
            limit, margin, by: as there.
            queries, corpus: texts of the batch's rows; None: their ids, where the call had some.

        Raises:
            RuntimeError: before the first look.
        """
        if self.last is None:
            raise RuntimeError(
                "nothing was looked at yet: call the loss that diagnostics are attached to"
            )
        found = HardestOfCall(self.last, self.hardest)
        names = zip((queries, corpus), found.ids, strict=True)
        queries, corpus = (ids if texts is None else texts for texts, ids in names)
        return false_negatives(found, limit, margin, by, queries=queries, corpus=corpus)

    def figure(self) -> Figure:
        """Draw the last look's histograms, and hardness, hubs and collapse over the steps (``hardneg[diagnostics]``).

        Raises:
            ImportError: without matplotlib.
            RuntimeError: before the first look.
        """
        return overview(self.history)

    def write_figure(self) -> None:
        """Write ``figure()`` to the writer, by ``add_figure``.

        Raises:
            RuntimeError: without a writer, or before the first look.
        """
        if self.writer is None:
            raise RuntimeError("there is no writer: make it Diagnostics(writer=SummaryWriter(...))")
        self.writer.add_figure(f"{self.tag}/overview", self.figure(), self.history[-1].step)
