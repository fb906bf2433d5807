"""The warehouse: what is stored, and the one way in which it changes, a transaction that holds rows, ledger and state together.

What lives here: committing, reading state. What does not: what to ask the API (`pipelines.plan`), how rows are shaped (`pipelines.normalise`), the
statements of a commit (`merging`, `ledger`), files and migrations (`database`), the analysts' file (`publish`).
The frames that come in are declared by `pipelines.streams`; here they are only named by table and key. All instants are UTC.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from resources import erasing, ledger, merging
from resources.database import check_space, connect, end_query, open_for_writing, refuse_other_files, transaction
from resources.errors import LeaseHeldError, SettingsError, WarehouseError
from resources.generic import ensure_tables, generic_streams
from resources.lease import Lease, lease
from resources.part import Commit, Counts, Table
from resources.settings import Settings

if TYPE_CHECKING:
    import polars as pl  # slow to import, and reading a status needs none of it

log = logging.getLogger(__name__)
WRITER_WAIT_S = 6 * 3600.0
READER_WAIT_S = 3.0
# Two weekly sweeps: a release is for what a person has seen, not for what the account may hold one day.
RELEASED_DAYS = 14
KILLED = "The run's process was killed, or it ended before the run was over. What it had committed stays."
PART_SPACE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What runs hold themselves to, written on each run's row so that checks in SQL can judge by it: see `Settings`."""

    overlap_minutes: int = 1440
    freshness_hours: float = 36.0


@dataclass(frozen=True)
class StandingBrake:
    """A sweep that stopped at an account and was not followed by one that ended: see `ops.brakes`."""

    stream: str
    account_id: str
    gone_count: int
    rows_count: int
    stopped_at: datetime
    released_at: datetime | None


