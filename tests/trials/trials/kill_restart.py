"""A gateway with an embedded store that is killed at random moments under load: nothing that a client has seen is lost."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.gateway import Gateway, run_gateway
from harness.trial import WORK, Trial
from harness.upstream import Script, run_upstream

KEY = "0123456789abcdef0123456789abcdef"
SEED = 7
# Longest time that a client tries to get through.
PATIENCE_S = 60.0


@dataclass
class Seen:
    """What the clients have seen."""

    submitted: int = 0
    refused: int = 0
    # Task names by id.
    names: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Clients:
    """Clients that submit, poll and report, each on a connection of its own that it opens again after each kill."""

    def __init__(self, tasks: int) -> None:
        self.address: tuple[str, int] | None = None
        self.left = tasks
        self.seen = Seen()
        self.counter = 0

    async def client(self) -> None:
        """Brings tasks from the submit to the report, one after the other."""
        connection = Connection(self)
        while self.left > 0:
            self.left -= 1
            await self._task(connection)
        connection.close()

    async def check_again(self, ids: list[str]) -> None:
        """Polls tasks that have been answered before."""
        connection = Connection(self)
        for task_id in ids:
            await self._poll(connection, task_id, self.seen.names[task_id])
        connection.close()

    async def _task(self, connection: Connection) -> None:
        task_id = name = ""
        end = time.monotonic() + PATIENCE_S
        while not task_id:
            if time.monotonic() > end:
                self.seen.failed.append("submit")
                return
            # A submit without a response may have arrived, so each attempt is another task.
            self.counter += 1
            name = f"task{self.counter}"
            self.seen.submitted += 1
            reply = await connection.get(
                f"/in.php?key={KEY}&method=turnstile&sitekey={name}&pageurl=https://example.com"
            )
            if reply and reply.startswith("OK|"):
                task_id = reply[3:]
            elif reply:
                self.seen.refused += 1
                await asyncio.sleep(0.05)
        if task_id in self.seen.names:
            self.seen.wrong.append(f"id {task_id} twice")
        self.seen.names[task_id] = name
        if not await self._poll(connection, task_id, name):
            return
        self.seen.answered.add(task_id)
        while time.monotonic() < end + PATIENCE_S:
            reply = await connection.get(f"/res.php?key={KEY}&action=reportgood&id={task_id}")
            if reply == "OK_REPORT_RECORDED":
                self.seen.reported.add(name)
                return
            # The first attempt, whose response was lost, may be in progress.
            await asyncio.sleep(0.05)
        self.seen.failed.append("report")

    async def _poll(self, connection: Connection, task_id: str, name: str) -> bool:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            reply = await connection.get(f"/res.php?key={KEY}&action=get&id={task_id}")
            if reply == f"OK|RIGHT-{name}":
                return True
            if reply == "ERROR_WRONG_CAPTCHA_ID":
                self.seen.lost.append(name)
                return False
            if reply not in (None, "CAPCHA_NOT_READY"):
                self.seen.wrong.append(f"{name}: {reply}")
                return False
            await asyncio.sleep(0.1)
        self.seen.failed.append("poll")
        return False


class Connection:
    """A connection that is opened again when it breaks."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str) -> str | None:
        """Returns the body of the response; None if there is none."""
        try:
            if self.streams is None:
                if self.clients.address is None:
                    raise ConnectionError
                self.streams = await asyncio.open_connection(*self.clients.address)
            reader, writer = self.streams
            writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            return (await reader.readexactly(length)).decode()
        except (OSError, EOFError):
            self.close()
            await asyncio.sleep(0.05)
            return None

    def close(self) -> None:
        """Closes the connection."""
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def load(trial: Trial, settings: dict[str, str], tasks: int, kills: int) -> tuple[Clients, list[float], str]:
    """Runs all tasks while the gateway is killed and started again. Returns the last metrics of the outbox."""
    rng = random.Random(SEED)
    clients = Clients(tasks)
    starts: list[float] = []
    with ExitStack() as stack:

        def start() -> Gateway:
            began = time.monotonic()
            gateway = stack.enter_context(run_gateway(trial.capgate, settings))
            starts.append(time.monotonic() - began)
            clients.address = gateway.http
            return gateway

        gateway = await asyncio.to_thread(start)
        running = [asyncio.create_task(clients.client()) for _ in range(trial.size(32, 256))]
        for kill in range(kills):
            # The kills are spread over the whole load.
            wanted = tasks * (kills - kill - rng.random()) / (kills + 1)
            while clients.left > wanted and not all(task.done() for task in running):
                await asyncio.sleep(0.01)
            await asyncio.sleep(rng.random() * 0.1)
            gateway.process.kill()
            clients.address = None
            await asyncio.to_thread(gateway.process.wait)
            gateway = await asyncio.to_thread(start)
        await asyncio.gather(*running)
        # Once more over a restart: answers that were given are given again.
        gateway.process.kill()
        await asyncio.to_thread(gateway.process.wait)
        gateway = await asyncio.to_thread(start)
        ids = sorted(clients.seen.answered)
        await asyncio.gather(*(clients.check_again(ids[at::32]) for at in range(32)))
        is_drained = await asyncio.to_thread(gateway.wait_for_gauge, "capgate_reports_waiting", 0, 30)
        log = "\n".join(gateway.log)
        trial.equal("reports delivered", is_drained, True)
        trial.note(f"store: {gateway.gauge('capgate_store_bytes') / 1e6:.1f} MB")
        return clients, starts, log


def run(trial: Trial) -> None:
    """Runs the load, and compares what the clients have seen with what the upstream has seen."""
    tasks, kills = trial.size(400, 100_000), trial.size(3, 20)
    WORK.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kill-restart-", dir=WORK))
    began = time.monotonic()
    try:
        with run_upstream(Script(solve_s=(0.1, 0.6), refuses_duplicate_reports=True)) as upstream:
            settings = {
                "UPSTREAM_URL": upstream.url,
                "UPSTREAM_REQUESTS_PER_10S": "10000000",
                "LIMITS_ADDRESS_REQUESTS_PER_SECOND": "0",
                "LOG_ACCESS": "false",
                "STORE_PATH": str(folder / "store"),
            }
            clients, starts, log = asyncio.run(load(trial, settings, tasks, kills))
            record = upstream.record()
    finally:
        shutil.rmtree(folder)
    seen = clients.seen
    trial.note(f"{tasks} tasks, {kills + 1} kills, {time.monotonic() - began:.0f} s, {seen.refused} submits refused")
    trial.equal("ids given out", len(seen.names) + seen.failed.count("submit"), tasks)
    trial.equal("clients that gave up", seen.failed[:3], [])
    trial.equal("ids or answers lost", seen.lost[:3], [])
    trial.equal("wrong answers", seen.wrong[:3], [])
    twice = [name for name, creates in record.creates.items() if creates > 1]
    trial.equal("submits sent twice", twice[:3], [])
    trial.equal("reports lost", sorted(name for name in seen.reported if not record.recorded[name])[:3], [])
    trial.equal("reports recorded twice", [name for name, count in record.recorded.items() if count > 1][:3], [])
    repeated = sum(count - 1 for count in record.feedbacks.values())
    trial.note(f"reports repeated after a kill: {repeated}")
    trial.equal("values that could not be read", '"unreadable":0' in log, True)
    trial.at_most("slowest start", max(starts), 3.0, " s")
