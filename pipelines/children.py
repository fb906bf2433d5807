"""Rows of child tables: the lists that a batch's records carry, gathered over the batch.

What lives here: which lists each stream has, tags, custom fields, bookable resources. What does not: who takes part in a booking (`participants`), what
all lists have in common (`lists`), a record's own columns (`columns`), casts (`normalise`).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from pipelines.columns import Form, as_is, digits, formed, identifiers, without_blanks
from pipelines.lists import (
    BOOLEANS,
    OWNER,
    Listing,
    Lists,
    elements_of,
    first_name,
    flat,
    free_values,
    known_of,
    listed,
    unlisted,
    value_kinds,
)
from pipelines.members import Values, types_of
from pipelines.participants import participants
from pipelines.records import MISSING, included_of, kinds_in, object_at
from pipelines.redaction import is_redacted, json_texts
from pipelines.slots import plain
from pipelines.streams import BOOKINGS, CUSTOMERS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A midnight without a zone is a day as well: there is nothing to convert.
_PLAIN_DAY = re.compile(r"(\d{4}-\d\d-\d\d)([Tt ]00:00(:00(\.0+)?)?)?", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
_TEXT: dict[type, Form] = {str: as_is}
_NUMBER: dict[type, Form] = {int: str, Decimal: digits}


def children(listing: Listing) -> Lists:
    """The child rows that records list."""
    lists = Lists()
    if listing.stream.name == CUSTOMERS.name:
        _tags(listing, lists)
        _custom_fields(listing, lists)
    elif listing.stream.name == BOOKINGS.name:
        _resources(listing, lists)
        participants(listing, lists)
    return lists


def _name(value: object, redacted: tuple[str, ...]) -> Any:
    return value.get("name") if isinstance(value, dict) and not is_redacted("name", redacted) else None


# Customers ----------------------------------------------------------------------------------------------------------------------


def _tags(listing: Listing, lists: Lists) -> None:
    names, redacted = listing.contract.streams[CUSTOMERS.name].columns["tags"], listing.contract.redact.members
    sent, whole = listed(listing.members.values(names), len(listing.accounts), is_of_texts=True)
    owners, tags = [], []
    for place, elements in enumerate(sent):
        for element in map(plain, elements):
            text = element if isinstance(element, str) else _name(element, redacted)
            if isinstance(text, str) and text:
                owners.append(place)
                tags.append(text)
            else:
                whole[place] = False  # what cannot be read must not remove what was read before
                listing.judge.notes.add("bad_value", "tags", f"{type(element).__name__} where a tag is due", place)
    lists.wholes["customer_tags"] = whole
    lists.sheets["customer_tags"] = {OWNER: owners, "tag": tags}


def _custom_fields(listing: Listing, lists: Lists) -> None:
    stream, redacted, judge = listing.contract.streams[CUSTOMERS.name], listing.contract.redact.members, listing.judge
    names, own_id = stream.custom_field_columns, first_name(stream.custom_field_columns, "field_id")
    found, types = listing.members.typed_values(stream.columns["custom_fields"])
    if found is not None and dict in types:
        marks = names["field_id"]
        found = [unlisted(v, names, "field_id", marks, redacted) if isinstance(v, dict) else v for v in found]
    sent, whole = listed(found, len(listing.accounts))
    if not types_of(flat(sent)[1]) <= {dict}:  # an id alone is a field without a value
        sent = [[{own_id: one} if type(one) in (str, int) else one for one in elements] for elements in sent]
    elements = elements_of(sent, range(len(sent)), listing.members.arounds, known_of(listing.contract, names))
    judge.note_unknown(elements.members, "custom_fields.")
    for place in elements.linked:
        whole[place] = False
        judge.notes.add("bad_value", "custom_fields", "a custom field of which only the linkage came", place)
    given_ids = elements.members.values(names["field_id"]) or [None] * len(elements.rows)
    ids = identifiers(given_ids, types_of(given_ids))
    without = [place for place, field_id in zip(elements.rows, ids, strict=True) if field_id is None]
    for place in (*elements.odd, *without):
        whole[place] = False
        judge.notes.add("bad_value", "custom_fields", "a custom field without id", place)
    owners, values = elements.rows, free_values(elements, names, judge, "custom_fields")
    if without:
        named = [row for row, field_id in enumerate(ids) if field_id is not None]
        owners, ids, values = ([column[row] for row in named] for column in (owners, ids, values))
    days: list[date | None] = [None] * len(ids)
    given, types = without_blanks(values, types_of(values))
    for row, (owner, field_id, value) in enumerate(zip(owners, ids, given, strict=True)):
        if field_id in stream.date_fields:
            days[row] = _day(listing, value, field_id, owner)
    lists.wholes["customer_custom_fields"] = whole
    lists.sheets["customer_custom_fields"] = {
        OWNER: owners,
        "field_id": ids,
        "value_kind": value_kinds(values),
        "value_raw": _raw(values, redacted),
        "value_text": formed(given, types, _TEXT),
        "value_number": formed(given, types, _NUMBER),
        "is_value_true": formed(given, types, BOOLEANS),
        "value_on": days,
    }


def _raw(values: Values, redacted: tuple[str, ...]) -> pl.Series:
    """The values as JSON: null is one, and no member is none."""
    texts = json_texts([None if value is MISSING else value for value in values], redacted).fill_null("null")
    if MISSING not in values:
        return texts
    return texts.set(pl.Series([value is MISSING for value in values]), None)


def _day(listing: Listing, value: object, field_id: str, place: int) -> date | None:
    """5.14: a date field is epoch seconds at midnight of the account's zone; without a zone nothing is guessed.

    As text it is a plain day, or an instant that is midnight in UTC, as plain days are often written, or else midnight in the account's zone.
    """
    if value is None:
        return None
    zone = listing.zones.get(listing.accounts[place])
    try:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return None if zone is None else (EPOCH + timedelta(seconds=float(value))).astimezone(ZoneInfo(zone)).date()
        if isinstance(value, str) and (plain_day := _PLAIN_DAY.fullmatch(value)):
            return date.fromisoformat(plain_day[1])
        if isinstance(value, str) and _INSTANT.fullmatch(value):
            at = datetime.fromisoformat(value).astimezone(UTC)
            if at.time() == time.min:
                return at.date()
            if zone is None:
                return None
            at = at.astimezone(ZoneInfo(zone))
            if at.time() == time.min:
                return at.date()
    except (ValueError, OverflowError):
        pass  # falls through to the note below, like every other value that is no day
    listing.judge.notes.add("bad_value", f"custom_fields.{field_id}", "no day can be read from it", place)
    return None


# Bookings -----------------------------------------------------------------------------------------------------------------------


def _resources(listing: Listing, lists: Lists) -> None:
    aliases, redacted = listing.contract.streams[BOOKINGS.name].columns["resources"], listing.contract.redact.members
    sent, whole = listed(listing.members.values(aliases), len(listing.accounts))
    owners, elements = flat(sent)
    found = identifiers(elements, types_of(elements))
    if None in found:
        for place, resource_id in zip(owners, found, strict=True):
            if resource_id is None:
                whole[place] = False
                listing.judge.notes.add("bad_value", "resources", "a bookable resource without id", place)
        named = [row for row, resource_id in enumerate(found) if resource_id is not None]
        owners, elements, found = ([column[row] for row in named] for column in (owners, elements, found))
    if kinds_in(elements).isdisjoint(listing.members.kinds):
        names = [_name(element, redacted) for element in elements]
    else:
        names = []
        for place, element in zip(owners, map(plain, elements), strict=True):
            resource = included_of(element, listing.members.arounds[place].included)
            names.append(_name(object_at(resource, "attributes") if resource else element, redacted))
    lists.wholes["booking_resources"] = whole
    lists.sheets["booking_resources"] = {
        OWNER: owners,
        "resource_id": found,
        "resource_name": listing.judge.texts(names, owners, "resources.name"),
    }
