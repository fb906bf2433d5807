"""How faults are played: the stage that a case gets, and what it can let happen on it.

What lives here: one function for each fault that takes more than a rule. What does not: which faults there are and how their nights must end
(`fault_cases`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from random import Random
from typing import Any

import pytest

from resources.rate import RateBudget
from tests.emulator import (
    Action,
    Delay,
    Emulator,
    Fault,
    Replace,
    Request,
    Reset,
    SetHeaders,
    Status,
    World,
    later_page,
    on,
)

LIST = "/v2/bookings"
TOKEN = "/oauth/token"
# Changes of bookings that a night without a sweep can see.
CHANGES = ["add_booking", "reschedule_booking", "cancel_booking", "mark_no_show", "complete", "remove_participant"]
Document = dict[str, Any]


@dataclass
class Stage:
    """One emulator before its faulty night, and the levers. `own`: settings. `undo` is done before the night after."""

    emulator: Emulator
    world: World
    rng: Random
    elsewhere: Emulator
    own: dict[str, object] = field(default_factory=dict)
    undo: list[Callable[[], object]] = field(default_factory=list)

    def fault(self, action: Action, path: str = LIST, times: int | None = 1, skip: int = 0) -> None:
        """A rule for paths that begin so."""
        self.emulator.faults.append(Fault(on(path), action, times, skip=skip))

    def later(self, action: Action, times: int | None = 1, skip: int = 0) -> None:
        """A rule for the bookings' pages after the first."""
        self.emulator.faults.append(Fault(later_page(LIST), action, times, skip=skip))

    def change(self, edit: Callable[[Document], object], times: int | None = 1, skip: int = 0) -> None:
        """A page of bookings whose document is changed on its way."""
        self.fault(edited(edit), LIST, times, skip)

    def before_page(self, number: int, do: Callable[[], object], *, always: bool = False) -> None:
        """Something that happens right before the bookings' page of this number is answered; `always`: before all that follow, too."""
        count = 0

        def hook(request: Request) -> None:
            nonlocal count
            if request.path == LIST:
                count += 1
                if count == number or (always and count > number):
                    do()

        self.emulator.hooks.append(hook)

    def repeated(self) -> int:
        """How many requests for the bookings' list were sent more than once each."""
        asked = [tuple(sorted(r.query.items())) for r in self.emulator.requests if r.path == LIST]
        return len(asked) - len(set(asked))


Play = Callable[[Stage], object]


def edited(edit: Callable[[Document], object]) -> Replace:
    """A body that is read, changed and written again."""

    def apply(body: bytes) -> bytes:
        document = json.loads(body)
        edit(document)
        return json.dumps(document).encode()

    return Replace(apply)


# ---- tokens ------------------------------------------------------------------------------------------------------------------


def token_dies_in_mid_walk(stage: Stage) -> None:
    stage.before_page(3, stage.world.revoke_tokens)


def stumbling_token_endpoint(stage: Stage) -> None:
    bad: list[Action] = [
        Status(503),
        Status(500, body=b""),
        Replace(b"{"),
        Replace(b'{"access_token": 7}'),
        Reset(),
        Delay(0.1),
    ]
    for n, action in enumerate(bad):
        stage.fault(action, TOKEN, skip=n)


def one_of_two_clients_is_revoked(stage: Stage) -> None:
    ids = [account.id for account in stage.world.accounts]
    stage.world.add_client("north", "north-secret", set(ids[:1]))
    stage.world.add_client("south", "south-secret", set(ids[1:]))
    stage.own |= {
        "appointedd_client_id": None,
        "appointedd_client_secret": None,
        "appointedd_clients": [
            {"name": name, "client_id": name, "client_secret": f"{name}-secret"} for name in ("north", "south")
        ],
    }
    stage.world.revoke_client("north")
    stage.undo.append(lambda: setattr(stage.world.clients["north"], "revoked", False))


# ---- limits, gateways, connections -------------------------------------------------------------------------------------------


def in_turn(*actions: Action) -> Play:
    """Each action befalls one request for the bookings' list after the other: first page, its repetition, and so on."""

    def play(stage: Stage) -> None:
        for n, action in enumerate(actions):
            stage.fault(action, skip=n)

    return play


def limited_three_ways(stage: Stage) -> None:
    soon = format_datetime(stage.world.clock.now() + timedelta(seconds=7), usegmt=True)
    for n, headers in enumerate([{"Retry-After": "3"}, {"Retry-After": soon}, {}]):
        stage.fault(Status(429, headers, b""), skip=2 * n)


def told_limits(stage: Stage) -> None:
    stage.emulator.rate_limit(200, burst=5, tells=True)


# ---- lists that move ---------------------------------------------------------------------------------------------------------


