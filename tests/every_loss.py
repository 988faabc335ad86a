"""Every loss with the strategies that it takes, behind one way of calling them. Shared by several test files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import hardneg
import hardneg.functional as H
from hardneg import Hardest, HardnessWeighted, RandomK, RankWindow, SemiHard, Tiled, TopK

BACKENDS = ("auto", "dense", "tiled", Tiled((3, 5)))
BACKEND_IDS = ("auto", "dense", "tiled", "tiles of 3x5")
SIMILARITIES = ("cosine", "dot", "euclidean", "squared_euclidean", "order")


@dataclass(frozen=True)
class About:
    """What the tests must know of a loss.

    Attributes:
        module: its class.
        similarity: what it compares by unless told otherwise.
        similarities: the names that it takes; callables where it takes all of them.
        takes_all: whether all negatives of an anchor may count.
        pairs_are_terms: every pair is a term of its own: a positive pair counts even where its anchor has no
            negative.
        positives_suffice: an anchor with positives has a term, negatives or not.
    """

    module: type
    similarity: str = "cosine"
    similarities: tuple[str, ...] = SIMILARITIES
    takes_all: bool = True
    pairs_are_terms: bool = False
    positives_suffice: bool = False


ABOUT = {
    "contrastive": About(hardneg.ContrastiveLoss),
    "info_nce": About(hardneg.InfoNCELoss),
    "unified_pair": About(hardneg.UnifiedPairLoss),
    "polynomial": About(hardneg.PolynomialLoss, takes_all=False),
    "sigmoid": About(hardneg.SigmoidLoss, pairs_are_terms=True),
    "triplet": About(hardneg.TripletLoss),
    "nt_xent": About(hardneg.NTXentLoss),
    "sup_con": About(hardneg.SupConLoss, positives_suffice=True),
    "pairwise_contrastive": About(
        hardneg.PairwiseContrastiveLoss, "euclidean", pairs_are_terms=True
    ),
    "margin": About(
        hardneg.MarginLoss, "euclidean", ("euclidean", "squared_euclidean"), pairs_are_terms=True
    ),
    "multi_similarity": About(hardneg.MultiSimilarityLoss),
    "circle": About(hardneg.CircleLoss),
}


@dataclass(frozen=True)
class Case:
    """A loss with its choices. ``kind`` is "paired" or "labelled"."""

    name: str
    kind: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        chosen = [str(value) for _, value in self.options]
        return "-".join([self.name, *chosen])

    @property
    def function(self) -> Any:
        return getattr(H, self.name + "_loss")

    @property
    def about(self) -> About:
        return ABOUT[self.name]

    @property
    def negatives(self) -> Any:
        return dict(self.options).get("negatives")

    @property
    def similarity(self) -> str:
        """What it compares by unless told otherwise."""
        return dict(self.options).get("similarity", self.about.similarity)

    def takes(self, similarity: Any) -> bool:
        """Whether the loss and its strategy take a similarity, by name or a callable."""
        if self.negatives == "distance_weighted" and similarity in ("dot", "order"):
            return False
        known = self.about.similarities
        return similarity in known if isinstance(similarity, str) else known == SIMILARITIES

    @property
    def own_pair_is_a_term(self) -> bool:
        """Whether row i of both sides gives a term, negatives or not."""
        return self.kind == "paired" and self.about.pairs_are_terms

    @property
    def means_by_kind(self) -> bool:
        """Whether positive and negative pairs are averaged apart."""
        return self.kind == "labelled" and self.about.pairs_are_terms

    @property
    def positives(self) -> str:
        return dict(self.options).get("positives", "")

    @property
    def random(self) -> bool:
        return isinstance(self.negatives, RandomK) or self.negatives == "distance_weighted"

    def __call__(
        self,
        queries: Tensor,
        candidates: Tensor | None = None,
        query_groups: Tensor | None = None,
        candidate_groups: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Paired losses take the groups as ids, the others as labels (candidates None: one set)."""
        chosen = {**dict(self.options), **options}
        if self.kind == "labelled":
            groups = () if candidates is None else (candidates, candidate_groups)
            return self.function(queries, query_groups, *groups, **chosen)
        if query_groups is not None:
            chosen.update(query_ids=query_groups, candidate_ids=candidate_groups)
        return self.function(queries, candidates, **chosen)


def case(name: str, kind: str, **options: Any) -> Case:
    return Case(name, kind, tuple(options.items()))


