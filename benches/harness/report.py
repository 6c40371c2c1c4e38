"""Results → the tables in docs/performance.md and the drawing beside it."""

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
    """What stands under these names, if it does."""
    for name in names:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


def goals(scenarios: Tree) -> Iterator[tuple[str, str, bool | None]]:
    """What is wanted, what was measured, whether that is it."""

    def row(
        wanted: str, value: object, holds: bool, shown: str
    ) -> tuple[str, str, bool | None]:
        return (wanted, shown, holds) if value is not None else (wanted, NOT_MEASURED, None)

    def at_least(wanted: str, value: float | None, least: float) -> tuple[str, str, bool | None]:
        return row(wanted, value, (value or 0) >= least, f"{value or 0:.2f}")

    def at_most(
        wanted: str, value: float | None, most: float, unit: str = ""
    ) -> tuple[str, str, bool | None]:
        return row(wanted, value, (value or 0) <= most, f"{value or 0:,.1f}{unit}")

    for name, least in (("one-pending", 0.9), ("many-pending", 0.85), ("new-connection", 0.9)):
        ratio = dig(scenarios, name, "servers", "capgate", "ratio", "median")
        yield at_least(f"{name}: at least {least} of Pingora's constant answer", ratio, least)
        if name == "one-pending":
            yield at_least("one-pending: at least 1.5 times nginx and Lua", times_lua(scenarios), 1.5)
    calls = [dig(scenarios, "amplification", pollers, "counted_per_task") for pollers in ("10", "100", "1000")]
    told = [number for number in calls if isinstance(number, (int, float))]
    shown = ", ".join(f"{number:.1f}" for number in told)
    yield row(
        "amplification: at most 12 upstream calls for each task of 20 s, for 10, 100 and 1 000 pollers alike",
        told or None, bool(told) and max(told) <= 12 and max(told) <= 1.25 * min(told), shown,
    )
    yield at_most(
        "slow-upstream: p99 of polls at most twice that before a quick one",
        dig(scenarios, "slow-upstream", "ratio", "median"), 2, " times",
    )
    for spread in ("15%", "30%"):
        yield at_most(
            f"ready-to-seen, solve times ±{spread}: median at most 400 ms",
            dig(scenarios, "ready-to-seen", spread, "ready_to_seen_ms", "p50"), 400, " ms",
        )
        yield at_most(
            f"ready-to-seen, solve times ±{spread}: at most 12 upstream calls for each task",
            dig(scenarios, "ready-to-seen", spread, "counted_per_task"), 12,
        )
    yield at_most(
        "1 000 000 open records: at most 250 bytes each, beyond the answer",
        dig(scenarios, "records", "bytes_per_record"), 250, " bytes",
    )
    yield at_most(
        "idle-connections: at most 12 kB each",
        dig(scenarios, "idle-connections", "servers", "capgate", "bytes", "median"), 12_000, " bytes",
    )


def times_lua(scenarios: Tree) -> float | None:
    """capgate's share over that of nginx and Lua, both with their log."""
    ours = dig(scenarios, "one-pending", "servers", "capgate", "ratio", "median")
    lua = dig(scenarios, "one-pending", "servers", "nginx-lua", "ratio", "median")
    return ours / lua if ours and lua else None


def span(told: Tree, form: str) -> str:
    """Median, and what it ranges over."""
    median, least, most = (format(told[name], form) for name in ("median", "min", "max"))
    return f"{median} ({least} – {most})"


def goal_lines(scenarios: Tree) -> Iterator[str]:
    """The table of goals."""
    yield "| goal | measured | met |"
    yield "|---|---|---|"
    for wanted, shown, holds in goals(scenarios):
        yield f"| {wanted} | {shown} | {'' if holds is None else 'yes' if holds else '**no**'} |"


