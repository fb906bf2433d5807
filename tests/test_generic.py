"""A list that the contract adds is loaded, swept, checked and shown like the built-in ones, though no code knows its name."""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.utils import DISALLOWED_NAMES

from pipelines.assets import NIGHTLY, SWEEP
from pipelines.commands import renormalise_once
from pipelines.definitions import build
from pipelines.plan import Request
from pipelines.preview import preview
from pipelines.shell import converse
from pipelines.status import read_status
from pipelines.streams import BUILT_IN, streams_of
from resources.contract import RESERVED, Contract, load_contract
from resources.database import connect
from resources.errors import ContractError
from resources.generic import ensure_tables, refresh_views
from resources.migrations import open_for_writing
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


def test_a_list_that_was_never_read_to_the_end_is_not_left_out_of_the_status(
    emulator: Emulator, world: World, tmp_path: Path
) -> None:
    settings, own = (
        settings_for(emulator, tmp_path),
        contract_with(tmp_path, SIGNALS.replace('["events"]', '["signal"]')),
    )
    (problem,) = night(settings, own, publish=True).problems
    assert "type 'events' is not in streams.signals.types" in problem
    told = "select account_id, complete_until_at from marts.data_status where stream = 'signals' order by 1"
    expected = [(one.id, None) for one in sorted(world.accounts, key=lambda one: one.id)]
    assert query(settings.warehouse_published_path, told) == expected
    # Taken out of the contract again, it is nothing that anybody waits for.
    assert night(settings, publish=True).problems == []
    assert query(settings.warehouse_published_path, told) == []


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


def test_the_view_tells_what_its_own_columns_hold(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "r1", {"attributes": {"member": 1}})
    refresh_views(things)
    told = things.execute(
        "select column_name from duckdb_columns() where schema_name = 'marts' and table_name = 'things' and comment like '%.' order by 1"
    ).fetchall()
    assert told == [("account_id",), ("created_at",), ("record_id",), ("updated_at",)]
    (comment,) = things.execute("select comment from duckdb_views() where view_name = 'things'").fetchall()
    assert str(comment[0]).startswith("One row per live record of things.")


def test_the_shell_lists_its_view_too(things: duckdb.DuckDBPyConnection, capsys: pytest.CaptureFixture[str]) -> None:
    refresh_views(things)
    typed = iter([".views", ".quit"])
    converse(things, lambda _prompt: next(typed))
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == sorted(f"marts.{name}" for name in (*marts(), "things"))


@pytest.fixture
def things(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A working file with the table of one added stream, empty."""
    with open_for_writing(tmp_path / "warehouse.duckdb", 512) as connection:
        ensure_tables(connection, ["things"])
        yield connection


def store(connection: duckdb.DuckDBPyConnection, record_id: str, data: dict[str, Any]) -> None:
    """Put a record in place of the one with its id; like a merge, at the end of the table."""
    connection.execute("delete from core.things where record_id = ?", [record_id])
    connection.execute(
        "insert into core.things values ('a1', ?, null, null, null, null, ?, 'h', now(), 's')",
        [record_id, json.dumps({"data": data})],
    )


def described(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Names and types of the view's columns, in their order, without those that every such view has."""
    return [(name, kind) for name, kind, *_ in connection.execute("describe marts.things").fetchall()[4:]]


def held(connection: duckdb.DuckDBPyConnection, columns: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"select {columns} from marts.things order by record_id").fetchall()  # noqa: S608  names of the test


def test_a_column_stands_for_one_member_whatever_comes_later(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"attributes": {"name": "lower", "fooBar": "camel"}, "relationships": {"foo": {"data": None}}})
    refresh_views(things)
    first = [("foo_bar", "VARCHAR"), ("name", "VARCHAR")]
    assert described(things) == first

    # Members of the same names, in sorted order and in the file before those that have them.
    things.execute("delete from core.things")
    store(things, "0", {"attributes": {"FooBar": "pascal", "Name": "upper", "foo_bar": "snake", "aLate": 1}})
    store(
        things,
        "1",
        {"attributes": {"name": "lower", "fooBar": "camel"}, "relationships": {"foo": {"data": {"id": "f"}}}},
    )
    refresh_views(things)
    added = ["attribute_foo_bar", "attribute_name", "a_late", "attribute_attribute_foo_bar", "foo_id"]
    assert [name for name, _ in described(things)] == [*(name for name, _ in first), *added]
    assert held(things, "name, attribute_name, foo_bar, attribute_foo_bar, attribute_attribute_foo_bar") == [
        (None, "upper", None, "pascal", "snake"),
        ("lower", None, "camel", None, None),
    ]


