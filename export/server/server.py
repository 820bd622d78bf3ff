"""The two servers, REST and gRPC, in threads of this process.

They serve the newest version in a model's folder, watch the folder for newer ones, and load and warm those up beside the
version that answers. Requests that come at the same time are answered in one batch.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pathlib
import threading
from collections.abc import Mapping
from types import TracebackType

from kbert.export.server.rest import rest
from kbert.export.server.versions import Model

MOST_BYTES = 64 * 2**20  # of a request


class Server:
    """A REST and a gRPC server of some models, in threads of this process.

    >>> with Server({"spam": "models/spam"}, rest_port=8501, grpc_port=8500) as server:  # doctest: +SKIP
    ...     server.rest_port
    8501

    Args:
      folders: a dictionary from a model's name to the folder of its versions.
      rest_port: the port of the REST server; 0 for any that is free.
      grpc_port: the port of the gRPC server; 0 for any that is free.
      host: the address to listen on; this machine alone by default.
      threads: how many requests are worked on at a time.
      poll: seconds between looks for newer versions.

    Raises:
      FileNotFoundError: a folder is missing, or holds no version that can be loaded.
      OSError: a port cannot be listened on.
    """

    def __init__(
        self,
        folders: Mapping[str, str | pathlib.Path],
        rest_port: int = 8501,
        grpc_port: int = 8500,
        host: str = "127.0.0.1",
        threads: int = 32,
        poll: float = 1.0,
    ) -> None:
        import grpc

        from kbert.export.server.grpc_services import add_services

        self.models = {name: Model(name, folder, poll) for name, folder in folders.items()}
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

    def _serve_rest(self, host: str, wanted_port: int, port: concurrent.futures.Future[int]) -> None:
        """Runs the REST server until `stop`: the work of its thread.

        Args:
          host: the address to listen on.
          wanted_port: the port, or 0.
          port: a future that is given the port on which the server listens, or the error.
        """
        import tornado.httpserver as httpserver
        import tornado.netutil as netutil
        import tornado.web as web

        server = self

        class Handler(web.RequestHandler):
            async def answer(self, method: str) -> None:
                work = server._pool.submit(rest, server.models, method, self.request.path, self.request.body)
                status, content = await asyncio.wrap_future(work)
                self.set_status(status)
                self.finish(content)

            async def get(self) -> None:
                await self.answer("GET")

            async def post(self) -> None:
                await self.answer("POST")

            def write_error(self, status_code: int, **_: object) -> None:
                self.finish({"error": f"HTTP {status_code}"})

        async def run() -> None:
            self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
            try:
                sockets = netutil.bind_sockets(wanted_port, host)
            except OSError as error:
                port.set_exception(OSError(f"port {wanted_port} cannot be listened on: {error}"))
                return
            application = web.Application([(r"/.*", Handler)], log_function=lambda handler: None)
            http = httpserver.HTTPServer(application, max_body_size=MOST_BYTES, max_buffer_size=2 * MOST_BYTES)
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
        for model in self.models.values():
            model.stop()
        self._pool.shutdown(wait=False)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
