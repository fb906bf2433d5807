"""How a row says which account it belongs to, and whether lists can be asked for one account.

What lives here: both questions, for every stream. What does not: mapping of other attributes. The proof of a name is that its values are ids of listed
accounts; the proof of a filter is that two accounts bring different rows, none twice, and none of another account. A filter that is believed wrongly would
store rows under an account that is not theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Line, Past
from pipelines.connect.matching import fold
from pipelines.connect.places import account_members
from pipelines.connect.probe import Probe, Seen, is_list
from pipelines.records import JsonObject, identifier_id, object_at
from resources.contract import Contract

ABILITY = "account filter"
TOO_FEW, ONE_HAS_ROWS = "too few rows", "fewer than two accounts have rows"
UNDECIDED = ("one account only", TOO_FEW, ONE_HAS_ROWS)
UNKNOWN_ACCOUNT = "appointedd-warehouse-asks"


def reference(seen: Sequence[Seen], accounts: Seen, contract: Contract) -> tuple[list[Finding], set[str]]:
    """How rows name their account, and the streams whose rows do not.

    A name that the contract knows and that holds another word for an account, such as its slug, is taken out: a sync would take that word for an id.
    """
    names = {
        "relationship": list(contract.account_reference.relationships),
        "attribute": list(contract.account_reference.attributes),
    }
    findings, unnamed, used = [], set(), set()
    misused: dict[tuple[str, str], str] = {}
    for one in seen:
        if not one.rows:
            findings.append(Finding(one.name, "account of a row", "not known", "the list is empty", "as it is", "low"))
            continue
        fitting = _holding_ids(one, accounts, contract)
        if not fitting:
            unnamed.add(one.name)
            misused |= dict.fromkeys(_holding_other_words(one, accounts, contract), one.name)
            continue
        kind, name = fitting[0]
        used.add((kind, name))
        if name not in names[kind]:
            names[kind].insert(0, name)
        told = f"in all {len(one.rows)} rows it holds the id of a listed account"
        outcome = "puts each row under that account"
        findings.append(Finding(one.name, "account of a row", f"{kind} {name}", told, outcome, "certain"))
    why = "its values are ids of listed accounts"
    misused = {own: stream for own, stream in misused.items() if own not in used}
    for (kind, name), stream in misused.items():
        names[kind].remove(name)
        why = f"{name} holds another word for an account than its id"
        told, outcome = "it holds no id of an account", "does not read it"
        findings.append(Finding(stream, "account of a row", f"{kind} {name}", told, outcome, "certain"))
    if findings:
        is_due = bool(misused)
        lines = (Line(("account_reference", f"{kind}s"), own, why, is_due) for kind, own in names.items())
        findings[0] = replace(findings[0], lines=tuple(lines))
    return findings, unnamed


def _holding_ids(one: Seen, accounts: Seen, contract: Contract) -> list[tuple[str, str]]:
    """Members that hold the id of a listed account in all rows, the best first: relationship or attribute, and its name.

    A name that the contract knows comes before one that only fits by its values. An attribute that it does not know must also be called like an account: a
    count of places, say, may happen to be the id of one.
    """
    known = contract.account_reference
    by_relationship, by_attribute = account_members(one.rows.values(), set(accounts.rows), accounts.types)
    words = {fold(path).removesuffix("s") for path in contract.plausible.paths["accounts"]}
    return [
        *(("relationship", n) for n in by_relationship if n in known.relationships),
        *(("attribute", n) for n in by_attribute if n in known.attributes),
        *(("relationship", n) for n in by_relationship),
        *(("attribute", n) for n in by_attribute if any(word in fold(n) for word in words)),
    ]


def _holding_other_words(one: Seen, accounts: Seen, contract: Contract) -> list[tuple[str, str]]:
    """Members by which the contract would read an account, and which hold another attribute of one in all rows."""
    known = contract.account_reference
    words = {
        word
        for row in accounts.rows.values()
        for value in object_at(row, "attributes").values()
        if (word := identifier_id(value)) and word not in accounts.rows
    }
    by_relationship, by_attribute = account_members(one.rows.values(), words)
    return [
        *(("relationship", n) for n in by_relationship if n in known.relationships),
        *(("attribute", n) for n in by_attribute if n in known.attributes),
    ]


def account_filter(
    probe: Probe,
    seen: Sequence[Seen],
    account_ids: Sequence[str],
    unnamed: set[str],
    contract: Contract,
    past: Past,
) -> list[Finding]:
    """Whether a list can be asked for one account; needed where rows do not name theirs."""
    chosen, findings = "", []
    # The streams that need it come first, and decide on the name.
    for one in sorted(seen, key=lambda s: s.name not in unnamed):
        is_worth_more = one.name in unnamed or one.names.account_filter
        further = contract.plausible.account if is_worth_more else ()
        names = unique(one.hints.account, [contract.parameters.account], further)
        finding, name = _of(probe, one, [chosen] if chosen else names, account_ids, unnamed, contract, past)
        chosen = chosen or name
        findings.append(finding)
        if one.name in unnamed and not name and len(account_ids) > 1:
            findings.append(_unserved(one, account_ids))
    if chosen:
        line = Line(("parameters", "account"), chosen, "rows of one account came alone")
        findings[0] = replace(findings[0], lines=(*findings[0].lines, line))
    return findings


def _of(
    probe: Probe,
    seen: Seen,
    names: Sequence[str],
    account_ids: Sequence[str],
    unnamed: set[str],
    contract: Contract,
    past: Past,
) -> tuple[Finding, str]:
    key, is_named = ("streams", seen.name, "account_filter"), seen.name not in unnamed
    reason = "one account only" if len(account_ids) < 2 else TOO_FEW
    own = contract.parameters.account
    for name in names if len(account_ids) > 1 and seen.rows else ():
        if probe.is_spent:
            break
        is_good, reason = _is_honoured(probe, seen, name, account_ids, is_named=is_named)
        if is_good:
            outcome = "asks for one account where one lags behind" if is_named else "asks account by account"
            line = Line(key, True, reason)
            return Finding(seen.name, ABILITY, name, reason, outcome, "certain", (line,)), name
    is_undecided = reason in UNDECIDED and own in names
    if is_undecided and past.is_again and seen.names.account_filter:
        told = f"proven by an earlier contact; this time: {reason}"
        return Finding(seen.name, ABILITY, own, told, "asks for one account where it must", "likely"), own
    off, outcome = Line(key, False, f"not proven: {reason}"), "reads all accounts together"
    return Finding(seen.name, ABILITY, "none that is proven", reason, outcome, "low", (off,)), ""


def _is_honoured(
    probe: Probe, seen: Seen, name: str, account_ids: Sequence[str], *, is_named: bool
) -> tuple[bool, str]:
    """Two accounts that have rows, asked for one after the other; then an account that does not exist."""
    owners = _owners(seen, account_ids) if is_named else {}
    asked = list(account_ids[:4])
    if is_named:
        counts = Counter(owners.values())
        asked = sorted(account_ids, key=lambda account: -counts[account])[:3]
    found: dict[str, dict[str, JsonObject]] = {}
    for account in asked:
        look, rows, is_whole = probe.walk(seen, {name: account})
        if not is_list(look):
            return False, f"{name}: HTTP {look.status}{' ' + look.told if look.told else ''}"
        if any(owners.get(key, account) != account for key in rows):
            return False, f"{name}: rows of other accounts came too"
        if is_whole and any(owner == account and key not in rows for key, owner in owners.items()):
            return False, f"{name}: rows of the account did not come"
        if any(rows.keys() & other.keys() for other in found.values()):
            return False, f"{name}: the same rows came for two accounts"
        if rows:
            found[account] = rows
        if len(found) == 2:
            break
    if len(found) < 2:
        return False, ONE_HAS_ROWS
    look, rows, _ = probe.walk(seen, {name: UNKNOWN_ACCOUNT})
    if is_list(look) and rows:
        return False, f"{name}: an account that does not exist has rows too"
    counted = " and ".join(str(len(rows)) for rows in found.values())
    return True, f"two accounts brought {counted} rows, none in common; an unknown one none"


def _owners(seen: Seen, account_ids: Sequence[str]) -> dict[str, str]:
    """Row → its account, for rows that name theirs."""
    return {
        key: account
        for key, row in seen.rows.items()
        for account in account_ids
        if any(account_members([row], {account}))
    }


def _unserved(seen: Seen, account_ids: Sequence[str]) -> Finding:
    told = f"no relationship or attribute holds the id of one of the {len(account_ids)} accounts, and no account filter works"
    need = (
        f"{seen.name}: rows do not name their account and no account filter was found. Make one API client for each account in Appointedd and "
        f"list them in APPOINTEDD_CLIENTS, or name the filter: parameters.account and streams.{seen.name}.account_filter."
    )
    outcome = "cannot say whose rows they are"
    return Finding(seen.name, "account of a row", "not told", told, outcome, "none", need=need)
