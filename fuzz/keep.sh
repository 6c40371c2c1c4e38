#!/usr/bin/env bash
# Minimises the corpora of the last run, and keeps them as the files corpus/TARGET.txt: one input a line, in base64.
#
#   fuzz/keep.sh [target…]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(cd "$here/.." && pwd)/target/fuzz
# Most bytes of a file. The smallest inputs come first.
bytes_max=200000

targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
  for folder in "$work"/corpus/*/; do targets+=("$(basename "$folder")"); done
fi
mkdir -p "$here/corpus"
for target in "${targets[@]}"; do
  merged=$work/merged/$target
  rm -rf "$merged"
  mkdir -p "$merged"
  "$work/debug/$target" -merge=1 -max_len=16384 -timeout=5 "$merged" "$work/corpus/$target" >"$work/$target.merge.log" 2>&1
  # libFuzzer names an input after its hash, so that the order is the same each time.
  (cd "$merged" && find . -type f -printf '%s %f\n') | sort -k1,1n -k2 | while read -r _ name; do
    base64 -w0 "$merged/$name"
    echo
  done | awk -v max="$bytes_max" '{ bytes += length($0) + 1 } bytes <= max' >"$here/corpus/$target.txt"
  echo "$target: $(find "$merged" -type f | wc -l) inputs, $(wc -l <"$here/corpus/$target.txt") kept, " \
    "$(wc -c <"$here/corpus/$target.txt") bytes"
done
