"""First contact with servers that are odd in one way each: `connect` ends 0 only where the sync after it is green and right, and lines do not come and go.

What lives here: odd servers, made of the emulator and of what is done to its answers. What does not: dialects (`test_connect`), the file (`test_connect_file`).
"""

from __future__ import annotations

import email.utils
import json
import random
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from pipelines.connect.findings import Learned
from pipelines.connect.learn import learn
from pipelines.connect.override import past_of
from pipelines.streams import BUILT_IN
from resources.contract import load_contract
from tests.emulator import Emulator, Fault, Naming, Replace, Request, SetHeaders, Status, Switches, World, on
from tests.emulator.listing import Page, Selection
from tests.emulator.query import QueryReader
from tests.equality import differences, night, query, settings_for
from tests.test_connect import ALL, cli, environment, found, only_reads, told, world

ROUND = {"accounts": 2, "customers": 25, "bookings": 50, "events": 20}
ODD = {"accounts": 2, "customers": 27, "bookings": 53, "events": 21}
# One page holds everything, and the page size is not to be had.
ONE_PAGE: dict[str, Any] = {"page_size": False, "default_page_size": 500, "max_page_size": 500}
MOST = 70


# Zero dates of MySQL, the least of .NET, a day that is not in the calendar.
ODD_INSTANTS = (
    "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "2026-02-30T10:00:00Z",
    "9999-12-31T23:59:59-01:00",
)


def edited(edit: Callable[[dict[str, Any]], None]) -> Replace:
    """Lists are changed on their way out."""

    def body(sent: bytes) -> bytes:
        document = json.loads(sent)
        if isinstance(document.get("data"), list):
            edit(document)
        return json.dumps(document).encode()

    return Replace(body)


def _no_links(document: dict[str, Any]) -> None:
    document["links"] = {}


def _bare_ends(document: dict[str, Any]) -> None:
    document["links"] = {"next": link} if (link := document["links"].get("next")) else {}


def always(action: Any, prefix: str = "/v2/") -> Fault:
    return Fault(on(prefix), action, times=None)


# ---- the end of a list -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["round", pytest.param("odd", marks=pytest.mark.long)])
def sized(request: pytest.FixtureRequest) -> Iterator[tuple[str, Emulator]]:
    """Lists of round lengths, then lists of other lengths."""
    with Emulator(world(**(ROUND if request.param == "round" else ODD))) as running:
        yield request.param, running


