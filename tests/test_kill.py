"""Killed anywhere: after SIGKILL at a random moment the file opens, holds whole slices and exactly their state, and the next run heals."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from pipelines.plan import BEGINNING, Window, watermark
from resources.database import connect
from resources.publish import run_checks
from resources.sql_files import checks
from tests.breaking import POINTS, environment, started
from tests.emulator import Delay, Emulator, Fault, World, on
from tests.equality import differences, night, query, settings_for


def consistent(path: Path) -> None:
    """Rows ≡ ledger ≡ windows ≡ watermarks, in a file as a kill left it."""
    with connect(path, read_only=False) as connection:  # replays the write-ahead log, as the next run would
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


class Analyst:
    """Opens and asks the published file again and again in a thread, as a dashboard would; what goes wrong is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stopped = threading.Event()
        self.errors: list[Exception] = []
        self.readings = 0
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Analyst:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._thread.join()

    def _read(self) -> None:
        while not self.stopped.wait(0.05):
            if not self.path.exists():
                continue
            try:
                with connect(self.path, read_only=True) as connection:
                    connection.execute("select count(*) from marts.data_status").fetchall()
                    connection.execute("select count(*), max(updated_at) from marts.bookings").fetchall()
            except Exception as error:  # noqa: BLE001  whatever it is, the test tells it
                self.errors.append(error)
            self.readings += 1


def point(rng: random.Random) -> str:
    """A point of the child's work to die at: rare ones by their few calls, transactions by their many."""
    kind = rng.choice(POINTS)
    most = {"begin": 30, "commit": 30, "close": 6}.get(kind, 1)
    return f"{kind}:{rng.randint(1, most)}:{rng.choice(['before', 'after'])}"


def kill_nights(folder: Path, seed: int, kills: int) -> None:
    """Nights until so many were killed, two thirds at random moments and a third at commits and steps of publishing, the world changing meanwhile.

    Then one more run and a sweep, which must end in the truth. A night that is over before its moment comes is no kill; at least a third are.
    """
    rng = random.Random(seed)
    world = World(seed=seed, accounts=3, customers=200, bookings=400, events=10, years=2)
    killed = 0
    with Emulator(world) as emulator, Analyst(folder / "analytics.duckdb") as analyst:
        # A little latency spreads the work out, so that a random moment meets every stage.
        emulator.faults.append(Fault(on("/v2"), Delay(0.01), times=None))
        settings = settings_for(emulator, folder, sync_concurrency=2)
        plain = environment(emulator, settings)
        for number in count():
            if killed == kills:
                break
            assert number < 3 * kills
            emulator.reset_log()
            chosen = {"BREAK_AT": point(rng)} if number % 3 == 0 else {}
            process = started(plain | chosen, *rng.choice([[], ["--sweep"]]))
            moment = rng.uniform(0.3, 4.0)
            try:
                process.communicate(timeout=60 if chosen else moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            killed += process.returncode == -signal.SIGKILL
            told = f"seed {seed}, night {number}, {chosen or moment}"
            if settings.warehouse_path.exists():
                consistent(settings.warehouse_path)
            assert analyst.errors == [], told
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
    assert analyst.errors == []
    assert {p.name for p in folder.iterdir() if p.name.endswith(".new")} <= {".analytics.duckdb.new"}


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_run_that_is_killed_while_it_publishes_never_stands_as_green(side: str, tmp_path: Path) -> None:
    with Emulator(World(seed=3, accounts=2, customers=20, bookings=40, events=4, years=1)) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings, publish=True)
        process = started(environment(emulator, settings) | {"BREAK_AT": f"replace:1:{side}"})
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        newest = "select status from ops.runs order by started_at desc limit 1"
        assert query(settings.warehouse_path, newest) == [("running",)]
        # Nobody was told of a publishing that was none.
        assert query(settings.warehouse_path, "select count(*) from ops.publications") == [(1,)]
        assert query(settings.warehouse_published_path, "select count(*) from ops.publications") == [
            (2 if side == "after" else 1,)
        ]
        emulator.world.clock.advance(timedelta(hours=1))
        assert night(settings, publish=True).published
        assert query(settings.warehouse_path, "select status from ops.runs order by started_at") == [
            ("green",),
            ("red",),
            ("green",),
        ]


@pytest.mark.timeout(300)
def test_a_few_kills(tmp_path: Path) -> None:
    kill_nights(tmp_path, seed=1, kills=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(seed: int, tmp_path: Path) -> None:
    kill_nights(tmp_path, seed=seed, kills=50)
