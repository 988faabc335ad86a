"""What can be refused as soon as the data are read: before pictures are decoded, words are counted, or a
network is made and its weights are fetched.
"""

from __future__ import annotations

from vsepp.data.batches import check_sizes
from vsepp.data.images import Features
from vsepp.data.splits import Splits
from vsepp.data.word_vectors import read_more_text
from vsepp.negatives import strategy_of
from vsepp.settings import Options, Settings


def check_run(splits: Splits, settings: Settings, options: Options) -> None:
    """Refuse settings that do not fit the data or each other."""
    check_sizes(len(splits.train.captions), settings.schedule)
    strategy_of(settings.loss)
    read_more_text(settings.data.more_text)
    if isinstance(splits.train.images, Features):
        if options.compile:
            raise ValueError(
                "--compile is for the image network, and precomputed features have none"
            )
    elif settings.loss.own_negatives:
        raise ValueError("--own-negatives are of precomputed features: see the features command")
    elif settings.model.members > 1:
        raise ValueError(
            f"--members is {settings.model.members}: expected precomputed features, not pictures"
        )
