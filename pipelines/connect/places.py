"""Where things stand in a list document: the next link, the total, the account that a row belongs to, the words of rate limits.

What lives here: pure looks at decoded documents. What does not: asking for them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pipelines.records import JsonObject, identifier_id
from resources.contract import spelling
from resources.pages import count_of

# How a link begins, or that it is a path with a query; a bare word is a mark.
_LINK = re.compile(r"https?://|/|\?|\.{1,2}/|[\w.~%/-]+\?[^\s=]+=")
CONTENT = ("data", "included", "errors", "jsonapi")


def at(document: Mapping[str, Any] | None, dotted: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = document
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def beside(document: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All members of a list document beside its content, as (dotted path, value)."""
    for name, value in document.items():
        if depth == 0 and name in CONTENT:
            continue
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping) and depth < 3 and "href" not in value:
            yield from beside(value, f"{prefix}{name}.", depth + 1)


def address(value: object) -> str | None:
    """A link's address, where a value looks like a link, as a sync will follow it: text that begins like an address or has a query, or an object with href."""
    if isinstance(value, Mapping):
        value = value.get("href")
    return value if isinstance(value, str) and _LINK.match(value) else None


def _last_step(path: str) -> str:
    """The last step of a dotted path, as names are compared."""
    return spelling(path.rpartition(".")[2])


def is_next(path: str) -> bool:
    """Whether a dotted path is called like a link to the next page."""
    return _last_step(path) in ("next", "nextlink", "nexturl", "nexthref", "nextpage", "nextpageurl", "nextpagelink")


def next_places(document: Mapping[str, Any]) -> list[str]:
    """Paths that hold a link to the next page, the customary one first."""
    found = [path for path, value in beside(document) if is_next(path) and address(value)]
    return sorted(found, key=lambda path: path != "links.next")


def next_marks(document: Mapping[str, Any]) -> list[str]:
    """Paths that hold a mark of the next page which is no link (a number, a cursor)."""
    names = ("next", "nextpage", "nextcursor", "cursor", "nexttoken", "nextpagetoken", "after")
    held = {path: value for path, value in beside(document) if _last_step(path) in names}
    nothing = (None, "", False)
    return [
        p for p, value in held.items() if value not in nothing and not isinstance(value, Mapping) and not address(value)
    ]


def counts(document: Mapping[str, Any]) -> dict[str, int]:
    """Counts beside the content, by path."""
    return {path: count for path, value in beside(document) if (count := count_of(value)) is not None}


def shifting(next_url: str, further_url: str, size_parameter: str, rows_count: int) -> list[str]:
    """Parameters of a next link that number pages or rows: what follows page one is 1, 2, the number of rows read or the one after.

    `further_url` is the next link of the page behind, empty where there is none: a number that grows by one, or by the rows of a page, numbers them too.
    """
    query, further = parse_qs(urlsplit(next_url).query), parse_qs(urlsplit(further_url).query)
    begins, steps = {1, 2, rows_count, rows_count + 1}, {1, rows_count}
    found = []
    for name, values in query.items():
        number, later = count_of(values[-1]), count_of(further.get(name, [""])[-1])
        grows = number is not None and later is not None and later - number in steps
        if name != size_parameter and (number in begins or grows):
            found.append(name)
    return found


def account_members(
    rows: Iterable[JsonObject], account_ids: set[str], account_types: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Relationships and attributes that hold the id of a listed account in every row.

    `account_types`: types of the listed accounts; a linkage of another type names something else, whose ids may be the same small numbers.
    """
    held = list(rows)
    relationships: dict[str, int] = {}
    attributes: dict[str, int] = {}
    for row in held:
        for name, value in _members(row, "relationships"):
            linkage = value.get("data") if isinstance(value, Mapping) else None
            is_account = isinstance(linkage, Mapping) and (not account_types or linkage.get("type") in account_types)
            if is_account and identifier_id(linkage) in account_ids:
                relationships[name] = relationships.get(name, 0) + 1
        for name, value in _members(row, "attributes"):
            if not isinstance(value, bool) and identifier_id(value) in account_ids:
                attributes[name] = attributes.get(name, 0) + 1
    whole = len(held)
    return [n for n, c in relationships.items() if c == whole], [n for n, c in attributes.items() if c == whole]


def _members(row: JsonObject, group: str) -> Iterable[tuple[str, Any]]:
    value = row.get(group)
    return value.items() if isinstance(value, dict) else ()


def rate_limit(headers: Mapping[str, str]) -> tuple[str, float | None]:
    """What the headers say of a rate limit, as sent, and the limit as requests a second where its period is told; empty where they are silent."""
    told = {n: v for n, v in headers.items() if "ratelimit" in n.replace("-", "") or n == "retry-after"}
    text = ", ".join(f"{name}: {value[:80]}" for name, value in sorted(told.items()))
    for value in told.values():
        # RateLimit-Policy: 100;w=60 (draft-ietf-httpapi-ratelimit-headers), or "q=100;w=60"
        parts = dict(p.strip().split("=", 1) for p in value.split(";") if "=" in p)
        quota = count_of(parts.get("q") or value.split(";", 1)[0].split(",")[0].strip())
        if quota is not None and (seconds := count_of(parts.get("w"))):
            return text, quota / seconds
    return text, None
