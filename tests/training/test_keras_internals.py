"""Each private member of Keras that kbert uses is where kbert looks for it, and does what kbert needs.

A test that fails here says which member moved. Mend `kbert/training/keras_internals.py`, and no other file.
"""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.training import keras_internals
from kbert.training.optimizer import AdamW, Lamb, WarmupLinearDecay
from kbert.training.replicas import DistributedModel

OPTIMIZERS = [AdamW, Lamb]
MEMBERS = """
_convert_input_args _allow_non_tensor_positional_args _flatten_layers _distribute_strategy _use_cached_eval_dataset
_maybe_symbolic_build _learning_rate _iterations _momentums _velocities _get_variable_index _use_weight_decay
_apply_weight_decay _backend_apply_gradients _all_reduce_sum_gradients _distribution_strategy _accumulated_gradients
_trainable_variables _direction _flatten_metrics_in_order
""".split()


def built(optimizer):
    """An optimizer with a kernel and a bias, after one step."""
    variables = [keras.Variable(np.ones((3, 2), "float32"), name="kernel"), keras.Variable(np.ones(2, "float32"), name="bias")]
    optimizer.build(variables)
    optimizer.apply([tf.ones_like(variable.value) for variable in variables], variables)
    return optimizer, variables


class Model(DistributedModel, keras.Model):
    """A model that notes how Keras calls it."""

    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential([keras.layers.Dense(1)])
        keras_internals.hide(self, "evaluations", [])

    def call(self, inputs):
        return self.inner(inputs)

    def evaluate(self, *args, **kwargs):
        self.evaluations.append(kwargs)
        return super().evaluate(*args, **kwargs)


