"""The warehouse on real files: what a merge does to what is stored, what a kill or an error leaves, and what analysts get to open."""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import renormalise
from pipelines.normalise import combine, normalise
from pipelines.plan import BEGINNING, Window, watermark
from pipelines.records import Fetched, index
from pipelines.renormalise import Seen, renormalise_stream
from pipelines.streams import ACCOUNTS, BOOKINGS, CUSTOMERS, Stream
from pipelines.sync import RunReport, publish_run
from resources import merging, sql_files
from resources.content import same_content
from resources.contract import Contract, load_contract
from resources.database import connect, count_runs_of_whole_file, put_in_order, transaction
from resources.envelope import decode
from resources.errors import ContractError, LeaseHeldError, PublishBlockedError, SettingsError, WarehouseError
from resources.frames import registered
from resources.merging import COMPARED_AT_ONCE
from resources.migrations import open_for_writing
from resources.part import Commit, Counts, Part, Reconciliation
from resources.publish import publish
from resources.runs import Limits
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer
from tests.commits import commit_of

Json = dict[str, Any]
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
CONTRACT = load_contract()
ZONES = {"a1": "Europe/London"}
LIMITS = Limits(overlap_minutes=1440, freshness_hours=36)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def warehouse_in(folder: Path) -> Warehouse:
    return Warehouse(
        Settings(
            _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own argument
            warehouse_path=folder / "warehouse.duckdb",
            warehouse_published_path=folder / "public" / "analytics.duckdb",
        )
    )


@pytest.fixture
def writer(tmp_path: Path, empty: Path) -> Iterator[Writer]:
    shutil.copy(empty, tmp_path / empty.name)
    with warehouse_in(tmp_path).writer("a test", wait_s=0) as one:
        yield one


def resource(kind: str, record_id: str, account: str = "a1", related: Json | None = None, **attributes: Any) -> Json:
    relationships = {"account": {"data": {"type": "accounts", "id": account}}, **(related or {})}
    return {"type": kind, "id": record_id, "attributes": attributes, "relationships": relationships}


def booking(
    record_id: str = "b1", updated: float | None = 0, account: str = "a1", related: Json | None = None, **more: Any
) -> Json:
    stamp = {} if updated is None else {"updated": later(updated).isoformat()}
    return resource("bookings", record_id, account, related, **stamp, **more)


def part_of(
    stream: Stream,
    records: Sequence[Json] = (),
    *,
    fetched: float = 0,
    included: Sequence[Json] = (),
    contract: Contract = CONTRACT,
    default: str | None = None,
    **own: Any,
) -> Commit:
    """What a slice would commit that read these records."""
    wire = decode(json.dumps([list(records), list(included)]))
    pages = [Fetched(record, index(wire[1]), later(fetched)) for record in wire[0]]
    batch = combine([normalise(stream, contract, pages, ZONES, default if stream.id_column else "a1")])
    values: Json = {
        "slice_id": f"s{fetched}",
        "part_number": 1,
        "is_last_part": True,
        "run_id": "r1",
        "api_client": "north",
        "kind": "nightly",
        "account_ids": ["a1"],
        "since": None,
        "until": NOW,
        "pages_count": 1,
        "fetched_at": later(fetched),
        "read_count": batch.read_count,
        "duplicate_count": batch.duplicate_count,
        "quarantine": batch.quarantine,
    }
    return commit_of(stream.target, Part(**(values | own)), batch.rows, batch.children)


def put(writer: Writer, *records: Json, fetched: float = 0, **own: Any) -> Counts:
    stream = {"bookings": BOOKINGS, "customers": CUSTOMERS, "accounts": ACCOUNTS}[records[0]["type"]]
    (counts,) = writer.commit(part_of(stream, records, fetched=fetched, **own))
    return counts


def rows(writer: Writer, sql: str) -> list[tuple[Any, ...]]:
    return writer.connection.execute(sql).fetchall()


