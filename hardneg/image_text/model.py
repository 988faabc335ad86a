"""A model of images and texts with all that is needed to use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hardneg.image_text.batches import check_batch, evaluated
from hardneg.image_text.exporting import export_images, export_text
from hardneg.image_text.files import config_told, weights_file
from hardneg.image_text.pictures import PictureView, checked_pictures
from hardneg.image_text.records import check_number, check_word, from_record
from hardneg.image_text.text_network import TextNetwork, words_from_record
from hardneg.image_text.towers import (
    TowerConfig,
    feature_tower,
    picture_tower,
    side_by_side,
    tower_of_words,
)
from hardneg.image_text.vocabulary import PAD, Vocabulary
from hardneg.image_text.weights import model_with_weights, save_weights
from hardneg.similarities import Dot, Order

try:
    from huggingface_hub import PyTorchModelHubMixin
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "hardneg.image_text needs huggingface_hub and safetensors: pip install 'hardneg[serving]'"
    ) from error

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch.export import ExportedProgram

__all__ = ["ImageTextModel"]

VERSION = 1
WIDEST = 1_000_000
CARD = """---
{{ card_data }}
---
A model of images and texts in one space, trained with hard negatives.

    from hardneg.image_text import ImageTextModel  # hardneg with its extra serving

    model = ImageTextModel.from_pretrained("this folder or repository")
    scores = model.similarity(model.embed_images(images), model.embed(["a dog runs"]))
