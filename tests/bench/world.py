"""A world of any size, served by the emulator's own `Api`: a small business is made and rendered once, and stands many times over under ids of its own.

What lives here: the records, their order, their bytes, and what changes. What does not: HTTP, faults, the control address (`server`).
A row is the texts of its original with two values between them: the copy that it belongs to (four digits inside each id) and its `updated`. So a million
rows are a few columns, and a page is a few hundred joins. The first copy is, byte for byte, what the emulator sends; tests/test_bench_world.py compares them.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import compress, islice, repeat
from random import Random
from typing import Any, cast, overload

from tests.emulator import Switches, World
from tests.emulator.api import Api
from tests.emulator.clock import from_ms
from tests.emulator.entities import Booking, Customer, Event
from tests.emulator.generation import DAY
from tests.emulator.messages import bad_parameter
from tests.emulator.render import Fields, Renderer
from tests.emulator.tables import Key

Original = Customer | Booking | Event
Texts = tuple[bytes, ...]
COLLECTIONS = ("customers", "bookings", "events")
LARGEST_ORIGINAL = 20_000
# Nothing changes in the days before the first run, so that a nightly reads what changed since and no more.
QUIET = timedelta(days=3)
# Copies of one row change this far apart.
BETWEEN_COPIES_MS = 61_000
_ID = re.compile(rb"[0-9a-f]{24}")


def copies_of(bookings: int) -> int:
    """How often the original stands in a world of so many bookings; raises `ValueError` where it would not come out even."""
    copies = -(-bookings // LARGEST_ORIGINAL)
    if bookings < 20 or bookings % (copies * 20):
        raise ValueError(f"{bookings} bookings: give a multiple of {copies * 20}, so that all copies are alike.")
    return copies


class Row:
    """One row of a table, made when it is looked at; has what filters and orders read."""

    __slots__ = ("number", "table")

    def __init__(self, table: Table, number: int) -> None:
        self.table, self.number = table, number

    @property
    def id(self) -> str:
        return self.table.id_of(self.number)

    @property
    def updated(self) -> int:
        return self.table.updated[self.number]

    @property
    def created(self) -> int:
        return self.table.original(self.number).created

    @property
    def account_id(self) -> str:
        return self.table.original(self.number).account_id

    @property
    def status(self) -> str | None:
        return getattr(self.table.original(self.number), "status", None)


class _Rows(Sequence[Row]):
    """Rows in an order of numbers."""

    def __init__(self, table: Table, numbers: Sequence[int]) -> None:
        self._table, self.numbers = table, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return _Rows(self._table, self.numbers[at])
        return Row(self._table, self.numbers[at])


class _Index:
    """What `Selection` asks of an index: rows in order, and the key of that order."""

    def __init__(self, rows: _Rows, key: Callable[[Row], Key]) -> None:
        self.rows, self.key = rows, key


_KEYS: dict[str, Callable[[Row], Key]] = {
    "updated": lambda row: (row.updated, row.id),
    "created": lambda row: (row.created, row.id),
    "id": lambda row: (0, row.id),
}


def _changed(one: Original, copy: int, latest_ms: int) -> int:
    """When a copy of a row changed last: after the row, or before it where that would be later than `latest_ms`, so that no instant is shared by all."""
    after = one.updated + copy * BETWEEN_COPIES_MS
    return after if after <= latest_ms or copy == 0 else max(one.created, one.updated - copy * BETWEEN_COPIES_MS)


class Table:
    """All rows of one collection; stands where the emulator has a table of its own."""

    def __init__(self, originals: Sequence[Original], digits: Sequence[bytes], latest_ms: int) -> None:
        self.originals, self.digits = originals, digits
        self._at = {one.id: number for number, one in enumerate(originals)}
        self._first = array("q", (_changed(one, copy, latest_ms) for copy in range(len(digits)) for one in originals))
        self.updated = array("q", self._first)
        self.stamps = [instant(ms) for ms in self.updated]
        self._indexes: dict[tuple[str, str | None], _Index] = {}
        # Each row as the texts between the places where a copy's digits stand, before and after its `updated`; for bookings also their participants.
        self.texts: list[tuple[Texts, Texts]] = []
        self.people: list[Texts] = []
        # The original itself, whose ids stay as the emulator sends them.
        self.first: list[tuple[bytes, bytes]] = []
        self.first_people: list[bytes] = []
        self._order_anew()
        self.index("created")

    def __len__(self) -> int:
        return len(self.updated)

    def __iter__(self) -> Iterator[Row]:
        return map(Row, repeat(self), range(len(self)))

    def original(self, number: int) -> Original:
        """The record that a row is a copy of."""
        return self.originals[number % len(self.originals)]

    def id_of(self, number: int) -> str:
        """Id of a row."""
        copy, at = divmod(number, len(self.originals))
        text = self.originals[at].id
        return f"{text[:12]}{self.digits[copy].decode()}{text[16:]}" if copy else text

    def get(self, record_id: str) -> Row | None:
        """The row of an id."""
        at = self._at.get(record_id)
        if at is not None:
            return Row(self, at)
        digits = record_id[12:16].encode()
        if digits not in self.digits[1:]:
            return None
        copy = self.digits.index(digits)
        numbers = range(copy * len(self.originals), (copy + 1) * len(self.originals))
        # Only a sweep that missed a row asks for one, so walking is good enough.
        return next((Row(self, number) for number in numbers if self.id_of(number) == record_id), None)

    @property
    def accounts(self) -> set[str]:
        """Ids of the accounts that have a row."""
        return {one.account_id for one in self.originals}

    def index(self, name: str, account_id: str | None = None) -> _Index:
        """The order by `updated`, `created` or `id`, of everything or of one account; made when it is first asked for."""
        index = self._indexes.get((name, account_id))
        if index is None:
            numbers: Iterable[int] = range(len(self))
            if account_id is not None:
                own = [one.account_id == account_id for one in self.originals] * len(self.digits)
                numbers = compress(numbers, own)
            key = _KEYS[name]
            ordered = sorted(numbers, key=lambda number: key(Row(self, number)))
            index = self._indexes[name, account_id] = _Index(_Rows(self, array("q", ordered)), key)
        return index

    def change(self, numbers: Sequence[int], instants: Sequence[int]) -> None:
        """Rows change at these instants (ms)."""
        for number, ms in zip(numbers, instants, strict=True):
            self._stamp(number, ms)
        self._order_anew()

    def _order_anew(self) -> None:
        """Changed rows are put in order here and not when a page is first asked for: the run that is timed next would wait half a second for it."""
        self._forget_order()
        self.index("updated")

    def _forget_order(self) -> None:
        self._indexes = {place: index for place, index in self._indexes.items() if place[0] != "updated"}

    def _stamp(self, number: int, ms: int) -> None:
        self.updated[number] = ms
        self.stamps[number] = instant(ms)

    def move(self, number: int, ms: int) -> None:
        """One row changes while it is being read: the order is kept up to date without sorting."""
        index = self._indexes.pop(("updated", None), None)
        old = (self.updated[number], self.id_of(number))
        self._forget_order()
        if index is None:
            self._stamp(number, ms)
            return
        numbers = cast("array[int]", index.rows.numbers)
        del numbers[bisect_left(index.rows, old, key=index.key)]
        self._stamp(number, ms)
        numbers.insert(bisect_left(index.rows, (ms, self.id_of(number)), key=index.key), number)
        self._indexes["updated", None] = index

    def restore(self) -> None:
        """Every row as it was at first."""
        self.updated = array("q", self._first)
        self.stamps = [instant(ms) for ms in self.updated]
        self._order_anew()


class BenchWorld(World):
    """Accounts of skewed size with customers, bookings and events in the proportion 5 : 20 : 2, standing `copies` times."""

    def __init__(self, bookings: int, *, seed: int = 1, accounts: int = 40) -> None:
        self.copies = copies_of(bookings)
        original = bookings // self.copies
        super().__init__(
            seed=seed, accounts=accounts, customers=original // 4, bookings=original, events=original // 10
        )
        self.changes = Random(seed)
        latest = self.clock.ms() - 1000
        customers, made, events = self.customers.rows(), self.bookings.rows(), self.events.rows()
        known = {one.id.encode() for rows in (customers, made, events) for one in rows}
        known |= {person.id.encode() for booking in self.bookings for person in booking.participants}
        # No original has the digits of a copy where a copy has them, or one of its copies would be another's record.
        taken = {one[12:16] for one in known}
        free = (digits for digits in (b"%04x" % n for n in range(0x10000)) if digits not in taken)
        digits = [b"", *islice(free, self.copies - 1)]
        assert len(digits) == self.copies, "no digits are left that no id has"
        assert len({(one[:12], one[16:]) for one in known}) == len(known), "two ids differ in the digits of a copy only"
        self.tables: dict[str, Table] = {
            "customers": Table(customers, digits, latest),
            "bookings": Table(made, digits, latest),
            "events": Table(events, digits, latest),
        }
        self._render(known)
        self.clock.advance(QUIET)

    def _render(self, known: set[bytes]) -> None:
        """The templates of all rows. `known`: ids that each copy has its own of, participants excepted; accounts, services and staff are shared."""
        renderer = Renderer(self, Switches(), "")

        def opened(text: bytes) -> Texts:
            pieces, end = [], 0
            for found in _ID.finditer(text):
                if found[0] in known:
                    pieces.append(text[end : found.start() + 12])
                    end = found.start() + 16
            return (*pieces, text[end:])

        for table in self.tables.values():
            for row in table.originals:
                stamp = b'"updated":"%b"' % instant(row.updated)
                text = renderer.rows([row], {})
                before, found, after = text.rpartition(stamp)
                assert found, f"record {row.id} does not name its last change"
                table.texts.append((opened(before + b'"updated":"'), opened(b'"' + after)))
                table.first.append((before + b'"updated":"', b'"' + after))
        for booking in self.bookings.rows():
            people = renderer.participants([booking])
            self.tables["bookings"].first_people.append(people)
            self.tables["bookings"].people.append(opened(people))

    def change(self, share: float, spread: timedelta) -> dict[str, int]:
        """A share of the rows of each collection changes, evenly over the time up to now; how many did."""
        return self.change_counts({name: round(len(table) * share) for name, table in self.tables.items()}, spread)

    def change_counts(self, counts: dict[str, int], spread: timedelta) -> dict[str, int]:
        """So many rows of each collection change, in whole seconds as the vendor stamps them, evenly over the time up to now."""
        now, length = self.clock.ms(), spread // timedelta(milliseconds=1)
        for name, count in counts.items():
            numbers = self.changes.sample(range(len(self.tables[name])), count)
            instants = [(now - length + length * (n + 1) // (count + 1)) // 1000 * 1000 for n in range(count)]
            self.tables[name].change(numbers, instants)
        self.version += 1
        return counts

    def touch(self, count: int) -> None:
        """So many rows of any collection change now."""
        for _ in range(count):
            table = self.tables[self.changes.choice(COLLECTIONS)]
            table.move(self.changes.randrange(len(table)), self.clock.ms() // 1000 * 1000)
        self.version += 1

    def restore(self) -> None:
        """The world as it was made, the clock excepted."""
        for table in self.tables.values():
            table.restore()
        self.version += 1

    def changed_since(self, ms: int) -> dict[str, int]:
        """How many rows of each collection changed at this instant or later."""
        return {name: sum(map(ms.__le__, table.updated)) for name, table in self.tables.items()}

    def sums(self) -> dict[str, list[int]]:
        """What is true of each collection: rows, distinct ids, sum of `updated` in milliseconds (0 for accounts, which do not send it)."""
        truth = {"accounts": [len(self.accounts), len(self.accounts), 0]}
        for name, table in self.tables.items():
            truth[name] = [len(table), len(table), sum(table.updated)]
        return truth


@lru_cache(maxsize=4096)
def _day(day: int) -> bytes:
    return from_ms(day * DAY).date().isoformat().encode()


def instant(ms: int) -> bytes:
    """An instant as the default dialect writes it; by hand, since a page holds a hundred."""
    day, ms = divmod(ms, DAY)
    second, ms = divmod(ms, 1000)
    return b"%bT%02d:%02d:%02d.%03dZ" % (_day(day), second // 3600, second // 60 % 60, second % 60, ms)


class BenchRenderer(Renderer):
    """Renders rows of a `Table` out of their templates."""

    def rows(self, records: Iterable[Any], fields: Fields) -> bytes:
        """Records for `data`, joined by commas."""
        rows = list(records)
        if not rows or not isinstance(rows[0], Row):
            return super().rows(rows, fields)
        if fields:
            raise bad_parameter("fields", "The bench serves whole records only.")
        table: Table = rows[0].table
        texts, digits, stamps, length = table.texts, table.digits, table.stamps, len(table.originals)
        parts = []
        for row in rows:  # the hottest loop of the server
            number = row.number
            copy, at = divmod(number, length)
            if copy:
                before, after = texts[at]
                own = digits[copy]
                parts.append(b"%b%b%b" % (own.join(before), stamps[number], own.join(after)))
            else:
                head, tail = table.first[at]
                parts.append(head + stamps[number] + tail)
        return b",".join(parts)

    def included(self, records: Sequence[Any], include: set[str], fields: Fields) -> bytes:
        """The participants of bookings, joined by commas; the bench serves no other related resource."""
        if not records:
            return b""
        if include != {"customerBookings"} or fields:
            raise bad_parameter("include", "The bench serves customerBookings only.")
        table: Table = records[0].table
        parts = []
        for row in records:
            copy, at = divmod(row.number, len(table.originals))
            parts.append(table.digits[copy].join(table.people[at]) if copy else table.first_people[at])
        return b",".join(filter(None, parts))


class BenchApi(Api):
    """The emulator's API over the tables of a `BenchWorld`."""

    def __init__(self, world: BenchWorld, switches: Switches, origin: str) -> None:
        super().__init__(world, switches, origin)
        self._renderer = BenchRenderer(world, switches, origin)
        for stream, table in world.tables.items():
            self._tables[switches.naming.path(stream)] = (stream, cast("Any", table))
