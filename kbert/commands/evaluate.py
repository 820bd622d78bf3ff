"""`kbert evaluate`: what a trained task is worth on a labelled file."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from kbert.commands import options as shared
from kbert.commands.jobs import check_pairs, job_of, open_task, read
from kbert.commands.measures import show
from kbert.scoring.figures import Figures


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("--data", required=True, help="a file as for finetune")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    shared.columns(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for a missing file."""
    shared.model_file(options.model)
    shared.check_files(options.data)


def run(options: argparse.Namespace) -> Figures:
    """Measures a task on a labelled file, prints its scores and returns its figures."""
    task = open_task(options.model)
    job = job_of(task)
    part = read(job, options.data, options)
    check_pairs(task, part.x)
    with part.named():
        job.check_targets(task, part.y)
        figures: Figures = task.figures(part.x, part.y)
    if options.json:
        print(json.dumps(figures.scores))
    else:
        show(Console(), figures)
    return figures
