"""Every argument of every constructor acts, or is refused: a table with a value that acts and values that are refused."""

import inspect
import math

import pytest

import kbert
from kbert.training.optimizer import WarmupLinearDecay
from tests.conftest import TINY, VOCABULARY, tiny_tokenizer

SMALL = {**TINY, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
MOBILE = {**SMALL, "embedding_size": 8, "intra_bottleneck_size": 8, "num_feedforward_networks": 2}
NO_FLAG = ("no", 1, None)
NO_SHARE = (-0.1, 1.0, math.nan, True, "0.5")
NO_COUNT = (0, -1, math.nan, True, "2", 1.5)
NO_STRIDE = (-1, 14, 200, math.nan, True, "2", 1.5)
NO_RATE = (0, -1.0, math.nan, math.inf, True, "fast")
NO_EPS = (-1e-12, math.nan, math.inf, True, "1e-12")
NO_DENSE = ([{"units": 4}], [{"width": 0}], [{"width": 4, "activation": "no"}], ["4"])
OF_TASKS = {"encoder": ("keeps", ("all-minilm-l6-v2", None, 1)), "preprocessor": ("keeps", ("text", kbert.TextClassifier, 1))}
OPTIONS = {"TextClassifier": {"labels": ["a", "b"]}, "TokenClassifier": {"labels": ["O", "B-x", "I-x"]}}

OF_CONFIG = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"), (64, NO_COUNT)),
    "num_hidden_layers": (2, NO_COUNT),
    "num_attention_heads": (4, (3, *NO_COUNT)),
    "type_vocab_size": (4, (-1, True, "2", 1.5)),
    "hidden_act": ("silu", ("no", None)),
    "hidden_dropout_prob": (0.3, NO_SHARE),
    "attention_probs_dropout_prob": (0.3, NO_SHARE),
    "initializer_range": (0.5, NO_EPS),
    "layer_norm_eps": (1e-5, NO_EPS),
    "pad_token_id": (1, (-1, len(VOCABULARY), True, "0")),
    "add_pooling_layer": (False, NO_FLAG),
}
# class: argument: (a value that acts, values that are refused)
TABLE = {
    "TextClassifier": {
        **OF_TASKS,
        "labels": (["c", "d"], ("ab", [], ["a"], ["a", "a"], {"a", "b"}, 2)),
        "problem_type": ("multi_label_classification", ("multi", None, 1)),
        "dropout": (0.3, NO_SHARE),
        "head": ("NextSentencePrediction", ("no", None)),
        "window_stride": (3, NO_STRIDE),
    },
    "TokenClassifier": {
        **OF_TASKS,
        "labels": (["O", "X"], ("ab", [], ["a", "a"], {"a", "b"}, 2)),
        "dropout": (0.3, NO_SHARE),
        "label_all_pieces": (True, NO_FLAG),
        "window_stride": (5, NO_STRIDE),
    },
    "QuestionAnswerer": {**OF_TASKS, "dropout": (0.3, NO_SHARE), "window_stride": (2, (7, *NO_STRIDE))},
    "MaskedLM": {**OF_TASKS, "head_act": ("relu", ("no", 1)), "head_layer_norm_eps": (1e-5, (0, *NO_EPS))},
    "TextEmbedder": {
        **OF_TASKS,
        "pooling": ("max", ("no", None)),
        "normalize": (False, NO_FLAG),
        "dense": ([{"width": 4, "activation": "tanh"}], NO_DENSE),
        "prompts": ({"query": "the "}, ("query", ["query"], {"query": 1}, {1: "query"})),
        "default_prompt_name": ("keeps", ("query", 1)),
        "include_prompt": (False, NO_FLAG),
        "similarity": ("dot", ("no", None)),
    },
    "Pretrainer": OF_TASKS,
    "TextPreprocessor": {
        "tokenizer": ("keeps", ("all-minilm-l6-v2", None)),
        "max_length": (8, (3, *NO_COUNT)),
        "truncation": ("only_first", ("no", True, None)),
        "fixed_length": (True, NO_FLAG),
        "ragged": (True, NO_FLAG),
        "padded_end": (True, NO_FLAG),
        "prompt": ("the ", ("the", 1, None)),
    },
    "WordPieceTokenizer": {
        "vocabulary": ([*VOCABULARY, "more"], ([], VOCABULARY[1:], [*VOCABULARY, "a"], [*VOCABULARY, ""])),
        "lowercase": (False, NO_FLAG),
        "strip_accents": (False, ("no", 1)),
        "tokenize_chinese_chars": (False, NO_FLAG),
        "recognize_special_tokens": (True, NO_FLAG),
        "clean_text": (False, NO_FLAG),
        "max_input_chars_per_word": (9, NO_COUNT),
        "added_tokens": (["[MASK]"], ("[MASK]", ["[NONE]"], ["a"], [1])),
        "added_words": (["the"], ("the", ["none"], ["a"], [1])),
        **{f"{name}_token": ("the", ("[NONE]", None)) for name in ("pad", "unk", "cls", "sep", "mask")},
    },
    "BertEncoder": {"config": ("keeps", ("bert", None)), "real_tokens": (False, NO_FLAG)},
    "BertConfig": OF_CONFIG,
    "MobileBertEncoder": {"config": ("keeps", ("mobilebert", None)), "real_tokens": (False, NO_FLAG)},
    "MobileBertConfig": {
        **OF_CONFIG,
        "type_vocab_size": (4, NO_COUNT),
        "embedding_size": (4, (9, *NO_COUNT)),
        "trigram_input": (False, NO_FLAG),
        "use_bottleneck": (False, NO_FLAG),
        "intra_bottleneck_size": (4, NO_COUNT),
        "use_bottleneck_attention": (True, NO_FLAG),
        "key_query_shared_bottleneck": (False, NO_FLAG),
        "num_feedforward_networks": (3, NO_COUNT),
        "normalization_type": ("layer_norm", ("no", None)),
        "classifier_activation": (False, NO_FLAG),
    },
    "WarmupLinearDecay": {
        "peak": (1e-3, NO_RATE),
        "total_steps": (9, NO_COUNT),
        "warmup_fraction": (0.3, NO_SHARE),
        "first_step": (2, (-1, math.nan, True, "2", 1.5)),
    },
}


