# Everything runs in a virtual environment of its own; a machine needs only make and Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO_SEED := 2026

.PHONY: demo test check format benchmark wheels bundle notebooks kernels offline clean

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## simulate, predict, score and draw one tomogram
	rm -rf demo
	$(BIN)/kaggle-cryoet simulate demo/tomograms --runs 1 --shape 184 448 448 --seed $(DEMO_SEED)
	$(BIN)/kaggle-cryoet dry-run demo/tomograms --output demo/result

test: $(INSTALLED)  ## the test suite, in as many processes as there are cores, up to four, each with one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

check: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(INSTALLED)  ## speed of each branch beside the public notebook's pipeline, in one run
	$(BIN)/python -m benchmarks.run

WHEELS_FOR := --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64

wheels: $(INSTALLED)  ## fetch the wheels that Kaggle lacks, as locked in wheels/requirements.txt
	for version in 3.12 3.13; do \
		$(BIN)/python -m pip download --quiet --require-hashes --no-deps --only-binary=:all: $(WHEELS_FOR) \
			--python-version $$version --dest wheels --requirement wheels/requirements.txt || exit 1; \
	done

bundle: wheels  ## the Kaggle dataset; OWNER=your-name-on-kaggle
	$(BIN)/kaggle-cryoet bundle build/bundle --owner '$(OWNER)'

notebooks: $(INSTALLED)  ## the kernels' notebooks from their scripts
	$(BIN)/python kernels/make_notebooks.py

kernels: $(INSTALLED)  ## the kernels under your name, in build/kernels; OWNER=your-name-on-kaggle, and FINETUNED=1
	$(if $(OWNER),,$(error say OWNER=your-name-on-kaggle))
	$(BIN)/python kernels/make_notebooks.py --owner '$(OWNER)' $(if $(FINETUNED),--finetuned)

offline: wheels  ## prove, as root on Linux, that the bundle works without a network, on Python 3.12 and 3.13
	$(BIN)/python tests/offline/prove.py $(OFFLINE)

clean:
	rm -rf demo build dist *.egg-info
