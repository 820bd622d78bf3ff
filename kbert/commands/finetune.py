"""`kbert finetune`, `evaluate` and `predict`: from a data file to a trained task with a report, without a line of Python.

A job, a `--task`, is a name: how its file is read, what is counted and which mistakes are shown stands under it in `read`, `build` and `MEASURES`.
"""

import dataclasses
import json
import math
import pathlib
import tempfile
import time

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import kbert
from kbert.commands import report, tables
from kbert.files.atomic import check_target, written_aside
from kbert.scoring.correlation import pearson, spearman
from kbert.scoring.entities import entities, entity_scores
from kbert.scoring.squad import squad_scores
from kbert.tasks.text_classifier import MULTI, REGRESSION, SINGLE

MOST_MISTAKES = 50  # in mistakes.csv and the report
MODEL, PRESET = "task.keras", "preset"  # in the folder that finetune writes


@dataclasses.dataclass
class Measured:
    """What a task is worth on labelled data."""

    scores: dict  # a number by its name
    head: tuple = ()  # of `rows`, a table by label or kind
    rows: list = dataclasses.field(default_factory=list)
    mistakes: list = dataclasses.field(default_factory=list)  # dictionaries, the most confident first
    pictures: list = dataclasses.field(
        default_factory=list
    )  # functions that give HTML, so that matplotlib is only asked for when needed


# Reading: a file and the options to texts (or pairs) and targets


def read(job, path, options):
    readers = {
        "classification": lambda: tables.read_labelled(path, options.text, options.pair, options.label),
        "multi-label": lambda: tables.read_labelled(path, options.text, options.pair, options.label, several=True),
        "regression": lambda: tables.read_labelled(path, options.text, options.pair, options.label, numbers=True),
        "ner": lambda: tables.read_words(path),
        "qa": lambda: tables.read_questions(path),
        "fill-mask": lambda: (tables.read_texts(path, options.text), None),
        "embedding": lambda: tables.read_pairs(path, options.text, options.pair, options.label),
    }
    x, y = readers[job]()
    if not count(x):
        raise ValueError(f"{path} holds no examples")
    return x, y


def read_parts(job, options):
    """What to train on and what to measure by: two files, or shares of one."""
    examples = read(job, options.data, options)
    if options.test:
        return examples, read(job, options.test, options)
    return shares(*examples, options.held_out, options.seed)


def count(x):
    return len(x[0] if isinstance(x, tuple) else x)


def rows(x, y, places):
    """Some of the examples."""

    def some(column):
        return [column[place] for place in places]

    x = tuple(map(some, x)) if isinstance(x, tuple) else some(x)
    return x, None if y is None else some(y)


def shares(x, y, held_out, seed):
    """A random share of the examples apart from the others."""
    order = np.random.default_rng(seed).permutation(count(x)).tolist()
    first = round(held_out * len(order))
    if not 0 < first < len(order):
        raise ValueError(
            f"--held-out {held_out} of {len(order)} examples leaves {len(order) - first} to train on, {first} to measure by"
        )
    return rows(x, y, order[first:]), rows(x, y, order[:first])


# Building


def build(job, preset, x, y, options):
    """The task, with the labels that are in the data."""
    common = {"max_length": options.max_length}
    if job in ("classification", "multi-label"):
        names = sorted({label for row in y for label in (row if job == "multi-label" else [row])})
        if job == "classification" and len(names) < 2:
            raise ValueError(f"{options.data} has one label only, {names[0]!r}: there is nothing to tell apart")
        kind = MULTI if job == "multi-label" else SINGLE
        return kbert.TextClassifier.from_preset(
            preset, labels=names, problem_type=kind, window_stride=options.window_stride, **common
        )
    if job == "regression":
        return kbert.TextClassifier.from_preset(preset, problem_type=REGRESSION, window_stride=options.window_stride, **common)
    if job == "ner":
        names = ["O", *sorted({tag for tags in y for tag in tags} - {"O"})]
        return kbert.TokenClassifier.from_preset(preset, labels=names, **common)
    classes = {"qa": kbert.QuestionAnswerer, "fill-mask": kbert.MaskedLM, "embedding": kbert.TextEmbedder}
    return classes[job].from_preset(preset, **common)


