"""The error that answers a failed request, and its status in each protocol."""

from __future__ import annotations

import tensorflow as tf

# tensorflow_serving/model_servers/http_server.cc, ToHTTPStatusCode
HTTP = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
STATUSES = tuple(HTTP)  # in the order of their numbers in gRPC and in TensorFlow's errors, which begin at 1
MOST_OF_A_MESSAGE = 1024  # characters; tensorflow_serving/model_servers/grpc_status_util.cc cuts longer ones


class ServingError(Exception):
    """A request that failed. `status` is the name of the gRPC status to return."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def invalid(message: str) -> ServingError:
    """Returns an error with the status INVALID_ARGUMENT."""
    return ServingError("INVALID_ARGUMENT", message)


def of_session(error: Exception) -> ServingError:
    """Returns the error of a session's run, with the status that TensorFlow gave it and the line that names the problem.

    Args:
      error: a `tf.errors.OpError`. Python cannot read a message in which an op quotes bytes that are not UTF-8, and raises
        UnicodeDecodeError in its place; only a value that the op refuses is quoted.
    """
    if isinstance(error, UnicodeDecodeError):
        message, status = error.object.decode("utf-8", "replace"), "INVALID_ARGUMENT"
    elif isinstance(error, tf.errors.OpError):
        message, status = error.message, STATUSES[error.error_code - 1]
    else:
        return ServingError("INTERNAL", f"{type(error).__name__}: {error}"[:MOST_OF_A_MESSAGE])
    around = ("Graph execution error", "Detected at node", "<stack traces")
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith(around)]
    return ServingError(status, (lines or ["the graph failed"])[0][:MOST_OF_A_MESSAGE])