@dataclass
class Writer:
    """The one connection that writes; made by `Warehouse.writer`."""

    connection: duckdb.DuckDBPyConnection
    path: Path
    lease: Lease | None = None
    memory_limit_mb: int = 512
    limits: Limits = Limits()

    @property
    def is_open(self) -> bool:
        """Whether anything can be read or written: not while it gives way, nor after an error that only opening the file again mends."""
        try:
            self.connection.execute("select 1")
        except duckdb.Error as error:
            log.debug("The connection is of no use any more: %s", error)
            return False
        return True

    # State

    def windows(self, stream: str) -> dict[str, list[tuple[datetime | None, datetime]]]:
        """Committed windows of a stream by account: (since, or None for the open start; until)."""
        found: dict[str, list[tuple[datetime | None, datetime]]] = {}
        # The accounts of a slice share its window: DuckDB hands out the instants once for all of them, which is what costs.
        rows = self.connection.execute(
            "select since, until, list(account_id) from ops.windows where stream = ? group by all order by all",
            [stream],
        ).fetchall()
        for since, until, accounts in rows:
            for account_id in accounts:
                found.setdefault(account_id, []).append((since, until))
        return found

    def watermarks(self, stream: str) -> dict[str, datetime | None]:
        """Watermark of each account of a stream."""
        rows = self.connection.execute(
            "select account_id, watermark_at from ops.watermarks where stream = ?", [stream]
        ).fetchall()
        return dict(rows)

    def swept(self, stream: str) -> set[str]:
        """Accounts of a stream that were ever swept."""
        rows = self.connection.execute(
            "select distinct account_id from ops.windows where stream = ? and kind = 'sweep'", [stream]
        ).fetchall()
        return {account_id for (account_id,) in rows}

    def earliest_change(self, stream: str, account_ids: Sequence[str]) -> datetime | None:
        """The earliest change time among the rows of some accounts, dead ones included; None where none has one."""
        row = self.connection.execute(
            f"select min(updated_at) from core.{stream} where list_contains($account_ids, account_id)",  # noqa: S608  the stream's name is ours
            {"account_ids": list(account_ids)},
        ).fetchone()
        return row[0] if row else None

    def undated_count(self, stream: str) -> int:
        """Live rows without a change time."""
        row = self.connection.execute(
            f"select count(*) from core.{stream} where updated_at is null and deleted_at is null"  # noqa: S608  the stream's name is ours
        ).fetchone()
        return int(row[0]) if row else 0

    def quarantined(self, stream: str, api_client: str) -> int:
        """Different records of a stream that ever came from an API client and were put into quarantine."""
        row = self.connection.execute(
            """
            select count(distinct record) from ops.quarantine join ops.slices using (slice_id, part_number)
            where quarantine.stream = ? and slices.api_client = ?
            """,
            [stream, api_client],
        ).fetchone()
        return int(row[0]) if row else 0

    def ensure_tables(self, generic: Sequence[str]) -> None:
        """Make the tables of streams that the contract adds, where they are missing."""
        ensure_tables(self.connection, generic)

    def start_run(
        self, run_id: str, kind: str, started_by: str, version: str, streams: Sequence[str] | None = None
    ) -> None:
        """Write the run's row; a run of several steps calls this in each, and is running again until that step ends."""
        with transaction(self.connection):
            self.connection.execute(
                """
                merge into ops.runs as known using (select $run_id as run_id) as new using (run_id)
                when matched then update set status = case status when 'red' then 'red' else 'running' end, ended_at = null
                when not matched then insert values (
                    $run_id, $kind, $started_by, $version, $now, null, 'running', [], [], $overlap_minutes, $freshness_hours, $streams
                )
                """,
                {
                    "run_id": run_id,
                    "kind": kind,
                    "started_by": started_by,
                    "version": version,
                    "now": datetime.now(UTC),
                    "overlap_minutes": self.limits.overlap_minutes,
                    "freshness_hours": self.limits.freshness_hours,
                    "streams": None if streams is None else list(streams),
                },
            )

    def end_run(self, run_id: str, problems: Sequence[str], warnings: Sequence[str], *, is_over: bool = True) -> None:
        """Add sentences to the run's row; it is red from its first problem on, and green only when it is over without one.

        Between the steps of a run (`is_over` false) it goes on running, so that a run which is killed there never stands as complete.
        """
        with transaction(self.connection):
            self.connection.execute(
                """
                update ops.runs set
                    ended_at = case when $is_over then $now else ended_at end,
                    problems = list_distinct(list_concat(problems, $problems::VARCHAR[])),
                    warnings = list_distinct(list_concat(warnings, $warnings::VARCHAR[])),
                    status = case when len(problems) + len($problems::VARCHAR[]) > 0 then 'red' when $is_over then 'green' else 'running' end
                where run_id = $run_id
                """,
                {
                    "run_id": run_id,
                    "now": datetime.now(UTC),
                    "problems": list(problems),
                    "warnings": list(warnings),
                    "is_over": is_over,
                },
            )

    def end_killed_runs(self, living: Collection[str]) -> None:
        """Make red what still stands as running though no process does it any more; `living` are the runs of processes that live."""
        with transaction(self.connection):
            self.connection.execute(
                """
                update ops.runs set status = 'red', problems = list_append(problems, $problem)
                where status = 'running' and not list_contains($living::VARCHAR[], run_id)
                """,
                {"problem": KILLED, "living": list(living)},
            )

    def accounts(self) -> list[tuple[str, str | None, str | None]]:
        """Live accounts: (account_id, slug, time zone that the API sent)."""
        return self.connection.execute(
            "select account_id, slug, time_zone from core.accounts where deleted_at is null order by account_id"
        ).fetchall()

    def changed_time_zones(self, zones: pl.DataFrame) -> list[str]:
        """The accounts in the frame whose zone is not the one that their customers were read with.

        An account that is new is among them only where customers of it came before it was listed: they were read without a zone.
        """
        with merging.registered(self.connection, zones=zones):
            changed = self.connection.execute(
                """
                select zones.account_id from zones left join ops.account_time_zones as known using (account_id)
                where zones.time_zone is distinct from known.time_zone
                    and (known.account_id is not null or zones.account_id in (select account_id from core.customers))
                order by all
                """
            ).fetchall()
        return [account_id for (account_id,) in changed]

    def set_time_zones(self, zones: pl.DataFrame) -> None:
        """Replace `ops.account_time_zones` for the accounts in the frame."""
        with transaction(self.connection), merging.registered(self.connection, zones=zones):
            self.connection.execute(
                "delete from ops.account_time_zones where account_id in (select account_id from zones)"
            )
            self.connection.execute("insert into ops.account_time_zones by name select * from zones")

    def count_rows(self, stream: str, account_ids: Sequence[str], since: datetime | None, until: datetime) -> int:
        """Live and dead rows of a stream whose last change lies in a window; for estimates. 0 where the contract has just added the stream."""
        if not self.connection.execute(
            "select 1 from duckdb_tables() where schema_name = 'core' and table_name = ?", [stream]
        ).fetchone():
            return 0
        row = self.connection.execute(
            f"""
            select count(*) from core.{stream}
            where list_contains($accounts, account_id)
                and ($since is null or updated_at >= $since::TIMESTAMPTZ) and (updated_at is null or updated_at < $until)
            """,  # noqa: S608  the stream's name is ours
            {"accounts": list(account_ids), "since": since, "until": until},
        ).fetchone()
        return int(row[0]) if row else 0

    def give_way(self) -> None:
        """Between two commits: close the file and let whoever waits for the lease go first, then go on."""
        if self.lease is not None and self.lease.is_wanted():
            log.info("Another run waits for %s; giving way to it between two commits", self.path)
            self.connection.close()
            self.lease.give_way(WRITER_WAIT_S)
            self.connection = open_for_writing(self.path, self.memory_limit_mb)

    # Commit

    def commit(self, commit: Commit) -> list[Counts]:
        """One transaction: rows, children, history, tombstones, ledger, windows, evidence. Gives what it did, by part in the order of the parts."""
        check_space(self.path.parent, PART_SPACE_BYTES if commit.rows.height else 0)
        with transaction(self.connection):
            merged = merging.merge(self.connection, commit) if commit.rows.height else {}
            counts = [merged.get(part.slice_id, Counts()) for part in commit.parts]
            for part, own in zip(commit.parts, counts, strict=True):
                own.read, own.duplicate = part.read_count, part.duplicate_count
                own.quarantined = len(part.quarantine)
                if part.gone is not None and part.gone.height:
                    own.tombstoned = merging.tombstone(self.connection, commit.table, part, part.gone)
            ledger.write(self.connection, commit, counts)
        return counts

    def candidates(
        self, table: Table, met: pl.DataFrame, account_ids: Sequence[str], began_at: datetime
    ) -> list[tuple[str, ...]]:
        """Keys of live rows that a complete walk did not meet, though it should have (`sql/candidates.sql`)."""
        return merging.candidates(self.connection, table, met, account_ids, began_at)

    def renormalise(
        self,
        table: Table,
        rows: pl.DataFrame,
        children: Mapping[str, pl.DataFrame],
        gone: Mapping[str, pl.DataFrame] | None = None,
    ) -> int:
        """Replace the typed columns of rows that are stored already, by key; gives how many rows changed. One transaction.

        `gone`: children by table that are to be marked as gone (key, `at`), whatever their parent's list says.
        """
        with transaction(self.connection):
            changed = merging.renormalise(self.connection, table, rows, children)
            merging.mark(self.connection, table, gone or {})
        return changed

    def note_shape(self, stream: str, shape: str, *, of_all_rows: bool) -> None:
        """Note that rows of a stream are shaped by a contract; `of_all_rows`: and none of them by another one."""
        with transaction(self.connection):
            if of_all_rows:
                self.connection.execute(
                    "delete from ops.shapes where stream = ? and contract_hash <> ?", [stream, shape]
                )
            ledger.note_shape(self.connection, stream, shape)

    def live_children(self, table: Table, child: str, parents: pl.DataFrame) -> list[tuple[str, ...]]:
        """Keys of the live children of some rows."""
        return merging.live_children(self.connection, table, child, parents)

    def replaced(self, table: Table, rows: pl.DataFrame) -> list[tuple[str, str, str | None, datetime]]:
        """The versions of some rows that were replaced, by account: (account_id, record_id, document, fetched_at)."""
        return merging.replaced(self.connection, table, rows)

    def generic_streams(self) -> tuple[str, ...]:
        """The streams with a table of the generic form, also those that the contract no longer has."""
        return generic_streams(self.connection)

    def erase(self, table: Table, word: str, clean: erasing.Clean, is_secret: Callable[[str], bool]) -> int:
        """Take members out of all that is stored of a stream as it was sent (`resources.erasing`); gives how many texts changed. One transaction."""
        with transaction(self.connection):
            return erasing.erase(self.connection, table, word, clean, is_secret)

    def filled(self, stream: str, columns: Sequence[str]) -> set[str]:
        """The columns of a stream's table that hold a value in any row."""
        # One look for each column that ends at the first value, instead of a count of all.
        looks = (f"(select '{c}' from core.{stream} where {c} is not null limit 1)" for c in columns)  # noqa: S608  names are ours
        return {column for (column,) in self.connection.execute(" union all ".join(looks)).fetchall()}

    def note_missing(self, stream: str, names: Sequence[str], at: datetime) -> None:
        """Note as drift the members that a run found in no record."""
        with transaction(self.connection):
            told = "in none of the records that a run read"
            ledger.note_drift(
                self.connection, [ledger.Drift(stream, "missing_member", name, told, at, at, 1, None) for name in names]
            )

    def note_drift(self, stream: str, drift: Sequence[tuple[str, str, str, int, str | None]], at: datetime) -> None:
        """Note what is unlike the contract: (kind, path, detail, count, example)."""
        with transaction(self.connection):
            found = [ledger.Drift(stream, k, path, told, at, at, n, example) for k, path, told, n, example in drift]
            ledger.note_drift(self.connection, found)

    def disbelieve(self, stream: str, after: datetime) -> int:
        """Take away the windows that end after an instant, and give how many slices that concerns: a wrong clock dated them.

        What they brought stays; what they were worth is asked for again. Kept, they would be believed as soon as the time they name has come.
        """
        with transaction(self.connection):
            slices = self.connection.execute(
                "select distinct slice_id from ops.windows where stream = $stream and until > $after",
                {"stream": stream, "after": after},
            ).fetchall()
            known = {"slices": [slice_id for (slice_id,) in slices]}
            self.connection.execute("delete from ops.windows where list_contains($slices, slice_id)", known)
            self.connection.execute(
                "update ops.slices set is_last_part = false where list_contains($slices, slice_id)", known
            )
        return len(slices)

    # Brakes of sweeps

    def live_counts(self, stream: str, account_ids: Sequence[str]) -> dict[str, int]:
        """Live rows of a stream by account."""
        rows = self.connection.execute(
            f"""
            select account_id, count(*) from core.{stream}
            where deleted_at is null and list_contains($account_ids, account_id) group by account_id
            """,  # noqa: S608  the stream's name is ours
            {"account_ids": list(account_ids)},
        ).fetchall()
        return dict(rows)

    def standing_brakes(self) -> list[StandingBrake]:
        """Brakes that stand, one at most for each stream and account."""
        rows = self.connection.execute(
            """
            select stream, account_id, gone_count, rows_count, stopped_at, released_at from ops.brakes
            where ended_by_slice_id is null order by stream, account_id
            """
        ).fetchall()
        return [StandingBrake(*row) for row in rows]

    def released(self, stream: str) -> dict[str, int]:
        """Accounts whose brake a person has released within the last weeks, and the rows that they were shown."""
        rows = self.connection.execute(
            """
            select account_id, gone_count from ops.brakes
            where stream = $stream and ended_by_slice_id is null and released_at > now() - to_days($days)
            """,
            {"stream": stream, "days": RELEASED_DAYS},
        ).fetchall()
        return dict(rows)

    def release(self, brake: StandingBrake) -> None:
        """Let the next sweep retire as much of the account as the brake held back."""
        with transaction(self.connection):
            self.connection.execute(
                """
                update ops.brakes set released_at = $now
                where stream = $stream and account_id = $account_id and ended_by_slice_id is null
                """,
                {"now": datetime.now(UTC), "stream": brake.stream, "account_id": brake.account_id},
            )

    def documents(
        self, table: Table, limit: int, after: tuple[str, ...] | None
    ) -> tuple[list[tuple[str, str, datetime]], tuple[str, ...] | None]:
        """Stored documents in pages, in the order of their keys: (account_id, document, fetched_at), and the key to go on after; None: from the first.

        By key, since the place of a row in the file is not its own for good: a checkpoint may move what stands behind deleted rows.
        """
        key = ", ".join(table.key)
        marks = ", ".join("?" * len(table.key))
        rows = self.connection.execute(
            f"""
            select account_id, document, fetched_at, {key} from core.{table.stream}
            {f"where ({key}) > ({marks})" if after else ""} order by {key} limit ?
            """,  # noqa: S608  names are ours
            [*(after or ()), limit],
        ).fetchall()
        return [(a, d, f) for a, d, f, *_ in rows], (tuple(rows[-1][3:]) if rows else after)


