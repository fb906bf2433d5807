"""Whether a first load that was read in pieces is whole: what the API counts, held against what is stored.

What lives here: which first loads there are, the question and its evidence. What does not: reading the pieces (`walker`), what happens where one is not
whole (`sync`).
Pieces are asked for by change time, and rows that no such filter shows (those without one, such as old imports) would stay unseen for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
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
from resources.state import State
from resources.warehouse import Writer


class FirstLoads:
    """The first loads of some streams that were just read, until each is known to be whole."""

    def __init__(self, run: Run, asked: Sequence[Asked], writer: Writer) -> None:
        self.run = run
        self.asked = asked
        self.writer = writer
        # How many problems each stream had before: what goes wrong from here on is not asked for again in this run.
        self.before = {one.stream.name: len(one.report.problems) for one in asked}

    def prove(self) -> None:
        """Ask the API for its counts, of all that are not known to be whole, and commit what they prove."""
        loads = []
        for one, new in self.unsure():
            alone = self.newcomers(one.stream, new)
            for name in new:
                scopes = [((a,), a) for a in alone[name]] if name in alone else [(self.run.accounts[name], None)]
                loads += [Load(one.stream, name, own, only, one.report) for own, only in scopes]
        prove_by_count(self.run, loads, self.writer)

    def unsure(self) -> list[tuple[Asked, dict[str, tuple[str, ...]]]]:
        """Streams with first loads that are not known to be whole; API client → the accounts whose first load it is."""
        calm = [one for one in self.asked if len(one.report.problems) == self.before[one.stream.name]]
        found = [(one, never_swept(self.run, one.stream, self.writer.swept(one.stream.name))) for one in calm]
        return [(one, read) for one, new in found if (read := self._read_to_the_end(one, new))]

    def newcomers(self, stream: Stream, new: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """API client → accounts that it came to see after others, where each can be asked for alone."""
        can_filter = {name for name in new if self.run.clients[name].has(stream.name, "account_filter")}
        return {name: own for name, own in new.items() if own != self.run.accounts[name] and name in can_filter}

    def _read_to_the_end(self, one: Asked, new: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Where a stream has a problem, it may be one API client's: the others, whose windows reach the end of the run."""
        if not one.report.problems:
            return new
        marks = self.writer.watermarks(one.stream.name)
        return {n: own for n, own in new.items() if all(marks.get(a) == self.run.end for a in self.run.accounts[n])}


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
class Load:
    """A first load to be proved: of all accounts of an API client, or of `only_account`, which it came to see later."""

    stream: Stream
    api_client: str
    accounts: tuple[str, ...]
    only_account: str | None
    report: StreamReport


def prove_by_count(run: Run, loads: Sequence[Load], writer: Writer) -> None:
    """Commit the evidence of a sweep where a list counts as many records as were met, and as many as its filter shows; nothing where it does not.

    Met is what is stored, and what could not become a row and was put aside: one such record would have the list walked as a whole every night.
    That alone could agree by accident (a record that no filter shows, and one that was deleted after it was read), so both counts are asked for.
    What changed without moving its change time since it was read, the next sweep reads.

    Two requests for each query of the contract, all side by side, and then one for the account list: an account that has left it may hide what it holds
    from list and total.
    """
    questions = [question for load in loads if (question := _question(run, load, writer)) is not None]
    listings, proved = Listings(run.clients, run.request), []
    for question, counts in zip(questions, _asked(run, questions), strict=True):
        load = question.load
        refused = next((count for count in counts if isinstance(count, ApiError)), None)
        if isinstance(refused, AbilityRefusedError):
            # Nothing was proved, and the walk that follows does without it.
            run.clients[load.api_client].do_without(refused)
            if str(refused) not in load.report.warnings:
                load.report.warnings.append(str(refused))
        elif refused is not None:
            load.report.problems.append(told(load.api_client, refused))
        elif (part := _evidence(run, question, [count for count in counts if isinstance(count, _Count)])) is not None:
            proved.append((load, part))
    # Listed after all were counted, once for all of them.
    for load, part in proved:
        with counted(load.report, run.clients.values()):
            try:
                is_listed = listings.of(load.api_client).issuperset(load.accounts)
            except ApiError as error:
                load.report.problems.append(told(load.api_client, error))
                continue
        if is_listed:
            commit_parts(writer, run.run_id, load.stream.target, [Ready(part)], load.report)


@dataclass(frozen=True)
class _Count:
    """What the lists of a slice count together (None: nothing is told), in so many first pages, the first and the last of which came then."""

    total: int | None
    pages_count: int
    began_at: datetime
    fetched_at: datetime


@dataclass(frozen=True)
class _Question:
    """What is counted for a first load: the list as a whole, and through its filter where any stored row has a change time. `met`: rows, see above."""

    load: Load
    met: tuple[int, int]
    slices: tuple[Slice, ...]


def _question(run: Run, load: Load, known: State) -> _Question | None:
    """None where no count of the API could say anything about it."""
    stream, api_client = load.stream, load.api_client
    if run.leaves_out(api_client) or (api_client, stream.name) in run.needs_account:
        return None
    whole = Slice(
        stream.name, api_client, "sweep", load.accounts, Window(BEGINNING, run.end), only_account=load.only_account
    )
    accounts = load.accounts if load.only_account else run.listed[api_client]
    stored = sum(known.live_counts(stream.name, accounts).values())
    earliest = known.earliest_change(stream.name, accounts)
    # Of rows from before any real date a filter need not know anything; where there are some, the list is walked.
    filtered = () if earliest is None else (replace(whole, filter_since=max(earliest, EARLIEST) - WIDER),)
    return _Question(load, (stored, stored + known.quarantined(stream.name, api_client)), (whole, *filtered))


def _asked(run: Run, questions: Sequence[_Question]) -> list[list[_Count | ApiError]]:
    """What each slice counts, asked for side by side; or why that cannot be told."""
    places = [(n, place) for n, question in enumerate(questions) for place in range(len(question.slices))]
    found: dict[tuple[int, int], _Count | ApiError] = {}
    todo, odd, over = deque(places), list[BaseException](), threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                n, place = todo.popleft()
            except IndexError:
                return
            load, piece = questions[n].load, questions[n].slices[place]
            client = run.clients[load.api_client]
            try:
                with client.exchange.until(over), client.exchange.counting(load.report.traffic):
                    found[n, place] = _count(client, piece)
            except ApiError as error:
                found[n, place] = error
            except BaseException as error:  # noqa: BLE001  raised below, in the thread that asked
                odd.append(error)
                over.set()

    # Daemons, as in `walker`: a process that is told to end does not wait for a silent socket.
    threads = [
        threading.Thread(target=work, name=f"count_{n}", daemon=True)
        for n in range(min(run.settings.sync_concurrency, len(places)))
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
    return [[found[n, place] for place in range(len(question.slices))] for n, question in enumerate(questions)]


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
        batch=empty(question.load.stream, run.contract),
        pages_count=whole.pages_count,
        began_at=whole.began_at,
        fetched_at=whole.fetched_at,
        is_last=True,
        reconciliations=(Reconciliation(met, met, met, 1, "settled"),),
    )
