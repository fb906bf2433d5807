"""Values out of records: one stream's records become columns of raw values, children included, ready to be cast.

What lives here: which records become rows, which account each belongs to, what goes into quarantine. What does not: reading columns (`columns`) and
lists (`children`), what is kept of a record (`documents`), dtypes and casts (`normalise`). Sources: evidence section 5, cited by number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

import polars as pl

from pipelines.children import children
from pipelines.columns import Judge, Sheet, identifiers, without_blanks
from pipelines.documents import documents, documents_in_slots
from pipelines.drift import Notes
from pipelines.lists import Listing
from pipelines.members import Members, known_members, types_of
from pipelines.records import Fetched, identifier_id, steps, surroundings_of
from pipelines.redaction import as_json
from pipelines.slots import NotPlainError, Resources, Sheaf
from pipelines.streams import Stream
from resources.contract import Contract, StreamContract


class NoAccountError(Exception):
    """Rows that do not say which account they belong to, in a list that may hold several (evidence G19)."""


@dataclass
class Extract:
    """A batch as columns of raw values. `ids`: of the records that became rows, by place. The sheets of children name their owner by that place.

    `accounts`: those of all records, also of those that are left out.
    """

    ids: list[str]
    rows: Sheet
    children: dict[str, Sheet]
    notes: Notes
    quarantine: list[tuple[str, str, datetime]]
    read_count: int
    present: set[str]
    accounts: set[str]


class Sent(Protocol):
    """The records of a batch that become rows, in whatever form they were decoded. `quarantine`: those that do not. `sheaf`: where they came in slots."""

    ids: list[str]
    members: Members
    fetched_at: list[datetime]
    quarantine: list[tuple[str, str, datetime]]
    read_count: int

    @property
    def sheaf(self) -> Sheaf | None: ...  # noqa: D102

    def chosen(self, places: Sequence[int]) -> Sent:
        """Only the records at these places; what is in quarantine stays there."""

    def documents(self, redacted: tuple[str, ...]) -> tuple[pl.Series, list[str]]:
        """Their documents and hashes: see `documents.documents`."""


class Loose:
    """Records as dictionaries, whatever they hold."""

    sheaf: Sheaf | None = None

    def __init__(self, stream: Stream, contract: Contract, records: Iterable[Fetched]) -> None:
        names = contract.streams[stream.name]
        self.quarantine: list[tuple[str, str, datetime]] = []
        usable: list[Fetched] = []
        self.read_count = 0
        for one in records:
            self.read_count += 1
            reason = _unusable(one.record, stream.name, names)
            if reason is None:
                usable.append(one)
            else:
                self.quarantine.append((reason, as_json(one.record, contract.redact.members), one.fetched_at))
        self._known = _known(contract, stream)
        self._hold(usable)

    def _hold(self, usable: list[Fetched]) -> None:
        self._usable = usable
        self._relationships = [one.record.get("relationships") or {} for one in usable]
        attributes = [one.record.get("attributes") or {} for one in usable]
        self._arounds = surroundings_of(usable)
        self.ids = [str(one.record["id"]) for one in usable]
        self.fetched_at = [one.fetched_at for one in usable]
        self.members = Members.of(range(len(usable)), attributes, self._relationships, self._arounds, self._known)

    def chosen(self, places: Sequence[int]) -> Loose:
        """See `Sent`."""
        other = copy(self)
        other._hold([self._usable[place] for place in places])
        return other

    def documents(self, redacted: tuple[str, ...]) -> tuple[pl.Series, list[str]]:
        """See `Sent`."""
        return documents([one.record for one in self._usable], self._relationships, self._arounds, redacted)


class Slotted:
    """Records in slots; raises `NotPlainError` where one could not become a row."""

    def __init__(self, stream: Stream, contract: Contract, sheaf: Sheaf) -> None:
        types = contract.streams[stream.name].types
        if not {record.type for record in sheaf.records} <= set(types):
            raise NotPlainError
        self.quarantine: list[tuple[str, str, datetime]] = []
        self.read_count = len(sheaf.records)
        self._known = _known(contract, stream)
        self._hold(sheaf)

    def _hold(self, sheaf: Sheaf) -> None:
        self.sheaf = sheaf
        self._resources = Resources(sheaf.form, sheaf.records)
        self.ids = [record.id for record in sheaf.records]
        self.fetched_at = [page.fetched_at for page in sheaf.pages]
        self.members = Members.in_slots(range(len(sheaf.records)), self._resources, sheaf.pages, self._known)

    def chosen(self, places: Sequence[int]) -> Slotted:
        """See `Sent`."""
        other = copy(self)
        other._hold(self.sheaf.chosen(places))
        return other

    def documents(self, redacted: tuple[str, ...]) -> tuple[pl.Series, list[str]]:
        """See `Sent`."""
        return documents_in_slots(self.sheaf, self._resources, redacted)


def extract(
    stream: Stream,
    contract: Contract,
    sent: Sent,
    zones: Mapping[str, str],
    default_account: str | None,
    keeps: Collection[str] | None,
) -> Extract:
    """Records as columns; raises `NoAccountError`, and `NotPlainError` of records in slots. The arguments are those of `normalise`."""
    names = contract.streams[stream.name]
    accounts = _accounts(sent, stream, contract, default_account)
    met = set(accounts)
    if keeps is not None and not all(account in keeps for account in accounts):
        kept = [place for place, account in enumerate(accounts) if account in keeps]
        sent, accounts = sent.chosen(kept), [accounts[place] for place in kept]
    members, judge = sent.members, Judge(contract, Notes())
    rows = judge.sheet(members, stream.columns, names.columns, "booking")
    present = {column.name for column in stream.columns} & rows.keys()
    if not stream.is_generic:  # there, document is where everything belongs
        judge.note_unknown(members, "")
    lists = children(Listing(stream, contract, judge, members, accounts, zones, sent.sheaf))
    texts, hashes = sent.documents(contract.redact.members)
    rows |= {"account_id": accounts, **({stream.id_column: sent.ids} if stream.id_column else {})}
    rows |= {"document": texts, "content_hash": hashes, "fetched_at": sent.fetched_at}
    rows |= {f"whole_{table}": wholes for table, wholes in lists.wholes.items()}
    rows |= {f"except_{table}": excepts for table, excepts in lists.excepts.items()}
    return Extract(sent.ids, rows, lists.sheets, judge.notes, sent.quarantine, sent.read_count, present, met)


def _known(contract: Contract, stream: Stream) -> frozenset[str]:
    """The members of a record that are no news: see `known_members`."""
    named = {steps(name)[0] for name in contract.account_reference.relationships}
    return known_members(contract, contract.streams[stream.name].columns) | named


def left_as_sent(contract: Contract, stream: Stream) -> frozenset[str]:
    """Attributes that nobody reads: they are taken out, or are stored as the JSON that they are. One that a path leads into is read."""
    names = contract.streams[stream.name]
    aliases: dict[bool, set[str]] = {True: set(contract.redact.members), False: set()}
    listed = [(names.columns, stream.columns)]
    listed += [(names.participant_columns, child.columns) for child in stream.children[:1]]
    for own, columns in listed:
        kinds = {column.name: column.kind for column in columns}
        for column, known in own.items():
            aliases[kinds.get(column) == "json"].update(known)
            aliases[False].update(head for head, rest in map(steps, known) if rest)
    return frozenset(aliases[True] - aliases[False])


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


def _accounts(sent: Sent, stream: Stream, contract: Contract, default_account: str | None) -> list[str]:
    """The account that each record belongs to: itself, the one that it names, or the only one that there is."""
    if stream.id_column is None:
        return sent.ids
    members, reference = sent.members, contract.account_reference
    named = [members.values((name,)) for name in reference.relationships]
    named += [members.attribute(name) for name in reference.attributes]
    accounts: list[str | None] = [None] * len(sent.ids)
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
