"""Reads the query parameters of a list or a single record, as strictly as JSON:API asks: whatever is not supported is a 400."""

import base64
import binascii
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .clock import EPOCH
from .entities import Record
from .messages import ApiError, bad_parameter
from .switches import Switches
from .tables import Key

INCLUDES = {
    "customers": ("account",),
    "bookings": ("account", "service", "resources", "customerBookings", "customerBookings.customer"),
    "events": ("account", "service", "resources"),
}
_CHANGES = ("updatedAfter", "updatedBefore", "createdAfter", "createdBefore")
FILTERS = {
    "customers": ("account", *_CHANGES),
    "bookings": ("account", *_CHANGES, "status", "startAfter", "endBefore"),
    "events": ("account", *_CHANGES, "status", "startAfter", "endBefore"),
}
RANGES = {
    "updatedAfter": ("updated", True),
    "updatedBefore": ("updated", False),
    "createdAfter": ("created", True),
    "createdBefore": ("created", False),
    "startAfter": ("start", True),
    "endBefore": ("end", False),
}
Range = tuple[int, int]
_ORDERS: dict[str, tuple[str, bool]] = {
    "newest_first": ("created", True),
    "oldest_first": ("created", False),
    "natural": ("id", False),
}


@dataclass(slots=True)
class Query:
    """What a request asks for. `ranges` are milliseconds, both ends included."""

    sort: str = "id"
    descending: bool = False
    size: int = 10
    after: Key | None = None
    before: Key | None = None
    skip: int = 0
    accounts: set[str] | None = None
    statuses: set[str] | None = None
    ranges: dict[str, Range] = field(default_factory=dict)
    include: set[str] = field(default_factory=set)
    fields: dict[str, set[str]] = field(default_factory=dict)


def encode_cursor(sort: str, key: Key) -> str:
    """An opaque place in an order: it stays good when the record it was made from is gone."""
    return base64.urlsafe_b64encode(f"{sort}|{key[0]}|{key[1]}".encode()).decode().rstrip("=")


def decode_cursor(text: str, sort: str, parameter: str) -> Key:
    """The place a cursor stands for; 400 unless this server made it for this order."""
    try:
        made_for, ms, record_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("|")
        key = int(ms), record_id
    except (ValueError, binascii.Error) as error:
        raise bad_parameter(parameter, "The cursor is unknown.") from error
    if made_for != sort or encode_cursor(sort, key) != text:
        raise bad_parameter(parameter, "The cursor is unknown.")
    return key


