"""The small bench, without peers and without a clock: does something collapse? Requests made, peak memory, and what a night costs as the warehouse grows.

Its bounds are generous on purpose; the goals themselves are judged by the whole bench. Never wall time: the machine that runs this is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.settings import Settings
from tests.bench.products import UNLIMITED, Setting
from tests.bench.scenarios import DAY_H, READ_AGAIN_MS, Bench
from tests.bench.server import InThread, Orders
from tests.bench.truth import differences
from tests.equality import night

SMALLER, LARGER = 400, 1600
SAME_CHANGE: Mapping[str, int] = {"customers": 20, "bookings": 60, "events": 8}
# Twice the least for the list that is read once more as a whole after a first load, and a few for each stretch of history that is asked for alone.
MOST_FULL, MOST_APART = 2.0, 60
# Where the emulated history begins, about: each year before it would be asked for in vain.
HISTORY_START = "2023-01-01"
MOST_ABOVE_MINIMUM = 6
MOST_MB = 600.0


@dataclass(frozen=True)
class Finding:
    """One bound: what was counted, at most what, and whether it held."""

    told: str
    counted: float
    most: float

    @property
    def held(self) -> bool:
        """Whether the bound held."""
        return self.counted <= self.most


@dataclass(frozen=True)
class Night:
    """What one night took, counted and not timed."""

    requests: int
    tokens: int
    minimum: int
    written: int
    differences: list[str]


def _night(server: Orders, folder: Path, since_ms: int | None) -> Night:
    """A nightly in this process, `since_ms` after the API's time of the last one (None: the first load): by the functions that the command line calls."""
    values: dict[str, Any] = {name.lower(): value for name, value in server.environment.items()}
    values |= {
        "warehouse_path": folder / "warehouse.duckdb",
        "warehouse_published_path": folder / "analytics.duckdb",
        "sync_requests_per_second": UNLIMITED,
        "sync_account_time_zones": server.zones,
        "sync_history_start": HISTORY_START,
    }
    folder.mkdir(exist_ok=True)
    server.order("counts")
    done = night(Settings(_env_file=None, **values))  # type: ignore[call-arg]  # pydantic-settings' own argument
    assert done.problems == []
    counts = server.order("counts")
    return Night(
        requests=counts["requests"],
        tokens=counts["tokens"],
        minimum=server.minimum(None if since_ms is None else since_ms - READ_AGAIN_MS),
        written=sum(s.counts.inserted + s.counts.updated + s.counts.tombstoned for s in done.streams),
        differences=differences("ours", folder / "warehouse.duckdb", server.truth()),
    )


def _changed(server: Orders, folder: Path) -> Night:
    """A day later, after the same change."""
    since = int(server.order("now")["ms"])
    server.order("advance", hours=DAY_H)
    server.order("change", counts=SAME_CHANGE, hours=DAY_H - 1)
    return _night(server, folder, since)


def findings(folder: Path, tell: Callable[[str], object]) -> list[Finding]:
    """Everything that was counted, with its bounds. Only the larger first load is a process of its own: there memory is measured."""
    bench = Bench(folder, tell, times=1)
    with InThread(SMALLER) as server:
        small = _night(server, folder / "small", None)
        small_night = _changed(server, folder / "small")
    with InThread(LARGER) as server:
        setting = Setting(concurrency=4, own={"SYNC_HISTORY_START": HISTORY_START})
        bench.full("first load", server, setting, ["ours"], keep=True)
        large, large_night = bench.samples[0], _changed(server, bench.folder_of("ours"))
    changed = sum(SAME_CHANGE.values())
    found = [
        Finding(f"{name}: differences from the server", len(s.differences), 0)
        for name, s in (
            ("first load, small", small),
            ("first load, large", large),
            ("night, small", small_night),
            ("night, large", large_night),
        )
    ]
    found += [
        Finding("requests of a first load", large.requests, MOST_FULL * large.minimum + MOST_APART),
        Finding("requests of a night above the fewest", large_night.requests - large_night.minimum, MOST_ABOVE_MINIMUM),
        Finding("token requests of four runs", sum(s.tokens for s in (small, small_night, large, large_night)), 4),
        Finding("peak memory of a first load, MB", large.peak_mb, MOST_MB),
        Finding(
            "requests of the same change at four times the rows, more", large_night.requests - small_night.requests, 0
        ),
        Finding("rows written of the same change at four times the rows, more", large_night.written - changed, 0),
        Finding("rows of the change that were not written", changed - small_night.written, 0),
    ]
    return found
