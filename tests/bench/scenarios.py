"""Which runs are made: each scenario starts a server, lets the products run on it in turn, and gives their samples.

What lives here: the order of things and the sizes. What does not: how a product is started (`products`), what the numbers must be (`goals`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from tests.bench import goals
from tests.bench.goals import Sample
from tests.bench.products import Setting, sample
from tests.bench.server import InThread, Orders, Served, ceiling
from tests.bench.world import copies_of

DAY_H = 24.0
TIMES = 3
# What a nightly reads again: SYNC_OVERLAP_MINUTES, the plan's margin and the second by which an end is asked wider.
READ_AGAIN_MS = (24 * 3600 + 60 + 1) * 1000
LONG_RUN_S = 60.0
# For P9 and P12: what is fetched side by side is held in memory, and so is what DuckDB may hold.
MODEST = Setting(concurrency=4, own={"WAREHOUSE_MEMORY_LIMIT_MB": "256"})
# The same number of changed rows, whatever the size.
SAME_CHANGE = {"customers": 250, "bookings": 1000, "events": 100}
NO_FILTER = "[abilities]\nfilters = false\nupper_bound = false\nsort = false\n"


@dataclass(frozen=True)
class Sizes:
    """Bookings of each world; a quarter as many customers and a tenth as many events come with them."""

    whole: int = 200_000
    limited: int = 40_000
    small: int = 100_000
    large: int = 1_000_000

    @classmethod
    def of_rows(cls, rows: int) -> Sizes:
        """The four in the proportion of the defaults, `whole` with about so many rows."""
        return cls(*(even(rows / 1.35 * share) for share in (1, 1 / 5, 1 / 2, 5)))


def even(bookings: float) -> int:
    """The nearest number of bookings below of which all copies in a world are alike."""
    number = max(round(bookings) // 20 * 20, 20)
    while True:
        try:
            copies_of(number)
        except ValueError:
            number -= 20
        else:
            return number


@dataclass
class Bench:
    """One sitting: where files go, how often, and what was measured. `peers`: which of script and dlt run."""

    folder: Path
    tell: Callable[[str], object]
    sizes: Sizes = field(default_factory=Sizes)
    times: int = TIMES
    peers: tuple[str, ...] = ("script", "dlt")
    until: float = float("inf")  # by the monotonic clock: after this nothing is repeated
    began: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    ceilings: dict[int, float] = field(default_factory=dict)

    def note(self, taken: Sample) -> Sample:
        """Keep and tell a sample."""
        self.samples.append(taken)
        wrong = f"; NOT EXACT: {taken.differences[0]}" if taken.differences else ""
        self.tell(
            f"{taken.scenario}: {taken.product} {taken.wall_s:.1f} s, {taken.cpu_s:.1f} CPU-s, {taken.peak_mb:.0f} MB, "
            f"{taken.requests} requests{wrong}"
        )
        return taken

    def repeats(self, product: str, taken: Sequence[Sample]) -> bool:
        """Whether a product runs once more: three times; once where a peer takes over a minute, or where time is running out."""
        if len(taken) >= self.times:
            return False
        if not taken:
            return True
        return time.monotonic() < self.until and (product == "ours" or taken[-1].wall_s <= LONG_RUN_S)

    def full(
        self, scenario: str, server: Orders, setting: Setting, products: Iterable[str], *, keep: bool = False
    ) -> None:
        """Full syncs into empty folders, the products in turn. `keep`: the last files of each stay, for the nights that follow."""
        setting.apply(server)
        minimum = server.minimum()
        taken: dict[str, list[Sample]] = {product: [] for product in products}
        while True:
            due = [product for product, own in taken.items() if self.repeats(product, own)]
            if not due:
                break
            for product in due:
                folder = self.folder_of(product)
                shutil.rmtree(folder, ignore_errors=True)
                made = sample(scenario, product, server, folder, setting, minimum=minimum)
                taken[product].append(self.note(made))
        if not keep:
            for product in taken:
                shutil.rmtree(self.folder_of(product), ignore_errors=True)

    def folder_of(self, product: str) -> Path:
        """Where a product keeps its files."""
        return self.folder / product

    def night(self, scenario: str, server: Orders, setting: Setting, products: Iterable[str], since_ms: int) -> None:
        """One incremental run of each, on the files of the last. `since_ms`: the API's time at which ours ran before."""
        for product in products:
            minimum = server.minimum(since_ms - READ_AGAIN_MS if product == "ours" else since_ms)
            self.note(sample(scenario, product, server, self.folder_of(product), setting, minimum=minimum))


