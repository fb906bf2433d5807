"""What a commit, a checkpoint and publishing cost, stage by stage: `python -m tests.bench_loading`; see docs/performance.md, "Loading".

What lives here: rows as a sync brings them, committed through `Writer.commit` with every statement timed. What does not: reading and shaping; the rows are
those of a warehouse that a real sync made against the emulator, once, and kept in the folder named by `--rows`.
CPU is that of the whole process, DuckDB's threads included.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import polars.selectors as cs
import pytest

from pipelines.streams import ACCOUNTS, BOOKINGS, BUILT_IN, CUSTOMERS, EVENTS, Stream
from resources import publish as publishing
from resources.database import connect
from resources.part import Commit, Part
from resources.publish import Finding
from resources.settings import Settings
from resources.sql_files import Check
from resources.warehouse import Warehouse, Writer
from tests.commits import commit_of
from tests.emulator import Emulator, World
from tests.equality import night, settings_for

NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
PART_ROWS = 10_000
BOOKKEEPING = ("deleted_at", "deletion_evidence", "slice_id")


@dataclass
class Cost:
    """Seconds, and how often."""

    wall: float = 0.0
    cpu: float = 0.0
    count: int = 0


class Stages:
    """Costs by stage, in the order in which they were first met."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = defaultdict(Cost)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            cost = self.costs[stage]
            cost.wall += time.perf_counter() - wall
            cost.cpu += time.process_time() - cpu
            cost.count += 1

    def show(self, title: str, per: float = 1.0) -> None:
        """A table; every number divided by `per`."""
        print(f"\n{title}")
        for stage, cost in self.costs.items():
            print(f"  {stage:34} {cost.cpu / per:9.4f} CPU-s {cost.wall / per:9.4f} s  {cost.count:5} times")


