#!/bin/sh
# cargo's rustc-wrapper: instruments only capgate and the targets for coverage. Global flags would slow down Pingora's
# build, break build scripts (which do not link libFuzzer), and let the fuzzer explore paths in other crates. These are
# the flags of cargo-fuzz without a sanitizer, so they work on stable Rust.
case "${CARGO_PKG_NAME:-}/${CARGO_CRATE_NAME:-}" in
capgate-fuzz/seeds) ;;
capgate/capgate | capgate-fuzz/*)
  exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
esac
exec "$@"
