"""The commands, their arguments, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._kernels.runtime import set_num_threads
from .._version import __version__
from . import bench, info, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit status: 0, 1 for an error, 2 for a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.threads is not None:
            set_num_threads(options.threads)
        options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the output has gone, as `head` does. The flush at the interpreter's end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        print(f"fastnn {options.name}: {_line(error)}", file=sys.stderr)
        return 1
    return 0


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})" if str(error) else "not enough memory"
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastnn", description="Neural networks in ONNX files.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(title="commands", dest="name", required=True, metavar="COMMAND")
    for module in (run, info, bench):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(command=module.command)
        command.add_argument("model", help="the file")
        command.add_argument("--threads", type=int, metavar="N",
                             help="number of threads; all processors by default")
        module.add_arguments(command)
    return parser
