"""The published file: what analysts open, written under a temporary name, checked, synced and renamed over the old one.

What lives here: the checks as a gate and the copy. What does not: what a check asks (`sql/checks`).
Publishing runs the blocking checks itself, whoever calls it. Readers of the old file keep it until they close it; a reader never meets a lock.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from resources.database import (
    WRITE_ERRORS,
    connect,
    end_query,
    not_written,
    put_in_order,
    refuse_other_tables,
)
from resources.errors import PublishBlockedError, PublishedUnrecordedError, WarehouseError, in_one_line, writable
from resources.files import check_space, draft_of, log_of, sync_to_disk
from resources.generic import generic_streams, refresh_views
from resources.lease import lease
from resources.migrations import open_for_writing
from resources.runs import Runs
from resources.sql_files import Check, checks, marts
from resources.warehouse import WRITER_WAIT_S, Warehouse

log = logging.getLogger(__name__)
SHOWN_ROWS = 5


@dataclass(frozen=True)
class Finding:
    """What one check found: how many rows offend, and the first of them as text."""

    check: Check
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One sentence with the first offending rows."""
        return f"{self.check.name}: {self.count} rows. {self.check.says} First: {'; '.join(self.examples)}"


def run_checks(connection: duckdb.DuckDBPyConnection, chosen: Iterable[Check]) -> list[Finding]:
    """Run checks on an open warehouse; a finding for each, with count 0 where it passes."""
    findings = []
    for check in chosen:
        rows = connection.execute(check.sql).fetchall()
        examples = tuple(in_one_line(", ".join(map(str, row))) for row in rows[:SHOWN_ROWS])
        findings.append(Finding(check, len(rows), examples))
    return findings


def publish(warehouse: Warehouse, run_id: str, version: str, wait_s: float = WRITER_WAIT_S) -> list[Finding]:
    """Publish the warehouse; gives the findings of the warning checks.

    Raises `PublishBlockedError` where a blocking check finds rows or a view of the copy cannot be read: the published file is then left as it was; and
    `PublishedUnrecordedError` where it is new, and only writing that down failed.
    """
    _refuse_other_database(warehouse.published_path)
    with lease(warehouse.path, f"publishing, run {run_id}", wait_s=wait_s):
        with _opened(warehouse.path, warehouse.memory_limit_mb) as connection:
            refresh_views(connection)
            findings = [f for f in run_checks(connection, checks(generic_streams(connection))) if f.count]
            if blocking := [f for f in findings if f.check.is_blocking]:
                told = ". ".join(map(str, blocking))
                raise PublishBlockedError(
                    f"{warehouse.published_path} was not replaced, because it would be wrong: {told}"
                )
        # What is published says that the run is over. The working file says so only when it is: a kill in between leaves a run that goes on.
        publication = (datetime.now(UTC), run_id, version)
        with (
            _copied(warehouse.path, warehouse.published_path) as copy,
            _opened(copy, warehouse.memory_limit_mb) as connection,
        ):
            _end(connection, *publication)
            _try_marts(connection, warehouse.published_path)
        is_noted = False
        try:
            with _opened(warehouse.path, warehouse.memory_limit_mb) as connection:
                _end(connection, *publication)
                is_noted = True
                put_in_order(connection, warehouse.path)  # when nobody waits for the published file any more
        except WarehouseError as error:
            if is_noted:
                # In the file's log, which the next run works in. Nothing that analysts or the run's row say is wrong.
                log.warning(
                    "%s is published. What is left to do in the working file waits for the next run: %s",
                    warehouse.published_path,
                    error,
                )
                return findings
            raise PublishedUnrecordedError(
                f"{warehouse.published_path} is new and complete, but the working file could not note that the run is over: {error}"
            ) from error
    return findings


