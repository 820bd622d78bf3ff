"""`kbert pretrain`: from text files to a folder that every BERT tool opens."""

import csv
import pathlib

import keras
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kbert.config import BertConfig
from kbert.encoders.bert import BertEncoder
from kbert.files.atomic import check_target, written_aside
from kbert.files.vocabulary import read_vocabulary
from kbert.pretraining.pretrainer import Pretrainer
from kbert.pretraining.records import ABOUT, read_records, record_files, write_records
from kbert.pretraining.sentence_pairs import read_documents
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer


def pretrain(options):
    """Pretrains, and writes the folder with `history.csv` beside the checkpoint. See `kbert pretrain --help`.

    Until it has ended, the state of the training is in a folder `<out>.unfinished`, from which the same command goes on.
    """
    console = Console()
    out = check_target(options.out, options.overwrite)
    lengths, epochs, sizes = (one_each(getattr(options, name), options) for name in ("max_length", "epochs", "batch_size"))
    if options.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(options.seed)
    if options.preset:
        task = Pretrainer.from_preset(options.preset, max_length=max(lengths))
    else:
        task = new_pretrainer(read_vocabulary(options.vocab), max(lengths), options)
    task.compile(
        "lamb" if options.optimizer == "lamb" else "auto", learning_rate=options.learning_rate,
        gradient_accumulation_steps=options.accumulate, jit_compile=options.xla,
    )  # fmt: skip
    if all(map(is_records, options.files)):
        train, held_out = record_shares(task, sizes[0], options)
        how = {"epochs": sum(epochs)}
    else:
        train, held_out = document_shares(options)
        how = {"phases": list(zip(lengths, epochs)), "batch_size": sizes}
        how.update(objective=options.objective, whole_words=options.whole_words)
    callbacks = [keras.callbacks.TensorBoard(options.tensorboard)] if options.tensorboard else []
    state = out.with_name(out.name + ".unfinished")
    if state.is_dir():
        console.print(f"going on with what {state} holds", soft_wrap=True)
    history = task.fit(
        train, validation_data=held_out, callbacks=callbacks, resume=state, verbose=1 if console.is_terminal else 2, **how
    ).history
    with written_aside(out) as aside:
        task.save_to_preset(aside, layout=options.layout)
        with open(aside / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(history)
            writer.writerows(zip(*history.values()))
    if state.is_dir():
        state.rmdir()
    console.print(f"written: {out}", soft_wrap=True)


def one_each(values, options):
    """A value for each phase."""
    phases = max(map(len, (options.max_length, options.epochs, options.batch_size)))
    if len(values) not in (1, phases):
        raise ValueError(f"there are {phases} phases: --max-length, --epochs and --batch-size take one value or {phases}")
    return values * (phases // len(values))


def is_records(path):
    """Whether a folder or file holds records rather than text."""
    path = pathlib.Path(path)
    return (path / ABOUT).is_file() or ".tfrecord" in path.name


def record_shares(task, batch_size, options):
    """Files of examples to train on and, of several files, the last to watch."""
    files = record_files(options.files, task.tokenizer)

    def read(some, shuffle):
        length = task.preprocessor.max_length
        return read_records(some, batch_size, task.tokenizer, shuffle, options.seed, length, count=True)

    return read(files[:-1] or files, True), read(files[-1:], False) if len(files) > 1 else None


def document_shares(options):
    """Streams of documents to train on and, every so many, to watch."""
    count = sum(1 for _ in read_documents(options.files, options.one_a_line))
    if not 0 < options.held_out < 1:
        raise ValueError(f"--held-out should be a share between 0 and 1, got {options.held_out}")
    if count < 4:
        raise ValueError(
            f"the files hold {count} documents, which is too few to hold some out; is there a blank line between them?"
        )
    every = max(2, min(round(1 / options.held_out), count // 2))
    Console().print(f"{count - -(-count // every):,} documents to train on, {-(-count // every):,} to watch")

    def some(held_out):
        documents = enumerate(read_documents(options.files, options.one_a_line))
        return (document for number, document in documents if (number % every == 0) == held_out)

    return some(False), some(True)


def new_pretrainer(vocabulary, max_length, options):
    """A pretrainer with random weights."""
    heads = options.heads or max(1, options.width // 64)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=heads,
        intermediate_size=4 * options.width, max_position_embeddings=max(512, max_length),
    )  # fmt: skip
    tokenizer = WordPieceTokenizer(vocabulary, lowercase=not options.cased)
    return Pretrainer(BertEncoder(config), TextPreprocessor(tokenizer, max_length))


def pretrain_data(options):
    """Writes pretraining examples. See `kbert pretrain-data --help`."""
    tokenizer = WordPieceTokenizer(read_vocabulary(options.vocab), lowercase=not options.cased)
    columns = [TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(), disable=not Console().is_terminal) as progress:
        documents = progress.track(read_documents(options.files, options.one_a_line), description="documents read")
        written = progress.add_task("shards written", total=options.shards)
        paths = write_records(
            documents, tokenizer, options.out, options.shards, options.max_length, options.copies, options.objective,
            options.whole_words, seed=options.seed, progress=lambda path: progress.advance(written),
        )  # fmt: skip
    Console().print(f"{options.out}: {len(paths)} shards", soft_wrap=True)
