"""Whether a server should join requests: throughput and waiting times of each task, with and without batching.

    python benchmarks/batching.py [--seconds 4] [--rounds 3] [--only classifier ...]

A SavedModel of MiniLM's size answers requests of one text from 1, 8 and 32 clients, in threads of this process. "alone" runs
each request by itself, as TF Serving does without batching. "joined" puts TensorFlow's own batching before the graph, with the
batch scheduler that TF Serving uses. All ways take turns in each round. Printed: texts per second, and the median and the 95th
percentile of the time that a client waits, over all rounds.
"""

import argparse
import pathlib
import tempfile
import threading
import time

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenization ops
from rich.console import Console
from rich.table import Table
from run import tweets

import kbert

WAYS = {  # (microseconds to wait for others, threads that run batches); None without batching
    "alone": None,
    "joined, 0 ms": (0, 2),
    "joined, 0 ms, 1 thread": (0, 1),
    "joined, 1 ms": (1000, 2),
    "joined, 5 ms": (5000, 2),
}


def tasks(texts):
    """Yields the name of each task, the task, and a list of texts for each column."""
    preset = "all-minilm-l6-v2"
    long = [" ".join(texts[place : place + 12]) for place in range(len(texts))]  # some 200 words
    yield "classifier", kbert.TextClassifier.from_preset(preset, labels=["a", "b"], max_length=128), [texts]
    yield "pairs", kbert.TextClassifier.from_preset(preset, labels=["a", "b"], max_length=128), [texts, texts[::-1]]
    yield "entities", kbert.TokenClassifier.from_preset(preset, labels=["O", "B-PER", "I-PER"], max_length=128), [texts]
    yield "masked words", kbert.MaskedLM.from_preset(preset, max_length=128), [[f"[MASK] {text}" for text in texts]]
    yield "answers", kbert.QuestionAnswerer.from_preset(preset, max_length=384), [texts, long]
    yield "vectors", kbert.TextEmbedder.from_preset(preset, max_length=128), [texts]
    yield "long texts", kbert.TextClassifier.from_preset(preset, labels=["a", "b"], max_length=384), [long]


def way_of(signature, names, parameters):
    """Returns a function that answers one request of columns `[1]`, in one of the ways."""
    specs = [tf.TensorSpec([None], tf.string) for _ in names]

    def answer(*columns):
        return list(signature(**dict(zip(names, columns))).values())

    if parameters is not None:
        wait, threads = parameters
        answer = tf.nondifferentiable_batch_function(
            num_batch_threads=threads, max_batch_size=256, batch_timeout_micros=wait, max_enqueued_batches=100
        )(answer)
    return tf.function(answer, input_signature=specs, autograph=False).get_concrete_function()


def load(function, columns, clients, seconds):
    """Returns the waiting times of all requests that clients make in some seconds."""
    end, waits = time.perf_counter() + seconds, [[] for _ in range(clients)]

    def ask(client):
        place = client
        while time.perf_counter() < end:
            row = [tf.constant([column[place % len(column)]]) for column in columns]
            began = time.perf_counter()
            function(*row)
            waits[client].append(time.perf_counter() - began)
            place += clients

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(waits)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--only", nargs="+", help="names of tasks")
    options = parser.parse_args()
    texts, _ = tweets(500)
    for name, task, columns in tasks(texts):
        if options.only and name not in options.only:
            continue
        table = Table("task", "clients", "way", "texts/s", "median ms", "95 of 100 within ms")
        with tempfile.TemporaryDirectory() as room:
            path = pathlib.Path(room) / "1"
            task.export(path, verify=False, **({"pairs": True} if name == "pairs" else {}))
            model = tf.saved_model.load(str(path))  # it owns the weights
        names = task.string_inputs(True if name == "pairs" else None)
        ways = {way: way_of(model.signatures["serving_default"], names, parameters) for way, parameters in WAYS.items()}
        for function in ways.values():
            load(function, columns, 2, 0.5)
        for clients in options.clients:
            waits = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way, function in ways.items():
                    waits[way].append(load(function, columns, clients, options.seconds))
            for way, rounds in waits.items():
                rate = sum(map(len, rounds)) / (options.seconds * options.rounds)
                median, high = np.percentile(np.concatenate(rounds), [50, 95]) * 1000
                table.add_row(name, str(clients), way, f"{rate:.0f}", f"{median:.1f}", f"{high:.1f}")
        Console(width=110).print(table)


if __name__ == "__main__":
    main()
