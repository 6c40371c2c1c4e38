"""Renders results as the tables in docs/performance.md and as docs/performance.svg."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .scenarios import THROUGHPUT
from .servers import REFERENCE, ROOT, BenchError

DOCUMENT = ROOT / "docs" / "performance.md"
DRAWING = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
NOT_MEASURED = "not measured"

Tree = dict[str, object]


def dig(tree: object, *names: str) -> object | None:
    """The value at this path of names, or None."""
    for name in names:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


def goals(scenarios: Tree) -> Iterator[tuple[str, str, bool | None]]:
    """Each goal: its text, the measured value, and whether it is met (None if not measured)."""

    def row(
        goal: str, value: object, is_met: bool, measured: str
    ) -> tuple[str, str, bool | None]:
        return (goal, measured, is_met) if value is not None else (goal, NOT_MEASURED, None)

    def at_least(goal: str, value: float | None, minimum: float) -> tuple[str, str, bool | None]:
        return row(goal, value, (value or 0) >= minimum, f"{value or 0:.2f}")

    def at_most(
        goal: str, value: float | None, maximum: float, unit: str = ""
    ) -> tuple[str, str, bool | None]:
        return row(goal, value, (value or 0) <= maximum, f"{value or 0:,.1f}{unit}")

    for name, minimum in (("one-pending", 0.9), ("many-pending", 0.85), ("new-connection", 0.9)):
        ratio = dig(scenarios, name, "servers", "capgate", "ratio", "median")
        yield at_least(f"{name}: at least {minimum} times Pingora's constant answer", ratio, minimum)
        if name == "one-pending":
            yield at_least("one-pending: at least 1.5 times nginx and Lua", ratio_to_lua(scenarios), 1.5)
    counts = [dig(scenarios, "amplification", pollers, "counted_per_task") for pollers in ("10", "100", "1000")]
    calls = [count for count in counts if isinstance(count, (int, float))]
    yield row(
        "amplification: at most 12 upstream calls per 20 s task, the same for 10, 100 and 1,000 pollers",
        calls or None,
        bool(calls) and max(calls) <= 12 and max(calls) <= 1.25 * min(calls),
        ", ".join(f"{count:.1f}" for count in calls),
    )
    yield at_most(
        "slow-upstream: p99 of polls at most twice the p99 with a fast upstream",
        dig(scenarios, "slow-upstream", "ratio", "median"), 2, " times",
    )
    for spread in ("15%", "30%"):
        yield at_most(
            f"ready-to-seen, solve times ±{spread}: median at most 400 ms",
            dig(scenarios, "ready-to-seen", spread, "ready_to_seen_ms", "p50"), 400, " ms",
        )
        yield at_most(
            f"ready-to-seen, solve times ±{spread}: at most 12 upstream calls per task",
            dig(scenarios, "ready-to-seen", spread, "counted_per_task"), 12,
        )
    yield at_most(
        "1,000,000 open records: at most 250 bytes each, excluding the answer",
        dig(scenarios, "records", "bytes_per_record"), 250, " bytes",
    )
    yield at_most(
        "idle-connections: at most 12 kB each",
        dig(scenarios, "idle-connections", "servers", "capgate", "bytes", "median"), 12_000, " bytes",
    )


def ratio_to_lua(scenarios: Tree) -> float | None:
    """The rate of capgate relative to nginx and Lua, both with an access log."""
    capgate = dig(scenarios, "one-pending", "servers", "capgate", "ratio", "median")
    lua = dig(scenarios, "one-pending", "servers", "nginx-lua", "ratio", "median")
    return capgate / lua if capgate and lua else None


def span(values: Tree, form: str) -> str:
    """Median and range."""
    median, least, most = (format(values[name], form) for name in ("median", "min", "max"))
    return f"{median} ({least} – {most})"


def goal_lines(scenarios: Tree) -> Iterator[str]:
    """The table of goals."""
    yield "| goal | measured | met |"
    yield "|---|---|---|"
    for goal, measured, is_met in goals(scenarios):
        yield f"| {goal} | {measured} | {'' if is_met is None else 'yes' if is_met else '**no**'} |"


def throughput_lines(name: str, scenario: Tree) -> Iterator[str]:
    """The table of one wrk scenario."""
    rounds = scenario["servers"][REFERENCE]["runs"] // 2
    noise = scenario["noise"]
    yield ""
    yield f"### {name}"
    yield ""
    yield (
        f"{rounds} rounds. The two {REFERENCE} runs of a round differ by {noise['median']:.1%} in the median"
        f" and by {noise['max']:.1%} at most."
    )
    yield ""
    yield (
        "| server | polls/s | relative to Pingora's constant answer | p99 (ms) | core usage | polls/s per core"
        " | upstream calls per 1,000 polls |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for server, row in scenario["servers"].items():
        lost = row["log_lines_lost"]["median"]
        note = f", {lost:.0%} of log lines lost" if lost > 0 else ""
        yield (
            f"| {server}{note} | {span(row['rate'], ',.0f')} | {span(row['ratio'], '.2f')}"
            f" | {row['p99_ms']['median']:.2f} | {row['cpu']['median']:.0%} | {row['rate_per_core']['median']:,.0f}"
            f" | {row['upstream_per_1000']['median']:.2f} |"
        )


def idle_lines(scenario: Tree) -> Iterator[str]:
    """The table of the idle-connections scenario."""
    yield ""
    yield "### idle-connections"
    yield ""
    yield f"{scenario['connections']:,} connections."
    yield ""
    yield "| server | bytes per connection |"
    yield "|---|--:|"
    for server, row in scenario["servers"].items():
        yield f"| {server} | {span(row['bytes'], ',.0f')} |"


def storm_lines(scenarios: Tree) -> Iterator[str]:
    """One line per storm and per instruction count."""
    lines = []
    for pollers, result in (scenarios.get("amplification") or {}).items():
        lines.append(
            f"| amplification, {pollers} pollers | {result['counted_per_task']:.1f} upstream calls per task,"
            f" {result['polls']:,} polls |"
        )
    slow = scenarios.get("slow-upstream")
    if slow:
        for latency, p99_ms in slow["p99_ms"].items():
            lines.append(f"| slow-upstream, {latency} ms | p99 {span(p99_ms, '.1f')} ms |")
    for spread, ready in (scenarios.get("ready-to-seen") or {}).items():
        seen = ready["ready_to_seen_ms"]
        lines.append(
            f"| ready-to-seen, ±{spread} | p50 {seen['p50']:.0f} ms, p90 {seen['p90']:.0f} ms,"
            f" p99 {seen['p99']:.0f} ms, {ready['counted_per_task']:.1f} upstream calls per task |"
        )
    for name, count in (scenarios.get("instructions") or {}).items():
        lines.append(f"| instructions, {name} | {count:,.0f} |")
    if lines:
        yield from ("", "### Storms and instruction counts", "", "| measurement | result |", "|---|---|", *lines)


def document_lines(results: Tree) -> Iterator[str]:
    """Everything between the markers."""
    scenarios = results["scenarios"]
    machine = results.get("machine") or {}
    yield from goal_lines(scenarios)
    yield ""
    yield "Environment: " + ", ".join(f"{name} {text}" for name, text in machine.items() if text) + "."
    if any(name in scenarios for name in THROUGHPUT):
        yield ""
        yield "![Polls per second relative to Pingora's constant answer](performance.svg)"
    for name in THROUGHPUT:
        if name in scenarios:
            yield from throughput_lines(name, scenarios[name])
    if "idle-connections" in scenarios:
        yield from idle_lines(scenarios["idle-connections"])
    yield from storm_lines(scenarios)


WIDTH, LEFT, RIGHT, TOP, LINE, GAP = 820, 150, 30, 24, 20, 34


def draw(scenarios: Tree) -> str:
    """One panel per scenario: a dot for the median ratio, a line for the range of all rounds."""
    panels = [(name, scenarios[name]["servers"]) for name in THROUGHPUT if name in scenarios]
    ratios = [row["ratio"]["max"] for _, rows in panels for row in rows.values()]
    axis_max = max([1.0, *ratios]) * 1.05
    parts, top = [], TOP
    for name, rows in panels:
        parts += panel(name, rows, top, axis_max)
        top += LINE * (len(rows) + 2) + GAP
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>',
        *parts,
        "</svg>",
        "",
    ])


def panel(name: str, rows: Tree, top: int, axis_max: float) -> Iterator[str]:
    """The panel of one scenario."""

    def x(ratio: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ratio / axis_max, 1)

    bottom = top + LINE * (len(rows) + 1)
    yield f'<text x="{LEFT}" y="{top}" font-weight="bold">{escape(name)}</text>'
    for tenth in range(0, int(axis_max * 10) + 1, 2):
        tick, colour = tenth / 10, "#999" if tenth == 10 else "#e4e4e4"
        yield f'<path d="M{x(tick)} {top + 8}V{bottom}" stroke="{colour}"/>'
        yield f'<text x="{x(tick)}" y="{bottom + 14}" text-anchor="middle" fill="#666">{tick:.1f}</text>'
    for index, (server, row) in enumerate(rows.items(), 1):
        y, ratio = top + LINE * index, row["ratio"]
        colour = "#c2410c" if server.startswith("capgate") else "#1d4ed8"
        yield f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(server)}</text>'
        yield (
            f'<path d="M{x(ratio["min"])} {y}H{x(ratio["max"])}" stroke="{colour}" stroke-width="2"'
            ' stroke-opacity="0.5"/>'
        )
        yield f'<circle cx="{x(ratio["median"])}" cy="{y}" r="4.5" fill="{colour}"/>'


def replace_generated(document: str, generated: str) -> str:
    """The document with new content between the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"{DOCUMENT.name} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{generated}\n{END}{after}"


def write(results: Tree) -> None:
    """Writes the document and the chart."""
    DOCUMENT.write_text(replace_generated(DOCUMENT.read_text(), "\n".join(document_lines(results))))
    if any(name in results["scenarios"] for name in THROUGHPUT):
        DRAWING.write_text(draw(results["scenarios"]))
