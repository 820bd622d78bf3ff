"""Smaller tasks: with fewer or narrower layers (a student), or with a smaller vocabulary."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import whole_number
from kbert.text.packing import TextPreprocessor
from kbert.text.texts import text_list
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.training.trainable_flags import set_trainable, trainable_flags

if TYPE_CHECKING:
    from kbert.tasks.task import Task


def make_student(
    task: Task,
    num_hidden_layers: int | None = None,
    hidden_size: int | None = None,
    layers: str | Sequence[int] = "uniform",
    dtype: Any = None,
    **sizes: Any,
) -> Task:
    """Returns a smaller task of the same class, with the same tokenizer and labels.

    Args:
      task: the task that will be the teacher.
      num_hidden_layers: how many layers the student has; by default as many as the task.
      hidden_size: the width of its vectors. If it or another of `sizes` is given, all weights are new.
      layers: which of the task's layers are copied: `"uniform"`, `"last"` or a list; see `layer_map`.
      dtype: the student's Keras dtype policy; by default the task's.
      **sizes: other fields of the encoder's configuration, such as `intermediate_size`.

    Raises:
      ValueError: nothing becomes smaller, the configuration has no such field, or the sizes do not fit together.
    """
    config = task.encoder.config
    changes = {"num_hidden_layers": num_hidden_layers, "hidden_size": hidden_size, **sizes}
    changes = {name: value for name, value in changes.items() if value is not None}
    check_changes(config, changes)
    same_width = set(changes) == {"num_hidden_layers"}
    copied = layer_map(layers, changes["num_hidden_layers"], config.num_hidden_layers) if same_width else []
    student = rebuilt(task, dataclasses.replace(config, **changes), task.preprocessor, dtype)
    if not same_width:
        student.new_weights.append("the student's encoder and head")
        return student
    copy_weights(task.encoder.embeddings, student.encoder.embeddings)
    for block, number in zip(student.encoder.blocks, copied):
        copy_weights(task.encoder.blocks[number], block)
    if task.encoder.pooler is not None:
        copy_weights(task.encoder.pooler, student.encoder.pooler)
    for target, source in zip(head_variables(student), head_variables(task)):
        target.assign(source)
    if task.trainable_variables:  # a teacher that is frozen as a whole has a student that learns
        set_trainable(student, flags_of_copies(trainable_flags(task), copied))
    return student


def flags_of_copies(flags: dict[str, bool], copied: Sequence[int]) -> dict[str, bool]:
    """Returns the trainable flags of a student whose layers are copies of a task's.

    >>> flags_of_copies({"encoder.embeddings": False, "encoder.blocks.3": False}, [1, 3])
    {'encoder.embeddings': False, 'encoder.blocks.1': False}

    Args:
      flags: the task's flags, by dotted path.
      copied: for each of the student's layers, the number of the task's layer from which it was copied.
    """
    result = {}
    for path, flag in flags.items():
        match = re.match(r"(encoder\.blocks\.)(\d+)(.*)", path)
        if match is None:
            result[path] = flag
        else:
            result.update(
                {f"{match[1]}{ours}{match[3]}": flag for ours, theirs in enumerate(copied) if theirs == int(match[2])}
            )
    return result


def check_changes(config: Any, changes: dict[str, Any]) -> None:
    """Raises ValueError if a configuration with these changes could not be a student's.

    Args:
      config: the teacher's `BertConfig` or `MobileBertConfig`.
      changes: the fields with other values.
    """
    unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(config)})
    if unknown:
        raise ValueError(f"{type(config).__name__} has no {unknown[0]!r}")
    if not changes:
        raise ValueError("say what is to be smaller: make_student(num_hidden_layers=3), or hidden_size=...")
    whole_number("num_hidden_layers", changes.get("num_hidden_layers", config.num_hidden_layers))
    heads = config.num_attention_heads
    if "num_attention_heads" not in changes and changes.get("hidden_size", 0) % heads:
        raise ValueError(
            f"hidden_size {changes['hidden_size']} is not a multiple of the {heads} attention heads; "
            "give num_attention_heads too"
        )


def rebuilt(task: Task, config: Any, preprocessor: TextPreprocessor, dtype: Any = None) -> Task:
    """Returns a task with new weights and the options of another one.

    Args:
      task: the task whose class and options it has.
      config: the configuration of its encoder.
      preprocessor: what reads its texts.
      dtype: the new task's Keras dtype policy; by default the encoder and the task keep theirs.
    """
    shared = ("name", "dtype", "encoder", "preprocessor", *task.remembered())
    own = {name: value for name, value in task.get_config().items() if name not in shared}
    policies = [policy if dtype is None else dtype for policy in (task.encoder.dtype_policy, task.dtype_policy)]
    encoder = type(task.encoder)(config, real_tokens=task.encoder.real_tokens, dtype=policies[0])
    smaller = type(task)(encoder, preprocessor, dtype=policies[1], **own)
    smaller.trained_on_pairs = task.trained_on_pairs
    return smaller


def head_variables(task: Task) -> list[tf.Variable]:
    """Returns a task's weights that are not its encoder's."""
    of_encoder = {id(variable) for variable in task.encoder.variables}
    return [variable for variable in task.weights if id(variable) not in of_encoder]


def copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copies a layer's weights, of any precision, to a layer of the same structure.

    Weights that have another shape in the target stay as they are. The seeds of random numbers are no weights and stay too.

    Args:
      source: the layer to copy from.
      target: the layer to copy to.
    """
    for value, variable in zip(source.weights, target.weights):
        if value.shape == variable.shape:
            variable.assign(tf.cast(value, variable.dtype))


