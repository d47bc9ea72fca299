"""The command line: one file per verb, heavy imports inside the verbs."""

from onerec.cli.entry import main

__all__ = ["main"]
