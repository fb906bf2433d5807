"""How anything is shown: a table, sentences or one JSON object, on standard output.

What lives here: cells, lines, what JSON can carry. What does not: what is shown of whom (`report`, `plan_report`, `status_report`, `connect.report`).
JSON: instants are ISO 8601 with Z, decimals text. Control characters of the API's texts are never sent to a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resources.errors import in_one_line

Json = dict[str, Any]
# Where output goes to a file or a program there is no width to fit, and a table must not lose its columns.
UNBOUND_WIDTH = 10_000


def printable(text: str) -> str:
    """A text without characters that would steer a terminal; line ends stay."""
    return "\n".join(map(in_one_line, text.split("\n")))


def plain(value: object) -> Any:
    """A value as JSON can carry it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal) or (isinstance(value, float) and not abs(value) < float("inf")):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def shown(value: object) -> str:
    """A value as a table's cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value.tzinfo else value.isoformat(sep=" ")
    return printable(value if isinstance(value, str) else str(plain(value)))


def print_json(value: Json) -> None:
    """One object on standard output."""
    print(json.dumps(plain(value), indent=2))


def print_lines(*lines: str) -> None:
    """Sentences on standard output, one a line."""
    for line in lines:
        print(in_one_line(line))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; numbers stand right, and nothing in a cell is taken for markup."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    held = [list(row) for row in rows]
    for number, name in enumerate(columns):
        is_number = any(isinstance(row[number], int | float | Decimal) for row in held)
        table.add_column(Text(printable(name)), justify="right" if is_number else "left", overflow="fold")
    for row in held:
        table.add_row(*(Text(shown(value)) for value in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = UNBOUND_WIDTH
    console.print(table)
