"""What a user may set, from where, and the sentence for each thing that is wrong. Nothing here shows a secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from resources import settings as module
from resources.errors import SettingsError
from resources.migrations import open_for_writing
from resources.settings import PROJECT_FOLDER, Settings, env_file, load_settings

CANARY = "canary-secret"
ACCESS = {
    "APPOINTEDD_BASE_URL": "https://api.example.test/v2/",
    "APPOINTEDD_TOKEN_URL": "https://api.example.test/oauth/token",
    "APPOINTEDD_CLIENT_ID": "id",
    "APPOINTEDD_CLIENT_SECRET": CANARY,
}
Set = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """An environment with nothing of ours in it but what the test sets."""
    for name in list(os.environ):
        if name.upper().startswith(module.PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APPOINTEDD_ENV_FILE", "")
    monkeypatch.setattr(module, "SECRETS_FOLDER", tmp_path / "run-secrets")

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_the_defaults(environment: Set) -> None:
    s = load_settings()
    assert s.warehouse_path == PROJECT_FOLDER / "data/warehouse.duckdb"
    assert s.warehouse_published_path == PROJECT_FOLDER / "data/analytics.duckdb"
    assert (s.sync_time_zone, s.sync_schedule, s.sync_sweep_schedule) == ("UTC", "0 2 * * *", "0 4 * * 0")
    assert (s.sync_overlap_minutes, s.sync_concurrency, s.sync_requests_per_second) == (1440, 4, 10)
    assert s.sync_history_start == date(2015, 1, 1)
    assert s.sync_account_time_zones == {}
    with pytest.raises(SettingsError) as missing:
        s.api_access()
    lines = str(missing.value).splitlines()
    assert [line.split()[0] for line in lines] == list(ACCESS)
    assert all("is not set" in line and f"Example: {line.split()[0]}=" in line for line in lines)


def test_one_api_client(environment: Set) -> None:
    environment(**ACCESS)
    access = load_settings().api_access()
    assert access.base_url == "https://api.example.test/v2"
    (client,) = access.clients
    assert (client.name, client.client_id) == ("default", "id")
    assert client.client_secret.get_secret_value() == CANARY


def test_several_api_clients(environment: Set) -> None:
    clients = '[{"name": "north", "client_id": "n", "client_secret": "1"}, {"name": "south", "client_id": "s", "client_secret": "2"}]'
    environment(
        APPOINTEDD_BASE_URL="https://a.test", APPOINTEDD_TOKEN_URL="https://a.test/t", APPOINTEDD_CLIENTS=clients
    )
    assert [c.name for c in load_settings().api_access().clients] == ["north", "south"]
    environment(APPOINTEDD_CLIENTS=clients.replace("south", "north"))
    with pytest.raises(SettingsError, match="two API clients have the same name"):
        load_settings().api_access()
    environment(APPOINTEDD_CLIENTS=clients, APPOINTEDD_CLIENT_ID="id")
    with pytest.raises(SettingsError, match="both set; keep one"):
        load_settings().api_access()


@pytest.mark.parametrize("gone", list(ACCESS))
def test_each_missing_part_of_the_access_is_named_alone(environment: Set, gone: str) -> None:
    environment(**{n: v for n, v in ACCESS.items() if n != gone})
    with pytest.raises(SettingsError) as missing:
        load_settings().api_access()
    (line,) = str(missing.value).splitlines()
    assert line.startswith(f"{gone} is not set.")
    assert CANARY not in line


def test_a_missing_env_file_is_named_with_what_is_missing(
    environment: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("APPOINTEDD_ENV_FILE")
    monkeypatch.setattr(module, "PROJECT_FOLDER", tmp_path)
    with pytest.raises(SettingsError, match=f"is not set, and there is no {tmp_path / '.env'}"):
        load_settings().api_access()
    (tmp_path / ".env").touch()
    with pytest.raises(SettingsError, match="is not set\\."):
        load_settings().api_access()


def test_an_empty_variable_is_none(environment: Set) -> None:
    environment(**ACCESS, SYNC_CONCURRENCY="", APPOINTEDD_CONTRACT="")
    s = load_settings()
    assert (s.sync_concurrency, s.appointedd_contract) == (4, None)


WRONG = [
    ("SYNC_TIME_ZONE", "Europe/Londn", "did you mean Europe/London?"),
    ("SYNC_TIME_ZONE", "qqqqqqq", "'qqqqqqq' is not an IANA time zone"),
    ("SYNC_TIME_ZONE", "localtime", "'localtime' is not an IANA time zone"),
    ("SYNC_SCHEDULE", "0 2 * *", "not a cron expression of five fields"),
    ("SYNC_SWEEP_SCHEDULE", "every night", "not a cron expression"),
    ("SYNC_HISTORY_START", "yesterday", "date"),
    ("SYNC_OVERLAP_MINUTES", "-1", "greater than or equal to 0"),
    ("SYNC_CONCURRENCY", "0", "greater than or equal to 1"),
    ("SYNC_CONCURRENCY", "65", "less than or equal to 64"),
    ("SYNC_CONCURRENCY", "many", "integer"),
    ("SYNC_REQUESTS_PER_SECOND", "0", "greater than 0"),
    ("SYNC_REQUESTS_PER_SECOND", "nan", "greater than 0"),
    ("WAREHOUSE_MEMORY_LIMIT_MB", "12", "greater than or equal to 64"),
    ("WAREHOUSE_PATH", "data/core.duckdb", "core.duckdb has the name of a schema in it"),
    ("WAREHOUSE_PUBLISHED_PATH", "/srv/Marts.v2.db", "Marts.v2.db has the name of a schema in it"),
    ("SYNC_ACCOUNT_TIME_ZONES", "{", "is not valid JSON"),
    ("SYNC_ACCOUNT_TIME_ZONES", '{"north": "Europe/Nowhere"}', "(at north)"),
    ("APPOINTEDD_CLIENTS", "[{", "is not valid JSON"),
    ("APPOINTEDD_CLIENTS", '[{"name": "n", "client_id": "i"}]', "(at 0.client_secret): Field required"),
    ("APPOINTEDD_CLIENTS", '[{"name": "", "client_id": "i", "client_secret": "x"}]', "(at 0.name)"),
    (
        "APPOINTEDD_CLIENTS",
        f'[{{"name": "n", "client_id": "i", "client_secret": "{CANARY}", "scope": "{CANARY}"}}]',
        "(at 0.scope): Extra",
    ),
    ("APPOINTEDD_CLIENTS", f'[{{"name": "n", "client_id": "i", "secret": "{CANARY}"}}]', "(at 0.client_secret)"),
    ("APPOINTEDD_CLIENTS", f'["{CANARY}"]', "(at 0)"),
    ("APPOINTEDD_CLIENTS", f"{CANARY}", "is not valid JSON"),
    # What a terminal in another encoding leaves in the environment.
    ("APPOINTEDD_CLIENT_ID", "shop-\udce9", "it is not UTF-8 text"),
    ("APPOINTEDD_CLIENT_SECRET", f"{CANARY}\udce9", "it is not UTF-8 text"),
    (
        "APPOINTEDD_CLIENTS",
        f'[{{"name": "n", "client_id": "i", "client_secret": "{CANARY}\\udce9"}}]',
        "(at 0.client_secret): it is not UTF-8 text",
    ),
]


@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_what_is_wrong_is_said_in_a_line_with_an_example_and_no_secret(
    environment: Set, name: str, value: str, told: str
) -> None:
    environment(**{**ACCESS, name: value})
    with pytest.raises(SettingsError) as failure:
        load_settings()
    lines = str(failure.value).splitlines()
    assert all(line.startswith(f"{name} is ") for line in lines)
    assert told in lines[0]
    assert "Example: " + name in lines[0]
    assert CANARY not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


def test_no_file_may_have_the_name_of_a_schema_in_it(environment: Set, tmp_path: Path) -> None:
    with open_for_writing(tmp_path / "new.duckdb", 512) as connection:
        found = connection.execute(
            "select schema_name from duckdb_schemas() where not internal and schema_name <> 'main'"
        ).fetchall()
    assert {"core", "marts"} <= {schema for (schema,) in found}
    for (schema,) in found:
        environment(WAREHOUSE_PUBLISHED_PATH=f"data/{schema}.duckdb")
        with pytest.raises(SettingsError, match="name of a schema"):
            load_settings()


def test_several_wrong_settings_are_told_at_once(environment: Set) -> None:
    environment(SYNC_CONCURRENCY="0", SYNC_TIME_ZONE="x")
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert [line.split()[0] for line in str(failure.value).splitlines()] == ["SYNC_TIME_ZONE", "SYNC_CONCURRENCY"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://api.example.test", "plain http is accepted for this machine only"),
        ("http://127.0.0.1.example.test", "plain http"),
        ("http://127.0.0.2", "plain http"),
        ("ftp://api.example.test", "not an http(s) address"),
        ("api.example.test", "not an http(s) address"),
        ("https://", "not an http(s) address"),
        ("https://[::1", "Invalid IPv6 URL"),
        ("https://api.example.test:99999", "ort out of range"),
        (f"https://user:{CANARY}@api.example.test", "no user name"),
        (f"https://api.example.test/?key={CANARY}", "no user name, password, query"),
        ("https://api.example.test/#x", "fragment"),
    ],
)
@pytest.mark.parametrize("name", ["APPOINTEDD_BASE_URL", "APPOINTEDD_TOKEN_URL"])
def test_an_address_is_safe_to_send_a_token_to(environment: Set, name: str, url: str, told: str) -> None:
    environment(**{name: url})
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert told in str(failure.value)
    assert CANARY not in str(failure.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v2", "http://localhost/v2", "http://[::1]:1/v2", "https://api.example.test:8443/v2"]
)
def test_this_machine_and_https_will_do(environment: Set, url: str) -> None:
    environment(APPOINTEDD_BASE_URL=url + "/")
    assert load_settings().appointedd_base_url == url


# ---- files -------------------------------------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_the_file_over_secrets(environment: Set, tmp_path: Path) -> None:
    file, secrets = tmp_path / "my.env", tmp_path / "run-secrets"
    secrets.mkdir()
    for name, value in {
        "sync_time_zone": "Asia/Tokyo",
        "sync_concurrency": "1",
        "appointedd_client_secret": CANARY,
    }.items():
        (secrets / name).write_text(value + "\n")
    file.write_text("SYNC_TIME_ZONE=Europe/Paris\nSYNC_CONCURRENCY=2\nSYNC_OVERLAP_MINUTES=2\n")
    environment(APPOINTEDD_ENV_FILE=str(file), SYNC_TIME_ZONE="Europe/London")
    s = load_settings()
    assert (s.sync_time_zone, s.sync_concurrency, s.sync_overlap_minutes) == ("Europe/London", 2, 2)
    assert s.appointedd_client_secret is not None
    assert s.appointedd_client_secret.get_secret_value() == CANARY


def test_a_named_file_must_be_there_and_an_empty_name_means_none(environment: Set, tmp_path: Path) -> None:
    assert env_file() is None
    environment(APPOINTEDD_ENV_FILE=str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"APPOINTEDD_ENV_FILE names .*none, which is not a file"):
        load_settings()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "APPOINTEDD_CLIENTID=x",
            r"APPOINTEDD_CLIENTID in .*my.env is not a setting.*Did you mean APPOINTEDD_CLIENT_ID\?",
        ),
        ("SYNC_QQQQ=x", "SYNC_QQQQ in .*See .env.example"),
        ("WAREHOUSE_PATHS=x", r"Did you mean WAREHOUSE_PATH\?"),
        ("APPOINTEDD CLIENT ID emu", r"my\.env, line 1: this is no setting. Write NAME=value"),
    ],
)
def test_a_stranger_in_the_file_is_refused(environment: Set, tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "my.env").write_text(line + "\nOTHER=1\n")
    environment(APPOINTEDD_ENV_FILE=str(tmp_path / "my.env"))
    with pytest.raises(SettingsError, match=told):
        load_settings()


def test_in_the_environment_only_a_near_miss_is_refused(environment: Set) -> None:
    environment(SYNC_OF_ANOTHER_PROGRAM="1", WAREHOUSE_LIGHTS="on")
    load_settings()
    environment(SYNC_CONCURENCY="2")
    with pytest.raises(SettingsError, match=r"SYNC_CONCURENCY in the environment.*Did you mean SYNC_CONCURRENCY\?"):
        load_settings()


def test_relative_paths_are_the_projects_and_not_the_shells(
    environment: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environment(
        WAREHOUSE_PATH="x/w.duckdb", WAREHOUSE_PUBLISHED_PATH=str(tmp_path / "a.duckdb"), APPOINTEDD_CONTRACT="c.toml"
    )
    s = load_settings()
    assert s.warehouse_path == PROJECT_FOLDER / "x/w.duckdb"
    assert s.warehouse_published_path == tmp_path / "a.duckdb"
    assert s.appointedd_contract == PROJECT_FOLDER / "c.toml"


def test_the_local_contract_is_picked_up_where_nothing_else_is_named(
    environment: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "PROJECT_FOLDER", tmp_path)
    local = tmp_path / module.LOCAL_CONTRACT
    local.write_text("")
    assert load_settings().appointedd_contract is None  # an empty APPOINTEDD_ENV_FILE: no local file at all
    monkeypatch.delenv("APPOINTEDD_ENV_FILE")
    assert load_settings().appointedd_contract == local
    environment(APPOINTEDD_CONTRACT=str(tmp_path / "other.toml"))
    assert load_settings().appointedd_contract == tmp_path / "other.toml"
    monkeypatch.delenv("APPOINTEDD_CONTRACT")
    local.unlink()
    assert load_settings().appointedd_contract is None


# ---- what follows ------------------------------------------------------------------------------------------------------------


def test_history_starts_at_local_midnight(environment: Set) -> None:
    environment(SYNC_HISTORY_START="2024-07-01", SYNC_TIME_ZONE="Europe/London")
    assert load_settings().history_start_at == datetime(2024, 6, 30, 23, tzinfo=UTC)


def test_no_secret_is_shown(environment: Set) -> None:
    environment(**ACCESS)
    s = load_settings()
    assert CANARY not in repr(s) + str(s) + repr(s.api_access()) + s.model_dump_json() + str(s.model_dump())
    assert isinstance(s.appointedd_client_secret, SecretStr)


def test_not_even_pydantics_own_message_shows_a_secret(environment: Set) -> None:
    clients = [{"name": "n", "client_id": "i", "client_secret": CANARY, "scope": CANARY}]
    with pytest.raises(ValidationError) as failure:
        Settings(_env_file=None, appointedd_clients=clients)  # type: ignore[call-arg, arg-type]  # wrong on purpose
    assert CANARY not in str(failure.value)


def test_every_setting_is_described_with_an_example() -> None:
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert info.examples, name
        assert name.upper().startswith(module.PREFIXES)
