#!/usr/bin/env bash
# End-to-end test: one gateway with its embedded sandbox, and real clients that talk HTTPS to it.
#
#   bash tests/clients/run.sh [path-to-capgate-binary]
#
# Prints a line per check, and `N passed, N failed` as the last one; exits with 1 if anything failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=${1:-$root/target/debug/capgate}
venv=$root/target/clients/venv
passed=0
failed=0
gateway=
work=

# By bash's own list of jobs: an id alone may by now be another process's.
is_running() {
    jobs -rp | grep -qx "$gateway"
}

finish() {
    local status=$?
    # Only when the run was cut short: a run that got to its end has stopped the gateway itself.
    if [ -n "$gateway" ] && is_running; then
        { kill -KILL "$gateway" && wait "$gateway"; } 2>/dev/null
    fi
    if [ -n "$work" ]; then
        rm -rf "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

count() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] || exit 1
}

ok() {
    passed=$((passed + 1))
    echo "ok   $*"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}

# For what leaves nothing to test.
give_up() {
    fail "setup: $*"
    count
}

# need PACKAGE COMMAND... installs the Debian package unless the command succeeds.
need() {
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        give_up "$package is missing; install it with: apt-get install $package"
    fi
    echo "setup: $package is missing; running apt-get update and apt-get install $package"
    apt-get -qq update >/dev/null || give_up "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null \
        || give_up "apt-get cannot install $package"
    "$@" >/dev/null 2>&1 || give_up "$package is installed, and still this fails: $*"
}

# client NAME COMMAND... runs a client and counts its lines. One that ends badly without saying so counts as failed.
client() {
    local name=$1 status oks fails
    shift
    # In the foreground, so that Ctrl-C reaches the client too.
    timeout --foreground -k 5 180 "$@" 2>&1 | tee "$work/$name.out"
    status=$?
    oks=$(grep -c '^ok ' "$work/$name.out")
    fails=$(grep -c '^FAIL ' "$work/$name.out")
    passed=$((passed + oks))
    failed=$((failed + fails))
    if [ "$fails" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$oks" -eq 0 ]; }; then
        fail "$name: ended with exit code $status after $oks checks (124: it took too long)"
    fi
}

[ -x "$binary" ] || give_up "$binary is no program; build it with cargo build, or name another one"
need curl curl --version
need jq jq --version
need python3 python3 --version
need python3-venv python3 -c 'import venv, ensurepip'

# An environment whose pip does not work was left half made, or its Python is gone.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "setup: making a Python environment in target/clients/venv"
    python3 -m venv --clear "$venv" || give_up "no Python environment"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" \
    || give_up "pip cannot install requirements.txt"

work=$(mktemp -d "$root/target/clients/run.XXXXXX") || give_up "no directory to work in"
# Makes server.pem, server.key and client.pem, which is the CA's certificate.
"$venv/bin/python" -m trustme --quiet --dir "$work" --identities localhost 127.0.0.1 || give_up "no test certificates"

# An empty environment, so that no setting of another gateway leaks in. "Not ready" is remembered for less than the
# clients' polling interval, so that the first poll after the solution finds it.
env -i \
    CAPGATE_LISTEN_HTTP=127.0.0.1:0 CAPGATE_LISTEN_HTTPS=127.0.0.1:0 CAPGATE_LISTEN_ADMIN=127.0.0.1:0 \
    CAPGATE_TLS_CERT="$work/server.pem" CAPGATE_TLS_KEY="$work/server.key" \
    CAPGATE_SANDBOX_SOLVE_MS=1000 CAPGATE_LEDGER_NOT_READY_TTL_MS=200 CAPGATE_LOG_FORMAT=json \
    "$binary" run >"$work/gateway.log" 2>"$work/gateway.err" &
gateway=$!

# The port that a listener got, from the gateway's log. The last line may be half written, hence fromjson?.
port_of() {
    jq -rR --arg listener "$1" \
        'fromjson? | select(.message == "listening" and .listener == $listener) | .address | split(":") | last' \
        "$work/gateway.log"
}
port=
for _ in $(seq 100); do
    port=$(port_of https)
    # The listener of the admin pages comes last.
    [ -n "$port" ] && [ -n "$(port_of admin)" ] && break
    is_running || break
    sleep 0.2
done
if [ -z "$port" ]; then
    cat "$work/gateway.log" "$work/gateway.err"
    give_up "the gateway does not listen"
fi

# What a client gets: where the gateway is, the CA as each HTTP library looks for it (requests, Python's ssl for httpx,
# curl), no proxy on the way, and a home without settings of the user's.
export GATEWAY="localhost:$port"
export REQUESTS_CA_BUNDLE="$work/client.pem" SSL_CERT_FILE="$work/client.pem" CURL_CA_BUNDLE="$work/client.pem"
export NO_PROXY='*' no_proxy='*' HOME="$work" PYTHONDONTWRITEBYTECODE=1

# The clients, one line each.
client two_captcha_python "$venv/bin/python" "$here/two_captcha_python.py"
client seed-script bash "$here/seed-script.sh"

if is_running; then
    kill -TERM "$gateway"
fi
for _ in $(seq 100); do
    is_running || break
    sleep 0.2
done
# One that is still there after 20 seconds is killed, which shows in its exit code.
if is_running; then
    kill -KILL "$gateway"
fi
wait "$gateway" 2>/dev/null
status=$?
gateway=
if [ "$status" -eq 0 ]; then
    ok "gateway: ends with exit code 0 on SIGTERM"
else
    fail "gateway: ended with exit code $status on SIGTERM"
fi
# Only while it served: Pingora's listeners may call their own end an error.
errors=$(sed '/"message":"draining"/,$d' "$work/gateway.log" | grep -vE '"level":"(access|info|warn)"')
if [ -n "$errors" ] || [ -s "$work/gateway.err" ]; then
    fail "gateway: logged an error, or wrote to standard error"
else
    ok "gateway: logged no error while it served"
fi

if [ "$failed" -gt 0 ]; then
    cat "$work/gateway.log" "$work/gateway.err" >"$root/target/clients/gateway.log"
    echo "what the gateway said: target/clients/gateway.log"
fi
count
