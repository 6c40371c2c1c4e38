"""New processes take over under load: no poll fails, no submit is lost, no connection is refused.

Pollers keep their connections and poll one task each, before and after its answer. Submitters open a connection for each
request, as most legacy clients do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.clients import Job, ask, run_job
from harness.gateway import STOP_MAX_S, Address, Gateway, run_gateway
from harness.trial import Trial
from harness.upstream import Script, run_upstream

UPGRADE_MAX_S = 60.0
POLL_INTERVAL_S = 0.5
JOB_MAX_S = 30.0


@dataclass
class Load:
    """What the clients got."""

    polls: int = 0
    # Replies, and errors of connections, that no client expects.
    failures: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


class Poller:
    """A client that keeps its connection for as long as the gateway lets it."""

    def __init__(self, gateway: Address) -> None:
        self.gateway = gateway
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def get(self, target: str) -> str:
        """Sends a request, and returns the body of the reply."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(*self.gateway)
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        body = await self.reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
        if b"connection: close" in head:
            self.close()
        return body.decode()

    def close(self) -> None:
        """Closes the connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def poll(gateway: Address, number: int, end: float, load: Load) -> None:
    """Submits a task and polls it until the end, also after its answer."""
    poller, key, name = Poller(gateway), f"account{number % 10}", f"poller{number}"
    try:
        submit = f"/in.php?key={key}&method=userrecaptcha&googlekey={name}&pageurl=https://example.com"
        submitted = await poller.get(submit)
        if not submitted.startswith("OK|"):
            load.failures.append(f"submit: {submitted}")
            return
        task_id = submitted.removeprefix("OK|")
        was_answered = False
        while time.monotonic() < end:
            await asyncio.sleep(POLL_INTERVAL_S)
            reply = await asyncio.wait_for(poller.get(f"/res.php?key={key}&action=get&id={task_id}"), JOB_MAX_S)
            load.polls += 1
            is_right = reply == f"OK|RIGHT-{name}"
            if not is_right and (was_answered or reply != "CAPCHA_NOT_READY"):
                load.failures.append(f"poll: {reply}")
            was_answered |= is_right
        if not was_answered:
            load.failures.append("poll: no answer until the end")
    except (OSError, EOFError, asyncio.TimeoutError) as error:
        load.failures.append(f"poll: {error!r}")
    finally:
        poller.close()


async def submit(gateway: Address, number: int, end: float, load: Load) -> None:
    """Submits tasks, one after the other, and polls each until it ends."""
    while time.monotonic() < end:
        job = Job(f"job{number}-{len(load.jobs)}", f"account{number % 10}")
        load.jobs.append(job)
        await run_job(gateway, job, POLL_INTERVAL_S, JOB_MAX_S)


async def upgrade(capgate: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs `capgate upgrade`. Returns its exit code and what it printed."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(capgate, "upgrade", env=environment, stderr=pipe)
    _, printed = await asyncio.wait_for(process.communicate(), UPGRADE_MAX_S)
    return process.returncode or 0, printed.decode(errors="replace").strip()


async def run_load(trial: Trial, gateway: Gateway, environment: dict[str, str]) -> tuple[Load, list[int]]:
    """Runs all clients and the upgrades. Returns the ids of the new processes."""
    count, pause_s = trial.size(3, 10), trial.size(2, 6)
    load, successors = Load(), []
    end = time.monotonic() + count * pause_s + 5
    clients = [poll(gateway.http, number, end, load) for number in range(trial.size(32, 256))]
    clients += [submit(gateway.http, number, end, load) for number in range(trial.size(4, 20))]
    running = asyncio.gather(*clients)
    for number in range(count):
        await asyncio.sleep(pause_s)
        code, printed = await upgrade(trial.capgate, environment)
        trial.equal(f"upgrade {number + 1}", code, 0)
        if code == 0:
            successors.append(int(printed.split("process ")[1].split()[0]))
        else:
            trial.note(printed)
    await running
    return load, successors


def end_process(pid: int) -> None:
    """Ends a process that is no child of this one."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + STOP_MAX_S
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def run(trial: Trial) -> None:
    """Runs the trial."""
    with tempfile.TemporaryDirectory() as folder, run_upstream(Script(solve_s=(0.5, 4.0))) as upstream:
        settings = {
            "UPSTREAM_URL": upstream.url,
            "STORE_PATH": f"{folder}/store",
            "SERVER_CONTROL_SOCKET": f"{folder}/control.sock",
        }
        successors: list[int] = []
        with run_gateway(trial.capgate, settings) as gateway:
            environment = {f"CAPGATE_{name}": value for name, value in settings.items()}
            try:
                load, successors = asyncio.run(run_load(trial, gateway, environment))
                last = ask(gateway.http, "/res.php?key=account0&action=getbalance")
                trial.equal("balance from the last process", asyncio.run(last)[:1].isdigit(), True)
            finally:
                for pid in reversed(successors):
                    end_process(pid)
        record = upstream.record()
        trial.at_least("polls over kept connections", load.polls, trial.size(300, 10_000))
        trial.equal("failed polls", load.failures[:3], [])
        trial.at_least("submits", len(load.jobs), trial.size(10, 200))
        trial.equal("submits without their right answer", [job for job in load.jobs if not job.is_right][:3], [])
        twice = [name for name, count in record.creates.items() if count > 1]
        trial.equal("submits sent twice", twice[:3], [])
