"""One slice, read: its lists walked to a proven end, the pages turned into batches that are small enough to hold.

What lives here: the order of walking, restarting and judging one slice; it runs in a thread of its own and touches no warehouse. What does not: planning,
committing. Memory is bounded by the length of a part, whatever the length of the walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.completeness import Verdict, Walk, judge
from pipelines.extract import DriftKey, NoAccountError
from pipelines.normalise import Batch, combine, normalise
from pipelines.plan import Slice
from pipelines.records import Fetched, index
from pipelines.streams import Stream
from resources.appointedd import ApiClient, Page
from resources.errors import BrokenAnswerError, DeadCursorError, UnprovenEndError
from resources.part import Reconciliation

# Pages normalised together: few enough that their decoded records are soon gone, many enough that polars works on whole columns.
PAGES_PER_BATCH = 10
# A walk commits in parts of so many pages: what a kill may cost, and what memory may hold.
PAGES_PER_PART = 100
RESTARTS = 3


class AccountsUnnamedError(Exception):
    """Rows do not name their account and the API client sees several (evidence G19)."""


@dataclass
class ReadPart:
    """Some pages of a slice, ready to be merged. `began_at`: `Date` of the slice's first page."""

    slice: Slice
    batch: Batch
    pages_count: int
    began_at: datetime
    fetched_at: datetime
    is_last: bool = False
    reconciliations: tuple[Reconciliation, ...] = ()


@dataclass
class _Draft:
    """The part that is being filled."""

    batches: list[Batch] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    pages_count: int = 0
    fetched_at: datetime | None = None
    media_types: Counter[str] = field(default_factory=Counter)


def filters_of(piece: Slice, client: ApiClient) -> dict[str, str]:
    """The query parameters that a slice's window and account ask for, in the contract's names."""
    names = client.contract.parameters
    query = {}
    if piece.filter_since is not None and client.has(piece.stream, "filters"):
        query[names.updated_since] = _instant(piece.filter_since)
    if piece.filter_until is not None and client.has(piece.stream, "upper_bound"):
        query[names.updated_until] = _instant(piece.filter_until)
    if piece.only_account is not None:
        query[names.account] = piece.only_account
    return query


def _instant(instant: datetime) -> str:
    """ISO 8601 with Z: a `+` in a query string means a space (evidence 5.7)."""
    return (
        instant.strftime("%Y-%m-%dT%H:%M:%SZ")
        if instant.microsecond == 0
        else instant.isoformat()[:26].removesuffix("+00:00") + "Z"
    )


def read_slice(
    piece: Slice,
    stream: Stream,
    client: ApiClient,
    zones: Mapping[str, str],
    default_account: str | None,
    is_stopped: Callable[[], bool],
    note_page: Callable[[Page], None],
) -> Iterator[ReadPart]:
    """Walk a slice; yields its parts, the last one with `is_last` and the evidence that it is complete.

    Raises the errors of `ApiClient.pages`, and `AccountsUnnamedError`. Ends early, without a last part, when `is_stopped` says so.
    """
    own_queries = client.contract.streams[stream.name].queries
    draft, began_at = _Draft(), None
    evidence: list[tuple[list[Walk], Verdict]] = []
    for own in own_queries:
        walks: list[Walk] = []
        known: set[int] = set()
        restarts = 0
        verdict: Verdict = "again"
        while verdict == "again":
            counted = _Counted()
            try:
                for page in client.pages(stream.name, filters_of(piece, client), own):
                    if is_stopped():
                        return
                    note_page(page)
                    began_at = began_at or page.fetched_at
                    counted.add(page)
                    draft.pages.append(page)
                    draft.pages_count += 1
                    draft.fetched_at = page.fetched_at
                    draft.media_types[page.media_type] += 1
                    if len(draft.pages) >= PAGES_PER_BATCH:
                        _settle(draft, stream, client, zones, default_account, piece.keeps)
                    if draft.pages_count >= PAGES_PER_PART and page.next_url is not None:
                        yield _part(piece, draft, began_at, stream, client, zones, default_account)
                        draft = _Draft()
            except DeadCursorError:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                continue  # what was read is merged all the same; the walk starts again
            walks.append(counted.walk(known))
            known |= counted.keys
            verdict = judge(walks)
        if verdict == "unproven":
            raise UnprovenEndError(
                f"{stream.name}: after {len(walks)} walks new records still came, because the list moves under its numbered pages. "
                f"Run again at a quieter time, or give the contract a cursor or a smaller window (abilities.filters)."
            )
        evidence.append((walks, verdict))
    if began_at is None:
        raise BrokenAnswerError(f"{stream.name}: the walk ended without a page.")
    last = _part(piece, draft, began_at, stream, client, zones, default_account)
    last.is_last = True
    last.reconciliations = _evidence(evidence)
    yield last


