"""From the oldest released file to today: nothing is lost, a copy stays, the sync goes on where it stood, and other DuckDB versions can read the result.

`fixtures/warehouse-0.1.0.duckdb.xz` is a working file as version 0.1.0 (schema 2) wrote it: a nightly of `World(seed=11, …)`, twelve changes of
`random.Random(11)`, twenty hours, a sweep. A fixture is never made again: it is what users have. What does not live here: single rules of migrations
(`test_working_file`).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.commands import renormalise_once
from pipelines.run import new_run_id
from pipelines.streams import BUILT_IN, streams_of
from resources import database, sql_files
from resources.contract import load_contract
from resources.database import connect
from resources.errors import WarehouseError
from resources.migrations import DOCUMENTS_ZSTD, open_for_writing
from resources.publish import publish, run_checks
from resources.settings import Settings
from resources.sql_files import checks
from resources.warehouse import Warehouse
from tests.emulator import Emulator, World
from tests.equality import contract_with, differences, night, query, settings_for

FIXTURE = Path(__file__).parent / "fixtures" / "warehouse-0.1.0.duckdb.xz"
OLD_VERSION = 2
SHAPES_OF_OLDER_ROWS = 12
KEPT_SCHEMAS = ("core", "history", "ops")
# The number in a DuckDB file's header: 67 is what 1.4 writes, and the newest that 1.4 and 1.5 both read.
READABLE_BY_1_4 = 67
Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The released file, unpacked, as its owner alone may read it."""
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(lzma.decompress(FIXTURE.read_bytes()))
    path.chmod(0o644)  # as an unpacked copy often is
    return path


def warehouse_at(path: Path) -> Warehouse:
    own: dict[str, Any] = {"warehouse_path": path, "warehouse_published_path": path.with_name("analytics.duckdb")}
    return Warehouse(Settings(_env_file=None, **own))  # type: ignore[call-arg]  # pydantic-settings' own argument


def contents(path: Path) -> Tables:
    """Every row of every table that holds state, as JSON text, sorted."""
    found: Tables = {}
    with connect(path, read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name in ? order by all",
            [list(KEPT_SCHEMAS)],
        ).fetchall()
        for schema, table in tables:
            rows = connection.sql(f"select to_json(t) from {schema}.{table} as t order by 1").fetchall()  # noqa: S608  names from the catalogue
            found[f"{schema}.{table}"] = [json.loads(text) for (text,) in rows]
    return found


def kept(before: Tables, after: Tables) -> list[str]:
    """What of the old rows and values is not there any more; columns and tables may have been added."""
    lost = []
    for table, rows in before.items():
        if table == "ops.migrations":  # its row 0 names the present text of the views
            rows = [r for r in rows if r["number"] > 0]
        columns = set(rows[0]) if rows else set()
        now = [json.dumps({c: v for c, v in r.items() if c in columns}, sort_keys=True) for r in after.get(table, [])]
        for row in rows:
            text = json.dumps(row, sort_keys=True)
            if text in now:
                now.remove(text)
            else:
                lost.append(f"{table}: {text[:200]}")
    return lost


def version_of(path: Path) -> list[int]:
    return [n for (n,) in query(path, "select number from ops.migrations where number > 0 order by applied_at, number")]


def known_versions() -> list[int]:
    return [int(p.name[:3]) for p in sorted((sql_files.SQL_FOLDER / "schema").glob("*.sql"))]


def file_version(path: Path) -> int:
    """The storage version in a DuckDB file's header (after eight bytes of checksum and `DUCK`)."""
    header = path.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    return int.from_bytes(header[12:20], "little")


def test_the_fixture_is_the_file_that_was_released(old: Path) -> None:
    assert version_of(old) == [1, OLD_VERSION]
    found = contents(old)
    sizes = {name: len(rows) for name, rows in found.items()}
    assert sizes["core.bookings"] == 41
    assert sizes["core.customers"] == 22
    assert sizes["history.records"] == 9
    assert sizes["ops.windows"] == 46
    assert file_version(old) == READABLE_BY_1_4


