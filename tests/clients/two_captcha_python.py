"""2captcha-python, unmodified: errors, reports and corner cases. two_captcha_python_methods.py checks every method.

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

# The library raises this class for a refusal of the server. The package exports classes of the same name, from
# exceptions.solver, for errors that the library itself finds.
from twocaptcha.exceptions.api import ApiException

KEY = "clients-test"
PAGE = "https://example.com/login"
# Initial balance of each sandbox account, and the price of a solved task.
BALANCE = 50.25
COST = 0.00299
ODD_ANSWER = 'SANDBOX|a "quoted" \\ <b>&amp; é 漢|\x7f'

# The gateway checks the first bytes and the size.
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(112)
IMAGE_TEXT = base64.b64encode(IMAGE).decode()
IMAGE_FILE = os.path.join(os.environ["HOME"], "captcha.png")
SMALL_FILE = os.path.join(os.environ["HOME"], "small.png")

checks = []


def check(name):
    """Registers a check. Its printed name is the legacy method or action, then details."""

    def register(function):
        checks.append((name, function))
        return function

    return register


def options(key=KEY, **more):
    # The library has no timeout for a single request; run.sh limits the whole script.
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


def assert_equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")


def assert_money(got, wanted):
    # The protocol prints four decimals.
    if not isinstance(got, float) or abs(got - wanted) > 0.00006:
        raise AssertionError(f"got {got!r}, not {wanted:.4f}")


def assert_token(result):
    assert_equal(sorted(result), ["captchaId", "code"])
    if not re.fullmatch(r"SANDBOX-[0-9a-f-]{36}", result["code"]):
        raise AssertionError(f"{result['code']!r} is not a token")
    assert_id(result["captchaId"])


def assert_text(result):
    assert_equal(sorted(result), ["captchaId", "code"])
    assert_equal(result["code"], "SANDBOX")
    assert_id(result["captchaId"])


def assert_id(text):
    # Some clients store the id as a number, as the legacy service issues it.
    if not re.fullmatch(r"[0-9]+", text):
        raise AssertionError(f"{text!r} is not an id")


def assert_refused(wanted, call):
    """Asserts that the call raises the library's exception for a refusal, with exactly this code."""
    try:
        result = call()
    except ApiException as error:
        assert_equal(str(error), wanted)
    else:
        raise AssertionError(f"got {result!r}, no exception")


def assert_reported_once(solver, number, correct):
    """Asserts that a report is recorded, that repeating it succeeds, and that the opposite report is a duplicate."""
    assert_equal(solver.report(number, correct), "OK_REPORT_RECORDED")
    assert_equal(solver.report(number, correct), "OK_REPORT_RECORDED")
    assert_refused("ERROR_DUPLICATE_REPORT", lambda: solver.report(number, not correct))


def assert_async_refused(wanted, call):
    assert_refused(wanted, lambda: asyncio.run(call()))


@check("getbalance")
def _():
    assert_money(client("clients-rich").balance(), BALANCE)


@check("getbalance, after a solved task")
def _():
    payer = client("clients-payer")
    assert_text(payer.normal(IMAGE_FILE))
    assert_money(payer.balance(), BALANCE - COST)


@check("post, file")
def _():
    assert_text(client().normal(IMAGE_FILE))


@check("base64, text")
def _():
    assert_text(client().normal(IMAGE_TEXT))


@check("post, all options")
def _():
    more = {"phrase": 1, "numeric": 4, "minLen": 4, "maxLen": 20, "caseSensitive": 1, "calc": 0, "lang": "en"}
    assert_text(client().normal(IMAGE_FILE, hintText="röd & blå", **more))


@check("post, hint image")
def _():
    assert_text(client().normal(IMAGE_FILE, hintImg=IMAGE_FILE))


@check("userrecaptcha")
def _():
    assert_token(client().recaptcha(sitekey="plain", url=PAGE))


@check("userrecaptcha, invisible")
def _():
    assert_token(client().recaptcha(sitekey="invisible", url=PAGE, invisible=1))


@check("userrecaptcha enterprise=1")
def _():
    assert_token(client().recaptcha(sitekey="enterprise", url=PAGE, enterprise=1))


@check("userrecaptcha, data-s, cookies, user agent and domain")
def _():
    more = {"datas": "a+b/c==", "cookies": "A:1;B:2;", "userAgent": "Agent/1.0 (x; y)", "domain": "recaptcha.net"}
    assert_token(client().recaptcha(sitekey="details", url=PAGE + "?a=1&b=2#c", **more))


@check("userrecaptcha, proxy")
def _():
    proxy = {"type": "HTTPS", "uri": "login:p@ss@127.0.0.1:3128"}
    assert_token(client().recaptcha(sitekey="proxy", url=PAGE, proxy=proxy))


@check("userrecaptcha, malformed proxy")
def _():
    # A gateway that dropped the proxy would solve this task.
    proxy = {"type": "HTTP", "uri": "nowhere"}
    assert_refused("ERROR_PROXY_FORMAT", lambda: client().recaptcha(sitekey="proxy", url=PAGE, proxy=proxy))


