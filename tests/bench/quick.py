"""The small bench, without peers and without a clock: does something collapse? Requests made, peak memory, and what a night costs as the warehouse grows.

Its bounds are generous on purpose; the goals themselves are judged by the whole bench. Never wall time: the machine that runs this is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.goals import Sample
from tests.bench.products import Setting
from tests.bench.scenarios import DAY_H, Bench
from tests.bench.server import Served

SMALLER, LARGER = 400, 1600
SAME_CHANGE: Mapping[str, int] = {"customers": 20, "bookings": 60, "events": 8}
# Twice the least for the list that is read once more as a whole after a first load, and a few for each stretch of history that is asked for alone.
MOST_FULL, MOST_APART = 2.0, 60
# Where the emulated history begins, about: each year before it would be asked for in vain.
HISTORY_START = "2023-01-01"
MOST_ABOVE_MINIMUM = 6
MOST_MB = 700.0
# The rows of a stream, its children and its history grow with it; the process itself does not.
MOST_MEMORY_GROWTH = 1.5


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


def _both(bench: Bench, bookings: int) -> tuple[Sample, Sample, int]:
    """A first load and the night after the same change, on a world of a size; with the token requests of both."""
    with Served(bookings) as server:
        setting = Setting(concurrency=4, own={"SYNC_HISTORY_START": HISTORY_START})
        bench.full(f"full, {bookings:,} bookings", server, setting, ["ours"], keep=True)
        since = int(server.order("now")["ms"])
        server.order("advance", hours=DAY_H)
        server.order("change", counts=SAME_CHANGE, hours=DAY_H - 1)
        bench.night(f"the same change, {bookings:,} bookings", server, setting, ["ours"], since)
    full, night = bench.samples[-2:]
    return full, night, full.tokens + night.tokens


def findings(folder: Path, tell: Callable[[str], object]) -> list[Finding]:
    """Everything that was counted, with its bounds."""
    bench = Bench(folder, tell, times=1)
    small, small_night, tokens = _both(bench, SMALLER)
    large, large_night, more_tokens = _both(bench, LARGER)
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
        Finding("token requests of four runs", tokens + more_tokens, 4),
        Finding("peak memory of a first load, MB", large.peak_mb, MOST_MB),
        Finding("peak memory at four times the rows, times", large.peak_mb / small.peak_mb, MOST_MEMORY_GROWTH),
        Finding(
            "requests of the same change at four times the rows, more", large_night.requests - small_night.requests, 0
        ),
        Finding(
            "rows written of the same change at four times the rows, more", (large_night.written or 0) - changed, 0
        ),
        Finding("rows of the change that were not written", changed - (small_night.written or 0), 0),
    ]
    return found