def price(writer: Writer, record_id: str = "b1") -> int:
    ((value,),) = rows(writer, f"select price from core.bookings where booking_id = '{record_id}'")
    return int(value)


def gone(writer: Writer, *keys: tuple[str, str], at: float = 10, fetched: float | None = None) -> Counts:
    frame = pl.DataFrame(
        [(*key, "single GET (404)", later(at)) for key in keys],
        schema={
            "account_id": pl.String,
            "booking_id": pl.String,
            "evidence": pl.String,
            "at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    (counts,) = writer.commit(part_of(BOOKINGS, fetched=at if fetched is None else fetched, gone=frame))
    return counts


# ---- merging -----------------------------------------------------------------------------------------------------------------


def test_no_query_draws_a_progress_bar_into_the_output(tmp_path: Path) -> None:
    with warehouse_in(tmp_path).writer("a test", wait_s=0) as writer:
        assert writer.connection.execute("select current_setting('enable_progress_bar')").fetchone() == (False,)


def test_no_connection_has_threads_of_its_own(tmp_path: Path) -> None:
    # Closing the last connection while one of DuckDB's threads still lets go of a query ends the process with SIGSEGV (docs/decisions.md).
    warehouse, asked = warehouse_in(tmp_path), "select current_setting('threads')"
    with warehouse.writer("a test", wait_s=0) as writer:
        assert writer.connection.execute(asked).fetchone() == (1,)
    with warehouse.reader() as (connection, _):
        assert connection.execute(asked).fetchone() == (1,)


def test_after_every_sixth_run_publishing_takes_the_place_of_replaced_rows_back_and_joins_row_groups(
    tmp_path: Path,
) -> None:
    warehouse, groups, stored = warehouse_in(tmp_path), list[int](), list[int]()
    for night in range(17):
        with warehouse.writer("a test", wait_s=0) as writer:
            writer.start_run(f"r{night}", "nightly", "a test", "test", LIMITS)
            put(writer, resource("accounts", "a1"), fetched=night)
            changed = range(night, night + 1) if night else range(50)
            put(writer, *(booking(f"b{n}", night, price=night) for n in changed), fetched=night)
        publish(warehouse, f"r{night}", "test")
        with connect(warehouse.path, read_only=True) as connection:
            asked = "select count(distinct row_group_id) from pragma_storage_info('core.bookings')"
            groups += connection.execute(asked).fetchall()[0]
            asked = "select estimated_size from duckdb_tables() where table_name = 'bookings'"
            stored += connection.execute(asked).fetchall()[0]
    assert groups == [1, 2, 3, 4, 5, 6] * 2 + [1] + [2, 3, 4, 5]
    assert stored == [*range(50, 56)] * 2 + [50] + [*range(51, 55)]


def test_a_disk_without_room_for_the_file_once_more_is_not_filled_by_putting_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0):
        pass
    with connect(warehouse.path, read_only=False, memory_limit_mb=512) as connection:
        monkeypatch.setattr("resources.files.LEAST_FREE_BYTES", shutil.disk_usage(tmp_path).total)
        monkeypatch.setattr("resources.database.IN_ORDER_EVERY", -2)
        put_in_order(connection, warehouse.path)
        assert connection.execute("select current_setting('max_vacuum_tasks')").fetchone() == (0,)
    assert "no room" in caplog.text


def test_a_run_whose_end_is_noted_stays_green_where_the_file_cannot_be_put_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "a test", "test", LIMITS)
        put(writer, resource("accounts", "a1"))

    def full(*_: object) -> None:
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr("resources.publish.put_in_order", full)
    report = RunReport("r1", "nightly", [])
    publish_run(warehouse, report, "test")
    assert (report.published, report.problems) == (True, [])
    assert "No space left on device" in caplog.text
    with connect(warehouse.path, read_only=True) as connection:
        assert connection.execute("select status, problems from ops.runs").fetchall() == [("green", [])]


