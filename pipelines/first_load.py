"""Whether a first load that was read in pieces is whole: what the API counts, held against what is stored.

What lives here: which first loads there are, the question and its evidence. What does not: reading the pieces (`walker`), what happens where one is not
whole (`sync`).
Pieces are asked for by change time, and rows that no such filter shows (those without one, such as old imports) would stay unseen for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.accounts import Listings
from pipelines.lanes import Asked
from pipelines.normalise import empty
from pipelines.parts import ReadPart
from pipelines.plan import BEGINNING, WIDER, Slice, Window
from pipelines.reading import first_pages, total_of
from pipelines.run import Ready, Run, StreamReport, commit_parts, counted
from pipelines.splitting import EARLIEST
from pipelines.streams import Stream
from resources.appointedd import ApiClient
from resources.errors import AbilityRefusedError, ApiError, told
from resources.part import Reconciliation
from resources.warehouse import Writer


@dataclass(frozen=True)
class FirstLoad:
    """What of one stream was loaded for the first time and is not known to be whole. `accounts`: API client → those of its accounts that this is.

    `alone`: API clients for which it is a few accounts, which they came to see after others, and which can be asked for each by itself.
    """

    asked: Asked
    accounts: Mapping[str, tuple[str, ...]]
    alone: Collection[str]

    def of_its_clients(self, slices: Sequence[Slice]) -> list[Slice]:
        """Those slices of a plan that its API clients are asked for."""
        return [piece for piece in slices if piece.api_client in self.accounts]

    def of_its_accounts(self, slices: Sequence[Slice]) -> list[Slice]:
        """Those slices of a sweep that its accounts are in; where these can be asked for alone, one for each instead of one for all."""
        found = []
        for piece in self.of_its_clients(slices):
            own = self.accounts[piece.api_client]
            if piece.only_account is not None:
                found += [piece] if piece.only_account in own else []
            elif piece.api_client in self.alone:
                found += [replace(piece, accounts=(account,), only_account=account) for account in own]
            else:
                found.append(piece)
        return found


class FirstLoads:
    """The first loads of some streams that were just read, until each is known to be whole."""

    def __init__(self, run: Run, asked: Sequence[Asked], writer: Writer) -> None:
        self.run = run
        self.asked = asked
        self.writer = writer
        # How many problems each stream had before: what goes wrong from here on is not asked for again in this run.
        self.before = {one.stream.name: len(one.report.problems) for one in asked}

    def unsure(self) -> list[FirstLoad]:
        """Those that are not known to be whole."""
        found = []
        for one in self.asked:
            if len(one.report.problems) > self.before[one.stream.name]:
                continue
            stream = one.stream.name
            new = self._read_to_the_end(one, never_swept(self.run, one.stream, self.writer.swept(stream)))
            late = [name for name, own in new.items() if own != self.run.accounts[name]]
            alone = [name for name in late if self.run.clients[name].has(stream, "account_filter")]
            if new:
                found.append(FirstLoad(one, new, alone))
        return found

    def _read_to_the_end(self, one: Asked, new: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Where a stream has a problem, it may be one API client's: the others, whose windows reach the end of the run."""
        if not one.report.problems:
            return new
        marks = self.writer.watermarks(one.stream.name)
        return {n: own for n, own in new.items() if all(marks.get(a) == self.run.end for a in self.run.accounts[n])}

    def prove(self) -> None:
        """Commit the evidence of a sweep where a list counts as many records as were met, and as many as its filter shows; nothing where it does not.

        Met is what is stored, and what could not become a row and was put aside: one such record would have the list walked as a whole every night.
        That alone could agree by accident (a record that no filter shows, and one that was deleted after it was read), so both counts are asked for.
        What changed without moving its change time since it was read, the next sweep reads.

        Two requests for each query of the contract, all side by side, and then one for the account list: an account that has left it may hide what it holds
        from list and total.
        """
        run, proved = self.run, []
        questions = [question for load in self.unsure() for question in self._questions(load)]
        counts, refused = _ask(run, {piece: one.asked.report for one in questions for piece in one.slices})
        for question in questions:
            name, report = question.slices[0].api_client, question.asked.report
            error = next((refused[piece] for piece in question.slices if piece in refused), None)
            if isinstance(error, AbilityRefusedError):
                # Nothing was proved, and the walk that follows does without it.
                run.clients[name].do_without(error)
                if str(error) not in report.warnings:
                    report.warnings.append(str(error))
            elif error is not None:
                report.problems.append(told(name, error))
            elif (part := _evidence(run, question, [counts[piece] for piece in question.slices])) is not None:
                proved.append((question.asked, part))
        # Listed after all were counted, once for all of them.
        listings = Listings(run.clients, run.request)
        for one, part in proved:
            name = part.slice.api_client
            with counted(one.report, run.clients.values()):
                try:
                    is_listed = listings.of(name).issuperset(part.slice.accounts)
                except ApiError as error:
                    one.report.problems.append(told(name, error))
                    continue
            if is_listed:
                commit_parts(self.writer, run.run_id, one.stream.target, [Ready(part)], one.report)

    def _questions(self, load: FirstLoad) -> Iterator[_Question]:
        """What is counted for a first load: of each API client all accounts together, or each that can be asked for alone."""
        stream, run, known = load.asked.stream.name, self.run, self.writer
        for name in load.accounts:
            if run.leaves_out(name) or (name, stream) in run.needs_account:
                continue  # no count of the API could say anything about it
            together = Slice(stream, name, "sweep", run.accounts[name], Window(BEGINNING, run.end))
            for whole in load.of_its_accounts([together]):
                accounts = whole.accounts if whole.only_account else run.listed[name]
                stored = sum(known.live_counts(stream, accounts).values())
                earliest = known.earliest_change(stream, accounts)
                # Of rows from before any real date a filter need not know anything; where there are some, the list is walked.
                filtered = () if earliest is None else (replace(whole, filter_since=max(earliest, EARLIEST) - WIDER),)
                yield _Question(load.asked, (stored, stored + known.quarantined(stream, name)), (whole, *filtered))


