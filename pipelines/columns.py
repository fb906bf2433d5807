"""The values of a column in the form that it is built from, and what in them is unlike the contract.

What lives here: the JSON types that each kind of column takes, judged together for all values of a column, the odd ones told. What does not: finding the
values (`members`), dtypes and casts (`normalise`). Values that polars casts stay text here. Sources: evidence sections 2 and 5, by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from functools import cache
from typing import Any
from zoneinfo import available_timezones

import polars as pl

from pipelines.drift import Notes
from pipelines.members import Members, Values, types_of
from pipelines.records import MISSING
from pipelines.redaction import is_redacted, json_texts
from pipelines.slots import Identifier, plain
from pipelines.streams import Column, Kind
from resources.contract import Contract, spelling

Sheet = dict[str, Values | pl.Series]
_NULL = type(None)
_MAY_BE_BLANK = {type(MISSING), str}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_WIDE = Context(prec=1000)  # no digit may be rounded away before the cast has seen it


def as_is(value: Any) -> Any:
    """The value itself: it needs no other form."""
    return value


def digits(number: int | Decimal) -> str:
    """A number without an exponent (1e2 is 100), so that a cast can see its digits; one that no column could hold stays as it is."""
    return format(number, "f") if isinstance(number, Decimal) and abs(number.adjusted()) < 100 else str(number)


def hundredths(number: str | int | Decimal) -> str:
    """An amount in minor units (pence, cents) in major ones; what is no number stays as it is, so that the cast refuses it."""
    text = number.strip() if isinstance(number, str) else digits(number)
    return format(Decimal(text).scaleb(-2, _WIDE), "f") if _NUMBER.fullmatch(text) else text


@cache
def _zones() -> dict[str, str]:
    return {zone: zone for zone in available_timezones()}


def _zone(value: str) -> str | None:
    return _zones().get(value)


# For each kind of column: JSON type → how its values get the form that the column is built from; None where one has no such form. Types that are not
# named have none at all. What is text stays text, because polars casts whole columns.
Form = Callable[[Any], Any]
_TEXT: dict[type, Form] = {str: as_is, int: str, Decimal: str}
_CAST: dict[type, Form] = {str: str.strip, int: str, Decimal: digits}
FORMS: dict[Kind, dict[type, Form]] = {
    "text": _TEXT,
    "status": _TEXT,
    "reference": {str: as_is, int: str},
    "boolean": {bool: as_is, str: {"true": True, "false": False}.get},
    "zone": {str: _zone},
    "instant": _CAST,
    "money": _CAST,
    "number": _CAST,
    "integer": _CAST,
    "date": _CAST,
}


_MINOR_UNITS: dict[type, Form] = {str: hundredths, int: hundredths, Decimal: hundredths}
# Forms that every value of their type has.
_SURE = {as_is, str, str.strip, digits, hundredths}


def without_blanks(values: Values, types: set[type]) -> tuple[Values, set[type]]:
    """None for what is absent, null or empty, and the types after that. 5.15: an empty string is null in the model."""
    if types.isdisjoint(_MAY_BE_BLANK) or (types == {str} and "" not in values):
        return values, types
    values = [None if value is MISSING or (type(value) is str and not value) else value for value in values]
    return values, types_of(values)


def formed(values: Values, types: set[type], forms: Mapping[type, Form]) -> Values:
    """The values in the forms that their types have; None where a value has none."""
    if all(forms.get(one) is as_is for one in types - {_NULL}):
        return values
    if len(types) == 1:
        form = forms.get(*types)
        return [None] * len(values) if form is None else list(map(form, values))
    same = {one for one in types if forms.get(one) is as_is} | {_NULL}
    return [
        value if type(value) in same else None if (form := forms.get(type(value))) is None else form(value)
        for value in values
    ]


def identifiers(values: Values, types: set[type]) -> Values:
    """As `identifier_id`, for many values: the id in an identifier, an embedded object or a bare id; None where there is none."""
    if types == {Identifier}:
        return [value.id for value in values]
    if dict in types or Identifier in types:
        values = [
            value.get("id") if isinstance(value, dict) else value.id if isinstance(value, Identifier) else value
            for value in values
        ]
        types = types_of(values)
    return formed(*without_blanks(values, types), FORMS["reference"])


class Judge:
    """Columns of one batch under construction, and what in them is unlike the contract."""

    def __init__(self, contract: Contract, notes: Notes) -> None:
        self.redacted = contract.redact.members
        self.notes = notes
        self.forms = FORMS | {"money": _MINOR_UNITS} if contract.document.money_in_minor_units else FORMS
        self.words = {
            level: {spelling(s): word for word, spellings in words.items() for s in spellings}
            for level, words in (
                ("booking", contract.statuses.booking),
                ("participant", contract.statuses.participant),
            )
        }

    def sheet(
        self, members: Members, columns: Iterable[Column], aliases: Mapping[str, tuple[str, ...]], level: str
    ) -> Sheet:
        """The columns for which a resource has a member, if only a null."""
        sheet: Sheet = {}
        for column in columns:
            names = aliases.get(column.name, ())
            sent, types = members.typed_values(names)
            if sent is None:
                continue
            if column.kind != "reference" and Identifier in types:
                sent = list(map(plain, sent))
                types = types_of(sent)
            values, types = without_blanks(sent, types)
            if column.kind == "json":
                sheet[column.name] = json_texts(values, self.redacted)
                continue
            texts = self._formed(column, values, types, members, names)
            if column.kind == "status":
                sheet[f"{column.name}_raw"] = texts
                texts = self._in_words(column.name, texts, members.places, level)
            sheet[column.name] = texts
        return sheet

    def _formed(
        self, column: Column, values: Values, types: set[type], members: Members, aliases: tuple[str, ...]
    ) -> Values:
        """Values in the form that their column is built from; None, and drift, where one has the wrong JSON type."""
        forms = self.forms[column.kind]
        texts = identifiers(values, types) if column.kind == "reference" else formed(values, types, forms)
        if not all(forms.get(one) in _SURE for one in types - {_NULL}):
            odd = [
                row
                for row, (value, text) in enumerate(zip(values, texts, strict=True))
                if text is None and value is not None and (column.kind != "reference" or value != [])
            ]
            names = members.names(aliases) if odd else []
            for row in odd:
                told = f"{type(values[row]).__name__} where {column.kind} is due"
                self.notes.add("bad_value", names[row], told, members.places[row])
        return texts

    def _in_words(self, name: str, texts: Values, places: Sequence[int], level: str) -> Values:
        """Statuses in the contract's words, each spelling judged once; one that it does not know stays as sent."""
        words = {text: self.words[level].get(spelling(text)) for text in set(texts) - {None}}
        if None in words.values():
            for place, text in zip(places, texts, strict=True):
                if text is not None and words[text] is None:
                    self.notes.add("unknown_status", f"{level}.{name}", text[:60], place)
        told = {text: word or text for text, word in words.items()}
        return [None if text is None else told[text] for text in texts]

    def texts(self, values: Values, places: Sequence[int], path: str) -> list[str | None]:
        """Texts inside lists; None where one is absent or empty, and drift besides where it is something else."""
        if not types_of(values) <= {str, _NULL}:
            for place, value in zip(places, values, strict=True):
                if value is not None and not isinstance(value, str):
                    self.notes.add("bad_value", path, f"{type(value).__name__} where text is due", place)
        return [value or None if type(value) is str else None for value in values]

    def note_unknown(self, members: Members, prefix: str) -> None:
        """Members that map to no column, unless they are taken out, and relationships that are none."""
        for stranger in members.strangers:
            path = f"{prefix}{stranger.level}.{stranger.name}"
            if not is_redacted(stranger.name, self.redacted):
                self.notes.add_many("unknown_member", path, "maps to no column", stranger.places)
        for name, kind, place in members.odd:
            self.notes.add("bad_value", f"{prefix}relationships.{name}", f"{kind} where a relationship is due", place)
