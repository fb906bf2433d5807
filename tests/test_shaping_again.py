"""Stored documents that are shaped again under another contract: what that reaches, and what it leaves alone.

What lives here: the rows. What does not: the command (`test_cli`), members to be redacted (`test_erasing`).
"""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import renormalise
from pipelines.renormalise import Seen, renormalise_stream
from pipelines.streams import BOOKINGS, CUSTOMERS, Stream
from resources.contract import Contract
from resources.errors import ContractError
from resources.warehouse import Writer
from tests.commits import (
    CONTRACT,
    NOW,
    ZONES,
    Json,
    answers,
    booking,
    gone,
    later,
    listed,
    one_who,
    people,
    put,
    resource,
    rows,
)


def with_alias(column: str, *names: str) -> Contract:
    bookings = CONTRACT.streams["bookings"]
    streams = CONTRACT.streams | {
        "bookings": bookings.model_copy(update={"columns": bookings.columns | {column: names}})
    }
    return CONTRACT.model_copy(update={"streams": streams})


@pytest.mark.parametrize("at_a_time", [1, renormalise.ROWS_AT_A_TIME])
def test_a_corrected_alias_reaches_what_is_stored_and_touches_no_bookkeeping(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(renormalise, "ROWS_AT_A_TIME", at_a_time)
    put(writer, booking(amount=7, people=people("p1")), booking("b2", price=1), booking("b3", account="a2", amount=9))
    gone(writer, ("a1", "b3"), at=1)
    bookkeeping = (
        "select booking_id, content_hash, fetched_at, slice_id, deleted_at, document from core.bookings order by all"
    )
    before = rows(writer, bookkeeping)
    assert renormalise_stream(writer, BOOKINGS, CONTRACT, ZONES) == (3, 0)
    assert renormalise_stream(writer, BOOKINGS, with_alias("price", "price", "amount"), ZONES) == (3, 2)
    assert rows(writer, "select booking_id, price::int from core.bookings order by all") == [
        ("b1", 7),
        ("b2", 1),
        ("b3", 9),
    ]
    assert renormalise_stream(writer, BOOKINGS, with_alias("participants", "people"), ZONES, {"a1"})[0] == 2
    assert listed(writer) == {"p1": True}
    assert rows(writer, bookkeeping) == before
    assert rows(writer, "select count(*) from history.records") == [(0,)]


def test_drift_of_stored_documents_is_counted_over_all_lots(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renormalise, "ROWS_AT_A_TIME", 1)
    for name, fetched in (("b1", 1), ("b2", 2), ("b3", 0)):
        put(writer, booking(name, zoom=7), fetched=fetched)
    seen = Seen()
    renormalise_stream(writer, BOOKINGS, CONTRACT, ZONES, seen=seen)
    ((key, count),) = seen.drift.items()
    assert (key.path, count, seen.examples) == ("attributes.zoom", 3, {key: "b1"})
    assert seen.at == later(2)


def test_rows_that_do_not_name_their_account_stay_in_it_when_they_are_shaped_again(writer: Writer) -> None:
    nameless = [resource("bookings", name, amount=7) | {"relationships": {}} for name in ("b1", "b2")]
    for account, one in zip(("a1", "a2"), nameless, strict=True):
        put(writer, one, default=account)
    assert renormalise_stream(writer, BOOKINGS, with_alias("price", "amount"), ZONES) == (2, 2)
    assert rows(writer, "select account_id, booking_id, price::int from core.bookings order by all") == [
        ("a1", "b1", 7),
        ("a2", "b2", 7),
    ]


def with_names(stream: str, table: str, **names: tuple[str, ...]) -> Contract:
    own = CONTRACT.streams[stream]
    changed = own.model_copy(update={table: own.tables()[table] | names})
    return CONTRACT.model_copy(update={"streams": CONTRACT.streams | {stream: changed}})


def customer(updated: float, **more: Any) -> Json:
    return resource("customers", "c1", updated=later(updated).isoformat(), **more)


def shaped_again(writer: Writer, stream: Stream, contract: Contract = CONTRACT) -> None:
    assert renormalise_stream(writer, stream, contract, ZONES)[0] == 1


def test_children_that_a_wrong_name_brought_go_when_it_is_corrected(writer: Writer) -> None:
    wrong = with_names("customers", "columns", tags=("labels",), custom_fields=("extras",))
    put(writer, customer(0, labels=["a"], extras={"f": 1}, tags=["b"]), contract=wrong)
    shaped_again(writer, CUSTOMERS)
    assert listed(writer, "customer_tags", "tag") == {"a": False, "b": True}
    assert listed(writer, "customer_custom_fields", "field_id") == {"f": False}
    assert rows(writer, "select distinct deleted_at from core.customer_tags where tag = 'a'") == [(NOW,)]
    shaped_again(writer, CUSTOMERS, wrong)
    assert listed(writer, "customer_tags", "tag") == {"a": True, "b": False}


@pytest.mark.parametrize("spoil", [None, "update history.records set document = null", "type"])
def test_children_that_an_earlier_version_listed_stay_where_the_newest_says_nothing(
    writer: Writer, spoil: str | None
) -> None:
    put(writer, customer(0, tags=["a"]))
    put(writer, customer(1, labels=["b"]), fetched=1)  # no list is no empty list
    if spoil == "type":
        rows(writer, "update history.records set document = replace(document, '\"customers\"', '\"people\"')")
    elif spoil:
        rows(writer, spoil)
    shaped_again(writer, CUSTOMERS)
    assert listed(writer, "customer_tags", "tag") == {"a": True}
    shaped_again(writer, CUSTOMERS, with_names("customers", "columns", tags=("labels",)))
    assert listed(writer, "customer_tags", "tag") == {"a": False, "b": True}  # the list came whole under this name


def test_answers_that_a_wrong_name_brought_go_participant_by_participant(writer: Writer) -> None:
    wrong = with_names("bookings", "participant_columns", answers=("asked", "questions"))
    asked = {"asked": [{"id": "r", "value": 1}]}
    put(
        writer, booking(customers=[one_who("p1", "q"), one_who("p2", None) | asked, one_who("p3", "q")]), contract=wrong
    )
    put(writer, booking(updated=1, customers=[one_who("p1", None), one_who("p2", None), one_who("p3", "q")]), fetched=1)
    assert set(answers(writer).values()) == {True}
    shaped_again(writer, BOOKINGS)
    assert answers(writer) == {("p1", "q"): True, ("p2", "r"): False, ("p3", "q"): True}


def test_linkage_alone_keeps_participants_when_they_are_shaped_again(writer: Writer) -> None:
    linkage = {"customerBookings": {"data": [{"type": "customerBookings", "id": "p1"}]}}
    put(writer, booking(customers=people("p1", status="Arrived")))
    put(writer, booking(updated=1, related=linkage), fetched=1)
    shaped_again(writer, BOOKINGS)
    assert rows(writer, "select status, deleted_at from core.booking_customers") == [("arrived", None)]
    assert answers(writer) == {("p1", "q"): True}


def test_what_a_list_names_stays_where_the_list_is_not_known_to_be_whole(writer: Writer) -> None:
    put(writer, customer(0, tags=["a", {"none": 1}]))
    shaped_again(writer, CUSTOMERS)
    assert listed(writer, "customer_tags", "tag") == {"a": True}


def test_the_children_of_a_tombstone_stay_dead_when_it_is_shaped_again(writer: Writer) -> None:
    put(writer, booking(customers=people("p1"), amount=3))
    gone(writer, ("a1", "b1"))
    assert renormalise_stream(writer, BOOKINGS, with_alias("price", "amount"), ZONES) == (1, 1)
    assert listed(writer) == {"p1": False}
    assert rows(writer, "select deleted_at from core.bookings") == [(later(10),)]


def test_a_contract_that_no_longer_takes_a_record_changes_nothing(writer: Writer) -> None:
    put(writer, booking(amount=7))
    streams = CONTRACT.streams | {
        "bookings": with_alias("price", "amount").streams["bookings"].model_copy(update={"types": ("slots",)})
    }
    with pytest.raises(ContractError, match="1 stored records no longer fit: type 'bookings'"):
        renormalise_stream(writer, BOOKINGS, CONTRACT.model_copy(update={"streams": streams}), ZONES)
    assert rows(writer, "select price from core.bookings") == [(None,)]
