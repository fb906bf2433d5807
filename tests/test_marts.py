"""The marts say what a hand-made warehouse holds, and every check passes on it and fails on one bad datum.

Lives here: sql/marts and sql/checks, run for real in DuckDB on rows small enough to count by hand. Not here: how rows get there (the merge), and who
runs the checks (Dagster, publishing).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from resources.database import connect
from resources.sql_files import checks

SQL = Path(__file__).parents[1] / "sql"
MARTS = sorted((SQL / "marts").glob("*.sql"))
FILES = {path.stem: path for path in sorted((SQL / "checks").glob("*.sql"))}
CHECKS = {check.name: check for check in checks()}
STREAMS = ("accounts", "customers", "bookings", "events")
BLOCKING = {
    *(f"unique_{stream}" for stream in STREAMS),
    "unique_booking_children",
    "unique_customer_children",
    *(f"rows_match_ledger_{stream}" for stream in STREAMS),
    *(f"confirmed_differences_{stream}" for stream in STREAMS),
    "no_accounts",
    "orphan_booking_children",
    "orphan_customer_children",
}

FETCHED = "2024-11-01 00:00:00+00"
WATERMARK = "2024-11-01 03:30:00+00"  # still 31 October in New York, already 1 November in London

# '-' is null. In London: 'midnight' is half past midnight on 2 July (1 July in UTC), made on 1 July (30 June in UTC); the two 'dst' are the hour that
# repeats when summer time ends, and the second is empty and lacks what can be lacking. In New York the same id is another booking, at ten in the evening
# of 1 July (2 July in UTC), and 'dst' is half an hour after the clocks went forward.
BOOKINGS = """
  account_id | booking_id | start_at             | end_at               | created_at           | status    | price | created_source     | event_id | deleted_at
  lon        | midnight   | 2024-07-01 23:30:00Z | 2024-07-02 00:15:00Z | 2024-06-30 23:15:30Z | confirmed | 12.10 | appointment_screen | e1       | -
  lon        | unmarked   | 2024-07-02 09:00:00Z | 2024-07-02 09:30:00Z | 2024-07-01 08:00:00Z | confirmed | 0.20  | api                | e1       | -
  lon        | cancelled  | 2024-07-02 10:00:00Z | 2024-07-02 11:00:00Z | 2024-06-30 23:30:00Z | cancelled | 20    | api                | e1       | -
  lon        | dst-first  | 2024-10-27 00:30:00Z | 2024-10-27 01:00:00Z | 2024-10-27 00:45:00Z | confirmed | 12.10 | api                | -        | -
  lon        | dst-second | 2024-10-27 01:30:00Z | 2024-10-27 02:30:00Z | -                    | confirmed | -     | -                  | -        | -
  lon        | future     | 2030-01-01 12:00:00Z | 2030-01-01 13:00:00Z | 2024-06-30 12:00:00Z | confirmed | 5     | api                | -        | -
  lon        | gone       | 2024-07-02 10:00:00Z | 2024-07-02 11:00:00Z | 2024-07-01 10:00:00Z | confirmed | 1000  | api                | e1       | 2024-11-01
  nyc        | midnight   | 2024-07-02 02:00:00Z | 2024-07-02 03:30:00Z | 2024-07-01 12:00:00Z | confirmed | 12.10 | appointment_screen | -        | -
  nyc        | dst        | 2024-03-10 07:30:00Z | 2024-03-10 08:00:00Z | 2024-03-10 05:30:00Z | confirmed | 0.05  | api                | -        | -
"""
PARTICIPANTS = """
  account_id | booking_id | customer_booking_id | customer_id | status    | spaces_count | total_price | paid_online_amount | deleted_at
  lon        | midnight   | p1                  | c1          | arrived   | 2            | 12.10       | 5.05               | -
  lon        | midnight   | p2                  | c2          | no_show   | 1            | 7.05        | -                  | -
  lon        | midnight   | p3                  | c2          | cancelled | 4            | 99          | 1.00               | -
  lon        | midnight   | p4                  | c1          | arrived   | 8            | 500         | 500                | 2024-11-01
  lon        | unmarked   | p5                  | c1          | none      | 1            | 0.20        | -                  | -
  lon        | cancelled  | p6                  | c1          | none      | 1            | 20          | -                  | -
  lon        | dst-first  | p7                  | c2          | complete  | 1            | -           | -                  | -
  lon        | future     | p8                  | erased      | none      | 1            | 5           | -                  | -
  lon        | gone       | p9                  | c1          | arrived   | 1            | 1000        | 1000               | -
  nyc        | midnight   | p1                  | c1          | none      | 3            | 12.10       | -                  | -
