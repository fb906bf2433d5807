"""Marks of a further page: members by which APIs say that a list goes on, wherever they stand in its document.

What lives here: their names, and what each is worth. What does not: the next link that is followed, whose place the contract names (`pages`); the total that
the contract names (`completeness` judges it). A page without a next link is not the last if it carries such a mark: its next link stands elsewhere, or is none
that can be followed. Sources: JSON:API 1.1 (links, pagination), and the paginators of Laravel, Rails (Kaminari, JSONAPI::Resources), Django, Spring, Yii.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from resources.contract import Document, spelling
from resources.envelope import Record

# Members beside the records that may be a mark or hold one, as they are written; a page that is read by its envelope is decoded that far.
BESIDE = (
    *("links", "meta", "page", "pagination", "paging", "pageInfo", "page_info", "cursors"),
    *("next", "nextCursor", "next_cursor", "nextPage", "next_page", "nextPageToken", "next_page_token", "nextPageUrl"),
    *("next_page_url", "nextLink", "@odata.nextLink", "hasMore", "has_more", "hasNext", "has_next", "hasNextPage"),
    *("total", "totalCount", "total_count", "count", "totalPages", "total_pages", "lastPage", "last_page"),
)
# Compared as `contract.spelling` has it. Objects that hold marks, one within another:
_HOLDERS = {"links", "meta", "page", "pagination", "paging", "paginator", "pageinfo", "cursor", "cursors"}
# ... a mark of the next page, which is empty, null or absent on the last one; "after" is none, since it often names where a page itself ends,
_NEXT = {
    *("next", "nextcursor", "nextpage", "nextpagetoken", "nexttoken", "nextpageurl", "nexturl", "nextlink"),
    "@odata.nextlink",
}
# ... yes or no,
_MORE = {"hasmore", "hasnext", "hasnextpage", "hasmorepages", "hasmoreitems"}
# ... how many pages there are,
_PAGES = {"lastpage", "pages", "totalpages", "pagecount", "numpages"}
# ... and how many records.
_RECORDS = {
    *("total", "totalcount", "totalrecords", "totalitems", "totalresults", "totalelements", "totalresourcecount"),
    *("recordcount", "itemcount", "count"),
}
_DEEPEST = 3


@dataclass(frozen=True)
class Mark:
    """A member that says that a list goes on: `yes` in so many words, `next` by where, `pages` and `records` by how many, `last` by another last page."""

    kind: Literal["yes", "next", "last", "pages", "records"]
    place: str


def marks_of(document: Record, count: int, asked: str, names: Document, page_size: str) -> tuple[Mark, ...]:
    """The marks of a list document that names no next page and has so many records; `asked` is its address, `page_size` the parameter for the size."""
    found = []
    for holder, members in _holders(document, "", 0):
        for name, value in members.items():
            place = f"{holder}{name}"
            kind = None if place in names.ignored_marks else _kind(spelling(name), value, count)
            if kind is not None:
                found.append(Mark(kind, place))
        last = f"{holder}last"
        if last not in names.ignored_marks and count and _leads_further(members, asked, names, page_size):
            found.append(Mark("last", last))
    return tuple(found)


def is_only_page(links: Any) -> bool:
    """Whether links name a first and a last page and both are the same."""
    first, last = (_address(links.get(name)) for name in ("first", "last")) if isinstance(links, dict) else ("", "")
    return bool(first) and _parts(first) == _parts(last)


def _holders(members: Record, place: str, depth: int) -> Iterator[tuple[str, Record]]:
    yield place, members
    for name, value in members.items() if depth < _DEEPEST else ():
        if isinstance(value, dict) and spelling(name) in _HOLDERS:
            yield from _holders(value, f"{place}{name}.", depth + 1)


def _kind(name: str, value: object, count: int) -> Literal["yes", "next", "pages", "records"] | None:
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if name in _MORE:
        return "yes" if value is True else None
    if name in _NEXT:
        is_there = number > 0 if number is not None else _address(value).strip() != ""
        return "next" if is_there else None
    # A page without a record is not cut, whatever is counted.
    if number is None or not count:
        return None
    if name in _PAGES:
        return "pages" if number > 1 else None
    return "records" if name in _RECORDS and number > count else None


def _leads_further(links: Record, asked: str, names: Document, page_size: str) -> bool:
    """Whether the last page has a higher number than the first. Of links with a cursor this is not known: one page may have many addresses."""
    last = _address(links.get("last"))
    if not last:
        return False
    first = _address(links.get("first")) or _address(links.get("self")) or asked
    before, behind = (dict(_parts(link)[1]) for link in (first, last))
    for name, value in behind.items():
        own = before.get(name, "1" if name in names.shifting_parameters else "")
        if name != page_size and value.isdecimal() and own.isdecimal() and Decimal(value) > Decimal(own):
            return True
    return False


def _address(link: object) -> str:
    """The address that a link has, as text or as an object (JSON:API 1.1); empty where it has none."""
    if isinstance(link, dict):
        link = link.get("href")
    return link if isinstance(link, str) else ""


def _parts(link: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    try:
        parts = urlsplit(link)
    except ValueError:
        return link, ()
    return parts.path, tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))
