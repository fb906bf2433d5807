"""The goals P1 to P12 as arithmetic: samples in, the list for build/bench.json out. Nothing is run or read here.

`ratio` is what was measured over what the goal allows, the worst of its conditions: 1 is just met, below is better. A goal whose samples were not
exact is not met, whatever its numbers are. A goal without samples is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One run of one product. `requests` are those to the API, tokens apart; `minimum` the fewest that could have shown what was to be read.

    `span_s` is from the first request to the last. `rows`: those of the world, `written`: those that ours inserted, updated or retired. `differences`:
    where the file is not what the server holds; of a bad night, after the run that follows it.
    """

    scenario: str
    product: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    requests: int
    tokens: int
    limited: int
    span_s: float
    max_in_flight: int
    minimum: int
    rows: int
    bookings: int
    file_mb: float
    written: int | None = None
    publish_s: float | None = None
    latency_s: float = 0.0
    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None
    requests_per_second: float | None = None
    exit_code: int = 0
    differences: tuple[str, ...] = ()


# The scenarios, by the name that their samples carry.
FULL, AT_50, AT_150 = "full", "full, 50 ms", "full, 150 ms"
BULK_50, BULK_150 = "full after a bulk update, 50 ms", "full after a bulk update, 150 ms"
LIMITED, QUIET, CHANGED = "full, 20 requests a second", "nothing changed", "1 % changed"
SMALLER, LARGER = "full, small", "full, large"
SAME_SMALLER, SAME_LARGER = "the same change, small", "the same change, large"
BAD_NIGHT, PLAIN = "bad night", "full, no filter or sort, 50 ms"
DAGSTER, CUSTOM = "nothing changed, through Dagster", "custom"


@dataclass(frozen=True)
class Condition:
    """One thing that a goal asks: `measured` at most `limit`. `told` is for people."""

    told: str
    measured: float
    limit: float

    @property
    def ratio(self) -> float:
        """Measured over allowed."""
        if self.limit > 0:
            return self.measured / self.limit
        return 0.0 if self.measured <= 0 else float("inf")


Runs = Mapping[tuple[str, str], Sequence[Sample]]


class _MissingError(Exception):
    """A goal needs samples that were not taken."""


def _of(runs: Runs, scenario: str, product: str = "ours") -> Sequence[Sample]:
    found = runs.get((scenario, product))
    if not found:
        raise _MissingError
    return found


def _middle(runs: Runs, scenario: str, what: Callable[[Sample], float], product: str = "ours") -> float:
    return float(median(map(what, _of(runs, scenario, product))))


def _wall(sample: Sample) -> float:
    return sample.wall_s


def _cpu(sample: Sample) -> float:
    return sample.cpu_s


def _peak(sample: Sample) -> float:
    return sample.peak_mb


def _against(runs: Runs, scenario: str, what: Callable[[Sample], float], shares: Mapping[str, int]) -> list[Condition]:
    ours = _middle(runs, scenario, what)
    conditions = []
    for product, share in shares.items():
        theirs = _middle(runs, scenario, what, product)
        told = f"{ours:.1f} s against {theirs:.1f} s of {product} (1/{theirs / ours:.1f})"
        conditions.append(Condition(told, ours, theirs / share))
    return conditions


def _bound(sample: Sample) -> float:
    """Seconds that latency alone takes with so many in flight."""
    return sample.minimum * sample.latency_s / (sample.concurrency or 1)


def _against_latency(runs: Runs, scenario: str, times: float) -> Condition:
    ours, bound = _middle(runs, scenario, _wall), _bound(_of(runs, scenario)[0])
    told = f"{ours:.1f} s are {ours / bound:.2f} x the bound of {bound:.1f} s"
    return Condition(told, ours, times * bound)


def _p1(runs: Runs) -> list[Condition]:
    return _against(runs, FULL, _wall, {"dlt": 8, "script": 2})


def _p2(runs: Runs) -> list[Condition]:
    conditions = _against(runs, FULL, _cpu, {"dlt": 8, "script": 2})
    first = _of(runs, FULL)[0]
    each = _middle(runs, FULL, _cpu) / first.bookings * 100_000
    return [
        Condition(
            f"{each:.1f} CPU-s for 100k bookings; " + conditions[0].told, conditions[0].measured, conditions[0].limit
        ),
        *conditions[1:],
    ]


def _p3(runs: Runs) -> list[Condition]:
    return [*_against(runs, AT_50, _wall, {"script": 12}), _against_latency(runs, AT_50, 2.5)]


def _p4(runs: Runs) -> list[Condition]:
    return [_against_latency(runs, AT_150, 1.6)]


def _p5(runs: Runs) -> list[Condition]:
    conditions = []
    for bulk, plain in ((BULK_50, AT_50), (BULK_150, AT_150)):
        ours, before = _middle(runs, bulk, _wall), _middle(runs, plain, _wall)
        conditions.append(Condition(f"{ours:.1f} s are {ours / before:.2f} x {before:.1f} s", ours, 1.2 * before))
    return conditions


def _p6(runs: Runs) -> list[Condition]:
    samples = _of(runs, LIMITED)
    first = samples[0]
    assert first.rate is not None
    bound = (first.minimum - first.burst) / first.rate
    span, asked = _middle(runs, LIMITED, lambda s: s.span_s), _middle(runs, LIMITED, lambda s: s.requests)
    limited = max(s.limited for s in samples)
    return [
        Condition(f"{span:.1f} s are {span / bound:.2f} x the bound of {bound:.1f} s", span, 1.12 * bound),
        Condition(f"{limited} of {asked:.0f} requests answered 429", limited, 0.01 * asked),
    ]


