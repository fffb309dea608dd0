"""Builds the extension modules; everything that is not about compiling is in pyproject.toml.

One module, ``fastnn._kernels.runtime``, holds the C bodies of every instruction set; the others are
drivers that take its table of function pointers.

Environment:
    FASTNN_DEBUG=1      bounds checks, assertions, no optimisation: slow, for finding errors
    FASTNN_SANITIZE=... passed on as -fsanitize=... (for example "address,undefined")
    FASTNN_OPENMP=0     a serial build although the compiler has OpenMP
    FASTNN_ABI3=1       for every CPython from 3.11 on (docs/reliability.md has what that costs)
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, PlatformError

HERE = Path(__file__).parent
KERNELS = Path("src/fastnn/_kernels")
BODIES = KERNELS / "csrc"

DEBUG = os.environ.get("FASTNN_DEBUG", "0") == "1"
SANITIZE = os.environ.get("FASTNN_SANITIZE", "")
WANT_OPENMP = os.environ.get("FASTNN_OPENMP", "1") != "0"
# Free-threaded interpreters have no stable interface yet.
ABI3 = os.environ.get("FASTNN_ABI3", "0") == "1" and not sysconfig.get_config_var("Py_GIL_DISABLED")

# -ffp-contract=fast: a * b + c of vectors becomes a fused multiply-add. No -ffast-math: NaN, infinity
# and the order of sums are part of the interface.
# Under sanitizers line numbers must do: full information trebles the time of compilation. What GCC 14
# refuses, older compilers refuse in a debug build.
OPTIMISE = (["-O1", "-g1" if SANITIZE else "-g", "-Werror=incompatible-pointer-types"] if DEBUG else
            ["-g0", "-fno-math-errno", "-fno-trapping-math"])
FLAGS = ["-std=gnu11", "-ffp-contract=fast", "-fvisibility=hidden", *OPTIMISE]

# Without wraparound a negative index is out of bounds, of a list as of a memoryview: write none.
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "nonecheck": DEBUG,
    "embedsignature": True,
    "binding": True,
    "freethreading_compatible": True,
}

# What Cython writes for memoryviews, in one module for all: written into each it was a sixth of the wheel.
SHARED = "fastnn._kernels.shared"

# The bodies, in `runtime`, take the time. The drivers around them are as fast with -O2, what is called once
# for an array, a backward pass or a step of training with -Os, and a wheel is 100 KB smaller. (Others are
# slower: `Conv2d` in eval mode on 8 x 8 2.17 -> 2.26 microseconds, MobileNetV2 by 2 %.)
LEVELS = {"fastnn._kernels.runtime": "-O3", SHARED: "-Os"} | {
    f"fastnn._kernels.{name}": "-Os"
    for name in ("conv_backward", "optim", "recurrent_gradient", "winograd_gradient")}
LEVEL = "-O2"

NO_COMPILER = (
    "fastnn is compiled from C when no wheel fits your system, and no working C compiler was found "
    "(tried '{command}'). Install one (for example 'apt install gcc' or 'xcode-select --install'), "
    "or point the CC environment variable at it."
)
NO_HEADERS = (
    "fastnn is compiled from C when no wheel fits your system, and Python's own headers (Python.h) were not "
    "found. Install them (for example 'apt install python3-dev')."
)


class BuildKernels(build_ext):
    """Asks the compiler what it can do before it is asked to build, and says so in plain words."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        if not self._compiles("int main(void) { return 0; }\n"):
            command = " ".join(getattr(self.compiler, "compiler", ["cc"])[:1])
            # Not a traceback: pip and setuptools print a PlatformError's sentence alone.
            raise PlatformError(NO_COMPILER.format(command=command))
        if not self._compiles("#include <Python.h>\nint main(void) { return 0; }\n"):
            raise PlatformError(NO_HEADERS)
        openmp = self._openmp_flags()
        if WANT_OPENMP and not openmp:
            print("fastnn: this compiler has no OpenMP; building for one thread", file=sys.stderr)
        strip = ["-Wl,-s"] if sys.platform.startswith("linux") and not DEBUG else []
        sanitize = [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"] if SANITIZE else []
        compile_args = [*FLAGS, *openmp, *sanitize]
        for extension in self.extensions:
            level = [] if DEBUG else [LEVELS.get(extension.name, LEVEL)]
            flags = [*level, *compile_args]
            extension.extra_compile_args = flags
            extension.extra_link_args = [*openmp, *sanitize, *strip]
            extension.define_macros.append(("FASTNN_BUILD_FLAGS", f'"{" ".join(flags)}"'))
        translated = cythonize(self.extensions, compiler_directives=DIRECTIVES, include_path=["src"],
                               shared_utility_qualified_name=SHARED, force=self.force or None, quiet=True)
        for extension, c in zip(self.extensions, translated, strict=True):
            extension.sources = c.sources
        super().build_extensions()

    def _openmp_flags(self):
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        for flags in (["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]) if WANT_OPENMP else ():
            if self._compiles(program, flags):
                return flags
        return []

    def _compiles(self, program, flags=()):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            # The compiler's own complaint about a missing feature is not news to the user.
            quiet, saved = os.open(os.devnull, os.O_WRONLY), os.dup(2)
            sys.stderr.flush()
            os.dup2(quiet, 2)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=list(flags))
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=list(flags))
            except (CompileError, LinkError, OSError):
                return False
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                os.close(quiet)
            return True


def extensions():
    macros = [("Py_LIMITED_API", "0x030B0000")] if ABI3 else []
    yield Extension(SHARED, [str(KERNELS / "shared.c")], define_macros=[*macros], py_limited_api=ABI3)
    bodies = sorted(str(path) for path in BODIES.glob("*.c"))
    headers = sorted(str(path) for path in BODIES.glob("*.h"))
    # The module with the bodies takes longest, so it comes first: the others compile beside it.
    for path in sorted(KERNELS.glob("*.pyx"), key=lambda path: (path.stem != "runtime", path)):
        yield Extension(
            f"fastnn._kernels.{path.stem}",
            [str(path), *(bodies if path.stem == "runtime" else [])],
            include_dirs=[str(BODIES)],
            depends=headers,
            define_macros=[*macros],
            py_limited_api=ABI3,
        )


os.chdir(HERE)
setup(ext_modules=list(extensions()), cmdclass={"build_ext": BuildKernels},
      options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {})
