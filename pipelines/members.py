"""The members of many resources side by side: a column of values for each name that the contract knows, and what else they carry.

What lives here: finding values by name or path in attributes, linkage and what is linked, in all resources at once. What does not: which resources
(`extract`, `lists`), what form a column's values have (`columns`), one record by itself (`records`). Sources: evidence sections 5.15 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any, Protocol

from pipelines.records import MISSING, Included, JsonObject, included_of, kinds_in, linkage_of, lookup, steps
from pipelines.slots import Identifier, NotPlainError, Resources
from resources.contract import Contract

Values = Sequence[Any]
_ABSENT = type(MISSING)


def types_of(values: Values) -> set[type]:
    """The types that occur: most of what a column needs to be judged by."""
    return set(map(type, values))


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

    def names(self, aliases: Sequence[str]) -> list[str]:
        """For each resource the alias under which `values` finds its value; empty where it has none."""
        found = [""] * len(self.places)
        for alias in reversed(aliases):
            if (values := self.values((alias,))) is not None:
                found = [name if value is MISSING else alias for name, value in zip(found, values, strict=True)]
        return found

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
    """The members of a resource that are no news: those of columns and of the account."""
    reference = contract.account_reference
    names = {name for aliases in columns.values() for alias in aliases for name, _ in _readings(alias)}
    return frozenset(names | {*reference.attributes, *reference.relationships, "booking"})
