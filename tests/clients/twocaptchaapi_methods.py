"""twocaptchaapi, unmodified: every method, over plain HTTP to 2captcha.com."""

import datetime
import time

from twocaptchaapi import Captcha, OperationFailedError, TwoCaptchaApi

from support import (
    KEY, Checks, assert_covers, assert_id, assert_money, assert_text, public, redirect_to_gateway, sample,
)

redirect_to_gateway()
FILE = sample("captcha.png")

checks = Checks("twocaptchaapi")
# The other methods are built on the first two.
assert_covers(public(TwoCaptchaApi), {"get", "post", "get_balance", "get_stats", "get_load", "solve"})
assert_covers(public(Captcha), {"try_get_result", "await_result", "report_bad"})


def api(key=KEY):
    return TwoCaptchaApi(key)


def step_by_step():
    captcha = api().solve(FILE)
    assert_id(captcha.captcha_id)
    for _ in range(100):
        answer = captcha.try_get_result()
        if answer is not None:
            assert_text(answer)
            return
        time.sleep(0.1)
    raise AssertionError("never ready")


def report():
    captcha = api().solve(FILE)
    assert_text(captcha.await_result(0.5))
    captcha.report_bad()


def without_money():
    try:
        api("sandbox-zero-balance").solve(FILE)
    except OperationFailedError as error:
        if "ERROR_ZERO_BALANCE" not in str(error):
            raise
        return
    raise AssertionError("no exception")


def assert_xml(text):
    # The library returns the body of any answer.
    if not text.lstrip().startswith("<"):
        raise AssertionError(f"not XML: {text}")


def with_options():
    with open(FILE, "rb") as file:
        assert_text(api().solve(file, {"method": "post", "phrase": 1, "regsense": 1}).await_result(0.5))


checks.add("post", lambda: assert_text(api().solve(FILE).await_result(0.5)))
checks.add("post, file object and options", with_options)
checks.add("post, no money", without_money)
checks.add("get", step_by_step)
checks.add("reportbad", report)
checks.add("getbalance", lambda: assert_money(api().get_balance()))
# The gateway supports neither.
checks.add("getstats", lambda: assert_xml(api().get_stats(datetime.date(2024, 1, 31))), "ERROR_BAD_PARAMETERS")
checks.add("load.php", lambda: assert_xml(api().get_load()), "no such path")
checks.run()