def throughput_lines(name: str, told: Tree) -> Iterator[str]:
    """The table of one scenario with wrk."""
    rounds = told["servers"][REFERENCE]["runs"] // 2
    noise = told["noise"]
    yield ""
    yield f"### {name}"
    yield ""
    yield (
        f"{rounds} rounds. Two runs of {REFERENCE} in one round differ by {noise['median']:.1%} in the median,"
        f" {noise['max']:.1%} at most."
    )
    yield ""
    yield (
        "| server | polls a second | of Pingora's constant | p99, ms | core used | polls for a second of core"
        " | upstream calls for 1 000 polls |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for server, row in told["servers"].items():
        lost = row["log_lines_lost"]["median"]
        note = f", {lost:.0%} of log lines lost" if lost > 0 else ""
        yield (
            f"| {server}{note} | {span(row['rate'], ',.0f')} | {span(row['ratio'], '.2f')}"
            f" | {row['p99_ms']['median']:.2f} | {row['cpu']['median']:.0%} | {row['rate_per_core']['median']:,.0f}"
            f" | {row['upstream_per_1000']['median']:.2f} |"
        )


def idle_lines(told: Tree) -> Iterator[str]:
    """The table of idle connections."""
    yield ""
    yield "### idle-connections"
    yield ""
    yield f"{told['connections']:,} connections."
    yield ""
    yield "| server | bytes a connection |"
    yield "|---|--:|"
    for server, row in told["servers"].items():
        yield f"| {server} | {span(row['bytes'], ',.0f')} |"


def storm_lines(scenarios: Tree) -> Iterator[str]:
    """The storms, one line each."""
    lines = []
    for pollers, told in (scenarios.get("amplification") or {}).items():
        lines.append(
            f"| amplification, {pollers} pollers | {told['counted_per_task']:.1f} upstream calls a task,"
            f" {told['polls']:,} polls |"
        )
    slow = scenarios.get("slow-upstream")
    if slow:
        for latency, told in slow["p99_ms"].items():
            lines.append(f"| slow-upstream, {latency} ms | p99 {span(told, '.1f')} ms |")
    for spread, ready in (scenarios.get("ready-to-seen") or {}).items():
        seen = ready["ready_to_seen_ms"]
        lines.append(
            f"| ready-to-seen, ±{spread} | p50 {seen['p50']:.0f} ms, p90 {seen['p90']:.0f} ms, p99 {seen['p99']:.0f} ms,"
            f" {ready['counted_per_task']:.1f} upstream calls a task |"
        )
    for name, count in (scenarios.get("instructions") or {}).items():
        lines.append(f"| instructions, {name} | {count:,.0f} |")
    if lines:
        yield from ("", "### storms", "", "| what | measured |", "|---|---|", *lines)


def lines_of(results: Tree) -> Iterator[str]:
    """All that stands between the markers."""
    scenarios = results["scenarios"]
    machine = results.get("machine") or {}
    yield from goal_lines(scenarios)
    yield ""
    yield "Measured on: " + ", ".join(f"{name} {text}" for name, text in machine.items() if text) + "."
    if any(name in scenarios for name in THROUGHPUT):
        yield ""
        yield "![polls a second, as shares of Pingora's constant answer](performance.svg)"
    for name in THROUGHPUT:
        if name in scenarios:
            yield from throughput_lines(name, scenarios[name])
    if "idle-connections" in scenarios:
        yield from idle_lines(scenarios["idle-connections"])
    yield from storm_lines(scenarios)


WIDTH, LEFT, RIGHT, TOP, LINE, GAP = 820, 150, 30, 24, 20, 34


def drawing(scenarios: Tree) -> str:
    """A panel for each scenario: the median share as a dot, the range of all rounds as a line."""
    panels = [(name, scenarios[name]["servers"]) for name in THROUGHPUT if name in scenarios]
    shares = [row["ratio"]["max"] for _, rows in panels for row in rows.values()]
    most = max([1.0, *shares]) * 1.05
    parts, top = [], TOP
    for name, rows in panels:
        parts += panel(name, rows, top, most)
        top += LINE * (len(rows) + 2) + GAP
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>',
        *parts,
        "</svg>",
        "",
    ])


def panel(name: str, rows: Tree, top: int, most: float) -> Iterator[str]:
    """One scenario."""

    def x(share: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share / most, 1)

    bottom = top + LINE * (len(rows) + 1)
    yield f'<text x="{LEFT}" y="{top}" font-weight="bold">{escape(name)}</text>'
    for tenth in range(0, int(most * 10) + 1, 2):
        share, colour = tenth / 10, "#999" if tenth == 10 else "#e4e4e4"
        yield f'<path d="M{x(share)} {top + 8}V{bottom}" stroke="{colour}"/>'
        yield f'<text x="{x(share)}" y="{bottom + 14}" text-anchor="middle" fill="#666">{share:.1f}</text>'
    for place, (server, row) in enumerate(rows.items(), 1):
        y, ratio = top + LINE * place, row["ratio"]
        colour = "#c2410c" if server.startswith("capgate") else "#1d4ed8"
        yield f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(server)}</text>'
        yield (
            f'<path d="M{x(ratio["min"])} {y}H{x(ratio["max"])}" stroke="{colour}" stroke-width="2"'
            ' stroke-opacity="0.5"/>'
        )
        yield f'<circle cx="{x(ratio["median"])}" cy="{y}" r="4.5" fill="{colour}"/>'


def replaced(document: str, table: str) -> str:
    """The document with another table between the markers."""
    before, found, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise BenchError(f"{DOCUMENT.name} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def write(results: Tree) -> None:
    """Writes both."""
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), "\n".join(lines_of(results))))
    if any(name in results["scenarios"] for name in THROUGHPUT):
        DRAWING.write_text(drawing(results["scenarios"]))
