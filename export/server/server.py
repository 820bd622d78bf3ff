"""The two servers, REST and gRPC, in threads of this process.

They serve versions of models, watch the folders for newer ones, and load and warm those up beside the versions that answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pathlib
import threading
from collections.abc import Mapping
from types import TracebackType

from kbert.export.server.batch_queues import BatchThreads
from kbert.export.server.models import Model
from kbert.export.server.rest import rest
from kbert.export.server.settings import BatchingParameters, ModelSettings
from kbert.export.server.versions import Joining

MOST_BYTES = 64 * 2**20  # of a request


class Server:
    """A REST and a gRPC server of some models, in threads of this process, with the rules of TF Serving.

    >>> with Server({"spam": "models/spam"}, rest_port=8501, grpc_port=8500) as server:  # doctest: +SKIP
    ...     server.rest_port
    8501

    Args:
      models: a dictionary from a model's name to the folder of its versions, or to its settings.
      rest_port: the port of the REST server; 0 for any that is free.
      grpc_port: the port of the gRPC server; 0 for any that is free.
      host: the address to listen on; this machine alone by default.
      threads: how many requests of each server are worked on at a time.
      poll: seconds between looks for newer versions.
      batching: how requests that come at the same time are joined; None for each by itself.
      per_model: whether each version's own `batching_params.pbtxt` says how its requests are joined. A version without the
        file is asked without joining. `batching` then gives only the number of threads.

    Raises:
      FileNotFoundError: a folder is missing, or holds no version that can be loaded.
      OSError: a port cannot be listened on.
    """

    def __init__(
        self,
        models: Mapping[str, str | pathlib.Path | ModelSettings],
        rest_port: int = 8501,
        grpc_port: int = 8500,
        host: str = "127.0.0.1",
        threads: int = 32,
        poll: float = 1.0,
        batching: BatchingParameters | None = None,
        per_model: bool = False,
    ) -> None:
        import grpc

        from kbert.export.server.grpc_services import add_services

        if per_model and not batching:
            raise ValueError("per_model says how requests are joined; give batching too")
        self._batch_threads = BatchThreads(batching.num_batch_threads) if batching else None
        self._joining = Joining(batching, per_model, self._batch_threads) if batching and self._batch_threads else None
        self._poll, self.models = poll, dict[str, Model]()
        try:
            self.serve(models)
        except BaseException:
            self._stop_models()
            raise
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", MOST_BYTES)]
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), options=options)
        add_services(self._grpc, self.models)
        self.grpc_port = self._grpc.add_insecure_port(f"{host}:{grpc_port}")
        self._grpc.start()
        port: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._serve_rest, args=(host, rest_port, port), daemon=True)
        self._thread.start()
        self.rest_port = port.result()

    def serve(self, models: Mapping[str, str | pathlib.Path | ModelSettings]) -> None:
        """Serves these models from now on. Those that are served already stay loaded, and others are closed.

        Args:
          models: a dictionary from a model's name to the folder of its versions, or to its settings.

        Raises:
          FileNotFoundError: a folder is missing, or holds no version that can be loaded.
          ValueError: a label moves to a version that is not served yet.
        """
        for name, given in models.items():
            settings = given if isinstance(given, ModelSettings) else ModelSettings(given)
            served = self.models.get(name)
            if served and pathlib.Path(settings.folder) == served.folder:
                served.change(settings)
                continue
            self.models[name] = Model(name, settings, self._poll, self._joining)
            if served:
                served.stop()
        for name in set(self.models) - set(models):
            self.models.pop(name).stop()

    def _serve_rest(self, host: str, wanted_port: int, port: concurrent.futures.Future[int]) -> None:
        """Runs the REST server until `stop`: the work of its thread.

        Args:
          host: the address to listen on.
          wanted_port: the port, or 0.
          port: a future that is given the port on which the server listens, or the error.
        """
        import tornado.httpserver as httpserver
        import tornado.netutil as netutil

        from kbert.export.server.http_requests import Requests

        async def run() -> None:
            self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
            try:
                sockets = netutil.bind_sockets(wanted_port, host)
            except OSError as error:
                port.set_exception(OSError(f"port {wanted_port} cannot be listened on: {error}"))
                return
            requests = Requests(lambda *request: rest(self.models, *request), self._pool)
            http = httpserver.HTTPServer(requests, max_body_size=MOST_BYTES, max_buffer_size=2 * MOST_BYTES)
            http.add_sockets(sockets)
            port.set_result(sockets[0].getsockname()[1])
            await self._done.wait()
            http.stop()
            await http.close_all_connections()

        asyncio.run(run())

    def stop(self) -> None:
        """Stops both servers. Requests that are being answered are answered first."""
        self._grpc.stop(grace=2).wait()
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(5)
        self._pool.shutdown(wait=False)
        self._stop_models()

    def _stop_models(self) -> None:
        """Ends the threads of the models, and those that run joined requests."""
        for model in self.models.values():
            model.stop()
        if self._batch_threads:
            self._batch_threads.stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
