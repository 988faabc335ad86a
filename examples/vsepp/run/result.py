"""What a finished run leaves in ``result.json``."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from hardneg.metrics import RetrievalMetrics
from vsepp.data.splits import Splits
from vsepp.data.vocabulary import Vocabulary
from vsepp.evaluate import Embedded
from vsepp.retrieval import record
from vsepp.run.memory import peak_memory_mib
from vsepp.run.progress import Progress


def result_record(
    found: Mapping[str, RetrievalMetrics],
    embedded: Embedded,
    progress: Progress,
    vocabulary: Vocabulary,
    splits: Splits,
) -> dict[str, Any]:
    """The test results by protocol, and how the run went. Epochs count from 1."""
    seconds = {row["epoch"]: row["seconds"] for row in progress.history}
    return {
        "results": {protocol: record(one) for protocol, one in found.items()},
        "best_epoch": progress.best_epoch,
        "dev_rsum": progress.best_rsum,
        "best_file": progress.best_file,
        "history": [
            {key: value for key, value in row.items() if key != "mined"} for row in progress.history
        ],
        "seconds_per_epoch": median(seconds.values()),
        "peak_memory_mib": peak_memory_mib(),
        "collapse_steps": progress.collapse_steps,
        "skipped_pairs": progress.skipped,
        "changes": progress.changes,
        "skipped_test_images": embedded.skipped,
        "tokenizer": vocabulary.tokenizer,
        "vocabulary_size": len(vocabulary),
        "torch": torch.__version__,
        "sizes": {
            name: [len(one.images), len(one.captions)]
            for name, one in (("dev", splits.dev), ("test", splits.test))
        },
    }
