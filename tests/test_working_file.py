"""The working file: who may read it, its migrations, damage and strangers, and that it is put in order.

What lives here: the file as such. What does not: upgrades over the whole way (`test_upgrades`), what analysts get (`test_publishing`).
"""
# ruff: noqa: S608 - the SQL is put together from this file alone, never from input

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.sync import RunReport, publish_run
from resources import sql_files
from resources.database import connect, count_runs_of_whole_file, put_in_order, transaction, write_anew
from resources.errors import LeaseHeldError, SettingsError, WarehouseError
from resources.files import LEAST_FREE_BYTES
from resources.migrations import open_for_writing
from resources.publish import publish
from tests.commits import LIMITS, booking, put, resource, rows, warehouse_in

# ---- connections, and putting in order -----------------------------------------------------------------------------------------


def test_no_query_draws_a_progress_bar_into_the_output(tmp_path: Path) -> None:
    with warehouse_in(tmp_path).writer("a test", wait_s=0) as writer:
        assert writer.connection.execute("select current_setting('enable_progress_bar')").fetchone() == (False,)


def test_no_connection_has_threads_of_its_own(tmp_path: Path) -> None:
    # Closing the last connection while one of DuckDB's threads still lets go of a query ends the process with SIGSEGV (docs/decisions.md).
    warehouse, asked = warehouse_in(tmp_path), "select current_setting('threads')"
    with warehouse.writer("a test", wait_s=0) as writer:
        assert writer.connection.execute(asked).fetchone() == (1,)
    with warehouse.reader() as (connection, _):
        assert connection.execute(asked).fetchone() == (1,)


def test_a_transaction_that_fails_leaves_nothing_and_the_connection_goes_on(tmp_path: Path) -> None:
    with connect(tmp_path / "warehouse.duckdb", read_only=False) as connection:
        with pytest.raises(duckdb.CatalogException), transaction(connection):
            connection.execute("create table more (x INTEGER); from nowhere")
        with transaction(connection):
            connection.execute("create table more (y INTEGER)")
        assert connection.execute("select column_name from duckdb_columns() where table_name = 'more'").fetchall() == [
            ("y",)
        ]


def test_after_every_sixth_run_publishing_takes_the_place_of_replaced_rows_back_and_joins_row_groups(
    tmp_path: Path,
) -> None:
    warehouse, groups, stored = warehouse_in(tmp_path), list[int](), list[int]()
    for night in range(17):
        with warehouse.writer("a test", wait_s=0) as writer:
            writer.start_run(f"r{night}", "nightly", "a test", "test", LIMITS)
            put(writer, resource("accounts", "a1"), fetched=night)
            changed = range(night, night + 1) if night else range(50)
            put(writer, *(booking(f"b{n}", night, price=night) for n in changed), fetched=night)
        publish(warehouse, f"r{night}", "test")
        with connect(warehouse.path, read_only=True) as connection:
            asked = "select count(distinct row_group_id) from pragma_storage_info('core.bookings')"
            groups += connection.execute(asked).fetchall()[0]
            asked = "select estimated_size from duckdb_tables() where table_name = 'bookings'"
            stored += connection.execute(asked).fetchall()[0]
    assert groups == [1, 2, 3, 4, 5, 6] * 2 + [1] + [2, 3, 4, 5]
    assert stored == [*range(50, 56)] * 2 + [50] + [*range(51, 55)]


def test_a_disk_without_room_for_the_file_once_more_is_not_filled_by_putting_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0):
        pass
    with connect(warehouse.path, read_only=False, memory_limit_mb=512) as connection:
        monkeypatch.setattr("resources.files.LEAST_FREE_BYTES", shutil.disk_usage(tmp_path).total)
        monkeypatch.setattr("resources.database.IN_ORDER_EVERY", -2)
        put_in_order(connection, warehouse.path)
        assert connection.execute("select current_setting('max_vacuum_tasks')").fetchone() == (0,)
    assert "no room" in caplog.text


