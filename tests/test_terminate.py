"""Told to end: SIGTERM to the command line and to a run of Dagster ends it within ten seconds, with what was committed and a row that says so."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipelines.commands import renormalise_once
from pipelines.status import read_status
from pipelines.streams import BOOKINGS
from resources import connections, exchange, rate
from resources.alive import living_runs, note_run
from resources.appointedd import ApiClient, open_clients
from resources.contract import load_contract
from resources.database import connect
from resources.errors import BrokenAnswerError, ClientRefusedError, GaveUpError, WarehouseError
from resources.lease import lease
from resources.rate import pause
from resources.retries import StoppedError
from resources.runs import KILLED
from resources.settings import PROJECT_FOLDER
from resources.warehouse import Warehouse, Writer
from tests import breaking
from tests.breaking import started
from tests.emulator import Delay, Emulator, Fault, Replace, Request, Reset, SetHeaders, Status, Truncate, World, on
from tests.equality import differences, night, query, settings_for

COMMAND = str(Path(sys.executable).with_name("appointedd-warehouse"))
DAGSTER = str(Path(sys.executable).with_name("dagster"))
ENDS_WITHIN_S = 10.0
STARTS_WITHIN_S = 60.0
SILENCE = Delay(3600.0)


@pytest.fixture
def world() -> World:
    return World(seed=7, accounts=2, customers=40, bookings=130, events=8, years=1)


def environment(emulator: Emulator, folder: Path) -> dict[str, str]:
    zones = {a.id: a.time_zone for a in emulator.world.accounts}
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT_FOLDER),
        "APPOINTEDD_ENV_FILE": "",
        "DAGSTER_HOME": str(folder / "dagster"),
        "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
        "WAREHOUSE_PUBLISHED_PATH": str(folder / "analytics.duckdb"),
        "SYNC_REQUESTS_PER_SECOND": "1000",
        "SYNC_HISTORY_START": "2023-01-01",
        "SYNC_ACCOUNT_TIME_ZONES": str(zones).replace("'", '"'),
        **emulator.environment(),
    }


def reached(emulator: Emulator, path: str) -> threading.Event:
    """Set when a request for the path has come."""
    asked = threading.Event()
    emulator.hooks.append(lambda request: asked.set() if request.path.startswith(path) else None)
    return asked


def stopped_in_time(
    process: subprocess.Popen[str], asked: threading.Event, by: signal.Signals = signal.SIGTERM
) -> tuple[int, str, str]:
    """The signal once the request has come; exit code and output. That it ends in time is what is asked for."""
    try:
        assert asked.wait(STARTS_WITHIN_S)
        process.send_signal(by)
        out, err = process.communicate(timeout=ENDS_WITHIN_S)
    finally:
        process.kill()
    return process.returncode, out, err


def healed(emulator: Emulator, folder: Path) -> None:
    """The next night, with nothing in its way, ends in the truth."""
    emulator.faults.clear()
    emulator.rate_limit(None)
    emulator.world.clock.advance(timedelta(hours=1))
    settings = settings_for(emulator, folder)
    assert night(settings, publish=True).problems == []
    assert differences(settings.warehouse_path, emulator.world.truth()) == []
    assert query(settings.warehouse_path, "select count(*) from ops.runs where status = 'running'") == [(0,)]


@pytest.mark.parametrize(
    ("where", "trouble"),
    [
        pytest.param("/v2/bookings", SILENCE, id="a silent socket"),
        pytest.param("/v2/accounts", SILENCE, id="the account list", marks=pytest.mark.long),
        pytest.param("/v2/bookings", Status(429, {"Retry-After": "100"}), id="a pause", marks=pytest.mark.long),
        pytest.param("/v2/bookings", Status(503), id="backoff", marks=pytest.mark.long),
        pytest.param("/oauth/token", SILENCE, id="the token", marks=pytest.mark.long),
    ],
)
def test_sigterm_ends_a_sync_whatever_it_waits_for(
    where: str, trouble: Delay | Status, emulator: Emulator, tmp_path: Path
) -> None:
    own = environment(emulator, tmp_path)
    subprocess.run([COMMAND, "sync", "--quiet", "--stream", "customers"], env=own, check=True)
    emulator.faults.append(Fault(on(where), trouble, times=None))
    asked = reached(emulator, where)
    process = subprocess.Popen(
        [COMMAND, "sync", "--quiet"],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code, out, err = stopped_in_time(process, asked)
    assert (code, out) == (143, ""), err
    assert err.splitlines()[-1].startswith("Stopped by SIGTERM. Slices that were committed stay")
    assert "Traceback" not in err
    warehouse = tmp_path / "warehouse.duckdb"
    ((status, problems),) = query(warehouse, "select status, problems from ops.runs order by started_at desc limit 1")
    assert (status, len(problems)) == ("red", 1)
    assert "stopped by SigTerm" in problems[0]
    assert query(warehouse, "select count(*) from core.customers") == [(40,)]
    assert not list(tmp_path.glob(".*"))
    healed(emulator, tmp_path)


NEW_BUT_UNNOTED = "is new and complete, but the working file did not note that the run is over: stopped by SigTerm"


@pytest.mark.parametrize(
    ("at", "status", "told", "publications"),
    [
        ("replace:1:before", "red", "did not end: stopped by SigTerm", (0, 0)),
        ("replace:1:after", "red", NEW_BUT_UNNOTED, (0, 1)),
        # Those of the checks, of the copy and of the working file, which is put in order by it.
        ("checkpoint:3:before", "green", "", (1, 1)),
        ("checkpoint:3:after", "green", "", (1, 1)),
    ],
)
def test_a_run_that_is_told_to_end_while_it_publishes_is_noted_as_far_as_it_came(
    at: str, status: str, told: str, publications: tuple[int, int], emulator: Emulator, tmp_path: Path
) -> None:
    settings = settings_for(emulator, tmp_path)
    connect(settings.warehouse_published_path, read_only=False).close()  # somebody's own, without tables
    child = started(breaking.environment(emulator, settings) | {"BREAK_AT": at, "BREAK_BY": "SIGTERM"}, "--quiet")
    _, err = child.communicate(timeout=STARTS_WITHIN_S)
    assert child.returncode == 143, err
    assert err.startswith("Stopped by SIGTERM. "), err
    ((stands, problems),) = query(settings.warehouse_path, "select status, problems from ops.runs")
    assert stands == status
    assert [problem.endswith(told) for problem in problems] == [True] * bool(told)
    noted, published = publications
    assert query(settings.warehouse_path, "select count(*) from ops.publications") == [(noted,)]
    own = "select count(*) from duckdb_tables() where table_name = 'publications' and estimated_size > 0"
    assert query(settings.warehouse_published_path, own) == [(published,)]
    healed(emulator, tmp_path)


def test_ctrl_c_is_heard_while_the_lists_of_a_first_load_are_counted(emulator: Emulator, tmp_path: Path) -> None:
    contract, asked, whole = tmp_path / "contract.toml", threading.Event(), list[Request]()
    contract.write_text('[parameters]\npage_size_value = "2"\n', encoding="utf-8")

    def is_whole(request: Request) -> bool:
        return request.path == "/v2/bookings" and not any(
            name.startswith(("filter[", "page[a")) for name in request.query
        )

    def note(request: Request) -> None:
        whole.extend([request] if is_whole(request) else [])
        # The first one showed that the list must be cut; with the second it is counted; once that is repeated, the main thread surely waits.
        if len(whole) == 3:
            asked.set()

    emulator.hooks.append(note)
    emulator.faults.append(Fault(is_whole, Status(503), skip=1))
    emulator.faults.append(Fault(is_whole, SILENCE, times=None, skip=2))
    process = subprocess.Popen(
        [COMMAND, "sync", "--quiet", "--stream", "bookings"],
        env=environment(emulator, tmp_path) | {"APPOINTEDD_CONTRACT": str(contract)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    code, out, err = stopped_in_time(process, asked, signal.SIGINT)
    assert (code, out) == (130, ""), err
    assert err.splitlines()[-1].startswith("Stopped by Ctrl-C. Slices that were committed stay")
    healed(emulator, tmp_path)


_WAITS_FOR_A_PART = """
import threading
from concurrent.futures import Future
import polars as pl
from pipelines.parts import ComingPart
pl.LazyFrame({"n": [1]}).collect()  # from here on a wait without an end is deaf
threading.Timer(0.5, print, [""], {"flush": True}).start()
ComingPart(1, False, Future()).is_shaped(3600)
"""


def test_ctrl_c_is_heard_while_a_part_is_shaped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS_FOR_A_PART], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(ENDS_WITHIN_S) == -signal.SIGINT
        finally:
            process.kill()


@pytest.mark.long
def test_sigterm_ends_the_waiting_for_another_run(emulator: Emulator, tmp_path: Path) -> None:
    """Two real syncs at once: the second names the first and waits; it can be told to end, and the first is not disturbed."""
    emulator.faults.append(Fault(on("/v2/bookings"), SILENCE, times=None))
    asked = reached(emulator, "/v2/bookings")
    own = environment(emulator, tmp_path)
    with subprocess.Popen([COMMAND, "sync", "--quiet"], env=own, stderr=subprocess.PIPE, text=True) as first:
        assert asked.wait(STARTS_WITHIN_S)
        with subprocess.Popen([COMMAND, "sync", "--quiet"], env=own, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            said = second.stderr.readline()
            assert f"process {first.pid} " in said
            assert "nightly of customers, bookings, events" in said
            second.send_signal(signal.SIGTERM)
            assert second.wait(ENDS_WITHIN_S) == 143
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert first.wait(ENDS_WITHIN_S) == 143


def test_sigterm_ends_a_sweep_that_gives_way_to_another_run(emulator: Emulator, tmp_path: Path) -> None:
    own = environment(emulator, tmp_path)
    warehouse = tmp_path / "warehouse.duckdb"
    is_waited_for = threading.Event()

    def wait(seconds: float) -> None:
        is_waited_for.set()
        threading.Event().wait(seconds)

    # The sweep is in the middle of its list until somebody waits for the file.
    def hold(request: Request) -> None:
        if request.path == "/v2/bookings":
            is_waited_for.wait(STARTS_WITHIN_S)

    asked = reached(emulator, "/v2/bookings")
    emulator.hooks.append(hold)
    process = subprocess.Popen(
        [COMMAND, "sync", "--sweep", "--quiet"],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asked.wait(STARTS_WITHIN_S)
    with lease(warehouse, "nightly of bookings", wait_s=STARTS_WITHIN_S, sleep=wait):
        code, out, err = stopped_in_time(process, asked)
    assert (code, out) == (143, ""), err
    assert err.splitlines()[-1].startswith("Stopped by SIGTERM. Slices that were committed stay")
    assert "Traceback" not in err
    assert "could not be written down" in err
    healed(emulator, tmp_path)
    assert query(warehouse, "select status from ops.runs order by started_at") == [("red",), ("green",)]


def test_a_sweep_that_cannot_open_the_file_again_is_red(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gave way, and a notebook opened the working file meanwhile."""

    def refused(writer: Writer) -> None:
        writer.connection.close()
        raise WarehouseError("warehouse.duckdb is open in another program (process 7).")

    settings = settings_for(emulator, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "give_way", refused)
        with pytest.raises(WarehouseError, match="process 7"):
            night(settings, kind="sweep")
    ((status, problems),) = query(settings.warehouse_path, "select status, problems from ops.runs")
    assert (status, len(problems)) == ("red", 1)
    assert "not read to the end: warehouse.duckdb is open in another program" in problems[0]
    healed(emulator, tmp_path)


