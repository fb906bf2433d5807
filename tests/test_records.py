"""One JSON:API record as it is read and kept: aliases, linkage, the document, and what of it is content."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.documents import documents
from pipelines.documents import related as related_keys
from pipelines.records import (
    MISSING,
    Included,
    Surroundings,
    first,
    identifier_id,
    included_of,
    index,
    lookup,
    object_at,
    read_document,
)
from pipelines.redaction import as_json
from resources.content import same_content
from resources.envelope import decode

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
Json = dict[str, Any]
NOW = datetime(2026, 3, 2, tzinfo=UTC)
REDACTED = ("cancellationUrl", "reschedule_url")

BOOKING: Json = {
    "type": "bookings",
    "id": "b1",
    "attributes": {"status": "confirmed", "price": Decimal("12.10"), "profile": {"name": "x", "deep": {"er": 1}}},
    "relationships": {
        "account": {"data": {"type": "accounts", "id": "a1"}},
        "customerBookings": {
            "data": [{"type": "customerBookings", "id": "p2"}, {"type": "customerBookings", "id": "p1"}]
        },
        "service": {"links": {"related": "/v2/services/s1"}},
        "event": {"data": None},
    },
    "links": {"self": "/v2/bookings/b1"},
    "meta": {"seen": 1},
}
P1: Json = {
    "type": "customerBookings",
    "id": "p1",
    "attributes": {
        "status": "Arrived",
        "cancellationUrl": "https://x/?token=canary",
        "nested": [{"reschedule_url": "canary"}],
    },
    "relationships": {"customer": {"data": {"type": "customers", "id": "c1"}}},
    "links": {"self": "/x"},
}
P2: Json = {"type": "customerBookings", "id": "p2", "attributes": {"status": "No Status"}}
C1: Json = {
    "type": "customers",
    "id": "c1",
    "attributes": {"firstName": "Ada"},
    "relationships": {"friend": {"data": {"type": "customers", "id": "c2"}}},
}
C2: Json = {"type": "customers", "id": "c2", "attributes": {"firstName": "Too far"}}
OTHER: Json = {"type": "services", "id": "s1", "attributes": {"name": "Not named"}}
INCLUDED = [C2, OTHER, C1, P2, P1]


def document_of(record: Json, included: Included, redacted: tuple[str, ...]) -> tuple[str, str]:
    """The document and the hash of a single record."""
    texts, hashes = documents([record], [object_at(record, "relationships")], [Surroundings(included)], redacted)
    return texts[0], hashes[0]


def kept(record: Json, included: list[Json] | None = None) -> str:
    return document_of(record, index(INCLUDED if included is None else included), REDACTED)[0]


def is_as_before(record: Json, included: list[Json] | None = None) -> bool:
    """Whether a record says the same as `BOOKING` with all that came with it."""
    return same_content(kept(BOOKING), kept(record, included))


def related(record: Json, included: Included) -> list[Json]:
    (keys,) = related_keys([object_at(record, "relationships")], [Surroundings(included)], ())
    return [included[key] for key in keys]


def changed(record: Json, path: str, value: object) -> Json:
    record = copy.deepcopy(record)
    *way, last = path.split(".")
    place: Any = record
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return record


# ---- reading members ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "value"),
    [
        ("status", "confirmed"),
        ("profile.name", "x"),
        ("profile.deep.er", 1),
        ("profile.none", MISSING),
        ("status.deeper", MISSING),
        ("nothing", MISSING),
        ("account", {"type": "accounts", "id": "a1"}),
        ("event", None),
        ("service", MISSING),  # linkage without data says nothing
        ("account.name", MISSING),  # its resource did not come
        ("customerBookings.status", MISSING),  # a list has no attribute
        ("id", MISSING),
        ("links.self", MISSING),
    ],
)
def test_lookup(alias: str, value: object) -> None:
    assert lookup(BOOKING, alias, index(INCLUDED)) == value


def test_a_name_that_holds_dots_itself_comes_before_a_path() -> None:
    record = {
        "attributes": {"timing.start": "own", "timing": {"start": "inner", "end": "inner"}},
        "relationships": {"shop.owner": {"data": {"type": "x", "id": "1"}}},
    }
    assert lookup(record, "timing.start", {}) == "own"
    assert lookup(record, "timing.end", {}) == "inner"
    assert lookup(record, "shop.owner", {}) == {"type": "x", "id": "1"}
    assert lookup(record, "shop.keeper", {}) is MISSING


def test_a_path_behind_a_relationship_reads_the_included_resource() -> None:
    assert lookup(P1, "customer.firstName", index(INCLUDED)) == "Ada"
    assert lookup(P1, "customer.firstName", {}) is MISSING
    assert lookup(P1, "customer.firstName", {("customers", "c1"): {"type": "customers", "id": "c1"}}) is MISSING
    assert lookup(P1, "customer.friend.firstName", index(INCLUDED)) is MISSING  # one step, no more


def test_the_first_alias_that_is_present_wins_even_if_it_is_empty() -> None:
    resource = {"attributes": {"b": None, "c": 1}}
    assert first(resource, ("a", "b", "c"), {}) is None
    assert first(resource, ("a",), {}) is MISSING
    assert first(resource, (), {}) is MISSING


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"type": "x", "id": "1"}, "1"),
        ({"id": 7}, "7"),
        ("bare", "bare"),
        (7, "7"),
        ("", None),
        ({"id": ""}, None),
        ({"id": {}}, None),
        ({}, None),
        ([], None),
        (None, None),
        (True, None),
        (Decimal("1.5"), None),
    ],
)
def test_identifier_id(value: object, found: str | None) -> None:
    assert identifier_id(value) == found


def test_only_what_can_be_named_is_indexed() -> None:
    odd: list[Any] = [None, 7, "x", [], {}, {"type": "a"}, {"id": "1"}, {"type": 1, "id": "1"}, {"type": "a", "id": 1}]
    assert index([*odd, {"type": "a", "id": "1"}]) == {("a", "1"): {"type": "a", "id": "1"}}
    assert included_of({"type": ["a"], "id": "1"}, index(INCLUDED)) is None
    assert included_of("p1", index(INCLUDED)) is None
    assert object_at([], "x") == object_at({"x": []}, "x") == {}


# ---- what belongs to a record ------------------------------------------------------------------------------------------------


def test_related_follows_two_steps_in_a_fixed_order_and_takes_nothing_else() -> None:
    assert related(BOOKING, index(INCLUDED)) == [P1, P2, C1]
    assert related(BOOKING, index(INCLUDED[::-1])) == [P1, P2, C1]
    assert related(BOOKING, {}) == []


def test_related_survives_circles_and_nonsense() -> None:
    a = {"type": "n", "id": "a", "relationships": {"to": {"data": {"type": "n", "id": "b"}}}}
    b = {"type": "n", "id": "b", "relationships": {"to": {"data": [{"type": "n", "id": "a"}, 7, None, []]}}}
    assert related(a, index([a, b])) == [a, b]
    assert related({"relationships": {"x": 7, "y": {"data": 7}, "z": None}}, index([a])) == []
    assert related({"relationships": []}, index([a])) == []


# ---- the document ------------------------------------------------------------------------------------------------------------


def test_the_document_is_the_record_as_sent_with_what_it_names() -> None:
    text, _ = document_of(BOOKING, index(INCLUDED), ())
    document = json.loads(text)
    assert document["data"] == json.loads(as_json(BOOKING))
    assert [(r["type"], r["id"]) for r in document["included"]] == [
        ("customerBookings", "p1"),
        ("customerBookings", "p2"),
        ("customers", "c1"),
    ]
    assert '"price":12.10' in text


def test_capability_urls_are_in_neither_document_nor_hash() -> None:
    text, content_hash = document_of(BOOKING, index(INCLUDED), REDACTED)
    assert "canary" not in text
    assert "cancellationUrl" not in text
    assert "reschedule_url" not in text
    assert "Arrived" in text
    other = changed(P1, "attributes.cancellationUrl", "https://x/?token=another")
    for one in (other, changed(P1, "attributes.cancellationUrl", MISSING)):
        assert document_of(BOOKING, index([P2, C1, one]), REDACTED) == (text, content_hash)
    assert P1["attributes"]["cancellationUrl"]  # and the page itself is left alone


def test_a_name_that_only_stands_in_a_text_redacts_nothing() -> None:
    record = {"type": "x", "id": "1", "attributes": {"notes": 'see "cancellationUrl" below'}}
    assert json.loads(document_of(record, {}, REDACTED)[0])["data"] == record


SAME: list[tuple[str, Json]] = [
    ("links gone", changed(BOOKING, "links", MISSING)),
    ("links other", changed(BOOKING, "links.self", "/elsewhere")),
    ("meta other", changed(BOOKING, "meta", {"seen": 2})),
    ("meta gone", changed(BOOKING, "meta", MISSING)),
    ("links of a relationship", changed(BOOKING, "relationships.account.links", {"self": "/x"})),
    ("meta of a relationship", changed(BOOKING, "relationships.account.meta", {"a": 1})),
    ("a relationship of links alone", changed(BOOKING, "relationships.other", {"links": {}})),
    ("a relationship of links alone, gone", changed(BOOKING, "relationships.service", MISSING)),
    ("members in another order", dict(reversed(list(BOOKING.items())))),
    (
        "attributes in another order",
        changed(BOOKING, "attributes", dict(reversed(list(BOOKING["attributes"].items())))),
    ),
]
OTHERWISE: list[tuple[str, Json]] = [
    ("a value", changed(BOOKING, "attributes.status", "cancelled")),
    ("a digit", changed(BOOKING, "attributes.price", Decimal("12.11"))),
    ("a value deep inside", changed(BOOKING, "attributes.profile.deep.er", 2)),
    ("an attribute gone", changed(BOOKING, "attributes.status", MISSING)),
    ("null and absent differ", changed(BOOKING, "attributes.status", None)),
    ("empty and null differ", changed(BOOKING, "attributes.status", "")),
    ("a new attribute", changed(BOOKING, "attributes.new", 1)),
    ("an attribute called meta", changed(BOOKING, "attributes.meta", 1)),
    ("linkage", changed(BOOKING, "relationships.account.data", {"type": "accounts", "id": "a2"})),
    ("linkage gone", changed(BOOKING, "relationships.account.data", MISSING)),
    ("linkage to null", changed(BOOKING, "relationships.account.data", None)),
    ("the id", changed(BOOKING, "id", "b2")),
    ("the type", changed(BOOKING, "type", "booking")),
]


@pytest.mark.parametrize("record", [r for _, r in SAME], ids=[n for n, _ in SAME])
def test_what_is_not_content_makes_no_other(record: Json) -> None:
    assert is_as_before(record)


@pytest.mark.parametrize("record", [r for _, r in OTHERWISE], ids=[n for n, _ in OTHERWISE])
def test_content_makes_another(record: Json) -> None:
    assert not is_as_before(record)


def test_the_included_resources_that_are_named_are_content_and_no_others() -> None:
    assert is_as_before(BOOKING, [P1, P2, C1])
    assert is_as_before(BOOKING, [P1, P2, C1, changed(OTHER, "attributes.name", "z")])
    assert is_as_before(BOOKING, [changed(P1, "links.self", "/y"), P2, C1])
    assert not is_as_before(BOOKING, [changed(P1, "attributes.status", "Complete"), P2, C1])
    assert not is_as_before(BOOKING, [P1, P2, changed(C1, "attributes.firstName", "Eve")])
    assert not is_as_before(BOOKING, [P1, P2])


def test_the_hash_is_of_the_document_as_it_is_kept() -> None:
    text, content_hash = document_of(BOOKING, index(INCLUDED), REDACTED)
    assert content_hash == blake2b(text.encode(), digest_size=16).hexdigest()
    long = {"type": "x", "id": "1", "attributes": {"notes": "ü" * 5000}}
    text, content_hash = document_of(long, {}, REDACTED)
    assert content_hash == blake2b(text.encode(), digest_size=16).hexdigest()


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(REDACTED), inner, max_size=3)
    ),
    max_leaves=12,
)
identifiers = st.fixed_dictionaries({"type": st.sampled_from("ab"), "id": st.sampled_from("12")})
relationships = st.dictionaries(
    st.sampled_from("xyz"),
    st.fixed_dictionaries({"data": identifiers | st.lists(identifiers, max_size=3) | st.none()}) | json_values,
    max_size=3,
)
resources = st.builds(
    lambda i, attributes, related_to: {**i, "attributes": attributes, "relationships": related_to},
    identifiers,
    json_values,
    relationships,
)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(value.items())}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


@PROPERTY
@given(resources, st.lists(resources, max_size=4))
def test_a_stored_document_reads_back_as_what_came(record: Json, included: list[Json]) -> None:
    record, included = decode(json.dumps([record, included]))
    text, content_hash = document_of(record, index(included), REDACTED)
    again = read_document(text, NOW)
    assert again.fetched_at == NOW
    assert document_of(again.record, again.included, REDACTED) == (text, content_hash)
    assert not any(f'"{name}":' in text for name in REDACTED)


@PROPERTY
@given(resources, st.lists(resources, max_size=4, unique_by=lambda r: (r["type"], r["id"])))
def test_the_order_of_members_and_of_included_is_no_content(record: Json, included: list[Json]) -> None:
    plain = document_of(record, index(included), REDACTED)[0]
    assert same_content(plain, document_of(shuffled(record), index(map(shuffled, reversed(included))), REDACTED)[0])


def test_json_keeps_decimals_as_written() -> None:
    assert as_json({"a": [Decimal("0.10"), 1, None, True, "ü"]}) == '{"a":[0.10,1,null,true,"ü"]}'
    assert as_json([{"secret": 1, "kept": {"secret": 2}}], ("secret",)) == '[{"kept":{}}]'


@pytest.mark.parametrize(
    "name",
    [
        "cancellationUrl",
        "cancellation_url",
        "cancellation-url",
        "CancellationURL",
        "Cancellation Url",
        "_cancellationUrl_",
        "cancellationUrl -",
    ],
)
def test_capability_links_are_taken_out_however_they_are_spelt(name: str) -> None:
    deep = {"attributes": {name: "CANARY", "kept": {"list": [{name: "CANARY", "x": 1}]}}}
    text, content_hash = document_of({"type": "bookings", "id": "b1", **deep}, {}, REDACTED)
    assert "CANARY" not in text
    assert json.loads(text)["data"]["attributes"] == {"kept": {"list": [{"x": 1}]}}
    bare = {"attributes": {"kept": {"list": [{"x": 1}]}}}
    assert content_hash == document_of({"type": "bookings", "id": "b1", **bare}, {}, REDACTED)[1]
    assert json.loads(as_json({name: 1, "cancellationUrlOf": 2}, REDACTED)) == {"cancellationUrlOf": 2}


def test_a_letter_that_folds_to_two_hides_no_capability_link() -> None:
    for name in ("passUrl", "paßUrl", "PASS-URL", "Paẞ_Url"):
        record = {"type": "x", "id": "1", "attributes": {"list": [{name: "CANARY", "kept": "Straße"}]}}
        text, _ = document_of(record, {}, ("pass_url",))
        assert json.loads(text)["data"]["attributes"] == {"list": [{"kept": "Straße"}]}


def test_a_record_that_is_looked_through_changes_no_other_of_its_batch() -> None:
    deep = changed(BOOKING, "attributes.profile", {"list": [{"cancellation-url": "CANARY"}], "name": "x"})
    records = [BOOKING, deep, changed(BOOKING, "id", "b2"), changed(BOOKING, "attributes.notes", '"cancellationUrl":')]
    around = Surroundings(index(INCLUDED))
    texts, hashes = documents(
        records, [object_at(r, "relationships") for r in records], [around] * len(records), REDACTED
    )
    alone = [document_of(record, index(INCLUDED), REDACTED) for record in records]
    assert list(zip(texts.to_list(), hashes, strict=True)) == alone
    assert "CANARY" not in "".join(texts)
    assert texts[1] == kept(changed(BOOKING, "attributes.profile", {"list": [{}], "name": "x"}))
