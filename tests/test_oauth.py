"""One token for each API client, whoever asks: on real sockets, with the clock in the test's hand."""

from __future__ import annotations

import base64
import codecs
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import SecretStr

from resources.appointedd import ApiClient, open_clients
from resources.contract import load_contract
from resources.errors import ClientRefusedError, GaveUpError
from resources.oauth import QUOTED, RENEWALS_PER_REQUEST, ClientCredentials
from resources.retries import ATTEMPTS, TroubleError
from resources.settings import ClientSettings, Settings
from tests.emulator import Emulator, Fault, Replace, Reset, Status, Switches, World, on
from tests.emulator.messages import Request

TOKENS = on("/oauth/")
LISTS = on("/v2/")
SENT_TO = "https://tokens.example.test/oauth/token"


@contextmanager
def serving(switches: Switches | None = None, **own: Any) -> Iterator[tuple[Emulator, ApiClient]]:
    world = World(accounts=1, customers=30, bookings=0, events=0)
    with Emulator(world, switches) as emulator:
        world.clients["odd:id+é /?%"] = type(world.clients["emu-client"])("p:w+ö &=%20")
        values: dict[str, Any] = {name.lower(): value for name, value in emulator.environment().items()}
        contract = load_contract()
        oauth = contract.oauth.model_copy(update=own.pop("oauth", {}))
        settings = Settings(_env_file=None, sync_requests_per_second=1e6, **(values | own))  # type: ignore[call-arg]
        (client,) = open_clients(settings, contract.model_copy(update={"oauth": oauth}))
        with client:
            yield emulator, client


def read(client: ApiClient) -> int:
    return sum(len(page.records) for page in client.pages("customers", {}, {}))


def revoke(emulator: Emulator) -> None:
    with emulator.world.lock:
        emulator.world.tokens.clear()


# ---- over a socket -----------------------------------------------------------------------------------------------------------


def test_sixteen_threads_ask_for_one_token() -> None:
    with serving() as (emulator, client):
        gate = threading.Barrier(16)

        def one(_: int) -> int:
            gate.wait()
            return read(client)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(one, range(16))) == [30] * 16
        assert emulator.token_requests == 1


def test_a_revoked_token_is_renewed_once_for_all_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as (emulator, client):
        read(client)
        emulator.reset_log()
        gate = threading.Barrier(16)
        revoke(emulator)

        def one(_: int) -> int:
            gate.wait()
            return read(client)

        # More threads than connections: none may keep its own while it waits for the token.
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(one, range(16))) == [30] * 16
        assert emulator.token_requests == 1
        assert "PoolTimeout" not in caplog.text
        assert {r.status for r in emulator.requests if r.path.startswith("/v2/")} == {200, 401}


def test_a_token_that_expires_in_the_middle_of_a_walk_is_renewed() -> None:
    with serving(Switches(expires_in_sent=False)) as (emulator, client):
        pages = client.pages("customers", {}, {})
        client.contract = client.contract.model_copy(
            update={"parameters": client.contract.parameters.model_copy(update={"page_size_value": "10"})}
        )
        count = 0
        for page in pages:
            count += len(page.records)
            revoke(emulator)
        assert count == 30
        assert emulator.token_requests == 3


def test_a_fresh_token_that_is_refused_ends_the_client_at_once_and_for_good() -> None:
    with serving() as (emulator, client):
        emulator.faults.append(Fault(LISTS, Status(401), times=None))
        with pytest.raises(
            ClientRefusedError, match=r"'default': the API refuses a token .* just issued\. Check the client id"
        ):
            read(client)
        assert (emulator.token_requests, emulator.count()) == (1, 1)
        with pytest.raises(ClientRefusedError):
            read(client)
        assert (emulator.token_requests, emulator.count()) == (1, 1)


def test_renewals_end_even_where_every_token_serves_others() -> None:
    with serving() as (emulator, client):
        read(client)
        emulator.reset_log()
        emulator.faults.append(Fault(on("/v2/accounts"), Status(401), times=None))

        def others_are_served(response: httpx.Response) -> None:
            token = client.exchange._auth._token
            assert token is not None
            token.has_served |= response.status_code == 401

        client.exchange._connections.builder.event_hooks = {"response": [others_are_served]}
        with pytest.raises(ClientRefusedError, match=f"refused {RENEWALS_PER_REQUEST + 1} tokens in turn"):
            list(client.pages("accounts", {}, {}))
        assert emulator.count("accounts") == RENEWALS_PER_REQUEST + 1
        assert emulator.token_requests == RENEWALS_PER_REQUEST


