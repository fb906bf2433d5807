"""The fault matrix end to end: a healthy first night, a faulty one, the night after; judged by the emulator's truth, row by row."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from random import Random

import pytest

from pipelines.plan import MARGIN, Window
from pipelines.streams import BOOKINGS, CUSTOMERS, EVENTS
from pipelines.sync import RunReport
from tests.emulator import Delay, Emulator, Fault, Request, Switches, World, on
from tests.equality import ZONES, contract_with, differences, night, settings_for
from tests.fault_cases import CASES, Case
from tests.fault_plays import CHANGES, LIST, Stage, without_pauses
from tests.rows import STREAM_OF, differing, of_streams, watermarks, windows

STREAMS = (BOOKINGS, EVENTS)
NAMES = tuple(stream.name for stream in STREAMS)
SMALL_PAGES = '[parameters]\npage_size_value = "10"\n'


def same_world() -> World:
    """The same world for every case, to the last id."""
    return World(seed=7, accounts=3, customers=60, bookings=120, events=12, years=2)


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to fill with the first night's warehouse, once for all cases; empty at first."""
    return tmp_path_factory.mktemp("first_night")


@pytest.fixture
def loaded(first_night: Path, tmp_path: Path) -> Path:
    """A folder with a warehouse that holds the whole of `same_world`."""
    kept = first_night / "warehouse.duckdb"
    if not kept.exists():
        with Emulator(same_world()) as emulator:
            settings = settings_for(emulator, first_night)
            assert night(settings, streams=STREAMS).problems == []
            assert differences(kept, of_streams(emulator.world.truth(), NAMES)) == []
    shutil.copy(kept, tmp_path)
    return tmp_path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return without_pauses(monkeypatch)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Emulator]:
    """Another origin, to which nothing may ever be sent."""
    with Emulator(World(accounts=1, customers=1, bookings=1, events=1)) as emulator:
        yield emulator


def staying_behind(case: Case, world: World) -> set[tuple[str, str]]:
    """What a case may leave as it was."""
    if not case.red and case.behind_accounts is None:
        return set()
    ids = [account.id for account in world.accounts]
    accounts = ids if case.behind_accounts is None else [ids[n] for n in case.behind_accounts]
    return {(stream, account) for stream in case.behind for account in accounts}


def reached(windows: set[tuple[str, str, datetime | None, datetime]]) -> dict[tuple[str, str], datetime]:
    """Stream and account → the end of their new windows, which lie side by side without a gap, however many pieces they were read in."""
    ends: dict[tuple[str, str], datetime] = {}
    for stream, account, since, until in sorted(windows, key=itemgetter(0, 1, 3)):
        assert ends.get((stream, account)) in (None, since)
        ends[stream, account] = until
    return ends


def judge_report(case: Case, report: RunReport) -> None:
    """A red run says why in one sentence for each stream that stays behind; a green one says nothing."""
    if not case.red:
        assert report.problems == []
        return
    assert any(all(word in problem for word in case.red) for problem in report.problems), report.problems
    assert len(report.problems) <= len(case.behind), report.problems


