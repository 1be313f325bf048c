# Everything that a fresh machine with Python (3.11 or newer), pip, make and a C
# compiler needs: `make demo` or `make test` as the first and only command.
#
# One virtual environment serves all targets. The demo alone would need fewer
# packages (.[demo]), but torch is nearly all of the download either way, and
# with one environment the second command starts at once, also without network.

PYTHON  ?= python3
VENV    ?= .venv
# Test processes, and threads of arithmetic in each: two times two threads on two
# cores only wait for one another.
JOBS    ?= 2
THREADS ?= 1
# More arguments for pytest, as in `make test ARGS='-k vocab'`.
ARGS    ?=

PY    := "$(VENV)/bin/python"
STAMP := $(VENV)/.vocabtrim-installed
PIP   := $(PY) -m pip install --quiet --quiet --disable-pip-version-check
TORCH  = $$(sed -n 's/^torch==//p' constraints.txt)

# make splits names at spaces; the checkout itself may lie under any path.
ifneq ($(words $(VENV)),1)
$(error VENV must be one path without spaces, found '$(VENV)')
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check proofs mutants engines test-engines clean
.DELETE_ON_ERROR:

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done
	@printf '\nPYTHON=%s VENV=%s JOBS=%s THREADS=%s ARGS=%s\n' \
		'$(PYTHON)' '$(VENV)' '$(JOBS)' '$(THREADS)' '$(ARGS)'

demo: $(STAMP) ## The whole method on a real pair, in ./vocabtrim-demo
	@"$(VENV)/bin/vocabtrim" demo

test: $(STAMP) ## The test suite, without the long proofs
	@OMP_NUM_THREADS=$(THREADS) $(PY) -m pytest -n $(JOBS) -m 'not proof and not engine' $(ARGS)

check: $(STAMP) ## Lint, format, types, and the layers of the package
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@MYPYPATH=. $(PY) -m mypy --package tools
	@"$(VENV)/bin/lint-imports" --no-logo

proofs: $(STAMP) ## Statistical and exhaustive proofs of losslessness, minutes
	@OMP_NUM_THREADS=$(THREADS) $(PY) -m pytest -n $(JOBS) -m proof $(ARGS)

mutants: $(STAMP) ## Change each statement of the core in turn: a test must fail
	@$(PY) -m tools.mutants --jobs $(JOBS)

engines: $(STAMP) ## llama.cpp, vLLM and others into a cache, once: 20 minutes, 5 GB
	@$(PY) -m tools.engines

test-engines: $(STAMP) ## The tests that serve with what `make engines` built
	@OMP_NUM_THREADS=$(THREADS) $(PY) -m pytest -rs -m engine $(ARGS)

clean: ## Remove the environment, caches and what a demo wrote
	@if [ -f "$(STAMP)" ]; then rm -rf "$(VENV)"; fi
	@rm -rf vocabtrim-demo build dist .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone, so that a machine with a CPU wheel of this version
# (its own, or from an index that pip is configured for) takes that one: what
# follows finds the requirement met and fetches no other.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '' 2>/dev/null || \
		{ echo "$(PYTHON) does not run: install Python 3.11 or newer, or name one, as in 'make PYTHON=python3.12'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vocabtrim needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1): name another, as in 'make PYTHON=python3.12'" >&2; exit 1; }
	@echo "Setting up $(VENV), once: torch $(TORCH) (the large part), then the pinned rest"
	@$(PYTHON) -m venv "$(VENV)" || \
		{ echo "No virtual environment could be made: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	@$(PIP) "torch==$(TORCH)"
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch "$(STAMP)"
