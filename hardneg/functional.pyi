"""Generated from the loss classes by ``python tests/typed/functional_stub.py``; a test holds it to them."""

from typing import Literal, TypedDict, overload

from torch import Tensor
from typing_extensions import Unpack

from hardneg.losses.base import BackendName, Directions
from hardneg.losses.mining_statistics import MiningStatistics
from hardneg.losses.scalars import Learned
from hardneg.negatives import Ceiling, Negatives, NegativesName
from hardneg.ops.scores import Backend
from hardneg.penalties import Penalty, PenaltyName
from hardneg.positives import Positives, PositivesName
from hardneg.similarities import Similarity, SimilarityName
from hardneg.softmaxes import Softmax, SoftmaxName

Coefficients = tuple[float, ...]

class CircleLossOptions(TypedDict, total=False):
    margin: float
    gamma: float
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[CircleLossOptions],
) -> Tensor: ...

@overload
def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[CircleLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[CircleLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[CircleLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class ContrastiveLossOptions(TypedDict, total=False):
    margin: float
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    penalty: Penalty | PenaltyName
    directions: Directions
    backend: BackendName | Backend
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None
    weights: Tensor | None

@overload
def contrastive_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[ContrastiveLossOptions],
) -> Tensor: ...

@overload
def contrastive_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[ContrastiveLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def contrastive_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[ContrastiveLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def contrastive_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[ContrastiveLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class InfoNCELossOptions(TypedDict, total=False):
    temperature: float | Tensor | Learned
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    positives: Positives | PositivesName
    margin: float
    softmax: Softmax | SoftmaxName
    directions: Directions | Literal['joint']
    backend: BackendName | Backend
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None
    weights: Tensor | None

@overload
def info_nce_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[InfoNCELossOptions],
) -> Tensor: ...

@overload
def info_nce_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[InfoNCELossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def info_nce_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[InfoNCELossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def info_nce_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[InfoNCELossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class MarginLossOptions(TypedDict, total=False):
    margin: float
    beta: float | Tensor | Learned
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[MarginLossOptions],
) -> Tensor: ...

@overload
def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[MarginLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[MarginLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[MarginLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class MultiSimilarityLossOptions(TypedDict, total=False):
    alpha: float
    beta: float
    base: float
    epsilon: float | None
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def multi_similarity_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[MultiSimilarityLossOptions],
) -> Tensor: ...

@overload
def multi_similarity_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[MultiSimilarityLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def multi_similarity_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[MultiSimilarityLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def multi_similarity_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[MultiSimilarityLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class NTXentLossOptions(TypedDict, total=False):
    temperature: float | Tensor | Learned
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    margin: float
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[NTXentLossOptions],
) -> Tensor: ...

@overload
def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[NTXentLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[NTXentLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[NTXentLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class PairwiseContrastiveLossOptions(TypedDict, total=False):
    positive_margin: float
    negative_margin: float
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    penalty: Penalty | PenaltyName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def pairwise_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[PairwiseContrastiveLossOptions],
) -> Tensor: ...

@overload
def pairwise_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[PairwiseContrastiveLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def pairwise_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[PairwiseContrastiveLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def pairwise_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[PairwiseContrastiveLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class PolynomialLossOptions(TypedDict, total=False):
    margin: float
    positive: Coefficients
    negative: Coefficients
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None
    weights: Tensor | None

@overload
def polynomial_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[PolynomialLossOptions],
) -> Tensor: ...

@overload
def polynomial_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[PolynomialLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def polynomial_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[PolynomialLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def polynomial_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[PolynomialLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class SigmoidLossOptions(TypedDict, total=False):
    temperature: float | Tensor | Learned
    bias: float | Tensor | Learned
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    positives: Positives | PositivesName
    directions: Directions
    backend: BackendName | Backend
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None
    weights: Tensor | None

@overload
def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[SigmoidLossOptions],
) -> Tensor: ...

@overload
def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[SigmoidLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[SigmoidLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[SigmoidLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class SupConLossOptions(TypedDict, total=False):
    temperature: float | Tensor | Learned
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[SupConLossOptions],
) -> Tensor: ...

@overload
def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[SupConLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[SupConLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[SupConLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class TripletLossOptions(TypedDict, total=False):
    margin: float
    positives: Positives | PositivesName
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    penalty: Penalty | PenaltyName
    directions: Directions
    backend: BackendName | Backend
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    same_set: bool
    weights: Tensor | None

@overload
def triplet_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[TripletLossOptions],
) -> Tensor: ...

@overload
def triplet_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[TripletLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def triplet_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[TripletLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def triplet_loss(
    embeddings: Tensor,
    labels: Tensor | None = ...,
    reference: Tensor | None = ...,
    reference_labels: Tensor | None = ...,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[TripletLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...

class UnifiedPairLossOptions(TypedDict, total=False):
    margin: float
    gamma: float
    negatives: Negatives | NegativesName
    similarity: Similarity | SimilarityName
    directions: Directions
    backend: BackendName | Backend
    query_ids: Tensor | None
    candidate_ids: Tensor | None
    positive_mask: Tensor | None
    ignore_mask: Tensor | None
    own_negatives: Tensor | None
    own_negative_ids: Tensor | None
    own_ignore_mask: Tensor | None
    share_negatives: bool
    exempt_own_negatives: bool
    guide: tuple[Tensor, Tensor] | None
    guide_ceiling: Ceiling | None
    weights: Tensor | None

@overload
def unified_pair_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[UnifiedPairLossOptions],
) -> Tensor: ...

@overload
def unified_pair_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["mean", "sum", "mean_active"] = ...,
    return_stats: Literal[True],
    **options: Unpack[UnifiedPairLossOptions],
) -> tuple[Tensor, MiningStatistics]: ...

@overload
def unified_pair_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[False] = ...,
    **options: Unpack[UnifiedPairLossOptions],
) -> tuple[Tensor, Tensor]: ...

@overload
def unified_pair_loss(
    queries: Tensor,
    candidates: Tensor,
    *,
    reduction: Literal["none"],
    return_stats: Literal[True],
    **options: Unpack[UnifiedPairLossOptions],
) -> tuple[tuple[Tensor, Tensor], MiningStatistics]: ...
