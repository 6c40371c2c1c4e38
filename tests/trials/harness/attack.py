"""Attackers: thousands of connections that are open at once, from one or many addresses of loopback."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any

from .gateway import Address

OPENING_MAX_S = 60.0
# Connections of one process that are being opened at once.
PENDING_MAX = 100
# Refused connections of one process that are opened again per second.
REOPENED_PER_S = 500
# Linux: the kernel chooses the port when the connection is made, so that each address has all ports.
IP_BIND_ADDRESS_NO_PORT = 24


def addresses(count: int) -> list[str]:
    """Returns addresses of loopback for attackers."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


@dataclass(frozen=True)
class Attack:
    """What every attacking connection does."""

    gateway: Address
    connections: int
    # The bytes that a connection begins with, by its number.
    opening: Callable[[int], bytes]
    # The bytes that follow, by the number of the round; nothing follows an empty round.
    repeat: Callable[[int], bytes] | None = None
    # Pause of a connection between two rounds. With none, it sends as fast as the gateway reads.
    pause_s: float = 0.0
    sources: tuple[str, ...] = ("127.1.0.1",)
    # Whether the attackers read. If they do not, responses wait in the gateway.
    reads: bool = False
    is_tls: bool = False
    alpn: tuple[str, ...] = ("h2",)
    # Whether a connection that the gateway closes is opened again.
    reopens: bool = True
    processes: int = 1


@dataclass
class Damage:
    """What the attackers got done."""

    opened: int = 0
    closed: int = 0
    failed: int = 0
    open_at_end: int = 0
    bytes_sent: int = 0

    def __str__(self) -> str:
        return (
            f"{self.opened} connections opened, {self.closed} closed by the gateway, {self.failed} failed, "
            f"{self.open_at_end} open at the end, {self.bytes_sent / 1e6:.1f} MB sent"
        )


@dataclass
class _Connection:
    number: int
    stream: socket.socket
    is_connected: bool = False
    needs_handshake: bool = False
    unsent: bytes = b""
    rounds: int = 0
    events: int = 0


