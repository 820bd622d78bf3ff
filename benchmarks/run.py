"""kbert beside its peers: the same work, the same texts, the same cores, taking turns in one run.

    python benchmarks/run.py [--quick] [--only JOB ...] [--threads N]

Each library works in a process of its own (`worker.py`; kbert in .venv, the others in .venv-peers), one at a time. Every job is
done by each in turn, several times over; the table gives minimum and median, and how kbert's minimum compares. It goes to
`benchmarks/RESULTS.md` unless `--quick`.
"""

import argparse
import io
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TWEETS = ROOT.parent / "shared" / "data" / "twitter_emotion.csv"
PEERS = ("transformers", "onnxruntime", "sentence_transformers", "keras_hub")


class Worker:
    """A library in its process."""

    def __init__(self, library, folder, threads):
        python = ROOT / (".venv" if library == "kbert" else ".venv-peers") / "bin" / "python"
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": str(threads)}
        self.log = tempfile.NamedTemporaryFile("w+", suffix=f"-{library}.log")  # noqa: SIM115 - closed by stop()
        self.process = subprocess.Popen(
            [python, HERE / "worker.py", library, folder, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **quiet},
        )
        self.library = library
        self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            log = pathlib.Path(self.log.name).read_text()
            raise RuntimeError(f"{self.library} ended: {log[-2000:]}")
        return json.loads(line)

    def __call__(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def gemm_peak():
    """GFLOP/s of a large float32 product in NumPy's BLAS on these cores: what all of this is bounded by."""
    a = np.random.default_rng(0).standard_normal((1536, 1536), np.float32)
    best = 1e9
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * 1536**3 / best / 1e9


def gflops(lengths, layers=6, width=384):
    """Returns the GFLOP of the matrix products of MiniLM's encoder for texts of these lengths.

    They are those of attention and of 12 H^2 weights a layer.
    """
    return sum(layers * (24 * width * width * n + 4 * width * n * n) for n in lengths) / 1e9


def tweets(count):
    if TWEETS.is_file():
        import pandas as pd

        table = pd.read_csv(TWEETS)
        return table["text"].tolist()[:count], table["label_name"].tolist()[:count]
    from kbert.commands.demo import read_news

    texts, names = read_news()  # headlines are short texts too
    return [text.split("\n")[0] for text in texts][:count], names[:count]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, two minutes or so; RESULTS.md is left alone")
    parser.add_argument("--only", nargs="+", help="vectors, articles, one, encoder, finetune, pretrain, accuracy")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1))
    options = parser.parse_args()
    from kbert.checkpoints.opened import find_folder
    from kbert.commands.demo import read_news

    folder = find_folder("all-minilm-l6-v2")
    quick, wanted = (
        options.quick,
        set(options.only or ["vectors", "articles", "one", "encoder", "finetune", "pretrain", "accuracy"]),
    )
    repeats = 1 if quick else 2
    console, tables = Console(width=140), []
    workers = {}
    for library in ("kbert", *PEERS):
        console.print(f"starting {library} ...")
        workers[library] = Worker(library, folder, options.threads)

    peak = gemm_peak()

    def turns(title, unit, entries, job, size, gflop=0.0):
        """Runs `(name, library, how)` in turns; seconds per run to rows. `gflop` is what the matrix products of a run take."""
        seen = {name: [] for name, _, _ in entries}
        for repeat in range(repeats + 1):
            for name, library, how in entries:
                seconds = workers[library](**job, how=how)
                if repeat:  # the first run warms up
                    seen[name] += seconds if isinstance(seconds, list) else [seconds]
        seen = {name: (min(times), statistics.median(times)) for name, times in seen.items()}
        table = Table(title=title, title_justify="left")
        for column in ("", f"{unit}, best", "median", "kbert (frozen) is", "kbert is", "of GEMM peak"):
            table.add_column(column, justify="left" if not column else "right")
        for name, (best, median) in seen.items():
            values = [f"{size / t:.1f}" if size else f"{t * 1e3:.2f}" for t in (best, median)]
            ratios = [f"{median / seen[ours][1]:.2f}x" if ours in seen else "" for ours in ("kbert, frozen", "kbert")]
            table.add_row(name, *values, *ratios, f"{gflop / best / peak:.0%}" if gflop else "")
        tables.append(table)
        console.print(table)

    ours = [("kbert, frozen", "kbert", "frozen"), ("kbert", "kbert", "")]
    theirs = [
        ("onnxruntime, sorted by hand", "onnxruntime", "sorted"), ("onnxruntime, in order", "onnxruntime", ""),
        ("transformers, sorted by hand", "transformers", "sorted"), ("transformers, in order", "transformers", ""),
        ("sentence-transformers", "sentence_transformers", ""),
    ]  # fmt: skip
    if "vectors" in wanted:
        texts, _ = tweets(300 if quick else 3000)
        turns(
            f"{len(texts):,} tweets to [CLS] vectors",
            "texts/s",
            [*ours, *theirs],
            {"job": "vectors", "texts": texts},
            len(texts),
        )
        few = texts[:64]
        hub = [("KerasHub, length 64", "keras_hub", "64"), ("KerasHub as it comes, length 512", "keras_hub", "")]
        turns(f"{len(few)} tweets, KerasHub", "texts/s", [*ours, *hub], {"job": "vectors", "texts": few}, len(few))
    if "articles" in wanted:
        texts = read_news()[0][: 24 if quick else 100]
        turns(
            f"{len(texts)} articles, up to 512 tokens",
            "texts/s",
            [*ours, *theirs],
            {"job": "vectors", "texts": texts},
            len(texts),
        )
    if "one" in wanted:
        texts, _ = tweets(250)
        entries = [*ours, *[(n.split(",")[0], w, "") for n, w, h in theirs if h != "sorted"]]
        turns("one tweet, its class (peers: its vector), milliseconds a call", "ms", entries, {"job": "one", "texts": texts}, 0)
        turns(
            "one tweet, KerasHub's predict([x])",
            "ms",
            [*ours, ("KerasHub", "keras_hub", "")],
            {"job": "one", "texts": texts[:5]},
            0,
        )
    if "encoder" in wanted:
        for batch, length in ((1, 16), (1, 128), (32, 128), (8, 512)):
            entries = [*ours, ("onnxruntime", "onnxruntime", ""), ("transformers", "transformers", "")]
            job = {"job": "encoder", "batch": batch, "length": length}
            turns(f"encoder alone, {batch}x{length}", "ms", entries, job, 0, gflops(batch * [length]))
    if "finetune" in wanted:
        texts, labels = tweets(160 if quick else 1600)
        seen = {}
        for name, library in (("kbert", "kbert"), ("transformers", "transformers"), ("KerasHub, length 64", "keras_hub")):
            count = 320 if library == "keras_hub" else len(texts)
            job = {"texts": texts[:count], "labels": labels[:count], "epochs": 1, "max_length": 64}
            seen[name] = workers[library](job="finetune", **job)
        table = Table(title=f"fine-tuning, {len(texts):,} tweets in batches of 32", title_justify="left")
        for column in ("", "real tokens/s", "kbert is", "seconds to the first finished step", "of GEMM peak"):
            table.add_column(column, justify="left" if not column else "right")
        speed = {name: run["tokens"] / run["steady"] for name, run in seen.items()}
        for name, run in seen.items():
            table.add_row(
                name,
                f"{speed[name]:.0f}",
                f"{speed['kbert'] / speed[name]:.2f}x",
                f"{run['first']:.1f}",
                f"{3 * gflops([1]) * speed[name] / peak:.0%}",
            )
        tables.append(table)
        console.print(table)
    if "pretrain" in wanted:
        steps = 3 if quick else 12
        entries = [("kbert", "kbert", ""), ("transformers", "transformers", ""), ("KerasHub, masked LM alone", "keras_hub", "")]
        # 4 layers of width 256 at 32x128; the masked positions' products with the vocabulary are 7 % more.
        work = 3 * gflops(32 * [128], layers=4, width=256) * steps
        turns(
            "pretraining, 4 layers x 256, 32x128, tokens",
            "tokens/s",
            entries,
            {"job": "pretrain", "steps": steps},
            4096 * steps,
            work,
        )
    if "accuracy" in wanted and not quick:
        texts, labels = tweets(2000)
        table = Table(title="accuracy on 1,000 tweets after two epochs of 1,000, by seed", title_justify="left")
        for column in ("", "0", "1", "2", "mean"):
            table.add_column(column)
        for library in ("kbert", "transformers"):
            seen = []
            for seed in range(3):
                workers[library](job="finetune", texts=texts[:1000], labels=labels[:1000], epochs=2, max_length=64, seed=seed)
                seen.append(workers[library](job="accuracy", texts=texts[1000:], labels=labels[1000:]))
            table.add_row(library, *(f"{value:.3f}" for value in seen), f"{statistics.mean(seen):.3f}")
        tables.append(table)
        console.print(table)
    for worker in workers.values():
        worker.stop()
    if not quick:
        write(tables, options.threads, peak)


def write(tables, threads, peak):
    """The tables, with machine and versions, above the notes that RESULTS.md already holds."""
    path = HERE / "RESULTS.md"
    notes = path.read_text(encoding="utf-8").partition("## Notes")[2] if path.is_file() else ""
    versions = []
    for python, names in (
        (".venv", "tensorflow keras ai-edge-litert"),
        (".venv-peers", "torch transformers onnxruntime sentence-transformers keras-hub"),
    ):
        code = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        done = subprocess.run(
            [ROOT / python / "bin" / "python", "-c", code, *names.split()], capture_output=True, text=True, check=True
        )
        versions.append(done.stdout.strip())
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.processor())
    console = Console(record=True, width=120, file=io.StringIO())
    for table in tables:
        console.print(table)
    text = f"""# kbert beside its peers

`make bench` writes this file. {model}, {threads} threads for each library, float32; all-MiniLM-L6-v2. Ratios are of medians. A
float32 product of two 1536x1536 matrices runs at {peak:.0f} GFLOP/s here (the GEMM peak). Versions: {"; ".join(versions)}.

```
{console.export_text().rstrip()}
```

## Notes{notes}"""
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
