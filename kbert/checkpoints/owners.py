"""What the writers of checkpoints ask of the objects that own weights: attributes, never classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kbert.checkpoints.names import Config


class Encoder(Protocol):
    """An owner of an encoder's weights, which are at the dotted paths of the rules."""

    @property
    def config(self) -> Config: ...

    @property
    def dtype_policy(self) -> Any: ...

    def __call__(self, inputs: Any, training: bool | None = None) -> Any: ...


class Tokenizer(Protocol):
    """A WordPiece tokenizer, which has an attribute for each key of `kbert.files.vocabulary.SPECIAL_TOKENS`."""

    pad_token: str
    unk_token: str
    cls_token: str
    sep_token: str
    mask_token: str

    @property
    def vocabulary(self) -> list[str]: ...

    @property
    def lowercase(self) -> bool: ...

    @property
    def strip_accents(self) -> bool | None: ...

    @property
    def tokenize_chinese_chars(self) -> bool: ...

    @property
    def clean_text(self) -> bool: ...

    @property
    def max_input_chars_per_word(self) -> int: ...

    added_tokens: list[str]
    added_words: list[str]


class Preprocessor(Protocol):
    """A tokenizer, and the most positions of a row."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_length(self) -> int: ...


class HeadOwner(Protocol):
    """A task, which owns a head's weights. A classifier also has `labels` and `dropout_rate`."""

    @property
    def head(self) -> str: ...  # its name in `Family.heads`

    @property
    def pools(self) -> bool: ...  # whether it uses the encoder's pooler

    def preset_config(self) -> dict[str, Any]: ...  # the head's keys in config.json

    def __call__(self, inputs: Any, training: bool | None = None) -> Any: ...


class Embedder(Protocol):
    """A task that turns texts into vectors, with the options of sentence-transformers' modules."""

    encoder: Any
    preprocessor: Any
    pooling: str
    normalize: bool
    dense: Sequence[dict[str, Any]]  # each with `width` and `activation`
    dense_layers: Sequence[Any]
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    include_prompt: bool
    similarity_kind: str
