# make demo   installs into .venv and explains a photograph
# make quick  installs what tests need and runs all but the slow ones
# make test   runs them all
# make docs   builds the site into out/site (python -m http.server -d out/site shows it, with its search)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo quick test check docs notebooks bench clean

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed-demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

.venv/.installed-test: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

.venv/.installed-bench: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,bench]'
	@touch $@

.venv/.installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: .venv/.installed-demo
	$(BIN)/kryptondb -f queries/demo.sql

PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

quick: .venv/.installed-test
	$(PYTEST) -m 'not slow'

test: .venv/.installed-test
	$(PYTEST)

check: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/wheels.py

docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml

notebooks: .venv/.installed-docs
	$(BIN)/python docs/drawn/run_notebooks.py

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks.exact

clean:
	rm -rf .venv out dist build
