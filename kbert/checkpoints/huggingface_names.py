"""The names of Hugging Face's configuration keys and weights, for each architecture that kbert reads. These are tables only."""

from __future__ import annotations

import re

from kbert.checkpoints.names import Family, Rule
from kbert.config import BertConfig, MobileBertConfig


def _dense(path: str, *names: str) -> list[Rule]:
    """Returns the rules of a dense layer, or of several that are one of ours."""
    return [
        Rule(f"{path}.kernel", tuple(f"{name}.weight" for name in names), transposed=True),
        Rule(f"{path}.bias", tuple(f"{name}.bias" for name in names)),
    ]


def _norm(path: str, name: str) -> list[Rule]:
    """Returns the rules of a layer norm."""
    return [Rule(f"{path}.gamma", (f"{name}.weight",)), Rule(f"{path}.beta", (f"{name}.bias",))]


_TABLES = [
    Rule("embeddings.tokens", ("embeddings.word_embeddings.weight",)),
    Rule("embeddings.positions", ("embeddings.position_embeddings.weight",)),
    *_norm("embeddings.norm", "embeddings.LayerNorm"),
]
_SEGMENTS = Rule("embeddings.segments", ("embeddings.token_type_embeddings.weight",))
_LAYER, _DISTIL = "encoder.layer.{n}", "transformer.layer.{n}"


def _mobile_feed_forward(path: str, inner: str, outer: str) -> list[Rule]:
    """Returns the rules of one of MobileBERT's feed-forwards, whose two halves have names of their own in the file."""
    return [
        *_dense(f"{path}.inner", f"{inner}.dense"),
        *_dense(f"{path}.outer", f"{outer}.dense"),
        *_norm(f"{path}.norm", f"{outer}.LayerNorm"),
    ]


def _mobile_bottleneck(path: str, name: str) -> list[Rule]:
    """Returns the rules of a projection to another width with its norm."""
    return [*_dense(f"{path}.projection", f"{name}.dense"), *_norm(f"{path}.norm", f"{name}.LayerNorm")]


