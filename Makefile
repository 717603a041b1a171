PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PINS := client_code/requirements.txt

# What some tests compare against; where it is missing those tests are skipped.
REFERENCES := .references
export FEDSM_TOOLKIT_PYTHON := $(abspath $(wildcard $(REFERENCES)/toolkit/bin/python))
export FEDSM_SAGEMAKER_PYTHON := $(abspath $(wildcard $(REFERENCES)/sdk/bin/python))
export FEDSM_FLOWER_SIMULATION_PYTHON := $(abspath $(REFERENCES)/flower/bin/python)
export FEDSM_MINISTACK := $(abspath $(wildcard $(REFERENCES)/ministack))

.PHONY: demo test check bench studies iam install references clean

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
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The reviewable policies of iam/, from its example.
iam: $(STAMP)
	$(BIN)/python -m fedsm.onboarding iam

bench: $(STAMP)
	$(BIN)/python -m benchmarks.rounds --sites 2 8 32
	$(BIN)/python -m benchmarks.model_size --mb 100 1000
	$(BIN)/python -m benchmarks.launch --sites 8
	$(BIN)/python -m benchmarks.eicu

# The three studies and the figures that they must reach: docs/studies.md is written by this. Where
# Flower's own simulation cannot be installed, its column says so.
studies: $(STAMP)
	-test -x $(FEDSM_FLOWER_SIMULATION_PYTHON) || { $(PYTHON) -m venv $(REFERENCES)/flower && \
	  $(REFERENCES)/flower/bin/python -m pip install --quiet 'flwr[simulation]>=1.41,<1.42' \
  psutil scikit-learn; }
	$(BIN)/python -m benchmarks.studies --docs docs

# The toolkit's command line, the SageMaker SDK's part that reads experiments, and another judge of
# IAM policies, each apart from fedsm's own environment.
references: $(REFERENCES)/.installed

$(REFERENCES)/.installed:
	$(PYTHON) -m venv $(REFERENCES)/toolkit
	$(REFERENCES)/toolkit/bin/python -m pip install --quiet 'sagemaker-training==5.1.4'
	$(PYTHON) -m venv $(REFERENCES)/sdk
	$(REFERENCES)/sdk/bin/python -m pip install --quiet 'sagemaker-core>=2.27,<3'
	$(REFERENCES)/sdk/bin/python -m pip install --quiet --no-deps --target $(REFERENCES)/ministack 'ministack==1.5.33'
	touch $@

clean:
	rm -rf $(VENV) $(REFERENCES) fedsm-demo
