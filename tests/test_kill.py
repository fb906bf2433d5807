"""Killed anywhere: after SIGKILL at a random moment the file opens, holds whole slices and exactly their state, and the next run heals."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from pipelines.plan import BEGINNING, Window, watermark
from resources.database import checks
from resources.publish import run_checks
from resources.settings import PROJECT_FOLDER
from tests.emulator import Delay, Emulator, Fault, World, on
from tests.equality import differences, night, settings_for

SYNC = "import sys; from pipelines.cli import main; sys.argv = ['appointedd-warehouse', *sys.argv[1:]]; main()"


def consistent(path: Path) -> None:
    """Rows ≡ ledger ≡ windows ≡ watermarks, in a file as a kill left it."""
    with duckdb.connect(path) as connection:  # replays the write-ahead log, as the next run would
        connection.execute("set TimeZone = 'UTC'")
        tables = {
            t
            for (t,) in connection.execute(
                "select table_name from duckdb_tables() where schema_name = 'ops'"
            ).fetchall()
        }
        if not {"windows", "slices"} <= tables:
            return  # killed before the schema was there
        findings = run_checks(connection, [c for c in checks() if c.is_blocking and c.name != "no_accounts"])
        assert [str(f) for f in findings if f.count] == []
        orphans = connection.execute(
            """
            select * from ops.windows anti join (select * from ops.slices where is_last_part) using (slice_id, run_id, stream)
            union all
            select stream, unnest(account_ids), since, until, kind, slice_id, run_id from ops.slices
            where is_last_part and slice_id not in (select slice_id from ops.windows)
            """
        ).fetchall()
        assert orphans == []
        unwritten = connection.execute(
            "select booking_id from core.bookings where slice_id not in (select slice_id from ops.slices)"
        )
        assert unwritten.fetchall() == []
        windows: dict[tuple[str, str], list[Window]] = {}
        for stream, account, since, until in connection.execute(
            "select stream, account_id, since, until from ops.windows"
        ).fetchall():
            windows.setdefault((stream, account), []).append(Window(since or BEGINNING, until))
        marks = connection.execute("select stream, account_id, watermark_at from ops.watermarks").fetchall()
        assert {(s, a): m for s, a, m in marks} == {key: watermark(own) for key, own in windows.items()}


def kill_nights(folder: Path, seed: int, kills: int) -> None:
    """Nights that are killed at random moments, the world changing meanwhile; then one more run and a sweep that must end in the truth."""
    rng = random.Random(seed)
    world = World(seed=seed, accounts=3, customers=200, bookings=400, events=10, years=2)
    with Emulator(world) as emulator:
        # A little latency spreads the work out, so that a random moment meets every stage.
        emulator.faults.append(Fault(on("/v2"), Delay(0.01), times=None))
        settings = settings_for(emulator, folder, sync_concurrency=2)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= emulator.environment() | {
            "APPOINTEDD_ENV_FILE": "",
            "WAREHOUSE_PATH": str(settings.warehouse_path),
            "WAREHOUSE_PUBLISHED_PATH": str(settings.warehouse_published_path),
            "SYNC_REQUESTS_PER_SECOND": "1000",
            "SYNC_HISTORY_START": "2023-01-01",
        }
        for number in range(kills):
            emulator.reset_log()
            process = subprocess.Popen(
                [sys.executable, "-c", SYNC, "sync", *rng.choice([[], ["--sweep"]])],
                cwd=PROJECT_FOLDER,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            moment = rng.uniform(0.3, 4.0)
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            if settings.warehouse_path.exists():
                consistent(settings.warehouse_path)
            if settings.warehouse_published_path.exists():
                with duckdb.connect(settings.warehouse_published_path, read_only=True) as reader:
                    reader.execute("select count(*) from marts.data_status").fetchall()
            if number % 5 == 4:
                world.mutate(10, rng)
                world.clock.advance(timedelta(hours=7))
        world.clock.advance(timedelta(hours=1))
        emulator.faults.clear()
        settings = settings_for(emulator, folder, sync_concurrency=2)  # accounts that came meanwhile have a zone too
        assert night(settings).problems == []
        world.clock.advance(timedelta(minutes=5))
        report = night(settings, kind="sweep", publish=True)
        assert report.problems == []
        assert differences(settings.warehouse_path, world.truth()) == []
        assert differences(settings.warehouse_published_path, world.truth()) == []


@pytest.mark.timeout(300)
def test_a_few_kills(tmp_path: Path) -> None:
    kill_nights(tmp_path, seed=1, kills=6)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(seed: int, tmp_path: Path) -> None:
    kill_nights(tmp_path, seed=seed, kills=60)
