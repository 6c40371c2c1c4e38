"""The scenarios: what is done to the servers, and what is kept of it."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import load, servers
from .load import NOT_READY, get, poll_path
from .probe import probe
from .servers import REFERENCE, ROOT, WORK, BenchError, Kind, Server, Upstream

# Longer than any run: the tasks stay pending.
NEVER_MS = 3_600_000
# The upstream's own delay, so that equal polls do meet.
UPSTREAM_LATENCY_MS = 20

Row = dict[str, object]


@dataclass
class Plan:
    """How much of everything, and of whom."""

    capgate: Path
    kinds: list[Kind]
    rounds: int = 5
    seconds: float = 4.0
    warm_up_s: float = 1.0
    tasks: int = 10_000
    idle: int = 10_000
    # Of a storm, in comparison with what the goals are about.
    storm_share: float = 1.0
    say: Callable[[str], None] = print
    failures: list[str] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Notes a failure; the others go on."""
        self.failures.append(why)
        self.say(f"FAILED {why}")

    def shims(self) -> list[Kind]:
        """Those that do the job."""
        return [kind for kind in self.kinds if kind.is_shim]


@dataclass(frozen=True)
class Load:
    """What wrk does to one server."""

    path: str
    # What an answer looks like, by bytes.
    answer_bytes: int
    close: bool = False
    paths: Path | None = None


def one_pending(plan: Plan) -> Row:
    """One pending task, polled over connections that stay open."""
    return throughput(plan, "one-pending", lambda kind, server: one_task(kind, server, False))


def new_connection(plan: Plan) -> Row:
    """One pending task, a new connection for each poll."""
    return throughput(plan, "new-connection", lambda kind, server: one_task(kind, server, True))


def many_pending(plan: Plan) -> Row:
    """Many pending tasks, polled at random over connections that stay open."""
    return throughput(plan, "many-pending", lambda kind, server: many_tasks(plan, kind, server))


def one_task(kind: Kind, server: Server, close: bool) -> Load:
    """A load on one task."""
    path = poll_path(load.submit(server.port) if kind.is_shim else "1")
    return Load(path, pending_bytes(server, path, close), close)


def many_tasks(plan: Plan, kind: Kind, server: Server) -> Load:
    """A load on many tasks."""
    plan.say(f"  {kind.name}: {plan.tasks} submits")
    ids = load.submit_many(server.port, plan.tasks) if kind.is_shim else range(plan.tasks)
    paths = [poll_path(str(task)) for task in ids]
    file = WORK / f"paths-{kind.name}.txt"
    file.write_text("\n".join(paths) + "\n")
    return Load(paths[0], pending_bytes(server, paths[0], False), False, file)


def pending_bytes(server: Server, path: str, close: bool) -> int:
    """The length of the answer of a pending task."""
    said = load.ask(server.port, path, close)
    if said.body != NOT_READY:
        raise BenchError(f"{server.name} answers a pending task {said.body[:80]!r}")
    return said.size


def throughput(plan: Plan, name: str, prepare: Callable[[Kind, Server], Load]) -> Row:
    """Bursts in rounds over all servers; the reference begins and ends each round."""
    settings = {"solve_ms": NEVER_MS, "latency_ms": UPSTREAM_LATENCY_MS}
    with (
        servers.upstream(plan.capgate, **settings) as upstream,
        servers.servers(plan.kinds, upstream.url) as running,
    ):
        loads = prepared(plan, name, running, upstream, prepare)
        runs: dict[str, list[Row]] = {server: [] for server in loads}
        order = [server for server in loads if server != REFERENCE]
        for number in range(plan.rounds):
            plan.say(f"{name}: round {number + 1} of {plan.rounds}")
            round_of(plan, name, order, running, upstream, loads, runs)
    return summary(runs)


