"""2captcha-python, unmodified: every method, synchronous, asynchronous and with its extended response."""

import os

from twocaptcha import AsyncTwoCaptcha, NetworkException, TwoCaptcha

from support import (
    AGENT, AUDIO_TEXT, IMAGE_TEXT, KEY, PAGE, Checks, assert_amazon, assert_angle, assert_capy, assert_cells,
    assert_covers, assert_equal, assert_geetest, assert_geetest_v4, assert_id, assert_lemin, assert_lines,
    assert_matches, assert_money, assert_points, assert_tencent, assert_text, assert_token, assert_vkimage, public,
    sample,
)

PROXY = {"type": "HTTP", "uri": "login:p@ss@127.0.0.1:3128"}
FILE = sample("captcha.png")
FILES = [FILE, sample("second.png")]
SITE = {"sitekey": "plain", "url": PAGE}
KEYCAPTCHA = ("s_s_c_user_id", "s_s_c_session_id", "s_s_c_web_server_sign", "s_s_c_web_server_sign2")

# Printed name, method of the library, arguments, assertion on the answer.
SHARED = [
    ("post", "normal", {"file": FILE}, assert_text),
    ("base64", "normal", {"file": IMAGE_TEXT}, assert_text),
    ("textcaptcha", "text", {"text": "What comes after red & blå?"}, assert_text),
    ("userrecaptcha", "recaptcha", SITE, assert_token),
    ("userrecaptcha, invisible", "recaptcha", SITE | {"invisible": 1}, assert_token),
    ("userrecaptcha, proxy", "recaptcha", SITE | {"proxy": PROXY}, assert_token),
    ("userrecaptcha enterprise=1", "recaptcha", SITE | {"enterprise": 1}, assert_token),
    ("userrecaptcha enterprise=1, proxy", "recaptcha", SITE | {"enterprise": 1, "proxy": PROXY}, assert_token),
    ("userrecaptcha version=v3", "recaptcha", SITE | {"version": "v3", "score": 0.7, "action": "go"}, assert_token),
    ("userrecaptcha version=v3, enterprise", "recaptcha", SITE | {"version": "v3", "enterprise": 1}, assert_token),
    ("hcaptcha", "hcaptcha", SITE, assert_token),
    ("hcaptcha, proxy", "hcaptcha", SITE | {"invisible": 1, "data": "rq", "proxy": PROXY}, assert_token),
    ("turnstile", "turnstile", SITE, assert_token),
    (
        "turnstile, proxy",
        "turnstile",
        SITE | {"action": "a", "data": "d", "pagedata": "p", "proxy": PROXY},
        assert_token,
    ),
    ("funcaptcha", "funcaptcha", SITE, assert_token),
    (
        "funcaptcha, blob and proxy",
        "funcaptcha",
        SITE | {"surl": "https://client-api.arkoselabs.com", "data[blob]": "b", "proxy": PROXY},
        assert_token,
    ),
    ("geetest", "geetest", {"gt": "g", "challenge": "c", "url": PAGE}, assert_geetest),
    (
        "geetest, proxy",
        "geetest",
        {"gt": "g", "challenge": "c", "url": PAGE, "apiServer": "api-na.geetest.com", "proxy": PROXY},
        assert_geetest,
    ),
    ("geetest_v4", "geetest_v4", {"captcha_id": "c", "url": PAGE}, assert_geetest_v4),
    ("geetest_v4, proxy", "geetest_v4", {"captcha_id": "c", "url": PAGE, "proxy": PROXY}, assert_geetest_v4),
    ("keycaptcha", "keycaptcha", {"url": PAGE} | dict.fromkeys(KEYCAPTCHA, "k"), assert_token),
    ("post recaptcha=1", "grid", {"file": FILE, "rows": 3, "cols": 3, "hintText": "boats"}, assert_cells),
    ("post recaptcha=1, base64 and hint image", "grid", {"file": IMAGE_TEXT, "hintImg": IMAGE_TEXT}, assert_cells),
    ("post canvas=1", "canvas", {"file": FILE, "hintText": "boats"}, assert_lines),
    ("post canvas=1, base64 and hint image", "canvas", {"file": IMAGE_TEXT, "hintImg": IMAGE_TEXT}, assert_lines),
    ("post coordinatescaptcha=1", "coordinates", {"file": FILE}, assert_points),
    ("post coordinatescaptcha=1, base64", "coordinates", {"file": IMAGE_TEXT, "hintText": "boats"}, assert_points),
    ("rotatecaptcha", "rotate", {"files": FILE, "angle": 40}, assert_angle),
    ("rotatecaptcha, two images", "rotate", {"files": FILES}, assert_matches(r"40\|40")),
    ("rotatecaptcha, two named images", "rotate", {"files": {"a": FILE, "b": FILES[1]}}, assert_matches(r"40\|40")),
]

