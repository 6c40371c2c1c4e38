"""HTTP/2 conformance: what RFC 9113 and RFC 7541 say about broken connections, frames, streams and header blocks."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.gateway import Address, Gateway, run_gateway
from harness.trial import Trial

# The cases follow h2spec, a Go program that no package registry in reach has, and add those of RFC 9113, section 8.

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32

NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)

# How long an answer may take. A violation is answered at once.
ANSWER_MAX_S = 3.0
LAST_PING = b"lastping"
TARGET = b"/res.php?key=K&action=get&id=1"
BODY = b"ERROR_WRONG_CAPTCHA_ID"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Encodes a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value: bytes) -> bytes:
    """Encodes a string literal of HPACK without Huffman coding."""
    return integer(len(value), 7) + value


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Encodes an integer of HPACK with a prefix of so many bits."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    encoded, value = [first | limit], value - limit
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes([*encoded, value])


def block(*fields: tuple[bytes, bytes]) -> bytes:
    """Encodes header fields as literals without indexing."""
    return b"".join(b"\x00" + text(name) + text(value) for name, value in fields)


METHOD, SCHEME, PATH, AUTHORITY = (b":method", b"GET"), (b":scheme", b"http"), (b":path", TARGET), (b":authority", b"x")
REQUEST = (METHOD, SCHEME, PATH, AUTHORITY)
POST = ((b":method", b"POST"), SCHEME, PATH, AUTHORITY)


def get(*more: tuple[bytes, bytes], stream: int = 1, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """A GET with more fields."""
    return frame(HEADERS, flags, stream, block(*REQUEST, *more))


def post(*more: tuple[bytes, bytes], stream: int = 1) -> bytes:
    """The header of a POST, whose body follows."""
    return frame(HEADERS, END_HEADERS, stream, block(*POST, *more))


def fields(*these: tuple[bytes, bytes]) -> bytes:
    """A request with exactly these fields."""
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*these))


def raw(header_block: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """A request with this header block."""
    return frame(HEADERS, flags, 1, header_block)


def setting(identifier: int, value: int) -> bytes:
    """A SETTINGS frame with one value."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", identifier, value))


def data(payload: bytes = b"", stream: int = 1, flags: int = END_STREAM) -> bytes:
    """A DATA frame."""
    return frame(DATA, flags, stream, payload)


def window(increment: int, stream: int = 0) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def error(code: int) -> bytes:
    """The payload of RST_STREAM."""
    return struct.pack(">I", code)


@dataclass
class Answer:
    """What the server sent until it was done."""

    frames: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    is_closed: bool = False
    is_http1: bool = False

    def goaway(self) -> int | None:
        """Returns the code of a GOAWAY that reports an error."""
        codes = [struct.unpack(">I", payload[4:8])[0] for kind, _, _, payload in self.frames if kind == GOAWAY]
        return next((code for code in codes if code != NO_ERROR), None)

    def reset(self) -> int | None:
        """Returns the code of a RST_STREAM."""
        codes = [struct.unpack(">I", payload)[0] for kind, _, _, payload in self.frames if kind == RST]
        return next((code for code in codes if code != NO_ERROR), None)

    def statuses(self) -> list[int]:
        """Returns the status of each response; 0 if it has no entry in HPACK's static table."""
        known = {0x88: 200, 0x89: 204, 0x8C: 400, 0x8D: 404, 0x8E: 500}
        blocks = [payload for kind, _, _, payload in self.frames if kind == HEADERS]
        # A change of the table's size may precede the status.
        first = [next((byte for byte in block if not 0x20 <= byte < 0x40), 0) for block in blocks]
        return [known.get(byte, 0) for byte in first]

    def body(self, stream: int = 1) -> bytes:
        """Returns the body of the response on a stream."""
        return b"".join(payload for kind, _, of, payload in self.frames if kind == DATA and of == stream)

    def is_alive(self) -> bool:
        """Whether the last PING was answered."""
        return any(kind == PING and flags & ACK and payload == LAST_PING for kind, flags, _, payload in self.frames)


Check = Callable[[Answer], bool]


def connection_error(*codes: int) -> Check:
    """A GOAWAY with one of these codes, or the end of the connection.

    The h2 crate reports PROTOCOL_ERROR where a frame or header block cannot be decoded, which has a code of its own
    (docs/decisions: HTTP/2 as the h2 crate has it). Clients only log the code.
    """

    def check(answer: Answer) -> bool:
        if answer.goaway() is None:
            return answer.is_closed and not answer.statuses()
        return answer.goaway() in (*codes, PROTOCOL)

    return check


