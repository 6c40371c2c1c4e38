#!/usr/bin/env bash
# Fuzzes every target, or those that are named, from the kept corpora and generated seeds. See README.md.
#
#   fuzz/run.sh [seconds-per-target] [target…]
#
# Prints one line per target, then `N passed, N failed`; exits with 1 if anything failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
work=$root/target/fuzz
seconds=${1:-60}
[ "$#" -eq 0 ] || shift
passed=0
failed=0

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] || exit 1
  exit 0
}

# Reports an error that prevents every target from running.
fail_setup() {
  echo "FAIL setup: $*"
  failed=$((failed + 1))
  finish
}

[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail_setup "'$seconds' is not a positive number of seconds"
command -v cargo >/dev/null || fail_setup "cargo is missing; install a stable Rust toolchain"
command -v "${CXX:-c++}" >/dev/null || fail_setup "libFuzzer needs a C++ compiler; install it with: apt-get install g++"
command -v cmake >/dev/null || fail_setup "Pingora needs cmake; install it with: apt-get install cmake"

# cargo reads .cargo/config.toml from the current directory. Environment variables that override it would disable
# coverage or build in another directory.
cd "$here" || fail_setup "cannot enter $here"
unset RUSTC_WRAPPER CARGO_BUILD_RUSTC_WRAPPER CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_BUILD_TARGET
cargo build --quiet --locked --bins || fail_setup "cannot build the targets"
"$work/debug/seeds" "$root" "$work" || fail_setup "cannot generate the seeds"

# final_stat NAME LOG: prints one of libFuzzer's final statistics.
final_stat() {
  sed -n "s/^stat::$1: *//p" "$2" | tail -n 1
}

# fuzz TARGET: runs one target, prints its result and exits with 1 if it failed. Inputs can be twice as long as the 8 KiB
# limit of the multipart parser for the headers of a part, and reach that length within a minute (-len_control).
fuzz() {
  local target=$1 log=$work/$1.log artifacts=$work/artifacts/$1 status first last runs found dictionary=()
  mkdir -p "$work/corpus/$target" "$artifacts"
  [ ! -s "$work/dictionaries/$target" ] || dictionary=("-dict=$work/dictionaries/$target")
  "$work/debug/$target" -max_total_time="$seconds" -max_len=16384 -len_control=10 -timeout=5 -rss_limit_mb=1024 \
    "${dictionary[@]}" -artifact_prefix="$artifacts/" -print_final_stats=1 "$work/corpus/$target" >"$log" 2>&1
  status=$?
  first=$(sed -n 's/^#[0-9].*INITED cov: \([0-9]*\) .*/\1/p' "$log" | head -n 1)
  last=$(sed -n 's/^#[0-9].* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  runs=$(final_stat number_of_executed_units "$log")
  if [ "$status" -eq 0 ] && [ "${last:-0}" -gt 0 ] && [ "${runs:-0}" -gt 0 ]; then
    echo "ok   $target: $runs executions, $(final_stat average_exec_per_sec "$log")/s, coverage $first -> $last edges"
    return 0
  fi
  # libFuzzer's message and the panic message; the log has the complete output.
  grep -aE -A 1 'panicked at|ERROR: libFuzzer|^SUMMARY' "$log" | head -n 12
  found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  # Whoever has only this output can repeat the failure.
  [ ! -f "$found" ] || [ "$(wc -c <"$found")" -gt 6000 ] || echo "input, in base64: $(base64 -w0 "$found")"
  found=${found#"$root"/}
  echo "FAIL $target: exit code $status, coverage ${last:-unknown}, input ${found:-not saved}, log ${log#"$root"/}"
  return 1
}

# finish_one: waits for one target and counts its result.
finish_one() {
  if wait -n; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  running=$((running - 1))
}

targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
  for source in src/bin/*.rs; do
    name=$(basename "$source" .rs)
    [ "$name" = seeds ] || targets+=("$name")
  done
fi
running=0
for target in "${targets[@]}"; do
  [ "$running" -lt 2 ] || finish_one
  fuzz "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do finish_one; done
finish
