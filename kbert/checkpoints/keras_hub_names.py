"""The names of KerasHub's configuration keys, classes and weights, for each architecture that kbert reads."""

from __future__ import annotations

from kbert.checkpoints.names import Family, Rule
from kbert.config import BertConfig

EPSILON = 1e-12  # of the layer norms of KerasHub's encoder
MASKED_LM_HEAD = {"head_act": "gelu", "head_layer_norm_eps": 1e-5}
# By the class that task.json or config.json names, its head.
HEADS = {
    "BertBackbone": "",
    "BertTextEmbedder": "",
    "BertTextClassifier": "SequenceClassification",
    "BertClassifier": "SequenceClassification",  # of KerasNLP
    "BertMaskedLM": "MaskedLM",
    "DistilBertBackbone": "",
    "DistilBertTextClassifier": "SequenceClassification",
    "DistilBertClassifier": "SequenceClassification",
    "DistilBertMaskedLM": "MaskedLM",
}


def _dense(path: str, *names: str, variables: tuple[str, str] = ("kernel", "bias")) -> list[Rule]:
    """Returns the rules of a dense layer, or of several that are one of ours."""
    return [Rule(f"{path}.{kind}", tuple(f"{name}/vars/{n}" for name in names)) for n, kind in enumerate(variables)]


def _norm(path: str, name: str) -> list[Rule]:
    """Returns the rules of a layer norm."""
    return _dense(path, name, variables=("gamma", "beta"))


_LAYER = "layers/transformer_encoder{_n}"
_ATTENTION = f"{_LAYER}/_self_attention_layer"
_HEAD = "task/layers/masked_lm_head"  # what is in task.weights.h5 has this prefix here
_BLOCK = [
    *_dense("blocks.{n}.attention.qkv", *(f"{_ATTENTION}/{kind}_dense" for kind in ("query", "key", "value"))),
    *_dense("blocks.{n}.attention.output_projection", f"{_ATTENTION}/output_dense"),
    *_norm("blocks.{n}.attention_norm", f"{_LAYER}/_self_attention_layer_norm"),
    *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}/_feedforward_intermediate_dense"),
    *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}/_feedforward_output_dense"),
    *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/_feedforward_layer_norm"),
]
_MASKED_LM = [
    *_dense("token_head.transform", f"{_HEAD}/_intermediate_dense"),
    *_norm("token_head.norm", f"{_HEAD}/_intermediate_layer_norm"),
    Rule("token_head.bias", (f"{_HEAD}/vars/0",)),
]
FAMILY = Family(
    name="Bert",
    prefix="",
    config_class=BertConfig,
    keys={
        "vocab_size": "vocabulary_size",
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "intermediate_dim",
        "hidden_dropout_prob": "dropout",
        "max_position_embeddings": "max_sequence_length",
        "type_vocab_size": "num_segments",
    },
    implied={"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": EPSILON},
    stated={},
    embeddings=lambda config: [
        Rule("embeddings.tokens", ("layers/reversible_embedding/vars/0",)),
        Rule("embeddings.positions", ("layers/position_embedding/vars/0",)),
        Rule("embeddings.segments", ("layers/embedding/vars/0",)),
        *_norm("embeddings.norm", "layers/layer_normalization"),
    ],
    block=lambda config: _BLOCK,
    pooler=_dense("pooler", "layers/dense"),
    heads={
        "SequenceClassification": _dense("classifier", "task/layers/dense"),
        "MaskedLM": _MASKED_LM,
    },
)
_EMBEDDING = "layers/token_and_position_embedding"
DISTILBERT = FAMILY._replace(
    name="DistilBert",
    keys={key: stored for key, stored in FAMILY.keys.items() if key != "type_vocab_size"},
    implied={"hidden_act": "gelu", "layer_norm_eps": EPSILON, "type_vocab_size": 0, "add_pooling_layer": False},
    embeddings=lambda config: [
        Rule("embeddings.tokens", (f"{_EMBEDDING}/token_embedding/vars/0",)),
        Rule("embeddings.positions", (f"{_EMBEDDING}/position_embedding/vars/0",)),
        *_norm("embeddings.norm", "layers/layer_normalization"),
    ],
    pooler=[],
    heads={
        "SequenceClassification": [
            *_dense("pre_classifier", "task/layers/dense"),
            *_dense("classifier", "task/layers/dense_1"),
        ],
        "MaskedLM": _MASKED_LM,
    },
)
FAMILIES = {"BertBackbone": FAMILY, "DistilBertBackbone": DISTILBERT}
# From the ways in which KerasHub cuts pairs to ours.
TRUNCATIONS = {"round_robin": "round_robin", "waterfall": "only_second"}
