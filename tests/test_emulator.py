"""The emulator's own proof: real sockets, every refusal, every dialect, and its truth against a naive reading of what it sends."""

import base64
import json
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, ClassVar
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.emulator import (
    ORGANISATIONS,
    Delay,
    Drip,
    Emulator,
    Fault,
    HangUp,
    Naming,
    Replace,
    Reset,
    SetHeaders,
    Status,
    Switches,
    Truncate,
    World,
    later_page,
    on,
    random_rules,
)
from tests.emulator.truth import Tables

Json = dict[str, Any]
ALL = frozenset({"customers", "bookings", "events"})


# Loading the certificate authorities takes longer than most tests, and nothing here speaks TLS.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client() -> httpx.Client:
    return httpx.Client(verify=NO_TLS, trust_env=False)


def small(seed: int = 1, **more: Any) -> World:
    return World(seed=seed, **{"accounts": 3, "customers": 40, "bookings": 130, "events": 12, **more})


class Client:
    """The least that can talk to the emulator."""

    def __init__(self, emulator: Emulator, http: httpx.Client) -> None:
        self.emulator, self.http = emulator, http
        self.headers: dict[str, str] = {}

    def token(self, client: tuple[str, str] = ("emu-client", "emu-secret")) -> httpx.Response:
        answer = self.http.post(self.emulator.token_url, data={"grant_type": "client_credentials"}, auth=client)
        if answer.status_code == 200:
            self.headers = {"Authorization": "Bearer " + answer.json()["access_token"]}
        return answer

    def get(self, target: str, headers: dict[str, str] | None = None, /, **params: str) -> httpx.Response:
        url = target if target.startswith("http") else f"{self.emulator.base_url}/{target}"
        return self.http.get(url, params=params or None, headers=self.headers | (headers or {}))

    def pages(self, collection: str, params: dict[str, str] | None = None) -> Iterator[Json]:
        url = f"{self.emulator.base_url}/{collection}"
        answer = self.http.get(url, params=params, headers=self.headers)
        while True:
            assert answer.status_code == 200, answer.text
            page = json.loads(answer.text, parse_float=Decimal)
            yield page
            link = page["links"]["next"]
            if link is None:
                return
            url = urljoin(url, link["href"] if isinstance(link, dict) else link)
            answer = self.http.get(url, headers=self.headers)

    def ids(self, collection: str, **params: str) -> list[str]:
        return [row["id"] for page in self.pages(collection, params or None) for row in page["data"]]


@contextmanager
def serving(world: World | None = None, switches: Switches | None = None) -> Iterator[Client]:
    with Emulator(world or small(), switches) as emulator, http_client() as http:
        client = Client(emulator, http)
        client.token()
        yield client


@pytest.fixture
def client() -> Iterator[Client]:
    with serving() as one:
        yield one


# ---- tokens ------------------------------------------------------------------------------------------------------------------


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


GRANT = {"grant_type": "client_credentials"}
BODY = {"client_id": "emu-client", "client_secret": "emu-secret"}