def prepared(
    plan: Plan,
    name: str,
    running: dict[str, Server],
    upstream: Upstream,
    prepare: Callable[[Kind, Server], Load],
) -> dict[str, Load]:
    """Probes and prepares; a server that fails is left out."""
    loads = {}
    for kind in plan.kinds:
        try:
            probe(kind, running[kind.name], upstream)
            loads[kind.name] = prepare(kind, running[kind.name])
        except (BenchError, OSError) as error:
            plan.fail(f"{name}: {error}")
    if REFERENCE not in loads:
        raise BenchError(f"{name} cannot be measured without {REFERENCE}")
    return loads


def round_of(
    plan: Plan,
    name: str,
    order: list[str],
    running: dict[str, Server],
    upstream: Upstream,
    loads: dict[str, Load],
    runs: dict[str, list[Row]],
) -> None:
    """One round. Each rate is also kept as a share of what the reference did in this round."""
    current: list[tuple[str, Row]] = []
    for server in [REFERENCE, *order, REFERENCE]:
        try:
            current.append((server, measure(plan, running[server], upstream, loads[server])))
        except BenchError as error:
            plan.fail(f"{name}: {server}: {error}")
    rates = [row["rate"] for server, row in current if server == REFERENCE]
    if not rates:
        return
    for server, row in current:
        row["ratio"] = row["rate"] / statistics.mean(rates)
        runs[server].append(row)


def measure(plan: Plan, server: Server, upstream: Upstream, asked: Load) -> Row:
    """One burst, after a warm-up."""
    load.wrk(server.port, asked.path, plan.warm_up_s, asked.close, asked.paths)
    polls, dropped = upstream.polls(), server.metric("capgate_log_lines_dropped_total") or 0
    cpu, began = server.cpu_s(), time.monotonic()
    burst = load.wrk(server.port, asked.path, plan.seconds, asked.close, asked.paths)
    took = time.monotonic() - began
    row: Row = {
        "rate": burst.rate,
        "cpu": (server.cpu_s() - cpu) / took,
        "p50_ms": burst.p50_ms,
        "p99_ms": burst.p99_ms,
        "upstream_per_s": (upstream.polls() - polls) / took,
        "upstream_per_1000": 1000 * (upstream.polls() - polls) / max(burst.requests, 1),
    }
    lost = (server.metric("capgate_log_lines_dropped_total") or 0) - dropped
    row["rate_per_core"] = row["rate"] / row["cpu"]
    row["log_lines_lost"] = lost / max(burst.requests, 1)
    plan.say(
        f"  {server.name:17} {burst.rate:9.0f}/s  p99 {burst.p99_ms:7.2f} ms"
        f"  core {row['cpu']:4.0%}  upstream {row['upstream_per_s']:6.1f}/s"
    )
    check(asked, burst)
    return row


def check(asked: Load, burst: load.Burst) -> None:
    """No errors, and every answer as long as that of a pending task."""
    if burst.errors:
        raise BenchError(f"wrk reports errors: {burst.errors}")
    if abs(burst.bytes_per_answer - asked.answer_bytes) > 0.05:
        raise BenchError(
            f"answers have {burst.bytes_per_answer:.2f} bytes, those of a pending task {asked.answer_bytes}"
        )


def spread(values: Iterable[float]) -> Row:
    """Median, least, most."""
    sorted_values = sorted(values)
    return {
        "median": statistics.median(sorted_values),
        "min": sorted_values[0],
        "max": sorted_values[-1],
    }


def summary(runs: dict[str, list[Row]]) -> Row:
    """Medians and spreads of all runs, and how far two runs of the same server in one round lie apart."""
    told = {}
    for server, rows in runs.items():
        if rows:
            told[server] = {name: spread(row[name] for row in rows) for name in rows[0]}
            told[server]["runs"] = len(rows)
    rates = [row["rate"] for row in runs[REFERENCE]]
    pairs = list(zip(rates[::2], rates[1::2]))
    noise = [abs(first - last) / ((first + last) / 2) for first, last in pairs]
    return {"servers": told, "noise": spread(noise) if noise else None}


