"""Cut slices, commits of several and first loads under attack: servers whose filters, totals and times lie, and what goes wrong in the middle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest

from pipelines.plan import BEGINNING, MARGIN, WIDER, Kind, Window
from pipelines.reading import filters_of
from pipelines.splitting import EARLIEST, LONG_AGO, LargeSliceError
from pipelines.streams import BOOKINGS, Stream
from pipelines.sync import RunReport
from resources.appointedd import open_clients
from resources.contract import Contract, load_contract
from resources.pages import Page
from resources.settings import Settings
from tests.emulator import Emulator, Fault, Request, Status, Switches, World, listing, on
from tests.emulator.listing import Selection
from tests.equality import contract_with, differences, night, query, settings_for
from tests.fault_plays import Document, edited, without_pauses
from tests.rows import windows
from tests.test_kill import consistent
from tests.test_splitting import END, page, splitter, whole

SMALL_PAGES = '[parameters]\npage_size_value = "4"\n'
TOTALS = Switches(meta_total="present")
LIST = "/v2/bookings"
PAGES = 60


def small_world() -> World:
    return World(seed=11, accounts=3, customers=2, bookings=PAGES * 4, events=0, years=2)


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    return contract_with(tmp_path, SMALL_PAGES)


@pytest.fixture
def world() -> World:
    return small_world()


def bookings_night(
    settings: Settings, contract: Contract, kind: Kind = "nightly", streams: Sequence[Stream] | None = (BOOKINGS,)
) -> RunReport:
    return night(settings, contract, kind, streams=streams)


def wrong(folder: Path, world: World, ignore: Sequence[str] = ()) -> list[str]:
    """What the stored bookings have otherwise than the truth."""
    path = folder / "warehouse.duckdb"
    consistent(path)
    own = {name: rows for name, rows in world.truth().items() if name.startswith("booking")}
    return differences(path, own, ignore=ignore)


def asked(emulator: Emulator) -> int:
    return sum(r.path == LIST for r in emulator.requests)


def each_record(edit: Callable[[Document], object]) -> Fault:
    """Every record of the bookings' list changed on its way."""

    def apply(document: Document) -> None:
        for record in document.get("data", []):
            edit(record)

    return Fault(on(LIST), edited(apply), times=None)