def job_of(task):
    """The job that a trained task does."""
    if isinstance(task, kbert.TextClassifier):
        return {SINGLE: "classification", MULTI: "multi-label", REGRESSION: "regression"}[task.problem_type]
    classes = {
        kbert.TokenClassifier: "ner", kbert.QuestionAnswerer: "qa", kbert.MaskedLM: "fill-mask", kbert.TextEmbedder: "embedding",
    }  # fmt: skip
    return classes[type(task)]


# Measuring


def measure(job, task, x, y):
    """The field's own figures for a task on labelled data."""
    return MEASURES[job](task, x, y)


def text_at(x, place):
    return " | ".join(column[place] for column in x) if isinstance(x, tuple) else x[place]


def measure_classes(task, x, y):
    answers = task.classify(x)
    table, accuracy = report.confusion([answer["label"] for answer in answers], y, task.labels)
    right, given, answered = np.diag(table), table.sum(1), table.sum(0)
    f1 = 2 * right / np.maximum(given + answered, 1)
    lines = [
        (label, f"{right[n] / max(1, answered[n]):.3f}", f"{right[n] / max(1, given[n]):.3f}", f"{f1[n]:.3f}", int(given[n]))
        for n, label in enumerate(task.labels)
    ]
    mistakes = [
        {"text": text_at(x, place), "true": label, "answer": answer["label"], "score": round(answer["score"], 4)}
        for place, (label, answer) in enumerate(zip(y, answers)) if answer["label"] != label
    ]  # fmt: skip
    return Measured(
        {"accuracy": accuracy, "macro_f1": float(f1[given + answered > 0].mean())},
        ("label", "precision", "recall", "F1", "texts"), lines, surest(mistakes),
        [lambda: report.confusion_picture(table, task.labels)],
    )  # fmt: skip


def measure_labels(task, x, y):
    answers = task.classify(x)
    scores = task.scores(x, y)
    f1 = {label: scores[f"f1_{label}"] for label in task.labels}
    mistakes = [
        {
            "text": text_at(x, place), "true": tables.SEPARATOR.join(labels), "answer": tables.SEPARATOR.join(answer["labels"]),
            "score": round(max(abs(answer["scores"][label] - (label in labels)) for label in task.labels), 4),
        }
        for place, (labels, answer) in enumerate(zip(y, answers)) if set(labels) != set(answer["labels"])
    ]  # fmt: skip
    lines = [(label, f"{value:.3f}", sum(label in labels for labels in y)) for label, value in f1.items()]
    exact = 1 - len(mistakes) / len(answers)
    return Measured(
        {"macro_f1": float(np.mean(list(f1.values()))), "all_labels_right": exact},
        ("label", "F1", "texts"),
        lines,
        surest(mistakes),
    )


def measure_numbers(task, x, y):
    numbers = np.array([answer["score"] for answer in task.classify(x)])
    apart = np.abs(numbers - y)
    mistakes = [
        {
            "text": text_at(x, place),
            "true": y[place],
            "answer": round(float(numbers[place]), 4),
            "score": round(float(apart[place]), 4),
        }
        for place in range(len(numbers))
    ]

    def draw(axes):
        axes.scatter(y, numbers, s=8)
        axes.set_xlabel("true")
        axes.set_ylabel("answer")

    pictures = [lambda: report.picture(draw, "answers beside the true numbers")]
    return Measured(
        {"pearson": pearson(numbers, y), "spearman": spearman(numbers, y), "mean_absolute_error": float(apart.mean())},
        mistakes=surest(mistakes),
        pictures=pictures,
    )


