"""What was read, committed: parts of many slices gathered into transactions, the end of a sweep among them; in the thread that holds the warehouse.

What lives here: when to commit and what goes together. What does not: threads (`walker`), what must be true of a slice (`proof`), the second look of a
sweep (`sweep`), SQL. A transaction costs a tenth of a second whatever it holds, so pieces of a few pages do not have one each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from pipelines.by_account import compare
from pipelines.plan import Slice
from pipelines.proof import Listings, Proof
from pipelines.reading import ReadPart
from pipelines.run import Ready, Run, StreamReport, commit_parts, new_run_id
from pipelines.streams import Stream
from pipelines.sweep import Limit, SecondLook
from resources.part import Reconciliation
from resources.warehouse import Writer

# Pages of one transaction, by the requests in flight: each holds the next ones up until the API has listed its accounts once more, which counts where many
# pages come, and takes memory, which counts where few do.
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

    def __init__(
        self,
        run: Run,
        stream: Stream,
        writer: Writer,
        report: StreamReport,
        listings: Listings,
        is_stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.stream = stream
        self.writer = writer
        self.report = report
        self.is_stopped = is_stopped
        self.clock = clock
        self.proof = Proof(run, stream, report, listings)
        # What each sweep met, by its key; with several API clients kept to the end, since one may show what another does not.
        self.met: dict[Slice, list[pl.DataFrame]] = {}
        # Sweeps that were read to their end: those that retired what was gone, and those that wait for the others.
        self.swept: set[Slice] = set()
        self.waiting: dict[Slice, ReadPart] = {}
        self.numbers: dict[Slice, tuple[str, int]] = {}
        self.most_pages = pages_together(run.settings.sync_concurrency)
        self.pending: list[Ready] = []
        self.pending_since = 0.0

    def take(self, piece: Slice, part: ReadPart) -> None:
        """Take one part in; the last one counts only after everything that must be true of the whole slice."""
        self.proof.watch(piece, part, lambda keys: self.writer.stored_elsewhere(self.stream.target, keys))
        if part.is_last:
            part = self.proof.of_the_end(piece, part, is_first_part=piece not in self.numbers)
        if part.slice.kind == "sweep":
            self.met.setdefault(piece, []).append(part.batch.rows.select(self.stream.key))
            if part.is_last:
                self.swept.add(piece)
                self.waiting[piece] = part
                if not self._others(piece):
                    self.end_sweep(piece)
                return
        self._add(self._numbered(piece, part))

    def _add(self, ready: Ready) -> None:
        """Keep a part until there are enough for one transaction; what they hold is seen by nobody before that."""
        is_other = any(r.slice_id == ready.slice_id or r.part.slice.kind != ready.part.slice.kind for r in self.pending)
        if is_other or self._pages() + ready.part.weight > self.most_pages:
            self.flush()
        if not self.pending:
            self.pending_since = self.clock()
        self.pending.append(ready)
        if self._pages() >= self.most_pages:
            self.flush()

    def _pages(self) -> int:
        return sum(ready.part.weight for ready in self.pending)

    def flush_if_due(self) -> None:
        """Commit what has been pending for long enough."""
        if self.pending and self.clock() - self.pending_since > COMMIT_AFTER_S:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending: rows, ledger and windows of all those parts in one transaction."""
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        parts = self.proof.still_listed([ready.part for ready in pending])
        ready = [replace(one, part=part) for one, part in zip(pending, parts, strict=True)]
        commit_parts(self.writer, self.run.run_id, self.stream.target, ready, self.report)
        if self.run.request.kind != "nightly":
            self.writer.give_way()  # the nightly goes first; a backfill or a sweep can wait between two commits

    def end(self) -> None:
        """After the last slice: commit what is pending, and the windows that only all slices together could settle."""
        for piece, part in self.proof.settled():
            self._add(self._numbered(piece, part))
        self.flush()
        unnamed = {
            account for name in self.run.clients if self.proof.is_unnamed(name) for account in self.run.listed[name]
        }
        if unnamed:
            self.proof.of_copies(self.writer.copies(self.stream.target, sorted(unnamed)))

    def end_sweep(self, piece: Slice) -> None:
        """Commit the last part of a sweep with the rows to tombstone and the accounts that it stopped at; before it, what is found on the way."""
        self.flush()
        (part,) = self.proof.still_listed([self.waiting.pop(piece)])
        if not part.is_last:
            self._add(self._numbered(piece, part))
            return
        met = pl.concat(self.met[piece] if len(self.run.clients) > 1 else self.met.pop(piece)).unique()
        client, zones, is_stopped = self.run.clients[piece.api_client], self.run.zones, self.is_stopped
        short: set[str] = set()
        if any(r.last_total is not None for r in part.reconciliations):
            for evidence, parts in compare(part.slice, self.stream, client, zones, met, is_stopped):
                part = replace(part, reconciliations=(*part.reconciliations, evidence))
                if evidence.verdict == "different":
                    short.add(evidence.account_id or "")
                    self.proof.problem(_short_account(self.stream, evidence))
                for late in parts:
                    met = pl.concat([met, late.batch.rows.select(self.stream.key)]).unique()
                    self._add(self._numbered(piece, replace(late, is_last=False, reconciliations=())))
        self.flush()
        accounts = [a for a in part.slice.accounts if a not in short]
        limit = Limit(
            share=self.run.settings.sync_brake_share,
            count=self.run.settings.sync_brake_count,
            rows=self.writer.live_counts(self.stream.target.stream, accounts),
            released=self.writer.released(self.stream.name),
        )
        anywhere = pl.concat([met, *(keys for one in self.swept - {piece} for keys in self.met.get(one, ()))]).unique()
        candidates, unsure = self._candidates(piece, anywhere, accounts, part.began_at)
        others = {a: [self.run.clients[n] for n, own in self._others(piece).items() if a in own] for a in accounts}
        outcome = SecondLook(self.stream, client, zones, part.slice, part.fetched_at, others).confirm(
            candidates, met, set(anywhere.get_column("account_id")), limit, is_stopped
        )
        for doubt in outcome.doubts:
            self.proof.problem(doubt)
        for late in outcome.found:
            self._add(self._numbered(piece, late))
        stopped = short | unsure | {brake.account_id for brake in outcome.brakes}
        kept = tuple(a for a in part.slice.accounts if a not in stopped)
        last = self._numbered(piece, replace(part, slice=replace(part.slice, accounts=kept)))
        self._add(replace(last, gone=outcome.gone, brakes=outcome.brakes))
        self.flush()

    def _candidates(
        self, piece: Slice, met: pl.DataFrame, accounts: Sequence[str], began_at: datetime
    ) -> tuple[list[tuple[str, ...]], set[str]]:
        """Keys of rows that no API client's sweep met, without those of accounts of which another one may show more; and those accounts."""
        found = self.writer.candidates(self.stream.target, met, accounts, began_at)
        unsure = {key[0] for key in found} & self._unsure(piece) if found else set()
        if unsure:
            self.proof.warning(
                f"{self.stream.name}: {len(unsure)} accounts hold records that an API client's list did not show, and another API client that may show "
                f"them was not read to the end, so nothing of them was called deleted; the next sweep looks again. Mend what this run says of that API "
                f"client, or take it out of the settings."
            )
        return [key for key in found if key[0] not in unsure], unsure

    def _others(self, piece: Slice) -> dict[str, set[str]]:
        """Other API client → accounts of a slice that its list shows too.

        One that serves no account of its own is not read at all, and one that is asked for each account alone is not asked for these.
        """
        run = self.run
        shared = {
            name: set(piece.accounts) & set(run.listed[name])
            for name in run.clients
            if name != piece.api_client and run.accounts[name] and not run.asks_alone(self.stream, name)
        }
        return {name: accounts for name, accounts in shared.items() if accounts}

    def _unsure(self, piece: Slice) -> set[str]:
        """Accounts of a sweep of which another API client may show more: it was not read to its end, or lists them no more, or has no part in the run."""
        if self.run.absent:
            return set(piece.accounts)
        unsure: set[str] = set()
        for name, shared in self._others(piece).items():
            # A sweep of one account alone showed nothing of the others.
            sweeps = [one for one in self.swept if one.api_client == name]
            read = {account for account in shared for one in sweeps if one.only_account in (None, account)}
            listed = self.proof.listed(name) if read else None
            unsure |= shared - (read & (listed or set()))
        return unsure

    def _numbered(self, piece: Slice, part: ReadPart) -> Ready:
        """A part with the next number of its slice."""
        slice_id, number = self.numbers.get(piece, (new_run_id(), 0))
        self.numbers[piece] = (slice_id, number + 1)
        return Ready(part, slice_id, number + 1)


def _short_account(stream: Stream, evidence: Reconciliation) -> str:
    return (
        f"{stream.name}: the API counts {evidence.last_total} records of account {evidence.account_id}, and walks of it read "
        f"{evidence.distinct_count}. Rows are missing; nothing of the account was called deleted, and the next sweep compares again."
    )
