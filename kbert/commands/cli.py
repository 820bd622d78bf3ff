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
    pretrain = commands.add_parser(
        "pretrain", help="pretrain an encoder on text files, from nothing or from a checkpoint; stopped, it goes on"
    )
    pretrain.add_argument(
        "files",
        nargs="+",
        help="text files with a blank line between documents, .jsonl with a text in each line, folders of these, or of pretrain-data's records",
    )
    pretrain.add_argument("--one-a-line", action="store_true", help="a line is a document")
    pretrain.add_argument("--out", required=True, help="the folder to write, which every BERT tool opens")
    pretrain.add_argument("--layout", default="huggingface", choices=("huggingface", "google"))
    start = pretrain.add_mutually_exclusive_group(required=True)
    start.add_argument("--vocab", help="begin with random weights and this vocabulary, e.g. one that kbert vocab learned")
    start.add_argument("--preset", help="go on from a checkpoint")
    pretrain.add_argument("--cased", action="store_true", help="keep upper case and accents (with --vocab)")
    pretrain.add_argument("--layers", type=int, default=4, help="with --vocab (default: 4)")
    pretrain.add_argument("--width", type=int, default=256, help="with --vocab (default: 256)")
    pretrain.add_argument("--heads", type=int, help="with --vocab (default: a head for 64 of the width)")
    pretrain.add_argument(
        "--max-length",
        type=int,
        nargs="+",
        default=[128],
        help="positions of a pair; two for two phases, e.g. 128 512 (default: 128)",
    )
    pretrain.add_argument("--objective", default="nsp", choices=("nsp", "sop", "mlm"))
    pretrain.add_argument("--whole-words", action="store_true", help="hide words with all of their pieces")
    pretrain.add_argument("--held-out", type=float, default=0.05, help="the share of documents to watch (default: 0.05)")
    pretrain.add_argument("--epochs", type=int, nargs="+", default=[1], help="of each phase, e.g. 9 1 (default: 1)")
    pretrain.add_argument("--batch-size", type=int, nargs="+", default=[32], help="of each phase (default: 32)")
    pretrain.add_argument("--accumulate", type=int, help="batches whose mean gradient makes one step")
    pretrain.add_argument("--optimizer", default="adamw", choices=("adamw", "lamb"))
    pretrain.add_argument("--learning-rate", type=float, default=5e-4)
    pretrain.add_argument("--mixed-precision", action="store_true", help="compute in bfloat16")
    pretrain.add_argument("--xla", action="store_true", help="compile the steps with XLA")
    pretrain.add_argument("--tensorboard", metavar="DIR", help="write the curves for TensorBoard")
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--overwrite", action="store_true", help="replace what is there")
    pretrain.set_defaults(run=run_pretrain)
    data = commands.add_parser(
        "pretrain-data", help="write pretraining examples as TFRecords, in the layout of Google's script"
    )
    data.add_argument("files", nargs="+", help="as of pretrain")
    data.add_argument("--one-a-line", action="store_true", help="a line is a document")
    data.add_argument("--vocab", required=True, help="a vocab.txt")
    data.add_argument("--cased", action="store_true", help="keep upper case and accents")
    data.add_argument("--out", required=True, help="the folder to write; a run that was stopped goes on")
    data.add_argument("--shards", type=int, default=8)
    data.add_argument("--max-length", type=int, default=128)
    data.add_argument(
        "--copies", type=int, default=5, help="how often each document is used, with other pairs and masks (default: 5)"
    )
    data.add_argument("--objective", default="nsp", choices=("nsp", "sop"))
    data.add_argument("--whole-words", action="store_true", help="hide words with all of their pieces")
    data.add_argument("--seed", type=int, default=0)
    data.set_defaults(run=run_pretrain_data)
    add_finetune(commands)
    evaluate = commands.add_parser("evaluate", help="measure a trained task on a labelled file")
    evaluate.add_argument("model", help="a .keras file, or the folder that finetune wrote")
    evaluate.add_argument("--data", required=True, help="a file as for finetune")
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")
    add_columns(evaluate)
    evaluate.set_defaults(run=run_finetune)
    predict = commands.add_parser("predict", help="answer the texts of a file, as JSON lines")
    predict.add_argument("model", help="a .keras file, or the folder that finetune wrote")
    predict.add_argument("--data", required=True, help="a .txt file of lines, or csv, tsv, jsonl, parquet")
    predict.add_argument("--out", help="the file to write; without it the answers are printed")
    predict.add_argument("--overwrite", action="store_true", help="replace what is there")
    add_columns(predict)
    predict.set_defaults(run=run_finetune)
    export = commands.add_parser("export", help="write a trained task for TF Serving or for a phone")
    export.add_argument("model", help="a .keras file, or the folder that finetune wrote")
    export.add_argument("path", help="the folder or file to write, e.g. models/emotion/1 or emotion.tflite")
    export.add_argument("--serving", metavar="NAME", help="write a folder that TF Serving runs from, with a model of this name")
    export.add_argument("--format", default="tf_saved_model", choices=("tf_saved_model", "litert", "onnx"))
    export.add_argument("--inputs", choices=("text", "tokens"), help="what a file takes (default: text, of onnx tokens)")
    export.add_argument(
        "--metadata", choices=("mediapipe",), help="what MediaPipe's text tasks need (litert, with --inputs tokens)"
    )
    export.add_argument(
        "--texts",
        dest="data",
        help="texts of the kind that the file is for: int8-static finds its ranges on them (litert), or their ids are compared (onnx, with --inputs text)",
    )
    export.add_argument("--text", help="the column of texts")
    export.add_argument("--max-length", type=int, help="positions that every text is computed on (litert)")
    export.add_argument(
        "--quantize",
        choices=("float16", "int8", "int8-static"),
        help="smaller weights (int8: litert and onnx; int8-static: litert)",
    )
    export.add_argument("--overwrite", action="store_true", help="replace what is there")
    export.set_defaults(run=run_finetune)
    distill = commands.add_parser("distill", help="make smaller tasks of a trained one")
    distill.add_argument("--teacher", required=True, help="a .keras file, or the folder that finetune wrote")
    distill.add_argument("--layers", type=int, nargs="+", required=True, help="of the students, e.g. 3 2 1")
    distill.add_argument("--data", required=True, help="a file as for finetune")
    distill.add_argument(
        "--unlabelled", help="plain texts, which the teacher labels: for tinybert's first stage, or beside the data's"
    )
    distill.add_argument("--recipe", default="task", choices=("task", "distilbert", "tinybert", "mobilebert"))
    distill.add_argument("--out", required=True, help="the folder to write")
    distill.add_argument(
        "--cache", metavar="DIR", help="keep what the teacher says here: later epochs and runs cost the student only"
    )
    add_columns(distill)
    distill.add_argument("--test", help="a file to measure by, in place of --held-out")
    distill.add_argument("--held-out", type=float, default=0.2, help="the share of the data to measure by (default: 0.2)")
    distill.add_argument("--epochs", type=int, default=3, help="of each stage")
    distill.add_argument("--batch-size", type=int, default=32)
    distill.add_argument("--learning-rate", type=float, default=1e-4)
    distill.add_argument("--seed", type=int, default=0)
    distill.add_argument("--overwrite", action="store_true", help="replace what is there")
    distill.set_defaults(run=run_finetune)
    serve = commands.add_parser(
        "serve", help="serve exported models with TF Serving's REST paths and gRPC services, for development"
    )
    serve.add_argument("folders", nargs="+", help="a model's folder, which holds its versions; its name is the model's")
    serve.add_argument("--rest-port", type=int, default=8501)
    serve.add_argument("--grpc-port", type=int, default=8500)
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    serve.set_defaults(run=run_serve)
    verify = commands.add_parser("verify", help="compare an exported model with the task that it was made from")
    verify.add_argument("path", help="a SavedModel's folder, a LiteRT or an ONNX file")
    verify.add_argument("--against", required=True, dest="model", help="a .keras file, or the folder that finetune wrote")
    verify.add_argument(
        "--texts", dest="data", help="a file of texts to compare on (default: a built-in set that is hard to read)"
    )
    verify.add_argument("--text", help="the column of texts")
    verify.add_argument("--pair", help="the column of second texts; of a question answerer the texts")
    verify.add_argument(
        "--tolerance", type=float, default=1e-4, help="how far numbers may be apart (default: 1e-4; of float16 5e-3)"
    )
    verify.add_argument(
        "--any-difference", action="store_true", help="of int8: say how far numbers are apart, and refuse nothing"
    )
    verify.set_defaults(run=run_finetune)
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


