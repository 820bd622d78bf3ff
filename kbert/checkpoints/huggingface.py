"""Hugging Face folders: config.json, vocab.txt, tokenizer_config.json, model.safetensors. Read and written by one table."""

import json
import pathlib
import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import initial_values
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.files.atomic import written_aside
from kbert.files.vocabulary import SPECIAL_TOKENS, save_vocabulary


class Rule(NamedTuple):
    """One of our weights, the names of theirs that make it, and whether theirs are transposed (torch stores `[out, in]`)."""

    ours: str
    theirs: tuple
    transposed: bool = False


class Family(NamedTuple):
    """How one format names one architecture: classes, the weights' prefix, configuration keys, and the tables of weights."""

    name: str  # AutoModel classes are called `<name>For<head>`
    prefix: str  # of the encoder's weights in a checkpoint with a head
    encoder: type
    keys: dict  # ours -> theirs in config.json; the rest are the same
    implied: dict  # values of our configuration that the architecture implies
    stated: dict  # keys that we write beside them
    embeddings: object  # a configuration to the table
    block: object  # a configuration to the table of one block, with `{n}` for its number (`{_n}`: nothing for 0)
    pooler: list
    heads: dict  # head -> its table

    def rules(self, config):
        """The table for an encoder."""
        block = self.block(config)
        blocks = [
            Rule(
                rule.ours.format(n=n),
                tuple(name.format(n=n, _n=f"_{n}" if n else "") for name in rule.theirs),
                rule.transposed,
            )
            for n in range(config.num_hidden_layers)
            for rule in block
        ]
        has_pooler = config.add_pooling_layer and getattr(config, "classifier_activation", True)
        return [*self.embeddings(config), *blocks, *(self.pooler if has_pooler else [])]

    def head(self, name):
        """The table of a head."""
        if name not in self.heads:
            raise ValueError(f"{self.name} has no {name} head here, only {', '.join(self.heads)}")
        return self.heads[name]


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
_SEGMENTS = Rule("embeddings.segments", ("embeddings.token_type_embeddings.weight",))
_LAYER, _DISTIL = "encoder.layer.{n}", "transformer.layer.{n}"


