"""Schemas of an OpenAPI file as shapes: what values they let through, as far as a sync is concerned; and the steps through the file that follow `$ref`s.

What lives here: `Shape`, how `allOf`, `oneOf` and `anyOf` come together, steps through a file. What does not: paths, parameters, security (`openapi`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from jsonschema_path import SchemaPath

# How far shapes are followed: a list document down to the members of an object inside an attribute. Schemas may be endless.
DEEPEST = 9
# Variants of two schemas are as many as pairs of theirs; so many are told apart.
MOST_VARIANTS = 60
# Keywords that say something beside a `$ref` (OpenAPI 3.1; in 3.0 whatever stands beside a `$ref` means nothing).
BESIDE = {"type", "enum", "const", "format", "pattern", "maximum", "items", "properties", "allOf", "oneOf", "anyOf"}


@dataclass(frozen=True)
class Shape:
    """What values a schema lets through.

    `types` are JSON types without null, none where any may come. `words` are the enumerated values as text, `is_open`: others may come beside them.
    `members` are those of an object, `required` those that must be there, `has_more`: the file says that others may come. `variants`: the schemas of
    a `oneOf` or `anyOf`, each with what holds for all; the shape itself is what any of them lets through.
    """

    types: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    is_open: bool = False
    members: Mapping[str, Shape] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    has_more: bool = False
    items: Shape | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    variants: tuple[Shape, ...] = ()

    def at(self, *names: str) -> Shape:
        """The shape of a member of a member; an empty one where the schema does not name it."""
        shape = self
        for name in names:
            shape = shape.members.get(name, EMPTY)
        return shape

    @property
    def is_closed(self) -> bool:
        """Whether nothing but `words` is let through (of what is neither list nor object)."""
        return bool(self.words) and not self.is_open


EMPTY = Shape()


class Shapes:
    """Shapes by schema. Schemas that lead back to themselves would otherwise grow without end: each is made once for each depth."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], Shape] = {}

    def of(self, node: SchemaPath | None, depth: int = 0, around: frozenset[int] = frozenset()) -> Shape:
        """The shape of one schema; an empty one where there is none. `around`: the schemas that this one is put together into."""
        if node is None or depth > DEEPEST:
            return EMPTY
        value = value_of(node)
        if not isinstance(value, dict) or id(value) in around:
            return EMPTY
        key = (id(value), depth)
        if key not in self._made:
            self._made[key] = self._shape(node, depth, around | {id(value)})
        return self._made[key]

    def _shape(self, node: SchemaPath, depth: int, around: frozenset[int]) -> Shape:
        value = value_of(node)  # each step along a path starts at the root again, so what stands here is read from here
        shape = self._own(node, value, depth)
        for part in list_at(node, "allOf") if "allOf" in value else ():
            shape = _both(shape, self.of(part, depth, around))
        for keyword in ("oneOf", "anyOf"):
            every = list_at(node, keyword) if keyword in value else []
            parts = [part for part in every if not _is_null(value_of(part))]
            if parts:
                shape = _with_variants(shape, [self.of(part, depth, around) for part in parts])
        if not shape.types and (shape.members or shape.items is not None):
            shape = replace(shape, types=frozenset({"object"} if shape.members else {"array"}))
        return shape

    def _own(self, node: SchemaPath, value: Mapping[str, Any], depth: int) -> Shape:
        types = value.get("type")
        names = {types} if isinstance(types, str) else {t for t in types if isinstance(t, str)} if types else set()
        allowed = [value["const"]] if "const" in value else value.get("enum") or ()
        allowed = [one for one in allowed if one is not None] if isinstance(allowed, list) else []
        if not names and allowed:
            names = {_type_of(one) for one in allowed}
        items = child(node, "items") if "items" in value else None
        pattern, text_format, required = value.get("pattern"), value.get("format"), value.get("required")
        required = required if isinstance(required, list) else ()
        lowest, highest = _bounds(value)
        properties = child(node, "properties") if "properties" in value else None
        inner = {n: one for n, one in children(properties) if not _is_only_written(value_of(one))}
        more = value.get("additionalProperties")
        return Shape(
            types=frozenset(names - {"null"}),
            formats=frozenset({text_format} if isinstance(text_format, str) else ()),
            words=tuple(_as_text(one) for one in allowed),
            members={name: self.of(one, depth + 1) for name, one in inner.items()},
            required=frozenset(name for name in required if isinstance(name, str)),
            has_more=more is True or isinstance(more, dict),
            items=self.of(items, depth + 1) if items is not None else None,
            minimum=lowest,
            maximum=highest,
            pattern=pattern if isinstance(pattern, str) else None,
        )