METHODS = SHARED + [
    (
        "userrecaptcha, data-s and cookies",
        "recaptcha",
        SITE | {"datas": "a+b/c==", "cookies": "A:1;B:2;"},
        assert_token,
    ),
    ("keycaptcha, proxy", "keycaptcha", {"url": PAGE, "proxy": PROXY} | dict.fromkeys(KEYCAPTCHA, "k"), assert_token),
    ("rotatecaptcha, base64", "rotate", {"files": IMAGE_TEXT}, assert_angle),
    ("capy", "capy", SITE, assert_capy),
    ("capy, proxy", "capy", SITE | {"apiServer": "https://jp.api.capy.me/", "proxy": PROXY}, assert_capy),
    ("lemin", "lemin", {"captcha_id": "c", "div_id": "d", "url": PAGE}, assert_lemin),
    (
        "lemin, proxy",
        "lemin",
        {"captcha_id": "c", "div_id": "d", "url": PAGE, "apiServer": "https://api.leminnow.com/", "proxy": PROXY},
        assert_lemin,
    ),
    ("amazon_waf", "amazon_waf", SITE | {"iv": "i", "context": "c"}, assert_amazon),
    ("amazon_waf, proxy", "amazon_waf", SITE | {"iv": "i", "context": "c", "proxy": PROXY}, assert_amazon),
    ("mt_captcha", "mtcaptcha", SITE, assert_token),
    ("mt_captcha, proxy", "mtcaptcha", SITE | {"proxy": PROXY}, assert_token),
    ("friendly_captcha", "friendly_captcha", SITE, assert_token),
    ("friendly_captcha, proxy", "friendly_captcha", SITE | {"proxy": PROXY}, assert_token),
    (
        "atb_captcha",
        "atb_captcha",
        {"app_id": "a", "api_server": "https://cap.aisecurius.com", "url": PAGE},
        assert_token,
    ),
    (
        "atb_captcha, proxy",
        "atb_captcha",
        {"app_id": "a", "api_server": "https://cap.aisecurius.com", "url": PAGE, "proxy": PROXY},
        assert_token,
    ),
    ("tencent", "tencent", {"app_id": "a", "url": PAGE}, assert_tencent),
    ("tencent, proxy", "tencent", {"app_id": "a", "url": PAGE, "proxy": PROXY}, assert_tencent),
    ("cutcaptcha", "cutcaptcha", {"misery_key": "m", "apikey": "a", "url": PAGE}, assert_token),
    ("cutcaptcha, proxy", "cutcaptcha", {"misery_key": "m", "apikey": "a", "url": PAGE, "proxy": PROXY}, assert_token),
    (
        "datadome, proxy",
        "datadome",
        {
            "captcha_url": "https://geo.captcha-delivery.com/captcha/?a=1&b=2",
            "pageurl": PAGE,
            "userAgent": AGENT,
            "proxy": PROXY,
        },
        assert_matches("datadome={}; Path=/"),
    ),
    ("cybersiara", "cybersiara", {"master_url_id": "m", "pageurl": PAGE, "userAgent": AGENT}, assert_token),
    (
        "cybersiara, proxy",
        "cybersiara",
        {"master_url_id": "m", "pageurl": PAGE, "userAgent": AGENT, "proxy": PROXY},
        assert_token,
    ),
    ("yandex", "yandex_smart", SITE, assert_token),
    ("yandex, proxy", "yandex_smart", SITE | {"proxy": PROXY}, assert_token),
    ("prosopo", "prosopo", {"sitekey": "p", "pageurl": PAGE}, assert_token),
    ("prosopo, proxy", "prosopo", {"sitekey": "p", "pageurl": PAGE, "proxy": PROXY}, assert_token),
    (
        "captchafox, proxy",
        "captchafox",
        {"sitekey": "c", "pageurl": PAGE, "userAgent": AGENT, "proxy": PROXY},
        assert_token,
    ),
    ("vkimage", "vkimage", {"files": FILE, "steps": "[5,4,7,3]"}, assert_vkimage),
    ("vkimage, base64", "vkimage", {"files": IMAGE_TEXT, "steps": "[5,4,7,3]"}, assert_vkimage),
    (
        "vkcaptcha, proxy",
        "vkcaptcha",
        {"redirect_uri": "https://id.vk.com/not_robot_captcha?a=1&b=2", "userAgent": AGENT, "proxy": PROXY},
        assert_token,
    ),
    ("temuimage", "temu", dict.fromkeys(("body", "part1", "part2", "part3"), IMAGE_TEXT), assert_points),
    ("altcha", "altcha", {"pageurl": PAGE, "challenge_url": "https://example.com/challenge"}, assert_token),
    ("altcha, json and proxy", "altcha", {"pageurl": PAGE, "challenge_json": '{"a":1}', "proxy": PROXY}, assert_token),
    ("binance", "binance", {"pageurl": PAGE, "sitekey": "login", "validate_id": "v"}, assert_token),
    (
        "binance, proxy",
        "binance",
        {"pageurl": PAGE, "sitekey": "login", "validate_id": "v", "useragent": AGENT, "proxy": PROXY},
        assert_token,
    ),
    ("yidun", "yidun", {"pageurl": PAGE, "sitekey": "y"}, assert_token),
    ("yidun, proxy", "yidun", {"pageurl": PAGE, "sitekey": "y", "hct": 1700000000, "proxy": PROXY}, assert_token),
    ("hunt", "hunt", {"pageurl": PAGE, "api_get_lib": "https://example.com/api.js"}, assert_token),
    (
        "hunt, proxy",
        "hunt",
        {"pageurl": PAGE, "api_get_lib": "https://example.com/api.js", "data": "d", "proxy": PROXY},
        assert_token,
    ),
    ("alibaba", "alibaba", {"pageurl": PAGE, "scene_id": "s", "prefix": "p"}, assert_token),
    ("alibaba, proxy", "alibaba", {"pageurl": PAGE, "scene_id": "s", "prefix": "p", "proxy": PROXY}, assert_token),
    (
        "tspd, proxy",
        "tspd",
        {"pageurl": PAGE, "tspd_cookie": "TS=1", "html_page_base64": IMAGE_TEXT, "proxy": PROXY},
        assert_matches("TSPD={}"),
    ),
    ("basilisk", "basilisk", {"pageurl": PAGE, "sitekey": "b"}, assert_token),
    ("basilisk, proxy", "basilisk", {"pageurl": PAGE, "sitekey": "b", "proxy": PROXY}, assert_token),
    ("audio", "audio", {"file": AUDIO_TEXT, "lang": "en"}, assert_text),
    ("audio, file", "audio", {"file": sample("captcha.mp3", b"ID3" + bytes(150)), "lang": "en"}, assert_text),
    # One entry per image; an image that does not move has no position.
    (
        "drag_drop",
        "drag_and_drop",
        {"body": IMAGE_TEXT, "images": [FILE, IMAGE_TEXT]},
        assert_matches(r"120,340\|null"),
    ),
    (
        "incapsula, proxy",
        "imperva",
        {
            "pageurl": PAGE,
            "incapsula_script_url": "/_Incapsula_Resource?a=1",
            "incapsula_cookies": "a=1",
            "proxy": PROXY,
        },
        assert_matches(".*{}.*"),
    ),
]

