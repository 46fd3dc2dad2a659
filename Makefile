# Targets install what they need (Debian packages by apt, tools by go) and may be called on a
# machine that has only Go, make and apt. Variables for test-e2e and demo, RUN also for fuzz:
#   RUN=regexp    only the tests whose names match
#   TIER=full     the tests that only test-full runs, instead of the others
#   COUNT=10      so many times each, to find what fails sometimes
#   KEEP=1        the machine of a test that fails is kept for build/lab ssh
#   SUITE=trixie  the Debian release that the lab runs: trixie, bookworm or forky
#   NOMAD=path    a Nomad binary to use instead of the one that the lab builds
export RUN TIER COUNT KEEP SUITE NOMAD

VERSION := 0.1.0-dev
# What podman's bindings need to build without C libraries.
TAGS := remote containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper
# No stamp of the working copy: it fails where another user owns that.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
GO_BUILD := CGO_ENABLED=0 go build -v -trimpath

# Tools are kept per user, so that a fresh clone builds none of them again.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nomad-driver-podman
GOLANGCI_VERSION := v2.15.0
GOLANGCI_DIR := $(CACHE)/bin/golangci-lint-$(GOLANGCI_VERSION)-$(shell go env GOVERSION)
GOLANGCI := $(GOLANGCI_DIR)/golangci-lint

# $(call need,COMMAND,PACKAGE) installs Debian's package when the command is missing.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
need = command -v $(1) >/dev/null || { $(SUDO) apt-get update -q && \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(2); }

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this text
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: dev
dev: tools lab-deps build ## Install everything that developing needs, and build

.PHONY: build
build: ## Build the plugin, the lab's program and the tests' into build/
	@echo "building build/nomad-driver-podman $(VERSION)"
	@$(GO_BUILD) -tags "$(TAGS)" -ldflags "-s -w -X main.version=$(VERSION)" -o build/nomad-driver-podman .
	@$(GO_BUILD) -o build/lab ./lab
	@$(GO_BUILD) -o build/e2e ./e2e/run

.PHONY: test-unit
test-unit: ## Run the unit tests with the race detector; needs no privileges
	@$(call need,gcc,gcc libc6-dev)
	@echo "compiling and running the unit tests; the first time takes minutes"
	CGO_ENABLED=1 go test -race -tags "$(TAGS)" ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target in turn, up to a finding [FUZZTIME=30s] [RUN=]
	@TAGS="$(TAGS)" FUZZTIME="$(FUZZTIME)" fuzz/run

.PHONY: test-e2e
test-e2e: build lab-deps ## Run the end-to-end tests in the lab [RUN=] [TIER=] [COUNT=] [KEEP=] [SUITE=] [NOMAD=]
	@TAGS="$(TAGS) e2e" build/e2e

.PHONY: test
test: test-unit test-e2e ## Run all tests on the main suite

.PHONY: test-full
test-full: test bench ## Run also the benchmarks, the soak tests, and the redis job on every other suite
	$(MAKE) test-e2e TIER=full
	$(MAKE) test-e2e SUITE=bookworm RUN=TestRedis
	$(MAKE) test-e2e SUITE=forky RUN=TestRedis

.PHONY: bench
bench: build lab-deps ## Run the benchmarks in the lab, and write README's chapter on performance [RUN=] [SUITE=] [NOMAD=]
	@TAGS="$(TAGS) e2e" e2e/bench/run

.PHONY: lint
lint: tools ## Check the Go code, the shell scripts and the Vagrantfile
	$(GOLANGCI) run ./...
	cd e2e/conformance && CGO_ENABLED=0 $(GOLANGCI) run ./...
	cd e2e/bench && CGO_ENABLED=0 $(GOLANGCI) run ./...
	git ls-files -z | xargs -0 awk 'FNR == 1 { if (/^#!.*sh( |$$)/ || FILENAME ~ /\.sh$$/) print FILENAME; nextfile }' | xargs shellcheck --external-sources
	vagrant validate --ignore-provider

.PHONY: demo
demo: build lab-deps ## Run the redis job rootless under Nomad, and show it [SUITE=] [NOMAD=]
	@examples/demo.sh

.PHONY: clean
clean: ## Remove what was built here; `build/lab clean` removes the lab's cache
	rm -rf build .vagrant

# Programs for the Vagrant machine; the lab builds them for itself.
build/nomad build/probe: build/%:
	lab/provision/binaries.sh $* $@

.PHONY: tools
tools: $(GOLANGCI)
	@$(call need,shellcheck,shellcheck)
	@$(call need,vagrant,vagrant)

$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI_VERSION) once for this user; takes minutes"
	@GOFLAGS= GOBIN=$(GOLANGCI_DIR) go install -v github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: lab-deps
lab-deps:
	@lab/deps.sh
