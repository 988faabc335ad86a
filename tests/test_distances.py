"""Euclidean distances in tiles: no row, and no arrangement of the rows, costs the others their digits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hardneg import ContrastiveLoss, Euclidean, SquaredEuclidean, Tiled, TripletLoss
from hardneg.ops.comparison import Comparison, Relation
from hardneg.ops.geometry import central_row, near_rows
from hardneg.ops.grid import Tile, grid
from hardneg.ops.tiled.scores import tile_scores

N, D = 160, 24  # more differences than are taken one by one
EPS = torch.finfo(torch.float32).eps


def rows(seed: int = 0) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def with_far(share: float, far: float, same: bool = False) -> Callable[[], Tensor]:
    """Some rows far away, in one place or scattered."""

    def make() -> Tensor:
        x, count = rows(), max(1, int(share * N))
        place = torch.randperm(N, generator=torch.Generator().manual_seed(1))[:count]
        x[place] = far if same else far * rows(2)[place]
        return x

    return make


def clusters(*offsets: float) -> Callable[[], Tensor]:
    """Rows around several points, in turn."""

    def make() -> Tensor:
        shift = torch.tensor(offsets)[torch.arange(N) % len(offsets)]
        return rows() + shift[:, None] * torch.randn(D, generator=torch.Generator().manual_seed(3))

    return make


ARRANGEMENTS = {
    "plain": rows,
    "one at 1e4": with_far(0, 1e4, same=True),
    "one at 1e6": with_far(0, 1e6, same=True),
    "one at 1e12": with_far(0, 1e12, same=True),
    "49 % scattered at 1e5": with_far(0.49, 1e5),
    "49 % in one place": with_far(0.49, 1e5, same=True),
    "offset": clusters(1e4),
    "offset, one far": lambda: clusters(1e4)() + (torch.arange(N) == 7)[:, None] * 1e6,
    "two, one at zero": clusters(0.0, 1e4),
    "two, both away": clusters(-1e4, 1e4),
    "three, uneven": clusters(0.0, 1e4, 1e4, 1e4, 3e5),
    "zero rows": lambda: clusters(1e4)() * (torch.arange(N) % 3 > 0)[:, None],
}


def tile_of(q: Tensor, c: Tensor, squared: bool = False) -> Tensor:
    similarity = SquaredEuclidean() if squared else Euclidean()
    comparison = Comparison(q, c, similarity, Relation())
    return tile_scores(comparison, (len(q), len(c))).scores(
        Tile(slice(0, len(q)), slice(0, len(c)))
    )


def exact(q: Tensor, c: Tensor) -> Tensor:
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(q.double(), c.double(), compute_mode=mode)


@pytest.mark.parametrize("name", ARRANGEMENTS)
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_every_distance_is_as_good_as_by_cdists_product(name: str, shift: float) -> None:
    c = ARRANGEMENTS[name]()
    q = c if shift == 0 else c.flip(0) + shift
    found = -tile_of(q, c, squared=True).double()
    squares = q.double().square().sum(1)[:, None] + c.double().square().sum(1)
    error = (found - exact(q, c).square()).abs()
    assert (error <= 8 * EPS * squares).all()


@pytest.mark.parametrize(
    "name",
    [
        "one at 1e6",
        "49 % in one place",
        "offset",
        "offset, one far",
        "two, one at zero",
        "zero rows",
    ],
)
def test_rows_that_lie_together_keep_their_distances(name: str) -> None:
    """All but the far ones: to within the rounding of products of rows as short as around their centre."""
    x = ARRANGEMENTS[name]()
    found, true = -tile_of(x, x).double(), exact(x, x)
    near = (true > 1) & (true < 100)
    assert near.sum() > N * N // 5
    assert ((found - true).abs() / true)[near].max() < 1e-5


def test_broken_rows_leave_the_others_alone() -> None:
    x = rows() + 1e3
    y = x.clone()
    y[3], y[50, 2], y[51, 2], y[100] = torch.nan, torch.inf, -torch.inf, 3e38
    whole = torch.ones(N, dtype=torch.bool)
    whole[[3, 50, 51, 100]] = False
    found = -tile_of(y, y)[whole][:, whole].double()
    true = exact(x, x)[whole][:, whole]
    assert ((found - true).abs() / true)[true > 1].max() < 1e-4


def test_integers_are_exact() -> None:
    x = torch.randint(-40, 40, (N, D), generator=torch.Generator().manual_seed(0)).float()
    for q, c in (
        (x, x),
        (x + 300, x + 300),
        (x[:7] + 3, x + 300),
        (x, x * (torch.arange(N) % 2)[:, None]),
    ):
        assert torch.equal(-tile_of(q, c, squared=True).double(), exact(q, c).square().round())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 400, 700), (300, 1, 900), (600, 700, 1)])
def test_single_rows_and_single_coordinates(shape: tuple[int, int, int]) -> None:
    n, m, d = shape
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(n, d, generator=g) + 50, torch.randn(m, d, generator=g) + 50
    found, true = -tile_of(q, c, squared=True).double(), exact(q, c).square()
    assert (found - true).abs().max() <= 16 * EPS * 20 * d


def test_the_centre_is_a_row_or_zero() -> None:
    assert torch.equal(central_row(rows()), torch.zeros(D))
    offset = clusters(1e4)()
    assert (central_row(offset) == offset).all(1).any()
    far = with_far(0.3, 1e7, same=True)()
    assert torch.equal(near_rows(rows() + 0.1, central_row(far)).rows, rows() + 0.1)
    assert torch.equal(central_row(torch.full((5, 3), torch.nan)), torch.zeros(3))
    assert torch.equal(central_row(torch.zeros(0, 3)), torch.zeros(3))


def test_the_centre_is_found_whatever_repeats() -> None:
    """Far rows at every second, fourth ... place: a sample in equal steps would see them alone."""
    for period in (2, 4, 8, 16):
        x = torch.randn(1024, D, generator=torch.Generator().manual_seed(0)) + 1e3
        x[::period] += 1e6 * torch.randn(
            len(x[::period]), D, generator=torch.Generator().manual_seed(1)
        )
        assert torch.linalg.vector_norm(central_row(x) - 1e3) < 20


# squares of 1e12 and more are no closer than 1e5 in float32: which of them count is chance
@pytest.mark.parametrize(
    ("similarity", "name"),
    [
        *(("euclidean", name) for name in ("one at 1e6", "offset, one far", "zero rows")),
        *(("euclidean", name) for name in ("offset", "two, one at zero")),
        *(("squared_euclidean", name) for name in ("offset", "two, one at zero")),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "tiled", Tiled((48, 64))], ids=str)
def test_losses_and_gradients_agree_with_float64(
    similarity: str, name: str, backend: object
) -> None:
    x, labels = ARRANGEMENTS[name](), torch.arange(N) // 4
    labels[-1] = 10**6
    pairs = ContrastiveLoss(20.0, "all", similarity, backend=backend)
    sets = TripletLoss(20.0, "all", "all", similarity, backend=backend)
    for loss, inputs in ((sets, (labels,)), (pairs, (x.flip(0).contiguous(),))):
        found, dense, true = (
            value_and_gradient(replaced(loss, one), x.to(kind), inputs)
            for one, kind in (
                (backend, torch.float32),
                ("dense", torch.float32),
                ("dense", torch.float64),
            )
        )
        for ours, theirs, right in zip(found, dense, true, strict=True):
            scale = right.abs().max()
            allowed = 2 * (theirs - right).abs().max() + 1e-4 * scale
            assert (ours - right).abs().max() <= allowed


def replaced(loss: torch.nn.Module, backend: object) -> torch.nn.Module:
    """The same loss by another backend."""
    other = copy.copy(loss)
    other.backend = backend
    return other


def value_and_gradient(
    loss: torch.nn.Module, x: Tensor, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = loss(leaf, *(y.to(x.dtype) if y.is_floating_point() else y for y in inputs))
    return value.detach().double(), torch.autograd.grad(value, leaf)[0].double()


def test_batch_all_is_zero_where_it_is_zero() -> None:
    """Classes in separate places, one row far away: no triplet is within the margin."""
    labels = torch.arange(N) // 4
    x = 100 * torch.randn(N // 4, D, generator=torch.Generator().manual_seed(5))[labels] + rows()
    x[-1], labels[-1] = 1e6, 10**6
    for backend in ("dense", "auto", "tiled"):
        loss = TripletLoss(1.0, "all", "all", "euclidean", backend=backend)
        assert loss(x, labels) == 0


def test_gradients_of_near_duplicates_in_float64_add_up_differences() -> None:
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 6, generator=g, dtype=torch.float64) * 100
    x = centres[torch.arange(60) % 20] + 1e-9 * torch.randn(60, 6, generator=g, dtype=torch.float64)
    weights = torch.randn(60, 60, generator=g, dtype=torch.float64)
    for similarity in (Euclidean(), SquaredEuclidean()):
        leaf = x.clone().requires_grad_()
        (similarity(leaf, x) * weights).sum().backward()
        tiles = tile_scores(Comparison(x, x.clone(), similarity, Relation()), (25, 35))
        for tile in grid(60, 60, tiles.tile):
            tiles.scores(tile)
            tiles.add_gradient(tile, weights[tile.rows, tile.columns].clone())
        assert leaf.grad is not None
        assert (tiles.gradients()[0] - leaf.grad).abs().max() <= 1e-13 * leaf.grad.abs().max()
