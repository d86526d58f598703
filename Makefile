# Every target makes its own virtual environment first; all it needs is Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
IN := $(VENV)/bin/python

# Tools that .venv does not have: the target that needs one installs it for itself, and throws it away.
UV := uv==0.13.9
PIP_AUDIT := pip-audit==2.10.1
throwaway = tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && $(PYTHON) -m venv "$$tool" && \
	"$$tool/bin/python" -m pip install --quiet --disable-pip-version-check $(1)
COMPILE = "$$tool/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--annotation-style line --custom-compile-command "make lock" $(UPGRADE)

.PHONY: demo run test test-vscode check coverage format lock audit bench bench-growth

demo: $(VENV)/ready  ## the relay in front of a built-in stand-in for AnythingLLM
	$(IN) run.py --demo

run: $(VENV)/ready  ## the relay in front of the AnythingLLM of .env
	$(IN) run.py

test: $(VENV)/ready-test
	$(IN) -m pytest

# The first time, VS Code's server is fetched from npm. Chromium is needed too.
test-vscode: $(VENV)/ready clients/vscode/node_modules/.package-lock.json  ## the extension, in a real VS Code
	cd clients/vscode && npm run check && npx tsc -p e2e && mkdir -p .vscode-test && \
		npm run package -- --out .vscode-test/anythingllm-relay.vsix && \
		PYTHON="$(abspath $(IN))" node --test --test-concurrency=1 --test-timeout=900000 e2e/*.test.js

clients/vscode/node_modules/.package-lock.json: clients/vscode/package-lock.json
	npm ci --prefix clients/vscode --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

check: $(VENV)/ready-dev
	$(IN) -m ruff format --check .
	$(IN) -m ruff check .
	$(IN) -m mypy

coverage: $(VENV)/ready-dev
	$(IN) -m coverage erase
	$(IN) -m coverage run -m pytest -m "not slow"
	$(IN) -m coverage combine --quiet
	$(IN) -m coverage report --fail-under=97

format: $(VENV)/ready-dev
	$(IN) -m ruff format .
	$(IN) -m ruff check --fix .

# Each lock is for every Python from 3.11 on and every system. What is locked stays at its version where the pins
# allow that; `make lock UPGRADE=--upgrade` takes the newest of everything that has no pin.
lock:  ## requirements*.txt with all that they need, and the hashes
	$(call throwaway,$(UV)) && \
	$(COMPILE) --output-file requirements.lock requirements.txt && \
	$(COMPILE) --output-file requirements-loadtest.lock --constraints requirements.lock requirements-loadtest.txt && \
	$(COMPILE) --output-file requirements-test.lock --constraints requirements.lock requirements-test.txt && \
	$(COMPILE) --output-file requirements-dev.lock --constraints requirements.lock requirements-dev.txt && \
	$(COMPILE) --output-file requirements-bench.lock requirements-bench.txt

# Strict: a package that could not be looked up would otherwise count as one without vulnerabilities.
audit:  ## known vulnerabilities in what is locked; asks a service on the internet
	$(call throwaway,$(PIP_AUDIT)) && "$$tool/bin/pip-audit" --strict --progress-spinner off \
		--disable-pip --require-hashes -r requirements.lock -r requirements-loadtest.lock -r requirements-test.lock -r requirements-dev.lock

bench: $(VENV)/ready .bench/ready  ## what the relay costs, beside nginx, FastAPI and others: half an hour
	$(IN) -m bench --save bench/results

bench-growth: $(VENV)/ready .bench/ready  ## how that grows with the streams: a quarter of an hour
	$(IN) -m bench.growth --save bench/results

$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The relay needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(IN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

$(VENV)/ready-loadtest: requirements-loadtest.lock $(VENV)/ready  # what python -m relay.loadtest needs
	$(IN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-loadtest.lock
	touch $@

$(VENV)/ready-test: requirements-test.lock tests/npm/package-lock.json $(VENV)/ready-loadtest
	$(IN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	if command -v npm >/dev/null; then npm ci --prefix tests/npm --ignore-scripts --no-audit --no-fund --loglevel=error; \
		else echo "npm is not here: clients in Node are not tested"; fi
	touch $@

$(VENV)/ready-dev: requirements-dev.lock $(VENV)/ready-test
	$(IN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

.bench/ready: requirements-bench.lock
	$(PYTHON) -m venv .bench
	.bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	touch $@
