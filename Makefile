# Every target makes .venv itself when it is missing; nothing but Python 3.11, make and git is needed.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test fuzz lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@echo "installing into .venv: about 6 GB, a few minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m agents.hybrid.demo --run runs/demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto

fuzz: $(STAMP)
	$(BIN)/python -m pytest -n auto --hypothesis-profile=fuzz

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m dqmq_env.benchmark.speed
	$(BIN)/python -m agents.hybrid.speed

clean:
	rm -rf .venv runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
