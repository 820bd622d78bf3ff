"""Hides the lines that TensorFlow, CUDA and LiteRT write to the error output of a command's process.

C++ code writes these lines, some of them while TensorFlow is imported. Neither Python's loggers nor TensorFlow's own
environment variable suppress all of them.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

# The patterns leave out absl's lines that begin with `F`: after such a line the process ends.
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
    """Sends the process's error output through a filter, except the text that Python writes to `sys.stderr`.

    Call it before TensorFlow is imported. It holds until the process ends, because engines also write while they shut down.
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
