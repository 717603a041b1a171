PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PINS := client_code/requirements.txt

.PHONY: demo test check bench install clean

install: $(STAMP)

# The pins of the jobs' requirements hold for the coordinator too: then a local job needs no
# environment of its own.
$(STAMP): pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint $(PINS)
	touch $@

demo: $(STAMP)
	$(BIN)/fedsm demo

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks.rounds --sites 2 8 32
	$(BIN)/python -m benchmarks.model_size --mb 100 1000

clean:
	rm -rf $(VENV) fedsm-demo
