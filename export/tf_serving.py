"""A folder for TF Serving: the model with its version, warm-up requests, configurations, and a client."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kbert.arguments import plain_name, whole_number
from kbert.export.client import MOST_ROWS
from kbert.export.models_config import Served, with_model
from kbert.export.saved_model import export_saved_model
from kbert.export.warm_up import write_warm_up
from kbert.files.atomic import written_aside
from kbert.messages import shown

if TYPE_CHECKING:
    from kbert.tasks.task import Task

MODELS_CONFIG, COMPOSE_FILE, CLIENT = "models.config", "docker-compose.yml", "client.py"  # the kit's files beside models/

# docs/serving.md says how these were chosen, and why nothing else is set. A version without parameters is not batched.
BATCHING = f"""max_batch_size {{ value: {MOST_ROWS} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
"""

COMPOSE = """services:
  serving:
    # TensorFlow 2.20 and tensorflow-text 2.20: the newest stock image. Exported folders are tested in TensorFlow 2.20.
    image: tensorflow/serving:2.20.0
    command:
      - --model_config_file=/config/models.config
      - --model_config_file_poll_wait_seconds=30
      # Labels are read before any version is loaded.
      - --allow_version_labels_for_unavailable_models=true
      - --enable_batching=true
      # The parameters stand in each version's folder: batching_params.pbtxt.
      - --enable_per_model_batching_parameters=true
    ports: ["8500:8500", "8501:8501"]  # gRPC, REST
    volumes:
      - ./models:/models:ro
      # The folder and not the file, because a container keeps the old file when a file is replaced.
      - .:/config:ro
    restart: unless-stopped
    healthcheck:
      # Every model of the list has a version that answers. The image has bash, and neither curl nor wget.
      test:
        - CMD
        - bash
        - -c
        - |
          for name in $$(grep -v '^ *#' /config/models.config | grep -o '\\bname: *"[^"]*"' | cut -d'"' -f2); do
            exec 3<>/dev/tcp/127.0.0.1/8501 || exit 1
            printf 'GET /v1/models/%s HTTP/1.0\\r\\n\\r\\n' "$$name" >&3
            grep -q '"AVAILABLE"' <&3 || exit 1
          done
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 2m
"""


def export_serving(
    task: Task,
    folder: str | pathlib.Path,
    name: str = "model",
    quantize: str | None = None,
    pairs: bool | None = None,
    verify: bool = True,
    latest: int | None = None,
    versions: Sequence[int] | None = None,
    version_labels: Mapping[str, int | None] | None = None,
) -> pathlib.Path:
    """Writes a folder from which TF Serving serves a task: `docker compose up` in it, or `kbert serve folder/models/NAME`.

    >>> export_serving(task, "serving", name="spam")  # doctest: +SKIP

    The folder holds `models/NAME/VERSION`, the next version with warm-up requests and batching parameters; `models.config`,
    the list of models; `docker-compose.yml`; and `client.py`, which asks by REST or by gRPC. If the function is called again
    with a task that was trained further, or with another name, a running server takes the new version or the new model.

    Args:
      task: a task with a preprocessor.
      folder: the folder, which is made if it is not there. In `models.config` the model is added or changed, and everything
        else stays as it is written. A compose file and a client that are there stay as they are.
      name: the name of the model, of ASCII letters, digits, '-', '_' and '.'.
      quantize: `"float16"` stores the weights in half the bytes.
      pairs: whether a `TextClassifier` takes pairs of texts; by default it does if it was trained on pairs.
      verify: open what was written, and compare its answers on a built-in set of texts with the task's, before it takes its
        place.
      latest: the number of versions that the server loads, the newest. By default it loads the newest one, or what
        `models.config` says already.
      versions: the numbers of the versions that the server loads, in place of the newest.
      version_labels: names for versions, by which clients can ask for them, for example `{"stable": 1, "canary": None}`. None
        is the version that is written. Other labels that `models.config` has stay.

    Returns:
      The path of the version.

    Raises:
      ValueError: a name has other characters, the task has no preprocessor, a version is missing, a label names a version
        that the server would not load, or `models.config` cannot be read; the line is named.
      FileExistsError: the folder is a SavedModel's, or holds files of the kit's names that are another program's.
      ImportError: the extra `serving` is missing.
      RuntimeError: the answers differ; the texts are named.
    """
    folder = pathlib.Path(folder)
    plain_name("name", name)
    number = next_version(folder, name)
    served = served_versions(number, latest, versions, version_labels)
    check_kit(folder)
    listed_versions(folder, name, served, number)
    path = folder / "models" / name / str(number)

    def beside(aside: pathlib.Path) -> None:
        write_warm_up(aside, name)
        if task.served_in_batches:
            (aside / "batching_params.pbtxt").write_text(BATCHING, encoding="utf-8")

    export_saved_model(task, path, quantize=quantize, pairs=pairs, verify=verify, beside=beside)
    write(folder / MODELS_CONFIG, listed_versions(folder, name, served, number))
    for file, content in kit_files().items():
        if not (folder / file).exists():
            write(folder / file, content)
    return path


def kit_files() -> dict[str, str]:
    """Returns the kit's files that are the same for every model, by name."""
    return {COMPOSE_FILE: COMPOSE, CLIENT: pathlib.Path(__file__).with_name(CLIENT).read_text(encoding="utf-8")}


def numbers_in(folder: pathlib.Path, name: str) -> set[int]:
    """Returns the numbers of a model's versions in a kit's folder."""
    versions = folder / "models" / name
    names = [path.name for path in versions.iterdir()] if versions.is_dir() else []
    return {int(name) for name in names if name.isascii() and name.isdecimal()}


def next_version(folder: pathlib.Path, name: str) -> int:
    """Returns the number of the version to write.

    Raises:
      FileExistsError: the model's folder is a SavedModel itself.
    """
    if (folder / "models" / name / "saved_model.pb").exists():
        raise FileExistsError(
            f"{folder / 'models' / name} is a SavedModel itself, where folders that are named by a version's number should "
            "stand; move it away, or give another name"
        )
    return max(numbers_in(folder, name), default=0) + 1


def served_versions(
    number: int, latest: int | None, versions: Sequence[int] | None, labels: Mapping[str, int | None] | None
) -> Served:
    """Returns which versions a server should load, from the arguments of `export_serving`.

    Args:
      number: the number of the version that is written.
      latest: the number of newest versions.
      versions: the numbers of the versions.
      labels: versions by label; None for the one that is written.

    Raises:
      ValueError: an argument is not of its kind, or both of the first two are given.
    """
    if latest is not None and versions is not None:
        raise ValueError("latest and versions both say which versions the server loads; give one of them")
    if latest is not None:
        whole_number("latest", latest)
    if versions is not None and not len(versions):
        raise ValueError("versions should name at least one version, got none")
    for version in versions or ():
        whole_number("versions", version)
    for label, of_label in (labels or {}).items():
        plain_name("a version's label", label)
        if of_label is not None:
            whole_number(f"the version of label {label}", of_label)
    named = {label: number if version is None else version for label, version in (labels or {}).items()}
    return Served(latest or 0, tuple(versions or ()), named)


def listed_versions(folder: pathlib.Path, name: str, served: Served, number: int) -> str:
    """Returns the text of `models.config` once a version is there.

    Args:
      folder: the kit's folder.
      name: the name of the model.
      served: the versions that the server should load.
      number: the number of the version.

    Raises:
      ValueError: the text cannot be read or changed, or the versions do not fit.
    """
    path = folder / MODELS_CONFIG
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}; mend it, or move it away") from None
    return with_model(text, name, served, numbers_in(folder, name) | {number}, str(path))


def check_kit(folder: pathlib.Path) -> None:
    """Raises a FileExistsError for a folder of another kind: a SavedModel, or one with files of the kit's names.

    Args:
      folder: the folder. One that has a `models.config` is a kit, whose other files may have been changed.
    """
    if (folder / "saved_model.pb").exists():
        raise FileExistsError(f"{folder} is a SavedModel, and a kit holds SavedModels under models/; give another folder")
    if (folder / MODELS_CONFIG).exists():
        return
    for file, content in kit_files().items():
        path = folder / file
        if path.exists() and (not path.is_file() or path.read_bytes() != content.encode()):
            raise FileExistsError(
                f"{folder} holds a {file} and no {MODELS_CONFIG}, so that kbert did not write it for TF Serving; give "
                f"another folder, or move {shown(file)} away"
            )


def write(path: pathlib.Path, content: str) -> None:
    """Writes a text file aside and puts it in its place, unless it has this content already."""
    if path.is_file() and path.read_bytes() == content.encode():
        return
    with written_aside(path) as aside:
        aside.write_bytes(content.encode())