def without_updated(emulator: Emulator, ids: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that have no change time: no filter by it shows them, as with old imports."""

    def edit(record: Document) -> None:
        if record["id"] in ids:
            del record["attributes"]["updated"]

    emulator.faults.append(each_record(edit))
    measure = listing._MEASURES["updated"]
    monkeypatch.setitem(listing._MEASURES, "updated", lambda r: -2 * sys.maxsize if r.id in ids else measure(r))


def page_of(changes: Sequence[str]) -> Page:
    """The first of many pages, whose records changed at these times."""
    records = [{"type": "booking", "id": "1", "attributes": {"updated": at}} for at in changes]
    return replace(page(100_000), keys=[1] * len(records), parts=(records, []))


# ---- servers that lie --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", ["present", pytest.param("absent", marks=pytest.mark.long)])
def test_an_ignored_filter_and_no_change_times_do_not_cut_for_ever(
    total: Literal["present", "absent"], world: World, contract: Contract, tmp_path: Path
) -> None:
    switches = Switches(meta_total=total, updated_sent=False, filters=False, unknown_parameters="ignore")
    with Emulator(world, switches) as emulator:
        report = bookings_night(settings_for(emulator, tmp_path), contract)
    assert report.problems == []
    assert wrong(tmp_path, world, ["updated_at"]) == []
    assert asked(emulator) <= 2 * PAGES


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_a_total_that_knows_no_filter_neither_cuts_down_to_the_page_nor_is_held_against_a_piece(
    world: World, contract: Contract, tmp_path: Path, in_flight: int
) -> None:
    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(
            Fault(on(LIST), edited(lambda d: d.setdefault("meta", {}).update(total=PAGES * 4)), times=None)
        )
        report = bookings_night(settings_for(emulator, tmp_path, sync_concurrency=in_flight), contract)
    assert report.problems == []
    assert wrong(tmp_path, world) == []
    assert asked(emulator) <= 3 * PAGES


@pytest.mark.parametrize("knows_status", [True, False])
def test_a_total_that_knows_no_filter_is_held_against_no_piece_of_several_lists(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, knows_status: bool
) -> None:
    """Each list of the contract has a total of its own, and both together are another count than the one that the cut was made by."""
    lists = '[{"filter[status]" = "confirmed"}, {"filter[status]" = "cancelled"}]'
    own = contract_with(tmp_path, f"{SMALL_PAGES}[streams.bookings]\nqueries = {lists}\n")

    def total(selection: Any) -> int:
        statuses = selection._query.statuses if knows_status else None
        return sum(statuses is None or record.status in statuses for record in selection._rows)

    monkeypatch.setattr(Selection, "total", total)
    with Emulator(world, TOTALS) as emulator:
        report = bookings_night(settings_for(emulator, tmp_path, sync_concurrency=2), own)
    if knows_status:
        assert asked(emulator) <= 3 * PAGES
        assert report.problems == []
        assert wrong(tmp_path, world) == []
    else:  # then each list as a whole is short of it, and a person is told so once
        (problem,) = report.problems
        assert 'set document.total = ""' in problem


@pytest.mark.parametrize("change", ["add", "delete"])
def test_a_total_that_knows_no_filter_may_move_while_pieces_are_read(
    change: str, world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = min(world.bookings.rows(), key=lambda b: b.updated).id  # read last
    monkeypatch.setattr(Selection, "total", lambda selection: len(selection._rows))
    with Emulator(world, TOTALS) as emulator:

        def move(request: Request) -> None:
            if request.path == LIST and asked(emulator) == 3:
                _ = world.add_booking() if change == "add" else world.delete_booking(oldest)

        emulator.hooks.append(move)
        report = bookings_night(settings_for(emulator, tmp_path, sync_concurrency=2), contract)
    assert len(world.bookings) != PAGES * 4
    assert report.problems == []
    assert wrong(tmp_path, world) == []


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_a_total_that_knows_no_filter_is_held_against_the_whole_list(
    world: World, contract: Contract, tmp_path: Path, in_flight: int
) -> None:
    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(
            Fault(on(LIST), edited(lambda d: d.setdefault("meta", {}).update(total=PAGES * 4 + 3)), times=None)
        )
        report = bookings_night(settings_for(emulator, tmp_path, sync_concurrency=in_flight), contract)
    (problem,) = report.problems
    assert f"the API says that {PAGES * 4 + 3} records match" in problem
    assert f"walks read {PAGES * 4}." in problem


def test_edges_are_utc_whatever_the_offset_of_the_change_times(world: World, tmp_path: Path) -> None:
    there = timezone(timedelta(hours=14))
    times = [END.astimezone(there) - timedelta(days=days) for days in (30, 20)]
    first = page_of([at.isoformat() for at in times])
    judge = splitter()
    with pytest.raises(LargeSliceError) as large:
        judge.look(whole(), first, 1)
    pieces = judge.split(whole(), large.value, "nightly")
    assert pieces[-1].window.until == END - timedelta(days=30)
    with Emulator(world) as emulator, open_clients(settings_for(emulator, tmp_path), load_contract())[0] as client:
        names = client.contract.parameters
        for piece in pieces[1:]:
            sent = filters_of(piece, client)[names.updated_until]
            assert datetime.fromisoformat(sent) == piece.window.until


@pytest.mark.parametrize("offset", ["+14:00", "-14:00", "+00:00"])
def test_the_first_and_the_last_instant_there_is_are_no_edges(offset: str) -> None:
    times = ["0001-01-01T00:00:00", "9999-12-31T23:59:59"]
    first = page_of([at + offset for at in times])
    with pytest.raises(LargeSliceError) as large:
        splitter().look(whole(), first, 1)
    assert len(splitter().split(whole(), large.value, "nightly")) > 1


def test_what_claims_to_be_older_than_any_record_is_a_chain() -> None:
    splitter().look(whole(Window(BEGINNING, EARLIEST)), page(100_000, changed=BEGINNING), 1)
    splitter().look(whole(Window(BEGINNING, BEGINNING + WIDER)), page(100_000, changed=BEGINNING), 1)
    with pytest.raises(LargeSliceError):  # so much later, and records can be as old as that
        splitter().look(whole(Window(BEGINNING, EARLIEST + LONG_AGO)), page(100_000, changed=EARLIEST), 1)


def test_a_page_of_one_change_time_tells_no_order() -> None:
    with pytest.raises(LargeSliceError) as large:
        splitter().look(whole(), page(100_000, changed=END - timedelta(days=9)), 1)
    assert large.value.oldest is None


@pytest.mark.long
@pytest.mark.parametrize("days", [-739_000, -20_000, 100], ids=["year_1", "epoch", "future"])
def test_rows_of_impossible_times_are_found_without_asking_for_ever(
    days: int, world: World, contract: Contract, tmp_path: Path
) -> None:
    for number, booking in enumerate(world.bookings.rows()[: PAGES * 2]):
        world.bookings.set_updated(booking, world.clock.ms() + days * 86_400_000 + number)
    with Emulator(world, Switches(meta_total="present", sort=False)) as emulator:
        report = bookings_night(settings_for(emulator, tmp_path), contract)
    assert report.problems == []
    assert wrong(tmp_path, world) == []
    assert asked(emulator) <= 5 * PAGES


@pytest.mark.long
@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "natural"])
@pytest.mark.parametrize("size", [1, 2])
def test_tiny_pages(order: Any, size: int, tmp_path: Path) -> None:
    world = World(seed=11, accounts=3, customers=1, bookings=100, events=0, years=2)
    with Emulator(world, Switches(meta_total="present", default_order=order, sort=False)) as emulator:
        own = contract_with(tmp_path, f'[parameters]\npage_size_value = "{size}"\n')
        report = bookings_night(settings_for(emulator, tmp_path), own)
    assert report.problems == []
    assert wrong(tmp_path, world) == []
    assert asked(emulator) <= 2 * 100 / size


# ---- first loads -------------------------------------------------------------------------------------------------------------


def test_an_odd_record_does_not_take_the_watermark_of_a_first_load(tmp_path: Path) -> None:
    world = World(seed=11, accounts=3, customers=2, bookings=120, events=0, years=2)
    odd = world.bookings.rows()[60].id
    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(each_record(lambda record: record["id"] == odd and record.pop("id")))
        settings = settings_for(emulator, tmp_path)
        report = bookings_night(settings, contract_with(tmp_path, ""))
        emulator.requests.clear()
        again = bookings_night(settings, contract_with(tmp_path, ""))
        asked = emulator.count("bookings")
    assert report.streams[1].watermark == report.streams[0].watermark
    assert report.problems == []
    assert any("quarantine" in w for w in report.warnings)
    # Every record was met, the odd one too, so no night after this walks the list as a whole for its sake.
    assert again.problems == []
    assert asked == 1


def test_a_count_that_cannot_be_had_ends_its_stream_alone(
    world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    firsts = 0

    def is_later(request: Request) -> bool:
        """The first page of the whole list, but for the first time."""
        nonlocal firsts
        is_first = request.path == LIST and not any(n.startswith(("filter", "page[after]")) for n in request.query)
        firsts += is_first
        return is_first and firsts > 1

    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(Fault(is_later, Status(503), times=None))
        report = bookings_night(settings_for(emulator, tmp_path), contract, streams=None)
    assert [s.stream for s in report.streams] == ["accounts", "customers", "bookings", "events"]
    (problem,) = report.problems
    assert problem.startswith("API client 'default': bookings: HTTP 503")


def test_each_account_that_was_cut_is_proved_where_accounts_are_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(seed=11, accounts=2, customers=4, bookings=2, events=0, years=2)
    large = list(world.accounts)[1].id
    for _ in range(120):
        world.add_booking(large)
        world.clock.advance(timedelta(hours=3))
    switches = Switches(
        meta_total="present",
        account_in="absent",
        account_filter=frozenset({"customers", "bookings", "events"}),
        sort=False,
    )
    own = contract_with(tmp_path, SMALL_PAGES + "[streams.bookings]\naccount_filter = true\n")
    with Emulator(world, switches) as emulator:
        without_updated(emulator, {world.bookings.rows(large)[60].id}, monkeypatch)
        report = bookings_night(settings_for(emulator, tmp_path), own)
    assert report.problems == []
    assert wrong(tmp_path, world, ["updated_at"]) == []


def test_a_deleted_record_does_not_stand_in_for_one_that_no_filter_shows(
    world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored and what the list counts are equal then, by accident: one is stored that is gone, one is missing."""
    ids = [booking.id for booking in sorted(world.bookings.rows(), key=lambda b: b.updated)]
    with Emulator(world, TOTALS) as emulator:
        without_updated(emulator, {ids[30]}, monkeypatch)

        def delete(request: Request) -> None:
            if request.path == LIST and asked(emulator) >= PAGES // 2 and len(world.bookings) == len(ids):
                world.delete_booking(ids[-2])  # the newest are read first

        emulator.hooks.append(delete)
        assert bookings_night(settings_for(emulator, tmp_path, sync_concurrency=1), contract).problems == []
    assert len(world.bookings) == len(ids) - 1
    assert wrong(tmp_path, world, ["updated_at"]) == []


@pytest.mark.parametrize("totals", ["present", "absent"])
@pytest.mark.parametrize("account_filter", ["true", "false"])
def test_an_account_that_comes_later_brings_what_no_filter_shows(
    account_filter: str, totals: Literal["present", "absent"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(seed=11, accounts=1, customers=2, bookings=120, events=0, years=2)
    own = contract_with(tmp_path, f"{SMALL_PAGES}[streams.bookings]\naccount_filter = {account_filter}\n")
    with Emulator(world, Switches(meta_total=totals, account_filter=frozenset({"bookings"}))) as emulator:
        assert bookings_night(settings_for(emulator, tmp_path), own).problems == []
        world.clock.advance(timedelta(days=2))
        late = world.add_account(customers=2, bookings=20, events=0)
        without_updated(emulator, {world.bookings.rows(late.id)[5].id}, monkeypatch)
        emulator.reset_log()
        assert bookings_night(settings_for(emulator, tmp_path), own).problems == []
        assert wrong(tmp_path, world, ["updated_at"]) == []
        if account_filter == "true":
            assert asked(emulator) < 30, "the account that was there before was not read once more"
        emulator.reset_log()
        world.clock.advance(timedelta(hours=1))
        assert bookings_night(settings_for(emulator, tmp_path), own).problems == []
        assert asked(emulator) == 1, "it was read as a whole once, and no more"


def test_every_night_tells_that_some_records_have_no_change_time(
    world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nightly cannot see new ones of their kind; a sweep does."""
    ids = [booking.id for booking in world.bookings.rows()]
    told = "bookings: 3 stored records have no change time"
    with Emulator(world, TOTALS) as emulator:
        without_updated(emulator, set(ids[:3]), monkeypatch)
        settings = settings_for(emulator, tmp_path)
        assert bookings_night(settings, contract).problems == []
        world.clock.advance(timedelta(hours=20))
        report = bookings_night(settings, contract)
        assert report.problems == []
        assert [text for text in report.warnings if text.startswith(told)]
        report = bookings_night(settings, contract, "sweep")
        assert not [text for text in report.warnings if "no change time" in text]


def test_a_change_time_of_year_1_is_a_row_like_any_other(world: World, contract: Contract, tmp_path: Path) -> None:
    """As some systems write "never"; no window reaches much further back. The very first day of it is none in every time zone, and empty (test_normalise)."""
    never = min(world.bookings.rows(), key=lambda b: b.updated).id

    def spoil(record: Document) -> None:
        if record["id"] == never:
            record["attributes"]["updated"] = "0001-01-03T00:00:00Z"

    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(each_record(spoil))
        settings = settings_for(emulator, tmp_path)
        report = bookings_night(settings, contract)
        assert report.problems == []
        (stored,) = query(settings.warehouse_path, "select count(*), min(updated_at)::text from core.bookings")
        assert stored[0] == len(world.bookings)
        assert stored[1].startswith("0001-01-03 00:00:00")
        # An account that comes later is counted from there too.
        world.add_account(customers=5, bookings=20, events=1)
        world.clock.advance(timedelta(hours=12))
        assert bookings_night(settings, contract).problems == []


def test_one_api_client_that_fails_does_not_hide_what_no_filter_shows_of_another(
    world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [account.id for account in world.accounts]
    world.add_client("north", "north-secret", set(ids[:2]))
    world.add_client("south", "south-secret", set(ids[2:]))
    clients = [{"name": n, "client_id": n, "client_secret": f"{n}-secret"} for n in ("north", "south")]
    own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": clients}
    norths = [booking.id for account in ids[:2] for booking in world.bookings.rows(account)]

    def is_souths(request: Request) -> bool:
        token = request.headers["authorization"].partition(" ")[2] if request.path == LIST else ""
        return world.tokens.get(token, ("", 0))[0] == "south"

    switches = Switches(meta_total="present", sort=False)
    with Emulator(world, switches) as emulator:
        without_updated(emulator, {norths[30]}, monkeypatch)
        emulator.faults.append(Fault(is_souths, Status(500), times=None))
        report = bookings_night(settings_for(emulator, tmp_path, **own), contract)
    assert len(report.problems) == 1
    assert "'south'" in report.problems[0]
    stored = query(tmp_path / "warehouse.duckdb", "select booking_id from core.bookings")
    assert sorted(stored) == sorted((booking_id,) for booking_id in norths)


def test_an_odd_record_in_a_short_piece_keeps_no_window_open(world: World, contract: Contract, tmp_path: Path) -> None:
    """One in 240 is an odd record, though it is the only one of its piece."""
    oldest = min(world.bookings.rows(), key=lambda b: b.updated).id

    def spoil(record: Document) -> None:
        if record["id"] == oldest:
            record["type"] = "strangers"

    with Emulator(world, TOTALS) as emulator:
        emulator.faults.append(each_record(spoil))
        report = bookings_night(settings_for(emulator, tmp_path), contract)
    assert report.problems == []
    assert any("could not become rows" in text for text in report.warnings)
    assert all(report.streams[1].watermarks.values())


# ---- in the middle -----------------------------------------------------------------------------------------------------------


def test_an_account_that_hides_while_pieces_are_read_is_asked_for_again(contract: Contract, tmp_path: Path) -> None:
    world = World(seed=11, accounts=2, customers=4, bookings=10, events=0, years=2)
    busy = list(world.accounts)[1].id
    with Emulator(world, Switches(meta_total="present", account_filter=frozenset())) as emulator:
        settings = settings_for(emulator, tmp_path, sync_concurrency=1)
        assert bookings_night(settings, contract).problems == []
        for _ in range(200):
            world.add_booking(busy)
            world.clock.advance(timedelta(hours=1.2))
        emulator.reset_log()

        def hide(request: Request) -> None:
            if request.path == LIST and asked(emulator) == 20:
                world.hide_account(emulator.client_id, busy)

        emulator.hooks.append(hide)
        report = bookings_night(settings, contract)
        assert any("left the account list" in p for p in report.problems)
        emulator.hooks.clear()
        world.show_account(emulator.client_id, busy)
        assert bookings_night(settings, contract).problems == []
    assert wrong(tmp_path, world) == []


# One request at a time would leave a list of 60 pages whole (`splitting.LONGEST_ALONE`).
@pytest.mark.parametrize("concurrency", [4, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 64))])
def test_a_piece_that_fails_for_good_costs_its_window_alone(
    concurrency: int, world: World, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)

    def is_broken(request: Request) -> bool:
        until = request.query.get("filter[updatedBefore]", "")
        return request.path == LIST and "2025-01" < until < "2025-05"

    with Emulator(world, TOTALS) as emulator:
        settings = settings_for(emulator, tmp_path, sync_concurrency=concurrency)
        emulator.faults.append(Fault(is_broken, Status(503), times=None))
        assert len(bookings_night(settings, contract).problems) == 1
        consistent(settings.warehouse_path)
        emulator.faults.clear()
        world.mutate(5, kinds=["reschedule_booking", "add_booking", "cancel_booking"])
        world.clock.advance(timedelta(hours=20))
        emulator.reset_log()
        assert bookings_night(settings, contract).problems == []
    assert wrong(tmp_path, world) == []
    assert asked(emulator) <= PAGES / 2


# ---- just before the run -----------------------------------------------------------------------------------------------------


def test_rows_that_all_changed_just_before_the_run_are_no_chain(
    world: World, contract: Contract, tmp_path: Path
) -> None:
    with Emulator(world, switches=TOTALS) as emulator:
        settings = settings_for(emulator, tmp_path)
        for number, booking in enumerate(list(world.bookings)):
            world.change_booking(booking.id, price=number)
            if number % 8 == 0:
                world.clock.advance(timedelta(seconds=1))
        report = bookings_night(settings, contract)
        assert report.problems == []
        assert wrong(tmp_path, world) == []
        # Cut where no window reaches, and no window claims more than the run may know.
        last = world.clock.now() - MARGIN
        lower = {r.query["filter[updatedAfter]"] for r in emulator.requests if "filter[updatedAfter]" in r.query}
        assert sum(datetime.fromisoformat(since) > last for since in lower) >= 3
        ends = {until for _, _, _, until in windows(tmp_path / "warehouse.duckdb")}
        assert max(ends) <= last
        world.change_booking(next(iter(world.bookings)).id, price=7)
        assert bookings_night(settings, contract).problems == []
        assert wrong(tmp_path, world) == []
