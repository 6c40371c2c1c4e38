"""Clients of the legacy API that submit tasks and poll until they have an answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from .gateway import Address

REPLY_MAX_S = 40.0


async def ask(gateway: Address, target: str, source: str = "127.0.0.1") -> str:
    """Sends one GET on a connection of its own, and returns the body of the reply."""

    async def exchange() -> str:
        reader, writer = await asyncio.open_connection(*gateway, local_addr=(source, 0))
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n".encode())
            reply = await reader.read()
        finally:
            writer.close()
        return reply.partition(b"\r\n\r\n")[2].decode(errors="replace")

    return await asyncio.wait_for(exchange(), REPLY_MAX_S)


@dataclass
class Job:
    """One submit, and what became of it."""

    # Sent as the site key.
    name: str
    key: str
    # The reply to the submit.
    submitted: str = ""
    # The final reply; empty without one.
    ended: str = ""
    submit_s: float = 0.0
    # From the submit to the final reply.
    answer_s: float = 0.0
    # Replies to polls that are none of a client's business.
    odd: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The task's id; empty if the submit was refused."""
        return self.submitted.removeprefix("OK|") if self.submitted.startswith("OK|") else ""

    @property
    def is_right(self) -> bool:
        """Whether the client got the right answer."""
        return self.ended == f"OK|RIGHT-{self.name}"

    @property
    def is_wrong(self) -> bool:
        """Whether the client got an answer that is not its own."""
        return self.ended.startswith("OK|") and not self.is_right


async def run_job(
    gateway: Address, job: Job, interval_s: float, deadline_s: float, source: str = "127.0.0.1"
) -> None:
    """Submits a task and polls it until it ends."""
    started = time.monotonic()
    submit = f"/in.php?key={job.key}&method=userrecaptcha&googlekey={job.name}&pageurl=https://example.com"
    try:
        job.submitted = await ask(gateway, submit, source)
        job.submit_s = time.monotonic() - started
        while job.id and time.monotonic() - started < deadline_s:
            await asyncio.sleep(interval_s)
            reply = await ask(gateway, f"/res.php?key={job.key}&action=get&id={job.id}", source)
            if reply != "CAPCHA_NOT_READY":
                job.ended = reply
                job.answer_s = time.monotonic() - started
                return
    except (OSError, asyncio.TimeoutError) as error:
        job.odd.append(repr(error))
