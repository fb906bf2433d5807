"""Lines put into and taken out of TOML text that somebody else wrote, so that everything else of it stays, value by value.

What lives here: the text. What does not: whose line is whose (`override`). tomlkit edits most files well. Where it does not (dotted keys beside tables), the
line is put there by other ways that TOML allows. No way is trusted: each outcome is read back, and the first one that says what it should is taken.
Connect's own lines end in `# connect:<mark> <why>`, where the mark is a digest of key and value.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Item
from tomlkit.toml_document import TOMLDocument

from pipelines.connect.findings import Key, Line
from resources.errors import ContractError

MARK = "connect:"
_HEADER = re.compile(r"\s*\[[^\[].*\]\s*(#.*)?")


@dataclass(frozen=True)
class Edit:
    """One line to put in place of what is there under its key, or to take away; `before` is what is there, None where nothing is."""

    line: Line
    before: Any
    is_removal: bool


def parsed(text: str) -> TOMLDocument:
    """The text as tomlkit sees it; raises `ContractError`."""
    try:
        tomllib.loads(text)
        return tomlkit.parse(text)
    except (tomllib.TOMLDecodeError, TOMLKitError) as error:
        raise ContractError(f"The file cannot be edited, for it is not valid TOML: {error}.") from None


def mark_of(dotted: str, value: Any) -> str:
    """The mark of a line that connect wrote: it belongs to this key with this value only."""
    return blake2b(f"{dotted}={json.dumps(value, sort_keys=True, default=str)}".encode(), digest_size=4).hexdigest()


def is_ours(text: str, dotted: str, own: Any) -> bool:
    """Whether an item of tomlkit's carries the mark of its own key and value. Where tables are scattered it hands out booleans without their comments, so
    the text is looked at.
    """
    mark = f"{MARK}{mark_of(dotted, plain(own))}"
    if isinstance(own, Item):
        return mark in own.trivia.comment
    return any(mark in line for line in text.splitlines() if not line.lstrip().startswith("#"))


def plain(value: Any) -> Any:
    """A value without tomlkit's wrapping."""
    return value.unwrap() if isinstance(value, Item) else value


def at(holder: Any, key: Key) -> Any:
    """What stands under a key; None where nothing does."""
    for name in key:
        if not isinstance(holder, Mapping) or name not in holder:
            return None
        # tomlkit hands out booleans bare, without their comments, unless it is asked for the item.
        holder = holder.item(name) if hasattr(holder, "item") else holder[name]
    return holder


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with all edits made and nothing else changed; raises `ContractError` where no way of making one is found."""
    wanted = _values_after(tomllib.loads(text), edits)
    at_once = _by_tomlkit(text, edits)
    if at_once is not None and _says(at_once, wanted, edits):
        return at_once
    for edit in edits:
        wanted = _values_after(tomllib.loads(text), [edit])
        found = next((c for c in _candidates(text, edit) if _says(c, wanted, [edit])), None)
        if found is None:
            table = _in_braces(parsed(text), edit.line.key)
            cure = f"write {table} as a table of its own, [{table}]" if table else "use --output with a new file"
            raise ContractError(f"The line {edit.line.dotted} cannot be put into this file; {cure}.")
        text = found
    return text


def _says(text: str, wanted: Mapping[str, Any], edits: Sequence[Edit]) -> bool:
    """Whether a text holds these values and no others, and each line that was put there carries its mark, but in braces, where there is no room for one."""
    try:
        values, document = tomllib.loads(text), tomlkit.parse(text)
    except (tomllib.TOMLDecodeError, TOMLKitError):
        return False  # a candidate that is no TOML is no good one: this is the question, and the answer
    put = [e.line for e in edits if not e.is_removal]
    return _are_same(values, wanted) and all(
        is_ours(text, line.dotted, at(document, line.key)) or _in_braces(document, line.key) for line in put
    )


def _values_after(values: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    after = deepcopy(values)
    for edit in edits:
        holder = after
        for name in edit.line.key[:-1]:
            holder = holder.setdefault(name, {})
        if edit.is_removal:
            holder.pop(edit.line.key[-1])
        else:
            holder[edit.line.key[-1]] = edit.line.value
    return after


def _are_same(one: Any, other: Any) -> bool:
    """Whether values are the same; a table without a key in it is like none."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_are_same(one.get(name, {}), other.get(name, {})) for name in one.keys() | other.keys())
    return repr(one) == repr(other)  # unlike ==, it tells 1 from true, and a nan is like itself


