"""The lists that hang on a record, in every form in which they are sent: customers' tags and fields, bookings' participants, answers and resources.

What lives here: their shaping. What does not: what a merge does with them (`test_children`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from pipelines.normalise import Batch
from pipelines.streams import BOOKINGS, CUSTOMERS
from resources.contract import Contract, load_contract
from resources.envelope import decode
from tests.shaped import (
    CONTRACT,
    IDENTIFIER,
    PARTICIPATION,
    RESOURCE_OBJECT,
    Json,
    booking,
    notes,
    of,
    resource,
    row,
    sent,
)


def with_names(table: str, **names: tuple[str, ...]) -> Contract:
    """A contract with other names in one of the tables of bookings."""
    own = CONTRACT.streams["bookings"]
    own = own.model_copy(update={table: own.tables()[table] | names})
    return CONTRACT.model_copy(update={"streams": CONTRACT.streams | {"bookings": own}})


# ---- customers' children -----------------------------------------------------------------------------------------------------


def custom(value: Any, zones: dict[str, str] | None = None) -> tuple[list[Json], Batch]:
    batch = of(CUSTOMERS, resource("customers", customFields=value), zones=zones)
    return batch.children["customer_custom_fields"].to_dicts(), batch


@pytest.mark.parametrize(
    ("value", "kind", "column", "stored"),
    [
        ("text", "text", "value_text", "text"),
        (False, "boolean", "is_value_true", False),
        (True, "boolean", "is_value_true", True),
        (0, "number", "value_number", Decimal(0)),
        (Decimal("0.10"), "number", "value_number", Decimal("0.10")),
        ("", "empty", "value_text", None),
        (None, "empty", "value_text", None),
        ([1, 2], "other", "value_text", None),
        ({"a": 1}, "other", "value_number", None),
    ],
)
def test_a_free_value_is_told_by_its_form(value: object, kind: str, column: str, stored: object) -> None:
    for form in ([{"id": "f", "value": value}], {"f": value}):
        (one,), batch = custom(form)
        assert (one["field_id"], one["value_kind"], one[column]) == ("f", kind, stored)
        others = {"value_text", "value_number", "is_value_true", "value_on"} - {column}
        assert all(one[c] is None for c in others)
        assert decode(one["value_raw"]) == value
        assert row(batch)["whole_customer_custom_fields"] is True


def test_custom_fields_come_as_list_or_object_and_absent_is_not_empty() -> None:
    assert [f["field_id"] for f in custom([{"id": "a", "value": 1}, {"id": "b"}])[0]] == ["a", "b"]
    assert [f["field_id"] for f in custom({"a": 1, "b": None})[0]] == ["a", "b"]
    nothing: list[Any] = [[], {}, None]
    for empty in nothing:
        fields, batch = custom(empty)
        assert fields == []
        assert row(batch)["whole_customer_custom_fields"] is True
    assert row(of(CUSTOMERS, resource("customers")))["whole_customer_custom_fields"] is False
    both = [resource("customers", "x1", customFields={"a": 1}), resource("customers", "x2", customFields=[{"id": "b"}])]
    fields_of_both = of(CUSTOMERS, *both).children["customer_custom_fields"]
    assert fields_of_both.select("customer_id", "field_id").rows() == [("x1", "a"), ("x2", "b")]


@pytest.mark.parametrize("element", [{"label": "no id", "value": 1}, {"id": ""}, None, [], True])
def test_a_custom_field_without_id_is_drift_and_the_list_is_no_longer_whole(element: object) -> None:
    fields, batch = custom([element])
    assert fields == []
    assert notes(batch) == {"custom_fields"}
    assert row(batch)["whole_customer_custom_fields"] is False


def test_of_a_key_twice_in_one_list_the_last_counts_and_other_values_are_told() -> None:
    lists = ([("f", 1), ("g", 1)], [("f", 1), ("f", 1)], [("f", 1), ("g", 2), ("f", 3)])
    records = [
        resource("customers", f"c{n}", customFields=[{"id": name, "value": value} for name, value in fields])
        for n, fields in enumerate(lists)
    ]
    batch = of(CUSTOMERS, *records)
    fields = batch.children["customer_custom_fields"].select("customer_id", "field_id", "value_raw").rows()
    assert sorted(fields) == [("c0", "f", "1"), ("c0", "g", "1"), ("c1", "f", "1"), ("c2", "f", "3"), ("c2", "g", "2")]
    ((key, count),) = batch.drift.items()
    assert (key.kind, key.path, count) == ("bad_value", "customer_custom_fields", 1)
    assert batch.examples == {key: "c2"}


def test_a_capability_url_inside_a_custom_field_is_removed() -> None:
    (one,), batch = custom([{"id": "f", "value": {"cancellationUrl": "https://x/?canary", "kept": 1}}])
    assert one["value_raw"] == '{"kept":1}'
    assert "canary" not in str(batch.rows.to_dicts()) + str(one)


@pytest.mark.parametrize(
    ("value", "zone", "day"),
    [
        (1684105200, "Europe/London", date(2023, 5, 15)),  # the vendor's own example: midnight in London, 14 May in UTC
        (1684105200, "UTC", date(2023, 5, 14)),
        (1684105200, "America/New_York", date(2023, 5, 14)),
        (Decimal("1684105200.0"), "Europe/London", date(2023, 5, 15)),
        (0, "Europe/London", date(1970, 1, 1)),
        (-3600, "Europe/London", date(1970, 1, 1)),  # London kept summer time all of that winter
        (-1, "UTC", date(1969, 12, 31)),
        (-631152000, "UTC", date(1950, 1, 1)),
        (-2208988800, "UTC", date(1900, 1, 1)),
        ("1990-07-04", "UTC", date(1990, 7, 4)),
        *(
            (f"1990-07-04{zero}", "Pacific/Auckland", date(1990, 7, 4))
            for zero in ("T00:00", " 00:00:00", "T00:00:00.000")
        ),
        (
            "1990-07-04T00:00:00Z",
            "America/New_York",
            date(1990, 7, 4),
        ),  # midnight in UTC: a plain day, written as an instant
        ("1990-07-04T00:00:00.000+00:00", "Pacific/Auckland", date(1990, 7, 4)),
        ("1990-07-04T23:00:00Z", "Europe/London", date(1990, 7, 5)),  # midnight in London
        ("1990-07-05T00:00:00+01:00", "Europe/London", date(1990, 7, 5)),
        ("1990-07-05 00:00:00+01", "Europe/London", date(1990, 7, 5)),
        ("", "UTC", None),
        (None, "UTC", None),
    ],
)
def test_an_epoch_date_is_a_day_of_the_accounts_zone(value: object, zone: str, day: date | None) -> None:
    (one,), batch = custom([{"id": "date_of_birth", "value": value}], {"a1": zone})
    assert one["value_on"] == day
    assert not batch.drift


def test_without_a_zone_no_day_is_guessed() -> None:
    (one,), batch = custom([{"id": "date_of_birth", "value": 1684105200}], {})
    assert (one["value_on"], one["value_number"]) == (None, Decimal(1684105200))
    assert not batch.drift
    (one,), batch = custom([{"id": "date_of_birth", "value": "1990-07-04T23:00:00Z"}], {})
    assert one["value_on"] is None
    assert not batch.drift
    (one,), batch = custom([{"id": "date_of_birth", "value": "1990-07-04T00:00:00Z"}], {})
    assert one["value_on"] == date(1990, 7, 4)


def test_other_numbers_are_no_days() -> None:
    (one,), _ = custom([{"id": "visits", "value": 1684105200}])
    assert one["value_on"] is None


@pytest.mark.parametrize(
    "value",
    [
        *(10**15, -(10**15), 10**400, Decimal("1E+999999999"), "04/07/1990", "1990", True, [], {}),
        *("1990-05-15 garbage", "19900515", "19900515T0000", "1990-5-15", " 1990-05-15", "1990-13-01", "1990-W20-2"),
        *("1990-05-15T09:30:00", "1990-05-15T12:00:00Z", "1990-05-15T23:30:00+01:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_what_is_no_day_is_drift(value: object) -> None:
    (one,), batch = custom([{"id": "date_of_birth", "value": value}])
    assert one["value_on"] is None
    assert "custom_fields.date_of_birth" in notes(batch)


def test_tags() -> None:
    batch = of(CUSTOMERS, resource("customers", tags=["vip", {"name": "new"}, "vip"]))
    assert sorted(batch.children["customer_tags"].get_column("tag")) == ["new", "vip"]
    assert row(batch)["whole_customer_tags"] is True
    for element in (7, "", {"name": ""}, {"name": 7}):
        odd = of(CUSTOMERS, resource("customers", tags=["vip", element]))
        assert odd.children["customer_tags"].get_column("tag").to_list() == ["vip"]
        assert row(odd)["whole_customer_tags"] is False
        assert notes(odd) == {"tags"}
    assert row(of(CUSTOMERS, resource("customers")))["whole_customer_tags"] is False
    assert row(of(CUSTOMERS, resource("customers", tags=[])))["whole_customer_tags"] is True
    for gaps in ({"1": "vip", "3": "new"}, {"7": {"name": "vip"}, "9": {"name": "new"}}):
        batch = of(CUSTOMERS, resource("customers", tags=gaps))
        assert batch.children["customer_tags"].get_column("tag").to_list() == ["vip", "new"]
        assert row(batch)["whole_customer_tags"] is True
        assert not batch.drift
    some = of(CUSTOMERS, resource("customers", "c1", tags="vip"), resource("customers", "c2"))
    assert some.rows.get_column("whole_customer_tags").to_list() == [True, False]
    assert not some.drift


# ---- bookings' children ------------------------------------------------------------------------------------------------------


FORMS: list[tuple[str, Json, list[Json], str]] = [
    ("included", booking(related={"customerBookings": {"data": [IDENTIFIER]}}), [RESOURCE_OBJECT], "p1"),
    ("embedded resource objects", booking(customers=[RESOURCE_OBJECT]), [], "p1"),
    (
        "embedded flat, V1",
        booking(customers=[{**PARTICIPATION, "id": "c1", "customer_id": "c1", "customer_booking_id": "p1"}]),
        [],
        "p1",
    ),
    (
        "embedded flat, webhook: id is the customer",
        booking(participants=[{**PARTICIPATION, "id": "c1", "customer_booking_id": "p1"}]),
        [],
        "p1",
    ),
    (
        "embedded flat, V2 names",
        booking(customers=[{**PARTICIPATION, "customerId": "c1", "customerBookingId": "p1"}]),
        [],
        "p1",
    ),
    ("embedded without ids", booking(customers=[{**PARTICIPATION, "id": "c1"}]), [], "customer:c1:1"),
    (
        "embedded, keyed by id",
        booking(customers={"p1": {**PARTICIPATION, "customerId": "c1", "customerBookingId": "p1"}}),
        [],
        "p1",
    ),
    (
        "named, in a list with gaps of PHP",
        booking(related={"customerBookings": {"data": {"2": IDENTIFIER}}}),
        [RESOURCE_OBJECT],
        "p1",
    ),
]


@pytest.mark.parametrize(("record", "included", "key"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS])
def test_a_participant_is_the_same_in_every_form(record: Json, included: list[Json], key: str) -> None:
    batch = of(BOOKINGS, sent(record, included))
    (one,) = batch.children["booking_customers"].to_dicts()
    assert (one["customer_booking_id"], one["customer_id"], one["is_partial"]) == (key, "c1", False)
    assert (one["status"], one["spaces_count"], one["is_paid"], one["notes"]) == ("arrived", 2, False, None)
    assert one["total_price"] == Decimal("12.10")
    assert one["time_zone"] == "America/Detroit"
    assert one["price_points"] == '[{"quantity":1,"pricePerQuantity":12.10}]'
    (answer,) = batch.children["booking_answers"].to_dicts()
    assert (answer["customer_booking_id"], answer["question_id"]) == (key, "q1")
    assert (answer["answer_kind"], answer["is_answer_true"], answer["answer_text"]) == ("boolean", False, None)
    assert row(batch)["whole_booking_customers"] is row(batch)["whole_booking_answers"] is True
    assert "canary" not in str([f.to_dicts() for f in (batch.rows, *batch.children.values())])
    assert not batch.drift


def test_names_under_ids_are_no_ids() -> None:
    batch = of(BOOKINGS, booking(resources={"101": "Room A"}, customers={"7": "Ann"}))
    assert batch.children["booking_resources"].is_empty()
    assert batch.children["booking_customers"].get_column("customer_id").to_list() == [None]
    assert "resources" in notes(batch)


def test_a_bare_id_is_the_participations_own_where_the_contract_says_so() -> None:
    contract = with_names("participant_columns", customer_booking_id=("id",))
    batch = of(BOOKINGS, booking(customers=[{"id": "p1", "customerId": "c1"}, {"id": "p2"}]), contract=contract)
    people = batch.children["booking_customers"].select("customer_booking_id", "customer_id").rows()
    assert people == [("p1", "c1"), ("p2", None)]


def test_participants_without_ids_are_numbered_among_equals() -> None:
    people: list[Json] = [{"id": "c1"}, {"id": "c2"}, {"id": "c1"}, {"name": "nobody"}, {}]
    keys = of(BOOKINGS, booking(customers=people)).children["booking_customers"].get_column("customer_booking_id")
    assert keys.to_list() == ["customer:c1:1", "customer:c2:1", "customer:c1:2", "customer::1", "customer::2"]


def test_linkage_to_the_customers_themselves_says_who_and_no_more() -> None:
    ada = {"type": "customers", "id": "c1", "attributes": {"firstName": "Ada"}}
    batch = of(BOOKINGS, sent(booking(related={"customers": {"data": [{"type": "customers", "id": "c1"}]}}), [ada]))
    (one,) = batch.children["booking_customers"].to_dicts()
    assert (one["customer_booking_id"], one["customer_id"], one["is_partial"]) == ("customer:c1:1", "c1", False)
    assert row(batch)["whole_booking_customers"] is True
    assert open_lists(batch) == ["customer:c1:1"]


def test_linkage_without_its_resource_is_partial() -> None:
    batch = of(BOOKINGS, booking(related={"customerBookings": {"data": [IDENTIFIER]}}))
    (one,) = batch.children["booking_customers"].to_dicts()
    assert (one["customer_booking_id"], one["is_partial"], one["status"]) == ("p1", True, None)
    assert row(batch)["whole_booking_customers"] is True
    assert open_lists(batch) == ["p1"]


def test_of_two_that_differ_under_one_id_none_came() -> None:
    record = booking(related={"customerBookings": {"data": [IDENTIFIER]}})
    other = {**RESOURCE_OBJECT, "attributes": {"status": "No Show"}}
    for included, came in (([RESOURCE_OBJECT, other], False), ([RESOURCE_OBJECT, RESOURCE_OBJECT], True)):
        (one,) = of(BOOKINGS, sent(record, included)).children["booking_customers"].to_dicts()
        assert (one["customer_booking_id"], one["is_partial"]) == ("p1", not came)
        assert one["status"] == ("arrived" if came else None)


@pytest.mark.parametrize("less", [IDENTIFIER, {**IDENTIFIER, "attributes": {"status": PARTICIPATION["status"]}}])
def test_of_two_under_one_id_the_one_that_only_says_less_is_passed_over(less: Json) -> None:
    record = booking(related={"customerBookings": {"data": [IDENTIFIER]}})
    for included in ([RESOURCE_OBJECT, less], [less, RESOURCE_OBJECT]):
        (one,) = of(BOOKINGS, sent(record, included)).children["booking_customers"].to_dicts()
        assert (one["status"], one["is_partial"]) == ("arrived", False)


def test_a_participant_with_unreadable_attributes_is_partial_and_told() -> None:
    record = booking(related={"customerBookings": {"data": [IDENTIFIER]}})
    batch = of(BOOKINGS, sent(record, [{**IDENTIFIER, "attributes": "none"}]))
    assert batch.children["booking_customers"].select("customer_booking_id", "is_partial").rows() == [("p1", True)]
    assert notes(batch) == {"participant.attributes"}


@pytest.mark.parametrize("related", [{}, {"customerBookings": {}}, {"customerBookings": {"links": {"related": "/x"}}}])
def test_missing_linkage_is_no_empty_list(related: Json) -> None:
    one = row(of(BOOKINGS, booking(related=related)))
    assert [one[f"whole_booking_{c}"] for c in ("customers", "answers", "resources")] == [False] * 3


@pytest.mark.parametrize(
    "record",
    [
        booking(related={"customerBookings": {"data": []}}),
        booking(customers=[]),
        booking(customers=None),
        booking(customers={}),
    ],
)
def test_an_empty_list_is_whole(record: Json) -> None:
    batch = of(BOOKINGS, record)
    assert batch.children["booking_customers"].height == 0
    assert row(batch)["whole_booking_customers"] is row(batch)["whole_booking_answers"] is True


def test_a_participant_that_cannot_be_read_does_not_make_the_others_disappear() -> None:
    batch = of(BOOKINGS, booking(customers=["c1", {"id": "c2", "questions": []}]))
    assert batch.children["booking_customers"].get_column("customer_id").to_list() == ["c2"]
    assert row(batch)["whole_booking_customers"] is row(batch)["whole_booking_answers"] is False
    assert row(batch)["except_booking_answers"] == ["customer:c2:1"], "of those who came it is known"
    assert notes(batch) == {"participants"}


def open_lists(batch: Batch) -> list[str]:
    """The participations of a single booking, all of them known, whose answers did not come whole."""
    assert row(batch)["whole_booking_answers"] is True
    return row(batch)["except_booking_answers"] or []


def test_absent_questions_are_no_empty_list() -> None:
    assert open_lists(of(BOOKINGS, booking(customers=[{"id": "c1"}]))) == ["customer:c1:1"]
    assert open_lists(of(BOOKINGS, booking(customers=[{"id": "c1", "questions": []}]))) == []
    both: list[Json] = [{"id": "c1", "questions": []}, {"id": "c2"}]
    assert open_lists(of(BOOKINGS, booking(customers=both))) == ["customer:c2:1"]


def answers(*questions: Any, included: Iterable[Any] = (), sent_as: Any = None) -> tuple[list[Json], Batch]:
    person = {"customer_booking_id": "p1", "questions": list(questions) if sent_as is None else sent_as}
    batch = of(BOOKINGS, sent(booking(customers=[person]), included))
    columns = ("question_id", "label", "answer_kind", "answer_text", "is_answer_true")
    return batch.children["booking_answers"].select(columns).to_dicts(), batch


def answer(question_id: str = "q1", label: str | None = "Why?", kind: str = "text", text: str | None = "nuts") -> Json:
    told = {"question_id": question_id, "label": label, "answer_kind": kind, "answer_text": text}
    return told | {"is_answer_true": None}


def strangers(batch: Batch) -> set[str]:
    return {key.path for key in batch.drift if key.kind in ("unknown_member", "missing_member")}


def test_an_answer_is_read_under_every_name_of_the_contract(tmp_path: Path) -> None:
    assert answers({"questionId": "q1", "question": "Why?", "answer": "nuts"}) == ([answer()], ANY)
    file = tmp_path / "own.toml"
    file.write_text('[streams.bookings.answer_columns]\nlabel = ["what"]\nvalue = ["said.text"]\n')
    element = {"id": "q1", "what": "Why?", "said": {"text": "nuts"}, "value": "not this"}
    batch = of(BOOKINGS, booking(customers=[{"questions": [element]}]), contract=load_contract(file))
    assert batch.children["booking_answers"].select("label", "answer_text").rows() == [("Why?", "nuts")]
    assert strangers(batch) == {"questions.attributes.value"}


def test_a_value_under_another_name_is_drift_and_no_empty_answer() -> None:
    found, batch = answers({"id": "q1", "label": "Why?", "reply": "nuts"}, {"id": "q2", "label": "Who?", "value": None})
    assert found == [answer(kind="missing", text=None), answer("q2", "Who?", "empty", None)]
    assert strangers(batch) == {"questions.attributes.reply", "questions.value"}
    fields, batch = custom([{"id": "f", "content": 1}, {"id": "g", "value": None}, "h"])
    assert [(f["field_id"], f["value_kind"], f["value_raw"]) for f in fields] == [
        ("f", "missing", None),
        ("g", "empty", "null"),
        ("h", "missing", None),
    ]
    assert strangers(batch) == {"custom_fields.attributes.content", "custom_fields.value"}
    assert {k.path: n for k, n in batch.drift.items() if k.kind == "missing_member"} == {"custom_fields.value": 2}
    assert row(batch)["whole_customer_custom_fields"] is True


def test_questions_may_come_as_an_object() -> None:
    found, batch = answers(sent_as={"q1": "nuts", "q2": True, "cancelUrl": "https://x/canary"})
    assert found == [answer(label=None), answer("q2", None, "boolean", None) | {"is_answer_true": True}]
    assert not batch.drift
    single, _ = answers(sent_as={"id": "q1", "label": "Why?", "value": "nuts"})
    assert single == [answer()]
    both: list[Json] = [{"questions": {"q1": "nuts"}}, {"questions": [{"id": "q2", "value": "eggs"}]}]
    found_in_both = of(BOOKINGS, booking(customers=both)).children["booking_answers"]
    assert found_in_both.select("question_id", "answer_text").rows() == [("q1", "nuts"), ("q2", "eggs")]


def test_answers_and_custom_fields_may_be_resources() -> None:
    attributes = {"label": "Why?", "value": "nuts"}
    resource_object = {"type": "answers", "id": "q1", "attributes": attributes}
    for identifier in ({"type": "answers", "id": "q1"}, {"type": "answers", "id": "q1", "meta": {"n": 1}}):
        found, batch = answers(identifier, included=[resource_object])
        assert (found, open_lists(batch), batch.drift) == ([answer()], [], {})
    assert answers(resource_object) == ([answer()], ANY)
    assert answers({"id": "q1", "type": "text", **attributes})[0] == [answer()]  # a type of its own makes no identifier

    found, batch = answers({"type": "answers", "id": "q9"}, {"id": "q1", **attributes}, included=[resource_object])
    assert (found, open_lists(batch), notes(batch)) == ([answer()], ["p1"], {"questions"})
    found, batch = answers({"type": "answers", "id": "q1"}, included=[resource_object | {"attributes": ["spoilt"]}])
    assert (found, open_lists(batch), notes(batch)) == ([], ["p1"], {"questions"})
    found, batch = answers({"type": "answers", "id": "q1"}, included=[resource_object | {"attributes": None}])
    assert (found, open_lists(batch)) == ([answer(label=None, kind="missing", text=None)], [])
    assert answers(resource_object | {"attributes": ["spoilt"]})[0] == [answer(label=None, kind="missing", text=None)]

    linked = {"question": {"data": {"type": "questions", "id": "q7"}}, "host": {"data": None}}
    contract = with_names("answer_columns", question_id=("question",))
    person: Json = {"customer_booking_id": "p1", "questions": [resource_object | {"relationships": linked}]}
    batch = of(BOOKINGS, booking(customers=[person]), contract=contract)
    assert batch.children["booking_answers"].select("question_id", "answer_text").rows() == [("q7", "nuts")]
    assert strangers(batch) == {"questions.relationships.host"}
    contract = with_names("answer_columns", question_id=("key",))
    person = {"questions": {"type": "answers", "id": "q1", "attributes": {"key": "q8", "value": "nuts"}}}
    batch = of(BOOKINGS, booking(customers=[person]), contract=contract)
    assert batch.children["booking_answers"].select("question_id", "answer_text").rows() == [("q8", "nuts")]

    field = {"type": "fields", "id": "f", "attributes": {"value": 7}}
    linked = resource("customers", related={"customFields": {"data": [{"type": "fields", "id": "f"}]}})
    batch = of(CUSTOMERS, sent(linked, [field]))
    assert batch.children["customer_custom_fields"].select("field_id", "value_number").rows() == [("f", Decimal(7))]
    assert row(batch)["whole_customer_custom_fields"] is True
    batch = of(CUSTOMERS, linked)
    assert batch.children["customer_custom_fields"].height == 0
    assert row(batch)["whole_customer_custom_fields"] is False
    assert notes(batch) == {"custom_fields"}


@pytest.mark.parametrize(
    "keyed",
    [
        {"f1": {"value": "Chess"}, "f2": {"value": 3}},
        {"0": {"fieldId": "f1", "questionId": "f1", "value": "Chess"}, "2": {"id": "f2", "value": 3}},
        {"f1": "Chess", "f2": 3},
    ],
)
def test_fields_and_answers_as_an_object(keyed: Json) -> None:
    fields = of(CUSTOMERS, resource("customers", customFields=keyed)).children["customer_custom_fields"]
    assert fields.select("field_id", "value_text", "value_kind").rows() == [
        ("f1", "Chess", "text"),
        ("f2", None, "number"),
    ]
    answers = of(BOOKINGS, booking(customers=[{"questions": keyed}])).children["booking_answers"]
    assert answers.select("question_id", "answer_text").rows() == [("f1", "Chess"), ("f2", "3")]


def test_answers_without_ids_are_told_by_label_and_number() -> None:
    questions = [
        {"label": "Why?", "value": ""},
        {"label": "Why?", "value": "x"},
        {"value": 3},
        {"id": "q", "value": None},
        {"label": 5, "value": True},
        {"label": "", "value": []},
        7,
    ]
    batch = of(BOOKINGS, booking(customers=[{"id": "c1", "questions": questions}]))
    answers = batch.children["booking_answers"]
    assert answers.get_column("question_id").to_list() == [
        *("label:Why?:1", "label:Why?:2", "label:None:1", "q", "label:5:1", "label::1")
    ]
    assert answers.get_column("label").to_list() == ["Why?", "Why?", None, None, None, None]
    assert answers.get_column("answer_kind").to_list() == ["empty", "text", "number", "empty", "boolean", "other"]
    assert answers.get_column("answer_text").to_list() == [None, "x", "3", None, None, None]
    assert open_lists(batch) == ["customer:c1:1"]
    assert notes(batch) == {"questions", "questions.label"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            booking(
                related={"resources": {"data": [{"type": "resources", "id": "r1"}, {"type": "resources", "id": "r2"}]}}
            ),
            [("r1", "Room"), ("r2", None)],
        ),
        (booking(related={"resources": {"data": []}}), []),
        (booking(resource="r1"), [("r1", None)]),
        (
            booking(bookables=[{"id": "r1", "name": "Room", "email": "r@x"}, {"id": "r2"}]),
            [("r1", "Room"), ("r2", None)],
        ),
        (booking(related={"resource": {"data": {"type": "resources", "id": "r1"}}}), [("r1", "Room")]),
        (booking(resources={"0": "r1", "2": {"id": "r2", "name": "Bay"}}), [("r1", None), ("r2", "Bay")]),
    ],
)
def test_bookable_resources(record: Json, expected: list[tuple[str, str | None]]) -> None:
    room = {"type": "resources", "id": "r1", "attributes": {"name": "Room"}}
    batch = of(BOOKINGS, sent(record, [room]))
    assert batch.children["booking_resources"].select("resource_id", "resource_name").rows() == expected
    assert row(batch)["whole_booking_resources"] is True


def test_a_name_that_is_not_to_be_stored_is_none_that_a_list_gives() -> None:
    redact = CONTRACT.redact.model_copy(update={"members": ("Name",)})
    contract = CONTRACT.model_copy(update={"redact": redact})
    linkage = {"resources": {"data": [{"type": "resources", "id": "r1"}]}}
    came = [{"type": "resources", "id": "r1", "attributes": {"name": "Ada"}}]
    for one in (sent(booking(related=linkage), came), booking(bookables=[{"id": "r1", "name": "Ada"}])):
        batch = of(BOOKINGS, one, contract=contract)
        assert batch.children["booking_resources"].select("resource_id", "resource_name").rows() == [("r1", None)]
    tagged = of(CUSTOMERS, resource("customers", tags=[{"name": "vip"}]), contract=contract)
    assert tagged.children["customer_tags"].is_empty()


def test_a_resource_without_id_leaves_the_list_open() -> None:
    batch = of(BOOKINGS, booking(bookables=[{"name": "?"}, {"id": "r1"}]))
    assert batch.children["booking_resources"].get_column("resource_id").to_list() == ["r1"]
    assert row(batch)["whole_booking_resources"] is False


def test_a_name_is_read_behind_what_came_beside_what_did_not() -> None:
    named = [
        booking(record_id=f"b{n}", related={"service": {"data": {"type": "services", "id": f"s{n}"}}}) for n in range(3)
    ]
    came = [{"type": "services", "id": "s1", "attributes": {"name": "Cut"}}, {"type": "services", "id": "s2"}]
    batch = of(BOOKINGS, *(sent(one, came) for one in named), booking(record_id="b3", service=[]))
    assert batch.rows.get_column("service_name").to_list() == [None, "Cut", None, None]
    assert batch.rows.get_column("service_id").to_list() == ["s0", "s1", "s2", None]
    assert not batch.drift


@pytest.mark.parametrize("value", [Decimal("1.5"), {"name": "Cut"}, ["s1"], True])
def test_what_is_no_reference_is_drift(value: object) -> None:
    batch = of(BOOKINGS, booking(service=value))
    assert row(batch)["service_id"] is None
    assert notes(batch) == {"service"}


def test_references_and_names_behind_them() -> None:
    service = {"type": "services", "id": "s1", "attributes": {"name": "Cut"}}
    one = row(
        of(
            BOOKINGS,
            sent(
                booking(related={"service": {"data": {"type": "services", "id": "s1"}}, "event": {"data": None}}),
                [service],
            ),
        )
    )
    assert (one["service_id"], one["service_name"], one["event_id"]) == ("s1", "Cut", None)
    assert row(of(BOOKINGS, booking(service="s2")))["service_id"] == "s2"
