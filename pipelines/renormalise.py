"""Rows shaped again from the documents that the warehouse keeps, without calling the API: how a wrong alias is mended, and a secret learned late.

What lives here: the loop, and which children no document accounts for any more. What does not: shaping (`normalise`), writing (`resources.warehouse`).
Bookkeeping (fetched_at, slice) stays as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter

import polars as pl

from pipelines.documents import cleaned
from pipelines.drift import DriftKey
from pipelines.normalise import Batch, combine, normalise
from pipelines.records import read_document
from pipelines.redaction import is_redacted, redacted_names, redacted_word
from pipelines.streams import Child, Stream, unnamed
from resources.contract import Contract, load_contract
from resources.errors import ContractError
from resources.warehouse import Writer

ROWS_AT_A_TIME = 5_000


@dataclass
class Seen:
    """What in the stored documents is unlike the contract, each kind with a record that shows it; `at`: server time of the newest of them."""

    drift: Counter[DriftKey] = field(default_factory=Counter)
    examples: dict[DriftKey, str] = field(default_factory=dict)
    at: datetime | None = None

    def add(self, batch: Batch) -> None:
        """Count what one batch shows."""
        self.drift += batch.drift
        self.examples = batch.examples | self.examples
        newest = batch.rows.get_column("fetched_at").max()
        if isinstance(newest, datetime) and (self.at is None or newest > self.at):
            self.at = newest


def renormalise_stream(
    writer: Writer,
    stream: Stream,
    contract: Contract,
    zones: Mapping[str, str],
    accounts: Collection[str] | None = None,
    seen: Seen | None = None,
) -> tuple[int, int]:
    """Shape all rows of a stream again (or those of some accounts); gives how many were read and how many changed. `seen` is added to.

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
        for account_id, own in groupby(wanted, key=itemgetter(0)):
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
        if seen is not None:
            seen.add(batch)
        gone = {child.table: _unnamed(writer, stream, child, contract, zones, batch) for child in stream.children}
        changed += writer.renormalise(stream.target, batch.rows, batch.children, gone)


def _unnamed(
    writer: Writer, stream: Stream, child: Child, contract: Contract, zones: Mapping[str, str], batch: Batch
) -> pl.DataFrame:
    """Live children that no stored version of their record lists under this contract, though its newest one says nothing of them: key, `at`.

    They were read under a name that the contract no longer has. Missing linkage is no empty list, so a child that any version lists stays.
    """
    key, is_open = [*stream.key, *child.key], ~pl.col(f"whole_{child.table}")
    if child.list_of:
        is_open |= pl.col(f"except_{child.table}").is_not_null()
    parents = batch.rows.filter(is_open).select(*stream.key, pl.col("fetched_at").alias("at"))
    live = writer.live_children(stream.target, child.table, parents) if parents.height else []
    found = pl.DataFrame(live, schema=dict.fromkeys(key, pl.String()), orient="row")
    found = found.join(batch.children[child.table], on=key, how="anti").join(parents, on=stream.key)
    if found.is_empty():
        return found
    unknown: list[tuple[str, ...]] = []
    for account_id, own in groupby(
        writer.replaced(stream.target, found.select(stream.key).unique()), key=itemgetter(0)
    ):
        versions = [(record_id, text and read_document(text, fetched_at)) for _, record_id, text, fetched_at in own]
        shaped = normalise(stream, contract, [one for _, one in versions if one], zones, account_id)
        found = found.join(shaped.children[child.table], on=key, how="anti")
        # Of a version that is not kept, or that this contract does not take, it is not known what it lists.
        unknown += [(account_id, record_id) for record_id, one in versions if not one or shaped.quarantine]
    kept = pl.DataFrame(unknown, schema=dict.fromkeys(stream.key, pl.String()), orient="row")
    return found.join(kept, on=stream.key, how="anti")


def erase_redacted(writer: Writer, stream: Stream, contract: Contract) -> int:
    """Take the members in `redact.members` out of all that was stored of a stream before they were named there; gives how many texts and rows held one.

    A column that read such a member has no name any more, or the contract would be refused: it is emptied in the rows too that shaping again does not reach.
    Not where no member is named beside those of the default contract, which no column ever read: then a name was taken out for another reason.
    """
    names = contract.redact.members
    is_own = not redacted_names(names) <= redacted_names(load_contract().redact.members)
    if not names:
        return 0
    return writer.erase(
        stream.target,
        redacted_word(names),
        lambda texts: cleaned(texts, names),
        lambda name: is_redacted(name, names),
        unnamed(stream, contract) if is_own else {},
    )
