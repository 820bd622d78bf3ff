"""`task.freeze()`: the task's answers from the LiteRT runtime, in any number of threads, and nothing that could change it."""

import threading
import warnings

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.frozen import LONG, ROWS, plan
from tests.conftest import TINY, tiny_tokenizer

TEXTS = [
    "good cat", "", "the film so bad!", "un able", "Élan 你好 🙂", "a" * 101,
    "the cat sat , the dog ran . the day good ! un able",
] * 5  # fmt: skip


@pytest.fixture(params=["bert", "distilbert", "mobilebert"])
def any_encoder(request):
    mobile = {**TINY, "intra_bottleneck_size": 8, "embedding_size": 8, "num_feedforward_networks": 2, "trigram_input": False}
    return {
        "bert": lambda: kbert.BertEncoder(kbert.BertConfig(**TINY)),
        "distilbert": lambda: kbert.BertEncoder(kbert.BertConfig(**TINY, type_vocab_size=0, add_pooling_layer=False)),
        "mobilebert": lambda: kbert.MobileBertEncoder(kbert.MobileBertConfig(**mobile)),
    }[request.param]()


def test_a_frozen_classifier_answers_as_its_task(any_encoder, tokenizer):
    task = kbert.TextClassifier(any_encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["a", "b"])
    fast = task.freeze(threads=2)
    for texts in (TEXTS, TEXTS[:1], [], iter(TEXTS), (TEXTS, TEXTS[::-1])):
        expected = task.predict(TEXTS if not isinstance(texts, (list, tuple)) else texts)
        np.testing.assert_allclose(fast.predict(texts), expected, atol=1e-5)
    assert [answer["label"] for answer in fast.classify(TEXTS)] == [answer["label"] for answer in task.classify(TEXTS)]


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_a_frozen_embedder_embeds_as_its_task(encoder, tokenizer, pooling):
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24), pooling=pooling)
    np.testing.assert_allclose(task.freeze().embed(TEXTS), task.embed(TEXTS), atol=1e-5)


def test_positions_come_back_to_their_texts(encoder, tokenizer):
    task = kbert.TokenClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["O", "B", "I"])
    np.testing.assert_allclose(task.freeze().predict(TEXTS), task.predict(TEXTS), atol=1e-5)


def test_special_tokens_in_the_text_are_recognised_if_the_task_does(encoder):
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(recognize_special_tokens=True), 24)
    task = kbert.TextClassifier(encoder, preprocessor, labels=["a", "b"])
    texts = ["good [MASK] cat", "good mask cat"]
    np.testing.assert_allclose(task.freeze().predict(texts), task.predict(texts), atol=1e-5)


def test_threads_share_it(classifier):
    fast = classifier.freeze()
    expected, wrong = fast.predict(TEXTS), []

    def ask(number):
        for _ in range(20):
            text = (number + _) % len(TEXTS)
            if np.abs(fast.predict([TEXTS[text]])[0] - expected[text]).max() > 1e-5:
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


MASKED = ["good [MASK] cat", "[MASK] [MASK] day", "the [MASK]"] * 3 + ["a film , [MASK] good"]
TASKS = {
    "classifier": lambda *parts: kbert.TextClassifier(*parts, labels=["a", "b"], window_stride=4),
    "tagger": lambda *parts: kbert.TokenClassifier(*parts, labels=["O", "B-x", "I-x"]),
    "answerer": lambda *parts: kbert.QuestionAnswerer(*parts),
    "embedder": lambda *parts: kbert.TextEmbedder(*parts),
    "masked": lambda *parts: kbert.MaskedLM(*parts),
}
VERBS = {
    "classifier": {"classify": lambda task: task.classify(TEXTS)},
    "tagger": {"classify": lambda task: task.classify(TEXTS), "words": lambda task: task.classify([["good", "cat"]])},
    "answerer": {"answer": lambda task: task.answer(["cat ?"] * len(TEXTS), TEXTS)},
    "embedder": {
        "embed": lambda task: task.embed(TEXTS).tolist(),
        "search": lambda task: task.search(TEXTS[:2], TEXTS, top_k=3),
        "similarity": lambda task: task.similarity(TEXTS[:2], TEXTS[:3]).tolist(),
    },
    "masked": {
        "predict": lambda task: [row.tolist() for row in task.predict(TEXTS[:3])],
        "fill": lambda task: task.fill(MASKED),
        "candidates": lambda task: task.fill(MASKED[0], candidates=["good", "days"]),
        "perplexity": lambda task: task.pseudo_perplexity(TEXTS[:3]).tolist(),
    },
}  # fmt: skip


