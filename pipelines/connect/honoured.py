"""Whether an answer shows that a filter was honoured: rows of an unfiltered sample against the rows that came through the filter.

What lives here: pure verdicts. What does not: asking. The danger is a filter that loses rows without a word, so only proof counts: every row of the sample that
lies in the window came back, none that lies outside did, and the window tells the instant of the last change from every other instant of the records, so that a
filter by creation or by start would have given itself away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Verdict = Literal["honoured", "ignored", "different", "undecided"]
# One row's instants, by attribute; the instant of the last change stands under its own name.
Instants = Mapping[str, datetime]
# Rows this close to a bound are left out of the judgement: whether a bound is included differs, and the sync asks one second wider anyway.
EDGE = timedelta(seconds=1)
# A window begins this long before a row of the sample, so that a bound cut to whole days would lose that row and show itself.
LEAD = timedelta(seconds=2)
# So many rows inside a window prove more than one, and still fit a page.
COMFORTABLE = 8
MOST_CANDIDATES = 24
# Fewer rows on either side of a bound prove nothing.
FEWEST = 2


@dataclass(frozen=True)
class Trial:
    """One window to try: `since` always, `until` where the upper bound is tried. `untold` names attributes that it cannot tell from the change time."""

    since: datetime
    until: datetime | None
    untold: tuple[str, ...]
    inside_count: int


def _whole(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(microsecond=0)


def inside(at: datetime, since: datetime, until: datetime | None) -> bool | None:
    """Whether an instant lies in a window; None where it lies on its edge."""
    if abs(at - since) <= EDGE or (until is not None and abs(at - until) <= EDGE):
        return None
    return at > since and (until is None or at < until)


def trials(sample: Mapping[str, Instants], changed: str, *, with_upper: bool) -> list[Trial]:
    """Windows worth trying, the most telling first. `changed` is the attribute of the last change. Empty where no window has rows on both sides."""
    instants = sorted({_whole(row[changed]) for row in sample.values() if changed in row})
    others = {name for row in sample.values() for name in row if name != changed}
    found = []
    # Evenly spread: more candidates would not tell more, and there may be hundreds.
    for position in range(0, len(instants), max(1, len(instants) // MOST_CANDIDATES)):
        low = instants[position]
        since = low - LEAD
        # Lower bounds alone: to the end. With an upper bound: up to a later row, a short and a longer window.
        tops = (
            [None]
            if not with_upper
            else [low + 2 * LEAD, *(t + LEAD for t in instants[position + 1 : position + 12 : 4])]
        )
        for until in tops:
            trial = _trial(sample, changed, others, since, until)
            if trial is not None:
                found.append(trial)
    return sorted(found, key=lambda t: (len(t.untold), abs(t.inside_count - COMFORTABLE)))


def _trial(
    sample: Mapping[str, Instants], changed: str, others: Collection[str], since: datetime, until: datetime | None
) -> Trial | None:
    sides = {key: inside(row[changed], since, until) for key, row in sample.items() if changed in row}
    if min(sum(side is which for side in sides.values()) for which in (True, False)) < FEWEST:
        return None
    instants = [row[changed] for row in sample.values() if changed in row]
    if until is not None and not (max(instants) > until + EDGE and min(instants) < since - EDGE):
        return None  # with nothing beyond a bound, nothing would show that it is ignored

    def tells(name: str) -> bool:
        """Whether some row would come or stay away if the filter read this attribute instead."""
        for key, side in sides.items():
            other = sample[key].get(name)
            if side is None or other is None:
                continue
            # With an upper bound the lower one was proven before, so the question is what the upper one reads.
            read = other >= since if until is None else sample[key][changed] >= since and other <= until
            if read != side:
                return True
        return False

    untold = sorted(name for name in others if not tells(name))
    return Trial(since, until, tuple(untold), sum(side is True for side in sides.values()))


def judge(
    sample: Mapping[str, Instants],
    returned: Mapping[str, Instants],
    changed: str,
    trial: Trial,
    *,
    is_whole: bool,
) -> tuple[Verdict, str]:
    """The verdict on one trial, with the reason. `returned` are the rows that came through the filter; `is_whole`: the list ended."""
    strangers = [
        key
        for key, row in returned.items()
        if changed not in row or inside(row[changed], trial.since, trial.until) is False
    ]
    wanted = {key for key, row in sample.items() if changed in row and inside(row[changed], trial.since, trial.until)}
    lost = wanted - returned.keys()
    if strangers:
        if not lost or not is_whole:
            return "ignored", f"{len(strangers)} rows from outside the window came too"
        return "different", f"{len(lost)} rows of the window did not come, and {len(strangers)} from outside did"
    if lost and is_whole:
        return "different", f"{len(lost)} of {len(wanted)} rows of the window did not come back"
    if lost:
        return "undecided", "the filtered list is too long to be read here"
    bare = sum(changed not in row for row in sample.values())
    if bare:
        return "undecided", f"{bare} rows have no change time, so it would never bring them"
    if trial.untold:
        return "undecided", f"no row tells it from a filter by {', '.join(trial.untold)}"
    return "honoured", f"all {len(wanted)} rows of the window came back, and none from outside"
