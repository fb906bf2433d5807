"""Large slices cut into smaller ones, to be fetched side by side: when it is worth it, and where the cuts lie. Pure decisions on what a page tells.

What lives here: sizes, counts and edges in time. What does not: what to ask for at first (`plan`), threads (`walker`), walking (`reading`).
A chain of pages costs pages times latency, and only asking for several stretches of change time at once mends that. The pieces of a slice cover its window
without a gap, so nothing depends on how the list is sorted or on the page that was looked at; that page is read again with the piece it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pipelines.plan import BEGINNING, WIDER, Kind, Slice, Window
from pipelines.records import first, index
from resources.pages import Page

# A chain of so many pages is not cut: each piece costs a request or two of its own.
LONGEST_CHAIN = 30
# Nor one of so many where one request at a time is all that can be kept busy. Longer ones are cut there too, for what a kill costs, and since the whole walk
# of a first load would compare each account's total, a request for each.
LONGEST_ALONE = 75
# A piece is not meant to be shorter than this, in pages. A list that tells no total is known to be large after as many.
LEAST_PAGES = 10
# Nor longer, whatever the list: a window counts only when its piece is read to the end, so this is what a kill costs for each that is in flight.
MOST_PAGES = 30
# Cuts of one slice: more would ask for many stretches in which nothing happened; what is still large is cut again, which reads its first page twice.
MOST_PIECES = 100
# Of a stretch of minutes no more than so many, or so long: each is asked a second wider at its ends, and so many rows counted twice would look like a filter
# that is ignored.
MOST_OF_MINUTES = 16
NOT_SHORT = timedelta(seconds=10)
# Pieces for each request in flight, so that the last one to end does not keep the others waiting for long.
PIECES_IN_FLIGHT = 4
# Edges are whole seconds, as every server understands them, and each piece is asked one second wider.
SHORTEST = timedelta(seconds=2)
# Of a window that is no longer than so many times the stretch after it, that stretch is cut too.
SHORT_BESIDE = 10
A_YEAR = timedelta(days=366)
LONG_AGO = timedelta(days=3660)
# What claims to be older than that has no real date (year 1, as some systems write "never"), and looking for it decade by decade would take hundreds of cuts.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


class LargeSliceError(Exception):
    """A slice that is better read in `count` pieces; raised between two of its pages.

    `oldest`: where its rows seem to begin, if its order tells. `seen_at`: the server's time when that was seen.
    """

    def __init__(self, count: int, oldest: datetime | None = None, seen_at: datetime | None = None) -> None:
        super().__init__(count)
        self.count = count
        self.oldest = oldest
        self.seen_at = seen_at


class CoarseFilterError(Exception):
    """The server's filter by change time lets rows through that lie well outside of what was asked: cutting would read them again and again."""

    def __init__(self, api_client: str) -> None:
        super().__init__(api_client)
        self.api_client = api_client


def longest_chain(in_flight: int) -> int:
    """Up to how many pages a slice is read as it is: where one request after the other is all that can be kept busy, cutting costs and gains nothing."""
    return LONGEST_CHAIN if in_flight > 1 else LONGEST_ALONE


