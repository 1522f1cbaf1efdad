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

# Runs every scenario (half an hour), then writes results/README.md and the pictures it shows.
MOVING = crossing uneven_crossing line sharp_and_flat parabola relu_two_neurons_one
LIBRARY = normal_crossing normal_crossing_three cusp tacnode d4 e6 tanh_node tanh_node_true relu_rescaling \
  relu_two_neurons_zero relu_two_neurons_two permutation normalisation deep_linear_two deep_linear_three deep_linear_four reduced_rank depth_symmetry \
  depth_symmetry_shallow pendulum pendulum_reduced weight_decay circulation phases_quartic phases_relu \
  lewkowycz_2020_catapult corlouer_mace_2024_escape corlouer_mace_2024_stuck corlouer_mace_2024_line \
  damian_2021_label_noise ziyin_2023_balance mingard_2021 delius_2026_regular \
  delius_2026_mixture
MEASURED = free_energy laplace flatness llc waic lau_2023

gallery: .venv/installed
	for s in $(MOVING) $(LIBRARY) $(MEASURED); do $(BIN)/sandbox run $$s --force > /dev/null || exit 1; done
	$(MAKE) answers

# Writes results/README.md and its pictures from the results that are there.
answers:
	mkdir -p results/gallery
	for s in $(MOVING); do cp results/$$s/animation.gif results/gallery/$$s.gif || exit 1; done
	for s in $(MOVING) $(LIBRARY); do cp results/$$s/figure.png results/gallery/$$s.png || exit 1; done
	for s in $(MEASURED); do cp results/$$s/measurements.png results/gallery/$$s.png || exit 1; done
	for s in $(MOVING) $(LIBRARY); do \
	  if [ -f results/$$s/measurements.png ]; then \
	    cp results/$$s/measurements.png results/gallery/$$s.measured.png; \
	  fi; \
	done
	{ printf '# Answers\n\nWritten by `make gallery`: what each shipped scenario answers, at its shipped size and seed.\n'; \
	  for s in $(MOVING) $(LIBRARY) $(MEASURED); do \
	    printf '\n'; sed 's/^# /## /' results/$$s/answer.md; \
	    for p in $$s.gif $$s.png $$s.measured.png; do \
	      if [ -f results/gallery/$$p ]; then printf '![%s](gallery/%s)\n\n' $$s $$p; fi; \
	    done; \
	  done; } > results/README.md

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
