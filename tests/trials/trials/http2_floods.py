"""HTTP/2 floods: headers, resets, control frames, and streams that are held."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from harness import http2
from harness.attack import Attack, addresses
from harness.certificate import tls_settings
from harness.gateway import Gateway
from harness.siege import besieged
from harness.trial import Trial

STREAMS_MAX = 32
# Streams of one round of a flood that opens them.
ROUND = 50
POLL = http2.request(b"/res.php?key=K&action=get&id=1")
# The longest answer that needs no task: the result of each of a hundred ids.
LONG_POLL = http2.request(b"/res.php?key=K&action=get&json=1&ids=" + b",".join([b"1"] * 100))
SUBMIT = http2.request(b"/in.php?key=K", b"POST")


def streams(first: int, count: int) -> range:
    """Returns the numbers of a client's streams."""
    return range(2 * first + 1, 2 * (first + count) + 1, 2)


@cache
def bomb(references: int, value_bytes: int) -> bytes:
    """Opens all streams with a header list that is small on the wire: references to one long field."""
    field = http2.literal(b"x", b"a" * value_bytes, is_indexed=True)
    blocks = [http2.request(b"/in.php", b"POST", field + b"\xbe" * (references - 1))]
    # 0xbe is the field with index 62, which entered the table first.
    blocks += [http2.request(b"/in.php", b"POST", b"\xbe" * references)] * (STREAMS_MAX - 1)
    frames = [http2.headers(s, block, http2.END_HEADERS) for s, block in zip(streams(0, STREAMS_MAX), blocks)]
    return http2.opening() + b"".join(frames)


@cache
def long_headers() -> bytes:
    """Opens all streams with literal headers just below the limit, and awaits nothing."""
    fields = b"".join(http2.literal(b"x-%d" % number, b"a" * 450) for number in range(28))
    block = http2.request(b"/in.php", b"POST", fields)
    return http2.opening() + b"".join(http2.headers(s, block, http2.END_HEADERS) for s in streams(0, STREAMS_MAX))


@cache
def requests(round_: int) -> bytes:
    """Requests that are reset at once."""
    reset = struct.pack(">I", 8)
    numbers = streams(round_ * ROUND, ROUND)
    return b"".join(http2.headers(s, POLL) + http2.frame(http2.RST_STREAM, 0, s, reset) for s in numbers)


@cache
def provoked_resets(round_: int) -> bytes:
    """Requests that the gateway must reset, because a window grows by zero."""
    nothing = struct.pack(">I", 0)
    numbers = streams(round_ * ROUND, ROUND)
    return b"".join(http2.headers(s, POLL) + http2.frame(http2.WINDOW_UPDATE, 0, s, nothing) for s in numbers)


@cache
def malformed_requests(round_: int) -> bytes:
    """Requests with a field in capitals, which the gateway must reset."""
    block = http2.request(b"/res.php", b"GET", http2.literal(b"X-Capital", b"1"))
    return b"".join(http2.headers(s, block) for s in streams(round_ * ROUND, ROUND))


@cache
def unfinished_bodies() -> bytes:
    """Opens all streams with bodies that fill their windows and never end."""
    numbers = streams(0, STREAMS_MAX)
    body = b"".join(http2.frame(http2.DATA, 0, s, b"a" * 2000) for s in numbers)
    return http2.opening() + b"".join(http2.headers(s, SUBMIT, http2.END_HEADERS) for s in numbers) + body


@dataclass(frozen=True)
class Flood:
    """What each connection sends."""

    name: str
    opening: Callable[[], bytes]
    repeat: Callable[[int], bytes] | None = None
    reads: bool = False


def floods() -> list[Flood]:
    """Returns all floods."""
    begin = http2.opening
    unfinished = http2.headers(1, SUBMIT, 0)
    long_literal = http2.literal(b"x", b"a" * 16000)
    all_polls = b"".join(http2.headers(s, LONG_POLL) for s in streams(0, STREAMS_MAX))
    return [
        Flood("references to a field", lambda: bomb(600, 4000)),
        Flood("references within the limit", lambda: bomb(4, 3800)),
        Flood("long headers", long_headers),
        Flood("headers without an end", lambda: begin() + http2.headers(1, SUBMIT + long_literal, 0)),
        Flood(
            "CONTINUATION",
            lambda: begin() + unfinished,
            lambda _: http2.frame(http2.CONTINUATION, 0, 1, long_literal),
        ),
        Flood(
            "empty CONTINUATION",
            lambda: begin() + unfinished,
            lambda _: http2.frame(http2.CONTINUATION, 0, 1) * 500,
        ),
        Flood("rapid reset", begin, requests),
        Flood("provoked resets", begin, provoked_resets, reads=True),
        Flood("malformed requests", begin, malformed_requests, reads=True),
        Flood("held answers", lambda: http2.opening({http2.INITIAL_WINDOW_SIZE: 0}) + all_polls),
        Flood("unfinished bodies", unfinished_bodies),
        Flood("PING", begin, lambda _: http2.frame(http2.PING, 0, 0, b"12345678") * 200),
        Flood("SETTINGS", begin, lambda _: http2.settings({3: 100}) * 200),
        Flood(
            "empty DATA",
            lambda: begin() + http2.headers(1, SUBMIT, http2.END_HEADERS),
            lambda _: http2.frame(http2.DATA, 0, 1) * 500,
        ),
    ]


def to_attacks(trial: Trial, gateway: Gateway, flood: Flood, sources: int) -> list[Attack]:
    """Sends a flood over plain TCP, and a tenth of it over TLS."""
    connections = trial.size(100, 2000)
    plain = Attack(
        gateway.http,
        connections - connections // 10,
        opening=lambda _: flood.opening(),
        repeat=flood.repeat,
        reads=flood.reads,
        sources=tuple(addresses(sources)),
    )
    return [plain, replace(plain, gateway=gateway.https, is_tls=True, connections=connections // 10)]


def run(trial: Trial) -> None:
    """Runs each flood from one address and from many."""
    settings = tls_settings()
    with besieged(trial, 6.0 if trial.is_full else 0.5, settings) as siege:
        for flood in floods():
            for sources in (1, 200) if trial.is_full else (200,):
                siege.attack(f"{flood.name} ({sources})", *to_attacks(trial, siege.gateway, flood, sources))
    if trial.is_full:
        for flood in floods():
            with besieged(trial, 0.2, settings) as siege:
                siege.drain(flood.name, *to_attacks(trial, siege.gateway, flood, 200))
