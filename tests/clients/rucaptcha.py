"""python-rucaptcha, unmodified, in its last release for in.php and res.php: every class and handler.

It sends plain HTTP to 2captcha.com (here: synchronous) or rucaptcha.com (here: asynchronous).
"""

import base64
import importlib
import inspect
import pkgutil

import python_rucaptcha
from python_rucaptcha.core.base import BaseCaptcha
from python_rucaptcha.core.enums import ControlEnm

from support import (
    AUDIO_TEXT, IMAGE, KEY, PAGE, Checks, assert_amazon, assert_angle, assert_capy, assert_covers, assert_geetest,
    assert_geetest_v4, assert_id, assert_lemin, assert_matches, assert_money, assert_text, assert_token,
    redirect_to_gateway, sample,
)

redirect_to_gateway()

PROXY = {"proxy": "login:p@ss@127.0.0.1:3128", "proxytype": "HTTP"}
SITE = {"sitekey": "plain", "pageurl": PAGE}
RECAPTCHA = {"googlekey": "plain", "pageurl": PAGE}
KEYCAPTCHA = ("s_s_c_user_id", "s_s_c_session_id", "s_s_c_web_server_sign", "s_s_c_web_server_sign2")
AUDIO = base64.b64decode(AUDIO_TEXT)
IMAGE_FILE = sample("captcha.png")
AUDIO_FILE = sample("captcha.mp3", AUDIO)

classes = {}
for module in pkgutil.iter_modules(python_rucaptcha.__path__):
    if module.name in ("core", "SocketAPI"):
        continue
    for name, kind in inspect.getmembers(importlib.import_module(f"python_rucaptcha.{module.name}"), inspect.isclass):
        if issubclass(kind, BaseCaptcha) and kind is not BaseCaptcha:
            classes[name] = kind

# Printed name, class, its arguments, the handler's arguments, assertion on the answer.
METHODS = [
    ("base64", "ImageCaptcha", {}, {"captcha_file": IMAGE_FILE}, assert_text),
    ("base64, bytes", "ImageCaptcha", {"phrase": 1, "regsense": 1}, {"captcha_base64": IMAGE}, assert_text),
    ("textcaptcha", "TextCaptcha", {"language": 2}, {"textcaptcha": "What comes after red & blå?"}, assert_text),
    ("userrecaptcha", "ReCaptcha", RECAPTCHA, {}, assert_token),
    ("userrecaptcha, invisible", "ReCaptcha", RECAPTCHA | {"invisible": 1}, {}, assert_token),
    ("userrecaptcha, proxy", "ReCaptcha", RECAPTCHA | PROXY, {}, assert_token),
    ("userrecaptcha enterprise=1", "ReCaptcha", RECAPTCHA | {"enterprise": 1}, {}, assert_token),
    ("userrecaptcha version=v3", "ReCaptcha", RECAPTCHA | {"version": "v3", "min_score": 0.3}, {}, assert_token),
    ("hcaptcha", "HCaptcha", SITE, {}, assert_token),
    ("hcaptcha, proxy", "HCaptcha", SITE | PROXY, {}, assert_token),
    ("turnstile", "Turnstile", SITE, {}, assert_token),
    ("funcaptcha", "FunCaptcha", {"publickey": "f", "pageurl": PAGE}, {}, assert_token),
    ("geetest", "GeeTest", {"gt": "g", "pageurl": PAGE, "method": "geetest"}, {"challenge": "c"}, assert_geetest),
    (
        "geetest_v4",
        "GeeTest",
        {"captcha_id": "c", "pageurl": PAGE, "method": "geetest_v4"},
        {},
        assert_geetest_v4,
    ),
    ("keycaptcha", "KeyCaptcha", {"pageurl": PAGE} | dict.fromkeys(KEYCAPTCHA, "k"), {}, assert_token),
    ("capy", "CapyPuzzle", {"captchakey": "c", "pageurl": PAGE}, {}, assert_capy),
    ("lemin", "LeminCroppedCaptcha", {"captcha_id": "c", "div_id": "d", "pageurl": PAGE}, {}, assert_lemin),
    ("amazon_waf", "AmazonWAF", SITE | {"iv": "i", "context": "c"}, {}, assert_amazon),
    ("yandex", "YandexSmartCaptcha", SITE, {}, assert_token),
    ("rotatecaptcha", "RotateCaptcha", {}, {"captcha_file": IMAGE_FILE}, assert_angle),
    ("rotatecaptcha, bytes", "RotateCaptcha", {"angle": 40}, {"captcha_base64": IMAGE}, assert_angle),
    ("audio", "AudioCaptcha", {"lang": "en"}, {"captcha_file": AUDIO_FILE}, assert_text),
    ("audio, bytes", "AudioCaptcha", {"lang": "en"}, {"captcha_base64": AUDIO}, assert_text),
]

