"""What must not look like completeness or deletion: each of these was once a green run with missing or wrongly deleted rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import Request as RunRequest
from pipelines.plan import Window, change_days
from pipelines.run import open_run
from pipelines.streams import BOOKINGS, CUSTOMERS
from pipelines.sync import RunReport, sync_streams
from resources.contract import load_contract
from resources.warehouse import Warehouse
from tests.emulator import Emulator, Fault, Replace, Request, SetHeaders, Status, Switches, World, on
from tests.emulator.listing import Selection
from tests.equality import contract_with, differences, night, query, settings_for
from tests.rows import watermarks

LIST = "/v2/bookings"
UNREAD = "select count(*) from ops.quarantine join ops.slices using (slice_id) where run_id = ?"


@pytest.fixture
def world() -> World:
    return World(seed=7, accounts=3, customers=60, bookings=150, events=6, years=2)


def changed(change: Callable[[dict[str, Any]], None]) -> Replace:
    """An answer whose document was changed on its way."""

    def apply(body: bytes) -> bytes:
        document = json.loads(body)
        change(document)
        return json.dumps(document).encode()

    return Replace(apply)


def tombstones(path: Path) -> int:
    (count,) = query(path, "select count(*) from core.bookings where deleted_at is not null")[0]
    return int(count)


def test_an_account_that_hides_while_it_is_read_is_asked_for_again(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    hidden = world.accounts.rows()[0].id

    def hide(request: object) -> None:
        if getattr(request, "path", "") == LIST:
            world.hide_account("emu-client", hidden)

    emulator.hooks.append(hide)
    assert any("left the account list" in p for p in night(settings).problems)
    emulator.hooks.clear()
    world.clock.advance(timedelta(days=1))
    world.show_account("emu-client", hidden)
    assert night(settings).problems == []
    assert differences(settings.warehouse_path, world.truth()) == []


@pytest.mark.parametrize("overlap", [0, 5, 1440])
def test_an_account_that_hides_during_a_short_page_loses_nothing_whatever_the_overlap(
    emulator: Emulator, world: World, tmp_path: Path, overlap: int
) -> None:
    """A single page is believed without a second look at the account list only where the overlap reads its stretch again."""
    settings = settings_for(emulator, tmp_path, sync_overlap_minutes=overlap)
    hidden = world.accounts.rows()[0].id
    night(settings)
    world.clock.advance(timedelta(hours=1))
    world.add_booking(hidden)
    world.clock.advance(timedelta(hours=1))

    def hide(request: object) -> None:
        if getattr(request, "path", "") == LIST:
            world.hide_account("emu-client", hidden)

    emulator.hooks.append(hide)
    night(settings)
    emulator.hooks.clear()
    assert hidden not in (world.visible_accounts("emu-client") or {hidden})
    world.clock.advance(timedelta(days=5))
    world.show_account("emu-client", hidden)
    assert night(settings).problems == []
    assert differences(settings.warehouse_path, world.truth()) == []


@pytest.mark.parametrize("is_read", [False, True], ids=["is not read", "names its account no more"])
def test_a_sweep_deletes_nothing_where_the_account_list_after_it(
    is_read: bool, emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings, streams=[BOOKINGS])
    lost, is_begun = world.bookings.rows()[0], False
    world.delete_booking(lost.id)
    added = world.add_booking(lost.account_id)

    def begin(request: Request) -> None:
        nonlocal is_begun
        is_begun |= request.path == LIST
        if is_begun and is_read:
            world.hide_account("emu-client", lost.account_id)

    emulator.hooks.append(begin)
    if not is_read:
        failing = Fault(lambda r: is_begun and r.path == "/v2/accounts", Status(403), times=None)
        emulator.faults.append(failing)
    world.clock.advance(timedelta(days=1))
    assert night(settings, kind="sweep", streams=[BOOKINGS]).problems != []
    assert tombstones(settings.warehouse_path) == 0
    # What it read stays; of an account that is hidden it read nothing.
    found = query(settings.warehouse_path, "select count(*) from core.bookings where booking_id = ?", added.id)
    assert found == [(0 if is_read else 1,)]
    emulator.hooks.clear()
    emulator.faults.clear()
    world.show_account("emu-client", lost.account_id)
    world.clock.advance(timedelta(days=1))
    assert night(settings, kind="sweep", streams=[BOOKINGS]).problems == []
    assert tombstones(settings.warehouse_path) == 1


@pytest.mark.parametrize("is_chosen", [False, True])
def test_rows_of_accounts_that_nobody_lists_alone_are_told(
    emulator: Emulator, world: World, tmp_path: Path, is_chosen: bool
) -> None:
    slugs = {account.id: account.slug for account in world.accounts}

    def by_slug(document: dict[str, Any]) -> None:
        for row in document["data"]:
            account = row["relationships"]["account"]["data"]
            account["id"] = slugs[account["id"]]

    emulator.faults.append(Fault(on(LIST), changed(by_slug), times=None))
    chosen = list(slugs)[:2] if is_chosen else []
    (problem,) = night(settings_for(emulator, tmp_path, sync_accounts=chosen)).problems
    assert problem.startswith("bookings: none of 150 records belongs to an account that is listed")


def test_one_listed_account_among_others_is_enough(emulator: Emulator, world: World, tmp_path: Path) -> None:
    (kept,) = (account.id for account in world.accounts.rows()[:1])

    def elsewhere(document: dict[str, Any]) -> None:
        for row in document["data"]:
            account = row["relationships"]["account"]["data"]
            account["id"] = account["id"] if account["id"] == kept else "gone"

    emulator.faults.append(Fault(on(LIST), changed(elsewhere), times=None))
    assert night(settings_for(emulator, tmp_path)).problems == []


def test_a_quiet_night_with_rows_of_a_closed_account_alone_is_green(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    closed = world.accounts.rows()[0].id

    def without(document: dict[str, Any]) -> None:
        document["data"] = [account for account in document["data"] if account["id"] != closed]

    night(settings)
    world.clock.advance(timedelta(days=2))
    night(settings)
    for one in world.bookings.rows(closed)[:25]:
        world.change_booking(one.id)
    emulator.faults.append(Fault(on("/v2/accounts"), changed(without), times=None))
    report = night(settings, streams=[BOOKINGS])
    assert (report.problems, report.streams[-1].counts.read) == ([], 25)


@pytest.mark.parametrize("member", ["meta", "attributes"])
def test_a_second_walk_that_brings_each_record_otherwise_is_no_repetition(
    world: World, tmp_path: Path, member: str
) -> None:
    """Numbered pages without a total are walked twice, and a signed link, say, is another in each answer."""
    numbers = count()

    def signed(document: dict[str, Any]) -> None:
        link = f"https://photos.example/?signature={next(numbers)}"
        for row in document["data"]:
            row[member] = row.get(member, {}) | {"photo": link}

    with Emulator(world, Switches(paging="number")) as emulator:
        emulator.faults.append(Fault(on(LIST), changed(signed), times=None))
        report = night(settings_for(emulator, tmp_path), streams=[BOOKINGS])
    assert (report.problems, report.streams[-1].counts.read) == ([], 300)


def test_a_booking_that_comes_once_for_each_participant_is_told(tmp_path: Path) -> None:
    world = World(seed=7, accounts=3, customers=60, bookings=150, events=6, years=2)

    def joined(document: dict[str, Any]) -> None:
        rows, document["data"] = document["data"], []
        for row in rows:
            people = row["attributes"]["customers"]
            for one in ([p] for p in people) if people else ([],):
                document["data"].append({**row, "attributes": row["attributes"] | {"customers": one}})

    with Emulator(world, Switches(participants="attribute")) as emulator:
        emulator.faults.append(Fault(on(LIST), changed(joined), times=None))
        (problem,) = night(
            settings_for(emulator, tmp_path), contract_with(tmp_path, "abilities.include = false")
        ).problems
    assert "records are the same ones several times, otherwise each time" in problem


def test_an_empty_list_deletes_nothing(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))
    emulator.faults.append(Fault(on(LIST), Replace(b'{"data":[],"links":{"next":null}}'), times=None))
    assert any("nothing of account" in p for p in night(settings, kind="sweep").problems)
    assert tombstones(settings.warehouse_path) == 0


def test_records_that_cannot_be_read_are_not_taken_for_deleted(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))

    def rename(document: dict[str, Any]) -> None:
        for record in document["data"][:1]:
            record["type"] = "appointments"

    for times in (1, None):
        emulator.faults[:] = [Fault(on(LIST), changed(rename), times=times)]
        report = night(settings, kind="sweep")
        unread = query(settings.warehouse_path, UNREAD, report.run_id)
        assert unread > [(0,)]
        assert any("could not become rows" in text for text in report.problems + report.warnings)
        assert tombstones(settings.warehouse_path) == 0
    emulator.faults.clear()
    night(settings, kind="sweep")
    assert differences(settings.warehouse_path, world.truth()) == []


def test_a_contract_that_no_longer_fits_moves_no_window(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    for _ in range(3):
        world.live_a_day()

    def rename(document: dict[str, Any]) -> None:
        for record in document["data"]:
            record["type"] = "appointments"

    emulator.faults.append(Fault(on(LIST), changed(rename), times=None))
    assert any("could not become rows" in p for p in night(settings).problems)
    emulator.faults.clear()
    world.clock.advance(timedelta(days=1))
    assert night(settings).problems == []
    assert differences(settings.warehouse_path, {"bookings": world.truth()["bookings"]}) == []


def test_a_list_that_leaves_out_cancelled_bookings_deletes_none_of_them(tmp_path: Path) -> None:
    world = World(seed=7, accounts=2, customers=60, bookings=400, events=2, years=2)
    with Emulator(world, Switches(cancelled_in_default_list=False)) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        world.clock.advance(timedelta(hours=1))
        for booking in [b for b in world.bookings.rows() if b.status == "confirmed"][:60]:
            world.cancel_booking(booking.id)
        report = night(settings, kind="sweep")
        assert any("live on" in p and "queries" in p for p in report.problems)
        assert tombstones(settings.warehouse_path) == 0
        # The cure that the sentence names.
        contract = contract_with(tmp_path, '[streams.bookings]\nqueries = [{}, { "filter[status]" = "cancelled" }]\n')
        assert night(settings, contract, "sweep").problems == []
        assert differences(settings.warehouse_path, {"bookings": world.truth()["bookings"]}) == []


def test_an_include_refused_for_one_night_is_made_up_for(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    for _ in range(3):
        world.live_a_day()
    emulator.switches = replace(emulator.switches, include=False)
    assert night(settings).problems != []
    emulator.switches = replace(emulator.switches, include=True)
    world.clock.advance(timedelta(hours=1))
    assert night(settings).problems == []
    night(settings, kind="sweep")
    assert differences(settings.warehouse_path, world.truth()) == []


def test_participants_that_never_came_are_missing_rows(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(linkage_only=True)) as emulator:
        report = night(settings_for(emulator, tmp_path))
        assert any("participants of some records did not come" in p for p in report.problems)


def test_a_clock_that_ran_ahead_for_one_night_hides_no_change(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))
    ahead = format_datetime(world.clock.now() + timedelta(days=10), usegmt=True)
    emulator.faults.append(Fault(on("/v2/accounts"), SetHeaders({"Date": ahead}), times=1))
    night(settings)
    world.clock.advance(timedelta(hours=6))
    world.add_booking()
    world.clock.advance(timedelta(days=3))
    night(settings)
    assert differences(settings.warehouse_path, {"bookings": world.truth()["bookings"]}) == []


def test_a_window_that_a_wrong_clock_dated_is_never_believed_again(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))
    ahead = format_datetime(world.clock.now() + timedelta(days=30), usegmt=True)
    emulator.faults.append(Fault(on("/v2/"), SetHeaders({"Date": ahead}), times=None))
    night(settings)
    emulator.faults.clear()
    world.clock.advance(timedelta(hours=6))
    report = night(settings)
    assert any("dated by a clock that was ahead" in w for w in report.warnings)
    world.add_booking()
    world.clock.advance(timedelta(days=40))
    assert night(settings).problems == []
    assert differences(settings.warehouse_path, {"bookings": world.truth()["bookings"]}) == []


@pytest.mark.parametrize("path", ["/v2/", LIST])
def test_rows_that_a_wrong_clock_dated_are_not_newer_than_what_is_read_after_them(
    path: str, emulator: Emulator, world: World, tmp_path: Path
) -> None:
    """Of a list whose answers alone are dated wrongly, the windows are right."""
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))
    gone, odd, moved = world.add_booking(), world.add_booking(), world.change_booking()
    ahead = format_datetime(datetime(2500, 1, 1, tzinfo=UTC), usegmt=True)
    emulator.faults.append(Fault(on(path), SetHeaders({"Date": ahead}), times=None))
    night(settings)
    emulator.faults.clear()
    world.clock.advance(timedelta(hours=6))
    world.delete_booking(gone.id)
    world.touch_silently(odd.id)
    night(settings)
    assert night(settings, kind="sweep").problems == []
    assert differences(settings.warehouse_path, world.truth()) == []
    now = world.clock.now()
    instants = "select fetched_at, deleted_at, null from core.bookings union all select fetched_at, null, superseded_at from history.records"
    assert all(instant is None or instant <= now for row in query(settings.warehouse_path, instants) for instant in row)
    # As of before the change, and after it: each time one version, and not the same one.
    versions = """
        select fetched_at from (
            select record_id, fetched_at, superseded_at from history.records where stream = 'bookings'
            union all select booking_id, fetched_at, null from core.bookings
        ) where record_id = ? and fetched_at <= ? and (superseded_at > ? or superseded_at is null)
    """
    (before,), (after,) = (
        query(settings.warehouse_path, versions, moved.id, at, at) for at in (now - timedelta(hours=7), now)
    )
    assert before != after


def test_an_answer_that_is_dated_long_ago_dates_no_rows(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=1))
    world.change_booking()
    night(settings)
    dates = "select fetched_at, null from core.bookings union all select fetched_at, superseded_at from history.records order by all"
    before = query(settings.warehouse_path, dates)
    world.clock.advance(timedelta(days=1))
    emulator.faults.append(Fault(on("/v2/"), SetHeaders({"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}), times=None))
    night(settings)
    emulator.faults.clear()
    assert query(settings.warehouse_path, dates) == before
    assert night(settings).problems == []


def test_a_run_takes_no_window_away_that_a_later_one_committed(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    """As in Dagster, where a backfill gives way to the nightly between two of its streams."""
    settings = settings_for(emulator, tmp_path)
    contract, warehouse = load_contract(), Warehouse(settings)
    night(settings)
    world.clock.advance(timedelta(hours=23, minutes=30))
    request = RunRequest("backfill", change_days(date(2026, 2, 1), date(2026, 2, 2), UTC))
    with open_run(
        settings, contract, warehouse, request, run_id="backfill", started_by="test", version="0"
    ) as backfill:
        sync_streams(backfill, [CUSTOMERS])
        world.clock.advance(timedelta(minutes=30))
        night(settings)
        marks = "select stream, account_id, watermark_at from ops.watermarks order by all"
        reached = query(settings.warehouse_path, marks)
        (report,) = sync_streams(backfill, [BOOKINGS])
    assert report.warnings == []
    assert query(settings.warehouse_path, marks) == reached


def test_the_local_clock_takes_no_window_away_while_the_api_is_silent(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    """A machine whose clock is behind, as after a start without network: nobody knows then what the API's clock says."""
    settings = settings_for(emulator, tmp_path)
    world.clock.advance(timedelta(days=3650))  # so that of this machine is ten years behind
    night(settings)
    windows = "select stream, account_id, until from ops.windows order by all"
    before = query(settings.warehouse_path, windows)
    emulator.faults.append(Fault(on("/v2/accounts"), Status(403), times=None))
    report = night(settings)
    assert report.problems
    assert report.warnings == []
    assert query(settings.warehouse_path, windows) == before