def _is_only_written(value: Any) -> bool:
    """Whether a member never comes in an answer."""
    return isinstance(value, dict) and value.get("writeOnly") is True


def _is_null(value: Any) -> bool:
    """Whether a schema lets only null through, as `oneOf` and `anyOf` of OpenAPI 3.1 spell what may be empty."""
    if not isinstance(value, dict):
        return False
    is_only = value.get("type") in ("null", ["null"]) or value.get("enum") == [None]
    return is_only or ("const" in value and value["const"] is None)


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "string"


def _as_text(value: object) -> str:
    """An enumerated value as it stands in an address: true, 100."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bounds(value: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Lowest and highest whole number; an exclusive bound is `true` beside the bound in 3.0, and a number of its own in 3.1."""
    found: list[int | None] = []
    for inward, plain, exclusive in ((1, "minimum", "exclusiveMinimum"), (-1, "maximum", "exclusiveMaximum")):
        bounds = [b for b in (_whole(value.get(plain), inward),) if b is not None]
        if value.get(exclusive) is True:
            bounds = [b + inward for b in bounds if b == value.get(plain)] or bounds
        elif (other := _whole(value.get(exclusive), inward)) is not None:
            bounds.append(other + inward if other == value[exclusive] else other)
        found.append((max(bounds) if inward > 0 else min(bounds)) if bounds else None)
    return found[0], found[1]


