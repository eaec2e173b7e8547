# What is used most: make demo, make test, make check. `make help` lists all of it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOL := go tool -modfile=tools/go.mod
# `make check` tries the guards that changed since this commit, and a tenth of all: another
# tenth after each commit.
BASE ?= $(shell git rev-parse -q --verify HEAD~1 2>/dev/null || git rev-parse HEAD)
FUZZTIME ?= 20000x
VERSION ?=

# Tests write and sync thousands of small files. What they try is the order of writes and
# what follows a failure, not the disk, so they get a file system in memory where there
# is one with room. Benchmarks stay on the disk.
MEMORY := $(shell test -w /dev/shm && ! grep -q ' /dev/shm .*noexec' /proc/mounts && test "$$(df --output=avail -k /dev/shm | tail -n 1)" -gt 4000000 && echo /dev/shm)
test guards guards-changed fuzz thousand five-thousand: export TMPDIR := $(or $(MEMORY),$(TMPDIR),/tmp)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | expand -t 16

.PHONY: build
build: player ## build bin/sallyport
	go build -trimpath $(if $(VERSION),-ldflags '-X main.version=$(VERSION)') -o bin/sallyport ./cmd/sallyport

.PHONY: player
player: ## bring the pages' terminal player from npm, where that can be reached
	@scripts/player.sh

.PHONY: demo
demo: ## run the gate, an identity provider and a database on this machine
	@scripts/setup.sh server pages
	@$(MAKE) --no-print-directory build
	@exec bin/sallyport demo $(ARGS)

.PHONY: setup
setup: ## install the Debian packages that the tests need
	@scripts/setup.sh server tests pages
	@scripts/player.sh

.PHONY: test
test: setup ## run every test: the packages under the race detector, then the binary end to end
	@scripts/test.sh

.PHONY: check
check: fmt-check vet lint tidy-check arch vuln guards-changed ## run every check that is not a test

.PHONY: fmt
fmt: ## format all Go files
	$(TOOL) gofumpt -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check:
	@bad=$$($(TOOL) gofumpt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [[ -n "$$bad" ]]; then printf 'not formatted (make fmt):\n%s\n' "$$bad"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint:
	$(TOOL) golangci-lint run ./...

.PHONY: tidy-check
tidy-check:
	go mod tidy -diff

.PHONY: arch
arch: ## check the tree against docs/architecture.md
	go test -count=1 ./internal/archtest

.PHONY: vuln
vuln: ## look for known vulnerabilities, where the database can be reached
	@scripts/vuln.sh

.PHONY: guards
guards: setup ## turn the guards off one by one: all, or NAME=identity/oidc
	go run ./internal/guards/run --write docs/guards.md $(if $(NAME),$(NAME),--all)

.PHONY: guards-changed
guards-changed: setup
	go run ./internal/guards/run --changed $(BASE) --tenth $$(git rev-list --count HEAD) --within 5m --most 10m

.PHONY: fuzz
fuzz: setup ## run every fuzz target FUZZTIME long (a count of runs, 20000x)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

.PHONY: thousand
thousand: setup ## cut a thousand live sessions of a real PostgreSQL in one instant
	go test -count=1 -v -timeout 10m -run TestManyLiveSessionsAreCutInTime ./protocols/postgres -args -sessions $(or $(SESSIONS),1000)

.PHONY: five-thousand
five-thousand: setup ## cut five thousand live sessions of a small server in one instant (ulimit -n 20000)
	go test -count=1 -v -timeout 10m -run TestManyLiveSessionsAreCutInTime ./protocols/postgres -args -small -sessions $(or $(SESSIONS),5000)

.PHONY: bench
bench: setup build ## compare the gate with a direct connection
	go run ./internal/bench $(ARGS)
	go test -run '^$$' -bench YesToFirstByte -benchtime 9x ./protocols/postgres

.PHONY: bench-http
bench-http: setup ## compare the gate with nginx, Caddy and a plain proxy before one nginx (needs wrk)
	go test -v -tags bench -count=1 -timeout 30m -run '^Test(Ways|IdleWebsockets)$$' ./protocols/http

.PHONY: soak
soak: setup build ## keep a gate busy for an hour (SOAK=10m for less) and write docs/soak.md
	go test -tags soak -count=1 -timeout 1h -run '^TestLargeTransfers$$' ./protocols/http
	go test -tags soak -count=1 -timeout 1h -run '^TestMemoryStaysFlat$$' ./protocols/ssh
	go test -race -count=1 -timeout 1h -run '^TestOneOutcome$$' ./session -args -races 5000
	go test -count=1 -timeout 1h -run '^TestGateIsItsModel$$' ./internal/model -rapid.checks=2000
	go test -count=1 -timeout 1h -run '^TestHistoriesOfCrashes$$' ./audit -rapid.checks=2000
	$(MAKE) thousand five-thousand
	go run ./internal/soak -for $(or $(SOAK),1h) $(ARGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin node_modules web/static/player/[!.]*
