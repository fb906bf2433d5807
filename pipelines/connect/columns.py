"""Which attribute feeds which column of a stream, and whether its records can be read at all.

What lives here: matching what was seen, what that comes to, records that no column can read. What does not: the matching itself (`matching`), participants
(`people`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pipelines.connect.findings import Confidence, Finding, Line
from pipelines.connect.matching import Match, Matches, Member, fits, match, members_of
from pipelines.connect.probe import Seen
from pipelines.drift import FEW_VALUES, VALUES_SHARE
from pipelines.normalise import normalise
from pipelines.records import Fetched, JsonObject, index, object_at
from pipelines.streams import ACCOUNTS, CUSTOMERS, Stream
from resources.contract import Contract, Names
from resources.schemas import EMPTY

LISTS = {
    "customers": {"custom_fields": "list", "tags": "list"},
    "bookings": {"resources": "list", "participants": "people"},
}
# Fewer values that fit no column in a sample may be odd ones.
FEW_UNFIT = 5
# What a record is made of; all else belongs under attributes.
ENVELOPE = frozenset({"id", "type", "attributes", "relationships", "links", "meta", "lid"})


@dataclass(frozen=True)
class Level:
    """The columns of one level of a record: of the record itself, or of what one of its lists holds.

    `kinds`: kind by column. `aliases`: the contract's names for them, under `table` of the stream's entry; `plausible`: further ones that are worth trying.
    `others`: members that have a use of their own, so that no column is read from them.
    """

    stream: str
    table: str
    kinds: Mapping[str, str]
    aliases: Mapping[str, Names]
    plausible: Mapping[str, Names]
    others: frozenset[str]

    def match(self, members: Mapping[str, Member]) -> Matches:
        """Which of some members feeds which column."""
        return match(self.kinds, self.aliases, self.plausible, members, self.others)

    def finding(self, ability: str, result: Matches) -> Finding:
        """What the matching came to."""
        by_evidence: dict[str, list[str]] = {}
        for m in result.found:
            by_evidence.setdefault(m.evidence, []).append(f"{m.column} = {m.member}")
        counted = ", ".join(f"{len(names)} {evidence}" for evidence, names in by_evidence.items())
        found = f"{len(result.found)} of {len(self.kinds)}" + (f" ({counted})" if counted else "")
        new = [f"{m.column} = {m.member} ({m.evidence})" for m in result.found if not m.is_default]
        wrong = [f"{name} has the wrong form for {column}" for column, name in result.misfits.items()]
        told = "; ".join([*new, *wrong]) or "under the contract's names"
        is_doubtful = wrong or result.weak
        confidence: Confidence = "none" if not result.found else "likely" if is_doubtful else "certain"
        lines = (
            Line(("streams", self.stream, self.table, m.column), list(self.names_of(m)), f"{m.evidence}: {m.member}")
            for m in result.found
        )
        return Finding(self.stream, ability, found, told, "fills these columns", confidence, tuple(lines))

    def names_of(self, found: Match) -> Names:
        """The contract's own names where they find the member already, else the member alone."""
        return self.aliases[found.column] if found.is_default else (found.member,)


def level_of(stream: Stream, contract: Contract) -> Level:
    """The columns of a stream's records."""
    name, reference = stream.name, contract.account_reference
    return Level(
        name,
        "columns",
        {column.name: column.kind for column in stream.columns} | LISTS.get(name, {}),
        contract.streams[name].columns,
        contract.plausible.columns.get(name, {}),
        frozenset({*reference.relationships, *reference.attributes, *contract.redact.members, "booking"}),
    )


def match_columns(seen: Seen, contract: Contract) -> None:
    """Match a stream's attributes to its columns; `seen.matches` and `seen.columns` hold the outcome."""
    level = level_of(seen.stream, contract)
    shape = seen.endpoint.record if seen.endpoint else EMPTY
    seen.matches = level.match(members_of(seen.rows.values(), shape))
    seen.columns = {m.column: level.names_of(m) for m in seen.matches.found}


