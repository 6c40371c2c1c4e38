#!/usr/bin/env python3
"""Measures capgate against its peers; docs/performance.md says what and why.

Results go to target/bench/results.json; a run that is not shortened also writes them into docs/performance.md and draws
docs/performance.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from harness import report, servers
from harness.scenarios import SCENARIOS, Plan
from harness.servers import REFERENCE, ROOT, WORK, BenchError, Kind

RESULTS = WORK / "results.json"
# Of runs that are shortened, which count for nothing.
RESULTS_SHORT = WORK / "results-short.json"


def arguments() -> argparse.Namespace:
    """What was asked for."""
    names = [kind.name for kind in servers.all_kinds(Path("capgate"))]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capgate", type=Path, default=ROOT / "target" / "release" / "capgate")
    parser.add_argument("--quick", action="store_true", help="short runs; the documents stay as they are")
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--server", action="append", choices=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="measure nothing, write the documents again")
    return parser.parse_args()


def chosen(names: list[str] | None, capgate: Path) -> list[Kind]:
    """The servers that can be started; the reference is always among them."""
    kept = []
    for kind in servers.all_kinds(capgate):
        if names and kind.name not in names and kind.name != REFERENCE:
            continue
        lacks = servers.missing(kind)
        if lacks:
            print(f"{kind.name} is left out: {Path(lacks).name} is missing")
        else:
            kept.append(kind)
    return kept


def plan_of(asked: argparse.Namespace) -> Plan:
    """How much of everything."""
    capgate = asked.capgate.resolve()
    if not os.access(capgate, os.X_OK):
        raise BenchError(f"there is no program {asked.capgate}; cargo build --release makes it")
    kinds = chosen(asked.server, capgate)
    say = lambda text: print(text, flush=True)  # noqa: E731
    if asked.quick:
        return Plan(capgate, kinds, 1, 1.0, 1.0, 1_000, 1_000, 0.25, say)
    return Plan(capgate, kinds, rounds=asked.rounds, say=say)


def allow_many_files() -> None:
    """Thousands of connections are thousands of files, here and in what we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def first_line(command: list[str]) -> str:
    """The first line that a command says, if there is the command."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ((said.stdout or said.stderr).strip().splitlines() or [""])[0]


def machine() -> dict[str, str]:
    """What it was measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "processor": f"{cpu} with {os.cpu_count()} cores",
        "kernel": platform.release().partition("-")[0],
        "nginx": first_line(["nginx", "-v"]).rpartition("/")[2],
        "node": first_line(["node", "--version"]),
        "wrk": first_line(["wrk", "-v"]).removeprefix("wrk ").partition(" ")[0].rpartition("/")[2],
    }


def measure(plan: Plan, names: list[str], results: dict[str, object], file: Path) -> None:
    """Runs scenarios; each one's results are kept as soon as it is over."""
    for name in names:
        plan.say(f"== {name}")
        began = time.monotonic()
        try:
            told = SCENARIOS[name](plan)
        except BenchError as error:
            plan.fail(f"{name}: {error}")
            continue
        if told is not None:
            results["scenarios"][name] = told
            file.write_text(json.dumps(results, indent=1) + "\n")
            plan.say(f"== {name} took {time.monotonic() - began:.0f} s")


def load_results() -> dict[str, object]:
    """What earlier runs left."""
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {"scenarios": {}}


def main() -> int:
    """Measures, writes, and says what failed."""
    asked = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    shortened = asked.quick or bool(asked.server)
    results = {"scenarios": {}} if shortened else load_results()
    failures: list[str] = []
    if not asked.report:
        allow_many_files()
        plan = plan_of(asked)
        results["machine"] = machine()
        measure(plan, asked.only or list(SCENARIOS), results, RESULTS_SHORT if shortened else RESULTS)
        failures = plan.failures
    if not shortened:
        report.write(results)
    for why in failures:
        print(f"FAILED {why}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: told to stop")
