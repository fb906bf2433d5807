"""What a record looks like here: its type, whether cancelled ones are in the default list, links that are keys, single records.

What lives here: these questions, asked through the probe. What does not: which attribute feeds which column (`columns`), participants (`people`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote

from pipelines.connect.described import unique
from pipelines.connect.findings import Finding, Line, Past
from pipelines.connect.matching import fold, members_of
from pipelines.connect.probe import Probe, Seen, is_list, rows_of
from pipelines.records import JsonObject, identifier_id, object_at
from resources.appointedd import Look
from resources.contract import Contract, spelling
from resources.errors import GaveUpError

# How a request for a record that is not there is answered; a sweep knows no other answer.
GONE = (404, 410)
KEY_IN_LINK = re.compile(r"https?://\S*[?&#/]([\w-]*(token|secret|signature)|key|sig|auth|code|hash)=", re.IGNORECASE)
# Names that say what such a link does: its key may stand in the path, where it looks like any id.
LINK_THAT_ACTS = re.compile("cancel|reschedul", re.IGNORECASE)
ADDRESS = re.compile("https?://", re.IGNORECASE)


# Types


def types(seen: Seen) -> Finding:
    """The `type` of a stream's records, which a sync insists on."""
    came, known = sorted(seen.types), seen.names.types
    if not came:
        declared = list(seen.endpoint.record.at("type").words) if seen.endpoint else []
        lines = (Line(("streams", seen.name, "types"), declared, "from the OpenAPI file"),) if declared else ()
        told = "the list is empty" + ("; the type is the OpenAPI file's" if declared else "")
        return Finding(seen.name, "type", ", ".join(declared) or "not known", told, "as it is", "low", lines)
    told = f"{len(seen.rows)} records"
    if "None" in came:
        need = f"{seen.name}: its records carry no type, so they are no JSON:API records, and this product cannot read them."
        return Finding(seen.name, "type", "none", told, "would quarantine every record", "none", need=need)
    value = [*known] if set(came) <= set(known) else came
    line = Line(("streams", seen.name, "types"), value, "the type of every record seen")
    return Finding(seen.name, "type", ", ".join(came), told, "takes records of this type", "certain", (line,))


# Cancelled bookings


def cancelled(probe: Probe, seen: Seen, contract: Contract, past: Past) -> list[Finding]:
    """Whether the default list holds cancelled records, and which query brings them where it does not.

    A query that an earlier contact found stays: if it turns out not to be needed, it costs one walk and nothing else.
    """
    ability, key = "cancelled in the default list", ("streams", seen.name, "queries")
    words = {spelling(w) for w in contract.statuses.booking.get("cancelled", ())}
    statuses = _statuses(seen, seen.rows.values())
    if not statuses:
        return []
    if gone := [k for k, status in statuses.items() if spelling(status) in words]:
        told = f"{len(gone)} of the {len(statuses)} rows seen are cancelled"
        if past.is_again and [*seen.names.queries] != [{}]:
            told += "; the query is of an earlier contact, or yours"
            return [Finding(seen.name, ability, "yes", told, "walks the list again all the same", "likely")]
        line = Line(key, [{}], "cancelled ones are in the default list")
        return [Finding(seen.name, ability, "yes", told, "needs no further query", "certain", (line,))]
    refused: set[str] = set()
    proven: list[dict[str, str]] = []  # queries of a filter that is honoured, which bring nothing today
    for query in _queries(seen, contract, words):
        if probe.is_spent or query in proven or refused & query.keys() or (proven and proven[0].keys() != query.keys()):
            continue
        look = probe.page(seen, query)
        if not is_list(look):
            refused |= query.keys()
            continue
        came = _statuses(seen, rows_of(look).values())
        hidden = [k for k, status in came.items() if spelling(status) in words]
        is_filter = "true" not in query.values()
        shown = ", ".join(f"{n}={v}" for n, v in query.items())
        # A server that ignores the parameter sends the default list again, which holds none.
        if hidden and (len(hidden) == len(came) or not is_filter):
            line = Line(key, [{}, query] if is_filter else [query], f"{len(hidden)} cancelled rows came through it")
            told = f"none of {len(statuses)} rows of the default list is cancelled, and {shown} brought {len(hidden)}"
            return [Finding(seen.name, ability, "no", told, f"walks the list again with {shown}", "certain", (line,))]
        is_alone = not came and is_filter and len(query) == 1
        if is_alone and (proven or _filters_by_status(probe, seen, next(iter(query)), statuses)):
            proven.append(query)
    if proven:
        # There are none today, so nothing shows whether the default list will hold the first one, nor how it will be spelt where no file tells.
        proven = [q for q in proven if not {*q.values()}.isdisjoint(seen.hints.status_words)] or proven
        shown = " and ".join(f"{n}={v}" for query in proven for n, v in query.items())
        told = f"none was ever seen; the filter is honoured for other statuses, and {shown} brings none either"
        line = Line(key, [{}, *proven], "no cancelled row was seen yet, and the default list may hide them")
        return [Finding(seen.name, ability, "not known", told, f"walks the list again with {shown}", "likely", (line,))]
    told = f"none of the {len(statuses)} rows seen is cancelled, and no status filter brought one"
    outcome = "would miss them if they are hidden: look at one in Appointedd"
    return [Finding(seen.name, ability, "none seen", told, outcome, "low")]


