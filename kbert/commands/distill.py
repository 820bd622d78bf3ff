"""`kbert distill`: smaller tasks of a trained one, and what they are worth beside it."""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from kbert.commands import options as shared
from kbert.commands import report, tables
from kbert.commands.jobs import Job, check_pairs, hold_out, job_of, open_task, read, reading
from kbert.commands.measures import show_table
from kbert.commands.shares import Examples, Part
from kbert.files.atomic import written_aside
from kbert.files.targets import Kind

if TYPE_CHECKING:
    from kbert.distillation.recipes import Recipe
    from kbert.tasks.task import Task

WARM_UP, TIMED = 10, 50  # answers of a frozen task: those before the measurement, and those of it
FOLDER = Kind("the folder of kbert distill", files=("student_*.keras", "metrics.json", "report.html"))
Worth = dict[str, float]  # the figures of one task by the names of the table's columns


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser, "--teacher", required=True)
    parser.add_argument("--layers", type=shared.whole(1), nargs="+", required=True, help="of the students, e.g. 3 2 1")
    parser.add_argument("--data", required=True, help="a file as for finetune")
    parser.add_argument(
        "--unlabelled", help="plain texts, which the teacher labels: for tinybert's first stage, or beside the data's"
    )
    parser.add_argument("--recipe", default="task", choices=("task", "distilbert", "tinybert", "mobilebert"))
    parser.add_argument("--out", required=True, help="the folder to write")
    parser.add_argument(
        "--cache", metavar="DIR", help="keep what the teacher says here: later epochs and runs cost the student only"
    )
    shared.columns(parser)
    shared.held_out(parser)
    shared.training(parser, learning_rate=1e-4, epochs="of each stage")
    shared.seed(parser)
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for a file that is missing or cannot be written."""
    shared.model_file(options.teacher)
    shared.check_files(options.data, options.test, options.unlabelled)
    shared.check_out(options.out, options.overwrite, FOLDER, read=[options.teacher])
    if options.cache:
        shared.check_writable(options.cache)


def run(options: argparse.Namespace) -> None:
    """Makes students of a trained task, and a table and a picture of what they are worth beside it."""
    from kbert.distillation.recipes import recipes

    console = Console()
    out = pathlib.Path(options.out)
    teacher = open_task(options.teacher)
    job = job_of(teacher)
    most = teacher.encoder.config.num_hidden_layers
    wrong = [count for count in options.layers if not 1 <= count <= most]
    if wrong:
        raise ValueError(f"--layers {wrong[0]}, but the teacher has {most}")
    train, test = hold_out(job, read(job, options.data, options), options)
    for part in (train, test):
        check_pairs(teacher, part.x)
        with part.named():
            job.check_targets(teacher, part.y)
    recipe = recipes[options.recipe]
    students = make_students(teacher, job, train, recipe, options, console)
    entries = {f"teacher, {most} layers": teacher, **{f"student, {layers} layers": task for layers, task in students.items()}}
    worth = {name: worth_of(task, (test.x, test.y)) for name, task in entries.items()}
    head = ("", *next(iter(worth.values())))
    rows = [(name, *map(str, row.values())) for name, row in worth.items()]
    console.print()
    show_table(console, head, rows)
    with written_aside(out) as aside:
        aside.mkdir()
        for layers, task in students.items():
            task.save(aside / f"student_{layers}.keras")
        (aside / "metrics.json").write_text(json.dumps(worth, indent=2) + "\n", encoding="utf-8")
        parts = report.grid(head, rows), latency_picture(worth, head[1])
        (aside / "report.html").write_text(report.page(f"Students by the recipe {recipe.name}", *parts), encoding="utf-8")
    console.print(f"written: {out}", soft_wrap=True)


def make_students(
    teacher: Task, job: Job, train: Part, recipe: Recipe, options: argparse.Namespace, console: Console
) -> dict[int, Task]:
    """Trains a student of each number of layers in `--layers`.

    Args:
      teacher: the task to learn from.
      job: the teacher's job.
      train: texts and targets.
      recipe: the recipe in `--recipe`.
      options: the command's options.
      console: where each student is announced.

    Returns:
      The students by their numbers of layers.
    """
    import keras

    texts, labels, stage_data = lesson(job, train, recipe, options)
    students = {}
    for layers in options.layers:
        keras.utils.set_random_seed(options.seed)
        console.print(f"a student of {layers} layers, by the recipe {recipe.name} ({recipe.source})")
        students[layers] = recipe.run(
            teacher,
            texts,
            labels,
            num_hidden_layers=layers,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            stage_data=stage_data,
            cache=None if options.cache is None else pathlib.Path(options.cache) / f"{layers}-layers",
            verbose=1 if console.is_terminal else 2,
        )
    return students


def lesson(job: Job, train: Part, recipe: Recipe, options: argparse.Namespace) -> tuple[Any, Any, dict[str, Any] | None]:
    """Returns the texts and labels that a recipe runs on, and the plain texts of its first stage by the stage's name.

    A recipe whose first stage is on plain texts has the texts of `--unlabelled` there. Otherwise they stand behind the data's
    own, without labels.

    Args:
      job: the teacher's job.
      train: the examples to train on.
      recipe: the recipe that trains the students.
      options: the command's options.

    Raises:
      ValueError: the job's texts are no single texts, so that plain texts cannot stand among them.
    """
    texts, labels = job.lesson(train.x, train.y)
    plain = tables.read_texts(options.unlabelled, options.text, how=reading(options)) if options.unlabelled else None
    if not plain:
        return texts, labels, None
    if recipe.stages[0].on_plain_texts:
        return texts, labels, {recipe.stages[0].name: plain}
    if not texts or not isinstance(texts, list) or not isinstance(texts[0], str):
        raise ValueError(f"--unlabelled of the recipe {recipe.name} goes with single texts, which {job.name} does not have")
    return texts + plain, labels and [*labels, *[None] * len(plain)], None


def worth_of(task: Task, test: Examples) -> Worth:
    """Returns what a task is worth where it is to run small and fast.

    Args:
      task: a trained task.
      test: texts and targets to measure by.

    Returns:
      The first of its scores, the number of its parameters, the size of its int8 LiteRT file, and the median time of a frozen
      task's answer to the first of the texts.
    """
    job, (x, y) = job_of(task), test
    scores = task.figures(x, y).scores
    name = next(iter(scores))
    pairs = isinstance(x, tuple)
    inputs = "tokens" if pairs else job.litert_inputs
    return {
        name: round(scores[name], 4),
        "parameters": sum(math.prod(variable.shape) for variable in task.trainable_variables),
        f"int8 .tflite ({inputs}), MB": round(megabytes_in_int8(task, inputs), 1),
        "one text, ms": round(latency(task, job, tuple(column[:1] for column in x) if pairs else x[:1]), 2),
    }


def megabytes_in_int8(task: Task, inputs: str) -> float:
    """Returns the size of the task's int8 LiteRT file that takes `inputs`, `"text"` or `"tokens"`."""
    with tempfile.TemporaryDirectory() as room:
        path = pathlib.Path(room) / "task.tflite"
        length = min(128, task.preprocessor.max_length)
        task.export(path, format="litert", inputs=inputs, quantize="int8", max_length=length, verify=False)
        return path.stat().st_size / 1e6


def latency(task: Task, job: Job, question: Any) -> float:
    """Returns the median time of a frozen task's answer to `question`, a list of one text, in milliseconds."""
    frozen: Any = task.freeze()  # has the task's verbs
    times = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        job.time(frozen, question)
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times[WARM_UP:]))


def latency_picture(worth: Mapping[str, Worth], metric: str) -> str:
    """Returns a picture of the tasks' scores by the time of an answer.

    Args:
      worth: what each task is worth, by its name.
      metric: the name of the score.
    """
    points: Sequence[tuple[float, float]] = [(figures["one text, ms"], figures[metric]) for figures in worth.values()]

    def draw(axes: Any) -> None:
        axes.plot(*zip(*points), "o-")
        for name, point in zip(worth, points):
            axes.annotate(name, point, textcoords="offset points", xytext=(4, -12), fontsize=8)
        axes.set_xlabel("one text, ms")
        axes.set_ylabel(metric.replace("_", " "))

    return report.picture(draw, f"{metric} by latency")