def _p7(runs: Runs) -> list[Condition]:
    samples = _of(runs, QUIET)
    requests, tokens = max(s.requests for s in samples), max(s.tokens for s in samples)
    least = max(s.minimum for s in samples)
    return [
        Condition(f"{requests} requests where {least} would do", requests, least),
        Condition(f"{tokens} token", tokens, 1),
    ]


def _p8(runs: Runs) -> list[Condition]:
    samples = _of(runs, CHANGED)
    worst = max(samples, key=lambda s: s.requests - s.minimum)
    told = f"{worst.requests} requests where {worst.minimum} would do"
    return [Condition(told, worst.requests, worst.minimum + 4), *_against(runs, CHANGED, _wall, {"dlt": 3})]


def _p9(runs: Runs) -> list[Condition]:
    large, small = _middle(runs, LARGER, _peak), _middle(runs, SMALLER, _peak)
    bookings = [f"{_of(runs, scenario)[0].bookings:,}" for scenario in (LARGER, SMALLER)]
    return [
        Condition(f"{large:.0f} MB at {bookings[0]} bookings", large, 700),
        Condition(f"{large / small:.2f} x the {small:.0f} MB at {bookings[1]}", large, 1.3 * small),
    ]


def _p10(runs: Runs) -> list[Condition]:
    samples = _of(runs, BAD_NIGHT)
    wrong = sum(bool(s.differences) for s in samples)
    asked = sum(s.requests for s in samples)
    return [Condition(f"{len(samples) - wrong} of {len(samples)} exact; {asked} requests in all", wrong, 0)]


def _p11(runs: Runs) -> list[Condition]:
    ours, first = _middle(runs, PLAIN, _wall), _of(runs, PLAIN)[0]
    bound = first.minimum * first.latency_s
    return [Condition(f"{ours:.1f} s are {ours / bound:.2f} x the bound of {bound:.1f} s", ours, 1.1 * bound)]


def _p12(runs: Runs) -> list[Condition]:
    each = [median(s.cpu_s / s.rows for s in _of(runs, scenario)) * 1e5 for scenario in (LARGER, SMALLER)]
    large, small = _of(runs, SAME_LARGER)[0], _of(runs, SAME_SMALLER)[0]
    if large.written is None or small.written is None:
        raise _MissingError
    return [
        Condition(
            f"{each[0]:.2f} CPU-s for 100k rows are {each[0] / each[1]:.2f} x {each[1]:.2f}", each[0], 1.15 * each[1]
        ),
        Condition(
            f"the same change takes {large.requests} and {small.requests} requests", large.requests, small.requests
        ),
        Condition(f"and writes {large.written} and {small.written} rows", large.written, small.written),
    ]


# Goal → its words, the scenarios whose samples must be exact, and its arithmetic.
GOALS: dict[str, tuple[str, tuple[str, ...], Callable[[Runs], list[Condition]]]] = {
    "P1 full sync, wall": ("at most 1/8 of dlt and 1/2 of the script", (FULL,), _p1),
    "P2 full sync, CPU of the process tree": ("at most 1/8 of dlt and 1/2 of the script", (FULL,), _p2),
    "P3 50 ms a response": ("at most 1/12 of the script and 2.5 x (pages x latency / in flight)", (AT_50,), _p3),
    "P4 150 ms a response": ("at most 1.6 x (pages x latency / in flight)", (AT_150,), _p4),
    "P5 the same after a bulk update": ("within 1.2 x of P3 and P4", (AT_50, AT_150, BULK_50, BULK_150), _p5),
    "P6 20 requests a second allowed": ("at most 1.12 x ((pages - burst) / rate); 429s at most 1 %", (LIMITED,), _p6),
    "P7 nothing changed": ("1 token and 1 request for each collection", (QUIET, DAGSTER), _p7),
    "P8 1 % changed": ("requests at most minimum + 4; wall at most 1/3 of dlt", (CHANGED,), _p8),
    "P9 peak memory": ("at most 700 MB at 1M bookings, and 1.3 x its value at 100k", (SMALLER, LARGER), _p9),
    "P10 bad night": ("exact in that run or after the next, no hand on it", (BAD_NIGHT,), _p10),
    "P11 no filter, no sort": ("at most 1.1 x the sequential bound", (PLAIN,), _p11),
    "P12 growth": (
        "CPU per row at 1M within 1.15 x of 100k; the same change takes the same requests and writes the same rows",
        (SMALLER, LARGER, SAME_SMALLER, SAME_LARGER),
        _p12,
    ),
}


def number_of(name: str) -> str:
    """`P1` of `P1 full sync, wall`."""
    return name.split()[0]


def judge(samples: Sequence[Sample], machine: Mapping[str, object], only: Sequence[str] = ()) -> list[Json]:
    """One object for each goal whose samples were taken: {name, goal, measured, ratio, met, samples, machine}, as build/bench.json holds them."""
    runs: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.scenario, sample.product), []).append(sample)
    judged = []
    for name, (goal, scenarios, conditions_of) in GOALS.items():
        if only and number_of(name) not in only:
            continue
        try:
            conditions = conditions_of(runs)
        except _MissingError:
            continue
        own = [s for s in samples if s.scenario in scenarios]
        wrong = [f"{s.product}: {s.differences[0]}" for s in own if s.differences]
        mine = [s for s in own if s.differences and s.product == "ours"]
        measured = "; ".join(c.told for c in conditions) + "".join(f"; NOT EXACT: {text}" for text in wrong[:2])
        ratio = max(c.ratio for c in conditions)
        judged.append(
            {
                "name": name,
                "goal": goal,
                "measured": measured,
                "ratio": round(ratio, 3) if ratio != float("inf") else None,
                "met": ratio <= 1 and not mine,
                "samples": [asdict(s) for s in own],
                "machine": dict(machine),
            }
        )
    return judged
