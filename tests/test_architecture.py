"""The house as its plan draws it: who may import whom, and that names written in two places are the same."""

from __future__ import annotations

import ast
import io
import re
import tomllib
from pathlib import Path

import duckdb
import polars as pl
import pytest
from dotenv import dotenv_values

from pipelines.normalise import schema_of
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from resources.database import checks, marts
from resources.settings import ENV_FILE_VARIABLE, PROJECT_FOLDER, Settings

# Module → the modules of the product that it may import. Arrows point one way: pipelines → resources, never back.
ALLOWED: dict[str, set[str]] = {
    "resources.errors": set(),
    "resources.settings": {"resources.errors"},
    "resources.contract": {"resources.errors"},
    "resources.openapi": {"resources.errors", "resources.openapi_source", "resources.schemas"},
    "resources.openapi_source": {"resources.errors"},
    "resources.schemas": set(),
    "resources.retries": set(),
    "resources.rate": {"resources.retries"},
    "resources.oauth": {"resources.contract", "resources.errors", "resources.retries", "resources.settings"},
    "resources.envelope": set(),
    "resources.answers": {"resources.envelope", "resources.errors", "resources.retries"},
    "resources.connections": {"resources.errors", "resources.retries"},
    "resources.links": {"resources.errors"},
    "resources.pages": {
        "resources.answers",
        "resources.contract",
        "resources.envelope",
        "resources.errors",
        "resources.links",
        "resources.retries",
    },
    "resources.exchange": {
        "resources.answers",
        "resources.connections",
        "resources.contract",
        "resources.envelope",
        "resources.links",
        "resources.oauth",
        "resources.rate",
        "resources.retries",
        "resources.settings",
    },
    "resources.appointedd": {
        "resources.answers",
        "resources.contract",
        "resources.envelope",
        "resources.errors",
        "resources.exchange",
        "resources.pages",
        "resources.retries",
        "resources.settings",
    },
    "resources.lease": {"resources.errors"},
    "resources.alive": set(),
    "resources.database": {"resources.errors", "resources.settings"},
    "resources.part": set(),
    "resources.content": set(),
    "resources.merging": {"resources.content", "resources.database", "resources.part"},
    "resources.erasing": {"resources.merging", "resources.part"},
    "resources.ledger": {"resources.part"},
    "resources.generic": {"resources.database"},
    "resources.warehouse": {
        "resources.database",
        "resources.erasing",
        "resources.errors",
        "resources.generic",
        "resources.lease",
        "resources.ledger",
        "resources.merging",
        "resources.part",
        "resources.settings",
    },
    "resources.publish": {
        "resources.database",
        "resources.errors",
        "resources.generic",
        "resources.lease",
        "resources.warehouse",
    },
    "resources.dagster_resources": {"resources.contract", "resources.settings", "resources.warehouse"},
    "pipelines.streams": {"resources.contract", "resources.part"},
    "pipelines.records": set(),
    "pipelines.plan": set(),
    "pipelines.completeness": set(),
    "pipelines.progress": {"resources.pages"},
    "pipelines.splitting": {"pipelines.plan", "pipelines.records", "resources.pages"},
    "pipelines.drift": set(),
    "pipelines.beside": {"pipelines.normalise", "pipelines.slots", "pipelines.streams", "resources.contract"},
    "pipelines.shaping": {"pipelines.beside"},
    "pipelines.slots": {"pipelines.records"},
    "pipelines.documents": {"pipelines.records", "pipelines.slots", "resources.contract"},
    "pipelines.columns": {
        "pipelines.documents",
        "pipelines.drift",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.lists": {
        "pipelines.columns",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.participants": {
        "pipelines.columns",
        "pipelines.lists",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.children": {
        "pipelines.columns",
        "pipelines.documents",
        "pipelines.lists",
        "pipelines.participants",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.extract": {
        "pipelines.children",
        "pipelines.columns",
        "pipelines.documents",
        "pipelines.drift",
        "pipelines.lists",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.normalise": {
        "pipelines.columns",
        "pipelines.drift",
        "pipelines.extract",
        "pipelines.lists",
        "pipelines.records",
        "pipelines.slots",
        "pipelines.streams",
        "resources.contract",
    },
    "pipelines.reading": {
        "pipelines.beside",
        "pipelines.completeness",
        "pipelines.extract",
        "pipelines.normalise",
        "pipelines.plan",
        "pipelines.records",
        "pipelines.shaping",
        "pipelines.slots",
        "pipelines.streams",
        "resources.appointedd",
        "resources.contract",
        "resources.errors",
        "resources.pages",
        "resources.part",
    },
    # First contact: decisions that ask nothing; questions, which go through `probe`; the whole.
    "pipelines.connect.__init__": set(),
    "pipelines.connect.findings": set(),
    "pipelines.connect.honoured": set(),
    "pipelines.connect.difference": set(),
    "pipelines.connect.matching": {"resources.schemas"},
    "pipelines.connect.places": {"pipelines.records", "resources.pages"},
    "pipelines.connect.described": {
        "pipelines.connect.matching",
        "pipelines.streams",
        "resources.contract",
        "resources.openapi",
    },
    "pipelines.connect.edit": {"pipelines.connect.findings", "resources.errors"},
    "pipelines.connect.override": {"pipelines.connect.edit", "pipelines.connect.findings", "resources.errors"},
    "pipelines.connect.probe": {
        "pipelines.connect.places",
        "pipelines.records",
        "pipelines.streams",
        "resources.appointedd",
        "resources.contract",
        "resources.errors",
        "resources.links",
        "resources.openapi",
    },
}
# The questions of a first contact: they ask through `probe`, never by themselves.
QUESTIONS = {
    f"pipelines.connect.{name}"
    for name in (
        "paths",
        "paging",
        "ends",
        "ordering",
        "changes",
        "belonging",
        "columns",
        "shapes",
        "people",
        "together",
        "compare",
        "asking",
        "answering",
    )
}
# Libraries that reach the outside world stay in the rooms that are named for it.
ONLY_IN = {
    "yaml": {"resources.openapi_source"},
    "jsonschema_path": {"resources.openapi", "resources.schemas"},
    "tomlkit": {"pipelines.connect.edit"},
    "httpx": {
        "resources.answers",
        "resources.appointedd",
        "resources.connections",
        "resources.exchange",
        "resources.links",
        "resources.oauth",
        "resources.pages",
    },
    "duckdb": {
        "resources.database",
        "resources.generic",
        "resources.ledger",
        "resources.erasing",
        "resources.merging",
        "resources.warehouse",
        "resources.publish",
        "pipelines.shell",
        "pipelines.status",
        "pipelines.preview",
        "pipelines.doctor",
    },
    "dagster": {
        "resources.dagster_resources",
        "pipelines.assets",
        "pipelines.checks",
        "pipelines.schedules",
        "pipelines.definitions",
    },
}
MODULES = {
    ".".join(p.relative_to(PROJECT_FOLDER).with_suffix("").parts): p
    for f in ("pipelines", "resources")
    for p in (PROJECT_FOLDER / f).rglob("*.py")
}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_follow_the_plan(module: str) -> None:
    own = {name for name in imported(MODULES[module]) if name in MODULES}
    if module in ALLOWED:
        assert own <= ALLOWED[module]
    if module.startswith("resources."):
        assert not {name for name in own if name.startswith("pipelines.")}
    for library, rooms in ONLY_IN.items():
        if module not in rooms:
            assert not {name for name in imported(MODULES[module]) if name.split(".")[0] == library}, library


