"""A list that the contract adds is loaded, swept, checked and shown like the built-in ones, though no code knows its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from pipelines.commands import renormalise_once
from pipelines.definitions import build
from pipelines.plan import Request
from pipelines.preview import preview
from pipelines.status import read_status
from pipelines.streams import BUILT_IN, streams_of
from resources.contract import RESERVED, Contract, load_contract
from resources.errors import ContractError
from resources.publish import publish
from resources.sql_files import marts
from resources.warehouse import Warehouse
from tests.emulator import Emulator, Fault, Replace, World, on
from tests.equality import contract_with, differences, night, query, settings_for

# The emulator's events under another name: a list that no built-in stream of that name reads.
SIGNALS = '[streams.signals]\npath = "events"\ntypes = ["events"]\nsort = "updated"\n'


@pytest.fixture
def world() -> World:
    return World(seed=5, accounts=2, customers=20, bookings=30, events=25, years=1)


@pytest.fixture
def emulator(world: World) -> Iterator[Emulator]:
    with Emulator(world) as running:
        yield running


def contract(folder: Path, more: str = "") -> Contract:
    return contract_with(folder, SIGNALS + more)


def test_a_list_is_added_by_a_contract_entry_alone(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings, own = settings_for(emulator, tmp_path), contract(tmp_path)
    path, published = settings.warehouse_path, settings.warehouse_published_path
    assert list(streams_of(own)) == ["accounts", "customers", "bookings", "events", "signals"]

    def live() -> list[str]:
        return [i for (i,) in query(path, "select record_id from core.signals where deleted_at is null order by 1")]

    assert night(settings, own, publish=True).problems == []
    assert live() == sorted(e.id for e in world.events.rows())

    # Incremental: a quiet night is one request, a change is one row.
    world.clock.advance(timedelta(days=2))
    emulator.reset_log()
    only = (streams_of(own)["signals"],)
    assert night(settings, own, streams=only).problems == []
    assert emulator.count("/v2/events") == 1
    assert "filter[updatedAfter]" in next(r.query for r in emulator.requests if r.path == "/v2/events")
    world.clock.advance(timedelta(hours=1))
    world.change_event(title="Moved")
    (_, report) = night(settings, own, streams=only).streams
    assert (report.counts.inserted, report.counts.updated) == (0, 1)

    # A sweep retires what is gone, with its evidence; nobody else's rows are touched.
    world.clock.advance(timedelta(hours=1))
    gone = world.delete_event().id
    assert night(settings, own, "sweep", publish=True).problems == []
    assert query(path, "select deletion_evidence from core.signals where record_id = ?", gone) == [
        ("single GET (404)",)
    ]
    assert live() == sorted(e.id for e in world.events.rows())
    assert differences(path, world.truth()) == []

    # Status and the published file say so.
    rows = {(r["account_id"], r["stream"]): r for r in read_status(Warehouse(settings), world.clock.now()).streams}
    for account in world.accounts:
        row = rows[account.id, "signals"]
        assert row["rows_count"] == len(world.events.rows(account.id))
        assert row["complete_until_at"] == rows[account.id, "events"]["complete_until_at"]
        assert row["last_sweep_at"] is not None
    titles = query(published, "select title, typeof(capacity) from marts.signals where title = 'Moved'")
    assert titles == [("Moved", "BIGINT")]


def test_attributes_become_typed_columns_of_a_view(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings, own = settings_for(emulator, tmp_path), contract(tmp_path)

    def dress(body: bytes) -> bytes:
        document = json.loads(body)
        for number, record in enumerate(document["data"]):
            record["attributes"] |= {
                "depositAmount": 12.1 if number % 2 else 12,
                "isOpen": number % 2 == 0,
                "mixed": number if number % 2 else "text",
                "tags": ["a"],
                "owner": None if number % 2 else {"name": "x"},
                "odd name/with ~ and '": "kept",
                "accountId": "not the key",
                "accountID": "nor this",
            }
        return json.dumps(document).encode()

    emulator.faults.append(Fault(on("/v2/events"), Replace(dress), times=None))
    assert night(settings, own, publish=True).problems == []
    described = dict(
        query(
            settings.warehouse_published_path,
            "select column_name, data_type from duckdb_columns() where table_name = 'signals' and schema_name = 'marts'",
        )
    )
    expected = {
        "account_id": "VARCHAR",
        "record_id": "VARCHAR",
        "updated_at": "TIMESTAMP WITH TIME ZONE",
        "deposit_amount": "DECIMAL(38,9)",
        "is_open": "BOOLEAN",
        "tags": "JSON",
        "odd_name_with_and": "VARCHAR",
        "attribute_account_id": "VARCHAR",
        "related_account_id": "VARCHAR",
        "resources_ids": "VARCHAR[]",
        "service_id": "VARCHAR",
    }
    assert expected.items() <= described.items()
    values = query(
        settings.warehouse_published_path,
        """select distinct deposit_amount, odd_name_with_and, tags::VARCHAR from marts.signals order by 1""",
    )
    owners = query(settings.warehouse_published_path, "select distinct owner::VARCHAR from marts.signals order by 1")
    assert owners == [('{"name":"x"}',), (None,)]
    linked = query(settings.warehouse_published_path, "select record_id, resources_ids from marts.signals")
    assert {i: sorted(ids) for i, ids in linked} == {e.id: sorted(e.resources) for e in world.events.rows()}
    assert values == [(Decimal(12), "kept", '["a"]'), (Decimal("12.1"), "kept", '["a"]')]


def test_a_name_that_no_sql_can_hold_keeps_nothing_from_being_published(emulator: Emulator, tmp_path: Path) -> None:
    def add(body: bytes) -> bytes:
        document = json.loads(body)
        for record in document["data"]:
            record["attributes"]["a\0b"] = 1
        return json.dumps(document).encode()

    emulator.faults.append(Fault(on("/v2/events"), Replace(add), times=None))
    settings = settings_for(emulator, tmp_path)
    assert night(settings, contract(tmp_path), publish=True).problems == []
    ((document,),) = query(settings.warehouse_published_path, "select document from core.signals limit 1")
    assert json.loads(document)["data"]["attributes"]["a\0b"] == 1


def test_a_doubled_row_holds_publishing_back(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings, contract(tmp_path))
    warehouse = Warehouse(settings)
    with duckdb.connect(settings.warehouse_path) as connection:
        connection.execute("insert into core.signals select * from core.signals limit 1")
    with pytest.raises(Exception, match=r"rows_match_ledger_signals[\s\S]*unique_records_signals"):
        publish(warehouse, "r", "0")


def test_intent_events_are_off_until_they_are_switched_on(tmp_path: Path) -> None:
    world = World(seed=5, accounts=1, customers=20, bookings=60, events=2, years=1)
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        assert night(settings).problems == []
        assert emulator.count("/v2/intent-events") == 0
        assert "intent_events" not in {
            t for (t,) in query(settings.warehouse_path, "select table_name from duckdb_tables()")
        }
        own = contract_with(tmp_path, "[streams.intent_events]\nenabled = true\n")
        world.clock.advance(timedelta(hours=1))
        report = night(settings, own, publish=True)
        assert report.problems == []
        stored = query(
            settings.warehouse_published_path,
            "select record_id, source, customer_booking_id from marts.intent_events order by 1",
        )
        assert stored == sorted((e.id, e.source, e.customer_booking_id) for e in world.intent_events.rows())
        # Switched off again, what was read stays, and the file is published as before.
        world.clock.advance(timedelta(hours=1))
        assert night(settings, publish=True).problems == []
        assert len(query(settings.warehouse_published_path, "select 1 from marts.intent_events")) == len(stored)


def test_dagster_has_an_asset_and_checks_for_it(emulator: Emulator, tmp_path: Path) -> None:
    definitions = build(settings_for(emulator, tmp_path), contract(tmp_path))
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey("signals")
    assert key in graph.get_all_asset_keys()
    assert {k.name for k in graph.asset_check_keys if k.asset_key == key} >= {
        "unique_records_signals",
        "rows_match_ledger_signals",
        "watermark_gaps_signals",
        "standing_brakes_signals",
    }
    assert key in graph.get(dg.AssetKey("analytics")).parent_keys


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ('[streams.bookngs]\nsort = "x"', "Did you mean streams.bookings"),
        ('[streams.zzz]\nsort = "x"', "needs at least a path"),
        ('[streams.Services]\npath = "services"', "cannot be the name of a stream"),
        ('[streams.utc_offsets]\npath = "services"', "cannot be the name of a stream"),
        ('[streams.booking_customers]\npath = "services"', "cannot be the name of a stream"),
        ('[streams.services]\npath = "services"\nsrot = "x"', "Did you mean streams.services.sort"),
        ('[streams.services]\npath = "https://elsewhere.example.com/x"', "streams.services.path"),
    ],
)
def test_a_wrong_entry_is_told(toml: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=sentence):
        contract_with(tmp_path, toml)


def test_a_built_in_stream_can_be_switched_off(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    own = contract_with(tmp_path, "[streams.events]\nenabled = false\n")
    assert night(settings, own, publish=True).problems == []
    assert emulator.count("/v2/events") == 0
    assert "intent_events" not in streams_of(load_contract())


def test_names_that_are_taken_are_refused() -> None:
    children = {child.table for stream in BUILT_IN.values() for child in stream.children}
    assert ({*marts(), "analytics", "publish"} | children) - set(BUILT_IN) <= RESERVED


def test_a_stream_is_shaped_again_and_planned_before_its_first_sync(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    own = contract(tmp_path)
    streams = list(streams_of(own).values())
    planned = preview(settings, own, Warehouse(settings), Request("nightly"), streams)
    assert "signals" in {piece.slice.stream for piece in planned.slices}
    assert renormalise_once(settings, own, streams, "0").problems == []
