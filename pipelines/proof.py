"""What must be true of a slice before its window counts, and the sentences that tell where it is not.

What lives here: the judgements of one plan, as parts come in, in the thread that commits. What does not: threads (`walker`), what a sweep may retire
(`sweep`), whether a walk came to its end (`completeness`). What a slice brought is committed in any case; without its window the next run asks again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from pipelines.accounts import Listings
from pipelines.by_account import honours_filter
from pipelines.completeness import may_be_limit
from pipelines.drift import FEW_VALUES, DriftKey, unfit
from pipelines.normalise import Batch, empty
from pipelines.parts import ReadPart
from pipelines.plan import BEGINNING, Slice
from pipelines.run import Run, StreamReport
from pipelines.streams import Stream
from resources.errors import ApiError, SliceError, told

log = logging.getLogger(__name__)
# A share of records in quarantine above this is no longer one odd record, but a contract that does not fit.
QUARANTINE_SHARE = 0.01


class Proof:
    """Watches the parts of one plan's slices; lives as long as its walker. `known`: the accounts that were ever listed."""

    def __init__(
        self, run: Run, stream: Stream, report: StreamReport, listings: Listings, known: Collection[str]
    ) -> None:
        self.run = run
        self.stream = stream
        self.report = report
        self.listings = listings
        self.known = known
        # Slices of which something is missing: what they brought is committed, their window is not.
        self.incomplete: set[Slice] = set()
        # The last part of each piece in which too many records could not become rows, until it is known whether they are too many of all that was read.
        self.doubted: dict[Slice, ReadPart] = {}
        # First loads that walked their list whole and yet are no sweeps: a few records could not become rows, and nobody knows which ones these are.
        self.unswept: set[Slice] = set()
        # Slices whose accounts must be looked for once more before their windows count.
        self.unlisted: set[Slice] = set()
        self.owners: dict[str, str] = {}
        self.read: dict[Slice, tuple[int, int]] = {}
        self.bad_values: Counter[DriftKey] = Counter()
        self.rows_count = 0
        # The accounts of what was read, until one of them is known.
        self.strangers: set[str] = set()
        self.is_any_known = False
        self.present: set[str] = set()
        self.reason = ""
        self.at: datetime | None = None

    def problem(self, text: str) -> None:
        """A sentence that makes the run red, told once."""
        if text not in self.report.problems:
            log.error("%s", text)
            self.report.problems.append(text)

    def warning(self, text: str) -> None:
        """A sentence that a person should know, told once."""
        if text not in self.report.warnings:
            self.report.warnings.append(text)

    def watch(self, piece: Slice, part: ReadPart, elsewhere: Callable[[pl.DataFrame], int]) -> None:
        """Look at one part before it is committed; raises `SliceError` where its rows may belong to another account.

        `elsewhere`: of rows, how many records are stored as another account's.
        """
        if self.is_unnamed(piece.api_client):
            self._watch_account_filter(part.batch)
            if count := elsewhere(part.batch.rows.select(self.stream.key)):
                raise SliceError(_stored_elsewhere(self.stream, count))
        self._watch_children(piece, part.batch)
        self._watch_quarantine(piece, part)
        self.rows_count += part.batch.rows.height
        self.is_any_known |= not part.batch.accounts.isdisjoint(self.known)
        self.strangers = set() if self.is_any_known else self.strangers | part.batch.accounts
        self.at = part.fetched_at
        self.present |= part.batch.present
        self.bad_values += Counter({k: n for k, n in part.batch.drift.items() if k.kind == "bad_value"})

    def of_the_end(self, piece: Slice, part: ReadPart, *, is_first_part: bool) -> ReadPart:
        """The last part as it may be committed: its window counts only where nothing of the slice can be missing. See also `still_listed`."""
        part = self._reconciled(part)
        if piece in self.incomplete or not part.is_last:
            return replace(part, is_last=False)
        if self._is_doubted(piece):
            nothing = empty(self.stream, self.run.contract)
            self.doubted[piece] = replace(part, batch=nothing, pages_count=0, weight=0, reconciliations=())
            return replace(part, is_last=False)
        if piece in self.unswept:
            part = replace(part, slice=replace(part.slice, kind="nightly"))
        if piece.kind == "sweep" or self._is_long(piece, part, is_first_part=is_first_part):
            self.unlisted.add(part.slice)
        return part

    def settled(self) -> list[tuple[Slice, ReadPart]]:
        """After the last slice: the doubted pieces whose windows count after all; of the others a problem is told. What they brought is committed already.

        A list that is cut has pieces of a few records, and one odd record among them would keep their window open for ever. So records that could not become
        rows are counted as a share of all pieces of that list (an API client's, or one account's).
        """
        found = []
        for piece, part in self.doubted.items():
            text = self._quarantined(piece)
            of_list = [counts for other, counts in self.read.items() if _same_list(piece, other)]
            read, odd = (sum(counts) for counts in zip(*of_list, strict=True))
            if odd > QUARANTINE_SHARE * read or (piece.kind == "sweep" and self.run.request.kind != "nightly"):
                self.problem(f"{text} The contract does not fit, so the slice counts as not read.")
                continue
            self.report.warnings.append(text)
            # It was no sweep: nobody knows which records these are.
            part = replace(part, slice=replace(part.slice, kind="nightly" if piece.kind == "sweep" else piece.kind))
            self.unlisted.add(part.slice)
            found.append((piece, part))
        self.doubted.clear()
        return found

    def still_listed(self, parts: Sequence[ReadPart]) -> list[ReadPart]:
        """Last parts as they may be committed: a slice moves the state of accounts that were listed before its first and after its last page.

        (docs/guarantees.md, 7.) One reading of an API client's account list serves all parts that came before it, of whatever stream.
        """
        checked = [self._only_listed(part) if part.is_last and part.slice in self.unlisted else part for part in parts]
        self.unlisted -= {part.slice for part in parts}
        return checked

    def tell_of_unfit(self) -> None:
        """After the last slice: values that did not fit, where they are more than odd ones, are a problem."""
        read = sum(count for count, _ in self.read.values())
        for problem in unfit(self.stream.name, self.bad_values, read):
            self.problem(problem)

    def tell_of_strangers(self) -> None:
        """After the last slice: where no record at all belongs to an account that was ever listed, what rows name as their account is something else.

        One that is closed is listed no more, and in a quiet night its rows may be all that changed; so may those of one that was opened meanwhile.
        `SYNC_ACCOUNTS` would leave out all that came.
        """
        count = sum(read - odd for read, odd in self.read.values())
        if count < FEW_VALUES or self.is_any_known:
            return
        listed = [self.listed(name) for name in sorted({piece.api_client for piece in self.read})]
        if None not in listed and self.strangers.isdisjoint(set().union(*filter(None, listed))):
            self.problem(
                f"{self.stream.name}: none of {count} records belongs to an account that is listed or ever was, so what they name as their account "
                f"is none, such as its slug. Correct account_reference in the contract (appointedd-warehouse connect does), move away the file at "
                f"WAREHOUSE_PATH, which holds them under wrong accounts or not at all, and sync again."
            )

    def missing(self, filled: Collection[str]) -> list[str]:
        """After the last slice: the names of members that no record had, though stored rows have values in their columns (`filled`)."""
        if self.rows_count < FEW_VALUES:
            return []
        names = self.run.contract.streams[self.stream.name].columns
        gone = [c.name for c in self.stream.columns if c.name in filled and c.name not in self.present]
        return [names[n][0] for n in gone if names.get(n)]

    def of_copies(self, count: int) -> None:
        """After the last slice, where rows do not name their account: records that are stored as two accounts' are a problem."""
        if count:
            self.problem(_stored_elsewhere(self.stream, count))

    def _is_long(self, piece: Slice, part: ReadPart, *, is_first_part: bool) -> bool:
        """Whether an account may have hidden rows while this slice was read that the next night's overlap will not read again.

        A quiet night's single page is read within moments of the account list, and its stretch is read again: it is not worth a request more.
        Only the newest stretch is read again: a piece of an older one is not, however short it is.
        """
        again = timedelta(minutes=self.run.settings.sync_overlap_minutes)
        is_head = piece.filter_until is None and piece.window.since != BEGINNING
        is_short = is_head and piece.window.until - piece.window.since <= 2 * again
        return part.pages_count > 1 or not is_first_part or not is_short

    def listed(self, api_client: str) -> set[str] | None:
        """The accounts that an API client lists now; None, and a problem, where that cannot be read."""
        try:
            return self.listings.of(api_client)
        except ApiError as error:
            self.problem(told(api_client, error))
            return None

    def _only_listed(self, part: ReadPart) -> ReadPart:
        piece = part.slice
        listed = self.listed(piece.api_client)
        if listed is None:
            return replace(part, is_last=False)  # what was read stays, and is asked for again
        accounts = tuple(a for a in piece.accounts if a in listed)
        if len(accounts) < len(piece.accounts):
            self.problem(
                f"{self.stream.name}: {len(piece.accounts) - len(accounts)} accounts left the account list of API client {piece.api_client!r} while "
                f"they were read, so rows of theirs may be missing. They stay as they are; when they return, the next run asks for the rest."
            )
        return replace(part, slice=replace(piece, accounts=accounts))

    def _reconciled(self, part: ReadPart) -> ReadPart:
        """Say what the totals prove; a confirmed difference is committed without its window, so that the next run asks again."""
        total = self.run.contract.document.total
        for r in part.reconciliations:
            if r.verdict == "different":
                self.problem(
                    f"{self.stream.name}: the API says that {r.last_total} records match, and {r.walks_count} walks read {r.distinct_count}. "
                    f"Rows are missing; what was read is committed without its window, so the next run asks for it again. "
                    f'If {total} counts something else, such as all records whatever is filtered, set document.total = "" in the contract, and '
                    f'document.ignored_marks = ["{total}"] where it counts whole lists otherwise, too.'
                )
                part = replace(part, is_last=False)
            elif r.verdict == "unsettled":
                self.warning(
                    f"{self.stream.name}: the API's totals kept moving while the list was read, so they prove nothing about this slice."
                )
            elif may_be_limit(r.distinct_count):
                self.warning(
                    f"{self.stream.name}: a list ended after exactly {r.distinct_count} records, and a count of the API's goes no further. Many servers end "
                    f"lists at such a number without a word: if there are more in the API, divide the list by streams.{self.stream.name}.queries in the "
                    f"contract."
                )
        return part

    def _watch_children(self, piece: Slice, batch: Batch) -> None:
        """Participants whose list or content did not come are missing rows: red, where the contract asked for them, and no window."""
        if any(f.get_column("is_partial").any() for f in batch.children.values()):
            came = "came as linkage only, so their status, price and answers are not known"
        elif "whole_booking_customers" in batch.rows.columns and not batch.rows["whole_booking_customers"].all():
            came = "of some records did not come"
        else:
            return
        text = (
            f"{self.stream.name}: participants {came}. Give the contract the name and the include path that bring them "
            f"(streams.{self.stream.name}.columns.participants, .include, abilities.include); where it has them, next links may lose the include: run "
            f"appointedd-warehouse connect. Several that differ under one id on a page count as not come: where ids begin anew in each account, make one API "
            f"client for each."
        )
        contract = self.run.contract
        if contract.abilities.include and contract.streams[self.stream.name].include:
            self.incomplete.add(piece)
            self.problem(text)
        else:
            self.warning(text)

    def _watch_quarantine(self, piece: Slice, part: ReadPart) -> None:
        """A record that could not become a row is told; where they are more than odd ones, the slice has no window at first (see `settled`)."""
        read, odd = self.read.get(piece, (0, 0))
        read, odd = read + part.batch.read_count, odd + len(part.batch.quarantine)
        self.read[piece] = read, odd
        if part.batch.quarantine:
            self.reason = part.batch.quarantine[0][0]
        if not odd or not part.is_last or self._is_doubted(piece):
            return
        self.report.warnings.append(self._quarantined(piece))
        if piece.kind == "sweep":
            # What could not be read must not look like something that is gone; the window of a nightly counts all the same.
            (self.unswept if self.run.request.kind == "nightly" else self.incomplete).add(piece)

    def _is_doubted(self, piece: Slice) -> bool:
        read, odd = self.read.get(piece, (0, 0))
        return odd > QUARANTINE_SHARE * read

    def _quarantined(self, piece: Slice) -> str:
        read, odd = self.read[piece]
        return f"{self.stream.name}: {odd} of {read} records could not become rows; they are kept in ops.quarantine ({self.reason})."

    def is_unnamed(self, api_client: str) -> bool:
        """Whether rows do not name their account, so that each account is asked for alone."""
        return (api_client, self.stream.name) in self.run.needs_account

    def _watch_account_filter(self, batch: Batch) -> None:
        """Where rows do not name their account, a filter that the server ignores would hand every row to every account."""
        for account, record_id in batch.rows.select("account_id", self.stream.id_column).iter_rows():
            if self.owners.setdefault(record_id, account) != account:
                raise SliceError(_ignored_filter(self.stream, self.run))


