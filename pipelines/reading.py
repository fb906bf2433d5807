"""One slice, read: its lists walked to a proven end.

What lives here: how a slice is asked for, the order of walking, restarting and judging it; it runs in a thread of its own and touches no warehouse. What
does not: planning, committing, what becomes of its pages (`parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from pipelines.completeness import Verdict, Walk, judge, may_be_limit
from pipelines.parts import ComingPart, Drafts, ReadPart
from pipelines.plan import Slice
from pipelines.records import first, identifier_id
from pipelines.shaping import AtOnce, Shaper
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.contract import AccountReference
from resources.errors import BrokenAnswerError, DeadCursorError, UnprovenEndError
from resources.exchange import Query
from resources.pages import Page
from resources.part import Reconciliation

RESTARTS = 3
# The walks of one list, and what they come to.
Walked = tuple[list[Walk], Verdict]


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

    Raises the errors of `ApiClient.pages`, and `NoAccountError`. Ends early, without a last part, when `is_stopped` says so.
    """
    drafts = Drafts(piece, stream, client.contract, zones, default_account, shaper)
    try:
        evidence = yield from _walks(piece, client, drafts, is_stopped, note_page)
    except Exception:
        if not is_stopped():
            drafts.wait()  # what is wrong with rows that came before it is told first
        raise
    if evidence is not None:
        yield drafts.part(is_last=True, reconciliations=_evidence(evidence))


def _walks(
    piece: Slice,
    client: ApiClient,
    drafts: Drafts,
    is_stopped: Callable[[], bool],
    note_page: Callable[[Page], None],
) -> Generator[ComingPart, None, list[Walked] | None]:
    """Walk the lists of a slice; yields the parts that are full on the way, and gives the walks of each list with its verdict; None when stopped."""
    evidence: list[Walked] = []
    for own in client.contract.streams[piece.stream].queries:
        walked = yield from _walk(piece, own, client, drafts, is_stopped, note_page)
        if walked is None:
            return None
        evidence.append(walked)
    if drafts.began_at is None:
        raise BrokenAnswerError(f"{piece.stream}: the walk ended without a page.")
    return evidence


def _walk(
    piece: Slice,
    own: Query,
    client: ApiClient,
    drafts: Drafts,
    is_stopped: Callable[[], bool],
    note_page: Callable[[Page], None],
) -> Generator[ComingPart, None, Walked | None]:
    """Walk one list, `own` being its query in the contract, as often as it takes to be sure of it. Otherwise as `_walks`."""
    walks: list[Walk] = []
    known: set[int] = set()
    restarts = 0
    verdict: Verdict = "again"
    while verdict == "again":
        # Which account a record is of costs decoding it, so that is asked only where a walk came short, or where ids were seen to begin anew in each.
        is_exact = bool(walks) or piece.stream in client.ids_repeat
        counted = _Counted(client.contract.account_reference if is_exact else None)
        try:
            for page in client.pages(piece.stream, filters_of(piece, client), own):
                if is_stopped():
                    return None
                note_page(page)
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
    return walks, verdict


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


def _evidence(evidence: list[Walked]) -> tuple[Reconciliation, ...]:
    """One row of evidence for a slice: where a total came, where one walk was not enough, or where it may have ended at a limit."""
    lasts = [walks[-1] for walks, _ in evidence]
    walks_count = max(len(walks) for walks, _ in evidence)
    totals = [w.last_total for w in lasts]
    is_round = any(may_be_limit(w.distinct_count) for w in lasts)
    if walks_count == 1 and all(t is None for t in totals) and not is_round:
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
