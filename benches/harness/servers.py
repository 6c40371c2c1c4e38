"""The servers under test and their upstream: starting, observing and stopping them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches" / "peers"
WORK = ROOT / "target" / "bench"
PEER_PROGRAMS = ROOT / "target" / "peers" / "release"

SERVER_CORE = "0"
LOAD_CORE = "1"
START_MAX_S = 60.0
STOP_MAX_S = 5.0
# Below the ephemeral port range, which a load test exhausts.
PORTS = itertools.count(21000)


class BenchError(Exception):
    """A measurement failed."""


@dataclass(frozen=True)
class Kind:
    """A kind of server that can be started."""

    name: str
    # Description for the report.
    description: str
    # Whether it implements the protocol; otherwise it returns a constant answer.
    is_shim: bool
    # (port, upstream URL, working directory) → (command, environment)
    command: Callable[[int, str, Path], tuple[list[str], dict[str, str]]]
    # Commands and files that it requires.
    requires: tuple[str, ...] = ()


@dataclass
class Server:
    """A running server."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    admin: int | None = None
    facts: dict[str, object] = field(default_factory=dict)

    def pids(self) -> list[int]:
        """The ids of its process and of the children (nginx serves in a child)."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            children = []
        return [pid, *map(int, children)]

    def cpu_s(self) -> float:
        """CPU time used so far, in seconds."""
        ticks = 0
        for pid in self.pids():
            # The process name may contain spaces; the fields after its closing bracket do not.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Resident memory in bytes."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    def metric(self, name: str) -> float | None:
        """The value of one of capgate's metrics, summed over all labels."""
        if self.admin is None:
            return None
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        series = [line for line in lines if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in series)


class Upstream:
    """The sandbox and its counters."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def counters(self) -> dict[str, int]:
        """Requests by endpoint since the last reset."""
        with urlopen(f"{self.url}/sandbox/counters", timeout=10) as answer:
            return json.load(answer)

    def polls(self) -> int:
        """Calls of getTaskResult since the last reset."""
        return self.counters()["getTaskResult"]

    def reset(self) -> None:
        """Sets the counters to zero."""
        with urlopen(Request(f"{self.url}/sandbox/reset", method="POST"), timeout=10):
            pass


def free_port() -> int:
    """Returns a free port."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError("no free port")


def pinned(core: str, command: list[str]) -> list[str]:
    """Returns the command pinned to one core."""
    return ["taskset", "-c", core, *command]


