"""Builds an encoder from an opened checkpoint and fills it with the checkpoint's weights."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeVar

import keras

from kbert.checkpoints.names import Config
from kbert.checkpoints.opened import Opened, open_preset
from kbert.checkpoints.untrained_weights import warn_of_new_weights
from kbert.checkpoints.weights import check_left_over, initialize, load_weights
from kbert.encoders.layers import initial_values, weights_left_empty

E = TypeVar("E", bound=keras.Model)


class FilledEncoder(NamedTuple):
    """An encoder with the weights of a checkpoint."""

    encoder: Any
    used: set[str]  # the names of the tensors that were read
    new_weights: list[str]  # what a notice calls the weights that the checkpoint lacks


def load_encoder(cls: type[E], preset: Any, add_pooling_layer: bool | None = None, **kwargs: Any) -> E:
    """Returns the encoder of a preset. A head in the checkpoint is left out.

    Args:
      cls: the class of the encoder, or a class that the encoder's is derived from.
      preset: a built-in name, `hf://owner/name@revision`, a folder, or a live model of KerasHub.
      add_pooling_layer: False leaves the pooler out. None leaves it to the configuration.
      **kwargs: for the encoder's constructor.

    Raises:
      ValueError: the preset holds another kind of encoder, or a weight is missing, left over or of a wrong shape.
    """
    with open_preset(preset) as opened:
        encoder, used, new_weights = read_encoder(cls, opened, add_pooling_layer, **kwargs)
        check_left_over(opened.checkpoint, used, encoder.config, opened.family)
    warn_of_new_weights(opened.name, new_weights)
    return encoder


def read_encoder(cls: type, opened: Opened, add_pooling_layer: bool | None = None, **kwargs: Any) -> FilledEncoder:
    """Builds the encoder of an opened checkpoint and fills it.

    Args:
      cls: the class of the encoder, or a class that the encoder's is derived from.
      opened: the checkpoint.
      add_pooling_layer: False leaves the pooler out. None leaves it to the configuration.
      **kwargs: for the encoder's constructor. None stands for the constructor's default.

    Raises:
      ValueError: the checkpoint holds another kind of encoder, or a weight is missing or of a wrong shape.
    """
    config = opened.config
    if add_pooling_layer is not None:
        config = dataclasses.replace(config, add_pooling_layer=add_pooling_layer)
    encoder_class = class_for(cls, config)
    if encoder_class is None:
        raise ValueError(
            f"{opened.folder} holds a {opened.family.name}, whose configuration is a {type(config).__name__}, and a "
            f"{cls.__name__} takes another: open it with the encoder of that name"
        )
    checkpoint = opened.checkpoint
    with weights_left_empty():
        encoder = encoder_class(config, **{key: value for key, value in kwargs.items() if value is not None})
    used, missing = load_weights(encoder, opened.family.rules(config), checkpoint)
    of_blocks = [path for path in missing if not path.startswith("pooler.")]
    if of_blocks:
        more = f" and {len(of_blocks) - 1} more weights" if len(of_blocks) > 1 else ""
        raise ValueError(
            f"{checkpoint.path} lacks {of_blocks[0]}{more} of the encoder; is it the checkpoint that config.json describes?"
        )

    def first_values(shape: tuple[int, ...], dtype: Any) -> Any:
        return initial_values(config.initializer_range)(shape, dtype=dtype)

    initialize(encoder, missing, first_values)
    return FilledEncoder(encoder, used, ["the pooler"] if missing else [])


def class_for(cls: type, config: Config) -> Any:
    """Returns the class of encoder that a configuration describes, or None.

    An encoder class names the class of its configurations in `config_class`. So this module imports no encoder class, and
    the files of those classes may import this module.

    Args:
      cls: the class that is asked first. Then come the classes that are derived from it.
      config: a configuration.
    """
    candidates: list[Any] = [cls]
    for candidate in candidates:  # the list grows while it is walked, so that the nearest classes come first
        if candidate.config_class is type(config):
            return candidate
        candidates += candidate.__subclasses__()
    return None
