"""An upstream of the native API that fails as a script says, and records every call.

Runs in a process of its own. Each task carries its client's own name in `websiteKey`, so that its calls can be counted
and its answer checked: the right answer to `x` is `RIGHT-x`.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from . import faults
from .faults import Answer

# Answers that come later than this are lost in any case.
HELD_MAX_S = 120.0


@dataclass
class Task:
    """A task that the upstream has accepted."""

    name: str
    created_at: float
    ready_at: float


@dataclass
class Call:
    """One call, as the script sees it."""

    endpoint: str
    key: str
    # `websiteKey` of the task; empty if the call is about none.
    name: str
    # Seconds since the task was accepted.
    age_s: float
    # Calls about this task, or of this endpoint without one, before this call.
    earlier: int
    random: random.Random


@dataclass(frozen=True)
class Script:
    """How the upstream behaves."""

    # Returns the name of a fault for a call, or None for an honest answer.
    choose: Callable[[Call], str | None] = lambda call: None
    is_known: Callable[[str], bool] = lambda key: True
    # Returns the answer to a key that is not known.
    refuse: Callable[[str], Answer] = lambda key: Answer(
        {"errorId": 1, "errorCode": "ERROR_KEY_DOES_NOT_EXIST"}, status=401
    )
    solve_s: tuple[float, float] = (0.5, 3.0)
    # Whether a second report on a task is refused.
    refuses_duplicate_reports: bool = False
    # Headers of every answer to a key.
    headers: Callable[[str], dict[str, str]] = lambda key: {}
    seed: int = 1


@dataclass
class Record:
    """What the upstream has seen."""

    # By task name.
    creates: Counter[str] = field(default_factory=Counter)
    feedbacks: Counter[str] = field(default_factory=Counter)
    # Feedbacks that were not refused as duplicates, by task name.
    recorded: Counter[str] = field(default_factory=Counter)
    # Names of tasks whose createTask got a complete, honest answer.
    answered: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    # Moments at which a key was refused.
    refusals: list[float] = field(default_factory=list)
    # Moments of accepted calls, by key.
    accepted: dict[str, list[float]] = field(default_factory=dict)


class Upstream:
    """The server."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.record = Record()
        self.tasks: dict[str, Task] = {}
        self.random = random.Random(script.seed)
        self.earlier: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        try:
            while await self._serve_call(reader, writer):
                pass
        except (OSError, EOFError, ValueError):
            pass
        finally:
            writer.close()

    async def _serve_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        endpoint = request.split(" ")[1].rpartition("/")[2]
        members = json.loads(body) if body else {}
        call = self._call(endpoint, members)
        self.record.calls[endpoint] += 1
        fault = self.script.choose(call)
        self.record.faults[fault or "none"] += 1
        # A fault that comes first leaves no trace upstream.
        is_processed = fault not in faults.UNPROCESSED
        answer = self._process(call, members, is_processed)
        answer.headers |= self.script.headers(call.key)
        if fault is None:
            is_honest, is_open = await faults.honest(writer, answer)
        else:
            is_honest, is_open = await faults.FAULTS[fault](writer, answer, call.random)
        if endpoint == "createTask" and is_processed and is_honest and answer.status == 200:
            self.record.answered.add(call.name)
        if is_open is None:
            # Nothing more is sent, until the gateway gives up.
            await asyncio.wait_for(reader.read(), HELD_MAX_S)
        return bool(is_open)

    def _call(self, endpoint: str, members: dict[str, Any]) -> Call:
        task_id = members.get("taskId", "")
        task = self.tasks.get(task_id)
        name = task.name if task else members.get("task", {}).get("websiteKey", "")
        counted = f"task {name}" if name else endpoint
        self.earlier[counted] += 1
        age_s = time.monotonic() - task.created_at if task else 0.0
        seed = f"{self.script.seed} {counted} {self.earlier[counted]}"
        return Call(
            endpoint, members.get("clientKey", ""), name, age_s, self.earlier[counted] - 1, random.Random(seed)
        )

    def _process(self, call: Call, members: dict[str, Any], is_processed: bool) -> Answer:
        now = time.monotonic()
        if call.endpoint == "createTask":
            self.record.creates[call.name] += 1
        if call.endpoint == "feedbackTask":
            self.record.feedbacks[call.name] += 1
        if call.endpoint == "":
            return Answer({}, status=404)
        if not self.script.is_known(call.key):
            self.record.refusals.append(now)
            return self.script.refuse(call.key)
        self.record.accepted.setdefault(call.key, []).append(now)
        if call.endpoint == "getBalance":
            return Answer({"errorId": 0, "balance": 12.5})
        if call.endpoint == "feedbackTask":
            if self.script.refuses_duplicate_reports and self.record.recorded[call.name]:
                return Answer({"errorId": 1, "errorCode": "ERROR_DUPLICATE_REPORT"}, status=400)
            self.record.recorded[call.name] += 1
            return Answer({"errorId": 0, "message": "Feedback recorded"})
        if call.endpoint == "createTask":
            task_id = f"{self.random.getrandbits(128):032x}"
            if is_processed:
                ready_at = now + self.random.uniform(*self.script.solve_s)
                self.tasks[task_id] = Task(call.name, now, ready_at)
            return Answer({"errorId": 0, "taskId": task_id, "status": "processing"})
        task = self.tasks.get(members.get("taskId", ""))
        if task is None:
            return Answer({"errorId": 1, "errorCode": "ERROR_WRONG_CAPTCHA_ID"}, status=404)
        if now < task.ready_at:
            return Answer({"errorId": 0, "status": "processing"})
        solution = {"token": f"RIGHT-{task.name}"}
        return Answer({"errorId": 0, "status": "ready", "solution": solution, "cost": 0.003, "solveTime": 1000})


def _run(script: Script, host: str, ready: Connection) -> None:
    async def main() -> None:
        upstream = Upstream(script)
        server = await asyncio.start_server(upstream.serve, host, 0, backlog=1024, limit=16 * 1024 * 1024)
        ready.send(server.sockets[0].getsockname()[1])
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(ready.fileno(), asked.set)
        while True:
            await asked.wait()
            asked.clear()
            try:
                ready.recv()
            except EOFError:
                return
            ready.send(upstream.record)

    asyncio.run(main())


class RunningUpstream:
    """A running upstream."""

    def __init__(self, port: int, host: str, pipe: Connection) -> None:
        self.url = f"http://{host}:{port}"
        self._pipe = pipe

    def record(self) -> Record:
        """Returns what the upstream has seen so far."""
        self._pipe.send(None)
        return self._pipe.recv()


@contextmanager
def run_upstream(script: Script, host: str = "127.0.0.1") -> Iterator[RunningUpstream]:
    """Runs an upstream until the block ends."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(script, host, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RunningUpstream(ours.recv(), host, ours)
    finally:
        ours.close()
        process.terminate()
        process.join(10)
