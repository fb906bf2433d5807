"""Pages in slots: names are learned, bytes are kept, what must not be kept is not, and whatever is otherwise is read as dictionaries.

That slots and dictionaries give the same rows for any record is the fuzzer's part (`test_fuzz.judge_slots`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pipelines import slots
from pipelines.documents import cleaned
from pipelines.normalise import Batch, normalise, normalise_pages
from pipelines.records import Fetched, index, read_document
from pipelines.redaction import texts_of
from pipelines.slots import Body, NotPlainError
from pipelines.streams import BOOKINGS, BUILT_IN, CUSTOMERS
from resources.contract import Contract, load_contract
from resources.envelope import decode
from tests.test_fuzz import true_bodies

Json = dict[str, Any]
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
CONTRACT = load_contract()
TOKEN = "CANARY"


@pytest.fixture(autouse=True)
def nothing_learned() -> Iterator[None]:
    slots._forms.clear()
    yield
    slots._forms.clear()


def page(*records: Json, included: list[Json] | None = None, **dumped: Any) -> Body:
    return Body(json.dumps({"data": records, "included": included or []}, **dumped).encode(), NOW)


def booking(record_id: str = "b1", people: tuple[str, ...] = (), **attributes: Any) -> Json:
    linkage = [{"type": "customerBookings", "id": one} for one in people]
    return {
        "type": "bookings",
        "id": record_id,
        "attributes": attributes,
        "relationships": {
            "account": {"data": {"type": "accounts", "id": "a1"}},
            "customerBookings": {"data": linkage},
        },
    }


def person(record_id: str, **attributes: Any) -> Json:
    return {"type": "customerBookings", "id": record_id, "attributes": attributes}


def in_slots(*pages: Body) -> Batch:
    return normalise_pages(BOOKINGS, CONTRACT, pages, {})


def as_dictionaries(*pages: Body, stream: str = "bookings", contract: Contract = CONTRACT) -> Batch:
    fetched = []
    for one in pages:
        document = decode(one.body)
        included = index(document.get("included") or [])
        fetched += [Fetched(record, included, NOW) for record in document["data"]]
    return normalise(BUILT_IN[stream], contract, fetched, {})


@pytest.mark.parametrize("stream", [name for name in BUILT_IN if name != "accounts"])
def test_whole_pages_give_the_rows_that_dictionaries_give(stream: str) -> None:
    pages = [Body(body, NOW) for body in true_bodies()[stream]]
    found, other = normalise_pages(BUILT_IN[stream], CONTRACT, pages, {}), as_dictionaries(*pages, stream=stream)
    assert found.rows.height > 0
    assert found.rows.equals(other.rows)
    assert (found.drift, found.examples, found.present) == (other.drift, other.examples, other.present)
    for name, frame in other.children.items():
        assert found.children[name].equals(frame), name


ANSWER: Json = {"type": "answers", "id": "a1", "attributes": {"label": "Allergies?", "value": "nuts"}}


@pytest.mark.parametrize("included", [[ANSWER], [], [ANSWER | {"attributes": None}]])
@pytest.mark.parametrize("linkage", [[{"type": "answers", "id": "a1"}], {"type": "answers", "id": "a1"}, [], None])
def test_answers_that_are_resources_are_the_same_in_both_forms(included: list[Json], linkage: Any) -> None:
    who = person("p1", status="Arrived") | {"relationships": {"questions": {"data": linkage}}}
    sent = page(booking(people=("p1",)), included=[who, *included], separators=(",", ":"))
    found, other = in_slots(sent), as_dictionaries(sent)
    assert found.rows.equals(other.rows)
    assert (found.drift, found.examples) == (other.drift, other.examples)
    for name, frame in other.children.items():
        assert found.children[name].equals(frame), name
    (kept,) = found.rows.get_column("document")
    again = normalise(BOOKINGS, CONTRACT, [read_document(kept, NOW)], {})
    assert again.children["booking_answers"].equals(found.children["booking_answers"])
    if included == [ANSWER] and linkage:
        assert found.children["booking_answers"].get_column("answer_text").to_list() == ["nuts"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"price_points": ("extra.points",)}, ("[1,2]", None)),
        ({"price_points": ("extra.points", "extra")}, ("[1,2]", None)),
        ({"price_points": ("extra",), "notes": ("extra.text",)}, ('{"points":[1,2],"text":"hi"}', "hi")),
    ],
)
def test_a_member_that_a_path_leads_into_is_read_beside_one_that_is_kept_as_it_is(
    names: dict[str, tuple[str, ...]], expected: tuple[str, str | None]
) -> None:
    own = CONTRACT.streams["bookings"]
    own = own.model_copy(update={"participant_columns": own.participant_columns | names})
    contract = CONTRACT.model_copy(update={"streams": CONTRACT.streams | {"bookings": own}})
    who = person("p1", extra={"points": [1, 2], "text": "hi"})
    people = normalise_pages(BOOKINGS, contract, [page(booking(people=("p1",)), included=[who])], {})
    assert people.children["booking_customers"].select("price_points", "notes").rows() == [expected]


def test_a_value_that_is_kept_as_it_was_sent_holds_no_capability_link() -> None:
    who = person("p1", pricePoints=[{"cancellationUrl": TOKEN, "price": 1}])
    people = in_slots(page(booking(people=("p1",)), included=[who])).children["booking_customers"]
    assert people.get_column("price_points").to_list() == ['[{"price":1}]']


@pytest.mark.parametrize("linkage", [[{"type": "fields", "id": "f"}], {"type": "fields", "id": "f"}])
@pytest.mark.parametrize("value", [7, None, "", [1]])
def test_custom_fields_that_are_resources_are_the_same_in_both_forms(linkage: Any, value: Any) -> None:
    customer = {"type": "customers", "id": "c1", "attributes": {}}
    customer["relationships"] = {
        "account": {"data": {"type": "accounts", "id": "a1"}},
        "customFields": {"data": linkage},
    }
    field = {"type": "fields", "id": "f", "attributes": {"value": value}}
    for included in ([field], []):
        sent = page(customer, included=included, separators=(",", ":"))
        found = normalise_pages(CUSTOMERS, CONTRACT, [sent], {})
        other = as_dictionaries(sent, stream="customers")
        assert found.rows.equals(other.rows)
        assert found.children["customer_custom_fields"].equals(other.children["customer_custom_fields"])
        assert found.children["customer_custom_fields"].height == len(included)
        assert found.drift == other.drift


def test_one_custom_field_that_is_a_resource_is_no_map_of_fields_where_its_id_is_no_alias() -> None:
    own = CONTRACT.streams["customers"]
    names = own.custom_field_columns | {"field_id": ("fieldId",)}
    own = own.model_copy(update={"custom_field_columns": names})
    contract = CONTRACT.model_copy(update={"streams": CONTRACT.streams | {"customers": own}})
    customer = {"type": "customers", "id": "c1", "attributes": {}}
    customer["relationships"] = {
        "account": {"data": {"type": "accounts", "id": "a1"}},
        "customFields": {"data": {"type": "fields", "id": "1"}},
    }
    field = {"type": "fields", "id": "1", "attributes": {"fieldId": "f", "value": "x"}}
    for included in ([field], []):
        found = normalise_pages(CUSTOMERS, contract, [page(customer, included=included)], {})
        (kept,) = found.rows.get_column("document")
        again = normalise(CUSTOMERS, contract, [read_document(kept, NOW)], {})
        fields = found.children["customer_custom_fields"]
        assert fields.select("field_id", "value_text").rows() == ([("f", "x")] if included else [])
        assert again.children["customer_custom_fields"].equals(fields)
        assert again.rows.equals(found.rows)
        assert again.drift == found.drift


def test_what_a_redacted_relationship_names_is_not_kept_either() -> None:
    redact = CONTRACT.redact.model_copy(update={"members": ("Questions", "host")})
    contract = CONTRACT.model_copy(update={"redact": redact})
    who = person("p1") | {"relationships": {"questions": {"data": [{"type": "answers", "id": "a1"}]}}}
    one = booking(people=("p1",))
    one["relationships"]["host"] = {"data": {"type": "staff", "id": "s1"}}
    sent = page(one, included=[who, ANSWER, {"type": "staff", "id": "s1"}], separators=(",", ":"))
    odd = page({**one, "id": 7}, *json.loads(sent.body)["data"], included=json.loads(sent.body)["included"])
    for batch in (normalise_pages(BOOKINGS, contract, [sent], {}), as_dictionaries(odd, contract=contract)):
        for kept in batch.rows.get_column("document"):
            assert [resource["id"] for resource in json.loads(kept)["included"]] == ["p1"]
    # Nor where it was kept before the name was learned; the API's next answer is then no change.
    before, after = (normalise_pages(BOOKINGS, one, [sent], {}).rows for one in (CONTRACT, contract))
    late = cleaned(before.get_column("document").to_list(), redact.members)
    assert late == dict(enumerate(after.select("document", "content_hash").rows()))


def test_linkage_to_the_customers_themselves_says_who_in_slots_too() -> None:
    one = booking()
    one["relationships"]["customerBookings"] = {"data": [{"type": "customers", "id": "c1"}]}
    ada = {"type": "customers", "id": "c1", "attributes": {"firstName": "Ada", "notes": "the customer's"}}
    people = in_slots(page(one, included=[ada])).children["booking_customers"]
    assert people.select("customer_booking_id", "customer_id", "notes").rows() == [("customer:c1:1", "c1", None)]


def test_names_are_learned_on_the_way_and_strangers_are_told_of() -> None:
    batch = in_slots(
        page(booking("b1", status="confirmed")), page(booking("b2", status="confirmed", price=12, zoom={"id": 1}))
    )
    assert batch.rows.get_column("price").to_list()[0] is None
    assert str(batch.rows.get_column("price").to_list()[1]) == "12.0000"
    assert {key.path: count for key, count in batch.drift.items()} == {"attributes.zoom": 1}
    again = in_slots(page(booking("b3")))  # a form that knows more than came
    assert not again.drift
    assert again.present == set()


def test_documents_are_cut_out_of_the_page_as_they_were_sent() -> None:
    sent = page(
        booking(people=("p1",), note="\u00fc/<", price=12.1), included=[person("p1", spaces=1)], separators=(",", ":")
    )
    (document,) = in_slots(sent).rows.get_column("document").to_list()
    assert "\\u00fc" in document  # not encoded anew
    assert json.loads(document) == {
        "data": json.loads(sent.body)["data"][0],
        "included": json.loads(sent.body)["included"],
    }


@pytest.mark.parametrize("dumped", [{"indent": 2}, {"separators": (", ", ": ")}, {"separators": (",", " : ")}])
def test_space_between_members_is_not_kept(dumped: Json) -> None:
    sent = page(booking(people=("p1",), status="confirmed"), included=[person("p1", cancellationUrl=TOKEN)], **dumped)
    (document,) = in_slots(sent).rows.get_column("document").to_list()
    assert TOKEN not in document
    if dumped != {"separators": (",", " : ")}:
        assert " " not in document


@pytest.mark.parametrize(
    "written",
    [
        '"cancellationUrl":"CANARY"',
        '"cancellationUrl":"CANARY","z":1',
        '"a":1,"cancellationUrl":"CANARY"',
        '"a":"cancellationUrl","cancellationUrl":"CANARY","b":"cancellationUrl"',
        '"cancellationUrl" : "CANARY","z":1',
        '"cancellation\\u0055rl":"CANARY"',
        '"\\u0063ancellation-url":"CANARY"',
        '"cancellationUrl":{"href":"CANARY"}',
        '"cancellationUrl":"CANARY","cancellationUrl":"CANARY 2"',
        '"deep":{"list":[{"reschedule_url":"CANARY"}]}',
        '"deep":{"list":[{"reschedule_\\u0075rl" : "CANARY"}]}',
        '"pricePoints":[{"cancelUrl":"CANARY"}]',
        '"pricePoints":[{"cancel\\u0055rl":"CANARY"}]',
        '"questions":[{"id":"q","value":"x","cancel url":"CANARY"}]',
    ],
)
def test_no_capability_link_is_kept_however_it_is_written(written: str) -> None:
    participant = f'{{"type":"customerBookings","id":"p1","attributes":{{{written}}}}}'
    text = json.dumps(booking(people=("p1",), status="confirmed"))
    body = f'{{"data":[{text}],"included":[{participant}]}}'.encode()
    batch = in_slots(Body(body, NOW))
    assert "CANARY" not in str([f.to_dicts() for f in (batch.rows, *batch.children.values())])
    json.loads(batch.rows.get_column("document")[0])
    assert batch.rows.get_column("status").to_list() == ["confirmed"]


@pytest.mark.parametrize(
    "odd",
    [
        {"id": 7},
        {"id": ""},
        {"type": "strangers"},
        {"attributes": []},
        {"relationships": {"account": "a1"}},
        {"relationships": {"account": {"data": {"type": "accounts", "id": "a1", "meta": {}}}}},
        {"attributes": {'quo"ted': 1}},
        {"attributes": {f"name {n}": n for n in range(slots.MOST_NAMES + 1)}},
    ],
)
def test_what_is_otherwise_is_left_to_dictionaries(odd: Json) -> None:
    with pytest.raises(NotPlainError):
        in_slots(page(booking() | odd))
    assert in_slots(page(booking())).rows.height == 1  # and spoils nothing for the pages after it


@pytest.mark.parametrize(
    "spoilt",
    [
        b'"included":{"a":1}',
        b'"included":[7]',
        b'"included":[{"a":1e99999999999999999999}]',
        b'"included":[{"a":"\xff"}]',
        b'"included":[{"a":%b1%b}]' % (b"[" * 5_000, b"]" * 5_000),
    ],
    ids=["object", "number", "exponent", "not UTF-8", "deep"],
)
def test_what_came_with_a_page_in_another_form_is_left_to_dictionaries(spoilt: bytes) -> None:
    with pytest.raises(NotPlainError):
        in_slots(Body(b'{"data":[],%b}' % spoilt, NOW))


def test_two_that_differ_under_one_id_are_left_to_dictionaries() -> None:
    twice = [person("p1", status="Arrived"), person("p1", status="Arrived")]
    batch = normalise_pages(BOOKINGS, CONTRACT, [page(booking(people=("p1",)), included=twice)], {})
    assert batch.children["booking_customers"].get_column("status").to_list() == ["arrived"]
    twice[1]["attributes"]["status"] = "No Show"
    with pytest.raises(NotPlainError):
        normalise_pages(BOOKINGS, CONTRACT, [page(booking(people=("p1",)), included=twice)], {})


def test_an_included_resource_is_kept_with_whoever_names_it_directly_or_through_another() -> None:
    customer = {"type": "customers", "id": "c1", "attributes": {"firstName": "Ada"}}
    linked = person("p1") | {"relationships": {"customer": {"data": {"type": "customers", "id": "c1"}}}}
    sent = page(
        booking("b1", ("p1",)), booking("b2", ("p2", "p0")), included=[customer, linked, person("p2"), person("p0")]
    )
    kept = [json.loads(text)["included"] for text in in_slots(sent).rows.get_column("document")]
    assert [[one["id"] for one in own] for own in kept] == [["p1", "c1"], ["p0", "p2"]]
    twice = booking("b1", ("p2",))
    twice["relationships"]["host"] = twice["relationships"]["customerBookings"]
    (document,) = in_slots(page(twice, included=[person("p2")])).rows.get_column("document")
    assert len(json.loads(document)["included"]) == 1
    assert in_slots(sent).rows.equals(
        as_dictionaries(page(*json.loads(sent.body)["data"], included=json.loads(sent.body)["included"])).rows
    )


def test_decoders_are_built_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once around the same struct end the process, which a test could only see now and then."""
    inside, both, build = threading.Semaphore(1), threading.Event(), msgspec.json.Decoder

    class Watched:
        """Says whether another thread came to build while this one did."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            if not inside.acquire(blocking=False):
                both.set()
                return
            both.wait(0.2)
            inside.release()
            self.decode = build(*arguments, **options).decode

    monkeypatch.setattr(msgspec.json, "Decoder", Watched)
    threads = [threading.Thread(target=slots.Form.of, args=((), (), frozenset())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not both.is_set()


@pytest.mark.parametrize("sent", [r'{"a\/b":1}', '{"a/b":1}', r'{"A-\/ B" : 1}'])
def test_a_solidus_in_a_redacted_name_is_found_however_it_is_sent(sent: str) -> None:
    _, suspects = texts_of([sent.encode()], ("a/b",))
    assert suspects == [0]
