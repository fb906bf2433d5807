"""Rows shaped again from the documents that the warehouse keeps, without calling the API: how a wrong alias is mended, and a secret learned late.

What lives here: the loop. What does not: shaping (`normalise`), writing (`resources.warehouse`). Bookkeeping (fetched_at, slice) stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import groupby
from operator import itemgetter

from pipelines.documents import cleaned, is_redacted, redacted_word
from pipelines.normalise import combine, normalise
from pipelines.records import read_document
from pipelines.streams import Stream
from resources.contract import Contract
from resources.errors import ContractError
from resources.warehouse import Writer

ROWS_AT_A_TIME = 5_000


def renormalise_stream(
    writer: Writer,
    stream: Stream,
    contract: Contract,
    zones: Mapping[str, str],
    accounts: Collection[str] | None = None,
) -> tuple[int, int]:
    """Shape all rows of a stream again (or those of some accounts); gives how many were read and how many changed.

    Raises `ContractError` where the contract no longer takes records that it once took, before anything of that batch is written.
    """
    read = changed = 0
    after: tuple[str, ...] | None = None
    while True:
        documents, after = writer.documents(stream.target, ROWS_AT_A_TIME, after)
        if not documents:
            return read, changed
        wanted = [d for d in documents if accounts is None or d[0] in accounts]
        batches = []
        for account_id, own in groupby(sorted(wanted), key=itemgetter(0)):
            fetched = [read_document(text, fetched_at) for _, text, fetched_at in own]
            batches.append(normalise(stream, contract, fetched, zones, account_id))
        if not batches:
            continue
        batch = combine(batches)
        if batch.quarantine:
            raise ContractError(
                f"{stream.name}: {len(batch.quarantine)} stored records no longer fit: {batch.quarantine[0][0]}."
            )
        read += batch.rows.height
        changed += writer.renormalise(stream.target, batch.rows, batch.children)


def erase_redacted(writer: Writer, stream: Stream, contract: Contract) -> int:
    """Take the members in `redact.members` out of all that was stored of a stream before they were named there; gives how many texts held one."""
    names = contract.redact.members
    if not names:
        return 0
    return writer.erase(
        stream.target,
        redacted_word(names),
        lambda texts: cleaned(texts, names),
        lambda name: is_redacted(name, names),
    )
