"""The command line, run for real against the emulator: what it does, what it prints where, and the exit code it gives.

What lives here: processes of their own where streams, signals, imports or waiting matter, the same commands in this process elsewhere. What does not:
whether rows are right (`test_sync`), what a mart or a check says (`test_marts`, `test_checks`).
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from pipelines import shell
from pipelines.cli import app
from pipelines.commands import change_days, chosen_streams
from pipelines.console import plain, print_table, shown
from pipelines.logs import log_to_stderr
from pipelines.plan import Window
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from resources.database import connect
from resources.errors import UsageError, in_one_line
from resources.lease import lease
from tests.emulator import Delay, Emulator, Fault, Replace, Status, Switches, World, on
from tests.equality import differences, query

COMMAND = str(Path(sys.executable).with_name("appointedd-warehouse"))
PROCESS_LIMIT_S = 60
Json = dict[str, Any]


def world(**more: Any) -> World:
    return World(**{"seed": 1, "accounts": 3, "customers": 40, "bookings": 130, "events": 12, **more})


def environment(emulator: Emulator, folder: Path, **more: str) -> dict[str, str]:
    zones = {a.id: a.time_zone for a in emulator.world.accounts if a.time_zone}
    return {
        **emulator.environment(),
        "APPOINTEDD_ENV_FILE": "",
        "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
        "WAREHOUSE_PUBLISHED_PATH": str(folder / "analytics.duckdb"),
        "SYNC_REQUESTS_PER_SECOND": "1000",
        "SYNC_HISTORY_START": "2023-01-01",
        "SYNC_ACCOUNT_TIME_ZONES": json.dumps(zones),
        **more,
    }


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def clean(done: Done, env: Mapping[str, str]) -> Done:
    """No traceback and no secret, whatever the command did."""
    everything = done.out + done.err
    assert "Traceback" not in everything, everything
    secrets = [env.get("APPOINTEDD_CLIENT_SECRET", "emu-secret"), "Bearer ", "Basic "]
    assert not [s for s in secrets if s in everything], everything
    return done


def cli(env: Mapping[str, str], *arguments: str) -> Done:
    """A command in this process."""
    result = CliRunner().invoke(app, arguments, env=dict(env))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return clean(Done(result.exit_code, result.stdout, result.stderr), env)


def started(env: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, which sees nothing of this machine's settings."""
    return subprocess.Popen(
        [COMMAND, *arguments],
        env={"PATH": os.environ["PATH"], **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], env: Mapping[str, str], already: str = "") -> Done:
    out, err = process.communicate(timeout=PROCESS_LIMIT_S)
    return clean(Done(process.returncode, out, already + err), env)


@dataclass(frozen=True)
class Loaded:
    """A warehouse after its first sync, and what was said before and during it."""

    emulator: Emulator
    folder: Path
    env: dict[str, str]
    plan_before: Done
    sync: Done


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("loaded")
    with Emulator(world()) as emulator:
        env = environment(emulator, folder)
        plan_before = cli(env, "plan", "--json")
        assert not list(folder.iterdir())
        yield Loaded(emulator, folder, env, plan_before, ended(started(env, "sync", "--json"), env))


@pytest.fixture
def copied(loaded: Loaded, tmp_path: Path) -> Loaded:
    """The same warehouse as files of one's own."""
    for name in ("warehouse.duckdb", "analytics.duckdb"):
        shutil.copy(loaded.folder / name, tmp_path / name)
    return Loaded(loaded.emulator, tmp_path, environment(loaded.emulator, tmp_path), loaded.plan_before, loaded.sync)


# ---- sync --------------------------------------------------------------------------------------------------------------------


def test_sync_loads_everything_and_says_so(loaded: Loaded) -> None:
    assert loaded.sync.code == 0, loaded.sync
    told = loaded.sync.json
    streams = {s["stream"]: s for s in told["streams"]}
    counts = loaded.emulator.world.counts()
    assert {name: s["inserted_count"] for name, s in streams.items()} == {name: counts[name] for name in BUILT_IN}
    assert all(s["complete_until_at"] == "2026-03-02T01:59:00Z" for s in streams.values())
    assert all(set(s["complete_until_at_by_account"].values()) == {s["complete_until_at"]} for s in streams.values())
    assert (told["kind"], told["is_complete"], told["is_published"], told["problems"]) == ("nightly", True, True, [])
    assert told["published_path"] == str(loaded.folder / "analytics.duckdb")
    for name in ("warehouse.duckdb", "analytics.duckdb"):
        assert differences(loaded.folder / name, loaded.emulator.world.truth()) == []
    assert query(loaded.folder / "warehouse.duckdb", "select run_id, started_by, status from ops.runs") == [
        (told["run_id"], "cli", "green")
    ]


def test_logs_go_to_standard_error(loaded: Loaded) -> None:
    assert "INFO Published" in loaded.sync.err
    assert "INFO" not in loaded.sync.out
    assert "HTTP Request" not in loaded.sync.err  # httpx's own line for each request


def test_only_what_is_needed_is_imported(copied: Loaded) -> None:
    script = (
        "import sys\nfrom pipelines.cli import main\ntry:\n    main()\n"
        "finally:\n    print('imported', *sorted({m.split('.')[0] for m, module in sys.modules.items() if module}), file=sys.stderr)"
    )

    def imported(*arguments: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={"PATH": os.environ["PATH"], **copied.env},
            capture_output=True,
            text=True,
            check=True,
            timeout=PROCESS_LIMIT_S,
        )
        return set(done.stderr.split("imported ")[-1].split())

    synced = imported("sync", "--quiet")
    assert "duckdb" in synced
    assert not {"dagster", "numpy", "pandas"} & synced
    assert not {"duckdb", "polars", "httpx"} & (imported("--version") | imported("sync", "--help"))
    assert not {"dagster", "polars", "pyarrow", "httpx"} & imported("status", "--json")


