"""The DuckDB file as such: opening and closing it, transactions, and what helps where it cannot be opened or written.

What lives here: connections, columns of tables, putting the file in order, writing it anew. What does not: what lies beside it (`files`), bringing its
schema up to date (`migrations`), what the tables mean (`warehouse`, `state`), publishing (`publish`).
Errors: `WarehouseError` with the cure. Every connection works in UTC, whatever the host's zone.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from resources.errors import WarehouseError
from resources.files import draft_of, has_space, keep_private, log_of, sync_to_disk

log = logging.getLogger(__name__)
# DuckDB asks for pandas three times for each parameter of a statement. Where it is not installed Python searches its whole path each time, two thirds of
# what an insert costs (docs/decisions.md); told once that it is absent, it does not.
if importlib.util.find_spec("pandas") is None:
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]  # None is Python's own mark for this, though the stubs do not know it
# Readable by every client from 1.4 on, whatever version writes it: 2.x would write a format that 1.5 cannot open.
STORAGE = "v1.4.0"
# What stands before its first block.
HEADERS_BYTES = 3 * 4096
# How much the log of committed transactions may hold before it is worked into the file, which makes a row group of it. With DuckDB's own 16 MB those
# would be small, and the file half as large again (docs/performance.md, "Loading").
LOG_MB = 256
# Until then memory holds it too, uncompressed; what does not fit there is written to disk and read again. So it is a share of what memory may hold.
LOG_SHARE = 0.6
# One thread for each connection, the caller's own. Closing the last connection, DuckDB 1.5.6 frees what a thread of its own may still be letting go of,
# and the process ends with SIGSEGV (docs/decisions.md). For ten thousand rows at a time a second thread costs the writer more than it saves, too.
THREADS = 1
# After every so many runs the file is put in order, and DuckDB's own limit for pieces of that work.
IN_ORDER_EVERY = 6
VACUUM_TASKS = 100


def connect(path: Path, *, read_only: bool, memory_limit_mb: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection in UTC; raises `WarehouseError` where the file is in use or cannot be opened."""
    keep_private()
    config: dict[str, str | bool | int | float | list[str]] = {"threads": THREADS}
    if memory_limit_mb:
        config |= {
            "memory_limit": f"{memory_limit_mb}MB",
            "preserve_insertion_order": "false",
            "storage_compatibility_version": STORAGE,
            "wal_autocheckpoint": f"{min(LOG_MB, int(memory_limit_mb * LOG_SHARE))}MB",
            # Each time, DuckDB would fill up row groups with the rows of their neighbours: two fifths of what loading a million bookings took.
            "max_vacuum_tasks": 0,
        }
    try:
        connection = duckdb.connect(path, read_only=read_only, config=config)
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            held = re.search(r"\(PID (\d+)\)", str(error))
            raise WarehouseError(
                f"{path} is open in another program{f' (process {held[1]})' if held else ''}. Close it there; "
                f"for reading, open the published file read-only, which no run locks."
            ) from None
        raise WarehouseError(f"{path} cannot be opened: {_first_line(error)}.{_cure(str(error))}") from None
    connection.execute("set TimeZone = 'UTC'")  # the session's zone is the host's otherwise
    # After two seconds of one query it would be drawn on standard output, in the middle of what --json prints there.
    connection.execute("set enable_progress_bar = false")
    return connection


