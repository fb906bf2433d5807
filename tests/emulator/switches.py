"""Every choice in which a plausible API V2 may differ from the default dialect, and the names it speaks.

No behaviour lives here: `render`, `query` and `api` read these values. Names are given in the default dialect (camelCase,
`accounts`) throughout the package; `Naming` turns them into the names that go over the wire.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_PATHS = {"intentEvents": "intent-events"}
_HEX_ID = re.compile(r"[0-9a-f]{24}")
_ACCOUNT = re.compile(r"(?<![A-Za-z])account|Account")


@dataclass(frozen=True, slots=True)
class Naming:
    """How paths, types, relationships, attributes and parameters are spelt.

    The mappings take a name of the default dialect to the exact name on the wire, and win over `attribute_case` and `account_word`.
    `renames` serves attributes (also as sort fields): `{"created": "created_at"}`. `parameters` takes whole parameters:
    `{"filter[updatedAfter]": "filter[since]", "page[size]": "page[limit]"}`.
    """

    attribute_case: Literal["camel", "snake", "kebab"] = "camel"
    account_word: Literal["account", "organisation"] = "account"
    paths: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    relationships: Mapping[str, str] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def _spell(self, name: str) -> str:
        if self.account_word == "organisation":
            name = _ACCOUNT.sub(lambda m: "Organisation" if m[0][0] == "A" else "organisation", name)
        if self.attribute_case != "camel":
            mark = "_" if self.attribute_case == "snake" else "-"
            name = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: mark + m[1].lower(), name)
        return name

    def path(self, stream: str) -> str:
        """Path of a collection under /v2; the stream is named by its default type."""
        return self.paths.get(stream) or self._spell(_PATHS.get(stream, stream))

    def type(self, name: str) -> str:
        """Value of `type`."""
        return self.types.get(name) or self._spell(name)

    def relationship(self, name: str) -> str:
        """Name of a relationship, also in `include`."""
        return self.relationships.get(name) or self._spell(name)

    def attribute(self, name: str) -> str:
        """Name of an attribute, also in `sort`."""
        return self.renames.get(name) or self._spell(name)

    def parameter(self, name: str) -> str:
        """Name of a query parameter."""
        return self.parameters.get(name) or self._spell(name)


ORGANISATIONS = Naming(
    attribute_case="snake", account_word="organisation", renames={"created": "created_at", "updated": "updated_at"}
)
"""A second dialect, ready for use: organisations, snake_case, `created_at` and `updated_at`."""


@dataclass(frozen=True, slots=True)
class Switches:
    """One dialect of the API; the default is the recommended contract (evidence file, section 7)."""

    paging: Literal["cursor", "number", "offset"] = "cursor"
    unknown_parameters: Literal["refuse", "ignore"] = "refuse"  # ignore: also those of abilities that are switched off
    page_size: bool = True  # off: the parameter is answered with 400
    max_page_size: int = 100
    over_max: Literal["refuse", "cap"] = "refuse"
    default_page_size: int = 10
    sort: bool = True
    filters: bool = True
    filtered: frozenset[str] = frozenset(
        {"customers", "bookings", "events"}
    )  # collections that know the filters at all
    change_filter_reads: Literal["updated", "created", "start", "day"] = (
        "updated"  # what filter[updated…] compares; day: whole days only
    )
    upper_bound: bool = True  # off: filter[updatedBefore] and filter[createdBefore] are answered with 400
    bounds: Literal["inclusive", "exclusive"] = "inclusive"
    account_filter: frozenset[str] = frozenset({"customers"})  # collections that know filter[account]
    include: bool = True
    participants: Literal["included", "attribute", "attribute_without_ids"] = "included"
    embedded_service: bool = False  # on: bookings carry {"id", "name"} under attributes.service, and no relationship
    embedded_profile: bool = False  # on: names and addresses of customers stand under attributes.profile, as in V1
    ids: Literal["hex", "integer"] = "hex"
    linkage_only: bool = False  # bookings name their participants by a link alone: no `data`, nothing in `included`
    media_type: Literal["vnd", "plain"] = "vnd"
    links: Literal["absolute", "relative", "object"] = "absolute"
    next_in: str = "links.next"  # dotted path in the document, or "header" for a Link header
    cancelled_in_default_list: bool = True
    meta_total: Literal["present", "absent"] = "absent"
    total_in: str = "meta.total"
    default_order: Literal["newest_first", "oldest_first", "natural"] = "newest_first"
    account_in: Literal["relationship", "attribute", "absent"] = "relationship"
    account_time_zone_sent: bool = False  # on: accounts carry `timezone` and `currency`
    updated_sent: bool = True
    participant_change_moves_updated: bool = True
    instants: Literal["z", "offset"] = "z"  # 2026-03-02T02:00:00.000Z or …+00:00
    rate_headers: bool = False  # on: X-RateLimit-Limit and -Remaining, a minute's worth
    client_authentication: Literal["basic", "post", "both"] = "both"
    token_lifetime: int = 3600  # seconds, judged by the world clock
    expires_in_sent: bool = True
    gzip: bool = False  # on: compressed when Accept-Encoding asks for it
    naming: Naming = field(default_factory=Naming)

    def shown_id(self, record_id: str) -> str | int:
        """An id as it goes over the wire."""
        return int(record_id[-6:], 16) if self.ids == "integer" and _HEX_ID.fullmatch(record_id) else record_id