@check("userrecaptcha version=v3")
def _():
    assert_token(client().recaptcha(sitekey="three", url=PAGE, version="v3", action="login", score=0.7))


@check("userrecaptcha version=v3, enterprise")
def _():
    assert_token(client().recaptcha(sitekey="three", url=PAGE, version="v3", enterprise=1))


@check("userrecaptcha, answer with pipes, quotes and letters beyond ASCII")
def _():
    assert_equal(client().recaptcha(sitekey="sandbox-odd-answer", url=PAGE)["code"], ODD_ANSWER)


@check("reportgood, and reportbad, of userrecaptcha")
def _():
    solver = client()
    for correct in (True, False):
        assert_reported_once(solver, solver.recaptcha(sitekey="plain", url=PAGE)["captchaId"], correct)


@check("reportbad, and reportgood, of base64")
def _():
    # Images are answered inside createTask, so the gateway never polls for them.
    solver = client()
    for correct in (True, False):
        assert_reported_once(solver, solver.normal(IMAGE_TEXT)["captchaId"], correct)


@check("userrecaptcha, unsolvable task")
def _():
    assert_refused("ERROR_CAPTCHA_UNSOLVABLE", lambda: client().recaptcha(sitekey="sandbox-unsolvable", url=PAGE))


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
    assert_refused("ERROR_KEY_DOES_NOT_EXIST", stranger.balance)
    assert_refused("ERROR_KEY_DOES_NOT_EXIST", lambda: stranger.recaptcha(sitekey="plain", url=PAGE))


@check("post, malformed key")
def _():
    assert_refused("ERROR_WRONG_USER_KEY", lambda: client("sandbox-key-wrong").normal(IMAGE_FILE))


@check("getbalance, no money, and on submit")
def _():
    poor = client("sandbox-zero-balance")
    assert_money(poor.balance(), 0.0)
    assert_refused("ERROR_ZERO_BALANCE", lambda: poor.normal(IMAGE_TEXT))


@check("userrecaptcha, refused parameters")
def _():
    assert_refused("ERROR_PAGEURL", lambda: client().recaptcha(sitekey="plain", url="example"))
    assert_refused("ERROR_ZERO_CAPTCHA_FILESIZE", lambda: client().normal(SMALL_FILE))


@check("get, unknown id")
def _():
    assert_refused("ERROR_WRONG_CAPTCHA_ID", lambda: client().get_result("1"))


@check("get, not ready")
def _():
    solver = client()
    number = solver.send(method="userrecaptcha", googlekey="sandbox-never", url=PAGE)
    assert_id(number)
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
    assert_token({"captchaId": number, "code": code})
    # The answer can be fetched again.
    assert_equal(solver.get_result(number), code)


@check("userrecaptcha, extended response")
def _():
    solver = client(extendedResponse=True)
    assert_token(solver.recaptcha(sitekey="plain", url=PAGE))
    assert_text(solver.normal(IMAGE_FILE))
    assert_equal(solver.recaptcha(sitekey="sandbox-odd-answer", url=PAGE)["code"], ODD_ANSWER)


@check("userrecaptcha, extended response of an unsolvable task")
def _():
    # The library raises the whole body if it contains ERROR.
    assert_refused(
        '{"status":0,"request":"ERROR_CAPTCHA_UNSOLVABLE"}',
        lambda: client(extendedResponse=True).recaptcha(sitekey="sandbox-unsolvable", url=PAGE),
    )


@check("getbalance, asynchronous")
def _():
    assert_money(asyncio.run(async_client("clients-async").balance()), BALANCE)


@check("post, and base64, asynchronous")
def _():
    assert_text(asyncio.run(async_client().normal(IMAGE_FILE)))
    assert_text(asyncio.run(async_client().normal(IMAGE_TEXT)))


@check("userrecaptcha, asynchronous")
def _():
    assert_token(asyncio.run(async_client().recaptcha(sitekey="plain", url=PAGE)))


@check("userrecaptcha, asynchronous, extended response")
def _():
    assert_token(asyncio.run(async_client(extendedResponse=True).recaptcha(sitekey="plain", url=PAGE)))


@check("userrecaptcha, asynchronous, unsolvable task")
def _():
    assert_async_refused(
        "ERROR_CAPTCHA_UNSOLVABLE", lambda: async_client().recaptcha(sitekey="sandbox-unsolvable", url=PAGE)
    )


@check("userrecaptcha, asynchronous, ten at once, and a report")
def _():
    async def ten():
        solver = async_client()
        solved = await asyncio.gather(*(solver.recaptcha(sitekey="plain", url=PAGE) for _ in range(10)))
        report = await solver.report(solved[0]["captchaId"], True)
        return solved, report

    solved, report = asyncio.run(ten())
    for result in solved:
        assert_token(result)
    assert_equal(len({result["code"] for result in solved}), 10)
    assert_equal(report, "OK_REPORT_RECORDED")


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
            message = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
            # repr() keeps the message on one line.
            print(f"FAIL 2captcha-python: {name}: {message!r}", flush=True)
        else:
            print(f"ok   2captcha-python: {name}", flush=True)
    sys.exit(1 if failures else 0)


main()