def never_swept(run: Run, stream: Stream, swept: set[str]) -> dict[str, tuple[str, ...]]:
    """API client → its accounts that were never swept: their first load ends with a sweep, now or after the run that completes it.

    Rows that no window of change time shows, such as those without one, come with it; of an account that an API client came to see later,
    too. Without filters every walk is whole anyway.
    """
    new = {
        name: tuple(account for account in run.accounts[name] if account not in swept)
        for name, client in run.clients.items()
        if client.has(stream.name, "filters")
    }
    return {name: accounts for name, accounts in new.items() if accounts}


@dataclass(frozen=True)
class _Count:
    """What the lists of a slice count together (None: nothing is told), in so many first pages, the first and the last of which came then."""

    total: int | None
    pages_count: int
    began_at: datetime
    fetched_at: datetime


@dataclass(frozen=True)
class _Question:
    """What is counted for a first load: the list as a whole, and through its filter where any stored row has a change time.

    `met`: rows that are stored, and these with the records that were put aside.
    """

    asked: Asked
    met: tuple[int, int]
    slices: tuple[Slice, ...]


def _ask(run: Run, pieces: Mapping[Slice, StreamReport]) -> tuple[dict[Slice, _Count], dict[Slice, ApiError]]:
    """What each slice counts, asked for side by side, and why others do not tell. The reports have the requests counted into them."""
    counts, refused = dict[Slice, _Count](), dict[Slice, ApiError]()
    todo, odd, over = deque(pieces.items()), list[BaseException](), threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                piece, report = todo.popleft()
            except IndexError:
                return
            client = run.clients[piece.api_client]
            try:
                with client.exchange.until(over), client.exchange.counting(report.traffic):
                    counts[piece] = _count(client, piece)
            except ApiError as error:
                refused[piece] = error
            except BaseException as error:  # noqa: BLE001  raised below, in the thread that asked
                odd.append(error)
                over.set()

    # Daemons, as in `walker`: a process that is told to end does not wait for a silent socket.
    threads = [
        threading.Thread(target=work, name=f"count_{n}", daemon=True)
        for n in range(min(run.settings.sync_concurrency, len(pieces)))
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)  # a wait without an end is deaf to Ctrl-C once polars is imported
    finally:
        over.set()  # nobody asks on for a run that was told to end
    if odd:
        raise odd[0]
    return counts, refused


def _count(client: ApiClient, piece: Slice) -> _Count:
    """The first page of each list of a slice, for what it counts."""
    firsts = list(first_pages(piece, client))
    return _Count(total_of(firsts), len(firsts), firsts[0].fetched_at, firsts[-1].fetched_at)


def _evidence(run: Run, question: _Question, counts: Sequence[_Count]) -> ReadPart | None:
    """The end of a sweep that has nothing but its count; None where the API counts otherwise than what was met, or not at all."""
    whole, *filtered = counts
    met = whole.total
    if met is None or met not in question.met or (met and [count.total for count in filtered] != [met]):
        return None
    return ReadPart(
        slice=question.slices[0],
        batch=empty(question.asked.stream, run.contract),
        pages_count=whole.pages_count,
        began_at=whole.began_at,
        fetched_at=whole.fetched_at,
        is_last=True,
        reconciliations=(Reconciliation(met, met, met, 1, "settled"),),
    )
