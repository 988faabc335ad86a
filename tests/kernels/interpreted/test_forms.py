"""The table of forms: it covers what is built in, and what has no entry runs tiled or says why not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hardneg import penalties, similarities
from hardneg.negatives.selection import Selection
from hardneg.ops import energies
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.fused_backend import Fused
from hardneg.ops.requests import ExponentialTerms, PenaltyTerms, Search
from hardneg.ops.tiled_backend import Tiled
from hardneg.ops.triton.arguments import OPEN, constant
from hardneg.ops.triton.best import best_kernel
from hardneg.ops.triton.forms import ENERGIES, PENALTIES, SIMILARITIES
from hardneg.ops.triton.launch import launch
from hardneg.ops.triton.operands import operands
from hardneg.ops.triton.select import PreparedSearch
from hardneg.ops.triton.tuning import INTERPRETER

Q, C = torch.randn(9, 4), torch.randn(11, 4)
ROWS = torch.zeros(9)


@dataclass(frozen=True)
class SteeperHinge(penalties.Hinge):
    """A subclass, whose functions are its own."""

    def value(self, x: Tensor) -> Tensor:
        return 2 * x.relu()

    def slope(self, x: Tensor) -> Tensor:
        return 2 * (x > 0).to(x.dtype)


@dataclass(frozen=True)
class Halved(energies.Linear):
    def value(self, score: Tensor) -> Tensor:
        return super().value(score) / 2


@dataclass(frozen=True)
class Turned(similarities.Dot):
    """A subclass of a similarity with kernels."""


def compared(similarity: object = similarities.Cosine()) -> Comparison:
    return Comparison(Q, C, similarity, Relation())


def test_everything_built_in_has_a_form() -> None:
    assert set(PENALTIES) == {type(x) for x in penalties.BY_NAME.values()}
    assert set(ENERGIES) == set(energies.BY_CODE.values())
    # given scores have nothing to fuse
    assert {*SIMILARITIES, similarities.Given()} == set(similarities.BY_CODE.values())


def test_a_penalty_without_a_form_runs_tiled() -> None:
    """Never the form of its base class."""
    terms = PenaltyTerms(SteeperHinge(), ROWS)
    found = Fused(or_tiled=True).scores(compared()).penalty_sum(terms).rows
    assert torch.equal(found, Tiled().scores(compared()).penalty_sum(terms).rows)
    with pytest.raises(ValueError, match=r"built-in penalties only, not for SteeperHinge"):
        Fused().scores(compared()).penalty_sum(terms)


def test_an_energy_without_a_form_says_so() -> None:
    with pytest.raises(ValueError, match=r"built-in energies only, not for Halved"):
        Fused().scores(compared()).logsumexp(ExponentialTerms(Halved()))


def test_a_similarity_without_a_form_says_so() -> None:
    scores, pair = Fused().scores(compared(Turned())), (torch.tensor([0]), torch.tensor([1]))
    reason = r"built-in similarities only, not for Turned"
    with pytest.raises(ValueError, match=reason):
        scores.select(Search(Selection("highest", 1)))
    with pytest.raises(ValueError, match=reason):
        scores.pairs(*pair)


@pytest.mark.parametrize("what", ["SOURCE", "AMONG"])
def test_an_unknown_code_does_not_run(what: str) -> None:
    """It is no other case's "else"."""
    search = Search(Selection("highest", 1))
    prepared = PreparedSearch(compared(), search, operands(compared()), (OPEN, OPEN))
    (panel, extent), relation = next(prepared.ready.panels()), prepared.relation()
    if what == "SOURCE":
        panel = panel._replace(SOURCE=constant("elsewhere"))
    else:
        relation = relation._replace(AMONG=constant("friends"))
    keys = prepared.keys(torch.zeros(3, 300, dtype=torch.long), 0)
    of_columns = prepared.keys(torch.zeros(3, 300, dtype=torch.long), 1)
    given = panel, *extent, relation, prepared.ranking(), keys, of_columns
    with pytest.raises(Exception, match="AssertionError"):
        launch(best_kernel, (1,), INTERPRETER, *given, PLAIN=True, UPPER=False)
