"""The door: whatever container holds the data, every task and verb gets the same rows, or one error that says what to do."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.columns import PAIR, TEXT, Columns, joined_chunks, plain_targets
from kbert.tasks.inputs import open_input
from tests.conftest import TINY

TEXTS = ["the good day", "a bad dog .", "so very good", "the cat sat", "bad night !", "a film"]
OTHERS = TEXTS[::-1]
LABELS = ["good", "bad", "good", "good", "bad", "good"]


class Batches(keras.utils.PyDataset):
    """Rows in batches of some size, as a user's own loader gives them."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.batches[number]


def odd_index(values, **kwargs):
    return pd.Series(values, index=[f"row {n}" for n in range(len(values), 0, -1)], **kwargs)


TEXT_CONTAINERS = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "bytes": [text.encode() for text in TEXTS],
    "object array": np.array(TEXTS, object),
    "U array": np.array(TEXTS),
    "S array": np.array(TEXTS, "S"),
    "column array": np.array(TEXTS)[:, None],
    "pandas": odd_index(TEXTS),
    "pandas string": odd_index(TEXTS, dtype="string"),
    "pandas category": odd_index(TEXTS, dtype="category"),
    "tensor": tf.constant(TEXTS),
    "dictionary": {"text": TEXTS},
    "generator": lambda: (text for text in TEXTS),
    "generator of batches": lambda: iter([TEXTS[:4], TEXTS[4:]]),
    "generator of labelled": lambda: iter(zip(TEXTS, LABELS)),
    "PyDataset": lambda: Batches([TEXTS[:4], TEXTS[4:]]),
    "PyDataset with labels": lambda: Batches([(TEXTS[:4], [0, 1, 0, 0]), (np.array(TEXTS[4:]), [1, 0])]),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(TEXTS),
    "batched dataset": lambda: tf.data.Dataset.from_tensor_slices(TEXTS).batch(4),
    "labelled dataset": lambda: tf.data.Dataset.from_tensor_slices((TEXTS, [0, 1, 0, 0, 1, 0])).batch(4),
    "dataset of dictionaries": lambda: tf.data.Dataset.from_tensor_slices({"text": TEXTS}).batch(4),
    "dataset of unknown rank": lambda: tf.data.Dataset.from_generator(lambda: iter(TEXTS), tf.string),
}


def value_of(container):
    return container() if callable(container) else container


@pytest.mark.parametrize("kind", TEXT_CONTAINERS)
def test_texts_are_the_same_rows_in_every_container(kind):
    source = value_of(TEXT_CONTAINERS[kind])
    if kind == "generator of labelled":
        texts = open_input((TEXT,), source, targets="required")
    else:
        texts = open_input((TEXT,), source)
    chunk = joined_chunks(list(texts))
    assert chunk.columns == ([text.encode() for text in TEXTS],)


def test_answers_are_the_same_for_every_container(classifier):
    expected = classifier.predict(TEXTS)
    names = [classifier.labels[n] for n in expected.argmax(-1)]
    for kind, container in TEXT_CONTAINERS.items():
        if kind == "generator of labelled":
            continue  # a generator of two strings a row is pairs, for a task that takes them
        np.testing.assert_allclose(classifier.predict(value_of(container)), expected, atol=1e-6, err_msg=kind)
        assert [answer["label"] for answer in classifier.classify(value_of(container))] == names, kind


