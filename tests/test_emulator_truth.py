"""The emulator's truth against a naive reading of what it sends, and the world that both are of.

What lives here: what it knows. What does not: how it answers (`test_emulator`).
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest

from tests.emulated import Client, Json, serving, small
from tests.emulator import (
    ORGANISATIONS,
    Naming,
    Switches,
)
from tests.emulator.truth import Tables

ALL = frozenset({"customers", "bookings", "events"})


# ---- truth against a naive reading -------------------------------------------------------------------------------------------


class Reading:
    """Turns what came over the wire into the tables of the warehouse; shares no code with the emulator."""

    WORDS: ClassVar = {"No Status": "none", "Arrived": "arrived", "No Show": "no_show", "Complete": "complete"}

    def __init__(self, client: Client, naming: Naming, zones: dict[str, str]) -> None:
        self.client, self.zones = client, zones
        self.a, self.r, self.naming = naming.attribute, naming.relationship, naming
        self.tables: dict[str, list[Json]] = {name: [] for name in client.emulator.world.truth()}

    @staticmethod
    def instant(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text).astimezone(UTC)

    @staticmethod
    def kind(value: Any) -> str:
        if value is None or value == "":
            return "empty"
        return {bool: "boolean", str: "text"}.get(type(value), "number")

    def read(self, switches: Switches) -> Tables:
        shops = [row for page in self.client.pages(self.naming.path("accounts")) for row in page["data"]]
        for row in shops:
            a = row["attributes"]
            self.tables["accounts"].append(
                {"account_id": row["id"], "name": a["name"], "slug": a["slug"], "time_zone": a.get("timezone")}
                | {"currency": a.get("currency"), "created_at": None, "updated_at": None}
            )
        word = self.naming.parameter("filter[account]")
        # Where rows do not say whose they are, the walk must.
        walks = [(row["id"], {word: row["id"]}) for row in shops] if switches.account_in == "absent" else [("", {})]
        for account, params in walks:
            for page in self.client.pages(self.naming.path("customers"), params):
                for row in page["data"]:
                    self.customer(row, account or self.account(row))
            include = {"include": self.r("customerBookings")} if switches.participants == "included" else {}
            for page in self.client.pages(self.naming.path("bookings"), params | include):
                included = {one["id"]: one for one in page.get("included", ())}
                for row in page["data"]:
                    self.booking(row, account or self.account(row), included)
            for page in self.client.pages(self.naming.path("events"), params):
                for row in page["data"]:
                    self.event(row, account or self.account(row))
        return self.tables

    def account(self, row: Json) -> str:
        if self.a("accountId") in row["attributes"]:
            return str(row["attributes"][self.a("accountId")])
        return str(row["relationships"][self.r("account")]["data"]["id"])

    def stamps(self, a: Json) -> Json:
        return {
            "created_at": self.instant(a[self.a("created")]),
            "updated_at": self.instant(a.get(self.a("updated"))),
        }

    def customer(self, row: Json, account: str) -> None:
        a, key = row["attributes"], {"account_id": account, "customer_id": row["id"]}
        columns = {
            "first_name": "firstName",
            "last_name": "lastName",
            "email": "email",
            "mobile": "mobile",
            "phone": "phone",
        }
        self.tables["customers"].append(
            key
            | {column: a[self.a(name)] or None for column, name in columns.items()}
            | {"is_marketing_opted_in": a[self.a("marketingOptIn")]}
            | self.stamps(a)
        )
        self.tables["customer_tags"] += [{**key, "tag": tag} for tag in a["tags"]]
        for one in a[self.a("customFields")]:
            kind, value = self.kind(one["value"]), one["value"]
            day = None
            if one["id"] == "date_of_birth":
                day = (
                    (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value))
                    .astimezone(ZoneInfo(self.zones[account]))
                    .date()
                )
            self.tables["customer_custom_fields"].append(
                key
                | {"field_id": one["id"], "value_kind": kind, "value_raw": value, "value_on": day}
                | {
                    "value_text": value if kind == "text" else None,
                    "is_value_true": value if kind == "boolean" else None,
                }
                | {"value_number": Decimal(value) if kind == "number" else None}
            )

    def booking(self, row: Json, account: str, included: Json) -> None:
        a, links = row["attributes"], row["relationships"]
        key = {"account_id": account, "booking_id": row["id"]}
        times = {
            "start_at": "startTime",
            "end_at": "endTime",
            "buffer_start_at": "startBuffer",
            "buffer_end_at": "endBuffer",
        }
        plain = {
            "total_spaces_count": "totalSpaces",
            "max_occupancy_count": "maxOccupancy",
            "booking_type": "bookingType",
        }
        plain |= {
            "is_online_group_allowed": "allowOnlineGroup",
            "created_source": "createdSource",
            "time_zone": "timezone",
        }
        plain |= {
            "last_modified_source": "lastModifiedSource",
            "price": "price",
            "status": "status",
            "status_raw": "status",
        }
        event = links[self.r("event")]["data"]
        self.tables["bookings"].append(
            key
            | {"service_id": links[self.r("service")]["data"]["id"], "service_name": None}
            | {"event_id": event and event["id"]}
            | {column: self.instant(a[self.a(name)]) for column, name in times.items()}
            | {column: a[self.a(name)] for column, name in plain.items()}
            | self.stamps(a)
        )
        for one in links[self.r("resources")]["data"]:
            self.tables["booking_resources"].append(key | {"resource_id": one["id"], "resource_name": None})
        seen: Counter[str] = Counter()
        if self.r("customerBookings") in links:
            for link in links[self.r("customerBookings")]["data"]:
                one = included[link["id"]]
                self.participant(
                    key, link["id"], one["relationships"][self.r("customer")]["data"]["id"], one["attributes"]
                )
        for one in a.get(self.a("customers"), ()):
            customer = one[self.a("customerId")]
            seen[customer] += 1
            self.participant(
                key, one.get(self.a("customerBookingId"), f"customer:{customer}:{seen[customer]}"), customer, one
            )

    def participant(self, booking: Json, participation: str, customer: str, a: Json) -> None:
        key = booking | {"customer_booking_id": participation}
        plain = {
            "spaces_count": "spaces",
            "total_spaces_count": "totalSpaces",
            "total_price": "totalPrice",
            "is_paid": "paid",
        }
        plain |= {
            "paid_online_amount": "totalPaidOnlineAmount",
            "booking_source": "bookingSource",
            "time_zone": "timezone",
        }
        plain |= {"price_points": "pricePoints", "status_raw": "status"}
        self.tables["booking_customers"].append(
            key
            | {"customer_id": customer, "status": self.WORDS[a["status"]]}
            | {column: a[self.a(name)] for column, name in plain.items()}
            | {"locale": a.get("locale"), "notes": a["notes"] or None}
            | {"created_at": self.instant(a[self.a("created")]), "updated_at": None}
        )
        labels: Counter[str] = Counter()
        for one in a["questions"]:
            labels[one["label"]] += 1
            kind, value = self.kind(one["value"]), one["value"]
            self.tables["booking_answers"].append(
                key
                | {"question_id": one.get("id", f"label:{one['label']}:{labels[one['label']]}"), "label": one["label"]}
                | {"answer_kind": kind, "answer_text": str(value) if kind in ("text", "number") else None}
                | {"is_answer_true": value if kind == "boolean" else None}
            )

    def event(self, row: Json, account: str) -> None:
        a = row["attributes"]
        self.tables["events"].append(
            {"account_id": account, "event_id": row["id"], "title": a["title"], "time_zone": a["timezone"]}
            | {"service_id": row["relationships"][self.r("service")]["data"]["id"]}
            | {"start_at": self.instant(a[self.a("startTime")]), "end_at": self.instant(a[self.a("endTime")])}
            | {"status": a["status"], "status_raw": a["status"], "capacity_count": a["capacity"]}
            | {"spaces_taken_count": a[self.a("spacesTaken")]}
            | self.stamps(a)
        )


def in_order(tables: Tables) -> dict[str, list[str]]:
    """Rows as sorted text; numbers in one form, so that 20, 20.0 and Decimal("20.00") agree."""

    def plain(value: object) -> object:
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | Decimal):
            return f"number {Decimal(value).normalize():f}"
        if isinstance(value, list):
            return [plain(one) for one in value]
        if isinstance(value, dict):
            return {name: plain(one) for name, one in sorted(value.items())}
        return value

    return {name: sorted(str(plain(row)) for row in rows) for name, rows in tables.items()}


DIALECTS = {
    "default": Switches(),
    "attribute": Switches(participants="attribute", paging="number", account_in="attribute", links="relative"),
    "without ids": Switches(
        participants="attribute_without_ids", paging="offset", updated_sent=False, instants="offset"
    ),
    "organisations": Switches(naming=ORGANISATIONS, account_time_zone_sent=True, links="object", media_type="plain"),
    "absent": Switches(account_in="absent", account_filter=ALL, default_order="natural", default_page_size=33),
    "organisations absent": Switches(
        naming=ORGANISATIONS, account_in="absent", account_filter=ALL, participants="attribute"
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_truth_is_what_a_reader_finds(dialect: str) -> None:
    switches = DIALECTS[dialect]
    with serving(small(seed=7), switches) as client:
        world = client.emulator.world
        zones = {one.id: one.time_zone for one in world.accounts}
        assert in_order(world.truth()) == in_order(Reading(client, switches.naming, zones).read(switches))
        world.clock.advance(timedelta(hours=1))
        world.mutate(60)
        world.live_a_day()
        client.token()
        zones = {one.id: one.time_zone for one in world.accounts}
        truth = world.truth()
        assert in_order(truth) == in_order(Reading(client, switches.naming, zones).read(switches))
        assert all(truth.values())
        answer = client.get(switches.naming.path("bookings"))
        expected = "application/json" if switches.media_type == "plain" else "application/vnd.api+json"
        assert answer.headers["content-type"] == expected


def test_other_names(client: Client) -> None:
    naming = Naming(
        paths={"bookings": "appointments"},
        types={"bookings": "appointment"},
        relationships={"customerBookings": "participants"},
        renames={"updated": "changedAt"},
        parameters={"filter[updatedAfter]": "filter[since]", "page[size]": "page[limit]"},
    )
    client.emulator.switches = Switches(naming=naming)
    params = {
        "page[limit]": "1",
        "filter[since]": "2020-01-01T00:00:00Z",
        "sort": "changedAt",
        "include": "participants",
    }
    (row,) = client.get("appointments", **params).json()["data"]
    assert row["type"] == "appointment"
    assert "changedAt" in row["attributes"]
    assert "participants" in row["relationships"]
    assert client.get("bookings").status_code == 404
    assert ORGANISATIONS.parameter("filter[updatedAfter]") == "filter[updated_after]"
    assert ORGANISATIONS.parameter("filter[account]") == "filter[organisation]"
    assert ORGANISATIONS.attribute("accountId") == "organisation_id"


# ---- the world ---------------------------------------------------------------------------------------------------------------


def test_same_arguments_same_world() -> None:
    one, other = small(seed=5), small(seed=5)
    for world in (one, other):
        world.clock.advance(timedelta(days=1))
        world.mutate(40, Random(3))
    assert one.truth() == other.truth()
    assert one.truth() != small(seed=6).truth()


def test_the_world_is_believable() -> None:
    world = small(customers=400, bookings=1500)
    truth = world.truth()
    present = world.now
    participants = truth["booking_customers"]
    assert {row["status"] for row in participants} == {"none", "arrived", "no_show", "complete"}
    assert {row["answer_kind"] for row in truth["booking_answers"]} == {"text", "boolean", "number", "empty"}
    assert {row["value_kind"] for row in truth["customer_custom_fields"]} == {"text", "boolean", "number", "empty"}
    for table in ("customers", "bookings", "events"):
        for row in truth[table]:
            created, updated = row["created_at"], row["updated_at"]
            assert isinstance(created, datetime)
            assert isinstance(updated, datetime)
            assert created <= updated <= present
    assert all(booking.created < booking.start for booking in world.bookings)
    seconds = Counter(row["updated_at"] for row in truth["bookings"])
    assert max(seconds.values()) > 1
    assert {len(booking.participants) for booking in world.bookings} == set(range(7))
    assert len(set(world.secrets)) == len(participants)
    people = Counter((one.first_name, one.last_name, one.email) for one in world.customers if one.email)
    assert max(people.values()) > 1


def test_mutations_over_the_wire(client: Client) -> None:
    world = client.emulator.world
    world.clock.set(datetime(2026, 3, 3, 1, 2, 3, 456000, tzinfo=UTC))
    client.token()

    def attributes(booking_id: str) -> Json:
        found: Json = client.get(f"bookings/{booking_id}").json()["data"]["attributes"]
        return found

    shop = world.accounts.rows()[0].id
    ada = world.add_customer(shop, first_name="Ada", custom_fields={"x": [1]})
    booking = world.add_booking(shop, customers=[ada.id, ada.id])
    assert attributes(booking.id)["created"] == "2026-03-03T01:02:03.456Z"
    world.clock.advance(timedelta(seconds=10))
    world.reschedule_booking(booking.id, timedelta(days=1))
    assert attributes(booking.id)["updated"] == "2026-03-03T01:02:13.000Z"
    since = {"filter[updatedAfter]": "2026-03-03T01:02:04Z"}
    assert client.ids("bookings", **since) == [booking.id]
    first, second = booking.participants
    world.clock.advance(timedelta(seconds=10))
    world.mark_no_show(first)
    assert attributes(booking.id)["updated"] == "2026-03-03T01:02:23.000Z"
    client.emulator.switches = Switches(participant_change_moves_updated=False)
    world.clock.advance(timedelta(seconds=10))
    world.forgive_no_show(first.id)
    assert attributes(booking.id)["updated"] == "2026-03-03T01:02:23.000Z"
    world.remove_participant(second)
    linkage = client.get(f"bookings/{booking.id}").json()["data"]["relationships"]["customerBookings"]["data"]
    assert [one["id"] for one in linkage] == [first.id]
    world.cancel_booking(booking.id)
    assert attributes(booking.id)["status"] == "cancelled"
    before = attributes(booking.id)
    world.touch_silently(booking.id)
    after = attributes(booking.id)
    assert (after["updated"], after["price"] != before["price"]) == (before["updated"], True)
    world.delete_customer(ada.id)
    assert client.get(f"customers/{ada.id}").status_code == 404
    included = client.get(f"bookings/{booking.id}", include="customerBookings.customer").json()["included"]
    assert [one["type"] for one in included] == ["customerBookings"]
    world.delete_booking(booking.id)
    assert client.get(f"bookings/{booking.id}").status_code == 404
    changed = world.bulk_update(60)
    assert len({one.updated for one in changed}) == 1
    assert len(client.ids("bookings", **{"filter[updatedAfter]": "2026-03-03T01:02:33Z"})) == 60
    with pytest.raises(KeyError):
        world.delete_booking(booking.id)
    with pytest.raises(AttributeError, match="has no field"):
        world.change_customer(surname="Bain")


def test_bulk_updates_keep_order() -> None:
    world = small(bookings=1600, customers=100)
    world.clock.advance(timedelta(days=1))
    world.bookings.index("updated")
    chosen = world.bulk_update(700)
    world.delete_booking(chosen[0].id)
    world.delete_booking(next(one.id for one in world.bookings if one not in chosen))
    world.add_booking()
    rows = world.bookings.index("updated").rows
    assert rows == sorted(rows, key=lambda one: (one.updated, one.id))
    assert {one.id for one in rows} == {one.id for one in world.bookings}


def test_hidden_accounts() -> None:
    world = small()
    shop = world.accounts.rows()[0].id
    world.add_client("one-shop", "s", {shop})
    with serving(world) as client:
        client.token(("one-shop", "s"))
        assert client.ids("accounts") == [shop]
        assert len(client.ids("bookings")) == len(world.truth([shop])["bookings"])
        other = next(one.id for one in world.bookings if one.account_id != shop)
        assert client.get(f"bookings/{other}").status_code == 404
        client.token()
        world.hide_account("emu-client", shop)
        assert shop not in client.ids("accounts")
        assert len(client.ids("bookings")) == len(world.truth(visible_to="emu-client")["bookings"]) < 130
        assert client.ids("customers", **{"filter[account]": shop}) == []
        world.show_account("emu-client", shop)
        assert len(client.ids("bookings")) == 130
        new = world.add_account(customers=5, bookings=8)
        assert new.id in client.ids("accounts")
        assert all(one.updated < world.clock.ms() for one in world.bookings if one.account_id == new.id)


def test_clock() -> None:
    world = small(now=datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert world.clock.now() == world.clock.now() == datetime(2026, 5, 1, 12, tzinfo=UTC)
    world.clock.advance(timedelta(minutes=5))
    world.clock.run()
    assert world.clock.now() >= datetime(2026, 5, 1, 12, 5, tzinfo=UTC)
    world.clock.stop()
    assert world.clock.now() == world.clock.now()
    day = world.clock.now() + timedelta(days=1)
    counts = world.live_a_day()
    assert world.clock.now() == day
    assert counts["add_booking"] >= 1
    with pytest.raises(ValueError, match="aware"):
        world.clock.set(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
