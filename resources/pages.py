"""Pages of lists: what one answer says of a list, as far as walking on needs it.

What lives here: reading an answer as a page, and whether a page shows that it is the last. What does not: asking (`exchange`), what pages in a row show
(`chain`), where a link may lead (`links`), members that say that a list goes on (`marks`), decoding (`envelope`).
Sources: JSON:API 1.1, evidence sections 5 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from resources import envelope
from resources.answers import Hide, date_of, document_of
from resources.contract import Contract
from resources.envelope import Record
from resources.errors import BrokenAnswerError
from resources.links import Links
from resources.marks import BESIDE, Mark, is_only_page, marks_of

# Lengths at which a page without any pagination member may just be full (docs/guarantees.md, 3).
SUSPICIOUS_STEPS = (10, 25)
# Which answers say that a record is gone, and what helps where this API gives another.
SINGLE_CURE = (
    " Of a record that is gone only HTTP 404 or 410 is believed; where this API answers otherwise, set abilities.single = false in the contract, and a "
    "sweep walks the list a second time instead."
)
# A count with more digits is none: no list is that long.
MOST_DIGITS = 18


@dataclass(frozen=True)
class Page:
    """One page of a list.

    Its records are either in `body`, a document of the plain form (`envelope`) as it came, or in `parts`: the records and what is included.
    `keys` has one value for each record, equal where the ids are. `fetched_at` is the answer's `Date` (server time, UTC). `total` counts everything that
    matches, where the server says so. `is_shifting`: the next link numbers pages or rows, so a row that leaves the list moves the others. `next_query` has
    the parameters of that link. `marks`: on a page that names no next one, what says all the same that there is one.
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
    marks: tuple[Mark, ...] = ()
    next_query: Mapping[str, Sequence[str]] = field(default_factory=dict)

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


def count_of(value: object) -> int | None:
    """A count as servers write one: 260, 260.0 or "260". None where it is none, such as the -1 that says that nobody counted."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < MOST_DIGITS:
        value = int(value) if value == value.to_integral_value() else None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 10**MOST_DIGITS else None


def may_be_cut(count: int, size: int) -> bool:
    """Whether an only page of so many records may just be full: it is as long as was asked for (0: nothing was), or of a length that servers like to cut at."""
    return count > 0 and (count == size or any(count % step == 0 for step in SUSPICIOUS_STEPS))


def tells_of_pages(document: Record, next_place: str, total_place: str) -> bool:
    """Whether a list document without a next link shows that this API would name a next page if there was one.

    It does by an empty place for that link, a place for the previous page, a first page that is also the last, or a total.
    """
    holder, _, last = next_place.rpartition(".")
    links = envelope.at(document, holder)
    total = count_of(envelope.at(document, total_place)) if total_place else None
    is_named = isinstance(links, dict) and bool(links.keys() & {last, "prev"})
    return is_named or is_only_page(links) or total is not None


class Pages:
    """Reads answers of one API as pages. `hide` takes secrets out of what is quoted."""

    def __init__(self, contract: Contract, links: Links, hide: Hide) -> None:
        self._contract = contract
        self._links = links
        self._hide = hide
        self._plain = envelope.Plain(contract.document.next, contract.document.total, BESIDE)

    def of_list(self, stream: str, response: httpx.Response) -> Page:
        """A page of a list; raises `BrokenAnswerError` where the answer is none, `TroubleError` where it may be one when it is asked for again."""
        found = self._plain.read(response.content)
        if found is not None:
            page = self._read(response, found.around, list(map(hash, found.ids)))
            return replace(page, body=response.content)
        document = document_of(response, self._hide)
        if document["data"] is None:
            if not self._contract.document.null_is_empty:
                raise BrokenAnswerError(
                    f"{stream}: data is null where a list is due. If that is this API's empty list, say so in the contract: document.null_is_empty = true."
                )
            document = {**document, "data": []}
        if not isinstance(document["data"], list):
            raise BrokenAnswerError(
                f"{stream}: data is one object where a list is due; is streams.{stream}.path right in the contract?"
            )
        return self._in_full(response, document)

    def of_record(self, stream: str, response: httpx.Response) -> Page:
        """A single record as a page of one; raises as `of_list` does."""
        document = document_of(response, self._hide)
        if not isinstance(document.get("data"), dict):
            raise BrokenAnswerError(f"{stream}: a single record came without an object under data.{SINGLE_CURE}")
        return self._in_full(response, {**document, "data": [document["data"]]})

    def _in_full(self, response: httpx.Response, document: Record) -> Page:
        records, included = document["data"], document.get("included") or []
        page = self._read(response, document, list(map(_key, records)))
        return replace(page, parts=(records, included))

    def _read(self, response: httpx.Response, document: Record, keys: Sequence[int]) -> Page:
        date = date_of(response)
        if date is None:
            raise BrokenAnswerError(
                "The API's answers carry no Date header that can be read, so there is no clock to measure completeness by (a local clock is never used)."
            )
        names = self._contract.document
        next_url = self._links.target(envelope.at(document, names.next), str(response.url))
        query = parse_qs(urlsplit(next_url or "").query, keep_blank_values=True)
        marks: tuple[Mark, ...] = ()
        if next_url is None:
            around = {name: value for name, value in document.items() if name not in ("data", "included")}
            marks = marks_of(around, len(keys), str(response.url), names, self._contract.parameters.page_size)
        return Page(
            keys=keys,
            next_url=next_url,
            total=count_of(envelope.at(document, names.total)) if names.total else None,
            fetched_at=date,
            has_pagination=tells_of_pages(document, names.next, names.total),
            is_shifting=any(p in query for p in names.shifting_parameters),
            media_type=response.headers.get("Content-Type", "").partition(";")[0].strip(),
            size=len(response.content),
            marks=marks,
            next_query=query,
        )


def _key(record: object) -> int:
    if isinstance(record, dict) and isinstance(record.get("id"), str | int):
        return hash(record["id"])
    return hash(str(record))
