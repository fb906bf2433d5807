"""Records and commits as tests make them: one part with all its rows, where a run gathers the parts of several slices (`pipelines.run.commit_parts`)."""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings

from pipelines.normalise import combine, normalise
from pipelines.records import Fetched, index
from pipelines.streams import ACCOUNTS, BOOKINGS, CUSTOMERS, Stream
from resources.contract import Contract, load_contract
from resources.envelope import decode
from resources.part import Commit, Counts, Part, Table
from resources.runs import Limits
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer


def commit_of(table: Table, part: Part, rows: pl.DataFrame, children: Mapping[str, pl.DataFrame]) -> Commit:
    """A commit of one part, with which all the rows came."""
    return Commit(table, rows.with_columns(pl.lit(part.slice_id).alias("slice_id")), children, (part,))


Json = dict[str, Any]
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
CONTRACT = load_contract()
ZONES = {"a1": "Europe/London"}
LIMITS = Limits(overlap_minutes=1440, freshness_hours=36)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def warehouse_in(folder: Path) -> Warehouse:
    return Warehouse(
        Settings(
            _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own argument
            warehouse_path=folder / "warehouse.duckdb",
            warehouse_published_path=folder / "public" / "analytics.duckdb",
        )
    )


def resource(kind: str, record_id: str, account: str = "a1", related: Json | None = None, **attributes: Any) -> Json:
    relationships = {"account": {"data": {"type": "accounts", "id": account}}, **(related or {})}
    return {"type": kind, "id": record_id, "attributes": attributes, "relationships": relationships}


def booking(
    record_id: str = "b1", updated: float | None = 0, account: str = "a1", related: Json | None = None, **more: Any
) -> Json:
    stamp = {} if updated is None else {"updated": later(updated).isoformat()}
    return resource("bookings", record_id, account, related, **stamp, **more)


def part_of(
    stream: Stream,
    records: Sequence[Json] = (),
    *,
    fetched: float = 0,
    included: Sequence[Json] = (),
    contract: Contract = CONTRACT,
    default: str | None = None,
    **own: Any,
) -> Commit:
    """What a slice would commit that read these records."""
    wire = decode(json.dumps([list(records), list(included)]))
    pages = [Fetched(record, index(wire[1]), later(fetched)) for record in wire[0]]
    batch = combine([normalise(stream, contract, pages, ZONES, default if stream.id_column else "a1")])
    values: Json = {
        "slice_id": f"s{fetched}",
        "part_number": 1,
        "is_last_part": True,
        "run_id": "r1",
        "api_client": "north",
        "kind": "nightly",
        "account_ids": ["a1"],
        "since": None,
        "until": NOW,
        "pages_count": 1,
        "fetched_at": later(fetched),
        "read_count": batch.read_count,
        "duplicate_count": batch.duplicate_count,
        "quarantine": batch.quarantine,
    }
    return commit_of(stream.target, Part(**(values | own)), batch.rows, batch.children)


def put(writer: Writer, *records: Json, fetched: float = 0, **own: Any) -> Counts:
    stream = {"bookings": BOOKINGS, "customers": CUSTOMERS, "accounts": ACCOUNTS}[records[0]["type"]]
    (counts,) = writer.commit(part_of(stream, records, fetched=fetched, **own))
    return counts


def rows(writer: Writer, sql: str) -> list[tuple[Any, ...]]:
    return writer.connection.execute(sql).fetchall()


def gone(writer: Writer, *keys: tuple[str, str], at: float = 10, fetched: float | None = None) -> Counts:
    frame = pl.DataFrame(
        [(*key, "single GET (404)", later(at)) for key in keys],
        schema={
            "account_id": pl.String,
            "booking_id": pl.String,
            "evidence": pl.String,
            "at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    (counts,) = writer.commit(part_of(BOOKINGS, fetched=at if fetched is None else fetched, gone=frame))
    return counts


def people(*names: str, **more: Any) -> list[Json]:
    return [
        {"customer_booking_id": n, "customer_id": f"c-{n}", "spaces": 1, "questions": [{"id": "q", "value": n}], **more}
        for n in names
    ]


def listed(writer: Writer, table: str = "booking_customers", column: str = "customer_booking_id") -> dict[str, bool]:
    """Child → is it live."""
    found = rows(writer, f"select {column}, deleted_at is null from core.{table} order by all")
    assert len(dict(found)) == len(found)
    return dict(found)


def answers(writer: Writer) -> dict[tuple[str, str], bool]:
    """Participation and question → whether the answer is live."""
    found = rows(writer, "select customer_booking_id, question_id, deleted_at is null from core.booking_answers")
    return {(person, question): is_live for person, question, is_live in found}


def one_who(name: str, *questions: str | None) -> Json:
    """A participant with a list of answers, or with none where that is None."""
    asked = {} if questions == (None,) else {"questions": [{"id": q, "value": name} for q in questions]}
    return {"customer_booking_id": name, "customer_id": f"c-{name}", **asked}
