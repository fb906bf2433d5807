"""The DuckDB file as such: opening and closing it, bringing its schema up to date, and the only reader of `sql/`.

What lives here: connections, migrations, SQL files. What does not: what the tables mean (`warehouse`), publishing (`publish`).
Errors: `WarehouseError` with the cure. Every connection works in UTC, whatever the host's zone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from resources.errors import SettingsError, WarehouseError
from resources.settings import PROJECT_FOLDER

log = logging.getLogger(__name__)
# DuckDB asks for pandas three times for each parameter of a statement. Where it is not installed Python searches its whole path each time, two thirds of
# what an insert costs (docs/decisions.md); told once that it is absent, it does not.
if importlib.util.find_spec("pandas") is None:
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]  # None is Python's own mark for this, though the stubs do not know it
SQL_FOLDER = PROJECT_FOLDER / "sql"
# Readable by every client from 1.4 on, whatever version writes it: 2.x would write a format that 1.5 cannot open.
STORAGE = "v1.4.0"
# Where a DuckDB file says what it is.
MAGIC = slice(8, 12)
LEAST_FREE_BYTES = 64 * 1024 * 1024
# How much the log of committed transactions may hold before it is worked into the file. With DuckDB's own 16 MB every commit of 10,000 bookings did that,
# and each time wrote the last row group again (docs/performance.md).
LOG_MB = 256
# Until then memory holds it too, uncompressed; what does not fit there is written to disk and read again. So it is a share of what memory may hold.
LOG_SHARE = 0.6
# One thread for the connection that writes: for ten thousand rows at a time a second one costs more than it saves, and the cores are for reading and shaping.
WRITER_THREADS = 1
# From this migration on the column `document` is compressed with zstd, in every table that has one.
DOCUMENTS_ZSTD = 5


@dataclass(frozen=True)
class Check:
    """One file of `sql/checks`, for one stream: a query that returns offending rows; none means that it passes."""

    name: str
    stream: str
    is_blocking: bool
    says: str
    sql: str


@cache
def sql_file(name: str) -> str:
    """The text of a file below `sql/`."""
    return (SQL_FOLDER / name).read_text(encoding="utf-8")


@cache
def checks(generic: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """All checks; their headers give severity, stream and what a finding means.

    A file with `{stream}` in its text is one check for each stream that it names, called `<file>_<stream>`. The word `generic` among them stands for
    the streams that the contract adds, which the caller names.
    """
    found = []
    for path in sorted((SQL_FOLDER / "checks").glob("*.sql")):
        template = path.read_text(encoding="utf-8")
        named = re.findall(r"^-- stream: (.+)$", template, re.MULTILINE)[0].split(", ")
        for stream in [n for n in named if n != "generic"] + [g for g in generic if "generic" in named]:
            text = template.replace("{stream}", stream)
            header = dict(re.findall(r"^-- (severity|says): (.+)$", text, re.MULTILINE))
            name = f"{path.stem}_{stream}" if "{stream}" in template else path.stem
            found.append(Check(name, stream, header["severity"] == "block", header["says"], text))
    return tuple(found)


@cache
def marts() -> tuple[str, ...]:
    """Names of the mart views, in the order in which they are created."""
    names = []
    for path in sorted((SQL_FOLDER / "marts").glob("*.sql")):
        names += re.findall(r"create or replace view marts\.(\w+)", path.read_text(encoding="utf-8"))
    return tuple(names)


def connect(path: Path, *, read_only: bool, memory_limit_mb: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection in UTC; raises `WarehouseError` where the file is in use or cannot be opened."""
    config: dict[str, str | bool | int | float | list[str]] = {}
    if memory_limit_mb:
        config = {
            "memory_limit": f"{memory_limit_mb}MB",
            "preserve_insertion_order": "false",
            "storage_compatibility_version": STORAGE,
            "wal_autocheckpoint": f"{min(LOG_MB, int(memory_limit_mb * LOG_SHARE))}MB",
            "threads": WRITER_THREADS,
        }
    try:
        connection = duckdb.connect(path, read_only=read_only, config=config)
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            held = re.search(r"\(PID (\d+)\)", str(error))
            raise WarehouseError(
                f"{path} is open in another program{f' (process {held[1]})' if held else ''}. Close it there; "
                f"for reading, open the published file, which is never locked."
            ) from None
        raise WarehouseError(f"{path} cannot be opened: {_first_line(error)}.{_cure(str(error))}") from None
    connection.execute("set TimeZone = 'UTC'")  # the session's zone is the host's otherwise
    # After two seconds of one query it would be drawn on standard output, in the middle of what --json prints there.
    connection.execute("set enable_progress_bar = false")
    return connection


