# Everything runs in a virtual environment of its own; a machine needs only make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO_SEED := 2026

.PHONY: demo test check format benchmark clean

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## simulate, predict, score and draw one tomogram
	rm -rf demo
	$(BIN)/kaggle-cryoet simulate demo/tomograms --runs 1 --shape 184 320 320 --seed $(DEMO_SEED)
	$(BIN)/kaggle-cryoet dry-run demo/tomograms --output demo/result

test: $(INSTALLED)  ## the test suite
	$(BIN)/python -m pytest

check: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(INSTALLED)  ## speed beside the public notebook's pipeline, in one run
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf demo build dist *.egg-info
