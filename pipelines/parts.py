"""The pages of one slice, made into parts that fit in memory: batches of them shaped, and combined.

What lives here: which pages go together, what a part is. What does not: where pages come from (`reading`), where and when a batch is shaped (`shaping`,
`beside`), what shaping is (`normalise`). Memory is bounded by the length of a part and by what may wait (`walker`), whatever the length of the walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.beside import Question
from pipelines.drift import DriftKey
from pipelines.normalise import Batch, combine, normalise, normalise_pages
from pipelines.plan import Slice
from pipelines.records import Fetched, index
from pipelines.shaping import AtOnce, Shaper
from pipelines.slots import Body, NotPlainError
from pipelines.streams import Stream
from resources.contract import Contract
from resources.pages import Page
from resources.part import Reconciliation

# Pages normalised together: few enough that their decoded records are soon gone, many enough that polars works on whole columns. So much is held for
# each slice that is being read, beside what waits to be shaped.
PAGES_PER_BATCH = 10
BYTES_PER_BATCH = 2 * 1024 * 1024
# As long as nothing waits to be shaped, so few are better than waiting for more.
PAGES_WHILE_IDLE = 4
# A walk that is not cut hands over parts of so many pages: what memory must hold at once, and what a kill costs beside what waits to be committed.
PAGES_PER_PART = 100
# Wherever pages are counted for what they hold, one that is larger than this counts as several: a page of 100 bookings has 0.2 MB.
BYTES_OF_A_PAGE = 256 * 1024


@dataclass(frozen=True)
class ReadPart:
    """Some pages of a slice, ready to be merged. `began_at`: `Date` of the slice's first page. `weight`: what they hold, in ordinary pages."""

    slice: Slice
    batch: Batch
    pages_count: int
    began_at: datetime
    fetched_at: datetime
    is_last: bool = False
    reconciliations: tuple[Reconciliation, ...] = ()
    weight: int = 0


@dataclass(frozen=True)
class ComingPart:
    """A part of which all pages are read, though it may not be shaped yet. `weight`: what they hold, in ordinary pages."""

    weight: int
    is_last: bool
    shaped: Future[ReadPart]

    def is_shaped(self, within_s: float) -> bool:
        """Whether it is shaped within so many seconds. A wait without an end would be deaf to Ctrl-C, once polars is imported."""
        return self.shaped.done() or bool(wait((self.shaped,), within_s).done)

    def result(self) -> ReadPart:
        """The part that was shaped; raises what shaping raised: `NoAccountError`."""
        return self.shaped.result()


@dataclass
class Drafts:
    """The pages of a slice on their way to parts: those in hand, and the batches of the part that is being filled."""

    piece: Slice
    stream: Stream
    contract: Contract
    zones: Mapping[str, str]
    default_account: str | None
    shaper: AtOnce | Shaper
    began_at: datetime | None = None
    fetched_at: datetime | None = None
    pages: list[Page] = field(default_factory=list)
    pages_count: int = 0
    bytes_count: int = 0
    batches: list[Future[Batch]] = field(default_factory=list)
    media_types: Counter[str] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        """Whether what came since the last part is enough for one."""
        return self._weight >= PAGES_PER_PART

    @property
    def _weight(self) -> int:
        """What the pages since the last part hold, in ordinary pages."""
        return max(self.pages_count, self.bytes_count // BYTES_OF_A_PAGE)

    def add(self, page: Page) -> None:
        """Take one more page in; a full batch waits for room where many wait to be shaped. Raises what shaping the ones before it raised."""
        self.began_at = self.began_at or page.fetched_at
        self.fetched_at = page.fetched_at
        self.pages.append(page)
        self.pages_count += 1
        self.bytes_count += page.size
        self.media_types[page.media_type] += 1
        least = PAGES_WHILE_IDLE if self.shaper.is_idle else PAGES_PER_BATCH
        if len(self.pages) >= least or sum(p.size for p in self.pages) >= BYTES_PER_BATCH:
            self._shape_pages()
        for batch in self.batches:
            if not batch.done():
                break
            batch.result()

    def wait(self) -> None:
        """Wait for the batches of the part that is being filled. Raises what shaping raised."""
        for batch in self.batches:
            batch.result()

    def _shape_pages(self) -> None:
        """Have the pages in hand made into a batch, and let go of them."""
        pages, self.pages = self.pages, []
        if not pages and self.batches:
            return

        def shape() -> Batch:
            try:
                return self._batch_of(pages)
            finally:
                pages.clear()

        self.batches.append(self.shaper.submit(shape, sum(page.size for page in pages)))

    def _batch_of(self, pages: Sequence[Page]) -> Batch:
        """Pages as one batch, made by a process beside this one where there is one. The only step that looks into records. Raises `NoAccountError`."""
        how = (self.zones, self.default_account, self.piece.keeps)
        bodies = [Body(page.body, page.fetched_at) for page in pages if page.body is not None]
        if len(bodies) == len(pages):
            beside = self.shaper.beside
            answer = None if beside is None else beside.batch_of(Question(self.stream, self.contract, bodies, *how))
            if answer is not None:
                return answer
            with suppress(NotPlainError):
                return normalise_pages(self.stream, self.contract, bodies, *how)
        fetched = []
        for page in pages:
            included = index(page.included)
            fetched += [Fetched(record, included, page.fetched_at) for record in page.records]
        return normalise(self.stream, self.contract, fetched, *how)

    def part(self, *, is_last: bool = False, reconciliations: tuple[Reconciliation, ...] = ()) -> ComingPart:
        """Have what came since the last part combined to one."""
        self._shape_pages()
        batches, media_types = self.batches, self.media_types
        began_at, fetched_at, pages_count, weight = self.began_at, self.fetched_at, self.pages_count, self._weight
        assert began_at is not None  # noqa: S101  a part has pages; narrows the type
        asked = self.contract.http.media_type

        def shape() -> ReadPart:
            batch = combine([done.result() for done in batches])  # they were submitted before this
            batches.clear()
            for media_type, count in media_types.items():
                if media_type != asked:
                    batch.drift[
                        DriftKey("media_type", "Content-Type", f"{media_type or 'none'} where {asked} was asked for")
                    ] += count
            return ReadPart(
                slice=self.piece,
                batch=batch,
                pages_count=pages_count,
                began_at=began_at,
                fetched_at=fetched_at or began_at,
                is_last=is_last,
                reconciliations=reconciliations,
                weight=weight,
            )

        self.batches, self.media_types, self.fetched_at = [], Counter(), None
        self.pages_count = self.bytes_count = 0
        return ComingPart(weight, is_last, self.shaper.submit(shape))
