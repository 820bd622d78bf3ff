"""Clients that ask one server at the same time, for all models, signatures and protocols, and compare each row.

    python -m tests.export.mixed_clients [--seconds 60] [--clients 32]

exports a tiny model of each kind, serves them with batching, and prints how many requests were asked, failed and wrong.
"""

import argparse
import collections
import pathlib
import tempfile
import threading
import time

import numpy as np

from kbert.export.verify import compare


def mixed_clients(models, server, reference, clients=32, seconds=3.0):
    """Returns the number of requests, and descriptions of those that failed and of those with wrong rows.

    Args:
      models: by name a task, 200 rows as columns, and the task's answers.
      server: the server that is asked.
      reference: a server without batching, whose answers of the signatures `tokens` and `labels` are right.
      clients: how many ask at a time.
      seconds: for how long.
    """
    ids, outputs = {}, {}
    for name, (_, columns, _) in models.items():
        ids[name] = reference.predict(name, columns, "tokenize")
        outputs[name, "tokens"] = reference.predict(name, ids[name], "tokens")
        if models[name][0].served_labels:
            outputs[name, "labels"] = reference.predict(name, {"text": ["a"] * 200}, "labels")
    until, lock = time.monotonic() + seconds, threading.Lock()
    counts, failed, wrong = collections.Counter(), [], []

    def ask(random):
        name = str(random.choice(list(models)))
        task, columns, expected = models[name]
        size = int(random.choice([1, 1, 1, 2, 3, 7, 20]))
        rows = slice(start := int(random.integers(200 - size)), start + size)
        way = str(random.choice(["rows", "columns", "predict", "tokens", "labels", "api"]))
        part = {column: values[rows] for column, values in columns.items()}
        apis = [api for api in task.serving_apis() if api in ("classify", "regress")]
        if way == "tokens" or (way == "labels" and task.served_labels):
            inputs = (
                {column: values[rows] for column, values in ids[name].items()} if way == "tokens" else {"text": ["a"] * size}
            )
            found = server.predict(name, inputs, way)
            is_right = all(same(found[output], values[rows]) for output, values in outputs[name, way].items())
        elif way == "api" and apis:
            found = np.array(server.api(name, part, apis[0])).reshape(size, -1)
            is_right = np.allclose(found, [answer.near for answer in expected[rows]], atol=1e-4)
        else:
            found = getattr(server, way if way in ("rows", "columns") else "predict")(name, part)
            if "" in found:
                found = {("scores" if name == "regression" else "embedding"): found[""]}
            is_right = not compare(expected[rows], task.served_answers(found), 1e-4)[1]
        return f"{name} {way} rows {rows.start} to {rows.stop}", is_right

    def client(number):
        random = np.random.default_rng(number)
        while time.monotonic() < until:
            try:
                what, is_right = ask(random)
            except Exception as error:
                what, is_right = f"{type(error).__name__}: {error}"[:300], None
            with lock:
                counts["asked"] += 1
                if is_right is None:
                    failed.append(what)
                elif not is_right:
                    wrong.append(what)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts["asked"], failed, wrong


def same(found, expected):
    """Returns whether two outputs are equal, numbers up to rounding. Labels as bytes are compared as they are."""
    if found.dtype == object:
        return found.tolist() == expected.tolist()
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    import kbert
    from kbert.export import export_serving
    from tests.conftest import TINY, VOCABULARY
    from tests.export.stock_server import BATCHING, model_config, running
    from tests.export.test_saved_model import make

    models, folders = {}, {}
    with tempfile.TemporaryDirectory() as room:
        room = pathlib.Path(room)
        for kind in ("single", "pairs", "multi", "regression", "tokens", "answers", "masks", "vectors"):
            task = make(kind, kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.WordPieceTokenizer(VOCABULARY))
            pairs = kind == "pairs" or None
            folders[kind] = export_serving(task, room, kind, pairs=pairs, verify=False).parent
            columns = tuple([(column * 200)[:200] for column in task.probes(pairs)])
            models[kind] = task, dict(zip(task.string_inputs(pairs), columns)), task.expected_answers(columns)
        config = model_config(folders)
        with running(room / "a", config, BATCHING) as server, running(room / "b", config) as reference:
            asked, failed, wrong = mixed_clients(models, server, reference, options.clients, options.seconds)
    print(f"{options.clients} clients, {options.seconds:g} s: {asked} requests, {len(failed)} failed, {len(wrong)} wrong")
    print(*(failed + wrong)[:10], sep="\n")


if __name__ == "__main__":
    main()
