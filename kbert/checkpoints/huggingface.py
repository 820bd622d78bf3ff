"""Hugging Face folders: config.json, vocab.txt, tokenizer_config.json, model.safetensors. Read and written by one table."""

import json
import pathlib
import re
from typing import NamedTuple

import numpy as np

from kbert.atomic_files import written_aside
from kbert.text.vocabulary import SPECIAL_TOKENS, save_vocabulary

MODEL_TYPES = ("bert",)


class Rule(NamedTuple):
    """One of our weights, the names of theirs that make it, and whether theirs are transposed (torch stores `[out, in]`)."""

    ours: str
    theirs: tuple
    transposed: bool = False


def _dense(ours, *theirs):
    return [
        Rule(f"{ours}.kernel", tuple(f"{name}.weight" for name in theirs), transposed=True),
        Rule(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs)),
    ]


def _norm(ours, theirs):
    return [Rule(f"{ours}.gamma", (f"{theirs}.weight",)), Rule(f"{ours}.beta", (f"{theirs}.bias",))]


_EMBEDDINGS = [
    Rule("embeddings.tokens", ("embeddings.word_embeddings.weight",)),
    Rule("embeddings.positions", ("embeddings.position_embeddings.weight",)),
    Rule("embeddings.segments", ("embeddings.token_type_embeddings.weight",)),
    *_norm("embeddings.norm", "embeddings.LayerNorm"),
]
_SELF = "encoder.layer.{n}.attention.self"
_BLOCK = [
    *_dense("blocks.{n}.attention.qkv", f"{_SELF}.query", f"{_SELF}.key", f"{_SELF}.value"),
    *_dense("blocks.{n}.attention.output_projection", "encoder.layer.{n}.attention.output.dense"),
    *_norm("blocks.{n}.attention_norm", "encoder.layer.{n}.attention.output.LayerNorm"),
    *_dense("blocks.{n}.feed_forward.inner", "encoder.layer.{n}.intermediate.dense"),
    *_dense("blocks.{n}.feed_forward.outer", "encoder.layer.{n}.output.dense"),
    *_norm("blocks.{n}.feed_forward_norm", "encoder.layer.{n}.output.LayerNorm"),
]
_POOLER = _dense("pooler", "pooler.dense")
# A task's weights beside its encoder's, by the name of the transformers class that holds them.
HEADS = {"BertForSequenceClassification": _dense("classifier", "classifier")}

_OF_HEADS = re.compile(r"^(cls|classifier|qa_outputs|pre_classifier|vocab_\w+)\.")  # known heads of other tasks
_OLD_NAMES = ((re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"), (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"))
_BUFFERS = re.compile(r"(^|\.)position_ids$")  # stored by old releases, not weights


def encoder_rules(num_layers):
    """The table for an encoder of `num_layers` blocks."""
    rules = [*_EMBEDDINGS]
    for n in range(num_layers):
        rules += [
            Rule(rule.ours.format(n=n), tuple(name.format(n=n) for name in rule.theirs), rule.transposed) for rule in _BLOCK
        ]
    return rules + _POOLER


def weight(owner, path):
    """The variable at a dotted path such as `blocks.3.attention.qkv.kernel`."""
    for part in path.split("."):
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    return owner


