"""captcha-solver, unmodified: each of its backends that speaks in.php and res.php, and every method.

The first two speak clear HTTP to the names that they have built in, the third to an address that it is given.
"""

import os

from captcha_solver import CaptchaSolver
from captcha_solver.error import BalanceTooLow, SolutionNotReady

from support import IMAGE, KEY, Checks, covers, is_id, is_text, lead_to_gateway, public

lead_to_gateway()
OPTIONS = {"phrase": 1, "regsense": 1, "min_len": 4, "textinstructions": "red & yellow"}
BACKENDS = {"2captcha": {}, "rucaptcha": {}, "antigate": {"service_url": f"http://{os.environ['GATEWAY_HTTP']}"}}

checks = Checks("captcha-solver")
covers(public(CaptchaSolver), {"setup_network_config", "submit_captcha", "check_solution", "solve_captcha"})


def make(backend, key=KEY):
    return CaptchaSolver(backend, api_key=key, **BACKENDS[backend])


def step_by_step(backend):
    solver = make(backend)
    solver.setup_network_config(timeout=10)
    number = solver.submit_captcha(IMAGE)
    is_id(number)
    # An image takes a second.
    for _ in range(100):
        try:
            is_text(solver.check_solution(number))
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
        is_text(make(backend).solve_captcha(IMAGE, recognition_delay=1))
        is_text(make(backend).solve_captcha(IMAGE, recognition_delay=1, **OPTIONS))

    checks.add(f"base64, {backend}", solve)
    checks.add(f"get, {backend}", lambda: step_by_step(backend))
    checks.add(f"base64, no money, {backend}", lambda: without_money(backend))


for name in BACKENDS:
    add(name)
checks.run()
