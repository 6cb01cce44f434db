# The commands of the project; README.md and docs/ speak of these only.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)
GO      ?= go

.PHONY: build run test test-race test-plain quick bench bench-check lint long vuln dist clean

build: ## bin/akigw, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/akigw ./cmd/akigw

run: build ## the gateway with the embedded trial upstream, data under ./data
	./bin/akigw serve

# For the race detector: it clears its memory instead of mapping it anew, which took a third of the time
# of package tiers, and does not sleep for a second at the end of each package and of each gateway.
test: export GORACE ?= clear_shadow_mmap_threshold=67108864 atexit_sleep_ms=50
test: lint ## every test: with the race detector, and the binary end to end; the runs of docs/reliability.md are small here
	$(MAKE) --no-print-directory -j 2 --output-sync=target test-race test-plain
	cd e2e && $(GO) test -count=1 -vet=off -parallel 7 -timeout 15m ./...

test-race: # lint has vetted
	$(GO) test -race -vet=off -p 3 ./...

# The tests that do nothing, or less, with the race detector: it allocates, and takes its time. These are the tests that
# ask testkit, and those of files that are not built with the detector.
WITHOUT_RACE = grep -rlE '^[^/]*testkit\.(WithoutRace|Race)\>|^//go:build !race$$' --include='*_test.go' . | sort | xargs awk -f testdata/withoutrace.awk

test-plain:
	@found=$$($(WITHOUT_RACE)) && set -x && $(GO) test -vet=off -p 2 -run "$${found%% *}" $${found#* }

quick: SHELL := /bin/bash
quick: .SHELLFLAGS := -o pipefail -c
quick: ## the quick set of docs/reliability.md; AKIGW_RESULTS=DIR keeps its figures as JSON
	AKIGW_PROOF=quick $(GO) test -count=1 -v -run '^TestT[0-9]+_' ./... | grep -vE '^(=== |ok .*no tests to run|[?])'
	cd e2e && AKIGW_PROOF=quick $(GO) test -count=1 -v -run '^TestT[0-9]+_|^TestAWSCLI|^TestOutages' ./... | grep -vE '^(=== |[?])'

bench: ## micro-benchmarks and the server's CPU per hot GET, as ratios
	$(GO) test -run '^$$' -bench . -benchmem ./...

BASE ?=
bench-check: ## the benchmarks of hot paths against those of the merge base, or of BASE: fails when one is more than 10% slower (a whole process: 20%), or a hot GET allocates more
	$(GO) run ./tools/benchcheck -base '$(BASE)'

lint: ## formatting and vet, in both modules
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || (echo 'run gofmt -w on the files above' >&2; exit 1)
	$(GO) vet ./...
	cd e2e && $(GO) vet ./...

# Long runs by name: make long TEST=T4 or TEST=Memory. "make long" lists them. TEST=BothWays needs
# OLD, another build that shares data directories with this one: a revision, or the absolute path of a binary.
LONG_TEST = ^Test(Long)?$(TEST)(_.*)?$$
long: export AKIGW_RESULTS ?= $(CURDIR)/results
long: export AKIGW_OLD ?= $(OLD)
long:
	@if [ -z "$(TEST)" ]; then \
		echo 'make long TEST=NAME, with NAME one of:'; grep -hoE '^func Test((T[0-9]+_|Long)[A-Za-z0-9]+|Outages\()' -r --include='*_test.go' . | sed -E 's/func Test(Long)?/  /; s/[_(].*//' | sort -uV; \
	else for dir in $$(grep -lE '^func Test(Long)?$(TEST)[_(]' -r --include='*_test.go' . | xargs -n 1 dirname | sort -u); do \
		(cd $$dir && AKIGW_LONG=1 AKIGW_PROOF=long $(GO) test -v -count=1 -timeout 5h -run '$(LONG_TEST)' .) || exit 1; done; fi

vuln: ## known vulnerabilities in what is linked; needs the vulnerability database
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
dist: ## dist/akigw-VERSION-OS-ARCH, static, and SHA256SUMS
	@rm -rf dist && mkdir -p dist
	@for platform in $(PLATFORMS); do \
		name=akigw-$(VERSION)-$${platform%/*}-$${platform#*/}; echo dist/$$name; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/$$name ./cmd/akigw || exit 1; done
	@cd dist && { sha256sum akigw-* 2>/dev/null || shasum -a 256 akigw-*; } > SHA256SUMS

clean:
	rm -rf bin dist
