"""Submits of large images while the upstream hangs: whether it reads the calls or not."""

from __future__ import annotations

import base64
import os
import socket
import threading
import time
from contextlib import closing
from urllib.parse import quote_from_bytes

from harness.gateway import Address, Gateway, run_gateway
from harness.trial import Trial

SUBMITS = 60
IMAGE = b"\x89PNG\r\n\x1a\n" + os.urandom(600_000)
RATIO_MAX = 1.6
ACCEPTED = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{"errorId":0,"balance":10}'


class HangingUpstream:
    """An upstream that answers balances, so that the key is accepted, and never answers a submit."""

    def __init__(self, reads: bool) -> None:
        self.reads = reads
        self.submits = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.streams: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> Address:
        """Address of the upstream."""
        return self.listener.getsockname()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            self.streams.append(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        try:
            while received := stream.recv(4096):
                if received.startswith(b"POST /getBalance"):
                    stream.sendall(ACCEPTED)
                elif received.startswith(b"POST /createTask"):
                    self.submits += 1
                    if not self.reads:
                        return
        except OSError:
            pass

    def close(self) -> None:
        """Ends all connections."""
        self.listener.close()
        for stream in self.streams:
            stream.close()


def bodies() -> list[tuple[str, bytes, bytes]]:
    """Returns the same image in all forms that clients send: name, content type and body."""
    encoded = base64.b64encode(IMAGE)
    boundary = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    parts = [(b"key", b"", b"K"), (b"method", b"", b"post"), (b"file", b'; filename="a.png"', IMAGE)]
    urlencoded = b"key=K&method=base64&body=" + quote_from_bytes(encoded).encode()
    return [
        ("urlencoded", b"application/x-www-form-urlencoded", urlencoded),
        ("multipart", b"multipart/form-data; boundary=b", b"".join(boundary % part for part in parts) + b"--b--\r\n"),
        ("JSON", b"application/json", b'{"key":"K","method":"base64","body":"' + encoded + b'"}'),
    ]


def submit(gateway: Address, content_type: bytes, body: bytes) -> socket.socket:
    """Sends a submit, and does not read the response."""
    stream = socket.create_connection(gateway)
    head = b"POST /in.php HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    stream.sendall(head % (content_type, len(body)) + body)
    return stream


def run(trial: Trial) -> None:
    """Measures the growth of the resident memory while the submits hang."""
    for reads in (True, False):
        for name, content_type, body in bodies():
            with closing(HangingUpstream(reads)) as upstream:
                host, port = upstream.address
                settings = {
                    "UPSTREAM_URL": f"http://{host}:{port}",
                    "UPSTREAM_SUBMIT_TIMEOUT_MS": "30000",
                    "LEDGER_SUBMIT_WAIT_MS": "3000",
                    "UPSTREAM_NEW_KEY_WAIT_MS": "1500",
                    "LIMITS_ADDRESS_BYTES_MAX": str(64 << 20),
                }
                with run_gateway(trial.capgate, settings) as gateway:
                    case = f"{name}, {'read' if reads else 'unread'} by the upstream"
                    measure(trial, case, gateway, upstream, content_type, body)


def measure(
    trial: Trial, name: str, gateway: Gateway, upstream: HangingUpstream, content_type: bytes, body: bytes
) -> None:
    """Sends all submits at once, and compares the growth with the size of their bodies."""
    # The upstream accepts the key first.
    with socket.create_connection(gateway.http) as stream:
        stream.sendall(b"GET /res.php?key=K&action=getbalance HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while stream.recv(4096):
            pass
    before = gateway.resident_mib()
    gateway.reset_resident_peak()
    streams = [submit(gateway.http, content_type, body) for _ in range(SUBMITS)]
    end = time.monotonic() + 15
    while upstream.submits < SUBMITS and time.monotonic() < end:
        time.sleep(0.05)
    trial.equal(f"{name}: submits that reached the upstream", upstream.submits, SUBMITS)
    mib = SUBMITS * len(body) / 2**20
    trial.at_most(f"{name}: peak growth per body", (gateway.resident_peak_mib() - before) / mib, RATIO_MAX)
    trial.note(f"{name}: charged per body {gateway.metric('capgate_memory_charged_bytes') / 2**20 / mib:.2f}")
    for stream in streams:
        stream.close()
    upstream.close()
    # A submit waits for up to ledger.submit_wait_ms (here 3 s), and its connection with it.
    is_returned = gateway.wait_for_metric("capgate_memory_charged_bytes", 0, 10)
    trial.equal(f"{name}: memory returned", is_returned, True)
