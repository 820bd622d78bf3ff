"""KerasHub's preset folders and live models: config.json, model.weights.h5, task.weights.h5. Read and written by one table.

A BERT of KerasHub has the tanh GELU, and its masked-LM head an exact one with a layer norm of epsilon 1e-5. What is read from it
computes the same here; what is handed over computes a little differently there, and `to_keras_hub` says by how much.
"""

import math
import pathlib
import re
import tempfile
import warnings

import numpy as np

from kbert.checkpoints.huggingface import Family, Rule, read_json, weights_of
from kbert.encoders.bert import BertEncoder

WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"
VOCABULARY = pathlib.PurePath("assets", "tokenizer", "vocabulary.txt")
EPSILON = 1e-12  # of KerasHub's encoder
MASKED_LM_HEAD = {"head_act": "gelu", "head_layer_norm_eps": 1e-5}
_NOT_WEIGHTS = re.compile(r"(^|/)(optimizer|seed_generator)(/|$)")


def _both(ours, *theirs, names=("kernel", "bias")):
    return [Rule(f"{ours}.{name}", tuple(f"{part}/vars/{n}" for part in theirs)) for n, name in enumerate(names)]


def _norm(ours, theirs):
    return _both(ours, theirs, names=("gamma", "beta"))


_LAYER = "layers/transformer_encoder{_n}"
_ATTENTION = f"{_LAYER}/_self_attention_layer"
_HEAD = "task/layers/masked_lm_head"  # what is in task.weights.h5 has this prefix here
FAMILY = Family(
    name="Bert",
    prefix="",
    encoder=BertEncoder,
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
    block=lambda config: [
        *_both("blocks.{n}.attention.qkv", *(f"{_ATTENTION}/{part}_dense" for part in ("query", "key", "value"))),
        *_both("blocks.{n}.attention.output_projection", f"{_ATTENTION}/output_dense"),
        *_norm("blocks.{n}.attention_norm", f"{_LAYER}/_self_attention_layer_norm"),
        *_both("blocks.{n}.feed_forward.inner", f"{_LAYER}/_feedforward_intermediate_dense"),
        *_both("blocks.{n}.feed_forward.outer", f"{_LAYER}/_feedforward_output_dense"),
        *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/_feedforward_layer_norm"),
    ],
    pooler=_both("pooler", "layers/dense"),
    heads={
        "SequenceClassification": _both("classifier", "task/layers/dense"),
        "MaskedLM": [
            *_both("token_head.transform", f"{_HEAD}/_intermediate_dense"),
            *_norm("token_head.norm", f"{_HEAD}/_intermediate_layer_norm"),
            Rule("token_head.bias", (f"{_HEAD}/vars/0",)),
        ],
    },
)


def is_live(preset):
    """Whether a preset is a model of KerasHub in this process rather than a name or a folder."""
    return type(preset).__module__.startswith(("keras_hub.", "keras_nlp.")) and hasattr(preset, "save_to_preset")


class Checkpoint:
    """The tensors of a folder, those of the head with `task/` before their names; heads of attention side by side."""

    def __init__(self, folder):
        import h5py

        self.path = pathlib.Path(folder) / WEIGHTS
        if not self.path.is_file():
            raise FileNotFoundError(f"{folder} has no {WEIGHTS}; a KerasHub preset of one file is what kbert reads")
        self._stored = {}  # name -> dataset
        self._files = []
        for path, prefix in ((self.path, ""), (self.path.with_name(TASK_WEIGHTS), "task/")):
            if not path.is_file():
                continue
            try:
                self._files.append(h5py.File(path, "r"))
                self._files[-1].visititems(lambda name, item, prefix=prefix: self._note(prefix + name, item))
            except (OSError, RuntimeError) as error:
                raise ValueError(f"{path} cannot be read ({error}); fetch it again") from error
        if not any(name.startswith("layers/") for name in self._stored):
            raise ValueError(
                f"{self.path} has no layers: an early KerasNLP wrote it another way; open it there and save it again with "
                "save_to_preset"
            )

    def _note(self, name, item):
        if hasattr(item, "shape") and not _NOT_WEIGHTS.search(name):
            self._stored[name] = item

    def __contains__(self, name):
        return name in self._stored

    def names(self):
        return set(self._stored)

    def shape(self, name):
        shape = self._stored[name].shape
        if "_self_attention_layer/" not in name:
            return shape
        if len(shape) == 3 and "/output_dense/" in name:
            return (shape[0] * shape[1], shape[2])
        return (*shape[:1], math.prod(shape[1:])) if len(shape) == 3 else (math.prod(shape),)

    def tensor(self, *names):
        """A tensor, or several side by side."""
        try:
            values = [self._stored[name][...].astype(np.float32, copy=False).reshape(self.shape(name)) for name in names]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({error}); fetch it again") from error
        return values[0] if len(values) == 1 else np.concatenate(values, -1)


