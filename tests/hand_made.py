"""A warehouse that is made by hand: rows small enough to count, for what is asked of them.

What lives here: the rows and how they get in. What does not: what marts say of them (`test_marts`) and checks (`test_checks`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from resources.database import connect
from resources.sql_files import checks

SQL = Path(__file__).parents[1] / "sql"
MARTS = sorted((SQL / "marts").glob("*.sql"))
CHECKS = {check.name: check for check in checks()}
STREAMS = ("accounts", "customers", "bookings", "events")
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


def select(warehouse: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The rows of a query, by column name."""
    result = warehouse.execute(query)
    names = [str(column[0]) for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def one(warehouse: duckdb.DuckDBPyConnection, mart: str, where: str) -> dict[str, Any]:
    """The one row of a mart that fits."""
    (row,) = select(warehouse, f"select * from marts.{mart} where {where}")
    return row


def run_check(warehouse: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    """The offending rows; wrapped, as whoever counts them does."""
    return select(warehouse, f"select * from (\n{CHECKS[name].sql}\n)")


BRAKE = "insert into ops.brakes values ('{}', 'nyc', 's', 'r', 60, 100, now(), null, {})"
