"""What DuckDB spills to disk while it works: rows in plain. Who may read them, and whether they are gone after a kill.

What lives here: processes that spill for real. What does not: modes of the files that stay (`test_secrets`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from resources.migrations import open_for_writing
from resources.settings import PROJECT_FOLDER, Settings
from resources.warehouse import Warehouse

# More rows than the least memory holds; the first is there once all were sorted, and the connection keeps what it spilled until the last is taken.
SPILLS = "select md5(i::varchar) || md5((i + 1)::varchar) as told, i from range(2_000_000) as numbers(i) order by told"
READS = """
from pipelines.shell import open_published
with open_published(Path(sys.argv[1])) as connection:
    connection.execute("set memory_limit = '64MB'")
"""
WRITES = """
from resources.migrations import open_for_writing
with contextlib.closing(open_for_writing(Path(sys.argv[1]), 64)) as connection:
"""
PROGRAM = """
import contextlib, sys
from pathlib import Path
{opens}
    connection.execute({query!r})
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def spilling(opens: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the product, under a umask that lets everybody read, that holds spilled rows of a file; killed at the end."""
    program = [sys.executable, "-c", PROGRAM.format(opens=opens, query=SPILLS), str(path)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0o022, cwd=PROJECT_FOLDER
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        try:
            yield process
        finally:
            process.kill()


def spilled(path: Path) -> list[Path]:
    return list(path.with_name(f"{path.name}.tmp").glob("duckdb_temp_*"))


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty one, and its published file, which is no more than there."""
    made = Warehouse(
        Settings(
            _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own argument
            warehouse_path=tmp_path / "warehouse.duckdb",
            warehouse_published_path=tmp_path / "analytics.duckdb",
        )
    )
    with made.writer("making it"):
        pass
    made.published_path.write_bytes(made.path.read_bytes())
    return made


@pytest.mark.parametrize("opens", [READS, WRITES], ids=["reads", "writes"])
def test_what_is_spilled_is_for_its_owner_alone(opens: str, warehouse: Warehouse) -> None:
    path = warehouse.published_path if opens is READS else warehouse.path
    with spilling(opens, path):
        assert {one.stat().st_mode & 0o777 for one in spilled(path)} == {0o600}


@pytest.mark.parametrize("name", ["warehouse.duckdb", "link.duckdb"])
def test_what_a_killed_run_had_spilled_is_gone_with_the_next(warehouse: Warehouse, name: str) -> None:
    opened = warehouse.path.with_name(name)
    if not opened.exists():
        opened.symlink_to(warehouse.path)
    with spilling(WRITES, opened):
        assert spilled(warehouse.path)
    assert spilled(warehouse.path), "a kill leaves it"
    draft = warehouse.path.with_name(".warehouse.duckdb.new")
    of_draft = [draft, draft.with_name(draft.name + ".wal"), draft.with_name(draft.name + ".tmp") / "duckdb_temp_0"]
    not_ours = warehouse.path.with_name("warehouse.duckdb.tmp") / "mine"
    of_draft[-1].parent.mkdir()
    for one in (*of_draft, not_ours):
        one.write_bytes(b"half")
    with closing(open_for_writing(opened, 64)):
        assert spilled(warehouse.path) == []
        assert [one for one in of_draft if one.exists()] == []
        assert not_ours.exists()
