PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PINS := client_code/requirements.txt

# Interpreters with what some tests compare against; without them those tests are skipped.
export FEDSM_TOOLKIT_PYTHON := $(abspath $(wildcard .venv-toolkit/bin/python))
export FEDSM_SAGEMAKER_PYTHON := $(abspath $(wildcard .venv-sdk/bin/python))

.PHONY: demo test check bench install references clean

install: $(STAMP)

# The pins of the jobs' requirements hold for the coordinator too: then a local job needs no
# environment of its own.
$(STAMP): pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
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
	$(BIN)/python -m benchmarks.launch --sites 8

references: .venv-toolkit/.installed .venv-sdk/.installed

.venv-toolkit/.installed:
	$(PYTHON) -m venv .venv-toolkit
	.venv-toolkit/bin/python -m pip install --quiet 'sagemaker-training==5.1.4'
	touch $@

.venv-sdk/.installed:
	$(PYTHON) -m venv .venv-sdk
	.venv-sdk/bin/python -m pip install --quiet 'sagemaker-core>=2.27,<3'
	touch $@

clean:
	rm -rf $(VENV) .venv-toolkit .venv-sdk fedsm-demo
