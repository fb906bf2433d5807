"""The house as its plan draws it: who may import whom, and that names written in two places are the same."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import duckdb
import polars as pl
import pytest
from dotenv import dotenv_values

from pipelines.normalise import schema_of
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from resources.database import connect
from resources.settings import ENV_FILE_VARIABLE, PROJECT_FOLDER, Settings
from resources.sql_files import checks, marts

# Every module of the product, from the ground up: it may import those that stand before it, and nothing else of the product. Layers have names for those
# who read this, and for the two rules below.
LAYERS: dict[str, str] = {
    "standing alone": """
        pipelines.__init__ resources.__init__ pipelines.connect.__init__
        resources.errors resources.retries resources.part resources.content resources.envelope resources.schemas resources.alive
        pipelines.plan pipelines.completeness pipelines.records pipelines.drift
        pipelines.connect.findings pipelines.connect.difference pipelines.connect.honoured
    """,
    "contracts": """
        resources.contract resources.abilities resources.openapi_source resources.openapi
    """,
    "decisions": """
        pipelines.streams pipelines.slots pipelines.redaction pipelines.documents pipelines.members
        pipelines.columns pipelines.lists pipelines.participants pipelines.children
        pipelines.extract pipelines.normalise
        pipelines.connect.matching pipelines.connect.described pipelines.connect.edit pipelines.connect.override
    """,
    "answers": """
        resources.answers resources.links resources.marks resources.pages resources.chain
        pipelines.splitting pipelines.progress pipelines.connect.places
    """,
    "settings": """
        resources.settings
    """,
    "the API": """
        resources.rate resources.connections resources.oauth resources.exchange resources.appointedd
    """,
    "first contact": """
        pipelines.connect.asking pipelines.connect.probe pipelines.connect.paths pipelines.connect.columns
        pipelines.connect.paging pipelines.connect.ends pipelines.connect.ordering pipelines.connect.changes pipelines.connect.belonging
        pipelines.connect.shapes
        pipelines.connect.people pipelines.connect.empty pipelines.connect.together pipelines.connect.way_in pipelines.connect.learn
        pipelines.connect.contact pipelines.connect.answering pipelines.connect.compare
    """,
    "reading": """
        pipelines.beside pipelines.shaping pipelines.parts pipelines.reading pipelines.queues pipelines.accounts pipelines.by_account pipelines.sweep
    """,
    "the warehouse": """
        resources.lease resources.files resources.database resources.sql_files resources.migrations
        resources.frames resources.ledger resources.merging resources.erasing resources.generic
        resources.state resources.runs resources.warehouse resources.publish
    """,
    "runs": """
        pipelines.renormalise pipelines.zones
        pipelines.ending pipelines.run
        pipelines.proof pipelines.committing pipelines.sweeping pipelines.lanes pipelines.walker pipelines.first_load pipelines.sync
    """,
    "Dagster": """
        resources.dagster_resources pipelines.assets pipelines.checks pipelines.schedules pipelines.definitions
    """,
    "the command line": """
        pipelines.console pipelines.logs
        pipelines.status pipelines.doctor_lines pipelines.doctor_files pipelines.doctor pipelines.shell pipelines.commands pipelines.preview
        pipelines.report pipelines.status_report pipelines.plan_report pipelines.connect.report
        pipelines.cli
    """,
}
LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules.split()}
ORDER = [module for modules in LAYERS.values() for module in modules.split()]
# The modules of this layer import nothing of the product.
GROUND = "standing alone"
# What does not know of each other, though one stands above the other.
APART = [("the warehouse", "the API"), ("the command line", "Dagster")]
# The questions of a first contact: they ask through `probe`, never by themselves.
QUESTIONS = {
    f"pipelines.connect.{name}"
    for name in (
        "paths",
        "paging",
        "ends",
        "empty",
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
# Libraries that reach the outside world, or a person's screen, stay in the rooms that are named for it.
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
        "resources.frames",
        "resources.generic",
        "resources.ledger",
        "resources.erasing",
        "resources.merging",
        "resources.migrations",
        "resources.runs",
        "resources.state",
        "resources.warehouse",
        "resources.publish",
        "pipelines.shell",
        "pipelines.status",
    },
    "rich": {"pipelines.console", "pipelines.logs"},
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


def own_imports(module: str) -> set[str]:
    return {name for name in imported(MODULES[module]) if name in MODULES}


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(MODULES)
    assert set(MODULES) >= QUESTIONS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    own, layer = own_imports(module), LAYER_OF[module]
    assert own <= (set() if layer == GROUND else set(ORDER[: ORDER.index(module)]))
    assert not {name for name in own if (layer, LAYER_OF[name]) in APART}
    if module.startswith("resources."):
        assert not {name for name in own if name.startswith("pipelines.")}


def test_the_map_of_the_house_names_every_module() -> None:
    table = (PROJECT_FOLDER / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## One booking")[0]
    named = {name.removesuffix(".py") for name in re.findall(r"`([\w.]+)`", table)}
    assert {m.split(".")[-1] for m in MODULES} - named == {"__init__"}


def test_libraries_stay_in_their_rooms() -> None:
    roots = {module: {name.split(".")[0] for name in imported(path)} for module, path in MODULES.items()}
    for library, rooms in ONLY_IN.items():
        assert {module for module, found in roots.items() if library in found} == rooms, library


def test_only_the_command_line_makes_contact() -> None:
    inner = {m for m in MODULES if m.startswith("pipelines.connect")}
    for module in MODULES.keys() - inner:
        reached = imported(MODULES[module]) & inner
        assert not reached or module == "pipelines.cli", module
    for module in QUESTIONS:
        assert not re.search(r"ApiClient|urlopen|\.look\(", MODULES[module].read_text(encoding="utf-8")), module


def test_no_sync_reads_what_is_only_plausible() -> None:
    readers = {m for m, p in MODULES.items() if re.search(r"\.plausible\b", p.read_text(encoding="utf-8"))}
    assert {r for r in readers if not r.startswith("pipelines.connect.")} == set()


def test_the_emulator_imports_nothing_of_the_product() -> None:
    files = list((PROJECT_FOLDER / "tests" / "emulator").glob("*.py"))
    assert len(files) > 15
    for path in files:
        assert not {n for n in imported(path) if n.split(".")[0] in ("pipelines", "resources")}, path


def test_sql_is_read_by_one_module() -> None:
    readers = {m for m, p in MODULES.items() if "SQL_FOLDER" in p.read_text(encoding="utf-8")}
    assert readers == {"resources.sql_files"}


def test_every_connection_of_this_process_has_one_thread() -> None:
    """Closing one that has more may end the process (docs/decisions.md); `resources.database.connect` makes them all, those of tests too."""
    opened = set()
    for folder in ("pipelines", "resources", "tests"):
        for path in (PROJECT_FOLDER / folder).rglob("*.py"):
            calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            opened |= {str(path.relative_to(PROJECT_FOLDER)) for call in calls if ast.unparse(call) == "duckdb.connect"}
    # A peer that is measured is a process of its own.
    assert opened == {"resources/database.py", "tests/bench/afternoon.py"}


@pytest.fixture(scope="module")
def catalogue() -> duckdb.DuckDBPyConnection:
    connection = connect(Path(":memory:"), read_only=False)
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
        tables = {stream.name: (stream.key, stream.columns)}
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
    paths = {"warehouse_path", "warehouse_published_path"}
    fields = {n: f.get_default(call_default_factory=True) for n, f in Settings.model_fields.items()}
    with_default = {name for name, value in fields.items() if value not in (None, (), {})} - paths
    assert len(with_default) >= 11
    for name in with_default:
        value = shown[name.upper()]
        assert value is not None
        assert Settings(_env_file=None, **{name: value}) == defaults, name  # type: ignore[call-arg, arg-type]
    for name in paths:
        assert PROJECT_FOLDER / str(shown[name.upper()]) == getattr(defaults, name)


def test_commands_in_the_readme_exist() -> None:
    readme = (PROJECT_FOLDER / "README.md").read_text(encoding="utf-8")
    makefile = (PROJECT_FOLDER / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", readme)) <= targets
    cli = (PROJECT_FOLDER / "pipelines" / "cli.py").read_text(encoding="utf-8")
    for command in set(re.findall(r"appointedd-warehouse ([a-z]+)", readme)):
        assert re.search(rf"def {command}\b|\"{command}\"", cli), command


def test_the_folder_of_dagster_is_made_with_the_settings_of_this_project_and_then_left_alone(tmp_path: Path) -> None:
    def make() -> str:
        home = tmp_path / "a" / "dagster"
        command = ["make", "--silent", "dagster-home", f"DAGSTER_HOME={home}"]
        subprocess.run(command, cwd=PROJECT_FOLDER, check=True)
        return (home / "dagster.yaml").read_text(encoding="utf-8")

    assert make() == (PROJECT_FOLDER / "pipelines" / "dagster.yaml").read_text(encoding="utf-8")
    # As the product makes data/, which this may be the first to make.
    assert [(tmp_path / folder).stat().st_mode & 0o777 for folder in ("a", "a/dagster")] == [0o750, 0o750]
    (tmp_path / "a" / "dagster" / "dagster.yaml").write_text("# my own\n", encoding="utf-8")
    assert make() == "# my own\n"


def test_each_promise_has_limits_and_a_proof_that_exists() -> None:
    text = (PROJECT_FOLDER / "docs" / "guarantees.md").read_text(encoding="utf-8")
    promises = re.split(r"^## (?=\d)", text, flags=re.MULTILINE)[1:]
    assert [int(p.split(".")[0]) for p in promises] == list(range(1, len(promises) + 1))
    assert len(promises) >= 14
    for promise in promises:
        _, limits, proof = re.split(r"^(?:Limits:|Proof: )", promise.split("\n## ")[0], flags=re.MULTILINE)
        assert re.search(r"^- ", limits, re.MULTILINE)
        files = re.findall(r"`(tests/\S+\.py)`", proof)
        assert files
        assert [file for file in files if not (PROJECT_FOLDER / file).exists()] == []


def test_phony_targets_are_all_explained() -> None:
    makefile = (PROJECT_FOLDER / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE)
    assert len(targets) > 15
    for target in targets:
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!; ]", wanted)[0].lower() for wanted in project["dependencies"]}
    brought_by = packages_distributions()
    for module, path in MODULES.items():
        names = {name.split(".")[0] for name in imported(path)} - {"pipelines", "resources"} - sys.stdlib_module_names
        for name in names:
            assert {d.lower() for d in brought_by[name]} & declared, f"{module} imports {name}"


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
