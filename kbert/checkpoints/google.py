"""Reads and writes Google's TF1 folders: bert_config.json, vocab.txt and bert_model.ckpt.*."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.checkpoints.huggingface_tokenizer import read_preprocessor_options as read_preprocessor_options
from kbert.checkpoints.huggingface_tokenizer import stated_options
from kbert.checkpoints.names import Config, Description, Family, Rule
from kbert.checkpoints.own_settings import read_own_settings
from kbert.checkpoints.owners import Encoder, HeadOwner, Preprocessor
from kbert.checkpoints.weights import weights_of
from kbert.config import BertConfig
from kbert.files.json import read_json, write_json
from kbert.files.vocabulary import read_vocabulary as read_vocabulary
from kbert.files.vocabulary import save_vocabulary

KIND = "a TF1 checkpoint in Google's layout"
CONFIG = "bert_config.json"
VOCABULARIES: tuple[pathlib.PurePath, ...] = (pathlib.PurePath("vocab.txt"),)
_OPTIMIZER = re.compile(r"(/adam_[mv]|/lamb_[mv]|(^|/)global_step)$|^(beta[12]_power)$")


def _dense(path: str, *names: str) -> list[Rule]:
    """Returns the rules of a dense layer, or of several that are one of ours."""
    return [Rule(f"{path}.{kind}", tuple(f"{name}/{kind}" for name in names)) for kind in ("kernel", "bias")]


def _norm(path: str, name: str) -> list[Rule]:
    """Returns the rules of a layer norm."""
    return [Rule(f"{path}.{kind}", (f"{name}/{kind}",)) for kind in ("gamma", "beta")]


def _output(path: str, name: str) -> list[Rule]:
    """Returns the rules of a head's last layer, whose kernel is stored as `[out, in]`."""
    return [Rule(f"{path}.kernel", (f"{name}_weights",), transposed=True), Rule(f"{path}.bias", (f"{name}_bias",))]


_LAYER = "encoder/layer_{n}"
_MASKED_LM = [
    *_dense("token_head.transform", "cls/predictions/transform/dense"),
    *_norm("token_head.norm", "cls/predictions/transform/LayerNorm"),
    Rule("token_head.bias", ("cls/predictions/output_bias",)),
]
FAMILY = Family(
    name="Bert",
    prefix="bert/",
    config_class=BertConfig,
    keys={},
    implied={},
    stated={},
    embeddings=lambda config: [
        Rule("embeddings.tokens", ("embeddings/word_embeddings",)),
        Rule("embeddings.positions", ("embeddings/position_embeddings",)),
        Rule("embeddings.segments", ("embeddings/token_type_embeddings",)),
        *_norm("embeddings.norm", "embeddings/LayerNorm"),
    ],
    block=lambda config: [
        *_dense("blocks.{n}.attention.qkv", *(f"{_LAYER}/attention/self/{kind}" for kind in ("query", "key", "value"))),
        *_dense("blocks.{n}.attention.output_projection", f"{_LAYER}/attention/output/dense"),
        *_norm("blocks.{n}.attention_norm", f"{_LAYER}/attention/output/LayerNorm"),
        *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}/intermediate/dense"),
        *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}/output/dense"),
        *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/output/LayerNorm"),
    ],
    pooler=_dense("pooler", "pooler/dense"),
    heads={
        # The names that run_classifier.py and run_squad.py of google-research/bert give.
        "SequenceClassification": _output("classifier", "output"),
        "QuestionAnswering": _output("spans", "cls/squad/output"),
        "MaskedLM": _MASKED_LM,
        "NextSentencePrediction": _output("classifier", "cls/seq_relationship/output"),
        "PreTraining": [*_MASKED_LM, *_output("next_sentence", "cls/seq_relationship/output")],
    },
)