def judge_counts(case: Case, stage: Stage, pauses: list[float]) -> None:
    """What the night cost, by the emulator's own counts."""
    if case.repeated is not None:
        assert stage.repeated() == case.repeated
    if case.tokens is not None:
        assert stage.emulator.token_requests == case.tokens
    assert pauses == list(case.pauses)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.long] if c.is_long else []) for c in CASES]
)
def test_fault(case: Case, loaded: Path, elsewhere: Emulator, pauses: list[float]) -> None:
    world, rng = same_world(), Random(11)
    with Emulator(world, case.switches) as emulator:
        stage = Stage(emulator, world, rng, elsewhere)
        path = loaded / "warehouse.duckdb"
        contract = contract_with(loaded, SMALL_PAGES)
        world.clock.advance(timedelta(days=1))
        world.mutate(30, rng, CHANGES)
        for event in world.events.rows():
            world.change_event(event.id)
        world.clock.advance(timedelta(minutes=10))
        known, before = windows(path), dict(watermarks(path))
        case.play(stage)
        before_the_walk = world.truth()
        settings = settings_for(emulator, loaded, **{ZONES: {}, **case.own, **stage.own})
        streams = STREAMS if case.red else (BOOKINGS,)  # a red night must commit what its fault does not touch
        report = night(settings, contract, case.kind, streams=streams)

        judge_report(case, report)
        judge_counts(case, stage, pauses)
        names = {stream.name for stream in streams}
        behind = staying_behind(case, world)
        truth = of_streams(world.truth(), names)
        wrong = differing(path, truth)
        if case.moves:
            wrong &= differing(path, of_streams(before_the_walk, names))
        assert {row for row in wrong if (STREAM_OF[row[0]], str(row[1][0])) not in behind} == set(), differences(
            path, truth
        )
        new = windows(path) - known
        assert {(stream, account) for stream, account, _, _ in new} == {
            (stream, account.id) for stream in names for account in world.accounts
        } - behind
        assert set(reached(new).values()) <= {world.clock.now() + case.clock - MARGIN}
        assert {key: mark for key, mark in watermarks(path).items() if key in behind} == {k: before[k] for k in behind}

        emulator.faults.clear()
        emulator.hooks.clear()
        emulator.rate_limit(None)
        for undo in stage.undo:
            undo()
        world.clock.advance(timedelta(hours=1))
        last = STREAMS if len(case.behind) > 1 else (BOOKINGS,)
        kind = "sweep" if case.moves else case.kind  # what was deleted while it was read is a sweep's to find
        assert night(settings, contract, kind, streams=last).problems == []
        assert differences(path, of_streams(world.truth(), names)) == []
        assert elsewhere.requests == []


def test_a_token_that_dies_under_many_requests_in_flight_is_asked_for_once(loaded: Path) -> None:
    world = same_world()
    with Emulator(world, Switches(meta_total="present")) as emulator:
        world.clock.advance(timedelta(days=1))
        emulator.latency = 0.1  # so that the pieces of the slice, read side by side, all have a request on its way
        settings = settings_for(emulator, loaded, sync_concurrency=4, **{ZONES: {}})
        emulator.faults.append(Fault(on("/oauth/token"), Delay(1.0), times=None))
        asked = 0

        def expire(request: Request) -> None:
            nonlocal asked
            asked += request.path == LIST
            if asked == 9:
                world.revoke_tokens()
                # Its refusal comes last: the others ask with the dead token meanwhile, however busy the machine is.
                emulator.faults.append(Fault(lambda other: other is request, Delay(3.0)))
                emulator.hooks.clear()

        emulator.hooks.append(expire)
        years = Window(settings.history_start_at, world.clock.now())
        contract = contract_with(loaded, '[parameters]\npage_size_value = "2"\n')
        report = night(settings, contract, "backfill", streams=(BOOKINGS,), window=years)
        assert report.problems == []
        assert sum(request.status == 401 for request in emulator.requests) > 1
        assert emulator.token_requests == 2
        assert differences(settings.warehouse_path, of_streams(world.truth(), ["bookings"])) == []


def test_customers_who_are_read_before_their_account_is_listed_get_their_dates(tmp_path: Path) -> None:
    world = same_world()
    with Emulator(world) as emulator:
        assert night(settings_for(emulator, tmp_path), streams=(CUSTOMERS,)).problems == []
        world.clock.advance(timedelta(hours=1))

        def open_a_shop(request: Request) -> None:
            if request.path == "/v2/customers":
                emulator.hooks.clear()
                shop = world.add_account(customers=0, bookings=0, events=0)
                for _ in range(20):
                    world.add_customer(shop.id)

        emulator.hooks.append(open_a_shop)
        assert night(settings_for(emulator, tmp_path), streams=(CUSTOMERS,)).problems == []
        world.clock.advance(timedelta(hours=1))
        settings = settings_for(emulator, tmp_path)
        assert night(settings, streams=(CUSTOMERS,)).problems == []
        assert differences(settings.warehouse_path, of_streams(world.truth(), ["customers"])) == []
