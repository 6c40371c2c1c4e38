"""Clients for the servers under test: single requests, bulk submits, wrk."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from .servers import LOAD_CORE, BenchError, pinned

KEY = "bench-key"
SOLVED_KEY = "sandbox-lightning"
NOT_READY = b"CAPCHA_NOT_READY"
SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 256
SUBMITTERS = 64
WAIT_S = 20.0


def poll_path(task: str, key: str = KEY, **more: str) -> str:
    """Returns the path of a poll."""
    return "/res.php?" + urlencode({"key": key, "action": "get", "id": task, **more})


def submit_path(key: str = KEY) -> str:
    """Returns the path of a submit."""
    page = quote("https://example.com/", safe="")
    return f"/in.php?key={key}&method=turnstile&sitekey=SITE_KEY&pageurl={page}"


def get(port: int, path: str, close: bool = False) -> bytes:
    """Returns the bytes of a GET request as wrk sends it."""
    extra = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}\r\n".encode()


def body_length(head: bytes) -> int:
    """Returns the Content-Length of a response head."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BenchError("response without Content-Length")


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    # Bytes of head and body.
    size: int


def parse(head: bytes, body: bytes) -> Answer:
    """Builds a response from its head and body."""
    return Answer(int(head.split(b" ", 2)[1]), body, len(head) + len(body))


def exchange(connection: socket.socket, request: bytes) -> Answer:
    """Sends one request on an open connection and reads the response."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    while len(body) < body_length(head):
        body += receive(connection)
    return parse(head, body)


def receive(connection: socket.socket) -> bytes:
    """Receives at least one byte."""
    data = connection.recv(65536)
    if not data:
        raise BenchError("the server closed the connection early")
    return data


def connect(port: int) -> socket.socket:
    """Opens a connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def fetch(port: int, path: str, close: bool = False) -> Answer:
    """Sends one GET on a new connection."""
    with connect(port) as connection:
        return exchange(connection, get(port, path, close))


def post(port: int, path: str, form: str) -> Answer:
    """Sends one POST of a form on a new connection."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(form)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    with connect(port) as connection:
        return exchange(connection, (head + form).encode())


def submit(port: int, key: str = KEY) -> str:
    """Submits a task and returns its id."""
    return parse_task_id(fetch(port, submit_path(key)).body)


def parse_task_id(body: bytes) -> str:
    """Returns the id from an `OK|ID` reply."""
    if not body.startswith(b"OK|"):
        raise BenchError(f"submit failed: {body[:80]!r}")
    return body[3:].decode()


async def exchange_async(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    """Sends one request on an open connection and reads the response."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    return parse(head, await reader.readexactly(body_length(head)))


async def submit_sequentially(port: int, count: int) -> list[str]:
    """Submits tasks over one connection and returns their ids."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = get(port, submit_path())
    ids = [parse_task_id((await exchange_async(reader, writer, request)).body) for _ in range(count)]
    writer.close()
    return ids


def submit_many(port: int, count: int) -> list[str]:
    """Submits tasks over several connections and returns their ids."""

    async def submit_all() -> list[str]:
        shares = [count // SUBMITTERS + (index < count % SUBMITTERS) for index in range(SUBMITTERS)]
        parts = await asyncio.gather(*(submit_sequentially(port, share) for share in shares if share))
        return [task for part in parts for task in part]

    return asyncio.run(submit_all())


def fetch_concurrently(port: int, path: str, count: int) -> list[Answer]:
    """Sends the same GET over many connections, all opened before the first request."""

    async def fetch_all() -> list[Answer]:
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        answers = await asyncio.gather(*(exchange_async(*stream, get(port, path)) for stream in streams))
        for _, writer in streams:
            writer.close()
        return answers

    return asyncio.run(fetch_all())


@dataclass(frozen=True)
class Burst:
    """A measurement by wrk."""

    rate: float
    requests: int
    bytes_per_answer: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: dict[str, int]


def wrk(port: int, path: str, seconds: float, close: bool, paths: Path | None) -> Burst:
    """Runs wrk with one thread."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT)]
    command += ["-H", "Connection: close"] if close else []
    command += [f"http://127.0.0.1:{port}{path}"]
    command += ["--", str(paths)] if paths else []
    result = subprocess.run(
        pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode or not lines:
        raise BenchError(f"wrk failed: {(result.stderr or result.stdout).strip()[-200:]}")
    return parse_burst(json.loads(lines[-1]))


def parse_burst(output: dict[str, int]) -> Burst:
    """Converts the output of wrk.lua."""
    errors = {name: output[name] for name in ("connect", "read", "write", "status", "timeout")}
    return Burst(
        rate=output["requests"] / (output["micros"] / 1e6),
        requests=output["requests"],
        bytes_per_answer=output["bytes"] / max(output["requests"], 1),
        p50_ms=output["p50_us"] / 1000,
        p99_ms=output["p99_us"] / 1000,
        p999_ms=output["p999_us"] / 1000,
        errors={name: count for name, count in errors.items() if count},
    )
