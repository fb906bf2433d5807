"""The slices of one plan, of all its streams: read side by side in threads, and handed to the thread that holds the warehouse.

What lives here: threads, from their start to their end. What does not: the queues between them (`queues`), what a stream's parts and failures come to
(`lanes`), what to ask (`plan`), where a large slice is cut (`splitting`), how one is read (`reading`), who shapes pages (`shaping`).
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from pipelines.accounts import Listings
from pipelines.committing import COMMIT_AFTER_S, pages_together
from pipelines.lanes import Asked, Lane, PlanAgain
from pipelines.parts import ComingPart
from pipelines.plan import Slice
from pipelines.progress import Tell
from pipelines.proof import ignored_filter
from pipelines.queues import Parts, Todo
from pipelines.reading import Reader
from pipelines.run import Run
from pipelines.shaping import Shaper
from pipelines.splitting import LargeSliceError
from resources.database import end_query
from resources.errors import SliceError
from resources.pages import Page
from resources.warehouse import Writer

# How long threads that were told to stop are waited for: what waits ends at once, a page in hand is soon done with, and only a silent socket takes longer.
STOP_WITHIN_S = 1.5
# How long a thread that computes keeps the interpreter's lock from one that waits for it. Python's own 5 ms would be paid by a page that is being received
# at every one of its dozen reads and writes, while another is shaped.
SWITCH_AFTER_S = 0.0005


class Walker:
    """Reads the slices of one plan, of one stream or several, in threads and commits their parts in this one; lives for one plan."""

    def __init__(self, run: Run, asked: Sequence[Asked], writer: Writer, tell: Tell) -> None:
        self.run = run
        self.writer = writer
        self.listings = Listings(run.clients, run.request)
        self.lanes = {one.stream.name: Lane(run, one, writer, self.listings, tell) for one in asked}
        # As many pages as one transaction holds may wait for it, so that neither reading nor committing waits for the other for long.
        self.parts = Parts(pages_together(run.settings.sync_concurrency))
        self.todo = Todo()
        self.shaper: Shaper  # while there are threads

    def walk(self, slices: Sequence[Slice]) -> dict[str, PlanAgain]:
        """Read and commit; gives the streams of which the plan must be made again, and why. What was taken of them till then is committed."""
        for piece in slices:
            self.todo.put(replace(piece, keeps=self.run.keeps))
        with (
            _rarer_collections(),
            _quicker_switches(),
            self._threads(self.run.settings.sync_concurrency if slices else 0),
        ):
            try:
                self._commit()
            except RuntimeError as error:
                if isinstance(error.__cause__, Exception) or error.__cause__ is None:
                    raise
                end_query(self.writer.connection)
                raise error.__cause__ from None  # DuckDB wraps what a signal raises during a query
        return {name: lane.again for name, lane in self.lanes.items() if lane.again is not None}

    @contextmanager
    def _threads(self, readers: int) -> Iterator[None]:
        """So many threads that read, and those that shape; they end with the `with`, or soon after it."""
        # Daemons and no pool: a process that is told to end cannot wait for a request on a silent socket, which no other thread can wake (closing a socket
        # does not end a read of it). Such a thread holds nothing but its connection; whatever it still reads is thrown away.
        threads = [threading.Thread(target=self._work, name=f"slice_{n}", daemon=True) for n in range(readers)]
        self.shaper = shaper = Shaper(beside=self.run.beside)
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            for lane in self.lanes.values():
                lane.stopped.set()
            self.parts.end()
            shaper.end()
            self.todo.end()
            deadline = time.monotonic() + STOP_WITHIN_S
            for thread in (*threads, *shaper.threads):
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))

    def _commit(self) -> None:
        """Commit what the threads hand over, until all slices are done."""
        while self.todo.left:
            brought = self.parts.get(COMMIT_AFTER_S)
            if brought is not None:
                self._take(*brought)
            self._flush_what_is_due()
        for lane in self.lanes.values():
            with lane.counted():
                lane.end()

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
        """One thread: slices, one after the other, until the plan is over. Whatever happens in it is handed over too; it is never swallowed here."""
        while (piece := self.todo.get()) is not None:
            lane, exchange = self.lanes[piece.stream], self.run.clients[piece.api_client].exchange
            try:
                with exchange.until(lane.stopped), exchange.counting(lane.report.traffic):
                    if not lane.stopped.is_set():
                        self._read(lane, piece)
            except BaseException as error:  # noqa: BLE001  raised, or written down, in the thread that commits
                self.parts.put(piece, error)
            self.parts.put(piece, None)

    def _read(self, lane: Lane, piece: Slice) -> None:
        """Read a slice and put its parts into the queue, or its pieces among those that are to be read; raises whatever goes wrong."""
        client, splitter = self.run.clients[piece.api_client], lane.splitter
        listed, numbers = self.run.listed[client.name], count(1)
        can_split = self._can_split(lane, piece)

        def note(page: Page) -> None:
            if can_split:
                splitter.look(piece, page, next(numbers), client.exchange.busy(splitter.in_flight))
            lane.progress.note(page)

        reader = Reader(lane.stream, client, self.run.zones, lane.stopped.is_set, note, self.shaper)
        # A row that does not name its account is believed to be of the one that was asked for only where the server was seen to heed the filter.
        is_heeded = (piece.api_client, piece.stream) in self.run.needs_account
        default = piece.only_account if is_heeded else None
        try:
            for part in reader.parts_of(piece, listed[0] if len(listed) == 1 else default):
                self.parts.put(piece, part)
        except LargeSliceError as large:
            # Here and not in the committing thread: what is cut once more is the newest there is, and should not wait until another thread is done.
            self._cut(lane, piece, large)

    def _cut(self, lane: Lane, piece: Slice, large: LargeSliceError) -> None:
        """Put the pieces of a slice among what is to be read."""
        if self.run.beside is not None:
            self.run.beside.foresee(lane.splitter.most_pages)
        pieces = lane.splitter.split(piece, large, "nightly" if piece.kind == "sweep" else piece.kind)
        if (piece.api_client, piece.stream) in self.run.needs_account:
            # They may send bounds that the slice did not, and the server may not heed the account filter beside these.
            ignored = ignored_filter(self.run, lane.stream, piece.api_client, pieces)
            if ignored is not None:
                raise SliceError(ignored) from None
        for smaller in pieces:
            self.todo.put(smaller)

    def _can_split(self, lane: Lane, piece: Slice) -> bool:
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
