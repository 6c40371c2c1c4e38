"""Whether a server does what it is measured for. One that does not is not measured."""

from __future__ import annotations

import json
import time

from . import load
from .load import KEY, NOT_READY, SOLVED_KEY, poll_path
from .servers import BenchError, Kind, Server, Upstream

AT_ONCE = 32
# What the peers promise; capgate may decide otherwise, so only they are held to it.
NOT_READY_TTL_S = 2.0


def expect(name: str, what: str, holds: bool, said: object) -> None:
    """Fails unless it holds."""
    if not holds:
        raise BenchError(f"{name} fails its probe: {what}: {said!r}")


def probe(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Checks one server."""
    if not kind.is_shim:
        said = load.ask(server.port, poll_path("1"))
        expect(kind.name, "a constant answer", said.body == NOT_READY, said)
        return
    task = load.submit(server.port)
    pending(kind, server, task)
    strangers(kind, server, task)
    one_call_for_equal_polls(kind, server, upstream)
    solved(kind, server, upstream)
    if "capgate" not in kind.name:
        memory(kind, server, upstream)


def pending(kind: Kind, server: Server, task: str) -> None:
    """A pending task, in each form of asking."""
    text = load.ask(server.port, poll_path(task))
    expect(kind.name, "a pending task", (text.status, text.body) == (200, NOT_READY), text)
    form = poll_path(task).partition("?")[2]
    posted = load.post(server.port, "/res.php", form)
    expect(kind.name, "a posted poll", posted.body == NOT_READY, posted)
    styled = load.ask(server.port, poll_path(task, json="1"))
    wanted = {"status": 0, "request": "CAPCHA_NOT_READY"}
    expect(kind.name, "json=1", json.loads(styled.body) == wanted, styled)


def strangers(kind: Kind, server: Server, task: str) -> None:
    """Ids that are nobody's or somebody else's."""
    for what, path in {
        "an unknown id": poll_path("12345678"),
        "another account's id": poll_path(task, key="another-key"),
    }.items():
        said = load.ask(server.port, path)
        expect(kind.name, what, said.status == 200 and said.body.startswith(b"ERROR_"), said)


def one_call_for_equal_polls(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Polls at the same time of a task that was never polled."""
    path = poll_path(load.submit(server.port))
    before = upstream.polls()
    answers = load.ask_at_once(server.port, path, AT_ONCE)
    calls = upstream.polls() - before
    expect(kind.name, "equal polls", all(one.body == NOT_READY for one in answers), answers[0])
    expect(kind.name, f"{AT_ONCE} equal polls cost one call", calls <= 1, calls)


def solved(kind: Kind, server: Server, upstream: Upstream) -> None:
    """A task that is ready, and stays known."""
    path = poll_path(load.submit(server.port, SOLVED_KEY), key=SOLVED_KEY)
    said = load.ask(server.port, path)
    expect(kind.name, "a solved task", said.body.startswith(b"OK|SANDBOX-"), said)
    before = upstream.polls()
    styled = json.loads(load.ask(server.port, path + "&json=1").body)
    wanted = {"status": 1, "request": said.body[3:].decode()}
    # More members are none of our business; clients expect some for some methods.
    expect(kind.name, "a solved task with json=1", styled.items() >= wanted.items(), styled)
    calls = upstream.polls() - before
    expect(kind.name, "a final answer comes from memory", calls == 0, calls)


def quiet(upstream: Upstream) -> int:
    """Polls so far, once no server polls: capgate goes on for a while after its clients have left."""
    polls = upstream.polls()
    for _ in range(10):
        time.sleep(1.0)
        before, polls = polls, upstream.polls()
        if before == polls:
            break
    return polls


def memory(kind: Kind, server: Server, upstream: Upstream) -> None:
    """Not ready is remembered, and not for ever."""
    path = poll_path(load.submit(server.port, KEY))
    before = quiet(upstream)
    began = time.monotonic()
    while time.monotonic() - began < NOT_READY_TTL_S * 0.75:
        load.ask(server.port, path)
        time.sleep(0.1)
    calls = upstream.polls() - before
    expect(kind.name, "not ready is remembered", calls == 1, calls)
    time.sleep(NOT_READY_TTL_S * 0.5)
    load.ask(server.port, path)
    calls = upstream.polls() - before
    expect(kind.name, "not ready is asked again", calls == 2, calls)