def test_room_is_looked_for_where_a_symbolic_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, path, real = tmp_path / "disk", tmp_path / "warehouse.duckdb", shutil.disk_usage
    disk.mkdir()
    path.symlink_to(disk / path.name)
    with warehouse_in(tmp_path).writer("a test", wait_s=0):
        pass
    monkeypatch.setattr("resources.database.IN_ORDER_EVERY", -2)
    needed = path.stat().st_size + LEAST_FREE_BYTES
    for free, tasks in ((needed - 1, 0), (needed, 100)):
        room = {disk: real(disk)._replace(free=free), tmp_path: real(disk)._replace(free=2 * needed * (tasks == 0))}
        monkeypatch.setattr(shutil, "disk_usage", room.__getitem__)
        with connect(path, read_only=False, memory_limit_mb=512) as connection:
            put_in_order(connection, path)
            assert connection.execute("select current_setting('max_vacuum_tasks')").fetchone() == (tasks,)


def test_a_run_whose_end_is_noted_stays_green_where_the_file_cannot_be_put_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "a test", "test", LIMITS)
        put(writer, resource("accounts", "a1"))
        put(writer, booking(account="nobody"))

    def full(*_: object) -> None:
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr("resources.publish.put_in_order", full)
    report = RunReport("r1", "nightly", [])
    publish_run(warehouse, report, "test")
    assert (report.published, report.problems) == (True, [])
    assert any(finding.startswith("orphan_bookings: 1 rows") for finding in report.findings)
    assert "No space left on device" in caplog.text
    with connect(warehouse.path, read_only=True) as connection:
        assert connection.execute("select status, problems from ops.runs").fetchall() == [("green", [])]


