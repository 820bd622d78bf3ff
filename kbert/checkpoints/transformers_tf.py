"""Finds the tensors of transformers' TensorFlow files by the names of its torch files: tf_model.h5, other .h5, safetensors.

The names of the variables end alike in all of these files. Their beginnings differ. A `.h5` of transformers has the layer
and the model there. A `.h5` that Keras has written around a TFBert has the user's own layers there, and the other files have
nothing. So a name is recognized by its end. A dense kernel is `[in, out]` in these files, as in kbert.
"""

from __future__ import annotations

import math
import pathlib
import re
from contextlib import closing
from functools import partial

import numpy as np

from kbert.checkpoints import safetensors_file
from kbert.checkpoints.names import Family, Rule
from kbert.checkpoints.tensor_files import Place, TensorFiles
from kbert.files.hdf5_file import datasets_of, open_hdf5

_ENCODER = re.compile(
    r"(?:^|.*/)((?:embeddings/(?:(?:word|position|token_type)_embeddings|LayerNorm|embedding_transformation)"
    r"|(?:encoder|transformer)/layer_\._\d+|pooler/dense)/.+)"
)
_HEADS = re.compile(r"(?:^|.*/)((?:pre_classifier|classifier|qa_outputs|vocab_(?:transform|layer_norm|projector))/[^/]+)")
_PRETRAINING = re.compile(r"(?:^|.*/)((?:predictions|seq_relationship)/.+)")
_OPTIMIZER = re.compile(r"^optimizer_weights/|(^|/)(Adam|AdamWeightDecay|training)/|/(m|v|vhat):\d+$")
_LAST_PARTS = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def torch_name(name: str) -> str | None:
    """Returns the torch name of a variable, without the family's prefix, or None if it is no weight of a BERT.

    >>> torch_name("bert/tf_bert_model/bert/encoder/layer_._3/attention/self/query/kernel:0")
    'encoder.layer.3.attention.self.query.weight'
    >>> torch_name("mlm___cls/predictions/transform/LayerNorm/gamma:0")
    'cls.predictions.transform.LayerNorm.weight'

    Args:
      name: the path of a dataset, or the name in a safetensors file.
    """
    name = re.sub(r":\d+$", "", name)
    match = _ENCODER.fullmatch(name) or _HEADS.fullmatch(name)
    of_pretraining = None if match else _PRETRAINING.fullmatch(name)
    found = match or of_pretraining
    if found is None:
        return None
    *parts, last = found[1].replace("_._", ".").replace("/", ".").split(".")
    return ("cls." if of_pretraining else "") + ".".join([*parts, _LAST_PARTS.get(last, last)])


def is_of_tensorflow(name: str) -> bool:
    """Returns whether a safetensors file has TensorFlow's names.

    Args:
      name: the name of one of its tensors.
    """
    return "/" in name or name.endswith(":0")


def untransposed(family: Family) -> Family:
    """Returns a family of torch's names whose dense kernels are stored as `[in, out]`.

    Args:
      family: a family of `huggingface_names.FAMILIES`.
    """

    def plain(rules: list[Rule] | tuple[Rule, ...]) -> list[Rule]:
        return [rule._replace(transposed=False) for rule in rules]

    return family._replace(
        embeddings=lambda config: plain([*family.embeddings(config)]),
        block=lambda config: plain([*family.block(config)]),
        pooler=plain([*family.pooler]),
        heads={name: plain([*rules]) for name, rules in family.heads.items()},
    )


def places_of_safetensors(path: pathlib.Path) -> dict[str, Place]:
    """Returns where the tensors of a safetensors file of TensorFlow are, by their torch names.

    Args:
      path: the path of the file.

    Raises:
      ValueError: the file is cut.
    """
    return _by_torch_names(safetensors_file.places_of(path))


def places_of_hdf5(path: pathlib.Path) -> dict[str, Place]:
    """Returns where the tensors of an HDF5 file are, by their torch names; other datasets keep their own names.

    Args:
      path: the path of `tf_model.h5`, of one of its shards, or what `model.save_weights("x.h5")` has written.

    Raises:
      ValueError: the file is cut, leads to other files, or holds no weights by name.
    """
    with open_hdf5(path) as file:
        places = {name: _place(path, name, dataset) for name, dataset in datasets_of(file, path).items()}
    named = _by_torch_names({name: place for name, place in places.items() if place.dtype.kind in "fiu"})
    if places and not any(torch_name(name) for name in places):
        unnamed = any(re.search(r"(^|/)vars/\d+$", name) for name in places)
        why = "Keras 3 stores no names of variables: save the weights as a legacy .h5" if unnamed else f"it has {min(places)}"
        raise ValueError(f"{path} holds no weights of a BERT by transformers' names; {why}")
    return named


def _by_torch_names(places: dict[str, Place]) -> dict[str, Place]:
    """Returns places by torch's names. Of a variable that is stored twice, as the table of a masked LM is, the first counts."""
    renamed: dict[str, Place] = {}
    for name, place in places.items():
        known = None if _OPTIMIZER.search(name) else torch_name(name)
        if known is not None:
            place = place._replace(shape=_plain_shape(known, place.shape))
        first = renamed.setdefault(known or name, place)
        if first is not place and not _same_vector(first, place):
            raise ValueError(f"{place.path} holds two encoders that differ ({name}); save the one to open alone")
    return renamed


def _same_vector(first: Place, second: Place) -> bool:
    """Returns whether two places hold the same vector. Tables are not compared: their norm stands beside them."""
    if first.shape != second.shape or len(first.shape) != 1:
        return first.shape == second.shape
    with closing(TensorFiles(first.path, {"first": first, "second": second})) as both:
        return np.array_equal(both.tensor("first").copy(), both.tensor("second"))


def _plain_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a weight with the heads of attention side by side: releases 4.1 to 4.3 have an axis of heads."""
    if ".attention.self." in name and len(shape) == (3 if name.endswith(".weight") else 2):
        return (*shape[:-2], math.prod(shape[-2:]))
    if name.endswith(".attention.output.dense.weight") and len(shape) == 3:
        return (shape[0] * shape[1], shape[2])
    return shape


def _place(path: pathlib.Path, name: str, dataset: object) -> Place:
    """Returns where a dataset's bytes are. One that is packed, or in parts, is read by h5py."""
    offset = dataset.id.get_offset() if not dataset.file.userblock_size else None  # type: ignore[attr-defined]
    start = 0 if offset is None else offset
    unpack = partial(_read_dataset, path, name) if offset is None else None
    return Place(path, start, start + dataset.nbytes, dataset.dtype, dataset.shape, None, unpack)  # type: ignore[attr-defined]


def _read_dataset(path: pathlib.Path, name: str, room: memoryview) -> None:
    """Fills memory with the numbers of a dataset."""
    with open_hdf5(path) as file:
        dataset = file[name]
        try:
            if dataset.size:
                dataset.read_direct(np.frombuffer(room, dataset.dtype).reshape(dataset.shape))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is cut or damaged at {name} ({error}); fetch it again") from None
