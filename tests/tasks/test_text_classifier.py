"""The classifier as a Keras user meets it: columns in, answers out, and what is said of bad input."""

import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from tests.conftest import TINY, VOCABULARY


def accuracy(task, texts, labels):
    return np.mean([answer["label"] == label for answer, label in zip(task.classify(texts), labels)])


def columns(kind, texts, labels):
    """The same data as every kind of column."""
    indices = [["bad", "good"].index(label) for label in labels]
    return {
        "lists": (texts, labels),
        "indices": (texts, indices),
        "arrays": (np.array(texts), np.array(indices)),
        "objects": (np.array(texts, object), np.array(labels, object)),
        "pandas": (pd.Series(texts), pd.Series(labels, dtype="category")),
        "bytes": ([text.encode() for text in texts], np.array(indices) == 1),
        "tensors": (tf.constant(texts), tf.constant(indices)),
    }[kind]


@pytest.fixture
def still(tokenizer):
    """A classifier whose training changes nothing, so that the loss is that of its data."""
    config = kbert.BertConfig(**TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    preprocessor = kbert.TextPreprocessor(tokenizer, 24)
    task = kbert.TextClassifier(kbert.BertEncoder(config), preprocessor, labels=["bad", "good"], dropout=0.0)
    task.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return task


def test_fit_learns_from_columns(classifier, texts_and_labels):
    classifier.compile(learning_rate=1e-2)
    history = classifier.fit(*texts_and_labels, epochs=8, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert accuracy(classifier, *texts_and_labels) == 1


def test_fit_takes_any_kind_of_column(still, texts_and_labels):
    def figures(kind):
        history = still.fit(*columns(kind, *texts_and_labels), batch_size=8, shuffle=False, verbose=0).history
        return {name: values[0] for name, values in history.items()}

    expected = figures("lists")
    for kind in ("indices", "arrays", "objects", "pandas", "bytes", "tensors"):
        assert figures(kind) == pytest.approx(expected, rel=1e-5), kind


def dataset_of(texts, labels, batched, names):
    targets = labels if names else [["bad", "good"].index(label) for label in labels]
    dataset = tf.data.Dataset.from_tensor_slices((texts, targets)).shuffle(32, seed=1)
    return dataset.batch(8) if batched else dataset


def test_fit_learns_from_a_dataset(classifier, texts_and_labels):
    dataset = dataset_of(*texts_and_labels, batched=True, names=True)
    classifier.compile(learning_rate=1e-2)
    classifier.fit(dataset, epochs=8, batch_size=8, verbose=0, validation_data=dataset)
    assert classifier.evaluate(dataset, return_dict=True, verbose=0)["accuracy"] == 1
    assert classifier.predict(dataset.map(lambda text, label: text), verbose=0).shape == (32, 2)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("names", [False, True])
def test_fit_takes_any_dataset(still, texts_and_labels, batched, names):
    expected = still.fit(*texts_and_labels, batch_size=8, verbose=0).history
    dataset = dataset_of(*texts_and_labels, batched, names)
    history = still.fit(dataset, batch_size=8, verbose=0, validation_data=dataset).history
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5) == history["val_loss"]
    assert history["accuracy"] == expected["accuracy"] == [still.evaluate(dataset, return_dict=True, verbose=0)["accuracy"]]
    assert still.predict(dataset.map(lambda text, label: text), verbose=0).shape == (32, 2)


def test_fit_compiles_by_itself(classifier, texts_and_labels):
    classifier.fit(*texts_and_labels, verbose=0)
    assert classifier.optimizer.iterations == 1


def test_pairs_of_texts_are_packed_together(classifier, texts_and_labels):
    texts, labels = texts_and_labels
    classifier.compile(run_eagerly=True)
    classifier.fit((texts, texts[::-1]), labels, verbose=0)
    logits = classifier.predict((texts, texts[::-1]))
    assert logits.shape == (32, 2)
    packed = classifier.preprocessor((["good cat"], ["bad"]))
    assert packed["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1]]
    np.testing.assert_allclose(classifier.predict((["good cat"], ["bad"])), classifier(packed), atol=1e-6)


def test_validation_and_callbacks_are_kerass(classifier, texts_and_labels):
    texts, labels = texts_and_labels
    order = np.random.default_rng(0).permutation(len(texts))
    texts, labels = [texts[i] for i in order], [labels[i] for i in order]
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=0, min_delta=10)
    classifier.compile(run_eagerly=True)
    history = classifier.fit(texts, labels, epochs=5, validation_split=0.25, callbacks=[stop], verbose=0)
    names = {"accuracy", "loss", "macro_f1"}
    assert set(history.history) == names | {f"val_{name}" for name in names}
    assert len(history.history["loss"]) == 2  # stopped
    history = classifier.fit(texts, labels, validation_data=(texts[:4], labels[:4]), verbose=0)
    assert history.history["val_accuracy"]


def test_validation_split_of_sorted_labels_is_warned_of(classifier, texts_and_labels):
    classifier.compile(run_eagerly=True)
    with pytest.warns(UserWarning, match="labels that occur only there"):
        classifier.fit(*texts_and_labels, validation_split=0.5, verbose=0)


def test_fit_says_its_progress_as_keras_does(classifier, texts_and_labels, capsys):
    classifier.compile(run_eagerly=True)
    classifier.fit(*texts_and_labels, batch_size=8, verbose=1)
    assert "4/4" in capsys.readouterr().out


def test_weights_of_classes_and_samples_change_the_loss(classifier, texts_and_labels):
    texts, labels = texts_and_labels
    classifier.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)

    def loss(**weights):
        return classifier.fit(texts, labels, verbose=0, **weights).history["loss"][0]

    classifier.dropout.rate = 0
    only_good = [float(label == "good") for label in labels]
    assert loss(class_weight={"good": 1.0, "bad": 0.0}) == pytest.approx(loss(sample_weight=only_good), rel=0.2)
    assert loss(class_weight={"good": 0.0, 0: 0.0}) == 0


