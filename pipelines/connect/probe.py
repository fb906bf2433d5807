"""The live API, asked politely: every GET of a contact goes through here, one after the other, counted, kept, within the rate budget.

What lives here: asking, and reading rows out of answers. What does not: what to ask and what an answer proves. GET only, by construction of `ApiClient`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

from pipelines.connect.described import Hints, hints
from pipelines.connect.matching import Matches
from pipelines.connect.places import address, at
from pipelines.records import MISSING, JsonObject, first, identifier_id
from pipelines.streams import Stream
from resources.appointedd import ApiClient, Look
from resources.contract import StreamContract
from resources.errors import BrokenAnswerError, GaveUpError
from resources.links import shown_origin
from resources.marks import Mark, marks_of
from resources.openapi import ListEndpoint
from resources.retries import TooLargeError, TroubleError

# Some dozens, where the contract adds no list. What is not settled by then stays as it is, or off.
MOST_REQUESTS = 120
PAGES_FOLLOWED = 4


@dataclass
class Seen:
    """What is known of one stream so far.

    `rows` and `included` come from unfiltered lists only; `is_all`: they are the whole list. `matches`: its columns as they were matched to attributes;
    `columns`: the names under which a sync will find each.
    """

    stream: Stream
    names: StreamContract
    endpoint: ListEndpoint | None = None
    path: str = ""
    first: Look | None = None
    rows: dict[str, JsonObject] = field(default_factory=dict)
    included: list[JsonObject] = field(default_factory=list)
    is_all: bool = False
    matches: Matches = field(default_factory=Matches)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.stream.name

    @property
    def types(self) -> set[str]:
        """The types of its records."""
        return {str(row.get("type")) for row in self.rows.values()}

    @property
    def changed(self) -> str:
        """The attribute of the last change; empty where no record carries one."""
        rows, names = self.rows.values(), self.columns.get("updated_at", ())
        return next((n for n in names if any(first(row, [n], {}) not in (MISSING, None) for row in rows)), "")

    @cached_property
    def hints(self) -> Hints:
        """What the vendor's file suggests of its parameters."""
        return hints(self.endpoint)


