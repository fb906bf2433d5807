"""The API client: it walks a list along the server's own next links, page by page, reads single records, and looks at any answer without judging it.

What lives here: what is asked for, and what a refusal means. What does not: what may be sent with a list (`abilities`), how a request is sent and repeated
(`exchange`), what a page says (`pages`), what pages in a row show (`chain`), OAuth (`oauth`), windows, columns, files. Sources: JSON:API 1.1, evidence
sections 5 and 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from resources.abilities import Abilities
from resources.answers import date_of, json_object, named_parameters, told_by
from resources.chain import Chain
from resources.contract import Contract
from resources.envelope import Record
from resources.errors import (
    AbilityRefusedError,
    BrokenAnswerError,
    DeadCursorError,
    GaveUpError,
)
from resources.exchange import Exchange, Query
from resources.pages import SINGLE_CURE, Page, Pages
from resources.retries import TooLargeError, TroubleError, given_up, may_pass
from resources.settings import ClientSettings, Settings

# What helps where a list that is filtered by change time is answered with 404: some APIs say so where nothing has changed, or the list is elsewhere.
EMPTY_CURE = (
    " Is APPOINTEDD_BASE_URL right, and streams.{stream}.path in the contract? If both are, this API answers so where nothing has changed: set "
    "streams.{stream}.filters = false, and the list is read whole each night."
)


@dataclass(frozen=True)
class Look:
    """One answer as it came, not judged: what `connect` learns from. `document` is None where the body is no JSON object.

    `fetched_at` is the answer's `Date`, None where it has none. `refused` are the query parameters that its errors name, `told` is what they say.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    document: Record | None
    fetched_at: datetime | None
    refused: tuple[str, ...]
    told: str