def test_the_train_step_is_traced_once(classifier, texts_and_labels):
    traces = []

    class Counted(type(classifier)):
        def call(self, inputs, training=None):
            if training:
                traces.append(inputs["token_ids"].shape)
            return super().call(inputs, training=training)

    task = Counted(classifier.encoder, classifier.preprocessor, labels=classifier.labels)
    task.fit(*texts_and_labels, batch_size=5, epochs=2, verbose=0)
    task.fit(*texts_and_labels, batch_size=7, epochs=1, verbose=0)
    assert len(traces) <= 2  # the second is Keras's own shape inference


def test_predict_gives_what_a_call_gives_in_the_order_given(classifier, texts_and_labels):
    texts = texts_and_labels[0] + ["", "a", "the cat sat , the dog ran . the day good ! un able"]
    expected = np.concatenate([classifier(classifier.preprocessor([text])) for text in texts])
    np.testing.assert_allclose(classifier.predict(texts), expected, atol=1e-6)
    np.testing.assert_allclose(classifier.predict(texts, batch_size=3), expected, atol=1e-6)


def test_predict_of_nothing_is_empty(classifier):
    assert classifier.predict([]).shape == (0, 2)
    assert classifier.classify([]) == []


def test_one_bare_string_is_one_text(classifier):
    assert len(classifier.classify("good cat")) == 1


def test_classify_gives_labels_scores_and_all_scores(classifier):
    (answer,) = classifier.classify(["good cat"])
    assert set(answer) == {"label", "score", "scores"}
    assert answer["score"] == max(answer["scores"].values()) == answer["scores"][answer["label"]]
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_an_empty_text_is_a_text(classifier):
    assert classifier.preprocessor([""])["token_ids"].numpy().tolist() == [[2, 3]]
    assert len(classifier.classify(["", "good"])) == 2