def _refuse_other_database(published: Path) -> None:
    """Raise where what would be replaced is somebody's own database. What is missing, does not open, or is being written, is taken for a published file."""
    try:
        connection = connect(published, read_only=True)
    except WarehouseError as error:
        log.debug("Replaced without a look: %s", error)
        return
    with closing(connection):
        refuse_other_tables("WAREHOUSE_PUBLISHED_PATH", published, connection)


@contextmanager
def _opened(path: Path, memory_limit_mb: int) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = open_for_writing(path, memory_limit_mb)
    try:
        yield connection
        connection.execute("checkpoint")
    except WRITE_ERRORS as error:  # the checkpoint, or a check that spills to the disk
        raise not_written(error) from error
    except BaseException:
        end_query(connection)
        raise
    finally:
        connection.close()


def _end(connection: duckdb.DuckDBPyConnection, at: datetime, run_id: str, version: str) -> None:
    """The run is over; one that had problems stays red."""
    Runs(connection).end_run(run_id, [], [])
    connection.execute("insert into ops.publications values (?, ?, ?)", [at, run_id, version])


def _try_marts(copy: duckdb.DuckDBPyConnection, published: Path) -> None:
    """Ask each mart of the copy; raises `PublishBlockedError` where one does not answer."""
    mart = "data_status"
    try:
        copy.execute("select count(*) from marts.data_status").fetchone()
        for mart in marts():
            copy.execute(f"select * from marts.{mart} limit 0")  # noqa: S608  names of our files
    except duckdb.Error as error:
        raise PublishBlockedError(
            f"{published} was left as it was: marts.{mart} of its new copy cannot be read ({str(error).splitlines()[0]}). Run the sync once more, which "
            f"makes the views again; if it ends like this again, the file it copies is damaged: put a backup in its place."
        ) from error


@contextmanager
def _copied(source: Path, target: Path) -> Iterator[Path]:
    """A copy that takes the target's place when the `with` ends well: synced, renamed. The source is closed: copying an open file would drop DuckDB's lock."""
    if log_of(source).exists():
        raise WarehouseError(f"{source} was not closed cleanly; run the sync once more, which opens and mends it.")
    target = target.resolve()  # a symbolic link stays, and leads to the new file
    with writable("WAREHOUSE_PUBLISHED_PATH", target):
        for folder in [f for f in reversed(target.parents) if not f.exists()]:
            folder.mkdir(mode=0o750)
            folder.chmod(0o750)  # the group may come to what is published, whatever the umask
        target.parent.mkdir(exist_ok=True)  # refused where it is a file
        temporary = draft_of(target)
        for left in (temporary, log_of(temporary)):  # by a run that was killed here; it may be what fills the disk
            left.unlink(missing_ok=True)
    check_space(target.parent, source.stat().st_size)
    try:
        with writable("WAREHOUSE_PUBLISHED_PATH", target):
            shutil.copyfile(source, temporary)
        yield temporary
        temporary.chmod(0o640)
        sync_to_disk(temporary)
        _forget_log(target)
        temporary.replace(target)
        try:
            _forget_log(target)
            sync_to_disk(target.parent)
        except OSError as error:
            raise PublishedUnrecordedError(
                f"{target} is new and complete, but what follows the rename failed ({error.filename or target.parent}: {error.strerror}): if this machine "
                f"loses its power now, the file before it may be back. Put WAREHOUSE_PUBLISHED_PATH on a local disk."
            ) from error
    finally:
        temporary.unlink(missing_ok=True)
        log_of(temporary).unlink(missing_ok=True)
    log.info("Published %s (%.1f MB)", target, target.stat().st_size / 1e6)


def _forget_log(published: Path) -> None:
    """Remove the log that a client left beside the file: it belongs to the state that is replaced, and with it the new one could not be opened."""
    if log_of(published).exists():
        log_of(published).unlink()
        log.warning(
            "Somebody opened %s for writing. What was written there is gone, as it is each night: open it read-only, and keep tables of your own in a file "
            "of their own.",
            published,
        )
