"""The published file: what analysts open, written under a temporary name, checked, synced and renamed over the old one.

What lives here: the checks as a gate and the copy. What does not: what a check asks (`sql/checks`).
Publishing runs the blocking checks itself, whoever calls it. Readers of the old file keep it until they close it; a reader never meets a lock.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from resources.database import (
    WRITE_ERRORS,
    Check,
    check_space,
    checks,
    connect,
    end_query,
    marts,
    not_written,
    open_for_writing,
    transaction,
)
from resources.errors import PublishBlockedError, WarehouseError
from resources.generic import generic_streams, refresh_views
from resources.lease import lease
from resources.warehouse import WRITER_WAIT_S, Warehouse, Writer

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
        examples = tuple(", ".join(map(str, row)) for row in rows[:SHOWN_ROWS])
        findings.append(Finding(check, len(rows), examples))
    return findings


def publish(warehouse: Warehouse, run_id: str, version: str, wait_s: float = WRITER_WAIT_S) -> list[Finding]:
    """Publish the warehouse; gives the findings of the warning checks.

    Raises `PublishBlockedError` where a blocking check finds rows or a view of the copy cannot be read: the published file is then left as it was.
    """
    with lease(warehouse.path, f"publishing, run {run_id}", wait_s=wait_s):
        connection = open_for_writing(warehouse.path, warehouse.memory_limit_mb)
        try:
            refresh_views(connection)
            findings = [f for f in run_checks(connection, checks(generic_streams(connection))) if f.count]
            blocking = [f for f in findings if f.check.is_blocking]
            if blocking:
                told = "\n".join(f"  {finding}" for finding in blocking)
                raise PublishBlockedError(  # noqa: TRY301  what was being asked is ended whatever is raised
                    f"{warehouse.published_path} was not replaced, because it would be wrong:\n{told}"
                )
            # The run is over with this, and the published file says so; a run that had problems stays red.
            Writer(connection, warehouse.path).end_run(run_id, [], [])
            with transaction(connection):
                connection.execute(
                    "insert into ops.publications values (?, ?, ?)", [datetime.now(UTC), run_id, version]
                )
            connection.execute("checkpoint")
        except WRITE_ERRORS as error:  # the checkpoint, or a check that spills to the disk
            raise not_written(error) from error
        except BaseException:
            end_query(connection)
            raise
        finally:
            connection.close()
        _replace(warehouse.path, warehouse.published_path)
    return findings


def _replace(source: Path, target: Path) -> None:
    """Copy, check, sync, rename. The source is closed: copying an open file would drop DuckDB's lock on it."""
    if source.with_name(source.name + ".wal").exists():
        raise WarehouseError(f"{source} was not closed cleanly; run the sync once more, which opens and mends it.")
    for folder in [f for f in reversed(target.parents) if not f.exists()]:
        folder.mkdir(mode=0o750)
        folder.chmod(0o750)  # the group may come to what is published, whatever the umask
    check_space(target.parent, source.stat().st_size)
    temporary = target.with_name(f".{target.name}.new")
    try:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o640)
        _try_marts(temporary, target)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        temporary.unlink(missing_ok=True)
    log.info("Published %s (%.1f MB)", target, target.stat().st_size / 1e6)


def _try_marts(copy: Path, target: Path) -> None:
    """Ask each mart of the copy; raises `PublishBlockedError` where one does not answer."""
    mart = "data_status"
    with closing(connect(copy, read_only=True)) as connection:
        try:
            connection.execute("select count(*) from marts.data_status").fetchone()
            for mart in marts():
                connection.execute(f"select * from marts.{mart} limit 0")  # noqa: S608  names of our files
        except duckdb.Error as error:
            raise PublishBlockedError(
                f"{target} was left as it was: marts.{mart} of its new copy cannot be read ({str(error).splitlines()[0]}). Run the sync once more, which "
                f"makes the views again; if it ends like this again, the file it copies is damaged: put a backup in its place."
            ) from error