def test_a_run_that_is_told_to_end_while_the_file_is_put_in_order_stays_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "a test", "test", LIMITS)
        put(writer, resource("accounts", "a1"))

    def told(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resources.publish.put_in_order", told)
    with pytest.raises(KeyboardInterrupt):
        publish_run(warehouse, RunReport("r1", "nightly", []), "test")
    for path in (warehouse.path, warehouse.published_path):
        with connect(path, read_only=True) as connection:
            assert connection.execute("select status, problems from ops.runs").fetchall() == [("green", [])]


def test_a_signal_during_a_checkpoint_does_not_keep_the_file_from_being_opened_again(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from resources import publish as publishing
from tests.test_warehouse import *

asked = threading.Event()

def signalled():
    asked.wait()
    while warehouse.path.stat().st_size == size:
        pass  # until the checkpoint writes
    os.kill(os.getpid(), signal.SIGINT)

def before_the_checkpoint(connection, path):
    global size
    connection.execute("insert into core.customer_tags select 'a', n, n, null from range(500_000) numbers(n)")
    size = path.stat().st_size
    asked.set()

thread = threading.Thread(target=signalled, daemon=True)
thread.start()
publishing.put_in_order = before_the_checkpoint
warehouse = warehouse_in(Path(sys.argv[1]))
with warehouse.writer("a test", wait_s=0) as writer:
    put(writer, resource("accounts", "a1"))
try:
    publish_run(warehouse, RunReport("r1", "nightly", []), "test")
    thread.join()
except (KeyboardInterrupt, RuntimeError) as error:
    print(repr(error))
"""
    told = list[str]()
    # On a busy machine the checkpoint may be over before the signal comes, which then finds nothing to interrupt.
    while len(told) < 10 and "Query interrupted" not in "".join(told):
        folder = tmp_path / str(len(told))
        folder.mkdir()
        command = [sys.executable, "-c", script, str(folder)]
        told.append(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert "Query interrupted" in told[-1], told


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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    with warehouse_in(tmp_path_factory.mktemp("shared")).writer("a property", wait_s=0) as one:
        yield one


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


def people(*names: str, **more: Any) -> list[Json]:
    return [
        {"customer_booking_id": n, "customer_id": f"c-{n}", "spaces": 1, "questions": [{"id": "q", "value": n}], **more}
        for n in names
    ]


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


# ---- children ----------------------------------------------------------------------------------------------------------------


def listed(writer: Writer, table: str = "booking_customers", column: str = "customer_booking_id") -> dict[str, bool]:
    """Child → is it live."""
    found = rows(writer, f"select {column}, deleted_at is null from core.{table} order by all")
    assert len(dict(found)) == len(found)
    return dict(found)


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


def answers(writer: Writer) -> dict[tuple[str, str], bool]:
    """Participation and question → whether the answer is live."""
    found = rows(writer, "select customer_booking_id, question_id, deleted_at is null from core.booking_answers")
    return {(person, question): is_live for person, question, is_live in found}


def one_who(name: str, *questions: str | None) -> Json:
    """A participant with a list of answers, or with none where that is None."""
    asked = {} if questions == (None,) else {"questions": [{"id": q, "value": name} for q in questions]}
    return {"customer_booking_id": name, "customer_id": f"c-{name}", **asked}


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
from tests.test_warehouse import *
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


# ---- shaping again -----------------------------------------------------------------------------------------------------------


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


# ---- the file ----------------------------------------------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_alone_in_utc_and_old_clients_can_read_it(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path / "new" / "folder")
    with warehouse.writer("a test", wait_s=0) as writer:
        assert rows(writer, "select current_setting('TimeZone')") == [("UTC",)]
        assert [n for (n,) in rows(writer, "select number from ops.migrations where number > 0 order by 1")] == list(
            range(1, 1 + len(list((sql_files.SQL_FOLDER / "schema").iterdir())))
        )
        ((tags,),) = rows(writer, "select tags from duckdb_databases() where database_name = 'warehouse'")
        assert tags["storage_version"].startswith("v1.4.0")
    assert warehouse.path.stat().st_mode & 0o777 == 0o600
    assert not warehouse.path.with_name("warehouse.duckdb.wal").exists()


@pytest.mark.parametrize(
    ("memory_mb", "log"), [(128, "72.4 MiB"), (256, "145.9 MiB"), (512, "244.1 MiB"), (4096, "244.1 MiB")]
)
def test_the_log_is_a_share_of_what_memory_may_hold(tmp_path: Path, memory_mb: int, log: str) -> None:
    with connect(tmp_path / "warehouse.duckdb", read_only=False, memory_limit_mb=memory_mb) as connection:
        assert connection.execute("select current_setting('wal_autocheckpoint')").fetchone() == (log,)


def test_a_migration_runs_once_and_keeps_a_copy_of_what_was(tmp_path: Path, sql: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    copy = tmp_path / "warehouse.duckdb.before-900"
    with warehouse.writer("old", wait_s=0) as writer:
        put(writer, booking())
    assert not list(tmp_path.glob("*.before-*"))
    (sql / "schema" / "900_more.sql").write_text(
        "create table core.more (x INTEGER); insert into core.more values (1);"
    )
    for _ in range(2):
        with warehouse.writer("new", wait_s=0) as writer:
            assert rows(writer, "select x from core.more") == [(1,)]
            assert rows(writer, "select name from ops.migrations where number = 900") == [("900_more",)]
            assert rows(writer, "select count(*) from core.bookings") == [(1,)]
    with connect(copy, read_only=True) as old:
        assert old.execute("select count(*) from core.bookings").fetchone() == (1,)
        assert old.execute("select count(*) from duckdb_tables() where table_name = 'more'").fetchone() == (0,)


def test_a_migration_that_fails_changes_nothing_and_can_be_mended(tmp_path: Path, sql: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("old", wait_s=0) as writer:
        put(writer, booking())
    file = sql / "schema" / "900_more.sql"
    file.write_text("create table core.more (x INTEGER); select * from nowhere;")
    with pytest.raises(duckdb.Error, match="nowhere"), warehouse.writer("new", wait_s=0):
        pytest.fail("opened")
    file.write_text("create table core.more (x INTEGER);")
    with warehouse.writer("new", wait_s=0) as writer:
        assert rows(writer, "select count(*) from core.bookings") == [(1,)]


def test_a_file_of_a_newer_version_is_refused_unchanged(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("newer", wait_s=0) as writer:
        writer.connection.execute("insert into ops.migrations values (999, 'future', now())")
    with (
        pytest.raises(WarehouseError, match=r"written by a newer version .*schema 999, this one knows \d+\)"),
        warehouse.writer("older", wait_s=0),
    ):
        pytest.fail("opened")


def test_views_are_made_again_when_their_text_changes(tmp_path: Path, sql: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    open_for_writing(path, 512).close()
    mart = sql / "marts" / "99_new.sql"
    for number in (1, 2):
        mart.write_text(f"create or replace view marts.new as select {number} as n")
        connection = open_for_writing(path, 512)
        assert connection.execute("select n from marts.new").fetchall() == [(number,)]
        assert connection.execute("select count(*) from ops.migrations where number = 0").fetchall() == [(1,)]
        connection.close()


def test_what_is_no_warehouse_is_told_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "clockwork"
    folder.mkdir()
    (folder / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(
        SettingsError, match=r"WAREHOUSE_PATH names .*/clockwork/warehouse\.duckdb, which is no DuckDB file"
    ):
        warehouse_in(folder)
    assert [path.name for path in folder.iterdir()] == ["warehouse.duckdb"]
    half = b"\0" * 8 + b"DUCK" + b"\0" * 1000
    (folder / "warehouse.duckdb").write_bytes(half)
    with pytest.raises(WarehouseError, match="cannot be opened"), warehouse_in(folder).writer("x", wait_s=0):
        pytest.fail("opened")


def test_somebody_elses_database_is_neither_added_to_nor_replaced(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    warehouse.published_path.parent.mkdir()
    for path in (warehouse.path, warehouse.published_path):
        with connect(path, read_only=False) as connection:
            connection.execute("create table mine as select 42 as answer")
        path.chmod(0o644)
    before = warehouse.path.read_bytes()
    told = (
        r"{} names .*{}, a DuckDB file that holds other tables than a warehouse's and was left alone\. Name another one"
    )
    with (
        pytest.raises(WarehouseError, match=told.format("WAREHOUSE_PATH", r"warehouse\.duckdb")),
        warehouse.writer("x", wait_s=0),
    ):
        pytest.fail("opened")
    assert warehouse.path.read_bytes() == before
    assert warehouse.path.stat().st_mode & 0o777 == 0o644
    warehouse.path.unlink()
    before = warehouse.published_path.read_bytes()
    report = RunReport("r1", "nightly", [])
    with warehouse.writer("x", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "test", "0", LIMITS)
    with pytest.raises(WarehouseError, match=told.format("WAREHOUSE_PUBLISHED_PATH", r"analytics\.duckdb")):
        publish_run(warehouse, report, "0")
    assert warehouse.published_path.read_bytes() == before
    with connect(warehouse.path, read_only=True) as connection:
        assert connection.execute("select status, problems[1] like '%was left alone%' from ops.runs").fetchall() == [
            ("red", True)
        ]


def test_a_backup_beside_the_log_of_a_killed_run_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass
    before = path.read_bytes()
    with connect(path, read_only=False) as connection:
        connection.execute("create table more as select range from range(100000); checkpoint")
        connection.execute("insert into more values (1)")
        log = path.with_name("warehouse.duckdb.wal")
        kept = log.read_bytes()
    path.write_bytes(before)
    log.write_bytes(kept)
    with pytest.raises(WarehouseError, match=r"cannot be opened: .* move the log away and run again"):
        warehouse_in(tmp_path).writer("x", wait_s=0).__enter__()
    log.unlink()
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass


def test_a_damaged_file_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WarehouseError, match=r"cannot be opened: .* The file is damaged: put a backup in its place"):
        warehouse_in(tmp_path).writer("x", wait_s=0).__enter__()
    spoilt = bytearray(whole)
    spoilt[20_000::4096] = b"x" * len(spoilt[20_000::4096])
    path.write_bytes(spoilt)
    with pytest.raises(WarehouseError, match="The file is damaged"), warehouse_in(tmp_path).writer("x", wait_s=0) as it:
        it.connection.execute("checkpoint")


def test_a_file_whose_empty_end_was_let_go_of_is_whole(tmp_path: Path) -> None:
    """DuckDB notes how many blocks there are, and then cuts off those at the end in which nothing stands."""
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        writer.connection.execute("create table more as select hash(range) as h from range(500000); checkpoint")
        writer.connection.execute("drop table more; checkpoint")
    size = path.stat().st_size
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        writer.connection.execute("insert into ops.migrations values (0, 'x', now()); checkpoint")
    with connect(path, read_only=True) as connection:
        (noted,) = connection.execute("select block_size * total_blocks from pragma_database_size()").fetchone() or (0,)
    whole = path.stat().st_size
    assert whole < noted <= size
    assert count_runs_of_whole_file(path) == 0
    os.truncate(path, whole - 262_144)
    with pytest.raises(WarehouseError, match=rf"of its {noted:,} bytes {whole - 262_144:,} are there"):
        count_runs_of_whole_file(path)


def test_damage_that_a_question_meets_is_told_with_the_cure(tmp_path: Path) -> None:
    """The file opens, since its beginning is whole, and a block in its middle is not what was written."""
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        start = path.stat().st_size
        writer.connection.execute("create table more as select hash(range) as h from range(500000); checkpoint")
    spoilt = bytearray(path.read_bytes())
    spoilt[start + 300_000 : start + 2_000_000] = b"x" * len(spoilt[start + 300_000 : start + 2_000_000])
    path.write_bytes(spoilt)
    question = "select count(distinct h) from more"
    with (
        pytest.raises(WarehouseError, match=r"cannot be read: .* The file is damaged"),
        warehouse_in(tmp_path).reader() as (connection, _),
    ):
        connection.execute(question).fetchall()
    with (
        pytest.raises(WarehouseError, match="The file is damaged"),
        warehouse_in(tmp_path).writer("x", wait_s=0) as writer,
    ):
        writer.connection.execute(question).fetchall()


@pytest.mark.parametrize("is_folder", [False, True], ids=["a file", "a folder"])
def test_what_is_not_ours_is_never_replaced_by_what_is_published(is_folder: bool, tmp_path: Path) -> None:
    published = tmp_path / "public" / "analytics.duckdb"
    published.parent.mkdir()
    if is_folder:
        published.mkdir()
    else:
        published.write_text("minutes of a meeting", encoding="utf-8")
    with pytest.raises(SettingsError, match="WAREHOUSE_PUBLISHED_PATH names"):
        warehouse_in(tmp_path)
    assert is_folder or published.read_text(encoding="utf-8") == "minutes of a meeting"


def test_a_file_that_another_program_has_open_is_told_with_its_process(tmp_path: Path) -> None:
    open_for_writing(tmp_path / "warehouse.duckdb", 512).close()
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        told = rf"is open in another program \(process {other.pid}\)"
        with pytest.raises(WarehouseError, match=told), warehouse_in(tmp_path).writer("x", wait_s=0):
            pytest.fail("opened")
        other.kill()


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with (
        warehouse.writer("the first", wait_s=0),
        pytest.raises(LeaseHeldError, match="the first"),
        warehouse.writer("x", wait_s=0),
    ):
        pytest.fail("two writers")
    with warehouse.writer("x", wait_s=0):
        pass


# ---- publishing --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one booking, closed."""
    return load(tmp_path_factory.mktemp("full")).path


def loaded(folder: Path, full: Path) -> Warehouse:
    shutil.copy(full, folder / full.name)
    return warehouse_in(folder)


def load(folder: Path) -> Warehouse:
    warehouse = warehouse_in(folder)
    with warehouse.writer("loading", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
        put(writer, resource("accounts", "a1", name="North", slug="north"))
        put(writer, booking(status="cancelled", customers=people("p1")))
        writer.end_run("r1", [], [])
    return warehouse


def test_publishing_gives_analysts_a_file_of_their_own(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    published = warehouse.published_path
    assert published.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in published.parent.iterdir()] == [published.name]
    with warehouse.writer("writing on", wait_s=0) as writer, connect(published, read_only=True) as analyst:
        put(writer, booking("b2"), fetched=5)
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
        assert analyst.execute("select run_id, product_version from ops.publications").fetchall() == [("r1", "0.1")]
        # The old file stays whole for who has it open while the next is put in its place.
        assert rows(writer, "select count(*) from core.bookings") == [(2,)]
    with connect(published, read_only=True) as analyst:
        publish(warehouse, "r2", "0.1", wait_s=0)
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
    with connect(published, read_only=True) as analyst:
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (2,)


@pytest.mark.parametrize(
    ("place", "why"), [("a-file/analytics.duckdb", "File exists"), ("a-file/in/analytics.duckdb", "Not a directory")]
)
def test_a_published_file_that_cannot_be_written_is_told_by_its_setting(
    place: str, why: str, tmp_path: Path, full: Path
) -> None:
    warehouse = loaded(tmp_path, full)
    (tmp_path / "a-file").touch()
    warehouse.published_path = tmp_path / place
    with pytest.raises(WarehouseError) as refused:
        publish(warehouse, "r1", "0.1", wait_s=0)
    told = rf"WAREHOUSE_PUBLISHED_PATH: {re.escape(str(tmp_path / place))} cannot be written \(\S+: {why}\)\. Give it rights and room"
    assert re.match(told, str(refused.value))


def test_a_published_file_that_only_could_not_be_noted_is_told_as_published(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, opened = loaded(tmp_path, full), []

    def refused(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
        opened.append(path)
        if len(opened) == 3:  # the checks, the copy, the note
            raise WarehouseError("There is no room.")
        return open_for_writing(path, memory_limit_mb)

    report = RunReport("r1", "nightly", [])
    with monkeypatch.context() as patch:
        patch.setattr("resources.publish.open_for_writing", refused)
        publish_run(warehouse, report, "0.1")
    assert report.published
    assert (report.publish_problem or "").endswith(
        "is new and complete, but the working file could not note that the run is over: There is no room."
    )
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select status, len(problems) from ops.runs") == [("red", 1)]


def test_a_folder_that_cannot_be_synced_after_the_rename_is_told_as_that(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, fsync = loaded(tmp_path, full), os.fsync

    def refuses_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    report = RunReport("r1", "nightly", [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuses_folders)
        publish_run(warehouse, report, "0.1")
    assert report.published
    assert re.match(
        r".*analytics\.duckdb is new and complete, but .* failed \(\S+: Invalid argument\)",
        report.publish_problem or "",
    )
    assert warehouse.is_published_by("r1")
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select status, len(problems) from ops.runs") == [("red", 1)]


def test_a_run_s_row_holds_each_sentence_in_one_line(tmp_path: Path, full: Path) -> None:
    with loaded(tmp_path, full).writer("looking", wait_s=0) as writer:
        writer.end_run("r1", ["a\nb"], ["c\u2028d"])
        assert rows(writer, "select problems, warnings from ops.runs") == [(["a\ufffdb"], ["c\ufffdd"])]


def test_what_a_client_left_beside_the_published_file_does_not_close_the_next_one(
    tmp_path: Path, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody opened it for writing, and their program died before its log was worked into the file."""
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    published = warehouse.published_path
    script = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table own (a int)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(published)], check=True)
    assert published.with_name(published.name + ".wal").exists()
    publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"Somebody opened {published} for writing" in caplog.text
    with connect(published, read_only=True) as analyst:
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
    assert [p.name for p in published.parent.iterdir()] == [published.name]


def test_a_symbolic_link_as_published_path_stays_and_leads_to_the_new_file(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    published = warehouse.published_path
    elsewhere = tmp_path / "large disk" / "a.duckdb"
    published.parent.mkdir()
    published.symlink_to(elsewhere)
    for run_id in ("r1", "r2"):
        publish(warehouse, run_id, "0.1", wait_s=0)
        assert published.is_symlink()
        with connect(elsewhere, read_only=True) as analyst:
            (newest,) = analyst.execute("select max(run_id) from ops.publications").fetchone() or (None,)
        assert newest == run_id


def test_a_copy_of_the_published_file_in_the_place_of_the_working_one_is_private_again(
    tmp_path: Path, full: Path
) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    shutil.copy(warehouse.published_path, warehouse.path)
    assert warehouse.path.stat().st_mode & 0o777 == 0o640
    with warehouse.writer("the next sync", wait_s=0):
        assert warehouse.path.stat().st_mode & 0o777 == 0o600


SPOILT: list[tuple[str, str]] = [
    ("unique_bookings", "insert into core.bookings select * from core.bookings"),
    ("unique_booking_children", "insert into core.booking_customers select * from core.booking_customers"),
    ("rows_match_ledger_bookings", "delete from core.bookings"),
    (
        "rows_match_ledger_customers",
        "insert into core.customers (account_id, customer_id, content_hash, fetched_at, slice_id) values ('a1', 'c', 'h', now(), 's')",
    ),
    (
        "confirmed_differences_bookings",
        "insert into ops.reconciliations values ('s0', 'r1', 'bookings', 'north', 2, 2, 1, 2, 'different', null)",
    ),
]


@pytest.mark.parametrize(("check", "spoil"), SPOILT)
def test_what_would_be_wrong_is_not_published(tmp_path: Path, full: Path, check: str, spoil: str) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    before = (warehouse.published_path.read_bytes(), warehouse.published_path.stat().st_ino)
    with warehouse.writer("spoiling", wait_s=0) as writer:
        writer.connection.execute(spoil)
    with pytest.raises(PublishBlockedError) as blocked:
        publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"{warehouse.published_path} was not replaced, because it would be wrong:" in str(blocked.value)
    assert re.search(rf"(would be wrong: |\. ){check}: 1 rows\. ", str(blocked.value))
    assert str(blocked.value).isprintable()
    assert (warehouse.published_path.read_bytes(), warehouse.published_path.stat().st_ino) == before
    assert [p.name for p in warehouse.published_path.parent.iterdir()] == [warehouse.published_path.name]
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select count(*) from ops.publications") == [(1,)]


def test_warnings_are_told_and_hold_nothing_back(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    with warehouse.writer("more", wait_s=0) as writer:
        put(writer, booking("b2", account="nobody", status="Odd"), fetched=1)
    findings = publish(warehouse, "r1", "0.1", wait_s=0)
    assert {"orphan_bookings", "unknown_statuses_bookings"} <= {f.check.name for f in findings}
    assert not any(f.check.is_blocking for f in findings)
    assert warehouse.published_path.exists()


def test_publishing_waits_for_the_writer(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    with warehouse.writer("busy", wait_s=0), pytest.raises(LeaseHeldError, match="busy"):
        publish(warehouse, "r1", "0.1", wait_s=0)
    assert not warehouse.published_path.exists()


def test_a_copy_whose_views_cannot_be_read_is_not_published(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    before = warehouse.published_path.read_bytes()
    opened: list[duckdb.DuckDBPyConnection] = []

    def noted(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
        opened.append(open_for_writing(path, memory_limit_mb))
        return opened[-1]

    monkeypatch.setattr("resources.publish.open_for_writing", noted)
    monkeypatch.setattr("resources.publish.marts", lambda: ("bookings", "torn"))
    with pytest.raises(PublishBlockedError) as blocked:
        publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"{warehouse.published_path} was left as it was: marts.torn of its new copy cannot be read" in str(
        blocked.value
    )
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("select 1")
    assert warehouse.published_path.read_bytes() == before
    assert [p.name for p in warehouse.published_path.parent.iterdir()] == [warehouse.published_path.name]


def test_what_a_kill_left_behind_does_not_hinder(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    stray = warehouse.published_path.parent / f".{warehouse.published_path.name}.new"
    stray.parent.mkdir()
    stray.write_bytes(b"left behind by a kill")
    publish(warehouse, "r1", "0.1", wait_s=0)
    assert not stray.exists()


def test_the_reader_takes_what_is_free(tmp_path: Path, full: Path) -> None:
    warehouse = warehouse_in(tmp_path)

    def reading() -> AbstractContextManager[tuple[duckdb.DuckDBPyConnection, Path]]:
        return warehouse.reader(wait_s=0)

    with pytest.raises(WarehouseError, match="does not exist yet"), reading():
        pytest.fail("opened")
    loaded(tmp_path, full)
    with reading() as (connection, path):
        assert path == warehouse.path
        assert connection.execute("select count(*) from core.bookings").fetchone() == (1,)
        with pytest.raises(duckdb.Error):
            connection.execute("delete from core.bookings")
    with warehouse.writer("busy", wait_s=0), pytest.raises(LeaseHeldError), reading():
        pytest.fail("opened")
    publish(warehouse, "r1", "0.1", wait_s=0)
    with warehouse.writer("busy", wait_s=0), reading() as (connection, path):
        assert path == warehouse.published_path
        assert connection.execute("select count(*) from marts.data_status").fetchone() is not None
