# What there is to run. Recipes are one line each; what they do lives in programs with tests.
#
#   make demo        a real two-node Kubernetes and the server on this machine, registered and usable
#   make demo-stop   removes all of it but installed packages
#   make test        checks, then every kind of test on a real Kubernetes (what continuous integration runs)
#   make bench       what the way through the server costs, and the tunnel beside others; writes docs/performance.md
#   make test-long   every test over all of its matrix, for hours; goes on where it was stopped; writes docs/test-long.md
#   make fuzz        the protocol's decoders, each for FUZZ_SECONDS (default 60); needs cargo-fuzz's nightly compiler
#   make check       format, lints, documentation, licences and bans
#   make env         what to set for plain cargo commands: eval "$(make env)"
#   make images      what is released: container images and the command line, for the processors that it can be built for
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
# What is released: these packages, of which the first three become images.
IMAGES := cattle-server cattle-cluster-agent cattle-node-agent
RELEASED := $(IMAGES) cattle-cli
# Megabytes (10^6 bytes) that an image may have for one processor, as a registry sends it.
LIMIT-cattle-server := 30
LIMIT-cattle-cluster-agent := 20
LIMIT-cattle-node-agent := 20
# Public roots, for agents whose server has a publicly trusted certificate.
ROOTS ?= /etc/ssl/certs/ca-certificates.crt
OUTPUT ?= $(CATTLE_CACHE)/images

# For the other processor: Rust's standard library for it (rustup target add $(ARM64)), and a C compiler with a static
# libc (apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross). Without them its half is left out, aloud.
ARM64 := aarch64-unknown-linux-gnu
ARM64_CC := aarch64-linux-gnu-gcc
ARM64_LACKS = $(strip $(if $(wildcard $(shell rustc --print target-libdir --target $(ARM64))/libstd*),,Rust's $(ARM64)) \
  $(if $(shell command -v $(ARM64_CC)),,$(ARM64_CC)))
ARCHITECTURES = $(subst x86_64-unknown-linux-gnu,amd64,$(subst $(ARM64),arm64,$(1)))

# One set of packages and features for building and testing, so that nothing is compiled twice.
PROGRAMS = $(CARGO_TARGET_DIR)/$(TRIPLE)/debug
IMAGER = $(CARGO_TARGET_DIR)/$(TRIPLE)/release/cattle-images
TOOLS := $(CATTLE_CACHE)/tools
# The tunnel of Rancher, which the benchmark measures beside ours.
REMOTEDIALER = $(CARGO_TARGET_DIR)/remotedialer-peer
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 60

.PHONY: help env packages assets build check format clippy documentation deny test test-long fuzz bench demo demo-stop release release-arm64 images archives check-images

help:
	@sed -n 's/^#   //p' Makefile

# What the distribution has to give, and why; needs root when something is missing.
packages:
	@tests/kubernetes/packages $(PACKAGES)

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

# ONLY=PATTERN runs what has the pattern in its name.
test: check assets
	$(PROGRAMS)/cattle-test slice $(if $(ONLY),--only '$(ONLY)')

# The report is complete, and written, only without ONLY.
test-long: check assets
	$(PROGRAMS)/cattle-test long $(if $(ONLY),--only '$(ONLY)')

fuzz: $(TOOLS)/bin/cargo-fuzz
	cargo run --manifest-path proto/fuzz/Cargo.toml --target-dir $(CATTLE_CACHE)/fuzz --example corpus
	@cd proto && for target in $$($(TOOLS)/bin/cargo-fuzz fuzz list); do RUSTUP_TOOLCHAIN=nightly nice $(TOOLS)/bin/cargo-fuzz fuzz run \
	  --target-dir $(CATTLE_CACHE)/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

$(TOOLS)/bin/cargo-fuzz:
	env -u CARGO_TARGET_DIR cargo install cargo-fuzz --version $(CARGO_FUZZ) --locked --root $(TOOLS) \
	  --config 'build.target="$(TRIPLE)"'

# Two builds: the measured programs are those of a release, without what tests add to their packages.
bench: assets release
	cargo build --release --locked -p cattle-bench
	cd tests/bench/remotedialer && go build -trimpath -o $(REMOTEDIALER) .
	$(CARGO_TARGET_DIR)/$(TRIPLE)/release/cattle-bench --remotedialer $(REMOTEDIALER) --revision "$(REVISION)" --output docs/performance.md

# KUBECONFIG=FILE make demo uses that cluster; it then needs CATTLE_IMAGE_PREFIX and CATTLE_URL.
# Somebody's own cluster needs nothing here that only nodes need.
demo: PACKAGES = $(if $(KUBECONFIG),clients)
demo: assets
	$(PROGRAMS)/cattle-demo start

demo-stop:
	$(PROGRAMS)/cattle-demo stop
	@tests/kubernetes/packages list

# The programs alone.
release:
	cargo build --release --locked $(addprefix -p ,$(RELEASED) cattle-images)

release-arm64:
	CC_aarch64_unknown_linux_gnu=$(ARM64_CC) CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$(ARM64_CC) \
	  cargo build --release --locked --target $(ARM64) $(addprefix -p ,$(RELEASED))

# One archive for each image, checked after it is written, and the command line beside them.
images: release
	@lacks="$(ARM64_LACKS)"; if [ -n "$$lacks" ]; then echo "arm64: NOT built, this machine lacks $$lacks (see Makefile)"; \
	  $(MAKE) --no-print-directory archives TRIPLES=$(TRIPLE); \
	else $(MAKE) --no-print-directory release-arm64 && $(MAKE) --no-print-directory archives TRIPLES="$(sort $(TRIPLE) $(ARM64))"; fi

archives:
	@mkdir -p $(OUTPUT)
	@for image in $(IMAGES); do \
	  $(IMAGER) build $(foreach triple,$(TRIPLES),--binary $(CARGO_TARGET_DIR)/$(triple)/release/$$image) --roots $(ROOTS) \
	    --name cattle/$${image#cattle-}:v$(VERSION) --version v$(VERSION) --revision "$(REVISION)" \
	    --output $(OUTPUT)/$$image.tar || exit 1; \
	done
	@$(foreach triple,$(TRIPLES),cp $(CARGO_TARGET_DIR)/$(triple)/release/cattle $(OUTPUT)/cattle-linux-$(call ARCHITECTURES,$(triple)) &&) true
	@$(MAKE) --no-print-directory check-images

check-images:
	@$(foreach image,$(IMAGES),$(IMAGER) check $(OUTPUT)/$(image).tar --max-megabytes $(LIMIT-$(image)) &&) true
