"""`kbert pretrain`: from text files to a folder that every BERT tool opens."""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kbert.checkpoints.preset_folder import WRITTEN
from kbert.commands import options as shared
from kbert.files.atomic import written_aside
from kbert.files.targets import Kind

if TYPE_CHECKING:
    import tensorflow as tf

    from kbert.pretraining.pretrainer import Pretrainer

HELD_OUT = 0.05
LAYERS, WIDTH = 4, 256  # of an encoder that begins with random weights
FOLDER = Kind(
    "the folder of kbert pretrain", files=("*config.json", "history.csv", *WRITTEN["huggingface"], *WRITTEN["google"])
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        help="text files with a blank line between documents, .jsonl with a text in each line, folders of these, or of "
        "pretrain-data's records",
    )
    shared.one_a_line(parser)
    shared.text_files(parser, separator=False)
    parser.add_argument("--out", required=True, help="the folder to write, which every BERT tool opens")
    parser.add_argument("--layout", default="huggingface", choices=("huggingface", "google"))
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--vocab", help="begin with random weights and this vocabulary, e.g. one that kbert vocab learned")
    start.add_argument("--preset", help="go on from a checkpoint")
    shared.cased(parser, " (with --vocab)")
    parser.add_argument("--layers", type=shared.whole(1), help=f"with --vocab (default: {LAYERS})")
    parser.add_argument("--width", type=shared.whole(1), help=f"with --vocab (default: {WIDTH})")
    parser.add_argument("--heads", type=shared.whole(1), help="with --vocab (default: a head for 64 of the width)")
    parser.add_argument(
        "--max-length",
        type=shared.positions,
        nargs="+",
        default=[128],
        help="positions of a pair; two for two phases, e.g. 128 512 (default: 128)",
    )
    shared.masking(parser, ("nsp", "sop", "mlm"))
    parser.add_argument("--held-out", type=shared.share, help=f"the share of documents to watch (default: {HELD_OUT})")
    parser.add_argument("--epochs", type=shared.whole(1), nargs="+", default=[1], help="of each phase, e.g. 9 1 (default: 1)")
    parser.add_argument("--batch-size", type=shared.whole(1), nargs="+", default=[32], help="of each phase (default: 32)")
    parser.add_argument("--accumulate", type=shared.whole(1), help="batches whose mean gradient makes one step")
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "lamb"))
    parser.add_argument("--learning-rate", type=shared.positive, default=5e-4)
    parser.add_argument("--mixed-precision", action="store_true", help="compute in bfloat16")
    parser.add_argument("--xla", action="store_true", help="compile the steps with XLA")
    parser.add_argument("--tensorboard", metavar="DIR", help="write the curves for TensorBoard")
    shared.seed(parser)
    shared.overwrite(parser)


def check(options: argparse.Namespace) -> None:
    """Raises an error for options that do not fit each other, and for files that cannot be read or written."""
    for name in ("cased", "layers", "width", "heads"):
        if options.preset and getattr(options, name):
            raise ValueError(f"--{name} is for --vocab; a checkpoint, as with --preset, has its own")
    width = options.width or WIDTH
    if options.heads and width % options.heads:
        raise ValueError(f"--width {width} is no multiple of --heads {options.heads}")
    for values in (options.max_length, options.epochs, options.batch_size):
        one_each(values, options)
    shared.check_files(*options.files, folders=True)
    if any(map(is_records, options.files)):
        check_records(options)
    shared.check_files(options.vocab)
    if options.preset:
        shared.check_preset(options.preset)
    shared.check_out(options.out, options.overwrite, FOLDER)
    if options.tensorboard:
        shared.check_writable(options.tensorboard)


