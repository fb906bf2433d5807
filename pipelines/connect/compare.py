"""The running contract held against a vendor's OpenAPI file: what breaks a sync or empties a column, and what is only news.

What lives here: the comparison, pure, without any request. What does not: learning new names (`connect` does, with the live API to prove them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.connect.described import contract_path, endpoints, hints
from pipelines.connect.matching import Member, fits, fold, match, members_of
from pipelines.connect.people import PARTICIPANT_KINDS
from pipelines.connect.shapes import LISTS
from pipelines.records import spelling
from pipelines.streams import ACCOUNTS, Stream, streams_of
from resources.contract import Contract
from resources.openapi import EMPTY, Description, ListEndpoint, Shape
from resources.settings import Settings

Weight = Literal["breaking", "harmless"]


@dataclass(frozen=True)
class Difference:
    """One difference. `stream` is empty where it holds for the whole API; `cure` names the contract's key, or says what happens by itself."""

    weight: Weight
    stream: str
    what: str
    cure: str


def compare(settings: Settings, contract: Contract, description: Description) -> list[Difference]:
    """All differences, breaking ones first."""
    found = [*_addresses(settings, contract, description)]
    by_name = endpoints(description, contract)
    by_path = {_path(e, description, settings): e for e in description.lists}
    streams = streams_of(contract)
    for name, stream in streams.items():
        if stream.is_generic:
            continue  # kept as a document: it needs no name but those of the four
        found += _of_stream(stream, contract, by_path, by_name.get(name), settings, description)
    ours = {_last(contract.streams[name].path) for name in streams}
    for path in by_path:
        if _last(path) not in ours:
            found.append(
                Difference(
                    "harmless", "", f"the file describes a list that is not synced: {path}", "nothing needs doing"
                )
            )
    return sorted(found, key=lambda d: (d.weight != "breaking", d.stream))


def _path(endpoint: ListEndpoint, description: Description, settings: Settings) -> str:
    base = settings.appointedd_base_url or (description.servers[0] if description.servers else "")
    return contract_path(endpoint, description, base)


def _last(path: str) -> str:
    return path.strip("/").rpartition("/")[2]


def _addresses(settings: Settings, contract: Contract, description: Description) -> Iterator[Difference]:
    for variable, ours, theirs in (
        ("APPOINTEDD_BASE_URL", settings.appointedd_base_url, description.servers),
        (
            "APPOINTEDD_TOKEN_URL",
            settings.appointedd_token_url,
            (description.token_url,) if description.token_url else (),
        ),
    ):
        if ours is not None and theirs and ours not in {t.rstrip("/") for t in theirs}:
            told = f"the file says {', '.join(theirs)} and the settings {ours}"
            yield Difference("breaking", "", told, f"set {variable}")
    told_way = description.client_authentication
    if told_way is not None and told_way != contract.oauth.client_authentication:
        yield Difference(
            "breaking", "", f"the token endpoint takes the secret by {told_way}", "oauth.client_authentication"
        )
    served = {m for e in description.lists for m in e.media_types}
    if served and not served & {contract.http.media_type, "application/json"}:
        yield Difference("breaking", "", f"answers are {', '.join(sorted(served))}", "http.media_type")


def _of_stream(
    stream: Stream,
    contract: Contract,
    by_path: dict[str, ListEndpoint],
    near: ListEndpoint | None,
    settings: Settings,
    description: Description,
) -> Iterator[Difference]:
    name, names = stream.name, contract.streams[stream.name]
    wanted = names.path.strip("/")
    # Without a base address nobody can tell what stands before a path.
    is_known = settings.appointedd_base_url is not None or bool(description.servers)
    endpoint = next(
        (e for p, e in by_path.items() if p.strip("/") == wanted or (not is_known and p.endswith("/" + wanted))), None
    )
    if endpoint is None:
        other = f"; {_path(near, description, settings)} looks like it" if near else ""
        yield Difference("breaking", name, f"no list at {names.path}{other}", f"streams.{name}.path")
        return
    types = endpoint.record.at("type").words
    if types and not set(types) <= set(names.types):
        yield Difference("breaking", name, f"its records are of type {', '.join(types)}", f"streams.{name}.types")
    yield from _parameters(stream, contract, endpoint)
    yield from _columns(stream, contract, endpoint)


