"""Rows of child tables: the lists that a batch's records carry, gathered over the batch.

What lives here: which elements a list has, in whatever form it came, and whether it came whole. What does not: a record's own columns (`columns`), casts
(`normalise`). Missing linkage is not an empty list: only a list that came whole may take rows away (JSON:API; evidence 6.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.columns import (
    FORMS,
    Around,
    Form,
    Judge,
    Members,
    Sheet,
    Values,
    as_is,
    digits,
    formed,
    identifiers,
    known_members,
    types_of,
    without_blanks,
)
from pipelines.documents import json_texts, redacted_names
from pipelines.records import (
    MISSING,
    JsonObject,
    first,
    identifier_id,
    included_of,
    kinds_in,
    object_at,
    spelling,
)
from pipelines.slots import Identifier, Resources, Sheaf, plain
from pipelines.streams import BOOKINGS, CUSTOMERS, Stream
from resources.contract import Contract

# In the sheet of a child table: the place of the record that lists the row.
OWNER = "owner"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: dict[type, str] = {bool: "boolean", str: "text", int: "number", Decimal: "number"}
_BOOLEAN: dict[type, Form] = {bool: as_is}
_TEXT: dict[type, Form] = {str: as_is}
_NUMBER: dict[type, Form] = {int: str, Decimal: digits}
_WRITTEN: dict[type, Form] = {str: as_is, int: str, Decimal: str}


@dataclass
class Lists:
    """The child rows of a batch by table, and for each table whether a record's list of it came whole."""

    sheets: dict[str, Sheet] = field(default_factory=dict)
    wholes: dict[str, list[bool]] = field(default_factory=dict)


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


def children(listing: Listing) -> Lists:
    """The child rows that records list."""
    lists = Lists()
    if listing.stream.name == CUSTOMERS.name:
        _tags(listing, lists)
        _custom_fields(listing, lists)
    elif listing.stream.name == BOOKINGS.name:
        _resources(listing, lists)
        _participants(listing, lists)
    return lists


def _listed(values: Values | None, count: int) -> tuple[list[list[Any]], list[bool]]:
    """For each resource the elements of a list, and whether it came at all; a single value counts as a list of one."""
    if values is None:
        return [[] for _ in range(count)], [False] * count
    lists = [v if isinstance(v, list) else [] if v is MISSING or v is None else [v] for v in values]
    return lists, [value is not MISSING for value in values]


def _flat(lists: Sequence[list[Any]]) -> tuple[list[int], list[Any]]:
    """The elements of many lists in one, and for each the place of the list that it stands in."""
    return (
        [place for place, elements in enumerate(lists) for _ in elements],
        [element for elements in lists for element in elements],
    )


def _typed(values: Values) -> list[str]:
    """Free values told by their JSON type; `""` and null are empty, `false` is an answer (5.15)."""
    return ["empty" if value is None or value == "" else _KINDS.get(type(value), "other") for value in values]


def _name(value: object) -> Any:
    return value.get("name") if isinstance(value, dict) else None


# Customers ----------------------------------------------------------------------------------------------------------------------


def _tags(listing: Listing, lists: Lists) -> None:
    names = listing.contract.streams[CUSTOMERS.name].columns["tags"]
    sent, whole = _listed(listing.members.values(names), len(listing.accounts))
    owners, tags = [], []
    for place, elements in enumerate(sent):
        for element in map(plain, elements):
            text = element if isinstance(element, str) else _name(element)
            if isinstance(text, str) and text:
                owners.append(place)
                tags.append(text)
            else:
                whole[place] = False  # what cannot be read must not remove what was read before
                listing.judge.notes.add("bad_value", "tags", f"{type(element).__name__} where a tag is due", place)
    lists.wholes["customer_tags"] = whole
    lists.sheets["customer_tags"] = {OWNER: owners, "tag": tags}


