"""Members taken out of what is stored already, wherever the warehouse keeps JSON as it was sent: documents, replaced versions, records put aside, lists.

What lives here: those places, finding and replacing texts in them; rows and columns that stand for such a member, or that no name of the contract fills.
What does not: what is a member to take out (`pipelines.redaction`), which columns have no name (`pipelines.streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from resources.frames import registered
from resources.part import Table

# Place of a text among those given → what is to stand there, and its hash.
Clean = Callable[[Sequence[str]], Mapping[int, tuple[str, str]]]
TEXTS_AT_A_TIME = 2_000


@dataclass(frozen=True)
class Place:
    """A column that holds what was sent: `rows` are those of one stream, `digest` is the column with the hash of `text`."""

    table: str
    text: str
    digest: str
    rows: str


PLACES = (
    Place("core.{stream}", "document", "content_hash", "true"),
    Place("history.records", "document", "content_hash", "stream = '{stream}'"),
    Place("ops.quarantine", "record", "", "stream = '{stream}'"),
)


# Child tables whose rows may each have been a member: the column that holds its name.
NAMES = {"customer_custom_fields": "field_id", "booking_answers": "question_id"}


def erase(
    connection: duckdb.DuckDBPyConnection, stream: Table, word: str, clean: Clean, is_secret: Callable[[str], bool]
) -> int:
    """Replace the texts of a stream that `clean` finds something in, and take out rows that were such a member; gives how many.

    Where the contract adds the stream, the member's column goes as well: the view that publishing makes next has none.
    `word`: a pattern that whatever holds such a member matches, if it holds no escape. In the caller's transaction, since a row keeps its place only for
    that long.
    """
    count = 0
    for place in (*PLACES, *_of_children(connection, stream)):
        table, rows = place.table.format(stream=stream.stream), place.rows.format(stream=stream.stream)
        text = f"cast({place.text} as varchar)"
        suspects = connection.execute(
            f"""
            select rowid from {table}
            where {rows} and (regexp_matches({text}, $word) or contains({text}, '\\u') or strlen({text}) <> length({text}))
            """,  # noqa: S608  names are ours
            {"word": word},
        ).fetchall()
        for start in range(0, len(suspects), TEXTS_AT_A_TIME):
            some = suspects[start : start + TEXTS_AT_A_TIME]
            found = connection.execute(
                f"select rowid, {text} from {table} where rowid in (select unnest($places))",  # noqa: S608  names are ours
                {"places": [rowid for (rowid,) in some]},
            ).fetchall()
            kept = clean([sent for _, sent in found])
            if kept:
                _replace(connection, place, table, {found[n][0]: told for n, told in kept.items()})
                count += len(kept)
    _erase_columns(connection, stream, is_secret)
    return count + sum(_erase_rows(connection, stream, child, is_secret) for child in stream.children if child in NAMES)


def _erase_rows(
    connection: duckdb.DuckDBPyConnection, stream: Table, child: str, is_secret: Callable[[str], bool]
) -> int:
    """Take out rows that are called like such a member, but for those that their record still names in a list, where that is no member."""
    column = NAMES[child]
    names = connection.execute(f"select distinct {column} from core.{child}").fetchall()  # noqa: S608  names are ours
    on_key = " and ".join(f"stored.{key} = parent.{key}" for key in stream.key)
    counted = connection.execute(
        f"""
        delete from core.{child} as stored using core.{stream.stream} as parent
        where {on_key} and list_contains($secret, stored.{column})
            and not contains(cast(parent.document as varchar), '"' || stored.{column} || '"')
        """,  # noqa: S608  names are ours
        {"secret": [name for (name,) in names if is_secret(name)]},
    ).fetchone()
    return int(counted[0]) if counted else 0


def empty(connection: duckdb.DuckDBPyConnection, unnamed: Mapping[str, Sequence[str] | None]) -> int:
    """Empty columns, by table (None: take out all its rows); gives how many rows changed.

    Shaping again empties those of what is live. Children that are gone, and streams that are switched off, it leaves as they were once read.
    """
    count = 0
    for table, columns in unnamed.items():
        if columns is None:
            statement = f"delete from core.{table}"  # noqa: S608  names are ours
        elif columns:
            emptied, held = ", ".join(f"{c} = null" for c in columns), " or ".join(f"{c} is not null" for c in columns)
            statement = f"update core.{table} set {emptied} where {held}"  # noqa: S608  names are ours
        else:
            continue
        changed = connection.execute(statement).fetchone()
        count += int(changed[0]) if changed else 0
    return count


def _erase_columns(connection: duckdb.DuckDBPyConnection, stream: Table, is_secret: Callable[[str], bool]) -> None:
    members = connection.execute(
        "select distinct member from ops.generic_columns where stream = ?", [stream.stream]
    ).fetchall()
    connection.execute(
        "delete from ops.generic_columns where stream = $stream and list_contains($secret, member)",
        {"stream": stream.stream, "secret": [member for (member,) in members if is_secret(member)]},
    )


def _of_children(connection: duckdb.DuckDBPyConnection, stream: Table) -> list[Place]:
    columns = connection.execute(
        "select table_name, column_name from duckdb_columns() where schema_name = 'core' and data_type = 'JSON' and list_contains($tables, table_name)",
        {"tables": list(stream.children)},
    ).fetchall()
    return [Place(f"core.{table}", column, "", "true") for table, column in columns]


def _replace(
    connection: duckdb.DuckDBPyConnection, place: Place, table: str, texts: Mapping[int, tuple[str, str]]
) -> None:
    import polars as pl  # slow to import, and whoever opens the warehouse imports this

    columns = {
        "place": list(texts),
        "text": [text for text, _ in texts.values()],
        "digest": [d for _, d in texts.values()],
    }
    digest = f", {place.digest} = cleaned.digest" if place.digest else ""
    with registered(connection, cleaned=pl.DataFrame(columns)):
        connection.execute(
            f"update {table} as stored set {place.text} = cleaned.text{digest} from cleaned where stored.rowid = cleaned.place"  # noqa: S608  names are ours
        )
