"""SYNC_ACCOUNTS: what is left out is neither stored nor, where the server can filter, read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from resources.settings import Settings
from tests.emulator import Emulator, Switches, World
from tests.emulator.messages import Request
from tests.equality import contract_with, differences, night, query, settings_for

EVERYWHERE = "[streams.bookings]\naccount_filter = true\n[streams.events]\naccount_filter = true\n"
ALL = frozenset({"customers", "bookings", "events"})


@pytest.fixture
def world() -> World:
    return World(seed=9, accounts=4, customers=60, bookings=120, events=8, years=1)


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


def ignore_the_account_filter(request: Request) -> None:
    request.pairs[:] = [(name, value) for name, value in request.pairs if name != "filter[account]"]


@pytest.mark.parametrize("chosen", [1, 2])
def test_a_filter_that_is_ignored_hands_no_row_to_another_account(chosen: int, world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_in="absent", account_filter=ALL)) as emulator:
        emulator.hooks.append(ignore_the_account_filter)
        names = tuple(a.slug for a in world.accounts.rows()[:chosen])
        settings = settings_for(emulator, tmp_path, sync_accounts=names)
        report = night(settings, contract_with(tmp_path, EVERYWHERE))
        # Where a list is long enough, its next link tells it, too.
        assert sum("one API client for each account" in p for p in report.problems) == 3
        assert sum("ignores the account filter" in p for p in report.problems) >= 2
        assert query(settings.warehouse_path, "select count(*) from core.bookings") == [(0,)]


def test_clients_that_see_accounts_of_each_other_hand_no_row_over(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_in="absent", account_filter=ALL)) as emulator:
        a, b, c, _ = world.accounts.rows()
        world.clients["two"] = replace(world.clients["emu-client"], accounts={b.id, c.id})
        world.clients["emu-client"].accounts = {b.id}
        secret = world.clients["two"].secret
        clients = [
            {"name": "one", "client_id": "emu-client", "client_secret": secret},
            {"name": "two", "client_id": "two", "client_secret": secret},
        ]
        own = {"appointedd_clients": clients, "appointedd_client_id": None, "appointedd_client_secret": None}
        emulator.hooks.append(ignore_the_account_filter)
        settings = settings_for(emulator, tmp_path, **own)
        report = night(settings, contract_with(tmp_path, EVERYWHERE))
        assert any("ignores the account filter" in p for p in report.problems)
        assert differences(settings.warehouse_path, {"bookings": of(world, {b.id})["bookings"]}) == []
        assert a.id not in stored_accounts(settings)


def test_what_a_second_look_finds_of_others_is_not_kept(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_filter=frozenset())) as emulator:
        mine = world.accounts.rows()[0]
        settings = settings_for(emulator, tmp_path, sync_accounts=(mine.slug,))
        contract = contract_with(tmp_path, "[abilities]\nsingle = false\n[streams.customers]\naccount_filter = false\n")
        night(settings, contract)
        world.clock.advance(timedelta(hours=1))
        hidden = world.bookings.rows(mine.id)[0]

        def slip(request: Request) -> None:
            # The row is not there in the first walk, and back in the second.
            if request.path == "/v2/bookings" and "page[after]" not in request.query:
                walks.append(request)
                if len(walks) == 1:
                    world.bookings.remove(hidden.id)
                elif len(walks) == 2:
                    world.bookings.add(hidden)
                    world.version += 1

        walks: list[Request] = []
        emulator.hooks.append(slip)
        assert night(settings, contract, "sweep").problems == []
        assert len(walks) == 2
        assert stored_accounts(settings) == {mine.id}
        assert differences(settings.warehouse_path, of(world, {mine.id})) == []


def test_an_account_that_comes_while_a_night_reads_is_not_kept(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    chosen = tuple(a.slug for a in world.accounts)
    before = {a.id for a in world.accounts}

    def open_a_shop(request: Request) -> None:
        if request.path == "/v2/bookings":
            emulator.hooks.clear()
            world.add_account(customers=5, bookings=10, events=1)

    emulator.hooks.append(open_a_shop)
    settings = settings_for(emulator, tmp_path, sync_accounts=chosen)
    assert night(settings).problems == []
    assert len(world.accounts.rows()) == len(before) + 1
    assert stored_accounts(settings) == before


def test_an_exclusion_that_names_nobody_reads_nothing(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path, sync_accounts=("!a-name-of-old",))
    (problem,) = night(settings).problems
    assert "Until then nothing is read" in problem
    assert stored_accounts(settings) == set()


def test_a_choice_of_nobody_is_red(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path, sync_accounts=tuple(f"!{a.slug}" for a in world.accounts))
    (problem,) = night(settings).problems
    assert "selects none of the 4 accounts" in problem


def test_odd_values_of_others_are_not_noted(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_filter=frozenset())) as emulator:
        first, second, *_ = world.accounts.rows()
        for booking in world.bookings.rows(second.id):
            booking.status = "their own secret words"
        contract = contract_with(tmp_path, "[streams.customers]\naccount_filter = false\n")
        for chosen, is_noted in ((first, False), (second, True)):
            settings = settings_for(emulator, tmp_path, sync_accounts=(chosen.id,))
            assert night(settings, contract).problems == []
            odd = query(settings.warehouse_path, "select count(*) from ops.drift where kind = 'unknown_status'")
            assert (odd != [(0,)]) == is_noted