def piece_pages(pages: int, in_flight: int) -> int:
    """How many pages a piece of a slice of so many pages is meant to have."""
    if in_flight == 1:
        return LONGEST_ALONE * 2 // 3
    return min(MOST_PAGES, max(LEAST_PAGES, pages // (PIECES_IN_FLIGHT * in_flight)))


def requests_needed(pages: int, in_flight: int) -> int:
    """About how many requests a slice of so many pages takes with its cuts: a piece ends with a page that is not full, and some are cut again."""
    if pages <= longest_chain(in_flight):
        return pages
    return pages + pages * 3 // 4 // piece_pages(pages, in_flight) + 1


@dataclass
class _Family:
    """The pieces of one cut: what the server counted in the whole, and in those of them that were asked for so far."""

    total: int | None
    counted: int = 0


class Splitter:
    """Judges the slices of one plan; `in_flight` is how many are fetched side by side, `updated` the contract's names for the change time."""

    def __init__(self, in_flight: int, history_start: datetime, updated: Sequence[str]) -> None:
        self.in_flight = in_flight
        self.history_start = history_start
        self.updated = updated
        self.most_pages = 0
        self.lock = threading.Lock()
        self.totals: dict[Slice, int] = {}
        self.families: dict[Slice, _Family] = {}

    def look(self, piece: Slice, page: Page, number: int, busy: int | None = None) -> None:
        """Look at page `number` of a slice, counted from 1; raises `LargeSliceError` or `CoarseFilterError` where it should not be walked on as it is.

        `busy`: how many requests side by side the pace that is allowed can keep busy; None where it is no limit.
        """
        is_counted_well = self._note_total(piece, page, number)
        count = self.pieces(page, number, busy)
        if count < 2 or not self._edges(piece.window, count):
            return
        changes = list(change_times(page, self.updated))
        if not is_counted_well or _is_coarse(piece, changes, page.count):
            raise CoarseFilterError(piece.api_client)
        is_whole = number == 1 and len(changes) == page.count
        is_rising = is_whole and changes == sorted(changes) and changes[0] < changes[-1]
        raise LargeSliceError(count, changes[0] if is_rising else None, page.fetched_at)

    def _note_total(self, piece: Slice, page: Page, number: int) -> bool:
        """Whether the pieces of a cut can be told apart by what the server counts in them; not where it counts the same whatever is asked for."""
        if number > 1 or page.total is None:
            return True
        with self.lock:
            self.totals[piece] = page.total
            family = self.families.get(piece)
            if family is None or family.total is None:
                return True
            family.counted += page.total
            return family.counted <= 2 * family.total

    def is_counted_whole(self, piece: Slice) -> bool:
        """Whether the server counted about as many records in a piece as in all that was cut: where fewer came, it may count whatever is asked for.

        About, since records come and go between the two counts. Both are of the first of the contract's queries, as `totals` is.
        """
        family, counted = self.families.get(piece), self.totals.get(piece)
        return family is not None and family.total is not None and counted is not None and 2 * counted > family.total

    def pieces(self, page: Page, number: int, busy: int | None = None) -> int:
        """In how many pieces a slice is better read, judging by its page `number`; 1 or less where it is read as it is."""
        if page.next_url is None or not page.count:
            return 1
        in_flight = self.in_flight
        if page.total is not None and number == 1:
            in_flight = min(in_flight, busy or in_flight)
            pages = -(-page.total // page.count)
        elif page.total is None and number == LEAST_PAGES:
            # How much is left is not known, so it is cut into few. Where it is little, they end after a page or two.
            in_flight, pages = max(2, in_flight), 5 * LEAST_PAGES
        else:
            return 1
        self.most_pages = max(self.most_pages, pages)
        if pages <= longest_chain(in_flight):
            return 1
        return min(MOST_PIECES, -(-pages // piece_pages(self.most_pages, in_flight)))

    def split(self, piece: Slice, large: LargeSliceError, kind: Kind) -> list[Slice]:
        """The pieces of a slice, newest first, each of `kind`; together they cover its window, and no instant lies in two of them."""
        window, until = piece.window, piece.filter_until
        after = _after(piece, large)
        if after:
            until = window.until
        edges = [window.since, *self._edges(window, large.count, large.oldest), window.until]
        pieces = [
            _piece(piece, kind, one, until if one.until == window.until else one.until) for one in _between(edges)
        ]
        for one in _between(after):
            # It is read for its rows alone: a window that ends after the run's would claim more than the run can know.
            last = piece.filter_until if one.until == after[-1] else one.until
            pieces.append(replace(_piece(piece, kind, one, last), accounts=()))
        with self.lock:
            self.families |= dict.fromkeys(pieces, _Family(self.totals.get(piece)))
        return pieces[::-1]

    def _edges(self, window: Window, count: int, oldest: datetime | None = None) -> list[datetime]:
        """Inner edges, oldest first. What lies before the history's start, or before `oldest`, is one piece: a mere guess saves requests."""
        since, until = window.since, window.until
        if since == BEGINNING:
            if until - EARLIEST < LONG_AGO:
                return []
            since = self.history_start if self.history_start <= until - A_YEAR else until - LONG_AGO
        # A stretch of its own for nothing is a request too; in a window that rows were seen to fill, it would be a few minutes long.
        is_far = oldest is not None and (window.since == BEGINNING or oldest - since > (until - oldest) / count)
        if oldest is not None and is_far and since < oldest < until - SHORTEST:
            since = oldest
        if until - since < SHORTEST:
            return []  # events of one instant are a chain
        return [edge for edge in _steps(since, until, count) if edge > window.since]


def _steps(since: datetime, until: datetime, count: int) -> list[datetime]:
    """Whole seconds, oldest first, at which the pieces of a stretch begin: `count` of one length, or fewer where they would be too short."""
    count = min(count, max(MOST_OF_MINUTES, (until - since) // NOT_SHORT))
    step = (until - since) / count
    return sorted({(since + step * n).replace(microsecond=0) for n in range(count)})


def _between(edges: Sequence[datetime]) -> list[Window]:
    return [Window(since, until) for since, until in pairwise(edges)]


def _piece(piece: Slice, kind: Kind, window: Window, until: datetime | None) -> Slice:
    # Of two neighbours the newer one asks wider, so what happened on their edge comes whatever the server makes of its bounds.
    since = piece.filter_since if window.since == piece.window.since else window.since - WIDER
    return replace(piece, kind=kind, window=window, filter_since=since, filter_until=until)


def _after(piece: Slice, large: LargeSliceError) -> list[datetime]:
    """Edges of the stretch after a slice's window, which the newest slice of a plan reads too; none where it need not be cut.

    It is cut once the window itself is about as short: then what makes the slice large lies in it, as after a change of many rows just before the run.
    """
    window, seen_at = piece.window, large.seen_at
    if piece.filter_until is not None or seen_at is None or seen_at - window.until < SHORTEST:
        return []
    length = seen_at - window.until
    if window.since == BEGINNING or window.until - window.since > SHORT_BESIDE * length:
        return []
    edges = [edge for edge in _steps(window.until, seen_at, large.count) if edge > window.until]
    return [window.until, *edges, seen_at]


def _is_coarse(piece: Slice, changes: Sequence[datetime], count: int) -> bool:
    """Whether most of a page's `count` rows are not seen to have changed where it was asked for: the filter is ignored, or knows whole days only."""
    since, until = piece.filter_since, piece.filter_until
    if since is None and until is None:
        return False
    inside = sum(
        (since is None or change >= since - WIDER) and (until is None or change <= until + WIDER) for change in changes
    )
    return 2 * inside < count


def change_times(page: Page, updated: Sequence[str]) -> Iterable[datetime]:
    """Change times of a page's records in UTC, where they have one that can be read."""
    included = index(page.included)
    for record in page.records:
        value = first(record, updated, included) if isinstance(record, dict) else None
        if not isinstance(value, str):
            continue
        try:
            change = datetime.fromisoformat(value)
            if change.tzinfo is None:
                continue
            # Edges are made of them, and are sent as UTC.
            change = change.astimezone(UTC)
        except (ValueError, OverflowError):
            continue  # such rows prove nothing here; the normalising tells of them
        yield change