def _queries(seen: Seen, contract: Contract, words: Collection[str]) -> list[dict[str, str]]:
    """What may bring cancelled records: the contract's own further queries, a status by name, a switch."""
    hints, plausible = seen.hints, contract.plausible
    described = [word for word in hints.status_words if spelling(word) in words]
    spelt = unique(described, contract.statuses.booking.get("cancelled", ()))
    return [
        *(dict(query) for query in seen.names.queries if query),
        *({name: word} for name in unique(hints.status, plausible.status) for word in spelt),
        *({name: "true"} for name in unique(hints.with_cancelled, plausible.with_cancelled)),
    ]


def _filters_by_status(probe: Probe, seen: Seen, name: str, statuses: Mapping[str, str]) -> str:
    """The parameter, where it brings rows of a status that was seen, and no other; else nothing."""
    status = next(iter(statuses.values()))
    came = _statuses(seen, rows_of(probe.page(seen, {name: status})).values())
    return name if came and set(came.values()) == {status} else ""


def _statuses(seen: Seen, rows: Iterable[JsonObject]) -> dict[str, str]:
    found = {}
    for row in rows:
        for name in seen.columns.get("status", ()):
            value = object_at(row, "attributes").get(name)
            if isinstance(value, str) and value:
                found[str(row.get("id"))] = value
                break
    return found


def status_words(seen: Seen, contract: Contract) -> list[Finding]:
    """Statuses that the contract has no word for: seen in rows, or enumerated in the file."""
    known = {spelling(s) for spellings in contract.statuses.booking.values() for s in spellings}
    came = set(_statuses(seen, seen.rows.values()).values())
    declared: set[str] = set()
    if seen.endpoint is not None:
        for name in seen.columns.get("status", ()):
            declared |= set(seen.endpoint.record.at("attributes", name).words)
    new = sorted(s for s in came | declared if spelling(s) not in known)
    if not new:
        return []
    told = "seen in rows" if set(new) <= came else "in the OpenAPI file"
    outcome = "keeps them as they are sent; [statuses.booking] gives them a word"
    return [Finding(seen.name, "statuses", ", ".join(new[:8]), told, outcome, "certain")]


# Links that are keys


def secrets(seen: Sequence[Seen], contract: Contract) -> Finding:
    """Members that carry a link which acts without a login (evidence 5.21): a spelling of those that are known, or an address with a token in it."""
    known = contract.redact.members
    folded = {fold(name) for name in known}
    found: dict[str, str] = {}

    def look(name: str, value: object) -> None:
        if isinstance(value, Mapping):
            for own, inner in value.items():
                if fold(own) in folded:
                    found.setdefault(own, "a spelling of one that is known")
                else:
                    look(
                        name if own == "href" else own, inner
                    )  # JSON:API: a link may be an object with its address in there
        elif isinstance(value, list):
            for inner in value:
                look(name, inner)
        elif isinstance(value, str) and KEY_IN_LINK.match(value):
            found.setdefault(name, "its values are addresses with a key in them")
        elif isinstance(value, str) and LINK_THAT_ACTS.search(name) and ADDRESS.match(value):
            found.setdefault(name, "its values are addresses, and it is called like what they do")

    for one in seen:
        for record in (*one.rows.values(), *one.included):
            look("", record)
    new = {name: why for name, why in found.items() if name not in known}
    line = Line(("redact", "members"), [*known, *new], "; ".join(f"{name}: {why}" for name, why in new.items()))
    ability, outcome = "links that are keys", "takes them out before anything is stored"
    if not found:
        told = "no address with a key in it among the records seen"
        return Finding("", ability, "none", told, outcome, "likely", (line,))
    told = line.why or "under the contract's names"
    return Finding("", ability, ", ".join(found), told, outcome, "certain", (line,))


