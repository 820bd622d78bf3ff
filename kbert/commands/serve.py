"""`kbert serve`: exported models behind TF Serving's REST paths and gRPC services, with its rules."""

from __future__ import annotations

import argparse
import pathlib
import signal
import threading
from collections.abc import Mapping
from typing import Any

from kbert.commands import options as shared


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments. Those beside the folders, the host and the ports have the names of TF Serving's."""
    parser.add_argument("folders", nargs="*", help="a model's folder, which holds its versions; its name is the model's")
    parser.add_argument("--rest-port", type=shared.whole(0, 65535), default=8501)
    parser.add_argument("--grpc-port", type=shared.whole(0, 65535), default=8500)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    parser.add_argument("--model-config-file", metavar="FILE", help="models.config in the place of folders")
    parser.add_argument(
        "--model-config-file-poll-wait-seconds",
        type=shared.whole(0),
        default=0,
        metavar="N",
        help="read it again every N seconds (default: once)",
    )
    parser.add_argument(
        "--allow-version-labels-for-unavailable-models",
        action="store_true",
        help="take labels from models.config, which is read before any version is loaded",
    )
    parser.add_argument("--enable-batching", action="store_true", help="join requests that come at the same time")
    parser.add_argument("--batching-parameters-file", metavar="FILE", help="how they are joined")
    parser.add_argument(
        "--enable-per-model-batching-parameters",
        action="store_true",
        help="read how they are joined from batching_params.pbtxt in each version's folder",
    )


def check(options: argparse.Namespace) -> None:
    """Raises an error for missing folders and files, for options that cannot act, and for two servers on one port."""
    if bool(options.folders) == bool(options.model_config_file):
        raise ValueError("give folders of models, or --model-config-file")
    for folder in options.folders:
        if not pathlib.Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    for file in (options.model_config_file, options.batching_parameters_file):
        if file and not pathlib.Path(file).is_file():
            raise FileNotFoundError(f"there is no file {file}")
    if not options.enable_batching:
        for name in ("batching_parameters_file", "enable_per_model_batching_parameters"):
            if getattr(options, name):
                raise ValueError(f"--{name.replace('_', '-')} says how requests are joined; give --enable-batching too")
    for name in ("allow_version_labels_for_unavailable_models", "model_config_file_poll_wait_seconds"):
        if getattr(options, name) and not options.model_config_file:
            raise ValueError(f"--{name.replace('_', '-')} is for a --model-config-file; give one")
    if options.rest_port == options.grpc_port != 0:
        raise ValueError(f"--rest-port and --grpc-port are both {options.rest_port}: give two ports")


def models_of(options: argparse.Namespace) -> Mapping[str, Any]:
    """Returns the folder or the settings of each model by its name."""
    from kbert.export.server.settings import read_model_config

    if not options.model_config_file:
        return {pathlib.Path(folder).resolve().name: folder for folder in options.folders}
    models = read_model_config(options.model_config_file)
    labelled = [name for name, settings in models.items() if settings.labels]
    if labelled and not options.allow_version_labels_for_unavailable_models:
        raise ValueError(
            f"{options.model_config_file} has labels for versions of {labelled[0]}, and is read before any version is loaded; "
            "give --allow-version-labels-for-unavailable-models"
        )
    return models


def run(options: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM comes."""
    from kbert.export.server.server import Server
    from kbert.export.server.settings import BatchingParameters, read_batching_parameters

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # explicitly, for a shell starts background jobs with SIGINT ignored
        signal.signal(number, lambda *_: stop.set())
    batching = None
    if options.enable_batching:
        file = options.batching_parameters_file
        batching = read_batching_parameters(file) if file else BatchingParameters()
    per_model = options.enable_per_model_batching_parameters
    ports = {"rest_port": options.rest_port, "grpc_port": options.grpc_port}
    with Server(models_of(options), host=options.host, batching=batching, per_model=per_model, **ports) as server:
        for name, model in server.models.items():
            address = f"http://{options.host}:{server.rest_port}/v1/models/{name}:predict"
            print(f"{name}, version {model.get().number}: {address}", flush=True)
        print(f"gRPC on port {server.grpc_port}; Ctrl-C ends it", flush=True)
        served = models_of(options)
        while not stop.wait(options.model_config_file_poll_wait_seconds or None):
            try:
                if (wanted := models_of(options)) != served:
                    server.serve(wanted)
                    served = wanted
            except (ValueError, OSError) as error:  # the file is being written, or asks for what is not there
                print(f"{options.model_config_file} is not taken over: {error}", flush=True)
