"""The API client against a real server that does what servers do: every form of paging, every refusal, every kind of trouble."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from resources import exchange
from resources.appointedd import ApiClient, open_clients
from resources.chain import MOST_EMPTY_PAGES
from resources.contract import load_contract
from resources.envelope import Plain
from resources.errors import (
    AbilityRefusedError,
    BrokenAnswerError,
    ClientRefusedError,
    DeadCursorError,
    GaveUpError,
    SliceError,
    UnprovenEndError,
)
from resources.pages import Page
from resources.rate import RateBudget
from resources.retries import ATTEMPTS
from resources.settings import Settings
from tests.emulator import (
    ORGANISATIONS,
    Emulator,
    Fault,
    Replace,
    Reset,
    SetHeaders,
    Status,
    Switches,
    Truncate,
    World,
    on,
)
from tests.emulator.faults import Action
from tests.emulator.messages import Request
from tests.emulator.query import encode_cursor

Json = dict[str, Any]
API = on("/v2/")
SECRET_WORDS = ("emu-secret", "Bearer ", "Basic ")


class Waits:
    """Time for a rate budget: it passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Bench:
    """A client at a server, and the levers."""

    def __init__(self, emulator: Emulator, client: ApiClient) -> None:
        self.emulator = emulator
        self.client = client
        self.world = emulator.world
        self.waits = Waits()
        client.exchange.rate = RateBudget(1e6, lambda: self.waits.now, self.waits.sleep)

    def pages(self, stream: str = "customers", **filters: str) -> list[Page]:
        return list(self.client.pages(stream, filters, {}))

    def ids(self, stream: str = "customers", **filters: str) -> list[str]:
        return [record["id"] for page in self.pages(stream, **filters) for record in page.records]

    def fault(self, action: Action, match: Callable[[Request], bool] = API, times: int | None = 1) -> None:
        self.emulator.faults.append(Fault(match, action, times))

    def answer(
        self, change: Callable[[Json], Json], match: Callable[[Request], bool] = API, times: int | None = 1
    ) -> None:
        self.fault(Replace(lambda body: json.dumps(change(json.loads(body))).encode()), match, times)

    def sizes(self, value: str, stream: str | None = None, **own: Any) -> None:
        """Another page size, or other entries of the contract."""
        contract = self.client.contract
        if stream:
            streams = contract.streams | {stream: contract.streams[stream].model_copy(update=own)}
            contract = contract.model_copy(update={"streams": streams})
        parameters = contract.parameters.model_copy(update={"page_size_value": value})
        self.client.contract = contract.model_copy(update={"parameters": parameters})

    def asked(self, path: str) -> list[dict[str, str]]:
        return [r.query for r in self.emulator.requests if r.path == "/v2/" + path]


@contextmanager
def bench(switches: Switches | None = None, **own: Any) -> Iterator[Bench]:
    world = World(seed=2, accounts=2, customers=25, bookings=25, events=3)
    with Emulator(world, switches) as emulator:
        values: dict[str, Any] = {name.lower(): value for name, value in emulator.environment().items()}
        contract = load_contract().model_copy(update=own)
        plain = Settings(_env_file=None, sync_requests_per_second=1e6, **values)  # type: ignore[call-arg]
        (client,) = open_clients(plain, contract)
        with client:
            one = Bench(emulator, client)
            one.sizes("10")
            yield one


def first_page(request: Request) -> bool:
    return request.path.startswith("/v2/") and "page[after]" not in request.query


def later_page(request: Request) -> bool:
    return request.path.startswith("/v2/") and "page[after]" in request.query


# ---- paging ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", ["absolute", "relative", "object"])
@pytest.mark.parametrize("paging", ["cursor", "number", "offset"])
def test_a_walk_follows_the_links_to_the_end(links: Any, paging: Any) -> None:
    with bench(Switches(links=links, paging=paging)) as b:
        pages = b.pages()
        assert sorted(r["id"] for p in pages for r in p.records) == sorted(c.id for c in b.world.customers)
        assert [len(p.records) for p in pages] == [10, 10, 5]
        assert [p.next_url is None for p in pages] == [False, False, True]
        assert [p.is_shifting for p in pages] == [paging != "cursor", paging != "cursor", False]
        assert {p.fetched_at for p in pages} == {b.world.clock.now()}
        assert {p.media_type for p in pages} == {"application/vnd.api+json"}
        assert {p.total for p in pages} == {None}


@pytest.mark.parametrize("spelling", ["//{netloc}{rest}", "?{query}", "{path}?{query}", {"href": "{path}?{query}"}])
def test_relative_references_are_resolved_against_the_page(spelling: Any) -> None:
    def respell(document: Json) -> Json:
        link = document["links"]["next"]
        if link:
            parts = urlsplit(link)
            words = {
                "netloc": parts.netloc,
                "rest": f"{parts.path}?{parts.query}",
                "path": parts.path,
                "query": parts.query,
            }
            text = (spelling["href"] if isinstance(spelling, dict) else spelling).format(**words)
            document["links"]["next"] = {"href": text, "meta": {}} if isinstance(spelling, dict) else text
        return document

    with bench() as b:
        b.answer(respell, times=None)
        assert len(set(b.ids())) == 25


@pytest.mark.parametrize("end", [None, "", {"href": None}, {"meta": {}}])
def test_every_form_of_no_next_link_is_the_end(end: object) -> None:
    with bench() as b:
        b.answer(lambda d: d | {"links": {"next": end}})
        assert len(b.pages()) == 1


def test_an_absent_next_member_is_the_end_where_others_show_paging() -> None:
    with bench() as b:
        b.answer(lambda d: d | {"links": {"first": "/v2/customers?page=1", "last": {"href": "/v2/customers?page=1"}}})
        assert len(b.pages()) == 1


