"""The names of Model Garden's weights, and the names of TF1 by which kbert's table knows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kbert.checkpoints import google
from kbert.checkpoints.names import Rule


def _dense(path: str, name: str) -> list[Rule]:
    """Returns the rules of a dense layer."""
    return [Rule(f"{path}.{kind}", (f"{name}/{kind}",)) for kind in ("kernel", "bias")]


_MASKED_LM = google.FAMILY.heads["MaskedLM"]
# The weights have Google's names here, which `place_of` gives them. The heads' last layers are dense layers as any other.
FAMILY = google.FAMILY._replace(
    prefix="",
    heads={
        "SequenceClassification": _dense("classifier", "task/classifier"),
        "TokenClassification": _dense("classifier", "task/tokens"),
        "QuestionAnswering": _dense("spans", "task/spans"),
        "MaskedLM": _MASKED_LM,
        "NextSentencePrediction": _dense("classifier", "task/next_sentence"),
        "PreTraining": [*_MASKED_LM, *_dense("next_sentence", "task/next_sentence")],
    },
)

_PARTS = r"(?P<part>kernel|bias|gamma|beta)"
_IN_BLOCK = {
    r"self_attention/(?P<kind>query|key|value)": "attention/self/{kind}",
    r"self_attention/attention_output": "attention/output/dense",
    r"self_attention_layer_norm": "attention/output/LayerNorm",
    r"intermediate": "intermediate/dense",
    r"output": "output/dense",
    r"output_layer_norm": "output/LayerNorm",
}
# From the full name of a variable to Google's name of the weight. Names of models and scopes may stand before it.
_PLACES = [
    (re.compile(r"word_embeddings/embeddings"), "embeddings/word_embeddings"),
    (re.compile(r"position_embeddings?/embeddings"), "embeddings/position_embeddings"),
    (re.compile(r"type_embeddings/embeddings"), "embeddings/token_type_embeddings"),
    (re.compile(rf"embeddings/layer_norm/{_PARTS}"), "embeddings/LayerNorm/{part}"),
    *(
        (re.compile(rf"transformer/layer_(?P<n>\d+)/{name}/{_PARTS}"), f"encoder/layer_{{n}}/{place}/{{part}}")
        for name, place in _IN_BLOCK.items()
    ),
    (re.compile(rf"pooler_transform/{_PARTS}"), "pooler/dense/{part}"),
    (re.compile(rf"cls/predictions/transform/(?P<kind>dense|LayerNorm)/{_PARTS}"), "cls/predictions/transform/{kind}/{part}"),
    (re.compile(r"cls/predictions/output_bias/bias"), "cls/predictions/output_bias"),
    (re.compile(rf"next_sentence/pooler_dense/{_PARTS}"), "task/next_sentence_pooler/{part}"),
    (re.compile(rf"next_sentence/logits/{_PARTS}"), "task/next_sentence/{part}"),
    (re.compile(rf"pooler_dense/{_PARTS}"), "task/classifier_pooler/{part}"),
    (re.compile(rf"predictions/transform/logits/{_PARTS}"), "task/tokens/{part}"),
    (re.compile(rf"sentence_prediction/logits/{_PARTS}"), "task/classifier/{part}"),
]
_EXPRESSIONS = [(re.compile(rf"(?:.*/)?{name.pattern}"), place) for name, place in _PLACES]
_SPANS = re.compile(r"span_labeling|layer_with_weights-\d+/layer_with_weights-0/")

# In x.weights.h5 and .keras a variable has its layer's class and a number in the place of a name.
_OF_CLASSES = {
    r"(?:on_device_embedding|_embedding_layer)/vars/0": "word_embeddings/embeddings",
    r"(?:on_device_embedding_1|_type_embedding_layer)/vars/0": "type_embeddings/embeddings",
    r"(?:position_embedding|_position_embedding_layer)/vars/0": "position_embedding/embeddings",
    r"(?:layers/layer_normalization|_embedding_norm_layer)/vars/(?P<norm>[01])": "embeddings/layer_norm/{part}",
    r"pooler_layer/vars/(?P<dense>[01])": "pooler_transform/{part}",
    r"transformer_encoder_block(?:_(?P<n>\d+))?/_attention_layer/_(?P<kind>query|key|value)_dense/vars/(?P<dense>[01])": (
        "transformer/layer_{n}/self_attention/{kind}/{part}"
    ),
    r"transformer_encoder_block(?:_(?P<n>\d+))?/_attention_layer/_output_dense/vars/(?P<dense>[01])": (
        "transformer/layer_{n}/self_attention/attention_output/{part}"
    ),
    r"transformer_encoder_block(?:_(?P<n>\d+))?/_attention_layer_norm(?:_kv)?/vars/(?P<norm>[01])": (
        "transformer/layer_{n}/self_attention_layer_norm/{part}"
    ),
    r"transformer_encoder_block(?:_(?P<n>\d+))?/_(?P<kind>intermediate|output)_dense/vars/(?P<dense>[01])": (
        "transformer/layer_{n}/{kind}/{part}"
    ),
    r"transformer_encoder_block(?:_(?P<n>\d+))?/_output_layer_norm/vars/(?P<norm>[01])": (
        "transformer/layer_{n}/output_layer_norm/{part}"
    ),
    r"layers/classification_head/out_proj/vars/(?P<dense>[01])": "sentence_prediction/logits/{part}",
    r"layers/classification_head/dense/vars/(?P<dense>[01])": "sentence_prediction/pooler_dense/{part}",
    r"layers/dense(?P<which>(?:_\d+)?)/vars/(?P<dense>[01])": "classifier{which}/{part}",
}
_CLASSES = [(re.compile(rf"(?:.*/)?{name}"), place) for name, place in _OF_CLASSES.items()]
_DENSE, _NORM = ("kernel", "bias"), ("gamma", "beta")

# Models of other architectures, by names that only they have.
_OTHERS = {
    "MobileBERT": r"mobile_?bert",  # has an embedding_projection too
    "ALBERT": r"albert|embedding_projection|(^|/)transformer/self_attention/",
    "ELECTRA": r"electra|discriminator",
    "T5": r"(^|/)t5|relpos_bias|relative_attention_bias",
    "XLNet": r"xl_?net|transformer_xl|(content|positional)_attention_bias",
    "a BERT with another attention": r"big_?bird|funnel|reuse_transformer|tn_transformer|sparse_mixer|moe",
}
OPTIMIZER = re.compile(
    r"\.OPTIMIZER_SLOT|(^|/)(optimizer\w*|keras_api|metrics|save_counter|global_step)(/|$)|(^|/)(iteration|learning_rate)$"
)


def place_of(full_name: str, key: str) -> str | None:
    """Returns Google's name of the weight that a variable holds, or None.

    >>> place_of("bert_encoder/transformer/layer_3/output/kernel", "variables/57")
    'encoder/layer_3/output/dense/kernel'

    Args:
      full_name: the variable's own name.
      key: where the variable is in the file. Heads for tokens and for spans have the same names; only the keys differ.
    """
    for expression, place in _EXPRESSIONS:
        match = expression.fullmatch(full_name)
        if match:
            found = place.format(**match.groupdict())
            return found.replace("/tokens/", "/spans/") if _SPANS.search(key) else found
    return None


def name_of_class(key: str) -> str | None:
    """Returns the full name that a variable of x.weights.h5 would have, or None.

    >>> name_of_class("layers/bert_encoder/layers/on_device_embedding/vars/0")
    'word_embeddings/embeddings'

    Args:
      key: the dataset's path.
    """
    for expression, name in _CLASSES:
        match = expression.fullmatch(key)
        if match:
            groups = match.groupdict()
            part = _NORM[int(groups["norm"])] if groups.get("norm") else _DENSE[int(groups.get("dense") or 0)]
            return name.format(n=groups.get("n") or 0, kind=groups.get("kind"), which=groups.get("which"), part=part)
    return None


def names_in_order(count: int) -> list[str] | None:
    """Returns the full names of a hub.KerasLayer's variables, which are stored in the order in which the encoder makes them.

    Args:
      count: how many variables there are; `do_lower_case` may be the last one. Another number gives None.
    """
    layers, more = divmod(count - 7, 16)
    if layers < 1 or more > 1:
        return None
    names = ["word_embeddings/embeddings", "position_embedding/embeddings", "type_embeddings/embeddings"]
    names += [f"embeddings/layer_norm/{part}" for part in _NORM]
    for n in range(layers):
        block = f"transformer/layer_{n}"
        attention = [f"{block}/self_attention/{kind}" for kind in ("query", "key", "value", "attention_output")]
        names += [f"{name}/{part}" for name in attention for part in _DENSE]
        names += [f"{block}/self_attention_layer_norm/{part}" for part in _NORM]
        names += [f"{block}/{name}/{part}" for name in ("intermediate", "output") for part in _DENSE]
        names += [f"{block}/output_layer_norm/{part}" for part in _NORM]
    return [*names, *(f"pooler_transform/{part}" for part in _DENSE), *(["do_lower_case"] * more)]


def other_model(names: Iterable[str]) -> str | None:
    """Returns the name of the architecture other than BERT whose variables these are, or None."""
    text = "\n".join(names)
    return next((model for model, name in _OTHERS.items() if re.search(name, text, re.IGNORECASE | re.MULTILINE)), None)


def dense_head(shapes: Mapping[str, tuple[int, ...]], width: int) -> list[str]:
    """Returns the names of the dense layers that take the encoder's vectors or each other's, for example `["classifier"]`.

    Args:
      shapes: those of the variables that are no weights of Model Garden's, by full name.
      width: the encoder's.
    """
    layers = [name.removesuffix("/kernel") for name, shape in shapes.items() if name.endswith("/kernel") and len(shape) == 2]
    return [name for name in layers if f"{name}/bias" in shapes and shapes[f"{name}/kernel"][0] == width]
