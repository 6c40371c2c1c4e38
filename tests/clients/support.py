"""Shared by the scripts of the Python libraries: sample input, assertions on answers, and a concurrent check runner.

run.sh sets GATEWAY_HTTPS and GATEWAY_HTTP (host:port) and HOME, a directory to write to.
"""

import asyncio
import base64
import concurrent.futures
import inspect
import json
import os
import re
import socket
import time

# Some libraries require a key of 32 characters.
KEY = "clients0test1clients2test3client"
PAGE = "https://example.com/login"
AGENT = "Agent/1.0 (x; y)"
# Initial balance of each sandbox account.
BALANCE = 50.25

# The gateway checks the first bytes and the size.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(112)
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
AUDIO_TEXT = base64.b64encode(b"ID3" + bytes(150)).decode()

# Hosts that libraries hard-code.
SERVICE_NAMES = ("2captcha.com", "rucaptcha.com", "api.2captcha.com")

# Timeout of all checks of a script.
SECONDS_MAX = 90


def sample(name, content=IMAGE):
    """Writes a file with this content, private to this script, and returns its path."""
    path = os.path.join(os.environ["HOME"], f"{os.getpid()}-{name}")
    with open(path, "wb") as file:
        file.write(content)
    return path


def redirect_to_gateway():
    """Redirects the hard-coded hosts to the gateway and blocks all hosts outside loopback, in this process only.

    The libraries are unmodified: they resolve the name, connect to port 80 or 443, and verify the certificate's name.
    """
    ports = {80: os.environ["GATEWAY_HTTP"], 443: os.environ["GATEWAY_HTTPS"]}
    ports = {public: int(address.rsplit(":", 1)[1]) for public, address in ports.items()}
    resolve = socket.getaddrinfo
    connect = socket.socket.connect

    def getaddrinfo(host, *arguments, **more):
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if name in SERVICE_NAMES else host, *arguments, **more)

    def connect_to_loopback(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            if address[0] not in ("127.0.0.1", "::1"):
                raise OSError(f"{address[0]} is not on this machine")
            address = (address[0], ports.get(address[1], address[1]), *address[2:])
        return connect(self, address)

    socket.getaddrinfo = getaddrinfo
    socket.socket.connect = connect_to_loopback


def assert_equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")


def assert_id(text):
    # Some clients store the id as a number, as the legacy service issues it.
    if not re.fullmatch(r"[0-9]+", str(text)):
        raise AssertionError(f"{text!r} is not an id")


def assert_money(got):
    # Other checks may spend from the same account.
    if not isinstance(got, float) or not BALANCE - 1 < got <= BALANCE:
        raise AssertionError(f"got {got!r}, not about {BALANCE}")


def assert_matches(pattern):
    """Returns an assertion that a text matches. {} stands for a sandbox token."""
    pattern = pattern.replace("{}", "SANDBOX-[0-9a-f-]{36}")

    def check(answer):
        if not isinstance(answer, str) or not re.fullmatch(pattern, answer):
            raise AssertionError(f"got {answer!r}, not {pattern}")

    return check


def assert_members(*names):
    """Returns an assertion that an object has exactly these members, none of them empty. Text notation sends JSON."""

    def check(answer):
        members = json.loads(answer) if isinstance(answer, str) else answer
        assert_equal(sorted(members), sorted(names))
        for name, value in members.items():
            if value in (None, ""):
                raise AssertionError(f"{name} is empty in {members!r}")

    return check


POINTS = [{"x": "39", "y": "59"}, {"x": "252", "y": "72"}]


def assert_points(answer):
    """Points are `coordinates:x=…` in text notation and a list in JSON."""
    assert_equal(answer, "coordinates:x=39,y=59;x=252,y=72" if isinstance(answer, str) else POINTS)


assert_token = assert_matches("{}")
assert_text = assert_matches("SANDBOX")
assert_angle = assert_matches("40")
assert_cells = assert_matches("click:3/8/9")
assert_lines = assert_matches("canvas:5,5,3,91;7,7;")
assert_geetest = assert_members(
    "challenge", "validate", "seccode", "geetest_challenge", "geetest_validate", "geetest_seccode"
)
assert_geetest_v4 = assert_members("captcha_id", "lot_number", "pass_token", "gen_time", "captcha_output")
assert_capy = assert_members("captchakey", "challengekey", "answer")
assert_lemin = assert_members("answer", "challenge_id")
assert_amazon = assert_members("captcha_voucher", "existing_token")
assert_tencent = assert_members("appid", "ret", "ticket", "randstr")
assert_vkimage = assert_members("best_step", "answer")


def assert_covers(wanted, covered):
    """Fails if a library has a public method without a check, or if a checked method is missing."""
    assert_equal(sorted(set(covered)), sorted(set(wanted)))


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


class Checks:
    """Checks of one library. The printed name of a check is the legacy method or action, then details."""

    def __init__(self, library):
        self.library = library
        self.checks = []

    def add(self, name, function, lacking=None):
        """`lacking` is the code with which the gateway refuses an unsupported method. A check that fails with this code
        is printed as `lack` and does not count as a failure."""
        self.checks.append((name, function, lacking))

    def run(self):
        """Runs all checks concurrently, because they mostly wait between polls: coroutine functions in one event loop,
        others in a thread each. Ends the process, with exit code 1 if a check failed."""
        deadline = time.monotonic() + SECONDS_MAX
        loop = asyncio.new_event_loop()
        threads = concurrent.futures.ThreadPoolExecutor(max_workers=len(self.checks) + 1)
        threads.submit(loop.run_forever)
        running = []
        for _, function, _ in self.checks:
            if inspect.iscoroutinefunction(function):
                running.append(asyncio.run_coroutine_threadsafe(function(), loop))
            else:
                running.append(threads.submit(function))
        failures = 0
        for (name, _, lacking), future in zip(self.checks, running):
            name = f"{self.library}: {name}"
            try:
                future.result(timeout=max(0.0, deadline - time.monotonic()))
            except Exception as error:
                message = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
                if lacking and lacking in message:
                    print(f"lack {name}, {lacking}", flush=True)
                else:
                    failures += 1
                    # repr() keeps the message on one line.
                    print(f"FAIL {name}: {message!r}", flush=True)
            else:
                print(f"ok   {name}", flush=True)
        # A hanging thread would keep the process alive.
        os._exit(1 if failures else 0)