@pytest.mark.parametrize(
    "link",
    [
        "https://127.0.0.1/v2/customers",
        "http://evil.example.test/v2/customers",
        "//evil.example.test/v2/customers",
        "http://127.0.0.1:1/v2/customers",
        "http://localhost.evil.example.test/",
        {"href": "http://evil.example.test/"},
        "file:///etc/passwd",
        "javascript:alert(1)",
    ],
)
def test_a_link_to_another_origin_is_never_followed(link: object) -> None:
    with bench() as b:
        b.answer(lambda d: d | {"links": {"next": link}})
        with pytest.raises(BrokenAnswerError, match="another origin"):
            b.pages()
        assert b.emulator.count() == 1


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:99999/x", "http://[::1/x", "/v2/\x01", 7, ["/v2/customers"], True, {"href": 7}]
)
def test_a_link_that_is_no_link_is_a_broken_answer(link: object) -> None:
    with bench() as b:
        b.answer(lambda d: d | {"links": {"next": link}})
        with pytest.raises(BrokenAnswerError, match="next link"):
            b.pages()


def test_a_next_link_that_comes_round_again_is_an_error() -> None:
    with bench() as b:
        links: list[object] = []

        def turn(document: Json) -> Json:
            links.append(document["links"]["next"])
            return document | {"links": {"next": links[0]}}

        b.answer(turn, times=None)
        with pytest.raises(BrokenAnswerError, match="never end"):
            b.pages()
        assert b.emulator.count() == 2


SINCE = "filter[updatedAfter]"
# More digits than Python makes a number of by itself.
ENDLESS = "9" * 5_000


def linked(**changes: Any) -> Callable[[Json], Json]:
    """A document whose next link has its parameters changed; None takes one out."""

    def change(document: Json) -> Json:
        link = document["links"]["next"]
        if link is not None:
            path, _, text = link.partition("?")
            query = {k: v for k, v in (dict(parse_qsl(text)) | changes.get("query", {})).items() if v is not None}
            if changes.get("only"):
                query = {k: v for k, v in query.items() if k in changes["only"]}
            document["links"]["next"] = f"{path}?{urlencode(query)}"
        return document

    return change


@pytest.mark.parametrize(
    ("lost", "change", "told"),
    [
        (SINCE, linked(query={SINCE: None}), "goes on without it .ability 'filters'"),
        ("filter[account]", linked(query={"filter[account]": None}), "goes on without it .ability 'account_filter'"),
        ("filter[status]", linked(query={"filter[status]": None}), "streams.customers.queries"),
        (SINCE, linked(query={"page[number]": "2"}, only=("page[number]", "page[size]")), "ability 'filters'"),
        ("sort", linked(query={"page[number]": "2", "sort": None}), "goes on without it .ability 'sort'"),
        ("page[size]", linked(query={"page[number]": "3", "page[size]": None}), "without it .ability 'page_size'"),
        ("page[size]", linked(query={"page[number]": "2", "page[size]": ENDLESS}), "without it .ability 'page_size'"),
    ],
)
def test_a_next_link_that_has_lost_a_parameter_is_not_followed(lost: str, change: Any, told: str) -> None:
    with bench(Switches(unknown_parameters="ignore")) as b:
        b.answer(change, times=None)
        account = b.world.customers.rows()[0].account_id
        filters = {SINCE: "2020-01-01T00:00:00Z", "filter[account]": account}
        b.sizes("2")
        own = {lost: "confirmed"} if lost == "filter[status]" else {}
        with pytest.raises(BrokenAnswerError if own else AbilityRefusedError, match=told) as caught:
            list(b.client.pages("customers", filters, own))
        assert repr(lost) in str(caught.value)
        assert len(b.asked("customers")) == 1


@pytest.mark.parametrize(
    "change",
    [
        linked(only=("page[after]",)),
        linked(only=("page[after]", "page[size]")),
        linked(query={SINCE: None, "since": "2020-01-01T00:00:00Z"}),
        linked(query={SINCE: "2020-01-01T00:00:00+00:00"}),
        linked(query={"sort": None}),
        linked(query={"page[size]": None}),
    ],
)
def test_a_next_link_that_carries_its_list_in_its_own_way_is_followed(change: Any) -> None:
    with bench(Switches(unknown_parameters="ignore")) as b:
        b.answer(change, times=1)
        pages = b.client.pages("customers", {SINCE: "2020-01-01T00:00:00Z"}, {})
        next(pages)
        with suppress(DeadCursorError):  # the emulator's own cursors need the rest
            next(pages)
        assert len(b.asked("customers")) == 2


def test_a_link_that_counts_on_beyond_all_measure_steps_over_rows() -> None:
    with bench(Switches(paging="offset")) as b:
        b.answer(linked(query={"page[offset]": ENDLESS}))
        end = Status(200, body=b'{"data": [], "links": {"next": null}}', content_type="application/vnd.api+json")
        b.fault(end, lambda r: ENDLESS in r.query.values())
        with pytest.raises(UnprovenEndError, match="no more than 10"):
            b.pages()


def test_null_for_a_list_is_an_empty_one_only_where_the_contract_says_so() -> None:
    with bench() as b:
        b.answer(lambda d: d | {"data": None, "links": {"next": None}}, times=None)
        with pytest.raises(BrokenAnswerError, match="null_is_empty"):
            b.pages()
        assert len(b.asked("customers")) == 1
    with bench(document=load_contract().document.model_copy(update={"null_is_empty": True})) as b:
        b.answer(lambda d: d | {"data": None, "links": {"next": None}}, times=None)
        assert [page.count for page in b.pages()] == [0]


def test_a_404_to_a_filtered_list_may_be_an_empty_one() -> None:
    with bench() as b:
        b.fault(Status(404), times=None)
        with pytest.raises(GaveUpError, match=r"streams\.customers\.filters = false"):
            b.pages(**{SINCE: "2020-01-01T00:00:00Z"})
        with pytest.raises(GaveUpError) as caught:
            b.pages()
        assert "filters = false" not in str(caught.value)


def test_no_cache_on_the_way_may_answer_in_the_place_of_the_api() -> None:
    with bench() as b:
        asked: list[str | None] = []
        b.emulator.hooks.append(lambda r: asked.append(r.headers.get("cache-control")) if API(r) else None)
        b.pages()
        assert set(asked) == {"no-cache"}


