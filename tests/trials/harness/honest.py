"""Honest clients that poll at a steady rate beside an attack, each on a connection of its own."""

from __future__ import annotations

import math
import multiprocessing
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.synchronize import Event
from typing import Any

from . import http2
from .gateway import Address

REPLY_MAX_S = 10.0


@dataclass
class Tally:
    """The replies that honest clients got, and their latencies."""

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def p99_ms(self) -> float:
        """Returns the 99th percentile of the latency, from the start of the connection if each request has its own."""
        if not self.latencies_s:
            return math.inf
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]

    def served_percent(self) -> float:
        """Returns the share of requests that got a reply of the expected kind."""
        total = len(self.latencies_s) + len(self.failures)
        return 100 * len(self.latencies_s) / total if total else 0


@dataclass(frozen=True)
class Client:
    """How an honest client sends its requests."""

    gateway: Address
    request: bytes
    # What the body of the reply must begin with.
    expected: bytes
    # The client's own address on loopback.
    source: str = "127.0.77.1"
    # Requests per second.
    rate: float = 100.0
    is_tls: bool = False
    # A new connection for each request, as most clients make one.
    is_fresh: bool = False
    # Whether the request is all that a client of HTTP/2 sends on a new connection.
    is_http2: bool = False


def read_reply(stream: socket.socket) -> bytes:
    """Reads one response with a Content-Length, and returns its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = stream.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of the header")
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    length = next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)
    while len(body) < length:
        more = stream.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of the body")
        body += more
    return body


def read_http2_reply(stream: socket.socket) -> bytes:
    """Reads frames until the end of the first stream, and returns its data."""
    received, body = b"", b""
    while True:
        while len(received) >= 9 and len(received) >= 9 + (length := int.from_bytes(received[:3], "big")):
            kind, flags, number = received[3], received[4], int.from_bytes(received[5:9], "big")
            if kind == http2.DATA:
                body += received[9 : 9 + length]
            if number == 1 and (kind == http2.RST_STREAM or flags & http2.END_STREAM):
                return body
            received = received[9 + length :]
        more = stream.recv(65536)
        if not more:
            raise ConnectionError("closed before the end of the stream")
        received += more


@cache
def tls_context() -> ssl.SSLContext:
    """Returns a context that trusts any certificate. Made once, because it takes longer than a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(client: Client) -> socket.socket:
    """Opens a connection from the client's address."""
    stream = socket.create_connection(client.gateway, REPLY_MAX_S, source_address=(client.source, 0))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if client.is_tls:
        stream = tls_context().wrap_socket(stream, server_hostname="localhost")
    return stream


def _poll(client: Client, stop: Event, results: Any) -> None:
    tally = Tally()
    stream: socket.socket | None = None
    next_at = time.monotonic()
    while not stop.is_set():
        next_at += 1 / client.rate
        time.sleep(max(0.0, next_at - time.monotonic()))
        started = time.monotonic()
        try:
            if stream is None:
                stream = connect(client)
            stream.sendall(client.request)
            body = read_http2_reply(stream) if client.is_http2 else read_reply(stream)
            if body.startswith(client.expected):
                tally.latencies_s.append(time.monotonic() - started)
            else:
                tally.failures.append(body[:80].decode(errors="replace"))
        except OSError as error:
            tally.failures.append(repr(error))
            if stream is not None:
                stream.close()
            stream = None
        if client.is_fresh and stream is not None:
            stream.close()
            stream = None
    results.put(tally)


@contextmanager
def honest_clients(clients: list[Client]) -> Iterator[Tally]:
    """Runs clients, each in a process of its own, until the block ends; the tally is complete afterwards."""
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    processes = [context.Process(target=_poll, args=(client, stop, results), daemon=True) for client in clients]
    for process in processes:
        process.start()
    total = Tally()
    try:
        yield total
    finally:
        stop.set()
        for _ in processes:
            tally = results.get(timeout=2 * REPLY_MAX_S)
            total.latencies_s += tally.latencies_s
            total.failures += tally.failures
        for process in processes:
            process.join(REPLY_MAX_S)
