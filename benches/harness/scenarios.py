"""The benchmark scenarios and their results."""

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

# Longer than any run, so the tasks stay pending.
NEVER_MS = 3_600_000
# Delay of the upstream, so that identical polls overlap.
UPSTREAM_LATENCY_MS = 20

Row = dict[str, object]


@dataclass
class Plan:
    """The servers to measure and the amount of work."""

    capgate: Path
    kinds: list[Kind]
    rounds: int = 5
    seconds: float = 4.0
    warm_up_s: float = 1.0
    tasks: int = 10_000
    idle: int = 10_000
    # Length of storms relative to those of the goals.
    storm_share: float = 1.0
    log: Callable[[str], None] = print
    failures: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Records a failure and continues."""
        self.failures.append(reason)
        self.log(f"FAILED {reason}")

    def shims(self) -> list[Kind]:
        """The servers that implement the protocol."""
        return [kind for kind in self.kinds if kind.is_shim]


@dataclass(frozen=True)
class Load:
    """The load of wrk on one server."""

    path: str
    # Expected size of each response.
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
    """Prepares a load on one task."""
    path = poll_path(load.submit(server.port) if kind.is_shim else "1")
    return Load(path, pending_bytes(server, path, close), close)


def many_tasks(plan: Plan, kind: Kind, server: Server) -> Load:
    """Prepares a load on many tasks."""
    plan.log(f"  {kind.name}: {plan.tasks} submits")
    ids = load.submit_many(server.port, plan.tasks) if kind.is_shim else range(plan.tasks)
    paths = [poll_path(str(task)) for task in ids]
    file = WORK / f"paths-{kind.name}.txt"
    file.write_text("\n".join(paths) + "\n")
    return Load(paths[0], pending_bytes(server, paths[0], False), False, file)


def pending_bytes(server: Server, path: str, close: bool) -> int:
    """Returns the size of the response for a pending task."""
    answer = load.fetch(server.port, path, close)
    if answer.body != NOT_READY:
        raise BenchError(f"{server.name}: unexpected answer for a pending task: {answer.body[:80]!r}")
    return answer.size


def throughput(plan: Plan, name: str, prepare: Callable[[Kind, Server], Load]) -> Row:
    """Measures all servers in rounds; each round starts and ends with the reference."""
    settings = {"solve_ms": NEVER_MS, "latency_ms": UPSTREAM_LATENCY_MS}
    with (
        servers.upstream(plan.capgate, **settings) as upstream,
        servers.servers(plan.kinds, upstream.url) as running,
    ):
        loads = prepare_loads(plan, name, running, upstream, prepare)
        runs: dict[str, list[Row]] = {server: [] for server in loads}
        order = [server for server in loads if server != REFERENCE]
        for number in range(plan.rounds):
            plan.log(f"{name}: round {number + 1} of {plan.rounds}")
            run_round(plan, name, order, running, upstream, loads, runs)
    return summary(runs)


def prepare_loads(
    plan: Plan,
    name: str,
    running: dict[str, Server],
    upstream: Upstream,
    prepare: Callable[[Kind, Server], Load],
) -> dict[str, Load]:
    """Probes the servers and prepares their loads; a server that fails is excluded."""
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


def run_round(
    plan: Plan,
    name: str,
    order: list[str],
    running: dict[str, Server],
    upstream: Upstream,
    loads: dict[str, Load],
    runs: dict[str, list[Row]],
) -> None:
    """Runs one round. Records each rate also relative to the reference in the same round."""
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


def measure(plan: Plan, server: Server, upstream: Upstream, target: Load) -> Row:
    """Measures one run after a warm-up."""
    load.wrk(server.port, target.path, plan.warm_up_s, target.close, target.paths)
    polls, dropped = upstream.polls(), server.metric("capgate_log_lines_dropped_total") or 0
    cpu, started = server.cpu_s(), time.monotonic()
    burst = load.wrk(server.port, target.path, plan.seconds, target.close, target.paths)
    took = time.monotonic() - started
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
    plan.log(
        f"  {server.name:17} {burst.rate:9.0f}/s  p99 {burst.p99_ms:7.2f} ms"
        f"  core {row['cpu']:4.0%}  upstream {row['upstream_per_s']:6.1f}/s"
    )
    check(target, burst)
    return row


def check(target: Load, burst: load.Burst) -> None:
    """Fails on errors, and if responses differ in size from that for a pending task."""
    if burst.errors:
        raise BenchError(f"wrk reports errors: {burst.errors}")
    if abs(burst.bytes_per_answer - target.answer_bytes) > 0.05:
        raise BenchError(
            f"responses have {burst.bytes_per_answer:.2f} bytes, expected {target.answer_bytes}"
        )


def spread(values: Iterable[float]) -> Row:
    """Returns median, minimum and maximum."""
    sorted_values = sorted(values)
    return {
        "median": statistics.median(sorted_values),
        "min": sorted_values[0],
        "max": sorted_values[-1],
    }


def summary(runs: dict[str, list[Row]]) -> Row:
    """Summarises all runs, and the difference between the two reference runs of each round."""
    summaries = {}
    for server, rows in runs.items():
        if rows:
            summaries[server] = {name: spread(row[name] for row in rows) for name in rows[0]}
            summaries[server]["runs"] = len(rows)
    rates = [row["rate"] for row in runs[REFERENCE]]
    pairs = list(zip(rates[::2], rates[1::2]))
    noise = [abs(first - last) / ((first + last) / 2) for first, last in pairs]
    return {"servers": summaries, "noise": spread(noise) if noise else None}


def idle_connections(plan: Plan) -> Row:
    """Measures the memory per connection that made one poll and stays open."""
    runs: dict[str, list[float]] = {}
    settings = {"solve_ms": NEVER_MS, "latency_ms": UPSTREAM_LATENCY_MS}
    with servers.upstream(plan.capgate, **settings) as upstream:
        for number in range(min(plan.rounds, 3)):
            plan.log(f"idle-connections: round {number + 1}")
            for kind in plan.kinds:
                try:
                    with servers.server(kind, upstream.url) as server:
                        grown = idle_connection_bytes(plan, kind, server)
                except (BenchError, OSError) as error:
                    plan.fail(f"idle-connections: {kind.name}: {error}")
                    continue
                runs.setdefault(kind.name, []).append(grown)
                plan.log(f"  {kind.name:17} {grown:8.0f} bytes per connection")
    return {
        "connections": plan.idle,
        "servers": {name: {"bytes": spread(values)} for name, values in runs.items()},
    }


def idle_connection_bytes(plan: Plan, kind: Kind, server: Server) -> float:
    """Returns the growth of the server in bytes per connection."""
    path = poll_path(load.submit(server.port) if kind.is_shim else "1")
    request = get(server.port, path)
    # One-time allocations by the first requests do not count.
    for _ in range(100):
        load.fetch(server.port, path)
    before = server.rss_bytes()
    connections: list[socket.socket] = []
    try:
        for _ in range(plan.idle):
            connections.append(load.connect(server.port))
            if load.exchange(connections[-1], request).body != NOT_READY:
                raise BenchError("unexpected answer for a pending task")
        time.sleep(0.5)
        after = server.rss_bytes()
        # A connection that the server has closed would not count, so check that the first and the last are open.
        for connection in (connections[0], connections[-1]):
            load.exchange(connection, request)
    finally:
        for connection in connections:
            connection.close()
    return (after - before) / plan.idle


def has_storm(plan: Plan) -> bool:
    """Returns whether this binary has the storm command."""
    result = subprocess.run([str(plan.capgate), "storm", "--help"], capture_output=True, check=False)
    if result.returncode:
        plan.log("  skipped: this binary has no storm command")
    return result.returncode == 0


def storm(plan: Plan, server: Server, **settings: object) -> Row:
    """Runs `capgate storm` against a gateway and returns its summary."""
    command = [str(plan.capgate), "storm", "--target", f"http://127.0.0.1:{server.port}"]
    command += ["--key", load.KEY, "--admin", f"http://127.0.0.1:{server.admin}", "--json"]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    limit = float(settings["seconds"]) * 3 + 60
    result = subprocess.run(
        servers.pinned(servers.LOAD_CORE, command),
        capture_output=True, text=True, timeout=limit, check=False,
    )
    if result.returncode:
        raise BenchError(f"storm failed: {result.stderr.strip()[-200:]}")
    summary = json.loads(result.stdout)
    errors = summary["errors"]
    if any(errors.values()) if isinstance(errors, dict) else errors:
        raise BenchError(f"storm reports errors: {errors}")
    return summary


def calls_per_task(upstream: Upstream, tasks: int) -> float:
    """Returns the upstream's own count of polls per task. Fails on zero, because then the storm polled nothing."""
    calls = upstream.polls()
    if not calls:
        raise BenchError("the storm never reached the upstream")
    return calls / tasks