def stream_error(*codes: int) -> Check:
    """A RST_STREAM with one of these codes, or a connection error."""
    return lambda answer: answer.reset() in codes or connection_error(*codes)(answer)


def malformed(answer: Answer) -> bool:
    """A stream error, or a response that refuses the request (RFC 9113, section 8.1.1)."""
    return stream_error(PROTOCOL)(answer) or answer.statuses() == [400]


def served(answer: Answer) -> bool:
    """The right response, on a connection that goes on."""
    return answer.statuses() == [200] and answer.body() == BODY and answer.is_alive()


def ignored(answer: Answer) -> bool:
    """Nothing but answers to PING and SETTINGS."""
    kinds = {kind for kind, _, _, _ in answer.frames}
    return answer.is_alive() and kinds <= {PING, SETTINGS, WINDOW}


def either(*checks: Check) -> Check:
    """One of several verdicts."""
    return lambda answer: any(check(answer) for check in checks)


@dataclass(frozen=True)
class Case:
    """What a client sends behind preface and SETTINGS, and the verdict on it."""

    section: str
    name: str
    sent: bytes
    verdict: Check
    # Sent instead of preface and SETTINGS.
    opening: bytes = PREFACE + frame(SETTINGS, 0, 0)
    # A frame that would itself be an error in this state.
    is_pinged: bool = True
    # Sent once everything before was answered.
    later: bytes = b""


