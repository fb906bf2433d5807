"""The end of a sweep: whether a record that a complete walk did not meet is really gone (docs/guarantees.md, 7), and how much may be retired at once.

What lives here: choosing between single GETs and a second walk, reading the answers, the brake. What does not: finding candidates
(`sql/candidates.sql`), writing tombstones (`sql/tombstone.sql`). A 404 counts only after a record that is known to live was found at the same address;
otherwise the path may simply be wrong, and everything would look deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus

import polars as pl

from pipelines.normalise import combine, normalise
from pipelines.parts import ReadPart
from pipelines.plan import Slice
from pipelines.reading import Reader
from pipelines.records import Fetched, identifier_id, index
from resources.appointedd import ApiClient
from resources.errors import BrokenAnswerError, GaveUpError
from resources.part import Brake

# Up to so many candidates are asked for one by one; more are cheaper by walking the list again.
MOST_SINGLES = 50
# So many of a longer list of candidates are asked for by id all the same: what a list leaves out, it leaves out twice.
SAMPLE = 20
MOST_OF_AN_UNSEEN_ACCOUNT = 3
# A release covers what the brake held back, and what may go in the days until the next sweep.
RELEASE_MARGIN = 1.1


@dataclass(frozen=True)
class Limit:
    """How much of an account a sweep may retire: `share` of its live `rows`, or `count` rows where that is more, or what a person `released`, in rows."""

    share: float
    count: int
    rows: Mapping[str, int]
    released: Mapping[str, int]

    def allows(self, account: str, gone: int, *, is_unseen: bool) -> bool:
        """Whether so many rows may go. Of an account of which a sweep met nothing hardly any may: it is hidden rather than emptied."""
        if gone <= self.released.get(account, 0) * RELEASE_MARGIN:
            return True
        if is_unseen:
            return gone <= MOST_OF_AN_UNSEEN_ACCOUNT
        return gone <= self.count or gone <= self.share * self.rows.get(account, 0)


@dataclass(frozen=True)
class Outcome:
    """What the second look gave: parts to merge, rows to tombstone (key, `evidence`, `at`), accounts stopped at, sentences that make the run red.

    `living_count`: records that live on, though a whole walk did not meet them.
    """

    found: list[ReadPart] = field(default_factory=list)
    gone: pl.DataFrame | None = None
    brakes: list[Brake] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    living_count: int = 0


@dataclass(frozen=True)
class SecondLook:
    """Confirms candidates of one sweep of one stream by one API client. `at`: server time that a tombstone is dated with.

    `others`: account → other API clients that list it too; a record that one of them finds by id lives on.
    """

    reader: Reader
    piece: Slice
    at: datetime
    others: Mapping[str, Sequence[ApiClient]]

    def confirm(
        self,
        candidates: Sequence[tuple[str, ...]],
        met: pl.DataFrame,
        seen: Collection[str],
        limit: Limit,
    ) -> Outcome:
        """Look again at what the walk did not meet. An account that would lose too much keeps everything. `seen`: accounts of which any list showed rows."""
        hidden = self._brakes(Counter(k[0] for k in candidates if k[0] not in seen), seen, limit)
        outcome = self._look(_without(candidates, hidden), met)
        brakes, gone = hidden, outcome.gone
        if gone is not None:
            brakes = hidden + self._brakes(Counter(gone.get_column("account_id")), seen, limit)
            gone = gone.filter(~pl.col("account_id").is_in([b.account_id for b in brakes]))
        return replace(outcome, gone=gone, brakes=brakes, doubts=[*map(self._says, brakes), *outcome.doubts])

    def _look(self, candidates: Sequence[tuple[str, ...]], met: pl.DataFrame) -> Outcome:
        if not candidates:
            return Outcome()
        works = self._single_works(met)
        if works and len(candidates) <= MOST_SINGLES:
            found, gone = self._ask_one_by_one(candidates)
            return Outcome(found, gone, living_count=len(candidates) - (0 if gone is None else gone.height))
        if works:
            sample = candidates[:: max(1, len(candidates) // SAMPLE)]
            found, _ = self._ask_one_by_one(sample)
            if found:
                doubt = (
                    f"{self.piece.stream}: {len(candidates)} records are not in the list, but {len(found)} of {len(sample)} that were asked for by id "
                    f"live on, so nothing was called deleted. The list may leave some out, such as cancelled ones: see "
                    f"streams.{self.piece.stream}.queries in the contract."
                )
                return Outcome(found, doubts=[doubt])
        return Outcome(*self._walk_again(candidates))

    def _brakes(self, gone: Mapping[str, int], seen: Collection[str], limit: Limit) -> list[Brake]:
        return [
            Brake(account, count, limit.rows.get(account, 0))
            for account, count in sorted(gone.items())
            if not limit.allows(account, count, is_unseen=account not in seen)
        ]

    def _says(self, brake: Brake) -> str:
        cure = (
            f"They stay as they are. If they are really gone: appointedd-warehouse release {brake.account_id} --stream {self.piece.stream}, "
            f"and then appointedd-warehouse sync --sweep."
        )
        if brake.gone_count == brake.rows_count:
            return (
                f"{self.piece.stream}: nothing of account {brake.account_id} was in the list, and the warehouse holds {brake.rows_count} records of it. "
                f"An account that is listed and shows nothing has more likely lost a permission than all its records. {cure}"
            )
        return (
            f"{self.piece.stream}: {brake.gone_count} of {brake.rows_count} records of account {brake.account_id} would have been called deleted, "
            f"more than SYNC_BRAKE_SHARE and SYNC_BRAKE_COUNT let pass. {cure}"
        )

    def _single_works(self, met: pl.DataFrame) -> bool:
        client = self.reader.client
        if not client.has(self.piece.stream, "single") or met.height == 0:
            return False
        known = met.get_column(self.reader.stream.key[-1])[0]
        try:
            page = client.single(self.piece.stream, known)
        except BrokenAnswerError:
            return False
        except GaveUpError as error:
            # No such ability: the list is walked again instead, which proves the same. A server that is down now says nothing of that.
            if error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED):
                return False
            raise
        return page is not None and identifier_id(page.records[0]) == known

    def _ask_one_by_one(self, candidates: Sequence[tuple[str, ...]]) -> tuple[list[ReadPart], pl.DataFrame | None]:
        stream, client, zones = self.reader.stream, self.reader.client, self.reader.zones
        gone: dict[tuple[str, ...], str] = {}
        found = []
        for key in candidates:
            able = (other for other in self.others.get(key[0], ()) if other.has(stream.name, "single"))
            answers = (one.single(stream.name, key[-1]) for one in (client, *able))
            page = next((answer for answer in answers if answer is not None), None)
            if page is None:
                gone[key] = "single GET (404)"
            else:
                fetched = [Fetched(page.records[0], index(page.included), page.fetched_at)]
                batch = combine([normalise(stream, client.contract, fetched, zones, key[0], self.piece.keeps)])
                if not batch.quarantine and key not in set(batch.rows.select(stream.key).iter_rows()):
                    gone[key] = "moved to another account"
                found.append(ReadPart(self.piece, batch, 1, page.fetched_at, page.fetched_at))
        return found, self._gone(gone)

    def _walk_again(self, candidates: Sequence[tuple[str, ...]]) -> tuple[list[ReadPart], pl.DataFrame | None]:
        missed, found = set(candidates), []
        default = self.piece.accounts[0] if len(self.piece.accounts) == 1 else None
        for part in self.reader.read(self.piece, default):
            keys = set(part.batch.rows.select(self.reader.stream.key).iter_rows())
            if keys & missed:  # a row that had slipped away from the first walk: merge the part that has it
                found.append(replace(part, is_last=False, reconciliations=()))
            missed -= keys
        if self.reader.is_stopped():
            return [], None
        return found, self._gone(dict.fromkeys(sorted(missed), "second walk"))

    def _gone(self, evidence: Mapping[tuple[str, ...], str]) -> pl.DataFrame | None:
        if not evidence:
            return None
        frame = pl.DataFrame(list(evidence), schema=dict.fromkeys(self.reader.stream.key, pl.String()), orient="row")
        return frame.with_columns(pl.Series("evidence", list(evidence.values())), pl.lit(self.at).alias("at"))


def _without(candidates: Sequence[tuple[str, ...]], brakes: Sequence[Brake]) -> list[tuple[str, ...]]:
    stopped = {brake.account_id for brake in brakes}
    return [key for key in candidates if key[0] not in stopped]