# Unsupported methods, and the code with which the gateway refuses them.
LACKING = {"incapsula": "ERROR_BAD_PARAMETERS"}

# Methods that do not return a solution; add_others() calls each.
OTHERS = {"balance", "report", "send", "solve", "get_result", "wait_result"}
# Methods that send no request.
HELPERS = {"check_hint_img", "default_params", "extract_files", "get_method", "rename_params"}

# Members of an extended response.
EXTENDED = {"captchaId", "code", "useragent", "respKey", "cookies", "user_check", "user_score"}


def options(**more):
    # The library has no timeout for a single request; run.sh limits the whole script.
    return dict(server=os.environ["GATEWAY_HTTPS"], pollingInterval=1, defaultTimeout=30, recaptchaTimeout=30, **more)


def assert_result(result, assert_answer, members=frozenset({"captchaId", "code"})):
    if not {"captchaId", "code"} <= set(result) <= set(members):
        raise AssertionError(f"{result!r} has other members")
    # Several images may have several ids in one string.
    for number in result["captchaId"].split("|"):
        assert_id(number)
    assert_answer(result["code"])


def add_synchronous(checks, make, methods, label="synchronous", **more):
    """Adds a check for each method."""

    def add(name, method, arguments, assert_answer):
        def check():
            result = getattr(make(KEY, **options(**more)), method)(**arguments)
            assert_result(result, assert_answer, EXTENDED if more else {"captchaId", "code"})

        checks.add(f"{name}, {label}", check, LACKING.get(name.split(",")[0]))

    for row in methods:
        add(*row)


