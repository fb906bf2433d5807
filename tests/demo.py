"""`make demo`: two nights of a made-up business, through Dagster, from an empty folder to answers.

What lives here: the story and how it is told. What does not: the sync, which is the product's own, and the world, which is the emulator's.
It starts from nothing each time in `data/demo/`, reads no `.env`, and needs no network but the loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from pipelines.streams import BOOKINGS, CUSTOMERS, EVENTS
from resources.database import connect
from resources.settings import PREFIXES, PROJECT_FOLDER
from tests.emulator import Emulator, World
from tests.equality import differences

FOLDER = PROJECT_FOLDER / "data" / "demo"
HISTORY_DAYS = 60
SHOWN = {"booking_customers": "participations"}

# A row that the second night wrote is new where no older version went to history, else changed.
CHANGES = """
with second as (select slice_id from ops.slices where kind = 'sweep' and run_id = (select last(run_id order by started_at) from ops.runs)),
replaced as (select stream, account_id, record_id from history.records where superseded_by_slice_id in (from second))
select account.name, rows.stream, rows.live, rows.added, rows.changed, rows.deleted
from ({streams}) as rows join core.accounts as account using (account_id)
order by account.created_at nulls first, account.name, rows.stream
"""
CHANGES_OF_ONE = """
select
    stored.account_id, '{stream}' as stream,
    count(*) filter (where deleted_at is null) as live,
    count(*) filter (where deleted_at is null and slice_id in (from second) and record_id is null) as added,
    count(*) filter (where deleted_at is null and slice_id in (from second) and record_id is not null) as changed,
    count(*) filter (where deleted_at is not null) as deleted
from core.{stream} as stored
left join (select distinct account_id, record_id from replaced where stream = '{stream}') as older
    on older.account_id = stored.account_id and older.record_id = stored.{id}
group by stored.account_id
"""

ANSWERS = (
    (
        "Bookings that took place in the last 30 days, by account (local days)",
        """
        select account_name, sum(bookings_count)::INTEGER as bookings, sum(cancelled_count)::INTEGER as cancelled,
            printf('%.1f %%', 100 * sum(cancelled_count) / sum(bookings_count)) as cancellation_rate,
            sum(booked_amount) as booked_amount
        from marts.daily_bookings
        where date_basis = 'occurring_on' and day_on between $today - 30 and $today
        group by account_name order by bookings desc
        """,
    ),
    (
        "Attendance of past bookings: no-shows, and how much was never marked",
        """
        select account_name, sum(participants_count)::INTEGER as participants, sum(no_show_count)::INTEGER as no_shows,
            printf('%.1f %%', 100 * sum(no_show_count) / sum(participants_count)) as no_show_rate,
            printf('%.1f %%', 100 * sum(unmarked_count) / sum(participants_count)) as never_marked
        from marts.bookings where is_past and not is_cancelled group by account_name order by participants desc
        """,
    ),
    (
        "Busiest hour of the day, in each account's own time",
        """
        select account_name, printf('%02d:00', arg_max(hour, bookings)) as busiest_hour, max(bookings) as bookings
        from (
            select account_name, hour(start_local_at) as hour, count(*) as bookings
            from marts.bookings where not is_cancelled group by all
        )
        group by account_name order by account_name
        """,
    ),
    (
        "How far is it complete?",
        """
        select account_name, stream, strftime(complete_until_at, '%Y-%m-%d %H:%M UTC') as complete_until, rows_count, last_run_kind
        from marts.data_status where stream = 'bookings' order by account_name
        """,
    ),
)


def main() -> int:
    """Tell the story; 0 where the warehouse equals the emulator's truth at its end."""
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    home = FOLDER / "dagster"
    home.mkdir(parents=True)
    shutil.copy(PROJECT_FOLDER / "pipelines" / "dagster.yaml", home / "dagster.yaml")
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1, minutes=5)
    world = World(seed=8, accounts=4, customers=2_000, bookings=4_000, events=80, years=3, now=start)
    with Emulator(world) as emulator:
        _set_environment(emulator, world, home, start)
        return _two_nights(world, began)


