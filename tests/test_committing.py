"""Rows, ledger and windows are one transaction, whatever ends it; and the watermark that the view and the plan take from them is one.

What lives here: one commit as a whole. What does not: what it does to single rows (`test_merging`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan import BEGINNING, Window, watermark
from pipelines.streams import BOOKINGS
from resources.database import transaction
from resources.part import Commit, Counts, Reconciliation
from resources.warehouse import Writer
from tests.commits import (
    LIMITS,
    NOW,
    PROPERTY,
    Json,
    booking,
    commit_of,
    later,
    listed,
    part_of,
    people,
    put,
    rows,
    warehouse_in,
)

# ---- one transaction ---------------------------------------------------------------------------------------------------------


def test_rows_ledger_and_window_are_one(writer: Writer) -> None:
    commit = part_of(
        BOOKINGS,
        [booking(), booking(updated=-1), booking("b2"), {"type": "x"}],
        since=later(-100),
        account_ids=["a1", "a2"],
        reconciliations=(Reconciliation(3, 4, 3, 2, "unsettled"),),
        drift=[("bad_value", "price", "text", 2, "b1")],
    )
    (counts,) = writer.commit(commit)
    assert (counts.read, counts.inserted, counts.duplicate, counts.quarantined) == (4, 2, 1, 1)
    ((ledger),) = rows(
        writer,
        "select slice_id, part_number, is_last_part, run_id, stream, api_client, kind, account_ids, since, until, pages_count, read_count, inserted_count, "
        "duplicate_count, quarantined_count, fetched_at from ops.slices",
    )
    assert ledger == (
        "s0",
        1,
        True,
        "r1",
        "bookings",
        "north",
        "nightly",
        ["a1", "a2"],
        later(-100),
        NOW,
        1,
        4,
        2,
        1,
        1,
        NOW,
    )
    assert writer.windows("bookings") == {"a1": [(later(-100), NOW)], "a2": [(later(-100), NOW)]}
    assert rows(writer, "select slice_id, position, stream, reason from ops.quarantine") == [
        ("s0", 1, "bookings", "the record has no id that is text or a whole number")
    ]
    assert rows(
        writer, "select first_total, last_total, distinct_count, walks_count, verdict from ops.reconciliations"
    ) == [(3, 4, 3, 2, "unsettled")]
    again = replace(commit.parts[0], slice_id="s1", fetched_at=later(9), quarantine=(), reconciliations=())
    writer.commit(commit_of(commit.table, again, commit.rows, commit.children))
    assert rows(writer, "select path, first_seen_at, last_seen_at, seen_count, example_record_id from ops.drift") == [
        ("price", NOW, later(9), 4, "b1")
    ]


def test_parts_of_several_slices_commit_as_one(writer: Writer) -> None:
    put(writer, booking("old", price=1), booking("same", price=1), account_ids=["a1"], until=later(500))
    drift = [("bad_value", "price", "text", 2, "b1")]
    evidence = (Reconciliation(1, 1, 1, 1, "settled"),)
    first = part_of(
        BOOKINGS, [booking("b1"), booking("old", 9, price=2), booking("same", price=1)], fetched=9, drift=drift
    )
    second = part_of(
        BOOKINGS,
        [booking("b2", customers=people("p1")), booking("b3", 8, customers=people("p2", "p3")), {"type": "x"}],
        fetched=8,
        part_number=3,
        is_last_part=False,
        drift=drift,
        reconciliations=evidence,
    )
    empty = part_of(BOOKINGS, fetched=7, account_ids=["a1", "a2"], since=later(-9), reconciliations=evidence)
    commits = (first, second, empty)
    together = Commit(
        BOOKINGS.target,
        pl.concat([c.rows for c in commits]),
        {child: pl.concat([c.children[child] for c in commits]) for child in BOOKINGS.target.children},
        [part for c in commits for part in c.parts],
    )
    assert writer.commit(together) == [
        Counts(read=3, inserted=1, updated=1, unchanged=1),
        Counts(read=3, inserted=2, quarantined=1),
        Counts(),
    ]
    assert rows(writer, "select booking_id, slice_id from core.bookings order by all") == [
        ("b1", "s9"),
        ("b2", "s8"),
        ("b3", "s8"),
        ("old", "s9"),
        ("same", "s0"),
    ]
    assert rows(writer, "select record_id, superseded_by_slice_id from history.records") == [("old", "s9")]
    assert listed(writer) == {"p1": True, "p2": True, "p3": True}
    assert rows(writer, "select slice_id, part_number, inserted_count from ops.slices order by all") == [
        ("s0", 1, 2),
        ("s7", 1, 0),
        ("s8", 3, 2),
        ("s9", 1, 1),
    ]
    assert rows(writer, "select slice_id, account_id, since, until from ops.windows order by all") == [
        ("s0", "a1", None, later(500)),
        ("s7", "a1", later(-9), NOW),
        ("s7", "a2", later(-9), NOW),
        ("s9", "a1", None, NOW),
    ]
    assert rows(writer, "select slice_id, part_number, position from ops.quarantine") == [("s8", 3, 1)]
    assert rows(writer, "select slice_id from ops.reconciliations order by all") == [("s7",), ("s8",)]
    assert rows(writer, "select first_seen_at, last_seen_at, seen_count from ops.drift") == [(later(8), later(9), 4)]
    assert rows(writer, "select slice_id, part_number, rows_count from ops.late_arrivals order by all") == [
        ("s8", 3, 2),
        ("s9", 1, 2),
    ]


def test_a_commit_is_of_different_slices_and_one_kind() -> None:
    whole = part_of(BOOKINGS)
    others: tuple[Json, ...] = ({}, {"slice_id": "s1", "kind": "sweep"})
    for second in others:
        with pytest.raises(ValueError, match="different slices"):
            replace(whole, parts=(*whole.parts, replace(whole.parts[0], **second)))


def test_only_the_last_part_of_a_walk_has_a_window(writer: Writer) -> None:
    put(writer, booking(), is_last_part=False)
    assert writer.windows("bookings") == {}
    assert writer.watermarks("bookings") == {}
    assert rows(writer, "select count(*) from core.bookings") == [(1,)]
    put(writer, booking("b2"), part_number=2)
    assert writer.watermarks("bookings") == {"a1": NOW}
    assert writer.watermarks("customers") == {}


def test_an_empty_slice_moves_the_state(writer: Writer) -> None:
    assert writer.commit(part_of(BOOKINGS)) == [Counts()]
    assert writer.watermarks("bookings") == {"a1": NOW}


@pytest.mark.parametrize("spoilt", ["kind", "api_client", "quarantine", "reconciliations"])
def test_a_commit_that_fails_anywhere_leaves_nothing(writer: Writer, spoilt: str) -> None:
    put(writer, booking(customers=people("p1")))
    before = {t: rows(writer, f"select * from {t} order by all") for t in TABLES}
    ways: dict[str, Json] = {
        "kind": {"kind": None},
        "api_client": {"api_client": None},
        "quarantine": {"quarantine": [("reason", None, NOW)]},
        "reconciliations": {"reconciliations": (Reconciliation(None, None, 1, 1, None),)},  # type: ignore[arg-type]
    }
    broken = ways[spoilt]
    with pytest.raises(duckdb.ConstraintException):
        put(writer, booking(updated=1, customers=people("p2")), booking("b2"), fetched=1, **broken)
    assert {t: rows(writer, f"select * from {t} order by all") for t in TABLES} == before
    put(writer, booking(updated=1, customers=people("p2")), fetched=1)
    assert listed(writer) == {"p1": False, "p2": True}


TABLES = (
    "core.bookings",
    "core.booking_customers",
    "core.booking_answers",
    "history.records",
    "ops.slices",
    "ops.windows",
    "ops.quarantine",
)


def test_quarantine_is_counted_for_each_api_client(writer: Writer) -> None:
    """A first load is held against what one API client counts; another's odd records would stand in for rows that are missing."""
    odd = [("the record has no id", '{"n":1}', NOW)]
    writer.commit(part_of(BOOKINGS, [booking()], fetched=1, api_client="north", quarantine=odd))
    writer.commit(part_of(BOOKINGS, [booking()], fetched=2, api_client="north", quarantine=odd))
    assert (writer.quarantined("bookings", "north"), writer.quarantined("bookings", "south")) == (1, 0)


