"""One writer at a time: the lock between real processes, and how it is waited for without waiting."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources.alive import living_runs, note_run
from resources.errors import LeaseHeldError, WarehouseError
from resources.lease import lease

HOLDER = """
import sys
from pathlib import Path
from resources.lease import lease
with lease(Path(sys.argv[1]), "nightly of bookings", wait_s=0):
    print("held", flush=True)
    sys.stdin.read()
"""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@contextmanager
def held_elsewhere(warehouse: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "data" / "warehouse.duckdb"


def lock_of(warehouse: Path) -> Path:
    return warehouse.with_name("warehouse.duckdb.lock")


def test_it_makes_its_folder_and_tells_who_holds_it(warehouse: Path) -> None:
    with lease(warehouse, "publishing, run r1", wait_s=0):
        told = json.loads(lock_of(warehouse).read_text())
        assert told["pid"] == os.getpid()
        assert told["what"] == "publishing, run r1"
        assert lock_of(warehouse).stat().st_mode & 0o777 == 0o600
    assert lock_of(warehouse).read_text() == ""
    assert not warehouse.exists()


@pytest.mark.parametrize(
    ("place", "why"), [("a-file/warehouse.duckdb", "File exists"), ("a-file/in/warehouse.duckdb", "Not a directory")]
)
def test_a_place_that_cannot_be_written_is_told_by_its_setting(place: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    path = tmp_path / place
    told = rf"WAREHOUSE_PATH: {re.escape(str(path))} cannot be written \({re.escape(str(tmp_path))}/a-file\S*: {why}\)\. Give it rights and room"
    with pytest.raises(WarehouseError, match=told), lease(path, "mine", wait_s=0):
        pytest.fail("held")


def test_another_process_is_refused_and_told_whom_to_wait_for(warehouse: Path) -> None:
    with held_elsewhere(warehouse) as holder:
        with pytest.raises(LeaseHeldError) as refusal, lease(warehouse, "mine", wait_s=0):
            pytest.fail("two holders")
        assert f"process {holder.pid} on {os.uname().nodename} (nightly of bookings, since " in str(refusal.value)


def test_a_killed_holder_gives_it_back(warehouse: Path) -> None:
    with held_elsewhere(warehouse) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lease(warehouse, "mine", wait_s=0):
            assert json.loads(lock_of(warehouse).read_text())["what"] == "mine"


def test_it_waits_as_long_as_it_may_and_tells_once(warehouse: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with lease(warehouse, "first", wait_s=0):
        with pytest.raises(LeaseHeldError), lease(warehouse, "second", wait_s=10, sleep=clock.sleep, clock=clock):
            pytest.fail("two holders")
        assert sum(clock.slept) == pytest.approx(10, abs=0.3)
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == [caplog.records[0].message]
    assert "first" in caplog.text


def test_it_is_had_as_soon_as_it_is_free(warehouse: Path) -> None:
    clock = Clock()
    first = lease(warehouse, "first", wait_s=0)
    first.__enter__()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 3:
            first.__exit__(None, None, None)

    with lease(warehouse, "second", wait_s=60, sleep=sleep, clock=clock):
        assert len(clock.slept) == 3


def test_an_error_gives_it_back(warehouse: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(warehouse, "first", wait_s=0):
        raise ZeroDivisionError
    with lease(warehouse, "second", wait_s=0):
        assert json.loads(lock_of(warehouse).read_text())["what"] == "second"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"pid": 1}', "\0\0"])
def test_what_the_file_says_is_a_courtesy(warehouse: Path, text: str) -> None:
    with lease(warehouse, "first", wait_s=0):
        lock_of(warehouse).write_text(text)
        with pytest.raises(LeaseHeldError, match="written by another process"), lease(warehouse, "x", wait_s=0):
            pytest.fail("two holders")
    # Text that a killed process left behind locks nobody out.
    lock_of(warehouse).write_text('{"pid": 1, "host": "h", "what": "w", "since": "s"}')
    with lease(warehouse, "second", wait_s=0):
        pass


def test_a_lease_that_cannot_be_made_leaves_no_file_open(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def noted(path: Path) -> int:
        opened.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return opened[-1]

    monkeypatch.setattr("resources.lease._open", noted)
    lock_of(warehouse).with_name(lock_of(warehouse).name + ".waiting").mkdir(parents=True)
    with (
        pytest.raises(WarehouseError, match=r"WAREHOUSE_PATH: .*Is a directory"),
        lease(warehouse, "nightly", wait_s=0),
    ):
        pytest.fail("there is no lease to hold")
    (first,) = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)


def test_a_symbolic_link_leads_to_the_same_lease(warehouse: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.duckdb"
    link.symlink_to(warehouse)
    with (
        held_elsewhere(warehouse),
        pytest.raises(LeaseHeldError, match=r"link\.duckdb is being written by process \d+ "),
        lease(link, "mine", wait_s=0),
    ):
        pytest.fail("two holders")
    note_run(link, "r1")
    assert "r1" in living_runs(warehouse)


def test_leases_of_two_warehouses_do_not_meet(tmp_path: Path) -> None:
    with lease(tmp_path / "a.duckdb", "a", wait_s=0), lease(tmp_path / "b.duckdb", "b", wait_s=0):
        assert {p.name.removesuffix(".waiting") for p in tmp_path.iterdir()} == {"a.duckdb.lock", "b.duckdb.lock"}


def test_the_holder_gives_way_to_whoever_waits_and_goes_on_afterwards(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    waiter = """
import sys
from pathlib import Path
from resources.lease import lease
with lease(Path(sys.argv[1]), "nightly of bookings", wait_s=60):
    print("went first", flush=True)
"""
    with lease(warehouse, "backfill of bookings", wait_s=0) as held:
        assert not held.is_wanted()
        with subprocess.Popen(
            [sys.executable, "-c", waiter, str(warehouse)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        ) as process:
            while not held.is_wanted():
                assert process.poll() is None
            held.give_way(wait_s=60)
            assert process.stdout is not None
            assert process.stdout.readline() == "went first\n"
            assert process.wait() == 0
        assert not held.is_wanted()
        with pytest.raises(LeaseHeldError, match="backfill of bookings"), lease(warehouse, "check", wait_s=0):
            pass
