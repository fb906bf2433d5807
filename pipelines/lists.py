"""The lists that a batch's records carry, as child tables take them: values, and what reading any such list needs.

What lives here: a list in whatever form it came, whether it came at all, free values told by their type. What does not: which lists there are
(`children`, `participants`). Missing linkage is not an empty list: only a list that came whole may take rows away (JSON:API; evidence 6.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipelines.columns import Form, Judge, Members, Sheet, Values, as_is
from pipelines.records import MISSING
from pipelines.slots import Sheaf
from pipelines.streams import Stream
from resources.contract import Contract

# In the sheet of a child table: the place of the record that lists the row.
OWNER = "owner"
_KINDS: dict[type, str] = {bool: "boolean", str: "text", int: "number", Decimal: "number"}
BOOLEANS: dict[type, Form] = {bool: as_is}


@dataclass
class Lists:
    """The child rows of a batch by table, and for each table whether a record's list of it came whole.

    `excepts`: where a record has several lists for one table, the names of those of which the contrary holds; None where there is none.
    """

    sheets: dict[str, Sheet] = field(default_factory=dict)
    wholes: dict[str, list[bool]] = field(default_factory=dict)
    excepts: dict[str, list[list[str] | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """Records whose lists are read: `accounts` and `members` stand side by side; `sheaf` where they came in slots."""

    stream: Stream
    contract: Contract
    judge: Judge
    members: Members
    accounts: Sequence[str]
    zones: Mapping[str, str]
    sheaf: Sheaf | None = None


def listed(values: Values | None, count: int) -> tuple[list[list[Any]], list[bool]]:
    """For each resource the elements of a list, and whether it came at all; a single value counts as a list of one."""
    if values is None:
        return [[] for _ in range(count)], [False] * count
    lists = [v if isinstance(v, list) else [] if v is MISSING or v is None else [v] for v in values]
    return lists, [value is not MISSING for value in values]


def flat(lists: Sequence[list[Any]]) -> tuple[list[int], list[Any]]:
    """The elements of many lists in one, and for each the place of the list that it stands in."""
    return (
        [place for place, elements in enumerate(lists) for _ in elements],
        [element for elements in lists for element in elements],
    )


def value_kinds(values: Values) -> list[str]:
    """Free values told by their JSON type; `""` and null are empty, `false` is an answer (5.15)."""
    return ["empty" if value is None or value == "" else _KINDS.get(type(value), "other") for value in values]
