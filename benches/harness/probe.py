"""Checks that a server implements the behaviour under test. A server that fails is not measured."""

from __future__ import annotations

import json
import time

from . import load
from .load import KEY, NOT_READY, SOLVED_KEY, poll_path
from .servers import BenchError, Kind, Server, Upstream

CONCURRENT_POLLS = 32
# The TTL that the peers implement. capgate schedules upstream polls itself, so this is not checked for capgate.
NOT_READY_TTL_S = 2.0


def expect(name: str, check: str, is_ok: bool, actual: object) -> None:
    """Fails if the check did not pass."""
    if not is_ok:
        raise BenchError(f"{name} fails its probe: {check}: {actual!r}")


def probe(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Checks one server."""
    if not kind.is_shim:
        answer = load.fetch(server.port, poll_path("1"))
        expect(kind.name, "a constant answer", answer.body == NOT_READY, answer)
        return
    task = load.submit(server.port)
    check_pending(kind, server, task)
    check_unknown_ids(kind, server, task)
    check_single_flight(kind, server, upstream)
    check_solved(kind, server, upstream)
    if "capgate" not in kind.name:
        check_not_ready_ttl(kind, server, upstream)


def check_pending(kind: Kind, server: Server, task: str) -> None:
    """Polls a pending task by GET, by POST and with json=1."""
    text = load.fetch(server.port, poll_path(task))
    expect(kind.name, "a pending task", (text.status, text.body) == (200, NOT_READY), text)
    form = poll_path(task).partition("?")[2]
    posted = load.post(server.port, "/res.php", form)
    expect(kind.name, "a posted poll", posted.body == NOT_READY, posted)
    as_json = load.fetch(server.port, poll_path(task, json="1"))
    expected = {"status": 0, "request": "CAPCHA_NOT_READY"}
    expect(kind.name, "json=1", json.loads(as_json.body) == expected, as_json)


def check_unknown_ids(kind: Kind, server: Server, task: str) -> None:
    """Polls an unknown id and another account's id."""
    for check, path in {
        "an unknown id": poll_path("12345678"),
        "another account's id": poll_path(task, key="another-key"),
    }.items():
        answer = load.fetch(server.port, path)
        expect(kind.name, check, answer.status == 200 and answer.body.startswith(b"ERROR_"), answer)


def check_single_flight(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Polls a new task concurrently and expects at most one upstream call."""
    path = poll_path(load.submit(server.port))
    before = upstream.polls()
    answers = load.fetch_concurrently(server.port, path, CONCURRENT_POLLS)
    calls = upstream.polls() - before
    expect(kind.name, "concurrent polls", all(answer.body == NOT_READY for answer in answers), answers[0])
    expect(kind.name, f"{CONCURRENT_POLLS} concurrent polls make one upstream call", calls <= 1, calls)


def check_solved(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Polls a solved task and expects the second answer from memory."""
    path = poll_path(load.submit(server.port, SOLVED_KEY), key=SOLVED_KEY)
    text = load.fetch(server.port, path)
    expect(kind.name, "a solved task", text.body.startswith(b"OK|SANDBOX-"), text)
    before = upstream.polls()
    as_json = json.loads(load.fetch(server.port, path + "&json=1").body)
    expected = {"status": 1, "request": text.body[3:].decode()}
    # Additional members are allowed; clients expect some for certain methods.
    expect(kind.name, "a solved task with json=1", as_json.items() >= expected.items(), as_json)
    calls = upstream.polls() - before
    expect(kind.name, "a final answer is served from memory", calls == 0, calls)


def wait_until_quiet(upstream: Upstream) -> int:
    """Waits until no server polls (capgate continues for a while without clients) and returns the number of polls."""
    polls = upstream.polls()
    for _ in range(10):
        time.sleep(1.0)
        before, polls = polls, upstream.polls()
        if before == polls:
            break
    return polls


def check_not_ready_ttl(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Checks that "not ready" is cached, and that the cache expires."""
    path = poll_path(load.submit(server.port, KEY))
    before = wait_until_quiet(upstream)
    started = time.monotonic()
    while time.monotonic() - started < NOT_READY_TTL_S * 0.75:
        load.fetch(server.port, path)
        time.sleep(0.1)
    calls = upstream.polls() - before
    expect(kind.name, "not ready is cached", calls == 1, calls)
    time.sleep(NOT_READY_TTL_S * 0.5)
    load.fetch(server.port, path)
    calls = upstream.polls() - before
    expect(kind.name, "not ready expires", calls == 2, calls)
