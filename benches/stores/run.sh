#!/bin/sh
# Measures and tries everything, about 15 minutes on two cores; "small" takes one minute and measures nothing useful.
# Usage: benches/stores/run.sh [small]
set -eu
cd "$(dirname "$0")"
target=$(cd ../.. && pwd)/target/stores
export CARGO_TARGET_DIR="$target"
cargo build --release --locked
stores=$target/release/capgate-stores
data=$target/data
mkdir -p "$data"
if [ "${1:-}" = small ]; then
    live=10000 rounds=1 turnovers=1 records=50000 kills=3 cuts=20
else
    live=200000 rounds=5 turnovers=2 records=1000000 kills=20 cuts=300
fi
"$stores" batches "$data" $live $rounds
"$stores" turnover "$data" $live $turnovers
"$stores" burst "$data" $records ordered
"$stores" burst "$data" $records random
"$stores" burst "$data" $records ordered redb-id-checked sqlite-range-checked
"$stores" shrink "$data" $live $records redb sqlite journal
"$stores" kills "$data" $kills
python3 power.py "$stores" "$data" --cuts $cuts
python3 faults.py "$stores" "$data"
[ "${1:-}" != small ] || exit 0
for features in "" redb sqlite journal; do
    folder=$target/build-${features:-none}
    rm -rf "$folder"
    start=$(date +%s)
    cargo build --quiet --release --locked --no-default-features --features "$features" --target-dir "$folder"
    echo "${features:-none}: built in $(($(date +%s) - start)) s, $(stat -c %s "$folder/release/capgate-stores") bytes," \
        "$(cargo tree --no-default-features --features "$features" -e normal,build --prefix none | sort -u | wc -l) crates"
    rm -rf "$folder"
done