def test_fill_embed_and_search_read_every_container(encoder, tokenizer):
    preprocessor = kbert.TextPreprocessor(tokenizer, 24)
    embedder, masked = kbert.TextEmbedder(encoder, preprocessor), kbert.MaskedLM(encoder, preprocessor)
    vectors, found = embedder.embed(TEXTS), embedder.search(TEXTS[:2], TEXTS, top_k=2)
    filled = masked.fill([f"{text} [MASK]" for text in TEXTS], top_k=1)
    for kind, container in TEXT_CONTAINERS.items():
        if kind == "generator of labelled":
            continue  # two strings in a row could be a pair, which these verbs do not read
        np.testing.assert_allclose(embedder.embed(value_of(container)), vectors, atol=1e-6, err_msg=kind)
        answers = embedder.search(TEXTS[:2], value_of(container), top_k=2)
        assert [[hit["text"] for hit in hits] for hits in answers] == [[hit["text"] for hit in hits] for hits in found], kind
    for make in (iter, tf.data.Dataset.from_tensor_slices, odd_index, np.array):
        answers = masked.fill(make([f"{text} [MASK]" for text in TEXTS]), top_k=1)
        assert [[guess["id"] for guess in one] for one in answers] == [[guess["id"] for guess in one] for one in filled]


