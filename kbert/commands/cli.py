"""The `kbert` command: a table of commands, each a module of `kbert.commands` with `arguments(parser)` and `run(options)`."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

# The name, and what `kbert --help` says of it. A command's module has its name, with _ for -. The modules import TensorFlow in
# `run` only.
COMMANDS = {
    "demo": "fine-tune on real news, measure, export, answer in a process without kbert",
    "vocab": "learn a vocabulary from text files",
    "pretrain": "pretrain an encoder on text files, from nothing or from a checkpoint; stopped, it goes on",
    "pretrain-data": "write pretraining examples as TFRecords, in the layout of Google's script",
    "finetune": "train a task on a file, with a report",
    "evaluate": "measure a trained task on a labelled file",
    "predict": "answer each row of a file, beside it: as jsonl or csv",
    "export": "write a trained task for TF Serving or for a phone",
    "distill": "make smaller tasks of a trained one",
    "serve": "serve exported models with TF Serving's REST paths and gRPC services, for development",
    "verify": "compare an exported model with the task that it was made from",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what stands behind `kbert`; by default the process's own arguments.

    Returns:
      The exit status: 0, 1 after an error, 130 after Ctrl-C.
    """
    options = parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and nothing is half written. Run it again to go on.", file=sys.stderr)
        return 130
    except (ImportError, OSError, RuntimeError, ValueError, TypeError) as error:
        print(f"kbert {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; the `run` of its options is that of the chosen command's module."""
    whole = argparse.ArgumentParser(prog="kbert", description="BERT for Keras, from raw text to a served answer.")
    commands = whole.add_subparsers(title="commands", dest="command", required=True)
    for name, what in COMMANDS.items():
        module = importlib.import_module(f"kbert.commands.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=what)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return whole