def trim_vocabulary(task: Task, texts: Sequence[str], size: int | None = None) -> Task:
    """Returns the same task with only the tokens that texts use.

    Args:
      task: a task with a preprocessor.
      texts: texts such as the task will read. Their most frequent tokens are kept, and single ASCII characters, which spell the
        rest.
      size: the most tokens; by default all that occur.

    Returns:
      A new task, whose `trimmed` says how many tokens it has and had, and what share of the texts' tokens is [UNK], now and
      before.

    Raises:
      ValueError: there are no texts, the task has no tokenizer, or `size` is less than the characters and special tokens.
    """
    if task.preprocessor is None:
        raise ValueError("this task was built with preprocessor=None: it has no vocabulary to trim")
    encoded_texts = text_list(texts, "texts")
    if not encoded_texts:
        raise ValueError("texts are needed, like those that the task will read")
    old = task.tokenizer
    kept = kept_tokens(old, encoded_texts, size)
    options = {
        name: value for name, value in old.get_config().items() if name not in ("name", "trainable", "dtype", "vocabulary")
    }
    tokenizer = WordPieceTokenizer([old.vocabulary[token] for token in kept], **options)
    settings = task.preprocessor.get_config()
    preprocessor = TextPreprocessor(
        tokenizer, **{name: settings[name] for name in ("max_length", "truncation", "fixed_length", "ragged")}
    )
    config = dataclasses.replace(task.encoder.config, vocab_size=len(kept), pad_token_id=tokenizer.pad_token_id)
    trimmed = rebuilt(task, config, preprocessor)
    copy_rows(task, trimmed, kept)
    set_trainable(trimmed, trainable_flags(task))
    unknown_before, unknown = (
        float((reader(encoded_texts).values.numpy() == reader.unk_token_id).mean()) for reader in (old, tokenizer)
    )
    trimmed.trimmed = {
        "tokens": len(kept),
        "tokens_before": len(old.vocabulary),
        "unknown": unknown,
        "unknown_before": unknown_before,
    }
    return trimmed


def kept_tokens(tokenizer: WordPieceTokenizer, texts: Sequence[bytes], size: int | None) -> list[int]:
    """Returns the ids of the tokens that a trimmed vocabulary keeps, ascending.

    Args:
      tokenizer: the tokenizer with the whole vocabulary.
      texts: texts whose most frequent tokens are kept.
      size: the most tokens; by default all that occur.
    """
    vocabulary = tokenizer.vocabulary
    counts = collections.Counter(tokenizer(texts).values.numpy().tolist())
    special = [
        tokenizer.token_to_id(token) for token in (*tokenizer.special_tokens, *tokenizer.added_tokens, *tokenizer.added_words)
    ]
    # Single ASCII characters, at the start of a word and in it, spell each word that has no token of its own.
    characters = [number for number, token in enumerate(vocabulary) if len(token.removeprefix("##")) == 1 and token.isascii()]
    least = len(set(special + characters))
    size = size or len(vocabulary)
    if not least <= size:
        raise ValueError(f"size should be at least {least}, the special tokens and single characters; got {size}")
    kept = dict.fromkeys(special + characters)
    for token, _ in counts.most_common():
        if len(kept) >= size:
            break
        kept.setdefault(token)
    return sorted(kept)


def copy_rows(task: Task, trimmed: Task, kept: Sequence[int]) -> None:
    """Copies a task's weights to one with a smaller vocabulary, along which the rows of the kept tokens are taken.

    Args:
      task: the task with the whole vocabulary.
      trimmed: the task with the smaller one.
      kept: the ids of the kept tokens in the whole vocabulary, ascending.
    """
    size_before = task.encoder.config.vocab_size
    for source, target in zip(task.variables, trimmed.variables):
        if source.shape == target.shape:
            if source.dtype == target.dtype:
                target.assign(source)
            continue
        (axis,) = [axis for axis, (a, b) in enumerate(zip(source.shape, target.shape)) if a != b]
        if source.shape[axis] != size_before:
            raise RuntimeError(f"{source.path} has shape {source.shape}, which is not along the vocabulary")
        target.assign(np.take(source.numpy(), kept, axis))


def layer_map(kind: str | Sequence[int], student_layers: int, teacher_layers: int) -> list[int]:
    """Returns the teacher's layer that belongs to each of the student's layers, counted from 0.

    >>> layer_map("uniform", 3, 6), layer_map("last", 3, 6), layer_map([0, 2, 5], 3, 6)
    ([1, 3, 5], [3, 4, 5], [0, 2, 5])

    Args:
      kind: `"uniform"` for layers at equal distances, of which the last belongs to the last (Jiao et al. 2020, section 3.1);
        `"last"` for the last layers; or a list of the teacher's layers.
      student_layers: how many layers the student has.
      teacher_layers: how many layers the teacher has.

    Raises:
      ValueError: a list that does not name one of the teacher's layers for each of the student's, or an unknown word.
    """
    if kind == "uniform":
        return [round((number + 1) * teacher_layers / student_layers) - 1 for number in range(student_layers)]
    if kind == "last":
        if student_layers > teacher_layers:
            raise ValueError(f"layer_map='last' of {student_layers} layers, but the teacher has {teacher_layers}")
        return list(range(teacher_layers - student_layers, teacher_layers))
    if isinstance(kind, str):
        raise ValueError(f"layer_map should be 'uniform', 'last' or a list of the teacher's layers, got {kind!r}")
    layers = [int(layer) for layer in kind]
    if len(layers) != student_layers:
        raise ValueError(
            f"layer_map should name one of the teacher's layers for each of the student's {student_layers}, got {layers}"
        )
    wrong = [layer for layer in layers if not 0 <= layer < teacher_layers]
    if wrong:
        raise ValueError(
            f"layer_map names the teacher's layer {wrong[0]}, but its {teacher_layers} layers are 0 to {teacher_layers - 1}"
        )
    return layers