def test_token_answer(client: Client) -> None:
    answer = client.token()
    assert answer.json().keys() == {"access_token", "token_type", "expires_in"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["date"] == "Mon, 02 Mar 2026 02:00:00 GMT"
    assert client.http.post(client.emulator.token_url, data=GRANT | BODY).status_code == 200
    assert client.emulator.token_requests == 3
    assert "emu-secret" not in str(client.emulator.requests)


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        (GRANT, {}, 401, "invalid_client"),
        (GRANT, basic("emu-client", "wrong"), 401, "invalid_client"),
        (GRANT, basic("nobody", "emu-secret"), 401, "invalid_client"),
        (GRANT, {"Authorization": "Basic ***"}, 401, "invalid_client"),
        (GRANT | BODY, basic("emu-client", "emu-secret"), 400, "invalid_request"),
        (BODY, {}, 400, "invalid_request"),
        (BODY | {"grant_type": "password"}, {}, 400, "unsupported_grant_type"),
        (GRANT | BODY, {"Content-Type": "application/json"}, 400, "invalid_request"),
    ],
)
def test_token_refusals(client: Client, form: dict[str, str], headers: dict[str, str], status: int, error: str) -> None:
    answer = client.http.post(client.emulator.token_url, data=form, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_client_authentication_switch(client: Client) -> None:
    url = client.emulator.token_url
    client.emulator.switches = Switches(client_authentication="basic")
    assert client.http.post(url, data=GRANT | BODY).status_code == 401
    assert client.token().status_code == 200
    client.emulator.switches = Switches(client_authentication="post", expires_in_sent=False)
    assert client.token().status_code == 401
    assert "expires_in" not in client.http.post(url, data=GRANT | BODY).json()


def test_basic_credentials_are_form_urlencoded() -> None:
    world = small()
    world.add_client("shop:1", "p%+ss wörd")
    with serving(world) as client:
        encoded = basic("shop%3A1", "p%25%2Bss+w%C3%B6rd")
        assert client.http.post(client.emulator.token_url, data=GRANT, headers=encoded).status_code == 200
        assert client.token(("shop:1", "p%+ss wörd")).status_code == 401


def test_tokens_end(client: Client) -> None:
    world = client.emulator.world
    world.clock.advance(timedelta(seconds=3599))
    assert client.get("accounts").status_code == 200
    world.clock.advance(timedelta(seconds=1))
    answer = client.get("accounts")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    client.token()
    world.revoke_tokens()
    assert client.get("accounts").status_code == 401
    client.token()
    world.revoke_client()
    assert client.get("accounts").status_code == 401
    assert client.token().status_code == 401


# ---- refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "parameter"),
    [
        ("bookings?limit=5", "limit"),
        ("bookings?page[size]=0", "page[size]"),
        ("bookings?page[size]=101", "page[size]"),
        ("bookings?page[size]=-1", "page[size]"),
        ("bookings?page[size]=ten", "page[size]"),
        ("bookings?page[size]=5&page[size]=6", "page[size]"),
        ("bookings?page[after]=nonsense", "page[after]"),
        ("bookings?page[number]=2", "page[number]"),
        ("bookings?sort=price", "sort"),
        ("bookings?sort=created,updated", "sort"),
        ("accounts?sort=created", "sort"),
        ("bookings?include=customers", "include"),
        ("accounts?include=", "include"),
        ("bookings?filter[account]=x", "filter[account]"),
        ("bookings?filter[updatedAfter]=2026-01-01", "filter[updatedAfter]"),
        ("bookings?filter[updatedAfter]=2026-01-01T00:00:00", "filter[updatedAfter]"),
        ("bookings?filter[updatedAfter]=2026-01-01T00:00:00+00:00", "filter[updatedAfter]"),
        ("customers?filter[status]=confirmed", "filter[status]"),
        ("bookings?fields[nothing]=price", "fields[nothing]"),
    ],
)
def test_bad_parameters(client: Client, target: str, parameter: str) -> None:
    answer = client.get(target)
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["status"], error["source"]) == ("400", {"parameter": parameter})


def test_other_refusals(client: Client) -> None:
    bookings = client.emulator.base_url + "/bookings"
    assert client.http.get(bookings).headers["www-authenticate"] == "Bearer"
    for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD"):
        assert client.http.request(method, bookings, headers=client.headers).status_code == 405
    for target in ("bookings/0", "nothing", "bookings/", "bookings/0/1/2"):
        assert client.get(target).status_code == 404
    assert client.http.get(client.emulator.origin + "/elsewhere").status_code == 404
    assert client.get("bookings", {"Content-Type": "application/vnd.api+json"}).status_code == 415
    vnd = "application/vnd.api+json"
    for accept in (f"{vnd}; charset=utf-8", "text/html", f'{vnd};ext="x"'):
        assert client.get("bookings", {"Accept": accept}).status_code == 406
    for accept in (vnd, f"{vnd};charset=utf-8, {vnd}", "application/json", "*/*"):
        assert client.get("bookings", {"Accept": accept}).status_code == 200


