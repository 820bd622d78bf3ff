"""Lets callbacks see one training where Keras runs several parts, each with a `fit` of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

HOOKS = [
    f"on_{place}_{moment}"
    for place in ("epoch", "train_batch", "test", "test_batch", "predict", "predict_batch")
    for moment in ("begin", "end")
]


class OneTraining(keras.callbacks.Callback):
    """A callback that passes all calls on to others, except those at the beginning and the end of a part.

    EarlyStopping, for example, forgets its best figure at each beginning, and restores the best weights at each end.

    Args:
      callbacks: the callbacks of the whole training.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.callbacks, self._has_begun = list(callbacks), False
        for name in HOOKS:
            setattr(self, name, self._to_all(name))

    def _to_all(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            for callback in self.callbacks:
                getattr(callback, name)(*arguments, **options)

        return call

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._has_begun:
            self._has_begun = True
            for callback in self.callbacks:
                callback.on_train_begin(logs)

    def finish(self, logs: dict[str, Any] | None = None) -> None:
        """Tells all callbacks that the training has ended; `logs` are the figures of the last epoch."""
        for callback in self.callbacks:
            callback.on_train_end(logs)