class GoogleCheckpoint:
    """The tensors of a TF1 checkpoint, by their names without the family's prefix. The optimizer's slots are not among them.

    Args:
      folder: holds one `*.ckpt*.index` and its data.
      family: the names of the folder's architecture.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: there are several, or one cannot be read.
    """

    def __init__(self, folder: pathlib.Path, family: Family) -> None:
        import tensorflow as tf

        indices = sorted(folder.glob("*.ckpt*.index"))
        if not indices:
            raise FileNotFoundError(f"{folder} has a {CONFIG}, but no checkpoint such as bert_model.ckpt.index beside it")
        if len(indices) > 1:
            names = ", ".join(path.name for path in indices)
            raise ValueError(f"{folder} holds several checkpoints ({names}); keep the one to open in a folder of its own")
        self.path = indices[0].with_suffix("")
        try:
            self._reader = tf.train.load_checkpoint(str(self.path))
        except (tf.errors.OpError, RuntimeError) as error:
            raise ValueError(f"{self.path} cannot be read ({error}); are all of its .data files there?") from None
        shapes = self._reader.get_variable_to_shape_map()
        self._dtypes = self._reader.get_variable_to_dtype_map()
        self._left_out = sorted(name for name in shapes if _OPTIMIZER.search(name))
        self._stored_names = {name.removeprefix(family.prefix): name for name in shapes if not _OPTIMIZER.search(name)}
        self._shapes = {name: tuple(shapes[stored]) for name, stored in self._stored_names.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def names(self) -> set[str]:
        """Returns the names of all tensors."""
        return set(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self._shapes[name]

    def dtype(self, name: str) -> str:
        """Returns the name of the dtype that a tensor is stored in."""
        return self._dtypes[self._stored_names[name]].name

    def left_out(self) -> list[str]:
        """Returns the names in the file that are no weights of a model: the optimizer's."""
        return self._left_out

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the last axis.

        Args:
          *names: the names of tensors that agree in their other axes.

        Raises:
          ValueError: the file is cut, or was closed.
        """
        import tensorflow as tf

        if self._reader is None:
            raise ValueError(f"{self.path} was closed: open it again to read {names[0]}")
        try:
            values = [self._reader.get_tensor(self._stored_names[name]) for name in names]
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({error}); fetch it again") from None
        return values[0] if len(values) == 1 else np.concatenate(values, -1)

    def close(self) -> None:
        """Closes the files: TensorFlow's reader does so when nothing refers to it."""
        self._reader = None


def open_checkpoint(folder: pathlib.Path, family: Family) -> GoogleCheckpoint:
    """Opens the weights of a folder.

    Args:
      folder: a folder of Google's.
      family: the names of its architecture, as `read_config` gives them.
    """
    return GoogleCheckpoint(folder, family)


def read_config(folder: pathlib.Path) -> Description:
    """Reads a folder's bert_config.json. It describes the encoder alone, so that the description's `values` are empty.

    Args:
      folder: a folder of Google's.

    Raises:
      ValueError: the file describes another architecture than BERT.
    """
    path = folder / CONFIG
    values = read_json(path)
    for key, kind in (("intra_bottleneck_size", "MobileBERT"), ("num_hidden_groups", "ALBERT")):
        if key in values:
            raise ValueError(f"{path} describes {kind}; of Google's layout kbert reads BERT only")
    return Description(FAMILY, BertConfig.from_dict(values, source=str(path)), {})


def is_cased(tokens: Sequence[str]) -> bool:
    """Returns whether a vocabulary has upper case outside of its special tokens, since Google's folders do not say so.

    Args:
      tokens: the vocabulary.
    """
    return any(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))


def read_tokenizer_options(folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Returns the arguments of a tokenizer. If no JSON file says whether it lowers the case, the vocabulary decides.

    Args:
      folder: a folder of Google's.
      vocabulary: its tokens.
    """
    guessed = {"lowercase": not is_cased(vocabulary), **read_own_settings(folder)["tokenizer"]}
    return {**guessed, **stated_options(folder)}


def check_place(config: Config, head: str, pools: bool = True) -> None:
    """Raises a ValueError if Google's code has no such architecture or head.

    Args:
      config: the encoder's configuration.
      head: a key of `FAMILY.heads`, or `""` for the encoder alone.
      pools: whether the task reads the pooler. Here it does not matter.
    """
    if not isinstance(config, BertConfig) or config.type_vocab_size == 0:
        raise ValueError("Google's layout has no place for DistilBERT and MobileBERT; save them in Hugging Face's")
    if head:
        FAMILY.head(head)


def save_folder(
    folder: str | os.PathLike[str], encoder: Encoder, preprocessor: Preprocessor | None = None, task: HeadOwner | None = None
) -> None:
    """Writes a folder that Google's code opens, and so does whatever reads Google's checkpoints.

    Args:
      folder: made if it is not there.
      encoder: the owner of the encoder's weights.
      preprocessor: its tokenizer's vocabulary is written too. None writes no vocabulary.
      task: the owner of the head's weights. None writes the encoder alone.

    Raises:
      ValueError: the encoder is no BERT with segments, or Google's code has no such head.
    """
    import tensorflow as tf

    config = encoder.config
    check_place(config, "" if task is None else task.head)
    head_rules = [] if task is None else FAMILY.head(task.head)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights_of(encoder, FAMILY.rules(config), FAMILY.prefix)
    if task is not None:
        tensors.update(weights_of(task, head_rules))
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(np.asarray(tensors[name])) for name in names],
    )
    if preprocessor is not None:
        save_vocabulary(preprocessor.tokenizer.vocabulary, folder / VOCABULARIES[0])
    write_json(folder / CONFIG, {key: value for key, value in config.to_dict().items() if key != "add_pooling_layer"})
