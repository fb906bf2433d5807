"""Members that a person learns late are not to be stored: whether they leave every table, and every byte of both files.

What lives here: nights with marked values, and what `renormalise` leaves of them under a contract that redacts them. What does not: capability URLs as they
come (`test_secrets`), members of one record (`test_records`).
"""

from __future__ import annotations

import errno
import json
import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import RenormaliseReport, renormalise_once
from pipelines.streams import streams_of
from resources.contract import Contract
from resources.errors import WarehouseError
from resources.settings import Settings
from tests.emulator import Emulator, Fault, Replace, World
from tests.equality import contract_with, night, query, settings_for
from tests.test_secrets import rows_with

NOTE, ANSWER, MOBILE, TAG, FIELD = MARKS = ("note-mark", "answer-mark", "mobile-mark", "tag-mark", "field-mark")
FIRST = "[abilities]\nfilters = false\n"
REDACTED = FIRST + '[redact]\nmembers = ["notes", "questions", "mobile", "tags", "customFields"]\n'
LATER = (
    REDACTED
    + """
[streams.bookings.participant_columns]
notes = []
answers = []
[streams.customers.columns]
mobile = []
tags = []
custom_fields = []
"""
)


@pytest.fixture
def world() -> World:
    small = World(seed=9, accounts=2, customers=25, bookings=30, events=3, years=1)
    for customer in small.customers:
        customer.mobile, customer.tags, customer.custom_fields = MOBILE, (TAG,), {"hobby": FIELD}
    for participant in (p for booking in small.bookings for p in booking.participants):
        participant.notes = NOTE
        for answer in participant.answers:
            answer.value = ANSWER
    return small


def shaped(settings: Settings, contract: Contract) -> RenormaliseReport:
    return renormalise_once(settings, contract, list(streams_of(contract).values()), "0")


def lives_and_dies(world: World, settings: Settings, contract: Contract) -> None:
    """Two nights, so that there are participants who left, bookings and customers that were deleted, and versions that were replaced."""
    assert night(settings, contract, "sweep").problems == []
    first, second, *_ = (b for b in world.bookings.rows() if any(p.answers for p in b.participants))
    world.clock.advance(timedelta(hours=1))
    world.remove_participant(next(p for p in first.participants if p.answers))
    world.delete_booking(second.id)
    gone, changed, *_ = world.customers.rows()
    world.delete_customer(gone.id)
    world.change_customer(changed.id, mobile="another", tags=("another",))
    assert night(settings, contract, "sweep", publish=True).problems == []


@pytest.mark.parametrize("own", ["", "[streams.customers]\nenabled = false\n"], ids=["read", "switched off"])
def test_what_columns_read_leaves_with_its_member(own: str, world: World, tmp_path: Path) -> None:
    """Also where shaping again does not come: children that are gone, lists without a name, streams that are read no more."""
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        lives_and_dies(world, settings, contract_with(tmp_path, FIRST))
        for table in ("booking_customers", "booking_answers", "customer_tags", "customer_custom_fields"):
            assert query(settings.warehouse_path, f"select count(deleted_at) > 0 from core.{table}") == [(True,)], table  # noqa: S608  names above
        assert all(rows_with(settings.warehouse_path, mark) for mark in MARKS)
        later = contract_with(
            tmp_path, LATER.replace("[streams.customers.columns]", f"{own}[streams.customers.columns]")
        )
        report = shaped(settings, later)
        assert report.problems == []
        for mark in MARKS:
            assert rows_with(settings.warehouse_path, mark) == {}, mark
            assert rows_with(settings.warehouse_published_path, mark) == {}, mark
        # Who took part is no such member, and stays.
        assert query(
            settings.warehouse_path, "select count(*) from core.booking_customers where customer_id is null"
        ) == [(0,)]
        assert {erased for *_, erased in shaped(settings, later).rows} == {0}


def test_a_list_that_lost_its_name_alone_loses_no_row(world: World, tmp_path: Path) -> None:
    """Nothing of it is redacted, so its rows must come back with its name, those that are gone too."""
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        lives_and_dies(world, settings, contract_with(tmp_path, FIRST))
    tags = "select account_id, customer_id, tag from core.customer_tags where deleted_at is not null order by all"
    gone = query(settings.warehouse_path, tags)
    shaped(settings, contract_with(tmp_path, FIRST + "[streams.customers.columns]\ntags = []\n"))
    shaped(settings, contract_with(tmp_path, FIRST))
    assert gone
    assert query(settings.warehouse_path, tags) == gone


