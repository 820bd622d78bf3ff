"""`kbert vocab`: a vocabulary from text files."""

from __future__ import annotations

import argparse

from kbert.commands import options as shared

SMALLEST = 13  # the special tokens and some characters


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", help="text files, of any size")
    parser.add_argument("--size", type=shared.whole(SMALLEST), default=30522, help="the most tokens (default: 30522)")
    parser.add_argument("--out", default="vocab.txt", help="the file to write (default: vocab.txt)")
    shared.cased(parser)
    shared.text_files(parser, separator=False)
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for a file that is missing or cannot be written."""
    shared.check_files(*options.files)
    shared.check_out(options.out, options.overwrite, read=options.files)


def run(options: argparse.Namespace) -> None:
    """Learns a vocabulary and writes it as a vocab.txt."""
    from kbert.files.vocabulary import save_vocabulary
    from kbert.text.learn_vocabulary import learn_vocabulary, lines_of

    tokens = learn_vocabulary(lines_of(options.files, options.encoding), options.size, lowercase=not options.cased)
    save_vocabulary(tokens, options.out)
    print(f"{options.out}: {len(tokens):,} tokens")
