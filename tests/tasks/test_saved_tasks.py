"""What is saved comes back: options, flags, losses, the optimizer with its state; and what a clone and a student take over."""

import copy
import json
import os
import random
import warnings

import keras
import numpy as np
import pytest

import kbert
from kbert.tasks.smaller import flags_of_copies
from kbert.training.losses import MultipleNegativesRanking
from kbert.training.trainable_flags import set_trainable, trainable_flags
from tests.conftest import TINY, VOCABULARY, tiny_tokenizer

TEXTS = ["the cat sat", "a good day !", "the dog ran . [SEP] bad", "very very very very bad night film so bad , so so bad"]
WORDS = [["the", "cat"], ["good", "day"], ["a", "dog"], ["bad"]]
PAIRS = (TEXTS, TEXTS[::-1])


def make(kind, random, recognize=False, **options):
    """A tiny task with random options, and its training data."""
    length = random.choice([12, 16, 20])
    truncation = random.choice(["longest_first", "only_second"])
    tokenizer = tiny_tokenizer(recognize_special_tokens=recognize)
    preprocessor = kbert.TextPreprocessor(tokenizer, length, truncation=truncation, fixed_length=random.random() < 0.3)
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    dropout = {"dropout": random.choice([0.0, 0.3])}
    if kind == "classifier":
        problem, labels, y = random.choice(
            [
                ("single_label_classification", ["z", "a", "m"], ["a", "m", "z", "z"]),
                ("multi_label_classification", ["z", "a"], [["a"], [], ["z", "a"], ["z"]]),
                ("regression", ["score"], [0.5, 1.0, 0.25, 2.0]),
            ]
        )
        window_stride = random.choice([None, 3])
        task = kbert.TextClassifier(encoder, preprocessor, labels, problem, window_stride=window_stride, **dropout, **options)
        return task, (TEXTS if window_stride or random.random() < 0.5 else PAIRS), y
    if kind == "tagger":
        own = {"label_all_pieces": random.random() < 0.5, "window_stride": random.choice([2, 5])}
        task = kbert.TokenClassifier(encoder, preprocessor, ["O", "B-x", "I-x"], **own, **dropout, **options)
        return task, WORDS, [["B-x", "I-x"], ["O", "O"], ["O", "B-x"], ["O"]]
    if kind == "answerer":
        task = kbert.QuestionAnswerer(encoder, preprocessor, window_stride=random.choice([0, 2]), **dropout, **options)
        answers = [{"text": text[:3], "start": 0} if text[3] == " " else None for text in TEXTS]
        return task, (["the cat ?"] * 4, TEXTS), answers
    if kind == "embedder":
        dense = random.choice([[], [{"width": 5, "activation": "tanh"}]])
        pooling, normalize = random.choice(["mean", "cls", "max"]), random.random() < 0.5
        task = kbert.TextEmbedder(encoder, preprocessor, pooling, normalize, dense, **options)
        return task, PAIRS, random.choice([None, [0.1, 0.9, 0.4, 0.3]])
    own = random.choice([{}, {"head_act": "relu"}])
    return kbert.MaskedLM(encoder, preprocessor, **own, **options), TEXTS, None


def freeze_some(task, random):
    """Freezes layers, and thaws a layer inside of them."""
    flags = random.choice(
        [{}, {"encoder": False}, {"encoder.embeddings": False}, {"encoder": False, "encoder.blocks.1": True},
         {"encoder.blocks.0": False, "encoder.embeddings.positions": False}]
    )  # fmt: skip
    set_trainable(task, flags)
    return flags


def outputs(task):
    """The ids of some texts and pairs, and what the task computes for them, without a trace."""
    packed = [task.preprocessor(texts) for texts in (TEXTS, PAIRS)]
    return [array for inputs in packed for array in keras.tree.flatten((inputs, task(inputs)))]


