"""Hugging Face folders: config.json, vocab.txt, tokenizer_config.json, model.safetensors. Read and written by one table."""

import json
import pathlib
import re
from typing import NamedTuple

import numpy as np

from kbert.atomic_files import written_aside
from kbert.config import BertConfig
from kbert.text.vocabulary import SPECIAL_TOKENS, save_vocabulary


class Rule(NamedTuple):
    """One of our weights, the names of theirs that make it, and whether theirs are transposed (torch stores `[out, in]`)."""

    ours: str
    theirs: tuple
    transposed: bool = False


class Family(NamedTuple):
    """How transformers names one architecture: the classes' prefix, the weights' prefix, config.json's keys, the tables."""

    name: str  # AutoModel classes are called `<name>For<head>`
    prefix: str  # of the encoder's weights in a checkpoint with a head
    keys: dict  # ours -> theirs in config.json; the rest are the same
    implied: dict  # values of our configuration that the architecture implies
    stated: dict  # keys that we write beside them
    embeddings: list
    block: list
    pooler: list
    heads: dict  # head -> its table

    def rules(self, config):
        """The table for an encoder."""
        layers = range(config.num_hidden_layers)
        blocks = [
            Rule(rule.ours.format(n=n), tuple(name.format(n=n) for name in rule.theirs), rule.transposed)
            for n in layers
            for rule in self.block
        ]
        return [*self.embeddings, *blocks, *(self.pooler if config.add_pooling_layer else [])]


def _dense(ours, *theirs):
    return [
        Rule(f"{ours}.kernel", tuple(f"{name}.weight" for name in theirs), transposed=True),
        Rule(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs)),
    ]


def _norm(ours, theirs):
    return [Rule(f"{ours}.gamma", (f"{theirs}.weight",)), Rule(f"{ours}.beta", (f"{theirs}.bias",))]


_TABLES = [
    Rule("embeddings.tokens", ("embeddings.word_embeddings.weight",)),
    Rule("embeddings.positions", ("embeddings.position_embeddings.weight",)),
    *_norm("embeddings.norm", "embeddings.LayerNorm"),
]
_BERT, _DISTIL = "encoder.layer.{n}", "transformer.layer.{n}"
FAMILIES = {
    "bert": Family(
        name="Bert",
        prefix="bert.",
        keys={},
        implied={},
        stated={"position_embedding_type": "absolute"},
        embeddings=[*_TABLES, Rule("embeddings.segments", ("embeddings.token_type_embeddings.weight",))],
        block=[
            *_dense("blocks.{n}.attention.qkv", *(f"{_BERT}.attention.self.{part}" for part in ("query", "key", "value"))),
            *_dense("blocks.{n}.attention.output_projection", f"{_BERT}.attention.output.dense"),
            *_norm("blocks.{n}.attention_norm", f"{_BERT}.attention.output.LayerNorm"),
            *_dense("blocks.{n}.feed_forward.inner", f"{_BERT}.intermediate.dense"),
            *_dense("blocks.{n}.feed_forward.outer", f"{_BERT}.output.dense"),
            *_norm("blocks.{n}.feed_forward_norm", f"{_BERT}.output.LayerNorm"),
        ],
        pooler=_dense("pooler", "pooler.dense"),
        heads={"SequenceClassification": _dense("classifier", "classifier")},
    ),
    "distilbert": Family(
        name="DistilBert",
        prefix="distilbert.",
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
        embeddings=_TABLES,
        block=[
            *_dense("blocks.{n}.attention.qkv", *(f"{_DISTIL}.attention.{part}_lin" for part in "qkv")),
            *_dense("blocks.{n}.attention.output_projection", f"{_DISTIL}.attention.out_lin"),
            *_norm("blocks.{n}.attention_norm", f"{_DISTIL}.sa_layer_norm"),
            *_dense("blocks.{n}.feed_forward.inner", f"{_DISTIL}.ffn.lin1"),
            *_dense("blocks.{n}.feed_forward.outer", f"{_DISTIL}.ffn.lin2"),
            *_norm("blocks.{n}.feed_forward_norm", f"{_DISTIL}.output_layer_norm"),
        ],
        pooler=[],
        heads={
            "SequenceClassification": [*_dense("pre_classifier", "pre_classifier"), *_dense("classifier", "classifier")],
        },
    ),
}

_OF_HEADS = re.compile(
    r"^(cls|classifier|qa_outputs|pre_classifier|vocab_\w+)[./]|^output_(weights|bias)$"
)  # known heads of other tasks
_OLD_NAMES = ((re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"), (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"))
_BUFFERS = re.compile(r"(^|\.)position_ids$")  # stored by old releases, not weights


def family_of(config):
    """The family whose files describe an encoder: DistilBERT has neither segments nor a pooler."""
    distilled = config.type_vocab_size == 0 and not config.add_pooling_layer
    return FAMILIES["distilbert" if distilled else "bert"]


def weight(owner, path):
    """The variable at a dotted path such as `blocks.3.attention.qkv.kernel`."""
    for part in path.split("."):
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    return owner


