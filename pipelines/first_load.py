"""Whether a first load that was read in pieces is whole: what the API counts, held against what is stored.

What lives here: the question and its evidence. What does not: reading the pieces (`walker`), what happens where it is not whole (`sync`).
Pieces are asked for by change time, and rows that no such filter shows (those without one, such as old imports) would stay unseen for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.normalise import empty
from pipelines.plan import BEGINNING, WIDER, Slice, Window
from pipelines.proof import Listings
from pipelines.reading import ReadPart, filters_of
from pipelines.run import Ready, Run, StreamReport, commit_parts, counted
from pipelines.streams import Stream
from resources.appointedd import ApiClient, Page
from resources.errors import AbilityRefusedError, ApiError, told
from resources.part import Reconciliation
from resources.warehouse import Writer


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

    Two requests for each query of the contract and one for the account list: an account that has left it may hide what it holds from list and total.
    """
    listings, proved = Listings(run), []
    for load in loads:
        with counted(load.report, run.clients.values()):
            try:
                part = _evidence(run, load, writer)
            except AbilityRefusedError as refusal:
                # Nothing was proved, and the walk that follows does without it.
                run.clients[load.api_client].without.add((refusal.stream, refusal.ability))
                load.report.warnings.append(str(refusal))
                continue
            except ApiError as error:
                load.report.problems.append(told(load.api_client, error))
                continue
        if part is not None:
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


def _evidence(run: Run, load: Load, writer: Writer) -> ReadPart | None:
    """The end of a sweep that has nothing but its count; None where the API counts otherwise than what was met, or not at all."""
    stream, api_client = load.stream, load.api_client
    client = run.clients[api_client]
    if run.leaves_out(api_client) or (api_client, stream.name) in run.needs_account:
        return None
    own = Slice(
        stream.name, api_client, "sweep", load.accounts, Window(BEGINNING, run.end), only_account=load.only_account
    )
    accounts = load.accounts if load.only_account else run.listed[api_client]
    stored = sum(writer.live_counts(stream.name, accounts).values())
    firsts = _firsts(client, own)
    met = _total(firsts)
    if met is None or met not in (stored, stored + writer.quarantined(stream.name, api_client)):
        return None
    if met:
        earliest = writer.earliest_change(stream.name, accounts)
        if earliest is None or _total(_firsts(client, replace(own, filter_since=earliest - WIDER))) != met:
            return None
    return ReadPart(
        slice=own,
        batch=empty(stream, run.contract),
        pages_count=len(firsts),
        began_at=firsts[0].fetched_at,
        fetched_at=firsts[-1].fetched_at,
        is_last=True,
        reconciliations=(Reconciliation(met, met, met, 1, "settled"),),
    )


def _firsts(client: ApiClient, piece: Slice) -> list[Page]:
    """The first page of each list of a slice."""
    queries = client.contract.streams[piece.stream].queries
    return [next(client.pages(piece.stream, filters_of(piece, client), query)) for query in queries]


def _total(firsts: Sequence[Page]) -> int | None:
    """What the API counts in all of them; None where it does not."""
    totals = [page.total for page in firsts if page.total is not None]
    return sum(totals) if len(totals) == len(firsts) else None