def test_switched_off_abilities_are_400(client: Client) -> None:
    client.emulator.switches = Switches(page_size=False, sort=False, filters=False, include=False, upper_bound=False)
    instant = "2026-01-01T00:00:00Z"
    for name, value in {
        "page[size]": "5",
        "sort": "updated",
        "filter[updatedAfter]": instant,
        "include": "account",
    }.items():
        answer = client.get("bookings", **{name: value})
        assert answer.json()["errors"][0]["source"]["parameter"] == name
    client.emulator.switches = Switches(upper_bound=False)
    assert client.get("bookings", **{"filter[updatedAfter]": instant}).status_code == 200
    assert client.get("bookings", **{"filter[updatedBefore]": instant}).status_code == 400
    client.emulator.switches = Switches(participants="attribute")
    assert client.get("bookings", include="customerBookings").status_code == 400


# ---- lists -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paging", ["cursor", "number", "offset"])
@pytest.mark.parametrize("default_order", ["newest_first", "oldest_first", "natural"])
@pytest.mark.parametrize("links", ["absolute", "relative", "object"])
def test_walks_give_each_row_once(paging: Any, default_order: Any, links: Any) -> None:
    switches = Switches(paging=paging, default_order=default_order, links=links, meta_total="present")
    with serving(switches=switches) as client:
        world = client.emulator.world
        for collection, table in (
            ("bookings", world.bookings),
            ("customers", world.customers),
            ("accounts", world.accounts),
        ):
            ids = client.ids(collection, **{"page[size]": "7"})
            assert len(ids) == len(set(ids)) == len(table)
            assert client.get(collection).json()["meta"] == {"total": len(table)}
        rows = [row["attributes"]["created"] for page in client.pages("bookings") for row in page["data"]]
        if default_order != "natural":
            assert rows == sorted(rows, reverse=default_order == "newest_first")
        for sort in ("updated", "-updated", "created", "-created"):
            pages = list(client.pages("bookings", {"sort": sort, "page[size]": "50"}))
            stamps = [row["attributes"][sort.lstrip("-")] for page in pages for row in page["data"]]
            assert stamps == sorted(stamps, reverse=sort[0] == "-")
            assert [len(page["data"]) for page in pages] == [50, 50, 30]


def test_previous_pages(client: Client) -> None:
    pages = list(client.pages("bookings", {"page[size]": "50"}))
    assert pages[0]["links"]["prev"] is None
    back = client.get(pages[2]["links"]["prev"]).json()
    assert [row["id"] for row in back["data"]] == [row["id"] for row in pages[1]["data"]]
    first = client.get(back["links"]["prev"]).json()
    assert [row["id"] for row in first["data"]] == [row["id"] for row in pages[0]["data"]]
    assert first["links"]["prev"] is None
    client.emulator.switches = Switches(paging="number")
    pages = list(client.pages("bookings", {"page[size]": "50"}))
    assert client.get(pages[2]["links"]["prev"]).json()["data"] == pages_as_floats(pages[1]["data"])


def pages_as_floats(rows: Json) -> Any:
    return json.loads(json.dumps(rows, default=float))


def test_cursor_outlives_its_row(client: Client) -> None:
    world = client.emulator.world
    page = client.get("bookings", **{"page[size]": "10", "sort": "updated"}).json()
    world.delete_booking(page["data"][-1]["id"])
    world.reschedule_booking(page["data"][0]["id"])
    rest = [
        row["id"]
        for one in client.pages(page["links"]["next"][len(client.emulator.base_url) + 1 :])
        for row in one["data"]
    ]
    assert rest[-1] == page["data"][0]["id"]
    assert len(rest) == 130 - 10 + 1


@pytest.mark.parametrize("bounds", ["inclusive", "exclusive"])
@pytest.mark.parametrize("order", [{}, {"sort": "updated"}, {"sort": "-created"}])
def test_bounds(bounds: Any, order: dict[str, str]) -> None:
    with serving(switches=Switches(bounds=bounds, default_page_size=25)) as client:
        rows = [(row["id"], row["attributes"]) for page in client.pages("bookings") for row in page["data"]]
        for field in ("updated", "created"):
            stamps = sorted(attributes[field] for _, attributes in rows)
            low, high = stamps[30], stamps[90]
            inside = {
                one for one, a in rows if (low <= a[field] <= high if bounds == "inclusive" else low < a[field] < high)
            }
            limits = {f"filter[{field}After]": low, f"filter[{field}Before]": high}
            assert set(client.ids("bookings", **limits, **order)) == inside
        finer = {"filter[updatedAfter]": low[:-1] + "0005Z" if len(low) == 24 else low}
        assert set(client.ids("bookings", **finer)) == {one for one, a in rows if a["updated"] > low}


