"""The sizes of an encoder, with the keys of `config.json` and `bert_config.json`."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from kbert.files.json import json_object, read_json

NORMALIZATIONS = ("no_norm", "layer_norm")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")

# Keys of other architectures, with the values that are implemented here.
_ONLY = {"position_embedding_type": ("absolute", None), "is_decoder": (False, None), "add_cross_attention": (False, None)}

Config = TypeVar("Config", bound="_Json")


class _Json:
    """A configuration that configuration files can be read into and written from."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any], source: str = "the configuration") -> Config:
        """Reads a dictionary with Google's or Hugging Face's keys.

        Args:
          values: the keys and values. Keys that do not shape the encoder, and values that are None, are passed over.
          source: the name of the configuration in an error message, such as the path of its file.

        Raises:
          TypeError: if a value is of another type than its field.
          ValueError: if a value asks for something that is not implemented, or does not fit the others.
        """
        for key, possible in _ONLY.items():
            if values.get(key) not in possible:
                raise ValueError(f"{source}: {key} {values[key]!r} is not supported, only {possible[0]!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known and value is not None})
        except (TypeError, ValueError) as error:
            raise type(error)(f"{source}: {error}") from None

    @classmethod
    def from_json(cls: type[Config], source: str | os.PathLike[str]) -> Config:
        """Reads JSON text, or the file at a path.

        Args:
          source: text that starts with `{`, or the path of a `config.json` or `bert_config.json`.

        Raises:
          ValueError: if the text is not a JSON object, or `from_dict` refuses a value.
          TypeError: if a value is of another type than its field.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return cls.from_dict(json_object(source, "the configuration"), source="the configuration")
        return cls.from_dict(read_json(pathlib.Path(source)), source=str(source))

    def to_dict(self) -> dict[str, Any]:
        """Returns the keys and values of a configuration file."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Returns JSON text that `from_json`, Google's original code and transformers read."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


@dataclasses.dataclass(frozen=True)
class BertConfig(_Json):
    """The sizes of a BERT encoder (Devlin et al. 2018), named as in Google's and Hugging Face's configuration files.

    >>> config = BertConfig(hidden_size=128, num_attention_heads=2, num_hidden_layers=2, intermediate_size=512)
    >>> BertConfig.from_json(config.to_json()) == config
    True

    The defaults are BERT-base, uncased. `base()`, `large()`, `medium()`, `small()`, `mini()` and `tiny()` make the named sizes,
    and `of_size(layers, width)` makes any of Google's 24 small models. DistilBERT is the same encoder with `type_vocab_size=0`
    and `add_pooling_layer=False`.

    Args:
      vocab_size: the number of tokens, `V`.
      hidden_size: the width of a token's vector, `H`.
      num_hidden_layers: the number of blocks.
      num_attention_heads: the number of attention heads; it divides the width.
      intermediate_size: the width between the two projections of a feed-forward.
      hidden_act: the activation there: `gelu` (exact, by erf), `gelu_new` or `gelu_pytorch_tanh` (both the approximation by
        tanh), `relu`, `silu` or `tanh`.
      hidden_dropout_prob: the probability of dropout on rows, at least 0 and below 1.
      attention_probs_dropout_prob: the probability of dropout on attention weights, at least 0 and below 1.
      max_position_embeddings: the largest number of positions in a row, `L`.
      type_vocab_size: the number of segments, or 0 for an encoder without segments.
      initializer_range: the standard deviation of the initial matrices.
      layer_norm_eps: the epsilon of layer norms.
      pad_token_id: the id of [PAD], whose embedding is not trained.
      add_pooling_layer: whether the encoder has a pooler, the layer of `pooled_output`.

    Raises:
      TypeError: if a value is of another type than its field.
      ValueError: if a size is not positive, the heads do not divide the width, the activation is unknown, a dropout is outside
        [0, 1), or `pad_token_id` is outside the vocabulary.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    add_pooling_layer: bool = True

    def __post_init__(self) -> None:
        _check_types(self, may_be_zero=("pad_token_id", "type_vocab_size"))
        _check_values(self)

    @classmethod
    def of_size(cls, num_hidden_layers: int, hidden_size: int, **changes: Any) -> "BertConfig":
        """Returns a BERT with heads 64 wide and a feed-forward four times the width (Turc et al. 2019).

        >>> BertConfig.of_size(2, 128).num_attention_heads
        2

        Args:
          num_hidden_layers: the number of blocks.
          hidden_size: the width of a token's vector.
          **changes: values of other fields.
        """
        sizes: dict[str, Any] = {
            "num_hidden_layers": num_hidden_layers,
            "hidden_size": hidden_size,
            "num_attention_heads": max(1, hidden_size // 64),
            "intermediate_size": 4 * hidden_size,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def tiny(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-tiny: 2 layers, 128 wide. `changes` are values of other fields."""
        return cls.of_size(2, 128, **changes)

    @classmethod
    def mini(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-mini: 4 layers, 256 wide. `changes` are values of other fields."""
        return cls.of_size(4, 256, **changes)

    @classmethod
    def small(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-small: 4 layers, 512 wide. `changes` are values of other fields."""
        return cls.of_size(4, 512, **changes)

    @classmethod
    def medium(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-medium: 8 layers, 512 wide. `changes` are values of other fields."""
        return cls.of_size(8, 512, **changes)

    @classmethod
    def base(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-base: 12 layers, 768 wide. `changes` are values of other fields."""
        return cls.of_size(12, 768, **changes)

    @classmethod
    def large(cls, **changes: Any) -> "BertConfig":
        """Returns BERT-large: 24 layers, 1024 wide. `changes` are values of other fields."""
        return cls.of_size(24, 1024, **changes)


@dataclasses.dataclass(frozen=True)
class MobileBertConfig(_Json):
    """The sizes of a MobileBERT encoder (Sun et al. 2020), with the keys of Hugging Face's configuration file.

    >>> MobileBertConfig().bottleneck_size
    128

    The defaults are the published MobileBERT: 24 blocks that are 512 wide at their ends and 128 inside.

    Args:
      vocab_size: the number of tokens, `V`.
      hidden_size: the width of a token's vector, `H`.
      num_hidden_layers: the number of blocks.
      num_attention_heads: the number of attention heads; it divides the width.
      intermediate_size: the width between the two projections of a feed-forward.
      hidden_act: the activation there: `gelu` (exact, by erf), `gelu_new` or `gelu_pytorch_tanh` (both the approximation by
        tanh), `relu`, `silu` or `tanh`.
      hidden_dropout_prob: the probability of dropout on rows, at least 0 and below 1.
      attention_probs_dropout_prob: the probability of dropout on attention weights, at least 0 and below 1.
      max_position_embeddings: the largest number of positions in a row, `L`.
      type_vocab_size: the number of segments.
      initializer_range: the standard deviation of the initial matrices.
      layer_norm_eps: the epsilon of layer norms.
      pad_token_id: the id of [PAD], whose embedding is not trained.
      embedding_size: the width of a token's vector before it is projected to `hidden_size`.
      trigram_input: whether the vectors of a token and of its two neighbours are projected together.
      use_bottleneck: whether a block's inside is `intra_bottleneck_size` wide; otherwise it is `hidden_size` wide.
      intra_bottleneck_size: the width inside a block with a bottleneck.
      use_bottleneck_attention: whether queries, keys and values are all made from the block's narrow input.
      key_query_shared_bottleneck: whether queries and keys are made from a narrow projection of their own.
      num_feedforward_networks: the number of feed-forwards in a row in each block.
      normalization_type: `no_norm` (a scale and a shift) or `layer_norm`.
      classifier_activation: whether the pooler is a layer with tanh; otherwise `pooled_output` is the first token's vector.
      add_pooling_layer: whether the encoder gives a `pooled_output`.

    Raises:
      TypeError: if a value is of another type than its field.
      ValueError: if a size is not positive, the heads do not divide the width, the activation or the normalization is unknown,
        a dropout is outside [0, 1), or `pad_token_id` is outside the vocabulary. Also if there is a bottleneck but neither
        `use_bottleneck_attention` nor `key_query_shared_bottleneck`: queries of the narrow width would then be made from rows
        of the full width, which transformers cannot run either.
    """

    vocab_size: int = 30522
    hidden_size: int = 512
    num_hidden_layers: int = 24
    num_attention_heads: int = 4
    intermediate_size: int = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    embedding_size: int = 128
    trigram_input: bool = True
    use_bottleneck: bool = True
    intra_bottleneck_size: int = 128
    use_bottleneck_attention: bool = False
    key_query_shared_bottleneck: bool = True
    num_feedforward_networks: int = 4
    normalization_type: str = "no_norm"
    classifier_activation: bool = True
    add_pooling_layer: bool = True

    def __post_init__(self) -> None:
        _check_types(self, may_be_zero=("pad_token_id",))
        _check_values(self)
        if self.normalization_type not in NORMALIZATIONS:
            raise ValueError(
                f"normalization_type should be one of {', '.join(NORMALIZATIONS)}, got {self.normalization_type!r}"
            )
        if self.embedding_size > self.hidden_size:
            raise ValueError(f"embedding_size {self.embedding_size} is more than hidden_size {self.hidden_size}")
        attends_in_bottleneck = self.use_bottleneck_attention or self.key_query_shared_bottleneck
        if self.use_bottleneck and not attends_in_bottleneck and self.bottleneck_size != self.hidden_size:
            raise ValueError(
                "use_bottleneck needs use_bottleneck_attention or key_query_shared_bottleneck: without them queries of width "
                f"{self.bottleneck_size} would be made from rows of width {self.hidden_size}"
            )

    @property
    def bottleneck_size(self) -> int:
        """The width inside a block."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size


def _check_types(config: _Json, may_be_zero: tuple[str, ...]) -> None:
    """Raises an error for a value that is not of its field's type, or is less than 1 and not in `may_be_zero`."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int:
            smallest = 0 if field.name in may_be_zero else 1
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{field.name} should be a whole number, got {value!r}")
            if value < smallest:
                raise ValueError(f"{field.name} should be at least {smallest}, got {value}")
        elif field.type is bool and not isinstance(value, bool):
            raise TypeError(f"{field.name} should be true or false, got {value!r}")
        elif field.type is float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"{field.name} should be a number, got {value!r}")


def _check_values(config: "BertConfig | MobileBertConfig") -> None:
    """Raises a ValueError for a value that does not fit the others in any of the architectures."""
    width = getattr(config, "bottleneck_size", config.hidden_size)
    if width % config.num_attention_heads:
        raise ValueError(
            f"num_attention_heads should divide hidden_size, got {config.num_attention_heads} heads for a width of {width}"
        )
    if config.hidden_act not in ACTIVATIONS:
        raise ValueError(f"hidden_act should be one of {', '.join(ACTIVATIONS)}, got {config.hidden_act!r}")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} should be a probability below 1, got {getattr(config, name)}")
    for name in ("initializer_range", "layer_norm_eps"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} should be a finite number of at least 0, got {getattr(config, name)}")
    if config.pad_token_id >= config.vocab_size:
        raise ValueError(f"pad_token_id {config.pad_token_id} is outside the vocabulary of {config.vocab_size} tokens")
