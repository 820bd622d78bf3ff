"""Reads and writes Hugging Face folders: config.json and the weights. Their tokenizer has a module of its own."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np

from kbert.checkpoints.huggingface_names import BUFFERS, FAMILIES, LABELLED, OLD_NAMES, TIED, WORDS
from kbert.checkpoints.huggingface_tokenizer import VOCABULARIES as VOCABULARIES
from kbert.checkpoints.huggingface_tokenizer import read_preprocessor_options as read_preprocessor_options
from kbert.checkpoints.huggingface_tokenizer import read_tokenizer_options as read_tokenizer_options
from kbert.checkpoints.huggingface_tokenizer import read_vocabulary as read_vocabulary
from kbert.checkpoints.huggingface_tokenizer import save_tokenizer
from kbert.checkpoints.names import Config, Description, Family
from kbert.checkpoints.owners import Encoder, HeadOwner, Preprocessor
from kbert.checkpoints.sentence_transformers import problem_of_cross_encoder
from kbert.checkpoints.sizes import config_of_shapes
from kbert.checkpoints.tensor_files import TensorFiles
from kbert.checkpoints.transformers_tf import untransposed
from kbert.checkpoints.weight_files import Weights, kernels_are_ours, weights_in
from kbert.checkpoints.weights import weights_of
from kbert.config import MobileBertConfig
from kbert.files.json import read_json, write_json

KIND = "a Hugging Face folder"
MOST_LABELS = 100_000  # that a file may ask for by their number alone


def family_of(config: Config) -> Family:
    """Returns the family whose files describe an encoder.

    Args:
      config: the encoder's configuration. DistilBERT is a BERT that has neither segments nor a pooler.

    Raises:
      ValueError: no architecture of Hugging Face's is like this one.
    """
    if isinstance(config, MobileBertConfig):
        return FAMILIES["mobilebert"]
    if config.type_vocab_size:
        return FAMILIES["bert"]
    if config.add_pooling_layer:
        raise ValueError("an encoder with a pooler and without segments is neither BERT nor DistilBERT: no file describes it")
    return FAMILIES["distilbert"]


def read_config(folder: pathlib.Path) -> Description:
    """Reads a folder's config.json. Beside TensorFlow's weights it may be missing: their shapes then say the sizes.

    Args:
      folder: a Hugging Face folder.

    Raises:
      ValueError: the file describes a model that kbert does not have.
    """
    path, ours = folder / "config.json", kernels_are_ours(folder)
    values = read_json(path) if path.is_file() or not ours else _sizes_of_weights(folder)
    kind = values.get("model_type", "bert")
    if kind not in FAMILIES:
        raise ValueError(f"{path}: model_type {kind!r} is not one that kbert reads ({', '.join(FAMILIES)})")
    family = untransposed(FAMILIES[kind]) if ours else FAMILIES[kind]
    if values.get("tie_word_embeddings", True) is False and any("LM" in name for name in values.get("architectures") or ()):
        raise ValueError(f"{path}: tie_word_embeddings false is not supported: the output table is the embedding")
    translated = {**values, **{key: values[stored] for key, stored in family.keys.items() if stored in values}}
    config = family.config_class.from_dict({**translated, **family.implied}, source=str(path))
    if not values.get("problem_type") and (problem := problem_of_cross_encoder(folder, values)):
        values["problem_type"] = problem
    architecture = next(iter(values.get("architectures") or ()), "")
    head = family.head_of(architecture)
    if head in LABELLED and not values.get("id2label"):  # transformers leaves out what it would assume: two labels, numbered
        count = values.get("num_labels") or 2
        if type(count) is not int or not 0 < count <= MOST_LABELS:
            raise ValueError(f"{path}: num_labels should be a whole number from 1 to {MOST_LABELS}, got {count!r:.40}")
        values["id2label"] = {str(number): f"LABEL_{number}" for number in range(count)}
    return Description(family, config, values, architecture, head)


def _sizes_of_weights(folder: pathlib.Path) -> dict[str, Any]:
    """Returns a configuration from the shapes of a folder's weights."""
    weights = weights_in(folder)[0]
    shapes = {name: place.shape for name, place in weights.places().items()}
    return config_of_shapes(shapes, weights.path, weights.kind.kernels_as_ours)


def _wrapper(names: Iterable[str], family: Family) -> str:
    """Returns what stands before the names of a model that was saved inside of another, such as `"module."`; usually nothing.

    DataParallel, Lightning and torch.compile are such others.
    """
    found = {name.removesuffix(WORDS).removesuffix(family.prefix) for name in names if name.endswith(WORDS)}
    return found.pop() if len(found) == 1 else ""


