"""What all tests share: waits switched off by the library that waits, and no setting of the machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import stamina

from resources.settings import PREFIXES


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Retries happen as often as in life, without the waits between them."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own `.env` or environment must not decide a test."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIXES) or name.startswith("DAGSTER"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APPOINTEDD_ENV_FILE", "")
