"""Files: the tensors of a network by name, written whole or not at all."""

from .state_files import load, save

__all__ = ["load", "save"]
