"""The losses as functions."""

from hardneg.losses.circle import circle_loss
from hardneg.losses.contrastive import contrastive_loss
from hardneg.losses.info_nce import info_nce_loss
from hardneg.losses.margin_loss import margin_loss
from hardneg.losses.multi_similarity import multi_similarity_loss
from hardneg.losses.nt_xent import nt_xent_loss
from hardneg.losses.pairwise import pairwise_contrastive_loss
from hardneg.losses.polynomial import polynomial_loss
from hardneg.losses.sigmoid import sigmoid_loss
from hardneg.losses.sup_con import sup_con_loss
from hardneg.losses.triplet import triplet_loss
from hardneg.losses.unified import unified_pair_loss

__all__ = [
    "circle_loss",
    "contrastive_loss",
    "info_nce_loss",
    "margin_loss",
    "multi_similarity_loss",
    "nt_xent_loss",
    "pairwise_contrastive_loss",
    "polynomial_loss",
    "sigmoid_loss",
    "sup_con_loss",
    "triplet_loss",
    "unified_pair_loss",
]
