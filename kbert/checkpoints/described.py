"""What the files of a checkpoint say about it: a record that is made without TensorFlow, and without the weights' numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import ml_dtypes  # noqa: F401 - NumPy knows the names of its dtypes after this import
import numpy as np

from kbert.checkpoints.names import POOLED
from kbert.checkpoints.opened import Opened
from kbert.checkpoints.sentence_transformers import read_modules
from kbert.checkpoints.source_card import Source

SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "embedding_size", "hidden_act"),
)


@dataclasses.dataclass(frozen=True)
class Described:
    """What the files of a checkpoint say about it.

    Args:
      path: the folder.
      kind: the kind of folder, with its article.
      weights: the name of the file of weights, or of its index; empty if it is not there.
      architecture: the class that the configuration names; the family's name if it names none.
      head: a key of `Family.heads`; `""` for an encoder alone; None for a head that kbert does not know.
      labels: the names of the classes, in the order of their ids; None if no file states them.
      problem_type: the problem type of a text classifier, if the files state it.
      sizes: the encoder's sizes, with config.json's keys.
      parameters: how many numbers the weights are.
      bytes: how many bytes these numbers take on the disk.
      dtypes: the number of parameters by the name of their dtype on the disk.
      vocabulary_size: how many tokens there are, or None without a vocabulary.
      lowercase: whether the tokenizer lowers the case, or None without a vocabulary.
      max_length: the most positions of a text, special tokens included.
      embedding: options of sentence-transformers' modules: pooling, unit length, prompts. Empty if there are none.
      left_out: the names in the file that the head's own task does not read, such as an optimizer's.
      source: licence, languages and base model, as README.md states them.
      missing: sentences that say what the folder lacks for a task that reads text.
    """

    path: str
    kind: str
    weights: str
    architecture: str
    head: str | None
    labels: list[str] | None
    problem_type: str | None
    sizes: dict[str, Any]
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    vocabulary_size: int | None
    lowercase: bool | None
    max_length: int
    embedding: dict[str, Any]
    left_out: list[str]
    source: Source
    missing: list[str]


def describe(opened: Opened) -> Described:
    """Returns what the files of an opened checkpoint say about it. Of the weights, names and shapes are read.

    >>> with open_preset("all-minilm-l6-v2") as opened:  # doctest: +SKIP
    ...     describe(opened).parameters

    Raises:
      ValueError: a file is of another model, or is broken.
    """
    family, config, missing = opened.family, opened.config, []
    weights, head, left_out = "", opened.head if opened.architecture else None, []
    counts: dict[str, int] = {}
    try:
        checkpoint = opened.checkpoint
    except FileNotFoundError as error:
        missing.append(str(error))
    else:
        weights, head = checkpoint.path.name, opened.head
        for name in checkpoint.names():
            dtype = checkpoint.dtype(name)
            counts[dtype] = counts.get(dtype, 0) + math.prod(checkpoint.shape(name))
        pooled = dataclasses.replace(config, add_pooling_layer=config.add_pooling_layer and head in POOLED)
        rules = [*family.rules(pooled), *(family.head(head) if head else [])]
        left_out = sorted(checkpoint.names() - {name for rule in rules for name in rule.names}) + checkpoint.left_out()
    vocabulary_size, lowercase = None, None
    try:
        vocabulary_size, lowercase = len(opened.vocabulary), bool(opened.tokenizer_options.get("lowercase", True))
    except FileNotFoundError as error:
        missing.append(str(error))
    modules = read_modules(opened.folder)
    limits = [modules.max_length, opened.preprocessor_options.get("max_length"), config.max_position_embeddings]
    return Described(
        path=str(opened.folder),
        kind=opened.format.KIND,
        weights=weights,
        architecture=opened.architecture or family.name,
        head=head,
        labels=opened.labels,
        problem_type=opened.values.get("problem_type"),
        sizes={key: getattr(config, key) for key in SIZES if hasattr(config, key)},
        parameters=sum(counts.values()),
        bytes=sum(np.dtype(dtype).itemsize * count for dtype, count in counts.items()),
        dtypes=counts,
        vocabulary_size=vocabulary_size,
        lowercase=lowercase,
        max_length=min(limit for limit in limits if limit),
        embedding=modules.options,
        left_out=left_out,
        source=opened.source,
        missing=missing,
    )
