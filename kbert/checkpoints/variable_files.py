"""Files of TensorFlow's variables: checkpoints with an object graph, and Keras's h5 and .keras. Nothing in them is run."""

from __future__ import annotations

import math
import pathlib
import zipfile
from typing import Any, NamedTuple, Protocol

import numpy as np

from kbert.checkpoints.object_graph_names import OPTIMIZER, name_of_class, names_in_order
from kbert.files.hdf5_file import datasets_of, open_hdf5

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class Variable(NamedTuple):
    """A variable in a file."""

    name: str  # the variable's own, which does not depend on where it is stored
    key: str  # where it is in the file
    shape: tuple[int, ...]
    dtype: str


class VariableFile(Protocol):
    """A file of variables."""

    path: pathlib.Path
    variables: list[Variable]
    left_out: list[str]  # the keys of an optimizer's variables, of metrics and of counters

    def read(self, key: str) -> np.ndarray:
        """Returns the numbers of a variable."""

    def close(self) -> None:
        """Closes the file."""


class GraphFile:
    """A TensorFlow 2 checkpoint. `tf.train` reads it, which runs no code of the model.

    Args:
      prefix: the path of its files without `.index`.

    Raises:
      ValueError: the files cannot be read, or hold no object graph.
    """

    def __init__(self, prefix: pathlib.Path) -> None:
        import tensorflow as tf
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        self.path = prefix
        try:
            self._reader = tf.train.load_checkpoint(str(prefix))
            shapes, dtypes = self._reader.get_variable_to_shape_map(), self._reader.get_variable_to_dtype_map()
            graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(self._reader.get_tensor(GRAPH))
        except Exception as error:  # TensorFlow raises an OpError, a RuntimeError or an IndexError; protobuf has its own
            raise ValueError(f"{prefix} cannot be read ({_line(error)}); are all of its .data files there and whole?") from None
        self.variables, self.left_out = [], []
        for node in graph.nodes:
            for attribute in node.attributes:
                key, name = attribute.checkpoint_key, attribute.full_name
                if key not in shapes:
                    continue
                short = key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
                if OPTIMIZER.search(short):
                    self.left_out.append(key)
                    continue
                name = "do_lower_case" if name == "Variable" and dtypes[key] == tf.bool else name
                self.variables.append(Variable(name, key, tuple(shapes[key]), dtypes[key].name))

    def read(self, key: str) -> np.ndarray:
        """Returns the numbers of a variable."""
        import tensorflow as tf

        if self._reader is None:
            raise ValueError(f"{self.path} was closed: open it again to read {key}")
        try:
            return np.asarray(self._reader.get_tensor(key))
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({_line(error)}); fetch it again") from None

    def close(self) -> None:
        """Closes the files: TensorFlow's reader does so when nothing refers to it."""
        self._reader = None


class KerasFile:
    """A .h5, .weights.h5 or .keras file of weights. The model's description in it is not read, and so no Lambda layer is run.

    Args:
      path: the path of the file.

    Raises:
      ValueError: the file cannot be read.
    """

    def __init__(self, path: pathlib.Path) -> None:
        import h5py

        self.path = path
        self.variables: list[Variable] = []
        self.left_out: list[str] = []
        self._open: list[Any] = []
        self._datasets: dict[str, Any] = {}
        try:
            if path.suffix == ".keras":
                self._open.append(zipfile.ZipFile(path))
                self._open.append(self._open[0].open("model.weights.h5"))
                self._open.append(h5py.File(self._open[1], "r"))
            else:
                self._open.append(open_hdf5(path))
            for key, dataset in datasets_of(self._open[-1], path).items():
                self._note(key, dataset)
        except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
            self.close()
            raise ValueError(f"{path} cannot be read ({_line(error)}); fetch it again") from None
        except BaseException:
            self.close()
            raise
        self._name()

    def _note(self, key: str, item: Any) -> None:
        """Notes a dataset."""
        if key.startswith("optimizer") or OPTIMIZER.search(key):
            self.left_out.append(key)
        else:
            self._datasets[key] = item

    def _name(self) -> None:
        """Gives each dataset the name of its variable. Keras 3's layout has numbers, from which the names follow."""
        groups: dict[str, list[str]] = {}
        for key in self._datasets:
            groups.setdefault(key.rpartition("/")[0], []).append(key)
        numbered: dict[str, str] = {}
        for group, keys in groups.items():
            names = names_in_order(len(keys)) if group.endswith("vars") else None
            numbered.update({f"{group}/{n}": name for n, name in enumerate(names or [])})
        for key, dataset in self._datasets.items():
            if key.endswith(":0"):
                name = key.removeprefix("model_weights/").partition("/")[2].removesuffix(":0")
            else:
                name = numbered.get(key) or name_of_class(key) or key
            name = "do_lower_case" if dataset.dtype == bool and not dataset.shape else name
            self.variables.append(Variable(name, key, tuple(dataset.shape), str(dataset.dtype)))

    def read(self, key: str) -> np.ndarray:
        """Returns the numbers of a variable."""
        try:
            return self._datasets[key][...]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({_line(error)}); fetch it again") from None

    def close(self) -> None:
        """Closes the files."""
        for file in reversed(self._open):
            file.close()


def side_by_side(shape: tuple[int, ...], key_like: str) -> tuple[int, ...]:
    """Returns the shape of a weight of attention with its heads side by side; of others, the shape as it is.

    >>> side_by_side((16, 2, 8), "encoder/layer_0/attention/self/query/kernel")
    (16, 16)

    Args:
      shape: the shape as stored.
      key_like: Google's name of the weight.
    """
    if "/attention/self/" in key_like:
        return (*shape[:1], math.prod(shape[1:])) if key_like.endswith("kernel") else (math.prod(shape),)
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) == 3 else shape


def _line(error: Exception) -> str:
    """Returns the first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
