"""The schema of the working file, brought up to date whenever it is opened for writing: tables by numbered migrations, views by their text.

What lives here: which migrations are missing, the copy before them, their steps in Python. What does not: what they make (`sql/schema`, `sql/marts`), tables
of the streams that the contract adds (`generic`).
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from resources.database import connect, refuse_other_tables, transaction
from resources.errors import WarehouseError
from resources.files import check_space, copy_before, draft_of, remove_leftovers
from resources.sql_files import mart_texts, migration_files

log = logging.getLogger(__name__)
# From this migration on the column `document` is compressed with zstd, in every table that has one.
DOCUMENTS_ZSTD = 5


def open_for_writing(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
    """The warehouse, made or migrated where needed. The caller holds the lease, which has made the folder.

    Before an existing file is migrated a copy is kept beside it as `<name>.before-NNN`.
    """
    remove_leftovers(path)  # first: they may be what fills the disk
    check_space(path.parent, 0)
    connection = connect(path, read_only=False, memory_limit_mb=memory_limit_mb)
    try:
        refuse_other_tables("WAREHOUSE_PATH", path, connection)
        path.chmod(0o600)  # also where a copy of the published file was put in its place
        done = _applied(connection)
        known = migration_files()
        pending = [one for one in known if one[0] not in done]
        _refuse_newer(path, max(done, default=0), known[-1][0])
        if pending and done:
            connection.close()
            _keep_copy(path, pending[0][0])
            connection = connect(path, read_only=False, memory_limit_mb=memory_limit_mb)
        for number, name, text in pending:
            _apply(connection, number, name, text)
        _refresh_marts(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_newer(path: Path, found: int, known: int) -> None:
    if found > known:
        raise WarehouseError(
            f"{path} was written by a newer version of this product (schema {found}, this one knows {known}). "
            f"Install that version again; nothing was changed."
        )


def _applied(connection: duckdb.DuckDBPyConnection) -> set[int]:
    with transaction(connection):
        connection.execute("create schema if not exists ops")
        connection.execute(
            "create table if not exists ops.migrations (number INTEGER, name VARCHAR, applied_at TIMESTAMPTZ)"
        )
    return {n for (n,) in connection.execute("select number from ops.migrations").fetchall()}


def _keep_copy(path: Path, number: int) -> None:
    """A copy to go back to, by its name only when it is whole; the connection is closed, or copying would drop DuckDB's lock."""
    check_space(path.parent, path.stat().st_size)
    copy = copy_before(path, f"{number:03d}")
    half = draft_of(copy)
    try:
        shutil.copyfile(path, half)
        half.chmod(0o600)  # also where one that a kill left is open to others
        half.replace(copy)
    finally:
        half.unlink(missing_ok=True)
    log.warning("The schema of %s is brought up to date; a copy of the file as it was is %s", path, copy)


def _compress_documents(connection: duckdb.DuckDBPyConnection) -> None:
    """Make each table with a column `document` again, as it is declared, with that column compressed by zstd; DuckDB cannot alter a column's compression."""
    tables = connection.execute(
        """
        select schema_name, table_name, sql, comment from duckdb_tables() as tables
        where exists (
            from duckdb_columns() as columns where columns.table_oid = tables.table_oid and column_name = 'document'
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


# What a migration does besides its file, after it and in the same transaction, where SQL alone cannot say it.
STEPS: Mapping[int, Callable[[duckdb.DuckDBPyConnection], None]] = {DOCUMENTS_ZSTD: _compress_documents}


def _apply(connection: duckdb.DuckDBPyConnection, number: int, name: str, text: str) -> None:
    with transaction(connection):
        connection.execute(text)
        if number in STEPS:
            STEPS[number](connection)
        connection.execute("insert into ops.migrations values (?, ?, now())", [number, name])


def _refresh_marts(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the views again where their text has changed since it was last done."""
    texts = mart_texts()
    name = "marts " + hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    if connection.execute("select 1 from ops.migrations where number = 0 and name = ?", [name]).fetchone():
        return
    with transaction(connection):
        for text in texts:
            connection.execute(text)
        connection.execute("delete from ops.migrations where number = 0")
        connection.execute("insert into ops.migrations values (0, ?, now())", [name])
