"""SQL on the published file: one text of statements, or a prompt. The connection cannot write to the file.

What lives here: reading statements, running them, the prompt's few words. What does not: how a table looks (`console`).
The file that is open stays the same when a newer one is published; leave and come back to see it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipelines.console import print_lines, print_table, shown
from resources.database import connect
from resources.errors import UsageError, must_exist

PROMPT, MORE = "sql> ", "...> "
# So many rows are shown as a table; the rest is only mentioned, since a forgotten `limit` must not flood a terminal.
ROWS_SHOWN = 1_000
HELP = "End a statement with a semicolon. .views lists the views, .help says this, .quit (or Ctrl-D) leaves."


@dataclass(frozen=True)
class Result:
    """What one statement gave. `has_more`: there are rows beyond those asked for."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]
    has_more: bool


@contextmanager
def open_published(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published file, for reading; raises `WarehouseError` where there is none."""
    must_exist(path)
    connection = connect(path, read_only=True)
    try:
        yield connection
    finally:
        connection.close()


def run(connection: duckdb.DuckDBPyConnection, text: str, most: int | None = None) -> Iterator[Result]:
    """Run the statements of a text, one after the other; raises `UsageError` with DuckDB's own words where one is wrong."""
    try:
        for statement in duckdb.extract_statements(text):
            connection.execute(statement)
            columns = [(name, str(kind)) for name, kind, *_ in connection.description or ()]
            rows = connection.fetchall() if most is None else connection.fetchmany(most + 1)
            yield Result(columns, rows[:most], most is not None and len(rows) > most)
    except duckdb.Error as error:
        raise UsageError(str(error)) from None
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # so DuckDB tells Ctrl-C during a query
        raise


def show(results: Iterator[Result]) -> None:
    """Results as tables."""
    for result in results:
        cells = [["NULL" if value is None else value for value in row] for row in result.rows]
        print_table([name for name, _ in result.columns], cells)
        if result.has_more:
            print_lines(f"Only the first {ROWS_SHOWN:,} rows are shown.")


def prompt(path: Path) -> None:
    """Read and run statements until the end of the input; without a terminal, all of standard input at once."""
    with open_published(path) as connection:
        if not sys.stdin.isatty():
            show(run(connection, sys.stdin.read(), ROWS_SHOWN))
            return
        (published,) = connection.execute("select max(published_at) from ops.publications").fetchone() or (None,)
        print_lines(f"{path}, as of {shown(published)}, for reading.", HELP)
        _edit_lines()
        converse(connection, input)


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The views for questions, those of lists that the contract adds too."""
    rows = connection.execute("select view_name from duckdb_views() where schema_name = 'marts' order by 1").fetchall()
    return [f"marts.{name}" for (name,) in rows]


def _edit_lines() -> None:
    """Arrow keys and history for `input`, where Python has them. No history file: statements may quote personal data."""
    try:
        import readline  # noqa: F401  importing it is what switches it on
    except ImportError:
        return  # without it `input` still reads lines


def converse(connection: duckdb.DuckDBPyConnection, ask: Callable[[str], str]) -> None:
    """The prompt: a statement may take several lines; a wrong one, or Ctrl-C, ends that statement and not the prompt."""
    text = ""
    while True:
        try:
            text += ask(MORE if text else PROMPT) + "\n"
            match text.strip():
                case "":
                    text = ""
                case ".quit" | ".exit" | "quit" | "exit":
                    return
                case ".help":
                    print_lines(HELP)
                    text = ""
                case ".views":
                    print_lines(*_views(connection))
                    text = ""
                case whole if whole.endswith(";"):
                    text = ""
                    show(run(connection, whole, ROWS_SHOWN))
        except EOFError:
            print_lines("")
            return
        except KeyboardInterrupt:
            print_lines("")
            text = ""
        except UsageError as error:
            print_lines(*str(error).split("\n"))  # DuckDB shows the place in a line of its own
