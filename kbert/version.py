"""The version of kbert. `kbert --version` shows it, and a test compares it with the version in setup.py."""

VERSION = "0.1.0"
