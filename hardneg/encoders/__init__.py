"""Encoders of images and captions into one space: the towers of VSE++ and of its successors."""

from hardneg.encoders.image import FeatureEncoder, ImageEncoder
from hardneg.encoders.pooling import GeneralizedPool, LastPool, MaxPool, MeanPool, pooling_named
from hardneg.encoders.text import TextEncoder
from hardneg.encoders.transformer import TransformerTextEncoder

__all__ = [
    "FeatureEncoder",
    "GeneralizedPool",
    "ImageEncoder",
    "LastPool",
    "MaxPool",
    "MeanPool",
    "TextEncoder",
    "TransformerTextEncoder",
    "pooling_named",
]
