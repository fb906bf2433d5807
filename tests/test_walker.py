"""What the threads that read hand over to the one that commits: order, room, and that every wait ends."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime

from pipelines.committing import FEWEST_PAGES, MOST_PAGES, pages_together
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.reading import ComingPart, ReadPart
from pipelines.walker import _Parts

PIECE = Slice("bookings", "main", "nightly", ("a",), Window(BEGINNING, datetime(2026, 3, 2, tzinfo=UTC)))


def coming(pages: int) -> ComingPart:
    """A part that is read and not shaped yet."""
    return ComingPart(pages, False, Future[ReadPart]())


def test_parts_come_in_the_order_in_which_they_were_read_whether_they_are_shaped_or_not() -> None:
    parts, (first, second), failure = _Parts(100), (coming(30), coming(1)), OSError("no")
    second.shaped.set_running_or_notify_cancel()
    for part in (first, second, failure, None):
        parts.put(PIECE, part)
    assert [parts.get(0) for _ in range(5)] == [
        (PIECE, first),
        (PIECE, second),
        (PIECE, failure),
        (PIECE, None),
        None,
    ]


def test_whoever_brings_more_than_there_is_room_for_waits_until_something_was_taken() -> None:
    parts, came = _Parts(50), threading.Event()
    parts.put(PIECE, coming(30))
    parts.put(PIECE, coming(30))  # there was room when it came

    def bring() -> None:
        parts.put(PIECE, None)
        came.set()

    threading.Thread(target=bring, daemon=True).start()
    assert not came.wait(0.1)
    assert parts.get(0) is not None
    assert came.wait(5)


def test_the_end_wakes_whoever_waits_for_room() -> None:
    parts, came = _Parts(10), threading.Event()
    parts.put(PIECE, coming(10))

    def bring() -> None:
        parts.put(PIECE, coming(10))
        came.set()

    threading.Thread(target=bring, daemon=True).start()
    assert not came.wait(0.1)
    parts.end()
    assert came.wait(5)


def test_a_transaction_holds_more_where_more_is_in_flight() -> None:
    assert [pages_together(n) for n in (1, 4, 8, 16, 32, 100)] == [
        FEWEST_PAGES,
        FEWEST_PAGES,
        96,
        192,
        MOST_PAGES,
        MOST_PAGES,
    ]
