"""The slices of one plan, of all its streams: read side by side in threads, and handed to the thread that holds the warehouse.

What lives here: threads, the queues between them, which failure ends what. What does not: what to ask (`plan`), where a large slice is cut
(`splitting`), how one slice is read (`reading`), who shapes pages (`shaping`), what is done with what was read (`committing`).
"""

from __future__ import annotations

import gc
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from math import inf

from pipelines.committing import COMMIT_AFTER_S, Committer, pages_together
from pipelines.plan import Request, Slice
from pipelines.progress import Progress, Tell
from pipelines.proof import Listings
from pipelines.reading import AccountsUnnamedError, ComingPart, parts_of
from pipelines.run import Run, StreamReport, counted
from pipelines.shaping import AtOnce, Shaper
from pipelines.splitting import CoarseFilterError, LargeSliceError, Splitter
from pipelines.streams import Stream
from resources.appointedd import Page
from resources.database import end_query
from resources.errors import AbilityRefusedError, ApiError, told
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


# What the plan of a stream must be made again for.
PlanAgain = AbilityRefusedError | CoarseFilterError | NeedsAccountError


@dataclass(frozen=True)
class Asked:
    """What is asked of a walk for one stream: its request, and the report that what happens is written into."""

    stream: Stream
    request: Request
    report: StreamReport


class _Lane:
    """One stream in a walk: its judge, its committer, its failures. `stopped` ends its reading alone; `again` says why its plan must be made again."""

    def __init__(self, run: Run, asked: Asked, writer: Writer, listings: Listings, tell: Tell) -> None:
        self.run = run
        self.stream = asked.stream
        self.request = asked.request
        self.report = asked.report
        self.writer = writer
        self.stopped = threading.Event()
        self.again: PlanAgain | None = None
        self.failed: set[Slice] = set()
        self.progress = Progress(asked.stream.name, tell)
        self.committer = Committer(run, asked.stream, writer, asked.report, listings, self.stopped.is_set)
        self.proof = self.committer.proof
        updated = run.contract.streams[asked.stream.name].columns.get("updated_at", ())
        self.splitter = Splitter(run.settings.sync_concurrency, run.settings.history_start_at, updated)
        self.filled = writer.filled(asked.stream.table, [c.name for c in asked.stream.columns])

    @contextmanager
    def counted(self) -> Iterator[_Lane]:
        """What this thread asks in the `with` is counted for the stream."""
        with counted(self.report, self.run.clients.values()):
            yield self

    def take(self, piece: Slice, part: ComingPart | BaseException) -> None:
        """One part, or what ended its slice; nothing counts any more once the plan must be made again."""
        if self.again is not None or piece in self.failed:
            return
        try:
            if isinstance(part, BaseException):
                raise part
            self.committer.take(piece, part.result())
        except ApiError as error:  # the second look of a sweep asks the API too
            self._fail(piece, error)
        except (CoarseFilterError, AccountsUnnamedError) as error:
            self._fail(piece, error)

    def _fail(self, piece: Slice, error: ApiError | CoarseFilterError | AccountsUnnamedError) -> None:
        """Decide what a failure ends: a plan to be made again, an API client's part, or one slice, of which nothing more is committed."""
        self.failed.add(piece)
        if isinstance(error, AbilityRefusedError | CoarseFilterError):
            self._plan_again(error)
        elif isinstance(error, AccountsUnnamedError):
            client = self.run.clients[piece.api_client]
            is_known = (piece.api_client, self.stream.name) in self.run.needs_account
            if client.has(self.stream.name, "account_filter") and not is_known:
                self._plan_again(NeedsAccountError(piece.api_client))
                return
            self.proof.problem(
                f"{self.stream.name}: rows do not name their account, API client {piece.api_client!r} sees several, and the contract has no "
                f"account filter for this stream. Make one API client for each account and list them in APPOINTEDD_CLIENTS."
            )
        else:
            self.proof.problem(told(piece.api_client, error))

    def _plan_again(self, error: PlanAgain) -> None:
        self.stopped.set()
        self.committer.flush()  # the next plan asks only for what is missing
        self.again = error

    def end(self) -> None:
        """After its last slice: commit what is pending, and tell what only all slices together show."""
        if self.again is not None:
            return
        self.committer.end()
        missing, at = self.proof.of_all(self.filled)
        if missing and at:
            self.writer.note_missing(self.stream.table, missing, at)
            self.report.drift["missing_member"] += len(missing)