def add_columns(command):
    """The options that name a table's columns."""
    command.add_argument(
        "--text", help="the column of texts (default: text, sentence, message or sentence1; anchor for embedding)"
    )
    command.add_argument("--pair", help="the column of second texts, for pairs")
    command.add_argument(
        "--label", help="the column of labels or numbers (default: label, labels or target; score for embedding)"
    )


def add_finetune(commands):
    command = commands.add_parser("finetune", help="train a task on a file, with a report")
    # As in kbert.commands.finetune, whose import takes TensorFlow's seconds.
    tasks = ("classification", "multi-label", "regression", "ner", "qa", "fill-mask", "embedding")
    command.add_argument("--task", required=True, choices=tasks)
    command.add_argument(
        "--data",
        required=True,
        help="csv, tsv, jsonl or parquet; a BIO file for ner, SQuAD's json for qa, .txt lines for fill-mask",
    )
    command.add_argument("--preset", default="all-minilm-l6-v2", help="what to start from (default: all-minilm-l6-v2)")
    command.add_argument("--out", required=True, help="the folder to write")
    add_columns(command)
    command.add_argument("--test", help="a file to measure by, in place of --held-out")
    command.add_argument("--held-out", type=float, default=0.2, help="the share of the data to measure by (default: 0.2)")
    command.add_argument(
        "--validation", type=float, default=0.1, help="the share of the rest to watch while training (default: 0.1)"
    )
    command.add_argument("--epochs", type=int, default=3)
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--learning-rate", type=float, default=5e-5)
    command.add_argument("--max-length", type=int, help="the most pieces of a text (default: the checkpoint's)")
    command.add_argument("--window-stride", type=int, help="read long texts in windows that share this many pieces")
    command.add_argument("--label-smoothing", type=float, default=0.0)
    command.add_argument("--balance", action="store_true", help="let each class count as much as any other")
    command.add_argument("--patience", type=int, help="stop after so many epochs without a lower validation loss")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(run=run_finetune)


