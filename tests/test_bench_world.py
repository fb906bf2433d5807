"""The bench's server speaks the emulator's own dialect: page for page where the world is the same, and consistent where it stands many times over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.bench import world as bench_world
from tests.bench.server import BenchEmulator
from tests.bench.truth import COLLECTIONS
from tests.bench.world import BenchWorld, copies_of
from tests.emulator import Emulator, Switches, World
from tests.emulator.messages import Request

Json = dict[str, Any]
QUERIES: dict[str, list[tuple[str, str]]] = {
    "default order": [("page[size]", "7")],
    "by change": [("page[size]", "30"), ("sort", "updated")],
    "newest change first": [("page[size]", "30"), ("sort", "-updated")],
    "within a window": [
        ("page[size]", "20"),
        ("sort", "updated"),
        ("filter[updatedAfter]", "2024-06-01T00:00:00Z"),
        ("filter[updatedBefore]", "2025-06-01T00:00:00.500Z"),
    ],
    "within a window, in another order": [("page[size]", "20"), ("filter[updatedAfter]", "2025-06-01T00:00:00Z")],
    "an unknown parameter": [("page[limit]", "20")],
}


def answer(emulator: Emulator, target: str, pairs: list[tuple[str, str]]) -> tuple[int, bytes]:
    emulator.world.tokens["token"] = ("emu-client", 10**15)
    path = urlsplit(target).path
    request = Request("GET", path, path, pairs, {"authorization": "Bearer token"})
    response = emulator._handle(request).response
    assert response is not None
    return response.status, re.sub(rb"http://[0-9.:]+", b"", response.body)


def walk(emulator: Emulator, collection: str, pairs: list[tuple[str, str]]) -> Iterator[tuple[int, bytes]]:
    target = f"/v2/{collection}"
    while True:
        status, body = answer(emulator, target, pairs)
        yield status, body
        following = json.loads(body)["links"]["next"] if status == 200 else None
        if following is None:
            return
        pairs = parse_qsl(urlsplit(following).query)


@pytest.fixture(scope="module")
def ours() -> Iterator[BenchEmulator]:
    with BenchEmulator(BenchWorld(400, accounts=5)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def emulators() -> Iterator[Emulator]:
    world = World(seed=1, accounts=5, customers=100, bookings=400, events=40)
    world.clock.advance(bench_world.QUIET)
    with Emulator(world) as emulator:
        yield emulator


@pytest.mark.parametrize("totals", ["absent", "present"])
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_world_that_stands_once_is_sent_byte_for_byte_as_the_emulator_sends_it(
    ours: BenchEmulator, emulators: Emulator, collection: str, name: str, totals: Any
) -> None:
    ours.switches = emulators.switches = Switches(meta_total=totals)
    pairs = QUERIES[name] + ([("include", "customerBookings")] if collection == "bookings" else [])
    assert list(walk(ours, collection, pairs)) == list(walk(emulators, collection, pairs))


def test_one_account_and_one_record_are_sent_as_the_emulator_sends_them(
    ours: BenchEmulator, emulators: Emulator
) -> None:
    ours.switches = emulators.switches = Switches()
    account = next(iter(ours.world.accounts)).id
    pairs = [("filter[account]", account), ("page[size]", "9")]
    assert list(walk(ours, "customers", pairs)) == list(walk(emulators, "customers", pairs))
    record = emulators.world.bookings.rows()[7].id
    one = [answer(each, f"/v2/bookings/{record}", [("include", "customerBookings")]) for each in (ours, emulators)]
    assert one[0] == one[1]
    assert answer(ours, "/v2/bookings/no-such-id", [])[0] == 404


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[BenchEmulator]:
    monkeypatch.setattr(bench_world, "LARGEST_ORIGINAL", 100)
    with BenchEmulator(BenchWorld(300, accounts=3)) as emulator:
        yield emulator


def records(emulator: Emulator, collection: str, pairs: list[tuple[str, str]]) -> list[Json]:
    found = []
    for status, body in walk(emulator, collection, [("page[size]", "100"), *pairs]):
        assert status == 200
        document = json.loads(body)
        included = {one["id"] for one in document.get("included", ())}
        for record in document["data"]:
            linked = record.get("relationships", {}).get("customerBookings", {"data": []})["data"]
            assert ("include", "customerBookings") not in pairs or included.issuperset(one["id"] for one in linked)
        found += document["data"]
    return found


def test_copies_have_ids_of_their_own_and_name_records_of_their_own_copy(copied: BenchEmulator) -> None:
    bookings = records(copied, "bookings", [("sort", "updated"), ("include", "customerBookings")])
    customers = records(copied, "customers", [("sort", "updated")])
    assert (len({b["id"] for b in bookings}), len({c["id"] for c in customers})) == (300, 75)
    people = records_included(copied)
    assert len({p["id"] for p in people}) == len(people) > 300
    known = {b["id"] for b in bookings}, {c["id"] for c in customers}
    for person in people:
        assert person["relationships"]["booking"]["data"]["id"] in known[0]
        assert person["relationships"]["customer"]["data"]["id"] in known[1]
    for record in (*bookings[::17], *customers[::17]):
        status, _ = answer(copied, f"/v2/{record['type']}/{record['id']}", [])
        assert status == 200


def records_included(emulator: Emulator) -> list[Json]:
    pairs = [("page[size]", "100"), ("include", "customerBookings")]
    return [one for _, body in walk(emulator, "bookings", pairs) for one in json.loads(body)["included"]]


def told(found: list[Json]) -> list[int]:
    from datetime import datetime

    stamps = [datetime.fromisoformat(r["attributes"]["updated"]) for r in found]
    assert stamps == sorted(stamps)
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return [
        len(found),
        len({r["id"] for r in found}),
        sum((s - epoch) // timedelta(milliseconds=1) for s in stamps),
    ]


def test_the_truth_is_what_a_naive_reader_finds_also_after_changes(copied: BenchEmulator) -> None:
    world = copied.world

    def agree() -> None:
        for collection in ("customers", "bookings", "events"):
            assert told(records(copied, collection, [("sort", "updated")])) == world.sums()[collection]

    first = world.sums()
    agree()
    now = world.clock.ms()
    assert world.change(0.1, timedelta(hours=1)) == {"customers": 8, "bookings": 30, "events": 3}
    assert world.changed_since(now - 3_600_000) == {"customers": 8, "bookings": 30, "events": 3}
    agree()
    for _ in range(20):
        world.touch(3)
        agree()
    world.restore()
    assert world.sums() == first
    agree()


@pytest.mark.parametrize(("bookings", "copies"), [(20, 1), (20_000, 1), (40_000, 2), (1_000_000, 50)])
def test_a_world_stands_as_often_as_it_must(bookings: int, copies: int) -> None:
    assert copies_of(bookings) == copies


@pytest.mark.parametrize("bookings", [0, 19, 30, 40_030])
def test_a_size_that_does_not_come_out_even_is_refused(bookings: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        copies_of(bookings)


@pytest.mark.parametrize("order", ["made", "change", "restore"])
def test_rows_are_put_in_order_before_a_run_that_is_timed_could_wait_for_it(
    copied: BenchEmulator, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    if order == "change":
        copied.world.change(0.1, timedelta(hours=1))
    elif order == "restore":
        copied.world.restore()
    looked_at = 0
    id_of = bench_world.Table.id_of

    def counted(table: bench_world.Table, number: int) -> str:
        nonlocal looked_at
        looked_at += 1
        return id_of(table, number)

    monkeypatch.setattr(bench_world.Table, "id_of", counted)
    status, _ = answer(copied, "/v2/bookings", [("sort", "updated"), ("page[size]", "10")])
    assert status == 200
    assert looked_at < len(copied.world.tables["bookings"]) // 4
