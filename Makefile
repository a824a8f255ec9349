# policyd. `make` shows the targets.

# A source archive has its version in a file.
VERSION ?= $(shell grep -v -e Format -e '^$$' packaging/version || git describe --tags --always --dirty 2>/dev/null || echo devel)
PREFIX  ?= /usr/local
LDFLAGS  = -s -w -X main.version=$(VERSION)
LINT     = bin/golangci-lint
NFPM     = bin/nfpm
# The architecture of the packages, as GOARCH names it.
ARCH    ?= $(shell go env GOARCH)
CROSS    = linux/amd64 linux/arm64 freebsd/amd64 openbsd/amd64 darwin/arm64
FUZZTIME ?= 10s

# Every go command has the same flags, so that all of them share Go's build cache. The binaries are stripped anyway, and
# without debug information compiling takes an eighth less time. The Redis client has thousands of methods, and compiles in
# half the time without inlining, which would gain nothing for an exchange every few seconds.
GO_ALL             = -trimpath -gcflags=all=-dwarf=false '-gcflags=github.com/redis/go-redis/v9=-dwarf=false -l'
export CGO_ENABLED = 0
export GOFLAGS    := $(filter-out $(GO_ALL),$(GOFLAGS)) $(GO_ALL)

# The packages that need neither root nor Postfix.
UNIT = $(shell go list ./...)
# The tests of one package: with the race detector, on two slow processors and beside the soak, they can need ten minutes.
LONGEST = 30m

.DEFAULT_GOAL = help
.PHONY: help go-version build test ci unit race e2e torture torture-short soak check size golden portable fuzz fuzz-short bench demo demo-mail pictures \
	deps man install install-files deb rpm image release targets cross package-test clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

GO_NEEDED = $(shell sed -n 's/^go //p' go.mod)

go-version:
	@have=$$(go env GOVERSION 2>/dev/null || echo none); printf '%s\n' 'go$(GO_NEEDED)' "$${have#devel }" | sort -V -C || \
	{ echo "policyd needs Go $(GO_NEEDED) or later, and the go command here is $$have: install a newer Go and put it first in PATH."; exit 1; }

build: go-version ## bin/policyd
	go build -ldflags '$(LDFLAGS)' -o bin/policyd ./cmd/policyd

test: go-version ## the tests to run after a change, about 5 minutes; end-to-end tests only as root
	@.ci/steps test root-beside:deps unit root:e2e

ci: go-version ## everything that CI runs, about 20 minutes, including make test; root only
	@.ci/steps ci test size portable beside:soak check race fuzz-short torture-short package-test

unit: go-version ## the tests of every package; they need no root and no other programs
	go test -vet=off -shuffle=on -timeout $(LONGEST) $(UNIT)

race: go-version ## the same with the race detector, which needs a C compiler
	CGO_ENABLED=1 go test -vet=off -race -shuffle=on -timeout $(LONGEST) $(UNIT)

e2e: deps build ## real Postfix, real resolvers, real receivers; root only
	go test -vet=off -p 4 -tags e2e -count=1 -timeout $(LONGEST) ./e2e ./e2e/lab/... ./internal/postfix ./internal/fleet ./cmd/policyd/internal/doctor

torture: build ## check the guarantees under faults, less than 10 minutes; needs root for all of it
	go run ./e2e/cmd/torture -policyd bin/policyd

torture-short: build ## the same faults for a short time
	go run ./e2e/cmd/torture -policyd bin/policyd -short

SOAK ?= 5m

soak: build ## mixed load for SOAK (5m); no resource may grow
	go run ./e2e/cmd/torture -policyd bin/policyd -soak $(SOAK)

size: ## the size of each package and its budget
	@go run ./tools/size

# The schemas first, because tests compare the output of commands with them. One package at a time, because two of them
# write parts of the same manual page.
golden: ## write the golden files again; look at the difference before you commit it
	go test -count=1 -run '^TestSchemas$$' ./cmd/policyd -update
	go test -count=1 -p 1 $$(grep -rl --include='*_test.go' 'Bool("update"' cmd docs e2e internal | xargs grep -L '^//go:build' | xargs -n1 dirname | sort -u | sed 's,^,./,') -update
	@if [ "$$(id -u)" = 0 ] && [ -d bin/postfix310 ]; then go test -count=1 -tags e2e ./cmd/policyd/internal/doctor -update; else \
	  echo 'left out: cmd/policyd/internal/doctor/testdata, which needs root and make deps'; fi

# The public packages must compile for every system that a mail server or a tool may run on.
portable: ## compile socketmap and prefix for six systems
	@set -e; for target in linux/amd64 darwin/arm64 freebsd/amd64 openbsd/amd64 windows/amd64 js/wasm; do \
	  echo $$target; GOOS=$${target%/*} GOARCH=$${target#*/} go build ./socketmap ./prefix; \
	done

check: $(LINT) ## format, vet, lint, language and documents
	go mod verify
	go mod tidy -diff
	go vet -tags e2e ./...
	go test -count=1 ./docs
	$(LINT) run ./...

$(LINT): tools/lint/go.mod
	cd tools/lint && go build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## every fuzz target for FUZZTIME (10s), one after the other
	@set -e; for p in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd e2e internal prefix socketmap | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -d' ' -f2); do \
	    echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$p; \
	  done; \
	done

fuzz-short: ## every fuzz target, counted and not timed, so that a busy machine does the same
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2000x

bench: build ## throughput and memory, as ratios to a server that knows one answer
	go run ./e2e/cmd/bench -policyd bin/policyd

demo: build ## ask a policyd on a built-in lab resolver; no root, no packages
	@go run ./e2e/cmd/demo -policyd bin/policyd

