"""When a walk counts as complete: the rule as a table, its bounds as properties, and the walks of one slice on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import parts as slice_parts
from pipelines.completeness import MOST_WALKS, Verdict, Walk, judge
from pipelines.extract import NoAccountError
from pipelines.parts import PAGES_PER_PART, ReadPart
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.reading import Reader, filters_of
from pipelines.streams import CUSTOMERS
from resources.appointedd import ApiClient, open_clients
from resources.contract import load_contract
from resources.errors import AbilityRefusedError, DeadCursorError, UnprovenEndError
from resources.pages import Page
from resources.settings import Settings
from tests.emulator import Emulator, Fault, Replace, Status, Switches, World
from tests.emulator.listing import Selection
from tests.emulator.messages import Request

PROPERTY = settings(derandomize=True, deadline=None, max_examples=120)


def walk(
    total: int | None = None,
    read: int = 10,
    *,
    first: int | None = None,
    new: int | None = None,
    pages: int = 3,
    shifting: bool = False,
) -> Walk:
    return Walk(
        pages_count=pages,
        is_shifting=shifting,
        first_total=total if first is None else first,
        last_total=total,
        distinct_count=read,
        new_count=read if new is None else new,
    )


def once(total: int, *, read: int = 10, shifting: bool = False, new: int = 10) -> Walk:
    """A walk that was told a total by its first page alone."""
    return replace(walk(total, read, shifting=shifting, new=new), is_partly_told=True)


def again(new: int = 10) -> Walk:
    """A walk over numbered pages without a total, of which several held the same rows."""
    return replace(walk(shifting=True, new=new), has_repeats=True)


CASES: list[tuple[str, list[Walk], Verdict]] = [
    ("a cursor walk without a total", [walk()], "settled"),
    ("an empty list", [walk(read=0, pages=1)], "settled"),
    ("a total that agrees", [walk(10)], "settled"),
    ("a total of nothing", [walk(0, 0, pages=1)], "settled"),
    ("rows came while it was read: more than the total", [walk(9, 10)], "settled"),
    ("the total fell to what was read", [walk(9, 10, first=10)], "settled"),
    ("a total that says more is not believed at once", [walk(11, 10)], "again"),
    ("it moved, and says more", [walk(11, 10, first=10)], "again"),
    ("a second walk finds them", [walk(11, 10), walk(11, 11, new=1)], "settled"),
    ("a steady total says more again: rows are missing", [walk(11, 10), walk(11, 10, new=0)], "different"),
    ("a steady total says more though new keys came", [walk(12, 10), walk(12, 11, new=1)], "different"),
    ("a moving total says more again", [walk(11, 10), walk(12, 11, first=11, new=1)], "unsettled"),
    ("the first page gave no total", [Walk(2, False, None, 11, 10, 10), Walk(2, False, None, 11, 10, 0)], "unsettled"),
    ("numbered, one page", [walk(shifting=True, pages=1)], "settled"),
    ("numbered, a steady total that agrees", [walk(10, shifting=True)], "settled"),
    ("numbered, no total", [walk(shifting=True)], "again"),
    ("numbered, a moving total that agrees in the end", [walk(10, first=11, shifting=True)], "again"),
    ("numbered, a total that moved and came back", [replace(walk(10, shifting=True), is_moving=True)], "again"),
    ("a total on the first page alone", [once(10)], "settled"),
    ("that total says more, twice with the same keys", [once(11), once(11, new=0)], "different"),
    ("that total says more, and another one next time", [once(60, read=59), once(59, read=58, new=0)], "unsettled"),
    ("that total says more, of other keys", [once(11), once(11, new=1)], "unsettled"),
    ("numbered, a total on the first page alone", [once(10, shifting=True)], "again"),
    ("numbered, that total says more, and another next", [once(60, read=59, shifting=True), once(59, read=58, shifting=True, new=0)], "unsettled"),
    ("numbered, that total agrees again", [once(10, shifting=True), once(10, shifting=True, new=0)], "settled"),
    ("numbered, that total says more again", [once(11, shifting=True), once(11, shifting=True, new=0)], "different"),
    ("numbered, fewer than the total", [walk(11, shifting=True)], "again"),
    ("numbered, more than the total", [walk(9, shifting=True)], "again"),
    ("numbered, no new key", [walk(shifting=True), walk(shifting=True, new=0)], "settled"),
    ("numbered, one new key", [walk(shifting=True), walk(read=11, shifting=True, new=1)], "again"),
    ("numbered, no new key, some come again and again", [again(), again(new=0)], "again"),
    ("numbered, no new key, and none came again this time", [again(), walk(shifting=True, new=0)], "settled"),
    ("numbered, some come again in every walk", [again(), *[again(new=0)] * (MOST_WALKS - 1)], "unproven"),
    ("numbered, no new key, steady total agrees", [walk(11, shifting=True), walk(10, shifting=True, new=0)], "settled"),
    ("numbered, no new key, steady total says more", [walk(11, shifting=True)] * 1 + [walk(11, shifting=True, new=0)], "different"),
    ("numbered, no new key, moving total", [walk(11, shifting=True), walk(11, first=12, shifting=True, new=0)], "unsettled"),
    ("numbered, never at rest", [walk(shifting=True, new=1)] * MOST_WALKS, "unproven"),
    ("numbered, at rest at last", [walk(shifting=True, new=1)] * (MOST_WALKS - 1) + [walk(shifting=True, new=0)], "settled"),
]  # fmt: skip


@pytest.mark.parametrize(("walks", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdict(walks: list[Walk], verdict: Verdict) -> None:
    assert judge(walks) == verdict


totals = st.none() | st.integers(0, 6)
any_walk = st.builds(
    Walk,
    pages_count=st.integers(1, 3),
    is_shifting=st.booleans(),
    first_total=totals,
    last_total=totals,
    distinct_count=st.integers(0, 6),
    new_count=st.integers(0, 6),
    is_moving=st.booleans(),
    is_partly_told=st.booleans(),
    has_repeats=st.booleans(),
)


@PROPERTY
@given(st.lists(any_walk, min_size=1, max_size=MOST_WALKS))
def test_no_walk_is_settled_against_a_total_that_says_more(walks: list[Walk]) -> None:
    last = walks[-1]
    if last.last_total is not None and last.distinct_count < last.last_total:
        assert judge(walks) != "settled"


@PROPERTY
@given(any_walk, st.lists(any_walk, min_size=MOST_WALKS, max_size=MOST_WALKS))
def test_walking_again_comes_to_an_end(first: Walk, rest: list[Walk]) -> None:
    for number in range(1, MOST_WALKS + 1):
        verdict = judge([first, *rest][:number])
        if verdict != "again":
            return
    pytest.fail("still walking")


@PROPERTY
@given(any_walk)
def test_one_walk_over_slipping_pages_proves_nothing_without_a_steady_total(only: Walk) -> None:
    if only.is_shifting and only.pages_count > 1 and judge([only]) == "settled":
        assert only.first_total == only.last_total == only.distinct_count
        assert not only.is_moving
        assert not only.is_partly_told


# ---- the walks of one slice --------------------------------------------------------------------------------------------------


@contextmanager
def reading(switches: Switches | None = None, **world: int) -> Iterator[tuple[Emulator, ApiClient]]:
    sizes = {"accounts": 2, "customers": 60, "bookings": 0, "events": 0} | world
    with Emulator(World(seed=3, **sizes), switches) as emulator:  # type: ignore[arg-type]  # all of them are counts
        values = {name.lower(): value for name, value in emulator.environment().items()}
        plain = Settings(_env_file=None, sync_requests_per_second=1e6, **values)  # type: ignore[call-arg, arg-type]
        contract = load_contract()
        parameters = contract.parameters.model_copy(update={"page_size_value": "20"})
        (client,) = open_clients(plain, contract.model_copy(update={"parameters": parameters}))
        with client:
            yield emulator, client


def piece_of(client: ApiClient, **more: object) -> Slice:
    window = Window(BEGINNING, datetime(2026, 3, 2, tzinfo=UTC))
    return Slice("customers", client.name, "nightly", ("a",), window, **more)  # type: ignore[arg-type]


def read(client: ApiClient, piece: Slice | None = None, stop: Callable[[], bool] = lambda: False) -> list[ReadPart]:
    return list(Reader(CUSTOMERS, client, {}, stop).read(piece or piece_of(client)))


def noted(client: ApiClient, note: Callable[[Page], None]) -> list[ReadPart]:
    """As `read`, with news of each page."""
    return list(Reader(CUSTOMERS, client, {}, note_page=note).read(piece_of(client)))


def ids(parts: list[ReadPart]) -> set[str]:
    return {i for part in parts for i in part.batch.rows.get_column("customer_id").to_list()}


def later(request: Request) -> bool:
    return request.path.endswith("/customers") and any(p in request.query for p in ("page[after]", "page[number]"))


def test_a_plain_walk_is_one_part_with_everything() -> None:
    with reading() as (emulator, client):
        (part,) = read(client)
        assert part.is_last
        assert part.reconciliations == ()
        assert part.pages_count == 3
        assert part.batch.read_count == 60
        assert ids([part]) == {c.id for c in emulator.world.customers}
        assert part.began_at == part.fetched_at == emulator.world.clock.now()


def test_began_at_is_the_date_of_the_first_page() -> None:
    with reading() as (emulator, client):
        began = emulator.world.clock.now()

        def time_passes(request: Request) -> None:
            if later(request):
                emulator.world.clock.advance(timedelta(minutes=1))

        emulator.hooks.append(time_passes)
        (part,) = read(client)
        assert part.began_at == began
        assert part.fetched_at == began + timedelta(minutes=2)


def test_a_dead_cursor_starts_the_walk_again_and_loses_nothing() -> None:
    with reading() as (emulator, client):
        emulator.faults.append(Fault(later, Status(400, body=b"{}", content_type="application/json")))
        (part,) = read(client)
        assert ids([part]) == {c.id for c in emulator.world.customers}
        assert part.batch.read_count == 80
        assert part.batch.duplicate_count == 20


def test_a_cursor_that_always_dies_ends_the_slice() -> None:
    with reading() as (emulator, client):
        emulator.faults.append(Fault(later, Status(410), times=None))
        with pytest.raises(DeadCursorError):
            read(client)
        assert emulator.count("customers") == 2 * 4


def test_numbered_pages_without_total_are_walked_twice() -> None:
    with reading(Switches(paging="number")) as (emulator, client):
        (part,) = read(client)
        assert emulator.count("customers") == 6
        assert (part.reconciliations[0].walks_count, part.reconciliations[0].verdict) == (2, "settled")
        assert part.batch.duplicate_count == 60


def test_a_row_that_slips_between_numbered_pages_is_found_by_the_second_walk() -> None:
    with reading(Switches(paging="number", sort=False, default_order="oldest_first")) as (emulator, client):
        first = min(emulator.world.customers, key=lambda c: (c.created, c.id))
        slipped: list[str] = []

        def leave(request: Request) -> None:
            if later(request) and not slipped:
                slipped.append(first.id)
                emulator.world.delete_customer(first.id)

        client.without.update({("customers", "sort")})
        emulator.hooks.append(leave)
        (part,) = read(client)
        assert ids([part]) >= {c.id for c in emulator.world.customers}
        assert (
            part.reconciliations[0].walks_count == 3
        )  # the second brings the slipped row, the third shows that it was the last


def test_numbered_pages_with_a_steady_total_are_walked_once() -> None:
    with reading(Switches(paging="number", meta_total="present")) as (emulator, client):
        (part,) = read(client)
        assert emulator.count("customers") == 3
        assert (part.reconciliations[0].first_total, part.reconciliations[0].distinct_count) == (60, 60)


def test_numbered_pages_that_never_rest_are_unproven() -> None:
    with reading(Switches(paging="number"), accounts=1) as (emulator, client):

        def another_comes(request: Request) -> None:
            if later(request):
                emulator.world.add_customer()

        emulator.hooks.append(another_comes)
        with pytest.raises(UnprovenEndError, match="numbered pages"):
            read(client)


def test_rows_of_one_change_time_in_another_order_on_each_page_are_unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a database does that sorts for each page anew: every walk shows the same rows twice, and leaves the same ones out."""
    whole = Selection.page

    def page(selection: Selection[Any]) -> Any:
        found, query = whole(selection), selection._query
        found.rows = sorted(selection._rows, key=lambda r: crc32(f"{query.skip} {r.id}".encode()))[query.skip :][
            : query.size
        ]
        return found

    monkeypatch.setattr(Selection, "page", page)
    with reading(Switches(paging="number")) as (_, client), pytest.raises(UnprovenEndError, match="one change time"):
        read(client)


