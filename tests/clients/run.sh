#!/usr/bin/env bash
# End-to-end test: real clients against one gateway with its embedded sandbox, over HTTPS and plain HTTP.
#
#   bash tests/clients/run.sh [path-to-capgate-binary]
#
# Prints one line per check, then `N passed, N failed`. Exits with 1 if a check failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=${1:-$root/target/debug/capgate}
venv=$root/target/clients/venv
# A copy of the output, for parity.py.
results=$root/target/clients/results.txt
passed=0
failed=0
gateway=
work=
# Name and process id of each client.
names=()
pids=()

# Uses bash's list of jobs, because the system may have reused the process id.
is_running() {
    jobs -rp | grep -qx "${1:-$gateway}"
}

finish() {
    local status=$? pid
    # After a complete run there are no processes left.
    for pid in "${pids[@]}"; do
        # This is `timeout`, which forwards the signal.
        is_running "$pid" && kill -TERM "$pid" 2>/dev/null
    done
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

say() {
    echo "$*" | tee -a "$results"
}

count() {
    say "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] || exit 1
}

ok() {
    passed=$((passed + 1))
    say "ok   $*"
}

fail() {
    failed=$((failed + 1))
    say "FAIL $*"
}

# Ends the run if there is nothing to test.
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
    say "setup: $package is missing; running apt-get update and apt-get install $package"
    apt-get -qq update >/dev/null || give_up "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null \
        || give_up "apt-get cannot install $package"
    "$@" >/dev/null 2>&1 || give_up "$package is installed, and still this fails: $*"
}

# start NAME COMMAND... starts a client in the background, because clients mostly wait between polls.
start() {
    local name=$1
    shift
    timeout -k 5 150 "$@" >"$work/$name.out" 2>&1 &
    names+=("$name")
    pids+=("$!")
}

# await_clients waits for all clients, prints and counts their lines. A client that fails without a FAIL line counts as
# one.
await_clients() {
    local at name status oks fails
    for at in "${!names[@]}"; do
        name=${names[$at]}
        wait "${pids[$at]}"
        status=$?
        tee -a "$results" <"$work/$name.out"
        oks=$(grep -c '^ok ' "$work/$name.out")
        fails=$(grep -c '^FAIL ' "$work/$name.out")
        passed=$((passed + oks))
        failed=$((failed + fails))
        if [ "$fails" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$oks" -eq 0 ]; }; then
            fail "$name: ended with exit code $status after $oks checks (124: timeout)"
        fi
    done
    pids=()
}

if ! { mkdir -p "$root/target/clients" && : >"$results"; }; then
    echo "FAIL setup: no directory target/clients"
    exit 1
fi
[ -x "$binary" ] || give_up "$binary is not executable; build it with cargo build, or pass another path"
need curl curl --version
need jq jq --version
need python3 python3 --version
need python3-venv python3 -c 'import venv, ensurepip'

# Without a working pip the environment is incomplete, or its Python was removed.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "setup: creating a Python environment in target/clients/venv"
    python3 -m venv --clear "$venv" || give_up "cannot create a Python environment"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" \
    || give_up "pip cannot install requirements.txt"

work=$(mktemp -d "$root/target/clients/run.XXXXXX") || give_up "cannot create a temporary directory"
# Writes server.pem, server.key and client.pem (the CA's certificate).
"$venv/bin/python" -m trustme --quiet --dir "$work" --identities \
    localhost 127.0.0.1 2captcha.com rucaptcha.com api.2captcha.com || give_up "cannot create test certificates"

# An empty environment, so that no setting leaks in.
env -i \
    CAPGATE_LISTEN_HTTP=127.0.0.1:0 CAPGATE_LISTEN_HTTPS=127.0.0.1:0 CAPGATE_LISTEN_ADMIN=127.0.0.1:0 \
    CAPGATE_TLS_CERT="$work/server.pem" CAPGATE_TLS_KEY="$work/server.key" \
    CAPGATE_SANDBOX_SOLVE_MS=1000 CAPGATE_LOG_FORMAT=json \
    "$binary" run >"$work/gateway.log" 2>"$work/gateway.err" &
gateway=$!

# Reads the port of a listener from the gateway's log. `fromjson?` skips an incomplete last line.
port_of() {
    jq -rR --arg listener "$1" \
        'fromjson? | select(.message == "listening" and .listener == $listener) | .address | split(":") | last' \
        "$work/gateway.log"
}
https=
http=
for _ in $(seq 100); do
    https=$(port_of https)
    http=$(port_of http)
    # The admin listener starts last.
    [ -n "$https" ] && [ -n "$http" ] && [ -n "$(port_of admin)" ] && break
    is_running || break
    sleep 0.2
done
if [ -z "$https" ] || [ -z "$http" ]; then
    cat "$work/gateway.log" "$work/gateway.err"
    give_up "the gateway does not listen"
fi

# The environment of the clients: the gateway's addresses, the CA for each HTTP library (requests, Python's ssl for
# httpx, curl), no proxy, and a home directory without user settings.
export GATEWAY_HTTPS="localhost:$https" GATEWAY_HTTP="localhost:$http" CA_FILE="$work/client.pem"
export REQUESTS_CA_BUNDLE="$work/client.pem" SSL_CERT_FILE="$work/client.pem" CURL_CA_BUNDLE="$work/client.pem"
export NO_PROXY='*' no_proxy='*' HOME="$work" PYTHONDONTWRITEBYTECODE=1

# The clients.
for script in two_captcha_python two_captcha_python_methods solvecaptcha_python rucaptcha unicaps_methods \
    captchatools_methods captcha_solver_methods twocaptchaapi_methods; do
    start "$script" "$venv/bin/python" "$here/$script.py"
done
start seed-script bash "$here/seed-script.sh"
# The table in the README has a column for each client, so it is only checked after a complete run.
complete=yes
if [ -f "$here/node/run.sh" ]; then
    if node --version >/dev/null 2>&1 && npm --version >/dev/null 2>&1; then
        start node bash "$here/node/run.sh"
    else
        say "setup: node or npm is missing; the npm clients are skipped"
        complete=
    fi
fi
await_clients

if is_running; then
    kill -TERM "$gateway"
fi
for _ in $(seq 100); do
    is_running || break
    sleep 0.2
done
# After 20 seconds it is killed, which the exit code shows.
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
# Only up to the drain: Pingora's listeners may log their own end as an error.
errors=$(sed '/"message":"draining"/,$d' "$work/gateway.log" | grep -vE '"level":"(access|info|warn)"')
if [ -n "$errors" ] || [ -s "$work/gateway.err" ]; then
    fail "gateway: logged an error, or wrote to standard error"
else
    ok "gateway: logged no error while it served"
fi

if [ "$failed" -gt 0 ]; then
    cat "$work/gateway.log" "$work/gateway.err" >"$root/target/clients/gateway.log"
    say "log of the gateway: target/clients/gateway.log"
fi
if [ -n "$complete" ] && grep -q '<!-- /parity -->' "$root/README.md"; then
    if difference=$("$venv/bin/python" "$here/parity.py" "$results" --check 2>&1); then
        ok "gateway: README.md contains the table of this run"
    else
        say "$difference"
        fail "gateway: the table in README.md is stale:" \
            "python3 tests/clients/parity.py target/clients/results.txt --write"
    fi
fi
count
