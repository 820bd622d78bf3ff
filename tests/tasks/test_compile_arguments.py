"""Every argument of `compile`, `freeze` and `Distiller` acts, or is refused before any work."""

import inspect
import math

import keras
import numpy as np
import pytest

import kbert
from kbert.training import keras_internals
from tests.conftest import TINY, VOCABULARY

TEXTS, LABELS = ["good day", "bad day", "the film", "so bad"], ["good", "bad"] * 2
NO_FLAG = ("no", 1)
NO_SHARE = (-0.1, 1.0, math.nan, True, "0.5")
NO_COUNT = (0, -1, math.nan, True, "2", 1.5)
NO_RATE = (0, -1.0, math.nan, math.inf, True, "fast")
NO_WEIGHT = (-1.0, math.nan, math.inf, True, "half")


def built(dtype=None, real_tokens=True, **changes):
    small = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16, **changes}
    config = kbert.BertConfig(**{**TINY, **small}, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 16)
    return kbert.TextClassifier(
        kbert.BertEncoder(config, real_tokens, dtype=dtype), preprocessor, labels=["good", "bad"], dtype=dtype
    )


@pytest.fixture(scope="module")
def task():
    return built()


# compile


def loss_of(task):
    return task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["loss"]


def rate(task):
    return float(keras_internals.learning_rate_schedule(task.optimizer).peak)


# argument: (a value, what it changes in a compiled task, what that is then, values that are refused)
COMPILE = {
    "optimizer": ("sgd", lambda task: type(task.optimizer), keras.optimizers.SGD, ("no", 3, None)),
    "loss": (keras.losses.MeanSquaredError(), lambda task: type(task.loss).__name__, "MeanSquaredError", ("no", 3)),
    "label_smoothing": (0.3, lambda task: type(task.loss).__name__, "SmoothedCrossentropy", NO_SHARE),
    "metrics": (["acc"], lambda task: task.figure_names(), ["loss", "acc"], ("no", [3])),
    "weighted_metrics": (["acc"], lambda task: task.figure_names()[-1], "acc", ("no", [3])),
    "learning_rate": (1e-3, rate, 1e-3, NO_RATE),
    "gradient_accumulation_steps": (3, lambda task: task.optimizer.gradient_accumulation_steps, 3, NO_COUNT),
    "jit_compile": (True, lambda task: task.jit_compile, True, (*NO_FLAG, None)),
    "run_eagerly": (True, lambda task: task.run_eagerly, True, NO_FLAG),
    "steps_per_execution": (2, lambda task: task.steps_per_execution, 2, NO_COUNT),
    "loss_weights": (0.0, loss_of, 0.0, NO_WEIGHT),
    "auto_scale_loss": (False, lambda task: type(task.optimizer).__name__, "AdamW", NO_FLAG),
}  # fmt: skip


def test_the_table_has_every_argument_of_compile():
    own = set(inspect.signature(kbert.TextClassifier.compile).parameters)
    of_all = set(inspect.signature(kbert.MaskedLM.compile).parameters)
    of_keras = set(inspect.signature(keras.Model.compile).parameters)
    assert set(COMPILE) == (own | of_all | of_keras) - {"self", "kwargs"}
    for kind in ("TokenClassifier", "QuestionAnswerer", "TextEmbedder", "Pretrainer"):
        assert set(inspect.signature(getattr(kbert, kind).compile).parameters) - {"self", "kwargs"} <= set(COMPILE)


@pytest.mark.parametrize("argument", COMPILE)
def test_an_argument_of_compile_acts_or_is_refused(argument, task):
    value, of_task, expected, wrong = COMPILE[argument]
    acted = built("mixed_float16") if argument == "auto_scale_loss" else task
    acted.compile()
    assert of_task(acted) != expected
    acted.compile(**{argument: value})
    assert of_task(acted) == expected
    for given in wrong:
        with pytest.raises((TypeError, ValueError), match=argument.removesuffix("s").split("_")[-1]):
            task.compile(**{argument: given})


def test_the_two_optimizers_of_its_own_are_those_of_their_names(task):
    for name, kind in (("auto", "AdamW"), ("lamb", "Lamb")):
        task.compile(name)
        assert type(task.optimizer).__name__ == kind


