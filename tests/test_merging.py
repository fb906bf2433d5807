"""What a merge does to what is stored: which version wins, what counts as the same content, and what history tells.

What lives here: rows of one stream, committed. What does not: their lists and their deletion (`test_children`), one commit as a whole (`test_committing`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.streams import BOOKINGS
from resources import merging
from resources.content import same_content
from resources.frames import registered
from resources.merging import COMPARED_AT_ONCE
from resources.part import Commit, Counts
from resources.warehouse import Writer
from tests.commits import NOW, PROPERTY, Json, booking, gone, later, part_of, people, put, resource, rows


def price(writer: Writer, record_id: str = "b1") -> int:
    ((value,),) = rows(writer, f"select price from core.bookings where booking_id = '{record_id}'")
    return int(value)


# ---- merging -----------------------------------------------------------------------------------------------------------------


def test_new_rows_are_inserted_with_everything_they_carry(writer: Writer) -> None:
    counts = put(writer, booking(price=12.1, status="Confirmed"), booking("b2", account="a2"))
    assert counts == Counts(read=2, inserted=2)
    ((price_, status, raw, updated, fetched, slice_id, deleted, document),) = rows(
        writer,
        "select price, status, status_raw, updated_at, fetched_at, slice_id, deleted_at, document from core.bookings where booking_id = 'b1'",
    )
    assert (price_, status, raw) == (Decimal("12.1000"), "confirmed", "Confirmed")
    assert (updated, fetched, slice_id, deleted) == (NOW, NOW, "s0", None)
    assert json.loads(document)["data"]["attributes"]["price"] == 12.1
    assert rows(writer, "select count(*) from history.records") == [(0,)]


@pytest.mark.parametrize(
    ("stored", "incoming", "action"),
    [  # (updated, fetched) of each; None: no updated
        ((0, 0), (1, 1), "updated"),
        ((1, 0), (0, 1), "stale"),  # never replaced by an older version, however late it was read
        ((0, 0), (0, 1), "updated"),  # changed without moving `updated`
        ((0, 1), (0, 0), "stale"),  # read before, committed after: a backfill page must not win
        ((0, 1), (1, 0), "updated"),  # newer is newer
        ((0, 0), (0, 0), "updated"),
        ((None, 0), (None, 1), "updated"),
        ((None, 1), (None, 0), "stale"),
        ((None, 0), (0, 1), "updated"),
        ((0, 0), (None, 1), "updated"),
        ((0, 1), (None, 0), "stale"),
        ((None, 1), (0, 0), "stale"),
    ],
)
def test_which_version_wins(
    writer: Writer, stored: tuple[float | None, float], incoming: tuple[float | None, float], action: str
) -> None:
    put(writer, booking(updated=stored[0], price=1), fetched=stored[1])
    counts = put(writer, booking(updated=incoming[0], price=2), fetched=incoming[1])
    assert getattr(counts, action) == 1
    assert counts.inserted + counts.updated + counts.stale + counts.unchanged == 1
    assert price(writer) == (2 if action == "updated" else 1)
    assert counts.silent == (1 if action == "updated" and stored[0] == incoming[0] else 0)
    history = rows(writer, "select superseded_by_slice_id, document from history.records")
    assert [s for s, _ in history] == ([f"s{incoming[1]}"] if action == "updated" else [])
    assert all(json.loads(d)["data"]["attributes"]["price"] == 1 for _, d in history)


def test_an_equal_row_is_not_written_again(writer: Writer) -> None:
    put(writer, booking(price=1))
    for fetched in (5, -5):
        assert put(writer, booking(price=1), fetched=fetched) == Counts(read=1, unchanged=1)
    assert rows(writer, "select fetched_at, slice_id from core.bookings") == [(NOW, "s0")]
    assert rows(writer, "select count(*) from history.records") == [(0,)]


def test_history_tells_every_version_in_turn(writer: Writer) -> None:
    for number in range(4):
        put(writer, booking(updated=number, price=number), fetched=number)
    told = rows(
        writer,
        "select stream, account_id, record_id, updated_at, fetched_at, superseded_at, superseded_by_slice_id, deleted_at "
        "from history.records order by updated_at",
    )
    assert told == [("bookings", "a1", "b1", later(n), later(n), later(n + 1), f"s{n + 1}", None) for n in range(3)]
    assert rows(writer, "select count(distinct content_hash) from history.records") == [(3,)]
    assert price(writer) == 3


def test_the_same_id_in_another_account_is_another_row(writer: Writer) -> None:
    put(writer, booking(price=1), booking(price=2, account="a2"))
    put(writer, booking(updated=1, price=3, account="a2"), fetched=1)
    assert rows(writer, "select account_id, price::int from core.bookings order by all") == [("a1", 1), ("a2", 3)]


versions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=5, unique=True)


@PROPERTY
@given(versions)
def test_whatever_the_order_of_commits_the_newest_version_stays(shared: Writer, found: list[tuple[int, int]]) -> None:
    ((number,),) = rows(shared, "select count(*) from core.bookings")
    record_id = f"p{number}"
    for updated, fetched in found:
        put(shared, booking(record_id, updated=updated, price=updated * 10 + fetched), fetched=fetched)
    updated, fetched = max(found)
    assert price(shared, record_id) == updated * 10 + fetched
    replaced = rows(
        shared, f"select updated_at, fetched_at from history.records where record_id = '{record_id}' order by all"
    )
    # What was replaced is exactly the rising chain in the order of commits.
    rising = [v for n, v in enumerate(found) if v == max(found[: n + 1])]
    assert replaced == sorted((later(u), later(f)) for u, f in rising[:-1])


# ---- hashes that differ ------------------------------------------------------------------------------------------------------


def hashed(commit: Commit, salt: str = "") -> Commit:
    """The same commit with each row's hash taken over its document's text, so that it also differs where the content is the same."""
    texts = commit.rows.get_column("document")
    hashes = [hashlib.blake2b(f"{salt}{text}".encode(), digest_size=16).hexdigest() for text in texts]
    return replace(commit, rows=commit.rows.with_columns(pl.Series("content_hash", hashes, dtype=pl.String())))


def put_hashed(writer: Writer, *records: Json, salt: str = "", fetched: float = 0, **own: Any) -> Counts:
    (counts,) = writer.commit(hashed(part_of(BOOKINGS, records, fetched=fetched, **own), salt))
    return counts


def turned(value: Any) -> Any:
    """The same with all members the other way round."""
    if isinstance(value, dict):
        return {k: turned(v) for k, v in reversed(value.items())}
    return [turned(v) for v in value] if isinstance(value, list) else value


STORED = booking(price=1, customers=people("p1"), tags=["x", "y"])
EVERYTHING = "select to_json(b) from core.bookings as b union all select to_json(c) from core.booking_customers as c order by all"


@pytest.mark.parametrize(
    "again",
    [
        turned(STORED),
        {**STORED, "links": {"self": "/elsewhere"}},
        {**STORED, "meta": {"seen": 2}},
        {**STORED, "relationships": {**STORED["relationships"], "other": {"links": {}}}},
    ],
    ids=["members in another order", "links", "meta", "links of a relationship"],
)
@pytest.mark.parametrize("fetched", [5, -5])
@pytest.mark.parametrize("kind", ["nightly", "sweep"])
def test_the_same_content_under_another_hash_is_not_written(
    writer: Writer, again: Json, fetched: float, kind: str
) -> None:
    put_hashed(writer, STORED)
    before = rows(writer, EVERYTHING)
    assert put_hashed(writer, again, fetched=fetched, kind=kind) == Counts(read=1, unchanged=1)
    assert rows(writer, EVERYTHING) == before
    assert rows(writer, "select count(*) from history.records") == [(0,)]
    assert rows(writer, "select count(*) from ops.late_arrivals") == [(0,)]


def test_included_resources_are_content_and_their_links_are_not(writer: Writer) -> None:
    linkage = {"customerBookings": {"data": [{"type": "customerBookings", "id": "p1"}]}}
    record = booking(related=linkage)
    person: Json = {"type": "customerBookings", "id": "p1", "attributes": {"status": "Arrived"}}
    put_hashed(writer, record, included=[person])
    again = put_hashed(writer, turned(record), included=[{"links": {"self": "/x"}, **person}], fetched=1)
    assert (again.unchanged, again.updated) == (1, 0)
    late = {**person, "attributes": {"status": "Late"}}
    assert put_hashed(writer, record, included=[late], fetched=2).updated == 1
    assert rows(writer, "select status_raw from core.booking_customers") == [("Late",)]


@pytest.mark.parametrize(
    "again",
    [
        booking(price=2, customers=people("p1"), tags=["x", "y"]),
        booking(price=1, customers=people("p1"), tags=["y", "x"]),  # the order of a list is content
        booking(price="1", customers=people("p1"), tags=["x", "y"]),
        booking(price=1, customers=people("p1"), tags=["x", "y"], new=None),
        booking(price=1, customers=people("p1", "p2"), tags=["x", "y"]),
    ],
)
def test_other_content_is_an_update_with_history(writer: Writer, again: Json) -> None:
    put_hashed(writer, STORED)
    ((before,),) = rows(writer, "select document::text from core.bookings")
    counts = put_hashed(writer, turned(again), fetched=1)
    assert counts == Counts(read=1, updated=1, silent=1)
    assert rows(writer, "select document::text, slice_id from core.bookings") != [(before, "s0")]
    assert rows(writer, "select document::text, superseded_by_slice_id from history.records") == [(before, "s1")]


def test_a_hash_of_another_version_of_this_product_changes_nothing(writer: Writer) -> None:
    put_hashed(writer, STORED, salt="hashed in another way ")
    before = rows(writer, EVERYTHING)
    assert put_hashed(writer, STORED, fetched=1).unchanged == 1
    assert rows(writer, EVERYTHING) == before
    newer = booking(updated=2, price=2, customers=people("p1"))
    assert put_hashed(writer, newer, fetched=2).updated == 1
    assert put_hashed(writer, turned(newer), fetched=3).unchanged == 1
    assert rows(writer, "select count(*) from history.records") == [(1,)]


@pytest.mark.parametrize(
    ("again", "action"),
    [
        ({"updated": 0, "price": 1, "fetched": -5}, "unchanged"),  # the same, read before: not stale
        ({"updated": 0, "price": 2, "fetched": -5}, "stale"),
        ({"updated": None, "price": 1, "fetched": -5}, "stale"),  # `updated` is content
        ({"updated": -1, "price": 1, "fetched": 5}, "stale"),
        ({"updated": -1, "price": 1, "fetched": 5, "kind": "sweep"}, "stale"),
        ({"updated": -1, "price": 1, "fetched": 3600, "kind": "sweep"}, "stale"),
        ({"updated": -1, "price": 1, "fetched": 7200, "kind": "sweep"}, "updated"),
        ({"updated": 1, "price": 1, "fetched": -5}, "updated"),
        ({"updated": 0, "price": 2, "fetched": 5, "kind": "sweep"}, "updated"),
    ],
)
def test_which_version_wins_under_other_hashes(writer: Writer, again: Json, action: str) -> None:
    put_hashed(writer, booking(price=1))
    fetched, kind = again.pop("fetched"), again.pop("kind", "nightly")
    counts = put_hashed(writer, turned(booking(**again)), fetched=fetched, kind=kind)
    assert counts == Counts(read=1, **{action: 1}, silent=counts.silent)
    assert counts.silent == (1 if action == "updated" and again["updated"] == 0 else 0)


def test_a_tombstone_comes_back_with_the_same_content_under_any_hash(writer: Writer) -> None:
    put_hashed(writer, STORED)
    gone(writer, ("a1", "b1"), at=10)
    assert put_hashed(writer, turned(STORED), fetched=9).stale == 1
    assert put_hashed(writer, turned(STORED), fetched=11).updated == 1
    assert rows(writer, "select deleted_at from core.bookings") == [(None,)]
    assert rows(writer, "select count(*) from history.records") == [(2,)]
    # Also beside one whose documents are compared.
    put_hashed(writer, booking("b2", price=1), fetched=11)
    gone(writer, ("a1", "b1"), at=20)
    counts = put_hashed(writer, turned(STORED), turned(booking("b2", price=1)), fetched=21)
    assert (counts.updated, counts.unchanged) == (1, 1)
    assert rows(writer, "select booking_id, deleted_at from core.bookings order by all") == [("b1", None), ("b2", None)]


def test_many_rows_of_several_slices_are_told_apart_each_by_itself(writer: Writer) -> None:
    """More rows than are compared at once, in every state, of two slices; what is unchanged lies between what is not."""
    number = 2 * COMPARED_AT_ONCE + 100
    put_hashed(writer, *(booking(f"b{n}", price=1, x=1) for n in range(number)))
    same, other = [n for n in range(number) if n % 3], [n for n in range(number) if n % 3 == 0]
    found = [turned(booking(f"b{n}", price=1, x=1)) for n in same] + [booking(f"b{n}", price=2, x=1) for n in other]
    found += [booking(f"new{n}") for n in range(5)]
    commit = hashed(part_of(BOOKINGS, found, fetched=1, slice_id="first"))
    is_first = pl.col("booking_id").str.ends_with("7")
    mixed = commit.rows.with_columns(slice_id=pl.when(is_first).then(pl.lit("first")).otherwise(pl.lit("second")))
    parts = (commit.parts[0], replace(commit.parts[0], slice_id="second"))
    first, second = writer.commit(replace(commit, rows=mixed, parts=parts))
    assert (first.unchanged, second.unchanged) == (
        sum(n % 10 == 7 for n in same),
        sum(n % 10 != 7 for n in same),
    )
    assert (first.updated, second.updated) == (sum(n % 10 == 7 for n in other), sum(n % 10 != 7 for n in other))
    assert (first.silent, second.silent) == (first.updated, second.updated)
    assert (first.inserted, second.inserted) == (0, 5)
    assert rows(writer, "select price::int, count(*) from core.bookings group by all order by all") == [
        (1, len(same)),
        (2, len(other)),
        (None, 5),
    ]
    assert rows(writer, "select count(*), count(distinct record_id) from history.records") == [(len(other),) * 2]
    assert rows(
        writer, "select count(*) from core.bookings where fetched_at > (select min(fetched_at) from core.bookings)"
    ) == [(len(other) + 5,)]


def test_documents_are_compared_only_where_hashes_differ(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def noted(one: str | None, other: str | None) -> bool:
        compared.append(one)
        return same_content(one, other)

    monkeypatch.setattr(merging, "same_content", noted)
    put_hashed(writer, *(booking(f"b{n}", price=1) for n in range(20)))
    assert put_hashed(writer, *(booking(f"b{n}", price=1) for n in range(20)), fetched=1).unchanged == 20
    assert compared == []
    put_hashed(writer, booking("b1", price=2), booking("b2", price=1), booking("b99"), fetched=2)
    assert len(compared) == 1
    put_hashed(writer, booking("b3", updated=-1, price=5), fetched=3)  # older: stale whatever it holds
    assert len(compared) == 1


def test_a_row_without_a_document_takes_the_one_that_comes(writer: Writer) -> None:
    put_hashed(writer, STORED)
    writer.connection.execute("update core.bookings set document = null")
    assert put_hashed(writer, turned(STORED), fetched=1).updated == 1
    assert rows(writer, "select document is not null from core.bookings") == [(True,)]


def test_json_is_handed_over_as_json_and_not_parsed_again(writer: Writer) -> None:
    frame = pl.DataFrame({"key": ["a", "b"], "document": ['{"a":0.10}', None], "text": ["{}", None]})
    with registered(writer.connection, ["document", "absent"], incoming=frame):
        kinds = {name: str(kind) for name, kind, *_ in writer.connection.execute("from incoming").description or ()}
        assert kinds == {"key": "VARCHAR", "document": "JSON", "text": "VARCHAR"}
        assert rows(writer, "select key, document, text from incoming where key <> 'c' order by key") == frame.rows()
    put(writer, resource("customers", "c1", customFields={"a": 0.10, "b": None}))
    assert rows(writer, "select field_id, value_raw::text from core.customer_custom_fields order by all")[0] == (
        "a",
        "0.1",
    )
    assert rows(writer, "select typeof(document), json_valid(document) from core.customers") == [("JSON", True)]
