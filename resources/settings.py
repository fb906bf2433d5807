"""Everything a user may set, from the environment, an `.env` file or secret files, validated, with sentences for what is wrong.

What lives here: names, defaults, types, examples. What does not: the API's names (`contract.toml`) and anything that opens a socket or a file of data.
Precedence: environment, then the `.env` file, then secret files, then the defaults below. Secrets are `SecretStr`: they show as `**********`.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from resources.errors import SettingsError

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
PREFIXES = ("APPOINTEDD_", "SYNC_", "WAREHOUSE_")
ENV_FILE_VARIABLE = "APPOINTEDD_ENV_FILE"
# The override of the contract that `connect` writes: picked up from the project's folder where APPOINTEDD_CONTRACT names nothing else.
LOCAL_CONTRACT = "contract.local.toml"
SECRETS_FOLDER = Path("/run/secrets")


def _from_project(path: Path) -> Path:
    return path if path.is_absolute() else PROJECT_FOLDER / path


@cache
def _zones() -> frozenset[str]:
    # Asked for once: each call walks through the whole folder of zones, which takes 20 ms, and there may be a zone for each account. "localtime" is the
    # machine's own: DuckDB does not know it, and on another machine it is another zone.
    return frozenset(available_timezones() - {"localtime"})


def _told_from_schemas(path: Path) -> Path:
    """Refuse a file that DuckDB, which calls an open one by its name up to the first dot, would confuse with a schema in it."""
    if path.name.lstrip(".").partition(".")[0].lower() in ("core", "history", "marts", "ops"):
        raise ValueError(
            f"{path.name} has the name of a schema in it, which DuckDB could not tell apart; choose another"
        )
    return path


def _zone(name: str) -> str:
    if name not in _zones():
        near = difflib.get_close_matches(name, sorted(_zones()), n=1, cutoff=0.6)
        raise ValueError(f"{name!r} is not an IANA time zone" + (f"; did you mean {near[0]}?" if near else ""))
    return name


def _cron(text: str) -> str:
    # Only the shape is judged, so that the command line needs no Dagster, which judges the values when it loads the schedule.
    if not re.fullmatch(r"[\d\w*/,#?-]+(\s+[\d\w*/,#?-]+){4}", text.strip()):
        raise ValueError(f"{text!r} is not a cron expression of five fields")
    return text


def _origin_is_safe(url: str) -> str:
    """Plain http only to a loopback address: a token is a password (docs/guarantees.md, 6)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is not an http(s) address")
    _ = parts.port  # raises ValueError where it is out of range
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address here carries no user name, password, query or fragment")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError("plain http is accepted for this machine only (127.0.0.1, localhost); use https")
    return url.rstrip("/")


def _sendable(text: str) -> str:
    """Refuse what no request can carry: bytes of the environment that are no UTF-8 arrive here as halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8 text") from None  # the codec's own words would quote a piece of it
    return text


def _sendable_secret(secret: SecretStr) -> SecretStr:
    return SecretStr(_sendable(secret.get_secret_value()))


FromProject = Annotated[Path, AfterValidator(_from_project)]
DatabaseFile = Annotated[FromProject, AfterValidator(_told_from_schemas)]
Zone = Annotated[str, AfterValidator(_zone)]
Cron = Annotated[str, AfterValidator(_cron)]
Address = Annotated[str, AfterValidator(_origin_is_safe)]
ClientId = Annotated[str, AfterValidator(_sendable)]
ClientSecret = Annotated[SecretStr, AfterValidator(_sendable_secret)]


class ClientSettings(BaseModel):
    """One API client (OAuth client credentials); it sees one or more accounts."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(min_length=1)
    client_id: ClientId = Field(min_length=1)
    client_secret: ClientSecret = Field(min_length=1)


@dataclass(frozen=True)
class ApiAccess:
    """What is needed to call the API: both addresses and at least one API client."""

    base_url: str
    token_url: str
    clients: tuple[ClientSettings, ...]

    @property
    def doubts(self) -> list[str]:
        """A sentence for API clients with the same id: mostly an entry was copied, and its own id and secret were forgotten."""
        names: dict[str, list[str]] = {}
        for client in self.clients:
            names.setdefault(client.client_id, []).append(client.name)
        return [
            f"APPOINTEDD_CLIENTS: {' and '.join(map(repr, same))} have the same client id, so they see the same accounts. Give each API client its own id and "
            f"secret, or take {'one' if len(same) == 2 else 'all but one'} of them out."
            for same in names.values()
            if len(same) > 1
        ]