def idle_connections(plan: Plan) -> Row:
    """Memory for each connection that made one poll and stays."""
    runs: dict[str, list[float]] = {}
    settings = {"solve_ms": NEVER_MS, "latency_ms": UPSTREAM_LATENCY_MS}
    with servers.upstream(plan.capgate, **settings) as upstream:
        for number in range(min(plan.rounds, 3)):
            plan.say(f"idle-connections: round {number + 1}")
            for kind in plan.kinds:
                try:
                    with servers.server(kind, upstream.url) as server:
                        grown = memory_of_idle(plan, kind, server)
                except (BenchError, OSError) as error:
                    plan.fail(f"idle-connections: {kind.name}: {error}")
                    continue
                runs.setdefault(kind.name, []).append(grown)
                plan.say(f"  {kind.name:17} {grown:8.0f} bytes a connection")
    return {
        "connections": plan.idle,
        "servers": {name: {"bytes": spread(values)} for name, values in runs.items()},
    }


def memory_of_idle(plan: Plan, kind: Kind, server: Server) -> float:
    """Bytes that the server grows by, for each connection."""
    path = poll_path(load.submit(server.port) if kind.is_shim else "1")
    request = get(server.port, path)
    # What is allocated once, by the first requests, is not a matter of connections.
    for _ in range(100):
        load.ask(server.port, path)
    before = server.rss_bytes()
    connections: list[socket.socket] = []
    try:
        for _ in range(plan.idle):
            connections.append(load.connect(server.port))
            if load.exchange(connections[-1], request).body != NOT_READY:
                raise BenchError("a pending task is not pending")
        time.sleep(0.5)
        after = server.rss_bytes()
        # Whoever was dropped meanwhile did not cost anything.
        for connection in (connections[0], connections[-1]):
            load.exchange(connection, request)
    finally:
        for connection in connections:
            connection.close()
    return (after - before) / plan.idle


def has_storm(plan: Plan) -> bool:
    """Whether this capgate has the subcommand."""
    asked = subprocess.run([str(plan.capgate), "storm", "--help"], capture_output=True, check=False)
    if asked.returncode:
        plan.say("  skipped: this capgate has no `storm`")
    return asked.returncode == 0


def storm(plan: Plan, server: Server, **settings: object) -> Row:
    """Runs `capgate storm` against a gateway; what it says."""
    command = [str(plan.capgate), "storm", "--target", f"http://127.0.0.1:{server.port}"]
    command += ["--key", load.KEY, "--admin", f"http://127.0.0.1:{server.admin}", "--json"]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    limit = float(settings["seconds"]) * 3 + 60
    said = subprocess.run(
        servers.pinned(servers.LOAD_CORE, command),
        capture_output=True, text=True, timeout=limit, check=False,
    )
    if said.returncode:
        raise BenchError(f"storm failed: {said.stderr.strip()[-200:]}")
    told = json.loads(said.stdout)
    errors = told["errors"]
    if any(errors.values()) if isinstance(errors, dict) else errors:
        raise BenchError(f"storm counted errors: {errors}")
    return told


def calls_per_task(upstream: Upstream, tasks: int) -> float:
    """Calls that the upstream counted. None at all means that nothing was polled, which is no success."""
    calls = upstream.polls()
    if not calls:
        raise BenchError("a storm that never reached the upstream")
    return calls / tasks


def default_capgate(plan: Plan) -> Kind:
    """capgate as it is by default."""
    return next(kind for kind in servers.all_kinds(plan.capgate) if kind.name == "capgate")


def amplification(plan: Plan) -> Row | None:
    """Upstream calls for each task, by how many poll it."""
    if not has_storm(plan):
        return None
    told: Row = {}
    seconds = round(20 * plan.storm_share)
    for clients in (10, 100, 1000):
        with (
            servers.upstream(plan.capgate, solve_ms=seconds * 1000) as upstream,
            servers.server(default_capgate(plan), upstream.url) as gateway,
        ):
            said = storm(
                plan, gateway, tasks=10, clients=clients, every_ms=250, jitter=0.1,
                seconds=seconds, solve_ms=seconds * 1000,
            )
            said["counted_per_task"] = calls_per_task(upstream, 10)
        told[str(clients)] = said
        plan.say(f"  {clients:5} pollers: {said['counted_per_task']:.1f} upstream calls a task")
    return told


