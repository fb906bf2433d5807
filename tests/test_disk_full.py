"""A full disk, anywhere: the sync ends with a sentence and exit code 1, what was committed stays, and the next run heals once there is room.

Two ways to fill it. A limit on the size of files, in the child alone: no root is needed, and DuckDB meets the same failed writes (EFBIG in place of
ENOSPC). And a small file system in memory, filled to a random rest, which needs root to be mounted: the test skips where it may not.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from resources.database import connect
from resources.settings import Settings
from tests.breaking import environment, started
from tests.emulator import Emulator, World
from tests.equality import differences, night, settings_for
from tests.test_kill import consistent

SMALL_DISK_MB = 96
ENDS_WITHIN_S = 60.0
# What a sentence must hold: the failure, and what to do.
SENTENCES = ("Make room there", "see that its disk has room", "File too large", "No space left")


@pytest.fixture
def world() -> World:
    return World(seed=3, accounts=2, customers=60, bookings=150, events=8, years=1)


def published_is_whole(settings: Settings) -> None:
    """The analysts' file opens and answers, and no half of another lies beside it."""
    path = settings.warehouse_published_path
    if path.exists():
        with connect(path, read_only=True) as connection:
            connection.execute("select count(*) from marts.data_status").fetchall()
            connection.execute("select count(*) from marts.bookings").fetchall()
    assert list(path.parent.glob("*.new")) + list(path.parent.glob(".*.new")) == []


def fails_well(env: dict[str, str], told: str, *arguments: str) -> bool:
    """Sync; whether it failed. A failure is exit code 1 and a sentence that names the disk, without a traceback."""
    process = started(env, *arguments)
    out, err = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode in (0, 1), f"{told}: {err}"
    if process.returncode == 0:
        return False
    assert "Traceback" not in err, f"{told}: {err}"
    assert any(s in out + err for s in SENTENCES), f"{told}: {out}{err}"
    return True


def full_nights(
    emulator: Emulator,
    settings: Settings,
    rounds: int,
    seed: int,
    fill: Callable[[random.Random], dict[str, str]],
    room: Callable[[], None],
) -> int:
    """Rounds of: the world changes, the disk is filled to a random rest, a sync, room again, a sync that heals. Gives how many failed."""
    rng = random.Random(seed)
    world = emulator.world
    failed = 0
    for number in range(rounds):
        chosen = fill(rng)
        told = f"seed {seed}, round {number}, {chosen}"
        failed += fails_well(environment(emulator, settings) | chosen, told, *rng.choice([[], ["--sweep"]]))
        room()
        if settings.warehouse_path.exists():
            consistent(settings.warehouse_path)
        published_is_whole(settings)
        world.clock.advance(timedelta(hours=1))
        own = settings_for(
            emulator,
            settings.warehouse_path.parent,
            sync_concurrency=2,
            warehouse_published_path=settings.warehouse_published_path,
        )
        report = night(own, kind="sweep", publish=True)
        assert report.problems == [], told
        assert differences(settings.warehouse_path, world.truth()) == [], told
        assert differences(settings.warehouse_published_path, world.truth()) == [], told
        with connect(settings.warehouse_path, read_only=True) as connection:
            assert connection.execute("select count(*) from ops.runs where status = 'running'").fetchall() == [(0,)]
        world.mutate(40, rng)
        world.clock.advance(timedelta(hours=7))
    return failed


def limited(settings: Settings) -> Callable[[random.Random], dict[str, str]]:
    """No file may grow beyond a size near that of the warehouse, its log of a transaction included."""

    def fill(rng: random.Random) -> dict[str, str]:
        path = settings.warehouse_path
        size = path.stat().st_size if path.exists() else 3_000_000
        return {"BREAK_FULL": str(rng.randint(8_192, size)), "BREAK_BLIND": "1"}

    return fill


def test_files_that_may_not_grow(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    assert full_nights(emulator, settings, 2, 1, limited(settings), lambda: None) >= 1


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_files_that_may_not_grow_often(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    assert full_nights(emulator, settings, 30, 2, limited(settings), lambda: None) >= 10


# ---- a real disk -------------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory of SMALL_DISK_MB; skips where it cannot be mounted."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not mount or not umount:
        pytest.skip("mounting a small disk needs root; test_files_that_may_not_grow does the same without")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield disk
    finally:
        # Lazily: this process keeps its file of living runs there open until it ends.
        subprocess.run([umount, "-l", str(disk)], check=True)


class Filler:
    """Fills a disk to a random rest with one file. Half of the time the sync may look before (and refuses early), else it may not."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.file = disk / "filler"

    def __call__(self, rng: random.Random) -> dict[str, str]:
        rest = rng.randint(0, 4_000_000)
        with self.file.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.disk).free - rest))
        return {"BREAK_BLIND": rng.choice(["1", "1", ""]), "REST": str(rest)}

    def room(self) -> None:
        self.file.unlink()


@pytest.mark.parametrize(
    "rounds", [pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(3600)])], ids=["often"]
)
@pytest.mark.parametrize("full", ["both", "published"])
def test_a_small_disk_that_is_full(
    full: str, rounds: int, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`published`: only the analysts' file lies on the full disk, so everything is committed and publishing fails."""
    monkeypatch.setattr("resources.warehouse.PART_SPACE_BYTES", 0)
    monkeypatch.setattr("resources.files.LEAST_FREE_BYTES", 0)
    with small_disk(tmp_path) as disk:
        folder = disk if full == "both" else tmp_path
        settings = settings_for(emulator, folder, warehouse_published_path=disk / "analytics.duckdb")
        filler = Filler(disk)
        assert full_nights(emulator, settings, rounds, 4, filler, filler.room) >= rounds // 3


def test_a_full_disk_keeps_the_published_file(emulator: Emulator, tmp_path: Path) -> None:
    """Everything is committed and the copy finds no room: the old file stays, whole, and nothing half-made beside it."""
    settings = settings_for(emulator, tmp_path)
    assert night(settings, publish=True).problems == []
    before = settings.warehouse_published_path.read_bytes()
    emulator.world.clock.advance(timedelta(hours=1))
    # The log of a small transaction fits; the copy of the whole file does not, and neither does a checkpoint that would grow it.
    most = settings.warehouse_path.stat().st_size // 2
    assert fails_well(environment(emulator, settings) | {"BREAK_FULL": str(most), "BREAK_BLIND": "1"}, "publishing")
    assert settings.warehouse_published_path.read_bytes() == before
    published_is_whole(settings)
    consistent(settings.warehouse_path)


def test_a_symbolic_link_is_followed_to_the_disk_that_must_have_room(emulator: Emulator, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        settings = settings_for(emulator, tmp_path)
        settings.warehouse_path.symlink_to(disk / "warehouse.duckdb")
        process = started(environment(emulator, settings))
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
        assert process.returncode == 1
        assert f"{disk} has " in out + err