class Timed:
    """A DuckDB connection whose statements are timed, each under the table that it writes or the words that it begins with."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stages: Stages) -> None:
        self._connection = connection
        self._stages = stages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        with self._stages.timed("  " + stage_of(sql)):
            return self._connection.execute(sql, *values)

    def register(self, name: str, frame: pl.DataFrame) -> Any:
        with self._stages.timed("  register"):
            return self._connection.register(name, frame)

    def commit(self) -> Any:
        with self._stages.timed("  commit"):
            return self._connection.commit()


def stage_of(sql: str) -> str:
    """A short name for a statement."""
    plain = " ".join(re.sub(r"--.*", "", sql).split())
    written = re.match(r"(insert into|merge into|update|delete from|create or replace temp table) ([\w.]+)", plain)
    return f"{written[1].split()[0]} {written[2]}" if written else plain[:30]


def make_rows(folder: Path, bookings: int) -> None:
    """The rows of a real sync against the emulator, as one parquet file for each table."""
    world = World(seed=1, accounts=40, customers=bookings // 4, bookings=bookings, events=bookings // 10)
    with Emulator(world) as emulator:
        settings = settings_for(emulator, folder)
        report = night(settings, kind="sweep")
        assert not report.problems, report.problems
    with connect(settings.warehouse_path, read_only=True) as connection:
        for stream in BUILT_IN.values():
            for table in (stream.name, *stream.target.children):
                order = "updated_at desc" if table == stream.name else "all"
                target = folder / f"{table}.parquet"
                connection.execute(f"copy (from core.{table} order by {order}) to '{target}' (compression zstd)")
    settings.warehouse_path.unlink()


@dataclass
class Rows:
    """All rows of a stream, newest change first, as `combine` would give them."""

    stream: Stream
    rows: pl.DataFrame
    children: dict[str, pl.DataFrame]

    @classmethod
    def read(cls, folder: Path, stream: Stream) -> Rows:
        # DuckDB's JSON is binary to polars; a sync's frames hold it as text.
        as_text = cs.binary().cast(pl.String)
        rows = pl.read_parquet(folder / f"{stream.name}.parquet").drop(BOOKKEEPING).with_columns(as_text)
        whole = {f"whole_{child}": pl.lit(value=True) for child in stream.target.children}
        whole |= {f"except_{child}": pl.lit(None, pl.List(pl.String)) for child in stream.target.list_of}
        children = {
            child: pl.read_parquet(folder / f"{child}.parquet")
            .drop("deleted_at")
            .with_columns(as_text, is_partial=pl.lit(value=False))
            for child in stream.target.children
        }
        return cls(stream, rows.with_columns(**whole), children)

    def copies(self, count: int) -> Rows:
        """The same rows `count` times, under other ids, older by a year each time."""
        key = self.stream.key[-1]

        def again(frame: pl.DataFrame, number: int) -> pl.DataFrame:
            frame = frame.with_columns(pl.concat_str(pl.lit(f"{number}-"), key).alias(key))
            back = pl.col("updated_at") - timedelta(days=365 * number)
            return frame.with_columns(updated_at=back) if "whole" in "".join(frame.columns) else frame

        numbers = range(count)
        children = {c: pl.concat([again(f, n) for n in numbers]) for c, f in self.children.items()}
        return Rows(self.stream, pl.concat([again(self.rows, n) for n in numbers]), children)

    def changed(self, share: float, at: datetime) -> Rows:
        """A share of the rows, spread over the whole table, with a newer version of each."""
        chosen = self.rows.sample(fraction=share, seed=1).with_columns(
            updated_at=pl.lit(at, pl.Datetime("us", "UTC")),
            fetched_at=pl.lit(at, pl.Datetime("us", "UTC")),
            content_hash=pl.col("content_hash").str.reverse(),
            document=pl.col("document").str.replace('"attributes":{', '"attributes":{"changed":1,', literal=True),
        )
        return self.of(chosen)

    def renamed(self, prefix: str) -> Rows:
        """The same rows as new ones."""
        key = self.stream.key[-1]
        new = pl.concat_str(pl.lit(prefix), key).alias(key)
        children = {c: f.with_columns(new) for c, f in self.children.items()}
        return Rows(self.stream, self.rows.with_columns(new), children)

    def of(self, rows: pl.DataFrame) -> Rows:
        """Those rows with their children."""
        key = list(self.stream.key)
        return Rows(self.stream, rows, {c: f.join(rows, on=key, how="semi") for c, f in self.children.items()})

    def parts(self, size: int = PART_ROWS) -> Iterator[Rows]:
        """In pieces of so many rows; each piece with its children."""
        for start in range(0, self.rows.height, size):
            yield self.of(self.rows.slice(start, size))

    def commit(self, slice_id: str, until: datetime = NOW, accounts: tuple[str, ...] = (), **own: Any) -> Commit:
        part = Part(
            slice_id=slice_id,
            part_number=1,
            is_last_part=True,
            run_id="bench",
            api_client="north",
            kind="nightly",
            account_ids=accounts or tuple(self.rows.get_column("account_id").unique().sort()),
            since=None,
            until=until,
            pages_count=self.rows.height // 100 + 1,
            fetched_at=until,
            read_count=self.rows.height,
        )
        return commit_of(self.stream.target, replace(part, **own), self.rows, self.children)


def settings_in(folder: Path, **own: Any) -> Settings:
    values = {
        "warehouse_path": folder / "warehouse.duckdb",
        "warehouse_published_path": folder / "public" / "analytics.duckdb",
    }
    return Settings(_env_file=None, **(values | own))  # type: ignore[call-arg]  # pydantic-settings' own argument


def load(writer: Writer, rows: Rows, stages: Stages, name: str, size: int = PART_ROWS) -> None:
    """Commit all rows in parts."""
    real = writer.connection
    writer.connection = Timed(real, stages)  # type: ignore[assignment]
    for number, part in enumerate(rows.parts(size)):
        # As a plan does it: newest first, and only the oldest slice begins at the open start.
        is_oldest = (number + 1) * size >= rows.rows.height
        since = None if is_oldest else part.rows.get_column("updated_at").min()
        commit = part.commit(f"{name}-{number}", since=since)
        with stages.timed(f"commit of {rows.stream.name}"):
            writer.commit(commit)
    writer.connection = real


def bench(kept: Path, folder: Path, copies: int, memory_limit_mb: int) -> None:
    """A first load, a night of 1 %, small commits, closing, publishing; each with a table."""
    warehouse = Warehouse(settings_in(folder, warehouse_memory_limit_mb=memory_limit_mb))
    source = {s.name: Rows.read(kept, s) for s in (ACCOUNTS, CUSTOMERS, BOOKINGS, EVENTS)}
    all_rows = {
        name: rows.copies(copies) if name != "accounts" and copies > 1 else rows for name, rows in source.items()
    }
    total = Stages()
    with warehouse.writer("bench", wait_s=0) as writer:
        writer.start_run("bench", "nightly", "cli", "0", warehouse.limits, list(BUILT_IN))
        for name, rows in all_rows.items():
            stages = Stages()
            with total.timed("load"):
                load(writer, rows, stages, "first")
            stages.show(f"first load: {rows.rows.height:,} {name}, per 100,000 rows", rows.rows.height / 100_000)
        with total.timed("checkpoint of the load"):
            writer.connection.execute("checkpoint")
        total.show("first load in all")
        print(f"  file: {warehouse.path.stat().st_size / 1e6:.0f} MB")
    with warehouse.writer("bench", wait_s=0) as writer:
        bookings = all_rows["bookings"]
        for share in (0.01, 0.001):
            stages = Stages()
            later = NOW + timedelta(days=share)
            change = bookings.changed(share, later)
            real = writer.connection
            writer.connection = Timed(real, stages)  # type: ignore[assignment]
            with stages.timed(f"commit of {change.rows.height}"):
                writer.commit(change.commit(f"night {share}", later))
            writer.connection = real
            stages.show(f"{change.rows.height:,} changed of {bookings.rows.height:,}")
        accounts = tuple(source["accounts"].rows.get_column("account_id"))
        for height, is_new in ((0, False), (1, True), (100, True), (1, False), (100, False)):
            stages = Stages()
            real = writer.connection
            for number in range(20):
                later = NOW + timedelta(days=2 + height, hours=int(is_new), minutes=number)
                change = bookings.of(bookings.rows.slice(number * 2_000, height)).changed(1.0, later)
                if is_new:
                    change = change.renamed(f"new-{height}-{number}-")
                writer.connection = Timed(real, stages)  # type: ignore[assignment]
                with stages.timed("commit in all"):
                    writer.commit(change.commit(f"small {is_new} {height} {number}", later, accounts, since=NOW))
                writer.connection = real
            stages.show(f"a commit of {height} {'new' if is_new else 'changed'} rows (mean of 20)", 20)
        again = bookings.of(bookings.rows.slice(0, PART_ROWS))
        stages = Stages()
        writer.connection = Timed(real, stages)  # type: ignore[assignment]
        with stages.timed("commit of 10,000 unchanged"):
            writer.commit(again.commit("again"))
        writer.connection = real
        stages.show("10,000 rows that are stored already")
        with stages.timed("close"):
            writer.connection.execute("checkpoint")
    publish_timed(warehouse)
    print(f"peak memory of all this: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


def publish_timed(warehouse: Warehouse) -> None:
    """Publishing twice, with each check by itself."""
    for turn in ("first", "second"):
        stages, checks = Stages(), Stages()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publishing, "run_checks", partial(run_checks_timed, publishing.run_checks, stages, checks))
            patch.setattr(publishing, "_copied", partial(copied_timed, publishing._copied, stages))
            with stages.timed("publish in all"):
                publishing.publish(warehouse, "bench", "0")
        stages.show(f"publishing, {turn} time; file {warehouse.path.stat().st_size / 1e6:.0f} MB")
        if turn == "second":
            checks.costs = defaultdict(Cost, sorted(checks.costs.items(), key=lambda one: -one[1].wall)[:12])
            checks.show("the slowest checks")


def run_checks_timed(
    real: Callable[..., list[Finding]],
    stages: Stages,
    checks: Stages,
    connection: duckdb.DuckDBPyConnection,
    chosen: Iterable[Check],
) -> list[Finding]:
    """Run checks one by one."""
    findings = []
    with stages.timed("checks"):
        for check in chosen:
            with checks.timed(check.name):
                findings += real(connection, [check])
    return findings


@contextmanager
def copied_timed(
    real: Callable[..., AbstractContextManager[Path]], stages: Stages, source: Path, target: Path
) -> Iterator[Path]:
    """Copy, look, sync and rename."""
    with stages.timed("copy, look, rename"), real(source, target) as copy:
        yield copy


def main() -> None:
    """Make the rows where they are missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows",
        type=Path,
        default=Path(tempfile.gettempdir()) / "bench_loading",
        help="folder that keeps the rows between runs",
    )
    parser.add_argument("--bookings", type=int, default=200_000, help="bookings of the world the rows come from")
    parser.add_argument("--copies", type=int, default=1, help="load them so many times, under other ids")
    parser.add_argument("--memory", type=int, default=512, help="DuckDB's memory limit in MB")
    parser.add_argument("--keep", action="store_true", help="keep the warehouse, and say where it is")
    given = parser.parse_args()
    kept = given.rows / str(given.bookings)
    if not (kept / "bookings.parquet").exists():
        kept.mkdir(parents=True, exist_ok=True)
        make_rows(kept, given.bookings)
    folder = Path(tempfile.mkdtemp(prefix="bench_loading_"))
    try:
        bench(kept, folder, given.copies, given.memory)
    finally:
        if given.keep:
            print(f"kept in {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