def test_sync_shows_a_table(copied: Loaded) -> None:
    done = cli(copied.env, "sync", "--stream", "events")
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[1].split() == [
        *("stream", "read", "inserted", "updated", "unchanged", "tombstoned", "quarantined"),
        *("requests", "retries", "waited", "complete", "up", "to"),
    ]
    assert [line.split()[0] for line in lines[3:5]] == ["accounts", "events"]
    assert "2026-03-02 01:59:00Z" in lines[4]
    assert f"Published {copied.folder / 'analytics.duckdb'}" in done.out


def test_sync_of_the_accounts_alone(copied: Loaded) -> None:
    told = cli(copied.env, "sync", "--stream", "accounts", "--json").json
    assert [s["stream"] for s in told["streams"]] == ["accounts"]


def test_a_sweep_finds_what_was_deleted(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        env = environment(emulator, tmp_path)
        cli(env, "sync")
        emulator.world.clock.advance(timedelta(hours=1))
        emulator.world.delete_booking()
        planned = cli(env, "plan", "--sweep", "--json").json
        told = cli(env, "sync", "--sweep", "--json").json
        assert told["kind"] == "sweep"
        assert [s["tombstoned_count"] for s in told["streams"]] == [0, 0, 1, 0]
        # What no plan can know of is the second look: whether single records can be asked for, and the booking.
        assert planned["requests_count"] + 2 == sum(s["requests_count"] for s in told["streams"])


def test_a_backfill_reads_whole_days_of_the_zone(copied: Loaded) -> None:
    env = copied.env | {"SYNC_TIME_ZONE": "Europe/London"}
    days = ("--from", "2025-03-30", "--to", "2025-03-31", "--stream", "bookings", "--json")
    planned, told = cli(env, "plan", *days).json, cli(env, "sync", *days).json
    (piece,) = planned["slices"]
    assert (piece["since"], piece["until"]) == ("2025-03-30T00:00:00Z", "2025-03-31T23:00:00Z")
    assert (planned["kind"], told["kind"], told["warnings"]) == ("backfill", "backfill", [])
    windows = query(
        copied.folder / "warehouse.duckdb",
        "select distinct since, until from ops.windows where kind = 'backfill' and stream = 'bookings'",
    )
    assert windows == [(datetime(2025, 3, 30, tzinfo=UTC), datetime(2025, 3, 31, 23, tzinfo=UTC))]


def test_a_backfill_of_days_that_are_not_over_warns(copied: Loaded) -> None:
    done = cli(copied.env, "sync", "--from", "2026-03-02", "--to", "2026-03-05", "--stream", "events")
    assert done.code == 0
    assert "the last of these days is not over yet" in done.out


def test_a_dropped_ability_is_only_a_warning(tmp_path: Path) -> None:
    with Emulator(world(), Switches(sort=False)) as emulator:
        done = cli(environment(emulator, tmp_path), "sync")
    assert done.code == 0, done
    assert "warning: customers: the API refuses the parameter 'sort'" in done.out


def test_a_wrong_secret_is_told_with_its_cure(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        env = environment(emulator, tmp_path, APPOINTEDD_CLIENT_SECRET="not-this-one")
        synced, planned, checked = cli(env, "sync"), cli(env, "plan"), cli(env, "check")
        assert [done.code for done in (synced, planned, checked)] == [1, 1, 1]
        for done in (synced, planned, checked):
            assert "Check the client id and secret" in done.out
        assert "failed   token of default: " in checked.out
        assert emulator.count() == 0


def test_a_revoked_api_client_does_not_stop_the_other(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        mine, other = (a.id for a in list(emulator.world.accounts)[:2])
        emulator.world.add_client("north", "north-secret", {mine})
        emulator.world.add_client("south", "south-secret", {other})
        clients = [{"name": n, "client_id": n, "client_secret": f"{n}-secret"} for n in ("north", "south")]
        env = environment(emulator, tmp_path, APPOINTEDD_CLIENTS=json.dumps(clients))
        del env["APPOINTEDD_CLIENT_ID"], env["APPOINTEDD_CLIENT_SECRET"]
        emulator.world.revoke_client("south")
        done = cli(env, "sync", "--json")
        planned, checked = cli(env, "plan", "--json"), cli(env, "check", "--json")
    assert [d.code for d in (done, planned, checked)] == [1, 1, 1]
    assert all("'south'" in problem for problem in done.json["problems"])
    assert (done.json["is_complete"], done.json["is_published"]) == (False, True)
    assert differences(tmp_path / "analytics.duckdb", emulator.world.truth({mine})) == []
    assert {s["api_client"] for s in planned.json["slices"]} == {"north"}
    assert [line["name"] for line in checked.json["lines"] if line["state"] == "failed"] == ["token of south"]
    assert not any("-secret" in d.out + d.err for d in (done, planned, checked))


def test_a_blocked_publication_leaves_the_file_and_is_red(copied: Loaded) -> None:
    with connect(copied.folder / "warehouse.duckdb", read_only=False) as connection:
        connection.execute("insert into core.events select * from core.events limit 1")
    published = copied.folder / "analytics.duckdb"
    before = published.stat().st_ino
    done = cli(copied.env, "sync", "--stream", "accounts")
    assert (done.code, published.stat().st_ino) == (1, before)
    assert "unique_events" in done.out
    assert "Published" not in done.out


def test_a_published_folder_that_cannot_be_written_is_red_and_what_was_read_is_told(copied: Loaded) -> None:
    (copied.folder / "file").touch()
    env = copied.env | {"WAREHOUSE_PUBLISHED_PATH": str(copied.folder / "file" / "analytics.duckdb")}
    done = cli(env, "sync", "--stream", "events", "--json")
    assert (done.code, done.json["is_published"]) == (1, False)
    assert done.json["streams"][1]["stream"] == "events"
    assert "was not replaced" in done.json["problems"][0]


def test_ctrl_c_is_one_sentence_and_a_red_run(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        env = environment(emulator, tmp_path)
        asked = threading.Event()
        emulator.hooks.append(lambda request: asked.set() if request.path.startswith("/v2/bookings") else None)
        emulator.faults.append(Fault(on("/v2/bookings"), Delay(0.5), times=None))
        process = started(env, "sync")
        assert asked.wait(PROCESS_LIMIT_S)
        process.send_signal(signal.SIGINT)
        done = ended(process, env)
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1].startswith("Stopped by Ctrl-C. Slices that were committed stay")
    assert query(tmp_path / "warehouse.duckdb", "select status from ops.runs") == [("red",)]


# ---- waiting -----------------------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_and_says_for_whom(copied: Loaded) -> None:
    with lease(copied.folder / "warehouse.duckdb", "the first one", wait_s=0):
        process = started(copied.env, "sync", "--quiet")
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "Waiting for" in said
        assert f"process {os.getpid()}" in said
        assert "the first one" in said
        assert process.poll() is None
    assert ended(process, copied.env, said).code == 0


def test_status_and_plan_answer_from_the_published_file_while_another_writes(copied: Loaded) -> None:
    (published_at,) = query(copied.folder / "analytics.duckdb", "select max(published_at) from ops.publications")[0]
    with lease(copied.folder / "warehouse.duckdb", "the first one", wait_s=0):
        status, planned, checked = (
            cli(copied.env, "status"),
            cli(copied.env, "plan", "--json"),
            cli(copied.env, "check", "--json"),
        )
        assert (status.code, planned.code, checked.code) == (0, 0, 0)
        assert f"published file {copied.folder / 'analytics.duckdb'}, as of {shown(published_at)}." in status.out
        assert "the first one" in status.err
        assert planned.json["read_from"] == {
            "path": str(copied.folder / "analytics.duckdb"),
            "is_published_file": True,
            "as_of": plain(published_at),
        }
        assert len(planned.json["slices"]) == 3
        (line,) = [line for line in checked.json["lines"] if line["name"] == "lease"]
        assert line["state"] == "warning"
        assert f"process {os.getpid()}" in line["detail"]


# ---- plan --------------------------------------------------------------------------------------------------------------------


def test_a_plan_before_any_warehouse_is_what_the_first_sync_did(loaded: Loaded) -> None:
    planned = loaded.plan_before.json
    assert (loaded.plan_before.code, planned["read_from"], planned["is_at_least"]) == (0, None, True)
    asked = [
        [s["stream"], s["api_client"], s["kind"], sorted(s["account_ids"]), s["since"], s["until"]]
        for s in planned["slices"]
    ]
    done = query(
        loaded.folder / "warehouse.duckdb",
        """
        select stream, api_client, kind, list_sort(account_ids), since, until from ops.slices where stream <> 'accounts'
        """,
    )
    assert sorted(asked, key=str) == sorted(map(plain, done), key=str)
    assert planned["requests_count"] <= sum(s["requests_count"] for s in loaded.sync.json["streams"])


def test_a_plan_writes_nothing_and_reads_account_lists_and_first_pages_only(copied: Loaded) -> None:
    files = {p: p.read_bytes() for p in copied.folder.glob("*.duckdb")}
    copied.emulator.reset_log()
    done = cli(copied.env, "plan")
    paths = ["/oauth/token", "/v2/accounts", "/v2/bookings", "/v2/customers", "/v2/events"]
    assert sorted(r.path for r in copied.emulator.requests) == sorted(paths)
    assert {p: p.read_bytes() for p in copied.folder.glob("*.duckdb")} == files
    assert "3 slices, about 5 requests (2 of them for tokens and account lists)" in done.out
    assert "3 first pages were read" in done.out


def test_a_plan_counts_the_pages_of_known_rows(copied: Loaded) -> None:
    pieces = {s["stream"]: s for s in cli(copied.env, "plan", "--sweep", "--json").json["slices"]}
    assert {n: (p["known_rows_count"], p["requests_count"]) for n, p in pieces.items()} == {
        "customers": (40, 2),
        "bookings": (130, 3),
        "events": (12, 2),
    }
    assert not any(p["is_at_least"] for p in pieces.values())


# ---- status ------------------------------------------------------------------------------------------------------------------


def test_status_tells_every_stream_of_every_account(loaded: Loaded) -> None:
    done = cli(loaded.env, "status", "--json")
    told = done.json
    assert done.code == 0
    assert set(told) == {
        *("read_from", "streams", "runs", "problems", "drift", "drift_count", "quarantine", "brakes", "overlap"),
    }
    assert told["brakes"] == []
    assert told["overlap"]["configured_minutes"] == 1440
    assert told["read_from"]["is_published_file"] is False
    assert len(told["streams"]) == 3 * 4
    row = told["streams"][0]
    assert (row["stream"], row["complete_until_at"], row["last_run_status"]) == (
        "accounts",
        "2026-03-02T01:59:00Z",
        "green",
    )
    age = (datetime.now(UTC) - datetime(2026, 3, 2, 1, 59, tzinfo=UTC)) / timedelta(hours=1)
    assert row["age_hours"] == pytest.approx(age, abs=0.2)
    assert sum(r["rows_count"] for r in told["streams"] if r["stream"] == "bookings") == 130
    assert [r["status"] for r in told["runs"]] == ["green"]
    assert [d["path"] for d in told["drift"]] == ["relationships.resources"]
    table = cli(loaded.env, "status").out
    assert "Northgate Madrid" in table
    assert "2026-03-02 01:59:00Z" in table
    assert "relationships.resources" in table


def test_a_brake_is_shown_and_released_by_slug(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        env = environment(emulator, tmp_path) | {"SYNC_BRAKE_COUNT": "3", "SYNC_BRAKE_SHARE": "0.01"}
        cli(env, "sync")
        assert "nothing to release" in cli(env, "release").out
        emulator.world.clock.advance(timedelta(hours=1))
        account = emulator.world.accounts.rows()[0]
        for booking in emulator.world.bookings.rows(account.id)[:6]:
            emulator.world.delete_booking(booking.id)
        stopped = cli(env, "sync", "--sweep")
        assert stopped.code == 1
        assert f"appointedd-warehouse release {account.id} --stream bookings" in stopped.out
        assert "sweep stopped at 6 deletions" in cli(env, "status").out
        assert [b["gone_count"] for b in cli(env, "release", "--json").json["brakes"]] == [6]
        wrong = cli(env, "release", "nobody")
        assert wrong.code == 2
        assert f"{account.id} (bookings)" in wrong.err
        assert cli(env, "release", account.slug, "--stream", "bookings").code == 0
        emulator.world.clock.advance(timedelta(hours=1))
        done = cli(env, "sync", "--sweep", "--json")
        assert done.code == 0
        assert [s["tombstoned_count"] for s in done.json["streams"]] == [0, 0, 6, 0]


def test_status_before_the_first_sync_names_the_cure(loaded: Loaded, tmp_path: Path) -> None:
    done = cli(environment(loaded.emulator, tmp_path), "status")
    assert (done.code, done.out) == (1, "")
    assert "does not exist yet. The first sync makes it: appointedd-warehouse sync" in done.err
    assert not list(tmp_path.iterdir())


def test_status_of_another_file(loaded: Loaded, tmp_path: Path) -> None:
    connect(tmp_path / "warehouse.duckdb", read_only=False).close()
    done = cli(environment(loaded.emulator, tmp_path), "status")
    assert (done.code, done.out) == (1, "")
    assert "is not a warehouse of this version" in done.err


def test_status_tells_frozen_accounts_problems_and_quarantine(copied: Loaded) -> None:
    with connect(copied.folder / "warehouse.duckdb", read_only=False) as connection:
        connection.execute(
            """
            update ops.slices set account_ids = account_ids[2:] where stream = 'accounts';
            insert into ops.quarantine values ('s', 1, 1, 'events', 'no id', '{}', now());
            update ops.runs set status = 'red', problems = ['bookings: \x1b[31mtoo few'];
            """
        )
    done = cli(copied.env, "status")
    assert done.code == 0
    assert "frozen: no API client lists it" in done.out
    assert "problem: bookings: �[31mtoo few" in done.out
    assert "no id" in done.out
    assert cli(copied.env, "status", "--json").json["quarantine"] == [
        {"stream": "events", "reason": "no id", "records_count": 1}
    ]


# ---- renormalise -------------------------------------------------------------------------------------------------------------


def contract(folder: Path, toml: str) -> dict[str, str]:
    (folder / "contract.toml").write_text(toml, encoding="utf-8")
    return {"APPOINTEDD_CONTRACT": str(folder / "contract.toml")}


def test_renormalise_shapes_the_stored_records_again_and_publishes(copied: Loaded) -> None:
    env = copied.env | contract(copied.folder, '[streams.customers.columns]\nfirst_name = ["lastName"]\n')
    copied.emulator.reset_log()
    done = cli(env, "renormalise", "--stream", "customers", "--json")
    assert (done.code, copied.emulator.requests) == (0, [])
    (row,) = done.json["streams"]
    assert (row["stream"], row["read_count"]) == ("customers", 40)
    assert row["changed_count"] > 30
    assert row["erased_count"] == 0
    same = "select count(*) from core.customers where first_name is distinct from last_name"
    assert query(copied.folder / "analytics.duckdb", same) == [(0,)]
    runs = query(copied.folder / "warehouse.duckdb", "select kind, status from ops.runs order by started_at")
    assert runs == [("nightly", "green"), ("renormalise", "green")]
    again = cli(env, "renormalise")
    assert again.code == 0
    assert [line.split() for line in again.out.splitlines()[3:7]] == [
        ["accounts", "3", "0", "0"],
        ["customers", "40", "0", "0"],
        ["bookings", "130", "0", "0"],
        ["events", "12", "0", "0"],
    ]


def test_renormalise_with_a_contract_that_no_longer_fits(copied: Loaded) -> None:
    env = copied.env | contract(copied.folder, '[streams.events]\ntypes = ["nothing"]\n')
    done = cli(env, "renormalise", "--stream", "events")
    assert (done.code, done.out) == (2, "")
    assert "stored records no longer fit" in done.err
    ((status, problems),) = query(
        copied.folder / "warehouse.duckdb", "select status, problems from ops.runs where kind = 'renormalise'"
    )
    assert (status, problems) == ("red", [done.err.splitlines()[-1]])
    assert query(copied.folder / "warehouse.duckdb", "select count(*) from core.events where title is null") == [(0,)]


def test_renormalise_with_names_that_fit_nothing_is_red_and_keeps_what_analysts_have(copied: Loaded) -> None:
    wrong = '[streams.bookings.columns]\nstart_at = ["status"]\nprice = ["nothing"]\nservice_id = []\n'
    published, working = copied.folder / "analytics.duckdb", copied.folder / "warehouse.duckdb"
    counted = "select count(start_at), count(price), count(service_id) from core.bookings"
    before = query(published, counted)
    done = cli(copied.env | contract(copied.folder, wrong), "renormalise", "--json")
    assert done.code == 1
    assert not done.json["is_published"]
    unfit, emptied = done.json["problems"]
    assert "130 values of 'start_at' in 130 records do not fit their column" in unfit
    assert "no stored record has a fitting value for price (nothing), start_at (status), and the columns" in emptied
    assert query(working, counted) == [(0, 0, 0)]
    assert query(published, counted) == before
    ((status, problems),) = query(working, "select status, problems from ops.runs where kind = 'renormalise'")
    assert (status, set(problems)) == ("red", {unfit, emptied})
    drift = query(working, "select kind, path from ops.drift where path in ('start_at', 'attributes.startTime')")
    assert sorted(drift) == [("bad_value", "start_at"), ("unknown_member", "attributes.startTime")]
    mended = cli(copied.env, "renormalise", "--json")
    assert (mended.code, mended.json["problems"]) == (0, [])
    assert query(working, counted) == query(published, counted) == before


def to_shape_again(done: Done) -> list[str]:
    """The checks that find rows which another contract has shaped."""
    return [w.partition(":")[0] for w in done.json["warnings"] if w.startswith("several_contracts")]


def test_a_contract_that_was_changed_and_put_back_is_told_until_all_rows_are_shaped_again(copied: Loaded) -> None:
    world = copied.emulator.world
    wrong = copied.env | contract(copied.folder, '[streams.customers.columns]\nemail = ["mail"]\nmobile = ["mail"]\n')
    world.clock.advance(timedelta(hours=1))
    world.change_customer()
    # Put back: what was read under the other contract does not change, so nothing reads it again.
    for env in (wrong, copied.env):
        assert to_shape_again(cli(env, "sync", "--json")) == ["several_contracts_customers"]
    assert differences(copied.folder / "warehouse.duckdb", world.truth()) != []
    assert to_shape_again(cli(copied.env, "renormalise", "--stream", "bookings", "--json")) == [
        "several_contracts_customers"
    ]
    assert to_shape_again(cli(copied.env, "renormalise", "--json")) == []
    assert differences(copied.folder / "warehouse.duckdb", world.truth()) == []
    assert to_shape_again(cli(copied.env, "sync", "--json")) == []


def test_a_contract_that_was_changed_is_told_though_nothing_was_written_under_it(copied: Loaded) -> None:
    other = '[document]\nmoney_in_minor_units = true\n[streams.accounts.columns]\nslug = ["slug", "handle"]\n'
    changed = copied.env | contract(copied.folder, other)
    due = ["several_contracts_accounts", "several_contracts_bookings"]
    assert to_shape_again(cli(copied.env, "sync", "--json")) == []  # what other tests have changed
    for env, expected in ((changed, due), (changed, due), (copied.env, []), (changed, due)):
        done = cli(env, "sync", "--json")
        assert {s[f"{name}_count"] for s in done.json["streams"] for name in ("inserted", "updated")} == {0}
        assert to_shape_again(done) == expected
    assert to_shape_again(cli(changed, "renormalise", "--json")) == []
    assert to_shape_again(cli(changed, "sync", "--json")) == []


def test_renormalise_makes_no_warehouse(loaded: Loaded, tmp_path: Path) -> None:
    done = cli(environment(loaded.emulator, tmp_path), "renormalise")
    assert (done.code, list(tmp_path.iterdir())) == (1, [])


# ---- check -------------------------------------------------------------------------------------------------------------------


def lines_of(done: Done) -> dict[str, tuple[str, str]]:
    return {line["name"]: (line["state"], line["detail"]) for line in done.json["lines"]}


def test_check_looks_at_one_page_of_everything(tmp_path: Path) -> None:
    with Emulator(world(now=datetime.now(UTC)), Switches(meta_total="present")) as emulator:
        env = environment(emulator, tmp_path)
        done = cli(env, "check", "--json")
        streams = [r.path.removeprefix("/v2/") for r in emulator.requests if r.path.startswith("/v2/")]
    lines = lines_of(done)
    assert done.code == 0
    assert done.json["is_ok"]
    assert {state for state, _ in lines.values()} == {"ok"}, lines
    assert streams == ["accounts", "customers", "bookings", "events"]
    assert lines["accounts of default"][1].startswith("3 accounts: Northgate New York, ")
    assert lines["bookings of default"][1] == "100 rows, more follow, 130 in total"
    assert "relationships.resources" in lines["events of default"][1]
    assert set(lines) >= {"settings", "contract", "token of default", "clock against default", "time zones", "lease"}
    assert not list(tmp_path.iterdir())


def test_check_warns_of_what_costs_nothing_but_time_or_looks(loaded: Loaded) -> None:
    loaded.emulator.switches = Switches(sort=False, upper_bound=False)
    try:
        done = cli({**loaded.env, "SYNC_ACCOUNT_TIME_ZONES": "{}"}, "check")
    finally:
        loaded.emulator.switches = Switches()
    assert done.code == 0, done
    assert "warning  clock against default: this machine's clock is" in done.out
    assert "warning  customers of default: 40 rows, no more" in done.out
    for ability in ("sort", "upper_bound"):
        assert f"(ability '{ability}';" in done.out
    assert (
        "warning  time zones: none is known for northgate-new-york, northgate-madrid, northgate-edinburgh" in done.out
    )
    assert "ok       lease: nobody writes" in done.out


def test_check_goes_on_after_a_failure(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = loaded.env | contract(
        tmp_path, '[streams.accounts]\npath = "organisations"\n[streams.events]\ntypes = ["nothing"]\n'
    )
    env["WAREHOUSE_PATH"] = str(tmp_path / "file" / "warehouse.duckdb")
    done = cli(env, "check", "--json")
    lines = lines_of(done)
    failed = {name for name, (state, _) in lines.items() if state == "failed"}
    assert done.code == 1
    assert failed == {"accounts of default", "events of default", "warehouse folder"}
    assert "Is APPOINTEDD_BASE_URL right, and streams.accounts.path in the contract?" in lines["accounts of default"][1]
    assert "none could become a row" in lines["events of default"][1]
    assert "set WAREHOUSE_PATH" in lines["warehouse folder"][1]
    assert lines["customers of default"][0] == "ok"


def test_an_api_client_that_is_listed_twice_is_told(copied: Loaded) -> None:
    """An entry that was copied, and of which only the name was changed: what the other one should have shown is read by nobody."""
    own = [
        {"name": name, "client_id": copied.env["APPOINTEDD_CLIENT_ID"], "client_secret": secret}
        for name, secret in (("north", "emu-secret"), ("south", "emu-secret"))
    ]
    env = {name: value for name, value in copied.env.items() if not name.startswith("APPOINTEDD_CLIENT")}
    env["APPOINTEDD_CLIENTS"] = json.dumps(own)
    told = "APPOINTEDD_CLIENTS: 'north' and 'south' have the same client id"
    state, detail = lines_of(cli(env, "check", "--json"))["settings"]
    assert (state, told in detail) == ("warning", True)
    synced = cli(env, "sync", "--json")
    assert synced.code == 0
    assert any(told in warning for warning in synced.json["warnings"])


def test_check_names_what_the_settings_name_and_nobody_lists(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "minutes.txt").write_text("of a meeting", encoding="utf-8")
    env = loaded.env | {
        "SYNC_ACCOUNTS": '["northgate-madird"]',
        "SYNC_ACCOUNT_TIME_ZONES": '{"northgate-madird": "Europe/Madrid"}',
        "WAREHOUSE_PUBLISHED_PATH": str(tmp_path / "minutes.txt"),
    }
    done = cli(env, "check", "--json")
    lines = lines_of(done)
    assert done.code == 2
    assert lines["SYNC_ACCOUNTS"][0] == "failed"
    assert "northgate-madird, which no API client lists" in lines["SYNC_ACCOUNTS"][1]
    assert lines["SYNC_ACCOUNT_TIME_ZONES"][0] == "warning"
    assert "minutes.txt, which is no DuckDB file" in lines["files"][1]


def test_check_tells_of_a_program_that_reads_the_working_file(copied: Loaded) -> None:
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(copied.folder / "warehouse.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        lines = lines_of(cli(copied.env, "check", "--json"))
    assert lines["lease"][0] == "warning"
    assert "is open in another program" in lines["lease"][1]


def test_check_tells_of_secrets_and_copies_that_everybody_may_read(copied: Loaded, tmp_path: Path) -> None:
    file, copy = tmp_path / "my.env", copied.folder / "warehouse.duckdb.before-009"
    for one in (file, copy):
        one.touch(mode=0o600)
        one.chmod(0o640)  # whom the owner has put into the group may well read it
    env = copied.env | {"APPOINTEDD_ENV_FILE": str(file)}
    assert "who may read" not in lines_of(cli(env, "check", "--json"))
    for one in (file, copy):
        one.chmod(0o644)
    done = cli(env, "check", "--json")
    told = f"every user of this machine may read {file} {copy}, and secrets or personal data stand there. Run: chmod 600 {file} {copy}"
    assert lines_of(done)["who may read"] == ("warning", told)
    assert done.code == 0


@pytest.mark.parametrize("file", ["warehouse", "analytics"])
def test_check_sees_a_file_that_was_cut(copied: Loaded, file: str) -> None:
    """It opens all the same, and answers until a question comes to what is missing."""
    path = copied.folder / f"{file}.duckdb"
    lines = lines_of(cli(copied.env, "check", "--json"))
    assert {lines[name][0] for name in ("warehouse file", "published file")} == {"ok"}
    os.truncate(path, path.stat().st_size - 262_144)
    done = cli(copied.env, "check", "--json")
    (failed,) = [(name, told) for name, (state, told) in lines_of(done).items() if state == "failed"]
    assert done.code == 1
    assert failed[0] == {"warehouse": "warehouse file", "analytics": "published file"}[file]
    assert f"{path} cannot be read: of its " in failed[1]
    assert "The file is damaged: put a backup in its place" in failed[1]


def test_a_failed_night_still_tells_what_is_complete(copied: Loaded) -> None:
    done = cli(copied.env | {"APPOINTEDD_CLIENT_SECRET": "wrong"}, "sync", "--json")
    assert done.code == 1
    complete = {s["stream"]: s["complete_until_at"] for s in done.json["streams"] if s["stream"] != "accounts"}
    assert complete
    assert None not in complete.values()


def test_check_of_an_api_client_that_sees_no_account(tmp_path: Path) -> None:
    with Emulator(world()) as emulator:
        emulator.world.clients[emulator.client_id].accounts = set()
        done = cli(environment(emulator, tmp_path), "check")
    assert done.code == 1
    assert "failed   accounts of default: it sees no account at all" in done.out


def test_check_where_rows_do_not_name_their_account(tmp_path: Path) -> None:
    with Emulator(world(), Switches(account_in="absent")) as emulator:
        done = cli(environment(emulator, tmp_path), "check", "--json")
    lines = lines_of(done)
    assert (done.code, lines["customers of default"][0], lines["bookings of default"][0]) == (1, "warning", "failed")
    assert "Make one API client for each account" in lines["bookings of default"][1]


def test_check_of_a_refused_list(loaded: Loaded) -> None:
    loaded.emulator.faults.append(Fault(on("/v2/bookings"), Status(403), times=1))
    done = cli(loaded.env, "check", "--json")
    assert done.code == 1
    assert lines_of(done)["bookings of default"][0] == "failed"
    assert lines_of(done)["events of default"][0] == "ok"


def test_check_of_a_list_whose_end_proves_nothing(tmp_path: Path) -> None:
    def bare(body: bytes) -> bytes:
        return json.dumps({"data": json.loads(body)["data"]}).encode()

    with Emulator(world(events=10)) as emulator:
        emulator.faults.append(Fault(on("/v2/events"), Replace(bare), times=None))
        lines = lines_of(cli(environment(emulator, tmp_path), "check", "--json"))
    assert lines["events of default"][0] == "failed"
    assert "nothing shows that it is all" in lines["events of default"][1]


def test_check_of_settings_and_contract(loaded: Loaded, tmp_path: Path) -> None:
    nothing = cli({"APPOINTEDD_ENV_FILE": ""}, "check", "--json")
    assert nothing.code == 2
    assert "APPOINTEDD_BASE_URL is not set" in lines_of(nothing)["settings"][1]
    wrong = cli(loaded.env | contract(tmp_path, "[streams.booking]\n"), "check")
    assert wrong.code == 2
    assert "failed   contract: " in wrong.out
    assert "Did you mean streams.bookings?" in wrong.out
    link = tmp_path / "link.duckdb"
    link.symlink_to(loaded.env["WAREHOUSE_PATH"])
    for path in (loaded.env["WAREHOUSE_PATH"], str(link)):
        same = cli(loaded.env | {"WAREHOUSE_PUBLISHED_PATH": path}, "check", "--json")
        assert (same.code, lines_of(same)["files"][0]) == (2, "failed")


# ---- shell -------------------------------------------------------------------------------------------------------------------


def test_shell_runs_one_statement(loaded: Loaded) -> None:
    shown_table = cli(loaded.env, "shell", "-c", "select count(*) as bookings, null as nothing from marts.bookings")
    assert shown_table.code == 0
    assert [line.split() for line in shown_table.out.splitlines() if line.strip()][::2] == [
        ["bookings", "nothing"],
        ["130", "NULL"],
    ]
    done = cli(
        loaded.env,
        "shell",
        "--json",
        "-c",
        "select timestamptz '2026-03-02 02:00:00+01' as at, 0.10::decimal(4,2) as price, 1, 1, '\x1b' as text, 'nan'::double as nan",
    )
    assert done.json["rows"] == [["2026-03-02T01:00:00Z", "0.10", 1, 1, "\x1b", "nan"]]
    assert done.json["columns"][0] == {"name": "at", "type": "TIMESTAMP WITH TIME ZONE"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-c", "selec"), 'syntax error at or near "selec"'),
        (("-c", "delete from core.bookings"), "read-only"),
        (("--json",), "--json needs a statement"),
        (("--json", "-c", "select 1; select 2"), "these are 2 statements"),
    ],
)
def test_shell_refuses(loaded: Loaded, arguments: tuple[str, ...], said: str) -> None:
    done = cli(loaded.env, "shell", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_shell_without_a_file_names_the_cure(loaded: Loaded, tmp_path: Path) -> None:
    done = cli(environment(loaded.emulator, tmp_path), "shell", "-c", "select 1")
    assert (done.code, done.out) == (1, "")
    assert "The first sync makes it" in done.err


def test_shell_reads_statements_from_standard_input(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("select 11;\nselect 22;"))
    shell.prompt(loaded.folder / "analytics.duckdb")
    out = capsys.readouterr().out
    assert out.index("11") < out.index("22")


def test_the_prompt_goes_on_after_mistakes(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    typed = iter(["", "select 40", "+ 2 as answer;", "selec;", "^C", ".views", ".help", ".quit", "no"])
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        line = next(typed)
        if line == "^C":
            raise KeyboardInterrupt
        return line

    with shell.open_published(loaded.folder / "analytics.duckdb") as connection:
        shell.converse(connection, ask)
    out = capsys.readouterr().out
    assert prompts[:4] == ["sql> ", "sql> ", "...> ", "sql> "]
    assert next(typed) == "no"
    for said in ("answer", "42", "syntax error", "marts.daily_bookings", ".quit (or Ctrl-D)"):
        assert said in out


def test_the_prompt_ends_with_the_input(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        raise EOFError

    with shell.open_published(loaded.folder / "analytics.duckdb") as connection:
        shell.converse(connection, ask)
    assert asked == [shell.PROMPT]
    assert capsys.readouterr().out == "\n"


def test_a_long_result_is_cut_in_a_table_and_whole_in_json(loaded: Loaded) -> None:
    table = cli(loaded.env, "shell", "-c", "from range(1200)").out
    assert "Only the first 1,000 rows are shown." in table
    assert len(cli(loaded.env, "shell", "--json", "-c", "from range(1200)").json["rows"]) == 1200


# ---- wrong use ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_missing_settings_are_named(command: str, tmp_path: Path) -> None:
    done = cli({"APPOINTEDD_ENV_FILE": "", "WAREHOUSE_PATH": str(tmp_path / "w.duckdb")}, command)
    assert (done.code, done.out) == (2, "")
    for name in ("BASE_URL", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"):
        assert f"APPOINTEDD_{name} is not set" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync", "--stream", "booking"), "There is no stream 'booking'; there are accounts, customers"),
        (("plan", "--stream", "booking"), "There is no stream"),
        (("renormalise", "--stream", "booking"), "There is no stream"),
        (("sync", "--from", "2026-01-01"), "--from and --to belong together"),
        (("sync", "--from", "2026-01-02", "--to", "2026-01-01"), "--from 2026-01-02 is after --to 2026-01-01"),
        (("sync", "--from", "2026-01-02", "--to", "9999-12-31"), "beyond the years"),
        (("sync", "--sweep", "--from", "2026-01-01", "--to", "2026-01-02"), "--sweep reads everything"),
        (("sync", "--from", "yesterday", "--to", "2026-01-01"), "Invalid value for '--from'"),
        (("sync", "--quiet", "--verbose"), "contradict"),
        (("sync", "--nonsense"), "No such option"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_use_is_a_sentence(loaded: Loaded, arguments: tuple[str, ...], said: str) -> None:
    done = cli(loaded.env, *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_folder_that_cannot_be_used_is_a_sentence(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli(loaded.env | {"WAREHOUSE_PATH": str(tmp_path / "file" / "warehouse.duckdb")}, "sync")
    assert (done.code, done.out) == (1, "")
    told = f"WAREHOUSE_PATH: {tmp_path / 'file' / 'warehouse.duckdb'} cannot be written ({tmp_path / 'file'}: File exists)."
    assert told in done.err


def test_version_and_help() -> None:
    assert cli({}, "--version").out.startswith("appointedd-warehouse 0.")
    done = cli({}, "--help")
    assert done.code == 0
    for command in ("check", "sync", "status", "plan", "renormalise", "shell"):
        assert f"  {command} " in done.out
    assert not [line for line in done.out.partition("Commands:")[2].splitlines() if line.endswith("...")]  # cut


# ---- the small things --------------------------------------------------------------------------------------------------------


def test_verbose_and_quiet(copied: Loaded) -> None:
    assert "INFO Published" in cli(copied.env, "sync", "--stream", "accounts", "-v").err
    assert cli(copied.env, "sync", "--stream", "accounts", "-q").err == ""


def test_change_days_are_whole_days_of_the_zone() -> None:
    london = ZoneInfo("Europe/London")
    assert change_days(date(2025, 10, 26), date(2025, 10, 26), london) == Window(
        datetime(2025, 10, 25, 23, tzinfo=UTC), datetime(2025, 10, 27, tzinfo=UTC)
    )
    with pytest.raises(UsageError):
        change_days(date(1, 1, 1), date(1, 1, 2), ZoneInfo("Asia/Tokyo"))


def test_streams_come_once_and_in_order() -> None:
    assert [s.name for s in chosen_streams(load_contract(), ["events", "customers", "events"])] == [
        "customers",
        "events",
    ]
    assert [s.name for s in chosen_streams(load_contract(), [])] == list(BUILT_IN)


def test_a_sentence_is_one_line_whatever_it_quotes(tmp_path: Path) -> None:
    """A warning, a log line and a check that keeps the file from being published, of names with line ends in them."""
    with Emulator(World(seed=5, accounts=2, customers=3, bookings=6, events=2, years=1)) as emulator:
        next(iter(emulator.world.accounts)).slug = "north\r\nproblem: south"
        own = environment(emulator, tmp_path) | {"SYNC_ACCOUNT_TIME_ZONES": "{}"}
        done = cli(own, "sync")
        assert done.code == 0, done
        (told,) = [line for line in done.out.splitlines() if "No time zone" in line]
        assert "north��problem: south" in told
        assert "problem:" not in [line[:8] for line in done.out.splitlines()]
        ((kept,),) = query(tmp_path / "warehouse.duckdb", "select warnings from ops.runs")
        assert [sentence for sentence in kept if not sentence.isprintable()] == []
        with connect(tmp_path / "warehouse.duckdb", read_only=False) as connection:
            connection.execute("update core.bookings set account_id = 'nobody\r\nproblem: south', booking_id = 'b'")
        done = cli(own, "sync", "--stream", "events")
        assert done.code == 1, done
        (told,) = [line for line in done.out.splitlines() if "would be wrong" in line]
        assert "nobody��problem: south" in told
        assert [line for line in done.out.splitlines() if line.startswith("problem: ")] == [told]


def test_a_log_line_is_one_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(is_quiet=False, is_verbose=False)
    log = logging.getLogger("resources.rate")
    log.error("an id: %s", "a\nproblem: b", exc_info=ValueError("kept"))
    told, traceback = capsys.readouterr().err.splitlines()
    assert told.endswith("ERROR an id: a�problem: b")
    assert traceback == "ValueError: kept"


def test_names_keep_what_belongs_to_them() -> None:
    """Spaces that do not break, joiners in an emoji and between letters; not what turns the direction of writing."""
    name = "Café\u00a0Noir \u202f\U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert in_one_line(name) == name
    assert in_one_line("a\u202eb\u2028c\x9bd\ud800e") == "a�b�c�d�e"


def test_nothing_in_a_cell_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [["[red]Nails\x1b[31m & Co[/red]"]])
    out = capsys.readouterr().out
    assert "[red]Nails�[31m & Co[/red]" in out
    assert "\x1b" not in out
