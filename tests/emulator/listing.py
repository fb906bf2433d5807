"""Cuts one page out of a table: the order and the range by bisection, the rest of the filters by walking on until the page is full."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic

from .entities import Booking, Event, Record
from .query import Query
from .tables import Key, R, Table


@dataclass(slots=True)
class Page(Generic[R]):
    """Rows of one page, and the keys between which it lies; None where there is nothing further."""

    rows: list[R]
    next_key: Key | None
    previous_key: Key | None
    more: bool


def _start(record: Record) -> int:
    """Starts and ends are compared with their buffers, as in V1."""
    return record.buffer_start if isinstance(record, Booking) else record.start if isinstance(record, Event) else 0


def _end(record: Record) -> int:
    return record.buffer_end if isinstance(record, Booking) else record.end if isinstance(record, Event) else 0


_MEASURES: dict[str, Callable[[Record], int]] = {
    "start": _start,
    "end": _end,
    "updated": lambda record: record.updated,
    "created": lambda record: record.created,
}
Test = Callable[[Record], bool]


def _within(measure: Callable[[Record], int], low: int, high: int) -> Test:
    return lambda record: low <= measure(record) <= high


def _tests(query: Query, accounts: set[str] | None, *, hide_cancelled: bool) -> list[Test]:
    """The filters that the order does not serve."""
    tests: list[Test] = []
    if accounts is not None:
        tests.append(lambda record: record.account_id in accounts)
    statuses = query.statuses
    if statuses is not None:
        wanted = statuses
        tests.append(lambda record: getattr(record, "status", None) in wanted)
    elif hide_cancelled:
        tests.append(lambda record: getattr(record, "status", None) != "cancelled")
    for name, (low, high) in query.ranges.items():
        if name == query.sort:
            continue
        tests.append(_within(_MEASURES[name], low, high))
    return tests


class Selection(Generic[R]):
    """The rows of a table that a query asks for and a client may see, in order."""

    def __init__(
        self, table: Table[R], query: Query, visible: set[str] | None, *, hide_cancelled: bool = False
    ) -> None:
        accounts = visible if query.accounts is None else query.accounts
        if accounts is not None and visible is not None:
            accounts = accounts & visible
        account = None
        if accounts is not None and len(accounts) == 1:
            (only,) = accounts
            if only in table.accounts:
                account, accounts = only, None  # its own index needs no test
        self._query = query
        index = table.index(query.sort, account)
        self._rows, self._key = index.rows, index.key
        self._tests = _tests(query, accounts, hide_cancelled=hide_cancelled)
        low, high = query.ranges.get(query.sort, (None, None))
        self._low = 0 if low is None else bisect_left(self._rows, (low, ""), key=self._key)
        self._high = len(self._rows) if high is None else bisect_left(self._rows, (high + 1, ""), key=self._key)

    def _walk(self, low: int, high: int, *, backwards: bool) -> Iterator[R]:
        rows, tests = self._rows, self._tests
        positions = range(high - 1, low - 1, -1) if backwards else range(low, high)
        walk = map(rows.__getitem__, positions)
        if not tests:
            return walk
        if len(tests) == 1:
            return filter(tests[0], walk)
        return (record for record in walk if all(test(record) for test in tests))

    def total(self) -> int:
        """How many rows match in all."""
        if not self._tests:
            return max(self._high - self._low, 0)
        return sum(1 for _ in self._walk(self._low, self._high, backwards=False))

    def page(self) -> Page[R]:
        """The page asked for."""
        query, low, high = self._query, self._low, self._high
        cursor = query.after or query.before
        # Reading on from a cursor means upwards in an ascending order and downwards in a descending one; `before` turns that round.
        backwards = query.descending == (query.before is None)
        if cursor is not None:
            if backwards:
                high = min(high, bisect_left(self._rows, cursor, key=self._key))
            else:
                low = max(low, bisect_right(self._rows, cursor, key=self._key))
        if not self._tests and query.skip:
            low, high = (low, high - query.skip) if backwards else (low + query.skip, high)
            walk = self._walk(low, high, backwards=backwards)
        else:
            walk = islice(self._walk(low, high, backwards=backwards), query.skip, None)
        rows = list(islice(walk, query.size + 1))
        more = len(rows) > query.size
        del rows[query.size :]
        if query.before is not None:
            rows.reverse()
        key = self._key
        first, last = (key(rows[0]), key(rows[-1])) if rows else (None, None)
        if query.before is not None:
            return Page(rows, last, first if more else None, more)
        return Page(rows, last if more else None, first if query.after else None, more)
