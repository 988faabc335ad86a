"""Mistakes seen in other libraries, each as one short test that ours does not make it."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from every_loss import BACKEND_IDS, BACKENDS, FIXED, Case, arguments, numbers, run
from torch import Tensor

import hardneg
from hardneg import Tiled, TopK
from hardneg.functional import (
    contrastive_loss,
    info_nce_loss,
    nt_xent_loss,
    pairwise_contrastive_loss,
    sigmoid_loss,
    sup_con_loss,
    triplet_loss,
    unified_pair_loss,
)

backends = pytest.mark.parametrize("backend", BACKENDS, ids=BACKEND_IDS)
fixed = pytest.mark.parametrize("which", FIXED, ids=str)


@backends
@pytest.mark.parametrize("similarity", ["euclidean", "order"])
@fixed
def test_the_root_of_0_has_a_finite_gradient(which: Case, similarity: str, backend: object) -> None:
    """Equal points: the square root's own gradient there is infinite, and times 0 it is NaN."""
    if not which.takes(similarity):
        similarity = which.similarity
    embeddings, groups = arguments(which)
    embeddings[-1][1] = embeddings[0][0]
    embeddings[0][2] = embeddings[0][0]
    leaves = [x.requires_grad_() for x in embeddings]
    run(which, leaves, groups, similarity=similarity, backend=backend).backward()
    for x in leaves:
        assert x.grad.isfinite().all()


@backends
def test_the_same_labels_object_is_not_the_same_set(backend: object) -> None:
    """Row i of embeddings and reference are compared, whether their labels are one object or a copy."""
    x, y, labels = numbers(8, 4, 0), numbers(8, 4, 1), torch.arange(8)
    options = {"margin": 2.0, "backend": backend}
    found = triplet_loss(x, labels, y, labels, **options)
    copied = triplet_loss(x, labels, y, labels.clone(), **options)
    assert found > 0.1
    assert torch.equal(found, copied)
    assert triplet_loss(x, labels, x.clone(), labels, **options) > 0.1
    with pytest.raises(ValueError, match=r"same tensor.*same_set=True.*\.clone\(\)"):
        triplet_loss(x, labels, x, labels, **options)
    with pytest.raises(ValueError, match="same tensor"):
        triplet_loss(x, labels, x.detach(), labels.clone(), **options)
    assert triplet_loss(x, labels, x, labels, same_set=True, **options) == 0


@pytest.mark.parametrize("wrong", ["hardset", "Hardests", "semi hard", "", "all "])
def test_a_mistyped_strategy_is_not_taken_for_all(wrong: str) -> None:
    x, labels = numbers(8, 4, 0), torch.arange(8) // 2
    with pytest.raises(ValueError, match="unknown negatives"):
        triplet_loss(x, labels, negatives=wrong)
    with pytest.raises(ValueError, match="unknown positives"):
        triplet_loss(x, labels, positives=wrong)


@backends
@fixed
def test_an_empty_row_gives_no_nan(which: Case, backend: object) -> None:
    """A masked maximum over nothing is -inf, and the softmax of that NaN."""
    embeddings, groups = arguments(which)
    ignore = torch.zeros(7, 9 if which.kind == "paired" else 7, dtype=torch.bool)
    ignore[3] = True
    ignore[:, 4] = True
    leaves = [x.requires_grad_() for x in embeddings]
    value = run(which, leaves, groups, ignore_mask=ignore, backend=backend)
    value.backward()
    assert value.isfinite()
    for x in leaves:
        assert x.grad.isfinite().all()


@backends
@pytest.mark.parametrize("temperature", [0.01, 0.001])
def test_the_gradient_does_not_vanish_at_low_temperature(
    temperature: float, backend: object
) -> None:
    """``log(p + tiny)`` is flat where p underflows: on the very examples that are wrong."""
    # The positive is opposite to its anchor, the negatives on top of it: p = exp(-2 / T) underflows.
    x = F.normalize(torch.tensor([[1.0, 0.1], [-1.0, 0.1], [1.0, 0.0], [1.0, 0.2]]))
    labels = torch.tensor([0, 0, 1, 1])
    pairs = x[:2], x[[1, 2]]
    options = {"temperature": temperature, "backend": backend}
    for loss, given in (
        (nt_xent_loss, (x, labels)),
        (sup_con_loss, (x, labels)),
        (info_nce_loss, pairs),
    ):
        leaf = given[0].clone().requires_grad_()
        value = loss(leaf, *given[1:], **options)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value > 0.3 / temperature
        assert gradient.isfinite().all()
        assert gradient[0].abs().max() > 0.05 / temperature


@backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@fixed
def test_filling_and_scaling_do_not_overflow_in_half_precision(
    which: Case, dtype: torch.dtype, backend: object
) -> None:
    """-1e9 does not fit in float16, and its least value over a temperature is -inf."""
    embeddings, _ = arguments(which, dtype=dtype)
    groups = [torch.tensor([0, 0, 1, 2, 3, 4, 4])]
    if which.kind == "paired":
        groups.append(torch.tensor([0, 0, 1, 2, 3, 4, 4, 7, 8]))
    parameters = inspect.signature(which.about.module).parameters
    options = {"temperature": 1e-3} if "temperature" in parameters else {}
    leaves = [x.requires_grad_() for x in embeddings]
    value = run(which, leaves, groups, backend=backend, **options)
    value.backward()
    assert value.isfinite()
    for x in leaves:
        assert x.grad.isfinite().all()


@backends
@fixed
def test_nothing_is_masked_in_place(which: Case, backend: object) -> None:
    """Scores of a similarity of one's own, which may keep them for its backward, are left alone."""
    kept = []

    def similarity(queries: Tensor, candidates: Tensor) -> Tensor:
        scores = (queries @ candidates.T).tanh()
        kept.append((scores, scores.detach().clone()))
        return scores

    if not which.takes(similarity):
        return
    embeddings, groups = arguments(which)
    leaves = [(x * 0.3).requires_grad_() for x in embeddings]
    run(which, leaves, groups, similarity=similarity, backend=backend).backward()
    assert kept
    for scores, copy in kept:
        assert torch.equal(scores, copy)
        assert scores._version == 0


# Memory

N, M, D = 300, 400, 8
LABELS = torch.arange(N) // 3
WITHOUT_THE_MATRIX: list[tuple[str, Any, dict[str, Any]]] = [
    ("contrastive, hardest", contrastive_loss, {"negatives": "hardest"}),
    ("contrastive, all", contrastive_loss, {"negatives": "all"}),
    ("contrastive, all, one by one", contrastive_loss, {"negatives": "all", "reduction": "none"}),
    ("contrastive, top 4", contrastive_loss, {"negatives": TopK(4)}),
    ("info_nce", info_nce_loss, {}),
    ("unified", unified_pair_loss, {}),
    ("sigmoid", sigmoid_loss, {}),
    ("batch-all", triplet_loss, {"positives": "all", "negatives": "all"}),
    ("batch-hard", triplet_loss, {"positives": "hardest", "negatives": "hardest"}),
    ("nt_xent", nt_xent_loss, {}),
    ("sup_con", sup_con_loss, {}),
    ("pairwise", pairwise_contrastive_loss, {}),
]


