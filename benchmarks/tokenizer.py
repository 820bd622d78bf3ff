"""Text to ids: kbert beside the `tokenizers` package, same texts, same cores, one run.

    python benchmarks/tokenizer.py

Both are given a Python list of strings and give ids for all of it; with offsets, both give those in characters.
"""

import pathlib
import statistics
import time
from functools import partial

import tensorflow as tf
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import kbert
from kbert.checkpoints.opened import find_folder
from kbert.commands.demo import read_news

REPEATS = 7
TWEETS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "twitter_emotion.csv"


def interleaved(works, texts):
    """Seconds of each piece of work on the texts: minimum and median of runs that take turns."""
    times = {name: [] for name in works}
    for repeat in range(REPEATS + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work(texts)
            if repeat:  # the first run traces
                times[name].append(time.perf_counter() - started)
    return {name: (min(runs), statistics.median(runs)) for name, runs in times.items()}


def main():
    folder = find_folder("all-minilm-l6-v2")
    ours = kbert.WordPieceTokenizer.from_preset(folder)
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    corpora = {"articles": read_news()[0]}
    if TWEETS.is_file():
        import pandas as pd

        corpora["tweets"] = pd.read_csv(TWEETS)["text"].tolist()
    else:  # short texts all the same
        corpora["headlines"] = [text.split("\n")[0] for text in corpora["articles"]]

    table = Table(title=f"M characters/s, best (median) of {REPEATS}; tensorflow {tf.__version__}")
    for column in ("texts", "work", "kbert", "tokenizers", "ratio of best"):
        table.add_column(column)
    for name, texts in corpora.items():
        size = sum(map(len, texts)) / 1e6
        works = {
            "ids": ours,
            "encode_batch": partial(theirs.encode_batch, add_special_tokens=False),
            "offsets": ours.tokenize_with_offsets,
            "encode_batch_fast": partial(theirs.encode_batch_fast, add_special_tokens=False),
        }
        times = interleaved(works, texts)
        speed = {work: f"{size / best:.1f} ({size / median:.1f})" for work, (best, median) in times.items()}
        for work, peer in (("ids", "encode_batch"), ("ids", "encode_batch_fast"), ("offsets", "encode_batch")):
            ratio = f"{times[peer][0] / times[work][0]:.1f}x"
            table.add_row(f"{len(texts):,} {name}", f"{work} / {peer}", speed[work], speed[peer], ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
