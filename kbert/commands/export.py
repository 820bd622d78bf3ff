"""`kbert export`: a trained task as a file or folder for where it is to run."""

from __future__ import annotations

import argparse

from kbert.commands import options as shared
from kbert.commands import tables
from kbert.commands.jobs import open_task, reading
from kbert.files.targets import FORMATS, check_target, format_by_name

# By format, the options that only some formats have.
TAKES = {
    "tf_saved_model": ("quantize",),
    "litert": ("inputs", "quantize", "metadata", "max_length", "data"),
    "onnx": ("inputs", "quantize", "data"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("path", help="the folder or file to write, e.g. models/emotion/1 or emotion.tflite")
    parser.add_argument("--serving", metavar="NAME", help="write a folder that TF Serving runs from, with a model of this name")
    parser.add_argument(
        "--format",
        choices=tuple(TAKES),
        help="what to write (default: by the suffix of PATH, .tflite or .onnx; otherwise a SavedModel's folder)",
    )
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
    written = options.format or format_by_name(options.path)
    if options.serving and (written != "tf_saved_model" or options.overwrite):
        raise ValueError(
            "--serving writes a SavedModel of the next version into a folder; it goes without "
            f"{'--overwrite' if options.overwrite else '--format and without a path that ends in .tflite or .onnx'}"
        )
    if not options.serving:
        check_target(options.path, options.overwrite, FORMATS[written])
    given = [name for name in ("inputs", "quantize", "metadata", "max_length", "data") if getattr(options, name) is not None]
    wrong = [name for name in given if name not in TAKES[written]]
    if wrong:
        name = "texts" if wrong[0] == "data" else wrong[0].replace("_", "-")
        raise ValueError(f"--{name} is not for --format {written}")
    task = open_task(options.model)
    stated = {name: getattr(options, name) for name in given if name != "data"}
    if options.data is not None:
        stated["texts"] = tables.read_texts(options.data, options.text, how=reading(options))
    if options.serving:
        from kbert.export import export_serving

        print(f"written: {export_serving(task, options.path, options.serving, **stated)}")
        return
    task.export(options.path, format=written, overwrite=options.overwrite, **stated)
    print(f"written: {options.path}")