def trained(model, **options):
    model.compile(loss="mse", optimizer="sgd")
    model.fit(np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32"), batch_size=2, verbose=0, **options)
    return model


def test_no_other_file_touches_a_private_member():
    root, file = Path(__file__).parents[2], Path(keras_internals.__file__)
    member = re.compile(rf"(?<![a-z])({'|'.join(MEMBERS)})\b|keras\.src")
    assert set(MEMBERS) <= set(member.findall(file.read_text(encoding="utf-8")))
    touched = [
        f"{path.relative_to(root)}: {name}"
        for folder in ("kbert", "export")
        for path in (root / folder).rglob("*.py")
        if path.name != file.name
        for name in sorted(set(member.findall(path.read_text(encoding="utf-8"))))
    ]
    assert not touched, "what Keras keeps private belongs into kbert/training/keras_internals.py:\n" + "\n".join(touched)


# Attributes


def test_a_hidden_attribute_is_neither_tracked_nor_saved(tmp_path):
    model, other = keras.Sequential([keras.layers.Dense(1)]), keras.layers.Dense(2)
    model.build((None, 3))
    other.build((None, 3))
    keras_internals.hide(model, "teacher", other)
    functions = {"a": 1}
    keras_internals.hide(model, "functions", functions)
    assert model.teacher is other and model.functions is functions
    assert len(model.weights) == 2 and other not in keras_internals.all_layers(model), (
        "Keras now sees attributes that are set in __dict__: keras_internals.hide() has to hide them another way"
    )
    model.save(tmp_path / "model.keras")
    assert not hasattr(keras.saving.load_model(tmp_path / "model.keras"), "teacher")
    del model.teacher
    assert not hasattr(model, "teacher")


def test_a_hidden_attribute_is_made_once():
    layer, made = keras.layers.Dense(1), []
    for _ in range(2):
        assert keras_internals.hidden(layer, "cache", lambda: made.append(1) or made) is made
    assert made == [1]


# Layers and models


class Shouting(keras.layers.Layer):
    def call(self, texts):
        return tf.strings.upper(tf.constant(texts))


def test_a_layer_takes_strings():
    layer = Shouting()
    for name in ("_convert_input_args", "_allow_non_tensor_positional_args"):
        assert isinstance(getattr(layer, name, None), bool), (
            f"Keras moved Layer.{name}: keras_internals.take_strings() sets it, so that a tokenizer can be called with strings"
        )
    with pytest.raises(ValueError):
        layer(["a"])
    keras_internals.take_strings(layer)
    assert layer(["a", "b"]).numpy().tolist() == [b"A", b"B"], (
        "Keras no longer leaves inputs alone with Layer._convert_input_args and Layer._allow_non_tensor_positional_args set"
    )


def test_all_layers_are_found_at_every_depth():
    assert hasattr(keras.Model, "_flatten_layers"), (
        "Keras moved Layer._flatten_layers: keras_internals.all_layers() walks a model's layers with it"
    )
    model = Model()
    dense = model.inner.layers[0]
    layers = keras_internals.all_layers(model)
    assert layers[0] is model and dense in layers and model.inner in layers
    assert len({id(layer) for layer in layers}) == len(layers)


def test_a_model_knows_the_strategy_under_which_it_was_made():
    assert hasattr(keras.Model(), "_distribute_strategy"), (
        "Keras moved Model._distribute_strategy: keras_internals.strategy_of() asks whether a model has a strategy"
    )
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = Model()
    assert keras_internals.strategy_of(model) is strategy
    assert keras_internals.strategy_of(Model()) is None


def test_fit_says_so_when_it_evaluates():
    model = trained(Model(), validation_data=(np.zeros((2, 2), "float32"), np.zeros((2, 1), "float32")))
    (from_fit,) = model.evaluations
    assert keras_internals.asked_by_fit(from_fit), (
        "Keras moved the argument _use_cached_eval_dataset: keras_internals.asked_by_fit() tells by it whether fit() evaluates"
    )
    model.evaluate(np.zeros((2, 2), "float32"), np.zeros((2, 1), "float32"), verbose=0)
    assert not keras_internals.asked_by_fit(model.evaluations[1])


def test_the_mean_of_a_loss_is_kept_in_the_metric_that_was_set():
    class Doubled(keras.metrics.Mean):
        def update_state(self, values, sample_weight=None):
            super().update_state(2 * values, sample_weight)

    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(loss="mean_squared_error")
    keras_internals.set_loss_mean(model, Doubled(name="loss"))
    data = np.ones((2, 1)), np.zeros((2, 1))
    mean = model.evaluate(*data, verbose=0, return_dict=True)["loss"]
    assert mean == 2, "Keras moved Trainer._loss_tracker: see keras_internals.set_loss_mean"


def test_a_model_is_built_from_the_batch_that_it_chooses():
    class Choosing(Model):
        def batch_to_build_from(self, batch):
            seen.append(keras.tree.map_structure(lambda value: value.shape, batch))
            return super().batch_to_build_from(batch)

    seen = []
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        trained(Choosing())
    assert seen == [((2, 2), (2, 1))], (
        "Keras moved Model._maybe_symbolic_build: keras_internals.BuiltFromFirstBatch overrides it, so that metrics are built "
        "from one replica's batch"
    )
    seen.clear()
    trained(Choosing())
    assert seen == []


# Optimizers


def test_the_schedule_of_an_optimizer_is_found():
    schedule = WarmupLinearDecay(1e-3, total_steps=10)
    assert keras_internals.learning_rate_schedule(keras.optimizers.AdamW(schedule)) is schedule, (
        "Keras moved Optimizer._learning_rate: keras_internals.learning_rate_schedule() finds the schedule there"
    )
    assert keras_internals.learning_rate_schedule(keras.optimizers.AdamW(1e-3)) is None


def test_batches_are_counted_while_gradients_are_accumulated():
    optimizer, variables = built(AdamW(gradient_accumulation_steps=2))
    assert hasattr(optimizer, "_iterations"), (
        "Keras moved Optimizer._iterations: keras_internals.batches_seen() counts the batches of a training by it"
    )
    for _ in range(2):
        optimizer.apply([tf.ones_like(variable.value) for variable in variables], variables)
    assert (keras_internals.batches_seen(optimizer), int(optimizer.iterations)) == (3, 1), (
        "Keras no longer counts batches in Optimizer._iterations"
    )


def test_loss_scaling_hides_neither_the_schedule_nor_the_count():
    schedule = WarmupLinearDecay(1e-3, total_steps=10)
    inner = AdamW(schedule)
    scaled, _ = built(keras.optimizers.LossScaleOptimizer(inner))
    assert keras_internals.unscaled(scaled) is inner and keras_internals.learning_rate_schedule(scaled) is schedule
    assert keras_internals.batches_seen(scaled) == 1, (
        "Keras no longer counts batches in the _iterations of the optimizer inside a LossScaleOptimizer"
    )


def test_waiting_gradients_are_found():
    optimizer, variables = built(AdamW(gradient_accumulation_steps=2))
    for name in ("_accumulated_gradients", "_trainable_variables"):
        assert hasattr(optimizer, name), (
            f"Keras moved Optimizer.{name}: keras_internals.waiting_gradients() makes the last step of a training of them"
        )
    waiting = keras_internals.waiting_gradients(optimizer)
    assert [variable is other for (variable, _), other in zip(waiting, variables)] == [True, True]
    assert all(np.all(gradient.numpy() == 1) for _, gradient in waiting)
    keras_internals.count_batches(optimizer, 5)
    assert keras_internals.batches_seen(optimizer) == 5


def test_a_metric_says_its_direction():
    metric = keras.metrics.MeanMetricWrapper(lambda targets, outputs: outputs, name="score")
    assert keras_internals.direction_of(keras.metrics.MeanSquaredError()) == "down", (
        "Keras moved Metric._direction: keras_internals.set_direction() says by it which figures are better if higher"
    )
    keras_internals.set_direction(metric, "up")
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=[metric])
    stop = keras.callbacks.EarlyStopping("score")  # without a direction this is an error after the first epoch
    model.fit(np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32"), verbose=0, callbacks=[stop])


def test_figures_are_listed_in_the_order_of_evaluate():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mse", "mae"])
    figures = model.evaluate(np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32"), verbose=0)
    assert len(figures) == 3 and hasattr(model, "_flatten_metrics_in_order"), (
        "Keras moved Model._flatten_metrics_in_order: keras_internals.in_list_order() orders figures by it"
    )
    assert keras_internals.in_list_order(model, ["mae", "other", "mse", "loss"]) == ["loss", "mse", "mae", "other"]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_moments_of_each_variable_are_found(kind):
    optimizer, variables = built(kind(global_clipnorm=None))
    for name in ("_momentums", "_velocities", "_get_variable_index"):
        assert hasattr(optimizer, name), (
            f"Keras moved {kind.__base__.__name__}.{name}: keras_internals.moments() finds the moments of a variable with it"
        )
    for variable in variables:
        mean, square = keras_internals.moments(optimizer, variable)
        assert mean.shape == square.shape == variable.shape
        np.testing.assert_allclose(mean, np.full(variable.shape, 1 - optimizer.beta_1), rtol=1e-4)
        np.testing.assert_allclose(square, np.full(variable.shape, 1 - optimizer.beta_2), rtol=1e-4)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_biases_are_excluded_from_the_decay(kind):
    optimizer, (kernel, bias) = built(kind())
    assert hasattr(optimizer, "_use_weight_decay"), (
        "Keras moved Optimizer._use_weight_decay: keras_internals.is_decayed() asks it which weights decay"
    )
    assert keras_internals.is_decayed(optimizer, kernel) and not keras_internals.is_decayed(optimizer, bias)


def test_an_optimizer_that_decays_in_its_step_has_no_other_decay():
    class Still(keras_internals.DecaysInItsStep, keras.optimizers.SGD):
        pass

    for kind, kept in [(Still, True), (keras.optimizers.SGD, False)]:
        variable = keras.Variable(np.ones(2, "float32"))
        optimizer = kind(0.1, weight_decay=0.5)
        optimizer.build([variable])
        optimizer.apply([tf.zeros(2)], [variable])
        assert (variable.numpy() == 1).all() == kept, (
            "Keras moved Optimizer._apply_weight_decay: keras_internals.DecaysInItsStep turns it off for LAMB"
        )


def test_gradients_are_seen_before_they_are_clipped_and_not_summed_again():
    class Doubling(keras_internals.SeesGradientsFirst, keras.optimizers.SGD):
        def prepare_gradients(self, gradients, variables):
            seen.append([gradient.numpy().tolist() for gradient in gradients])
            return self.sum_over_replicas([2 * gradient for gradient in gradients], variables)

    seen = []
    for name in ("_backend_apply_gradients", "_all_reduce_sum_gradients"):
        assert hasattr(keras.optimizers.SGD, name), (
            f"Keras moved Optimizer.{name}: keras_internals.SeesGradientsFirst overrides it, to sum gradients before clipping"
        )
    assert hasattr(keras.optimizers.SGD(), "_distribution_strategy"), (
        "Keras moved Optimizer._distribution_strategy: keras_internals.SeesGradientsFirst.replicas counts replicas with it"
    )
    optimizer, variable = Doubling(1.0, global_clipnorm=1.0), keras.Variable(np.zeros(2, "float32"))
    assert optimizer.replicas == 1
    optimizer.build([variable])
    optimizer.apply([tf.constant([3.0, 4.0])], [variable])
    assert seen == [[[3.0, 4.0]]], (
        "Keras no longer calls Optimizer._backend_apply_gradients with gradients that are not clipped yet"
    )
    np.testing.assert_allclose(variable.numpy(), [-0.6, -0.8], rtol=1e-5)
