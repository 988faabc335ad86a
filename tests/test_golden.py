"""Losses and gradients of the VSE++ authors' released code, reproduced to 1e-10 in float64.

``golden/vsepp_losses.npz`` holds, for order and cosine scores, sum and max of hinges, two margins and
four sizes, the embeddings of both sides, the summed loss and its gradients.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hardneg import ContrastiveLoss, Dense, Tiled
from hardneg.functional import contrastive_loss

GOLDEN = np.load(Path(__file__).parent / "golden" / "vsepp_losses.npz")
CASES = sorted({key.rpartition("|")[0] for key in GOLDEN.files})
NEGATIVES = {"sum": "all", "max": "hardest"}
# The authors normalise before the loss, so their cosine is an inner product here.
SIMILARITY = {"cosine": "dot", "order": "order"}
BACKENDS = ["auto", Dense(), Tiled(), Tiled((5, 7))]


def golden(case: str, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(GOLDEN[f"{case}|{name}"]))


def assert_close(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float64
    error = (found - expected).abs().max().item()
    assert error <= 1e-10 * max(1.0, expected.abs().max().item()), f"{what} is off by {error:.3g}"


def test_the_golden_file_is_whole() -> None:
    assert len(CASES) == 28
    assert {case.split("|")[0] for case in CASES} == set(SIMILARITY)
    assert {case.split("|")[1] for case in CASES} == set(NEGATIVES)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients(case: str, backend: object) -> None:
    kind, hinges, margin, _ = case.split("|")
    images = golden(case, "a").requires_grad_()
    captions = golden(case, "b").requires_grad_()
    loss = ContrastiveLoss(
        margin=float(margin),
        negatives=NEGATIVES[hinges],
        similarity=SIMILARITY[kind],
        reduction="sum",
        backend=backend,
    )
    value = loss(images, captions)
    value.backward()
    assert_close(value.detach(), golden(case, "loss"), "the loss")
    assert_close(images.grad, golden(case, "ga"), "the images' gradient")
    assert_close(captions.grad, golden(case, "gb"), "the captions' gradient")


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("cosine")])
def test_cosine_of_normalised_embeddings_is_their_inner_product(case: str, backend: object) -> None:
    _, hinges, margin, _ = case.split("|")
    options = {"margin": float(margin), "negatives": NEGATIVES[hinges], "reduction": "sum"}
    value = contrastive_loss(
        golden(case, "a"), golden(case, "b"), similarity="cosine", backend=backend, **options
    )
    # Their rows have length 1 to about 1e-8 (an epsilon in the norm).
    assert value.item() == pytest.approx(golden(case, "loss").item(), rel=1e-6)
