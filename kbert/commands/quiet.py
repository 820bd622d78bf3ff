"""Keeps the lines that TensorFlow, CUDA and LiteRT write to a process's error output out of what a command says.

C++ writes them, some while TensorFlow is imported, past Python's loggers and past TensorFlow's own variable for them.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

# Of absl's lines an `F`, with which a process ends, is passed on.
NOISE = (
    r"WARNING: All log messages before absl|(WARNING|INFO|ERROR):(absl|tensorflow):|"
    r"INFO: (Created|Initialized) TensorFlow Lite|"
    r"[IWE]\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |To enable the following instructions|"
    r"Skipping registering GPU devices"
)
# The filter outlives Ctrl-C and a crash of the command, whose last lines it passes on. It ends with the pipe's last writer.
FILTER = """
import re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin.buffer:
    if not re.match(sys.argv[1].encode(), line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""
LOGGERS = ("tensorflow", "tf2onnx", "onnxruntime", "huggingface_hub", "h5py", "matplotlib")


def hide_engine_lines() -> None:
    """Lets the process's error output pass through a filter; what Python writes to `sys.stderr` goes past it.

    It is called before TensorFlow is imported and holds until the process ends, for engines also write as they are torn down.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import absl.logging  # TensorFlow's and Keras's Python log through it

    absl.logging.set_verbosity("error")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    past = os.dup(2)
    command = [sys.executable, "-I", "-S", "-c", FILTER, NOISE]
    try:
        pipe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL).stdin
    except OSError:  # no process can be started here: the lines stay
        os.close(past)
        return
    assert pipe is not None
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    sys.stderr = io.TextIOWrapper(os.fdopen(past, "wb", 0), errors="backslashreplace", line_buffering=True)
