"""What is sent to a server: single requests, many submits, wrk, idle connections."""

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
    """The path of a poll."""
    return "/res.php?" + urlencode({"key": key, "action": "get", "id": task, **more})


def submit_path(key: str = KEY) -> str:
    """The path of a submit."""
    page = quote("https://example.com/", safe="")
    return f"/in.php?key={key}&method=turnstile&sitekey=SITE_KEY&pageurl={page}"


def get(port: int, path: str, close: bool = False) -> bytes:
    """The bytes of a GET as wrk would send it."""
    end = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{end}\r\n".encode()


def body_length(head: bytes) -> int:
    """What Content-Length says."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BenchError("an answer without Content-Length")


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    # Bytes of it all.
    size: int


def parse(head: bytes, body: bytes) -> Answer:
    """A response of its two parts."""
    return Answer(int(head.split(b" ", 2)[1]), body, len(head) + len(body))


def exchange(connection: socket.socket, request: bytes) -> Answer:
    """One request on a connection that stays open."""
    connection.sendall(request)
    held = b""
    while b"\r\n\r\n" not in held:
        held += receive(connection)
    head, _, body = held.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    while len(body) < body_length(head):
        body += receive(connection)
    return parse(head, body)


def receive(connection: socket.socket) -> bytes:
    """Some bytes; none is an error."""
    some = connection.recv(65536)
    if not some:
        raise BenchError("the server closed a connection early")
    return some


def connect(port: int) -> socket.socket:
    """A connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(port: int, path: str, close: bool = False) -> Answer:
    """One GET on a connection of its own."""
    with connect(port) as connection:
        return exchange(connection, get(port, path, close))


def post(port: int, path: str, form: str) -> Answer:
    """One POST of a form on a connection of its own."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(form)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    with connect(port) as connection:
        return exchange(connection, (head + form).encode())


def submit(port: int, key: str = KEY) -> str:
    """Submits a task; its id."""
    return task_id(ask(port, submit_path(key)).body)


def task_id(said: bytes) -> str:
    """The id behind OK|."""
    if not said.startswith(b"OK|"):
        raise BenchError(f"a submit was answered {said[:80]!r}")
    return said[3:].decode()


async def fetch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    """One request on a connection that stays open."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    return parse(head, await reader.readexactly(body_length(head)))


async def submitter(port: int, count: int) -> list[str]:
    """Submits some tasks over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = get(port, submit_path())
    ids = [task_id((await fetch(reader, writer, request)).body) for _ in range(count)]
    writer.close()
    return ids


def submit_many(port: int, count: int) -> list[str]:
    """Submits tasks over several connections; their ids."""

    async def all_of_them() -> list[str]:
        shares = [count // SUBMITTERS + (place < count % SUBMITTERS) for place in range(SUBMITTERS)]
        parts = await asyncio.gather(*(submitter(port, share) for share in shares if share))
        return [task for part in parts for task in part]

    return asyncio.run(all_of_them())


def ask_at_once(port: int, path: str, count: int) -> list[Answer]:
    """The same GET over many connections, all opened before any asks."""

    async def all_of_them() -> list[Answer]:
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        answers = await asyncio.gather(*(fetch(*stream, get(port, path)) for stream in streams))
        for _, writer in streams:
            writer.close()
        return answers

    return asyncio.run(all_of_them())


@dataclass(frozen=True)
class Burst:
    """What wrk measured."""

    rate: float
    requests: int
    bytes_per_answer: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: dict[str, int]


def wrk(port: int, path: str, seconds: float, close: bool, paths: Path | None) -> Burst:
    """A burst of requests from one thread."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT)]
    command += ["-H", "Connection: close"] if close else []
    command += [f"http://127.0.0.1:{port}{path}"]
    command += ["--", str(paths)] if paths else []
    said = subprocess.run(
        pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    lines = [line for line in said.stdout.splitlines() if line.startswith("{")]
    if said.returncode or not lines:
        raise BenchError(f"wrk failed: {(said.stderr or said.stdout).strip()[-200:]}")
    return burst(json.loads(lines[-1]))


def burst(told: dict[str, int]) -> Burst:
    """wrk's numbers, in our units."""
    errors = {name: told[name] for name in ("connect", "read", "write", "status", "timeout")}
    return Burst(
        rate=told["requests"] / (told["micros"] / 1e6),
        requests=told["requests"],
        bytes_per_answer=told["bytes"] / max(told["requests"], 1),
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        p999_ms=told["p999_us"] / 1000,
        errors={name: count for name, count in errors.items() if count},
    )