def test_other_filters(client: Client) -> None:
    world = client.emulator.world
    shop = world.accounts.rows()[0].id
    ids = client.ids("customers", **{"filter[account]": shop})
    assert sorted(ids) == [one.id for one in world.customers.rows(shop)] != []
    both = ",".join(one.id for one in world.accounts.rows()[:2])
    assert set(client.ids("customers", **{"filter[account]": both})) > set(ids)
    assert client.ids("customers", **{"filter[account]": "unknown"}) == []
    cancelled = {one.id for one in world.bookings if one.status == "cancelled"}
    assert set(client.ids("bookings", **{"filter[status]": "cancelled"})) == cancelled != set()
    assert len(client.ids("bookings", **{"filter[status]": "cancelled,confirmed"})) == 130
    soon = world.now.isoformat().replace("+00:00", "Z")
    ahead = {one.id for one in world.bookings if one.buffer_start >= world.clock.ms()}
    assert set(client.ids("bookings", **{"filter[startAfter]": soon})) == ahead != set()
    past = {one.id for one in world.bookings if one.buffer_end <= world.clock.ms()}
    assert set(client.ids("bookings", **{"filter[endBefore]": soon})) == past
    client.emulator.switches = Switches(cancelled_in_default_list=False)
    assert len(client.ids("bookings")) == 130 - len(cancelled)
    assert set(client.ids("bookings", **{"filter[status]": "cancelled"})) == cancelled


def test_single_records_and_sparse_fields(client: Client) -> None:
    world = client.emulator.world
    booking = next(one for one in world.bookings if one.participants)
    document = client.get(f"bookings/{booking.id}", include="customerBookings.customer").json()
    assert document["data"]["id"] == booking.id
    assert [one["type"] for one in document["included"]][:2] == ["customerBookings", "customers"]
    sparse = client.get("bookings", **{"fields[bookings]": "price,account", "page[size]": "1"}).json()["data"][0]
    assert (sparse["attributes"].keys(), sparse["relationships"].keys()) == ({"price"}, {"account"})
    for collection in ("accounts", "customers", "events", "intent-events"):
        one = client.get(collection).json()["data"][0]
        assert client.get(f"{collection}/{one['id']}").json()["data"] == one
    everything = {
        "include": "account,service,resources,customerBookings,customerBookings.customer",
        "page[size]": "100",
    }
    for page in client.pages("bookings", everything):
        keys = [(one["type"], one["id"]) for one in page["included"]]
        assert len(keys) == len(set(keys))


def test_linkage_only(client: Client) -> None:
    client.emulator.switches = Switches(linkage_only=True)
    booking = next(one for one in client.emulator.world.bookings if one.participants)
    document = client.get(f"bookings/{booking.id}", include="customerBookings").json()
    assert document["included"] == []
    relationship = document["data"]["relationships"]["customerBookings"]
    assert relationship.keys() == {"links"}
    related = client.get(relationship["links"]["related"]).json()["data"]
    assert [one["id"] for one in related] == [one.id for one in booking.participants]


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


# ---- faults, limits, log -----------------------------------------------------------------------------------------------------


def test_faults(client: Client) -> None:
    faults = client.emulator.faults
    faults.append(Fault(on("/v2/bookings"), Status(503, {"Retry-After": "7"})))
    answer = client.get("bookings")
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["content-type"]) == (
        503,
        "7",
        "text/html",
    )
    assert client.get("bookings").status_code == 200
    faults.append(Fault(on("/v2"), Reset(), times=2))
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            client.get("bookings")
    faults.append(Fault(on("/v2"), Truncate()))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("bookings")
    faults.append(Fault(on("/v2"), Replace(lambda body: body.replace(b"http://127.0.0.1", b"http://evil.example"))))
    faults.append(Fault(on("/v2"), SetHeaders({"Date": None, "X-New": "1"})))
    faults.append(Fault(on("/v2"), Delay(0.001)))
    answer = client.get("bookings")
    assert answer.json()["links"]["next"].startswith("http://evil.example")
    assert "date" not in answer.headers
    assert answer.headers["x-new"] == "1"
    faults.append(Fault(lambda request: request.method == "POST", Status(500, body=b"")))
    assert client.token().status_code == 500
    assert client.token().status_code == 200
    statuses = [logged.status for logged in client.emulator.requests if logged.path == "/v2/bookings"]
    assert statuses == [503, 200, 0, 0, 200, 200]


