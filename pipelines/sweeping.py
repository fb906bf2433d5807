"""Sweeps as they are committed: what each one met, and its end, where rows that no walk met are retired or kept.

What lives here: whose sweeps are waited for, which rows are looked for again, what is committed last. What does not: gathering parts into transactions
(`committing`), the second look itself and the brake (`sweep`), the totals of single accounts (`by_account`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from pipelines.by_account import compare
from pipelines.committing import Committer
from pipelines.parts import ReadPart
from pipelines.plan import Slice
from pipelines.reading import Reader
from pipelines.sweep import Limit, SecondLook


class Sweeps:
    """The sweeps of one plan of a stream; lives as long as its walker. `waiting`: those that end when all slices are read."""

    def __init__(self, committer: Committer, is_stopped: Callable[[], bool]) -> None:
        self.committer = committer
        self.run = committer.run
        self.stream = committer.stream
        self.writer = committer.writer
        self.proof = committer.proof
        self.is_stopped = is_stopped
        # What each sweep met, by its key; with several API clients kept to the end, since one may show what another does not.
        self.met: dict[Slice, list[pl.DataFrame]] = {}
        # Sweeps that were read to their end: those that retired what was gone, and those that wait for the others.
        self.swept: set[Slice] = set()
        self.waiting: dict[Slice, ReadPart] = {}

    def take(self, piece: Slice, part: ReadPart) -> None:
        """Take one part in; with the last one the sweep ends, or waits for those of other API clients that list its accounts too."""
        part = self.committer.judged(piece, part)
        if part.slice.kind == "sweep":
            self.met.setdefault(piece, []).append(part.batch.rows.select(self.stream.key))
            if part.is_last:
                self.swept.add(piece)
                self.waiting[piece] = part
                if not self._others(piece):
                    self.end(piece)
                return
        self.committer.add(piece, part)

    def end(self, piece: Slice) -> None:
        """Commit the last part of a sweep with the rows to tombstone and the accounts that it stopped at; before it, what is found on the way."""
        self.committer.flush()
        (part,) = self.proof.still_listed([self.waiting.pop(piece)])
        if not part.is_last:
            self.committer.add(piece, part)
            return
        met = pl.concat(self.met[piece] if len(self.run.clients) > 1 else self.met.pop(piece)).unique()
        reader = Reader(self.stream, self.run.clients[piece.api_client], self.run.zones, self.is_stopped)
        if any(r.last_total is not None for r in part.reconciliations):
            part, met = self._compared(piece, part, reader, met)
        self.committer.flush()
        short = {r.account_id for r in part.reconciliations if r.verdict == "different"}
        accounts = [a for a in part.slice.accounts if a not in short]
        limit = Limit(
            share=self.run.settings.sync_brake_share,
            count=self.run.settings.sync_brake_count,
            rows=self.writer.live_counts(self.stream.name, accounts),
            released=self.writer.released(self.stream.name),
        )
        anywhere = pl.concat([met, *(keys for one in self.swept - {piece} for keys in self.met.get(one, ()))]).unique()
        candidates, unsure = self._candidates(piece, anywhere, accounts, part.began_at)
        others = {a: [self.run.clients[n] for n, own in self._others(piece).items() if a in own] for a in accounts}
        outcome = SecondLook(reader, part.slice, part.fetched_at, others).confirm(
            candidates, met, set(anywhere.get_column("account_id")), limit
        )
        for doubt in outcome.doubts:
            self.proof.problem(doubt)
        if outcome.living_count:
            self.proof.warning(
                f"{self.stream.name}: {outcome.living_count} records were not in the list, though the API has them by id. They were read and stay, but of "
                f"those that the list leaves out and that were never read nobody can know. Seen again in the next sweep, it is the list's own way: see "
                f"streams.{self.stream.name}.queries in the contract. If they were deleted and the API shows them by id all the same, with a deletedAt, say: "
                f"abilities.single = false there, and streams.{self.stream.name}.filters = false where changes bring them, too."
            )
        for late in outcome.found:
            self.committer.add(piece, late)
        stopped = short | unsure | {brake.account_id for brake in outcome.brakes}
        kept = tuple(a for a in part.slice.accounts if a not in stopped)
        last = replace(part, slice=replace(part.slice, accounts=kept))
        self.committer.add(piece, last, outcome.gone, outcome.brakes)
        self.committer.flush()

    def _compared(
        self, piece: Slice, part: ReadPart, reader: Reader, met: pl.DataFrame
    ) -> tuple[ReadPart, pl.DataFrame]:
        """The last part of a sweep with the evidence of each account, and all keys that were met, in second walks of single accounts too."""
        for evidence, parts in compare(reader, part.slice, met):
            part = replace(part, reconciliations=(*part.reconciliations, evidence))
            if evidence.verdict == "different":
                self.proof.problem(
                    f"{self.stream.name}: the API counts {evidence.last_total} records of account {evidence.account_id}, and walks of it read "
                    f"{evidence.distinct_count}. Rows are missing; nothing of the account was called deleted, and the next sweep compares again."
                )
            for late in parts:
                met = pl.concat([met, late.batch.rows.select(self.stream.key)]).unique()
                self.committer.add(piece, replace(late, is_last=False, reconciliations=()))
        return part, met

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
