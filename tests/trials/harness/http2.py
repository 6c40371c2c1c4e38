"""HTTP/2 frames, written by hand so that they can be wrong."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Builds a frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: dict[int, int] | None = None) -> bytes:
    """Builds a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in (values or {}).items()))


def opening(values: dict[int, int] | None = None) -> bytes:
    """Builds the first bytes of a client."""
    return PREFACE + settings(values)


def integer(value: int, prefix_bits: int, first: int) -> bytes:
    """Encodes an integer (RFC 7541, section 5.1)."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    encoded = bytearray([first | limit])
    value -= limit
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    encoded.append(value)
    return bytes(encoded)


def literal(name: bytes, value: bytes, is_indexed: bool = False) -> bytes:
    """Encodes a field without Huffman codes; an indexed one enters the dynamic table at index 62."""
    first = b"\x40" if is_indexed else b"\x00"
    return first + integer(len(name), 7, 0) + name + integer(len(value), 7, 0) + value


def request(path: bytes, verb: bytes = b"GET", fields: bytes = b"") -> bytes:
    """Encodes the header block of a request."""
    method = b"\x82" if verb == b"GET" else b"\x83"
    path = b"\x04" + integer(len(path), 7, 0) + path
    return method + b"\x86" + path + b"\x01\x01x" + fields


def headers(stream: int, block: bytes, flags: int = END_STREAM | END_HEADERS) -> bytes:
    """Builds a HEADERS frame."""
    return frame(HEADERS, flags, stream, block)
