"""One run: which API client may read which accounts, as the API itself said at the run's start, and what the run did.

What lives here: the account list, read once and committed; the end of the run's windows; reports. What does not: reading the other streams
(`walker`), the order of a night (`sync`).
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl

from pipelines.plan import BEGINNING, CLOCK_TOLERANCE, MARGIN, Request, Slice, Window
from pipelines.reading import AccountsUnnamedError, ReadPart, read_slice
from pipelines.streams import ACCOUNTS, streams_of
from pipelines.zones import account_zones
from resources.alive import living_runs, note_run
from resources.appointedd import ApiClient, open_clients
from resources.contract import Contract
from resources.errors import AbilityRefusedError, ApiError, ProductError, SliceError
from resources.part import Brake, Counts, Part, Table
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer

log = logging.getLogger(__name__)


@dataclass
class StreamReport:
    """What a run did for one stream; units: rows, requests, seconds. `watermark` is the earliest of all accounts."""

    stream: str
    counts: Counts = field(default_factory=Counts)
    by_account: dict[str, dict[str, int]] = field(default_factory=dict)
    slices: int = 0
    pages: int = 0
    requests: int = 0
    retries: int = 0
    waited_s: float = 0.0
    watermarks: dict[str, datetime | None] = field(default_factory=dict)
    drift: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def watermark(self) -> datetime | None:
        """Complete up to here for all accounts; None where one of them is not complete at all."""
        marks = list(self.watermarks.values())
        return None if not marks or None in marks else min(m for m in marks if m is not None)


@dataclass
class Run:
    """One run: who may read what, as the API said at its start. Made by `open_run`.

    `end`: upper end of every window of this run, server time. `accounts`: API client → the accounts that it serves in this run.
    `listed`: API client → all accounts that it listed. `ends_with_publishing`: publishing ends the run; without it, each stream's end may be the last.
    """

    run_id: str
    request: Request
    settings: Settings
    contract: Contract
    warehouse: Warehouse
    clients: dict[str, ApiClient]
    end: datetime
    accounts: dict[str, tuple[str, ...]]
    listed: dict[str, tuple[str, ...]]
    zones: dict[str, str]
    accounts_report: StreamReport
    started_by: str
    version: str
    ends_with_publishing: bool = True
    needs_account: set[tuple[str, str]] = field(default_factory=set)

    def leaves_out(self, api_client: str) -> bool:
        """Whether the API client listed accounts that `SYNC_ACCOUNTS` leaves out."""
        return bool(self.settings.sync_accounts) and not set(self.listed[api_client]) <= all_accounts(self.accounts)

    def keeps(self, api_client: str) -> frozenset[str] | None:
        """The accounts whose rows are kept, where `SYNC_ACCOUNTS` chooses; None: all. What no list has shown yet is not chosen."""
        return frozenset(self.accounts[api_client]) if self.settings.sync_accounts else None

    @property
    def problems(self) -> list[str]:
        """What made the reading of the accounts incomplete."""
        return self.accounts_report.problems


def new_run_id() -> str:
    """An id for a run that Dagster did not name."""
    return str(uuid.uuid4())


@contextmanager
def open_run(
    settings: Settings,
    contract: Contract,
    warehouse: Warehouse,
    request: Request,
    *,
    run_id: str,
    started_by: str,
    version: str,
    ends_with_publishing: bool = True,
) -> Iterator[Run]:
    """Read the account list of every API client, once, and commit it; then the run can read streams.

    An API client that fails here has its problem noted and no part in the run; the others go on.
    """
    with ExitStack() as stack:
        clients = {c.name: stack.enter_context(c) for c in open_clients(settings, contract)}
        report = StreamReport(ACCOUNTS.name)
        with counted(report, clients.values()), warehouse.writer(f"{request.kind}, run {run_id}") as writer:
            writer.end_killed_runs(living_runs(warehouse.path))
            note_run(warehouse.path, run_id)
            writer.ensure_tables([s.name for s in streams_of(contract).values() if s.is_generic])
            writer.start_run(run_id, request.kind, started_by, version, list(streams_of(contract)))
            with noted_end(writer, run_id, ACCOUNTS.name):
                seen = list_accounts(clients, request, settings.sync_accounts, report.problems)
            served = seen.served
            disbelieve(writer, ACCOUNTS.name, seen.end, report)
            for name, part in seen.read.items():
                own = part.batch.rows.filter(pl.col("account_id").is_in(served[name]))
                part.slice = replace(part.slice, accounts=served[name], window=Window(BEGINNING, seen.end))
                part.batch = replace(part.batch, rows=own)
                commit_part(writer, run_id, ACCOUNTS.target, part, report, slice_id=new_run_id(), number=1)
            zones = account_zones(writer, settings, contract, report.warnings)
            report.watermarks = {a: m for a, m in writer.watermarks(ACCOUNTS.name).items() if a in all_accounts(served)}
            writer.end_run(run_id, report.problems, report.warnings, is_over=False)
        yield Run(
            run_id=run_id,
            request=request,
            settings=settings,
            contract=contract,
            warehouse=warehouse,
            clients={n: c for n, c in clients.items() if n in seen.read},
            end=seen.end,
            accounts=served,
            listed=seen.listed,
            zones=zones,
            accounts_report=report,
            started_by=started_by,
            ends_with_publishing=ends_with_publishing,
            version=version,
        )


@contextmanager
def noted_end(writer: Writer, run_id: str, what: str) -> Iterator[None]:
    """Whatever ends the `with` early (a signal, a full disk, a bug) is a problem of the run's row, which must not stand as running; it is raised on."""
    try:
        yield
    except BaseException as error:
        writer.end_run(run_id, [f"{what}: was not read to its end: {ended_by(error)}"], [])
        raise


