"""The slices of one plan: read side by side in threads, committed one by one in the thread that holds the warehouse.

What lives here: threads, the bounded queue between them, the order of a commit, and which failure ends what. What does not: what to ask (`plan`), how
one slice is read (`reading`), what must be true of it (`proof`, `by_account`), the second look of a sweep (`sweep`), SQL.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from math import inf

import polars as pl

from pipelines.by_account import compare
from pipelines.plan import Request, Slice
from pipelines.proof import Proof
from pipelines.reading import AccountsUnnamedError, ReadPart, read_slice
from pipelines.run import Run, StreamReport, commit_part, new_run_id
from pipelines.splitting import CoarseFilterError, LargeSliceError, Splitter
from pipelines.streams import Stream
from pipelines.sweep import Limit, SecondLook
from resources.appointedd import Page
from resources.database import end_query
from resources.errors import AbilityRefusedError, ApiError, ClientRefusedError
from resources.part import Brake, Reconciliation
from resources.warehouse import Writer

log = logging.getLogger(__name__)
PROGRESS_EVERY_S = 10.0
# How long threads that were told to stop are waited for: what waits ends at once, a page in hand is soon done with, and only a silent socket takes longer.
STOP_WITHIN_S = 1.5
# Where progress is told, one line for a person at a time: a logger's method, or Dagster's.
Tell = Callable[[str], object]


class NeedsAccountError(Exception):
    """Rows of an API client do not name their account, and an account filter can ask for each alone: plan again."""

    def __init__(self, api_client: str) -> None:
        super().__init__(api_client)
        self.api_client = api_client


class Walker:
    """Reads the slices of one plan in threads and commits their parts in this one; lives for one plan."""

    def __init__(
        self, run: Run, request: Request, stream: Stream, writer: Writer, report: StreamReport, tell: Tell
    ) -> None:
        self.run = run
        self.request = request
        self.stream = stream
        self.table = stream.target
        self.writer = writer
        self.report = report
        self.progress = _Progress(stream.name, tell)
        self.stopped = threading.Event()
        # Bounded, so that reading waits for committing and memory stays flat.
        self.parts: queue.Queue[tuple[Slice, ReadPart | BaseException | None]] = queue.Queue(maxsize=2)
        self.met: dict[Slice, list[pl.DataFrame]] = {}
        self.numbers: dict[Slice, tuple[str, int]] = {}
        self.failed: set[Slice] = set()
        self.proof = Proof(run, stream, report)
        updated = run.contract.streams[stream.name].columns.get("updated_at", ())
        self.splitter = Splitter(run.settings.sync_concurrency, run.settings.history_start_at, updated)

    def walk(self, slices: Sequence[Slice]) -> None:
        """Read and commit; raises what the plan must be made again for, after all threads have been stopped."""
        waiting = len(slices)
        filled = self.writer.filled(self.table.stream, [c.name for c in self.stream.columns])
        todo = _Todo()
        for piece in slices:
            todo.put(replace(piece, keeps=self.run.keeps(piece.api_client)))
        # Daemons and no pool: a process that is told to end cannot wait for a request on a silent socket, which no other thread can wake (closing a socket
        # does not end a read of it). Such a thread holds nothing but its connection; whatever it still reads is thrown away.
        threads = [
            threading.Thread(target=self._work, args=(todo,), name=f"slice_{number}", daemon=True)
            for number in range(self.run.settings.sync_concurrency if slices else 0)
        ]
        try:
            for thread in threads:
                thread.start()
            while waiting:
                piece, part = self.parts.get()
                if part is None:
                    waiting -= 1
                elif piece in self.failed:
                    continue
                elif isinstance(part, LargeSliceError):
                    kind = "nightly" if piece.kind == "sweep" else piece.kind
                    pieces = self.splitter.split(piece, part.count, kind)
                    waiting += len(pieces)
                    for smaller in pieces:
                        todo.put(smaller)
                elif isinstance(part, ReadPart):
                    self._try(piece, part)
                else:
                    self._fail(piece, part)
        except RuntimeError as error:
            if isinstance(error.__cause__, Exception) or error.__cause__ is None:
                raise
            end_query(self.writer.connection)
            raise error.__cause__ from None  # DuckDB wraps what a signal raises during a query
        finally:
            self.stopped.set()
            todo.end(len(threads))
            deadline = time.monotonic() + STOP_WITHIN_S
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
        missing, at = self.proof.of_all(filled)
        if missing and at:
            self.writer.note_missing(self.table.stream, missing, at)
            self.report.drift["missing_member"] += len(missing)

    def _work(self, todo: _Todo) -> None:
        """One thread: slices, one after the other, until the plan is over."""
        while (piece := todo.get()) is not None and not self.stopped.is_set():
            with self.run.clients[piece.api_client].until(self.stopped):
                self._read(piece)

    def _put(self, piece: Slice, part: ReadPart | BaseException | None) -> None:
        while not self.stopped.is_set():
            try:
                self.parts.put((piece, part), timeout=0.1)
            except queue.Full:
                continue
            return

    def _read(self, piece: Slice) -> None:
        """One slice, in a thread. Whatever happens reaches the committing thread as a value; it is never swallowed here."""
        client = self.run.clients[piece.api_client]
        listed = self.run.listed[piece.api_client]
        # A row that does not name its account is believed to be of the one that was asked for only where the server was seen to heed the filter.
        is_proven = (piece.api_client, self.stream.name) in self.run.needs_account
        default = listed[0] if len(listed) == 1 else piece.only_account if is_proven else None
        can_split = self._can_split(piece)
        number = 0

        def note(page: Page) -> None:
            nonlocal number
            number += 1
            if can_split:
                self.splitter.look(piece, page, number)
            self.progress.note(page)

        try:
            for part in read_slice(piece, self.stream, client, self.run.zones, default, self.stopped.is_set, note):
                self._put(piece, part)
        except BaseException as error:  # noqa: BLE001  handed over, and raised or written down there
            self._put(piece, error)
        self._put(piece, None)

    def _can_split(self, piece: Slice) -> bool:
        """A sweep that a person or the schedule asked for is one walk: it is there to find what the filters do not show. A first load is not."""
        client = self.run.clients[piece.api_client]
        return (
            (piece.kind != "sweep" or self.request.kind == "nightly")
            and client.has(self.stream.name, "upper_bound")
            and (piece.api_client, self.stream.name) not in self.run.uncut
        )

    def _try(self, piece: Slice, part: ReadPart) -> None:
        try:
            self._take(piece, part)
        except ApiError as error:  # the second look of a sweep asks the API too
            self._fail(piece, error)

    def _fail(self, piece: Slice, error: BaseException) -> None:
        """Decide what a failure ends: a plan to be made again, an API client's part, or one slice, of which nothing more is committed."""
        self.failed.add(piece)
        if isinstance(error, AbilityRefusedError | CoarseFilterError):
            raise error
        if isinstance(error, AccountsUnnamedError):
            client = self.run.clients[piece.api_client]
            is_known = (piece.api_client, self.stream.name) in self.run.needs_account
            if client.has(self.stream.name, "account_filter") and not is_known:
                raise NeedsAccountError(piece.api_client)
            self.proof.problem(
                f"{self.stream.name}: rows do not name their account, API client {piece.api_client!r} sees several, and the contract has no "
                f"account filter for this stream. Make one API client for each account and list them in APPOINTEDD_CLIENTS."
            )
        elif isinstance(error, ApiError):
            text = str(error) if isinstance(error, ClientRefusedError) else f"API client {piece.api_client!r}: {error}"
            self.proof.problem(text)
        else:
            raise error

    def _take(self, piece: Slice, part: ReadPart) -> None:
        """Commit one part; the last one only after everything that must be true of the whole slice."""
        self.proof.watch(piece, part)
        if piece.kind == "sweep":
            self.met.setdefault(piece, []).append(part.batch.rows.select(self.stream.key))
        gone: pl.DataFrame | None = None
        brakes: Sequence[Brake] = ()
        if part.is_last:
            part = self.proof.of_the_end(piece, part, is_first_part=piece not in self.numbers)
            if piece.kind == "sweep":
                part, gone, brakes = self._end_sweep(piece, part)
        self._commit(piece, part, gone, brakes)
        if self.run.request.kind != "nightly":
            self.writer.give_way()  # the nightly goes first; a backfill or a sweep can wait between two commits

    def _end_sweep(self, piece: Slice, part: ReadPart) -> tuple[ReadPart, pl.DataFrame | None, Sequence[Brake]]:
        """The last part of a sweep, the rows to tombstone and the accounts that it stopped at; what is found on the way is committed at once."""
        met = pl.concat(self.met.pop(piece)).unique()
        if not part.is_last:
            return part, None, ()
        client, zones, is_stopped = self.run.clients[piece.api_client], self.run.zones, self.stopped.is_set
        short: set[str] = set()
        if any(r.last_total is not None for r in part.reconciliations):
            for evidence, parts in compare(part.slice, self.stream, client, zones, met, is_stopped):
                part = replace(part, reconciliations=(*part.reconciliations, evidence))
                if evidence.verdict == "different":
                    short.add(evidence.account_id or "")
                    self.proof.problem(_short_account(self.stream, evidence))
                for late in parts:
                    met = pl.concat([met, late.batch.rows.select(self.stream.key)]).unique()
                    self._commit(piece, replace(late, is_last=False, reconciliations=()))
        accounts = [a for a in part.slice.accounts if a not in short]
        limit = Limit(
            share=self.run.settings.sync_brake_share,
            count=self.run.settings.sync_brake_count,
            rows=self.writer.live_counts(self.table.stream, accounts),
            released=self.writer.released(self.stream.name),
        )
        candidates = self.writer.candidates(self.table, met, accounts, part.began_at)
        outcome = SecondLook(self.stream, client, zones, part.slice, part.fetched_at).confirm(
            candidates, met, limit, is_stopped
        )
        for doubt in outcome.doubts:
            self.proof.problem(doubt)
        for late in outcome.found:
            self._commit(piece, late)
        stopped = short | {brake.account_id for brake in outcome.brakes}
        kept = tuple(a for a in part.slice.accounts if a not in stopped)
        return replace(part, slice=replace(part.slice, accounts=kept)), outcome.gone, outcome.brakes

    def _commit(
        self, piece: Slice, part: ReadPart, gone: pl.DataFrame | None = None, brakes: Sequence[Brake] = ()
    ) -> None:
        slice_id, number = self.numbers.get(piece, (new_run_id(), 0))
        self.numbers[piece] = (slice_id, number + 1)
        commit_part(
            self.writer,
            self.run.run_id,
            self.table,
            part,
            self.report,
            slice_id=slice_id,
            number=number + 1,
            gone=gone,
            brakes=brakes,
        )


