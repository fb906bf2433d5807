"""The sync end to end: every stream through sockets and a real file, judged by the emulator's truth, value by value."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.plan import Window
from pipelines.renormalise import renormalise_stream
from pipelines.streams import BOOKINGS, CUSTOMERS
from resources.contract import load_contract
from resources.database import IN_ORDER_EVERY
from resources.errors import PublishBlockedError
from resources.publish import publish, run_checks
from resources.settings import Settings
from resources.sql_files import Check, checks
from resources.warehouse import Warehouse
from tests.emulator import ORGANISATIONS, Emulator, Fault, Naming, Replace, Status, Switches, World, on
from tests.equality import contract_with, differences, night, query, settings_for

ORGANISATIONS_CONTRACT = """
[streams.accounts]
path = "organisations"
[parameters]
account = "filter[organisation]"
updated_since = "filter[updated_after]"
updated_until = "filter[updated_before]"
[streams.customers]
sort = "updated_at"
[streams.bookings]
sort = "updated_at"
types = ["bookings"]
include = ["customer_bookings"]
[streams.events]
sort = "updated_at"
"""

DIALECTS = {
    "default": (Switches(), ""),
    "numbered pages": (Switches(paging="number"), ""),
    "offset pages": (Switches(paging="offset"), ""),
    "numbered pages with totals": (Switches(paging="number", meta_total="present"), ""),
    "no page size": (Switches(page_size=False), "[abilities]\npage_size = false"),
    "totals": (Switches(meta_total="present"), ""),
    "no sort, refused": (Switches(sort=False), ""),
    "no filters, refused": (Switches(filters=False), ""),
    "no filters, declared": (Switches(filters=False, sort=False), "[abilities]\nfilters = false\nsort = false"),
    "filters left alone": (Switches(), "[abilities]\nfilters = false"),
    "no upper bound": (Switches(upper_bound=False), ""),
    "exclusive bounds": (Switches(bounds="exclusive"), ""),
    "account filter everywhere": (
        Switches(account_filter=frozenset({"customers", "bookings", "events"})),
        "[streams.bookings]\naccount_filter = true\n[streams.events]\naccount_filter = true",
    ),
    "account filter nowhere": (Switches(account_filter=frozenset()), ""),
    "account as attribute": (Switches(account_in="attribute"), ""),
    "account absent, filter instead": (
        Switches(account_in="absent", account_filter=frozenset({"customers", "bookings", "events"})),
        "[streams.bookings]\naccount_filter = true\n[streams.events]\naccount_filter = true",
    ),
    "participants embedded": (Switches(participants="attribute"), ""),
    "participants without ids": (Switches(participants="attribute_without_ids"), ""),
    "plain media type": (Switches(media_type="plain"), ""),
    "relative links": (Switches(links="relative"), ""),
    "links as objects": (Switches(links="object"), ""),
    "offset instants": (Switches(instants="offset"), ""),
    "oldest first": (Switches(default_order="oldest_first", sort=False), ""),
    "natural order": (Switches(default_order="natural", sort=False), ""),
    "client secret in the body": (Switches(client_authentication="post"), '[oauth]\nclient_authentication = "post"'),
    "short tokens, lifetime not told": (Switches(token_lifetime=90, expires_in_sent=False), ""),
    "gzip": (Switches(gzip=True), ""),
    "zones from the API": (Switches(account_time_zone_sent=True), ""),
    "organisations in snake_case": (Switches(naming=ORGANISATIONS), ORGANISATIONS_CONTRACT),
    "other filter names": (
        Switches(naming=Naming(parameters={"filter[updatedAfter]": "filter[since]", "page[size]": "page[limit]"})),
        '[parameters]\nupdated_since = "filter[since]"\npage_size = "page[limit]"',
    ),
    "changes that move nothing": (Switches(participant_change_moves_updated=False), ""),
    "no change instants sent": (Switches(updated_sent=False), ""),
}


@pytest.fixture
def world() -> World:
    return World(seed=7, accounts=3, customers=150, bookings=320, events=12, years=2)


def written(report_streams: object) -> int:
    """Rows inserted, updated or tombstoned by a run."""
    total = 0
    for report in report_streams:  # type: ignore[attr-defined]  # stream reports
        total += report.counts.inserted + report.counts.updated + report.counts.tombstoned
    return total


# The dialects that take ways of their own through the product, every day; the others differ in spelling, and come with the long proofs.
EVERY_DAY = {
    *("default", "numbered pages", "no filters, refused", "no upper bound"),
    *("participants without ids", "no change instants sent"),
}


@pytest.mark.parametrize("name", [n if n in EVERY_DAY else pytest.param(n, marks=pytest.mark.long) for n in DIALECTS])
def test_any_number_of_nights_and_a_sweep_equal_the_truth(name: str, world: World, tmp_path: Path) -> None:
    switches, toml = DIALECTS[name]
    contract = contract_with(tmp_path, toml)
    rng = random.Random(11)
    with Emulator(world, switches) as emulator:
        first = night(settings_for(emulator, tmp_path), contract)
        assert first.problems == []
        assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
        for _ in range(2 if name == "default" else 1):  # the random nights below have more of them
            world.live_a_day()
            world.mutate(20, rng)
            report = night(settings_for(emulator, tmp_path), contract)
            assert report.problems == []
        world.mutate(
            20, rng, kinds=["touch_silently", "delete_booking", "delete_customer", "delete_event", "change_event"]
        )
        world.clock.advance(timedelta(minutes=10))
        settings = settings_for(emulator, tmp_path)
        last = night(settings, contract, "sweep", publish=True)
        assert last.problems == []
        assert last.published
        assert differences(settings.warehouse_path, world.truth()) == []
        assert differences(settings.warehouse_published_path, world.truth()) == []


def test_before_a_sweep_only_deleted_and_silent_rows_differ(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(hours=5))
    gone = world.delete_customer()
    world.change_customer()
    night(settings)
    found = differences(settings.warehouse_path, world.truth())
    assert found
    assert all("too many" in line and "customer" in line for line in found)
    assert str(getattr(gone, "id", gone)) in found[0]


@pytest.mark.parametrize(("overlap", "at_the_end"), [(1440, []), (0, ["/v2/accounts"])])
def test_an_unchanged_world_costs_one_token_and_one_request_a_stream_and_writes_no_row(
    emulator: Emulator, world: World, tmp_path: Path, overlap: int, at_the_end: list[str]
) -> None:
    """Without an overlap, the account list once more besides: nothing would ask again for what an account hid meanwhile."""
    settings = settings_for(emulator, tmp_path, sync_overlap_minutes=overlap)
    night(settings)
    world.clock.advance(timedelta(minutes=10))
    emulator.reset_log()
    second = night(settings)
    assert written(second.streams) == 0
    assert emulator.token_requests == 1
    first, *asked = [request.path for request in emulator.requests if request.method == "GET"]
    assert first == "/v2/accounts"
    assert sorted(asked) == [*at_the_end, "/v2/bookings", "/v2/customers", "/v2/events"]


def test_a_new_account_brings_its_whole_history_unasked(emulator: Emulator, world: World, tmp_path: Path) -> None:
    night(settings_for(emulator, tmp_path))
    world.clock.advance(timedelta(days=1))
    world.add_account(customers=15, bookings=30, events=3)
    report = night(settings_for(emulator, tmp_path))
    assert report.problems == []
    assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []
    gaps = query(tmp_path / "warehouse.duckdb", "select * from ops.watermarks where has_gap or watermark_at is null")
    assert gaps == []


def test_a_missed_week_is_no_special_case(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path, sync_overlap_minutes=30)
    night(settings)
    for _ in range(7):
        world.live_a_day()
    night(settings)
    night(settings, kind="sweep")
    assert differences(settings.warehouse_path, world.truth()) == []


def test_several_api_clients_share_their_accounts_out(world: World, tmp_path: Path) -> None:
    ids = [account.id for account in world.accounts]
    world.add_client("north", "north-secret", set(ids[:2]))
    world.add_client("south", "south-secret", set(ids[1:]))
    clients = [
        {"name": "north", "client_id": "north", "client_secret": "north-secret"},
        {"name": "south", "client_id": "south", "client_secret": "south-secret"},
    ]
    with Emulator(world) as emulator:
        own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": clients}
        settings = settings_for(emulator, tmp_path, **own)
        report = night(settings)
        assert report.problems == []
        assert differences(settings.warehouse_path, world.truth()) == []
        owners = query(
            settings.warehouse_path,
            "select distinct unnest(account_ids), api_client from ops.slices where stream = 'bookings' and is_last_part",
        )
        assert sorted(owners) == sorted([(ids[0], "north"), (ids[1], "north"), (ids[2], "south")])

        # One is revoked: the other finishes, the run is red, and the sentence says what to do.
        world.live_a_day()
        world.revoke_client("north")
        report = night(settings)
        assert any("'north'" in problem and "shown only once" in problem for problem in report.problems)
        truth = world.truth(accounts=ids[1:])
        stored = query(settings.warehouse_path, "select count(*) from core.bookings where account_id = ?", ids[2])
        assert stored == [(sum(row["account_id"] == ids[2] for row in truth["bookings"]),)]
        (status,) = query(settings.warehouse_path, "select status from ops.runs order by started_at desc limit 1")
        assert status == ("red",)
        # Its accounts are not frozen, since nobody knows whether they are listed still; they grow stale.
        for _ in range(2):
            world.live_a_day()
            night(settings)
        with Warehouse(settings).writer("test") as writer:
            chosen = [c for c in checks() if c.name in ("frozen_accounts", "stale_watermarks_bookings")]
            counts = {f.check.name: f.count for f in run_checks(writer.connection, chosen)}
        assert counts == {"frozen_accounts": 0, "stale_watermarks_bookings": 1}
        # Taken out of the settings, it lists nothing any more; what south lists too is read.
        settings = settings_for(emulator, tmp_path, **(own | {"appointedd_clients": clients[1:]}))
        assert night(settings).problems == []
        seen = "select account_id from marts.data_status where stream = 'bookings' and is_visible"
        assert {account for (account,) in query(settings.warehouse_path, seen)} == set(ids[1:])


@pytest.mark.parametrize("cure", ["another name", "no totals", "switched off", "served by another"])
def test_a_difference_that_nobody_can_look_at_again_holds_nothing_back(cure: str, world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(meta_total="present")) as emulator:

        def count(by: int | None) -> None:
            def told(body: bytes) -> bytes:
                document = json.loads(body)
                total = document.get("meta", {}).pop("total", None)
                if total is not None and by is not None:
                    document["meta"]["total"] = total + by
                return json.dumps(document).encode()

            emulator.faults[:] = [Fault(on("/v2/events"), Replace(told), times=None)]

        settings = settings_for(emulator, tmp_path)
        contract = load_contract()
        night(settings)
        count(1)
        world.clock.advance(timedelta(days=1))
        sweep = night(settings, kind="sweep", publish=True)
        assert "confirmed_differences_events" in (sweep.publish_problem or "")
        count(None)
        world.clock.advance(timedelta(days=1))
        assert "confirmed_differences_events" in (night(settings, publish=True).publish_problem or "")
        if cure == "another name":
            client = {
                "name": "north",
                "client_id": "emu-client",
                "client_secret": emulator.environment()["APPOINTEDD_CLIENT_SECRET"],
            }
            own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": [client]}
            settings = settings_for(emulator, tmp_path, **own)
        elif cure == "served by another":
            # The same client under two names: the first serves all accounts now, and the second, whose evidence it was, none.
            secret = emulator.environment()["APPOINTEDD_CLIENT_SECRET"]
            both = [{"name": n, "client_id": "emu-client", "client_secret": secret} for n in ("first", "default")]
            own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": both}
            settings = settings_for(emulator, tmp_path, **own)
        elif cure == "switched off":
            contract = contract_with(tmp_path, "[streams.events]\nenabled = false\n")
        report = night(settings, contract, "sweep" if cure == "no totals" else "nightly", publish=True)
        assert report.problems == []
        assert report.published


def test_a_wrong_secret_is_red_and_says_what_to_do(emulator: Emulator, tmp_path: Path) -> None:
    report = night(settings_for(emulator, tmp_path, appointedd_client_secret="not-it"))
    assert len(report.problems) == 1
    assert "invalid_client" in report.problems[0]
    assert "shown only once" in report.problems[0]
    assert "not-it" not in report.problems[0]


def test_a_list_that_refuses_every_token_leaves_the_others_complete(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    emulator.faults.append(Fault(on("/v2/bookings"), Status(401), times=None))
    others = {t: r for t, r in world.truth().items() if t.startswith(("accounts", "customer", "events"))}
    (problem,) = night(settings).problems
    assert "HTTP 401 on GET /v2/bookings" in problem
    assert "can change its permissions" in problem
    assert differences(settings.warehouse_path, others) == []
    marks = query(settings.warehouse_path, "select stream, count(*) from ops.watermarks group by all order by all")
    assert marks == [("accounts", 3), ("customers", 3), ("events", 3)]
    emulator.faults.clear()
    assert night(settings).problems == []
    assert differences(settings.warehouse_path, world.truth()) == []


def test_an_account_that_leaves_the_list_is_frozen_and_its_gap_is_asked_for_when_it_returns(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    hidden = next(iter(world.accounts)).id
    before = query(settings.warehouse_path, "select count(*) from core.bookings where account_id = ?", hidden)
    world.hide_account("emu-client", hidden)
    for _ in range(3):
        world.live_a_day()
        assert night(settings, kind="sweep").problems == []
    after = query(
        settings.warehouse_path,
        "select count(*) from core.bookings where account_id = ? and deleted_at is null",
        hidden,
    )
    assert after == before
    world.show_account("emu-client", hidden)
    night(settings)
    night(settings, kind="sweep")
    assert differences(settings.warehouse_path, world.truth()) == []


def test_a_sweep_finds_deletions_silent_changes_and_resurrections(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(hours=1))
    world.touch_silently()
    world.delete_booking()
    report = night(settings, kind="sweep")
    bookings = next(r for r in report.streams if r.stream == "bookings")
    assert bookings.counts.tombstoned == 1
    assert bookings.counts.silent == 1
    assert differences(settings.warehouse_path, world.truth()) == []
    evidence = query(
        settings.warehouse_path, "select distinct deletion_evidence from core.bookings where deleted_at is not null"
    )
    assert evidence == [("single GET (404)",)]
    children = query(
        settings.warehouse_path,
        """
        select count(*) from core.booking_customers c join core.bookings b using (account_id, booking_id)
        where b.deleted_at is not null and c.deleted_at is null
        """,
    )
    assert children == [(0,)]


@pytest.mark.parametrize("status", [400, 405, 403, 301])
def test_a_refused_single_record_is_a_missing_ability_only_where_it_says_so(
    status: int, emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(hours=1))
    world.delete_event()
    emulator.faults.append(Fault(on("/v2/events/"), Status(status), times=None))
    problems = night(settings, kind="sweep").problems
    evidence = query(settings.warehouse_path, "select deletion_evidence from core.events where deleted_at is not null")
    if status in (403, 301):  # a record that was merged into another one may be answered with the way there
        assert any("abilities.single = false" in p for p in problems)
        assert evidence == []
    else:
        assert problems == []
        assert evidence == [("second walk",)]


def test_without_single_records_the_second_look_is_a_second_walk(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    contract = contract_with(tmp_path, "[abilities]\nsingle = false")
    night(settings, contract)
    world.clock.advance(timedelta(hours=1))
    world.delete_event()
    night(settings, contract, "sweep")
    assert differences(settings.warehouse_path, world.truth()) == []
    evidence = query(settings.warehouse_path, "select deletion_evidence from core.events where deleted_at is not null")
    assert evidence == [("second walk",)]


def test_a_participant_who_leaves_a_group_leaves_the_booking(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(hours=1))
    world.remove_participant()
    report = night(settings)
    assert report.problems == []
    assert differences(settings.warehouse_path, world.truth()) == []
    (left,) = query(settings.warehouse_path, "select count(*) from core.booking_customers where deleted_at is not null")
    assert left == (1,)


def test_a_backfill_reads_its_days_again_and_leaves_the_watermark_alone(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    marks = query(
        settings.warehouse_path,
        "select * exclude (highest_window_at) from ops.watermarks where stream = 'bookings' order by all",
    )
    emulator.reset_log()
    window = Window(datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
    report = night(settings, kind="backfill", streams=[BOOKINGS], window=window)
    assert report.problems == []
    asked = [r.query for r in emulator.requests if r.path == "/v2/bookings"]
    assert asked[0]["filter[updatedAfter]"] == "2025-05-31T23:59:59Z"
    assert asked[0]["filter[updatedBefore]"] == "2025-07-01T00:00:01Z"
    assert marks == query(
        settings.warehouse_path,
        "select * exclude (highest_window_at) from ops.watermarks where stream = 'bookings' order by all",
    )
    # Ahead of the watermark it may not pull it over a gap either.
    world.clock.advance(timedelta(days=30))
    ahead = Window(world.clock.now() - timedelta(days=3), world.clock.now() - timedelta(days=2))
    night(settings, kind="backfill", streams=[BOOKINGS], window=ahead)
    assert marks != []
    assert [m[2] for m in marks] == [
        m[0]
        for m in query(
            settings.warehouse_path,
            "select watermark_at from ops.watermarks where stream = 'bookings' order by account_id",
        )
    ]


def test_rows_that_name_no_account_need_one_api_client_for_each(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(account_in="absent", account_filter=frozenset())) as emulator:
        contract = contract_with(tmp_path, "[streams.customers]\naccount_filter = false")
        report = night(settings_for(emulator, tmp_path), contract)
        assert any("one API client for each account" in p for p in report.problems)
        assert query(tmp_path / "warehouse.duckdb", "select count(*) from core.bookings") == [(0,)]


def test_a_refused_include_is_red_where_rows_depended_on_it(world: World, tmp_path: Path) -> None:
    with Emulator(world, Switches(include=False)) as emulator:
        report = night(settings_for(emulator, tmp_path))
        assert any("linkage only" in p for p in report.problems)
        found = differences(tmp_path / "warehouse.duckdb", {"bookings": world.truth()["bookings"]})
        assert found == []


def test_linkage_without_its_resource_keeps_what_is_stored(world: World, tmp_path: Path) -> None:
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        world.clock.advance(timedelta(hours=1))
        world.reschedule_booking()
        emulator.switches = replace(emulator.switches, include=False)
        night(settings)
        truth = world.truth()
        assert (
            differences(
                settings.warehouse_path,
                {"booking_customers": truth["booking_customers"], "bookings": truth["bookings"]},
            )
            == []
        )


def test_missing_linkage_is_not_an_empty_one(world: World, tmp_path: Path) -> None:
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings)
        world.clock.advance(timedelta(hours=1))
        world.bulk_update(10)
        emulator.switches = replace(emulator.switches, linkage_only=True)
        night(settings)
        assert differences(settings.warehouse_path, {"booking_customers": world.truth()["booking_customers"]}) == []


def test_a_wrong_alias_is_mended_from_the_warehouse_alone(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    wrong = contract_with(
        tmp_path,
        '[streams.bookings.columns]\nstart_at = ["begins"]\nresources = ["staff"]\n[streams.customers.columns]\nemail = ["mail"]',
    )
    night(settings, wrong)
    assert differences(settings.warehouse_path, world.truth()) != []
    unknown = query(settings.warehouse_path, "select path from ops.drift where kind = 'unknown_member' order by path")
    assert ("attributes.startTime",) in unknown
    emulator.reset_log()
    zones = settings.sync_account_time_zones
    with Warehouse(settings).writer("test") as writer:
        for stream in (CUSTOMERS, BOOKINGS):
            read, changed = renormalise_stream(writer, stream, load_contract(), zones)
            assert read >= changed > 0
    assert emulator.requests == []
    assert differences(settings.warehouse_path, world.truth()) == []


def test_a_zone_that_becomes_known_reads_the_epoch_dates_again(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    blind = settings_for(emulator, tmp_path, sync_account_time_zones={})
    report = night(blind)
    assert any("SYNC_ACCOUNT_TIME_ZONES" in w for w in report.warnings)
    (dates,) = query(blind.warehouse_path, "select count(value_on) from core.customer_custom_fields")
    assert dates == (0,)
    assumed = query(
        blind.warehouse_path, "select distinct is_zone_assumed, reporting_time_zone from ops.account_time_zones"
    )
    assert assumed == [(True, "UTC")]
    night(settings_for(emulator, tmp_path))
    assert differences(blind.warehouse_path, world.truth()) == []


def test_capability_urls_are_stored_nowhere(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings, publish=True)
    assert world.secrets
    for path in (settings.warehouse_path, settings.warehouse_published_path):
        stored = query(path, "select string_agg(document::VARCHAR, '') from core.bookings")[0][0]
        assert "CANARY" not in stored
        assert b"CANARY" not in path.read_bytes()


def test_publishing_is_blocked_by_a_duplicate_key_and_leaves_the_old_file(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    assert night(settings, publish=True).published
    old = settings.warehouse_published_path.read_bytes()
    with Warehouse(settings).writer("test") as writer:
        writer.connection.execute("insert into core.bookings select * from core.bookings limit 1")
    with pytest.raises(PublishBlockedError, match="unique_bookings"):
        publish(Warehouse(settings), "run", "0")
    assert settings.warehouse_published_path.read_bytes() == old


@pytest.mark.parametrize("is_blocked", [True, False], ids=["blocked", "left out"])
def test_runs_that_publish_nothing_put_the_file_in_order_too(
    is_blocked: bool, emulator: Emulator, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each day of a backfill is such a run; and publishing may be held back for as long as nobody looks."""
    if is_blocked:
        never = Check("never", "customers", is_blocking=True, says="Never.", sql="select 1")
        monkeypatch.setattr("resources.publish.checks", lambda _: (never,))
    settings, groups = settings_for(emulator, tmp_path), list[int]()
    for _ in range(2 * IN_ORDER_EVERY + 1):
        report = night(settings, streams=(CUSTOMERS,), publish=is_blocked, is_over_unpublished=not is_blocked)
        assert ("would be wrong" in str(report.publish_problem)) == is_blocked
        asked = "select count(distinct row_group_id) from pragma_storage_info('core.customers')"
        groups += [count for (count,) in query(settings.warehouse_path, asked)]
        world.mutate(30, random.Random(len(groups)))
        world.clock.advance(timedelta(days=1))
    assert max(groups) <= IN_ORDER_EVERY
    assert groups.count(1) == 3


