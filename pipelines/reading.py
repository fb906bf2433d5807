"""One slice, read: its lists walked to a proven end.

What lives here: how a slice is asked for, the order of walking, restarting and judging it; it runs in a thread of its own and touches no warehouse. What
does not: planning, committing, what becomes of its pages (`parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.completeness import Verdict, Walk, judge, may_be_limit
from pipelines.parts import ComingPart, Drafts, ReadPart
from pipelines.plan import Slice
from pipelines.records import first, identifier_id
from pipelines.shaping import AtOnce, Shaper
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.contract import AccountReference
from resources.errors import DeadCursorError, UnprovenEndError
from resources.exchange import Query
from resources.pages import Page
from resources.part import Reconciliation

RESTARTS = 3


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
    for query in client.contract.streams[piece.stream].queries:
        yield next(client.pages(piece.stream, filters_of(piece, client), query))


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
class Reader:
    """Reads slices of one stream through one API client.

    `is_stopped` is asked at each page, and reading ends where it says so. `note_page` is told of each page. `shaper` does what is done with pages: by
    default the thread that reads them.
    """

    stream: Stream
    client: ApiClient
    zones: Mapping[str, str]
    is_stopped: Callable[[], bool] = lambda: False
    note_page: Callable[[Page], None] = lambda _: None
    shaper: AtOnce | Shaper = field(default_factory=AtOnce)

    def read(self, piece: Slice, default_account: str | None = None) -> Iterator[ReadPart]:
        """As `parts_of`, for the thread that needs the parts itself: each is waited for."""
        for part in self.parts_of(piece, default_account):
            yield part.result()

    def parts_of(self, piece: Slice, default_account: str | None = None) -> Iterator[ComingPart]:
        """Walk the lists of a slice; yields its parts, the last one with `is_last` and the evidence that it is complete.

        Rows that do not name their account are of `default_account`; without one they raise `NoAccountError`. Raises the errors of `ApiClient.pages`, too.
        Ends early, without a last part, when `is_stopped` says so.
        """
        drafts = Drafts(piece, self.stream, self.client.contract, self.zones, default_account, self.shaper)
        lists: list[list[Walk]] = []
        try:
            for query in self.client.contract.streams[piece.stream].queries:
                walks = yield from self._walks(drafts, query)
                if walks is None:
                    return
                lists.append(walks)
        except Exception:
            if not self.is_stopped():
                drafts.wait()  # what is wrong with rows that came before it is told first
            raise
        yield drafts.part(is_last=True, reconciliations=_evidence(lists))

    def _walks(self, drafts: Drafts, query: Query) -> Generator[ComingPart, None, list[Walk] | None]:
        """Walk one list of a slice, by its query in the contract, as often as it takes to be sure of it.

        Yields the parts that are full on the way, and gives the walks; None when stopped.
        """
        piece, client = drafts.piece, self.client
        walks: list[Walk] = []
        known: set[int] = set()
        restarts = 0
        verdict: Verdict = "again"
        while verdict == "again":
            # To know its account a record must be decoded, so that is done only after a walk that came short, or where ids were seen to begin anew in each.
            is_exact = bool(walks) or piece.stream in client.ids_repeat
            counted = _Counted(client.contract.account_reference if is_exact else None)
            try:
                for page in client.pages(piece.stream, filters_of(piece, client), query):
                    if self.is_stopped():
                        return None
                    self.note_page(page)
                    counted.add(page)
                    drafts.add(page)
                    if drafts.is_full and page.next_url is not None:
                        yield drafts.part()
            except DeadCursorError:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                continue  # what was read is merged all the same; the walk starts again
            walks.append(counted.walk(known))
            known |= counted.keys
            if counted.distinct_count > len(counted.keys):
                client.ids_repeat.add(piece.stream)
            verdict = judge(walks)
        if verdict == "unproven":
            raise UnprovenEndError(
                f"{piece.stream}: after {len(walks)} walks new records still came, or the same ones on several pages, because the list moves under its "
                f"numbered pages, or has no order of its own among records of one change time. Run again at a quieter time, or give the contract a cursor, "
                f"an order without equals (streams.{piece.stream}.sort) or a smaller window (abilities.filters)."
            )
        return walks


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
        self.has_repeats = False
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
        own = set(page.keys)
        if self.named is None:
            self.has_repeats |= not own.isdisjoint(self.keys)
        else:
            accounts = [first(r, self.named, {}) if isinstance(r, dict) else None for r in page.records]
            by_account = {hash((key, identifier_id(account))) for key, account in zip(page.keys, accounts, strict=True)}
            self.has_repeats |= not by_account.isdisjoint(self.keys_by_account)
            self.keys_by_account |= by_account
        self.keys |= own

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
            has_repeats=self.has_repeats,
        )


def _evidence(lists: Sequence[Sequence[Walk]]) -> tuple[Reconciliation, ...]:
    """One row of evidence for a slice, by the walks of its lists: where a total came, one walk was not enough, or a list may have ended at a limit."""
    lasts = [walks[-1] for walks in lists]
    walks_count = max(len(walks) for walks in lists)
    totals = [w.last_total for w in lasts]
    is_round = any(may_be_limit(w.distinct_count) for w in lasts)
    if walks_count == 1 and all(t is None for t in totals) and not is_round:
        return ()
    verdicts = {judge(walks) for walks in lists}
    whole = Reconciliation(
        first_total=None if None in totals else sum(w.first_total or 0 for w in lasts),
        last_total=None if None in totals else sum(t or 0 for t in totals),
        distinct_count=sum(w.distinct_count for w in lasts),
        walks_count=walks_count,
        verdict=next((v for v in ("different", "unsettled") if v in verdicts), "settled"),
    )
    return (whole,)
