"""`kbert export`: a trained task as a file or folder for where it is to run."""

from __future__ import annotations

import argparse

from kbert.commands import options as shared
from kbert.commands import tables
from kbert.commands.jobs import open_task, reading

# By format, the options that only some formats have.
TAKES = {
    "tf_saved_model": ("quantize",),
    "litert": ("inputs", "quantize", "metadata", "max_length", "texts"),
    "onnx": ("inputs", "quantize", "texts"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("path", help="the folder or file to write, e.g. models/emotion/1 or emotion.tflite")
    parser.add_argument("--serving", metavar="NAME", help="write a folder that TF Serving runs from, with a model of this name")
    parser.add_argument("--format", default="tf_saved_model", choices=tuple(TAKES))
    parser.add_argument("--inputs", choices=("text", "tokens"), help="what a file takes (default: text, of onnx tokens)")
    parser.add_argument(
        "--metadata", choices=("mediapipe",), help="what MediaPipe's text tasks need (litert, with --inputs tokens)"
    )
    parser.add_argument(
        "--texts",
        dest="data",
        help="texts of the kind that the file is for: int8-static finds its ranges on them (litert), or their ids are "
        "compared (onnx, with --inputs text)",
    )
    parser.add_argument("--text", help="the column of texts")
    shared.text_files(parser)
    parser.add_argument("--max-length", type=int, help="positions that every text is computed on (litert)")
    parser.add_argument(
        "--quantize",
        choices=("float16", "int8", "int8-static"),
        help="smaller weights (int8: litert and onnx; int8-static: litert)",
    )
    shared.overwrite(parser)


def run(options: argparse.Namespace) -> None:
    """Writes a trained task for where it is to run."""
    task = open_task(options.model)
    texts = tables.read_texts(options.data, options.text, how=reading(options)) if options.data else None
    stated = {
        "inputs": options.inputs,
        "quantize": options.quantize,
        "metadata": options.metadata,
        "max_length": options.max_length,
        "texts": texts,
    }
    stated = {name: value for name, value in stated.items() if value is not None}
    if options.serving and (options.format != "tf_saved_model" or options.overwrite):
        raise ValueError(
            "--serving writes a SavedModel of the next version; it goes without "
            f"{'--overwrite' if options.overwrite else '--format'}"
        )
    wrong = [name for name in stated if name not in TAKES[options.format]]
    if wrong:
        raise ValueError(f"--{wrong[0].replace('_', '-')} is not for --format {options.format}")
    if options.serving:
        from kbert.export import export_serving

        print(f"written: {export_serving(task, options.path, options.serving, **stated)}")
        return
    task.export(options.path, format=options.format, overwrite=options.overwrite, **stated)
    print(f"written: {options.path}")
