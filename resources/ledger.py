"""Bookkeeping of a commit: the ledger and the windows, drift, quarantine, evidence. Inside the transaction that writes the rows.

What lives here: writing `ops`. What does not: reading it (`state`), runs (`runs`), rows (`merging`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import msgspec

from resources.database import columns_of
from resources.part import Commit, Counts


@dataclass
class Drift:
    """Something that arrived otherwise than the contract says: see `ops.drift`, whose columns these are."""

    stream: str
    kind: str
    path: str
    detail: str
    first_seen_at: datetime
    last_seen_at: datetime
    seen_count: int
    example_record_id: str | None


def write(connection: duckdb.DuckDBPyConnection, commit: Commit, counts: Sequence[Counts]) -> None:
    """Everything that a commit says of itself; `counts` by part, in their order."""
    note_drift(connection, _drift(commit))
    _insert(connection, "quarantine", _quarantine(commit))
    _insert(connection, "reconciliations", _evidence(commit))
    _write_brakes(connection, commit)
    _write_ledger(connection, commit, counts)
    if commit.shape is not None:
        is_used = any(own.inserted or own.updated for own in counts)
        note_shape(connection, commit.table.stream, commit.shape, is_used=is_used)


def note_shape(connection: duckdb.DuckDBPyConnection, stream: str, shape: str, *, is_used: bool = True) -> None:
    """Note that rows of a stream are shaped by a contract, the first time that one does; one that has shaped no row is only noted until the next."""
    connection.execute("delete from ops.shapes where stream = ? and first_used_at is null", [stream])
    connection.execute(
        """
        insert into ops.shapes select $stream, $shape, case when $is_used then now() end
        where not exists (from ops.shapes where stream = $stream and contract_hash = $shape)
        """,
        {"stream": stream, "shape": shape, "is_used": is_used},
    )


def note_drift(connection: duckdb.DuckDBPyConnection, seen: Sequence[Drift]) -> None:
    """What is known already is counted there, else it is a new row. Each of `seen` has a key of its own."""
    if seen:
        connection.execute(
            f"""
            merge into ops.drift as known using ({_unnested(connection, "drift")}) as seen using (stream, kind, path, detail)
            when matched then update set
                last_seen_at = greatest(known.last_seen_at, seen.last_seen_at), seen_count = known.seen_count + seen.seen_count
            when not matched then insert by name
            """,
            {"rows": _json(map(vars, seen))},
        )


def _drift(commit: Commit) -> list[Drift]:
    """Drift of all parts, each kind of it once."""
    found: dict[tuple[str, str, str], Drift] = {}
    for part in commit.parts:
        for kind, path, detail, count, example in part.drift:
            known = found.get((kind, path, detail))
            if known is None:
                at = part.fetched_at
                found[kind, path, detail] = Drift(commit.table.stream, kind, path, detail, at, at, count, example)
            else:
                known.first_seen_at = min(known.first_seen_at, part.fetched_at)
                known.last_seen_at = max(known.last_seen_at, part.fetched_at)
                known.seen_count += count
    return list(found.values())


def _quarantine(commit: Commit) -> list[dict[str, object]]:
    return [
        {
            "slice_id": part.slice_id,
            "part_number": part.part_number,
            "position": position,
            "stream": commit.table.stream,
            "reason": reason,
            "record": record,
            "fetched_at": fetched_at,
        }
        for part in commit.parts
        for position, (reason, record, fetched_at) in enumerate(part.quarantine, 1)
    ]


def _evidence(commit: Commit) -> list[dict[str, object]]:
    return [
        {
            "slice_id": part.slice_id,
            "run_id": part.run_id,
            "stream": commit.table.stream,
            "api_client": part.api_client,
            **vars(reconciliation),
        }
        for part in commit.parts
        for reconciliation in part.reconciliations
    ]


def _write_brakes(connection: duckdb.DuckDBPyConnection, commit: Commit) -> None:
    """Brakes that a sweep put on. Whatever stood before it for an account, be it ended or stopped now, is over."""
    for part in commit.parts:
        if part.kind == "sweep" and part.is_last_part:
            judged = [*part.account_ids, *(brake.account_id for brake in part.brakes)]
            connection.execute(
                """
                update ops.brakes set ended_by_slice_id = $slice_id
                where stream = $stream and list_contains($account_ids, account_id) and ended_by_slice_id is null
                """,
                {"slice_id": part.slice_id, "stream": commit.table.stream, "account_ids": judged},
            )
    stopped = [
        {
            "stream": commit.table.stream,
            "slice_id": part.slice_id,
            "run_id": part.run_id,
            "stopped_at": part.fetched_at,
            **vars(brake),
        }
        for part in commit.parts
        for brake in part.brakes
    ]
    _insert(connection, "brakes", stopped)


def _write_ledger(connection: duckdb.DuckDBPyConnection, commit: Commit, counts: Sequence[Counts]) -> None:
    """The ledger row of each part, and with the last part of a slice the window of each account."""
    committed_at = datetime.now(UTC)
    slices: list[dict[str, object]] = [
        {
            "slice_id": part.slice_id,
            "part_number": part.part_number,
            "is_last_part": part.is_last_part,
            "run_id": part.run_id,
            "stream": commit.table.stream,
            "api_client": part.api_client,
            "kind": part.kind,
            "account_ids": list(part.account_ids),
            "since": part.since,
            "until": part.until,
            "pages_count": part.pages_count,
            **{f"{name}_count": value for name, value in vars(own).items()},
            "fetched_at": part.fetched_at,
            "committed_at": committed_at,
        }
        for part, own in zip(commit.parts, counts, strict=True)
    ]
    _insert(connection, "slices", slices)
    ended = [row for row in slices if row["is_last_part"]]
    if ended:
        connection.execute(
            f"""
            insert into ops.windows
            select stream, unnest(account_ids), since, until, kind, slice_id, run_id from ({_unnested(connection, "slices")})
            """,  # noqa: S608  names come from the catalogue
            {"rows": _json(ended)},
        )


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        statement = f"insert into ops.{table} by name {_unnested(connection, table)}"
        connection.execute(statement, {"rows": _json(rows)})


def _unnested(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The rows of the one parameter `$rows` as a query with the columns of a table of `ops`; what a row does not name is null.

    One text instead of a parameter for each value: DuckDB takes a tenth of a millisecond for each list among its parameters.
    """
    shape = ", ".join(f'"{name}": "{kind}"' for name, kind in columns_of(connection, f"ops.{table}").items())
    return f"select unnest(from_json($rows, '[{{{shape}}}]'), max_depth := 2)"


def _json(rows: Iterable[Mapping[str, object]]) -> str:
    return msgspec.json.encode(list(rows)).decode()
