"""Asking for one account at a time: totals of single accounts, and whether the server honours the account filter at all.

What lives here: each account's own total in a sweep, with a second walk of it where that is not what was met (a list that is whole as a whole may
still be short of an account); the question that comes before rows without an account are believed. What does not: the total of the whole list
(`completeness`), planning by account (`plan`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from pipelines.parts import ReadPart
from pipelines.plan import Slice
from pipelines.reading import Reader, first_pages, total_of
from resources.appointedd import ApiClient
from resources.errors import AbilityRefusedError
from resources.part import Reconciliation

# Accounts whose first page is looked at; the first ones may well be empty.
MOST_ASKED = 5


def compare(reader: Reader, piece: Slice, met: pl.DataFrame) -> Iterator[tuple[Reconciliation, list[ReadPart]]]:
    """The evidence of each account of a swept list, with what a second walk of it brought; nothing where the API gives no such totals.

    `met`: keys that the sweep has met. One request for each account. A server that refuses or ignores the account filter leaves no evidence.
    """
    client = reader.client
    if len(piece.accounts) < 2 or not client.has(piece.stream, "account_filter"):
        return
    counts = dict(met.group_by("account_id").len().iter_rows())
    for account in piece.accounts:
        alone = replace(piece, accounts=(account,), only_account=account)
        try:
            total = total_of(first_pages(alone, client))
        except AbilityRefusedError as refusal:
            client.do_without(refusal)
            return
        count = counts.get(account, 0)
        if total is None or (total == met.height and len(counts) > 1):
            return  # no totals, or the same one for whoever is asked for: the filter is ignored
        if total == count:
            yield Reconciliation(total, total, count, 1, "settled", account), []
            continue
        parts = list(reader.read(alone, account))
        if not parts or not parts[-1].is_last:
            return  # stopped
        for own in parts[-1].reconciliations:
            yield replace(own, walks_count=own.walks_count + 1, account_id=account), parts


def honours_filter(
    client: ApiClient,
    accounts: Sequence[str],
    slices: Sequence[Slice],
    oldest: datetime,
    proven: set[tuple[bool, bool]],
) -> bool:
    """Whether two accounts that have rows are answered with different ones (evidence G14); True also where too few have any to tell.

    Asked before rows that do not name their account are stored, since a server that ignores the filter hands every row to whichever account is asked for
    first. A server may heed the filter alone and ignore it beside others. So it is asked with the very parameters that the slices will send, once for each
    set of bounds that is not among `proven` yet, and from `oldest` on, so that there are rows to tell by.
    """
    for bounds, piece in _widest(slices, oldest).items():
        if bounds in proven:
            continue
        seen: set[str] = set()
        answered = 0
        for account in accounts[:MOST_ASKED]:
            keys = _first_keys(replace(piece, only_account=account), client)
            if keys & seen:
                return False
            seen |= keys
            answered += bool(keys)
            if answered > 1:
                break
        proven.add(bounds)
    return True


def _widest(slices: Sequence[Slice], oldest: datetime) -> dict[tuple[bool, bool], Slice]:
    """A slice for each set of bounds (lower, upper) that is sent, with the widest that there are."""
    alike: dict[tuple[bool, bool], list[Slice]] = defaultdict(list)
    for piece in slices:
        alike[piece.filter_since is not None, piece.filter_until is not None].append(piece)
    widest = {}
    for bounds, pieces in alike.items():
        since = min((p.filter_since for p in pieces if p.filter_since), default=None)
        since = None if since is None else min(since, oldest)
        until = max((p.filter_until for p in pieces if p.filter_until), default=None)
        widest[bounds] = replace(pieces[0], filter_since=since, filter_until=until)
    return widest


def _first_keys(piece: Slice, client: ApiClient) -> set[str]:
    """Ids on the first page of each list of a slice."""
    firsts = first_pages(piece, client)
    return {str(r["id"]) for page in firsts for r in page.records if isinstance(r, dict) and "id" in r}
