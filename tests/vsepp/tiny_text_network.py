"""A HuggingFace text network and its tokenizer, tiny and random, in a folder."""

from pathlib import Path

import torch

from tiny_data import ANIMALS, COLOURS

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_text_network(folder: Path, **changed: int) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast

    words = [*MARKS, *COLOURS, *ANIMALS, "a", "one", "in", "the", "grass", "runs", "look", "number"]
    words += [*map(str, range(10)), *(f"##{number}" for number in range(10))]
    ids = {word: number for number, word in enumerate(words)}
    tokens = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer()
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=marks
    )
    named = dict(zip(("pad", "unk", "cls", "sep", "mask"), MARKS, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, **{f"{name}_token": mark for name, mark in named.items()}
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 12, **changed}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return folder
