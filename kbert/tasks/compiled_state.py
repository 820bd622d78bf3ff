"""Writes into files what a task was compiled with: its loss, its metrics, its optimizer and the optimizer's weights."""

from __future__ import annotations

from typing import Any

import keras

from kbert.tasks.measuring import Measuring
from kbert.training import keras_internals
from kbert.training.trainable_flags import paths_of


class CompiledState(Measuring):
    """The part of `Task` that writes the arguments of `compile` into a file's configuration, and compiles by them again."""

    _has_default_loss = False  # whether `compile` was left to choose the loss

    def get_compile_config(self) -> dict[str, Any]:
        """Returns Keras's dictionary for `compile_from_config`, with the paths of the weights that the optimizer was built for.

        A default loss is written as `"auto"`, because a task may choose it by its data.
        """
        config = super().get_compile_config()
        if not config:
            return config
        if self._has_default_loss:
            config["loss"] = "auto"
        paths = {id(part): path for path, part in paths_of(self).items()}
        variables = keras_internals.optimized(self.optimizer) if self.optimizer.built else []
        config["optimized"] = [paths.get(id(variable)) for variable in variables]
        return config

    def compile_from_config(self, config: dict) -> None:
        """Compiles a loaded task as the saved one was. By itself Keras leaves a model with a `compile` of its own uncompiled.

        Args:
          config: the dictionary that `get_compile_config` gave.
        """
        optimized = config.get("optimized")
        settings = {name: value for name, value in config.items() if name != "optimized"}
        self.compile(**keras.saving.deserialize_keras_object(settings))
        if optimized == []:
            return  # it had no state
        parts = paths_of(self)
        # Weights that were frozen after some steps still have a state, so that these are not always the trainable ones.
        variables = [parts[path] for path in optimized or [] if path in parts]
        self._build_optimizer(variables if variables and len(variables) == len(optimized or []) else None)

    def _build_optimizer(self, variables: list[keras.Variable] | None = None) -> None:
        """Makes the optimizer's variables now. Made inside the first step, they would cost a second trace of that step.

        Args:
          variables: the weights to train; by default all that are trainable.
        """
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables if variables is None else variables)