def run_finetune(options):
    from kbert.commands import finetune

    getattr(finetune, options.command)(options)


def run_pretrain(options):
    from kbert.commands import pretrain as command

    command.pretrain(options)


def run_pretrain_data(options):
    from kbert.commands import pretrain as command

    command.pretrain_data(options)


def run_serve(options):
    import signal
    import threading

    from kbert.export.server.server import Server

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # explicitly, for a shell starts background jobs with SIGINT ignored
        signal.signal(number, lambda *_: stop.set())
    folders = {pathlib.Path(folder).resolve().name: folder for folder in options.folders}
    with Server(folders, options.rest_port, options.grpc_port, options.host) as server:
        for name, model in server.models.items():
            print(
                f"{name}, version {model.get().number}: http://{options.host}:{server.rest_port}/v1/models/{name}:predict",
                flush=True,
            )
        print(f"gRPC on port {server.grpc_port}; Ctrl-C ends it", flush=True)
        stop.wait()


def run_demo(options):
    from kbert.commands import demo

    demo.run(options.folder)


def run_vocab(options):
    from kbert.files.vocabulary import save_vocabulary
    from kbert.text.learn_vocabulary import learn_vocabulary, lines_of

    for path in options.files:  # before the long work
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
    tokens = learn_vocabulary(lines_of(options.files), options.size, lowercase=not options.cased)
    save_vocabulary(tokens, options.out)
    print(f"{options.out}: {len(tokens):,} tokens")


if __name__ == "__main__":
    sys.exit(main())
