"""Instructions for one poll of a pending task, counted by callgrind.

A server runs twice from start to end and is polled a number of times over one connection, the second time more often.
What it takes to start, to stop and to ask the upstream once is in both; the difference is the polls'.
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

from . import load, servers
from .load import NOT_READY, get, poll_path
from .servers import ROOT, WORK, BenchError, Kind, Upstream

# Longer than any run: the task stays pending.
NEVER_MS = 3_600_000
# The just-in-time compiler of Node, and of Lua, is known to valgrind as code that changes under it.
NAMES = ("pingora-constant", "nginx-constant", "capgate", "capgate-quiet", "nginx-lua", "nginx-lua-quiet", "axum")
POLLS = 10_000
# The first polls fill caches and pools, which a server that runs has done long ago.
WARM_UP = 1_000
STOP_TRIES, STOP_TRY_S = 10, 5.0
CALLGRIND = (
    "valgrind", "--tool=callgrind", "--trace-children=yes", "--trace-children-skip=*/sed,*/mkdir,*/dirname,*/cat",
    # Without it the thread that polls may starve the others.
    "--fair-sched=try",
)
# What differs from other scenarios. A poll from memory is what is counted: capgate asks the upstream at the first poll,
# and then for a minute no more. nginx in one process, since a worker has an account that may not write callgrind's file.
CHANGES = {
    "CAPGATE_LEDGER_POLL_INTERVAL_MIN_MS": "60000",
    "CAPGATE_LEDGER_POLL_INTERVAL_MAX_MS": "60000",
    "GLOBAL": "master_process off;",
}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    program = os.environ.get("CAPGATE") or ROOT / "target" / "release" / "capgate"
    parser = argparse.ArgumentParser(prog="instructions.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--capgate", type=Path, default=Path(program))
    parser.add_argument("--server", action="append", choices=NAMES, metavar="NAME")
    parser.add_argument("--polls", type=int, default=POLLS)
    parser.add_argument("--keep", type=Path, help="a folder for callgrind's files, for callgrind_annotate")
    return parser.parse_args()


def say(text: str) -> None:
    """What is no figure."""
    print(text, file=sys.stderr, flush=True)


def changed(kind: Kind) -> Kind:
    """The same server, so that it can be counted."""

    def command(port: int, url: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        words, environment = kind.command(port, url, folder)
        return words, {**environment, **CHANGES}

    return replace(kind, command=command)


@contextmanager
def counted(kind: Kind, upstream: Upstream, folder: Path) -> Iterator[int]:
    """A server under callgrind, which writes a file for each process into the folder when it has ended; its port."""
    port = servers.free_port()
    command, environment = kind.command(port, upstream.url, WORK / kind.name)
    valgrind = [*CALLGRIND, f"--callgrind-out-file={folder}/out.%p", "--"]
    log = WORK / "logs" / f"callgrind-{kind.name}.log"
    process = servers.launch(kind.name, servers.pinned(servers.SERVER_CORE, valgrind + command), environment, log)
    try:
        servers.wait_until_up(kind.name, process, port, log)
        yield port
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server at once, and waits for its files. nginx may miss a signal that comes just before it waits."""
    for _ in range(STOP_TRIES):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TRY_S)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()
    raise BenchError("a server does not stop under callgrind")


def total(folder: Path) -> int:
    """Instructions of all its processes."""
    files = list(folder.glob("out.*"))
    lines = [line for file in files for line in file.read_text().splitlines() if line.startswith("totals: ")]
    if not lines:
        raise BenchError("callgrind left nothing behind")
    return sum(int(line.split()[1]) for line in lines)


def run(kind: Kind, upstream: Upstream, polls: int, folder: Path) -> int:
    """Instructions of a server from start to end, with that many polls."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with counted(kind, upstream, folder) as port:
        request = get(port, poll_path(load.submit(port) if kind.is_shim else "1"))
        with load.connect(port) as connection:
            for _ in range(polls):
                if load.exchange(connection, request).body != NOT_READY:
                    raise BenchError(f"{kind.name}: a pending task is not pending")
    return total(folder)


def count(kind: Kind, upstream: Upstream, polls: int, folder: Path) -> float:
    """Instructions for one poll."""
    few = run(kind, upstream, WARM_UP, folder / "few")
    many = run(kind, upstream, WARM_UP + polls, folder / "many")
    return (many - few) / polls


def main() -> int:
    """Counts, server by server; one that fails does not hide the others."""
    asked = arguments()
    capgate = asked.capgate.resolve()
    if not os.access(capgate, os.X_OK):
        raise BenchError(f"there is no program {asked.capgate}; cargo build --release makes it")
    kept = (asked.keep or WORK / "callgrind").resolve()
    failed = 0
    with servers.upstream(capgate, solve_ms=NEVER_MS) as upstream:
        for kind in servers.all_kinds(capgate):
            if kind.name not in (asked.server or NAMES):
                continue
            if servers.missing(kind):
                say(f"{kind.name} is left out: {Path(servers.missing(kind)).name} is missing")
                continue
            try:
                print(f"{kind.name} {count(changed(kind), upstream, asked.polls, kept / kind.name):.0f}", flush=True)
            except (BenchError, OSError) as error:
                failed += 1
                say(f"FAILED {kind.name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"instructions: {error}")
