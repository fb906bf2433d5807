"""Large slices in pieces: the pieces cover the slice, whatever the server's dialect, and no list is read twice without need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.plan import BEGINNING, WIDER, Slice, Window, islands
from pipelines.splitting import (
    LEAST_PAGES,
    LONGEST_CHAIN,
    MOST_PIECES,
    CoarseFilterError,
    LargeSliceError,
    Splitter,
    requests_needed,
)
from resources.contract import Contract
from resources.pages import Page
from tests.emulator import Emulator, Switches, World
from tests.equality import contract_with, differences, night, query, settings_for

HISTORY = datetime(2020, 1, 1, tzinfo=UTC)
END = datetime(2026, 3, 2, 1, 59, tzinfo=UTC)
UPDATED = ("updated", "updatedAt")
SMALL_PAGES = '[parameters]\npage_size_value = "4"\n'


ALL = Window(BEGINNING, END)


def whole(window: Window = ALL) -> Slice:
    values: dict[str, Any] = {
        "stream": "bookings",
        "api_client": "north",
        "kind": "nightly",
        "accounts": ("a", "b"),
        "window": window,
        "filter_since": None if window.since == BEGINNING else window.since - WIDER,
        "filter_until": None if window.until == END else window.until + WIDER,
    }
    return Slice(**values)


def page(total: int | None, rows: int = 100, *, changed: datetime = END, has_next: bool = True) -> Page:
    record = {"type": "booking", "id": "1", "attributes": {"updated": changed.isoformat()}}
    return Page(
        keys=[1] * rows,
        parts=([record] * rows, []),
        size=0,
        next_url="https://api.example.com/next" if has_next else None,
        total=total,
        fetched_at=END,
        has_pagination=True,
        is_shifting=False,
        media_type="application/vnd.api+json",
    )


def splitter(in_flight: int = 4) -> Splitter:
    return Splitter(in_flight, HISTORY, UPDATED)


instants = st.floats(0, 40 * 365).map(lambda days: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(days=days))


@settings(deadline=None)
@given(st.none() | instants, instants, instants, st.none() | instants, st.integers(2, MOST_PIECES))
def test_the_pieces_are_the_slice_again_and_every_edge_is_asked_for_once_more_than_needed(
    since: datetime | None, until: datetime, history_start: datetime, oldest: datetime | None, count: int
) -> None:
    assume(since is None or since < until)
    piece = whole(Window(since or BEGINNING, until))
    pieces = Splitter(4, history_start, UPDATED).split(piece, LargeSliceError(count, oldest), "nightly")
    windows = [p.window for p in pieces]
    assert islands(windows) == [piece.window]
    assert sum((w.until - w.since for w in windows), timedelta()) == piece.window.until - piece.window.since
    assert windows == sorted(windows, reverse=True)
    assert len(pieces) <= count + 1
    assert (pieces[-1].filter_since, pieces[0].filter_until) == (piece.filter_since, piece.filter_until)
    for newer, older in pairwise(pieces):
        assert older.filter_until == older.window.until == newer.window.since
        assert newer.filter_since == newer.window.since - WIDER
        assert newer.window.since.microsecond == 0


def test_a_chain_that_is_short_enough_is_walked() -> None:
    assert splitter().pieces(page(LONGEST_CHAIN * 100), 1) == 1
    assert splitter().pieces(page(LONGEST_CHAIN * 100 + 1), 1) > 1
    assert splitter().pieces(page(100_000, has_next=False), 1) == 1
    assert splitter().pieces(page(100_000), 2) == 1  # what was begun as a chain stays one


def test_a_list_that_tells_no_total_is_large_after_some_pages() -> None:
    assert [n for n in range(1, 40) if splitter().pieces(page(None), n) > 1] == [LEAST_PAGES]


def test_pieces_suit_the_number_that_is_fetched_side_by_side() -> None:
    few, many = splitter(1), splitter(32)
    assert few.pieces(page(40_000), 1) == 8
    assert many.pieces(page(40_000), 1) == 400 // LEAST_PAGES
    assert many.pieces(page(400_000), 1) == MOST_PIECES
    # A piece of a large list may be longer than one of a small list, so that it is not cut once more for nothing.
    assert few.pieces(page(7_500), 1) == 1


def test_a_pace_that_keeps_one_request_busy_is_cut_into_few() -> None:
    """Each piece costs a request or two, which a limit makes expensive, and side by side they would only wait for their turn."""
    assert splitter(32).pieces(page(40_000), 1, 1) == 8
    assert splitter(32).pieces(page(40_000), 1, 32) == 400 // LEAST_PAGES
    assert splitter(32).pieces(page(7_500), 1, 1) == 1
    assert splitter(32).pieces(page(7_500), 1, 4) > 1
    assert requests_needed(75, 1) == 75
    assert requests_needed(400, 1) < requests_needed(400, 4)


def test_what_happened_within_a_second_is_a_chain() -> None:
    splitter().look(whole(Window(END - timedelta(seconds=1), END)), page(100_000, changed=END), 1)
    with pytest.raises(LargeSliceError):  # a second more, and there is an edge to cut at
        splitter().look(whole(Window(END - timedelta(seconds=2), END)), page(100_000, changed=END), 1)


def test_rows_outside_of_what_was_asked_show_that_cutting_is_no_use() -> None:
    asked = whole(Window(END - timedelta(days=9), END - timedelta(days=8)))
    with pytest.raises(LargeSliceError):
        splitter().look(asked, page(100_000, changed=END - timedelta(days=8, hours=1)), 1)
    with pytest.raises(CoarseFilterError):
        splitter().look(asked, page(100_000, changed=END), 1)
    with pytest.raises(CoarseFilterError):
        splitter().look(asked, page(100_000, changed=HISTORY), 1)


# ---- with a server -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=11, accounts=3, customers=20, bookings=240, events=8, years=2)


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    return contract_with(tmp_path, SMALL_PAGES)


@pytest.fixture
def emulator(world: World) -> Iterator[Emulator]:
    with Emulator(world, Switches(meta_total="present")) as running:
        yield running


def lists(emulator: Emulator) -> Counter[str]:
    return Counter(r.path.rsplit("/", 1)[-1] for r in emulator.requests)


def kinds(folder: Path) -> dict[str, set[str]]:
    rows = query(folder / "warehouse.duckdb", "select stream, kind from ops.slices where stream <> 'accounts'")
    return {stream: {k for s, k in rows if s == stream} for stream, _ in rows}


def test_a_large_first_load_is_read_once_and_in_pieces(
    emulator: Emulator, world: World, contract: Contract, tmp_path: Path
) -> None:
    report = night(settings_for(emulator, tmp_path), contract)
    assert report.problems == []
    assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
    assert kinds(tmp_path) == {"bookings": {"nightly", "sweep"}, "customers": {"sweep"}, "events": {"sweep"}}
    # 60 pages are the least: pieces end with pages that are not full, one page told the size, one the count at the end.
    assert 60 <= lists(emulator)["bookings"] <= 85


@pytest.mark.parametrize(
    ("switches", "is_cut"),
    [
        (Switches(), True),
        (Switches(meta_total="present", bounds="exclusive"), True),
        (Switches(meta_total="present", default_order="natural", sort=False), True),
        (Switches(meta_total="present", paging="number"), True),
        (Switches(meta_total="present", change_filter_reads="day"), True),
        (Switches(meta_total="present", filters=False, unknown_parameters="ignore"), False),
        (Switches(meta_total="present", upper_bound=False), False),
    ],
    ids=["no_total", "exclusive", "unsorted", "numbered", "whole_days", "ignored_filter", "no_upper_bound"],
)
def test_every_dialect_is_read_whole(
    switches: Switches, *, is_cut: bool, world: World, contract: Contract, tmp_path: Path
) -> None:
    with Emulator(world, switches) as emulator:
        report = night(settings_for(emulator, tmp_path), contract)
        asked = lists(emulator)["bookings"]
    assert report.problems == []
    assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
    assert ("nightly" in kinds(tmp_path)["bookings"]) == is_cut
    assert asked <= 60 * 3


def test_many_rows_of_one_second_are_found_and_walked_as_a_chain(contract: Contract, tmp_path: Path) -> None:
    world = World(seed=12, accounts=3, customers=4, bookings=240, events=0, years=2)
    world.bulk_update(200)
    with Emulator(world, Switches(meta_total="present")) as emulator:
        report = night(settings_for(emulator, tmp_path), contract)
        asked = lists(emulator)["bookings"]
    assert report.problems == []
    assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
    assert asked <= 2 * 60


def test_the_stretch_after_a_short_window_is_cut_too_and_claims_nothing() -> None:
    """Many rows changed just before the run: they lie after the end of every window, in the slice that has no upper bound."""
    window = Window(END - timedelta(minutes=5), END)
    seen_at = END + timedelta(seconds=60)
    pieces = splitter().split(whole(window), LargeSliceError(6, None, seen_at), "nightly")
    counting = [p for p in pieces if p.accounts]
    rest = [p for p in pieces if not p.accounts]
    assert pieces == rest + counting  # newest first
    assert (counting[-1].window.since, counting[0].window.until) == (window.since, END)
    assert all(p.filter_until == p.window.until for p in counting)
    assert [p.window.until for p in rest[1:]] == [p.window.since for p in rest[:-1]]
    assert (rest[-1].window.since, rest[0].window.until) == (END, seen_at)
    assert all(p.filter_since == p.window.since - WIDER for p in rest)
    assert rest[0].filter_until is None  # whatever changes meanwhile comes too
    assert all(p.filter_until == p.window.until for p in rest[1:])
    assert len(rest) == 6


@pytest.mark.parametrize("window", [Window(END - timedelta(days=1), END), Window(BEGINNING, END)])
def test_a_long_window_is_cut_before_what_lies_after_it(window: Window) -> None:
    pieces = splitter().split(whole(window), LargeSliceError(6, None, END + timedelta(seconds=60)), "nightly")
    assert all(p.accounts for p in pieces)
    assert pieces[0].filter_until is None


def test_what_lies_after_a_bounded_window_is_not_asked_for() -> None:
    window = Window(END - timedelta(minutes=5), END - timedelta(minutes=1))
    pieces = splitter().split(whole(window), LargeSliceError(6, None, END), "nightly")
    assert all(p.accounts for p in pieces)
    assert pieces[0].filter_until == whole(window).filter_until
