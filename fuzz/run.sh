#!/usr/bin/env bash
# Fuzzes every target for some seconds, from seeds that are made of the transcripts. README.md has the rest.
#
#   fuzz/run.sh [seconds-per-target]
#
# Prints a line per target, and `N passed, N failed` as the last one; exits with 1 if anything failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
work=$root/target/fuzz
seconds=${1:-60}
passed=0
failed=0

count() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] || exit 1
  exit 0
}

# For what leaves nothing to run.
give_up() {
  echo "FAIL setup: $*"
  failed=$((failed + 1))
  count
}

[[ $seconds =~ ^[1-9][0-9]*$ ]] || give_up "'$seconds' is no number of seconds"
command -v cargo >/dev/null || give_up "cargo is missing; install a stable Rust toolchain"
command -v "${CXX:-c++}" >/dev/null || give_up "libFuzzer needs a C++ compiler; install it with: apt-get install g++"
command -v cmake >/dev/null || give_up "Pingora needs cmake; install it with: apt-get install cmake"

# In this folder, since .cargo/config.toml is found from there; an environment that overrides it would leave out the
# coverage or build elsewhere.
cd "$here" || give_up "no folder $here"
unset RUSTC_WRAPPER CARGO_BUILD_RUSTC_WRAPPER CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_BUILD_TARGET
cargo build --quiet --locked --bins || give_up "the targets do not build"
"$work/debug/seeds" "$root/tests/transcripts" "$work" || give_up "no seeds could be made"

# number NAME LOG: one of libFuzzer's final numbers.
number() {
  sed -n "s/^stat::$1: *//p" "$2" | tail -n 1
}

# fuzz TARGET: inputs may be twice as long as the 8 KiB that the multipart reader allows for the headers of a part, and grow
# to that within a minute (-len_control).
fuzz() {
  local target=$1 log=$work/$1.log artifacts=$work/artifacts/$1 status first last runs found
  mkdir -p "$work/corpus/$target" "$artifacts"
  "$work/debug/$target" -max_total_time="$seconds" -max_len=16384 -len_control=10 -timeout=5 -rss_limit_mb=1024 \
    -dict="$work/words.dict" -artifact_prefix="$artifacts/" -print_final_stats=1 "$work/corpus/$target" >"$log" 2>&1
  status=$?
  first=$(sed -n 's/^#[0-9].*INITED cov: \([0-9]*\) .*/\1/p' "$log" | head -n 1)
  last=$(sed -n 's/^#[0-9].* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  runs=$(number number_of_executed_units "$log")
  if [ "$status" -eq 0 ] && [ "${last:-0}" -gt 0 ] && [ "${runs:-0}" -gt 0 ]; then
    passed=$((passed + 1))
    echo "ok   $target: $runs executions, $(number average_exec_per_sec "$log") a second, coverage $first -> $last edges"
    return
  fi
  failed=$((failed + 1))
  # libFuzzer's own line and what the target said; all of it is in the log.
  grep -aE -A 1 'panicked at|ERROR: libFuzzer|^SUMMARY' "$log" | head -n 12
  found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  found=${found#"$root"/}
  echo "FAIL $target: exit code $status, coverage ${last:-unknown}, input ${found:-none kept}, log ${log#"$root"/}"
}

for source in src/bin/*.rs; do
  name=$(basename "$source" .rs)
  [ "$name" = seeds ] || fuzz "$name"
done
count