def test_arguments_that_compile_does_not_have_are_named(task):
    with pytest.raises(TypeError, match="lr"):
        task.compile(lr=1e-3)


# freeze


def test_the_threads_of_a_frozen_task_act_or_are_refused(task):
    assert set(inspect.signature(task.freeze).parameters) == {"threads"}
    for wrong in NO_COUNT:
        with pytest.raises(ValueError, match="threads"):
            task.freeze(threads=wrong)
    assert task.freeze(threads=1)._threads == 1


# Distiller


@pytest.fixture(scope="module")
def pair():
    keras.utils.set_random_seed(7)
    teacher = built(num_hidden_layers=4, initializer_range=0.8)
    return teacher, built(num_hidden_layers=2, initializer_range=0.9)


# argument: (a value, the arguments beside it, values that are refused)
DISTILLER = {
    "teacher": (None, {}, ("task", None, kbert.TextClassifier)),
    "student": (None, {}, ("task", None, kbert.TextClassifier)),
    "temperature": (5.0, {}, (0, -1.0, math.nan, math.inf, True, "hot")),
    **{name: (0.5, {}, NO_WEIGHT) for name in ("soft", "hard", "hidden", "embedding", "attention", "relation")},
    "hidden_loss": ("cosine", {"hidden": 1.0}, ("kl", None)),
    "attention_loss": ("mse", {"attention": 1.0}, ("cosine", None)),
    "layer_map": ("last", {"hidden": 1.0}, ("first", [9, 1], [1])),
    "layers": ([0], {"hidden": 1.0}, ([2], [-1])),
    "project": (None, {}, NO_FLAG),
}


@pytest.fixture(scope="module")
def batch(pair):
    inputs = {name: value.numpy() for name, value in pair[0].preprocessor(TEXTS).items()}
    return inputs, {"targets": np.array([0, 1, 0, 1]), "labelled": np.ones(4, np.float32)}


def distilled_loss(pair, batch, **options):
    distiller = kbert.Distiller(*pair, **options)
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return float(distiller.compute_loss(*batch, distiller(batch[0])))


@pytest.mark.parametrize("argument", DISTILLER)
def test_an_argument_of_a_distiller_acts_or_is_refused(argument, pair, batch):
    assert set(inspect.signature(kbert.Distiller).parameters) - {"kwargs"} == set(DISTILLER)
    value, beside, wrong = DISTILLER[argument]
    if value is not None:
        usual, acted = (distilled_loss(pair, batch, **beside, **more) for more in ({}, {argument: value}))
        assert math.isfinite(acted) and abs(acted - usual) > 1e-4 * abs(usual)
    for given in wrong:
        arguments = {**dict(zip(("teacher", "student"), pair)), **beside, argument: given}
        with pytest.raises((TypeError, ValueError), match=argument.split("_")[0]):
            kbert.Distiller(**arguments)


# argument of Distiller.compile: (a value, what it changes, what that is then, values that are refused)
OF_DISTILLER = {name: COMPILE[name] for name in ("optimizer", "learning_rate", "gradient_accumulation_steps", "jit_compile")}
OF_DISTILLER.update({name: COMPILE[name] for name in ("run_eagerly", "steps_per_execution", "auto_scale_loss")})


@pytest.mark.parametrize("argument", OF_DISTILLER)
def test_an_argument_of_a_distillers_compile_acts_or_is_refused(argument, pair):
    value, of_model, expected, wrong = OF_DISTILLER[argument]
    options = {"auto_scale_loss": {"dtype": "mixed_float16"}, "jit_compile": {"real_tokens": False}}.get(argument)
    distiller = kbert.Distiller(*((built(**options), built(**options)) if options else pair))
    distiller.compile(**{argument: value})
    assert of_model(distiller) == expected
    for given in wrong:
        with pytest.raises((TypeError, ValueError), match=argument.removesuffix("s").split("_")[-1]):
            distiller.compile(**{argument: given})
    if argument == "jit_compile":  # the shapes of real tokens are known as the step runs
        with pytest.raises(ValueError, match="jit_compile.*real_tokens=False"):
            kbert.Distiller(*pair).compile(jit_compile=True)
