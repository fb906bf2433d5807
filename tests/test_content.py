"""The content of kept documents: what counts as a change, and what does not, whatever the texts look like."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.content import same_content

PROPERTY = settings(derandomize=True, deadline=None, max_examples=80)
Json = dict[str, Any]
GONE: Any = object()
encode = msgspec.json.Encoder(decimal_format="number").encode

BOOKING: Json = {
    "type": "bookings",
    "id": "b1",
    "attributes": {
        "status": "confirmed",
        "price": Decimal("12.10"),
        "spaces": 1,
        "is_paid": True,
        "tags": ["a", "b"],
        "profile": {"name": "x", "deep": [{"er": 1, "links": 2}]},
    },
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
P1: Json = {"type": "customerBookings", "id": "p1", "attributes": {"status": "Arrived"}, "links": {"self": "/x"}}
P2: Json = {"type": "customerBookings", "id": "p2", "attributes": {"status": "Late"}, "meta": {"seen": 1}}


def document(record: Any = BOOKING, included: Any = (P1, P2)) -> str:
    return encode({"data": record, "included": list(included)}).decode()


def changed(record: Json, path: str, value: Any) -> Json:
    other = copy.deepcopy(record)
    *way, name = path.split("/")
    place = other
    for step in way:
        place = place.setdefault(step, {})
    if value is GONE:
        del place[name]
    else:
        place[name] = value
    return other


def turned(value: Any) -> Any:
    """The same with all members the other way round."""
    if isinstance(value, dict):
        return {k: turned(v) for k, v in reversed(value.items())}
    return [turned(v) for v in value] if isinstance(value, list) else value


SAME = {
    "links gone": changed(BOOKING, "links", GONE),
    "links other": changed(BOOKING, "links/self", "/elsewhere"),
    "meta other": changed(BOOKING, "meta", {"seen": 2}),
    "meta gone": changed(BOOKING, "meta", GONE),
    "links of a relationship": changed(BOOKING, "relationships/account/links", {"self": "/x"}),
    "meta of a relationship": changed(BOOKING, "relationships/account/meta", {"a": 1}),
    "a relationship of links alone": changed(BOOKING, "relationships/other", {"links": {}}),
    "a relationship of links alone, gone": changed(BOOKING, "relationships/service", GONE),
    "members in another order": turned(BOOKING),
    "linkage in another order": changed(
        BOOKING, "relationships/customerBookings/data", BOOKING["relationships"]["customerBookings"]["data"][::-1]
    ),
}
OTHERWISE = {
    "a value": changed(BOOKING, "attributes/status", "cancelled"),
    "a digit": changed(BOOKING, "attributes/price", Decimal("12.11")),
    "a zero that is written": changed(BOOKING, "attributes/price", Decimal("12.1")),
    "a whole number with a point": changed(BOOKING, "attributes/spaces", Decimal("1.0")),
    "true for 1": changed(BOOKING, "attributes/spaces", True),
    "1 for true": changed(BOOKING, "attributes/is_paid", 1),
    "text for a number": changed(BOOKING, "attributes/spaces", "1"),
    "a value deep inside": changed(BOOKING, "attributes/profile/deep", [{"er": 2, "links": 2}]),
    "links inside an attribute": changed(BOOKING, "attributes/profile/deep", [{"er": 1, "links": 3}]),
    "a nested list in another order": changed(BOOKING, "attributes/tags", ["b", "a"]),
    "a nested list with one more": changed(BOOKING, "attributes/tags", ["a", "b", "b"]),
    "linkage twice": changed(
        BOOKING, "relationships/customerBookings/data", BOOKING["relationships"]["customerBookings"]["data"] * 2
    ),
    "an attribute gone": changed(BOOKING, "attributes/status", GONE),
    "null for nothing": changed(BOOKING, "attributes/new", None),
    "null for a value": changed(BOOKING, "attributes/status", None),
    "empty for a value": changed(BOOKING, "attributes/status", ""),
    "an attribute called meta": changed(BOOKING, "attributes/meta", 1),
    "linkage": changed(BOOKING, "relationships/account/data", {"type": "accounts", "id": "a2"}),
    "linkage gone": changed(BOOKING, "relationships/account/data", GONE),
    "linkage to null": changed(BOOKING, "relationships/account/data", None),
    "a relationship that is no object": changed(BOOKING, "relationships/other", "s1"),
    "a member beside linkage": changed(BOOKING, "relationships/account/since", "2026-01-01"),
    "an unknown member": changed(BOOKING, "version", 2),
    "the id": changed(BOOKING, "id", "b2"),
    "a number as id": changed(BOOKING, "id", 1),
    "the type": changed(BOOKING, "type", "booking"),
}


@pytest.mark.parametrize("record", SAME.values(), ids=SAME)
def test_what_is_not_content_is_not_seen(record: Json) -> None:
    assert document(record) != document()
    assert same_content(document(record), document())
    assert same_content(document(included=[record]), document(included=[BOOKING]))


@pytest.mark.parametrize("record", OTHERWISE.values(), ids=OTHERWISE)
def test_content_is_seen(record: Json) -> None:
    assert not same_content(document(record), document())
    assert not same_content(document(), document(record))
    assert not same_content(document(P1, [record]), document(P1, [BOOKING]))


def test_the_order_of_what_came_with_a_record_says_nothing_and_its_content_counts() -> None:
    assert same_content(document(included=[P2, P1]), document(included=[P1, P2]))
    assert same_content(document(included=[P2, changed(P1, "links", GONE)]), document(included=[P1, P2]))
    for other in ([P1], [P1, P2, P2], [], [P1, changed(P2, "attributes/status", "Arrived")], [P1, P1]):
        assert not same_content(document(included=other), document(included=[P1, P2]))
    assert not same_content(document(P1, [P2]), document(P2, [P1]))


def test_how_a_text_is_written_says_nothing() -> None:
    record = changed(BOOKING, "attributes", {"name": "Zoë / \N{GRINNING FACE}"})
    plain = document(record)
    spaced = json.dumps(json.loads(plain), indent=1)  # letters escaped, spaces between
    assert "\\u" in spaced
    assert same_content(plain, spaced.replace("/", "\\/"))


def test_what_is_no_kept_document_is_like_nothing_else() -> None:
    odd = [None, "null", "[]", "7", "{}", '{"data":null,"included":[]}', '{"data":{},"included":{}}']
    for one in [*odd, '{"data":{},"included":[7]}', '{"data":{}}']:
        assert not same_content(one, document())
        assert not same_content(document(), one)
        for other in odd:
            assert same_content(one, other) == (one is not None and one == other)


def test_nesting_that_cannot_be_followed_is_a_change() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    one, other = (f'{{"data":{{"attributes":{{"{name}":{deep}}}}},"included":[]}}' for name in "ab")
    assert not same_content(one, other)
    assert same_content(one, one)


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([Decimal("1.0"), Decimal("1.00")])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "links", "meta"]), inner),
    max_leaves=8,
)
identifiers = st.fixed_dictionaries(
    {"type": st.sampled_from("ab"), "id": st.sampled_from("12")}, optional={"meta": st.integers(0, 1)}
)
related = st.fixed_dictionaries({"data": st.lists(identifiers, max_size=3)}, optional={"links": values})
resources = st.fixed_dictionaries(
    {"type": st.sampled_from("ab"), "id": st.sampled_from("12")},
    optional={
        "attributes": values,
        "relationships": values | st.dictionaries(st.sampled_from(["a", "links"]), related),
        "links": values,
        "meta": values,
    },
)
together = st.lists(resources, max_size=3, unique_by=lambda r: (r["type"], r["id"]))


def canonical(record: Json, included: list[Json]) -> str:
    """What of a document is content, written down here once more, in other words."""

    def without(members: Json) -> Json:
        return {k: v for k, v in members.items() if k not in ("links", "meta")}

    def in_order(relationship: Json) -> Json:
        data = relationship.get("data")
        if not isinstance(data, list) or not all(
            isinstance(one, dict) and {"type", "id"} <= one.keys() for one in data
        ):
            return relationship
        return relationship | {"data": sorted(data, key=lambda one: json.dumps(one, sort_keys=True, default=str))}

    def bare(resource: Json) -> Json:
        related: Any = resource.get("relationships") or ({} if resource.get("relationships") is None else None)
        if not isinstance(related, dict):
            return without(resource)
        linked = {name: in_order(without(one)) if isinstance(one, dict) else one for name, one in related.items()}
        return without(resource) | {"relationships": {name: one for name, one in linked.items() if one != {}}}

    content = [bare(record), *sorted((bare(r) for r in included), key=lambda r: (r["type"], r["id"]))]
    return json.dumps(content, sort_keys=True, default=lambda number: f"number {number}")


@PROPERTY
@given(resources, together, resources, together)
def test_content_is_the_same_exactly_where_the_canonical_form_is(
    one: Json, around_one: list[Json], two: Json, around_two: list[Json]
) -> None:
    same = canonical(one, around_one) == canonical(two, around_two)
    assert same_content(document(one, around_one), document(two, around_two)) == same
    assert same_content(document(one, around_one), document(turned(one), around_one[::-1]))
