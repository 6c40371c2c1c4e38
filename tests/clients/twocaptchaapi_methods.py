"""twocaptchaapi, unmodified: every method that it offers, in clear to 2captcha.com."""

import datetime
import time

from twocaptchaapi import Captcha, OperationFailedError, TwoCaptchaApi

from support import KEY, Checks, covers, is_id, is_money, is_text, lead_to_gateway, public, sample

lead_to_gateway()
FILE = sample("captcha.png")

checks = Checks("twocaptchaapi")
# The first two send what the others make.
covers(public(TwoCaptchaApi), {"get", "post", "get_balance", "get_stats", "get_load", "solve"})
covers(public(Captcha), {"try_get_result", "await_result", "report_bad"})


def api(key=KEY):
    return TwoCaptchaApi(key)


def step_by_step():
    captcha = api().solve(FILE)
    is_id(captcha.captcha_id)
    for _ in range(100):
        answer = captcha.try_get_result()
        if answer is not None:
            is_text(answer)
            return
        time.sleep(0.1)
    raise AssertionError("never ready")


def report():
    captcha = api().solve(FILE)
    is_text(captcha.await_result(0.5))
    captcha.report_bad()


def without_money():
    try:
        api("sandbox-zero-balance").solve(FILE)
    except OperationFailedError as error:
        if "ERROR_ZERO_BALANCE" not in str(error):
            raise
        return
    raise AssertionError("no exception")


def is_xml(text):
    # The library hands on whatever the server said.
    if not text.lstrip().startswith("<"):
        raise AssertionError(f"it says {text}")


def with_options():
    with open(FILE, "rb") as file:
        is_text(api().solve(file, {"method": "post", "phrase": 1, "regsense": 1}).await_result(0.5))


checks.add("post", lambda: is_text(api().solve(FILE).await_result(0.5)))
checks.add("post, file object and options", with_options)
checks.add("post, no money", without_money)
checks.add("get", step_by_step)
checks.add("reportbad", report)
checks.add("getbalance", lambda: is_money(api().get_balance()))
# The gateway offers neither.
checks.add("getstats", lambda: is_xml(api().get_stats(datetime.date(2024, 1, 31))), "ERROR_BAD_PARAMETERS")
checks.add("load.php", lambda: is_xml(api().get_load()), "no such path")
checks.run()
