"""Models in their folders of versions: which versions are served is watched, and a request finds its version."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import re
import threading
from collections.abc import Iterator

from kbert.export.server.errors import ServingError, invalid
from kbert.export.server.settings import ModelSettings
from kbert.export.server.versions import Joining, Version


class Model:
    """A folder of versions, of which some are served. A thread looks for newer ones.

    Sources: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc for the versions,
    tensorflow_serving/model_servers/server_core.cc for the labels.

    Args:
      name: the name of the model.
      folder: the folder; each version is a folder in it, named by its number. Or the settings of the model.
      poll: seconds between looks for newer versions.
      joining: how requests are joined; None for each by itself.

    Raises:
      FileNotFoundError: there is no such folder, or no version that should be served can be loaded.
    """

    def __init__(
        self, name: str, folder: str | pathlib.Path | ModelSettings, poll: float = 1.0, joining: Joining | None = None
    ) -> None:
        self.settings = folder if isinstance(folder, ModelSettings) else ModelSettings(folder)
        self.name, self.folder, self.poll, self._joining = name, pathlib.Path(self.settings.folder), poll, joining
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; it should hold a folder for each version, named by its number"
            )
        self._served: dict[int, Version] = {}
        self._failed: dict[int, tuple[object, str]] = {}  # the state of the files, and the error
        self._lock, self._updating, self._stopped = threading.Lock(), threading.Lock(), threading.Event()
        self.update()
        if not self._served:
            errors = [message for _, message in self._failed.values()]
            why = f": {errors[0]}" if errors else "; kbert export writes one, MODEL_FOLDER/1"
            raise FileNotFoundError(f"{self.folder} holds no version that can be served{why}")
        threading.Thread(target=self._watch, daemon=True).start()

    def versions(self) -> list[int]:
        """Returns the numbers of the complete versions, the newest first."""
        folders = [path for path in self.folder.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name)]
        files = ("saved_model.pb", "variables/variables.index")
        return sorted((int(path.name) for path in folders if all((path / file).is_file() for file in files)), reverse=True)

    def wanted(self) -> list[int]:
        """Returns the numbers of the versions that the settings ask for, of those in the folder, the newest first."""
        numbers = self.versions()
        if self.settings.specific:
            return [number for number in numbers if number in self.settings.specific]
        return numbers[: self.settings.latest]

    def update(self) -> None:
        """Loads wanted versions that are not served, and closes served ones that are not wanted.

        A served version goes only when a wanted one is there. A version that fails is loaded again when its files change.
        """
        with self._updating:
            self._update(self.wanted())

    def _update(self, wanted: list[int]) -> None:
        """Loads and closes versions: the work of `update`."""
        for number in wanted:
            folder = self.folder / str(number)
            if number in self._served:
                continue
            state = sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))
            if self._failed.get(number, (None, ""))[0] == state:
                continue
            try:
                version = Version(self.name, folder, self._joining)
            except Exception as error:
                self._failed[number] = state, f"version {number}: {(str(error) or type(error).__name__).splitlines()[0][:300]}"
                continue
            with self._lock:
                self._failed.pop(number, None)
                self._served[number] = version
        with self._lock:
            if set(wanted) & set(self._served):
                old = [self._served.pop(number) for number in set(self._served) - set(wanted)]
            else:
                old = []
        for version in old:
            version.close()

    def change(self, settings: ModelSettings) -> None:
        """Takes other settings of the same folder, and serves the versions that they ask for.

        Raises:
          ValueError: a label moves to a version that is not served yet, which TF Serving refuses.
        """
        for label, number in settings.labels.items():
            if self.settings.labels.get(label, number) != number and number not in self._served:
                raise ValueError(f"label {label} of {self.name} cannot move to version {number} before that version is served")
        self.settings = settings
        self.update()

    def _watch(self) -> None:
        """Looks for newer versions until the model is stopped."""
        while not self._stopped.wait(self.poll):
            try:
                self.update()
            except Exception as error:  # the folder may be away for a moment
                logging.getLogger("kbert").warning("%s cannot be looked through, and is tried again: %s", self.folder, error)

    def get(self, number: int | None = None, label: str | None = None) -> Version:
        """Returns the version that a request asks for.

        Args:
          number: the number of the version; None for the newest.
          label: the label of the version, in the place of a number.

        Raises:
          ServingError: NOT_FOUND if that version is not served, INVALID_ARGUMENT if there is no such label.
        """
        if label is not None:
            if label not in self.settings.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = self.settings.labels[label]
        with self._lock:
            version = self._served.get(max(self._served, default=0) if number is None else number)
        if version is None:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Specific({self.name}, {number})")
        return version

    @contextlib.contextmanager
    def using(self, number: int | None = None, label: str | None = None) -> Iterator[Version]:
        """Gives the version that a request asks for. It stays loaded until the request is answered."""
        version = self.get(number, label)
        while not version.begin():  # it was closed since
            version = self.get(number, label)
        try:
            yield version
        finally:
            version.end()

    def status(self, number: int | None = None) -> list[tuple[int, str, str, str]]:
        """Returns number, state, error code and message of the versions that answer, and of those that could not be loaded.

        Args:
          number: the number of the version; None for all.

        Raises:
          ServingError: there is no such version.
        """
        with self._lock:
            states = [(served, "AVAILABLE", "OK", "") for served in sorted(self._served, reverse=True)]
            states += [(failed, "END", "UNKNOWN", message) for failed, (_, message) in self._failed.items()]
        states = [state for state in states if number in (None, state[0])]
        if not states:
            raise ServingError("NOT_FOUND", f"Could not find version {number} of model {self.name}")
        return states

    def stop(self) -> None:
        """Ends the thread of the model, and closes its versions."""
        self._stopped.set()
        with self._updating, self._lock:
            served, self._served = list(self._served.values()), {}
        for version in served:
            version.close()


def found(models: dict[str, Model], name: str) -> Model:
    """Returns a model by its name.

    Raises:
      ServingError: NOT_FOUND if no model has the name, INVALID_ARGUMENT if the name is empty.
    """
    if not name:
        raise invalid("the request names no model")
    if name not in models:
        raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({name})")
    return models[name]