def test_files_are_for_their_owner_only(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings, publish=True)
    assert settings.warehouse_path.stat().st_mode & 0o777 == 0o600
    assert settings.warehouse_published_path.stat().st_mode & 0o777 == 0o640


def test_unknown_members_and_unfit_values_are_kept_and_told(world: World, tmp_path: Path) -> None:
    def odd(body: bytes) -> bytes:
        document = json.loads(body)
        for record in document["data"]:
            record["attributes"]["shoeColour"] = "red"
            record["attributes"]["totalSpaces"] = "many"
            record["attributes"]["status"] = "Pencilled in"
        document["data"].append({"type": "bookings", "attributes": {}})
        return json.dumps(document).encode()

    from tests.emulator import Fault, Replace, on

    with Emulator(world) as emulator:
        emulator.faults.append(Fault(on("/v2/bookings"), Replace(odd), times=None))
        settings = settings_for(emulator, tmp_path)
        report = night(settings)
        drift = query(
            settings.warehouse_path, "select kind, path, detail from ops.drift where stream = 'bookings' order by all"
        )
        assert ("unknown_member", "attributes.shoeColour", "maps to no column") in drift
        assert ("unknown_status", "booking.status", "Pencilled in") in drift
        assert any(kind == "bad_value" and path == "total_spaces_count" for kind, path, _ in drift)
        assert query(settings.warehouse_path, "select count(*) > 0, any_value(reason) from ops.quarantine") == [
            (True, "the record has no id that is text or a whole number")
        ]
        assert query(
            settings.warehouse_path, "select distinct document ->> '$.data.attributes.shoeColour' from core.bookings"
        ) == [("red",)]
        assert any("quarantine" in p for p in report.problems)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_random_nights_end_in_equality(seed: int, tmp_path: Path) -> None:
    """Seeded, so that a failure can be run again; the seed is in the test's name."""
    rng = random.Random(seed)
    world = World(seed=100 + seed, accounts=3, customers=80, bookings=150, events=8, years=2)
    with Emulator(world) as emulator:
        for _ in range(6):
            settings = settings_for(
                emulator,
                tmp_path,
                sync_overlap_minutes=rng.choice([0, 5, 1440]),
                sync_concurrency=rng.choice([1, 4, 8]),
            )
            kind = rng.choice(["nightly", "nightly", "sweep"])
            assert night(settings, kind=kind).problems == []  # type: ignore[arg-type]  # a kind
            world.clock.advance(timedelta(hours=rng.choice([1, 30, 24 * 9])))
            world.mutate(rng.randrange(40), rng)
            world.clock.advance(timedelta(minutes=rng.randrange(3, 90)))
        night(settings_for(emulator, tmp_path), kind="sweep")
        assert differences(tmp_path / "warehouse.duckdb", world.truth()) == []


def test_no_watermark_lies_after_the_apis_own_clock(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings: Settings = settings_for(emulator, tmp_path)
    night(settings)
    (newest,) = query(settings.warehouse_path, "select max(until) from ops.windows")
    assert newest[0] == world.clock.now().replace(microsecond=0) - timedelta(seconds=60)


def test_a_run_that_ends_between_two_streams_never_stands_as_green(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings, streams=[CUSTOMERS])  # as if it had been killed before the next stream
    status = "select status, ended_at is null from ops.runs order by started_at desc limit 1"
    assert query(settings.warehouse_path, status) == [("running", True)]
    night(settings, publish=True)
    assert query(settings.warehouse_path, status) == [("green", False)]
    assert query(settings.warehouse_published_path, status) == [("green", False)]
