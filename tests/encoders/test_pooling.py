"""Every pool against its definition, row by row; padding must never matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.encoders import GeneralizedPool, LastPool, MaxPool, MeanPool, pooling_named

DEFINITIONS = {
    "mean": lambda row: row.mean(0),
    "max": lambda row: row.amax(0),
    "last": lambda row: row[-1],
}


def ragged(seed: int, n: int, steps: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (n,), generator=generator)
    lengths[0] = steps
    return torch.randn(n, steps, width, generator=generator), lengths


@pytest.mark.parametrize("name", DEFINITIONS)
@given(seed=st.integers(0, 1000), n=st.integers(1, 5), steps=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_pool_is_its_definition(name: str, seed: int, n: int, steps: int) -> None:
    states, lengths = ragged(seed, n, steps, 3)
    pooled = pooling_named(name)(states, lengths)
    rows = [DEFINITIONS[name](states[i, : lengths[i]]) for i in range(n)]
    torch.testing.assert_close(pooled, torch.stack(rows))


@pytest.mark.parametrize("pool", [MeanPool(), MaxPool(), LastPool(), GeneralizedPool()])
@pytest.mark.parametrize("filler", [1e6, -1e6, float("nan")])
def test_padding_never_matters(pool: torch.nn.Module, filler: float) -> None:
    states, lengths = ragged(1, 4, 6, 5)
    padding = torch.arange(6) >= lengths.unsqueeze(1)
    spoiled = states.masked_fill(padding.unsqueeze(2), filler)
    torch.testing.assert_close(pool(spoiled, lengths), pool(states, lengths))


def test_generalized_pool_weights_are_a_distribution_over_valid_ranks() -> None:
    torch.manual_seed(0)
    pool = GeneralizedPool()
    states, lengths = ragged(2, 5, 7, 4)
    weights = pool.weights(lengths, states).squeeze(2)
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    assert (weights[torch.arange(7) >= lengths.unsqueeze(1)] == 0).all()
    assert (weights[torch.arange(7) < lengths.unsqueeze(1)] > 0).all()


def test_generalized_pool_is_the_weighted_sorted_sum_and_ignores_order() -> None:
    torch.manual_seed(0)
    pool = GeneralizedPool()
    states, lengths = ragged(3, 3, 5, 4)
    weights = pool.weights(lengths, states)
    for i, length in enumerate(lengths):
        row = states[i, :length].sort(0, descending=True).values
        expected = (weights[i, :length] * row).sum(0)
        shuffled = states[i : i + 1, :length][:, torch.randperm(int(length))]
        torch.testing.assert_close(pool(states, lengths)[i], expected)
        torch.testing.assert_close(pool(shuffled, lengths[i : i + 1])[0], expected)


def test_generalized_pool_passes_gradients_to_states_and_weights() -> None:
    pool = GeneralizedPool()
    states, lengths = ragged(4, 3, 5, 4)
    states.requires_grad_()
    pool(states, lengths).square().sum().backward()
    assert torch.isfinite(states.grad).all()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in pool.parameters())


def test_unknown_pool_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown pooling 'avg'.*mean, max, last, gpo"):
        pooling_named("avg")


def test_odd_code_width_is_refused() -> None:
    with pytest.raises(ValueError, match="code_dim is 5"):
        GeneralizedPool(code_dim=5)
