"""Dagster end to end, on a real instance: jobs, partitions, checks, a backfill of a range, and what a failing API client does to a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from pipelines import schedules
from pipelines.assets import BACKFILL, PARTITION, RANGE_END, RANGE_START, describe, request_of
from pipelines.definitions import build
from pipelines.plan import Request, Window
from pipelines.schedules import end_killed_runs, killed_runs, publish_after_red_run
from resources.contract import load_contract
from resources.database import connect
from resources.errors import SettingsError
from resources.lease import lease
from resources.publish import Finding
from resources.settings import PROJECT_FOLDER, Settings, load_settings
from resources.sql_files import Check, marts
from resources.warehouse import Warehouse
from tests.emulator import Delay, Emulator, Fault, Status, World, on
from tests.equality import differences, query

DAGSTER = Path(sys.executable).with_name("dagster")
pytestmark = [pytest.mark.timeout(300)]


@pytest.fixture
def world() -> World:
    return World(seed=5, accounts=2, customers=80, bookings=160, events=6, years=2)


@pytest.fixture
def settings(emulator: Emulator, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the environment gives them, for this process and for those that a test starts."""
    zones = {a.id: a.time_zone for a in world.accounts}
    own = {
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "WAREHOUSE_PATH": str(tmp_path / "warehouse.duckdb"),
        "WAREHOUSE_PUBLISHED_PATH": str(tmp_path / "analytics.duckdb"),
        "SYNC_REQUESTS_PER_SECOND": "100000",
        "SYNC_HISTORY_START": "2026-02-15",
        "SYNC_ACCOUNT_TIME_ZONES": str(zones).replace("'", '"'),
    }
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    for name, value in (emulator.environment() | own).items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as real:
        yield real


def run(
    settings: Settings, instance: dg.DagsterInstance, job: str = "nightly", **tags: str
) -> dg.ExecuteInProcessResult:
    return (
        build(settings, load_contract())
        .resolve_job_def(job)
        .execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    )


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Step → what it failed with, causes included."""
    return {e.step_key or "": str(e.event_specific_data) for e in result.all_events if e.is_step_failure}


def materialized(instance: dg.DagsterInstance, asset: str) -> list[str]:
    return sorted(instance.get_materialized_partitions(dg.AssetKey(asset)))


def days(first: str, last: str) -> list[str]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def test_two_nights_and_a_sweep(
    settings: Settings, instance: dg.DagsterInstance, world: World, emulator: Emulator
) -> None:
    first = run(settings, instance)
    assert first.success
    assert differences(settings.warehouse_published_path, world.truth()) == []
    # The API's clock says 2 March, 02:00: 1 March is complete, today is not.
    for stream in ("customers", "bookings", "events"):
        assert materialized(instance, stream) == days("2026-02-15", "2026-03-01")

    world.live_a_day()
    world.live_a_day()
    emulator.reset_log()
    second = run(settings, instance)
    assert second.success
    # Once at the start; and, since two nights were missed, once more after each stream (docs/guarantees.md, 7).
    assert emulator.count("/v2/accounts") == 1 + 3
    assert emulator.token_requests == 1
    assert materialized(instance, "bookings")[-1] == "2026-03-03"  # the missed day shows too

    world.delete_booking()
    third = run(settings, instance, "sweep")
    assert third.success
    assert differences(settings.warehouse_published_path, world.truth()) == []
    kinds = query(settings.warehouse_path, "select kind, status from ops.runs order by started_at")
    assert kinds == [("nightly", "green"), ("nightly", "green"), ("sweep", "green")]

    (event,) = [e for e in third.get_asset_materialization_events() if e.asset_key == dg.AssetKey("bookings")]
    metadata = event.materialization.metadata
    assert metadata["rows_tombstoned"].value == 1
    assert metadata["dagster/row_count"].value == len(world.bookings)
    schema = metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert all(column.description for column in schema.columns)
    expected = {"rows_read", "rows_inserted", "rows_updated", "rows_unchanged", "requests", "retries", "watermark"}
    assert expected | {"waited_for_rate_limit_s"} <= set(metadata)
    evaluations = third.get_asset_check_evaluations()
    assert len(evaluations) > 20
    assert all(e.passed for e in evaluations if e.severity == dg.AssetCheckSeverity.ERROR)


def test_checks_and_counts_wait_for_the_file_that_was_written(
    settings: Settings, instance: dg.DagsterInstance, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps another process may take the lease. What was published before holds nothing of this run."""
    assert run(settings, instance).success
    with connect(settings.warehouse_path, read_only=False) as connection:
        connection.execute("insert into core.bookings from core.bookings limit 1")
    look = dg.define_asset_job("look", selection=dg.AssetSelection.checks_for_assets("bookings"))
    job = dg.Definitions.merge(build(settings, load_contract()), dg.Definitions(jobs=[look])).resolve_job_def("look")
    monkeypatch.setattr(Warehouse.reader.__wrapped__, "__defaults__", (0.0,))  # type: ignore[attr-defined]
    passed: dict[str, bool] = {}
    counts: list[int] = []

    def check() -> None:
        done = job.execute_in_process(instance=instance, raise_on_error=False)
        passed.update({e.check_name: e.passed for e in done.get_asset_check_evaluations()})

    def count() -> None:
        counts.append(describe(Warehouse(settings), "core", "bookings")["dagster/row_count"])

    for work in (check, count):
        with lease(settings.warehouse_path, "another run", wait_s=0) as held:
            thread = threading.Thread(target=work)
            thread.start()
            while thread.is_alive() and not held.is_wanted():
                thread.join(0.05)
        thread.join()
    assert not passed["unique_bookings"]
    assert counts == [len(world.bookings) + 1]