# Elements of lists

# Columns of one element: of a custom field, of a question put to a participant. A value may be anything.
ELEMENT_KINDS = {
    "custom_fields": {"field_id": "reference", "value": "free"},
    "answers": {"question_id": "reference", "label": "text", "value": "free"},
}
IDENTIFIER = {"type", "id", "meta", "links"}


def elements(
    stream: str, column: str, records: Iterable[JsonObject], result: Matches, table: str, contract: Contract
) -> list[Finding]:
    """Match the members of a list's elements, in the records that were seen; nothing where the list holds no objects. `table`: of the contract's names."""
    member, names = result.member_of(column), contract.streams[stream].tables()[table]
    lists = [object_at(record, "attributes").get(member) for record in records] if member else []
    objects = [one for sent in lists if isinstance(sent, list) for one in sent if isinstance(one, dict)]
    flat = [one for one in objects if not one.keys() <= IDENTIFIER and "attributes" not in one]
    if not flat:
        return []
    plausible = contract.plausible.columns.get(column, {})
    level = Level(stream, table, ELEMENT_KINDS[column], names, plausible, frozenset({*contract.redact.members, "type"}))
    inside = level.match(members_of({"attributes": one} for one in flat))
    return [level.finding(f"members of {column}", inside)]


# Records that no column can read


def unread(seen: Seen) -> list[Finding]:
    """A need where records came and a sync would store columns without their values; nothing where it would not."""
    name, result, told = seen.name, seen.matches, f"{len(seen.rows)} records"
    if not seen.rows:
        return []
    if flat := _flat_members(seen):
        need = (
            f"{name}: its records carry their values ({', '.join(flat[:4])}, …) beside id and type, not under attributes, so they are no JSON:API records. "
            f"A programmer must teach this form to the product."
        )
        return [Finding(name, "records", "flat", told, "could read no column", "none", need=need)]
    if not result.found and seen.stream is not ACCOUNTS:
        came = ", ".join(result.unmapped[:8]) or "none"
        need = f"{name}: no attribute of its records ({came}) fits any column. Name them in streams.{name}.columns."
        return [Finding(name, "records", "not read", told, "could read no column", "none", need=need)]
    kinds = {c.name: c.kind for c in seen.stream.columns}
    members = members_of(seen.rows.values())
    wrong = {
        column: members[member]
        for column, member in result.misfits.items()
        if kinds.get(column) == "instant" and member in members and _none_fits("instant", members[member])
    }
    if not wrong:
        return []
    forms = "; ".join(f"{member.name}: {form_of(member.values[0])}" for member in wrong.values())
    cures = ", ".join(f"streams.{name}.columns.{column} = []" for column in wrong)
    need = (
        f"{name}: instants come in a form that is not read ({forms}), where ISO 8601 with a zone is due, such as 2026-01-02T03:04:05Z; {', '.join(wrong)} "
        f"would stay empty. A programmer must teach this form to the product, or say that they stay empty: {cures}."
    )
    return [Finding(name, "instants", forms, "values of its records", "would leave them empty", "none", need=need)]


def wrong_forms(
    stream: str, table: str, kinds: Mapping[str, str], members: Mapping[str, Member], result: Matches
) -> list[Finding]:
    """A need where columns of these kinds have members of which a sync could store no value, so that its runs would be red."""
    wrong = {
        column: members[member]
        for column, member in result.misfits.items()
        if column in kinds and member in members and _none_fits(kinds[column], members[member])
    }
    if not wrong:
        return []
    forms = "; ".join(f"{member.name}: {type_of(member.values[0])} for {column}" for column, member in wrong.items())
    cures = ", ".join(f"streams.{stream}.{table}.{column}" for column in wrong)
    need = (
        f"{stream}: values come in a form that their column does not take ({forms}), so it would be empty and runs red. Name the member that holds the "
        f'value, such as ["price.amount"], or [] for an empty column: {cures}.'
    )
    return [Finding(stream, "forms", forms, "values of its records", "would leave them empty", "none", need=need)]


