"""The `kbert` command."""

import argparse
import sys
import warnings


def main(arguments=None):
    """Runs the command line; returns the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="kbert", description="BERT for Keras, from raw text to a served answer.")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    demo = commands.add_parser("demo", help="fine-tune on real news, measure, export, answer in a process without kbert")
    demo.add_argument("--folder", default="demo", help="where the model and the report go (default: demo)")
    options = parser.parse_args(arguments)

    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        from kbert import demo

        demo.run(options.folder)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and nothing is half written. Run it again to go on.", file=sys.stderr)
        return 130
    except (ImportError, OSError, RuntimeError, ValueError, TypeError) as error:
        print(f"kbert {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