@pytest.mark.parametrize("is_served_meanwhile", [True, False])
def test_a_list_that_is_refused_alone_ends_no_other(is_served_meanwhile: bool) -> None:
    """An API that has 401 for what an API client may not read, in place of 403."""
    with serving() as (emulator, client):
        list(client.pages("accounts", {}, {}))
        emulator.faults.append(Fault(on("/v2/bookings"), Status(401), times=None))
        if is_served_meanwhile:
            # Another thread's request takes each new token, before the one that asked for it.
            emulator.hooks.append(lambda r: used(client) if r.path == "/v2/bookings" else None)
        told = "refused 6 tokens in turn for GET /v2/bookings, and took the last one for /v2/accounts"
        kind = ClientRefusedError if is_served_meanwhile else GaveUpError
        for _ in range(2):
            emulator.reset_log()
            with pytest.raises(kind, match=told if is_served_meanwhile else "HTTP 401 on GET /v2/bookings") as refusal:
                list(client.pages("bookings", {}, {}))
            assert "can change its permissions" in str(refusal.value)
            assert emulator.count("bookings") == (6 if is_served_meanwhile else 3)
            assert read(client) == 30


def used(client: ApiClient) -> None:
    token = client.exchange._auth._token
    assert token is not None
    token.has_served = True


def test_tokens_that_die_before_they_serve_are_renewed() -> None:
    """Somebody else asks for tokens of the same API client, at a server where each new one ends the one before."""
    with serving() as (emulator, client):
        read(client)
        emulator.reset_log()
        revoke(emulator)
        left = 3

        def die(request: Request) -> None:
            nonlocal left
            if request.path.startswith("/v2/") and left:
                left -= 1
                revoke(emulator)

        emulator.hooks.append(die)
        assert read(client) == 30
        assert emulator.token_requests <= 3


def test_an_api_client_that_is_refused_everywhere_in_the_middle_of_a_run_is_ended() -> None:
    with serving() as (emulator, client):
        read(client)
        emulator.reset_log()
        emulator.faults.append(Fault(LISTS, Status(401), times=None))
        with pytest.raises(ClientRefusedError, match=r"refused 6 tokens in turn for one request\. Check the client id"):
            read(client)
        asked = len(emulator.requests)
        assert emulator.token_requests == RENEWALS_PER_REQUEST
        with pytest.raises(ClientRefusedError):
            list(client.pages("accounts", {}, {}))
        assert len(emulator.requests) == asked


def test_a_wrong_secret_is_told_once_with_the_cure_and_without_the_secret() -> None:
    with serving(appointedd_client_secret="wrong-canary") as (emulator, client):
        with pytest.raises(ClientRefusedError) as refusal:
            read(client)
        assert "'default': the token endpoint refuses it: invalid_client Unknown client or wrong secret" in str(
            refusal.value
        )
        assert "A secret is shown only once" in str(refusal.value)
        assert "wrong-canary" not in str(refusal.value) + repr(client.exchange._auth)
        with pytest.raises(ClientRefusedError):
            read(client)
        assert emulator.token_requests == 1
        assert emulator.count() == 0


def test_a_token_endpoint_that_repeats_the_secret_does_not_make_us_repeat_it() -> None:
    body = json.dumps({"error": "invalid_client", "error_description": "emu-secret is not yours"}).encode()
    with serving() as (emulator, client):
        emulator.faults.append(Fault(TOKENS, Status(401, body=body, content_type="application/json")))
        with pytest.raises(ClientRefusedError, match=r"\*\*\* is not yours"):
            read(client)


@pytest.mark.parametrize("way", ["basic", "post"])
@pytest.mark.parametrize(("client_id", "secret"), [("emu-client", "emu-secret"), ("odd:id+é /?%", "p:w+ö &=%20")])
def test_odd_characters_arrive_either_way(way: str, client_id: str, secret: str) -> None:
    switches = Switches(client_authentication=way)  # type: ignore[arg-type]  # one of its two words
    own = {"appointedd_client_id": client_id, "appointedd_client_secret": secret}
    with serving(switches, oauth={"client_authentication": way}, **own) as (emulator, client):
        seen: list[Request] = []
        emulator.hooks.append(lambda r: seen.append(r) if r.path.startswith("/oauth") else None)
        assert read(client) == 30
        (request,) = seen
        assert request.method == "POST"
        assert request.headers["accept"] == "application/json"
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        assert request.pairs == []
        form = parse_qs(request.body.decode(), keep_blank_values=True)
        assert form["grant_type"] == ["client_credentials"]
        assert ("authorization" in request.headers) == (way == "basic")
        assert ("client_secret" in form) == (way == "post")
        assert "scope" not in form


