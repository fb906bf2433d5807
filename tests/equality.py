"""The one question of the end-to-end tests: does the warehouse equal the emulator's truth, value by value?

What lives here: running nights against an emulator and comparing. What does not: any expectation about how the product gets there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, date
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.plan import Kind, Request, Window
from pipelines.run import new_run_id, open_run
from pipelines.streams import Stream, changing
from pipelines.sync import RunReport, publish_run, sync_all
from resources import sql_files
from resources.contract import Contract, load_contract
from resources.database import connect
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.emulator import Emulator

ZONES = "sync_account_time_zones"
# Warehouses without a row by the folder of the SQL that made them; `conftest` adds one, of the SQL as it is.
EMPTY: dict[Path, Path] = {}


def settings_for(emulator: Emulator, folder: Path, **own: Any) -> Settings:
    """Settings for a warehouse in `folder` against an emulator, quick, and blind to the machine's own."""
    zones = {a.id: a.time_zone for a in emulator.world.accounts if a.time_zone}
    values: dict[str, Any] = {name.lower(): value for name, value in emulator.environment().items()}
    values |= {
        "warehouse_path": folder / "warehouse.duckdb",
        "warehouse_published_path": folder / "analytics.duckdb",
        "sync_requests_per_second": 100_000,
        "sync_history_start": date(2023, 1, 1),
        ZONES: zones,
    }
    return Settings(_env_file=None, **(values | own))  # type: ignore[call-arg]  # pydantic-settings' own argument


def contract_with(folder: Path, toml: str) -> Contract:
    """The default contract with some keys overridden."""
    file = folder / "contract.toml"
    file.write_text(toml, encoding="utf-8")
    return load_contract(file)


def night(
    settings: Settings,
    contract: Contract | None = None,
    kind: Kind = "nightly",
    *,
    streams: Sequence[Stream] | None = None,
    window: Window | None = None,
    publish: bool = False,
    is_over_unpublished: bool = False,
) -> RunReport:
    """One run by the same functions that the command line and the assets call. `is_over_unpublished`: as a day of a backfill, which others publish.

    Making the tables is half of what a small first night costs, so it finds them made. Runs by the command line and by Dagster begin with no file.
    """
    warehouse = Warehouse(settings)
    if sql_files.SQL_FOLDER in EMPTY and warehouse.path.parent.exists() and not warehouse.path.exists():
        shutil.copy(EMPTY[sql_files.SQL_FOLDER], warehouse.path)
    run_id = new_run_id()
    request = Request(kind, window)
    with open_run(
        settings,
        contract or load_contract(),
        warehouse,
        request,
        run_id=run_id,
        started_by="test",
        version="0",
        ends_with_publishing=not is_over_unpublished,
    ) as run:
        report = RunReport(run_id, kind, sync_all(run, changing(run.contract) if streams is None else streams))
    if publish:
        publish_run(warehouse, report, "0")
    return report


def query(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of a query on a closed warehouse."""
    with connect(path, read_only=True) as connection:
        return connection.execute(sql, values).fetchall()


def _plain(value: object) -> object:
    """Values as both sides may write them: JSON columns parsed, numbers in JSON as decimals, instants in UTC."""
    if isinstance(value, Decimal):
        return value.normalize()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float):
        return Decimal(str(value)).normalize()
    if hasattr(value, "astimezone"):
        return value.astimezone(UTC)
    return value


def differences(
    path: Path, truth: Mapping[str, Sequence[Mapping[str, object]]], most: int = 8, *, ignore: Sequence[str] = ()
) -> list[str]:
    """What the live rows of `core` have otherwise than the truth; empty where they are equal."""
    found: list[str] = []
    with connect(path, read_only=True) as connection:
        for table, expected_rows in truth.items():
            types = dict(
                connection.execute(
                    "select column_name, data_type from duckdb_columns() where schema_name = 'core' and table_name = ?",
                    [table],
                ).fetchall()
            )
            columns = [c for c in (expected_rows[0] if expected_rows else types) if c not in ignore]
            key = [c for c in columns if c in KEYS[table]]
            rows = connection.execute(
                f"select {', '.join(columns)} from core.{table} where deleted_at is null"  # noqa: S608
            ).fetchall()
            actual = {}
            for row in rows:
                named = {
                    c: _plain(json.loads(v, parse_float=Decimal) if types[c] == "JSON" and v is not None else v)
                    for c, v in zip(columns, row, strict=True)
                }
                actual[tuple(named[k] for k in key)] = named
            expected = {tuple(r[k] for k in key): {c: _plain(r[c]) for c in columns} for r in expected_rows}
            if len(actual) != len(rows):
                found.append(f"{table}: {len(rows) - len(actual)} duplicate keys")
            for name, keys in (
                ("missing", expected.keys() - actual.keys()),
                ("too many", actual.keys() - expected.keys()),
            ):
                if keys:
                    found.append(f"{table}: {len(keys)} {name}, such as {sorted(keys, key=str)[:2]}")
            for k in expected.keys() & actual.keys():
                wrong = {c: (expected[k][c], actual[k][c]) for c in columns if expected[k][c] != actual[k][c]}
                if wrong:
                    found.append(f"{table} {k}: (true, stored) {wrong}")
                    if len(found) > most:
                        return found
    return found


KEYS = {
    "accounts": ("account_id",),
    "customers": ("account_id", "customer_id"),
    "customer_custom_fields": ("account_id", "customer_id", "field_id"),
    "customer_tags": ("account_id", "customer_id", "tag"),
    "bookings": ("account_id", "booking_id"),
    "booking_customers": ("account_id", "booking_id", "customer_booking_id"),
    "booking_resources": ("account_id", "booking_id", "resource_id"),
    "booking_answers": ("account_id", "booking_id", "customer_booking_id", "question_id"),
    "events": ("account_id", "event_id"),
}
