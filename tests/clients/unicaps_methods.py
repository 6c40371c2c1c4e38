"""unicaps, unmodified: every method of its synchronous and asynchronous solver.

It sends HTTPS to 2captcha.com (here: synchronous) or rucaptcha.com (here: asynchronous), always asks for JSON, and
polls with get2. For some methods it waits 20 seconds before its first poll.
"""

import io
import pathlib

from unicaps import AsyncCaptchaSolver, CaptchaSolver, CaptchaSolvingService
from unicaps.captcha import RecaptchaV2
from unicaps.proxy import ProxyServer

from support import (
    AGENT, IMAGE, KEY, PAGE, Checks, assert_covers, assert_equal, assert_id, assert_money, assert_text,
    assert_token, public, redirect_to_gateway, sample,
)

redirect_to_gateway()

# Price of a solved task.
COST = 0.00299
OWN = {"proxy": ProxyServer("http://login:pass@127.0.0.1:3128"), "user_agent": AGENT, "cookies": {"A": "1", "B": "2"}}
SITE = {"site_key": "plain", "page_url": PAGE}
KEYCAPTCHA = dict.fromkeys(("user_id", "session_id", "ws_sign", "ws_sign2"), "k")
TIKTOK = {"page_url": "https://www.tiktok.com/login/phone-or-email/email"}

# Printed name, method, arguments, members of the solution.
METHODS = [
    ("base64", "solve_image_captcha", {"image": IMAGE}, ["text"]),
    ("base64, file", "solve_image_captcha", {"image": pathlib.Path(sample("captcha.png"))}, ["text"]),
    (
        "base64, options",
        "solve_image_captcha",
        {"image": io.BytesIO(IMAGE), "is_phrase": True, "min_len": 3, "max_len": 9, "comment": "röd"},
        ["text"],
    ),
    ("textcaptcha", "solve_text_captcha", {"text": "What comes after red & blå?"}, ["text"]),
    ("userrecaptcha", "solve_recaptcha_v2", SITE, ["token"]),
    ("userrecaptcha, data-s", "solve_recaptcha_v2", SITE | {"is_invisible": True, "data_s": "a+b"}, ["token"]),
    ("userrecaptcha, proxy, agent and cookies", "solve_recaptcha_v2", SITE | OWN, ["token"]),
    ("userrecaptcha enterprise=1", "solve_recaptcha_v2", SITE | {"is_enterprise": True}, ["token"]),
    ("userrecaptcha version=v3", "solve_recaptcha_v3", SITE | {"action": "go", "min_score": 0.7}, ["token"]),
    ("userrecaptcha version=v3, enterprise", "solve_recaptcha_v3", SITE | {"is_enterprise": True}, ["token"]),
    ("hcaptcha", "solve_hcaptcha", SITE, ["token"]),
    ("hcaptcha, proxy", "solve_hcaptcha", SITE | {"api_domain": "js.hcaptcha.com"} | OWN, ["token"]),
    ("funcaptcha", "solve_funcaptcha", {"public_key": "f", "page_url": PAGE}, ["token"]),
    (
        "funcaptcha, blob and proxy",
        "solve_funcaptcha",
        {"public_key": "f", "page_url": PAGE, "service_url": "https://client-api.arkoselabs.com", "blob": "b"} | OWN,
        ["token"],
    ),
    ("keycaptcha", "solve_keycaptcha", {"page_url": PAGE} | KEYCAPTCHA, ["token"]),
    (
        "geetest",
        "solve_geetest",
        {"page_url": PAGE, "gt_key": "g", "challenge": "c", "api_server": "api-na.geetest.com"},
        ["challenge", "validate", "seccode"],
    ),
    (
        "geetest_v4",
        "solve_geetest_v4",
        {"page_url": PAGE, "captcha_id": "c"},
        ["captcha_id", "lot_number", "pass_token", "gen_time", "captcha_output"],
    ),
    ("capy", "solve_capy_puzzle", SITE, ["captchakey", "challengekey", "answer"]),
    (
        "capy, proxy",
        "solve_capy_puzzle",
        SITE | {"api_server": "https://jp.api.capy.me/"} | OWN,
        ["captchakey", "challengekey", "answer"],
    ),
    ("tiktok", "solve_tiktok", TIKTOK, ["cookies"]),
]
# The legacy service withdrew this method, and the gateway refuses it.
LACKING = {"tiktok": "ERROR_BAD_PARAMETERS"}
OTHERS = {"create_task", "get_balance", "get_status", "close"}


def assert_solved(result, members):
    assert_id(result.captcha_id)
    solution = result.solution.as_dict()
    assert_equal(sorted(solution), sorted(members))
    for name, value in solution.items():
        if name == "token":
            assert_token(value)
        elif name == "text":
            assert_text(value)
        elif not value or not isinstance(value, str):
            raise AssertionError(f"{name} is empty in {solution!r}")
    if result.cost is None or abs(result.cost - COST) > 0.00006:
        raise AssertionError(f"the price is {result.cost!r}, not {COST}")


def solver():
    return CaptchaSolver(CaptchaSolvingService.TWOCAPTCHA, KEY)


def async_solver():
    return AsyncCaptchaSolver(CaptchaSolvingService.RUCAPTCHA, KEY)


checks = Checks("unicaps")
for kind in (CaptchaSolver, AsyncCaptchaSolver):
    assert_covers(public(kind), {method for _, method, _, _ in METHODS} | OTHERS)


def add(name, method, arguments, members):
    def synchronous():
        with solver() as one:
            result = getattr(one, method)(**arguments)
            assert_solved(result, members)

    async def asynchronous():
        async with async_solver() as one:
            assert_solved(await getattr(one, method)(**arguments), members)

    # A BytesIO can be read only once.
    if not isinstance(arguments.get("image"), io.BytesIO):
        checks.add(f"{name}, asynchronous", asynchronous, LACKING.get(name))
    checks.add(f"{name}, synchronous", synchronous, LACKING.get(name))


for row in METHODS:
    add(*row)


def report(name):
    with solver() as one:
        result = one.solve_image_captcha(IMAGE)
        assert_equal(getattr(result, name)(raise_exc=True), True)


async def async_report(name):
    async with async_solver() as one:
        result = await one.solve_image_captcha(IMAGE)
        assert_equal(await getattr(result, name)(raise_exc=True), True)


async def async_report_good():
    await async_report("report_good")


async def async_report_bad():
    await async_report("report_bad")


def balance():
    with solver() as one:
        assert_money(one.get_balance())
        assert_equal(one.get_status(), True)


async def async_balance():
    async with async_solver() as one:
        assert_money(await one.get_balance())
        assert_equal(await one.get_status(), True)


def task():
    with solver() as one:
        created = one.create_task(RecaptchaV2("plain", PAGE))
        assert_id(created.task_id)
        assert_equal(created.is_done(), False)
        solution, _, _ = created.wait()
        assert_token(solution.token)
        assert_equal(created.is_done(), True)


async def async_task():
    async with async_solver() as one:
        created = await one.create_task(RecaptchaV2("plain", PAGE))
        solution, _, _ = await created.wait()
        assert_token(solution.token)


checks.add("getbalance, synchronous", balance)
checks.add("getbalance, asynchronous", async_balance)
checks.add("get2, synchronous", task)
checks.add("get2, asynchronous", async_task)
checks.add("reportgood, synchronous", lambda: report("report_good"))
checks.add("reportbad, synchronous", lambda: report("report_bad"))
checks.add("reportgood, asynchronous", async_report_good)
checks.add("reportbad, asynchronous", async_report_bad)
checks.run()
