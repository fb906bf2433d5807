"""The second look of a sweep at what its walk did not meet: whom it asks, what it takes for proof, and where it stops.

What lives here: `SecondLook` and its brake by themselves, on a real socket. What does not: whole sweeps, with what they commit (`test_sweep`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from pipelines import parts as slice_parts
from pipelines.extract import NoAccountError
from pipelines.plan import BEGINNING, Slice, Window
from pipelines.reading import Reader
from pipelines.streams import CUSTOMERS
from pipelines.sweep import SAMPLE, Limit, Outcome, SecondLook
from resources.appointedd import ApiClient, open_clients
from resources.contract import load_contract
from resources.part import Brake
from resources.settings import Settings
from tests.emulator import Emulator, Fault, Replace, Switches, World

Key = tuple[str, ...]
AT = datetime(2026, 3, 2, tzinfo=UTC)
LIST = "/v2/customers"
NO_LIMIT = Limit(1, 1000, {}, {})


class Sweep:
    """A sweep of customers of two accounts that was read to its end, and what its walk may have missed."""

    def __init__(self, emulator: Emulator, client: ApiClient) -> None:
        self.emulator, self.client, self.world = emulator, client, emulator.world
        self.stored: list[Key] = sorted((c.account_id, c.id) for c in self.world.customers)
        self.accounts = sorted({account for account, _ in self.stored})
        self.is_stopped: Callable[[], bool] = lambda: False

    def of(self, account: str) -> list[Key]:
        return [key for key in self.stored if key[0] == account]

    def delete(self, keys: Sequence[Key]) -> None:
        for _, customer in keys:
            self.world.delete_customer(customer)

    def look(
        self,
        candidates: Sequence[Key],
        *,
        met: Sequence[Key] | None = None,
        seen: Collection[str] | None = None,
        limit: Limit = NO_LIMIT,
        others: Mapping[str, Sequence[ApiClient]] | None = None,
        accounts: Sequence[str] | None = None,
        keeps: frozenset[str] | None = None,
    ) -> Outcome:
        """The second look; `met`: by default one record that lives."""
        if met is None:
            met = [key for key in self.stored if key not in candidates][:1]
        window = Window(BEGINNING, AT)
        accounts = self.accounts if accounts is None else accounts
        piece = Slice("customers", self.client.name, "sweep", tuple(accounts), window, keeps=keeps)
        frame = pl.DataFrame(met, schema=dict.fromkeys(CUSTOMERS.key, pl.String()), orient="row")
        reader = Reader(CUSTOMERS, self.client, {}, self.is_stopped)
        self.emulator.reset_log()
        return SecondLook(reader, piece, AT, others or {}).confirm(
            candidates, frame, set(self.accounts) if seen is None else set(seen), limit
        )

    def asked(self) -> list[str]:
        """The ids that were asked for one by one."""
        return [r.path.removeprefix(LIST + "/") for r in self.emulator.requests if r.path.startswith(LIST + "/")]

    def replace(self, path: str, change: Callable[[Any], Any]) -> None:
        def changed(body: bytes) -> bytes:
            return json.dumps(change(json.loads(body))).encode()

        self.emulator.faults.append(Fault(lambda r: r.path == path, Replace(changed), times=None))


@contextmanager
def sweeping(switches: Switches | None = None, customers: int = 60) -> Iterator[Sweep]:
    with Emulator(World(seed=3, accounts=2, customers=customers, bookings=0, events=0), switches) as emulator:
        values = {name.lower(): value for name, value in emulator.environment().items()}
        settings = Settings(_env_file=None, sync_requests_per_second=1e6, **values)  # type: ignore[call-arg, arg-type]
        contract = load_contract()
        parameters = contract.parameters.model_copy(update={"page_size_value": "20"})
        (client,) = open_clients(settings, contract.model_copy(update={"parameters": parameters}))
        with client:
            yield Sweep(emulator, client)


def gone(outcome: Outcome) -> dict[Key, str]:
    """Key → evidence of what is to be retired."""
    if outcome.gone is None:
        return {}
    assert set(outcome.gone.get_column("at")) <= {AT}
    return {key: evidence for *key_parts, evidence, _ in outcome.gone.iter_rows() for key in [tuple(key_parts)]}


def found(outcome: Outcome) -> set[Key]:
    return {key for part in outcome.found for key in part.batch.rows.select(CUSTOMERS.key).iter_rows()}


# ---- one by one ----------------------------------------------------------------------------------------------------------------


def test_what_is_not_found_by_id_is_gone_and_what_is_found_lives_on() -> None:
    with sweeping() as sweep:
        lost, living = sweep.stored[:2], sweep.stored[2:5]
        sweep.delete(lost)
        # What is found is no reason to stop, however much was not met.
        outcome = sweep.look([*lost, *living], limit=Limit(0, 2, {}, {}))
        assert gone(outcome) == dict.fromkeys(lost, "single GET (404)")
        assert found(outcome) == set(living)
        assert (outcome.living_count, outcome.doubts, outcome.brakes) == (3, [], [])


def test_a_sweep_that_met_everything_asks_for_nothing() -> None:
    with sweeping() as sweep:
        assert sweep.look([]) == Outcome()
        assert sweep.emulator.requests == []


@pytest.mark.parametrize("answer", ["not found", "another record", "no record", "nothing was met", "no such ability"])
def test_a_404_counts_only_where_a_record_that_lives_is_found_at_the_same_address(answer: str) -> None:
    with sweeping() as sweep:
        lost, known = sweep.stored[:2], sweep.stored[5]
        sweep.delete(lost)
        if answer == "not found":
            known = (known[0], "of-another-address")
        elif answer == "another record":
            sweep.replace(f"{LIST}/{known[1]}", lambda d: d | {"data": d["data"] | {"id": sweep.stored[6][1]}})
        elif answer == "no record":
            sweep.replace(f"{LIST}/{known[1]}", lambda d: d | {"data": []})
        elif answer == "no such ability":
            sweep.client.without.add(("customers", "single"))
        outcome = sweep.look(lost, met=[] if answer == "nothing was met" else [known])
        assert gone(outcome) == dict.fromkeys(lost, "second walk")
        assert not set(sweep.asked()) & {customer for _, customer in lost}


def test_a_record_that_another_account_has_now_is_gone_from_the_old_one() -> None:
    with sweeping() as sweep:
        (old, customer), other = sweep.stored[0], sweep.accounts[1]
        assert old != other
        moved = {"data": {"type": "accounts", "id": other}}

        def move(document: Any) -> Any:
            document["data"]["relationships"]["account"] = moved
            return document

        sweep.replace(f"{LIST}/{customer}", move)
        outcome = sweep.look([(old, customer)])
        assert gone(outcome) == {(old, customer): "moved to another account"}
        assert found(outcome) == {(other, customer)}
        # Where rows of the other account are not kept, it is gone all the same.
        outcome = sweep.look([(old, customer)], keeps=frozenset({old}))
        assert gone(outcome) == {(old, customer): "moved to another account"}
        assert found(outcome) == set()


def test_a_record_that_does_not_name_its_account_is_of_the_one_it_is_asked_for() -> None:
    with sweeping(Switches(account_in="absent")) as sweep:
        outcome = sweep.look(sweep.stored[:1])
        assert (gone(outcome), found(outcome)) == ({}, set(sweep.stored[:1]))


def test_a_record_that_cannot_be_read_is_not_gone() -> None:
    with sweeping() as sweep:
        (key,) = sweep.stored[:1]
        sweep.replace(f"{LIST}/{key[1]}", lambda d: d | {"data": d["data"] | {"type": "people"}})
        outcome = sweep.look([key])
        assert (gone(outcome), found(outcome)) == ({}, set())
        assert [len(part.batch.quarantine) for part in outcome.found] == [1]


def test_only_api_clients_that_list_the_account_and_can_are_asked_too() -> None:
    with sweeping() as sweep, sweeping() as other:
        lost = [sweep.of(account)[0] for account in sweep.accounts]
        sweep.delete(lost)
        outcome = sweep.look(lost, others={lost[0][0]: [other.client]})
        assert gone(outcome) == {lost[1]: "single GET (404)"}
        assert found(outcome) == {lost[0]}
        assert other.asked() == [lost[0][1]]
        other.client.without.add(("customers", "single"))
        assert set(gone(sweep.look(lost, others={lost[0][0]: [other.client]}))) == set(lost)


# ---- a long list of candidates ---------------------------------------------------------------------------------------------------


def test_of_many_a_sample_is_asked_for_and_the_list_is_walked_again() -> None:
    with sweeping(customers=70) as sweep:
        lost = sweep.stored[:60]
        sweep.delete(lost)
        outcome = sweep.look(lost)
        assert gone(outcome) == dict.fromkeys(lost, "second walk")
        assert len(sweep.asked()) == 1 + SAMPLE
        assert (outcome.doubts, outcome.living_count) == ([], 0)


def test_of_many_one_that_lives_on_at_the_end_saves_all() -> None:
    with sweeping(customers=70) as sweep:
        lost = sweep.stored[:60]
        sweep.delete(lost[:57])
        outcome = sweep.look(lost)
        assert gone(outcome) == {}
        assert found(outcome) == {lost[57]}
        assert outcome.doubts == [
            doubt for doubt in outcome.doubts if "60 records are not in the list, but 1 of 20" in doubt
        ]
        assert len(outcome.doubts) == 1


# ---- the second walk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [1, 100], ids=["in many parts", "in one"])
def test_a_second_walk_merges_the_part_that_has_what_had_slipped_away(
    pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_parts, "PAGES_PER_PART", pages)
    with sweeping(Switches(paging="number")) as sweep:
        sweep.client.without.add(("customers", "single"))
        lost, slipped = sweep.stored[:2], sweep.stored[-1]
        sweep.delete(lost)
        outcome = sweep.look([*lost, slipped])
        assert gone(outcome) == dict.fromkeys(lost, "second walk")
        (part,) = outcome.found
        assert slipped in found(outcome)
        assert (len(found(outcome)) < 58) == (pages == 1)
        # The sweep has a last part and evidence of its own.
        assert (part.is_last, part.reconciliations) == (False, ())


def test_a_second_walk_that_is_stopped_proves_nothing() -> None:
    with sweeping() as sweep:
        sweep.client.without.add(("customers", "single"))
        sweep.is_stopped = lambda: len(sweep.emulator.requests) > 1
        outcome = sweep.look(sweep.stored[:2])
        assert (gone(outcome), found(outcome)) == ({}, set())


def test_rows_of_a_second_walk_that_do_not_name_their_account_are_of_the_only_one() -> None:
    with sweeping(Switches(account_in="absent")) as sweep:
        sweep.client.without.add(("customers", "single"))
        account = sweep.accounts[0]
        known = [(account, customer) for _, customer in sweep.stored]
        assert found(sweep.look(known[:1], accounts=[account])) >= set(known[:1])
        with pytest.raises(NoAccountError):
            sweep.look(known[:1])


# ---- the brake -------------------------------------------------------------------------------------------------------------------


def test_an_account_of_which_nothing_was_met_is_not_even_asked_for() -> None:
    with sweeping() as sweep:
        (hidden, other), rows = sweep.accounts, {account: len(sweep.of(account)) for account in sweep.accounts}
        lost = sweep.of(other)[:2]
        sweep.delete(lost)
        limit = Limit(0.5, 5, rows, {})
        met = sweep.of(other)[-1:]
        outcome = sweep.look([*sweep.of(hidden), *lost], met=met, seen={other}, limit=limit)
        assert outcome.brakes == [Brake(hidden, rows[hidden], rows[hidden])]
        assert gone(outcome) == dict.fromkeys(lost, "single GET (404)")
        assert set(sweep.asked()) == {customer for _, customer in [*met, *lost]}
        (doubt,) = outcome.doubts
        assert f"nothing of account {hidden} was in the list, and the warehouse holds {rows[hidden]} records" in doubt
        # Hardly any of it may go, whatever the settings say; of one that was seen as many as these let pass.
        few = sweep.of(hidden)[:4]
        assert [b.gone_count for b in sweep.look(few, met=met, seen={other}, limit=limit).brakes] == [4]
        assert sweep.look(few, met=met, limit=limit).brakes == []


def test_each_account_that_would_lose_too_much_keeps_its_own() -> None:
    with sweeping() as sweep:
        hidden, other = sweep.accounts
        rows = {account: len(sweep.of(account)) for account in sweep.accounts}
        lost = sweep.of(other)[:2]
        sweep.delete(lost)
        limit = Limit(0, 1, rows, {})
        outcome = sweep.look([*sweep.of(hidden), *lost], met=sweep.of(other)[-1:], seen={other}, limit=limit)
        assert outcome.brakes == [Brake(hidden, rows[hidden], rows[hidden]), Brake(other, 2, rows[other])]
        assert gone(outcome) == {}
        assert [f"2 of {rows[other]} records of account {other}" in doubt for doubt in outcome.doubts] == [False, True]
