"""The warehouse: what is stored, and the one way in which it changes, a transaction that holds rows, ledger and state together.

What lives here: committing, reading state, tombstones. What does not: what to ask the API (`pipelines.plan`), how rows are shaped
(`pipelines.normalise`), files and migrations (`database`), the analysts' file (`publish`).
The frames that come in are declared by `pipelines.streams`; here they are only named by table and key. All instants are UTC.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from resources.database import check_space, connect, open_for_writing, sql_file, transaction
from resources.errors import LeaseHeldError, SettingsError, WarehouseError
from resources.lease import Lease, lease
from resources.settings import Settings

log = logging.getLogger(__name__)
WRITER_WAIT_S = 6 * 3600.0
READER_WAIT_S = 3.0
PART_SPACE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Table:
    """Where a batch goes: the table's name and key, and its child tables with theirs."""

    stream: str
    key: tuple[str, ...]
    children: Mapping[str, tuple[str, ...]]


@dataclass
class Counts:
    """What one commit did, in rows."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    duplicate: int = 0
    quarantined: int = 0
    tombstoned: int = 0
    silent: int = 0

    def __add__(self, other: Counts) -> Counts:
        """The sum, count by count."""
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Reconciliation:
    """Evidence of one walk: see `ops.reconciliations`."""

    first_total: int | None
    last_total: int | None
    distinct_count: int
    walks_count: int
    verdict: str


@dataclass
class Part:
    """Everything that one transaction writes: a slice, or one part of a long walk.

    `rows` and `children` are frames as `pipelines.normalise.combine` makes them. `gone`: rows to tombstone (key, `evidence`, `at`).
    `since` None is the open start of history; the window itself is written with the last part only.
    """

    slice_id: str
    part_number: int
    is_last_part: bool
    run_id: str
    table: Table
    api_client: str
    kind: str
    account_ids: Sequence[str]
    since: datetime | None
    until: datetime
    pages_count: int
    fetched_at: datetime
    rows: pl.DataFrame
    children: Mapping[str, pl.DataFrame]
    read_count: int = 0
    duplicate_count: int = 0
    quarantine: Sequence[tuple[str, str, datetime]] = ()
    drift: Sequence[tuple[str, str, str, int, str]] = ()
    gone: pl.DataFrame | None = None
    reconciliation: Reconciliation | None = None


@dataclass
class Writer:
    """The one connection that writes; made by `Warehouse.writer`."""

    connection: duckdb.DuckDBPyConnection
    path: Path
    lease: Lease | None = None
    memory_limit_mb: int = 512
    _columns: dict[str, list[str]] = field(default_factory=dict)

    # State

    def windows(self, stream: str) -> dict[str, list[tuple[datetime | None, datetime]]]:
        """Committed windows of a stream by account: (since, or None for the open start; until)."""
        found: dict[str, list[tuple[datetime | None, datetime]]] = {}
        rows = self.connection.execute(
            "select account_id, since, until from ops.windows where stream = ? order by all", [stream]
        ).fetchall()
        for account_id, since, until in rows:
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

    def start_run(self, run_id: str, kind: str, started_by: str, version: str) -> None:
        """Write the run's row; a run of several steps calls this in each, and is running again until that step ends."""
        with transaction(self.connection):
            self.connection.execute(
                """
                merge into ops.runs as known using (select $run_id as run_id) as new using (run_id)
                when matched then update set status = case status when 'red' then 'red' else 'running' end, ended_at = null
                when not matched then insert values ($run_id, $kind, $started_by, $version, $now, null, 'running', [], [])
                """,
                {
                    "run_id": run_id,
                    "kind": kind,
                    "started_by": started_by,
                    "version": version,
                    "now": datetime.now(UTC),
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

    def accounts(self) -> list[tuple[str, str | None, str | None]]:
        """Live accounts: (account_id, slug, time zone that the API sent)."""
        return self.connection.execute(
            "select account_id, slug, time_zone from core.accounts where deleted_at is null order by account_id"
        ).fetchall()

    def changed_time_zones(self, zones: pl.DataFrame) -> list[str]:
        """The accounts in the frame whose zone is not the one in `ops.account_time_zones`; those that are new there are not among them."""
        with self._registered(zones=zones):
            changed = self.connection.execute(
                """
                select zones.account_id from zones join ops.account_time_zones as known using (account_id)
                where zones.time_zone is distinct from known.time_zone
                order by all
                """
            ).fetchall()
        return [account_id for (account_id,) in changed]

    def set_time_zones(self, zones: pl.DataFrame) -> None:
        """Replace `ops.account_time_zones` for the accounts in the frame."""
        with transaction(self.connection), self._registered(zones=zones):
            self.connection.execute(
                "delete from ops.account_time_zones where account_id in (select account_id from zones)"
            )
            self.connection.execute("insert into ops.account_time_zones by name select * from zones")

    def count_rows(self, stream: str, account_ids: Sequence[str], since: datetime | None, until: datetime) -> int:
        """Live and dead rows of a stream whose last change lies in a window; for estimates."""
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

    def commit(self, part: Part) -> Counts:
        """One transaction: rows, children, history, tombstones, ledger, window, evidence. Gives what it did."""
        check_space(self.path.parent, PART_SPACE_BYTES if part.rows.height else 0)
        with transaction(self.connection):
            counts = self._merge(part) if part.rows.height else Counts()
            counts.read, counts.duplicate = part.read_count, part.duplicate_count
            counts.quarantined = len(part.quarantine)
            if part.gone is not None and part.gone.height:
                counts.tombstoned = self._tombstone(part, part.gone)
            self._note(part)
            self._ledger(part, counts)
        return counts

    def candidates(
        self, table: Table, met: pl.DataFrame, account_ids: Sequence[str], began_at: datetime
    ) -> list[tuple[str, ...]]:
        """Keys of live rows that a complete walk did not meet, though it should have (`sql/candidates.sql`)."""
        with self._registered(met=met):
            return self.connection.execute(
                sql_file("candidates.sql").format(table=table.stream, key=", ".join(table.key)),
                {"account_ids": list(account_ids), "began_at": began_at},
            ).fetchall()

    def renormalise(self, table: Table, rows: pl.DataFrame, children: Mapping[str, pl.DataFrame]) -> int:
        """Replace the typed columns of rows that are stored already, by key; gives how many rows changed. One transaction."""
        columns = [
            c
            for c in self._columns_of(table.stream)
            if c in rows.columns and c not in ("document", "content_hash", "fetched_at")
        ]
        different = " or ".join(f"stored.{c} is distinct from incoming.{c}" for c in columns)
        on_key = _equal("stored", "incoming", table.key)
        with transaction(self.connection), self._registered(incoming=rows):
            changed = self.connection.execute(
                f"""
                update core.{table.stream} as stored set {_assignments(columns, "incoming")}
                from incoming where {on_key} and ({different})
                """  # noqa: S608  names come from the catalogue
            ).fetchone()
            self.connection.execute(
                f"""
                create or replace temp table change as
                select incoming.*, 'update' as action from incoming
                join core.{table.stream} as stored using ({", ".join(table.key)}) where stored.deleted_at is null
                """  # noqa: S608  names come from the catalogue
            )
            self._merge_children(table, children)
        return int(changed[0]) if changed else 0

    def documents(self, stream: str, limit: int, after: int) -> tuple[list[tuple[str, str, datetime]], int]:
        """Stored documents in pages: (account_id, document, fetched_at), and the rowid to go on after."""
        rows = self.connection.execute(
            f"""
            select account_id, document, fetched_at, rowid from core.{stream}
            where rowid > ? order by rowid limit ?
            """,  # noqa: S608  the stream's name is ours
            [after, limit],
        ).fetchall()
        return [(a, d, f) for a, d, f, _ in rows], (rows[-1][3] if rows else after)

    def _merge(self, part: Part) -> Counts:
        table = part.table
        columns = self._columns_of(table.stream)
        names = {
            "table": table.stream,
            "stream": table.stream,
            "id": table.key[-1],
            "key": ", ".join(table.key),
            "on_key": _equal("stored", "change", table.key),
            "columns": ", ".join(columns),
            "change_columns": ", ".join(f"change.{c}" for c in columns),
            "set_columns": _assignments(columns, "change"),
        }
        with self._registered(incoming=part.rows):
            self._run("merge.sql", names, {"slice_id": part.slice_id, "is_sweep": part.kind == "sweep"})
        counted = self.connection.execute(
            "select action, count(*), count(*) filter (where is_same_version) from change group by action"
        ).fetchall()
        by_action = {action: count for action, count, _ in counted}
        silent = sum(same for action, _, same in counted if action == "update")
        if by_action.get("insert") or by_action.get("update"):
            self._merge_children(table, part.children)
        self.connection.execute("drop table change")
        return Counts(
            inserted=by_action.get("insert", 0),
            updated=by_action.get("update", 0),
            unchanged=by_action.get("unchanged", 0),
            stale=by_action.get("stale", 0),
            silent=silent,
        )

    def _merge_children(self, table: Table, children: Mapping[str, pl.DataFrame]) -> None:
        """Children of the rows in the temporary table `change`."""
        for child, key in table.children.items():
            columns = [c for c in self._columns_of(child) if c != "deleted_at"]
            own = [c for c in columns if c not in (*table.key, *key)]
            names = {
                "table": child,
                "parent_key": ", ".join(table.key),
                "on_parent": _equal("stored", "change", table.key),
                "on_key": _equal("stored", "incoming", (*table.key, *key)),
                "is_different": " or ".join(f"stored.{c} is distinct from incoming.{c}" for c in own) or "false",
                "columns": ", ".join(columns),
                "incoming_columns": ", ".join(f"incoming.{c}" for c in columns),
                "set_columns": _assignments(columns, "incoming"),
            }
            with self._registered(incoming_child=children[child]):
                self._run("merge_child.sql", names, {})

    def _tombstone(self, part: Part, gone: pl.DataFrame) -> int:
        table = part.table
        names = {
            "table": table.stream,
            "stream": table.stream,
            "id": table.key[-1],
            "key": ", ".join(table.key),
            "on_gone": _equal("stored", "gone", table.key),
        }
        with self._registered(gone=gone):
            changed = self._run("tombstone.sql", names, {"slice_id": part.slice_id})
            for child in table.children:
                self.connection.execute(
                    f"""
                    update core.{child} as stored set deleted_at = gone.at from gone
                    where {names["on_gone"]} and stored.deleted_at is null
                    """  # noqa: S608  names come from the catalogue
                )
        return changed

    def _note(self, part: Part) -> None:
        for kind, path, detail, count, example in part.drift:
            values = {
                "stream": part.table.stream,
                "kind": kind,
                "path": path,
                "detail": detail,
                "at": part.fetched_at,
                "count": count,
                "example": example,
            }
            self.connection.execute(
                """
                merge into ops.drift as known
                using (select $stream as stream, $kind as kind, $path as path, $detail as detail) as seen
                using (stream, kind, path, detail)
                when matched then update set last_seen_at = $at, seen_count = known.seen_count + $count
                when not matched then insert values ($stream, $kind, $path, $detail, $at, $at, $count, $example)
                """,
                values,
            )
        for position, (reason, record, fetched_at) in enumerate(part.quarantine, 1):
            self.connection.execute(
                "insert into ops.quarantine values (?, ?, ?, ?, ?, ?, ?)",
                [part.slice_id, part.part_number, position, part.table.stream, reason, record, fetched_at],
            )
        if part.reconciliation:
            r = part.reconciliation
            self.connection.execute(
                "insert into ops.reconciliations values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    part.slice_id,
                    part.run_id,
                    part.table.stream,
                    part.api_client,
                    r.first_total,
                    r.last_total,
                    r.distinct_count,
                    r.walks_count,
                    r.verdict,
                ],
            )

    def _ledger(self, part: Part, counts: Counts) -> None:
        known = {
            "slice_id": part.slice_id,
            "part_number": part.part_number,
            "is_last_part": part.is_last_part,
            "run_id": part.run_id,
            "stream": part.table.stream,
            "api_client": part.api_client,
            "kind": part.kind,
            "account_ids": list(part.account_ids),
            "since": part.since,
            "until": part.until,
            "pages_count": part.pages_count,
            **{f"{name}_count": value for name, value in vars(counts).items()},
            "fetched_at": part.fetched_at,
            "committed_at": datetime.now(UTC),
        }
        columns = ", ".join(known)
        marks = ", ".join(f"${name}" for name in known)
        self.connection.execute(f"insert into ops.slices ({columns}) values ({marks})", known)  # noqa: S608  names are ours
        if part.is_last_part:
            self.connection.execute(
                """
                insert into ops.windows
                select $stream, unnest($account_ids::VARCHAR[]), $since, $until, $kind, $slice_id, $run_id
                """,
                {k: known[k] for k in ("stream", "account_ids", "since", "until", "kind", "slice_id", "run_id")},
            )

    def _run(self, file: str, names: Mapping[str, str], values: dict[str, Any]) -> int:
        """Run the statements of a template; gives the row count that the last one reports."""
        reported = 0
        for template in sql_file(file).split("-- ;\n"):
            statement = template.format(**names)
            needed = {k: v for k, v in values.items() if f"${k}" in statement}
            row = self.connection.execute(statement, needed).fetchone()
            reported = int(row[0]) if row and isinstance(row[0], int) else 0
        return reported

    def _columns_of(self, table: str) -> list[str]:
        """Columns of a core table in the order of the catalogue."""
        if table not in self._columns:
            described = self.connection.execute(f"select * from core.{table} limit 0").description  # noqa: S608  names are ours
            self._columns[table] = [column[0] for column in described or ()]
        return self._columns[table]

    @contextmanager
    def _registered(self, **frames: pl.DataFrame) -> Iterator[None]:
        """Frames visible to SQL under their names for the length of a `with`."""
        for name, frame in frames.items():
            self.connection.register(name, frame)
        try:
            yield
        finally:
            for name in frames:
                self.connection.unregister(name)


class Warehouse:
    """The two files and the way to them."""

    def __init__(self, settings: Settings) -> None:
        if settings.warehouse_path == settings.warehouse_published_path:
            raise SettingsError(
                "WAREHOUSE_PATH and WAREHOUSE_PUBLISHED_PATH name the same file; analysts' copy needs a place of its own."
            )
        self.path = settings.warehouse_path
        self.published_path = settings.warehouse_published_path
        self.memory_limit_mb = settings.warehouse_memory_limit_mb

    @contextmanager
    def writer(self, what: str, wait_s: float = WRITER_WAIT_S) -> Iterator[Writer]:
        """The writing connection, under the lease; made or migrated first where needed."""
        with lease(self.path, what, wait_s=wait_s) as held:
            writer = Writer(open_for_writing(self.path, self.memory_limit_mb), self.path, held, self.memory_limit_mb)
            try:
                yield writer
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


def _equal(left: str, right: str, columns: Sequence[str]) -> str:
    return " and ".join(f"{left}.{c} = {right}.{c}" for c in columns)


def _assignments(columns: Sequence[str], source: str) -> str:
    return ", ".join(f"{c} = {source}.{c}" for c in columns)
