"""What a run would ask, before anything runs: its slices, and an estimate of the requests.

What lives here: the account lists (GET only) and the stored windows, put to the same planning as a run; the estimate. What does not: the rules of
planning (`plan`), reading or writing a stream. Two things only a run can find out: that rows do not name their account, and refused parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.accounts import list_accounts
from pipelines.plan import BEGINNING, Request, Slice, pages_needed
from pipelines.run import Run, StreamReport, counted, new_run_id
from pipelines.status import Source, reading
from pipelines.streams import ACCOUNTS, Stream
from pipelines.sync import never_swept, plan_stream, stored_windows
from resources.appointedd import open_clients
from resources.contract import Contract
from resources.settings import Settings
from resources.warehouse import Warehouse, Writer


@dataclass(frozen=True)
class PlannedSlice:
    """A slice and what it is thought to cost. `is_at_least`: nothing is known of that window yet, so the number is only a lower bound."""

    slice: Slice
    rows_known: int
    requests: int
    is_at_least: bool


@dataclass
class Preview:
    """What a run would ask. `source` is None where there is no warehouse yet. `listing_requests`: tokens and account lists, for all API clients.

    `shortest_s`: seconds that the busiest API client needs at its rate budget.
    """

    kind: str
    end: datetime
    source: Source | None
    listing_requests: int
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
            found = Preview(request.kind, seen.end, source, report.requests, problems=report.problems)
            for stream in streams:
                if stream is ACCOUNTS:
                    continue
                for piece in _slices(run, stream, known):
                    found.slices.append(_estimate(run, piece, known))
    by_client = {n: sum(p.requests for p in found.slices if p.slice.api_client == n) for n in run.clients}
    found.shortest_s = max(by_client.values(), default=0) / settings.sync_requests_per_second
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
        new = never_swept(run, stream, known.swept(stream.name) if known else set())
        begun = {s.api_client for s in slices if s.kind == "nightly"}
        slices += [s for s in plan_stream(run, stream, windows, Request("sweep")) if s.api_client in begun & set(new)]
    return slices


def _estimate(run: Run, piece: Slice, known: Writer | None) -> PlannedSlice:
    accounts = [piece.only_account] if piece.only_account else list(run.listed[piece.api_client])
    since = None if piece.window.since == BEGINNING else piece.window.since
    rows = known.count_rows(piece.stream, accounts, since, piece.window.until) if known else 0
    size = int(run.contract.parameters.page_size_value)
    lists = len(run.contract.streams[piece.stream].queries)
    # A sweep reads the account list a second time before it looks at what it did not meet.
    requests = pages_needed(rows, size) + lists - 1 + (piece.kind == "sweep")
    has_size = run.clients[piece.api_client].has(piece.stream, "page_size")
    return PlannedSlice(piece, rows, requests, is_at_least=rows == 0 or not has_size)
