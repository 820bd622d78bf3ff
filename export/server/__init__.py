"""`kbert serve`: a small server with the REST paths and the gRPC services of TF Serving, for development and tests."""

from kbert.export.server.server import Server

__all__ = ["Server"]
