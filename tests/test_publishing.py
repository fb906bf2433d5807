"""What analysts get to open: a file of their own, checked, put in place by one rename, and what is told where that fails.

What lives here: publishing. What does not: what a check asks (`test_checks`), kills on the way (`test_kill`).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.sync import RunReport, publish_run
from resources.database import connect
from resources.errors import LeaseHeldError, PublishBlockedError, WarehouseError
from resources.files import LEAST_FREE_BYTES
from resources.migrations import open_for_writing
from resources.publish import publish, run_checks
from resources.sql_files import Check
from resources.warehouse import Warehouse
from tests.commits import LIMITS, booking, people, put, resource, rows, warehouse_in


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with one booking, closed."""
    return load(tmp_path_factory.mktemp("full")).path


def loaded(folder: Path, full: Path) -> Warehouse:
    shutil.copy(full, folder / full.name)
    return warehouse_in(folder)


def load(folder: Path) -> Warehouse:
    warehouse = warehouse_in(folder)
    with warehouse.writer("loading", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "cli", "0.1", LIMITS)
        put(writer, resource("accounts", "a1", name="North", slug="north"))
        put(writer, booking(status="cancelled", customers=people("p1")))
        writer.end_run("r1", [], [])
    return warehouse


def test_publishing_gives_analysts_a_file_of_their_own(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    published = warehouse.published_path
    assert published.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in published.parent.iterdir()] == [published.name]
    with warehouse.writer("writing on", wait_s=0) as writer, connect(published, read_only=True) as analyst:
        put(writer, booking("b2"), fetched=5)
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
        assert analyst.execute("select run_id, product_version from ops.publications").fetchall() == [("r1", "0.1")]
        # The old file stays whole for who has it open while the next is put in its place.
        assert rows(writer, "select count(*) from core.bookings") == [(2,)]
    with connect(published, read_only=True) as analyst:
        publish(warehouse, "r2", "0.1", wait_s=0)
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
    with connect(published, read_only=True) as analyst:
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (2,)


@pytest.mark.parametrize(
    ("place", "why"), [("a-file/analytics.duckdb", "File exists"), ("a-file/in/analytics.duckdb", "Not a directory")]
)
def test_a_published_file_that_cannot_be_written_is_told_by_its_setting(
    place: str, why: str, tmp_path: Path, full: Path
) -> None:
    warehouse = loaded(tmp_path, full)
    (tmp_path / "a-file").touch()
    warehouse.published_path = tmp_path / place
    with pytest.raises(WarehouseError) as refused:
        publish(warehouse, "r1", "0.1", wait_s=0)
    told = rf"WAREHOUSE_PUBLISHED_PATH: {re.escape(str(tmp_path / place))} cannot be written \(\S+: {why}\)\. Give it rights and room"
    assert re.match(told, str(refused.value))