def rows_move(stage: Stage, recent: int | None = None) -> None:
    """Before the third page: a row that was read changes, one that was read and one that was not disappear, one comes.

    `recent`: among so many that changed last, for a night that lists only these. Without it all have changed silently, so that a row which slips
    through the walk stays wrong.
    """
    rows = sorted(stage.world.bookings.rows(), key=lambda booking: (booking.updated, booking.id))[-(recent or 0) :]

    def move() -> None:
        stage.world.delete_booking(rows[2].id)
        stage.world.reschedule_booking(next(b.id for b in rows[3:] if b.status == "confirmed"))
        stage.world.delete_booking(rows[-2].id)
        stage.world.add_booking()

    if recent is None:
        for booking in rows:
            stage.world.touch_silently(booking.id)
    stage.before_page(3, move)


def rows_never_rest(stage: Stage) -> None:
    stage.before_page(2, stage.world.add_booking, always=True)


def crowded_second(stage: Stage) -> None:
    stage.world.bulk_update(35)
    stage.world.clock.advance(timedelta(minutes=2))


def repeated_rows(stage: Stage) -> None:
    """Each page begins with the last rows of the page before."""
    held: list[list[Document]] = []

    def repeat(document: Document) -> None:
        last = document["data"][-4:], document.get("included", [])
        if held:
            document["data"][:0] = held[0]
            document["included"] = document.get("included", []) + held[1]
        held[:] = last

    stage.change(repeat, times=None)


def row_of_the_future(stage: Stage) -> None:
    booking = stage.world.bookings.rows()[5]
    ms = stage.world.clock.ms() + 3 * 86_400_000
    with stage.world.lock:
        booking.price += 1
        stage.world.bookings.set_updated(booking, ms)


# ---- links and totals --------------------------------------------------------------------------------------------------------


def next_is(link: Callable[[Stage, Document], object], skip: int = 1) -> Play:
    """The next link of one page leads elsewhere."""

    def play(stage: Stage) -> None:
        stage.change(lambda document: document["links"].update(next=link(stage, document)), times=None, skip=skip)

    return play


def own_link(_stage: Stage, document: Document) -> object:
    return document["links"]["self"]


def earlier_link(_stage: Stage, document: Document) -> object:
    return document["links"]["self"].partition("?")[0]


def foreign_link(stage: Stage, document: Document) -> object:
    return document["links"]["self"].replace(stage.emulator.origin, stage.elsewhere.origin)


def empty_page_goes_on(stage: Stage) -> None:
    """The first answer is an empty page whose next link leads to the page that it should have been."""

    def empty(document: Document) -> None:
        document["links"]["next"] = document["links"]["self"]
        document["data"] = []

    stage.change(empty)


def total(of_page: Callable[[int, int], int]) -> Play:
    """Totals that are a function of the true one and of the number of the answer."""

    def play(stage: Stage) -> None:
        count = 0

        def lie(document: Document) -> None:
            nonlocal count
            count += 1
            document["meta"]["total"] = of_page(document["meta"]["total"], count)

        stage.change(lie, times=None)

    return play


# ---- clocks and accounts -----------------------------------------------------------------------------------------------------


def clock_off(by: timedelta) -> Play:
    def play(stage: Stage) -> None:
        date = format_datetime(stage.world.clock.now() + by, usegmt=True)
        stage.fault(SetHeaders({"Date": date}), "/v2", times=None)
        # What changes right after the night lies before the end that a fast clock gave to the window.
        stage.undo.append(lambda: stage.world.mutate(5, stage.rng, CHANGES))

    return play


def account_vanishes(stage: Stage) -> None:
    hidden = stage.world.accounts.rows()[0].id
    stage.world.hide_account("emu-client", hidden)
    stage.undo.append(lambda: stage.world.show_account("emu-client", hidden))


def account_vanishes_in_mid_walk(stage: Stage) -> None:
    hidden = stage.world.accounts.rows()[0].id
    stage.before_page(2, lambda: stage.world.hide_account("emu-client", hidden))
    stage.undo.append(lambda: stage.world.show_account("emu-client", hidden))


def no_account_at_all(stage: Stage) -> None:
    for account in stage.world.accounts.rows():
        stage.world.hide_account("emu-client", account.id)
        stage.undo.append(partial(stage.world.show_account, "emu-client", account.id))


def deletions(stage: Stage) -> None:
    """Something for the second look of a sweep."""
    for _ in range(4):
        stage.world.delete_booking()


def singles_down(stage: Stage, skip: int) -> None:
    deletions(stage)
    stage.fault(Status(503), LIST + "/", times=None, skip=skip)


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the API's 429s hold everyone, as it comes to be asked for; kept instead of waited for."""
    asked: list[float] = []
    hold = RateBudget.note_limit

    def note_limit(self: RateBudget, pause_s: float) -> None:
        asked.append(pause_s)
        hold(self, 0.0)

    monkeypatch.setattr(RateBudget, "note_limit", note_limit)
    return asked