def test_an_empty_page_does_not_end_a_walk() -> None:
    with bench() as b:
        b.answer(lambda d: d | {"data": []}, later_page)
        pages = b.pages()
        assert [len(p.records) for p in pages] == [10, 0, 5]


@pytest.mark.parametrize("count", [10, 20, 25, 50, 100, 7])
def test_a_page_without_any_pagination_that_may_just_be_full_is_unproven(count: int) -> None:
    rows = [{"type": "customers", "id": str(n)} for n in range(count)]
    with bench() as b:
        b.sizes("7")
        b.answer(lambda _: {"data": rows})
        with pytest.raises(UnprovenEndError, match=f"exactly {count} records"):
            b.pages()


@pytest.mark.parametrize(
    ("count", "rest"),
    [
        (9, {}),
        (0, {}),
        (10, {"links": {"self": "/x", "prev": None}}),
        (10, {"links": {"next": None}}),
        (10, {"meta": {"total": 10}}),
    ],
)
def test_a_page_that_shows_its_end_is_proven(count: int, rest: Json) -> None:
    rows = [{"type": "customers", "id": str(n)} for n in range(count)]
    with bench() as b:
        b.answer(lambda _: {"data": rows} | rest)
        assert len(b.pages()[0].records) == count


@pytest.mark.parametrize(
    "links", [{"self": "/v2/customers"}, {"first": "/v2/customers"}, {"last": "/v2/customers?c=x"}]
)
def test_links_without_pagination_prove_nothing(links: Json) -> None:
    with bench() as b:
        b.answer(lambda d: {"data": d["data"], "links": links})
        with pytest.raises(UnprovenEndError, match="exactly 10 records"):
            b.pages()


@pytest.mark.parametrize(
    ("rest", "place", "told"),
    [
        ({"meta": {"nextCursor": "abc"}}, "meta.nextCursor", "says that there is one"),
        (
            {"links": {"next": None}, "meta": {"page": {"next_page": 2}}},
            "meta.page.next_page",
            "says that there is one",
        ),
        ({"next": "/v2/customers?page=2"}, "next", "says that there is one"),
        ({"links": {"next": None}, "meta": {"hasMore": True}}, "meta.hasMore", "says that there is one"),
        ({"pageInfo": {"hasNextPage": True}}, "pageInfo.hasNextPage", "says that there is one"),
        ({"meta": {"current_page": 1, "last_page": 2}}, "meta.last_page", "counts several pages"),
        ({"meta": {"page": {"current": 1, "pages": 7}}}, "meta.page.pages", "counts several pages"),
        (
            {"meta": {"pagination": {"count": 10, "total_count": 25}}},
            "meta.pagination.total_count",
            "counts more records",
        ),
        ({"links": {"first": "/x?page=1", "last": "/x?page=3"}}, "links.last", "leads to another page"),
        ({"links": {"first": "/x?page=1", "last": f"/x?page={ENDLESS}"}}, "links.last", "leads to another page"),
        (
            {"links": {"self": "/x?page[size]=9", "last": {"href": "/x?page[size]=10&page[offset]=20"}}},
            "links.last",
            "another page",
        ),
    ],
)
def test_a_page_that_says_elsewhere_that_there_is_more_is_no_end(rest: Json, place: str, told: str) -> None:
    with bench() as b:
        b.answer(lambda d: {"data": d["data"]} | rest, times=None)
        with pytest.raises(UnprovenEndError, match=told) as caught:
            next(b.client.pages("customers", {}, {}))  # whoever takes the first page alone is told, too
        assert f"{place} " in str(caught.value)
        assert "document.next" in str(caught.value)
        document = b.client.contract.document.model_copy(update={"ignored_marks": (place,), "lists_are_whole": True})
        b.client.contract = b.client.contract.model_copy(update={"document": document})
        b.client._answers._contract = b.client.contract
        assert len(b.pages()) == 1


@pytest.mark.parametrize(
    "rest",
    [
        {"meta": {"nextCursor": None, "hasMore": False, "next_page": 0, "cursors": {"after": "abc"}}},
        {"links": {"next": None}, "meta": {"page": {"total": 9, "pages": 1}, "nextPageToken": ""}},
        {"links": {"next": None, "first": "/x?page=0", "last": "/x?page=0"}, "meta": {"count": 9, "has_more": "no"}},
        {"links": {"next": None, "self": "/x", "last": "/x?page[number]=1&page[size]=100"}},
        {"links": {"next": None, "self": "/x?page[size]=10", "last": "/x?page[size]=100"}},
        {"links": {"next": None, "first": "/x?page[size]=10", "last": "/x?page[size]=10&page[before]=4711"}},
        {"links": {"next": None, "last": "http://[::1"}, "meta": {"pages": ["a"], "links": [{"url": "/x?page=2"}]}},
    ],
)
def test_members_that_say_nothing_of_more_are_no_sign_of_it(rest: Json) -> None:
    with bench() as b:
        b.sizes("7", "customers")
        rows = [{"type": "customers", "id": str(n)} for n in range(9)]
        b.answer(lambda _: {"data": rows} | rest)
        assert len(b.pages()) == 1


def test_the_last_page_of_a_chain_that_was_followed_is_believed_unless_it_says_yes() -> None:
    numbers = {
        "meta": {"page": 3, "pages": 7, "nextCursor": "later", "count": 99},
        "links": {"first": "/x?page=1", "last": "/x?page=3"},
    }

    def is_end(document: Json) -> bool:
        return len(document["data"]) == 5

    with bench() as b:
        b.answer(lambda d: d | numbers if is_end(d) else d, times=None)
        assert len(b.pages()) == 3
        b.emulator.faults.clear()
        b.answer(lambda d: d | {"links": {"next": None}, "meta": {"has_more": True}} if is_end(d) else d, times=None)
        with pytest.raises(UnprovenEndError, match=r"meta\.has_more"):
            b.pages()


