"""Inputs of public corpora and generators in every parameter and form: only documented answers, no crash, no hang.

Most inputs go through pipelined connections, since a generator with a client of its own manages some 50 a second;
schemathesis sends the rest from docs/openapi.yaml.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from harness.environment import prepare
from harness.gateway import Address, Gateway, run_gateway
from harness.trial import ROOT, WORK, Trial

DESCRIPTION = ROOT / "docs" / "openapi.yaml"
GENERATOR = ROOT / "tests" / "trials" / "generators" / "inputs.py"
REPLY_MAX_S = 20.0
# Requests of one write.
BATCH = 50
CLIENTS = 2
MEMORY_MAX_MIB = 256
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
FORMS = ("query", "urlencoded", "multipart", "json", "name", "body", "file", "content type")
IMAGE = b"iVBORw0KGgo" + b"A" * 200


def description(programs: Path) -> dict[str, Any]:
    """Returns the description of the API."""
    command = [programs / "python", GENERATOR, "description", DESCRIPTION]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def values(programs: Path, count: int) -> list[bytes]:
    """Returns different inputs: the corpora, and so many generated ones."""
    command = [programs / "python", GENERATOR, "values", str(count), "9"]
    lines = subprocess.run(command, check=True, capture_output=True, timeout=900, text=True).stdout.splitlines()
    return list(dict.fromkeys(bytes.fromhex(line) for line in lines))


class Documented:
    """The documented answers."""

    def __init__(self, api: dict[str, Any]) -> None:
        schemas = api["components"]["schemas"]
        self.codes = set(schemas["ErrorCode"]["enum"])
        self.methods = schemas["Method"]["enum"]
        self.actions = schemas["Action"]["enum"]
        self.submit_names = list(schemas["Submit"]["properties"])
        self.poll_names = list(schemas["Poll"]["properties"])
        one = "|".join(sorted(self.codes))
        # The answer of the sandbox, an id, a balance, a code, several codes, the list of all codes.
        answer = r"OK\|[0-9]{12}|OK\|.*SANDBOX.*|[0-9]+\.[0-9]{4}|OK_REPORT_RECORDED"
        self.text = re.compile(rf"(?:{answer}|(?:{one})(?:[|\n](?:{one}))*)".encode(), re.DOTALL)

    def is_documented(self, status: int, head: bytes, body: bytes) -> bool:
        """Whether a response is one of the documented ones."""
        if status != 200:
            return status in (400, 431) and not body
        if b"\r\ncontent-type: application/json\r\n" not in head:
            return b"\r\ncontent-type: text/plain; charset=utf-8\r\n" in head and self.text.fullmatch(body) is not None
        try:
            reply = json.loads(body)
        except ValueError:
            return False
        if not isinstance(reply, dict) or reply.get("status") not in (0, 1):
            return False
        request = reply.get("request")
        if isinstance(request, list):
            return set(request) <= self.codes
        if reply["status"] == 0:
            return request in self.codes
        return isinstance(request, str) and (request.isdigit() or self.text.fullmatch(request.encode()) is not None)


def encode(form: str, script: str, base: dict[bytes, bytes], name: bytes, value: bytes) -> bytes:
    """Encodes a request with a value in a parameter."""
    target, content_type, body = f"/{script}".encode(), b"application/x-www-form-urlencoded", b""
    fields = base | {name: value}

    def urlencoded(these: dict[bytes, bytes]) -> bytes:
        return "&".join(f"{quote_from_bytes(k)}={quote_from_bytes(v)}" for k, v in these.items()).encode()

    if form == "query":
        return b"GET %s?%s HTTP/1.1\r\nHost: x\r\n\r\n" % (target, urlencoded(fields))
    if form == "urlencoded":
        body = urlencoded(fields)
    elif form == "multipart":
        content_type = b"multipart/form-data; boundary=b"
        parts = (b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair for pair in fields.items())
        body = b"".join(parts) + b"--b--\r\n"
    elif form == "file":
        content_type = b"multipart/form-data; boundary=b"
        target += b"?" + urlencoded(base)
        body = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n--b--\r\n' % (
            name,
            name,
            value,
        )
    elif form == "json":
        content_type = b"application/json"
        body = json.dumps({k.decode(): v.decode("utf-8", "replace") for k, v in fields.items()}).encode()
    elif form == "name":
        body = urlencoded(base | {value: name})
    elif form == "body":
        target += b"?" + urlencoded(base)
        body = value
    else:
        content_type = bytes(byte for byte in value if byte >= 32 and byte != 127)[:200]
        body = urlencoded(fields)
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        target,
        content_type,
        len(body),
        body,
    )


def requests(api: Documented, inputs: list[bytes], first: int, count: int) -> list[bytes]:
    """Returns requests by their number: each parameter and form gets all values in turn."""
    places = [("in.php", name) for name in api.submit_names] + 4 * [("res.php", name) for name in api.poll_names]
    made = []
    for number in range(first, first + count):
        value = inputs[number % len(inputs)]
        # Coprime strides, so that values, parameters and forms meet in all combinations.
        place = number * 7 + number // len(inputs)
        script, name = places[place % len(places)]
        form = FORMS[(number // len(places) + number) % len(FORMS)]
        base = {b"key": b"K%d" % (number % 50)}
        if script == "in.php":
            method = api.methods[number // 3 % len(api.methods)]
            base |= {b"method": method.encode(), b"pageurl": b"https://e.com/", b"googlekey": b"6Le", b"sitekey": b"s"}
            base |= {b"body": IMAGE, b"textinstructions": b"t", b"publickey": b"p", b"gt": b"g", b"challenge": b"c"}
        else:
            base |= {b"action": api.actions[number // 3 % len(api.actions)].encode(), b"id": b"200000000001"}
        if number % 5 == 0:
            base[b"json"] = b"1"
        made.append(encode(form, script, base, name.encode(), value))
    return made


def send_all(address: Address, api: Documented, inputs: list[bytes], first: int, count: int, results: Any) -> None:
    """Sends requests in batches, and counts what came back."""
    tally: Counter[str] = Counter()
    wrong: list[tuple[bytes, bytes]] = []
    for start in range(first, first + count, BATCH):
        pending = requests(api, inputs, start, min(BATCH, first + count - start))
        while pending:
            try:
                answered = exchange(address, pending, api, tally, wrong)
            except (OSError, ValueError) as error:
                tally["hangs" if isinstance(error, TimeoutError) else "connections lost"] += 1
                answered = 1
            # A refused request closes its connection; the rest goes to a new one.
            pending = pending[answered:]
    results.put((tally, wrong[:5]))


STREAMS: dict[Address, tuple[socket.socket, Any]] = {}


def exchange(address: Address, sent: list[bytes], api: Documented, tally: Counter[str], wrong: list[Any]) -> int:
    """Sends requests on one connection. Returns how many were answered."""
    if address not in STREAMS:
        stream = socket.create_connection(address, REPLY_MAX_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        STREAMS[address] = (stream, stream.makefile("rb", 1 << 16))
    stream, reader = STREAMS[address]
    try:
        stream.sendall(b"".join(sent))
        for number, request in enumerate(sent):
            status, head, body = read_response(reader)
            tally[str(status)] += 1
            if not api.is_documented(status, head, body):
                wrong.append((request[:600], body[:200]))
                tally["undocumented"] += 1
            if b"\r\nconnection: close\r\n" in head:
                STREAMS.pop(address)[0].close()
                return number + 1
        return len(sent)
    except BaseException:
        STREAMS.pop(address)[0].close()
        raise


def read_response(reader: Any) -> tuple[int, bytes, bytes]:
    """Reads one response. The head is in lower case."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline(65536)
        if not line:
            raise ConnectionError("closed without a response")
        head += line.lower() if not head else line[: line.find(b":")].lower() + line[line.find(b":") :].lower()
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    return int(head[9:12]), head, reader.read(int(length[1])) if length else b""