"""


class ImageTextModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="hardneg",
    tags=["image-text-retrieval"],
    model_card_template=CARD,
):
    """Two towers with their words, their view of pictures and their similarity.

    ``save_pretrained(folder)`` writes ``model.safetensors`` and ``config.json``; ``from_pretrained(folder)``
    reads them, or a repository of the Hub, and runs nothing in them: weights that are pickled are not read.

    Args:
        towers: the shape of both towers.
        vocabulary: the words of texts, and how a text becomes words; or a ``TextNetwork``.
        feature_dim: the width of precomputed features; None for pictures.
        pictures: how pictures are looked at; None for features.
        measure: ``"cosine"`` or ``"order"``.
        version: of the configuration.

    All of these may be given as the plain values that ``config.json`` holds.

    Raises:
        ValueError: for values that no model has.

    Example:
        >>> words = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "dog"), "regex", "an example")
        >>> model = ImageTextModel(TowerConfig(embed_dim=8, word_dim=4), words, feature_dim=6)
        >>> images, texts = model.embed_images(torch.rand(3, 6)), model.embed(["a dog", "a cat"])
        >>> model.similarity(images, texts).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        towers: TowerConfig | dict[str, Any],
        vocabulary: Vocabulary | TextNetwork | dict[str, Any],
        feature_dim: int | None = None,
        pictures: PictureView | dict[str, Any] | None = None,
        measure: str = "cosine",
        version: int = VERSION,
    ) -> None:
        super().__init__()
        check_word("version", version, (VERSION,))
        check_word("measure", measure, ("cosine", "order"))
        if (feature_dim is None) == (pictures is None):
            raise ValueError(
                "expected either feature_dim or pictures: a model sees one or the other"
            )
        self.towers = from_record(TowerConfig, towers, "towers")
        if not isinstance(vocabulary, Vocabulary | TextNetwork):
            vocabulary = words_from_record(vocabulary, "vocabulary")
        self.vocabulary, self.measure = vocabulary, measure
        self.pictures, self.feature_dim = None, feature_dim
        if pictures is None:
            check_number("feature_dim", feature_dim, 1, WIDEST)
            width = int(feature_dim or 0)
            self.image = side_by_side(self.towers, lambda one: feature_tower(one, width))
        else:
            if self.towers.members > 1:
                raise ValueError("members is above 1: expected feature_dim instead of pictures")
            self.pictures = from_record(PictureView, pictures, "pictures")
            self.image = picture_tower(self.towers)
        self.text = tower_of_words(self.towers, vocabulary)
        self._hub_mixin_config = self.record()
        self.eval()

    _save_pretrained = save_weights

    def record(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {
            "towers": asdict(self.towers),
            "vocabulary": self.vocabulary.record(),
            "feature_dim": self.feature_dim,
            "pictures": None if self.pictures is None else asdict(self.pictures),
            "measure": self.measure,
            "version": VERSION,
        }

    @property
    def similarity(self) -> Dot | Order:
        """What compares images (its queries) with texts; ``similarity.swapped()`` the other way."""
        return Order() if self.measure == "order" else Dot()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return next(self.parameters()).dtype

    def forward(
        self, images: Tensor, words: Tensor, lengths: Tensor
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """Images and texts, as tensors, to their embeddings: for training on."""
        return self.image(images), self.text(words, lengths)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Float[Tensor, "n d"]:
        """The normalised embeddings of texts, on the model's device, in their order.

        Batches hold texts of like length. Nothing is trained: the model is in evaluation mode meanwhile.
        A text without words, such as ``""``, is embedded as its start and end marks (a text network's
        unknown token where it has none), so all of them have one embedding: leave them out if they should find nothing.
        """
        if isinstance(texts, str):
            raise TypeError("texts is a single text: expected a list of them, as [text]")
        ids = [torch.tensor(self.vocabulary.encode(text)) for text in texts]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        found = torch.empty(len(ids), self.towers.embed_dim, dtype=self.dtype, device=self.device)
        with evaluated(self):
            for start in range(0, len(order), check_batch(batch_size)):
                rows = order[start : start + batch_size]
                words = nn.utils.rnn.pad_sequence(
                    [ids[row] for row in rows], batch_first=True, padding_value=PAD
                )
                lengths = torch.tensor([len(ids[row]) for row in rows])
                found[rows] = self.text(words.to(self.device), lengths)
        return found

    @torch.no_grad()
    def embed_images(
        self, images: Any, batch_size: int = 128, *, normalize: bool = True
    ) -> Float[Tensor, "n d"]:
        """The embeddings of images, on the model's device, in their order.

        Args:
            images: features, ``n x feature_dim`` or ``n x regions x feature_dim`` (a tensor or an array); of a
                model of pictures, PIL pictures or a tensor that ``preprocess`` made.
            batch_size: how many go through the network together.
            normalize: L2-normalise what the tower does not; False for VSE0 as released, which compares lengths.
        """
        whole = self.pictures is None or isinstance(images, Tensor)
        given: Any = torch.as_tensor(images) if whole else checked_pictures(images)
        found = [torch.empty(0, self.towers.embed_dim, dtype=self.dtype, device=self.device)]
        with evaluated(self):
            for start in range(0, len(given), check_batch(batch_size)):
                part = given[start : start + batch_size]
                tensor = part if whole else self.preprocess(part)
                found.append(self.image(tensor.to(self.device, self.dtype)))
        embedded, normalize = torch.cat(found), normalize and not self.towers.image_norm
        return F.normalize(embedded, dim=1) if normalize else embedded

    def preprocess(self, pictures: Sequence[Any]) -> Float[Tensor, "n ..."]:
        """PIL pictures as the tensor that the image tower sees."""
        if self.pictures is None:
            raise ValueError(
                "this model sees features, not pictures: use the network of its features"
            )
        view = self.pictures.transform()
        return torch.stack([view(one.convert("RGB")) for one in checked_pictures(pictures)])

    def export_text(self, words: int = 64) -> ExportedProgram:
        """The text tower for ``torch.export``: ``(ids, lengths)`` of any number of texts, padded to so many
        ``words`` (start and end are two of them).
        """
        with evaluated(self):
            return export_text(self, words)

    def export_images(self) -> ExportedProgram:
        """The image tower for ``torch.export``: any number of features, or of preprocessed pictures."""
        with evaluated(self):
            return export_images(self)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> ImageTextModel:
        """A model from a folder, or from a repository of the Hub.

        Raises:
            ValueError: where its files are not those of such a model; nothing in them is run.
        """
        with config_told(pretrained_model_name_or_path):
            found: ImageTextModel = super().from_pretrained(
                pretrained_model_name_or_path, **options
            )
        return found

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        map_location: str | torch.device = "cpu",
        token: str | bool | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        proxies: Any = None,
        resume_download: Any = None,
        **values: Any,
    ) -> ImageTextModel:
        """Build the model without memory, then take the weights of the file.

        ``proxies`` and ``resume_download`` come from huggingface_hub below 1.0 alone.
        """
        if "towers" not in values or "vocabulary" not in values:
            raise ValueError(
                "no config.json of an image-text model; from a run of the trainer its `export RUN OUT` makes one"
            )
        options = {"revision": revision, "cache_dir": cache_dir, "force_download": force_download}
        path = weights_file(model_id, token=token, local_files_only=local_files_only, **options)
        return model_with_weights(lambda: cls(**values), path, map_location).eval()
