"""Every task in every precision: close to float32 in answers and in training, or refused before the first step."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import kbert
from kbert.checkpoints.huggingface_names import FAMILIES
from kbert.checkpoints.weights import weights_of
from kbert.training.optimizer import AdamW
from tests.conftest import BAD, GOOD, TINY, VOCABULARY, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:newly initialized")
MIXED = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}  # how far, relative to it, a loss may be from float32's
HALF = {"bfloat16": 0.05, "float16": 0.01, "policy": 0.05}
TEXTS = [*GOOD[:4], *BAD[:4]]
LABELS = ["good"] * 4 + ["bad"] * 4
WORDS = [text.split() for text in TEXTS]
TASKS = {
    "classifier": (kbert.TextClassifier, {"labels": ["bad", "good"]}, (TEXTS, LABELS)),
    "tagger": (kbert.TokenClassifier, {"labels": ["O", "B-X"]}, (WORDS, [["B-X"] + ["O"] * (len(w) - 1) for w in WORDS])),
    "answerer": (kbert.QuestionAnswerer, {}, ((["good ?"] * 8, TEXTS), [{"text": t[:3], "start": 0} for t in TEXTS])),
    "masked_lm": (kbert.MaskedLM, {}, (TEXTS * 4,)),
    "embedder": (kbert.TextEmbedder, {}, ((TEXTS, TEXTS[::-1]),)),
    "scored": (kbert.TextEmbedder, {"normalize": False}, ((TEXTS, TEXTS[::-1]), [0.5] * 8)),
    "pretrainer": (kbert.Pretrainer, {}, (["\n".join(GOOD), "\n".join(BAD)],)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint without dropout, so that precision is the one thing that differs."""
    folder = tmp_path_factory.mktemp("checkpoint")
    keras.utils.set_random_seed(3)
    sizes = {**TINY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder = kbert.BertEncoder(kbert.BertConfig(**sizes))
    save_file(weights_of(encoder, FAMILIES["bert"].rules(encoder.config)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **encoder.config.to_dict()}))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    """A function from the name of a task and a policy to the task, with the same first weights each time."""

    def make(kind, dtype):
        cls, options, _ = TASKS[kind]
        dtype = keras.DTypePolicy("bfloat16") if dtype == "policy" else dtype
        keras.utils.set_random_seed(5)
        return cls.from_preset(folder, max_length=16, dtype=dtype, **options)

    return make


@pytest.fixture(scope="module")
def trained(opened):
    """A function from the name of a task and a policy to the losses of its first epochs."""
    known = {}

    def losses(kind, dtype):
        if (kind, dtype) not in known:
            task = opened(kind, dtype)
            task.compile(AdamW(learning_rate=1e-3), run_eagerly=True)
            keras.utils.set_random_seed(6)
            history = task.fit(*TASKS[kind][2], batch_size=8, epochs=2, verbose=0, shuffle=False).history
            known[kind, dtype] = history["loss"], task
        return known[kind, dtype]

    return losses


@pytest.fixture(scope="module")
def outputs_of(opened):
    """A function from the name of a task and a policy to the task and its outputs; float32's are computed once."""
    packed = kbert.TextPreprocessor(tiny_tokenizer(), 16)(TEXTS)

    def compute(kind, dtype):
        task = opened(kind, dtype)
        return task, tf.nest.flatten(task(packed, training=False)), packed["padding_mask"].numpy() > 0

    plain = functools.cache(functools.partial(compute, dtype=None))
    return lambda kind, dtype: plain(kind) if dtype is None else compute(kind, dtype)


@pytest.mark.parametrize("dtype", [*MIXED, *HALF])
@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "scored"])
def test_a_checkpoint_opens_in_every_precision_and_answers_alike(kind, dtype, outputs_of):
    _, expected, real = outputs_of(kind, None)
    other, outputs, _ = outputs_of(kind, dtype)
    for ours, theirs in zip(outputs, expected):
        assert ours.dtype == tf.float32
        ours, theirs = (
            v.numpy()[real] if other.positional and v.shape[1] == real.shape[1] else v.numpy() for v in (ours, theirs)
        )
        spread = np.abs(theirs - theirs.mean()).max()
        assert np.abs(ours - theirs).max() < 0.1 * max(spread, 0.5)
    assert other.encoder.compute_dtype == other.encoder.dtype_policy.compute_dtype != "float32"


@pytest.mark.parametrize("dtype", MIXED)
@pytest.mark.parametrize("kind", TASKS)
def test_losses_are_float32s_within_a_bound(kind, dtype, trained):
    expected, (losses, task) = trained(kind, None)[0], trained(kind, dtype)
    np.testing.assert_allclose(losses, expected, rtol=MIXED[dtype])
    assert isinstance(task.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "mixed_float16")
    assert all(variable.dtype == "float32" for variable in task.trainable_variables)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_half_precision_are_not_trained(dtype, opened):
    task = opened("classifier", dtype)
    for train in (task.fit, task.train_on_batch):
        with pytest.raises(ValueError, match=f'To train, build it with dtype="mixed_{dtype}"'):
            train(TEXTS, LABELS)


