"""First contact with servers on which a sync would be green and short of records: `connect` sees it, and leaves off or asks a person.

What lives here: servers that lose records without a word, made of the emulator. What does not: odd servers that a sync notices (`test_connect_worlds`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from resources.contract import load_contract
from tests.emulator import Emulator, Fault, Naming, Request, Response, Status, Switches, World
from tests.emulator.api import Api
from tests.emulator.listing import Page, Selection
from tests.emulator.messages import bad_parameter
from tests.emulator.query import Query, QueryReader
from tests.equality import differences, night, query, settings_for
from tests.test_connect import ALL, cli, environment, found, world
from tests.test_connect_worlds import always, edited, learned_from

Document = dict[str, Any]


@pytest.fixture(scope="module")
def plain() -> Iterator[Emulator]:
    """The default dialect, shared by tests that put it back as it was."""
    with Emulator(world(customers=40, bookings=90)) as running:
        yield running


Twist = Callable[[str, Query, set[str]], None]


@pytest.fixture
def twist(monkeypatch: pytest.MonkeyPatch) -> Callable[[Twist], None]:
    """Change what the emulator understands of a request: its list, what was understood, and the names of the parameters that came."""

    def make(change: Twist) -> None:
        read = QueryReader.read

        def twisted(
            reader: QueryReader, stream: str, pairs: Iterable[tuple[str, str]], *, single: bool = False
        ) -> Query:
            kept = list(pairs)
            query = read(reader, stream, kept, single=single)
            change(stream, query, {name for name, _ in kept})
            return query

        monkeypatch.setattr(QueryReader, "read", twisted)

    return make


# ---- lists cut to a page -----------------------------------------------------------------------------------------------------


def _cursor(document: Document, following: object) -> None:
    document["meta"] = {"nextCursor": "abc" if following else None}


def _first_and_last(document: Document, following: object) -> None:
    document["links"] |= {"first": "/v2/x?page=1", "last": "/v2/x?page=7" if following else "/v2/x?page=1"}


def _numbers(document: Document, following: object) -> None:
    document["meta"] = {"current_page": 1, "last_page": 7 if following else 1}


def _nothing(document: Document, following: object) -> None:
    """Not a word."""


def _total(document: Document, following: object) -> None:
    document["meta"] = {"total": 321 if following else len(document["data"])}


@pytest.mark.parametrize(
    ("tells", "said"),
    [
        (_cursor, "meta.nextCursor holds a mark of the next page"),
        (_first_and_last, "links.last is another page than the first"),
        (_numbers, "meta.last_page counts further pages"),
        (_nothing, "different records were seen, at most 25 on a page"),
        (_total, "meta.total counts 321 records, and 25 came"),
    ],
)
def test_a_list_that_is_cut_and_names_no_next_page_is_a_need(
    plain: Emulator, tmp_path: Path, tells: Callable[[Document, object], None], said: str
) -> None:
    def edit(document: Document) -> None:
        following = document["links"].pop("next")
        document["links"] = {"self": document["links"]["self"], "next": None}
        tells(document, following)

    try:
        # With totals alone, nothing else may show more of a list than its first page.
        closed: dict[str, Any] = {"sort": False, "account_filter": frozenset()} if tells is _total else {}
        plain.switches = Switches(page_size=False, default_page_size=25, **closed)
        learned = learned_from(plain, tmp_path, always(edited(edit)))
    finally:
        plain.switches = Switches()
    (need,) = learned.needs
    assert said in need
    assert ("document.total" if tells is _total else "a programmer must teach it") in need


@pytest.mark.parametrize(("most", "size", "is_used"), [(60, "50", True), (5, "100", False)])
def test_a_page_size_is_one_that_every_list_lets_through(
    plain: Emulator, tmp_path: Path, most: int, size: str, is_used: bool
) -> None:
    def is_too_much(request: Request) -> bool:
        return request.path == "/v2/bookings" and int(request.query.get("page[size]", "1")) > most

    learned = learned_from(plain, tmp_path, Fault(is_too_much, Status(400), times=None))
    assert learned.needs == []
    assert found(learned, "parameters", "page_size_value") == size
    assert (found(learned, "abilities", "page_size") is not False) is is_used


def test_a_page_size_that_the_accounts_alone_refuse_is_used_for_the_others(plain: Emulator, tmp_path: Path) -> None:
    def is_refused(request: Request) -> bool:
        return request.path == "/v2/accounts" and "page[size]" in request.query

    learned = learned_from(plain, tmp_path, Fault(is_refused, Status(400), times=None))
    assert learned.needs == []
    assert found(learned, "abilities", "page_size") is not False


def test_a_default_size_that_no_list_lets_through_when_it_is_asked_for_ends_the_search(
    plain: Emulator, tmp_path: Path
) -> None:
    def is_too_much(request: Request) -> bool:
        return int(request.query.get("page[size]", "1")) > 20

    plain.switches = Switches(default_page_size=30)
    try:
        learned = learned_from(plain, tmp_path, Fault(is_too_much, Status(400), times=None))
    finally:
        plain.switches = Switches()
    assert learned.needs == []
    assert found(learned, "abilities", "page_size") is False


def test_a_total_that_ignores_filters_is_compared_with_nothing(
    plain: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Selection, "total", lambda selection: len(selection._rows))
    try:
        plain.switches = Switches(meta_total="present")
        learned = learned_from(plain, tmp_path)
        assert (learned.needs, found(learned, "document", "total")) == ([], "")
        monkeypatch.undo()
        plain.switches = Switches(meta_total="present")  # forgets what was counted
        assert found(learned_from(plain, tmp_path), "document", "total") == "meta.total"
    finally:
        plain.switches = Switches()


@pytest.mark.parametrize("size", [None, pytest.param(20, marks=pytest.mark.long), 100], ids=["its own", "20", "100"])
@pytest.mark.parametrize("paging", ["number", pytest.param("cursor", marks=pytest.mark.long)])
def test_a_filter_that_drops_the_next_page_is_left_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, paging: Any
) -> None:
    """A night in which more changed than a page holds would be green and short. Windows of few rows show nothing of that."""
    page = Selection.page

    def dropped(selection: Any) -> Page[Any]:
        query = selection._query
        query.size = size if size and query.ranges else query.size
        found = page(selection)
        return Page(found.rows, None, None, more=False) if query.ranges else found

    monkeypatch.setattr(Selection, "page", dropped)
    here = world(customers=130, bookings=340)
    with Emulator(here, Switches(paging=paging)) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        contract = load_contract(tmp_path / "own.toml")
        # A list that one page holds comes whole, where the page is not shortened.
        assert {s for s in ALL if contract.streams[s].filters} == ({"events"} if size == 100 else set())
        settings = settings_for(emulator, tmp_path)
        assert night(settings, contract).problems == []
        here.clock.advance(timedelta(minutes=10))
        here.bulk_update(150)
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


# ---- honoured alone, and not together ----------------------------------------------------------------------------------------


def _include_turns_the_filter(stream: str, query: Query, names: set[str]) -> None:
    if query.include and "updated" in query.ranges:
        query.ranges["created"] = query.ranges.pop("updated")


def _filter_drops_the_status(stream: str, query: Query, names: set[str]) -> None:
    if query.ranges:
        query.statuses = None


def _filter_drops_the_account(stream: str, query: Query, names: set[str]) -> None:
    if query.ranges:
        query.accounts = None


def _sort_drops_the_account(stream: str, query: Query, names: set[str]) -> None:
    if "sort" in names:
        query.accounts = None


def _not_both(stream: str, query: Query, names: set[str]) -> None:
    if "sort" in names and query.ranges:
        raise bad_parameter("sort", "Lists that are filtered cannot be sorted.")


NAMELESS: dict[str, Any] = {"account_in": "absent", "account_filter": ALL}
HIDDEN: dict[str, Any] = {"cancelled_in_default_list": False}


@pytest.mark.parametrize(
    ("change", "more", "unfiltered", "unsorted"),
    [
        (_include_turns_the_filter, {}, {"bookings"}, set()),
        (_filter_drops_the_status, HIDDEN, {"bookings", "events"}, set()),
        (_filter_drops_the_account, NAMELESS, ALL, set()),
        (_sort_drops_the_account, NAMELESS, set(), ALL),
        (_not_both, {}, set(), ALL),
    ],
)
def test_what_is_not_honoured_together_is_left_off(
    plain: Emulator,
    tmp_path: Path,
    twist: Callable[[Twist], None],
    change: Twist,
    more: dict[str, Any],
    unfiltered: set[str],
    unsorted: set[str],
) -> None:
    twist(change)
    try:
        plain.switches = Switches(**more)
        learned = learned_from(plain, tmp_path)
    finally:
        plain.switches = Switches()
    assert learned.needs == []
    assert {s for s in ALL if not found(learned, "streams", s, "filters")} == unfiltered
    assert {s for s in ALL if not found(learned, "streams", s, "sort")} == unsorted
    left = {f.stream for f in learned.findings if f.ability == "sent together" and f.lines}
    assert left == unfiltered | unsorted


def test_what_no_walk_can_leave_off_is_a_need(plain: Emulator, tmp_path: Path, twist: Callable[[Twist], None]) -> None:
    def include_shows_the_list(stream: str, query: Query, names: set[str]) -> None:
        if query.include:
            query.statuses = None

    twist(include_shows_the_list)
    try:
        plain.switches = Switches(**HIDDEN)
        (need,) = learned_from(plain, tmp_path).needs
    finally:
        plain.switches = Switches()
    assert need.startswith("bookings: what a sync must send together is not honoured together")


def test_an_include_that_leaves_bookings_out_is_not_asked_for(
    plain: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Selection.page

    def joined(selection: Any) -> Page[Any]:
        if "customerBookings" in selection._query.include:
            selection._tests.append(lambda record: int(record.id, 16) % 9 != 0)
        return page(selection)

    monkeypatch.setattr(Selection, "page", joined)
    learned = learned_from(plain, tmp_path)
    (need,) = learned.needs
    assert "include=customerBookings brings the participants and leaves out" in need
    assert found(learned, "streams", "bookings", "include") == []


def test_participants_whose_linkage_comes_with_the_include_alone_are_read(tmp_path: Path) -> None:
    here = world(customers=20, bookings=60, events=5)
    with Emulator(here, Switches(naming=Naming(relationships={"customerBookings": "attendees"}))) as emulator:
        # Laravel's JSON:API packages write a relationship's data only where it was asked for; without, links alone.
        def unloaded(document: Document) -> None:
            for row in document["data"]:
                if "included" not in document:
                    row["relationships"]["attendees"] = {"links": {"related": f"{row['id']}/attendees"}}

        emulator.faults.append(always(edited(unloaded), "/v2/bookings"))
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        settings, contract = settings_for(emulator, tmp_path), load_contract(tmp_path / "own.toml")
        assert contract.streams["bookings"].columns["participants"] == ("attendees",)
        assert "bookings.participants" not in contract.known.empty_columns
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


def _connects_and_syncs(emulator: Emulator, here: World, folder: Path) -> None:
    """What `connect` has written is enough for a night without a problem or a difference."""
    code, out = cli(environment(emulator, folder), "connect")
    assert code == 0, out
    settings, contract = settings_for(emulator, folder), load_contract(folder / "own.toml")
    assert night(settings, contract).problems == []
    assert differences(settings.warehouse_path, here.truth()) == []


def test_a_list_of_the_customers_does_not_hide_their_participations(tmp_path: Path) -> None:
    here = world(customers=20, bookings=60, events=5)
    customers = {b.id: [{"type": "customers", "id": p.customer_id} for p in b.participants] for b in here.bookings}
    with Emulator(here, Switches(naming=Naming(relationships={"customerBookings": "attendees"}))) as emulator:

        def named_twice(document: Document) -> None:
            for row in document["data"]:
                row["relationships"]["customers"] = {"data": customers[row["id"]]}

        emulator.faults.append(always(edited(named_twice), "/v2/bookings"))
        _connects_and_syncs(emulator, here, tmp_path)


def _by_slug(here: World) -> Fault:
    """Records name their account by its slug."""
    slugs = {account.id: account.slug for account in here.accounts}

    def edit(document: Document) -> None:
        for row in document["data"]:
            if account := row.get("relationships", {}).get("account"):
                account["data"]["id"] = slugs[account["data"]["id"]]

    return always(edited(edit))


def test_a_persons_own_reference_that_names_accounts_by_their_slugs_is_a_need(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[account_reference]\nrelationships = ["account"]\n')
    here = world(customers=40, bookings=90, events=12)
    with Emulator(here, Switches(account_filter=ALL)) as emulator:
        emulator.faults.append(_by_slug(here))
        code, out = cli(environment(emulator, tmp_path), "connect")
    assert code == 1
    (need,) = [one for one in out.splitlines() if one.startswith("to fill in: ")]
    assert 'account_reference.relationships: your own line says ["account"], with which' in need


def test_a_reference_that_names_accounts_by_their_slugs_is_taken_out(tmp_path: Path) -> None:
    here = world(customers=40, bookings=90, events=12)
    with Emulator(here, Switches(account_filter=ALL)) as emulator:
        emulator.faults.append(_by_slug(here))
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        settings, contract = settings_for(emulator, tmp_path), load_contract(tmp_path / "own.toml")
        assert "account" not in contract.account_reference.relationships
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


def test_a_reference_is_kept_where_accounts_name_one_another_by_their_ids(tmp_path: Path) -> None:
    def edit(document: Document) -> None:
        for row in document["data"]:
            if account := row.get("relationships", {}).get("account"):
                account["data"]["type"] = "account-link"
            if row["type"] == "accounts":
                row["attributes"]["parent"] = row["id"]

    with Emulator(world(customers=40, bookings=90, events=12), Switches(account_filter=ALL)) as emulator:
        learned = learned_from(emulator, tmp_path, always(edited(edit)))
    assert "account" in found(learned, "account_reference", "relationships")


def test_participants_that_are_keyed_by_their_ids_are_read(tmp_path: Path) -> None:
    here = world(customers=20, bookings=60, events=5)
    with Emulator(here, Switches(participants="attribute")) as emulator:

        def keyed(document: Document) -> None:
            for row in document["data"]:
                people = row["attributes"]["customers"]
                row["attributes"]["customers"] = {one["customerBookingId"]: one for one in people}

        emulator.faults.append(always(edited(keyed), "/v2/bookings"))
        _connects_and_syncs(emulator, here, tmp_path)


def test_a_relationship_of_links_alone_is_told_with_the_include_that_may_bring_it(
    plain: Emulator, tmp_path: Path
) -> None:
    def edit(document: Document) -> None:
        for row in document["data"]:
            row["relationships"]["resources"] = {"links": {"related": f"{row['id']}/resources"}}

    learned = learned_from(plain, tmp_path, always(edited(edit), "/v2/bookings"))
    (told,) = [f for f in learned.findings if f.ability == "relationships"]
    assert told.outcome == "leaves resources empty, unless resources in streams.bookings.include brings the data"
    assert learned.needs == []


def _has_no_change_time(record_id: str) -> bool:
    return int(record_id, 16) % 9 == 0


@pytest.mark.parametrize("size", [100, 25], ids=["whole in a page", "of many pages"])
def test_an_order_that_leaves_rows_without_a_change_time_out_is_not_asked_for(
    plain: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    page = Selection.page

    def ordered(selection: Any) -> Page[Any]:
        if selection._query.sort == "updated":
            selection._tests.append(lambda record: not _has_no_change_time(record.id))
        return page(selection)

    def edit(document: Document) -> None:
        for row in document["data"]:
            if row["type"] != "accounts" and _has_no_change_time(row["id"]):
                row["attributes"]["updated"] = None

    monkeypatch.setattr(Selection, "page", ordered)
    try:
        plain.switches = Switches(max_page_size=size, over_max="cap")
        learned = learned_from(plain, tmp_path, always(edited(edit)))
    finally:
        plain.switches = Switches()
    assert learned.needs == []
    assert not any(found(learned, "abilities", "sort") and found(learned, "streams", s, "sort") for s in ALL)


def _cursor_skips_rows_of_one_instant(stream: str, query: Query, names: set[str]) -> None:
    if query.sort == "updated" and query.after is not None:
        query.after = (query.after[0], "~")


def test_an_order_whose_cursor_skips_rows_of_one_instant_is_not_asked_for(
    tmp_path: Path, twist: Callable[[Twist], None]
) -> None:
    here = world(customers=40, bookings=90)
    here.bulk_update(6)
    with Emulator(here) as emulator:
        assert found(learned_from(emulator, tmp_path), "streams", "bookings", "sort") == "updated"
        twist(_cursor_skips_rows_of_one_instant)
        learned = learned_from(emulator, tmp_path)
    assert learned.needs == []
    assert found(learned, "streams", "bookings", "sort") == ""
    assert found(learned, "streams", "bookings", "filters")


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (_include_turns_the_filter, "filters = true", "rows of the window did not come"),
        (_cursor_skips_rows_of_one_instant, 'sort = "updated"', "rows of one instant"),
    ],
)
def test_what_loses_rows_and_stands_in_a_persons_own_line_is_a_need(
    tmp_path: Path, twist: Callable[[Twist], None], change: Twist, line: str, told: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f"[streams.bookings]\n{line}\n")
    here = world(customers=40, bookings=90)
    here.bulk_update(6)
    twist(change)
    with Emulator(here) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 1
        assert line in own.read_text()
        (need,) = [one for one in out.splitlines() if one.startswith("to fill in: ")]
        assert f"streams.bookings.{line.partition(' ')[0]}: your own line says" in need
        assert told in need
        # What it asks for is enough.
        own.write_text("")
        assert cli(environment(emulator, tmp_path), "connect")[0] == 0


def test_a_persons_own_order_is_no_need_where_it_is_another_than_the_one_that_loses_rows(
    tmp_path: Path, twist: Callable[[Twist], None]
) -> None:
    (tmp_path / "own.toml").write_text('[streams.bookings]\nsort = "created"\n')
    here = world(customers=40, bookings=90)
    here.bulk_update(6)
    twist(_cursor_skips_rows_of_one_instant)
    with Emulator(here) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
    assert code == 0, out


def test_a_persons_own_place_of_the_next_link_where_none_stands_is_a_need(plain: Emulator, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[document]\nnext = "meta.next"\n')
    code, out = cli(environment(plain, tmp_path), "connect")
    assert code == 1
    (need,) = [one for one in out.splitlines() if one.startswith("to fill in: ")]
    assert 'document.next: your own line says "meta.next", with which a sync may end red' in need
    assert 'Make it "links.next", or take it out.' in need


# ---- next links that forget --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "size"), [("sort", 10), ("page[size]", 200)])
def test_numbered_pages_whose_links_forget_how_the_list_was_cut_lose_no_row(
    tmp_path: Path, lost: str, size: int
) -> None:
    """What follows is page 2 of another order, or of pages of another length, and walking again brings the same rows."""

    def forget(document: Document) -> None:
        path, _, text = (document["links"].get("next") or "").partition("?")
        kept = {name: value for name, value in parse_qsl(text) if name != lost}
        document["links"]["next"] = f"{path}?{urlencode(kept)}" if path else None

    here = world(customers=130, bookings=340, events=60)
    switches = Switches(paging="number", default_page_size=size, max_page_size=500)
    with Emulator(here, switches) as emulator:
        emulator.faults.append(always(edited(forget)))
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        settings = settings_for(emulator, tmp_path)
        assert night(settings, load_contract(tmp_path / "own.toml")).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


# ---- single records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 200, 403, 400])
def test_single_records_are_asked_for_only_where_a_deleted_one_is_a_404(
    plain: Emulator, tmp_path: Path, status: int
) -> None:
    def is_unknown(request: Request) -> bool:
        world = plain.world
        known = {one.id for table in (world.customers, world.bookings, world.events) for one in table}
        return request.path.count("/") == 3 and request.path.rpartition("/")[2] not in known

    body = b'{"data": null}' if status == 200 else b'{"errors": [{"title": "no"}]}'
    answer = Status(status, body=body, content_type="application/vnd.api+json")
    learned = learned_from(plain, tmp_path, Fault(is_unknown, answer, times=None))
    assert found(learned, "abilities", "single") == (status == 404)
    assert learned.needs == []


# ---- records that no column can read -----------------------------------------------------------------------------------------


def _without_a_zone(row: Document) -> None:
    for name, value in row["attributes"].items():
        if isinstance(value, str) and value[10:11] == "T" and value.endswith("Z"):
            row["attributes"][name] = value[:19]


def _flat(row: Document) -> None:
    row |= row.pop("attributes")


def _strange(row: Document) -> None:
    row["attributes"] = {f"x{number}": None for number in range(3)}


def _address_inside(row: Document) -> None:
    row["attributes"]["email"] = {"address": row["attributes"]["email"], "verified": True}


def test_a_participant_s_member_that_no_column_takes_is_a_need(plain: Emulator, tmp_path: Path) -> None:
    def edit(document: Document) -> None:
        for one in document.get("included", ()):
            one["attributes"]["status"] = {"code": one["attributes"]["status"], "label": "Here"}

    (need,) = learned_from(plain, tmp_path, always(edited(edit), "/v2/bookings")).needs
    assert "(status: an object for status)" in need
    assert "streams.bookings.participant_columns.status" in need


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_address_inside, "values come in a form that their column does not take (email: an object for email)"),
        (_without_a_zone, "instants come in a form that is not read (created: 0000-00-00T00:00:00"),
        (_flat, "customers: its records carry their values"),
        (_strange, "customers: no attribute of its records (x0, x1, x2) fits any column"),
    ],
)
def test_records_that_no_column_can_read_are_a_need(
    plain: Emulator, tmp_path: Path, change: Callable[[Document], None], said: str
) -> None:
    def edit(document: Document) -> None:
        for row in document["data"]:
            change(row)

    learned = learned_from(plain, tmp_path, always(edited(edit), "/v2/customers"))
    assert [need for need in learned.needs if said in need]
    assert {need.partition(":")[0] for need in learned.needs} == {"customers"}
    assert learned.confidence["customers"][0] == "none"


def _dear(row: Document) -> None:
    row["attributes"]["price"] = (
        f"{row['attributes']['price'] * 40:,.2f}"  # 1,234.50, and 12.00 where it is below a thousand
    )


def _labelled(row: Document) -> None:
    row["attributes"]["tags"] = [{"label": tag} for tag in ("regular", "new")]


def _born(row: Document) -> None:
    for field in row["attributes"]["customFields"]:
        if field["id"] == "date_of_birth":
            field["value"] = "31/12/1990"


@pytest.mark.parametrize(
    ("listed", "change", "said"),
    [
        ("bookings", _dear, "price: text that is no money"),
        ("customers", _labelled, "tags: dict where a tag is due"),
        ("customers", _born, "(date_fields for custom fields that are days)"),
    ],
)
def test_values_of_which_some_fit_no_column_are_a_need(
    plain: Emulator, tmp_path: Path, listed: str, change: Callable[[Document], None], said: str
) -> None:
    def edit(document: Document) -> None:
        for row in document["data"]:
            change(row)

    (need,) = learned_from(plain, tmp_path, always(edited(edit), f"/v2/{listed}")).needs
    assert said in need
    assert "runs red" in need


def test_custom_fields_that_a_persons_own_include_brings_are_no_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = QueryReader.read

    def with_include(reader: QueryReader, stream: str, pairs: Any, *, single: bool = False) -> Query:
        kept = [pair for pair in pairs if (stream, pair[0]) != ("customers", "include")]
        return read(reader, stream, kept, single=single)

    def linked(document: Document) -> None:
        for row in document["data"]:
            fields = row["attributes"].pop("customFields", [])
            identifiers = [{"type": "customFields", "id": f"{row['id']}-{n}"} for n in range(len(fields))]
            row.setdefault("relationships", {})["customFields"] = {"data": identifiers}
            brought = [{**one, "attributes": field} for one, field in zip(identifiers, fields, strict=True)]
            document["included"] = [*document.get("included", []), *brought]

    def linked_alone(document: Document) -> None:
        linked(document)
        document.pop("included", None)

    def answers(edit: Callable[[Document], None], *, is_asked: bool) -> Fault:
        def is_one(request: Request) -> bool:
            return request.path == "/v2/customers" and ("include" in request.query) is is_asked

        return Fault(is_one, edited(edit), times=None)

    monkeypatch.setattr(QueryReader, "read", with_include)
    (tmp_path / "own.toml").write_text('[streams.customers]\ninclude = ["customFields"]\n')
    with Emulator(world(customers=40, bookings=90)) as emulator:
        emulator.faults += [answers(linked, is_asked=True), answers(linked_alone, is_asked=False)]
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        assert night(settings_for(emulator, tmp_path), load_contract(tmp_path / "own.toml")).problems == []


def test_statuses_that_are_numbers_are_no_need(plain: Emulator, tmp_path: Path) -> None:
    codes: dict[str, int] = {}

    def edit(document: Document) -> None:
        for one in (*document["data"], *document.get("included", ())):
            if "status" in one["attributes"]:
                one["attributes"]["status"] = codes.setdefault(one["attributes"]["status"], len(codes))

    learned = learned_from(plain, tmp_path, always(edited(edit), "/v2/bookings"))
    assert learned.needs == []
    assert not {"status", "participants.status"} & {*learned.empty_columns["bookings"]}


@pytest.mark.parametrize(
    ("form", "is_asked"),
    [(lambda price: round(price * 100), True), (lambda price: f"{price:.2f}", False)],
    ids=["pence", "pounds"],
)
def test_prices_that_may_be_pence_are_a_need(tmp_path: Path, form: Callable[[float], object], is_asked: bool) -> None:
    here = world(customers=20, bookings=60, events=5)
    for booking in here.bookings:
        booking.price = round(booking.price, 2)
        for one in booking.participants:
            one.total_price, one.paid_online = round(one.total_price, 2), round(one.paid_online, 2)

    def edit(document: Document) -> None:
        for row in document["data"]:
            row["attributes"]["price"] = {"amount": form(row["attributes"]["price"]), "currency": "GBP"}
        for one in document.get("included", ()):
            for name in ("totalPrice", "totalPaidOnlineAmount"):
                one["attributes"][name] = {"amount": form(one["attributes"][name]), "currency": "GBP"}

    with Emulator(here) as emulator:
        emulator.faults.append(always(edited(edit), "/v2/bookings"))
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert (code, "document.money_in_minor_units" in out) == (int(is_asked), is_asked)
        if is_asked:
            own = tmp_path / "own.toml"
            own.write_text(f"document.money_in_minor_units = true\n{own.read_text()}")
            code, out = cli(environment(emulator, tmp_path), "connect")
            assert code == 0, out
        settings, contract = settings_for(emulator, tmp_path), load_contract(tmp_path / "own.toml")
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []


def test_a_currency_beside_whole_prices_is_asked_about_without_an_object_too(plain: Emulator, tmp_path: Path) -> None:
    def edit(document: Document) -> None:
        for row in document["data"]:
            row["attributes"] |= {"price": round(row["attributes"]["price"] * 100), "currency": "GBP"}

    (need,) = learned_from(plain, tmp_path, always(edited(edit), "/v2/bookings")).needs
    assert "bookings: price holds whole numbers beside a currency" in need


# ---- cancelled ones that come later ------------------------------------------------------------------------------------------


def test_the_first_cancelled_booking_of_a_server_that_hides_them_comes_the_same_night(tmp_path: Path) -> None:
    here = world(accounts=2, customers=30, bookings=40, events=12)
    for one in (*here.bookings, *here.events):
        one.status = "confirmed"
    with Emulator(here, Switches(**HIDDEN)) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        settings, contract = settings_for(emulator, tmp_path), load_contract(tmp_path / "own.toml")
        assert night(settings, contract).problems == []
        here.clock.advance(timedelta(minutes=10))
        here.cancel_booking()
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []
    cancelled = "select count(*) from core.bookings where status = 'cancelled' and deleted_at is null"
    assert query(settings.warehouse_path, cancelled) == [(1,)]


# ---- nights without a change -------------------------------------------------------------------------------------------------


NULL = (200, b'{"data": null, "links": {"next": null}}')
MISSING = (404, b'{"errors": [{"title": "Nothing found"}]}')


def _answer_empty_lists(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes], lists: Collection[str]) -> None:
    """Lists without a record are answered otherwise."""
    usual = Api.answer

    def answered(api: Api, request: Request) -> Response:
        response = usual(api, request)
        is_other = json.loads(response.body).get("data") == [] and request.path.rpartition("/")[2] in lists
        return Response(*answer, response.headers) if is_other else response

    monkeypatch.setattr(Api, "answer", answered)


@pytest.mark.parametrize(
    ("answer", "lists"),
    [
        *((answer, lists) for answer in (NULL, MISSING) for lists in (ALL, {"customers"}, {"events"})),
        ((204, b""), {"events"}),
        ((200, b'{"data": {}}'), {"events"}),
        ((422, b'{"errors": [{"title": "Nothing found"}]}'), {"events"}),
    ],
)
def test_a_night_without_changes_is_green_however_an_empty_list_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes], lists: Collection[str]
) -> None:
    _answer_empty_lists(monkeypatch, answer, lists)
    here = world(customers=40, bookings=90)
    with Emulator(here) as emulator:
        code, out = cli(environment(emulator, tmp_path), "connect")
        assert code == 0, out
        contract = load_contract(tmp_path / "own.toml")
        assert contract.document.null_is_empty == (answer is NULL)
        # A list that answers otherwise has a say for itself alone.
        assert {name for name in ALL if not contract.streams[name].filters} == (set() if answer is NULL else lists)
        settings = settings_for(emulator, tmp_path)
        assert night(settings, contract).problems == []
        here.clock.advance(timedelta(days=3))
        assert night(settings, contract).problems == []
        assert differences(settings.warehouse_path, here.truth()) == []
