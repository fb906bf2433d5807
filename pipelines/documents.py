"""The document that is kept of each record, without capability URLs, and the hash of its content.

What lives here: a batch's records, each with the included resources that it names, encoded. What does not: reading values (`records`, `columns`), how
members are taken out of JSON (`redaction`). They are taken out before anything is encoded, since they stand among the attributes as a rule; a search
through the finished texts finds the few records where one stands deeper, and only those are walked through. Sources: evidence section 5.21.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any

import polars as pl
from msgspec import Raw

from pipelines.records import (
    MISSING,
    Included,
    JsonObject,
    Key,
    Surroundings,
    index,
    leading_names,
    linkage_of,
    object_at,
)
from pipelines.redaction import encode, is_redacted, texts_of, without
from pipelines.slots import Identifier, Page, Resources, Sheaf, as_object

# Above this many bytes hashlib lets go of the interpreter's lock, and with several threads reading it then waits milliseconds to get it back, for
# microseconds of work.
HASHED_AT_ONCE = 2047
_COLON, _COMMA = b":,"


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


def cleaned(texts: Sequence[str], redacted: tuple[str, ...]) -> dict[int, tuple[str, str]]:
    """Of texts of JSON that are stored already, those that hold a member in `redacted`, by place: without it, and the hash of that."""
    found = {}
    for place in texts_of([text.encode() for text in texts], redacted)[1]:
        value = as_object(texts[place].encode())
        kept = encode(_still_named(without(value, redacted)))
        if kept != encode(value):
            found[place] = kept.decode(), _digest(kept)
    return found


def _still_named(value: Any) -> Any:
    """A kept document without the included resources that it names no more; any other value as it is."""
    if not isinstance(value, dict) or value.keys() != {"data", "included"} or not isinstance(value["included"], list):
        return value
    around = Surroundings(index(value["included"]))
    (keys,) = related([object_at(value["data"], "relationships")], [around], ())
    return {**value, "included": [around.included[key] for key in keys]}


def _digest(content: bytes) -> str:
    """BLAKE2b-128, hexadecimal; fed in pieces where it is long."""
    state = blake2b(content[:HASHED_AT_ONCE], digest_size=16)
    for start in range(HASHED_AT_ONCE, len(content), HASHED_AT_ONCE):
        state.update(content[start : start + HASHED_AT_ONCE])
    return state.hexdigest()


def related(
    relationships: Sequence[JsonObject], arounds: Sequence[Surroundings], redacted: tuple[str, ...]
) -> list[Sequence[Key]]:
    """For each record the (type, id) of the included resources that it names, directly or through one of them, in order.

    No further (booking → participation → its customer): that would copy the world into each row. What a redacted relationship names goes with it.
    """
    kinds = frozenset[str]().union(*(around.kinds for around in set(arounds)))

    def is_left_out(name: str) -> bool:
        return is_redacted(name, redacted)

    leading = [name for name in leading_names(relationships, kinds) if not is_left_out(name)]
    if not leading:
        return [()] * len(relationships)
    found: list[Sequence[Key]] = []
    for own, around in zip(relationships, arounds, strict=True):
        keys = [key for name in leading if name in own for key in around.named(linkage_of(own[name]))]
        beyond = [other for key in keys for other in around.further(key, is_left_out)]
        found.append(keys if len(keys) < 2 and not beyond else sorted({*keys, *beyond}))
    return found


def documents(
    records: Sequence[JsonObject],
    relationships: Sequence[JsonObject],
    arounds: Sequence[Surroundings],
    redacted: tuple[str, ...],
) -> tuple[pl.Series, list[str]]:
    """The document that is kept of each record (one JSON:API document, as text) and its hash (BLAKE2b-128 of that text, hexadecimal).

    A record that comes again in another order of its members has another hash; whether its content is another, the merge finds out
    (`resources.content`). Members named in `redacted` carry capability URLs (evidence 5.21); they are in neither.
    """
    named = related(relationships, arounds, redacted)
    pages: dict[Surroundings, dict[Key, bytes]] = {around: {} for around in set(arounds)}
    for around, page in pages.items():
        page.update(_encoded(around.included, redacted))
    kept = _kept(records, [object_at(record, "attributes") for record in records], redacted)
    encoded: list[bytes | None] = []
    for record, keys, around in zip(kept, named, arounds, strict=True):
        included = pages[around]
        encoded.append(
            b'{"data":%b,"included":[%b]}'
            % (encode(record), b",".join(map(included.__getitem__, keys)) if keys else b"")
        )
    return _finished(
        encoded,
        redacted,
        lambda place: (records[place], [arounds[place].included[key] for key in named[place]]),
    )


def _finished(
    encoded: list[bytes | None], redacted: tuple[str, ...], sent: Callable[[int], tuple[JsonObject, list[JsonObject]]]
) -> tuple[pl.Series, list[str]]:
    """Documents as text, and their hashes. `sent`: a record and what belongs to it, by place, where a member in `redacted` may stand deeper."""
    texts, suspects = texts_of(encoded, redacted)
    for place in suspects:
        record, included = sent(place)
        encoded[place] = encode(without({"data": record, "included": included}, redacted))
    if suspects:
        texts, _ = texts_of(encoded, ())
    return texts, [_digest(one) for one in encoded if one is not None]


def _encoded(included: Included, redacted: tuple[str, ...]) -> dict[Key, bytes]:
    """The included resources of one page, as they are kept."""
    resources = included.values()
    kept = _kept(resources, [object_at(resource, "attributes") for resource in resources], redacted)
    return dict(zip(included, map(encode, kept), strict=True))


def documents_in_slots(sheaf: Sheaf, records: Resources, redacted: tuple[str, ...]) -> tuple[pl.Series, list[str]]:
    """As `documents`, of records in slots: out of the bytes that were sent."""
    pages = list(dict.fromkeys(sheaf.pages))
    included = Resources(sheaf.around, [resource for page in pages for resource in page.resources])
    sent = [raw for page in pages for raw in page.raws]
    own_kept, around_kept = _cut(sheaf.raws, records, redacted), _cut(sent, included, redacted)
    starts = dict(zip(pages, accumulate((len(page.raws) for page in pages), initial=0), strict=False))
    owners = [page for page in pages for _ in page.raws]
    named, beyond = _named(records, sheaf.pages, redacted), _named(included, owners, redacted)
    if any(beyond):
        for place, (keys, page) in enumerate(zip(named, sheaf.pages, strict=True)):
            further = [other for key in keys for other in beyond[starts[page] + page.keys[key]]]
            named[place] = list({*keys, *further}) if further else keys
    encoded: list[bytes | None] = []
    for own, keys, page in zip(own_kept, named, sheaf.pages, strict=True):
        start = starts[page]
        around = [around_kept[start + page.keys[key]] for key in (sorted(keys) if len(keys) > 1 else keys)]
        encoded.append(b'{"data":%b,"included":[%b]}' % (own, b",".join(around)))
    return _finished(
        encoded,
        redacted,
        lambda place: (
            as_object(sheaf.raws[place]),
            [sheaf.pages[place].included[key] for key in sorted(named[place])],
        ),
    )


def _named(resources: Resources, pages: Sequence[Page], redacted: tuple[str, ...]) -> list[Sequence[Key]]:
    """As `related`, for resources in slots and what their own linkage names; each once."""
    kinds = frozenset[str]().union(*(page.kinds for page in set(pages)))
    leading = [
        column
        for name, column in resources.linked.items()
        if not resources.leads_to(name).isdisjoint(kinds) and not is_redacted(name, redacted)
    ]
    if not leading:
        return [()] * resources.count
    found: list[Sequence[Key]] = []
    for page, *values in zip(pages, *leading, strict=True):
        keys = [
            key
            for value in values
            for one in (value if type(value) is list else (value,))
            if type(one) is Identifier and (key := (one.type, one.id)) in page.keys
        ]
        found.append(keys if len(keys) < 2 else list(dict.fromkeys(keys)))
    return found


def _cut(raws: Sequence[Raw], resources: Resources, redacted: tuple[str, ...]) -> list[bytes]:
    """The resources as they were sent, without their attributes in `redacted`; a server that puts space between members does so everywhere."""
    kept = list(map(bytes, raws))
    if kept and (b'": ' in kept[0] or b"\n" in kept[0]):
        kept = list(map(encode, map(as_object, kept)))
    for name, column in resources.attributes.items():
        if not is_redacted(name, redacted):
            continue
        key = encode(name)
        for place, value in enumerate(column):
            if value is not MISSING:
                kept[place] = (_cut_out(kept[place], key, bytes(value)) if type(value) is Raw else None) or encode(
                    without(as_object(kept[place]), redacted)
                )
    return kept


def _cut_out(resource: bytes, key: bytes, value: bytes) -> bytes | None:
    """A resource without one member; None where its bytes do not show surely where that stands."""
    start = resource.find(key)
    colon = start + len(key)
    if start < 1 or resource.find(key, colon) >= 0 or resource[colon] != _COLON:
        return None
    if not resource.startswith(value, colon + 1):
        return None
    end = colon + 1 + len(value)
    if resource[end] == _COMMA:
        return resource[:start] + resource[end + 1 :]
    return resource[: start - 1] + resource[end:] if resource[start - 1] == _COMMA else None