def read_config(folder):
    """As `huggingface.read_config`; labels are not stored, and the head's dropout is in task.json."""
    path = pathlib.Path(folder) / "config.json"
    stated = read_json(path)
    if stated["class_name"] != "BertBackbone":
        raise ValueError(f"{path} describes a {stated['class_name']}; of KerasHub's presets kbert reads BertBackbone only")
    sizes = stated.get("config", {})
    config = {ours: sizes[theirs] for ours, theirs in FAMILY.keys.items() if theirs in sizes}
    config.setdefault("attention_probs_dropout_prob", config.get("hidden_dropout_prob", 0.1))
    values = {**MASKED_LM_HEAD}
    task = path.with_name("task.json")
    if task.is_file():
        values["classifier_dropout"] = read_json(task).get("config", {}).get("dropout")
    return FAMILY, BertEncoder.config_class.from_dict({**config, **FAMILY.implied}, source=str(path)), values


def read_tokenizer_options(folder):
    """The case of tokenizer.json. Accents follow it, as in the reference that published checkpoints were trained with."""
    path = pathlib.Path(folder) / "tokenizer.json"
    stated = read_json(path).get("config", {}) if path.is_file() else {}
    options = {"lowercase": bool(stated.get("lowercase", False))}
    if stated.get("strip_accents"):
        options["strip_accents"] = True
    return options


def save_folder(folder, encoder, preprocessor=None, task=None):
    """Writes a preset folder of KerasHub; arguments as of `huggingface.save_folder`."""
    pathlib.Path(folder).parent.mkdir(parents=True, exist_ok=True)
    to_keras_hub(encoder, preprocessor, task).save_to_preset(str(folder))


def to_keras_hub(encoder, preprocessor=None, task=None):
    """A live model of KerasHub with the same weights; see `BertEncoder.to_keras_hub`."""
    config = encoder.config
    needs_pooler = task is None or task.pools  # of a task that has none KerasHub's stays as it is initialized, unused
    if type(encoder) is not BertEncoder or not config.type_vocab_size or (needs_pooler and not config.add_pooling_layer):
        raise ValueError("KerasHub's BertBackbone is a BERT with segments and a pooler, which this encoder is not")
    head_rules = [] if task is None else FAMILY.head(task.head)
    if config.layer_norm_eps != EPSILON:
        raise ValueError(f"KerasHub's layer norms have epsilon {EPSILON}, this encoder's {config.layer_norm_eps}")
    if not config.hidden_act.startswith("gelu"):
        raise ValueError(f"KerasHub's activation is GELU, this encoder's {config.hidden_act}")
    from keras_hub import models

    backbone = models.BertBackbone(
        dtype=encoder.dtype_policy, **{theirs: getattr(config, ours) for ours, theirs in FAMILY.keys.items()}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / WEIGHTS
        backbone.save_weights(path)
        _fill(path, weights_of(encoder, FAMILY.rules(config)))
        backbone.load_weights(path)
        if task is None:
            model = backbone
        else:
            model = _task(models, backbone, preprocessor, task)
            path = pathlib.Path(folder) / TASK_WEIGHTS
            model.save_task_weights(path)
            _fill(path, weights_of(task, head_rules), prefix="task/")
            model.load_task_weights(path)
    _state_difference(task or encoder, model, config)
    return model


def _task(models, backbone, preprocessor, task):
    """The task's counterpart, with first weights."""
    name = {"SequenceClassification": "TextClassifier", "MaskedLM": "MaskedLM"}[task.head]
    theirs = None
    if preprocessor is not None:
        tokenizer = preprocessor.tokenizer
        strips = tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents
        make = getattr(models, f"Bert{name}Preprocessor")
        theirs = make(
            models.BertTokenizer(tokenizer.vocabulary, lowercase=tokenizer.lowercase, strip_accents=strips),
            sequence_length=preprocessor.max_length,
        )
    if name == "MaskedLM":
        return models.BertMaskedLM(backbone, preprocessor=theirs)
    return models.BertTextClassifier(backbone, num_classes=len(task.labels), preprocessor=theirs, dropout=task.dropout_rate)


def _fill(path, tensors, prefix=""):
    """Puts our weights into a file that KerasHub has just written."""
    import h5py

    with h5py.File(path, "r+") as file:
        for name, value in tensors.items():
            dataset = file[name.removeprefix(prefix)]
            dataset[...] = value.reshape(dataset.shape)


def _state_difference(ours, theirs, config):
    """Warns of what the other GELU changes, measured on random tokens."""
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (4, min(32, config.max_position_embeddings))).astype(np.int32)
    inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    answer = ours(inputs, training=False)
    if hasattr(theirs, "masked_lm_head"):
        inputs["mask_positions"] = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    other = theirs(inputs, training=False)
    if isinstance(answer, dict):
        answer, other = answer["sequence_output"], other["sequence_output"]
    difference = float(np.abs(np.asarray(answer, np.float32) - np.asarray(other, np.float32)).max())
    if difference > 1e-5:
        warnings.warn(
            "KerasHub's BERT has the tanh GELU in its encoder and the exact one in its masked-LM head, this model "
            f"{config.hidden_act!r}: on random tokens their outputs differ by up to {difference:.1e}",
            stacklevel=4,
        )