def test_a_run_that_cannot_commit_its_account_list_is_red(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise WarehouseError("warehouse.duckdb: the disk is full.")

    settings = settings_for(emulator, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", refused)
        with pytest.raises(WarehouseError, match="full"):
            night(settings)
    assert query(settings.warehouse_path, "select status, problems from ops.runs") == [
        ("red", ["accounts: not read to the end: warehouse.duckdb: the disk is full."])
    ]
    healed(emulator, tmp_path)


def test_what_ended_a_step_is_raised_though_its_end_cannot_be_written_down_at_first(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, end_run = list[Sequence[str]](), Writer.end_run

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    def full_once(writer: Writer, run_id: str, problems: Sequence[str], warnings: Sequence[str], **named: bool) -> None:
        calls.append(problems)
        if len(calls) == 1:
            raise WarehouseError("The warehouse could not be written: the disk is full.")
        end_run(writer, run_id, problems, warnings, **named)

    settings = settings_for(emulator, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", ended)
        patch.setattr(Writer, "end_run", full_once)
        with pytest.raises(KeyboardInterrupt):
            night(settings)
    assert query(settings.warehouse_path, "select status, problems from ops.runs") == [
        ("red", ["accounts: not read to the end: stopped by KeyboardInterrupt"])
    ]
    healed(emulator, tmp_path)


def test_shaping_again_that_loses_its_file_half_way_is_red(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is of no use any more, as after a full disk: what ended it is raised and written down, not what writing to it raises."""

    def refused(writer: Writer, *_: object) -> None:
        writer.connection.close()
        raise WarehouseError("warehouse.duckdb: the disk is full.")

    settings = settings_for(emulator, tmp_path)
    assert night(settings, publish=True).problems == []
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "renormalise", refused)
        with pytest.raises(WarehouseError, match="full"):
            renormalise_once(settings, load_contract(None), [BOOKINGS], "0")
    assert query(settings.warehouse_path, "select status, problems from ops.runs where kind = 'renormalise'") == [
        ("red", ["warehouse.duckdb: the disk is full."])
    ]
    healed(emulator, tmp_path)


@pytest.mark.long
def test_two_syncs_at_once_both_end_well(emulator: Emulator, tmp_path: Path) -> None:
    own = environment(emulator, tmp_path)
    both = [subprocess.Popen([COMMAND, "sync", "--quiet"], env=own, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(STARTS_WITHIN_S) for process in both] == [0, 0]
    assert query(tmp_path / "warehouse.duckdb", "select status from ops.runs") == [("green",), ("green",)]
    assert differences(tmp_path / "analytics.duckdb", emulator.world.truth()) == []


def test_dagsters_terminate_ends_a_run(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    emulator.faults.append(Fault(on("/v2/events"), SILENCE, times=None))
    asked = reached(emulator, "/v2/events")
    # The steps run in the order of their names, events last. The command executes the run in its own process, with the handlers that a run worker has.
    process = subprocess.Popen(
        [DAGSTER, "job", "execute", "-m", "pipelines.definitions", "-j", "nightly"],
        cwd=tmp_path,  # Dagster reads the `.env` of the folder that it is started in
        env=environment(emulator, tmp_path) | {"SYNC_HISTORY_START": "2026-02-25"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    code, out, _ = stopped_in_time(process, asked)
    assert code != 0, out
    warehouse = tmp_path / "warehouse.duckdb"
    assert query(warehouse, "select count(*) from core.customers") == [(40,)]
    ((status, problems),) = query(warehouse, "select status, problems from ops.runs")
    assert status == "red"
    assert "not read to the end: it was told to end, by Terminate in Dagster or by a signal" in problems[0]
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (record,) = instance.get_run_records()
        assert record.dagster_run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
    healed(emulator, tmp_path)


# ---- rows of killed runs -----------------------------------------------------------------------------------------------------


def test_a_killed_runs_row_is_ended_by_the_next_run_and_a_living_ones_is_not(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.faults.append(Fault(on("/v2/bookings"), SILENCE, times=None))
    asked = reached(emulator, "/v2/bookings")
    process = subprocess.Popen([COMMAND, "sync", "--quiet"], env=environment(emulator, tmp_path))
    assert asked.wait(STARTS_WITHIN_S)
    warehouse = tmp_path / "warehouse.duckdb"
    (killed,) = living_runs(warehouse)
    process.kill()
    process.wait()
    assert query(warehouse, "select run_id, status from ops.runs") == [(killed, "running")]
    # Who asks meanwhile is told what it is.
    status = read_status(Warehouse(settings_for(emulator, tmp_path)), emulator.world.clock.now())
    assert (status.runs[0]["status"], status.problems) == ("red", [KILLED])
    emulator.faults.clear()
    first = night(
        settings_for(emulator, tmp_path)
    )  # does not publish, so its row goes on running, and this process lives
    second = night(settings_for(emulator, tmp_path), publish=True)
    rows = query(warehouse, "select run_id, status, len(problems) from ops.runs")
    assert sorted(rows) == sorted([(killed, "red", 1), (first.run_id, "running", 0), (second.run_id, "green", 0)])
    ((problems,),) = query(warehouse, "select problems from ops.runs where run_id = ?", killed)
    assert "killed" in problems[0]
    assert living_runs(warehouse) == {first.run_id, second.run_id}


def test_what_a_gone_process_left_is_removed(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    left = tmp_path / ".warehouse.duckdb.alive-left"
    left.write_text("an-old-run\n", encoding="utf-8")
    note_run(warehouse, "a-run")
    note_run(warehouse, "another")
    assert living_runs(warehouse) == {"a-run", "another"}
    assert not left.exists()


# ---- waits of a thread that is told to stop ----------------------------------------------------------------------------------


@pytest.fixture
def client(emulator: Emulator, tmp_path: Path) -> Iterator[ApiClient]:
    (one,) = open_clients(settings_for(emulator, tmp_path), load_contract())
    with one:
        yield one


def pages_in_a_thread(client: ApiClient, stopped: threading.Event) -> tuple[threading.Thread, list[Exception]]:
    ended: list[Exception] = []

    def read() -> None:
        try:
            with client.exchange.until(stopped):
                list(client.pages("customers", {}, {}))
        except (StoppedError, ClientRefusedError, GaveUpError) as error:
            ended.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, ended


@pytest.mark.parametrize("status", [Status(429, {"Retry-After": "100"}), Status(503), Reset()], ids=str)
def test_a_wait_ends_when_the_thread_is_stopped(
    status: Status | Reset, client: ApiClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.faults.append(Fault(on("/v2/"), status, times=None))
    stopped, waits = threading.Event(), threading.Event()

    def told(seconds: float, event: threading.Event | None) -> None:
        if seconds > 0.05:
            waits.set()
        pause(seconds, event)

    monkeypatch.setattr(rate, "pause", told)
    monkeypatch.setattr(exchange, "pause", told)
    thread, ended = pages_in_a_thread(client, stopped)
    assert waits.wait(STARTS_WITHIN_S)
    stopped.set()
    thread.join(ENDS_WITHIN_S)
    assert [type(error) for error in ended] == [StoppedError]
    assert emulator.count("/v2/") == 1


def test_a_thread_that_is_stopped_already_sends_nothing(client: ApiClient, emulator: Emulator) -> None:
    stopped = threading.Event()
    stopped.set()
    thread, ended = pages_in_a_thread(client, stopped)
    thread.join(ENDS_WITHIN_S)
    assert [type(error) for error in ended] == [StoppedError]
    assert emulator.requests == []


def test_a_client_in_use_is_not_closed_under_the_thread(client: ApiClient, emulator: Emulator) -> None:
    emulator.faults.append(Fault(on("/v2/"), Delay(0.5)))
    stopped, asked = threading.Event(), reached(emulator, "/v2/")
    thread, ended = pages_in_a_thread(client, stopped)
    assert asked.wait(STARTS_WITHIN_S)
    stopped.set()
    client.__exit__()
    assert not client.exchange._connections.builder.is_closed
    assert ended == []
    thread.join(ENDS_WITHIN_S)
    assert [type(error) for error in ended] == [StoppedError]


# ---- the size of an answer ---------------------------------------------------------------------------------------------------


def one_page(client: ApiClient) -> Any:
    return next(client.pages("customers", {}, {}))


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "compressed"])
def test_an_answer_beyond_the_limit_is_refused(
    is_compressed: bool, client: ApiClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MOST_BYTES", 1024 * 1024)
    body = b'{"data": [], "meta": "' + b"x" * 1024 * 1024 + b'"}'
    emulator.faults.append(Fault(on("/v2/"), Replace(gzip.compress(body) if is_compressed else body), times=None))
    if is_compressed:
        emulator.faults.append(Fault(on("/v2/"), SetHeaders({"Content-Encoding": "gzip"}), times=None))
    with pytest.raises(BrokenAnswerError, match=r"customers: an answer of more than 1 MiB .* smaller pages"):
        one_page(client)
    assert emulator.count("/v2/customers") == 1  # not repeated: the same would come


def test_an_answer_within_the_limit_is_read(client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_BYTES", 1024 * 1024)
    assert len(one_page(client).records) == 40


def test_encodings_over_one_another_are_refused(client: ApiClient, emulator: Emulator) -> None:
    twice = gzip.compress(gzip.compress(b'{"data": []}'))
    emulator.faults.append(Fault(on("/v2/"), Replace(twice), times=None))
    emulator.faults.append(Fault(on("/v2/"), SetHeaders({"Content-Encoding": "gzip, gzip"}), times=None))
    with pytest.raises(GaveUpError, match="encoding that was not asked for"):
        one_page(client)


def test_a_body_that_never_ends_by_time_is_given_up(
    client: ApiClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LONGEST_BODY_S", -1.0)
    with pytest.raises(GaveUpError, match="a body that took longer"):
        one_page(client)


def test_a_token_answer_beyond_the_limit_is_no_token(client: ApiClient, emulator: Emulator) -> None:
    page = b"<html>" + b"x" * connections.MOST_TOKEN_BYTES
    emulator.faults.append(Fault(on("/oauth/token"), Replace(page), times=None))
    with pytest.raises(ClientRefusedError, match=r"more than 1 MiB on POST .*APPOINTEDD_TOKEN_URL"):
        one_page(client)
    assert emulator.token_requests == 1


def test_the_body_of_a_401_is_not_read(client: ApiClient, emulator: Emulator) -> None:
    one_page(client)
    # Whoever reads it meets its end before its time, and takes that for trouble in place of an expired token.
    emulator.faults.append(Fault(on("/v2/"), Status(401, {}, body=b"x" * 4096)))
    emulator.faults.append(Fault(on("/v2/"), Truncate(0.5)))
    assert len(one_page(client).records) == 40
    assert emulator.token_requests == 2
