"""Frames as SQL sees them: under a name for the length of a `with`, as Arrow, with JSON declared as such.

What lives here: that, for every room that puts a frame into a statement. What does not: the statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import polars as pl  # slow to import, and reading a status needs none of it
    import pyarrow as pa


@contextmanager
def registered(
    connection: duckdb.DuckDBPyConnection, json: Collection[str] = (), **frames: pl.DataFrame
) -> Iterator[None]:
    """Frames visible to SQL under their names for the length of a `with`. `json`: columns that our own encoder wrote, or that were decoded."""
    for name, frame in frames.items():
        connection.register(name, _as_arrow(frame, json))
    try:
        yield
    finally:
        for name in frames:
            connection.unregister(name)


def _as_arrow(frame: pl.DataFrame, json: Collection[str]) -> pa.Table:
    """A frame as DuckDB reads it at the least cost: as Arrow, since it would turn polars into that for each statement that reads it.

    A column that is declared to be JSON is taken as such: a cast from text would parse each document once more, a third of what an insert costs. Texts
    are no views, as polars holds them: filters reach them, and pyarrow cannot filter views.
    """
    # DuckDB imports it when it meets the first table, and swallows what a signal raises there: a run that was told to end went on.
    import pyarrow.dataset  # noqa: F401  late, like all of pyarrow

    table = frame.to_arrow()
    declared = {b"ARROW:extension:name": b"arrow.json", b"ARROW:extension:metadata": b""}
    for place, name in enumerate(table.column_names):
        if name in json:
            table = table.set_column(place, table.field(place).with_metadata(declared), table.column(place))
    return table