def test_the_oldest_file_is_brought_up_to_date_and_keeps_every_row(old: Path, tmp_path: Path) -> None:
    before = contents(old)
    # What a kill left of a copy, open to others.
    half = tmp_path / f".warehouse.duckdb.before-{OLD_VERSION + 1:03d}.new"
    half.touch()
    half.chmod(0o644)
    with warehouse_at(old).writer("an upgrade", wait_s=0) as writer:
        found = [f for f in run_checks(writer.connection, checks()) if f.count]
    assert [str(f) for f in found if f.check.is_blocking] == []
    assert version_of(old) == known_versions()
    assert kept(before, contents(old)) == []

    pending = [n for n in known_versions() if n > OLD_VERSION]
    copies = sorted(tmp_path.glob("*.before-*"))
    assert [c.name for c in copies] == [f"warehouse.duckdb.before-{n:03d}" for n in pending[:1]]
    for copy in copies:
        assert copy.stat().st_mode & 0o777 == 0o600
        assert contents(copy) == before
    assert not half.exists()

    # The second opening has nothing to do.
    done = contents(old)
    open_for_writing(old, 512).close()
    assert contents(old) == done
    assert sorted(tmp_path.glob("*.before-*")) == copies


OPENED_WITH_HALF_THE_ROOM = """
import resource, sys
from pathlib import Path
from resources.migrations import open_for_writing
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2,) * 2)
open_for_writing(path, 512)
"""


def test_half_a_copy_is_no_copy_to_go_back_to(old: Path) -> None:
    before, files = contents(old), sorted(old.parent.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", OPENED_WITH_HALF_THE_ROOM, str(old)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert sorted(old.parent.iterdir()) == files
    assert contents(old) == before


def test_rows_that_an_older_version_shaped_are_told_until_they_are_shaped_again(
    old: Path, world: World, tmp_path: Path
) -> None:
    """Documents that did not change are not read again, so their columns stay what that version made of them."""

    def told(path: Path) -> list[str]:
        with connect(path, read_only=True) as connection:
            found = run_checks(connection, [c for c in checks() if c.name.startswith("several_contracts")])
        return sorted(f.check.stream for f in found if f.count)

    with connect(old, read_only=False) as connection:
        connection.execute("update core.bookings set status = 'as it was read then'")
    streams = ["accounts", "bookings", "customers", "events"]
    with Emulator(world) as emulator:
        world.clock.advance(timedelta(hours=30))
        settings = settings_for(emulator, tmp_path)
        assert night(settings, kind="sweep").problems == []
        assert query(old, "select distinct status from core.bookings") == [("as it was read then",)]
        assert told(old) == streams
        done = renormalise_once(settings, load_contract(), list(BUILT_IN.values()), "next")
    assert done.problems == []
    assert done.warnings == []
    assert told(old) == []
    assert differences(old, world.truth()) == []
    # A file that this version began has none.
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path / "new")
        assert night(settings).problems == []
    assert told(settings.warehouse_path) == []


def test_rows_of_a_list_that_a_contract_added_are_told_too(world: World, tmp_path: Path) -> None:
    """The same code reads their instants. The mark goes with the first that shapes them all again."""
    contract = contract_with(tmp_path, '[streams.things]\npath = "events"\ntypes = ["events"]\n')
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        night(settings, contract)
        with connect(settings.warehouse_path, read_only=False) as connection:
            connection.execute("delete from ops.migrations where number = ?", [SHAPES_OF_OLDER_ROWS])

        def told() -> list[str]:
            findings = night(settings, contract, publish=True).findings
            return [text.partition(":")[0] for text in findings if text.startswith("several_contracts")]

        assert "several_contracts_things" in told()
        done = renormalise_once(settings, contract, list(streams_of(contract).values()), "next")
        assert done.problems == []
        assert told() == []


def test_answers_of_participants_who_left_go_with_them(old: Path) -> None:
    with connect(old, read_only=False) as connection:
        (left,) = connection.execute(
            "select any_value(customer_booking_id) from core.booking_answers where deleted_at is null"
        ).fetchone() or ("",)
        connection.execute(
            "update core.booking_customers set deleted_at = '2026-03-01' where customer_booking_id = ?", [left]
        )
    live = "select count(*) from core.booking_answers where deleted_at is null and customer_booking_id <> ?"
    others = query(old, live, left)
    open_for_writing(old, 512).close()
    gone = query(
        old, "select distinct deleted_at::date::varchar from core.booking_answers where customer_booking_id = ?", left
    )
    assert gone == [("2026-03-01",)]
    assert query(old, live, left) == others