def unfit_in_part(seen: Seen, contract: Contract) -> list[Finding]:
    """A need where the records seen, shaped as a sync shapes them, have values that fit no column and are enough to make it red, though others fit."""
    included, at = index(seen.included), datetime.now(UTC)
    records = [Fetched(row, included, at) for row in seen.rows.values()]
    drift = normalise(seen.stream, contract, records, {}, "the account").drift
    least = max(FEW_VALUES if seen.is_all else FEW_UNFIT, VALUES_SHARE * len(records))
    odd = [(key, count) for key, count in drift.items() if key.kind == "bad_value" and count >= least]
    if contract.streams[seen.name].include:  # a sync asks for it, and these records came without it
        odd = [(key, count) for key, count in odd if "only the linkage came" not in key.detail]
    if not odd:
        return []
    forms = "; ".join(f"{key.path}: {key.detail}, {count} of {len(records)}" for key, count in odd)
    days = " (date_fields for custom fields that are days)" if seen.stream is CUSTOMERS else ""
    need = (
        f"{seen.name}: values come in forms that their columns do not take ({forms}), so they would be empty there and runs red. Name other members "
        f"that hold them, or [] for an empty column, in streams.{seen.name} of the contract{days}."
    )
    return [Finding(seen.name, "forms", forms, "values of its records", "would leave them empty", "none", need=need)]


def links_alone(seen: Seen) -> list[Finding]:
    """Columns that stay empty because their relationship says only where to ask; of participants `people` tells."""
    bare = {
        name
        for row in seen.rows.values()
        for name, value in object_at(row, "relationships").items()
        if isinstance(value, dict) and "data" not in value
    }
    found = {c: n for c in seen.matches.empty if c != "participants" for n in seen.names.columns[c] if n in bare}
    if not found:
        return []
    names = ", ".join(found.values())
    outcome = f"leaves {', '.join(found)} empty, unless {names} in streams.{seen.name}.include brings the data"
    return [Finding(seen.name, "relationships", f"{names}: links alone", "they came without data", outcome, "low")]


def minor_units(seen: Seen) -> list[Finding]:
    """A need where prices may be pence: each stands beside a currency, and none of the numbers has a fraction."""
    price = seen.matches.member_of("price") or ""
    holder, dot, _ = price.rpartition(".")
    members = members_of(seen.rows.values())
    sent = [Decimal(str(value)) for value in members[price].values] if price in members else []
    if f"{holder}{dot}currency" not in members or not any(sent) or any(int(n.as_tuple().exponent) < 0 for n in sent):
        return []
    need = (
        f"{seen.name}: {price} holds whole numbers beside a currency, so they may be pence or cents, and sums a hundred times too large. Look at one "
        f"booking in Appointedd: document.money_in_minor_units = true where they are, false where not."
    )
    return [
        Finding(seen.name, "money", f"{price}: whole numbers", f"{len(sent)} prices", "not known", "none", need=need)
    ]


def _flat_members(seen: Seen) -> list[str]:
    """Members of the records that stand beside the envelope, where no record has attributes."""
    if any(isinstance(row.get("attributes"), dict) for row in seen.rows.values()):
        return []
    return sorted({name for row in seen.rows.values() for name in row} - ENVELOPE)


def _none_fits(kind: str, member: Member) -> bool:
    return bool(member.values) and not any(fits(kind, Member(member.name, [value])) for value in member.values)


def form_of(value: object) -> str:
    """How an instant is written, without saying what it is: digits become 0."""
    return re.sub(r"\d", "0", value)[:40] if isinstance(value, str) else type_of(value)


def type_of(value: object) -> str:
    """What a value is, without saying which."""
    return {str: "text", dict: "an object", list: "a list", bool: "true or false"}.get(type(value), "a number")
