"""Which accounts a run is about: the lists that the API clients gave, which of them serves which account, and what `SYNC_ACCOUNTS` chooses.

What lives here: reading the lists, at the start of a run and once more on the way, and sharing the accounts out. What does not: committing them (`run`),
time zones (`zones`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from pipelines.parts import ReadPart
from pipelines.plan import BEGINNING, MARGIN, Request, Slice, Window
from pipelines.reading import Reader
from pipelines.streams import ACCOUNTS
from resources.appointedd import ApiClient
from resources.errors import AbilityRefusedError, ApiError, SliceError, told

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccountLists:
    """The account lists at a run's start. `read`: API client → its list; those that failed are missing. The rest as in `Run`.

    Where none could be read, nobody knows the API's clock: `end` is the local one's, and nothing may be judged by it.
    """

    read: dict[str, ReadPart]
    end: datetime
    listed: dict[str, tuple[str, ...]]
    served: dict[str, tuple[str, ...]]


def list_accounts(
    clients: Mapping[str, ApiClient], request: Request, wanted: Sequence[str], problems: list[str]
) -> AccountLists:
    """Read the account list of every API client; one that fails, or may lack an account, has its problem noted, and the others go on. Nothing is written.

    `wanted`: `SYNC_ACCOUNTS`; the accounts that it leaves out are listed and not served. A list that has all whom it names lacks none.
    """
    read, lacking, failed = {}, list[str](), list[str]()
    for client in clients.values():
        try:
            part = read[client.name] = read_accounts(client, request)
            lacking += _what_it_lacks(client.name, part, client.contract.document.total)
        except ApiError as error:
            failed.append(told(client.name, error))
    lists = [part.batch.rows for part in read.values()]
    is_lacking = not wanted or not _names(lists).issuperset(wanted)
    for text in [*lacking, *failed]:
        log.warning("%s", text)
        if is_lacking or text in failed:
            problems.append(text)
    # The end is the Date of the API's own first answer, less a margin: never the local clock (docs/guarantees.md, 2).
    end = min((p.began_at for p in read.values()), default=datetime.now(UTC)) - MARGIN
    listed = {name: tuple(part.batch.rows.get_column("account_id")) for name, part in read.items()}
    is_whole = len(read) == len(clients)
    chosen = _chosen(wanted, lists, problems, is_whole=is_whole) if read else None
    served = _shared_out(listed)
    if chosen is not None:
        served = {name: tuple(a for a in accounts if a in chosen) for name, accounts in served.items()}
    return AccountLists(read, end, listed, served)


def _what_it_lacks(api_client: str, part: ReadPart, total: str) -> list[str]:
    """Why an account list that was read may lack an account, which nobody would read then; those that it has are read all the same.

    `total`: where the API counts them.
    """
    batch = part.batch
    found = [
        f"API client {api_client!r}: the API counts {evidence.last_total} accounts, and {evidence.walks_count} walks of its account list read "
        f"{evidence.distinct_count}, so some are not read. The next run asks again; if the difference stays, correct the paging names in the contract, or, if "
        f'{total} counts something else, set document.total = "" and document.ignored_marks = ["{total}"] there and run a sweep.'
        for evidence in part.reconciliations
        if evidence.verdict == "different"
    ]
    if batch.quarantine:
        found.append(
            f"API client {api_client!r}: {len(batch.quarantine)} of {batch.read_count} records of its account list could not become accounts, so what they "
            f"stand for is not read; they are kept in ops.quarantine ({batch.quarantine[0][0]}). If the API names accounts otherwise, correct "
            f"streams.accounts in the contract; if they are none, name the accounts that are to be read in SYNC_ACCOUNTS."
        )
    return found


def nobody_lists(names: Sequence[str]) -> str:
    """The sentence for names in `SYNC_ACCOUNTS` that are no account."""
    return f"SYNC_ACCOUNTS names {', '.join(names)}, which no API client lists: correct the name, or give an API client that account again."


def _names(lists: Sequence[pl.DataFrame]) -> set[str]:
    """What accounts may be named by: ids and slugs."""
    return {name for rows in lists for row in rows.select("account_id", "slug").iter_rows() for name in row}


def _chosen(
    wanted: Sequence[str], lists: Sequence[pl.DataFrame], problems: list[str], *, is_whole: bool
) -> set[str] | None:
    """The accounts that `SYNC_ACCOUNTS` selects, by id or slug; None where it selects all. `is_whole`: every API client's list was read.

    A name that is to be left out and that nobody lists selects nothing: it may be an account that was renamed, and would be read.
    """
    if not wanted:
        return None
    is_exclusion = wanted[0].startswith("!")
    names = {name.removeprefix("!") for name in wanted}
    known = [row for rows in lists for row in rows.select("account_id", "slug").iter_rows()]
    missing = sorted(names - _names(lists)) if is_whole else []
    if missing:
        problem = nobody_lists(missing)
        if is_exclusion:
            problems.append(
                f"{problem} Until then nothing is read, since an account that is to be left out may have another name now."
            )
            return set()
        problems.append(problem)
    named = {account_id for account_id, slug in known if names & {account_id, slug}}
    chosen = {account_id for account_id, _ in known} - named if is_exclusion else named
    if not chosen and not missing and is_whole:
        problems.append(
            f"SYNC_ACCOUNTS selects none of the {len(known)} accounts that are listed, so nothing was read."
        )
    return chosen


def read_accounts(client: ApiClient, request: Request) -> ReadPart:
    """The whole account list of one API client as one part; it is short enough to be held."""
    whole = Slice(ACCOUNTS.name, client.name, request.kind, (), Window(BEGINNING, BEGINNING))
    while True:
        try:
            parts = list(Reader(ACCOUNTS, client, zones={}).read(whole))
        except AbilityRefusedError as refusal:
            client.do_without(refusal)
            log.info("%s", refusal)
            continue
        if len(parts) != 1:
            raise SliceError(
                f"API client {client.name!r}: the account list is longer than {len(parts)} parts can hold."
            )
        if parts[0].batch.rows.height == 0:
            raise SliceError(
                f"API client {client.name!r} sees no account at all. That is never taken for 'no data': check in Appointedd which "
                f"accounts the API client may read, and that its creator is still an administrator of them."
            )
        return parts[0]


class Listings:
    """The accounts that each API client lists now, read once for all streams until something more was read (`forget`)."""

    def __init__(self, clients: Mapping[str, ApiClient], request: Request) -> None:
        self._clients = clients
        self._request = request
        self._known: dict[str, set[str] | ApiError] = {}

    def forget(self) -> None:
        """What is read from here on must be listed again."""
        self._known.clear()

    def of(self, api_client: str) -> set[str]:
        """The accounts of one API client; raises `ApiError`, for all streams where it was raised once: it comes after many attempts."""
        known = self._known.get(api_client)
        if known is None:
            try:
                found = read_accounts(self._clients[api_client], self._request).batch.rows
                known = set(found.get_column("account_id"))
            except ApiError as error:
                known = error
            self._known[api_client] = known
        if isinstance(known, ApiError):
            raise known
        return known


def _shared_out(listed: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Each account belongs to one API client: the first, in the order of the settings, that lists it."""
    taken: set[str] = set()
    served = {}
    for name, accounts in listed.items():
        served[name] = tuple(a for a in accounts if a not in taken)
        taken |= set(accounts)
    return served


def all_accounts(served: Mapping[str, Sequence[str]]) -> set[str]:
    """The accounts of all API clients together."""
    return {account for accounts in served.values() for account in accounts}
