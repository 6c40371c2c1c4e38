"""Counts the instructions per poll of a pending task with callgrind.

A server runs twice from start to exit and is polled over one connection, more often the second time. The cost of
startup, shutdown and one upstream call is in both runs, so the difference is the cost of the polls.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from . import command, load, servers
from .load import NOT_READY, get, poll_path
from .servers import ROOT, WORK, BenchError, Kind, Upstream

# Longer than any run, so the task stays pending.
NEVER_MS = 3_600_000
# Without Node: its JIT compiler generates different code in each run.
NAMES = ("pingora-constant", "nginx-constant", "capgate", "capgate-quiet", "nginx-lua", "nginx-lua-quiet", "axum")
POLLS = 10_000
# The first polls fill caches and pools; a running server has done this long ago.
WARM_UP = 1_000
STOP_ATTEMPTS, STOP_ATTEMPT_S = 10, 5.0
CALLGRIND = (
    "valgrind", "--tool=callgrind", "--trace-children=yes", "--trace-children-skip=*/sed,*/mkdir,*/dirname,*/cat",
    # Without fair scheduling, the polling thread may starve the others.
    "--fair-sched=try",
)
# Differences from other scenarios. Only polls from memory are counted: capgate calls the upstream at the first poll,
# and then not for a minute. nginx runs as one process, because its worker's user cannot write callgrind's output file.
ENVIRONMENT = {
    "CAPGATE_LEDGER_POLL_INTERVAL_MIN_MS": "60000",
    "CAPGATE_LEDGER_POLL_INTERVAL_MAX_MS": "60000",
    "GLOBAL": "master_process off;",
}


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    program = os.environ.get("CAPGATE") or ROOT / "target" / "release" / "capgate"
    parser = argparse.ArgumentParser(prog="instructions.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--capgate", type=Path, default=Path(program))
    parser.add_argument("--server", action="append", choices=NAMES, metavar="NAME")
    parser.add_argument("--polls", type=int, default=POLLS)
    parser.add_argument("--keep", type=Path, help="directory for callgrind's output files, for callgrind_annotate")
    return parser.parse_args()


def log(text: str) -> None:
    """Prints a message to standard error; standard output is for the counts."""
    print(text, file=sys.stderr, flush=True)


def for_callgrind(kind: Kind) -> Kind:
    """Returns the server with the environment for callgrind."""

    def command(port: int, url: str, directory: Path) -> tuple[list[str], dict[str, str]]:
        arguments, environment = kind.command(port, url, directory)
        return arguments, {**environment, **ENVIRONMENT}

    return replace(kind, command=command)


@contextmanager
def run_under_callgrind(kind: Kind, upstream: Upstream, directory: Path) -> Iterator[int]:
    """Runs a server under callgrind, which writes one file per process to the directory at exit. Yields the port."""
    port = servers.free_port()
    command, environment = kind.command(port, upstream.url, WORK / kind.name)
    valgrind = [*CALLGRIND, f"--callgrind-out-file={directory}/out.%p", "--"]
    log_file = WORK / "logs" / f"callgrind-{kind.name}.log"
    process = servers.launch(kind.name, servers.pinned(servers.SERVER_CORE, valgrind + command), environment, log_file)
    try:
        servers.wait_until_up(kind.name, process, port, log_file)
        yield port
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stops a server and waits for its files. Repeats the signal, because nginx may miss it just before it sleeps."""
    for _ in range(STOP_ATTEMPTS):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_ATTEMPT_S)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()
    raise BenchError("the server does not stop under callgrind")


def total_instructions(directory: Path) -> int:
    """Sums the instructions of all processes of a run."""
    files = list(directory.glob("out.*"))
    lines = [line for file in files for line in file.read_text().splitlines() if line.startswith("totals: ")]
    if not lines:
        raise BenchError("callgrind wrote no totals")
    return sum(int(line.split()[1]) for line in lines)


def count_run(kind: Kind, upstream: Upstream, polls: int, directory: Path) -> int:
    """Counts the instructions of a server from start to exit, with this number of polls."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with run_under_callgrind(kind, upstream, directory) as port:
        request = get(port, poll_path(load.submit(port) if kind.is_shim else "1"))
        with load.connect(port) as connection:
            for _ in range(polls):
                if load.exchange(connection, request).body != NOT_READY:
                    raise BenchError(f"{kind.name}: unexpected answer for a pending task")
    return total_instructions(directory)


def count_per_poll(kind: Kind, upstream: Upstream, polls: int, directory: Path) -> float:
    """Counts the instructions per poll."""
    few = count_run(kind, upstream, WARM_UP, directory / "few")
    many = count_run(kind, upstream, WARM_UP + polls, directory / "many")
    return (many - few) / polls


def main() -> int:
    """Counts each server; a failure does not skip the others."""
    options = parse_arguments()
    capgate = command.program(options.capgate)
    output = (options.keep or WORK / "callgrind").resolve()
    failed = 0
    with servers.upstream(capgate, solve_ms=NEVER_MS) as upstream:
        for kind in servers.all_kinds(capgate):
            if kind.name not in (options.server or NAMES):
                continue
            missing = servers.missing_requirement(kind)
            if missing:
                log(f"{kind.name} skipped: {Path(missing).name} is missing")
                continue
            try:
                per_poll = count_per_poll(for_callgrind(kind), upstream, options.polls, output / kind.name)
                print(f"{kind.name} {per_poll:.0f}", flush=True)
            except (BenchError, OSError) as error:
                failed += 1
                log(f"FAILED {kind.name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    command.run("instructions", main)