@dataclass
class _Attacker:
    attack: Attack
    numbers: deque[int]
    damage: Damage = field(default_factory=Damage)
    connections: dict[int, _Connection] = field(default_factory=dict)
    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    pending: int = 0
    reopen_at: float = 0.0

    def __post_init__(self) -> None:
        self.poller = select.epoll()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.set_alpn_protocols(list(self.attack.alpn))

    def run(self, is_ready: Event, stop: Event) -> None:
        end = time.monotonic() + OPENING_MAX_S
        first_opened = 0
        total = len(self.numbers)
        is_opening = True
        while not stop.is_set():
            now = time.monotonic()
            first_opened += self.open_some(now, total - first_opened)
            if first_opened == total and is_opening:
                # Connections that the gateway refuses are opened again and again, so some are always pending.
                is_opening, end = False, now + 1
            if (first_opened == total and self.pending == 0) or now > end:
                is_ready.set()
            while self.waiting and self.waiting[0][0] <= now:
                connection = self.connections.get(self.waiting.popleft()[1])
                if connection is not None:
                    self.send(connection)
            for fd, events in self.poller.poll(0.01, 2000):
                connection = self.connections.get(fd)
                if connection is not None:
                    self.step(connection, events)
        self.damage.open_at_end = len(self.connections)

    def open_some(self, now: float, first: int) -> int:
        """Opens connections. Returns how many of them are opened for the first time."""
        opened = 0
        while self.numbers and self.pending < PENDING_MAX:
            if opened >= first:
                if now < self.reopen_at:
                    break
                self.reopen_at = max(self.reopen_at, now - 0.1) + 1 / REOPENED_PER_S
            else:
                opened += 1
            self.open(self.numbers.popleft())
        return opened

    def open(self, number: int) -> None:
        stream = socket.socket()
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        # Little room for responses, so that those of a connection that does not read wait in the gateway.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            stream.bind((self.attack.sources[number % len(self.attack.sources)], 0))
            result = stream.connect_ex(self.attack.gateway)
            if self.attack.is_tls:
                # Fails at once if the connection was refused.
                stream = self.context.wrap_socket(stream, do_handshake_on_connect=False, server_hostname="localhost")
        except OSError as error:
            result = error.errno
        if result not in (0, errno.EINPROGRESS):
            stream.close()
            self.damage.failed += 1
            if self.attack.reopens:
                self.numbers.append(number)
            return
        connection = _Connection(number, stream, needs_handshake=self.attack.is_tls)
        self.connections[stream.fileno()] = connection
        self.pending += 1
        connection.events = select.EPOLLOUT
        self.poller.register(stream.fileno(), select.EPOLLOUT)

    def want(self, connection: _Connection, events: int) -> None:
        if connection.events != events:
            connection.events = events
            self.poller.modify(connection.stream.fileno(), events)

    def idle_events(self) -> int:
        return select.EPOLLRDHUP | (select.EPOLLIN if self.attack.reads else 0)

    def step(self, connection: _Connection, events: int) -> None:
        if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
            return self.close(connection)
        try:
            if connection.needs_handshake:
                try:
                    connection.stream.do_handshake()
                except ssl.SSLWantReadError:
                    return self.want(connection, select.EPOLLIN)
                except ssl.SSLWantWriteError:
                    return self.want(connection, select.EPOLLOUT)
                connection.needs_handshake = False
                events |= select.EPOLLOUT
            if not connection.is_connected:
                connection.is_connected = True
                self.pending -= 1
                self.damage.opened += 1
                connection.unsent = self.attack.opening(connection.number)
            if events & select.EPOLLIN:
                self.read(connection)
            if events & select.EPOLLOUT:
                self.send(connection)
        except OSError:
            self.close(connection)

    def read(self, connection: _Connection) -> None:
        try:
            if not connection.stream.recv(65536):
                self.close(connection)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass

    def send(self, connection: _Connection) -> None:
        try:
            if not connection.unsent and self.attack.repeat is not None:
                connection.unsent = self.attack.repeat(connection.rounds)
                connection.rounds += 1
            if connection.unsent:
                sent = connection.stream.send(connection.unsent)
                self.damage.bytes_sent += sent
                connection.unsent = connection.unsent[sent:]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError:
            return self.close(connection)
        if connection.unsent or (self.attack.repeat is not None and self.attack.pause_s == 0):
            self.want(connection, self.idle_events() | select.EPOLLOUT)
            return None
        self.want(connection, self.idle_events())
        if self.attack.repeat is not None:
            self.waiting.append((time.monotonic() + self.attack.pause_s, connection.stream.fileno()))
        return None

    def close(self, connection: _Connection) -> None:
        if self.connections.pop(connection.stream.fileno(), None) is None:
            return
        if connection.is_connected:
            self.damage.closed += 1
        else:
            self.damage.failed += 1
            self.pending -= 1
        connection.stream.close()
        if self.attack.reopens:
            self.numbers.append(connection.number)


def _attack(attack: Attack, numbers: list[int], is_ready: Event, stop: Event, results: Any) -> None:
    # Honest clients must not wait for the processor.
    os.nice(10)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    attacker = _Attacker(attack, deque(numbers))
    attacker.run(is_ready, stop)
    results.put(attacker.damage)


@contextmanager
def attackers(attack: Attack) -> Iterator[Damage]:
    """Opens all connections, and attacks until the block ends; the damage is complete afterwards."""
    context = multiprocessing.get_context("fork")
    stop, results = context.Event(), context.Queue()
    shares = [list(range(first, attack.connections, attack.processes)) for first in range(attack.processes)]
    ready = [context.Event() for _ in shares]
    processes = [
        context.Process(target=_attack, args=(attack, share, event, stop, results), daemon=True)
        for share, event in zip(shares, ready)
    ]
    for process in processes:
        process.start()
    total = Damage()
    try:
        for event in ready:
            event.wait(OPENING_MAX_S + 5)
        yield total
    finally:
        stop.set()
        for _ in processes:
            damage = results.get(timeout=60)
            for name, value in vars(damage).items():
                setattr(total, name, getattr(total, name) + value)
        for process in processes:
            process.join(10)


def _spin(stop: Event) -> None:
    os.nice(10)
    while not stop.is_set():
        for _ in range(1000):
            pass


@contextmanager
def idle_attackers(processes: int = 1) -> Iterator[None]:
    """Takes the processor time that attackers would take, and attacks nothing: for the figures to compare with."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    spinning = [context.Process(target=_spin, args=(stop,), daemon=True) for _ in range(processes)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in spinning:
            process.join(10)
