"""2captcha-python, unmodified, against the gateway: its own return values and exceptions are the judge.

Errors, reports and corner cases; two_captcha_python_methods.py has the other methods.

run.sh sets GATEWAY_HTTPS (host:port) and the test CA (REQUESTS_CA_BUNDLE, and SSL_CERT_FILE for the asynchronous
client).
"""

import asyncio
import base64
import os
import re
import sys
import time

import twocaptcha
from twocaptcha import AsyncTwoCaptcha, TwoCaptcha

# What the server refuses is raised as the class of this module. The package exports others of the same names, from
# exceptions.solver, for what the library itself finds wrong.
from twocaptcha.exceptions.api import ApiException

KEY = "clients-test"
PAGE = "https://example.com/login"
# The sandbox's, per account and per solved task.
BALANCE = 50.25
COST = 0.00299
ODD_ANSWER = 'SANDBOX|a "quoted" \\ <b>&amp; é 漢|\x7f'

# The gateway looks at the first bytes and the size.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(112)
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
IMAGE_FILE = os.path.join(os.environ["HOME"], "captcha.png")
SMALL_FILE = os.path.join(os.environ["HOME"], "small.png")

checks = []


def check(name):
    """Registers a check under the name that is printed: the legacy method or action, then details."""

    def register(function):
        checks.append((name, function))
        return function

    return register


def options(key=KEY, **more):
    # The library has no time-out for a single request; run.sh bounds the whole.
    return dict(
        apiKey=key,
        server=os.environ["GATEWAY_HTTPS"],
        pollingInterval=1,
        defaultTimeout=20,
        recaptchaTimeout=20,
        **more,
    )


def client(key=KEY, **more):
    return TwoCaptcha(**options(key, **more))


def async_client(key=KEY, **more):
    return AsyncTwoCaptcha(**options(key, **more))


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")


def is_money(got, wanted):
    # The protocol prints four decimals.
    if not isinstance(got, float) or abs(got - wanted) > 0.00006:
        raise AssertionError(f"got {got!r}, not {wanted:.4f}")


def is_token(result):
    equal(sorted(result), ["captchaId", "code"])
    if not re.fullmatch(r"SANDBOX-[0-9a-f-]{36}", result["code"]):
        raise AssertionError(f"{result['code']!r} is no token")
    is_id(result["captchaId"])


def is_text(result):
    equal(sorted(result), ["captchaId", "code"])
    equal(result["code"], "SANDBOX")
    is_id(result["captchaId"])


def is_id(text):
    # The legacy service's ids are numbers, and some clients store them as such.
    if not re.fullmatch(r"[0-9]+", text):
        raise AssertionError(f"{text!r} is no id")


def refused(wanted, call):
    """The call must raise the library's exception for what the server refuses, with this code and no more."""
    try:
        result = call()
    except ApiException as error:
        equal(str(error), wanted)
    else:
        raise AssertionError(f"got {result!r}, no exception")


def reports_once(solver, number, correct):
    """A report is recorded, recorded still when it is repeated, and not taken back."""
    equal(solver.report(number, correct), "OK_REPORT_RECORDED")
    equal(solver.report(number, correct), "OK_REPORT_RECORDED")
    refused("ERROR_DUPLICATE_REPORT", lambda: solver.report(number, not correct))


def async_refused(wanted, call):
    refused(wanted, lambda: asyncio.run(call()))


@check("getbalance")
def _():
    is_money(client("clients-rich").balance(), BALANCE)


@check("getbalance, after a solved task")
def _():
    payer = client("clients-payer")
    is_text(payer.normal(IMAGE_FILE))
    is_money(payer.balance(), BALANCE - COST)


@check("post, file")
def _():
    is_text(client().normal(IMAGE_FILE))


@check("base64, text")
def _():
    is_text(client().normal(IMAGE_TEXT))


