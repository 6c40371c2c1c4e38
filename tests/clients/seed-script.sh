#!/usr/bin/env bash
# Runs the shell script at the end of uCaptcha's page on res.php with the host replaced. seed.sh.txt is a verbatim copy.
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
        echo "FAIL seed-script: $1: output: $3"
        status=1
    fi
}

# Without an answer the script would poll for ever.
output=$(sed "s/api\.ucaptcha\.net/$GATEWAY_HTTPS/g" "$here/seed.sh.txt" | timeout --foreground -k 5 60 bash 2>&1)
check "userrecaptcha, prints its solution" 'Solution: SANDBOX-[0-9a-f-]{36}' "$(head -n 1 <<<"$output")"
check "reportgood, reports it" 'OK_REPORT_RECORDED' "$(tail -n +2 <<<"$output")"
exit "$status"
