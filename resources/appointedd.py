"""The API client: lists walked page by page through the server's own next links, single records, retries, the rate budget.

What lives here: HTTP and JSON:API, strictly read. What does not: OAuth (`oauth`), the rules of repeating (`retries`), windows, columns, files.
It only reads: GET here, POST to the token endpoint in `oauth`, nothing else. Redirects are not followed, and a link to another origin is refused, so
a token never leaves the origin it was configured for. Sources: JSON:API 1.1, evidence sections 5 and 6.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import InvalidOperation
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import stamina
import stamina.instrumentation

from resources import envelope
from resources.answers import document_of, json_object, named_parameters, told_by
from resources.connections import CERTIFICATE_CURE, MOST_BYTES, MOST_TOKEN_BYTES, TIMEOUT, Connections, go_on, whole
from resources.contract import Contract, StreamContract
from resources.errors import (
    AbilityRefusedError,
    BrokenAnswerError,
    DeadCursorError,
    GaveUpError,
    UnprovenEndError,
)
from resources.oauth import ClientCredentials
from resources.rate import RateBudget, pause
from resources.retries import (
    ATTEMPTS,
    RETRIED_STATUS,
    TooLargeError,
    TroubleError,
    http_date,
    judge,
    retry_after_s,
)
from resources.settings import ClientSettings, Settings

log = logging.getLogger(__name__)
# Retries are told by this module's own log lines; stamina's would go to standard output where structlog is installed.
stamina.instrumentation.set_on_retry_hooks(())

Record = envelope.Record
Query = Mapping[str, str]
# Lengths at which a page without any pagination member may just be full (design 3).
SUSPICIOUS_STEPS = (10, 25)
LONGEST_BACKOFF_S = 30.0


@dataclass(frozen=True)
class Page:
    """One page of a list.

    `fetched_at` is the answer's `Date` (server time, UTC). `total` counts everything that matches, where the server says so.
    `is_shifting` tells that the next link numbers pages or rows, so that a row which leaves the list moves the others. `keys` has a value for each
    record, equal where the ids are. `body` is the document as it came, known to be whole; None where it was not of the plain form (`envelope`), and then
    `parts` has its records, with their linkage complete, and what it includes.
    """

    keys: Sequence[int]
    next_url: str | None
    total: int | None
    fetched_at: datetime
    has_pagination: bool
    is_shifting: bool
    media_type: str
    size: int
    body: bytes | None = None
    parts: tuple[list[Any], list[Any]] | None = None

    @property
    def count(self) -> int:
        """How many records it has."""
        return len(self.keys)

    @property
    def records(self) -> list[Any]:
        """Its records, decoded when they are asked for."""
        return self._decoded[0]

    @property
    def included(self) -> list[Any]:
        """The resources that it includes, decoded when they are asked for."""
        return self._decoded[1]

    @cached_property
    def _decoded(self) -> tuple[list[Any], list[Any]]:
        if self.parts is not None:
            return self.parts
        try:
            document = envelope.decode(self.body or b"")
        except (InvalidOperation, RecursionError) as error:
            # The stack may be deeper here than where the body was read at first.
            raise BrokenAnswerError(f"A body holds a nesting beyond all measure: {type(error).__name__}.") from None
        return document["data"], document.get("included") or []


@dataclass(frozen=True)
class Look:
    """One answer as it came, not judged: what `connect` learns from. `document` is None where the body is no JSON object.

    `fetched_at` is the answer's `Date`, None where it has none; `refused` the query parameters that an error names; `told` the API's own words for it.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    document: Record | None
    fetched_at: datetime | None
    refused: tuple[str, ...]
    told: str


@dataclass
class Traffic:
    """What talking to the API has cost so far, counted by many threads. Seconds, added up: `answering_s` until an answer, `waited_s` for the pace."""

    requests: int = 0
    retries: int = 0
    answering_s: float = 0.0
    waited_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, requests: int = 0, retries: int = 0, answering_s: float = 0.0, waited_s: float = 0.0) -> None:
        """Add to the counts."""
        with self.lock:
            self.requests += requests
            self.retries += retries
            self.answering_s += answering_s
            self.waited_s += waited_s


