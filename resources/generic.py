"""Streams that the contract adds: one table each from one template, and a view that shows the attributes of its records as typed columns.

What lives here: making both, and which column stands for which member. What does not: what such a stream is called and where it is read (`contract`),
how its rows come (`merging`, like all), taking out a column whose member is redacted (`erasing`).

There is no language to declare columns in. A member gets its column when publishing first finds a value of it that is not null, and `ops.generic_columns`
keeps that for good: the column's name, its place behind all earlier ones, and its type. The type is that of all values which the stored records hold at
that moment: BOOLEAN, BIGINT, DECIMAL(38,9) where a number has a fraction, VARCHAR; JSON for objects, lists, and values of several types. For a relationship
it is VARCHAR, or VARCHAR[] where all that records hold are lists. Later values change it in one case: BIGINT becomes DECIMAL(38,9) with the first fraction,
since that loses nothing. VARCHAR and JSON take any value; elsewhere one that does not fit is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

import duckdb

from resources.database import transaction
from resources.sql_files import sql_file

# Columns that every such view has; an attribute of the same name gets `attribute_` before it.
OWN_COLUMNS = ("account_id", "record_id", "created_at", "updated_at")
ATTRIBUTE, RELATIONSHIP = "attribute", "relationship"
# What DuckDB calls the JSON type of a number without a fraction.
WHOLE = frozenset({"BIGINT", "UBIGINT"})
FRACTION = "DOUBLE"
# How each type of column reads an attribute. `text` is the value as text, null for a JSON null; a number or a truth value that is sent as text fits, too.
# No cast but to a decimal: DuckDB rounds 12.5 to a BIGINT, and takes 1 and yes for true.
READINGS = {
    "BOOLEAN": "case {text} when 'true' then true when 'false' then false end",
    "BIGINT": "case when regexp_full_match({text}, '-?[0-9]+') then try_cast({text} as BIGINT) end",
    "DECIMAL(38,9)": "try_cast({text} as DECIMAL(38,9))",
    "VARCHAR": "{text}",
    "JSON": "case when json_type(document, {path}) <> 'NULL' then json_extract(document, {path}) end",
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
    """Make `marts.<stream>` again for each such stream, with a column for each attribute and relationship that its records ever had a value of."""
    for stream in generic_streams(connection):
        with transaction(connection):
            _add_columns(connection, stream)
            connection.execute(_view(connection, stream))
            told = (
                f"One row per live record of {stream}. Key: account_id, record_id. Columns are the attributes that records have had so far, and the ids "
                f"of what they name; ops.generic_columns says which is which. They are only ever added, and keep name, place and type, but that whole "
                f"numbers become decimals with the first fraction. Numbers are read as DuckDB reads JSON, fractions to nine places; what does not fit is "
                f"null, and document in core.{stream} holds everything as sent. Times in UTC."
            )
            connection.execute(f"comment on view marts.{stream} is '{told}'")
            for column, comment in connection.execute(
                "select column_name, comment from duckdb_columns() where schema_name = 'core' and table_name = ? and list_contains(?, column_name)",
                [stream, OWN_COLUMNS],
            ).fetchall():
                connection.execute(f"comment on column marts.{stream}.{column} is {_quoted(comment)}")


def _add_columns(connection: duckdb.DuckDBPyConnection, stream: str) -> None:
    """Add to `ops.generic_columns` the members that are new; nothing is written where none is."""
    rows = connection.execute(
        "select kind, member, column_name, column_type from ops.generic_columns where stream = ?", [stream]
    ).fetchall()
    known = {(kind, member): column_type for kind, member, _, column_type in rows}
    taken = {*OWN_COLUMNS, *(column for _, _, column, _ in rows)}
    # Sorted, since the order of records in the file is no order to name anything by: it changes with each merge.
    for (kind, member), held in sorted(_members(connection, stream).items()):
        if (kind, member) not in known:
            column_type = _type(kind, held)
            column = _column(member, kind, column_type, taken)
            taken.add(column)
            connection.execute(
                """
                insert into ops.generic_columns
                select $stream, $kind, $member, $column, $column_type, coalesce(max(place), 0) + 1, now() from ops.generic_columns where stream = $stream
                """,
                {"stream": stream, "kind": kind, "member": member, "column": column, "column_type": column_type},
            )
        elif known[kind, member] == "BIGINT" and FRACTION in held:
            connection.execute(
                "update ops.generic_columns set column_type = 'DECIMAL(38,9)' where stream = ? and kind = ? and member = ?",
                [stream, kind, member],
            )


def _members(connection: duckdb.DuckDBPyConnection, stream: str) -> dict[tuple[str, str], set[str]]:
    """The members that stored records hold a value of, by kind and name, with the JSON types of those values as DuckDB names them.

    Of a relationship it is its linkage that counts. A name that holds U+0000 is left out: no SQL text can hold it. `document` does.
    """
    # json_group_structure would hold the structure of every record in memory at the same time, and a join with json_each every record.
    rows = connection.execute(
        f"""
        select distinct kind, member, held
        from (
            select
                $attribute as kind,
                unnest(json_keys(document, '$.data.attributes')) as member,
                unnest(json_type(document, '$.data.attributes.*')) as held
            from core.{stream}
            union all
            select $relationship, member, json_type(relationship, '/data')
            from (
                select
                    unnest(json_keys(document, '$.data.relationships')) as member,
                    unnest(json_extract(document, '$.data.relationships.*')) as relationship
                from core.{stream}
            )
        )
        where held <> 'NULL'
        """,  # noqa: S608  names are ours
        {"attribute": ATTRIBUTE, "relationship": RELATIONSHIP},
    ).fetchall()
    found: dict[tuple[str, str], set[str]] = {}
    for kind, member, held in rows:
        if "\0" not in member:
            found.setdefault((kind, member), set()).add(held)
    return found


def _type(kind: str, held: Set[str]) -> str:
    """The type of a new column, for the JSON types of the values that records hold."""
    if kind == RELATIONSHIP:
        return "VARCHAR[]" if held == {"ARRAY"} else "VARCHAR"
    if held <= WHOLE:
        return "BIGINT"
    if held <= {*WHOLE, FRACTION}:
        return "DECIMAL(38,9)"
    (one, *more) = held
    return one if not more and one in READINGS else "JSON"


def _view(connection: duckdb.DuckDBPyConnection, stream: str) -> str:
    rows = connection.execute(
        "select kind, member, column_name, column_type from ops.generic_columns where stream = ? order by place",
        [stream],
    ).fetchall()
    columns = [f'{_reading(kind, member, column_type)} as "{column}"' for kind, member, column, column_type in rows]
    return f"create or replace view marts.{stream} as select {', '.join([*OWN_COLUMNS, *columns])} from core.{stream} where deleted_at is null"  # noqa: S608  quoted below


def _reading(kind: str, member: str, column_type: str) -> str:
    """The SQL that reads a member out of `document`."""
    path = f"/data/{kind}s/{_pointer(member)}"
    if kind == ATTRIBUTE:
        quoted = _quoted(path)
        return READINGS[column_type].format(path=quoted, text=f"json_extract_string(document, {quoted})")
    if column_type == "VARCHAR[]":
        linked = f'from_json(json_extract(document, {_quoted(path + "/data")}), \'[{{"id": "VARCHAR"}}]\')'
        return f"list_transform({linked}, lambda one: one.id)"
    return f"json_extract_string(document, {_quoted(path + '/data/id')})"


def _column(member: str, kind: str, column_type: str, taken: Set[str]) -> str:
    """A new column's name for a member: snake_case, and no other column's."""
    column = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", member)).lower().strip("_") or "unnamed"
    if kind == RELATIONSHIP:
        column += "_ids" if column_type == "VARCHAR[]" else "_id"
    while column in taken:
        column = f"{'related' if kind == RELATIONSHIP else 'attribute'}_{column}"
    return column


def _pointer(name: str) -> str:
    """A member's name in a JSON Pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
