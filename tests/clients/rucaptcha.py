"""python-rucaptcha, unmodified, in its last release that speaks in.php and res.php: every class and handler.

It speaks clear HTTP to 2captcha.com (here: synchronous) or rucaptcha.com (here: asynchronous).
"""

import base64
import importlib
import inspect
import pkgutil

import python_rucaptcha
from python_rucaptcha.core.base import BaseCaptcha
from python_rucaptcha.core.enums import ControlEnm

from support import (
    AUDIO_TEXT, IMAGE, KEY, PAGE, Checks, covers, is_amazon, is_angle, is_capy, is_geetest, is_geetest_v4,
    is_id, is_lemin, is_money, is_text, is_token, lead_to_gateway, looks_like, sample,
)

lead_to_gateway()

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

# What is printed, class, its arguments, the handler's arguments, check of the answer.
METHODS = [
    ("base64", "ImageCaptcha", {}, {"captcha_file": IMAGE_FILE}, is_text),
    ("base64, bytes", "ImageCaptcha", {"phrase": 1, "regsense": 1}, {"captcha_base64": IMAGE}, is_text),
    ("textcaptcha", "TextCaptcha", {"language": 2}, {"textcaptcha": "What comes after red & blå?"}, is_text),
    ("userrecaptcha", "ReCaptcha", RECAPTCHA, {}, is_token),
    ("userrecaptcha, invisible", "ReCaptcha", RECAPTCHA | {"invisible": 1}, {}, is_token),
    ("userrecaptcha, proxy", "ReCaptcha", RECAPTCHA | PROXY, {}, is_token),
    ("userrecaptcha enterprise=1", "ReCaptcha", RECAPTCHA | {"enterprise": 1}, {}, is_token),
    ("userrecaptcha version=v3", "ReCaptcha", RECAPTCHA | {"version": "v3", "min_score": 0.3}, {}, is_token),
    ("hcaptcha", "HCaptcha", SITE, {}, is_token),
    ("hcaptcha, proxy", "HCaptcha", SITE | PROXY, {}, is_token),
    ("turnstile", "Turnstile", SITE, {}, is_token),
    ("funcaptcha", "FunCaptcha", {"publickey": "f", "pageurl": PAGE}, {}, is_token),
    ("geetest", "GeeTest", {"gt": "g", "pageurl": PAGE, "method": "geetest"}, {"challenge": "c"}, is_geetest),
    (
        "geetest_v4",
        "GeeTest",
        {"captcha_id": "c", "pageurl": PAGE, "method": "geetest_v4"},
        {},
        is_geetest_v4,
    ),
    ("keycaptcha", "KeyCaptcha", {"pageurl": PAGE} | dict.fromkeys(KEYCAPTCHA, "k"), {}, is_token),
    ("capy", "CapyPuzzle", {"captchakey": "c", "pageurl": PAGE}, {}, is_capy),
    ("lemin", "LeminCroppedCaptcha", {"captcha_id": "c", "div_id": "d", "pageurl": PAGE}, {}, is_lemin),
    ("amazon_waf", "AmazonWAF", SITE | {"iv": "i", "context": "c"}, {}, is_amazon),
    ("yandex", "YandexSmartCaptcha", SITE, {}, is_token),
    ("rotatecaptcha", "RotateCaptcha", {}, {"captcha_file": IMAGE_FILE}, is_angle),
    ("rotatecaptcha, bytes", "RotateCaptcha", {"angle": 40}, {"captcha_base64": IMAGE}, is_angle),
    ("audio", "AudioCaptcha", {"lang": "en"}, {"captcha_file": AUDIO_FILE}, is_text),
    ("audio, bytes", "AudioCaptcha", {"lang": "en"}, {"captcha_base64": AUDIO}, is_text),
]

# This one raises a DeprecationWarning instead of asking anything.
WITHDRAWN = {"TikTokCaptcha"}
# The code by which the gateway says that it delivers no pingback.
NO_PINGBACK = "ERROR_BAD_PARAMETERS"


def make(name, service, **arguments):
    # The least that it takes is six seconds.
    return classes[name](rucaptcha_key=KEY, service_type=service, sleep_time=6, **arguments)


def is_result(result, is_answer):
    if result["error"]:
        raise AssertionError(f"it says {result['errorBody']}")
    is_answer(result["captchaSolve"])
    return result


def solved(service):
    """The id of a solved task."""
    result = is_result(make("ReCaptcha", service, **RECAPTCHA).captcha_handler(), is_token)
    is_id(result["taskId"])
    return str(result["taskId"])


def control(service, action):
    return make("Control", service, action=action)


checks = Checks("python-rucaptcha")
covers(classes, {name for _, name, *_ in METHODS} | {"Control"} | WITHDRAWN)
covers(
    ControlEnm.list_values(),
    # The first two are no action of its own and what the classes above use.
    {"control", "get", "getbalance", "get2", "reportgood", "reportbad", "add_pingback", "get_pingback", "del_pingback"},
)


def add(name, kind, arguments, handled, is_answer):
    def synchronous():
        is_result(make(kind, "2captcha", **arguments).captcha_handler(**handled), is_answer)

    async def asynchronous():
        is_result(await make(kind, "rucaptcha", **arguments).aio_captcha_handler(**handled), is_answer)

    checks.add(f"{name}, synchronous", synchronous)
    checks.add(f"{name}, asynchronous", asynchronous)


for row in METHODS:
    add(*row)


def is_balance(answer):
    is_money(float(answer))


def add_pingback(action):
    def synchronous():
        is_result(control("2captcha", action).domain_control(addr="http://example.com/done"), looks_like(".*"))

    async def asynchronous():
        result = await control("rucaptcha", action).aio_domain_control(addr="http://example.com/done")
        is_result(result, looks_like(".*"))

    checks.add(f"{action}, synchronous", synchronous, NO_PINGBACK)
    checks.add(f"{action}, asynchronous", asynchronous, NO_PINGBACK)


def add_report(action):
    recorded = looks_like("OK_REPORT_RECORDED")

    async def asynchronous():
        task = await make("ReCaptcha", "rucaptcha", **RECAPTCHA).aio_captcha_handler()
        is_result(await control("rucaptcha", action).aio_report(id=str(task["taskId"])), recorded)

    checks.add(
        f"{action}, synchronous",
        lambda: is_result(control("2captcha", action).report(id=solved("2captcha")), recorded),
    )
    checks.add(f"{action}, asynchronous", asynchronous)


async def balance():
    is_result(await control("rucaptcha", "getbalance").aio_additional_methods(), is_balance)


def many():
    ids = f"{solved('2captcha')},{solved('2captcha')}"
    is_result(control("2captcha", "get").additional_methods(ids=ids), looks_like(r"{}\|{}"))


checks.add(
    "getbalance, synchronous",
    lambda: is_result(control("2captcha", "getbalance").additional_methods(), is_balance),
)
checks.add("getbalance, asynchronous", balance)
checks.add(
    "get2, synchronous",
    lambda: is_result(control("2captcha", "get2").additional_methods(id=solved("2captcha")), is_token),
)
checks.add("get ids=, synchronous", many)
for action in ("reportgood", "reportbad"):
    add_report(action)
for action in ("add_pingback", "get_pingback", "del_pingback"):
    add_pingback(action)
checks.run()