@check("post, all options")
def _():
    more = {"phrase": 1, "numeric": 4, "minLen": 4, "maxLen": 20, "caseSensitive": 1, "calc": 0, "lang": "en"}
    is_text(client().normal(IMAGE_FILE, hintText="röd & blå", **more))


@check("post, hint image")
def _():
    is_text(client().normal(IMAGE_FILE, hintImg=IMAGE_FILE))


@check("userrecaptcha")
def _():
    is_token(client().recaptcha(sitekey="plain", url=PAGE))


@check("userrecaptcha, invisible")
def _():
    is_token(client().recaptcha(sitekey="invisible", url=PAGE, invisible=1))


@check("userrecaptcha enterprise=1")
def _():
    is_token(client().recaptcha(sitekey="enterprise", url=PAGE, enterprise=1))


@check("userrecaptcha, data-s, cookies, user agent and domain")
def _():
    more = {"datas": "a+b/c==", "cookies": "A:1;B:2;", "userAgent": "Agent/1.0 (x; y)", "domain": "recaptcha.net"}
    is_token(client().recaptcha(sitekey="details", url=PAGE + "?a=1&b=2#c", **more))


@check("userrecaptcha, proxy")
def _():
    proxy = {"type": "HTTPS", "uri": "login:p@ss@127.0.0.1:3128"}
    is_token(client().recaptcha(sitekey="proxy", url=PAGE, proxy=proxy))


@check("userrecaptcha, malformed proxy")
def _():
    # A gateway that left proxies out would solve this one.
    proxy = {"type": "HTTP", "uri": "nowhere"}
    refused("ERROR_PROXY_FORMAT", lambda: client().recaptcha(sitekey="proxy", url=PAGE, proxy=proxy))


@check("userrecaptcha version=v3")
def _():
    is_token(client().recaptcha(sitekey="three", url=PAGE, version="v3", action="login", score=0.7))


@check("userrecaptcha version=v3, enterprise")
def _():
    is_token(client().recaptcha(sitekey="three", url=PAGE, version="v3", enterprise=1))


@check("userrecaptcha, answer with pipes, quotes and letters beyond ASCII")
def _():
    equal(client().recaptcha(sitekey="sandbox-odd-answer", url=PAGE)["code"], ODD_ANSWER)


@check("reportgood, and reportbad, of userrecaptcha")
def _():
    solver = client()
    for correct in (True, False):
        reports_once(solver, solver.recaptcha(sitekey="plain", url=PAGE)["captchaId"], correct)


@check("reportbad, and reportgood, of base64")
def _():
    # Images are answered inside createTask, so that the gateway never polls for them.
    solver = client()
    for correct in (True, False):
        reports_once(solver, solver.normal(IMAGE_TEXT)["captchaId"], correct)


@check("userrecaptcha, unsolvable task")
def _():
    refused("ERROR_CAPTCHA_UNSOLVABLE", lambda: client().recaptcha(sitekey="sandbox-unsolvable", url=PAGE))


@check("userrecaptcha, task that is never ready")
def _():
    solver = client()
    try:
        solver.solve(timeout=2, method="userrecaptcha", googlekey="sandbox-never", url=PAGE)
    except twocaptcha.TimeoutException:
        return
    raise AssertionError("no exception")


@check("getbalance, unknown key, and on submit")
def _():
    stranger = client("sandbox-key-unknown")
    refused("ERROR_KEY_DOES_NOT_EXIST", stranger.balance)
    refused("ERROR_KEY_DOES_NOT_EXIST", lambda: stranger.recaptcha(sitekey="plain", url=PAGE))


@check("post, malformed key")
def _():
    refused("ERROR_WRONG_USER_KEY", lambda: client("sandbox-key-wrong").normal(IMAGE_FILE))


@check("getbalance, no money, and on submit")
def _():
    poor = client("sandbox-zero-balance")
    is_money(poor.balance(), 0.0)
    refused("ERROR_ZERO_BALANCE", lambda: poor.normal(IMAGE_TEXT))


