"""`kbert verify`: an exported model beside the task that it was made from."""

from __future__ import annotations

import argparse

from kbert.commands import options as shared
from kbert.commands import tables
from kbert.commands.jobs import open_task, reading


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("path", help="a SavedModel's folder, a LiteRT or an ONNX file")
    shared.model(parser, "--against", required=True, dest="model")
    parser.add_argument(
        "--texts", dest="data", help="a file of texts to compare on (default: a built-in set that is hard to read)"
    )
    parser.add_argument("--text", help="the column of texts")
    parser.add_argument("--pair", help="the column of second texts; of a question answerer the texts")
    shared.text_files(parser)
    parser.add_argument(
        "--tolerance", type=shared.positive, default=1e-4, help="how far numbers may be apart (default: 1e-4; of float16 5e-3)"
    )
    parser.add_argument(
        "--agreement",
        type=shared.part,
        help="of int8, in place of a tolerance: the least share of labels that stay, e.g. 0.95; with 0 nothing is refused",
    )


def check(options: argparse.Namespace) -> None:
    """Raises an error for a missing file, and for a column without `--texts`."""
    shared.check_files(options.path, folders=True)
    shared.model_file(options.model)
    shared.check_files(options.data)
    for name in ("text", "pair"):
        if getattr(options, name) and not options.data:
            raise ValueError(f"--{name} names a column of --texts: give both")


def run(options: argparse.Namespace) -> None:
    """Compares the answers of an exported model with its task's, and prints what the model is."""
    from kbert.export import verify as compare

    task = open_task(options.model)
    texts = tables.read_texts(options.data, options.text, options.pair, reading(options)) if options.data else None
    by_labels = {} if options.agreement is None else {"tolerance": None, "agreement": options.agreement}
    compare(options.path, task, texts, **{"tolerance": options.tolerance, **by_labels})
