"""The command line: run a model of a file, say what is in it, measure it."""

from .main import main

__all__ = ["main"]