class Settings(BaseSettings):
    """The settings; each field's name in capitals is the variable. Field order is the order of `.env.example`."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True)

    appointedd_base_url: Address | None = Field(
        None, description="Address of the API, without a collection", examples=["https://api.example.com/v2"]
    )
    appointedd_token_url: Address | None = Field(
        None, description="Address of the OAuth 2.0 token endpoint", examples=["https://api.example.com/oauth/token"]
    )
    appointedd_client_id: ClientId | None = Field(None, description="Client id of one API client", examples=["5f3c…"])
    appointedd_client_secret: ClientSecret | None = Field(
        None, description="Its secret, shown once when the API client was made", examples=["the-secret"]
    )
    appointedd_clients: tuple[ClientSettings, ...] = Field(
        (),
        description="Several API clients as a JSON list; instead of APPOINTEDD_CLIENT_ID",
        examples=['[{"name": "north", "client_id": "…", "client_secret": "…"}]'],
    )
    appointedd_contract: FromProject | None = Field(
        None,
        description="A TOML file that overrides resources/contract.toml key by key",
        examples=["contract.local.toml"],
    )
    warehouse_path: DatabaseFile = Field(
        Path("data/warehouse.duckdb"),
        validate_default=True,
        description="The working file: the sync's own, not for analysts",
        examples=["data/warehouse.duckdb"],
    )
    warehouse_published_path: DatabaseFile = Field(
        Path("data/analytics.duckdb"),
        validate_default=True,
        description="The published file that analysts open",
        examples=["data/analytics.duckdb"],
    )
    warehouse_memory_limit_mb: int = Field(
        512, ge=64, description="Memory that DuckDB may use while writing, in MB", examples=["512"]
    )
    sync_accounts: tuple[str, ...] = Field(
        (),
        description="Read only these accounts, by slug or id, as a JSON list; with ! before each, all but these",
        examples=['["northgate-london", "northgate-madrid"]'],
    )
    sync_time_zone: Zone = Field(
        "UTC", description="Zone of the schedule and of the change-day partitions", examples=["Europe/London"]
    )
    sync_schedule: Cron = Field("0 2 * * *", description="When the nightly runs (cron)", examples=["0 2 * * *"])
    sync_sweep_schedule: Cron = Field("0 4 * * 0", description="When the sweep runs (cron)", examples=["0 4 * * 0"])
    sync_history_start: date = Field(
        date(2015, 1, 1),
        ge=date(1970, 1, 1),
        le=date(9000, 1, 1),
        description="First change-day partition and first cut of a first load; it never excludes rows",
        examples=["2015-01-01"],
    )
    sync_overlap_minutes: int = Field(
        1440,
        ge=0,
        le=5_256_000,
        description="How far each nightly reaches back before the newest window",
        examples=["1440"],
    )
    sync_freshness_hours: float = Field(
        36,
        gt=0,
        description="A stream of an account that lags so many hours behind the last run is stale",
        examples=["36"],
    )
    sync_brake_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A sweep that would retire more than this share of an account's rows, and more than SYNC_BRAKE_COUNT, stops there",
        examples=["0.05"],
    )
    sync_brake_count: int = Field(
        50, ge=0, description="See SYNC_BRAKE_SHARE; both must be passed before a sweep stops", examples=["50"]
    )
    sync_concurrency: int = Field(4, ge=1, le=64, description="Slices fetched side by side", examples=["4"])
    sync_requests_per_second: float = Field(
        10, gt=0, description="Rate budget of each API client, in requests a second", examples=["10"]
    )
    sync_account_time_zones: dict[str, Zone] = Field(
        default_factory=dict,
        description="Time zone of each account, by slug or id, as a JSON object",
        examples=['{"northgate-madrid": "Europe/Madrid"}'],
    )

    @field_validator("sync_accounts")
    @classmethod
    def _all_or_none_excluded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len({n.startswith("!") for n in names}) > 1:
            raise ValueError(
                "some names begin with ! and others do not; list the accounts to read, or those to leave out"
            )
        if any(not n.removeprefix("!").strip() for n in names):
            raise ValueError("a name is empty")
        return names

    def api_access(self) -> ApiAccess:
        """The addresses and API clients, complete; raises `SettingsError` naming what is missing."""
        base_url, token_url = self.appointedd_base_url, self.appointedd_token_url
        client_id, secret = self.appointedd_client_id, self.appointedd_client_secret
        if self.appointedd_clients and (client_id or secret):
            raise SettingsError(
                "APPOINTEDD_CLIENTS and APPOINTEDD_CLIENT_ID are both set; keep one of them: "
                "the list for several API clients, the id and secret for one."
            )
        clients = self.appointedd_clients
        if not clients and client_id and secret:
            clients = (ClientSettings(name="default", client_id=client_id, client_secret=secret),)
        if base_url is None or token_url is None or not clients:
            needed: dict[str, object] = {"appointedd_base_url": base_url, "appointedd_token_url": token_url}
            if not clients:
                needed |= {"appointedd_client_id": client_id, "appointedd_client_secret": secret}
            is_missed = env_file() is None and os.environ.get(ENV_FILE_VARIABLE) is None
            wrong = "is not set" + (f", and there is no {PROJECT_FOLDER / '.env'}" if is_missed else "")
            raise SettingsError("\n".join(_sentence(n, wrong) for n, value in needed.items() if value is None))
        if len({c.name for c in clients}) != len(clients):
            raise SettingsError("APPOINTEDD_CLIENTS: two API clients have the same name; give each a name of its own.")
        return ApiAccess(base_url, token_url, clients)

    @cached_property
    def zone(self) -> ZoneInfo:
        """`SYNC_TIME_ZONE` as a zone."""
        return ZoneInfo(self.sync_time_zone)

    @cached_property
    def history_start_at(self) -> datetime:
        """Midnight of `SYNC_HISTORY_START` in `SYNC_TIME_ZONE`, as a UTC instant."""
        start = self.sync_history_start
        return datetime(start.year, start.month, start.day, tzinfo=self.zone).astimezone(UTC)


def _sentence(field: str, wrong: str) -> str:
    variable = field.upper()
    info = Settings.model_fields[field]
    example = f" Example: {variable}={info.examples[0]}" if info.examples else ""
    return f"{variable} {wrong}{'' if wrong.endswith('?') else '.'} {info.description}.{example}"


def _refuse_strangers(names: list[str], where: str, *, near_only: bool) -> None:
    """Refuse a misspelt variable, which would otherwise be ignored without a word.

    With `near_only` only a near miss is refused: in the environment other programs may own names with our prefixes.
    """
    known = [n.upper() for n in Settings.model_fields] + [ENV_FILE_VARIABLE]
    for name in names:
        if name.upper() in known or not name.upper().startswith(PREFIXES):
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.88 if near_only else 0.5)
        if near or not near_only:
            hint = f" Did you mean {near[0]}?" if near else " See .env.example for the names there are."
            raise SettingsError(f"{name} in {where} is not a setting of this product.{hint}")


def _names_in(file: Path) -> list[str]:
    """The names that an `.env` file sets. Refuses a line that is no assignment: it would be skipped, with whatever it should have set."""
    try:
        lines = list(parse_stream(StringIO(file.read_text(encoding="utf-8"))))
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text; save it as UTF-8.") from None
    for line in lines:
        if line.error:
            raise SettingsError(
                f"{file}, line {line.original.line}: this is no setting. Write NAME=value, with a value that holds spaces in quotes."
            )
    return [line.key for line in lines if line.key is not None]


def env_file() -> Path | None:
    """The `.env` file in use: `APPOINTEDD_ENV_FILE`, or `.env` in the project's folder; an empty value means none."""
    chosen = os.environ.get(ENV_FILE_VARIABLE)
    if chosen == "":
        return None
    path = _from_project(Path(chosen or ".env"))
    if chosen and not path.is_file():
        raise SettingsError(f"{ENV_FILE_VARIABLE} names {path}, which is not a file.")
    return path if path.is_file() else None