class Walker:
    """Reads the slices of one plan, of one stream or several, in threads and commits their parts in this one; lives for one plan."""

    def __init__(self, run: Run, asked: Sequence[Asked], writer: Writer, tell: Tell) -> None:
        self.run = run
        self.writer = writer
        self.listings = Listings(run)
        self.lanes = {one.stream.name: _Lane(run, one, writer, self.listings, tell) for one in asked}
        self.stopped = threading.Event()
        self.shaper: AtOnce | Shaper = AtOnce()
        # As many pages as one transaction holds may wait for it, so that neither reading nor committing waits for the other for long.
        self.parts = _Parts(pages_together(run.settings.sync_concurrency))
        self.todo = _Todo()

    def walk(self, slices: Sequence[Slice]) -> dict[str, PlanAgain]:
        """Read and commit; gives the streams of which the plan must be made again, and why. What was taken of them till then is committed."""
        with _rarer_collections(), _quicker_switches():
            self._walk(slices)
        return {name: lane.again for name, lane in self.lanes.items() if lane.again is not None}

    def _walk(self, slices: Sequence[Slice]) -> None:
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
                brought = self.parts.get(COMMIT_AFTER_S)
                if brought is not None:
                    self._take(*brought)
                self._flush_what_is_due()
            for lane in self.lanes.values():
                with lane.counted():
                    lane.end()
        except RuntimeError as error:
            if isinstance(error.__cause__, Exception) or error.__cause__ is None:
                raise
            end_query(self.writer.connection)
            raise error.__cause__ from None  # DuckDB wraps what a signal raises during a query
        finally:
            self.stopped.set()
            for lane in self.lanes.values():
                lane.stopped.set()
            self.parts.end()
            shaper.end()
            todo.end(len(threads))
            deadline = time.monotonic() + STOP_WITHIN_S
            for thread in (*threads, *shaper.threads):
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self, piece: Slice, part: ComingPart | BaseException | None) -> None:
        """What a thread handed over; None: it is done with the slice."""
        if part is None:
            self.todo.done()
            return
        if isinstance(part, ComingPart):
            while not part.is_shaped(COMMIT_AFTER_S):
                self._flush_what_is_due()
            if part.is_last and piece.kind == "sweep":
                self._flush()  # the second look may take minutes, and a kill should not cost what was read before it
        self.listings.forget()
        with self.lanes[piece.stream].counted() as lane:
            lane.take(piece, part)

    def _flush_what_is_due(self) -> None:
        for lane in self.lanes.values():
            with lane.counted():
                lane.committer.flush_if_due()

    def _flush(self) -> None:
        for lane in self.lanes.values():
            with lane.counted():
                lane.committer.flush()

    def _work(self) -> None:
        """One thread: slices, one after the other, until the plan is over."""
        while (piece := self.todo.get()) is not None and not self.stopped.is_set():
            lane, client = self.lanes[piece.stream], self.run.clients[piece.api_client]
            with client.until(lane.stopped), client.counting(lane.report.traffic):
                if not lane.stopped.is_set():
                    self._read(lane, piece)
            self.parts.put(piece, None)

    def _read(self, lane: _Lane, piece: Slice) -> None:
        """One slice, in a thread. Whatever happens reaches the committing thread as a value; it is never swallowed here."""
        try:
            self._hand_over(lane, piece)
        except BaseException as error:  # noqa: BLE001  handed over, and raised or written down there
            self.parts.put(piece, error)

    def _hand_over(self, lane: _Lane, piece: Slice) -> None:
        """Read a slice and put its parts into the queue, or its pieces among those that are to be read; raises whatever goes wrong."""
        client, stream, splitter = self.run.clients[piece.api_client], lane.stream, lane.splitter
        listed = self.run.listed[piece.api_client]
        # A row that does not name its account is believed to be of the one that was asked for only where the server was seen to heed the filter.
        is_proven = (piece.api_client, stream.name) in self.run.needs_account
        default = listed[0] if len(listed) == 1 else piece.only_account if is_proven else None
        can_split = self._can_split(lane, piece)
        number = 0

        def note(page: Page) -> None:
            nonlocal number
            number += 1
            if can_split:
                splitter.look(piece, page, number, client.busy(splitter.in_flight))
            lane.progress.note(page)

        zones, is_stopped = self.run.zones, lane.stopped.is_set
        try:
            for part in parts_of(piece, stream, client, zones, default, is_stopped, note, self.shaper):
                self.parts.put(piece, part)
        except LargeSliceError as large:
            if self.run.beside is not None:
                self.run.beside.foresee(splitter.most_pages)
            # Here and not in the committing thread: what is cut once more is the newest there is, and should not wait until another thread is done.
            for smaller in splitter.split(piece, large, "nightly" if piece.kind == "sweep" else piece.kind):
                self.todo.put(smaller)

    def _can_split(self, lane: _Lane, piece: Slice) -> bool:
        """A sweep that a person or the schedule asked for is one walk: it is there to find what the filters do not show. A first load is not."""
        client = self.run.clients[piece.api_client]
        return (
            (piece.kind != "sweep" or lane.request.kind == "nightly")
            and client.has(piece.stream, "upper_bound")
            and (piece.api_client, piece.stream) not in self.run.uncut
        )


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


class _Parts:
    """What the threads that read hand over, in order, each waiting while the parts that nobody took yet hold `most_pages`.

    So reading waits for committing, and memory stays flat, but a thread can go on to its next slice while its last part is shaped.
    """

    def __init__(self, most_pages: int) -> None:
        self._most_pages = most_pages
        self._waiting: deque[tuple[Slice, ComingPart | BaseException | None]] = deque()
        self._pages = 0
        self._is_ended = False
        self._changed = threading.Condition()

    def put(self, piece: Slice, part: ComingPart | BaseException | None) -> None:
        """Hand over a part, what ended the slice, or None: done with it. After the end nobody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or self._pages < self._most_pages)
            self._waiting.append((piece, part))
            self._pages += _pages_of(part)
            self._changed.notify_all()

    def get(self, within_s: float) -> tuple[Slice, ComingPart | BaseException | None] | None:
        """What was handed over first; None where nothing came within so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, within_s):
                return None
            piece, part = self._waiting.popleft()
            self._pages -= _pages_of(part)
            self._changed.notify_all()
            return piece, part

    def end(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()


def _pages_of(part: ComingPart | BaseException | None) -> int:
    return part.pages_count if isinstance(part, ComingPart) else 0


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
