"""`kbert predict`: answers each row of a file, and writes the answers beside the rows."""

from __future__ import annotations

import argparse

from kbert.commands import answers_file
from kbert.commands import options as shared
from kbert.commands.jobs import check_pairs, job_of, open_task
from kbert.commands.shares import Part
from kbert.files.atomic import written_aside


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("--data", required=True, help="a .txt file of lines, or a file as for finetune, with labels or without")
    parser.add_argument("--out", help="the file to write, .jsonl, .csv or .tsv; without it the answers are printed as JSON")
    shared.overwrite(parser)
    shared.columns(parser, labels=False)


def check(options: argparse.Namespace) -> None:
    """Raises an error for a file that is missing or cannot be written."""
    shared.model_file(options.model)
    shared.check_files(options.data)
    if options.out:
        answers_file.kind_of(options.out)
        shared.check_out(options.out, options.overwrite, read=[options.data])
    elif options.overwrite:
        raise ValueError("--overwrite replaces the file of --out: give both")


def run(options: argparse.Namespace) -> None:
    """Answers each row of a file, and prints or writes the answers beside the rows."""
    kind = answers_file.kind_of(options.out) if options.out else "jsonl"
    task = open_task(options.model)
    job = job_of(task)
    asked = job.read_asked(options.data, options)
    check_pairs(task, asked.x)
    with Part(asked.x, None, options.data, range(len(asked.inputs))).named():
        answers = job.answer(task, asked.x) if asked.inputs else []
    if not options.out:
        for line in answers_file.json_lines(asked, answers):
            print(line)
        return
    with written_aside(options.out) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        answers_file.write_answers(file, kind, asked, answers)
    print(f"{options.out}: {len(asked.inputs):,} answers")
