"""How many operations a small batch takes on a GPU, whose number bounds its time; counted on fake tensors.

Kernels are not launched: their launches are counted as operations, and torch's other ones beside them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_host_syncs import Watched, backward
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import formulas
from hardneg import (
    ContrastiveLoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    NTXentLoss,
    PairwiseContrastiveLoss,
    SigmoidLoss,
    SupConLoss,
    TopK,
    TripletLoss,
)
from hardneg.ops.backends import for_whole_losses
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.loss_requests import PairedLoss
from hardneg.ops.small import by_kernels
from hardneg.ops.small.backend import Small
from hardneg.penalties import Hinge
from hardneg.similarities import Cosine

VIEWS = (
    *("alias", "as_strided", "detach", "diagonal", "expand", "permute", "select", "slice", "split"),
    *("t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view"),
    *("empty", "empty_like", "new_empty", "empty_strided"),
)
"""Operations that run nothing on the device."""


class Counted(Watched):
    """The operations that run something, those inside the package's operators too."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        self.count += func.namespace == "aten" and name not in VIEWS
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.fixture(autouse=True, params=[False])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether kernels run, whatever machine this is."""
    monkeypatch.setattr(by_kernels, "runs_kernels", lambda device: request.param)
    monkeypatch.setattr("hardneg.ops.triton.support.capability", lambda device: (9, 0))


def operations(
    step: Callable[..., Tensor],
    n: int,
    labelled: bool = False,
    dtype: torch.dtype = torch.float32,
) -> int:
    """How many operations a forward and a backward pass take."""
    formulas.own.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        told = {"device": "cuda", "dtype": dtype, "requires_grad": True}
        x, y = (torch.empty(n, 512, **told) for _ in range(2))
        given = x, torch.empty(n, dtype=torch.long, device="cuda") if labelled else y
        if step in PLAIN:  # the mask, which they keep between calls
            formulas.own(n, x.device)
        with Counted() as counted:
            backward(step(*given))
    formulas.own.cache_clear()
    return counted.count


PLAIN = (
    *(formulas.hardest, formulas.every, formulas.info_nce, formulas.sigmoid),
    *(formulas.sup_con, formulas.nt_xent, formulas.multi_similarity),
)
LABELLED = ("SupCon", "NT-Xent", "multi-similarity")
CASES = {
    "hardest": (ContrastiveLoss(), formulas.hardest, 53),
    "all": (ContrastiveLoss(negatives="all"), formulas.every, 57),
    "InfoNCE": (InfoNCELoss(), formulas.info_nce, 53),
    "SigLIP": (SigmoidLoss(), formulas.sigmoid, 53),
    "SupCon": (SupConLoss(), formulas.sup_con, 56),
    "NT-Xent": (NTXentLoss(), formulas.nt_xent, 57),
    "multi-similarity": (MultiSimilarityLoss(), formulas.multi_similarity, 69),
}


@pytest.mark.parametrize("n", [128, 1024])
@pytest.mark.parametrize("case", CASES)
def test_no_more_operations_than_counted(case: str, n: int) -> None:
    ours, _, most = CASES[case]
    assert operations(ours, n, case in LABELLED) <= most


@pytest.mark.parametrize("case", CASES)
def test_fewer_operations_than_the_plain_formula(case: str) -> None:
    ours, plain, _ = CASES[case]
    labelled = case in LABELLED
    assert operations(ours, 128, labelled) < operations(plain, 128, labelled)


ON_A_CPU = {
    "8 hardest": (ContrastiveLoss(negatives=TopK(8)), False, 42),
    "InfoNCE": (InfoNCELoss(), False, 42),
    "SigLIP": (SigmoidLoss(), False, 34),
    "semi-hard triplets": (TripletLoss(), True, 69),
    "batch-hard triplets": (TripletLoss(positives="hardest", negatives="hardest"), True, 47),
    "pairwise": (PairwiseContrastiveLoss(), True, 43),
}


@pytest.mark.parametrize("case", ON_A_CPU)
def test_few_operations_on_a_cpu(case: str) -> None:
    """What bounds the time of 32 rows, which read numbers where a GPU must not."""
    loss, labelled, most = ON_A_CPU[case]
    made = torch.Generator().manual_seed(0)
    x, y = (torch.randn(32, 16, generator=made).requires_grad_() for _ in range(2))
    with Counted() as counted:
        backward(loss(x, torch.arange(32) // 4 if labelled else y))
    assert counted.count <= most


BY_KERNELS = {
    "hardest": (ContrastiveLoss(), 6),
    "hardest, ids": (lambda x, y: ContrastiveLoss()(x, y, **ids(x)), 6 + 3),
    "hardest, one direction": (ContrastiveLoss(directions="queries"), 6),
    "semi-hard": (ContrastiveLoss(negatives="semihard"), 6),
    "all": (ContrastiveLoss(negatives="all", reduction="mean_active"), 8),
    "InfoNCE": (InfoNCELoss(), 8),
    "InfoNCE, dot": (InfoNCELoss(similarity="dot"), 8),
}


def ids(x: Tensor) -> dict[str, Tensor]:
    """Ids without values."""
    return {name: torch.empty(len(x), dtype=torch.long, device=x.device) for name in IDS}


IDS = ("query_ids", "candidate_ids")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("kernels", [True], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n", [128, 1024, 4096])
@pytest.mark.parametrize("case", BY_KERNELS)
def test_few_launches(case: str, n: int, dtype: torch.dtype) -> None:
    """Launches and torch's operations together, where nothing waits for the device (``Watched``).

    One of the operations makes the upstream gradient.
    """
    from hardneg.ops.triton.ahead_of_time import Recorder, compiling_for

    class Launches(Recorder):
        """Counts launches, and compiles nothing."""

        count = 0

        def compile(self, *given: Any) -> None:
            self.count += 1

    loss, most = BY_KERNELS[case]
    with compiling_for(90, Launches) as launches:
        found = operations(loss, n, dtype=dtype)
    assert launches.count >= 4
    assert found + launches.count == 1 + most


@pytest.mark.parametrize("kernels", [True], indirect=True)
@pytest.mark.parametrize(
    ("n", "width", "whole"),
    [(4096, 4, True), (4097, 4, False), (4096, 3072, True), (4096, 3073, False)],
)
def test_how_large_a_batch_of_kernels_is(n: int, width: int, whole: bool) -> None:
    with FakeTensorMode():
        x, y = (torch.empty(n, width, device="cuda") for _ in range(2))
        scores = for_whole_losses("auto", Comparison(x, y, Cosine(), Relation(paired=True)))
        assert (scores is not None) == whole
        if scores is not None:
            assert scores.knows == Small(kernels=True, others=False)
            told = {"reduction": "mean", "queries": True, "candidates": True}
            request = PairedLoss(margin=0.2, negatives=TopK(3), penalty=Hinge(), **told)
            assert scores.loss(request) is None


@pytest.mark.parametrize(("n", "whole"), [(1024, True), (1025, False)])
def test_how_large_a_batch_without_kernels_is(n: int, whole: bool) -> None:
    with FakeTensorMode():
        x, y = (torch.empty(n, 4, device="cuda") for _ in range(2))
        scores = for_whole_losses("auto", Comparison(x, y, Cosine(), Relation(paired=True)))
        assert (scores is not None) == whole
        assert scores is None or scores.knows == Small()
