"""The losses in open_clip's form: equal to its own, in one process and on two ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pair_models import Features, inputs
from torch import Tensor
from torch.nn.functional import normalize

from hardneg import AcrossRanks, Ceiling, ContrastiveLoss, InfoNCELoss, Learned, SigmoidLoss, TopK
from hardneg.integrations.open_clip import ClipLoss, SigLipLoss

theirs = pytest.importorskip("open_clip.loss", reason="what it is compared with: open_clip_torch")

F64 = {"rtol": 1e-10, "atol": 1e-12}


def step(loss: Any) -> list[Tensor]:
    """The value, and the gradients of every parameter."""
    model = Features()
    found = loss(**model(*inputs()), output_dict=True)
    assert list(found) == ["contrastive_loss"]
    value = found["contrastive_loss"]
    value.backward()
    return [value.detach(), *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("name", ["ClipLoss", "SigLipLoss"])
def test_equals_open_clip(name: str) -> None:
    ours = {"ClipLoss": ClipLoss, "SigLipLoss": SigLipLoss}[name]
    torch.testing.assert_close(step(ours()), step(getattr(theirs, name)()), **F64)


def test_takes_its_arguments_in_its_order() -> None:
    ClipLoss(True, True, True, 0, 1, False)
    SigLipLoss(True, 0, 1, "bidir")
    with pytest.raises(ValueError, match="use_horovod=True"):
        ClipLoss(use_horovod=True)
    with pytest.raises(ValueError, match="dist_impl"):
        SigLipLoss(dist_impl="ring")  # type: ignore[arg-type]


def test_a_loss_without_bias_and_plain_numbers() -> None:
    a, b = (normalize(torch.randn(6, 4)) for _ in "ab")
    torch.testing.assert_close(ClipLoss()(a, b, 10.0), theirs.ClipLoss()(a, b, 10.0))
    expected = theirs.SigLipLoss()(a, b, 10.0, -10.0)
    torch.testing.assert_close(SigLipLoss()(a, b, 10.0, -10.0), expected)


def test_other_negatives_and_ids() -> None:
    model, ids = Features(), torch.arange(12) // 2
    chosen = TopK(3, Ceiling(offset=-0.1))
    loss = ClipLoss(loss=InfoNCELoss(9.0, chosen, margin=0.1, directions="queries"))
    out = model(*inputs())
    expected = InfoNCELoss(1 / out["logit_scale"], chosen, margin=0.1, directions="queries")(
        out["image_features"], out["text_features"], query_ids=ids, candidate_ids=ids
    )
    torch.testing.assert_close(loss(**out, ids=ids), expected)
    assert not torch.allclose(loss(**out), expected)


def test_what_it_does_not_take() -> None:
    for loss in (ContrastiveLoss(), torch.nn.CrossEntropyLoss(), AcrossRanks(InfoNCELoss())):
        with pytest.raises(TypeError, match="expected a loss on pairs with a temperature"):
            ClipLoss(loss=loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beside the model's logit_scale"):
        SigLipLoss(loss=SigmoidLoss(Learned(0.1)))
