"""The shape of an encoder, with the keys of `config.json` and `bert_config.json`."""

import dataclasses
import json
import pathlib

NORMALIZATIONS = ("no_norm", "layer_norm")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")

# Keys whose values change what the network computes; a value other than this one is not implemented.
_ONLY = {"position_embedding_type": ("absolute", None), "is_decoder": (False, None), "add_cross_attention": (False, None)}


class _Json:
    """Reading and writing of configuration files."""

    @classmethod
    def from_dict(cls, values, source="the configuration"):
        """Reads a dictionary with Google's or Hugging Face's keys; keys that do not shape the encoder are passed over.

        Raises:
          ValueError: a value asks for something that is not implemented, or does not fit; `source` is named.
        """
        for key, possible in _ONLY.items():
            if values.get(key) not in possible:
                raise ValueError(f"{source}: {key} {values[key]!r} is not supported, only {possible[0]!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in values.items() if key in known and value is not None})
        except (TypeError, ValueError) as error:
            raise type(error)(f"{source}: {error}") from error

    @classmethod
    def from_json(cls, source):
        """Reads JSON text, or the file at a path."""
        if isinstance(source, str) and source.lstrip().startswith("{"):
            name, text = "the configuration", source
        else:
            name, text = str(source), pathlib.Path(source).read_text(encoding="utf-8")
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{name} should hold a JSON object, got {type(values).__name__}")
        return cls.from_dict(values, source=name)

    def to_dict(self):
        """The keys and values of a configuration file."""
        return dataclasses.asdict(self)

    def to_json(self):
        """JSON text that `from_json`, and the original code of both families, read."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


@dataclasses.dataclass(frozen=True)
class BertConfig(_Json):
    """The sizes of a BERT encoder. The names are those of Google's and Hugging Face's configuration files.

    >>> config = BertConfig(hidden_size=128, num_attention_heads=2, num_hidden_layers=2, intermediate_size=512)
    >>> BertConfig.from_json(config.to_json()) == config
    True

    The defaults are BERT-base, uncased; `base()`, `large()`, `medium()`, `small()`, `mini()` and `tiny()` are the named sizes, and
    `of_size(layers, width)` any of Google's 24 small models. DistilBERT is the same encoder with `type_vocab_size=0` (no
    segments) and `add_pooling_layer=False`. `hidden_act` is one of `gelu` (exact, by erf), `gelu_new` or
    `gelu_pytorch_tanh` (the tanh approximation), `relu`, `silu`, `tanh`. Dropouts are probabilities.

    Raises:
      TypeError, ValueError: a size that is not a positive whole number, heads that do not divide the width, an unknown
        activation, a dropout outside [0, 1).
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

    def __post_init__(self):
        _check_types(self, may_be_zero=("pad_token_id", "type_vocab_size"))
        _check_values(self)

    @classmethod
    def of_size(cls, num_hidden_layers, hidden_size, **changes):
        """A BERT of that depth and width, with heads 64 wide and a feed-forward four times the width (Turc et al. 2019).

        >>> BertConfig.of_size(2, 128).num_attention_heads
        2
        """
        sizes = {
            "num_hidden_layers": num_hidden_layers,
            "hidden_size": hidden_size,
            "num_attention_heads": max(1, hidden_size // 64),
            "intermediate_size": 4 * hidden_size,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def tiny(cls, **changes):
        """2 layers, 128 wide."""
        return cls.of_size(2, 128, **changes)

    @classmethod
    def mini(cls, **changes):
        """4 layers, 256 wide."""
        return cls.of_size(4, 256, **changes)

    @classmethod
    def small(cls, **changes):
        """4 layers, 512 wide."""
        return cls.of_size(4, 512, **changes)

    @classmethod
    def medium(cls, **changes):
        """8 layers, 512 wide."""
        return cls.of_size(8, 512, **changes)

    @classmethod
    def base(cls, **changes):
        """12 layers, 768 wide."""
        return cls.of_size(12, 768, **changes)

    @classmethod
    def large(cls, **changes):
        """24 layers, 1024 wide."""
        return cls.of_size(24, 1024, **changes)


@dataclasses.dataclass(frozen=True)
class MobileBertConfig(_Json):
    """The sizes of a MobileBERT encoder (Sun et al. 2020), with the keys of Hugging Face's configuration file.

    >>> MobileBertConfig().bottleneck_size
    128

    The defaults are the published MobileBERT: 24 blocks that are 512 wide at their ends and 128 inside. `embedding_size` is the
    width of a token's vector before the three of a token and its neighbours (`trigram_input`) are projected to
    `hidden_size`; `normalization_type` is `no_norm` (a scale and a shift) or `layer_norm`; a block has `num_feedforward_networks`
    feed-forwards in a row. With `classifier_activation` the pooler is a layer with tanh, without it the first token's vector.

    Raises:
      TypeError, ValueError: as for `BertConfig`; queries that would read 512-wide rows where 128-wide ones are expected
        (`key_query_shared_bottleneck=False` without `use_bottleneck_attention`), which transformers cannot run either.
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

    def __post_init__(self):
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
    def bottleneck_size(self):
        """The width inside a block."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size


def _check_types(config, may_be_zero):
    """Each value is of its field's type, and a size is at least 1."""
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


def _check_values(config):
    """What both architectures ask of their values."""
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
    if config.pad_token_id >= config.vocab_size:
        raise ValueError(f"pad_token_id {config.pad_token_id} is outside the vocabulary of {config.vocab_size} tokens")