def slow_upstream(plan: Plan) -> Row | None:
    """How long polls of known tasks take, before a quick and before a slow upstream."""
    if not has_storm(plan):
        return None
    delays: dict[int, list[float]] = {0: [], 200: []}
    for _ in range(plan.rounds):
        for latency_ms, values in delays.items():
            with (
                servers.upstream(plan.capgate, solve_ms=NEVER_MS, latency_ms=latency_ms) as upstream,
                servers.server(default_capgate(plan), upstream.url) as gateway,
            ):
                said = storm(
                    plan, gateway, tasks=200, clients=200, every_ms=250, jitter=0.1,
                    # First polls wait for the upstream; over this time they are far less than one in a hundred.
                    seconds=round(40 * plan.storm_share), solve_ms=NEVER_MS,
                )
            values.append(said["delay_ms"]["p99"])
            plan.say(f"  latency {latency_ms:3} ms: p99 {values[-1]:.2f} ms")
    ratios = [slow / quick for quick, slow in zip(delays[0], delays[200])]
    return {"p99_ms": {str(key): spread(values) for key, values in delays.items()}, "ratio": spread(ratios)}


def ready_to_seen(plan: Plan) -> Row | None:
    """How long a solved task goes unseen, once the gateway has seen some like it."""
    if not has_storm(plan):
        return None
    told: Row = {}
    for solve_spread in (0.15, 0.3):
        one = ready_to_seen_at(plan, solve_spread)
        told[f"{solve_spread:.0%}"] = one
        seen = one["ready_to_seen_ms"]["p50"]
        plan.say(f"  +-{solve_spread:.0%}: median {seen:.0f} ms, {one['counted_per_task']:.1f} calls a task")
    return told


def ready_to_seen_at(plan: Plan, solve_spread: float) -> Row:
    """The same for one spread of solve times."""
    solve_ms = round(15_000 * plan.storm_share)
    settings = {
        "tasks": 100, "clients": 100, "every_ms": 250, "jitter": 0.1, "solve_ms": solve_ms,
        "solve_spread": solve_spread, "seconds": round(solve_ms * 1.3 / 1000) + 5,
    }
    with (
        servers.upstream(plan.capgate, solve_ms=solve_ms) as upstream,
        servers.server(default_capgate(plan), upstream.url) as gateway,
    ):
        storm(plan, gateway, **settings)
        upstream.reset()
        told = storm(plan, gateway, **settings)
        told["counted_per_task"] = calls_per_task(upstream, 100)
    return told


def instructions(plan: Plan) -> Row | None:
    """Instructions by name, of a script that prints `name count`."""
    script = ROOT / "benches" / "instructions.sh"
    if not script.exists():
        plan.say("  skipped: there is no benches/instructions.sh")
        return None
    environment = {**os.environ, "CAPGATE": str(plan.capgate)}
    said = subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise BenchError(f"benches/instructions.sh failed: {said.stderr.strip()[-200:]}")
    counts = (line.split() for line in said.stdout.splitlines())
    return {words[0]: float(words[1]) for words in counts if len(words) == 2}


def records(_: Plan) -> Row | None:
    """Memory for each open record, measured elsewhere."""
    file = WORK / "records.json"
    return json.loads(file.read_text()) if file.exists() else None


SCENARIOS: dict[str, Callable[[Plan], Row | None]] = {
    "one-pending": one_pending,
    "many-pending": many_pending,
    "new-connection": new_connection,
    "idle-connections": idle_connections,
    "amplification": amplification,
    "slow-upstream": slow_upstream,
    "ready-to-seen": ready_to_seen,
    "instructions": instructions,
    "records": records,
}
THROUGHPUT = ("one-pending", "many-pending", "new-connection")
