#!/usr/bin/env bash
# Instructions for one poll, by valgrind's callgrind: `name count` for each server. No load on the machine changes them.
#   instructions.sh [--capgate PATH] [--server NAME]… [--polls N] [--keep FOLDER]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is missing (apt-get install valgrind)" >&2; exit 1; }
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 exec python3 -m harness.instructions "$@"
