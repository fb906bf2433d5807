"""JSON as text, and members taken out of it by name, however deep they stand and however they are spelt.

What lives here: encoding decoded values, finding the few texts that may hold a redacted member. What does not: which members (`redact.members` of the
contract), what is kept of a record (`documents`). Source: evidence section 5.21.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import msgspec
import polars as pl
from msgspec import Raw

from pipelines.slots import as_value
from resources.contract import spelling

# Letters that fold to several ("ß" is "ss"), which a search without case does not see: a key that holds one is looked at by itself.
_FOLDED = "ß\u0130\u0149\u01f0\u0390\u03b0\u0587\u1e96-\u1e9e\u1f50-\u1fff\ufb00-\ufb17"

_EMPTY = (b"null", b'""')

encode = msgspec.json.Encoder(decimal_format="number").encode


@cache
def redacted_names(names: tuple[str, ...]) -> frozenset[str]:
    """The members to take out, as `spelling` writes them: another dialect's `cancellation-url` carries the same token as `cancellationUrl`."""
    return frozenset(map(spelling, names))


@lru_cache(maxsize=1000)
def is_redacted(name: str, redacted: tuple[str, ...]) -> bool:
    """Whether a member of this name is taken out."""
    return spelling(name) in redacted_names(redacted)


@cache
def redacted_word(names: tuple[str, ...]) -> str:
    """A pattern (RE2) that finds such a name anywhere in encoded JSON where it stands without escapes: a first look, before a key is looked for.

    It begins with letters, so texts are skipped through at eight times the pace of a key.
    """
    # A solidus may be sent with a backslash before it or without.
    letters = (
        [r"\\?/" if c == "/" else re.escape(encode(c)[1:-1].decode()) for c in name]
        for name in sorted(redacted_names(names))
    )
    return "(?i)(?:" + "|".join("[-_ ]*".join(name) for name in letters) + ")"


@cache
def _redacted_key(names: tuple[str, ...]) -> str:
    """Finds in encoded JSON whatever may be a member of such a name: a look that spares nearly all records the walk through everything."""
    # A name that was sent with escapes says nothing before it is decoded.
    return rf'(?i)"[-_ ]*{redacted_word(names)}[-_ ]*"\s*:|\\u(?:[^"\\]|\\.)*"\s*:'


# The same for a key with a letter that folds to several; only a text that is not all ASCII can hold one.
_FOLDED_KEY = rf'[{_FOLDED}][^"]*"\s*:'


def without(value: Any, names: tuple[str, ...]) -> Any:
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
    return encode(without(value, redacted) if redacted else value).decode()


def texts_of(encoded: Sequence[bytes | None], redacted: tuple[str, ...]) -> tuple[pl.Series, list[int]]:
    """Encoded JSON as texts, and the places of those that may hold a member in `redacted`."""
    texts = pl.Series("text", encoded, dtype=pl.Binary()).cast(pl.String())
    if not redacted:
        return texts, []
    text = pl.col("text")
    has_word = text.str.contains(redacted_word(redacted)) | text.str.contains("\\u", literal=True)
    found = texts.to_frame().select(
        pl.arg_where(has_word).implode().alias("words"),
        pl.arg_where(text.str.len_bytes() != text.str.len_chars()).implode().alias("wide"),
    )
    words, wide = found["words"][0], found["wide"][0]
    suspects: set[int] = set()
    if len(words):
        suspects.update(words.filter(texts.gather(words).str.contains(_redacted_key(redacted))))
    if len(wide):
        suspects.update(wide.filter(texts.gather(wide).str.contains(_FOLDED_KEY)))
    return texts, sorted(suspects)


def json_texts(values: Sequence[Any], redacted: tuple[str, ...]) -> pl.Series:
    """Decoded JSON values as texts, without the members in `redacted`; None has none."""
    encoded = [_json(value) for value in values]
    texts, suspects = texts_of(encoded, redacted)
    if not suspects:
        return texts
    for place in suspects:
        value = values[place]
        encoded[place] = encode(without(as_value(value) if type(value) is Raw else value, redacted))
    return texts_of(encoded, ())[0]


def _json(value: Any) -> bytes | None:
    """A value as JSON; one that was left as it was sent is empty where it would be without that, too (5.15)."""
    if type(value) is Raw:
        sent = bytes(value)
        return None if sent in _EMPTY else sent
    return None if value is None else encode(value)