def warm_up(bench: Bench) -> None:
    """Each product once on a world of nothing, so that no first run pays for reading programs from disk; no sample."""
    with InThread(100) as server:
        setting = Setting()
        setting.apply(server)
        for product in ("ours", *bench.peers):
            sample("warm-up", product, server, bench.folder_of(product), setting, minimum=0)
            shutil.rmtree(bench.folder_of(product))


def whole_world(bench: Bench, wanted: set[str]) -> None:
    """P1 to P5, P7 and P8: the world of 270,000 rows, read whole at three latencies, then night by night."""
    with _served(bench, bench.sizes.whole) as server:
        everyone = ("ours", *bench.peers)
        nights = bool(wanted & {"P7", "P8"})
        if wanted & {"P3", "P5"}:
            script = [p for p in bench.peers if p == "script"] if "P3" in wanted else []
            bench.full(goals.AT_50, server, Setting(latency_s=0.05), ["ours", *script])
        if wanted & {"P4", "P5"}:
            bench.full(goals.AT_150, server, Setting(latency_s=0.15), ["ours"])
        if "P5" in wanted:
            server.order("change", share=0.1, hours=1 / 60)
            bench.full(goals.BULK_50, server, Setting(latency_s=0.05), ["ours"])
            bench.full(goals.BULK_150, server, Setting(latency_s=0.15), ["ours"])
            server.order("reset")
            server.order("advance", hours=2 * DAY_H)
        if wanted & {"P1", "P2"} or nights:
            bench.full(goals.FULL, server, Setting(), everyone, keep=nights)
        if nights:
            _nights(bench, server, everyone, wanted)


def _nights(bench: Bench, server: Orders, everyone: Sequence[str], wanted: set[str]) -> None:
    """Quiet nights, then nights after 1 % changed; one a day. The first 1 % is not a sample: it fills the overlap that later nights read again."""
    setting = Setting()
    setting.apply(server)
    for number in range(bench.times if "P7" in wanted else 0):
        since = _day(server)
        bench.night(goals.QUIET, server, setting, everyone if number == 0 else ("ours",), since)
    if "P7" in wanted:
        _through_dagster(bench, server, setting)
    for number in range(bench.times + 1 if "P8" in wanted else 0):
        since = _day(server)
        server.order("change", share=0.01, hours=DAY_H - 1)
        if number == 0:
            for product in everyone:
                sample("first change", product, server, bench.folder_of(product), setting, minimum=0)
        else:
            bench.night(goals.CHANGED, server, setting, everyone, since)
    for product in everyone:
        shutil.rmtree(bench.folder_of(product), ignore_errors=True)


def _through_dagster(bench: Bench, server: Orders, setting: Setting) -> None:
    """The same quiet night through Dagster. Change days are marked for the last weeks only: how many there are is a setting, not work of the night."""
    began = time.gmtime(server.order("now")["ms"] / 1000 - timedelta(days=30).total_seconds())
    own = replace(setting, own={"SYNC_HISTORY_START": time.strftime("%Y-%m-%d", began)})
    _day(server)
    taken = sample(goals.DAGSTER, "ours", server, bench.folder_of("ours"), own, minimum=0, through_dagster=True)
    bench.note(replace(taken, product="dagster"))


def _day(server: Orders) -> int:
    """A day passes; gives the API's time before it, in milliseconds."""
    since = int(server.order("now")["ms"])
    server.order("advance", hours=DAY_H)
    return since


