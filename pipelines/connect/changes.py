"""Filters by the instant of the last change: tried until one is taken and the rows that come show that it is honoured.

What lives here: which trials are asked and which answer is believed. What does not: the verdict on one answer (`honoured`).
A filter that is believed wrongly loses rows in every night without a word; so each stream must prove it for itself, and in doubt it stays off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipelines.connect.described import unique
from pipelines.connect.findings import Confidence, Finding, Line, Past
from pipelines.connect.honoured import EDGE, Instants, Trial, Verdict, judge, trials
from pipelines.connect.matching import fold, instant_of
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.records import JsonObject, object_at
from resources.contract import Contract

ABILITY = "filter by change time"
TRIALS = 3
# Where the first stream found no name, the others try the described ones, the contract's and so many more.
SECOND_LOOK = 3
# Names of the lower and the upper bound, the upper one perhaps empty.
Pair = tuple[str, str]


def instants_of(row: JsonObject, changed: str, twins: Iterable[str]) -> Instants:
    """Every instant of a record by attribute, but for `twins`: other (folded) names of the change time, which hold the same instant."""
    found: dict[str, datetime] = {}
    skipped = set(twins)

    def note(name: str, value: object) -> None:
        instant = instant_of(value)
        if instant is not None and (name == changed or fold(name) not in skipped):
            found[name] = instant

    for name, value in object_at(row, "attributes").items():
        note(name, value)
        if isinstance(value, dict):
            for inner, deep in value.items():
                note(f"{name}.{inner}", deep)
    return found


def all_instants(rows: Mapping[str, JsonObject], seen: Seen, contract: Contract) -> dict[str, Instants]:
    """The instants of some rows of a list, by id."""
    changed = seen.changed
    plausible = contract.plausible.columns.get(seen.name, {}).get("updated_at", ())
    twins = {fold(name) for name in (*seen.names.columns["updated_at"], *plausible, "updated_at")}
    return {key: instants_of(row, changed, twins) for key, row in rows.items()}


def instant_text(instant: datetime) -> str:
    """An instant as filters are asked with."""
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class _Proof:
    """What was seen of a filter on one list."""

    verdict: Verdict | Literal["refused"]
    reason: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"


class _Tried:
    """A list whose records carry a change time: a sample of their instants, and the windows that can show whether a filter is honoured."""

    def __init__(self, probe: Probe, seen: Seen, contract: Contract) -> None:
        self.name, self.is_added = seen.name, seen.stream.is_generic
        self._probe, self._seen, self._contract, self._changed = probe, seen, contract, seen.changed
        self._sample = self._instants(seen.rows)
        self._windows = trials(self._sample, self._changed, with_upper=False)

    def _instants(self, rows: Mapping[str, JsonObject]) -> dict[str, Instants]:
        return all_instants(rows, self._seen, self._contract)

    @property
    def promise(self) -> tuple[bool, int, int]:
        """Sorts the most telling list first: of few attributes that look like the change time, then of many rows.

        Lists that the contract adds come last, since they should not choose the parameter for the others.
        """
        told = (len(self._windows[0].untold), -len(self._sample)) if self._windows else (99, 0)
        return self.is_added, *told

    @property
    def is_telling(self) -> bool:
        """Whether anything can be proven here."""
        return bool(self._windows) and not self._windows[0].untold

    def worth_trying(self, pairs: Sequence[Pair], *, is_strict: bool) -> Sequence[Pair]:
        """The pairs that are worth a request each; none where this list can prove nothing.

        A server that ignores unknown names is asked with all of them at once first: if that changes nothing, none of them works.
        """
        if not self.is_telling:
            return ()
        if is_strict or len(pairs) < 4:
            return pairs
        plain = self._probe.page(self._seen)
        shown = [self._sample[k][self._changed] for k in rows_of(plain) if self._changed in self._sample.get(k, {})]
        # Where no row of the first page lies outside a window, it looks the same whether a filter is honoured or not.
        telling = next((w for w in self._windows if any(at < w.since - EDGE for at in shown)), None)
        if telling is None:
            return pairs
        value = instant_text(telling.since)
        together = self._probe.page(self._seen, {low: value for low, _ in pairs})
        is_same = is_list(together) and list(rows_of(plain)) == list(rows_of(together))
        return () if is_same else pairs

    def untried(self) -> _Proof:
        """What can be said of a lower bound before it is tried."""
        return self._poor(self._windows)

    def lower(self, name: str) -> _Proof:
        """Try a lower bound under a name."""
        proof = _Proof("undecided", "not tried")
        for trial in self._windows[:TRIALS]:
            if self._probe.is_spent:
                return _Proof("undecided", "the budget of requests was used up")
            proof = self._ask({name: instant_text(trial.since)}, trial)
            if proof.verdict != "undecided":
                return proof
        return proof

    def upper(self, low: str, name: str) -> _Proof:
        """Try an upper bound under a name, beside a lower one that is proven."""
        windows = trials(self._sample, self._changed, with_upper=True)
        proof = self._poor(windows)
        for trial in [w for w in windows if not w.untold][:TRIALS]:
            if trial.until is None or self._probe.is_spent:
                continue
            proof = self._ask({low: instant_text(trial.since), name: instant_text(trial.until)}, trial)
            if proof.verdict != "undecided":
                break
        return proof

    def inclusive(self, name: str) -> str | None:
        """Whether a row changed at the very instant of the bound comes through; None where no row was changed at a whole second."""
        changed = self._changed
        whole = {k: r[changed] for k, r in self._sample.items() if changed in r and r[changed].microsecond == 0}
        if not whole:
            return None
        key = max(whole, key=lambda k: whole[k])
        _, found, is_whole = self._probe.walk(self._seen, {name: instant_text(whole[key])})
        return f"{name}, inclusive" if key in found else f"{name}, exclusive" if is_whole else name

    def _poor(self, windows: Sequence[Trial]) -> _Proof:
        reason = (
            f"no row of the sample tells it from a filter by {', '.join(windows[0].untold)}"
            if windows
            else f"{len(self._sample)} rows with too few different change times"
        )
        return _Proof("undecided", reason)

    def _ask(self, query: Mapping[str, str], trial: Trial) -> _Proof:
        look = self._probe.page(self._seen, query)
        if not is_list(look):
            return _Proof("refused", f"HTTP {look.status}{': ' + look.told if look.told else ''}")
        # A stranger on the first page says it all; only a good beginning is worth reading on.
        came = self._instants(rows_of(look))
        verdict, reason = judge(self._sample, came, self._changed, trial, is_whole=False)
        if verdict != "ignored":
            _, found, is_whole = self._probe.walk(self._seen, query)
            verdict, reason = judge(self._sample, self._instants(found), self._changed, trial, is_whole=is_whole)
        return _Proof(verdict, reason)


def filters(
    probe: Probe,
    seen: Sequence[Seen],
    contract: Contract,
    past: Past,
    *,
    is_strict: bool,
) -> list[Finding]:
    """Find the pair of parameters that filters by change time, proven for each stream.

    What an earlier contact proved stays where this one sees too little to say anything, so that lines do not come and go with the rows of the day.
    """
    own = (contract.parameters.updated_since, contract.parameters.updated_until)
    described = [pair for one in seen for pair in one.hints.changes]
    pairs = list(dict.fromkeys([*described, own, *contract.plausible.changes]))
    lists = [_Tried(probe, one, contract) for one in seen if one.changed]
    chosen, proofs = _lower_bounds(lists, pairs, len(described) + SECOND_LOOK, is_strict=is_strict)
    undated = _Proof("undecided", "its records carry no change time that can be read")
    proofs = {one.name: proofs.get(one.name, undated) for one in seen}
    own_before = _on_before(seen, contract, past)
    kept = {name for name in own_before if proofs[name].verdict == "undecided" and (chosen or own)[0] == own[0]}
    if kept and chosen is None:
        chosen = own
    if chosen is None:
        off = Line(("abilities", "filters"), False, "no filter by change time was proven")
        bounds = [Finding("", ABILITY, "off", "see the streams", "no filter is sent", "certain", (off,))]
    else:
        low, proven = chosen[0], [one for one in lists if proofs[one.name].verdict == "honoured"]
        # The bounds hold for all lists, so one that the contract adds does not decide on them beside others.
        deciding = [one for one in proven if not one.is_added] or ([] if kept else proven)
        was_upper = contract.abilities.upper_bound and {one.name for one in deciding} | kept <= own_before
        uppers = unique([chosen[1]], [high for _, high in [*described, own]])
        lower = _lower_bound(deciding, low)
        upper, high = _upper_bound(deciding, low, uppers, contract, was_on=was_upper)
        bounds = [lower, upper]
        for one in proven if high else ():
            if one not in deciding and (proof := one.upper(low, high)).verdict != "honoured":
                proofs[one.name] = _Proof(proof.verdict, f"{high}, {proof.reason}")
    of_lists = [
        _kept(name, proof, contract) if name in kept else _of_list(name, proof, chosen)
        for name, proof in proofs.items()
    ]
    return [*of_lists, *bounds]


def _lower_bounds(
    lists: Sequence[_Tried], pairs: Sequence[Pair], few: int, *, is_strict: bool
) -> tuple[Pair | None, dict[str, _Proof]]:
    """The pair whose lower bound works, and what was seen of it on each list: the most telling sample finds the names, the others only prove them.

    `few`: so many pairs are tried on the others where the first list found none.
    """
    chosen: Pair | None = None
    proofs: dict[str, _Proof] = {}
    for tried in sorted(lists, key=lambda one: one.promise):
        names = [chosen] if chosen else pairs[:few] if proofs else pairs
        worth_trying = tried.worth_trying(names, is_strict=is_strict)
        proof = tried.untried()
        if tried.is_telling and not worth_trying:
            proof = _Proof("ignored", "none of the names makes a difference")
        for pair in worth_trying:
            proof = tried.lower(pair[0])
            if proof.verdict == "honoured":
                chosen = pair
                break
        proofs[tried.name] = proof
    return chosen, proofs


def _on_before(seen: Sequence[Seen], contract: Contract, past: Past) -> set[str]:
    """Streams whose filter an earlier contact left on, which it did only with proof. A list that the contract adds may be newer than that contact."""
    if not past.is_again or not contract.abilities.filters:
        return set()
    return {one.name for one in seen if one.names.filters and not one.stream.is_generic}


def _kept(stream: str, proof: _Proof, contract: Contract) -> Finding:
    """Of a list whose filter stays as an earlier contact proved it."""
    stays = Line(("streams", stream, "filters"), True, "proven by an earlier contact")
    told, name = f"{stays.why}; this time: {proof.reason}", contract.parameters.updated_since
    return Finding(stream, ABILITY, name, told, "reads only what changed", "likely", (stays,))


def _of_list(stream: str, proof: _Proof, chosen: Pair | None) -> Finding:
    """Of one list: whether it is asked for what changed by the parameter that was chosen."""
    line = Line(("streams", stream, "filters"), proof.verdict == "honoured" or chosen is None, str(proof))
    if proof.verdict == "honoured" and chosen is not None:
        return Finding(stream, ABILITY, chosen[0], proof.reason, "reads only what changed", "certain", (line,))
    outcome = "reads the whole list each time, which is slower and always right"
    confidence: Confidence = "none" if proof.verdict in ("refused", "ignored", "different") else "low"
    return Finding(stream, ABILITY, "none that is proven", proof.reason, outcome, confidence, (line,))


def _lower_bound(proven: Sequence[_Tried], name: str) -> Finding:
    """Whether it is inclusive is only told, since the sync never relies on it."""
    found = next((told for one in proven if (told := one.inclusive(name)) is not None), name)
    lines = (
        Line(("abilities", "filters"), True, "proven by the rows that came"),
        Line(("parameters", "updated_since"), name, "proven by the rows that came"),
    )
    evidence = "asked for the very instant of a row"
    return Finding("", "lower bound", found, evidence, "asks one second wider", "likely", lines)


def _upper_bound(
    proven: Sequence[_Tried], low: str, names: Sequence[str], contract: Contract, *, was_on: bool
) -> tuple[Finding, str]:
    """The upper bound, and its name, which is empty where it is off: unless every stream with a filter proves it, now or (`was_on`) in an earlier contact.

    It is tried in windows whose lower bound is proven.
    """
    reason, outcome = "none is known to go with it", "splits long windows, can backfill days"
    own = contract.parameters.updated_until
    was_on = was_on and low == contract.parameters.updated_since and bool(own)
    for name in names:
        results: list[tuple[str, _Proof]] = []
        for one in proven:
            results.append((one.name, one.upper(low, name)))
            if results[-1][1].verdict != "honoured":
                break
        told = "; ".join(f"{stream}: {p.reason}" for stream, p in results)
        if was_on and name == own and all(p.verdict in ("honoured", "undecided") for _, p in results):
            told = f"proven by an earlier contact; this time: {told or 'no stream could tell this time'}"
            return Finding("", "upper bound", name, told, outcome, "likely"), name
        if results and all(p.verdict == "honoured" for _, p in results):
            lines = (
                Line(("abilities", "upper_bound"), True, "proven by the rows that came"),
                Line(("parameters", "updated_until"), name, "proven by the rows that came"),
            )
            return Finding("", "upper bound", name, told, outcome, "certain", lines), name
        reason = "; ".join(f"{name} on {stream}: {p}" for stream, p in results if p.verdict != "honoured")
    off = Line(("abilities", "upper_bound"), False, "no upper bound was proven")
    return Finding("", "upper bound", "none that is proven", reason, "splits no window", "none", (off,)), ""
