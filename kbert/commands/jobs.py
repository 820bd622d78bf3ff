"""What a job, a `--task` of the command line, is: how its file is read, its task built and asked; and what jobs share."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kbert.commands import asked, tables
from kbert.commands.options import HELD_OUT, model_file
from kbert.commands.shares import Examples, Part, count, split
from kbert.commands.shares import shares as shares  # where scripts look for it

if TYPE_CHECKING:  # the commands' help does not wait for TensorFlow
    from kbert.tasks.task import Task

COLUMNS = ("text", "pair", "label")  # options that name columns


def reading(options: argparse.Namespace) -> tables.Reading:
    """Returns the options that say how data files are read.

    Args:
      options: the command's options.
    """
    return tables.Reading(options.encoding, options.separator, getattr(options, "names", None))


def _read_asked(path: str, options: argparse.Namespace) -> asked.Asked:
    return asked.read_asked(path, options.text, options.pair, reading(options))


def _classify(task: Task, x: Any) -> Sequence[Any]:
    return task.classify(x)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a task is trained, measured and asked for on the command line.

    Args:
      name: the value of `--task`, and the `job` of a trained task.
      read: reads a labelled file. It takes a path and the command's options. It returns texts and targets. If it leaves out
        some examples of the file, it also returns the number of each in the file, counted from 0.
      build: builds the task to train. It takes a preset, the targets whose labels the task is to know, and the options.
      check_targets: raises a ValueError if a task cannot have these targets, before any long work.
      read_asked: reads a file to answer. Its columns, targets included, stand beside the answers. It takes a path and the
        options.
      answer: returns an answer for each text that `read_asked` has read. It takes a task and the texts.
      time: computes the answers to texts once, for a measurement of time. It takes a task, which may be frozen, and the texts.
      watched: the `validation_data` of `fit`, from texts and targets.
      lesson: the texts and labels (or None) that a student learns from, from texts and targets.
      options: the names of the options that this job has, among those that only some jobs have.
      has_named_labels: whether targets are names that somebody gave to whole texts.
      takes_pairs: whether a text can be a pair, if the task was trained on pairs.
      litert_inputs: what an int8 LiteRT file of the task takes where texts are single: `"text"` or `"tokens"`.
    """

    name: str
    read: Callable[[str, argparse.Namespace], tuple[Any, ...]]
    build: Callable[[str, Any, argparse.Namespace], Task]
    check_targets: Callable[[Task, Any], None] = lambda task, y: None
    read_asked: Callable[[str, argparse.Namespace], asked.Asked] = _read_asked
    answer: Callable[[Task, Any], Sequence[Any]] = _classify
    time: Callable[[Task, Any], Any] = lambda task, x: task.predict(x)
    watched: Callable[[Any, Any], Any] = lambda x, y: (x, y)
    lesson: Callable[[Any, Any], Examples] = lambda x, y: (x, y)
    options: tuple[str, ...] = COLUMNS
    has_named_labels: bool = False
    takes_pairs: bool = False
    litert_inputs: str = "tokens"


# Building


def _build_classes(preset: str, y: Sequence[str], options: argparse.Namespace) -> Task:
    from kbert.tasks.problems import SINGLE
    from kbert.tasks.text_classifier import TextClassifier

    names = sorted(set(y))
    if len(names) < 2:
        raise ValueError(f"{options.data} has one label only, {names[0]!r}: there is nothing to tell apart")
    return TextClassifier.from_preset(preset, labels=names, problem_type=SINGLE, **_lengths(options))


def _build_labels(preset: str, y: Sequence[Sequence[str]], options: argparse.Namespace) -> Task:
    from kbert.tasks.problems import MULTI
    from kbert.tasks.text_classifier import TextClassifier

    names = sorted({label for labels in y for label in labels})
    return TextClassifier.from_preset(preset, labels=names, problem_type=MULTI, **_lengths(options))


def _build_numbers(preset: str, y: Sequence[float], options: argparse.Namespace) -> Task:
    from kbert.tasks.problems import REGRESSION
    from kbert.tasks.text_classifier import TextClassifier

    return TextClassifier.from_preset(preset, problem_type=REGRESSION, **_lengths(options))


def _lengths(options: argparse.Namespace) -> dict[str, Any]:
    return {"max_length": options.max_length, "window_stride": options.window_stride}


