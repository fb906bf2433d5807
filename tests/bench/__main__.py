"""`make bench`, `make bench-quick`, `make growth`: options in, tables and JSON out. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resources.settings import PROJECT_FOLDER
from tests.bench import goals, report, scenarios
from tests.bench.measure import RunFailedError
from tests.bench.products import PEERS_PYTHON, Setting
from tests.bench.quick import findings
from tests.bench.scenarios import Bench, Sizes

BUILD = PROJECT_FOLDER / "build"
DOCS = PROJECT_FOLDER / "docs"
GROWTH = (10_000, 100_000, 1_000_000)
# The whole bench is to end within 40 minutes on two cores: after so many nothing is run a second time.
MINUTES_TO_REPEAT = 25
WORLDS: tuple[tuple[Callable[[Bench, set[str]], None], set[str]], ...] = (
    (scenarios.whole_world, {"P1", "P2", "P3", "P4", "P5", "P7", "P8"}),
    (scenarios.limited_world, {"P6", "P10", "P11"}),
    (scenarios.small_and_large, {"P9", "P12"}),
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Runs this product and its peers in turn on one emulated world, and judges the goals P1 to P12.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small worlds, no peers, generous bounds; under half a minute"
    )
    parser.add_argument(
        "--growth", action="store_true", help=f"full, quiet and 1 %% at {', '.join(map(str, GROWTH))} bookings"
    )
    parser.add_argument("--only", default="", metavar="P1,P6", help="these goals only")
    parser.add_argument("--rows", type=int, help="rows of the whole world, 270000 by default; the others in proportion")
    parser.add_argument("--times", type=int, default=scenarios.TIMES, help="runs of each; long ones of peers run once")
    parser.add_argument("--without-peers", action="store_true", help="ours alone; goals that compare are left out")
    parser.add_argument("--write-docs", action="store_true", help="put tables and plots into docs/benchmarks.md")
    own = parser.add_argument_group("a comparison of your own: any of these, and no goal is judged")
    own.add_argument("--latency", type=float, metavar="MS", help="milliseconds added to each answer")
    own.add_argument("--rate", type=float, metavar="N", help="requests a second that the server allows; burst 10")
    own.add_argument(
        "--faults",
        type=int,
        metavar="SEED",
        help="a bad night of this seed, alone: it has a setting of its own, and no peer takes part",
    )
    own.add_argument("--in-flight", type=int, metavar="N", help="SYNC_CONCURRENCY of ours; 32 by default")
    return parser.parse_args()


def _machine(bench: Bench, load: float) -> dict[str, Any]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": load,
        "versions": {name: version(name) for name in ("duckdb", "polars", "httpx", "dagster")} | _peer_versions(),
        "ceilings": {str(n): round(pages) for n, pages in bench.ceilings.items()},
    }


def _peer_versions() -> dict[str, str]:
    found = next(PEERS_PYTHON.parent.parent.glob("lib/python*/site-packages/dlt-*.dist-info"), None)
    return {"dlt": found.name.split("-")[1].removesuffix(".dist")} if found else {}


def _write_json(name: str, value: object) -> Path:
    BUILD.mkdir(exist_ok=True)
    file = BUILD / name
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return file


def _quick(folder: Path) -> int:
    found = findings(folder, print)
    for one in found:
        print(f"{'ok ' if one.held else 'NOT'}  {one.told}: {one.counted:.6g} (at most {one.most:.6g})")
    return 0 if all(one.held for one in found) else 1


def _growth(bench: Bench, given: argparse.Namespace, load: float) -> int:
    sizes = [scenarios.even(given.rows / 1.35)] if given.rows else GROWTH
    scenarios.warm_up(bench)
    scenarios.growth(bench, sizes)
    machine = _machine(bench, load)
    report.show_growth(bench.samples)
    print(_write_json("growth.json", {"machine": machine, "samples": [asdict(s) for s in bench.samples]}))
    if given.write_docs:
        report.write_growth(DOCS, bench.samples, machine)
    return 1 if any(s.differences for s in bench.samples) else 0


def _custom(bench: Bench, given: argparse.Namespace) -> int:
    bookings = scenarios.even(given.rows / 1.35) if given.rows else Sizes().whole
    scenarios.warm_up(bench)
    setting = Setting(
        latency_s=(given.latency or 0.0) / 1000,
        rate=given.rate,
        burst=10 if given.rate else 1,
        concurrency=given.in_flight or Setting().concurrency,
        requests_per_second=given.rate or Setting().requests_per_second,
        faults=given.faults,
    )
    scenarios.custom(bench, bookings, setting)
    report.show_samples(bench.samples)
    return 1 if any(s.differences for s in bench.samples if s.product == "ours") else 0


def _goals(bench: Bench, given: argparse.Namespace, load: float) -> int:
    known = [goals.number_of(name) for name in goals.GOALS]
    wanted = {one.strip().upper() for one in given.only.split(",") if one.strip()} or set(known)
    if strangers := wanted - set(known):
        print(f"There is no goal {', '.join(sorted(strangers))}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    try:
        scenarios.warm_up(bench)
        for run_world, served in WORLDS:
            if wanted & served:
                run_world(bench, wanted)
    finally:
        # What was measured before something broke is worth keeping.
        machine = _machine(bench, load)
        judged = goals.judge(bench.samples, machine, sorted(wanted))
        report.show_samples(bench.samples)
        report.show_goals(judged)
        print(_write_json("bench.json", judged))
    print(f"Took {(time.monotonic() - bench.began) / 60:.1f} minutes.")
    if given.write_docs:
        report.write_goals(DOCS, judged, bench.samples, machine)
    # A goal that is missed is told, not an error of the bench; a wrong table is.
    return 1 if any(s.differences for s in bench.samples if s.product == "ours") else 0


def main() -> int:
    """0 where everything that ours wrote was exact (`--quick`: where every bound held), 2 for wrong use."""
    given = _arguments()
    if not Path("/proc/self/statm").exists():
        print("The bench reads memory from /proc, so it runs on Linux only.", file=sys.stderr)
        return 2
    peers = () if given.without_peers or given.quick or given.growth or given.faults is not None else ("script", "dlt")
    if peers and not PEERS_PYTHON.exists():
        print(
            "The peers are not installed; `make bench` does that, or leave them out with --without-peers.",
            file=sys.stderr,
        )
        return 2
    own = [one for one in (given.latency, given.rate, given.in_flight) if one is not None]
    if own and given.faults is not None:
        print(
            "--faults has a latency, a pace and a number in flight of its own; give it alone, or with --rows.",
            file=sys.stderr,
        )
        return 2
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        if given.quick:
            return _quick(folder)
        bench = Bench(
            folder,
            lambda text: print(text, flush=True),
            sizes=Sizes.of_rows(given.rows) if given.rows else Sizes(),
            times=given.times,
            peers=peers,
            until=time.monotonic() + MINUTES_TO_REPEAT * 60,
        )
        if given.growth:
            return _growth(bench, given, load)
        if own or given.faults is not None:
            return _custom(bench, given)
        return _goals(bench, given, load)
    except RunFailedError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