def refuse_other_files(setting: str, path: Path) -> None:
    """Raise `SettingsError` where the path of a DuckDB file leads to a folder, or to a file that is none and would be lost."""
    if path.is_dir():
        raise SettingsError(f"{setting} names {path}, which is a folder. Name a file in it.")
    try:
        with path.open("rb") as file:
            beginning = file.read(MAGIC.stop)
    except OSError:
        return  # not there yet, or not to be read: whoever opens it for work says so
    if beginning and beginning[MAGIC] != b"DUCK":
        raise SettingsError(f"{setting} names {path}, which is no DuckDB file and was left alone. Name another one.")


def end_query(connection: duckdb.DuckDBPyConnection) -> None:
    """End what a connection may still be computing.

    An exception that a signal raises during a query leaves the call and not the query: the next call, be it only to close, would wait for its result.
    """
    try:
        connection.interrupt()
    except duckdb.ConnectionException as error:
        log.debug("Nothing to end: %s", error)  # closed already, so nothing is being computed


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing, also when the process is told to stop in the middle."""
    try:
        connection.begin()  # in here: a signal may be raised when it has begun
        yield
        connection.commit()
    except BaseException as error:
        # A failed COMMIT or a full disk has already ended the transaction; the first error is the one that counts.
        end_query(connection)
        try:
            connection.rollback()
        except duckdb.Error as second:
            log.debug("Rolling back after an error: %s", second)
        if isinstance(error, WRITE_ERRORS):
            raise not_written(error) from error
        raise


# DuckDB's words for a file that was cut, or changed by something else.
DAMAGED = ("Could not read enough bytes", "checksum", "Corrupt", "not a valid DuckDB database file")
# What DuckDB raises where the disk refuses a write; after a FATAL one only opening the file again helps.
WRITE_ERRORS = (duckdb.TransactionException, duckdb.IOException, duckdb.FatalException)


def not_written(error: Exception) -> WarehouseError:
    """The sentence for one of `WRITE_ERRORS`."""
    cure = _cure(str(error)) or " What was committed before stays; see that its disk has room, and run again."
    return WarehouseError(f"The warehouse could not be written: {_first_line(error)}.{cure}")


def not_read(path: Path, error: Exception) -> WarehouseError:
    """The sentence for a file that opens, and whose bytes are not what they were."""
    return WarehouseError(f"{path} cannot be read: {_first_line(error)}.{_cure(str(error))}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _cure(told: str) -> str:
    """What helps where the bytes of the file are not what they were when it was closed; nothing where DuckDB's words say nothing of that."""
    if "replaying WAL" in told:
        return (
            " Where the file was restored from a backup, the log beside it (.wal), left by a run that was killed, belongs to another state of it: move "
            "the log away and run again. Whatever only the log holds is asked for again."
        )
    if any(words in told for words in DAMAGED):
        return (
            " The file is damaged: put a backup in its place, or a copy of the published file, and the next sync goes on from there. Without either, move "
            "it away, and the next sync reads everything again."
        )
    return ""


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise `WarehouseError` before a disk is full, rather than after."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + LEAST_FREE_BYTES:
        raise WarehouseError(
            f"{folder} has {free // 1_000_000} MB free, and {(needed_bytes + LEAST_FREE_BYTES) // 1_000_000} MB are needed. "
            f"Make room there, or name another place in WAREHOUSE_PATH and WAREHOUSE_PUBLISHED_PATH."
        )