"""
RESOURCES = [("midnight", "r1", None), ("midnight", "r2", None), ("midnight", "r3", FETCHED), ("cancelled", "r1", None)]


def rows_of(table: str) -> list[dict[str, str | None]]:
    """The rows of a table drawn with | between its cells."""
    names, *rows = ([cell.strip() for cell in line.split("|")] for line in table.strip().splitlines())
    return [{name: None if cell == "-" else cell for name, cell in zip(names, row, strict=True)} for row in rows]


def build() -> duckdb.DuckDBPyConnection:
    """An empty warehouse with its marts; its session's time zone is one that no account uses, and must not matter."""
    warehouse = connect(Path(":memory:"), read_only=False)
    warehouse.execute("set TimeZone = 'Asia/Tokyo'")
    for path in [*sorted((SQL / "schema").glob("*.sql")), *MARTS]:
        warehouse.execute(path.read_text())
    return warehouse


def insert(warehouse: duckdb.DuckDBPyConnection, table: str, **values: object) -> None:
    """Insert one row; what a stream table must have and no test is about is filled in."""
    if table.removeprefix("core.") in STREAMS:
        values = {"content_hash": "h", "fetched_at": FETCHED, "slice_id": "s"} | values
    if table == "ops.runs":
        (count,) = warehouse.execute("select count(*) from ops.runs").fetchone() or (0,)
        values = {"number": count + 1} | values
    if table == "ops.slices":
        counts = [
            "pages",
            "read",
            "inserted",
            "updated",
            "unchanged",
            "stale",
            "duplicate",
            "quarantined",
            "tombstoned",
            "silent",
        ]
        values = (
            {f"{name}_count": 0 for name in counts}
            | {"part_number": 1, "is_last_part": True, "api_client": "main"}
            | values
        )
        values = {"until": WATERMARK, "fetched_at": WATERMARK, "kind": "nightly", "committed_at": WATERMARK} | values
    columns = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    warehouse.execute(f"insert into {table} ({columns}) values ({marks})", list(values.values()))


