# policyd. `make` shows the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PREFIX  ?= /usr/local
LDFLAGS  = -s -w -X main.version=$(VERSION)
LINT     = bin/golangci-lint
FUZZTIME ?= 10s

# The packages that need neither root nor Postfix.
UNIT = $(shell go list ./...)

.DEFAULT_GOAL = help
.PHONY: help build test unit e2e check fuzz bench demo demo-mail deps install clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

build: ## bin/policyd
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/policyd ./cmd/policyd

test: deps check unit e2e ## everything, as in CI; installs postfix and unbound if root on Debian

unit: ## tests that need no root and no packages
	go test -race -shuffle=on -timeout 10m $(UNIT)

e2e: deps build ## real Postfix, real unbound, real receivers; root only
	go test -tags e2e -count=1 -timeout 20m -v ./e2e/... ./internal/postfix ./cmd/policyd/internal/doctor

check: $(LINT) ## format, vet, lint
	go mod verify
	go mod tidy -diff
	go vet -tags e2e ./...
	$(LINT) run ./...

$(LINT): tools/lint/go.mod
	cd tools/lint && go build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## every fuzz target for FUZZTIME (10s)
	@set -e; for p in $(UNIT); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
	  done; \
	done

bench: build ## cached lookups beside a server that knows one answer
	go run ./e2e/cmd/bench -policyd bin/policyd

demo: build ## ask a policyd on a built-in lab resolver; no root, no packages
	@go run ./e2e/cmd/demo -policyd bin/policyd

demo-mail: deps build ## real mail through real Postfix as a show; root only
	@go run ./e2e/cmd/demo-mail -policyd bin/policyd

deps:
	@e2e/install-deps

install: build ## bin/policyd and the Postfix examples under DESTDIR and PREFIX
	install -D -m 0755 bin/policyd $(DESTDIR)$(PREFIX)/sbin/policyd
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/policyd postfix/*.example README.md

clean: ## remove what was built
	rm -rf bin dist
