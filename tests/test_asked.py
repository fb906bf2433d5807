"""A contract that asks for another list, or for more of one, than was asked for when its windows were committed: the next nightly brings it all.

What lives here: such changes of the contract, judged by the rows. What does not: how records are read under other names (`test_normalise`), lists that are
added (`test_generic`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.plan import BEGINNING, Request
from pipelines.preview import preview
from pipelines.status import read_status
from pipelines.streams import streams_of
from resources.contract import load_contract
from resources.database import connect
from resources.warehouse import Warehouse
from tests.emulator import Emulator, Switches, World
from tests.equality import contract_with, differences, night, query, settings_for

THINGS = '[streams.things]\npath = "{0}"\ntypes = ["{0}"]\n'
CONFIRMED, CANCELLED = '{ "filter[status]" = "confirmed" }', '{ "filter[status]" = "cancelled" }'
TOLD = "a nightly reads all of it again"


@pytest.fixture
def world() -> World:
    return World(seed=5, accounts=2, customers=60, bookings=70, events=30, years=1)


def test_another_list_under_the_same_name_is_read_whole(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    assert night(settings, contract_with(tmp_path, THINGS.format("events"))).problems == []
    world.clock.advance(timedelta(days=1))
    contract = contract_with(tmp_path, THINGS.format("customers"))
    planned = preview(settings, contract, Warehouse(settings), Request("nightly"), [streams_of(contract)["things"]])
    assert {piece.slice.window.since for piece in planned.slices} == {BEGINNING}
    report = night(settings, contract)
    assert report.problems == []
    assert [told[:7] for told in report.warnings if TOLD in told] == ["things:"]
    live = query(settings.warehouse_path, "select record_id from core.things where deleted_at is null order by 1")
    assert [record_id for (record_id,) in live] == sorted(one.id for one in world.customers.rows())
    # Nobody else's windows are gone, and the next night is a night again.
    assert differences(settings.warehouse_path, world.truth()) == []
    world.clock.advance(timedelta(days=1))
    emulator.reset_log()
    assert night(settings, contract).warnings == []
    assert all("filter[updatedAfter]" in r.query for r in emulator.requests if r.path == "/v2/customers")
    rows = read_status(Warehouse(settings), world.clock.now()).streams
    assert len({row["complete_until_at"] for row in rows if row["stream"] != "accounts"}) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"queries = [{{}}, {CANCELLED}]"),
        (f"queries = [{CONFIRMED}, {CANCELLED}]\ninclude = []", f"queries = [{CONFIRMED}, {CANCELLED}]"),
    ],
    ids=["a query", "an include"],
)
def test_what_is_asked_for_besides_comes_the_same_night(world: World, tmp_path: Path, before: str, after: str) -> None:
    with Emulator(world, Switches(cancelled_in_default_list=False)) as emulator:
        settings, events = settings_for(emulator, tmp_path), f"[streams.events]\nqueries = [{{}}, {CANCELLED}]\n"
        night(settings, contract_with(tmp_path, f"{events}[streams.bookings]\n{before}\n"))
        assert differences(settings.warehouse_path, world.truth()) != []
        world.clock.advance(timedelta(days=1))
        report = night(settings, contract_with(tmp_path, f"{events}[streams.bookings]\n{after}\n"))
        assert report.problems == []
        assert [told[:9] for told in report.warnings if TOLD in told] == ["bookings:"]
        assert differences(settings.warehouse_path, world.truth()) == []


def test_what_asks_for_no_more_has_nothing_read_again(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    both = f"[streams.bookings]\nqueries = [{CONFIRMED}, {CANCELLED}]\n"
    assert night(settings, contract_with(tmp_path, both)).problems == []
    # Other names of columns, the queries in another order, and then less; a file from before it was noted.
    steps = [
        both + '[streams.bookings.columns]\nprice = ["cost"]\n',
        f"[streams.bookings]\nqueries = [{CANCELLED}, {CONFIRMED}]\n",
        f"[streams.bookings]\nqueries = [{CONFIRMED}]\n",
        None,
    ]
    for step in steps:
        world.clock.advance(timedelta(days=1))
        if step is None:
            with connect(settings.warehouse_path, read_only=False) as connection:
                connection.execute("delete from ops.asked")
        emulator.reset_log()
        report = night(settings, contract_with(tmp_path, step) if step else load_contract())
        assert (report.problems, [told for told in report.warnings if TOLD in told]) == ([], [])
        asked = [r.query for r in emulator.requests if r.path == "/v2/bookings"]
        assert asked
        assert all("filter[updatedAfter]" in one for one in asked)