def _in_braces(document: Any, key: Key) -> str:
    """The table on a key's way that is written in braces, dotted; empty where none is."""
    for number in range(1, len(key)):
        if isinstance(at(document, key[:number]), InlineTable):
            return ".".join(key[:number])
    return ""


# Ways of making an edit


def _by_tomlkit(text: str, edits: Sequence[Edit]) -> str | None:
    """All edits made by tomlkit; None where one would have to stand in braces two deep, where nobody would look for it."""
    document = parsed(text)
    for edit in edits:
        holder: Any = document
        *tables, last = edit.line.key
        for number, name in enumerate(tables):
            if name not in holder:
                if isinstance(holder, InlineTable):
                    return None
                holder[name] = tomlkit.table(is_super_table=number < len(tables) - 1)
            holder = holder[name]
        if edit.is_removal:
            del holder[last]
            continue
        item = _item(edit.line.value)
        if not isinstance(holder, InlineTable):  # inside braces there is no room for a reason
            item.comment(_reason(edit.line))
        holder[last] = item
    return tomlkit.dumps(document)


def _candidates(text: str, edit: Edit) -> Iterator[str]:
    """Texts with an edit made, the tidiest first; some may be no TOML, or say something else."""
    by_tomlkit = _by_tomlkit(text, [edit])
    if by_tomlkit is not None:
        yield by_tomlkit
    lines = text.splitlines(keepends=True)
    bases = [lines]
    if edit.before is not None:
        mark = f"{MARK}{mark_of(edit.line.dotted, edit.before)}"
        bases = [lines[:n] + lines[n + 1 :] for n, line in enumerate(lines) if mark in line]
    for base in bases:
        if edit.is_removal:
            yield "".join(base)
        else:
            yield from _with_line(base, edit.line)


def _with_line(lines: Sequence[str], line: Line) -> Iterator[str]:
    """The line at the end of its table, in such a table at the end of the file, at the end of the tables around its own, and before all tables."""
    starts = [n for n, one in enumerate(lines) if _HEADER.fullmatch(one)]
    tables: list[tuple[int, int]] = []  # how many steps of the key a table's header has, and where the table ends
    for start, end in pairwise([*starts, len(lines)]):
        path = _path_of(lines[start])
        if path and path == line.key[: len(path)] and len(path) < len(line.key):
            tables.append((len(path), end))
    tables.sort(reverse=True)
    whole = len(line.key) - 1
    for depth, end in tables:
        if depth == whole:
            yield _inserted(lines, end, _statement(line, depth))
    yield _inserted(lines, len(lines), f"\n[{_dotted(line.key[:-1])}]\n{_statement(line, whole)}")
    for depth, end in tables:
        if depth < whole:
            yield _inserted(lines, end, _statement(line, depth))
    yield _inserted(lines, min(starts, default=len(lines)), _statement(line, 0))


def _inserted(lines: Sequence[str], end: int, statement: str) -> str:
    """A statement put behind what stands before line `end`; blank lines and comments before it belong to what follows."""
    if end < len(lines):
        while end > 0 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1
    before = "".join(lines[:end])
    return before + ("\n" if before and not before.endswith("\n") else "") + statement + "".join(lines[end:])


def _path_of(header: str) -> Key:
    """The key of a table's header; empty where it only looks like one."""
    try:
        value: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return ()  # a line of a value that is written over several
    path = []
    while value:
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)


def _statement(line: Line, depth: int) -> str:
    return f"{_dotted(line.key[depth:])} = {_item(line.value).as_string()} # {_reason(line)}\n"


def _dotted(key: Key) -> str:
    return tomlkit.key(list(key)).as_string()


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


def _reason(line: Line) -> str:
    return f"{MARK}{mark_of(line.dotted, line.value)} {_one_line(line.why)}"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:160]
