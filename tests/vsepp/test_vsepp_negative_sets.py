"""Negatives from only some others of the batch; captions of the same image as negatives, or not."""

from dataclasses import replace

import pytest
import torch

from vsepp.errors import InputError
from vsepp.negatives import outside_sets
from vsepp.objective import build_objective, negatives_by_step
from vsepp.recipes import recipe_named
from vsepp.run.watch import CollapseWatch
from vsepp.settings import Loss


@pytest.mark.parametrize("pairs", [1, 2, 7, 12])
@pytest.mark.parametrize("others", [1, 2, 3, 6, 11, 50])
def test_every_pair_has_so_many_others(pairs: int, others: int) -> None:
    torch.manual_seed(pairs)
    inside = ~outside_sets(pairs, others, torch.device("cpu"))
    assert inside.diagonal().all()
    expected = torch.full((pairs,), min(others, pairs - 1) + 1)
    assert torch.equal(inside.sum(0), expected)
    assert torch.equal(inside.sum(1), expected)
    if others % 2 == 0 or pairs % 2 == 0:
        assert torch.equal(inside, inside.T)


def test_sets_are_drawn_afresh() -> None:
    """Over many steps every other pair is in a set equally often."""
    torch.manual_seed(0)
    drawn = [~outside_sets(9, 2, torch.device("cpu")) for _ in range(800)]
    share = torch.stack(drawn).double().mean(0)
    expected = torch.full((9, 9), 2 / 8).fill_diagonal_(1).double()
    torch.testing.assert_close(share, expected, atol=0.08, rtol=0)


def of_sets(x: torch.Tensor, y: torch.Tensor, sets: torch.Tensor, settings: Loss) -> torch.Tensor:
    """The loss pair by pair: each against its own set."""
    scores, total = x @ y.T, 0
    for s, members in ((scores, sets), (scores.T, sets.T)):
        for i in range(len(x)):
            j = members[i].clone()
            j[i] = False
            if settings.loss == "infonce":
                logits = torch.cat([s[i, i : i + 1], s[i, j]]) / settings.temperature
                total = total - logits.log_softmax(0)[0] / (2 * len(x))
            else:
                hinges = (settings.margin - s[i, i] + s[i, j]).clamp(min=0)
                total = total + (hinges.amax() if settings.negatives == "hardest" else hinges.sum())
    return total


@pytest.mark.parametrize(
    "settings",
    [
        Loss("all", negatives_from=3),
        Loss("hardest", negatives_from=4),
        Loss("hardest", negatives_from=1, strict_parity=True),
        Loss("all", loss="infonce", temperature=0.3, negatives_from=5),
    ],
    ids=str,
)
def test_the_loss_hears_the_sets_alone(settings: Loss) -> None:
    torch.manual_seed(1)
    x, y = (torch.nn.functional.normalize(torch.randn(11, 6)).requires_grad_() for _ in range(2))
    objective = build_objective(settings, 6, 1)
    torch.manual_seed(5)
    found = objective(x, y, torch.arange(11), negatives_by_step(settings, 10)(0))
    torch.manual_seed(5)
    sets = ~outside_sets(11, settings.negatives_from, torch.device("cpu"))
    expected = of_sets(x, y, sets, settings)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        *(torch.autograd.grad(z, (x, y)) for z in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_where_the_plateau_of_a_set_is() -> None:
    watch = CollapseWatch(Loss("all", negatives_from=5), window=1)
    assert watch.see(2 * 0.2 * 32 * 5, 32, False)
    assert CollapseWatch(Loss("all", negatives_from=5), window=1).see(2 * 0.2 * 4 * 3, 4, False)


@pytest.mark.parametrize(
    "beside", [{"queue": 64}, {"across_ranks": True}, {"soft_targets": 0.5}], ids=str
)
def test_what_a_set_does_not_go_with(beside: dict) -> None:
    with pytest.raises(InputError, match="--negatives-from 3 does not go with --"):
        Loss("all", negatives_from=3, **beside)


def test_captions_of_one_image_with_the_strong_recipe() -> None:
    """In batches of captions in any order too, they are negatives only under strict parity."""
    settings = recipe_named("flickr8k-strong").settings.loss
    torch.manual_seed(2)
    x, y = torch.nn.functional.normalize(torch.randn(2, 8, 5), dim=2).unbind()
    ids = torch.tensor([0, 1, 2, 0, 3, 1, 4, 0])
    logits = x @ y.T / settings.temperature
    same = (ids[None] == ids[:, None]) & ~torch.eye(8, dtype=torch.bool)
    for strict in (True, False):
        chosen = replace(settings, strict_parity=strict)
        found = build_objective(chosen, 5, 1)(x, y, ids, negatives_by_step(chosen, 1)(0))
        heard = logits if strict else logits.masked_fill(same, -torch.inf)
        both = heard.log_softmax(1).diagonal().mean() + heard.log_softmax(0).diagonal().mean()
        torch.testing.assert_close(found, -both / 2)
