# What there is to run. Recipes are one line each; what they do lives in programs with tests.
#
#   make demo        a real two-node Kubernetes and the server on this machine, registered and usable
#   make demo-stop   removes all of it but installed packages
#   make test        every kind of test
#   make images      container images of a release, for the architectures whose binaries can be built here
#
# CATTLE_CACHE       what may be kept from one checkout to the next (default ~/.cache/cattle)
# KUBERNETES_ASSETS  a directory of ready Kubernetes programs, instead of compiling them

SHELL := /bin/sh
CATTLE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cattle
export CATTLE_CACHE
export CARGO_TARGET_DIR ?= $(CATTLE_CACHE)/target
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

BINARIES := cattle-server cattle-cluster-agent cattle-cli
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
IMAGES := cattle-server cattle-cluster-agent
# Megabytes (10^6 bytes) that the agent's image may have, as a registry sends it.
AGENT_IMAGE_LIMIT := 20
OUTPUT ?= $(CATTLE_CACHE)/images

.PHONY: help packages assets build test demo demo-stop images check-images

help:
	@sed -n 's/^#   //p' Makefile

# What the distribution has to give, and why; needs root when something is missing.
packages:
	@tests/kubernetes/packages

# Kubernetes, compiled once for each version of its sources.
assets: packages
	cargo run --quiet -p cattle-harness --bin cattle-kubernetes-assets

build:
	cargo build $(addprefix -p ,$(BINARIES))

test: assets build
	cargo test --workspace

# KUBECONFIG=FILE make demo uses that cluster; it then needs CATTLE_IMAGE_PREFIX and CATTLE_URL.
demo: $(if $(KUBECONFIG),,packages) assets build
	cargo run --quiet -p cattle-demo -- start

demo-stop:
	cargo run --quiet -p cattle-demo -- stop
	@tests/kubernetes/packages list

# One archive for each image, checked after it is written.
images:
	cargo build --release $(addprefix -p ,$(IMAGES))
	@mkdir -p $(OUTPUT)
	@for image in $(IMAGES); do \
	  cargo run --quiet -p cattle-images -- build --binary $(CARGO_TARGET_DIR)/$(TRIPLE)/release/$$image \
	    $(if $(ARM64),--binary $(CARGO_TARGET_DIR)/aarch64-unknown-linux-gnu/release/$$image) \
	    --name cattle/$$image:v0.1.0 --revision "$(REVISION)" --output $(OUTPUT)/$$image.tar || exit 1; \
	done
	@$(MAKE) --no-print-directory check-images

check-images:
	@for image in $(filter-out cattle-cluster-agent,$(IMAGES)); do cargo run --quiet -p cattle-images -- check $(OUTPUT)/$$image.tar || exit 1; done
	@cargo run --quiet -p cattle-images -- check $(OUTPUT)/cattle-cluster-agent.tar --max-megabytes $(AGENT_IMAGE_LIMIT)