def _set_environment(emulator: Emulator, world: World, home: Path, start: datetime) -> None:
    for name in list(os.environ):
        if name.upper().startswith((*PREFIXES, "DAGSTER")):
            del os.environ[name]
    zones = {account.slug: account.time_zone for account in world.accounts}
    zones["northgate-sydney"] = "Australia/Sydney"
    os.environ |= emulator.environment() | {
        "APPOINTEDD_ENV_FILE": "",
        "DAGSTER_HOME": str(home),
        "WAREHOUSE_PATH": str(FOLDER / "warehouse.duckdb"),
        "WAREHOUSE_PUBLISHED_PATH": str(FOLDER / "analytics.duckdb"),
        "SYNC_ACCOUNT_TIME_ZONES": json.dumps(zones),
        # Change-day partitions for the last weeks only, which keeps the demo short; rows are never excluded by it.
        "SYNC_HISTORY_START": (start.date() - timedelta(days=HISTORY_DAYS)).isoformat(),
        "SYNC_REQUESTS_PER_SECOND": "500",
    }


def _two_nights(world: World, began: float) -> int:
    # Late, since these read the environment that was just set.
    import dagster as dg

    from pipelines.definitions import defs

    console = Console()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    published = FOLDER / "analytics.duckdb"

    def night(job: str) -> bool:
        result = defs.resolve_job_def(job).execute_in_process(instance=instance, run_config=quiet, raise_on_error=False)
        for event in result.all_events:
            if event.event_type_value == "STEP_FAILURE":
                console.print(event.message, style="red")
        return result.success

    with dg.DagsterInstance.get() as instance:
        console.print(f"An emulated business: {_told(world)}.")
        console.print("[bold]First night[/bold]: the nightly job reads the whole history …")
        if not night("nightly"):
            return 1
        done = {name.replace("_", " "): count for name, count in world.live_a_day().items() if count}
        world.add_account(customers=60, bookings=150, events=4)
        world.delete_booking()
        console.print(f"A day passes: {', '.join(f'{n} x {name}' for name, n in done.items())}, 1 x add account.")
        console.print("[bold]Second night[/bold]: a sweep, which also finds what was deleted …")
        if not night("sweep"):
            return 1
    _show(console, published)
    wrong = differences(published, world.truth())
    for line in wrong:
        console.print(line, style="red")
    if not wrong:
        console.print("Compared with the emulator, value by value: [green]no difference[/green].")
    console.print(f"Done in {time.monotonic() - began:.0f} s. To look further, read-only, in SQL:")
    console.print(f"  WAREHOUSE_PUBLISHED_PATH={published.relative_to(PROJECT_FOLDER)} make shell", highlight=False)
    return 1 if wrong else 0


def _told(world: World) -> str:
    return ", ".join(
        f"{count:,} {SHOWN.get(name, name)}" for name, count in world.counts().items() if name != "intent_events"
    )


def _show(console: Console, published: Path) -> None:
    with connect(published, read_only=True) as connection:
        streams = " union all ".join(
            CHANGES_OF_ONE.format(stream=s.name, id=s.key[-1]) for s in (CUSTOMERS, BOOKINGS, EVENTS)
        )
        _table(console, "Rows, and what the second night changed", connection.execute(CHANGES.format(streams=streams)))
        for title, sql in ANSWERS:
            values = {"today": datetime.now(UTC).date()} if "$today" in sql else {}
            _table(console, title, connection.execute(sql, values))


def _table(console: Console, title: str, result: duckdb.DuckDBPyConnection) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    rows = result.fetchall()
    for number, column in enumerate(result.description or ()):
        is_text = all(isinstance(row[number], str | None) for row in rows)
        table.add_column(column[0].replace("_", " "), justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*("" if v is None else _shown(v) for v in row))
    console.print(table)


def _shown(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
