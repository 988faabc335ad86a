"""Embeddings collected batch by batch, then evaluated together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from hardneg.checks import check_choice, check_embeddings, check_ids, check_two_sets
from hardneg.metrics.across_ranks import across_ranks as over_ranks
from hardneg.metrics.retrieval import RetrievalMetrics, retrieval_metrics
from hardneg.similarities import Similarity, resolve_similarity

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["RetrievalAccumulator"]


class RetrievalAccumulator:
    """Collects images and captions by batch, of any sizes; computes ``retrieval_metrics`` of all.

    Args:
        similarity: as in ``retrieval_metrics``.
        device: where embeddings are kept, and metrics computed; None: where they come from.
        repeated_images: ``"skip"`` keeps the first image of every id, since caption data sets
            yield an image with each of its captions; ``"keep"`` keeps all, for several views.

    Example:
        >>> accumulator = RetrievalAccumulator()
        >>> for start in (0, 4):
        ...     ids = torch.arange(start, start + 4)
        ...     accumulator.update(torch.eye(8)[ids], torch.eye(8)[ids], ids)
        >>> accumulator.compute().rsum
        600.0
    """

    def __init__(
        self,
        similarity: Similarity | str = "cosine",
        *,
        device: torch.device | str | None = "cpu",
        repeated_images: str = "skip",
    ) -> None:
        check_choice("repeated_images", repeated_images, ("skip", "keep"))
        self.similarity, self.device = resolve_similarity(similarity), device
        self.repeated_images = repeated_images
        self.reset()

    def reset(self) -> None:
        """Forget everything collected."""
        self.images: list[tuple[Tensor, Tensor]] = []
        self.captions: list[tuple[Tensor, Tensor]] = []
        self.seen: set[int] = set()

    def update(
        self,
        images: Float[Tensor, "n d"],
        captions: Float[Tensor, "m d"],
        image_ids: Int[Tensor, "n"],
        caption_ids: Int[Tensor, "m"] | None = None,
    ) -> None:
        """Take in a batch; without ``caption_ids``, caption i belongs to image i of the batch.

        Raises:
            ValueError, TypeError: for embeddings or ids of the wrong shape or type, or one tensor as both.
        """
        belongs = image_ids if caption_ids is None else caption_ids
        check_side("image", images, image_ids)
        check_side("caption", captions, belongs)  # before anything is taken in
        check_two_sets("images", images, "captions", captions, "pass the embeddings of each")
        self.add_images(images, image_ids)
        self.add_captions(captions, belongs)

    def add_images(self, images: Float[Tensor, "n d"], image_ids: Int[Tensor, "n"]) -> None:
        """Take in images alone."""
        check_side("image", images, image_ids)
        if self.repeated_images == "skip":
            fresh = []
            for row, number in enumerate(image_ids.tolist()):
                if number not in self.seen:
                    self.seen.add(number)
                    fresh.append(row)
            images, image_ids = images[fresh], image_ids[fresh]
        self.images.append(self.held(images, image_ids))

    def add_captions(self, captions: Float[Tensor, "m d"], caption_ids: Int[Tensor, "m"]) -> None:
        """Take in captions alone, each with the id of its image."""
        check_side("caption", captions, caption_ids)
        self.captions.append(self.held(captions, caption_ids))

    def held(self, embeddings: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """A copy that the caller's buffers and graph cannot reach."""
        device = embeddings.device if self.device is None else torch.device(self.device)
        kept = torch.empty_like(embeddings, device=device)
        return kept.copy_(embeddings.detach()), ids.detach().to(device, torch.long, copy=True)

    def compute(
        self, *, across_ranks: bool = False, group: dist.ProcessGroup | None = None
    ) -> RetrievalMetrics:
        """The metrics of all that was collected; collecting may go on afterwards.

        Args:
            across_ranks: of what all ranks collected, the same on every rank, which may have collected nothing; all
                of them must call it. An image that several ranks have counts once, a caption as often as it
                is there: a sampler that repeats rows to even out the ranks must not.
            group: the process group; None for all processes.

        Raises:
            ValueError: if images or captions are missing, or their widths differ.
        """
        if not across_ranks and not (self.images and self.captions):
            missing = "captions" if self.images else "images"
            raise ValueError(f"no {missing} were collected: call update for every batch first")
        images, image_ids = self.joined("images", self.images)
        captions, caption_ids = self.joined("captions", self.captions)
        metric = over_ranks(retrieval_metrics, group=group) if across_ranks else retrieval_metrics
        found: RetrievalMetrics = metric(
            images, captions, image_ids, caption_ids, similarity=self.similarity
        )
        return found

    def joined(self, name: str, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """All batches of one side in one."""
        widths = sorted({embeddings.shape[1] for embeddings, _ in batches})
        if len(widths) > 1:
            raise ValueError(f"{name} came with widths {widths}: expected one width in every batch")
        if not batches:
            nothing = torch.empty(0, 0, device=self.device)
            return nothing, nothing.new_empty(0, dtype=torch.long)
        embeddings, ids = zip(*batches, strict=True)
        return torch.cat(embeddings), torch.cat(ids)


def check_side(kind: str, embeddings: Tensor, ids: Tensor) -> None:
    """Images or captions and their ids."""
    check_embeddings(f"{kind}s", embeddings)
    check_ids(f"{kind}_ids", ids, len(embeddings), embeddings.device)
