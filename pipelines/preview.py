"""What a run would ask, before anything runs: its slices, and an estimate of the requests.

What lives here: the account lists and the first page of each slice (GET only), the stored windows, put to the same planning as a run; the estimate.
What does not: the rules of planning (`plan`), reading or writing a stream. One thing only a run can find out: that rows do not name their account.
The warehouse is open while it is looked at, and closed before the API is asked: a plan that waits for an answer keeps no writer waiting.
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
from pipelines.reading import first_pages, total_of
from pipelines.run import Run, StreamReport, counted, new_run_id
from pipelines.splitting import longest_chain, requests_needed
from pipelines.status import Source, reading
from pipelines.streams import ACCOUNTS, Stream
from pipelines.sync import plan_stream, stored_windows
from resources.appointedd import ApiClient, open_clients
from resources.contract import Contract
from resources.errors import AbilityRefusedError, ApiError, told
from resources.settings import Settings
from resources.state import State
from resources.warehouse import Warehouse

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

    @property
    def since(self) -> datetime | None:
        """From when on it asks for changes; None from the beginning."""
        return _since(self.slice)


@dataclass
class Preview:
    """What a run would ask. `source` is None where there is no warehouse yet. `listing_requests`: tokens and account lists, for all API clients.

    `asked_requests`: first pages that came, to make this estimate. `problems`: account lists and first pages that did not come, each as a sentence.
    `shortest_s`: seconds that the slowest API client needs, by its rate budget or by the time that the API took for the first pages, whichever is longer;
    what is done with the rows takes its time besides.
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
    """Plan a run without running it. An API client whose accounts cannot be listed has its problem noted and no slices, as in a run.

    A first page that does not come is a problem too, and its slice is estimated by what is stored. Where the API refuses a parameter, all is planned again
    without it, as in a run. The accounts have no slice here: their lists are read to make the plan, as they are at the start of every run.
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
        answers = _Answers(run, report.problems)
        slices, source = _planned(run, streams)
        while not answers.are_complete([piece for piece, _ in slices[:MOST_ASKED]]):
            slices, source = _planned(run, streams)
    found = Preview(
        request.kind,
        seen.end,
        source,
        report.traffic.requests,
        answers.pages_count,
        [_estimate(run, piece, rows, answers.by_slice.get(piece, UNKNOWN)) for piece, rows in slices],
        report.problems,
    )
    for name in run.clients:
        own = [p for p in found.slices if p.slice.api_client == name]
        paced_s = sum(p.requests for p in own) / settings.sync_requests_per_second
        found.shortest_s = max(found.shortest_s, paced_s, sum(p.answering_s for p in own))
    return found


def _planned(run: Run, streams: Sequence[Stream]) -> tuple[list[tuple[Slice, int]], Source | None]:
    """The slices with the rows of each that are stored, and where that was read. Nothing is asked of the API here."""
    with _known(run.warehouse) as (known, source):
        slices = [piece for stream in streams if stream is not ACCOUNTS for piece in _slices(run, stream, known)]
        return [(piece, _rows_known(run, piece, known) if known else 0) for piece in slices], source


def _rows_known(run: Run, piece: Slice, known: State) -> int:
    accounts = [piece.only_account] if piece.only_account else list(run.listed[piece.api_client])
    return known.count_rows(piece.stream, accounts, _since(piece), piece.window.until)


def _since(piece: Slice) -> datetime | None:
    return None if piece.window.since == BEGINNING else piece.window.since


@contextmanager
def _known(warehouse: Warehouse) -> Iterator[tuple[State | None, Source | None]]:
    """The stored state, on a connection that cannot write; nothing before the first sync."""
    if not warehouse.path.exists():
        yield None, None
        return
    with reading(warehouse) as (connection, source):
        yield State(connection), source


def _slices(run: Run, stream: Stream, known: State | None) -> list[Slice]:
    """The slices of a run, the sweep that ends a first load included (the rule is `first_load.never_swept`)."""
    windows = stored_windows(run, known, stream) if known else {}
    slices = plan_stream(run, stream, windows, run.request)
    if run.request.kind == "nightly":
        # Of an account that came later, a count is likely to be enough.
        new = never_swept(run, stream, known.swept(stream.name) if known and windows else set())
        whole = {name for name, accounts in new.items() if accounts == run.accounts[name]}
        begun = {s.api_client for s in slices if s.kind == "nightly"}
        slices += [s for s in plan_stream(run, stream, windows, Request("sweep")) if s.api_client in begun & whole]
    return slices


@dataclass(frozen=True)
class _Answer:
    """What the first page of a slice tells: rows that the API counts, rows of a full page, seconds that it took; None where it does not tell."""

    rows: int | None
    full: int | None
    answering_s: float


UNKNOWN = _Answer(None, None, 0.0)


class _Answers:
    """The first pages that were asked for. `pages_count`: how many came; what keeps the others away goes into `problems`."""

    def __init__(self, run: Run, problems: list[str]) -> None:
        self._run = run
        self._problems = problems
        self._silent: set[tuple[str, str]] = set()
        self.by_slice: dict[Slice, _Answer] = {}
        self.pages_count = 0

    def are_complete(self, slices: Sequence[Slice]) -> bool:
        """Ask for the first pages that are not here yet; False where the API refuses a parameter, and all must be planned again without it."""
        for piece in slices:
            # What keeps one first page of a list away keeps the others away too, after as many attempts.
            if piece in self.by_slice or (piece.api_client, piece.stream) in self._silent:
                continue
            try:
                self.by_slice[piece] = self._ask(self._run.clients[piece.api_client], piece)
            except AbilityRefusedError as refusal:
                log.warning("%s", refusal)
                for client in self._run.clients.values():
                    client.do_without(refusal)
                return False
            except ApiError as error:
                self._silent.add((piece.api_client, piece.stream))
                self._problems.append(told(piece.api_client, error))
        return True

    def _ask(self, client: ApiClient, piece: Slice) -> _Answer:
        before = client.exchange.traffic.answering_s
        pages = []
        for page in first_pages(piece, client):
            pages.append(page)
            self.pages_count += 1
        seconds = (client.exchange.traffic.answering_s - before) / len(pages)
        is_whole = all(page.next_url is None for page in pages)
        rows = total_of(pages)
        if rows is None and is_whole:
            rows = sum(page.count for page in pages)
        return _Answer(rows, None if is_whole else max(page.count for page in pages), seconds)


def _estimate(run: Run, piece: Slice, rows: int, answer: _Answer) -> PlannedSlice:
    """`rows`: those of the slice that are stored."""
    client = run.clients[piece.api_client]
    size = int(run.contract.parameters.page_size_value)
    in_flight = client.exchange.busy(run.settings.sync_concurrency)
    pages = pages_needed(rows if answer.rows is None else answer.rows, answer.full or size)
    # What is asked for besides: the other lists of the contract, the account list once more for each transaction and at the end of a sweep.
    together = pages_together(run.settings.sync_concurrency)
    besides = len(run.contract.streams[piece.stream].queries) - 1 + (piece.kind == "sweep") + pages // together
    is_cut = client.has(piece.stream, "upper_bound") and (piece.kind != "sweep" or run.request.kind == "nightly")
    requests = (requests_needed(pages, in_flight) if is_cut else pages) + besides
    is_known = answer.rows is not None or (rows > 0 and client.has(piece.stream, "page_size"))
    is_chain = not is_cut or pages <= longest_chain(in_flight)
    seconds = requests * answer.answering_s / (1 if is_chain else in_flight)
    return PlannedSlice(piece, rows, answer.rows, requests, is_at_least=not is_known, answering_s=seconds)