def frames_and_settings() -> list[Case]:
    """RFC 9113, sections 3.4 to 4.3, and 6.5 to 6.9."""
    size_error = connection_error(SIZE)
    protocol_error = connection_error(PROTOCOL)
    cases = [
        Case("3.4", "a request", get(), served),
        Case(
            "3.4",
            "invalid preface",
            b"",
            lambda a: a.is_closed or a.is_http1,
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            False,
        ),
        # The h2 crate does not insist on SETTINGS (docs/decisions).
        Case("3.4", "PING before SETTINGS", frame(PING, 0, 0, bytes(8)), either(protocol_error, ignored), PREFACE),
        Case("3.4", "HEADERS before SETTINGS", get(), either(protocol_error, served), PREFACE),
        Case("3.4", "ACK before SETTINGS", frame(SETTINGS, ACK, 0), either(protocol_error, ignored), PREFACE),
        Case("4.1", "unknown frame", frame(0x16, 0xFF, 0, b"unknown"), ignored),
        Case("4.1", "unknown frame on a stream", frame(0x16, 0, 1, b"unknown") + get(), served),
        Case("4.1", "undefined flags", frame(PING, 0x16, 0, b"12345678"), ignored),
        Case("4.1", "reserved bit", frame(PING, 0, 1 << 31, b"12345678"), ignored),
        Case(
            "4.2", "DATA of 16384 bytes", post() + data(bytes(16384)), lambda a: a.statuses() == [200] and a.is_alive()
        ),
        Case("4.2", "DATA of 16385 bytes", post() + data(bytes(16385)), stream_error(SIZE)),
        Case("4.2", "HEADERS of 16385 bytes", raw(bytes(16385)), size_error),
        Case("4.2", "SETTINGS of 16386 bytes", frame(SETTINGS, 0, 0, bytes(16386)), size_error),
        Case("4.2", "unknown frame of 20000 bytes", frame(0x16, 0, 0, bytes(20000)), size_error),
        Case("6.5", "ACK with a payload", frame(SETTINGS, ACK, 0, bytes(6)), size_error),
        Case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), protocol_error),
        Case("6.5", "length 5", frame(SETTINGS, 0, 0, bytes(5)), size_error),
        Case("6.5.2", "ENABLE_PUSH 2", setting(2, 2), protocol_error),
        Case("6.5.2", "INITIAL_WINDOW_SIZE 2^31", setting(4, 1 << 31), connection_error(FLOW)),
        Case("6.5.2", "MAX_FRAME_SIZE 16383", setting(5, 16383), protocol_error),
        Case("6.5.2", "MAX_FRAME_SIZE 2^24", setting(5, 1 << 24), protocol_error),
        Case("6.5.2", "unknown setting", setting(0xFF, 7) + get(), served),
        Case(
            "6.5.2",
            "all settings",
            setting(1, 0) + setting(2, 0) + setting(3, 0) + setting(5, 20000) + setting(6, 99) + get(),
            served,
        ),
        Case(
            "6.5.3",
            "acknowledged",
            setting(3, 7),
            lambda a: sum(k == SETTINGS and f & ACK for k, f, _, _ in a.frames) == 2,
        ),
        Case(
            "6.5.3",
            "the last of two values",
            frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 1, 4, 70000)) + get(),
            served,
        ),
        Case("6.6", "PUSH_PROMISE", get() + frame(PUSH, END_HEADERS, 1, error(2) + block(*REQUEST)), protocol_error),
        Case("6.7", "PING", frame(PING, 0, 0, b"12345678"), lambda a: (PING, ACK, 0, b"12345678") in a.frames),
        Case(
            "6.7",
            "PING with ACK",
            frame(PING, ACK, 0, b"12345678"),
            lambda a: ignored(a) and (PING, ACK, 0, b"12345678") not in a.frames,
        ),
        Case("6.7", "PING on a stream", frame(PING, 0, 1, bytes(8)), protocol_error),
        Case("6.7", "PING of 7 bytes", frame(PING, 0, 0, bytes(7)), size_error),
        Case("6.7", "PING of 9 bytes", frame(PING, 0, 0, bytes(9)), size_error),
        Case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), protocol_error),
        Case("6.8", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, bytes(7)), size_error),
        Case(
            "6.8",
            "GOAWAY behind a request",
            get() + frame(GOAWAY, 0, 0, bytes(8) + b"debug"),
            lambda a: a.body() == BODY,
        ),
        Case(
            "7",
            "GOAWAY with an unknown code",
            get() + frame(GOAWAY, 0, 0, error(0) + error(0xFF)),
            lambda a: a.body() == BODY,
        ),
        Case("7", "RST_STREAM with an unknown code", post() + frame(RST, 0, 1, error(0xFF)), ignored),
        Case("6.9", "increment 0", window(0), protocol_error),
        Case("6.9", "increment 0 on a stream", post() + window(0, 1), stream_error(PROTOCOL)),
        Case("6.9", "length 3", frame(WINDOW, 0, 0, bytes(3)), size_error),
        Case("6.9", "length 5", frame(WINDOW, 0, 0, bytes(5)), size_error),
        Case("6.9", "a valid increment", window(1000) + post() + window(1000, 1) + data(), served),
        Case("6.9.1", "window above 2^31-1", window(2**31 - 1) + window(1), connection_error(FLOW)),
        Case(
            "6.9.1", "window of a stream above 2^31-1", post() + window(2**31 - 1, 1) + window(1, 1), stream_error(FLOW)
        ),
        Case(
            "6.9.1",
            "window of 0 bytes",
            setting(4, 0) + get(),
            lambda a: a.statuses() == [200] and a.body() == b"" and a.is_alive(),
        ),
        Case("6.9.1", "window of 3 bytes", setting(4, 3) + get(), lambda a: a.body() == BODY[:3] and a.is_alive()),
        Case("6.9.1", "window that grows", setting(4, 3) + get(), lambda a: a.body() == BODY, later=window(1000, 1)),
        Case(
            "6.9.2",
            "initial window that grows",
            setting(4, 3) + get(),
            lambda a: a.body() == BODY,
            later=setting(4, 1000),
        ),
        Case(
            "6.9.2",
            "window that becomes negative",
            setting(4, 3) + get(),
            lambda a: a.body() == BODY[:4],
            later=setting(4, 1) + window(3, 1),
        ),
        Case(
            "6.9.2",
            "initial window that overflows",
            post() + window(2**31 - 1 - 65535, 1) + setting(4, 2**31 - 1),
            connection_error(FLOW),
        ),
    ]
    return cases


