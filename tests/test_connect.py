"""First contact, end to end: dialects that no default fits, with and without the vendor's file, judged by the emulator's truth after real nights.

What lives here: `connect` as a person runs it, and what it must never do. What does not: pure decisions (`test_connect_decisions`), reading OpenAPI
(`test_openapi`).
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.connect.contact import make_contact
from pipelines.connect.edit import mark_of
from pipelines.connect.findings import Learned
from pipelines.connect.learn import learn
from resources.contract import load_contract
from tests.emulator import Emulator, Fault, Naming, Replace, SetHeaders, Switches, World, on
from tests.equality import differences, night, query, settings_for

MOST_GETS = 54  # a few dozen, for a server that is like the defaults
ALL = frozenset({"customers", "bookings", "events"})

STRANGE = Naming(
    attribute_case="snake",
    account_word="organisation",
    paths={"bookings": "appointments", "customers": "clients"},
    types={"bookings": "appointment", "customers": "client"},
    renames={
        "created": "created_at",
        "updated": "last_modified_at",
        "startTime": "starts_at",
        "endTime": "ends_at",
        "firstName": "given_name",
        "lastName": "family_name",
        "price": "amount",
        "customers": "attendees",
        "customerId": "client_id",
    },
    parameters={
        "filter[updatedAfter]": "filter[modified_since]",
        "filter[updatedBefore]": "filter[modified_until]",
        "filter[account]": "filter[organisation_id]",
        "page[size]": "page[limit]",
    },
)
DIALECTS = {
    # Organisations, snake_case, numbered pages, participants embedded, other filter names, relative links, plain JSON.
    "strange names": Switches(
        naming=STRANGE,
        paging="number",
        participants="attribute",
        links="relative",
        media_type="plain",
        client_authentication="post",
    ),
    # Participants without ids, whole numbers as ids, service and profile inside, and no word about parameters it does not know.
    "loose server": Switches(
        unknown_parameters="ignore",
        over_max="cap",
        max_page_size=40,
        participants="attribute_without_ids",
        ids="integer",
        embedded_service=True,
        embedded_profile=True,
        account_in="attribute",
        next_in="meta.next",
        meta_total="present",
        total_in="meta.page.total_count",
        cancelled_in_default_list=False,
    ),
}


def world(**more: Any) -> World:
    return World(**{"seed": 7, "accounts": 3, "customers": 50, "bookings": 100, "events": 40, "years": 1, **more})


def environment(emulator: Emulator, folder: Path, **more: str) -> dict[str, str]:
    return {
        **emulator.environment(),
        "APPOINTEDD_ENV_FILE": "",
        "APPOINTEDD_CONTRACT": str(folder / "own.toml"),
        "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
        "SYNC_REQUESTS_PER_SECOND": "100000",
        **more,
    }


def cli(env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """A command in this process: exit code, and both outputs together."""
    result = CliRunner().invoke(app, arguments, env=dict(env))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "emu-secret" not in result.output
    return result.exit_code, result.output


def told(env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"], env=dict(env))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def only_reads(emulator: Emulator) -> int:
    """No request but GETs, and POSTs to the token endpoint; how many GETs."""
    assert {r.path for r in emulator.requests if r.method != "GET"} <= {"/oauth/token"}
    return sum(r.method == "GET" and r.path.startswith("/v2/") for r in emulator.requests)


def found(learned: Learned, *key: str) -> Any:
    """What a contact says of one key of the contract; the default where it says nothing."""
    value: Any = load_contract().model_dump(mode="json")
    for name in key:
        value = value[name]
    return next((line.value for line in learned.lines if line.key == key), value)


@pytest.fixture(scope="module")
def plain() -> Iterator[Emulator]:
    """The default dialect, shared by tests that change nothing in it."""
    with Emulator(world(customers=40, bookings=90)) as running:
        yield running


# ---- the whole way -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("strange names", "json"),
        pytest.param("strange names", None, marks=pytest.mark.long),
        pytest.param("loose server", "yaml", marks=pytest.mark.long),
        pytest.param("loose server", None, marks=pytest.mark.long),
    ],
)
def test_connect_and_then_sync_equal_the_truth_with_no_hand_edit(name: str, form: str | None, tmp_path: Path) -> None:
    here = world()
    with Emulator(here, DIALECTS[name]) as emulator:
        env = environment(emulator, tmp_path)
        file = ("--openapi", f"{emulator.origin}/openapi.{form}") if form else ()
        code, out = cli(env, "connect", *file)
        assert code == 0, out
        assert only_reads(emulator) <= 2 * MOST_GETS
        assert cli(env, "contract", "--openapi", f"{emulator.origin}/openapi.json")[0] == 0
        zones = {a.slug: a.time_zone for a in here.accounts}
        settings = settings_for(emulator, tmp_path, sync_account_time_zones=zones)
        contract = load_contract(tmp_path / "own.toml")
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []
        if form:
            return
        here.live_a_day()
        here.mutate(15, random.Random(3))
        assert night(settings, contract).problems == []
        here.clock.advance(timedelta(minutes=10))
        here.delete_booking()
        assert night(settings, contract, "sweep").problems == []
        assert differences(settings.warehouse_path, here.truth()) == []
        # Not by walking everything each night.
        nightly = "select count(*) from ops.windows where stream = 'bookings' and since is not null"
        assert query(settings.warehouse_path, nightly) != [(0,)]


def test_the_default_dialect_needs_no_line(plain: Emulator, tmp_path: Path) -> None:
    plain.reset_log()
    result = told(environment(plain, tmp_path), "connect")
    assert (result["can_sync"], result["changes"], result["needs"]) == (True, [], [])
    assert {s: c["level"] for s, c in result["confidence"].items()} == dict.fromkeys(
        ("accounts", "customers", "bookings", "events"), "certain"
    )
    assert result["requests_count"] == only_reads(plain) <= MOST_GETS
    assert load_contract(tmp_path / "own.toml") == load_contract()


# ---- what must never happen --------------------------------------------------------------------------------------------------

TRAPS: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
    # what the server does; the lists whose filter may be believed
    "no filters": ({"filters": False}, frozenset()),
    "it reads the creation": ({"change_filter_reads": "created"}, frozenset()),
    "it reads the start": ({"change_filter_reads": "start"}, frozenset()),
    "only customers have it": ({"filtered": frozenset({"customers"})}, frozenset({"customers"})),
    "no filters, no order": ({"filters": False, "sort": False, "default_order": "natural"}, frozenset()),
    "no filters, oldest first": ({"filters": False, "sort": False, "default_order": "oldest_first"}, frozenset()),
    "creation, no page size": ({"change_filter_reads": "created", "page_size": False}, frozenset()),
    "no change times": ({"updated_sent": False}, frozenset()),
    "exclusive bounds": ({"bounds": "exclusive"}, ALL),
    "no order": ({"sort": False, "default_order": "natural"}, ALL),
}


# A server that ignores what it does not know is the dangerous one; of those that refuse, some are enough for every day.
REFUSING = ("no filters", "it reads the creation", "only customers have it")
SERVERS = [
    pytest.param(trap, unknown, marks=[pytest.mark.long] if unknown == "refuse" and trap not in REFUSING else [])
    for trap in TRAPS
    for unknown in ("ignore", "refuse")
]


@pytest.mark.parametrize(("trap", "unknown"), SERVERS)
def test_a_filter_is_never_believed_by_mistake(plain: Emulator, tmp_path: Path, trap: str, unknown: Any) -> None:
    more, good = TRAPS[trap]
    try:
        plain.switches = Switches(unknown_parameters=unknown, **more)
        plain.reset_log()
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
        assert only_reads(plain) <= 2 * MOST_GETS
    finally:
        plain.switches = Switches()
    is_on = found(learned, "abilities", "filters")
    assert is_on == bool(good)
    believed = {s for s in ALL if is_on and found(learned, "streams", s, "filters")}
    assert believed == good
    assert learned.needs == []


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ({"upper_bound": False}, ("abilities", "upper_bound"), False),
        ({"page_size": False}, ("abilities", "page_size"), False),
        ({"sort": False}, ("abilities", "sort"), False),
        ({"account_filter": frozenset()}, ("streams", "customers", "account_filter"), False),
        ({"over_max": "cap", "max_page_size": 25}, ("parameters", "page_size_value"), "25"),
        ({"max_page_size": 30}, ("parameters", "page_size_value"), "25"),
        ({"paging": "offset", "next_in": "next"}, ("document", "next"), "next"),
        ({"meta_total": "present", "total_in": "meta.count"}, ("document", "total"), "meta.count"),
        (
            {"cancelled_in_default_list": False},
            ("streams", "bookings", "queries"),
            [{}, {"filter[status]": "cancelled"}],
        ),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, dict) else None,
)
def test_abilities_that_are_otherwise(
    plain: Emulator, tmp_path: Path, more: dict[str, Any], key: tuple[str, ...], value: object
) -> None:
    try:
        plain.switches = Switches(unknown_parameters="ignore", **more)
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
    finally:
        plain.switches = Switches()
    assert found(learned, *key) == value
    assert found(learned, "abilities", "filters")
    assert learned.needs == []


@pytest.mark.parametrize("unknown", ["refuse", "ignore"])
def test_rows_that_do_not_name_their_account_need_a_filter_that_is_proven(
    plain: Emulator, tmp_path: Path, unknown: Any
) -> None:
    try:
        plain.switches = Switches(unknown_parameters=unknown, account_in="absent", account_filter=ALL)
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
        assert learned.needs == []
        assert all(found(learned, "streams", s, "account_filter") for s in ALL)
        plain.switches = Switches(unknown_parameters=unknown, account_in="absent", account_filter=frozenset())
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
    finally:
        plain.switches = Switches()
    assert len(learned.needs) == 3
    assert all("one API client for each account" in need for need in learned.needs)
    assert not any(found(learned, "streams", s, "account_filter") for s in ALL)


def test_an_empty_business_says_that_it_says_little(tmp_path: Path) -> None:
    with Emulator(world(accounts=1, customers=0, bookings=0, events=0)) as emulator:
        learned = learn(settings_for(emulator, tmp_path), load_contract(), None)
    assert {learned.confidence[s][0] for s in ALL} == {"low"}
    assert not found(learned, "abilities", "filters")
    assert learned.needs == []
    assert learned.unmapped == {"accounts": []}


def test_the_time_limit_of_politeness_holds_on_the_worst_server(plain: Emulator, tmp_path: Path) -> None:
    try:
        plain.switches = Switches(
            filters=False, sort=False, page_size=False, include=False, account_filter=frozenset(), account_in="absent"
        )
        plain.reset_log()
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
        assert learned.needs != []
        assert only_reads(plain) == learned.requests_count <= 120
    finally:
        plain.switches = Switches()


def test_intent_events_are_found_and_left_until_they_are_switched_on(tmp_path: Path) -> None:
    naming = Naming(paths={"intentEvents": "intents"}, types={"intentEvents": "intent"})
    with Emulator(world(accounts=1), Switches(naming=naming)) as emulator:
        env = environment(emulator, tmp_path)
        result = told(env, "connect", "--openapi", f"{emulator.origin}/openapi.json")
        (finding,) = [f for f in result["findings"] if f["stream"] == "intent_events"]
        assert finding["found"] == "intents"
        assert "enabled" in finding["outcome"]
        names = load_contract(tmp_path / "own.toml").streams["intent_events"]
        assert (names.path, names.types, names.enabled) == ("intents", ("intent",), False)
        (tmp_path / "own.toml").open("a").write("[streams.intent_events]\n") if False else None
        own = tmp_path / "own.toml"
        own.write_text(own.read_text().replace("[streams.intent_events]", "[streams.intent_events]\nenabled = true"))
        settings = settings_for(emulator, tmp_path)
        assert night(settings, load_contract(own)).problems == []
        stored = query(settings.warehouse_path, "select count(*) from core.intent_events")
        assert stored == [(len(emulator.world.intent_events),)]


def test_links_that_are_keys_are_taken_out_under_whatever_name(plain: Emulator, tmp_path: Path) -> None:
    renames = {"cancellationUrl": "cancellation-url", "rescheduleUrl": "move-it"}
    try:
        plain.switches = Switches(naming=Naming(renames=renames))
        assert cli(environment(plain, tmp_path), "connect")[0] == 0
        members = load_contract(tmp_path / "own.toml").redact.members
        assert {"cancellation-url", "move-it"} <= set(members)
        settings = settings_for(plain, tmp_path)
        night(settings, load_contract(tmp_path / "own.toml"))
    finally:
        plain.switches = Switches()
    leaks = "select count(*) from core.bookings where document::varchar like '%CANARY%'"
    assert query(settings.warehouse_path, leaks) == [(0,)]


def test_links_that_are_keys_are_found_wherever_a_record_has_them(plain: Emulator, tmp_path: Path) -> None:
    """JSON:API has a place of its own for links, beside the attributes, and in relationships; a link may be an object, and a key have a longer name."""
    link = "https://book.example/now?lang=en&access_token=CANARY"

    def linked(body: bytes) -> bytes:
        document = json.loads(body)
        for record in document.get("data") or ():
            record["links"] = {"self": "https://api.example/v2/bookings/1", "walkAway": {"href": link}}
            record["attributes"] |= {"passes": [link], "linkToCancel": "https://book.example/c/CANARY"}
            record["meta"] = {"quick": {"oneClick": link}}
            for relationship in record["relationships"].values():
                relationship["links"] = {"join": link}
        return json.dumps(document).encode()

    plain.faults.append(Fault(lambda r: r.path == "/v2/bookings", Replace(linked), times=None))
    try:
        assert cli(environment(plain, tmp_path), "connect")[0] == 0
        members = load_contract(tmp_path / "own.toml").redact.members
        assert {"walkAway", "passes", "linkToCancel", "oneClick", "join"} <= set(members)
        assert not {"self", "href", ""} & set(members)
        settings = settings_for(plain, tmp_path)
        night(settings, load_contract(tmp_path / "own.toml"))
    finally:
        plain.faults.clear()
    leaks = "select count(*), count(*) filter (document::varchar like '%CANARY%') from core.bookings"
    assert query(settings.warehouse_path, leaks) == [(len(plain.world.bookings), 0)]


# ---- the file, and whose lines it holds --------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(plain: Emulator, tmp_path: Path) -> None:
    code, out = cli(environment(plain, tmp_path), "connect", "--dry-run")
    assert code == 0, out
    assert "Dry run" in out
    assert list(tmp_path.iterdir()) == []


def test_a_second_connect_shows_only_what_changed(tmp_path: Path) -> None:
    with Emulator(world(customers=40, bookings=80), replace(DIALECTS["strange names"])) as emulator:
        env = environment(emulator, tmp_path)
        assert "lines changed, each with its reason" in cli(env, "connect")[1]
        before = (tmp_path / "own.toml").read_text()
        code, out = cli(env, "connect")
        assert (code, (tmp_path / "own.toml").read_text()) == (0, before)
        assert out.splitlines()[0].startswith("Nothing changed")
        emulator.switches = replace(emulator.switches, sort=False)
        code, out = cli(env, "connect")
        assert code == 0
        assert "abilities.sort" in out
        assert "page size" not in out
        assert tomllib.loads((tmp_path / "own.toml").read_text())["abilities"] == {"sort": False}
        assert "page size" in cli(env, "connect", "--all")[1]


def test_a_persons_edit_wins_and_the_disagreement_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('# my notes\n[parameters]\nupdated_since = "filter[changedAfter]"  # I was told so\n')
    with Emulator(world(customers=40, bookings=80), DIALECTS["strange names"]) as emulator:
        env = environment(emulator, tmp_path)
        code, out = cli(env, "connect")
        assert code == 0
        text = own.read_text()
        assert text.startswith('# my notes\n[parameters]\nupdated_since = "filter[changedAfter]"  # I was told so\n')
        assert (
            'yours stays: parameters.updated_since = "filter[changedAfter]"; found was "filter[modified_since]"' in out
        )
        # A line that connect wrote and a person changed is the person's.
        table, _, rest = text.partition("[streams.bookings]")
        edited = table + "[streams.bookings]" + rest.replace('sort = "last_modified_at"', 'sort = "created_at"', 1)
        assert edited != text
        own.write_text(edited)
        result = told(env, "connect")
        disagreed = {d["key"]: (d["own"], d["found"]) for d in result["disagreements"]}
        assert disagreed["streams.bookings.sort"] == ("created_at", "last_modified_at")
        assert own.read_text() == edited


def test_the_override_says_why_in_every_line(tmp_path: Path) -> None:
    with Emulator(world(customers=40, bookings=80), DIALECTS["strange names"]) as emulator:
        result = told(environment(emulator, tmp_path), "connect")
    text = (tmp_path / "own.toml").read_text()
    for change in result["changes"]:
        name = change["key"].rpartition(".")[2]
        mark = f"# connect:{mark_of(change['key'], change['after'])} "
        (line,) = [one for one in text.splitlines() if one.startswith(f"{name} =") and mark in one]
        assert line.partition(mark)[2].strip()


def test_another_output_is_written_and_its_use_is_told(plain: Emulator, tmp_path: Path) -> None:
    code, out = cli(environment(plain, tmp_path), "connect", "--output", str(tmp_path / "other.toml"))
    assert code == 0
    assert f"APPOINTEDD_CONTRACT={tmp_path / 'other.toml'}" in out
    assert [p.name for p in tmp_path.iterdir()] == ["other.toml"]


def test_the_local_file_is_written_where_the_settings_name_none(
    plain: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.connect.contact.PROJECT_FOLDER", tmp_path)
    done = make_contact(settings_for(plain, tmp_path), None, None, is_dry_run=False)
    assert (done.path, done.is_written, done.is_used) == (tmp_path / "contract.local.toml", True, True)


# ---- exit codes and sentences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"next_in": "header"}, "to fill in: next link: a Link header"),
        ({"linkage_only": True}, "to fill in: bookings: their participants come neither inside them nor included"),
        ({"naming": Naming(paths={"events": "happenings"})}, "to fill in: events: no list of them was found"),
    ],
)
def test_what_a_person_must_fill_in_is_exit_code_1(
    plain: Emulator, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    try:
        plain.switches = Switches(**more)
        code, out = cli(environment(plain, tmp_path), "connect")
    finally:
        plain.switches = Switches()
    assert code == 1
    assert said in out
    assert "A sync cannot run yet" in out


def test_wrong_settings_are_exit_code_2_and_a_wrong_secret_is_1(plain: Emulator, tmp_path: Path) -> None:
    env = environment(plain, tmp_path)
    assert cli({**env, "APPOINTEDD_CLIENT_SECRET": ""}, "connect")[0] == 2
    assert cli(env, "connect", "--openapi", str(tmp_path / "none.json"))[0] == 2
    (tmp_path / "own.toml").write_text("nonsense")
    assert cli(env, "connect")[0] == 2
    (tmp_path / "own.toml").unlink()
    code, out = cli({**env, "APPOINTEDD_CLIENT_SECRET": "wrong"}, "connect")
    assert code == 1
    assert "invalid_client" in out
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_only_the_file_names_get_no_secret(plain: Emulator, tmp_path: Path) -> None:
    env = environment(plain, tmp_path, APPOINTEDD_BASE_URL="", APPOINTEDD_TOKEN_URL="")
    plain.reset_log()
    code, out = cli(env, "connect", "--openapi", f"{plain.origin}/openapi.json")
    assert code == 2
    assert f"APPOINTEDD_BASE_URL={plain.base_url}" in out
    assert f"APPOINTEDD_TOKEN_URL={plain.token_url}" in out
    assert plain.token_requests == 0


def test_several_api_clients_are_named(tmp_path: Path) -> None:
    here = world(customers=30, bookings=40, events=5)
    here.add_client("north", "north-secret", {a.id for a in here.accounts})
    clients = [
        {"name": "first", "client_id": "emu-client", "client_secret": "emu-secret"},
        {"name": "second", "client_id": "north", "client_secret": "north-secret"},
    ]
    with Emulator(here) as emulator:
        own = {"appointedd_client_id": None, "appointedd_client_secret": None, "appointedd_clients": clients}
        learned = learn(settings_for(emulator, tmp_path, **own), load_contract(), None)
    assert "asked with first; not asked with second" in {f.evidence for f in learned.findings}


def test_a_server_without_dates_cannot_be_synced(plain: Emulator, tmp_path: Path) -> None:
    plain.faults.append(Fault(on("/v2/"), SetHeaders({"Date": ""}), times=None))
    try:
        learned = learn(settings_for(plain, tmp_path), load_contract(), None)
    finally:
        plain.faults.clear()
    assert any("no Date header" in need for need in learned.needs)


def test_a_status_filter_that_brings_none_is_walked_for_the_first_cancelled_one(tmp_path: Path) -> None:
    here = world(events=12)
    for event in here.events.rows():
        event.status = "confirmed"
    with Emulator(here) as emulator:
        learned = learn(settings_for(emulator, tmp_path), load_contract(), None)
        (told_of,) = [
            f for f in learned.findings if (f.stream, f.ability) == ("events", "cancelled in the default list")
        ]
        assert (told_of.found, told_of.confidence) == ("not known", "likely")
        assert found(learned, "streams", "events", "queries") == [
            {},
            {"filter[status]": "cancelled"},
            {"filter[status]": "canceled"},  # how the first one will be spelt, no file tells
        ]
        emulator.switches = Switches(filters=False, unknown_parameters="ignore")
        learned = learn(settings_for(emulator, tmp_path), load_contract(), None)
        (told_of,) = [
            f for f in learned.findings if (f.stream, f.ability) == ("events", "cancelled in the default list")
        ]
        assert (told_of.found, told_of.confidence) == ("none seen", "low")
        assert learned.confidence["events"][0] == "low"


def test_rate_limits_are_obeyed_and_told(tmp_path: Path) -> None:
    with Emulator(world(customers=30, bookings=40, events=5), Switches(rate_headers=True)) as emulator:
        learned = learn(settings_for(emulator, tmp_path), load_contract(), None)
    (limit,) = [f for f in learned.findings if f.ability == "rate limit"]
    assert "x-ratelimit-limit: 300" in limit.found


# ---- contract against a newer file -------------------------------------------------------------------------------------------


def test_a_file_that_fits_breaks_nothing(plain: Emulator, tmp_path: Path) -> None:
    result = told(
        environment(plain, tmp_path, APPOINTEDD_CONTRACT=""), "contract", "--openapi", f"{plain.origin}/openapi.json"
    )
    assert not result["is_breaking"]
    assert "resources maps to no column" in {d["what"] for d in result["differences"] if d["stream"] == "events"}


@pytest.mark.parametrize(
    ("naming", "what"),
    [
        (Naming(renames={"price": "amount"}), "price would stay empty; amount looks like it"),
        (Naming(renames={"email": "electronic"}), "email has no attribute and would stay empty"),
        (Naming(paths={"events": "sessions"}), "no list at events; sessions looks like it"),
        (Naming(types={"bookings": "slots"}), "its records are of type slots"),
        (
            Naming(parameters={"filter[updatedAfter]": "filter[since]"}),
            "the parameter filter[updatedAfter] is not described",
        ),
        (Naming(renames={"updated": "modified"}), "sort does not take updated"),
        (Naming(relationships={"account": "shop"}), "no attribute or relationship names the account"),
        (Naming(relationships={"customerBookings": "people"}), "include does not take customerBookings"),
    ],
)
def test_a_newer_file_that_breaks_the_sync_is_exit_code_1(
    plain: Emulator, tmp_path: Path, naming: Naming, what: str
) -> None:
    file = tmp_path / "openapi.json"
    try:
        plain.switches = Switches(naming=naming)
        file.write_text(json.dumps(plain.openapi()))
    finally:
        plain.switches = Switches()
    env = environment(plain, tmp_path, APPOINTEDD_CONTRACT="")
    result = told(env, "contract", "--openapi", str(file))
    assert what in {d["what"] for d in result["differences"] if d["weight"] == "breaking"}
    assert cli(env, "contract", "--openapi", str(file))[0] == 1


def test_contract_asks_the_api_nothing_and_needs_no_settings(plain: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(plain.openapi()))
    plain.reset_log()
    code, out = cli({"APPOINTEDD_ENV_FILE": ""}, "contract", "--openapi", str(file))
    assert code == 0, out
    assert "0 breaking" in out
    assert plain.requests == []
    assert cli({"APPOINTEDD_ENV_FILE": ""}, "contract", "--openapi", str(tmp_path / "none"))[0] == 2