@pytest.mark.parametrize("length", [10, 7])
def test_offsets_that_count_more_than_the_pages_hold_are_unproven(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server shortens pages, and goes on by the length that was asked for. Where it takes rows out after counting them, nothing is missing."""
    whole = Selection.page

    def page(selection: Selection[Any]) -> Any:
        found = whole(selection)
        del found.rows[length:]
        return found

    monkeypatch.setattr(Selection, "page", page)
    with reading(Switches(paging="offset")) as (_, client):
        if length == 7:
            assert len(ids(read(client))) == 21
        else:
            with pytest.raises(UnprovenEndError, match="no more than 10"):
                read(client)


def test_a_next_link_whose_pages_grow_is_not_followed() -> None:
    """The page of number 2 is then the 41st row and those after it, and nobody has seen the 21st."""

    def longer(body: bytes) -> bytes:
        return body.replace(b"page%5Bsize%5D=20", b"page%5Bsize%5D=40")

    with reading(Switches(paging="number")) as (emulator, client):
        emulator.faults.append(Fault(lambda r: r.path.endswith("/customers"), Replace(longer), times=None))
        with pytest.raises(AbilityRefusedError, match="page_size"):
            read(client)


def test_a_steady_total_that_says_more_is_evidence_of_missing_rows() -> None:
    def lie(body: bytes) -> bytes:
        return json.dumps(json.loads(body) | {"meta": {"total": 61}}).encode()

    with reading() as (emulator, client):
        emulator.faults.append(Fault(lambda r: r.path.endswith("/customers"), Replace(lie), times=None))
        (part,) = read(client)
        assert part.reconciliations[0].verdict == "different"
        assert (part.reconciliations[0].last_total, part.reconciliations[0].walks_count) == (61, 2)


@pytest.mark.parametrize("lost", [False, True])
def test_ids_that_begin_anew_in_each_account_are_counted_by_account(*, lost: bool) -> None:
    with reading(Switches(meta_total="present")) as (emulator, client):
        by_account: dict[str, list[str]] = {}
        for customer in emulator.world.customers:
            by_account.setdefault(customer.account_id, []).append(customer.id)
        numbers = {own: str(n) for ids in by_account.values() for n, own in enumerate(sorted(ids))}

        def renumber(body: bytes) -> bytes:
            document = json.loads(body)
            document["data"] = [
                r | {"id": numbers[r["id"]]} for r in document["data"] if not lost or numbers[r["id"]] != "3"
            ]
            return json.dumps(document).encode()

        emulator.faults.append(Fault(lambda r: r.path.endswith("/customers"), Replace(renumber), times=None))
        (evidence,) = read(client)[-1].reconciliations
        assert evidence.verdict == ("different" if lost else "settled")
        assert (evidence.distinct_count, evidence.walks_count) == (58 if lost else 60, 2)
        # What was learned spares the second walk of what is read next.
        (evidence,) = read(client)[-1].reconciliations
        assert evidence.walks_count == (2 if lost else 1)


def test_every_query_of_the_contract_is_walked() -> None:
    with reading() as (emulator, client):
        customers = client.contract.streams["customers"]
        account = next(iter(emulator.world.accounts)).id
        queries: tuple[dict[str, str], ...] = ({}, {"filter[account]": account})
        streams = client.contract.streams | {"customers": customers.model_copy(update={"queries": queries})}
        client.contract = client.contract.model_copy(update={"streams": streams})
        (part,) = read(client)
        asked = [r.query.get("filter[account]") for r in emulator.requests if r.path.endswith("/customers")]
        assert asked[:3] == [None] * 3
        assert set(asked[3:]) == {account}
        assert part.batch.duplicate_count == len(emulator.world.customers.rows(account))


def test_a_long_walk_comes_in_parts_and_only_the_last_ends_it() -> None:
    with reading(customers=PAGES_PER_PART + 2) as (emulator, client):
        parameters = client.contract.parameters.model_copy(update={"page_size_value": "1"})
        client.contract = client.contract.model_copy(update={"parameters": parameters})
        parts = read(client)
        assert [p.is_last for p in parts] == [False, True]
        assert [p.pages_count for p in parts] == [PAGES_PER_PART, 2]
        assert ids(parts) == {c.id for c in emulator.world.customers}


def test_pages_that_hold_much_come_in_shorter_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_parts, "BYTES_OF_A_PAGE", 10)  # so a page of 20 customers weighs as much as many
    with reading() as (emulator, client):
        parts = read(client)
        assert [p.pages_count for p in parts] == [1, 1, 1]
        assert min(p.weight for p in parts) >= PAGES_PER_PART
        assert ids(parts) == {c.id for c in emulator.world.customers}


def test_a_row_that_left_and_one_that_came_during_a_walk_hide_none_between_them() -> None:
    """The totals of the first and the last page agree, and so do the ids; under numbered pages a row slipped all the same."""
    with reading(Switches(paging="number", meta_total="present")) as (emulator, client):
        seen: list[Page] = []

        def change(page: Page) -> None:
            seen.append(page)
            if len(seen) == 1:
                emulator.world.delete_customer(page.records[0]["id"])
            elif len(seen) == 2:
                emulator.world.add_customer()

        parts = noted(client, change)
        assert ids(parts) >= {c.id for c in emulator.world.customers}


def test_a_stop_ends_without_a_last_part() -> None:
    with reading() as (emulator, client):
        assert read(client, stop=lambda: emulator.count("customers") >= 2) == []
        assert emulator.count("customers") == 2


def test_rows_without_account_are_told_apart() -> None:
    with reading(Switches(account_in="absent")) as (_, client):
        with pytest.raises(NoAccountError):
            read(client)
        parts = list(Reader(CUSTOMERS, client, {}).read(piece_of(client), "mine"))
        assert set(parts[0].batch.rows.get_column("account_id")) == {"mine"}


def test_pages_are_noted_as_they_come() -> None:
    seen: list[Page] = []
    with reading() as (_, client):
        noted(client, seen.append)
    assert [len(p.records) for p in seen] == [20, 20, 20]


def test_bounds_are_sent_in_utc_with_z_and_only_as_far_as_the_server_goes() -> None:
    since, until = datetime(2024, 1, 1, 12, 0, 1, 658_000, tzinfo=UTC), datetime(2024, 1, 1, 12, 0, 1, 500, tzinfo=UTC)
    with reading() as (_, client):
        piece = piece_of(client, filter_since=since, filter_until=until, only_account="a")
        query = {
            "filter[updatedAfter]": "2024-01-01T12:00:01Z",
            "filter[updatedBefore]": "2024-01-01T12:00:02Z",
            "filter[account]": "a",
        }
        assert filters_of(piece, client) == query
        whole = filters_of(replace(piece, filter_until=until.replace(microsecond=0)), client)
        assert whole["filter[updatedBefore]"] == "2024-01-01T12:00:01Z"
        client.without.add(("customers", "upper_bound"))
        assert filters_of(piece, client).keys() == {"filter[updatedAfter]", "filter[account]"}
        client.without.add(("customers", "filters"))
        assert filters_of(piece, client).keys() == {"filter[account]"}
        assert filters_of(piece_of(client), client) == {}


@pytest.mark.parametrize("paging", ["cursor", "number"])
@pytest.mark.parametrize("places", ["the first page", "later pages"])
@pytest.mark.parametrize("written", [str, float])
def test_a_total_counts_wherever_and_however_it_is_told(
    paging: Any, places: str, written: Callable[[int], Any]
) -> None:
    with reading(Switches(paging=paging)) as (emulator, client):

        def tell(total: int) -> None:
            def told(body: bytes) -> bytes:
                return json.dumps(json.loads(body) | {"meta": {"total": written(total)}}).encode()

            emulator.faults.clear()
            is_there = later if places == "later pages" else lambda r: r.path.endswith("/customers") and not later(r)
            emulator.faults.append(Fault(is_there, Replace(told), times=None))

        tell(60)
        (part,) = read(client)
        assert [(r.last_total, r.distinct_count, r.verdict) for r in part.reconciliations] == [(60, 60, "settled")]
        tell(62)
        (part,) = read(client)
        assert [(r.last_total, r.distinct_count, r.verdict) for r in part.reconciliations] == [(62, 60, "different")]