class Checkpoint:
    """The tensors of a folder's safetensors file, by the encoder's names without the `bert.` prefix."""

    def __init__(self, folder):
        from safetensors import SafetensorError, safe_open

        self.path = pathlib.Path(folder) / "model.safetensors"
        if not self.path.is_file():
            pickles = sorted(path.name for path in pathlib.Path(folder).glob("*.bin"))
            if pickles:
                raise ValueError(
                    f"{folder} has its weights in {pickles[0]}, a pickle, which can run any code when it is opened and is "
                    "refused. Turn it into safetensors where you trust it: "
                    "transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)"
                )
            raise FileNotFoundError(f"{folder} has no model.safetensors; a preset folder needs its weights")
        try:
            self._file = safe_open(self.path, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{self.path} is not a whole safetensors file ({error}); fetch it again") from error
        self._stored = {}
        for stored in self._file.keys():
            name = stored.removeprefix("bert.")
            for old, new in _OLD_NAMES:
                name = old.sub(new, name)
            if not _BUFFERS.search(name):
                self._stored[name] = stored

    def __contains__(self, name):
        return name in self._stored

    def names(self):
        return set(self._stored)

    def shape(self, name):
        return tuple(self._file.get_slice(self._stored[name]).get_shape())

    def tensor(self, name):
        return self._file.get_tensor(self._stored[name])


def load_weights(owner, rules, checkpoint):
    """Copies the weights of the table from a checkpoint, tensor by tensor.

    Returns:
      The set of their names that were used, and the list of our names that the checkpoint lacks (left as initialized).

    Raises:
      ValueError: a weight of another shape than ours.
    """
    used, missing = set(), []
    for rule in rules:
        if not all(name in checkpoint for name in rule.theirs):
            missing.append(rule.ours)
            continue
        variable = weight(owner, rule.ours)
        values = []
        for name in rule.theirs:
            expected = tuple(variable.shape)
            expected = (*expected[:-1], expected[-1] // len(rule.theirs))
            expected = expected[::-1] if rule.transposed else expected
            if checkpoint.shape(name) != expected:
                raise ValueError(
                    f"{checkpoint.path}: {name} has shape {checkpoint.shape(name)}, the configuration asks for {expected}"
                )
            value = checkpoint.tensor(name)
            values.append(value.T if rule.transposed else value)
        variable.assign(values[0] if len(values) == 1 else np.concatenate(values, -1))
        used.update(rule.theirs)
    return used, missing


def check_left_over(checkpoint, used):
    """Raises a ValueError for weights that nothing read, unless they are another task's head."""
    left = sorted(name for name in checkpoint.names() - used if not _OF_HEADS.match(name))
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ValueError(
            f"{checkpoint.path} holds a weight that this architecture does not have: {left[0]}{more}; "
            "does config.json belong to it?"
        )


def weights_of(owner, rules, prefix=""):
    """Our weights under their names, in their layout: a dictionary of arrays."""
    tensors = {}
    for rule in rules:
        value = np.asarray(weight(owner, rule.ours).numpy())
        for name, part in zip(rule.theirs, np.split(value, len(rule.theirs), -1)):
            tensors[prefix + name] = np.ascontiguousarray(part.T if rule.transposed else part)
    return tensors


def read_config(folder):
    """The dictionary in a folder's config.json."""
    path = pathlib.Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    kind = values.get("model_type", "bert") if isinstance(values, dict) else None
    if kind not in MODEL_TYPES:
        raise ValueError(f"{path}: model_type {kind!r} is not one that kbert reads ({', '.join(MODEL_TYPES)})")
    return values


def read_tokenizer_options(folder):
    """The arguments of `WordPieceTokenizer` that tokenizer_config.json and special_tokens_map.json state."""
    options = {}
    stated = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = pathlib.Path(folder) / name
        if path.is_file():
            try:
                stated.update(json.loads(path.read_text(encoding="utf-8")))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} is not JSON: {error}") from error
    for theirs, ours in _TOKENIZER_KEYS.items():
        if theirs in stated:
            options[ours] = stated[theirs]
    for name in SPECIAL_TOKENS:
        token = stated.get(name)
        if isinstance(token, dict):  # an AddedToken
            token = token.get("content")
        if token is not None:
            options[name] = token
    return options


_TOKENIZER_KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "tokenize_chinese_chars",
}


def save_folder(folder, task, architecture, rules, config):
    """Writes a folder that transformers opens, file by file beside the target and renamed.

    Args:
      folder: made if it is not there.
      task: what owns the weights, with `encoder` and `tokenizer`.
      architecture: the transformers class, for config.json.
      rules: the table of the head's weights.
      config: keys for config.json beside the encoder's.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = task.tokenizer
    tensors = weights_of(task.encoder, encoder_rules(task.encoder.config.num_hidden_layers), prefix="bert.")
    tensors.update(weights_of(task, rules))
    with written_aside(folder / "model.safetensors") as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    if tokenizer is not None:
        save_vocabulary(tokenizer.vocabulary, folder / "vocab.txt")
        special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "BertTokenizer",
                **{theirs: getattr(tokenizer, ours) for theirs, ours in _TOKENIZER_KEYS.items()},
                "model_max_length": task.preprocessor.max_length,
                **special,
            },
        )
        _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "config.json",
        {
            "model_type": "bert",
            "architectures": [architecture],
            **task.encoder.config.to_dict(),
            "position_embedding_type": "absolute",
            **config,
        },
    )


def _write_json(path, values):
    with written_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
