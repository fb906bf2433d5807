"""Streams that the contract adds: one table each from one template, and a view that shows the attributes of its records as typed columns.

What lives here: making both. What does not: what such a stream is called and where it is read (`contract`), how its rows come (`merging`, like all).
The columns of a view are what the stored records hold (their JSON structure): there is no language to declare them in, and nothing to keep in step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import duckdb

from resources.database import transaction
from resources.sql_files import sql_file

# Columns that every such view has; an attribute of the same name gets `attribute_` before it.
OWN_COLUMNS = ("account_id", "record_id", "created_at", "updated_at")
SQL_TYPES = {
    "BOOLEAN": "BOOLEAN",
    "BIGINT": "BIGINT",
    "UBIGINT": "BIGINT",
    "DOUBLE": "DECIMAL(38, 9)",
    "VARCHAR": "VARCHAR",
}


def generic_streams(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """The streams that have such a table, by name."""
    rows = connection.execute(
        "select table_name from duckdb_columns() where schema_name = 'core' and column_name = 'record_id' order by 1"
    ).fetchall()
    return tuple(name for (name,) in rows)


def ensure_tables(connection: duckdb.DuckDBPyConnection, streams: Iterable[str]) -> None:
    """Make the tables that are missing, and the view over all of them again."""
    missing = set(streams) - set(generic_streams(connection))
    if not missing:
        return
    with transaction(connection):
        for stream in sorted(missing):
            connection.execute(sql_file("generic_stream.sql").format(stream=stream))
        rows = " union all ".join(
            f"select '{s}' as stream, account_id, deleted_at from core.{s}"  # noqa: S608  names of streams are checked by the contract
            for s in generic_streams(connection)
        )
        connection.execute(f"create or replace view ops.generic_rows as {rows}")


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `marts.<stream>` again for each such stream, with a column for each attribute and relationship that its records have by now."""
    for stream in generic_streams(connection):
        with transaction(connection):
            connection.execute(_view(connection, stream))
            told = (
                f"One row per live record of {stream}. Key: account_id, record_id. Columns are the attributes that records have had so far, and the ids "
                f"of what they name. Numbers are read as DuckDB reads JSON, fractions to nine places; what does not fit is null, and document holds "
                f"everything as sent. Times in UTC."
            )
            connection.execute(f"comment on view marts.{stream} is '{told}'")


def _view(connection: duckdb.DuckDBPyConnection, stream: str) -> str:
    columns = list(OWN_COLUMNS)
    taken = set(OWN_COLUMNS)

    def add(expression: str, name: str, ending: str = "") -> None:
        column = _column(name, ending, taken)
        taken.add(column)
        columns.append(f'{expression} as "{column}"')

    for name, structure in _structure(connection, stream, "attributes").items():
        path = _quoted(f"/data/attributes/{_pointer(name)}")
        if isinstance(structure, str) and structure in SQL_TYPES:
            add(f"try_cast(json_extract_string(document, {path}) as {SQL_TYPES[structure]})", name)
        else:  # objects, lists, and what is not always of one type; a JSON null is none of them
            add(f"case when json_type(document, {path}) <> 'NULL' then json_extract(document, {path}) end", name)
    for name, structure in _structure(connection, stream, "relationships").items():
        path = f"/data/relationships/{_pointer(name)}/data"
        linkage = structure.get("data") if isinstance(structure, dict) else None
        if isinstance(linkage, list):
            linked = f'from_json(json_extract(document, {_quoted(path)}), \'[{{"id": "VARCHAR"}}]\')'
            add(f"list_transform({linked}, lambda one: one.id)", name, "_ids")
        else:
            add(f"json_extract_string(document, {_quoted(path + '/id')})", name, "_id")
    return f"create or replace view marts.{stream} as select {', '.join(columns)} from core.{stream} where deleted_at is null"  # noqa: S608  quoted above


def _structure(connection: duckdb.DuckDBPyConnection, stream: str, member: str) -> dict[str, object]:
    """The members of all records, with their JSON types as DuckDB names them; {} where none has any.

    One whose name holds U+0000 is left out: no SQL text can hold it. `document` does.
    """
    row = connection.execute(
        f"select json_group_structure(json_extract(document, '/data/{member}')) from core.{stream}"  # noqa: S608  names are ours
    ).fetchone()
    found = json.loads(row[0]) if row and row[0] else {}
    return {name: kind for name, kind in found.items() if "\0" not in name} if isinstance(found, dict) else {}


def _column(name: str, ending: str, taken: set[str]) -> str:
    """A column's name for a member: snake_case, and no other column's."""
    column = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower().strip("_") or "unnamed"
    column += ending
    while column in taken:
        column = f"{'related' if ending else 'attribute'}_{column}"
    return column


def _pointer(name: str) -> str:
    """A member's name in a JSON Pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