@pytest.mark.parametrize("order", [("Name", "name"), ("name", "Name")])
def test_names_do_not_hang_on_the_order_of_records(things: duckdb.DuckDBPyConnection, order: tuple[str, str]) -> None:
    for member in order:
        store(things, member, {"attributes": {member: member}})
    refresh_views(things)
    assert held(things, "name, attribute_name") == [("Name", None), (None, "name")]


def test_a_name_without_a_letter_is_no_empty_one(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"attributes": {"%": 1, "-": 2}})
    refresh_views(things)
    assert held(things, "unnamed, attribute_unnamed") == [(1, 2)]


def test_a_column_stays_when_no_record_has_the_member_any_more(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"attributes": {"note": "x"}, "relationships": {"owner": {"data": {"id": "o"}}}})
    refresh_views(things)
    before = described(things)
    store(things, "1", {"attributes": {"other": 1}})
    refresh_views(things)
    assert described(things) == [*before, ("other", "BIGINT")]
    assert held(things, "note, owner_id, other") == [(None, None, 1)]


ONE, MANY = {"data": {"id": "1"}}, {"data": [{"id": "1"}, {"id": "2"}]}


@pytest.mark.parametrize(
    ("first", "kind", "later", "after", "values"),
    [
        # A whole number widens, also where other values are of other types; nothing else changes its type.
        ([1, -2], "BIGINT", [12.5, "free"], "DECIMAL(38,9)", [Decimal("12.5"), None]),
        ([1], "BIGINT", ["12.5", "12", True, 2**63], "BIGINT", [None, 12, None, None]),
        ([12.5, 3, -2], "DECIMAL(38,9)", ["free", "3.10", 4, []], "DECIMAL(38,9)", [None, Decimal("3.1"), Decimal(4), None]),
        ([True], "BOOLEAN", ["yes", 1, "false", None], "BOOLEAN", [None, None, False, None]),
        (["x"], "VARCHAR", [1, 1.5, True, {"a": 1}], "VARCHAR", ["1", "1.5", "true", '{"a":1}']),
        ([1, "x"], "JSON", [1, 1.5], "JSON", ["1", "1.5"]),
        ([[]], "JSON", ["x", None], "JSON", ['"x"', None]),
    ],
)  # fmt: skip
def test_a_column_keeps_its_type(
    things: duckdb.DuckDBPyConnection, first: list[Any], kind: str, later: list[Any], after: str, values: list[Any]
) -> None:
    for number, value in enumerate(first):
        store(things, str(number), {"attributes": {"amount": value}})
    refresh_views(things)
    assert described(things) == [("amount", kind)]
    things.execute("delete from core.things")
    for number, value in enumerate(later):
        store(things, str(number), {"attributes": {"amount": value}})
    refresh_views(things)
    assert described(things) == [("amount", after)]
    assert held(things, "amount") == [(value,) for value in values]


