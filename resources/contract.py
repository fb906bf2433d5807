"""The contract as a typed, validated value: `contract.toml` with a user's own file laid over it, key by key.

What lives here: the model and the loading. What does not: any name of the API (those are in the TOML) and any use of them.
Units: `leeway_seconds` in seconds. Errors: `ContractError` with the path of the key and the nearest right one.
"""

from __future__ import annotations

import difflib
import keyword
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.errors import ContractError

DEFAULT_CONTRACT = Path(__file__).with_name("contract.toml")
# Tables whose keys are the user's to choose: words for statuses.
OPEN_TABLES = {("statuses", "booking"), ("statuses", "participant")}

# The entry that a stream of the user's own starts from.
GENERIC_EXAMPLE = "intent_events"
# Names that Dagster lets no asset have, beside Python's keywords.
DAGSTER_RESERVED = (
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input"),
    *("input_arg_dict", "int", "meta", "output", "output_arg_dict", "str", "type"),
)
# Tables of the streams' children, views of `marts`, Dagster assets and jobs of ours: a stream cannot be called so.
RESERVED = frozenset(
    {
        *DAGSTER_RESERVED,
        "analytics",
        "publish",
        "utc_offsets",
        "booking_customers",
        "booking_resources",
        "booking_answers",
        "customer_custom_fields",
        "customer_tags",
        "daily_bookings",
        "data_status",
        "nightly",
        "sweep",
    }
)

# Members that hold a document of JSON:API together.
_ENVELOPE = ("data", "included", "type", "id", "attributes", "relationships")

