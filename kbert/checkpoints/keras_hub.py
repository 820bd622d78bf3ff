"""Reads and writes KerasHub's preset folders and live models: config.json, model.weights.h5 and task.weights.h5.

KerasHub's BERT has the tanh GELU. Its masked-LM head has the exact GELU and a layer norm of epsilon 1e-5. A model that is read
from KerasHub computes the same here. A model of kbert's computes a little differently there.
`to_keras_hub` warns by how much.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kbert.checkpoints.names import Config, Description, Family, Rule
from kbert.checkpoints.owners import Encoder, HeadOwner, Preprocessor
from kbert.checkpoints.weights import weights_of
from kbert.config import BertConfig
from kbert.files.json import read_json

KIND = "a preset folder of KerasHub"
WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"
VOCABULARY = pathlib.PurePath("assets", "tokenizer", "vocabulary.txt")
EPSILON = 1e-12  # of the layer norms of KerasHub's encoder
MASKED_LM_HEAD = {"head_act": "gelu", "head_layer_norm_eps": 1e-5}
# By the class that task.json or config.json names, its head.
HEADS = {
    "BertBackbone": "",
    "BertTextEmbedder": "",
    "BertTextClassifier": "SequenceClassification",
    "BertClassifier": "SequenceClassification",  # of KerasNLP
    "BertMaskedLM": "MaskedLM",
}
_NOT_WEIGHTS = re.compile(r"(^|/)(optimizer|seed_generator)(/|$)")


def _dense(path: str, *names: str, variables: tuple[str, str] = ("kernel", "bias")) -> list[Rule]:
    """Returns the rules of a dense layer, or of several that are one of ours."""
    return [Rule(f"{path}.{kind}", tuple(f"{name}/vars/{n}" for name in names)) for n, kind in enumerate(variables)]


def _norm(path: str, name: str) -> list[Rule]:
    """Returns the rules of a layer norm."""
    return _dense(path, name, variables=("gamma", "beta"))


_LAYER = "layers/transformer_encoder{_n}"
_ATTENTION = f"{_LAYER}/_self_attention_layer"
_HEAD = "task/layers/masked_lm_head"  # what is in task.weights.h5 has this prefix here
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
    block=lambda config: [
        *_dense("blocks.{n}.attention.qkv", *(f"{_ATTENTION}/{kind}_dense" for kind in ("query", "key", "value"))),
        *_dense("blocks.{n}.attention.output_projection", f"{_ATTENTION}/output_dense"),
        *_norm("blocks.{n}.attention_norm", f"{_LAYER}/_self_attention_layer_norm"),
        *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}/_feedforward_intermediate_dense"),
        *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}/_feedforward_output_dense"),
        *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/_feedforward_layer_norm"),
    ],
    pooler=_dense("pooler", "layers/dense"),
    heads={
        "SequenceClassification": _dense("classifier", "task/layers/dense"),
        "MaskedLM": [
            *_dense("token_head.transform", f"{_HEAD}/_intermediate_dense"),
            *_norm("token_head.norm", f"{_HEAD}/_intermediate_layer_norm"),
            Rule("token_head.bias", (f"{_HEAD}/vars/0",)),
        ],
    },
)


def is_live(preset: Any) -> bool:
    """Returns whether a preset is a model of KerasHub in this process rather than a name or a folder.

    Args:
      preset: what a user has passed to `from_preset`.
    """
    return type(preset).__module__.startswith(("keras_hub.", "keras_nlp.")) and hasattr(preset, "save_to_preset")


class KerasHubCheckpoint:
    """The tensors of a preset folder. Those of the head have `task/` before their names.

    KerasHub stores the heads of attention as an axis of their own. Here they lie side by side, as in the other formats.

    Args:
      folder: holds model.weights.h5, and task.weights.h5 if there is a head.
      family: the names of the folder's architecture.

    Raises:
      FileNotFoundError: there is no model.weights.h5.
      ValueError: a file is cut, or an early KerasNLP wrote it.
    """

    def __init__(self, folder: pathlib.Path, family: Family) -> None:
        self.path = folder / WEIGHTS
        if not self.path.is_file():
            raise FileNotFoundError(f"{folder} has no {WEIGHTS}; a KerasHub preset of one file is what kbert reads")
        self._datasets: dict[str, Any] = {}
        self._left_out: list[str] = []
        self._files: list[Any] = []
        try:
            self._open(self.path, "")
            if self.path.with_name(TASK_WEIGHTS).is_file():
                self._open(self.path.with_name(TASK_WEIGHTS), "task/")
            if not any(name.startswith("layers/") for name in self._datasets):
                raise ValueError(
                    f"{self.path} has no layers: an early KerasNLP wrote it another way; open it there and save it again with "
                    "save_to_preset"
                )
        except BaseException:
            self.close()
            raise

    def _open(self, path: pathlib.Path, prefix: str) -> None:
        """Opens a file and notes its datasets, with the prefix before their names."""
        import h5py

        def note(name: str, item: Any) -> None:
            if not hasattr(item, "shape"):
                return
            if _NOT_WEIGHTS.search(prefix + name):
                self._left_out.append(prefix + name)
            else:
                self._datasets[prefix + name] = item

        try:
            self._files.append(h5py.File(path, "r"))
            self._files[-1].visititems(note)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); fetch it again") from None

    def __contains__(self, name: str) -> bool:
        return name in self._datasets

    def names(self) -> set[str]:
        """Returns the names of all tensors."""
        return set(self._datasets)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor, with the heads of attention side by side."""
        shape = self._datasets[name].shape
        if "_self_attention_layer/" not in name:
            return shape
        if len(shape) == 3 and "/output_dense/" in name:
            return (shape[0] * shape[1], shape[2])
        return (*shape[:1], math.prod(shape[1:])) if len(shape) == 3 else (math.prod(shape),)

    def dtype(self, name: str) -> str:
        """Returns the name of the dtype that a tensor is stored in."""
        return str(self._datasets[name].dtype)

    def left_out(self) -> list[str]:
        """Returns the names in the files that are no weights of a model: those of the optimizer and of random generators."""
        return self._left_out

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the last axis, as float32.

        Args:
          *names: of tensors that agree in their other axes.

        Raises:
          ValueError: the file is cut, or was closed.
        """
        try:
            values = [self._datasets[name][...].astype(np.float32, copy=False).reshape(self.shape(name)) for name in names]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({error}); fetch it again") from None
        return values[0] if len(values) == 1 else np.concatenate(values, -1)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()


def open_checkpoint(folder: pathlib.Path, family: Family) -> KerasHubCheckpoint:
    """Opens the weights of a folder.

    Args:
      folder: a preset folder of KerasHub's.
      family: the names of its architecture, as `read_config` gives them.
    """
    return KerasHubCheckpoint(folder, family)


def read_config(folder: pathlib.Path) -> Description:
    """Reads a preset's config.json, and the head's dropout from its task.json. Labels are not stored.

    Args:
      folder: a preset folder of KerasHub's.

    Raises:
      ValueError: the preset is no BERT.
    """
    path = folder / "config.json"
    stated = read_json(path)
    if stated["class_name"] != "BertBackbone":
        raise ValueError(f"{path} describes a {stated['class_name']}; of KerasHub's presets kbert reads BertBackbone only")
    sizes = stated.get("config", {})
    config = {key: sizes[stored_key] for key, stored_key in FAMILY.keys.items() if stored_key in sizes}
    config.setdefault("attention_probs_dropout_prob", config.get("hidden_dropout_prob", 0.1))
    values: dict[str, Any] = {**MASKED_LM_HEAD}
    task, architecture = path.with_name("task.json"), stated["class_name"]
    if task.is_file():
        stated_task = read_json(task)
        architecture = stated_task.get("class_name", architecture)
        values["classifier_dropout"] = stated_task.get("config", {}).get("dropout")
    encoder_config = BertConfig.from_dict({**config, **FAMILY.implied}, source=str(path))
    return Description(FAMILY, encoder_config, values, architecture, HEADS.get(architecture))


def read_tokenizer_options(folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Reads the arguments of a tokenizer from tokenizer.json.

    Accents are dropped if letters are lower-cased, as the tokenizer does with which the published checkpoints were trained.

    Args:
      folder: a preset folder of KerasHub's.
      vocabulary: the folder's tokens. This format does not need them.
    """
    path = folder / "tokenizer.json"
    stated = read_json(path).get("config", {}) if path.is_file() else {}
    options = {"lowercase": bool(stated.get("lowercase", False))}
    if stated.get("strip_accents"):
        options["strip_accents"] = True
    return options


