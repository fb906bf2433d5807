"""What was read, committed: parts of many slices gathered into transactions, in the thread that holds the warehouse.

What lives here: when to commit and what goes together. What does not: threads (`walker`), what must be true of a slice (`proof`), the end of a sweep
(`sweeping`), SQL. A transaction costs a tenth of a second whatever it holds, so pieces of a few pages do not have one each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from pipelines.parts import ReadPart
from pipelines.plan import Slice
from pipelines.proof import Proof
from pipelines.run import Ready, commit_parts, new_run_id
from resources.part import Brake
from resources.warehouse import Writer

# Pages of one transaction, by the requests in flight. Before each one the API lists its accounts once more, and what comes next waits for that: it counts
# where many pages come. What is gathered takes memory: that counts where few come.
PAGES_FOR_EACH = 12
FEWEST_PAGES = 50
MOST_PAGES = 200
# What was taken in is committed at the latest after so long, so that a kill costs seconds.
COMMIT_AFTER_S = 5.0


def pages_together(in_flight: int) -> int:
    """How many pages one transaction may hold."""
    return min(MOST_PAGES, max(FEWEST_PAGES, PAGES_FOR_EACH * in_flight))


class Committer:
    """Takes in the parts of one plan's slices in any order; lives as long as its walker. Nobody sees what is `pending` before `flush`."""

    def __init__(self, proof: Proof, writer: Writer) -> None:
        self.proof = proof
        self.run = proof.run
        self.stream = proof.stream
        self.writer = writer
        self.numbers: dict[Slice, tuple[str, int]] = {}
        self.most_pages = pages_together(proof.run.settings.sync_concurrency)
        self.pending: list[Ready] = []
        self.pending_since = 0.0

    def take(self, piece: Slice, part: ReadPart) -> None:
        """Take one part in."""
        self.add(piece, self.judged(piece, part))

    def judged(self, piece: Slice, part: ReadPart) -> ReadPart:
        """A part as it may be committed: the last one counts only after everything that must be true of the whole slice."""
        self.proof.watch(piece, part, lambda keys: self.writer.stored_elsewhere(self.stream.target, keys))
        if part.is_last:
            part = self.proof.of_the_end(piece, part, is_first_part=piece not in self.numbers)
        return part

    def add(self, piece: Slice, part: ReadPart, gone: pl.DataFrame | None = None, brakes: Sequence[Brake] = ()) -> None:
        """Keep the next part of its slice until there are enough for one transaction; what they hold is seen by nobody before that."""
        slice_id, number = self.numbers.get(piece, (new_run_id(), 0))
        self.numbers[piece] = (slice_id, number + 1)
        ready = Ready(part, slice_id, number + 1, gone, brakes)
        is_other = any(r.slice_id == ready.slice_id or r.part.slice.kind != ready.part.slice.kind for r in self.pending)
        if is_other or self._pages() + ready.part.weight > self.most_pages:
            self.flush()
        if not self.pending:
            self.pending_since = time.monotonic()
        self.pending.append(ready)
        if self._pages() >= self.most_pages:
            self.flush()

    def _pages(self) -> int:
        return sum(ready.part.weight for ready in self.pending)

    def flush_if_due(self) -> None:
        """Commit what has been pending for long enough."""
        if self.pending and time.monotonic() - self.pending_since > COMMIT_AFTER_S:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending: rows, ledger and windows of all those parts in one transaction."""
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        parts = self.proof.still_listed([ready.part for ready in pending])
        ready = [replace(one, part=part) for one, part in zip(pending, parts, strict=True)]
        commit_parts(self.writer, self.run.run_id, self.stream.target, ready, self.proof.report)
        if self.run.request.kind != "nightly":
            self.writer.give_way()  # the nightly goes first; a backfill or a sweep can wait between two commits

    def end(self) -> None:
        """After the last slice: commit what is pending, and the windows that only all slices together could settle."""
        for piece, part in self.proof.settled():
            self.add(piece, part)
        self.flush()
        unnamed = {
            account for name in self.run.clients if self.proof.is_unnamed(name) for account in self.run.listed[name]
        }
        if unnamed:
            self.proof.of_copies(self.writer.copies(self.stream.target, sorted(unnamed)))
