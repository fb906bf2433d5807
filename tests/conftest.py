"""What all tests share: no waits between attempts, no setting of the machine's own; an API, a copy of the SQL, warehouses, where asked for."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import duckdb
import httpx
import pytest

from resources import exchange, rate, sql_files
from resources.migrations import open_for_writing
from resources.settings import PREFIXES
from resources.warehouse import Writer
from tests.commits import warehouse_in
from tests.emulated import Client, serving
from tests.emulator import Emulator, World
from tests.equality import EMPTY
from tests.hand_made import build, fill


def pytest_configure() -> None:
    """A shell without job control has what it starts in the background ignore Ctrl-C, and so would all that tests start and interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen as often as in life, without the waits between them."""
    monkeypatch.setattr(exchange, "pause", lambda _seconds, stopped: rate.pause(0.0, stopped))


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own `.env` or environment must not decide a test."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIXES) or name.startswith("DAGSTER"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APPOINTEDD_ENV_FILE", "")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new warehouse, closed: making one takes ten times as long as copying it."""
    path = tmp_path_factory.mktemp("empty") / "warehouse.duckdb"
    open_for_writing(path, 512).close()
    return path


@pytest.fixture(scope="session", autouse=True)
def _nights_begin_with_a_copy(empty: Path) -> None:
    """Made before any test changes what makes it."""
    EMPTY[sql_files.SQL_FOLDER] = empty


@pytest.fixture(scope="session", autouse=True)
def _authorities_read_once() -> Iterator[None]:
    """Reading the machine's certificate authorities is a twentieth of a quiet night. What a test names in their stead is read for itself."""
    read = httpx.create_ssl_context

    @cache
    def kept(trust_env: bool, _file: str | None, _folder: str | None) -> ssl.SSLContext:
        return read(trust_env=trust_env)

    def context(*, trust_env: bool) -> ssl.SSLContext:
        return kept(trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", context)
        yield


@pytest.fixture
def emulator(world: World) -> Iterator[Emulator]:
    """The API over the records that a test file's own `world` holds."""
    with Emulator(world) as running:
        yield running


@pytest.fixture
def sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of sql/ that a test may add to: the next version of the product."""
    folder = tmp_path / "sql"
    shutil.copytree(sql_files.SQL_FOLDER, folder)
    monkeypatch.setattr(sql_files, "SQL_FOLDER", folder)
    return folder


@pytest.fixture
def writer(tmp_path: Path, empty: Path) -> Iterator[Writer]:
    shutil.copy(empty, tmp_path / empty.name)
    with warehouse_in(tmp_path).writer("a test", wait_s=0) as one:
        yield one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    with warehouse_in(tmp_path_factory.mktemp("shared")).writer("a property", wait_s=0) as one:
        yield one


@pytest.fixture(scope="module")
def filled() -> Iterator[duckdb.DuckDBPyConnection]:
    """One good warehouse for the whole module."""
    with build() as warehouse:
        fill(warehouse)
        yield warehouse


@pytest.fixture
def warehouse(filled: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The good warehouse, to spoil at will: what a test writes is rolled back."""
    filled.begin()
    yield filled
    filled.rollback()


@pytest.fixture
def client() -> Iterator[Client]:
    with serving() as one:
        yield one
