"""One run: which API client may read which accounts, as the API itself said at the run's start, and what the run did.

What lives here: the account lists, committed; the end of the run's windows; reports. What does not: reading and choosing accounts (`accounts`), the
other streams (`walker`), the order of a night (`sync`).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl

from pipelines.accounts import AccountLists, all_accounts, list_accounts
from pipelines.beside import ShapingProcesses, is_of_use
from pipelines.ending import noted_end
from pipelines.normalise import together
from pipelines.parts import ReadPart
from pipelines.plan import BEGINNING, CLOCK_TOLERANCE, MARGIN, Request, Window
from pipelines.streams import ACCOUNTS, Stream, streams_of
from pipelines.zones import account_zones
from resources.alive import living_runs, note_run
from resources.appointedd import ApiClient, open_clients
from resources.contract import Contract
from resources.errors import in_one_line
from resources.exchange import Traffic
from resources.part import Brake, Commit, Counts, Part, Table
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer


class Sentences(list[str]):
    """Problems or warnings, each in one line whatever it quotes: Dagster and the run's row take them as they stand."""

    def append(self, sentence: str) -> None:
        """Add one."""
        super().append(in_one_line(sentence))


@dataclass
class StreamReport:
    """What a run did for one stream; units: rows, requests, seconds. `watermark` is the earliest of all accounts.

    `traffic`: all that was asked for it, so besides its own pages the account lists that its commits waited for, and tokens.
    """

    stream: str
    counts: Counts = field(default_factory=Counts)
    slices: int = 0
    pages: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    watermarks: dict[str, datetime | None] = field(default_factory=dict)
    drift: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=Sentences)
    warnings: list[str] = field(default_factory=Sentences)

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
    `beside`: processes that pages may be shaped in.

    What is found out on the way, each of an API client and a stream: `needs_account`: its accounts must be asked for one by one. `uncut`: its slices
    cannot be cut. `given_up`: nobody can tell whose its rows are, so nothing more is asked. `heeded`: the bounds beside which the account filter counts.
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
    beside: ShapingProcesses | None = None
    needs_account: set[tuple[str, str]] = field(default_factory=set)
    uncut: set[tuple[str, str]] = field(default_factory=set)
    given_up: set[tuple[str, str]] = field(default_factory=set)
    heeded: dict[tuple[str, str], set[tuple[bool, bool]]] = field(default_factory=dict)

    def leaves_out(self, api_client: str) -> bool:
        """Whether the API client listed accounts that `SYNC_ACCOUNTS` leaves out."""
        return bool(self.settings.sync_accounts) and not set(self.listed[api_client]) <= all_accounts(self.accounts)

    @property
    def keeps(self) -> frozenset[str] | None:
        """The accounts whose rows are kept, where `SYNC_ACCOUNTS` chooses; None: all. What no list has shown yet is not chosen.

        Rows of an account that another API client serves are kept too: what one of them shows is not gone.
        """
        return frozenset(all_accounts(self.accounts)) if self.settings.sync_accounts else None

    def asks_alone(self, stream: Stream, api_client: str) -> bool:
        """Whether each account is asked for alone: because rows do not name theirs, or since some are left out, whose rows need not even be read."""
        return (api_client, stream.name) in self.needs_account or (
            self.leaves_out(api_client) and self.clients[api_client].has(stream.name, "account_filter")
        )

    @property
    def absent(self) -> set[str]:
        """The API clients of the settings that have no part in this run, since their account lists could not be read."""
        return {client.name for client in self.settings.api_access().clients} - set(self.clients)

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
    ends_with_accounts: bool = False,
) -> Iterator[Run]:
    """Read the account list of every API client, once, and commit it; then the run can read streams, unless that list is all it is for.

    An API client that fails here has its problem noted and no part in the run; the others go on.
    """
    with ExitStack() as stack:
        clients = {c.name: stack.enter_context(c) for c in open_clients(settings, contract)}
        report = StreamReport(ACCOUNTS.name)

        def end(writer: Writer, ended: Sequence[str]) -> None:
            writer.end_run(run_id, [*report.problems, *ended], report.warnings, is_over=ends_with_accounts)

        purpose = f"{request.kind}, run {run_id}"
        with (
            counted(report, clients.values()),
            noted_end(warehouse, purpose, run_id, f"{ACCOUNTS.name}: not read to the end: ", end) as writer,
        ):
            writer.end_killed_runs(living_runs(warehouse.path))
            note_run(warehouse.path, run_id)
            writer.ensure_tables([s.name for s in streams_of(contract).values() if s.is_generic])
            writer.start_run(
                run_id, request.kind, started_by, version, warehouse.limits, list(streams_of(contract)), list(clients)
            )
            for doubt in settings.api_access().doubts:
                report.warnings.append(doubt)
            seen = list_accounts(clients, request, settings.sync_accounts, report.problems)
            if seen.read:
                # Here and not stream by stream: by then another run may have read and committed later than this one's end.
                for name in streams_of(contract):
                    _disbelieve(writer, name, seen.end, report)
            _commit_accounts(writer, run_id, seen, report)
            zones = account_zones(writer, settings, contract, report.warnings)
            report.watermarks = {
                a: m for a, m in writer.watermarks(ACCOUNTS.name).items() if a in all_accounts(seen.served)
            }
        yield Run(
            run_id=run_id,
            request=request,
            settings=settings,
            contract=contract,
            warehouse=warehouse,
            clients={n: c for n, c in clients.items() if n in seen.read},
            end=seen.end,
            accounts=seen.served,
            listed=seen.listed,
            zones=zones,
            accounts_report=report,
            started_by=started_by,
            ends_with_publishing=ends_with_publishing,
            version=version,
            beside=stack.enter_context(closing(ShapingProcesses())) if is_of_use(settings.sync_concurrency) else None,
        )