def _custom_fields(listing: Listing, lists: Lists) -> None:
    names, redacted = listing.contract.streams[CUSTOMERS.name], listing.contract.redact.members
    found = listing.members.values(names.columns["custom_fields"])
    if found is not None:
        found = [_pairs(value, redacted) if isinstance(value, dict) else value for value in found]
    sent, whole = _listed(found, len(listing.accounts))
    owners, ids, values = [], [], []
    for place, elements in enumerate(sent):
        for element in map(plain, elements):
            field_id = identifier_id(element)
            if field_id is None:
                whole[place] = False
                listing.judge.notes.add("bad_value", "custom_fields", "a custom field without id", place)
                continue
            owners.append(place)
            ids.append(field_id)
            values.append(element.get("value") if isinstance(element, dict) else None)
    days: list[date | None] = [None] * len(ids)
    for row, (owner, field_id, value) in enumerate(zip(owners, ids, values, strict=True)):
        if field_id in names.date_fields:
            days[row] = _day(listing, value, field_id, owner)
    given, types = without_blanks(values, types_of(values))
    lists.wholes["customer_custom_fields"] = whole
    lists.sheets["customer_custom_fields"] = {
        OWNER: owners,
        "field_id": ids,
        "value_kind": _typed(values),
        "value_raw": json_texts(values, redacted).fill_null("null"),
        "value_text": formed(given, types, _TEXT),
        "value_number": formed(given, types, _NUMBER),
        "is_value_true": formed(given, types, _BOOLEAN),
        "value_on": days,
    }


def _pairs(sent: JsonObject, redacted: tuple[str, ...]) -> list[Any]:
    """An object of name: value instead of a list, as the list that it stands for; one with an id is a single field."""
    secret = redacted_names(redacted)
    return (
        [sent]
        if "id" in sent
        else [{"id": name, "value": value} for name, value in sent.items() if spelling(name) not in secret]
    )


