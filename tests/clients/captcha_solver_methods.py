"""captcha-solver, unmodified: every backend for in.php and res.php, and every method.

The first two backends send plain HTTP to hard-coded hosts, the third to a configured URL.
"""

import os

from captcha_solver import CaptchaSolver
from captcha_solver.error import BalanceTooLow, SolutionNotReady

from support import IMAGE, KEY, Checks, assert_covers, assert_id, assert_text, public, redirect_to_gateway

redirect_to_gateway()
OPTIONS = {"phrase": 1, "regsense": 1, "min_len": 4, "textinstructions": "red & yellow"}
BACKENDS = {"2captcha": {}, "rucaptcha": {}, "antigate": {"service_url": f"http://{os.environ['GATEWAY_HTTP']}"}}

checks = Checks("captcha-solver")
assert_covers(public(CaptchaSolver), {"setup_network_config", "submit_captcha", "check_solution", "solve_captcha"})


def make(backend, key=KEY):
    return CaptchaSolver(backend, api_key=key, **BACKENDS[backend])


def step_by_step(backend):
    solver = make(backend)
    solver.setup_network_config(timeout=10)
    number = solver.submit_captcha(IMAGE)
    assert_id(number)
    for _ in range(100):
        try:
            assert_text(solver.check_solution(number))
            return
        except SolutionNotReady:
            pass
    raise AssertionError("never ready")


def without_money(backend):
    try:
        make(backend, "sandbox-zero-balance").submit_captcha(IMAGE)
    except BalanceTooLow:
        return
    raise AssertionError("no exception")


def add(backend):
    def solve():
        assert_text(make(backend).solve_captcha(IMAGE, recognition_delay=1))
        assert_text(make(backend).solve_captcha(IMAGE, recognition_delay=1, **OPTIONS))

    checks.add(f"base64, {backend}", solve)
    checks.add(f"get, {backend}", lambda: step_by_step(backend))
    checks.add(f"base64, no money, {backend}", lambda: without_money(backend))


for name in BACKENDS:
    add(name)
checks.run()
