"""How many operations a small batch takes on a GPU, whose number bounds its time; counted on fake tensors."""

from __future__ import annotations

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
    SigmoidLoss,
    SupConLoss,
)

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


def operations(step: Callable[..., Tensor], n: int, labelled: bool = False) -> int:
    """How many operations a forward and a backward pass take."""
    formulas.own.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, y = (torch.empty(n, 512, device="cuda", requires_grad=True) for _ in range(2))
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