def remembered_options(task):
    """The configuration without the names, which Keras counts."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key != "name" or set(value) == {"name"}}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(json.loads(json.dumps(task.get_config())))


def assert_same_task(task, other, tolerance=0.0):
    assert remembered_options(other) == remembered_options(task)
    assert trainable_flags(other) == trainable_flags(task)
    assert len(other.trainable_variables) == len(task.trainable_variables)
    for a, b in zip(outputs(task), outputs(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


KINDS = ["classifier", "tagger", "answerer", "embedder", "masked"]


@pytest.mark.parametrize("seed", range(int(os.environ.get("KBERT_SEEDS", 1))))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*longer than max_length")
def test_a_random_task_comes_back_each_way_round(kind, seed, tmp_path):
    """KBERT_SEEDS says how many tasks of each kind there are."""
    draw = random.Random(f"{kind} {seed}")
    task, x, y = make(kind, draw, recognize=draw.random() < 0.5)
    flags = freeze_some(task, draw)
    task.compile(learning_rate=draw.choice([1e-3, 1e-4]), run_eagerly=True, gradient_accumulation_steps=draw.choice([None, 2]))
    task.fit(x, y, batch_size=2, verbose=0)
    assert trainable_flags(task) == flags

    task.save(tmp_path / "task.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = kbert.load(tmp_path / "task.keras")
    assert_same_task(task, again)
    assert type(again.loss) is type(task.loss) and again.optimizer.get_config() == task.optimizer.get_config()
    for a, b in zip(task.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)

    clone = keras.models.clone_model(task)
    assert remembered_options(clone) == remembered_options(task) and trainable_flags(clone) == flags
    if kind == "classifier":
        assert_same_task(task, copy.deepcopy(task))
    student = task.make_student(num_hidden_layers=1)
    kept = flags_of_copies(flags, [1]) if task.trainable_variables else {}  # else it learns nothing
    assert student.preprocessor is task.preprocessor and trainable_flags(student) == kept
    assert student.trained_on_pairs == task.trained_on_pairs
    if task.preprocessor.truncation == "longest_first":
        trimmed = task.trim_vocabulary(VOCABULARY)
        assert trainable_flags(trimmed) == flags


def test_weights_that_were_frozen_after_a_step_keep_their_state(classifier, texts_and_labels, tmp_path):
    classifier.compile(run_eagerly=True)
    classifier.fit(texts_and_labels[0][:8], texts_and_labels[1][:8], verbose=0)
    classifier.encoder.trainable = False
    classifier.save(tmp_path / "task.keras")
    again = kbert.load(tmp_path / "task.keras")
    assert len(again.trainable_variables) == 2
    for a, b in zip(classifier.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_student_of_a_frozen_teacher_learns_and_has_its_head(classifier):
    classifier.trainable = False
    student = classifier.make_student(num_hidden_layers=1)
    assert len(student.trainable_variables) == len(student.weights)
    np.testing.assert_array_equal(student.classifier.kernel, classifier.classifier.kernel)


def own_loss(targets, logits):
    return keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.keras", "a.keras is not a whole .keras file"),
        ("a.tflite", "not the name of a .keras file, but that of a LiteRT file"),
        ("a", "a is not the name of a .keras file; load opens"),
    ],
)
def test_a_file_that_save_did_not_write_is_named(name, message, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04 broken off")
    with pytest.raises(ValueError, match=message):
        kbert.load(tmp_path / name)


def test_a_loss_of_ones_own_is_given_or_named(classifier, tmp_path):
    path = tmp_path / "task.keras"
    classifier.compile("sgd", loss=own_loss, metrics=["accuracy"])
    classifier.save(path)
    with pytest.raises(TypeError, match=r'with own_loss, .* give custom_objects=\{"own_loss": own_loss\}, or compile=False'):
        kbert.load(path)
    assert kbert.load(path, custom_objects={"own_loss": own_loss}).loss is own_loss
    with keras.saving.custom_object_scope({"own_loss": own_loss}):
        assert kbert.load(path).loss is own_loss
    assert not kbert.load(path, compile=False).compiled
    classifier.compile("sgd", loss=lambda targets, logits: own_loss(targets, logits))
    with pytest.warns(UserWarning, match="lambda"):
        classifier.save(path)
    with pytest.raises(TypeError, match="with a lambda, .* give a named function in its place"):
        kbert.load(path)


def test_an_embedders_default_loss_is_chosen_by_its_data_after_a_reload_too(encoder, tokenizer, tmp_path):
    embedder = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 16))
    embedder.compile(run_eagerly=True)
    embedder.fit((TEXTS, TEXTS[::-1]), verbose=0)
    embedder.save(tmp_path / "embedder.keras")
    again = kbert.load(tmp_path / "embedder.keras")
    scores = [1.0, 0.5, 0.0, -1.0]
    cosines = np.array([float(a @ b) for a, b in zip(embedder.embed(TEXTS), embedder.embed(TEXTS[::-1]))])
    for one in (embedder, again):
        assert one.evaluate(PAIRS, scores, verbose=0) == pytest.approx(np.mean((cosines - scores) ** 2), abs=1e-5)
        one.fit(PAIRS, scores, verbose=0)
        assert type(one.loss).__name__ == "CosineSimilarityError"
    own = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 16))
    own.compile(loss=MultipleNegativesRanking(scale=3.0))
    own.save(tmp_path / "own.keras")
    assert kbert.load(tmp_path / "own.keras").loss.scale == 3.0


def test_a_task_that_was_trained_on_pairs_knows_it(classifier, tmp_path):
    classifier.compile(run_eagerly=True)
    classifier.fit(PAIRS, ["bad", "good", "bad", "good"], verbose=0)
    classifier.save(tmp_path / "task.keras")
    again = kbert.load(tmp_path / "task.keras")
    for task in (classifier, again, again.trim_vocabulary(VOCABULARY), keras.models.clone_model(again)):
        assert task.trained_on_pairs and task.string_inputs() == ("text", "text_pair") and len(task.probes()) == 2
        assert task.string_inputs(pairs=False) == ("text",) and len(task.probes(pairs=False)) == 1
    for ask in (again.onnx_answer, again.mediapipe_output):
        with pytest.raises(ValueError, match="trained on pairs"):
            ask()
    again.fit(((text, "bad") for text in TEXTS * 2), verbose=0)
    assert not again.trained_on_pairs and again.string_inputs() == ("text",)
    again.fit((((text, text), "good") for text in TEXTS), verbose=0)
    assert again.trained_on_pairs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["huggingface", "google", "keras_hub"])
def test_a_random_task_comes_back_through_a_preset_folder(kind, layout, tmp_path):
    for seed in range(int(os.environ.get("KBERT_SEEDS", 1))):
        draw = random.Random(f"{kind} {layout} {seed}")
        task, _, _ = make(kind, draw, recognize=True)
        freeze_some(task, draw)
        folder = tmp_path / str(seed)
        try:
            task.save_to_preset(folder, layout)
        except ValueError:
            assert layout != "huggingface"  # has no place for this head
            return
        again = type(task).from_preset(folder)
        if (kind, layout) == ("masked", "keras_hub"):
            return  # KerasHub's head has an activation of its own, which is what the folder is read with
        if layout != "keras_hub":  # whose file says that accents go where letters are lower-cased
            assert remembered_options(again)["preprocessor"] == remembered_options(task)["preprocessor"]
        own, theirs = task.preset_settings(), again.preset_settings()
        assert json.loads(json.dumps(theirs)) == json.loads(json.dumps(own))
        for a, b in zip(outputs(task), outputs(again), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 if layout != "keras_hub" else 1e-4)


def test_what_is_given_wins_over_what_a_preset_folder_states(encoder, tokenizer, tmp_path):
    preprocessor = kbert.TextPreprocessor(tokenizer, 16, truncation="only_first")
    task = kbert.TextClassifier(encoder, preprocessor, ["a", "b"], window_stride=3, dropout=0.4)
    task.trained_on_pairs = task.encoder.trainable = False
    task.save_to_preset(tmp_path / "task")
    other = kbert.TextClassifier.from_preset(tmp_path / "task", max_length=20, window_stride=None, dropout=0.0)
    assert (other.preprocessor.max_length, other.window_stride, other.dropout_rate) == (20, None, 0.0)
    assert other.preprocessor.truncation == "only_first" and not other.encoder.trainable
    embedder = kbert.TextEmbedder.from_preset(tmp_path / "task")  # another task has flags of its own; the folder has one length
    assert embedder.preprocessor.max_length == 16 and embedder.encoder.trainable
    kbert.TextEmbedder(encoder).save_to_preset(tmp_path / "packed")
    assert kbert.TextEmbedder.from_preset(tmp_path / "packed", preprocessor=None).pooling == "mean"
