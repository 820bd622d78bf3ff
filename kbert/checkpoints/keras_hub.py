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

from kbert.checkpoints.keras_hub_names import EPSILON, FAMILIES, FAMILY, HEADS, MASKED_LM_HEAD, TRUNCATIONS
from kbert.checkpoints.names import Config, Description, Family
from kbert.checkpoints.owners import Encoder, HeadOwner, Preprocessor
from kbert.checkpoints.weights import weights_of
from kbert.config import BertConfig
from kbert.files.hdf5_file import datasets_of, open_hdf5
from kbert.files.json import read_json
from kbert.files.vocabulary import read_vocabulary as read_vocabulary

KIND = "a preset folder of KerasHub"
WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"
INDEX, SHARDS = "model.weights.json", "model_*.weights.h5"  # of weights in several files
VOCABULARIES: tuple[pathlib.PurePath, ...] = (pathlib.PurePath("assets", "tokenizer", "vocabulary.txt"),)
_NOT_WEIGHTS = re.compile(r"(^|/)(optimizer|seed_generator)(/|$)")


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
      folder: holds model.weights.h5, or its index and shards, and task.weights.h5 if there is a head.
      family: the names of the folder's architecture.

    Raises:
      FileNotFoundError: there is no model.weights.h5.
      ValueError: a file is cut, or an early KerasNLP wrote it.
    """

    def __init__(self, folder: pathlib.Path, family: Family) -> None:
        self.path = folder / WEIGHTS
        files = [self.path]
        if not self.path.is_file():
            if not (folder / INDEX).is_file():
                raise FileNotFoundError(f"{folder} has no {WEIGHTS} and no {INDEX}; a KerasHub preset has one of them")
            self.path, files = folder / INDEX, sorted(folder.glob(SHARDS))
            named = read_json(self.path).get("weight_map", {}).values()
            wanted = {name for names in named for name in ([names] if isinstance(names, str) else names)}
            lacking = sorted(wanted - {file.name for file in files})
            if lacking:
                raise FileNotFoundError(f"{self.path} names {lacking[0]}, which is not there; fetch the folder again")
        self._datasets: dict[str, Any] = {}
        self._left_out: list[str] = []
        self._files: list[Any] = []
        try:
            for file in files:
                self._open(file, "")
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
        self._files.append(open_hdf5(path))
        for name, dataset in datasets_of(self._files[-1], path).items():
            if _NOT_WEIGHTS.search(prefix + name):
                self._left_out.append(prefix + name)
            else:
                self._datasets[prefix + name] = dataset

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
          *names: the names of tensors that agree in their other axes.

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
    if stated["class_name"] not in FAMILIES:
        known = " and ".join(FAMILIES)
        raise ValueError(f"{path} describes a {stated['class_name']}; of KerasHub's presets kbert reads {known} only")
    family, sizes = FAMILIES[stated["class_name"]], stated.get("config", {})
    config = {key: sizes[stored_key] for key, stored_key in family.keys.items() if stored_key in sizes}
    config.setdefault("attention_probs_dropout_prob", config.get("hidden_dropout_prob", 0.1))
    values: dict[str, Any] = {**MASKED_LM_HEAD}
    task, architecture = path.with_name("task.json"), stated["class_name"]
    if task.is_file():
        stated_task = read_json(task)
        architecture = stated_task.get("class_name", architecture)
        settings = stated_task.get("config", {})
        values["classifier_dropout"] = settings.get("dropout")
        if settings.get("activation") == "sigmoid":  # else the head's outputs are logits, or their softmax
            values["problem_type"] = "multi_label_classification"
        if "pooling_mode" in settings:
            values["embedder"] = {"pooling": settings["pooling_mode"], "normalize": settings.get("normalize", True)}
    encoder_config = BertConfig.from_dict({**config, **family.implied}, source=str(path))
    return Description(family, encoder_config, values, architecture, HEADS.get(architecture))


def read_tokenizer_options(folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Reads the arguments of a tokenizer from tokenizer.json.

    Where the file of an early KerasNLP does not say whether accents are dropped, they are if letters are lower-cased.

    Args:
      folder: a preset folder of KerasHub's.
      vocabulary: the folder's tokens. This format does not need them.
    """
    path = folder / "tokenizer.json"
    stated = read_json(path).get("config", {}) if path.is_file() else {}
    options = {"lowercase": bool(stated.get("lowercase", False))}
    if stated.get("strip_accents") is not None:
        options["strip_accents"] = bool(stated["strip_accents"])
    return options


def read_preprocessor_options(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the arguments of a preprocessor from preprocessor.json, if it is there.

    Args:
      folder: a preset folder of KerasHub's.
    """
    path = folder / "preprocessor.json"
    stated = read_json(path).get("config", {}) if path.is_file() else {}
    options = {"max_length": stated.get("sequence_length"), "truncation": TRUNCATIONS.get(str(stated.get("truncate")))}
    return {name: value for name, value in options.items() if value is not None}


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
    head_rules = FAMILY.head(task.head) if task is not None and task.head else []
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
            if head_rules:
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
    name = {"SequenceClassification": "TextClassifier", "MaskedLM": "MaskedLM", "": "TextEmbedder"}[task.head]
    if name == "TextEmbedder":
        _check_embedder(task)
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
    if name == "TextEmbedder":
        return models.BertTextEmbedder(backbone, packer, pooling_mode=task.pooling, normalize=task.normalize)
    return models.BertTextClassifier(backbone, num_classes=len(task.labels), preprocessor=packer, dropout=task.dropout_rate)


def _check_embedder(task: Any) -> None:
    """Raises a ValueError for an embedder that KerasHub's is not."""
    lacking = {
        "dense layers": task.dense,
        f"pooling {task.pooling!r}": task.pooling not in ("mean", "cls", "max"),
        "a prompt": task.preprocessor is not None and task.preprocessor.prompt,
    }
    named = [name for name, is_used in lacking.items() if is_used]
    if named:
        raise ValueError(
            f"KerasHub's BertTextEmbedder has no place for {' and '.join(named)}; save it in Hugging Face's layout"
        )


def _fill(path: pathlib.Path, tensors: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Puts our weights into a file that KerasHub has just written.

    Args:
      path: the path of the file.
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