def test_a_fault_may_let_requests_pass_first_and_tell_first_pages_from_later_ones(client: Client) -> None:
    client.emulator.faults.append(Fault(on("/v2/bookings"), Status(503), skip=1))
    assert [client.get("bookings").status_code for _ in range(3)] == [200, 503, 200]
    for paging in ("cursor", "number", "offset"):
        client.emulator.switches = Switches(paging=paging)
        client.emulator.faults[:] = [Fault(later_page("/v2/bookings"), Status(410))]
        first = client.get("bookings")
        assert first.status_code == 200
        later = [client.get(first.json()["links"]["next"]).status_code for _ in range(2)]
        assert later == [410, 200]


def test_connections_end_in_the_body_or_after_it(client: Client) -> None:
    faults = client.emulator.faults
    faults.append(Fault(on("/v2"), Truncate(hard=True)))
    with pytest.raises(httpx.ReadError):
        client.get("bookings")
    faults.append(Fault(on("/v2"), HangUp()))
    assert client.get("bookings").json()["data"]
    with pytest.raises(httpx.TransportError):  # whether it arrives before the reset or after it
        client.get("bookings")
    assert client.get("bookings").status_code == 200
    assert client.emulator.max_in_flight <= 2


def test_a_drip_gives_the_whole_body_bit_by_bit(client: Client) -> None:
    whole = client.get("bookings").content
    client.emulator.faults.append(Fault(on("/v2"), Drip(7, 0.02)))
    with client.http.stream("GET", f"{client.emulator.base_url}/bookings", headers=client.headers) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 1
    assert b"".join(pieces) == whole
    assert client.get("bookings").content == whole


def test_rate_limit_in_headers(client: Client) -> None:
    client.emulator.rate_limit(per_second=0.01, burst=2, tells=True)
    answers = [client.get("accounts") for _ in range(3)]
    assert [a.headers["ratelimit-remaining"] for a in answers] == ["1", "0", "0"]
    assert [(a.headers["ratelimit-limit"], a.headers["ratelimit-reset"]) for a in answers][1:] == [("2", "200")] * 2
    assert "ratelimit-limit" not in client.token().headers


def test_random_rules_are_those_of_their_seed() -> None:
    names = [list(random_rules(Random(seed))) for seed in range(40)]
    assert names == [list(random_rules(Random(seed))) for seed in range(40)]
    assert len({name for night in names for name in night}) > 40