demo-mail: deps build ## real mail through real Postfix as a show; root only
	@go run ./e2e/cmd/demo-mail -policyd bin/policyd

pictures: deps build ## the pictures in the README, from real output of the lab; root only
	@go run ./e2e/cmd/pictures -policyd bin/policyd

deps: ## install or fetch what the end-to-end tests need; root only
	@mkdir -p bin && flock bin/deps.lock e2e/install-deps

# go-md2man, which writes the manual pages; distributions have it as a program.
MD2MAN = go run github.com/cpuguy83/go-md2man/v2

man: ## the manual pages, in dist/man
	rm -rf dist/man
	@set -e; for page in docs/man/*.md; do \
	  name=$$(basename $$page .md); dir=dist/man/man$${name##*.}; mkdir -p $$dir; \
	  $(MD2MAN) -in $$page -out $$dir/$$name; \
	done

SHARE = $(DESTDIR)$(PREFIX)/share
DOC   = $(SHARE)/doc/policyd
# Documents and examples are installed in other directories, so the links between them are adapted.
LINKS = -e 's,](docs/,](,g' -e 's,](\.\./,](,g' -e 's,](packaging/,](examples/,g' -e 's,](postfix/,](examples/,g'
UNITS = $(DESTDIR)$(PREFIX)/lib

# Where shells look for the completions of zsh, below share/zsh; Debian's is vendor-completions.
ZSH    = site-functions
BINARY = bin/policyd

install: build man ## policyd, manual, completions, units and examples under DESTDIR and PREFIX
	@$(MAKE) --no-print-directory install-files

# The same without building, for a distribution that has built BINARY and the manual pages.
install-files:
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/policyd
	@# Earlier versions were in sbin, and scripts may name that path. Where sbin is bin, there is nothing to link.
	install -d $(DESTDIR)$(PREFIX)/sbin
	[ $(DESTDIR)$(PREFIX)/sbin -ef $(DESTDIR)$(PREFIX)/bin ] || ln -sf ../bin/policyd $(DESTDIR)$(PREFIX)/sbin/policyd
	@set -e; umask 022; for page in dist/man/man*/*; do \
	  install -d $(SHARE)/man/$$(basename $$(dirname $$page)); \
	  gzip -9n <$$page >$(SHARE)/man/$${page#dist/man/}.gz; \
	done
	install -d $(SHARE)/bash-completion/completions $(SHARE)/fish/vendor_completions.d $(SHARE)/zsh/$(ZSH)
	umask 022; $(BINARY) completion bash >$(SHARE)/bash-completion/completions/policyd
	umask 022; $(BINARY) completion fish >$(SHARE)/fish/vendor_completions.d/policyd.fish
	umask 022; $(BINARY) completion zsh >$(SHARE)/zsh/$(ZSH)/_policyd
	install -d $(UNITS)/systemd/system
	umask 022; sed 's,/usr/bin/policyd,$(PREFIX)/bin/policyd,' packaging/systemd/policyd.service >$(UNITS)/systemd/system/policyd.service
	umask 022; sed 's,/usr/bin/policyd,$(PREFIX)/bin/policyd,' packaging/systemd/policyd-warm.service >$(UNITS)/systemd/system/policyd-warm.service
	install -m 0644 packaging/systemd/policyd.socket packaging/systemd/policyd-warm.timer $(UNITS)/systemd/system/
	install -D -m 0644 packaging/systemd/sysusers.conf $(UNITS)/sysusers.d/policyd.conf
	install -D -m 0644 packaging/systemd/tmpfiles.conf $(UNITS)/tmpfiles.d/policyd.conf
	install -D -m 0644 -t $(DOC) docs/*.png docs/*.svg
	@set -e; umask 022; for page in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs/*.md; do \
	  sed $(LINKS) $$page >$(DOC)/$${page##*/}; \
	done
	install -D -m 0644 -t $(DOC)/decisions docs/decisions/*.md
	install -D -m 0644 -t $(DOC)/schema docs/schema/*
	install -D -m 0644 -t $(DOC)/examples postfix/*.example docs/examples/* packaging/overrides packaging/grafana/* packaging/prometheus/*

# The compiler uses more memory and less time.
deb rpm: export GOGC = 400

deb: $(NFPM) ## a Debian package in dist/; ARCH=arm64 for another machine
	@VERSION='$(VERSION)' ARCH=$(ARCH) NFPM=$(NFPM) packaging/build deb

rpm: $(NFPM) ## an RPM package in dist/
	@VERSION='$(VERSION)' ARCH=$(ARCH) NFPM=$(NFPM) packaging/build rpm

image: ## OCI images in dist/ for amd64 and arm64, without a container engine
	@VERSION='$(VERSION)' packaging/container/build

$(NFPM): tools/nfpm/go.mod tools/nfpm/main.go
	cd tools/nfpm && go build -o $(abspath $(NFPM)) .

package-test: $(NFPM) cross image ## packages, release and Debian source package in clean Debian trees; root only
	@packaging/install-deps
	go test -tags e2e -count=1 -timeout $(LONGEST) -v ./packaging/...

release: $(NFPM) ## dist/release: archives, binaries, packages, images, SBOM and sums of the tag of this commit
	@packaging/release

# For scripts: the systems that cross builds for.
targets:
	@echo $(CROSS)

cross: ## dist/policyd-OS-ARCH for Linux, FreeBSD, OpenBSD and macOS
	@set -e; for target in $(CROSS); do \
	  out=dist/policyd-$$(echo $$target | tr / -); echo $$out; \
	  GOOS=$${target%/*} GOARCH=$${target#*/} go build -ldflags '$(LDFLAGS)' -o $$out ./cmd/policyd; \
	done

clean: ## remove what was built
	rm -rf bin dist
