"""Page bodies decoded into slots: the names that a list's resources carry are learned, and each resource is one small object with a slot for each of them.

What lives here: the plain form that nearly all pages have, decoded at a fraction of what dictionaries cost in time and memory, with the bytes of each
resource as they were sent. What does not: any page that is otherwise (an id that is no text, linkage with members of its own, ever new names): that is a
`NotPlainError`, and such a batch is read as dictionaries (`records`), which take everything. Both give the same rows; a test holds them together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from pipelines.records import MISSING, Included, JsonObject, Key, index

# A list whose resources carry more different names than that keeps data in its names, and each new one would cost a new form.
MOST_NAMES = 300
# Two decoders that are built at the same moment around the same struct, as `Linkage` is in all of them, end the process (msgspec 0.22: SIGSEGV).
_building = threading.Lock()

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


# An empty id names nothing.
Id = Annotated[str, msgspec.Meta(min_length=1)]


class NotPlainError(Exception):
    """A page that is not of the plain form."""


@dataclass(frozen=True)
class Body:
    """A page as it came: its bytes, and its `Date` (server time, UTC)."""

    body: bytes
    fetched_at: datetime


class Identifier(Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """A resource identifier without any member of its own."""

    type: str
    id: Id


class Linkage(Struct, gc=False):
    """A relationship; its links and meta are not looked at."""

    data: Identifier | list[Identifier] | UnsetType | None = UNSET


class _Envelope(Struct, gc=False):
    data: list[Raw]
    included: list[Raw] | UnsetType | None = UNSET


_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True)
class Form:
    """The names of resources of one kind, and the decoder that puts them into slots. `raw`: names whose values are left as they were sent."""

    attributes: tuple[str, ...]
    relationships: tuple[str, ...]
    raw: frozenset[str]
    decode: Callable[[Raw], Any]
    attribute_rows: Callable[[Any], tuple[Any, ...]]
    relationship_rows: Callable[[Any], tuple[Any, ...]]
    no_attributes: Struct
    no_relationships: Struct

    @classmethod
    def of(cls, attributes: Sequence[str], relationships: Sequence[str], raw: frozenset[str]) -> Form:
        """The form of resources with these members."""
        with _building:
            return cls._built(attributes, relationships, raw)

    @classmethod
    def _built(cls, attributes: Sequence[str], relationships: Sequence[str], raw: frozenset[str]) -> Form:
        of_attributes = _struct("Attributes", [(name, Raw | UnsetType if name in raw else Any) for name in attributes])
        of_relationships = _struct("Relationships", [(name, Linkage | None | UnsetType) for name in relationships])
        resource = msgspec.defstruct(
            "Resource",
            [
                ("type", str),
                ("id", Id),
                ("attributes", of_attributes | None | UnsetType, UNSET),
                ("relationships", of_relationships | None | UnsetType, UNSET),
            ],
            gc=False,
        )
        return cls(
            tuple(attributes),
            tuple(relationships),
            raw,
            msgspec.json.Decoder(resource, float_hook=Decimal).decode,
            _rows(len(attributes)),
            _rows(len(relationships)),
            of_attributes(),
            of_relationships(),
        )

    def taught(self, resources: Iterable[Raw]) -> Form:
        """The form that takes these resources too; raises `NotPlainError` where there is none."""
        attributes, relationships = dict.fromkeys(self.attributes), dict.fromkeys(self.relationships)
        for raw in resources:
            resource = _decode(raw)
            if not isinstance(resource, dict):
                raise NotPlainError
            for member, known in (("attributes", attributes), ("relationships", relationships)):
                own = resource.get(member) or {}
                if not isinstance(own, dict):
                    raise NotPlainError
                known.update(dict.fromkeys(own))
        if (len(attributes), len(relationships)) == (len(self.attributes), len(self.relationships)):
            raise NotPlainError  # it is not for a new name that they were not taken
        if len(attributes) + len(relationships) > MOST_NAMES:
            raise NotPlainError
        return Form.of(list(attributes), list(relationships), self.raw)


def _struct(name: str, fields: Sequence[tuple[str, Any]]) -> type[Struct]:
    # The slots have names of their own, since a member may be called anything.
    slots = [(f"m{number}", kind, UNSET) for number, (_, kind) in enumerate(fields)]
    rename = {slot: own for (slot, _, _), (own, _) in zip(slots, fields, strict=True)}
    try:
        return msgspec.defstruct(name, slots, rename=rename, gc=False, forbid_unknown_fields=True)
    except ValueError:
        raise NotPlainError from None  # a name with a quotation mark or a control character has no slot


def _rows(count: int) -> Callable[[Any], tuple[Any, ...]]:
    if count == 0:
        return lambda _: ()
    names = [f"m{number}" for number in range(count)]
    return attrgetter(*names, names[0])  # one name alone would not give a tuple


class Resources:
    """Resources of one form side by side: their attributes and the linkage of their relationships as columns, `MISSING` where one has no such member."""

    def __init__(self, form: Form, resources: Sequence[Any]) -> None:
        self.count = len(resources)
        own = [one.attributes or form.no_attributes for one in resources]
        links = [one.relationships or form.no_relationships for one in resources]
        self.attributes = _columns(form.attributes, map(form.attribute_rows, own))
        sent = _columns(form.relationships, map(form.relationship_rows, links))
        self.related = sent
        self.linked: dict[str, list[Any]] = {
            name: [one.data if one else MISSING for one in column] for name, column in sent.items()
        }
        self._leads_to: dict[str, set[str]] = {}

    def leads_to(self, name: str) -> set[str]:
        """The types that the linkage of one relationship names."""
        found = self._leads_to.get(name)
        if found is None:
            column = self.linked[name]
            found = {one.type for one in column if type(one) is Identifier}
            found |= {one.type for several in column if type(several) is list for one in several}
            self._leads_to[name] = found
        return found


def _columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    columns = dict(zip(names, zip(*rows, strict=True), strict=False))
    return {name: column for name, column in columns.items() if any(value is not MISSING for value in column)}


class Page:
    """One page in slots. `keys`: (type, id) → place among `included`; `raws`: the bytes of each included resource.

    Raises `NotPlainError` where two resources of one key differ (see `records.index`).
    """

    def __init__(self, included: Sequence[Any], raws: Sequence[Raw], fetched_at: datetime) -> None:
        self.resources = included
        self.raws = raws
        self.fetched_at = fetched_at
        self.keys: Mapping[Key, int] = {(one.type, one.id): place for place, one in enumerate(included)}
        self.kinds = frozenset(one.type for one in included)
        if len(self.keys) < len(included) and any(
            bytes(raws[self.keys[one.type, one.id]]) != bytes(raw) for one, raw in zip(included, raws, strict=True)
        ):
            raise NotPlainError

    @cached_property
    def included(self) -> Included:
        """As `records.index` gives it, for the few who need dictionaries."""
        return index(map(_decode, self.raws))


@dataclass(frozen=True)
class Sheaf:
    """The records of some pages in slots: `records[n]` came as `raws[n]` on `pages[n]`. `around`: the form of what was included."""

    form: Form
    around: Form
    records: list[Any]
    raws: list[Raw]
    pages: list[Page]

    def chosen(self, places: Sequence[int]) -> Sheaf:
        """Only the records at these places."""
        records, raws, pages = self.records, self.raws, self.pages
        return Sheaf(
            self.form, self.around, [records[n] for n in places], [raws[n] for n in places], [pages[n] for n in places]
        )


# What was learned of each list: names alone, which hold for whoever asks. A form is replaced whole, so threads may share it.
_forms: dict[tuple[str, str, frozenset[str]], Form] = {}


def _in_slots(kind: tuple[str, str, frozenset[str]], pages: Sequence[Sequence[Raw]]) -> tuple[Form, list[list[Any]]]:
    """The resources of some pages in one form; learns what it does not know yet."""
    form = _forms.get(kind) or Form.of((), (), kind[2])
    while True:
        try:
            return form, [list(map(form.decode, raws)) for raws in pages]
        except msgspec.ValidationError:
            form = _forms[kind] = form.taught(raw for raws in pages for raw in raws)


def sheaf(stream: str, bodies: Iterable[Body], raw: frozenset[str]) -> Sheaf:
    """The records of some pages in slots; raises `NotPlainError`. `raw`: attributes that are left as they were sent."""
    try:
        sent = [(_envelope(page.body), page.fetched_at) for page in bodies]
        form, records = _in_slots((stream, "records", raw), [one.data for one, _ in sent])
        around, included = _in_slots((stream, "included", raw), [one.included or [] for one, _ in sent])
    except (msgspec.DecodeError, InvalidOperation, RecursionError, UnicodeDecodeError):
        # Not for this module to judge: who reads such a page as dictionaries says what is wrong with it.
        raise NotPlainError from None
    pages = [Page(own, one.included or [], at) for own, (one, at) in zip(included, sent, strict=True)]
    return Sheaf(
        form,
        around,
        [record for own in records for record in own],
        [record for one, _ in sent for record in one.data],
        [page for page, own in zip(pages, records, strict=True) for _ in own],
    )


def as_value(raw: Raw) -> Any:
    """What was left as it was sent, decoded."""
    return _decode(raw)


def as_object(raw: Raw | bytes) -> JsonObject:
    """One resource as a dictionary."""
    found: JsonObject = _decode(raw)
    return found


def plain(value: Any) -> Any:
    """An identifier as a dictionary, for those who take linkage of any form; any other value as it is."""
    return {"type": value.type, "id": value.id} if type(value) is Identifier else value
