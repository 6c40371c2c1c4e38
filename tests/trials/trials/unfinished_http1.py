"""Unfinished HTTP/1 headers and bodies, clients that never read their responses, and few addresses that hold all memory."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from harness import http2
from harness.attack import Attack, addresses
from harness.gateway import Gateway
from harness.honest import Client
from harness.siege import besieged
from harness.trial import Trial

HEAD = b"POST /in.php?key=K&method=base64 HTTP/1.1\r\nHost: x\r\n"
POLLS = b"GET /res.php?key=K&action=get&id=1 HTTP/1.1\r\nHost: x\r\n\r\n"
LONG_POLLS = b"GET /res.php?key=K&action=get&json=1&ids=" + b",".join([b"1"] * 100) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
MULTIPART = (
    HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 3000000\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
)


@dataclass(frozen=True)
class Flood:
    """What each connection sends."""

    name: str
    opening: bytes
    repeat: Callable[[int], bytes] | None = None
    pause_s: float = 0.0


def floods() -> list[Flood]:
    """Returns all floods."""
    piece = b"a" * 4000
    chunk = b"fa0\r\n" + piece + b"\r\n"
    return [
        Flood("nothing", b""),
        Flood("headers byte by byte", b"GET /res.php?key=", lambda _: b"a", pause_s=1.0),
        Flood("long headers", HEAD + b"X: " + b"a" * 31_000),
        Flood("long targets", b"GET /in.php?key=K&body=" + b"a" * 250_000),
        Flood("bodies that stop", HEAD + b"Content-Length: 3000000\r\n\r\n" + piece * 8),
        Flood("bodies that go on", HEAD + b"Content-Length: 3000000\r\n\r\n", lambda _: piece, pause_s=0.5),
        Flood("chunks without an end", HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 8, lambda _: chunk, 1.0),
        Flood("multipart bodies", MULTIPART, lambda _: piece, pause_s=0.5),
        Flood("polls that are not read", b"", lambda _: POLLS * 100, pause_s=1.0),
        Flood("long polls that are not read", b"", lambda _: LONG_POLLS * 20, pause_s=1.0),
    ]


def to_attack(trial: Trial, gateway: Gateway, flood: Flood) -> Attack:
    """Sends a flood from so many addresses that all connections are admitted."""
    return Attack(
        gateway.http,
        trial.size(500, 10_000),
        opening=lambda _: flood.opening,
        repeat=flood.repeat,
        pause_s=flood.pause_s,
        sources=tuple(addresses(200)),
        processes=2 if trial.is_full else 1,
    )


def takers(gateway: Gateway, sources: int) -> list[Attack]:
    """Holds all the memory that some addresses get: first with large bodies, then with smaller ones."""

    def attack(connections: int, content_bytes: int) -> Attack:
        opening = HEAD + b"Content-Length: 4194304\r\n\r\n" + b"a" * content_bytes
        count = connections * sources
        return Attack(gateway.http, count, lambda _: opening, sources=tuple(addresses(sources)), reopens=False)

    # 20 addresses that hold 1 MiB each have no share above it.
    large = 24 if sources < 10 else 3
    return [attack(large, 2_000_000), attack(8, 300_000), attack(8, 1)]


def submitters(gateway: Gateway) -> list[Client]:
    """Returns a client that submits images of 200 kB, and one that polls over HTTP/2."""
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(200_000))
    body = b"key=honest&method=base64&body=" + quote_from_bytes(image).encode()
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    head = b"POST /in.php HTTP/1.1\r\nHost: x\r\n" + form + b"Content-Length: %d\r\n\r\n" % len(body)
    poll = http2.opening() + http2.headers(1, http2.request(b"/res.php?key=honest&action=get&id=1"))
    return [
        Client(gateway.http, head + body, b"OK|", source="127.0.77.11", rate=10),
        Client(gateway.http, poll, b"ERROR_WRONG_CAPTCHA_ID", source="127.0.77.12", rate=10, is_fresh=True, is_http2=True),
    ]


def run(trial: Trial) -> None:
    """Runs each flood from 200 addresses, and takes all memory from 2 and from 20."""
    for sources in (2, 20):
        with besieged(trial, 6.0 if trial.is_full else 2.0, {}, others=submitters) as siege:
            siege.attack(f"all memory ({sources})", *takers(siege.gateway, sources))
    for flood in floods():
        with besieged(trial, 6.0 if trial.is_full else 0.5, {}) as siege:
            siege.attack(flood.name, to_attack(trial, siege.gateway, flood))
            if trial.is_full:
                siege.drain(flood.name, to_attack(trial, siege.gateway, flood))
