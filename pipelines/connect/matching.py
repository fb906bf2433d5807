"""Names of the API matched to our columns, each with its evidence: exact, alias, case-folded, plausible, nested.

What lives here: pure decisions on names, values that were seen and declared types. What does not: where the names come from. One attribute is never given
to two columns, and a name alone is not enough: the values must fit the column's kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal
from zoneinfo import available_timezones

from resources.schemas import EMPTY, Shape

Evidence = Literal["exact", "alias", "case-folded", "plausible", "nested"]
MOST_VALUES = 60
# What a member inside an object is called where the object's own name tells what it is: price.amount, start.dateTime.
VALUE_NAMES = ("amount", "value", "datetime")
# Names that say too little inside an object of another name: an amount may be a deposit's.
TELL_TOO_LITTLE = ("id", "name", "title", "total", *VALUE_NAMES)
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)")
# JSON types that a kind of column can read; any, where it is not named.
READ = {
    "instant": {"string"},
    "date": {"string"},
    "zone": {"string"},
    "status": {"string", "integer", "number"},
    "text": {"string", "integer", "number"},
    "reference": {"string", "integer", "object"},
    "money": {"number", "integer", "string"},
    "number": {"number", "integer", "string"},
    "integer": {"integer", "number", "string"},
    "boolean": {"boolean"},
    "people": {"array", "object"},
    "list": {"array", "object", "string", "integer"},
}


@dataclass
class Member:
    """An attribute or relationship, by its dotted name: the values seen (without null and empty text) and the shape that a file declares for it."""

    name: str
    values: list[Any] = field(default_factory=list)
    shape: Shape = EMPTY


@dataclass(frozen=True)
class Match:
    """One column and the member it is read from. `is_default`: the contract finds it already."""

    column: str
    member: str
    evidence: Evidence
    is_default: bool


@dataclass(frozen=True)
class Matches:
    """The outcome for one level of a record. `misfits`: columns whose own attribute has the wrong form for them, with that attribute."""

    found: tuple[Match, ...] = ()
    empty: tuple[str, ...] = ()
    unmapped: tuple[str, ...] = ()
    misfits: Mapping[str, str] = field(default_factory=dict)

    @property
    def weak(self) -> list[str]:
        """Columns whose member was found by a name that is only plausible."""
        return [m.column for m in self.found if m.evidence in ("plausible", "nested")]

    def member_of(self, column: str) -> str | None:
        """The member that a column is read from."""
        return next((m.member for m in self.found if m.column == column), None)


def fold(name: str) -> str:
    """A name without case, underscores, hyphens and spaces."""
    return re.sub(r"[^a-z0-9.]", "", name.casefold())


def match(
    columns: Mapping[str, str],
    aliases: Mapping[str, Sequence[str]],
    plausible: Mapping[str, Sequence[str]],
    members: Mapping[str, Member],
    others: Iterable[str] = (),
) -> Matches:
    """Give each column (name → kind) at most one member, the best evidence first. `others` are members with a use of their own (accounts, links, secrets)."""
    taken: dict[str, Match] = {}
    used: set[str] = set()
    misfits: dict[str, str] = {}
    reserved = set(others)

    def take(column: str, member: str, evidence: Evidence) -> None:
        present = next((a for a in aliases[column] if a in members), None)
        taken[column] = Match(column, member, evidence, member == present)
        used.add(member)

    def free(column: str, name: str) -> bool:
        return name not in used and name.partition(".")[0] not in reserved and fits(columns[column], members[name])

    for column in columns:
        for number, name in enumerate(aliases.get(column, ())):
            if column in taken or name not in members or name in used:
                continue
            if fits(columns[column], members[name]):
                take(column, name, "exact" if number == 0 else "alias")
                misfits.pop(column, None)
                break
            misfits.setdefault(column, name)
    for evidence in ("case-folded", "plausible", "nested"):
        for column in columns:
            if column in taken:
                continue
            for name in _candidates(evidence, column, aliases.get(column, ()), plausible.get(column, ()), members):
                if free(column, name):
                    take(column, name, evidence)
                    break
    mapped = {m.partition(".")[0] for m in used} | reserved
    misfits = {column: name for column, name in misfits.items() if column not in taken}
    return Matches(
        found=tuple(taken.values()),
        empty=tuple(c for c in columns if c not in taken),
        unmapped=tuple(n for n in members if "." not in n and n not in mapped and n not in misfits.values()),
        misfits=misfits,
    )


def _candidates(
    evidence: Evidence, column: str, aliases: Sequence[str], plausible: Sequence[str], members: Mapping[str, Member]
) -> list[str]:
    """Members that a column may be read from, by one kind of evidence, likeliest first."""
    own = [fold(name) for name in (*aliases, column)]
    further = [fold(name) for name in plausible]
    if evidence == "case-folded":
        return [n for wanted in own for n in members if fold(n) == wanted]
    if evidence == "plausible":
        return [n for wanted in further for n in members if fold(n) == wanted]
    # The value of an object that has one of the names, price.amount; else the last step alone, timing.start.
    steps = {n: fold(n).rpartition(".") for n in members if "." in n}
    values = [
        n for w in (*own, *further) for n, (outer, _, last) in steps.items() if outer == w and last in VALUE_NAMES
    ]
    wanted = [w for w in (*own, *further) if w not in TELL_TOO_LITTLE]
    return values + [n for w in wanted for n, (_, _, last) in steps.items() if last == w]


def members_of(resources: Iterable[Mapping[str, Any]], shape: Shape = EMPTY) -> dict[str, Member]:
    """All attributes and relationships of some resources, also one step inside objects, with what a file declares beside it."""
    found: dict[str, Member] = {}

    def note(name: str, value: object) -> None:
        member = found.setdefault(name, Member(name))
        if value is not None and value != "" and len(member.values) < MOST_VALUES:
            member.values.append(value)

    for resource in resources:
        attributes = resource.get("attributes")
        for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
            note(name, value)
            if isinstance(value, Mapping):
                for inner, deep in value.items():
                    note(f"{name}.{inner}", deep)
        relationships = resource.get("relationships")
        for name, value in relationships.items() if isinstance(relationships, Mapping) else ():
            if isinstance(value, Mapping) and "data" in value:
                note(name, value["data"])
    for name, declared in shape.at("attributes").members.items():
        found.setdefault(name, Member(name)).shape = declared
        for inner, deep in declared.members.items():
            found.setdefault(f"{name}.{inner}", Member(f"{name}.{inner}")).shape = deep
    for name, declared in shape.at("relationships").members.items():
        # An attribute of the same name is what a sync reads.
        if "data" in declared.members and name not in shape.at("attributes").members:
            found.setdefault(name, Member(name)).shape = declared.at("data")
    return found


def fits(kind: str, member: Member) -> bool:
    """Whether a member's values, or its declared types where none was seen, fit a column's kind."""
    if member.values:
        return all(_value_fits(kind, value) for value in member.values)
    types = member.shape.types
    if not types:
        return True
    allowed = READ.get(kind)
    return allowed is None or bool(types & allowed)


def instant_of(value: object) -> datetime | None:
    """A value as an instant in UTC; None where it is not written like one, or where there is no such instant (0000-00-00, year 1 east of Greenwich)."""
    if not isinstance(value, str) or not INSTANT.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None  # whether there is such an instant is the question, and this the answer


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _value_fits(kind: str, value: object) -> bool:
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    match kind:
        case "instant":
            return isinstance(value, str) and INSTANT.fullmatch(value.strip()) is not None
        case "zone":
            return isinstance(value, str) and value in _zones()
        case "status":
            return is_number or (isinstance(value, str) and len(value) < 60)
        case "text":
            return isinstance(value, str) or is_number
        case "reference":
            return isinstance(value, str) or is_number or (isinstance(value, Mapping) and "id" in value) or value == []
        case "money" | "number":
            return is_number or (isinstance(value, str) and _is_number(value))
        case "integer":
            return (is_number and Decimal(str(value)) % 1 == 0) or (isinstance(value, str) and _is_number(value))
        case "boolean":
            return isinstance(value, bool) or value in ("true", "false")
        case "people":
            return isinstance(value, list | Mapping) and all(
                isinstance(v, Mapping) for v in (value if isinstance(value, list) else [value])
            )
        case "list":
            return isinstance(value, list | Mapping | str) or is_number
        case _:
            return True


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False
