# capgate. `make run` and `make test` do all the set-up on a Debian machine with a Rust toolchain and make.

CARGO ?= cargo
# TLS=1: also HTTPS, with a self-signed certificate for localhost.
TLS ?=
TRIAL := target/self-signed

.PHONY: help run test check clients fuzz bench tools

help:
	@echo "make run      build the release binary and run the gateway on loopback, before the embedded sandbox"
	@echo "make run TLS=1   the same, with HTTPS and a self-signed certificate"
	@echo "make test     every test that needs no other service"
	@echo "make check    format, lints and documents, as CI does"
	@echo "make fuzz     a minute for each parser, seeded from the transcripts"
	@echo "make bench    capgate against nginx and Lua, axum, Node and constant answers, about half an hour; docs/performance.md"
	@echo "make clients  real client libraries against the built binary (needs the package registries)"

# Pingora compiles zlib-ng, which needs cmake and a C compiler, whatever TLS it is built with.
tools:
	@sh tools/need.sh cmake=cmake cc=gcc,libc6-dev

run: tools
	$(CARGO) build --release --locked --bin capgate
ifneq ($(TLS),)
	$(CARGO) run --quiet --locked --example self_signed -- $(TRIAL)
endif
	@TLS="$(TLS)" TRIAL="$(TRIAL)" sh tools/try.sh target/release/capgate

test: tools
	$(CARGO) test --locked

check: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

clients: tools
	@sh tools/need.sh python3=python3,python3-venv curl=curl jq=jq node=nodejs npm=npm
	$(CARGO) build --locked --all-targets
	bash tests/clients/run.sh target/debug/capgate

# libFuzzer is C++.
fuzz: tools
	@sh tools/need.sh c++=g++
	bash fuzz/run.sh 60

# A module has no command; its file is as good. Sizes are the same in every profile, and the tests have compiled theirs.
bench: tools
	@RUNLEVEL=1 sh tools/need.sh python3=python3 wrk=wrk valgrind=valgrind nginx=nginx-light node=nodejs npm=npm \
	  /usr/lib/nginx/modules/ngx_http_lua_module.so=libnginx-mod-http-lua \
	  /usr/share/lua/5.1/cjson/util.lua=lua-cjson
	$(CARGO) build --release --locked --bin capgate
	CARGO_TARGET_DIR=target/peers $(CARGO) build --release --locked --manifest-path benches/peers/rust/Cargo.toml
	$(CARGO) bench --profile dev --locked --bench records
	python3 benches/run.py