def test_a_count_that_may_leave_filters_out_of_account_is_a_sign_only_where_the_contract_says_that_totals_count() -> (
    None
):
    with bench() as b:
        b.answer(lambda d: d | {"links": {"next": None}, "meta": {"totalCount": 155}}, times=None)
        since = {"filter[updatedAfter]": "2020-01-01T00:00:00Z"}
        with pytest.raises(UnprovenEndError, match="totalCount"):
            b.pages(**since)
        document = b.client.contract.document.model_copy(update={"total": ""})
        b.client.contract = b.client.contract.model_copy(update={"document": document})
        assert len(b.pages(**since)) == 1
        with pytest.raises(UnprovenEndError, match="totalCount"):
            b.pages()


@pytest.mark.parametrize(
    ("total", "read"),
    [
        *((25, 25), ("25", 25), (25.0, 25), (0, 0), ("0", 0)),
        *((True, None), (None, None), (2.5, None), (-1, None), ("", None), ("-1", None), ("2.5", None), ("many", None)),
        *((10**17, 10**17), (10**18, None), ("9" * 18, 10**18 - 1)),
        *(("9" * 30, None), ("\u0662\u0665", None), ([25], None)),
    ],
)
def test_a_total_is_a_whole_number_or_nothing(total: object, read: int | None) -> None:
    with bench() as b:
        b.answer(lambda d: d | {"meta": {"total": total}})
        page = next(b.client.pages("customers", {}, {}))
        assert page.total == read


def test_numbers_arrive_as_written() -> None:
    with bench() as b:
        b.fault(
            Replace(
                b'{"data": [{"price": 0.10, "deposit": 12.1, "whole": 3, "big": 12345678901234567890.5}], "links": {"next": null}}'
            )
        )
        (page,) = b.pages()
        assert list(map(str, page.records[0].values())) == ["0.10", "12.1", "3", "12345678901234567890.5"]
        assert isinstance(page.records[0]["price"], Decimal)


def test_a_dialect_of_other_names_is_spoken_through_the_contract_alone() -> None:
    with bench(Switches(naming=ORGANISATIONS)) as b:
        b.sizes("10", "events", sort="updated_at")
        assert {r["type"] for r in b.pages("events")[0].records} == {"events"}
        b.sizes("10", "accounts", path="organisations")
        assert len(b.ids("accounts")) == 2


def test_a_walk_through_empty_pages_that_always_name_a_next_one_ends() -> None:
    numbers = itertools.count()

    def endless(document: Json) -> Json:
        cursor = encode_cursor("created", (next(numbers), "nobody"))
        return document | {"data": [], "links": {"next": f"/v2/customers?page[after]={cursor}"}}

    with bench() as b:
        b.answer(endless, later_page, times=None)
        with pytest.raises(UnprovenEndError, match=f"{MOST_EMPTY_PAGES + 1} pages in a row hold no record"):
            b.pages()
        assert len(b.asked("customers")) == MOST_EMPTY_PAGES + 2


# ---- what is asked -----------------------------------------------------------------------------------------------------------


def test_first_pages_carry_the_optional_parameters_and_later_ones_the_link_alone() -> None:
    with bench() as b:
        b.pages("bookings", **{"filter[updatedAfter]": "2020-01-01T00:00:00Z"})
        first, *others = b.asked("bookings")
        assert first == {
            "page[size]": "10",
            "sort": "updated",
            "include": "customerBookings",
            "filter[updatedAfter]": "2020-01-01T00:00:00Z",
        }
        assert others
        assert all(o.keys() == first.keys() | {"page[after]"} for o in others)


def test_brackets_are_encoded_and_the_headers_are_those_of_json_api() -> None:
    seen: list[Request] = []
    with bench() as b:
        b.emulator.hooks.append(seen.append)
        b.pages("accounts")
        request = seen[-1]
        assert "page%5Bsize%5D=10" in request.target
        assert "[" not in request.target
        assert request.headers["accept"] == "application/vnd.api+json"
        assert "content-type" not in request.headers
        assert request.body == b""


def test_a_contract_without_abilities_sends_nothing() -> None:
    names = load_contract().abilities
    with bench(abilities=names.model_copy(update=dict.fromkeys(type(names).model_fields, False))) as b:
        assert len(set(b.ids("bookings"))) == 25
        assert b.asked("bookings")[0] == {}
        assert not any(
            b.client.has("customers", a) for a in ("filters", "upper_bound", "sort", "include", "single", "page_size")
        )


def test_an_ability_without_a_name_is_no_ability() -> None:
    parameters = load_contract().parameters.model_copy(update=dict.fromkeys(("updated_since", "sort", "account"), ""))
    with bench(parameters=parameters) as b:
        assert [b.client.has("customers", a) for a in ("filters", "upper_bound", "sort", "account_filter")] == [
            False
        ] * 4


def test_nothing_but_get_and_the_token_request_is_ever_sent() -> None:
    with bench() as b:
        b.fault(Status(503), times=3)
        b.fault(Status(401), later_page)
        b.ids("accounts")
        b.ids()
        b.ids("bookings")
        b.client.single("customers", next(iter(b.world.customers)).id)
        b.client.single("customers", "none")
        methods = Counter((r.method, r.path.split("/")[1]) for r in b.emulator.requests)
        assert methods.keys() == {("GET", "v2"), ("POST", "oauth")}
        assert not [name for name in vars(ApiClient) if name in ("post", "put", "patch", "delete", "request")]


# ---- single records ----------------------------------------------------------------------------------------------------------


def test_a_single_record_comes_as_a_page_of_one_with_its_included() -> None:
    with bench() as b:
        booking = next(x for x in b.world.bookings if x.participants)
        page = b.client.single("bookings", booking.id)
        assert page is not None
        assert page.records[0]["id"] == booking.id
        assert {i["id"] for i in page.included} == {p.id for p in booking.participants}
        assert page.fetched_at == b.world.clock.now()