@pytest.mark.parametrize("backend", ["auto", "tiled", Tiled((64, 64))], ids=str)
@pytest.mark.parametrize(
    ("loss", "options"), [w[1:] for w in WITHOUT_THE_MATRIX], ids=[w[0] for w in WITHOUT_THE_MATRIX]
)
def test_no_matrix_is_saved_for_backward(loss: Any, options: Any, backend: object) -> None:
    """Working in chunks without recomputing them keeps the whole matrix until backward all the same."""
    x, y = numbers(N, D, 0).requires_grad_(), numbers(M, D, 1).requires_grad_()
    saved = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    first_parameter = next(iter(inspect.signature(loss).parameters))
    given = (x, y) if first_parameter == "queries" else (x, LABELS)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(*given, backend=backend, **options)
        value = sum(v.sum() for v in value) if isinstance(value, tuple) else value
        value.backward()
    assert saved
    assert max(saved) <= 4 * (N + M) * D
    assert x.grad.isfinite().all()


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest number of elements that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = function(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else (found,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return found


@backends
@pytest.mark.parametrize("loss", [nt_xent_loss, triplet_loss, sup_con_loss])
def test_many_positives_never_cost_the_cube(loss: Any, backend: object) -> None:
    """Every (anchor, positive, negative) in one tensor would be 96 * 47 * 48 numbers here."""
    n = 96
    x, labels = numbers(n, 8, 0).requires_grad_(), torch.arange(n) % 2
    options = {"negatives": "all"} if loss is triplet_loss else {}
    with Largest() as seen:
        loss(x, labels, backend=backend, **options).backward()
    assert 0 < seen.elements <= n * n * 8
    assert x.grad.isfinite().all()


def test_many_positives_never_cost_the_cube_in_tiles() -> None:
    """Operators hide what they allocate: here 1024 rows of 2 labels, where the cube is 1 GB and more."""
    pytest.importorskip("resource", reason="the peak of memory is read by way of resource")
    program = """
import resource, torch
from hardneg.functional import nt_xent_loss, sup_con_loss, triplet_loss
def losses(n):
    x, labels = torch.randn(n, 16, requires_grad=True), torch.arange(n) % 2
    value = nt_xent_loss(x, labels) + sup_con_loss(x, labels)
    (value + triplet_loss(x, labels, positives="all", negatives="all")).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = losses(64)
print(losses(1024) - small)
"""
    command = [sys.executable, "-c", program]
    options = {"capture_output": True, "text": True, "check": True, "timeout": 100}
    directory = str(Path(hardneg.__file__).parent.parent)
    grown = int(subprocess.run(command, cwd=directory, **options).stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 256 * 2**20


@backends
def test_a_sum_over_many_positives_is_right(backend: object) -> None:
    """... and equals the formula that does cost it."""
    x, labels = numbers(24, 4, 0, torch.float64), torch.arange(24) % 3
    s = F.normalize(x) @ F.normalize(x).T / 0.5
    kin = labels[:, None] == labels[None]
    negative = s.masked_fill(kin, -math.inf).logsumexp(1)
    terms = F.softplus(negative[:, None] - s)
    expected = terms[kin & ~torch.eye(24, dtype=torch.bool)].mean()
    found = nt_xent_loss(x, labels, temperature=0.5, backend=backend)
    torch.testing.assert_close(found, expected)


@backends
def test_the_factor_of_a_loss_scaler_is_beyond_float16(backend: object) -> None:
    """torch.amp.GradScaler begins with 65,536; float16 ends below it, the scaled gradient may not."""
    q, c = (x.half().requires_grad_() for x in (numbers(40, 64, 0), numbers(40, 64, 1)))
    value = contrastive_loss(q, c, negatives="all", reduction="mean", backend=backend)
    (plain,) = torch.autograd.grad(value, q, retain_graph=True)
    (scaled,) = torch.autograd.grad(65536 * value, q)
    assert 1e-3 < plain.abs().amax() < 0.9
    torch.testing.assert_close(scaled.float() / 65536, plain.float(), rtol=1e-3, atol=1e-6)


@backends
@pytest.mark.parametrize("loss", [contrastive_loss, triplet_loss])
def test_a_loss_scaler_saves_what_float16_would_round_away(loss: Any, backend: object) -> None:
    """Gradients of 1e-6 have five bits in float16; times 65,536 they have all eleven."""
    q = numbers(40, 64, 0).half()
    c = (1e-6 * numbers(40, 64, 1)).half()
    groups = [torch.arange(40) // 8] if loss is triplet_loss else []
    options = {"negatives": "all", "similarity": "dot", "reduction": "mean", "backend": backend}

    def gradient(x: Tensor, factor: float) -> Tensor:
        x = x.detach().requires_grad_()
        inputs = (x, *groups, c.to(x.dtype), *groups)
        return torch.autograd.grad(factor * loss(*inputs, **options), x)[0].float() / factor

    right = gradient(q.float(), 1.0)
    assert right.abs().amax() < 1e-5
    error = (gradient(q, 65536.0) - right).abs().amax() / right.abs().amax()
    assert error < 1e-3
