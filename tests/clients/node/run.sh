#!/usr/bin/env bash
# The JavaScript clients against a gateway with its embedded sandbox.
#
#   bash tests/clients/node/run.sh install   installs the packages to target/clients/node
#   bash tests/clients/node/run.sh           installs missing packages and runs the checks
#
# The checks need GATEWAY_HTTPS and GATEWAY_HTTP, the gateway's listeners (host:port), and CA_FILE, the test CA's
# certificate. The gateway's certificate must name 2captcha.com and rucaptcha.com, see redirect.js. Prints one line per
# check, then `N passed, N failed`. Exits with 1 if a check failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=$(cd "$here/../../.." && pwd)/target/clients/node
passed=0
failed=0

count() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] || exit 1
}

# Ends the run if there is nothing to test.
give_up() {
    failed=$((failed + 1))
    echo "FAIL node: setup: $*"
    count
}

# npm ci empties node_modules first, so the copy of the lock file in it exists only after a complete install.
install() {
    local stamp=$modules/node_modules/.capgate-lock.json
    cmp -s "$here/package-lock.json" "$stamp" && return
    mkdir -p "$modules" || give_up "cannot write $modules"
    cp "$here/package.json" "$here/package-lock.json" "$modules" || give_up "cannot write $modules"
    # No package needs its install scripts.
    (cd "$modules" && timeout --foreground -k 5 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
        || give_up "npm cannot install package-lock.json"
    cp "$here/package-lock.json" "$stamp" || give_up "cannot write $stamp"
}

# library SCRIPT runs the checks of one library and counts its lines. A script that fails without a FAIL line counts as
# one.
library() {
    local name=$1 output status oks fails
    # Clears the caller's settings for Node, proxies and the libraries.
    output=$(env -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u http_proxy -u https_proxy -u all_proxy \
        -u DEBUG -u 2CAPTCHA_PROXY_TYPE -u 2CAPTCHA_PROXY_ADDRESS -u NODE_ENV \
        NODE_PATH="$modules/node_modules" NODE_EXTRA_CA_CERTS="$CA_FILE" NODE_NO_WARNINGS=1 NODE_OPTIONS= \
        timeout --foreground -k 5 60 node --require "$here/redirect.js" "$here/$name.js" 2>&1)
    status=$?
    printf '%s\n' "$output"
    oks=$(grep -c '^ok ' <<<"$output")
    fails=$(grep -c '^FAIL ' <<<"$output")
    passed=$((passed + oks))
    failed=$((failed + fails))
    if [ "$fails" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$oks" -eq 0 ]; }; then
        failed=$((failed + 1))
        echo "FAIL $name: script: ended with exit code $status after $oks checks (124: timeout)"
    fi
}

for program in node npm; do
    command -v "$program" >/dev/null || give_up "$program is missing; install it with: apt-get install $program"
done
install
if [ "${1:-}" = install ]; then
    exit 0
fi
for name in GATEWAY_HTTPS GATEWAY_HTTP CA_FILE; do
    [ -n "${!name:-}" ] || give_up "$name is not set"
done
[ -r "$CA_FILE" ] || give_up "CA_FILE cannot be read"
export GATEWAY_HTTPS GATEWAY_HTTP

# The libraries.
library captcha-solver
library 2captcha-ts
library 2captcha
library puppeteer-extra-plugin-recaptcha
library node_two_captcha
library 2captcha-node
library rucaptcha-client
count