def test_a_single_record_whose_id_makes_no_address_is_trouble_of_its_own() -> None:
    with bench() as b, pytest.raises(BrokenAnswerError, match=r"Nothing can be asked for at .*URL too long"):
        b.client.single("bookings", "x" * 100_000)


def test_a_single_404_is_none_and_other_refusals_are_not() -> None:
    with bench() as b:
        assert b.client.single("customers", "gone") is None
        b.fault(Status(410))
        assert b.client.single("customers", "gone") is None
        for status in (403, 400):
            b.fault(Status(status))
            with pytest.raises(GaveUpError, match=r"abilities\.single = false") as caught:
                b.client.single("customers", "gone")
            assert caught.value.status == status
        b.fault(Status(503), times=None)
        with pytest.raises(GaveUpError, match="Gave up after"):
            b.client.single("customers", "gone")
        b.emulator.faults.clear()
        b.answer(lambda d: d | {"data": None}, times=None)
        before = b.emulator.count()
        with pytest.raises(BrokenAnswerError, match=r"abilities\.single = false"):
            b.client.single("customers", next(iter(b.world.customers)).id)
        assert b.emulator.count() == before + 1
        b.emulator.faults.clear()
        b.answer(lambda d: d | {"data": [d["data"]]})
        with pytest.raises(BrokenAnswerError, match="without an object"):
            b.client.single("customers", next(iter(b.world.customers)).id)


@pytest.mark.parametrize("record_id", ["../accounts", "a/b", "a?b=c", "a#b", "é ü", "%2e%2e", "a\\b"])
def test_an_id_stays_one_segment_of_the_path(record_id: str) -> None:
    seen: list[Request] = []
    with bench() as b:
        b.emulator.hooks.append(seen.append)
        assert b.client.single("customers", record_id) is None
        assert seen[-1].path == "/v2/customers/" + record_id
        assert seen[-1].target.count("/") == 3
        assert seen[-1].pairs == []


# ---- relationships with pages of their own -----------------------------------------------------------------------------------


def split_linkage(b: Bench, form: str) -> tuple[str, list[Any]]:
    """Cut the participants of one booking into pages of one: the first in the record, the rest behind the relationship's next link."""
    booking = max(b.world.bookings, key=lambda x: len(x.participants))
    assert len(booking.participants) >= 3
    kept: list[Any] = []
    path = f"/v2/bookings/{booking.id}/relationships/customerBookings"

    def link(number: int) -> object:
        text = f"{path}?page={number}"
        return {"object": {"href": text}, "relative": text, "absolute": b.emulator.origin + text}[form]

    def one(record: Json) -> None:
        relationship = record["relationships"]["customerBookings"]
        kept[:] = relationship["data"]
        relationship |= {"data": kept[:1], "links": {"self": path, "next": link(1)}}

    def of_list(document: Json) -> Json:
        data = document["data"]
        for record in data if isinstance(data, list) else [data]:
            if record["id"] == booking.id:
                one(record)
        return document

    def page(number: int) -> bytes:
        following = link(number + 1) if number + 1 < len(kept) else None
        return json.dumps({"data": [kept[number]], "links": {"next": following}}).encode()

    b.answer(of_list, lambda r: r.path.startswith("/v2/bookings") and r.path != path, times=None)
    # A status answers in the place of the server; the body is made when it is needed, from what was cut before.
    b.emulator.hooks.append(
        lambda r: answers.update({n: page(n) for n in range(1, len(kept))}) if r.path == path else None
    )
    answers: dict[int, bytes] = {}
    for number in range(1, len(booking.participants)):
        b.emulator.faults.append(
            Fault(
                lambda r, n=number: r.path == path and r.query.get("page") == str(n),  # type: ignore[misc]
                Replace(lambda _, n=number: answers[n]),  # type: ignore[misc]
                None,
            )
        )
        b.emulator.faults.append(
            Fault(lambda r: r.path == path, Status(200, content_type="application/vnd.api+json"), None)
        )
    return booking.id, [p.id for p in booking.participants]


@pytest.mark.parametrize("form", ["absolute", "relative", "object"])
def test_a_linkage_in_pages_is_read_to_its_end(form: str) -> None:
    with bench() as b:
        b.sizes("100")
        booking_id, participants = split_linkage(b, form)
        (page,) = b.pages("bookings")
        (record,) = [r for r in page.records if r["id"] == booking_id]
        assert [i["id"] for i in record["relationships"]["customerBookings"]["data"]] == participants
        assert "next" not in record["relationships"]["customerBookings"]["links"]


def test_a_linkage_in_pages_of_a_single_record_is_read_to_its_end() -> None:
    with bench() as b:
        booking_id, participants = split_linkage(b, "relative")
        page = b.client.single("bookings", booking_id)
        assert page is not None
        assert [i["id"] for i in page.records[0]["relationships"]["customerBookings"]["data"]] == participants


def test_a_linkage_page_that_fails_ends_the_slice_instead_of_cutting_the_list() -> None:
    with bench() as b:
        b.sizes("100")
        split_linkage(b, "relative")
        b.emulator.faults.insert(0, Fault(lambda r: "relationships" in r.path, Status(403), None))
        with pytest.raises(GaveUpError):
            b.pages("bookings")


@pytest.mark.parametrize(
    ("link", "told"), [("http://evil.example.test/", "another origin"), ("/v2/customers/1/friends", "circle")]
)
def test_a_linkage_link_is_as_untrusted_as_any(link: str, told: str) -> None:
    relationship = {"data": [], "links": {"next": link}}
    row = {"type": "customers", "id": "1", "relationships": {"friends": relationship}}
    with bench() as b:
        b.answer(lambda _: {"data": [row], "links": {"next": None}})
        b.fault(
            Status(200, body=json.dumps({"data": [], "links": {"next": link}}).encode()), on("/v2/customers/1/"), None
        )
        with pytest.raises(BrokenAnswerError, match=told):
            b.pages()


