"""`kbert serve`: exported models behind TF Serving's REST paths and gRPC services."""

from __future__ import annotations

import argparse
import pathlib
import signal
import threading

from kbert.commands import options as shared


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("folders", nargs="+", help="a model's folder, which holds its versions; its name is the model's")
    parser.add_argument("--rest-port", type=shared.whole(0, 65535), default=8501)
    parser.add_argument("--grpc-port", type=shared.whole(0, 65535), default=8500)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")


def check(options: argparse.Namespace) -> None:
    """Raises an error for a missing folder, and for two servers on one port."""
    for folder in options.folders:
        if not pathlib.Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    if options.rest_port == options.grpc_port != 0:
        raise ValueError(f"--rest-port and --grpc-port are both {options.rest_port}: give two ports")


def run(options: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM comes."""
    from kbert.export.server.server import Server

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # explicitly, for a shell starts background jobs with SIGINT ignored
        signal.signal(number, lambda *_: stop.set())
    folders = {pathlib.Path(folder).resolve().name: folder for folder in options.folders}
    with Server(folders, options.rest_port, options.grpc_port, options.host) as server:
        for name, model in server.models.items():
            address = f"http://{options.host}:{server.rest_port}/v1/models/{name}:predict"
            print(f"{name}, version {model.get().number}: {address}", flush=True)
        print(f"gRPC on port {server.grpc_port}; Ctrl-C ends it", flush=True)
        stop.wait()
