"""What tells texts, and related rows, apart: numbers of tokens, and labels of rows that share a text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hardneg.integrations.fingerprints import fingerprints
from hardneg.integrations.related_rows import RelatedRows


def padded(texts: list[list[int]], width: int, left: bool = False) -> dict[str, Tensor]:
    rows = [(t, [0] * (width - len(t))) for t in texts]
    ids = [p + t if left else t + p for t, p in rows]
    mask = [[0] * len(p) + [1] * len(t) if left else [1] * len(t) + [0] * len(p) for t, p in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


TEXTS = [[5, 7], [7, 5], [5, 7, 7], [5], [0, 5], [5, 0], [], [5, 7]]


def test_equal_texts_alone_have_equal_numbers() -> None:
    found = fingerprints(padded(TEXTS, 3))
    assert found[0] == found[7]
    assert len(set(found.tolist())) == 7


def test_padding_and_layout_do_not_matter() -> None:
    expected = fingerprints(padded(TEXTS, 3))
    flat, lengths = (
        torch.tensor([word for text in TEXTS for word in text]),
        torch.tensor([len(t) for t in TEXTS]),
    )
    ends = lengths.cumsum(0)
    others = [
        padded(TEXTS, 9),
        padded(TEXTS, 5, left=True),
        {"input_ids": flat, "offsets": ends - lengths},
        {"input_ids": flat[None], "cu_seq_lens_q": torch.cat([ends[:1] * 0, ends]).int()},
        {**padded(TEXTS, 4), "prompt_length": 2, "modality": "text"},
    ]
    for features in others:
        assert torch.equal(fingerprints(features), expected)


def test_many_short_texts_do_not_collide() -> None:
    pairs = torch.cartesian_prod(torch.arange(300), torch.arange(300))
    found = fingerprints({"input_ids": pairs})
    assert len(found.unique()) == len(pairs)


def test_pictures_count_beside_their_texts() -> None:
    texts, pixels = padded([[1], [1], [1]], 2), torch.randn(3, 2, 4)
    pixels[2] = pixels[0]
    for features in ({**texts, "pixel_values": pixels}, {"pixel_values": pixels.half()}):
        found = fingerprints(features).tolist()
        assert found[0] == found[2] != found[1]
    with pytest.raises(ValueError, match="pixel_values has 6 rows for 3 samples"):
        fingerprints({**texts, "pixel_values": torch.randn(6, 4)})
    with pytest.raises(ValueError, match="skip_repeated=False"):
        fingerprints({"modality": "text"})


def by_hand(pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest row of each row's component, one union after the other."""
    labels = list(range(len(pairs)))
    for i, one in enumerate(pairs):
        for j in range(i):
            if set(one) & set(pairs[j]) and labels[i] != labels[j]:
                low, high = sorted((labels[i], labels[j]))
                labels = [low if label == high else label for label in labels]
    return labels


def graphs(n: int) -> dict[str, Tensor]:
    """Rows as edges between texts: long chains, trees, stars, and few and many repeats."""
    g = torch.Generator().manual_seed(n)
    line, mixed = torch.arange(n), torch.randperm(n, generator=g)
    parents = [int(torch.randint(0, max(i, 1), (), generator=g)) for i in range(n)]
    found = {
        "chain": torch.stack([line, line + 1], 1),
        "shuffled chain": torch.stack([mixed, mixed + 1], 1),
        "comb": torch.stack([mixed // 2, mixed // 2 + 1 + mixed % 2 * n], 1),
        "tree": torch.stack([torch.tensor(parents), line + 1], 1)[mixed],
        "star": torch.stack([torch.zeros(n, dtype=torch.long), line + 1], 1)[mixed],
        "apart": torch.stack([2 * line, 2 * line + 1], 1),
    }
    for texts in (n // 2 + 1, n, 2 * n, 4 * n):
        found[f"{texts} texts"] = torch.randint(0, texts, (n, 2), generator=g)
    return found


@pytest.mark.parametrize("n", [1, 2, 7, 64, 150])
def test_rows_that_share_a_text_are_joined(n: int) -> None:
    for name, pairs in graphs(n).items():
        found = RelatedRows.of_texts(pairs[:, 0], pairs[:, 1])
        assert found.rows.tolist() == by_hand([(a, p) for a, p in pairs.tolist()]), name
        assert found.total == n
        assert torch.equal(found.of(pairs), found.rows[:, None].expand(n, 2))
        assert (found.of(torch.tensor([[-1, 10 * n]])) == n).all()


def test_the_longest_chains_are_joined_in_the_rounds_that_there_are() -> None:
    n = 4096
    for seed in range(5):
        mixed = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        assert (RelatedRows.of_texts(mixed, mixed + 1).rows == 0).all()
    zigzag = torch.stack([torch.arange(n // 2), torch.arange(n // 2) + n // 2], 1).flatten()
    assert (RelatedRows.of_texts(zigzag, zigzag + 1).rows == 0).all()


def test_rows_by_their_places() -> None:
    found = RelatedRows.of_places(3, torch.device("cpu"))
    assert found.rows.tolist() == [0, 1, 2]
    assert found.of(torch.tensor([0, 9])).tolist() == [3, 3]


def test_nothing_is_read_from_the_device() -> None:
    """Tensors without values have none to wait for."""
    padded_ids = {
        n: torch.ones(8, 5, dtype=torch.long, device="meta")
        for n in ("input_ids", "attention_mask")
    }
    flat_ids = torch.ones(40, dtype=torch.long, device="meta")
    starts = torch.ones(8, dtype=torch.long, device="meta")
    texts = [fingerprints(padded_ids), fingerprints({"input_ids": flat_ids, "offsets": starts})]
    related = RelatedRows.of_texts(*texts)
    for found in (related.rows, related.of(torch.stack(texts))):
        assert found.device.type == "meta"
        assert found.shape[-1] == 8