def _build_entities(preset: str, y: Sequence[Sequence[str]], options: argparse.Namespace) -> Task:
    from kbert.tasks.token_classifier import TokenClassifier

    names = ["O", *sorted({tag for tags in y for tag in tags} - {"O"})]
    return TokenClassifier.from_preset(preset, labels=names, max_length=options.max_length)


def _build_answers(preset: str, y: Any, options: argparse.Namespace) -> Task:
    from kbert.tasks.question_answerer import QuestionAnswerer

    return QuestionAnswerer.from_preset(preset, max_length=options.max_length)


def _build_masks(preset: str, y: None, options: argparse.Namespace) -> Task:
    from kbert.tasks.masked_lm import MaskedLM

    return MaskedLM.from_preset(preset, max_length=options.max_length)


def _build_vectors(preset: str, y: Any, options: argparse.Namespace) -> Task:
    from kbert.tasks.text_embedder import TextEmbedder

    return TextEmbedder.from_preset(preset, max_length=options.max_length)


# Reading and checking


def _labelled(**kwargs: bool) -> Callable[[str, argparse.Namespace], Examples]:
    """Returns a reader of texts and labels; `**kwargs` are other arguments of `tables.read_labelled`."""
    return lambda path, options: tables.read_labelled(
        path, options.text, options.pair, options.label, how=reading(options), **kwargs
    )


def _one_column(options: argparse.Namespace) -> str | None:
    """Returns the name in `--label`; raises a ValueError if there are several."""
    return tables.only_name(options.label or [])


def _refuse(options: argparse.Namespace, *names: str) -> None:
    """Raises a ValueError if an option is given that the job's files do not use."""
    for name in names:
        if getattr(options, name, None) is not None:
            raise ValueError(f"--{name} is not for this task")


def _read_words(path: str, options: argparse.Namespace) -> Examples:
    return tables.read_words(path, options.text, _one_column(options), reading(options))


def _read_asked_words(path: str, options: argparse.Namespace) -> asked.Asked:
    _refuse(options, "pair")
    return asked.read_asked_words(path, options.text, reading(options))


def _read_questions(path: str, options: argparse.Namespace) -> tuple[Any, Any, Sequence[int]]:
    return tables.numbered_questions(path, options.text, options.pair, _one_column(options), reading(options))


def _read_plain(path: str, options: argparse.Namespace) -> tuple[Any, None, Sequence[int]]:
    texts, rows = tables.numbered_texts(path, options.text, how=reading(options))
    return texts, None, rows


def _read_pairs(path: str, options: argparse.Namespace) -> Examples:
    return tables.read_pairs(path, options.text, options.pair, _one_column(options), reading(options))


def _read_asked_to_embed(path: str, options: argparse.Namespace) -> asked.Asked:
    _refuse(options, "pair")
    read = asked.read_asked(path, options.text, how=reading(options), guesses=(*tables.TEXT, "anchor"))
    other = next((name for name in ("positive", *tables.PAIR) if read.inputs and name in read.inputs[0]), None)
    if options.text is None and other is not None:
        warnings.warn(f"of the pairs in {path}, the first texts are embedded; --text {other} embeds the others", stacklevel=2)
    return read


def _fill(task: Task, x: Sequence[str]) -> Sequence[Any]:
    """Returns the tokens for the masks of each text; an empty list for a text without a mask."""
    mask = task.tokenizer.mask_token
    without = [row for row, text in enumerate(x, 1) if mask not in text]
    if len(without) == len(x):
        raise ValueError(f"no text has a {mask}; write it where a word is to be found")
    if without:
        warnings.warn(
            f"{len(without)} texts have no {mask}, and no answer: rows {', '.join(map(str, without[:5]))}", stacklevel=2
        )
    # Texts without a mask are replaced and not left out, so that errors number the texts as the file does.
    answers = task.fill([text if mask in text else mask for text in x])
    return [answer if mask in text else [] for text, answer in zip(x, answers)]


def _check_labels(task: Task, y: Any) -> None:
    task.encode_targets(y)


def _check_tags(task: Task, y: Iterable[Iterable[str]]) -> None:
    known = set(task.labels)
    for place, tags in enumerate(y):
        unknown = sorted(set(tags) - known)
        if unknown:
            raise ValueError(f"y[{place}] has the tag {unknown[0]!r}, which no sentence to train on has")