def _short_account(stream: Stream, evidence: Reconciliation) -> str:
    return (
        f"{stream.name}: the API counts {evidence.last_total} records of account {evidence.account_id}, and walks of it read "
        f"{evidence.distinct_count}. Rows are missing; nothing of the account was called deleted, and the next sweep compares again."
    )


class _Todo:
    """Slices to be read, the newest first, whenever they come; a thread that finds none waits until there is one, or until the end."""

    def __init__(self) -> None:
        self.waiting: queue.PriorityQueue[tuple[float, int, Slice | None]] = queue.PriorityQueue()
        self.numbers = count()

    def put(self, piece: Slice) -> None:
        """One more."""
        self.waiting.put((-piece.window.until.timestamp(), next(self.numbers), piece))

    def get(self) -> Slice | None:
        """The newest one; None at the end."""
        return self.waiting.get()[2]

    def end(self, readers: int) -> None:
        """Wake so many threads, each with the word that there is nothing more."""
        for _ in range(readers):
            self.waiting.put((-inf, next(self.numbers), None))


class _Progress:
    """Tells now and then how far a long walk is: pages, rows, rate, and time left where a total is known."""

    def __init__(self, stream: str, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.tell = tell
        self.clock = clock
        self.lock = threading.Lock()
        self.started = self.told = clock()
        self.pages = 0
        self.rows = 0
        self.total: int | None = None

    def note(self, page: Page) -> None:
        """One page came, in any thread."""
        with self.lock:
            self.pages += 1
            self.rows += len(page.records)
            self.total = page.total if page.total is not None else self.total
            now = self.clock()
            if now - self.told < PROGRESS_EVERY_S:
                return
            self.told = now
            rate = self.rows / (now - self.started)
            left = ""
            if self.total and rate and self.total > self.rows:
                left = f", about {(self.total - self.rows) / rate / 60:.1f} minutes left"
            self.tell(f"{self.stream}: {self.pages:,} pages, {self.rows:,} rows, {rate:,.0f} rows/s{left}")
