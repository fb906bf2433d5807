"""One JSON:API record, read: members by alias, linkage and its included resources.

What lives here: plain Python on decoded JSON, without I/O, clock or frames. What does not: many records side by side (`columns`), the document that is
kept and its hash (`documents`). Sources: JSON:API 1.1 (resource objects, compound documents), evidence sections 5.15 and 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

JsonObject = dict[str, Any]
# (type, id) of a resource.
Key = tuple[str, str]
Included = Mapping[Key, JsonObject]
# Told from null, which is a value. A slot of a decoded resource that holds nothing holds this too.
MISSING: Any = msgspec.UNSET

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Fetched:
    """One record as it came: with the included resources of its page and the page's `Date` (server time, UTC)."""

    record: Any
    included: Included
    fetched_at: datetime


def index(included: Iterable[Any]) -> Included:
    """Included resources by (type, id); those without either cannot be named by any linkage and are left to the drift report.

    Two that say otherwise under one key, as where ids begin anew in each account, count as not come: nobody knows which one is meant. Where one only says
    less, the other is taken.
    """
    found: dict[Key, JsonObject] = {}
    ambiguous = set()
    for one in included:
        if isinstance(one, dict) and isinstance(one.get("type"), str) and (record_id := identifier_id(one)):
            key = (one["type"], record_id)
            own, other = object_at(one, "attributes"), object_at(found.setdefault(key, one), "attributes")
            if own is not other and any(own[name] != other[name] for name in own.keys() & other.keys()):
                ambiguous.add(key)
            if len(own) >= len(other):
                found[key] = one
    return {key: one for key, one in found.items() if key not in ambiguous} if ambiguous else found


def object_at(parent: object, name: str) -> JsonObject:
    """An object member, or an empty one where there is none."""
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def list_of(value: object, *, is_of_texts: bool = False) -> list[Any]:
    """The elements of a list in whatever form it came: null is an empty one, a single value is one of one.

    An object of objects is one that is keyed by id, and one whose names are numbers is how PHP writes a list with gaps. Texts under numbers that do not
    begin at 0 may as well be names under ids, so they count as elements only where a text is what is due (`is_of_texts`).
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and "attributes" not in value:
        kinds = set(map(type, value.values()))
        is_numbered = all(name.isdecimal() for name in value) and (is_of_texts or "0" in value or kinds != {str})
        return list(value.values()) if kinds <= {dict} or is_numbered else [value]
    return [] if value is None else [value]


class Surroundings:
    """What came with a page's records, looked at once for all of them: `kinds` are the types that there are."""

    __slots__ = ("_further", "included", "kinds")

    def __init__(self, included: Included) -> None:
        self.included = included
        self.kinds = frozenset(kind for kind, _ in included)
        self._further: dict[Key, tuple[Key, ...]] | None = None

    def named(self, linkage: Any) -> list[Key]:
        """The (type, id) of those included resources that one relationship's linkage names."""
        found = []
        for one in linkage if isinstance(linkage, list) else (linkage,):
            # Most linkage names what did not come: its type alone says so.
            if isinstance(one, dict) and isinstance(kind := one.get("type"), str) and kind in self.kinds:
                key = (kind, identifier_id(one) or "")
                if key in self.included:
                    found.append(key)
        return found

    def further(self, key: Key, is_left_out: Callable[[str], bool]) -> tuple[Key, ...]:
        """The (type, id) of the included resources that one of them names itself, in relationships that are not left out."""
        if self._further is None:
            relationships = {key: object_at(resource, "relationships") for key, resource in self.included.items()}
            leading = [name for name in leading_names(relationships.values(), self.kinds) if not is_left_out(name)]
            self._further = {
                key: tuple(other for name in leading if name in own for other in self.named(linkage_of(own[name])))
                for key, own in relationships.items()
            }
        return self._further[key]


def linkage_of(relationship: object) -> Any:
    """The linkage of one relationship; `MISSING` where it says nothing about it."""
    return relationship.get("data", MISSING) if isinstance(relationship, dict) else MISSING


def kinds_in(linkage: Iterable[Any]) -> set[Any]:
    """The types that linkage names, over many resources."""
    ones = [one for value in linkage for one in (value if type(value) is list else (value,))]
    kinds = [one.get("type") if type(one) is dict else getattr(one, "type", None) for one in ones]
    return {kind for kind in kinds if isinstance(kind, str)}


def leading_names(relationships: Iterable[JsonObject], kinds: Collection[str]) -> list[str]:
    """The names of relationships whose linkage leads to a resource of these types anywhere."""
    if not kinds:
        return []
    sent = list(relationships)
    return [
        name
        for name in sorted(set[str]().union(*sent))
        if not kinds_in([linkage_of(own[name]) for own in sent if name in own]).isdisjoint(kinds)
    ]


def surroundings_of(fetched: Iterable[Fetched]) -> list[Surroundings]:
    """What came around each record; records of one page share it."""
    known: dict[int, Surroundings] = {}
    found = []
    for one in fetched:
        around = known.get(id(one.included))
        if around is None:
            around = known[id(one.included)] = Surroundings(one.included)
        found.append(around)
    return found


@cache
def steps(alias: str) -> tuple[str, tuple[str, ...]]:
    """The name that an alias starts with, and the path behind it."""
    name, *rest = alias.split(".")
    return name, tuple(rest)


def lookup(resource: JsonObject, alias: str, included: Included) -> Any:
    """The value of a member by its name or dotted path; `MISSING` where the record has no such member.

    A member whose own name holds dots comes before a path.
    An attribute is taken as it is. A relationship gives its linkage; a path that goes on behind it reads the included resource's attributes.
    """
    name, rest = steps(alias)
    attributes = resource.get("attributes")
    if rest and isinstance(attributes, dict) and alias in attributes:
        return attributes[alias]
    if isinstance(attributes, dict) and name in attributes:
        value = attributes[name]
        for step in rest:
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        return value
    relationships = object_at(resource, "relationships")
    if rest and alias in relationships:
        name, rest = alias, ()
    relationship = relationships.get(name)
    if not isinstance(relationship, dict) or "data" not in relationship:
        return MISSING
    linkage = relationship["data"]
    if not rest:
        return linkage
    named = included_of(linkage, included)
    return MISSING if named is None else lookup(named, ".".join(rest), {})


def first(resource: JsonObject, aliases: Iterable[str], included: Included) -> Any:
    """The value of the first alias that is present; `MISSING` where none is."""
    for alias in aliases:
        value = lookup(resource, alias, included)
        if value is not MISSING:
            return value
    return MISSING


def identifier_id(value: object) -> str | None:
    """The id in a resource identifier, an embedded object or a bare id; None where there is none. JSON:API asks for text, and a whole number becomes it."""
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def included_of(identifier: object, included: Included) -> JsonObject | None:
    """The included resource that an identifier names; None where it did not come."""
    if not isinstance(identifier, dict):
        return None
    kind, record_id = identifier.get("type"), identifier_id(identifier)
    return included.get((kind, record_id)) if isinstance(kind, str) and record_id else None


def read_document(text: str, fetched_at: datetime) -> Fetched:
    """A stored document as if it had just come."""
    document = _decode(text)
    return Fetched(document["data"], index(document["included"]), fetched_at)
