"""What was measured, for people: tables for the terminal, docs/benchmarks.md and its two plots. Nothing is computed here that `goals` decides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.goals import AT_50, AT_150, FULL, LARGER, SMALLER, Sample

Json = dict[str, Any]
COLOURS = {"ours": "#0b7285", "script": "#e8590c", "dlt": "#862e9c"}
LABELS = {"ours": "appointedd-warehouse sync", "script": "script of one afternoon", "dlt": "dlt"}
UNBOUND_WIDTH = 200  # in a file or a pipe nothing is cut off
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 64, 48, 40, 24
# Between these marks `--write-docs` and `--growth --write-docs` put their tables; the prose around them is kept.
GOALS_MARK, GROWTH_MARK = "goals", "growth"


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNBOUND_WIDTH
    return console


def show_goals(judged: Sequence[Json]) -> None:
    """The goals and whether they are met, on the terminal."""
    table = Table(title="Goals", title_justify="left", title_style="bold")
    for name in ("goal", "asked", "measured", "ratio", "met"):
        table.add_column(name, justify="right" if name == "ratio" else "left", overflow="fold")
    for one in judged:
        told = "-" if one["ratio"] is None else f"{one['ratio']:.2f}"
        table.add_row(one["name"], one["goal"], one["measured"], told, "yes" if one["met"] else "NO")
    _console().print(table)


def show_samples(samples: Sequence[Sample]) -> None:
    """Medians by scenario and product, with how often each ran and its ratio to ours."""
    console = _console()
    table = Table(title="Medians", title_justify="left", title_style="bold")
    for number, name in enumerate(SAMPLE_COLUMNS):
        table.add_column(name, justify="left" if number < 2 else "right")
    for row in sample_rows(samples):
        table.add_row(*row)
    console.print(table)


PLOTS = """![Wall by latency](wall-by-latency.svg)
![Peak memory by rows](memory-by-rows.svg)

Dashed: the script's run at 0 ms and one request after the other, also where it was not run. Memory of ours: 4 in flight, `WAREHOUSE_MEMORY_LIMIT_MB=256`."""
SAMPLE_COLUMNS = (
    "scenario",
    "product",
    "n",
    "wall",
    "x ours",
    "CPU",
    "x ours",
    "highest peak",
    "requests",
    "429s",
    "exact",
)


def sample_rows(samples: Sequence[Sample]) -> list[list[str]]:
    """The cells of the table of medians."""
    runs: dict[tuple[str, str], list[Sample]] = {}
    for one in samples:
        runs.setdefault((one.scenario, one.product), []).append(one)
    rows = []
    for (scenario, product), own in runs.items():
        ours = runs.get((scenario, "ours"))
        wall, cpu = median(s.wall_s for s in own), median(s.cpu_s for s in own)
        rows.append(
            [
                scenario,
                product,
                str(len(own)),
                f"{wall:.1f} s",
                f"{wall / median(s.wall_s for s in ours):.1f}" if ours else "-",
                f"{cpu:.1f} s",
                f"{cpu / median(s.cpu_s for s in ours):.1f}" if ours else "-",
                f"{max(s.peak_mb for s in own):.0f} MB",
                f"{median(s.requests for s in own):.0f}",
                str(max(s.limited for s in own)),
                "NO" if any(s.differences for s in own) else "yes",
            ]
        )
    return rows


GROWTH_COLUMNS = (
    "run",
    "rows",
    "wall",
    "CPU",
    "CPU for 100k rows",
    "peak",
    "published file",
    "last commit to published",
)


def growth_rows(samples: Sequence[Sample]) -> list[list[str]]:
    """The cells of the table of growth."""
    return [
        [
            s.scenario,
            f"{s.rows:,}",
            f"{s.wall_s:.1f} s",
            f"{s.cpu_s:.1f} s",
            f"{s.cpu_s / s.rows * 1e5:.2f} s" if s.scenario.endswith("full") else "",
            f"{s.peak_mb:.0f} MB",
            f"{s.file_mb:.1f} MB",
            f"{s.publish_s:.1f} s" if s.publish_s is not None else "",
        ]
        for s in samples
    ]


def show_growth(samples: Sequence[Sample]) -> None:
    """The table of growth on the terminal."""
    table = Table(title="Growth", title_justify="left", title_style="bold")
    for number, name in enumerate(GROWTH_COLUMNS):
        table.add_column(name, justify="right" if number else "left")
    for row in growth_rows(samples):
        table.add_row(*row)
    _console().print(table)


# ---- docs/benchmarks.md ----------------------------------------------------------------------------------------------------------


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _put(file: Path, mark: str, text: str) -> None:
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    whole = file.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(f"{file} has no {begin} … {end} to write between; put the two marks back.")
    file.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", whole), encoding="utf-8")


