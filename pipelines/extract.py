"""Values out of records: one stream's records become columns of raw values, children included, ready to be cast.

What lives here: which records become rows, which account each belongs to, what goes into quarantine. What does not: reading columns (`columns`) and
lists (`children`), what is kept of a record (`documents`), dtypes and casts (`normalise`). Sources: evidence section 5, cited by number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from pipelines.children import Listing, children
from pipelines.columns import Judge, Members, Sheet, identifiers, known_members, types_of, without_blanks
from pipelines.documents import as_json, documents
from pipelines.drift import DriftKey as DriftKey
from pipelines.drift import Notes
from pipelines.records import Fetched, identifier_id, steps
from pipelines.streams import Stream
from resources.contract import Contract, StreamContract


class NoAccountError(Exception):
    """Rows that do not say which account they belong to, in a list that may hold several (evidence G19)."""


@dataclass
class Extract:
    """A batch as columns of raw values. `ids`: of the records that became rows, by place. The sheets of children name their owner by that place."""

    ids: list[str]
    rows: Sheet
    children: dict[str, Sheet]
    notes: Notes
    quarantine: list[tuple[str, str, datetime]]
    read_count: int
    present: set[str]


def extract(
    stream: Stream,
    contract: Contract,
    records: Iterable[Fetched],
    zones: Mapping[str, str],
    default_account: str | None,
    keeps: Collection[str] | None,
) -> Extract:
    """Records as columns; raises `NoAccountError`. The arguments are those of `normalise`."""
    names = contract.streams[stream.name]
    sent, quarantine = list(records), []
    usable = []
    for one in sent:
        reason = _unusable(one.record, stream.name, names)
        if reason is None:
            usable.append(one)
        else:
            quarantine.append((reason, as_json(one.record, contract.redact.members), one.fetched_at))
    known = known_members(contract, names.columns)
    asked = known | {steps(name)[0] for name in contract.account_reference.relationships}
    members = Members.of(usable, asked)
    accounts = _accounts(usable, members, stream, contract, default_account)
    if keeps is not None and not all(account in keeps for account in accounts):
        kept = [place for place, account in enumerate(accounts) if account in keeps]
        usable, accounts = [usable[place] for place in kept], [accounts[place] for place in kept]
        members = Members.of(usable, asked)
    ids = [str(one.record["id"]) for one in usable]
    judge = Judge(contract, Notes())
    rows = judge.sheet(members, stream.columns, names.columns, "booking")
    present = {column.name for column in stream.columns} & rows.keys()
    if not stream.is_generic:  # there, document is where everything belongs
        judge.note_unknown(members, known, "")
    lists = children(Listing(stream, contract, judge, members, accounts, zones))
    texts, hashes = documents([one.record for one in usable], members.links, members.arounds, contract.redact.members)
    rows |= {"account_id": accounts, **({stream.id_column: ids} if stream.id_column else {})}
    rows |= {"document": texts, "content_hash": hashes, "fetched_at": [one.fetched_at for one in usable]}
    rows |= {f"whole_{table}": wholes for table, wholes in lists.wholes.items()}
    return Extract(ids, rows, lists.sheets, judge.notes, quarantine, len(sent), present)


def _unusable(record: object, stream: str, names: StreamContract) -> str | None:
    """Why a record cannot become a row; None where it can."""
    if not isinstance(record, dict):
        return f"the record is not an object but {type(record).__name__}"
    if identifier_id(record) is None:
        return "the record has no id that is text or a whole number"
    kind = record.get("type")
    if kind not in names.types:
        # What is no text could hold anything, a capability URL too.
        told = repr(kind[:60]) if isinstance(kind, str) else str(kind) if kind is None else f"({type(kind).__name__})"
        return f"type {told} is not in streams.{stream}.types of the contract"
    for member in ("attributes", "relationships"):
        if (value := record.get(member)) and not isinstance(value, dict):
            return f"{member} is not an object"
    return None


def _accounts(
    usable: Sequence[Fetched], members: Members, stream: Stream, contract: Contract, default_account: str | None
) -> list[str]:
    """The account that each record belongs to: itself, the one that it names, or the only one that there is."""
    if stream.id_column is None:
        return [str(one.record["id"]) for one in usable]
    reference = contract.account_reference
    named = [members.values((name,)) for name in reference.relationships]
    named += [members.attribute(name) for name in reference.attributes]
    accounts: list[str | None] = [None] * len(usable)
    for values in named:
        if values is not None:
            accounts = [
                one or other
                for one, other in zip(accounts, identifiers(*without_blanks(values, types_of(values))), strict=True)
            ]
    found = [default_account if account is None else account for account in accounts]
    if None in found:
        raise NoAccountError
    return cast("list[str]", found)
