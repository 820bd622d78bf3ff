"""The configuration files of TF Serving: text protos of batching parameters and of a list of models."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

PER_MODEL = "batching_params.pbtxt"  # tensorflow_serving/servables/tensorflow/bundle_factory_util.cc, in a version's folder


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are joined, with TF Serving's names and defaults.

    Sources: tensorflow_serving/servables/tensorflow/session_bundle_config.proto for the names, shared_batch_scheduler.h for the
    defaults.

    Args:
      max_batch_size: the most rows of a request, and of a batch unless large requests are split.
      batch_timeout_micros: how many microseconds the first request of a batch waits for others.
      max_enqueued_batches: how many batches of a signature may wait.
      num_batch_threads: how many batches are run at a time, of all models together.
      thread_pool_name: a name, which acts on nothing here.
      allowed_batch_sizes: numbers of rows that a batch may have, ascending; the last is `max_batch_size`.
      pad_variable_length_inputs: whether tensors of other axes are padded. It is refused: padding would become tokens.
      enable_large_batch_splitting: whether a request may be cut.
      max_execution_batch_size: the most rows of a batch if large requests are split.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self) -> None:
        least = {"max_batch_size": 1, "batch_timeout_micros": 0, "max_enqueued_batches": 1, "num_batch_threads": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} should be at least {smallest}, got {getattr(self, name)}")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise ValueError(f"allowed_batch_sizes should ascend to max_batch_size {self.max_batch_size}, got {list(sizes)}")
        if self.pad_variable_length_inputs:
            raise ValueError("leave out pad_variable_length_inputs: it pads with a tensor's first value, which is a real token")
        if self.most_rows > self.max_batch_size or self.most_rows < 1:
            raise ValueError(
                f"max_execution_batch_size should be from 1 to max_batch_size {self.max_batch_size}, got {self.most_rows}"
            )

    @property
    def most_rows(self) -> int:
        """The most rows of a batch."""
        return (self.max_execution_batch_size if self.enable_large_batch_splitting else 0) or self.max_batch_size


WRAPPED = {int: "Int64Value", str: "StringValue", bool: "BoolValue"}
# The fields of the message: its number, its type, and whether a message of its own holds the value.
FIELDS: dict[str, tuple[int, type, bool]] = {
    "max_batch_size": (1, int, True),
    "batch_timeout_micros": (2, int, True),
    "max_enqueued_batches": (3, int, True),
    "num_batch_threads": (4, int, True),
    "thread_pool_name": (5, str, True),
    "allowed_batch_sizes": (6, int, False),
    "pad_variable_length_inputs": (7, bool, False),
    "enable_large_batch_splitting": (8, bool, True),
    "max_execution_batch_size": (9, int, True),
}


def _batching_message() -> Any:
    """Returns an empty BatchingParameters message. tensorflow-serving-api has no module for it."""
    name, proto = "kbert_serving/batching_parameters.proto", descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=name, package="kbert_serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for key, (number, kind, is_wrapped) in FIELDS.items():
        added = message.field.add(name=key, number=number, label=proto.LABEL_OPTIONAL)
        if is_wrapped:
            added.type, added.type_name = proto.TYPE_MESSAGE, f".google.protobuf.{WRAPPED[kind]}"
        else:
            added.type = proto.TYPE_BOOL if kind is bool else proto.TYPE_INT64
        if key == "allowed_batch_sizes":
            added.label = proto.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kbert_serving.BatchingParameters"))()


def _parsed(path: str | pathlib.Path, message: Any) -> Any:
    """Returns a message as a text file describes it."""
    try:
        return text_format.Parse(pathlib.Path(path).read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} should be a {message.DESCRIPTOR.name} as text: {error}") from None


def read_batching_parameters(path: str | pathlib.Path) -> BatchingParameters:
    """Reads a file of batching parameters, as `--batching_parameters_file` names one.

    Args:
      path: the file, a BatchingParameters message as text.

    Raises:
      ValueError: the file is no such text, or a value is out of its range.
      OSError: the file cannot be read.
    """
    message = _parsed(path, _batching_message())
    values: dict[str, Any] = {}
    for key, (_, _, is_wrapped) in FIELDS.items():
        if is_wrapped and message.HasField(key):
            values[key] = getattr(message, key).value
        elif not is_wrapped and getattr(message, key):
            value = getattr(message, key)
            values[key] = value if key == "pad_variable_length_inputs" else tuple(value)
    try:
        return BatchingParameters(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True)
class ModelSettings:
    """Where a model is, which of its versions are served, and by which labels.

    Sources: tensorflow_serving/config/model_server_config.proto and file_system_storage_path_source.proto.

    Args:
      folder: the folder of the versions.
      latest: how many of the newest versions are served; None for all.
      specific: the numbers of the versions that are served, in the place of the newest.
      labels: a dictionary from a label to the number of its version.
    """

    folder: str | pathlib.Path
    latest: int | None = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_config(path: str | pathlib.Path) -> dict[str, ModelSettings]:
    """Reads a list of models, as `--model_config_file` names one.

    A `base_path` that is no folder of this machine is looked for below the file's own folder, where the compose file of
    `export_serving` mounts it from.

    Args:
      path: the file, a ModelServerConfig message as text.

    Returns:
      The settings of each model by its name.

    Raises:
      ValueError: the file is no such text, or a model cannot be served as it asks.
      OSError: the file cannot be read.
    """
    from tensorflow_serving.config import model_server_config_pb2

    path = pathlib.Path(path)
    models: dict[str, ModelSettings] = {}
    for config in _parsed(path, model_server_config_pb2.ModelServerConfig()).model_config_list.config:
        if not config.name or config.name in models:
            raise ValueError(f"{path}: each model should have a name of its own, got {config.name!r}")
        if config.model_platform != "tensorflow":
            raise ValueError(f'{path}: model_platform of {config.name} should be "tensorflow", got {config.model_platform!r}')
        folder = pathlib.Path(config.base_path)
        if not folder.is_absolute():
            raise ValueError(f"{path}: base_path of {config.name} should be absolute, got {config.base_path!r}")
        if not folder.is_dir():
            folder = path.parent.joinpath(*folder.parts[1:])
        policy, kind = config.model_version_policy, config.model_version_policy.WhichOneof("policy_choice")
        if kind == "specific" and not policy.specific.versions:
            raise ValueError(f"{path}: the policy of {config.name} names no version")
        models[config.name] = ModelSettings(
            folder,
            None if kind == "all" else max(policy.latest.num_versions, 1),
            tuple(policy.specific.versions) if kind == "specific" else (),
            dict(config.version_labels),
        )
    if not models:
        raise ValueError(f"{path} names no model")
    return models
