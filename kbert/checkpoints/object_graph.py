"""Reads what TensorFlow 2's BERTs left: Model Garden's checkpoints, TF-Hub's SavedModels, and files of models around them.

All of them keep each variable's own name, and the names are the same in all. The names are matched, the numbers are read, and
nothing else of a file is used: no function of a SavedModel is loaded, and no layer of an h5 file is built.
"""

from __future__ import annotations

import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.checkpoints import google
from kbert.checkpoints.huggingface_tokenizer import read_preprocessor_options as read_preprocessor_options
from kbert.checkpoints.huggingface_tokenizer import stated_options
from kbert.checkpoints.names import Description, Family
from kbert.checkpoints.object_graph_names import FAMILY, dense_head, other_model, place_of
from kbert.checkpoints.own_settings import read_own_settings
from kbert.checkpoints.variable_files import GRAPH, GraphFile, KerasFile, Variable, VariableFile, side_by_side
from kbert.config import BertConfig
from kbert.files.json import read_json
from kbert.files.vocabulary import read_vocabulary as read_vocabulary

KIND = "a TensorFlow 2 checkpoint or SavedModel of Model Garden's BERT"
VOCABULARY = pathlib.PurePath("assets", "vocab.txt")
VOCABULARIES: tuple[pathlib.PurePath, ...] = (VOCABULARY, pathlib.PurePath("vocab.txt"))
PARAMETERS = "params.yaml"
_KERAS = ("*.h5", "*.hdf5", "*.keras")
_HEADS = {
    "task/tokens/kernel": "TokenClassification",
    "task/spans/kernel": "QuestionAnswering",
    "task/classifier/kernel": "SequenceClassification",
    "task/next_sentence/kernel": "NextSentencePrediction",
    "cls/predictions/output_bias": "MaskedLM",
}


