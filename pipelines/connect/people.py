"""How the customers of a booking come: inside it, included with it, as their ids, or as links only; and which of their attributes feeds which column.

What lives here: asking for participants, and matching their columns. What does not: bookings themselves (`shapes`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from pipelines.connect.columns import Level, elements, wrong_forms
from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Line
from pipelines.connect.matching import Matches, fold, members_of
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.records import JsonObject, identifier_id, included_of, index, list_of, object_at
from pipelines.streams import Stream
from resources.appointedd import Look
from resources.contract import Contract
from resources.schemas import EMPTY, Shape

ABILITY = "participants"
PARTICIPANT_KINDS = {"customer_booking_id": "reference", "answers": "list"}


def participants(
    probe: Probe, seen: Seen, contract: Contract, customer_types: Collection[str]
) -> tuple[list[Finding], Matches | None]:
    """How the customers of a booking come: in the booking, included with it, or as links only; and their columns."""
    names, count = seen.columns.get("participants", ()), len(seen.rows)
    key = ("streams", "bookings", "include")
    if embedded := _embedded(seen):
        members = members_of(seen.rows.values())
        found = f"inside each booking ({next((name for name in names if name in members), '')})"
        told = f"{len(embedded)} of them in {count} bookings"
        line = Line(key, [], "participants come inside each booking")
        finding = Finding("bookings", ABILITY, found, told, "takes them from there", "certain", (line,))
        more, result = _participant_columns(seen, embedded, contract)
        return [finding, *more], result
    linked = [one for row in seen.rows.values() for one in _list_of(seen, row) if isinstance(one, dict)]
    is_linked = bool(linked) and all(one.get("type") in customer_types for one in linked)
    who = next((n for n in names if n in members_of(seen.rows.values())), "") if is_linked else ""
    included = _included(probe, seen, contract, who)
    if included is None and who:
        found, told = f"customers, by {who}", f"{len(linked)} identifiers of customers in {count} bookings"
        line = Line(key, [], "the relationship names the customers themselves")
        outcome = "knows who took part, and neither status nor answers"
        return [Finding("bookings", ABILITY, found, told, outcome, "likely", (line,))], None
    if included is None:
        return [_no_participants(seen)], None
    parameter, word, resources = included
    shown, plain = f"{parameter}={word}", probe.page(seen)
    if lost := probe.missing(seen, plain, {parameter: word}):
        return [_joined(shown, len(lost), len(rows_of(plain)))], None
    lines = (
        Line(("abilities", "include"), True, "the included resources came"),
        Line(("parameters", "include"), parameter, "the included resources came"),
        Line(key, [word], "brings the participants"),
        Line(
            ("streams", "bookings", "columns", "participants"),
            list(seen.columns["participants"]),
            f"holds what {word} brings",
        ),
    )
    told = f"{len(resources)} included resources are those that the bookings name"
    finding = Finding("bookings", ABILITY, shown, told, "asks for them with each page", "certain", lines)
    more, result = _participant_columns(seen, resources, contract)
    return [finding, *more], result


def _joined(shown: str, lost_count: int, count: int) -> Finding:
    """Of an `include` that brings the participants and leaves out bookings, as an inner join does."""
    need = (
        f"bookings: {shown} brings the participants and leaves out {lost_count} of {count} bookings of the same page, such as those without any, so a sync "
        f"would miss bookings. Ask the vendor for an include that leaves none out, and name it in streams.bookings.include."
    )
    line = Line(("streams", "bookings", "include"), [], f"{shown} leaves bookings out")
    told = f"{lost_count} of the {count} rows of a page do not come with it"
    found = f"{shown}, which leaves bookings out"
    return Finding("bookings", ABILITY, found, told, "does not ask for them", "none", (line,), need)


def _no_participants(seen: Seen) -> Finding:
    if not seen.rows:
        return Finding("bookings", ABILITY, "not known", "there are no bookings", "as it is", "low")
    is_named = "participants" in seen.columns
    if is_named and not any(_list_of(seen, row) for row in seen.rows.values()):
        return Finding("bookings", ABILITY, "not known", "no booking has one", "as it is", "low")
    need = (
        "bookings: their participants come neither inside them nor included, so customers, statuses and answers of bookings would be missing. "
        "Name the relationship in streams.bookings.columns.participants and the path in streams.bookings.include."
    )
    told = "the relationship names them, and no include brings them" if is_named else "no member fits"
    return Finding("bookings", ABILITY, "not found", told, "would hold every window back", "none", need=need)


def _list_of(seen: Seen, row: JsonObject) -> list[Any]:
    """What a booking has for participants, whatever that is."""
    for name in seen.columns.get("participants", ()):
        value = object_at(row, "attributes").get(name, object_at(object_at(row, "relationships"), name).get("data"))
        if value is not None:
            return list_of(value)
    return []


def _embedded(seen: Seen) -> list[JsonObject]:
    """Participants as objects inside the booking; resource identifiers are none."""
    found = []
    for row in seen.rows.values():
        for one in _list_of(seen, row):
            if isinstance(one, dict) and isinstance(one.get("attributes"), dict):
                found.append(one)
            elif isinstance(one, dict) and not (one.keys() <= {"type", "id", "meta"}):
                found.append({"attributes": one})
    return found


def _included(probe: Probe, seen: Seen, contract: Contract, who: str) -> tuple[str, str, list[JsonObject]] | None:
    """The parameter and path that bring the participants, with what they brought; the contract's own first.

    `who`: a relationship that names the customers themselves; only another one can say more of them then.
    """
    names, hints = seen.names, seen.hints
    plausible = contract.plausible.columns["bookings"]["participants"]
    wanted = {fold(n) for n in (*names.columns["participants"], *plausible)}
    relations = {n for row in seen.rows.values() for n in object_at(row, "relationships")} - {who}
    words = unique(
        [w for w in names.include if w in relations],
        [r for r in sorted(relations) if fold(r) in wanted],
        [w for w in hints.include_words if "." not in w and w != who and fold(w) in wanted],
        [] if who else names.include,
    )
    parameters = unique(hints.include, [contract.parameters.include], contract.plausible.include)
    for parameter, word in product(parameters, words):
        if probe.is_spent:
            break
        look = probe.page(seen, {parameter: word})
        if is_list(look) and (resources := _brought(look, word)):
            probe.add_sample(seen, look)
            # No column is matched yet where the linkage comes with the include alone.
            held = seen.columns.get("participants", names.columns["participants"])
            seen.columns["participants"] = held if word in held and not who else (word,)
            still_empty = tuple(column for column in seen.matches.empty if column != "participants")
            seen.matches = replace(seen.matches, empty=still_empty)
            return parameter, word, resources
    return None


def _brought(look: Look, relationship: str) -> list[JsonObject]:
    """The included resources that the rows of an answer name under a relationship."""
    included = index((look.document or {}).get("included") or [])
    sent = [object_at(object_at(row, "relationships"), relationship).get("data") for row in rows_of(look).values()]
    named = [one for data in sent for one in (data if isinstance(data, list) else [data])]
    return [resource for one in named if (resource := included_of(one, included)) is not None]


def level_of_participants(stream: Stream, contract: Contract, *, are_resources: bool, has_own_ids: bool) -> Level:
    """The columns of participants. `are_resources`: their id is the participation's; `has_own_ids`: so is the `id` that stands among their attributes."""
    child = next(c for c in stream.children if c.table == "booking_customers")
    kinds: dict[str, str] = {c.name: c.kind for c in child.columns} | PARTICIPANT_KINDS
    plausible = dict(contract.plausible.columns["participants"])
    others = {*contract.redact.members, "booking"}
    if are_resources:
        kinds.pop("customer_booking_id")
    if has_own_ids:
        plausible["customer_booking_id"] = ("id", *plausible["customer_booking_id"])
    else:
        others.add("id")
    aliases = contract.streams[stream.name].participant_columns
    return Level(stream.name, "participant_columns", kinds, aliases, plausible, frozenset(others))


