"""The document that is kept of each record, without capability URLs, and the hash of its content.

What lives here: a batch's records, each with the included resources that it names, encoded; removal of members by name, however deep. What does not:
reading values (`records`, `columns`). Members are taken out before anything is encoded, since they stand among the attributes as a rule; a search
through the finished texts finds the few records where one stands deeper, and only those are walked through. Sources: evidence section 5.21.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
import polars as pl

from pipelines.records import (
    Included,
    JsonObject,
    Links,
    Surroundings,
    identifier_id,
    links_of,
    object_at,
    spelling,
)

# How far a record's document follows its relationships: booking → participation → its customer. Further would copy the world into each row.
DOCUMENT_DEPTH = 2
# Above this many bytes hashlib lets go of the interpreter's lock, and with several threads reading it then waits milliseconds to get it back, for
# microseconds of work.
HASHED_AT_ONCE = 2047
# Letters that fold to several ("ß" is "ss"), which a search without case does not see: a key that holds one is looked at by itself.
_FOLDED = "ß\u0130\u0149\u01f0\u0390\u03b0\u0587\u1e96-\u1e9e\u1f50-\u1fff\ufb00-\ufb17"

_encode = msgspec.json.Encoder(decimal_format="number").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


@cache
def redacted_names(names: tuple[str, ...]) -> frozenset[str]:
    """The members to take out, as `spelling` writes them: another dialect's `cancellation-url` carries the same token as `cancellationUrl`."""
    return frozenset(map(spelling, names))


@lru_cache(maxsize=1000)
def is_redacted(name: str, redacted: tuple[str, ...]) -> bool:
    """Whether a member of this name is taken out."""
    return spelling(name) in redacted_names(redacted)


@cache
def _redacted_key(names: tuple[str, ...]) -> str:
    """Finds in encoded JSON whatever may be a member of such a name: a look that spares nearly all records the walk through everything."""
    letters = ([re.escape(_encode(c)[1:-1].decode()) for c in name] for name in sorted(redacted_names(names)))
    spelt = "|".join("[-_ ]*".join(name) for name in letters)
    return f'(?i)"[-_ ]*(?:{spelt})[-_ ]*":|[{_FOLDED}][^"]*":'


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


def as_json(value: object, redacted: tuple[str, ...] = ()) -> str:
    """Any decoded JSON value as text, without the members in `redacted`."""
    return _encode(_without(value, redacted) if redacted else value).decode()


def _texts(encoded: Sequence[bytes | None], redacted: tuple[str, ...]) -> tuple[pl.Series, list[int]]:
    """Encoded JSON as texts, and the places of those that may hold a member in `redacted`."""
    texts = pl.Series(encoded, dtype=pl.Binary()).cast(pl.String())
    return texts, texts.str.contains(_redacted_key(redacted)).arg_true().to_list() if redacted else []


def json_texts(values: Sequence[Any], redacted: tuple[str, ...]) -> pl.Series:
    """Decoded JSON values as texts, without the members in `redacted`; None has none."""
    encoded = [None if value is None else _encode(value) for value in values]
    texts, suspects = _texts(encoded, redacted)
    if not suspects:
        return texts
    for place in suspects:
        encoded[place] = _encode(_without(values[place], redacted))
    return _texts(encoded, ())[0]


def _kept(
    resources: Iterable[JsonObject], attributes: Sequence[JsonObject], redacted: tuple[str, ...]
) -> Iterable[JsonObject]:
    """The resources without attributes in `redacted`; each name that occurs is judged once."""
    secret = [name for name in set[str]().union(*attributes) if is_redacted(name, redacted)]
    if not secret:
        return resources
    kept = []
    for resource, own in zip(resources, attributes, strict=True):
        found = [name for name in secret if name in own]
        if found:
            own = own.copy()
            for name in found:
                del own[name]
            resource = {**resource, "attributes": own}
        kept.append(resource)
    return kept


def _bare(resource: JsonObject, links: Links) -> JsonObject:
    """A resource without links and meta: what the content hash is taken over."""
    bare = resource.copy()
    bare.pop("links", None)
    bare.pop("meta", None)
    bare["relationships"] = links
    return bare


def _digest(content: bytes) -> str:
    """BLAKE2b-128, hexadecimal; fed in pieces where it is long."""
    state = blake2b(content[:HASHED_AT_ONCE], digest_size=16)
    for start in range(HASHED_AT_ONCE, len(content), HASHED_AT_ONCE):
        state.update(content[start : start + HASHED_AT_ONCE])
    return state.hexdigest()


def related(links: Links, around: Surroundings) -> list[tuple[str, str]]:
    """The (type, id) of the included resources that a record names, directly or through one of them, in order."""
    kinds, known = around.kinds, around.links
    found: set[tuple[str, str]] = set()
    layer = [links] if kinds else []
    for _ in range(DOCUMENT_DEPTH):
        following = []
        for one in layer:
            for data in one.values():
                for identifier in data if isinstance(data, list) else (data,):
                    # Most linkage names what did not come: its type alone says so.
                    if (
                        isinstance(identifier, dict)
                        and isinstance(kind := identifier.get("type"), str)
                        and kind in kinds
                    ):
                        key = (kind, identifier_id(identifier) or "")
                        if key in known and key not in found:
                            found.add(key)
                            following.append(known[key])
        layer = following
    return sorted(found)


class _Page:
    """The included resources of one page, as they are kept and as they are hashed, by (type, id)."""

    def __init__(self, around: Surroundings, redacted: tuple[str, ...]) -> None:
        self.around = around
        resources = around.included.values()
        kept = _kept(resources, [object_at(resource, "attributes") for resource in resources], redacted)
        self.kept = dict(zip(around.included, kept, strict=True))
        self.bare = {key: _bare(resource, around.links[key]) for key, resource in self.kept.items()}


def documents(
    records: Sequence[JsonObject], links: Sequence[Links], arounds: Sequence[Surroundings], redacted: tuple[str, ...]
) -> tuple[pl.Series, list[str]]:
    """The document that is kept of each record (one JSON:API document, as text) and the hash of its content (BLAKE2b-128, hexadecimal).

    Members named in `redacted` carry capability URLs (evidence 5.21); they are in neither.
    """
    distinct = {id(around): around for around in arounds}
    pages = {key: _Page(around, redacted) for key, around in distinct.items()}
    encoded: list[bytes | None] = []
    hashes = []
    kept = _kept(records, [object_at(record, "attributes") for record in records], redacted)
    for record, own, around in zip(kept, links, arounds, strict=True):
        page, keys = pages[id(around)], related(own, around)
        encoded.append(_encode({"data": record, "included": [page.kept[key] for key in keys]}))
        hashes.append(_digest(_encode_sorted([_bare(record, own), [page.bare[key] for key in keys]])))
    texts, suspects = _texts(encoded, redacted)
    for place in suspects:
        included = [arounds[place].included[key] for key in related(links[place], arounds[place])]
        document = _without({"data": records[place], "included": included}, redacted)
        encoded[place] = _encode(document)
        content = [_bare(r, links_of(r)) for r in (document["data"], *document["included"])]
        hashes[place] = _digest(_encode_sorted([content[0], content[1:]]))
    if suspects:
        texts, _ = _texts(encoded, ())
    return texts, hashes


def document_of(record: JsonObject, included: Included, redacted: tuple[str, ...]) -> tuple[str, str]:
    """The document and the hash of a single record, as `documents` makes them."""
    texts, hashes = documents([record], [links_of(record)], [Surroundings(included)], redacted)
    return texts[0], hashes[0]