def fill(warehouse: duckdb.DuckDBPyConnection) -> None:
    """Put the good data in: two live accounts in two zones, a deleted one, and the books that belong to them."""
    insert(warehouse, "core.accounts", account_id="lon", name="London", slug="london")
    insert(warehouse, "core.accounts", account_id="nyc", name="New York", slug="new-york")
    insert(warehouse, "core.accounts", account_id="old", name="Old", deleted_at=FETCHED)
    for account_id, zone in (("lon", "Europe/London"), ("nyc", "America/New_York")):
        row = {"account_id": account_id, "time_zone": zone, "reporting_time_zone": zone}
        insert(warehouse, "ops.account_time_zones", **row, source="setting", is_zone_assumed=False)
    for account_id, customer_id, first_name, deleted_at in (
        ("lon", "c1", "Ada", None),
        ("lon", "c2", "Bo", None),
        ("lon", "erased", None, FETCHED),
        ("nyc", "c1", "Cy", None),
        ("nyc", "quiet", "Di", None),
    ):
        insert(
            warehouse,
            "core.customers",
            account_id=account_id,
            customer_id=customer_id,
            first_name=first_name,
            deleted_at=deleted_at,
        )
    for tag, deleted_at in (("vip", None), ("early", None), ("former", FETCHED)):
        insert(warehouse, "core.customer_tags", account_id="lon", customer_id="c1", tag=tag, deleted_at=deleted_at)
    insert(warehouse, "core.customer_custom_fields", account_id="lon", customer_id="c1", field_id="date_of_birth")
    for booking in rows_of(BOOKINGS):
        insert(warehouse, "core.bookings", **booking)
    for participant in rows_of(PARTICIPANTS):
        insert(warehouse, "core.booking_customers", **participant)
    for booking_id, resource_id, deleted_at in RESOURCES:
        insert(
            warehouse,
            "core.booking_resources",
            account_id="lon",
            booking_id=booking_id,
            resource_id=resource_id,
            deleted_at=deleted_at,
        )
    insert(
        warehouse,
        "core.booking_answers",
        account_id="lon",
        booking_id="midnight",
        customer_booking_id="p1",
        question_id="q1",
    )
    start, end = "2024-07-01 23:30:00+00", "2024-07-02 00:15:00+00"
    event = {"account_id": "lon", "title": "Styling", "start_at": start, "end_at": end, "status": "confirmed"}
    insert(warehouse, "core.events", **event, event_id="e1", capacity_count=12, spaces_taken_count=3)
    insert(warehouse, "core.events", **event, event_id="e2", capacity_count=0, spaces_taken_count=3)
    insert(warehouse, "core.events", **event, event_id="e3", deleted_at=FETCHED, spaces_taken_count=3)

    times = {"started_at": "2024-11-01 04:00:00+00", "ended_at": "2024-11-01 04:10:00+00"}
    run = {"run_id": "run-1", "kind": "nightly", "started_by": "cli", "product_version": "0"}
    insert(warehouse, "ops.runs", **run, **times, status="green", problems=[], warnings=[])
    for stream, inserted_count in (("accounts", 3), ("customers", 5), ("bookings", 9), ("events", 3)):
        book = {"slice_id": f"s-{stream}", "run_id": "run-1", "stream": stream}
        # In two parts: the ledger is a sum, and a part before the last has rows but no window.
        for part_number, count in ((1, inserted_count - 1), (2, 1)):
            part = {"part_number": part_number, "is_last_part": part_number == 2, "inserted_count": count}
            insert(warehouse, "ops.slices", **book, **part, account_ids=["lon", "nyc"])
        for account_id in ("lon", "nyc"):
            insert(
                warehouse,
                "ops.windows",
                **book,
                account_id=account_id,
                until=WATERMARK,
                kind="sweep" if stream == "bookings" else "nightly",
            )
        walk = {"slice_id": book["slice_id"], "run_id": "run-1", "stream": stream, "api_client": "main"}
        insert(
            warehouse, "ops.reconciliations", **walk, last_total=1, distinct_count=1, walks_count=1, verdict="settled"
        )


@pytest.fixture(scope="module")
def filled() -> Iterator[duckdb.DuckDBPyConnection]:
    """One good warehouse for the whole module."""
    with build() as warehouse:
        fill(warehouse)
        yield warehouse


