"""Keras's losses and metrics, by name, class or object, read a task's logits rightly or are refused."""

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

import kbert
from tests.conftest import TINY, tiny_tokenizer

SIZES = {"num_hidden_layers": 1}
KINDS = {
    "single": ("TextClassifier", {"labels": ["bad", "good"]}),
    "three": ("TextClassifier", {"labels": ["bad", "good", "so"]}),
    "several": ("TextClassifier", {"labels": ["bad", "good", "so"], "problem_type": "multi_label"}),
    "numbers": ("TextClassifier", {"problem_type": "regression"}),
    "words": ("TokenClassifier", {"labels": ["O", "B-x", "I-x"]}),
    "answers": ("QuestionAnswerer", {}),
    "masks": ("MaskedLM", {}),
    "pretraining": ("Pretrainer", {}),
    "vectors": ("TextEmbedder", {}),
}


@pytest.fixture(scope="module")
def tasks():
    def built(kind, options):
        preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), 16)
        return getattr(kbert, kind)(kbert.BertEncoder(kbert.BertConfig(**{**TINY, **SIZES})), preprocessor, **options)

    return {name: built(*parts) for name, parts in KINDS.items()}


def outputs_and_targets(name):
    """Random logits of a task, and its encoded targets."""
    random = np.random.default_rng(3)
    if name in ("words", "masks", "pretraining"):
        return random.normal(size=(4, 5, 3)).astype("float32"), np.array([[0, 1, 2, -100, -100]] * 4)
    if name == "several":
        return random.normal(size=(40, 3)).astype("float32"), random.integers(0, 2, (40, 3)).astype("float32")
    classes = {"single": 2, "three": 3, "answers": 7}[name]
    return random.normal(size=(40, classes)).astype("float32"), random.integers(0, classes, 40)


