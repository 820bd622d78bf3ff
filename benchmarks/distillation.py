"""What students are worth beside their teacher, and beside the same students fine-tuned alone, over three seeds.

    python benchmarks/distillation.py [--only emotion restaurant] [--seeds 0 1 2]

Teacher: all-MiniLM-L6-v2. Every network is trained with the same rate and batches. Needs the data of ../shared/data. Each run
is kept in `benchmarks/distillation.jsonl` as it ends, and what stands there is not run again; the table goes to
`benchmarks/DISTILLATION.md`.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
from accuracy import data_of, names_of, score

import kbert
from kbert.distillation import recipes

HERE = pathlib.Path(__file__).resolve().parent
KEPT, TABLE, PICTURE = HERE / "distillation.jsonl", HERE / "DISTILLATION.md", HERE / "distillation.png"
TWEETS, EPOCHS, RATE = 6000, 3, 2e-4
WHAT = {
    "emotion": f"{TWEETS:,} tweets, 80/20: accuracy",
    "restaurant": "mit_restaurant: entity F1",
    "cache": "1,280 tweets, what the losses see of the teacher kept in a folder",
}
STUDENTS = {"emotion": (3, 1), "restaurant": (3,), "cache": (3, 1)}


def teacher_of(job, train):
    cls = kbert.TokenClassifier if job == "restaurant" else kbert.TextClassifier
    return cls.from_preset("all-minilm-l6-v2", labels=names_of(job, train["labels"]), max_length=64)


def worth(job, task, test):
    texts = test["texts"]
    answers = task.predict(texts) if job == "restaurant" else [answer["label"] for answer in task.classify(texts, verbose=0)]
    return score(job, test, answers)[0]


def seconds(work, task, times=5):
    taken = []
    for _ in range(1 + times):
        started = time.perf_counter()
        work(task)
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def run(job, seed):
    """Scores, speeds over the teacher's, and what trimming and int8 do to the student of three layers."""
    if job == "cache":
        return cached(data_of("emotion", seed)["train"])
    parts = data_of(job, seed)
    if job == "emotion":
        parts = {
            "train": {name: column[: TWEETS * 4 // 5] for name, column in parts["train"].items()},
            "test": {name: column[: TWEETS // 5] for name, column in parts["test"].items()},
        }
    train, test = parts["train"], parts["test"]
    keras.utils.set_random_seed(seed)
    teacher = teacher_of(job, train)
    alone = teacher.make_student(num_hidden_layers=3)  # begins with the teacher's layers before any fine-tuning
    for task in (teacher, alone):
        task.compile(learning_rate=RATE)
        task.fit(train["texts"], train["labels"], epochs=EPOCHS, verbose=0)
    found = {"teacher": worth(job, teacher, test), "3 layers, alone": worth(job, alone, test)}
    students = {}
    for layers in STUDENTS[job]:
        students[layers] = recipes.task.run(
            teacher, train["texts"], train["labels"], num_hidden_layers=layers, epochs=EPOCHS, learning_rate=RATE, verbose=0
        )
        found[f"{layers} layers"] = worth(job, students[layers], test)
    if job == "emotion":
        texts = test["texts"][:640]
        fast = {layers: task.freeze() for layers, task in {6: teacher, **students}.items()}
        for name, work in (
            ("640 texts", lambda task: task.predict(texts, verbose=0)),
            ("one text", lambda task: [task.predict([text], verbose=0) for text in texts[:50]]),
        ):
            taken = {layers: seconds(work, task) for layers, task in fast.items()}
            found.update({f"{layers} layers, speed, {name}": taken[6] / taken[layers] for layers in students})
        found.update(trimmed(students[3], train["texts"], test["texts"]))
    return found


def cached(train):
    """Returns how much longer a first epoch takes than the second, with the teacher's answers to be made and with them
    cached."""
    texts, labels, found = train["texts"][:1280], train["labels"][:1280], {}
    teacher = teacher_of("emotion", train)
    layers_too = {"hidden": 1.0, "attention": 1.0}
    for layers, what, weights in [
        (n, *more) for n in STUDENTS["cache"] for more in (("answers", {}), ("layers too", layers_too))
    ]:
        distiller = kbert.Distiller(
            teacher, teacher.make_student(num_hidden_layers=layers), soft=1.0, hard=0.5, temperature=2.0, **weights
        )
        distiller.compile(learning_rate=RATE)
        distiller.fit(texts[:64], labels[:64], verbose=0)  # traced
        ends = []
        clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, ends=ends: ends.append(time.perf_counter()))
        with tempfile.TemporaryDirectory() as room:
            for name in ("first", "first, from the folder"):
                ends.clear()
                started = time.perf_counter()
                distiller.fit(texts, labels, epochs=2, verbose=0, callbacks=[clock], cache=pathlib.Path(room) / "answers")
                found[f"{layers} layers, {what}: {name} epoch over second"] = (ends[0] - started) / (ends[1] - ends[0])
            size = sum(path.stat().st_size for path in pathlib.Path(room).rglob("*.npy"))
            found[f"{layers} layers, {what}: kept, MB"] = size / 1e6
    return found


def trimmed(student, texts, others):
    """The student with 8,000 tokens as an int8 file that takes text, and where its labels are the float32 student's."""
    import ai_edge_litert.interpreter as litert
    import tensorflow_text

    small = student.trim_vocabulary(texts, size=8000)
    same = [text for text in others if tokens(small, text) == tokens(student, text)]
    expected = [answer["label"] for answer in student.classify(same, verbose=0)]
    with tempfile.TemporaryDirectory() as room:
        path = pathlib.Path(room) / "small.tflite"
        small.export(path, format="litert", inputs="text", quantize="int8")
        registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
        interpreter = litert.InterpreterWithCustomOps(model_path=str(path), custom_op_registerers=registerers, num_threads=2)
        answer = interpreter.get_signature_runner("serving_default")
        labels = [answer(text=np.array([text.encode()]))["label"].reshape(-1)[0].decode() for text in same]
        megabytes = path.stat().st_size / 1e6
    agree = sum(a == b for a, b in zip(labels, expected)) / len(same)
    return {"trimmed, int8: megabytes": megabytes, "trimmed, int8: labels kept": agree, "texts of kept words": len(same)}


def tokens(task, text):
    return [task.tokenizer.vocabulary[place] for place in task.tokenizer(text).numpy()]


def write_table():
    runs = [json.loads(line) for line in KEPT.read_text().splitlines()]
    lines = []
    for job, what in WHAT.items():
        some = sorted((run for run in runs if run["job"] == job), key=lambda run: run["seed"])
        if not some:
            continue
        if job == "emotion":
            draw(some)
        lines += [
            f"\n{what}, seeds {', '.join(str(run['seed']) for run in some)}\n",
            "| | by seed | mean | of the teacher's |",
            "|---|---|---|---|",
        ]
        of_teacher = statistics.mean(run["found"].get("teacher", 1) for run in some)
        for name in some[0]["found"]:
            values = [run["found"][name] for run in some]
            is_score = name in ("teacher", "3 layers, alone", "3 layers", "1 layers")
            share = f"{statistics.mean(values) / of_teacher:.1%}" if is_score else ""
            digits = 2 if is_score or "speed" in name or "epoch" in name else 3
            shown = ", ".join(f"{value:.{digits}f}" for value in values)
            lines.append(f"| {name} | {shown} | {statistics.mean(values):.{digits}f} | {share} |")
    TABLE.write_text(
        "# Students beside their teacher\n\n`python benchmarks/distillation.py` writes this file: all-MiniLM-L6-v2 "
        f"fine-tuned for {EPOCHS} epochs at {RATE:g} as the teacher of `recipes.task`, for as many epochs at the same rate. "
        "Speeds are of frozen tasks, times the teacher's.\n" + "\n".join(lines) + "\n"
    )


def draw(runs):
    """Accuracy against time, of the teacher and its students, as a picture for the README."""
    from matplotlib.figure import Figure

    def mean(name):
        return statistics.mean(run["found"][name] for run in runs)

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    points = {"teacher, 6 layers": (1, "teacher")}
    points.update(
        {f"{n} layer{'s' * (n > 1)}": (1 / mean(f"{n} layers, speed, one text"), f"{n} layers") for n in STUDENTS["emotion"]}
    )
    times, scores = zip(*((time, mean(name)) for time, name in points.values()))
    axes.plot(times, scores, "o-", label="students of the teacher")
    axes.plot(times[1], mean("3 layers, alone"), "x", color="tab:gray", label="3 layers, fine-tuned alone")
    for label, x, y in zip(points, times, scores):
        axes.annotate(label, (x, y), textcoords="offset points", xytext=(-4, 6), ha="right" if x == 1 else "left")
    axes.set_xlabel("time for one text, teacher = 1")
    axes.set_ylabel("accuracy, %")
    axes.set_xlim(0, 1.05)
    axes.margins(y=0.25)
    axes.legend(loc="lower right")
    figure.savefig(PICTURE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(WHAT), default=list(WHAT))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    kept = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.is_file() else []
    for seed in options.seeds:
        for job in options.only:
            if (job, seed) in {(run["job"], run["seed"]) for run in kept}:
                continue
            line = {"job": job, "seed": seed, "found": run(job, seed)}
            print(line, flush=True)
            with KEPT.open("a") as file:
                file.write(json.dumps(line) + "\n")
            write_table()


if __name__ == "__main__":
    main()