def test_a_long_text_is_cut_and_that_is_said_once(classifier):
    long = "good " * 100
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than max_length=24.*100 pieces"):
        logits = classifier.predict([long, "bad"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = classifier.predict(["good " * 22, long])
    np.testing.assert_allclose(again[0], logits[0], atol=1e-6)
    np.testing.assert_allclose(again[1], logits[0], atol=1e-6)


def test_without_a_preprocessor_it_takes_packed_input(encoder, classifier, texts_and_labels):
    texts, labels = texts_and_labels
    packed = {name: values.numpy() for name, values in classifier.preprocessor(texts).items()}
    targets = np.array([["bad", "good"].index(label) for label in labels])
    task = kbert.TextClassifier(encoder, preprocessor=None, labels=["bad", "good"])
    task.compile(learning_rate=1e-2)
    task.fit(packed, targets, epochs=8, batch_size=8, verbose=0)
    assert task.evaluate(packed, targets, return_dict=True, verbose=0)["accuracy"] == 1
    assert task.predict(packed, verbose=0).shape == (32, 2)


def test_from_preset_without_or_with_another_preprocessor(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    packed = kbert.TextClassifier.from_preset(tmp_path / "mine", preprocessor=None)
    assert packed.tokenizer is None
    inputs = classifier.preprocessor(["good cat"])
    np.testing.assert_array_equal(packed(inputs), classifier(inputs))
    shorter = kbert.TextPreprocessor(classifier.tokenizer, max_length=9)
    assert kbert.TextClassifier.from_preset(tmp_path / "mine", preprocessor=shorter).preprocessor.max_length == 9
    with pytest.raises(ValueError, match="not both"):
        kbert.TextClassifier.from_preset(tmp_path / "mine", preprocessor=shorter, max_length=9)


def test_class_weight_by_name_works_for_a_dataset_too(classifier, texts_and_labels):
    dataset = tf.data.Dataset.from_tensor_slices(texts_and_labels).batch(8)
    classifier.compile(run_eagerly=True)
    history = classifier.fit(dataset, class_weight={"good": 0.0, "bad": 0.0}, verbose=0)
    assert history.history["loss"] == [0.0]


@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict"])
def test_without_a_preprocessor_texts_are_refused(encoder, verb):
    task = kbert.TextClassifier(encoder, labels=["bad", "good"])
    with pytest.raises(TypeError, match="preprocessor=None.*got list"):
        getattr(task, verb)(["good cat"], *([["good"]] if verb != "predict" else []))


def test_same_seed_same_weights(tokenizer, texts_and_labels):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        task = kbert.TextClassifier(
            kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"]
        )
        task.fit(*texts_and_labels, epochs=2, batch_size=8, verbose=0)
        results.append(task.get_weights())
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_default_recipe_is_berts(classifier, texts_and_labels):
    classifier.compile()
    classifier.fit(*texts_and_labels, batch_size=8, epochs=5, verbose=0)  # 20 steps
    optimizer = classifier.optimizer
    assert optimizer.global_clipnorm == 1 and optimizer.weight_decay == 0.01
    undecayed = {v.path.split("/")[-1] for v in classifier.trainable_variables if not optimizer._use_weight_decay(v)}
    assert undecayed == {"bias", "gamma", "beta"}
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(21)]
    assert rates[0] == pytest.approx(2.5e-5) and max(rates) == rates[1] == pytest.approx(5e-5)
    assert rates[11] == pytest.approx(2.5e-5) and rates[20] == 0


def test_compile_takes_keras_arguments_in_place_of_its_defaults(classifier, texts_and_labels):
    classifier.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=None),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")],
        steps_per_execution=2,
    )
    history = classifier.fit(*texts_and_labels, batch_size=8, verbose=0)
    assert history.history["top2"] == [1.0]


