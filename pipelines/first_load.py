"""Whether a first load that was read in pieces is whole: what the API counts, held against what is stored.

What lives here: the question and its evidence. What does not: reading the pieces (`walker`), what happens where it is not whole (`sync`).
Pieces are asked for by change time, and rows that no such filter shows (those without one, such as old imports) would stay unseen for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.normalise import combine, normalise
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.proof import Listings
from pipelines.reading import ReadPart
from pipelines.run import Ready, Run, StreamReport, commit_parts, counted
from pipelines.streams import Stream
from resources.errors import ApiError, told
from resources.part import Reconciliation
from resources.warehouse import Writer


def prove_by_count(run: Run, loads: Sequence[tuple[Stream, str, StreamReport]], writer: Writer) -> None:
    """Commit the evidence of a sweep where the whole list counts as many records as were met; nothing where it does not, or does not count.

    `loads`: stream, API client, and the report that what is asked and committed goes into.
    Met is what is stored, and what could not become a row and was put aside: one such record would have the list walked as a whole every night.
    A count proves which records there are, and so which are gone; what changed without moving its change time since it was read, the next sweep reads.

    One request for each query of the contract and one for the account list: an account that has left it may hide what it holds from list and total.
    """
    listings, counted_parts = Listings(run), []
    for stream, api_client, report in loads:
        with counted(report, run.clients.values()):
            try:
                part = _evidence(run, stream, api_client, writer)
            except ApiError as error:
                report.problems.append(told(api_client, error))
                continue
        if part is not None:
            counted_parts.append((stream, part, report))
    # Listed after all were counted, once for all of them.
    for stream, part, report in counted_parts:
        with counted(report, run.clients.values()):
            try:
                is_listed = listings.of(part.slice.api_client).issuperset(part.slice.accounts)
            except ApiError as error:
                report.problems.append(told(part.slice.api_client, error))
                continue
        if is_listed:
            commit_parts(writer, run.run_id, stream.target, [Ready(part)], report)


def _evidence(run: Run, stream: Stream, api_client: str, writer: Writer) -> ReadPart | None:
    """The end of a sweep that has nothing but its count; None where the API counts otherwise than what was met, or not at all."""
    client = run.clients[api_client]
    if run.leaves_out(api_client) or (api_client, stream.name) in run.needs_account:
        return None
    firsts = [next(client.pages(stream.name, {}, own)) for own in client.contract.streams[stream.name].queries]
    totals = [page.total for page in firsts if page.total is not None]
    met = sum(writer.live_counts(stream.name, run.listed[api_client]).values()) + writer.quarantined(
        stream.name, api_client
    )
    if len(totals) < len(firsts) or sum(totals) != met:
        return None
    return ReadPart(
        slice=Slice(stream.name, api_client, "sweep", run.accounts[api_client], Window(BEGINNING, run.end)),
        batch=combine([normalise(stream, run.contract, [], {})]),
        pages_count=len(firsts),
        began_at=firsts[0].fetched_at,
        fetched_at=firsts[-1].fetched_at,
        is_last=True,
        reconciliations=(Reconciliation(met, met, met, 1, "settled"),),
    )
