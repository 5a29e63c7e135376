# make demo   installs into .venv and explains a photograph
# make test   installs what tests need and runs them all
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

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

demo: .venv/.installed-demo
	$(BIN)/kryptondb -f queries/demo.sql

test: .venv/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

check: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/wheels.py

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks.exact

clean:
	rm -rf .venv out dist build