def launch(
    name: str, command: list[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Starts a process; discards standard output and writes standard error to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # The caller's settings must not affect the measurement.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CAPGATE_")}
    with log.open("wb") as errors:
        return subprocess.Popen(
            command,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def wait_until_up(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits until the port accepts connections."""
    deadline = time.monotonic() + START_MAX_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            errors = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise BenchError(f"{name} exited at startup: {' / '.join(errors)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise BenchError(f"{name} does not listen")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stops a child process and waits for it."""
    process.terminate()
    try:
        process.wait(STOP_MAX_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running(
    name: str, core: str, port: int, command: list[str], environment: dict[str, str]
) -> Iterator[Server]:
    """Runs a process pinned to a core within the context."""
    log = WORK / "logs" / f"{name}.log"
    process = launch(name, pinned(core, command), environment, log)
    try:
        wait_until_up(name, process, port, log)
        yield Server(name, process, port, log)
    finally:
        stop(process)


@contextmanager
def upstream(capgate: Path, **settings: str | int) -> Iterator[Upstream]:
    """Runs the sandbox with these settings of its configuration section."""
    port = free_port()
    environment = {
        "CAPGATE_SANDBOX_LISTEN": f"127.0.0.1:{port}",
        "CAPGATE_SANDBOX_REQUESTS_PER_10S": "1000000000",
        "CAPGATE_LOG_ACCESS": "false",
        "CAPGATE_SERVER_THREADS": "1",
    }
    for name, value in settings.items():
        environment[f"CAPGATE_SANDBOX_{name.upper()}"] = str(value)
    with running("sandbox", LOAD_CORE, port, [str(capgate), "sandbox"], environment):
        yield Upstream(port)


@contextmanager
def server(kind: Kind, upstream_url: str) -> Iterator[Server]:
    """Runs a server under test."""
    port = free_port()
    command, environment = kind.command(port, upstream_url, WORK / kind.name)
    with running(kind.name, SERVER_CORE, port, command, environment) as started:
        admin = environment.get("CAPGATE_LISTEN_ADMIN")
        started.admin = int(admin.rpartition(":")[2]) if admin else None
        yield started


@contextmanager
def servers(kinds: list[Kind], upstream_url: str) -> Iterator[dict[str, Server]]:
    """Runs several servers at once; idle servers use no CPU time."""
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(server(kind, upstream_url)) for kind in kinds}


def capgate_kind(name: str, description: str, program: Path, **settings: str) -> Kind:
    """capgate with these settings."""

    def command(port: int, upstream_url: str, _: Path) -> tuple[list[str], dict[str, str]]:
        environment = {
            "CAPGATE_LISTEN_HTTP": f"127.0.0.1:{port}",
            "CAPGATE_LISTEN_HTTPS": "",
            "CAPGATE_LISTEN_ADMIN": f"127.0.0.1:{free_port()}",
            "CAPGATE_UPSTREAM_URL": upstream_url,
            "CAPGATE_SERVER_THREADS": "1",
            # Effectively unlimited, like the upstream of the benchmark; the peers have no such limit.
            "CAPGATE_UPSTREAM_REQUESTS_PER_10S": "10000000",
            "CAPGATE_SERVER_CONNECTIONS_MAX": "20000",
            # All clients have one address. Its requests are still counted, so that the cost is measured.
            "CAPGATE_LIMITS_ADDRESS_CONNECTIONS_MAX": "20000",
            "CAPGATE_LIMITS_ADDRESS_REQUESTS_PER_SECOND": "1000000",
            "CAPGATE_LIMITS_ADDRESS_REQUESTS_BURST": "1000000",
            **{f"CAPGATE_{key.upper()}": value for key, value in settings.items()},
        }
        return [str(program), "run"], environment

    return Kind(name, description, True, command)


def peer_kind(
    name: str,
    description: str,
    arguments: Callable[[int, str, Path], list[str]],
    is_shim: bool = True,
    requires: tuple[str, ...] = (),
    **environment: str,
) -> Kind:
    """A peer with its own command."""

    def command(port: int, url: str, directory: Path) -> tuple[list[str], dict[str, str]]:
        return arguments(port, url, directory), environment

    return Kind(name, description, is_shim, command, requires)


REFERENCE = "pingora-constant"


def before_kinds(program: Path) -> list[Kind]:
    """An earlier build of capgate, to compare a change in one run."""
    return [
        capgate_kind("capgate-before", "an earlier build", program),
        capgate_kind("capgate-before-quiet", "an earlier build, `log.access = false`", program, log_access="false"),
    ]


def all_kinds(capgate: Path) -> list[Kind]:
    """Returns all servers, the reference first."""
    lua = PEERS / "nginx-lua" / "start"
    axum = PEER_PROGRAMS / "axum_shim"
    constant = PEER_PROGRAMS / "pingora_constant"
    return [
        peer_kind(
            REFERENCE,
            "Pingora, constant answer",
            lambda port, _, __: [str(constant), str(port), "1"],
            is_shim=False,
            requires=(str(constant),),
        ),
        peer_kind(
            "nginx-constant",
            "nginx, constant answer",
            lambda port, _, directory: [
                str(PEERS / "nginx-constant" / "start"), str(port), str(directory)
            ],
            is_shim=False,
            requires=("nginx",),
        ),
        capgate_kind("capgate", "default configuration, with access log", capgate),
        capgate_kind("capgate-quiet", "`log.access = false`", capgate, log_access="false"),
        peer_kind(
            "nginx-lua",
            "nginx and Lua, buffered access log",
            lambda port, url, directory: [str(lua), str(port), url, str(directory)],
            requires=("nginx",),
        ),
        peer_kind(
            "nginx-lua-quiet",
            "nginx and Lua, no access log",
            lambda port, url, directory: [str(lua), str(port), url, str(directory)],
            requires=("nginx",),
            ACCESS_LOG="off",
        ),
        peer_kind(
            "axum",
            "axum, reqwest and moka, no access log",
            lambda port, url, _: [str(axum), str(port), url, "1"],
            requires=(str(axum),),
        ),
        peer_kind(
            "node",
            "Node, fastify and undici, no access log",
            lambda port, url, directory: [
                str(PEERS / "node" / "start"), str(port), url, str(directory)
            ],
            requires=("node", "npm"),
        ),
    ]


def missing_requirement(kind: Kind) -> str | None:
    """Returns the first missing requirement of a server, if any."""
    return next((name for name in kind.requires if shutil.which(name) is None), None)
