"""2captcha-python, unmodified: every method that it offers, synchronous, asynchronous and with its extended response.

The library's acceptance is the judge; the answer is looked at as well.
"""

import os

from twocaptcha import AsyncTwoCaptcha, NetworkException, TwoCaptcha

from support import (
    AGENT, AUDIO_TEXT, IMAGE_TEXT, KEY, PAGE, Checks, covers, equal, is_amazon, is_angle, is_capy, is_cells,
    is_geetest, is_geetest_v4, is_id, is_lemin, is_lines, is_money, is_points, is_tencent, is_text, is_token,
    is_vkimage, looks_like, public, sample,
)

PROXY = {"type": "HTTP", "uri": "login:p@ss@127.0.0.1:3128"}
FILE = sample("captcha.png")
FILES = [FILE, sample("second.png")]
SITE = {"sitekey": "plain", "url": PAGE}
KEYCAPTCHA = ("s_s_c_user_id", "s_s_c_session_id", "s_s_c_web_server_sign", "s_s_c_web_server_sign2")

# What is printed, method of the library, arguments, check of the answer.
SHARED = [
    ("post", "normal", {"file": FILE}, is_text),
    ("base64", "normal", {"file": IMAGE_TEXT}, is_text),
    ("textcaptcha", "text", {"text": "What comes after red & blå?"}, is_text),
    ("userrecaptcha", "recaptcha", SITE, is_token),
    ("userrecaptcha, invisible", "recaptcha", SITE | {"invisible": 1}, is_token),
    ("userrecaptcha, proxy", "recaptcha", SITE | {"proxy": PROXY}, is_token),
    ("userrecaptcha enterprise=1", "recaptcha", SITE | {"enterprise": 1}, is_token),
    ("userrecaptcha enterprise=1, proxy", "recaptcha", SITE | {"enterprise": 1, "proxy": PROXY}, is_token),
    ("userrecaptcha version=v3", "recaptcha", SITE | {"version": "v3", "score": 0.7, "action": "go"}, is_token),
    ("userrecaptcha version=v3, enterprise", "recaptcha", SITE | {"version": "v3", "enterprise": 1}, is_token),
    ("hcaptcha", "hcaptcha", SITE, is_token),
    ("hcaptcha, proxy", "hcaptcha", SITE | {"invisible": 1, "data": "rq", "proxy": PROXY}, is_token),
    ("turnstile", "turnstile", SITE, is_token),
    ("turnstile, proxy", "turnstile", SITE | {"action": "a", "data": "d", "pagedata": "p", "proxy": PROXY}, is_token),
    ("funcaptcha", "funcaptcha", SITE, is_token),
    (
        "funcaptcha, blob and proxy",
        "funcaptcha",
        SITE | {"surl": "https://client-api.arkoselabs.com", "data[blob]": "b", "proxy": PROXY},
        is_token,
    ),
    ("geetest", "geetest", {"gt": "g", "challenge": "c", "url": PAGE}, is_geetest),
    (
        "geetest, proxy",
        "geetest",
        {"gt": "g", "challenge": "c", "url": PAGE, "apiServer": "api-na.geetest.com", "proxy": PROXY},
        is_geetest,
    ),
    ("geetest_v4", "geetest_v4", {"captcha_id": "c", "url": PAGE}, is_geetest_v4),
    ("geetest_v4, proxy", "geetest_v4", {"captcha_id": "c", "url": PAGE, "proxy": PROXY}, is_geetest_v4),
    ("keycaptcha", "keycaptcha", {"url": PAGE} | dict.fromkeys(KEYCAPTCHA, "k"), is_token),
    ("post recaptcha=1", "grid", {"file": FILE, "rows": 3, "cols": 3, "hintText": "boats"}, is_cells),
    ("post recaptcha=1, base64 and hint image", "grid", {"file": IMAGE_TEXT, "hintImg": IMAGE_TEXT}, is_cells),
    ("post canvas=1", "canvas", {"file": FILE, "hintText": "boats"}, is_lines),
    ("post canvas=1, base64 and hint image", "canvas", {"file": IMAGE_TEXT, "hintImg": IMAGE_TEXT}, is_lines),
    ("post coordinatescaptcha=1", "coordinates", {"file": FILE}, is_points),
    ("post coordinatescaptcha=1, base64", "coordinates", {"file": IMAGE_TEXT, "hintText": "boats"}, is_points),
    ("rotatecaptcha", "rotate", {"files": FILE, "angle": 40}, is_angle),
    ("rotatecaptcha, two images", "rotate", {"files": FILES}, looks_like(r"40\|40")),
    ("rotatecaptcha, two named images", "rotate", {"files": {"a": FILE, "b": FILES[1]}}, looks_like(r"40\|40")),
]

