"""Bookkeeping of a commit: the ledger and the windows, drift, quarantine, evidence. Inside the transaction that writes the rows.

What lives here: writing `ops`. What does not: reading it (`warehouse`), rows (`merging`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb

from resources.part import Counts, Part


def note(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """Drift, quarantine and evidence of a part."""
    for kind, path, detail, count, example in part.drift:
        note_drift(connection, part.table.stream, kind, path, detail, count, example, part.fetched_at)
    for position, (reason, record, fetched_at) in enumerate(part.quarantine, 1):
        connection.execute(
            "insert into ops.quarantine values (?, ?, ?, ?, ?, ?, ?)",
            [part.slice_id, part.part_number, position, part.table.stream, reason, record, fetched_at],
        )
    for r in part.reconciliations:
        evidence = {
            "slice_id": part.slice_id,
            "run_id": part.run_id,
            "stream": part.table.stream,
            "api_client": part.api_client,
            **vars(r),
        }
        _insert(connection, "reconciliations", evidence)


def note_drift(
    connection: duckdb.DuckDBPyConnection,
    stream: str,
    kind: str,
    path: str,
    detail: str,
    count: int,
    example: str | None,
    at: datetime,
) -> None:
    """Something that arrived otherwise than the contract says: counted where it is known, else a new row."""
    connection.execute(
        """
        merge into ops.drift as known
        using (select $stream as stream, $kind as kind, $path as path, $detail as detail) as seen
        using (stream, kind, path, detail)
        when matched then update set last_seen_at = greatest(known.last_seen_at, $at), seen_count = known.seen_count + $count
        when not matched then insert values ($stream, $kind, $path, $detail, $at, $at, $count, $example)
        """,
        {
            "stream": stream,
            "kind": kind,
            "path": path,
            "detail": detail,
            "at": at,
            "count": count,
            "example": example,
        },
    )


def write_brakes(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """Brakes that a sweep put on; those of accounts that it ended without one are over."""
    if part.kind == "sweep" and part.is_last_part:
        connection.execute(
            """
            update ops.brakes set ended_by_slice_id = $slice_id
            where stream = $stream and list_contains($account_ids, account_id) and ended_by_slice_id is null
            """,
            {"slice_id": part.slice_id, "stream": part.table.stream, "account_ids": list(part.account_ids)},
        )
    for brake in part.brakes:
        stopped = {
            "stream": part.table.stream,
            "slice_id": part.slice_id,
            "run_id": part.run_id,
            "stopped_at": part.fetched_at,
        }
        _insert(connection, "brakes", stopped | vars(brake))


def write_ledger(connection: duckdb.DuckDBPyConnection, part: Part, counts: Counts) -> None:
    """The ledger row of a part, and with the last part the window of each account."""
    known = {
        "slice_id": part.slice_id,
        "part_number": part.part_number,
        "is_last_part": part.is_last_part,
        "run_id": part.run_id,
        "stream": part.table.stream,
        "api_client": part.api_client,
        "kind": part.kind,
        "account_ids": list(part.account_ids),
        "since": part.since,
        "until": part.until,
        "pages_count": part.pages_count,
        **{f"{name}_count": value for name, value in vars(counts).items()},
        "fetched_at": part.fetched_at,
        "committed_at": datetime.now(UTC),
    }
    _insert(connection, "slices", known)
    if part.is_last_part:
        connection.execute(
            """
            insert into ops.windows
            select $stream, unnest($account_ids::VARCHAR[]), $since, $until, $kind, $slice_id, $run_id
            """,
            {k: known[k] for k in ("stream", "account_ids", "since", "until", "kind", "slice_id", "run_id")},
        )


def _insert(connection: duckdb.DuckDBPyConnection, table: str, row: Mapping[str, object]) -> None:
    names, marks = ", ".join(row), ", ".join(f"${name}" for name in row)
    connection.execute(f"insert into ops.{table} ({names}) values ({marks})", dict(row))  # noqa: S608  names are ours