def test_a_published_file_that_only_could_not_be_noted_is_told_as_published(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, opened = loaded(tmp_path, full), []

    def refused(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
        opened.append(path)
        if len(opened) == 3:  # the checks, the copy, the note
            raise WarehouseError("There is no room.")
        return open_for_writing(path, memory_limit_mb)

    report = RunReport("r1", "nightly", [])
    with monkeypatch.context() as patch:
        patch.setattr("resources.publish.open_for_writing", refused)
        publish_run(warehouse, report, "0.1")
    assert report.published
    assert (report.publish_problem or "").endswith(
        "is new and complete, but the working file could not note that the run is over: There is no room."
    )
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select status, len(problems) from ops.runs") == [("red", 1)]


def test_a_folder_that_cannot_be_synced_after_the_rename_is_told_as_that(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, fsync = loaded(tmp_path, full), os.fsync

    def refuses_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    report = RunReport("r1", "nightly", [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuses_folders)
        publish_run(warehouse, report, "0.1")
    assert report.published
    assert re.match(
        r".*analytics\.duckdb is new and complete, but .* failed \(\S+: Invalid argument\)",
        report.publish_problem or "",
    )
    assert warehouse.is_published_by("r1")
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select status, len(problems) from ops.runs") == [("red", 1)]


def test_what_is_published_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no log of another state lies beside it then or afterwards: with one, it could not be opened."""
    warehouse, fsync, replace = loaded(tmp_path, full), os.fsync, Path.replace
    published = warehouse.published_path
    publish(warehouse, "r1", "0.1", wait_s=0)
    log, done = published.with_name(published.name + ".wal"), list[object]()

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def renamed(path: Path, target: Path) -> Path:
        assert not log.exists()
        renamed = replace(path, target)
        log.touch()  # of a client that still has the old one open
        done.append("renamed")
        return renamed

    log.write_bytes(b"of the file before")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    publish(warehouse, "r2", "0.1", wait_s=0)
    assert done == [published.stat().st_ino, "renamed", published.parent.stat().st_ino]
    assert not log.exists()


def test_a_disk_without_room_for_the_copy_is_told_before_it_is_full(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, real, short = loaded(tmp_path, full), shutil.disk_usage, 0
    published = warehouse.published_path
    publish(warehouse, "r1", "0.1", wait_s=0)
    needed = warehouse.path.stat().st_size + LEAST_FREE_BYTES

    def usage(folder: Path) -> Any:
        return real(folder)._replace(free=needed - short) if folder == published.parent else real(folder)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    publish(warehouse, "r2", "0.1", wait_s=0)
    before, short = published.read_bytes(), 1
    with pytest.raises(
        WarehouseError, match=rf"{re.escape(str(published.parent))} has \d+ MB free, and \d+ MB are needed"
    ):
        publish(warehouse, "r3", "0.1", wait_s=0)
    assert published.read_bytes() == before


def test_a_run_s_row_holds_each_sentence_in_one_line(tmp_path: Path, full: Path) -> None:
    with loaded(tmp_path, full).writer("looking", wait_s=0) as writer:
        writer.end_run("r1", ["a\nb"], ["c\u2028d"])
        assert rows(writer, "select problems, warnings from ops.runs") == [(["a\ufffdb"], ["c\ufffdd"])]


def test_what_a_client_left_beside_the_published_file_does_not_close_the_next_one(
    tmp_path: Path, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody opened it for writing, and their program died before its log was worked into the file."""
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    published = warehouse.published_path
    script = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('create table own (a int)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(published)], check=True)
    assert published.with_name(published.name + ".wal").exists()
    publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"Somebody opened {published} for writing" in caplog.text
    with connect(published, read_only=True) as analyst:
        assert analyst.execute("select count(*) from marts.bookings").fetchone() == (1,)
    assert [p.name for p in published.parent.iterdir()] == [published.name]


def test_a_symbolic_link_as_published_path_stays_and_leads_to_the_new_file(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    published = warehouse.published_path
    elsewhere = tmp_path / "large disk" / "a.duckdb"
    published.parent.mkdir()
    published.symlink_to(elsewhere)
    for run_id in ("r1", "r2"):
        publish(warehouse, run_id, "0.1", wait_s=0)
        assert published.is_symlink()
        with connect(elsewhere, read_only=True) as analyst:
            (newest,) = analyst.execute("select max(run_id) from ops.publications").fetchone() or (None,)
        assert newest == run_id


def test_a_copy_of_the_published_file_in_the_place_of_the_working_one_is_private_again(
    tmp_path: Path, full: Path
) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    shutil.copy(warehouse.published_path, warehouse.path)
    assert warehouse.path.stat().st_mode & 0o777 == 0o640
    with warehouse.writer("the next sync", wait_s=0):
        assert warehouse.path.stat().st_mode & 0o777 == 0o600


SPOILT: list[tuple[str, str]] = [
    ("unique_bookings", "insert into core.bookings select * from core.bookings"),
    ("unique_booking_children", "insert into core.booking_customers select * from core.booking_customers"),
    ("rows_match_ledger_bookings", "delete from core.bookings"),
    (
        "rows_match_ledger_customers",
        "insert into core.customers (account_id, customer_id, content_hash, fetched_at, slice_id) values ('a1', 'c', 'h', now(), 's')",
    ),
    (
        "confirmed_differences_bookings",
        "insert into ops.reconciliations values ('s0', 'r1', 'bookings', 'north', 2, 2, 1, 2, 'different', null)",
    ),
]


@pytest.mark.parametrize(("check", "spoil"), SPOILT)
def test_what_would_be_wrong_is_not_published(tmp_path: Path, full: Path, check: str, spoil: str) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    before = (warehouse.published_path.read_bytes(), warehouse.published_path.stat().st_ino)
    with warehouse.writer("spoiling", wait_s=0) as writer:
        writer.connection.execute(spoil)
    with pytest.raises(PublishBlockedError) as blocked:
        publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"{warehouse.published_path} was not replaced, because it would be wrong:" in str(blocked.value)
    assert re.search(rf"(would be wrong: |\. ){check}: 1 rows\. ", str(blocked.value))
    assert str(blocked.value).isprintable()
    assert (warehouse.published_path.read_bytes(), warehouse.published_path.stat().st_ino) == before
    assert [p.name for p in warehouse.published_path.parent.iterdir()] == [warehouse.published_path.name]
    with warehouse.writer("looking", wait_s=0) as writer:
        assert rows(writer, "select count(*) from ops.publications") == [(1,)]


def test_warnings_are_told_and_hold_nothing_back(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    with warehouse.writer("more", wait_s=0) as writer:
        put(writer, booking("b2", account="nobody", status="Odd"), fetched=1)
    findings = publish(warehouse, "r1", "0.1", wait_s=0)
    assert {"orphan_bookings", "unknown_statuses_bookings"} <= {f.check.name for f in findings}
    assert not any(f.check.is_blocking for f in findings)
    assert warehouse.published_path.exists()


def test_a_finding_counts_all_rows_and_shows_the_first_in_one_line(tmp_path: Path, full: Path) -> None:
    check = Check("odd", "bookings", False, "They are odd.", "select 'a' || chr(10) || 'b', n from range(7) numbers(n)")
    with loaded(tmp_path, full).writer("looking", wait_s=0) as writer:
        (finding,) = run_checks(writer.connection, [check])
    shown = "; ".join(f"a\ufffdb, {n}" for n in range(5))
    assert str(finding) == f"odd: 7 rows. They are odd. First: {shown}"


def test_publishing_waits_for_the_writer(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    with warehouse.writer("busy", wait_s=0), pytest.raises(LeaseHeldError, match="busy"):
        publish(warehouse, "r1", "0.1", wait_s=0)
    assert not warehouse.published_path.exists()


@pytest.mark.parametrize("mart", ["torn", "data_status"], ids=["that is not there", "that does not answer"])
def test_a_copy_whose_views_cannot_be_read_is_not_published(
    mart: str, tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = loaded(tmp_path, full)
    publish(warehouse, "r1", "0.1", wait_s=0)
    before = warehouse.published_path.read_bytes()
    with warehouse.writer("spoiling", wait_s=0) as writer:
        spoilt = "select 1 as one where error('torn') is null"  # which is found by asking alone
        writer.connection.execute(
            f"create or replace view marts.data_status as {spoilt if mart == 'data_status' else 'select 1'}"
        )
    opened: list[duckdb.DuckDBPyConnection] = []

    def noted(path: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
        opened.append(open_for_writing(path, memory_limit_mb))
        return opened[-1]

    monkeypatch.setattr("resources.publish.open_for_writing", noted)
    monkeypatch.setattr("resources.publish.marts", lambda: ("bookings", mart))
    with pytest.raises(PublishBlockedError) as blocked:
        publish(warehouse, "r2", "0.1", wait_s=0)
    assert f"{warehouse.published_path} was left as it was: marts.{mart} of its new copy cannot be read" in str(
        blocked.value
    )
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(duckdb.ConnectionException):
            connection.execute("select 1")
    assert warehouse.published_path.read_bytes() == before
    assert [p.name for p in warehouse.published_path.parent.iterdir()] == [warehouse.published_path.name]


def test_what_a_kill_left_behind_does_not_hinder(tmp_path: Path, full: Path) -> None:
    warehouse = loaded(tmp_path, full)
    draft = warehouse.published_path.with_name(f".{warehouse.published_path.name}.new")
    log = draft.with_name(draft.name + ".wal")
    draft.parent.mkdir()
    shutil.copy(warehouse.path, draft)
    killed = "insert into ops.publications values (now(), 'killed', '0')"
    script = f"import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute({killed!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(draft)], check=True)
    assert log.exists()
    publish(warehouse, "r1", "0.1", wait_s=0)
    assert [p.name for p in draft.parent.iterdir()] == [warehouse.published_path.name]
    with connect(warehouse.published_path, read_only=True) as analyst:
        assert analyst.execute("select run_id from ops.publications").fetchall() == [("r1",)]


def test_a_copy_that_a_kill_left_takes_no_room_from_the_next(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, real = loaded(tmp_path, full), shutil.disk_usage
    draft = warehouse.published_path.with_name(f".{warehouse.published_path.name}.new")
    draft.parent.mkdir()
    draft.write_bytes(b"half")

    def usage(folder: Path) -> Any:
        is_left = draft.exists() and draft.stat().st_size == len(b"half")
        return real(folder)._replace(free=0) if is_left and folder == draft.parent else real(folder)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    publish(warehouse, "r1", "0.1", wait_s=0)
    assert warehouse.published_path.exists()


def test_a_copy_that_ends_half_way_is_told_by_its_setting(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = loaded(tmp_path, full)

    def refused(_: Path, draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))

    monkeypatch.setattr(shutil, "copyfile", refused)
    with pytest.raises(WarehouseError, match=r"^WAREHOUSE_PUBLISHED_PATH: .*cannot be written .*No space left"):
        publish(warehouse, "r1", "0.1", wait_s=0)
    assert list(warehouse.published_path.parent.iterdir()) == []


def test_the_reader_takes_what_is_free(tmp_path: Path, full: Path) -> None:
    warehouse = warehouse_in(tmp_path)

    def reading() -> AbstractContextManager[tuple[duckdb.DuckDBPyConnection, Path]]:
        return warehouse.reader(wait_s=0)

    with pytest.raises(WarehouseError, match="does not exist yet"), reading():
        pytest.fail("opened")
    loaded(tmp_path, full)
    with reading() as (connection, path):
        assert path == warehouse.path
        assert connection.execute("select count(*) from core.bookings").fetchone() == (1,)
        with pytest.raises(duckdb.Error):
            connection.execute("delete from core.bookings")
    with warehouse.writer("busy", wait_s=0), pytest.raises(LeaseHeldError), reading():
        pytest.fail("opened")
    publish(warehouse, "r1", "0.1", wait_s=0)
    with warehouse.writer("busy", wait_s=0), reading() as (connection, path):
        assert path == warehouse.published_path
        assert connection.execute("select count(*) from marts.data_status").fetchone() is not None
