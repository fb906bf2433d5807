"""What a file says of the answers, held against what a sync reads out of them: the next link, records, columns.

What lives here: pure decisions on the way back. What does not: what is sent (`asking`), which values fit which column while they come (`extract`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.connect.asking import OTHER_FORMATS
from pipelines.connect.columns import ENVELOPE, IDENTIFIER, Level, level_of
from pipelines.connect.described import tokens
from pipelines.connect.difference import Difference, Weight
from pipelines.connect.matching import READ, Member, fold, members_of
from pipelines.connect.people import level_of_participants
from pipelines.connect.places import CONTENT, is_next
from pipelines.streams import ACCOUNTS, BUILT_IN, Stream
from resources.contract import Contract, spelling
from resources.openapi import ListEndpoint
from resources.schemas import EMPTY, Shape

# Lists by column: the JSON types of an element that can be read, and the member that it must have where it is an object.
ELEMENTS = {
    "participants": ({"object"}, None),
    "tags": ({"string", "object"}, "name"),
    "resources": ({"string", "integer", "object"}, "id"),
    "custom_fields": ({"string", "integer", "object"}, None),
    "answers": ({"object"}, None),
}
# Lists whose elements have names of their own in the contract: the table of those, and the columns that an object must bring.
INSIDE = {"custom_fields": ("custom_field_columns", ("field_id", "value")), "answers": ("answer_columns", ("value",))}
WORDS_OF_TRUTH = {"true", "false"}
NUMBERS = {"money", "number", "integer"}
MOMENTS = frozenset({"date", "time", "date-time", "duration"})


def answering(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    """What a sync would no longer find in a list's answers, and what is new in them."""
    yield from _next_link(stream.name, contract, endpoint)
    told = _unreadable(endpoint.record)
    if told is not None:
        yield Difference("breaking", stream.name, told, "no key: a programmer must teach it to the product")
    elif not endpoint.record.at("attributes").members:
        told = "the file does not say what its records look like"
        yield Difference("harmless", stream.name, told, "nothing can be compared")
    else:
        yield from _columns(stream, contract, endpoint)


def names_account(contract: Contract, endpoint: ListEndpoint) -> bool:
    """Whether a list's records name their account where the contract looks for it; yes where the file does not say what they look like."""
    reference, members = contract.account_reference, members_of((), endpoint.record)
    present = [members[n] for n in (*reference.relationships, *reference.attributes) if n in members]
    return not endpoint.record.at("attributes").members or any(
        trouble("reference", one.shape) is None for one in present
    )


# The next link


def _next_link(stream: str, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    place, document = contract.document.next, endpoint.document
    *outer, last = place.split(".")
    holder = _standing(document, outer)
    found = None if holder is None else holder.members.get(last)
    if found is not None and not _may_be_link(found):
        told = f"{place} is {', '.join(sorted(found.types))}, which is no link to the next page"
        yield Difference("breaking", stream, told, "document.next")
    is_left_open = holder is not None and (holder.has_more or not holder.members)
    if found is not None or is_left_open:
        return
    others = [path for path, shape in _beside(document) if is_next(path) and _may_be_link(shape)]
    if others:
        told = f"the link to the next page stands at {others[0]}, not at {place}"
        yield Difference("breaking", stream, told, "document.next")
    elif contract.document.lists_are_whole:
        return
    elif _turns_pages(endpoint, place):
        told = f"no link to the next page is described at {place}"
        yield Difference("breaking", stream, told, "document.next, or document.lists_are_whole")
    else:
        told = "the file does not say where the link to the next page stands"
        yield Difference("harmless", stream, told, "nothing can be compared")


def _standing(document: Shape, names: Sequence[str]) -> Shape | None:
    """The shape at a path of names; None where it is not described."""
    for name in names:
        if name not in document.members:
            return None
        document = document.members[name]
    return document


def _may_be_link(shape: Shape) -> bool:
    """Whether a value may be followed: text, or an object with href."""
    is_object = "object" in shape.types and ("href" in shape.members or not shape.members)
    return not shape.types or "string" in shape.types or is_object


def _beside(document: Shape, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Shape]]:
    """Members beside the content, by dotted path."""
    for name, shape in document.members.items():
        if not (depth == 0 and name in CONTENT):
            yield f"{prefix}{name}", shape
            if depth < 3 and "href" not in shape.members:
                yield from _beside(shape, f"{prefix}{name}.", depth + 1)