# This class raises a DeprecationWarning and sends nothing.
WITHDRAWN = {"TikTokCaptcha"}
# The code with which the gateway refuses the pingback actions.
NO_PINGBACK = "ERROR_BAD_PARAMETERS"


def make(name, service, **arguments):
    # The library accepts no less than six seconds.
    return classes[name](rucaptcha_key=KEY, service_type=service, sleep_time=6, **arguments)


def assert_result(result, assert_answer):
    if result["error"]:
        raise AssertionError(f"error: {result['errorBody']}")
    assert_answer(result["captchaSolve"])
    return result


def solved(service):
    """Solves a task and returns its id."""
    result = assert_result(make("ReCaptcha", service, **RECAPTCHA).captcha_handler(), assert_token)
    assert_id(result["taskId"])
    return str(result["taskId"])


def control(service, action):
    return make("Control", service, action=action)


checks = Checks("python-rucaptcha")
assert_covers(classes, {name for _, name, *_ in METHODS} | {"Control"} | WITHDRAWN)
assert_covers(
    ControlEnm.list_values(),
    # `control` is not an action, and `get` is the action of the classes above.
    {"control", "get", "getbalance", "get2", "reportgood", "reportbad", "add_pingback", "get_pingback", "del_pingback"},
)


def add(name, kind, arguments, handler_arguments, assert_answer):
    def synchronous():
        assert_result(make(kind, "2captcha", **arguments).captcha_handler(**handler_arguments), assert_answer)

    async def asynchronous():
        result = await make(kind, "rucaptcha", **arguments).aio_captcha_handler(**handler_arguments)
        assert_result(result, assert_answer)

    checks.add(f"{name}, synchronous", synchronous)
    checks.add(f"{name}, asynchronous", asynchronous)


for row in METHODS:
    add(*row)


def assert_balance(answer):
    assert_money(float(answer))


def add_pingback(action):
    def synchronous():
        assert_result(control("2captcha", action).domain_control(addr="http://example.com/done"), assert_matches(".*"))

    async def asynchronous():
        result = await control("rucaptcha", action).aio_domain_control(addr="http://example.com/done")
        assert_result(result, assert_matches(".*"))

    checks.add(f"{action}, synchronous", synchronous, NO_PINGBACK)
    checks.add(f"{action}, asynchronous", asynchronous, NO_PINGBACK)


def add_report(action):
    recorded = assert_matches("OK_REPORT_RECORDED")

    async def asynchronous():
        task = await make("ReCaptcha", "rucaptcha", **RECAPTCHA).aio_captcha_handler()
        assert_result(await control("rucaptcha", action).aio_report(id=str(task["taskId"])), recorded)

    checks.add(
        f"{action}, synchronous",
        lambda: assert_result(control("2captcha", action).report(id=solved("2captcha")), recorded),
    )
    checks.add(f"{action}, asynchronous", asynchronous)


async def balance():
    assert_result(await control("rucaptcha", "getbalance").aio_additional_methods(), assert_balance)


def many():
    ids = f"{solved('2captcha')},{solved('2captcha')}"
    assert_result(control("2captcha", "get").additional_methods(ids=ids), assert_matches(r"{}\|{}"))


checks.add(
    "getbalance, synchronous",
    lambda: assert_result(control("2captcha", "getbalance").additional_methods(), assert_balance),
)
checks.add("getbalance, asynchronous", balance)
checks.add(
    "get2, synchronous",
    lambda: assert_result(control("2captcha", "get2").additional_methods(id=solved("2captcha")), assert_token),
)
checks.add("get ids=, synchronous", many)
for action in ("reportgood", "reportbad"):
    add_report(action)
for action in ("add_pingback", "get_pingback", "del_pingback"):
    add_pingback(action)
checks.run()