def test_half_a_letter_does_not_cost_a_list(emulator: Emulator, world: World, tmp_path: Path) -> None:
    def spoil(body: bytes) -> bytes:
        return body.replace(b'"title":"', b'"title":"\\ud83d ', 1).replace(b'"title": "', b'"title": "\\ud83d ', 1)

    settings = settings_for(emulator, tmp_path)
    emulator.faults.append(Fault(on("/v2/events"), Replace(spoil), times=None))
    assert night(settings).problems == []
    titles = query(settings.warehouse_path, "select title from core.events where title like '\ufffd%'")
    assert titles


def test_an_empty_unpaginated_list_is_a_quiet_night(emulator: Emulator, world: World, tmp_path: Path) -> None:
    emulator.faults.append(Fault(on("/v2/events"), Replace(b'{"data":[]}'), times=None))
    contract = contract_with(tmp_path, "[abilities]\npage_size = false")
    assert night(settings_for(emulator, tmp_path), contract, streams=()).problems == []
    report = night(settings_for(emulator, tmp_path), contract)
    assert not [p for p in report.problems if p.startswith("events")]


@pytest.mark.parametrize("totals", ["present", "absent"])
def test_a_list_that_ends_at_a_round_number_is_doubted(
    totals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search engines show no more than so many, count no further, and say nothing of it."""
    world = World(seed=7, accounts=1, customers=1_020, bookings=0, events=0, years=2)
    whole, count = Selection.page, Selection.total

    def page(selection: Selection[Any]) -> Any:
        found, query = whole(selection), selection._query
        rows = list(selection._walk(selection._low, selection._high, backwards=query.descending))[:1_000]
        if not found.rows or found.rows[-1].id == rows[-1].id:
            found.next_key = None
        return found

    monkeypatch.setattr(Selection, "page", page)
    monkeypatch.setattr(Selection, "total", lambda selection: min(count(selection), 1_000))
    with Emulator(world, Switches(meta_total=totals)) as emulator:
        report = night(settings_for(emulator, tmp_path))
    assert len(differences(tmp_path / "warehouse.duckdb", {"customers": world.truth()["customers"]})) == 1
    assert any("exactly 1000 records" in warning for warning in report.warnings)


def test_records_that_live_on_outside_of_their_list_are_told(
    emulator: Emulator, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the list leaves out of what is stored is found by id; what it leaves out of the rest is missing."""
    hidden = {booking.id for booking in world.bookings.rows()[:6]}
    settings = settings_for(emulator, tmp_path)
    night(settings)
    whole = Selection.page

    def page(selection: Selection[Any]) -> Any:
        found = whole(selection)
        found.rows = [row for row in found.rows if row.id not in hidden]
        return found

    monkeypatch.setattr(Selection, "page", page)
    world.clock.advance(timedelta(hours=1))
    report = night(settings, kind="sweep")
    assert report.problems == []
    assert any("6 records were not in the list" in warning for warning in report.warnings)
    assert any("abilities.single = false" in warning for warning in report.warnings), (
        "what to do where they were deleted"
    )
    assert differences(settings.warehouse_path, world.truth()) == []


@pytest.mark.parametrize("totals", ["present", "absent"])
def test_an_account_that_is_sent_odd_or_not_at_all_is_told(totals: Any, world: World, tmp_path: Path) -> None:
    """It would be read by nobody, and the run would stand as complete."""

    def spoil(body: bytes) -> bytes:
        document = json.loads(body)
        if totals == "present":
            document["data"].pop()  # the total still counts it
        else:
            document["data"][-1].pop("id")
        return json.dumps(document).encode()

    with Emulator(world, Switches(meta_total=totals)) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        before = watermarks(settings.warehouse_path)
        emulator.faults.append(Fault(on("/v2/accounts"), Replace(spoil), times=None))
        world.live_a_day()
        (problem,) = night(settings).problems
        assert ("counts 3 accounts" if totals == "present" else "1 of 3 records") in problem
        # The others are read all the same, and the next run asks for the rest.
        moved = {a for (_, a), mark in watermarks(settings.warehouse_path).items() if mark not in before.values()}
        assert len(moved) == 2
        emulator.faults.clear()
        world.live_a_day()
        assert night(settings).problems == []
        assert night(settings, kind="sweep").problems == []
        assert differences(settings.warehouse_path, world.truth()) == []


def test_a_record_of_the_account_list_that_is_no_account_is_none_where_the_accounts_are_named(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    """Each run would be red for it, and nothing in the contract could help."""

    def add_group(document: dict[str, Any]) -> None:
        document["data"].append({"type": "groups", "id": "g1"})

    emulator.faults.append(Fault(on("/v2/accounts"), changed(add_group), times=None))
    first, *others = (account.id for account in world.accounts)
    for names in ([], [f"!{first}"]):
        (problem,) = night(settings_for(emulator, tmp_path, sync_accounts=names)).problems
        assert "name the accounts that are to be read in SYNC_ACCOUNTS" in problem
    assert night(settings_for(emulator, tmp_path, sync_accounts=[first, *others])).problems == []
    assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
    (missing, unreadable) = night(settings_for(emulator, tmp_path, sync_accounts=[first, "g1"])).problems
    assert "could not become accounts" in missing + unreadable


def test_a_total_that_counts_something_else_has_a_cure_that_works(world: World, tmp_path: Path) -> None:
    def count_more(document: dict[str, Any]) -> None:
        document["meta"]["total"] += 5

    cure = 'document.ignored_marks = ["meta.total"]'
    with Emulator(world, Switches(meta_total="present")) as emulator:
        settings = settings_for(emulator, tmp_path)
        emulator.faults.append(Fault(on("/v2/"), changed(count_more), times=None))
        for problem in night(settings).problems:
            assert cure in problem
            assert 'document.total = ""' in problem
        (problem,) = night(settings, contract_with(tmp_path, '[document]\ntotal = ""\n')).problems
        assert problem.endswith(f"if meta.total means something else, {cure}.")
        cured = contract_with(tmp_path, '[document]\ntotal = ""\nignored_marks = ["meta.total"]\n')
        assert night(settings, cured, "sweep", publish=True).problems == []
        assert night(settings, cured, publish=True).problems == []
    assert differences(settings.warehouse_published_path, world.truth()) == []


def test_what_another_api_client_read_in_its_stead_is_read_again_by_the_one_that_shows_more(tmp_path: Path) -> None:
    """South lists north's account too, and shows no bookings of it; so long as north is refused the account is south's."""
    world = World(seed=7, accounts=2, customers=60, bookings=150, events=6, years=2)
    shared, other = (account.id for account in world.accounts)
    world.add_client("north", "north-secret", {shared})
    world.add_client("south", "south-secret", {shared, other})
    clients = [{"name": name, "client_id": name, "client_secret": f"{name}-secret"} for name in ("north", "south")]
    own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": clients}

    def is_souths(request: Request) -> bool:
        token = request.headers.get("authorization", "").split()[-1]
        return request.path == LIST and world.tokens.get(token, ("", 0))[0] == "south"

    def hide(document: dict[str, Any]) -> None:
        rows = document["data"]
        document["data"] = [r for r in rows if r["relationships"]["account"]["data"]["id"] != shared]

    def a_day_later() -> RunReport:
        world.add_booking(shared)
        world.clock.advance(timedelta(days=1))
        return night(settings)

    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **own)
        emulator.faults.append(Fault(is_souths, changed(hide), times=None))
        assert night(settings).problems == []
        world.revoke_client("north")
        for _ in range(3):
            assert a_day_later().problems
        world.clients["north"].revoked = False
        # What it reads again by hand first says nothing of the days before.
        now = world.clock.now()
        by_hand = night(settings, kind="backfill", window=Window(now - timedelta(hours=2), now))
        assert by_hand.problems == []
        assert a_day_later().problems == []
        assert differences(settings.warehouse_path, world.truth()) == []
        # The other way round nothing is read again: north comes first in the settings, so what it read is never in south's stead.
        world.revoke_client("north")
        run_id = a_day_later().run_id
        asked = "select distinct until - since from ops.slices where stream = 'bookings' and run_id = ?"
        assert query(settings.warehouse_path, asked, run_id) == [(timedelta(days=2),)]