def streams() -> list[Case]:
    """RFC 9113, sections 5 and 6.1 to 6.4, 6.10."""
    protocol_error, closed = connection_error(PROTOCOL), stream_error(CLOSED, PROTOCOL)
    header_start = frame(HEADERS, END_STREAM, 1, block(*REQUEST[:2]))
    header_rest = block(*REQUEST[2:])
    reset = post() + frame(RST, 0, 1, error(CANCEL))
    continuation = frame(CONTINUATION, END_HEADERS, 1, header_rest)
    tolerated = either(ignored, served)
    return [
        Case("5.1", "DATA on an idle stream", data(b"x"), protocol_error),
        Case("5.1", "RST_STREAM on an idle stream", frame(RST, 0, 1, error(CANCEL)), protocol_error),
        Case("5.1", "WINDOW_UPDATE on an idle stream", window(1, 1), protocol_error),
        Case("5.1", "CONTINUATION on an idle stream", continuation, protocol_error),
        Case("5.1", "PRIORITY on an idle stream", frame(PRIORITY, 0, 1, bytes(5)) + get(), served),
        Case("5.1", "DATA behind END_STREAM", get() + data(b"x"), closed),
        Case("5.1", "HEADERS behind END_STREAM", get() + get(), closed),
        Case("5.1", "CONTINUATION behind END_STREAM", get() + continuation, protocol_error),
        # A reset stream may ignore what was sent before the reset was seen (section 5.1).
        Case("5.1", "DATA behind RST_STREAM", reset + data(b"x"), either(closed, ignored)),
        Case("5.1", "HEADERS behind RST_STREAM", reset + post(), either(closed, ignored)),
        Case("5.1", "CONTINUATION behind RST_STREAM", reset + continuation, protocol_error),
        Case("5.1", "DATA on a closed stream", get(), closed, later=data(b"x")),
        Case("5.1", "HEADERS on a closed stream", get(), closed, later=get()),
        Case(
            "5.1",
            "CONTINUATION on a closed stream",
            get(),
            lambda a: protocol_error(a) or a.goaway() == PROTOCOL,
            later=continuation,
        ),
        Case("5.1", "PRIORITY on a closed stream", get(), served, later=frame(PRIORITY, 0, 1, bytes(5))),
        Case("5.1", "WINDOW_UPDATE on a closed stream", get(), served, later=window(9, 1)),
        Case("5.1", "RST_STREAM on a closed stream", get(), served, later=frame(RST, 0, 1, error(CANCEL))),
        Case("5.1.1", "even stream", get(stream=2), protocol_error),
        Case("5.1.1", "stream 0", get(stream=0), protocol_error),
        Case("5.1.1", "lower stream", get(stream=5), connection_error(PROTOCOL, CLOSED), later=get(stream=3)),
        Case("5.1.1", "streams that are skipped", get(stream=7), lambda a: a.body(7) == BODY),
        Case(
            "5.1.2", "33 streams", b"".join(post(stream=2 * n + 1) for n in range(33)), stream_error(REFUSED, PROTOCOL)
        ),
        Case(
            "5.3",
            "a stream that depends on itself",
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, error(1) + b"\xff" + block(*REQUEST)),
            either(served, stream_error(PROTOCOL)),
        ),
        Case(
            "5.3",
            "PRIORITY that depends on itself",
            frame(PRIORITY, 0, 1, error(1) + b"\xff"),
            either(ignored, stream_error(PROTOCOL)),
        ),
        Case(
            "5.3",
            "HEADERS with a priority",
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, error(0) + b"\xff" + block(*REQUEST)),
            served,
        ),
        Case("5.4.1", "closed after an error", frame(PING, 0, 0, bytes(7)), lambda a: a.is_closed),
        Case("6.1", "DATA on stream 0", data(b"x", 0), protocol_error),
        Case("6.1", "padding", post() + frame(DATA, END_STREAM | PADDED, 1, b"\x04abcd\0\0\0\0"), served),
        Case(
            "6.1",
            "padding of the whole frame",
            post() + frame(DATA, END_STREAM | PADDED, 1, b"\x05abcde"),
            either(served, protocol_error),
        ),
        Case(
            "6.1",
            "padding beyond the frame",
            post() + frame(DATA, END_STREAM | PADDED, 1, b"\x06abcde"),
            protocol_error,
        ),
        Case(
            "6.1",
            "padding without a length",
            post() + frame(DATA, END_STREAM | PADDED, 1),
            connection_error(PROTOCOL, SIZE),
        ),
        Case(
            "6.1",
            "more DATA than the window",
            post() + b"".join(data(bytes(16384), flags=0) for _ in range(5)),
            either(stream_error(FLOW), ignored),
        ),
        Case(
            "6.2",
            "padding",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x03" + block(*REQUEST) + bytes(3)),
            served,
        ),
        Case(
            "6.2",
            "padding beyond the frame",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + block(*REQUEST)),
            protocol_error,
        ),
        Case(
            "6.2",
            "priority of 3 bytes",
            frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, bytes(3)),
            connection_error(SIZE, PROTOCOL),
        ),
        Case("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), protocol_error),
        Case("6.3", "PRIORITY of 4 bytes", post() + frame(PRIORITY, 0, 1, bytes(4)), stream_error(SIZE)),
        Case("6.3", "PRIORITY of 6 bytes", post() + frame(PRIORITY, 0, 1, bytes(6)), stream_error(SIZE)),
        Case("6.4", "RST_STREAM on stream 0", frame(RST, 0, 0, error(CANCEL)), protocol_error),
        Case("6.4", "RST_STREAM of 3 bytes", post() + frame(RST, 0, 1, bytes(3)), connection_error(SIZE)),
        Case("6.4", "RST_STREAM of 5 bytes", post() + frame(RST, 0, 1, bytes(5)), connection_error(SIZE)),
        Case("6.10", "CONTINUATION", header_start + continuation, served),
        Case(
            "6.10",
            "several CONTINUATIONs",
            header_start
            + b"".join(frame(CONTINUATION, 0, 1, bytes([byte])) for byte in header_rest)
            + frame(CONTINUATION, END_HEADERS, 1),
            either(served, connection_error(CALM)),
        ),
        Case(
            "6.10",
            "PRIORITY in a header block",
            header_start + frame(PRIORITY, 0, 1, bytes(5)),
            protocol_error,
            is_pinged=False,
        ),
        Case("6.10", "HEADERS in a header block", header_start + get(stream=3), protocol_error, is_pinged=False),
        Case("6.10", "DATA in a header block", header_start + data(), protocol_error, is_pinged=False),
        Case(
            "6.10",
            "PING in a header block",
            header_start + frame(PING, 0, 0, bytes(8)),
            protocol_error,
            is_pinged=False,
        ),
        Case(
            "6.10", "SETTINGS in a header block", header_start + frame(SETTINGS, 0, 0), protocol_error, is_pinged=False
        ),
        Case(
            "5.5", "unknown frame in a header block", header_start + frame(0x16, 0, 1), protocol_error, is_pinged=False
        ),
        Case(
            "6.10",
            "CONTINUATION on another stream",
            header_start + frame(CONTINUATION, END_HEADERS, 3, header_rest),
            protocol_error,
            is_pinged=False,
        ),
        Case(
            "6.10",
            "CONTINUATION on stream 0",
            header_start + frame(CONTINUATION, END_HEADERS, 0, header_rest),
            protocol_error,
            is_pinged=False,
        ),
        Case("6.10", "CONTINUATION behind END_HEADERS", post() + continuation, protocol_error),
        Case(
            "6.10",
            "CONTINUATION behind CONTINUATION with END_HEADERS",
            header_start + continuation + continuation,
            protocol_error,
        ),
        Case("6.10", "CONTINUATION behind DATA", post() + data(b"x", flags=0) + continuation, protocol_error),
        Case(
            "6.10",
            "endless CONTINUATIONs",
            header_start + 2000 * frame(CONTINUATION, 0, 1, block((b"a", bytes(500)))),
            either(connection_error(CALM, PROTOCOL, COMPRESSION), tolerated),
            is_pinged=False,
        ),
        Case(
            "6.10",
            "endless empty CONTINUATIONs",
            header_start + 20000 * frame(CONTINUATION, 0, 1),
            connection_error(CALM, PROTOCOL),
            is_pinged=False,
        ),
    ]


