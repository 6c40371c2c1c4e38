"""Made-up keys at full speed, from one address and from 200: the upstream sees few of them, and honest keys pass.

Beside the flood, 20 known accounts submit all the time, 20 new keys arrive from other addresses, and 20 from an address of
the flood.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.gateway import Address, run_gateway
from harness.trial import Trial

FLOOD_CONNECTIONS = 200
KEYS = 20
RETRY_S = 5.0
# Known accounts submit this often.
BUSY_S = 0.25
CALL_S = 0.03
# Time in which the gateway has read a request.
READ_S = 0.05


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """Reads a message with a Content-Length, and returns its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    length = next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)
    return await reader.readexactly(length)


def _serve_upstream(port: Any, refusals: Any) -> None:
    """Accepts every key but those that begin with "bad", and reports when each was refused."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                key = json.loads(await _read_message(reader))["clientKey"]
                await asyncio.sleep(CALL_S)
                answer = b'{"errorId":0,"taskId":"7","status":"processing","balance":1}'
                if key.startswith("bad"):
                    refusals.put(time.monotonic())
                    answer = b'{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def _request(key: str) -> bytes:
    target = f"/in.php?key={key}&method=userrecaptcha&googlekey=S&pageurl=https://e.com"
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def _submit(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], key: str) -> bytes:
    reader, writer = connection
    writer.write(_request(key))
    return await _read_message(reader)


def _flood(gateway: Address, addresses: list[str], seconds: float, sent: Any) -> None:
    """Sends a new key on each connection, and waits for no answer, because a waiting flood is a slow one."""
    numbers = itertools.count()
    end = time.monotonic() + seconds
    # Closes with a reset, or the flood runs out of ports.
    no_linger = struct.pack("ii", 1, 0)

    async def run_connection(address: str) -> None:
        while time.monotonic() < end:
            try:
                _, writer = await asyncio.open_connection(*gateway, local_addr=(address, 0))
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                writer.write(_request(f"bad{next(numbers)}"))
                await asyncio.sleep(READ_S)
                writer.close()
            except OSError:
                await asyncio.sleep(READ_S)

    async def run() -> None:
        repeated = itertools.islice(itertools.cycle(addresses), FLOOD_CONNECTIONS)
        await asyncio.gather(*(run_connection(address) for address in repeated))

    asyncio.run(run())
    sent.put(next(numbers))


@dataclass
class _Keys:
    """New keys: how long each took until it was accepted, and how many requests were refused."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    async def accept(self, gateway: Address, address: str, key: str) -> None:
        started = time.monotonic()
        connection = await asyncio.open_connection(*gateway, local_addr=(address, 0))
        while not (await _submit(connection, key)).startswith(b"OK|"):
            self.refused += 1
            await asyncio.sleep(RETRY_S)
        self.seconds.append(time.monotonic() - started)


async def _busy(gateway: Address, address: str, key: str, end: float, failures: list[bytes]) -> int:
    """Submits with a known key until the end, and returns how often."""
    connection = await asyncio.open_connection(*gateway, local_addr=(address, 0))
    for count in itertools.count():
        if time.monotonic() >= end:
            return count
        reply = await _submit(connection, key)
        if not reply.startswith(b"OK|"):
            failures.append(reply)
        await asyncio.sleep(BUSY_S)
    raise AssertionError("unreachable")


async def _honest(trial: Trial, gateway: Address, seconds: float, start_flood: Callable[[], None], own: str) -> None:
    known = _Keys()
    await asyncio.gather(*(known.accept(gateway, f"127.0.60.{n + 1}", f"known{n}") for n in range(KEYS)))
    start_flood()
    end, failures = time.monotonic() + seconds, []
    busy = [
        asyncio.create_task(_busy(gateway, f"127.0.60.{n + 1}", f"known{n}", end, failures)) for n in range(KEYS)
    ]
    await asyncio.sleep(seconds / 3)
    new, same = _Keys(), _Keys()
    await asyncio.gather(
        *(new.accept(gateway, f"127.0.70.{n + 1}", f"new{n}") for n in range(KEYS)),
        *(same.accept(gateway, own, f"same{n}") for n in range(KEYS)),
    )
    trial.at_most("slowest new key of another address", max(new.seconds), 5, " s")
    trial.equal("refused submits of new keys of other addresses", new.refused, 0)
    trial.at_most("slowest new key of a flooding address", max(same.seconds), 2 * RETRY_S, " s")
    submits = sum(await asyncio.gather(*busy))
    trial.at_least("submits of known accounts", submits, KEYS)
    trial.equal("refused submits of known accounts", failures[:3], [])


def _most_in_a_minute(moments: list[float]) -> int:
    return max((sum(start <= moment < start + 60 for moment in moments) for start in moments), default=0)


def _run(trial: Trial, addresses: list[str]) -> None:
    seconds = trial.size(15, 60)
    context = multiprocessing.get_context("fork")
    port, refusals, sent = context.Queue(), context.Queue(), context.Queue()
    upstream = context.Process(target=_serve_upstream, args=(port, refusals), daemon=True)
    upstream.start()
    try:
        with run_gateway(trial.capgate, {"UPSTREAM_URL": f"http://127.0.0.1:{port.get(timeout=10)}"}) as gateway:
            arguments = (gateway.http, addresses, seconds, sent)
            flood = context.Process(target=_flood, args=arguments, daemon=True)
            asyncio.run(_honest(trial, gateway.http, seconds, flood.start, addresses[0]))
            trial.note(f"{sent.get(timeout=30)} made-up keys, peak {gateway.resident_peak_mib():.0f} MiB")
            flood.join(10)
    finally:
        upstream.terminate()
    moments = []
    while not refusals.empty():
        moments.append(refusals.get())
    trial.at_least("refused keys", len(moments), 1)
    trial.at_most("refused keys in a minute", _most_in_a_minute(moments), 20 if len(addresses) > 1 else 5)


def run(trial: Trial) -> None:
    """Runs the flood from one address, and from 200."""
    for addresses in (["127.0.80.1"], [f"127.0.81.{number + 1}" for number in range(200)]):
        trial.note(f"{len(addresses)} flooding addresses")
        _run(trial, addresses)