class HuggingFaceCheckpoint(TensorFiles):
    """The tensors of a model's folder, by their names without the family's prefix.

    Args:
      weights: the files.
      family: the names of the folder's architecture.

    Raises:
      FileNotFoundError: a file is missing that an index names.
      ValueError: a file is cut or refused, or the masked-LM head has an output table of its own.
    """

    def __init__(self, weights: Weights, family: Family) -> None:
        super().__init__(weights.path, {}, weights.kind.kernels_as_ours)
        places = weights.places()
        wrapper = _wrapper(places, family)
        for name, place in places.items():
            name = name.removeprefix(wrapper).removeprefix(family.prefix)
            for old, new in OLD_NAMES:
                name = old.sub(new, name)
            if BUFFERS.search(name) or "/" in name:  # a layer of the user's, around a BERT in TensorFlow
                self._left_out.append(name)
            else:
                self._places[name] = place
        try:
            # An encoder without a pooler is written with one of zeros, which transformers asks for. No training gives zeros.
            pooler = [name for rule in family.pooler for name in rule.names]
            if (
                pooler
                and all(name in self._places for name in pooler)
                and self.shape(pooler[0]) == 2 * self.shape(pooler[1])
                and not any(np.any(self.tensor(name)) for name in pooler)
            ):
                self._left_out += pooler
                for name in pooler:
                    del self._places[name]
            for copy, name in TIED.items():
                if copy in self._places:
                    self._drop_copy(copy, name)
        except BaseException:
            self.close()
            raise

    def _drop_copy(self, copy: str, name: str) -> None:
        """Removes the copy of a tensor that the file holds twice.

        Args:
          copy: the second name. It stands for the first where that is missing; where both are there, they have to be equal.
          name: the first name.
        """
        first, second = self._places.setdefault(name, self._places[copy]), self._places[copy]
        # A file of torch holds the numbers of both once.
        same = first == second or (first.shape == second.shape and np.array_equal(self.tensor(copy).copy(), self.tensor(name)))
        if not same:
            raise ValueError(
                f"{self.path}: {copy} differs from {name}; a masked-LM head with an output table of its own is not supported"
            )
        del self._places[copy]

    def difference(self, other: HuggingFaceCheckpoint) -> str | None:
        """Returns the name of a vector that differs in another file of the same folder, or None.

        Vectors are biases and norms. Training changes all of them, and they are small enough to be read twice.

        Args:
          other: the other file.
        """
        for name in sorted(self.names() & other.names()):
            if self.shape(name) != other.shape(name):
                return name
            if len(self.shape(name)) == 1:
                ours, theirs = self.tensor(name).copy(), other.tensor(name)
                # One of the two may be in half precision.
                close = 0.0 if self.dtype(name) == other.dtype(name) else 1e-2
                if not np.allclose(ours, theirs, rtol=close, atol=close / 10, equal_nan=True):
                    return name
        return None


def open_checkpoint(folder: pathlib.Path, family: Family) -> HuggingFaceCheckpoint:
    """Opens the weights of a folder. If it holds the same weights in several files, the first of `weight_files.KINDS` is read.

    Args:
      folder: a Hugging Face folder.
      family: the names of its architecture, as `read_config` gives them.

    Raises:
      FileNotFoundError: the folder has no weights.
      ValueError: a file is cut or refused, or two files hold different weights, so that one of them is stale.
    """
    first, *others = weights_in(folder)
    checkpoint = HuggingFaceCheckpoint(first, family)
    try:
        for other in others:
            _check_same(checkpoint, other, family)
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint


def _check_same(checkpoint: HuggingFaceCheckpoint, other: Weights, family: Family) -> None:
    """Raises a ValueError if another file of a folder holds other weights than the one that is read."""
    log = logging.getLogger("kbert")
    try:
        with closing(HuggingFaceCheckpoint(other, family)) as second:
            name = checkpoint.difference(second)
    except (OSError, ValueError) as error:
        log.info("%s is read; %s beside it is not, and cannot be: %s", checkpoint.path, other.path.name, error)
        return
    if name is not None:
        raise ValueError(
            f"{checkpoint.path} and {other.path.name} beside it hold different weights ({name}): one of them is stale. Keep "
            "the one to open, and move the other away"
        )
    log.info("%s is read; %s beside it holds the same weights", checkpoint.path, other.path.name)


def check_place(config: Config, head: str, pools: bool = True) -> None:
    """Raises a ValueError if transformers has no such architecture, or not this head for it.

    Args:
      config: the encoder's configuration.
      head: a key of `Family.heads`, or `""` for the encoder alone.
      pools: whether the task reads the pooler. Here it does not matter.
    """
    family = family_of(config)
    if head:
        family.head(head)


def save_folder(
    folder: str | os.PathLike[str], encoder: Encoder, preprocessor: Preprocessor | None = None, task: HeadOwner | None = None
) -> None:
    """Writes a folder that transformers opens.

    Args:
      folder: made if it is not there.
      encoder: the owner of the encoder's weights.
      preprocessor: its tokenizer's vocabulary and options are written too. None writes no tokenizer.
      task: the owner of the head's weights. None writes the encoder alone.

    Raises:
      ValueError: transformers has no such architecture, or not this head for it.
    """
    from safetensors.numpy import save_file

    folder = pathlib.Path(folder)
    config = encoder.config
    family = family_of(config)
    head_rules = [] if task is None else family.head(task.head)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights_of(encoder, family.rules(config), prefix="" if task is None else family.prefix)
    if task is not None:
        tensors.update(weights_of(task, head_rules))
    if not head_rules and not config.add_pooling_layer and getattr(config, "classifier_activation", True):
        # transformers' model without a head has a pooler, and would warn of one that the file lacks.
        width = config.hidden_size
        for rule in family.pooler:
            tensors[rule.names[0]] = np.zeros([width] if rule.path.endswith("bias") else [width, width], np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if preprocessor is not None:
        save_tokenizer(folder, preprocessor, family.name)
    # What the architecture implies is not written: its configuration has no such key.
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
