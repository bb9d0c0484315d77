# Everything that is done to this repository, by people and by CI.
# `make help` lists the targets.

SHELL    := /bin/bash
MODULE   := github.com/meshd/meshd
# A tag names a release; between releases the file says what is being made.
VERSION  := $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null)),$(shell cat VERSION))
COMMIT   := $(shell git rev-parse HEAD 2>/dev/null)
DATE     := $(shell git log -1 --format=%cI 2>/dev/null)
STAMP    := $(MODULE)/internal/version
LDFLAGS  := -s -w -X $(STAMP).version=$(VERSION) -X $(STAMP).commit=$(COMMIT) -X $(STAMP).date=$(DATE)
PROTOS   := $(shell find api store -name '*.proto' 2>/dev/null | sort)
FUZZTIME ?= 10s
BENCH    ?= .

# The race detector needs cgo, and cgo a C compiler.
RACE := $(if $(shell command -v $${CC:-gcc} 2>/dev/null),-race)

.PHONY: help build demo test lint fuzz bench generate lab lab-exec fresh clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/meshd, one static binary
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/meshd .

demo: build ## run a whole mesh with small services on this machine, unprivileged
	bin/meshd dev --demo

test: ## run all tests; those on systemd hosts need root, and say so when they skip
	@$(if $(RACE),,echo 'no C compiler (apt-get install gcc libc6-dev): testing without the race detector')
	go test $(RACE) -count=1 -timeout=20m $$(go list ./... | grep -vE '/test/(lab|hosts)$$')
	@# One after the other and alone on the machine: these measure, too.
	go test $(RACE) -count=1 -timeout=20m -p=1 -v ./test/lab ./test/hosts

lint: bin/staticcheck ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  [ -z "$$unformatted" ] || { echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	cd tools && go vet ./...
	bin/staticcheck ./...
	cd tools && ../bin/staticcheck ./...

bin/staticcheck: tools/go.mod tools/go.sum
	cd tools && go build -buildvcs=false -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck

fuzz: ## run every fuzz target for FUZZTIME (10s)
	tools/fuzz.sh $(FUZZTIME)

bench: ## run the benchmarks that match BENCH (all)
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

generate: ## generate the Go code of all .proto files; needs no protoc
	cd tools && go run ./protogen .. $(PROTOS)

lab: build ## boot three systemd hosts with meshd on them, as root, until Ctrl-C
	go run ./test/lab/cmd up

lab-exec: ## run C, or a shell, on host H of the lab: make lab-exec H=h1 C='meshd status'
	@go run ./test/lab/cmd exec $(H) $(C)

fresh: ## check, as root, that a clone on a bare Debian with Go passes demo and test
	test/fresh/run.sh

clean: ## remove what was built
	rm -rf bin dist