def test_only_the_command_line_makes_contact() -> None:
    inner = {m for m in MODULES if m.startswith("pipelines.connect")}
    for module in MODULES.keys() - inner:
        reached = imported(MODULES[module]) & inner
        assert not reached or module in ("pipelines.cli", "pipelines.report"), module
    for module in QUESTIONS:
        assert not re.search(r"ApiClient|urlopen|\.look\(", MODULES[module].read_text(encoding="utf-8")), module


def test_no_sync_reads_what_is_only_plausible() -> None:
    readers = {m for m, p in MODULES.items() if re.search(r"\.plausible\b", p.read_text(encoding="utf-8"))}
    assert {r for r in readers if not r.startswith("pipelines.connect.")} == set()


def test_the_table_of_imports_names_modules_that_exist() -> None:
    assert set(ALLOWED) <= set(MODULES)
    assert {room for rooms in ONLY_IN.values() for room in rooms} | QUESTIONS <= set(MODULES)


def test_the_emulator_imports_nothing_of_the_product() -> None:
    for path in (PROJECT_FOLDER / "tests" / "emulator").glob("*.py"):
        assert not {n for n in imported(path) if n.split(".")[0] in ("pipelines", "resources")}, path


def test_sql_is_read_by_one_module() -> None:
    readers = {m for m, p in MODULES.items() if "SQL_FOLDER" in p.read_text(encoding="utf-8")}
    assert readers <= {"resources.database", "pipelines.assets"}


@pytest.fixture(scope="module")
def catalogue() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for file in sorted((PROJECT_FOLDER / "sql" / "schema").glob("*.sql")):
        connection.execute(file.read_text(encoding="utf-8"))
    return connection