def test_xla_trains_to_the_same_losses(tokenizer, texts_and_labels):
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(3)
        config = kbert.BertConfig(**TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        preprocessor = kbert.TextPreprocessor(tokenizer, 12, fixed_length=True)
        task = kbert.TextClassifier(kbert.BertEncoder(config), preprocessor, labels=["bad", "good"])
        task.compile(learning_rate=1e-2, jit_compile=jit)
        losses.append(task.fit(*texts_and_labels, batch_size=8, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_mixed_precision_trains(tokenizer, texts_and_labels):
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY), dtype="mixed_bfloat16")
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"])
    task.compile(learning_rate=1e-2)
    task.fit(*texts_and_labels, epochs=8, batch_size=8, verbose=0)
    assert accuracy(task, *texts_and_labels) == 1
    assert task.predict(["good"]).dtype == np.float32


def test_xla_sees_a_handful_of_lengths(classifier, texts_and_labels):
    texts, labels = texts_and_labels
    texts = [" ".join([text] * (1 + n % 4)) for n, text in enumerate(texts)]
    lengths = set()

    class Watched(kbert.TextClassifier):
        def pack(self, *columns):
            packed = super().pack(*columns)
            tf.py_function(lambda ids: lengths.add(ids.shape[1]), [packed["token_ids"]], [])
            return packed

    task = Watched(classifier.encoder, classifier.preprocessor, labels=classifier.labels)
    task.compile(jit_compile=True)
    task.fit(texts, labels, batch_size=8, epochs=2, verbose=0)
    assert lengths <= {16, 24}


def test_batches_by_tokens_train(classifier, texts_and_labels):
    classifier.compile(learning_rate=1e-2)
    classifier.fit(*texts_and_labels, max_tokens=24, epochs=12, verbose=0)
    assert accuracy(classifier, *texts_and_labels) == 1
    with pytest.raises(ValueError, match="max_tokens"):
        classifier.fit(*texts_and_labels, max_tokens=0)


def test_gradient_accumulation_makes_one_step_of_several_batches(tokenizer, texts_and_labels):
    weights = []
    for batch_size, steps in ((32, None), (8, 4)):
        keras.utils.set_random_seed(3)
        config = kbert.BertConfig(**TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        task = kbert.TextClassifier(kbert.BertEncoder(config), kbert.TextPreprocessor(tokenizer, 12), labels=["bad", "good"])
        task.compile(gradient_accumulation_steps=steps)
        task.fit(*texts_and_labels, batch_size=batch_size, verbose=0, shuffle=False)
        weights.append([variable.numpy() for variable in task.trainable_variables])
    # Adam's first step has the gradient's sign: a gradient of nothing but rounding goes either way.
    apart = [np.abs(a - b).ravel() > 1e-5 for a, b in zip(*weights)]
    assert np.concatenate(apart).mean() < 1e-3


def test_frozen_lower_layers_stay_as_they_are(classifier, texts_and_labels):
    encoder = classifier.encoder
    for layer in (encoder.embeddings, encoder.blocks[0]):
        layer.trainable = False
    before = [variable.numpy() for layer in (encoder.embeddings, *encoder.blocks) for variable in layer.variables]
    classifier.compile(run_eagerly=True)
    classifier.fit(*texts_and_labels, verbose=0)
    after = [variable.numpy() for layer in (encoder.embeddings, *encoder.blocks) for variable in layer.variables]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after) if a.dtype == np.float32]
    lower = len([v for layer in (encoder.embeddings, encoder.blocks[0]) for v in layer.variables if v.dtype == "float32"])
    assert not any(changed[:lower]) and all(changed[lower:])


# Files


def test_keras_file_carries_vocabulary_labels_and_training_state(classifier, texts_and_labels, tmp_path):
    classifier.compile(learning_rate=1e-2, run_eagerly=True)
    classifier.fit(*texts_and_labels, verbose=0)
    classifier.save(tmp_path / "task.keras")
    for again in (kbert.load(tmp_path / "task.keras"), keras.saving.load_model(tmp_path / "task.keras")):
        assert again.labels == ["bad", "good"] and again.tokenizer.vocabulary == VOCABULARY
        np.testing.assert_array_equal(again.predict(["good cat"]), classifier.predict(["good cat"]))
        assert again.optimizer.iterations == 1
        for a, b in zip(classifier.optimizer.variables, again.optimizer.variables):
            np.testing.assert_array_equal(a, b)
        again.fit(*texts_and_labels, verbose=0)