def test_no_byte_of_what_was_taken_out_stays(world: World, tmp_path: Path) -> None:
    """DuckDB leaves the bytes of deleted and replaced rows where they were; a published file is a copy of all of them."""
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        lives_and_dies(world, settings, contract_with(tmp_path, FIRST))
    files = settings.warehouse_path, settings.warehouse_published_path
    assert [readable(path) for path in files] != [set(), set()]
    copy = settings.warehouse_path.with_name("warehouse.duckdb.before-099")
    copy.write_bytes(settings.warehouse_path.read_bytes())
    before = described(settings.warehouse_path)
    report = shaped(settings, contract_with(tmp_path, LATER))
    assert (report.problems, len(report.warnings)) == ([], 1)
    assert f"{copy}, a copy from before an upgrade, still holds what was taken out: delete it." in report.warnings
    assert [readable(path) for path in files] == [set(), set()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o640]
    assert described(settings.warehouse_path) == before
    assert shaped(settings, contract_with(tmp_path, LATER)).warnings == []


def test_a_file_that_cannot_be_written_anew_stays_as_it_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        night(settings, contract_with(tmp_path, FIRST), publish=True)
    with monkeypatch.context() as patch:
        patch.setattr("resources.warehouse.has_space", lambda *_: False)
        (warning,) = shaped(settings, contract_with(tmp_path, LATER)).warnings
        assert warning.startswith(f"{settings.warehouse_path} was not written anew, since its disk has no room")

    def stopped(_: Path) -> None:
        raise KeyboardInterrupt

    def refused(_: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with monkeypatch.context() as patch:
        patch.setattr("resources.database.sync_to_disk", stopped)
        with pytest.raises(KeyboardInterrupt):
            shaped(settings, contract_with(tmp_path, LATER))
        patch.setattr("resources.database.sync_to_disk", refused)
        with pytest.raises(WarehouseError, match=r"^WAREHOUSE_PATH: .*cannot be written .*Invalid argument"):
            shaped(settings, contract_with(tmp_path, LATER))
    assert [path for path in tmp_path.iterdir() if path.name.endswith((".new", ".new.wal"))] == []
    assert query(settings.warehouse_path, "select status from ops.runs order by number desc limit 1") == [("red",)]
    assert shaped(settings, contract_with(tmp_path, LATER)).problems == []
    assert readable(settings.warehouse_path) == set()


def readable(path: Path) -> set[str]:
    """The marks that stand in the bytes of a file."""
    return {mark for mark in MARKS if mark.encode() in path.read_bytes()}


def described(path: Path) -> list[tuple[Any, ...]]:
    """Tables, columns and views with all that is said of them, and how documents are compressed."""
    described = "select schema_name, table_name, column_name, data_type, is_nullable, comment from duckdb_columns() where not internal order by all"
    views = "select schema_name, view_name, sql, comment from duckdb_views() where not internal order by all"
    ways = "select distinct compression from pragma_storage_info('core.bookings') where column_name = 'document' and segment_type <> 'VALIDITY'"
    return [*query(path, described), *query(path, views), *query(path, ways)]


def test_a_warehouse_made_anew_holds_what_the_api_has_alone(world: World, tmp_path: Path) -> None:
    """As docs/operations.md has it, "Erase a person"."""
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        contract = contract_with(tmp_path, FIRST)
        erased = world.customers.rows()[0]
        world.change_customer(erased.id, email="erased-mark", mobile="erased-mark")
        night(settings, contract, publish=True)
        world.delete_customer(erased.id)
        night(settings, contract, "sweep", publish=True)
        for path in (settings.warehouse_path, settings.warehouse_published_path):
            assert rows_with(path, "erased-mark") == {"core.customers": 1}
        for path in tmp_path.glob("warehouse.duckdb*"):
            path.unlink()
        assert night(settings, contract, publish=True).problems == []
    for path in (settings.warehouse_path, settings.warehouse_published_path):
        assert rows_with(path, "erased-mark") == {}
        assert b"erased-mark" not in path.read_bytes()


def test_an_answer_under_a_late_name_leaves_with_it(world: World, tmp_path: Path) -> None:
    """Answers may come as an object, whose members become rows."""

    def planted(body: bytes) -> bytes:
        document: dict[str, Any] = json.loads(body)
        for resource in document.get("included") or ():
            resource["attributes"]["questions"] = {"healthNote": ANSWER, "other": "fine"}
        return json.dumps(document).encode()

    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        emulator.faults.append(Fault(lambda r: r.path == "/v2/bookings", Replace(planted), times=None))
        night(settings, contract_with(tmp_path, FIRST))
        assert rows_with(settings.warehouse_path, ANSWER).keys() == {"core.bookings", "core.booking_answers"}
        shaped(settings, contract_with(tmp_path, FIRST + '[redact]\nmembers = ["health_note"]\n'))
        assert rows_with(settings.warehouse_path, ANSWER) == {}
        assert query(settings.warehouse_path, "select distinct question_id from core.booking_answers") == [("other",)]
