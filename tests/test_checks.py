"""Every check passes on a hand-made warehouse and fails on one bad datum.

Lives here: sql/checks, run for real in DuckDB on rows small enough to count by hand. Not here: how rows get there (the merge), and who runs the checks
(Dagster, publishing).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from tests.hand_made import BRAKE, CHECKS, SQL, STREAMS, WATERMARK, insert, one, run_check

FILES = {path.stem: path for path in sorted((SQL / "checks").glob("*.sql"))}
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
