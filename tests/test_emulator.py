"""The emulator's own proof: real sockets, every refusal, every dialect, faults and limits.

What lives here: what it answers. What does not: its truth and its world (`test_emulator_truth`).
"""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import httpx
import pytest

from tests.emulated import Client, Json, http_client, serving, small
from tests.emulator import (
    ORGANISATIONS,
    Delay,
    Drip,
    Emulator,
    Fault,
    HangUp,
    Replace,
    Reset,
    SetHeaders,
    Status,
    Switches,
    Truncate,
    later_page,
    on,
    random_rules,
)

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
