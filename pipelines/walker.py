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
from pipelines.shaping import AtOnce, Shaper
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
        self.stopped = threading.Event()
        self.shaper: AtOnce | Shaper = AtOnce()
        # As many pages as one transaction holds may wait for it, so that neither reading nor committing waits for the other for long.
        self.parts = Parts(pages_together(run.settings.sync_concurrency))
        self.todo = Todo()

    def walk(self, slices: Sequence[Slice]) -> dict[str, PlanAgain]:
        """Read and commit; gives the streams of which the plan must be made again, and why. What was taken of them till then is committed."""
        with _rarer_collections(), _quicker_switches():
            self._walk(slices)
        return {name: lane.again for name, lane in self.lanes.items() if lane.again is not None}

    def _walk(self, slices: Sequence[Slice]) -> None:
        todo = self.todo
        for piece in slices:
            todo.put(replace(piece, keeps=self.run.keeps))
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
            with client.exchange.until(lane.stopped), client.exchange.counting(lane.report.traffic):
                if not lane.stopped.is_set():
                    self._read(lane, piece)
            self.parts.put(piece, None)

    def _read(self, lane: Lane, piece: Slice) -> None:
        """One slice, in a thread. Whatever happens reaches the committing thread as a value; it is never swallowed here."""
        try:
            self._hand_over(lane, piece)
        except BaseException as error:  # noqa: BLE001  handed over, and raised or written down there
            self.parts.put(piece, error)

    def _hand_over(self, lane: Lane, piece: Slice) -> None:
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
                splitter.look(piece, page, number, client.exchange.busy(splitter.in_flight))
            lane.progress.note(page)

        reader = Reader(stream, client, self.run.zones, lane.stopped.is_set, note, self.shaper)
        try:
            for part in reader.parts_of(piece, default):
                self.parts.put(piece, part)
        except LargeSliceError as large:
            if self.run.beside is not None:
                self.run.beside.foresee(splitter.most_pages)
            # Here and not in the committing thread: what is cut once more is the newest there is, and should not wait until another thread is done.
            pieces = splitter.split(piece, large, "nightly" if piece.kind == "sweep" else piece.kind)
            # They may send bounds that the slice did not.
            if is_proven and (ignored := ignored_filter(self.run, stream, client.name, pieces)) is not None:
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