@pytest.fixture
def warehouse(filled: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The good warehouse, to spoil at will: what a test writes is rolled back."""
    filled.begin()
    yield filled
    filled.rollback()


def select(warehouse: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The rows of a query, by column name."""
    result = warehouse.execute(query)
    names = [str(column[0]) for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def one(warehouse: duckdb.DuckDBPyConnection, mart: str, where: str) -> dict[str, Any]:
    """The one row of a mart that fits."""
    (row,) = select(warehouse, f"select * from marts.{mart} where {where}")
    return row


def holds(row: dict[str, Any], **expected: object) -> None:
    """Compare the named columns, all at once, types too: 12.1 is not Decimal('12.1')."""
    found = {name: row[name] for name in expected}
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }


def run_check(warehouse: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    """The offending rows; wrapped, as whoever counts them does."""
    return select(warehouse, f"select * from (\n{CHECKS[name].sql}\n)")


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
            count(*) filter (where start_local_at is distinct from timezone(reporting_time_zone, start_at)) as wrong_start_count,
            count(*) filter (where created_on is distinct from cast(timezone(reporting_time_zone, created_at) as date)) as wrong_day_count
        from marts.bookings
        where account_id like 'z%'
    """
    (counts,) = select(warehouse, query)
    assert counts["bookings_count"] > 60_000
    assert (counts["wrong_start_count"], counts["wrong_day_count"]) == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        "delete from ops.account_time_zones where account_id = 'lon'",
        "update ops.account_time_zones set reporting_time_zone = 'GMT Standard Time' where account_id = 'lon'",
        "update core.bookings set account_id = 'stranger' where account_id = 'lon'; update core.events set account_id = 'stranger'",
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
    )
    row = one(
        warehouse, "daily_bookings", "account_id <> 'nyc' and date_basis = 'occurring_on' and day_on = '2024-07-01'"
    )
    holds(row, bookings_count=1, is_zone_assumed=True)


def test_unknown_status_is_not_cancelled(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("update core.bookings set status = null where booking_id = 'cancelled'")
    holds(one(warehouse, "bookings", "booking_id = 'cancelled'"), status=None, is_cancelled=False)


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


# --- checks

DOUBLE = "insert into core.{0} select * from core.{0} limit 1"
LATER_WALK = "insert into ops.reconciliations values ('s-later', 'run-1', '{}', '{}', 5, 5, 4, 2, '{}', null)"
NEWER_LIST = """
insert into ops.slices select * replace ('s-newer' as slice_id, ['lon'] as account_ids, until + interval 1 day as until)
from ops.slices where stream = 'accounts' and is_last_part
"""
BAD = {
    "no_accounts": ["delete from core.accounts"],
    **{f"unique_{stream}": [DOUBLE.format(stream)] for stream in STREAMS},
    "unique_booking_children": [
        DOUBLE.format(table) for table in ("booking_customers", "booking_resources", "booking_answers")
    ],
    "unique_customer_children": [DOUBLE.format(table) for table in ("customer_custom_fields", "customer_tags")],
    **{
        f"rows_match_ledger_{stream}": [
            f"update ops.slices set inserted_count = inserted_count + 1 where stream = '{stream}'",
            DOUBLE.format(stream),
            f"delete from ops.slices where stream = '{stream}'",
        ]
        for stream in STREAMS
    },
    **{
        f"confirmed_differences_{stream}": [
            LATER_WALK.format(stream, "main", "different"),
            LATER_WALK.format(stream, "second", "different"),
        ]
        for stream in STREAMS
    },
    **{f"unsettled_reconciliations_{stream}": [LATER_WALK.format(stream, "main", "unsettled")] for stream in STREAMS},
    "orphan_bookings": ["delete from core.accounts where account_id = 'nyc'"],
    "orphan_participations": ["delete from core.customers where account_id = 'nyc' and customer_id = 'c1'"],
    "impossible_times_bookings": [
        "update core.bookings set end_at = start_at - interval 1 second where booking_id = 'dst'"
    ],
    "impossible_times_events": ["update core.events set end_at = start_at - interval 1 second where event_id = 'e1'"],
    "unknown_statuses_bookings": [
        "update core.bookings set status = 'Pending' where booking_id = 'dst'",
        "update core.bookings set status = null where booking_id = 'dst'",
    ],
    "unknown_statuses_participations": [
        "update core.booking_customers set status = 'Left early' where booking_id = 'unmarked'",
        "update core.booking_customers set status = null where booking_id = 'unmarked'",
    ],
    "unknown_statuses_events": ["update core.events set status = 'draft' where event_id = 'e1'"],
    "zone_assumed": [
        "update ops.account_time_zones set is_zone_assumed = true where account_id = 'nyc'",
        "delete from ops.account_time_zones where account_id = 'nyc'",
        "update ops.account_time_zones set reporting_time_zone = 'GMT Standard Time' where account_id = 'nyc'",
    ],
    "frozen_accounts": [
        "update ops.slices set account_ids = ['lon'] where stream = 'accounts'",
        NEWER_LIST,
    ],
    "no_cancelled_bookings": [
        """
            insert into core.bookings by name
            select 'nyc' as account_id, 'b' || i as booking_id, 'confirmed' as status, 'h' as content_hash, now() as fetched_at, 's' as slice_id
            from range(498) as numbers (i)  -- besides two that are there
        """
    ],
    **{
        f"watermark_gaps_{stream}": [
            f"delete from ops.windows where stream = '{stream}' and account_id = 'nyc'",
            f"update ops.windows set since = '2024-01-01 00:00:00+00' where stream = '{stream}' and account_id = 'nyc'",
            f"insert into ops.windows values ('{stream}', 'nyc', '2024-12-01 00:00:00+00', '2024-12-02 00:00:00+00', 'nightly', 's', 'r')",
        ]
        for stream in ("customers", "bookings", "events")
    },
}
UNLISTED = "update ops.slices set account_ids = ['lon'] where stream = 'accounts'"
BRAKE = "insert into ops.brakes values ('{}', 'nyc', 's', 'r', 60, 100, now(), null, {})"
LATE = (
    "update ops.runs set overlap_minutes = 60; update ops.slices set fetched_at = '2024-11-01 04:00:00+00';"
    "insert into ops.late_arrivals values ('s-{0}', 2, '{0}', 'nyc', 3, {1})"
)
AGED = (
    "update ops.runs set freshness_hours = {1}; update ops.windows set until = now();"
    "update ops.windows set until = now() - interval 50 hours where stream = '{0}' and account_id = 'nyc'"
)
# A run before the one that is there, with something of its own.
OLDER_RUN = "insert into ops.runs select * replace ('run-0' as run_id, 0 as number, {}) from ops.runs"
for changing in ("customers", "bookings", "events"):
    BAD[f"standing_brakes_{changing}"] = [BRAKE.format(changing, "null")]
    BAD[f"late_arrivals_{changing}"] = [LATE.format(changing, 3601)]
    BAD[f"stale_watermarks_{changing}"] = [
        AGED.format(changing, 49),
        AGED.format(changing, 49) + "; " + OLDER_RUN.format("52 as freshness_hours"),
        # Behind the newest account list, not behind an earlier one.
        AGED.format(changing, 49)
        + "; insert into ops.windows select * replace (timestamptz '2024-01-01 00:00:00+00' as until) from ops.windows where stream = 'accounts'",
    ]
    BAD[f"late_arrivals_{changing}"].append(
        LATE.format(changing, 3601) + "; " + OLDER_RUN.format("61 as overlap_minutes")
    )
BAD["orphan_booking_children"] = [
    f"update core.{child} set booking_id = 'nowhere' where account_id = 'lon'"
    for child in ("booking_customers", "booking_resources", "booking_answers")
]
BAD["orphan_customer_children"] = [
    f"update core.{child} set customer_id = 'nowhere'" for child in ("customer_custom_fields", "customer_tags")
]
DRIFT = (
    "update ops.slices set fetched_at = '2024-11-01 03:00:00+00', committed_at = '2024-11-01 04:00:00+00';"
    "insert into ops.drift values ('{0}', '{1}', 'x', 'odd', '{2} 03:30:00+00', '2024-11-01 {3}:30:00+00', 1, 'r')"
)
MANY = (
    "delete from core.{0}; insert into core.{0} by name select 'nyc' as account_id, 'm' || i as {1}, {2}, now() as updated_at, 'h' as content_hash, "
    "now() as fetched_at, 's' as slice_id from range(20) as numbers (i); update core.{0} set {3}"
)
BAD["empty_columns_bookings"] = [
    MANY.format("bookings", "booking_id", "'confirmed' as status, now() as end_at", "start_at = null")
]
BAD["empty_columns_customers"] = [MANY.format("customers", "customer_id", "'x' as last_name", "email = null")]
BAD["empty_columns_events"] = [MANY.format("events", "event_id", "'x' as title", "start_at = null")]
for every in STREAMS:
    BAD[f"contract_drift_{every}"] = [
        DRIFT.format(every, "bad_value", "2024-01-01", "03"),
        # A member that was not there on the first day, and for less than a week.
        DRIFT.format(every, "unknown_member", "2024-10-30", "03")
        + "; update ops.slices set fetched_at = '2024-10-01 00:00:00+00' where part_number = 1",
        # One that came more than a day after the first load, less than a week ago.
        DRIFT.format(every, "unknown_member", "2024-10-25", "03")
        + "; update ops.slices set fetched_at = '2024-10-24 00:00:00+00' where part_number = 1",
    ]
SHAPES = "insert into ops.shapes values ('{0}', 'one', now()), ('{1}', 'other', now())"
for every in STREAMS:
    BAD[f"several_contracts_{every}"] = [
        SHAPES.format(every, every),
        f"insert into ops.shapes values ('{every}', 'unknown', now())",
    ]
# As the newest run says; an earlier one read all of them.
OFF = "; update ops.runs set streams = ['bookings'];" + OLDER_RUN.format(
    "['accounts', 'customers', 'bookings', 'events'] as streams"
)
# Looks like the bad datum, and is none.
INNOCENT = [
    ("several_contracts_bookings", SHAPES.format("bookings", "events")),
    ("several_contracts_bookings", SHAPES.format("events", "events")),
    ("empty_columns_bookings", "update core.bookings set start_at = null"),
    (
        "empty_columns_bookings",
        MANY.format("bookings", "booking_id", "'confirmed' as status, now() as end_at", "start_at = now()"),
    ),
    ("empty_columns_customers", MANY.format("customers", "customer_id", "'x' as last_name", "email = 'x'")),
    ("empty_columns_events", MANY.format("events", "event_id", "'x' as title", "start_at = now()")),
    *(
        (
            f"empty_columns_{stream}",
            MANY.format(stream, key, f"'x' as {column}", f"{empty} = null") + spared.format(stream, key),
        )
        for stream, key, column, empty in (
            ("bookings", "booking_id", "status", "start_at"),
            ("customers", "customer_id", "last_name", "email"),
            ("events", "event_id", "title", "start_at"),
        )
        for spared in (
            "; delete from core.{0} where {1} = 'm0'",
            "; update core.{0} set deleted_at = now() where {1} = 'm0'",
        )
    ),
    ("standing_brakes_bookings", BRAKE.format("bookings", "null") + "; update ops.brakes set released_at = now()"),
    (
        "standing_brakes_bookings",
        BRAKE.format("bookings", "null") + "; " + UNLISTED,
    ),
    ("stale_watermarks_events", AGED.format("events", 49) + OFF),
    ("stale_watermarks_bookings", AGED.format("events", 49)),
    (
        "stale_watermarks_events",
        "update ops.runs set freshness_hours = 49; update ops.windows set until = until + interval 60 hours where stream = 'bookings'",
    ),
    ("watermark_gaps_events", "delete from ops.windows where stream = 'events'" + OFF),
    ("contract_drift_bookings", DRIFT.format("bookings", "bad_value", "2024-01-01", "02")),
    ("contract_drift_events", DRIFT.format("events", "bad_value", "2024-01-01", "03") + OFF),
    ("standing_brakes_events", BRAKE.format("events", "null") + OFF),
    ("several_contracts_events", SHAPES.format("events", "events") + OFF),
    ("contract_drift_bookings", DRIFT.format("bookings", "unknown_member", "2024-11-01", "03")),
    ("contract_drift_bookings", DRIFT.format("events", "bad_value", "2024-01-01", "03")),
    # Within a day of the first load, and more than a week ago.
    (
        "contract_drift_bookings",
        DRIFT.format("bookings", "unknown_member", "2024-11-01", "03")
        + "; update ops.slices set fetched_at = '2024-10-31 04:00:00+00' where part_number = 1",
    ),
    (
        "contract_drift_bookings",
        DRIFT.format("bookings", "unknown_member", "2024-10-24", "03")
        + "; update ops.slices set fetched_at = '2024-10-01 00:00:00+00' where part_number = 1",
    ),
    # Seen in a run before the newest, and no more.
    (
        "contract_drift_bookings",
        DRIFT.format("bookings", "bad_value", "2024-01-01", "03")
        + "; update ops.slices set run_id = 'run-0', fetched_at = '2024-11-01 03:00:00+00'"
        " where part_number = 1; update ops.slices set fetched_at = '2024-11-01 03:45:00+00' where part_number = 2; "
        + OLDER_RUN.format("[] as problems"),
    ),
    (
        "contract_drift_bookings",
        DRIFT.format("bookings", "bad_value", "2024-01-01", "02")
        + "; update ops.slices set fetched_at = '2024-11-01 02:00:00+00' where stream = 'events'",
    ),
    ("standing_brakes_bookings", BRAKE.format("bookings", "'s-later'")),
    ("standing_brakes_bookings", BRAKE.format("events", "null")),
    ("late_arrivals_events", LATE.format("events", 3600)),
    ("late_arrivals_bookings", LATE.format("events", 3601)),
    (
        "late_arrivals_events",
        LATE.format("events", 9999)
        + "; update ops.slices set fetched_at = '2024-01-01 00:00:00+00' where stream = 'events'",
    ),
    ("stale_watermarks_events", AGED.format("events", 51)),
    ("orphan_booking_children", "update core.bookings set deleted_at = now()"),
    (
        "confirmed_differences_bookings",
        "update ops.reconciliations set verdict = 'different'; " + LATER_WALK.format("bookings", "main", "settled"),
    ),
    ("confirmed_differences_bookings", LATER_WALK.format("events", "main", "different")),
    ("unsettled_reconciliations_events", LATER_WALK.format("events", "main", "different")),
    ("unsettled_reconciliations_events", LATER_WALK.format("bookings", "main", "unsettled")),
    ("rows_match_ledger_bookings", "update core.bookings set deleted_at = now()"),
    (
        "unique_bookings",
        "update core.bookings set booking_id = 'dst-first' where account_id = 'nyc' and booking_id = 'dst'",
    ),
    ("orphan_bookings", "update core.accounts set deleted_at = now()"),
    ("orphan_bookings", "delete from core.accounts; update core.bookings set deleted_at = now()"),
    ("orphan_participations", "update core.booking_customers set customer_id = null"),
    ("orphan_participations", "update core.customers set deleted_at = now()"),
    ("orphan_participations", "delete from core.customers; update core.bookings set deleted_at = now()"),
    ("orphan_participations", "delete from core.customers; update core.booking_customers set deleted_at = now()"),
    (
        "orphan_participations",
        "delete from core.customers; update core.booking_customers set customer_id = null where booking_id <> 'gone'",
    ),
    (
        "impossible_times_bookings",
        "update core.bookings set end_at = start_at; update core.bookings set end_at = null where booking_id = 'dst'",
    ),
    (
        "impossible_times_bookings",
        "update core.bookings set end_at = start_at - interval 1 day where deleted_at is not null",
    ),
    ("impossible_times_events", "update core.events set end_at = start_at"),
    (
        "impossible_times_events",
        "update core.events set end_at = start_at - interval 1 day where deleted_at is not null",
    ),
    ("unknown_statuses_bookings", "update core.bookings set status = 'Pending' where deleted_at is not null"),
    (
        "unknown_statuses_participations",
        "update core.booking_customers set status = 'Pending' where booking_id = 'gone' or deleted_at is not null",
    ),
    ("unknown_statuses_events", "update core.events set status = null"),
    ("unknown_statuses_events", "update core.events set status = 'draft' where deleted_at is not null"),
    ("frozen_accounts", "delete from ops.windows; delete from ops.slices"),
    ("no_cancelled_bookings", "delete from core.bookings where status = 'cancelled'"),
    *(
        ("no_cancelled_bookings", BAD["no_cancelled_bookings"][0] + "; " + spared)
        for spared in (
            "delete from core.bookings where booking_id = 'b0'",
            "update core.bookings set status = 'cancelled' where booking_id = 'b0'",
            "update core.bookings set deleted_at = now() where booking_id = 'b0'",
        )
    ),
    ("watermark_gaps_bookings", "delete from ops.windows where account_id = 'nyc'; " + UNLISTED),
]


def test_every_check_has_a_bad_datum() -> None:
    assert set(BAD) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes_on_good_data(warehouse: duckdb.DuckDBPyConnection, name: str) -> None:
    assert run_check(warehouse, name) == []


@pytest.mark.parametrize(("name", "spoil"), [(name, spoil) for name, spoils in BAD.items() for spoil in spoils])
def test_check_finds_the_bad_datum(warehouse: duckdb.DuckDBPyConnection, name: str, spoil: str) -> None:
    warehouse.execute(spoil)
    assert len(run_check(warehouse, name)) == 1


@pytest.mark.parametrize(("name", "change"), INNOCENT)
def test_check_is_not_fooled(warehouse: duckdb.DuckDBPyConnection, name: str, change: str) -> None:
    warehouse.execute(change)
    assert run_check(warehouse, name) == []


def test_the_later_reconciliation_counts_whatever_order_the_rows_have(warehouse: duckdb.DuckDBPyConnection) -> None:
    insert(
        warehouse,
        "ops.slices",
        slice_id="early",
        run_id="run-0",
        stream="events",
        account_ids=[],
        committed_at="2024-10-01 00:00:00+00",
    )
    # By the order in which runs began: this one stands behind the other in the table, and was dated by a clock that was ahead.
    run = {"run_id": "run-0", "kind": "nightly", "started_by": "cli", "product_version": "0"}
    dated = {"started_at": "2031-11-01 04:00:00+00", "status": "red", "problems": ["old"], "warnings": []}
    insert(warehouse, "ops.runs", **run, **dated, number=0)
    row = {"slice_id": "early", "run_id": "run-0", "stream": "events", "api_client": "main"}
    insert(warehouse, "ops.reconciliations", **row, distinct_count=1, walks_count=2, verdict="different")
    assert run_check(warehouse, "confirmed_differences_events") == []
    assert one(warehouse, "data_status", "stream = 'events' and account_id = 'lon'")["problems"] == []


def test_ledger_check_names_both_numbers(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute("delete from core.customers where customer_id = 'quiet'")
    assert run_check(warehouse, "rows_match_ledger_customers") == [
        {"stream": "customers", "stored_count": 4, "ledger_count": 5}
    ]


def test_checks_name_the_account_and_tell_how_much(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute(
        LATE.format("events", 3601) + "; " + LATE.format("events", 7200) + "; " + AGED.format("events", 49)
    )
    (late,) = run_check(warehouse, "late_arrivals_events")
    assert late == {"account_id": "nyc", "rows_count": 6, "longest_minutes": 120.0, "overlap_minutes": 60}
    (stale,) = run_check(warehouse, "stale_watermarks_events")
    assert (stale["account_id"], stale["account_name"], stale["age_hours"]) == ("nyc", "New York", 50.0)
    warehouse.execute(
        NEWER_LIST + "; update ops.windows set until = '2024-11-01 03:30:00+00' where stream = 'accounts';"
        "insert into ops.windows select * replace (until - interval 1 day as until) from ops.windows where stream = 'accounts'"
    )
    expected = {"account_id": "nyc", "account_name": "New York", "last_listed_at": datetime.fromisoformat(WATERMARK)}
    assert run_check(warehouse, "frozen_accounts") == [expected]


def test_child_check_names_table_and_key(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute(
        "insert into core.booking_resources select * from core.booking_resources where resource_id = 'r2'"
    )
    expected = {"table_name": "core.booking_resources", "key": "lon / midnight / r2", "rows_count": 2}
    assert run_check(warehouse, "unique_booking_children") == [expected]


@pytest.mark.parametrize(
    ("stream", "key"), [("bookings", "booking_id"), ("customers", "customer_id"), ("events", "event_id")]
)
def test_a_row_without_a_key_is_told(warehouse: duckdb.DuckDBPyConnection, stream: str, key: str) -> None:
    columns = [row[0] for row in warehouse.execute(f"describe core.{stream}").fetchall()]
    warehouse.execute(f"create or replace table core.{stream} as from core.{stream}")  # without its constraints
    warehouse.execute(
        f"insert into core.{stream} select {', '.join('null' if c == key else c for c in columns)} from core.{stream} limit 1"
    )
    (found,) = run_check(warehouse, f"unique_{stream}")
    assert (found[key], found["rows_count"]) == (None, 1)


@pytest.mark.parametrize(("name", "path"), FILES.items(), ids=list(FILES))
def test_check_file_has_a_header_and_one_select(name: str, path: Path) -> None:
    text = path.read_text()
    header = re.match(r"-- severity: (block|warn)\n-- stream: (\w+(?:, \w+)*)\n-- says: (\S.*\.)\n(?!--)", text)
    assert header is not None
    streams = header[2].split(", ")
    assert set(streams) <= {*STREAMS, "generic"}
    assert ("{stream}" in text) == (len(streams) > 1 or streams == ["generic"])
    (statement,) = duckdb.extract_statements(text.replace("{stream}", streams[0]))
    assert statement.type == duckdb.StatementType.SELECT
    assert ";" not in text.removeprefix(header[0])


def test_blocking_checks_are_those_that_would_make_the_file_wrong() -> None:
    assert {name for name, check in CHECKS.items() if check.is_blocking} == BLOCKING
    for name, check in CHECKS.items():
        assert next((other for other in STREAMS if name.endswith(other)), check.stream) == check.stream


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