@pytest.mark.parametrize("form", ["seconds", "date", None])
def test_rate_limit(client: Client, form: Any) -> None:
    client.emulator.rate_limit(per_second=0.01, burst=2, retry_after=form)
    answers = [client.get("accounts") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    header = answers[2].headers.get("retry-after")
    expected = {"seconds": "100", "date": "Mon, 02 Mar 2026 02:01:40 GMT", None: None}
    assert header == expected[form]
    assert client.token().status_code == 200
    client.emulator.rate_limit(None)
    assert client.get("accounts").status_code == 200


def test_log_hooks_and_gzip(client: Client) -> None:
    emulator = client.emulator
    emulator.reset_log()
    seen: list[str] = []
    emulator.hooks.append(lambda request: seen.append(request.path))
    plain = client.get("bookings", **{"page[size]": "20"})
    assert "content-encoding" not in plain.headers
    emulator.switches = replace(emulator.switches, gzip=True)
    packed = client.get("bookings", **{"page[size]": "20"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert "content-encoding" not in client.get("bookings", {"Accept-Encoding": "identity"}).headers
    assert seen == ["/v2/bookings"] * 3
    assert emulator.requests[0] == ("GET", "/v2/bookings", {"page[size]": "20"}, 200)
    assert (emulator.count("bookings"), emulator.count("customers"), emulator.token_requests) == (3, 0, 0)
    assert emulator.max_in_flight == 1


def test_stop_and_start_again() -> None:
    emulator = Emulator(small())
    for _ in range(2):
        with emulator, http_client() as http:
            client = Client(emulator, http)
            assert client.token().status_code == 200
            assert emulator.environment()["APPOINTEDD_BASE_URL"] == emulator.base_url
        with pytest.raises(httpx.ConnectError), http_client() as http:
            http.get(emulator.base_url)


# ---- loose servers, and what the vendor publishes ----------------------------------------------------------------------------


def test_a_loose_server_ignores_what_it_does_not_know(client: Client) -> None:
    client.emulator.switches = Switches(unknown_parameters="ignore", filters=False, sort=False, over_max="cap")
    plain = client.get("bookings", **{"page[size]": "100"}).json()["data"]
    instant = client.emulator.world.now.isoformat().replace("+00:00", "Z")
    for more in ({"nonsense": "1"}, {"filter[updatedAfter]": instant}, {"sort": "updated"}, {"include": "nothing"}):
        assert client.get("bookings", **{"page[size]": "100"}, **more).json()["data"] == plain
    assert len(client.get("bookings", **{"page[size]": "5000"}).json()["data"]) == 100


@pytest.mark.parametrize(("reads", "attribute"), [("created", "created"), ("start", "startBuffer")])
def test_a_filter_may_read_the_wrong_instant(client: Client, reads: Any, attribute: str) -> None:
    rows = [row for page in client.pages("bookings") for row in page["data"]]
    middle = sorted(row["attributes"][attribute] for row in rows)[60]
    client.emulator.switches = Switches(change_filter_reads=reads)
    inside = {row["id"] for row in rows if row["attributes"][attribute] >= middle}
    assert set(client.ids("bookings", **{"filter[updatedAfter]": middle})) == inside


def test_ids_may_be_whole_numbers_and_lists_may_link_elsewhere(client: Client) -> None:
    world = client.emulator.world
    client.emulator.switches = Switches(ids="integer", next_in="header", meta_total="present", total_in="page.count")
    answer = client.get("bookings", **{"page[size]": "50"})
    assert answer.json()["page"] == {"count": 130}
    assert "next" not in answer.json()["links"]
    assert answer.headers["Link"].endswith('>; rel="next"')
    row = answer.json()["data"][0]
    assert isinstance(row["id"], int)
    assert client.get(f"bookings/{row['id']}").json()["data"]["id"] == row["id"]
    shop = row["relationships"]["account"]["data"]["id"]
    true = {booking["booking_id"] for booking in world.truth()["bookings"]}
    assert str(row["id"]) in true
    assert len(client.get("customers", **{"filter[account]": str(shop), "page[size]": "100"}).json()["data"]) > 0
    assert str(shop) in {account["account_id"] for account in world.truth()["accounts"]}


def test_the_openapi_file_names_what_the_server_knows(client: Client) -> None:
    for switches in (Switches(), Switches(naming=ORGANISATIONS, filters=False, embedded_profile=True)):
        client.emulator.switches = switches
        document: Json = client.http.get(client.emulator.origin + "/openapi.json").json()
        parameters = document["components"]["parameters"]
        path = "/" + switches.naming.path("customers")
        for reference in document["paths"][path]["get"]["parameters"]:
            named = parameters[reference["$ref"].rpartition("/")[2]]
            value = named["schema"].get("enum", ["2026-01-01T00:00:00Z"])[0]
            if named["schema"]["type"] == "integer":
                value = "7"
            if named["name"] not in ("page[after]", "page[before]", "include"):
                assert client.get(path.strip("/"), **{named["name"]: value}).status_code == 200
        schema = document["components"]["schemas"][switches.naming.type("customers")]["allOf"][1]["properties"]
        row = client.get(path.strip("/")).json()["data"][0]
        assert row["attributes"].keys() == schema["attributes"]["properties"].keys()
