"""Values out of records: one stream's records become columns of raw values, children included, ready to be cast.

What lives here: finding each column's value under the contract's names, and saying what is unlike the contract. What does not: dtypes and casts
(`normalise`), what a record is (`records`). Values that polars casts stay text here. Sources: evidence sections 2 and 5, cited by number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pipelines.records import (
    MISSING,
    Fetched,
    Included,
    JsonObject,
    as_json,
    document_of,
    first,
    identifier_id,
    included_of,
    lookup,
    object_at,
    redacted_names,
    spelling,
)
from pipelines.streams import Column, Stream
from resources.contract import Contract

POSITION = "position"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DOCUMENT_COLUMNS = ("document", "content_hash", "fetched_at")


@dataclass(frozen=True)
class DriftKey:
    """What is unlike the contract: never a personal value."""

    kind: str
    path: str
    detail: str


class NoAccountError(Exception):
    """Rows that do not say which account they belong to, in a list that may hold several (evidence G19)."""


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


class Sheet:
    """Columns under construction for one table."""

    def __init__(self, names: Iterable[str]) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, values: Mapping[str, Any]) -> None:
        """One row; a column without a value is null."""
        for name, column in self.columns.items():
            column.append(values.get(name))


class Reader:
    """Reads records of one stream into sheets; lives for one call of `normalise`."""

    def __init__(
        self, stream: Stream, contract: Contract, zones: Mapping[str, str], keeps: Collection[str] | None = None
    ) -> None:
        self.stream = stream
        self.keeps = keeps
        self.present: set[str] = set()
        self.contract = contract
        self.names = contract.streams[stream.name]
        self.zones = zones
        self.drift: Counter[DriftKey] = Counter()
        self.examples: dict[DriftKey, str] = {}
        self.quarantine: list[tuple[str, str, datetime]] = []
        self.read_count = 0
        self.words = {
            level: {spelling(s): word for word, spellings in words.items() for s in spellings}
            for level, words in (
                ("booking", contract.statuses.booking),
                ("participant", contract.statuses.participant),
            )
        }
        self.sheets = {
            stream.table: Sheet(
                [POSITION, *stream.key, *column_names(stream.columns), *DOCUMENT_COLUMNS, *_flags(stream)]
            )
        }
        for child in stream.children:
            self.sheets[child.table] = Sheet(
                [POSITION, *stream.key, *child.key, *column_names(child.columns), "is_partial"]
            )
        self.known = self._known_members(self.names.columns)
        self.known_of_participant = self._known_members(self.names.participant_columns)
        self.extract: dict[str, Callable[[JsonObject, Included, dict[str, Any]], None]] = {
            "customers": self._customer_children,
            "bookings": self._booking_children,
        }

    def _known_members(self, columns: Mapping[str, Iterable[str]]) -> frozenset[str]:
        reference = self.contract.account_reference
        names = {n for aliases in columns.values() for alias in aliases for n in (alias, alias.partition(".")[0])}
        return frozenset(
            names | {*reference.attributes, *reference.relationships, *self.contract.redact.members, "booking"}
        )

    def note(self, kind: str, path: str, detail: str, record_id: str) -> None:
        """Count something that is unlike the contract, with the first record that shows it."""
        key = DriftKey(kind, path, detail)
        self.drift[key] += 1
        self.examples.setdefault(key, record_id)

    def read(self, fetched: Fetched, default_account: str | None) -> None:
        """One record into the sheets, or into quarantine; raises `NoAccountError`."""
        self.read_count += 1
        record = fetched.record
        reason = self._unusable(record)
        if reason:
            self.quarantine.append((reason, as_json(record, self.contract.redact.members), fetched.fetched_at))
            return
        record_id = identifier_id(record)
        assert record_id is not None  # noqa: S101  judged just now; narrows the type
        account_id = record_id if self.stream.id_column is None else self._account(record, fetched.included)
        if account_id is None:
            account_id = default_account
        if account_id is None:
            raise NoAccountError
        if self.keeps is not None and account_id not in self.keeps:
            return
        document, content_hash = document_of(record, fetched.included, self.contract.redact.members)
        row: dict[str, Any] = {
            POSITION: len(self.sheets[self.stream.table].columns[POSITION]),
            "account_id": account_id,
            "document": document,
            "content_hash": content_hash,
            "fetched_at": fetched.fetched_at,
        }
        if self.stream.id_column:
            row[self.stream.id_column] = record_id
        self._fill(row, record, fetched.included, self.stream.columns, self.names.columns, "booking", record_id)
        if not self.stream.is_generic:  # there, document is where everything belongs
            self._note_unknown(record, self.known, "", record_id)
        extract = self.extract.get(self.stream.name)
        if extract:
            extract(record, fetched.included, row)
        self.sheets[self.stream.table].add(row)

    def _unusable(self, record: object) -> str | None:
        if not isinstance(record, dict):
            return f"the record is not an object but {type(record).__name__}"
        if identifier_id(record) is None:
            return "the record has no id that is text or a whole number"
        if record.get("type") not in self.names.types:
            kind = record.get("type")
            # What is no text could hold anything, a capability URL too.
            told = (
                repr(kind[:60]) if isinstance(kind, str) else str(kind) if kind is None else f"({type(kind).__name__})"
            )
            return f"type {told} is not in streams.{self.stream.name}.types of the contract"
        for member in ("attributes", "relationships"):
            if not isinstance(record.get(member) or {}, dict):
                return f"{member} is not an object"
        return None

    def _account(self, record: JsonObject, included: Included) -> str | None:
        reference = self.contract.account_reference
        for name in reference.relationships:
            found = identifier_id(_present(lookup(record, name, included)))
            if found:
                return found
        attributes = object_at(record, "attributes")
        return next((i for n in reference.attributes if (i := identifier_id(attributes.get(n)))), None)

    def _fill(
        self,
        row: dict[str, Any],
        resource: JsonObject,
        included: Included,
        columns: Iterable[Column],
        aliases: Mapping[str, tuple[str, ...]],
        level: str,
        record_id: str,
    ) -> None:
        """The values of a resource, as text where polars casts them later."""
        for column in columns:
            names = aliases.get(column.name)
            value = first(resource, names, included) if names else MISSING
            if value is MISSING:
                continue
            if aliases is self.names.columns:
                self.present.add(column.name)
            if value is None or value == "":  # 5.15: an empty string is null in the model
                continue
            text = self._text(column, value, names or (), record_id)
            if column.kind == "status" and isinstance(text, str):
                row[f"{column.name}_raw"] = text
                word = self.words[level].get(spelling(text))
                if word is None:
                    self.note("unknown_status", f"{level}.{column.name}", text[:60], record_id)
                text = word or text
            row[column.name] = text

    def _text(self, column: Column, value: Any, names: tuple[str, ...], record_id: str) -> Any:
        """One value in the form its column is built from; None, and drift, where it has the wrong JSON type."""
        match column.kind:
            case "json":
                return as_json(value, self.contract.redact.members)
            case "reference":
                if isinstance(value, list) and not value:
                    return None
                text = identifier_id(value)
                if text is not None:
                    return text
            case "boolean":
                if isinstance(value, bool):
                    return value
                if value in ("true", "false"):
                    return value == "true"
            case "zone":
                if isinstance(value, str) and value in _zones():
                    return value
            case "text" | "status":
                if isinstance(value, str):
                    return value
                if isinstance(value, int | Decimal) and not isinstance(value, bool):
                    return str(value)
            case _:
                if isinstance(value, str):
                    return value.strip()
                if isinstance(value, int | Decimal) and not isinstance(value, bool):
                    return _digits(value)
        self.note("bad_value", names[0], f"{type(value).__name__} where {column.kind} is due", record_id)
        return None

    def _words(self, value: Any, path: str, record_id: str) -> str | None:
        """A text inside a list; None where it is absent or empty, and drift besides where it is something else."""
        if isinstance(value, str):
            return value or None
        if value is not None:
            self.note("bad_value", path, f"{type(value).__name__} where text is due", record_id)
        return None

    def _note_unknown(self, resource: JsonObject, known: frozenset[str], prefix: str, record_id: str) -> None:
        for member in ("attributes", "relationships"):
            for name in object_at(resource, member).keys() - known:
                self.note("unknown_member", f"{prefix}{member}.{name}", "maps to no column", record_id)
        for name, relationship in object_at(resource, "relationships").items():
            if relationship is not None and not isinstance(relationship, dict):
                told = f"{type(relationship).__name__} where a relationship is due"
                self.note("bad_value", f"{prefix}relationships.{name}", told, record_id)

    def _parent_key(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in (POSITION, *self.stream.key)}

    # Children. Missing linkage is not an empty list: only a list that came whole may take rows away (JSON:API; evidence 6.1).

    def _listed(self, resource: JsonObject, included: Included, names: Iterable[str]) -> tuple[list[Any], bool]:
        """The elements of a list, and whether it came at all; a single value counts as a list of one."""
        value = first(resource, names, included)
        if value is MISSING:
            return [], False
        if value is None:
            return [], True
        return (value if isinstance(value, list) else [value]), True

    def _customer_children(self, record: JsonObject, included: Included, row: dict[str, Any]) -> None:
        parent, record_id = self._parent_key(row), str(record["id"])
        tags, row["whole_customer_tags"] = self._listed(record, included, self.names.columns["tags"])
        for tag in tags:
            text = tag if isinstance(tag, str) else object_at({"tag": tag}, "tag").get("name")
            if isinstance(text, str) and text:
                self.sheets["customer_tags"].add({**parent, "tag": text})
            else:
                row["whole_customer_tags"] = False  # what cannot be read must not remove what was read before
                self.note("bad_value", "tags", f"{type(tag).__name__} where a tag is due", record_id)
        names = self.names.columns["custom_fields"]
        fields, row["whole_customer_custom_fields"] = self._listed(record, included, names)
        sent = first(record, names, included)
        if isinstance(sent, dict) and "id" not in sent:  # an object of name: value instead of a list
            fields = [
                {"id": name, "value": value}
                for name, value in sent.items()
                if spelling(name) not in redacted_names(self.contract.redact.members)
            ]
        zone = self.zones.get(row["account_id"])
        for element in fields:
            field_id = identifier_id(element)
            if field_id is None:
                row["whole_customer_custom_fields"] = False
                self.note("bad_value", "custom_fields", "a custom field without id", record_id)
                continue
            value = element.get("value") if isinstance(element, dict) else None
            typed = _typed(value)
            self.sheets["customer_custom_fields"].add(
                {
                    **parent,
                    "field_id": field_id,
                    "value_kind": typed.kind,
                    "value_raw": as_json(value, self.contract.redact.members),
                    "value_text": typed.text if typed.kind == "text" else None,
                    "value_number": _digits(value)
                    if isinstance(value, int | Decimal) and typed.kind == "number"
                    else None,
                    "is_value_true": typed.boolean,
                    "value_on": self._day(value, zone, field_id, record_id),
                }
            )

    def _day(self, value: object, zone: str | None, field_id: str, record_id: str) -> date | None:
        """5.14: a date field is epoch seconds at midnight of the account's zone; without a zone nothing is guessed."""
        if field_id not in self.names.date_fields or value is None or value == "":
            return None
        try:
            if isinstance(value, int | Decimal) and not isinstance(value, bool):
                return (
                    None
                    if zone is None
                    else (EPOCH + timedelta(seconds=float(value))).astimezone(ZoneInfo(zone)).date()
                )
            if isinstance(value, str):
                return date.fromisoformat(value[:10])
        except (ValueError, OverflowError):
            pass  # falls through to the note below, like every other value that is no day
        self.note("bad_value", f"custom_fields.{field_id}", "no day can be read from it", record_id)
        return None

    def _booking_children(self, record: JsonObject, included: Included, row: dict[str, Any]) -> None:
        parent, record_id = self._parent_key(row), str(record["id"])
        resources, row["whole_booking_resources"] = self._listed(record, included, self.names.columns["resources"])
        for element in resources:
            resource_id = identifier_id(element)
            if resource_id is None:
                row["whole_booking_resources"] = False
                self.note("bad_value", "resources", "a bookable resource without id", record_id)
                continue
            named = included_of(element, included)
            name = object_at(named, "attributes").get("name") if named else object_at({"e": element}, "e").get("name")
            resource_name = self._words(name, "resources.name", record_id)
            self.sheets["booking_resources"].add({**parent, "resource_id": resource_id, "resource_name": resource_name})
        participants, whole = self._listed(record, included, self.names.columns["participants"])
        row["whole_booking_customers"] = whole
        row["whole_booking_answers"] = whole
        equals: Counter[str] = Counter()
        for element in participants:
            if not isinstance(element, dict):
                row["whole_booking_customers"] = row["whole_booking_answers"] = False
                self.note("bad_value", "participants", "a participant that is not an object", record_id)
            elif not self._participant(element, included, parent, equals, record_id):
                row["whole_booking_answers"] = False

    def _participant(
        self, element: JsonObject, included: Included, parent: dict[str, Any], equals: Counter[str], record_id: str
    ) -> bool:
        """Add one customer on a booking; False where his answers did not come with him, so that stored ones must be kept."""
        names = self.names.participant_columns
        element_id = identifier_id(element)
        is_identifier = isinstance(element.get("type"), str) and element_id is not None
        resource, is_partial = element, False
        values: dict[str, Any] = {**parent}
        if is_identifier and element["type"] in self.contract.streams["customers"].types:
            # The relationship names the customers themselves: who took part is known, the participation has no id.
            resource, values["customer_id"] = {"attributes": {}}, element_id
        elif is_identifier and "attributes" not in element:
            resource, is_partial = included_of(element, included) or {}, included_of(element, included) is None
            values["customer_booking_id"] = element_id
        elif is_identifier:
            values["customer_booking_id"] = element_id
        else:
            # Embedded without an envelope: its own id has a name of its own, and a bare `id` is the customer's (5.30), unless the contract says otherwise.
            is_own = "id" in names["customer_booking_id"]
            resource = {"attributes": {k: v for k, v in element.items() if k != "id" or is_own}}
            values["customer_booking_id"] = identifier_id(_present(first(resource, names["customer_booking_id"], {})))
            values["customer_id"] = None if is_own else element_id
        if not isinstance(resource.get("attributes") or {}, dict):
            is_partial = True  # nothing can be read from it, so what was read before stays
            told = f"{type(resource['attributes']).__name__} where an object is due"
            self.note("bad_value", "participant.attributes", told, record_id)
        child = self.stream.children[0]
        self._fill(values, resource, included, child.columns, names, "participant", record_id)
        if values.get("status") is None and not is_partial:
            self._fill_empty_status(values, resource, names, included)
        if values.get("customer_booking_id") is None:
            stem = f"customer:{values.get('customer_id') or ''}"
            equals[stem] += 1
            values["customer_booking_id"] = f"{stem}:{equals[stem]}"
        self.sheets[child.table].add({**values, "is_partial": is_partial})
        self._note_unknown(resource, self.known_of_participant, "participant.", record_id)
        return not is_partial and self._answers(resource, included, parent, values["customer_booking_id"], record_id)

    def _fill_empty_status(
        self, values: dict[str, Any], resource: JsonObject, names: Mapping[str, tuple[str, ...]], included: Included
    ) -> None:
        """An empty participant status is a word of its own (`none`) where the contract lists the empty spelling."""
        if first(resource, names["status"], included) == "":
            values["status"], values["status_raw"] = self.words["participant"].get(""), ""

    def _answers(
        self, resource: JsonObject, included: Included, parent: dict[str, Any], owner: str, record_id: str
    ) -> bool:
        """Add the answers of one participant; False where their list did not come whole."""
        equals: Counter[str] = Counter()
        elements, is_whole = self._listed(resource, included, self.names.participant_columns["answers"])
        for element in elements:
            if not isinstance(element, dict):
                is_whole = False
                self.note("bad_value", "questions", "a question that is not an object", record_id)
                continue
            question_id, label = identifier_id(element), element.get("label")
            if question_id is None:  # missing in old data (5.15)
                # A label that is no text could hold anything, so it is named by its type alone.
                stem = f"({type(label).__name__})" if isinstance(label, dict | list) else str(label)
                equals[stem] += 1
                question_id = f"label:{stem}:{equals[stem]}"
            typed = _typed(element.get("value"))
            self.sheets["booking_answers"].add(
                {
                    **parent,
                    "customer_booking_id": owner,
                    "question_id": question_id,
                    "label": self._words(label, "questions.label", record_id),
                    "answer_kind": typed.kind,
                    "answer_text": typed.text,
                    "is_answer_true": typed.boolean,
                }
            )
        return is_whole


def _digits(number: int | Decimal) -> str:
    """A number without an exponent (1e2 is 100), so that a cast can see its digits; one that no column could hold stays as it is."""
    return format(number, "f") if isinstance(number, Decimal) and abs(number.adjusted()) < 100 else str(number)


@dataclass(frozen=True)
class _Typed:
    kind: str
    text: str | None = None
    boolean: bool | None = None


def _typed(value: object) -> _Typed:
    """A free value told by its JSON type; `""` and null are empty, `false` is an answer (5.15)."""
    if value is None or value == "":
        return _Typed("empty")
    if isinstance(value, bool):
        return _Typed("boolean", boolean=value)
    if isinstance(value, str):
        return _Typed("text", text=value)
    if isinstance(value, int | Decimal):
        return _Typed("number", text=str(value))
    return _Typed("other")


def _present(value: Any) -> Any:
    return None if value is MISSING else value


def column_names(columns: Iterable[Column]) -> list[str]:
    """Names of columns, each status with its raw twin."""
    return [n for c in columns for n in ((c.name, f"{c.name}_raw") if c.kind == "status" else (c.name,))]


def _flags(stream: Stream) -> list[str]:
    return [f"whole_{child.table}" for child in stream.children]
