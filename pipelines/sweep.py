"""The second look: whether a record that a complete walk did not meet is really gone (design promise 7).

What lives here: choosing between single GETs and a second walk, and reading the answers. What does not: finding candidates (`sql/candidates.sql`),
writing tombstones (`sql/tombstone.sql`). A 404 counts only after a record that is known to live was found at the same address; otherwise the path may
simply be wrong, and everything would look deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from pipelines.normalise import combine, normalise
from pipelines.plan import Slice
from pipelines.reading import ReadPart, read_slice
from pipelines.records import Fetched, index
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.errors import SliceError

# Up to so many candidates are asked for one by one; more are cheaper by walking the list again.
MOST_SINGLES = 50


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
    ) -> tuple[list[ReadPart], pl.DataFrame | None]:
        """What the second look found after all, as parts to merge, and the rows that are gone: key, `evidence`, `at`."""
        if not candidates:
            return [], None
        if len(candidates) <= MOST_SINGLES and self._single_works(met):
            return self._ask_one_by_one(candidates)
        return self._walk_again(candidates, is_stopped)

    def _single_works(self, met: pl.DataFrame) -> bool:
        if not self.client.has(self.stream.name, "single") or met.height == 0:
            return False
        known = met.get_column(self.stream.key[-1])[0]
        try:
            page = self.client.single(self.stream.name, known)
        except SliceError:
            return False  # no such ability: the list is walked again instead, which proves the same
        return page is not None and page.records[0].get("id") == known

    def _ask_one_by_one(self, candidates: Sequence[tuple[str, ...]]) -> tuple[list[ReadPart], pl.DataFrame | None]:
        gone, found = [], []
        for key in candidates:
            page = self.client.single(self.stream.name, key[-1])
            if page is None:
                gone.append(key)
            else:
                fetched = [Fetched(page.records[0], index(page.included), page.fetched_at)]
                batch = combine([normalise(self.stream, self.client.contract, fetched, self.zones, key[0])])
                found.append(ReadPart(self.piece, batch, 1, page.fetched_at, page.fetched_at))
        return found, self._gone(gone, "single GET (404)")

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
        return found, self._gone(sorted(missed), "second walk")

    def _gone(self, keys: Sequence[tuple[str, ...]], evidence: str) -> pl.DataFrame | None:
        if not keys:
            return None
        frame = pl.DataFrame(keys, schema=dict.fromkeys(self.stream.key, pl.String()), orient="row")
        return frame.with_columns(pl.lit(evidence).alias("evidence"), pl.lit(self.at).alias("at"))
