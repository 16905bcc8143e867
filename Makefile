# What there is to run. Recipes are one line each; what they do lives in programs with tests.
#
#   make demo        a real two-node Kubernetes and the server on this machine, registered and usable
#   make demo-stop   removes all of it but installed packages
#   make test        checks, then every kind of test on a real Kubernetes (what continuous integration runs)
#   make bench       what the way through the server costs; writes docs/performance.md
#   make check       format, lints, documentation, licences and bans
#   make env         what to set for plain cargo commands: eval "$(make env)"
#   make images      container images of a release, for the architectures whose binaries can be built here
#
# CATTLE_CACHE       what may be kept from one checkout to the next (default ~/.cache/cattle)
# KUBERNETES_ASSETS  a directory of ready Kubernetes programs, instead of compiling them

SHELL := /bin/sh
CATTLE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cattle
export CATTLE_CACHE
export CARGO_TARGET_DIR ?= $(CATTLE_CACHE)/target
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
VERSION = $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
IMAGES := cattle-server cattle-cluster-agent
# Megabytes (10^6 bytes) that the agent's image may have, as a registry sends it.
AGENT_IMAGE_LIMIT := 20
# Public roots, for agents whose server has a publicly trusted certificate.
ROOTS ?= /etc/ssl/certs/ca-certificates.crt
OUTPUT ?= $(CATTLE_CACHE)/images

# One set of packages and features for building and testing, so that nothing is compiled twice.
PROGRAMS = $(CARGO_TARGET_DIR)/$(TRIPLE)/debug
TOOLS := $(CATTLE_CACHE)/tools
CARGO_DENY := 0.20.2

.PHONY: help env packages assets build check format clippy documentation deny test bench demo demo-stop images check-images

help:
	@sed -n 's/^#   //p' Makefile

# What the distribution has to give, and why; needs root when something is missing.
packages:
	@tests/kubernetes/packages

# Kubernetes, compiled once for each version of its sources.
assets: build
	$(PROGRAMS)/cattle-kubernetes-assets

build: packages
	cargo build --workspace --all-targets --locked

env:
	@echo "export CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)'"

check: format clippy documentation deny

format:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

documentation:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny: $(TOOLS)/bin/cargo-deny
	$(TOOLS)/bin/cargo-deny --all-features check --hide-inclusion-graph bans licenses sources
	@if $(TOOLS)/bin/cargo-deny --all-features fetch db >/dev/null 2>&1; then \
	  $(TOOLS)/bin/cargo-deny --all-features check --hide-inclusion-graph advisories; \
	else echo "advisories: NOT checked, the RustSec database cannot be reached from here"; fi

$(TOOLS)/bin/cargo-deny:
	env -u CARGO_TARGET_DIR cargo install cargo-deny --version $(CARGO_DENY) --locked --root $(TOOLS) \
	  --config 'build.target="$(TRIPLE)"'

test: check assets
	cargo test --workspace --locked

bench: assets
	cargo build --release -p cattle-server -p cattle-cluster-agent -p cattle-bench
	$(CARGO_TARGET_DIR)/$(TRIPLE)/release/cattle-bench --output docs/performance.md

# KUBECONFIG=FILE make demo uses that cluster; it then needs CATTLE_IMAGE_PREFIX and CATTLE_URL.
demo: assets
	$(PROGRAMS)/cattle-demo start

demo-stop:
	$(PROGRAMS)/cattle-demo stop
	@tests/kubernetes/packages list

# One archive for each image, checked after it is written.
images: build
	cargo build --release $(addprefix -p ,$(IMAGES))
	@mkdir -p $(OUTPUT)
	@for image in $(IMAGES); do \
	  $(PROGRAMS)/cattle-images build --binary $(CARGO_TARGET_DIR)/$(TRIPLE)/release/$$image \
	    $(if $(ARM64),--binary $(CARGO_TARGET_DIR)/aarch64-unknown-linux-gnu/release/$$image) \
	    --roots $(ROOTS) --name cattle/$${image#cattle-}:v$(VERSION) --revision "$(REVISION)" --output $(OUTPUT)/$$image.tar || exit 1; \
	done
	@$(MAKE) --no-print-directory check-images

check-images:
	@for image in $(filter-out cattle-cluster-agent,$(IMAGES)); do $(PROGRAMS)/cattle-images check $(OUTPUT)/$$image.tar || exit 1; done
	@$(PROGRAMS)/cattle-images check $(OUTPUT)/cattle-cluster-agent.tar --max-megabytes $(AGENT_IMAGE_LIMIT)
