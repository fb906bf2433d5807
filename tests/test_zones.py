"""The zone of each account: where it is from, what is said where there is none, and that a change reaches the dates that are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines import zones as module
from pipelines.normalise import combine, normalise
from pipelines.records import Fetched
from pipelines.streams import ACCOUNTS, CUSTOMERS, Stream, shape_of
from pipelines.zones import account_zones, choose
from resources.contract import load_contract
from resources.envelope import decode
from resources.part import Part
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer
from tests.commits import commit_of

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CONTRACT = load_contract()
BORN = 1684105200  # the vendor's example: 15 May 2023 in London, 14 May in UTC and in New York


def settings(folder: Path, wanted: dict[str, str] | None = None, zone: str = "UTC") -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own argument
        warehouse_path=folder / "warehouse.duckdb",
        sync_time_zone=zone,
        sync_account_time_zones=wanted or {},
    )


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Warehouse(settings(tmp_path)).writer("a test", wait_s=0) as one:
        yield one


def put(writer: Writer, stream: Stream, records: list[dict[str, Any]], zones: dict[str, str], second: int = 0) -> None:
    at = NOW.replace(second=second)
    pages = [Fetched(r, {}, at) for r in decode(json.dumps(records))]
    batch = combine([normalise(stream, CONTRACT, pages, zones)])
    part = Part(
        slice_id=f"{stream.name}{second}",
        part_number=1,
        is_last_part=True,
        run_id="r",
        api_client="north",
        kind="nightly",
        account_ids=["a1"],
        since=None,
        until=NOW,
        pages_count=1,
        fetched_at=at,
    )
    writer.commit(commit_of(stream.target, part, batch.rows, batch.children))


def accounts(writer: Writer, zones: dict[str, str | None], second: int = 0) -> None:
    records = [
        {"type": "accounts", "id": a, "attributes": {"name": a, "slug": f"shop-{a}", **({"timezone": z} if z else {})}}
        for a, z in zones.items()
    ]
    put(writer, ACCOUNTS, records, {}, second)


def customers(writer: Writer, zones: dict[str, str], *names: str) -> None:
    fields = [{"id": "date_of_birth", "value": BORN}, {"id": "other", "value": BORN}]
    records = [
        {
            "type": "customers",
            "id": f"c-{a}",
            "attributes": {"customFields": fields},
            "relationships": {"account": {"data": {"type": "accounts", "id": a}}},
        }
        for a in names
    ]
    put(writer, CUSTOMERS, records, zones)


def born(writer: Writer) -> dict[str, date | None]:
    return dict(
        writer.connection.execute(
            "select account_id, value_on from core.customer_custom_fields where field_id = 'date_of_birth' and deleted_at is null"
        ).fetchall()
    )


def stored(writer: Writer) -> list[tuple[Any, ...]]:
    return writer.connection.execute(
        "select account_id, time_zone, source, reporting_time_zone, is_zone_assumed from ops.account_time_zones order by all"
    ).fetchall()


WANTED = {"a1": "Europe/London", "shop": "Europe/Madrid"}


@pytest.mark.parametrize(
    ("account", "slug", "sent", "expected"),
    [
        ("a1", "shop", "Asia/Tokyo", ("Europe/London", "setting")),  # the id before the slug
        ("a2", "shop", "Asia/Tokyo", ("Europe/Madrid", "setting")),  # the setting before the API
        ("a2", "other", "Asia/Tokyo", ("Asia/Tokyo", "api")),
        ("a2", None, "Asia/Tokyo", ("Asia/Tokyo", "api")),
        ("a2", None, None, (None, "none")),
        ("a2", "", "", (None, "none")),
    ],
)
def test_choose(account: str, slug: str | None, sent: str | None, expected: tuple[str | None, str]) -> None:
    assert choose(account, slug, sent, WANTED) == expected


def test_zones_in_use_are_written_down_and_missing_ones_told(writer: Writer, tmp_path: Path) -> None:
    accounts(writer, {"a1": None, "a2": "Asia/Tokyo", "a3": None})
    warnings: list[str] = []
    found = account_zones(
        writer, settings(tmp_path, {"shop-a1": "Europe/London", "nobody": "UTC"}, "Europe/Paris"), CONTRACT, warnings
    )
    assert found == {"a1": "Europe/London", "a2": "Asia/Tokyo"}
    assert stored(writer) == [
        ("a1", "Europe/London", "setting", "Europe/London", False),
        ("a2", "Asia/Tokyo", "api", "Asia/Tokyo", False),
        ("a3", None, "none", "Europe/Paris", True),
    ]
    missing, strangers = warnings
    assert missing.startswith("No time zone is known for shop-a3: ")
    assert "SYNC_TIME_ZONE=Europe/Paris" in missing
    assert '{"shop-a3": "Europe/London"}' in missing
    assert strangers == "SYNC_ACCOUNT_TIME_ZONES names accounts that nobody has seen: nobody."


def test_many_accounts_without_a_zone_are_counted(writer: Writer, tmp_path: Path) -> None:
    accounts(writer, dict.fromkeys("abcdefg"))
    warnings: list[str] = []
    account_zones(writer, settings(tmp_path), CONTRACT, warnings)
    assert "shop-a, shop-b, shop-c, shop-d, shop-e and 2 more:" in warnings[0]


def test_a_zone_that_changes_moves_the_dates_of_its_own_account(writer: Writer, tmp_path: Path) -> None:
    accounts(writer, {"a1": None, "a2": "Europe/London", "a3": "UTC"})
    warnings: list[str] = []
    found = account_zones(writer, settings(tmp_path), CONTRACT, warnings)
    customers(writer, found, "a1", "a2", "a3")
    assert born(writer) == {"a1": None, "a2": date(2023, 5, 15), "a3": date(2023, 5, 14)}
    bookkeeping = writer.connection.execute("select * from core.customers order by all").fetchall()
    writer.note_shape("customers", "an older contract", of_all_rows=True)

    warnings.clear()
    accounts(writer, {"a1": None, "a2": "America/New_York", "a3": "UTC"}, second=1)
    account_zones(writer, settings(tmp_path, {"a1": "Europe/London"}), CONTRACT, warnings)
    assert warnings == ["The time zone of 2 accounts changed; the dates of 2 customers were read again."]
    assert born(writer) == {"a1": date(2023, 5, 15), "a2": date(2023, 5, 14), "a3": date(2023, 5, 14)}
    assert writer.connection.execute("select * from core.customers order by all").fetchall() == bookkeeping
    others = writer.connection.execute(
        "select distinct value_on from core.customer_custom_fields where field_id = 'other'"
    ).fetchall()
    assert others == [(None,)]
    shapes = writer.connection.execute("select contract_hash from ops.shapes where stream = 'customers'").fetchall()
    assert set(shapes) == {("an older contract",), (shape_of(CUSTOMERS, CONTRACT),)}  # the rows of a3 are as they were

    warnings.clear()
    account_zones(writer, settings(tmp_path, {"a1": "Europe/London"}), CONTRACT, warnings)
    assert warnings == []


def test_a_zone_that_is_taken_away_takes_the_dates_with_it(writer: Writer, tmp_path: Path) -> None:
    accounts(writer, {"a1": None})
    found = account_zones(writer, settings(tmp_path, {"a1": "Europe/London"}), CONTRACT, [])
    customers(writer, found, "a1")
    account_zones(writer, settings(tmp_path), CONTRACT, [])
    assert born(writer) == {"a1": None}


def test_a_run_that_dies_while_dates_are_read_again_is_made_good(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(writer, {"a1": "UTC"})
    customers(writer, account_zones(writer, settings(tmp_path), CONTRACT, []), "a1")
    london = settings(tmp_path, {"a1": "Europe/London"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "renormalise_stream", die)
        with pytest.raises(KeyboardInterrupt):
            account_zones(writer, london, CONTRACT, [])
    account_zones(writer, london, CONTRACT, [])
    assert born(writer) == {"a1": date(2023, 5, 15)}
