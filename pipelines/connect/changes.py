"""Filters by the instant of the last change: tried until one is taken and the rows that come show that it is honoured.

What lives here: which trials are asked and which answer is believed. What does not: the verdict on one answer (`honoured`).
A filter that is believed wrongly loses rows in every night without a word; so each stream must prove it for itself, and in doubt it stays off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipelines.connect.described import Hints, unique
from pipelines.connect.findings import NO_PAST, Finding, Line, Past
from pipelines.connect.honoured import EDGE, Instants, Trial, Verdict, judge, trials
from pipelines.connect.matching import fold, instant_of
from pipelines.connect.ordering import changed_name
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.records import JsonObject, object_at
from resources.contract import Contract

TRIALS = 3
# Where the first stream found no name, the others try the described ones, the contract's and so many more.
SECOND_LOOK = 3


def instants_of(row: JsonObject, changed: str, twins: Iterable[str]) -> Instants:
    """Every instant of a record by attribute; other spellings of the change time (`twins`, folded) are left out, since nothing can tell them apart."""
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


def all_instants(rows: Mapping[str, JsonObject], seen: Seen, contract: Contract, changed: str) -> dict[str, Instants]:
    """The instants of some rows, by id."""
    own = (*contract.streams[seen.name].columns["updated_at"], *contract.plausible.columns[seen.name]["updated_at"])
    twins = {fold(name) for name in own} | {"updatedat"}
    return {key: instants_of(row, changed, twins) for key, row in rows.items()}


def instant_text(instant: datetime) -> str:
    """An instant as filters are asked with."""
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class _Proof:
    verdict: Verdict | str
    reason: str
    trial: Trial | None = None


def filters(
    probe: Probe,
    seen: Sequence[Seen],
    hints: Mapping[str, Hints],
    contract: Contract,
    past: Past = NO_PAST,
    *,
    is_strict: bool,
) -> list[Finding]:
    """Find the pair of parameters that filters by change time, proven for each stream.

    What an earlier contact proved stays where this one sees too little to say anything, so that lines do not come and go with the rows of the day.
    """
    own = (contract.parameters.updated_since, contract.parameters.updated_until)
    described = [pair for one in seen for pair in hints[one.name].changes]
    pairs = list(dict.fromkeys([*described, own, *contract.plausible.changes]))
    samples: dict[str, tuple[str, dict[str, Instants], list[Trial]]] = {}
    for one in seen:
        changed = changed_name(one)
        if changed is not None:
            instants = all_instants(one.rows, one, contract, changed)
            samples[one.name] = (changed, instants, trials(instants, changed, with_upper=False))
    # The stream with the most telling sample finds the names; the others only prove them.
    order_of = sorted(seen, key=lambda s: _promise(samples.get(s.name)))
    chosen: tuple[str, str] | None = None
    proofs: dict[str, _Proof] = {}
    for one in order_of:
        if one.name not in samples:
            proofs[one.name] = _Proof("undecided", "its records carry no change time that can be read")
            continue
        changed, instants, windows = samples[one.name]
        proof = _Proof("undecided", _poor(instants, windows))
        worth = [chosen] if chosen else pairs if not proofs else pairs[: len(described) + SECOND_LOOK]
        tried = _worth_trying(probe, one, worth, windows, instants, changed, is_strict=is_strict)
        for pair in tried:
            proof = _lower(probe, one, pair[0], instants, changed, contract, windows)
            if proof.verdict == "honoured":
                chosen = pair
                break
        else:
            if windows and not windows[0].untold and not tried:
                proof = _Proof("ignored", "none of the names makes a difference")
        proofs[one.name] = proof
    own_before = _on_before(seen, contract, past)
    kept = {name for name in own_before if proofs[name].verdict == "undecided" and (chosen or own)[0] == own[0]}
    if kept and chosen is None:
        chosen = own
    return _told(probe, seen, samples, proofs, chosen, kept, own_before, [p[1] for p in [*described, own]], contract)


def _on_before(seen: Sequence[Seen], contract: Contract, past: Past) -> set[str]:
    """Streams whose filter is on since an earlier contact: that one saw the proof, or it would have switched it off."""
    if not past.is_again or not contract.abilities.filters:
        return set()
    return {one.name for one in seen if contract.streams[one.name].filters}


def _promise(sample: tuple[str, dict[str, Instants], list[Trial]] | None) -> tuple[int, int]:
    """Smaller is more telling: attributes that cannot be told apart, then few rows."""
    if sample is None or not sample[2]:
        return 99, 0
    return len(sample[2][0].untold), -len(sample[1])


def _poor(instants: Mapping[str, Instants], windows: Sequence[Trial]) -> str:
    if not windows:
        return f"{len(instants)} rows with too few different change times"
    return "no row of the sample tells it from a filter by " + ", ".join(windows[0].untold)


def _worth_trying(
    probe: Probe,
    seen: Seen,
    pairs: Sequence[tuple[str, str]],
    windows: Sequence[Trial],
    sample: Mapping[str, Instants],
    changed: str,
    *,
    is_strict: bool,
) -> Sequence[tuple[str, str]]:
    """Where nothing can be proven nothing is asked; where the server ignores what it does not know, all names together cost one request to rule out."""
    if not windows or windows[0].untold:
        return ()
    if is_strict or len(pairs) < 4:
        return pairs
    plain = probe.page(seen)
    shown = [sample[key][changed] for key in rows_of(plain) if changed in sample.get(key, {})]
    # Where no row of the first page lies outside a window, it looks the same whether a filter is honoured or not.
    telling = next((w for w in windows if any(at < w.since - EDGE for at in shown)), None)
    if telling is None:
        return pairs
    value = instant_text(telling.since)
    together = probe.page(seen, {low: value for low, _ in pairs})
    is_same = is_list(together) and list(rows_of(plain)) == list(rows_of(together))
    return () if is_same else pairs


def _lower(
    probe: Probe,
    seen: Seen,
    name: str,
    sample: Mapping[str, Instants],
    changed: str,
    contract: Contract,
    windows: Sequence[Trial],
) -> _Proof:
    proof = _Proof("undecided", "not tried")
    for trial in windows[:TRIALS]:
        if probe.is_spent:
            return _Proof("undecided", "the budget of requests was used up")
        proof = _ask(probe, seen, {name: instant_text(trial.since)}, sample, changed, contract, trial)
        if proof.verdict != "undecided":
            return proof
    return proof


def _ask(
    probe: Probe,
    seen: Seen,
    query: Mapping[str, str],
    sample: Mapping[str, Instants],
    changed: str,
    contract: Contract,
    trial: Trial,
) -> _Proof:
    look = probe.page(seen, query)
    if not is_list(look):
        return _Proof("refused", f"HTTP {look.status}{': ' + look.told if look.told else ''}", trial)
    # A stranger on the first page says it all; only a good beginning is worth reading on.
    verdict, reason = judge(
        sample, all_instants(rows_of(look), seen, contract, changed), changed, trial, is_whole=False
    )
    if verdict != "ignored":
        _, found, is_whole = probe.walk(seen, query)
        verdict, reason = judge(sample, all_instants(found, seen, contract, changed), changed, trial, is_whole=is_whole)
    return _Proof(verdict, reason, trial)


def _told(
    probe: Probe,
    seen: Sequence[Seen],
    samples: Mapping[str, tuple[str, dict[str, Instants], list[Trial]]],
    proofs: Mapping[str, _Proof],
    chosen: tuple[str, str] | None,
    kept: Collection[str],
    on_before: Collection[str],
    uppers: Sequence[str],
    contract: Contract,
) -> list[Finding]:
    findings = []
    for one in seen:
        proof = proofs[one.name]
        if one.name in kept:
            stays = Line(("streams", one.name, "filters"), True, "proven by an earlier contact")
            told, name = f"{stays.why}; this time: {proof.reason}", contract.parameters.updated_since
            findings.append(
                Finding(one.name, "filter by change time", name, told, "reads only what changed", "likely", (stays,))
            )
            continue
        is_on = proof.verdict == "honoured" and chosen is not None
        findings.append(
            Finding(
                one.name,
                "filter by change time",
                chosen[0] if is_on and chosen else "none that is proven",
                proof.reason,
                "reads only what changed"
                if is_on
                else "reads the whole list each time, which is slower and always right",
                "certain" if is_on else "none" if proof.verdict in ("refused", "ignored", "different") else "low",
                (Line(("streams", one.name, "filters"), is_on or chosen is None, _short(proof)),),
            )
        )
    if chosen is None:
        off = Line(("abilities", "filters"), False, "no filter by change time was proven")
        return [
            *findings,
            Finding("", "filter by change time", "off", "see the streams", "no filter is sent", "certain", (off,)),
        ]
    lines = (
        Line(("abilities", "filters"), True, "proven by the rows that came"),
        Line(("parameters", "updated_since"), chosen[0], "proven by the rows that came"),
    )
    proven = [s for s in seen if proofs[s.name].verdict == "honoured"]
    bounds = _inclusive(probe, proven, samples, chosen[0])
    was_upper = contract.abilities.upper_bound and {s.name for s in proven} | {*kept} <= {*on_before}
    findings.append(
        Finding(
            "", "lower bound", bounds, "asked for the very instant of a row", "asks one second wider", "likely", lines
        )
    )
    return [*findings, _upper(probe, proven, samples, chosen, uppers, contract, was_on=was_upper)]


def _short(proof: _Proof) -> str:
    return f"{proof.verdict}: {proof.reason}"


def _upper(
    probe: Probe,
    proven: Sequence[Seen],
    samples: Mapping[str, tuple[str, dict[str, Instants], list[Trial]]],
    chosen: tuple[str, str],
    uppers: Sequence[str],
    contract: Contract,
    *,
    was_on: bool,
) -> Finding:
    """The upper bound, in windows whose lower bound is proven; off unless every stream with a filter proves it, now or (`was_on`) in an earlier contact."""
    reason = "none is known to go with it"
    own = contract.parameters.updated_until
    was_on = was_on and chosen[0] == contract.parameters.updated_since and bool(own)
    for name in unique([chosen[1]], uppers):
        results = []
        for one in proven:
            changed, sample, _ = samples[one.name]
            windows = trials(sample, changed, with_upper=True)
            proof = _Proof("undecided", _poor(sample, windows))
            for trial in [w for w in windows if not w.untold][:TRIALS]:
                if trial.until is None or probe.is_spent:
                    continue
                query = {chosen[0]: instant_text(trial.since), name: instant_text(trial.until)}
                proof = _ask(probe, one, query, sample, changed, contract, trial)
                if proof.verdict != "undecided":
                    break
            results.append((one.name, proof))
            if proof.verdict != "honoured":
                break
        if was_on and name == own and all(p.verdict in ("honoured", "undecided") for _, p in results):
            told = "; ".join(f"{stream}: {p.reason}" for stream, p in results) or "no stream could tell this time"
            told = f"proven by an earlier contact; this time: {told}"
            return Finding("", "upper bound", name, told, "splits long windows, can backfill days", "likely")
        if results and all(p.verdict == "honoured" for _, p in results):
            lines = (
                Line(("abilities", "upper_bound"), True, "proven by the rows that came"),
                Line(("parameters", "updated_until"), name, "proven by the rows that came"),
            )
            told = "; ".join(f"{stream}: {p.reason}" for stream, p in results)
            return Finding("", "upper bound", name, told, "splits long windows, can backfill days", "certain", lines)
        reason = "; ".join(f"{name} on {stream}: {_short(p)}" for stream, p in results if p.verdict != "honoured")
    off = Line(("abilities", "upper_bound"), False, "no upper bound was proven")
    return Finding("", "upper bound", "none that is proven", reason, "splits no window", "none", (off,))


def _inclusive(
    probe: Probe, proven: Sequence[Seen], samples: Mapping[str, tuple[str, dict[str, Instants], list[Trial]]], name: str
) -> str:
    """Whether a row changed at the very instant of the bound comes through; only told, since the sync never relies on it."""
    for one in proven:
        changed, sample, _ = samples[one.name]
        whole = {k: r[changed] for k, r in sample.items() if changed in r and r[changed].microsecond == 0}
        if whole:
            key = max(whole, key=lambda k: whole[k])
            _, found, is_whole = probe.walk(one, {name: instant_text(whole[key])})
            return f"{name}, inclusive" if key in found else f"{name}, exclusive" if is_whole else name
    return name