def _turns_pages(endpoint: ListEndpoint, place: str) -> bool:
    """Whether a list seems to come in pages: by links to other pages, here or in a header, by a mark of the next, or by a parameter.

    A file that says nothing of what stands beside the records is not believed to say that there is no link.
    """
    if "link" in endpoint.answer_headers:
        return True
    beside = [path for path, _ in _beside(endpoint.document)]
    holder = endpoint.document.at(*place.split(".")[:-1]) if "." in place else EMPTY
    if holder.members.keys() & {"first", "last", "prev", "previous"}:
        return True
    marks = ("nextcursor", "cursor", "nexttoken", "nextpagetoken", "endcursor")
    if any(is_next(path) or fold(path.rpartition(".")[2]) in marks for path in beside):
        return True
    words = [set(tokens(p.name)) for p in endpoint.parameters]
    turning = [w for w in words if w & {"page", "offset", "cursor", "skip"} and not w & {"size", "limit", "per"}]
    return bool(turning and beside)


# Records


def _unreadable(record: Shape) -> str | None:
    """Why records of a shape cannot be read at all; None where they can, or where the file does not say."""
    if record.types and "object" not in record.types:
        return f"its records are {', '.join(sorted(record.types))}, not objects"
    names = record.members
    if names.keys() - ENVELOPE and "attributes" not in names:
        return "its records carry no attributes member, so they are no JSON:API records"
    for name, allowed in (("id", {"string", "integer"}), ("type", {"string"}), ("attributes", {"object"})):
        types = record.at(name).types
        if types and not types & allowed:
            return f"{name} of its records is {', '.join(sorted(types))}"
    return None


def _columns(stream: Stream, contract: Contract, endpoint: ListEndpoint) -> Iterator[Difference]:
    name, names, level = stream.name, contract.streams[stream.name], level_of(stream, contract)
    yield from _Held(level, contract).differences(members_of((), endpoint.record))
    if stream is not ACCOUNTS and not names.account_filter and not names_account(contract, endpoint):
        yield Difference("breaking", name, "no attribute or relationship names the account", "account_reference")
    if "status" in level.kinds:
        known = {spelling(s) for spellings in contract.statuses.booking.values() for s in spellings}
        for alias in names.columns["status"]:
            for word in endpoint.record.at("attributes", alias).words:
                if spelling(word) not in known:
                    told = f"a status without a word of ours: {word}"
                    yield Difference("harmless", name, told, "[statuses.booking]; kept as sent")
    if name == "bookings":
        people = _people(endpoint, names.columns["participants"])
        if people.members:
            are_resources = bool(people.at("id").types)
            level = level_of_participants(stream, contract, are_resources=are_resources, has_own_ids=False)
            yield from _Held(level, contract).differences(members_of((), people))


def _people(endpoint: ListEndpoint, aliases: tuple[str, ...]) -> Shape:
    """The shape of a participant as a resource: inside the booking, or the included resource that is named like it."""
    for alias in aliases:
        inner = endpoint.record.at("attributes", alias).items
        if inner is not None and inner.members:
            return Shape(members={"attributes": inner})
        if alias in endpoint.record.at("relationships").members:
            included = endpoint.document.at("included").items or EMPTY
            wanted = {fold(a) for a in aliases}
            each = included.variants or (included,)
            return next((s for s in each if {fold(w) for w in s.at("type").words} & wanted), EMPTY)
    return EMPTY


# Columns


