"""Whether two kept documents have the same content: what decides between `update` and `unchanged` where their hashes differ.

What lives here: the canonical form of a document, as a pure function of texts. What does not: how a document is made and hashed (`pipelines.documents`),
which documents are compared (`sql/merge.sql`, `merging`).

A kept document is `{"data": record, "included": [...]}`. Its content is the record and each included resource, reduced: no `links`, no `meta`, of each
relationship its linkage (`data`) alone. The order of members says nothing, nor does the order of `included` and of the identifiers in a linkage, which are
sets in JSON:API; the order of every other list does. Numbers are compared as they are written: 1 and 1.0 differ, as they do in `document`, and 0.1 and
0.10 too.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

JsonObject = dict[str, Any]

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


def same_content(one: str | None, other: str | None) -> bool:
    """Whether two kept documents say the same. What is no kept document has no content, and says the same as nothing else."""
    if one is None or other is None:
        return False
    if one == other:
        return True
    try:
        first, second = _resources(one), _resources(other)
        # Values that differ are found without writing anything; only values that are equal to Python are looked at as they are written.
        return first == second and bool(first) and _encode_sorted(first) == _encode_sorted(second)
    except RecursionError:  # nested as deeply as the decoder follows, and deeper than this thread can
        return False


def _resources(text: str) -> list[JsonObject]:
    """The record and what came with it, bare; [] where the text is no kept document."""
    document = _decode(text)
    if not isinstance(document, dict):
        return []
    record, included = document.get("data"), document.get("included")
    if not isinstance(record, dict) or not isinstance(included, list) or not all(isinstance(r, dict) for r in included):
        return []
    return [_bare(record), *sorted(map(_bare, included), key=_identity)]


def _identity(resource: JsonObject) -> tuple[str, str]:
    return str(resource.get("type")), str(resource.get("id"))


def _bare(resource: JsonObject) -> JsonObject:
    bare = resource.copy()
    bare.pop("links", None)
    bare.pop("meta", None)
    related = bare.get("relationships")
    if related is None or isinstance(related, dict):
        own = {name: _linkage(sent) for name, sent in (related or {}).items()}
        bare["relationships"] = {name: sent for name, sent in own.items() if sent != {}}
    return bare


def _linkage(sent: object) -> object:
    """A relationship without its links and meta, its identifiers in an order of our own; what is none in JSON:API's terms is content as it is."""
    if not isinstance(sent, dict):
        return sent
    own = {k: v for k, v in sent.items() if k not in ("links", "meta")}
    data = own.get("data")
    if isinstance(data, list) and len(data) > 1 and all(map(_is_identifier, data)):
        own["data"] = sorted(data, key=_encode_sorted)
    return own


def _is_identifier(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("type"), str) and isinstance(one.get("id"), str)
