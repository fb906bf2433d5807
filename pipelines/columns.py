"""Many resources side by side: a column's values under the contract's names, in the form that the column is built from.

What lives here: finding the values of one column in all resources at once, judging their JSON types together, telling the odd ones. What does not: which
resources (`extract`, `children`), dtypes and casts (`normalise`). Values that polars casts stay text here. Sources: evidence sections 2 and 5, by number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from operator import itemgetter
from typing import Any, Protocol
from zoneinfo import available_timezones

import polars as pl

from pipelines.documents import json_texts
from pipelines.drift import Notes
from pipelines.records import MISSING, Included, JsonObject, included_of, kinds_in, linkage_of, lookup, steps
from pipelines.slots import Identifier, NotPlainError, Resources, plain
from pipelines.streams import Column, Kind
from resources.contract import Contract, spelling

Values = Sequence[Any]
Sheet = dict[str, Values | pl.Series]
_ABSENT = type(MISSING)
_NULL = type(None)
_MAY_BE_BLANK = {_ABSENT, str}


@cache
def _readings(alias: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How an alias is read: a member whose own name holds dots comes before a path."""
    name, rest = steps(alias)
    return ((alias, ()), (name, rest)) if rest else ((name, ()),)


class Around(Protocol):
    """What came with the records of one page: the included resources, and the types that there are among them."""

    @property
    def included(self) -> Included: ...  # noqa: D102
    @property
    def kinds(self) -> frozenset[str]: ...  # noqa: D102


@dataclass(frozen=True)
class Stranger:
    """A member under one name, at the records that have it: `note` is what a person is told of it."""

    level: str
    name: str
    places: Sequence[int]


