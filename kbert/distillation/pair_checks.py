"""Which student can learn from which teacher: the differences that are refused before any training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import tensorflow as tf

from kbert.arguments import number
from kbert.tasks import smaller
from kbert.tasks.task import Task

Weight = float | Callable[[tf.Tensor], Any]


def check_pair(teacher: Task, student: Task) -> None:
    """Raises an error that says why a student cannot learn from a teacher.

    Args:
      teacher: a trained task.
      student: the task to train.

    Raises:
      TypeError: one is no task, or the tasks are of different classes.
      ValueError: the tasks are the same object, or differ in tokenization, labels or lengths in a way that makes their outputs
        incomparable.
    """
    for name, task in (("teacher", teacher), ("student", student)):
        if not isinstance(task, Task):
            raise TypeError(f"{name} should be a task, such as a TextClassifier, got {task!r:.80}")
    teacher.check_student(student)
    if teacher is student:
        raise ValueError("teacher and student are the same object: teacher.make_student() makes a student")
    if teacher.preprocessor is None or student.preprocessor is None:
        raise ValueError("teacher and student both read texts: build them with a TextPreprocessor")
    check_tokenizers(teacher, student)
    prompts = teacher.preprocessor.prompt, student.preprocessor.prompt
    if prompts[0] != prompts[1]:
        raise ValueError(f"teacher and student read texts behind different prompts, {prompts[0]!r} and {prompts[1]!r}")
    positions = teacher.encoder.config.max_position_embeddings
    if student.preprocessor.max_length > positions:
        raise ValueError(f"the student reads {student.preprocessor.max_length} positions, the teacher has {positions}")


def check_tokenizers(teacher: Task, student: Task) -> None:
    """Raises ValueError if teacher and student would cut a text into different tokens."""
    of_student, of_teacher = ({**task.tokenizer.get_config(), "name": None} for task in (student, teacher))
    sizes = len(of_teacher["vocabulary"]), len(of_student["vocabulary"])
    if of_student["vocabulary"] != of_teacher["vocabulary"]:
        raise ValueError(
            f"teacher and student have different vocabularies ({sizes[0]} and {sizes[1]} tokens): the student needs the "
            "teacher's; trim_vocabulary() comes after distilling"
        )
    for name in (
        "lowercase",
        "strip_accents",
        "tokenize_chinese_chars",
        "clean_text",
        "max_input_chars_per_word",
        "added_tokens",
        "added_words",
    ):
        if of_student[name] != of_teacher[name]:
            raise ValueError(f"teacher and student read text differently: {name} is {of_teacher[name]} and {of_student[name]}")


def check_sizes(teacher: Task, student: Task, losses: Collection[str], project: bool) -> None:
    """Raises ValueError if the encoders' sizes do not allow some of the losses.

    Args:
      teacher: a trained task.
      student: the task to train.
      losses: the names of the losses, of which `"attention"` and `"relation"` need as many heads, and `"hidden"` and
        `"embedding"` vectors of one width.
      project: whether a projection may make up for vectors of different widths.
    """
    of_student, of_teacher = student.encoder.config, teacher.encoder.config
    heads = of_student.num_attention_heads, of_teacher.num_attention_heads
    if {"attention", "relation"} & set(losses) and heads[0] != heads[1]:
        raise ValueError(f"attention is compared head by head: the student has {heads[0]} heads, the teacher {heads[1]}")
    widths = of_student.hidden_size, of_teacher.hidden_size
    if {"hidden", "embedding"} & set(losses) and widths[0] != widths[1] and not project:
        raise ValueError(
            f"the student's vectors have {widths[0]} coordinates, the teacher's {widths[1]}: they can be compared with "
            "project=True only"
        )


def used_weights(weights: dict[str, Weight]) -> dict[str, Weight]:
    """Returns the weights of losses that are not 0.

    Args:
      weights: a number or a function for each loss, by the name of the loss.

    Raises:
      ValueError: a weight is negative or no finite number, or all are 0.
    """
    for name, weight in weights.items():
        if not callable(weight):
            number(name, weight, least=0)
    used = {name: weight for name, weight in weights.items() if callable(weight) or weight}
    if not used:
        raise ValueError(
            f"weights of the losses should be positive numbers or functions, and one of them at least; got {weights}"
        )
    return used


def layer_pairs(
    layer_map: str | Sequence[int], layers: Iterable[int] | None, student: Task, teacher: Task
) -> list[tuple[int, int]]:
    """Returns the pairs of layers that are compared: `(the student's layer, the teacher's layer)`, counted from 0.

    Args:
      layer_map: see `kbert.tasks.smaller.layer_map`.
      layers: numbers of the student's layers, or None for all.
      student: the task to train.
      teacher: a trained task.

    Raises:
      ValueError: `layers` or `layer_map` names a layer that the student or the teacher does not have.
    """
    counts = student.encoder.config.num_hidden_layers, teacher.encoder.config.num_hidden_layers
    mapped = smaller.layer_map(layer_map, *counts)
    chosen = range(len(mapped)) if layers is None else list(layers)
    for layer in chosen:
        if not 0 <= layer < len(mapped):
            raise ValueError(f"layers names the student's layer {layer}, but it has {len(mapped)}")
    return [(layer, mapped[layer]) for layer in chosen]
