"""Word vectors from captions alone: words that occur with the same images lie close together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vsepp.data.captions import read_lines
from vsepp.data.splits import Split
from vsepp.data.vocabulary import SPECIAL, Vocabulary

OVERSAMPLED, ITERATIONS = 16, 4
RARE = 5.0
"""The logarithm of how many images a word is rarer than, from which on its vector is 1 long."""


def read_more_text(path: str) -> list[list[str]]:
    """Captions without images, those of one image in lines that follow one another."""
    if not path:
        return []
    groups: list[list[str]] = [[]]
    for line in read_lines(Path(path), "captions", "one a line, in UTF-8"):
        if line.strip():
            groups[-1].append(line.strip())
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]


def by_image(split: Split) -> list[list[str]]:
    """The captions of every image of a split."""
    groups: list[list[str]] = [[] for _ in range(len(split.images))]
    for caption, row in zip(split.captions, split.image_of.tolist(), strict=True):
        groups[row].append(caption)
    return groups


@torch.sparse.check_sparse_tensor_invariants()
def word_vectors(groups: Iterable[Sequence[str]], vocabulary: Vocabulary, width: int) -> Tensor:
    """A vector for every word of the vocabulary, ``words x width``.

    The largest singular vectors of the positive pointwise mutual information of words that occur
    with the same image. A word that is in no caption, or in all, has 0.
    """
    pairs = [
        (number, word) for number, group in enumerate(groups) for word in said(group, vocabulary)
    ]
    index = torch.tensor(pairs, dtype=torch.int64).T
    count, size = int(index[0].max()) + 1, len(vocabulary)
    occurs = sparse(index, torch.ones(len(pairs)), (count, size))
    images = torch.bincount(index[1], minlength=size).float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        together = torch.sparse.mm(occurs.T, occurs).coalesce()
    rows, columns = together.indices()
    information = (together.values() * count / (images[rows] * images[columns])).log()
    kept = information > 0
    matrix = sparse(torch.stack([rows[kept], columns[kept]]), information[kept], (size, size))
    rank = min(width, size)
    u, s, _ = torch.svd_lowrank(matrix, q=min(size, rank + OVERSAMPLED), niter=ITERATIONS)
    found = torch.nn.functional.normalize(u[:, :rank] * s[:rank].sqrt())
    rarity = (count / images.clamp(min=1)).log().clamp(max=RARE) / RARE
    found = torch.where(images[:, None] > 0, found * rarity[:, None], 0.0)
    return torch.nn.functional.pad(found, (0, width - rank))


def sparse(index: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of these entries."""
    return torch.sparse_coo_tensor(index, values, shape).coalesce()


def said(group: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """The words of an image's captions, each once."""
    ids = {word for caption in group for word in vocabulary.encode(caption)}
    return sorted(one for one in ids if one >= len(SPECIAL))


def start_vectors(weight: Tensor, vectors: Tensor) -> None:
    """Put vectors into a matrix of word vectors, but for words without one; lengths are alike."""
    typical = weight.detach().norm(dim=1).mean()
    there = vectors.abs().sum(1) > 0
    with torch.no_grad():
        weight[there] = vectors[there].to(weight) * typical
