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
# A copy of all that is printed, for parity.py.
said=$root/target/clients/said.txt
passed=0
failed=0
gateway=
work=
# Of each client: its name, and the id of what runs it.
names=()
runners=()

# By bash's own list of jobs: an id alone may by now be another process's.
is_running() {
    jobs -rp | grep -qx "${1:-$gateway}"
}

finish() {
    local status=$? runner
    # Only when the run was cut short: a run that got to its end has waited for the clients and stopped the gateway.
    for runner in "${runners[@]}"; do
        # It is timeout, which hands the signal on to all that it started.
        is_running "$runner" && kill -TERM "$runner" 2>/dev/null
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
    echo "$*" | tee -a "$said"
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
    say "setup: $package is missing; running apt-get update and apt-get install $package"
    apt-get -qq update >/dev/null || give_up "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null \
        || give_up "apt-get cannot install $package"
    "$@" >/dev/null 2>&1 || give_up "$package is installed, and still this fails: $*"
}

# start NAME COMMAND... starts a client beside the others, for their waiting between polls takes most of the time.
start() {
    local name=$1
    shift
    timeout -k 5 150 "$@" >"$work/$name.out" 2>&1 &
    names+=("$name")
    runners+=("$!")
}

# await_clients waits for each, prints its lines and counts them. One that ends badly without saying so counts as failed.
await_clients() {
    local at name status oks fails
    for at in "${!names[@]}"; do
        name=${names[$at]}
        wait "${runners[$at]}"
        status=$?
        tee -a "$said" <"$work/$name.out"
        oks=$(grep -c '^ok ' "$work/$name.out")
        fails=$(grep -c '^FAIL ' "$work/$name.out")
        passed=$((passed + oks))
        failed=$((failed + fails))
        if [ "$fails" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$oks" -eq 0 ]; }; then
            fail "$name: ended with exit code $status after $oks checks (124: it took too long)"
        fi
    done
    runners=()
}

if ! { mkdir -p "$root/target/clients" && : >"$said"; }; then
    echo "FAIL setup: no directory target/clients"
    exit 1
fi
[ -x "$binary" ] || give_up "$binary is no program; build it with cargo build, or name another one"
need curl curl --version
need jq jq --version
need python3 python3 --version
need python3-venv python3 -c 'import venv, ensurepip'

# An environment whose pip does not work was left half made, or its Python is gone.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "setup: making a Python environment in target/clients/venv"
    python3 -m venv --clear "$venv" || give_up "no Python environment"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" \
    || give_up "pip cannot install requirements.txt"

work=$(mktemp -d "$root/target/clients/run.XXXXXX") || give_up "no directory to work in"
# Makes server.pem, server.key and client.pem, which is the CA's certificate.
"$venv/bin/python" -m trustme --quiet --dir "$work" --identities \
    localhost 127.0.0.1 2captcha.com rucaptcha.com api.2captcha.com || give_up "no test certificates"

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
https=
http=
for _ in $(seq 100); do
    https=$(port_of https)
    http=$(port_of http)
    # The listener of the admin pages comes last.
    [ -n "$https" ] && [ -n "$http" ] && [ -n "$(port_of admin)" ] && break
    is_running || break
    sleep 0.2
done
if [ -z "$https" ] || [ -z "$http" ]; then
    cat "$work/gateway.log" "$work/gateway.err"
    give_up "the gateway does not listen"
fi

# What a client gets: where the gateway is, the CA as each HTTP library looks for it (requests, Python's ssl for httpx,
# curl), no proxy on the way, and a home without settings of the user's.
export GATEWAY_HTTPS="localhost:$https" GATEWAY_HTTP="localhost:$http" CA_FILE="$work/client.pem"
export REQUESTS_CA_BUNDLE="$work/client.pem" SSL_CERT_FILE="$work/client.pem" CURL_CA_BUNDLE="$work/client.pem"
export NO_PROXY='*' no_proxy='*' HOME="$work" PYTHONDONTWRITEBYTECODE=1

# The clients, one line each.
for script in two_captcha_python two_captcha_python_methods solvecaptcha_python rucaptcha unicaps_methods \
    captchatools_methods captcha_solver_methods twocaptchaapi_methods; do
    start "$script" "$venv/bin/python" "$here/$script.py"
done
start seed-script bash "$here/seed-script.sh"
# The table of the README holds the columns of all clients, so it is compared only after a run of all.
complete=yes
if [ -f "$here/node/run.sh" ]; then
    if node --version >/dev/null 2>&1 && npm --version >/dev/null 2>&1; then
        start node bash "$here/node/run.sh"
    else
        say "setup: node or npm is missing; the npm clients are left out"
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
    say "what the gateway said: target/clients/gateway.log"
fi
if [ -n "$complete" ] && grep -q '<!-- /parity -->' "$root/README.md"; then
    if difference=$("$venv/bin/python" "$here/parity.py" "$said" --check 2>&1); then
        ok "gateway: README.md has the table of this run"
    else
        say "$difference"
        fail "gateway: README.md has another table; python3 tests/clients/parity.py target/clients/said.txt --write"
    fi
fi
count