def trouble(kind: str, shape: Shape) -> str | None:
    """Why a column of a kind cannot hold all that a schema lets through, as the end of a sentence; None where it can, or where the file does not say."""
    types, formats = shape.types, shape.formats
    if kind == "boolean" and types == {"string"} and shape.is_closed and set(shape.words) <= WORDS_OF_TRUTH:
        return None
    unread = types - READ.get(kind, types)
    if unread:
        return " or ".join(sorted(types))
    unfit = formats & (OTHER_FORMATS if kind == "instant" else MOMENTS if kind in NUMBERS else frozenset())
    if unfit and (not types or "string" in types):
        return f"{' or '.join(sorted(types)) or 'text'} in the format {', '.join(sorted(unfit))}"
    if kind == "reference" and shape.members and not types - {"object"} and "id" not in shape.members:
        return "an object without id"
    return None


def _trouble_inside(column: str, shape: Shape) -> str | None:
    """The same for the elements of a list."""
    if column not in ELEMENTS or shape.items is None:
        return None
    (types, member), element = ELEMENTS[column], shape.items
    if element.types - types:
        return f"a list of {' or '.join(sorted(element.types))}"
    if member is not None and element.members and element.types == {"object"} and member not in element.members:
        return f"a list of objects without {member}"
    return None


class _Held:
    """The columns of one level of a record, held against what the file says of it."""

    def __init__(self, level: Level, contract: Contract) -> None:
        self._level, self._stream = level, level.stream
        self._tables = contract.streams[level.stream].tables()
        self._is_generic = level.stream not in BUILT_IN
        self._known = contract.known.empty_columns
        self._holder = "" if level.table == "columns" else "participants."

    def differences(self, members: dict[str, Member]) -> Iterator[Difference]:
        """Columns without an attribute, or with one of the wrong form; attributes that no column takes."""
        result = self._level.match(members)
        for found in result.found:
            if not found.is_default:
                told = f"{found.column} would stay empty; {found.member} looks like it"
                yield self._breaking(found.column, told)
            else:
                yield from self._misfit(found.column, members[found.member])
        for column in result.empty:
            if column not in result.misfits:
                yield self._empty(column)
        for column, member in result.misfits.items():
            yield from self._misfit(column, members[member])
        if not self._is_generic:  # there, document is where everything belongs
            for member in result.unmapped:
                yield Difference("harmless", self._stream, f"{member} maps to no column", "kept in document")

    def _breaking(self, column: str, told: str) -> Difference:
        return Difference("breaking", self._stream, told, f"streams.{self._stream}.{self._level.table}.{column}")

    def _misfit(self, column: str, member: Member) -> Iterator[Difference]:
        told = trouble(self._level.kinds[column], member.shape) or _trouble_inside(column, member.shape)
        if told is not None:
            yield self._breaking(column, f"{member.name} is {told}, which {column} cannot hold")
        elif column in INSIDE:
            yield from self._misfit_inside(column, member)

    def _misfit_inside(self, column: str, member: Member) -> Iterator[Difference]:
        """Elements without a member that a sync reads; nothing of identifiers, whose resources are described elsewhere."""
        element, (table, needed) = member.shape.items or EMPTY, INSIDE[column]
        if element.members.keys() <= IDENTIFIER or "attributes" in element.members:
            return
        for inner in needed:
            if not element.members.keys() & {name.partition(".")[0] for name in self._tables[table][inner]}:
                told = f"{member.name} is a list of objects without {' or '.join(self._tables[table][inner])}"
                yield Difference("breaking", self._stream, told, f"streams.{self._stream}.{table}.{inner}")

    def _empty(self, column: str) -> Difference:
        name = f"{self._holder}{column}"
        if f"{self._stream}.{name}" in self._known:
            told = f"{name} has no attribute, as is known"
            return Difference("harmless", self._stream, told, "nothing needs doing")
        weight: Weight = "harmless" if self._is_generic else "breaking"
        cure = f"streams.{self._stream}.{self._level.table}.{column}, or known.empty_columns"
        return Difference(weight, self._stream, f"{name} has no attribute and would stay empty", cure)