SPARSE = "sparse_categorical_crossentropy"
ROWS = ["categorical_crossentropy", keras.losses.CategoricalCrossentropy, "CategoricalCrossentropy"]
BINARY = ["binary_crossentropy", keras.losses.BinaryCrossentropy(), keras.losses.binary_crossentropy]
GIVEN = [SPARSE, "SparseCategoricalCrossentropy", keras.losses.SparseCategoricalCrossentropy, "crossentropy",
         keras.losses.SparseCategoricalCrossentropy(), keras.losses.sparse_categorical_crossentropy]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, given) for name in ("single", "words") for given in GIVEN),
        *((name, SPARSE) for name in ("three", "answers", "masks", "pretraining")),
        *(("single", given) for given in ROWS),
        *(("several", given) for given in BINARY),
    ],
)
def test_a_loss_of_keras_is_the_default_loss(tasks, name, given):
    task = tasks[name]
    logits, targets = outputs_and_targets(name)
    task.compile(loss=given)
    default, chosen = task.default_loss(), task.loss
    if isinstance(default, dict):
        assert set(chosen) == set(default)
        default, chosen = next(iter(default.values())), next(iter(chosen.values()))
    expected = float(default(targets, logits))
    if given in ROWS:
        targets = task.encode_targets(targets.tolist())
        assert targets.shape == logits.shape
    assert float(chosen(targets, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "loss", "message"),
    [
        ("several", SPARSE, "has several: give binary_crossentropy"),
        ("several", "categorical_crossentropy", "has several"),
        ("words", "categorical_crossentropy", "are indices: give sparse_categorical"),
        ("masks", "binary_crossentropy", "are indices"),
        ("answers", "mse", "are indices"),
        ("single", "kl_divergence", "reads probabilities"),
        ("numbers", SPARSE, "gives numbers"),
        ("numbers", "binary_crossentropy", "gives numbers"),
        ("vectors", "mse", "which vectors belong together"),
        ("single", "crossentropi", "crossentropi"),
        ("single", [SPARSE, SPARSE], "one for each of 1 outputs, got 2"),
        ("single", type("Own", (keras.losses.BinaryCrossentropy,), {})(), "from_logits=True"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(tasks, name, loss, message):
    with pytest.raises(ValueError, match=message):
        tasks[name].compile(loss=loss)


def measured(task, metric, logits, targets, weights=None):
    """What a metric of `compile` counts on logits."""
    (chosen,) = task._metrics_of_outputs([metric], task.default_loss())
    for part in np.array_split(np.arange(len(logits)), 3):
        chosen.update_state(targets[part], logits[part], None if weights is None else weights[part])
    again = type(chosen).from_config(chosen.get_config())
    assert again.name == chosen.name
    return np.array(chosen.result())


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_metrics_of_one_label_read_probabilities(tasks):
    logits, targets = outputs_and_targets("single")
    weights = np.random.default_rng(0).integers(0, 3, 40).astype("float32")
    task = tasks["single"]
    auc = roc_auc_score(targets, softmax(logits)[:, 1], sample_weight=weights)
    for metric in (keras.metrics.AUC(num_thresholds=2000), keras.metrics.AUC(num_thresholds=2000, from_logits=True)):
        assert measured(task, metric, logits, targets, weights) == pytest.approx(auc, abs=5e-3)
    right = np.average(logits.argmax(-1) == targets, weights=weights)
    for metric in (
        "accuracy",
        "acc",
        "binary_accuracy",
        "BinaryAccuracy",
        "sparse_categorical_accuracy",
        keras.metrics.BinaryAccuracy(threshold=0.0),
        "categorical_accuracy",
    ):
        assert measured(task, metric, logits, targets, weights) == pytest.approx(right), metric
    f1 = f1_score(targets, logits.argmax(-1), average=None)
    np.testing.assert_allclose(measured(task, "F1Score", logits, targets), f1, atol=1e-5)
    entropy = float(task.default_loss()(targets, logits))
    for metric in ("crossentropy", SPARSE, "SparseCategoricalCrossentropy", "categorical_crossentropy"):
        assert measured(task, metric, logits, targets) == pytest.approx(entropy, rel=1e-4), metric


def test_metrics_of_several_labels_read_probabilities(tasks):
    logits, targets = outputs_and_targets("several")
    right = ((logits > 0) == targets).mean()
    for metric in ("accuracy", "binary_accuracy", keras.metrics.BinaryAccuracy(), keras.metrics.BinaryAccuracy(threshold=0.0)):
        assert measured(tasks["several"], metric, logits, targets) == pytest.approx(right)
    auc = measured(tasks["several"], keras.metrics.AUC(num_thresholds=2000), logits, targets)
    assert auc == pytest.approx(roc_auc_score(targets.ravel(), logits.ravel()), abs=5e-3)
    precision = (targets * (logits > 0)).sum() / (logits > 0).sum()
    for metric in ("Precision", keras.metrics.Precision(thresholds=0)):
        assert measured(tasks["several"], metric, logits, targets) == pytest.approx(precision)


def test_metrics_of_words_leave_out_what_has_no_label(tasks):
    logits, targets = outputs_and_targets("words")
    right = (logits.argmax(-1) == targets)[targets >= 0].mean()
    for metric in ("accuracy", "sparse_categorical_accuracy", "categorical_accuracy"):
        assert measured(tasks["words"], metric, logits, targets) == pytest.approx(right), metric


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("numbers", "accuracy", "no accuracy"),
        ("numbers", "AUC", "gives numbers"),
        ("answers", "AUC", "fixed number"),
        ("vectors", "AUC", "gives vectors"),
        ("single", "aucc", "aucc"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(tasks, name, metric, message):
    with pytest.raises(ValueError, match=message):
        tasks[name].compile(metrics=[metric])


def test_metrics_of_ones_own_see_the_logits(tasks):
    def own(targets, outputs):
        return outputs

    assert tasks["single"]._metrics_of_outputs([own], tasks["single"].default_loss()) == [own]
    chosen = tasks["answers"]._metrics_of_outputs(["accuracy"], tasks["answers"].default_loss())
    assert {name: len(metrics) for name, metrics in chosen.items()} == {"start_logits": 1, "end_logits": 1}


# The optimizer


def test_the_rate_of_compile_acts_or_is_refused(tasks):
    task = tasks["single"]
    task.compile("adamw", learning_rate=2e-5)
    assert float(task.optimizer.learning_rate) == pytest.approx(2e-5)
    task.compile("sgd", gradient_accumulation_steps=4)
    assert task.optimizer.gradient_accumulation_steps == 4
    task.compile(learning_rate=keras.optimizers.schedules.CosineDecay(1e-3, 10))
    for argument in ({"learning_rate": 1e-3}, {"gradient_accumulation_steps": 2}):
        with pytest.raises(ValueError, match=f"give {next(iter(argument))} to your optimizer"):
            task.compile(keras.optimizers.Adam(), **argument)
    for name, wrong in (
        ("learning_rate", (0, -1, True, "1e-3", float("nan"))),
        ("gradient_accumulation_steps", (0, -1, 1.5, True)),
    ):
        for value in wrong:
            with pytest.raises(ValueError, match=name):
                task.compile(**{name: value})
    for argument in ({"jit_compile": 1}, {"steps_per_execution": 0}, {"run_eagerly": 1}, {"label_smoothing": True}):
        with pytest.raises(ValueError, match=next(iter(argument))):
            task.compile(**argument)
    with pytest.raises(TypeError, match="takes no argument loss"):
        kbert.Distiller(task, task.make_student(1)).compile(loss="mse")


# Callbacks


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda folder: keras.callbacks.EarlyStopping("val_loss"), "no validation data"),
        (lambda folder: keras.callbacks.EarlyStopping("macro_f2"), "does not have; it has loss, accuracy, macro_f1"),
        (lambda folder: keras.callbacks.ReduceLROnPlateau("loss"), r"compile\(\"adamw\", learning_rate=2e-5\)"),
        (lambda folder: keras.callbacks.LearningRateScheduler(lambda epoch: 1.0), "optimizer's schedule"),
        (lambda folder: keras.callbacks.ModelCheckpoint(f"{folder}/{{val_f2}}.keras"), "val_f2"),
        (lambda folder: keras.callbacks.ModelCheckpoint(f"{folder}/file/best.keras"), "no folder that can be written to"),
        (lambda folder: "early", "keras.callbacks.Callback"),
    ],
)
def test_callbacks_are_tried_before_the_first_step(tasks, tmp_path, callback, message):
    (tmp_path / "file").write_text("")
    task = tasks["single"]
    task.compile()
    with pytest.raises((ValueError, TypeError), match=message):
        task.fit(["good day", "bad"], ["good", "bad"], callbacks=[callback(tmp_path)], verbose=0)
    assert not task.optimizer.built


def test_figures_of_the_field_say_their_direction(tasks, tmp_path):
    task, texts, y = tasks["several"], ["good day", "bad"], [["good"], ["bad"]]
    task.compile("adamw", learning_rate=1e-5, run_eagerly=True)
    stop = keras.callbacks.EarlyStopping("val_f1_good", patience=3, restore_best_weights=True)
    others = [keras.callbacks.EarlyStopping("val_macro_f1"), keras.callbacks.ReduceLROnPlateau("val_loss")]
    task.fit(texts, y, validation_data=(texts, y), epochs=2, callbacks=[stop, *others], verbose=0)
    assert stop.monitor_op is keras.ops.greater and others[0].monitor_op is keras.ops.greater
    teacher = tasks["single"]
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_macro_f1", save_best_only=True)
    student = teacher.make_student(1)
    distiller = kbert.Distiller(teacher, student)
    distiller.compile(run_eagerly=True)
    distiller.fit(texts, ["good", "bad"], validation_data=(texts, ["good", "bad"]), callbacks=best, verbose=0)
    np.testing.assert_allclose(kbert.load(tmp_path / "best.keras").predict(texts), student.predict(texts), atol=1e-6)


# Answers


@pytest.mark.parametrize("wrong", [0, -1, None, True, 1.5, "3"])
def test_counts_of_answers_are_refused(tasks, wrong):
    calls = {
        "max_answer_length": lambda: tasks["answers"].answer("good ?", "in the day", max_answer_length=wrong),
        "top_k": lambda: tasks["answers"].answer("good ?", "in the day", top_k=wrong),
        "top_k ": lambda: tasks["vectors"].search(["good"], ["bad"], top_k=wrong),
        "top_k  ": lambda: tasks["masks"].fill("a [MASK]", top_k=wrong),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=name.strip()):
            call()


def test_a_single_vector_is_refused(tasks):
    embedder = tasks["vectors"]
    vectors = embedder.embed(["good day", "bad"])
    for call in (lambda: embedder.search(vectors[0], vectors), lambda: embedder.search(vectors, vectors[0])):
        with pytest.raises(ValueError, match=r"vectors \[N, D\]"):
            call()


@pytest.mark.parametrize("kind", ["TextClassifier", "TokenClassifier", "QuestionAnswerer"])
def test_constructors_refuse_what_no_stride_and_no_dropout_is(tasks, kind):
    encoder, preprocessor = tasks["single"].encoder, tasks["single"].preprocessor
    options = {} if kind == "QuestionAnswerer" else {"labels": ["O", "B-x"]}
    for name, wrong in (
        ("window_stride", (-1, True, 1.5, "2", float("nan"))),
        ("dropout", (-0.1, 1.0, True, "0.1", float("nan"))),
    ):
        for value in wrong:
            with pytest.raises(ValueError, match=name):
                getattr(kbert, kind)(encoder, preprocessor, **options, **{name: value})
