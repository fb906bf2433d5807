"""Nights at random: faults, changes, paging styles and kinds of runs mixed by a seed; after each the promises hold, at the end the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from pipelines.plan import MARGIN, Window
from pipelines.sync import RunReport
from resources.database import connect
from tests.emulator import Emulator, Request, Switches, World, random_rules
from tests.equality import contract_with, differences, night, settings_for
from tests.fault_plays import without_pauses
from tests.rows import STREAM_OF, TABLES, Row, Truth, stored_rows, true_rows, watermarks

DIALECTS = {
    "default": Switches(),
    "numbered": Switches(paging="number"),
    "offsets": Switches(paging="offset"),
    "numbered with totals": Switches(paging="number", meta_total="present"),
    "totals": Switches(meta_total="present"),
    "no sort": Switches(sort=False),
    "no filters": Switches(filters=False),
    "numbered, no filters, newest first": Switches(paging="number", filters=False, sort=False),
    "no upper bound": Switches(upper_bound=False),
    "exclusive bounds": Switches(bounds="exclusive"),
    "embedded participants": Switches(participants="attribute"),
    "short tokens": Switches(token_lifetime=90, expires_in_sent=False),
}
SILENT = ["touch_silently"]
OVERLAP = timedelta(days=1)  # the default of SYNC_OVERLAP_MINUTES
WHILE_READ = ["add_account", "add_customer", "change_customer", "delete_customer", "add_booking", "reschedule_booking"]
WHILE_READ += ["cancel_booking", "remove_participant", "delete_booking", "add_event", "change_event"]


@dataclass
class Season:
    """Many nights of one warehouse; `told` is what was played, for whoever has to find out why a seed failed."""

    rng: Random
    world: World
    emulator: Emulator
    folder: Path
    page_size: int = 20
    hidden: set[str] = field(default_factory=set)
    once_hidden: set[str] = field(default_factory=set)
    overlap: int | None = None
    told: list[str] = field(default_factory=list)

    def run(self) -> None:
        """One night: the world has changed, some things go wrong, and what stands in the warehouse then is no lie."""
        rng, world, emulator = self.rng, self.world, self.emulator
        world.clock.advance(timedelta(hours=rng.choice([1, 5, 30, 24 * 9])))
        changes = world.mutate(rng.randrange(30), rng)
        if rng.random() < 0.3:
            world.mutate(2, rng, SILENT)
        world.clock.advance(timedelta(minutes=rng.randrange(0, 90)))
        self._hide_or_show()
        dialect = rng.choice(list(DIALECTS))
        emulator.switches = DIALECTS[dialect]
        rules = random_rules(rng)
        emulator.faults[:] = list(rules.values())
        emulator.hooks[:] = [self._happening()] if rng.random() < 0.5 else []
        kind = rng.choice(["nightly", "nightly", "sweep", "backfill"])
        window = None
        if kind == "backfill":
            since = world.now - timedelta(days=rng.randrange(2, 600))
            window = Window(since, since + timedelta(days=rng.choice([1, 40, 500])))
        self.told.append(f"{kind} in {dialect}, after {changes}: {list(rules)}, {len(emulator.hooks)} hooks")
        # One for all nights: what an account hid from a page that a long overlap let pass, a shorter one would not ask for again.
        drawn = rng.choice([0, 5, 1440])
        self.overlap = drawn if self.overlap is None else self.overlap
        settings = settings_for(
            emulator,
            self.folder,
            sync_overlap_minutes=self.overlap,
            sync_concurrency=rng.choice([1, 1, 4]),
        )
        before, asked_for = world.truth(), {a.id for a in world.accounts} - self.hidden
        contract = contract_with(self.folder, f'[parameters]\npage_size_value = "{self.page_size}"\n')
        report = night(settings, contract, kind, window=window)  # type: ignore[arg-type]  # a kind
        self.told.append(f"  {report.problems or 'green'}")
        served = asked_for & ({a.id for a in world.accounts} - self.hidden)
        self._judge(settings.warehouse_path, report, before, served, set(settings.sync_account_time_zones))

    def _hide_or_show(self) -> None:
        client = self.emulator.client_id
        if self.hidden and self.rng.random() < 0.6:
            self.world.show_account(client, self.hidden.pop())
        elif len(self.world.accounts) - len(self.hidden) > 1 and self.rng.random() < 0.2:
            self._hide(self.rng.choice(self.world.accounts.rows()).id)

    def _hide(self, account: str) -> None:
        self.hidden.add(account)
        self.once_hidden.add(account)
        self.world.hide_account(self.emulator.client_id, account)

    def _happening(self) -> Callable[[Request], None]:
        """Something that happens once, while the night reads."""
        rng, number, count = Random(self.rng.random()), self.rng.randrange(2, 30), 0
        choice = self.rng.choice(["changes", "changes", "changes", "tokens die", "an account vanishes"])

        def hook(request: Request) -> None:
            nonlocal count
            count += 1
            if count != number:
                return
            self.told.append(f"  before request {number} for {request.path}: {choice}")
            if choice == "changes":
                self.world.mutate(4, rng, WHILE_READ)
            elif choice == "tokens die":
                self.world.revoke_tokens()
            elif len(self.world.accounts) - len(self.hidden) > 1:
                self._hide(rng.choice(self.world.accounts.rows()).id)

        return hook

    def _judge(self, path: Path, report: RunReport, before: Truth, served: set[str], zoned: set[str]) -> None:
        """No watermark is ahead of its rows; a green night has moved them all; a green sweep has left nothing that is gone."""
        if not path.exists():
            assert report.problems
            return
        truth = {t: rows for t, rows in self.world.truth().items() if t in STREAM_OF}
        marks, end = watermarks(path), self.world.now.replace(microsecond=0) - MARGIN
        assert max((m for m in marks.values() if m), default=end) <= end
        if not report.problems and report.kind != "backfill":
            late = {(s, a) for s in TABLES for a in served if marks.get((s, a)) != end}
            assert late == set(), f"green, and these did not move to {end}"
        swept = set() if report.problems else windows_of_sweeps(path, report.run_id)
        read_whole = set() if report.problems else windows_of_sweeps(path, report.run_id, reads_only=True)
        was, true, stored = true_rows({t: before[t] for t in truth}), true_rows(truth), stored_rows(path, truth)
        for row in sorted(true.keys() | stored.keys(), key=str):
            if true.get(row) == stored.get(row):
                continue
            stream, account = STREAM_OF[row[0]], str(row[1][0])
            owner = (stream, row[1][:2])
            if owner in true:
                changed = true[owner]["updated_at"]
                mark = marks.get((stream, account))
                # An account that hides while a short page is read is asked again from its own watermark less the overlap in the first
                # nightly after its return; a backfill before that does not mend it.
                reach = OVERLAP if account in self.once_hidden else timedelta()
                is_late = mark is None or (isinstance(changed, datetime) and changed >= mark - reach)
                is_silent = (stream, account) not in read_whole and self._differ(row, true, stored) == {"price"}
                # An account that appeared after the settings were written has no zone, and its epoch dates stay unread until the next night.
                is_unzoned = account not in zoned and self._differ(row, true, stored) == {"value_on"}
                assert is_late or is_silent or is_unzoned, (
                    f"{row}: {true.get(row)} is stored as {stored.get(row)}; complete to {mark}"
                )
            else:
                assert owner in was or (stream, account) not in swept, f"{row} is gone and lives on after a green sweep"

    @staticmethod
    def _differ(row: Row, true: dict[Row, dict[str, object]], stored: dict[Row, dict[str, object]]) -> set[str]:
        """The columns in which a row that is there differs; a price alone is a change that did not move `updated`."""
        if row not in true or row not in stored:
            return set()
        return {c for c, value in true[row].items() if stored[row][c] != value}

    def heal(self) -> None:
        """The faults end: one nightly and one sweep later everything is as it should be."""
        self.emulator.faults.clear()
        self.emulator.hooks.clear()
        self.emulator.switches = Switches()
        for account in self.hidden:
            self.world.show_account(self.emulator.client_id, account)
        for kind in ("nightly", "sweep"):
            self.world.clock.advance(timedelta(hours=2))
            settings = settings_for(self.emulator, self.folder)
            report = night(settings, kind=kind)
            assert report.problems == [], kind
        assert differences(settings.warehouse_path, self.world.truth()) == []


def windows_of_sweeps(path: Path, run_id: str, *, reads_only: bool = False) -> set[tuple[str, str]]:
    """Stream and account of each sweep that a run completed; `reads_only`: without first loads that were proved by what the API counts."""
    with connect(path, read_only=True) as connection:
        return set(
            connection.execute(
                """
                select windows.stream, windows.account_id from ops.windows
                where run_id = $run_id and kind = 'sweep' and (not $reads_only or slice_id in (
                    select slice_id from ops.slices group by slice_id having sum(read_count) > 0
                ))
                """,
                {"run_id": run_id, "reads_only": reads_only},
            ).fetchall()
        )


def random_nights(seed: int, nights: int, folder: Path, page_size: int = 20) -> None:
    """The whole season of a seed; a failure says what was played. With pages of 2 most slices are cut."""
    world = World(
        seed=seed, accounts=3, customers=50, bookings=100, events=8, years=2, now=datetime(2026, 3, 2, 2, tzinfo=UTC)
    )
    with Emulator(world) as emulator:
        season = Season(Random(seed), world, emulator, folder, page_size)
        try:
            for _ in range(nights):
                season.run()
            season.heal()
        except BaseException as error:
            error.add_note(f"seed {seed}\n" + "\n".join(season.told))
            raise


@pytest.mark.parametrize(
    "seed", [5, pytest.param(8, marks=pytest.mark.long)]
)  # chosen: both fail where a slice that broke off counts as read
def test_a_few_random_nights(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
    random_nights(seed, 3, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_random_nights(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
    random_nights(seed, 12, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(200, 220))
def test_many_random_nights_of_slices_that_are_cut(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)
    random_nights(seed, 8, tmp_path, page_size=2)
