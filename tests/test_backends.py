"""Which backend a backend's name stands for, and why the fused kernels cannot run where they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_loss import ONE_OF_EACH, Case, numbers, squashed

import hardneg
from hardneg import Cosine, Tiled
from hardneg.functional import contrastive_loss
from hardneg.ops import backends
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused, FusedScores
from hardneg.ops.scores import Backend
from hardneg.ops.small.backend import SmallScores
from hardneg.ops.tiled_backend import TiledScores
from hardneg.ops.triton import support

X, Y = numbers(4, 3, 0), numbers(4, 3, 1)
IDS = torch.tensor([0, 0, 1, 1])


def refusal(call: Callable[[], Any]) -> str:
    """The message of a backend that cannot run."""
    with pytest.raises(ValueError, match='"triton" is not available') as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("which", ONE_OF_EACH, ids=lambda which: which.name)
def test_kernels_that_cannot_run_here(which: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = X.float(), Y.float()
    given = (x, y) if which.kind == "paired" else (x, None, IDS)
    monkeypatch.setattr(support, "HAS_TRITON", True)
    message = refusal(lambda: which(*given, backend="triton"))
    assert "embeddings are on cpu" in message
    assert "CUDA devices" in message
    assert '"tiled"' in message
    monkeypatch.setattr(support, "HAS_TRITON", False)
    message = refusal(lambda: which(*given, backend="triton"))
    assert "Triton is not installed" in message
    assert '"tiled"' in message


def test_kernels_for_other_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "HAS_TRITON", True)
    message = refusal(lambda: contrastive_loss(X.double(), Y.double(), backend="triton"))
    assert "torch.float64" in message
    assert "float32, float16 and bfloat16" in message
    own = {"similarity": squashed, "backend": "triton"}
    message = refusal(lambda: contrastive_loss(X, Y, **own))
    assert "no kernel for the callable similarity" in message
    assert "squashed" in message
    message = refusal(lambda: hardneg.ContrastiveLoss(**own))
    assert "no kernel for the callable similarity" in message
    assert "squashed" in message


def test_modules_say_early_that_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "HAS_TRITON", False)
    message = refusal(lambda: hardneg.ContrastiveLoss(backend="triton"))
    assert "Triton is not installed" in message


class Elsewhere:
    """What the rule asks of embeddings on another device than this machine has."""

    is_cuda, device, dtype, requires_grad = True, torch.device("cuda", 0), torch.float16, False

    def __init__(self, rows: int = 2000) -> None:
        self.shape = (rows, 64)

    def detach(self) -> Elsewhere:
        return self


def chosen(backend: str, comparison: Comparison) -> Backend:
    """The backend whose scores these are."""
    scores = backends.bind(backend, comparison)
    if isinstance(scores, FusedScores):
        assert scores.engine.fused
        return Fused(scores.engine.tile_size, scores.or_tiled)
    assert type(scores) is TiledScores
    assert not scores.engine.fused
    return Tiled(scores.engine.tile_size)


@pytest.mark.parametrize(
    ("found", "reason"), [((7, 5), "compute capability 7.5"), ((8, 0), None), ((9, 0), None)]
)
def test_the_rule_on_gpus(
    found: tuple[int, int], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed to decide: only its capability is asked for."""
    monkeypatch.setattr(support, "HAS_TRITON", True)
    monkeypatch.setattr(support, "capability", lambda device: found)
    comparison: Any = Comparison(Elsewhere(), Elsewhere(), Cosine(), Relation())
    expected = Fused(or_tiled=True) if reason is None else Tiled()
    assert chosen("auto", comparison) == expected
    assert chosen("tiled", comparison) == Tiled()
    small: Any = Comparison(Elsewhere(1000), Elsewhere(1000), Cosine(), Relation())
    assert isinstance(backends.bind("auto", small), SmallScores)
    if reason is None:
        assert chosen("triton", comparison) == Fused()
        assert chosen("triton", small) == Fused()
    else:
        message = refusal(lambda: backends.bind("triton", comparison))
        assert reason in message
        assert "8.0 or later" in message


def test_auto_on_a_cpu_is_tiled() -> None:
    x = torch.zeros(300, 2)
    comparison = Comparison(x, x, Cosine(), Relation())
    assert chosen("auto", comparison) == Tiled()
