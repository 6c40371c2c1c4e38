"""TLS connections that are silent, half-shaken, idle or without an end to their first message, beside honest clients that connect anew for each request."""

from __future__ import annotations

import ssl
from functools import cache

from harness.attack import Attack, addresses
from harness.certificate import tls_settings
from harness.gateway import Gateway
from harness.siege import besieged
from harness.trial import Trial


@cache
def client_hello() -> bytes:
    """Returns the first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    written = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), written, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return written.read()


def endless_hello() -> bytes:
    """Returns the beginning of a ClientHello of 65,000 bytes, in records of 16,000."""
    message = b"\x01" + (65_000).to_bytes(3, "big") + b"\x03\x03" + bytes(60_000)
    parts = [message[start : start + 16_000] for start in range(0, len(message), 16_000)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def to_attacks(trial: Trial, gateway: Gateway, sources: int) -> list[tuple[str, Attack]]:
    """Returns all kinds of connections. Those that the gateway closes are opened again."""
    connections = trial.size(400, 10_000)

    def attack(opening: bytes, is_tls: bool = False) -> Attack:
        return Attack(
            gateway.https,
            connections,
            opening=lambda _: opening,
            sources=tuple(addresses(sources)),
            is_tls=is_tls,
            alpn=("http/1.1",),
            processes=2 if trial.is_full else 1,
        )

    hello = client_hello()
    return [
        ("silent", attack(b"")),
        ("half a ClientHello", attack(hello[: len(hello) // 2])),
        ("ClientHello only", attack(hello)),
        ("endless ClientHello", attack(endless_hello())),
        # As much of it as does not end the connection.
        ("long ClientHello", attack(endless_hello()[:20_000])),
        ("idle", attack(b"", is_tls=True)),
    ]


def run(trial: Trial) -> None:
    """Holds each kind of connection from one address and from 200."""
    for sources in (1, 200):
        with besieged(trial, 6.0 if trial.is_full else 0.5, tls_settings(), is_tls=True, is_fresh=True) as siege:
            for name, attack in to_attacks(trial, siege.gateway, sources):
                siege.attack(f"{name} ({sources})", attack)
            if trial.is_full:
                siege.drain(f"{name} ({sources})", attack)
