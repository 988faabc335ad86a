"""The watch over the plateau at 2 x batch x margin."""

import pytest

from vsepp.objective import negatives_by_step
from vsepp.run.watch import CollapseWatch
from vsepp.settings import Loss


def test_a_plateau_is_told_once_after_a_whole_window() -> None:
    watch = CollapseWatch(Loss("hardest", margin=0.2), window=5)
    plateau = 2 * 128 * 0.2
    told = [watch.see(plateau * (1 + 0.01 * (-1) ** step), 128, False) for step in range(20)]
    assert told == [step == 4 for step in range(20)]


def test_leaving_the_plateau_starts_the_count_anew() -> None:
    watch = CollapseWatch(Loss("hardest", margin=0.2), window=3)
    plateau = 2 * 64 * 0.2
    losses = [plateau, plateau, 0.9 * plateau, plateau, plateau, plateau]
    assert [watch.see(loss, 64, False) for loss in losses] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("negatives", "warming_up", "terms"),
    [
        ("hardest", False, 1),
        ("selective", False, 1),
        ("all", False, 31),
        ("hardest", True, 31),
        ("top8", False, 8),
    ],
)
def test_the_plateau_counts_the_hinges_that_the_loss_adds(negatives, warming_up, terms) -> None:
    watch = CollapseWatch(Loss(negatives, margin=0.1), window=1)
    assert watch.see(2 * 32 * 0.1 * terms, 32, warming_up)
    assert not watch.see(2 * 32 * 0.1 * terms * 1.05, 32, warming_up)


def test_the_advice_names_the_cures() -> None:
    advice = CollapseWatch(Loss()).advice(200)
    for cure in ("--warmup-epochs", "--negatives selective", "--learning-rate"):
        assert cure in advice


def test_warm_up_changes_the_negatives_at_its_end() -> None:
    schedule = negatives_by_step(Loss("hardest", warmup_epochs=1.5), steps_per_epoch=10)
    kinds = [type(schedule(step)).__name__ for step in (0, 14, 15, 99)]
    assert kinds == ["All", "All", "Hardest", "Hardest"]
    assert type(negatives_by_step(Loss("all"), 10)(0)).__name__ == "All"