def test_a_relationship_without_data_is_left_alone() -> None:
    relationship = {"links": {"next": "/v2/customers?page=2"}}
    row = {
        "type": "customers",
        "id": "1",
        "relationships": {"a": relationship, "b": None, "c": {"data": None, "links": 7}},
    }
    with bench() as b:
        b.answer(lambda _: {"data": [row, 7, None], "links": {"next": None}})
        (page,) = b.pages()
        assert page.records == [row, 7, None]


# ---- refusals ----------------------------------------------------------------------------------------------------------------

FILTERS = {"filter[updatedAfter]": "2020-01-01T00:00:00Z", "filter[updatedBefore]": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("switches", "stream", "filters", "ability"),
    [
        (Switches(sort=False), "customers", {}, "sort"),
        (Switches(page_size=False), "customers", {}, "page_size"),
        (Switches(include=False), "bookings", {}, "include"),
        (Switches(filters=False), "customers", FILTERS, "filters"),
        (Switches(upper_bound=False), "customers", FILTERS, "upper_bound"),
        (Switches(account_filter=frozenset()), "customers", {"filter[account]": "a"}, "account_filter"),
        (Switches(max_page_size=5), "customers", {}, "page_size"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_refused_parameter_names_its_ability(
    switches: Switches, stream: str, filters: dict[str, str], ability: str, is_named: bool
) -> None:
    with bench(switches) as b:
        b.client.without.add((stream, "include" if ability != "include" else ""))
        if not is_named:
            b.fault(Replace(b"<html>Bad Request</html>"), lambda r: r.path.startswith("/v2/") and b_is_bad(b, r), None)
        with pytest.raises(AbilityRefusedError) as refusal:
            b.pages(stream, **filters)
        assert (refusal.value.stream, refusal.value.ability) == (stream, ability)
        assert f"ability '{ability}'" in str(refusal.value)
        b.client.without.add((stream, ability))
        kept = {k: v for k, v in filters.items() if b.client.ability_of(k) != ability}
        if ability == "filters":
            kept = {}
        assert len(b.ids(stream, **kept)) == 25


def b_is_bad(b: Bench, request: Request) -> bool:
    """Whether the emulator refuses this request: known from the parameters that its dialect lacks."""
    s, q = b.emulator.switches, request.query
    return (
        (not s.sort and "sort" in q)
        or ((not s.page_size or s.max_page_size < 10) and "page[size]" in q)
        or (not s.include and "include" in q)
        or (not s.filters and any(k.startswith("filter[up") for k in q))
        or (not s.upper_bound and "filter[updatedBefore]" in q)
        or (not s.account_filter and "filter[account]" in q)
    )


def test_several_unnamed_refusals_drop_one_ability_after_the_other() -> None:
    bare = Status(400, body=b"")
    with bench() as b:
        b.fault(
            bare, lambda r: r.path == "/v2/bookings" and bool({"sort", "filter[updatedAfter]"} & r.query.keys()), None
        )
        dropped = []
        filters = {"filter[updatedAfter]": "2020-01-01T00:00:00Z"}
        while True:
            try:
                assert len(b.ids("bookings", **filters)) == 25
                break
            except AbilityRefusedError as refusal:
                dropped.append(refusal.ability)
                b.client.without.add(("bookings", refusal.ability))
                if refusal.ability == "filters":
                    filters = {}
        assert sorted(dropped) == ["filters", "sort"]  # and nothing that the server knows


@pytest.mark.parametrize(
    ("one", "other", "ability"),
    [
        ("sort", "page[size]", "page_size"),
        ("sort", "filter[updatedAfter]", "sort"),
        ("include", "filter[updatedAfter]", "filters"),
    ],
)
def test_of_parameters_that_are_refused_only_together_one_that_is_too_many_goes(
    one: str, other: str, ability: str
) -> None:
    with bench() as b:
        b.fault(Status(400, body=b""), lambda r: r.path == "/v2/bookings" and {one, other} <= r.query.keys(), None)
        filters = {SINCE: "2020-01-01T00:00:00Z"}
        with pytest.raises(AbilityRefusedError, match=r"beside the others, each of which it takes alone") as refusal:
            b.pages("bookings", **filters)
        assert refusal.value.ability == ability
        assert repr(one if ability == "sort" else other) in str(refusal.value)
        b.client.without.add(("bookings", ability))
        assert len(b.ids("bookings", **({} if ability == "filters" else filters))) == 25


def test_parameters_of_which_only_one_is_taken_at_a_time_are_dropped_one_by_one() -> None:
    with bench() as b:
        b.fault(Status(400, body=b""), lambda r: r.path == "/v2/customers" and first_page(r) and len(r.query) > 1, None)
        filters = {"filter[updatedAfter]": "2020-01-01T00:00:00Z"}
        for ability in ("page_size", "sort"):
            with pytest.raises(AbilityRefusedError, match=r"together|beside the others") as refusal:
                b.pages(**filters)
            assert refusal.value.ability == ability
            b.client.without.add(("customers", ability))
        assert len(b.ids(**filters)) == 25


def test_a_400_that_stays_without_parameters_is_no_ability() -> None:
    with bench() as b:
        b.fault(Status(400, body=b'{"errors": [{"title": "Closed", "detail": "for good"}]}'), times=None)
        with pytest.raises(GaveUpError, match=r"HTTP 400 on GET /v2/customers \(Closed, for good\)"):
            b.pages()


def test_a_refused_query_of_the_contract_itself_is_no_ability() -> None:
    with bench() as b, pytest.raises(GaveUpError, match="nonsense"):
        list(b.client.pages("accounts", {}, {"nonsense": "1"}))


def test_a_refused_ability_belongs_to_its_stream() -> None:
    with bench() as b:
        b.client.without.add(("customers", "filters"))
        assert not b.client.has("customers", "filters")
        assert not b.client.has("customers", "upper_bound")
        assert b.client.has("bookings", "upper_bound")


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422])
def test_a_next_link_that_the_server_refuses_is_a_dead_cursor(status: int) -> None:
    with bench() as b:
        b.fault(Status(status), later_page)
        with pytest.raises(DeadCursorError, match=f"HTTP {status}"):
            b.pages()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (404, "Is APPOINTEDD_BASE_URL right, and streams.customers.path in the contract"),
        (403, "its creator can change its permissions"),
        (301, "Redirects are not followed"),
        (302, "is APPOINTEDD_BASE_URL right"),
        (405, "HTTP 405"),
        (406, "HTTP 406"),
    ],
)
def test_a_refusal_is_told_with_its_cure_and_not_repeated(status: int, told: str) -> None:
    with bench() as b:
        b.fault(Status(status, headers={"Location": "http://evil.example.test/"}), times=None)
        with pytest.raises(GaveUpError, match=told):
            b.pages()
        assert b.emulator.count() == 1