class _Counted:
    """What `completeness` needs to know of one walk; keys as hashes, since only their number counts."""

    def __init__(self) -> None:
        self.keys: set[int] = set()
        self.pages: int = 0
        self.is_shifting = False
        self.first_total: int | None = None
        self.last_total: int | None = None

    def add(self, page: Page) -> None:
        if self.pages == 0:
            self.first_total = page.total
        self.pages += 1
        self.last_total = page.total
        self.is_shifting |= page.is_shifting
        self.keys.update(
            hash(r["id"]) if isinstance(r, dict) and isinstance(r.get("id"), str | int) else hash(str(r))
            for r in page.records
        )

    def walk(self, known: set[int]) -> Walk:
        return Walk(
            pages_count=self.pages,
            is_shifting=self.is_shifting,
            first_total=self.first_total,
            last_total=self.last_total,
            distinct_count=len(self.keys),
            new_count=len(self.keys - known),
        )


def _settle(
    draft: _Draft,
    stream: Stream,
    client: ApiClient,
    zones: Mapping[str, str],
    default_account: str | None,
    keeps: frozenset[str] | None,
) -> None:
    """Turn the pages held so far into a batch, and let go of them."""
    fetched = []
    for page in draft.pages:
        included = index(page.included)
        fetched += [Fetched(record, included, page.fetched_at) for record in page.records]
    draft.pages.clear()
    try:
        draft.batches.append(normalise(stream, client.contract, fetched, zones, default_account, keeps))
    except NoAccountError:
        raise AccountsUnnamedError from None


def _part(
    piece: Slice,
    draft: _Draft,
    began_at: datetime,
    stream: Stream,
    client: ApiClient,
    zones: Mapping[str, str],
    default_account: str | None,
) -> ReadPart:
    _settle(draft, stream, client, zones, default_account, piece.keeps)
    batch, asked = combine(draft.batches), client.contract.http.media_type
    for media_type, count in draft.media_types.items():
        if media_type != asked:
            batch.drift[
                DriftKey("media_type", "Content-Type", f"{media_type or 'none'} where {asked} was asked for")
            ] += count
    return ReadPart(
        slice=piece,
        batch=batch,
        pages_count=draft.pages_count,
        began_at=began_at,
        fetched_at=draft.fetched_at or began_at,
    )


def _evidence(evidence: list[tuple[list[Walk], Verdict]]) -> tuple[Reconciliation, ...]:
    """One row of evidence for a slice: where a total came, or where one walk was not enough."""
    lasts = [walks[-1] for walks, _ in evidence]
    walks_count = max(len(walks) for walks, _ in evidence)
    totals = [w.last_total for w in lasts]
    if walks_count == 1 and all(t is None for t in totals):
        return ()
    verdicts = [verdict for _, verdict in evidence]
    whole = Reconciliation(
        first_total=None if None in totals else sum(w.first_total or 0 for w in lasts),
        last_total=None if None in totals else sum(t or 0 for t in totals),
        distinct_count=sum(w.distinct_count for w in lasts),
        walks_count=walks_count,
        verdict=next((v for v in ("different", "unsettled") if v in verdicts), "settled"),
    )
    return (whole,)
