"""An upstream that fails three calls of ten in every way costs no task that it has accepted.

Each client submits once and polls until its task ends. A task whose createTask was answered must end with its own
answer; whatever happens, no createTask is sent twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from harness import faults
from harness.clients import Job, run_job
from harness.gateway import Gateway, run_gateway
from harness.trial import Trial
from harness.upstream import Call, Script, run_upstream

FAILING = 0.3
ACCOUNTS = 10


def choose(call: Call) -> str | None:
    """Chooses a fault for three calls of ten."""
    return faults.choose(call.endpoint, call.age_s, call.random) if call.random.random() < FAILING else None


async def run_clients(gateway: Gateway, jobs: list[Job], spread_s: float, interval_s: float, deadline_s: float) -> None:
    """Runs the jobs, whose submits are spread over a time."""

    async def start(number: int, job: Job) -> None:
        await asyncio.sleep(number * spread_s / len(jobs))
        await run_job(gateway.http, job, interval_s, deadline_s)

    await asyncio.gather(*(start(number, job) for number, job in enumerate(jobs)))


def run(trial: Trial) -> None:
    """Runs the trial."""
    count, spread_s = trial.size(60, 1000), trial.size(4, 540)
    ttl_ms = trial.size(9_000, 60_000)
    script = Script(choose=choose, solve_s=(0.5, trial.size(2, 20)), seed=9)
    with run_upstream(script) as upstream:
        settings = {
            "UPSTREAM_URL": upstream.url,
            "UPSTREAM_CONNECT_TIMEOUT_MS": "500",
            "UPSTREAM_POLL_TIMEOUT_MS": "1500",
            "UPSTREAM_SUBMIT_TIMEOUT_MS": "2500",
            "LEDGER_UNBOUND_TTL_MS": "4000",
            "LEDGER_OPEN_TTL_MS": str(ttl_ms),
            "LEDGER_ANSWER_TTL_MS": str(ttl_ms),
            "LEDGER_TROUBLE_TTL_MS": str(trial.size(300, 2_000)),
        }
        with run_gateway(trial.capgate, settings) as gateway:
            jobs = [Job(f"job{number}", f"account{number % ACCOUNTS}") for number in range(count)]
            interval_s = trial.size(1, 5)
            asyncio.run(run_clients(gateway, jobs, spread_s, interval_s, ttl_ms / 1000))
            record = upstream.record()
            judge(trial, jobs, record)
            is_drained = gateway.wait_for_metric("capgate_records", 0, ttl_ms / 1000 + 5)
            trial.equal("records left", 0 if is_drained else gateway.metric("capgate_records"), 0)
            trial.equal("flights left", gateway.metric("capgate_flights"), 0)
            trial.equal("the gateway runs", gateway.is_running(), True)
            trial.equal("panics", sum("panick" in line for line in gateway.log), 0)
            trial.note(f"calls: {dict(record.calls)}; faults: {sum(record.faults.values()) - record.faults['none']}")


def judge(trial: Trial, jobs: list[Job], record: object) -> None:
    """Compares what the clients got with what the upstream has seen."""
    answered = [job for job in jobs if job.name in record.answered]
    lost = [job for job in answered if not job.is_right]
    trial.at_least("tasks whose createTask was answered", len(answered), len(jobs) / 3)
    trial.equal("of these without their answer", len(lost), 0)
    for job in lost[:5]:
        trial.note(f"{job}")
    trial.equal("wrong answers", sum(job.is_wrong for job in jobs), 0)
    trial.equal("submits sent twice", sum(count > 1 for count in record.creates.values()), 0)
    trial.equal("clients without a reply", sum(bool(job.odd) for job in jobs), 0)
    ends = Counter("OK" if job.ended.startswith("OK|") else job.ended or job.submitted for job in jobs)
    trial.note(f"ends: {dict(ends)}")