def _parameters(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    name, names, abilities, parameters = (
        stream.name,
        contract.streams[stream.name],
        contract.abilities,
        contract.parameters,
    )
    is_changing = stream is not ACCOUNTS
    has_filter = abilities.filters and names.filters and is_changing
    sent = {
        "page_size": (parameters.page_size, abilities.page_size, parameters.page_size_value),
        "sort": (parameters.sort, abilities.sort and bool(names.sort), names.sort),
        "include": (parameters.include, abilities.include and bool(names.include), ""),
        "updated_since": (parameters.updated_since, has_filter, ""),
        "updated_until": (parameters.updated_until, has_filter and abilities.upper_bound, ""),
        "account": (parameters.account, names.account_filter, ""),
    }
    for key, (parameter, is_sent, value) in sent.items():
        if not parameter or not is_sent:
            continue
        described = endpoint.parameter(parameter)
        if described is None:
            yield Difference("breaking", name, f"the parameter {parameter} is not described", f"parameters.{key}")
            continue
        words = described.shape.words
        if value and words and value not in words:
            yield Difference("breaking", name, f"{parameter} does not take {value}", f"streams.{name}.{key}")
        maximum = described.shape.maximum
        if key == "page_size" and maximum is not None and int(value) > maximum:
            yield Difference("breaking", name, f"{parameter} ends at {maximum}", "parameters.page_size_value")
    included = endpoint.parameter(parameters.include)
    words = (*included.shape.words, *(included.shape.items.words if included.shape.items else ())) if included else ()
    for path in names.include if abilities.include and words else ():
        if path not in words:
            yield Difference("breaking", name, f"{parameters.include} does not take {path}", f"streams.{name}.include")
    known = {p for p, _, _ in sent.values()} | {q for query in names.queries for q in query}
    for query in names.queries:
        for parameter in query:
            if endpoint.parameter(parameter) is None:
                yield Difference(
                    "breaking", name, f"the parameter {parameter} is not described", f"streams.{name}.queries"
                )
    for described in endpoint.parameters:
        if described.is_required and described.name not in known:
            yield Difference(
                "breaking", name, f"the parameter {described.name} must be sent", f"streams.{name}.queries"
            )
    if is_changing and not has_filter and hints(endpoint).changes:
        low = hints(endpoint).changes[0][0]
        yield Difference(
            "harmless", name, f"{low} may filter by change time, and is not used", "`connect` can prove it"
        )


def _columns(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    name, names, reference = stream.name, contract.streams[stream.name], contract.account_reference
    members = members_of((), endpoint.record)
    if not members:
        yield Difference(
            "harmless", name, "the file does not say what its records look like", "nothing can be compared"
        )
        return
    others = {*reference.relationships, *reference.attributes, *contract.redact.members, "booking"}
    kinds: dict[str, str] = {c.name: c.kind for c in stream.columns} | LISTS.get(name, {})
    yield from _level(name, "columns", kinds, names.columns, members, others, contract, name)
    if (
        stream is not ACCOUNTS
        and not others & members.keys() - {*contract.redact.members, "booking"}
        and not names.account_filter
    ):
        yield Difference("breaking", name, "no attribute or relationship names the account", "account_reference")
    if "status" in kinds:
        known = {spelling(s) for spellings in contract.statuses.booking.values() for s in spellings}
        for alias in names.columns["status"]:
            for word in endpoint.record.at("attributes", alias).words:
                if spelling(word) not in known:
                    yield Difference(
                        "harmless", name, f"a status without a word of ours: {word}", "[statuses.booking]; kept as sent"
                    )
    if name == "bookings":
        people = _people(endpoint, names.columns["participants"])
        if people.members:
            child = next(c for c in stream.children if c.table == "booking_customers")
            inner: dict[str, str] = {c.name: c.kind for c in child.columns} | PARTICIPANT_KINDS
            if people.at("id").types:
                inner.pop("customer_booking_id")
            own = {*contract.redact.members, "booking", "id"}
            found = members_of((), people)
            yield from _level(
                name, "participant_columns", inner, names.participant_columns, found, own, contract, "participants"
            )


def _people(endpoint: ListEndpoint, aliases: tuple[str, ...]) -> Shape:
    """The shape of a participant as a resource: inside the booking, or the included resource that is named like it."""
    for alias in aliases:
        inner = endpoint.record.at("attributes", alias).items
        if inner is not None and inner.members:
            return Shape(members={"attributes": inner})
        if alias in endpoint.record.at("relationships").members:
            included = endpoint.document.at("included").items or EMPTY
            return included if {fold(w) for w in included.at("type").words} & {fold(a) for a in aliases} else EMPTY
    return EMPTY


def _level(
    stream: str,
    table: str,
    kinds: dict[str, str],
    aliases: dict[str, tuple[str, ...]],
    members: dict[str, Member],
    others: set[str],
    contract: Contract,
    plausible: str,
) -> Iterator[Difference]:
    """Columns of one level: without an attribute, with one of the wrong form; attributes that no column takes."""
    prefix = f"{stream}." if table == "columns" else f"{stream}.participants."
    result = match(kinds, aliases, contract.plausible.columns.get(plausible, {}), members, others)
    for found in result.found:
        if not found.is_default:
            told = f"{found.column} would stay empty; {found.member} looks like it"
            yield Difference("breaking", stream, told, f"streams.{stream}.{table}.{found.column}")
    for column in result.empty:
        if column in result.misfits:
            continue
        weight: Weight = "harmless" if f"{prefix}{column}" in contract.known.empty_columns else "breaking"
        told = f"{column} has no attribute" + (", as is known" if weight == "harmless" else " and would stay empty")
        cure = (
            "nothing needs doing"
            if weight == "harmless"
            else f"streams.{stream}.{table}.{column}, or known.empty_columns"
        )
        yield Difference(weight, stream, told, cure)
    for column, member in result.misfits.items():
        types = ", ".join(sorted(members[member].shape.types))
        assert not fits(kinds[column], members[member])  # noqa: S101  that is what a misfit is
        yield Difference(
            "breaking", stream, f"{member} is {types}, which {column} cannot hold", f"streams.{stream}.{table}.{column}"
        )
    for member in result.unmapped:
        yield Difference("harmless", stream, f"{member} maps to no column", "kept in document")