METHODS = SHARED + [
    ("userrecaptcha, data-s and cookies", "recaptcha", SITE | {"datas": "a+b/c==", "cookies": "A:1;B:2;"}, is_token),
    ("keycaptcha, proxy", "keycaptcha", {"url": PAGE, "proxy": PROXY} | dict.fromkeys(KEYCAPTCHA, "k"), is_token),
    ("rotatecaptcha, base64", "rotate", {"files": IMAGE_TEXT}, is_angle),
    ("capy", "capy", SITE, is_capy),
    ("capy, proxy", "capy", SITE | {"apiServer": "https://jp.api.capy.me/", "proxy": PROXY}, is_capy),
    ("lemin", "lemin", {"captcha_id": "c", "div_id": "d", "url": PAGE}, is_lemin),
    (
        "lemin, proxy",
        "lemin",
        {"captcha_id": "c", "div_id": "d", "url": PAGE, "apiServer": "https://api.leminnow.com/", "proxy": PROXY},
        is_lemin,
    ),
    ("amazon_waf", "amazon_waf", SITE | {"iv": "i", "context": "c"}, is_amazon),
    ("amazon_waf, proxy", "amazon_waf", SITE | {"iv": "i", "context": "c", "proxy": PROXY}, is_amazon),
    ("mt_captcha", "mtcaptcha", SITE, is_token),
    ("mt_captcha, proxy", "mtcaptcha", SITE | {"proxy": PROXY}, is_token),
    ("friendly_captcha", "friendly_captcha", SITE, is_token),
    ("friendly_captcha, proxy", "friendly_captcha", SITE | {"proxy": PROXY}, is_token),
    ("atb_captcha", "atb_captcha", {"app_id": "a", "api_server": "https://cap.aisecurius.com", "url": PAGE}, is_token),
    (
        "atb_captcha, proxy",
        "atb_captcha",
        {"app_id": "a", "api_server": "https://cap.aisecurius.com", "url": PAGE, "proxy": PROXY},
        is_token,
    ),
    ("tencent", "tencent", {"app_id": "a", "url": PAGE}, is_tencent),
    ("tencent, proxy", "tencent", {"app_id": "a", "url": PAGE, "proxy": PROXY}, is_tencent),
    ("cutcaptcha", "cutcaptcha", {"misery_key": "m", "apikey": "a", "url": PAGE}, is_token),
    ("cutcaptcha, proxy", "cutcaptcha", {"misery_key": "m", "apikey": "a", "url": PAGE, "proxy": PROXY}, is_token),
    (
        "datadome, proxy",
        "datadome",
        {
            "captcha_url": "https://geo.captcha-delivery.com/captcha/?a=1&b=2",
            "pageurl": PAGE,
            "userAgent": AGENT,
            "proxy": PROXY,
        },
        looks_like("datadome={}; Path=/"),
    ),
    ("cybersiara", "cybersiara", {"master_url_id": "m", "pageurl": PAGE, "userAgent": AGENT}, is_token),
    (
        "cybersiara, proxy",
        "cybersiara",
        {"master_url_id": "m", "pageurl": PAGE, "userAgent": AGENT, "proxy": PROXY},
        is_token,
    ),
    ("yandex", "yandex_smart", SITE, is_token),
    ("yandex, proxy", "yandex_smart", SITE | {"proxy": PROXY}, is_token),
    ("prosopo", "prosopo", {"sitekey": "p", "pageurl": PAGE}, is_token),
    ("prosopo, proxy", "prosopo", {"sitekey": "p", "pageurl": PAGE, "proxy": PROXY}, is_token),
    (
        "captchafox, proxy",
        "captchafox",
        {"sitekey": "c", "pageurl": PAGE, "userAgent": AGENT, "proxy": PROXY},
        is_token,
    ),
    ("vkimage", "vkimage", {"files": FILE, "steps": "[5,4,7,3]"}, is_vkimage),
    ("vkimage, base64", "vkimage", {"files": IMAGE_TEXT, "steps": "[5,4,7,3]"}, is_vkimage),
    (
        "vkcaptcha, proxy",
        "vkcaptcha",
        {"redirect_uri": "https://id.vk.com/not_robot_captcha?a=1&b=2", "userAgent": AGENT, "proxy": PROXY},
        is_token,
    ),
    ("temuimage", "temu", dict.fromkeys(("body", "part1", "part2", "part3"), IMAGE_TEXT), is_points),
    ("altcha", "altcha", {"pageurl": PAGE, "challenge_url": "https://example.com/challenge"}, is_token),
    ("altcha, json and proxy", "altcha", {"pageurl": PAGE, "challenge_json": '{"a":1}', "proxy": PROXY}, is_token),
    ("binance", "binance", {"pageurl": PAGE, "sitekey": "login", "validate_id": "v"}, is_token),
    (
        "binance, proxy",
        "binance",
        {"pageurl": PAGE, "sitekey": "login", "validate_id": "v", "useragent": AGENT, "proxy": PROXY},
        is_token,
    ),
    ("yidun", "yidun", {"pageurl": PAGE, "sitekey": "y"}, is_token),
    ("yidun, proxy", "yidun", {"pageurl": PAGE, "sitekey": "y", "hct": 1700000000, "proxy": PROXY}, is_token),
    ("hunt", "hunt", {"pageurl": PAGE, "api_get_lib": "https://example.com/api.js"}, is_token),
    (
        "hunt, proxy",
        "hunt",
        {"pageurl": PAGE, "api_get_lib": "https://example.com/api.js", "data": "d", "proxy": PROXY},
        is_token,
    ),
    ("alibaba", "alibaba", {"pageurl": PAGE, "scene_id": "s", "prefix": "p"}, is_token),
    ("alibaba, proxy", "alibaba", {"pageurl": PAGE, "scene_id": "s", "prefix": "p", "proxy": PROXY}, is_token),
    (
        "tspd, proxy",
        "tspd",
        {"pageurl": PAGE, "tspd_cookie": "TS=1", "html_page_base64": IMAGE_TEXT, "proxy": PROXY},
        looks_like("TSPD={}"),
    ),
    ("basilisk", "basilisk", {"pageurl": PAGE, "sitekey": "b"}, is_token),
    ("basilisk, proxy", "basilisk", {"pageurl": PAGE, "sitekey": "b", "proxy": PROXY}, is_token),
    ("audio", "audio", {"file": AUDIO_TEXT, "lang": "en"}, is_text),
    ("audio, file", "audio", {"file": sample("captcha.mp3", b"ID3" + bytes(150)), "lang": "en"}, is_text),
    # An entry per image; one that stays where it is has no place.
    ("drag_drop", "drag_and_drop", {"body": IMAGE_TEXT, "images": [FILE, IMAGE_TEXT]}, looks_like(r"120,340\|null")),
    (
        "incapsula, proxy",
        "imperva",
        {
            "pageurl": PAGE,
            "incapsula_script_url": "/_Incapsula_Resource?a=1",
            "incapsula_cookies": "a=1",
            "proxy": PROXY,
        },
        looks_like(".*{}.*"),
    ),
]