@pytest.mark.parametrize("target", ["javascript:alert(1)", "http://xn--/", "http://[::1", "/x?" + "a" * 70_000])
def test_a_redirect_to_what_is_no_address_ends_its_slice_alone(target: str) -> None:
    with bench() as b:
        b.fault(Status(302, headers={"Location": target}), times=None)
        with pytest.raises(GaveUpError, match="GET /v2/customers"):
            b.pages()


def test_letters_beyond_ascii_in_a_header_do_no_harm() -> None:
    with bench() as b:
        b.fault(
            SetHeaders({"X-Account-Name": "Caf\xe9", "Content-Type": "application/json; of=\xfc"}), lambda _: True, None
        )
        assert len(b.ids()) == 25


def test_a_403_on_a_later_page_is_no_dead_cursor() -> None:
    with bench() as b:
        b.fault(Status(403), later_page)
        with pytest.raises(GaveUpError, match="permissions"):
            b.pages()


def test_what_the_api_says_is_told() -> None:
    error = {"code": "x1", "title": "No", "detail": "d" * 500, "source": {"parameter": "p"}, "links": {"about": "?"}}
    body = json.dumps({"errors": [error, 7, {"detail": "second"}, {}, {"title": "fifth"}]}).encode()
    with bench() as b:
        b.fault(Status(403, body=body))
        with pytest.raises(GaveUpError) as failure:
            b.pages()
        assert f"(x1, No, {'d' * 200}, p; second; )" in str(failure.value)


def test_what_the_api_says_is_told_in_one_line() -> None:
    body = json.dumps(
        {"errors": [{"title": "No\r\nproblem: bookings: all is lost", "detail": "see\u2028below"}]}
    ).encode()
    with bench() as b:
        b.fault(Status(403, body=body))
        with pytest.raises(GaveUpError) as failure:
            b.pages()
        assert "(No problem: bookings: all is lost, see below)" in str(failure.value)


# Deeper than any decoder follows.
ABYSS = b'{"errors":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("status", [400, 403, 500])
def test_an_error_that_is_nested_beyond_all_measure_says_nothing(status: int) -> None:
    with bench() as b:
        b.fault(Status(status, body=ABYSS), times=None)
        with pytest.raises(GaveUpError, match=f"HTTP {status} on GET /v2/customers"):
            b.pages()


# ---- trouble -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        Status(500),
        Status(502, body=b""),
        Status(503),
        Status(504, body=b'{"errors": 7}'),
        Status(408),
        Status(425),
        Status(429, body=b""),
        Status(200),  # a maintenance page with the wrong status
        Status(200, body=b""),
        Status(200, body=b'{"meta": {}}'),
        Status(200, body=b"[]"),
        Status(200, body=b'{"data": "x"}'),
        Status(200, body=b'{"data": [], "errors": []}'),
        Status(200, body=b'{"data": [], "included": "x"}'),
        Status(200, body=b'{"data": ["\xff"]}'),
        Truncate(0.5),
        Truncate(0.0),
        Reset(),
        Replace(b'{"data": [{"id": "1"'),
        SetHeaders({"Content-Encoding": "gzip"}),
    ],
)
@pytest.mark.parametrize("where", [first_page, later_page])
def test_trouble_of_the_moment_is_repeated_and_costs_no_row(action: Action, where: Callable[[Request], bool]) -> None:
    with bench() as b:
        b.fault(action, where, times=2)
        assert sorted(b.ids()) == sorted(c.id for c in b.world.customers)
        assert b.client.exchange.traffic.retries == 2
        assert b.emulator.count() == 3 + 2
        assert b.client.exchange.traffic.requests == 3 + 2 + 1


@pytest.mark.parametrize("action", [Status(408), Status(425), Status(503), Status(200), Reset(), Truncate(0.3)])
def test_trouble_that_stays_is_given_up_and_never_taken_for_an_end(action: Action) -> None:
    with bench() as b:
        b.fault(action, later_page, times=None)
        walk = b.client.pages("customers", {}, {})
        assert len(next(walk).records) == 10
        with pytest.raises(GaveUpError, match=f"Gave up after {ATTEMPTS} attempts"):
            next(walk)
        assert b.emulator.count() == 1 + ATTEMPTS


