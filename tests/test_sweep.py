"""How much a sweep may retire, what it compares, and what it says of changes that came late: end to end, against the emulator's truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.commands import release
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.status import Overlap, read_status
from pipelines.streams import BOOKINGS, CUSTOMERS, EVENTS
from pipelines.sweep import Limit
from pipelines.sweeping import Sweeps
from resources.contract import Contract
from resources.database import connect
from resources.errors import UsageError
from resources.publish import run_checks
from resources.settings import Settings
from resources.sql_files import checks
from resources.warehouse import Warehouse
from tests.emulator import Emulator, Fault, Replace, Status, Switches, World, on
from tests.emulator.messages import Request
from tests.equality import contract_with, differences, night, query, settings_for

LIST = "/v2/bookings"
EVERYWHERE = frozenset({"customers", "bookings", "events"})
FILTERED = "[streams.bookings]\naccount_filter = true\n[streams.events]\naccount_filter = true\n"


def small_world() -> World:
    return World(seed=7, accounts=3, customers=60, bookings=150, events=6, years=2)


def live(path: Path, account: str | None = None) -> int:
    (count,) = query(
        path,
        "select count(*) from core.bookings where deleted_at is null and ($1 is null or account_id = $1)",
        account,
    )[0]
    return int(count)


def delete_from(world: World, account: str, count: int) -> None:
    for booking in world.bookings.rows(account)[:count]:
        world.delete_booking(booking.id)


def problems_of(report: Any, stream: str) -> list[str]:
    return [p for p in report.problems if p.startswith(stream)]


# ---- the brake ---------------------------------------------------------------------------------------------------------------


@given(
    share=st.floats(0, 1),
    count=st.integers(0, 500),
    rows=st.integers(0, 1000),
    gone=st.integers(0, 1000),
    released=st.integers(0, 1000),
)
def test_a_brake_needs_the_share_and_the_count_to_be_passed(
    share: float, count: int, rows: int, gone: int, released: int
) -> None:
    assert Limit(share, count, {"a": rows}, {}).allows("a", gone, is_unseen=False) == (
        gone <= count or gone <= share * rows
    )
    # A release covers what a person saw and a tenth more, whatever the settings say, and no other account.
    limit = Limit(0, 0, {"a": rows}, {"a": released})
    assert limit.allows("a", gone, is_unseen=True) == (gone <= max(released * 1.1, 3))
    assert limit.allows("b", gone, is_unseen=False) == (gone == 0)


def test_a_sweep_that_would_retire_too_much_stops_at_that_account_alone(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_brake_count=5, sync_brake_share=0.1)
        path = settings.warehouse_path
        night(settings)
        world.clock.advance(timedelta(days=1))
        big, small = sorted(world.accounts, key=lambda a: -len(world.bookings.rows(a.id)))[:2]
        before = live(path, big.id)
        swept = query(path, "select max(until) from ops.windows where stream = 'bookings' and account_id = ?", big.id)
        delete_from(world, big.id, before // 5)
        delete_from(world, small.id, 2)
        report = night(settings, kind="sweep", publish=True)
        (problem,) = problems_of(report, "bookings")
        assert f"{before // 5} of {before} records of account {big.id}" in problem
        assert f"appointedd-warehouse release {big.id} --stream bookings" in problem
        assert live(path, big.id) == before
        assert live(path, small.id) == len(world.bookings.rows(small.id))
        last = "select max(until) from ops.windows where stream = 'bookings' and account_id = ? and kind = 'sweep'"
        assert query(path, last, big.id) <= swept < query(path, last, small.id)
        # It does not keep the file from being published, and the file says so.
        held = query(
            settings.warehouse_published_path,
            "select account_id, held_back_count from marts.data_status where held_back_count > 0",
        )
        assert held == [(big.id, before // 5)]

        # Unreleased, the next sweep stops again; released, it goes through once, and no further.
        world.clock.advance(timedelta(hours=1))
        assert problems_of(night(settings, kind="sweep"), "bookings")
        with pytest.raises(UsageError, match=f"nothing to release.*{big.id} \\(bookings\\)"):
            release(settings, small.id, (CUSTOMERS, BOOKINGS, EVENTS))
        assert [b.released_at for b in release(settings, None, (CUSTOMERS, BOOKINGS, EVENTS))] == [None]
        (brake,) = release(settings, big.slug, (CUSTOMERS, BOOKINGS, EVENTS))
        assert brake.released_at is not None
        # Released is released, for whoever asks, and however often the sweep had stopped.
        with Warehouse(settings).writer("test") as writer:
            standing = [c for c in checks() if c.name == "standing_brakes_bookings"]
            assert [finding.count for finding in run_checks(writer.connection, standing)] == [0]
        (shown,) = read_status(Warehouse(settings), world.clock.now()).brakes
        assert shown["released_at"] == brake.released_at
        world.clock.advance(timedelta(hours=1))
        assert night(settings, kind="sweep").problems == []
        assert differences(path, world.truth()) == []
        assert release(settings, None, (CUSTOMERS, BOOKINGS, EVENTS)) == []
        delete_from(world, big.id, before // 5)
        world.clock.advance(timedelta(hours=1))
        assert problems_of(night(settings, kind="sweep"), "bookings")


def test_a_release_that_was_not_used_lapses(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_brake_count=5, sync_brake_share=0.1)
        night(settings)
        account = world.accounts.rows()[0].id
        delete_from(world, account, 12)
        world.clock.advance(timedelta(hours=1))
        night(settings, kind="sweep")
        release(settings, account, (CUSTOMERS, BOOKINGS, EVENTS))
        with connect(settings.warehouse_path, read_only=False) as connection:
            connection.execute("update ops.brakes set released_at = released_at - interval 15 days")
        world.clock.advance(timedelta(hours=1))
        assert problems_of(night(settings, kind="sweep"), "bookings")


def test_what_comes_back_by_itself_ends_a_brake(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_brake_count=5, sync_brake_share=0.1)
        night(settings)
        world.clock.advance(timedelta(days=1))

        def shorten(body: bytes) -> bytes:
            document = json.loads(body)
            document["data"] = document["data"][::2]
            return json.dumps(document).encode()

        emulator.faults += [
            Fault(on(LIST + "?"), Replace(shorten), times=None),
            Fault(lambda r: r.path == LIST, Replace(shorten), times=None),
        ]
        contract = contract_with(tmp_path, "[abilities]\nsingle = false")
        report = night(settings, contract, "sweep")
        assert len(problems_of(report, "bookings")) == 3
        assert query(settings.warehouse_path, "select count(*) from core.bookings where deleted_at is not null") == [
            (0,)
        ]
        emulator.faults.clear()
        world.clock.advance(timedelta(hours=1))
        assert night(settings, contract, "sweep").problems == []
        assert query(settings.warehouse_path, "select count(*) from ops.brakes where ended_by_slice_id is null") == [
            (0,)
        ]
        assert differences(settings.warehouse_path, world.truth()) == []


def test_an_account_that_was_really_emptied_can_be_released(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        world.clock.advance(timedelta(days=1))
        emptied = world.accounts.rows()[1].id
        delete_from(world, emptied, 10_000)
        (problem,) = problems_of(night(settings, kind="sweep"), "bookings")
        assert f"nothing of account {emptied} was in the list" in problem
        release(settings, emptied, (CUSTOMERS, BOOKINGS, EVENTS))
        world.clock.advance(timedelta(hours=1))
        assert night(settings, kind="sweep").problems == []
        assert live(settings.warehouse_path, emptied) == 0
        assert differences(settings.warehouse_path, world.truth()) == []


# ---- totals of single accounts -----------------------------------------------------------------------------------------------


def without_one_row_of(account: str) -> Callable[[bytes], bytes]:
    """A list that leaves out one record of an account, and counts as if it did not."""

    def apply(body: bytes) -> bytes:
        document = json.loads(body)
        mine = [r for r in document["data"] if r["relationships"]["account"]["data"]["id"] == account]
        if mine:
            document["data"].remove(min(mine, key=lambda r: r["id"]))
        return json.dumps(document).encode()

    return apply


def test_totals_of_accounts_are_compared_in_a_sweep_and_not_nightly(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world, Switches(meta_total="present", account_filter=EVERYWHERE)) as emulator:
        settings = settings_for(emulator, tmp_path)
        contract = contract_with(tmp_path, FILTERED)
        night(settings, contract)
        evidence = """
            select account_id, verdict, last_total = distinct_count from ops.reconciliations
            where stream = 'bookings' and account_id is not null and slice_id in (select slice_id from ops.slices where kind = ?)
        """
        assert query(settings.warehouse_path, evidence, "nightly") == []
        compared = query(settings.warehouse_path, evidence, "sweep")
        assert sorted(compared) == sorted((a.id, "settled", True) for a in world.accounts)

        # A row that the whole list leaves out, and the list of its account does not: found and merged, and nobody is called deleted.
        world.clock.advance(timedelta(hours=1))
        victim = world.accounts.rows()[0].id
        whole = Fault(
            lambda r: r.path == LIST and "filter[account]" not in r.query,
            Replace(without_one_row_of(victim)),
            times=None,
        )
        emulator.faults.append(whole)
        count = live(settings.warehouse_path)
        report = night(settings, contract, "sweep")
        assert live(settings.warehouse_path) == count
        assert any("Rows are missing" in p for p in report.problems)  # the whole list contradicts its own total

        # A row that the account's own list lacks, though it is counted: that account is red, blocks publishing, and keeps its state.
        emulator.faults.clear()
        emulator.faults.append(
            Fault(
                lambda r: r.path == LIST and "filter[account]" in r.query,
                Replace(without_one_row_of(victim)),
                times=None,
            )
        )

        def counts_one_more(body: bytes) -> bytes:
            document = json.loads(body)
            document["meta"]["total"] += 1
            return json.dumps(document).encode()

        emulator.faults.append(
            Fault(lambda r: r.path == LIST and victim in str(r.query), Replace(counts_one_more), times=None)
        )
        swept = "select max(until) from ops.windows where stream = 'bookings' and account_id = ? and kind = 'sweep'"
        before, count = query(settings.warehouse_path, swept, victim), live(settings.warehouse_path, victim)
        world.delete_booking(world.bookings.rows(victim)[-1].id)
        world.clock.advance(timedelta(hours=1))
        report = night(settings, contract, "sweep", publish=True)
        assert any(f"records of account {victim}" in p for p in problems_of(report, "bookings"))
        assert live(settings.warehouse_path, victim) == count
        assert query(settings.warehouse_path, swept, victim) == before
        assert report.publish_problem is not None
        assert "confirmed_differences_bookings" in report.publish_problem
        emulator.faults.clear()
        world.clock.advance(timedelta(hours=1))
        report = night(settings, contract, "sweep", publish=True)
        assert report.problems == []
        assert differences(settings.warehouse_path, world.truth()) == []


def ignore_the_account_filter(request: Any) -> None:
    request.pairs[:] = [(name, value) for name, value in request.pairs if name != "filter[account]"]


def test_an_account_filter_that_is_ignored_proves_nothing(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world, Switches(meta_total="present", account_filter=EVERYWHERE)) as emulator:
        settings = settings_for(emulator, tmp_path)
        contract = contract_with(tmp_path, FILTERED)

        emulator.hooks.append(ignore_the_account_filter)
        assert night(settings, contract).problems == []
        assert query(
            settings.warehouse_path,
            "select count(*) from ops.reconciliations where account_id is not null and stream = 'bookings'",
        ) == [(0,)]
        assert differences(settings.warehouse_path, world.truth()) == []


# ---- rows without an account ---------------------------------------------------------------------------------------------------


def test_rows_without_an_account_are_not_believed_to_a_server_that_ignores_the_filter(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world, Switches(account_in="absent", account_filter=EVERYWHERE)) as emulator:
        settings = settings_for(emulator, tmp_path)
        emulator.hooks.append(ignore_the_account_filter)
        report = night(settings, contract_with(tmp_path, FILTERED))
        for stream in ("customers", "bookings", "events"):
            assert any("ignores the account filter" in p for p in problems_of(report, stream))
            assert query(settings.warehouse_path, f"select count(*) from core.{stream}") == [(0,)]  # noqa: S608  a name of ours
        emulator.hooks.clear()
        world.clock.advance(timedelta(hours=1))
        assert night(settings, contract_with(tmp_path, FILTERED)).problems == []
        assert differences(settings.warehouse_path, world.truth()) == []


@pytest.fixture
def unnamed(tmp_path: Path) -> Iterator[tuple[Emulator, World, Settings, Contract]]:
    """A world whose rows do not name their account, after its first night."""
    world = small_world()
    with Emulator(world, Switches(account_in="absent", account_filter=EVERYWHERE)) as emulator:
        settings, contract = settings_for(emulator, tmp_path), contract_with(tmp_path, FILTERED)
        assert night(settings, contract).problems == []
        yield emulator, world, settings, contract


def stored_bookings(settings: Settings) -> list[tuple[object, ...]]:
    return query(
        settings.warehouse_path,
        "select account_id, booking_id from core.bookings where deleted_at is null order by all",
    )


def test_an_account_filter_that_counts_alone_and_not_beside_bounds_hands_no_row_over(
    unnamed: tuple[Emulator, World, Settings, Contract],
) -> None:
    emulator, world, settings, contract = unnamed

    def ignore_beside_bounds(request: Request) -> None:
        if "filter[updatedAfter]" in request.query:
            ignore_the_account_filter(request)

    before = stored_bookings(settings)
    world.live_a_day()
    emulator.hooks.append(ignore_beside_bounds)
    report = night(settings, contract)
    assert any("ignores the account filter" in p for p in problems_of(report, "bookings"))
    assert stored_bookings(settings) == before
    assert night(settings, contract, "sweep").problems == []
    assert differences(settings.warehouse_path, world.truth()) == []


def test_an_account_filter_that_does_not_count_beside_the_bounds_of_a_cut_hands_no_row_over(tmp_path: Path) -> None:
    world = World(seed=5, accounts=2, customers=20, bookings=900, events=5, years=1)
    with Emulator(world, Switches(account_in="absent", account_filter=EVERYWHERE, meta_total="present")) as emulator:
        settings = settings_for(emulator, tmp_path)
        contract = contract_with(tmp_path, f'{FILTERED}\n[parameters]\npage_size_value = "10"')

        def ignore_beside_two(request: Request) -> None:
            if "filter[updatedBefore]" in request.query:
                ignore_the_account_filter(request)

        emulator.hooks.append(ignore_beside_two)
        report = night(settings, contract)
        assert any("bookings: the same record came" in p for p in report.problems)
        assert set(stored_bookings(settings)) < {
            (row["account_id"], row["booking_id"]) for row in world.truth()["bookings"]
        }


def test_a_record_that_is_stored_for_another_account_is_not_stored_again(
    unnamed: tuple[Emulator, World, Settings, Contract], tmp_path: Path
) -> None:
    emulator, world, settings, contract = unnamed
    before = stored_bookings(settings)
    world.live_a_day()

    def ignore_in_narrow_windows(request: Request) -> None:
        if request.query.get("filter[updatedAfter]", "") > "2024":
            ignore_the_account_filter(request)

    emulator.hooks.append(ignore_in_narrow_windows)
    problems = night(settings, contract, streams=(BOOKINGS,)).problems
    assert any("bookings: rows do not name" in p and "stored as another's" in p for p in problems)
    assert stored_bookings(settings) == before
    emulator.hooks.clear()
    assert night(settings, contract, streams=(BOOKINGS,)).problems == []

    # A copy that is there already makes every night red, until a sweep that looks into the account's list.
    wrong, right = sorted({str(account) for account, _ in stored_bookings(settings)})[:2]
    with connect(settings.warehouse_path, read_only=False) as connection:
        connection.execute(
            "insert into core.bookings select * replace (? as account_id) from core.bookings where account_id = ? limit 1",
            [wrong, right],
        )
    world.clock.advance(timedelta(hours=1))
    (problem,) = problems_of(night(settings, contract, streams=(BOOKINGS,)), "bookings")
    assert "1 records" in problem
    assert "abilities.single = false" in problem
    alone = contract_with(tmp_path, FILTERED + "\n[abilities]\nsingle = false")
    night(settings, alone, "sweep", streams=(BOOKINGS,))
    assert night(settings, contract, streams=(BOOKINGS,)).problems == []
    assert differences(settings.warehouse_path, {"bookings": world.truth()["bookings"]}) == []


# ---- values that do not fit ----------------------------------------------------------------------------------------------------


def test_values_that_mostly_do_not_fit_make_a_run_red_and_stay_in_the_document(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)

        def spoil(body: bytes) -> bytes:
            document = json.loads(body)
            for record in document["data"]:
                record["attributes"]["startTime"] = "next Tuesday"
            return json.dumps(document).encode()

        emulator.faults.append(Fault(on(LIST), Replace(spoil), times=None))
        (problem,) = problems_of(night(settings), "bookings")
        assert "'start_at'" in problem
        assert "renormalise" in problem
        ((empty, kept, complete),) = query(
            settings.warehouse_path,
            """
            select count(*) filter (where start_at is null), count(*) filter (where document::VARCHAR like '%next Tuesday%'),
                (select count(*) from ops.watermarks where stream = 'bookings' and watermark_at is not null)
            from core.bookings
            """,
        )
        assert empty == kept == len(world.bookings)
        assert complete == len(world.accounts)  # nothing needs to be read again for it


def test_a_few_odd_values_are_only_drift(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)

        def spoil(body: bytes) -> bytes:
            document = json.loads(body)
            document["data"][0]["attributes"]["startTime"] = "next Tuesday"
            return json.dumps(document).encode()

        emulator.faults.append(Fault(on(LIST), Replace(spoil), times=2))
        assert night(settings).problems == []
        assert query(settings.warehouse_path, "select count(*) from ops.drift where kind = 'bad_value'") == [(1,)]


# ---- late arrivals -------------------------------------------------------------------------------------------------------------


def arrive_late(world: World, by: timedelta) -> None:
    """A booking that shows up now, and says that it changed a while ago."""
    booking = world.add_booking()
    world.bookings.set_updated(booking, int((world.clock.now() - by).timestamp() * 1000))


def status_of(settings: Settings, world: World) -> Overlap:
    return read_status(Warehouse(settings), world.clock.now()).overlap


def test_how_late_changes_arrive_is_measured_proposed_and_checked(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_overlap_minutes=120)
        night(settings, publish=True)
        for _ in range(2):
            world.live_a_day()
            assert night(settings, publish=True).findings == []
        quiet = status_of(settings, world)
        assert (quiet.longest_minutes, quiet.proposed_minutes, quiet.nights_count) == (None, None, 3)

        world.clock.advance(timedelta(minutes=10))
        arrive_late(world, timedelta(minutes=70))
        night(settings)
        seen = status_of(settings, world)
        # An hour below the watermark, which is a margin of a minute behind the server's clock.
        assert seen.longest_minutes == pytest.approx(70 - 10 - 1, abs=0.1)
        assert (seen.late_count, seen.proposed_minutes, seen.configured_minutes) == (1, 120, 120)

        arrive_late(world, timedelta(hours=30))
        world.clock.advance(timedelta(minutes=5))
        assert night(settings, publish=True).findings == []  # the nightly does not reach back so far
        report = night(settings, kind="sweep", publish=True)
        assert [f.partition(":")[0] for f in report.findings] == ["late_arrivals_bookings"]
        seen = status_of(settings, world)
        assert (seen.late_count, seen.proposed_minutes) == (2, 46 * 60)
        assert differences(settings.warehouse_path, world.truth()) == []


def test_an_overlap_of_more_than_a_week_is_not_proposed() -> None:
    assert Overlap(60, 8 * 24 * 60.0, 3, 9).proposed_minutes is None
    assert Overlap(60, 1.0, 3, 9).proposed_minutes == 60


def test_rows_that_come_back_or_are_very_old_are_not_late(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        gone = world.delete_booking()
        world.clock.advance(timedelta(hours=1))
        night(settings, kind="sweep")
        world.bookings.add(gone)
        arrive_late(world, timedelta(days=200))
        world.clock.advance(timedelta(hours=1))
        assert night(settings, kind="sweep").problems == []
        assert differences(settings.warehouse_path, world.truth()) == []
        assert query(settings.warehouse_path, "select * from ops.late_arrivals") == []


def test_a_first_load_and_silent_changes_are_not_late(tmp_path: Path) -> None:
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        world.clock.advance(timedelta(hours=1))
        world.touch_silently()
        world.add_account(customers=10, bookings=20, events=1)
        night(settings)
        night(settings, kind="sweep")
        assert query(settings.warehouse_path, "select * from ops.late_arrivals") == []


def test_a_sweep_may_stop_at_every_account(tmp_path: Path) -> None:
    # Its last part then moves the state of none, and is committed all the same.
    world = small_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, sync_brake_count=0, sync_brake_share=0)
        night(settings)
        for account in world.accounts:
            delete_from(world, account.id, 1)
        world.clock.advance(timedelta(hours=1))
        assert len(problems_of(night(settings, kind="sweep"), "bookings")) == len(world.accounts)
        (part,) = query(
            settings.warehouse_path,
            "select account_ids, is_last_part from ops.slices where stream = 'bookings' and kind = 'sweep' order by committed_at desc limit 1",
        )
        assert part == ([], True)


def test_an_account_filter_that_next_links_lose_ends_the_stream_and_not_the_nights_patience(tmp_path: Path) -> None:
    """Rows do not name their account, so nothing is left to tell them apart by; asked without the filter, the plan would be made for ever."""

    def forget(body: bytes) -> bytes:
        document = json.loads(body)
        if link := document["links"].get("next"):
            parts = urlsplit(link)
            kept = [(name, value) for name, value in parse_qsl(parts.query) if name != "filter[account]"]
            document["links"]["next"] = urlunsplit(parts._replace(query=urlencode(kept)))
        return json.dumps(document).encode()

    world = small_world()
    with Emulator(world, Switches(account_in="absent", account_filter=EVERYWHERE, paging="number")) as emulator:
        emulator.faults.append(Fault(lambda r: r.path == LIST, Replace(forget), times=None))
        contract = contract_with(tmp_path, FILTERED + '[parameters]\npage_size_value = "10"\n')
        report = night(settings_for(emulator, tmp_path), contract)
        (problem,) = problems_of(report, "bookings")
        assert "make one API client for each account" in problem
        assert "'filter[account]'" in problem
        assert len(emulator.requests) < 100


# ---- several API clients -------------------------------------------------------------------------------------------------------

CLIENTS = {"appointedd_client_id": None, "appointedd_client_secret": None} | {
    "appointedd_clients": [
        {"name": name, "client_id": name, "client_secret": f"{name}-secret"} for name in ("north", "south")
    ]
}


def shared_world() -> tuple[World, list[str]]:
    """`north` lists the first two accounts, `south` the last two; the one in the middle is served by north."""
    world = small_world()
    ids = [account.id for account in world.accounts]
    world.add_client("north", "north-secret", set(ids[:2]))
    world.add_client("south", "south-secret", set(ids[1:]))
    return world, ids


def asked_by(world: World, client: str) -> Callable[[Request], bool]:
    def is_asked(request: Request) -> bool:
        token = request.headers.get("authorization", "").split()[-1]
        return world.tokens.get(token, ("", 0))[0] == client

    return is_asked


def hide_from(emulator: Emulator, client: str, hidden: set[str]) -> None:
    """One API client no longer lists some bookings, and finds none of them by id."""
    is_asked = asked_by(emulator.world, client)

    def without(body: bytes) -> bytes:
        document = json.loads(body)
        document["data"] = [record for record in document["data"] if record["id"] not in hidden]
        document.get("meta", {}).pop("total", None)
        return json.dumps(document).encode()

    emulator.faults.append(Fault(lambda r: r.path == LIST and is_asked(r), Replace(without), times=None))
    found = Fault(lambda r: r.path.removeprefix(LIST + "/") in hidden and is_asked(r), Status(404), times=None)
    emulator.faults.append(found)


@pytest.mark.parametrize("client", ["north", "south"])
def test_what_one_api_client_lost_and_another_lists_lives_on(tmp_path: Path, client: str) -> None:
    world, ids = shared_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS)
        assert night(settings).problems == []
        hide_from(emulator, client, {booking.id for booking in world.bookings.rows(ids[1])[:20]})
        for _ in range(2):
            world.clock.advance(timedelta(days=1))
            report = night(settings, kind="sweep")
            assert (report.problems, report.warnings) == ([], [])
            assert differences(settings.warehouse_path, world.truth()) == []
        # What both have lost is gone, and an account of which one of them shows nothing is not hidden.
        hide_from(emulator, client, {booking.id for booking in world.bookings.rows(ids[1])})
        delete_from(world, ids[1], 5)
        assert night(settings, kind="sweep").problems == []
        assert differences(settings.warehouse_path, world.truth()) == []


@pytest.mark.parametrize("path", [LIST, "/v2/accounts"])
def test_an_api_client_that_fails_keeps_what_only_it_may_show(tmp_path: Path, path: str) -> None:
    world, ids = shared_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS)
        night(settings)
        hide_from(emulator, "north", {booking.id for booking in world.bookings.rows(ids[1])[:3]})
        is_south = asked_by(world, "south")
        emulator.faults.append(Fault(lambda r: r.path == path and is_south(r), Status(403), times=None))
        world.clock.advance(timedelta(days=1))
        swept = "select max(until) from ops.windows where stream = 'bookings' and account_id = ? and kind = 'sweep'"
        before = query(settings.warehouse_path, swept, ids[1])
        report = night(settings, kind="sweep")
        assert report.problems
        assert query(settings.warehouse_path, swept, ids[1]) == before
        (bookings,) = [one for one in report.streams if one.stream == "bookings"]
        assert [w for w in bookings.warnings if "nothing of them was called deleted" in w]
        assert differences(settings.warehouse_path, world.truth()) == []
        # Its sweep does not count for that account, and the next one that reads everybody does.
        emulator.faults.pop()
        assert night(settings, kind="sweep").problems == []
        assert differences(settings.warehouse_path, world.truth()) == []


def test_an_api_client_without_an_account_of_its_own_holds_no_deletion_up(tmp_path: Path) -> None:
    """All that south lists is served by north, so south is not read."""
    world, ids = shared_world()
    world.add_client("north", "north-secret", set(ids))
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS)
        assert night(settings).problems == []
        world.clock.advance(timedelta(days=1))
        delete_from(world, ids[1], 3)
        report = night(settings, kind="sweep")
        assert (report.problems, report.warnings) == ([], [])
        assert differences(settings.warehouse_path, world.truth()) == []


def test_accounts_that_are_chosen_are_shared_all_the_same(tmp_path: Path) -> None:
    world, ids = shared_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS, sync_accounts=(ids[1], ids[2]))
        assert night(settings).problems == []
        hide_from(emulator, "north", {booking.id for booking in world.bookings.rows(ids[1])[:5]})
        world.clock.advance(timedelta(days=1))
        assert night(settings, kind="sweep").problems == []
        assert differences(settings.warehouse_path, world.truth(accounts=ids[1:])) == []


def test_an_api_client_that_loses_the_account_while_it_is_read_shows_nothing(tmp_path: Path) -> None:
    world, ids = shared_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS, sync_concurrency=1)
        assert night(settings).problems == []
        hide_from(emulator, "north", {booking.id for booking in world.bookings.rows(ids[1])[:3]})
        is_south = asked_by(world, "south")

        def lose(request: Request) -> None:
            if request.path == LIST and is_south(request):
                world.hide_account("south", ids[1])

        emulator.hooks.append(lose)
        world.clock.advance(timedelta(days=1))
        report = night(settings, kind="sweep")
        assert [w for w in report.warnings if "nothing of them was called deleted" in w]
        assert live(settings.warehouse_path, ids[1]) == len(world.bookings.rows(ids[1]))


def test_what_another_api_client_finds_by_id_lives_on(tmp_path: Path) -> None:
    """North lost it, and south's list leaves it out."""
    world, ids = shared_world()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **CLIENTS)
        assert night(settings).problems == []
        lost = {booking.id for booking in world.bookings.rows(ids[1])[:3]}
        hide_from(emulator, "south", lost)
        emulator.faults.pop()  # it finds them by id
        hide_from(emulator, "north", lost)
        world.clock.advance(timedelta(days=1))
        night(settings, kind="sweep")
        assert live(settings.warehouse_path, ids[1]) == len(world.bookings.rows(ids[1]))


