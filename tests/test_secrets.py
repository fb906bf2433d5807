"""Canaries in every secret, then searched for in everything that stays or is shown; who may read which file; TLS that cannot be switched off.

What lives here: whole runs (command line, Dagster, the same functions in this process) against servers that repeat what they were sent. What does not: single
messages of the token endpoint (`test_oauth`), redaction of one record (`test_records`), settings (`test_settings`).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import threading
import tomllib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest
from packaging.requirements import Requirement

from pipelines.commands import renormalise_once
from pipelines.definitions import build
from pipelines.doctor import examine
from pipelines.streams import BOOKINGS as BOOKINGS_STREAM
from pipelines.streams import streams_of
from resources.appointedd import ApiClient
from resources.contract import load_contract
from resources.database import connect
from resources.errors import ProductError, SettingsError
from resources.settings import PROJECT_FOLDER, Settings, load_settings
from tests.emulator import Emulator, Fault, Replace, Request, Status, Switches, World
from tests.equality import contract_with, night, settings_for

COMMAND = str(Path(sys.executable).with_name("appointedd-warehouse"))
LOOPBACK = Path(__file__).parent / "fixtures" / "loopback.pem"
EXPIRED = LOOPBACK.with_name("expired.pem")
CLIENT_ID = "canary-id:é"
SECRET = "canary-secret ü+/=&%"
# What the emulator's participants carry in their links, and what `plant` adds.
CAPABILITY = "CANARY"
Json = dict[str, Any]


# ---- needles and haystacks ---------------------------------------------------------------------------------------------------


def needles(world: World) -> dict[str, set[str]]:
    """Every spelling in which a secret of this world could be met."""
    pair = f"{CLIENT_ID}:{SECRET}", f"{quote_plus(CLIENT_ID)}:{quote_plus(SECRET)}"
    found = {
        "client secret": {
            SECRET,
            quote_plus(SECRET),
            quote(SECRET, safe=""),
            json.dumps(SECRET)[1:-1],
            ascii(SECRET)[1:-1],
        },
        "basic credentials": {base64.b64encode(p.encode()).decode().rstrip("=") for p in pair},
        "capability": {CAPABILITY},
    }
    if world.tokens:
        found["access token"] = set(world.tokens)
    return found


def leaks(text: str | bytes, world: World) -> set[str]:
    """Kinds of secret that stand in a text."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return {kind for kind, words in needles(world).items() if any(w.encode() in data for w in words)}


def leaking_files(folder: Path, world: World) -> dict[str, set[str]]:
    """Files below a folder whose bytes hold a secret; of DuckDB files, which are compressed, every value besides."""
    found = {}
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for path in files:
        hit = leaks(path.read_bytes(), world)
        if path.suffix == ".duckdb":
            hit |= leaks(dump(path), world)
        if hit:
            found[str(path.relative_to(folder))] = hit
    return found


def dump(path: Path) -> str:
    """Every value of every table of a DuckDB file, as text."""
    lines = []
    with connect(path, read_only=True) as connection:
        for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
            rows = connection.sql(f"select t::VARCHAR from {schema}.{table} as t").fetchall()  # noqa: S608  names from the catalogue
            lines += [text for (text,) in rows]
    return "\n".join(lines)