def test_basic_is_urlencoded_before_it_is_joined() -> None:
    own: dict[str, Any] = {"appointedd_client_id": "odd:id+é /?%", "appointedd_client_secret": "p:w+ö &=%20"}
    with serving(**own) as (emulator, client):
        seen: list[str] = []
        emulator.hooks.append(lambda r: seen.append(r.headers["authorization"]) if TOKENS(r) else None)
        read(client)
        assert (
            base64.b64decode(seen[0].removeprefix("Basic "))
            == b"odd%3Aid%2B%C3%A9+%2F%3F%25:p%3Aw%2B%C3%B6+%26%3D%2520"
        )


def test_a_scope_is_sent_where_the_contract_has_one() -> None:
    with serving(oauth={"scope": "read all"}) as (emulator, client):
        read(client)
        (request,) = [r for r in emulator.requests if r.path.startswith("/oauth")]
        assert request.query["scope"] == "read all"


HTML = Status(200, body=b"<html>maintenance</html>")


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(503, headers={"Retry-After": "3"}),
        Status(429, headers={"Retry-After": "1"}, body=b""),
        Status(408),
        HTML,
        Status(200, body=b'{"token_type": "Bearer"}', content_type="application/json"),
        Status(200, body=b'{"access_token": 7}', content_type="application/json"),
        Status(200, body=b'{"access_token": ""}', content_type="application/json"),
        Status(200, body=b'{"access_token": "t\\u00f6ken"}', content_type="application/json"),
        Status(200, body=b'["no"]', content_type="application/json"),
        Status(200, body=b'{"access_token": "two\\nlines"}', content_type="application/json"),
        Reset(),
    ],
)
def test_a_token_endpoint_that_stumbles_is_asked_again(fault: Status | Reset) -> None:
    with serving() as (emulator, client):
        client.exchange.rate._sleep = lambda _: None
        emulator.faults.append(Fault(TOKENS, fault, times=2))
        assert read(client) == 30
        assert emulator.token_requests == 3


@pytest.mark.parametrize("fault", [Status(500), HTML])
def test_a_token_endpoint_that_stays_down_is_given_up_and_not_called_a_refusal(fault: Status) -> None:
    with serving() as (emulator, client):
        emulator.faults.append(Fault(TOKENS, fault, times=None))
        with pytest.raises(GaveUpError, match="token endpoint"):
            read(client)
        assert emulator.token_requests == ATTEMPTS
        emulator.faults.clear()
        assert read(client) == 30


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b"", r"HTTP 404; is APPOINTEDD_TOKEN_URL right\?$"),
        (403, b"", r"HTTP 403; is APPOINTEDD_TOKEN_URL right\? Check the client id and secret"),
        (
            401,
            b'{"error": "invalid_client", "error_description": "who?"}',
            r"invalid_client who\?\. Check the client id",
        ),
        (302, b"", r"HTTP 302; is APPOINTEDD_TOKEN_URL right\?$"),
        (405, b"{}", "HTTP 405; is APPOINTEDD_TOKEN_URL right"),
        (401, b"<html/>", "refuses it: HTTP 401"),
        (400, b'{"error": "unauthorized_client"}', "refuses it: unauthorized_client"),
        (
            400,
            b'{"error": "invalid_scope", "error_description": "no such"}',
            r"refuses it: invalid_scope no such\. Give it the scope .*oauth\.scope",
        ),
        (
            415,
            b'{"error": "unsupported", "message": "send application/json"}',
            r"HTTP 415 \(unsupported send application/json\); is APPOINTEDD_TOKEN_URL",
        ),
        (
            403,
            b'{"title": "Forbidden", "detail": "audience missing", "code": 7}',
            r"HTTP 403 \(Forbidden audience missing\)",
        ),
        (401, b'{"error": {"code": 7}}', "refuses it: HTTP 401"),
        (500, b'{"error": "invalid_client"}', "refuses it: invalid_client"),
        (200, b'{"error": "invalid_client"}', r"refuses it: invalid_client\. Check the client id"),
    ],
)
def test_a_refusal_is_not_repeated(status: int, body: bytes, told: str) -> None:
    with serving() as (emulator, client):
        emulator.faults.append(Fault(TOKENS, Status(status, body=body), times=None))
        with pytest.raises(ClientRefusedError, match=told):
            read(client)
        assert emulator.token_requests == 1


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_nested_beyond_all_measure_is_a_refusal_without_words(status: int) -> None:
    body = b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with serving() as (emulator, client):
        emulator.faults.append(Fault(TOKENS, Status(status, body=body), times=None))
        with pytest.raises(ClientRefusedError, match=f"HTTP {status}"):
            read(client)


