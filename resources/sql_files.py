"""The only reader of `sql/`: the text of its files, and the names of what they make.

What lives here: files, and the headers of checks. What does not: running any of them (`migrations`, `merging`, `generic`, `publish`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from resources.settings import PROJECT_FOLDER

SQL_FOLDER = PROJECT_FOLDER / "sql"


@dataclass(frozen=True)
class Check:
    """One file of `sql/checks`, for one stream: a query that returns offending rows; none means that it passes."""

    name: str
    stream: str
    is_blocking: bool
    says: str
    sql: str


@cache
def sql_file(name: str) -> str:
    """The text of a file below `sql/`."""
    return (SQL_FOLDER / name).read_text(encoding="utf-8")


@cache
def checks(generic: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """All checks; their headers give severity, stream and what a finding means.

    A file with `{stream}` in its text is one check for each stream that it names, called `<file>_<stream>`. The word `generic` among them stands for
    the streams that the contract adds, which the caller names.
    """
    found = []
    for path in _files("checks"):
        template = path.read_text(encoding="utf-8")
        named = re.findall(r"^-- stream: (.+)$", template, re.MULTILINE)[0].split(", ")
        for stream in [n for n in named if n != "generic"] + [g for g in generic if "generic" in named]:
            text = template.replace("{stream}", stream)
            header = dict(re.findall(r"^-- (severity|says): (.+)$", text, re.MULTILINE))
            name = f"{path.stem}_{stream}" if "{stream}" in template else path.stem
            found.append(Check(name, stream, header["severity"] == "block", header["says"], text))
    return tuple(found)


def mart_texts() -> list[str]:
    """The text of each file of `sql/marts`, in the order in which their views are created."""
    return [path.read_text(encoding="utf-8") for path in _files("marts")]


@cache
def marts() -> tuple[str, ...]:
    """Names of the mart views, in the order in which they are created."""
    names = []
    for text in mart_texts():
        names += re.findall(r"create or replace view marts\.(\w+)", text)
    return tuple(names)


def migration_files() -> list[tuple[int, str, str]]:
    """Each file of `sql/schema`: its number, its name without ending and its text, in their order."""
    return [(int(p.name[:3]), p.stem, p.read_text(encoding="utf-8")) for p in _files("schema")]


def _files(folder: str) -> list[Path]:
    return sorted((SQL_FOLDER / folder).glob("*.sql"))
