"""Sentences, and a folder with a model of two layers for sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = [f"w{i}" for i in range(40)]
COLUMNS = [
    ["w1 w2", "w3 w4 w5", "w6", "w7 w8 w9 w10", "w11 w12", "w13 w1"],
    ["w2 w1 w4", "w5", "w6 w7", "w8 w9", "w12 w3 w1 w2", "w14"],
    ["w20", "w21 w22", "w23 w24", "w25 w1", "w26 w27", "w28"],
    ["w30 w31 w32", "w33", "w34 w2", "w35", "w36 w37", "w38 w39"],
]


def make_model(path: Path) -> None:
    """Save a model of two layers."""
    from transformers import BertConfig, BertModel, BertTokenizer

    path.mkdir(exist_ok=True)
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(known))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(path)
    BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
