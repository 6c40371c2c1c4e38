"""What the scripts of the Python libraries share: sample input, what answers look like, and running checks at once.

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

# Some libraries refuse a key of another length than 32.
KEY = "clients0test1clients2test3client"
PAGE = "https://example.com/login"
AGENT = "Agent/1.0 (x; y)"
# The sandbox's, per account.
BALANCE = 50.25

# The gateway looks at the first bytes and the size.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(112)
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
AUDIO_TEXT = base64.b64encode(b"ID3" + bytes(150)).decode()

# Names that libraries have built in.
SERVICE_NAMES = ("2captcha.com", "rucaptcha.com", "api.2captcha.com")

# Longest that all checks of a script may take together.
SECONDS_MAX = 90


def sample(name, content=IMAGE):
    """A file with this content, of this script alone."""
    path = os.path.join(os.environ["HOME"], f"{os.getpid()}-{name}")
    with open(path, "wb") as file:
        file.write(content)
    return path


def lead_to_gateway():
    """Makes the built-in names lead to the gateway, in this process only, and nothing else than loopback reachable.

    The libraries stay as they are: they look the name up, connect to port 80 or 443, and check the certificate's name.
    """
    ports = {80: os.environ["GATEWAY_HTTP"], 443: os.environ["GATEWAY_HTTPS"]}
    ports = {public: int(address.rsplit(":", 1)[1]) for public, address in ports.items()}
    look_up = socket.getaddrinfo
    connect = socket.socket.connect

    def getaddrinfo(host, *arguments, **more):
        name = host.decode() if isinstance(host, bytes) else host
        return look_up("127.0.0.1" if name in SERVICE_NAMES else host, *arguments, **more)

    def connect_to_loopback(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            if address[0] not in ("127.0.0.1", "::1"):
                raise OSError(f"{address[0]} is not on this machine")
            address = (address[0], ports.get(address[1], address[1]), *address[2:])
        return connect(self, address)

    socket.getaddrinfo = getaddrinfo
    socket.socket.connect = connect_to_loopback


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")


def is_id(text):
    # The legacy service's ids are numbers, and some clients store them as such.
    if not re.fullmatch(r"[0-9]+", str(text)):
        raise AssertionError(f"{text!r} is no id")


def is_money(got):
    # The protocol prints four decimals. Other checks may spend from the same account.
    if not isinstance(got, float) or not BALANCE - 1 < got <= BALANCE:
        raise AssertionError(f"got {got!r}, not about {BALANCE}")


def looks_like(pattern):
    """A check of a text, with {} for the sandbox's token."""
    pattern = pattern.replace("{}", "SANDBOX-[0-9a-f-]{36}")

    def check(answer):
        if not isinstance(answer, str) or not re.fullmatch(pattern, answer):
            raise AssertionError(f"got {answer!r}, not {pattern}")

    return check


def holds(*names):
    """A check of an object: these members, each with something in it. Text notation has it as JSON."""

    def check(answer):
        members = json.loads(answer) if isinstance(answer, str) else answer
        equal(sorted(members), sorted(names))
        for name, value in members.items():
            if value in (None, ""):
                raise AssertionError(f"{name} is empty in {members!r}")

    return check


POINTS = [{"x": "39", "y": "59"}, {"x": "252", "y": "72"}]


def is_points(answer):
    """Text notation has points in a language of its own, JSON a list."""
    equal(answer, "coordinates:x=39,y=59;x=252,y=72" if isinstance(answer, str) else POINTS)


is_token = looks_like("{}")
is_text = looks_like("SANDBOX")
is_angle = looks_like("40")
is_cells = looks_like("click:3/8/9")
is_lines = looks_like("canvas:5,5,3,91;7,7;")
is_geetest = holds("challenge", "validate", "seccode", "geetest_challenge", "geetest_validate", "geetest_seccode")
is_geetest_v4 = holds("captcha_id", "lot_number", "pass_token", "gen_time", "captcha_output")
is_capy = holds("captchakey", "challengekey", "answer")
is_lemin = holds("answer", "challenge_id")
is_amazon = holds("captcha_voucher", "existing_token")
is_tencent = holds("appid", "ret", "ticket", "randstr")
is_vkimage = holds("best_step", "answer")


def covers(wanted, covered):
    """Fails when a library has public methods that no check calls, or when one that is called is gone."""
    equal(sorted(set(covered)), sorted(set(wanted)))


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


class Checks:
    """Checks of one library, each under the name that is printed: the legacy method or action, then details."""

    def __init__(self, library):
        self.library = library
        self.checks = []

    def add(self, name, function, lacking=None):
        """`lacking` is the code by which the gateway refuses what it does not offer. It is printed, and no failure;
        without that code the check has to succeed as any other."""
        self.checks.append((name, function, lacking))

    def run(self):
        """Runs all at once, coroutine functions in one event loop and others in a thread each, so that the waiting
        between polls costs once. Ends the process, with 1 if any check failed."""
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
                said = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
                if lacking and lacking in said:
                    print(f"lack {name}, {lacking}", flush=True)
                else:
                    failures += 1
                    # One line per check, whatever stands in the error.
                    print(f"FAIL {name}: {said!r}", flush=True)
            else:
                print(f"ok   {name}", flush=True)
        # Threads that hang would keep the process.
        os._exit(1 if failures else 0)