def _commit_accounts(writer: Writer, run_id: str, seen: AccountLists, report: StreamReport) -> None:
    """Commit the account lists, of each API client the accounts that it serves in this run."""
    for name, part in seen.read.items():
        own = part.batch.rows.filter(pl.col("account_id").is_in(seen.served[name]))
        piece = replace(part.slice, accounts=seen.served[name], window=Window(BEGINNING, seen.end))
        ready = Ready(replace(part, slice=piece, batch=replace(part.batch, rows=own)))
        commit_parts(writer, run_id, ACCOUNTS.target, [ready], report)


def _disbelieve(writer: Writer, stream: str, end: datetime, report: StreamReport) -> None:
    """Take back windows that end after the API's present clock, and date rows anew that were read after it: a wrong one dated them (docs/guarantees.md, 2)."""
    present, told = end + MARGIN, f"dated by a clock that was ahead of the API's present one ({end:%Y-%m-%d %H:%M} UTC)"
    count = writer.disbelieve(stream, present + CLOCK_TOLERANCE)
    if count:
        report.warnings.append(f"{stream}: {count} slices were {told}, so what they were worth is asked for again.")
    # A window is asked for again, a date is gone for good: one answer that is dated long ago must not date all rows, so this machine's clock may object.
    count = writer.date_anew(stream, max(present, datetime.now(UTC)) + CLOCK_TOLERANCE, end)
    if count:
        report.warnings.append(f"{stream}: {count} rows were {told}, so they count as read now.")


@contextmanager
def counted(report: StreamReport, clients: Iterable[ApiClient]) -> Iterator[None]:
    """Count what this thread asks the API clients during a `with` into a report."""
    with ExitStack() as stack:
        for client in clients:
            stack.enter_context(client.exchange.counting(report.traffic))
        yield


@dataclass(frozen=True)
class Ready:
    """A part that may be committed: `slice_id` and `number` are its place in the ledger, `gone` and `brakes` what a sweep found (`resources.part`)."""

    part: ReadPart
    slice_id: str = field(default_factory=new_run_id)
    number: int = 1
    gone: pl.DataFrame | None = None
    brakes: Sequence[Brake] = ()

    def booked(self, run_id: str, lost: int) -> Part:
        """The bookkeeping of it; `lost` of its rows came newer with another part of the same commit."""
        part, piece, batch = self.part, self.part.slice, self.part.batch
        return Part(
            slice_id=self.slice_id,
            part_number=self.number,
            is_last_part=part.is_last,
            run_id=run_id,
            api_client=piece.api_client,
            kind=piece.kind,
            account_ids=piece.accounts,
            since=None if piece.window.since == BEGINNING else piece.window.since,
            until=piece.window.until,
            pages_count=part.pages_count,
            fetched_at=part.fetched_at,
            read_count=batch.read_count,
            duplicate_count=batch.duplicate_count + lost,
            quarantine=batch.quarantine,
            drift=[(k.kind, k.path, k.detail, n, batch.examples.get(k)) for k, n in batch.drift.items()],
            gone=self.gone,
            brakes=self.brakes,
            reconciliations=part.reconciliations,
        )


def commit_parts(writer: Writer, run_id: str, table: Table, ready: Sequence[Ready], report: StreamReport) -> None:
    """Commit parts of different slices, all of one kind, in one transaction, and count them."""
    rows, children, lost = together({one.slice_id: one.part.batch for one in ready})
    booked = [one.booked(run_id, lost.get(one.slice_id, 0)) for one in ready]
    for counts in writer.commit(Commit(table, rows, children, booked, ready[0].part.batch.shape)):
        report.counts += counts
    for part in (one.part for one in ready):
        for key, count in part.batch.drift.items():
            report.drift[key.kind] += count
        report.pages += part.pages_count
        report.slices += part.is_last