# What the gateway does not offer, and says so.
LACKING = {"incapsula": "ERROR_BAD_PARAMETERS"}

# Methods that ask the server for something else than a solution, each called below.
OTHERS = {"balance", "report", "send", "solve", "get_result", "wait_result"}
# Methods that ask nothing.
HELPERS = {"check_hint_img", "default_params", "extract_files", "get_method", "rename_params"}

# Members that stand beside the answer in an extended response.
BESIDE = {"captchaId", "code", "useragent", "respKey", "cookies", "user_check", "user_score"}


def options(**more):
    # The library has no time-out for a single request; run.sh bounds the whole.
    return dict(server=os.environ["GATEWAY_HTTPS"], pollingInterval=1, defaultTimeout=30, recaptchaTimeout=30, **more)


def is_result(result, is_answer, beside=frozenset({"captchaId", "code"})):
    if not {"captchaId", "code"} <= set(result) <= set(beside):
        raise AssertionError(f"{result!r} has other members")
    # Several images may have several ids in one text.
    for number in result["captchaId"].split("|"):
        is_id(number)
    is_answer(result["code"])


def add_synchronous(checks, make, methods, label="synchronous", **more):
    """A check for each method, and for what a solver does besides."""

    def add(name, method, arguments, is_answer):
        def check():
            result = getattr(make(KEY, **options(**more)), method)(**arguments)
            is_result(result, is_answer, BESIDE if more else {"captchaId", "code"})

        checks.add(f"{name}, {label}", check, LACKING.get(name.split(",")[0]))

    for row in methods:
        add(*row)


