"""`kbert export`: a trained task as a file or folder for where it is to run."""

from __future__ import annotations

import argparse
from typing import Any

from kbert.arguments import plain_name
from kbert.commands import options as shared
from kbert.commands import tables
from kbert.commands.jobs import open_task, reading
from kbert.files.targets import FORMATS, format_by_name

# By format, the options that only some formats have.
TAKES = {
    "tf_saved_model": ("quantize",),
    "litert": ("inputs", "quantize", "metadata", "max_length", "data", "agreement"),
    "onnx": ("inputs", "quantize", "data", "agreement"),
}

# Options of the folder that --serving writes, and the arguments of `export_serving`.
SERVING = {"--latest": "latest", "--versions": "versions", "--version-label": "version_labels"}

QUANTIZED = {"tf_saved_model": ("float16",), "litert": ("float16", "int8", "int8-static"), "onnx": ("int8",)}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    shared.model(parser)
    parser.add_argument("path", help="the folder or file to write, e.g. models/emotion/1 or emotion.tflite")
    parser.add_argument(
        "--serving",
        metavar="NAME",
        type=shared.checked(lambda name: plain_name("a model's name", name)),
        help="write a folder that TF Serving runs from, with a model of this name; a model of another name is added",
    )
    parser.add_argument("--latest", type=shared.whole(1), help="how many versions the server loads, the newest (--serving)")
    parser.add_argument("--versions", type=shared.whole(1), nargs="+", help="the versions that the server loads (--serving)")
    parser.add_argument(
        "--version-label",
        metavar="LABEL[=VERSION]",
        dest="version_labels",
        type=labeled,
        nargs="+",
        help="names for versions, by which clients can ask; without a number for the one that is written (--serving)",
    )
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
    parser.add_argument("--max-length", type=shared.positions, help="positions that every text is computed on (litert)")
    parser.add_argument(
        "--quantize",
        choices=("float16", "int8", "int8-static"),
        help="smaller weights (int8: litert and onnx; int8-static: litert)",
    )
    parser.add_argument(
        "--agreement", type=shared.part, help="the least share of labels that an int8 file keeps (default: 0.95)"
    )
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for options that do not fit each other, and for files that cannot be read or written."""
    written = format_of(options)
    if options.serving and (written != "tf_saved_model" or options.overwrite):
        raise ValueError(
            "--serving writes a SavedModel of the next version into a folder; it goes without "
            f"{'--overwrite' if options.overwrite else '--format and without a path that ends in .tflite or .onnx'}"
        )
    kit = [flag for flag, dest in SERVING.items() if getattr(options, dest) is not None]
    if kit and not options.serving:
        raise ValueError(f"{kit[0]} says what TF Serving loads: give --serving too")
    if options.latest and options.versions:
        raise ValueError("--latest and --versions both say which versions the server loads: give one of them")
    wrong = [name for name in stated(options) if name not in TAKES[written]]
    if wrong:
        name = "texts" if wrong[0] == "data" else wrong[0].replace("_", "-")
        raise ValueError(f"--{name} is not for --format {written}")
    if options.quantize and options.quantize not in QUANTIZED[written]:
        takes = " or ".join(QUANTIZED[written])
        raise ValueError(f"--quantize {options.quantize} is not for --format {written}, which takes {takes}")
    if options.quantize == "int8-static" and not options.data:
        raise ValueError("--quantize int8-static finds its ranges on texts like those that the file will read: give --texts")
    if options.text and not options.data:
        raise ValueError("--text names a column of --texts: give both")
    if options.serving:
        shared.check_writable(options.path)
    else:
        shared.check_out(options.path, options.overwrite, FORMATS[written])
    shared.model_file(options.model)
    shared.check_files(options.data)


def labeled(text: str) -> tuple[str, int | None]:
    """Returns the label and the version of `LABEL=VERSION`; None if the version is left out."""
    label, _, version = text.partition("=")
    try:
        plain_name("a label", label)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return label, shared.whole(1)(version) if "=" in text else None


def format_of(options: argparse.Namespace) -> str:
    """Returns the format of `--format`, or else the one that the suffix of the path says.

    Args:
      options: the command's options.
    """
    return options.format or format_by_name(options.path)


def stated(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the given options among those that only some formats have, by name.

    Args:
      options: the command's options.
    """
    values = {name: getattr(options, name) for name in ("inputs", "quantize", "metadata", "max_length", "data", "agreement")}
    return {name: value for name, value in values.items() if value is not None}


def run(options: argparse.Namespace) -> None:
    """Exports a trained task."""
    task, given = open_task(options.model), stated(options)
    if given.pop("data", None) is not None:
        given["texts"] = tables.read_texts(options.data, options.text, how=reading(options))
    if options.serving:
        from kbert.export import export_serving

        given |= {name: getattr(options, name) for name in ("latest", "versions") if getattr(options, name)}
        if options.version_labels:
            given["version_labels"] = dict(options.version_labels)
        print(f"written: {export_serving(task, options.path, options.serving, **given)}")
        return
    task.export(options.path, format=format_of(options), overwrite=options.overwrite, **given)
    print(f"written: {options.path}")
