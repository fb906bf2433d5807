"""What a run would ask, before anything runs: its slices, and an estimate of the requests.

What lives here: the account lists and the first page of each slice (GET only), the stored windows, put to the same planning as a run; the estimate.
What does not: the rules of planning (`plan`), reading or writing a stream. Two things only a run can find out: that rows do not name their account, and
refused parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.accounts import list_accounts
from pipelines.committing import pages_together
from pipelines.first_load import never_swept
from pipelines.plan import BEGINNING, Request, Slice, pages_needed
from pipelines.reading import filters_of
from pipelines.run import Run, StreamReport, counted, new_run_id
from pipelines.splitting import longest_chain, requests_needed
from pipelines.status import Source, reading
from pipelines.streams import ACCOUNTS, Stream
from pipelines.sync import plan_stream, stored_windows
from resources.appointedd import ApiClient, open_clients
from resources.contract import Contract
from resources.errors import ApiError
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer

log = logging.getLogger(__name__)
# A plan asks for the first page of so many slices and no more: with many accounts that are read one by one it would become a run of its own.
MOST_ASKED = 12


@dataclass(frozen=True)
class PlannedSlice:
    """A slice and what it is thought to cost. `rows_told`: what the API counts for it, None where it was not asked or does not count.

    `is_at_least`: neither the API nor the warehouse knows how large it is, so the number is only a lower bound. `answering_s`: how long the API will take
    to answer, with the requests that run side by side.
    """

    slice: Slice
    rows_known: int
    rows_told: int | None
    requests: int
    is_at_least: bool
    answering_s: float


@dataclass
class Preview:
    """What a run would ask. `source` is None where there is no warehouse yet. `listing_requests`: tokens and account lists, for all API clients.

    `asked_requests`: first pages that were asked for to make this estimate. `shortest_s`: seconds that the slowest API client needs, by its rate budget
    or by the time that the API took for the first pages, whichever is longer; what is done with the rows takes its time besides.
    """

    kind: str
    end: datetime
    source: Source | None
    listing_requests: int
    asked_requests: int = 0
    slices: list[PlannedSlice] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    shortest_s: float = 0.0

    @property
    def requests(self) -> int:
        """The estimate for the whole run."""
        return self.listing_requests + sum(piece.requests for piece in self.slices)

    @property
    def is_at_least(self) -> bool:
        """Whether the estimate is only a lower bound."""
        return any(piece.is_at_least for piece in self.slices)


def preview(
    settings: Settings, contract: Contract, warehouse: Warehouse, request: Request, streams: Sequence[Stream]
) -> Preview:
    """Plan a run without running it. An API client that fails has its problem noted and no slices, as in a run.

    The accounts have no slice here: their lists are read to make the plan, as they are at the start of every run.
    """
    with ExitStack() as stack:
        clients = {c.name: stack.enter_context(c) for c in open_clients(settings, contract)}
        report = StreamReport(ACCOUNTS.name)
        with counted(report, clients.values()):
            seen = list_accounts(clients, request, settings.sync_accounts, report.problems)
        run = Run(
            run_id=new_run_id(),
            request=request,
            settings=settings,
            contract=contract,
            warehouse=warehouse,
            clients={n: c for n, c in clients.items() if n in seen.read},
            end=seen.end,
            accounts=seen.served,
            listed=seen.listed,
            zones={},
            accounts_report=report,
            started_by="cli",
            version="",
        )
        with _known(warehouse) as (known, source):
            found = Preview(request.kind, seen.end, source, report.traffic.requests, problems=report.problems)
            for stream in streams:
                if stream is ACCOUNTS:
                    continue
                for piece in _slices(run, stream, known):
                    found.slices.append(_estimate(run, piece, known, is_asked=len(found.slices) < MOST_ASKED))
        found.asked_requests = sum(c.exchange.traffic.requests for c in clients.values()) - report.traffic.requests
    for name in run.clients:
        own = [p for p in found.slices if p.slice.api_client == name]
        paced_s = sum(p.requests for p in own) / settings.sync_requests_per_second
        found.shortest_s = max(found.shortest_s, paced_s, sum(p.answering_s for p in own))
    return found


@contextmanager
def _known(warehouse: Warehouse) -> Iterator[tuple[Writer | None, Source | None]]:
    """The stored state through a `Writer`'s questions, on a connection that cannot write; nothing before the first sync."""
    if not warehouse.path.exists():
        yield None, None
        return
    with reading(warehouse) as (connection, source):
        yield Writer(connection, source.path), source


def _slices(run: Run, stream: Stream, known: Writer | None) -> list[Slice]:
    """The slices of a run, the sweep that ends a first load included (the rule is `sync.never_swept`)."""
    windows = stored_windows(known, stream) if known else {}
    slices = plan_stream(run, stream, windows, run.request)
    if run.request.kind == "nightly":
        # Of an account that came later, a count is likely to be enough.
        new = never_swept(run, stream, known.swept(stream.name) if known else set())
        whole = {name for name, accounts in new.items() if accounts == run.accounts[name]}
        begun = {s.api_client for s in slices if s.kind == "nightly"}
        slices += [s for s in plan_stream(run, stream, windows, Request("sweep")) if s.api_client in begun & whole]
    return slices


def _estimate(run: Run, piece: Slice, known: Writer | None, *, is_asked: bool) -> PlannedSlice:
    accounts = [piece.only_account] if piece.only_account else list(run.listed[piece.api_client])
    since = None if piece.window.since == BEGINNING else piece.window.since
    rows = known.count_rows(piece.stream, accounts, since, piece.window.until) if known else 0
    client = run.clients[piece.api_client]
    size = int(run.contract.parameters.page_size_value)
    told, full, answering_s = _ask(client, piece) if is_asked else (None, None, 0.0)
    in_flight = client.exchange.busy(run.settings.sync_concurrency)
    pages = pages_needed(rows if told is None else told, full or size)
    # What is asked for besides: the other lists of the contract, the account list once more for each transaction and at the end of a sweep.
    together = pages_together(run.settings.sync_concurrency)
    besides = len(run.contract.streams[piece.stream].queries) - 1 + (piece.kind == "sweep") + pages // together
    is_cut = client.has(piece.stream, "upper_bound") and (piece.kind != "sweep" or run.request.kind == "nightly")
    requests = (requests_needed(pages, in_flight) if is_cut else pages) + besides
    is_known = told is not None or (rows > 0 and client.has(piece.stream, "page_size"))
    is_chain = not is_cut or pages <= longest_chain(in_flight)
    seconds = requests * answering_s / (1 if is_chain else in_flight)
    return PlannedSlice(piece, rows, told, requests, is_at_least=not is_known, answering_s=seconds)


def _ask(client: ApiClient, piece: Slice) -> tuple[int | None, int | None, float]:
    """The first page of a slice: rows that the API counts, rows of a full page, seconds that it took; None where it does not tell."""
    before = client.exchange.traffic.answering_s
    own = client.contract.streams[piece.stream].queries
    try:
        pages = [next(client.pages(piece.stream, filters_of(piece, client), query)) for query in own]
    except ApiError as error:
        # What keeps a page from being read is the run's to tell; here it only leaves the size unknown.
        log.info("%s", error)
        return None, None, 0.0
    seconds = (client.exchange.traffic.answering_s - before) / len(pages)
    totals = [page.total for page in pages if page.total is not None]
    is_whole = all(page.next_url is None for page in pages)
    read = sum(page.count for page in pages)
    told = sum(totals) if len(totals) == len(pages) else read if is_whole else None
    full = None if is_whole else max(page.count for page in pages)
    return told, full, seconds
