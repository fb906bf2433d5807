"""SYNC_ACCOUNTS: what is left out is neither stored nor, where the server can filter, read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from resources.settings import Settings
from tests.emulator import Emulator, Switches, World
from tests.equality import contract_with, differences, night, query, settings_for

EVERYWHERE = "[streams.bookings]\naccount_filter = true\n[streams.events]\naccount_filter = true\n"
ALL = frozenset({"customers", "bookings", "events"})


@pytest.fixture
def world() -> World:
    return World(seed=9, accounts=4, customers=60, bookings=120, events=8, years=1)


@pytest.fixture
def emulator(world: World) -> Iterator[Emulator]:
    with Emulator(world) as running:
        yield running


def of(world: World, accounts: set[str]) -> dict[str, list[dict[str, object]]]:
    return {
        table: [dict(row) for row in rows if row["account_id"] in accounts] for table, rows in world.truth().items()
    }


def stored_accounts(settings: Settings) -> set[str]:
    tables = ("accounts", "customers", "customer_tags", "bookings", "booking_customers", "booking_answers", "events")
    union = " union ".join(f"select account_id from core.{t}" for t in tables)  # noqa: S608  names of ours
    return {a for (a,) in query(settings.warehouse_path, union)}


@pytest.mark.parametrize("has_filter", [True, False])
def test_only_what_is_chosen_is_stored(has_filter: bool, world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_filter=ALL if has_filter else frozenset())) as emulator:
        first, second, *_ = world.accounts.rows()
        settings = settings_for(emulator, tmp_path, sync_accounts=(first.slug, second.id))
        contract = contract_with(
            tmp_path, EVERYWHERE if has_filter else "[streams.customers]\naccount_filter = false\n"
        )
        wanted = {first.id, second.id}
        assert night(settings, contract, publish=True).problems == []
        for _ in range(2):
            world.live_a_day()
            assert night(settings, contract).problems == []
        assert night(settings, contract, "sweep").problems == []
        assert stored_accounts(settings) == wanted
        assert differences(settings.warehouse_path, of(world, wanted)) == []
        asked = {r.query.get("filter[account]") for r in emulator.requests if r.path == "/v2/bookings"}
        assert asked == (wanted if has_filter else {None})
        ledger = query(settings.warehouse_path, "select distinct unnest(account_ids) from ops.slices")
        assert {a for (a,) in ledger} == wanted


def test_all_but_some(emulator: Emulator, world: World, tmp_path: Path) -> None:
    left_out = world.accounts.rows()[0]
    settings = settings_for(emulator, tmp_path, sync_accounts=(f"!{left_out.slug}",))
    assert night(settings).problems == []
    assert stored_accounts(settings) == {a.id for a in world.accounts} - {left_out.id}


def test_a_choice_can_be_widened_and_narrowed(emulator: Emulator, world: World, tmp_path: Path) -> None:
    first, second, *_ = world.accounts.rows()
    night(settings_for(emulator, tmp_path, sync_accounts=(first.id,)))
    world.live_a_day()
    both = settings_for(emulator, tmp_path, sync_accounts=(first.id, second.id))
    assert night(both).problems == []
    assert differences(both.warehouse_path, of(world, {first.id, second.id}), ignore=()) == []
    # What is left out later stays as it was, frozen, and is not called deleted.
    world.clock.advance(timedelta(hours=1))
    report = night(settings_for(emulator, tmp_path, sync_accounts=(first.id,)), kind="sweep", publish=True)
    assert report.problems == []
    assert any("frozen_accounts" in f and second.id in f for f in report.findings)
    assert query(both.warehouse_path, "select count(*) from core.bookings where deleted_at is not null") == [(0,)]


def test_a_name_that_nobody_lists_is_told_and_the_others_go_on(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    first = world.accounts.rows()[0]
    settings = settings_for(emulator, tmp_path, sync_accounts=(first.slug, "nowhere"))
    (problem,) = night(settings).problems
    assert "SYNC_ACCOUNTS names nowhere" in problem
    assert stored_accounts(settings) == {first.id}
