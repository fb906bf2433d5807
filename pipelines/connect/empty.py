"""How an empty list is written here, each asked with a window in which nothing changed: most nights some list has no change at all.

What lives here: that question, and what follows from it. What does not: filters as such (`changes`), lists that are not found (`paths`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipelines.connect.asking import sent
from pipelines.connect.changes import instant_text
from pipelines.connect.findings import Finding, Line
from pipelines.connect.probe import Probe, Seen, is_list, rows_of, said
from resources.appointedd import Look
from resources.contract import Contract

ABILITY = "empty lists"
# Before any booking of this API; a bound in the future may be refused for itself.
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
ASKED = "asked for a window in which nothing changed"


def empty(probe: Probe, seen: Sequence[Seen], contract: Contract) -> list[Finding]:
    """Ask each list that is filtered for a window that holds nothing; `contract` as it is settled so far."""
    filtered = [one for one in seen if "updated_since" in sent(one.stream, contract)]
    looks = {one.name: probe.page(one, _window(one, contract)) for one in filtered if not probe.is_spent}
    empties = [name for name, look in looks.items() if is_list(look) and not rows_of(look)]
    findings = [_odd(name, look) for name, look in looks.items() if name not in empties]
    if not empties:
        return findings
    told = f"{', '.join(empties)}: {ASKED}"
    if any(answer.url in probe.nulls for one in seen for answer in probe.answers_to(one)):
        line = Line(("document", "null_is_empty"), True, "data is null where nothing changed")
        return [
            *findings,
            Finding("", ABILITY, "data is null", told, "takes that for an empty list", "certain", (line,)),
        ]
    return [*findings, Finding("", ABILITY, "an empty list", told, "reads them", "certain")]


def _window(one: Seen, contract: Contract) -> dict[str, str]:
    parameters = contract.parameters
    if "updated_until" in sent(one.stream, contract):
        return {
            parameters.updated_since: instant_text(LONG_AGO),
            parameters.updated_until: instant_text(LONG_AGO + timedelta(days=1)),
        }
    return {parameters.updated_since: instant_text(datetime.now(UTC) + timedelta(days=1))}


def _odd(stream: str, look: Look) -> Finding:
    """Of a list that is not empty in such a window, or is none. What one list answers says nothing of the others."""
    if look.status == 404:
        why = "HTTP 404 where nothing changed, so a night without changes would be red"
        line = Line(("streams", stream, "filters"), False, why)
        outcome = "does not filter this list, and reads it whole each time"
        return Finding(stream, ABILITY, "HTTP 404", ASKED, outcome, "certain", (line,))
    return Finding(stream, ABILITY, "not known", f"{ASKED}: {said(look)}", "as it is", "low")