def _mobile_block(config: MobileBertConfig) -> list[Rule]:
    """Returns the rules of MobileBERT's block, whose layers depend on its bottlenecks."""
    block = "blocks.{n}"
    rules = [
        *_dense(f"{block}.attention.query_key", f"{_LAYER}.attention.self.query", f"{_LAYER}.attention.self.key"),
        *_dense(f"{block}.attention.value", f"{_LAYER}.attention.self.value"),
        *_dense(f"{block}.attention.output_projection", f"{_LAYER}.attention.output.dense"),
        *_norm(f"{block}.attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
    ]
    for number in range(config.num_feedforward_networks - 1):
        stacked = f"{_LAYER}.ffn.{number}"
        rules += _mobile_feed_forward(f"{block}.feed_forwards.{number}", f"{stacked}.intermediate", f"{stacked}.output")
    rules += _mobile_feed_forward(f"{block}.last_feed_forward", f"{_LAYER}.intermediate", f"{_LAYER}.output")
    if config.use_bottleneck:
        rules += _mobile_bottleneck(f"{block}.way_in", f"{_LAYER}.bottleneck.input")
        rules += _mobile_bottleneck(f"{block}.way_out", f"{_LAYER}.output.bottleneck")
        if config.key_query_shared_bottleneck:
            rules += _mobile_bottleneck(f"{block}.query_key_in", f"{_LAYER}.bottleneck.attention")
    return rules


def _mobile_embeddings(config: MobileBertConfig) -> list[Rule]:
    """Returns the rules of MobileBERT's embeddings, which are projected where their width is not the encoder's."""
    projects = config.trigram_input or config.embedding_size != config.hidden_size
    return [*_TABLES, _SEGMENTS, *(_dense("embeddings.projection", "embeddings.embedding_transformation") if projects else [])]


_CLASSIFIER = _dense("classifier", "classifier")
_SPANS = _dense("spans", "qa_outputs")
_NEXT_SENTENCE = _dense("next_sentence", "cls.seq_relationship")
_MASKED_LM = [
    *_dense("token_head.transform", "cls.predictions.transform.dense"),
    *_norm("token_head.norm", "cls.predictions.transform.LayerNorm"),
    Rule("token_head.bias", ("cls.predictions.bias",)),
]
_MOBILE_MASKED_LM = [*_MASKED_LM, Rule("token_head.rest", ("cls.predictions.dense.weight",))]
FAMILIES: dict[str, Family] = {
    "bert": Family(
        name="Bert",
        prefix="bert.",
        config_class=BertConfig,
        keys={},
        implied={},
        stated={"position_embedding_type": "absolute"},
        embeddings=lambda config: [*_TABLES, _SEGMENTS],
        block=lambda config: [
            *_dense("blocks.{n}.attention.qkv", *(f"{_LAYER}.attention.self.{part}" for part in ("query", "key", "value"))),
            *_dense("blocks.{n}.attention.output_projection", f"{_LAYER}.attention.output.dense"),
            *_norm("blocks.{n}.attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
            *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}.intermediate.dense"),
            *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}.output.dense"),
            *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}.output.LayerNorm"),
        ],
        pooler=_dense("pooler", "pooler.dense"),
        heads={
            "SequenceClassification": _CLASSIFIER,
            "TokenClassification": _CLASSIFIER,
            "QuestionAnswering": _SPANS,
            "MaskedLM": _MASKED_LM,
            "NextSentencePrediction": _dense("classifier", "cls.seq_relationship"),
            "PreTraining": [*_MASKED_LM, *_NEXT_SENTENCE],
        },
    ),
    "distilbert": Family(
        name="DistilBert",
        prefix="distilbert.",
        config_class=BertConfig,
        keys={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        implied={"type_vocab_size": 0, "add_pooling_layer": False, "layer_norm_eps": 1e-12},
        stated={},
        embeddings=lambda config: _TABLES,
        block=lambda config: [
            *_dense("blocks.{n}.attention.qkv", *(f"{_DISTIL}.attention.{part}_lin" for part in "qkv")),
            *_dense("blocks.{n}.attention.output_projection", f"{_DISTIL}.attention.out_lin"),
            *_norm("blocks.{n}.attention_norm", f"{_DISTIL}.sa_layer_norm"),
            *_dense("blocks.{n}.feed_forward.inner", f"{_DISTIL}.ffn.lin1"),
            *_dense("blocks.{n}.feed_forward.outer", f"{_DISTIL}.ffn.lin2"),
            *_norm("blocks.{n}.feed_forward_norm", f"{_DISTIL}.output_layer_norm"),
        ],
        pooler=[],
        heads={
            "SequenceClassification": [*_dense("pre_classifier", "pre_classifier"), *_CLASSIFIER],
            "TokenClassification": _CLASSIFIER,
            "QuestionAnswering": _SPANS,
            "MaskedLM": [
                *_dense("token_head.transform", "vocab_transform"),
                *_norm("token_head.norm", "vocab_layer_norm"),
                Rule("token_head.bias", ("vocab_projector.bias",)),
            ],
        },
    ),
    "mobilebert": Family(
        name="MobileBert",
        prefix="mobilebert.",
        config_class=MobileBertConfig,
        keys={},
        implied={},
        stated={},
        embeddings=_mobile_embeddings,
        block=_mobile_block,
        pooler=_dense("pooler", "pooler.dense"),
        heads={
            "SequenceClassification": _CLASSIFIER,
            "TokenClassification": _CLASSIFIER,
            "QuestionAnswering": _SPANS,
            "MaskedLM": _MOBILE_MASKED_LM,
            "NextSentencePrediction": _dense("classifier", "cls.seq_relationship"),
            "PreTraining": [*_MOBILE_MASKED_LM, *_NEXT_SENTENCE],
        },
    ),
}

# Old files name the parts of a layer norm as TensorFlow does.
OLD_NAMES = (
    (re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"),
)
WORDS = "embeddings.word_embeddings.weight"  # in all families
# The output table of the masked-LM head is the embedding; some files hold it, or its bias, a second time.
TIED = {
    "cls.predictions.decoder.weight": WORDS,
    "vocab_projector.weight": WORDS,
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# Stored beside the weights: numbers that never change (old releases), and layers that only TinyBERT's distillation used.
BUFFERS = re.compile(r"(^|\.)position_ids$|^fit_denses?\.")


LABELLED = ("SequenceClassification", "TokenClassification")  # heads whose configuration states `id2label`
