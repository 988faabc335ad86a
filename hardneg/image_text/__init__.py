"""Trained models of images and texts that travel: words, towers, pictures and similarity in one folder.

::

    from hardneg.image_text import ImageTextModel

    model = ImageTextModel.from_pretrained("my-model")  # a folder, or a repository on the Hub
    scores = model.similarity(model.embed_images(features), model.embed(["a dog runs"]))
"""

from hardneg.image_text.model import ImageTextModel
from hardneg.image_text.pictures import PictureView
from hardneg.image_text.text_network import TextNetwork
from hardneg.image_text.towers import TowerConfig
from hardneg.image_text.vocabulary import Vocabulary

__all__ = ["ImageTextModel", "PictureView", "TextNetwork", "TowerConfig", "Vocabulary"]
