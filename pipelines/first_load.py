"""Whether a first load that was read in pieces is whole: what the API counts, held against what is stored.

What lives here: the question and its evidence. What does not: reading the pieces (`walker`), what happens where it is not whole (`sync`).
Pieces are asked for by change time, and rows that no such filter shows (those without one, such as old imports) would stay unseen for ever.
"""

from __future__ import annotations

from pipelines.accounts import read_accounts
from pipelines.normalise import combine, normalise
from pipelines.plan import BEGINNING, Request, Slice, Window
from pipelines.reading import ReadPart
from pipelines.run import Ready, Run, StreamReport, commit_parts
from pipelines.streams import Stream
from resources.part import Reconciliation
from resources.warehouse import Writer


def prove_by_count(run: Run, stream: Stream, api_client: str, writer: Writer, report: StreamReport) -> None:
    """Commit the evidence of a sweep where the whole list counts as many records as were met; nothing where it does not, or does not count.

    Met is what is stored, and what could not become a row and was put aside: one such record would have the list walked as a whole every night.

    A count proves which records there are, and so which are gone; what changed without moving its change time since it was read, the next sweep reads.

    One request for each query of the contract and one for the account list: an account that has left it may hide what it holds from list and total.
    """
    client = run.clients[api_client]
    if run.leaves_out(api_client) or (api_client, stream.name) in run.needs_account:
        return
    firsts = [next(client.pages(stream.name, {}, own)) for own in client.contract.streams[stream.name].queries]
    totals = [page.total for page in firsts if page.total is not None]
    met = sum(writer.live_counts(stream.name, run.listed[api_client]).values()) + writer.quarantined(stream.name)
    if len(totals) < len(firsts) or sum(totals) != met:
        return
    listed = set(read_accounts(client, Request("sweep")).batch.rows.get_column("account_id"))
    if not listed.issuperset(run.accounts[api_client]):
        return
    part = ReadPart(
        slice=Slice(stream.name, api_client, "sweep", run.accounts[api_client], Window(BEGINNING, run.end)),
        batch=combine([normalise(stream, run.contract, [], {})]),
        pages_count=len(firsts),
        began_at=firsts[0].fetched_at,
        fetched_at=firsts[-1].fetched_at,
        is_last=True,
        reconciliations=(Reconciliation(met, met, met, 1, "settled"),),
    )
    commit_parts(writer, run.run_id, stream.target, [Ready(part)], report)
