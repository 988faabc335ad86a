"""Distillation of a teacher's scores of each query's candidate and own negatives, such as a cross-encoder's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hardneg.checks import FLOATING, check_alike, check_embeddings, check_layout, check_number
from hardneg.losses.own_negatives import check_own_embeddings, check_per_query
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.tiled_backend import Tiled
from hardneg.similarities import Similarity, SimilarityName, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["KLDistillation", "MarginMSE"]


class Distillation(nn.Module):
    """Base of both: the scores of the student, and what is checked."""

    def __init__(self, similarity: Similarity | SimilarityName) -> None:
        super().__init__()
        self.similarity = resolve_similarity(similarity)

    def scores(
        self, queries: Tensor, candidates: Tensor, own_negatives: Tensor
    ) -> Float[Tensor, "n k+1"]:
        """The student's scores: of each query's candidate, then of its own negatives."""
        check_embeddings("queries", queries)
        check_embeddings("candidates", candidates)
        check_alike("queries", queries, "candidates", candidates)
        if candidates.shape[0] != queries.shape[0]:
            raise ValueError(
                f"{queries.shape[0]} queries but {candidates.shape[0]} candidates: expected one for each"
            )
        check_own_embeddings(own_negatives, queries)
        if own_negatives.shape[1] == 0:
            raise ValueError("own_negatives are empty: expected one for each query, or more")
        comparison = Comparison(queries, candidates, self.similarity, Relation(paired=True))
        scores = Tiled().scores(comparison)
        own = scores.row_numbers()
        return torch.cat([scores.pairs(own, own)[:, None], scores.own_scores(own_negatives)], 1)

    def extra_repr(self) -> str:
        """The choices."""
        return f"similarity={self.similarity!r}"


class MarginMSE(Distillation):
    """Mean squared difference of the student's and the teacher's margins between positive and negative.

    With scores s of the student and t of the teacher, positives first:
    ``((s[:, :1] - s[:, 1:]) - (t[:, :1] - t[:, 1:])).square().mean()``.

    Args:
        similarity: by name, object or callable; of the teacher's size.

    Source: Hofstätter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation", 2020.

    Example:
        >>> q, c, own = torch.randn(8, 4), torch.randn(8, 4), torch.randn(8, 3, 4)
        >>> value = MarginMSE()(q, c, own, torch.randn(8, 4))
    """

    def __init__(self, similarity: Similarity | SimilarityName = "dot") -> None:
        super().__init__(similarity)

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "n d"],
        own_negatives: Float[Tensor, "n k d"],
        teacher_scores: Float[Tensor, "n k+1"],
        *,
        own_ignore_mask: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss, in float32 at least.

        Args:
            queries, candidates: n x d, row i belongs to candidate i.
            own_negatives: n x k x d, k negatives of each query.
            teacher_scores: n x (k + 1): that of the candidate, then those of the own negatives. No gradient.
            own_ignore_mask: n x k mask of own negatives left out, such as (finite) padding.

        Raises:
            ValueError, TypeError: naming the argument, what was expected, and what came.
        """
        student = self.scores(queries, candidates, own_negatives)
        teacher, kept = checked_teacher(teacher_scores, student, own_ignore_mask)
        margins = student[:, :1] - student[:, 1:] - (teacher[:, :1] - teacher[:, 1:])
        if kept is None:
            return margins.square().mean()
        return torch.where(kept, margins, 0.0).square().sum() / kept.sum().clamp(min=1)


class KLDistillation(Distillation):
    """Mean over queries of KL(teacher || student) of the softmax over candidate and own negatives, times T squared.

    Args:
        temperature: T, of both sides; above 0.
        similarity: by name, object or callable; of the teacher's size.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.

    Example:
        >>> q, c, own = torch.randn(8, 4), torch.randn(8, 4), torch.randn(8, 3, 4)
        >>> value = KLDistillation(temperature=2.0)(q, c, own, torch.randn(8, 4))
    """

    def __init__(
        self, temperature: float = 1.0, similarity: Similarity | SimilarityName = "dot"
    ) -> None:
        super().__init__(similarity)
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(
        self,
        queries: Float[Tensor, "n d"],
        candidates: Float[Tensor, "n d"],
        own_negatives: Float[Tensor, "n k d"],
        teacher_scores: Float[Tensor, "n k+1"],
        *,
        own_ignore_mask: Bool[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss, in float32 at least; arguments and errors as in ``MarginMSE``."""
        student = self.scores(queries, candidates, own_negatives)
        teacher, kept = checked_teacher(teacher_scores, student, own_ignore_mask)
        sides = [side / self.temperature for side in (student, teacher)]
        if kept is not None:
            every = torch.cat([torch.ones_like(kept[:, :1]), kept], 1)
            sides = [torch.where(every, side, torch.finfo(side.dtype).min / 4) for side in sides]
        of_student, of_teacher = (side.log_softmax(1) for side in sides)
        terms = of_teacher.exp() * (of_teacher - of_student)
        return terms.sum(1).mean() * self.temperature**2

    def extra_repr(self) -> str:
        """The choices."""
        return f"temperature={self.temperature}, {super().extra_repr()}"


def checked_teacher(
    teacher: Any, student: Tensor, ignore: Tensor | None
) -> tuple[Float[Tensor, "n k+1"], Bool[Tensor, "n k"] | None]:
    """The teacher's scores in the student's type, and which own negatives count."""
    shape = tuple(student.shape)
    if not isinstance(teacher, Tensor):
        raise TypeError(f"teacher_scores is a {type(teacher).__name__}: expected a tensor {shape}")
    check_layout("teacher_scores", teacher)
    if tuple(teacher.shape) != shape:
        raise ValueError(
            f"teacher_scores has shape {tuple(teacher.shape)}: expected {shape}, that of each query's "
            "candidate, then those of its own negatives"
        )
    if teacher.dtype not in FLOATING:
        raise TypeError(f"teacher_scores is {teacher.dtype}: expected a floating-point type")
    if teacher.device != student.device:
        raise ValueError(f"teacher_scores is on {teacher.device}: expected {student.device}")
    if ignore is None:
        return teacher.detach().to(student.dtype), None
    check_per_query("own_ignore_mask", ignore, (shape[0], shape[1] - 1), student, mask=True)
    return teacher.detach().to(student.dtype), ~ignore
