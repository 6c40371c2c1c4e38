#!/usr/bin/env bash
# Counts instructions per poll with valgrind's callgrind, and prints `name count` for each server. The counts do not
# depend on other load on the machine.
#   instructions.sh [--capgate PATH] [--server NAME]… [--polls N] [--keep DIRECTORY]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v valgrind >/dev/null; then
  echo "instructions.sh: valgrind is missing; install it with: apt-get install valgrind" >&2
  exit 1
fi
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 exec python3 -m harness.instructions "$@"