def is_one(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds such files. An index of TF1 has no object graph, and a `.h5` may be transformers'.

    Args:
      folder: a folder without a config.json.
    """
    if (folder / "saved_model.pb").is_file() or any(_has_our_names(path) for p in _KERAS for path in folder.glob(p)):
        return True
    # An index is a table of keys in the order of their bytes, and is not compressed.
    return any(GRAPH[1:].encode() in path.read_bytes() for path in folder.glob("*.index"))


def _has_our_names(path: pathlib.Path) -> bool:
    """Returns whether a file of Keras's has a block of the encoder by Model Garden's names. One that is damaged has none."""
    try:
        file = KerasFile(path)
    except ValueError:
        return False
    try:
        places = [place_of(variable.name, variable.key) for variable in file.variables]
    finally:
        file.close()
    return any(place is not None and place.startswith("encoder/layer_") for place in places)


def weights_file(folder: pathlib.Path) -> tuple[pathlib.Path, str]:
    """Returns the file of weights of a folder (of a checkpoint, its prefix), and why it was chosen among several, or "".

    Args:
      folder: the folder.

    Raises:
      FileNotFoundError: there is none, or a SavedModel lacks its variables.
      ValueError: there are several, and nothing says which is meant.
    """
    found = [path for pattern in _KERAS for path in sorted(folder.glob(pattern))]
    found += [path.with_suffix("") for path in sorted(folder.glob("*.index"))]
    if (folder / "saved_model.pb").is_file():
        if not (folder / "variables" / "variables.index").is_file():
            raise FileNotFoundError(f"{folder} has a saved_model.pb but no variables/variables.index; copy the whole folder")
        found.append(folder / "variables" / "variables")
    if len(found) == 1:
        return found[0], ""
    state = folder / "checkpoint"
    stated = re.search(r'^model_checkpoint_path: "(.*)"', state.read_text("utf-8"), re.MULTILINE) if state.is_file() else None
    newest = folder / pathlib.PurePath(stated[1]).name if stated else None
    if newest in found and all(path.with_name(path.name + ".index").is_file() for path in found):
        others = ", ".join(path.name for path in found if path != newest)
        return newest, f"{newest} was opened, because the file {state.name} names it as the newest; beside it are {others}"
    if not found:
        raise FileNotFoundError(f"{folder} holds no checkpoint such as bert_model.ckpt-1.index, no SavedModel and no .h5 file")
    names = ", ".join(str(path.relative_to(folder)) for path in found)
    raise ValueError(f"{folder} holds several models ({names}); keep the one to open in a folder of its own")


class ObjectGraphCheckpoint:
    """The weights in a folder, by Google's names. Heads that kbert has no table for are `task/` and their own names.

    Args:
      folder: the folder.

    Raises:
      FileNotFoundError: there are no weights.
      ValueError: they cannot be read, or are another model's.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.path, chosen = weights_file(folder)
        self.notices = [chosen] if chosen else []
        is_keras = self.path.suffix in (".h5", ".hdf5", ".keras")
        self._file: VariableFile = KerasFile(self.path) if is_keras else GraphFile(self.path)
        try:
            self._variables = self._by_place()
        except BaseException:
            self.close()
            raise

    def _by_place(self) -> dict[str, Variable]:
        """Returns the variables by Google's names, with one pooler."""
        model = other_model(variable.name for variable in self._file.variables)
        if model is not None:
            raise ValueError(f"{self.path} holds {model}; of TensorFlow 2's models kbert reads BERT only")
        places: dict[str, Variable] = {}
        others: dict[str, Variable] = {}
        self.lowercase: str | None = None
        for variable in self._file.variables:
            place = place_of(variable.name, variable.key)
            if variable.name.rpartition("/")[2] == "do_lower_case" or variable.key.startswith("do_lower_case"):
                self.lowercase = variable.key
            elif place is None:
                others[variable.name] = variable
            elif place in places and places[place].key != variable.key:
                raise ValueError(
                    f"{self.path} holds two BERTs, or one twice ({places[place].key} and {variable.key}); save the one to open "
                    "by itself"
                )
            else:
                places[place] = variable
        self.is_bert = "embeddings/word_embeddings" in places
        if self.is_bert:
            self._take_pooler(places)
            self._take_dense_head(places, others)
        return {**places, **{f"task/{name}": variable for name, variable in others.items()}}

    def _take_pooler(self, places: dict[str, Variable]) -> None:
        """Keeps one pooler: the one through which the logits go, or else the encoder's, if it was trained."""
        own, of_heads = (
            "pooler/dense",
            [name for name in ("classifier", "next_sentence") if f"task/{name}_pooler/bias" in places],
        )
        if not of_heads:
            return
        head = of_heads[0]
        has_logits = f"task/{head}/kernel" in places
        # A bias that training has touched is not zero everywhere.
        untrained = f"{own}/bias" not in places or not self._file.read(places[f"{own}/bias"].key).any()
        if has_logits or untrained:
            why = "its logits go through it" if has_logits else "the encoder's own was never trained"
            self.notices.append(f"the pooler of {self.path} is that of its head {head}, because {why}")
            for part in ("kernel", "bias"):
                places[f"{own}/{part}"] = places.pop(f"task/{head}_pooler/{part}")

    def _take_dense_head(self, places: dict[str, Variable], others: dict[str, Variable]) -> None:
        """Takes a single dense layer of the user's as the head of a classifier."""
        if any(place in places for place in ("task/classifier/kernel", "task/tokens/kernel", "task/spans/kernel")):
            return
        width = places["embeddings/word_embeddings"].shape[-1]
        kernels = [name for name, variable in others.items() if name.endswith("/kernel") and len(variable.shape) == 2]
        layers = dense_head({name: variable.shape for name, variable in others.items()}, width)
        if len(kernels) == len(layers) == 1:
            self.notices.append(f"the layer {layers[0]} of {self.path} is opened as the head of a classifier")
            for part in ("kernel", "bias"):
                places[f"task/classifier/{part}"] = others.pop(f"{layers[0]}/{part}")
        elif kernels:
            names = ", ".join(name.removesuffix("/kernel") for name in kernels)
            self.notices.append(f"{self.path} has layers on the encoder that are no head of kbert's, and are left out: {names}")

    def config(self, stated: dict[str, Any]) -> BertConfig:
        """Returns the encoder's configuration: its sizes from the shapes, and the rest as it is stated.

        Args:
          stated: the keys of bert_config.json. A size that differs from the shapes is an error later.

        Raises:
          ValueError: the weights are no BERT, or some are missing.
        """
        if not self.is_bert:
            names = ", ".join(sorted(variable.name for variable in self._file.variables)[:4])
            names = names or ("an optimizer's variables only" if self.left_out() else "no variables")
            raise ValueError(
                f"{self.path} holds no BERT of Model Garden's (it has {names}); a preprocessing model has a vocabulary only: "
                "kbert.WordPieceTokenizer.from_preset opens it"
            )
        layers = {int(name.split("/")[1][6:]) for name in self._variables if name.startswith("encoder/layer_")}
        first = "encoder/layer_0"
        needed = [f"{first}/attention/self/query/kernel", f"{first}/intermediate/dense/kernel"]
        needed += ["embeddings/position_embeddings", "embeddings/token_type_embeddings"]
        for name in needed:
            if name not in self._variables:
                raise ValueError(f"{self.path} has the embeddings of a BERT but lacks {name}; is it whole?")
        query = self._variables[needed[0]].shape
        vocabulary, width = self._variables["embeddings/word_embeddings"].shape
        heads = query[1] if len(query) == 3 else stated.get("num_attention_heads", max(1, width // 64))
        if len(query) != 3 and "num_attention_heads" not in stated:
            self.notices.append(f"{self.path} does not say how many heads it has; {heads} were taken, 64 wide each")
        sizes = {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_hidden_layers": len(layers),
            "num_attention_heads": heads,
            "intermediate_size": self.shape(needed[1])[1],
            "max_position_embeddings": self.shape(needed[2])[0],
            "type_vocab_size": self.shape(needed[3])[0],
            "add_pooling_layer": "pooler/dense/kernel" in self._variables,
        }
        # Model Garden's gelu is the form with tanh, and its layer norms have this epsilon whatever a file says.
        activation = stated.get("hidden_act", "gelu")
        stated = {**stated, "hidden_act": "gelu_new" if activation == "gelu" else activation, "layer_norm_eps": 1e-12}
        return BertConfig.from_dict({**sizes, **stated}, source=str(self.path))

    def head(self) -> str:
        """Returns the head that the file holds: a key of `FAMILY.heads`, or `""`."""
        held = [head for place, head in _HEADS.items() if place in self._variables]
        if {"NextSentencePrediction", "MaskedLM"} <= set(held):
            return "PreTraining"
        return held[0] if held else ""

    def reads_lower_case(self) -> bool | None:
        """Returns whether the model's tokenizer lowers the case, or None if the file does not say so."""
        return None if self.lowercase is None else bool(self._file.read(self.lowercase))

    def __contains__(self, name: str) -> bool:
        return name in self._variables

    def names(self) -> set[str]:
        """Returns the names of all tensors."""
        return set(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor, with the heads of attention side by side."""
        return side_by_side(self._variables[name].shape, name)

    def dtype(self, name: str) -> str:
        """Returns the name of the dtype that a tensor is stored in."""
        return self._variables[name].dtype

    def left_out(self) -> list[str]:
        """Returns the keys of what is no weight of a model: an optimizer's variables, metrics and counters."""
        return sorted(self._file.left_out)

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the last axis.

        Args:
          *names: the names of tensors that agree in their other axes.

        Raises:
          ValueError: the file is cut, or was closed.
        """
        values = [self._file.read(self._variables[name].key).reshape(self.shape(name)) for name in names]
        return values[0] if len(values) == 1 else np.concatenate(values, -1)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()


def open_checkpoint(folder: pathlib.Path, family: Family) -> ObjectGraphCheckpoint:
    """Opens the weights of a folder.

    Args:
      folder: the folder.
      family: the names of its architecture, as `read_config` gives them. There is one.
    """
    return ObjectGraphCheckpoint(folder)


def read_config(folder: pathlib.Path) -> Description:
    """Returns what the shapes say, and bert_config.json or params.yaml if there is one. One warning says what was chosen.

    Args:
      folder: the folder.

    Raises:
      ValueError: the weights are another model's.
    """
    checkpoint = ObjectGraphCheckpoint(folder)
    try:
        config, head = checkpoint.config(_stated(folder)), checkpoint.head()
        values: dict[str, Any] = {}
        if head == "SequenceClassification" and checkpoint.shape("task/classifier/kernel")[1] == 1:
            values["problem_type"] = "multi_label_classification"
            checkpoint.notices.append(
                "its head has one output, which is read as the logit of one label (problem_type='regression' reads a number)"
            )
        if checkpoint.notices:
            warnings.warn("; ".join(checkpoint.notices), stacklevel=2)
    finally:
        checkpoint.close()
    return Description(FAMILY, config, values, f"BertFor{head}" if head else "BertModel", head)


def _stated(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the keys of a folder's bert_config.json, or those of its params.yaml by the same names."""
    if (folder / google.CONFIG).is_file():
        return dict(read_json(folder / google.CONFIG))
    path = folder / PARAMETERS
    if not path.is_file():
        return {}
    import yaml  # type: ignore[import-untyped]

    try:
        encoder = yaml.safe_load(path.read_text("utf-8"))["task"]["model"]["encoder"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise ValueError(
            f"{path} does not describe an encoder; remove it, and the shapes of the weights say the sizes"
        ) from None
    kind = encoder.get("type", "bert")
    if kind != "bert":
        raise ValueError(f"{path} describes an encoder of the type {kind}; of Model Garden's encoders kbert reads bert only")
    sizes = encoder.get("bert") or {}
    if sizes.get("norm_first"):
        raise ValueError(f"{path}: norm_first is not supported: a BERT has its layer norms after the residual sums")
    keys = {
        "hidden_activation": "hidden_act",
        "dropout_rate": "hidden_dropout_prob",
        "attention_dropout_rate": "attention_probs_dropout_prob",
        "initializer_range": "initializer_range",
    }
    return {key: sizes[name] for name, key in keys.items() if sizes.get(name) is not None}


def read_tokenizer_options(folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of a tokenizer. The variable `do_lower_case` says the case, or else the vocabulary.

    Args:
      folder: the folder.
      vocabulary: its tokens.
    """
    checkpoint = ObjectGraphCheckpoint(folder)
    try:
        lowercase = checkpoint.reads_lower_case()
    finally:
        checkpoint.close()
    guessed = {"lowercase": not google.is_cased(vocabulary) if lowercase is None else lowercase}
    own = read_own_settings(folder)["tokenizer"]
    return {**guessed, **own, **stated_options(folder)}