@pytest.mark.parametrize("unknown", ["ignore", pytest.param("refuse", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("name", "more", "edit"),
    [
        ("never paginates", ONE_PAGE, _no_links),
        ("never paginates, no filters", {**ONE_PAGE, "filters": False}, _no_links),
        pytest.param(
            "numbers pages without links",
            {"paging": "number", "page_size": False, "default_page_size": 15},
            _no_links,
            marks=pytest.mark.long,
        ),
        pytest.param("has sizes without links", {}, _no_links, marks=pytest.mark.long),
        ("a next link where there is more", {}, _bare_ends),
    ],
)
def test_a_list_that_speaks_of_no_pages_is_settled_or_told(
    sized: tuple[str, Emulator], tmp_path: Path, name: str, more: dict[str, Any], edit: Any, unknown: Any
) -> None:
    length, emulator = sized
    try:
        emulator.switches = Switches(unknown_parameters=unknown, **more)
        emulator.faults.append(always(edited(edit)))
        emulator.reset_log()
        learned = learn(settings_for(emulator, tmp_path), load_contract(), None)
        assert only_reads(emulator) <= MOST
    finally:
        emulator.faults.clear()
        emulator.switches = Switches()
    if name == "a next link where there is more":
        assert (learned.needs, found(learned, "document", "lists_are_whole")) == ([], True)
        return
    assert not found(learned, "document", "lists_are_whole")
    if name == "never paginates, no filters" and length == "odd":
        assert learned.needs == []  # whole lists of such lengths are what the sync believes
    elif name.startswith("never"):
        (need,) = learned.needs
        assert "document.lists_are_whole = true" in need
    else:
        assert any("programmer" in need for need in learned.needs)


@pytest.mark.long
@pytest.mark.parametrize(("edit", "more"), [(_no_links, ONE_PAGE), (_bare_ends, {})])
def test_after_the_line_that_was_asked_for_a_list_of_round_length_is_synced(
    tmp_path: Path, edit: Any, more: dict[str, Any]
) -> None:
    here = world(**ROUND)
    with Emulator(here, Switches(**more)) as emulator:
        emulator.faults.append(always(edited(edit)))
        env, own = environment(emulator, tmp_path), tmp_path / "own.toml"
        code, out = cli(env, "connect")
        if edit is _no_links:
            assert code == 1
            assert "document.lists_are_whole = true" in out
            own.write_text(own.read_text() + "\n[document]\nlists_are_whole = true\n")
            code, out = cli(env, "connect")
        assert code == 0, out
        settings = settings_for(emulator, tmp_path)
        assert night(settings, load_contract(own)).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


def test_a_persons_word_that_lists_are_whole_does_not_outweigh_a_second_page(tmp_path: Path) -> None:
    # Nothing else shows more of a list than its first page.
    closed: dict[str, Any] = {"sort": False, "filters": False, "account_filter": frozenset()}
    switches = Switches(paging="offset", page_size=False, default_page_size=10, **closed)
    with Emulator(world(**ROUND), switches) as emulator:
        emulator.faults.append(always(edited(_no_links)))
        (tmp_path / "own.toml").write_text("[document]\nlists_are_whole = true\n")
        code, out = cli(environment(emulator, tmp_path), "connect")
    assert code == 1
    assert "page[offset]=10 brings another page" in out


# ---- odd answers -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[Emulator]:
    """The default dialect, shared by tests that put it back as it was."""
    with Emulator(world(accounts=2, customers=30, bookings=40, events=12)) as running:
        yield running


def learned_from(emulator: Emulator, folder: Path, *faults: Fault, most: int = MOST, **own: Any) -> Learned:
    emulator.faults += faults
    emulator.reset_log()
    try:
        learned = learn(settings_for(emulator, folder, **own), load_contract(), None)
    finally:
        emulator.faults.clear()
    assert only_reads(emulator) <= most
    return learned


def test_a_list_that_comes_with_errors_is_none(small: Emulator, tmp_path: Path) -> None:
    def partial(document: dict[str, Any]) -> None:
        document |= {"data": [], "errors": [{"title": "Try later"}]}

    (need,) = learned_from(small, tmp_path, always(edited(partial), "/v2/events")).needs
    assert "events: no list of them was found" in need


@pytest.mark.parametrize("status", [403, 401])
def test_a_list_that_may_not_be_read_is_named(small: Emulator, tmp_path: Path, status: int) -> None:
    learned = learned_from(small, tmp_path, always(Status(status), "/v2/bookings"))
    assert any(f"bookings: the API client may not read them (HTTP {status})" in need for need in learned.needs)
    # What was not seen is not taken for proven by the next contact.
    assert not found(learned, "streams", "bookings", "filters")


@pytest.mark.parametrize("records", [0, pytest.param(3, marks=pytest.mark.long)])
def test_two_lists_that_look_alike_are_a_persons_choice(small: Emulator, tmp_path: Path, records: int) -> None:
    rows = [{"type": "appointments", "id": f"x{n}", "attributes": {}} for n in range(3)]
    other = always(Status(200, body=json.dumps({"data": rows}).encode(), content_type="application/json"), "/v2/appoi")
    faults = [other]
    if not records:  # the list of the usual name is there, and empty

        def empty(document: dict[str, Any]) -> None:
            document |= {"data": [], "links": {"next": None}}

        faults.append(always(edited(empty), "/v2/bookings"))
    (need,) = learned_from(small, tmp_path, *faults).needs
    assert "bookings: two lists look like theirs, bookings (" in need
    assert "appointments" in need
    (tmp_path / "own.toml").write_text('[streams.bookings]\npath = "bookings"\n')
    small.faults += faults
    try:
        code, out = cli(environment(small, tmp_path), "connect")
    finally:
        small.faults.clear()
    assert code == 0, out


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Status(301, headers={"Location": "https://other.example/v3/x?token=s"}),
            "HTTP 301 to https://other.example/v3/x. ",
        ),
        (Status(200), "HTTP 200, text/html: a page for people"),
        (Status(404), "HTTP 404. Is APPOINTEDD_BASE_URL right?"),
        (Status(415), "HTTP 415. Is"),
        (Status(200, body=b"[]", content_type="application/json"), "an array, not a document"),
        (Status(200, body=b"{}", content_type="application/json"), "a document without a list under data"),
    ],
)
def test_paths_that_are_all_answered_alike_are_told_once_and_nothing_is_written(
    small: Emulator, tmp_path: Path, answer: Status, said: str
) -> None:
    # Plausible paths that are not there say nothing against it.
    small.faults += [always(answer, f"/v2/{path}") for path in ("accounts", "customers", "bookings", "events")]
    try:
        code, out = cli(environment(small, tmp_path), "connect")
    finally:
        small.faults.clear()
    assert code == 1
    assert said in out
    assert out.count("to fill in: ") == 1
    assert "was left alone" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [406, 415])
