"""What the embedded store costs: submits per second and their p99 with it and without, in alternating rounds."""

from __future__ import annotations

import selectors
import shutil
import socket
import statistics
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from harness.gateway import Address, run_gateway
from harness.trial import WORK, Trial

CONNECTIONS = 128
REQUEST = (
    b"GET /in.php?key=K&method=turnstile&sitekey=S&pageurl=https://example.com HTTP/1.1\r\nHost: x\r\n\r\n"
)
FAST = {
    "SANDBOX_LATENCY_MS": "0",
    "SANDBOX_SOLVE_MS": "3600000",
    "SANDBOX_REQUESTS_PER_10S": "1000000000",
    "UPSTREAM_REQUESTS_PER_10S": "10000000",
    "UPSTREAM_ACCOUNT_CALLS_MAX": "4096",
    "UPSTREAM_CALLS_MAX": "4096",
    "LIMITS_ADDRESS_REQUESTS_PER_SECOND": "0",
    "LOG_ACCESS": "false",
}


def submit(gateway: Address, submits: int) -> tuple[float, float]:
    """Submits on all connections at once. Returns submits per second, and the p99 in milliseconds."""
    selector = selectors.DefaultSelector()
    sent_at: dict[socket.socket, float] = {}
    delays: list[float] = []
    began = time.monotonic()

    def send(stream: socket.socket) -> None:
        sent_at[stream] = time.monotonic()
        stream.sendall(REQUEST)

    streams = [socket.create_connection(gateway) for _ in range(CONNECTIONS)]
    for stream in streams:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(stream, selectors.EVENT_READ)
        send(stream)
    while len(delays) < submits:
        for key, _ in selector.select(10):
            stream = key.fileobj
            response = stream.recv(4096)
            if b"\r\n\r\nOK|" not in response:
                raise RuntimeError(f"submit refused: {response!r}")
            delays.append((time.monotonic() - sent_at[stream]) * 1000)
            send(stream)
    seconds = time.monotonic() - began
    for stream in streams:
        stream.close()
    return len(delays) / seconds, statistics.quantiles(delays, n=100)[98]


def run(trial: Trial) -> None:
    """Compares the medians of the rounds."""
    submits, rounds = trial.size(3_000, 30_000), trial.size(2, 5)
    WORK.mkdir(parents=True, exist_ok=True)
    results: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for at in range(rounds):
        # The order alternates, so that whatever warms up or slows down concerns both.
        for has_store in ((False, True), (True, False))[at % 2]:
            folder = Path(tempfile.mkdtemp(prefix="store-cost-", dir=WORK))
            settings = FAST | ({"STORE_PATH": str(folder / "store")} if has_store else {})
            try:
                with run_gateway(trial.capgate, settings) as gateway:
                    # The upstream accepts the key first.
                    host, port = gateway.http
                    with urlopen(f"http://{host}:{port}/res.php?key=K&action=getbalance") as response:
                        response.read()
                    submit(gateway.http, CONNECTIONS)
                    results[has_store].append(submit(gateway.http, submits))
                    if has_store:
                        changes = gateway.metrics("capgate_store_write_changes_")
                        batch = changes["capgate_store_write_changes_sum"] / changes["capgate_store_write_changes_count"]
                        size = (folder / "store" / "tasks.sqlite").stat().st_size
                        log = (folder / "store" / "tasks.sqlite-wal").stat().st_size
                        trial.note(f"{batch:.1f} changes a transaction; file {size / 1e6:.1f} MB, log {log / 1e6:.1f} MB")
            finally:
                shutil.rmtree(folder)
    rates = {has_store: statistics.median(rate for rate, _ in results[has_store]) for has_store in results}
    p99_ms = {has_store: statistics.median(p99 for _, p99 in results[has_store]) for has_store in results}
    trial.note(f"submits/s: {rates[False]:.0f} in memory, {rates[True]:.0f} with the store")
    trial.note(f"p99: {p99_ms[False]:.1f} ms in memory, {p99_ms[True]:.1f} ms with the store")
    trial.at_least("submits per second, with ÷ without", rates[True] / rates[False], trial.size(30, 70) / 100)
    trial.at_most("p99 added", p99_ms[True] - p99_ms[False], trial.size(100, 10), " ms")
