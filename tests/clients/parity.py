"""Builds the table of supported methods per library from the output of a run.

    python3 parity.py results.txt             prints it
    python3 parity.py results.txt --write     writes it between the markers of the README in the project's root
    python3 parity.py results.txt --check     prints the difference to the README and exits with 1 if there is one
"""

import argparse
import difflib
import pathlib
import re
import sys

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
BEGIN = "<!-- parity -->"
END = "<!-- /parity -->"

# Rows in their order, each with its aliases. The comparison ignores case, spaces, punctuation and any details after the
# name. An unknown name gets a row at the end.
ROWS = {
    "post": ["normal", "image", "method=post"],
    "base64": ["normal base64", "image base64"],
    "textcaptcha": ["text"],
    "userrecaptcha": ["recaptcha", "recaptcha v2", "recaptchav2 invisible", "userrecaptcha v2"],
    "userrecaptcha enterprise=1": ["recaptcha enterprise", "recaptcha v2 enterprise", "userrecaptcha enterprise"],
    "userrecaptcha version=v3": ["recaptcha v3", "userrecaptcha v3"],
    "hcaptcha": [],
    "turnstile": ["cloudflare turnstile"],
    "funcaptcha": ["arkose labs", "arkoselabs"],
    "geetest": ["geetest v3"],
    "geetest_v4": [],
    "keycaptcha": [],
    "capy": ["capy puzzle"],
    "lemin": ["lemin cropped"],
    "amazon_waf": ["amazon", "aws waf"],
    "mt_captcha": [],
    "cybersiara": ["anticybersiara"],
    "cutcaptcha": [],
    "friendly_captcha": ["friendly"],
    "atb_captcha": ["atb"],
    "tencent": [],
    "datadome": [],
    "yandex": ["yandex smart", "yandex smartcaptcha"],
    "prosopo": ["prosopo procaptcha"],
    "captchafox": [],
    "vkimage": ["vk image"],
    "vkcaptcha": ["vk captcha"],
    "temuimage": ["temu", "temucaptcha"],
    "altcha": [],
    "binance": [],
    "yidun": [],
    "alibaba": [],
    "hunt": [],
    "tspd": [],
    "basilisk": [],
    "drag_drop": ["drag and drop"],
    "incapsula": ["imperva"],
    "tiktok": [],
    "audio": [],
    "post recaptcha=1": ["grid", "base64 recaptcha=1"],
    "post canvas=1": ["canvas", "draw around", "base64 canvas=1", "base64 recaptcha=1 canvas=1"],
    "post coordinatescaptcha=1": ["coordinates", "click", "base64 coordinatescaptcha=1"],
    "rotatecaptcha": ["rotate"],
    "bounding_box": [],
    "get": ["get_result", "result"],
    "get2": [],
    "get ids=": ["ids"],
    "getbalance": ["balance"],
    "reportgood": ["report good", "goodreport"],
    "reportbad": ["report bad", "badreport"],
    "add_pingback": [],
    "get_pingback": [],
    "del_pingback": [],
    "getstats": ["stats"],
    "load.php": ["load"],
}


def squash(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


NAMES = {squash(name): row for row, others in ROWS.items() for name in [row, *others]}

# Every client polls, so a row would only show which checks print it.
LEFT_OUT = "get"

# The lines of the gateway and the setup belong to no library.
LINE = re.compile(r"(ok  |lack|FAIL) (?!gateway:|setup:)([^:]+): ([^,:]+)")
# In order of precedence: the worst result of a method counts.
CELLS = {"FAIL": "fails", "lack": "no", "ok  ": "yes"}


def row_of(name):
    """Returns the row of the longest known prefix; the rest of the name is details."""
    words = name.split()
    for count in range(len(words), 0, -1):
        row = NAMES.get(squash(" ".join(words[:count])))
        if row is not None:
            return row
    return name.strip()


def table(text):
    results = {}
    libraries = {}
    for line in text.splitlines():
        match = LINE.match(line)
        # An expected refusal does not prove that the method works.
        if match is None or (line.startswith("ok") and "ERROR_" in line):
            continue
        result, library, name = match.groups()
        row = row_of(name)
        if row == LEFT_OUT:
            continue
        libraries[library] = None
        results.setdefault(row, {}).setdefault(library, set()).add(CELLS[result])
    libraries = sorted(libraries, key=lambda library: library.lower().lstrip("@"))
    order = {row: number for number, row in enumerate(ROWS)}
    lines = ["| | " + " | ".join(libraries) + " |", "|---|" + "---|" * len(libraries)]
    for row in sorted(results, key=lambda row: (order.get(row, len(order)), row)):
        found = [results[row].get(library, ()) for library in libraries]
        cells = [next((cell for cell in CELLS.values() if cell in cells), "") for cells in found]
        lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    new = table(arguments.results.read_text(encoding="utf-8", errors="replace"))
    if not (arguments.write or arguments.check):
        print(new)
        return
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md has no {BEGIN} … {END}")
    if arguments.write:
        README.write_text(f"{before}{begin}\n{new}\n{end}{after}", encoding="utf-8")
        return
    old, new = old.strip().split("\n"), new.split("\n")
    difference = list(difflib.unified_diff(old, new, "README.md", "this run", lineterm=""))
    if difference:
        sys.exit("\n".join(difference))


main()