def add_others(checks, make):
    def solver():
        return make(KEY, **options())

    def step_by_step():
        one = solver()
        number = one.send(method="userrecaptcha", googlekey="plain", url=PAGE)
        is_id(number)
        try:
            one.get_result(number)
        except Exception as error:
            equal(type(error).__name__, "NetworkException")
        code = one.wait_result(number, 30, 1)
        is_token(code)
        equal(one.get_result(number), code)

    def report(correct):
        one = solver()
        number = one.recaptcha(**SITE)["captchaId"]
        # solvecaptcha-python says nothing where 2captcha-python hands on what the server said.
        if one.report(number, correct) not in ("OK_REPORT_RECORDED", None):
            raise AssertionError("the report is not recorded")

    checks.add("getbalance, synchronous", lambda: is_money(solver().balance()))
    checks.add("get, synchronous", step_by_step)
    checks.add(
        "userrecaptcha, solve, synchronous",
        lambda: is_result(solver().solve(method="userrecaptcha", googlekey="plain", url=PAGE), is_token),
    )
    checks.add("reportgood, synchronous", lambda: report(True))
    checks.add("reportbad, synchronous", lambda: report(False))


def add_asynchronous(checks):
    def solver():
        return AsyncTwoCaptcha(KEY, **options())

    def add(name, method, arguments, is_answer):
        async def check():
            is_result(await getattr(solver(), method)(**arguments), is_answer)

        checks.add(f"{name}, asynchronous", check, LACKING.get(name.split(",")[0]))

    for row in METHODS:
        add(*row)

    async def balance():
        is_money(await solver().balance())

    async def step_by_step():
        one = solver()
        number = await one.send(method="userrecaptcha", googlekey="plain", url=PAGE)
        is_id(number)
        try:
            await one.get_result(number)
        except NetworkException:
            pass
        is_token(await one.wait_result(number, 30, 1))

    async def solve():
        is_result(await solver().solve(method="userrecaptcha", googlekey="plain", url=PAGE), is_token)

    async def report_good():
        one = solver()
        equal(await one.report((await one.recaptcha(**SITE))["captchaId"], True), "OK_REPORT_RECORDED")

    async def report_bad():
        one = solver()
        equal(await one.report((await one.recaptcha(**SITE))["captchaId"], False), "OK_REPORT_RECORDED")

    checks.add("getbalance, asynchronous", balance)
    checks.add("get, asynchronous", step_by_step)
    checks.add("userrecaptcha, solve, asynchronous", solve)
    checks.add("reportgood, asynchronous", report_good)
    checks.add("reportbad, asynchronous", report_bad)


def main():
    checks = Checks("2captcha-python")
    called = {method for _, method, _, _ in METHODS} | OTHERS | HELPERS
    for kind in (TwoCaptcha, AsyncTwoCaptcha):
        covers(public(kind), called)
    add_synchronous(checks, TwoCaptcha, METHODS)
    add_others(checks, TwoCaptcha)
    add_asynchronous(checks)
    add_synchronous(checks, TwoCaptcha, METHODS, "extended response", extendedResponse=True)
    checks.run()


if __name__ == "__main__":
    main()
