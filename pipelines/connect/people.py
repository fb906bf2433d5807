"""How the customers of a booking come: inside it, included with it, as their ids, or as links only; and which of their attributes feeds which column.

What lives here: asking for participants, and matching their columns. What does not: bookings themselves (`shapes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.connect.columns import columns_finding, elements
from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Line
from pipelines.connect.matching import Matches, fold, match, members_of
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.records import JsonObject, identifier_id, included_of, index, object_at
from resources.contract import Contract
from resources.schemas import EMPTY, Shape

PARTICIPANT_KINDS = {"customer_booking_id": "reference", "answers": "list"}


def participants(
    probe: Probe, seen: Seen, contract: Contract, customer_types: set[str]
) -> tuple[list[Finding], Matches | None]:
    """How the customers of a booking come: in the booking, included with it, or as links only; and their columns."""
    member = seen.columns.get("participants", ())
    key = ("streams", "bookings", "include")
    embedded = _embedded(seen, member)
    if embedded:
        finding = Finding(
            "bookings",
            "participants",
            f"inside each booking ({_present(seen, member)})",
            f"{len(embedded)} of them in {len(seen.rows)} bookings",
            "takes them from there",
            "certain",
            (Line(key, [], "participants come inside each booking"),),
        )
        more, result = _participant_columns(seen, embedded, contract)
        return [finding, *more], result
    linked = [one for row in seen.rows.values() for one in _list_of(seen, row) if isinstance(one, dict)]
    if linked and all(one.get("type") in customer_types for one in linked):
        told = f"{len(linked)} identifiers of customers in {len(seen.rows)} bookings"
        line = Line(key, [], "the relationship names the customers themselves")
        outcome = "knows who took part, and neither status nor answers"
        return [
            Finding("bookings", "participants", f"customers, by {member[0]}", told, outcome, "likely", (line,))
        ], None
    found = _included(probe, seen, contract)
    if found is None:
        return [_no_participants(seen)], None
    parameter, word, resources = found
    if lost := probe.missing(seen, probe.page(seen), {parameter: word}):
        return [_joined(f"{parameter}={word}", len(lost), len(rows_of(probe.page(seen))))], None
    finding = Finding(
        "bookings",
        "participants",
        f"{parameter}={word}",
        f"{len(resources)} included resources are those that the bookings name",
        "asks for them with each page",
        "certain",
        (
            Line(("abilities", "include"), True, "the included resources came"),
            Line(("parameters", "include"), parameter, "the included resources came"),
            Line(key, [word], "brings the participants"),
        ),
    )
    more, result = _participant_columns(seen, resources, contract)
    return [finding, *more], result


def _joined(shown: str, lost_count: int, count: int) -> Finding:
    need = (
        f"bookings: {shown} brings the participants and leaves out {lost_count} of {count} bookings of the same page, such as those without any, so a sync "
        f"would miss bookings. Ask the vendor for an include that leaves none out, and name it in streams.bookings.include."
    )
    line = Line(("streams", "bookings", "include"), [], f"{shown} leaves bookings out")
    told = f"{lost_count} of the {count} rows of a page do not come with it"
    return Finding(
        "bookings",
        "participants",
        f"{shown}, which leaves bookings out",
        told,
        "does not ask for them",
        "none",
        (line,),
        need,
    )


def _no_participants(seen: Seen) -> Finding:
    if not seen.rows:
        return Finding("bookings", "participants", "not known", "there are no bookings", "as it is", "low")
    if "participants" in seen.columns and all(not _list_of(seen, row) for row in seen.rows.values()):
        return Finding("bookings", "participants", "not known", "no booking has one", "as it is", "low")
    need = (
        "bookings: their participants come neither inside them nor included, so customers, statuses and answers of bookings would be missing. "
        "Name the relationship in streams.bookings.columns.participants and the path in streams.bookings.include."
    )
    told = (
        "the relationship names them, and no include brings them"
        if "participants" in seen.columns
        else "no member fits"
    )
    return Finding("bookings", "participants", "not found", told, "would hold every window back", "none", need=need)


def _present(seen: Seen, names: Sequence[str]) -> str:
    members = members_of(seen.rows.values())
    return next((n for n in names if n in members), "")


def _list_of(seen: Seen, row: JsonObject) -> list[Any]:
    for name in seen.columns.get("participants", ()):
        value = object_at(row, "attributes").get(name, object_at(object_at(row, "relationships"), name).get("data"))
        if value is not None:
            return value if isinstance(value, list) else [value]
    return []


def _embedded(seen: Seen, names: Sequence[str]) -> list[JsonObject]:
    """Participants as objects inside the booking; resource identifiers are none."""
    found = []
    for row in seen.rows.values():
        for one in _list_of(seen, row) if names else ():
            if isinstance(one, dict) and isinstance(one.get("attributes"), dict):
                found.append(one)
            elif isinstance(one, dict) and not (one.keys() <= {"type", "id", "meta"}):
                found.append({"attributes": one})
    return found


def _included(probe: Probe, seen: Seen, contract: Contract) -> tuple[str, str, list[JsonObject]] | None:
    """The parameter and path that bring the participants, with what they brought; the contract's own first."""
    names, hints = seen.names, seen.hints
    wanted = {
        fold(n) for n in (*names.columns["participants"], *contract.plausible.columns["bookings"]["participants"])
    }
    relations = {n for row in seen.rows.values() for n in object_at(row, "relationships")}
    words = unique(
        [w for w in names.include if w in relations],
        [r for r in sorted(relations) if fold(r) in wanted],
        [w for w in hints.include_words if "." not in w and fold(w) in wanted],
        names.include,
    )
    for parameter in unique(hints.include, [contract.parameters.include], contract.plausible.include):
        for word in words:
            if probe.is_spent:
                return None
            look = probe.page(seen, {parameter: word})
            if not is_list(look):
                continue
            included = index((look.document or {}).get("included") or [])
            rows = rows_of(look)
            resources = []
            for row in rows.values():
                data = object_at(object_at(row, "relationships"), word).get("data")
                named = [included_of(one, included) for one in (data if isinstance(data, list) else [data])]
                resources += [r for r in named if r is not None]
            if resources:
                probe.add_sample(seen, look)
                seen.columns["participants"] = (
                    seen.columns["participants"] if word in seen.columns.get("participants", ()) else (word,)
                )
                return parameter, word, resources
    return None