def may_be_cut(count: int, size: int) -> bool:
    """Whether an only page of so many records may just be full: of the size asked for (0: none was), or of a length that servers like to cut at."""
    return count > 0 and (count == size or any(count % step == 0 for step in SUSPICIOUS_STEPS))


def tells_of_pages(document: Record, next_place: str, total_place: str) -> bool:
    """Whether a list document speaks of pages at all: a place for the next link, even an empty one, a first, last or previous page, or a total."""
    holder, _, last = next_place.rpartition(".")
    links = envelope.at(document, holder)
    total = envelope.at(document, total_place) if total_place else None
    return (isinstance(links, dict) and bool(links.keys() & {last, "first", "last", "prev"})) or isinstance(total, int)


class ApiClient:
    """One OAuth API client on one API: everything it may read, nothing it could write. Close it, or use it in a `with`.

    `without` holds the (stream, ability) pairs that this server refused; they are not tried again in this run.
    """

    def __init__(self, client: ClientSettings, settings: Settings, contract: Contract) -> None:
        access = settings.api_access()
        self.name = client.name
        self.contract = contract
        self.traffic = Traffic()
        self.rate = RateBudget(settings.sync_requests_per_second)
        self.without: set[tuple[str, str]] = set()
        self._plain = envelope.Plain(contract.document.next, contract.document.total)
        self._own = threading.local()
        self._base_url = access.base_url + "/"
        self._origin = _origin(self._base_url)
        # Plain http means this machine (settings refuse anything else): a proxy would only be in the way.
        self._connections = Connections(
            timeout=TIMEOUT,
            trust_env=self._origin[0] == "https",
            follow_redirects=False,
            headers={
                "Accept": contract.http.media_type,
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": "appointedd-warehouse",
            },
        )
        # The token request is built without these headers: it must not carry the list's Accept.
        self._auth = ClientCredentials(client, access.token_url, contract.oauth, self._send_token_request)

    def __enter__(self) -> ApiClient:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections, as `close` does."""
        self.close()

    def close(self) -> None:
        """Close the connections that nobody sends on."""
        self._connections.close()

    @contextmanager
    def until(self, stopped: threading.Event) -> Iterator[None]:
        """In this thread, for the length of a `with`: once `stopped` is set every wait ends, and nothing more is sent or read (`StoppedError`)."""
        self._own.stopped = stopped
        try:
            yield
        finally:
            self._own.stopped = None

    @contextmanager
    def counting(self, traffic: Traffic) -> Iterator[None]:
        """In this thread, for the length of a `with`: what is asked is counted there too, and no longer where it was before."""
        before, self._own.traffic = getattr(self._own, "traffic", None), traffic
        try:
            yield
        finally:
            self._own.traffic = before

    def _count(self, requests: int = 0, retries: int = 0, answering_s: float = 0.0, waited_s: float = 0.0) -> None:
        own: Traffic | None = getattr(self._own, "traffic", None)
        for traffic in (self.traffic, own) if own is not None else (self.traffic,):
            traffic.count(requests=requests, retries=retries, answering_s=answering_s, waited_s=waited_s)

    @property
    def _stopped(self) -> threading.Event | None:
        event: threading.Event | None = getattr(self._own, "stopped", None)
        return event

    def busy(self, most: int) -> int:
        """How many requests side by side, of at most so many, the pace can keep busy: one that answers sooner than the next may be sent needs no other."""
        traffic = self.traffic
        if not traffic.requests:
            return most
        return max(1, min(most, 1 + int(self.rate.per_second * traffic.answering_s / traffic.requests)))

    def has(self, stream: str, ability: str) -> bool:
        """Whether the contract declares an ability for a stream and this server has not refused it."""
        if (stream, ability) in self.without:
            return False
        parameters, of_stream = self.contract.parameters, self.contract.streams[stream]
        match ability:
            case "account_filter":
                return of_stream.account_filter and bool(parameters.account)
            case "filters":
                return self.contract.abilities.filters and of_stream.filters and bool(parameters.updated_since)
            case "upper_bound":
                return (
                    self.contract.abilities.upper_bound
                    and bool(parameters.updated_until)
                    and self.has(stream, "filters")
                )
            case "sort":
                return self.contract.abilities.sort and bool(parameters.sort and of_stream.sort)
            case "include":
                return self.contract.abilities.include and bool(parameters.include and of_stream.include)
            case _:
                return bool(getattr(self.contract.abilities, ability)) and bool(getattr(parameters, ability, True))

    def pages(self, stream: str, filters: Query, own: Query) -> Iterator[Page]:
        """Walk one list to the end that the server gives it: the next link absent or null.

        `filters` are optional parameters of a window or account; `own` is one of the stream's queries in the contract.
        Raises `AbilityRefusedError` (first page), `DeadCursorError` (a later page was refused), `BrokenAnswerError`, `GaveUpError`,
        `UnprovenEndError`, `ClientRefusedError`.
        """
        of_stream = self.contract.streams[stream]
        optional = self._optional(stream, of_stream) | dict(filters)
        url = urljoin(self._base_url, of_stream.path)
        first = self._first_page(stream, url, optional, own)
        page, seen = first, {url}
        while True:
            yield page
            if page.next_url is None:
                break
            if page.next_url in seen:
                raise BrokenAnswerError(
                    f"{stream}: the next link of a page leads to a page that was already read; the walk would never end."
                )
            seen.add(page.next_url)
            page = self._page(stream, page.next_url, None)
        size = int(optional.get(self.contract.parameters.page_size, "0") or 0)
        is_told = first.has_pagination or self.contract.document.lists_are_whole
        if not is_told and may_be_cut(first.count, size):
            raise UnprovenEndError(
                f"{stream}: the only page holds exactly {first.count} records and no pagination member, so nothing shows that it is "
                f"all. Say in the contract where the next link stands (document.next), or that the server never paginates (document.lists_are_whole)."
            )

    def single(self, stream: str, record_id: str) -> Page | None:
        """One record by id as a page of one; None where the server says 404."""
        of_stream = self.contract.streams[stream]
        url = urljoin(self._base_url, f"{of_stream.path}/{_path_segment(record_id)}")
        query = {}
        if self.has(stream, "include"):
            query[self.contract.parameters.include] = ",".join(of_stream.include)
        try:
            response = self._get(stream, url, query)
        except TroubleError as trouble:
            if trouble.status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
                return None
            raise _give_up(stream, trouble) from None
        document = document_of(response, self._auth.hide)
        if not isinstance(document.get("data"), dict):
            raise BrokenAnswerError(f"{stream}: a single record came without an object under data.")
        return self._whole(stream, self._read_in_full(response, {**document, "data": [document["data"]]}))

    def look(self, address: str, query: Query | None = None) -> Look:
        """One GET whose answer is taken as it is, a refusal too; `address` is a path of this API or a link of its own, `query` None leaves a link alone.

        Server errors and 429 are repeated as everywhere. Raises `GaveUpError`, `BrokenAnswerError` (another origin), `ClientRefusedError`.
        """
        url = self._link(address, self._base_url)
        assert url is not None  # noqa: S101  an address is never empty; narrows the type
        try:
            response = self._repeated(url, query, is_any=True)
        except TooLargeError as error:
            raise BrokenAnswerError(f"{error}.") from None
        except TroubleError as trouble:
            raise GaveUpError(f"{trouble}. Gave up after {ATTEMPTS} attempts.") from None
        return Look(
            url=str(response.url),
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            document=json_object(response.content),
            fetched_at=http_date(response.headers.get("Date")),
            refused=named_parameters(response),
            told=told_by(response, self._auth.hide).strip(" ()"),
        )

    def _optional(self, stream: str, of_stream: StreamContract) -> dict[str, str]:
        parameters = self.contract.parameters
        query = {}
        if self.has(stream, "page_size"):
            query[parameters.page_size] = parameters.page_size_value
        if self.has(stream, "sort"):
            query[parameters.sort] = of_stream.sort
        if self.has(stream, "include"):
            query[parameters.include] = ",".join(of_stream.include)
        return query

    def _ability_of(self, parameter: str) -> str | None:
        parameters = self.contract.parameters
        return {
            parameters.page_size: "page_size",
            parameters.sort: "sort",
            parameters.include: "include",
            parameters.updated_since: "filters",
            parameters.updated_until: "upper_bound",
            parameters.account: "account_filter",
        }.get(parameter)

    def _first_page(self, stream: str, url: str, optional: Query, own: Query) -> Page:
        """The first page; a 400 here tells which optional parameter the server does not know (design 3)."""
        try:
            return self._page(stream, url, {**optional, **own}, is_first=True)
        except _BadRequestError as refusal:
            named = [p for p in refusal.parameters if p in optional]
            suspects = named or self._culprits(stream, url, optional, own)
            abilities = [a for a in map(self._ability_of, suspects) if a]
            if not abilities:
                raise GaveUpError(f"{stream}: {refusal.trouble}") from None
            ability = abilities[0]
            raise AbilityRefusedError(
                f"{stream}: the API refuses the parameter {suspects[0]!r}, so the sync goes on without it "
                f"(ability {ability!r}; correct its name in the contract, or switch it off there).",
                stream=stream,
                ability=ability,
            ) from None

    def _culprits(self, stream: str, url: str, optional: Query, own: Query) -> list[str]:
        """The server did not name the parameter: those that it refuses one by one, though it answers without any of them."""

        def is_refused(query: Query) -> bool:
            try:
                self._page(stream, url, {**query, **own}, is_first=True)
            except _BadRequestError:
                return True
            return False

        if is_refused({}):
            return []
        # Where it refuses none alone, only together: drop them one after the other.
        return [p for p, value in optional.items() if is_refused({p: value})] or list(optional)

    def _page(self, stream: str, url: str, query: Query | None, *, is_first: bool = False) -> Page:
        try:
            response = self._get(stream, url, query)
        except TroubleError as trouble:
            if is_first and trouble.status == httpx.codes.BAD_REQUEST:
                raise _BadRequestError(trouble) from None
            if not is_first and trouble.status in (400, 404, 409, 410, 422):
                raise DeadCursorError(f"{stream}: the API refuses a next link it gave itself: {trouble}") from None
            raise _give_up(stream, trouble) from None
        return self._whole(stream, self._list(stream, response))

    def _list(self, stream: str, response: httpx.Response) -> Page:
        found = response.extensions.get("envelope")
        if isinstance(found, envelope.Envelope):
            page = self._read(response, found.around, list(map(hash, found.ids)))
            return replace(page, body=response.content)
        document = document_of(response, self._auth.hide)
        if not isinstance(document["data"], list):
            raise BrokenAnswerError(
                f"{stream}: data is one object where a list is due; is streams.{stream}.path right in the contract?"
            )
        return self._read_in_full(response, document)

    def _read_in_full(self, response: httpx.Response, document: Record) -> Page:
        records, included = document["data"], document.get("included") or []
        page = self._read(response, document, list(map(_key, records)))
        return replace(page, parts=(records, included))

    def _whole(self, stream: str, page: Page) -> Page:
        """The page with its linkage complete; of one with a body it is."""
        if page.parts is not None:
            records, included = page.parts
            for record in records:
                self._complete_linkage(stream, record, included)
        return page

    def _read(self, response: httpx.Response, document: Record, keys: Sequence[int]) -> Page:
        date = http_date(response.headers.get("Date"))
        if date is None:
            raise BrokenAnswerError(
                "The API's answers carry no Date header, so there is no clock to measure completeness by (a local clock is never used)."
            )
        names = self.contract.document
        next_url = self._link(envelope.at(document, names.next), str(response.url))
        total = envelope.at(document, names.total) if names.total else None
        query = parse_qs(urlsplit(next_url or "").query)
        return Page(
            keys=keys,
            next_url=next_url,
            total=total if isinstance(total, int) and not isinstance(total, bool) else None,
            fetched_at=date,
            has_pagination=tells_of_pages(document, names.next, names.total),
            is_shifting=any(p in query for p in names.shifting_parameters),
            media_type=response.headers.get("Content-Type", "").partition(";")[0].strip(),
            size=len(response.content),
        )

    def _link(self, link: object, base: str) -> str | None:
        """A link is a string, an object with `href`, or null, and may be relative (JSON:API 1.1, links)."""
        if isinstance(link, dict):
            link = link.get("href")
        if link is None or link == "":
            return None
        if not isinstance(link, str):
            raise BrokenAnswerError(f"The next link is neither text nor an object with href: {type(link).__name__}.")
        try:
            url = urljoin(base, link)
            is_ours = _origin(url) == self._origin
            httpx.URL(url)
        except (ValueError, httpx.InvalidURL):
            raise BrokenAnswerError("The next link is no address that can be followed.") from None
        if not is_ours:
            raise BrokenAnswerError(
                f"A next link leads to another origin ({_shown_origin(url)}); it was not followed, so that no token leaves "
                f"{_shown_origin(self._base_url)}."
            )
        return url

    def _complete_linkage(self, stream: str, record: object, included: list[Any]) -> None:
        """A to-many linkage may be paginated through the relationship's own next link (evidence 6.1): read it to its end."""
        relationships = record.get("relationships") if isinstance(record, dict) else None
        for relationship in relationships.values() if isinstance(relationships, dict) else ():
            links = relationship.get("links") if isinstance(relationship, dict) else None
            if not isinstance(links, dict) or not links.get("next") or not isinstance(relationship.get("data"), list):
                continue
            url, seen = self._link(links.pop("next"), self._base_url), set[str]()
            while url is not None:
                if url in seen:
                    raise BrokenAnswerError(f"{stream}: the next link of a relationship leads in a circle.")
                seen.add(url)
                page = self._list(stream, self._linked(stream, url))
                relationship["data"] += [
                    {"type": r.get("type"), "id": r.get("id")} for r in page.records if isinstance(r, dict)
                ]
                included += [r for r in page.records if isinstance(r, dict) and "attributes" in r] + page.included
                url = page.next_url

    def _linked(self, stream: str, url: str) -> httpx.Response:
        try:
            return self._get(stream, url, None)
        except TroubleError as trouble:
            raise _give_up(stream, trouble) from None

    def _get(self, stream: str, url: str, query: Query | None) -> httpx.Response:
        """One GET, repeated as `retries.judge` says; raises the last `TroubleError`, or `BrokenAnswerError` where the answer is too large."""
        try:
            return self._repeated(url, query)
        except TooLargeError as error:
            raise BrokenAnswerError(
                f"{stream}: {error}. Ask for smaller pages in the contract (parameters.page_size_value, with abilities.page_size)."
            ) from None

    def _repeated(self, url: str, query: Query | None, *, is_any: bool = False) -> httpx.Response:
        """One GET, repeated as `retries.judge` says; `is_any`: whatever is not worth repeating is an answer."""
        number, backoff = 0, 0.0

        def waited(error: Exception) -> bool | float:
            # Waiting is done here and not in stamina, whose sleep nobody could end; what it is told to sleep is nothing.
            again = judge(error, datetime.now(UTC))
            if again is False or number >= ATTEMPTS:
                return again is not False
            seconds = backoff + random.uniform(0, 1) if again is True else again  # noqa: S311  spreads requests, guards nothing
            pause(
                0.0 if stamina.is_testing() else min(seconds, LONGEST_BACKOFF_S) if again is True else seconds,
                self._stopped,
            )
            return 0.0

        for attempt in stamina.retry_context(on=waited, attempts=ATTEMPTS, timeout=None, wait_max=LONGEST_BACKOFF_S):
            number, backoff = attempt.num, attempt.next_wait
            with attempt:
                if attempt.num > 1:
                    self._count(retries=1)
                request = self._connections.builder.build_request(
                    "GET", url, params=dict(query) if query is not None else None
                )
                response = self._send(request, self._auth)
                if is_any and response.status_code < 500 and response.status_code not in RETRIED_STATUS:
                    return response
                if response.status_code == httpx.codes.OK:
                    found = self._plain.read(response.content)
                    if found is None:
                        document_of(response, self._auth.hide)
                    else:
                        response.extensions["envelope"] = found
                    return response
                raise self._trouble(response)
        raise AssertionError("stamina ends with an answer or an error")

    def _send_token_request(self, request: httpx.Request) -> httpx.Response:
        return self._send(request, None)

    def _send(self, request: httpx.Request, auth: httpx.Auth | None) -> httpx.Response:
        stopped = self._stopped
        if auth is not None:
            self._count(waited_s=self.rate.wait_turn(stopped))
        go_on(stopped)
        self._count(requests=1)
        began = time.monotonic()
        try:
            with self._connections.one() as connection:
                response = connection.send(request, auth=auth, stream=True)
                try:
                    response = whole(response, MOST_BYTES if auth is not None else MOST_TOKEN_BYTES, stopped)
                finally:
                    response.close()
        except httpx.HTTPError as error:
            go_on(stopped)
            # Only the kind of error and the path: a message of httpx may quote the whole request.
            what = self._auth.hide(f"{type(error).__name__} on {request.method} {request.url.path}: {error}")
            if isinstance(error, httpx.ConnectError):
                setting = "APPOINTEDD_BASE_URL" if auth is not None else "APPOINTEDD_TOKEN_URL"
                what += f" ({_shown_origin(str(request.url))}; is {setting} right?)"
            trouble = TroubleError(what + CERTIFICATE_CURE if "CERTIFICATE_VERIFY_FAILED" in what else what)
            log.warning("%s", trouble)
            raise trouble from None
        finally:
            self._count(answering_s=time.monotonic() - began)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            pause = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"), datetime.now(UTC))
            self.rate.note_limit(min(pause or 1.0, 120.0))
        else:
            self.rate.note_answer()
        return response

    def _trouble(self, response: httpx.Response) -> TroubleError:
        trouble = _RefusalError(
            f"HTTP {response.status_code} on GET {response.request.url.path}{told_by(response, self._auth.hide)}",
            status=response.status_code,
            retry_after=response.headers.get("Retry-After"),
            date=response.headers.get("Date"),
        )
        trouble.parameters = named_parameters(response)
        log.info("%s", trouble)
        return trouble


