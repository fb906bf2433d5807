"""What is asked for: plans cover all of time for every account, whatever was committed before, and claim nothing beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.plan import (
    BEGINNING,
    CLOSE,
    WIDER,
    Can,
    Kind,
    Request,
    Slice,
    Window,
    complete_days,
    days,
    islands,
    missing,
    pages_needed,
    plan,
    watermark,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ZERO = datetime(2024, 1, 1, tzinfo=UTC)
END = ZERO + 1000 * HOUR
FULL = Can(filters=True, upper_bound=True, account_filter=True)
NIGHTLY = Request("nightly")


def at(hour: float) -> datetime:
    return ZERO + hour * HOUR


def window(since: float | None, until: float) -> Window:
    return Window(BEGINNING if since is None else at(since), at(until))


def planned(
    windows: Mapping[str, Sequence[Window]],
    request: Request = NIGHTLY,
    *,
    can: Can = FULL,
    end: datetime = END,
    overlap: timedelta = DAY,
) -> list[Slice]:
    return plan("bookings", "north", request, windows, end=end, overlap=overlap, can=can)


hours = st.integers(0, 1100)
spans = st.tuples(st.none() | hours, hours).map(lambda pair: window(*pair))
histories = st.lists(spans, max_size=6)
accounts = st.dictionaries(st.sampled_from("abcd"), histories, min_size=1)
abilities = st.builds(
    Can, filters=st.booleans(), upper_bound=st.booleans(), account_filter=st.booleans(), needs_account=st.booleans()
)
overlaps = st.sampled_from([timedelta(0), HOUR, DAY, 3 * DAY])


# ---- properties --------------------------------------------------------------------------------------------------------------


@PROPERTY
@given(accounts, abilities, overlaps, st.sampled_from(["nightly", "sweep"]))
def test_what_is_stored_and_what_is_planned_cover_all_time(
    windows: dict[str, list[Window]], can: Can, overlap: timedelta, kind: Kind
) -> None:
    slices = planned(windows, Request(kind), can=can, overlap=overlap)
    for account, own in windows.items():
        covered = islands([*own, *(s.window for s in slices if account in s.accounts)])
        assert covered[0].since == BEGINNING
        assert covered[0].until >= END
        # The head is asked for even where somebody claims to have it: from the highest committed end less the overlap.
        reached = min(max((w.until for w in islands(own)), default=BEGINNING), END)
        head = reached - overlap if own and reached - BEGINNING > overlap else BEGINNING
        asked = islands(s.window for s in slices if account in s.accounts)
        assert head == END or any(w.since <= head and w.until == END for w in asked)


@PROPERTY
@given(accounts, abilities, overlaps, st.sampled_from(["nightly", "sweep", "backfill"]), spans)
def test_no_slice_promises_more_than_it_asks(
    windows: dict[str, list[Window]], can: Can, overlap: timedelta, kind: Kind, asked: Window
) -> None:
    slices = planned(windows, Request(kind, asked if kind == "backfill" else None), can=can, overlap=overlap)
    assert len(set(slices)) == len(slices)
    for piece in slices:
        is_first = kind == "nightly" and can.filters and (can.needs_account or not any(windows.values()))
        assert piece.kind == kind or (is_first and piece.kind == "sweep")
        assert piece.window.since < piece.window.until <= END
        assert piece.filter_since == (None if piece.window.since == BEGINNING else piece.window.since - WIDER)
        assert piece.filter_until == (None if piece.window.until == END else piece.window.until + WIDER)
        assert set(piece.accounts) <= set(windows)
        if piece.only_account is not None:
            assert piece.accounts == (piece.only_account,)
            assert can.account_filter or can.needs_account
        if can.needs_account:
            assert piece.only_account is not None
        if not can.filters:
            assert piece.window == Window(BEGINNING, END)
        if not can.upper_bound:
            assert piece.filter_until is None
    for account in windows:
        own = [s.window.until for s in slices if account in s.accounts]
        assert own == sorted(own, reverse=True)


@PROPERTY
@given(accounts, overlaps, st.booleans(), st.randoms(use_true_random=False))
def test_a_plan_that_is_committed_in_any_order_brings_every_watermark_to_the_end(
    windows: dict[str, list[Window]], overlap: timedelta, account_filter: bool, random: object
) -> None:
    assume(all(w.until <= END for own in windows.values() for w in own))
    slices = planned(windows, can=Can(filters=True, upper_bound=True, account_filter=account_filter), overlap=overlap)
    random.shuffle(slices)  # type: ignore[attr-defined]  # hypothesis types it as object
    stored = {account: list(own) for account, own in windows.items()}
    for piece in slices:
        for account in piece.accounts:
            before = watermark(stored[account])
            stored[account].append(piece.window)
            after = watermark(stored[account])
            assert before is None or (after is not None and after >= before)
    assert {watermark(own) for own in stored.values()} == {END}
    again = planned(stored, overlap=overlap)
    assert [s.window for s in again] == [Window(END - overlap, END)] * bool(overlap)


@PROPERTY
@given(histories)
def test_the_watermark_is_where_the_first_hole_begins(windows: list[Window]) -> None:
    # Brute force over hours: an hour is covered or it is not; the beginning of time is hour -1.
    covered = {
        hour
        for w in windows
        for hour in range(-1 if w.since == BEGINNING else (w.since - ZERO) // HOUR, (w.until - ZERO) // HOUR)
    }
    hole = next(hour for hour in range(-1, 2000) if hour not in covered)
    assert watermark(windows) == (None if hole == -1 else at(hole))


@PROPERTY
@given(histories)
def test_islands_keep_every_instant_and_stand_apart(windows: list[Window]) -> None:
    joined = islands(windows)
    for before, after in pairwise(joined):
        assert before.until < after.since
    for hour in range(-1, 1101):
        instant = BEGINNING if hour < 0 else at(hour)
        assert any(w.since <= instant < w.until for w in windows) == any(w.since <= instant < w.until for w in joined)


# ---- tables ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        ([], [window(None, 100)]),
        ([window(None, 90)], [window(80, 100)]),
        ([window(None, 100)], [window(90, 100)]),
        ([window(None, 200)], [window(None, 100)]),  # dated by a clock that ran ahead: not believed
        ([window(None, 20), window(40, 90)], [window(20, 40), window(80, 100)]),
        ([window(None, 20), window(40, 50), window(60, 90)], [window(20, 40), window(50, 60), window(80, 100)]),
        ([window(40, 90)], [window(None, 40), window(80, 100)]),
        (
            [window(None, 20), window(150, 190)],
            [window(10, 100)],
        ),  # the second is not believed, so the first has the head
        ([window(None, 40), window(20, 60), window(60, 90)], [window(80, 100)]),
        ([window(None, 20), window(30, 35)], [window(20, 30), window(25, 100)]),
    ],
)
def test_gaps_and_head(committed: list[Window], expected: list[Window]) -> None:
    assert missing(committed, at(100), 10 * HOUR) == islands(expected)


def test_an_overlap_longer_than_history_does_not_leave_time() -> None:
    early = Window(BEGINNING, BEGINNING + HOUR)
    assert missing([early], at(0), DAY) == [Window(BEGINNING, at(0))]


def test_a_quiet_night_is_one_open_slice_for_all() -> None:
    own = [window(None, 900)]
    (piece,) = planned({"b": own, "a": own})
    assert piece == Slice(
        stream="bookings",
        api_client="north",
        kind="nightly",
        accounts=("a", "b"),
        window=window(876, 1000),
        filter_since=at(876) - timedelta(seconds=1),
        filter_until=None,
    )


def test_a_first_load_is_one_whole_walk_until_it_turns_out_to_be_large() -> None:
    (first_load,) = planned({"a": [], "b": []})
    assert (first_load.kind, first_load.window) == ("sweep", Window(BEGINNING, END))
    assert (first_load.filter_since, first_load.filter_until) == (None, None)


def test_a_new_account_among_old_ones_is_asked_alone_where_that_can_be_asked() -> None:
    windows = {"old": [window(None, 990)], "new": []}
    head, *history = planned(windows)
    assert head.accounts == ("new", "old")
    assert head.only_account is None
    assert head.window == Window(at(966), END)
    assert [(s.only_account, s.accounts) for s in history] == [("new", ("new",))]
    assert islands(s.window for s in history) == [window(None, 966)]

    together = planned(windows, can=Can(filters=True, upper_bound=True, account_filter=False))
    assert {s.only_account for s in together} == {None}
    assert {s.accounts for s in together} == {("new", "old")}


def test_a_new_account_without_upper_bound_gets_its_own_walk_or_widens_that_of_all() -> None:
    windows = {"old": [window(None, 990)], "new": []}
    shared, own = planned(windows, can=Can(filters=True, upper_bound=False, account_filter=True))
    assert (shared.window, shared.accounts, shared.only_account) == (window(966, 1000), ("new", "old"), None)
    assert (own.window, own.accounts, own.only_account) == (window(None, 1000), ("new",), "new")
    (wide,) = planned(windows, can=Can(filters=True, upper_bound=False, account_filter=False))
    assert (wide.window, wide.accounts) == (window(None, 1000), ("new", "old"))


def test_a_gap_of_one_account_is_asked_for_that_account() -> None:
    windows = {"a": [window(None, 100), window(200, 990)], "b": [window(None, 990)]}
    head, gap = planned(windows)
    assert head.window == window(966, 1000)
    assert (gap.window, gap.only_account) == (window(100, 200), "a")
    assert (gap.filter_since, gap.filter_until) == (at(100) - WIDER, at(200) + WIDER)


def test_accounts_with_close_watermarks_share_a_slice_from_the_earliest() -> None:
    windows = {"a": [window(None, 980)], "b": [window(None, 990)]}
    (piece,) = planned(windows, overlap=timedelta(0))
    assert (piece.window, piece.accounts) == (window(980, 1000), ("a", "b"))


def test_a_lagging_account_does_not_widen_the_slice_of_all() -> None:
    behind = 990 - CLOSE // HOUR - 1
    windows = {"a": [window(None, behind)], "b": [window(None, 990)]}
    head, own = planned(windows, overlap=timedelta(0))
    assert (head.window, head.accounts) == (window(990, 1000), ("a", "b"))
    assert (own.window, own.only_account) == (window(behind, 990), "a")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (window(10, 20), [window(10, 20)]),
        (window(990, 1010), [window(990, 1000)]),  # never beyond what the server's own clock has reached
        (window(1000, 1010), []),
        (window(20, 20), []),
        (window(None, 20), [window(None, 20)]),
    ],
)
def test_a_backfill_is_clipped_to_the_end(asked: Window, expected: list[Window]) -> None:
    slices = planned({"a": [window(None, 900)], "b": []}, Request("backfill", asked))
    assert [s.window for s in slices] == expected
    assert all(s.accounts == ("a", "b") for s in slices)


def test_a_backfill_without_upper_bound_reads_to_now() -> None:
    can = Can(filters=True, upper_bound=False, account_filter=True)
    (piece,) = planned({"a": []}, Request("backfill", window(10, 20)), can=can)
    assert (piece.window, piece.filter_until) == (window(10, 1000), None)


@pytest.mark.parametrize("request_", [NIGHTLY, Request("sweep"), Request("backfill", window(10, 20))])
def test_without_filters_every_request_is_one_complete_walk(request_: Request) -> None:
    can = Can(filters=False, upper_bound=False, account_filter=True)
    (piece,) = planned({"a": [window(None, 990)], "b": []}, request_, can=can)
    assert (piece.window, piece.accounts, piece.filter_since, piece.filter_until) == (
        window(None, 1000),
        ("a", "b"),
        None,
        None,
    )


def test_a_sweep_is_one_complete_walk_even_with_filters() -> None:
    (piece,) = planned({"a": [window(None, 990)]}, Request("sweep"))
    assert (piece.kind, piece.window, piece.filter_since) == ("sweep", window(None, 1000), None)


def test_rows_that_name_no_account_are_asked_account_by_account() -> None:
    can = Can(filters=True, upper_bound=True, account_filter=True, needs_account=True)
    slices = planned({"b": [window(None, 990)], "a": [window(None, 980)]}, can=can, overlap=timedelta(0))
    assert [(s.only_account, s.accounts, s.window) for s in slices] == [
        ("a", ("a",), window(980, 1000)),
        ("b", ("b",), window(990, 1000)),
    ]


@pytest.mark.parametrize("can", [FULL, Can(filters=True, upper_bound=False, account_filter=True)])
def test_without_overlap_a_second_run_at_the_same_moment_asks_for_its_gaps_alone(can: Can) -> None:
    done = [window(None, 1000)]
    assert planned({"a": done, "b": done}, can=can, overlap=timedelta(0)) == []
    (gap,) = planned({"a": done, "b": [window(None, 20), window(40, 1000)]}, can=can, overlap=timedelta(0))
    assert (gap.only_account, gap.window.since) == ("b", at(20))


def test_nobody_to_serve_is_nothing_to_ask() -> None:
    assert planned({}) == []


# ---- change days -------------------------------------------------------------------------------------------------------------

LONDON, SYDNEY, LOS_ANGELES = (ZoneInfo(z) for z in ("Europe/London", "Australia/Sydney", "America/Los_Angeles"))


@pytest.mark.parametrize(
    ("mark", "zone", "last"),
    [
        (datetime(2024, 7, 2, 0, 0, tzinfo=UTC), UTC, date(2024, 7, 1)),
        (datetime(2024, 7, 1, 23, 59, 59, tzinfo=UTC), UTC, date(2024, 6, 30)),
        (datetime(2024, 7, 1, 23, 0, tzinfo=UTC), LONDON, date(2024, 7, 1)),  # British summer time: midnight is 23:00
        (datetime(2024, 7, 1, 22, 59, 59, tzinfo=UTC), LONDON, date(2024, 6, 30)),
        (datetime(2024, 3, 31, 23, 0, tzinfo=UTC), LONDON, date(2024, 3, 31)),  # a day of 23 hours
        (datetime(2024, 3, 31, 22, 59, tzinfo=UTC), LONDON, date(2024, 3, 30)),
        (datetime(2024, 10, 27, 23, 30, tzinfo=UTC), LONDON, date(2024, 10, 26)),  # a day of 25 hours is not over yet
        (datetime(2024, 10, 28, 0, 0, tzinfo=UTC), LONDON, date(2024, 10, 27)),
        (datetime(2024, 4, 6, 13, 0, tzinfo=UTC), SYDNEY, date(2024, 4, 6)),
        (datetime(2024, 4, 7, 13, 59, tzinfo=UTC), SYDNEY, date(2024, 4, 6)),
        (datetime(2024, 4, 7, 14, 0, tzinfo=UTC), SYDNEY, date(2024, 4, 7)),
        (datetime(2024, 3, 11, 7, 0, tzinfo=UTC), LOS_ANGELES, date(2024, 3, 10)),
        (datetime(2024, 3, 11, 6, 59, tzinfo=UTC), LOS_ANGELES, date(2024, 3, 9)),
    ],
)
def test_a_day_is_complete_when_the_watermark_reaches_its_local_end(mark: datetime, zone: ZoneInfo, last: date) -> None:
    later = mark + 100 * DAY
    assert complete_days([later, mark], zone, date(2024, 1, 1)) == (date(2024, 1, 1), last)


@pytest.mark.parametrize("marks", [[], [None], [at(500), None]])
def test_no_day_is_complete_while_an_account_has_no_watermark(marks: list[datetime | None]) -> None:
    assert complete_days(marks, UTC, date(2024, 1, 1)) is None


def test_no_day_before_history_starts() -> None:
    assert complete_days([at(0)], UTC, date(2024, 1, 1)) is None
    assert complete_days([at(24)], UTC, date(2024, 1, 1)) == (date(2024, 1, 1), date(2024, 1, 1))


def test_days_are_listed_with_both_ends() -> None:
    assert days(date(2024, 2, 28), date(2024, 3, 1)) == [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
    assert days(date(2024, 3, 1), date(2024, 2, 28)) == []


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2)])
def test_pages_needed(rows: int, pages: int) -> None:
    assert pages_needed(rows, 100) == pages
