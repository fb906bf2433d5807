"""The body of a list document, read only as far as walking on needs it: its envelope and the ids of its records, without making values of the rest.

What lives here: decoding, what makes a body plain, and the proof that decoding a plain body in full will not fail later. What does not: requests, links,
what a document must have (`answers`). Many threads fetch, and each holds the interpreter's lock while it decodes, so they decode little.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

Record = dict[str, Any]
# Whole numbers stay int, all others become Decimal: 0.10 and 12.1 survive as written (evidence 5.12).
decode = msgspec.json.Decoder(float_hook=Decimal).decode
# Half of a surrogate pair, as sent by programs that cut an emoji in two. No decoder takes it, and a whole list would be lost for one letter.
_LONE_SURROGATE = re.compile(
    rb"(\\\\)|(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
# Decoding refuses a number with an exponent of so many digits, or with thousands of digits itself; a number that is only skipped is never looked at for that.
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_BEYOND_MEASURE = b"0" * 18
_OF_A_NUMBER = b"0123456789+-.eE"
_BEFORE_A_NUMBER = b":,[ \t\r\n"
# Letters of "next" written as escapes begin like this.
_ESCAPED_LETTERS = (b"\\u006", b"\\u007")
# Beside a next link that stands at the top.
_OTHER_PAGES = ("first", "last", "prev")


def _mended(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] or found[2] else b"\\ufffd"


def decoded(body: bytes) -> Any:
    """A body as Python values; raises what the decoder raises.

    Looking for halves of surrogate pairs takes three times as long as decoding, so only a body that cannot be decoded is looked through. A byte order mark
    is no part of JSON, and readers may ignore it (RFC 8259 section 8.1).
    """
    try:
        return decode(body)
    except msgspec.DecodeError:
        mended = _LONE_SURROGATE.sub(_mended, body.removeprefix(BOM_UTF8))
        if mended == body:
            raise
        return decode(mended)


def at(document: Record, dotted: str) -> Any:
    """The value at a place that the contract names; the document itself where it names none."""
    value: Any = document
    for name in dotted.split(".") if dotted else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value if dotted else document


@dataclass(frozen=True, slots=True)
class Envelope:
    """A plain list document: the members around its records that the contract speaks of, and the records' ids."""

    around: Record
    ids: list[str | int]


class _Head(msgspec.Struct, gc=False):
    id: str | int


def _is_text(body: bytes) -> bool:
    """Whether bytes are UTF-8; polars looks without making a text of them, which Python needs ten times as long for."""
    import polars as pl  # slow to import, and a page without rows or strangers' letters needs none of it

    try:
        pl.Series([body], dtype=pl.Binary()).cast(pl.String())
    except pl.exceptions.ComputeError:
        return False
    return True


def _has_long_number(body: bytes) -> bool:
    """Whether a number may be too long to be decoded. As many digits inside a text, such as an id, are no number."""
    digits = body.translate(_DIGITS)
    start = digits.find(_BEYOND_MEASURE)
    while start >= 0:
        before = body[max(0, start - 64) : start].rstrip(_OF_A_NUMBER)[-1:]
        if not before or before in _BEFORE_A_NUMBER:
            return True
        start = digits.find(_BEYOND_MEASURE, digits.find(b" ", start))
    return False


class Plain:
    """Reads bodies of the plain form: each record is an object with an id, and no relationship is paginated. `next_place` and `total_place` are the
    contract's; `beside` are names of further members to be read.
    """

    def __init__(self, next_place: str, total_place: str, beside: Collection[str] = ()) -> None:
        self._holder, _, self._next = next_place.rpartition(".")
        others = () if self._holder else _OTHER_PAGES
        self._names = sorted(
            {*beside, *(place.partition(".")[0] for place in (next_place, total_place, *others))} - {""}
        )
        # A contract that looks for links among the records has every page read in full.
        self._is_of_use = bool(next_place) and not {"data", "included", "errors"} & set(self._names)
        fields = {f"member_{number}": name for number, name in enumerate(self._names)}
        self._fields = list(fields.items())
        form = msgspec.defstruct(
            "_Document",
            [
                ("data", list[_Head]),
                *((name, msgspec.Raw, msgspec.field(default=msgspec.Raw())) for name in ("included", "errors")),
                *((field, Any, msgspec.field(default=msgspec.UNSET)) for field in fields),
            ],
            rename=fields,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(form, float_hook=Decimal).decode

    def read(self, body: bytes) -> Envelope | None:
        """The envelope of a body that can be decoded in full; None where it cannot, or where the records themselves must be looked at."""
        if not self._is_of_use:
            return None
        try:
            found: Any = self._decode(body)
        except (ArithmeticError, RecursionError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        # Strings that the decoder skips may be no text at all: it looks at their bytes only where it makes strings of them.
        if not body.isascii() and not _is_text(body):
            return None
        if bytes(found.errors) or bytes(memoryview(found.included)[:1]) not in (b"", b"["):
            return None
        if _has_long_number(body):
            return None
        values = ((name, getattr(found, field)) for field, name in self._fields)
        around = {name: value for name, value in values if value is not msgspec.UNSET}
        if self._may_page_a_linkage(body, around):
            return None
        return Envelope(around, [head.id for head in found.data])

    def _may_page_a_linkage(self, body: bytes, around: Record) -> bool:
        """Whether any member may be called "next" besides the list's own."""
        holder = at(around, self._holder)
        is_own = self._next == "next" and isinstance(holder, dict) and "next" in holder
        last = body.rfind(b'"next"')
        if last != (body.find(b'"next"', 0, last + 6) if is_own else -1):
            return True
        # Few bodies hold many escapes, and looking for one byte is ten times as fast as for five.
        escape = body.find(b"\\")
        while escape >= 0:
            if body.startswith(_ESCAPED_LETTERS, escape):
                return True
            escape = body.find(b"\\", escape + 2)
        return False
