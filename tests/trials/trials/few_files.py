"""A process with 256 open files and more connections than that: admin answers, and the gateway recovers."""

from __future__ import annotations

import time
from dataclasses import replace

from harness.attack import Attack, addresses, attackers
from harness.certificate import tls_settings
from harness.gateway import run_gateway
from harness.honest import Client, connect, read_reply
from harness.siege import POLL, REPLY
from harness.trial import Trial

from .tls_connections import client_hello

FILES = 256
CONNECTIONS = 1000
RECOVERY_MAX_S = 5.0
# Refused connections are opened again at once, which takes some processor time. A loop that spins takes a whole core.
CPU_MAX_PERCENT = 50.0
ADMIN_MAX_S = 1.0


def run(trial: Trial) -> None:
    """Opens connections of each kind, polls the admin listener meanwhile, and then connects as an honest client."""
    with run_gateway(trial.capgate, tls_settings(), files=FILES) as gateway:
        http = Attack(gateway.http, CONNECTIONS, opening=lambda _: b"", sources=tuple(addresses(20)))
        https = replace(http, gateway=gateway.https)
        kinds = [
            ("idle HTTP", http),
            ("unfinished headers", replace(http, opening=lambda _: b"GET /res.php?key=" + b"a" * 5000)),
            ("silent TLS", https),
            ("ClientHello only", replace(https, opening=lambda _: client_hello())),
            ("idle TLS", replace(https, is_tls=True, alpn=("http/1.1",))),
        ]
        for name, attack in kinds:
            with attackers(attack) as damage:
                cpu_before, started, slowest = gateway.cpu_seconds(), time.monotonic(), 0.0
                end = started + trial.size(1, 12)
                while time.monotonic() < end:
                    asked = time.monotonic()
                    gateway.admin("/livez")
                    slowest = max(slowest, time.monotonic() - asked)
                    time.sleep(0.05)
                cpu = (gateway.cpu_seconds() - cpu_before) / (time.monotonic() - started)
            ended = time.monotonic()
            trial.note(f"{name}: {damage}")
            recovered = False
            while not recovered and time.monotonic() < ended + 2 * RECOVERY_MAX_S:
                try:
                    with connect(Client(gateway.http, POLL, REPLY)) as stream:
                        stream.sendall(POLL)
                        recovered = read_reply(stream) == REPLY
                except OSError:
                    time.sleep(0.05)
            trial.at_most(f"{name}: slowest answer of the admin listener", slowest, ADMIN_MAX_S, " s")
            trial.at_most(f"{name}: processor time", 100 * cpu, CPU_MAX_PERCENT, " % of a core")
            trial.at_most(f"{name}: recovery", time.monotonic() - ended, RECOVERY_MAX_S, " s")
            gateway.wait_for_gauge("capgate_connections", 0, 10)
        trial.equal("the process runs", gateway.is_running(), True)