def _stored_elsewhere(stream: Stream, count: int) -> str:
    return (
        f"{stream.name}: rows do not name their account, and {count} records came for one account that are stored as another's: the API ignores the account "
        f"filter, or they have moved. Where the filter works now, set abilities.single = false in the contract and run appointedd-warehouse sync --sweep, "
        f"which looks for each in the list of the account that it is stored for."
    )


def _same_list(one: Slice, other: Slice) -> bool:
    return (one.api_client, one.only_account) == (other.api_client, other.only_account)


def ignored_filter(run: Run, stream: Stream, api_client: str, slices: Sequence[Slice]) -> str | None:
    """Ask whether the account filter counts beside what slices will send, where that is not known yet; the sentence for where it does not."""
    proven = run.heeded.setdefault((api_client, stream.name), set())
    accounts, oldest = run.listed[api_client], run.settings.history_start_at
    if honours_filter(run.clients[api_client], accounts, slices, oldest, proven):
        return None
    return _ignored_filter(stream, run)


def _ignored_filter(stream: Stream, run: Run) -> str:
    """The sentence for a server that hands the rows of every account to whoever asks for one."""
    return (
        f"{stream.name}: the same record came for two accounts, so the API ignores the account filter {run.contract.parameters.account!r}, be it beside "
        f"other parameters only. Make one API client for each account."
    )
