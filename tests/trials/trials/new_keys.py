"""A flood of made-up keys gets few of them refused upstream, and keeps no honest client out.

The upstream refuses in several ways. The flood sends distinct keys at full speed, from one address and then from 200. Known accounts submit and poll
meanwhile, and new honest keys arrive.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from harness import faults
from harness.clients import Job, ask, run_job
from harness.gateway import Address, Gateway, run_gateway
from harness.trial import Trial
from harness.upstream import Script, run_upstream

KNOWN = 20
# Time in which a new honest key must be accepted, and the longest that the trial waits for it.
ACCEPTED_MAX_S = 5.0
GIVEN_UP_S = 30.0
CONNECTIONS = 400
# The flood gives up a submit that waits, and sends the next.
PATIENCE_S = 0.1
REFUSALS_PER_MINUTE = 20


def flood(gateway: Address, sources: list[str], seconds: float, keys_max: int, counter: Any) -> None:
    """Sends submits of distinct made-up keys over many connections."""
    end = time.monotonic() + seconds

    async def send(number: int) -> None:
        while time.monotonic() < end and counter.value < keys_max:
            try:
                source = (sources[number % len(sources)], 0)
                reader, writer = await asyncio.open_connection(*gateway, local_addr=source)
                while time.monotonic() < end and counter.value < keys_max:
                    with counter.get_lock():
                        counter.value += 1
                        key = f"{counter.value:032x}"
                    target = f"/in.php?key={key}&method=userrecaptcha&googlekey=flood&pageurl=https://example.com"
                    writer.write(f"GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n".encode())
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
                    length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                    await reader.readexactly(int(length or 0))
            except asyncio.TimeoutError:
                writer.close()
            except (OSError, EOFError):
                await asyncio.sleep(0.1)

    async def main() -> None:
        await asyncio.wait([asyncio.create_task(send(number)) for number in range(CONNECTIONS)], timeout=seconds + 1)

    asyncio.run(main())
    # Calls in progress end with the process.
    os._exit(0)


@dataclass
class Honest:
    """What honest clients got."""

    known: list[Job] = field(default_factory=list)
    # From the first submit of a new key to the first that was accepted.
    accepted_s: list[float] = field(default_factory=list)
    # Replies to submits of new keys that were not accepted.
    refused: list[str] = field(default_factory=list)


async def run_known(gateway: Gateway, number: int, end: float, honest: Honest) -> None:
    """Submits tasks of a known account, and polls each."""
    while time.monotonic() < end:
        job = Job(f"known{number}-{len(honest.known)}", f"known{number}")
        honest.known.append(job)
        await run_job(gateway.http, job, 0.5, 10, f"127.0.77.{number + 1}")


async def run_new(gateway: Gateway, number: int, honest: Honest, prefix: str) -> None:
    """Submits with a new key until it is accepted, as a client does that waits for a slot."""
    started = time.monotonic()
    source = f"127.0.88.{number + 1}"
    while time.monotonic() < started + GIVEN_UP_S:
        target = f"/in.php?key={prefix}{number}&method=userrecaptcha&googlekey=x&pageurl=https://example.com"
        reply = await ask(gateway.http, target, source)
        if reply.startswith("OK|"):
            honest.accepted_s.append(time.monotonic() - started)
            return
        honest.refused.append(reply)
        await asyncio.sleep(0.5)


async def run_honest(gateway: Gateway, seconds: float, new_keys: int, prefix: str) -> Honest:
    """Runs all honest clients; the new keys arrive evenly over the time."""
    honest = Honest()
    end = time.monotonic() + seconds

    async def arrive(number: int) -> None:
        await asyncio.sleep((number + 0.5) * (seconds - 1) / new_keys)
        await run_new(gateway, number, honest, prefix)

    await asyncio.gather(
        *(run_known(gateway, number, end, honest) for number in range(KNOWN)),
        *(arrive(number) for number in range(new_keys)),
    )
    return honest


async def introduce(gateway: Gateway) -> None:
    """Makes the accounts known: their keys are accepted before the flood."""
    for number in range(KNOWN):
        await ask(gateway.http, f"/res.php?key=known{number}&action=getbalance", f"127.0.77.{number + 1}")


# Ways in which services refuse a key.
REFUSALS = [
    ({"errorId": 1, "errorCode": "ERROR_KEY_DOES_NOT_EXIST"}, 401),
    ({"errorId": 1, "errorCode": "ERROR_ACCOUNT_SUSPENDED"}, 403),
    ({"errorId": 1, "errorCode": "INVALID_API_KEY"}, 400),
    ({"errorId": 1, "errorCode": "ERROR_NO_SUCH_USER"}, 200),
    ({"errorId": 1, "errorCode": "ERROR_ZERO_BALANCE"}, 200),
    ({"message": "unauthorized"}, 401),
    ({"errorId": 1, "errorCode": "ERROR_INTERNAL"}, 500),
]


def refuse(key: str) -> faults.Answer:
    """Refuses a key in one of several ways."""
    members, status = REFUSALS[zlib.crc32(key.encode()) % len(REFUSALS)]
    return faults.Answer(members, status=status)


def is_known(key: str) -> bool:
    """Whether the upstream accepts a key."""
    return key.startswith(("known", "new"))


def most_in_a_minute(moments: list[float]) -> int:
    """Returns the highest number of moments within a minute."""
    return max((sum(start <= at < start + 60 for at in moments) for start in moments), default=0)


def run(trial: Trial) -> None:
    """Runs the trial."""
    context = multiprocessing.get_context("fork")
    seconds, new_keys = trial.size(5, 60), trial.size(2, 20)
    for sources in (["127.0.66.1"], [f"127.0.66.{last}" for last in range(1, 201)]):
        with run_upstream(Script(is_known=is_known, refuse=refuse, solve_s=(0.2, 1.0))) as upstream:
            with run_gateway(trial.capgate, {"UPSTREAM_URL": upstream.url}) as gateway:
                asyncio.run(introduce(gateway))
                counter = context.Value("q", 0)
                arguments = (gateway.http, sources, seconds, trial.size(20_000, 100_000), counter)
                attacker = context.Process(target=flood, args=arguments, daemon=True)
                attacker.start()
                honest = asyncio.run(run_honest(gateway, seconds, new_keys, "new"))
                attacker.join(10)
                attacker.kill()
                record = upstream.record()
                name = f"from {len(sources)}: "
                trial.at_least(name + "made-up keys", counter.value, trial.size(500, 20_000))
                most = most_in_a_minute(record.refusals)
                trial.at_most(name + "refusals upstream in a minute", most, REFUSALS_PER_MINUTE)
                trial.equal(name + "new keys accepted", len(honest.accepted_s), new_keys)
                longest_s = max(honest.accepted_s, default=GIVEN_UP_S)
                trial.at_most(name + "longest time to accept one", longest_s, ACCEPTED_MAX_S, " s")
                trial.equal(name + "honest submits refused: new keys", honest.refused, [])
                lost = [job for job in honest.known if not job.is_right]
                trial.equal(name + "jobs of known accounts without their answer", lost[:3], [])
                trial.note(name + f"{len(honest.known)} jobs of known accounts, {counter.value} made-up keys")
                trial.equal(name + "the gateway runs", gateway.is_running(), True)
