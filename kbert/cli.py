"""The `kbert` command."""

import argparse
import pathlib
import sys
import warnings


def main(arguments=None):
    """Runs the command line; returns the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="kbert", description="BERT for Keras, from raw text to a served answer.")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    demo = commands.add_parser("demo", help="fine-tune on real news, measure, export, answer in a process without kbert")
    demo.add_argument("--folder", default="demo", help="where the model and the report go (default: demo)")
    demo.set_defaults(run=run_demo)
    vocab = commands.add_parser("vocab", help="learn a vocabulary from text files")
    vocab.add_argument("files", nargs="+", help="UTF-8 text files, of any size")
    vocab.add_argument("--size", type=int, default=30522, help="the most tokens (default: 30522)")
    vocab.add_argument("--out", default="vocab.txt", help="the file to write (default: vocab.txt)")
    vocab.add_argument("--cased", action="store_true", help="keep upper case and accents")
    vocab.set_defaults(run=run_vocab)
    options = parser.parse_args(arguments)

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


def run_demo(options):
    from kbert import demo

    demo.run(options.folder)


def run_vocab(options):
    from kbert.text.vocabulary import learn_vocabulary, lines_of, save_vocabulary

    for path in options.files:  # before the long work
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
    tokens = learn_vocabulary(lines_of(options.files), options.size, lowercase=not options.cased)
    save_vocabulary(tokens, options.out)
    print(f"{options.out}: {len(tokens):,} tokens")


if __name__ == "__main__":
    sys.exit(main())
