"""The losses as plain PyTorch writes them, with the whole matrix: what hardneg is compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 0.2
TEMPERATURE = 0.05
SIGMOID_TEMPERATURE, SIGMOID_BIAS = 0.1, -1.0
NEIGHBOURS = 8
MANY_NEIGHBOURS = 1000


@lru_cache(maxsize=1)
def own(n: int, device: torch.device) -> Tensor:
    """The mask of the diagonal, kept between calls as a careful trainer would."""
    return torch.eye(n, dtype=torch.bool, device=device)


def cosine(queries: Tensor, candidates: Tensor) -> Tensor:
    return F.normalize(queries) @ F.normalize(candidates).t()


def costs(scores: Tensor, margin: float = MARGIN) -> tuple[Tensor, Tensor]:
    """The two hinge matrices of the VSE++ training code."""
    diagonal = scores.diag().view(-1, 1)
    mask = own(scores.shape[0], scores.device)
    of_queries = (margin + scores - diagonal.expand_as(scores)).clamp(min=0).masked_fill(mask, 0)
    of_candidates = (
        (margin + scores - diagonal.t().expand_as(scores)).clamp(min=0).masked_fill(mask, 0)
    )
    return of_queries, of_candidates


def hardest(queries: Tensor, candidates: Tensor) -> Tensor:
    """VSE++ (Faghri et al., BMVC 2018, eq. 6)."""
    of_queries, of_candidates = costs(cosine(queries, candidates))
    return of_queries.max(1)[0].mean() + of_candidates.max(0)[0].mean()


def every(queries: Tensor, candidates: Tensor) -> Tensor:
    """VSE0: the sum of hinges (eq. 5)."""
    of_queries, of_candidates = costs(cosine(queries, candidates))
    return of_queries.sum(1).mean() + of_candidates.sum(0).mean()


def nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    """The hinges of the eight hardest negatives."""
    scores = cosine(queries, candidates)
    positives = scores.diag()[:, None]
    negatives = scores.masked_fill(own(scores.shape[0], scores.device), -torch.inf)
    loss = torch.zeros(())
    for side in (negatives, negatives.t()):
        top = side.topk(min(NEIGHBOURS, side.shape[1] - 1), 1).values
        loss = loss + (MARGIN - positives + top).clamp(min=0).sum(1).mean()
    return loss


def semi_hard(queries: Tensor, candidates: Tensor) -> Tensor:
    """The hardest negative below the positive, else the easiest one (FaceNet's usual code)."""
    scores = cosine(queries, candidates)
    positives = scores.diag()[:, None]
    mask = own(scores.shape[0], scores.device)
    loss = torch.zeros(())
    for side in (scores, scores.t()):
        below = side.masked_fill((side >= positives) | mask, -torch.inf).amax(1)
        easiest = side.masked_fill(mask, torch.inf).amin(1)
        picked = torch.where(below.isinf(), easiest, below)
        loss = loss + (MARGIN - positives[:, 0] + picked).clamp(min=0).mean()
    return loss


def info_nce(queries: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy both ways over one matrix of logits."""
    logits = cosine(queries, candidates) / TEMPERATURE
    target = torch.arange(logits.shape[0], device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def sigmoid(queries: Tensor, candidates: Tensor) -> Tensor:
    """SigLIP: the log-sigmoid of every pair."""
    logits = cosine(queries, candidates) / SIGMOID_TEMPERATURE + SIGMOID_BIAS
    own_pairs = own(logits.shape[0], logits.device)
    return F.softplus(torch.where(own_pairs, -logits, logits)).sum() / logits.shape[0]


def order(queries: Tensor, candidates: Tensor) -> Tensor:
    """The broadcast order score of the VSE++ training code, n x m x d."""
    excess = candidates[None] - queries[:, None]
    return -excess.clamp(min=0).pow(2).sum(2).clamp(min=1e-12).sqrt()


def order_hardest(queries: Tensor, candidates: Tensor) -> Tensor:
    of_queries, of_candidates = costs(order(queries, candidates))
    return of_queries.max(1)[0].mean() + of_candidates.max(0)[0].mean()


def order_every(queries: Tensor, candidates: Tensor) -> Tensor:
    of_queries, of_candidates = costs(order(queries, candidates), margin=0.05)
    return of_queries.sum(1).mean() + of_candidates.sum(0).mean()


def batch_all(
    embeddings: Tensor, labels: Tensor, penalty: Callable[..., Tensor] = F.relu
) -> Tensor:
    """Every triplet of a batch, n x n x n, averaged over those above zero."""
    scores = cosine(embeddings, embeddings)
    same = labels[:, None] == labels
    pairs = same & ~own(labels.shape[0], labels.device)
    x = penalty(MARGIN - scores[:, :, None] + scores[:, None])
    x = x * (pairs[:, :, None] & ~same[:, None])
    return x.sum() / (x > 0).sum()


def semi_hard_labelled(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Every positive pair with its hardest negative below the positive, else the easiest, by sorted rows."""
    scores = cosine(embeddings, embeddings)
    same = labels[:, None] == labels
    negatives, order = scores.detach().masked_fill(same, torch.inf).sort(dim=1)
    place = torch.searchsorted(negatives, scores.detach()).sub_(1).clamp_(min=0)
    pairs = same & ~own(labels.shape[0], labels.device) & ~same.all(1, keepdim=True)
    terms = (MARGIN - scores + scores.gather(1, order.gather(1, place))).clamp(min=0)
    return torch.where(pairs, terms, 0.0).sum() / pairs.sum().clamp(min=1)


def sup_con(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The supervised contrastive loss with its mean outside the logarithm."""
    logits = cosine(embeddings, embeddings) / TEMPERATURE
    mask = own(labels.shape[0], labels.device)
    same = (labels[:, None] == labels) & ~mask
    shares = logits - logits.masked_fill(mask, -torch.inf).logsumexp(1, keepdim=True)
    return -(torch.where(same, shares, 0.0).sum(1) / same.sum(1)).mean()


def nt_xent(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Every positive pair's cross-entropy against the anchor's negatives alone (SimCLR)."""
    logits = cosine(embeddings, embeddings) / TEMPERATURE
    same = labels[:, None] == labels
    against = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    pairs = same & ~own(labels.shape[0], labels.device)
    return torch.where(pairs, F.softplus(against - logits), 0.0).sum() / pairs.sum()


def multi_similarity(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Softened sums over positives and negatives, without the paper's mining."""
    scores = cosine(embeddings, embeddings)
    same = labels[:, None] == labels
    others = ~same | own(labels.shape[0], labels.device)
    pull = (-2 * (scores - 0.5)).masked_fill(others, -torch.inf).logsumexp(1)
    push = (50 * (scores - 0.5)).masked_fill(same, -torch.inf).logsumexp(1)
    return (F.softplus(pull) / 2 + F.softplus(push) / 50).mean()


def batch_hard(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Each anchor's lowest positive against its highest negative."""
    scores = cosine(embeddings, embeddings)
    same = labels[:, None] == labels
    positive = same & ~own(labels.shape[0], labels.device)
    lowest = scores.masked_fill(~positive, torch.inf).amin(1)
    return (MARGIN - lowest + scores.masked_fill(same, -torch.inf).amax(1)).clamp(min=0).mean()


def info_nce_of_queries(queries: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of the queries over their own candidate and all others (MoCo's queue)."""
    logits = cosine(queries, candidates) / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(logits.shape[0], device=logits.device))


def info_nce_beside_own(queries: Tensor, candidates: Tensor, own_negatives: Tensor) -> Tensor:
    """Cross-entropy of the queries over all candidates and a few negatives of their own."""
    further = torch.einsum("nd,nkd->nk", F.normalize(queries), F.normalize(own_negatives, dim=-1))
    logits = torch.cat([cosine(queries, candidates), further], dim=1) / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(logits.shape[0], device=logits.device))


def info_nce_of_nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    """The same over the thousand nearest of the others."""
    scores = cosine(queries, candidates)
    i = torch.arange(scores.shape[0], device=scores.device)
    others = scores.detach().index_put((i, i), scores.new_tensor(-torch.inf))
    near = others.topk(min(MANY_NEIGHBOURS, scores.shape[1] - 1), 1).indices
    logits = torch.cat([scores[i, i][:, None], scores.gather(1, near)], 1) / TEMPERATURE
    return F.cross_entropy(logits, torch.zeros_like(i))


def evaluate(images: Tensor, captions: Tensor) -> Tensor:
    """rsum from the whole matrix: R@1, R@5 and R@10 both ways, ties against the model."""
    scores = cosine(images, captions)
    ratio = captions.shape[0] // images.shape[0]
    owner = torch.arange(captions.shape[0]) // ratio
    n = torch.arange(images.shape[0])
    own_scores = scores.view(images.shape[0], images.shape[0], ratio)[n, n]
    best = own_scores.amax(1, keepdim=True)
    to_text = (scores >= best).sum(1) - (own_scores >= best).sum(1)
    to_image = (scores >= scores[owner, torch.arange(len(owner))]).sum(0) - 1
    shares = [(ranks < k).float().mean() for ranks in (to_text, to_image) for k in (1, 5, 10)]
    return 100 * torch.stack(shares).sum()