@pytest.fixture(scope="module")
def parts():
    tokenizer = tiny_tokenizer()
    config = kbert.BertConfig(**SMALL)
    return {
        "encoder": kbert.BertEncoder(config),
        "preprocessor": kbert.TextPreprocessor(tokenizer, 16),
        "tokenizer": tokenizer,
        "config": config,
        "vocabulary": VOCABULARY,
    }


def class_of(kind):
    return getattr(kbert, kind, None) or WarmupLinearDecay


def built(kind, parts, **options):
    sizes = {"BertConfig": SMALL, "MobileBertConfig": MOBILE}
    needed = sizes.get(kind) or {name: part for name, part in parts.items() if name in TABLE[kind]}
    needed = {"config": kbert.MobileBertConfig(**MOBILE)} if kind == "MobileBertEncoder" else needed
    return class_of(kind)(**{**needed, **OPTIONS.get(kind, {}), **options})


def settings(thing):
    return thing.to_dict() if isinstance(thing, (kbert.BertConfig, kbert.MobileBertConfig)) else thing.get_config()


@pytest.mark.parametrize("kind", TABLE)
def test_an_argument_of_a_constructor_acts_or_is_refused(kind, parts):
    signature = inspect.signature(class_of(kind)).parameters
    assert set(TABLE[kind]) == set(signature) - {"kwargs"}
    usual = settings(built(kind, parts))
    for argument, (value, wrong) in TABLE[kind].items():
        if value != "keeps":
            acted = settings(built(kind, parts, **{argument: value}))[argument]
            assert acted == value != usual.get(argument), argument
        for given in wrong:
            with pytest.raises((TypeError, ValueError, KeyError)) as error:
                built(kind, parts, **{argument: given})
            assert argument.split("_")[-1] in str(error.value), (argument, given, str(error.value))


@pytest.mark.parametrize(("kind", "stride"), [("TokenClassifier", 3), ("QuestionAnswerer", 3)])
def test_the_default_stride_has_room_and_is_chosen_anew_for_another_length(kind, stride, parts):
    task = built(kind, parts)
    assert (task.window_stride, task.get_config()["window_stride"]) == (stride, None)
    wide = kbert.TextPreprocessor(parts["tokenizer"], 24)
    assert getattr(kbert, kind)(parts["encoder"], wide, **OPTIONS.get(kind, {})).window_stride == 5
