"""`kbert pretrain`: from text files to a folder that every BERT tool opens."""

import csv

import keras
import numpy as np
from rich.console import Console

from kbert.atomic_files import check_target, written_aside
from kbert.config import BertConfig
from kbert.encoders.bert import BertEncoder
from kbert.pretraining.pretrainer import Pretrainer
from kbert.pretraining.records import write_records
from kbert.pretraining.sentence_pairs import read_documents
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.text.vocabulary import read_vocabulary


def pretrain(options):
    """Pretrains, and writes the folder with `history.csv` beside the checkpoint. See `kbert pretrain --help`."""
    console = Console()
    out = check_target(options.out, options.overwrite)
    documents = list(read_documents(options.files, options.one_a_line))
    keras.utils.set_random_seed(options.seed)
    if options.preset:
        task = Pretrainer.from_preset(options.preset, max_length=options.max_length)
    else:
        task = new_pretrainer(read_vocabulary(options.vocab), options)
    order = np.random.default_rng(options.seed).permutation(len(documents))
    documents = [documents[place] for place in order]
    held_out = max(2, round(options.held_out * len(documents)))
    if len(documents) < held_out + 2:
        raise ValueError(
            f"the files hold {len(documents)} documents, which is too few to hold some out; is there a blank line between them?"
        )
    console.print(f"{len(documents) - held_out:,} documents to train on, {held_out:,} to watch")
    task.compile(learning_rate=options.learning_rate)
    history = task.fit(
        documents[held_out:], validation_data=documents[:held_out], epochs=options.epochs, batch_size=options.batch_size,
        objective=options.objective, whole_words=options.whole_words, verbose=1 if console.is_terminal else 2,
    ).history  # fmt: skip
    with written_aside(out) as aside:
        task.save_to_preset(aside, layout=options.layout)
        with open(aside / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(history)
            writer.writerows(zip(*history.values()))
    console.print(f"written: {out}", soft_wrap=True)


def new_pretrainer(vocabulary, options):
    """A pretrainer with random weights."""
    heads = options.heads or max(1, options.width // 64)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=heads,
        intermediate_size=4 * options.width, max_position_embeddings=max(512, options.max_length),
    )  # fmt: skip
    tokenizer = WordPieceTokenizer(vocabulary, lowercase=not options.cased)
    return Pretrainer(BertEncoder(config), TextPreprocessor(tokenizer, options.max_length))


def pretrain_data(options):
    """Writes pretraining examples. See `kbert pretrain-data --help`."""
    tokenizer = WordPieceTokenizer(read_vocabulary(options.vocab), lowercase=not options.cased)
    console = Console()
    paths = write_records(
        read_documents(options.files, options.one_a_line), tokenizer, options.out, options.shards, options.max_length, options.copies,
        options.objective, options.whole_words, seed=options.seed, progress=lambda path: console.print(f"written: {path}", soft_wrap=True),
    )  # fmt: skip
    console.print(f"{options.out}: {len(paths)} shards")
