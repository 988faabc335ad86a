"""Measure a split by all processes together: each embeds its share, the first one ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hardneg.metrics import RetrievalMetrics
from vsepp.data.splits import Split
from vsepp.data.vocabulary import Vocabulary
from vsepp.evaluate import Embedded, embed, protocols
from vsepp.model import MatchingModel
from vsepp.retrieval import from_record, record, retrieve
from vsepp.run.mined import mining_row
from vsepp.settings import Settings


class Measuring:
    """The same numbers in every process, and the same as those of one process."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: MatchingModel,
        vocabulary: Vocabulary,
        settings: Settings,
    ) -> None:
        self.accelerator, self.model, self.vocabulary = accelerator, model, vocabulary
        self.measure, self.dataset = settings.loss.measure, settings.data.dataset
        self.loss = settings.loss

    def embedded(self, split: Split) -> Embedded:
        """The whole split, in every process."""
        return embed(self.model, split, self.vocabulary, self.accelerator)

    def retrieval(self, embedded: Embedded) -> RetrievalMetrics:
        """Recalls and ranks on a split as one set."""
        images, captions, image_of = embedded.images, embedded.captions, embedded.image_of
        return from_record(
            self.of_the_first(lambda: record(retrieve(images, captions, image_of, self.measure)))
        )

    def mining(self, embedded: Embedded, keep: bool) -> dict[str, Any]:
        """What mining finds on a split, for a row of the history."""
        return self.of_the_first(lambda: mining_row(embedded, self.loss, keep))

    def protocols(self, embedded: Embedded) -> dict[str, RetrievalMetrics]:
        """The results by the protocols of the data set."""

        def found() -> dict[str, Any]:
            results = protocols(embedded, self.measure, self.dataset)
            return {protocol: record(one) for protocol, one in results.items()}

        return {name: from_record(one) for name, one in self.of_the_first(found).items()}

    def of_the_first(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, in every process."""
        made = [make() if self.accelerator.is_main_process else None]
        return broadcast_object_list(made)[0]