def messages() -> list[Case]:
    """RFC 9113, section 8."""
    without = [tuple(one for one in REQUEST if one is not left) for left in (METHOD, SCHEME, PATH)]
    length = lambda *values: tuple((b"content-length", value) for value in values)
    cases = [
        Case(
            "8.1",
            "trailers",
            post() + data(b"x", flags=0) + frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b"a", b"b"))),
            served,
        ),
        Case(
            "8.1",
            "HEADERS without END_STREAM behind DATA",
            post() + data(b"x", flags=0) + frame(HEADERS, END_HEADERS, 1, block((b"a", b"b"))),
            malformed,
        ),
        # The h2 crate drops it (docs/decisions).
        Case(
            "8.1",
            "trailers with a pseudo-header",
            post() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(METHOD)),
            either(malformed, served),
        ),
        Case(
            "8.1",
            "DATA behind trailers",
            post() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b"a", b"b"))) + data(b"x"),
            stream_error(CLOSED, PROTOCOL),
        ),
        Case("8.1.1", "content-length", post(*length(b"5")) + data(b"hello"), served),
        Case(
            "8.1.1", "content-length in two frames", post(*length(b"5")) + data(b"he", flags=0) + data(b"llo"), served
        ),
        Case("8.1.1", "content-length too small", post(*length(b"4")) + data(b"hello"), malformed),
        Case("8.1.1", "content-length too large", post(*length(b"6")) + data(b"hello"), malformed),
        Case(
            "8.1.1",
            "content-length too large, two frames",
            post(*length(b"6")) + data(b"he", flags=0) + data(b"llo"),
            malformed,
        ),
        Case(
            "8.1.1",
            "content-length too small, two frames",
            post(*length(b"4")) + data(b"he", flags=0) + data(b"llo"),
            malformed,
        ),
        Case("8.1.1", "content-length without DATA", get(*length(b"5")), malformed),
        Case("8.1.1", "content-length 0", get(*length(b"0")), served),
        Case("8.1.1", "two content-lengths", post(*length(b"5", b"6")) + data(b"hello"), malformed),
        Case(
            "8.1.1",
            "the same content-length twice",
            post(*length(b"5", b"5")) + data(b"hello"),
            either(malformed, served),
        ),
        Case(
            "8.3.1",
            "OPTIONS *",
            fields((b":method", b"OPTIONS"), SCHEME, (b":path", b"*"), AUTHORITY),
            either(malformed, lambda a: a.statuses() == [200]),
        ),
        Case("8.3.1", "host instead of :authority", fields(METHOD, SCHEME, PATH, (b"host", b"x")), served),
        Case("8.3.1", "neither host nor :authority", fields(METHOD, SCHEME, PATH), either(served, malformed)),
        Case("8.3.1", "host equal to :authority", get((b"host", b"x")), served),
        Case("8.3.1", "host other than :authority", get((b"host", b"y")), malformed),
        Case("8.3.1", "two hosts", fields(METHOD, SCHEME, PATH, (b"host", b"x"), (b"host", b"y")), malformed),
        Case("8.3.1", "https", fields(METHOD, (b":scheme", b"https"), PATH, AUTHORITY), served),
        Case("8.5", "CONNECT", fields((b":method", b"CONNECT"), AUTHORITY), malformed),
        Case("8.5", "CONNECT with a path", fields((b":method", b"CONNECT"), SCHEME, PATH, AUTHORITY), malformed),
        Case("8.4", "PUSH_PROMISE", frame(PUSH, END_HEADERS, 1, error(2)), connection_error(PROTOCOL)),
        Case("8.2.2", "te: trailers", get((b"te", b"trailers")), served),
        Case("8.2.3", "two cookies", get((b"cookie", b"a"), (b"cookie", b"b")), served),
    ]
    for value in (b"", b"+5", b"-5", b"0x5", b"5 ", b"5,5", b"5.0", b"99999999999999999999"):
        cases.append(Case("8.1.1", f"content-length {value!r}", post(*length(value)) + data(b"hello"), malformed))
    for name in (b"A", b"aB", b"", b"a b", b"a\tb", b"a\0", b"a:b", b":a", b"a\x7f", b"a\xff", b"a\r\n", b"(a)"):
        cases.append(Case("8.2.1", f"name {name!r}", get((name, b"b")), malformed))
    for value in (b"\r", b"\n", b"\0", b"a\r\nb: c", b"a\nb"):
        cases.append(Case("8.2.1", f"value {value!r}", get((b"a", value)), malformed))
    # Invalid as well, but a server may be lenient where nothing depends on the value (section 8.2.1, last paragraph).
    for value in (b" a", b"a ", b"\ta", b"a\t"):
        cases.append(Case("8.2.1", f"value {value!r}", get((b"a", value)), either(malformed, served)))
    for name, value in [
        (b"connection", b"keep-alive"),
        (b"connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
    ]:
        cases.append(Case("8.2.2", f"{name.decode()}: {value.decode()}", get((name, value)), malformed))
    for name in (b":unknown", b":status", b":protocol", b":"):
        cases.append(Case("8.3", f"pseudo-header {name.decode()}", get((name, b"200")), malformed))
    cases.append(
        Case("8.3", "pseudo-header behind a field", fields(METHOD, SCHEME, (b"a", b"b"), PATH, AUTHORITY), malformed)
    )
    for left, rest in zip((METHOD, SCHEME, PATH), without):
        cases.append(Case("8.3.1", f"without {left[0].decode()}", fields(*rest), malformed))
    for twice in REQUEST:
        cases.append(Case("8.3.1", f"{twice[0].decode()} twice", get(twice), malformed))
    for path in (b"", b"a", b"*", b"http://x/a", b"/a b", b"/a\0", b"/a\r\nb: c", b"/a\x7f", b"?a"):
        cases.append(Case("8.3.1", f":path {path!r}", fields(METHOD, SCHEME, (b":path", path), AUTHORITY), malformed))
    for method in (b"", b"GET /", b"G\0T", b"G\r\n", b"(GET)"):
        cases.append(
            Case("8.3.1", f":method {method!r}", fields((b":method", method), SCHEME, PATH, AUTHORITY), malformed)
        )
    for authority in (b"u@x", b"x/a", b"x y", b"x\0", b"http://x"):
        cases.append(
            Case(
                "8.3.1",
                f":authority {authority!r}",
                fields(METHOD, SCHEME, PATH, (b":authority", authority)),
                malformed,
            )
        )
    for host in (b"u@x", b"x/a", b"x y"):
        cases.append(Case("8.3.1", f"host {host!r}", fields(METHOD, SCHEME, PATH, (b"host", host)), malformed))
    return cases


def header_blocks() -> list[Case]:
    """RFC 7541, and the limits of header lists."""
    broken = connection_error(COMPRESSION)
    # Static entries: 2 is :method GET, 6 :scheme http, 4 :path, 1 :authority.
    start = b"\x82\x86\x04" + text(TARGET) + b"\x01" + text(b"x")
    literal = b"\x40" + text(b"a") + text(b"b")
    # Huffman: 0xff is the beginning of EOS, the code of 'a' is 00011.
    return [
        Case("7541 2.3.3", "index 0", raw(start + b"\x80"), broken),
        Case("7541 2.3.3", "index 70", raw(start + integer(70, 7, 0x80)), broken),
        Case("7541 2.3.3", "index 2^30", raw(start + integer(2**30, 7, 0x80)), broken),
        Case("7541 2.3.3", "name of index 70", raw(start + integer(70, 6, 0x40) + text(b"x")), broken),
        Case("7541 2.3.3", "dynamic entry", raw(start + literal + integer(62, 7, 0x80)), served),
        Case(
            "7541 2.3.2",
            "dynamic entry of an earlier block",
            raw(start + literal),
            lambda a: a.body(3) == BODY,
            later=frame(HEADERS, 5, 3, start + integer(62, 7, 0x80)),
        ),
        Case("7541 2.3.2", "entry beyond the last", raw(start + literal + integer(63, 7, 0x80)), broken),
        Case("7541 4.2", "size update at the beginning", raw(integer(100, 5, 0x20) + start), served),
        Case(
            "7541 4.2",
            "two size updates at the beginning",
            raw(integer(0, 5, 0x20) + integer(4096, 5, 0x20) + start),
            served,
        ),
        Case("7541 4.2", "size update at the end", raw(start + integer(100, 5, 0x20)), broken),
        Case(
            "7541 4.3",
            "evicted entry",
            raw(start + literal),
            lambda a: a.goaway() in (COMPRESSION, PROTOCOL),
            later=frame(HEADERS, 5, 3, integer(0, 5, 0x20) + start + integer(62, 7, 0x80)),
        ),
        Case("7541 6.3", "size above the limit", raw(integer(4097, 5, 0x20) + start), broken),
        Case("7541 5.1", "integer that overflows", raw(start + b"\xff" + 10 * b"\xff" + b"\x01"), broken),
        Case("7541 5.1", "integer that is cut off", raw(start + b"\xff\x80"), broken),
        Case("7541 5.2", "string that is cut off", raw(start + b"\x00\x05ab"), broken),
        Case("7541 5.2", "name without a value", raw(start + b"\x00\x01a"), broken),
        Case("7541 5.2", "Huffman", raw(start + b"\x00\x81\x1f" + text(b"b")), served),
        Case("7541 5.2", "padding of 8 bits", raw(start + b"\x00\x82\x1f\xff" + text(b"b")), broken),
        Case("7541 5.2", "padding of zeros", raw(start + b"\x00\x81\x18" + text(b"b")), broken),
        Case("7541 5.2", "EOS", raw(start + b"\x00\x84\xff\xff\xff\xff" + text(b"b")), broken),
        Case("7541 6.2.3", "never indexed", raw(start + b"\x10" + text(b"a") + text(b"b")), served),
        Case("10.5.1", "64 fields", get(*((b"a", b"b") for _ in range(50))), served),
        Case("10.5.1", "200 fields", get(*((b"a", b"b") for _ in range(200))), lambda a: a.statuses() != [200]),
        Case(
            "10.5.1",
            "20 kB of fields",
            get(*((b"a", bytes([98]) * 300) for _ in range(50))),
            lambda a: a.statuses() != [200] and not a.is_http1,
        ),
        Case(
            "10.5.1",
            "a bomb of references",
            raw(start + b"\x40" + text(b"a") + text(b"b" * 3000) + 3000 * integer(62, 7, 0x80)),
            lambda a: a.statuses() != [200],
        ),
    ]


class Connection:
    """A connection whose frames are read as they come."""

    def __init__(self, address: Address) -> None:
        self._stream = socket.create_connection(address, ANSWER_MAX_S)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.answer = Answer()

    def send(self, sent: bytes) -> None:
        """Sends bytes, of which the server may not want all."""
        try:
            self._stream.sendall(sent)
        except OSError:
            pass

    def read_until(self, is_done: Check) -> None:
        """Reads frames until a condition holds, the connection ends or the time is over."""
        end = time.monotonic() + ANSWER_MAX_S
        while not is_done(self.answer) and not self.answer.is_closed and time.monotonic() < end:
            try:
                self._stream.settimeout(max(0.01, end - time.monotonic()))
                received = self._stream.recv(65536)
            except TimeoutError:
                return
            except OSError:
                received = b""
            self.answer.is_closed = not received
            self._buffer += received
            if self._buffer.startswith(b"HTTP/"):
                self.answer.is_http1 = True
                continue
            self._take_frames()

    def _take_frames(self) -> None:
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
            self.answer.frames.append((kind, flags, stream, self._buffer[9 : 9 + length]))
            self._buffer = self._buffer[9 + length :]

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()


def run_case(gateway: Gateway, case: Case) -> Answer:
    """Plays a case on a connection of its own."""
    connection = Connection(gateway.http)
    settings = frame(SETTINGS, ACK, 0) if case.opening.startswith(PREFACE + b"\0") else b""
    pinged = frame(PING, 0, 0, LAST_PING) if case.is_pinged else b""
    connection.send(case.opening + settings + case.sent + (b"" if case.later else pinged))
    if case.later:
        connection.read_until(lambda answer: bool(answer.statuses()) and (DATA in [kind for kind, *_ in answer.frames]))
        connection.send(case.later + pinged)
    connection.read_until(lambda answer: case.verdict(answer) and (answer.is_alive() or answer.is_closed))
    connection.close()
    return connection.answer


def run(trial: Trial) -> None:
    """Plays every case, and asks for a good request in between."""
    cases = frames_and_settings() + streams() + messages() + header_blocks()
    wrong = []
    unhealthy = 0
    with run_gateway(trial.capgate, {"SANDBOX_LATENCY_MS": "0"}) as gateway:
        good = cases[0]
        for case in cases:
            answer = run_case(gateway, case)
            if not case.verdict(answer):
                wrong.append(case)
                frames = [(kind, flags, stream, payload[:16]) for kind, flags, stream, payload in answer.frames]
                trial.note(f"section {case.section}, {case.name}: {frames[-6:]}, closed {answer.is_closed}")
            unhealthy += not served(run_case(gateway, good))
        trial.at_least("cases", len(cases), 90)
        trial.equal("cases with another verdict than the RFC's", len(wrong), 0)
        trial.equal("good requests without their answer", unhealthy, 0)
        trial.equal("process runs", gateway.is_running(), True)
        trial.equal("5xx responses", gateway.metric('capgate_requests_total{outcome="panicked"'), 0)
        trial.equal("connections at the end", gateway.wait_for_metric("capgate_connections ", 0, 5), True)