def _machine(machine: Mapping[str, Any]) -> str:
    ceilings = ", ".join(f"{pages:,.0f} pages/s at {int(n):,} bookings" for n, pages in machine["ceilings"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['when']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, {machine['system']}, "
        f"Python {machine['python']}; {versions}. Load before the first run: {machine['load']:.1f}.\n"
        f"The server's own ceiling, drawn by four connections of a client that only counts bytes: {ceilings}."
    )


def write_goals(docs: Path, judged: Sequence[Json], samples: Sequence[Sample], machine: Mapping[str, Any]) -> None:
    """Tables and plots of one sitting into docs/benchmarks.md and the two SVG files beside it."""
    rows = [
        [
            j["name"],
            j["goal"],
            j["measured"],
            "-" if j["ratio"] is None else f"{j['ratio']:.2f}",
            "yes" if j["met"] else "**no**",
        ]
        for j in judged
    ]
    text = "\n\n".join(
        (
            _machine(machine),
            _markdown(("goal", "asked", "measured", "ratio", "met"), rows),
            _markdown(SAMPLE_COLUMNS, sample_rows(samples)),
            PLOTS,
        )
    )
    _put(docs / "benchmarks.md", GOALS_MARK, text)
    (docs / "wall-by-latency.svg").write_text(wall_by_latency(samples), encoding="utf-8")
    (docs / "memory-by-rows.svg").write_text(memory_by_rows(samples), encoding="utf-8")


def write_growth(docs: Path, samples: Sequence[Sample], machine: Mapping[str, Any]) -> None:
    """The table of growth into docs/benchmarks.md."""
    _put(
        docs / "benchmarks.md",
        GROWTH_MARK,
        _machine(machine) + "\n\n" + _markdown(GROWTH_COLUMNS, growth_rows(samples)),
    )


# ---- plots -----------------------------------------------------------------------------------------------------------------------

Points = dict[str, list[tuple[float, float]]]


def wall_by_latency(samples: Sequence[Sample]) -> str:
    """Wall seconds of a full sync by latency. Dashed: the run at 0 ms and one request after the other, where a peer was not run."""
    points: Points = {}
    dashed: Points = {}
    whole = [s for s in samples if s.scenario in (FULL, AT_50, AT_150) and s.product in COLOURS]
    for product in COLOURS:
        for latency in sorted({s.latency_s for s in whole if s.product == product}):
            walls = [s.wall_s for s in whole if s.product == product and s.latency_s == latency]
            points.setdefault(product, []).append((latency * 1000, median(walls)))
        first = next((s for s in whole if s.product == product and not s.latency_s), None)
        if first is not None and product == "script":
            start = points[product][0][1]
            dashed[product] = [(ms, start + first.minimum * ms / 1000) for ms in (0.0, 50.0, 150.0)]
    return _plot("Full sync, wall by latency", "ms a response", "seconds", points, dashed)


def memory_by_rows(samples: Sequence[Sample]) -> str:
    """Peak memory of a full sync by rows; of ours in the setting that is meant to hold little."""
    points: Points = {}
    held = {"ours": (SMALLER, LARGER)}
    whole = [s for s in samples if s.product in COLOURS and s.scenario in held.get(s.product, (FULL,))]
    for product in COLOURS:
        for rows in sorted({s.rows for s in whole if s.product == product}):
            peaks = [s.peak_mb for s in whole if s.product == product and s.rows == rows]
            points.setdefault(product, []).append((rows / 1000, max(peaks)))
    return _plot("Full sync, peak memory by rows", "thousand rows", "MB", points, {})


def _step(most: float) -> float:
    """A round distance of grid lines, about five of them."""
    size = 1.0
    while size * 10 <= most:
        size *= 10
    while size > most:
        size /= 10
    return next(size * n for n in (0.2, 0.5, 1, 2, 5) if most / (size * n) <= 6)


def _plot(title: str, across: str, up: str, points: Points, dashed: Points) -> str:
    """A line chart as SVG: both axes begin at 0."""
    every = [point for lines in (points, dashed) for line in lines.values() for point in line] or [(1.0, 1.0)]
    right, top = max(x for x, _ in every) or 1.0, max(y for _, y in every) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / right,
            HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / (top * 1.05),
        )

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img" aria-label="{title}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{title}</text>',
    ]
    for number in range(int(top * 1.05 / _step(top)) + 1):
        value = number * _step(top)
        _, y = at(0, value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dee2e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#495057">{value:,.4g}</text>')
    for x in sorted({x for x, _ in every}):
        place, y = at(x, 0)
        parts.append(f'<text x="{place:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#495057">{x:,.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end" fill="#495057">{across}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{TOP - 6}" text-anchor="end" fill="#495057">{up}</text>')
    for lines, style in ((points, ""), (dashed, ' stroke-dasharray="5 4"')):
        for product, line in lines.items():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
            parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[product]}" stroke-width="2"{style}/>')
    for product, line in points.items():
        for x, y in (at(*point) for point in line):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{COLOURS[product]}"/>')
    for number, product in enumerate(points):
        y = TOP + 8 + 18 * number
        parts.append(f'<rect x="{LEFT + 16}" y="{y - 9}" width="10" height="10" fill="{COLOURS[product]}"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{y}">{LABELS[product]}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