class _RefusalError(TroubleError):
    """A `TroubleError` that knows which query parameters the server named."""

    parameters: tuple[str, ...] = ()


class _BadRequestError(Exception):
    """A 400 on a first page."""

    def __init__(self, trouble: TroubleError) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble
        self.parameters = trouble.parameters if isinstance(trouble, _RefusalError) else ()


def open_clients(settings: Settings, contract: Contract) -> list[ApiClient]:
    """One `ApiClient` for each configured API client, in the order of the settings."""
    return [ApiClient(client, settings, contract) for client in settings.api_access().clients]


def _key(record: object) -> int:
    if isinstance(record, dict) and isinstance(record.get("id"), str | int):
        return hash(record["id"])
    return hash(str(record))


def _give_up(stream: str, trouble: TroubleError) -> GaveUpError:
    if trouble.status == httpx.codes.FORBIDDEN:
        cure = " The API client may not read this; its creator can change its permissions."
    elif trouble.status == httpx.codes.NOT_FOUND:
        cure = f" Is APPOINTEDD_BASE_URL right, and streams.{stream}.path in the contract?"
    elif trouble.status is not None and 300 <= trouble.status < 400:
        cure = " Redirects are not followed with a token; is APPOINTEDD_BASE_URL right?"
    elif trouble.status is not None and trouble.status < 500 and trouble.status != 429:
        cure = ""
    else:
        cure = f" Gave up after {ATTEMPTS} attempts; what was committed stays, and the next run asks for the rest."
    return GaveUpError(f"{stream}: {trouble}.{cure}")


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _shown_origin(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"


def _path_segment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~-]", lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), text)
