"""`kbert finetune`: from a data file to a trained task with a report, without a line of Python."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from kbert.commands import measures, report
from kbert.commands import options as shared
from kbert.commands.jobs import JOBS, MODEL, PRESET, Examples, Job, count, read_parts, shares
from kbert.files.atomic import written_aside
from kbert.files.targets import Kind, check_target
from kbert.scoring.figures import Figures

if TYPE_CHECKING:
    from kbert.tasks.task import Task

FOLDER = Kind(
    "the folder of kbert finetune",
    files=(MODEL, f"{PRESET}/*", "metrics.json", "history.csv", "mistakes.csv", "report.html"),
)


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
        "--validation", type=float, default=0.1, help="the share of the rest to watch while training (default: 0.1)"
    )
    shared.training(parser, learning_rate=5e-5)
    parser.add_argument("--max-length", type=int, help="the most pieces of a text (default: the checkpoint's)")
    parser.add_argument("--window-stride", type=int, help="read long texts in windows that share this many pieces")
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--balance", action="store_true", help="let each class count as much as any other")
    parser.add_argument("--patience", type=int, help="stop after so many epochs without a lower validation loss")
    shared.seed(parser)
    shared.overwrite(parser)


def run(options: argparse.Namespace) -> Figures:
    """Trains a task on a file, measures it on what was held out, and writes a folder with the task and the report.

    The folder holds `task.keras`, `preset/` (which transformers opens), `metrics.json`, `history.csv`, `mistakes.csv` and
    `report.html`.

    Returns:
      The figures of the trained task on what was held out.
    """
    import keras

    console, job = Console(), JOBS[options.task]
    out = check_target(options.out, options.overwrite, FOLDER)
    check_options(job, options)
    train, test = read_parts(job, options)
    train, validation = shares(*train, options.validation, options.seed + 1)
    sizes = {"train": count(train[0]), "validation": count(validation[0]), "test": count(test[0])}
    console.print(", ".join(f"{size:,} to {what}" for size, what in zip(sizes.values(), ("train on", "watch", "measure by"))))
    keras.utils.set_random_seed(options.seed)
    task = job.build(options.preset, train[1], options)
    for _, y in (validation, test):
        job.check_targets(task, y)
    known = {"task": options.task, "labels": getattr(task, "labels", None), **sizes}
    history = fit(task, job, train, validation, options, verbose=1 if console.is_terminal else 2)

    figures: Figures = task.figures(*test)
    measures.show(console, figures)
    with written_aside(out) as aside:
        aside.mkdir()
        task.save(aside / MODEL)
        task.save_to_preset(aside / PRESET)
        metrics = {**known, "scores": figures.scores}
        (aside / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        mistakes = measures.mistake_rows(figures)
        write_csv(aside / "history.csv", [dict(zip(history, row)) for row in zip(*history.values())])
        write_csv(aside / "mistakes.csv", mistakes)
        page = report_page(options, sizes, history, figures, mistakes)
        (aside / "report.html").write_text(page, encoding="utf-8")
    console.print(f"written: {out / MODEL}, {out / PRESET}, {out / 'report.html'}", soft_wrap=True)
    return figures


def check_options(job: Job, options: argparse.Namespace) -> None:
    """Raises a ValueError for an option that is out of its range, or that the job does not have."""
    if not 0 < options.validation < 1:
        raise ValueError(f"--validation should be a share between 0 and 1, got {options.validation}")
    for name in ("label_smoothing", "balance"):
        if getattr(options, name) and name not in job.options:
            raise ValueError(f"--{name.replace('_', '-')} is for classification")


def fit(
    task: Task, job: Job, train: Examples, validation: Examples, options: argparse.Namespace, verbose: int
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
    weights: dict[str, Any] = {"class_weight": balanced(train[1])} if options.balance else {}
    stop = keras.callbacks.EarlyStopping(patience=options.patience or options.epochs, restore_best_weights=True)
    history = task.fit(
        *train,
        validation_data=job.watched(*validation),
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
    history: Mapping[str, Sequence[float]],
    figures: Figures,
    mistakes: Sequence[dict[str, Any]],
) -> str:
    """Returns the report in HTML: scores, the table by label, pictures, learning curves, mistakes and settings."""
    settings = {name: value for name, value in vars(options).items() if name not in ("run", "command") and value is not None}
    return report.page(
        f"{options.task}: {pathlib.Path(options.data).name}",
        measures.scores_grid(figures),
        report.paragraph(", ".join(f"{what}: {size:,}" for what, size in sizes.items())),
        *measures.details(figures),
        report.heading("Learning curves"),
        *report.learning_curves(history),
        *measures.mistakes_grid(mistakes),
        report.heading("Settings"),
        report.grid(("option", "value"), settings.items()),
    )
