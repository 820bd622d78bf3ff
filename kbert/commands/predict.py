"""`kbert predict`: the answers to a file's texts, as JSON lines."""

from __future__ import annotations

import argparse
import json

import numpy as np

from kbert.commands import options as shared
from kbert.commands.jobs import job_of, open_task
from kbert.files.atomic import check_target, written_aside


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("--data", required=True, help="a .txt file of lines, or csv, tsv, jsonl, parquet")
    parser.add_argument("--out", help="the file to write; without it the answers are printed")
    shared.overwrite(parser)
    shared.columns(parser)


def run(options: argparse.Namespace) -> None:
    """Answers the texts of a file, as JSON, a line for each."""
    task = open_task(options.model)
    job = job_of(task)
    if options.out:
        check_target(options.out, options.overwrite)
    answers = job.answer(task, job.read_asked(options.data, options))
    lines = [json.dumps(one.tolist() if isinstance(one, np.ndarray) else one, ensure_ascii=False) for one in answers]
    if not options.out:
        print("\n".join(lines))
        return
    with written_aside(options.out) as aside:
        aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{options.out}: {len(lines):,} answers")