def _participant_columns(
    seen: Seen, resources: Sequence[JsonObject], contract: Contract
) -> tuple[list[Finding], Matches]:
    are_resources, has_own_ids = any(r.get("id") for r in resources), _has_own_ids(resources)
    level = level_of_participants(seen.stream, contract, are_resources=are_resources, has_own_ids=has_own_ids)
    members = members_of(resources, _participant_shape(seen))
    result = level.match(members)
    wrong = wrong_forms("bookings", level.table, level.kinds, members, result)
    of_answers = elements("bookings", "answers", resources, result, "answer_columns", contract)
    return [level.finding("columns of participants", result), *wrong, *of_answers], result


def _participant_shape(seen: Seen) -> Shape:
    """What a file declares for a participant inside a booking, put like a resource."""
    if seen.endpoint is None:
        return EMPTY
    for name in seen.columns.get("participants", ()):
        inner = seen.endpoint.record.at("attributes", name).items
        if inner is not None and inner.members:
            return Shape(members={"attributes": inner})
    return EMPTY


def _has_own_ids(resources: Sequence[JsonObject]) -> bool:
    """Whether the `id` among the attributes of embedded participants is the participation's: it never repeats, and the customer is named beside it."""
    attributes = [object_at(r, "attributes") for r in resources if "id" not in r]
    ids = [str(a["id"]) for a in attributes if identifier_id(a)]
    if len(ids) < len(attributes) or len(set(ids)) < len(ids) or not ids:
        return False
    customers = [a for a in attributes if any(fold(n) in ("customer", "customerid", "clientid", "client") for n in a)]
    return len(customers) == len(attributes)
