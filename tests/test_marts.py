"""The marts say what a hand-made warehouse holds.

Lives here: sql/marts, run for real in DuckDB on rows small enough to count by hand. Not here: how rows get there (the merge), and the checks
(`test_checks`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.hand_made import (
    BOOKINGS,
    BRAKE,
    CHECKS,
    MARTS,
    SQL,
    STREAMS,
    WATERMARK,
    build,
    insert,
    one,
    rows_of,
    run_check,
    select,
)


def holds(row: dict[str, Any], **expected: object) -> None:
    """Compare the named columns, all at once, types too: 12.1 is not Decimal('12.1')."""
    found = {name: row[name] for name in expected}
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }


# --- bookings


def test_bookings_are_live_rows_each_once(warehouse: duckdb.DuckDBPyConnection) -> None:
    found = select(warehouse, "select account_id, booking_id from marts.bookings order by all")
    live = [row for row in rows_of(BOOKINGS) if row["deleted_at"] is None]
    assert [tuple(row.values()) for row in found] == sorted((row["account_id"], row["booking_id"]) for row in live)


def test_booking_with_everything(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(warehouse, "bookings", "account_id = 'lon' and booking_id = 'midnight'"),
        account_name="London",
        account_slug="london",
        event_id="e1",
        status="confirmed",
        is_cancelled=False,
        reporting_time_zone="Europe/London",
        is_zone_assumed=False,
        start_local_at=datetime(2024, 7, 2, 0, 30),  # noqa: DTZ001 - a local time without a zone is what the column promises
        start_on=date(2024, 7, 2),
        created_on=date(2024, 7, 1),
        is_past=True,
        duration_minutes=45,
        lead_time_minutes=24 * 60 + 14,
        price=Decimal("12.1000"),
        participants_count=2,
        cancelled_participants_count=1,
        spaces_count=3,
        arrived_count=1,
        no_show_count=1,
        complete_count=0,
        unmarked_count=0,
        paid_online_amount=Decimal("6.0500"),
        resources_count=2,
        created_source="appointment_screen",
        is_internal=True,
    )
    start = one(warehouse, "bookings", "account_id = 'lon' and booking_id = 'midnight'")["start_at"]
    assert start == datetime(2024, 7, 1, 23, 30, tzinfo=UTC)


def test_empty_booking_is_kept(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(warehouse, "bookings", "booking_id = 'dst-second'"),
        participants_count=0,
        spaces_count=0,
        unmarked_count=0,
        resources_count=0,
        paid_online_amount=None,
        created_on=None,
        lead_time_minutes=None,
        is_internal=None,
    )


def test_cancelled_booking_still_lists_its_participants(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "bookings", "booking_id = 'cancelled'")
    holds(row, is_cancelled=True, participants_count=1, unmarked_count=1, is_internal=False)


def test_same_id_in_another_account_is_another_booking(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "bookings", "account_id = 'nyc' and booking_id = 'midnight'")
    holds(
        row,
        start_on=date(2024, 7, 1),
        participants_count=1,
        spaces_count=3,
        resources_count=0,
        event_id=None,
        account_name="New York",
    )


@pytest.mark.parametrize(
    ("booking_id", "local"),
    [("dst-first", "2024-10-27 01:30:00"), ("dst-second", "2024-10-27 01:30:00"), ("dst", "2024-03-10 03:30:00")],
)
def test_local_time_where_the_clocks_change(warehouse: duckdb.DuckDBPyConnection, booking_id: str, local: str) -> None:
    row = one(warehouse, "bookings", f"booking_id = '{booking_id}'")
    assert str(row["start_local_at"]) == local


def test_made_after_it_began(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(one(warehouse, "bookings", "booking_id = 'dst-first'"), lead_time_minutes=-15, created_on=date(2024, 10, 27))


def test_future_booking_is_not_past(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(one(warehouse, "bookings", "booking_id = 'future'"), is_past=False)


def test_past_is_what_had_ended_by_the_newer_of_watermark_and_reading(warehouse: duckdb.DuckDBPyConnection) -> None:
    for start_at, end_at, by_watermark, by_reading in (
        ("02:00", "'2024-11-01 03:30:00+00'", True, False),
        ("02:00", "'2024-11-01 03:31:00+00'", False, False),
        ("02:00", "null", True, False),
        ("00:00", "null", True, True),
    ):
        times = f"start_at = '2024-11-01 {start_at}:00+00', end_at = {end_at}"
        warehouse.execute(f"update core.bookings set {times} where booking_id = 'future'")
        holds(one(warehouse, "bookings", "booking_id = 'future'"), is_past=by_watermark)
        warehouse.execute("create or replace temp table kept as from ops.windows; delete from ops.windows")
        holds(one(warehouse, "bookings", "booking_id = 'future'"), is_past=by_reading)
        warehouse.execute("insert into ops.windows from kept")


def test_local_times_equal_duckdbs_own_at_every_hour(warehouse: duckdb.DuckDBPyConnection) -> None:
    """The shortcut of marts.utc_offsets is no approximation: nor before 1970, nor in odd zones."""
    zones = [
        "Europe/London",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "America/Havana",
        "Pacific/Apia",
    ]
    for number, zone in enumerate(zones):
        row = {"account_id": f"z{number}", "time_zone": zone, "reporting_time_zone": zone, "source": "setting"}
        insert(warehouse, "ops.account_time_zones", **row, is_zone_assumed=False)
        insert(warehouse, "core.accounts", account_id=f"z{number}")
        for since, until in (("2011-12-01", "2012-01-05"), ("2024-01-01", "2025-01-01"), ("1969-12-20", "1970-01-10")):
            warehouse.execute(f"""
                insert into core.bookings by name
                select
                    'z{number}' as account_id, cast(hour_at as varchar) as booking_id, hour_at as start_at, hour_at as created_at,
                    'h' as content_hash, now() as fetched_at, 's' as slice_id
                from range(timestamptz '{since} 00:17:00+00', timestamptz '{until} 00:00:00+00', interval 1 hour) as hours (hour_at)
            """)
    query = """
        select
            count(*) as bookings_count,
            count(distinct reporting_time_zone) as zones_count,
            count(*) filter (where start_local_at is distinct from timezone(reporting_time_zone, start_at)) as wrong_start_count,
            count(*) filter (where created_on is distinct from cast(timezone(reporting_time_zone, created_at) as date)) as wrong_day_count
        from marts.bookings
        where account_id like 'z%'
    """
    (counts,) = select(warehouse, query)
    assert counts["bookings_count"] > 60_000
    assert counts["zones_count"] == len(zones)
    assert (counts["wrong_start_count"], counts["wrong_day_count"]) == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        "delete from ops.account_time_zones where account_id = 'lon'",
        "update ops.account_time_zones set reporting_time_zone = 'GMT Standard Time' where account_id = 'lon'",
        "; ".join(
            f"update core.{table} set account_id = 'stranger' where account_id = 'lon'"
            for table in ("bookings", "events", "customers")
        ),
    ],
)
def test_without_a_usable_zone_days_are_utc_and_say_so(warehouse: duckdb.DuckDBPyConnection, spoil: str) -> None:
    warehouse.execute(spoil)
    row = one(warehouse, "bookings", "booking_id = 'midnight' and account_id <> 'nyc'")
    holds(row, reporting_time_zone="UTC", is_zone_assumed=True, start_on=date(2024, 7, 1))
    holds(
        one(warehouse, "events", "event_id = 'e1'"),
        reporting_time_zone="UTC",
        is_zone_assumed=True,
        start_on=date(2024, 7, 1),
        start_local_at=datetime(2024, 7, 1, 23, 30),  # noqa: DTZ001  a local time
        end_local_at=datetime(2024, 7, 2, 0, 15),  # noqa: DTZ001  a local time
    )
    holds(one(warehouse, "customers", "customer_id = 'c2'"), reporting_time_zone="UTC", is_zone_assumed=True)
    row = one(
        warehouse, "daily_bookings", "account_id <> 'nyc' and date_basis = 'occurring_on' and day_on = '2024-07-01'"
    )
    holds(row, bookings_count=1, is_zone_assumed=True)


def test_unknown_status_is_not_cancelled(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("update core.bookings set status = null where booking_id = 'cancelled'")
    holds(one(warehouse, "bookings", "booking_id = 'cancelled'"), status=None, is_cancelled=False)
    warehouse.execute("update core.booking_customers set status = null where customer_booking_id in ('p2', 'p6')")
    holds(
        one(warehouse, "bookings", "booking_id = 'midnight' and account_id = 'lon'"),
        participants_count=2,
        spaces_count=3,
    )
    holds(one(warehouse, "events", "event_id = 'e1'"), bookings_count=3, participants_count=4, booked_spaces_count=5)
    holds(one(warehouse, "customers", "account_id = 'lon' and customer_id = 'c1'"), bookings_count=3)
    warehouse.execute("update core.events set status = null")
    holds(one(warehouse, "events", "event_id = 'e1'"), status=None, is_cancelled=False)
    assert select(warehouse, "select * from marts.booking_customers where is_cancelled is null") == []


# --- who and what is on a booking


def test_customers_on_live_bookings_without_those_removed(warehouse: duckdb.DuckDBPyConnection) -> None:
    rows = select(
        warehouse, "select account_id, booking_id, customer_booking_id from marts.booking_customers order by all"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("lon", "cancelled", "p6"),
        ("lon", "dst-first", "p7"),
        ("lon", "future", "p8"),
        ("lon", "midnight", "p1"),
        ("lon", "midnight", "p2"),
        ("lon", "midnight", "p3"),
        ("lon", "unmarked", "p5"),
        ("nyc", "midnight", "p1"),
    ]
    holds(
        one(warehouse, "booking_customers", "account_id = 'lon' and customer_booking_id = 'p1'"),
        account_name="London",
        customer_id="c1",
        event_id="e1",
        status="arrived",
        is_cancelled=False,
        start_on=date(2024, 7, 2),
        is_past=True,
        spaces_count=2,
        total_price=Decimal("12.1000"),
        paid_online_amount=Decimal("5.0500"),
    )


def test_a_participation_is_cancelled_alone_or_with_its_booking(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("update core.booking_customers set status = null where customer_booking_id = 'p5'")
    rows = select(
        warehouse,
        "select customer_booking_id, is_booking_cancelled, is_cancelled from marts.booking_customers where account_id = 'lon' order by all",
    )
    assert [tuple(row.values()) for row in rows] == [
        ("p1", False, False),
        ("p2", False, False),
        ("p3", False, True),
        ("p5", False, False),
        ("p6", True, True),
        ("p7", False, False),
        ("p8", False, False),
    ]


def test_customers_on_bookings_add_up_to_the_other_marts(warehouse: duckdb.DuckDBPyConnection) -> None:
    totals = select(
        warehouse,
        """
        select account_id, customer_id, count(*) filter (where not is_cancelled) as bookings_count,
            sum(total_price) filter (where not is_cancelled) as booked_amount
        from marts.booking_customers semi join marts.customers using (account_id, customer_id) group by all order by all
        """,
    )
    wanted = "select account_id, customer_id, bookings_count, booked_amount from marts.customers where bookings_count > 0 order by all"
    assert totals == select(warehouse, wanted)
    counts = "select account_id, booking_id, count(*) filter (where status is distinct from 'cancelled') as participants_count"
    per_booking = select(warehouse, f"{counts} from marts.booking_customers group by all order by all")
    wanted = "select account_id, booking_id, participants_count from marts.bookings where participants_count > 0 order by all"
    assert per_booking == select(warehouse, wanted)


def test_resources_on_live_bookings_without_those_removed(warehouse: duckdb.DuckDBPyConnection) -> None:
    insert(warehouse, "core.booking_resources", account_id="lon", booking_id="gone", resource_id="r1")
    rows = select(warehouse, "select booking_id, resource_id, is_cancelled from marts.booking_resources order by all")
    assert [tuple(row.values()) for row in rows] == [
        ("cancelled", "r1", True),
        ("midnight", "r1", False),
        ("midnight", "r2", False),
    ]
    row = one(warehouse, "booking_resources", "booking_id = 'midnight' and resource_id = 'r2'")
    holds(row, account_name="London", start_on=date(2024, 7, 2), duration_minutes=45, participants_count=2)


# --- customers


def test_customers_are_live_rows(warehouse: duckdb.DuckDBPyConnection) -> None:
    rows = select(warehouse, "select account_id, customer_id from marts.customers order by all")
    assert [tuple(row.values()) for row in rows] == [("lon", "c1"), ("lon", "c2"), ("nyc", "c1"), ("nyc", "quiet")]


def test_customer_counts_and_days(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(warehouse, "customers", "account_id = 'lon' and customer_id = 'c1'"),
        account_name="London",
        first_name="Ada",
        tags=["early", "vip"],
        bookings_count=2,
        cancelled_bookings_count=1,
        no_show_count=0,
        first_booking_on=date(2024, 7, 2),
        last_booking_on=date(2024, 7, 2),
        booked_amount=Decimal("12.3000"),
    )
    holds(
        one(warehouse, "customers", "account_id = 'lon' and customer_id = 'c2'"),
        tags=[],
        bookings_count=2,
        cancelled_bookings_count=1,
        no_show_count=1,
        first_booking_on=date(2024, 7, 2),
        last_booking_on=date(2024, 10, 27),
        booked_amount=Decimal("7.0500"),
    )
    # What is cancelled counts for neither of the two days, and nobody is missed there.
    warehouse.execute("update core.booking_customers set status = 'no_show' where booking_id = 'cancelled'")
    for day in ("2024-01-01", "2024-12-01"):
        warehouse.execute(f"update core.bookings set start_at = '{day} 10:00:00+00' where booking_id = 'cancelled'")
        row = one(warehouse, "customers", "account_id = 'lon' and customer_id = 'c1'")
        holds(row, no_show_count=0, first_booking_on=date(2024, 7, 2), last_booking_on=date(2024, 7, 2))
    row = one(warehouse, "customers", "account_id = 'nyc' and customer_id = 'c1'")
    holds(row, bookings_count=1, first_booking_on=date(2024, 7, 1), booked_amount=Decimal("12.1000"))


def test_customer_who_never_booked(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "customers", "customer_id = 'quiet'")
    holds(
        row,
        tags=[],
        bookings_count=0,
        cancelled_bookings_count=0,
        no_show_count=0,
        first_booking_on=None,
        booked_amount=Decimal("0.0000"),
    )


# --- events


def test_event_counts_its_bookings(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(warehouse, "events", "event_id = 'e1'"),
        account_name="London",
        title="Styling",
        start_on=date(2024, 7, 2),
        capacity_count=12,
        spaces_taken_count=3,
        bookings_count=2,
        cancelled_bookings_count=1,
        participants_count=3,
        booked_spaces_count=4,
        fill_ratio=0.25,
    )
    assert str(one(warehouse, "events", "event_id = 'e1'")["end_local_at"]) == "2024-07-02 01:15:00"
    # A booking that nobody takes part in is one all the same.
    warehouse.execute("update core.bookings set event_id = 'e1' where booking_id = 'dst-second'")
    holds(one(warehouse, "events", "event_id = 'e1'"), bookings_count=3, participants_count=3, booked_spaces_count=4)
    warehouse.execute("update core.bookings set event_id = 'e2' where booking_id = 'dst-second'")
    holds(one(warehouse, "events", "event_id = 'e2'"), bookings_count=1, participants_count=0, booked_spaces_count=0)


def test_event_without_bookings_or_capacity(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "events", "event_id = 'e2'")
    holds(row, bookings_count=0, participants_count=0, booked_spaces_count=0, fill_ratio=None)
    warehouse.execute("update core.events set capacity_count = null")
    holds(one(warehouse, "events", "event_id = 'e1'"), fill_ratio=None)
    assert select(warehouse, "select * from marts.events where event_id = 'e3'") == []


# --- daily_bookings


def test_day_by_occurrence(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(
            warehouse, "daily_bookings", "account_id = 'lon' and date_basis = 'occurring_on' and day_on = '2024-07-02'"
        ),
        account_name="London",
        bookings_count=3,
        cancelled_count=1,
        cancellation_ratio=1 / 3,
        live_bookings_count=2,
        participants_count=3,
        no_show_count=1,
        past_participants_count=3,
        unmarked_past_count=1,
        booked_minutes=75,
        booked_amount=Decimal("12.3000"),
        internal_count=1,
        external_count=2,
    )


def test_day_by_creation(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "daily_bookings", "account_id = 'lon' and date_basis = 'created_on' and day_on = '2024-07-01'")
    holds(row, bookings_count=3, cancelled_count=1, booked_amount=Decimal("12.3000"))
    row = one(warehouse, "daily_bookings", "account_id = 'lon' and date_basis = 'created_on' and day_on = '2024-06-30'")
    holds(
        row,
        bookings_count=1,
        participants_count=1,
        past_participants_count=0,
        unmarked_past_count=0,
        booked_amount=Decimal("5.0000"),
    )


def test_day_of_another_account_is_its_own(warehouse: duckdb.DuckDBPyConnection) -> None:
    rows = select(
        warehouse,
        "select account_id from marts.daily_bookings where date_basis = 'occurring_on' and day_on = '2024-07-01'",
    )
    assert rows == [{"account_id": "nyc"}]


def test_no_booking_is_dropped_for_want_of_a_day(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "daily_bookings", "account_id = 'lon' and date_basis = 'created_on' and day_on is null")
    holds(row, bookings_count=1, booked_minutes=60, booked_amount=None, internal_count=0, external_count=0)
    totals = select(
        warehouse,
        "select date_basis, sum(bookings_count)::integer as n from marts.daily_bookings group by all order by all",
    )
    assert [tuple(row.values()) for row in totals] == [("created_on", 8), ("occurring_on", 8)]
    warehouse.execute("update core.bookings set start_at = null where booking_id = 'dst-second'")
    row = one(warehouse, "daily_bookings", "account_id = 'lon' and date_basis = 'occurring_on' and day_on is null")
    holds(row, bookings_count=1, booked_minutes=None)


def test_day_with_only_cancelled_bookings_has_an_amount_of_nothing(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("update core.bookings set status = 'cancelled' where account_id = 'nyc'")
    row = one(
        warehouse, "daily_bookings", "account_id = 'nyc' and date_basis = 'occurring_on' and day_on = '2024-07-01'"
    )
    holds(
        row,
        cancellation_ratio=1.0,
        live_bookings_count=0,
        participants_count=0,
        booked_minutes=0,
        booked_amount=Decimal("0.0000"),
    )


# --- data_status, accounts


def test_status_of_a_complete_stream(warehouse: duckdb.DuckDBPyConnection) -> None:
    row = one(warehouse, "data_status", "account_id = 'lon' and stream = 'bookings'")
    holds(
        row,
        account_name="London",
        complete_through_on=date(2024, 10, 31),
        has_gap=False,
        rows_count=6,
        tombstones_count=1,
        last_run_id="run-1",
        last_run_kind="nightly",
        last_run_status="green",
        is_visible=True,
        is_zone_assumed=False,
        published_at=None,
        problems=[],
        quarantined_count=0,
        unsettled_count=0,
        held_back_count=0,
        totals_verdict="settled",
    )
    assert row["complete_until_at"] == row["last_sweep_at"] == datetime(2024, 11, 1, 3, 30, tzinfo=UTC)
    assert row["last_run_ended_at"] == datetime(2024, 11, 1, 4, 10, tzinfo=UTC)
    row = one(warehouse, "data_status", "account_id = 'nyc' and stream = 'customers'")
    holds(row, complete_through_on=date(2024, 10, 30), rows_count=2, tombstones_count=0, last_sweep_at=None)


def test_status_has_every_account_and_stream(warehouse: duckdb.DuckDBPyConnection) -> None:
    insert(warehouse, "core.accounts", account_id="new", name="New")
    rows = select(warehouse, "select account_id, stream from marts.data_status")
    assert {tuple(row.values()) for row in rows} == {
        (account, stream) for account in ("lon", "nyc", "old", "new") for stream in STREAMS
    }
    assert len(rows) == 16
    row = one(warehouse, "data_status", "account_id = 'new' and stream = 'customers'")
    holds(
        row,
        complete_until_at=None,
        complete_through_on=None,
        has_gap=False,
        rows_count=0,
        is_visible=False,
        is_zone_assumed=True,
        last_run_id=None,
    )


def test_status_shows_what_went_wrong(warehouse: duckdb.DuckDBPyConnection) -> None:
    late = "2024-11-02 03:30:00+00"
    run = {"run_id": "run-2", "kind": "backfill", "started_by": "cli", "product_version": "0", "started_at": late}
    insert(warehouse, "ops.runs", **run, status="red", problems=["New York was not listed."], warnings=[])
    for stream in ("accounts", "bookings"):
        book = {"slice_id": f"s2-{stream}", "run_id": "run-2", "stream": stream, "kind": "nightly", "until": late}
        insert(warehouse, "ops.slices", **book, account_ids=["lon"], committed_at=late)
        insert(
            warehouse,
            "ops.windows",
            **book,
            account_id="lon",
            since="2024-11-02 00:00:00+00" if stream == "bookings" else None,
        )
    walk = {"slice_id": "s2-bookings", "run_id": "run-2", "stream": "bookings", "api_client": "main"}
    insert(warehouse, "ops.reconciliations", **walk, last_total=2, distinct_count=1, walks_count=2, verdict="unsettled")
    insert(
        warehouse,
        "ops.quarantine",
        slice_id="s2-bookings",
        part_number=1,
        position=1,
        stream="bookings",
        reason="no id",
        record="{}",
        fetched_at=late,
    )
    for day in (2, 1):
        insert(
            warehouse, "ops.publications", published_at=f"2024-11-0{day} 05:00:00+00", run_id="run", product_version="0"
        )
    row = one(warehouse, "data_status", "account_id = 'lon' and stream = 'bookings'")
    holds(
        row,
        has_gap=True,
        complete_through_on=date(2024, 10, 31),
        last_run_id="run-2",
        last_run_kind="backfill",
        last_run_status="red",
    )
    holds(
        row,
        last_run_ended_at=None,
        is_visible=True,
        problems=["New York was not listed."],
        quarantined_count=1,
        unsettled_count=1,
    )
    assert row["published_at"] == datetime(2024, 11, 2, 5, tzinfo=UTC)
    row = one(warehouse, "data_status", "account_id = 'nyc' and stream = 'customers'")
    holds(
        row,
        is_visible=False,
        has_gap=False,
        last_run_id="run-1",
        quarantined_count=0,
        unsettled_count=0,
        problems=["New York was not listed."],
    )


def test_status_tells_of_the_last_sweep_and_of_what_it_held_back(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute(
        "insert into ops.windows select * replace (until - interval 7 days as until) from ops.windows where kind = 'sweep';"
        + BRAKE.format("bookings", "'s-later'").replace("60, 100", "90, 100")
        + "; "
        + BRAKE.format("bookings", "null")
    )
    held = select(
        warehouse, "select account_id, stream, held_back_count as n from marts.data_status where held_back_count > 0"
    )
    assert held == [{"account_id": "nyc", "stream": "bookings", "n": 60}]
    row = one(warehouse, "data_status", "account_id = 'lon' and stream = 'bookings'")
    assert row["last_sweep_at"] == datetime.fromisoformat(WATERMARK)


def test_totals_of_an_account_count_before_those_of_the_whole_list(warehouse: duckdb.DuckDBPyConnection) -> None:
    def verdicts() -> dict[str, str | None]:
        rows = select(warehouse, "select account_id, totals_verdict from marts.data_status where stream = 'events'")
        return {row["account_id"]: row["totals_verdict"] for row in rows}

    walk = {"run_id": "run-1", "stream": "events", "distinct_count": 1, "last_total": 1, "walks_count": 1}
    insert(warehouse, "ops.reconciliations", **walk, slice_id="x", api_client="second", verdict="unsettled")
    insert(
        warehouse, "ops.reconciliations", **walk, slice_id="x", api_client="main", account_id="lon", verdict="settled"
    )
    assert (verdicts()["lon"], verdicts()["nyc"]) == ("settled", "unsettled")
    warehouse.execute(
        "update ops.reconciliations set verdict = 'different' where stream = 'events' and account_id is null and api_client = 'second'"
    )
    assert (verdicts()["lon"], verdicts()["nyc"]) == ("settled", "different")
    warehouse.execute("update ops.reconciliations set verdict = 'unsettled' where account_id = 'lon'")
    assert verdicts()["lon"] == "unsettled"
    holds(one(warehouse, "data_status", "account_id = 'lon' and stream = 'bookings'"), totals_verdict="settled")
    warehouse.execute("delete from ops.reconciliations where stream = 'events'")
    assert verdicts()["nyc"] is None
    # Walked twice until nothing new came, without any total: that proves something, but not that totals agree.
    walked = walk | {"last_total": None, "walks_count": 2}
    insert(warehouse, "ops.reconciliations", **walked, slice_id="x", api_client="main", verdict="settled")
    assert verdicts()["nyc"] is None


def test_accounts_keep_deleted_ones_for_their_names(warehouse: duckdb.DuckDBPyConnection) -> None:
    holds(
        one(warehouse, "accounts", "account_id = 'nyc'"),
        account_name="New York",
        reporting_time_zone="America/New_York",
        deleted_at=None,
    )
    assert one(warehouse, "accounts", "account_id = 'old'")["deleted_at"] is not None


def test_days_are_found_by_the_accounts_name_before_they_are_added_up(warehouse: duckdb.DuckDBPyConnection) -> None:
    question = "select * from marts.daily_bookings where account_name = 'London' and date_basis = 'occurring_on'"
    (_, plan), *_ = warehouse.execute(f"explain (format json) {question}").fetchall()
    (node,) = json.loads(plan)
    while "GROUP_BY" not in node["name"]:
        assert node["name"] != "FILTER"
        node = node["children"][0]
    days = select(warehouse, question)
    assert {row["account_id"] for row in days} == {"lon"}
    assert sum(row["bookings_count"] for row in days) == 6


def test_the_readmes_questions_are_answered(warehouse: duckdb.DuckDBPyConnection) -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", (SQL.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    warehouse.execute("delete from core.bookings where booking_id <> 'unmarked'")
    # Read as confirmed on 1 March, as cancelled on 4 March; the README asks for 3 March.
    for table, values, fetched, status in (
        ("core.bookings", {"booking_id": "was", "deleted_at": None}, "2026-03-04", "cancelled"),
        ("core.bookings", {"booking_id": "new"}, "2026-03-04", "confirmed"),
        ("core.bookings", {"booking_id": "gone", "deleted_at": "2026-03-04"}, "2026-03-04", "confirmed"),
        ("core.bookings", {"booking_id": "gone-before", "deleted_at": "2026-03-02"}, "2026-03-02", "confirmed"),
        ("history.records", {"record_id": "was"}, "2026-03-01", "confirmed"),
        ("history.records", {"record_id": "gone"}, "2026-03-01", "confirmed"),
        ("history.records", {"record_id": "gone-before"}, "2026-03-01", "confirmed"),
    ):
        until = "2026-03-02" if values.get("record_id") == "gone-before" else "2026-03-04"
        past = {
            "stream": "bookings",
            "content_hash": "h",
            "superseded_at": until + " 02:00:00Z",
            "superseded_by_slice_id": "s",
        }
        insert(
            warehouse,
            table,
            account_id="lon",
            document=json.dumps({"data": {"attributes": {"status": status}}}),
            fetched_at=fetched + " 02:00:00Z",
            **values,
            **(past if table == "history.records" else {}),
        )
    streams, columns, days, then = (select(warehouse, one.query) for one in duckdb.extract_statements(block))
    assert [row["column_name"] for row in columns] == list(one(warehouse, "bookings", "booking_id = 'unmarked'"))
    assert all(row["comment"] and row["data_type"] for row in columns)
    assert {row["stream"] for row in streams} == set(STREAMS)
    assert {row["account_name"] for row in days} == {"London"}
    assert sorted((row["account_id"], row["booking_id"], row["status"]) for row in then) == [
        ("lon", "gone", "confirmed"),
        ("lon", "unmarked", None),
        ("lon", "was", "confirmed"),
    ]


# --- what every mart promises


def test_one_view_per_file_and_all_described(warehouse: duckdb.DuckDBPyConnection) -> None:
    views = select(warehouse, "select view_name, comment from duckdb_views() where schema_name = 'marts'")
    assert sorted(row["view_name"] for row in views) == sorted(re.sub(r"^\d+_", "", path.stem) for path in MARTS)
    columns = select(
        warehouse, "select table_name, column_name, comment from duckdb_columns() where schema_name = 'marts'"
    )
    assert len(columns) > 100
    assert [row for row in [*views, *columns] if not (row["comment"] or "").endswith(".")] == []


@pytest.mark.parametrize("path", MARTS, ids=lambda path: path.stem)
def test_mart_header_gives_grain_key_units_and_zone(path: Path) -> None:
    header = "\n".join(line for line in path.read_text().split("create or replace view")[0].splitlines())
    assert all(line.startswith("-- ") for line in header.splitlines())
    assert all(word in header for word in ("Grain: ", "Key: ", "Units: ", "Time zone: "))


def test_marts_hold_no_free_text_and_keep_people_in_one_view(warehouse: duckdb.DuckDBPyConnection) -> None:
    columns = select(
        warehouse, "select table_name, column_name, comment from duckdb_columns() where schema_name = 'marts'"
    )
    banned = {"document", "notes", "price_points", "label", "answer_text", "value_raw", "value_text", "record"}
    assert {row["column_name"] for row in columns} & banned == set()
    people = {"first_name", "last_name", "email", "mobile", "phone"}
    assert {(row["table_name"], row["column_name"]) for row in columns if row["column_name"] in people} == {
        ("customers", name) for name in people
    }
    assert all("Personal data." in row["comment"] for row in columns if row["column_name"] in people)


def test_marts_can_be_made_again_over_the_old_ones(warehouse: duckdb.DuckDBPyConnection) -> None:
    for path in MARTS:
        warehouse.execute(path.read_text())
    assert one(warehouse, "bookings", "booking_id = 'dst'")["account_id"] == "nyc"


def test_marts_and_checks_stand_on_an_empty_warehouse() -> None:
    with build() as warehouse:
        for path in MARTS:
            assert select(warehouse, f"select * from marts.{re.sub(r'^[0-9]+_', '', path.stem)}") == []
        assert {name for name in CHECKS if run_check(warehouse, name)} == {"no_accounts"}


def test_no_view_adds_money_over_accounts() -> None:
    # No currency is sent (evidence 5.12), and two accounts may trade in different ones.
    found = 0
    for path in MARTS:
        text = re.sub(r"--.*", "", path.read_text())
        for match in re.finditer(r"sum\((?:price|total_price|paid_online_amount|\w*amount)\b", text):
            found += 1
            following = re.search(r"group by ([^)]*?)(?:\)|;|\bhaving\b|\border\b)", text[match.end() :])
            assert following is not None, path
            selected = text[text.rindex("select", 0, match.start()) : match.start()]
            assert "account_id" in following[1] or ("all" in following[1] and "account_id" in selected), path
    assert found >= 3
