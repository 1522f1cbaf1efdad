# Everything is installed into .venv; `make run` and `make test` each work alone on a machine with Python >= 3.11.
PYTHON ?= python3
BIN = .venv/bin
# What pip does for packages, but not for one that is installed in place.
BYTECODE = $(BIN)/python -m compileall -q sandbox

.PHONY: run test lint oldest newest kernels bench gallery answers clean

run: .venv/installed
	$(BIN)/sandbox run scenarios/crossing.yaml --force

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Installs the wheel with the oldest dependencies that pyproject.toml allows, or the newest, and tries it in an empty folder.
oldest: RESOLUTION = lowest-direct
newest: RESOLUTION = highest
oldest newest:
	$(PYTHON) -m venv --clear .venv-$@
	.venv-$@/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-$@/bin/uv pip install --quiet --python .venv-$@ --only-binary :all: --resolution $(RESOLUTION) -r pyproject.toml
	.venv-$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	.venv-$@/bin/python tests/smoke.py

# Compiles the kernels of all shipped scenarios ahead of their first runs (some minutes).
kernels: .venv/installed
	$(BIN)/sandbox precompile

bench: .venv/installed
	$(BIN)/sandbox bench

# Runs every scenario without a finished result (half an hour for all), then writes results/README.md and its pictures.
gallery: .venv/installed
	$(BIN)/sandbox gallery

# Writes results/README.md and its pictures from the finished results.
answers: .venv/installed
	$(BIN)/sandbox gallery --answers-only

clean:
	rm -rf .venv .venv-oldest .venv-newest

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BYTECODE)
	touch $@

.venv/installed-dev: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BYTECODE)
	touch $@ .venv/installed
