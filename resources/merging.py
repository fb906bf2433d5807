"""Rows into tables: the merge with its children and history, tombstones, and typed columns shaped again. Inside a transaction of the caller's.

What lives here: filling in the templates of `sql/` with names from the catalogue, and counting. What does not: transactions (`warehouse`), what the
statements mean (`sql/merge.sql`, `sql/merge_child.sql`, `sql/tombstone.sql`), what is stored (`state`), bookkeeping (`ledger`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

import duckdb

from resources.content import same_content
from resources.database import columns_of
from resources.frames import registered
from resources.part import Commit, Counts, Part, Table
from resources.sql_files import sql_file

if TYPE_CHECKING:
    import polars as pl  # slow to import, and reading a status needs none of it

# Documents that are compared, two of each row, are taken out of DuckDB so many at a time: a sweep may hold ten thousands of them.
COMPARED_AT_ONCE = 1_000


def merge(connection: duckdb.DuckDBPyConnection, commit: Commit) -> dict[str, Counts]:
    """Merge the rows of a commit, then the children of those that are new or changed; gives how many were which, by slice.

    What has nothing to do is not run: each statement costs milliseconds, and many commits hold few rows or new ones only.
    """
    table = commit.table
    columns = [c for c in columns_of(connection, f"core.{table.stream}") if c in commit.rows.columns]
    statements = _Statements(
        connection,
        "merge.sql",
        table=table.stream,
        id=table.key[-1],
        key=", ".join(table.key),
        incoming_key=", ".join(f"incoming.{c}" for c in table.key),
        whole_children="".join(f"incoming.{name}, " for name in _wholeness(table)),
        columns=", ".join(columns),
    )
    counts = {part.slice_id: Counts() for part in commit.parts}
    earliest: list[datetime] = []
    with registered(connection, _json_columns(connection, table.stream), incoming=commit.rows):
        statements.run("change", is_sweep=commit.kind == "sweep")
        doubtful = 0
        for slice_id, action, count, same_count, doubtful_count, first_change in statements.run("counts").fetchall():
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
            doubtful += doubtful_count
            if first_change is not None:
                earliest.append(first_change)
        if doubtful or any(own.updated for own in counts.values()):
            statements.run("known")
        if doubtful:
            _settle_doubts(statements, counts)
        total = sum(counts.values(), Counts())
        if total.updated:
            statements.run("history")
            statements.run("replaced")
        if total.inserted == commit.rows.height:
            statements.run("rows", which="")
        elif total.inserted or total.updated:
            statements.run("rows", which=_chosen(table.key, "insert", "update"))
    if total.inserted or total.updated:
        is_all_new = total.inserted == commit.rows.height
        merge_children(
            connection, table, commit.children, updated=total.updated, inserted=total.inserted, is_all_new=is_all_new
        )
    if earliest:
        _note_late(connection, commit, min(earliest))
    connection.execute("drop table change")
    connection.execute("drop table if exists known")
    return counts


def _settle_doubts(statements: _Statements, counts: dict[str, Counts]) -> None:
    """Make `unchanged`, in `change` and in the counts, what differs from the stored version in its hash and not in its content."""
    same = []
    found = statements.run("documents")
    while rows := found.fetchmany(COMPARED_AT_ONCE):
        for row, slice_id, action, is_same_version, known, came in rows:
            if same_content(known, came):
                same.append(row)
                own = counts[slice_id]
                own.unchanged += 1
                if action == "stale":
                    own.stale -= 1
                else:
                    own.updated -= 1
                    own.silent -= is_same_version
    if same:
        statements.run("unchanged", rows=str(same))  # one text: DuckDB converts the values of a list one by one


def _note_late(connection: duckdb.DuckDBPyConnection, commit: Commit, earliest: datetime) -> None:
    """Changes that came late; most commits hold none, and two comparisons show that without deriving all watermarks."""
    may_be = connection.execute(
        "select bool_or(since is null) and max(until) > $earliest from ops.windows where stream = $stream",
        {"stream": commit.table.stream, "earliest": earliest},
    ).fetchone()
    if may_be and may_be[0]:
        numbers = {part.slice_id: part.part_number for part in commit.parts}
        late = {"slice_ids": list(numbers), "part_numbers": list(numbers.values()), "stream": commit.table.stream}
        connection.execute(sql_file("late_arrivals.sql"), late)


def merge_children(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    children: Mapping[str, pl.DataFrame],
    *,
    updated: int,
    inserted: int,
    is_all_new: bool,
) -> None:
    """Children of the rows in the temporary table `change`, of which so many are updated and inserted. `is_all_new`: it holds nothing but inserts."""
    for child, key in table.children.items():
        frame = children[child]
        if not (updated or frame.height):
            continue
        columns = [c for c in columns_of(connection, f"core.{child}") if c != "deleted_at"]
        own = [c for c in columns if c not in (*table.key, *key)]
        statements = _Statements(
            connection,
            "merge_child.sql",
            table=child,
            parent_key=", ".join(table.key),
            child_key=", ".join((*table.key, *key)),
            is_whole=_is_whole(child, table.list_of.get(child)),
            is_different=" or ".join(f"known.{c} is distinct from came.{c}" for c in own) or "false",
            columns=", ".join(columns),
        )
        with registered(connection, _json_columns(connection, child), incoming_child=frame):
            if updated:
                statements.run("change")
                found = dict(statements.run("counts").fetchall())
                if "mark" in found:
                    statements.run("marks")
                if "replace" in found:
                    statements.run("replaced")
                if found.keys() & {"insert", "replace"}:
                    statements.run("rows")
            if inserted and frame.height:
                statements.run("rows of new parents", which="" if is_all_new else _chosen(table.key, "insert"))


def tombstone(connection: duckdb.DuckDBPyConnection, table: Table, part: Part, gone: pl.DataFrame) -> int:
    """Turn rows into tombstones, their children with them; gives how many were still live."""
    statements = _Statements(
        connection,
        "tombstone.sql",
        table=table.stream,
        id=table.key[-1],
        key=", ".join(table.key),
        on_gone=_is_stored("gone", table.key),
    )
    with registered(connection, gone=gone):
        statements.run("history", slice_id=part.slice_id)
        changed = statements.run("rows", slice_id=part.slice_id).fetchone()
        for child in table.children:
            _mark(connection, child, table.key)
    return int(changed[0]) if changed else 0


def renormalise(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, children: Mapping[str, pl.DataFrame]
) -> int:
    """Replace the typed columns of rows that are stored already, by key; gives how many rows changed."""
    columns = [
        c
        for c in columns_of(connection, f"core.{table.stream}")
        if c in rows.columns and c not in ("document", "content_hash", "fetched_at")
    ]
    different = " or ".join(f"stored.{c} is distinct from incoming.{c}" for c in columns)
    on_key = _is_stored("incoming", table.key)
    with registered(connection, _json_columns(connection, table.stream), incoming=rows):
        changed = connection.execute(
            f"""
            update core.{table.stream} as stored set {", ".join(f"{c} = incoming.{c}" for c in columns)}
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
        merge_children(connection, table, children, updated=rows.height, inserted=0, is_all_new=False)
    return int(changed[0]) if changed else 0


