"""`kbert serve` under load: 32 clients for a minute, while five new versions take over.

    python benchmarks/serving.py [--seconds 60] [--clients 32]

The server is a process of its own, a MiniLM classifier; each client asks for one text after the other over REST. Every answer
has to be one version's. Printed: answers, failed and wrong ones, latencies beside the time of one batch with a text of each
client, and the server's memory.
"""

import argparse
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from run import tweets

import kbert


def memory(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--port", type=int, default=18501)
    options = parser.parse_args()
    texts, labels = tweets(options.clients)
    task = kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=["a", "b", "c"], max_length=64)
    expected, bias = [], task.classifier.bias.numpy()
    with tempfile.TemporaryDirectory() as room:
        made, served = pathlib.Path(room) / "made", pathlib.Path(room) / "served" / "m"
        for version in range(1, 7):  # made before, so that the exports do not take the server's cores
            task.classifier.bias.assign(bias + np.array([version, 0, 0], np.float32))
            task.export(made / str(version), verify=False)
            expected.append(np.array([list(answer["scores"].values()) for answer in task.classify(texts, verbose=0)]))
        served.mkdir(parents=True)
        (made / "1").rename(served / "1")
        ports = ["--rest-port", str(options.port), "--grpc-port", str(options.port + 1)]
        server = subprocess.Popen(
            [sys.executable, "-m", "kbert", "serve", served, "--enable-batching", *ports],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            report(options, server, made, served, texts, np.array(expected))
        finally:
            server.terminate()
            server.wait()


def ask(connection, body):
    connection.request("POST", "/v1/models/m:predict", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def report(options, server, made, served, texts, expected):
    def connect():
        return http.client.HTTPConnection("127.0.0.1", options.port, timeout=60)

    whole = json.dumps({"instances": texts})
    for _ in range(120):
        try:
            if ask(connect(), whole)[0] == 200:
                break
        except OSError:
            pass
        time.sleep(0.5)
    batch = []
    for _ in range(20):
        started = time.perf_counter()
        ask(connect(), whole)
        batch.append(time.perf_counter() - started)
    seen, lock = [], threading.Lock()  # client, seconds, status, probabilities
    until = time.monotonic() + options.seconds

    def client(number):
        connection, body, own = connect(), json.dumps({"instances": [texts[number]]}), []
        while time.monotonic() < until:
            started = time.perf_counter()
            try:
                status, found = ask(connection, body)
                values = found["predictions"][0]["probabilities"] if status == 200 else None
            except (OSError, http.client.HTTPException, ValueError) as error:
                status, values, connection = repr(error), None, connect()
            own.append((number, time.perf_counter() - started, status, values))
        with lock:
            seen.extend(own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    sizes = [memory(server)]
    for version in range(2, 7):
        time.sleep(options.seconds / 10)
        (made / str(version)).rename(served / str(version))
        time.sleep(options.seconds / 15)
        sizes.append(memory(server))
    for thread in threads:
        thread.join()
    failed = [one for one in seen if one[2] != 200]
    apart = [np.abs(expected[:, number] - values).max(-1).min() for number, _, status, values in seen if status == 200]
    versions = {int(np.abs(expected[:, n] - values).max(-1).argmin()) + 1 for n, _, status, values in seen if status == 200}
    times = 1000 * np.array([seconds for _, seconds, *_ in seen])
    one_batch = 1000 * float(np.median(batch))
    table = Table(
        title=f"{options.clients} clients, {options.seconds:g} s, six versions", title_justify="left", show_header=False
    )
    for name, value in (
        ("answers", f"{len(seen)} ({len(seen) / options.seconds:.0f} a second)"), ("failed", len(failed)),
        ("wrong (of no version)", int((np.array(apart) > 1e-4).sum())),
        ("versions seen", ", ".join(map(str, sorted(versions)))),
        ("a batch of all clients' texts, ms", f"{one_batch:.0f}"), ("p50, ms", f"{np.percentile(times, 50):.0f}"),
        ("p99, ms", f"{np.percentile(times, 99):.0f} ({np.percentile(times, 99) / one_batch:.1f}x the batch)"),
        ("memory before and after each swap, MB", ", ".join(f"{size:.0f}" for size in sizes)),
    ):  # fmt: skip
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