def test_a_run_that_is_told_to_end_while_the_file_is_put_in_order_stays_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("a test", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "a test", "test", LIMITS)
        put(writer, resource("accounts", "a1"))

    def told(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resources.publish.put_in_order", told)
    with pytest.raises(KeyboardInterrupt):
        publish_run(warehouse, RunReport("r1", "nightly", []), "test")
    for path in (warehouse.path, warehouse.published_path):
        with connect(path, read_only=True) as connection:
            assert connection.execute("select status, problems from ops.runs").fetchall() == [("green", [])]


def test_a_signal_during_a_checkpoint_does_not_keep_the_file_from_being_opened_again(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from resources import publish as publishing
from tests.test_working_file import *

asked = threading.Event()

def signalled():
    asked.wait()
    while warehouse.path.stat().st_size == size:
        pass  # until the checkpoint writes
    os.kill(os.getpid(), signal.SIGINT)

def before_the_checkpoint(connection, path):
    global size
    connection.execute("insert into core.customer_tags select 'a', n, n, null from range(500_000) numbers(n)")
    size = path.stat().st_size
    asked.set()

thread = threading.Thread(target=signalled, daemon=True)
thread.start()
publishing.put_in_order = before_the_checkpoint
warehouse = warehouse_in(Path(sys.argv[1]))
with warehouse.writer("a test", wait_s=0) as writer:
    put(writer, resource("accounts", "a1"))
try:
    publish_run(warehouse, RunReport("r1", "nightly", []), "test")
    thread.join()
except (KeyboardInterrupt, RuntimeError) as error:
    print(repr(error))
"""
    told = list[str]()
    # On a busy machine the checkpoint may be over before the signal comes, which then finds nothing to interrupt.
    while len(told) < 10 and "Query interrupted" not in "".join(told):
        folder = tmp_path / str(len(told))
        folder.mkdir()
        command = [sys.executable, "-c", script, str(folder)]
        told.append(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert "Query interrupted" in told[-1], told


# ---- the file ----------------------------------------------------------------------------------------------------------------


def test_what_a_kill_left_is_gone_before_the_disk_is_asked_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, real, draft = warehouse_in(tmp_path), shutil.disk_usage, tmp_path / ".warehouse.duckdb.new"
    draft.write_bytes(b"half of a file that was written anew")

    def usage(folder: Path) -> Any:
        return real(folder)._replace(free=0) if draft.exists() else real(folder)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with warehouse.writer("x", wait_s=0):
        assert not draft.exists()


def test_a_new_file_is_for_its_owner_alone_in_utc_and_old_clients_can_read_it(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path / "new" / "folder")
    with warehouse.writer("a test", wait_s=0) as writer:
        assert rows(writer, "select current_setting('TimeZone')") == [("UTC",)]
        assert [n for (n,) in rows(writer, "select number from ops.migrations where number > 0 order by 1")] == list(
            range(1, 1 + len(list((sql_files.SQL_FOLDER / "schema").iterdir())))
        )
        ((tags,),) = rows(writer, "select tags from duckdb_databases() where database_name = 'warehouse'")
        assert tags["storage_version"].startswith("v1.4.0")
    assert warehouse.path.stat().st_mode & 0o777 == 0o600
    assert not warehouse.path.with_name("warehouse.duckdb.wal").exists()


@pytest.mark.parametrize(
    ("memory_mb", "log"), [(128, "72.4 MiB"), (256, "145.9 MiB"), (512, "244.1 MiB"), (4096, "244.1 MiB")]
)
def test_the_log_is_a_share_of_what_memory_may_hold(tmp_path: Path, memory_mb: int, log: str) -> None:
    with connect(tmp_path / "warehouse.duckdb", read_only=False, memory_limit_mb=memory_mb) as connection:
        assert connection.execute("select current_setting('wal_autocheckpoint')").fetchone() == (log,)


def test_a_migration_runs_once_and_keeps_a_copy_of_what_was(tmp_path: Path, sql: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    copy = tmp_path / "warehouse.duckdb.before-900"
    memory, locks = (
        "select current_setting('memory_limit')",
        "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)",
    )
    with warehouse.writer("old", wait_s=0) as writer:
        put(writer, booking())
        limit = rows(writer, memory)
    assert not list(tmp_path.glob("*.before-*"))
    (sql / "schema" / "900_more.sql").write_text(
        "create table core.more (x INTEGER); insert into core.more values (1);"
    )
    for _ in range(2):
        with warehouse.writer("new", wait_s=0) as writer:
            assert rows(writer, "select x from core.more") == [(1,)]
            assert rows(writer, "select name from ops.migrations where number = 900") == [("900_more",)]
            assert rows(writer, "select count(*) from core.bookings") == [(1,)]
            assert rows(writer, memory) == limit
            # DuckDB's own lock, which copying an open file would have dropped.
            command = [sys.executable, "-c", locks, str(warehouse.path)]
            assert "BlockingIOError" in subprocess.run(command, check=False, capture_output=True, text=True).stderr
    with connect(copy, read_only=True) as old:
        assert old.execute("select count(*) from core.bookings").fetchone() == (1,)
        assert old.execute("select count(*) from duckdb_tables() where table_name = 'more'").fetchone() == (0,)


def test_a_file_that_is_written_anew_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync, replace, done = tmp_path / "it's here" / "warehouse.duckdb", os.fsync, Path.replace, list[object]()

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def renamed(draft: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(draft, target)

    with warehouse_in(path.parent).writer("x", wait_s=0) as writer:
        put(writer, booking())
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", renamed)
        assert writer.write_anew()
        assert done == [path.stat().st_ino, "renamed", path.parent.stat().st_ino]
        assert rows(writer, "select count(*) from core.bookings") == [(1,)]


def test_a_file_called_old_can_be_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    open_for_writing(path, 512).close()
    write_anew(path, 512)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_migration_that_fails_changes_nothing_and_can_be_mended(tmp_path: Path, sql: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("old", wait_s=0) as writer:
        put(writer, booking())
    file = sql / "schema" / "900_more.sql"
    file.write_text("create table core.more (x INTEGER); select * from nowhere;")
    with pytest.raises(duckdb.Error, match="nowhere"), warehouse.writer("new", wait_s=0):
        pytest.fail("opened")
    file.write_text("create table core.more (x INTEGER);")
    with warehouse.writer("new", wait_s=0) as writer:
        assert rows(writer, "select count(*) from core.bookings") == [(1,)]


def test_a_file_of_a_newer_version_is_refused_unchanged(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with warehouse.writer("newer", wait_s=0) as writer:
        writer.connection.execute("insert into ops.migrations values (999, 'future', now())")
    with (
        pytest.raises(WarehouseError, match=r"written by a newer version .*schema 999, this one knows \d+\)"),
        warehouse.writer("older", wait_s=0),
    ):
        pytest.fail("opened")


def test_views_are_made_again_when_their_text_changes(tmp_path: Path, sql: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    open_for_writing(path, 512).close()
    mart = sql / "marts" / "99_new.sql"
    for number in (1, 2):
        mart.write_text(f"create or replace view marts.new as select {number} as n")
        connection = open_for_writing(path, 512)
        assert connection.execute("select n from marts.new").fetchall() == [(number,)]
        assert connection.execute("select count(*) from ops.migrations where number = 0").fetchall() == [(1,)]
        connection.close()


def test_what_is_no_warehouse_is_told_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "clockwork"
    folder.mkdir()
    (folder / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(
        SettingsError, match=r"WAREHOUSE_PATH names .*/clockwork/warehouse\.duckdb, which is no DuckDB file"
    ):
        warehouse_in(folder)
    assert [path.name for path in folder.iterdir()] == ["warehouse.duckdb"]
    half = b"\0" * 8 + b"DUCK" + b"\0" * 1000
    (folder / "warehouse.duckdb").write_bytes(half)
    with pytest.raises(WarehouseError, match="cannot be opened"), warehouse_in(folder).writer("x", wait_s=0):
        pytest.fail("opened")


def test_an_empty_file_is_replaced_by_what_is_published_and_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    published = tmp_path / "public" / "analytics.duckdb"
    published.parent.mkdir()
    published.touch()
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        put(writer, resource("accounts", "a1"))
    publish(warehouse_in(tmp_path), "r1", "test", wait_s=0)
    with connect(published, read_only=True) as analyst:
        assert analyst.execute("select count(*) from core.accounts").fetchone() == (1,)
    with (
        pytest.raises(WarehouseError, match=r"WAREHOUSE_PATH: .* cannot be written"),
        warehouse_in(published).writer("x", wait_s=0),
    ):
        pytest.fail("opened")


def test_somebody_elses_database_is_neither_added_to_nor_replaced(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    warehouse.published_path.parent.mkdir()
    for path in (warehouse.path, warehouse.published_path):
        with connect(path, read_only=False) as connection:
            connection.execute("create table mine as select 42 as answer")
        path.chmod(0o644)
    before = warehouse.path.read_bytes()
    told = (
        r"{} names .*{}, a DuckDB file that holds other tables than a warehouse's and was left alone\. Name another one"
    )
    with (
        pytest.raises(WarehouseError, match=told.format("WAREHOUSE_PATH", r"warehouse\.duckdb")),
        warehouse.writer("x", wait_s=0),
    ):
        pytest.fail("opened")
    assert warehouse.path.read_bytes() == before
    assert warehouse.path.stat().st_mode & 0o777 == 0o644
    warehouse.path.unlink()
    before = warehouse.published_path.read_bytes()
    report = RunReport("r1", "nightly", [])
    with warehouse.writer("x", wait_s=0) as writer:
        writer.start_run("r1", "nightly", "test", "0", LIMITS)
    with pytest.raises(WarehouseError, match=told.format("WAREHOUSE_PUBLISHED_PATH", r"analytics\.duckdb")):
        publish_run(warehouse, report, "0")
    assert warehouse.published_path.read_bytes() == before
    with connect(warehouse.path, read_only=True) as connection:
        assert connection.execute("select status, problems[1] like '%was left alone%' from ops.runs").fetchall() == [
            ("red", True)
        ]


def test_a_backup_beside_the_log_of_a_killed_run_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass
    before = path.read_bytes()
    with connect(path, read_only=False) as connection:
        connection.execute("create table more as select range from range(100000); checkpoint")
        connection.execute("insert into more values (1)")
        log = path.with_name("warehouse.duckdb.wal")
        kept = log.read_bytes()
    path.write_bytes(before)
    log.write_bytes(kept)
    with pytest.raises(WarehouseError, match=r"cannot be opened: .* move the log away and run again"):
        warehouse_in(tmp_path).writer("x", wait_s=0).__enter__()
    log.unlink()
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass


def test_a_damaged_file_is_told_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0):
        pass
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WarehouseError, match=r"cannot be opened: .* The file is damaged: put a backup in its place"):
        warehouse_in(tmp_path).writer("x", wait_s=0).__enter__()
    spoilt = bytearray(whole)
    spoilt[20_000::4096] = b"x" * len(spoilt[20_000::4096])
    path.write_bytes(spoilt)
    with pytest.raises(WarehouseError, match="The file is damaged"), warehouse_in(tmp_path).writer("x", wait_s=0) as it:
        it.connection.execute("checkpoint")


def test_a_file_whose_empty_end_was_let_go_of_is_whole(tmp_path: Path) -> None:
    """DuckDB notes how many blocks there are, and then cuts off those at the end in which nothing stands."""
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        writer.connection.execute("create table more as select hash(range) as h from range(500000); checkpoint")
        writer.connection.execute("drop table more; checkpoint")
    size = path.stat().st_size
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        writer.connection.execute("insert into ops.migrations values (0, 'x', now()); checkpoint")
    with connect(path, read_only=True) as connection:
        (noted,) = connection.execute("select block_size * total_blocks from pragma_database_size()").fetchone() or (0,)
    whole = path.stat().st_size
    assert whole < noted <= size
    assert count_runs_of_whole_file(path) == 0
    os.truncate(path, whole - 262_144)
    with pytest.raises(WarehouseError, match=rf"of its {noted:,} bytes {whole - 262_144:,} are there"):
        count_runs_of_whole_file(path)


def test_damage_that_a_question_meets_is_told_with_the_cure(tmp_path: Path) -> None:
    """The file opens, since its beginning is whole, and a block in its middle is not what was written."""
    path = tmp_path / "warehouse.duckdb"
    with warehouse_in(tmp_path).writer("x", wait_s=0) as writer:
        start = path.stat().st_size
        writer.connection.execute("create table more as select hash(range) as h from range(500000); checkpoint")
    spoilt = bytearray(path.read_bytes())
    spoilt[start + 300_000 : start + 2_000_000] = b"x" * len(spoilt[start + 300_000 : start + 2_000_000])
    path.write_bytes(spoilt)
    question = "select count(distinct h) from more"
    with (
        pytest.raises(WarehouseError, match=r"cannot be read: .* The file is damaged"),
        warehouse_in(tmp_path).reader() as (connection, _),
    ):
        connection.execute(question).fetchall()
    with (
        pytest.raises(WarehouseError, match="The file is damaged"),
        warehouse_in(tmp_path).writer("x", wait_s=0) as writer,
    ):
        writer.connection.execute(question).fetchall()


@pytest.mark.parametrize("is_folder", [False, True], ids=["a file", "a folder"])
def test_what_is_not_ours_is_never_replaced_by_what_is_published(is_folder: bool, tmp_path: Path) -> None:
    published = tmp_path / "public" / "analytics.duckdb"
    published.parent.mkdir()
    if is_folder:
        published.mkdir()
    else:
        published.write_text("minutes of a meeting", encoding="utf-8")
    with pytest.raises(SettingsError, match="WAREHOUSE_PUBLISHED_PATH names"):
        warehouse_in(tmp_path)
    assert is_folder or published.read_text(encoding="utf-8") == "minutes of a meeting"


def test_a_file_that_another_program_has_open_is_told_with_its_process(tmp_path: Path) -> None:
    open_for_writing(tmp_path / "warehouse.duckdb", 512).close()
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        told = rf"is open in another program \(process {other.pid}\)"
        with pytest.raises(WarehouseError, match=told), warehouse_in(tmp_path).writer("x", wait_s=0):
            pytest.fail("opened")
        other.kill()


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    warehouse = warehouse_in(tmp_path)
    with (
        warehouse.writer("the first", wait_s=0),
        pytest.raises(LeaseHeldError, match="the first"),
        warehouse.writer("x", wait_s=0),
    ):
        pytest.fail("two writers")
    with warehouse.writer("x", wait_s=0):
        pass
