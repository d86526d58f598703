# Every target makes its own virtual environment first; all it needs is Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
IN := $(VENV)/bin/python

.PHONY: demo run test check coverage format

demo: $(VENV)/ready  ## the relay in front of a built-in stand-in for AnythingLLM
	$(IN) run.py --demo

run: $(VENV)/ready  ## the relay in front of the AnythingLLM of .env
	$(IN) run.py

test: $(VENV)/ready
	$(IN) -m pytest

check: $(VENV)/ready-dev
	$(IN) -m ruff format --check .
	$(IN) -m ruff check .
	$(IN) -m mypy

coverage: $(VENV)/ready-dev
	$(IN) -m pytest --cov --cov-fail-under=95

format: $(VENV)/ready-dev
	$(IN) -m ruff format .
	$(IN) -m ruff check --fix .

$(VENV)/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The relay needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(IN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/ready-dev: requirements-dev.txt $(VENV)/ready
	$(IN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