def test_after_the_upgrade_it_is_published_for_clients_of_1_4_and_1_5(old: Path) -> None:
    warehouse = warehouse_at(old)
    publish(warehouse, new_run_id(), "next")
    for path in (warehouse.path, warehouse.published_path):
        assert file_version(path) <= READABLE_BY_1_4
    with connect(warehouse.published_path, read_only=True) as connection:
        (tags,) = connection.execute(
            "select tags from duckdb_databases() where path = ?", [str(warehouse.published_path)]
        ).fetchone() or ({},)
        assert tags["storage_version"].startswith("v1.4.0")
        for view in sql_files.marts():
            connection.execute(f"select * from marts.{view}").fetchall()  # noqa: S608  names of ours
    assert warehouse.published_path.stat().st_mode & 0o777 == 0o640


@pytest.fixture
def world() -> World:
    """The world of the fixture, in the state in which the fixture's sweep met it."""
    world = World(seed=11, accounts=2, customers=20, bookings=40, events=4, years=1)
    world.mutate(12, random.Random(11))
    world.clock.advance(timedelta(hours=20))
    return world


def test_the_next_night_reads_only_what_changed_and_equals_the_truth(old: Path, world: World, tmp_path: Path) -> None:
    assert differences(old, world.truth()) == []
    world.clock.advance(timedelta(hours=30))
    world.add_booking()
    world.change_customer()
    world.add_customer()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        assert settings.warehouse_path == old
        report = night(settings, publish=True)
        assert report.problems == []
        asked = [r for r in emulator.requests if r.method == "GET" and r.path != "/v2/accounts"]
        assert {r.path for r in asked} == {"/v2/customers", "/v2/bookings", "/v2/events"}
        assert [r for r in asked if "filter[updatedAfter]" not in str(r.query)] == []
        assert len(asked) == 3, "the head of each stream alone"
        assert sum(s.counts.inserted for s in report.streams) == 2
    for path in (settings.warehouse_path, settings.warehouse_published_path):
        assert differences(path, world.truth()) == []


def test_a_sweep_of_the_upgraded_file_retires_what_is_gone_and_nothing_else(
    old: Path, world: World, tmp_path: Path
) -> None:
    (before,) = query(old, "select count(*) from core.bookings where deleted_at is not null")[0]
    world.clock.advance(timedelta(hours=30))
    world.delete_booking()
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path)
        assert night(settings, kind="sweep").problems == []
    assert differences(old, world.truth()) == []
    assert query(old, "select count(*) from core.bookings where deleted_at is not null") == [(before + 1,)]


def test_a_migration_that_fails_half_way_leaves_the_version_before_it(old: Path, sql: Path) -> None:
    before, today = contents(old), known_versions()
    broken = sql / "schema" / "900_broken.sql"
    broken.write_text(
        "create table core.half (x INTEGER); update core.bookings set status = 'half'; delete from ops.windows; select * from nowhere;"
    )
    for _ in range(2):
        with pytest.raises(duckdb.Error, match="nowhere"):
            open_for_writing(old, 512)
        assert version_of(old) == today
        after = contents(old)
        assert kept(before, after) == []
        assert "core.half" not in after
    first = min([n for n in today if n > OLD_VERSION], default=900)
    assert contents(old.with_name(f"{old.name}.before-{first:03d}")) == before
    broken.write_text("create table core.half (x INTEGER);")
    open_for_writing(old, 512).close()
    assert version_of(old) == [*today, 900]
    assert kept(before, contents(old)) == []


def test_a_file_of_a_newer_version_is_refused_and_not_one_byte_changes(old: Path) -> None:
    with connect(old, read_only=False) as connection:
        connection.execute("insert into ops.migrations values (950, '950_future', now())")
    before = hashlib.sha256(old.read_bytes()).hexdigest()
    newest = max(known_versions())
    with (
        pytest.raises(
            WarehouseError, match=rf"newer version .*schema 950, this one knows {newest}.*Install that version"
        ),
        warehouse_at(old).writer("an older version", wait_s=0),
    ):
        pytest.fail("opened")
    assert hashlib.sha256(old.read_bytes()).hexdigest() == before
    assert not list(old.parent.glob("*.before-*"))


# ---- DuckDB 2.x --------------------------------------------------------------------------------------------------------------

