"""`kbert finetune`: from a data file to a trained task with a report, without a line of Python."""

from __future__ import annotations

import argparse
import json
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from kbert.commands import findings, measures, report
from kbert.commands import options as shared
from kbert.commands.jobs import JOBS, Job, check_options, hold_out, read
from kbert.commands.options import MODEL, PRESET
from kbert.commands.shares import Part, split
from kbert.files.atomic import written_aside
from kbert.files.targets import Kind
from kbert.scoring.figures import Figures

if TYPE_CHECKING:
    from kbert.tasks.task import Task

FOLDER = Kind(
    "the folder of kbert finetune",
    files=(MODEL, f"{PRESET}/*", "metrics.json", "history.csv", "mistakes.csv", "report.html"),
)
NO_SETTINGS = ("run", "check", "command", "verbose", "debug")  # options that the report does not list


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--task", required=True, choices=tuple(JOBS))
    parser.add_argument(
        "--data",
        required=True,
        help="csv, tsv, jsonl or parquet; a BIO file for ner, SQuAD's json for qa, .txt lines for fill-mask",
    )
    parser.add_argument("--preset", default="all-minilm-l6-v2", help="what to start from (default: all-minilm-l6-v2)")
    parser.add_argument("--out", required=True, help="the folder to write")
    shared.columns(parser)
    shared.held_out(parser)
    parser.add_argument(
        "--validation", type=shared.share, default=0.1, help="the share of the rest to watch while training (default: 0.1)"
    )
    shared.training(parser, learning_rate=5e-5)
    parser.add_argument("--max-length", type=shared.positions, help="the most pieces of a text (default: the checkpoint's)")
    parser.add_argument("--window-stride", type=shared.whole(1), help="read long texts in windows that share this many pieces")
    parser.add_argument("--label-smoothing", type=shared.below_one, default=0.0)
    parser.add_argument("--balance", action="store_true", help="let each class count as much as any other")
    parser.add_argument("--patience", type=shared.whole(1), help="stop after so many epochs without a lower validation loss")
    shared.seed(parser)
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for an option that the task does not have, and for files that cannot be read or written."""
    job = JOBS[options.task]
    check_options(job, options)
    shared.check_files(options.data, options.test)
    shared.check_preset(options.preset)
    shared.check_out(options.out, options.overwrite, FOLDER)


def run(options: argparse.Namespace) -> Figures:
    """Trains a task on a file, measures it on what was held out, and writes a folder with the task and the report.

    The folder holds `task.keras`, `preset/` (which transformers opens), `metrics.json`, `history.csv`, `mistakes.csv` and
    `report.html`.

    Returns:
      The figures of the trained task on what was held out.
    """
    console, job, out = Console(), JOBS[options.task], pathlib.Path(options.out)
    data = read(job, options.data, options)
    rest, test = hold_out(job, data, options)
    train, validation = split(rest, options.validation, options.seed + 1, "--validation")
    sizes = {"train": len(train), "validation": len(validation), "test": len(test)}
    console.print(", ".join(f"{size:,} to {what}" for size, what in zip(sizes.values(), ("train on", "watch", "measure by"))))
    said = say(console, findings.of_data(job, data))
    import keras  # imported late, so that a file that cannot be read is named first

    from kbert.tasks.provenance import figures_of

    keras.utils.set_random_seed(options.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "newly initialized")  # it is trained now
        task = job.build(options.preset, train.y, options)
    for part in (train, validation, test):
        with part.named():
            job.check_targets(task, part.y)
    known = {"task": options.task, "labels": getattr(task, "labels", None), **sizes}
    history = fit(task, job, train, validation, options, verbose=1 if console.is_terminal else 2)

    with test.named():
        figures: Figures = task.figures(test.x, test.y)
    measures.show(console, figures)
    said += say(console, findings.of_result(job, figures, test))
    with written_aside(out) as aside:
        aside.mkdir()
        task.provenance["figures"] = figures_of(figures.scores)
        task.save(aside / MODEL)
        task.save_to_preset(aside / PRESET)
        metrics = {**known, "scores": figures.scores}
        (aside / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        mistakes = measures.mistake_rows(figures)
        write_csv(aside / "history.csv", [dict(zip(history, row)) for row in zip(*history.values())])
        write_csv(aside / "mistakes.csv", mistakes)
        page = report_page(options, sizes, said, history, figures, mistakes)
        (aside / "report.html").write_text(page, encoding="utf-8")
    console.print(f"written: {out / MODEL}, {out / PRESET}, {out / 'report.html'}", soft_wrap=True)
    return figures


def say(console: Console, sentences: list[str]) -> list[str]:
    """Prints notes, and returns them for the report.

    Args:
      console: the terminal.
      sentences: the notes, a sentence each.
    """
    for sentence in sentences:
        console.print(f"note: {sentence}", soft_wrap=True, markup=False, highlight=False)
    return sentences


def fit(
    task: Task, job: Job, train: Part, validation: Part, options: argparse.Namespace, verbose: int
) -> dict[str, list[float]]:
    """Trains the task, and keeps the weights of the epoch with the lowest validation loss.

    Args:
      task: the task that the job built.
      job: the task's job.
      train: texts and targets to train on.
      validation: texts and targets to watch.
      options: the command's options.
      verbose: as for Keras's `fit`.

    Returns:
      The loss and the metrics of the epochs, by name.
    """
    import keras

    smoothing = {"label_smoothing": options.label_smoothing} if options.label_smoothing else {}
    task.compile(learning_rate=options.learning_rate, **smoothing)
    weights: dict[str, Any] = {"class_weight": balanced(train.y)} if options.balance else {}
    stop = keras.callbacks.EarlyStopping(patience=options.patience or options.epochs, restore_best_weights=True)
    history = task.fit(
        train.x,
        train.y,
        validation_data=job.watched(validation.x, validation.y),
        epochs=options.epochs,
        batch_size=options.batch_size,
        callbacks=[stop],
        verbose=verbose,
        **weights,
    )
    return history.history


def balanced(labels: Sequence[str]) -> dict[str, float]:
    """Returns weights by which each class counts as much as any other."""
    names, counts = np.unique(labels, return_counts=True)
    return {str(name): len(labels) / (len(names) * int(count)) for name, count in zip(names, counts)}


def write_csv(path: pathlib.Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes dictionaries with the same keys as a csv file."""
    import pandas as pd

    pd.DataFrame(lines).to_csv(path, index=False)


def report_page(
    options: argparse.Namespace,
    sizes: Mapping[str, int],
    said: Sequence[str],
    history: Mapping[str, Sequence[float]],
    figures: Figures,
    mistakes: Sequence[dict[str, Any]],
) -> str:
    """Returns the report in HTML.

    Args:
      options: the command's options.
      sizes: how many examples each part has.
      said: the notes on the data and the result.
      history: the loss and the metrics of the epochs.
      figures: the figures of the trained task.
      mistakes: the rows of mistakes.csv.
    """
    settings = {name: value for name, value in vars(options).items() if name not in NO_SETTINGS and value is not None}
    return report.page(
        f"{options.task}: {pathlib.Path(options.data).name}",
        measures.scores_grid(figures),
        report.paragraph(", ".join(f"{what}: {size:,}" for what, size in sizes.items())),
        *([report.heading("To know"), *map(report.paragraph, said)] if said else []),
        *measures.details(figures),
        report.heading("Learning curves"),
        *report.learning_curves(history),
        *measures.mistakes_grid(mistakes),
        report.heading("Settings"),
        report.grid(("option", "value"), settings.items()),
    )