@pytest.mark.parametrize(
    ("form", "pause"), [("seconds", 7.0), ("date", 7.0), (None, 1.0), ("odd", 1.0), ("long", 120.0)]
)
def test_a_429_holds_the_whole_client_for_as_long_as_it_asks(form: str | None, pause: float) -> None:
    with bench() as b:
        # The world's clock is years away from ours: a date counts from the answer's own Date.
        until = (b.world.clock.now() + timedelta(seconds=7)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        text = {"seconds": "7", "date": until, "odd": "presently", "long": "120", None: ""}[form]
        b.fault(Status(429, headers={"Retry-After": text}))
        assert len(b.ids()) == 25
        assert max(b.waits.slept) == pytest.approx(pause)
        assert b.client.exchange.rate.per_second == pytest.approx(5e5)


def test_the_pace_rises_again_with_answers_that_are_no_429() -> None:
    with bench() as b:
        b.fault(Status(429))
        b.ids()
        b.waits.now += 5
        b.ids()
        assert b.client.exchange.rate.per_second == pytest.approx(5.5e5)


@pytest.mark.parametrize(("asked", "least", "most"), [("7", 7.0, 7.0), ("120", 120.0, 120.0), ("", 0.1, 1.2)])
def test_what_is_repeated_waits_as_long_as_it_is_asked_to(
    asked: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(exchange, "pause", lambda seconds, _stopped: waited.append(seconds))
    with bench() as b:
        b.fault(Status(503, headers={"Retry-After": asked}))
        assert len(b.ids()) == 25
    assert len(waited) == 1
    assert least <= waited[0] <= most


def test_a_wait_that_is_too_long_is_not_waited_for() -> None:
    with bench() as b:
        b.fault(Status(429, headers={"Retry-After": "3600"}), times=None)
        told = "HTTP 429.* Gave up after 1 attempt: the API asks to wait for 60 minutes, longer than a run waits; run again then"
        with pytest.raises(GaveUpError, match=told):
            b.pages()
        assert b.emulator.count() == 1
        with pytest.raises(GaveUpError, match=told):
            b.client.look("customers", {})


def test_without_a_date_there_is_no_clock_to_measure_by() -> None:
    for odd in (None, "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT"):
        with bench() as b:
            b.fault(SetHeaders({"Date": odd}), times=None)
            with pytest.raises(BrokenAnswerError, match="no Date header"):
                b.pages()


def test_an_object_where_a_list_is_due_is_a_broken_answer() -> None:
    for match in (first_page, later_page):
        with bench() as b:
            b.answer(lambda d: d | {"data": d["data"][0]}, match)
            with pytest.raises(BrokenAnswerError, match="list"):
                b.pages()


def test_a_server_that_is_not_there_is_told_by_its_path_alone() -> None:
    with bench() as b:
        b.pages("accounts")
        b.emulator.stop()
        with pytest.raises(GaveUpError, match=r"ConnectError on GET /v2/customers"):
            b.pages()


@pytest.mark.parametrize("switches", [Switches(gzip=True), Switches(media_type="plain"), Switches(instants="offset")])
def test_harmless_dialects_make_no_difference(switches: Switches) -> None:
    with bench(switches) as b:
        assert len(b.ids("bookings")) == 25


# ---- secrets -----------------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_any_log_or_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with bench() as b:
        token = ""
        for action in (Status(500), Reset(), Truncate(), Status(429), Status(403), SetHeaders({"Date": None})):
            b.fault(action, times=1 if isinstance(action, Reset) else 2)
            try:
                b.pages()
            except SliceError as error:
                caplog.records.append(logging.LogRecord("told", 0, "", 0, str(error), None, None))
            token = next(iter(b.world.tokens))
        b.fault(Status(401), times=None)
        with pytest.raises(ClientRefusedError) as refusal:
            list(map(b.pages, ["accounts", "customers"]))
        assert token.startswith("emu-")
        text = (
            caplog.text
            + str(refusal.value)
            + repr(vars(b.client))
            + repr(b.client.exchange._auth)
            + "".join(r.getMessage() for r in caplog.records)
        )
        assert "GET /v2/customers" in text
        assert not [t for t in b.world.tokens if t in text]
        assert not [word for word in SECRET_WORDS if word in text]


def test_two_clients_keep_their_own_tokens_and_budgets() -> None:
    with bench() as b:
        world = b.world
        mine = next(iter(world.accounts)).id
        world.clients["north"] = type(world.clients["emu-client"])("north-secret", {mine})
        plain = Settings(
            _env_file=None,  # type: ignore[call-arg]
            appointedd_base_url=b.emulator.base_url,
            appointedd_token_url=b.emulator.token_url,
            appointedd_clients=(  # type: ignore[arg-type]  # pydantic reads them
                {"name": "all", "client_id": "emu-client", "client_secret": "emu-secret"},
                {"name": "north", "client_id": "north", "client_secret": "north-secret"},
            ),
        )
        whole, north = open_clients(plain, b.client.contract)
        with whole, north:
            assert [r["id"] for p in north.pages("accounts", {}, {}) for r in p.records] == [mine]
            assert len([r for p in whole.pages("accounts", {}, {}) for r in p.records]) == 2
            assert whole.exchange.rate is not north.exchange.rate
            assert (whole.exchange.traffic.requests, north.exchange.traffic.requests) == (2, 2)


def test_a_plain_page_is_walked_by_its_envelope_and_decoded_when_asked() -> None:
    with bench() as b:
        pages = b.pages()
        assert all("_decoded" not in vars(p) for p in pages)
        for page in pages:
            assert page.body is not None
            assert page.parts is None
            assert page.size == len(page.body)
            assert page.keys == [hash(r["id"]) for r in page.records]


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        (b'{"data":[{"id":"1"},{"id":2}],"links":{"next":null},"included":[{}]}', True),
        (b'{"data":[{"id":"1","relationships":{"a":{"links":{"next":"/b"}}}}],"links":{"next":null}}', False),
        (b'{"data":[{"id":"1","relationships":{"a":{"links":{"n\\u0065xt":"/b"}}}}]}', False),
        (b'{"data":[{"id":1.5}]}', False),
        (b'{"data":[{"type":"a"}]}', False),
        (b'{"data":[7]}', False),
        (b'{"data":{"id":"1"}}', False),
        (b'{"data":[],"errors":null}', False),
        (b'{"data":[],"included":{}}', False),
        (b'{"data":[{"id":"1","a":"\xff"}]}', False),
        (b'{"data":[{"id":"1","a":1e99999999999999999999}]}', False),
        (b'{"data":[{"id":"1","a":' + b"7" * 5000 + b"}]}", False),
        (b'{"data":[{"id":"1","a":"\\ud83d"}]}', False),
        (b'{"data":[{"id":"1","a":tru}]}', False),
    ],
)
def test_only_a_plain_body_is_taken_by_its_envelope(text: bytes, *, is_plain: bool) -> None:
    assert (Plain("links.next", "meta.total").read(text) is not None) == is_plain