def test_a_task_has_its_encoders_precision_and_float16_scales_the_loss():
    for dtype, of_task in ((dtype, of_task) for dtype in MIXED for of_task in (None, "float32")):
        task = kbert.TextClassifier(kbert.BertEncoder(kbert.BertConfig(**TINY), dtype=dtype), labels=["a", "b"], dtype=of_task)
        assert task.dtype_policy.name == (of_task or dtype)
        for optimizer in ("auto", "adam", keras.optimizers.SGD()):
            task.compile(optimizer)
            assert isinstance(task.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "mixed_float16")


@pytest.mark.parametrize("dtype", MIXED)
def test_a_student_has_a_precision_of_its_own_and_learns_in_it(dtype, opened):
    teacher, losses = opened("classifier", None), {}
    for policy in (None, dtype):
        student = teacher.make_student(num_hidden_layers=1, dtype=policy)
        assert student.encoder.dtype_policy.name == student.dtype_policy.name == (policy or "float32")
        same = zip(student.encoder.embeddings.weights, teacher.encoder.embeddings.weights)
        assert all(np.array_equal(ours, theirs) for ours, theirs in same)
        distiller = kbert.Distiller(teacher, student, hidden=1.0, attention=1.0, relation=1.0)
        distiller.compile(AdamW(learning_rate=1e-3), run_eagerly=True)
        assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
        losses[policy] = distiller.fit(TEXTS, LABELS, batch_size=8, epochs=2, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(losses[dtype], losses[None], rtol=2 * MIXED[dtype])
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        kbert.Distiller(teacher, teacher.make_student(num_hidden_layers=1, dtype="bfloat16")).fit(TEXTS, LABELS)


@pytest.mark.parametrize("dtype", [*MIXED, "bfloat16", "float16"])
@pytest.mark.parametrize("real_tokens", [True, False])
def test_attention_is_shared_out_whole_at_any_length(dtype, real_tokens):
    keras.utils.set_random_seed(1)
    config = kbert.BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, initializer_range=1.0)
    encoder = kbert.BertEncoder(config, real_tokens=real_tokens, dtype=dtype)
    ids = np.random.default_rng(0).integers(1, 50, (2, 512))
    given = {"token_ids": ids, "padding_mask": ids % 7 > 0}
    (attention,) = encoder(given, output_attentions=True)["attentions"]
    assert attention.dtype == tf.float32
    of_real = attention.numpy().sum(-1)[np.broadcast_to(given["padding_mask"][:, None], attention.shape[:3])]
    np.testing.assert_allclose(of_real, 1, atol=1e-5)  # they were off by 0.4 % in MiniLM, in either half precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_cosines_of_vectors_in_any_precision(dtype, encoder, tokenizer):
    embedder = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24))
    random = np.random.default_rng(0)
    plain = random.standard_normal((20, 16))
    vectors = tf.cast(plain, dtype).numpy()
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    largest = {"float16": 1e4, "float64": 1e200}.get(dtype, 1e30)
    for scale in (1, largest, 1 / largest if dtype != "float16" else 1e-3):
        scaled = (vectors.astype("float64") * scale).astype(vectors.dtype)
        for given in (scaled, tf.constant(scaled), list(scaled)):
            cosines = embedder.similarity(given, given[:5])
            assert cosines.dtype == (np.float64 if dtype == "float64" else np.float32)
            np.testing.assert_allclose(cosines, unit @ unit[:5].T, atol=0.02 if "16" in dtype else 1e-5)
            found = embedder.search(given[:5], given, top_k=1)
            assert [row[0]["place"] for row in found] == list(range(5))
    assert not embedder.similarity(0 * vectors, vectors).any()  # a vector of zeros is like nothing
    for wrong, message in (
        (vectors[0], r"vectors \[N, D\], got shape \(16,\)"),
        (vectors + np.inf, "not finite, first in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            embedder.search(wrong, vectors)
    with pytest.raises(ValueError, match="texts have 3 coordinates, others 16"):
        embedder.similarity(vectors[:, :3], ["good"])


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_runtimes_without_half_precision_refuse_it_by_name(dtype, tokenizer, tmp_path):
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1}), dtype=dtype)
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["a", "b"])
    for write in (task.freeze, lambda: task.export(tmp_path / "a.tflite"), lambda: task.export(tmp_path / "a.onnx")):
        with pytest.raises(ValueError, match='computes in float32, and this task in .*float16.* dtype="float32"'):
            write()
    assert not list(tmp_path.iterdir())
