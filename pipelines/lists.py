"""The lists that a batch's records carry, as child tables take them: values, and what reading any such list needs.

What lives here: a list in whatever form it came, whether it came at all, its elements side by side, free values told by their type. What does not: which
lists there are (`children`, `participants`). Missing linkage is not an empty list: only a list that came whole may take rows away (JSON:API; evidence 6.1).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipelines.columns import Form, Judge, Sheet, as_is
from pipelines.members import Around, Members, Values, known_members, types_of
from pipelines.records import MISSING, JsonObject, Key, identifier_id, list_of, object_at
from pipelines.redaction import redacted_names
from pipelines.slots import Sheaf, plain
from pipelines.streams import Stream
from resources.contract import Contract, spelling

# In the sheet of a child table: the place of the record that lists the row.
OWNER = "owner"
_KINDS: dict[type, str] = {bool: "boolean", str: "text", int: "number", Decimal: "number"}
BOOLEANS: dict[type, Form] = {bool: as_is}
# Members of an element that make it more than the object that it is: a resource object, or an identifier.
_ENVELOPE = ("type", "attributes")
_IDENTIFIER = {"type", "id", "meta", "links"}


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


def listed(values: Values | None, count: int, *, is_of_texts: bool = False) -> tuple[list[list[Any]], list[bool]]:
    """For each resource the elements of a list, and whether it came at all; see `list_of`."""
    if values is None:
        return [[] for _ in range(count)], [False] * count
    lists = [[] if v is MISSING else list_of(v, is_of_texts=is_of_texts) for v in values]
    return lists, [value is not MISSING for value in values]


def flat(lists: Sequence[list[Any]]) -> tuple[list[int], list[Any]]:
    """The elements of many lists in one, and for each the place of the list that it stands in."""
    return (
        [place for place, elements in enumerate(lists) for _ in elements],
        [element for elements in lists for element in elements],
    )


@dataclass(frozen=True)
class Elements:
    """The objects among the elements of many lists, side by side: `rows` has for each the number of its list, as `linked` and `odd` have of the others.

    `linked` are named alone, their resource did not come; `odd` are no objects.
    """

    rows: list[int]
    members: Members
    linked: list[int]
    odd: list[int]


def elements_of(
    lists: Sequence[list[Any]], places: Sequence[int], arounds: Sequence[Around], known: frozenset[str]
) -> Elements:
    """Elements of lists in whatever form: flat objects, resource objects, or identifiers whose resources came. A resource's id counts as a member.

    `places` and `arounds`: of the record that each list belongs to.
    """
    rows, elements = flat(lists)
    linked: list[int] = []
    odd: list[int] = []
    relationships: list[JsonObject] = [{}] * len(elements)
    if not types_of(elements) <= {dict} or not set[str]().union(*elements).isdisjoint(_ENVELOPE):
        kept, attributes, relationships = [], [], []
        for row, element in zip(rows, elements, strict=True):
            own = _opened(plain(element), arounds[row])
            if own is None:
                odd.append(row)
            elif own is MISSING:
                linked.append(row)
            else:
                kept.append(row)
                attributes.append(own[0])
                relationships.append(own[1])
        rows, elements = kept, attributes
    owners = [places[row] for row in rows]
    members = Members.of(owners, elements, relationships, [arounds[row] for row in rows], known)
    return Elements(rows, members, linked, odd)


def _opened(element: Any, around: Around) -> Any:
    """The members and the relationships of one element; None where it is no object, `MISSING` where it is an identifier and nothing came for it."""
    if not isinstance(element, dict):
        return None
    own_id, resource = identifier_id(element), element
    if key := _named(element):
        resource = around.included.get(key, MISSING)
        if resource is MISSING:
            return MISSING
    elif not isinstance(element.get("attributes"), dict):
        return element, {}
    attributes = resource.get("attributes") or {}
    if not isinstance(attributes, dict):
        return None
    return {**attributes, **({} if own_id is None else {"id": own_id})}, object_at(resource, "relationships")


def _named(element: JsonObject) -> Key | None:
    """What a resource identifier names; None where an element is no mere identifier."""
    kind, own_id = element.get("type"), identifier_id(element)
    return (kind, own_id) if isinstance(kind, str) and own_id and element.keys() <= _IDENTIFIER else None


def unlisted(
    sent: JsonObject, names: Mapping[str, tuple[str, ...]], key: str, marks: Container[str], redacted: tuple[str, ...]
) -> list[Any]:
    """An object of name: value, or of id: element, instead of a list, as the list that it stands for.

    An identifier, and one with a member in `marks`, is itself an element.
    """
    if "attributes" in sent or _named(sent) or any(name in marks for name in sent):
        return [sent]
    secret = redacted_names(redacted)
    own_id, value = first_name(names, key), first_name(names, "value")
    kept = {name: one for name, one in sent.items() if spelling(name) not in secret}
    if all(isinstance(one, dict) and not one.keys().isdisjoint(names["value"]) for one in kept.values()):
        return [{own_id: name, **one} if one.keys().isdisjoint(names[key]) else one for name, one in kept.items()]
    return [{own_id: name, value: one} for name, one in kept.items()]


def first_name(names: Mapping[str, tuple[str, ...]], column: str) -> str:
    """The likeliest name of a column's member; the column's own where the contract gives it none, which leaves it empty."""
    return (*names[column], column)[0]


def known_of(contract: Contract, names: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The members of an element that are no news."""
    return known_members(contract, names) | {"id"}


def free_values(elements: Elements, names: Mapping[str, tuple[str, ...]], judge: Judge, path: str) -> Values:
    """The free value of each element, `MISSING` where it has none, which is drift: null is a value, and no member by any of the names is not."""
    values, types = elements.members.typed_values(names["value"])
    if values is None:
        values = [MISSING] * len(elements.rows)
    if type(MISSING) in types or not types:
        without = [p for p, value in zip(elements.members.places, values, strict=True) if value is MISSING]
        told = f"{path}.{first_name(names, 'value')}"
        judge.notes.add_many("missing_member", told, "in an element of the list", without)
    return values


def value_kinds(values: Values) -> list[str]:
    """Free values told by their JSON type; `""` and null are empty, `false` is an answer (5.15), and an absent member is missing."""
    return [
        "empty"
        if value is None or value == ""
        else _KINDS.get(type(value)) or ("missing" if value is MISSING else "other")
        for value in values
    ]
