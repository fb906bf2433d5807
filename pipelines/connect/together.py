"""Everything a sync sends with a list, sent together: size, order, include, its own queries, both bounds, and the account where rows do not name theirs.

What lives here: one last question for each stream, and what is left off where the answer is not right. What does not: proving each of them alone (`ordering`,
`changes`, `belonging`, `people`, `shapes`). A server that honours each alone may still drop one beside another, and loses rows without a word then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipelines.connect.asking import sent
from pipelines.connect.changes import all_instants, instant_text
from pipelines.connect.findings import Finding, Line
from pipelines.connect.honoured import Instants, Trial, inside, judge, trials
from pipelines.connect.ordering import changed_name
from pipelines.connect.probe import Probe, Seen, is_list, said
from resources.contract import Contract

ABILITY = "sent together"
ACCOUNTS_TRIED = 4


@dataclass(frozen=True)
class _Ask:
    """One kind of request: parameters beside size, order and bounds; the rows that are known to belong to its answer, and those that surely do not."""

    query: Mapping[str, str]
    own: Mapping[str, Instants]
    strangers: Collection[str] = field(default_factory=frozenset)
    name: str = ""


def together(
    probe: Probe, seen: Sequence[Seen], contract: Contract, unnamed: Collection[str], account_ids: Sequence[str]
) -> list[Finding]:
    """Ask each list as a sync will, by the contract as it is settled so far."""
    found = (
        _Stream(probe, one, contract, one.name in unnamed, account_ids).settle()
        for one in seen
        if one.rows and not probe.is_spent
    )
    return [finding for finding in found if finding is not None]


class _Stream:
    """One list, and what is sent with it."""

    def __init__(
        self, probe: Probe, seen: Seen, contract: Contract, is_unnamed: bool, account_ids: Sequence[str]
    ) -> None:
        self.probe, self.seen, self.contract = probe, seen, contract
        # Where rows name their account, a list is asked for one alone only here and there, and what comes is told by the rows.
        self.sent = {
            key: (name, ",".join(values))
            for key, (name, values) in sent(seen.stream, contract).items()
            if key != "account" or is_unnamed
        }
        self.changed = changed_name(seen) or ""
        self.sample = all_instants(seen.rows, seen, contract, self.changed)
        self.asks = list(self._asks(account_ids if "account" in self.sent else ()))

    def settle(self) -> Finding | None:
        """What is left off, or that nothing need be; None where only one thing is sent anyway."""
        name, has_sort, has_window = (
            self.seen.name,
            "sort" in self.sent,
            "updated_since" in self.sent and bool(self.changed),
        )
        keys = [k for k in ("sort", "include", "updated_since", "account") if k in self.sent]
        if len(keys) + len(self.contract.streams[name].queries) < 3:
            return None
        off: list[Line] = []
        reasons: list[str] = []
        if has_window and (reason := self._trouble(with_sort=has_sort, with_window=True)):
            reasons.append(reason)
            if has_sort and not self._trouble(with_sort=False, with_window=True):
                has_sort = False
                off.append(Line(("streams", name, "sort"), "", f"sent together, {reason}"))
            else:
                has_window = False
                off.append(Line(("streams", name, "filters"), False, f"sent together, {reason}"))
        # A walk of the whole list sends all but the bounds.
        if any(ask.name for ask in self.asks):
            reason = self._trouble(with_sort=has_sort, with_window=False)
            if reason and has_sort and not self._trouble(with_sort=False, with_window=False):
                reasons.append(reason)
                off.append(Line(("streams", name, "sort"), "", f"sent together, {reason}"))
            elif reason:
                return self._unserved(reason)
        if not off:
            told = "asked once as a sync will ask: the rows that are due came, and no others"
            return Finding(name, ABILITY, self._shown(), told, "asks so", "certain")
        left_off = " and ".join("the order" if line.key[-1] == "sort" else "the filter" for line in off)
        outcome = "leaves it off for this list" + ("" if has_window else ", and reads it as a whole each time")
        return Finding(name, ABILITY, f"not {left_off}", "; ".join(reasons), outcome, "certain", tuple(off))

    def _unserved(self, reason: str) -> Finding:
        need = (
            f"{self.seen.name}: what a sync must send together is not honoured together ({self._shown()}: {reason}), so it would store wrong rows or "
            f"miss some. Leave one of them out (streams.{self.seen.name}.queries or .include); where rows do not name their account, list an API client "
            f"for each account in APPOINTEDD_CLIENTS."
        )
        return Finding(self.seen.name, ABILITY, "not honoured", reason, "would miss rows", "none", need=need)

    def _shown(self) -> str:
        own = {name for query in self.contract.streams[self.seen.name].queries for name in query}
        return ", ".join([*(name for name, _ in self.sent.values()), *sorted(own)])

    def _asks(self, account_ids: Sequence[str]) -> Iterator[_Ask]:
        """A request for each query of the contract; of accounts one that has rows while another has some too."""
        accounts: dict[str, dict[str, Instants]] = {}
        parameter = self.sent["account"][0] if account_ids else ""
        for account in account_ids[:ACCOUNTS_TRIED]:
            _, rows, _ = self.probe.walk(self.seen, {parameter: account})
            if rows and len(accounts) < 2:
                accounts[account] = all_instants(rows, self.seen, self.contract, self.changed)
        (first, of_first), *others = accounts.items() or [("", self.sample)]
        alone = {parameter: first} if first else {}
        foreign = {key for _, rows in others for key in rows}
        for query in self.contract.streams[self.seen.name].queries:
            if not query:
                yield _Ask(alone, of_first, foreign, parameter if alone else "")
                continue
            _, rows, _ = self.probe.walk(self.seen, query)
            own = all_instants(rows, self.seen, self.contract, self.changed)
            # A query that brings what the list hides brings nothing of the list itself.
            hidden = set() if rows.keys() & self.seen.rows.keys() else set(self.seen.rows)
            if alone:
                own = {}  # nothing tells whose they are
            yield _Ask({**query, **alone}, own, foreign | hidden, ", ".join(query))

    def _trouble(self, *, with_sort: bool, with_window: bool) -> str:
        """What is wrong with the answers to all that is sent; nothing where nothing is."""
        base = {
            name: value
            for key, (name, value) in self.sent.items()
            if key in ("page_size", "include") or (key == "sort" and with_sort)
        }
        # Without bounds, only what narrows a list down can be dropped unseen.
        for ask in self.asks if with_window else [ask for ask in self.asks if ask.name]:
            query = {**base, **ask.query}
            trial = self._trial(ask) if with_window else None
            if trial is not None:
                query[self.sent["updated_since"][0]] = instant_text(trial.since)
                if trial.until is not None:
                    query[self.sent["updated_until"][0]] = instant_text(trial.until)
            if reason := self._judged(ask, query, trial):
                return reason
        return ""

    def _judged(self, ask: _Ask, query: Mapping[str, str], trial: Trial | None) -> str:
        look, rows, is_whole = self.probe.walk(self.seen, query)
        if not is_list(look):
            return f"the API refuses them together ({said(look)}{' ' + look.told if look.told else ''})"
        if foreign := [key for key in rows if key in ask.strangers]:
            return f"{ask.name} is ignored: {len(foreign)} rows came that it leaves out"
        if trial is None:
            lost = ask.own.keys() - rows.keys() if is_whole else ()
            return f"{len(lost)} of {len(ask.own)} rows do not come" if lost else ""
        came = all_instants(rows, self.seen, self.contract, self.changed)
        verdict, reason = judge(ask.own, came, self.changed, trial, is_whole=is_whole)
        return f"the filter by change time fails: {reason}" if verdict in ("ignored", "different") else ""

    def _trial(self, ask: _Ask) -> Trial:
        """A window that tells change times from other instants, if possible with rows inside that must not come."""
        found = []
        for sample in (ask.own, self.sample):
            for with_upper in {"updated_until" in self.sent, False}:
                found += trials(sample, self.changed, with_upper=with_upper)
        good = sorted(
            (trial for trial in found if not trial.untold),
            key=lambda t: (not self._tells_strangers(ask, t), (t.until is None) == ("updated_until" in self.sent)),
        )
        return good[0] if good else Trial(datetime.now(UTC) - timedelta(days=1), None, (), 0)

    def _tells_strangers(self, ask: _Ask, trial: Trial) -> bool:
        rows = (self.sample[key] for key in ask.strangers if key in self.sample)
        return not ask.strangers or any(
            self.changed in row and inside(row[self.changed], trial.since, trial.until) for row in rows
        )