def as_numbers(answers):
    """The numbers of nested answers, as an array."""
    flat = tf.nest.flatten(answers)
    return np.array([value for value in flat if isinstance(value, (int, float))], float)


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
@pytest.mark.parametrize("kind", TASKS)
def test_each_verb_keeps_the_weights_and_options_that_it_was_made_from(kind, encoder, tokenizer):
    task = TASKS[kind](encoder, kbert.TextPreprocessor(tokenizer, 24))
    fast = task.freeze()
    before = {verb: ask(fast) for verb, ask in VERBS[kind].items()}
    for verb, ask in VERBS[kind].items():
        numbers, live = as_numbers(before[verb]), as_numbers(ask(task))
        np.testing.assert_allclose(numbers, live, atol=1e-4, err_msg=verb)
    for variable in task.weights:
        variable.assign(np.random.default_rng(len(variable.shape)).normal(size=variable.shape, scale=0.3))
    if hasattr(task, "labels"):
        task.labels = task.labels[::-1]
    for verb, ask in VERBS[kind].items():
        assert str(ask(fast)) == str(before[verb]), verb
        assert str(ask(task)) != str(before[verb]), verb


def test_it_keeps_the_length_that_it_was_made_with(classifier):
    fast = classifier.freeze()
    expected = classifier.predict(["a very good day"])
    classifier.preprocessor.max_length = 4  # before the first text is read
    np.testing.assert_allclose(fast.predict(["a very good day"]), expected, atol=1e-5)


def test_what_would_change_it_is_refused(classifier, encoder):
    fast = classifier.freeze()
    for verb in ("fit", "compile", "evaluate", "save", "export", "get_weights", "variables", "predict_on_batch"):
        with pytest.raises(AttributeError, match=f"read-only: call {verb} on the task"):
            getattr(fast, verb)
    with pytest.raises(AttributeError, match="weights of its own: ask the task .* for its encoder"):
        assert fast.encoder
    with pytest.raises(TypeError, match=r"x\[1\] is None"):
        fast.classify(["a", None])
    with pytest.raises(ValueError, match="threads"):
        classifier.freeze(threads=0)
    with pytest.raises(ValueError, match="TextPreprocessor"):
        kbert.TextClassifier(encoder, labels=["a", "b"]).freeze()


def test_a_cut_text_is_said_once(classifier):
    fast = classifier.freeze()
    with pytest.warns(UserWarning, match="1 of 2 texts are longer"):
        fast.predict(["good " * 50, "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fast.predict(["good " * 50, "a"])


def test_a_plan_holds_each_text_once_in_rows_that_are_not_too_long():
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 8, 9, 100, 1000):
        lengths = random.integers(2, 400, count)
        for most in (None, 1, 5, 32):
            steps = plan(lengths, most)
            assert sorted(place for step in steps for row in step for place in row) == list(range(count))
            for step in steps:
                assert len(step) in (1, ROWS) and all(step)
                assert most is None or sum(map(len, step)) <= most
                longest = max(sum(lengths[place] for place in row) for row in step)
                assert len(step) == 1 or longest <= LONG


def test_predict_streams_generators_and_datasets(classifier):
    expected = classifier.predict(TEXTS)
    np.testing.assert_allclose(classifier.predict(text for text in TEXTS), expected, atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    for stream in (dataset, dataset.batch(4)):
        np.testing.assert_allclose(classifier.predict(stream), expected, atol=1e-6)
    pairs = tf.data.Dataset.from_tensor_slices((TEXTS, TEXTS))
    np.testing.assert_allclose(classifier.predict(pairs), classifier.predict((TEXTS, TEXTS)), atol=1e-6)
    assert classifier.predict(iter([])).shape == (0, 2)


def test_a_stream_is_read_in_chunks(classifier, monkeypatch):
    from kbert.tasks import inputs as prediction

    monkeypatch.setattr(prediction, "CHUNK", 4)
    held = []

    def texts():
        for text in TEXTS:
            held.append(text)
            yield text

    seen = [len(columns[0]) for columns in prediction.text_chunks(texts())]
    assert max(seen) == 4 and sum(seen) == len(TEXTS)
    np.testing.assert_allclose(classifier.predict(texts()), classifier.predict(TEXTS), atol=1e-6)


def test_one_compiled_function_serves_every_batch_and_length(classifier):
    for count in (1, 2, 5, 9):
        for words in (1, 3, 8):
            classifier.predict([" ".join(["good"] * words)] * count)
    counts = [function.experimental_get_tracing_count() for function in classifier.__dict__["_compiled_forward"].values()]
    assert counts == [1, 1]  # for one text, and for several
