"""First contact with lists that the contract adds: they are proven like the built-in ones, which they must not spoil.

What lives here: `connect` on servers where an added list alone is odd, judged by its rows after a night of changes. What does not: the built-in lists on
such servers (`test_connect_traps`), how an added list is stored and shown (`test_generic`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resources.contract import Contract, load_contract
from tests.emulator import Emulator, Naming, Switches, World
from tests.emulator.listing import Page, Selection
from tests.emulator.query import Query
from tests.equality import night, query, settings_for
from tests.test_connect import ALL, MOST_GETS, cli, environment, only_reads, told, world
from tests.test_connect_traps import Twist, twist

__all__ = ["twist"]  # a fixture
# The emulator's events, which no built-in stream reads here.
ADDED = '[streams.events]\nenabled = false\n\n[streams.signals]\npath = "events"\n'
ALWAYS, NEVER = 10**18, 0


def here() -> World:
    return world(accounts=2, customers=40, bookings=90)


def connected(emulator: Emulator, folder: Path, text: str = ADDED) -> Contract:
    """The contract after `connect`, which must end well and leave the file alone when it comes again."""
    own = folder / "own.toml"
    own.write_text(text)
    env = environment(emulator, folder)
    code, out = cli(env, "connect")
    assert code == 0, out
    assert told(env, "connect")["changes"] == []
    return load_contract(own)


def missed(emulator: Emulator, folder: Path, contract: Contract) -> list[str]:
    """Events that are stored otherwise than they are, after a load and a green night on which many of them changed."""
    settings, events = settings_for(emulator, folder), emulator.world.events
    assert night(settings, contract).problems == []
    for _ in range(12):
        emulator.world.clock.advance(timedelta(hours=7))
        emulator.world.change_event(title="Moved")
    assert night(settings, contract).problems == []
    stored = dict(
        query(settings.warehouse_path, "select record_id, document->>'$.data.attributes.title' from core.signals")
    )
    truth = {one.id: one.title for one in events.rows()}
    return sorted(key for key in truth.keys() | stored.keys() if truth.get(key) != stored.get(key))


def _filter_reads_the_creation(stream: str, query: Query, names: set[str]) -> None:
    if stream == "events" and "updated" in query.ranges:
        query.ranges["created"] = query.ranges.pop("updated")


def _order_turns_the_filter(stream: str, query: Query, names: set[str]) -> None:
    if "sort" in names:
        _filter_reads_the_creation(stream, query, names)


def _no_upper_bound(stream: str, query: Query, names: set[str]) -> None:
    if stream == "events" and "updated" in query.ranges:
        query.ranges["updated"] = (query.ranges["updated"][0], ALWAYS)


def _filter_drops_the_account(stream: str, query: Query, names: set[str]) -> None:
    if stream == "events" and query.ranges:
        query.accounts = None


NAMELESS: dict[str, Any] = {"account_in": "absent", "account_filter": ALL}


@pytest.mark.parametrize(
    ("change", "more", "is_filtered", "is_sorted"),
    [
        (None, {}, True, True),
        (_filter_reads_the_creation, {}, False, True),
        (_order_turns_the_filter, {}, True, False),
        (_no_upper_bound, {}, False, True),
        (_filter_drops_the_account, NAMELESS, False, True),
        (None, {"naming": Naming(renames={"updated": "modifiedAt"})}, True, True),
    ],
    ids=["as it should", "creation", "order and filter", "upper bound", "account and filter", "another name"],
)
def test_what_an_added_list_does_not_honour_is_not_sent_to_it(
    tmp_path: Path,
    twist: Callable[[Twist], None],
    change: Twist | None,
    more: dict[str, Any],
    is_filtered: bool,
    is_sorted: bool,
) -> None:
    if change is not None:
        twist(change)
    with Emulator(here(), Switches(**more)) as emulator:
        contract = connected(emulator, tmp_path)
        own = contract.streams["signals"]
        assert (own.filters, bool(own.sort), own.types) == (is_filtered, is_sorted, ("events",))
        # Nobody else pays for it.
        assert (contract.abilities.filters, contract.abilities.upper_bound) == (True, True)
        assert all(contract.streams[name].filters for name in ("customers", "bookings"))
        assert missed(emulator, tmp_path, contract) == []


def test_an_added_list_that_is_cut_where_it_is_filtered_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Selection.page

    def dropped(selection: Any) -> Page[Any]:
        found = page(selection)
        is_cut = selection._query.ranges and found.rows and type(found.rows[0]).__name__ == "Event"
        return Page(found.rows[:10], None, None, more=False) if is_cut else found

    monkeypatch.setattr(Selection, "page", dropped)
    with Emulator(here()) as emulator:
        contract = connected(emulator, tmp_path)
        assert (contract.streams["signals"].filters, contract.streams["bookings"].filters) == (False, True)
        assert missed(emulator, tmp_path, contract) == []


@pytest.mark.parametrize(
    ("text", "more", "need"),
    [
        (ADDED.replace('"events"', '"eventz"'), {}, "signals: no list of them was found (eventz HTTP 404). Correct streams.signals.path"),
        (
            ADDED,
            {"account_in": "absent", "account_filter": frozenset({"customers", "bookings"})},
            "signals: rows do not name their account and no account filter was found.",
        ),
    ],
)  # fmt: skip
def test_an_added_list_that_no_sync_can_read_is_a_need(
    tmp_path: Path, text: str, more: dict[str, Any], need: str
) -> None:
    own = tmp_path / "own.toml"
    with Emulator(here(), Switches(**more)) as emulator:
        # The vendor's file has a list of the same type elsewhere.
        for arguments in ((), ("--openapi", f"{emulator.origin}/openapi.json")):
            own.write_text(f'{text}types = ["events"]\n')
            result = told(environment(emulator, tmp_path), "connect", *arguments)
            assert not result["can_sync"]
            assert [one[: len(need)] for one in result["needs"]] == [need]


def test_a_list_that_is_added_later_must_prove_itself_too(tmp_path: Path) -> None:
    """Two events prove nothing, and what an earlier contact proved was proven of other lists."""
    with Emulator(world(accounts=2, customers=40, bookings=90, events=2), Switches(sort=False)) as emulator:
        own = tmp_path / "own.toml"
        assert connected(emulator, tmp_path, "").abilities.sort is False
        text = own.read_text()
        assert "connect:" in text
        assert (
            not connected(emulator, tmp_path, f'{text}\n[streams.signals]\npath = "events"\n')
            .streams["signals"]
            .filters
        )


def test_an_added_list_says_nothing_of_what_was_proven_before(tmp_path: Path, twist: Callable[[Twist], None]) -> None:
    """The built-in lists are too short by now to show anything, and the added one takes no upper bound."""
    own, off = tmp_path / "own.toml", "[streams.events]\nenabled = false\n"
    with Emulator(here(), Switches(sort=False)) as emulator:
        connected(emulator, tmp_path, off)
    twist(_no_upper_bound)
    with Emulator(world(accounts=2, customers=2, bookings=2, events=40), Switches(sort=False)) as emulator:
        contract = connected(emulator, tmp_path, f'{own.read_text()}\n[streams.signals]\npath = "events"\n')
    assert (contract.abilities.filters, contract.abilities.upper_bound) == (True, True)
    assert [contract.streams[name].filters for name in ("customers", "bookings", "signals")] == [True, True, False]


def test_links_that_are_keys_are_taken_out_of_an_added_list_too(tmp_path: Path) -> None:
    with Emulator(here(), Switches(naming=Naming(renames={"cancellationUrl": "move-it"}))) as emulator:
        text = '[streams.bookings]\nenabled = false\n\n[streams.visits]\npath = "bookings"\ninclude = ["customerBookings"]\n'
        assert "move-it" in connected(emulator, tmp_path, text).redact.members


def test_many_added_lists_are_all_asked(tmp_path: Path) -> None:
    names = [f"signals_{number}" for number in range(20)]
    text = "\n".join(f'[streams.{name}]\npath = "events"\n' for name in names)
    with Emulator(here()) as emulator:
        contract = connected(emulator, tmp_path, text)
        assert only_reads(emulator) <= 2 * (MOST_GETS + 20 * 20)
        assert all(contract.streams[name].filters and contract.streams[name].sort for name in names)
        assert contract.streams["customers"] == load_contract().streams["customers"]