def default_capgate(plan: Plan) -> Kind:
    """Returns capgate with its default configuration."""
    return next(kind for kind in servers.all_kinds(plan.capgate) if kind.name == "capgate")


def amplification(plan: Plan) -> Row | None:
    """Measures upstream calls per task for different numbers of pollers."""
    if not has_storm(plan):
        return None
    results: Row = {}
    seconds = round(20 * plan.storm_share)
    for clients in (10, 100, 1000):
        with (
            servers.upstream(plan.capgate, solve_ms=seconds * 1000) as upstream,
            servers.server(default_capgate(plan), upstream.url) as gateway,
        ):
            summary = storm(
                plan, gateway, tasks=10, clients=clients, every_ms=250, jitter=0.1,
                seconds=seconds, solve_ms=seconds * 1000,
            )
            summary["counted_per_task"] = calls_per_task(upstream, 10)
        results[str(clients)] = summary
        plan.log(f"  {clients:5} pollers: {summary['counted_per_task']:.1f} upstream calls per task")
    return results


def slow_upstream(plan: Plan) -> Row | None:
    """Measures the delay of polls of known tasks with a fast and with a slow upstream."""
    if not has_storm(plan):
        return None
    delays: dict[int, list[float]] = {0: [], 200: []}
    for _ in range(plan.rounds):
        for latency_ms, values in delays.items():
            with (
                servers.upstream(plan.capgate, solve_ms=NEVER_MS, latency_ms=latency_ms) as upstream,
                servers.server(default_capgate(plan), upstream.url) as gateway,
            ):
                summary = storm(
                    plan, gateway, tasks=200, clients=200, every_ms=250, jitter=0.1,
                    # First polls wait for the upstream; this is long enough to make them far less than 1 %.
                    seconds=round(40 * plan.storm_share), solve_ms=NEVER_MS,
                )
            values.append(summary["delay_ms"]["p99"])
            plan.log(f"  latency {latency_ms:3} ms: p99 {values[-1]:.2f} ms")
    ratios = [slow / fast for fast, slow in zip(delays[0], delays[200])]
    return {"p99_ms": {str(key): spread(values) for key, values in delays.items()}, "ratio": spread(ratios)}


