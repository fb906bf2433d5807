"""Pure time: committed windows and a request in, slices out; and which change days are complete.

What lives here: the decision what to ask for. What does not: asking, clocks, SQL. All instants are UTC and server time; windows are half-open.
A missed night, a crash and a new account are not special cases: whatever no committed window covers is a gap, and every plan asks for its gaps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

Kind = Literal["nightly", "sweep", "backfill"]
BEGINNING = datetime.min.replace(tzinfo=UTC)
# Servers differ in whether a bound is included (evidence G13), so each closed end is asked this much wider; overlaps are merged by key.
WIDER = timedelta(seconds=1)
# How far the end of a plan lies before the Date of the API's first answer: what is being written there at that moment is left to the next run.
MARGIN = timedelta(seconds=60)
CLOCK_TOLERANCE = timedelta(minutes=10)
# Accounts whose heads begin this close together share one slice.
CLOSE = timedelta(days=1)


@dataclass(frozen=True, order=True)
class Window:
    """`[since, until)` of change time; `since` is `BEGINNING` for the whole history before `until`."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class Request:
    """What a run is asked for. `window` is a backfill's stretch of change time; None otherwise, and where a backfill reads no stream."""

    kind: Kind
    window: Window | None = None


@dataclass(frozen=True)
class Can:
    """What the server can do for one stream, as far as a plan needs to know."""

    filters: bool
    upper_bound: bool
    account_filter: bool
    needs_account: bool = False  # rows do not name their account: each account is asked for alone


@dataclass(frozen=True)
class Slice:
    """What one transaction commits: one walk of one stream by one API client.

    `accounts` are those whose state it moves. `only_account`: ask for this account alone. `filter_since`, `filter_until`: the bounds to send, None to
    send none; the newest window of a plan has no upper bound, its end is what it is worth. `keeps`: rows of other accounts are not kept; None: all are.
    """

    stream: str
    api_client: str
    kind: Kind
    accounts: tuple[str, ...]
    window: Window
    only_account: str | None = None
    filter_since: datetime | None = None
    filter_until: datetime | None = None
    keeps: frozenset[str] | None = None


def islands(windows: Iterable[Window]) -> list[Window]:
    """Overlapping and touching windows joined, oldest first."""
    joined: list[Window] = []
    for window in sorted(w for w in windows if w.since < w.until):
        if joined and window.since <= joined[-1].until:
            joined[-1] = Window(joined[-1].since, max(joined[-1].until, window.until))
        else:
            joined.append(window)
    return joined


def watermark(windows: Iterable[Window]) -> datetime | None:
    """Upper end of the unbroken chain since the beginning; None while the oldest history is missing. The same rule as `ops.watermarks`."""
    joined = islands(windows)
    return joined[0].until if joined and joined[0].since == BEGINNING else None


def missing(windows: Iterable[Window], end: datetime, overlap: timedelta) -> list[Window]:
    """What must be asked to be complete up to `end`: the gaps, and the head from the highest committed end less the overlap."""
    # A window that ends well after the API's present clock was dated by a wrong one, and is not believed.
    covered = islands(w for w in windows if w.until <= end + CLOCK_TOLERANCE)
    if not covered:
        return [Window(BEGINNING, end)]
    head = min(covered[-1].until, end)
    head = head - overlap if head - BEGINNING > overlap else BEGINNING
    gaps, reached = [], BEGINNING
    for island in covered:
        if island.since > reached:
            gaps.append(Window(reached, min(island.since, end)))
        reached = max(reached, island.until)
    gaps.append(Window(head, end))
    return islands(gaps)


