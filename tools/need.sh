#!/bin/sh
# Installs the Debian packages of missing commands or files, and reports it; does nothing else.
#   need.sh COMMAND=PACKAGE[,PACKAGE…] /PATH/TO/FILE=PACKAGE …
set -eu
missing=""
for need in "$@"; do
  command -v "${need%%=*}" >/dev/null || [ -e "${need%%=*}" ] || missing="$missing $(echo "${need#*=}" | tr ',' ' ')"
done
[ -n "$missing" ] || exit 0
fail() {
  echo "make: $1; run as root, then try again: apt-get install$missing"
  exit 1
}
sudo=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "missing packages:$missing"
  sudo=sudo
fi
echo "make: installing missing packages with apt-get:$missing"
{ $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
  fail "installation failed"