def ready_to_seen(plan: Plan) -> Row | None:
    """Measures the time from ready to seen, after the gateway has learned from similar tasks."""
    if not has_storm(plan):
        return None
    results: Row = {}
    for solve_spread in (0.15, 0.3):
        summary = ready_to_seen_at(plan, solve_spread)
        results[f"{solve_spread:.0%}"] = summary
        seen = summary["ready_to_seen_ms"]["p50"]
        plan.log(f"  +-{solve_spread:.0%}: median {seen:.0f} ms, {summary['counted_per_task']:.1f} calls per task")
    return results


def ready_to_seen_at(plan: Plan, solve_spread: float) -> Row:
    """Measures it for one spread of solve times."""
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
        summary = storm(plan, gateway, **settings)
        summary["counted_per_task"] = calls_per_task(upstream, 100)
    return summary


def instructions(plan: Plan) -> Row | None:
    """Runs benches/instructions.sh, which prints `name count` lines."""
    script = ROOT / "benches" / "instructions.sh"
    if not script.exists():
        plan.log("  skipped: benches/instructions.sh is missing")
        return None
    environment = {**os.environ, "CAPGATE": str(plan.capgate)}
    result = subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise BenchError(f"benches/instructions.sh failed: {result.stderr.strip()[-200:]}")
    counts = (line.split() for line in result.stdout.splitlines())
    return {fields[0]: float(fields[1]) for fields in counts if len(fields) == 2}


def records(_: Plan) -> Row | None:
    """Loads the memory per record, measured by benches/records.rs."""
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
