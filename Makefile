# Everything a user or developer types; `make` alone lists it.
#
# Installing is safe while the hub runs: each program is written beside its place and renamed into it.
# A configuration file that exists is never overwritten.

HUB_HOME ?=
CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
RELEASE := $(TARGET_DIR)/release
PROGRAMS := launcher hubcli mqttcore
EXAMPLE_PLUGIN := counter
# Where the advisory database lies, if there is one: `make lint ADVISORY_DB=DIR`.
ADVISORY_DB ?= $(wildcard $(HOME)/.cargo/advisory-db)

.DEFAULT_GOAL := help
.PHONY: help run install place build test vm fuzz chaos lint audit bench mosquitto paho
# One after the other, also with -j: cargo locks its folder anyway.
.NOTPARALLEL:

help: ## Lists these targets
	@echo "Usage: make TARGET"
	@sed -n 's/^\([a-z]*\):[^#]*## /  \1\t/p' Makefile | expand -t 12

run: ## Builds, brings up a working hub in ./hub; Ctrl-C stops it
	@$(MAKE) --no-print-directory install HUB_HOME='$(CURDIR)/hub'
	@printf '%s\n' "" "The hub is in $(CURDIR)/hub and starts now; Ctrl-C stops it." \
		"What to type next, in another terminal, in this folder:" \
		"    ./hub/bin/hubcli ls" ""
	@exec '$(CURDIR)/hub/bin/launcher'

install: place build ## Installs into HUB_HOME=DIR (bin, plugins, config, ...)
	@set -eu; \
	home='$(HUB_HOME)'; \
	folder() { [ -d "$$2" ] || install -d -m "$$1" "$$2"; }; \
	program() { install -m 0755 "$$1" "$$2/.$$3.new"; mv -f "$$2/.$$3.new" "$$2/$$3"; }; \
	for name in '' bin plugins config logs stores run; do folder 0755 "$$home/$$name"; done; \
	folder 0711 "$$home/certs"; \
	for name in $(PROGRAMS); do program "$(RELEASE)/$$name" "$$home/bin" "$$name"; done; \
	program "$(RELEASE)/examples/$(EXAMPLE_PLUGIN)" "$$home/plugins" "$(EXAMPLE_PLUGIN)"; \
	for sample in config/*.yaml config/mosquitto.conf config/mosquitto.acl; do \
		place="$$home/config/$${sample##*/}"; \
		if [ -e "$$place" ] || [ -L "$$place" ]; then echo "kept  $$place"; continue; fi; \
		install -m 0644 "$$sample" "$$place.new"; \
		mv -n "$$place.new" "$$place"; \
		echo "wrote $$place"; \
	done; \
	echo "Installed in $$home"

place:
	@if [ -z '$(HUB_HOME)' ]; then echo "Say where: make install HUB_HOME=DIR" >&2; exit 2; fi

build:
	@$(CARGO) build --release --locked --target-dir '$(TARGET_DIR)' --bins --example $(EXAMPLE_PLUGIN)

test: mosquitto paho ## Passes every test
	@$(CARGO) test --workspace --locked --quiet

# VM_PARTS='user tests': only these parts; tests/vm/inside.sh lists them.
VM_PARTS ?=
vm: ## Tries cgroups and systemd in a small virtual machine
	@$(CARGO) build --locked --quiet --bins
	@$(CARGO) test --locked --quiet -p os --no-run
	@CARGO_TARGET_DIR='$(TARGET_DIR)' tests/vm/run.sh $(VM_PARTS)

# FUZZ_SEED=N: the same inputs again. A failure prints its seed and its input.
FUZZ_ROUNDS ?= 1000000
MUTATION_ROUNDS ?= 100000
fuzz: ## Gives parsers and a running core odd input for long
	@FUZZ_ROUNDS='$(FUZZ_ROUNDS)' $(CARGO) test --locked --quiet --test fuzz -- --nocapture
	@MUTATION_ROUNDS='$(MUTATION_ROUNDS)' $(CARGO) test --locked --quiet --test core mutated -- --nocapture

# MODEL_SEED=N: the same again. A failure prints its seed and what happened.
MODEL_ROUNDS ?= 3000
MODEL_REAL_ROUNDS ?= 200
chaos: ## Commands and faults at random against a model, for long
	@MODEL_ROUNDS='$(MODEL_ROUNDS)' $(CARGO) test --locked --quiet --test sim model -- --nocapture
	@MODEL_REAL_ROUNDS='$(MODEL_REAL_ROUNDS)' $(CARGO) test --locked --quiet --test faults model:: -- --nocapture

lint: ## Format, clippy, documentation, advisories
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --workspace --locked --quiet
	@$(MAKE) --no-print-directory audit

# The database cannot be fetched everywhere; this step never passes silently without one.
audit:
	@set -eu; \
	if [ -z '$(ADVISORY_DB)' ]; then echo "audit: skipped: no database"; exit 0; fi; \
	if ! command -v cargo-audit >/dev/null; then \
		echo "audit: there is a database in $(ADVISORY_DB), but no cargo-audit; install it: cargo install cargo-audit" >&2; \
		exit 1; \
	fi; \
	$(CARGO) audit --db '$(ADVISORY_DB)' --no-fetch --stale

# BENCH_QUICK=1: fewer rounds.
bench: ## Measures against baselines of the same run; takes minutes
	@$(CARGO) bench --locked --bench hub --bench core

# A broker and clients of another maker are part of the tests; without them they would prove less and not say so. The
# service that comes with the package, on port 1883, is nobody's in the tests.
mosquitto:
	@set -eu; \
	has() { command -v mosquitto_rr >/dev/null && PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null; }; \
	if has; then exit 0; fi; \
	hint="The tests need mosquitto and mosquitto_rr; install them: apt-get install mosquitto mosquitto-clients"; \
	command -v apt-get >/dev/null || { echo "$$hint (or your system's like of it)" >&2; exit 1; }; \
	if [ "$$(id -u)" = 0 ]; then as=; \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as='sudo -n'; \
	elif command -v sudo >/dev/null && [ -t 0 ] && [ -z "$${CI:-}" ]; then as=sudo; \
	else echo "$$hint (as root, or with sudo)" >&2; exit 1; fi; \
	echo "Installing mosquitto and mosquitto-clients"; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$as apt-get update -qq && $$as apt-get install -qq -y --no-install-recommends mosquitto mosquitto-clients >/dev/null \
		|| { echo "$$hint (the try to do so failed, see above)" >&2; exit 1; }; \
	has || { echo "$$hint (installed, but not in PATH)" >&2; exit 1; }

# Another client of another maker; the tests name what they leave out without it.
paho:
	@has() { for python in /usr/bin/python3 python3; do $$python -c 'import paho.mqtt.client' 2>/dev/null && return; done; false; }; \
	if has || ! command -v apt-get >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as=; else as='sudo -n'; fi; \
	echo "Installing python3-paho-mqtt"; \
	DEBIAN_FRONTEND=noninteractive $$as apt-get install -qq -y --no-install-recommends python3-paho-mqtt >/dev/null 2>&1 \
		|| echo "python3-paho-mqtt could not be installed; its tests are left out"
