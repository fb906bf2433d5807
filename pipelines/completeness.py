"""Whether a walk that has ended has read everything: a pure judgement on what was counted.

What lives here: the rule (docs/guarantees.md, 3). What does not: walking. Only cursors survive rows that leave the list while it is read; numbered pages
slip, so they need a total that agrees or a second walk that brings nothing new. A total that says more than was read is believed only if it stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["settled", "again", "unsettled", "different", "unproven"]
MOST_WALKS = 4
# Servers end a list without a word after 1,000, 5,000, 10,000 ... records, and some count no further either.
LEAST_LIMIT = 1_000


@dataclass(frozen=True)
class Walk:
    """What one walk of a list counted. `new_count`: keys that no earlier walk of the same slice had met.

    `is_moving`: the total was not the same all along. `is_partly_told`: some pages had none, such as all after the first. `has_repeats`: a key that an
    earlier page of the walk had met came again.
    """

    pages_count: int
    is_shifting: bool
    first_total: int | None
    last_total: int | None
    distinct_count: int
    new_count: int
    is_moving: bool = False
    is_partly_told: bool = False
    has_repeats: bool = False


def judge(walks: Sequence[Walk]) -> Verdict:
    """The verdict after the last of `walks`.

    `settled`: complete. `again`: walk once more. `unsettled`: complete as far as anyone can tell, but the totals kept moving (warns).
    `different`: a steady total says that rows are missing. `unproven`: numbered pages never came to rest. The last two make the run red.
    """
    last = walks[-1]
    total = last.last_total
    is_steady = total is not None and last.first_total == total and not last.is_moving
    slips = last.is_shifting and last.pages_count > 1
    # Where rows slip between pages, a total that was told once says nothing of one that left and one that came.
    if is_steady and last.distinct_count == total and not (slips and last.is_partly_told):
        return "settled"
    is_short = total is not None and last.distinct_count < total
    if not slips:
        if not is_short:
            return "settled"
        if len(walks) == 1:
            return "again"
        return "different" if is_steady and _is_firm(walks) else "unsettled"
    if len(walks) > 1 and last.new_count == 0:
        if is_short and is_steady and _is_firm(walks):
            return "different"
        if total is not None and (not is_steady or is_short):
            return "unsettled"
        # Where rows come again in walk after walk, others may have been left out as often: rows of one change time, in another order on each page.
        if not (last.has_repeats and walks[-2].has_repeats):
            return "settled"
    return "again" if len(walks) < MOST_WALKS else "unproven"


def may_be_limit(count: int) -> bool:
    """Whether a list of so many records may have ended at a limit of the server's instead of its end."""
    return count >= LEAST_LIMIT and str(count).rstrip("0") in ("1", "5")


def _is_firm(walks: Sequence[Walk]) -> bool:
    """Whether the total of the last walk can be held against it: it was told all along, or where it was told once, once more with the same keys."""
    last, before = walks[-1], walks[-2]
    return not last.is_partly_told or (
        before.last_total == last.last_total and last.new_count == 0 and before.distinct_count == last.distinct_count
    )
