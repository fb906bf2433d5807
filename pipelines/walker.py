"""The slices of one plan: read side by side in threads, committed one by one in the thread that holds the warehouse.

What lives here: threads, the bounded queue between them, and which failure ends what. What does not: what to ask (`plan`), how one slice is read
(`reading`), the second look of a sweep (`sweep`), SQL.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import polars as pl

from pipelines.normalise import Batch
from pipelines.plan import BEGINNING, Slice
from pipelines.reading import AccountsUnnamedError, ReadPart, read_slice
from pipelines.run import Run, StreamReport, commit_part, new_run_id, read_accounts
from pipelines.streams import Stream
from pipelines.sweep import SecondLook
from resources.appointedd import Page
from resources.errors import AbilityRefusedError, ApiError, ClientRefusedError, SliceError
from resources.warehouse import Writer

log = logging.getLogger(__name__)
PROGRESS_EVERY_S = 10.0
# A share of records in quarantine above this is no longer one odd record, but a contract that does not fit.
QUARANTINE_SHARE = 0.01
# Where progress is told, one line for a person at a time: a logger's method, or Dagster's.
Tell = Callable[[str], object]


class NeedsAccountError(Exception):
    """Rows of an API client do not name their account, and an account filter can ask for each alone: plan again."""

    def __init__(self, api_client: str) -> None:
        super().__init__(api_client)
        self.api_client = api_client


class Walker:
    """Reads the slices of one plan in threads and commits their parts in this one; lives for one plan."""

    def __init__(self, run: Run, stream: Stream, writer: Writer, report: StreamReport, tell: Tell) -> None:
        self.run = run
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
        self.owners: dict[str, str] = {}
        self.failed: set[Slice] = set()
        # Slices of which something is missing: what they brought is committed, their window is not.
        self.incomplete: set[Slice] = set()
        self.read: dict[Slice, tuple[int, int]] = {}

    def walk(self, slices: Sequence[Slice]) -> None:
        """Read and commit; raises what the plan must be made again for, after all threads have ended."""
        waiting = len(slices)
        with ThreadPoolExecutor(max_workers=self.run.settings.sync_concurrency, thread_name_prefix="slice") as pool:
            try:
                for piece in slices:
                    pool.submit(self._read, piece)
                while waiting:
                    piece, part = self.parts.get()
                    if part is None:
                        waiting -= 1
                    elif piece in self.failed:
                        continue
                    elif isinstance(part, ReadPart):
                        self._try(piece, part)
                    else:
                        self._fail(piece, part)
            finally:
                self.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._drain()

    def _drain(self) -> None:
        """Let threads that wait for a place in the queue go."""
        while True:
            try:
                self.parts.get_nowait()
            except queue.Empty:
                return

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
        default = piece.only_account or (listed[0] if len(listed) == 1 else None)
        try:
            for part in read_slice(
                piece, self.stream, client, self.run.zones, default, self.stopped.is_set, self.progress.note
            ):
                self._put(piece, part)
        except BaseException as error:  # noqa: BLE001  handed over, and raised or written down there
            self._put(piece, error)
        self._put(piece, None)

    def _try(self, piece: Slice, part: ReadPart) -> None:
        try:
            self._take(piece, part)
        except ApiError as error:  # the second look of a sweep asks the API too
            self._fail(piece, error)

    def _fail(self, piece: Slice, error: BaseException) -> None:
        """Decide what a failure ends: a plan to be made again, an API client's part, or one slice, of which nothing more is committed."""
        self.failed.add(piece)
        if isinstance(error, AbilityRefusedError):
            raise error
        if isinstance(error, AccountsUnnamedError):
            client = self.run.clients[piece.api_client]
            if client.has(self.stream.name, "account_filter") and piece.only_account is None:
                raise NeedsAccountError(piece.api_client)
            self._problem(
                f"{self.stream.name}: rows do not name their account, API client {piece.api_client!r} sees several, and the contract has no "
                f"account filter for this stream. Make one API client for each account and list them in APPOINTEDD_CLIENTS."
            )
        elif isinstance(error, ApiError):
            text = str(error) if isinstance(error, ClientRefusedError) else f"API client {piece.api_client!r}: {error}"
            self._problem(text)
        else:
            raise error

    def _problem(self, text: str) -> None:
        if text not in self.report.problems:
            log.error("%s", text)
            self.report.problems.append(text)

    def _take(self, piece: Slice, part: ReadPart) -> None:
        """Commit one part; the last one only after everything that must be true of the whole slice."""
        self._watch_account_filter(piece, part.batch)
        self._watch_children(piece, part.batch)
        self._watch_quarantine(piece, part)
        gone = None
        if piece.kind == "sweep":
            self.met.setdefault(piece, []).append(part.batch.rows.select(self.stream.key))
        if part.is_last:
            part, gone = self._end(piece, part)
        self._commit(piece, part, gone)
        if self.run.request.kind != "nightly":
            self.writer.give_way()  # the nightly goes first; a backfill or a sweep can wait between two commits

    def _end(self, piece: Slice, part: ReadPart) -> tuple[ReadPart, pl.DataFrame | None]:
        """The last part as it may be committed, and the rows to tombstone: its window counts only where nothing of the slice can be missing."""
        part = self._reconciled(part)
        if piece in self.incomplete or not part.is_last:
            self.met.pop(piece, None)
            return replace(part, is_last=False), None
        if piece.kind == "sweep" or self._is_long(piece, part):
            part = self._still_listed(piece, part)
        return self._look_twice(piece, part) if piece.kind == "sweep" else (part, None)

    def _is_long(self, piece: Slice, part: ReadPart) -> bool:
        """Whether the next night's overlap would not read again what an account hid while this slice was read.

        A quiet night's single page is read within moments of the account list, and its stretch is read again: it is not worth a request more.
        """
        again = max(timedelta(days=1), timedelta(minutes=self.run.settings.sync_overlap_minutes))
        is_short = piece.window.since != BEGINNING and piece.window.until - piece.window.since <= 2 * again
        return part.pages_count > 1 or piece in self.numbers or not is_short

    def _still_listed(self, piece: Slice, part: ReadPart) -> ReadPart:
        """A slice moves the state of accounts that were listed before its first and after its last page (design promise 7)."""
        client = self.run.clients[piece.api_client]
        listed = set(read_accounts(client, self.run.request).batch.rows.get_column("account_id"))
        accounts = tuple(a for a in piece.accounts if a in listed)
        if len(accounts) < len(piece.accounts):
            self._problem(
                f"{self.stream.name}: {len(piece.accounts) - len(accounts)} accounts left the account list of API client {piece.api_client!r} while "
                f"they were read, so rows of theirs may be missing. They stay as they are; when they return, the next run asks for the rest."
            )
        return replace(part, slice=replace(piece, accounts=accounts))

    def _reconciled(self, part: ReadPart) -> ReadPart:
        """Say what the totals prove; a confirmed difference is committed without its window, so that the next run asks again."""
        r = part.reconciliation
        if r and r.verdict == "different":
            self._problem(
                f"{self.stream.name}: the API says that {r.last_total} records match, and {r.walks_count} walks read {r.distinct_count}. "
                f"Rows are missing; what was read is committed without its window, so the next run asks for it again."
            )
            return replace(part, is_last=False)
        if r and r.verdict == "unsettled":
            self.report.warnings.append(
                f"{self.stream.name}: the API's totals kept moving while the list was read, so they prove nothing about this slice."
            )
        return part

    def _commit(self, piece: Slice, part: ReadPart, gone: pl.DataFrame | None) -> None:
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
        )

    def _look_twice(self, piece: Slice, part: ReadPart) -> tuple[ReadPart, pl.DataFrame | None]:
        """The last part of a sweep and the rows to tombstone; records that the second look finds are committed at once."""
        client = self.run.clients[piece.api_client]
        met = pl.concat(self.met.pop(piece)).unique()
        candidates = self.writer.candidates(self.table, met, part.slice.accounts, part.began_at)
        look = SecondLook(self.stream, client, self.run.zones, part.slice, part.fetched_at)
        found, gone, doubts = look.confirm(candidates, met, self.stopped.is_set)
        for doubt in doubts:
            self._problem(doubt)
        for late in found:
            self._commit(piece, late, None)
        return part, gone

    def _watch_children(self, piece: Slice, batch: Batch) -> None:
        """Participants whose list or content did not come are missing rows: red, where the contract asked for them, and no window."""
        partial = any(f.get_column("is_partial").any() for f in batch.children.values())
        absent = any(
            not batch.rows.get_column(f"whole_{child.table}").all()
            for child in self.stream.children
            if child.table == "booking_customers"
        )
        if not partial and not absent:
            return
        came = (
            "came as linkage only, so their status, price and answers are not known"
            if partial
            else "of some records did not come"
        )
        text = (
            f"{self.stream.name}: participants {came}. Give the contract the name and the include path that bring them "
            f"(streams.{self.stream.name}.columns.participants, .include, abilities.include)."
        )
        is_declared = not self.run.contract.abilities.include or not self.run.contract.streams[self.stream.name].include
        if is_declared:
            if text not in self.report.warnings:
                self.report.warnings.append(text)
        else:
            self.incomplete.add(piece)
            self._problem(text)

    def _watch_quarantine(self, piece: Slice, part: ReadPart) -> None:
        """A record that could not become a row is told; where they are more than odd ones, the slice has no window and is asked for again."""
        read, odd = self.read.get(piece, (0, 0))
        read, odd = read + part.batch.read_count, odd + len(part.batch.quarantine)
        self.read[piece] = read, odd
        if not odd or not part.is_last:
            return
        text = f"{self.stream.name}: {odd} of {read} records could not become rows; they are kept in ops.quarantine with the reason."
        if odd > QUARANTINE_SHARE * read:
            self.incomplete.add(piece)
            self._problem(f"{text} The contract does not fit, so the slice counts as not read.")
        else:
            self.report.warnings.append(text)
            if piece.kind == "sweep":
                self.incomplete.add(piece)  # what could not be read must not look like something that is gone

    def _watch_account_filter(self, piece: Slice, batch: Batch) -> None:
        """Where rows do not name their account, a filter that the server ignores would hand every row to every account."""
        if (piece.api_client, self.stream.name) not in self.run.needs_account or self.stream.id_column is None:
            return
        for account, record_id in batch.rows.select("account_id", self.stream.id_column).iter_rows():
            if self.owners.setdefault(record_id, account) != account:
                raise SliceError(
                    f"{self.stream.name}: the same record came for two accounts, so the API ignores the account filter "
                    f"{self.run.contract.parameters.account!r}. Make one API client for each account."
                )


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
