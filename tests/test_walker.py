"""What the threads that read hand over to the one that commits: order, room, and that every wait ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines import walker
from pipelines.committing import FEWEST_PAGES, MOST_PAGES, Committer, pages_together
from pipelines.normalise import Batch
from pipelines.parts import ComingPart, Drafts, ReadPart
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.queues import Parts
from pipelines.walker import Walker
from resources.exchange import Exchange
from resources.pages import Page
from tests.emulator import Emulator, World
from tests.equality import night, settings_for

PIECE = Slice("bookings", "main", "nightly", ("a",), Window(BEGINNING, datetime(2026, 3, 2, tzinfo=UTC)))


def coming(pages: int) -> ComingPart:
    """A part that is read and not shaped yet."""
    return ComingPart(pages, False, Future[ReadPart]())


def test_parts_come_in_the_order_in_which_they_were_read_whether_they_are_shaped_or_not() -> None:
    parts, (first, second), failure = Parts(100), (coming(30), coming(1)), OSError("no")
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
    parts, came = Parts(50), threading.Event()
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
    parts, came = Parts(10), threading.Event()
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


def test_what_is_due_is_committed_while_a_part_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shaping ends only once the committing thread, which waits for it, has looked at what is due."""
    is_waiting, has_looked = threading.Event(), threading.Event()
    take, flush_if_due, batch_of = Walker._take, Committer.flush_if_due, Drafts._batch_of

    def taken(self: Walker, piece: Slice, part: ComingPart | BaseException | None) -> None:
        is_waiting.set()
        take(self, piece, part)
        is_waiting.clear()

    def looked(self: Committer) -> None:
        if is_waiting.is_set():
            has_looked.set()
        flush_if_due(self)

    def shaped(self: Drafts, pages: Sequence[Page]) -> Batch:
        assert self.stream.name == "accounts" or has_looked.wait(
            30
        )  # the account list is shaped by the thread that asks for it
        return batch_of(self, pages)

    monkeypatch.setattr(walker, "COMMIT_AFTER_S", 0.05)
    monkeypatch.setattr(Walker, "_take", taken)
    monkeypatch.setattr(Committer, "flush_if_due", looked)
    monkeypatch.setattr(Drafts, "_batch_of", shaped)
    with Emulator(World(seed=7, accounts=2, customers=40, bookings=30, events=8, years=1)) as emulator:
        assert night(settings_for(emulator, tmp_path)).problems == []


def test_what_goes_wrong_before_a_thread_reads_its_slice_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the slice would never be done with, and the run would wait for it for ever."""
    until = Exchange.until

    def odd(self: Exchange, stopped: threading.Event) -> AbstractContextManager[None]:
        if threading.current_thread().name.startswith("slice_"):
            raise LookupError("odd")
        return until(self, stopped)

    monkeypatch.setattr(Exchange, "until", odd)
    with (
        Emulator(World(seed=7, accounts=2, customers=40, bookings=30, events=8, years=1)) as emulator,
        pytest.raises(LookupError, match="odd"),
    ):
        night(settings_for(emulator, tmp_path))
