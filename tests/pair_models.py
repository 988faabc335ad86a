"""Models of images and texts that take no time: open_clip's form, CLIP and SigLIP of one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

TINY = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**TINY, "vocab_size": 20, "max_position_embeddings": 8, "eos_token_id": 2}
VISION = {**TINY, "image_size": 4, "patch_size": 2}


def clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=6)).double()


def siglip() -> Any:
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).double()
    for scalar, value in ((model.logit_scale, 1.5), (model.logit_bias, -3.0)):
        nn.init.constant_(scalar, value)
    return model


def batch(n: int = 8) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    words = torch.randint(3, 20, (n, 6), generator=g)
    words[:, -1] = 2
    return {"input_ids": words, "pixel_values": torch.randn(n, 3, 4, 4, generator=g).double()}


class Features(nn.Module):
    """What open_clip's models return."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.images, self.texts = nn.Linear(5, 4).double(), nn.Linear(6, 4).double()
        self.logit_scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.logit_bias = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {
            "image_features": normalize(self.images(images)),
            "text_features": normalize(self.texts(texts)),
            "logit_scale": self.logit_scale.exp(),
            "logit_bias": self.logit_bias,
        }


def inputs(n: int = 12) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return tuple(torch.randn(n, width, generator=g, dtype=torch.float64) for width in (5, 6))  # type: ignore[return-value]
