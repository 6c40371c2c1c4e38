#!/usr/bin/env bash
# Runs the shell script that ends uCaptcha's page on res.php (seed.sh.txt, word for word) with one change: the host.
#
# run.sh sets GATEWAY_HTTPS (host:port) and CURL_CA_BUNDLE.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
status=0

# check NAME PATTERN TEXT
check() {
    if grep -qxE "$2" <<<"$3"; then
        echo "ok   seed-script: $1"
    else
        echo "FAIL seed-script: $1: it printed: $3"
        status=1
    fi
}

# The script polls for ever if the gateway never has an answer.
printed=$(sed "s/api\.ucaptcha\.net/$GATEWAY_HTTPS/g" "$here/seed.sh.txt" | timeout --foreground -k 5 60 bash 2>&1)
check "userrecaptcha, prints its solution" 'Solution: SANDBOX-[0-9a-f-]{36}' "$(head -n 1 <<<"$printed")"
check "reportgood, reports it" 'OK_REPORT_RECORDED' "$(tail -n +2 <<<"$printed")"
exit "$status"
