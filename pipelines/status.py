"""What the warehouse says of itself: how complete each stream of each account is, the last runs, what arrived oddly.

What lives here: reading it, from the working file or, where somebody writes that, from the published one; and saying from which, as of when. What does
not: how it is shown (`status_report`), what completeness means (`sql/marts/90_data_status.sql`, `ops.watermarks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from resources.alive import living_runs
from resources.errors import WarehouseError
from resources.runs import KILLED
from resources.state import State
from resources.warehouse import Warehouse

Row = dict[str, Any]
RUNS_SHOWN = 5
ODDITIES_SHOWN = 10
MOST_OVERLAP_HOURS = 7 * 24
STREAMS = """
    select
        account_id, account_name, stream, complete_until_at, complete_through_on, has_gap, rows_count, tombstones_count, last_run_id,
        last_run_kind, last_run_status, last_run_ended_at, last_sweep_at, is_visible, is_zone_assumed, quarantined_count, unsettled_count,
        held_back_count
    from marts.data_status
    order by account_name nulls last, account_id, list_position(['accounts', 'customers', 'bookings', 'events'], stream)
"""
RUNS = "select * from ops.runs order by number desc limit $most"
DRIFT = """
    select stream, kind, path, detail, seen_count, last_seen_at from ops.drift
    order by seen_count desc, stream, kind, path, detail limit $most
"""
QUARANTINE = """
    select stream, reason, count(*) as records_count from ops.quarantine
    group by all order by records_count desc, stream, reason limit $most
"""
LATE_ARRIVALS = """
    with recent as (select * from ops.slices where fetched_at > (select newest_at from ops.newest_reading) - interval 90 days)
    select
        (select overlap_minutes from ops.runs where overlap_minutes is not null order by number desc limit 1)
            as configured_minutes,
        max(late.longest_s) / 60 as longest_minutes,
        cast(coalesce(sum(late.rows_count), 0) as bigint) as late_count,
        (select count(distinct run_id) from recent where kind = 'nightly') as nights_count
    from ops.late_arrivals as late
    semi join recent using (slice_id, part_number)
"""


@dataclass(frozen=True)
class Source:
    """The file that was read. `as_of`: now for the working file, the moment of publishing for the published one."""

    path: Path
    is_published_file: bool
    as_of: datetime | None


@dataclass(frozen=True)
class Overlap:
    """How late changes arrived against their own change time in the last 90 days, and the overlap that would do. Minutes; None: nothing to tell."""

    configured_minutes: int | None
    longest_minutes: float | None
    late_count: int
    nights_count: int

    @property
    def proposed_minutes(self) -> int | None:
        """Half as much again as was seen, in whole hours; None without evidence, and above a week, where sweeps are the cure."""
        if self.longest_minutes is None:
            return None
        hours = math.ceil(self.longest_minutes * 1.5 / 60)
        return hours * 60 if hours <= MOST_OVERLAP_HOURS else None


@dataclass(frozen=True)
class Status:
    """Rows of `marts.data_status` with `age_hours`, the newest runs, drift and quarantine by number; `problems` are the newest run's.

    A run that no process does any more is red here, as the next run will write it down.

    `brakes`: rows of `ops.brakes` that stand.
    """

    source: Source
    streams: list[Row]
    runs: list[Row]
    drift: list[Row]
    drift_count: int
    quarantine: list[Row]
    brakes: list[Row]
    overlap: Overlap

    @property
    def problems(self) -> list[str]:
        """Sentences that made the newest run red."""
        return list(self.runs[0]["problems"]) if self.runs else []


@contextmanager
def reading(warehouse: Warehouse) -> Iterator[tuple[duckdb.DuckDBPyConnection, Source]]:
    """A connection that reads, and what it reads; waits a few seconds for a writer, then takes the published file."""
    with warehouse.reader() as (connection, path):
        try:
            if path == warehouse.path:
                yield connection, Source(path, is_published_file=False, as_of=datetime.now(UTC))
            else:
                row = connection.execute("select max(published_at) from ops.publications").fetchone()
                yield connection, Source(path, is_published_file=True, as_of=row[0] if row else None)
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise WarehouseError(
                f"{path} is not a warehouse of this version ({str(error).splitlines()[0]}). The next sync brings it up to date: "
                f"appointedd-warehouse sync"
            ) from None


def read_status(warehouse: Warehouse, now: datetime) -> Status:
    """The status; raises `WarehouseError` where there is no warehouse yet. Ages are measured against `now`, in hours."""
    with reading(warehouse) as (connection, source):
        streams = _rows(connection, STREAMS)
        for row in streams:
            until = row["complete_until_at"]
            row["age_hours"] = None if until is None else round((now - until) / timedelta(hours=1), 1)
        runs = _rows(connection, RUNS, most=RUNS_SHOWN)
        if not source.is_published_file:  # under the lease, so no process begins or ends a run at this moment
            living = living_runs(warehouse.path)
            for run in runs:
                if run["status"] == "running" and run["run_id"] not in living:
                    run |= {"status": "red", "problems": [*run["problems"], KILLED]}
        drift = _rows(connection, DRIFT, most=ODDITIES_SHOWN)
        (drift_count,) = connection.execute("select count(*) from ops.drift").fetchone() or (0,)
        quarantine = _rows(connection, QUARANTINE, most=ODDITIES_SHOWN)
        brakes = [vars(brake) for brake in State(connection).standing_brakes()]
        (late,) = _rows(connection, LATE_ARRIVALS)
    return Status(source, streams, runs, drift, drift_count, quarantine, brakes, Overlap(**late))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, **values: object) -> list[Row]:
    cursor = connection.execute(sql, values or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
