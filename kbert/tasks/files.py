"""A task's files: `.keras`, preset folders, exports."""

from __future__ import annotations

import os
import pathlib
import zipfile
from typing import Any

import keras

from kbert.arguments import yes_or_no
from kbert.files.keras_file import LAMBDA, unknown_objects
from kbert.files.targets import KERAS, format_by_name, kind_by_name
from kbert.tasks.encoding import Encoding
from kbert.tasks.model_card import card_of
from kbert.training.whole_files import WholeFiles


class Files(WholeFiles, Encoding):
    """What a task has to do with files; a part of `Task`."""

    def save_to_preset(self, folder: str | os.PathLike, layout: str = "huggingface") -> None:
        """Writes a folder that `from_preset` opens, and others too.

        >>> task.save_to_preset("emotion")  # doctest: +SKIP

        These files have no place for lengths, windows, trainable flags and other settings of the task, its preprocessor
        and its tokenizer.
        `kbert.json` beside them holds those settings. `README.md` is a model card with labels, figures and training settings. A
        card that you wrote or changed stays as it is. The weights are written as float32. `from_preset` chooses the dtype
        policy anew. Only `save` keeps the optimizer and the loss.

        Args:
          folder: the folder to write; it is made if it is not there. A preset of the same layout is replaced as a whole; files
            that belong to no model stay.
          layout: `"huggingface"` (config.json, vocab.txt, tokenizer_config.json, model.safetensors), which transformers opens;
            `"google"` (bert_config.json, vocab.txt, bert_model.ckpt.*) or `"keras_hub"` (config.json, model.weights.h5, ...).

        Raises:
          ValueError: there is no such layout, or the layout has no place for this encoder or head; or the folder has the name
            of a file, or holds a model of another layout.
        """
        from kbert.checkpoints.opened import writer_of

        writer_of(layout)(folder, self.encoder, self.preprocessor, self, **self.beside_weights(folder, layout))

    def beside_weights(self, folder: str | os.PathLike, layout: str) -> dict[str, Any]:
        """Returns what `save_to_preset` writes beside the weights: the settings for kbert.json and the card.

        Args:
          folder: the folder, whose name the card has.
          layout: the layout.
        """
        name = os.path.basename(os.path.abspath(folder))
        return {"settings": self.preset_settings(), "card": card_of(self, layout, name)}

    def to_keras_hub(self) -> Any:
        """Returns the task as a live KerasHub model with the same weights; a warning says by how much the outputs differ.

        Raises:
          ValueError: KerasHub's `BertBackbone` has no place for this encoder or head.
        """
        from kbert.checkpoints.keras_hub import to_keras_hub

        return to_keras_hub(self.encoder, self.preprocessor, self)

    def export(self, path: str | os.PathLike, format: str | None = None, **kwargs: Any) -> pathlib.Path:
        """Writes the task, from string to answer, for where it is to run.

        >>> task.export("models/emotion/1")  # doctest: +SKIP
        >>> task.export("emotion.tflite", quantize="int8")  # doctest: +SKIP
        >>> task.export("emotion.onnx", inputs="tokens")  # doctest: +SKIP

        Args:
          path: the folder (a SavedModel) or file to write; it must not exist, unless `overwrite=True`.
          format: `"tf_saved_model"` for TF Serving, `"litert"` for phones, or `"onnx"`. By default the path's suffix says it:
            `.tflite` is LiteRT, `.onnx` is ONNX, and a name without such a suffix is a SavedModel's folder.
          **kwargs: the options of the format, described in `kbert.export.export_saved_model`, `export_litert` and
            `export_onnx`.

        Returns:
          The path.

        Raises:
          ValueError: there is no such format, the suffix of the path names another one, or an option has a value that the
            format does not take.
          TypeError: the format has no such option.
          RuntimeError: the file that was written answers otherwise than the task.
        """
        from kbert.export import export_litert, export_onnx, export_saved_model

        writers: dict[str, Any] = {"tf_saved_model": export_saved_model, "litert": export_litert, "onnx": export_onnx}
        if format is None:
            format = format_by_name(path)
        if format not in writers:
            raise ValueError(f"format should be one of {', '.join(writers)}, got {format!r}")
        return writers[format](self, pathlib.Path(path), **kwargs)


def load(path: str | os.PathLike, custom_objects: dict[str, Any] | None = None, compile: bool = True) -> Any:
    """Returns the task in a `.keras` file that `save` wrote, with its vocabulary and labels.

    >>> task = load("emotion.keras")  # doctest: +SKIP
    >>> task = load("emotion.keras", custom_objects={"focal_loss": focal_loss})  # doctest: +SKIP

    Args:
      path: the file.
      custom_objects: functions and classes of your own that the task was compiled with, by name. One that is decorated with
        `@keras.saving.register_keras_serializable()` need not be given.
      compile: whether the task is compiled as it was, with its loss and with its optimizer's state. If it is False, none of
        these is read, and `fit` starts anew.

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: the file names a function or a class that is not known.
      ValueError: the file is not a .keras file, or is broken off.
    """
    yes_or_no(compile=compile)
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}; a preset folder is opened by from_preset")
    named = kind_by_name(path)
    if named != KERAS:
        what = "" if named is None else f", but that of {named.name}"
        raise ValueError(f"{path} is not the name of a .keras file{what}; load opens those that save wrote")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a whole .keras file, which is a zip archive: it may be broken off; save it again")
    unknown = unknown_objects(path, custom_objects or {}, compile)
    if unknown:
        cures = ["custom_objects={" + ", ".join(f'"{name}": {name}' for name in unknown) + "}"]
        if LAMBDA in unknown:
            cures = ["a named function in its place before save()"]
        if unknown == unknown_objects(path, custom_objects or {}, compile, only_compiled=True):
            cures.append("compile=False, to answer without the training's state")
        raise TypeError(
            f"{path} was saved with {' and '.join(unknown)}, which kbert and Keras do not have: give {', or '.join(cures)}"
        )
    return keras.saving.load_model(path, custom_objects=custom_objects, compile=compile)
