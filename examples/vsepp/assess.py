"""Measure a model from disk, ours or the authors', on a data set."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vsepp.authors import load_authors_checkpoint
from vsepp.checkpoints import Trained, load_model, load_weights
from vsepp.data import read_splits
from vsepp.evaluate import embed, protocols
from vsepp.images import feature_width
from vsepp.model import MatchingModel, build_model
from vsepp.picture_check import check_each
from vsepp.retrieval import record
from vsepp.settings import Data
from vsepp.splits import Split
from vsepp.vocabulary import Vocabulary


def load_any(path: Path, vocabulary: Path | None) -> Trained:
    """A model of ours, or a ``*.pth.tar`` together with its converted vocabulary."""
    if not path.name.endswith(".pth.tar"):
        return load_model(path)
    if vocabulary is None:
        raise ValueError(
            f"{path} holds no vocabulary: pass --vocabulary words.json, converted from the "
            "released *_vocab.pkl by the `vocabulary` command"
        )
    return replace(load_authors_checkpoint(path), vocabulary=Vocabulary.load(vocabulary))


def rebuild(trained: Trained, split: Split) -> MatchingModel:
    """The encoders with the trained weights in them."""
    assert trained.vocabulary is not None
    settings = replace(trained.settings.model, weights="none")
    model = build_model(settings, len(trained.vocabulary), feature_width(split.images))
    load_weights(model, trained)
    return model


def assess(
    trained: Trained, data: Data, root: Path | None, part: str, cpu: bool = False
) -> dict[str, Any]:
    """The retrieval results on a split, by protocol."""
    (split,) = check_each([getattr(read_splits(data, root), part)])
    assert trained.vocabulary is not None
    model = rebuild(trained, split).to(Accelerator(cpu=cpu).device)
    embedded = embed(model, split, trained.vocabulary)
    if embedded.skipped:
        print(f"{embedded.skipped:,} images were left out as corrupt", file=sys.stderr)
    results = protocols(embedded, trained.settings.loss.measure, data.dataset, part)
    found = {protocol: record(one) for protocol, one in results.items()}
    if data.dataset == "coco" and part == "test" and importlib.util.find_spec("eccv_caption"):
        from vsepp.eccv import extended_metrics

        found |= extended_metrics(embedded, split, trained.settings.loss.measure)
    return found