def test_a_failure_at_the_end_of_a_shared_sweep_is_one_of_its_slice(tmp_path: Path) -> None:
    """The second walk brings rows that do not name their account."""
    world, ids = shared_world()
    with Emulator(world) as emulator:
        contract = contract_with(tmp_path, "[abilities]\nsingle = false\n")
        settings = settings_for(emulator, tmp_path, **CLIENTS, sync_concurrency=1)
        assert night(settings, contract, streams=[BOOKINGS]).problems == []
        delete_from(world, ids[1], 1)
        is_north = asked_by(world, "north")
        asked = 0

        def unnamed(body: bytes) -> bytes:
            document = json.loads(body)
            for record in document["data"]:
                record["relationships"].pop("account", None)
            return json.dumps(document).encode()

        def is_again(request: Request) -> bool:
            nonlocal asked
            is_first = request.path == LIST and is_north(request) and "page[after]" not in request.query
            asked += is_first
            return request.path == LIST and is_north(request) and asked > 1

        emulator.faults.append(Fault(is_again, Replace(unnamed), times=None))
        world.clock.advance(timedelta(days=1))
        report = night(settings, contract, "sweep", streams=[BOOKINGS])
        assert [p for p in report.problems if "do not name their account" in p]


@pytest.mark.parametrize(("alone", "is_sure"), [(None, True), ("shared", True), ("other", False)])
def test_a_sweep_of_one_account_alone_shows_nothing_of_the_others(alone: str | None, is_sure: bool) -> None:
    run = SimpleNamespace(
        absent=set(),
        clients={"north": None, "south": None},
        accounts={"north": ("shared",), "south": ("other",)},
        listed={"north": ("shared",), "south": ("shared", "other")},
        asks_alone=lambda _stream, _client: False,
    )
    of_north, of_south = (
        Slice("bookings", client, "sweep", accounts, Window(BEGINNING, BEGINNING), only_account=only)
        for client, accounts, only in (("north", ("shared",), None), ("south", ("other",), alone))
    )
    sweeps = Sweeps.__new__(Sweeps)
    vars(sweeps).update(
        run=run,
        stream=BOOKINGS,
        swept={of_north, of_south},
        proof=SimpleNamespace(listed=lambda _: {"shared", "other"}),
    )
    assert sweeps._unsure(of_north) == (set() if is_sure else {"shared"})