def measure_entities(task, x, y):
    predicted = task.predict(x)
    scores = entity_scores(y, predicted)
    lines = [
        (kind, *(f"{of_kind[name]:.3f}" for name in ("precision", "recall", "f1")), of_kind["support"])
        for kind, of_kind in scores["by_type"].items()
    ]
    mistakes = []
    for words, tags, found in zip(x, y, task.classify(x)):
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        true = {(kind, int(starts[first]), int(starts[beyond] - 1)) for kind, first, beyond in entities(tags)}
        for entity in found:
            if (entity["label"], entity["start"], entity["end"]) not in true:
                text = " ".join(words)
                right = tables.SEPARATOR.join(
                    f"{kind}: {text[start:end]}" for kind, start, end in sorted(true, key=lambda one: one[1])
                )
                answer = f"{entity['label']}: {entity['text']}"
                mistakes.append({"text": text, "true": right, "answer": answer, "score": round(entity["score"], 4)})
    figures = {name: scores[name] for name in ("precision", "recall", "f1")}
    return Measured(figures, ("entity", "precision", "recall", "F1", "entities"), lines, surest(mistakes))


def measure_answers(task, x, y):
    found = task.answer(*x, no_answer_threshold=None if all(y) else 0.0)
    mistakes = [
        {
            "text": question,
            "true": right[0]["text"] if right else "",
            "answer": answer["text"],
            "score": round(answer["score"], 4),
        }
        for question, right, answer in zip(x[0], y, found)
        if not squad_scores([answer["text"]], [right])["exact_match"]
    ]
    return Measured(squad_scores([answer["text"] for answer in found], y), mistakes=surest(mistakes))


def measure_masks(task, x, y):
    keras.utils.set_random_seed(0)  # the same words are hidden each time
    loss = task.evaluate(x, return_dict=True, verbose=0)["loss"]
    return Measured({"loss": loss, "perplexity": math.exp(loss)})


def measure_pairs(task, x, y):
    if y is not None:
        cosines = [float(a @ b) for a, b in zip(task.embed(x[0], normalize=True), task.embed(x[1], normalize=True))]
        return Measured({"pearson": pearson(cosines, y), "spearman": spearman(cosines, y)})
    found = task.search(x[0], task.embed(x[1]), top_k=10)
    places = [[one["place"] for one in row] for row in found]
    ranks = [1 + row.index(place) if place in row else math.inf for place, row in enumerate(places)]
    mistakes = [
        {"text": x[0][n], "true": x[1][n], "answer": x[1][row[0]["place"]], "score": round(row[0]["score"], 4)}
        for n, row in enumerate(found) if ranks[n] > 1
    ]  # fmt: skip
    figures = {
        "found_first": float(np.mean([rank == 1 for rank in ranks])),
        "mean_reciprocal_rank": float(np.mean([1 / rank for rank in ranks])),
    }
    return Measured(figures, mistakes=surest(mistakes))


def surest(mistakes):
    return sorted(mistakes, key=lambda one: -one["score"])[:MOST_MISTAKES]


MEASURES = {
    "classification": measure_classes, "multi-label": measure_labels, "regression": measure_numbers, "ner": measure_entities,
    "qa": measure_answers, "fill-mask": measure_masks, "embedding": measure_pairs,
}  # fmt: skip


# The commands


