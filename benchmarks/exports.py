"""What each exported file is worth beside its task: differences on 1,000 texts, accuracy, size, and the time for one text.

python benchmarks/exports.py [--texts 1000] [--every-task]
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps
from rich.console import Console
from rich.table import Table
from run import tweets

import kbert
from kbert.export.verify import check

LENGTH = 64


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def saved_model(path, task):
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda texts: signature(text=tf.constant(texts))["probabilities"].numpy()


def litert(path, task, threads=2):
    registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
    interpreter = InterpreterWithCustomOps(model_path=str(path), custom_op_registerers=registerers, num_threads=threads)
    run = interpreter.get_signature_runner("serving_default")
    if "text" in run.get_input_details():
        return lambda texts: np.concatenate([run(text=np.array([text.encode()]))["probabilities"] for text in texts])
    fixed = kbert.TextPreprocessor(task.tokenizer, LENGTH, fixed_length=True)
    return lambda texts: np.concatenate(
        [run(**{name: ids.numpy() for name, ids in fixed([text]).items()})["probabilities"] for text in texts]
    )


def onnx(path, task):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}

    def answer(texts):
        parts = []
        for start in range(0, len(texts), 32):
            packed = task.preprocessor(texts[start : start + 32])
            parts.append(session.run(None, {theirs: packed[ours].numpy().astype("int64") for theirs, ours in names.items()})[0])
        return softmax(np.concatenate(parts))

    return answer


FORMATS = {
    "SavedModel": (saved_model, "tf_saved_model", {}),
    "LiteRT text float32": (litert, "litert", {}),
    "LiteRT text float16": (litert, "litert", {"quantize": "float16"}),
    "LiteRT text int8": (litert, "litert", {"quantize": "int8"}),
    "LiteRT tokens float32": (litert, "litert", {"inputs": "tokens"}),
    "LiteRT tokens int8": (litert, "litert", {"inputs": "tokens", "quantize": "int8"}),
    "LiteRT tokens int8-static": (litert, "litert", {"inputs": "tokens", "quantize": "int8-static"}),
    "ONNX float32": (onnx, "onnx", {}),
    "ONNX int8": (onnx, "onnx", {"quantize": "int8"}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--every-task", action="store_true", help="in place of the classifier's table, one of every task")
    options = parser.parse_args()
    count = options.texts
    if options.every_task:
        return every_task(Console(width=120), count)
    texts, labels = tweets(2000 + count)
    keras.utils.set_random_seed(0)
    task = kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=sorted(set(labels)), max_length=LENGTH)
    task.compile(learning_rate=1e-4)
    task.fit(texts[:2000], labels[:2000], epochs=2, verbose=2)
    calibration, texts, labels = texts[:300], texts[2000:], labels[2000:]
    ours = softmax(task.predict(texts))
    right = np.array([task.labels.index(label) for label in labels])
    console = Console(width=120)
    table = Table(
        title=f"{len(texts):,} texts, one at a time on two threads; the task's accuracy {(ours.argmax(-1) == right).mean():.3f}"
    )
    for name in ("", "MB", "export, s", "largest difference", "same label", "accuracy", "one text, ms"):
        table.add_column(name, justify="right" if name else "left")
    with tempfile.TemporaryDirectory() as room:
        for name, (opened, form, how) in FORMATS.items():
            path = pathlib.Path(room) / name.replace(" ", "_")
            started = time.perf_counter()
            more = {"max_length": LENGTH} if form == "litert" else {}
            if how.get("quantize") == "int8-static":
                more["texts"] = calibration
            task.export(path, format=form, **how, **more)
            seconds = time.perf_counter() - started
            answer = opened(path, task)
            found = answer(texts)
            times = []
            for text in texts[:100]:
                started = time.perf_counter()
                answer([text])
                times.append(time.perf_counter() - started)
            size = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
            best = found.argmax(-1)
            table.add_row(
                name,
                f"{size / 1e6:.1f}",
                f"{seconds:.1f}",
                f"{np.abs(found - ours).max():.1e}",
                f"{(best == ours.argmax(-1)).mean():.1%}",
                f"{(best == right).mean():.3f}",
                f"{1000 * statistics.median(times):.1f}",
            )
            if form == "tf_saved_model":
                apart = check(path, task).largest
                beside_ready_ids(console, path, task, texts)
        console.print(table)
        on_one_thread(console, pathlib.Path(room), task, calibration)
        console.print(f"SavedModel on the built-in probes: {apart:.1e}")


def every_task(console, count):
    """Prints the largest difference of each task's files from the task, on real texts.

    Answers, labels and places have to be the same.
    """
    shared = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    posts, _ = tweets(count)
    squad = kbert.read_squad(shared / "squad_train_4k.json")
    preset, options = "all-minilm-l6-v2", {"max_length": LENGTH}
    cases = {
        "classifier": (kbert.TextClassifier.from_preset(preset, labels=["a", "b", "c"], **options), (posts,)),
        "several labels": (
            kbert.TextClassifier.from_preset(preset, labels=["a", "b"], problem_type="multi_label", **options),
            (posts,),
        ),
        "regression": (kbert.TextClassifier.from_preset(preset, problem_type="regression", **options), (posts,)),
        "entities": (
            kbert.TokenClassifier.from_preset(preset, labels=["O", "B-x", "I-x", "B-y", "I-y"], **options),
            ([" ".join(words) for words in kbert.read_bio(shared / "mit_restaurant" / "test.bio")[0]][:count],),
        ),
        "answers": (
            kbert.QuestionAnswerer.from_preset(preset, max_length=256),
            (squad["question"][:count], squad["context"][:count]),
        ),
        "masks": (kbert.MaskedLM.from_preset(preset, **options), ([f"{text[:100]} [MASK]" for text in posts],)),
        "vectors": (kbert.TextEmbedder.from_preset(preset, **options), (posts,)),
    }
    table = Table(title=f"{count:,} real texts, the largest difference of a number; untrained heads")
    for name in ("task", "SavedModel", "LiteRT, text", "ONNX, tokens"):
        table.add_column(name)
    with tempfile.TemporaryDirectory() as room:
        for name, (task, columns) in cases.items():
            row = []
            for form, how in (("tf_saved_model", {}), ("litert", {}), ("onnx", {})):
                path = pathlib.Path(room) / f"{name}-{form}"
                task.export(path, format=form, **how)
                largest, compared, *_ = check(path, task, columns=columns)
                row.append(f"{largest:.0e}" + ("" if compared == len(columns[0]) else f" ({compared} that fit)"))
            table.add_row(name, *row)
    console.print(table)


def on_one_thread(console, room, task, calibration):
    """Ids of 128 tokens on one thread, each kind of file in turn."""
    calls = {}
    for quantize in (None, "float16", "int8", "int8-static"):
        path = room / f"{quantize}-128.tflite"
        more = {"texts": calibration} if quantize == "int8-static" else {}
        task.export(path, format="litert", inputs="tokens", quantize=quantize, max_length=128, **more)
        interpreter = InterpreterWithCustomOps(model_path=str(path), num_threads=1)
        calls[quantize] = interpreter.get_signature_runner("serving_default")
    inputs = {name: ids.numpy() for name, ids in kbert.TextPreprocessor(task.tokenizer, 128)(["word " * 200]).items()}
    times = {quantize: [] for quantize in calls}
    for _ in range(40):
        for quantize, call in calls.items():
            started = time.perf_counter()
            call(**inputs)
            times[quantize].append(time.perf_counter() - started)
    middle = {quantize: statistics.median(taken[5:]) for quantize, taken in times.items()}
    console.print(
        "LiteRT, 1x128, one thread: "
        + ", ".join(f"{quantize or 'float32'} {1000 * t:.1f} ms ({middle[None] / t:.2f}x)" for quantize, t in middle.items())
    )


def beside_ready_ids(console, path, task, texts):
    """What reading the text costs: the same graph on texts, and on ids that are there already, in turns."""
    signatures = tf.saved_model.load(str(path)).signatures
    some = tf.constant(texts[:32])
    packed = task.preprocessor(some)
    calls = {"text": lambda: signatures["serving_default"](text=some), "ids": lambda: signatures["tokens"](**packed)}
    times = {name: [] for name in calls}
    for _ in range(40):
        for name, call in calls.items():
            started = time.perf_counter()
            call()["probabilities"].numpy()
            times[name].append(time.perf_counter() - started)
    text, ids = (statistics.median(times[name][5:]) for name in ("text", "ids"))
    console.print(f"SavedModel, 32 texts: {1000 * text:.1f} ms from text, {1000 * ids:.1f} ms from ids, {text / ids:.3f}x")


if __name__ == "__main__":
    main()
