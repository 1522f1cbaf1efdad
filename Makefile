# Everything is installed into .venv; `make run` and `make test` each work alone on a machine with Python >= 3.11.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test lint bench gallery clean

run: .venv/installed
	$(BIN)/sandbox run scenarios/crossing.yaml --force

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/sandbox bench

# Runs every scenario and writes results/README.md and the pictures it shows.
SCENARIOS = crossing uneven_crossing line sharp_and_flat parabola
MEASURED = cusp free_energy laplace flatness llc waic

gallery: .venv/installed
	mkdir -p results/gallery
	for s in $(SCENARIOS); do \
	  $(BIN)/sandbox run $$s --force > /dev/null && \
	  cp results/$$s/animation.gif results/gallery/$$s.gif && \
	  cp results/$$s/figure.png results/gallery/$$s.png || exit 1; \
	done
	for s in $(MEASURED); do \
	  $(BIN)/sandbox run $$s --force > /dev/null && \
	  cp results/$$s/measurements.png results/gallery/$$s.png || exit 1; \
	done
	{ printf '# Answers\n\nWritten by `make gallery`: what each shipped scenario answers, at its shipped size and seed.\n'; \
	  for s in $(SCENARIOS); do \
	    printf '\n'; sed 's/^# /## /' results/$$s/answer.md; \
	    printf '![%s: particles over time](gallery/%s.gif)\n\n[The figure in full](gallery/%s.png)\n' $$s $$s $$s; \
	  done; \
	  for s in $(MEASURED); do \
	    printf '\n'; sed 's/^# /## /' results/$$s/answer.md; \
	    printf '![%s](gallery/%s.png)\n' $$s $$s; \
	  done; } > results/README.md

clean:
	rm -rf .venv

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/installed: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/installed-dev: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/installed
