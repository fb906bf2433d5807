"""Findings laid over a person's own file: TOML with a reason behind every line, in which what a person wrote is never touched.

What lives here: whose line is whose, and what changes. What does not: getting a line into the text (`edit`), reading and writing the file (`contact`).
A line of connect's own is known by its mark (`edit.mark_of`): one whose value was changed by hand no longer carries it, and is the person's from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.connect.edit import MARK, Edit, at, edited, is_ours, parsed, plain
from pipelines.connect.findings import NO_PAST, Key, Line, Past
from resources.errors import ContractError

HEAD = """\
# What `appointedd-warehouse connect` found where this API differs from resources/contract.toml, each line with its reason.
# A line that ends in "# connect:..." is connect's own, and a later connect may replace it. Change its value, or write a line yourself, and it is yours:
# connect leaves it as it is, and says where it disagrees.
"""


@dataclass(frozen=True)
class Change:
    """One line that was added, replaced or taken away; None where there was, or is, none."""

    key: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True)
class Disagreement:
    """A line of the person's own that says something else than was found."""

    key: str
    own: Any
    found: Any
    why: str


@dataclass(frozen=True)
class Override:
    """The file's text as it should be, and how it differs from what it was."""

    text: str
    changes: tuple[Change, ...]
    disagreements: tuple[Disagreement, ...]


def lay_over(existing: str | None, lines: Sequence[Line], defaults: Mapping[str, Any]) -> Override:
    """Put `lines` into a file's text; those that say what the contract says anyway are left out. Raises `ContractError` where the text cannot be edited."""
    text = HEAD if existing is None else existing
    document = parsed(text)
    changes, disagreements, edits = [], [], []
    for line in sorted(lines, key=lambda one: _place(defaults, one.key)):
        _must_be_tables(document, line.key)
        default, own = at(defaults, line.key), at(document, line.key)
        if own is not None and not is_ours(text, line.dotted, own):
            if plain(own) != line.value:
                disagreements.append(Disagreement(line.dotted, plain(own), line.value, line.why))
        elif line.value == default:
            if own is not None:
                edits.append(Edit(line, plain(own), is_removal=True))
                changes.append(Change(line.dotted, plain(own), None, f"{line.why}; the default says so too"))
        elif own is None or plain(own) != line.value:
            edits.append(Edit(line, plain(own), is_removal=False))
            changes.append(Change(line.dotted, None if own is None else plain(own), line.value, line.why))
    return Override(edited(text, edits), tuple(changes), tuple(disagreements))


def past_of(existing: str | None) -> Past:
    """Whose lines are in a file. Raises `ContractError` where the text cannot be edited."""
    if existing is None:
        return NO_PAST
    document = parsed(existing)
    own = {key for key in _leaves(document) if not is_ours(existing, ".".join(key), at(document, key))}
    return Past(frozenset(".".join(key) for key in own), MARK in existing)


def _leaves(holder: Mapping[str, Any], prefix: Key = ()) -> Iterator[Key]:
    for name, value in holder.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, name))
        else:
            yield (*prefix, name)


def _must_be_tables(document: Any, key: Key) -> None:
    """Everything before a key's last step is a table, or is not there; raises `ContractError` that says what is there instead."""
    holder = document
    for number, name in enumerate(key[:-1], 1):
        if name not in holder:
            return
        holder = holder[name]
        if not isinstance(holder, Mapping):
            table = ".".join(key[:number])
            what = "a list ([[...]] or [...])" if isinstance(holder, list) else json.dumps(plain(holder), default=str)
            raise ContractError(f"{table} is {what} and must be a table: write its keys under [{table}].")


def _place(defaults: Mapping[str, Any], key: Key) -> tuple[int, ...]:
    """The order of the contract's own file."""
    order: list[int] = []
    holder: Any = defaults
    for name in key:
        names = list(holder) if isinstance(holder, Mapping) else []
        order.append(names.index(name) if name in names else len(names))
        holder = holder.get(name) if isinstance(holder, Mapping) else None
    # A table's own keys come before the tables inside it.
    return (*order[:-1], -1, order[-1]) if not isinstance(holder, Mapping) else tuple(order)
