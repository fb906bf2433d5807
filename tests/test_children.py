"""Lists that hang on a record, and records that were deleted: who left, who came back, and what was only linked.

What lives here: children's rows and tombstones, committed. What does not: rows of their own (`test_merging`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.streams import BOOKINGS
from resources.warehouse import Writer
from tests.commits import (
    NOW,
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

# ---- children ----------------------------------------------------------------------------------------------------------------


def test_a_participant_who_left_is_marked_and_one_who_returns_is_live_again(writer: Writer) -> None:
    put(writer, booking(customers=people("p1", "p2")))
    put(writer, booking(updated=1, customers=people("p2", "p3")), fetched=1)
    assert listed(writer) == {"p1": False, "p2": True, "p3": True}
    assert rows(writer, "select deleted_at from core.booking_customers where customer_booking_id = 'p1'") == [
        (later(1),)
    ]
    assert rows(writer, "select customer_booking_id, deleted_at is null from core.booking_answers order by all") == [
        ("p1", False),
        ("p2", True),
        ("p3", True),
    ]
    put(writer, booking(updated=2, customers=people("p1", spaces=4)), fetched=2)
    assert listed(writer) == {"p1": True, "p2": False, "p3": False}
    assert rows(writer, "select spaces_count from core.booking_customers where deleted_at is null") == [(4,)]
    put(writer, booking(updated=3, customers=[]), fetched=3)
    assert set(listed(writer).values()) == set(listed(writer, "booking_answers").values()) == {False}
    gone(writer, ("a1", "b1"), at=10)
    for table in ("booking_customers", "booking_answers"):  # each when it went, whatever came afterwards
        assert dict(rows(writer, f"select customer_booking_id, deleted_at from core.{table}")) == {
            "p1": later(3),
            "p2": later(2),
            "p3": later(2),
        }


def test_a_list_that_did_not_come_takes_nobody_away(writer: Writer) -> None:
    put(writer, booking(customers=people("p1"), resource="r1"))
    put(writer, booking(updated=1, price=1), fetched=1)
    put(writer, booking(updated=2, price=2, related={"customerBookings": {"links": {}}}), fetched=2)
    put(writer, booking(updated=3, price=3, customers=["p9"]), fetched=3)
    assert listed(writer) == {"p1": True}
    assert listed(writer, "booking_resources", "resource_id") == {"r1": True}
    assert listed(writer, "booking_answers") == {"p1": True}


def test_linkage_alone_keeps_what_is_known_of_a_participant(writer: Writer) -> None:
    put(writer, booking(customers=people("p1", "p2", status="Arrived")))
    linkage = {"customerBookings": {"data": [{"type": "customerBookings", "id": n} for n in ("p1", "p3")]}}
    put(writer, booking(updated=1, related=linkage), fetched=1)
    assert rows(
        writer,
        "select customer_booking_id, status, customer_id, deleted_at is null from core.booking_customers order by all",
    ) == [
        ("p1", "arrived", "c-p1", True),
        ("p2", "arrived", "c-p2", False),
        ("p3", None, None, True),
    ]
    assert listed(writer, "booking_answers") == {"p1": True, "p2": False}
    put(
        writer,
        booking(updated=2, price=1, related={"customerBookings": {"data": [{"type": "customerBookings", "id": "p2"}]}}),
        fetched=2,
    )
    assert rows(writer, "select status from core.booking_customers where deleted_at is null") == [("arrived",)]


@pytest.mark.parametrize(
    ("sent", "live"),
    [
        ([one_who("p2", None)], {("p2", "q"), ("p2", "r")}),  # who left takes the answers along
        ([one_who("p1", "q"), one_who("p2", None)], {("p1", "q"), ("p2", "q"), ("p2", "r")}),  # withdrawn
        ([one_who("p1"), one_who("p2", "r")], {("p2", "r")}),
        ([one_who("p1", "q"), "?"], {("p1", "q"), ("p2", "q"), ("p2", "r")}),  # who cannot be read may be p2
        (["?"], {("p1", "q"), ("p1", "r"), ("p2", "q"), ("p2", "r")}),
        ([], set()),
        (None, set()),
    ],
)
def test_each_participants_answers_are_a_list_of_their_own(
    writer: Writer, sent: list[Any], live: set[tuple[str, str]]
) -> None:
    put(writer, booking(customers=[one_who("p1", "q", "r"), one_who("p2", "q", "r")]))
    put(writer, booking(updated=1, customers=sent), fetched=1)
    assert {key for key, is_live in answers(writer).items() if is_live} == live
    put(writer, booking(updated=2, customers=[one_who("p1", "q", "r"), one_who("p2", "q", "r")]), fetched=2)
    assert set(answers(writer).values()) == {True}


def test_answers_of_a_participant_who_came_as_linkage_stay_and_those_of_the_others_do_not(writer: Writer) -> None:
    def linked(*names: str) -> Json:
        return {"customerBookings": {"data": [{"type": "customerBookings", "id": name} for name in names]}}

    came = [
        {"type": "customerBookings", "id": name, "attributes": {"questions": [{"id": "q", "value": 1}]}}
        for name in ("p1", "p2", "p3")
    ]
    put(writer, booking(related=linked("p1", "p2", "p3")), included=came)
    put(writer, booking(updated=1, related=linked("p2", "p3")), fetched=1, included=came[2:])
    assert answers(writer) == {("p1", "q"): False, ("p2", "q"): True, ("p3", "q"): True}


def test_answers_that_an_older_version_left_behind_go_with_the_next_change(writer: Writer) -> None:
    put(writer, booking(customers=[one_who("p1", "q"), one_who("p2", "q")]))
    rows(writer, "update core.booking_customers set deleted_at = now() where customer_booking_id = 'p1'")
    put(writer, booking(updated=1, customers=[one_who("p2", None)]), fetched=1)
    assert answers(writer) == {("p1", "q"): False, ("p2", "q"): True}


def test_children_of_a_stale_or_equal_row_are_left_alone(writer: Writer) -> None:
    put(writer, booking(updated=5, customers=people("p1")), fetched=5)
    put(writer, booking(updated=1, customers=people("p0", "p1", spaces=9)), fetched=6)
    assert listed(writer) == {"p1": True}
    assert rows(writer, "select spaces_count from core.booking_customers") == [(1,)]


def test_children_belong_to_their_own_parent(writer: Writer) -> None:
    put(
        writer,
        booking("b1", customers=people("same")),
        booking("b2", customers=people("same")),
        booking("b1", account="a2", customers=people("same")),
    )
    put(writer, booking("b1", updated=1, customers=[]), booking("b3", customers=people("same")), fetched=1)
    assert rows(
        writer, "select account_id, booking_id, deleted_at is null from core.booking_customers order by all"
    ) == [
        ("a1", "b1", False),
        ("a1", "b2", True),
        ("a1", "b3", True),
        ("a2", "b1", True),
    ]


def test_customers_children(writer: Writer) -> None:
    put(writer, resource("customers", "c1", tags=["old", "kept"], customFields={"a": 1, "b": "x"}))
    put(writer, resource("customers", "c1", tags=["kept", "new"], customFields={"a": 2}), fetched=1)
    assert listed(writer, "customer_tags", "tag") == {"kept": True, "new": True, "old": False}
    assert rows(
        writer, "select field_id, value_number, deleted_at is null from core.customer_custom_fields order by all"
    ) == [("a", 2, True), ("b", None, False)]


# ---- tombstones --------------------------------------------------------------------------------------------------------------


def test_a_tombstone_keeps_the_row_its_history_and_buries_its_children(writer: Writer) -> None:
    put(writer, booking(customers=people("p1"), resource="r1"), booking("b2", customers=people("p1")))
    counts = gone(writer, ("a1", "b1"), at=10)
    assert counts.tombstoned == 1
    assert rows(
        writer, "select booking_id, deleted_at, deletion_evidence, fetched_at, slice_id from core.bookings order by all"
    ) == [
        ("b1", later(10), "single GET (404)", later(10), "s10"),
        ("b2", None, None, NOW, "s0"),
    ]
    for table in ("booking_customers", "booking_resources", "booking_answers"):
        assert set(rows(writer, f"select deleted_at from core.{table} where booking_id = 'b1'")) == {(later(10),)}
    assert rows(
        writer, "select count(*) from core.booking_customers where booking_id = 'b2' and deleted_at is null"
    ) == [(1,)]
    assert rows(writer, "select record_id, deleted_at, superseded_at from history.records") == [("b1", None, later(10))]
    assert gone(writer, ("a1", "b1"), ("a9", "none"), at=20).tombstoned == 0  # the dead do not die again
    assert rows(writer, "select count(*) from history.records") == [(1,)]


def test_a_tombstone_comes_back_only_through_what_was_read_after_it(writer: Writer) -> None:
    record = booking(customers=people("p1"))
    put(writer, record)
    gone(writer, ("a1", "b1"), at=10)
    assert put(writer, booking(updated=9, customers=people("p1")), fetched=9).stale == 1
    assert rows(writer, "select deleted_at is null from core.bookings") == [(False,)]
    counts = put(writer, record, fetched=11)  # the very same content
    assert (counts.updated, counts.silent) == (1, 0)
    assert rows(writer, "select deleted_at, deletion_evidence, fetched_at from core.bookings") == [
        (None, None, later(11))
    ]
    assert listed(writer) == listed(writer, "booking_answers") == {"p1": True}
    assert rows(writer, "select deleted_at, superseded_at from history.records order by superseded_at") == [
        (None, later(10)),
        (later(10), later(11)),
    ]


def test_candidates_are_what_a_walk_should_have_met(writer: Writer) -> None:
    put(
        writer,
        *(booking(name) for name in ("met", "unmet", "dead")),
        booking("unmet", account="a2"),
        booking("met", account="a3"),
    )
    put(writer, booking("late"), fetched=5)
    gone(writer, ("a1", "dead"), at=1)
    met = pl.DataFrame({"account_id": ["a1", "a9"], "booking_id": ["met", "unmet"]})
    assert sorted(writer.candidates(BOOKINGS.target, met, ["a1", "a3"], later(5))) == [("a1", "unmet"), ("a3", "met")]
    assert writer.candidates(BOOKINGS.target, met, ["a1"], NOW) == []  # written while or after the walk began
    assert writer.candidates(BOOKINGS.target, met, [], later(5)) == []