# Run by another DuckDB: reads both files, then writes the copy and a new file as the product does.
OTHER_DUCKDB = """
import json, sys
import duckdb
work, published, new, storage = sys.argv[1:]
counts = {}
for path in (work, published):
    with duckdb.connect(path, read_only=True) as con:
        con.execute("set TimeZone = 'UTC'")
        tables = con.execute("select schema_name, table_name from duckdb_tables() where schema_name in ('core', 'history', 'ops')").fetchall()
        counts[path] = {f"{s}.{t}": con.execute(f"select count(*) from {s}.{t}").fetchone()[0] for s, t in tables}
with duckdb.connect(published, read_only=True) as con:
    views = con.execute("select view_name from duckdb_views() where schema_name = 'marts'").fetchall()
    counts["views"] = {v: len(con.execute(f"select * from marts.{v}").fetchall()) for v, in views}
with duckdb.connect(work, config={"storage_compatibility_version": storage}) as con:
    con.execute("create table core.extra as select * from core.bookings")
    con.execute("update core.customers set first_name = 'changed'")
    con.execute("checkpoint")
with duckdb.connect(new, config={"storage_compatibility_version": storage}) as con:
    con.execute("create table t as select range as x, [range] as l, '{}'::JSON as j, now() as n, range::DECIMAL(18, 4) as d from range(1000)")
print(json.dumps([duckdb.__version__, counts]))
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_duckdb_2_reads_what_1_5_wrote_and_writes_what_1_5_reads(old: Path, tmp_path: Path) -> None:
    python = tmp_path / "other" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "other")], check=True)
    install = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "duckdb>=2.0.1,<3", "pytz"],
        capture_output=True,
        text=True,
        check=False,
    )
    if install.returncode:
        pytest.skip(f"DuckDB 2.0.1 or later cannot be installed here: {install.stderr.strip().splitlines()[-1]}")
    warehouse = warehouse_at(old)
    publish(warehouse, new_run_id(), "next")
    before, new = contents(old), tmp_path / "new.duckdb"
    done = subprocess.run(
        [python, "-c", OTHER_DUCKDB, str(old), str(warehouse.published_path), str(new), database.STORAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, counts = json.loads(done.stdout)
    assert version.startswith("2.")
    for path in (old, warehouse.published_path):
        assert counts[str(path)] == {t: len(rows) for t, rows in before.items()}
    with connect(warehouse.published_path, read_only=True) as connection:
        views = {v: len(connection.execute(f"select * from marts.{v}").fetchall()) for v in sql_files.marts()}  # noqa: S608
    assert counts["views"] == views
    # What it wrote is for 1.5 to read, and for the product to go on with.
    assert file_version(old) <= READABLE_BY_1_4
    assert file_version(new) <= READABLE_BY_1_4
    assert query(new, "select count(*), sum(d) from t") == [(1000, 499500)]
    assert query(old, "select count(*) from core.extra") == [(len(before["core.bookings"]),)]
    assert query(old, "select distinct first_name from core.customers") == [("changed",)]
    open_for_writing(old, 512).close()


def catalogue(path: Path) -> list[tuple[Any, ...]]:
    """Every column as it is declared, with what is said of it and of its table."""
    return query(
        path,
        """
        select columns.schema_name, columns.table_name, column_index, column_name, columns.data_type, is_nullable, columns.comment, tables.comment
        from duckdb_columns() as columns join duckdb_tables() as tables using (table_oid) order by all
        """,
    )


def compressions(path: Path, table: str) -> set[str]:
    sql = "select distinct compression from pragma_storage_info(?) where column_name = 'document'"
    found = query(path, sql, table)
    return {name for (name,) in found} - {"Constant", "Empty Validity", "Roaring"}  # those of the mask of nulls


def test_documents_are_stored_anew_and_nothing_else_is_different(old: Path, tmp_path: Path) -> None:
    assert compressions(old, "core.bookings") == {"DICT_FSST"}
    open_for_writing(old, 512).close()
    new = tmp_path / "new" / "warehouse.duckdb"
    new.parent.mkdir()
    open_for_writing(new, 512).close()
    assert catalogue(old) == catalogue(new)
    for table in ("core.bookings", "core.customers", "history.records"):
        assert compressions(old, table) == {"ZSTD"}


def test_documents_of_streams_that_a_contract_added_are_stored_anew_too(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with open_for_writing(path, 512) as connection:
        template = sql_files.sql_file("generic_stream.sql")
        assert "using compression zstd" in template
        connection.execute(template.replace(" using compression zstd", "").format(stream="intents"))
        connection.execute(
            "insert into core.intents select 'a1', i, null, null, null, null, '{\"data\": ' || i || '}', 'h', now(), 's' from range(5000) as t(i)"
        )
        connection.execute("delete from ops.migrations where number = ?", [DOCUMENTS_ZSTD])
    before = catalogue(path)
    rows = query(path, "from core.intents order by all")
    open_for_writing(path, 512).close()
    assert compressions(path, "core.intents") == {"ZSTD"}
    assert catalogue(path) == before
    assert query(path, "from core.intents order by all") == rows
