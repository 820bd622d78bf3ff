"""The version of kbert, which `kbert --version` and a test of setup.py read."""

VERSION = "0.1.0"
