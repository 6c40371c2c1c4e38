"""An account that the upstream limits affects no other account, whatever its 429s say.

One account after the other gets a 429 to each call, each time with other headers, while honest accounts submit and
poll. The run without them carries the same load, and every call of it is answered.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from harness import faults
from harness.clients import Job, ask, run_job
from harness.gateway import Gateway, run_gateway
from harness.trial import Trial
from harness.upstream import Call, Script, run_upstream

ACCOUNTS = 4
# Pause between two submits of one account.
EVERY_S = 0.2
# Two accounts with a 429 at the same time would show a limit on the gateway's address.
APART_S = 2.2


def choose(call: Call) -> str | None:
    """Answers a limited account with 429s of its shape, once its key has been accepted."""
    if call.key.startswith("limited") and call.endpoint != "getBalance":
        return f"rate_limit_{call.key.removeprefix('limited')}"
    return None


@dataclass
class Phase:
    """Jobs of the honest accounts, and of the account that may be limited."""

    honest: list[Job] = field(default_factory=list)
    other: list[Job] = field(default_factory=list)


async def submit_until(gateway: Gateway, key: str, end: float, jobs: list[Job], source: str) -> None:
    """Submits tasks of one account at a steady rate, and polls each."""
    tasks = []
    while time.monotonic() < end:
        job = Job(f"{key}-{len(jobs)}", key)
        jobs.append(job)
        tasks.append(asyncio.create_task(run_job(gateway.http, job, 1, 8, source)))
        await asyncio.sleep(EVERY_S)
    await asyncio.gather(*tasks)


async def run_phase(gateway: Gateway, others: list[str], seconds_each: float) -> Phase:
    """Runs the honest accounts, and beside them the others, one after the other."""
    phase = Phase()

    async def run_others() -> None:
        for key in others:
            await ask(gateway.http, f"/res.php?key={key}&action=getbalance", "127.0.66.1")
            end = time.monotonic() + seconds_each
            tasks.append(asyncio.create_task(submit_until(gateway, key, end, phase.other, "127.0.66.1")))
            await asyncio.sleep(seconds_each + APART_S)

    tasks: list[asyncio.Task[None]] = []
    end = time.monotonic() + len(others) * (seconds_each + APART_S)
    honest = [
        submit_until(gateway, f"account{number}", end, phase.honest, f"127.0.77.{number + 1}")
        for number in range(ACCOUNTS)
    ]
    await asyncio.gather(run_others(), *honest)
    for task in tasks:
        task.cancel()
    return phase


def p99_ms(jobs: list[Job]) -> float:
    """Returns the 99th percentile of the time that a submit took."""
    ordered = sorted(job.submit_s for job in jobs)
    return 1000 * ordered[int(0.99 * (len(ordered) - 1))]


def run(trial: Trial) -> None:
    """Runs the trial."""
    shapes = range(len(faults.RATE_LIMITS))
    shapes = shapes if trial.is_full else shapes[1:10:5]
    seconds_each = 2.4 if trial.is_full else 0.5
    with run_upstream(Script(choose=choose, solve_s=(0.5, 1.0))) as upstream:
        with run_gateway(trial.capgate, {"UPSTREAM_URL": upstream.url}) as gateway:
            without = asyncio.run(run_phase(gateway, [f"calm{shape}" for shape in shapes], seconds_each))
            beside = asyncio.run(run_phase(gateway, [f"limited{shape}" for shape in shapes], seconds_each))
            record = upstream.record()
            limits = sum(count for fault, count in record.faults.items() if fault in faults.RATE_LIMITS)
            trial.at_least("429s", limits, len(shapes))
            trial.equal("limited jobs with an answer", sum(job.is_right for job in beside.other), 0)
            for name, phase in (("without", without), ("with", beside)):
                lost = [job for job in phase.honest if not job.is_right]
                trial.equal(f"honest jobs without their answer, {name} the limited accounts", lost[:3], [])
            floor_ms = 20 if trial.is_full else 200
            trial.at_most("honest submit p99", p99_ms(beside.honest), max(2 * p99_ms(without.honest), floor_ms), " ms")
            trial.note(f"honest submit p99 without: {p99_ms(without.honest):.1f} ms; {len(beside.honest)} honest jobs")
            seen = [max(job.answer_s for job in phase.honest) for phase in (without, beside)]
            trial.at_most("longest time to an answer", seen[1], seen[0] + 1, " s")
            trial.equal("the gateway runs", gateway.is_running(), True)
