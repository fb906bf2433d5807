"""What the vendor's OpenAPI file suggests: which list is which stream, and which parameter may mean what.

What lives here: pure reading of a `Description`. What does not: believing it; `probe` asks the live API for everything that matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.connect.matching import fold
from resources.contract import Contract
from resources.openapi import Description, ListEndpoint, Parameter, Server, comparable

_CHANGE = {"updated", "update", "modified", "modification", "changed", "change"}
_LOWER = {"after", "since", "from", "gte", "gt", "ge", "min", "start"}
_UPPER = {"before", "until", "to", "lte", "lt", "le", "max", "end", "till"}
_OTHER_INSTANTS = {"created", "creation", "start", "starts", "end", "ends", "begin", "booked"}
_ACCOUNTS = {"account", "organisation", "organization", "location", "business", "shop", "store"}


@dataclass(frozen=True)
class Hints:
    """Parameter names of one list by what they may mean, likeliest first. `changes`: lower and upper bound, the upper one perhaps empty."""

    page_size: tuple[str, ...] = ()
    page_size_maximum: int | None = None
    changes: tuple[tuple[str, str], ...] = ()
    account: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    sort_words: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    include_words: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    status_words: tuple[str, ...] = ()
    with_cancelled: tuple[str, ...] = ()


def unique(*lists: Iterable[str]) -> list[str]:
    """Names in order of likelihood, each once; empty ones are left out."""
    return list(dict.fromkeys(name for names in lists for name in names if name))


def tokens(name: str) -> list[str]:
    """A parameter's name in words: filter[updatedAfter] → filter, updated, after."""
    return re.sub(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])", " ", name).lower().split()


def endpoints(description: Description | None, contract: Contract) -> dict[str, ListEndpoint]:
    """Stream → the list of the file that looks like it: by the last step of its path, else by the type of its records."""
    found: dict[str, ListEndpoint] = {}
    if description is None:
        return found
    for stream in contract.streams:
        names = contract.streams[stream]
        wanted = [fold(n) for n in (names.path.rpartition("/")[2], *contract.plausible.paths.get(stream, ()))]
        types = {fold(t) for t in names.types}
        ranked = []
        for number, endpoint in enumerate(description.lists):
            last = fold(endpoint.path.rstrip("/").rpartition("/")[2])
            own_types = {fold(w) for w in endpoint.record.at("type").words}
            if last in wanted:
                ranked.append((wanted.index(last), number, endpoint))
            elif own_types & (types | set(wanted)):
                ranked.append((len(wanted), number, endpoint))
        if ranked:
            found[stream] = min(ranked, key=lambda r: r[:2])[2]
    return found


def contract_path(endpoint: ListEndpoint, description: Description, base_url: str) -> str:
    """A file's path as the contract needs it: below the base address of the settings, by whichever server of the file that address is."""
    base = urlsplit(base_url).path.rstrip("/")
    servers = endpoint.servers or description.servers
    fitting = _fitting(servers, base_url) if base_url else None
    prefix = urlsplit(servers[0].url).path.rstrip("/") if servers else base
    if fitting is not None:
        prefix = base if fitting.is_at(base_url) else urlsplit(fitting.url).path.rstrip("/")
    whole = f"{prefix}/{endpoint.path.strip('/')}"
    return whole.removeprefix(base + "/").strip("/") if whole.startswith(base + "/") else whole


def _fitting(servers: Sequence[Server], base_url: str) -> Server | None:
    """The server that an address is, else one at the same host."""
    host = urlsplit(comparable(base_url)).netloc
    same = [s for s in servers if urlsplit(comparable(s.url)).netloc in (host, "")]
    return next((s for s in servers if s.is_at(base_url)), same[0] if same else None)


def hints(endpoint: ListEndpoint | None) -> Hints:
    """What the parameters of a list may mean."""
    if endpoint is None:
        return Hints()
    named = [(p, tokens(p.name)) for p in endpoint.parameters]
    sizes = [p for p, t in named if "size" in t or "limit" in t or "perpage" in t or {"per", "page"} <= set(t)]
    sorts = [p for p, t in named if t and t[0] in ("sort", "order", "orderby", "sortby")]
    includes = [p for p, t in named if t in (["include"], ["expand"], ["includes"])]
    statuses = [p for p, t in named if {"status", "statuses", "state", "states"} & set(t)]
    hidden = [p for p, t in named if {"cancelled", "canceled"} & set(t)]
    return Hints(
        page_size=_names(sizes),
        page_size_maximum=next((p.shape.maximum for p in sizes if p.shape.maximum), None),
        changes=tuple(_changes(named)),
        account=_names(p for p, t in named if _singular(t) & _ACCOUNTS and "slug" not in t),
        sort=_names(sorts),
        sort_words=_words(sorts),
        include=_names(includes),
        include_words=_words(includes),
        status=_names(statuses),
        status_words=_words(statuses),
        with_cancelled=_names(hidden),
    )


def _names(parameters: Iterable[Parameter]) -> tuple[str, ...]:
    return tuple(p.name for p in parameters)


def _words(parameters: Iterable[Parameter]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for parameter in parameters:
        inner = parameter.shape.items
        found |= dict.fromkeys((*parameter.shape.words, *(inner.words if inner else ())))
    return tuple(found)


def _singular(words: Iterable[str]) -> set[str]:
    return {w for word in words for w in (word, word.removesuffix("s"))}


def _changes(named: list[tuple[Parameter, list[str]]]) -> list[tuple[str, str]]:
    """Pairs of a lower and an upper bound: those that name a change first, then bounds that name no other instant either."""
    pairs = []
    for is_named in (True, False):
        lows = [(p.name, set(t)) for p, t in named if _is_bound(t, _LOWER, is_named)]
        tops = [(p.name, set(t)) for p, t in named if _is_bound(t, _UPPER, is_named)]
        for name, words in lows:
            partner = next((n for n, w in tops if w - _UPPER == words - _LOWER), "")
            pairs.append((name, partner or (tops[0][0] if tops and is_named else "")))
    return pairs


def _is_bound(words: list[str], bound: set[str], is_named: bool) -> bool:
    whole = set(words)
    if not whole & bound or whole & {"page", "cursor"}:
        return False
    return bool(whole & _CHANGE) if is_named else not whole & (_CHANGE | (_OTHER_INSTANTS - bound))