def add_others(checks, make):
    def solver():
        return make(KEY, **options())

    def step_by_step():
        one = solver()
        number = one.send(method="userrecaptcha", googlekey="plain", url=PAGE)
        assert_id(number)
        try:
            one.get_result(number)
        except Exception as error:
            assert_equal(type(error).__name__, "NetworkException")
        code = one.wait_result(number, 30, 1)
        assert_token(code)
        assert_equal(one.get_result(number), code)

    def report(correct):
        one = solver()
        number = one.recaptcha(**SITE)["captchaId"]
        # solvecaptcha-python returns None, 2captcha-python the answer of the server.
        if one.report(number, correct) not in ("OK_REPORT_RECORDED", None):
            raise AssertionError("the report is not recorded")

    checks.add("getbalance, synchronous", lambda: assert_money(solver().balance()))
    checks.add("get, synchronous", step_by_step)
    checks.add(
        "userrecaptcha, solve, synchronous",
        lambda: assert_result(solver().solve(method="userrecaptcha", googlekey="plain", url=PAGE), assert_token),
    )
    checks.add("reportgood, synchronous", lambda: report(True))
    checks.add("reportbad, synchronous", lambda: report(False))


def add_asynchronous(checks):
    def solver():
        return AsyncTwoCaptcha(KEY, **options())

    def add(name, method, arguments, assert_answer):
        async def check():
            assert_result(await getattr(solver(), method)(**arguments), assert_answer)

        checks.add(f"{name}, asynchronous", check, LACKING.get(name.split(",")[0]))

    for row in METHODS:
        add(*row)

    async def balance():
        assert_money(await solver().balance())

    async def step_by_step():
        one = solver()
        number = await one.send(method="userrecaptcha", googlekey="plain", url=PAGE)
        assert_id(number)
        try:
            await one.get_result(number)
        except NetworkException:
            pass
        assert_token(await one.wait_result(number, 30, 1))

    async def solve():
        assert_result(await solver().solve(method="userrecaptcha", googlekey="plain", url=PAGE), assert_token)

    async def report_good():
        one = solver()
        assert_equal(await one.report((await one.recaptcha(**SITE))["captchaId"], True), "OK_REPORT_RECORDED")

    async def report_bad():
        one = solver()
        assert_equal(await one.report((await one.recaptcha(**SITE))["captchaId"], False), "OK_REPORT_RECORDED")

    checks.add("getbalance, asynchronous", balance)
    checks.add("get, asynchronous", step_by_step)
    checks.add("userrecaptcha, solve, asynchronous", solve)
    checks.add("reportgood, asynchronous", report_good)
    checks.add("reportbad, asynchronous", report_bad)


def main():
    checks = Checks("2captcha-python")
    called = {method for _, method, _, _ in METHODS} | OTHERS | HELPERS
    for kind in (TwoCaptcha, AsyncTwoCaptcha):
        assert_covers(public(kind), called)
    add_synchronous(checks, TwoCaptcha, METHODS)
    add_others(checks, TwoCaptcha)
    add_asynchronous(checks)
    add_synchronous(checks, TwoCaptcha, METHODS, "extended response", extendedResponse=True)
    checks.run()


if __name__ == "__main__":
    main()
