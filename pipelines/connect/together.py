"""Everything a sync sends with a list, sent together: size, order, include, its own queries, both bounds, and the account where rows do not name theirs.

What lives here: one last question for each stream, once more in pages shorter than the list, and what is left off where the answer is not right. What does
not: proving each of them alone (`ordering`, `changes`, `belonging`, `people`, `shapes`). A server that honours each alone may still drop one beside another,
and loses rows without a word then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from pipelines.connect.asking import sent
from pipelines.connect.changes import all_instants, instant_text
from pipelines.connect.empty import LONG_AGO
from pipelines.connect.findings import Finding, Line
from pipelines.connect.honoured import Instants, Trial, inside, judge, trials
from pipelines.connect.probe import Probe, Seen, is_list, is_steady, rows_of, said
from pipelines.records import MISSING, included_of, index, object_at
from resources.appointedd import Look
from resources.chain import forgotten
from resources.contract import Contract

ABILITY = "sent together"
ACCOUNTS_TRIED = 4
# A page of so small a part of the rows that are known does not hold the list, whichever of them come and go meanwhile; of fewer rows nothing is told.
FEWEST_CUT = 4
# What may be left off for a list, by its key in the contract, and the value that leaves it off.
LEFT_OFF = {"sort": "", "filters": False}


@dataclass(frozen=True)
class _Ask:
    """One kind of request: parameters beside size, order and bounds; the rows that are known to belong to its answer, and those that surely do not."""

    query: Mapping[str, str]
    own: Mapping[str, Instants]
    strangers: Collection[str] = field(default_factory=frozenset)
    name: str = ""


@dataclass(frozen=True)
class _Cut:
    """What is wrong with the way on from a page, and for a link that a sync cannot follow what a person can do meanwhile."""

    reason: str
    cure: str = ""


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
        self.changed = seen.changed
        self.has_window = "updated_since" in self.sent and bool(self.changed)
        self.sample = all_instants(seen.rows, seen, contract)
        self.asks = list(self._asks(account_ids if "account" in self.sent else ()))

    def settle(self) -> Finding | None:
        """What is left off, or that nothing need be; None where only one thing is sent anyway, and its pages are right."""
        name = self.seen.name
        keys = [k for k in ("sort", "include", "updated_since", "account") if k in self.sent]
        are_several = len(keys) + len(self.contract.streams[name].queries) > 2
        off: dict[str, str] = {}  # what is left off, and why
        if are_several and self.has_window and (reason := self._trouble(off)):
            is_by_sort = "sort" in self.sent and not self._trouble({"sort"})
            off["sort" if is_by_sort else "filters"] = reason
        # A walk of the whole list sends all but the bounds.
        whole = {*off, "filters"}
        if are_several and any(ask.name for ask in self.asks) and (reason := self._trouble(whole)):
            if "sort" not in self.sent or "sort" in off or self._trouble({*whole, "sort"}):
                return self._unserved(_Cut(reason))
            off["sort"] = reason
        if cut := self._cut(off):
            further = () if cut.cure else ({"sort"}, {"filters"}, {"sort", "filters"})
            spared = next((more for more in further if not self._cut(off.keys() | more)), None)
            if spared is None:
                return self._unserved(cut)
            off |= dict.fromkeys(sorted(spared), cut.reason)
        if not off:
            told = "asked once as a sync will ask: the rows that are due came, and no others"
            return Finding(name, ABILITY, self._shown(), told, "asks so", "certain") if are_several else None
        left_off = " and ".join("the order" if key == "sort" else "the filter" for key in off)
        outcome = "leaves it off for this list"
        if not self.has_window or "filters" in off:
            outcome += ", and reads it as a whole each time"
        told = "; ".join(dict.fromkeys(off.values()))
        lines = tuple(
            Line(("streams", name, key), LEFT_OFF[key], f"sent together, {why}", is_due=True)
            for key, why in off.items()
        )
        return Finding(name, ABILITY, f"not {left_off}", told, outcome, "certain", lines)

    def _unserved(self, cut: _Cut) -> Finding:
        name, reason = self.seen.name, cut.reason
        if cut.cure:
            need = (
                f"{name}: {reason}, so a sync that reads more than one page would end red. This is the API's fault: ask the vendor for next links that "
                f"keep what a list was asked with. Until then {cut.cure}."
            )
            return Finding(name, ABILITY, "lost by next links", reason, "would end red", "none", need=need)
        need = (
            f"{name}: what a sync must send together is not honoured together ({self._shown()}: {reason}), so it would store wrong rows or "
            f"miss some. Leave one of them out (streams.{name}.queries or .include); where rows do not name their account, list an API client "
            f"for each account in APPOINTEDD_CLIENTS."
        )
        return Finding(name, ABILITY, "not honoured", reason, "would miss rows", "none", need=need)

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
                accounts[account] = all_instants(rows, self.seen, self.contract)
        (first, of_first), *others = accounts.items() or [("", self.sample)]
        alone = {parameter: first} if first else {}
        foreign = {key for _, rows in others for key in rows}
        for query in self.contract.streams[self.seen.name].queries:
            if not query:
                yield _Ask(alone, of_first, foreign, parameter if alone else "")
                continue
            _, rows, _ = self.probe.walk(self.seen, query)
            own = all_instants(rows, self.seen, self.contract)
            # A query that brings what the list hides brings nothing of the list itself.
            hidden = set() if rows.keys() & self.seen.rows.keys() else set(self.seen.rows)
            if alone:
                own = {}  # nothing tells whose they are
            yield _Ask({**query, **alone}, own, foreign | hidden, ", ".join(query))

    def _trouble(self, off: Collection[str]) -> str:
        """What is wrong with the answers to all that is sent but what is left `off`; empty where nothing is."""
        has_window = self.has_window and "filters" not in off
        # Without bounds, only what narrows a list down can be dropped unseen.
        for ask in self.asks if has_window else [ask for ask in self.asks if ask.name]:
            query = {**self._base(off), **ask.query}
            trial = self._trial(ask) if has_window else None
            if trial is not None:
                query[self.sent["updated_since"][0]] = instant_text(trial.since)
                if trial.until is not None:
                    query[self.sent["updated_until"][0]] = instant_text(trial.until)
            if reason := self._judged(ask, query, trial):
                return reason
        return ""

    def _base(self, off: Collection[str]) -> dict[str, str]:
        """What is sent with every page of the list, whatever it is asked for."""
        kept = {"page_size", "include", "sort"} - {*off}
        return {name: value for key, (name, value) in self.sent.items() if key in kept}

    def _cut(self, off: Collection[str]) -> _Cut | None:
        """What is wrong where the list is asked for in pages that do not hold it; None where nothing is, or nothing can be told.

        All that ever changed is the whole list, so it must go on behind a page just as the list does.
        """
        has_window = self.has_window and "filters" not in off
        ask = max(self.asks, key=lambda one: (len(one.own) >= FEWEST_CUT, len(one.query)))
        is_long = not ask.query and not self.seen.is_all
        if not (has_window or ask.query or "include" in self.sent) or self.probe.is_spent:
            return None
        if not any(self.probe.has_next(look) for look in self.probe.answers if is_list(look)):
            return None  # no list names a next page, whatever it is asked with (`ends`)
        query = {**self._base(off), **ask.query}
        if "page_size" in self.sent and len(ask.own) >= FEWEST_CUT:
            # Short enough to leave most rows out, long enough that some of them include others.
            query[self.sent["page_size"][0]] = str(len(ask.own) // FEWEST_CUT)
        elif not is_long:
            return None
        if has_window:
            query[self.sent["updated_since"][0]] = instant_text(LONG_AGO)
        page = self.probe.page(self.seen, query)
        if not is_list(page):
            return self._cut({*off, "filters"}) if has_window else None  # so long ago may be refused for itself
        if not self.probe.has_next(page):
            came = rows_of(page)
            if is_long or not is_steady(ask.own.keys(), came.keys()):
                return _Cut(f"a page of {len(came)} rows names no next one, though there are more")
            return None
        return self._lost_by_link(page, query, ask.query)

    def _lost_by_link(self, page: Look, query: Mapping[str, str], needed: Collection[str]) -> _Cut | None:
        """What the next link of a page has lost that a sync cannot do without; None where it leads to more of the same."""
        name, names = self.seen.name, self.contract.document
        link = parse_qs(urlsplit(self.probe.next_link(page) or "").query, keep_blank_values=True)
        is_shifting = any(one in link for one in names.shifting_parameters)
        size = self.contract.parameters.page_size
        if lost := forgotten(link, query, needed, size, is_shifting=is_shifting):
            is_account = "account" in self.sent and lost == self.sent["account"][0]
            cure = (
                "list an API client for each account in APPOINTEDD_CLIENTS"
                if is_account
                else f"take it out of streams.{name}.queries, if the list shows all without it"
            )
            return _Cut(f"the next link of a page has lost {lost}, so what follows is another list", cure)
        words = self.contract.streams[name].include if "include" in self.sent else ()
        if not words or not _brought(page, words):
            return None
        following = self.probe.follow(page)
        if following is None or not is_list(following) or _brought(following, words) is not False:
            return None
        shown = "=".join(self.sent["include"])
        reason = f"the page behind a next link comes without what {shown} brings with the first"
        return _Cut(reason, f"leave that out (streams.{name}.include = []), and do without what it brings")

    def _judged(self, ask: _Ask, query: Mapping[str, str], trial: Trial | None) -> str:
        look, rows, is_whole = self.probe.walk(self.seen, query)
        if not is_list(look):
            return f"the API refuses them together ({said(look)}{' ' + look.told if look.told else ''})"
        if foreign := [key for key in rows if key in ask.strangers]:
            return f"{ask.name} is ignored: {len(foreign)} rows came that it leaves out"
        if trial is None:
            lost = ask.own.keys() - rows.keys() if is_whole else ()
            return f"{len(lost)} of {len(ask.own)} rows do not come" if lost else ""
        came = all_instants(rows, self.seen, self.contract)
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


def _brought(look: Look, words: Collection[str]) -> bool | None:
    """Whether an answer includes what its rows name under the first steps of some paths; None where they name nothing."""
    included = index((look.document or {}).get("included") or [])
    is_named = False
    for row in rows_of(look).values():
        for word in words:
            relation = object_at(object_at(row, "relationships"), word.partition(".")[0])
            data = relation.get("data", MISSING)
            named = data if isinstance(data, list) else [data]
            if any(included_of(one, included) is not None for one in named):
                return True
            # A relationship whose linkage comes with what it names alone has no data otherwise.
            is_named = is_named or bool(relation and named and data is not None)
    return False if is_named else None