def _participant_columns(
    seen: Seen, resources: Sequence[JsonObject], contract: Contract
) -> tuple[list[Finding], Matches]:
    names = seen.names
    child = next(c for c in seen.stream.children if c.table == "booking_customers")
    kinds: dict[str, str] = {c.name: c.kind for c in child.columns} | PARTICIPANT_KINDS
    members = members_of(resources, _participant_shape(seen))
    is_own = _has_own_ids(resources)
    if any(r.get("id") for r in resources):
        kinds.pop("customer_booking_id")  # a resource of its own: its id is the id
    others = {*contract.redact.members, "booking", *(() if is_own else ("id",))}
    plausible = dict(contract.plausible.columns["participants"])
    if is_own:
        plausible["customer_booking_id"] = ("id", *plausible["customer_booking_id"])
    result = match(kinds, names.participant_columns, plausible, members, others)
    table = "participant_columns"
    finding = columns_finding("bookings", "columns of participants", result, table, names.participant_columns)
    return [finding, *elements("bookings", "answers", resources, result, "answer_columns", contract)], result


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
    """Whether a bare `id` inside an embedded participant is the participation's own: it never repeats, and the customer is named beside it."""
    attributes = [object_at(r, "attributes") for r in resources if "id" not in r]
    ids = [str(a["id"]) for a in attributes if identifier_id(a)]
    if len(ids) < len(attributes) or len(set(ids)) < len(ids) or not ids:
        return False
    customers = [a for a in attributes if any(fold(n) in ("customer", "customerid", "clientid", "client") for n in a)]
    return len(customers) == len(attributes)