class Checkpoint:
    """The tensors of a folder, in one safetensors file or in several with an index, by names without the family's prefix."""

    def __init__(self, folder):
        family, _, _ = read_config(folder)
        self.path = self._find(pathlib.Path(folder))
        self._stored = {}  # name -> (file, name in the file)
        for file in self._open(self.path):
            for stored in file.keys():
                name = stored.removeprefix(family.prefix)
                for old, new in _OLD_NAMES:
                    name = old.sub(new, name)
                if not _BUFFERS.search(name):
                    self._stored[name] = file, stored

    @staticmethod
    def _find(folder):
        for name in ("model.safetensors", "model.safetensors.index.json"):
            if (folder / name).is_file():
                return folder / name
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        if pickles:
            raise ValueError(
                f"{folder} has its weights in {pickles[0]}, a pickle, which can run any code when it is opened and is "
                "refused. Turn it into safetensors where you trust it: "
                "transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)"
            )
        raise FileNotFoundError(
            f"{folder} has no model.safetensors; a preset needs its weights (of a hub's repository kbert fetches no pickles: if "
            "it has nothing else, turn it into safetensors first)"
        )

    @staticmethod
    def _open(path):
        from safetensors import SafetensorError, safe_open

        paths = [path]
        if path.suffix == ".json":
            index = _read_json(path)
            if not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
                raise ValueError(f"{path} has no weight_map, which says which file holds which weight")
            names = sorted(set(index["weight_map"].values()))
            for name in names:
                # A file beside the index, and nothing else: an index comes from outside.
                if not isinstance(name, str) or pathlib.PurePath(name).name != name or "\\" in name:
                    raise ValueError(f"{path} names {name!r}, which is not a file beside it; such an index is refused")
                if not (path.parent / name).is_file():
                    raise FileNotFoundError(f"{path.parent} lacks {name}, one of the {len(names)} files that {path.name} names")
            paths = [path.parent / name for name in names]
        files = []
        for part in paths:
            try:
                files.append(safe_open(part, framework="numpy"))
            except SafetensorError as error:
                raise ValueError(f"{part} is not a whole safetensors file ({error}); fetch it again") from error
        return files

    def __contains__(self, name):
        return name in self._stored

    def names(self):
        return set(self._stored)

    def shape(self, name):
        file, stored = self._stored[name]
        return tuple(file.get_slice(stored).get_shape())

    def tensor(self, name):
        """One tensor as float32, whichever float it is stored as."""
        file, stored = self._stored[name]
        return file.get_tensor(stored).astype(np.float32, copy=False)


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
    """A folder's config.json: the family, the encoder's configuration, and the dictionary as it is."""
    path = pathlib.Path(folder) / "config.json"
    values = _read_json(path)
    kind = values.get("model_type", "bert")
    if kind not in FAMILIES:
        raise ValueError(f"{path}: model_type {kind!r} is not one that kbert reads ({', '.join(FAMILIES)})")
    family = FAMILIES[kind]
    translated = {**values, **{ours: values[theirs] for ours, theirs in family.keys.items() if theirs in values}}
    return family, BertConfig.from_dict({**translated, **family.implied}, source=str(path)), values


def _read_json(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, got {type(values).__name__}")
    return values


def read_tokenizer_options(folder):
    """The arguments of `WordPieceTokenizer` that tokenizer_config.json and special_tokens_map.json state."""
    options = {}
    stated = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = pathlib.Path(folder) / name
        if path.is_file():
            stated.update(_read_json(path))
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


def save_folder(folder, task, head_config):
    """Writes a folder that transformers opens, file by file beside the target and renamed.

    Args:
      folder: made if it is not there.
      task: what owns the weights, with `encoder`, `preprocessor` and the name of its `head`.
      head_config: the head's keys for config.json.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, config = task.tokenizer, task.encoder.config
    family = family_of(config)
    tensors = weights_of(task.encoder, family.rules(config), prefix=family.prefix)
    tensors.update(weights_of(task, family.heads[task.head]))
    with written_aside(folder / "model.safetensors") as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    if tokenizer is not None:
        save_vocabulary(tokenizer.vocabulary, folder / "vocab.txt")
        special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": f"{family.name}Tokenizer",
                **{theirs: getattr(tokenizer, ours) for theirs, ours in _TOKENIZER_KEYS.items()},
                "model_max_length": task.preprocessor.max_length,
                **special,
            },
        )
        _write_json(folder / "special_tokens_map.json", special)
    # What the architecture implies is not written: their configuration has no such key.
    keys = {key: value for key, value in config.to_dict().items() if key not in (*family.implied, "add_pooling_layer")}
    _write_json(
        folder / "config.json",
        {
            "model_type": family.name.lower(),
            "architectures": [f"{family.name}For{task.head}"],
            **{family.keys.get(key, key): value for key, value in {**keys, **head_config}.items()},
            **family.stated,
        },
    )


def _write_json(path, values):
    with written_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
