"""Drift in daily life: what arrives otherwise than the contract says is written down, told once it is news, and never holds a personal value."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resources.settings import Settings
from tests.emulator import Emulator, Fault, Replace, SetHeaders, World, on
from tests.equality import contract_with, night, query, settings_for

LIST = "/v2/bookings"


@pytest.fixture
def world() -> World:
    return World(seed=9, accounts=2, customers=40, bookings=80, events=4, years=1)


def changed(change: Callable[[dict[str, Any]], object]) -> Fault:
    def apply(body: bytes) -> bytes:
        document = json.loads(body)
        for record in document["data"]:
            change(record["attributes"])
        return json.dumps(document).encode()

    return Fault(on(LIST), Replace(apply), times=None)


def drift(settings: Settings) -> set[tuple[str, str]]:
    return set(query(settings.warehouse_path, "select kind, path from ops.drift where stream = 'bookings'"))


def told(findings: list[str]) -> list[str]:
    return [f for f in findings if f.startswith("contract_drift_bookings")]


@pytest.mark.parametrize(
    ("change", "expected", "heals"),
    [
        (lambda a: a.update(deposit="secret 12"), ("unknown_member", "attributes.deposit"), False),
        (lambda a: a.update(status="Pending approval"), ("unknown_status", "booking.status"), True),
        (lambda a: a.pop("startTime"), ("missing_member", "startTime"), True),
        (lambda a: a.update(timezone=7), ("bad_value", "timezone"), True),
    ],
    ids=["new attribute", "new word", "attribute gone", "changed type"],
)
def test_drift_is_noted_told_while_it_lasts_and_then_history(
    change: Callable[[dict[str, Any]], object],
    expected: tuple[str, str],
    heals: bool,
    emulator: Emulator,
    world: World,
    tmp_path: Path,
) -> None:
    settings = settings_for(emulator, tmp_path)
    assert told(night(settings, publish=True).findings) == []
    before = drift(settings)
    world.clock.advance(timedelta(days=2))
    world.bulk_update(30)
    emulator.faults.append(changed(change))
    report = night(settings, publish=True)
    assert drift(settings) - before == {expected}
    (finding,) = told(report.findings)
    assert expected[1] in finding
    assert "secret 12" not in finding
    bookings = next(s for s in report.streams if s.stream == "bookings")
    assert bookings.drift[expected[0]] >= 1
    ((first, last, detail),) = query(
        settings.warehouse_path, "select first_seen_at, last_seen_at, detail from ops.drift where path = ?", expected[1]
    )
    assert first <= last <= world.clock.now()
    assert "secret" not in detail
    # When the API is itself again nothing is told any more; a new member is news for a week.
    emulator.faults.clear()
    world.clock.advance(timedelta(days=2))
    world.bulk_update(40)
    assert (told(night(settings, publish=True).findings) == []) is heals
    world.clock.advance(timedelta(days=8))
    assert told(night(settings, publish=True).findings) == []


def test_another_media_type_is_drift(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=2))
    emulator.faults.append(Fault(on(LIST), SetHeaders({"Content-Type": "application/json"}), times=None))
    assert told(night(settings, publish=True).findings) != []
    assert ("media_type", "Content-Type") in drift(settings)
    # Nothing is lost by it, so it is news for a week and then history.
    world.clock.advance(timedelta(days=8))
    assert told(night(settings, publish=True).findings) == []


def test_a_first_load_is_not_news(emulator: Emulator, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    emulator.faults.append(changed(lambda a: a.update(deposit="12", colour="red")))
    assert told(night(settings, publish=True).findings) == []
    assert ("unknown_member", "attributes.colour") in drift(settings)


def test_an_empty_value_is_no_missing_member(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=2))
    world.bulk_update(30)
    emulator.faults.append(changed(lambda a: a.update(startTime=None)))
    assert told(night(settings, publish=True).findings) == []


def test_a_sweep_notices_what_it_empties_itself(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    night(settings)
    world.clock.advance(timedelta(days=2))
    emulator.faults.append(changed(lambda a: a.pop("startTime")))
    (finding,) = told(night(settings, kind="sweep", publish=True).findings)
    assert "missing_member, startTime" in finding


def test_a_name_that_was_wrong_from_the_first_night_is_told(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    emulator.faults.append(changed(lambda a: a.update(beginsAt=a.pop("startTime"))))
    findings = night(settings, publish=True).findings
    assert [f for f in findings if f.startswith("empty_columns_bookings") and "start_at" in f]


def test_a_stream_that_is_switched_off_is_not_behind(emulator: Emulator, world: World, tmp_path: Path) -> None:
    settings = settings_for(emulator, tmp_path)
    off = contract_with(tmp_path, "[streams.events]\nenabled = false\n")
    assert night(settings, off, publish=True).findings == []
