# make demo: install into .venv, run the whole method on handwritten digits, print the report's path.
# make test: install with the test extras, then lint, type check and tests.
# make docs: install pdoc, then build README, guides and API reference as a site in build/docs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Write bytecode: every test process imports torch, and can use what the first one compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types docs clean

demo: $(VENV)/.installed
	$(BIN)/decouple run digits --out runs/digits --resume

test: $(VENV)/.installed-test lint types
	$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python .ci/docs.py

# --no-compile: bytecode is compiled on first import; compiling all of torch now would take a minute and 0.4 GB.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "decouple needs Python 3.10 or newer; call make with PYTHON=python3.11, say")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
