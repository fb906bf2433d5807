"""What differs between the streams, as data: tables, columns, kinds of value, children. No control flow lives here.

The names a column has in the API are in `resources/contract.toml`; its SQL type and comment in `sql/schema`. A test holds all three together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import polars as pl

from resources.abilities import Abilities
from resources.contract import Contract
from resources.part import Table

Kind = Literal[
    "text", "reference", "instant", "money", "number", "integer", "boolean", "date", "json", "zone", "status"
]

DTYPES: dict[Kind, pl.DataType] = {
    "text": pl.String(),
    "reference": pl.String(),
    "instant": pl.Datetime("us", "UTC"),
    "money": pl.Decimal(18, 4),
    "number": pl.Decimal(38, 9),
    "integer": pl.Int32(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "json": pl.String(),
    "zone": pl.String(),
    "status": pl.String(),
}


@dataclass(frozen=True)
class Column:
    """One column that comes from the API. A `status` column is stored in the contract's words, beside its `<name>_raw`."""

    name: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Child:
    """A child table: the rows that one parent record lists. `key` comes after the parent's own key.

    `lists`: where in the contract's tables the names of the list stand, and before them those of a list around it; `members`: the table with the names of
    what its elements hold, "" where there is none. `list_of`: the column of `key` whose values have a list each, where the rows do not stand in one list of
    the parent's.
    """

    table: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    lists: tuple[tuple[str, str], ...]
    members: str = ""
    list_of: str | None = None


@dataclass(frozen=True)
class Stream:
    """One kind of API record. `name` is that of its table in the schema `core`, too. `id_column` is None where the account is the record.

    A generic stream has no columns of its own but the instants.
    """

    name: str
    id_column: str | None
    columns: tuple[Column, ...]
    children: tuple[Child, ...] = ()
    is_generic: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """Key columns of the stream's table; always led by `account_id`."""
        return ("account_id", self.id_column) if self.id_column else ("account_id",)

    @property
    def target(self) -> Table:
        """Where the stream's batches go."""
        list_of = {child.table: child.list_of for child in self.children if child.list_of}
        return Table(self.name, self.key, {child.table: child.key for child in self.children}, list_of)


def _columns(**kinds: Kind) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


STAMPS = _columns(created_at="instant", updated_at="instant")

ACCOUNTS = Stream(
    name="accounts",
    id_column=None,
    columns=_columns(name="text", slug="text", time_zone="zone", currency="text") + STAMPS,
)

CUSTOMERS = Stream(
    name="customers",
    id_column="customer_id",
    columns=_columns(
        first_name="text",
        last_name="text",
        email="text",
        mobile="text",
        phone="text",
        is_marketing_opted_in="boolean",
    )
    + STAMPS,
    children=(
        Child(
            table="customer_custom_fields",
            key=("field_id",),
            columns=_columns(
                value_kind="text",
                value_raw="json",
                value_text="text",
                value_number="number",
                is_value_true="boolean",
                value_on="date",
            ),
            lists=(("columns", "custom_fields"),),
            members="custom_field_columns",
        ),
        Child(table="customer_tags", key=("tag",), columns=(), lists=(("columns", "tags"),)),
    ),
)

BOOKINGS = Stream(
    name="bookings",
    id_column="booking_id",
    columns=_columns(
        service_id="reference",
        service_name="text",
        event_id="reference",
        start_at="instant",
        end_at="instant",
        buffer_start_at="instant",
        buffer_end_at="instant",
        time_zone="zone",
        status="status",
        booking_type="text",
        price="money",
        total_spaces_count="integer",
        max_occupancy_count="integer",
        is_online_group_allowed="boolean",
        created_source="text",
        last_modified_source="text",
    )
    + STAMPS,
    children=(
        Child(
            table="booking_customers",
            key=("customer_booking_id",),
            columns=_columns(
                customer_id="reference",
                status="status",
                spaces_count="integer",
                total_spaces_count="integer",
                total_price="money",
                is_paid="boolean",
                paid_online_amount="money",
                booking_source="text",
                time_zone="zone",
                locale="text",
                notes="text",
                price_points="json",
            )
            + STAMPS,
            lists=(("columns", "participants"),),
            members="participant_columns",
        ),
        Child(
            table="booking_resources",
            key=("resource_id",),
            columns=_columns(resource_name="text"),
            lists=(("columns", "resources"),),
        ),
        Child(
            table="booking_answers",
            key=("customer_booking_id", "question_id"),
            columns=_columns(label="text", answer_kind="text", answer_text="text", is_answer_true="boolean"),
            lists=(("columns", "participants"), ("participant_columns", "answers")),
            members="answer_columns",
            list_of="customer_booking_id",
        ),
    ),
)