def finetune(options):
    """Trains a task on a file, measures it on what was held out, and writes a folder with the task and the report.

    The folder holds `task.keras`, `preset/` (which transformers opens), `metrics.json`, `history.csv`, `mistakes.csv` and `report.html`.

    Returns:
      What was measured.
    """
    console = Console()
    out = check_target(options.out, options.overwrite)
    if not 0 < options.validation < 1:
        raise ValueError(f"--validation should be a share between 0 and 1, got {options.validation}")
    if options.label_smoothing and options.task not in ("classification", "multi-label"):
        raise ValueError("--label-smoothing is for classification")
    if options.balance and options.task != "classification":
        raise ValueError("--balance is for classification")
    train, test = read_parts(options.task, options)
    train, validation = shares(*train, options.validation, options.seed + 1)
    sizes = {"train": count(train[0]), "validation": count(validation[0]), "test": count(test[0])}
    console.print(", ".join(f"{size:,} to {what}" for size, what in zip(sizes.values(), ("train on", "watch", "measure by"))))

    keras.utils.set_random_seed(options.seed)
    task = build(options.task, options.preset, *train, options)
    known = {"task": options.task, "labels": getattr(task, "labels", None)}
    check_labels(task, options.task, validation, test)
    smoothing = {"label_smoothing": options.label_smoothing} if options.label_smoothing else {}
    loss = {} if options.task != "embedding" or train[1] is None else {"loss": kbert.training.losses.CosineSimilarityError()}
    task.compile(learning_rate=options.learning_rate, **smoothing, **loss)
    weights = {"class_weight": balanced(train[1])} if options.balance else {}
    stop = keras.callbacks.EarlyStopping(patience=options.patience or options.epochs, restore_best_weights=True)
    watched = validation[0] if options.task == "fill-mask" else validation
    history = task.fit(
        *train, validation_data=watched, epochs=options.epochs, batch_size=options.batch_size, callbacks=[stop], **weights,
        verbose=1 if console.is_terminal else 2,
    ).history  # fmt: skip

    measured = measure(options.task, task, *test)
    show(console, measured)
    with written_aside(out) as aside:
        aside.mkdir()
        task.save(aside / MODEL)
        task.save_to_preset(aside / PRESET)
        figures = {**known, **sizes, "scores": measured.scores}
        (aside / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        write_csv(aside / "history.csv", [dict(zip(history, row)) for row in zip(*history.values())])
        write_csv(aside / "mistakes.csv", measured.mistakes)
        (aside / "report.html").write_text(written_report(options, sizes, history, measured), encoding="utf-8")
    console.print(f"written: {out / MODEL}, {out / PRESET}, {out / 'report.html'}", soft_wrap=True)
    return measured


def check_labels(task, job, *parts):
    """Says which label of the held-out data the training data lacks, before the training."""
    if job in ("classification", "multi-label"):
        for _, y in parts:
            task.encode_targets(y)
    if job == "ner":
        for _, y in parts:
            unknown = sorted({tag for tags in y for tag in tags} - set(task.labels))
            if unknown:
                raise ValueError(f"{unknown[0]!r} is a tag of the held-out words that no word to train on has")


def balanced(labels):
    """Weights by which each class counts as much as any other."""
    names, counts = np.unique(labels, return_counts=True)
    return {str(name): len(labels) / (len(names) * int(count)) for name, count in zip(names, counts)}


def write_csv(path, lines):
    import pandas as pd

    pd.DataFrame(lines).to_csv(path, index=False)


def show(console, measured):
    """Scores, and the table by label, in the terminal."""
    console.print(", ".join(f"{name.replace('_', ' ')} [bold]{value:.4f}[/bold]" for name, value in measured.scores.items()))
    if measured.rows:
        table = Table()
        for number, name in enumerate(measured.head):
            table.add_column(name, justify="right" if number else "left")
        for row in measured.rows:
            table.add_row(*map(str, row))
        console.print(table)


def written_report(options, sizes, history, measured):
    settings = {name: value for name, value in vars(options).items() if name not in ("run", "command") and value is not None}
    parts = [
        report.grid(
            ("", "on held-out data"), [(name.replace("_", " "), f"{value:.4f}") for name, value in measured.scores.items()]
        ),
        report.paragraph(", ".join(f"{what}: {size:,}" for what, size in sizes.items())),
    ]
    if measured.rows:
        parts.append(report.grid(measured.head, measured.rows))
    parts += [draw() for draw in measured.pictures]
    parts += [report.heading("Learning curves"), *report.learning_curves(history)]
    if measured.mistakes:
        head = tuple(measured.mistakes[0])
        parts += [
            report.heading("The most confident mistakes"),
            report.grid(head, [list(one.values()) for one in measured.mistakes[:20]]),
        ]
    parts += [report.heading("Settings"), report.grid(("option", "value"), settings.items())]
    return report.page(f"{options.task}: {pathlib.Path(options.data).name}", *parts)


def open_task(path):
    """A task from a `.keras` file, or from the folder that finetune wrote."""
    path = pathlib.Path(path)
    return kbert.load(path / MODEL if path.is_dir() else path)


def evaluate(options):
    """Measures a task on a labelled file."""
    task = open_task(options.model)
    job = job_of(task)
    x, y = read(job, options.data, options)
    check_labels(task, job, (x, y))
    measured = measure(job, task, x, y)
    if options.json:
        print(json.dumps(measured.scores))
    else:
        show(Console(), measured)
    return measured


def predict(options):
    """Answers the texts of a file, as JSON, a line for each."""
    task = open_task(options.model)
    job = job_of(task)
    if options.out:
        check_target(options.out, options.overwrite)
    if job == "qa":
        table = tables.read_table(options.data)
        x = tuple(tables.column(table, None, options.data, (name,)) for name in ("question", "context"))
        answers = task.answer(*x)
    else:
        x = tables.read_texts(options.data, options.text, options.pair)
        verbs = {"fill-mask": "fill", "embedding": "embed"}
        answers = getattr(task, verbs.get(job, "classify"))(x)
    lines = [json.dumps(one.tolist() if isinstance(one, np.ndarray) else one, ensure_ascii=False) for one in answers]
    if not options.out:
        print("\n".join(lines))
        return
    with written_aside(options.out) as aside:
        aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{options.out}: {len(lines):,} answers")


def export(options):
    """Writes a trained task for where it is to run."""
    task = open_task(options.model)
    texts = tables.read_texts(options.data, options.text) if options.data else None
    stated = {
        "inputs": options.inputs,
        "quantize": options.quantize,
        "metadata": options.metadata,
        "max_length": options.max_length,
    }
    stated = {name: value for name, value in {**stated, "texts": texts}.items() if value is not None}
    takes = {
        "tf_saved_model": ("quantize",), "litert": ("inputs", "quantize", "metadata", "max_length", "texts"), "onnx": ("inputs", "quantize", "texts"),
    }[options.format]  # fmt: skip
    if options.serving and (options.format != "tf_saved_model" or options.overwrite):
        raise ValueError(
            f"--serving writes a SavedModel of the next version; it goes without {'--overwrite' if options.overwrite else '--format'}"
        )
    wrong = [name for name in stated if name not in takes]
    if wrong:
        raise ValueError(f"--{wrong[0].replace('_', '-')} is not for --format {options.format}")
    if options.serving:
        from kbert.export import export_serving

        print(f"written: {export_serving(task, options.path, options.serving, **stated)}")
        return
    task.export(options.path, format=options.format, overwrite=options.overwrite, **stated)
    print(f"written: {options.path}")


def distill(options):
    """Makes students of a trained task, and a table and a picture of what they are worth beside it."""
    from kbert.distillation.recipes import recipes

    console = Console()
    out = check_target(options.out, options.overwrite)
    teacher = open_task(options.teacher)
    job = job_of(teacher)
    most = teacher.encoder.config.num_hidden_layers
    wrong = [count for count in options.layers if not 1 <= count <= most]
    if wrong:
        raise ValueError(f"--layers {wrong[0]}, but the teacher has {most}")
    train, test = read_parts(job, options)
    check_labels(teacher, job, train, test)
    plain = tables.read_texts(options.unlabelled, options.text) if options.unlabelled else None
    recipe, students = recipes[options.recipe], {}
    labels = None if job in ("fill-mask", "embedding") else train[1]
    texts = train[0][0] + train[0][1] if job == "embedding" else train[0]
    stage_data = None
    if plain and recipe.stages[0].on_plain_texts:
        stage_data = {recipe.stages[0].name: plain}
    elif plain:
        if not texts or not isinstance(texts, list) or not isinstance(texts[0], str):
            raise ValueError(f"--unlabelled of the recipe {recipe.name} goes with single texts, which {job} does not have")
        texts, labels = texts + plain, labels and [*labels, *[None] * len(plain)]
    for layers in options.layers:
        keras.utils.set_random_seed(options.seed)
        console.print(f"a student of {layers} layers, by the recipe {recipe.name} ({recipe.source})")
        students[layers] = recipe.run(
            teacher, texts, labels, num_hidden_layers=layers, epochs=options.epochs, learning_rate=options.learning_rate,
            batch_size=options.batch_size, stage_data=stage_data,
            cache=None if options.cache is None else pathlib.Path(options.cache) / f"{layers}-layers",
            verbose=1 if console.is_terminal else 2,
        )  # fmt: skip
    entries = {f"teacher, {most} layers": teacher, **{f"student, {layers} layers": task for layers, task in students.items()}}
    one = tuple(column[0] for column in test[0]) if isinstance(test[0], tuple) else test[0][0]
    worth = {name: worth_of(job, task, test, one) for name, task in entries.items()}
    rows = [tuple(row.values()) for row in worth.values()]
    head = ("", *next(iter(worth.values())))
    show(console, Measured({}, head, [(name, *row) for name, row in zip(worth, rows)]))
    with written_aside(out) as aside:
        aside.mkdir()
        for layers, task in students.items():
            task.save(aside / f"student_{layers}.keras")
        (aside / "metrics.json").write_text(json.dumps(worth, indent=2) + "\n", encoding="utf-8")
        figures = list(worth.values())
        metric = head[1]

        def draw(axes):
            axes.plot([one["one text, ms"] for one in figures], [one[metric] for one in figures], "o-")
            for name, one in worth.items():
                axes.annotate(name, (one["one text, ms"], one[metric]), textcoords="offset points", xytext=(4, -12), fontsize=8)
            axes.set_xlabel("one text, ms")
            axes.set_ylabel(metric.replace("_", " "))

        parts = [
            report.grid(head, [(name, *row) for name, row in zip(worth, rows)]),
            report.picture(draw, f"{metric} by latency"),
        ]
        (aside / "report.html").write_text(report.page(f"Students by the recipe {recipe.name}", *parts), encoding="utf-8")
    console.print(f"written: {out}", soft_wrap=True)


def worth_of(job, task, test, one):
    """A task's first score, parameters, size as an int8 LiteRT file, and the median time of a frozen answer to one text."""
    scores = measure(job, task, *test).scores
    name = next(iter(scores))
    inputs = "text" if isinstance(task, (kbert.TextClassifier, kbert.TextEmbedder)) and not isinstance(one, tuple) else "tokens"
    with tempfile.TemporaryDirectory() as room:
        path = pathlib.Path(room) / "task.tflite"
        task.export(
            path,
            format="litert",
            inputs=inputs,
            quantize="int8",
            max_length=min(128, task.preprocessor.max_length),
            verify=False,
        )
        megabytes = path.stat().st_size / 1e6
    frozen, times = task.freeze(), []
    question = tuple([text] for text in one) if isinstance(one, tuple) else [one]
    if job == "qa":
        ask = lambda: frozen.answer(*question)  # noqa: E731
    else:
        ask = lambda: frozen.predict(question)  # noqa: E731
    for _ in range(60):
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return {
        name: round(scores[name], 4), "parameters": sum(math.prod(v.shape) for v in task.trainable_variables),
        f"int8 .tflite ({inputs}), MB": round(megabytes, 1), "one text, ms": round(1000 * float(np.median(times[10:])), 2),
    }  # fmt: skip


def verify(options):
    """Compares an exported model with its task."""
    from kbert.export import verify as compare

    task = open_task(options.model)
    texts = tables.read_texts(options.data, options.text, options.pair) if options.data else None
    tolerance = None if options.any_difference else options.tolerance
    compare(options.path, task, texts, pairs=bool(options.pair) and job_of(task) != "qa", tolerance=tolerance)
