"""The second look: whether a record that a complete walk did not meet is really gone (design promise 7).

What lives here: choosing between single GETs and a second walk, and reading the answers. What does not: finding candidates (`sql/candidates.sql`),
writing tombstones (`sql/tombstone.sql`). A 404 counts only after a record that is known to live was found at the same address; otherwise the path may
simply be wrong, and everything would look deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from pipelines.normalise import combine, normalise
from pipelines.plan import Slice
from pipelines.reading import ReadPart, read_slice
from pipelines.records import Fetched, identifier_id, index
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.errors import SliceError

# Up to so many candidates are asked for one by one; more are cheaper by walking the list again.
MOST_SINGLES = 50
# So many of a longer list of candidates are asked for by id all the same: what a list leaves out, it leaves out twice.
SAMPLE = 20
MOST_OF_AN_UNSEEN_ACCOUNT = 3


class SecondLook:
    """Confirms candidates of one sweep of one stream by one API client. `at`: server time that a tombstone is dated with."""

    def __init__(self, stream: Stream, client: ApiClient, zones: Mapping[str, str], piece: Slice, at: datetime) -> None:
        self.stream = stream
        self.client = client
        self.zones = zones
        self.piece = piece
        self.at = at

    def confirm(
        self, candidates: Sequence[tuple[str, ...]], met: pl.DataFrame, is_stopped: Callable[[], bool]
    ) -> tuple[list[ReadPart], pl.DataFrame | None, list[str]]:
        """What the second look found after all, as parts to merge; the rows that are gone: key, `evidence`, `at`; and what keeps it from believing."""
        candidates, doubts = self._of_accounts_met(candidates, met)
        if not candidates:
            return [], None, doubts
        works = self._single_works(met)
        if works and len(candidates) <= MOST_SINGLES:
            return *self._ask_one_by_one(candidates), doubts
        if works:
            sample = candidates[:: max(1, len(candidates) // SAMPLE)]
            found, _ = self._ask_one_by_one(sample)
            if found:
                doubts.append(
                    f"{self.stream.name}: {len(candidates)} records are not in the list, but {len(found)} of {len(sample)} that were asked for by id "
                    f"live on, so nothing was called deleted. The list may leave some out, such as cancelled ones: see "
                    f"streams.{self.stream.name}.queries in the contract."
                )
                return found, None, doubts
        return *self._walk_again(candidates, is_stopped), doubts

    def _of_accounts_met(
        self, candidates: Sequence[tuple[str, ...]], met: pl.DataFrame
    ) -> tuple[list[tuple[str, ...]], list[str]]:
        """An account of which a sweep met nothing at all is hidden rather than emptied, unless it held next to nothing."""
        seen = set(met.get_column("account_id"))
        lost = Counter(key[0] for key in candidates if key[0] not in seen)
        hidden = {account for account, count in lost.items() if count > MOST_OF_AN_UNSEEN_ACCOUNT}
        doubts = [
            f"{self.stream.name}: nothing of account {account} was in the list, which held {lost[account]} records before. They stay as they are: "
            f"an account that is listed and shows nothing has more likely lost a permission than all its records."
            for account in sorted(hidden)
        ]
        return [key for key in candidates if key[0] not in hidden], doubts

    def _single_works(self, met: pl.DataFrame) -> bool:
        if not self.client.has(self.stream.name, "single") or met.height == 0:
            return False
        known = met.get_column(self.stream.key[-1])[0]
        try:
            page = self.client.single(self.stream.name, known)
        except SliceError:
            return False  # no such ability: the list is walked again instead, which proves the same
        return page is not None and identifier_id(page.records[0]) == known

    def _ask_one_by_one(self, candidates: Sequence[tuple[str, ...]]) -> tuple[list[ReadPart], pl.DataFrame | None]:
        gone: dict[tuple[str, ...], str] = {}
        found = []
        for key in candidates:
            page = self.client.single(self.stream.name, key[-1])
            if page is None:
                gone[key] = "single GET (404)"
            else:
                fetched = [Fetched(page.records[0], index(page.included), page.fetched_at)]
                batch = combine([normalise(self.stream, self.client.contract, fetched, self.zones, key[0])])
                if batch.rows.height and key not in set(batch.rows.select(self.stream.key).iter_rows()):
                    gone[key] = "moved to another account"
                found.append(ReadPart(self.piece, batch, 1, page.fetched_at, page.fetched_at))
        return found, self._gone(gone)

    def _walk_again(
        self, candidates: Sequence[tuple[str, ...]], is_stopped: Callable[[], bool]
    ) -> tuple[list[ReadPart], pl.DataFrame | None]:
        missed, found = set(candidates), []
        default = self.piece.accounts[0] if len(self.piece.accounts) == 1 else None
        for part in read_slice(self.piece, self.stream, self.client, self.zones, default, is_stopped, lambda _: None):
            keys = set(part.batch.rows.select(self.stream.key).iter_rows())
            if keys & missed:  # a row that had slipped away from the first walk: merge the part that has it
                found.append(replace(part, is_last=False, reconciliation=None))
            missed -= keys
        if is_stopped():
            return [], None
        return found, self._gone(dict.fromkeys(sorted(missed), "second walk"))

    def _gone(self, evidence: Mapping[tuple[str, ...], str]) -> pl.DataFrame | None:
        if not evidence:
            return None
        frame = pl.DataFrame(list(evidence), schema=dict.fromkeys(self.stream.key, pl.String()), orient="row")
        return frame.with_columns(pl.Series("evidence", list(evidence.values())), pl.lit(self.at).alias("at"))
