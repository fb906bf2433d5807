"""Rows for the customers on bookings, and for the answers that they gave, gathered over a batch.

What lives here: participants in whatever form they came (named, included, embedded), the keys of those that have none. What does not: other lists
(`children`), a booking's own columns (`columns`), casts (`normalise`). Sources: evidence 5.15, 5.30, 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipelines.columns import Form, Judge, Sheet, as_is, formed, identifiers, without_blanks
from pipelines.lists import (
    BOOLEANS,
    OWNER,
    Listing,
    Lists,
    elements_of,
    flat,
    free_values,
    known_of,
    listed,
    unlisted,
    value_kinds,
)
from pipelines.members import Around, Members, Values, known_members, types_of
from pipelines.records import MISSING, JsonObject, first, identifier_id, object_at
from pipelines.slots import Identifier, Resources, plain
from pipelines.streams import BOOKINGS, CUSTOMERS
from resources.contract import Contract

_WRITTEN: dict[type, Form] = {str: as_is, int: str, Decimal: str}


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


def participants(listing: Listing, lists: Lists) -> None:
    """Add the rows of `booking_customers` (one for each customer on a booking) and `booking_answers` (one for each question that one was asked)."""
    contract, judge, members = listing.contract, listing.judge, listing.members
    names = contract.streams[BOOKINGS.name].participant_columns
    aliases = contract.streams[BOOKINGS.name].columns["participants"]
    sent, whole = listed(members.values(aliases), len(listing.accounts))
    owners, elements = flat(sent)
    people = _in_slots(owners, elements, listing)
    if people is None:
        people = _People()
        for place, element in zip(owners, map(plain, elements), strict=True):
            if not isinstance(element, dict):
                whole[place] = False
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
    answers, are_open = _answers(listing, own, people)
    lists.sheets["booking_answers"] = answers
    # Whoever is gone takes the answers along; of those who stay, each has a list of answers that came whole or not.
    lists.wholes["booking_answers"] = whole
    if excepts := _excepted(people, whole, are_open):
        lists.excepts["booking_answers"] = excepts


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
    people.add(
        identifier_id(first(resource, aliases, {})),
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
            if status == "":
                words[row], raws[row] = judge.words["participant"].get(""), ""
        sheet["status"], sheet["status_raw"] = words, raws
    if None in people.ids:
        people.ids = _keyed(people.ids, people.places, [f"customer:{customer or ''}" for customer in customers])


def _keyed(ids: Values, lists: Sequence[int], stems: Sequence[str]) -> list[str | None]:
    """The ids, and a key where there is none: its stem, and which one of that stem it is in its list."""
    keys, met = list(ids), dict[tuple[int, str], int]()
    for row, (own_id, number, stem) in enumerate(zip(ids, lists, stems, strict=True)):
        if own_id is None:
            nth = met[number, stem] = met.get((number, stem), 0) + 1
            keys[row] = f"{stem}:{nth}"
    return keys


def _excepted(people: _People, whole: Sequence[bool], are_open: Sequence[bool]) -> list[list[str] | None] | None:
    """For each booking the participations whose list of answers is otherwise than the list of participants: open where that is whole, and the reverse.

    None where no booking has one, as is the rule.
    """
    if all(whole) and not any(are_open):
        return None
    found: list[list[str] | None] = [None] * len(whole)
    for place, own_id, is_open in zip(people.places, people.ids, are_open, strict=True):
        if is_open is whole[place]:
            found[place] = [*(found[place] or ()), own_id or ""]
    return found


def _answers(listing: Listing, members: Members, people: _People) -> tuple[Sheet, list[bool]]:
    """The answers of participants, and for each of these whether the list did not come whole, so that stored answers must be kept."""
    judge, stream = listing.judge, listing.contract.streams[BOOKINGS.name]
    names, redacted = stream.answer_columns, listing.contract.redact.members
    found, types = members.typed_values(stream.participant_columns["answers"])
    if found is not None and dict in types:
        marks = {name for aliases in names.values() for name in aliases}
        found = [unlisted(v, names, "question_id", marks, redacted) if isinstance(v, dict) else v for v in found]
    sent, came = listed(found, len(people.ids))
    are_open = [is_partial or not is_there for is_partial, is_there in zip(people.partials, came, strict=True)]
    elements = elements_of(sent, people.places, people.arounds, known_of(listing.contract, names))
    judge.note_unknown(elements.members, "questions.")
    for open_rows, told in (
        (elements.odd, "a question that is not an object"),
        (elements.linked, "a question of which only the linkage came"),
    ):
        for row in open_rows:
            are_open[row] = True
            judge.notes.add("bad_value", "questions", told, people.places[row])
    rows, own = elements.rows, elements.members
    labels = [None if label is MISSING else label for label in _or_none(own, names["label"], len(rows))[0]]
    ids = identifiers(*_or_none(own, names["question_id"], len(rows)))
    if None in ids:  # missing in old data (5.15)
        # A label that is no text could hold anything, so it is named by its type alone.
        named = [f"({type(label).__name__})" if type(label) in (dict, list) else label for label in labels]
        ids = _keyed(ids, rows, [f"label:{label}" for label in named])
    values = free_values(elements, names, judge, "questions")
    given, types = without_blanks(values, types_of(values))
    sheet: Sheet = {
        OWNER: own.places,
        "customer_booking_id": [people.ids[row] for row in rows],
        "question_id": ids,
        "label": judge.texts(labels, own.places, "questions.label"),
        "answer_kind": value_kinds(values),
        "answer_text": formed(given, types, _WRITTEN),
        "is_answer_true": formed(given, types, BOOLEANS),
    }
    return sheet, are_open


def _or_none(members: Members, aliases: Sequence[str], count: int) -> tuple[Values, set[type]]:
    """As `Members.typed_values`, also where no element has the member."""
    values, types = members.typed_values(aliases)
    return ([None] * count, {type(None)}) if values is None else (values, types)
