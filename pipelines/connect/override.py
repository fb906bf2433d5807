"""Findings laid over a person's own file: TOML with a reason behind every line, in which what a person wrote is never touched.

What lives here: text in, text out. What does not: reading and writing the file (`contact`). Connect's own lines end in `# connect:<mark> <why>`, where the
mark is a digest of key and value: a line whose value was changed by hand no longer carries its own mark, and is the person's from then on.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Item
from tomlkit.toml_document import TOMLDocument

from pipelines.connect.findings import Key, Line
from resources.errors import ContractError

MARK = "connect:"
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
    try:
        document = tomlkit.parse(HEAD if existing is None else existing)
    except TOMLKitError as error:
        raise ContractError(f"The file cannot be edited, for it is not valid TOML: {error}.") from None
    changes, disagreements = [], []
    for line in sorted(lines, key=lambda one: _place(defaults, one.key)):
        default, own = _at(defaults, line.key), _at(document, line.key)
        if own is not None and not _is_ours(line.dotted, own):
            if _plain(own) != line.value:
                disagreements.append(Disagreement(line.dotted, _plain(own), line.value, line.why))
        elif line.value == default:
            if own is not None:
                _remove(document, line.key)
                changes.append(Change(line.dotted, _plain(own), None, f"{line.why}; the default says so too"))
        elif own is None or _plain(own) != line.value:
            _put(document, line)
            changes.append(Change(line.dotted, None if own is None else _plain(own), line.value, line.why))
    text = tomlkit.dumps(document)
    _must_hold(text, [line for line in lines if line.dotted in {c.key for c in changes}], defaults)
    return Override(text, tuple(changes), tuple(disagreements))


def mark_of(dotted: str, value: Any) -> str:
    """The mark of a line that connect wrote: it belongs to this key with this value only."""
    return blake2b(f"{dotted}={json.dumps(value, sort_keys=True)}".encode(), digest_size=4).hexdigest()


def _is_ours(dotted: str, own: Any) -> bool:
    comment = own.trivia.comment if isinstance(own, Item) else ""
    return f"{MARK}{mark_of(dotted, _plain(own))}" in comment


def _plain(value: Any) -> Any:
    return value.unwrap() if isinstance(value, Item) else value


def _at(holder: Any, key: Key) -> Any:
    for name in key:
        if not isinstance(holder, Mapping) or name not in holder:
            return None
        # tomlkit hands out booleans bare, without their comments, unless it is asked for the item.
        holder = holder.item(name) if hasattr(holder, "item") else holder[name]
    return holder


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


def _item(value: Any) -> Item:
    """A value as TOML; tables in a list stay on their line."""
    if isinstance(value, list):
        array = tomlkit.array()
        for one in value:
            if isinstance(one, Mapping):
                inner = tomlkit.inline_table()
                inner.update(one)
                array.append(inner)
            else:
                array.append(one)
        return array
    item: Item = tomlkit.item(value)
    return item


def _put(document: TOMLDocument, line: Line) -> None:
    holder: Any = document
    *tables, last = line.key
    for number, name in enumerate(tables):
        if not isinstance(holder, MutableMapping):
            raise ContractError(
                f"{line.dotted} cannot be written, because what stands before it is no table; write it as a table of its own."
            )
        if isinstance(holder, InlineTable) and name not in holder:
            raise ContractError(
                f"{line.dotted} cannot be written into a table in braces; write {'.'.join(line.key[:number])} as a table of its own: "
                f"[{'.'.join(line.key[:number])}]."
            )
        if name not in holder:
            holder[name] = tomlkit.table(is_super_table=number < len(tables) - 1)
        holder = holder[name]
    item = _item(line.value)
    if not isinstance(holder, InlineTable):  # inside braces there is no room for a reason
        item.comment(f"{MARK}{mark_of(line.dotted, line.value)} {_one_line(line.why)}")
    holder[last] = item


def _remove(document: TOMLDocument, key: Key) -> None:
    holder: Any = document
    for name in key[:-1]:
        holder = holder[name]
    del holder[key[-1]]


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:160]


def _must_hold(text: str, lines: Sequence[Line], defaults: Mapping[str, Any]) -> None:
    """What was written is read back: an editor of somebody's file must not be trusted blindly."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(
            f"The lines that were found cannot be put into this file ({error}); use --output with a new one."
        ) from None
    for line in lines:
        if _at(values, line.key) != (None if line.value == _at(defaults, line.key) else line.value):
            raise ContractError(f"The line {line.dotted} cannot be put into this file; use --output with a new one.")
