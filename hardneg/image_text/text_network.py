"""A HuggingFace text network in a form that travels: its tokenizer and its configuration, no code, no weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from hardneg.extras import require
from hardneg.image_text.vocabulary import Vocabulary

__all__ = ["TextNetwork", "words_from_record"]

FORMAT = "hardneg text network 1"
PURPOSE = "a HuggingFace text network"
DROPPED = (
    "auto_map",
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "quantization_config",
)
"""What a configuration says of code, of files and of weights that are not used."""
LARGEST, MOST_LAYERS = 10_000_000, 1_000


@dataclass(frozen=True)
class TextNetwork:
    """What makes tokens of a text, and what reads them; it stands in a vocabulary's place.

    Args:
        definition: the tokenizer, as the JSON of the ``tokenizers`` library.
        config: the network's configuration, as JSON.
        made_from: the name or the folder that both came from, for people to read.
        unknown: the id that hides a token while training; None where the tokenizer has none.
    """

    definition: str
    config: str
    made_from: str
    unknown: int | None = None

    @classmethod
    def named(cls, name: str) -> TextNetwork:
        """The network of a repository of the Hub, or of a folder; its code is never run."""
        transformers = require("transformers", "transformers", PURPOSE)
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name)
            config: Any = transformers.AutoConfig.from_pretrained(name)
        # What the Hub, a folder's JSON and the library's own checks raise.
        except Exception as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(
                f"hf:{name} cannot be had ({said:.160}): name a repository of the Hub, or a folder "
                "with a tokenizer and a text network"
            ) from error
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"hf:{name} has no tokenizer of the tokenizers library: choose another"
            )
        words = tokenizer.backend_tokenizer
        words.no_padding()
        longest = getattr(config, "max_position_embeddings", None) or LARGEST
        words.enable_truncation(int(min(longest, tokenizer.model_max_length, LARGEST)))
        unknown = tokenizer.mask_token_id
        unknown = tokenizer.unk_token_id if unknown is None else unknown
        return cls(words.to_str(), json.dumps(plain(config.to_diff_dict())), name, unknown)

    @property
    def tokenizer(self) -> str:
        """What kind of words these are."""
        return "huggingface"

    @cached_property
    def words(self) -> Any:
        """The tokenizer itself."""
        tokenizers = require("tokenizers", "transformers", PURPOSE)
        try:
            return tokenizers.Tokenizer.from_str(self.definition)
        # A damaged definition may raise an exception that is none (a panic of the library).
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"the tokenizer cannot be read ({error!s:.80})") from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: one for name, one in self.__dict__.items() if name != "words"}

    def __len__(self) -> int:
        return int(self.words.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, at least one."""
        ids: list[int] = self.words.encode(text).ids
        return ids or [self.unknown or 0]

    def network(self) -> nn.Module:
        """The network with random weights.

        Raises:
            ValueError: where the configuration is of no network that reads tokens.
        """
        transformers = require("transformers", "transformers", PURPOSE)
        try:
            values = checked(json.loads(self.config))
            config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
            found: Any = transformers.AutoModel.from_config(config)
        # The library's own checks of a configuration raise what they meet.
        except Exception as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(
                f"the configuration is of no text network that transformers knows ({said:.160})"
            ) from error
        return without_pooler(found)

    def pretrained(self) -> nn.Module:
        """The network with the weights of the name or the folder."""
        transformers = require("transformers", "transformers", PURPOSE)
        found: Any = transformers.AutoModel.from_pretrained(self.made_from, dtype=torch.float32)
        return without_pooler(found)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON and for checkpoints."""
        return {
            "format": FORMAT,
            "definition": self.definition,
            "config": json.loads(self.config),
            "made_from": self.made_from,
            "unknown": self.unknown,
        }

    @classmethod
    def from_record(cls, record: Any, where: str) -> TextNetwork:
        """Back from plain values, which may be a stranger's."""
        kinds = {"definition": str, "config": dict, "made_from": str, "unknown": int | None}
        for name, kind in kinds.items():
            if name not in record or not isinstance(record[name], kind):
                raise ValueError(
                    f"{where}: {name} of the text network is missing or of a wrong kind"
                )
        values = {name: record[name] for name in kinds}
        found = cls(**{**values, "config": json.dumps(plain(checked(values["config"])))})
        if found.unknown is not None and not 0 <= found.unknown < max(1, len(found)):
            raise ValueError(f"{where}: unknown is {found.unknown}: expected the id of a token")
        return found


def words_from_record(record: Any, where: str) -> Vocabulary | TextNetwork:
    """A vocabulary, or what stands in its place."""
    if isinstance(record, dict) and record.get("format") == FORMAT:
        return TextNetwork.from_record(record, where)
    return Vocabulary.from_record(record, where)


def without_pooler(network: Any) -> nn.Module:
    """The network without a layer behind its states that nothing trains."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    found: nn.Module = network
    return found


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without private values, code and weights."""
    return {name: one for name, one in config.items() if name not in DROPPED and name[:1] != "_"}


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose numbers no network needs years to build.

    Raises:
        ValueError: for one that does.
    """
    stack: list[tuple[str, Any]] = list(config.items())
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack += value.items()
        elif isinstance(value, list | tuple):
            stack += [(name, one) for one in value]
        elif isinstance(value, int) and abs(value) > (MOST_LAYERS if "layer" in name else LARGEST):
            raise ValueError(f"{name:.40} is {value}: no text network is so large")
    return config
