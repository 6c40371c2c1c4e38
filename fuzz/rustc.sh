#!/bin/sh
# cargo's rustc-wrapper: counts coverage in capgate and in the targets, and in nothing else. Flags for everything would
# slow down Pingora's build, break its build scripts (which have no libFuzzer to link), and let the fuzzer chase paths
# in other people's crates. These are the flags of cargo-fuzz without a sanitizer, and so they work on stable Rust.
case "${CARGO_PKG_NAME:-}/${CARGO_CRATE_NAME:-}" in
capgate-fuzz/seeds) ;;
capgate/capgate | capgate-fuzz/*)
  exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
esac
exec "$@"