EVENTS = Stream(
    name="events",
    id_column="event_id",
    columns=_columns(
        service_id="reference",
        title="text",
        start_at="instant",
        end_at="instant",
        time_zone="zone",
        status="status",
        capacity_count="integer",
        spaces_taken_count="integer",
    )
    + STAMPS,
)

BUILT_IN: dict[str, Stream] = {s.name: s for s in (ACCOUNTS, CUSTOMERS, BOOKINGS, EVENTS)}


def generic(name: str) -> Stream:
    """A stream that a contract adds."""
    return Stream(name, "record_id", STAMPS, is_generic=True)


def streams_of(contract: Contract) -> dict[str, Stream]:
    """The streams that a contract switches on, by name, in the order of a run; those that it adds are generic."""
    return {
        name: BUILT_IN.get(name) or generic(name)
        for name in [*BUILT_IN, *(n for n in contract.streams if n not in BUILT_IN)]
        if contract.streams[name].enabled
    }


def changing(contract: Contract) -> tuple[Stream, ...]:
    """The streams that are read by change time; the accounts are read whole at the start of every run."""
    return tuple(stream for stream in streams_of(contract).values() if stream is not ACCOUNTS)


def asked_of(stream: Stream, contract: Contract) -> frozenset[str]:
    """What a list is asked for whatever the window, in parts: where one is new, rows or what comes with them were never asked for before."""
    own, is_included = contract.streams[stream.name], Abilities(contract).has(stream.name, "include")
    words = ("", *own.include) if is_included else ("",)
    return frozenset(
        json.dumps([own.path.strip("/"), query, word], sort_keys=True) for query in own.queries for word in words
    )


def unnamed(stream: Stream, contract: Contract) -> dict[str, list[str] | None]:
    """The columns for which a contract has no name, by table; None where it has none for the whole list that a child table holds.

    Ids are left out, since linkage says them too, and so is what kind of value there was.
    """
    if stream.is_generic:
        return {}
    names = contract.streams[stream.name].tables()
    found: dict[str, list[str] | None] = {stream.name: _without_names(stream.columns, names["columns"])}
    for child in stream.children:
        if not all(names[table][column] for table, column in child.lists):
            found[child.table] = None
        elif child.members:
            found[child.table] = _without_names(child.columns, names[child.members])
    return found


def _without_names(columns: tuple[Column, ...], names: Mapping[str, tuple[str, ...]]) -> list[str]:
    found = []
    for column in columns:
        # What the contract does not list is read out of the element's free value.
        if (
            column.kind != "reference"
            and not column.name.endswith("_kind")
            and not names.get(column.name, names.get("value"))
        ):
            found += [column.name, *([f"{column.name}_raw"] if column.kind == "status" else ())]
    return found


# Raised whenever code begins to read records otherwise, so that rows which older code has shaped are told from new ones (`sql/checks/several_contracts.sql`).
SHAPING = 2


def shape_of(stream: Stream, contract: Contract) -> str:
    """A hash of what shapes the columns of a stream, in a contract and in code: under another one the same records may give other values."""
    own = contract.streams[stream.name]
    columns = [*stream.columns, *(column for child in stream.children for column in child.columns)]
    has_status = any(column.kind == "status" for column in columns)
    words = contract.statuses.model_dump() if has_status else {}
    shaping = [SHAPING, own.tables(), own.date_fields, contract.redact.members, words]
    if contract.document.money_in_minor_units and any(column.kind == "money" for column in columns):
        shaping.append("minor units")
    if stream.name == BOOKINGS.name:  # their types tell customers whom a booking names from participations
        shaping.append(contract.streams[CUSTOMERS.name].types)
    return blake2b(json.dumps(shaping, sort_keys=True).encode(), digest_size=8).hexdigest()
