"""A plan asks the API while nobody waits for it, and does not hide what it could not find out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import Request
from pipelines.preview import Preview, preview
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from resources.errors import LeaseHeldError
from resources.lease import lease
from resources.warehouse import Warehouse
from tests.emulator import Emulator, Fault, Status, Switches, World, on
from tests.equality import night, query, settings_for

STREAMS = list(BUILT_IN.values())
LAST_SLICES = "select stream, kind, account_ids from ops.slices where run_id = ? and stream <> 'accounts'"


def world() -> World:
    return World(seed=7, accounts=3, customers=40, bookings=30, events=8, years=1)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(world()) as running:
        yield running


def planned(emulator: Emulator, folder: Path, **own: Any) -> Preview:
    settings = settings_for(emulator, folder, **own)
    return preview(settings, load_contract(), Warehouse(settings), Request("nightly"), STREAMS)


def test_a_writer_need_not_wait_while_a_plan_asks_the_api(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    assert night(settings).problems == []
    found: list[str] = []

    def write_meanwhile(request: Any) -> None:
        if request.path in ("/v2/customers", "/v2/bookings", "/v2/events"):
            try:
                with lease(settings.warehouse_path, "a nightly", wait_s=0):
                    found.append("free")
            except LeaseHeldError as held:
                found.append(str(held))

    emulator.hooks.append(write_meanwhile)
    assert planned(emulator, tmp_path).problems == []
    assert found == ["free"] * 3


def test_a_first_page_that_does_not_come_is_a_problem_and_is_not_counted(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.append(Fault(on("/v2/bookings"), Status(403), times=None))
    found = planned(emulator, tmp_path)
    (problem,) = found.problems
    assert problem.startswith("API client 'default': bookings: ")
    assert "403" in problem
    assert found.asked_requests == 2
    assert {p.slice.stream: p.is_at_least for p in found.slices}["bookings"]


def test_a_list_that_does_not_answer_is_asked_once_however_many_slices_it_has(
    emulator: Emulator, tmp_path: Path
) -> None:
    left_out, *others = [a.id for a in emulator.world.accounts]
    emulator.faults.append(Fault(on("/v2/customers"), Status(403), times=None))
    found = planned(emulator, tmp_path, sync_accounts=[f"!{left_out}"])
    # Customers know an account filter, so each account has a slice of its own.
    assert [p.slice.only_account for p in found.slices if p.slice.stream == "customers"] == others
    assert emulator.count("/v2/customers") == len(found.problems) == 1


def test_a_refused_parameter_is_left_out_and_all_is_planned_again(tmp_path: Path) -> None:
    made = world()
    with Emulator(made) as emulator:
        assert night(settings_for(emulator, tmp_path)).problems == []
    with Emulator(made, Switches(filters=False)) as emulator:
        found = planned(emulator, tmp_path)
        assert found.problems == []
        # Without a filter every list is read as a whole, as a run does.
        assert [p.slice.filter_since for p in found.slices] == [None] * 3
        assert found.asked_requests == 3
        asked = {p.slice.stream: (p.slice.kind, p.slice.accounts) for p in found.slices}
        told = night(settings_for(emulator, tmp_path))
    assert told.problems == []
    done = query(tmp_path / "warehouse.duckdb", LAST_SLICES, told.run_id)
    assert asked == {stream: (kind, tuple(accounts)) for stream, kind, accounts in done}
