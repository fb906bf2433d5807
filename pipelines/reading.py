"""One slice, read: its lists walked to a proven end, the pages turned into batches that are small enough to hold.

What lives here: the order of walking, restarting and judging one slice; it runs in a thread of its own and touches no warehouse. What does not: planning,
committing, where and when a batch is shaped (`shaping`). Memory is bounded by the length of a part and by what may wait (`walker`), whatever the length
of the walk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.beside import Question, ShapingProcesses
from pipelines.completeness import Verdict, Walk, judge
from pipelines.extract import DriftKey, NoAccountError
from pipelines.normalise import Batch, combine, normalise, normalise_pages
from pipelines.plan import Slice
from pipelines.records import Fetched, first, identifier_id, index
from pipelines.shaping import AtOnce, Shaper
from pipelines.slots import Body, NotPlainError
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.contract import AccountReference, Contract
from resources.errors import BrokenAnswerError, DeadCursorError, UnprovenEndError
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
RESTARTS = 3


class AccountsUnnamedError(Exception):
    """Rows do not name their account and the API client sees several (evidence G19)."""


@dataclass
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


def filters_of(piece: Slice, client: ApiClient) -> dict[str, str]:
    """The query parameters that a slice's window and account ask for, in the contract's names.

    Bounds are whole seconds, the wider ones: filters are tried with such (`connect`), and a server may refuse others.
    """
    names = client.contract.parameters
    query = {}
    if piece.filter_since is not None and client.has(piece.stream, "filters"):
        query[names.updated_since] = _instant(piece.filter_since)
    if piece.filter_until is not None and client.has(piece.stream, "upper_bound"):
        query[names.updated_until] = _instant(piece.filter_until + timedelta(microseconds=999_999))
    if piece.only_account is not None:
        query[names.account] = piece.only_account
    return query


def first_pages(piece: Slice, client: ApiClient) -> Iterator[Page]:
    """The first page of each list of a slice, each asked for when it is taken. Raises the errors of `ApiClient.pages`."""
    for own in client.contract.streams[piece.stream].queries:
        yield next(client.pages(piece.stream, filters_of(piece, client), own))


def total_of(pages: Iterable[Page]) -> int | None:
    """What the API counts in some lists together, by a page of each; None where one of them does not tell."""
    total = 0
    for page in pages:
        if page.total is None:
            return None
        total += page.total
    return total


def _instant(instant: datetime) -> str:
    """Its whole second as ISO 8601 with Z: a `+` in a query string means a space (evidence 5.7)."""
    return instant.replace(microsecond=0).isoformat().removesuffix("+00:00") + "Z"


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
        """The part that was shaped; raises what shaping raised: `AccountsUnnamedError`."""
        return self.shaped.result()


def read_slice(
    piece: Slice,
    stream: Stream,
    client: ApiClient,
    zones: Mapping[str, str],
    default_account: str | None,
    is_stopped: Callable[[], bool],
) -> Iterator[ReadPart]:
    """As `parts_of`, where the thread that walks is the one that needs the parts: it shapes them itself. Of its pages nobody is told."""
    for part in parts_of(piece, stream, client, zones, default_account, is_stopped, lambda _: None, AtOnce()):
        yield part.result()


def parts_of(
    piece: Slice,
    stream: Stream,
    client: ApiClient,
    zones: Mapping[str, str],
    default_account: str | None,
    is_stopped: Callable[[], bool],
    note_page: Callable[[Page], None],
    shaper: AtOnce | Shaper,
) -> Iterator[ComingPart]:
    """Walk a slice; yields its parts, the last one with `is_last` and the evidence that it is complete. `shaper` does what is done with pages.

    Raises the errors of `ApiClient.pages`, and `AccountsUnnamedError`. Ends early, without a last part, when `is_stopped` says so.
    """
    drafts = _Drafts(piece, stream, client.contract, zones, default_account, shaper)
    try:
        evidence = yield from _walks(piece, stream, client, drafts, is_stopped, note_page)
    except Exception:
        if not is_stopped():
            drafts.settled()  # what is wrong with rows that came before it is told first
        raise
    if evidence is not None:
        yield drafts.part(is_last=True, reconciliations=_evidence(evidence))


def _walks(
    piece: Slice,
    stream: Stream,
    client: ApiClient,
    drafts: _Drafts,
    is_stopped: Callable[[], bool],
    note_page: Callable[[Page], None],
) -> Generator[ComingPart, None, list[tuple[list[Walk], Verdict]] | None]:
    """Walk the lists of a slice; yields the parts that are full on the way, and gives the walks of each list with its verdict; None when stopped."""
    evidence: list[tuple[list[Walk], Verdict]] = []
    for own in client.contract.streams[stream.name].queries:
        walks: list[Walk] = []
        known: set[int] = set()
        restarts = 0
        verdict: Verdict = "again"
        while verdict == "again":
            # Which account a record is of costs decoding it, so that is asked only where a walk came short, or where ids were seen to begin anew in each.
            is_exact = bool(walks) or stream.name in client.ids_repeat
            counted = _Counted(client.contract.account_reference if is_exact else None)
            try:
                for page in client.pages(stream.name, filters_of(piece, client), own):
                    if is_stopped():
                        return None
                    note_page(page)
                    counted.add(page)
                    drafts.add(page)
                    if drafts.weight >= PAGES_PER_PART and page.next_url is not None:
                        yield drafts.part()
            except DeadCursorError:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                continue  # what was read is merged all the same; the walk starts again
            walks.append(counted.walk(known))
            known |= counted.keys
            if counted.distinct_count > len(counted.keys):
                client.ids_repeat.add(stream.name)
            verdict = judge(walks)
        if verdict == "unproven":
            raise UnprovenEndError(
                f"{stream.name}: after {len(walks)} walks new records still came, because the list moves under its numbered pages. "
                f"Run again at a quieter time, or give the contract a cursor or a smaller window (abilities.filters)."
            )
        evidence.append((walks, verdict))
    if drafts.began_at is None:
        raise BrokenAnswerError(f"{stream.name}: the walk ended without a page.")
    return evidence


class _Drafts:
    """The pages of a slice on their way to parts: those in hand, and the batches of the part that is being filled."""

    def __init__(
        self,
        piece: Slice,
        stream: Stream,
        contract: Contract,
        zones: Mapping[str, str],
        default_account: str | None,
        shaper: AtOnce | Shaper,
    ) -> None:
        self.piece = piece
        self.stream = stream
        self.contract = contract
        self.zones = zones
        self.default_account = default_account
        self.shaper = shaper
        self.began_at: datetime | None = None
        self.fetched_at: datetime | None = None
        self.pages: list[Page] = []
        self.pages_count = self.bytes_count = 0
        self.batches: list[Future[Batch]] = []
        self.media_types: Counter[str] = Counter()

    @property
    def weight(self) -> int:
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
            self._settle()
        for batch in self.batches:
            if not batch.done():
                break
            batch.result()

    def settled(self) -> None:
        """Wait for the batches of the part that is being filled. Raises what shaping raised."""
        for batch in self.batches:
            batch.result()

    def _settle(self) -> None:
        """Have the pages in hand turned into a batch, and let go of them."""
        pages, self.pages = self.pages, []
        if not pages and self.batches:
            return

        def shape() -> Batch:
            try:
                return batch_of(
                    self.stream,
                    self.contract,
                    pages,
                    self.zones,
                    self.default_account,
                    self.piece.keeps,
                    self.shaper.beside,
                )
            finally:
                pages.clear()

        self.batches.append(self.shaper.submit(shape, sum(page.size for page in pages)))

    def part(self, *, is_last: bool = False, reconciliations: tuple[Reconciliation, ...] = ()) -> ComingPart:
        """Have what came since the last part combined to one."""
        self._settle()
        batches, media_types = self.batches, self.media_types
        began_at, fetched_at, pages_count, weight = self.began_at, self.fetched_at, self.pages_count, self.weight
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


def batch_of(
    stream: Stream,
    contract: Contract,
    pages: Sequence[Page],
    zones: Mapping[str, str],
    default_account: str | None,
    keeps: frozenset[str] | None,
    beside: ShapingProcesses | None = None,
) -> Batch:
    """Pages of one slice as one batch. The only step that looks into their records. `beside`: processes that are asked first."""
    bodies = [Body(page.body, page.fetched_at) for page in pages if page.body is not None]
    try:
        if len(bodies) == len(pages):
            question = Question(stream, contract, bodies, zones, default_account, keeps)
            answer = None if beside is None else beside.batch_of(question)
            if answer is not None:
                return answer
            with suppress(NotPlainError):
                return normalise_pages(stream, contract, bodies, zones, default_account, keeps)
        fetched = []
        for page in pages:
            included = index(page.included)
            fetched += [Fetched(record, included, page.fetched_at) for record in page.records]
        return normalise(stream, contract, fetched, zones, default_account, keeps)
    except NoAccountError:
        raise AccountsUnnamedError from None


class _Counted:
    """What `completeness` needs to know of one walk; keys as hashes, since only their number counts.

    Records are told apart by their ids; with `reference`, by their accounts too, as in the tables: ids may begin anew in each account.
    """

    def __init__(self, reference: AccountReference | None = None) -> None:
        self.keys: set[int] = set()
        self.keys_by_account: set[int] = set()
        self.named = None if reference is None else (*reference.relationships, *reference.attributes)
        self.pages: int = 0
        self.is_shifting = False
        self.first_total: int | None = None
        self.last_total: int | None = None
        self.is_moving = False
        self.told_count = 0

    def add(self, page: Page) -> None:
        self.pages += 1
        if page.total is not None:  # some say it on the first page alone
            self.told_count += 1
            if self.first_total is None:
                self.first_total = page.total
            # A row that left the list and one that came make the total what it was, and one between them may have slipped.
            self.is_moving |= page.total != self.first_total
            self.last_total = page.total
        self.is_shifting |= page.is_shifting
        self.keys.update(page.keys)
        if self.named is not None:
            accounts = [first(r, self.named, {}) if isinstance(r, dict) else None for r in page.records]
            self.keys_by_account.update(
                hash((key, identifier_id(account))) for key, account in zip(page.keys, accounts, strict=True)
            )

    @property
    def distinct_count(self) -> int:
        """How many records it met."""
        return len(self.keys) if self.named is None else len(self.keys_by_account)

    def walk(self, known: set[int]) -> Walk:
        return Walk(
            pages_count=self.pages,
            is_shifting=self.is_shifting,
            first_total=self.first_total,
            last_total=self.last_total,
            distinct_count=self.distinct_count,
            new_count=len(self.keys - known),
            is_moving=self.is_moving,
            is_partly_told=0 < self.told_count < self.pages,
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
