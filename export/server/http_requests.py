"""HTTP requests for the REST server: headers and a body as they come. No content type changes how a body is read."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

import tornado.httputil as httputil

Answer = Callable[[str, str, bytes, str], tuple[int, dict[str, Any]]]


class Requests(httputil.HTTPServerConnectionDelegate):
    """What tornado's HTTP server hands requests to.

    Args:
      answer: the function that answers a method, a path, a body and its Content-Encoding with a status and a JSON object.
      pool: the threads in which it runs.
    """

    def __init__(self, answer: Answer, pool: concurrent.futures.Executor) -> None:
        self._answer, self._pool = answer, pool

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """Returns what takes the parts of one request."""
        return _Request(self._answer, self._pool, request_conn)


class _Request(httputil.HTTPMessageDelegate):
    """One request, whose parts come one after the other."""

    def __init__(self, answer: Answer, pool: concurrent.futures.Executor, connection: httputil.HTTPConnection) -> None:
        self._answer, self._pool, self._connection = answer, pool, connection
        self._chunks: list[bytes] = []

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Takes the first line and the headers."""
        self._line, self._encoding = start_line, headers.get("Content-Encoding", "")

    def data_received(self, chunk: bytes) -> None:
        """Takes a part of the body."""
        self._chunks.append(chunk)

    def finish(self) -> None:
        """Lets the whole request be answered."""
        self._work = asyncio.ensure_future(self._respond())

    async def _respond(self) -> None:
        """Writes the answer."""
        path = self._line.path.partition("?")[0]
        work = self._pool.submit(self._answer, self._line.method, path, b"".join(self._chunks), self._encoding)
        try:
            status, content = await asyncio.wrap_future(work)
        except Exception as error:
            status, content = 500, {"error": f"{type(error).__name__}: {error}"[:500]}
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
        headers = httputil.HTTPHeaders({"Content-Type": "application/json", "Content-Length": str(len(body))})
        line = httputil.ResponseStartLine("HTTP/1.1", status, httputil.responses.get(status, "Unknown"))
        try:
            self._connection.write_headers(line, headers, body)
            self._connection.finish()
        except Exception:  # the client hung up
            return
