#!/usr/bin/env python3
"""Benchmarks capgate against its peers; docs/performance.md describes the scenarios.

Writes results to target/bench/results.json. A full run also updates docs/performance.md and docs/performance.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

from harness import command, report, servers
from harness.scenarios import SCENARIOS, Plan
from harness.servers import REFERENCE, ROOT, WORK, BenchError, Kind

RESULTS = WORK / "results.json"
# Results of shortened runs, which are not published.
RESULTS_SHORT = WORK / "results-short.json"


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    names = [kind.name for kind in servers.all_kinds(Path("capgate"))]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capgate", type=Path, default=ROOT / "target" / "release" / "capgate")
    parser.add_argument("--quick", action="store_true", help="short runs; does not update the documents")
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--server", action="append", choices=names, metavar="NAME")
    parser.add_argument("--before", type=Path, help="an earlier build to compare with; does not update the documents")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", action="store_true", help="only rewrite the documents from existing results")
    return parser.parse_args()


def select_servers(names: list[str] | None, capgate: Path) -> list[Kind]:
    """Returns the selected servers that can be started, always including the reference."""
    selected = []
    for kind in servers.all_kinds(capgate):
        if names and kind.name not in names and kind.name != REFERENCE:
            continue
        missing = servers.missing_requirement(kind)
        if missing:
            print(f"{kind.name} skipped: {Path(missing).name} is missing")
        else:
            selected.append(kind)
    return selected


def make_plan(options: argparse.Namespace) -> Plan:
    """Derives the amount of work from the command line."""
    capgate = command.program(options.capgate)
    kinds = select_servers(options.server, capgate)
    if options.before:
        kinds += servers.before_kinds(command.program(options.before))
    report_line = lambda text: print(text, flush=True)  # noqa: E731
    if options.quick:
        return Plan(capgate, kinds, 1, 1.0, 1.0, 1_000, 1_000, 0.25, report_line)
    return Plan(capgate, kinds, rounds=options.rounds, log=report_line)


def raise_file_limit() -> None:
    """Raises the open-file limit of this process and its children: each connection needs a file."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def first_line(command: list[str]) -> str:
    """Returns the first line of a command's output, or an empty string if the command does not exist."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return ((result.stdout or result.stderr).strip().splitlines() or [""])[0]


def environment() -> dict[str, str]:
    """Describes the machine and the tool versions."""
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
    """Runs scenarios and saves the results after each of them."""
    for name in names:
        plan.log(f"== {name}")
        started = time.monotonic()
        try:
            result = SCENARIOS[name](plan)
        except BenchError as error:
            plan.fail(f"{name}: {error}")
            continue
        if result is not None:
            results["scenarios"][name] = result
            file.write_text(json.dumps(results, indent=1) + "\n")
            plan.log(f"== {name} took {time.monotonic() - started:.0f} s")


def load_results() -> dict[str, object]:
    """Loads the results of earlier runs."""
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {"scenarios": {}}


def main() -> int:
    """Runs the benchmarks, writes the documents and reports failures."""
    options = parse_arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    shortened = options.quick or bool(options.server) or options.before is not None
    results = {"scenarios": {}} if shortened else load_results()
    failures: list[str] = []
    if not options.report:
        raise_file_limit()
        plan = make_plan(options)
        results["machine"] = environment()
        measure(plan, options.only or list(SCENARIOS), results, RESULTS_SHORT if shortened else RESULTS)
        failures = plan.failures
    if not shortened:
        report.write(results)
    for reason in failures:
        print(f"FAILED {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    command.run("bench", main)