# Single records


def singles(probe: Probe, seen: Sequence[Seen]) -> Finding:
    """Whether a record can be asked for by id, as a sweep does before it calls one deleted: one that exists comes, and one that does not is a 404."""
    works: list[str] = []
    fails: list[str] = []
    is_harmful = False
    for one in seen:
        if not one.rows:
            continue
        record_id = next(iter(one.rows))
        known = _single(probe, one, record_id)
        data = (known.document or {}).get("data") if known else None
        if not (known and known.status == 200 and isinstance(data, dict) and identifier_id(data) == record_id):
            fails.append(f"{one.name} ({_status(known)})")
            # A sweep sees for itself where known ones are not served; it ends red where they are refused.
            is_harmful = is_harmful or known is None or known.status not in GONE
            continue
        gone = _single(probe, one, unknown_id(one.rows))
        if gone and gone.status in GONE:
            works.append(one.name)
        else:
            fails.append(f"{one.name} ({_status(gone)} for one that is not there, so a deleted one cannot be told)")
            is_harmful = True
    ability = "single records"
    if not works and not fails:
        return Finding("", ability, "not known", "every list is empty", "as it is", "low")
    # There is one switch for all lists.
    is_on = bool(works) and not is_harmful
    line = Line(("abilities", "single"), is_on, "asked by id for one that is known and one that is not there")
    found = f"yes: {', '.join(works)}" if works else "none"
    told = "of each list a record asked for by its id, and one that is not there"
    told += f"; not: {', '.join(fails)}" if fails else ""
    outcome = "asks for what a sweep did not meet" if is_on else "walks a list twice before it calls a record deleted"
    return Finding("", ability, found, told, outcome, "certain", (line,))


def _single(probe: Probe, seen: Seen, record_id: str) -> Look | None:
    try:
        return probe.get(f"{seen.path}/{quote(record_id, safe='')}")
    except GaveUpError:  # a server error each time, which says no more than a refusal
        return None


def _status(look: Look | None) -> str:
    return f"HTTP {look.status}" if look else "a server error"


def unknown_id(known: Collection[str]) -> str:
    """An id of the form of those that are known, and none of them."""
    if all(one.isdecimal() for one in known):
        return str(max(map(int, known)) + 7_654_321)
    model = next(one for one in known if not one.isdecimal())
    for step in range(1, 10):
        # Its last digits and letters, each moved on within its own kind; hexadecimal letters stay hexadecimal.
        tail = "".join(_moved(letter, step) for letter in model[-8:])
        if model[:-8] + tail not in known:
            return model[:-8] + tail
    return f"{model}0"


def _moved(letter: str, step: int) -> str:
    kinds = ("0123456789", "abcdef", "ABCDEF")
    kind = next((kind for kind in kinds if letter in kind), None)
    return letter if kind is None else kind[(kind.index(letter) + step) % len(kind)]


def instant_forms(seen: Sequence[Seen]) -> str:
    """How instants are written, with an example that is nobody's."""
    forms: set[str] = set()
    for one in seen:
        members = members_of(one.rows.values())
        for column in one.stream.columns:
            name = one.columns.get(column.name, ("",))[0] if column.kind == "instant" else ""
            for value in members[name].values if name in members else ():
                if isinstance(value, str) and len(value) > 18:
                    fraction, zone = "." in value, value.endswith("Z")
                    forms.add(f"{'milliseconds' if fraction else 'seconds'}, {'Z' if zone else 'offset'}")
    return "; ".join(sorted(forms))
