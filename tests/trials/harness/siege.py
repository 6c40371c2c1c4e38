"""Attacks on a gateway that serves honest clients: what every such trial measures, and the goals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .attack import Attack, attackers, idle_attackers
from .gateway import Gateway, run_gateway
from .honest import Client, Tally, honest_clients
from .trial import Trial

RESIDENT_MAX_MIB = 256.0
P99_RATIO_MAX = 2.0
# Below it, a latency is noise of a small or busy machine. The floods found here took seconds.
P99_FLOOR_SMALL_MS = 500.0
P99_FLOOR_FULL_MS = 5.0
DRAIN_MS = 1000
# Beyond the drain: the process ends, and a busy machine notices.
DRAIN_SLACK_S = 3.0
CLOSE_MAX_S = 10.0

POLL = b"GET /res.php?key=honest&action=get&id=1 HTTP/1.1\r\nHost: x\r\n\r\n"
REPLY = b"ERROR_WRONG_CAPTCHA_ID"


def split_cores() -> tuple[set[int], set[int]]:
    """Returns the cores of the gateway, and those of the clients and attackers."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return set(cores), set(cores)
    half = len(cores) // 2
    return set(cores[:half]), set(cores[half:])


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Keeps this process and those that it starts on some cores until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Siege:
    """Attacks on one gateway, compared with the same load of honest clients without an attack."""

    trial: Trial
    gateway: Gateway
    clients: list[Client]
    seconds: float
    without: Tally | None = None
    resident_max_mib: float | None = RESIDENT_MAX_MIB

    def measure_without(self) -> None:
        """Measures honest clients while a process spins that attacks nothing."""
        with idle_attackers(), honest_clients(self.clients) as tally:
            time.sleep(self.seconds)
        self.without = tally
        self.trial.note(f"without an attack: p99 {tally.p99_ms():.2f} ms of {len(tally.latencies_s)} requests")

    def attack(self, name: str, *attacks: Attack) -> None:
        """Attacks the gateway, and records what the goals of every attack demand."""
        assert self.without is not None
        trial, gateway = self.trial, self.gateway
        gateway.reset_resident_peak()
        cpu_before, started = gateway.cpu_seconds(), time.monotonic()
        with ExitStack() as stack:
            damages = [stack.enter_context(attackers(attack)) for attack in attacks]
            with honest_clients(self.clients) as tally:
                time.sleep(self.seconds)
                gateway.admin("/livez")
            cpu = (gateway.cpu_seconds() - cpu_before) / (time.monotonic() - started)
        for damage in damages:
            trial.note(f"{name}: {damage}")
        trial.note(f"{name}: {100 * cpu:.0f} % of a core, {gateway.resident_mib():.0f} MiB resident")
        trial.equal(f"{name}: the process runs", gateway.is_running(), True)
        trial.at_least(f"{name}: honest requests served", tally.served_percent(), 100, " %")
        for failure in sorted(set(tally.failures))[:3]:
            trial.note(f"honest client: {failure}")
        floor = P99_FLOOR_FULL_MS if trial.is_full else P99_FLOOR_SMALL_MS
        limit = max(P99_RATIO_MAX * self.without.p99_ms(), floor)
        trial.at_most(f"{name}: honest p99", tally.p99_ms(), limit, " ms")
        if self.resident_max_mib is not None:
            trial.at_most(f"{name}: resident memory", gateway.resident_peak_mib(), self.resident_max_mib, " MiB")
        is_closed = gateway.wait_for_gauge("capgate_connections", 0, CLOSE_MAX_S)
        trial.equal(f"{name}: connections closed afterwards", is_closed, True)
        trial.equal(f"{name}: memory returned", gateway.gauge("capgate_memory_charged_bytes"), 0)
        trial.note(f"{name}: {gateway.resident_mib():.0f} MiB resident afterwards")

    def drain(self, name: str, *attacks: Attack) -> None:
        """Ends the process during attacks."""
        with ExitStack() as stack:
            for attack in attacks:
                stack.enter_context(attackers(attack))
            started = time.monotonic()
            self.gateway.process.send_signal(signal.SIGTERM)
            code = self.gateway.process.wait(30)
            duration = time.monotonic() - started
        self.trial.at_most(f"{name}: drained", duration, DRAIN_MS / 1000 + DRAIN_SLACK_S, " s")
        self.trial.equal(f"{name}: exit code", code, 0)


@contextmanager
def besieged(
    trial: Trial,
    seconds: float,
    settings: dict[str, str],
    is_tls: bool = False,
    is_fresh: bool | None = None,
    others: Callable[[Gateway], list[Client]] = lambda _: [],
) -> Iterator[Siege]:
    """Runs a gateway on cores of its own, with honest clients, that poll and do other things, measured without an attack."""
    gateway_cores, other_cores = split_cores()
    with run_gateway(trial.capgate, settings | {"SERVER_DRAIN_MS": str(DRAIN_MS)}, cpus=gateway_cores) as gateway:
        with on_cores(other_cores):
            address = gateway.https if is_tls else gateway.http
            kinds = [False, True] if is_fresh is None else [is_fresh]
            clients = [
                Client(address, POLL, REPLY, source=f"127.0.77.{1 + number}", is_tls=is_tls, is_fresh=fresh)
                for number, fresh in enumerate(kinds)
            ]
            clients += others(gateway)
            siege = Siege(trial, gateway, clients, seconds)
            siege.measure_without()
            yield siege
