"""Random scripts of faults upstream, one per task, end no process, hold no flight, and produce no wrong answer.

Each task draws from its seed how many of its calls fail and in which ways; balances and reports fail as well. No
address is ejected, so that every script is played.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from harness import faults
from harness.clients import Job, ask, run_job
from harness.gateway import Gateway, run_gateway
from harness.trial import Trial
from harness.upstream import Call, Script, run_upstream

CONCURRENT = 40
BALANCE = "12.5000"


def choose(call: Call) -> str | None:
    """Plays the script of the call's task: a number of faults among its first calls."""
    script = random.Random(f"script {call.name}")
    failing, calls = script.choice((0.3, 0.6, 1.0)), script.randint(1, 6)
    is_failing = (call.earlier < calls or not call.name) and call.random.random() < failing
    return faults.choose(call.endpoint, call.age_s, call.random) if is_failing else None


async def play(gateway: Gateway, job: Job, deadline_s: float, replies: Counter[str]) -> None:
    """Submits a task, polls it, asks for the balance and reports the answer."""
    await run_job(gateway.http, job, 0.5, deadline_s)
    balance = await ask(gateway.http, f"/res.php?key={job.key}&action=getbalance")
    replies[f"balance {balance}"] += 1
    if job.is_right:
        replies[f"report {await ask(gateway.http, f'/res.php?key={job.key}&action=reportgood&id={job.id}')}"] += 1


async def play_all(gateway: Gateway, jobs: list[Job], deadline_s: float) -> Counter[str]:
    """Plays all scripts, a number of them at once."""
    replies: Counter[str] = Counter()
    room = asyncio.Semaphore(CONCURRENT)

    async def start(job: Job) -> None:
        async with room:
            await play(gateway, job, deadline_s, replies)

    await asyncio.gather(*(start(job) for job in jobs))
    return replies


def run(trial: Trial) -> None:
    """Runs the trial."""
    deadline_s = trial.size(6, 15)
    with run_upstream(Script(choose=choose, solve_s=(0.2, 1.0))) as upstream:
        settings = {
            "UPSTREAM_URL": upstream.url,
            "UPSTREAM_CONNECT_TIMEOUT_MS": "500",
            "UPSTREAM_POLL_TIMEOUT_MS": "1000",
            "UPSTREAM_SUBMIT_TIMEOUT_MS": "1500",
            "UPSTREAM_EJECT_FAILURES": "1000000",
            "UPSTREAM_BALANCE_TTL_MS": "0",
            "UPSTREAM_REFUSED_TTL_MS": "0",
            # A call without an answer counts as one of a refused key.
            "UPSTREAM_REFUSED_KEYS_PER_MINUTE": "100000",
            "UPSTREAM_ADDRESS_REFUSED_KEYS_PER_MINUTE": "100000",
            "LEDGER_UNBOUND_TTL_MS": "2000",
            "LEDGER_TROUBLE_TTL_MS": "200",
            "LOG_LEVEL": "info",
        }
        with run_gateway(trial.capgate, settings) as gateway:
            jobs = [Job(f"script{number}", f"key{number}") for number in range(trial.size(60, 1000))]
            replies = asyncio.run(play_all(gateway, jobs, deadline_s))
            record = upstream.record()
            trial.equal("the gateway runs", gateway.is_running(), True)
            trial.equal("panics", sum("panick" in line for line in gateway.log), 0)
            has_landed = gateway.wait_for_metric("capgate_flights", 0, 5)
            trial.equal("stuck flights", 0 if has_landed else gateway.metric("capgate_flights"), 0)
            trial.equal("wrong answers", sum(job.is_wrong for job in jobs), 0)
            wrong = [reply for reply in replies if reply.startswith("balance ") and reply[8:] != BALANCE]
            trial.equal("wrong balances", [reply for reply in wrong if "ERROR" not in reply], [])
            trial.equal("clients without a reply", sum(bool(job.odd) for job in jobs), 0)
            trial.equal("submits sent twice", sum(count > 1 for count in record.creates.values()), 0)
            trial.equal("reports sent twice", sum(count > 1 for count in record.feedbacks.values()), 0)
            ended = [job for job in jobs if job.name in record.answered]
            lost = [job for job in ended if job.ended and not job.is_right]
            trial.equal("answered tasks that ended otherwise", lost, [])
            kinds = len(faults.FAULTS) - len(faults.RATE_LIMITS)
            trial.at_least("kinds of faults", len(record.faults) - 1, trial.size(8, kinds))
            trial.note(f"faults: {sum(record.faults.values()) - record.faults['none']}; {dict(replies)}")