def mark(connection: duckdb.DuckDBPyConnection, table: Table, gone: Mapping[str, pl.DataFrame]) -> None:
    """Mark children as gone, by table: their key, `at`."""
    for child, frame in gone.items():
        if frame.height:
            with registered(connection, gone=frame):
                _mark(connection, child, (*table.key, *table.children[child]))


def _mark(connection: duckdb.DuckDBPyConnection, child: str, key: Sequence[str]) -> None:
    """Mark the live children that the frame `gone` names by a key of theirs, or of their parent's."""
    connection.execute(
        f"update core.{child} as stored set deleted_at = gone.at from gone where {_is_stored('gone', key)} and stored.deleted_at is null"  # noqa: S608  names come from the catalogue
    )


def _wholeness(table: Table) -> list[str]:
    """The columns of incoming rows that say which lists of children came whole."""
    return [f"whole_{child}" for child in table.children] + [f"except_{child}" for child in table.list_of]


def _is_whole(child: str, list_of: str | None) -> str:
    """Whether the list in which a stored child stands came whole with its parent; the contrary holds of those lists that `except_<child>` names."""
    whole = f"change.whole_{child}"
    return f"{whole} <> coalesce(list_contains(change.except_{child}, stored.{list_of}), false)" if list_of else whole


class _Statements:
    """The statements of one file of `sql/` by the names in their first lines, with the names in braces filled in as they are run."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, file: str, **names: str) -> None:
        self._connection = connection
        self._templates = _templates(file)
        self._names = names

    def run(self, name: str, which: str = "", **values: object) -> duckdb.DuckDBPyConnection:
        """Run one of them. `which`: a condition on the rows that it takes, where the template has a place for one."""
        return self._connection.execute(self._templates[name].format(**self._names, which=which), values)


@cache
def _templates(file: str) -> dict[str, str]:
    found = {}
    for text in sql_file(file).split("-- ;\n"):
        # A file's own header stands before its first statement, with an empty line between.
        statement = text.split("\n\n", 1)[-1]
        found[statement.splitlines()[0].removeprefix("-- ").split(":")[0]] = statement
    return found


def _chosen(key: Sequence[str], *actions: str) -> str:
    """A semi join with the rows of `change` for which one of the actions was decided."""
    wanted = ", ".join(f"'{action}'" for action in actions)
    return f"semi join (select {', '.join(key)} from change where action in ({wanted})) using ({', '.join(key)})"  # noqa: S608  names are ours


def _json_columns(connection: duckdb.DuckDBPyConnection, table: str) -> Collection[str]:
    return [name for name, kind in columns_of(connection, f"core.{table}").items() if kind == "JSON"]


def _is_stored(frame: str, key: Sequence[str]) -> str:
    return " and ".join(f"stored.{c} = {frame}.{c}" for c in key)
