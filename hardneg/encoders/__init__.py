"""Encoders of images and captions into one space: the towers of VSE++ and of its successors."""

from hardneg.encoders.bag import BagEncoder
from hardneg.encoders.image import FeatureEncoder, ImageEncoder
from hardneg.encoders.members import Members
from hardneg.encoders.pooling import GeneralizedPool, LastPool, MaxPool, MeanPool, pooling_named
from hardneg.encoders.residual import ResidualMLP
from hardneg.encoders.standard import StandardScaler
from hardneg.encoders.sum import SumEncoder
from hardneg.encoders.text import TextEncoder
from hardneg.encoders.transformer import TransformerTextEncoder

__all__ = [
    "BagEncoder",
    "FeatureEncoder",
    "GeneralizedPool",
    "ImageEncoder",
    "LastPool",
    "MaxPool",
    "MeanPool",
    "Members",
    "ResidualMLP",
    "StandardScaler",
    "SumEncoder",
    "TextEncoder",
    "TransformerTextEncoder",
    "pooling_named",
]
