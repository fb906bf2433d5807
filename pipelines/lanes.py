"""One stream in a walk: what its parts and failures come to, in the thread that holds the warehouse.

What lives here: which failure ends what, a slice, the part of an API client or the plan. What does not: threads (`walker`), what must be true of a slice
(`proof`), when it is committed (`committing`, `sweeping`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.accounts import Listings
from pipelines.committing import Committer
from pipelines.extract import NoAccountError
from pipelines.parts import ComingPart, ReadPart
from pipelines.plan import Request, Slice
from pipelines.progress import Progress, Tell
from pipelines.proof import Proof
from pipelines.run import Run, StreamReport, counted
from pipelines.splitting import CoarseFilterError, Splitter
from pipelines.streams import ACCOUNTS, Stream
from pipelines.sweeping import Sweeps
from resources.errors import AbilityRefusedError, ApiError, told
from resources.warehouse import Writer


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


class Lane:
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
        known = frozenset(writer.watermarks(ACCOUNTS.name)).union(*run.listed.values())
        self.proof = Proof(run, asked.stream, asked.report, listings, known)
        self.committer = Committer(self.proof, writer)
        self.sweeps = Sweeps(self.committer, self.stopped.is_set)
        updated = run.contract.streams[asked.stream.name].columns.get("updated_at", ())
        self.splitter = Splitter(run.settings.sync_concurrency, run.settings.history_start_at, updated)
        self.filled = writer.filled(asked.stream.name, [c.name for c in asked.stream.columns])

    @contextmanager
    def counted(self) -> Iterator[Lane]:
        """What this thread asks in the `with` is counted for the stream."""
        with counted(self.report, self.run.clients.values()):
            yield self

    def take(self, piece: Slice, part: ComingPart | BaseException) -> None:
        """One part, or what ended its slice; nothing counts any more once the plan must be made again."""
        if self.again is not None or piece in self.failed:
            return
        with self._failing(piece):
            if isinstance(part, BaseException):
                raise part
            shaped = part.result()
            self._believe(piece, shaped)
            taking = self.sweeps if piece.kind == "sweep" else self.committer
            taking.take(piece, shaped)

    def _believe(self, piece: Slice, part: ReadPart) -> None:
        """Raise `CoarseFilterError` where a piece is short of a total that may be the whole list's, whatever is asked for: that one can be judged."""
        is_short = any(r.verdict == "different" for r in part.reconciliations)
        if is_short and self.splitter.is_counted_whole(piece):
            raise CoarseFilterError(piece.api_client)

    @contextmanager
    def _failing(self, piece: Slice) -> Iterator[None]:
        """What goes wrong in the `with` is a failure of the slice; the second look of a sweep asks the API too."""
        try:
            yield
        except (ApiError, CoarseFilterError, NoAccountError) as error:
            self._fail(piece, error)

    def _fail(self, piece: Slice, error: ApiError | CoarseFilterError | NoAccountError) -> None:
        """Decide what a failure ends: a plan to be made again, an API client's part, or one slice, of which nothing more is committed."""
        self.failed.add(piece)
        if isinstance(error, AbilityRefusedError | CoarseFilterError):
            self._plan_again(error)
        elif isinstance(error, NoAccountError):
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
        for piece in list(self.sweeps.waiting):
            if self.again is None:
                with self._failing(piece):
                    self.sweeps.end(piece)
        if self.again is not None:
            return
        self.committer.end()
        if self.request.kind == "nightly" and "updated_at" in self.filled:
            self._tell_of_undated()
        self.proof.tell_of_unfit()
        self.proof.tell_of_strangers()
        missing = self.proof.missing(self.filled)
        if missing and self.proof.at is not None:
            self.writer.note_missing(self.stream.name, missing, self.proof.at)
            self.report.drift["missing_member"] += len(missing)

    def _tell_of_undated(self) -> None:
        """What no window of change time shows waits for the next sweep; who reads the tables must know that there is such a thing."""
        if not any(client.has(self.stream.name, "filters") for client in self.run.clients.values()):
            return
        count = self.writer.undated_count(self.stream.name)
        if count:
            self.proof.warning(
                f"{self.stream.name}: {count} stored records have no change time, so a nightly sees neither new ones of their kind nor what changes in "
                f"them; the next sweep does (appointedd-warehouse sync --sweep)."
            )