def interrupt(writer: Writer) -> None:
    writer.connection.execute("insert into ops.windows values ('x', 'a', null, now(), 'k', 's', 'r')")
    raise KeyboardInterrupt


def test_even_an_interrupt_rolls_back(writer: Writer) -> None:
    with pytest.raises(KeyboardInterrupt), transaction(writer.connection):
        interrupt(writer)
    assert writer.windows("x") == {}


class InterruptedAtTheBeginning:
    """A connection on which a signal comes when a transaction has just begun."""

    def __init__(self, real: duckdb.DuckDBPyConnection) -> None:
        self.real = real

    def begin(self) -> None:
        self.real.begin()
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def test_an_interrupt_when_a_transaction_has_just_begun_leaves_none_open(writer: Writer) -> None:
    connection: Any = InterruptedAtTheBeginning(writer.connection)
    with pytest.raises(KeyboardInterrupt), transaction(connection):
        pass
    with transaction(writer.connection):
        pass  # the run's row can be ended


def test_a_killed_writer_leaves_whole_slices(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from resources import merging
from tests.test_committing import *
with warehouse_in(Path({str(tmp_path)!r})).writer("to be killed", wait_s=0) as writer:
    put(writer, booking("whole", customers=people("p1")))
    writer.connection.begin()
    part = part_of(BOOKINGS, [booking("half")], fetched=1)
    merging.merge(writer.connection, part)
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    with warehouse_in(tmp_path).writer("after", wait_s=0) as writer:
        assert rows(writer, "select booking_id from core.bookings") == [("whole",)]
        assert listed(writer) == {"p1": True}
        assert writer.watermarks("bookings") == {"a1": NOW}


def test_a_runs_row_is_green_only_while_nothing_was_wrong(writer: Writer) -> None:
    def told() -> tuple[Any, ...]:
        ((found),) = rows(writer, "select status, problems, warnings, ended_at is null from ops.runs")
        return found

    writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
    assert told() == ("running", [], [], True)
    writer.end_run("r1", [], ["w"])
    assert told() == ("green", [], ["w"], False)
    writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
    assert told()[0] == "running"
    writer.end_run("r1", ["p"], ["w"])
    assert told()[:3] == ("red", ["p"], ["w"])
    writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
    writer.end_run("r1", [], [])
    assert told()[:3] == ("red", ["p"], ["w"])  # a red run never turns green again


def test_the_sentences_of_a_run_stand_once_each_in_the_order_in_which_they_came(writer: Writer) -> None:
    first, then = ["the cause", "what follows", "a third", "the cause"], ["what follows", "not replaced", "a fourth"]
    writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
    writer.end_run("r1", first, first, is_over=False)
    writer.end_run("r1", then, then)
    ((problems, warnings),) = rows(writer, "select problems, warnings from ops.runs")
    assert problems == warnings == ["the cause", "what follows", "a third", "not replaced", "a fourth"]


def test_documents_come_once_each_wherever_their_rows_have_moved(writer: Writer) -> None:
    put(writer, *(booking(f"b{n}", price=n) for n in range(5)), booking("b1", account="a0"))
    found: list[str] = []
    after: tuple[str, ...] | None = None
    while True:
        documents, after = writer.documents(BOOKINGS.target, 2, after)
        if not documents:
            break
        found += [json.loads(text)["data"]["id"] for _, text, _ in documents]
        put(writer, booking("b0", len(found), price=9), fetched=len(found))  # its row is put in again at the end
    assert found == ["b1", "b0", "b1", "b2", "b3", "b4"]


def test_rows_are_counted_by_change_time(writer: Writer) -> None:
    put(writer, booking("b0", 0), booking("b1", 10), booking("b2", 20), booking("b3", None), booking("b4", 10, "a2"))
    assert writer.count_rows("bookings", ["a1"], None, later(100)) == 4
    assert writer.count_rows("bookings", ["a1"], later(10), later(20)) == 1
    assert writer.count_rows("bookings", ["a1", "a2"], later(0), later(11)) == 3
    assert writer.count_rows("bookings", [], None, later(100)) == 0


# ---- the watermark -----------------------------------------------------------------------------------------------------------


hours = st.integers(0, 12)
windows = st.tuples(st.none() | hours, hours).filter(lambda w: w[0] is None or w[0] < w[1])
states = st.dictionaries(st.sampled_from("abc"), st.lists(windows, min_size=1, max_size=7), min_size=1)


@settings(PROPERTY, max_examples=50)
@given(states)
def test_the_view_and_the_plan_have_one_watermark(
    shared: Writer, found: dict[str, list[tuple[int | None, int]]]
) -> None:
    stored = [
        (account, None if a is None else later(a * 3600), later(b * 3600))
        for account, own in found.items()
        for a, b in own
    ]
    with transaction(shared.connection):
        shared.connection.execute("delete from ops.windows where stream = 'events'")
        for window in stored:
            shared.connection.execute("insert into ops.windows values ('events', ?, ?, ?, 'nightly', 's', 'r')", window)
    as_planned = {
        account: [Window(BEGINNING if since is None else since, until) for since, until in own]
        for account, own in shared.windows("events").items()
    }
    assert shared.watermarks("events") == {account: watermark(own) for account, own in as_planned.items()}
    told = rows(
        shared,
        "select account_id, watermark_at is distinct from highest_window_at, has_gap from ops.watermarks where stream = 'events'",
    )
    assert all(is_behind == has_gap for _, is_behind, has_gap in told)