def test_a_save_that_fails_leaves_the_old_file(classifier, tmp_path, monkeypatch):
    path = tmp_path / "task.keras"
    classifier.save(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space"):
        classifier.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["task.keras"]


def test_load_of_nothing_is_clear(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        kbert.load(tmp_path / "none.keras")


# Bad input


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["good", None], TypeError, r"x\[1\] is None.*drop that row, or fill"),
        (["good", float("nan")], TypeError, r"x\[1\] is nan \(float\).*drop that row"),
        (["good", 3], TypeError, r"x\[1\] is 3 \(int\).*str\(\)"),
        (["good", b"caf\xe9"], ValueError, r"x\[1\] is not UTF-8.*byte 3"),
        (["good", "\ud800"], ValueError, r"x\[1\] cannot be written as UTF-8"),
        (pd.Series(["good", None], dtype="string"), TypeError, r"x\[1\] is <NA>.*drop that row"),
        (7, TypeError, "list, array or column of strings, got int"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict", "classify"])
def test_what_is_not_a_text_is_named(classifier, verb, texts, error, message):
    arguments = (["bad", "good"],) if verb in ("fit", "evaluate") else ()
    with pytest.raises(error, match=message):
        getattr(classifier, verb)(texts, *arguments)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (["a", "b"], ["good", "joy"], ValueError, r"y\[1\] is 'joy', which is not one of the labels \['bad', 'good'\]"),
        (["a", "b"], [0, 2], ValueError, r"y\[1\] is 2, but the 2 labels have indices 0 to 1"),
        (["a", "b"], ["good", None], TypeError, r"y\[1\] is None"),
        (["a", "b"], [0.5, 1.0], TypeError, r"y\[0\] is 0.5"),
        (["a", "b"], ["good"], ValueError, "got 2 texts and 1 targets"),
        (["a", "b"], None, ValueError, "targets are missing"),
        ([], [], ValueError, "there are no texts"),
        ((["a", "b"], ["a"]), ["good", "bad"], ValueError, "2 and 1"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_targets_that_do_not_fit_are_named(classifier, verb, x, y, error, message):
    with pytest.raises(error, match=message):
        getattr(classifier, verb)(x, y)


def test_unknown_label_in_a_dataset_is_named(classifier):
    dataset = tf.data.Dataset.from_tensor_slices((["good", "bad"], ["good", "joy"]))
    with pytest.raises(ValueError, match="joy"):
        classifier.fit(dataset, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"validation_split": 1.5}, "validation_split"),
        ({"validation_split": 0.99}, "leaves nothing to train on"),
        ({"sample_weight": [1.0]}, "32 texts and weights"),
        ({"class_weight": {"joy": 1.0}}, "class_weight is 'joy'"),
        ({"validation_data": (["a"], ["joy"])}, "joy"),
        ({"validation_data": ["a"]}, "validation_data should be"),
    ],
)
def test_bad_arguments_are_refused_before_a_step(classifier, texts_and_labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier.fit(*texts_and_labels, **arguments)


@pytest.mark.parametrize("labels", [None, "good", ["good"], ["good", "good"], ["good", 3]])
def test_labels_that_are_no_list_of_names_are_refused(encoder, labels):
    with pytest.raises((TypeError, ValueError), match="label"):
        kbert.TextClassifier(encoder, labels=labels)


def test_preset_without_labels_asks_for_them(tiny_folder):
    with pytest.raises(ValueError, match="does not say its labels"):
        kbert.TextClassifier.from_preset(tiny_folder)


def test_a_length_beyond_the_encoder_is_refused(tiny_folder):
    with pytest.raises(ValueError, match="max_length 512 is more than the 24 positions"):
        kbert.TextClassifier.from_preset(tiny_folder, labels=["a", "b"], max_length=512)


# Windows over long texts


@pytest.fixture
def windowed(encoder, tokenizer):
    preprocessor = kbert.TextPreprocessor(tokenizer, max_length=8)
    return kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"], window_stride=2)


LONG = ["the cat sat . " * 4 + "good day", "good", "", "bad dog ran , the film so bad ! " * 3]


def test_a_long_text_is_answered_by_the_mean_of_its_windows(windowed):
    plain = kbert.TextClassifier(windowed.encoder, windowed.preprocessor, labels=["bad", "good"])
    plain.classifier.set_weights(windowed.classifier.get_weights())
    for text, logits in zip(LONG, windowed.predict(LONG)):
        packed, cut = windowed.preprocessor.pack_windows(windowed.tokenizer([text]), stride=2)
        np.testing.assert_allclose(logits, plain(packed).numpy().mean(0), atol=1e-5)
    assert len(cut.document) > 3
    np.testing.assert_allclose(windowed.predict(LONG), windowed(windowed.pack(windowed.tokenizer(LONG))), atol=1e-5)
    assert windowed.predict([]).shape == (0, 2)


def test_windows_train_freeze_save_and_export(windowed, texts_and_labels, tmp_path):
    texts, labels = texts_and_labels
    texts = ["the cat sat . the dog ran . " + text for text in texts]  # the answer is beyond the first window
    windowed.compile(learning_rate=1e-2)
    windowed.fit(texts, labels, epochs=12, batch_size=8, verbose=0)
    assert accuracy(windowed, texts, labels) == 1
    expected = windowed.predict(LONG)
    np.testing.assert_allclose(windowed.freeze().predict(LONG), expected, atol=1e-4)
    windowed.save(tmp_path / "task.keras")
    np.testing.assert_allclose(kbert.load(tmp_path / "task.keras").predict(LONG), expected, atol=1e-6)
    windowed.export(tmp_path / "1")
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"](text=tf.constant(LONG))
    np.testing.assert_allclose(served["probabilities"], windowed.probabilities(expected), atol=1e-5)


def test_windows_say_what_they_cannot(windowed, tmp_path):
    with pytest.raises(ValueError, match="window_stride is for single texts"):
        windowed.predict((["a"], ["b"]))
    with pytest.raises(ValueError, match="XLA"):
        windowed.compile(jit_compile=True)
    with pytest.raises(ValueError, match="one window"):
        windowed.export(tmp_path / "x.tflite", format="litert")
    with pytest.raises(ValueError, match="less than the 6 pieces of a window, got 6"):
        kbert.TextClassifier(windowed.encoder, windowed.preprocessor, labels=["a", "b"], window_stride=6)


# Losses, metrics and scores


def test_label_smoothing_changes_the_loss(classifier, texts_and_labels):
    losses = []
    for smoothing in (0.0, 0.3):
        classifier.compile(label_smoothing=smoothing)
        losses.append(classifier.evaluate(*texts_and_labels, return_dict=True, verbose=0)["loss"])
    assert losses[0] != losses[1]
    with pytest.raises(ValueError, match="label_smoothing should be"):
        classifier.compile(label_smoothing=1.0)
    with pytest.raises(ValueError, match="label_smoothing is of the default loss"):
        classifier.compile(loss="mse", label_smoothing=0.1)


def test_label_smoothing_is_saved(classifier, texts_and_labels, tmp_path):
    classifier.compile(label_smoothing=0.1)
    classifier.fit(*texts_and_labels, verbose=0)
    classifier.save(tmp_path / "task.keras")
    assert kbert.load(tmp_path / "task.keras").loss.smoothing == 0.1


def test_regression_is_judged_by_correlations(encoder, tokenizer, texts_and_labels):
    import scipy.stats

    texts, labels = texts_and_labels
    numbers = [float(label == "good") + n / 50 for n, label in enumerate(labels)]
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), problem_type="regression")
    task.compile(learning_rate=1e-2)
    order = np.random.default_rng(0).permutation(len(texts))
    texts, numbers = pd.Series(texts)[order], pd.Series(numbers)[order]
    history = task.fit(texts, numbers, epochs=2, validation_split=0.25, verbose=0).history
    assert {"val_pearson", "val_spearman", "val_mean_absolute_error"} <= set(history)
    scores = task.evaluate(texts, numbers, return_dict=True, verbose=0)
    answers = task.predict(texts)[:, 0]
    assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(answers, numbers).statistic, abs=1e-5)
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(answers, numbers).statistic, abs=1e-5)
    last = task.evaluate(texts[24:], numbers[24:], return_dict=True, verbose=0)
    assert history["val_pearson"][-1] == pytest.approx(last["pearson"], abs=1e-5)


