"""Faults of an upstream. Each answers one call in its own wrong way.

A fault returns whether its answer was complete and honest, and whether the connection stays open; None instead leaves
it open without a further word.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate

End = tuple[bool, bool | None]
HONEST: End = (True, True)
KEPT: End = (False, True)
CLOSED: End = (False, False)


@dataclass
class Answer:
    """The honest answer to a call."""

    body: dict[str, object]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, body: bytes | None = None, framing: str | None = None) -> bytes:
        """Returns the whole response, with another body or other framing if given."""
        body = json.dumps(self.body).encode() if body is None else body
        lines = [f"HTTP/1.1 {self.status} X", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Content-Length: {len(body)}" if framing is None else framing)
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Fault = Callable[[asyncio.StreamWriter, Answer, random.Random], Awaitable[End]]


async def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Writes all of the data."""
    writer.write(data)
    await writer.drain()


def reset(writer: asyncio.StreamWriter) -> End:
    """Resets the connection: the gateway gets an error rather than an end."""
    stream = writer.get_extra_info("socket")
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return CLOSED


async def honest(writer: asyncio.StreamWriter, answer: Answer) -> End:
    """Answers as documented."""
    await write(writer, answer.encode())
    return HONEST


async def reset_at_once(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Resets the connection before an answer."""
    return reset(writer)


async def close_at_once(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Closes the connection before an answer."""
    return CLOSED


async def reset_at_byte(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Resets the connection within the answer."""
    data = answer.encode()
    await write(writer, data[: choices.randrange(len(data))])
    await asyncio.sleep(choices.choice((0, 0.05)))
    return reset(writer)


async def cut_at_byte(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Closes the connection within the answer."""
    data = answer.encode()
    await write(writer, data[: choices.randrange(len(data))])
    return CLOSED


async def delay(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers late, but within the gateway's time limits."""
    await asyncio.sleep(choices.uniform(0.1, 1.0))
    await write(writer, answer.encode())
    return HONEST


async def silent(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Never answers, or not wholly."""
    data = answer.encode()
    await write(writer, data[: choices.choice((0, choices.randrange(len(data))))])
    return False, None


async def garbage(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers with random bytes."""
    await write(writer, choices.choice((b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n")) + choices.randbytes(300))
    return CLOSED


async def bad_json(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers with a complete response whose body is no usable JSON."""
    data = json.dumps(answer.body).encode()
    bodies = (data[: choices.randrange(len(data))], b"", b"null", b"[]", b"{}", b'{"errorId":NaN}', b"\xff" + data)
    await write(writer, answer.encode(choices.choice(bodies)))
    return KEPT


async def html(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers with a page, as a proxy in front of the upstream does."""
    answer.status = choices.choice((200, 200, 403, 500, 502, 503, 504))
    await write(writer, answer.encode(b"<html><body>Just a moment...</body></html>"))
    return KEPT


async def server_error(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers with a server error in JSON."""
    answer.status = choices.choice((500, 502, 503))
    code = choices.choice(("ERROR_INTERNAL_SERVER_ERROR", "INTERNAL_ERROR", "MAINTENANCE", "ERROR_SOMETHING_NEW"))
    await write(writer, answer.encode(json.dumps({"errorId": 1, "errorCode": code}).encode()))
    return KEPT


def rate_limit_shapes(pause_s: int) -> list[dict[str, str]]:
    """Returns the headers of a 429 in each of the shapes that services send, and in some that mean nothing."""
    now = time.time()
    return [
        {},
        {"Retry-After": str(pause_s)},
        {"Retry-After": formatdate(now + pause_s, usegmt=True), "Date": formatdate(now, usegmt=True)},
        {"Retry-After": formatdate(now + pause_s, usegmt=True)},
        {"Retry-After": formatdate(now - 3600, usegmt=True)},
        {"Retry-After": "0"},
        {"Retry-After": "-5", "X-RateLimit-Reset": "-1"},
        {"X-RateLimit-Reset": str(pause_s), "X-RateLimit-Remaining": "0"},
        {"X-RateLimit-Reset": str(int(now + pause_s)), "X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "10000"},
        {"X-RateLimit-Reset": str(int(1000 * (now + pause_s)))},
        {"X-RateLimit-Reset": formatdate(now + pause_s, usegmt=True), "X-RateLimit-Remaining": "NaN"},
        {"X-RateLimit-Remaining": "99999999999999999999", "X-RateLimit-Limit": "0"},
        {"X-RateLimit-Remaining": "-1", "X-RateLimit-Limit": "1;w=10", "Retry-After": str(pause_s)},
    ]


async def too_many(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers with a 429 that asks for a short pause."""
    return await rate_limited(writer, answer, choices, choices.choice(rate_limit_shapes(1)))


async def rate_limited(
    writer: asyncio.StreamWriter, answer: Answer, choices: random.Random, headers: dict[str, str]
) -> End:
    """Answers with a 429 with these headers."""
    answer.status = 429
    answer.headers |= headers
    bodies = (b"", b"Too Many Requests", b'{"errorId":1,"errorCode":"ERROR_RATE_LIMIT"}', b'{"errorId":1}')
    await write(writer, answer.encode(choices.choice(bodies)))
    return KEPT


def rate_limit(shape: int) -> Fault:
    """Returns a fault that answers with a 429 of this shape, which asks for a pause of a minute."""

    async def fault(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
        return await rate_limited(writer, answer, choices, rate_limit_shapes(60)[shape])

    return fault


async def no_content(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers with 204."""
    await write(writer, b"HTTP/1.1 204 No Content\r\n\r\n")
    return KEPT


async def interim(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Sends a few interim responses first."""
    await write(writer, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + answer.encode())
    return HONEST


async def interim_storm(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Sends more interim responses than any server does."""
    await write(writer, b"HTTP/1.1 102 Processing\r\n\r\n" * 2_000 + answer.encode())
    return CLOSED


async def huge(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers with a body above the gateway's limit."""
    await write(writer, answer.encode(json.dumps(answer.body | {"x": "x" * 3_000_000}).encode()))
    return CLOSED


async def compressed(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Compresses its answer."""
    answer.headers["Content-Encoding"] = "gzip"
    await write(writer, answer.encode(gzip.compress(json.dumps(answer.body).encode())))
    return HONEST


async def bomb(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers with 30 kB that decompress to 30 MB."""
    answer.headers["Content-Encoding"] = "gzip"
    await write(writer, answer.encode(BOMB))
    return KEPT


BOMB = gzip.compress(b" " * 30_000_000)


async def chunked(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers in chunks, with an extension and a trailer."""
    body = json.dumps(answer.body).encode()
    chunks = b"".join(b"%x;a=b\r\n%c\r\n" % (1, byte) for byte in body) + b"0\r\nX: y\r\n\r\n"
    await write(writer, answer.encode(chunks, "Transfer-Encoding: chunked"))
    return HONEST


async def bad_chunks(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Answers in chunks with errors."""
    body = json.dumps(answer.body).encode()
    good = b"%x\r\n%s\r\n" % (len(body), body)
    broken = (b"-5\r\n" + body, b"ffffffffffffffffff\r\n" + body, good[:-5], good, b"zz\r\n\r\n", good + b"0\r\nX")
    await write(writer, answer.encode(choices.choice(broken), "Transfer-Encoding: chunked"))
    return CLOSED


async def drip(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers byte by byte."""
    for byte in answer.encode():
        await write(writer, bytes([byte]))
        await asyncio.sleep(0.002)
    return HONEST


async def close_after(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers, and closes the connection that it has promised to keep."""
    answer.headers["Connection"] = "keep-alive"
    await write(writer, answer.encode())
    return True, False


async def extra_bytes(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Sends a second answer that nobody asked for, which must not answer the next call."""
    wrong = {"errorId": 0, "status": "ready", "solution": {"token": "WRONG"}}
    await write(writer, answer.encode() + Answer(wrong).encode())
    return True, True


async def other_task(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers with another task's result."""
    wrong = {"errorId": 0, "taskId": "0" * 32, "status": "ready", "solution": {"token": "WRONG"}}
    await write(writer, answer.encode(json.dumps(wrong).encode()))
    return KEPT


async def duplicate_members(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Answers with JSON that two parsers read differently."""
    wrong = b'{"errorId":0,"status":"processing","status":"ready","solution":{"token":"WRONG"}}'
    await write(writer, answer.encode(wrong))
    return KEPT


async def unknown_task(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Does not know the task, as a replica that lags behind."""
    answer.status = 404
    await write(writer, answer.encode(b'{"errorId":1,"errorCode":"ERROR_WRONG_CAPTCHA_ID"}'))
    return KEPT


async def not_ready_again(writer: asyncio.StreamWriter, answer: Answer, _: random.Random) -> End:
    """Does not know the result, as a replica that lags behind."""
    await write(writer, answer.encode(b'{"errorId":0,"status":"processing"}'))
    return KEPT


async def no_task_id(writer: asyncio.StreamWriter, answer: Answer, choices: random.Random) -> End:
    """Accepts a task and does not tell its id."""
    body = choices.choice(
        (
            b'{"errorId":0}',
            b'{"errorId":0,"taskId":null}',
            b'{"errorId":0,"taskId":0}',
            b'{"errorId":0,"taskId":"a","taskId":"b"}',
        )
    )
    await write(writer, answer.encode(body))
    return KEPT



# Faults of any call.
COMMON: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        reset_at_once,
        close_at_once,
        reset_at_byte,
        cut_at_byte,
        delay,
        silent,
        garbage,
        bad_json,
        html,
        server_error,
        too_many,
        no_content,
        interim,
        interim_storm,
        huge,
        compressed,
        bomb,
        chunked,
        bad_chunks,
        drip,
        close_after,
        extra_bytes,
    )
}
# Lies of getTaskResult. A replica lags behind for seconds only.
LIES: dict[str, Fault] = {
    fault.__name__: fault for fault in (other_task, duplicate_members, not_ready_again, unknown_task)
}
RATE_LIMITS = {f"rate_limit_{shape}": rate_limit(shape) for shape in range(len(rate_limit_shapes(60)))}
# Faults before the upstream has done anything.
UNPROCESSED = {"reset_unprocessed", "silent_unprocessed", "too_many", *RATE_LIMITS}
FAULTS: dict[str, Fault] = {
    **COMMON,
    **LIES,
    **RATE_LIMITS,
    "no_task_id": no_task_id,
    "reset_unprocessed": reset_at_once,
    "silent_unprocessed": silent,
}
# Longest lag of a replica.
LAG_MAX_S = 5.0


def choose(endpoint: str, age_s: float, choices: random.Random) -> str:
    """Chooses one of the faults that a call of this endpoint can meet."""
    names = [*COMMON, "reset_unprocessed", "silent_unprocessed"]
    if endpoint == "createTask":
        names.append("no_task_id")
    if endpoint == "getTaskResult":
        names += [name for name in LIES if age_s < LAG_MAX_S or name != "unknown_task"]
    return choices.choice(names)
