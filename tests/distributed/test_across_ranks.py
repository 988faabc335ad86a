"""AcrossRanks equals one process on the concatenated batch: every loss, value and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from every_loss import EVERY, Case
from process_groups import ProcessGroups
from shards import MODULES, assert_global, labelled_batch, paired_batch

WORLDS = (1, 2, 3, 4)
SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")


def module(case: Case, **options: Any) -> torch.nn.Module:
    return MODULES[case.name](**{**dict(case.options), **options})


def batch_of(case: Case, size: int, **options: Any) -> Any:
    if case.kind == "paired":
        return paired_batch(size, extra=case.name != "sigmoid", ids=True)
    return labelled_batch(size)


def needs_whole_rows(case: Case) -> bool:
    options = dict(case.options)
    return options.get("positives") == "all" and options["negatives"] in ("all", "semihard")


def every_case(rank: int, size: int, ring: bool) -> None:
    for case in EVERY:
        if ring and needs_whole_rows(case):
            continue
        try:
            assert_global(rank, size, module(case), batch_of(case, size), ring)
        except Exception as error:
            error.add_note(str(case))
            raise


@pytest.mark.parametrize("size", WORLDS)
def test_every_loss(groups: ProcessGroups, size: int) -> None:
    groups(size)(every_case, False)


@pytest.mark.parametrize("size", WORLDS)
def test_every_loss_in_a_ring(groups: ProcessGroups, size: int) -> None:
    groups(size)(every_case, True)
