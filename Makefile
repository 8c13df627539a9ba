# Tsugi. `make demo` and `make test` set up what they need by themselves on
# Debian 12; Go comes from you (see README.md).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO          ?= go
GO_VERSION  := $(shell sed -n 's/^go //p' go.mod)
export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= local
# One way to compile, so that build, lint, tests and packages do it once.
export GOFLAGS := $(filter-out -trimpath,$(shell $(GO) env GOFLAGS 2>/dev/null)) -trimpath
STORE       := $(or $(TSUGI_HOME),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tsugi)
TOOL        := $(GO) tool -modfile=tools/go.mod
PAGES       := ./internal/cli ./internal/agentcli ./internal/servercli ./internal/server # packages that write docs/

.PHONY: build demo demo-console demo-update demo-userland test race long userland kernels exclusions updates whole short lint format bench packages deps docs clean check-go help console queries

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

build: check-go ## bin/tsugictl, tsugi-server, tsugi; static
	$(GO) build -o bin/ ./cmd/...

demo: check-go deps build ## one real fix, from source diff to a fleet's machine
	demo/run.sh

demo-console: check-go deps build ## the console on a fleet that is alive, without what comes before it in the demo
	demo/look.sh

demo-update: check-go deps build ## a part of a whole update: judged, built, one CVE left out, proven
	demo/update.sh

demo-userland: check-go deps build ## libssl3 in a web server and PostgreSQL, patched under load and back again (root)
	demo/userland.sh

test: kernels ## everything, on real kernels too
	GO="$(GO)" test/all.sh

race: kernels ## the same, all of it under the race detector: three quarters of an hour
	CGO_ENABLED=1 TSUGI_TEST_KERNELS=1 TSUGI_TEST_DEBS="$(STORE)/debs" $(GO) test -race -p 2 -timeout 60m ./...

long: kernels ## what takes too long for each change: power lost ten times at every step, a thousand patchers killed, thousands of stacks beside gdb, the other kernel
	CGO_ENABLED=0 TSUGI_TEST_KERNELS=1 TSUGI_TEST_LONG=1 TSUGI_TEST_DEBS="$(STORE)/debs" $(GO) test -p 2 -timeout 120m ./internal/... ./packaging ./test/...

userland: check-go deps ## packages built again and held against the shipped ones, real fixes in processes that run (root): half an hour the first time, and 7 GiB
	CGO_ENABLED=0 TSUGI_TEST_USERLAND=1 $(GO) test -count=1 -v -p 1 -timeout 120m ./internal/userland/... ./test/packages

kernels: check-go deps build ## the targets that tests run on
	test/kernels.sh

exclusions: check-go deps build ## ten random choices of fixes: each built, its module searched, loaded over the one before
	CGO_ENABLED=0 TSUGI_TEST_KERNELS=1 TSUGI_TEST_SUBSETS=10 $(GO) test -count=1 -v -timeout 60m ./test/kernels -run TestRandomExclusions

updates: check-go deps build ## two whole updates taken apart and put together again
	CGO_ENABLED=0 TSUGI_UPDATES="6.1.190-1..6.1.192-1 6.12.115-2~deb12u1..6.12.117-1~deb12u1" $(GO) test -count=1 -v -timeout 30m ./internal/catalogue -run TestRealUpdates

whole: check-go deps build ## one live patch of a whole update, lived with on the real kernel (TSUGI_WHOLE: minutes of each stretch)
	CGO_ENABLED=0 TSUGI_TEST_KERNELS=1 TSUGI_WHOLE=$(or $(TSUGI_WHOLE),2) TSUGI_WHOLE_TSUGICTL=$(CURDIR)/bin/tsugictl $(GO) test -count=1 -v -timeout 180m ./test/kernels -run TestAWholeUpdate

packages: check-go ## bin/packages: deb and rpm of all programs, the same bytes for the same commit
	packaging/build.sh bin/packages

short: check-go ## only what needs no kernel
	$(GO) test -short ./...

lint: check-go ## formatting, vet, staticcheck, generated files
	@unformatted=$$($(TOOL) gofumpt -l cmd demo include internal packaging test); \
	  if [ -n "$$unformatted" ]; then echo "make format would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod verify
	@if command -v shellcheck >/dev/null; then shellcheck -x .ci/run demo/*.sh test/*.sh packaging/*.sh packaging/scripts/* internal/store/*.sh; fi
	$(GO) test -run 'UpToDate|Documented|Imports|Pure|Edge|Order' ./internal/layers $(PAGES)

format: check-go ## rewrite the Go files as lint wants them
	$(TOOL) gofumpt -w cmd demo include internal packaging test

docs: check-go ## rewrite the generated pages of docs/
	for p in $(PAGES); do $(GO) test $$p -run UpToDate -update; done

queries: ## compile the store's SQL again after a change of it (needs sqlc, or gcc to build it)
	internal/store/generate.sh

console: deps ## build the console again after a change of web/console or of the API
	node=$$(test/browser.sh) && cd web/console && PATH=$$node:$$PATH npm run build

bench: check-go deps build ## the figures of speed and size, must against measured
	$(GO) test -run '^$$' -bench . -benchtime 1s ./internal/...
	test/bench.sh
	test/bench-agent.sh
	test/bench-server.sh
	test/bench-console.sh
	test/bench-series.sh
	test/bench-userland.sh

deps: ## install the Debian packages that are missing
	@test/deps.sh

clean: ## remove bin/; the caches of targets stay (tsugictl target rm)
	rm -rf bin

check-go:
	@command -v $(GO) >/dev/null || { echo "Go $(GO_VERSION) or newer is needed and no '$(GO)' is in PATH: see README.md, \"What you need\"." >&2; exit 1; }
	@$(GO) list -m >/dev/null 2>&1 || { echo "Go $(GO_VERSION) or newer is needed; this is $$($(GO) env GOVERSION): see README.md, \"What you need\"." >&2; exit 1; }