def test_dtypes_are_those_of_the_schema(catalogue: duckdb.DuckDBPyConnection) -> None:
    sql_types = {
        "VARCHAR": pl.String(),
        "JSON": pl.String(),
        "BOOLEAN": pl.Boolean(),
        "INTEGER": pl.Int32(),
        "DATE": pl.Date(),
        "TIMESTAMP WITH TIME ZONE": pl.Datetime("us", "UTC"),
        "DECIMAL(18,4)": pl.Decimal(18, 4),
        "DECIMAL(38,9)": pl.Decimal(38, 9),
    }
    bookkeeping = {"deleted_at", "deletion_evidence", "document", "content_hash", "fetched_at", "slice_id"}
    for stream in BUILT_IN.values():
        tables = {stream.table: (stream.key, stream.columns)}
        tables |= {c.table: ((*stream.key, *c.key), c.columns) for c in stream.children}
        for table, (key, columns) in tables.items():
            declared = dict(
                catalogue.execute(
                    "select column_name, data_type from duckdb_columns() where schema_name = 'core' and table_name = ?",
                    [table],
                ).fetchall()
            )
            expected = dict.fromkeys(key, pl.String()) | schema_of(columns)
            assert {n: sql_types[t] for n, t in declared.items() if n not in bookkeeping} == expected, table


def test_every_table_and_column_has_a_comment(catalogue: duckdb.DuckDBPyConnection) -> None:
    bare = catalogue.execute(
        """
        select table_name, column_name from duckdb_columns() where comment is null and schema_name in ('core', 'ops', 'history')
        union all select table_name, null from duckdb_tables() where comment is null and schema_name in ('core', 'ops', 'history')
        """
    ).fetchall()
    assert bare == []


def test_contract_and_streams_name_the_same_columns() -> None:
    contract = load_contract()
    lists = {"customers": {"custom_fields", "tags"}, "bookings": {"resources", "participants"}}
    assert {n for n, s in contract.streams.items() if s.enabled} == set(BUILT_IN)
    for name, stream in BUILT_IN.items():
        assert set(contract.streams[name].columns) == {c.name for c in stream.columns} | lists.get(name, set())
    participant = BUILT_IN["bookings"].children[0]
    own = {c.name for c in participant.columns} | {"customer_booking_id", "answers"}
    assert set(contract.streams["bookings"].participant_columns) == own


def test_the_example_of_settings_is_complete_and_shows_the_defaults() -> None:
    text = (PROJECT_FOLDER / ".env.example").read_text(encoding="utf-8")
    named = re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", text, re.MULTILINE)
    assert named == [name.upper() for name in Settings.model_fields]
    assert ENV_FILE_VARIABLE in text
    shown = dotenv_values(stream=io.StringIO(re.sub(r"^# ([A-Z][A-Z_]+=)", r"\1", text, flags=re.MULTILINE)))
    defaults = Settings(_env_file=None)  # type: ignore[call-arg]  # pydantic-settings' own argument
    for name in (
        "sync_time_zone",
        "sync_schedule",
        "sync_sweep_schedule",
        "sync_history_start",
        "sync_overlap_minutes",
        "sync_concurrency",
        "sync_requests_per_second",
        "warehouse_memory_limit_mb",
    ):
        value = shown[name.upper()]
        assert value is not None
        assert Settings(_env_file=None, **{name: value}) == defaults, name  # type: ignore[call-arg, arg-type]
    for name in ("warehouse_path", "warehouse_published_path"):
        assert PROJECT_FOLDER / str(shown[name.upper()]) == getattr(defaults, name)


def test_commands_in_the_readme_exist() -> None:
    readme = (PROJECT_FOLDER / "README.md").read_text(encoding="utf-8")
    makefile = (PROJECT_FOLDER / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", readme)) <= targets
    cli = (PROJECT_FOLDER / "pipelines" / "cli.py").read_text(encoding="utf-8")
    for command in set(re.findall(r"appointedd-warehouse ([a-z]+)", readme)):
        assert re.search(rf"def {command}\b|\"{command}\"", cli), command


def test_phony_targets_are_all_explained() -> None:
    makefile = (PROJECT_FOLDER / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE):
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target


def test_the_lock_has_hashes_and_no_address() -> None:
    lock = (PROJECT_FOLDER / "requirements.lock").read_text(encoding="utf-8")
    assert "http" not in re.sub(r"^http\w*==.*$", "", lock, flags=re.MULTILINE)
    assert "index-url" not in lock
    requirements = re.findall(
        r"^([a-z0-9-]+)==\S+(?: ; [^\\]+)? \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock + "\n", re.MULTILINE
    )
    assert len(requirements) == len(re.findall(r"^\S+==", lock, re.MULTILINE))
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {name for name, _ in requirements}
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {re.split(r"[<>=!; ]", w)[0].lower() for w in wanted} <= locked


def test_names_of_checks_and_marts_are_read_from_their_files() -> None:
    assert len({c.name for c in checks()}) == len(checks()) > 20
    assert {"bookings", "customers", "events", "daily_bookings", "data_status"} <= set(marts())