def check_records(options: argparse.Namespace) -> None:
    """Raises a ValueError for options that do not go with records, and for text files beside records."""
    texts = [path for path in options.files if not is_records(path)]
    if texts:
        raise ValueError(f"{texts[0]} holds text and others of the files records: give one kind")
    for name in ("one_a_line", "encoding", "objective", "whole_words", "held_out"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for text files: records were written with theirs")
    for name in ("max_length", "epochs", "batch_size"):
        if len(getattr(options, name)) > 1:
            raise ValueError(f"--{name.replace('_', '-')} takes one value with records, which are of one length")


def run(options: argparse.Namespace) -> None:
    """Pretrains, and writes the folder with `history.csv` beside the checkpoint.

    Until it has ended, the state of the training is in a folder `<out>.unfinished`, from which the same command goes on.
    """
    import keras

    console = Console()
    out = pathlib.Path(options.out)
    lengths, epochs, sizes = (one_each(getattr(options, name), options) for name in ("max_length", "epochs", "batch_size"))
    if options.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(options.seed)
    task = open_pretrainer(max(lengths), options)
    task.compile(
        "lamb" if options.optimizer == "lamb" else "auto",
        learning_rate=options.learning_rate,
        gradient_accumulation_steps=options.accumulate,
        jit_compile=options.xla,
    )
    train: Any
    held_out: Any
    how: dict[str, Any]
    if all(map(is_records, options.files)):
        train, held_out = record_shares(task, sizes[0], options)
        how = {"epochs": sum(epochs)}
    else:
        train, held_out = document_shares(options, console)
        how = {"phases": list(zip(lengths, epochs)), "batch_size": sizes}
        how.update(objective=options.objective or shared.OBJECTIVE, whole_words=options.whole_words)
    callbacks = [keras.callbacks.TensorBoard(options.tensorboard)] if options.tensorboard else []
    state = out.with_name(out.name + ".unfinished")
    if state.is_dir():
        console.print(f"going on with what {state} holds", soft_wrap=True)
    verbose = 1 if console.is_terminal else 2
    history = task.fit(train, validation_data=held_out, callbacks=callbacks, resume=state, verbose=verbose, **how).history
    with written_aside(out) as aside:
        task.save_to_preset(aside, layout=options.layout)
        write_history(aside / "history.csv", history)
    if state.is_dir():
        state.rmdir()
    console.print(f"written: {out}", soft_wrap=True)


def open_pretrainer(max_length: int, options: argparse.Namespace) -> Pretrainer:
    """Returns the task to train: a checkpoint's, or one with random weights.

    Args:
      max_length: the most positions of a pair.
      options: the command's options.
    """
    from kbert.config import BertConfig
    from kbert.encoders.bert import BertEncoder
    from kbert.files.vocabulary import read_vocabulary
    from kbert.pretraining.pretrainer import Pretrainer
    from kbert.text.packing import TextPreprocessor
    from kbert.text.tokenizer import WordPieceTokenizer

    if options.preset:
        return Pretrainer.from_preset(options.preset, max_length=max_length)
    vocabulary, width = read_vocabulary(options.vocab), options.width or WIDTH
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=options.layers or LAYERS,
        num_attention_heads=options.heads or max(1, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=max(512, max_length),
    )
    tokenizer = WordPieceTokenizer(vocabulary, lowercase=not options.cased)
    return Pretrainer(BertEncoder(config), TextPreprocessor(tokenizer, max_length))


def one_each(values: list[int], options: argparse.Namespace) -> list[int]:
    """Returns a value for each phase.

    Args:
      values: one value for all phases, or as many as there are phases.
      options: the command's options; the longest list of lengths, epochs and batch sizes says how many phases there are.

    Raises:
      ValueError: the numbers of values do not fit.
    """
    phases = max(map(len, (options.max_length, options.epochs, options.batch_size)))
    if len(values) not in (1, phases):
        raise ValueError(f"there are {phases} phases: --max-length, --epochs and --batch-size take one value or {phases}")
    return values * (phases // len(values))


def is_records(path: str) -> bool:
    """Returns whether a folder or file holds records rather than text."""
    from kbert.pretraining.shards import ABOUT

    file = pathlib.Path(path)
    return (file / ABOUT).is_file() or ".tfrecord" in file.name


def record_shares(
    task: Pretrainer, batch_size: int, options: argparse.Namespace
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    """Returns the examples of the record files to train on and, if there are several files, those of the last one to watch."""
    from kbert.pretraining.records import read_records, record_files

    files = record_files(options.files, task.tokenizer)

    def examples(chosen: Sequence[pathlib.Path], shuffle: bool) -> tf.data.Dataset:
        length = task.preprocessor.max_length
        return read_records(chosen, batch_size, task.tokenizer, shuffle, options.seed, length, count=True)

    return examples(files[:-1] or files, True), examples(files[-1:], False) if len(files) > 1 else None


def document_shares(options: argparse.Namespace, console: Console) -> tuple[Iterator[Any], Iterator[Any]]:
    """Returns streams of documents to train on and, as every so many documents, to watch; `console` says how many there are."""
    from kbert.pretraining.sentence_pairs import read_documents

    count = sum(1 for _ in read_documents(options.files, options.one_a_line, options.encoding))
    if count < 4:
        raise ValueError(
            f"the files hold {count} documents, which is too few to hold some out; is there a blank line between them?"
        )
    every = max(2, min(round(1 / (options.held_out or HELD_OUT)), count // 2))
    console.print(f"{count - -(-count // every):,} documents to train on, {-(-count // every):,} to watch")

    def share(held_out: bool) -> Iterator[Any]:
        documents = enumerate(read_documents(options.files, options.one_a_line, options.encoding))
        return (document for number, document in documents if (number % every == 0) == held_out)

    return share(False), share(True)


def write_history(path: pathlib.Path, history: Mapping[str, Sequence[float]]) -> None:
    """Writes the loss and the metrics of the epochs, by name, as a csv file."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(history)
        writer.writerows(zip(*history.values()))