Names = tuple[str, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Http(_Part):
    """How answers are asked for."""

    media_type: str = Field(min_length=3)


class OAuth(_Part):
    """How a token is asked for (RFC 6749 sections 2.3.1 and 4.4)."""

    client_authentication: Literal["basic", "post"]
    scope: str
    leeway_seconds: int = Field(ge=0)


class Abilities(_Part):
    """What the server can do beyond plain lists."""

    page_size: bool
    filters: bool
    upper_bound: bool
    sort: bool
    include: bool
    single: bool


class Parameters(_Part):
    """Names of query parameters, and the page size; an empty name is never sent."""

    page_size: str
    page_size_value: str = Field(pattern=r"^[1-9]\d*$")
    updated_since: str
    updated_until: str
    account: str
    sort: str
    include: str


class Document(_Part):
    """Places in a list document, as dotted paths, and how this server writes what JSON:API leaves open."""

    next: str = Field(min_length=1)
    total: str
    lists_are_whole: bool
    null_is_empty: bool
    money_in_minor_units: bool
    shifting_parameters: Names
    ignored_marks: Names


class Redact(_Part):
    """Members that are removed wherever they stand."""

    members: Names


class AccountReference(_Part):
    """How a row names its account: relationships first, then attributes."""

    relationships: Names
    attributes: Names


class Statuses(_Part):
    """Stored word → spellings, for both levels of status (evidence 5.8)."""

    booking: dict[str, Names]
    participant: dict[str, Names]


class StreamContract(_Part):
    """One list endpoint. `columns` gives the names to look for, by column; the first present wins. The other `…_columns` are those inside its lists.

    `enabled` false: it is not read at all. `filters` false: never by change time here.
    """

    enabled: bool
    # No scheme, host, query or fragment: a path stays below the configured address (docs/guarantees.md, 6).
    path: str = Field(pattern=r"^/?[^/:?#\s][^:?#\s]*$")
    types: Names = Field(min_length=1)
    include: Names
    sort: str
    account_filter: bool
    filters: bool
    queries: tuple[dict[str, str], ...] = Field(min_length=1)
    columns: dict[str, Names]
    participant_columns: dict[str, Names] = {}
    answer_columns: dict[str, Names] = {}
    custom_field_columns: dict[str, Names] = {}
    date_fields: Names = ()

    def tables(self) -> dict[str, dict[str, Names]]:
        """The tables of names, by their keys in the file: of a record, and of what it lists."""
        return {
            "columns": self.columns,
            "participant_columns": self.participant_columns,
            "answer_columns": self.answer_columns,
            "custom_field_columns": self.custom_field_columns,
        }


class Plausible(_Part):
    """Names that `connect` tries, likeliest first; never used by a sync. `changes` are pairs of a lower and an upper bound."""

    page_size: Names
    page_size_values: Names
    changes: tuple[tuple[str, str], ...]
    account: Names
    sort: Names
    include: Names
    status: Names
    with_cancelled: Names
    paths: dict[str, Names]
    columns: dict[str, dict[str, Names]]


class Known(_Part):
    """What is known of this API besides its names. `empty_columns`: each `<stream>.<column>` that it has no attribute for."""

    empty_columns: Names


class Contract(_Part):
    """Every name of the API that the product uses."""

    http: Http
    oauth: OAuth
    abilities: Abilities
    parameters: Parameters
    document: Document
    redact: Redact
    account_reference: AccountReference
    statuses: Statuses
    streams: dict[str, StreamContract]
    plausible: Plausible
    known: Known


def spelling(word: str) -> str:
    """A word as it is compared with others: without case, spaces, underscores and hyphens."""
    return word.casefold().replace(" ", "").replace("_", "").replace("-", "")


def _add_streams(values: dict[str, Any], own: dict[str, Any], file: Path) -> None:
    """Give the default contract's `values` an entry for each stream that `own` adds: one that they do not know, with a path.

    A new stream is stored generically, as intent events are, so it starts from their entry.
    """
    streams, known = own.get("streams", {}), tuple(values["streams"])
    columns = values["plausible"]["columns"]
    for name, entry in streams.items() if isinstance(streams, dict) else ():
        if name in known or not isinstance(entry, dict):
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if "path" not in entry or close:
            near = close or difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            meant = f"Did you mean streams.{near[0]}? " if near else ""
            raise ContractError(
                f"{file}: streams.{name} is not a stream of the contract. {meant}A stream of your own needs at least a path, and a name "
                f"that is not nearly that of another."
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}(?<!_checks)", name) or name in RESERVED or keyword.iskeyword(name):
            raise ContractError(
                f"{file}: {name!r} cannot be the name of a stream, because a table and a Dagster asset are called so: small letters, digits and _, no "
                f"keyword of Python's, not _checks at its end, and none of {', '.join(sorted(RESERVED))}."
            )
        values["streams"][name] = values["streams"][GENERIC_EXAMPLE] | {"enabled": True, "types": [name]}
        columns[name] = columns[GENERIC_EXAMPLE]


def _meant(key: str, base: dict[str, Any], path: tuple[str, ...], whole: dict[str, Any]) -> str | None:
    """The key that was probably meant: the most similar one of the same table or, where it was written below the wrong table, of another."""
    tables = {name: table for name, table in whole.items() if isinstance(table, dict)}
    elsewhere = {inner: f"{name}.{inner}" for name, table in tables.items() for inner in table}
    here = {name: ".".join((*path, name)) for name in base}
    for names, cutoff in ((here, 0.8), (elsewhere, 0.8), (here, 0.4)):
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        if near:
            return names[near[0]]
    return None


def _overlay(
    base: dict[str, Any], own: dict[str, Any], path: tuple[str, ...], file: Path, whole: dict[str, Any]
) -> dict[str, Any]:
    """`own` laid over `base`, the table at `path` of the contract, which is `whole`; refuses a key that is none, and says which may be meant."""
    merged = dict(base)
    for key, value in own.items():
        here = (*path, key)
        if key not in base and path not in OPEN_TABLES:
            meant = _meant(key, base, path, whole)
            cure = f"Did you mean {meant}?" if meant else f"There are: {', '.join(sorted(base))}."
            raise ContractError(f"{file}: {'.'.join(here)} is not a key of the contract. {cure}")
        if isinstance(base.get(key), dict):
            if not isinstance(value, dict):
                raise ContractError(f"{file}: {'.'.join(here)} is a table; write its keys under [{'.'.join(here)}].")
            merged[key] = _overlay(base[key], value, here, file, whole)
        else:
            merged[key] = value
    return merged


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ContractError(f"APPOINTEDD_CONTRACT names {file}, which does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{file} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{file} is not valid TOML: {error}.") from None


def contract_values(own_file: Path | None = None, *, is_overlaid: bool = True) -> dict[str, Any]:
    """The contract as plain tables, before it is validated: the default, with `own_file` laid over it where one is given.

    Not `is_overlaid`: what each key would be without its line in that file. The streams that the file adds are there nevertheless.
    """
    values = _read(DEFAULT_CONTRACT)
    if own_file is None:
        return values
    own = _read(own_file)
    _add_streams(values, own, own_file)
    return _overlay(values, own, (), own_file, values) if is_overlaid else values


def load_contract(own_file: Path | None = None) -> Contract:
    """The default contract, with `own_file` laid over it where one is given; raises `ContractError`."""
    values = contract_values(own_file)
    try:
        contract = Contract.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{own_file or DEFAULT_CONTRACT}: {'.'.join(map(str, e['loc']))}: {e['msg']}; found {e['input']!r}."
            for e in error.errors()
        ]
        raise ContractError("\n".join(lines)) from None
    _refuse_contradictions(contract, own_file or DEFAULT_CONTRACT)
    return contract


def _refuse_contradictions(contract: Contract, file: Path) -> None:
    """Raise `ContractError` where the account list is not to be read, or where a member that is needed is not to be stored."""
    if not contract.streams["accounts"].enabled:
        raise ContractError(
            f"{file}: streams.accounts.enabled cannot be false, since each run goes by the account list. Take the line out; SYNC_ACCOUNTS chooses accounts."
        )
    secret = set(map(spelling, contract.redact.members))
    if envelope := secret.intersection(_ENVELOPE):
        raise ContractError(
            f"{file}: redact.members names {', '.join(sorted(envelope))}, of which every record of JSON:API is made, so nothing could be read again from what "
            f"is stored. Name the members inside it."
        )
    read = [(f"account_reference.{place}", name) for place, names in contract.account_reference for name in names]
    read += [
        (f"streams.{stream}.{table}.{column}", name)
        for stream, own in contract.streams.items()
        for table, columns in own.tables().items()
        for column, names in columns.items()
        for name in names
    ]
    for place, name in read:
        if spelling(name) in secret or not secret.isdisjoint(map(spelling, name.split("."))):
            raise ContractError(
                f"{file}: redact.members takes out what {place} reads, {name!r}. Take it out of one of the two; a column without names stays empty."
            )
