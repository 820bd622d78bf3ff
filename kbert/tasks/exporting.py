"""What exported files are made of and compared with; each default is for the task that does not say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.tasks.columns import plain_columns
from kbert.tasks.encoding import Encoding
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput, OnnxAnswer
from kbert.tasks.one_window import fixed_shape
from kbert.tasks.probes import PROBES
from kbert.text.packing import TextPreprocessor


class Exporting(Encoding):
    """What a task says about its exported files; a part of `Task`."""

    @property
    def text_inputs(self) -> tuple[str, ...]:
        """What an exported graph's strings are called: the names of the task's first form of columns."""
        return self.columns[0].names

    @property
    def served_labels(self) -> Sequence[str]:
        """The names along the last axis of the outputs. If there are any, a SavedModel has a signature that returns them."""
        return ()

    served_in_batches = True  # whether a server is faster if it joins requests (docs/serving.md has the measurement)
    onnx_output = "logits"  # the name of the one output of an ONNX file that takes ids

    def serve(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what an exported graph answers for strings, in ops of a graph.

        Args:
          *texts: strings `[B]`, one tensor for each of `text_inputs`.
        """
        raise NotImplementedError(
            f"a {type(self).__name__} cannot be exported; save() and save_to_preset() keep it, and its encoder can be a task's"
        )

    def serve_tokens(self, packed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what an exported graph answers for packed inputs: the outputs of a call, by name.

        Args:
          packed: the packed dictionary, int32 `[B, L]` each.
        """
        outputs = self(packed, training=False)
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    @property
    def reads_one_window(self) -> bool:
        """Whether the task cuts a text that is longer than `max_length`, so that one window gives its whole answer."""
        return False

    def string_inputs(self, pairs: bool | None = None) -> tuple[str, ...]:
        """Returns the names of an exported graph's string inputs.

        Args:
          pairs: whether the graph takes pairs of texts; by default it does if the task was trained on pairs.

        Raises:
          ValueError: the task has no answer to pairs.
        """
        if self.trained_on_pairs if pairs is None else pairs:
            raise ValueError("pairs=True is for a TextClassifier without windows")
        return self.text_inputs

    def text_columns(self, texts: Any) -> tuple[list, ...]:
        """Returns texts in memory as plain columns; raises an error that names what is no text.

        Args:
          texts: texts, or a tuple of two columns.
        """
        return plain_columns(self.columns, texts, "texts")

    def probes(self, pairs: bool | None = None) -> tuple[list[str], ...]:
        """Returns the columns of texts on which an exported file is compared with the task: those that are hard for it.

        There are two columns if `pairs` is true or the task reads two texts.

        Args:
          pairs: whether the file takes pairs of texts; by default it does if the task was trained on pairs.
        """
        pairs = self.trained_on_pairs if pairs is None else pairs
        return (PROBES, PROBES[::-1]) if pairs or len(self.text_inputs) == 2 else (PROBES,)

    def fitting(self, columns: tuple[Sequence[str], ...], max_length: int | None = None) -> tuple[Sequence[str], ...]:
        """Returns the texts whose whole answer a file gives that reads one window.

        Args:
          columns: texts, or pairs as two columns.
          max_length: the positions of the file's window; the task's own by default.
        """
        length = max_length or self.preprocessor.max_length
        if self.reads_one_window and length == self.preprocessor.max_length:
            return columns  # the task cuts a long text at the same place
        pieces = sum(self.tokenizer(column).row_lengths().numpy() for column in columns)
        fits = np.flatnonzero(pieces + 1 + len(columns) <= length)
        return tuple([column[int(place)] for place in fits] for column in columns)

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        """Returns the task's own answers to columns of texts, in the form in which a file's answers are compared with them."""
        raise NotImplementedError(f"a {type(self).__name__} has no answer to a text")

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        """Returns the outputs of an exported graph that takes texts, in the form of `expected_answers`."""
        raise NotImplementedError(f"a {type(self).__name__} has no answer to a text")

    def decided(self, outputs: Mapping[str, np.ndarray]) -> tuple:
        """Returns the decisions that follow from the outputs for one text: by default the place of the largest value of each.

        Args:
          outputs: the outputs for one text by name, without the axis of the texts and without padding.
        """
        best = {name: np.atleast_1d(value.argmax(-1)).tolist() for name, value in outputs.items()}
        return tuple((name, *place) for name, places in best.items() for place in enumerate(places))

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Returns the further signatures of a SavedModel: graph functions of the string inputs, by name.

        TF Serving's Classify API asks for `classify` with the outputs `classes` and `scores`, its Regress API for `regress`
        with the output `outputs`.
        """
        return {}

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns a function of strings `[1]` that answers from one window, in ops that LiteRT has.

        Args:
          preprocessor: the preprocessor that makes the window, with a fixed length.

        Raises:
          NotImplementedError: the task has no answer to a text; ValueError: its answer needs more than one window.
        """
        if not self.reads_one_window:
            raise NotImplementedError(f'a {type(self).__name__} has no answer to a text; inputs="tokens" gives its outputs')
        return lambda *texts: self.serve_tokens(fixed_shape(preprocessor, preprocessor.call(texts)))

    def check_static_ranges(self) -> None:
        """Raises a ValueError if the task's products cannot have ranges that are found before it runs."""

    def onnx_answer(self) -> OnnxAnswer | None:
        """Returns how an ONNX file that takes text turns logits into an answer; None if its outputs are the answer.

        Raises:
          ValueError: the task does not read a text in one window.
        """
        if not self.reads_one_window:
            raise ValueError(
                'inputs="text" is for a TextClassifier or a TextEmbedder that reads one window, not for this '
                f'{type(self).__name__}; inputs="tokens" gives its outputs'
            )
        return None

    def mediapipe_output(self) -> MediaPipeOutput:
        """Returns what MediaPipe's metadata say about the task; raises a ValueError if MediaPipe has no such task."""
        raise ValueError(f"MediaPipe has tasks for a TextClassifier and a TextEmbedder, not for a {type(self).__name__}")