class Warehouse:
    """The two files and the way to them."""

    def __init__(self, settings: Settings) -> None:
        if settings.warehouse_path == settings.warehouse_published_path:
            raise SettingsError(
                "WAREHOUSE_PATH and WAREHOUSE_PUBLISHED_PATH name the same file; analysts' copy needs a place of its own."
            )
        refuse_other_files("WAREHOUSE_PATH", settings.warehouse_path)
        refuse_other_files("WAREHOUSE_PUBLISHED_PATH", settings.warehouse_published_path)
        self.path = settings.warehouse_path
        self.published_path = settings.warehouse_published_path
        self.memory_limit_mb = settings.warehouse_memory_limit_mb
        self.limits = Limits(settings.sync_overlap_minutes, settings.sync_freshness_hours)

    @contextmanager
    def writer(self, what: str, wait_s: float = WRITER_WAIT_S) -> Iterator[Writer]:
        """The writing connection, under the lease; made or migrated first where needed."""
        with lease(self.path, what, wait_s=wait_s) as held:
            connection = open_for_writing(self.path, self.memory_limit_mb)
            writer = Writer(connection, self.path, held, self.memory_limit_mb, self.limits)
            try:
                yield writer
            except BaseException:
                end_query(writer.connection)
                raise
            finally:
                writer.connection.close()

    @contextmanager
    def reader(self, wait_s: float = READER_WAIT_S) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
        """A reading connection to the working file or, where somebody writes it, to the published one; and which it is."""
        if not self.path.exists():
            raise WarehouseError(f"{self.path} does not exist yet. The first sync makes it: appointedd-warehouse sync")
        try:
            with lease(self.path, "reading the status", wait_s=wait_s), self._reading(self.path) as connection:
                yield connection, self.path
        except LeaseHeldError:
            if not self.published_path.exists():
                raise
            with self._reading(self.published_path) as connection:
                yield connection, self.published_path

    @contextmanager
    def _reading(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = connect(path, read_only=True)
        try:
            yield connection
        finally:
            connection.close()