PAIRED = (
    case("contrastive", "paired", negatives="all"),
    case("contrastive", "paired", negatives="hardest"),
    case("contrastive", "paired", negatives="semihard"),
    case("contrastive", "paired", negatives=TopK(2)),
    case("contrastive", "paired", negatives=RankWindow(1, 3)),
    case("contrastive", "paired", negatives="selective_hardest"),
    case("contrastive", "paired", negatives="all", penalty="logistic"),
    case("info_nce", "paired", negatives="all"),
    case("info_nce", "paired", negatives="hardest"),
    case("info_nce", "paired", negatives=SemiHard("none")),
    case("info_nce", "paired", negatives=TopK(2)),
    case("info_nce", "paired", negatives="all", softmax=HardnessWeighted(2.0)),
    case("info_nce", "paired", negatives=TopK(2), softmax="decoupled"),
    case("unified_pair", "paired", negatives="all"),
    case("unified_pair", "paired", negatives=TopK(2)),
    case("polynomial", "paired", negatives="hardest"),
    case("polynomial", "paired", negatives=TopK(2)),
    case("sigmoid", "paired", negatives="all", bias=-1.0),
    case("sigmoid", "paired", negatives=TopK(2), bias=-1.0),
)
LABELLED = (
    case("triplet", "labelled", positives="all", negatives="all"),
    case("triplet", "labelled", positives="all", negatives="semihard"),
    case("triplet", "labelled", positives="all", negatives=TopK(2)),
    case("triplet", "labelled", positives="hardest", negatives="hardest"),
    case("triplet", "labelled", positives="easiest", negatives="all"),
    case("triplet", "labelled", positives="hardest", negatives=SemiHard("none")),
    case("triplet", "labelled", positives="all", negatives="all", penalty="logistic"),
    case("nt_xent", "labelled", negatives="all"),
    case("nt_xent", "labelled", negatives=TopK(2)),
    case("nt_xent", "labelled", negatives=Hardest()),
    case("sup_con", "labelled", negatives="all"),
    case("sup_con", "labelled", negatives=TopK(2)),
    case("pairwise_contrastive", "labelled", negatives="all"),
    case("pairwise_contrastive", "labelled", negatives="hardest"),
    case("margin", "labelled", negatives="all"),
    case("multi_similarity", "labelled", negatives="all"),
    case("multi_similarity", "labelled", negatives="all", epsilon=0.1),
    case("multi_similarity", "labelled", negatives=TopK(2)),
    case("circle", "labelled", negatives="all", gamma=16.0),
    case("circle", "labelled", negatives=TopK(2), gamma=16.0),
)
RANDOM = (
    case("contrastive", "paired", negatives=RandomK(2)),
    case("contrastive", "paired", negatives="distance_weighted"),
    case("info_nce", "paired", negatives=RandomK(2)),
    case("sigmoid", "paired", negatives=RandomK(2)),
    case("triplet", "labelled", negatives=RandomK(2)),
    case("sup_con", "labelled", negatives=RandomK(2)),
    case("margin", "labelled", negatives="distance_weighted"),
)
FIXED = PAIRED + LABELLED
EVERY = FIXED + RANDOM
ONE_OF_EACH = tuple({which.name: which for which in FIXED}.values())


def squashed(queries: Tensor, candidates: Tensor) -> Tensor:
    """A callable similarity, not symmetric."""
    return (queries @ candidates.T - 0.1 * candidates.sum(1)).tanh()


def numbers(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random embeddings, each row of another length, drawn without touching torch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return (x * torch.rand(rows, 1, generator=generator, dtype=torch.float64).add(0.5)).to(dtype)


def arguments(
    which: Case,
    n: int = 7,
    m: int = 9,
    d: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings (those that may require a gradient) and groups: two sets if paired, else one."""
    if which.kind == "paired":
        return [numbers(n, d, seed, dtype), numbers(m, d, seed + 1, dtype)], []
    return [numbers(n, d, seed, dtype)], [torch.arange(n) * 3 // n]


def run(which: Case, embeddings: list[Tensor], groups: list[Tensor], **options: Any) -> Any:
    """The loss of ``arguments``."""
    if which.kind == "paired":
        return which(*embeddings, *groups, **options)
    if len(embeddings) == 1:
        return which(embeddings[0], None, groups[0], **options)
    return which(*embeddings, *groups, **options)


def value_and_gradients(
    which: Case, embeddings: list[Tensor], groups: list[Tensor], **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """The loss and its gradients; the same random choices in every call."""
    leaves = [x.detach().clone().requires_grad_() for x in embeddings]
    torch.manual_seed(5)
    value = run(which, leaves, groups, **options)
    gradients = torch.autograd.grad(value, leaves)
    return value.detach(), list(gradients)


def assert_same(
    found: tuple[Tensor, list[Tensor]],
    expected: tuple[Tensor, list[Tensor]],
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Values and gradients agree."""
    torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=atol)
    assert len(found[1]) == len(expected[1])
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