class ApiClient(Abilities):
    """One OAuth API client on one API: everything it may read, nothing it could write. Close it, or use it in a `with`.

    `ids_repeat`: streams whose ids were seen to be unique within an account only.
    """

    def __init__(self, client: ClientSettings, settings: Settings, contract: Contract) -> None:
        super().__init__(contract)
        self.name = client.name
        self.exchange = Exchange(client, settings, contract)
        self.ids_repeat: set[str] = set()
        self._links = self.exchange.links
        self._answers = Pages(contract, self._links, self.exchange.hide)

    def __enter__(self) -> ApiClient:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections, as `close` does."""
        self.close()

    def close(self) -> None:
        """Close the connections that nobody sends on."""
        self.exchange.close()

    def pages(self, stream: str, filters: Query, own: Query) -> Iterator[Page]:
        """Walk one list until the server ends it: until the next link is absent or null.

        `filters` are the query parameters for a window or an account, which the walk can do without; `own` is one of the stream's queries in the contract.
        Raises `AbilityRefusedError` (refused on the first page, or lost in a next link), `DeadCursorError` (a later page was refused), `BrokenAnswerError`,
        `GaveUpError`, `UnprovenEndError`, `ClientRefusedError`.
        """
        optional = self.optional(stream) | dict(filters)
        url = self._links.address(self.contract.streams[stream].path)
        chain = Chain(self, stream, url, optional, own, is_filtered=bool(filters or own))
        page = self._first_page(stream, url, optional, own)
        while True:
            # Judged before its rows are handed over: a caller that takes only the first page must not take it for the whole list.
            chain.add(page)
            yield page
            if page.next_url is None:
                break
            chain.follow(page, page.next_url)
            page = self._next_page(stream, page.next_url)
        chain.end()

    def single(self, stream: str, record_id: str) -> Page | None:
        """One record by id as a page of one; None where the server says that it is gone (404, 410)."""
        url = self._links.address(f"{self.contract.streams[stream].path}/{_path_segment(record_id)}")
        try:
            page = self._get(stream, url, self.included(stream), self._answers.of_record)
        except TroubleError as trouble:
            if trouble.status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
                return None
            raise _give_up(stream, trouble, SINGLE_CURE) from None
        return self._whole(stream, page)

    def look(self, address: str, query: Query | None = None) -> Look:
        """One GET whose answer is returned as it is, also a refusal. `address` is a path or a link of this API; without a `query` it is sent as it stands.

        Server errors and 429 are repeated as everywhere. Raises `GaveUpError`, `BrokenAnswerError` (another origin), `ClientRefusedError`.
        """
        url = self._links.target(address)
        assert url is not None  # noqa: S101  an address is never empty; narrows the type
        try:
            return self.exchange.get(url, query, self._as_it_came, is_any=True)
        except TooLargeError as error:
            raise BrokenAnswerError(f"{error}.") from None
        except TroubleError as trouble:
            raise GaveUpError(f"{trouble}. {given_up(trouble, datetime.now(UTC))}.") from None

    def _as_it_came(self, response: httpx.Response) -> Look:
        return Look(
            url=str(response.url),
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            document=json_object(response.content),
            fetched_at=date_of(response),
            refused=named_parameters(response),
            told=told_by(response, self.exchange.hide).strip(" ()"),
        )

    def _first_page(self, stream: str, url: str, optional: Query, own: Query) -> Page:
        """The first page; a 400 in its place tells which optional parameter the server does not know."""
        answer = self._first_or_refusal(stream, url, {**optional, **own})
        if isinstance(answer, Page):
            return answer
        named = [p for p in answer.parameters if p in optional]
        suspects, proven = (named, "refuses the parameter {}") if named else self._culprits(stream, url, optional, own)
        known = [(p, ability) for p in suspects if (ability := self.ability_of(p))]
        if not known:
            raise GaveUpError(f"{stream}: {answer}")
        parameter, ability = known[0]
        raise AbilityRefusedError(
            f"{stream}: the API {proven.format(repr(parameter))}, so the sync goes on without it "
            f"(ability {ability!r}; correct its name in the contract, or switch it off there).",
            stream=stream,
            ability=ability,
        )

    def _culprits(self, stream: str, url: str, optional: Query, own: Query) -> tuple[list[str], str]:
        """Ask again to find the parameter that the server refused without naming it: the suspects, and what was seen of the first of them.

        There are none where the list is refused without all of them, too.
        """

        def is_refused(query: Query) -> bool:
            return not isinstance(self._first_or_refusal(stream, url, {**query, **own}), Page)

        if is_refused({}):
            return [], ""
        if alone := [p for p, value in optional.items() if is_refused({p: value})]:
            return alone, "refuses the parameter {}"
        # Each is taken alone, so perhaps one is too many. Those that would be missed most are left out last: without filters a list is read whole, without
        # `include` rows lack their children.
        names = self.contract.parameters
        last = (names.updated_until, names.updated_since, names.include, names.account)
        in_order = sorted(optional, key=lambda p: last.index(p) if p in last else -1)
        for spared in in_order:
            if not is_refused({p: value for p, value in optional.items() if p != spared}):
                return [spared], "refuses the parameter {} beside the others, each of which it takes alone"
        return in_order, "refuses its parameters together, each of which it takes alone; {} is left out first"

    def _first_or_refusal(self, stream: str, url: str, query: Query) -> Page | TroubleError:
        """A first page, or the 400 that came in its place; every other failure is raised."""
        try:
            page = self._get(stream, url, query, self._answers.of_list)
        except TroubleError as trouble:
            if trouble.status == httpx.codes.BAD_REQUEST:
                return trouble
            is_missing = trouble.status == httpx.codes.NOT_FOUND and self.contract.parameters.updated_since in query
            raise _give_up(stream, trouble, EMPTY_CURE if is_missing else "") from None
        return self._whole(stream, page)

    def _next_page(self, stream: str, url: str) -> Page:
        try:
            page = self._get(stream, url, None, self._answers.of_list)
        except TroubleError as trouble:
            if trouble.status in (400, 404, 409, 410, 422):
                raise DeadCursorError(f"{stream}: the API refuses a next link it gave itself: {trouble}") from None
            raise _give_up(stream, trouble) from None
        return self._whole(stream, page)

    def _whole(self, stream: str, page: Page) -> Page:
        """The page with its linkage complete. A page with a body is known to be so."""
        if page.parts is not None:
            records, included = page.parts
            for record in records:
                self._complete_linkage(stream, record, included)
        return page

    def _complete_linkage(self, stream: str, record: object, included: list[Any]) -> None:
        """Read each to-many linkage to its end: it may be paginated by a next link of its own (evidence 6.1)."""
        relationships = record.get("relationships") if isinstance(record, dict) else None
        for relationship in relationships.values() if isinstance(relationships, dict) else ():
            links = relationship.get("links") if isinstance(relationship, dict) else None
            if not isinstance(links, dict) or not links.get("next") or not isinstance(relationship.get("data"), list):
                continue
            url, seen = self._links.target(links.pop("next")), set[str]()
            while url is not None:
                if url in seen:
                    raise BrokenAnswerError(f"{stream}: the next link of a relationship leads in a circle.")
                seen.add(url)
                page = self._linked(stream, url)
                relationship["data"] += [
                    {"type": r.get("type"), "id": r.get("id")} for r in page.records if isinstance(r, dict)
                ]
                included += [r for r in page.records if isinstance(r, dict) and "attributes" in r] + page.included
                url = page.next_url

    def _linked(self, stream: str, url: str) -> Page:
        try:
            return self._get(stream, url, None, self._answers.of_list)
        except TroubleError as trouble:
            raise _give_up(stream, trouble) from None

    def _get(self, stream: str, url: str, query: Query | None, read: Callable[[str, httpx.Response], Page]) -> Page:
        """One GET, repeated as `retries.judge` says; raises the last `TroubleError`, or `BrokenAnswerError` where the answer is too large."""
        try:
            return self.exchange.get(url, query, partial(read, stream))
        except TooLargeError as error:
            raise BrokenAnswerError(
                f"{stream}: {error}. Ask for smaller pages in the contract (parameters.page_size_value, with abilities.page_size)."
            ) from None


def open_clients(settings: Settings, contract: Contract) -> list[ApiClient]:
    """One `ApiClient` for each configured API client, in the order of the settings."""
    return [ApiClient(client, settings, contract) for client in settings.api_access().clients]


def _give_up(stream: str, trouble: TroubleError, refused_cure: str = "") -> GaveUpError:
    """`refused_cure` is what helps where the request itself is refused."""
    status = trouble.status
    if status is None or may_pass(status):
        cure = f" {given_up(trouble, datetime.now(UTC))}; what was committed stays, and the next run asks for the rest."
    elif status >= 300 and refused_cure:
        cure = refused_cure.format(stream=stream)
    elif status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        cure = " The API client may not read this; its creator can change its permissions."
    elif status == httpx.codes.NOT_FOUND:
        cure = f" Is APPOINTEDD_BASE_URL right, and streams.{stream}.path in the contract?"
    elif 300 <= status < 400:
        cure = " Redirects are not followed with a token; is APPOINTEDD_BASE_URL right?"
    else:
        cure = ""
    return GaveUpError(f"{stream}: {trouble}.{cure}", status)


def _path_segment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~-]", lambda m: "".join(f"%{b:02X}" for b in m.group().encode()), text)