def test_a_relationship_keeps_its_form(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"relationships": {"one": ONE, "many": MANY, "linked": {"links": {}}, "empty": []}})
    refresh_views(things)
    assert described(things) == [("many_ids", "VARCHAR[]"), ("one_id", "VARCHAR")]
    store(things, "2", {"relationships": {"one": MANY, "many": ONE}})
    refresh_views(things)
    assert described(things) == [("many_ids", "VARCHAR[]"), ("one_id", "VARCHAR")]
    assert held(things, "one_id, many_ids") == [("1", ["1", "2"]), (None, None)]


def test_a_member_gets_its_column_with_its_first_value(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"attributes": {"amount": None, "title": "x"}})
    store(things, "2", {"attributes": []})  # as some servers write an empty object: it hides nothing
    refresh_views(things)
    assert described(things) == [("title", "VARCHAR")]
    store(things, "2", {"attributes": {"amount": 1.5}})
    refresh_views(things)
    assert described(things) == [("title", "VARCHAR"), ("amount", "DECIMAL(38,9)")]


def test_a_night_that_brings_no_member_writes_none(things: duckdb.DuckDBPyConnection) -> None:
    store(things, "1", {"attributes": {"amount": 1, "title": "x"}})
    refresh_views(things)
    before = things.execute("select rowid, * from ops.generic_columns order by all").fetchall()
    store(things, "1", {"attributes": {"amount": 2, "title": "y"}})
    refresh_views(things)
    assert things.execute("select rowid, * from ops.generic_columns order by all").fetchall() == before
    assert [row[1:7] for row in before] == [
        ("things", "attribute", "amount", "amount", "BIGINT", 1),
        ("things", "attribute", "title", "title", "VARCHAR", 2),
    ]


def test_looking_for_members_does_not_take_memory_by_records(things: duckdb.DuckDBPyConnection) -> None:
    attributes = {f"member{number}": number for number in range(12)}
    store(things, "1", {"attributes": attributes})
    things.execute("insert into core.things select things.* from core.things, range(60000)")
    things.execute("set memory_limit = '96MB'")
    refresh_views(things)
    assert len(described(things)) == len(attributes)


def test_the_column_of_a_member_that_is_redacted_later_goes(emulator: Emulator, tmp_path: Path) -> None:
    def add(body: bytes) -> bytes:
        document = json.loads(body)
        for record in document["data"]:
            record["attributes"]["door_code"] = "1234"
        return json.dumps(document).encode()

    emulator.faults.append(Fault(on("/v2/events"), Replace(add), times=None))
    settings = settings_for(emulator, tmp_path)
    assert night(settings, contract(tmp_path), publish=True).problems == []
    columns = "select column_name, place from ops.generic_columns where stream = 'signals' order by place"
    before = query(settings.warehouse_published_path, columns)
    assert "door_code" in [name for name, _ in before]

    own = contract(tmp_path, '[redact]\nmembers = ["doorCode"]\n')
    assert renormalise_once(settings, own, list(streams_of(own).values()), "0").problems == []
    expected = [(name, place) for name, place in before if name != "door_code"]
    assert query(settings.warehouse_published_path, columns) == expected
    shown = query(settings.warehouse_published_path, "describe marts.signals")
    assert [row[0] for row in shown[4:]] == [name for name, _ in expected]


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
    with connect(settings.warehouse_path, read_only=False) as connection:
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
        ('[streams.class]\npath = "classes"', "no keyword of Python's"),
        ('[streams.customers_checks]\npath = "checks"', "not _checks at its end"),
        ('[streams.type]\npath = "types"', "cannot be the name of a stream"),
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
    assert {NIGHTLY, SWEEP} <= RESERVED
    assert {name for name in DISALLOWED_NAMES if not keyword.iskeyword(name)} <= RESERVED


def test_a_stream_is_shaped_again_and_planned_before_its_first_sync(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    own = contract(tmp_path)
    streams = list(streams_of(own).values())
    planned = preview(settings, own, Warehouse(settings), Request("nightly"), streams)
    assert "signals" in {piece.slice.stream for piece in planned.slices}
    assert renormalise_once(settings, own, streams, "0").problems == []