def _whole_number(text: str, low: int, high: int, parameter: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise bad_parameter(parameter, f"Must be a whole number from {low} to {high}.")
    return int(text)


def _end_of_range(text: str, *, after: bool, inclusive: bool, parameter: str) -> int:
    """The first or last millisecond that an instant lets through, compared at full precision."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_parameter(parameter, "Must be an ISO 8601 date-time.") from error
    if instant.tzinfo is None or len(text) < 17:
        raise bad_parameter(parameter, "Must be an ISO 8601 date-time with an offset.")
    whole, rest = divmod((instant - EPOCH) // timedelta(microseconds=1), 1000)
    if after:
        return whole if inclusive and rest == 0 else whole + 1
    return whole - 1 if rest == 0 and not inclusive else whole


class QueryReader:
    """Knows the parameters of one dialect by the names that the dialect gives them."""

    def __init__(self, switches: Switches, accounts: Iterable[Record] = ()) -> None:
        self._switches = switches
        self._accounts = accounts
        naming = switches.naming
        paging: dict[str, tuple[str, ...]] = {
            "cursor": ("page[after]", "page[before]"),
            "number": ("page[number]",),
            "offset": ("page[offset]",),
        }
        shared = [*paging[switches.paging], *(["page[size]"] if switches.page_size else [])]
        self._known: dict[str, dict[str, str]] = {}
        for stream in ("accounts", "customers", "bookings", "events", "intentEvents"):
            names = [*shared, *(["sort"] if switches.sort and stream in FILTERS else [])]
            for name in FILTERS.get(stream, ()) if switches.filters and stream in switches.filtered else ():
                if name in ("updatedBefore", "createdBefore") and not switches.upper_bound:
                    continue
                if name != "account":
                    names.append(f"filter[{name}]")
            if stream in switches.account_filter:
                names.append("filter[account]")
            if switches.include and self.includes(stream):
                names.append("include")
            self._known[stream] = {naming.parameter(name): name for name in names}
        self._sorts = {naming.attribute(name): name for name in ("created", "updated")}
        kinds = (
            "accounts",
            "customers",
            "bookings",
            "events",
            "intentEvents",
            "customerBookings",
            "services",
            "resources",
        )
        self._types = {naming.type(name) for name in kinds}
        self.paging_names = {naming.parameter(name) for name in paging[switches.paging]}
        self.name = naming.parameter

    def _inner_id(self, sent: str) -> str:
        """The id inside the world of one that came over the wire."""
        if self._switches.ids == "hex":
            return sent
        return next((one.id for one in self._accounts if str(self._switches.shown_id(one.id)) == sent), sent)

    def includes(self, stream: str) -> dict[str, str]:
        """Include paths as spelt in this dialect, with their default names."""
        relationship = self._switches.naming.relationship
        paths = {".".join(relationship(part) for part in path.split(".")): path for path in INCLUDES.get(stream, ())}
        if self._switches.participants != "included":
            paths = {sent: path for sent, path in paths.items() if not path.startswith("customerBookings")}
        return paths

    def parameters(self, stream: str) -> dict[str, str]:
        """The parameters that a collection knows: names on the wire, with their default names."""
        return self._known[stream]

    @property
    def sorts(self) -> dict[str, str]:
        """The fields that can be sorted by: names on the wire, with their default names."""
        return self._sorts

    def read(self, stream: str, pairs: Iterable[tuple[str, str]], *, single: bool = False) -> Query:
        """The query of a request; raises ApiError(400) at the first parameter at fault."""
        switches, known = self._switches, self._known[stream]
        values: dict[str, str] = {}
        query = Query(size=switches.default_page_size)
        for sent, value in pairs:
            if sent.startswith("fields[") and sent.endswith("]") and sent[7:-1] in self._types:
                query.fields[sent[7:-1]] = {name for name in value.split(",") if name}
                continue
            name = known.get(sent)
            if name is None or (single and name != "include"):
                if switches.unknown_parameters == "ignore":
                    continue
                raise bad_parameter(sent)
            if name in values:
                raise bad_parameter(sent, "The parameter is repeated.")
            values[name] = value
        query.sort, query.descending = _ORDERS[switches.default_order]
        for name, value in values.items():
            self._apply(stream, query, name, value)
        # The cursor last: it is only good for the order asked for.
        if "page[after]" in values:
            query.after = decode_cursor(values["page[after]"], query.sort, self.name("page[after]"))
        if "page[before]" in values:
            query.before = decode_cursor(values["page[before]"], query.sort, self.name("page[before]"))
        if query.after and query.before:
            raise bad_parameter(self.name("page[before]"), "A page is either after or before a cursor.")
        if "page[number]" in values:
            number = _whole_number(values["page[number]"], 1, 10**9, self.name("page[number]"))
            query.skip = (number - 1) * query.size
        if "page[offset]" in values:
            query.skip = _whole_number(values["page[offset]"], 0, 10**11, self.name("page[offset]"))
        return query

    def _apply(self, stream: str, query: Query, name: str, value: str) -> None:
        sent = self.name(name)
        if name == "page[size]":
            limit = self._switches.max_page_size
            query.size = min(_whole_number(value, 1, 10**6 if self._switches.over_max == "cap" else limit, sent), limit)
        elif name == "sort":
            if value.removeprefix("-") not in self._sorts:
                if self._switches.unknown_parameters == "ignore":
                    return
                raise bad_parameter(sent, "The sort field is not supported.")
            query.sort, query.descending = self._sorts[value.removeprefix("-")], value.startswith("-")
        elif name == "include":
            paths = self.includes(stream)
            for path in value.split(",") if value else ():
                if path not in paths:
                    if self._switches.unknown_parameters == "ignore":
                        continue
                    raise ApiError(400, "invalid_include", "The include path is not supported.", parameter=sent)
                query.include.add(paths[path])
                query.include.add(paths[path].split(".")[0])
        elif name == "filter[account]":
            query.accounts = {self._inner_id(one) for one in value.split(",")}
        elif name == "filter[status]":
            query.statuses = set(value.split(","))
        elif name.startswith("filter["):
            field_name, after = RANGES[name[7:-1]]
            reads = self._switches.change_filter_reads
            if field_name == "updated" and reads == "day":
                value = value[:10] + ("T00:00:00Z" if after else "T23:59:59.999Z")
            elif field_name == "updated":
                field_name = reads
            inclusive = self._switches.bounds == "inclusive"
            limit = _end_of_range(value, after=after, inclusive=inclusive, parameter=sent)
            low, high = query.ranges.get(field_name, (-sys.maxsize, sys.maxsize))
            query.ranges[field_name] = (limit, high) if after else (low, limit)