def _whole(value: object, inward: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value in (float("inf"), float("-inf")):
        return None
    return None if value != value else int(value) if value == int(value) else int(value // 1) + (inward > 0)


# Putting schemas together


def _put(one: Shape | None, other: Shape | None, how: Callable[[Shape, Shape], Shape]) -> Shape | None:
    """Two shapes in one; where only one is there, that one."""
    return other if one is None else one if other is None else how(one, other)


def _members(one: Shape, other: Shape, how: Callable[[Shape, Shape], Shape]) -> dict[str, Shape]:
    """The members of two objects, those of the same name in one."""
    common = {name: how(shape, other.members[name]) for name, shape in one.members.items() if name in other.members}
    return {**one.members, **other.members, **common}


def _both(one: Shape, other: Shape) -> Shape:
    """What satisfies two schemas. Where they contradict each other, what either lets through: the file is at fault, and its author meant something."""
    common = _common_types(one.types, other.types)
    closed = [s for s in (one, other) if s.is_closed]
    words = tuple(dict.fromkeys((*one.words, *other.words)))
    if len(closed) == 1:
        words = closed[0].words
    elif closed:
        words = tuple(w for w in one.words if w in other.words) or words
    lows = [b for b in (one.minimum, other.minimum) if b is not None]
    highs = [b for b in (one.maximum, other.maximum) if b is not None]
    variants: tuple[Shape, ...] = ()
    if one.variants and other.variants:
        variants = tuple(_both(a, b) for a in one.variants for b in other.variants)
    elif one.variants or other.variants:
        base, many = (other, one) if one.variants else (one, other)
        variants = tuple(_both(base, v) for v in many.variants)
    return Shape(
        types=common or one.types | other.types,
        formats=one.formats | other.formats,
        words=words,
        is_open=bool(words) and not closed,
        members=_members(one, other, _both),
        required=one.required | other.required,
        has_more=one.has_more or other.has_more,
        items=_put(one.items, other.items, _both),
        minimum=max(lows, default=None),
        maximum=min(highs, default=None),
        pattern=one.pattern or other.pattern,
        variants=variants[:MOST_VARIANTS],
    )


def _common_types(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    if not one or not other:
        return one | other
    wide = [types | {"integer"} if "number" in types else types for types in (one, other)]  # a whole number is a number
    found = wide[0] & wide[1]
    return found - {"integer"} if "number" in found else found


def _with_variants(base: Shape, parts: list[Shape]) -> Shape:
    """A schema that is one or more of several."""
    flat = [inner for part in parts for inner in (part.variants or (part,))]
    joined = reduce(_either, parts)
    return _both(base, replace(joined, variants=tuple(flat) if len(flat) > 1 else ()))


def _either(one: Shape, other: Shape) -> Shape:
    """What satisfies one schema or the other."""
    scalars = [s for s in (one, other) if not s.types or s.types - {"array", "object"}]
    lows = [s.minimum for s in scalars if s.minimum is not None]
    highs = [s.maximum for s in scalars if s.maximum is not None]
    return Shape(
        types=one.types | other.types if one.types and other.types else frozenset(),
        formats=one.formats | other.formats,
        words=tuple(dict.fromkeys((*one.words, *other.words))),
        is_open=not all(s.is_closed for s in scalars) and bool(one.words or other.words),
        members=_members(one, other, _either),
        required=one.required & other.required,
        has_more=one.has_more or other.has_more,
        items=_put(one.items, other.items, _either),
        minimum=min(lows) if lows and len(lows) == len(scalars) else None,
        maximum=max(highs) if highs and len(highs) == len(scalars) else None,
        pattern=one.pattern if one.pattern == other.pattern else None,
    )


# The file as jsonschema-path gives it: every step follows `$ref`s. At a node that is not there, nothing is


def heed_siblings(value: object, seen: set[int] | None = None) -> None:
    """Make what stands beside a `$ref` in OpenAPI 3.1 a schema of its own beside it, in place: a step along a `$ref` would lose it."""
    seen = set() if seen is None else seen
    if id(value) in seen or not isinstance(value, dict | list):
        return
    seen.add(id(value))
    for inner in list(value.values()) if isinstance(value, dict) else value:
        heed_siblings(inner, seen)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str) and value.keys() & BESIDE:
        beside = {name: inner for name, inner in value.items() if name != "$ref"}
        reference = {"$ref": value["$ref"]}
        value.clear()
        value["allOf"] = [reference, beside]


def child(node: SchemaPath | None, *names: str) -> SchemaPath | None:
    """The node at some names; None where one of them is missing."""
    for name in names:
        value = None if node is None else value_of(node)
        if node is None or not isinstance(value, dict) or name not in value:
            return None
        node = node / name
    return node


def value_of(node: SchemaPath) -> Any:
    """The plain value of a node."""
    with node.open() as value:
        return value


def children(node: SchemaPath | None) -> Iterator[tuple[str, SchemaPath]]:
    """Name and node of each member; none where the node is no object."""
    value = None if node is None else value_of(node)
    if node is not None and isinstance(value, dict):
        for name in list(value):
            yield str(name), node / name


def list_at(node: SchemaPath | None, name: str) -> list[SchemaPath]:
    """The nodes of a member that is a list."""
    inner = child(node, name)
    return list(inner) if inner is not None and isinstance(value_of(inner), list) else []


def raw(node: SchemaPath | None, name: str) -> Any:
    """The plain value of a member; None where there is none."""
    inner = child(node, name)
    return None if inner is None else value_of(inner)


def word(node: SchemaPath | None, *names: str) -> str:
    """The text at some names; empty where there is none."""
    inner = child(node, *names)
    value = None if inner is None else value_of(inner)
    return value if isinstance(value, str) else ""
