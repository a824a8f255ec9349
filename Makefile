# policyd. `make` shows the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PREFIX  ?= /usr/local
LDFLAGS  = -s -w -X main.version=$(VERSION)
LINT     = bin/golangci-lint
NFPM     = bin/nfpm
# Of the packages, in the words of Go.
ARCH    ?= $(shell go env GOARCH)
CROSS    = linux/amd64 linux/arm64 freebsd/amd64 openbsd/amd64
FUZZTIME ?= 10s

# The packages that need neither root nor Postfix.
UNIT = $(shell go list ./...)

.DEFAULT_GOAL = help
.PHONY: help build test unit e2e torture torture-short soak check fuzz fuzz-short bench demo demo-mail deps man install deb rpm cross package-test clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

build: ## bin/policyd
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/policyd ./cmd/policyd

test: deps build ## everything, as in CI; installs what it needs if root on Debian
	@# The soak takes long and little of the processor, so it goes on beside the rest.
	@$(MAKE) --no-print-directory soak & soak=$$!; \
	$(MAKE) --no-print-directory check unit fuzz-short e2e torture-short package-test || { kill $$soak 2>/dev/null; wait; exit 1; }; \
	wait $$soak

unit: ## tests that need no root and no packages
	go test -race -shuffle=on -timeout 10m $(UNIT)

e2e: deps build ## real Postfix, real unbound, real receivers; root only
	go test -p 1 -tags e2e -count=1 -timeout 20m -v ./e2e/... ./internal/postfix ./cmd/policyd/internal/doctor

torture: build ## what must hold under faults, written to docs/faults.md; less than 10 minutes, all of it as root only
	go run ./e2e/cmd/torture -policyd bin/policyd

torture-short: build
	go run ./e2e/cmd/torture -policyd bin/policyd -short

SOAK ?= 10m

soak: build ## mixed load for SOAK (10m), in which nothing may grow
	go run ./e2e/cmd/torture -policyd bin/policyd -soak $(SOAK)

check: $(LINT) ## format, vet, lint
	go mod verify
	go mod tidy -diff
	go vet -tags e2e ./...
	$(LINT) run ./...

$(LINT): tools/lint/go.mod
	cd tools/lint && go build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## every fuzz target for FUZZTIME (10s), one after the other
	@set -e; for p in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd e2e internal prefix socketmap | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -d' ' -f2); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$p; \
	  done; \
	done

fuzz-short: # counted and not timed, so that a busy machine does the same
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2000x

bench: build ## cached lookups beside a server that knows one answer
	go run ./e2e/cmd/bench -policyd bin/policyd

demo: build ## ask a policyd on a built-in lab resolver; no root, no packages
	@go run ./e2e/cmd/demo -policyd bin/policyd

demo-mail: deps build ## real mail through real Postfix as a show; root only
	@go run ./e2e/cmd/demo-mail -policyd bin/policyd

deps:
	@e2e/install-deps

man: ## the manual pages, in dist/man
	rm -rf dist/man
	@set -e; for page in docs/man/*.md; do \
	  name=$$(basename $$page .md); dir=dist/man/man$${name##*.}; mkdir -p $$dir; \
	  go run github.com/cpuguy83/go-md2man/v2 -in $$page -out $$dir/$$name; \
	done

SHARE = $(DESTDIR)$(PREFIX)/share
DOC   = $(SHARE)/doc/policyd
# The documents and the examples lie in other directories there: so that the links between them hold.
LINKS = -e 's,](docs/,](,g' -e 's,](\.\./,](,g' -e 's,](packaging/,](examples/,g' -e 's,](postfix/,](examples/,g'
UNITS = $(DESTDIR)$(PREFIX)/lib

install: build man ## policyd, manual, completions, units and examples under DESTDIR and PREFIX
	install -D -m 0755 bin/policyd $(DESTDIR)$(PREFIX)/sbin/policyd
	@set -e; umask 022; for page in dist/man/man*/*; do \
	  install -d $(SHARE)/man/$$(basename $$(dirname $$page)); \
	  gzip -9n <$$page >$(SHARE)/man/$${page#dist/man/}.gz; \
	done
	install -d $(SHARE)/bash-completion/completions $(SHARE)/fish/vendor_completions.d $(SHARE)/zsh/site-functions
	umask 022; bin/policyd completion bash >$(SHARE)/bash-completion/completions/policyd
	umask 022; bin/policyd completion fish >$(SHARE)/fish/vendor_completions.d/policyd.fish
	umask 022; bin/policyd completion zsh >$(SHARE)/zsh/site-functions/_policyd
	install -d $(UNITS)/systemd/system
	umask 022; sed 's,/usr/sbin/,$(PREFIX)/sbin/,' packaging/systemd/policyd.service >$(UNITS)/systemd/system/policyd.service
	install -m 0644 packaging/systemd/policyd.socket $(UNITS)/systemd/system/
	install -D -m 0644 packaging/systemd/sysusers.conf $(UNITS)/sysusers.d/policyd.conf
	install -D -m 0644 packaging/systemd/tmpfiles.conf $(UNITS)/tmpfiles.d/policyd.conf
	install -D -m 0644 -t $(DOC) docs/*.png
	@set -e; umask 022; for page in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs/*.md; do \
	  sed $(LINKS) $$page >$(DOC)/$${page##*/}; \
	done
	install -D -m 0644 -t $(DOC)/decisions docs/decisions/*.md
	install -D -m 0644 -t $(DOC)/schema docs/schema/*
	install -D -m 0644 -t $(DOC)/examples postfix/*.example packaging/policyd.toml packaging/overrides packaging/grafana/* packaging/prometheus/*

deb: $(NFPM) ## a Debian package in dist/; ARCH=arm64 for another machine
	@VERSION='$(VERSION)' ARCH=$(ARCH) NFPM=$(NFPM) packaging/build deb

rpm: $(NFPM) ## an RPM package in dist/
	@VERSION='$(VERSION)' ARCH=$(ARCH) NFPM=$(NFPM) packaging/build rpm

$(NFPM): tools/nfpm/go.mod
	cd tools/nfpm && go build -o $(abspath $(NFPM)) github.com/goreleaser/nfpm/v2/cmd/nfpm

package-test: $(NFPM) cross ## the packages on a clean Debian that is booted for it; root only
	@packaging/install-deps
	go test -tags e2e -count=1 -timeout 20m -v ./packaging

cross: ## dist/policyd-OS-ARCH for Linux, FreeBSD and OpenBSD
	@set -e; for target in $(CROSS); do \
	  out=dist/policyd-$$(echo $$target | tr / -); echo $$out; \
	  CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build -trimpath -ldflags '$(LDFLAGS)' -o $$out ./cmd/policyd; \
	done

clean: ## remove what was built
	rm -rf bin dist