@check("userrecaptcha, refused parameters")
def _():
    refused("ERROR_PAGEURL", lambda: client().recaptcha(sitekey="plain", url="example"))
    refused("ERROR_ZERO_CAPTCHA_FILESIZE", lambda: client().normal(SMALL_FILE))


@check("get, unknown id")
def _():
    refused("ERROR_WRONG_CAPTCHA_ID", lambda: client().get_result("1"))


@check("get, not ready")
def _():
    solver = client()
    number = solver.send(method="userrecaptcha", googlekey="sandbox-never", url=PAGE)
    is_id(number)
    for _ in range(2):
        try:
            result = solver.get_result(number)
        except twocaptcha.NetworkException:
            continue
        raise AssertionError(f"got {result!r}, no exception")


@check("get, ready")
def _():
    solver = client()
    number = solver.send(method="userrecaptcha", googlekey="plain", url=PAGE)
    deadline = time.monotonic() + 20
    while True:
        try:
            code = solver.get_result(number)
            break
        except twocaptcha.NetworkException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
    is_token({"captchaId": number, "code": code})
    # The answer can be fetched again.
    equal(solver.get_result(number), code)


@check("userrecaptcha, extended response")
def _():
    solver = client(extendedResponse=True)
    is_token(solver.recaptcha(sitekey="plain", url=PAGE))
    is_text(solver.normal(IMAGE_FILE))
    equal(solver.recaptcha(sitekey="sandbox-odd-answer", url=PAGE)["code"], ODD_ANSWER)


@check("userrecaptcha, extended response of an unsolvable task")
def _():
    # The library raises the whole body where it finds the word ERROR in it.
    refused(
        '{"status":0,"request":"ERROR_CAPTCHA_UNSOLVABLE"}',
        lambda: client(extendedResponse=True).recaptcha(sitekey="sandbox-unsolvable", url=PAGE),
    )


@check("getbalance, asynchronous")
def _():
    is_money(asyncio.run(async_client("clients-async").balance()), BALANCE)


@check("post, and base64, asynchronous")
def _():
    is_text(asyncio.run(async_client().normal(IMAGE_FILE)))
    is_text(asyncio.run(async_client().normal(IMAGE_TEXT)))


@check("userrecaptcha, asynchronous")
def _():
    is_token(asyncio.run(async_client().recaptcha(sitekey="plain", url=PAGE)))


@check("userrecaptcha, asynchronous, extended response")
def _():
    is_token(asyncio.run(async_client(extendedResponse=True).recaptcha(sitekey="plain", url=PAGE)))


@check("userrecaptcha, asynchronous, unsolvable task")
def _():
    async_refused(
        "ERROR_CAPTCHA_UNSOLVABLE", lambda: async_client().recaptcha(sitekey="sandbox-unsolvable", url=PAGE)
    )


@check("userrecaptcha, asynchronous, ten at once, and a report")
def _():
    async def ten():
        solver = async_client()
        solved = await asyncio.gather(*(solver.recaptcha(sitekey="plain", url=PAGE) for _ in range(10)))
        said = await solver.report(solved[0]["captchaId"], True)
        return solved, said

    solved, said = asyncio.run(ten())
    for result in solved:
        is_token(result)
    equal(len({result["code"] for result in solved}), 10)
    equal(said, "OK_REPORT_RECORDED")


def main():
    with open(IMAGE_FILE, "wb") as file:
        file.write(IMAGE)
    with open(SMALL_FILE, "wb") as file:
        file.write(IMAGE[:50])
    failures = 0
    for name, function in checks:
        try:
            function()
        except Exception as error:
            failures += 1
            said = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
            # One line per check, whatever stands in the error.
            print(f"FAIL 2captcha-python: {name}: {said!r}", flush=True)
        else:
            print(f"ok   2captcha-python: {name}", flush=True)
    sys.exit(1 if failures else 0)


main()