def plan(
    stream: str,
    api_client: str,
    request: Request,
    windows: Mapping[str, Sequence[Window]],
    *,
    end: datetime,
    overlap: timedelta,
    can: Can,
) -> list[Slice]:
    """The slices of one stream for one API client, newest first.

    `windows`: account → its committed windows; every account that the API client serves in this run is a key. `end` is shared by all slices.
    A first load is planned as a sweep: a list that is walked whole needs no second walk to be sure of it.
    """
    everyone = tuple(sorted(windows))
    if not everyone:
        return []
    if can.needs_account:
        alone = replace(can, needs_account=False, account_filter=False)
        return [
            replace(piece, only_account=account)
            for account in everyone
            for piece in plan(
                stream, api_client, request, {account: windows[account]}, end=end, overlap=overlap, can=alone
            )
        ]

    is_first = request.kind == "nightly" and can.filters and not any(windows.values())
    kind: Kind = "sweep" if is_first else request.kind

    def of(window: Window, accounts: tuple[str, ...], only: str | None = None) -> Slice:
        return Slice(
            stream=stream,
            api_client=api_client,
            kind=kind,
            accounts=accounts,
            window=window,
            only_account=only,
            filter_since=None if window.since == BEGINNING else window.since - WIDER,
            filter_until=None if window.until >= end else window.until + WIDER,
        )

    if kind == "sweep" or not can.filters:
        return [of(Window(BEGINNING, end), everyone)]
    if request.kind == "backfill":
        assert request.window is not None  # noqa: S101  a backfill always has one; narrows the type
        asked = Window(request.window.since, min(request.window.until, end))
        if asked.since >= asked.until:
            return []
        if not can.upper_bound:
            return [of(Window(asked.since, end), everyone)]
        return [of(asked, everyone)]

    needs = {account: missing(own, end, overlap) for account, own in windows.items()}
    return _nightly(needs, end, can, of)


def _nightly(needs: Mapping[str, Sequence[Window]], end: datetime, can: Can, of: Callable[..., Slice]) -> list[Slice]:
    """What each account needs in as few slices as may be: the head that they share, and the older gaps. `of` makes a slice of a window and accounts."""
    everyone = tuple(sorted(needs))
    head = _shared_head(needs, end)
    if not can.upper_bound:
        # No window can be split: one slice from the earliest need of those that share it; who lags has his own, where one account can be asked for.
        since = {account: own[0].since for account, own in needs.items() if own}
        laggards = [a for a in everyone if can.account_filter and a in since and since[a] < head]
        shared = min((start for a, start in since.items() if a not in laggards), default=None)
        slices = [] if shared is None else [of(Window(shared, end), everyone)]
        return slices + [of(Window(since[a], end), (a,), a) for a in laggards]
    wanted: dict[Window, list[str]] = defaultdict(list)
    for account, own in needs.items():
        for need in own:
            older = Window(need.since, min(need.until, head))
            if older.since < older.until:
                wanted[older].append(account)
    slices = [of(Window(head, end), everyone)] if head < end else []
    for need, accounts in wanted.items():
        if can.account_filter and len(accounts) < len(everyone):
            slices += [of(need, (account,), account) for account in sorted(accounts)]
        else:
            slices.append(of(need, everyone))
    return sorted(set(slices), key=lambda s: (s.window.until, s.window.since, s.accounts), reverse=True)


def _shared_head(needs: Mapping[str, Sequence[Window]], end: datetime) -> datetime:
    """Where the head that all accounts share begins: at the earliest of those that lie close to the latest; at `end` where none is needed.

    Without an overlap an account that is complete up to `end` needs no head.
    """
    starts = [own[-1].since for own in needs.values() if own and own[-1].until >= end]
    latest = max(starts, default=end)
    return min((s for s in starts if latest - s <= CLOSE), default=end)


def complete_days(marks: Iterable[datetime | None], zone: tzinfo, history_start: date) -> tuple[date, date] | None:
    """First and last change day that every account has completed; None where there is none.

    `marks`: the watermark of each account. A day is complete when the earliest watermark has reached its end in `zone`.
    """
    known = list(marks)
    if not known or any(m is None for m in known):
        return None
    last = min(m for m in known if m is not None).astimezone(zone).date() - timedelta(days=1)
    return (history_start, last) if last >= history_start else None


def days(first: date, last: date) -> list[date]:
    """All days from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def change_days(first: date, last: date, zone: tzinfo) -> Window:
    """The change days from `first` to `last`, both included, as a window; raises `OverflowError` beyond the years that can be told."""
    after = last + timedelta(days=1)
    since, until = (datetime(d.year, d.month, d.day, tzinfo=zone).astimezone(UTC) for d in (first, after))
    return Window(since, until)


def pages_needed(rows: int, page_size: int) -> int:
    """Requests for so many rows: at least one, to learn that there are none."""
    return max(1, -(-rows // page_size))