def save_folder(
    folder: str | os.PathLike[str], encoder: Encoder, preprocessor: Preprocessor | None = None, task: HeadOwner | None = None
) -> None:
    """Writes a preset folder of KerasHub's.

    Args:
      folder: made if it is not there.
      encoder: the owner of the encoder's weights.
      preprocessor: its tokenizer is written with a task. None writes no tokenizer.
      task: the owner of the head's weights. None writes the encoder alone.

    Raises:
      ValueError: KerasHub has no such architecture or head.
    """
    pathlib.Path(folder).parent.mkdir(parents=True, exist_ok=True)
    to_keras_hub(encoder, preprocessor, task).save_to_preset(str(folder))


def to_keras_hub(encoder: Encoder, preprocessor: Preprocessor | None = None, task: HeadOwner | None = None) -> Any:
    """Returns a live model of KerasHub with the same weights.

    Args:
      encoder: the owner of the encoder's weights.
      preprocessor: the task's model gets the same tokenizer and length. None gives it no preprocessor.
      task: the owner of the head's weights. None makes a `BertBackbone`.

    Raises:
      ValueError: KerasHub has no such architecture or head.
    """
    config = encoder.config
    # A task without a pooler leaves KerasHub's as it is initialized, and unused.
    check_place(config, "" if task is None else task.head, task is None or task.pools)
    head_rules = [] if task is None else FAMILY.head(task.head)
    from keras_hub import models

    backbone = models.BertBackbone(
        dtype=encoder.dtype_policy, **{stored_key: getattr(config, key) for key, stored_key in FAMILY.keys.items()}
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
    _warn_of_difference(task or encoder, model, config)
    return model


def check_place(config: Config, head: str, pools: bool = True) -> None:
    """Raises a ValueError if KerasHub's BERT is not such an encoder, or has no such head.

    Args:
      config: the encoder's configuration.
      head: a key of `FAMILY.heads`, or `""` for the encoder alone.
      pools: whether the pooler is read. A task that does not read it needs none.
    """
    if head:
        FAMILY.head(head)
    has_pooler = config.add_pooling_layer or not pools
    if not isinstance(config, BertConfig) or not config.type_vocab_size or not has_pooler:
        raise ValueError("KerasHub's BertBackbone is a BERT with segments and a pooler, which this encoder is not")
    if config.layer_norm_eps != EPSILON:
        raise ValueError(f"KerasHub's layer norms have epsilon {EPSILON}, this encoder's {config.layer_norm_eps}")
    if not config.hidden_act.startswith("gelu"):
        raise ValueError(f"KerasHub's activation is GELU, this encoder's {config.hidden_act}")


def _task(models: Any, backbone: Any, preprocessor: Preprocessor | None, task: Any) -> Any:
    """Returns KerasHub's counterpart of a task, with first weights."""
    name = {"SequenceClassification": "TextClassifier", "MaskedLM": "MaskedLM"}[task.head]
    packer = None
    if preprocessor is not None:
        tokenizer = preprocessor.tokenizer
        strips = tokenizer.lowercase if tokenizer.strip_accents is None else tokenizer.strip_accents
        packer = getattr(models, f"Bert{name}Preprocessor")(
            models.BertTokenizer(tokenizer.vocabulary, lowercase=tokenizer.lowercase, strip_accents=strips),
            sequence_length=preprocessor.max_length,
        )
    if name == "MaskedLM":
        return models.BertMaskedLM(backbone, preprocessor=packer)
    return models.BertTextClassifier(backbone, num_classes=len(task.labels), preprocessor=packer, dropout=task.dropout_rate)


def _fill(path: pathlib.Path, tensors: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Puts our weights into a file that KerasHub has just written.

    Args:
      path: of the file.
      tensors: by name.
      prefix: what the names have in front that the file's have not.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        for name, value in tensors.items():
            dataset = file[name.removeprefix(prefix)]
            dataset[...] = value.reshape(dataset.shape)


def _warn_of_difference(model: Encoder | HeadOwner, counterpart: Any, config: Config) -> None:
    """Warns if KerasHub's other GELU changes the outputs, by as much as it does on random tokens.

    Args:
      model: the encoder or the task.
      counterpart: the same in KerasHub.
      config: the encoder's configuration.
    """
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (4, min(32, config.max_position_embeddings))).astype(np.int32)
    inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    outputs = model(inputs, training=False)
    if hasattr(counterpart, "masked_lm_head"):
        inputs["mask_positions"] = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    others = counterpart(inputs, training=False)
    if isinstance(outputs, dict):
        outputs, others = outputs["sequence_output"], others["sequence_output"]
    outputs, others = np.asarray(outputs, np.float32), np.asarray(others, np.float32)
    others = others[..., : outputs.shape[-1]]  # kbert's heads have no logits for rows of the table without a token
    difference = float(np.abs(outputs - others).max())
    if difference > 1e-5:
        warnings.warn(
            "KerasHub's BERT has the tanh GELU in its encoder and the exact one in its masked-LM head, this model "
            f"{config.hidden_act!r}: on random tokens their outputs differ by up to {difference:.1e}",
            stacklevel=4,
        )
