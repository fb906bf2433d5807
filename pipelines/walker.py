"""The slices of one plan: read side by side in threads, and handed to the thread that holds the warehouse.

What lives here: threads, the queues between them, which failure ends what. What does not: what to ask (`plan`), where a large slice is cut
(`splitting`), how one slice is read (`reading`), the thread that shapes pages (`shaping`), what is done with what was read (`committing`).
"""

from __future__ import annotations

import gc
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from math import inf

from pipelines.committing import COMMIT_AFTER_S, Committer
from pipelines.plan import Request, Slice
from pipelines.progress import Progress, Tell
from pipelines.reading import AccountsUnnamedError, ReadPart, read_slice
from pipelines.run import Run, StreamReport
from pipelines.shaping import Shaper
from pipelines.splitting import CoarseFilterError, LargeSliceError, Splitter
from pipelines.streams import Stream
from resources.appointedd import Page
from resources.database import end_query
from resources.errors import AbilityRefusedError, ApiError, ClientRefusedError
from resources.warehouse import Writer

log = logging.getLogger(__name__)
# How long threads that were told to stop are waited for: what waits ends at once, a page in hand is soon done with, and only a silent socket takes longer.
STOP_WITHIN_S = 1.5
# How long a thread that computes keeps the interpreter's lock from one that waits for it. Python's own 5 ms would be paid by a page that is being received
# at every one of its dozen reads and writes, while another is shaped.
SWITCH_AFTER_S = 0.0005


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
        self.writer = writer
        self.report = report
        self.progress = Progress(stream.name, tell)
        self.stopped = threading.Event()
        self.shaper: Shaper | None = None
        self.committer = Committer(run, stream, writer, report, self.stopped.is_set)
        self.proof = self.committer.proof
        # Bounded, so that reading waits for committing and memory stays flat.
        self.parts: queue.Queue[tuple[Slice, ReadPart | BaseException | None]] = queue.Queue(maxsize=2)
        self.todo = _Todo()
        self.failed: set[Slice] = set()
        updated = run.contract.streams[stream.name].columns.get("updated_at", ())
        self.splitter = Splitter(run.settings.sync_concurrency, run.settings.history_start_at, updated)

    def walk(self, slices: Sequence[Slice]) -> None:
        """Read and commit; raises what the plan must be made again for, after all threads have been stopped."""
        with _rarer_collections(), _quicker_switches():
            self._walk(slices)

    def _walk(self, slices: Sequence[Slice]) -> None:
        filled = self.writer.filled(self.stream.table, [c.name for c in self.stream.columns])
        todo = self.todo
        for piece in slices:
            todo.put(replace(piece, keeps=self.run.keeps(piece.api_client)))
        # Daemons and no pool: a process that is told to end cannot wait for a request on a silent socket, which no other thread can wake (closing a socket
        # does not end a read of it). Such a thread holds nothing but its connection; whatever it still reads is thrown away.
        threads = [
            threading.Thread(target=self._work, name=f"slice_{number}", daemon=True)
            for number in range(self.run.settings.sync_concurrency if slices else 0)
        ]
        self.shaper = shaper = Shaper(beside=self.run.beside)
        try:
            for thread in threads:
                thread.start()
            while todo.left:
                try:
                    piece, part = self.parts.get(timeout=COMMIT_AFTER_S)
                except queue.Empty:
                    self.committer.flush()
                    continue
                if part is None:
                    todo.done()
                elif piece in self.failed:
                    continue
                elif isinstance(part, ReadPart):
                    self._try(piece, part)
                else:
                    self._fail(piece, part)
                self.committer.flush_if_due()
            self.committer.flush()
        except (AbilityRefusedError, CoarseFilterError, NeedsAccountError):
            self.committer.flush()  # the next plan asks only for what is missing
            raise
        except RuntimeError as error:
            if isinstance(error.__cause__, Exception) or error.__cause__ is None:
                raise
            end_query(self.writer.connection)
            raise error.__cause__ from None  # DuckDB wraps what a signal raises during a query
        finally:
            self.stopped.set()
            shaper.end()
            todo.end(len(threads))
            deadline = time.monotonic() + STOP_WITHIN_S
            for thread in (*threads, *shaper.threads):
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
        missing, at = self.proof.of_all(filled)
        if missing and at:
            self.writer.note_missing(self.stream.table, missing, at)
            self.report.drift["missing_member"] += len(missing)

    def _work(self) -> None:
        """One thread: slices, one after the other, until the plan is over."""
        while (piece := self.todo.get()) is not None and not self.stopped.is_set():
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
                self.splitter.look(piece, page, number, client.busy(self.splitter.in_flight))
            self.progress.note(page)

        zones, is_stopped = self.run.zones, self.stopped.is_set
        try:
            try:
                for part in read_slice(piece, self.stream, client, zones, default, is_stopped, note, self.shaper):
                    self._put(piece, part)
            except LargeSliceError as large:
                # Here and not in the committing thread: what is cut once more is the newest there is, and should not wait until another thread is done.
                for smaller in self.splitter.split(piece, large, "nightly" if piece.kind == "sweep" else piece.kind):
                    self.todo.put(smaller)
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
            self.committer.take(piece, part)
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


@contextmanager
def _rarer_collections() -> Iterator[None]:
    """Decoded pages are trees, which end with their last reference; looking for circles in them after every few hundred objects cost an eighth of the CPU."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _quicker_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_AFTER_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Todo:
    """Slices to be read, the newest first, whenever they come; a thread that finds none waits until there is one, or until the end.

    `left`: those that were put in and are not done.
    """

    def __init__(self) -> None:
        self.waiting: queue.PriorityQueue[tuple[float, int, Slice | None]] = queue.PriorityQueue()
        self.numbers = count()
        self.left = 0
        self._lock = threading.Lock()

    def put(self, piece: Slice) -> None:
        """One more."""
        with self._lock:
            self.left += 1
        self.waiting.put((-piece.window.until.timestamp(), next(self.numbers), piece))

    def done(self) -> None:
        """One less: it was read, or failed, or lies in pieces that were put in."""
        with self._lock:
            self.left -= 1

    def get(self) -> Slice | None:
        """The newest one; None at the end."""
        return self.waiting.get()[2]

    def end(self, readers: int) -> None:
        """Wake so many threads, each with the word that there is nothing more."""
        for _ in range(readers):
            self.waiting.put((-inf, next(self.numbers), None))
