"""`kbert pretrain-data`: pretraining examples as TFRecords, in the layout of Google's script."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kbert.commands import options as shared


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", help="as of pretrain")
    shared.one_a_line(parser)
    shared.text_files(parser, separator=False)
    parser.add_argument("--vocab", required=True, help="a vocab.txt")
    shared.cased(parser)
    parser.add_argument("--out", required=True, help="the folder to write; a run that was stopped goes on")
    parser.add_argument("--shards", type=shared.whole(1), default=8)
    parser.add_argument("--max-length", type=shared.positions, default=128)
    parser.add_argument(
        "--copies",
        type=shared.whole(1),
        default=5,
        help="how often each document is used, with other pairs and masks (default: 5)",
    )
    shared.masking(parser, ("nsp", "sop"))
    shared.seed(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for a file that is missing or cannot be written."""
    shared.check_files(*options.files, folders=True)
    shared.check_files(options.vocab)
    shared.check_writable(options.out)  # a run that was stopped goes on


def run(options: argparse.Namespace) -> None:
    """Writes pretraining examples of the documents in text files."""
    from kbert.files.vocabulary import read_vocabulary
    from kbert.pretraining.records import write_records
    from kbert.pretraining.sentence_pairs import read_documents
    from kbert.text.tokenizer import WordPieceTokenizer

    console = Console()
    tokenizer = WordPieceTokenizer(read_vocabulary(options.vocab), lowercase=not options.cased)
    columns = [TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        documents = progress.track(
            read_documents(options.files, options.one_a_line, options.encoding), description="documents read"
        )
        written = progress.add_task("shards written", total=options.shards)
        paths = write_records(
            documents,
            tokenizer,
            options.out,
            options.shards,
            options.max_length,
            options.copies,
            options.objective or shared.OBJECTIVE,
            options.whole_words,
            seed=options.seed,
            progress=lambda path: progress.advance(written),
        )
    console.print(f"{options.out}: {len(paths)} shards", soft_wrap=True)
