"""Rows into tables: the merge with its children and history, tombstones, and typed columns shaped again. Inside a transaction of the caller's.

What lives here: filling in the templates of `sql/` with names from the catalogue, and counting. What does not: transactions (`warehouse`), what the
statements mean (`sql/merge.sql`, `sql/merge_child.sql`, `sql/tombstone.sql`, `sql/candidates.sql`), bookkeeping (`ledger`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from resources.database import sql_file
from resources.part import Commit, Counts, Part, Table


def merge(connection: duckdb.DuckDBPyConnection, commit: Commit) -> dict[str, Counts]:
    """Merge the rows of a commit, then the children of those that are new or changed; gives how many were which, by slice."""
    table = commit.table
    columns = _columns_of(connection, table.stream)
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
    with registered(connection, incoming=commit.rows):
        _run(connection, "merge.sql", names, {"is_sweep": commit.kind == "sweep"})
    counted = connection.execute(
        "select slice_id, action, count(*), count(*) filter (where is_same_version) from change group by all"
    ).fetchall()
    counts = {part.slice_id: Counts() for part in commit.parts}
    for slice_id, action, count, same_count in counted:
        own = counts[slice_id]
        match action:
            case "insert":
                own.inserted = count
            case "update":
                own.updated, own.silent = count, same_count
            case "unchanged":
                own.unchanged = count
            case "stale":
                own.stale = count
    if any(own.inserted or own.updated for own in counts.values()):
        merge_children(connection, table, commit.children)
        numbers = {part.slice_id: part.part_number for part in commit.parts}
        late = {"slice_ids": list(numbers), "part_numbers": list(numbers.values()), "stream": table.stream}
        connection.execute(sql_file("late_arrivals.sql"), late)
    connection.execute("drop table change")
    return counts


def merge_children(connection: duckdb.DuckDBPyConnection, table: Table, children: Mapping[str, pl.DataFrame]) -> None:
    """Children of the rows in the temporary table `change`."""
    for child, key in table.children.items():
        columns = [c for c in _columns_of(connection, child) if c != "deleted_at"]
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
        with registered(connection, incoming_child=children[child]):
            _run(connection, "merge_child.sql", names, {})


def tombstone(connection: duckdb.DuckDBPyConnection, table: Table, part: Part, gone: pl.DataFrame) -> int:
    """Turn rows into tombstones, their children with them; gives how many were still live."""
    names = {
        "table": table.stream,
        "stream": table.stream,
        "id": table.key[-1],
        "key": ", ".join(table.key),
        "on_gone": _equal("stored", "gone", table.key),
    }
    with registered(connection, gone=gone):
        changed = _run(connection, "tombstone.sql", names, {"slice_id": part.slice_id})
        for child in table.children:
            connection.execute(
                f"""
                update core.{child} as stored set deleted_at = gone.at from gone
                where {names["on_gone"]} and stored.deleted_at is null
                """  # noqa: S608  names come from the catalogue
            )
    return changed


def candidates(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    met: pl.DataFrame,
    account_ids: Sequence[str],
    began_at: datetime,
) -> list[tuple[str, ...]]:
    """Keys of live rows that a complete walk did not meet, though it should have (`sql/candidates.sql`)."""
    with registered(connection, met=met):
        return connection.execute(
            sql_file("candidates.sql").format(table=table.stream, key=", ".join(table.key)),
            {"account_ids": list(account_ids), "began_at": began_at},
        ).fetchall()


def renormalise(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, children: Mapping[str, pl.DataFrame]
) -> int:
    """Replace the typed columns of rows that are stored already, by key; gives how many rows changed."""
    columns = [
        c
        for c in _columns_of(connection, table.stream)
        if c in rows.columns and c not in ("document", "content_hash", "fetched_at")
    ]
    different = " or ".join(f"stored.{c} is distinct from incoming.{c}" for c in columns)
    on_key = _equal("stored", "incoming", table.key)
    with registered(connection, incoming=rows):
        changed = connection.execute(
            f"""
            update core.{table.stream} as stored set {_assignments(columns, "incoming")}
            from incoming where {on_key} and ({different})
            """  # noqa: S608  names come from the catalogue
        ).fetchone()
        connection.execute(
            f"""
            create or replace temp table change as
            select incoming.*, 'update' as action from incoming
            join core.{table.stream} as stored using ({", ".join(table.key)}) where stored.deleted_at is null
            """  # noqa: S608  names come from the catalogue
        )
        merge_children(connection, table, children)
    return int(changed[0]) if changed else 0


def _run(connection: duckdb.DuckDBPyConnection, file: str, names: Mapping[str, str], values: dict[str, Any]) -> int:
    """Run the statements of a template; gives the row count that the last one reports."""
    reported = 0
    for template in sql_file(file).split("-- ;\n"):
        statement = template.format(**names)
        needed = {k: v for k, v in values.items() if f"${k}" in statement}
        row = connection.execute(statement, needed).fetchone()
        reported = int(row[0]) if row and isinstance(row[0], int) else 0
    return reported


def _columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Columns of a core table in the order of the catalogue."""
    described = connection.execute(f"select * from core.{table} limit 0").description  # noqa: S608  names are ours
    return [column[0] for column in described or ()]


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, **frames: pl.DataFrame) -> Iterator[None]:
    """Frames visible to SQL under their names for the length of a `with`."""
    for name, frame in frames.items():
        connection.register(name, frame)
    try:
        yield
    finally:
        for name in frames:
            connection.unregister(name)


def _equal(left: str, right: str, columns: Sequence[str]) -> str:
    return " and ".join(f"{left}.{c} = {right}.{c}" for c in columns)


def _assignments(columns: Sequence[str], source: str) -> str:
    return ", ".join(f"{c} = {source}.{c}" for c in columns)
