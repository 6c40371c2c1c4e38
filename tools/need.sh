#!/bin/sh
# Installs Debian packages by name where a command or a file is missing, and says so; does nothing else.
#   need.sh COMMAND=PACKAGE[,PACKAGE…] /PATH/OF/A/FILE=PACKAGE …
set -eu
missing=""
for need in "$@"; do
  command -v "${need%%=*}" >/dev/null || [ -e "${need%%=*}" ] || missing="$missing $(echo "${need#*=}" | tr ',' ' ')"
done
[ -n "$missing" ] || exit 0
by_hand() {
  echo "make: $1; as root, then try again: apt-get install$missing"
  exit 1
}
sudo=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || by_hand "missing:$missing"
  sudo=sudo
fi
echo "make: missing:$missing; installing by apt-get, and nothing else"
{ $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
  by_hand "that failed"
