"""The warehouse: the way to its two files, and the one way in which it changes, a transaction that holds rows, ledger and state together.

What lives here: committing, giving way between two commits. What does not: reading state (`state`), the rows of runs (`runs`), what to ask the API
(`pipelines.plan`), how rows are shaped (`pipelines.normalise`), the statements of a commit (`merging`, `ledger`), files (`database`), their schema
(`migrations`), the analysts' file (`publish`).
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
from resources.database import (
    WRITE_ERRORS,
    connect,
    end_query,
    not_read,
    not_written,
    put_in_order,
    transaction,
    write_anew,
)
from resources.errors import LeaseHeldError, SettingsError, must_exist, writable
from resources.files import check_space, has_space, refuse_other_files
from resources.frames import registered
from resources.generic import ensure_tables
from resources.lease import Lease, lease
from resources.migrations import open_for_writing
from resources.part import Commit, Counts, Table
from resources.runs import Limits, Runs
from resources.settings import Settings
from resources.state import StandingBrake, State

if TYPE_CHECKING:
    import polars as pl  # slow to import, and reading a status needs none of it

log = logging.getLogger(__name__)
WRITER_WAIT_S = 6 * 3600.0
READER_WAIT_S = 3.0
PART_SPACE_BYTES = 256 * 1024 * 1024


@dataclass
class Writer(State, Runs):
    """All that is asked of the warehouse and done to it, over the one connection that writes; made by `Warehouse.writer`, under the lease."""

    path: Path
    lease: Lease
    memory_limit_mb: int

    @property
    def is_open(self) -> bool:
        """Whether anything can be read or written: not while it gives way, nor after an error that only opening the file again mends."""
        try:
            self.connection.execute("select 1")
        except duckdb.Error as error:
            log.debug("The connection is of no use any more: %s", error)
            return False
        return True

    def ensure_tables(self, generic: Sequence[str]) -> None:
        """Make the tables of streams that the contract adds, where they are missing."""
        ensure_tables(self.connection, generic)

    def set_time_zones(self, zones: pl.DataFrame) -> None:
        """Replace `ops.account_time_zones` for the accounts in the frame."""
        with transaction(self.connection), registered(self.connection, zones=zones):
            self.connection.execute(
                "delete from ops.account_time_zones where account_id in (select account_id from zones)"
            )
            self.connection.execute("insert into ops.account_time_zones by name select * from zones")

    def give_way(self) -> None:
        """Between two commits: close the file and let whoever waits for the lease go first, then go on."""
        if self.lease.is_wanted():
            log.info("Another run waits for %s; giving way to it between two commits", self.path)
            self.connection.close()
            self.lease.give_way(WRITER_WAIT_S)
            self.connection = open_for_writing(self.path, self.memory_limit_mb)

    def commit(self, commit: Commit) -> list[Counts]:
        """One transaction: rows, children, history, tombstones, ledger, windows, evidence. Gives what it did, by part in the order of the parts."""
        check_space(self.path.resolve().parent, PART_SPACE_BYTES if commit.rows.height else 0)
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

    def put_in_order(self) -> None:
        """Where that is due, have the file put in order when it is closed; for a run that ends without publishing, which does so too."""
        put_in_order(self.connection, self.path)

    def write_anew(self) -> bool:
        """Leave the bytes of all that was deleted behind, by writing the file anew; False where its disk has no room for it once more."""
        self.connection.execute("checkpoint")
        path = self.path.resolve()  # a symbolic link stays, and leads to the new file
        if not has_space(path.parent, path.stat().st_size):
            return False
        self.connection.close()
        with writable("WAREHOUSE_PATH", path):
            write_anew(path, self.memory_limit_mb)
        self.connection = open_for_writing(self.path, self.memory_limit_mb)
        return True

    def note_shape(self, stream: str, shape: str, *, of_all_rows: bool) -> None:
        """Note that rows of a stream are shaped by a contract; `of_all_rows`: and none of them by another one."""
        with transaction(self.connection):
            if of_all_rows:
                self.connection.execute(
                    "delete from ops.shapes where stream = ? and contract_hash <> ?", [stream, shape]
                )
            ledger.note_shape(self.connection, stream, shape)

    def erase(
        self,
        table: Table,
        word: str,
        clean: erasing.Clean,
        is_secret: Callable[[str], bool],
        unnamed: Mapping[str, Sequence[str] | None],
    ) -> int:
        """Take members out of all that is stored of a stream (`resources.erasing`); gives how many texts and rows changed. One transaction."""
        with transaction(self.connection):
            return erasing.erase(self.connection, table, word, clean, is_secret) + erasing.empty(
                self.connection, unnamed
            )

    def note_missing(self, stream: str, names: Sequence[str], at: datetime) -> None:
        """Note as drift the members that a run found in no record."""
        told = "in none of the records that a run read"
        self.note_drift(stream, [("missing_member", name, told, 1, None) for name in names], at)

    def note_drift(self, stream: str, drift: Sequence[tuple[str, str, str, int, str | None]], at: datetime) -> None:
        """Note what is unlike the contract: (kind, path, detail, count, example)."""
        with transaction(self.connection):
            found = [ledger.Drift(stream, k, path, told, at, at, n, example) for k, path, told, n, example in drift]
            ledger.note_drift(self.connection, found)

    def note_asked(self, stream: str, parts: Collection[str]) -> None:
        """Note what a list is asked for from here on. Where that was more than before, its windows must be taken away first."""
        with transaction(self.connection):
            self.connection.execute("delete from ops.asked where stream = ?", [stream])
            self.connection.execute("insert into ops.asked values (?, ?)", [stream, sorted(parts)])

    def disbelieve(self, stream: str, after: datetime) -> int:
        """Take away the windows that end after an instant, and give how many slices that concerns: a wrong clock dated them, or another list was read.

        What they brought stays; what they were worth is asked for again. Kept, they would be believed as soon as the time they name has come.
        """
        with transaction(self.connection):
            slices = self.connection.execute(
                "select distinct slice_id from ops.windows where stream = $stream and until > $after",
                {"stream": stream, "after": after},
            ).fetchall()
            known = {"slices": [slice_id for (slice_id,) in slices]}
            self.connection.execute("delete from ops.windows where list_contains($slices, slice_id)", known)
            # A list of which nothing is served has no window, and is dated by the same clock.
            self.connection.execute(
                """
                update ops.slices set is_last_part = false
                where list_contains($slices, slice_id) or (stream = $stream and until > $after)
                """,
                known | {"stream": stream, "after": after},
            )
        return len(slices)

    def date_anew(self, stream: str, after: datetime, at: datetime) -> int:
        """Date at an instant whatever claims to have been read after another one, versions in `history` too; gives how many rows that concerns.

        Until the time that they claim has come, such rows would be newer than all that is read: than changes, and than a sweep that does not meet them.
        """
        known = {"after": after, "at": at}
        with transaction(self.connection):
            self.connection.execute(
                """
                update history.records set fetched_at = least(fetched_at, $at), superseded_at = $at
                where stream = $stream and superseded_at > $after
                """,
                known | {"stream": stream},
            )
            changed = self.connection.execute(
                f"""
                update core.{stream} set fetched_at = $at, deleted_at = case when deleted_at > $at then $at else deleted_at end
                where fetched_at > $after
                """,  # noqa: S608  the stream's name is ours
                known,
            ).fetchone()
        return int(changed[0]) if changed else 0

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


class Warehouse:
    """The two files and the way to them."""

    def __init__(self, settings: Settings) -> None:
        if settings.warehouse_path.resolve() == settings.warehouse_published_path.resolve():
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
            writer = Writer(connection, self.path, held, self.memory_limit_mb)
            try:
                yield writer
            except WRITE_ERRORS as error:  # the file could not even be read: what is written has its own sentence
                raise not_written(error) from error
            except BaseException:
                end_query(writer.connection)
                raise
            finally:
                writer.connection.close()

    @contextmanager
    def reader(self, wait_s: float = READER_WAIT_S) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
        """A reading connection to the working file or, where somebody writes it, to the published one; and which it is."""
        must_exist(self.path)
        try:
            with lease(self.path, "reading the status", wait_s=wait_s), self._reading(self.path) as connection:
                yield connection, self.path
        except LeaseHeldError:
            if not self.published_path.exists():
                raise
            with self._reading(self.published_path) as connection:
                yield connection, self.published_path

    def is_published_by(self, run_id: str) -> bool:
        """Whether the published file is one that a run published."""
        if not self.published_path.exists():
            return False
        with self._reading(self.published_path) as connection:
            try:
                return State(connection).is_published_by(run_id)
            except duckdb.CatalogException:
                return False  # no warehouse: what stood there before the first publishing

    @contextmanager
    def _reading(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = connect(path, read_only=True)
        try:
            yield connection
        except WRITE_ERRORS as error:
            raise not_read(path, error) from error
        finally:
            connection.close()