class Members:
    """Resources side by side, a column for each name that the contract knows. `places`: where in the batch the record of each stands.

    `own` and `links`: their attributes and their linkage by name, `MISSING` where one has none. `odd`: relationships that are no objects, by type of JSON.
    """

    def __init__(
        self,
        places: Sequence[int],
        own: Mapping[str, Values],
        links: Mapping[str, Values],
        arounds: Sequence[Around],
        strangers: Sequence[Stranger],
        odd: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        self.places = places
        self.arounds = arounds
        self.kinds = frozenset[str]().union(*(around.kinds for around in set(arounds)))
        self.strangers = strangers
        self.odd = odd
        self._own = own
        self._links = links

    @classmethod
    def of(
        cls,
        places: Sequence[int],
        attributes: Sequence[JsonObject],
        relationships: Sequence[JsonObject],
        arounds: Sequence[Around],
        known: frozenset[str],
    ) -> Members:
        """Resources as dictionaries. `known`: the names that may be asked for, those of the contract."""
        strangers, columns = [], []
        for level, sent in (("attributes", attributes), ("relationships", relationships)):
            names = set[str]().union(*sent)
            columns.append(_side_by_side(sent, sorted(names & known)))
            for name in sorted(names - known):
                have = [place for place, own in zip(places, sent, strict=True) if name in own]
                strangers.append(Stranger(level, name, have))
        odd = [
            (name, type(one).__name__, place)
            for name in sorted(set[str]().union(*relationships))
            for place, sent in zip(places, relationships, strict=True)
            if (one := sent.get(name)) is not None and type(one) is not dict
        ]
        links = {name: _linkages(sent) for name, sent in columns[1].items()}
        return cls(places, columns[0], _told(links), arounds, strangers, odd)

    @classmethod
    def in_slots(
        cls, places: Sequence[int], resources: Resources, arounds: Sequence[Around], known: frozenset[str]
    ) -> Members:
        """Resources in slots; see `of`."""
        strangers = [
            Stranger(level, name, [p for p, value in zip(places, column, strict=True) if value is not MISSING])
            for level, columns in (("attributes", resources.attributes), ("relationships", resources.related))
            for name, column in columns.items()
            if name not in known
        ]
        links = {name: column for name, column in resources.linked.items() if name in known}
        return cls(places, resources.attributes, _told(links), arounds, strangers)

    def attribute(self, name: str) -> Values | None:
        """For each resource the attribute, or `MISSING`; None where no resource has it."""
        return self._own.get(name)

    def values(self, aliases: Iterable[str]) -> Values | None:
        """For each resource the value of the first alias that is present, else `MISSING`; None where no resource has any."""
        return self.typed_values(aliases)[0]

    def typed_values(self, aliases: Iterable[str]) -> tuple[Values | None, set[type]]:
        """As `values`, with the types that occur."""
        found: Values | None = None
        types: set[type] = set()
        for name, rest in (reading for alias in aliases for reading in _readings(alias)):
            if name not in self._own and name not in self._links:
                continue
            values = self._values(name, rest)
            found = values if found is None else [b if a is MISSING else a for a, b in zip(found, values, strict=True)]
            types = types_of(found)
            if _ABSENT not in types:
                break
        return (None, types) if types == {_ABSENT} else (found, types)

    def _values(self, name: str, rest: tuple[str, ...]) -> Values:
        """As `lookup`: an attribute goes before a relationship, even where the path inside it leads nowhere."""
        sent = own = self._own.get(name)
        if own is not None:
            for step in rest:
                own = [value.get(step, MISSING) if isinstance(value, dict) else MISSING for value in own]
            if name not in self._links:
                return own
        linked = self._links[name]
        if rest:
            linked = self._behind(linked, rest)
        if sent is None or own is None:
            return linked
        return [b if a is MISSING else c for a, b, c in zip(sent, linked, own, strict=True)]

    def _behind(self, linked: Values, rest: tuple[str, ...]) -> Values:
        """What a path reads in the included resources that are linked. Where none of their types came at all, that is nothing."""
        if kinds_in(linked).isdisjoint(self.kinds):
            return [MISSING] * len(linked)
        if Identifier in types_of(linked):
            raise NotPlainError  # what stands behind linkage is read from dictionaries
        path = ".".join(rest)
        resources = [included_of(one, around.included) for one, around in zip(linked, self.arounds, strict=True)]
        return [MISSING if resource is None else lookup(resource, path, {}) for resource in resources]


def _side_by_side(objects: Sequence[JsonObject], names: Sequence[str]) -> dict[str, Values]:
    """The members of these names as columns, `MISSING` where an object has none. Row by row: an object that was just touched is quick to reach."""
    if not names:
        return {}
    try:
        rows = list(map(itemgetter(*names, names[0]), objects))  # one name alone would not give a tuple
    except KeyError:
        rows = [tuple([own.get(name, MISSING) for name in names]) for own in objects]
    return dict(zip(names, zip(*rows, strict=True), strict=False))


def _told(links: Mapping[str, Values]) -> dict[str, Values]:
    """Linkage without the names under which no resource says anything."""
    return {name: column for name, column in links.items() if types_of(column) != {_ABSENT}}


def _linkages(sent: Values) -> Values:
    try:
        return [one["data"] for one in sent]
    except (KeyError, TypeError):
        return list(map(linkage_of, sent))


def known_members(contract: Contract, columns: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """The members of a resource that are no news: those of columns, of the account, and those that are taken out."""
    reference = contract.account_reference
    names = {name for aliases in columns.values() for alias in aliases for name, _ in _readings(alias)}
    return frozenset(names | {*reference.attributes, *reference.relationships, *contract.redact.members, "booking"})


def as_is(value: Any) -> Any:
    """The value itself: it needs no other form."""
    return value


def digits(number: int | Decimal) -> str:
    """A number without an exponent (1e2 is 100), so that a cast can see its digits; one that no column could hold stays as it is."""
    return format(number, "f") if isinstance(number, Decimal) and abs(number.adjusted()) < 100 else str(number)


@cache
def _zones() -> dict[str, str]:
    return {zone: zone for zone in available_timezones()}


def _zone(value: str) -> str | None:
    return _zones().get(value)


# For each kind of column: JSON type → how its values get the form that the column is built from; None where one has no such form. Types that are not
# named have none at all. What is text stays text, because polars casts whole columns.
Form = Callable[[Any], Any]
_TEXT: dict[type, Form] = {str: as_is, int: str, Decimal: str}
_CAST: dict[type, Form] = {str: str.strip, int: str, Decimal: digits}
FORMS: dict[Kind, dict[type, Form]] = {
    "text": _TEXT,
    "status": _TEXT,
    "reference": {str: as_is, int: str},
    "boolean": {bool: as_is, str: {"true": True, "false": False}.get},
    "zone": {str: _zone},
    "instant": _CAST,
    "money": _CAST,
    "number": _CAST,
    "integer": _CAST,
    "date": _CAST,
}


# Forms that every value of their type has.
_SURE = {as_is, str, str.strip, digits}


def types_of(values: Values) -> set[type]:
    """The types that occur: most of what a column needs to be judged by."""
    return set(map(type, values))


def without_blanks(values: Values, types: set[type]) -> tuple[Values, set[type]]:
    """None for what is absent, null or empty, and the types after that. 5.15: an empty string is null in the model."""
    if types.isdisjoint(_MAY_BE_BLANK) or (types == {str} and "" not in values):
        return values, types
    values = [None if value is MISSING or (type(value) is str and not value) else value for value in values]
    return values, types_of(values)


def formed(values: Values, types: set[type], forms: Mapping[type, Form]) -> Values:
    """The values in the forms that their types have; None where a value has none."""
    if all(forms.get(one) is as_is for one in types - {_NULL}):
        return values
    if len(types) == 1:
        form = forms.get(*types)
        return [None] * len(values) if form is None else list(map(form, values))
    same = {one for one in types if forms.get(one) is as_is} | {_NULL}
    return [
        value if type(value) in same else None if (form := forms.get(type(value))) is None else form(value)
        for value in values
    ]


def identifiers(values: Values, types: set[type]) -> Values:
    """As `identifier_id`, for many values: the id in an identifier, an embedded object or a bare id; None where there is none."""
    if types == {Identifier}:
        return [value.id for value in values]
    if dict in types or Identifier in types:
        values = [
            value.get("id") if isinstance(value, dict) else value.id if isinstance(value, Identifier) else value
            for value in values
        ]
        types = types_of(values)
    return formed(*without_blanks(values, types), FORMS["reference"])


class Judge:
    """Columns of one batch under construction, and what in them is unlike the contract."""

    def __init__(self, contract: Contract, notes: Notes) -> None:
        self.redacted = contract.redact.members
        self.notes = notes
        self.words = {
            level: {spelling(s): word for word, spellings in words.items() for s in spellings}
            for level, words in (
                ("booking", contract.statuses.booking),
                ("participant", contract.statuses.participant),
            )
        }

    def sheet(
        self, members: Members, columns: Iterable[Column], aliases: Mapping[str, tuple[str, ...]], level: str
    ) -> Sheet:
        """The columns for which a resource has a member, if only a null."""
        sheet: Sheet = {}
        for column in columns:
            names = aliases.get(column.name, ())
            sent, types = members.typed_values(names)
            if sent is None:
                continue
            if column.kind != "reference" and Identifier in types:
                sent = list(map(plain, sent))
                types = types_of(sent)
            values, types = without_blanks(sent, types)
            if column.kind == "json":
                sheet[column.name] = json_texts(values, self.redacted)
                continue
            texts = self._formed(column, values, types, members.places, names[0])
            if column.kind == "status":
                sheet[f"{column.name}_raw"] = texts
                texts = self._in_words(column.name, texts, members.places, level)
            sheet[column.name] = texts
        return sheet

    def _formed(self, column: Column, values: Values, types: set[type], places: Sequence[int], path: str) -> Values:
        """Values in the form that their column is built from; None, and drift, where one has the wrong JSON type."""
        forms = FORMS[column.kind]
        texts = identifiers(values, types) if column.kind == "reference" else formed(values, types, forms)
        if not all(forms.get(one) in _SURE for one in types - {_NULL}):
            for place, value, text in zip(places, values, texts, strict=True):
                if text is None and value is not None and (column.kind != "reference" or value != []):
                    self.notes.add("bad_value", path, f"{type(value).__name__} where {column.kind} is due", place)
        return texts

    def _in_words(self, name: str, texts: Values, places: Sequence[int], level: str) -> Values:
        """Statuses in the contract's words, each spelling judged once; one that it does not know stays as sent."""
        words = {text: self.words[level].get(spelling(text)) for text in set(texts) - {None}}
        if None in words.values():
            for place, text in zip(places, texts, strict=True):
                if text is not None and words[text] is None:
                    self.notes.add("unknown_status", f"{level}.{name}", text[:60], place)
        told = {text: word or text for text, word in words.items()}
        return [None if text is None else told[text] for text in texts]

    def texts(self, values: Values, places: Sequence[int], path: str) -> list[str | None]:
        """Texts inside lists; None where one is absent or empty, and drift besides where it is something else."""
        if not types_of(values) <= {str, _NULL}:
            for place, value in zip(places, values, strict=True):
                if value is not None and not isinstance(value, str):
                    self.notes.add("bad_value", path, f"{type(value).__name__} where text is due", place)
        return [value or None if type(value) is str else None for value in values]

    def note_unknown(self, members: Members, prefix: str) -> None:
        """Members that map to no column, and relationships that are none."""
        for stranger in members.strangers:
            path = f"{prefix}{stranger.level}.{stranger.name}"
            self.notes.add_many("unknown_member", path, "maps to no column", stranger.places)
        for name, kind, place in members.odd:
            self.notes.add("bad_value", f"{prefix}relationships.{name}", f"{kind} where a relationship is due", place)