def put_in_order(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Every sixth time, have the next checkpoint take the place of replaced rows back and join small row groups, where the disk has room.

    Until then each checkpoint leaves a row group in each table that it adds to, a block however few the rows; so those of `ops.runs` count the runs. Much of
    the file may be written again, beside what is there.
    """
    asked = "select count(distinct row_group_id) from pragma_storage_info('ops.runs')"
    # The end of this run, which no checkpoint has met yet, stands in one more.
    if connection.execute(asked).fetchall()[0][0] <= IN_ORDER_EVERY + 1:
        return
    if not has_space(path.resolve().parent, path.stat().st_size):  # a symbolic link may lead to another disk
        log.warning("%s was not put in order: its disk has no room for it once more.", path)
        return
    connection.execute(f"set max_vacuum_tasks = {VACUUM_TASKS}")


def write_anew(path: Path, memory_limit_mb: int) -> None:
    """Write a closed file once more and put that in its place: in the old one the bytes of what was deleted stay readable. The caller holds the lease."""
    draft = draft_of(path)
    try:
        with closing(connect(draft, read_only=False, memory_limit_mb=memory_limit_mb)) as connection:
            try:
                connection.execute("set preserve_insertion_order = true")
                (name,) = connection.execute("select current_database()").fetchone() or ("",)
                quoted = str(path).replace("'", "''")
                # A name that a file has from itself has no dot in it.
                connection.execute(f"attach '{quoted}' as \"file.before\" (read_only)")
                connection.execute(f'copy from database "file.before" to "{name}"')
                connection.execute("checkpoint")
            except BaseException:
                end_query(connection)
                raise
        sync_to_disk(draft)
        draft.replace(path)
        sync_to_disk(path.parent)
    finally:
        for left in (draft, log_of(draft)):
            left.unlink(missing_ok=True)


def refuse_other_tables(setting: str, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Raise `WarehouseError` where an open file holds tables and is no warehouse: somebody's own database, which would be added to, or lost."""
    (tables, own) = connection.execute(
        "select count(*), count(*) filter (where schema_name = 'ops' and table_name = 'migrations') from duckdb_tables()"
    ).fetchone() or (0, 0)
    if tables and not own:
        raise WarehouseError(
            f"{setting} names {path}, a DuckDB file that holds other tables than a warehouse's and was left alone. Name another one, or move it away."
        )


_columns: dict[str, dict[str, str]] = {}


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Columns of a table and their types, in the order of the catalogue, which is asked once: they are the same in every file that this version writes."""
    if table not in _columns:
        described = connection.execute(f"select * from {table} limit 0").description  # noqa: S608  names are ours
        _columns[table] = {name: str(kind) for name, kind, *_ in described or ()}
    return _columns[table]


def end_query(connection: duckdb.DuckDBPyConnection) -> None:
    """End what a connection may still be computing.

    An exception that a signal raises during a query leaves the call and not the query: the next call, be it only to close, would wait for its result. A
    checkpoint comes to its end all the same, and closing lets go of no result: until the next query its file counts as open, and to open it again would be
    to wait for that in a loop that nothing ends.
    """
    try:
        connection.interrupt()
        connection.execute("select 1")
    except duckdb.Error as error:
        log.debug("Nothing to end, or nothing can be asked any more: %s", error)


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
CURE_OF_DAMAGE = (
    " The file is damaged: put a backup in its place, or a copy of the published file, and the next sync goes on from there. Without either, move it away, "
    "and the next sync reads everything again."
)
# What DuckDB raises where the disk refuses a write; after a FATAL one only opening the file again helps.
WRITE_ERRORS = (duckdb.TransactionException, duckdb.IOException, duckdb.FatalException)


def not_written(error: Exception) -> WarehouseError:
    """The sentence for one of `WRITE_ERRORS`."""
    cure = _cure(str(error)) or " What was committed before stays; see that its disk has room, and run again."
    return WarehouseError(f"The warehouse could not be written: {_first_line(error)}.{cure}")


def not_read(path: Path, error: Exception) -> WarehouseError:
    """The sentence for a file that opens, and whose bytes are not what they were."""
    return WarehouseError(f"{path} cannot be read: {_first_line(error)}.{_cure(str(error))}")


def count_runs_of_whole_file(path: Path) -> int:
    """How many runs a file knows of; raises `WarehouseError` where it is no warehouse, is damaged, or a part of it is missing.

    A file that was cut opens all the same, and answers until a question comes to what is missing.
    """
    with closing(connect(path, read_only=True)) as connection:
        try:
            needed, runs = connection.execute(
                "select block_size * total_blocks, (select count(*) from ops.runs) from pragma_database_size()"
            ).fetchone() or (0, 0)
            size = path.stat().st_size
            is_cut = size < needed and _is_used_beyond(connection, size)
        except duckdb.CatalogException:
            raise WarehouseError(
                f"{path} holds no warehouse. Name another file in the settings, or move this one away."
            ) from None
        except WRITE_ERRORS as error:
            raise not_read(path, error) from error
    if is_cut:
        raise WarehouseError(f"{path} cannot be read: of its {needed:,} bytes {size:,} are there.{CURE_OF_DAMAGE}")
    return int(runs)


def _is_used_beyond(connection: duckdb.DuckDBPyConnection, size: int) -> bool:
    """Whether anything stands in a file behind so many bytes.

    That there are fewer than it says proves no cut: DuckDB notes how many blocks there are, and then lets go of those at the end in which nothing stands.
    """
    tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
    used = ["select block_id from pragma_metadata_info()"]
    for schema, table in tables:
        blocks = "unnest(list_append(additional_block_ids, block_id))"
        used.append(f'select {blocks} from pragma_storage_info(\'"{schema}"."{table}"\')')  # noqa: S608  names come from the catalogue
    asked = f"select block_size * (max(block_id) + 1) from ({' union all '.join(used)}), pragma_database_size() group by block_size"  # noqa: S608
    try:
        (blocks_end,) = connection.execute(asked).fetchone() or (0,)
    except duckdb.IOException as error:
        log.debug("What is asked for is among what is missing: %s", error)
        return True
    return HEADERS_BYTES + int(blocks_end) > size


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _cure(told: str) -> str:
    """What helps where the bytes of the file are not what they were when it was closed; nothing where DuckDB's words say nothing of that."""
    if "replaying WAL" in told:
        return (
            " Where the file was restored from a backup, the log beside it (.wal), left by a run that was killed, belongs to another state of it: move "
            "the log away and run again. Whatever only the log holds is asked for again."
        )
    return CURE_OF_DAMAGE if any(words in told for words in DAMAGED) else ""