def ended_by(error: BaseException) -> str:
    """What ended something, for a sentence: the product's own words, or the kind of what stopped it."""
    return str(error) if isinstance(error, ProductError) else f"stopped by {type(error).__name__}"


def disbelieve(writer: Writer, stream: str, end: datetime, report: StreamReport) -> None:
    """Take back windows that end after the API's present clock: a wrong one dated them (design promise 2)."""
    count = writer.disbelieve(stream, end + MARGIN + CLOCK_TOLERANCE)
    if count:
        report.warnings.append(
            f"{stream}: {count} slices were dated by a clock that was ahead of the API's present one ({end:%Y-%m-%d %H:%M} UTC), so what they were "
            f"worth is asked for again."
        )


@dataclass(frozen=True)
class AccountLists:
    """The account lists at a run's start. `read`: API client → its list; those that failed are missing. The rest as in `Run`."""

    read: dict[str, ReadPart]
    end: datetime
    listed: dict[str, tuple[str, ...]]
    served: dict[str, tuple[str, ...]]


def list_accounts(
    clients: Mapping[str, ApiClient], request: Request, wanted: Sequence[str], problems: list[str]
) -> AccountLists:
    """Read the account list of every API client; one that fails has its problem noted, and the others go on. Nothing is written.

    `wanted`: `SYNC_ACCOUNTS`; the accounts that it leaves out are listed and not served.
    """
    read = {}
    for client in clients.values():
        try:
            read[client.name] = read_accounts(client, request)
        except ApiError as error:
            text = str(error)
            text = text if text.startswith("API client") else f"API client {client.name!r}: {text}"
            log.warning("%s", text)
            problems.append(text)
    # The end is the Date of the API's own first answer, less a margin: never the local clock (design promise 2).
    end = min((p.began_at for p in read.values()), default=datetime.now(UTC)) - MARGIN
    listed = {name: tuple(part.batch.rows.get_column("account_id")) for name, part in read.items()}
    is_whole = len(read) == len(clients)
    chosen = _chosen(wanted, [part.batch.rows for part in read.values()], problems, is_whole=is_whole) if read else None
    served = _shared_out(listed)
    if chosen is not None:
        served = {name: tuple(a for a in accounts if a in chosen) for name, accounts in served.items()}
    return AccountLists(read, end, listed, served)


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
    missing = sorted(names - {name for row in known for name in row}) if is_whole else []
    if missing:
        problems.append(
            f"SYNC_ACCOUNTS names {', '.join(missing)}, which no API client lists: correct the name, or give an API client that account again."
            + (
                " Until then nothing is read, since an account that is to be left out may have another name now."
                if is_exclusion
                else ""
            )
        )
        if is_exclusion:
            return set()
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
            parts = list(read_slice(whole, ACCOUNTS, client, {}, None, lambda: False, lambda _: None))
        except AbilityRefusedError as refusal:
            client.without.add((refusal.stream, refusal.ability))
            log.info("%s", refusal)
            continue
        except AccountsUnnamedError:
            raise AssertionError("an account names itself") from None
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


@contextmanager
def counted(report: StreamReport, clients: Iterable[ApiClient]) -> Iterator[None]:
    """Add what the API clients' traffic costs during a `with` to a report."""
    watched = list(clients)
    before = [(c.traffic.requests, c.traffic.retries, c.rate.waited_s) for c in watched]
    try:
        yield
    finally:
        for client, (requests, retries, waited_s) in zip(watched, before, strict=True):
            report.requests += client.traffic.requests - requests
            report.retries += client.traffic.retries - retries
            report.waited_s += client.rate.waited_s - waited_s


def commit_part(
    writer: Writer,
    run_id: str,
    table: Table,
    part: ReadPart,
    report: StreamReport,
    *,
    slice_id: str,
    number: int,
    gone: pl.DataFrame | None = None,
    brakes: Sequence[Brake] = (),
) -> None:
    """Commit a part that was read, and count it."""
    piece, batch = part.slice, part.batch
    counts = writer.commit(
        Part(
            slice_id=slice_id,
            part_number=number,
            is_last_part=part.is_last,
            run_id=run_id,
            table=table,
            api_client=piece.api_client,
            kind=piece.kind,
            account_ids=piece.accounts,
            since=None if piece.window.since == BEGINNING else piece.window.since,
            until=piece.window.until,
            pages_count=part.pages_count,
            fetched_at=part.fetched_at,
            rows=batch.rows,
            children=batch.children,
            read_count=batch.read_count,
            duplicate_count=batch.duplicate_count,
            quarantine=batch.quarantine,
            drift=[(k.kind, k.path, k.detail, n, batch.examples.get(k)) for k, n in batch.drift.items()],
            gone=gone,
            brakes=brakes,
            reconciliations=part.reconciliations,
        )
    )
    report.counts += counts
    for key, count in batch.drift.items():
        report.drift[key.kind] += count
    report.pages += part.pages_count
    report.slices += part.is_last
