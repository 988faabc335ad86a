"""No side effects."""

from __future__ import annotations

import torch
from every_loss import (
    Case,
    arguments,
    run,
    value_and_gradients,
)
from semantic_cases import (
    backends,
    every,
)


@backends
@every
def test_inputs_are_not_modified(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    if which.kind == "paired":
        groups = [torch.arange(7), torch.arange(9)]
    ignore = torch.zeros(7, 9 if which.kind == "paired" else 7, dtype=torch.bool)
    ignore[0, 3] = True
    leaves = [x.requires_grad_() for x in embeddings]
    given = [*leaves, *groups, ignore]
    before = [x.detach().clone() for x in given]
    versions = [x._version for x in given]
    options = {"backend": backend, "ignore_mask": ignore}
    value, _ = run(which, leaves, groups, return_stats=True, **options)
    value.backward()
    for x, old in zip(given, before, strict=True):
        torch.testing.assert_close(x.detach(), old, rtol=0, atol=0)
    assert [x._version for x in given] == versions


@backends
@every
def test_no_global_state(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = run(which, embeddings, groups, backend=backend)
    if not which.random:
        assert torch.equal(torch.get_rng_state(), before)
    run(which, [x * 2 + 1 for x in embeddings], groups, backend=backend)
    torch.manual_seed(11)
    second = run(which, embeddings, groups, backend=backend)
    assert torch.equal(first, second)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


@backends
@every
def test_evaluation_without_gradients(which: Case, backend: object) -> None:
    embeddings, groups = arguments(which)
    expected, _ = value_and_gradients(which, embeddings, groups, backend=backend)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.manual_seed(5)
            value = run(which, embeddings, groups, backend=backend)
            assert not value.requires_grad
            torch.testing.assert_close(value.clone(), expected)
            run(which, embeddings, groups, backend=backend, return_stats=True)