def limited_world(bench: Bench, wanted: set[str]) -> None:
    """P6, P10 and P11: the small world of 541 pages, with a rate limit, with faults, and without filters."""
    with _served(bench, bench.sizes.limited) as server:
        if "P6" in wanted:
            rate = Setting(rate=20.0, burst=10, requests_per_second=20.0, concurrency=4)
            bench.full(goals.LIMITED, server, rate, ["ours"])
        if "P11" in wanted:
            contract = bench.folder / "no-filter.toml"
            contract.write_text(NO_FILTER, encoding="utf-8")
            own = {"APPOINTEDD_CONTRACT": str(contract)}
            bench.full(goals.PLAIN, server, Setting(latency_s=0.05, filters=False, sort=False, own=own), ["ours"])
        if "P10" in wanted:
            for seed in range(1, bench.times + 1):
                bad_night(bench, server, seed)


def bad_night(bench: Bench, server: Orders, seed: int, product: str = "ours") -> None:
    """A full sync through the faults of a seed; where it is not exact yet, the run after it, without faults, must be."""
    folder = bench.folder_of(product)
    shutil.rmtree(folder, ignore_errors=True)
    server.order("reset")
    setting = Setting(faults=seed, concurrency=4)
    setting.apply(server)
    minimum = server.minimum()
    taken = sample(goals.BAD_NIGHT, product, server, folder, setting, minimum=minimum, may_fail=True)
    if taken.differences:
        bench.tell(
            f"bad night of seed {seed}: {product} was not exact ({taken.differences[0]}); once more without faults"
        )
        after = replace(setting, faults=None)
        after.apply(server)
        server.order("advance", hours=1.0)
        second = sample(goals.BAD_NIGHT, product, server, folder, after, minimum=minimum, may_fail=True)
        taken = replace(
            taken,
            differences=second.differences,
            requests=taken.requests + second.requests,
            wall_s=taken.wall_s + second.wall_s,
            cpu_s=taken.cpu_s + second.cpu_s,
            peak_mb=max(taken.peak_mb, second.peak_mb),
        )
    bench.note(taken)
    shutil.rmtree(folder, ignore_errors=True)


def small_and_large(bench: Bench, wanted: set[str]) -> None:
    """P9 and P12: 100,000 and a million bookings, each read whole and then after the same change."""
    sizes = (
        (bench.sizes.small, goals.SMALLER, goals.SAME_SMALLER),
        (bench.sizes.large, goals.LARGER, goals.SAME_LARGER),
    )
    for bookings, full, same in sizes:
        with _served(bench, bookings) as server:
            setting = MODEST
            bench.full(full, server, setting, ["ours"], keep="P12" in wanted)
            if "P12" in wanted:
                since = _day(server)
                server.order("change", counts=fitting(bench.sizes.small), hours=DAY_H - 1)
                bench.night(same, server, setting, ["ours"], since)
                shutil.rmtree(bench.folder_of("ours"), ignore_errors=True)


def fitting(bookings: int) -> Mapping[str, int]:
    """The change that is made in both sizes, cut down where the smaller world is small."""
    share = min(1.0, bookings / 100_000)
    return {name: max(1, round(count * share)) for name, count in SAME_CHANGE.items()}


def custom(bench: Bench, bookings: int, setting: Setting) -> None:
    """One comparison on a world and a server of one's own choice; no goal is judged."""
    with _served(bench, bookings) as server:
        if setting.faults is not None:
            bad_night(bench, server, setting.faults)
            return
        bench.full(goals.CUSTOM, server, setting, ("ours", *bench.peers))


def growth(bench: Bench, sizes: Sequence[int]) -> None:
    """Worlds of ever more bookings: read whole, after 1 % changed, and with nothing changed."""
    for bookings in sizes:
        with _served(bench, bookings) as server:
            setting = Setting()
            name = f"{bookings:,} bookings"
            once = replace(bench, times=1)
            once.full(f"{name}: full", server, setting, ["ours"], keep=True)
            since = _day(server)
            once.night(f"{name}: quiet", server, setting, ["ours"], since)
            since = _day(server)
            server.order("change", share=0.01, hours=DAY_H - 1)
            once.night(f"{name}: 1 %", server, setting, ["ours"], since)
            shutil.rmtree(bench.folder_of("ours"), ignore_errors=True)


def _served(bench: Bench, bookings: int) -> Served:
    server = Served(bookings)
    bench.ceilings[bookings] = ceiling(server)
    bench.tell(
        f"server of {bookings:,} bookings: made in {server.built_s:.0f} s, its own ceiling {bench.ceilings[bookings]:,.0f} pages/s"
    )
    return server
