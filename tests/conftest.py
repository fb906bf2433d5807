"""What all tests share: no waits between attempts, no setting of the machine's own; an API, and a copy of the SQL, for those that ask."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources import exchange, rate, sql_files
from resources.settings import PREFIXES
from tests.emulator import Emulator, World


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