def _day(listing: Listing, value: object, field_id: str, place: int) -> date | None:
    """5.14: a date field is epoch seconds at midnight of the account's zone; without a zone nothing is guessed."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            zone = listing.zones.get(listing.accounts[place])
            return None if zone is None else (EPOCH + timedelta(seconds=float(value))).astimezone(ZoneInfo(zone)).date()
        if isinstance(value, str):
            return date.fromisoformat(value[:10])
    except (ValueError, OverflowError):
        pass  # falls through to the note below, like every other value that is no day
    listing.judge.notes.add("bad_value", f"custom_fields.{field_id}", "no day can be read from it", place)
    return None


# Bookings -----------------------------------------------------------------------------------------------------------------------


def _resources(listing: Listing, lists: Lists) -> None:
    aliases = listing.contract.streams[BOOKINGS.name].columns["resources"]
    sent, whole = _listed(listing.members.values(aliases), len(listing.accounts))
    owners, elements = _flat(sent)
    found = identifiers(elements, types_of(elements))
    if None in found:
        for place, resource_id in zip(owners, found, strict=True):
            if resource_id is None:
                whole[place] = False
                listing.judge.notes.add("bad_value", "resources", "a bookable resource without id", place)
        named = [row for row, resource_id in enumerate(found) if resource_id is not None]
        owners, elements, found = ([column[row] for row in named] for column in (owners, elements, found))
    if kinds_in(elements).isdisjoint(listing.members.kinds):
        names = list(map(_name, elements))
    else:
        names = []
        for place, element in zip(owners, map(plain, elements), strict=True):
            resource = included_of(element, listing.members.arounds[place].included)
            names.append(object_at(resource, "attributes").get("name") if resource else _name(element))
    lists.wholes["booking_resources"] = whole
    lists.sheets["booking_resources"] = {
        OWNER: owners,
        "resource_id": found,
        "resource_name": listing.judge.texts(names, owners, "resources.name"),
    }


@dataclass
class _People:
    """Customers on bookings, side by side: who they are as far as their form says it, and where their members stand."""

    places: list[int] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    customer_ids: list[str | None] = field(default_factory=list)
    partials: list[bool] = field(default_factory=list)
    attributes: list[JsonObject] = field(default_factory=list)
    relationships: list[JsonObject] = field(default_factory=list)
    arounds: list[Around] = field(default_factory=list)
    in_slots: Resources | None = None

    def members(self, known: frozenset[str]) -> Members:
        """Their members as columns."""
        if self.in_slots is not None:
            return Members.in_slots(self.places, self.in_slots, self.arounds, known)
        return Members.of(self.places, self.attributes, self.relationships, self.arounds, known)

    def add(self, record_id: str | None, customer_id: str | None, resource: JsonObject, *, is_partial: bool) -> None:
        self.ids.append(record_id)
        self.customer_ids.append(customer_id)
        self.partials.append(is_partial)
        self.attributes.append(object_at(resource, "attributes"))
        self.relationships.append(object_at(resource, "relationships"))


def _participants(listing: Listing, lists: Lists) -> None:
    contract, judge, members = listing.contract, listing.judge, listing.members
    names = contract.streams[BOOKINGS.name].participant_columns
    aliases = contract.streams[BOOKINGS.name].columns["participants"]
    sent, whole = _listed(members.values(aliases), len(listing.accounts))
    whole_answers = whole.copy()
    owners, elements = _flat(sent)
    people = _in_slots(owners, elements, listing)
    if people is None:
        people = _People()
        for place, element in zip(owners, map(plain, elements), strict=True):
            if not isinstance(element, dict):
                whole[place] = whole_answers[place] = False
                judge.notes.add("bad_value", "participants", "a participant that is not an object", place)
                continue
            people.places.append(place)
            people.arounds.append(members.arounds[place])
            _meet(people, element, contract, judge)
    own = people.members(known_members(contract, names))
    judge.note_unknown(own, "participant.")
    sheet = judge.sheet(own, listing.stream.children[0].columns, names, "participant")
    _complete(sheet, people, own, names, judge)
    lists.wholes["booking_customers"] = whole
    lists.sheets["booking_customers"] = {
        **sheet,
        OWNER: people.places,
        "customer_booking_id": people.ids,
        "is_partial": people.partials,
    }
    lists.wholes["booking_answers"] = whole_answers
    lists.sheets["booking_answers"] = _answers(judge, own, people, names["answers"], whole_answers)


def _in_slots(owners: list[int], elements: Sequence[Any], listing: Listing) -> _People | None:
    """The participants where each is a mere identifier and came with the page, as they do as a rule; None where one is otherwise. See `_meet`."""
    if listing.sheaf is None or not types_of(elements) <= {Identifier}:
        return None
    keys = [(element.type, element.id) for element in elements]
    pages = [listing.sheaf.pages[place] for place in owners]
    if not {kind for kind, _ in keys}.isdisjoint(listing.contract.streams[CUSTOMERS.name].types):
        return None
    try:
        resources = [page.resources[page.keys[key]] for page, key in zip(pages, keys, strict=True)]
    except KeyError:
        return None
    return _People(
        places=owners,
        ids=[record_id for _, record_id in keys],
        customer_ids=[None] * len(keys),
        partials=[False] * len(keys),
        arounds=list(pages),
        in_slots=Resources(listing.sheaf.around, resources),
    )


def _meet(people: _People, element: JsonObject, contract: Contract, judge: Judge) -> None:
    """One customer on a booking, in whatever form: named, included, or embedded with or without an envelope."""
    element_id, around = identifier_id(element), people.arounds[-1]
    resource: JsonObject = element
    if isinstance(element.get("type"), str) and element_id is not None:
        if element["type"] in contract.streams[CUSTOMERS.name].types:
            # The relationship names the customers themselves: who took part is known, the participation has no id.
            people.add(None, element_id, {}, is_partial=False)
            return
        is_missing = False
        if "attributes" not in element:
            key = (element["type"], element_id)
            is_missing = key not in around.included
            resource = around.included.get(key, {})
        is_unreadable = not isinstance(resource.get("attributes") or {}, dict)
        if is_unreadable:  # nothing can be read from it, so what was read before stays
            told = f"{type(resource['attributes']).__name__} where an object is due"
            judge.notes.add("bad_value", "participant.attributes", told, people.places[-1])
        people.add(element_id, None, resource, is_partial=is_missing or is_unreadable)
        return
    # Embedded without an envelope: its own id has a name of its own, and a bare `id` is the customer's (5.30), unless the contract says otherwise.
    aliases = contract.streams[BOOKINGS.name].participant_columns["customer_booking_id"]
    is_own = "id" in aliases
    resource = {"attributes": {k: v for k, v in element.items() if k != "id" or is_own}}
    own_id = first(resource, aliases, {})
    people.add(
        None if own_id is MISSING else identifier_id(own_id),
        None if is_own else element_id,
        resource,
        is_partial=False,
    )


def _complete(
    sheet: Sheet, people: _People, members: Members, names: Mapping[str, tuple[str, ...]], judge: Judge
) -> None:
    """What a participant's columns do not say alone: the customer that the form names, the empty status, a key where none came."""
    sent = members.values(names["customer_id"]) or [None] * len(people.places)
    given, _ = without_blanks(sent, types_of(sent))
    read = sheet.get("customer_id", given)
    customers = [
        of_form if value is None else text
        for of_form, value, text in zip(people.customer_ids, given, read, strict=True)
    ]
    sheet["customer_id"] = customers
    # An empty participant status is a word of its own (`none`) where the contract lists the empty spelling.
    statuses = members.values(names["status"]) or []
    if "" in statuses:
        words, raws = list(sheet["status"]), list(sheet["status_raw"])
        for row, status in enumerate(statuses):
            if status == "" and not people.partials[row]:
                words[row], raws[row] = judge.words["participant"].get(""), ""
        sheet["status"], sheet["status_raw"] = words, raws
    equals: Counter[tuple[int, str]] = Counter()
    for row, own_id in enumerate(people.ids):
        if own_id is None:
            stem = f"customer:{customers[row] or ''}"
            equals[people.places[row], stem] += 1
            people.ids[row] = f"{stem}:{equals[people.places[row], stem]}"