def test_a_backfill_of_a_range_by_dagsters_own_command(
    settings: Settings, instance: dg.DagsterInstance, world: World, emulator: Emulator
) -> None:
    assert run(settings, instance).success
    marks = query(settings.warehouse_path, "select * from ops.watermarks where stream = 'bookings' order by all")
    emulator.reset_log()
    done = subprocess.run(
        [
            DAGSTER,
            "asset",
            "materialize",
            "--select",
            "bookings",
            "--partition-range",
            "2026-02-16...2026-02-19",
            "-m",
            "pipelines.definitions",
        ],
        cwd=PROJECT_FOLDER,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    asked = [r.query for r in emulator.requests if r.path == "/v2/bookings"]
    assert len(asked) == 1
    assert asked[0]["filter[updatedAfter]"] == "2026-02-15T23:59:59Z"
    assert asked[0]["filter[updatedBefore]"] == "2026-02-20T00:00:01Z"
    assert marks == query(
        settings.warehouse_path, "select * from ops.watermarks where stream = 'bookings' order by all"
    )
    assert ("backfill",) in query(settings.warehouse_path, "select kind from ops.runs")
    day = dg.AssetRecordsFilter(dg.AssetKey("bookings"), asset_partitions=["2026-02-17"])
    (marked,) = instance.fetch_materializations(day, limit=1).records
    assert marked.asset_materialization
    metadata = marked.asset_materialization.metadata
    assert ("range_rows_read" in metadata, "rows_read" in metadata) == (
        True,
        False,
    )  # the day's own number is not known
    assert "secret" not in done.stdout + done.stderr


def test_a_job_launched_for_a_day_is_what_it_is_called(
    settings: Settings, instance: dg.DagsterInstance, world: World
) -> None:
    # The first run of all: read by its day alone, the published file would hold one day.
    first = run(settings, instance, "nightly", **{PARTITION: "2026-02-20"})
    assert first.success
    assert differences(settings.warehouse_published_path, world.truth()) == []
    assert materialized(instance, "bookings") == days("2026-02-15", "2026-03-01")
    world.live_a_day()
    world.delete_booking()
    assert run(settings, instance, "sweep", **{PARTITION: "2026-02-20"}).success
    assert differences(settings.warehouse_published_path, world.truth()) == []
    kinds = query(settings.warehouse_path, "select kind, status from ops.runs order by started_at")
    assert kinds == [("nightly", "green"), ("sweep", "green")]


def test_a_nightly_launched_for_a_day_that_is_not_over_does_not_mark_it(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    result = run(settings, instance, "nightly", **{PARTITION: "2026-03-02"})
    assert "not over yet" in failures(result)["bookings"]
    assert materialized(instance, "bookings")[-1] == "2026-03-01"


@pytest.mark.parametrize(
    "tags",
    [
        {RANGE_START: "2026-02-20", RANGE_END: "2026-02-21"},
        {RANGE_START: "2026-02-20", RANGE_END: "2026-02-20", BACKFILL: "abcdefgh"},
    ],
)
def test_a_job_launched_for_a_range_is_refused(
    tags: dict[str, str], settings: Settings, instance: dg.DagsterInstance
) -> None:
    result = run(settings, instance, "sweep", **tags)
    ((step, told),) = failures(result).items()
    assert step == "accounts"
    assert "The job sweep takes no range of days: it reads every list whole." in told
    assert "sweep_schedule, Preview tick result" in told
    assert not settings.warehouse_path.exists()


def test_a_backfill_publishes_once_after_all_its_streams(settings: Settings) -> None:
    """Dagster launches what belongs together as one, when all that any of it depends on is there."""
    graph = build(settings, load_contract()).resolve_asset_graph()
    accounts_mart = graph.get(dg.AssetKey(["marts", "accounts"]))
    together = accounts_mart.execution_set_asset_keys
    assert dg.AssetKey("analytics") in together
    parents = {key for one in together for key in graph.get(one).parent_keys} - set(together)
    assert parents == {dg.AssetKey(name) for name in ("accounts", "bookings", "customers", "events")}


def test_a_nightly_marks_the_days_of_a_red_backfill_that_are_complete(
    settings: Settings, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    assert run(settings, instance).success
    definitions = build(settings, load_contract())
    job, graph = definitions.resolve_implicit_global_asset_job_def(), definitions.resolve_asset_graph()
    key, asked = dg.AssetKey("bookings"), days("2026-02-20", "2026-02-22")

    def statuses() -> set[str]:
        days_of = graph.get(key).partitions_def
        assert days_of
        found = instance.get_status_by_partition(key, asked, days_of) or {}
        return {status.value for status in found.values() if status}

    emulator.faults.append(Fault(on("/v2/bookings"), Status(403), times=None))
    tags = {RANGE_START: asked[0], RANGE_END: asked[-1]}
    red = job.execute_in_process(instance=instance, asset_selection=[key], tags=tags, raise_on_error=False)
    assert not red.success
    assert statuses() == {"FAILED"}
    emulator.faults.clear()
    assert run(settings, instance).success
    assert statuses() == {"MATERIALIZED"}


def test_a_day_that_is_not_over_by_the_apis_clock_is_never_marked(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    result = (
        build(settings, load_contract())
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("events")],
            tags={RANGE_START: "2026-03-01", RANGE_END: "2026-03-02"},
            raise_on_error=False,
        )
    )
    assert not result.success
    assert materialized(instance, "events") == []
    ((status, is_ended, problems),) = ledger(settings)  # red there too
    assert (status, is_ended) == ("red", True)
    assert "not over yet" in problems


def asked_for_after(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.RunRequest:
    """What the sensor asks for after a run that failed."""
    (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert failure.dagster_event
    context = dg.build_run_status_sensor_context(
        sensor_name="publish_after_red_run",
        dagster_instance=instance,
        dagster_run=run,
        dagster_event=failure.dagster_event,
    ).for_run_failure()
    asked = publish_after_red_run(context)
    assert isinstance(asked, dg.RunRequest)
    return asked


def test_a_run_whose_process_was_killed_is_failed_by_the_sensor(
    settings: Settings, instance: dg.DagsterInstance, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.faults.append(Fault(on("/v2/bookings"), Delay(3600.0), times=None))
    asked = threading.Event()
    emulator.hooks.append(lambda request: asked.set() if request.path.startswith("/v2/bookings") else None)
    process = subprocess.Popen(
        [DAGSTER, "job", "execute", "-m", "pipelines.definitions", "-j", "nightly"],
        cwd=settings.warehouse_path.parent,  # Dagster reads the `.env` of the folder that it is started in
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert asked.wait(200.0)
        later = datetime.now(UTC) + timedelta(minutes=6)
        assert killed_runs(instance, None, later) == []
    finally:
        process.kill()
        process.wait()
    # A process that has only just begun may not have noted itself yet.
    assert killed_runs(instance, None, datetime.now(UTC)) == []
    (killed,) = killed_runs(instance, "pipelines.definitions", later)
    assert killed.status is dg.DagsterRunStatus.STARTED

    job = build(settings, load_contract()).resolve_job_def("sweep")
    cancelled = instance.create_run_for_job(job, status=dg.DagsterRunStatus.CANCELING)
    monkeypatch.setattr(schedules, "STARTS_WITHIN", timedelta(minutes=-1))
    for told in ("Ended 2 runs whose process is gone.", "Every run has its process."):
        assert end_killed_runs(dg.build_sensor_context(instance)) == dg.SkipReason(told)
    statuses = [run and run.status for run in map(instance.get_run_by_id, (killed.run_id, cancelled.run_id))]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    assert asked_for_after(instance, killed).run_key == f"after-{killed.run_id}"


@pytest.mark.long
def test_one_revoked_api_client_leaves_the_other_its_night(
    settings: Settings, instance: dg.DagsterInstance, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = (account.id for account in world.accounts)
    world.add_client("north", "north-secret", {north})
    world.add_client("south", "south-secret", {south})
    monkeypatch.delenv("APPOINTEDD_CLIENT_ID")
    monkeypatch.delenv("APPOINTEDD_CLIENT_SECRET")
    monkeypatch.setenv(
        "APPOINTEDD_CLIENTS",
        '[{"name": "north", "client_id": "north", "client_secret": "north-secret"},'
        ' {"name": "south", "client_id": "south", "client_secret": "south-secret"}]',
    )
    settings = load_settings()
    assert run(settings, instance).success
    marked = materialized(instance, "bookings")
    world.live_a_day()
    world.revoke_client("north")
    red = run(settings, instance)
    assert not red.success
    failed = {e.step_key for e in red.all_events if e.event_type_value == "STEP_FAILURE"}
    assert failed == {"customers", "bookings", "events"}  # each says so itself; none kept another from being read
    truth = {table: [r for r in rows if r["account_id"] == south] for table, rows in world.truth().items()}
    stored = query(settings.warehouse_path, "select count(*) from core.bookings where account_id = ?", south)
    assert stored == [(len(truth["bookings"]),)]
    assert materialized(instance, "bookings") == marked
    assert query(settings.warehouse_path, "select status from ops.runs order by started_at desc limit 1") == [("red",)]
    # What did work reaches the analysts all the same: the sensor asks for publishing, and the checks decide.
    asked_for_after(instance, red.dagster_run)
    assert run(settings, instance, "publish_only").success
    published = query(
        settings.warehouse_published_path, "select count(*) from core.bookings where account_id = ?", south
    )
    assert published == stored


def ledger(settings: Settings) -> list[tuple[str, bool, str]]:
    """Of each run: its status, whether it has an end, its problems."""
    found = query(
        settings.warehouse_path,
        "select status, ended_at is not null, list_aggregate(problems, 'string_agg', ' ') from ops.runs order by started_at",
    )
    return [(status, is_ended, problems or "") for status, is_ended, problems in found]


def test_a_run_of_the_accounts_alone_ends(settings: Settings, instance: dg.DagsterInstance) -> None:
    job = build(settings, load_contract()).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("accounts")]).success
    assert ledger(settings) == [("green", True, "")]


def test_a_red_step_ends_the_run_that_skips_what_comes_after_it(
    settings: Settings, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    emulator.faults.append(Fault(on("/v2/bookings"), Status(403), times=None))
    assert set(failures(run(settings, instance))) == {"bookings"}
    ((status, is_ended, problems),) = ledger(settings)
    assert (status, is_ended) == ("red", True)
    assert "403" in problems


def test_a_blocking_check_ends_the_run(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finds(connection: duckdb.DuckDBPyConnection, chosen: Iterable[Check]) -> list[Finding]:
        return [Finding(c, int(c.name == "unique_bookings"), ("row 1",)) for c in chosen]

    monkeypatch.setattr("pipelines.checks.run_checks", finds)
    result = run(settings, instance)
    assert not result.success
    ((status, is_ended, problems),) = ledger(settings)
    assert (status, is_ended) == ("red", True)
    assert "unique_bookings: 1 rows." in problems


def test_a_run_whose_only_api_client_is_refused_is_red_from_the_start(
    settings: Settings, instance: dg.DagsterInstance, world: World
) -> None:
    world.revoke_client()
    result = run(settings, instance)
    assert not result.success
    failed = {e.step_key for e in result.all_events if e.event_type_value == "STEP_FAILURE"}
    assert failed == {"accounts"}
    assert not settings.warehouse_published_path.exists()
    ((status, is_ended, _),) = ledger(settings)
    assert (status, is_ended) == ("red", True)


def test_the_code_location_loads_with_no_setting_made(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "APPOINTEDD_ENV_FILE": ""}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            "from pipelines.definitions import defs; print(len(list(defs.assets)))",
        ],
        cwd=PROJECT_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5"


def test_dagster_is_started_where_no_env_file_lies(tmp_path: Path) -> None:
    """It would read the `.env` of its working folder into its processes, over their environment, and keep it until they end."""
    told = subprocess.run(
        ["make", "-n", "start", f"DAGSTER_HOME={tmp_path}"],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [one for one in told.stdout.splitlines() if "dagster dev" in one]
    assert line.startswith(f"cd {tmp_path} && {PROJECT_FOLDER}/")
    assert line.endswith(f"-w {PROJECT_FOLDER}/workspace.yaml")


def test_every_mart_says_what_it_holds(settings: Settings) -> None:
    graph = build(settings, load_contract()).resolve_asset_graph()
    told = {name: graph.get(dg.AssetKey(["marts", name])).description or "" for name in marts()}
    assert all(text.endswith(".") for text in told.values())
    assert len(set(told.values())) == len(told)
    assert "in the account's zone" in told["bookings"]


def test_schedules_run_in_the_configured_zone(settings: Settings) -> None:
    chosen = settings.model_copy(update={"sync_time_zone": "Europe/Madrid", "sync_schedule": "30 1 * * *"})
    found = {s.name: s for s in build(chosen, load_contract()).schedules or ()}
    nightly = found["nightly_schedule"]
    assert isinstance(nightly, dg.ScheduleDefinition)
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("30 1 * * *", "Europe/Madrid")
    assert set(found) == {"nightly_schedule", "sweep_schedule"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sync_schedule", "99 2 * * *", "SYNC_SCHEDULE is wrong: '99 2 * * *' names no time"),
        ("sync_sweep_schedule", "0 4 * * 9", "SYNC_SWEEP_SCHEDULE is wrong: '0 4 * * 9' names no time"),
        ("sync_history_start", date(8000, 1, 1), "SYNC_HISTORY_START is wrong: 8000-01-01 has not come yet"),
    ],
)
def test_a_setting_that_dagster_cannot_use_is_named(name: str, value: object, told: str, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        build(settings.model_copy(update={name: value}), load_contract())


@pytest.mark.parametrize(
    ("zone", "first", "since", "until"),
    [
        ("UTC", "2026-03-01", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)),
        ("Europe/Madrid", "2026-03-29", datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("America/New_York", "2026-03-08", datetime(2026, 3, 8, 5, tzinfo=UTC), datetime(2026, 3, 9, 4, tzinfo=UTC)),
    ],
)
def test_a_partition_is_a_day_of_the_configured_zone(zone: str, first: str, since: datetime, until: datetime) -> None:
    settings = Settings(_env_file=None, sync_time_zone=zone)  # type: ignore[call-arg]  # pydantic-settings' own argument
    assert request_of("__ASSET_JOB", {PARTITION: first}, settings) == Request("backfill", Window(since, until))
    assert request_of("__ASSET_JOB", {}, settings) == Request("nightly")
    # The part of a backfill that has no days: accounts before it, publishing after it.
    assert request_of("__ASSET_JOB", {BACKFILL: "abcdefgh"}, settings) == Request("backfill")