JOBS = {
    job.name: job
    for job in (
        Job(
            "classification",
            _labelled(),
            _build_classes,
            _check_labels,
            options=(*COLUMNS, "names", "window_stride", "label_smoothing", "balance"),
            has_named_labels=True,
            takes_pairs=True,
            litert_inputs="text",
        ),
        Job(
            "multi-label",
            _labelled(several=True),
            _build_labels,
            _check_labels,
            options=(*COLUMNS, "names", "window_stride", "label_smoothing"),
            has_named_labels=True,
            takes_pairs=True,
            litert_inputs="text",
        ),
        Job(
            "regression",
            _labelled(numbers=True),
            _build_numbers,
            _check_labels,
            options=(*COLUMNS, "window_stride"),
            takes_pairs=True,
            litert_inputs="text",
        ),
        Job(
            "ner",
            _read_words,
            _build_entities,
            _check_tags,
            read_asked=_read_asked_words,
            options=("text", "label", "names"),
        ),
        Job(
            "qa",
            _read_questions,
            _build_answers,
            read_asked=lambda path, options: asked.read_asked_questions(path, options.text, options.pair, reading(options)),
            answer=lambda task, x: task.answer(*x),
            time=lambda task, x: task.answer(*x),
        ),
        Job(
            "fill-mask",
            _read_plain,
            _build_masks,
            answer=_fill,
            watched=lambda x, y: x,
            options=("text",),
        ),
        Job(
            "embedding",
            _read_pairs,
            _build_vectors,
            read_asked=_read_asked_to_embed,
            answer=lambda task, x: task.embed(x),
            lesson=lambda x, y: (x[0] + x[1], None),
            litert_inputs="text",
        ),
    )
}


def job_of(task: Task) -> Job:
    """Returns the job that a trained task does.

    Raises:
      ValueError: it is a task that no command measures or asks, such as a `Pretrainer`.
    """
    if task.job not in JOBS:
        raise ValueError(f"a {type(task).__name__} does none of the command line's jobs, {', '.join(JOBS)}")
    return JOBS[task.job]


def check_pairs(task: Task, x: Any) -> None:
    """Raises a ValueError if a task that was trained on pairs of texts is given single texts.

    Args:
      task: the task.
      x: its input: a list of texts, or a tuple of two lists.
    """
    if job_of(task).takes_pairs and task.trained_on_pairs and not isinstance(x, tuple):
        raise ValueError("the task was trained on pairs of texts: name the column of second texts with --pair")


def open_task(path: str | pathlib.Path) -> Task:
    """Opens a task from a `.keras` file, or from the folder that finetune wrote."""
    from kbert.tasks.files import load

    return load(model_file(path))


# Examples


def check_options(job: Job, options: argparse.Namespace) -> None:
    """Raises a ValueError for an option that a job does not have.

    Args:
      job: the job.
      options: the command's options.
    """
    for name in dict.fromkeys(name for other in JOBS.values() for name in other.options):
        if getattr(options, name, None) and name not in job.options:
            others = ", ".join(other.name for other in JOBS.values() if name in other.options)
            raise ValueError(f"--{name.replace('_', '-')} is not for {job.name}, only for {others}")


def read(job: Job, path: str, options: argparse.Namespace) -> Part:
    """Reads the labelled examples of a job from a file.

    Args:
      job: the job.
      path: the file.
      options: the command's options.

    Raises:
      ValueError: the file holds no examples or wrong ones, or an option is given that the job does not have.
    """
    check_options(job, options)
    x, y, *numbers = job.read(path, options)
    if not count(x):
        raise ValueError(f"{path} holds no examples")
    return Part(x, y, path, *(numbers or [range(count(x))]))


def hold_out(job: Job, data: Part, options: argparse.Namespace) -> tuple[Part, Part]:
    """Returns the examples to train on and those to measure by: the data and the file of `--test`, or two parts of the data.

    Args:
      job: the job, which reads the file of `--test`.
      data: the examples of `--data`.
      options: the command's options.
    """
    if options.test:
        return data, read(job, options.test, options)
    return split(data, options.held_out or HELD_OUT, options.seed, "--held-out")