TARGETS = {
    "names": LABELS,
    "indices": [1, 0, 1, 1, 0, 1],
    "int array": np.array([1, 0, 1, 1, 0, 1]),
    "whole floats": np.array([1.0, 0, 1, 1, 0, 1]),
    "a column": np.array([[1], [0], [1], [1], [0], [1]]),
    "one-hot": np.eye(2)[[1, 0, 1, 1, 0, 1]],
    "U array": np.array(LABELS),
    "bytes": np.array(LABELS, "S"),
    "pandas": odd_index(LABELS),
    "category": odd_index(LABELS, dtype="category"),
    "nullable": odd_index([1, 0, 1, 1, 0, 1], dtype="Int64"),
    "tensor": tf.constant([1, 0, 1, 1, 0, 1]),
    "table": pd.DataFrame(np.eye(2, dtype=int)[[1, 0, 1, 1, 0, 1]], columns=["bad", "good"]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_are_the_same_in_every_container(classifier, kind):
    assert classifier.encode_targets(plain_targets(TARGETS[kind])).tolist() == [1, 0, 1, 1, 0, 1]


def make(kind, tokenizer):
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    preprocessor = kbert.TextPreprocessor(tokenizer, 12)
    classes = functools.partial(kbert.TextClassifier, encoder, preprocessor, labels=["bad", "good"])
    tasks = {
        "single": classes,
        "pairs": classes,
        "windows": functools.partial(classes, window_stride=2),
        "multi": functools.partial(classes, problem_type="multi_label"),
        "regression": functools.partial(kbert.TextClassifier, encoder, preprocessor, problem_type="regression"),
        "words": functools.partial(kbert.TokenClassifier, encoder, preprocessor, labels=["O", "B-x", "I-x"], dropout=0.0),
        "answers": functools.partial(kbert.QuestionAnswerer, encoder, preprocessor),
        "embedder": functools.partial(kbert.TextEmbedder, encoder, preprocessor),
        "scored": functools.partial(kbert.TextEmbedder, encoder, preprocessor),
        "triplets": functools.partial(kbert.TextEmbedder, encoder, preprocessor),
    }
    return tasks[kind]()


LONG = [f"{text} the cat sat a dog ran so very good day" for text in TEXTS]
WORDS = [text.split() for text in TEXTS]
DATA = {
    "single": (TEXTS, LABELS),
    "pairs": ((TEXTS, OTHERS), LABELS),
    "windows": (LONG, LABELS),
    "multi": (TEXTS, [[0, 1], [1, 0], [1, 1], [0, 0], [0, 1], [1, 0]]),
    "regression": (TEXTS, [0.5, 1.0, -1.0, 2.0, 0.0, 0.25]),
    "words": (WORDS, [["B-x"] + ["I-x"] * (len(words) - 1) for words in WORDS]),
    "answers": ((["the cat ?"] * 6, LONG), [{"text": text.split()[0], "start": 0} for text in LONG]),
    "embedder": ((TEXTS, OTHERS), None),
    "scored": ((TEXTS, OTHERS), [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]),
    "triplets": ((TEXTS, TEXTS, OTHERS), None),
}


def rows_of(x, y):
    """The data row by row, as a stream gives them."""
    inputs = list(zip(*x)) if isinstance(x, tuple) else x
    if y is None:
        return list(inputs)
    return list(zip(inputs, y))


def batches_of(x, y, size=4):
    def part(column, start):
        return column[start : start + size]

    parts = []
    for start in range(0, len(TEXTS), size):
        inputs = tuple(part(column, start) for column in x) if isinstance(x, tuple) else part(x, start)
        parts.append((inputs, part(y, start)) if y is not None else inputs)
    return parts


def odd_columns(x):
    return tuple(map(odd_index, x)) if isinstance(x, tuple) else odd_index(x)


MEMORY = {
    "tuples": lambda x, y, names: (x if isinstance(x, tuple) else tuple(x), None if y is None else tuple(y)),
    "arrays": lambda x, y, names: (as_arrays(x), None if y is None else as_array(y)),
    "pandas": lambda x, y, names: (odd_columns(x), None if y is None else odd_index(y)),
    "dictionary": lambda x, y, names: (named(x, names), y),
    "table": lambda x, y, names: (pd.DataFrame(named(x, names))[list(names)[::-1]], y),
    "dictionaries": lambda x, y, names: (records(x, names), None if y is None else (target for target in y)),
}
STREAMS = {
    "generator": lambda x, y, names: iter(rows_of(x, y)),
    "generator of dictionaries": lambda x, y, names: iter(rows_of(records(x, names), y)),
    "generator of batches": lambda x, y, names: iter(batches_of(as_arrays(x), y)),
    "iterable": lambda x, y, names: Rows(rows_of(x, y)),
    "PyDataset": lambda x, y, names: Batches(batches_of(x, y)),
    "PyDataset of dictionaries": lambda x, y, names: Batches(
        [(named(part[0], names), part[1]) if y is not None else named(part, names) for part in batches_of(x, y)]
    ),
    "PyDataset of tables": lambda x, y, names: Batches(
        [(pd.DataFrame(named(p[0], names)), p[1]) if y is not None else pd.DataFrame(named(p, names)) for p in batches_of(x, y)]
    ),
    "dataset": lambda x, y, names: dataset_of(x, y),
    "batched dataset": lambda x, y, names: dataset_of(x, y).batch(4),
    "dataset of dictionaries": lambda x, y, names: dataset_of(named(x, names), y).batch(4),
    "dataset of unknown rank": lambda x, y, names: unknown(dataset_of(x, y)),
    "batched dataset of unknown rank": lambda x, y, names: unknown(dataset_of(x, y).batch(3)),
    "iterator of a dataset": lambda x, y, names: dataset_of(x, y).batch(4).as_numpy_iterator(),
}
TENSORS = ("single", "pairs", "windows", "multi", "embedder", "regression", "scored", "triplets")  # rows that are tensors


class Rows:
    """An iterable that begins anew each time, and does not say its length."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def as_array(values):
    ragged = isinstance(values[0], list) and len(set(map(len, values))) > 1
    return np.array(values, object) if ragged or isinstance(values[0], dict) else np.array(values)


def as_arrays(x):
    return tuple(map(as_array, x)) if isinstance(x, tuple) else as_array(x)


def named(x, names):
    return dict(zip(names, x if isinstance(x, tuple) else (x,)))


def records(x, names):
    return [named(row if isinstance(x, tuple) else (row,), names) for row in (zip(*x) if isinstance(x, tuple) else x)]


def dataset_of(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y) if y is not None else (x,))


def unknown(dataset):
    """The dataset, whose tensors have no known rank."""
    signature = tf.nest.map_structure(lambda spec: tf.TensorSpec(None, spec.dtype), dataset.element_spec)
    return tf.data.Dataset.from_generator(lambda: iter(dataset), output_signature=signature)


def trained_on(task, x, y=None):
    """The tokenized rows that `fit` makes its batches of, with their targets."""
    texts = task._open_for_training(x, y)
    examples = task.encode(joined_chunks(list(texts)))
    targets = examples.targets.to_list() if hasattr(examples.targets, "to_list") else examples.targets.tolist()
    return [column.to_list() for column in examples.columns], targets, examples.weights


@pytest.mark.parametrize("kind", DATA)
def test_every_container_trains_on_the_same_rows(tokenizer, kind):
    x, y = DATA[kind]
    task = make(kind, tokenizer)
    names = {len(form.names): form.names for form in task.training_columns}[len(x) if isinstance(x, tuple) else 1]
    expected = trained_on(task, x, y)
    for name, container in (*MEMORY.items(), *STREAMS.items()):
        if "dataset" in name and kind not in TENSORS:
            continue
        data = (container(x, y, names), None) if name in STREAMS else container(x, y, names)
        assert trained_on(task, *data) == expected, name


def figures_of(kind, tokenizer, make_data):
    """The loss of an epoch without shuffling, and the figures after it. What is not traced is tested sooner."""
    keras.utils.set_random_seed(3)
    task = make(kind, tokenizer)
    task.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    history = task.fit(*make_data(), batch_size=4, shuffle=False, verbose=0)
    figures = task.evaluate(*make_data(), batch_size=4, verbose=0, return_dict=True)
    return {**figures, "training": history.history["loss"][0]}


@pytest.mark.parametrize(("kind", "name"), [("multi", "batched dataset"), ("words", "generator"), ("scored", "PyDataset")])
def test_a_stream_has_the_figures_of_a_list(tokenizer, kind, name):
    x, y = DATA[kind]
    expected = figures_of(kind, tokenizer, lambda: (x, y))
    assert figures_of(kind, tokenizer, lambda: (STREAMS[name](x, y, ()), None)) == pytest.approx(expected, abs=1e-5)


def test_a_traced_stream_of_windows_counts_its_batches_once(tokenizer):
    task = make("answers", tokenizer)
    task.compile(keras.optimizers.SGD(0.0))
    x, y = DATA["answers"]
    figures = [
        task.evaluate(*data, batch_size=4, verbose=0, return_dict=True) for data in ((x, y), (Batches(batches_of(x, y)), None))
    ]
    assert figures[0] == pytest.approx(figures[1], abs=1e-5)


def test_the_masked_lm_reads_streams_too(encoder, tokenizer):
    task = kbert.MaskedLM(encoder, kbert.TextPreprocessor(tokenizer, 24))
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    history = task.fit(dataset, epochs=2, batch_size=2, validation_data=TEXTS, verbose=0)
    assert len(history.history["val_loss"]) == 2 and np.isfinite(history.history["loss"]).all()
    with pytest.raises(ValueError, match="learns from texts alone"):
        task.fit(dataset.map(lambda text: (text, text)), verbose=0)


def test_the_schedule_knows_the_batches_of_a_stream(classifier):
    for data in (
        tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)),
        tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4),
        Batches(batches_of(TEXTS, LABELS)),
    ):
        classifier.compile()
        classifier.fit(data, epochs=3, batch_size=4, verbose=0)
        assert int(classifier.optimizer.learning_rate.numpy() * 1e9) == 0 and int(classifier.optimizer.iterations) == 6


@pytest.mark.filterwarnings("error:Your input ran out")
def test_a_dataset_of_batches_ends_without_a_word(classifier):
    classifier.compile(run_eagerly=True)
    batched = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4)
    for data in (batched.prefetch(1), batched.map(lambda text, label: (text, label)), Batches(batches_of(TEXTS, LABELS))):
        classifier.fit(data, epochs=2, validation_data=data, verbose=0)
    classifier.fit(iter(rows_of(TEXTS, LABELS)), verbose=0)


def test_batches_of_other_sizes_lose_no_row(classifier):
    first, second = (tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4) for _ in range(2))
    odd = Batches([(TEXTS[:1], LABELS[:1]), (TEXTS[1:5], LABELS[1:5]), (TEXTS[5:], LABELS[5:])])
    classifier.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    classifier.dropout.rate = 0.0
    expected = classifier.evaluate(TEXTS, LABELS, batch_size=6, verbose=0)[0]
    for data in (first.concatenate(second), odd):  # 4, 2, 4 and 2 rows; 1, 4 and 1 row
        history = classifier.fit(data, epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2
        assert classifier.evaluate(data, batch_size=6, verbose=0)[0] == pytest.approx(expected, abs=1e-5)


def test_a_generator_that_never_ends_trains_by_steps(classifier):
    def forever():
        while True:
            yield from zip(TEXTS, LABELS)

    history = classifier.fit(forever(), batch_size=4, epochs=2, steps_per_epoch=3, verbose=0)
    assert len(history.history["loss"]) == 2 and int(classifier.optimizer.iterations) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda d: {"x": d, "y": LABELS}, "y is given beside a"),
        (lambda d: {"x": d, "sample_weight": np.ones(6)}, "sample_weight is given beside a"),
        (lambda d: {"x": d, "validation_split": 0.5}, "validation_split is for texts in memory"),
        (lambda d: {"x": iter(rows_of(TEXTS, LABELS)), "epochs": 2}, "gives its rows once"),
        (lambda d: {"x": iter([])}, "holds no rows"),
        (lambda d: {"x": d, "validation_data": iter(rows_of(TEXTS, LABELS))}, "gives its rows once"),
        (lambda d: {"x": TEXTS, "y": LABELS, "sample_weight": [1, 1, float("nan"), 1, 1, 1]}, "sample_weight\\[2\\]"),
        (lambda d: {"x": TEXTS, "y": LABELS, "class_weight": {"good": -1}}, "0 or more"),
    ],
)
def test_what_cannot_act_is_refused_before_any_step(classifier, arguments, message):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS))
    with pytest.raises(ValueError, match=message):
        classifier.fit(verbose=0, **arguments(dataset))
    assert classifier.optimizer is None or int(classifier.optimizer.iterations) == 0


def test_the_row_of_a_stream_that_is_wrong_is_named(classifier):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, ["joy"] * 6))
    with pytest.raises(ValueError, match="'joy', which is not one of the labels"):
        classifier.fit(dataset, verbose=0)
    with pytest.raises(TypeError, match="not a string.*of the generator"):
        classifier.predict(text for text in [*TEXTS, None])


def test_a_label_is_not_taken_for_a_second_text(classifier):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS))
    with pytest.raises(ValueError, match="second texts of this stream are all labels"):
        classifier.predict(dataset)
    indices = tf.data.Dataset.from_tensor_slices((TEXTS, [0, 1, 0, 0, 1, 0]))
    np.testing.assert_allclose(classifier.predict(indices), classifier.predict(TEXTS), atol=1e-6)


def test_a_tuple_of_sentences_is_rows_and_not_columns(tokenizer):
    task = make("words", tokenizer)
    x, y = DATA["words"]
    assert task.predict(tuple(x)) == task.predict(x)
    assert task.examples(tuple(x), tuple(y)).columns[0].to_list() == task.examples(x, y).columns[0].to_list()
    with pytest.raises(ValueError, match="should be text, got"):
        open_input((Columns(("text",)),), (TEXTS, TEXTS))


def test_pairs_may_come_by_row_or_by_name(classifier):
    expected = classifier.predict((TEXTS, OTHERS))
    rows, table = list(zip(TEXTS, OTHERS)), pd.DataFrame({"text_pair": OTHERS, "text": TEXTS})
    for pairs in (rows, np.array(rows), table, {"text": TEXTS, "text_pair": OTHERS}):
        np.testing.assert_allclose(classifier.predict(pairs), expected, atol=1e-6)
    assert open_input((TEXT, PAIR), table).chunk.columns[1] == [text.encode() for text in OTHERS]


def test_single_batches_take_texts(classifier):
    classifier.compile(keras.optimizers.SGD(0.0), metrics=[])
    classifier.dropout.rate = 0.0
    loss = classifier.evaluate(TEXTS, LABELS, batch_size=6, verbose=0)
    assert float(classifier.test_on_batch(TEXTS, LABELS)) == pytest.approx(loss, abs=1e-5)
    weighted = classifier.train_on_batch(TEXTS, LABELS, class_weight={"good": 0.0, "bad": 0.0})
    assert float(weighted) == 0
    np.testing.assert_allclose(classifier.predict_on_batch(TEXTS), classifier.predict(TEXTS), atol=1e-6)


def test_a_loss_of_ones_own_has_its_own_targets(classifier):
    rows = np.eye(2, dtype="float32")[[1, 0, 1, 1, 0, 1]]
    for data in ((TEXTS, rows), (tf.data.Dataset.from_tensor_slices((TEXTS, rows)).batch(3),)):
        classifier.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[], run_eagerly=True)
        own = classifier.evaluate(*data, verbose=0)
        classifier.compile(metrics=[], run_eagerly=True)
        assert own == pytest.approx(classifier.evaluate(*data, verbose=0), abs=1e-5)


def test_weights_of_sentences_weigh_their_words(tokenizer):
    x, y = DATA["words"]
    task = make("words", tokenizer)
    task.compile(metrics=[], run_eagerly=True)
    whole, first = task.evaluate(x, y, verbose=0, return_dict=True), task.evaluate(x[:1], y[:1], verbose=0, return_dict=True)
    one = task.evaluate(x, y, sample_weight=[1, 0, 0, 0, 0, 0], verbose=0, return_dict=True)
    words = sum(map(len, x))
    assert one["loss"] == pytest.approx(first["loss"] * len(x[0]) / words, rel=1e-4)
    equal = task.evaluate(x, y, sample_weight=np.ones((6, 1)), verbose=0, return_dict=True)
    assert equal["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_a_batched_dataset_can_be_resumed(classifier, tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4)
    history = classifier.fit(dataset, epochs=2, resume=tmp_path / "state", verbose=0)
    assert len(history.history["loss"]) == 2


def test_answers_may_come_as_columns(tokenizer):
    x, y = DATA["answers"]
    columns = {name: [answer[name] for answer in y] for name in ("text", "start")}
    task = make("answers", tokenizer)
    assert task.examples(x, columns).targets.tolist() == task.examples(x, y).targets.tolist()


def test_a_stream_without_an_end_is_measured_by_steps(tokenizer):
    task = make("regression", tokenizer)
    x, y = DATA["regression"]
    task.compile(run_eagerly=True)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(3).repeat()
    figures = task.evaluate(endless, steps=2, verbose=0, return_dict=True)
    assert figures == pytest.approx(task.evaluate(x, y, batch_size=3, verbose=0, return_dict=True), abs=1e-5)
    history = task.fit(x, y, batch_size=3, validation_data=endless, validation_steps=2, verbose=0)
    assert np.isfinite(history.history["val_pearson"]).all()


def test_steps_bound_the_rows_that_are_scored(tokenizer):
    task = make("regression", tokenizer)
    x, y = DATA["regression"]
    x, y = [*x, *reversed(x)], [*y, *(value + 1 for value in y)]
    task.compile(run_eagerly=True)
    expected = task.evaluate(x[:6], y[:6], batch_size=3, verbose=0, return_dict=True)

    def endless():
        while True:
            yield from zip(x, y)

    for data in ((x, y), (tf.data.Dataset.from_tensor_slices((x, y)),), (endless(),)):
        figures = task.evaluate(*data, batch_size=3, steps=2, verbose=0, return_dict=True)
        assert figures == pytest.approx(expected, abs=1e-5)


def test_epochs_of_some_steps_begin_the_data_anew(classifier):
    steps = []
    for data in ((TEXTS, LABELS), (tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2),)):  # 3 batches
        classifier.compile()
        history = classifier.fit(*data, batch_size=2, epochs=3, steps_per_epoch=2, verbose=0)
        assert all(history.history["loss"])  # no epoch without a step
        steps.append(int(classifier.optimizer.iterations))
    assert steps[0] == steps[1]


def test_a_subclass_may_count_what_it_likes(encoder, tokenizer):
    class Counting(kbert.TextClassifier):
        def scores(self, x, y, verbose="auto"):
            return {**super().scores(x, y, verbose), "texts": float(len(x)), "first": float(x[0] == TEXTS[0])}

    task = Counting(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"])
    task.compile(run_eagerly=True)
    assert task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["texts"] == 6
    history = task.fit(TEXTS, LABELS, validation_data=(TEXTS[:4], LABELS[:4]), verbose=0).history
    assert history["val_texts"] == [4] and history["val_first"] == [1]


def test_what_could_mean_two_things_is_refused(classifier, encoder, tokenizer):
    with pytest.raises(ValueError, match="a pair as"):
        classifier.classify(("good day", "bad day"))
    with pytest.raises(ValueError, match="could be a batch or a pair"):
        classifier.predict(iter([["a", "b"], ["c", "d"]]))
    masked = kbert.MaskedLM(encoder, kbert.TextPreprocessor(tokenizer, 24))
    with pytest.raises(ValueError, match="learns from the texts alone"):
        masked.fit(TEXTS, LABELS)
    answerer = make("answers", tokenizer)
    assert answerer.predict(("the cat ?", "a cat sat"))["start_logits"].shape[0] == 1


def test_rows_of_a_ragged_tensor_are_sentences(tokenizer):
    task = make("words", tokenizer)
    rows = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(WORDS))
    assert task.predict(rows) == task.predict(rows.batch(2)) == task.predict(WORDS)


def test_class_weights_are_not_in_the_validation(classifier):
    classifier.compile(keras.optimizers.SGD(0.0), metrics=[])
    history = classifier.fit(TEXTS, LABELS, class_weight={"good": 0.0, "bad": 0.0}, validation_split=0.5, verbose=0)
    expected = classifier.evaluate(TEXTS[3:], LABELS[3:], verbose=0)
    assert history.history["val_loss"][0] == pytest.approx(expected, abs=1e-5) and history.history["loss"] == [0.0]


def test_the_first_figure_of_evaluate_is_the_loss(classifier):
    figures = classifier.evaluate(TEXTS, LABELS, verbose=0)
    assert figures[0] == classifier.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["loss"]


def test_a_step_of_predict_has_more_positions_on_a_gpu(monkeypatch):
    from kbert.tasks import prediction

    assert prediction.tokens_per_prediction() == 4096
    monkeypatch.setattr(prediction.tf.config, "list_logical_devices", lambda kind: [kind])
    assert prediction.tokens_per_prediction() == 32768


ONE_TEXT_MORE = [
    (lambda: [*TEXTS, None], r"x\[6\] is None.*drop that row"),
    (lambda: odd_index([*TEXTS, float("nan")]), r"x\[6\] is nan.*drop that row"),
    (lambda: odd_index([*TEXTS, None], dtype="string"), r"x\[6\] is <NA>.*drop that row"),
    (lambda: odd_index([*TEXTS, None], dtype="category"), r"x\[6\] is nan.*drop that row"),
    (lambda: iter([*TEXTS, None]), r"x\[6\] is None.*row 0 of the list_iterator"),
    (lambda: iter([None, *TEXTS]), r"x\[0\] is None.*list_iterator"),
    (lambda: set(TEXTS), "a set, which has no order"),
    (lambda: pd.DataFrame({"text": TEXTS, "label": LABELS}), "a DataFrame, has label beside text"),
    (lambda: pd.DataFrame({"body": TEXTS}), r"a DataFrame, should have text.*got body; one column alone is x\['body'\]"),
    (lambda: [{"text": "a"}, {"body": "b"}], r"x\[0\] has text, and x\[1\] has not the same"),
    (lambda: [("a", "b"), ("c", "d", "e")], r"x\[1\] is .*but x\[0\] has 2 texts"),
    (lambda: [TEXTS, OTHERS], "a pair as a tuple of two columns"),
    (lambda: iter([[TEXTS[0], 1]]), "give a tuple, .inputs, targets.*list_iterator"),
    (lambda: iter([[TEXTS[0], 1, 1.0]]), "give a tuple, .inputs, targets.*list_iterator"),
    (lambda: iter([(0, TEXTS[0], 1)]), "inputs are texts; got"),
    (lambda: pd.DataFrame({"text": TEXTS}).iterrows(), "inputs are texts; got"),
    (lambda: Batches([(("a", "b"), (0, 1))]), "could be a batch or a pair"),
    (lambda: iter([("a", 1), ("b",)]), "row 1 has neither target nor weight, but the first row has a target"),
    (lambda: iter([("a", 1, 1.0), ("b", 1)]), "row 1 has a target, but the first row has a target and a weight"),
    (lambda: iter([("a", 1, float("nan"))]), r"sample_weight\[0\] is nan"),
    (lambda: iter(["a", ("b", "c")]), "give all in one form"),
    (lambda: tf.data.Dataset.from_tensor_slices(tf.ragged.constant([["a"], ["b", "c"]])), "lists of texts"),
    (lambda: tf.data.Dataset.from_tensor_slices(({"text": TEXTS, "id": TEXTS}, LABELS)), "has id beside text"),
    (lambda: tf.data.Dataset.from_tensor_slices(TEXTS).batch(2).batch(2), "batched twice.*unbatch"),
    (lambda: tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2).batch(3), "batched twice.*unbatch"),
]


@pytest.mark.parametrize("number", range(len(ONE_TEXT_MORE)))
def test_the_container_the_row_and_the_cure_are_named(number):
    container, message = ONE_TEXT_MORE[number]
    with pytest.raises((TypeError, ValueError), match=message):
        list(open_input((TEXT, PAIR), container()))


def test_rows_of_several_texts_in_a_dataset():
    rows = np.array(list(zip(TEXTS, OTHERS)))
    for dataset in (
        tf.data.Dataset.from_tensor_slices((rows, [0] * 6)),
        tf.data.Dataset.from_tensor_slices((rows, [0] * 6)).batch(4),
    ):
        chunk = joined_chunks(list(open_input((TEXT, PAIR), dataset, targets="required")))
        assert (
            chunk.columns == tuple([text.encode() for text in column] for column in (TEXTS, OTHERS))
            and chunk.targets == [0] * 6
        )


def test_a_first_question_without_an_answer_is_no_missing_target(tokenizer):
    task = make("answers", tokenizer)
    rows = [(("the cat ?", "a cat"), None), (("a ?", "a dog"), {"text": "a", "start": 0})]
    assert trained_on(task, iter(rows)) == trained_on(task, (["the cat ?", "a ?"], ["a cat", "a dog"]), [None, ("a", 0)])


def test_words_and_texts_are_not_mixed(tokenizer):
    task = make("words", tokenizer)
    with pytest.raises(TypeError, match=r"x\[0\] is a list of words and x\[1\] a text"):
        task.predict([["a", "cat"], "a dog"])
    with pytest.raises(ValueError, match="could be words, or a text and its label"):
        task.predict(iter([("a", "cat")]))