def _answers(judge: Judge, members: Members, people: _People, names: Iterable[str], whole: list[bool]) -> Sheet:
    """The answers of participants; `whole` becomes False for the bookings of which they did not come whole, so that stored ones must be kept."""
    sent, came = _listed(members.values(names), len(people.ids))
    for row, place in enumerate(people.places):
        if people.partials[row] or not came[row]:
            whole[place] = False
        if people.partials[row]:
            sent[row] = []
    rows, elements = _flat(sent)
    if not types_of(elements) <= {dict}:
        for row, element in zip(rows, elements, strict=True):
            if not isinstance(element, dict):
                whole[people.places[row]] = False
                judge.notes.add("bad_value", "questions", "a question that is not an object", people.places[row])
        objects = [number for number, element in enumerate(elements) if isinstance(element, dict)]
        rows, elements = [rows[number] for number in objects], [elements[number] for number in objects]
    labels = [element.get("label") for element in elements]
    given_ids = [element.get("id") for element in elements]
    ids = list(formed(*without_blanks(given_ids, types_of(given_ids)), FORMS["reference"]))
    if None in ids:  # missing in old data (5.15)
        equals: Counter[tuple[int, str]] = Counter()
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            if ids[number] is None:
                # A label that is no text could hold anything, so it is named by its type alone.
                stem = f"({type(label).__name__})" if isinstance(label, dict | list) else str(label)
                equals[row, stem] += 1
                ids[number] = f"label:{stem}:{equals[row, stem]}"
    owners = [people.places[row] for row in rows]
    people_ids = [people.ids[row] for row in rows]
    values = [element.get("value") for element in elements]
    given, types = without_blanks(values, types_of(values))
    return {
        OWNER: owners,
        "customer_booking_id": people_ids,
        "question_id": ids,
        "label": judge.texts(labels, owners, "questions.label"),
        "answer_kind": _typed(values),
        "answer_text": formed(given, types, _WRITTEN),
        "is_answer_true": formed(given, types, _BOOLEAN),
    }
