"""One JSON:API record, read: members by alias, linkage and its included resources, the document that is kept, its content hash.

What lives here: plain Python on decoded JSON, without I/O, clock or frames. What does not: types and columns (`normalise`).
Sources: JSON:API 1.1 (resource objects, compound documents), evidence sections 5.15, 5.21 and 6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec

JsonObject = dict[str, Any]
Included = Mapping[tuple[str, str], JsonObject]
MISSING: Any = object()
# How far a record's document follows its relationships: booking → participation → its customer. Further would copy the world into each row.
DOCUMENT_DEPTH = 2

_encode = msgspec.json.Encoder(decimal_format="number").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def spelling(word: str) -> str:
    """A word as it is compared: without case, spaces, underscores and hyphens."""
    return "".join(c for c in word.casefold() if c not in " _-")


@cache
def redacted_names(names: tuple[str, ...]) -> frozenset[str]:
    """The members to take out, as `spelling` writes them: another dialect's `cancellation-url` carries the same token as `cancellationUrl`."""
    return frozenset(map(spelling, names))


@cache
def _redacted_key(names: tuple[str, ...]) -> re.Pattern[str]:
    """Finds a member of such a name in encoded JSON: a look that spares most records the walk through everything."""
    spelt = ("[-_ ]*".join(map(re.escape, name)) for name in sorted(redacted_names(names)))
    return re.compile(f'"[-_ ]*(?:{"|".join(spelt)})[-_ ]*":', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fetched:
    """One record as it came: with the included resources of its page and the page's `Date` (server time, UTC)."""

    record: Any
    included: Included
    fetched_at: datetime


def index(included: Iterable[Any]) -> Included:
    """Included resources by (type, id); those without either cannot be named by any linkage and are left to the drift report."""
    return {
        (r["type"], record_id): r
        for r in included
        if isinstance(r, dict) and isinstance(r.get("type"), str) and (record_id := identifier_id(r))
    }


def object_at(parent: object, name: str) -> JsonObject:
    """An object member, or an empty one where there is none."""
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


@cache
def _steps(alias: str) -> tuple[str, tuple[str, ...]]:
    name, *rest = alias.split(".")
    return name, tuple(rest)


def lookup(resource: JsonObject, alias: str, included: Included) -> Any:
    """The value of a member by its name or dotted path; `MISSING` where the record has no such member.

    A member whose own name holds dots comes before a path.
    An attribute is taken as it is. A relationship gives its linkage; a path that goes on behind it reads the included resource's attributes.
    """
    name, rest = _steps(alias)
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


def _linked(resource: JsonObject) -> Iterable[object]:
    for relationship in object_at(resource, "relationships").values():
        data = relationship.get("data") if isinstance(relationship, dict) else None
        yield from data if isinstance(data, list) else (data,)


def related(record: JsonObject, included: Included) -> list[JsonObject]:
    """The included resources that a record names, directly or through one of them, in order of (type, id)."""
    if not included:
        return []
    found: dict[tuple[str, str], JsonObject] = {}
    layer = [record]
    for _ in range(DOCUMENT_DEPTH):
        following = []
        for resource in layer:
            for identifier in _linked(resource):
                named = included_of(identifier, included)
                if named is not None and (key := (named["type"], str(named["id"]))) not in found:
                    found[key] = named
                    following.append(named)
        layer = following
    return [found[key] for key in sorted(found)]


def _without(value: Any, names: tuple[str, ...]) -> Any:
    """A copy without the members of these names, however they are spelt and however deep they stand.

    Not recursive: what the decoder can nest, Python's stack could not follow.
    """

    members = redacted_names(names)

    def shallow(one: Any) -> Any:
        if isinstance(one, dict):
            return {k: v for k, v in one.items() if spelling(k) not in members}
        return list(one) if isinstance(one, list) else one

    copy = shallow(value)
    waiting = [copy] if isinstance(copy, dict | list) else []
    while waiting:
        container = waiting.pop()
        for place, inner in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(inner, dict | list):
                container[place] = shallow(inner)
                waiting.append(container[place])
    return copy


def _without_attributes(resource: JsonObject, names: tuple[str, ...]) -> JsonObject:
    members, attributes = redacted_names(names), object_at(resource, "attributes")
    kept = {k: v for k, v in attributes.items() if spelling(k) not in members}
    return resource if len(kept) == len(attributes) else {**resource, "attributes": kept}


def _bare(resource: JsonObject) -> JsonObject:
    """A resource without links and meta: what the content hash is taken over."""
    relationships = object_at(resource, "relationships")
    return {
        **{k: v for k, v in resource.items() if k not in ("links", "meta", "relationships")},
        "relationships": {n: r["data"] for n, r in relationships.items() if isinstance(r, dict) and "data" in r},
    }


def _digest(content: bytes) -> str:
    """BLAKE2b-128, hexadecimal. Fed in pieces: above 2047 bytes hashlib lets go of the interpreter's lock, and with several threads reading it then waits
    milliseconds to get it back, for microseconds of work.
    """
    state = blake2b(digest_size=16)
    for start in range(0, len(content), 2047):
        state.update(content[start : start + 2047])
    return state.hexdigest()


def document_of(record: JsonObject, included: Included, redacted: tuple[str, ...]) -> tuple[str, str]:
    """The document that is kept (one JSON:API document, as text) and the hash of its content (BLAKE2b-128, hexadecimal).

    Members named in `redacted` carry capability URLs (evidence 5.21); they are in neither.
    """
    document: JsonObject = {"data": record, "included": related(record, included)}
    text = _encode(document).decode()
    if redacted and _redacted_key(redacted).search(text):
        # They stand among the attributes as a rule; the walk through everything is for those that do not.
        document = {
            "data": _without_attributes(record, redacted),
            "included": [_without_attributes(r, redacted) for r in document["included"]],
        }
        text = _encode(document).decode()
        if redacted and _redacted_key(redacted).search(text):
            document = _without(document, redacted)
            text = _encode(document).decode()
    content = [_bare(document["data"]), [_bare(r) for r in document["included"]]]
    return text, _digest(_encode_sorted(content))


def read_document(text: str, fetched_at: datetime) -> Fetched:
    """The reverse of `document_of`: a stored document as if it had just come."""
    document = _decode(text)
    return Fetched(document["data"], index(document["included"]), fetched_at)


def as_json(value: object, redacted: tuple[str, ...] = ()) -> str:
    """Any decoded JSON value as text, without the members in `redacted`."""
    return _encode(_without(value, redacted) if redacted else value).decode()