def test_a_byte_order_mark_before_json_is_no_part_of_it() -> None:
    with serving() as (emulator, client):
        emulator.faults.append(Fault(lambda _: True, Replace(lambda body: codecs.BOM_UTF8 + body), times=None))
        assert read(client) == 30
        assert client.look("customers", {"nonsense": "1"}).refused == ("nonsense",)
        assert (client.look("customers", {}).document or {}).keys() >= {"data"}
        assert emulator.token_requests == 1


def test_a_token_that_no_header_can_carry_stays_out_of_every_message(caplog: pytest.LogCaptureFixture) -> None:
    def spaced(body: bytes) -> bytes:
        return json.dumps(json.loads(body) | {"access_token": "canary-token "}).encode()

    with serving() as (emulator, client):
        emulator.faults.append(Fault(TOKENS, Replace(spaced), times=None))
        with caplog.at_level(0), pytest.raises(GaveUpError) as failure:
            read(client)
        assert "canary-token" not in caplog.text + str(failure.value)


# ---- with the clock in hand --------------------------------------------------------------------------------------------------


class Endpoint:
    """A token endpoint as a function: what it is asked, and answers by the test."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.now = 1000.0
        self.asked: list[httpx.Request] = []
        self.took = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.now += self.took
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, content=json.dumps({"access_token": f"t{len(self.asked)}"} | dict(answer)).encode())  # type: ignore[call-overload]

    def credentials(self, leeway: int = 60) -> ClientCredentials:
        client = ClientSettings(name="north", client_id="id", client_secret=SecretStr("canary"))
        oauth = load_contract().oauth.model_copy(update={"leeway_seconds": leeway})
        return ClientCredentials(client, SENT_TO, oauth, self, clock=lambda: self.now)


def served(auth: ClientCredentials, status: Callable[[str], int] = lambda _: 200) -> str:
    """The token with which a request got through."""
    flow = auth.sync_auth_flow(request := httpx.Request("GET", "https://api.example.test/v2/x"))
    next(flow)
    while True:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        try:
            flow.send(httpx.Response(status(token)))
        except StopIteration:
            return token


@pytest.mark.parametrize(
    ("lifetime", "leeway", "good_for"),
    [
        (3600, 60, 3540),
        ("3600", 60, 3540),
        (3600.5, 60, 3540.5),
        (3600, 0, 3600),
        (100, 60, 50),  # never more than half of it, or it would be renewed before every request
        (2, 60, 1),
        (0.5, 60, 0.25),
    ],
)
def test_a_token_is_renewed_before_it_expires(lifetime: object, leeway: int, good_for: float) -> None:
    endpoint = Endpoint({"expires_in": lifetime, "token_type": "bearer"})
    auth = endpoint.credentials(leeway)
    assert served(auth) == "t1"
    endpoint.now = 1000 + good_for - 0.01
    assert served(auth) == "t1"
    endpoint.now = 1000 + good_for
    assert served(auth) == "t2"
    assert served(auth) == "t2"


def test_a_lifetime_counts_from_the_question_not_from_the_answer() -> None:
    endpoint = Endpoint({"expires_in": 100, "token_type": "Bearer"})
    endpoint.took = 40
    auth = endpoint.credentials(leeway=10)
    assert served(auth) == "t1"
    endpoint.now = 1000 + 89
    assert served(auth) == "t1"
    endpoint.now = 1000 + 91
    assert served(auth) == "t2"


@pytest.mark.parametrize("lifetime", ["9" * 5_000, 10**400, 1e308])
def test_a_lifetime_beyond_all_measure_is_a_long_one(lifetime: object) -> None:
    endpoint = Endpoint({"expires_in": lifetime, "token_type": "bearer"})
    auth = endpoint.credentials()
    assert served(auth) == served(auth) == "t1"


@pytest.mark.parametrize("lifetime", [None, 0, -1, "", "soon", "-5", True, [3600], {}])
def test_without_a_lifetime_a_token_lasts_until_it_is_refused(lifetime: object) -> None:
    endpoint = Endpoint({"expires_in": lifetime} if lifetime is not None else {})
    auth = endpoint.credentials()
    assert served(auth) == "t1"
    endpoint.now += 1e9
    assert served(auth) == "t1"
    assert served(auth, lambda token: 401 if token == "t1" else 200) == "t2"
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "BearerToken", None, 7])
def test_bearer_tokens_of_any_spelling_will_do(kind: object) -> None:
    assert served(Endpoint({"token_type": kind}).credentials()) == "t1"


@pytest.mark.parametrize("kind", ["mac", "DPoP", ""])
def test_other_tokens_will_not(kind: str) -> None:
    auth = Endpoint({"token_type": kind}).credentials()
    with pytest.raises(ClientRefusedError, match="bearer tokens only"):
        served(auth)


def test_a_token_that_another_thread_has_renewed_is_used_as_it_is() -> None:
    endpoint = Endpoint({})
    auth = endpoint.credentials()
    served(auth)
    slow = auth.sync_auth_flow(httpx.Request("GET", "https://api.example.test/v2/slow"))
    next(slow)
    assert served(auth, lambda token: 401 if token == "t1" else 200) == "t2"
    again = slow.send(httpx.Response(401))
    assert again.headers["Authorization"] == "Bearer t2"
    assert len(endpoint.asked) == 2


def test_a_token_has_served_where_an_address_was_not_found() -> None:
    """It was taken all the same, so a later 401 is about its age, and what was not found is no place to try another at."""
    endpoint = Endpoint({})
    auth = endpoint.credentials()
    assert served(auth, lambda _: 404) == "t1"
    assert served(auth, lambda token: 404 if token == "t2" else 401) == "t2"
    good, other = (httpx.Request("GET", f"https://api.example.test/v2/{name}") for name in ("good", "other"))
    flow = auth.sync_auth_flow(good)
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(httpx.Response(200))
    flow = auth.sync_auth_flow(other)
    next(flow)
    assert flow.send(httpx.Response(401)) is other
    elsewhere = flow.send(httpx.Response(401))
    assert (elsewhere.url, elsewhere.headers["Authorization"]) == (good.url, "Bearer t3")


def test_a_token_that_comes_as_something_created_is_one() -> None:
    """Web frameworks answer a POST with 201 unless they are told otherwise."""
    created = httpx.Response(201, content=b'{"access_token": "new", "token_type": "Bearer"}')
    assert served(Endpoint(created).credentials()) == "new"


def test_trouble_at_the_endpoint_is_handed_on_and_forgotten() -> None:
    headers = {"Retry-After": "7", "Date": "Mon, 02 Mar 2026 02:00:00 GMT"}
    busy = httpx.Response(503, headers=headers, content=b'{"access_token": "of an answer that is none"}')
    auth = Endpoint(busy, {}).credentials()
    with pytest.raises(TroubleError) as trouble:
        served(auth)
    assert (trouble.value.status, trouble.value.retry_after) == (503, "7")
    assert trouble.value.date == "Mon, 02 Mar 2026 02:00:00 GMT"
    assert served(auth) == "t2"


def test_what_a_server_wrote_is_quoted_in_one_bounded_line_without_secrets() -> None:
    auth = Endpoint({"access_token": "issued-one"}).credentials()
    served(auth)
    text = "problem:\n issued-one,\tcanary, Y2FuYXJ5 and bearer abcdefgh.1 or Basic QUJDREVGR0g="
    assert auth.hide(text) == "problem: ***, ***, *** and bearer *** or Basic ***"
    assert auth.hide("x" * QUOTED) == "x" * QUOTED
    assert auth.hide("x" * (QUOTED + 1)) == "x" * QUOTED + "…"


def test_its_repr_is_a_name() -> None:
    assert repr(Endpoint({}).credentials()) == "ClientCredentials('north')"
