"""The `kbert` command: a table of commands, each a module of `kbert.commands`.

A module has `arguments(parser)`, which adds its options with their ranges; `check(options)`, which raises an error if
the options, or the files that they name, are wrong; and `run(options)`. Only `run` imports TensorFlow.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from typing import NoReturn

from kbert.commands.quiet import hide_engine_lines
from kbert.commands.wording import in_flags
from kbert.version import VERSION

# By the name of each command, its line in `kbert --help`. Its module has the same name, with _ for -.
COMMANDS = {
    "demo": "fine-tune on real news, measure, export, answer in a process without kbert",
    "inspect": "say what a file or a folder holds, without loading its weights",
    "convert": "write a checkpoint in another layout: Hugging Face's, Google's or KerasHub's",
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
    "push": "upload a preset folder with its card to a hub",
}
EXPECTED = (ImportError, OSError, RuntimeError, ValueError, TypeError)  # errors whose message says what is wrong


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help shows the options\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what stands behind `kbert`; by default the process's own arguments.

    Returns:
      The exit status: 0, 1 after an error, 130 after Ctrl-C, 141 if nobody reads the output any more. Wrong options end the
      process with status 2.
    """
    options = read_options(sys.argv[1:] if arguments is None else arguments)
    flags = [name for name in vars(options) if name not in ("run", "check", "command")]

    def say(message: Warning | str, category: type[Warning], *_: object) -> None:
        if options.verbose or not issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
            print(f"note: {in_flags(message, flags)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say  # type: ignore[assignment]
        try:
            options.check(options)
            if arguments is None and not options.verbose:
                hide_engine_lines()
            options.run(options)
            sys.stdout.flush()
        except BrokenPipeError:  # as in `kbert predict ... | head`; like other programs, kbert ends without a message
            if arguments is None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the process's end
            return 141
        except KeyboardInterrupt:
            print("\nstopped; what was finished is kept, and nothing is half written. Run it again to go on.", file=sys.stderr)
            return 130
        except Exception as error:
            if options.debug:
                traceback.print_exc()
            kind = "" if isinstance(error, EXPECTED) else f"{type(error).__name__}: "
            where = "" if not kind or options.debug else " (kbert did not expect this; --debug shows where it happened)"
            print(f"kbert {options.command}: {kind}{in_flags(error, flags)}{where}", file=sys.stderr)
            return 1
    return 0


def read_options(given: Sequence[str]) -> argparse.Namespace:
    """Returns the options of a command. An option that the command does not have, or an empty one, ends the process.

    Args:
      given: the words behind `kbert`.
    """
    options, unknown = parser([word for word in given if word in COMMANDS][:1]).parse_known_args(given)
    command = options.parser  # its help shows the command's options; that of the parser of all commands does not
    del options.parser
    early = [word for word in given[: given.index(options.command)] if word in unknown]
    if early:
        command.error(f"{early[0]} stands in front of the command; options stand behind it")
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    for before, word in zip(("", *given), given):
        if word == "" or (word.startswith("--") and word.endswith("=")):  # a variable of the shell that is not set
            command.error(f"argument {(word or before).rstrip('=')}: a value is expected, got ''")
    return options


def parser(chosen: Iterable[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Returns the parser of all commands. The options that it reads have `check` and `run` of the command's module.

    Args:
      chosen: the commands whose modules are imported for their options. The other commands have only their name and a line of
        help.
    """
    whole = Parser(prog="kbert", description="BERT for Keras, from raw text to a served answer.")
    whole.add_argument("--version", action="version", version=f"kbert {VERSION}")
    commands = whole.add_subparsers(title="commands", dest="command", required=True)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if name not in chosen:
            continue
        module = importlib.import_module(f"kbert.commands.{name.replace('-', '_')}")
        module.arguments(command)
        command.add_argument("--verbose", action="store_true", help="show what TensorFlow and other libraries log")
        command.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
        command.set_defaults(check=module.check, run=module.run, parser=command)
    return whole
