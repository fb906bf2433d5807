"""What is stored, asked through a connection: how far each stream is, which rows and documents there are, which brakes stand.

What lives here: reading, for those who decide what to ask, to commit or to release; a connection that cannot write will do. What does not: changing
anything (`warehouse`, `runs`), what a person is shown (`pipelines.status`). Streams are named by their table; all instants are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from resources.frames import registered
from resources.generic import generic_streams
from resources.part import Table
from resources.sql_files import sql_file

if TYPE_CHECKING:
    import polars as pl  # slow to import, and reading a status needs none of it

# Two weekly sweeps: a release is for what a person has seen, not for what the account may hold one day.
RELEASED_DAYS = 14


@dataclass(frozen=True)
class StandingBrake:
    """A sweep that stopped at an account and was not followed by one that ended: see `ops.brakes`."""

    stream: str
    account_id: str
    gone_count: int
    rows_count: int
    stopped_at: datetime
    released_at: datetime | None


@dataclass
class State:
    """Questions to the warehouse; none changes anything."""

    connection: duckdb.DuckDBPyConnection

    def windows(
        self, stream: str, served: Mapping[str, str] | None = None, api_clients: Sequence[str] = ()
    ) -> dict[str, list[tuple[datetime | None, datetime]]]:
        """Committed windows of a stream by account: (since, or None for the open start; until).

        `served`: account → the API client that serves it now. What one further down among `api_clients` read in its stead, once it has read the account
        itself, does not count: it may have shown less.
        """
        found: dict[str, list[tuple[datetime | None, datetime]]] = {}
        # The accounts of a slice share its window: DuckDB hands out the instants once for all of them, which is what costs.
        rows = self.connection.execute(
            """
            with served as (select unnest($accounts::VARCHAR[]) as account_id, unnest($by::VARCHAR[]) as served_by),
            slices as (select distinct slice_id, api_client from ops.slices where stream = $stream and is_last_part),
            known as (
                select
                    account_id, since, until, number, list_position($order::VARCHAR[], api_client) > list_position($order, served_by) as is_stead,
                    min(number) filter (where api_client = served_by) over (partition by account_id) as own_number
                from ops.windows
                left join slices using (slice_id)
                left join served using (account_id)
                left join (select run_id, number from ops.runs) as runs using (run_id)
                where stream = $stream
            )
            select since, until, list(account_id) from known
            where (is_stead and number > own_number) is not true
            group by all order by all
            """,
            {
                "stream": stream,
                "accounts": list(served or ()),
                "by": list((served or {}).values()),
                "order": list(api_clients),
            },
        ).fetchall()
        for since, until, accounts in rows:
            for account_id in accounts:
                found.setdefault(account_id, []).append((since, until))
        return found

    def asked(self, stream: str) -> frozenset[str] | None:
        """What a list was asked for when its windows were committed: see `ops.asked`. None where that is not known, as of a file from before that table."""
        if not self.connection.execute(
            "from duckdb_tables() where schema_name = 'ops' and table_name = 'asked'"
        ).fetchall():
            return None
        row = self.connection.execute("select parts from ops.asked where stream = ?", [stream]).fetchone()
        return frozenset(row[0]) if row else None

    def is_published_by(self, run_id: str) -> bool:
        """Whether this file says that a run published: of a published file that it is that run's, of the working file that it is noted there."""
        return bool(self.connection.execute("from ops.publications where run_id = ?", [run_id]).fetchall())

    def watermarks(self, stream: str) -> dict[str, datetime | None]:
        """Watermark of each account of a stream."""
        rows = self.connection.execute(
            "select account_id, watermark_at from ops.watermarks where stream = ?", [stream]
        ).fetchall()
        return dict(rows)

    def swept(self, stream: str) -> set[str]:
        """Accounts of a stream that were ever swept."""
        rows = self.connection.execute(
            "select distinct account_id from ops.windows where stream = ? and kind = 'sweep'", [stream]
        ).fetchall()
        return {account_id for (account_id,) in rows}

    def accounts(self) -> list[tuple[str, str | None, str | None]]:
        """Live accounts: (account_id, slug, time zone that the API sent)."""
        return self.connection.execute(
            "select account_id, slug, time_zone from core.accounts where deleted_at is null order by account_id"
        ).fetchall()

    def changed_time_zones(self, zones: pl.DataFrame) -> list[str]:
        """The accounts in the frame whose zone is not the one that their customers were read with.

        An account that is new is among them only where customers of it came before it was listed: they were read without a zone.
        """
        with registered(self.connection, zones=zones):
            changed = self.connection.execute(
                """
                select zones.account_id from zones left join ops.account_time_zones as known using (account_id)
                where zones.time_zone is distinct from known.time_zone
                    and (known.account_id is not null or zones.account_id in (select account_id from core.customers))
                order by all
                """
            ).fetchall()
        return [account_id for (account_id,) in changed]

    def earliest_change(self, stream: str, account_ids: Sequence[str]) -> datetime | None:
        """The earliest change time among the rows of some accounts, dead ones included; None where none has one."""
        row = self.connection.execute(
            f"select min(updated_at) from core.{stream} where list_contains($account_ids, account_id)",  # noqa: S608  the stream's name is ours
            {"account_ids": list(account_ids)},
        ).fetchone()
        return row[0] if row else None

    def undated_count(self, stream: str) -> int:
        """Live rows without a change time."""
        row = self.connection.execute(
            f"select count(*) from core.{stream} where updated_at is null and deleted_at is null"  # noqa: S608  the stream's name is ours
        ).fetchone()
        return int(row[0]) if row else 0

    def count_rows(self, stream: str, account_ids: Sequence[str], since: datetime | None, until: datetime) -> int:
        """Live and dead rows of a stream whose last change lies in a window; for estimates. 0 where the contract has just added the stream."""
        if not self.connection.execute(
            "select 1 from duckdb_tables() where schema_name = 'core' and table_name = ?", [stream]
        ).fetchone():
            return 0
        row = self.connection.execute(
            f"""
            select count(*) from core.{stream}
            where list_contains($accounts, account_id)
                and ($since is null or updated_at >= $since::TIMESTAMPTZ) and (updated_at is null or updated_at < $until)
            """,  # noqa: S608  the stream's name is ours
            {"accounts": list(account_ids), "since": since, "until": until},
        ).fetchone()
        return int(row[0]) if row else 0

    def live_counts(self, stream: str, account_ids: Sequence[str]) -> dict[str, int]:
        """Live rows of a stream by account."""
        rows = self.connection.execute(
            f"""
            select account_id, count(*) from core.{stream}
            where deleted_at is null and list_contains($account_ids, account_id) group by account_id
            """,  # noqa: S608  the stream's name is ours
            {"account_ids": list(account_ids)},
        ).fetchall()
        return dict(rows)

    def filled(self, stream: str, columns: Sequence[str]) -> set[str]:
        """The columns of a stream's table that hold a value in any row."""
        # One look for each column that ends at the first value, instead of a count of all.
        looks = (f"(select '{c}' from core.{stream} where {c} is not null limit 1)" for c in columns)  # noqa: S608  names are ours
        return {column for (column,) in self.connection.execute(" union all ".join(looks)).fetchall()}

    def live_children(self, table: Table, child: str, parents: pl.DataFrame) -> list[tuple[str, ...]]:
        """Keys of the live children of some rows."""
        with registered(self.connection, parents=parents):
            return self.connection.execute(
                f"""
                select {", ".join((*table.key, *table.children[child]))} from core.{child}
                semi join parents using ({", ".join(table.key)}) where deleted_at is null
                """  # noqa: S608  names come from the catalogue
            ).fetchall()

    def replaced(self, table: Table, rows: pl.DataFrame) -> list[tuple[str, str, str | None, datetime]]:
        """The versions of some rows that were replaced, by account: (account_id, record_id, document, fetched_at)."""
        with registered(self.connection, wanted=rows):
            return self.connection.execute(
                f"""
                select account_id, record_id, document, fetched_at from history.records as replaced
                where stream = $stream and exists (
                    from wanted where wanted.account_id = replaced.account_id and wanted.{table.key[-1]} = replaced.record_id
                )
                order by account_id
                """,  # noqa: S608  names are ours
                {"stream": table.stream},
            ).fetchall()

    def documents(
        self, table: Table, limit: int, after: tuple[str, ...] | None
    ) -> tuple[list[tuple[str, str, datetime]], tuple[str, ...] | None]:
        """Stored documents in pages, in the order of their keys: (account_id, document, fetched_at), and the key to go on after; None: from the first.

        By key, since the place of a row in the file is not its own for good: a checkpoint may move what stands behind deleted rows.
        """
        key = ", ".join(table.key)
        marks = ", ".join("?" * len(table.key))
        rows = self.connection.execute(
            f"""
            select account_id, document, fetched_at, {key} from core.{table.stream}
            {f"where ({key}) > ({marks})" if after else ""} order by {key} limit ?
            """,  # noqa: S608  names are ours
            [*(after or ()), limit],
        ).fetchall()
        return [(a, d, f) for a, d, f, *_ in rows], (tuple(rows[-1][3:]) if rows else after)

    def generic_streams(self) -> tuple[str, ...]:
        """The streams with a table of the generic form, also those that the contract no longer has."""
        return generic_streams(self.connection)

    def quarantined(self, stream: str, api_client: str) -> int:
        """Different records of a stream that ever came from an API client and were put into quarantine."""
        row = self.connection.execute(
            """
            select count(distinct record) from ops.quarantine join ops.slices using (slice_id, part_number)
            where quarantine.stream = ? and slices.api_client = ?
            """,
            [stream, api_client],
        ).fetchone()
        return int(row[0]) if row else 0

    def candidates(
        self, table: Table, met: pl.DataFrame, account_ids: Sequence[str], began_at: datetime
    ) -> list[tuple[str, ...]]:
        """Keys of live rows that a complete walk did not meet, though it should have (`sql/candidates.sql`)."""
        with registered(self.connection, met=met):
            return self.connection.execute(
                sql_file("candidates.sql").format(table=table.stream, key=", ".join(table.key)),
                {"account_ids": list(account_ids), "began_at": began_at},
            ).fetchall()

    def stored_elsewhere(self, table: Table, keys: pl.DataFrame) -> int:
        """Of records of accounts (`keys`), how many are live in the table as another account's."""
        with registered(self.connection, keys=keys):
            row = self.connection.execute(
                f"""
                select count(*) from keys join core.{table.stream} as stored using ({table.key[-1]})
                where stored.deleted_at is null and stored.account_id <> keys.account_id
                """  # noqa: S608  names are ours
            ).fetchone()
        return int(row[0]) if row else 0

    def copies(self, table: Table, account_ids: Sequence[str]) -> int:
        """How many records are live in the table as several of these accounts'."""
        row = self.connection.execute(
            f"""
            select count(*) from (
                select 1 from core.{table.stream} where deleted_at is null and list_contains($account_ids, account_id)
                group by {table.key[-1]} having count(*) > 1
            )
            """,  # noqa: S608  names are ours
            {"account_ids": list(account_ids)},
        ).fetchone()
        return int(row[0]) if row else 0

    def standing_brakes(self) -> list[StandingBrake]:
        """Brakes that stand, one at most for each stream and account."""
        rows = self.connection.execute(
            """
            select stream, account_id, gone_count, rows_count, stopped_at, released_at from ops.brakes
            where ended_by_slice_id is null order by stream, account_id
            """
        ).fetchall()
        return [StandingBrake(*row) for row in rows]

    def released(self, stream: str) -> dict[str, int]:
        """Accounts whose brake a person has released within the last weeks, and the rows that they were shown."""
        rows = self.connection.execute(
            """
            select account_id, gone_count from ops.brakes
            where stream = $stream and ended_by_slice_id is null and released_at > now() - to_days($days)
            """,
            {"stream": stream, "days": RELEASED_DAYS},
        ).fetchall()
        return dict(rows)