def _local_contract() -> Path | None:
    """The override that lies in the project's folder; an empty APPOINTEDD_ENV_FILE means no local file at all."""
    path = PROJECT_FOLDER / LOCAL_CONTRACT
    return path if os.environ.get(ENV_FILE_VARIABLE) != "" and path.is_file() else None


def load_settings() -> Settings:
    """Read the settings; raises `SettingsError` with one line for each thing that is wrong."""
    file = env_file()
    _refuse_strangers(list(os.environ), "the environment", near_only=True)
    if file:
        _refuse_strangers(_names_in(file), str(file), near_only=False)
    sources: dict[str, Any] = {"_env_file": file, "_secrets_dir": SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None}
    try:
        settings = Settings(**sources)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field, *inside = (str(part) for part in problem["loc"])
            place = f" (at {'.'.join(inside)})" if inside else ""
            lines.append(_sentence(field, f"is wrong{place}: {problem['msg'].removeprefix('Value error, ')}"))
        raise SettingsError("\n".join(lines)) from None
    except SourceError as error:
        # Its own message names the field and not the value; its cause may show a secret, hence `from None`.
        named = [f for f in Settings.model_fields if f'"{f}"' in str(error)]
        raise SettingsError(_sentence(named[0], "is not valid JSON") if named else str(error)) from None
    local = None if settings.appointedd_contract else _local_contract()
    return settings.model_copy(update={"appointedd_contract": local}) if local else settings
