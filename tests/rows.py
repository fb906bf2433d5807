"""Which rows of a warehouse differ from a truth, one by one; `equality` says how they differ.

What lives here: the question row by row, for tests that accept some differences and no others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from pipelines.streams import BUILT_IN
from resources.database import connect
from tests.equality import KEYS, _plain

Truth = Mapping[str, Sequence[Mapping[str, object]]]
# A row: its table and its key, which begins with the account.
Row = tuple[str, tuple[object, ...]]

TABLES = {
    stream.name: (stream.name, *(child.table for child in stream.children))
    for stream in BUILT_IN.values()
    if stream.name != "accounts"
}
STREAM_OF = {table: stream for stream, tables in TABLES.items() for table in tables}


def of_streams(truth: Truth, streams: Collection[str]) -> Truth:
    """The tables of some streams."""
    return {table: rows for table, rows in truth.items() if STREAM_OF.get(table) in streams}


def true_rows(truth: Truth) -> dict[Row, dict[str, object]]:
    """The rows of a truth by table and key."""
    return {
        (table, tuple(row[k] for k in KEYS[table])): {c: _plain(v) for c, v in row.items()}
        for table, rows in truth.items()
        for row in rows
    }


def stored_rows(path: Path, truth: Truth) -> dict[Row, dict[str, object]]:
    """The live rows of the truth's tables, with the truth's columns; a key that is there twice is an AssertionError."""
    found: dict[Row, dict[str, object]] = {}
    with connect(path, read_only=True) as connection:
        for table, rows in truth.items():
            columns = list(rows[0]) if rows else list(KEYS[table])
            description = connection.execute(
                f"select {', '.join(columns)} from core.{table} where deleted_at is null"  # noqa: S608  names of ours
            )
            kinds = [str(column[1]) for column in description.description or ()]
            for values in description.fetchall():
                row = {
                    c: _plain(json.loads(v, parse_float=Decimal) if kind == "JSON" and v is not None else v)
                    for c, kind, v in zip(columns, kinds, values, strict=True)
                }
                key = table, tuple(row[k] for k in KEYS[table])
                assert key not in found, f"twice: {key}"
                found[key] = row
    return found


def differing(path: Path, truth: Truth) -> set[Row]:
    """Rows that are missing, too many or otherwise than the truth."""
    true, stored = true_rows(truth), stored_rows(path, truth)
    return {row for row in true.keys() | stored.keys() if true.get(row) != stored.get(row)}


def windows(path: Path) -> set[tuple[str, str, datetime | None, datetime]]:
    """The committed windows of the streams that change: stream, account, since, until."""
    with connect(path, read_only=True) as connection:
        return set(
            connection.execute(
                "select stream, account_id, since, until from ops.windows where stream <> 'accounts'"
            ).fetchall()
        )


def watermarks(path: Path) -> dict[tuple[str, str], datetime | None]:
    """The watermark of each stream and account."""
    with connect(path, read_only=True) as connection:
        rows = connection.execute("select stream, account_id, watermark_at from ops.watermarks").fetchall()
        return {(stream, account): mark for stream, account, mark in rows}
