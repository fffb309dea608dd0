"""What a wheel promises: `python tools/check_wheel.py WHEEL`.

At most 2 MB with its OpenMP runtime; installed into a fresh environment without a compiler it imports in at
most 30 ms of processor time more than NumPy alone; `--tests` runs the test suite against it there.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CLONE = Path(__file__).parent.parent
MEGABYTES, MILLISECONDS = 2.0, 30.0


def environment_for(wheel, folder, extras):
    """A new virtual environment with the wheel in it; returns its Python."""
    venv.create(folder, with_pip=True)
    python = Path(folder, "Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    f"{wheel}{extras}"], check=True, env=without_compiler(folder))
    return python


def without_compiler(folder):
    """The environment variables, with a PATH that has this environment's programs alone: no C compiler.

    And without PYTHONPATH, which could bring another fastnn before the wheel's.
    """
    programs = Path(folder, "Scripts" if os.name == "nt" else "bin")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PATH": str(programs), "CC": "cc", "CXX": "c++"}


def import_milliseconds(python, variables, rounds=21):
    """Median of `import fastnn` after `import numpy`, each round in a process of its own.

    Processor time of the thread that imports: other programs on the machine do not lengthen it, nor do the
    workers of NumPy's OpenBLAS, which spin for a while after theirs.
    """
    program = ("import time; import numpy; start = time.thread_time(); import fastnn; "
               "print(1000 * (time.thread_time() - start))")
    run = [python, "-c", program]
    options = {"check": True, "capture_output": True, "cwd": tempfile.gettempdir(), "env": variables}
    subprocess.run(run, **options)  # writes the bytecode
    return statistics.median(float(subprocess.run(run, **options).stdout) for _ in range(rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--tests", action="store_true", help="run the tests against the installed wheel")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    failures = []

    def check(what, found, limit, unit):
        print(f"{what:<30} {found:6.2f} {unit}, at most {limit:g}")
        if found > limit:
            failures.append(what)

    check("size", wheel.stat().st_size / 1e6, MEGABYTES, "MB")
    with tempfile.TemporaryDirectory() as folder:
        python = environment_for(wheel, folder, "[test]" if arguments.tests else "")
        variables = without_compiler(folder)
        check("import, beyond NumPy's", import_milliseconds(python, variables), MILLISECONDS, "ms")
        where = subprocess.run([python, "-c", "import fastnn; print(fastnn.__file__); fastnn.show_config()"],
                               check=True, capture_output=True, text=True, cwd=folder, env=variables).stdout
        print(where)
        if arguments.tests:
            ran = subprocess.run([python, "-m", "pytest", "-p", "no:cacheprovider", CLONE / "tests"],
                                 cwd=CLONE, check=False, env=variables)
            if ran.returncode or not re.search("site-packages", where):
                failures.append("tests against the wheel")
    if failures:
        sys.exit(f"{wheel.name}: {', '.join(failures)}")


if __name__ == "__main__":
    main()
