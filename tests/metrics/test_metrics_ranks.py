"""Ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from naive_metrics import (
    DTYPES,
    SIMILARITIES,
    label,
    naive_ranks,
    naive_scores,
    sets,
)

from hardneg.metrics import (
    ranks,
    retrieval_metrics,
)
from hardneg.similarities import Cosine, Dot, Euclidean, Order, SquaredEuclidean

GOLDEN = Path(__file__).parent.parent / "golden" / "vsepp_ranks.npz"


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=label)
@pytest.mark.parametrize("dtype", DTYPES, ids=label)
def test_ranks_equal_naive_loops(similarity, dtype):
    if not isinstance(similarity, Cosine | Dot | Euclidean | SquaredEuclidean | Order):
        dtype = torch.float64
    for n, m, d in ((23, 41, 7), (41, 23, 16), (1, 5, 3), (9, 1, 3)):
        q, c, q_ids, c_ids = sets(n, m, d, dtype, seed=n)
        c_ids[0] = q_ids[0]
        expected = naive_ranks(naive_scores(similarity, q, c), q_ids, c_ids)
        found = ranks(q, c, q_ids, c_ids, similarity=similarity)
        assert found.dtype == torch.int64
        assert found.tolist() == expected


@pytest.mark.parametrize("similarity", SIMILARITIES[:4], ids=label)
def test_wide_float32_ranks_are_exact(similarity):
    q, c, _, _ = sets(600, 3000, 512, seed=5)
    q_ids, c_ids = torch.arange(600), torch.arange(3000) // 5
    a, b = q.double(), c.double()
    if isinstance(similarity, Cosine):
        a, b = (torch.nn.functional.normalize(x, eps=0) for x in (a, b))
    exact = a @ b.T if isinstance(similarity, Cosine | Dot) else -torch.cdist(a, b)
    kin = q_ids[:, None] == c_ids[None]
    best = exact.masked_fill(~kin, -torch.inf).amax(1, keepdim=True)
    expected = ((exact >= best) & ~kin).sum(1)
    assert torch.equal(ranks(q, c, q_ids, c_ids, similarity=similarity), expected)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("size", ["40x16", "200x32"])
def test_authors_ranks(similarity, size):
    with np.load(GOLDEN) as held:
        key = f"{similarity}|{size}"
        values = {
            name: torch.from_numpy(held[f"{key}|{name}"])
            for name in ("images", "captions", "i2t", "t2i", "i2t_ranks", "t2i_ranks")
        }
    images, captions = values["images"], values["captions"]
    i_ids, c_ids = torch.arange(len(images)), torch.arange(len(captions)) // 5
    back = Order("queries") if similarity == "order" else similarity
    to_text = ranks(images, captions, i_ids, c_ids, similarity=similarity)
    to_image = ranks(captions, images, c_ids, i_ids, similarity=back)
    assert torch.equal(to_text.double(), values["i2t_ranks"])
    assert torch.equal(to_image.double(), values["t2i_ranks"])
    found = retrieval_metrics(images, captions, similarity=similarity)
    for direction, expected in (
        (found.image_to_text, values["i2t"]),
        (found.text_to_image, values["t2i"]),
    ):
        assert list(vars(direction).values()) == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("similarity", SIMILARITIES[:6], ids=label)
def test_one_set_never_retrieves_itself(similarity, seed):
    x, _, labels, _ = sets(37, 1, 6, seed=seed)
    labels[0] = 99
    expected = naive_ranks(naive_scores(similarity, x, x), labels, labels, same_set=True)
    assert expected[0] == -1
    assert ranks(x, x, labels, same_set=True, similarity=similarity).tolist() == expected
    assert ranks(x, x, labels, labels, same_set=True, similarity=similarity).tolist() == expected


def test_default_ids_pair_the_rows():
    q, c, _, _ = sets(6, 9, 4)
    found = ranks(q, c)
    assert found.tolist() == naive_ranks(naive_scores(Cosine(), q, c), range(6), range(9))
    assert ranks(q[:1], c[:1]).tolist() == [0]


def test_several_images_of_one_caption_and_queries_without_any():
    q, c, _, _ = sets(8, 12, 5)
    q_ids = torch.tensor([1, 1, 1, 2, 2, 7, 8, 3])
    c_ids = torch.tensor([3, 3, 1, 2, 9, 9, 1, 1, 2, 3, 3, 3])
    found = ranks(q, c, q_ids, c_ids, similarity="dot")
    assert found.tolist() == naive_ranks(naive_scores(Dot(), q, c), q_ids, c_ids)
    assert found[5:7].tolist() == [-1, -1]