class Probe:
    """Asks, counts, and keeps every answer, so that the same question is sent once."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.count, self.most_requests = 0, MOST_REQUESTS
        self.answers: list[Look] = []
        self.next_place = client.contract.document.next
        self.size: dict[str, str] = {}  # the page size, once it is known to work
        self.followed: set[str] = set()  # addresses of answers that are not a list's first page
        # Whether data that is null is an empty list, and the addresses of answers that were taken for one.
        self.takes_null = client.contract.document.null_is_empty
        self.nulls: set[str] = set()
        self._kept: dict[tuple[str, tuple[tuple[str, str], ...]], Look] = {}

    @property
    def size_name(self) -> str:
        """The parameter that sets the page size; empty where none is known to."""
        return next(iter(self.size), "")

    @property
    def is_spent(self) -> bool:
        """Whether the budget of requests is used up, so that nothing new should be tried."""
        return self.count >= self.most_requests

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Look:
        """One answer, whatever it is."""
        key = (path, tuple(sorted((query or {}).items())))
        if key not in self._kept:
            if self.count >= 2 * self.most_requests:
                raise BrokenAnswerError(f"connect stopped after {self.count} requests without coming to an end.")
            self.count += 1
            look = self._listed(self.client.look(path, query))
            self.answers.append(look)
            self._kept[key] = look
        return self._kept[key]

    def _listed(self, look: Look) -> Look:
        document = look.document or {"data": ()}
        if not self.takes_null or look.status != 200 or document.get("data", ()) is not None:
            return look
        self.nulls.add(look.url)
        return replace(look, document={**document, "data": []})

    def keep(self, path: str, look: Look, count: int) -> None:
        """Take over an answer that was got before there was a probe, and how many requests that took."""
        self._kept[(path, ())] = look = self._listed(look)
        self.answers.append(look)
        self.count += count

    def body(self, look: Look) -> bytes:
        """The same answer once more, as it came: only where nothing could be made of it. Raises `GaveUpError` where it does not come again."""
        self.count += 1
        try:
            return self.client.exchange.get(look.url, None, lambda answer: answer.content, is_any=True)
        except (TroubleError, TooLargeError) as error:
            raise GaveUpError(f"{look.url}: {error}; it had answered before. Try again.") from error

    def again(self, look: Look) -> Look:
        """The same question once more, answered anew."""
        self.count += 1
        return self.client.look(look.url)

    def answers_to(self, seen: Seen) -> list[Look]:
        """All answers that are a stream's list, whatever was asked of it."""
        own = seen.first.url.partition("?")[0] if seen.first else None
        return [look for look in self.answers if is_list(look) and look.url.partition("?")[0] == own]

    def page(self, seen: Seen, query: Mapping[str, str] | None = None) -> Look:
        """One page of a stream with the page size that works."""
        return self.get(seen.path, {**self.size, **(query or {})})

    def next_link(self, look: Look) -> str | None:
        """A page's link to the next one; None where it has none."""
        return address(at(look.document, self.next_place))

    def has_next(self, look: Look) -> bool:
        """Whether a page names the next one."""
        return self.next_link(look) is not None

    def follow(self, look: Look) -> Look | None:
        """The page behind a page; None at the end, or where the link leads to the page itself or to another host, which no token is sent to."""
        link = self.next_link(look)
        target = urljoin(look.url, link or "")
        if link is None or target == look.url or self.leads_away(look):
            return None
        following = self.get(target)
        self.followed.add(following.url)
        return following

    def leads_away(self, look: Look) -> str:
        """The origin that a page's next link leads to, where it is not the API's own; else nothing."""
        origin = shown_origin(urljoin(look.url, self.next_link(look) or ""))
        return "" if origin == shown_origin(look.url) else origin

    def signs_of_more(self, look: Look) -> list[Mark]:
        """What a page without a next link says of further ones, by the marks that a sync knows; counts of records need more than one page (`ends`)."""
        names, count = self.client.contract.document, len(raw_rows(look))
        marks = marks_of(look.document or {}, count, look.url, names, self.size_name)
        # Where links were followed to a page, a missing link is the end, and only a plain yes outweighs it.
        is_behind = look.url in self.followed
        return [mark for mark in marks if mark.kind != "records" and (mark.kind == "yes" or not is_behind)]

    def walk(self, seen: Seen, query: Mapping[str, str] | None = None) -> tuple[Look, dict[str, JsonObject], bool]:
        """A list for some pages: its first answer, the rows by id, and whether it was read to its end."""
        first = page = self.page(seen, query)
        found = rows_of(first)
        for _ in range(PAGES_FOLLOWED - 1):
            following = self.follow(page) if is_list(page) else None
            if following is None:
                return first, found, is_list(page)
            page = following
            found |= rows_of(page)
            if not raw_rows(page):
                break  # where there is always a next page, each of them is empty from here on
        return first, found, at(page.document, self.next_place) is None

    def missing(self, seen: Seen, plain: Look, query: Mapping[str, str]) -> set[str]:
        """Rows of a page that `query` loses: they do not come with it, and are still there when the page is asked for again. None where nobody can tell."""
        rows = rows_of(plain).keys()
        if rows <= rows_of(self.page(seen, query)).keys():
            return set()
        _, found, is_whole = self.walk(seen, query)
        lost = rows - found.keys()
        if not lost or not (is_whole or len(found) >= len(rows)):
            return set()
        still = rows_of(self.again(plain)).keys()
        return lost & still if is_steady(rows, still) else set()

    def add_sample(self, seen: Seen, look: Look) -> None:
        """Add the rows of an unfiltered answer to a stream's sample."""
        seen.rows |= {key: row for key, row in rows_of(look).items() if key not in seen.rows}
        self.add_included(seen, look)

    def add_included(self, seen: Seen, look: Look) -> None:
        """Add what an answer includes to a stream's sample."""
        included = (look.document or {}).get("included")
        seen.included += [r for r in included if isinstance(r, dict)] if isinstance(included, list) else []


def is_steady(rows: Collection[str], others: Collection[str]) -> bool:
    """Whether the same rows came again, but for a few that came or went in between."""
    return len({*rows} - {*others}) <= max(2, len(rows) // 10)


def is_list(look: Look) -> bool:
    """Whether an answer is a list document. One that speaks of errors is none, whatever its status says: a sync would not read it either."""
    document = look.document or {}
    return look.status == 200 and isinstance(document.get("data"), list) and "errors" not in document


def said(look: Look) -> str:
    """What an answer says that is no list, in a few words."""
    told = f": {look.told}" if look.told and look.status == 200 else ""
    return f"HTTP {look.status}{f', {content_type(look)}' if look.status == 200 and not told else told}"


def content_type(look: Look) -> str:
    """The media type of an answer, without its parameters."""
    return look.headers.get("content-type", "no content type").partition(";")[0].strip()


def raw_rows(look: Look) -> list[Any]:
    """The elements of a list document; none where the answer is no list."""
    return list((look.document or {})["data"]) if is_list(look) else []


def rows_of(look: Look) -> dict[str, JsonObject]:
    """The records of a list document by id, in its order."""
    return {key: row for row in raw_rows(look) if isinstance(row, dict) and (key := identifier_id(row))}