def _mobile_block(config):
    """MobileBERT's block: which parts there are depends on its bottlenecks."""
    ours, theirs = "blocks.{n}", _LAYER

    def feed_forward(ours, inner, outer):
        return [
            *_dense(f"{ours}.inner", f"{inner}.dense"),
            *_dense(f"{ours}.outer", f"{outer}.dense"),
            *_norm(f"{ours}.norm", f"{outer}.LayerNorm"),
        ]

    def bottleneck(ours, theirs):
        return [*_dense(f"{ours}.projection", f"{theirs}.dense"), *_norm(f"{ours}.norm", f"{theirs}.LayerNorm")]

    rules = [
        *_dense(f"{ours}.attention.query_key", f"{theirs}.attention.self.query", f"{theirs}.attention.self.key"),
        *_dense(f"{ours}.attention.value", f"{theirs}.attention.self.value"),
        *_dense(f"{ours}.attention.output_projection", f"{theirs}.attention.output.dense"),
        *_norm(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm"),
    ]
    for number in range(config.num_feedforward_networks - 1):
        stacked = f"{theirs}.ffn.{number}"
        rules += feed_forward(f"{ours}.feed_forwards.{number}", f"{stacked}.intermediate", f"{stacked}.output")
    rules += feed_forward(f"{ours}.last_feed_forward", f"{theirs}.intermediate", f"{theirs}.output")
    if config.use_bottleneck:
        rules += bottleneck(f"{ours}.way_in", f"{theirs}.bottleneck.input")
        rules += bottleneck(f"{ours}.way_out", f"{theirs}.output.bottleneck")
        if config.key_query_shared_bottleneck:
            rules += bottleneck(f"{ours}.query_key_in", f"{theirs}.bottleneck.attention")
    return rules


def _mobile_embeddings(config):
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
FAMILIES = {
    "bert": Family(
        name="Bert",
        prefix="bert.",
        encoder=BertEncoder,
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
        encoder=BertEncoder,
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
        encoder=MobileBertEncoder,
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

_OF_HEADS = re.compile(
    r"^(cls|classifier|qa_outputs|pre_classifier|vocab_\w+|task)[./]|^output_(weights|bias)$"
)  # known heads of other tasks
_OLD_NAMES = (
    (re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"),
)
# The output table of the masked-LM head is the embedding; some files hold it, or its bias, a second time.
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "vocab_projector.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_BUFFERS = re.compile(r"(^|\.)position_ids$")  # stored by old releases, not weights


def family_of(encoder):
    """The family whose files describe an encoder: DistilBERT has neither segments nor a pooler."""
    if isinstance(encoder, MobileBertEncoder):
        return FAMILIES["mobilebert"]
    if encoder.config.type_vocab_size:
        return FAMILIES["bert"]
    if encoder.config.add_pooling_layer:
        raise ValueError("an encoder with a pooler and without segments is neither BERT nor DistilBERT: no file describes it")
    return FAMILIES["distilbert"]


def weight(owner, path):
    """The variable at a dotted path such as `blocks.3.attention.qkv.kernel`."""
    for part in path.split("."):
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    return owner


class Tensors:
    """The tensors of a folder, in one safetensors file or in several with an index.

    safetensors checks a file and says what is in it. The numbers are read from it directly: through its memory map they would
    count twice in the process's memory, and every tensor would be made once more than it needs to be.
    """

    def __init__(self, folder):
        self.path = self._find(pathlib.Path(folder))
        self._stored = {}  # name -> where it is
        self._scratch = np.empty(0, np.uint8)
        for path in self._paths(self.path):
            self._stored.update(_places(path))

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
    def _paths(path):
        """The files of a checkpoint."""
        if path.suffix != ".json":
            return [path]
        index = read_json(path)
        if not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
            raise ValueError(f"{path} has no weight_map, which says which file holds which weight")
        names = set(index["weight_map"].values())
        for name in names:
            # A file beside the index, and nothing else: an index comes from outside.
            if not isinstance(name, str) or pathlib.PurePath(name).name != name or "\\" in name:
                raise ValueError(f"{path} names {name!r}, which is not a file beside it; such an index is refused")
            if not (path.parent / name).is_file():
                raise FileNotFoundError(f"{path.parent} lacks {name}, one of the {len(names)} files that {path.name} names")
        return [path.parent / name for name in sorted(names)]

    def __contains__(self, name):
        return name in self._stored

    def names(self):
        return set(self._stored)

    def shape(self, name):
        return self._stored[name].shape

    def tensor(self, *names):
        """A tensor as float32, whichever float it is stored as, or several, one below the other; valid until the next call."""
        places = [self._stored[name] for name in names]
        size = sum(place.end - place.start for place in places)
        if size > len(self._scratch) or len(self._scratch) > max(size, SCRATCH):
            self._scratch = None  # goes first, so that there is one at a time
            self._scratch = _aligned(size)
        filled = 0
        for name, place in zip(names, places):
            count = place.end - place.start
            with open(place.path, "rb", buffering=0) as file:
                file.seek(place.start)
                if file.readinto(memoryview(self._scratch)[filled : filled + count]) != count:
                    raise ValueError(f"{place.path} ends inside {name}; fetch it again")
            filled += count
        values = self._scratch[:size].view(places[0].dtype).astype(np.float32, copy=False)
        return values.reshape(len(names) * places[0].shape[0] if places[0].shape else 1, *places[0].shape[1:])


class Checkpoint(Tensors):
    """The tensors of a model's folder, by names without the family's prefix."""

    def __init__(self, folder):
        super().__init__(folder)
        family, _, _ = read_config(folder)
        stored, self._stored = self._stored, {}
        for name, place in stored.items():
            name = name.removeprefix(family.prefix)
            for old, new in _OLD_NAMES:
                name = old.sub(new, name)
            if not _BUFFERS.search(name):
                self._stored[name] = place
        for copy, name in _TIED.items():
            if copy in self._stored:
                self._check_tied(copy, name)

    def _check_tied(self, copy, name):
        """A copy in the file stands for what it is tied to where that is missing; where both are there, they have to agree."""
        if name not in self._stored:
            self._stored[name] = self._stored[copy]
        elif self.shape(copy) != self.shape(name) or not np.array_equal(self.tensor(copy).copy(), self.tensor(name)):
            raise ValueError(
                f"{self.path}: {copy} differs from {name}; a masked-LM head with an output table of its own is not supported"
            )
        del self._stored[copy]


def _aligned(size):
    """Bytes that begin where TensorFlow reads without a copy, at a multiple of 64."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


SCRATCH = 16 << 20  # what is kept between tensors: new memory costs more time than reading into it
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}


class Place(NamedTuple):
    """Where in a file a tensor's bytes are."""

    path: pathlib.Path
    start: int
    end: int
    dtype: np.dtype
    shape: tuple


def _places(path):
    """Where the tensors of a safetensors file are: a dictionary by name.

    The format: the header's length (8 bytes, little-endian), the header (JSON), the numbers
    (https://github.com/huggingface/safetensors, Format).
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # refuses a header that does not fit the file
            names = list(file.keys())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); fetch it again") from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} is stored as {entry['dtype']}, which is not among {', '.join(DTYPES)}")
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        dtype = tf.as_dtype(DTYPES[entry["dtype"]]).as_numpy_dtype
        places[name] = Place(path, start, end, np.dtype(dtype), tuple(entry["shape"]))
    return places


def load_weights(owner, rules, checkpoint):
    """Copies the weights of the table from a checkpoint, tensor by tensor.

    Returns:
      The set of their names that were used, and the list of our names that the checkpoint lacks (left as initialized).

    Raises:
      ValueError: a weight of another shape than ours.
    """
    used, missing = set(), []
    for rule in sorted(rules, key=lambda rule: rule.ours != "embeddings.tokens"):  # the largest first, beside an empty model
        if not all(name in checkpoint for name in rule.theirs):
            missing.append(rule.ours)
            continue
        variable = weight(owner, rule.ours)
        expected = tuple(variable.shape)
        expected = (*expected[:-1], expected[-1] // len(rule.theirs))
        expected = expected[::-1] if rule.transposed else expected
        for name in rule.theirs:
            if checkpoint.shape(name) != expected:
                raise ValueError(
                    f"{checkpoint.path}: {name} has shape {checkpoint.shape(name)}, the configuration asks for {expected}"
                )
        value = checkpoint.tensor(*rule.theirs)
        # raw_ops read the checkpoint's own buffer (tf.convert_to_tensor would copy it first); the variable keeps their result.
        value = tf.raw_ops.Transpose(x=value, perm=[1, 0]) if rule.transposed else tf.raw_ops.DeepCopy(x=value)
        variable.value.assign(value)
        used.update(rule.theirs)
    return used, missing


def initialize(owner, names, initializer_range):
    """Gives first values to the matrices of weights that a checkpoint lacks."""
    for name in names:
        variable = weight(owner, name)
        if len(variable.shape) > 1:
            variable.assign(initial_values(initializer_range)(variable.shape, dtype=variable.dtype))


def check_left_over(checkpoint, used, config, family):
    """Raises a ValueError for weights that nothing read, unless they are another task's head or a pooler that is not used."""
    left = sorted(name for name in checkpoint.names() - used if not _OF_HEADS.match(name))
    if not config.add_pooling_layer:
        pooler = {name for rule in family.pooler for name in rule.theirs}
        left = [name for name in left if name not in pooler and not name.startswith("pooler")]
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
    values = read_json(path)
    kind = values.get("model_type", "bert")
    if kind not in FAMILIES:
        raise ValueError(f"{path}: model_type {kind!r} is not one that kbert reads ({', '.join(FAMILIES)})")
    family = FAMILIES[kind]
    if values.get("tie_word_embeddings", True) is False and any("LM" in name for name in values.get("architectures") or ()):
        raise ValueError(f"{path}: tie_word_embeddings false is not supported: the output table is the embedding")
    translated = {**values, **{ours: values[theirs] for ours, theirs in family.keys.items() if theirs in values}}
    config = family.encoder.config_class.from_dict({**translated, **family.implied}, source=str(path))
    return family, config, values


def read_json(path):
    """The object in a JSON file; a ValueError names the file if there is none."""
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
            stated.update(read_json(path))
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


def save_folder(folder, encoder, preprocessor=None, task=None):
    """Writes a folder that transformers opens, file by file beside the target and renamed.

    Args:
      folder: made if it is not there.
      encoder: whose weights are written.
      preprocessor: whose tokenizer is written, if there is one.
      task: what owns the head, with its name and `preset_config()`; none for an encoder alone.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    family, config = family_of(encoder), encoder.config
    head_rules = [] if task is None else family.head(task.head)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights_of(encoder, family.rules(config), prefix="" if task is None else family.prefix)
    if task is not None:
        tensors.update(weights_of(task, head_rules))
    with written_aside(folder / "model.safetensors") as aside:
        save_file(tensors, aside, metadata={"format": "pt"})
    if preprocessor is not None:
        tokenizer = preprocessor.tokenizer
        save_vocabulary(tokenizer.vocabulary, folder / "vocab.txt")
        special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
        write_json(
            folder / "tokenizer_config.json",
            {
                # MobileBERT's is BERT's
                "tokenizer_class": f"{family.name.removeprefix('Mobile')}Tokenizer",
                **{theirs: getattr(tokenizer, ours) for theirs, ours in _TOKENIZER_KEYS.items()},
                "model_max_length": preprocessor.max_length,
                **special,
            },
        )
        write_json(folder / "special_tokens_map.json", special)
    # What the architecture implies is not written: their configuration has no such key.
    keys = {key: value for key, value in config.to_dict().items() if key not in (*family.implied, "add_pooling_layer")}
    write_json(
        folder / "config.json",
        {
            "model_type": family.name.lower(),
            "architectures": [f"{family.name}Model" if task is None else f"{family.name}For{task.head}"],
            **{family.keys.get(key, key): value for key, value in {**keys, **(task.preset_config() if task else {})}.items()},
            **family.stated,
        },
    )


def write_json(path, values):
    with written_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