def told(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that any library has logged, at any level."""
    return caplog.text + "".join(f"{r.getMessage()} {r.args!r} {r.exc_text}" for r in caplog.records)


def with_locals(error: BaseException) -> str:
    """A traceback as debuggers and error trackers show it: with the local variables of every frame, and causes."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.fixture
def world() -> World:
    small = World(seed=9, accounts=2, customers=25, bookings=30, events=3, years=1)
    small.add_client(CLIENT_ID, SECRET, {a.id for a in small.accounts})
    return small


def own(**more: Any) -> Json:
    return {"appointedd_client_id": CLIENT_ID, "appointedd_client_secret": SECRET, "sync_concurrency": 2, **more}


def environment(emulator: Emulator, folder: Path, *, as_list: bool = False) -> dict[str, str]:
    """Settings for a process, with the client as id and secret or in the list of several."""
    one = {"APPOINTEDD_CLIENT_ID": CLIENT_ID, "APPOINTEDD_CLIENT_SECRET": SECRET}
    several = {"APPOINTEDD_CLIENTS": json.dumps([{"name": "canary", "client_id": CLIENT_ID, "client_secret": SECRET}])}
    return {
        "APPOINTEDD_BASE_URL": emulator.base_url,
        "APPOINTEDD_TOKEN_URL": emulator.token_url,
        "APPOINTEDD_ENV_FILE": "",
        "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
        "WAREHOUSE_PUBLISHED_PATH": str(folder / "analytics.duckdb"),
        "SYNC_REQUESTS_PER_SECOND": "100000",
        "SYNC_HISTORY_START": "2026-01-01",
        **(several if as_list else one),
    }


# ---- what the API sends ------------------------------------------------------------------------------------------------------

LINK = f"https://book.example/cancel?token={CAPABILITY}"


def plant(body: bytes) -> bytes:
    """Capability URLs wherever a record could carry one: beside good values, in bad ones, in lists, and in records that become no row."""
    document = json.loads(body)
    records = document["data"]
    for number, record in enumerate(records):
        attributes = record["attributes"]
        attributes |= {"cancellationUrl": LINK, "more": {"rescheduleUrl": LINK, "deep": [{"cancelUrl": LINK}]}}
        record["cancel_url"] = LINK
        match number % 6:
            case 0 if record["type"] == "customers":
                attributes["customFields"] = {"cancellationUrl": LINK, "size": {"rescheduleUrl": LINK}}
            case 1:
                attributes["startTime"] = attributes["firstName"] = {"cancelUrl": LINK}
            case 2 if number > 5:
                record["type"] = {"cancelUrl": LINK}
            case 3 if number > 5:
                del record["id"]
            case 4:
                attributes["tags"] = [{"name": "vip", "cancelUrl": LINK}, {"cancelUrl": LINK}]
                attributes["status"] = {"cancelUrl": LINK}
    for resource in document.get("included") or []:
        resource["attributes"]["pricePoints"] = [{"quantity": 1, "cancelUrl": LINK}]
        resource["attributes"]["questions"] = [{"label": {"cancelUrl": LINK}, "value": {"cancelUrl": LINK}}]
    return json.dumps(document).encode()


@pytest.mark.parametrize("way", ["included", "attribute"])
def test_nights_full_of_capability_urls_store_none(
    way: Any, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Emulator(world, Switches(participants=way)) as emulator:
        settings = settings_for(emulator, tmp_path, **own(sync_history_start=date(2026, 1, 1)))
        contract = contract_with(tmp_path, "[abilities]\nfilters = false")
        sent: list[bytes] = []

        def planted(body: bytes) -> bytes:
            sent.append(plant(body))
            return sent[-1]

        emulator.faults.append(
            Fault(lambda r: r.path in ("/v2/customers", "/v2/bookings", "/v2/events"), Replace(planted), times=None)
        )
        reports = [night(settings, contract)]
        world.mutate(10)
        world.live_a_day()
        reports.append(night(settings, contract, "sweep", publish=True))
    assert all(LINK.encode() in body for body in sent if b'"id"' in body)
    assert leaking_files(tmp_path, world) == {}
    assert leaks(told(caplog) + repr(reports), world) == set()
    with connect(settings.warehouse_path, read_only=True) as connection:
        for table in ("ops.quarantine", "ops.drift", "core.customer_custom_fields", "history.records"):
            (count,) = connection.execute(f"select count(*) from {table}").fetchone() or (0,)  # noqa: S608  names above
            assert count, table


def test_a_secret_learned_late_is_taken_out_of_all_that_is_stored(world: World, tmp_path: Path) -> None:
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **own(sync_history_start=date(2026, 1, 1)))
        unaware = contract_with(tmp_path, '[redact]\nmembers = ["somethingElse"]\n[abilities]\nfilters = false\n')
        lists = Fault(lambda r: r.path in ("/v2/customers", "/v2/bookings", "/v2/events"), Replace(plant), times=None)
        emulator.faults.append(lists)
        night(settings, unaware)
        world.mutate(10)
        night(settings, unaware, "sweep")
        held = rows_with(settings.warehouse_path, CAPABILITY)
        assert {"core.bookings", "core.customers", "history.records", "ops.quarantine"} <= set(held)

        aware = contract_with(tmp_path, "[abilities]\nfilters = false\n")
        shaped = renormalise_once(settings, aware, list(streams_of(aware).values()), "0")
        # What is planted where a text is due does not fit, and that is told, as each night told it.
        (problem,) = shaped.problems
        assert "'questions.label'" in problem
        assert "do not fit their column (dict where text is due)" in problem
        assert {stream for stream, _, _, erased in shaped.rows if erased} == {"customers", "bookings", "events"}
        assert rows_with(settings.warehouse_path, CAPABILITY) == {}
        assert rows_with(settings.warehouse_published_path, CAPABILITY) == {}
        again = renormalise_once(settings, aware, list(streams_of(aware).values()), "0")
        assert {erased for *_, erased in again.rows} == {0}

        # To the next night those records are the ones that it knows.
        report = night(settings, aware, "sweep")
        assert [one.counts.updated for one in report.streams] == [0] * len(report.streams)
        assert rows_with(settings.warehouse_path, CAPABILITY) == {}


def test_a_late_secret_leaves_also_what_is_read_no_more(world: World, tmp_path: Path) -> None:
    """A stream that is switched off keeps its table, and so does a list that the contract has no longer."""
    own_list = '[streams.guests]\npath = "customers"\ntypes = ["customers"]\n'
    unaware = '[redact]\nmembers = ["somethingElse"]\n'
    with Emulator(world) as emulator:
        settings = settings_for(emulator, tmp_path, **own(sync_history_start=date(2026, 1, 1)))
        emulator.faults.append(Fault(lambda r: r.path == "/v2/customers", Replace(linked), times=None))
        first = contract_with(tmp_path, unaware + own_list)
        night(settings, first)
        assert {"core.customers", "core.guests", "core.customer_custom_fields"} <= set(
            rows_with(settings.warehouse_path, CAPABILITY)
        )
        later = contract_with(tmp_path, "[streams.customers]\nenabled = false\n")
        report = renormalise_once(settings, later, list(streams_of(later).values()), "0")
        assert {"customers", "guests"} <= {stream for stream, _, _, erased in report.rows if erased}
        assert rows_with(settings.warehouse_path, CAPABILITY) == {}
        assert rows_with(settings.warehouse_published_path, CAPABILITY) == {}


def linked(body: bytes) -> bytes:
    """Capability URLs as attributes and as a custom field, beside one that keeps the list from counting as whole."""
    document = json.loads(body)
    for record in document["data"]:
        record["attributes"] |= {"cancellationUrl": LINK, "customFields": {"": 1, "rescheduleUrl": LINK}}
    return json.dumps(document).encode()


def rows_with(path: Path, text: str) -> dict[str, int]:
    """Tables of a DuckDB file in which a text stands in any value, with the number of such rows."""
    found = {}
    with connect(path, read_only=True) as connection:
        for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
            counted = f"select count(*) from {schema}.{table} as t where contains(t::VARCHAR, ?)"  # noqa: S608  names from the catalogue
            (count,) = connection.execute(counted, [text]).fetchone() or (0,)
            if count:
                found[f"{schema}.{table}"] = count
    return found


# ---- servers that repeat what they are told ----------------------------------------------------------------------------------


def echoing(path: str, status: int, body: Callable[[str, str], object], headers: dict[str, str] | None = None) -> Fault:
    """A server that answers with what it was sent: `body` gets the Authorization header and the address."""

    def matches(request: Request) -> bool:
        if not request.path.startswith(path):
            return False
        header = request.headers.get("authorization", "")
        answer = body(header, request.path)
        is_text = isinstance(answer, str)
        fault.action = Status(
            status,
            headers={k: v.format(header=header) for k, v in (headers or {}).items()},
            body=str(answer).encode() if is_text else json.dumps(answer).encode(),
            content_type="text/html" if is_text else "application/vnd.api+json",
        )
        return True

    fault = Fault(matches, Status(status), times=None)
    return fault


TOKEN, LISTS, BOOKINGS = "/oauth/token", "/v2/", "/v2/bookings"


def error_body(header: str, path: str) -> Json:
    return {
        "errors": [
            {"code": "bad", "title": header, "detail": f"You sent {header} to {path}", "source": {"parameter": header}}
        ]
    }


HOSTILE: dict[str, Fault] = {
    "the token endpoint repeats the secret": echoing(
        TOKEN, 401, lambda h, p: {"error": "invalid_client", "error_description": f"{SECRET} is not the secret"}
    ),
    "the token endpoint repeats the header": echoing(
        TOKEN, 401, lambda h, p: {"error": "invalid_client", "error_description": f"{h} is not known"}
    ),
    "the token endpoint repeats the encoded secret": echoing(
        TOKEN, 400, lambda h, p: {"error": "invalid_client", "error_description": f"client_secret={quote_plus(SECRET)}"}
    ),
    "the token endpoint names the secret as its error": echoing(TOKEN, 401, lambda h, p: {"error": [h, SECRET]}),
    "a token type that is the secret": echoing(TOKEN, 200, lambda h, p: {"access_token": "t", "token_type": SECRET}),
    "a list instead of a token": echoing(TOKEN, 200, lambda h, p: [h, SECRET]),
    "a token that is no text": echoing(TOKEN, 200, lambda h, p: {"access_token": {"was": SECRET}, "sent": h}),
    "a token endpoint that fails with a page": echoing(TOKEN, 500, lambda h, p: f"<html>{h} {SECRET}</html>"),
    "a 400 that repeats the header": echoing(BOOKINGS, 400, error_body),
    "a 403 that repeats the header": echoing(BOOKINGS, 403, error_body),
    "a 422 for everything": echoing(LISTS, 422, error_body),
    "a 500 that repeats the header": echoing(BOOKINGS, 500, error_body),
    "a 403 with a page that holds it": echoing(
        BOOKINGS, 403, lambda h, p: f"<html><pre>Authorization: {h}</pre></html>"
    ),
    "a 500 with a page that holds it": echoing(
        BOOKINGS, 500, lambda h, p: f"<html><pre>Authorization: {h}</pre></html>"
    ),
    "a 200 with a page that holds it": echoing(
        BOOKINGS, 200, lambda h, p: f"<html><pre>Authorization: {h}</pre></html>"
    ),
    "a 200 that is an error": echoing(BOOKINGS, 200, error_body),
    "a content type that repeats it": echoing(BOOKINGS, 200, lambda h, p: "{", {"Content-Type": "text/{header}"}),
    "a 401 for every token": echoing(LISTS, 401, error_body),
    "a redirect that repeats it": echoing(BOOKINGS, 302, lambda h, p: "", {"Location": "/v2/x?{header}"}),
    "a link to another origin that repeats it": echoing(
        BOOKINGS, 200, lambda h, p: {"data": [], "links": {"next": f"https://elsewhere.example/{quote(h)}"}}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_server_that_repeats_what_it_is_sent_is_not_repeated(
    name: str, world: World, emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # httpcore's own debug lines show the headers of answers; the command line never lets them through.
    logging.getLogger("httpcore").setLevel(
        logging.INFO if name.startswith(("a redirect", "a content")) else logging.DEBUG
    )
    emulator.faults.append(HOSTILE[name])
    settings = settings_for(emulator, tmp_path, **own(sync_history_start=date(2026, 1, 1)))
    try:
        report = night(settings, streams=(BOOKINGS_STREAM,))
    finally:
        logging.getLogger("httpcore").setLevel(logging.NOTSET)
    assert report.problems, "it must be red"
    found = {
        "logs": leaks(told(caplog), world),
        "report": leaks(repr(report), world),
        "files": set().union(*leaking_files(tmp_path, world).values()),
    }
    assert not any(found.values()), found


@pytest.mark.parametrize(
    "name",
    [
        "a token endpoint that fails with a page",
        "a 500 with a page that holds it",
        "a 401 for every token",
        "the token endpoint repeats the secret",
    ],
)
def test_tracebacks_with_local_variables_show_no_secret(
    name: str, world: World, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.faults.append(HOSTILE[name])
    settings = settings_for(emulator, tmp_path, **own())
    shown = ""
    with ApiClient(settings.api_access().clients[0], settings, load_contract()) as client:
        for stream in ("customers", "bookings"):
            try:
                list(client.pages(stream, {}, {}))
            except ProductError as error:
                shown += with_locals(error)
    assert "Traceback" in shown
    assert leaks(shown, world) == set()


def test_no_object_shows_a_secret(world: World, emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path, **own())
    access = settings.api_access()
    (one,) = access.clients
    with ApiClient(one, settings, load_contract()) as client:
        assert list(client.pages("customers", {}, {}))
        shown = [
            settings,
            access,
            one,
            client,
            vars(client),
            client.exchange._auth,
            client.exchange._connections.builder,
            vars(client.exchange._connections.builder),
        ]
        texts = [f(o) for o in shown for f in (repr, str, "{}".format)]
        texts += [settings.model_dump_json(), one.model_dump_json(), repr(settings.model_dump()), repr(one.__dict__)]
        assert world.tokens
        assert [t for t in texts if leaks(t, world)] == []


def test_a_kept_token_does_not_show_itself(world: World, emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path, **own())
    with ApiClient(settings.api_access().clients[0], settings, load_contract()) as client:
        assert list(client.pages("customers", {}, {}))
        assert leaks(repr(vars(client.exchange._auth)), world) == set()


# ---- the command line --------------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """What a process has said, and what stood in its folder while it worked: modes by file name, and the bytes of its logs."""

    folder: Path
    text: str = ""
    modes: dict[str, set[int]] = field(default_factory=dict)
    logs: bytes = b""

    def look(self, _request: object = None) -> None:
        """Look at the folder now; called at each request, from the emulator's process."""
        for path in [self.folder, *self.folder.glob("*"), *self.folder.glob(".*")]:
            try:
                self.modes.setdefault(path.name, set()).add(path.stat().st_mode & 0o777)
                if path.suffix == ".wal":
                    self.logs += path.read_bytes()
            except FileNotFoundError:
                continue  # a log that was merged between listing and looking

    def run(self, env: dict[str, str], *arguments: str, umask: int = 0o022) -> int:
        """A command in a process of its own."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env={"PATH": os.environ["PATH"], **env},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.text += done.stdout + done.stderr
        self.look()
        return done.returncode


def test_no_command_tells_or_stores_a_secret(world: World, emulator: Emulator, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    watched = Watched(folder)
    emulator.hooks.append(watched.look)
    env = environment(emulator, folder)
    assert watched.run(env, "sync", "-v") == 0
    assert len(watched.logs) > 1000, "the log of transactions was looked at while it was open"
    assert watched.run(env, "status", "--json") == 0
    assert watched.run(environment(emulator, folder, as_list=True), "plan", "--sweep", "--json", "-v") == 0
    # Answers that are not repeated: a process of its own waits between attempts as in life.
    emulator.faults[:] = [HOSTILE["the token endpoint repeats the secret"]]
    assert watched.run(environment(emulator, folder, as_list=True), "check", "-v") == 1
    emulator.faults[:] = [HOSTILE["a 403 with a page that holds it"]]
    assert watched.run(env, "sync", "-v", "--stream", "bookings") == 1
    assert len(watched.text) > 2000
    assert leaks(watched.text, world) == set()
    assert leaks(watched.logs, world) == set()
    assert leaking_files(tmp_path, world) == {}


# ---- Dagster -----------------------------------------------------------------------------------------------------------------

DAGSTER = """
telemetry: {enabled: false}
python_logs:
  python_log_level: DEBUG
  managed_python_loggers: [pipelines, resources, httpx]
"""


def test_dagster_stores_no_secret(
    world: World, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, data = tmp_path / "dagster", tmp_path / "data"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER, encoding="utf-8")
    for name, value in (environment(emulator, data) | {"DAGSTER_HOME": str(home)}).items():
        monkeypatch.setenv(name, value)
    emulator.faults.append(Fault(lambda r: r.path in ("/v2/customers", "/v2/events"), Replace(plant), times=None))
    with dg.DagsterInstance.get() as instance:
        # Bookings are refused with a page that holds the token, the others come with capability URLs; then no token is to be had.
        for fault in ("a 403 with a page that holds it", "the token endpoint repeats the secret"):
            emulator.faults.append(HOSTILE[fault])
            job = build(load_settings(), load_contract()).resolve_job_def("nightly")
            done = job.execute_in_process(instance=instance, raise_on_error=False)
            assert not done.success
            records = instance.get_records_for_run(done.run_id).records
            assert len(records) > 10
            assert leaks("".join(map(repr, records)), world) == set()
            assert leaks(repr(instance.get_run_by_id(done.run_id)), world) == set()
    assert len(list(home.rglob("*.db"))) > 2
    assert leaking_files(tmp_path, world) == {}


# ---- who may read what -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "of_folder"), [(0o022, 0o750), (0o077, 0o700)])
def test_files_are_for_their_owner_and_the_published_one_for_the_group(
    umask: int, of_folder: int, emulator: Emulator, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    watched = Watched(folder)
    emulator.hooks.append(watched.look)
    published = tmp_path / "for" / "analysts" / "analytics.duckdb"
    env = environment(emulator, folder) | {"WAREHOUSE_PUBLISHED_PATH": str(published)}
    assert watched.run(env, "sync", umask=umask) == 0, watched.text
    assert watched.modes.pop("data") == {of_folder}
    assert {"warehouse.duckdb", "warehouse.duckdb.wal", "warehouse.duckdb.lock"} <= watched.modes.keys()
    assert set().union(*watched.modes.values()) == {0o600}, watched.modes
    assert published.stat().st_mode & 0o777 == 0o640
    assert published.parent.stat().st_mode & 0o777 == 0o750
    assert published.parent.parent.stat().st_mode & 0o777 == 0o750


# ---- TLS ---------------------------------------------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    """A token for whoever asks, and empty lists."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"access_token": "tls-token", "token_type": "Bearer"})

    def do_GET(self) -> None:
        self._answer({"data": [], "links": {"next": None}})

    def _answer(self, value: object) -> None:
        self.server.served.append(self.path)  # type: ignore[attr-defined]  # our own server's list
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    """A handshake that the client ends is what these tests want."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def https(folder: Path, certificate: Path = LOOPBACK) -> Iterator[tuple[Settings, list[str]]]:
    """A server with a certificate that nobody trusts: settings for it, and the paths that it has served."""
    server = _Quiet(("127.0.0.1", 0), _Answers)
    served: list[str] = []
    server.served = served  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    origin = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        yield (
            Settings(  # type: ignore[call-arg]
                _env_file=None,
                appointedd_base_url=f"{origin}/v2",
                appointedd_token_url=f"{origin}/oauth/token",
                appointedd_client_id=CLIENT_ID,
                appointedd_client_secret=SECRET,  # type: ignore[arg-type]  # pydantic reads it
                warehouse_path=folder / "warehouse.duckdb",
                sync_requests_per_second=100_000,
            ),
            served,
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read_accounts(settings: Settings) -> int:
    with ApiClient(settings.api_access().clients[0], settings, load_contract()) as client:
        return len(list(client.pages("accounts", {}, {})))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PYTHONHTTPSVERIFY": "0"},
        {"CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": "", "SSL_CERT_FILE": "", "SSL_CERT_DIR": ""},
        {"CURL_CA_BUNDLE": str(LOOPBACK), "REQUESTS_CA_BUNDLE": str(LOOPBACK)},
        {"SSL_VERIFY": "0", "HTTPX_VERIFY": "false", "VERIFY_SSL": "no", "NODE_TLS_REJECT_UNAUTHORIZED": "0"},
        {"APPOINTEDD_VERIFY": "false", "SYNC_VERIFY_TLS": "false", "APPOINTEDD_INSECURE": "1"},
        {"SSL_CERT_DIR": "an empty folder"},
        {"SSL_CERT_FILE": "another authority"},
    ],
    ids=lambda v: "+".join(v) or "none",
)
def test_no_environment_variable_switches_verification_off(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import certifi

    (tmp_path / "empty").mkdir()
    real = {"an empty folder": str(tmp_path / "empty"), "another authority": certifi.where()}
    for name, value in variables.items():
        monkeypatch.setenv(name, real.get(value, value))
    with https(tmp_path) as (settings, served):
        with pytest.raises(ProductError, match="CERTIFICATE_VERIFY_FAILED"):
            read_accounts(settings)
        assert served == []


def test_a_certificate_named_in_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(LOOPBACK))
    with https(tmp_path) as (settings, served):
        assert read_accounts(settings) == 1
        assert [path.partition("?")[0] for path in served] == ["/oauth/token", "/v2/accounts"]


def test_an_untrusted_certificate_is_told_with_its_cure(tmp_path: Path) -> None:
    with https(tmp_path) as (settings, _), pytest.raises(ProductError, match="SSL_CERT_FILE"):
        read_accounts(settings)


def test_an_expired_certificate_is_told_with_a_cure_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(EXPIRED))
    with https(tmp_path, EXPIRED) as (settings, _), pytest.raises(ProductError, match="clock of this machine") as told:
        read_accounts(settings)
    assert "SSL_CERT_FILE" not in str(told.value)


@pytest.mark.parametrize("kind", ["missing", "no certificate"])
def test_a_broken_ssl_cert_file_is_told_in_a_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    if kind == "no certificate":
        file.write_text("nothing of the kind", encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with https(tmp_path) as (settings, served):
        with pytest.raises(ProductError, match="SSL_CERT_FILE"):
            read_accounts(settings)
        assert served == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "foo://user:CANARY@127.0.0.1:1"),
        ("https_proxy", "http://user:CANARY/2@127.0.0.1:1"),
        ("ALL_PROXY", "socks5h://user:CANARY@127.0.0.1:1"),
        ("NO_PROXY", "[::CANARY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_in_a_sentence_without_its_password(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with https(tmp_path) as (settings, served):
        with pytest.raises(SettingsError, match=f"as it stands in {name}") as refused:
            read_accounts(settings)
        assert CAPABILITY not in str(refused.value)
        monkeypatch.setattr("pipelines.doctor.load_settings", lambda: settings)
        (line,) = [one for one in examine() if one.name == "way to the API"]
        assert (line.exit_code, name in line.detail) == (2, True)
        assert served == []


class _Refuses(BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def do_CONNECT(self) -> None:
        self.send_error(407)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("is_there", [False, True], ids=["dead", "refusing"])
@pytest.mark.parametrize(
    ("variable", "form"),
    [("HTTPS_PROXY", "http://user:{secret}@127.0.0.1:{port}"), ("all_proxy", "127.0.0.1:{port}")],
)
def test_a_proxy_that_does_not_let_through_is_named_without_its_password(
    variable: str, form: str, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with https(tmp_path) as (settings, served), _Quiet(("127.0.0.1", 0), _Refuses) as proxy:
        port = proxy.server_address[1]
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        if not is_there:
            proxy.shutdown()
            proxy.server_close()
        monkeypatch.setenv(variable, form.format(secret=CAPABILITY, port=port))
        with pytest.raises(ProductError) as refused:
            read_accounts(settings)
        told = f"through the proxy http://127.0.0.1:{port}; are {variable} and APPOINTEDD_TOKEN_URL right, and does the proxy run?"
        assert told in str(refused.value)
        assert CAPABILITY not in str(refused.value)
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        with pytest.raises(ProductError, match="CERTIFICATE_VERIFY_FAILED") as untrusted:
            read_accounts(settings)
        assert "proxy" not in str(untrusted.value)
        proxy.shutdown()
        assert served == []


def test_no_setting_and_no_line_of_code_weakens_tls() -> None:
    words = ("verify", "insecure", "ssl", "tls", "certificate")
    assert [n for n in Settings.model_fields if any(w in n for w in words)] == []
    for folder in ("resources", "pipelines"):
        for path in (PROJECT_FOLDER / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "verify=" not in text, path
            assert "CERT_NONE" not in text, path
            assert "_create_unverified_context" not in text, path


# ---- what is installed -------------------------------------------------------------------------------------------------------


def test_what_is_locked_is_exact_hashed_and_not_what_the_project_excludes() -> None:
    """`test_architecture` holds the lock to one hash at least and no address; here each line, and the versions."""
    lock = (PROJECT_FOLDER / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    locked: dict[str, set[str]] = {}
    for line in lock.splitlines():
        name, version = re.match(r"([a-z0-9][a-z0-9._-]*)==([0-9][A-Za-z0-9.!+]*) ", line + " ").groups()  # type: ignore[union-attr]  # None: not exact
        locked.setdefault(name, set()).add(version)
        hashes = re.findall(r"--hash=(\S+)", line)
        assert hashes, name
        assert [h for h in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", h)] == [], name
        assert " @ " not in line, name
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(w) for w in project["dependencies"] + project["optional-dependencies"]["dev"]]
    assert [
        (str(w), v) for w in wanted for v in locked[w.name.lower()] if not w.specifier.contains(v, prereleases=True)
    ] == []
    assert any("!=2.0.0" in str(w) for w in wanted if w.name == "duckdb")
