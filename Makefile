# Rollforward: `make demo` shows a recovery on a real PostgreSQL, `make test` runs every test.
# Both install what they need first (see scripts/tools.sh).

SHELL := /bin/bash
# Further arguments: make test ARGS='-p store', make demo ARGS='--size 1GB --keep'
ARGS ?=
# A profile of .config/nextest.toml.
PROFILE ?= default

.PHONY: help
help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: tools build ## Destroy and recover a real PostgreSQL on this machine (ARGS=…)
	target/release/rollforward demo $(ARGS)

.PHONY: test
test: tools ## Run every test, without network (ARGS= as cargo nextest takes them)
	scripts/test.sh $(PROFILE) $(ARGS)

.PHONY: test-wide
test-wide: tools ## Run the long tests as well
	ROLLFORWARD_WIDE=1 scripts/test.sh wide $(ARGS)

.PHONY: check
check: ## Check format, lints, layout, crate edges, banned crates, documentation
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets --quiet -- -D warnings
	cargo run --quiet --locked --package xtask -- tidy
	cargo run --quiet --locked --package xtask -- edges
	cargo run --quiet --locked --package xtask -- bans
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --locked --no-deps --quiet
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; fi

.PHONY: build
build: ## Build the programs for use (target/release)
	cargo build --release --locked --bin rollforward --bin rollforward-shop

.PHONY: tools
tools: ## Install PostgreSQL 14-18, the S3 server, Kubernetes and the test runner where missing
	@scripts/tools.sh

.PHONY: bench
bench: tools build ## Compare speed with pgBackRest and pg_basebackup (ARGS=…)
	scripts/bench.sh $(ARGS)

.PHONY: fuzz
fuzz: ## Fuzz every decoder for SECONDS (60) each (ARGS= names targets)
	FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz.sh $(ARGS)

.PHONY: clean-tools
clean-tools: ## Remove what `make tools` has put into its cache
	@scripts/tools.sh --clean
