# `make help` lists the targets. ARGS reaches the program: make demo ARGS="--tasks 500 --json out.json"
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help demo test test-claude-code test-frameworks soak check format lock clean
help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("tierwise needs Python 3.11 or newer; say make PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready ## the main job, with no key and no network: 20 agents, 10,000 tasks, a report
	@$(BIN)/tierwise demo $(ARGS)

test: $(VENV)/.ready ## the whole test suite
	@$(BIN)/python -m pytest -n auto $(ARGS)

soak: $(VENV)/.ready ## the long runs that `make test` has a small version of
	@$(BIN)/python -m pytest -m soak -n 0 -s tests/soak $(ARGS)

test-claude-code: $(VENV)/.ready ## a session of the real Claude Code; downloads 170 MB, kept in TIERWISE_TEST_CACHE
	@$(BIN)/python -m pytest -m claude_code -n 0 tests/claude_code $(ARGS)

test-frameworks: $(VENV)/.ready ## the frameworks' examples with the real packages; downloads 500 MB, kept likewise
	@$(BIN)/python -m pytest -m frameworks -n 0 tests/frameworks $(ARGS)

check: $(VENV)/.ready ## linters, types, import floors, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/build_prices.py --check
	@$(BIN)/python tools/build_reference.py --check
	@$(BIN)/python tools/build_docs.py --check
	@$(BIN)/python tools/build_benchmarks.py --check

bench-%: $(VENV)/.ready ## make bench-NAME: one benchmark of bench/
	@$(BIN)/python bench/$*.py $(ARGS)

format: $(VENV)/.ready ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

LOCK := $(VENV)-lock/bin/uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-strip-extras --upgrade
lock: $(VENV)/.ready ## compile requirements/*.lock again, newest versions
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.lock
	for name in $(basename $(wildcard requirements/*.in)); do $(LOCK) $$name.in -o $$name.lock || exit 1; done
	rm -rf $(VENV)-lock

clean: ## remove what the other targets made
	rm -rf $(VENV) .peers .pytest_cache .ruff_cache .coverage* .hypothesis build dist