def test_a_media_type_that_is_refused_is_asked_for_plainly(small: Emulator, tmp_path: Path, status: int) -> None:
    def is_strange(request: Request) -> bool:
        return request.path.startswith("/v2/") and request.headers.get("accept") != "application/json"

    learned = learned_from(small, tmp_path, Fault(is_strange, Status(status), times=None))
    assert (learned.needs, found(learned, "http", "media_type")) == ([], "application/json")


def test_next_links_without_a_slash_are_followed_as_the_sync_follows_them(small: Emulator, tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        if link := document["links"]["next"]:
            document["links"]["next"] = link.rpartition("/")[2]

    assert learned_from(small, tmp_path, always(edited(edit))).needs == []


def test_next_links_to_another_host_name_the_list_and_the_cure(small: Emulator, tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        if link := document["links"]["next"]:
            document["links"]["next"] = link.replace("127.0.0.1", "localhost")

    needs = learned_from(small, tmp_path, always(edited(edit))).needs
    assert any("customers: its next link leads to another host (http://localhost:" in need for need in needs)
    assert all("APPOINTEDD_BASE_URL" in need for need in needs)


@pytest.mark.parametrize(
    ("kept", "paging"),
    [
        (("page",), "number"),
        pytest.param(("page", "page[size]", "sort", "filter[updatedAfter]"), "number", marks=pytest.mark.long),
        pytest.param(("page[after]", "page[size]", "sort", "filter[updatedAfter]"), "cursor", marks=pytest.mark.long),
    ],
    ids=["all but the number", "the include of numbered pages", "the include of a cursor"],
)
def test_next_links_that_lose_what_brings_the_participants_are_told(
    tmp_path: Path, kept: tuple[str, ...], paging: Any
) -> None:
    """Laravel's paginator names `?page=2`, unless it is told to append the query. Each sync of more than one page would be red, for its participants."""

    def forget(document: dict[str, Any]) -> None:
        path, _, text = (document["links"].get("next") or "").partition("?")
        document["links"]["next"] = (
            f"{path}?{urlencode([p for p in parse_qsl(text) if p[0] in kept])}" if path else None
        )

    here = world(customers=130, bookings=240)
    switches = Switches(paging=paging, naming=Naming(parameters={"page[number]": "page"}))
    with Emulator(here, switches) as emulator:
        emulator.faults.append(always(edited(forget)))
        env, own = environment(emulator, tmp_path), tmp_path / "own.toml"
        result = told(env, "connect")
        (need,) = result["needs"]
        assert need.startswith(
            "bookings: the page behind a next link comes without what include=customerBookings brings"
        )
        settings = settings_for(emulator, tmp_path)
        (problem,) = night(settings, load_contract(own)).problems
        assert "where it has them, next links may lose the include" in problem
        own.write_text(own.read_text() + "\n[streams.bookings]\ninclude = []\n")
        code, out = cli(env, "connect")
        assert code == 0, out
        assert night(settings, load_contract(own)).problems == []
        assert differences(settings.warehouse_path, {"bookings": here.truth()["bookings"]}) == []


@pytest.mark.parametrize(
    ("lost", "more", "said"),
    [
        ("filter[status]", {"cancelled_in_default_list": False}, "take it out of streams.bookings.queries"),
        ("filter[account]", {"account_in": "absent", "account_filter": ALL}, "APPOINTEDD_CLIENTS"),
    ],
)
def test_next_links_that_lose_what_a_list_is_told_apart_by_are_told(
    small: Emulator, tmp_path: Path, lost: str, more: dict[str, Any], said: str
) -> None:
    """A sync reads none of the list behind such a link."""

    def forget(document: dict[str, Any]) -> None:
        path, _, text = (document["links"].get("next") or "").partition("?")
        document["links"]["next"] = (
            f"{path}?{urlencode([p for p in parse_qsl(text) if p[0] != lost])}" if path else None
        )

    try:
        small.switches = Switches(paging="number", **more)
        needs = learned_from(small, tmp_path, always(edited(forget))).needs
    finally:
        small.switches = Switches()
    assert any(f"bookings: the next link of a page has lost {lost}" in need and said in need for need in needs)


@pytest.mark.parametrize("end", [False, "#", "null", 0, [], "itself"])
def test_a_last_page_that_says_so_in_no_way_of_ours_is_told(small: Emulator, tmp_path: Path, end: object) -> None:
    def edit(document: dict[str, Any]) -> None:
        links = document["links"]
        links["next"] = links["next"] or (links["self"] if end == "itself" else end)

    (need,) = learned_from(small, tmp_path, always(edited(edit))).needs
    assert ("a link to the page itself" if end == "itself" else json.dumps(end)) in need
    assert "a programmer must teach it" in need


class _Wandering:
    """Pages of rows in an order of their own each time, unless one is asked for that is kept."""

    def __init__(self, kept: tuple[str, ...]) -> None:
        self.kept, self.random, self.page = kept, random.Random(1), Selection.page

    def __call__(self, selection: Any) -> Page[Any]:
        query = selection._query
        if query.sort in self.kept and not (query.sort == "created" and query.descending):
            return self.page(selection)
        rows = list(selection._walk(selection._low, selection._high, backwards=False))
        self.random.shuffle(rows)
        end = query.skip + query.size
        return Page(rows[query.skip : end], None, None, end < len(rows))


@pytest.mark.parametrize(
    ("kept", "needs"),
    [((), ["bookings", "customers"]), pytest.param(("updated",), [], marks=pytest.mark.long)],
    ids=["no order", "one order"],
)
def test_rows_that_wander_between_pages_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[str, ...], needs: list[str]
) -> None:
    wandering = _Wandering(kept)
    monkeypatch.setattr(Selection, "page", lambda selection: wandering(selection))
    with Emulator(world(accounts=2, customers=130, bookings=150), Switches(paging="number")) as emulator:
        learned = learned_from(emulator, tmp_path)
    assert sorted(need.partition(":")[0] for need in learned.needs) == needs


def test_an_order_that_a_person_switched_off_keeps_no_pages_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync goes by the person's line, whatever order was found."""
    own = tmp_path / "own.toml"
    own.write_text('[streams.bookings]\nsort = ""\n')
    wandering = _Wandering(("updated",))
    monkeypatch.setattr(Selection, "page", lambda selection: wandering(selection))
    with Emulator(world(accounts=2, customers=10, bookings=130), Switches(paging="number")) as emulator:
        settings = settings_for(emulator, tmp_path)
        learned = learn(settings, load_contract(own), None, past_of(own.read_text()))
    assert found(learned, "streams", "bookings", "sort") == "updated"
    assert [need.partition(":")[0] for need in learned.needs] == ["bookings"]


@pytest.fixture
def steady_by_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Customers show under which name an order is asked for; bookings wander but by their ids."""
    read, page, shuffled = QueryReader.read, Selection.page, random.Random(1)
    kept: list[Any] = []

    def by_id(reader: QueryReader, stream: str, pairs: Any, *, single: bool = False) -> Any:
        sent = list(pairs)
        wanted = [pair for pair in sent if pair != ("sort_by", "id")]
        made = read(reader, stream, wanted, single=single)
        if len(wanted) < len(sent):
            made.sort, made.descending = "id", False
        if stream != "bookings" or made.sort == "id":
            kept.append(made)
        return made

    def wander(selection: Any) -> Any:
        if any(selection._query is one for one in kept):
            return page(selection)
        rows = list(selection._walk(selection._low, selection._high, backwards=False))
        shuffled.shuffle(rows)
        end = selection._query.skip + selection._query.size
        return Page(rows[selection._query.skip : end], None, None, end < len(rows))

    monkeypatch.setattr(QueryReader, "read", by_id)
    monkeypatch.setattr(Selection, "page", wander)
    naming = Naming(parameters={"sort": "sort_by"})
    with Emulator(world(accounts=2, customers=30, bookings=130), Switches(paging="number", naming=naming)) as emulator:
        yield emulator


def test_an_order_that_keeps_pages_together_is_asked_for_by_the_name_that_was_found(
    steady_by_id: Emulator, tmp_path: Path
) -> None:
    learned = learned_from(steady_by_id, tmp_path)
    assert [found(learned, "parameters", "sort"), found(learned, "streams", "bookings", "sort")] == ["sort_by", "id"]
    assert learned.needs == []


@pytest.mark.parametrize(
    ("table", "line"),
    [("streams.bookings", 'sort = ""'), pytest.param("abilities", "sort = false", marks=pytest.mark.long)],
)
def test_an_order_that_keeps_pages_together_and_is_switched_off_by_a_person_is_told(
    steady_by_id: Emulator, tmp_path: Path, table: str, line: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f"[{table}]\n{line}\n")
    learned = learn(settings_for(steady_by_id, tmp_path), load_contract(own), None, past_of(own.read_text()))
    (need,) = learned.needs
    assert need.startswith(f"{table}.sort: your own line says {json.dumps(tomllib.loads(line)['sort'])}, with which")
    assert found(learned, "streams", "bookings", "sort") == "id"


@pytest.mark.parametrize(("always_next", "paging"), [(True, "number"), (True, "offset"), (False, "number")])
def test_lists_whose_empty_last_page_names_another_are_told(
    small: Emulator, tmp_path: Path, always_next: bool, paging: Any
) -> None:
    """One empty page behind the last is an end like another; a page behind each page is none."""
    step = 2 if paging == "number" else 10**6

    def edit(document: dict[str, Any]) -> None:
        path, _, text = document["links"]["self"].partition("?")
        query = dict(parse_qsl(text))
        number = query.pop(f"page[{paging}]", None)
        if document["links"]["next"] is None and (always_next or document["data"]):
            place = {f"page[{paging}]": str(int(number) + 1 if number else step)}
            document["links"]["next"] = f"{path}?{urlencode({**query, **place})}"

    try:
        small.switches = Switches(paging=paging)
        needs = learned_from(small, tmp_path, always(edited(edit)), most=80).needs  # each list has a page more
    finally:
        small.switches = Switches()
    assert [need.partition(":")[0] for need in needs] == (["end of lists"] if always_next else [])
    assert all("names a next one, an empty page behind the last one, too" in need for need in needs)


def test_a_limit_that_no_header_tells_is_a_hint(small: Emulator, tmp_path: Path) -> None:
    slow = Fault(on("/v2/bookings"), Status(429, headers={"Retry-After": "0"}), times=1)
    learned = learned_from(small, tmp_path, slow, sync_requests_per_second=400)
    assert any(hint.startswith("SYNC_REQUESTS_PER_SECOND=") and "HTTP 429 came" in hint for hint in learned.hints)


@pytest.mark.parametrize(
    ("hours", "is_hint"),
    [(30, True), pytest.param(5, False, marks=pytest.mark.long), pytest.param(-30, False, marks=pytest.mark.long)],
)
def test_a_clock_far_ahead_needs_a_longer_overlap(small: Emulator, tmp_path: Path, hours: int, is_hint: bool) -> None:
    ahead = email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    learned = learned_from(small, tmp_path, always(SetHeaders({"Date": ahead})))
    assert [hint.partition("=")[0] for hint in learned.hints] == (["SYNC_OVERLAP_MINUTES"] if is_hint else [])
    if is_hint:
        assert int(learned.hints[0].partition("=")[2].split()[0]) in range(1440 + 30 * 60 - 1, 1440 + 30 * 60 + 3)


def test_instants_that_there_are_none_of_end_no_contact(small: Emulator, tmp_path: Path) -> None:
    def odd(document: dict[str, Any]) -> None:
        for record, never in zip(document["data"], ODD_INSTANTS, strict=False):
            record["attributes"] |= {"created": never, "erased": never}

    learned = learned_from(small, tmp_path, always(edited(odd)))
    assert learned.needs == []


@pytest.mark.parametrize("date", ["", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_without_a_clock_no_sync_can_run(date: str, small: Emulator, tmp_path: Path) -> None:
    learned = learned_from(small, tmp_path, always(SetHeaders({"Date": date})))
    assert any("no Date header" in need for need in learned.needs)


def test_names_with_dots_and_quotes_are_found_written_and_synced(tmp_path: Path) -> None:
    renames = {"startTime": "timing.start", "endTime": "end-Time", "price": 'the "price"'}
    here = World(seed=7, accounts=1, customers=4, bookings=12, events=3, years=1)
    with Emulator(here, Switches(naming=Naming(renames=renames))) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        contract = load_contract(tmp_path / "own.toml")
        assert contract.streams["bookings"].columns["start_at"] == ("timing.start",)
        settings = settings_for(emulator, tmp_path, sync_history_start=date(2026, 1, 1))
        assert night(settings, contract, streams=[BUILT_IN["bookings"]]).problems == []
        starts = query(settings.warehouse_path, "select count(*), count(start_at), count(end_at) from core.bookings")
        assert starts == [(12, 12, 12)]


# ---- again and again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "days"),
    [
        ({"max_page_size": 7, "default_page_size": 5}, 2),
        pytest.param({"max_page_size": 7}, 12, marks=pytest.mark.long),
        pytest.param({"max_page_size": 7, "default_page_size": 5}, 12, marks=pytest.mark.long),
        pytest.param({"cancelled_in_default_list": False}, 8, marks=pytest.mark.long),
    ],
)
def test_lines_do_not_come_and_go_with_the_rows_of_the_day(tmp_path: Path, more: dict[str, Any], days: int) -> None:
    here = world(accounts=2, customers=30, bookings=40, events=12)
    with Emulator(here, Switches(unknown_parameters="ignore", over_max="cap", **more)) as emulator:
        env, own_random = environment(emulator, tmp_path), random.Random(5)
        told(env, "connect")
        changes: list[str] = []
        for _ in range(days):
            here.live_a_day()
            here.mutate(15, own_random)
            changes += [change["key"] for change in told(env, "connect")["changes"]]
    # What was found to work may be found once; nothing is taken back and found again.
    assert sorted(changes) == sorted(set(changes))
