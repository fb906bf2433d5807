"""The fault matrix: what can go wrong in a night, how it is played, and how the night must end. Run by `test_faults`.

What lives here: the table. What does not: the playing (`fault_plays`), the judging. A case that names no sentence must end green and equal to the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pipelines.plan import Kind
from tests.emulator import (
    Drip,
    HangUp,
    Replace,
    Reset,
    SetHeaders,
    Status,
    Switches,
    Truncate,
)
from tests.fault_plays import (
    TOKEN,
    Play,
    account_vanishes,
    account_vanishes_in_mid_walk,
    clock_off,
    crowded_second,
    earlier_link,
    empty_page_goes_on,
    foreign_link,
    in_turn,
    limited_three_ways,
    next_is,
    no_account_at_all,
    one_of_two_clients_is_revoked,
    own_link,
    repeated_rows,
    row_of_the_future,
    rows_move,
    rows_never_rest,
    singles_down,
    stumbling_token_endpoint,
    token_dies_in_mid_walk,
    told_limits,
    total,
)


@dataclass(frozen=True)
class Case:
    """One fault.

    `red`: what must stand in the problems; empty for a green run. `behind`: the streams that stay behind in a red run, and `behind_accounts`: theirs
    alone (by number). `moves`: rows change while they are walked, so each must be as it was before or as it is after. `clock`: how far off the API's
    own is. `repeated`: how many requests for the bookings' list are sent again. `tokens`: how many are asked for. `pauses`: what the 429s ask for.
    `is_long`: near to another case, so it is run with the long proofs.
    """

    name: str
    play: Play
    red: tuple[str, ...] = ()
    behind: tuple[str, ...] = ("bookings",)
    behind_accounts: tuple[int, ...] | None = None
    moves: bool = False
    clock: timedelta = timedelta(0)
    kind: Kind = "nightly"
    switches: Switches = field(default_factory=Switches)
    own: Mapping[str, object] = field(default_factory=dict)
    repeated: int | None = None
    tokens: int | None = None
    pauses: tuple[float, ...] = ()
    is_long: bool = False


TOTALS, NUMBERED_TOTALS = Switches(meta_total="present"), Switches(meta_total="present", paging="number")
NUMBERS, OFFSETS = Switches(paging="number"), Switches(paging="offset")
ALL = ("bookings", "events")
GAVE_UP = "Gave up after 8 attempts"

CASES = (
    Case("a token dies in mid-walk", token_dies_in_mid_walk, tokens=2, repeated=1),
    Case("the token endpoint stumbles: 5xx, wrong JSON, reset, slow", stumbling_token_endpoint, tokens=6, repeated=0),
    Case("the token endpoint is down", lambda s: s.fault(Status(503), TOKEN, None), ("token endpoint", "503"), ALL),
    Case(
        "the token endpoint talks nonsense",
        lambda s: s.fault(Replace(b"<html>"), TOKEN, None),
        ("usable token",),
        ALL,
        is_long=True,
    ),
    Case(
        "one API client of two is revoked",
        one_of_two_clients_is_revoked,
        ("'north'", "shown only once"),
        ALL,
        (0,),
        is_long=True,
    ),
    Case(
        "500, 502, 503 with HTML and empty bodies", in_turn(Status(500), Status(502, body=b""), Status(503)), repeated=3
    ),
    Case("503 to the end", lambda s: s.later(Status(503), None), (GAVE_UP, "503")),
    Case("429 in seconds, as a date, untold", limited_three_ways, repeated=3, pauses=(3, 7, 1)),
    Case(
        "429 for an hour", lambda s: s.fault(Status(429, {"Retry-After": "3600"}), skip=1), ("HTTP 429",), pauses=(120,)
    ),
    Case("a limit told in headers", told_limits, own={"sync_requests_per_second": 100}, repeated=0),
    Case("a reset before, in and after a body", in_turn(Reset(), Truncate(0.5, hard=True), HangUp()), repeated=2),
    Case("resets to the end", lambda s: s.later(Reset(), None), (GAVE_UP,), is_long=True),
    Case(
        "cut short, half a document, a maintenance page",
        in_turn(Truncate(0.3), Replace(b'{"data": [{"id": "1"'), Status(200)),
        repeated=3,
    ),
    Case(
        "a body that never is JSON",
        lambda s: s.later(Replace(b'{"data": ['), None),
        ("a body that is not JSON",),
        is_long=True,
    ),
    Case("a slow drip", lambda s: s.fault(Drip(10, 0.2)), repeated=0),
    Case(
        "another content type",
        lambda s: s.fault(SetHeaders({"Content-Type": "text/html"}), "/v2", None),
        repeated=0,
        is_long=True,
    ),
    Case("duplicate rows over pages", repeated_rows, repeated=0),
    Case("rows move under cursors", rows_move, moves=True, kind="sweep"),
    Case("rows move under numbered pages", lambda s: rows_move(s, 28), moves=True, switches=NUMBERS),
    Case("rows move under offsets", lambda s: rows_move(s, 28), moves=True, switches=OFFSETS, is_long=True),
    Case(
        "rows move under numbered pages with totals",
        rows_move,
        moves=True,
        kind="sweep",
        switches=NUMBERED_TOTALS,
        is_long=True,
    ),
    Case(
        "rows come without end under numbered pages",
        rows_never_rest,
        ("the list moves under its numbered pages",),
        moves=True,
        switches=Switches(paging="number", upper_bound=False),
        is_long=True,
    ),
    # What is cut off before the moment of the run is at rest, so nothing stays behind but the red sentence.
    Case(
        "rows come without end under numbered pages that are cut",
        rows_never_rest,
        ("the list moves under its numbered pages",),
        behind_accounts=(),
        moves=True,
        switches=NUMBERS,
        is_long=True,
    ),
    Case("a second fuller than a page", crowded_second),
    Case(
        "a second fuller than a page, newest first",
        crowded_second,
        switches=Switches(paging="number", sort=False),
        is_long=True,
    ),
    Case("a page that links to itself", next_is(own_link), ("leads to a page that was already read",)),
    Case(
        "a page that links to an earlier one",
        next_is(earlier_link),
        ("leads to a page that was already read",),
        is_long=True,
    ),
    Case("a page that links to another origin", next_is(foreign_link), ("leads to another origin",)),
    Case("an empty page with a next link", empty_page_goes_on, repeated=1),
    Case("a forgotten cursor", lambda s: s.later(Status(410), skip=1)),
    Case(
        "a cursor that is always forgotten",
        lambda s: s.later(Status(400, body=b""), None),
        ("a next link it gave itself",),
        is_long=True,
    ),
    Case("a growing total", total(lambda true, n: true + n), switches=TOTALS),
    Case("a shrinking total", total(lambda true, n: true + 20 - n), switches=TOTALS, is_long=True),
    Case(
        "a total that says more",
        total(lambda true, _: true + 3),
        ("Rows are missing", 'document.total = ""'),
        switches=TOTALS,
    ),
    Case("a clock ten minutes fast", clock_off(timedelta(minutes=10)), clock=timedelta(minutes=10)),
    Case("a clock ten minutes slow", clock_off(timedelta(minutes=-10)), clock=timedelta(minutes=-10), is_long=True),
    Case("a row dated in the future", row_of_the_future),
    Case("an account vanishes for a night", account_vanishes, behind=ALL, behind_accounts=(0,), is_long=True),
    Case(
        "an account vanishes in mid-walk",
        account_vanishes_in_mid_walk,
        ("left the account list",),
        ALL,
        (0,),
        kind="sweep",
        is_long=True,
    ),
    Case("no account is listed", no_account_at_all, ("sees no account at all",), ALL),
    Case(
        "a permission is lost",
        lambda s: s.fault(Status(403), times=None),
        ("HTTP 403", "may not read this"),
        is_long=True,
    ),
    Case("single records are down in a sweep", lambda s: singles_down(s, 0), (GAVE_UP,), kind="sweep", is_long=True),
    Case("single records go down in a sweep", lambda s: singles_down(s, 2), (GAVE_UP,), kind="sweep"),
)