def open_for_writing(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
    """The warehouse, made or migrated where needed. The caller holds the lease.

    Before an existing file is migrated a copy is kept beside it as `<name>.before-NNN`.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    check_space(path.parent, 0)
    _keep_private()
    connection = connect(path, read_only=False, memory_limit_mb=memory_limit_mb)
    try:
        path.chmod(0o600)  # also where a copy of the published file was put in its place
        done = _applied(connection)
        pending = [(n, f) for n, f in _migrations() if n not in done]
        newest = max((n for n, _ in _migrations()), default=0)
        _refuse_newer(path, max(done, default=0), newest)
        if pending and done:
            connection.close()
            _keep_copy(path, pending[0][0])
            connection = connect(path, read_only=False, memory_limit_mb=memory_limit_mb)
        for number, file in pending:
            _apply(connection, number, file)
        _refresh_marts(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_private() -> None:
    """From here on, what this process creates is for its owner alone (0600), unless it says otherwise.

    DuckDB makes the log of a transaction (`.wal`) and what it spills to disk whenever it likes, with the mode that the process's umask leaves, and both
    hold personal data. Setting their modes afterwards would leave them open for a moment, and for good after a kill.
    """
    before = os.umask(0o077)
    if before & ~0o077:
        os.umask(before | 0o077)


def _refuse_newer(path: Path, found: int, known: int) -> None:
    if found > known:
        raise WarehouseError(
            f"{path} was written by a newer version of this product (schema {found}, this one knows {known}). "
            f"Install that version again; nothing was changed."
        )


def _migrations() -> list[tuple[int, Path]]:
    return [(int(p.name[:3]), p) for p in sorted((SQL_FOLDER / "schema").glob("[0-9][0-9][0-9]_*.sql"))]


def _applied(connection: duckdb.DuckDBPyConnection) -> set[int]:
    with transaction(connection):
        connection.execute("create schema if not exists ops")
        connection.execute(
            "create table if not exists ops.migrations (number INTEGER, name VARCHAR, applied_at TIMESTAMPTZ)"
        )
    return {n for (n,) in connection.execute("select number from ops.migrations where number > 0").fetchall()}


def _keep_copy(path: Path, number: int) -> None:
    """A copy to go back to; the connection is closed, or copying would drop DuckDB's lock."""
    check_space(path.parent, path.stat().st_size)
    copy = path.with_name(f"{path.name}.before-{number:03d}")
    shutil.copyfile(path, copy)
    copy.chmod(0o600)  # also where an older copy, or the file itself, is open to others
    log.warning("The schema of %s is brought up to date; a copy of the file as it was is %s", path, copy)


def _apply(connection: duckdb.DuckDBPyConnection, number: int, file: Path) -> None:
    with transaction(connection):
        connection.execute(file.read_text(encoding="utf-8"))
        if number == DOCUMENTS_ZSTD:
            _compress_documents(connection)
        connection.execute("insert into ops.migrations values (?, ?, now())", [number, file.stem])


def _compress_documents(connection: duckdb.DuckDBPyConnection) -> None:
    """Make each table with a column `document` again, as it is declared, with that column compressed by zstd; DuckDB cannot alter a column's compression."""
    tables = connection.execute(
        """
        select schema_name, table_name, sql, comment from duckdb_tables() as tables
        where exists (
            from duckdb_columns() as columns where columns.table_oid = tables.table_oid and column_name = 'document' and data_type = 'JSON'
        )
        """
    ).fetchall()
    for schema, table, declared, said in tables:
        comments = connection.execute(
            "select column_name, comment from duckdb_columns() where schema_name = ? and table_name = ? and comment is not null",
            [schema, table],
        ).fetchall()
        connection.execute(f"alter table {schema}.{table} rename to {table}_before")
        connection.execute(declared.replace('"document" JSON', "document JSON using compression zstd", 1))
        connection.execute(f"insert into {schema}.{table} by name from {schema}.{table}_before")
        connection.execute(f"drop table {schema}.{table}_before")
        for kind, name, text in [("table", "", said), *(("column", f".{column}", text) for column, text in comments)]:
            quoted = text.replace("'", "''")
            connection.execute(f"comment on {kind} {schema}.{table}{name} is '{quoted}'")


def _refresh_marts(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the views again where their text has changed since it was last done."""
    texts = [p.read_text(encoding="utf-8") for p in sorted((SQL_FOLDER / "marts").glob("*.sql"))]
    name = "marts " + hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    if connection.execute("select 1 from ops.migrations where number = 0 and name = ?", [name]).fetchone():
        return
    with transaction(connection):
        for text in texts:
            connection.execute(text)
        connection.execute("delete from ops.migrations where number = 0")
        connection.execute("insert into ops.migrations values (0, ?, now())", [name])