def run_schemathesis(programs: Path, gateway: Gateway, examples: int, max_s: int) -> tuple[int, str]:
    """Runs schemathesis against the description. Returns its exit code and the end of its output."""
    host, port = gateway.http
    command: list[str | Path] = [programs / "schemathesis", "run", DESCRIPTION, "--url", f"http://{host}:{port}"]
    command += ["--checks", CHECKS, "--phases", "fuzzing", "--max-examples", str(examples), "--seed", "9"]
    command += ["--generation-database", "none", "--continue-on-failure", "--no-color", "--max-time", str(max_s)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=4 * max_s + 60, cwd=WORK)
    return ended.returncode, ended.stdout[-2_000:]


def run(trial: Trial) -> None:
    """Sends everything, and compares the answers and the gateway's own counters."""
    WORK.mkdir(parents=True, exist_ok=True)
    programs = prepare()
    api = Documented(description(programs))
    inputs = values(programs, trial.size(500, 20_000))
    total = trial.size(20_000, 500_000)
    trial.note(
        f"{len(inputs)} different values, {len(api.submit_names) + len(api.poll_names)} parameters, {len(FORMS)} forms"
    )
    settings = {"SANDBOX_LATENCY_MS": "0", "LOG_ACCESS": "false"}
    with run_gateway(trial.capgate, settings) as gateway:
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        share = total // CLIENTS
        arguments = [(gateway.http, api, inputs, client * share, share, results) for client in range(CLIENTS)]
        clients = [context.Process(target=send_all, args=these, daemon=True) for these in arguments]
        for client in clients:
            client.start()
        tally: Counter[str] = Counter()
        for _ in clients:
            counted, wrong = results.get(timeout=trial.size(120, 1_800))
            tally += counted
            for request, body in wrong:
                trial.note(f"undocumented: {request!r} -> {body!r}")
        for client in clients:
            client.join()
        answered = sum(count for status, count in tally.items() if status.isdigit())
        counted = gateway.metric("capgate_requests_total") + gateway.metric("capgate_refused_requests_total")
        trial.note(", ".join(f"{count} x {what}" for what, count in sorted(tally.items())))
        outcomes: Counter[str] = Counter()
        for name, value in gateway.metrics("capgate_requests_total{").items():
            outcomes[name.split('outcome="')[1].split('"')[0]] += int(value)
        trial.note(", ".join(f"{count} x {outcome}" for outcome, count in outcomes.most_common() if count))
        trial.at_least("inputs", answered, total)
        trial.equal("hangs", tally["hangs"], 0)
        trial.equal("connections lost", tally["connections lost"], 0)
        trial.equal("answers outside of the documented set", tally["undocumented"], 0)
        trial.equal("requests that the gateway counted", counted, answered)
        code, output = run_schemathesis(programs, gateway, trial.size(25, 2_000), trial.size(15, 120))
        if code != 0:
            trial.note(output)
        trial.equal("exit code of schemathesis", code, 0)
        sent = gateway.metric("capgate_requests_total") + gateway.metric("capgate_refused_requests_total") - counted
        trial.at_least("inputs of schemathesis", sent, trial.size(10, 200))
        trial.equal("panics", sum("panic" in line for line in gateway.log), 0)
        trial.at_most("resident memory, peak", gateway.resident_peak_mib(), MEMORY_MAX_MIB, " MiB")
        trial.equal("healthy", gateway.admin("/livez").strip(), "live")
        trial.equal("connections at the end", gateway.wait_for_metric("capgate_connections ", 0, 10), True)