def test_several_labels_are_judged_one_by_one(encoder, tokenizer, texts_and_labels):
    texts, labels = texts_and_labels
    task = kbert.TextClassifier(
        encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good", "any"], problem_type="multi_label"
    )
    task.compile(learning_rate=1e-2)
    task.fit(texts, [[label, "any"] for label in labels], epochs=12, batch_size=8, verbose=0)
    scores = task.evaluate(texts, [[label, "any"] for label in labels], return_dict=True, verbose=0)
    assert scores["f1_good"] == scores["f1_bad"] == scores["macro_f1"] == 1


def test_one_class_only_is_said(classifier):
    with pytest.warns(UserWarning, match="all 2 texts have the label 'good'"):
        classifier.fit(["good cat", "good"], ["good", "good"], verbose=0)


def test_a_head_that_was_trained_for_other_labels_is_said(classifier, tmp_path, caplog):
    classifier.save_to_preset(tmp_path / "mine")
    with caplog.at_level("INFO", "kbert"), warnings.catch_warnings():
        warnings.simplefilter("error")
        kbert.TextClassifier.from_preset(tmp_path / "mine")
    assert "comes with its weights from the checkpoint" in caplog.text
    with pytest.warns(UserWarning, match=r"trained for the labels \['bad', 'good'\]; you call them \['good', 'bad'\]"):
        kbert.TextClassifier.from_preset(tmp_path / "mine", labels=["good", "bad"])
